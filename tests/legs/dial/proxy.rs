use super::*;
use std::net::SocketAddr;
use tokio_rustls::TlsAcceptor;

/// A proxy that answers CONNECT with `status` and then forwards to `provider`; what each connection asked for.
async fn proxy(status: &'static str, provider: SocketAddr) -> (SocketAddr, tokio::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, asked) = tokio::sync::mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let sender = sender.clone();
            tokio::spawn(async move {
                sender.send(head(&mut near).await).await.unwrap();
                near.write_all(format!("HTTP/1.1 {status}\r\nVia: 1.1 test\r\n\r\n").as_bytes()).await.unwrap();
                if status.starts_with('2') {
                    let mut far = TcpStream::connect(provider).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                }
            });
        }
    });
    (address, asked)
}

/// A provider with the certificate of the fixtures.
async fn provider() -> SocketAddr {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let certificate = CertificateDer::from_pem_file(fixture("localhost.cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(fixture("localhost.key.pem")).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(socket).await {
                    serve(stream).await;
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn rest_and_the_socket_go_through_the_proxy_with_its_credentials() {
    let provider = provider().await;
    let (address, mut asked) = proxy("200 Connection established", provider).await;
    let proxies = Proxies::chosen(&format!("http://relay@{address}"), Some(&"hush:hush".into())).unwrap();
    // No port of this machine has that number open: only the proxy leads there.
    let place = "localhost:1";
    let rest = rest(&format!("https://{place}"), through(proxies.clone()), Arc::default());
    assert_eq!(soon(rest.commerce_status()).await.unwrap().view.status, "available");
    assert_eq!(soon(dialer(&format!("wss://{place}"), through(proxies), Arc::default()).probe()).await, Ok(()));
    for _ in 0..2 {
        let head = asked.recv().await.unwrap();
        let mut lines = head.lines();
        assert_eq!(lines.next(), Some("CONNECT localhost:1 HTTP/1.1"));
        // `relay:hush:hush`
        assert!(
            head.to_ascii_lowercase().contains("\r\nproxy-authorization: basic cmvsyxk6ahvzademahvzaa==\r\n")
                || head.contains("cmVsYXk6aHVzaDpodXNo"),
            "{head}"
        );
        assert!(!head.contains("ck_test"), "the key goes to the provider alone: {head}");
    }
}

#[tokio::test]
async fn a_proxy_that_wants_credentials_is_named_with_the_remedy_and_without_a_secret() {
    for (status, why) in [
        ("407 Proxy Authentication Required", "provider.proxy_password_file"),
        ("403 Forbidden", "does not connect to localhost:1: HTTP 403"),
        ("502 Bad Gateway", "does not connect to localhost:1: HTTP 502"),
    ] {
        let (address, _asked) = proxy(status, "127.0.0.1:1".parse().unwrap()).await;
        for proxies in [
            Proxies::chosen(&format!("http://relay@{address}"), Some(&"hush".into())),
            Proxies::of_environment(&format!("http://relay:hush@{address}").into(), ""),
        ] {
            let proxies = proxies.unwrap();
            // A name that is not this machine's, which only the proxy has to know.
            let by_name = |scheme: &str| format!("{scheme}://provider.example:1");
            let connector = through(proxies);
            let rest = rest(&by_name("https"), connector.clone(), Arc::default());
            let error = soon(rest.commerce_status()).await.unwrap_err().to_string();
            let opened = soon(dialer(&by_name("wss"), connector, Arc::default()).probe()).await.unwrap_err();
            let why = why.replace("localhost:1", "provider.example:1");
            for text in [error, opened] {
                assert!(text.contains(&why) && text.contains(&address.to_string()), "{status}: {text}");
                assert!(!text.contains("hush") && !text.contains("relay:"), "{text}");
            }
        }
    }
}

#[tokio::test]
async fn loopback_does_not_go_through_the_proxy_of_the_environment() {
    let provider = provider().await;
    let (address, mut asked) = proxy("403 Forbidden", provider).await;
    let proxies = Proxies::of_environment(&format!("http://{address}").into(), "").unwrap();
    let rest = rest(&format!("https://localhost:{}", provider.port()), through(proxies), Arc::default());
    assert_eq!(soon(rest.commerce_status()).await.unwrap().view.status, "available");
    assert!(asked.try_recv().is_err());
}

#[tokio::test]
async fn an_authority_of_the_settings_is_trusted_along_with_the_systems_and_nobody_else_is() {
    let port = provider().await.port();
    let (rest_base, socket_base) = (format!("https://localhost:{port}"), format!("wss://localhost:{port}"));
    let trusting = through(Proxies::default());
    assert!(soon(rest(&rest_base, trusting.clone(), Arc::default()).commerce_status()).await.is_ok());
    assert_eq!(soon(dialer(&socket_base, trusting, Arc::default()).probe()).await, Ok(()));
    let error = soon(rest(&rest_base, straight(), Arc::default()).commerce_status()).await.unwrap_err().to_string();
    assert!(error.contains("no TLS with localhost: ") && error.contains("certificate"), "{error}");
    let opened = soon(dialer(&socket_base, straight(), Arc::default()).probe()).await.unwrap_err();
    assert!(opened.contains("no TLS with localhost: "), "{opened}");
}

#[test]
fn a_file_without_certificates_is_a_mistake_with_its_remedy() {
    let error = |file: &Path| tls::client_config_with(Some(file)).unwrap_err().to_string();
    let key = fixture("localhost.key.pem");
    assert!(error(&key).starts_with("provider.ca_file: holds no certificate; name a file"), "{}", error(&key));
    let none = fixture("none.pem");
    assert!(error(&none).starts_with("provider.ca_file: cannot be read"), "{}", error(&none));
}

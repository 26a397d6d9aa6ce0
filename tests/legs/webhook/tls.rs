//! TLS of the webhook listener: served, swapped while it serves, and refused.

use super::*;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::path::{Path, PathBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// When the two certificates of the fixtures expire, in Unix seconds, as `openssl x509 -enddate` prints it.
const LOCALHOST_EXPIRES: u64 = 4_949_063_941;
const RENEWED_EXPIRES: u64 = 4_957_714_776;

pub(super) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name)
}

pub(super) fn with_tls(cert: &Path, key: &Path) -> config::Webhook {
    config::Webhook { tls_cert_file: Some(cert.to_owned()), tls_key_file: Some(key.to_owned()), ..settings() }
}

/// A connection whose peer trusts that certificate and no other.
pub(super) async fn trusting(rig: &Rig, cert: &str) -> std::io::Result<TlsStream<TcpStream>> {
    shake(rig.connect().await, cert).await
}

/// The handshake of such a peer.
pub(super) async fn shake(socket: TcpStream, cert: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(fixture(cert)).unwrap()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    soon(TlsConnector::from(Arc::new(client)).connect(ServerName::try_from("localhost").unwrap(), socket)).await
}

fn expires(metrics: &Metrics) -> u64 {
    let name = "pepay_relay_webhook_certificate_expires_timestamp_seconds ";
    let text = metrics.text().unwrap();
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse().unwrap()
}

#[tokio::test]
async fn tls_serves_the_same_answers() {
    let mut rig = Rig::start(with_tls(&fixture("localhost.cert.pem"), &fixture("localhost.key.pem"))).await;
    let mut stream = trusting(&rig, "localhost.cert.pem").await.unwrap();
    stream.write_all(&signed(BODY)).await.unwrap();
    rig.settle_next(Outcome::Published).await;
    check(&read_answer(&mut stream).await, 200, r#"{"ok":true}"#);
    // Plain HTTP on the TLS port is no crash and no answer.
    let mut plain = rig.connect().await;
    plain.write_all(&signed(BODY)).await.unwrap();
    let mut rest = Vec::new();
    let _ = soon(plain.read_to_end(&mut rest)).await;
    assert!(!rest.starts_with(b"HTTP"));
    rig.finish().await;
}

#[tokio::test]
async fn a_new_certificate_serves_new_connections_and_a_wrong_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let cert = folder.path().join("cert.pem");
    let key = folder.path().join("key.pem");
    let install = |name: &str| {
        std::fs::copy(fixture(&format!("{name}.cert.pem")), &cert).unwrap();
        std::fs::copy(fixture(&format!("{name}.key.pem")), &key).unwrap();
    };
    install("localhost");
    let mut rig = Rig::start(with_tls(&cert, &key)).await;
    assert_eq!(expires(&rig.metrics), LOCALHOST_EXPIRES);
    let mut before = trusting(&rig, "localhost.cert.pem").await.unwrap();

    install("renewed");
    rig.certificates.renew().unwrap();
    assert_eq!(expires(&rig.metrics), RENEWED_EXPIRES);
    let mut after = trusting(&rig, "renewed.cert.pem").await.unwrap();
    trusting(&rig, "localhost.cert.pem").await.unwrap_err();

    std::fs::write(&cert, "no certificate").unwrap();
    let error = rig.certificates.renew().unwrap_err().to_string();
    assert!(error.starts_with("webhook.tls_cert_file: "), "{error}");
    assert_eq!(expires(&rig.metrics), RENEWED_EXPIRES);
    trusting(&rig, "renewed.cert.pem").await.unwrap();

    for stream in [&mut before, &mut after] {
        stream.write_all(&signed(BODY)).await.unwrap();
        rig.settle_next(Outcome::Published).await;
        check(&read_answer(stream).await, 200, r#"{"ok":true}"#);
    }
    rig.finish().await;
}

#[tokio::test]
async fn wrong_certificates_are_named() {
    for (cert, key, setting) in [
        ("none.pem", "localhost.key.pem", "webhook.tls_cert_file"),
        ("localhost.key.pem", "localhost.key.pem", "webhook.tls_cert_file"),
        ("localhost.cert.pem", "localhost.cert.pem", "webhook.tls_key_file"),
        ("localhost.cert.pem", "renewed.key.pem", "webhook.tls_cert_file and webhook.tls_key_file"),
    ] {
        let webhook = parts(with_tls(&fixture(cert), &fixture(key)), 4096).webhook;
        let error = webhook.bind(None).await.unwrap_err();
        assert!(error.to_string().starts_with(setting), "{error}");
    }
}

/// RFC 5280 allows serial numbers of 20 octets, and the reader of expiries no more; a private authority may give longer ones.
#[tokio::test]
async fn a_certificate_whose_expiry_cannot_be_read_serves() {
    let mut rig = Rig::start(with_tls(&fixture("long-serial.cert.pem"), &fixture("localhost.key.pem"))).await;
    assert_eq!(expires(&rig.metrics), 0);
    let mut stream = trusting(&rig, "long-serial.cert.pem").await.unwrap();
    stream.write_all(&signed(BODY)).await.unwrap();
    rig.settle_next(Outcome::Published).await;
    check(&read_answer(&mut stream).await, 200, r#"{"ok":true}"#);
    rig.finish().await;
}

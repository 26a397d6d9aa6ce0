//! How REST and the WebSocket reach the provider: addresses, proxies, certificates, and the answer to the upgrade, byte
//! for byte.

mod addresses;
mod handshake;
mod proxy;

use super::{defaults, soon};
use pepay_relay::clock::{Clock, now_ms};
use pepay_relay::legs::websocket::Dialer;
use pepay_relay::provider::connect::{Connector, Proxies};
use pepay_relay::provider::rest::Rest;
use pepay_relay::provider::tls;
use secrecy::SecretString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

const STATUS: &str = include_str!("../../fixtures/rest/commerce-status.response.json");

/// Connections without a proxy that trust what the system trusts.
fn straight() -> Connector {
    Connector::from(&tls::client_config().unwrap())
}

/// Connections through these proxies that trust the certificate of the fixtures as well.
fn through(proxies: Proxies) -> Connector {
    Connector::new(tls::client_config_with(Some(&fixture("localhost.cert.pem"))).unwrap(), watch::channel(proxies).1)
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name)
}

fn rest(base: &str, connector: Connector, clock: Arc<Clock>) -> Rest {
    let (_, api_key) = watch::channel(SecretString::from("ck_test"));
    Rest::new(base, Duration::from_secs(10), api_key, connector, clock).unwrap()
}

/// What it takes to open a WebSocket at `base` (`ws://…` or `wss://…`).
fn dialer(base: &str, connector: Connector, clock: Arc<Clock>) -> Dialer {
    let api_key = watch::channel(SecretString::from("ck_test")).1;
    let rest = rest(&base.replacen("ws", "http", 1), connector.clone(), clock);
    Dialer {
        websocket_url: format!("{base}/ws/commerce/events"),
        settings: defaults().websocket,
        api_key,
        rest: Arc::new(rest),
        connector,
    }
}

/// A request's head.
pub(crate) async fn head(socket: &mut (impl AsyncRead + Unpin)) -> String {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        assert_ne!(soon(socket.read_buf(&mut request)).await.unwrap(), 0, "{}", String::from_utf8_lossy(&request));
    }
    String::from_utf8(request).unwrap()
}

/// What an upgrade is to be accepted with.
pub(crate) fn accept_of(head: &str) -> String {
    let key = head.lines().find(|line| line.to_ascii_lowercase().starts_with("sec-websocket-key: "));
    derive_accept_key(key.expect("a key")[19..].trim().as_bytes())
}

/// Serves one request: an upgrade or a call for the status.
async fn serve(mut socket: impl AsyncRead + AsyncWrite + Unpin) -> String {
    let head = head(&mut socket).await;
    let answer = if head.contains("websocket") {
        let accept = accept_of(&head);
        format!("HTTP/1.1 101 x\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: {accept}\r\n\r\n")
    } else {
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{STATUS}", STATUS.len())
    };
    socket.write_all(answer.as_bytes()).await.unwrap();
    // Until the client goes.
    let _ = soon(socket.read_to_end(&mut Vec::new())).await;
    head
}

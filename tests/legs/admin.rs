//! The admin listener: bounded as the webhooks' is, and its pages listen on.

use crate::soon;
use pepay_relay::config::Config;
use pepay_relay::provider::Environment;
use pepay_relay::telemetry::admin::Admin;
use pepay_relay::telemetry::{Board, Health, Metrics, Phase};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

async fn ask(address: SocketAddr, path: &str) -> TcpStream {
    let mut socket = soon(TcpStream::connect(address)).await.unwrap();
    socket.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).await.unwrap();
    socket
}

/// Reads on until this is in what came.
async fn until(socket: &mut TcpStream, text: &str) {
    let mut bytes = Vec::new();
    while !String::from_utf8_lossy(&bytes).contains(text) {
        assert_ne!(soon(socket.read_buf(&mut bytes)).await.unwrap(), 0, "{}", String::from_utf8_lossy(&bytes));
    }
}

#[tokio::test]
async fn silent_connections_lose_their_places_and_pages_keep_theirs() {
    let admin = Admin::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = admin.local_addr();
    let stop = CancellationToken::new();
    let health = Arc::new(Health::default());
    let metrics = Arc::new(Metrics::new("test"));
    health.set_phase(Phase::Ready);
    let config = Config::minimal(Environment::Devnet, "");
    let board = Arc::new(Board::new(&config, health, Arc::clone(&metrics)));
    let serving = tokio::spawn(admin.serve(board, stop.clone()));

    let mut page = ask(address, "/status/events").await;
    until(&mut page, "data: ").await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(soon(TcpStream::connect(address)).await.unwrap());
    }
    for path in ["/livez", "/readyz", "/metrics", "/status"] {
        until(&mut ask(address, path).await, "HTTP/1.1 200 OK").await;
    }
    assert_eq!(soon(silent[0].read(&mut [0; 16])).await.unwrap_or(0), 0, "the oldest is cut");
    let text = metrics.text().unwrap();
    let cut = text.lines().find_map(|line| line.strip_prefix("pepay_relay_connections_cut_total{listener=\"admin\"} "));
    assert!(cut.unwrap().parse::<u64>().unwrap() > 0);
    // A new second, on the same connection.
    until(&mut page, "data: ").await;
    stop.cancel();
    soon(serving).await.unwrap();
}

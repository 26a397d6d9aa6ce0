//! The simulator over real HTTP and WebSocket: what a client of the provider would see.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests print, fail loudly, and share files of which each uses a part"
)]
#![allow(clippy::disallowed_methods, reason = "the peer is the simulator, whose bodies need no bound")]

mod client;
mod control;
mod examples;
mod page;
mod receiver;
mod rest;
mod webhooks;
mod websocket;

use futures::StreamExt;
use pepay_relay::simulator::{Options, Simulator, Transition};
use serde_json::Value;
use std::time::Duration;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

/// Nothing here takes long: what has not happened after this never will.
const PATIENCE: Duration = Duration::from_secs(20);

async fn start() -> Simulator {
    Simulator::start(Options::default()).await.unwrap()
}

async fn patiently<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it never happened")
}

fn http() -> reqwest::Client {
    // It speaks no TLS, and is not made without one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

async fn get(simulator: &Simulator, path: &str) -> (u16, Value) {
    let url = format!("{}{path}", simulator.api_url());
    let response = http().get(url).header("x-commerce-api-key", simulator.api_key()).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn post(simulator: &Simulator, path: &str, body: &Value) -> (u16, Value) {
    let url = format!("{}{path}", simulator.api_url());
    let request = http().post(url).header("x-api-key", simulator.api_key()).json(body);
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn connect(simulator: &Simulator, query: &str) -> Result<Socket, tungstenite::Error> {
    let mut request = format!("{}?{query}", simulator.websocket_url()).into_client_request().unwrap();
    request.headers_mut().insert("x-commerce-api-key", simulator.api_key().parse().unwrap());
    Ok(tokio_tungstenite::connect_async(request).await?.0)
}

/// The next data frame.
async fn frame(socket: &mut Socket) -> Message {
    loop {
        let message = patiently(socket.next()).await.expect("the socket ended").unwrap();
        if !matches!(message, Message::Ping(_) | Message::Pong(_)) {
            return message;
        }
    }
}

async fn json(socket: &mut Socket) -> Value {
    serde_json::from_str(frame(socket).await.to_text().unwrap()).unwrap()
}

/// The ids of the next `count` frames, or their control types.
async fn names(socket: &mut Socket, count: usize) -> Vec<String> {
    let mut names = Vec::new();
    for _ in 0..count {
        let frame = json(socket).await;
        let name = if frame["object"] == "event" { &frame["id"] } else { &frame["type"] };
        names.push(name.as_str().unwrap().to_owned());
    }
    names
}

fn ids(simulator: &Simulator) -> Vec<String> {
    simulator.events().iter().map(|event| event.id.clone()).collect()
}

/// A delivered order: ten events.
fn deliver(simulator: &Simulator) -> String {
    let order_id = simulator.create_order().unwrap();
    for transition in [
        Transition::PaymentConfirmed,
        Transition::PaymentSettled,
        Transition::Placed,
        Transition::Shipped,
        Transition::DeliveryConfirmed,
    ] {
        simulator.simulate(&order_id, transition).unwrap();
    }
    order_id
}

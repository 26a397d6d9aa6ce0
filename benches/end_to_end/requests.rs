//! The cheapest listener for webhooks, which the reader and the least program share.

use super::load::WEBHOOK_SECRET;
use axum::body::Body;
use bytes::BytesMut;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use pepay_relay::clock::now_ms;
use pepay_relay::labels::Outcome;
use pepay_relay::legs::Intake;
use pepay_relay::provider::signature;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io::Write;
use std::pin::Pin;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::spawn_local;

/// What the relay answers to a webhook that is in Kafka.
const ANSWER: &str = r#"{"ok":true}"#;

/// The relay's own, `webhook.tolerance`.
const TOLERANCE: Duration = Duration::from_secs(300);

/// Answers requests until it is killed: at once, or when what they brought to the intake is in Kafka.
pub async fn requests(intake: Option<Intake>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    tell(&listener.local_addr().expect("bound").to_string());
    loop {
        let (socket, _) = listener.accept().await.expect("a connection");
        socket.set_nodelay(true).expect("a socket");
        let intake = intake.clone();
        let service = service_fn(move |request| answer(request, intake.clone()));
        // A peer that goes away ends its task.
        spawn_local(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
    }
}

async fn answer(request: Request<Incoming>, intake: Option<Intake>) -> Result<Response<Body>, Infallible> {
    let (head, mut body) = request.into_parts();
    let mut bytes = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.expect("a whole body").into_data().expect("an event");
        if intake.is_some() {
            bytes.extend_from_slice(&frame);
        }
    }
    if let Some(intake) = intake {
        let header = |name| head.headers.get(name).map(|value| value.as_bytes());
        let timestamp = header(signature::TIMESTAMP);
        let signature = header(signature::SIGNATURE);
        let claimed = signature::Headers { timestamp, signature, previous: None };
        signature::verify(claimed, &bytes, [WEBHOOK_SECRET.as_bytes()], now_ms(), TOLERANCE).expect("genuine");
        let (reply, outcome) = oneshot::channel();
        intake.try_offer(bytes.freeze(), now_ms(), reply).expect("room");
        assert_eq!(outcome.await.expect("a writer"), Outcome::Published);
    }
    Ok(Response::new(Body::from(ANSWER)))
}

/// A line for the process that started this one.
pub fn tell(line: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("somebody listens");
}

//! The other end of the comparison: a *reader* that takes what the relay takes and does nothing with it.
//!
//! The relay reads and then writes, so what the reader and the base cost together is the least that a program with the
//! same libraries can cost. The reader is a process of its own with one thread, the cheapest way to serve; it tells what
//! has happened by lines on its standard output.

use super::base::Task;
use super::least;
use super::load::WEBHOOK_SECRET;
use super::process::cpu_seconds;
use axum::body::Body;
use bytes::BytesMut;
use futures::StreamExt;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use pepay_relay::clock::now_ms;
use pepay_relay::labels::Outcome;
use pepay_relay::legs::Intake;
use pepay_relay::provider::signature;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::future::poll_fn;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{LocalSet, spawn_local};

/// What the relay answers to a webhook that stands in Kafka.
const ANSWER: &str = r#"{"ok":true}"#;

/// The relay's own, `webhook.tolerance`.
const TOLERANCE: Duration = Duration::from_secs(300);

/// What the reader reads.
#[derive(Debug, Serialize, Deserialize)]
pub enum Source {
    /// Frames of the provider at this address; it tells that it is connected, and when it has read so
    /// many, for each number.
    Websocket(SocketAddr, Vec<u64>),
    /// Requests; it tells its address. With a task they are checked and written as well (`least`).
    Webhook(Option<Task>),
}

/// A running reader; killed when dropped.
pub struct Reader {
    child: Child,
    told: BufReader<ChildStdout>,
}

impl Reader {
    /// Starts this program as a reader.
    pub fn start(source: &Source) -> Self {
        let source = serde_json::to_string(source).expect("a source");
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--reader", &source])
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program");
        let told = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, told }
    }

    /// What it tells next, waited for.
    pub fn next(&mut self) -> String {
        let mut line = String::new();
        self.told.read_line(&mut line).expect("a line");
        assert!(!line.is_empty(), "the reader ended");
        line.trim_end().to_owned()
    }

    /// Processor time so far, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        cpu_seconds(self.child.id())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads until it is killed.
pub fn run(source: &Source) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    match source {
        Source::Websocket(provider, marks) => runtime.block_on(frames(*provider, marks)),
        Source::Webhook(None) => LocalSet::new().block_on(&runtime, requests(None)),
        Source::Webhook(Some(task)) => least::run(task),
    }
}

async fn frames(provider: SocketAddr, marks: &[u64]) {
    let socket = TcpStream::connect(provider).await.expect("the provider");
    let (mut stream, _) =
        tokio_tungstenite::client_async(format!("ws://{provider}/"), socket).await.expect("a handshake");
    let mut read = 0;
    tell("connected");
    while let Some(message) = stream.next().await {
        read += u64::from(message.expect("a frame").is_text());
        if marks.contains(&read) {
            tell(&read.to_string());
        }
    }
}

/// Answers requests until it is killed: at once, or when what they brought to the intake stands in Kafka.
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
        let (timestamp, signature) = (header(signature::TIMESTAMP), header(signature::SIGNATURE));
        let claimed = signature::Headers { timestamp, signature, previous: None };
        signature::verify(claimed, &bytes, [WEBHOOK_SECRET.as_bytes()], now_ms(), TOLERANCE).expect("genuine");
        let (reply, outcome) = oneshot::channel();
        intake.try_offer(bytes.freeze(), now_ms(), reply).expect("room");
        assert_eq!(outcome.await.expect("a writer"), Outcome::Published);
    }
    Ok(Response::new(Body::from(ANSWER)))
}

fn tell(line: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("somebody listens");
}

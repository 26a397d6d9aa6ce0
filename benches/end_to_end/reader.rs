//! The other end of the comparison: a *reader* that takes what the relay takes and does nothing with it.
//!
//! The relay reads and then writes, so what the reader and the base cost together is the least that a program with the
//! same libraries can cost. The reader is a process of its own with one thread, the cheapest way to serve; it reports
//! what has happened by lines on its standard output.

use super::base::Task;
use super::least;
use super::proc::cpu_seconds;
use super::requests::{requests, tell};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

/// What the reader reads.
#[derive(Debug, Serialize, Deserialize)]
pub enum Source {
    /// Frames of the provider at this address; it reports that it is connected, and for each number when it has read
    /// that many.
    Websocket(SocketAddr, Vec<u64>),
    /// Requests; it prints its address. With a task they are checked and written as well (`least`).
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

    /// What it prints next, waited for.
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

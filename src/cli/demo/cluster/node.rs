//! A node of the demo's cluster: a process of its own, so that killing it kills all of it.
//!
//! It is this program, which reads on its stdin what a node has to know. It prints on stdout where it listens, and logs
//! on stderr. When its stdin ends it leaves in order: so does one whose demo is gone.

use super::super::config;
use crate::cli::output::Output;
use crate::config::{Account, AccountSecrets, Cluster, Config, LogFormat, Secrets, Via};
use crate::daemon::{Daemon, Setup};
use crate::exit::Exit;
use crate::kafka::Broker;
use crate::kafka::client::Tuning;
use crate::telemetry::logs::Logs;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io::{self, BufRead, Read};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// A process that has not printed by then where it listens never will.
const LISTENS_WITHIN: Duration = Duration::from_secs(20);

/// And one that has not left by then hangs: its drain has a deadline of 20 seconds.
const LEAVES_WITHIN: Duration = Duration::from_secs(40);

/// Longest line on stdin: three accounts are a few hundred bytes.
const PART_BYTES_MAX: u64 = 64 << 10;

/// The signal that `kill` sends.
const SIGKILL: i32 = 9;

/// What a node has to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) api_url: String,
    pub(super) websocket_url: String,
    pub(super) bootstrap_servers: String,
    pub(super) node: String,
    pub(super) shards: i32,
    pub(super) accounts: Vec<Merchant>,
}

/// An account, with secrets that open nothing but the simulated provider.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Merchant {
    pub(super) name: String,
    pub(super) api_key: String,
    pub(super) webhook_secret: String,
}

/// Where a node listens.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Addresses {
    pub(super) webhook: SocketAddr,
    pub(super) admin: SocketAddr,
}

impl Part {
    /// Its settings: those of the demo, in a cluster.
    pub(super) fn config(&self) -> Config {
        let mut config = config(self.api_url.clone(), self.websocket_url.clone());
        config.kafka.bootstrap_servers.clone_from(&self.bootstrap_servers);
        config.kafka.topics.inbox = format!("{}.inbox", config.kafka.topic_prefix);
        config.webhook.via = Via::Inbox;
        config.cluster = Cluster { enabled: true, node: self.node.clone(), shards: self.shards };
        config.accounts = self.accounts.iter().map(|merchant| Account::named(&merchant.name)).collect();
        config
    }

    /// The secrets that they need.
    pub(super) fn secrets(&self) -> Secrets {
        let of = |Merchant { name, api_key, webhook_secret }: &Merchant| AccountSecrets {
            name: name.clone(),
            ..AccountSecrets::sole(api_key.as_str(), vec![webhook_secret.as_str().into()])
        };
        Secrets {
            accounts: self.accounts.iter().map(of).collect(),
            kafka_password: None,
            kafka_certificate: None,
            kafka_oauth_secret: None,
            proxies: Default::default(),
        }
    }
}

/// What a node logged, or that it has ended.
#[derive(Debug)]
pub(super) enum Said {
    /// A line.
    Line { node: usize, line: Value, at: Instant },
    /// The end; the last words where they were no line of the log.
    Ended { node: usize, words: String },
}

/// A node as the demo sees it; it is killed when dropped.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) pid: u32,
    pub(super) addresses: Addresses,
    child: Child,
    /// Its end makes the node leave.
    stdin: Option<ChildStdin>,
}

impl Node {
    /// Starts a process; it joins the group by itself. `place` identifies it in what is sent to `said`.
    pub(super) async fn start(part: &Part, place: usize, said: mpsc::Sender<Said>) -> Result<Self, Exit> {
        let failed = |why: &dyn std::fmt::Display| Exit::failed(format!("{} does not start: {why}", part.node));
        let io = |error: io::Error| failed(&error);
        let mut child = Command::new(std::env::current_exe().map_err(io)?)
            .args(["demo", "--as-node"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(io)?;
        let (Some(mut stdin), Some(stdout), Some(stderr), Some(pid)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take(), child.id())
        else {
            return Err(failed(&"it has no pipes"));
        };
        let mut told = serde_json::to_vec(part).map_err(|error| failed(&error))?;
        told.push(b'\n');
        stdin.write_all(&told).await.map_err(io)?;
        tokio::spawn(listen(BufReader::new(stderr), place, said));
        let mut stdout = BufReader::new(stdout).lines();
        let line = timeout(LISTENS_WITHIN, stdout.next_line()).await.map_err(|_| failed(&"it is silent"))?;
        let line = line.map_err(io)?.ok_or_else(|| failed(&"it ended"))?;
        let addresses = serde_json::from_str(&line).map_err(|error| failed(&error))?;
        Ok(Self { name: part.node.clone(), pid, addresses, child, stdin: Some(stdin) })
    }

    /// SIGKILL, which no process can handle; when it was sent.
    pub(super) async fn kill(&mut self) -> Result<Instant, Exit> {
        let failed = |error: io::Error| Exit::failed(format!("{} cannot be killed: {error}", self.name));
        let at = Instant::now();
        self.child.start_kill().map_err(failed)?;
        let status = self.child.wait().await.map_err(failed)?;
        if status.signal() == Some(SIGKILL) {
            Ok(at)
        } else {
            Err(Exit::failed(format!("{} ended by itself before it was killed: {status}", self.name)))
        }
    }

    /// It drains what it has, and leaves; [`Node::left`] waits for that.
    pub(super) fn leave(&mut self) {
        self.stdin = None;
    }

    /// Waits until it has left in order.
    pub(super) async fn left(&mut self) -> Result<(), Exit> {
        let failed = |why: &dyn std::fmt::Display| Exit::failed(format!("{} did not leave in order: {why}", self.name));
        match timeout(LEAVES_WITHIN, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(failed(&status)),
            Ok(Err(error)) => Err(failed(&error)),
            Err(_) => Err(failed(&"it still runs")),
        }
    }
}

/// Passes on what a node logs until it has ended.
async fn listen(stderr: impl tokio::io::AsyncBufRead + Unpin, node: usize, said: mpsc::Sender<Said>) {
    let mut lines = stderr.lines();
    let mut words = String::new();
    while let Ok(Some(text)) = lines.next_line().await {
        match serde_json::from_str(&text) {
            // Nobody listens once the demo is over.
            Ok(line) => drop(said.send(Said::Line { node, line, at: Instant::now() }).await),
            Err(_) => words = text,
        }
    }
    drop(said.send(Said::Ended { node, words }).await);
}

/// The other side: serves as a node until stdin ends.
pub(in crate::cli::demo) async fn serve(output: Output) -> Result<(), Exit> {
    let unusable = |why: &dyn std::fmt::Display| Exit::usage(format!("--as-node is for the demo itself: {why}"));
    let mut told = String::new();
    io::stdin().lock().take(PART_BYTES_MAX).read_line(&mut told).map_err(|error| unusable(&error))?;
    let part: Part = serde_json::from_str(&told).map_err(|error| unusable(&error))?;
    Logs::init("info", LogFormat::Json).map_err(|error| Exit::failed(error.to_string()))?;
    // Ctrl-C at the terminal goes to all processes: it is the demo that ends its nodes.
    let _interrupts = signal(SignalKind::interrupt()).map_err(|error| unusable(&error))?;
    let (config, secrets) = (part.config(), part.secrets());
    let setup = Setup { config, secrets, broker: Broker::Embedded, tuning: Tuning::default(), from_ms: None };
    let mut daemon = Daemon::start(setup).await?;
    let webhook = daemon.webhook.ok_or_else(|| unusable(&"it takes no webhooks"))?;
    output.json(&Addresses { webhook, admin: daemon.admin })?;
    let closed = CancellationToken::new();
    let closing = closed.clone();
    // A thread of its own: one of the runtime's would keep the process from ending before its stdin has.
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || {
            // Nothing more comes there, and an error is an end as well.
            let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
            closing.cancel();
        })
        .map_err(|error| Exit::failed(format!("no thread for stdin: {error}")))?;
    tokio::select! {
        ended = daemon.ended() => return ended,
        () = closed.cancelled() => daemon.stop(),
    }
    daemon.ended().await
}

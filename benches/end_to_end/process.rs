//! The relay as a process: started with a settings file, watched through `/proc` and its own metrics.

use super::load::WEBHOOK_SECRET;
use super::ports::free_address;
use super::proc::{MINFLT, cpu_seconds, stat, status_kib};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(180);

/// What a relay has used and done so far.
pub struct Spent {
    /// Processor time, in seconds.
    pub cpu: f64,
    pub page_faults: f64,
    pub transactions: f64,
}

/// How a relay is set.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kind {
    /// The newest event of each order goes to a topic of its own as well.
    pub latest: bool,
    /// Webhooks come by the inbox.
    pub inbox: bool,
}

/// A running `pepay-relay run`; killed when dropped.
pub struct Relay {
    child: Child,
    admin: SocketAddr,
    webhook: SocketAddr,
    name: String,
    _dir: TempDir,
}

impl Relay {
    /// Starts `binary` as the relay `name`, between the provider and the broker; returns when it is ready.
    pub fn start(binary: &Path, name: &str, bootstrap: &str, provider: SocketAddr, kind: Kind) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let [admin, webhook] = [(); 2].map(|()| free_address());
        let via = if kind.inbox { "inbox" } else { "direct" };
        let latest = if kind.latest { format!("{name}.orders.latest") } else { String::new() };
        let settings = format!(
            "name = \"{name}\"\n\
             [provider]\napi_url = \"http://{provider}\"\nenvironment = \"devnet\"\n\
             [webhook]\nlisten = \"{webhook}\"\nconnections_max = 4096\nvia = \"{via}\"\n\
             [admin]\nlisten = \"{admin}\"\n\
             [kafka]\nbootstrap_servers = \"{bootstrap}\"\ntopic_prefix = \"{name}\"\n\
             options = {{ \"compression.codec\" = \"lz4\" }}\n\
             [kafka.topics]\norders_latest = \"{latest}\"\n"
        );
        let file = dir.path().join("relay.toml");
        std::fs::write(&file, settings).expect("settings");
        let child = Command::new(binary)
            .args(["--log-level", "error", "--config"])
            .arg(&file)
            .arg("run")
            .env_clear()
            .env("PEPAY_RELAY_API_KEY", "key")
            .env("PEPAY_RELAY_WEBHOOK_SECRETS", WEBHOOK_SECRET)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the binary");
        let mut relay = Self { child, admin, webhook, name: name.to_owned(), _dir: dir };
        relay.until("ready", |relay| {
            let ended = relay.child.try_wait().expect("a child");
            assert!(ended.is_none(), "the relay ended: {ended:?}");
            relay.get("/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
        });
        relay
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where webhooks go.
    pub fn webhook(&self) -> SocketAddr {
        self.webhook
    }

    /// Name of the topic with this ending.
    pub fn topic(&self, kind: &str) -> String {
        format!("{}.{kind}", self.name)
    }

    /// Waits until `count` events are published, counted from the start.
    pub fn until_published(&mut self, leg: &str, count: usize) {
        self.until("published", |relay| relay.published(leg) >= count as f64);
    }

    pub fn published(&self, leg: &str) -> f64 {
        self.metric(&format!("pepay_relay_outcomes_total{{leg=\"{leg}\",outcome=\"published\"}}"))
    }

    /// Since its start.
    pub fn spent(&self) -> Spent {
        let transactions = self.metric("pepay_relay_transactions_total");
        let page_faults = stat(self.child.id(), MINFLT) as f64;
        Spent { cpu: self.cpu_seconds(), page_faults, transactions }
    }

    /// Since then.
    pub fn spent_since(&self, then: &Spent) -> Spent {
        let now = self.spent();
        assert!(now.transactions > 0.0, "this build does not count its transactions");
        Spent {
            cpu: now.cpu - then.cpu,
            page_faults: now.page_faults - then.page_faults,
            transactions: now.transactions - then.transactions,
        }
    }

    /// Processor time so far, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        cpu_seconds(self.child.id())
    }

    /// Greatest resident memory so far, in MiB.
    pub fn peak_mib(&self) -> f64 {
        status_kib(self.child.id(), "VmHWM") as f64 / 1024.0
    }

    /// Resident memory now, in MiB.
    pub fn resident_mib(&self) -> f64 {
        status_kib(self.child.id(), "VmRSS") as f64 / 1024.0
    }

    fn metric(&self, series: &str) -> f64 {
        let text = self.get("/metrics").unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or_default()
    }

    fn get(&self, path: &str) -> Option<String> {
        let mut socket = TcpStream::connect(self.admin).ok()?;
        write!(socket, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// Asks every 20 ms: often enough alongside runs of seconds, and too seldom to be a load.
    fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let began = Instant::now();
        while !holds(self) {
            assert!(began.elapsed() < PATIENCE, "{what} in time");
            pause(Duration::from_millis(20));
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A bench waits for time: it has a pace.
pub fn pause(time: Duration) {
    #[expect(clippy::disallowed_methods, reason = "a thread of the bench alone")]
    std::thread::sleep(time);
}

//! The relay as a process: started with a settings file, watched through `/proc` and its own metrics.

use super::load::WEBHOOK_SECRET;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(180);

/// The kernel's unit of processor time, `USER_HZ`: the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Fields of `/proc/[pid]/stat`.
const MINFLT: usize = 10;
const UTIME: usize = 14;
const STIME: usize = 15;

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
    pub fn start(binary: &Path, name: &str, bootstrap: &str, provider: SocketAddr, latest: bool) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let [admin, webhook] = free_addresses();
        let latest = if latest { format!("{name}.orders.latest") } else { String::new() };
        let settings = format!(
            "name = \"{name}\"\n\
             [provider]\napi_url = \"http://{provider}\"\nenvironment = \"devnet\"\n\
             [webhook]\nlisten = \"{webhook}\"\nconnections_max = 4096\n\
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

    /// Where webhooks go.
    pub fn webhook(&self) -> SocketAddr {
        self.webhook
    }

    /// Name of the topic with this ending.
    pub fn topic(&self, kind: &str) -> String {
        format!("{}.{kind}", self.name)
    }

    /// Waits until so many events are published, counted from the start.
    pub fn until_published(&mut self, leg: &str, count: usize) {
        self.until("published", |relay| relay.published(leg) >= count as f64);
    }

    pub fn published(&self, leg: &str) -> f64 {
        self.metric(&format!("pepay_relay_outcomes_total{{leg=\"{leg}\",outcome=\"published\"}}"))
    }

    /// Transactions that stand: each has one checkpoint.
    pub fn transactions(&self) -> f64 {
        self.metric("pepay_relay_records_total{topic=\"control\"}")
    }

    /// Processor time so far, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        cpu_seconds(self.child.id())
    }

    /// Page faults so far that needed no disk: memory taken from the kernel, or taken again.
    pub fn page_faults(&self) -> f64 {
        stat(self.child.id(), MINFLT)
    }

    /// Greatest resident memory so far, in MiB.
    pub fn peak_mib(&self) -> f64 {
        self.status("VmHWM:") / 1024.0
    }

    /// Resident memory now, in MiB.
    pub fn resident_mib(&self) -> f64 {
        self.status("VmRSS:") / 1024.0
    }

    fn status(&self, name: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("running");
        let line = status.lines().find(|line| line.starts_with(name)).expect("a line");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("kilobytes")
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

    /// Asks every 20 ms: often enough beside runs of seconds, and too seldom to be a load.
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

/// Processor time of a process so far, in seconds: user and system.
pub fn cpu_seconds(pid: u32) -> f64 {
    (stat(pid, UTIME) + stat(pid, STIME)) / TICKS_PER_SECOND
}

/// A number of `/proc/[pid]/stat` (proc_pid_stat(5)); its fields are counted from 1.
fn stat(pid: u32, field: usize) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("running");
    // The second field, a name, may hold anything.
    let fields = stat.rsplit_once(") ").expect("a name").1;
    fields.split_whitespace().nth(field - 3).and_then(|number| number.parse().ok()).expect("a number")
}

/// A bench waits for time: it has a pace.
pub fn pause(time: Duration) {
    #[expect(clippy::disallowed_methods, reason = "a thread of the bench alone")]
    std::thread::sleep(time);
}

/// Different ones: each is held until all are found.
fn free_addresses() -> [SocketAddr; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("bound"))
}

//! What systemd is notified of (`sd_notify(3)`): readiness, state, reloads, signs of life, the end.
//!
//! Without `NOTIFY_SOCKET` nothing is sent. A datagram that cannot be sent is no reason to stop relaying, and the
//! service manager acts on its absence by itself, so failures are logged and no more.

use super::LegState;
use super::health::{Phase, ReadingBack, Snapshot};
use crate::labels::Leg;
use crate::text::foreign;
use sd_notify::NotifyState;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The way to the service manager, if there is one.
#[derive(Debug, Default)]
pub struct Notify {
    socket: Option<UnixDatagram>,
    /// How often a sign of life is due: a quarter of what the manager waits, so that one that is left out, or late on a
    /// busy machine, costs nothing.
    watchdog: Option<Duration>,
}

impl Notify {
    /// As the process environment has it: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`.
    pub fn from_process() -> io::Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "the service manager's own way, no setting (sd_notify(3))")]
        Self::to(std::env::var_os("NOTIFY_SOCKET").as_deref(), sd_notify::watchdog_enabled())
    }

    /// To the datagram socket of that name (a path, or `@` and an abstract name; `None`: nothing is sent), which
    /// expects a sign of life within `watchdog`.
    pub fn to(socket: Option<&OsStr>, watchdog: Option<Duration>) -> io::Result<Self> {
        let Some(name) = socket.filter(|name| !name.is_empty()) else { return Ok(Self::default()) };
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        // A manager that does not read must not hold the relay up.
        socket.set_nonblocking(true)?;
        let watchdog = watchdog.filter(|period| !period.is_zero()).map(|period| period / 4);
        Ok(Self { socket: Some(socket), watchdog })
    }

    /// `READY=1`: after the start, and after each reload.
    pub fn ready(&self) {
        self.send(&[NotifyState::Ready]);
    }

    /// `RELOADING=1` with the time, as systemd 253 and later want it; [`Notify::ready`] ends the reload.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.send(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "no monotonic clock, so the reload is not announced"),
        }
    }

    /// `STOPPING=1`, and that the stop may take `within`: a manager that would wait for less (`TimeoutStopSec`) waits for
    /// that long, one that waits for more is not made to wait less (`EXTEND_TIMEOUT_USEC`, sd_notify(3)).
    pub fn stopping(&self, within: Duration) {
        let within_usec = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
        self.send(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(within_usec)]);
    }

    /// `STATUS=`, one line for `systemctl status`.
    pub fn status(&self, status: &str) {
        self.send(&[NotifyState::Status(&foreign(status).to_string())]);
    }

    /// `STATUS=` from the relay's health; to be sent on each change.
    pub fn health(&self, snapshot: &Snapshot) {
        self.status(&status_line(snapshot));
    }

    /// `WATCHDOG=1`: the relay loop turned.
    pub fn watchdog(&self) {
        if self.watchdog.is_some() {
            self.send(&[NotifyState::Watchdog]);
        }
    }

    /// How often [`Notify::watchdog`] is due; `None`: nobody waits for it.
    pub fn watchdog_every(&self) -> Option<Duration> {
        self.watchdog
    }

    /// All states in one datagram, a line each.
    fn send(&self, states: &[NotifyState<'_>]) {
        let Some(socket) = &self.socket else { return };
        let lines: String = states.iter().map(|state| format!("{state}\n")).collect();
        if let Err(error) = socket.send(lines.as_bytes()) {
            tracing::debug!(%error, "the service manager could not be notified");
        }
    }
}

/// `ready: websocket connected, webhook connected, backfill backing_off`; legs that are turned off are left out.
/// While the window is read back: `reading back: 340000 of 1000000 records`, or what holds it up.
fn status_line(snapshot: &Snapshot) -> String {
    if let (Phase::Starting, Some(ReadingBack { done, total, waiting_for })) = (snapshot.phase, &snapshot.reading_back)
    {
        let waiting = waiting_for.as_ref().map_or_else(String::new, |what| format!("; waiting for {what}"));
        return format!("reading back: {done} of {total} records{waiting}");
    }
    if let (Phase::Starting, Some(what)) = (snapshot.phase, &snapshot.waiting_for) {
        return format!("starting: waiting for {what}");
    }
    let phase = match snapshot.phase {
        Phase::Starting => "starting",
        Phase::Ready => "ready",
        Phase::KafkaUnavailable => "kafka unavailable",
        Phase::Stopping => "stopping",
    };
    let legs: Vec<String> = Leg::ALL
        .into_iter()
        .zip(snapshot.legs)
        .filter(|(_, (state, _))| *state != LegState::Disabled)
        .map(|(leg, (state, _))| format!("{leg} {}", state.as_str()))
        .collect();
    if legs.is_empty() { phase.to_owned() } else { format!("{phase}: {}", legs.join(", ")) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]
    use super::super::Health;
    use super::*;
    use crate::labels::Account;

    /// A service manager's socket, and the relay's way to it.
    fn manager(watchdog: Option<Duration>) -> (tempfile::TempDir, UnixDatagram, Notify) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let notify = Notify::to(Some(path.as_os_str()), watchdog).unwrap();
        (folder, socket, notify)
    }

    /// The datagrams that have arrived; sending is synchronous on a local socket.
    fn heard(socket: &UnixDatagram) -> Vec<String> {
        let mut buffer = [0; 4_096];
        std::iter::from_fn(|| socket.recv(&mut buffer).ok().map(|n| String::from_utf8_lossy(&buffer[..n]).into_owned()))
            .collect()
    }

    #[test]
    fn each_state_is_one_datagram() {
        let (_folder, socket, notify) = manager(Some(Duration::from_secs(30)));
        notify.ready();
        notify.watchdog();
        notify.status("two\nREADY=1");
        notify.stopping(Duration::from_secs(90));
        assert_eq!(
            heard(&socket),
            ["READY=1\n", "WATCHDOG=1\n", "STATUS=two\\nREADY=1\n", "STOPPING=1\nEXTEND_TIMEOUT_USEC=90000000\n"]
        );
        assert_eq!(notify.watchdog_every(), Some(Duration::from_millis(7_500)));
    }

    #[test]
    fn a_reload_carries_the_monotonic_time() {
        let (_folder, socket, notify) = manager(None);
        notify.reloading();
        let told = heard(&socket).concat();
        let time = told.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().trim_end();
        assert!(time.parse::<u64>().unwrap() > 0);
    }

    #[test]
    fn no_watchdog_is_fed_that_nobody_set() {
        let (_folder, socket, notify) = manager(None);
        notify.watchdog();
        assert_eq!((heard(&socket).len(), notify.watchdog_every()), (0, None));
    }

    #[test]
    fn abstract_names_are_reached_and_a_manager_that_is_gone_is_tolerated() {
        let name = format!("pepay-relay-test-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let notify = Notify::to(Some(OsStr::new(&format!("@{name}"))), None).unwrap();
        notify.ready();
        socket.set_nonblocking(true).unwrap();
        assert_eq!(heard(&socket), ["READY=1\n"]);
        drop(socket);
        notify.ready();
        assert!(Notify::to(Some(OsStr::new("/nonexistent/notify")), None).is_err());
    }

    #[test]
    fn without_a_socket_nothing_is_sent() {
        let notify = Notify::to(None, Some(Duration::from_secs(1))).unwrap();
        notify.ready();
        notify.watchdog();
        assert_eq!(notify.watchdog_every(), None);
    }

    #[test]
    fn the_status_names_the_phase_and_the_legs_that_run() {
        let health = Health::default();
        let line = |health: &Health| status_line(&health.subscribe().borrow());
        assert_eq!(line(&health), "starting");
        let reading = |done, waiting_for| Some(ReadingBack { done, total: 1_000_000, waiting_for });
        health.set_waiting_for(Some("a leader of t[0]"));
        assert_eq!(status_line(&health.subscribe().borrow()), "starting: waiting for a leader of t[0]");
        health.set_waiting_for(None);
        health.set_reading_back(reading(340_000, None));
        assert_eq!(line(&health), "reading back: 340000 of 1000000 records");
        health.set_reading_back(reading(5, Some("another writer".to_owned())));
        assert_eq!(line(&health), "reading back: 5 of 1000000 records; waiting for another writer");
        health.set_leg(Account::FIRST, Leg::Websocket, LegState::BackingOff);
        health.set_leg(Account::FIRST, Leg::Webhook, LegState::Connected);
        health.set_phase(Phase::Ready);
        assert_eq!(line(&health), "ready: websocket backing_off, webhook connected");
    }

    /// The unit file and the relay keep one contract; a line that goes missing breaks it silently.
    #[test]
    fn the_unit_file_sets_what_the_relay_relies_on() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/pepay-relay.service");
        let unit = std::fs::read_to_string(file).unwrap();
        let lines: Vec<&str> = unit.lines().collect();
        for line in [
            "Type=notify",
            "ExecStartPre=/usr/bin/pepay-relay check --offline",
            "ExecStart=/usr/bin/pepay-relay run",
            "ExecReload=/bin/kill -HUP $MAINPID",
            "TimeoutStartSec=infinity",
            "RestartPreventExitStatus=75 78",
            "RestartSec=5",
            "StartLimitIntervalSec=0",
            "LoadCredential=api-key:/etc/pepay-relay/secrets/api-key",
            "LoadCredential=webhook-secrets:/etc/pepay-relay/secrets/webhook-secrets",
            "LoadCredential=kafka-password:/etc/pepay-relay/secrets/kafka-password",
            "DynamicUser=yes",
            "LimitCORE=0",
            "ProtectSystem=strict",
            "NoNewPrivileges=yes",
            // The way to the service manager's own socket.
            "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
        ] {
            assert!(lines.contains(&line), "{line}");
        }
        let seconds = |key: &str| -> u64 {
            let value = lines.iter().find_map(|line| line.strip_prefix(key)).unwrap();
            value.strip_suffix('s').unwrap().parse().unwrap()
        };
        let config = crate::config::Config::minimal(crate::provider::Environment::Devnet, "localhost:9092");
        assert!(seconds("TimeoutStopSec=") > config.shutdown.deadline.as_secs());
        // One commit may take as long as its transaction, 60 s.
        assert!(seconds("WatchdogSec=") > 60);
    }
}

//! One relay alone, and what systemd and a person do for it.

use crate::faults::Fault;
use crate::judged::{Ends, Loss};
use crate::rounds::Play;
use crate::stage::{RECOVERED_WITHIN, Stage, is_ready, launch, settings};
use crate::support::kafka::Broker;
use crate::support::ports::free_address;
use crate::support::process::Process;
use crate::support::proxy::Proxy;
use pepay_relay::clock::{now_ms, rfc3339};
use rdkafka::topic_partition_list::Offset;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What the relay logs: everything, for no level may show a secret.
const LOG_LEVEL: &str = "trace";
/// The relay is looked at so often while something is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// What a person leaves between the last event that they know to be committed and the time that they name.
const FROM_EARLIER_MS: i64 = 2_000;
const FAILED: i32 = 1;
const SETTINGS: i32 = 78;
/// How a relay ends whose control records Kafka lost, and what it reports where none is left.
const LOST: &str = "Kafka lost the newest checkpoint of relay";
const START_FROM: &str = "start once with `pepay-relay run --from TIME`";

/// What Kafka lost of the relay's memory, and what the next start of a relay may do for it.
#[derive(Debug)]
pub struct Forgets {
    pub from: Ends,
    pub to: Ends,
}

/// Where a relay listens: two of a name must not meet, and both must be known to the provider from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    First,
    Second,
}

/// The relay, in one of its slots.
pub struct Relay {
    pub process: Process,
    pub slot: Slot,
    /// Every client goes through it.
    pub proxy: Proxy,
    /// Kafka lost control records: until everything is committed again the relay may end because of it.
    pub may_end: bool,
    /// What a relay that starts now no longer knows, while the oracle was not informed.
    pub forgets: Option<Forgets>,
    addresses: [[SocketAddr; 2]; 2],
    log: PathBuf,
    /// Whatever was issued before this time (Unix milliseconds) is committed.
    stood_ms: i64,
}

impl Stage {
    /// Starts every part; the relay's log goes to `dir`.
    pub async fn new(seed: u64, dir: &Path) -> Self {
        let proxy = Proxy::start();
        let broker = tokio::task::block_in_place(|| Broker::start_behind(&proxy));
        let config = settings(&proxy.address().to_string());
        let addresses = [[free_address(), free_address()], [free_address(), free_address()]];
        let listen = addresses.map(|[webhook, _]| webhook).into_iter();
        let log = dir.join("relay.log");
        Self::open((seed, dir), (broker, config), &[], listen, async |config, secrets| {
            let mut process = launch(config, secrets, addresses[0], (LOG_LEVEL, &log), &[]);
            process.line("relay ready").await;
            let (slot, stood_ms, log) = (Slot::First, now_ms(), log.clone());
            Relay { process, slot, proxy, may_end: false, forgets: None, addresses, log, stood_ms }
        })
        .await
    }

    /// Another relay, in this slot; it is not the stage's yet.
    pub fn launch(&self, slot: Slot) -> Process {
        self.launch_with(slot, &[])
    }

    fn launch_with(&self, slot: Slot, arguments: &[&str]) -> Process {
        let addresses = self.relay.addresses[slot as usize];
        launch(&self.config, &self.secrets, addresses, (LOG_LEVEL, &self.relay.log), arguments)
    }

    /// Another relay where the last one was, which has ended.
    pub fn start_relay(&mut self) {
        if let Some(Forgets { from, to }) = self.relay.forgets.take() {
            let since = self.offsets(Offset::End);
            self.reader.oracle().lose(Loss { from, to, since, ..Loss::default() });
        }
        self.relay.process = self.launch(self.relay.slot);
    }

    /// The relay has ended by itself: what systemd and a person do then.
    pub async fn tend(&mut self, status: Option<i32>) -> Result<(), String> {
        let said = self.relay.process.said();
        eprintln!("      the relay ended with {status:?}: {}", said.lines().last().unwrap_or_default());
        match status {
            Some(FAILED) if self.relay.may_end && said.contains(LOST) => self.start_relay(),
            Some(SETTINGS) if self.relay.may_end && said.contains(START_FROM) => {
                // Nothing is left: it forgot every record and its version.
                let to = self.offsets(Offset::End);
                let again_from_ms = self.relay.stood_ms - FROM_EARLIER_MS;
                let loss = Loss { since: to.clone(), to, versions: true, ..Loss::default() };
                let from_ms = u64::try_from(again_from_ms).ok();
                self.reader.oracle().lose(Loss { again_from_ms: from_ms, ..loss });
                self.relay.process = self.launch_with(self.relay.slot, &["--from", &rfc3339(again_from_ms)]);
            }
            status => return Err(format!("the relay ended with {status:?}:\n{said}")),
        }
        Ok(())
    }

    pub async fn kill_relay(&mut self) {
        self.relay.process.signal("KILL");
        assert_eq!(self.relay.process.ended().await, None);
    }

    /// Waits until everything that was issued by now is committed.
    pub async fn stands_by(&mut self, deadline: Instant) {
        let issued = self.tell().await;
        let there = self.reader.until(deadline, |oracle| oracle.waiting(issued) == 0).await;
        assert!(there, "it stands in time:\n{}\n{}", self.interim(), self.relay.process.said());
    }
}

impl Play for Stage {
    type Fault = Fault;

    async fn strike(&mut self, fault: Fault) {
        self.relay.may_end = false;
        fault.strike(self).await;
    }

    /// Since it began: the fault is over.
    async fn recovered(&mut self) -> Result<Duration, String> {
        let began = Instant::now();
        let began_ms = now_ms();
        let issued = self.tell().await;
        let deadline = began + RECOVERED_WITHIN;
        loop {
            if let Some(status) = self.relay.process.has_ended().await {
                self.tend(status).await?;
            }
            // Whether it runs and is ready are questions, as systemd and its operators ask them.
            let soon = deadline.min(Instant::now() + LOOK_EVERY);
            let there = self.reader.until(soon, |oracle| oracle.waiting(issued) == 0).await;
            let [_, admin] = self.relay.addresses[self.relay.slot as usize];
            let ready = there && is_ready(admin).await;
            let clean = self.reader.oracle().is_clean_so_far();
            if there && ready && clean {
                self.relay.stood_ms = began_ms;
                return Ok(began.elapsed());
            }
            if !clean || Instant::now() >= deadline {
                let waited = began.elapsed();
                return Err(format!("ready: {ready}, after {waited:?} of {issued} events:\n{}", self.interim()));
            }
            if there {
                sleep(Duration::from_millis(20)).await;
            }
        }
    }

    async fn drain(&mut self) {
        self.relay.process.signal("TERM");
        assert_eq!(self.relay.process.ended().await, Some(0), "{}", self.relay.process.said());
    }
}

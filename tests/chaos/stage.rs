//! The parts: a broker of its own, the provider as a process, one relay as a process, and who reads alongside them.

use crate::judged::{Ends, Loss, Verdict};
use crate::provider::Provider;
use crate::reader::{ALL, Reader, offsets, read_on};
use crate::support::kafka::Broker;
use crate::support::ports::free_address;
use crate::support::process::Process;
use crate::support::proxy::Proxy;
use crate::support::relay::client;
use crate::support::settings::config;
use pepay_relay::clock::{now_ms, rfc3339};
use pepay_relay::config::{AccountSecrets, Config, Secrets};
use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rdkafka::topic_partition_list::Offset;
use serde_json::json;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What an event of the provider holds, and no log line may.
pub const MARKER: &str = "17 Unlogged Lane, Marker Town";
/// Everything that was issued stands within this after a fault is over. The longest seen is a tenth of it.
const RECOVERED_WITHIN: Duration = Duration::from_secs(150);

/// The relay is looked at so often while something is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// What a person leaves between the last event that they know to stand and the time that they name.
const FROM_EARLIER_MS: i64 = 2_000;
const FAILED: i32 = 1;
const SETTINGS: i32 = 78;
/// How a relay ends whose control records Kafka lost, and what a person is told where none is left.
const LOST: &str = "Kafka lost the newest checkpoint of relay";
const START_FROM: &str = "start once with `pepay-relay run --from TIME`";

/// A relay that does not answer by then is not ready.
const READY_WITHIN: Duration = Duration::from_secs(1);

/// What the oracle found in the end.
#[derive(Debug)]
pub struct Outcome {
    pub verdict: Verdict,
    pub events: u64,
    pub records: u64,
    pub stale: u64,
    /// Records that stand once more because Kafka lost the relay's memory of them.
    pub excused: u64,
    /// Records that Kafka lost, and not the relay's memory of them.
    pub gone: u64,
}

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

pub struct Stage {
    pub broker: Broker,
    /// Every client goes through it.
    pub proxy: Proxy,
    pub provider: Provider,
    pub relay: Process,
    pub slot: Slot,
    pub config: Config,
    pub chance: StdRng,
    pub log: PathBuf,
    pub reader: Reader,
    /// Kafka lost control records: until everything stands again the relay may end because of it.
    pub may_end: bool,
    /// What a relay that starts now no longer knows, while the oracle was not told.
    pub forgets: Option<Forgets>,
    secrets: Secrets,
    addresses: [[SocketAddr; 2]; 2],
    log_level: String,
    /// Events that the oracle was told of.
    told: u64,
    /// Whatever was issued before this time (Unix milliseconds) stands.
    stood_ms: i64,
}

impl Stage {
    /// Starts every part; the relay's log goes to `dir`.
    pub async fn new(seed: u64, dir: &Path, log_level: &str) -> Self {
        let proxy = Proxy::start();
        let broker = tokio::task::block_in_place(|| Broker::start_behind(&proxy));
        let mut config = config(&proxy.address().to_string(), "chaos");
        config.websocket.ping_interval = Duration::from_secs(1);
        config.websocket.idle_timeout = Duration::from_secs(3);
        config.websocket.backoff_min = Duration::from_millis(20);
        config.websocket.backoff_max = Duration::from_millis(500);
        config.backfill.every = Duration::from_secs(1);
        config.backfill.overlap = Duration::from_secs(1);
        config.backfill.hold_max = Duration::from_secs(2);
        config.backfill.first_start = Duration::from_secs(3_600);
        let addresses = [[free_address(), free_address()], [free_address(), free_address()]];
        let urls = addresses.map(|[webhook, _]| format!("http://{webhook}{}", config.webhook.path));
        let provider = Provider::start(seed, &urls, &dir.join("simulator.log")).await;
        config.provider.api_url.clone_from(&provider.api_url);
        config.provider.websocket_url.clone_from(&provider.websocket_url);
        let secrets = Secrets {
            accounts: vec![AccountSecrets::sole(
                provider.api_key.clone(),
                vec![provider.webhook_secret.clone().into()],
            )],
            kafka_password: None,
            kafka_certificate: None,
            kafka_oauth_secret: None,
            proxies: Default::default(),
        };
        let log = dir.join("relay.log");
        let slot = Slot::First;
        let mut relay = launch(&config, &secrets, addresses[0], log_level, &log, &[]);
        // It makes the topics.
        relay.line("relay ready").await;
        let reader = tokio::task::block_in_place(|| Reader::start(&config));
        let chance = StdRng::seed_from_u64(seed);
        let log_level = log_level.to_owned();
        let stood_ms = now_ms();
        Self {
            broker,
            proxy,
            provider,
            relay,
            slot,
            config,
            chance,
            log,
            reader,
            may_end: false,
            forgets: None,
            secrets,
            addresses,
            log_level,
            told: 0,
            stood_ms,
        }
    }

    /// Another relay, in this slot; it is not the stage's yet.
    pub fn launch(&self, slot: Slot) -> Process {
        self.launch_with(slot, &[])
    }

    fn launch_with(&self, slot: Slot, arguments: &[&str]) -> Process {
        let addresses = self.addresses[slot as usize];
        launch(&self.config, &self.secrets, addresses, &self.log_level, &self.log, arguments)
    }

    /// Another relay where the last one was, which has ended.
    pub fn start_relay(&mut self) {
        if let Some(Forgets { from, to }) = self.forgets.take() {
            let since = self.offsets(Offset::End);
            self.reader.oracle().lose(Loss { from, to, since, ..Loss::default() });
        }
        self.relay = self.launch(self.slot);
    }

    /// Where the topics begin or end, committed or not.
    pub fn offsets(&self, at: Offset) -> Ends {
        tokio::task::block_in_place(|| offsets(&self.config, at, ALL))
    }

    /// The relay has ended by itself: what systemd and a person do then.
    pub async fn tend(&mut self, status: Option<i32>) -> Result<(), String> {
        let said = self.relay.said();
        eprintln!("      the relay ended with {status:?}: {}", said.lines().last().unwrap_or_default());
        match status {
            Some(FAILED) if self.may_end && said.contains(LOST) => self.start_relay(),
            Some(SETTINGS) if self.may_end && said.contains(START_FROM) => {
                // Nothing is left: it forgot every record and its version.
                let to = self.offsets(Offset::End);
                let again_from_ms = self.stood_ms - FROM_EARLIER_MS;
                let loss = Loss { since: to.clone(), to, versions: true, ..Loss::default() };
                let from_ms = u64::try_from(again_from_ms).ok();
                self.reader.oracle().lose(Loss { again_from_ms: from_ms, ..loss });
                self.relay = self.launch_with(self.slot, &["--from", &rfc3339(again_from_ms)]);
            }
            status => return Err(format!("the relay ended with {status:?}:\n{said}")),
        }
        Ok(())
    }

    pub async fn kill_relay(&mut self) {
        self.relay.signal("KILL");
        assert_eq!(self.relay.ended().await, None);
    }

    /// Lets it all run for some milliseconds: how long, and so at which moment of the relay the next thing happens, is
    /// what the rounds vary.
    pub async fn some_time(&mut self, from_ms: u64, to_ms: u64) {
        let time = self.chance.random_range(from_ms..=to_ms);
        sleep(Duration::from_millis(time)).await;
    }

    /// An event with personal data, that no log may hold.
    pub async fn mark(&self) {
        let order_id = uuid::Uuid::new_v4().to_string();
        let object = json!({ "orderId": order_id, "status": "placed", "shippingAddress": { "street": MARKER } });
        let data = json!({ "object": object, "previous_attributes": null });
        let event = json!({
            "object": "event", "type": "commerce.order.updated", "livemode": false, "created": now_ms() / 1000,
            "data": data,
        });
        self.provider.publish(event).await;
    }

    /// Waits until the relay is ready and everything that was issued until now stands.
    pub async fn recovered(&mut self) -> Result<Duration, String> {
        let began = Instant::now();
        let began_ms = now_ms();
        let issued = self.tell().await;
        let deadline = began + RECOVERED_WITHIN;
        loop {
            if let Some(status) = self.relay.has_ended().await {
                self.tend(status).await?;
            }
            // Whether it runs and is ready are questions, as systemd and its operators ask them.
            let soon = deadline.min(Instant::now() + LOOK_EVERY);
            let there = self.reader.until(soon, |oracle| oracle.waiting(issued) == 0).await;
            let ready = there && self.is_ready().await;
            let clean = self.reader.oracle().is_clean_so_far();
            if there && ready && clean {
                self.stood_ms = began_ms;
                return Ok(began.elapsed());
            }
            if !clean || Instant::now() >= deadline {
                let waited = began.elapsed();
                let found = self.reader.oracle().interim(issued);
                return Err(format!("ready: {ready}, after {waited:?} of {issued} events:\n{found}"));
            }
            if there {
                sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// Waits until everything that was issued by now stands.
    pub async fn stands_by(&mut self, deadline: Instant) {
        let issued = self.tell().await;
        let there = self.reader.until(deadline, |oracle| oracle.waiting(issued) == 0).await;
        assert!(there, "it stands in time:\n{}\n{}", self.reader.oracle().interim(issued), self.relay.said());
    }

    /// Drains the relay, and checks once more by what a new consumer reads.
    pub async fn finish(&mut self) -> Outcome {
        let issued = self.tell().await;
        self.relay.signal("TERM");
        assert_eq!(self.relay.ended().await, Some(0), "{}", self.relay.said());
        let deadline = Instant::now() + RECOVERED_WITHIN;
        self.reader.until(deadline, |oracle| oracle.waiting(issued) == 0 && oracle.latest_is_whole()).await;
        // Those that were issued while it drained.
        self.tell().await;
        let starts = self.offsets(Offset::Beginning);
        let mut anew = self.reader.oracle().again(&starts);
        tokio::task::block_in_place(|| read_on(&self.config, &mut anew));
        let mut outcome = self.outcome();
        outcome.verdict = Some(self.reader.oracle().verdict(issued))
            .filter(|verdict| !verdict.is_clean())
            .unwrap_or_else(|| anew.verdict(issued));
        outcome
    }

    /// What the oracle found so far, for a run that failed.
    pub fn outcome(&self) -> Outcome {
        let oracle = self.reader.oracle();
        let verdict = oracle.interim(self.told);
        let (records, stale) = oracle.records();
        let (excused, gone) = oracle.excused();
        Outcome { verdict, events: oracle.issued(), records, stale, excused, gone }
    }

    /// What must not be in any log.
    pub fn secrets(&self) -> [String; 3] {
        [self.provider.api_key.clone(), self.provider.webhook_secret.clone(), MARKER.to_owned()]
    }

    /// Tells the oracle what was issued since it was told last, and answers how much that is by now.
    async fn tell(&mut self) -> u64 {
        loop {
            let page = self.provider.issued(self.told).await;
            if page.is_empty() {
                return self.told;
            }
            self.told += page.len() as u64;
            let mut oracle = self.reader.oracle();
            page.iter().for_each(|(id, kind)| oracle.issue(id, kind));
        }
    }

    async fn is_ready(&self) -> bool {
        let [_, admin] = self.addresses[self.slot as usize];
        let answer = client().get(format!("http://{admin}/readyz")).timeout(READY_WITHIN).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }
}

fn launch(
    config: &Config,
    secrets: &Secrets,
    addresses: [SocketAddr; 2],
    log_level: &str,
    log: &Path,
    arguments: &[&str],
) -> Process {
    let mut config = config.clone();
    [config.webhook.listen, config.admin.listen] = addresses;
    Process::launch(&config, secrets, Some((log_level, log)), arguments)
}

//! The parts: a broker of its own, the provider as a process, one relay as a process, and who reads beside them.

use crate::oracle::Verdict;
use crate::provider::Provider;
use crate::reader::{Reader, read_anew};
use crate::support::kafka::Broker;
use crate::support::ports::free_address;
use crate::support::process::Process;
use crate::support::relay::client;
use crate::support::settings::config;
use pepay_relay::clock::now_ms;
use pepay_relay::config::{Config, Secrets};
use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::json;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What an event of the provider holds, and no log line may.
pub const MARKER: &str = "17 Unlogged Lane, Marker Town";
/// Everything that was issued stands within this after a fault is over. The longest seen is a tenth of it.
const RECOVERED_WITHIN: Duration = Duration::from_secs(150);

/// A relay that does not answer by then is not ready.
const READY_WITHIN: Duration = Duration::from_secs(1);

/// What the oracle found in the end.
#[derive(Debug)]
pub struct Outcome {
    pub verdict: Verdict,
    pub events: u64,
    pub records: u64,
    pub stale: u64,
}

/// Where a relay listens: two of a name must not meet, and both must be known to the provider from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    First,
    Second,
}

pub struct Stage {
    pub broker: Broker,
    pub provider: Provider,
    pub relay: Process,
    pub slot: Slot,
    pub config: Config,
    pub chance: StdRng,
    pub log: PathBuf,
    reader: Reader,
    secrets: Secrets,
    addresses: [[SocketAddr; 2]; 2],
    log_level: String,
    /// Events that the oracle was told of.
    told: u64,
}

impl Stage {
    /// Starts every part; the relay's log goes to `dir`.
    pub async fn new(seed: u64, dir: &Path, log_level: &str) -> Self {
        let broker = tokio::task::block_in_place(Broker::start);
        let mut config = config(broker.bootstrap(), "chaos");
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
            api_key: provider.api_key.clone().into(),
            webhook: vec![provider.webhook_secret.clone().into()],
            kafka_password: None,
            proxies: Default::default(),
        };
        let log = dir.join("relay.log");
        let slot = Slot::First;
        let mut relay = launch(&config, &secrets, addresses[0], log_level, &log);
        // It makes the topics.
        relay.line("relay ready").await;
        let reader = tokio::task::block_in_place(|| Reader::start(&config));
        let chance = StdRng::seed_from_u64(seed);
        let log_level = log_level.to_owned();
        Self { broker, provider, relay, slot, config, chance, log, reader, secrets, addresses, log_level, told: 0 }
    }

    /// Another relay, in this slot; it is not the stage's yet.
    pub fn launch(&self, slot: Slot) -> Process {
        launch(&self.config, &self.secrets, self.addresses[slot as usize], &self.log_level, &self.log)
    }

    /// Another relay where the last one was.
    pub fn start_relay(&mut self) {
        self.relay = self.launch(self.slot);
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
        let issued = self.tell().await;
        let deadline = began + RECOVERED_WITHIN;
        let there = self.reader.until(deadline, |oracle| oracle.waiting(issued) == 0).await;
        let mut ready = self.is_ready().await;
        while there && !ready && Instant::now() < deadline {
            // Nobody tells: it is a question over HTTP, as its operators ask it.
            sleep(Duration::from_millis(20)).await;
            ready = self.is_ready().await;
        }
        let oracle = self.reader.oracle();
        if there && ready && oracle.so_far().is_clean() {
            return Ok(began.elapsed());
        }
        let waited = began.elapsed();
        Err(format!("ready: {ready}, after {waited:?} of {issued} events:\n{}", oracle.interim(issued)))
    }

    /// Drains the relay, and judges once more by what a new consumer reads.
    pub async fn finish(&mut self) -> Outcome {
        let issued = self.tell().await;
        self.relay.signal("TERM");
        assert_eq!(self.relay.ended().await, Some(0), "{}", self.relay.said());
        let deadline = Instant::now() + RECOVERED_WITHIN;
        self.reader.until(deadline, |oracle| oracle.waiting(issued) == 0 && oracle.latest_is_whole()).await;
        // Those that were issued while it drained.
        self.tell().await;
        let mut anew = self.reader.oracle().again();
        tokio::task::block_in_place(|| read_anew(&self.config, &mut anew));
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
        Outcome { verdict, events: oracle.issued(), records: oracle.records, stale: oracle.stale }
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

fn launch(config: &Config, secrets: &Secrets, addresses: [SocketAddr; 2], log_level: &str, log: &Path) -> Process {
    let mut config = config.clone();
    [config.webhook.listen, config.admin.listen] = addresses;
    Process::launch(&config, secrets, Some((log_level, log)))
}

//! What a relay alone and a cluster have in common: a broker of its own, the provider as a process, who reads alongside, and
//! what the oracle learns. The relays themselves are in `relay` and `nodes`.

use crate::judged::{Ends, Verdict};
use crate::provider::Provider;
use crate::reader::{ALL, COMMITTED, Reader, offsets, read_on};
use crate::relay::Relay;
use crate::support::kafka::Broker;
use crate::support::process::Process;
use crate::support::relay::client;
use crate::support::settings::config;
use pepay_relay::clock::now_ms;
use pepay_relay::config::{Config, Secrets};
use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rdkafka::topic_partition_list::Offset;
use serde_json::json;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What an event of the provider holds, and no log line may.
pub const MARKER: &str = "17 Unlogged Lane, Marker Town";
/// Everything that was issued is committed within this after a fault is over. The longest seen is a tenth of it.
pub const RECOVERED_WITHIN: Duration = Duration::from_secs(150);
/// A relay that does not answer by then is not ready.
const READY_WITHIN: Duration = Duration::from_secs(1);

/// What the oracle found in the end.
#[derive(Debug)]
pub struct Outcome {
    pub verdict: Verdict,
    pub events: u64,
    pub records: u64,
    pub stale: u64,
    /// Records that are there once more because Kafka lost the relay's memory of them.
    pub excused: u64,
    /// Records that Kafka lost, and not the relay's memory of them.
    pub gone: u64,
    /// How often the reader went on with new consumers since nothing came.
    pub renewed: u64,
}

/// The parts, with one relay or with the nodes of a cluster.
pub struct Stage<R = Relay> {
    pub broker: Broker,
    pub provider: Provider,
    pub relay: R,
    pub config: Config,
    pub chance: StdRng,
    pub reader: Reader,
    pub secrets: Secrets,
    /// Events that the oracle knows of, by merchant.
    told: Vec<u64>,
}

/// Settings of relays that notice soon what happens to them.
pub fn settings(bootstrap: &str) -> Config {
    let mut config = config(bootstrap, "chaos");
    config.websocket.ping_interval = Duration::from_secs(1);
    config.websocket.idle_timeout = Duration::from_secs(3);
    config.websocket.backoff_min = Duration::from_millis(20);
    config.websocket.backoff_max = Duration::from_millis(500);
    config.backfill.every = Duration::from_secs(1);
    config.backfill.overlap = Duration::from_secs(1);
    config.backfill.hold_max = Duration::from_secs(2);
    config.backfill.first_start = Duration::from_secs(3_600);
    config
}

/// Starts a relay that listens at these addresses, for webhooks and for its admin, and logs from this level on.
pub fn launch(
    config: &Config,
    secrets: &Secrets,
    addresses: [SocketAddr; 2],
    log: (&str, &Path),
    arguments: &[&str],
) -> Process {
    let mut config = config.clone();
    [config.webhook.listen, config.admin.listen] = addresses;
    Process::launch(&config, secrets, Some(log), arguments)
}

/// Whether the relay whose admin listens there is ready.
pub async fn is_ready(admin: SocketAddr) -> bool {
    let answer = client().get(format!("http://{admin}/readyz")).timeout(READY_WITHIN).send().await;
    answer.is_ok_and(|answer| answer.status().is_success())
}

impl<R> Stage<R> {
    /// Starts every part. `launch` starts the relays of these settings, which make the topics; logs and files go to `dir`.
    pub async fn open(
        (seed, dir): (u64, &Path),
        (broker, mut config): (Broker, Config),
        merchants: &[&str],
        listen: impl Iterator<Item = SocketAddr>,
        launch: impl AsyncFnOnce(&Config, &Secrets) -> R,
    ) -> Self {
        let urls: Vec<_> = listen.map(|webhook| format!("http://{webhook}{}", config.webhook.path)).collect();
        let provider = Provider::start(seed, merchants, &urls, &dir.join("simulator.log")).await;
        let secrets = provider.introduce(&mut config, dir);
        let relay = launch(&config, &secrets).await;
        let reader = tokio::task::block_in_place(|| Reader::start(&config));
        let chance = StdRng::seed_from_u64(seed);
        let told = vec![0; provider.merchants.len()];
        Self { broker, provider, relay, config, chance, reader, secrets, told }
    }

    /// Where the topics begin or end, committed or not.
    pub fn offsets(&self, at: Offset) -> Ends {
        tokio::task::block_in_place(|| offsets(&self.config, at, ALL))
    }

    /// Lets it all run for some milliseconds: how long, and so at which moment of the relay the next thing happens, is
    /// what the rounds vary.
    pub async fn some_time(&mut self, from_ms: u64, to_ms: u64) {
        let time = self.chance.random_range(from_ms..=to_ms);
        sleep(Duration::from_millis(time)).await;
    }

    /// Yes or no.
    pub fn at_times(&mut self) -> bool {
        self.chance.random_bool(0.5)
    }

    /// An event with personal data, that no log may hold.
    pub async fn mark(&mut self) {
        let order_id = uuid::Uuid::new_v4().to_string();
        let object = json!({ "orderId": order_id, "status": "placed", "shippingAddress": { "street": MARKER } });
        let data = json!({ "object": object, "previous_attributes": null });
        let event = json!({
            "object": "event", "type": "commerce.order.updated", "livemode": false, "created": now_ms() / 1000,
            "data": data,
        });
        let of = self.chance.random_range(0..self.provider.merchants.len());
        self.provider.publish(&self.provider.merchants[of], event).await;
    }

    /// What is not right when everything that was issued should be committed by now.
    pub fn interim(&self) -> Verdict {
        self.reader.oracle().interim(self.told())
    }

    /// With nobody at work any more: checks once more by what a new consumer reads.
    pub async fn close(&mut self, issued: u64) -> Outcome {
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
        let verdict = self.interim();
        let oracle = self.reader.oracle();
        let (records, stale) = oracle.records();
        let (excused, gone) = oracle.excused();
        let renewed = self.reader.renewed();
        Outcome { verdict, events: oracle.issued(), records, stale, excused, gone, renewed }
    }

    /// Of a run that failed: what a new consumer misses, and where an open transaction holds consumers of committed records.
    pub fn aftermath(&self) -> String {
        let ends = offsets(&self.config, Offset::End, ALL);
        let stable = offsets(&self.config, Offset::End, COMMITTED);
        let held = ends.iter().filter(|(place, end)| stable.get(*place) < Some(*end));
        let held: Vec<_> =
            held.map(|((topic, number), end)| format!("{}[{number}] before {end}", topic.as_str())).collect();
        let starts = offsets(&self.config, Offset::Beginning, ALL);
        let mut anew = self.reader.oracle().again(&starts);
        read_on(&self.config, &mut anew);
        let misses = anew.interim(self.told()).lost;
        format!("a new consumer misses {} {:?}\nheld by an open transaction: {held:?}\n", misses.count, misses.named)
    }

    /// What must not be in any log.
    pub fn unsaid(&self) -> Vec<String> {
        let of = self.provider.merchants.iter();
        let secrets = of.flat_map(|merchant| [merchant.api_key.clone(), merchant.webhook_secret.clone()]);
        secrets.chain([MARKER.to_owned()]).collect()
    }

    /// Shows the oracle what was issued since it was called last, and answers how much that is by now.
    pub async fn tell(&mut self) -> u64 {
        for (account, merchant) in self.provider.merchants.iter().enumerate() {
            loop {
                let page = self.provider.issued(merchant, self.told[account]).await;
                if page.is_empty() {
                    break;
                }
                self.told[account] += page.len() as u64;
                let mut oracle = self.reader.oracle();
                page.iter().for_each(|(id, kind)| oracle.issue(account, id, kind));
            }
        }
        self.told()
    }

    fn told(&self) -> u64 {
        self.told.iter().sum()
    }
}

//! A simulated provider, the settings of a relay between it and Kafka, and what must hold in the end.

use super::ports::free_address;
use super::records::{Record, committed, java_partition, write};
use super::settings::config;
use pepay_relay::clock::now_ms;
use pepay_relay::config::{AccountSecrets, Config, Secrets};
use pepay_relay::daemon::{Daemon, Setup};
use pepay_relay::kafka::Broker;
use pepay_relay::kafka::Keys;
use pepay_relay::kafka::client::Tuning;
use pepay_relay::labels::{Leg, Outcome, Topic};
use pepay_relay::normalize::{self, Kind, normalize};
use pepay_relay::provider::event::decode;
use pepay_relay::provider::{EventId, signature};
use pepay_relay::simulator::{Options, Simulator, Transition};
use pepay_relay::telemetry::{Metrics, Phase};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// Far longer than anything here takes, also on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A provider, and the settings of a relay for it.
pub struct Rig {
    pub simulator: Arc<Simulator>,
    pub config: Config,
    pub secrets: Secrets,
    pub tuning: Tuning,
}

/// An answer to a webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub retry_after: Option<String>,
    pub body: String,
}

/// Orders that live and die until it is asked to stop.
pub struct Load {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Rig {
    /// `test` becomes part of the relay's name and of its topics' names. Times are short: a walk a second.
    pub async fn new(bootstrap: &str, test: &str) -> Self {
        Self::with_log_of(100_000, bootstrap, test).await
    }

    /// The same with a provider whose log keeps this many events.
    pub async fn with_log_of(keep_events: usize, bootstrap: &str, test: &str) -> Self {
        // Shown when a test fails.
        drop(
            tracing_subscriber::fmt()
                .with_test_writer()
                .with_ansi(false)
                .with_max_level(tracing::Level::INFO)
                .try_init(),
        );
        let retries = vec![Duration::from_millis(300); 200];
        let options = Options { keep_events, webhook_retries: retries, ..Options::default() };
        let simulator = Simulator::start(options).await.expect("a simulator");
        let mut config = config(bootstrap, &format!("{test}-{}", &uuid::Uuid::new_v4().to_string()[..8]));
        config.provider.api_url = simulator.api_url();
        config.provider.websocket_url = simulator.websocket_url();
        config.websocket.ping_interval = Duration::from_secs(1);
        config.websocket.idle_timeout = Duration::from_secs(3);
        config.websocket.backoff_min = Duration::from_millis(20);
        config.websocket.backoff_max = Duration::from_millis(200);
        config.backfill.every = Duration::from_secs(1);
        config.backfill.overlap = Duration::from_secs(1);
        config.backfill.hold_max = Duration::from_secs(2);
        config.backfill.first_start = Duration::from_secs(3600);
        config.webhook.listen = free_address();
        config.admin.listen = free_address();
        let secrets = Secrets {
            accounts: vec![AccountSecrets::sole(simulator.api_key(), vec![simulator.webhook_secret().into()])],
            kafka_password: None,
            kafka_certificate: None,
            kafka_oauth_secret: None,
            proxies: Default::default(),
        };
        Self { simulator: Arc::new(simulator), config, secrets, tuning: Tuning::default() }
    }

    /// The provider posts its webhooks here from now on.
    pub fn with_webhooks(self) -> Self {
        self.simulator.add_webhook_endpoint(&self.webhook_url()).expect("an endpoint");
        self
    }

    pub fn webhook_url(&self) -> String {
        format!("http://{}{}", self.config.webhook.listen, self.config.webhook.path)
    }

    /// The relay, in this process, ready.
    pub async fn daemon(&self) -> Daemon {
        let daemon = self.launched().await;
        phase(&daemon, Phase::Ready).await;
        daemon
    }

    /// The relay, in this process, as it begins to start.
    pub async fn launched(&self) -> Daemon {
        let config = self.config.clone();
        let secrets = self.secrets.clone();
        let setup = Setup { config, secrets, broker: Broker::Configured, tuning: self.tuning, from_ms: None };
        Daemon::start(setup).await.expect("a relay")
    }

    /// Posts `body` as the provider would, once.
    pub async fn post(&self, body: &[u8]) -> Answer {
        post(&self.webhook_url(), self.simulator.webhook_secret(), body).await
    }

    /// Orders live one after the other, about 300 events a second.
    pub fn load(&self) -> Load {
        let stop = CancellationToken::new();
        let simulator = Arc::clone(&self.simulator);
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            while !stopped.is_cancelled() {
                let order = simulator.create_order().expect("an order");
                for step in Transition::LIFE {
                    simulator.simulate(&order, step).expect("a step");
                    sleep(Duration::from_millis(5)).await;
                }
            }
        });
        Load { stop, task }
    }

    /// Waits until everything that the provider issued is in Kafka.
    pub async fn until_delivered(&self) {
        self.until_delivered_but(&BTreeSet::new()).await;
    }

    /// The same without these events, which nobody can fetch any more.
    pub async fn until_delivered_but(&self, lost: &BTreeSet<String>) {
        let issued = self.simulator.events();
        let wanted = issued.iter().map(|event| event.id.clone()).filter(|id| !lost.contains(id)).collect();
        self.until_committed(&wanted).await;
    }

    /// Waits until these events are in Kafka.
    pub async fn until_committed(&self, wanted: &BTreeSet<String>) {
        let began = Instant::now();
        loop {
            let mut found = BTreeSet::new();
            for topic in [Topic::Orders, Topic::Invoices] {
                found.extend(committed(&self.config, topic).await.into_iter().map(|r| r.header("ce_id").to_owned()));
            }
            let missing: Vec<_> = wanted.difference(&found).collect();
            if missing.is_empty() {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{} of {} are missing: {missing:?}", missing.len(), wanted.len());
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Everything that the provider issued is in Kafka, each event once on its topic, with the value that it
    /// normalizes to, on the partition of Java's partitioner; per key in order, but for what is marked stale, and only
    /// that is marked; and `latest` never goes back and ends with the newest.
    pub async fn assert_delivered(&self) {
        let wanted = self.wanted();
        let orders = committed(&self.config, Topic::Orders).await;
        for (kind, records) in
            [(Kind::Order, &orders), (Kind::Invoice, &committed(&self.config, Topic::Invoices).await)]
        {
            let expected: Vec<&String> = wanted.iter().filter(|(_, w)| w.kind == kind).map(|(id, _)| id).collect();
            let mut found: Vec<&str> = records.iter().map(|record| record.header("ce_id")).collect();
            found.sort_unstable();
            assert_eq!(found, expected, "each once");
            self.assert_records(records, &wanted);
        }
        let latest = committed(&self.config, Topic::OrdersLatest).await;
        let newest = |records: &[Record]| -> BTreeMap<String, Vec<u8>> {
            records.iter().map(|record| (record.key.clone(), record.value.clone().expect("a value"))).collect()
        };
        let fresh: Vec<Record> = orders.into_iter().filter(|record| !record.is_stale()).collect();
        assert_eq!(newest(&latest), newest(&fresh));
        assert_eq!(latest.len(), fresh.len(), "one of each record that is not stale");
        let mut last = BTreeMap::new();
        for (id, wanted) in wanted.iter().filter(|(_, wanted)| wanted.kind == Kind::Order) {
            let id: EventId = id.parse().expect("an id");
            let newest = last.entry(wanted.key.clone()).or_insert((id, &wanted.value));
            *newest = (*newest).max((id, &wanted.value));
        }
        let last: BTreeMap<String, Vec<u8>> = last.into_iter().map(|(key, (_, value))| (key, value.clone())).collect();
        assert_eq!(newest(&latest), last, "the newest event of each order");
    }

    fn assert_records(&self, records: &[Record], wanted: &BTreeMap<String, Wanted>) {
        let mut newest: BTreeMap<&str, EventId> = BTreeMap::new();
        for record in records {
            let Wanted { key, value, .. } = &wanted[record.header("ce_id")];
            assert_eq!((&record.key, record.value.as_ref()), (key, Some(value)));
            assert_eq!(record.partition, java_partition(key.as_bytes(), self.config.kafka.partitions), "{key}");
            let id: EventId = record.header("ce_id").parse().expect("an id");
            let before = newest.get(record.key.as_str()).copied();
            assert_eq!(record.is_stale(), before > Some(id), "{id} after {before:?}");
            newest.insert(&record.key, before.max(Some(id)).unwrap_or(id));
        }
    }

    fn wanted(&self) -> BTreeMap<String, Wanted> {
        let settings =
            normalize::Settings { environment: self.config.provider.environment, drop: Vec::new(), include_raw: false };
        let wanted = |bytes: &[u8]| {
            let mut value = Vec::new();
            let normalized = normalize(&decode(bytes).expect("an event"), &settings, &mut value).expect("a value");
            Wanted { kind: normalized.kind, key: normalized.key.into_owned(), value }
        };
        self.simulator.events().iter().map(|event| (event.id.clone(), wanted(&event.bytes))).collect()
    }

    /// Writes marks as somebody might who should not; no relay may be running.
    pub async fn write_marks(&self, value: &Value) {
        let topic = self.config.kafka.topics.name(Topic::Control).expect("turned on");
        write(
            &self.config,
            topic,
            &Keys::new(&self.config.name).marks(&self.config.name),
            value.to_string().as_bytes(),
        )
        .await;
    }

    /// The newest marks.
    pub async fn marks(&self) -> Value {
        let key = Keys::new(&self.config.name).marks(&self.config.name);
        let control = committed(&self.config, Topic::Control).await;
        control.iter().rev().find(|record| record.key == key).expect("marks").json()
    }
}

/// What an event must become.
struct Wanted {
    kind: Kind,
    key: String,
    value: Vec<u8>,
}

impl Load {
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("the load");
    }
}

/// Drains a relay that runs in this process; its books must balance.
pub async fn drain(mut daemon: Daemon) -> Arc<Metrics> {
    daemon.stop();
    let ended = tokio::time::timeout(PATIENCE, daemon.ended()).await.expect("drained in time");
    assert_eq!(ended, Ok(()));
    for leg in Leg::ALL {
        let outcomes: u64 = Outcome::ALL.into_iter().map(|outcome| daemon.metrics.outcomes(leg, outcome)).sum();
        assert_eq!((daemon.metrics.deliveries(leg), daemon.metrics.in_flight(leg)), (outcomes, 0), "{leg}");
    }
    Arc::clone(&daemon.metrics)
}

/// Waits until the relay is in this phase.
pub async fn phase(daemon: &Daemon, phase: Phase) {
    let mut snapshots = daemon.health.subscribe();
    let reached = snapshots.wait_for(|snapshot| snapshot.phase == phase);
    tokio::time::timeout(PATIENCE, reached).await.expect("in time").expect("running");
}

/// Waits until `holds`.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what} in time");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Posts a signed body to `url`, on a connection of its own.
pub async fn post(url: &str, secret: &str, body: &[u8]) -> Answer {
    post_by(client(), url, secret, body).await
}

/// Posts a signed body to `url` by `client`.
pub async fn post_by(client: &reqwest::Client, url: &str, secret: &str, body: &[u8]) -> Answer {
    try_post_by(client, url, secret, body).await.expect("an answer")
}

/// Posts a signed body to `url`, on a connection of its own; an error where the peer is gone.
pub async fn try_post(url: &str, secret: &str, body: &[u8]) -> reqwest::Result<Answer> {
    try_post_by(client(), url, secret, body).await
}

async fn try_post_by(client: &reqwest::Client, url: &str, secret: &str, body: &[u8]) -> reqwest::Result<Answer> {
    let timestamp = now_ms().to_string();
    let request = client
        .post(url)
        .header("content-type", "application/json")
        .header(signature::SIGNATURE, signature::sign(secret.as_bytes(), &timestamp, body))
        .header(signature::TIMESTAMP, timestamp)
        .body(body.to_vec());
    let response = request.send().await?;
    let retry_after = response.headers().get("retry-after").map(|value| value.to_str().expect("text").to_owned());
    let status = response.status().as_u16();
    Ok(Answer { status, retry_after, body: text(response).await? })
}

/// What is at `url`.
pub async fn get(url: &str) -> String {
    text(client().get(url).send().await.expect("an answer")).await.expect("a body")
}

/// One for the process, since making one reads every certificate of the system. Each request has its own connection: what is
/// kept between two would end with the runtime of the test that made it.
pub fn client() -> &'static reqwest::Client {
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    CLIENT.get_or_init(|| making_client().pool_max_idle_per_host(0).build().expect("a client"))
}

/// One that keeps two connections between their requests.
pub fn keeping_client() -> reqwest::Client {
    making_client().pool_max_idle_per_host(2).build().expect("a client")
}

fn making_client() -> reqwest::ClientBuilder {
    // It speaks no TLS, and is not made without one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().timeout(PATIENCE)
}

#[expect(clippy::disallowed_methods, reason = "the peer is the relay, whose bodies need no bound")]
async fn text(response: reqwest::Response) -> reqwest::Result<String> {
    response.text().await
}

/// An order event that nobody but the test knows of.
pub fn order_event(id: &str, order_id: &str) -> Value {
    json!({
        "id": id, "object": "event", "created": now_ms() / 1000, "type": "commerce.order.updated", "livemode": false,
        "data": { "object": { "orderId": order_id, "status": "placed" }, "previous_attributes": null },
    })
}

/// An id of this moment.
pub fn event_id(seq: u64) -> String {
    format!("evt_{}-{seq}", now_ms())
}

//! Every metric of the relay, declared in this one file.
//!
//! Names and labels are the contract with dashboards (docs/metrics.md). Labels come from enums only, and every
//! series exists from the start, so that a rate over a counter that never moved is 0 and not "no data".

mod of_shards;

use super::meter::Meter;
use crate::labels::{Cause, Leg, Listener, Outcome, Seat, Topic, WebhookCode};
use crate::listener::Refusal;
use of_shards::OfShards;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};
use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// Counts, gauges and histograms, and the registry that prints them.
///
/// Each series of a family is at the place of its label's variant: an event counts without a look-up and a lock.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    deliveries: [Counter; Leg::ALL.len()],
    outcomes: [[Counter; Outcome::ALL.len()]; Leg::ALL.len()],
    in_flight: [Gauge; Leg::ALL.len()],
    intake_bytes: OfShards,
    event_lag: [Histogram; Leg::ALL.len()],
    publish_duration: [Histogram; Leg::ALL.len()],
    leg_connected: [Gauge; Leg::ALL.len()],
    /// Accounts of which the leg has no connection.
    unconnected: Mutex<[BTreeSet<Seat>; Leg::ALL.len()]>,
    accounts: OfShards,
    account_connected: Family<[(&'static str, String); 1], Gauge>,
    reconnects: [Counter; Cause::ALL.len()],
    walk_pages: Counter,
    webhook_responses: [Counter; WebhookCode::ALL.len()],
    certificate_expires: Gauge,
    kafka_certificate_expires: Gauge,
    connections_cut: [Counter; Listener::ALL.len()],
    connections_refused: [[Counter; Refusal::ALL.len()]; Listener::ALL.len()],
    records: [Counter; Topic::ALL.len()],
    transactions: Counter,
    gaps_open: OfShards,
    gaps: Counter,
    recovered: [Counter; Leg::ALL.len()],
    dedup_ids: OfShards,
    dedup_evicted_early: Counter,
    kafka_errors: [Counter; KafkaErrorKind::ALL.len()],
    ready: Gauge,
    shards_owned: Gauge,
    shards_unowned: Gauge,
    takeovers: [Counter; Takeover::ALL.len()],
    inbox_lag: OfShards,
    log_lines_dropped: Counter,
    clock_step: Counter<f64, AtomicU64>,
    /// What the page plots a second, which a histogram does not give back.
    pub(super) lag: Meter,
    pub(super) commit: Meter,
}

/// How a shard came to this process; the label `cause` of `takeovers_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takeover {
    /// Its last owner left in order, or there was none.
    Assigned,
    /// Its last owner died, or lost its place in the group.
    NodeDied,
}

impl Takeover {
    /// Every cause, in the order in which tables list them.
    pub const ALL: [Self; 2] = [Self::Assigned, Self::NodeDied];

    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Assigned => "assigned",
            Self::NodeDied => "node_died",
        }
    }
}

/// How Kafka trouble was answered; the label `kind` of `kafka_errors_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KafkaErrorKind {
    /// Waited for: a broker away, a leader moving.
    Retry,
    /// The transaction was aborted and its batch sent again.
    Abort,
    /// A new producer was made, and a commit of unknown outcome resolved.
    Rebuild,
    /// A record was refused for its size or shape.
    Record,
    /// The relay had to stop.
    Fatal,
}

impl KafkaErrorKind {
    /// Every kind, in the order in which tables list them.
    pub const ALL: [Self; 5] = [Self::Retry, Self::Abort, Self::Rebuild, Self::Record, Self::Fatal];

    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Abort => "abort",
            Self::Rebuild => "rebuild",
            Self::Record => "record",
            Self::Fatal => "fatal",
        }
    }
}

/// From a millisecond, which no commit beats, to the 10 minutes after which an event is old news.
const SECONDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0];

/// Where series are registered.
struct Registrar<'r>(&'r mut Registry);

impl Registrar<'_> {
    fn one<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        let metric = M::default();
        self.0.register(name, help, metric.clone());
        metric
    }

    /// Makes the series of one family, each once.
    fn family<M: Metric + TypedMetric + Clone, const K: usize>(
        &mut self,
        name: &str,
        help: &str,
        new: fn() -> M,
    ) -> impl Fn(Labels<K>) -> M + use<M, K> {
        let family = Family::<Labels<K>, M, fn() -> M>::new_with_constructor(new);
        self.0.register(name, help, family.clone());
        move |labels| family.get_or_create_owned(&labels)
    }

    /// A series for each of `labels`, in their order.
    fn each<M: Metric + TypedMetric + Clone, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        labels: [Labels<1>; N],
        new: fn() -> M,
    ) -> [M; N] {
        labels.map(self.family(name, help, new))
    }
}

impl Metrics {
    /// All series, at zero.
    pub fn new(version: &'static str) -> Self {
        let mut registry = Registry::default();
        let mut of = Registrar(registry.sub_registry_with_prefix("pepay_relay"));
        let legs = Leg::ALL.map(|leg| [("leg", leg.as_str())]);
        let causes = Cause::ALL.map(|cause| [("cause", cause.as_str())]);
        let codes = WebhookCode::ALL.map(|code| [("code", code.as_str())]);
        let takeovers = Takeover::ALL.map(|cause| [("cause", cause.as_str())]);
        let topics = Topic::ALL.map(|topic| [("topic", topic.as_str())]);
        let kinds = KafkaErrorKind::ALL.map(|kind| [("kind", kind.as_str())]);
        let counter: fn() -> Counter = Counter::default;
        let gauge: fn() -> Gauge = Gauge::default;
        let histogram: fn() -> Histogram = || Histogram::new(SECONDS);
        let [build_info] =
            of.each("build_info", "1, with the running version as label", [[("version", version)]], gauge);
        build_info.set(1);
        let outcomes = of.family("outcomes", "Deliveries that settled, by outcome", counter);
        let listeners = Listener::ALL.map(|listener| [("listener", listener.as_str())]);
        let cut = of.each(
            "connections_cut",
            "Strangers' connections that were cut so that others are served",
            listeners,
            counter,
        );
        let account_connected = Family::default();
        of.0.register(
            "account_connected",
            "1 while the WebSocket and the backfill of the account work, where accounts have names",
            Family::clone(&account_connected),
        );
        let refused = of.family("connections_refused", "Connections refused before any request: HTTP/2 without negotiation, malformed, too large or too slow heads, failed TLS handshakes, too many from one address", counter);
        Self {
            deliveries: of.each("deliveries", "Deliveries that arrived on a leg", legs, counter),
            outcomes: Leg::ALL.map(|leg| {
                Outcome::ALL.map(|outcome| outcomes([("leg", leg.as_str()), ("outcome", outcome.as_str())]))
            }),
            in_flight: of.each("in_flight", "Deliveries that have not settled", legs, gauge),
            intake_bytes: OfShards::of(of.one("intake_bytes", "Bytes held by deliveries that have not settled")),
            event_lag: of.each("event_lag_seconds", "Time from the event's timestamp to its arrival", legs, histogram),
            publish_duration: of.each("publish_duration_seconds", "Time from arrival to commit", legs, histogram),
            leg_connected: of.each("leg_connected", "1 while the leg has its connection or listener", legs, gauge),
            unconnected: Mutex::default(),
            accounts: OfShards::of(of.one("accounts", "Accounts that are served")),
            account_connected,
            reconnects: of.each("reconnects", "WebSocket connections that ended, by cause", causes, counter),
            walk_pages: of.one("walk_pages", "Pages of the provider's event log that were requested"),
            webhook_responses: of.each("webhook_responses", "Answers to webhooks, by HTTP status", codes, counter),
            certificate_expires: of.one(
                "webhook_certificate_expires_timestamp_seconds",
                "Unix time at which the webhook listener's certificate chain expires; 0 without TLS",
            ),
            kafka_certificate_expires: of.one(
                "kafka_certificate_expires_timestamp_seconds",
                "Unix time at which the client certificate for Kafka expires; 0 without one",
            ),
            connections_cut: cut,
            connections_refused: Listener::ALL.map(|listener| {
                Refusal::ALL.map(|why| refused([("listener", listener.as_str()), ("reason", why.as_str())]))
            }),
            records: of.each("records", "Records committed, by topic", topics, counter),
            transactions: of.one("transactions", "Transactions committed"),
            gaps_open: OfShards::of(of.one("gaps_open", "Gaps that are open")),
            gaps: of.one("gaps", "Gaps that were opened"),
            recovered: of.each(
                "recovered",
                "Events that occurred while a gap was open, by the leg that delivered them",
                legs,
                counter,
            ),
            dedup_ids: OfShards::of(of.one("dedup_ids", "Event ids in the dedup window")),
            dedup_evicted_early: of
                .one("dedup_evicted_early", "Event ids forgotten before the end of the window: raise dedup.ids_max"),
            kafka_errors: of.each("kafka_errors", "Errors of Kafka, by what the relay did about them", kinds, counter),
            ready: of.one("ready", "1 while the relay is ready"),
            shards_owned: of.one("shards_owned", "Shards that this node of a cluster serves"),
            shards_unowned: of
                .one("shards_unowned", "Shards of a cluster that no node serves, by what the group's coordinator says"),
            takeovers: of.each("takeovers", "Shards that came to this node of a cluster, by why", takeovers, counter),
            inbox_lag: OfShards::of(of.one("inbox_lag", "Records of the inbox that this process has not taken")),
            log_lines_dropped: of.one("log_lines_dropped", "Log lines dropped because their reader stalled"),
            clock_step: of
                .one("clock_step_seconds", "Seconds by which this machine's clock was stepped, in either direction"),
            lag: Meter::default(),
            commit: Meter::default(),
            registry,
        }
    }

    /// Counts log lines that were dropped.
    pub(super) fn log_lines_dropped(&self) -> Counter {
        self.log_lines_dropped.clone()
    }

    /// The wall clock was stepped by so much, in either direction.
    pub fn clock_stepped(&self, by: Duration) {
        self.clock_step.inc_by(by.as_secs_f64());
    }

    /// A delivery of `leg` arrived: it entered the relay, or was checked at its door.
    pub fn delivery(&self, leg: Leg) {
        self.deliveries[leg as usize].inc();
        self.in_flight[leg as usize].inc();
    }

    /// A delivery of `leg` settled.
    pub fn outcome(&self, leg: Leg, outcome: Outcome) {
        self.outcomes[leg as usize][outcome as usize].inc();
        self.in_flight[leg as usize].dec();
    }

    /// How many deliveries of `leg` arrived.
    pub fn deliveries(&self, leg: Leg) -> u64 {
        self.deliveries[leg as usize].get()
    }

    /// How many deliveries of `leg` settled as `outcome`.
    pub fn outcomes(&self, leg: Leg, outcome: Outcome) -> u64 {
        self.outcomes[leg as usize][outcome as usize].get()
    }

    /// How many deliveries of `leg` have not settled.
    pub fn in_flight(&self, leg: Leg) -> i64 {
        self.in_flight[leg as usize].get()
    }

    /// Bytes held by deliveries of this shard that have not settled.
    pub fn intake_bytes(&self, shard: i32, bytes: usize) {
        self.intake_bytes.tell(shard, Some(bytes));
    }

    /// Seconds from the event's time to its arrival by `leg`.
    pub fn event_lag(&self, leg: Leg, seconds: f64) {
        self.event_lag[leg as usize].observe(seconds);
        // What a walk finds is late by its nature; the page shows how late consumers get it.
        if matches!(leg, Leg::Websocket | Leg::Webhook) {
            self.lag.observe(seconds);
        }
    }

    /// Seconds from arrival by `leg` to commit.
    pub fn publish_duration(&self, leg: Leg, seconds: f64) {
        self.publish_duration[leg as usize].observe(seconds);
        self.commit.observe(seconds);
    }

    /// Whether `leg` of an account has its connection (a webhook: its listener). The leg is connected where those of all
    /// accounts are.
    pub fn leg_connected(&self, seat: Seat, leg: Leg, connected: bool) {
        self.tell_leg(leg, |unconnected| match connected {
            true => unconnected.remove(&seat),
            false => unconnected.insert(seat),
        });
    }

    /// The legs of an account have ended, and nobody waits for them.
    pub fn legs_ended(&self, seat: Seat) {
        for leg in [Leg::Websocket, Leg::Backfill] {
            self.tell_leg(leg, |unconnected| unconnected.remove(&seat));
        }
    }

    fn tell_leg(&self, leg: Leg, change: impl FnOnce(&mut BTreeSet<Seat>) -> bool) {
        let mut unconnected = self.unconnected.lock().unwrap_or_else(PoisonError::into_inner);
        let accounts = &mut unconnected[leg as usize];
        change(accounts);
        self.leg_connected[leg as usize].set(i64::from(accounts.is_empty()));
    }

    /// How many accounts of this shard the relay serves.
    pub fn accounts(&self, shard: i32, count: usize) {
        self.accounts.tell(shard, Some(count));
    }

    /// Whether the WebSocket and the backfill of the account of this name work, as far as they are turned on.
    pub fn account_connected(&self, name: &str, connected: bool) {
        self.account_connected.get_or_create_owned(&[("account", name.to_owned())]).set(i64::from(connected));
    }

    /// The account of this name is served no longer.
    pub fn forget_account(&self, name: &str) {
        self.account_connected.remove(&[("account", name.to_owned())]);
    }

    /// A connection of the WebSocket leg ended or could not be made.
    pub fn reconnect(&self, cause: Cause) {
        self.reconnects[cause as usize].inc();
    }

    /// How many connections of the WebSocket leg ended for `cause`.
    pub fn reconnects(&self, cause: Cause) -> u64 {
        self.reconnects[cause as usize].get()
    }

    /// A walk asked for a page of the event log, whatever the answer was.
    pub fn walk_page(&self) {
        self.walk_pages.inc();
    }

    /// How many pages of the event log walks asked for.
    pub fn walk_pages(&self) -> u64 {
        self.walk_pages.get()
    }

    /// A webhook was answered with this HTTP status.
    pub fn webhook_response(&self, code: WebhookCode) {
        self.webhook_responses[code as usize].inc();
    }

    /// The webhook listener's certificate chain expires at this Unix time, in seconds.
    pub fn certificate_expires(&self, unix_seconds: u64) {
        self.certificate_expires.set(i64::try_from(unix_seconds).unwrap_or(i64::MAX));
    }

    /// The certificate that Kafka knows the relay by expires at this Unix time, in seconds.
    pub fn kafka_certificate_expires(&self, unix_seconds: u64) {
        self.kafka_certificate_expires.set(i64::try_from(unix_seconds).unwrap_or(i64::MAX));
    }

    /// A connection of `listener` was cut so that another one can be served.
    pub fn connection_cut(&self, listener: Listener) {
        self.connections_cut[listener as usize].inc();
    }

    /// A connection of `listener` was refused below its requests.
    pub fn connection_refused(&self, listener: Listener, refusal: Refusal) {
        self.connections_refused[listener as usize][refusal as usize].inc();
    }

    /// `count` records were committed to `topic`.
    pub fn records(&self, topic: Topic, count: u64) {
        self.records[topic as usize].inc_by(count);
    }

    /// A transaction was committed.
    pub fn transaction(&self) {
        self.transactions.inc();
    }

    /// A gap was opened; [`Metrics::gaps_open`] sets how many are open.
    pub fn gap_opened(&self) {
        self.gaps.inc();
    }

    /// How many gaps of this shard are open now.
    pub fn gaps_open(&self, shard: i32, gaps: usize) {
        self.gaps_open.tell(shard, Some(gaps));
    }

    /// `leg` brought `count` events of a gap.
    pub fn recovered(&self, leg: Leg, count: u64) {
        self.recovered[leg as usize].inc_by(count);
    }

    /// How many ids were forgotten before their time.
    pub fn evicted_early(&self) -> u64 {
        self.dedup_evicted_early.get()
    }

    /// Ids in the dedup window of this shard.
    pub fn dedup_ids(&self, shard: i32, ids: usize) {
        self.dedup_ids.tell(shard, Some(ids));
    }

    /// Records of the inbox that the shard has not taken.
    pub fn inbox_lag(&self, shard: i32, records: usize) {
        self.inbox_lag.tell(shard, Some(records));
    }

    /// How many shards this process serves.
    pub fn shards_owned(&self, shards: usize) {
        self.shards_owned.set(gauge(shards));
    }

    /// How many shards no node serves.
    pub fn shards_unowned(&self, shards: usize) {
        self.shards_unowned.set(gauge(shards));
    }

    /// A shard came to this process.
    pub fn takeover(&self, cause: Takeover) {
        self.takeovers[cause as usize].inc();
    }

    /// How many shards came to this process because of `cause`.
    pub fn takeovers(&self, cause: Takeover) -> u64 {
        self.takeovers[cause as usize].get()
    }

    /// The shard is not of this process any more.
    pub fn forget_shard(&self, shard: i32) {
        for of in [&self.accounts, &self.intake_bytes, &self.gaps_open, &self.dedup_ids, &self.inbox_lag] {
            of.tell(shard, None);
        }
        for leg in [Leg::Websocket, Leg::Backfill] {
            self.tell_leg(leg, |unconnected| {
                unconnected.retain(|seat| seat.shard != shard);
                true
            });
        }
    }

    /// `count` ids were forgotten before their time.
    pub fn dedup_evicted_early(&self, count: u64) {
        self.dedup_evicted_early.inc_by(count);
    }

    /// Trouble with Kafka, by what was done about it.
    pub fn kafka_error(&self, kind: KafkaErrorKind) {
        self.kafka_errors[kind as usize].inc();
    }

    /// Whether the relay is ready.
    pub fn ready(&self, ready: bool) {
        self.ready.set(i64::from(ready));
    }

    /// All series in OpenMetrics text.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn gauge(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;

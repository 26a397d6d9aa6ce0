//! What `/status` and the page show, gathered from where it is known: health, metrics, and what the relay's loop hands
//! over once a batch.
//!
//! It is there from the first moment to the last: before the loop runs and while the relay drains it shows what is
//! known so far. Nothing here is on the way of an event; readers copy what they show and then write it out.

use super::health::AccountLegs;
use super::{Health, LegState, Metrics, Phase, Snapshot};
use crate::clock::{Moment, rfc3339, steady_ms};
use crate::config::Config;
use crate::labels::{Cause, Leg, Outcome};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Closed gaps whose story is kept; older ones are in the control topic and in the log.
const CLOSED_MAX: usize = 20;

/// Orders shown, the one with the newest event first: what fits a page without scrolling.
pub const LATEST_MAX: usize = 12;

/// A gap and its story. Times are Unix milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GapStory {
    /// Its number.
    pub id: u64,
    /// Whose events may be missing, where accounts have names.
    pub account: Option<String>,
    /// Why it opened.
    pub cause: &'static str,
    /// The cursor at that time.
    pub from: Option<String>,
    /// When it opened.
    pub opened_ms: i64,
    /// Up to when the socket may have missed something; `None` while it is down.
    pub end_ms: Option<i64>,
    /// When the walk that confirmed it began; `None` while it is open.
    pub closed_ms: Option<i64>,
    /// Events that occurred inside it and were published.
    pub recovered: u64,
}

/// The newest state of an order: nothing of it but its id and its states.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Latest {
    /// The order's id.
    pub order_id: String,
    /// Its status, as the provider spells it.
    pub status: Option<String>,
    /// The type of its newest event.
    pub event_type: String,
    /// When that occurred, RFC 3339.
    pub occurred_at: String,
    /// The leg that brought it first.
    pub leg: String,
}

/// What only the relay's loop knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inside {
    /// Where the socket resumes: an event id.
    pub cursor: Option<String>,
    /// When the last transaction was committed, in Unix milliseconds.
    pub committed_ms: Option<i64>,
    /// Event ids in the window.
    pub ids: usize,
    /// When the least recently seen of them was seen, in Unix milliseconds.
    pub oldest_ms: Option<i64>,
    /// Gaps that are open, oldest first.
    pub open: Vec<GapStory>,
    /// Gaps that closed, newest last.
    closed: VecDeque<GapStory>,
    latest: VecDeque<Latest>,
}

impl Inside {
    /// What two shards know together.
    fn and(mut self, other: Self) -> Self {
        // Each account has a cursor of its own.
        self.cursor = None;
        self.committed_ms = self.committed_ms.max(other.committed_ms);
        self.ids += other.ids;
        self.oldest_ms = [self.oldest_ms, other.oldest_ms].into_iter().flatten().min();
        self.open.extend(other.open);
        self.open.sort_by_key(|gap| gap.opened_ms);
        self.closed.extend(other.closed);
        self.closed.make_contiguous().sort_by_key(|gap| gap.closed_ms);
        self.closed.drain(..self.closed.len().saturating_sub(CLOSED_MAX));
        self.latest.extend(other.latest);
        self.latest.make_contiguous().sort_by(|one, other| other.occurred_at.cmp(&one.occurred_at));
        self.latest.truncate(LATEST_MAX);
        self
    }

    /// A gap is closed.
    pub fn close(&mut self, gap: GapStory) {
        self.open.retain(|open| open.id != gap.id);
        self.closed.push_back(gap);
        if self.closed.len() > CLOSED_MAX {
            self.closed.pop_front();
        }
    }

    /// An order has a new state; to be reported in the order of the records.
    pub fn order(&mut self, latest: Latest) {
        self.latest.retain(|known| known.order_id != latest.order_id);
        self.latest.push_front(latest);
        self.latest.truncate(LATEST_MAX);
    }
}

/// The nodes of a cluster and their shards, as the group's coordinator answers every node alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// The node that serves each shard, in their order.
    pub owners: Vec<Option<String>>,
    /// Records of the inbox that nobody has taken, by shard.
    pub lags: BTreeMap<i32, u64>,
    /// The nodes and the shards of each.
    pub nodes: Vec<(String, Vec<i32>)>,
}

/// Everything that is shown of a running relay.
#[derive(Debug)]
pub struct Board {
    name: String,
    environment: &'static str,
    window: Duration,
    ids_max: usize,
    pub(super) health: Arc<Health>,
    pub(super) metrics: Arc<Metrics>,
    /// Of each shard that this process serves.
    inside: watch::Sender<BTreeMap<i32, Inside>>,
    /// In a cluster.
    cluster: watch::Sender<Option<Cluster>>,
    /// Each account that has a name, and its shard.
    accounts: watch::Sender<Vec<(String, i32)>>,
}

impl Board {
    /// Of a relay with these settings, of which nothing is known yet.
    pub fn new(config: &Config, health: Arc<Health>, metrics: Arc<Metrics>) -> Self {
        Self {
            name: config.name.clone(),
            environment: config.provider.environment.as_str(),
            window: config.dedup.window,
            ids_max: config.dedup.ids_max,
            health,
            metrics,
            inside: watch::Sender::default(),
            cluster: watch::Sender::default(),
            accounts: watch::Sender::default(),
        }
    }

    /// The loop of a shard reports what changed: once a batch, and when a gap opens or closes.
    pub fn update(&self, shard: i32, change: impl FnOnce(&mut Inside)) {
        self.inside.send_modify(|inside| change(inside.entry(shard).or_default()));
    }

    /// The shard is not of this process any more.
    pub fn forget_shard(&self, shard: i32) {
        self.inside.send_modify(|inside| {
            inside.remove(&shard);
        });
    }

    /// What the coordinator answered about the cluster.
    pub fn set_cluster(&self, cluster: Cluster) {
        self.cluster.send_replace(Some(cluster));
    }

    /// These are the accounts of the settings that have names, each with its shard, served here or not.
    pub fn set_accounts(&self, accounts: Vec<(String, i32)>) {
        self.accounts.send_replace(accounts);
    }

    /// What the loops of all shards know.
    fn inside(&self) -> Inside {
        let inside = self.inside.borrow();
        let mut all = inside.values().cloned();
        let first = all.next().unwrap_or_default();
        all.fold(first, Inside::and)
    }

    /// The object of `/status` at `now_ms`.
    pub fn status(&self, now_ms: i64) -> Value {
        self.status_of(&self.inside(), now_ms)
    }

    /// What the page shows: the object of `/status`, and what it has no member for.
    pub(super) fn shown(&self, now_ms: i64) -> Value {
        let inside = self.inside();
        let status = self.status_of(&inside, now_ms);
        let books = |of: &dyn Fn(Leg) -> Value| -> Map<String, Value> {
            Leg::ALL.into_iter().map(|leg| (leg.as_str().to_owned(), of(leg))).collect()
        };
        json!({
            "at": rfc3339(now_ms),
            "status": status,
            "environment": self.environment,
            "deliveries": books(&|leg| self.metrics.deliveries(leg).into()),
            "in_flight": books(&|leg| self.metrics.in_flight(leg).into()),
            "window": { "seconds": self.window.as_secs(), "ids_max": self.ids_max },
            "latest": inside.latest,
        })
    }

    fn status_of(&self, inside: &Inside, now_ms: i64) -> Value {
        let snapshot = self.health.subscribe().borrow().clone();
        let phase = snapshot.phase;
        let mut legs = Map::new();
        let mut counts = Map::new();
        let mut degraded = Vec::new();
        for leg in Leg::ALL {
            let (state, since) = snapshot.legs[leg as usize];
            if !matches!(state, LegState::Connected | LegState::Disabled) {
                degraded.push(leg.as_str());
            }
            let (event_ms, heard_ms) = self.health.last(leg, Moment { wall_ms: now_ms, steady_ms: steady_ms() });
            let shown = json!({
                "state": state.as_str(),
                "since": rfc3339(self.health.unix_ms(since)),
                "reconnects": self.reconnects(leg),
                "last_event_at": event_ms.map(rfc3339),
                "last_sign_of_life_at": heard_ms.map(rfc3339),
            });
            legs.insert(leg.as_str().to_owned(), shown);
            let outcomes = Outcome::ALL.map(|outcome| (outcome.as_str(), self.metrics.outcomes(leg, outcome)));
            let outcomes: Map<_, _> =
                outcomes.into_iter().map(|(name, count)| (name.to_owned(), count.into())).collect();
            counts.insert(leg.as_str().to_owned(), outcomes.into());
        }
        let accounts = self.accounts(&snapshot);
        let oldest_age_seconds = inside.oldest_ms.map(|ms| now_ms.saturating_sub(ms).max(0) / 1000);
        let mut status = json!({
            "name": self.name,
            "version": env!("CARGO_PKG_VERSION"),
            "ready": phase == Phase::Ready,
            "degraded": degraded,
            "uptime_seconds": self.health.uptime().as_secs(),
            "cursor": inside.cursor,
            "legs": legs,
            "kafka": { "state": kafka_state(phase), "last_commit_at": inside.committed_ms.map(rfc3339) },
            "dedup": {
                "ids": inside.ids,
                "oldest_age_seconds": oldest_age_seconds,
                "evicted_early": self.metrics.evicted_early(),
            },
            "gaps": inside.closed.iter().chain(&inside.open).map(gap_value).collect::<Vec<_>>(),
            "counts": counts,
        });
        if !accounts.is_empty() {
            status["accounts"] = accounts.into();
        }
        if let Some(Cluster { owners, lags, nodes }) = &*self.cluster.borrow() {
            let shard = |(number, owner): (i32, &Option<String>)| {
                let state = if owner.is_some() { "owned" } else { "unowned" };
                json!({ "shard": number, "owner": owner, "state": state, "inbox_lag": lags.get(&number) })
            };
            status["shards"] = (0..).zip(owners).map(shard).collect();
            status["nodes"] = nodes.iter().map(|(node, shards)| json!({ "node": node, "shards": shards })).collect();
        }
        status
    }

    /// Each account that has a name, with the state of its legs where this process serves its shard. The listener of webhooks
    /// is everybody's.
    fn accounts(&self, snapshot: &Snapshot) -> Vec<Value> {
        let served = snapshot.accounts.values().filter(|of| of.served);
        let served: BTreeMap<&str, &AccountLegs> = served.map(|of| (of.name.as_str(), of)).collect();
        let legs = |of: &&AccountLegs| -> Map<String, Value> {
            let leg = |leg: Leg| {
                let legs = if leg == Leg::Webhook { &snapshot.legs } else { &of.legs };
                let (state, since) = legs[leg as usize];
                let state = json!({ "state": state.as_str(), "since": rfc3339(self.health.unix_ms(since)) });
                (leg.as_str().to_owned(), state)
            };
            Leg::ALL.into_iter().map(leg).collect()
        };
        let accounts = self.accounts.borrow();
        let shown = accounts.iter().map(
            |(name, shard)| json!({ "account": name, "shard": shard, "legs": served.get(name.as_str()).map(legs) }),
        );
        shown.collect()
    }

    /// Only the socket is connected again and again; a listener and a walk have no connection to lose.
    fn reconnects(&self, leg: Leg) -> u64 {
        match leg {
            Leg::Websocket => Cause::ALL.into_iter().map(|cause| self.metrics.reconnects(cause)).sum(),
            _ => 0,
        }
    }

    /// Deliveries of each leg so far, in the order of the page.
    pub(super) fn deliveries(&self) -> [u64; Leg::ALL.len()] {
        Leg::ALL.map(|leg| self.metrics.deliveries(leg))
    }
}

fn kafka_state(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "connecting",
        Phase::Ready => "connected",
        Phase::KafkaUnavailable => "unavailable",
        Phase::Stopping => "closing",
    }
}

fn gap_value(gap: &GapStory) -> Value {
    json!({
        "id": gap.id,
        "account": gap.account,
        "cause": gap.cause,
        "from": gap.from,
        "opened_at": rfc3339(gap.opened_ms),
        "ended_at": gap.end_ms.map(rfc3339),
        "closed_at": gap.closed_ms.map(rfc3339),
        "recovered": gap.recovered,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]
    use super::*;
    use crate::labels::Account;
    use crate::provider::Environment;

    fn board() -> Board {
        let config = Config::minimal(Environment::Devnet, "");
        Board::new(&config, Arc::new(Health::default()), Arc::new(Metrics::new("test")))
    }

    fn gap(id: u64) -> GapStory {
        let cause = "reset";
        let from = Some("evt_1-0".to_owned());
        GapStory {
            id,
            account: None,
            cause,
            from,
            opened_ms: 1_000,
            end_ms: Some(2_000),
            closed_ms: None,
            recovered: 3,
        }
    }

    fn latest(order_id: &str, status: &str) -> Latest {
        Latest {
            order_id: order_id.to_owned(),
            status: Some(status.to_owned()),
            event_type: "commerce.order.updated".to_owned(),
            occurred_at: "2026-01-15T10:15:00.655Z".to_owned(),
            leg: "webhook".to_owned(),
        }
    }

    fn names(value: &Value) -> Vec<&str> {
        let mut names: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn the_object_has_the_members_of_the_contract_from_the_start() {
        let status = board().status(1_000);
        let members = [
            "counts",
            "cursor",
            "dedup",
            "degraded",
            "gaps",
            "kafka",
            "legs",
            "name",
            "ready",
            "uptime_seconds",
            "version",
        ];
        assert_eq!(names(&status), members);
        for leg in ["websocket", "webhook", "backfill"] {
            let members = ["last_event_at", "last_sign_of_life_at", "reconnects", "since", "state"];
            assert_eq!(names(&status["legs"][leg]), members);
            let members = ["dead_lettered", "duplicate", "failed", "ignored", "published", "rejected"];
            assert_eq!(names(&status["counts"][leg]), members);
        }
        assert_eq!(names(&status["legs"]).len(), 3);
        assert_eq!(status["kafka"], json!({ "state": "connecting", "last_commit_at": null }));
        assert_eq!(status["dedup"], json!({ "ids": 0, "oldest_age_seconds": null, "evicted_early": 0 }));
        assert_eq!((&status["ready"], &status["cursor"], &status["gaps"]), (&false.into(), &Value::Null, &json!([])));
    }

    #[test]
    fn what_is_reported_is_shown() {
        let board = board();
        board.health.set_phase(Phase::Ready);
        board.health.set_leg(Account::FIRST, Leg::Websocket, LegState::BackingOff);
        board.health.set_leg(Account::FIRST, Leg::Webhook, LegState::Connected);
        board.health.event(Leg::Webhook, 1_768_472_100_655);
        board.metrics.reconnect(Cause::Reset);
        board.metrics.reconnect(Cause::Silence);
        board.metrics.delivery(Leg::Webhook);
        board.metrics.delivery(Leg::Webhook);
        board.metrics.outcome(Leg::Webhook, Outcome::Published);
        board.metrics.dedup_evicted_early(4);
        board.update(0, |inside| {
            inside.cursor = Some("evt_5-1".to_owned());
            inside.committed_ms = Some(1_768_472_100_700);
            inside.ids = 7;
            inside.oldest_ms = Some(1_768_472_130_000);
            inside.open.push(gap(1));
        });
        let status = board.status(1_768_472_195_999);
        assert_eq!(status["ready"], true);
        assert_eq!(status["degraded"], json!(["websocket"]));
        assert_eq!(status["legs"]["websocket"]["state"], "backing_off");
        assert_eq!(status["legs"]["websocket"]["reconnects"], 2);
        assert_eq!(status["legs"]["webhook"]["last_event_at"], "2026-01-15T10:15:00.655Z");
        assert_eq!(status["kafka"], json!({ "state": "connected", "last_commit_at": "2026-01-15T10:15:00.700Z" }));
        assert_eq!(status["dedup"], json!({ "ids": 7, "oldest_age_seconds": 65, "evicted_early": 4 }));
        assert_eq!(status["cursor"], "evt_5-1");
        let story = json!({
            "id": 1, "account": null, "cause": "reset", "from": "evt_1-0", "recovered": 3, "closed_at": null,
            "opened_at": "1970-01-01T00:00:01.000Z", "ended_at": "1970-01-01T00:00:02.000Z",
        });
        assert_eq!(status["gaps"], json!([story]));
        assert_eq!(status["counts"]["webhook"]["published"], 1);
        let shown = board.shown(95_999);
        assert_eq!((&shown["deliveries"]["webhook"], &shown["in_flight"]["webhook"]), (&2.into(), &1.into()));
    }

    #[test]
    fn gaps_and_orders_are_bounded_and_the_newest_stay() {
        let board = board();
        let gaps = u64::try_from(CLOSED_MAX).unwrap() + 5;
        board.update(0, |inside| {
            inside.open.extend((0..=gaps).map(gap));
            (0..gaps).for_each(|id| inside.close(GapStory { closed_ms: Some(9_000), ..gap(id) }));
            (0..2 * LATEST_MAX).for_each(|id| inside.order(latest(&id.to_string(), "placed")));
            inside.order(latest("20", "shipped"));
        });
        let shown = board.shown(9_000);
        let gaps = shown["status"]["gaps"].as_array().unwrap();
        assert_eq!(gaps.len(), CLOSED_MAX + 1);
        assert_eq!((&gaps[0]["id"], &gaps[CLOSED_MAX]["id"]), (&5.into(), &25.into()));
        assert_eq!(gaps[CLOSED_MAX]["closed_at"], Value::Null);
        let orders = shown["latest"].as_array().unwrap();
        assert_eq!(orders.len(), LATEST_MAX);
        assert_eq!((&orders[0]["order_id"], &orders[0]["status"]), (&"20".into(), &"shipped".into()));
        assert_eq!(orders.iter().filter(|order| order["order_id"] == "20").count(), 1);
    }

    #[test]
    fn every_node_shows_the_same_accounts_and_the_legs_of_those_that_it_serves() {
        let board = board();
        board.set_accounts(vec![("a".to_owned(), 1), ("b".to_owned(), 0)]);
        let served = board.health.of_shard(1);
        served.set_account(Account::FIRST, "a", true);
        served.set_leg(Account::FIRST, Leg::Backfill, LegState::Connected);
        // Only its webhooks are known.
        served.set_account(Account::at(1), "stranger", false);
        let shown = |status: &Value| {
            let of = |of: &Value| (of["account"].clone(), of["shard"].clone(), of["legs"]["backfill"]["state"].clone());
            status["accounts"].as_array().unwrap().iter().map(of).collect::<Vec<_>>()
        };
        let status = board.status(1);
        assert_eq!(names(&status["accounts"][0]["legs"]), ["backfill", "webhook", "websocket"]);
        assert_eq!(status["accounts"][1], json!({ "account": "b", "shard": 0, "legs": null }));
        assert_eq!(shown(&status), [("a".into(), 1.into(), "connected".into()), ("b".into(), 0.into(), Value::Null)]);
        board.health.forget_shard(1);
        assert_eq!(board.status(1)["accounts"][0], json!({ "account": "a", "shard": 1, "legs": null }));
        board.set_accounts(Vec::new());
        assert_eq!(board.status(1)["accounts"], Value::Null);
    }

    #[test]
    fn it_is_there_while_the_relay_stops() {
        let board = board();
        board.health.set_phase(Phase::Stopping);
        let status = board.status(1);
        assert_eq!((&status["ready"], &status["kafka"]["state"]), (&false.into(), &"closing".into()));
    }
}

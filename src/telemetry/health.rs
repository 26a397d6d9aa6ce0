//! What state the parts are in: one snapshot that every reader (logs, `STATUS=`, `/status`, webhooks) shares.

use crate::clock::{Moment, millis, now_ms, steady_ms};
use crate::labels::{Account, Leg, Seat};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The loop turns at least every 10 s, when it is idle; three times that without a turn is no turn any more.
const TURN_WITHIN: Duration = Duration::from_secs(30);

/// The state of a leg, from the best state to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LegState {
    /// Turned off in the settings.
    Disabled,
    /// Delivering (a webhook: its listener is bound).
    Connected,
    /// On its way.
    Connecting,
    /// Not read, because the intake is full.
    Paused,
    /// Waiting before the next attempt.
    BackingOff,
    /// The provider refused the credentials.
    Refused,
}

impl LegState {
    /// The name used in `/status`, logs and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::BackingOff => "backing_off",
            Self::Paused => "paused",
            Self::Refused => "refused",
        }
    }
}

/// The state of the whole relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Before the window is warm: webhooks are answered `starting`.
    Starting,
    /// Committing.
    Ready,
    /// Kafka does not answer: webhooks are answered `kafka_unavailable`.
    KafkaUnavailable,
    /// Draining: webhooks are answered `stopping`.
    Stopping,
}

/// The state of all parts at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The state of the whole relay.
    pub phase: Phase,
    /// Each leg's state and since when, in the order of [`Leg::ALL`]; of several accounts the worst.
    pub legs: Legs,
    /// The accounts of each shard that this process serves.
    pub accounts: BTreeMap<Seat, AccountLegs>,
    /// The shards of a cluster that this process serves, or is about to.
    pub shards: BTreeMap<i32, Phase>,
    /// The last time in which events may be missing that nobody can fetch any more, if there was one.
    pub unproven: Option<Unproven>,
    /// While the window is read back at start: how far it is.
    pub reading_back: Option<ReadingBack>,
    /// What a start waits for in Kafka, as a sentence's end: `a leader of TOPIC[PARTITION], …`.
    pub waiting_for: Option<String>,
}

/// Each leg's state and since when, in the order of [`Leg::ALL`].
pub(super) type Legs = [(LegState, Instant); Leg::ALL.len()];

/// The legs of one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountLegs {
    /// The account; empty where accounts have no names.
    pub name: String,
    /// The settings name it.
    pub served: bool,
    /// Its legs.
    pub legs: Legs,
}

/// A time over which the provider's log no longer reached back, in Unix milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unproven {
    /// Up to then nothing is missing.
    pub from_ms: i64,
    /// From then on nothing is missing.
    pub to_ms: i64,
    /// Orders that last changed in it; `None` when the provider could not list them all.
    pub orders: Option<u64>,
}

/// How far a start has come with the records that it reads back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadingBack {
    /// Offsets done: records, and the marker of each transaction.
    pub done: u64,
    /// Offsets in all.
    pub total: u64,
    /// What holds it up alongside Kafka itself, as a sentence's end: `another writer's transaction on TOPIC[PARTITION], …`.
    pub waiting_for: Option<String>,
}

impl Snapshot {
    fn of(&mut self, seat: Seat) -> &mut AccountLegs {
        self.accounts.entry(seat).or_insert_with(|| {
            let legs = [(LegState::Disabled, Instant::now()); Leg::ALL.len()];
            AccountLegs { name: String::new(), served: true, legs }
        })
    }

    /// The worst state of each leg is that of the whole.
    fn sum_up(&mut self) {
        // The listener of webhooks is everybody's.
        for leg in [Leg::Websocket, Leg::Backfill] {
            let of = self.accounts.values().filter(|of| of.served).map(|of| of.legs[leg as usize].0);
            let worst = of.max().unwrap_or(LegState::Disabled);
            let slot = &mut self.legs[leg as usize];
            if slot.0 != worst {
                *slot = (worst, Instant::now());
            }
        }
    }
}

/// The one place where parts report what state they are in; of the process, or of one of its shards in a cluster.
#[derive(Debug)]
pub struct Health {
    whole: Arc<Whole>,
    /// Whose parts report it, in a cluster.
    shard: Option<i32>,
    /// When the loop turned last, in milliseconds after the process began, which no step of the wall clock changes; [`NOT_YET`].
    turned_ms: Arc<AtomicI64>,
}

/// What all shards of the process have in common.
#[derive(Debug)]
struct Whole {
    snapshot: watch::Sender<Snapshot>,
    /// When the loop of each shard turned last.
    turns: Mutex<Vec<Weak<AtomicI64>>>,
    /// When the process began to keep it, by both clocks: an `Instant` alone cannot be shown to anybody.
    began: (Instant, i64),
    /// When each leg brought an event, in Unix milliseconds; 0: never.
    events_ms: [AtomicI64; Leg::ALL.len()],
    /// When its peer last sent something, by the steady clock; 0: never.
    heard_ms: [AtomicI64; Leg::ALL.len()],
}

/// The loop has not turned yet.
const NOT_YET: i64 = i64::MIN;

impl Default for Health {
    fn default() -> Self {
        let legs = [(LegState::Disabled, Instant::now()); Leg::ALL.len()];
        let whole = Whole {
            snapshot: watch::Sender::new(Snapshot {
                phase: Phase::Starting,
                legs,
                accounts: BTreeMap::new(),
                shards: BTreeMap::new(),
                unproven: None,
                reading_back: None,
                waiting_for: None,
            }),
            turns: Mutex::default(),
            began: (Instant::now(), now_ms()),
            events_ms: Default::default(),
            heard_ms: Default::default(),
        };
        Self::over(Arc::new(whole), None)
    }
}

impl Health {
    fn over(whole: Arc<Whole>, shard: Option<i32>) -> Self {
        let turned_ms = Arc::new(AtomicI64::new(NOT_YET));
        let mut turns = whole.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|turned_ms| turned_ms.strong_count() > 0);
        turns.push(Arc::downgrade(&turned_ms));
        drop(turns);
        Self { whole, shard, turned_ms }
    }

    /// The place where the parts of a shard of a cluster report it. What it waits for holds up nobody else.
    pub fn of_shard(&self, shard: i32) -> Self {
        self.whole.snapshot.send_modify(|snapshot| {
            snapshot.shards.insert(shard, Phase::Starting);
        });
        Self::over(Arc::clone(&self.whole), Some(shard))
    }

    /// The shard is not of this process any more.
    pub fn forget_shard(&self, shard: i32) {
        self.whole.snapshot.send_modify(|snapshot| {
            snapshot.shards.remove(&shard);
            snapshot.accounts.retain(|seat, _| seat.shard != shard);
            snapshot.sum_up();
        });
    }

    fn seat(&self, account: Account) -> Seat {
        Seat { shard: self.shard.unwrap_or_default(), account }
    }

    /// `leg` of an account is now in `state`; readers are woken only by a change.
    pub fn set_leg(&self, account: Account, leg: Leg, state: LegState) {
        self.whole.snapshot.send_if_modified(|snapshot| {
            let slot = match leg {
                Leg::Webhook => &mut snapshot.legs[leg as usize],
                _ => &mut snapshot.of(self.seat(account)).legs[leg as usize],
            };
            let changed = slot.0 != state;
            if changed {
                *slot = (state, Instant::now());
                snapshot.sum_up();
            }
            changed
        });
    }

    /// The account of this name is served from now on, or no longer.
    pub fn set_account(&self, account: Account, name: &str, served: bool) {
        self.whole.snapshot.send_modify(|snapshot| {
            let of = snapshot.of(self.seat(account));
            name.clone_into(&mut of.name);
            of.served = served;
            snapshot.sum_up();
        });
    }

    /// The relay is now in `phase`; once it is stopping it stays so.
    pub fn set_phase(&self, phase: Phase) {
        self.whole.snapshot.send_if_modified(|snapshot| {
            let slot = match self.shard {
                Some(shard) => match snapshot.shards.get_mut(&shard) {
                    Some(slot) => slot,
                    None => return false,
                },
                None => &mut snapshot.phase,
            };
            let changed = *slot != phase && *slot != Phase::Stopping;
            if changed {
                *slot = phase;
            }
            changed
        });
    }

    /// The provider's log did not reach back over this time. It stays reported until the relay ends, or a later one is.
    pub fn set_unproven(&self, unproven: Unproven) {
        self.whole.snapshot.send_modify(|snapshot| snapshot.unproven = Some(unproven));
    }

    /// The start reads back, or (`None`) has done so. Every call wakes the readers: the caller bounds how often.
    pub fn set_reading_back(&self, reading_back: Option<ReadingBack>) {
        self.whole.snapshot.send_modify(|snapshot| snapshot.reading_back = reading_back);
    }

    /// The start waits for this in Kafka, or (`None`) no longer does.
    pub fn set_waiting_for(&self, what: Option<&str>) {
        self.whole.snapshot.send_modify(|snapshot| snapshot.waiting_for = what.map(str::to_owned));
    }

    /// The state now, and each later one.
    pub fn subscribe(&self) -> watch::Receiver<Snapshot> {
        self.whole.snapshot.subscribe()
    }

    /// The relay's loop turned at `now`.
    pub fn turned(&self, now: Instant) {
        self.turned_ms.store(self.running_ms(now), Ordering::Relaxed);
    }

    /// Whether the relay is alive: each of its loops turned within [`TURN_WITHIN`], or has not begun because a start may wait
    /// for Kafka as long as it takes.
    ///
    /// By the clock that stops while the machine is suspended: a loop that could not turn then is not stuck.
    pub fn is_alive(&self, now: Instant) -> bool {
        let turns = self.whole.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.iter().filter_map(Weak::upgrade).all(|turned_ms| {
            let turned_ms = turned_ms.load(Ordering::Relaxed);
            turned_ms == NOT_YET || self.running_ms(now).saturating_sub(turned_ms) <= millis(TURN_WITHIN)
        })
    }

    fn running_ms(&self, at: Instant) -> i64 {
        millis(at.saturating_duration_since(self.whole.began.0))
            - millis(self.whole.began.0.saturating_duration_since(at))
    }

    /// `leg` brought an event that arrived at `at_ms`; one relaxed store, since it is called for every delivery.
    pub fn event(&self, leg: Leg, at_ms: i64) {
        self.whole.events_ms[leg as usize].store(at_ms, Ordering::Relaxed);
    }

    /// The peer of `leg` shows that it is there: any bytes of the socket, a signed webhook, a page.
    pub fn heard(&self, leg: Leg) {
        self.whole.heard_ms[leg as usize].store(steady_ms(), Ordering::Relaxed);
    }

    /// When `leg` brought its last event and when its peer last sent something, in Unix milliseconds by the wall clock
    /// as it is at `now`; neither is later than that, whatever the clock was set to since.
    pub fn last(&self, leg: Leg, now: Moment) -> (Option<i64>, Option<i64>) {
        let told = |of: &[AtomicI64]| Some(of[leg as usize].load(Ordering::Relaxed)).filter(|ms| *ms > 0);
        let event_ms = told(&self.whole.events_ms).map(|ms| ms.min(now.wall_ms));
        let heard_ms =
            told(&self.whole.heard_ms).map(|ms| now.wall_ms.saturating_sub(now.steady_ms.saturating_sub(ms).max(0)));
        (event_ms, heard_ms.max(event_ms))
    }

    /// How long the relay has been running.
    pub fn uptime(&self) -> Duration {
        self.whole.began.0.elapsed()
    }

    /// `at` in Unix milliseconds: the same for the same moment, whatever happens to the wall clock later.
    pub fn unix_ms(&self, at: Instant) -> i64 {
        let since = at.saturating_duration_since(self.whole.began.0);
        self.whole.began.1.saturating_add(millis(since))
    }

    /// The state of the relay now.
    pub fn phase(&self) -> Phase {
        let snapshot = self.whole.snapshot.borrow();
        match self.shard {
            Some(shard) => snapshot.shards.get(&shard).copied().unwrap_or(Phase::Stopping),
            None => snapshot.phase,
        }
    }

    /// The last time that cannot be proven, if there was one.
    pub fn unproven(&self) -> Option<Unproven> {
        self.whole.snapshot.borrow().unproven
    }

    /// What the relay waits for before it takes events, in the words of `/readyz`; empty when it is ready.
    pub fn waiting_for(&self) -> Vec<String> {
        let snapshot = self.whole.snapshot.borrow();
        let words: &[&str] = match (snapshot.phase, &snapshot.reading_back) {
            (Phase::Ready, _) => &[],
            (Phase::Starting, None) => &["kafka", "window"],
            (Phase::Starting, Some(_)) => &["window"],
            (Phase::KafkaUnavailable, _) => &["kafka"],
            (Phase::Stopping, _) => &["stopped"],
        };
        let reading = snapshot.reading_back.iter().filter(|_| snapshot.phase == Phase::Starting);
        let held_up = reading.filter_map(|reading| reading.waiting_for.clone());
        words.iter().map(|word| (*word).to_owned()).chain(held_up).collect()
    }

    /// The state of `leg` now; of several accounts the worst.
    pub fn leg(&self, leg: Leg) -> LegState {
        self.whole.snapshot.borrow().legs[leg as usize].0
    }

    /// The state of `leg` of an account now.
    pub fn leg_of(&self, account: Account, leg: Leg) -> LegState {
        let snapshot = self.whole.snapshot.borrow();
        let of = snapshot.accounts.get(&self.seat(account));
        of.map_or(LegState::Disabled, |of| of.legs[leg as usize].0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_are_woken_by_changes_only() {
        let health = Health::default();
        let mut reader = health.subscribe();
        health.set_leg(Account::FIRST, Leg::Webhook, LegState::Connected);
        assert!(reader.has_changed().is_ok_and(|changed| changed));
        let since = reader.borrow_and_update().legs[Leg::Webhook as usize].1;
        health.set_leg(Account::FIRST, Leg::Webhook, LegState::Connected);
        health.set_phase(Phase::Starting);
        assert!(reader.has_changed().is_ok_and(|changed| !changed));
        assert_eq!(reader.borrow().legs[Leg::Webhook as usize].1, since);
        assert_eq!((health.leg(Leg::Webhook), health.leg(Leg::Backfill)), (LegState::Connected, LegState::Disabled));
    }

    #[test]
    fn signs_of_life_are_kept_a_leg_and_an_event_is_one() {
        let health = Health::default();
        let began = Moment::now();
        assert_eq!(health.last(Leg::Websocket, began), (None, None));
        health.heard(Leg::Websocket);
        health.event(Leg::Websocket, 5_000);
        health.event(Leg::Webhook, 9_000);
        // A minute later; a step of the wall clock moves what is shown along with it.
        let steady_ms = began.steady_ms + 60_000;
        for wall_ms in [began.wall_ms + 60_000, began.wall_ms + 3_660_000, began.wall_ms - 3_540_000] {
            let (event_ms, heard_ms) = health.last(Leg::Websocket, Moment { wall_ms, steady_ms });
            assert_eq!(event_ms, Some(5_000));
            let ago_ms = wall_ms - heard_ms.unwrap_or_default();
            assert!((55_000..=60_000).contains(&ago_ms), "{ago_ms}");
        }
        assert_eq!(health.last(Leg::Webhook, began), (Some(9_000), Some(9_000)));
        health.event(Leg::Webhook, began.wall_ms + 3_600_000);
        assert_eq!(health.last(Leg::Webhook, began), (Some(began.wall_ms), Some(began.wall_ms)), "never in the future");
    }

    #[test]
    fn liveness_goes_by_the_time_that_the_loop_had() {
        let health = Health::default();
        let after = |seconds| health.whole.began.0 + Duration::from_secs(seconds);
        assert!(health.is_alive(after(86_400)), "before the first turn");
        health.turned(after(100));
        assert!(health.is_alive(after(100)) && health.is_alive(after(130)) && health.is_alive(after(0)));
        assert!(!health.is_alive(after(131)));
    }

    #[test]
    fn a_moment_is_shown_as_the_same_time_each_time() {
        let health = Health::default();
        let at = health.whole.began.0 + Duration::from_millis(1_500);
        assert_eq!(health.unix_ms(at), health.whole.began.1 + 1_500);
        assert_eq!(health.unix_ms(health.whole.began.0), health.whole.began.1);
    }

    #[test]
    fn stopping_is_final() {
        let health = Health::default();
        for (phase, expected) in [
            (Phase::Ready, Phase::Ready),
            (Phase::KafkaUnavailable, Phase::KafkaUnavailable),
            (Phase::Ready, Phase::Ready),
            (Phase::Stopping, Phase::Stopping),
            (Phase::Ready, Phase::Stopping),
        ] {
            health.set_phase(phase);
            assert_eq!(health.phase(), expected);
        }
    }

    #[test]
    fn each_leg_has_the_place_of_its_number() {
        for (position, leg) in Leg::ALL.into_iter().enumerate() {
            assert_eq!(leg as usize, position);
        }
    }
}

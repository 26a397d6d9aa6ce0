//! A relay as a process holds it: everything that it knows, and how it begins.

use crate::bugs::Bug;
use crate::inbox::Taking;
use crate::kafka::Producer;
use crate::line::Line;
use crate::provider::{ACCOUNTS, SECOND};
use crate::relay::since;
use crate::scenario::WINDOW_MS;
use crate::walks::Walker;
use crate::warm::ReadBack;
use crate::websocket::Websocket;
use crate::world::{Step, World};
use pepay_relay::clock::{Moment, ProviderTime};
use pepay_relay::kafka::ends::Ends;
use pepay_relay::kafka::run::Run;
use pepay_relay::kafka::settlement::{Claim, Settlement};
use pepay_relay::kafka::shard::Shard;
use pepay_relay::kafka::{Batch, Checkpoint};
use pepay_relay::labels::Outcome;
use pepay_relay::legs::{Arrival, Intake, IntakeReceiver, Position};
use pepay_relay::relay::pipeline::Pipeline;
use pepay_relay::relay::planner::Now;
use pepay_relay::relay::turn::{IDLE_CHECKPOINT_EVERY, Turn};
use std::collections::{HashSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::oneshot;

/// What the relay is called.
pub const NAME: &str = "relay";
/// The largest memory that any intake holds.
pub const INTAKE_BYTES: usize = 64 << 20;

/// What is with Kafka.
#[derive(Debug)]
pub struct Job {
    pub batch: Batch,
    /// The relay leaves with it.
    pub left: bool,
}

/// Who waits for an outcome.
#[derive(Debug)]
pub struct Answer {
    pub event: usize,
    pub attempt: u32,
    pub ticket: u64,
    pub outcome: oneshot::Receiver<Outcome>,
}

/// How far ahead a clock may be when a machine boots: by more than the dedup window.
const BOOTED_AHEAD_MS: i64 = 6 * WINDOW_MS;

/// One process.
#[derive(Debug)]
pub struct Relay {
    pub alive: bool,
    pub stopping: bool,
    pub frozen_until: i64,
    /// How far its wall clock is ahead of the provider's clock. Faults step it; the steady clock is the world's own.
    pub offset_ms: i64,
    /// As `clock::Clock` knows it.
    pub provider: ProviderTime,
    /// The distance of the provider's clock from the wall clock, as a seeded mistake goes by it.
    pub wall_ahead_ms: i64,
    pub run: Run,
    /// A person sets from when on events are to be fetched again.
    pub from_ms: Option<i64>,
    /// In a cluster the node that it runs on; whether the shard is the node's, by the group's last assignment; and the
    /// run of the newest checkpoint when the node decided to claim.
    pub node: Option<usize>,
    pub owned: bool,
    pub decided_on: Option<Option<String>>,
    /// What it takes webhooks from, where they come by the inbox.
    pub taking: Option<Taking>,
    pub transactional_id: Rc<str>,
    /// Its producer, unless it has to make another one.
    pub producer: Option<Producer>,
    /// The transaction with its claim.
    pub claim_written: Option<usize>,
    pub ends: Ends,
    /// When the commit of the last transaction was asked for.
    pub asked_ms: i64,
    pub claimed: bool,
    pub job: Option<Job>,
    pub claim: Claim,
    /// What it leaves with after a torn transaction.
    pub disowns: Option<(Batch, Checkpoint)>,
    /// What is being settled, and since when.
    pub settling: Option<(Settlement, i64)>,
    pub early: Option<Vec<ReadBack>>,
    pub pipeline: Option<Pipeline>,
    pub intake: Intake,
    /// The second account's end of it.
    pub second: Intake,
    pub receiver: IntakeReceiver,
    pub position: Position,
    pub answers: Vec<Answer>,
    pub turn: Turn,
    /// When the last batch was handed to the producer.
    pub sent_ms: i64,
    /// What arrived when the plan was full; the next plan begins with it.
    pub waiting: VecDeque<Arrival>,
    pub turning: bool,
    pub looking: bool,
    /// When the loop turns if nothing happens before, and the number of that turn.
    pub wake: (i64, u64),
    pub websocket: Websocket,
    pub walker: Walker,
    /// Ids that a seeded mistake takes for known.
    pub known: HashSet<Vec<u8>>,
}

impl Relay {
    pub fn now_ms(&self, now: i64) -> i64 {
        now + self.offset_ms
    }

    pub fn moment(&self, now: i64) -> Moment {
        Moment { wall_ms: self.now_ms(now), steady_ms: now }
    }

    pub fn provider_ms(&self, now: i64) -> i64 {
        self.provider.ms(self.moment(now))
    }

    /// The provider's `Date`, in whole seconds, of an answer that came after a moment or out of a cache.
    pub fn learn(&mut self, now: i64, age_s: i64) {
        let date_ms = now / 1000 * 1000 - age_s * 1000;
        self.provider.learn(self.moment(now), date_ms, Duration::from_secs(age_s as u64));
        self.wall_ahead_ms = now / 1000 * 1000 - self.now_ms(now);
    }

    pub fn now(&self, now: i64) -> Now {
        Now::at(self.moment(now), &self.provider)
    }

    /// Whether it may fence, by the group's last assignment.
    pub fn owns(&self) -> bool {
        self.node.is_none() || self.owned
    }

    /// As a seeded mistake takes it.
    pub fn now_by_one_clock(&self, now: i64) -> Now {
        let ms = self.now_ms(now) + self.wall_ahead_ms;
        Now { ms: self.now_ms(now).min(ms), provider_ms: ms, ..self.now(now) }
    }
}

impl World {
    /// A relay of its own starts; `from_ms` where a person sets from when on events are to be fetched.
    pub fn boot(&mut self, from_ms: Option<i64>) {
        let off = [-600_000, 0, 600_000][self.rng.range(0, 2) as usize];
        let offset_ms = if self.scenario.clock_off { off } else { 0 };
        // A machine that boots with a wrong clock, which is set right once the relay has begun.
        let booted_ms = if self.scenario.clock_off && self.rng.chance(300) { BOOTED_AHEAD_MS } else { 0 };
        let number = self.begin_relay(from_ms, (offset_ms, booted_ms), None);
        self.step(number, 10, Step::Line(Line::Fence));
    }

    /// A relay begins, on a node of a cluster or alone, with a wall clock that is so far ahead, and was so much more at boot.
    pub fn begin_relay(
        &mut self,
        from_ms: Option<i64>,
        (offset_ms, booted_ms): (i64, i64),
        node: Option<usize>,
    ) -> usize {
        let number = self.relays.len();
        let run = format!("run-{number:03}");
        let named = node.map(|node| format!("node-{node}"));
        let bytes = if self.scenario.intake_bytes < INTAKE_BYTES { self.scenario.intake_bytes } else { INTAKE_BYTES };
        let (intake, receiver) = Intake::new(bytes);
        let second = intake.of(SECOND, ACCOUNTS[1]);
        // A seeded mistake: what a node calls its shard is not what a relay outside the cluster calls it.
        let mistaken = node.is_some() && self.scenario.has(Bug::ShardZeroByAnotherId);
        let transactional_id = if mistaken { format!("{NAME}.0") } else { Shard::SOLE.transactional_id(NAME) };
        let transactional_id = Rc::from(transactional_id);
        self.relays.push(Relay {
            alive: true,
            stopping: false,
            frozen_until: 0,
            offset_ms,
            provider: ProviderTime::unknown(Moment { wall_ms: self.now + offset_ms + booted_ms, steady_ms: self.now }),
            wall_ahead_ms: 0,
            run: Run::new(run.clone(), NAME, "devnet").on(NAME, Shard::SOLE, named.as_deref()),
            from_ms,
            node,
            owned: node.is_some(),
            decided_on: None,
            taking: None,
            transactional_id,
            producer: None,
            claim_written: None,
            ends: Ends::default(),
            asked_ms: self.now,
            claimed: false,
            job: None,
            claim: Claim::new(run),
            disowns: None,
            settling: None,
            early: None,
            pipeline: None,
            intake,
            second,
            receiver,
            position: Position::default(),
            answers: Vec::new(),
            turn: Turn::new(since(self.now), IDLE_CHECKPOINT_EVERY),
            sent_ms: self.now,
            waiting: VecDeque::new(),
            turning: false,
            looking: false,
            wake: (0, 0),
            websocket: Websocket::new(),
            walker: Walker::new(self.now),
            known: HashSet::new(),
        });
        number
    }
}

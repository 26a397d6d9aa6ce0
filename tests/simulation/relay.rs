//! A relay from its start to its end: the daemon's order of starting, and the loop of `relay/mod` around the
//! production's pipeline.

use crate::bugs::Bug;
use crate::line::Line;
use crate::provider::HISTORY_MS;
use crate::scenario::{OVERLAP_MS, WINDOW_MS};
use crate::socket::Socket;
use crate::walks::Walker;
use crate::world::{Step, World};
use futures::FutureExt;
use pepay_relay::kafka::recover::CLOCKS_DISAGREE_MS;
use pepay_relay::kafka::settlement::{Claim, Settlement};
use pepay_relay::kafka::{Batch, Checkpoint, Marks, Refusal};
use pepay_relay::labels::{Outcome, Topic};
use pepay_relay::legs::Position;
use pepay_relay::legs::{Arrival, Delivery, Intake, IntakeReceiver};
use pepay_relay::normalize;
use pepay_relay::provider::Environment;
use pepay_relay::relay::pipeline::Pipeline;
use pepay_relay::relay::planner::{AHEAD_MAX_MS, Item, Now, Planner, Settings, Settled};
use pepay_relay::relay::progress::{GapCause, Progress};
use pepay_relay::relay::{Version, Versions, Window, resume};
use std::collections::HashSet;
use std::time::Duration;
use tokio::sync::oneshot;

/// An idle relay commits a checkpoint so often.
const IDLE_MS: i64 = 10_000;
/// A webhook is answered within.
const ANSWER_MS: i64 = 8000;
/// The largest memory that any intake holds.
const INTAKE_BYTES: usize = 64 << 20;

/// What is with Kafka.
#[derive(Debug)]
pub struct Job {
    pub batch: Batch,
    pub marks: Marks,
}

/// Who waits for an outcome.
#[derive(Debug)]
pub struct Answer {
    pub event: usize,
    pub attempt: u32,
    pub ticket: u64,
    outcome: oneshot::Receiver<Outcome>,
}

/// A record read back: its time, topic, key, id, version, and whether it is stale.
pub type ReadBack = (i64, Topic, Vec<u8>, Vec<u8>, Option<Version>, bool);

/// One process.
#[derive(Debug)]
pub struct Relay {
    pub alive: bool,
    pub stopping: bool,
    pub frozen_until: i64,
    /// How far its clock is ahead of the provider's.
    offset_ms: i64,
    /// As `clock::Clock` knows it.
    provider_ahead_ms: i64,
    pub run: String,
    pub epoch: u64,
    pub claimed: bool,
    pub commit: u64,
    pub job: Option<Job>,
    pub claim: Claim,
    /// What is being settled, and since when.
    pub settling: Option<(Settlement, i64)>,
    pub early: Option<Vec<ReadBack>>,
    pub pipeline: Option<Pipeline>,
    pub intake: Intake,
    receiver: IntakeReceiver,
    pub position: Position,
    pub answers: Vec<Answer>,
    unsaved: bool,
    turning: bool,
    looking: bool,
    tick: u64,
    pub socket: Socket,
    pub walker: Walker,
    /// Ids that a seeded mistake takes for known.
    known: HashSet<Vec<u8>>,
}

impl Relay {
    pub fn now_ms(&self, now: i64) -> i64 {
        now + self.offset_ms
    }

    pub fn provider_ms(&self, now: i64) -> i64 {
        self.now_ms(now) + self.provider_ahead_ms
    }

    /// The provider's `Date`, in whole seconds.
    pub fn learn(&mut self, now: i64) {
        self.provider_ahead_ms = now / 1000 * 1000 - self.now_ms(now);
    }

    pub fn provider_ahead_ms(&self) -> i64 {
        self.provider_ahead_ms
    }
}

impl World {
    pub fn boot(&mut self) {
        let number = self.relays.len();
        let off = [-600_000, 0, 600_000][self.rng.range(0, 2) as usize];
        let bytes = if self.scenario.intake_bytes < INTAKE_BYTES { self.scenario.intake_bytes } else { INTAKE_BYTES };
        let (intake, receiver) = Intake::new(bytes);
        self.relays.push(Relay {
            alive: true,
            stopping: false,
            frozen_until: 0,
            offset_ms: if self.scenario.clock_off { off } else { 0 },
            provider_ahead_ms: 0,
            run: format!("run-{number}"),
            epoch: 0,
            claimed: false,
            commit: 0,
            job: None,
            claim: Claim::new(format!("run-{number}")),
            settling: None,
            early: None,
            pipeline: None,
            intake,
            receiver,
            position: Position::default(),
            answers: Vec::new(),
            unsaved: false,
            turning: false,
            looking: false,
            tick: 0,
            socket: Socket::new(),
            walker: Walker::default(),
            known: HashSet::new(),
        });
        self.step(number, 10, Step::Line(Line::Fence));
    }

    pub fn relay_step(&mut self, relay: usize, step: Step) {
        match step {
            Step::Line(line) => self.line_step(relay, line),
            Step::Turn => self.turn(relay),
            Step::Tick(tick) if tick == self.relays[relay].tick => self.idle(relay),
            Step::Tick(_) => {}
            Step::WebhookCame(event, attempt) => self.webhook_came(relay, event, attempt),
            Step::WebhookTimeout(ticket) => {
                let answers = &mut self.relays[relay].answers;
                if let Some(at) = answers.iter().position(|answer| answer.ticket == ticket) {
                    let Answer { event, attempt, .. } = answers.remove(at);
                    self.retry_webhook(event, attempt);
                }
            }
            // The legs end when the relay is to stop; what waits for room in the intake goes to the provider.
            _ if self.relays[relay].stopping => {}
            Step::Look => {
                self.relays[relay].looking = false;
                self.socket_look(relay);
                self.walker_look(relay);
            }
            Step::Dial(_) | Step::Frame(..) | Step::Ended(..) | Step::HoldOver(_) | Step::Hint(_) => {
                self.socket_step(relay, step);
            }
            step => self.walker_step(relay, step),
        }
    }

    /// Where reading back ends: the high watermarks.
    pub fn read_back_ends(&self) -> [usize; 3] {
        [Topic::Orders, Topic::Invoices, Topic::DeadLetter].map(|topic| {
            let stable = self.scenario.has(Bug::StableOffsetAsEnd);
            if stable { self.kafka.last_stable_offset(topic) } else { self.kafka.high_watermark(topic) }
        })
    }

    pub fn read_back_records(&self, relay: usize, ends: [usize; 3]) -> Vec<ReadBack> {
        let from_ms = self.read_back_from(relay);
        let mut read = Vec::new();
        for (topic, end) in [Topic::Orders, Topic::Invoices, Topic::DeadLetter].into_iter().zip(ends) {
            let start = self.kafka.log(topic).iter().position(|record| record.at_ms >= from_ms).unwrap_or(end);
            let before = self.kafka.committed(topic, start).count();
            for record in self.kafka.committed(topic, end).skip(before) {
                let Some(event) = record.event else { continue };
                let id = match &self.provider.events[event].text_id {
                    Some(id) if topic != Topic::DeadLetter => id.clone().into_bytes(),
                    _ => record.key.clone(),
                };
                let version = record.version.filter(|_| topic != Topic::DeadLetter);
                read.push((record.at_ms, topic, record.key.clone(), id, version, record.stale));
            }
        }
        read
    }

    fn read_back_from(&self, relay: usize) -> i64 {
        let now_ms = self.relays[relay].now_ms(self.now);
        let from_now = self.scenario.has(Bug::WindowFromNow);
        let predecessor = self.relays[relay].claim.predecessor.as_ref().filter(|_| !from_now);
        let window = Duration::from_millis(WINDOW_MS as u64);
        let again_from_ms = progress(predecessor, now_ms).again_from_ms().filter(|_| !from_now);
        pepay_relay::kafka::recover::read_back_from(now_ms, predecessor, again_from_ms, window)
    }

    /// `Shared::warm`, and then the legs.
    pub fn read_back(&mut self, number: usize, ends: [usize; 3]) {
        let topics = [Topic::Orders, Topic::Invoices, Topic::DeadLetter];
        if topics.into_iter().zip(ends).any(|(topic, end)| self.kafka.last_stable_offset(topic) < end) {
            return self.step(number, 200, Step::Line(Line::ReadBack(ends)));
        }
        let from_ms = self.read_back_from(number);
        let records = match self.relays[number].early.take() {
            Some(records) => records,
            None => self.read_back_records(number, ends),
        };
        let window = Duration::from_millis(WINDOW_MS as u64);
        let (mut ids, mut versions) = (Window::new(window, 1000, [1, 2]), Versions::new(window, 1000, [1, 2]));
        let relay = &mut self.relays[number];
        let now_ms = relay.now_ms(self.now);
        if relay.claim.predecessor.is_some() {
            versions.raise_floor(Version { ms: from_ms.saturating_add(AHEAD_MAX_MS), seq: u64::MAX });
        }
        for (at_ms, topic, key, id, version, stale) in records {
            ids.remember(&id, at_ms);
            if let Some(version) = version.filter(|_| !stale) {
                versions.remember(topic as u8, &key, version, at_ms);
            }
        }
        ids.resume(now_ms);
        let normalize = normalize::Settings { environment: Environment::Devnet, drop: Vec::new(), include_raw: false };
        let settings = Settings { instance: "relay".into(), normalize, orders_latest: true, invoices: true };
        let progress = progress(relay.claim.predecessor.as_ref(), now_ms);
        relay.pipeline = Some(Pipeline::new(Planner::new(settings, ids, versions, progress)));
        self.turn(number);
        self.idle_later(number);
        if self.scenario.stream {
            self.dial_after(number, 10);
        } else {
            self.relays[number].walker.ask();
        }
        self.walker_wake(number);
    }

    /// One turn of the loop, without its waiting.
    pub fn turn(&mut self, number: usize) {
        self.relays[number].turning = false;
        self.submit(number);
        let room = self.relays[number].pipeline.as_ref().map_or(0, Pipeline::room);
        if room > 0 {
            let mut arrived = Vec::new();
            let count = self.relays[number].receiver.recv_many(&mut arrived, room).now_or_never();
            if count.is_some_and(|count| count > 0) {
                self.relays[number].unsaved = true;
                self.take(number, arrived);
                self.turn_soon(number);
            }
        }
        self.submit(number);
        self.tell(number);
        let relay = &self.relays[number];
        let inside = relay.pipeline.as_ref().map_or(0, Pipeline::inside);
        if relay.stopping && relay.job.is_none() && inside == 0 && relay.receiver.bytes() == 0 {
            if relay.unsaved { self.checkpoint(number) } else { self.kill(number) }
        }
    }

    /// Something arrived: the loop turns when it gets to it.
    pub fn turn_soon(&mut self, number: usize) {
        if !std::mem::replace(&mut self.relays[number].turning, true) {
            let delay = self.rng.range(0, 40);
            self.step(number, delay, Step::Turn);
        }
    }

    /// Something waits for room in the intake and looks again.
    pub fn look_later(&mut self, number: usize) {
        if !std::mem::replace(&mut self.relays[number].looking, true) {
            self.step(number, 100, Step::Look);
        }
    }

    fn take(&mut self, number: usize, arrived: Vec<Arrival>) {
        let mark_on_arrival = self.scenario.has(Bug::MarkOnArrival);
        let forgets = self.scenario.has(Bug::ReleaseForgotten);
        let relay = &mut self.relays[number];
        let now = Now { ms: relay.now_ms(self.now), provider_ms: relay.provider_ms(self.now) };
        let Some(pipeline) = &mut relay.pipeline else { return };
        for arrival in arrived {
            let item = match arrival {
                Arrival::Delivery(delivery) => {
                    let id = delivery.bytes.to_vec();
                    if (forgets && relay.known.contains(&id)) || (mark_on_arrival && !relay.known.insert(id)) {
                        answer(delivery, Outcome::Duplicate);
                        continue;
                    }
                    Item::Delivery(delivery, None)
                }
                Arrival::Note(note) => Item::Note(note),
            };
            pipeline.add(item, now, &mut settle);
        }
    }

    fn submit(&mut self, number: usize) {
        let relay = &mut self.relays[number];
        if relay.job.is_some() {
            return;
        }
        let now = Now { ms: relay.now_ms(self.now), provider_ms: relay.provider_ms(self.now) };
        let Some(pipeline) = &mut relay.pipeline else { return };
        let Some((batch, marks)) = pipeline.next(now, &mut settle) else { return };
        relay.unsaved = false;
        self.hand_over(number, batch, marks);
        self.idle_later(number);
    }

    fn hand_over(&mut self, number: usize, batch: Batch, marks: Marks) {
        self.relays[number].job = Some(Job { batch, marks });
        self.step(number, 1, Step::Line(Line::Attempt));
    }

    fn checkpoint(&mut self, number: usize) {
        let relay = &mut self.relays[number];
        let Some(pipeline) = &relay.pipeline else { return };
        let marks = pipeline.planner().marks();
        relay.unsaved = false;
        self.hand_over(number, Batch::default(), marks);
    }

    fn idle_later(&mut self, number: usize) {
        self.relays[number].tick += 1;
        let tick = self.relays[number].tick;
        self.step(number, IDLE_MS, Step::Tick(tick));
    }

    fn idle(&mut self, number: usize) {
        if self.relays[number].job.is_none() {
            self.checkpoint(number);
        }
        self.idle_later(number);
    }

    /// The batch with Kafka stands.
    pub fn stood(&mut self, number: usize, at_ms: i64) {
        let relay = &mut self.relays[number];
        let (Some(Job { batch, .. }), Some(pipeline)) = (relay.job.take(), &mut relay.pipeline) else { return };
        pipeline.committed(batch, at_ms, &mut settle);
        pipeline.expire(at_ms);
        self.turn(number);
    }

    /// Kafka takes no such batch.
    pub fn refused(&mut self, number: usize, _refusal: Refusal) {
        if self.scenario.has(Bug::ResendWithoutHalving) {
            return self.step(number, 500, Step::Line(Line::Attempt));
        }
        let forgets = self.scenario.has(Bug::ReleaseForgotten);
        let relay = &mut self.relays[number];
        let (Some(Job { batch, .. }), Some(pipeline)) = (relay.job.take(), &mut relay.pipeline) else { return };
        if forgets {
            for delivery in pipeline.abandon() {
                relay.known.insert(delivery.bytes.to_vec());
            }
        } else if let Err(error) = pipeline.refused(batch, "too large") {
            self.oracle.fail(format!("no way out: {error}"));
        }
        self.turn(number);
    }

    /// Tells the legs the position, and peers their outcomes.
    fn tell(&mut self, number: usize) {
        let relay = &mut self.relays[number];
        if let Some(pipeline) = &relay.pipeline {
            relay.position = pipeline.planner().progress().position();
        }
        if relay.receiver.bytes() > INTAKE_BYTES {
            self.oracle.fail("P5: the intake holds more than its bound");
        }
        let mut index = 0;
        while let Some(answer) = self.relays[number].answers.get_mut(index) {
            let Ok(outcome) = answer.outcome.try_recv() else {
                index += 1;
                continue;
            };
            let Answer { event, attempt, .. } = self.relays[number].answers.remove(index);
            match outcome {
                Outcome::Failed | Outcome::Rejected => self.retry_webhook(event, attempt),
                _ => self.judge_answer(event),
            }
        }
    }

    fn webhook_came(&mut self, number: usize, event: usize, attempt: u32) {
        let bytes = self.provider.events[event].bytes.clone();
        self.counter += 1;
        let ticket = self.counter;
        let relay = &mut self.relays[number];
        let (reply, outcome) = oneshot::channel();
        let received_at_ms = relay.now_ms(self.now);
        if relay.pipeline.is_none() || relay.stopping || relay.intake.try_offer(bytes, received_at_ms, reply).is_err() {
            return self.retry_webhook(event, attempt);
        }
        relay.answers.push(Answer { event, attempt, ticket, outcome });
        self.step(number, ANSWER_MS, Step::WebhookTimeout(ticket));
        self.turn_soon(number);
    }

    /// The legs end, and the loop once everything inside is settled.
    pub fn drain(&mut self, number: usize) {
        self.socket_stops(number);
        self.turn_soon(number);
    }
}

/// `Shared::progress`.
fn progress(predecessor: Option<&Checkpoint>, now_ms: i64) -> Progress {
    let overlap = Duration::from_millis(OVERLAP_MS as u64);
    let mut progress = match predecessor {
        Some(checkpoint) => resume(&checkpoint.marks, overlap),
        None => Progress::resume(None, None, Vec::new(), overlap),
    };
    match (progress.verified_ms(), predecessor.and_then(Checkpoint::at_ms)) {
        (Some(_), Some(last_ms)) => progress.restarted(last_ms),
        (_, last_ms) => {
            progress.began(last_ms.map_or(now_ms, |last_ms| last_ms - CLOCKS_DISAGREE_MS));
            progress.begin_at(GapCause::FirstStart, HISTORY_MS, now_ms)
        }
    };
    progress
}

fn settle(told: Settled<'_>) {
    if let Settled::Delivery(delivery, fate, _) = told {
        answer(delivery, fate.outcome);
    }
}

fn answer(delivery: Delivery, outcome: Outcome) {
    if let Some(reply) = delivery.reply {
        reply.send(outcome).unwrap_or_default();
    }
}

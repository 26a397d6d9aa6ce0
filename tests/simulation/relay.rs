//! A relay from its start to its end: the production's start, and its turn and pipeline, obeyed as `relay/mod` does.

use crate::bugs::Bug;
use crate::line::Line;
use crate::process::{Answer, INTAKE_BYTES, Job};
use crate::provider::ACCOUNTS;
use crate::scenario::START_MS;
use crate::world::{Step, World};
use bytes::Bytes;
use futures::FutureExt;
use pepay_relay::clock::rfc3339;
use pepay_relay::kafka::{Batch, Refusal};
use pepay_relay::labels::{Account, Outcome, Topic};
use pepay_relay::legs::{Arrival, Delivery};
use pepay_relay::provider::event::decode;
use pepay_relay::relay::pipeline::{Load, Pipeline};
use pepay_relay::relay::planner::{Ending, Item, Settled};
use pepay_relay::relay::progress::Progress;
use pepay_relay::relay::turn::{Event, IDLE_CHECKPOINT_EVERY, Next, Wait};
use serde_json::{Value, json};
use std::time::Duration;

/// An idle relay commits a checkpoint this often.
const IDLE_MS: i64 = IDLE_CHECKPOINT_EVERY.as_millis() as i64;
/// A webhook is answered within.
pub const ANSWER_MS: i64 = 8000;

impl World {
    pub fn relay_step(&mut self, relay: usize, step: Step) {
        match step {
            Step::Line(line) => self.line_step(relay, line),
            Step::Turn => self.turn(relay),
            Step::Wake(number) if number == self.relays[relay].wake.1 => self.turn(relay),
            Step::Wake(_) => {}
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
                self.inbox_look(relay);
            }
            Step::Dial(_) | Step::Frame(..) | Step::Ended(..) | Step::HoldOver(_) | Step::Hint(_) => {
                self.socket_step(relay, step);
            }
            Step::InboxRead => self.inbox_read(relay),
            Step::InboxEnds => self.inbox_ends(relay),
            step => self.walker_step(relay, step),
        }
    }

    /// Obeys the turn until it decides to wait for what is not there yet.
    pub fn turn(&mut self, number: usize) {
        self.relays[number].turning = false;
        self.checkpoint_of_the_plan(number);
        let mut received = false;
        while let Some(load) = self.load(number) {
            let next = self.relays[number].turn.next(since(self.now), load);
            match next {
                Next::Submit => self.submit(number),
                Next::Checkpoint { left } => {
                    let checkpoint = self.relays[number].pipeline.as_mut().and_then(Pipeline::checkpoint);
                    self.hand_over(number, checkpoint, left);
                }
                Next::Wait(wait) => {
                    if !received && self.receive(number, wait) {
                        // The rest comes with a turn of its own, so that others come between.
                        received = true;
                        continue;
                    }
                    if received {
                        self.turn_soon(number);
                    }
                    self.wake_at(number, wait.until);
                    break;
                }
                Next::End => {
                    self.tell(number);
                    return self.left(number);
                }
            }
            self.take(number);
        }
        self.tell(number);
    }

    /// What the pipeline holds; none while there is no pipeline or a mistake keeps it busy.
    fn load(&self, number: usize) -> Option<Load> {
        let relay = &self.relays[number];
        let load = relay.pipeline.as_ref()?.load();
        (relay.job.is_some() == load.sent).then_some(load)
    }

    /// Takes what has arrived, if anything has.
    fn receive(&mut self, number: usize, wait: Wait) -> bool {
        if wait.room == 0 {
            return false;
        }
        let now = since(self.now);
        let relay = &mut self.relays[number];
        let mut arrived = Vec::new();
        let count = relay.receiver.recv_many(&mut arrived, wait.room).now_or_never();
        if count.is_none() && relay.stopping {
            // The legs have ended, and nothing is queued.
            relay.turn.on(now, Event::Closed);
            return true;
        }
        relay.waiting.extend(arrived);
        self.take(number);
        count.is_some()
    }

    /// The loop turns at that time if nothing happens before.
    fn wake_at(&mut self, number: usize, until: Duration) {
        let at = START_MS + until.as_micros().div_ceil(1000) as i64;
        let (wake_at, wake) = &mut self.relays[number].wake;
        if *wake_at == at {
            return;
        }
        *wake_at = at;
        *wake += 1;
        let wake = *wake;
        self.step(number, (at - self.now).max(0), Step::Wake(wake));
    }

    /// A seeded mistake: a checkpoint that is due goes while a plan gathers, with the marks of that plan.
    fn checkpoint_of_the_plan(&mut self, number: usize) {
        let relay = &self.relays[number];
        let due = self.now >= relay.sent_ms + IDLE_MS;
        if !due || !self.scenario.has(Bug::IdleCheckpointOfThePlan) {
            return;
        }
        if let Some(pipeline) = relay.pipeline.as_ref().filter(|_| relay.job.is_none())
            && pipeline.load().planned > 0
        {
            let mut batch = Batch::default();
            let committed = self.kafka.marks(usize::MAX).remove(ACCOUNTS[0]).unwrap_or_default();
            batch.record(Topic::Control, b"relay/marks/a", &marks_of(first(pipeline), &committed));
            self.hand_over(number, Some(batch), false);
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

    /// Plans what arrived, as far as there is room.
    fn take(&mut self, number: usize) {
        let mark_on_arrival = self.scenario.has(Bug::MarkOnArrival);
        let forgets = self.scenario.has(Bug::ReleaseForgotten);
        let spends = self.scenario.has(Bug::DeadLetterSpendsTheId);
        let one_clock = self.scenario.has(Bug::FutureByOneClock);
        let one_window = self.scenario.has(Bug::WindowWithoutAccount);
        let mut ahead = Vec::new();
        let relay = &mut self.relays[number];
        let now = if one_clock { relay.now_by_one_clock(self.now) } else { relay.now(self.now) };
        let Some(pipeline) = &mut relay.pipeline else { return };
        let before = relay.waiting.len();
        while pipeline.load().room > 0
            && let Some(arrival) = relay.waiting.pop_front()
        {
            let item = match arrival {
                Arrival::Delivery(mut delivery) => {
                    if one_window {
                        delivery.account = Account::FIRST;
                    }
                    let id = delivery.bytes.to_vec();
                    if spends && decode(&id).is_ok_and(|event| relay.known.contains(event.id.as_bytes())) {
                        answer(delivery, Outcome::Duplicate);
                        continue;
                    }
                    if (forgets && relay.known.contains(&id)) || (mark_on_arrival && !relay.known.insert(id)) {
                        answer(delivery, Outcome::Duplicate);
                        continue;
                    }
                    Item::Delivery(delivery, None)
                }
                Arrival::Note(account, note) => Item::Note(account, note),
                Arrival::Admitted(account, admission, _) => Item::Admitted(account, admission),
            };
            pipeline.add(item, now, &mut |told| settle(told, &mut ahead));
        }
        let taken = before - relay.waiting.len();
        if taken > 0 {
            relay.turn.on(since(self.now), Event::Arrived(taken));
        }
        self.judge_ahead(&ahead);
    }

    fn submit(&mut self, number: usize) {
        let one_clock = self.scenario.has(Bug::FutureByOneClock);
        let relay = &mut self.relays[number];
        let now = if one_clock { relay.now_by_one_clock(self.now) } else { relay.now(self.now) };
        let mut ahead = Vec::new();
        let batch =
            relay.pipeline.as_mut().and_then(|pipeline| pipeline.next(now, &mut |told| settle(told, &mut ahead)));
        self.judge_ahead(&ahead);
        self.hand_over(number, batch, false);
    }

    fn hand_over(&mut self, number: usize, batch: Option<Batch>, left: bool) {
        let Some(batch) = batch else { return };
        let relay = &mut self.relays[number];
        relay.job = Some(Job { batch, left });
        relay.sent_ms = self.now;
        relay.turn.on(since(self.now), Event::Submitted);
        self.step(number, 1, Step::Line(Line::Settle));
    }

    /// The batch with Kafka is committed.
    pub fn stood(&mut self, number: usize) {
        let relay = &mut self.relays[number];
        let own_ms = relay.now(self.now).own_ms;
        let (Some(Job { batch, .. }), Some(pipeline)) = (relay.job.take(), &mut relay.pipeline) else { return };
        let spends = self.scenario.has(Bug::DeadLetterSpendsTheId);
        let known = &mut relay.known;
        let mut answered = 0;
        let mut ahead = Vec::new();
        pipeline.committed(batch, own_ms, &mut |settled: Settled<'_>| {
            if let Settled::Delivery(_, Ending { event_id, dead_letter: Some(_), .. }, _) = &settled
                && spends
            {
                known.insert(event_id.to_vec());
            }
            answered += usize::from(settled.answers());
            settle(settled, &mut ahead);
        });
        pipeline.expire(own_ms);
        relay.turn.on(since(self.now), Event::Verdict { answered });
        self.judge_ahead(&ahead);
        self.turn(number);
    }

    /// Kafka takes no such batch.
    pub fn refused(&mut self, number: usize, refusal: Refusal) {
        if self.scenario.has(Bug::ResendWithoutHalving) {
            return self.step(number, 500, Step::Line(Line::Attempt));
        }
        self.inbox_refused(number);
        let forgets = self.scenario.has(Bug::ReleaseForgotten);
        let relay = &mut self.relays[number];
        let (Some(Job { batch, .. }), Some(pipeline)) = (relay.job.take(), &mut relay.pipeline) else { return };
        if forgets {
            for delivery in pipeline.abandon() {
                relay.known.insert(delivery.bytes.to_vec());
            }
        } else if let Err(error) = pipeline.refused(batch, refusal, "refused") {
            self.oracle.fail(format!("no way out: {error}"));
        }
        relay.turn.on(since(self.now), Event::Verdict { answered: 0 });
        self.turn(number);
    }

    /// Gives the legs the position, and peers their outcomes.
    fn tell(&mut self, number: usize) {
        let relay = &mut self.relays[number];
        if let Some(pipeline) = &relay.pipeline {
            relay.position = first(pipeline).position(pipeline.window().span());
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

    /// The legs end, and the loop once everything inside is settled.
    pub fn drain(&mut self, number: usize) {
        self.relays[number].stopping = true;
        self.socket_stops(number);
        self.turn_soon(number);
    }
}

/// The marks of a progress, made outside of the pipeline, with the gaps of `committed`: what may never leave before its
/// batch.
pub fn marks_of(progress: &Progress, committed: &[u8]) -> Vec<u8> {
    let mut marks: Value = serde_json::from_slice(committed).unwrap_or_else(|_| json!({ "gaps": [] }));
    marks["cursor"] = json!(progress.cursor().map(|id| id.to_string()));
    marks["verified"] = json!(progress.verified_ms().map(rfc3339));
    marks.to_string().into_bytes()
}

/// How far the first account has come.
pub fn first(pipeline: &Pipeline) -> &Progress {
    pipeline.progress().next().expect("an account").1
}

/// The time as the turn counts it.
pub fn since(now: i64) -> Duration {
    Duration::from_millis((now - START_MS) as u64)
}

/// Answers the peer; notes the event that was taken for one of the future.
fn settle(told: Settled<'_>, ahead: &mut Vec<Bytes>) {
    if let Settled::Delivery(delivery, fate, _) = told {
        if fate.ahead {
            ahead.push(fate.event_id);
        }
        answer(delivery, fate.outcome);
    }
}

fn answer(delivery: Delivery, outcome: Outcome) {
    if let Some(reply) = delivery.reply {
        reply.send(outcome).unwrap_or_default();
    }
}

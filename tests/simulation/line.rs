//! The producer's thread between the production's run, claim and settlement, which decide what it does next, and the
//! model of Kafka.

use crate::bugs::Bug;
use crate::kafka::{LateEnd, State};
use crate::process::{Job, Relay};
use crate::requests::Request;
use crate::still::Moment;
use crate::world::{Do, Exit, Step, World};
use pepay_relay::kafka::ends::Ends;
use pepay_relay::kafka::errors::Class;
use pepay_relay::kafka::settlement::{self, Attempted, End, Next, Settlement, Wait};
use pepay_relay::kafka::{Newest, Refusal, Shape};
use pepay_relay::labels::Topic;
use std::time::Duration;

/// Between two attempts while Kafka is away.
const RETRY_MS: i64 = 500;
/// How often a claim looks whether the shard is its own again.
const LOOK_MS: i64 = 50;
/// Between two looks at who wrote the newest checkpoint.
const CONFIRM_MS: i64 = 2000;
/// After this long a record that did not reach Kafka is given up.
const SLOW_MS: i64 = 3000;
/// Largest value that Kafka takes.
pub const VALUE_BYTES_MAX: usize = 3000;
/// librdkafka repeats an end whose answer does not come no sooner than this.
const REPEATED_MS: i64 = 800;
/// How long the network may hold a request.
const HELD_MS: i64 = 60_000;

/// A step of the producer's thread.
#[derive(Debug)]
pub enum Line {
    /// A node of a cluster looks which run it would follow.
    Decide,
    /// `init_transactions`.
    Fence,
    /// Reads the newest checkpoint up to the high watermark of the beginning.
    Newest(Why, Option<usize>),
    /// A batch is to be settled.
    Settle,
    Attempt,
    /// Sends what is left of a transaction.
    Produce(usize, Vec<Request>),
    /// Asks for the commit, for the first time or again.
    Commit(usize, Ask),
    Committed,
    /// Reads the journal up to this end, then opens the legs.
    ReadBack(usize),
}

/// How often an end is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    First,
    Again,
}

/// Why the newest checkpoint is read.
#[derive(Clone, Copy, Debug)]
pub enum Why {
    /// A new producer was made.
    Fenced,
    /// To see which run wrote it.
    Look,
}

impl World {
    pub fn line_step(&mut self, relay: usize, line: Line) {
        let slow = if self.rng.chance(50) { 1500 } else { 30 };
        let delay = self.rng.range(1, slow);
        if !self.kafka.up && !matches!(line, Line::Committed | Line::Commit(..)) {
            return self.step(relay, RETRY_MS, Step::Line(line));
        }
        if self.waits_for_its_shard(relay, &line) {
            return;
        }
        match line {
            Line::Decide => self.decide(relay, delay),
            Line::Fence => {
                if self.scenario.has(Bug::WarmStartBeforeFencing) && self.relays[relay].early.is_none() {
                    let end = self.control_end();
                    let records = self.read_back_records(relay, end);
                    self.relays[relay].early = Some(records);
                    // Reading takes its time.
                    return self.step(relay, 1000, Step::Line(Line::Fence));
                }
                if !self.relays[relay].owns() {
                    self.oracle.fail("P7: a node fences the owner of a shard that its group has taken away".to_owned());
                }
                let producer = self.kafka.init(&self.relays[relay].transactional_id);
                let fencing = &mut self.relays[relay];
                fencing.producer = Some(producer);
                fencing.ends = Ends::default();
                self.repeat_init(relay);
                self.stand_still(relay, Moment::Fenced);
                self.step(relay, delay, Step::Line(Line::Newest(Why::Fenced, None)));
            }
            Line::Newest(Why::Look, None) if self.is_shown(relay) => {
                let stable = self.kafka.last_stable_offset(Topic::Control);
                let newest = self.kafka.newest(stable);
                self.newest(relay, delay, Why::Look, newest, stable);
            }
            Line::Newest(why, end) => {
                let end = end.unwrap_or_else(|| self.control_end());
                if self.kafka.last_stable_offset(Topic::Control) < end {
                    return self.step(relay, 200, Step::Line(Line::Newest(why, Some(end))));
                }
                let newest = self.kafka.newest(end);
                self.newest(relay, delay, why, newest, end);
            }
            Line::Settle => {
                let settlement = self.settle(relay);
                let next = settlement.begin(self.relays[relay].producer.is_some());
                self.relays[relay].settling = Some((settlement, self.now));
                self.obey(relay, 1, Wait::No, next);
            }
            Line::Attempt => self.attempt(relay, delay),
            Line::Produce(transaction, requests) => self.produce(relay, delay, transaction, requests),
            Line::Commit(transaction, ask) => self.commit(relay, delay, transaction, ask),
            Line::Committed => {
                let took = self.now - self.relays[relay].asked_ms;
                self.relays[relay].ends.took(Duration::from_millis(took as u64));
                self.attempted(relay, delay, Attempted::Committed);
            }
            Line::ReadBack(end) => self.read_back(relay, end),
        }
    }

    /// Whether the shard was taken away meanwhile, so that this step fences nobody: a claim waits, and a relay that has claimed looks.
    fn waits_for_its_shard(&mut self, number: usize, line: &Line) -> bool {
        let Relay { claimed, .. } = self.relays[number];
        let next = match line {
            Line::Fence => Next::Fence,
            Line::Attempt if !claimed => Next::Attempt,
            _ => return false,
        };
        if settlement::claims(&next, self.relays[number].owns()) || self.scenario.has(Bug::ClaimsWhatWasTaken) {
            return false;
        }
        match next {
            next if claimed => self.obey(number, 1, Wait::No, next),
            Next::Fence => self.step(number, LOOK_MS, Step::Line(Line::Fence)),
            _ => self.step(number, LOOK_MS, Step::Line(Line::Attempt)),
        }
        true
    }

    /// Whether a node of a cluster need not wait for open transactions when it looks.
    fn is_shown(&self, number: usize) -> bool {
        let relay = &self.relays[number];
        let stable = self.kafka.newest(usize::MAX);
        let settling = relay.settling.as_ref().filter(|_| relay.node.is_some());
        settling.is_some_and(|(settlement, _)| settlement.is_shown_by(stable.as_ref()))
    }

    fn newest(&mut self, number: usize, delay: i64, why: Why, mut newest: Option<Newest>, end: usize) {
        let without_run = self.scenario.has(Bug::CommitWithoutRun);
        let Some(mut settlement) = self.settlement(number) else {
            let next = self.relays[number].claim.fenced(newest.map(|newest| newest.checkpoint));
            return match next {
                Next::Attempt if !self.may_claim(number, end) => self.exit(number, Exit::Settings),
                Next::Stop(End::Elsewhere) => self.elsewhere(number),
                next => self.obey(number, delay, Wait::No, next),
            };
        };
        let relay = &mut self.relays[number];
        if without_run && let Some(newest) = &mut newest {
            newest.checkpoint.run = relay.run.id().to_owned();
        }
        let (wait, next) = match why {
            Why::Fenced => (Wait::No, settlement.fenced(newest.as_ref())),
            Why::Look => settlement.looked(newest.as_ref()),
        };
        relay.settling = Some((settlement, self.now));
        match next {
            Next::Stop(End::Torn) if self.scenario.has(Bug::TornTakenForWhole) => self.committed(number),
            Next::Stop(End::Lost) if self.scenario.has(Bug::LostTailIsARival) => self.fenced_by(number, newest),
            Next::Stop(End::TakenOver) => self.fenced_by(number, newest),
            next => self.obey(number, delay, wait, next),
        }
    }

    /// How the batch is settled.
    fn settle(&self, number: usize) -> Settlement {
        let relay = &self.relays[number];
        let shape = relay.job.as_ref().map_or(Shape::Control, |job| job.batch.shape());
        let settlement = relay.run.settle(shape);
        if self.scenario.has(Bug::PredecessorIsARival) { settlement.behind(Vec::new()) } else { settlement }
    }

    /// What is being settled, if it is more than the claim.
    fn settlement(&mut self, number: usize) -> Option<Settlement> {
        if !self.relays[number].claimed {
            return None;
        }
        let settling = self.relays[number].settling.take();
        Some(settling.map_or_else(|| self.settle(number), |(settlement, _)| settlement))
    }

    /// Shows the settlement what became of an attempt.
    fn attempted(&mut self, number: usize, delay: i64, attempted: Attempted) {
        let began = self.relays[number].settling.as_ref().map_or(self.now, |(_, began)| *began);
        let at_once = match attempted {
            Attempted::Aborted(Class::Invalid) => self.scenario.has(Bug::InvalidAtOnce),
            Attempted::Aborted(Class::Slow) => self.scenario.has(Bug::SlowSentWhole),
            _ => false,
        };
        if at_once && self.relays[number].job.is_some() {
            return match attempted {
                Attempted::Aborted(Class::Slow) => self.step(number, RETRY_MS, Step::Line(Line::Attempt)),
                _ => self.refused(number, Refusal::Invalid),
            };
        }
        if self.relays[number].disowns.is_some() {
            // Whatever became of it, the relay leaves.
            return self.exit(number, Exit::Failed);
        }
        if self.relays[number].ends.spent() && !self.scenario.has(Bug::LateEndTrusted) {
            self.relays[number].producer = None;
            self.relays[number].ends = Ends::default();
        }
        if matches!(attempted, Attempted::InDoubt { .. }) {
            self.stand_still(number, Moment::Unknown);
        }
        let (wait, next) = match self.settlement(number) {
            None => self.relays[number].claim.attempted(attempted),
            Some(mut settlement) => {
                let took = Duration::from_millis((self.now - began) as u64);
                let has_producer = self.relays[number].producer.is_some();
                let next = settlement.attempted(attempted, has_producer, took);
                self.relays[number].settling = Some((settlement, began));
                next
            }
        };
        self.obey(number, delay, wait, next);
    }

    fn obey(&mut self, relay: usize, delay: i64, wait: Wait, next: Next) {
        let length = |wait: Wait| match wait {
            Wait::No => delay,
            Wait::Retry => RETRY_MS,
            Wait::Confirm => CONFIRM_MS,
        };
        // A claim waits where it is about to fence or to write.
        let owns = self.relays[relay].owns() || !self.relays[relay].claimed;
        let (longer, next) = settlement::allowed(next, owns);
        let wait = length(wait).max(length(longer));
        match next {
            Next::Fence => self.step(relay, wait, Step::Line(Line::Fence)),
            Next::Look => self.step(relay, wait, Step::Line(Line::Newest(Why::Look, None))),
            Next::Attempt => self.step(relay, wait, Step::Line(Line::Attempt)),
            Next::Committed(_) => {
                self.committed(relay);
            }
            Next::Refused(refusal) => {
                self.relays[relay].settling = None;
                self.refused(relay, refusal);
            }
            Next::Stop(End::Torn) => {
                let leaving = &mut self.relays[relay];
                let now_ms = leaving.now_ms(self.now);
                leaving.disowns = Some(leaving.run.disown(format!("{}-disowning", leaving.run.id()), now_ms));
                self.attempt(relay, wait);
            }
            Next::Stop(_) => self.exit(relay, Exit::Failed),
        }
    }

    fn attempt(&mut self, number: usize, delay: i64) {
        let relay = &mut self.relays[number];
        relay.ends.begin();
        let asked = relay.ends.asked();
        let Some(producer) = relay.producer.clone().filter(|producer| self.kafka.may_write(producer)) else {
            return self.attempted(number, delay, Attempted::InDoubt { fenced: true, asked });
        };
        if self.kafka.is_ending(&producer) {
            return self.step(number, 5, Step::Line(Line::Attempt));
        }
        if self.kafka.sequence_lost {
            return self.attempted(number, delay, Attempted::InDoubt { fenced: false, asked });
        }
        if self.active && self.rng.chance(self.scenario.aborts) {
            let class = if self.rng.chance(500) { Class::Abort } else { Class::Retry };
            let took = self.repeats_end(number, false).unwrap_or(1);
            self.relays[number].ends.took(Duration::from_millis(took as u64));
            return self.attempted(number, took, Attempted::Aborted(class));
        }
        if self.active && self.rng.chance(self.scenario.invalid) {
            return self.attempted(number, 1, Attempted::Aborted(Class::Invalid));
        }
        if self.orders_of(number) > self.scenario.in_time {
            return self.attempted(number, SLOW_MS, Attempted::Aborted(Class::Slow));
        }
        if self.is_too_large(number) {
            return self.attempted(number, 1, Attempted::Aborted(Class::Size));
        }
        let mut requests = self.requests(number);
        let records = requests.iter().flat_map(|(topic, records)| records.iter().map(|record| (*topic, record.event)));
        let events = records.filter_map(|(topic, event)| Some((topic, event?))).collect();
        let transaction = self.kafka.begin(self.now, Some((number, producer, events)));
        requests.iter_mut().for_each(|(_, records)| records.iter_mut().for_each(|one| one.transaction = transaction));
        if !self.relays[number].claimed {
            self.relays[number].claim_written = Some(transaction);
        }
        let later = requests.split_off(self.rng.range(0, requests.len() as i64) as usize);
        self.meet_late_ends(delay);
        self.send(requests);
        self.kafka.transactions[transaction].whole = later.is_empty();
        self.step(number, delay, Step::Line(Line::Produce(transaction, later)));
    }

    /// An end of a transaction is asked for twice, perhaps: how long it takes then. The first copy comes late.
    fn repeats_end(&mut self, number: usize, commits: bool) -> Option<i64> {
        let producer = self.relays[number].producer.clone()?;
        if !self.active || !self.rng.chance(self.scenario.late_ends) {
            return None;
        }
        let soonest = if self.scenario.hasty { REPEATED_MS / 8 } else { REPEATED_MS };
        let took = self.rng.range(soonest, soonest + REPEATED_MS / 2);
        self.kafka.late_ends.push(Some(LateEnd { producer, commits }));
        let held = took + self.rng.range(1, HELD_MS);
        self.after(held, Do::LateEnd(self.kafka.late_ends.len() - 1));
        Some(took)
    }

    /// A transaction begins: what is under way of the ends before it arrives meanwhile, mostly.
    fn meet_late_ends(&mut self, delay: i64) {
        for number in 0..self.kafka.late_ends.len() {
            if self.kafka.late_ends[number].is_some() && self.rng.chance(700) {
                let at = self.rng.range(0, 2 * delay + 1);
                self.after(at, Do::LateEnd(number));
            }
        }
    }

    fn send(&mut self, requests: Vec<Request>) {
        for (topic, records) in requests {
            records.into_iter().for_each(|record| self.kafka.append(topic, record));
        }
    }

    /// The rest of a transaction.
    fn produce(&mut self, number: usize, delay: i64, transaction: usize, requests: Vec<Request>) {
        let asked = self.relays[number].ends.asked();
        if self.is_fenced(number) {
            return self.attempted(number, delay, Attempted::InDoubt { fenced: true, asked });
        }
        let refused = self.kafka.sequence_lost || self.kafka.transactions[transaction].state != State::Open;
        if refused && !requests.is_empty() {
            return self.attempted(number, delay, Attempted::InDoubt { fenced: false, asked });
        }
        self.send(requests);
        self.kafka.transactions[transaction].whole = true;
        self.stand_still(number, Moment::Committing);
        self.step(number, delay, Step::Line(Line::Commit(transaction, Ask::First)));
    }

    /// Its producer is none that may write.
    fn is_fenced(&self, number: usize) -> bool {
        self.relays[number].producer.as_ref().is_none_or(|producer| !self.kafka.may_write(producer))
    }

    fn orders_of(&self, relay: usize) -> usize {
        let Relay { job, disowns, .. } = &self.relays[relay];
        let job = job.as_ref().filter(|_| disowns.is_none());
        job.map_or(0, |job| job.batch.records().filter(|record| record.topic() == Topic::Orders).count())
    }

    fn is_too_large(&self, relay: usize) -> bool {
        let Relay { job: Some(Job { batch, .. }), disowns: None, .. } = &self.relays[relay] else { return false };
        self.orders_of(relay) > self.scenario.batch_records_max
            || batch.records().any(|record| {
                let output = record.topic() != Topic::Control;
                output && record.value().is_some_and(|value| value.len() > VALUE_BYTES_MAX)
            })
    }

    fn commit(&mut self, relay: usize, delay: i64, transaction: usize, ask: Ask) {
        let in_doubt = |fenced| Attempted::InDoubt { fenced, asked: true };
        let later = self.rng.range(1, 300);
        if ask == Ask::First {
            self.relays[relay].ends.ask();
            self.relays[relay].asked_ms = self.now;
        }
        if !self.kafka.up {
            return self.attempted(relay, later, in_doubt(false));
        }
        if self.is_fenced(relay) {
            return self.attempted(relay, later, in_doubt(true));
        }
        match self.kafka.transactions[transaction].state {
            State::Open => {}
            // An earlier copy was obeyed.
            State::Decided | State::Committed => return self.step(relay, delay, Step::Line(Line::Committed)),
            State::Aborted => return self.attempted(relay, later, in_doubt(false)),
        }
        if ask == Ask::First
            && let Some(took) = self.repeats_end(relay, true)
        {
            return self.step(relay, took, Step::Line(Line::Commit(transaction, Ask::Again)));
        }
        let doubt = self.active && self.rng.chance(self.scenario.doubts);
        if doubt && self.rng.chance(500) {
            // The request was lost, and the transaction is still open.
            return self.attempted(relay, later, in_doubt(false));
        }
        self.kafka.transactions[transaction].state = State::Decided;
        self.decided(transaction);
        if doubt {
            self.attempted(relay, later, in_doubt(false));
        } else {
            self.step(relay, delay, Step::Line(Line::Committed));
        }
    }

    /// The coordinator has decided to commit.
    fn decided(&mut self, transaction: usize) {
        let markers = self.rng.range(1, 60);
        self.after(markers, Do::Markers(transaction));
        if self.kafka.transactions[transaction].whole {
            self.judge_commit(transaction);
        } else {
            self.judge_torn(transaction);
        }
    }

    /// A late copy of an end arrives.
    pub fn late_end(&mut self, number: usize) {
        if let Some((transaction, LateEnd { commits: true, .. })) = self.kafka.late_end(number) {
            self.decided(transaction);
        }
    }

    fn committed(&mut self, number: usize) {
        self.relays[number].settling = None;
        if !self.relays[number].claimed {
            return self.claimed(number);
        }
        let Relay { job, run, .. } = &mut self.relays[number];
        job.iter().for_each(|job| run.committed(&job.batch));
        self.stood(number);
    }
}

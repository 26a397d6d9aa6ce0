//! The producer's thread between the production's claim and settlement, which say what it does next, and the model of
//! Kafka.

use crate::bugs::Bug;
use crate::kafka::{Record, State};
use crate::relay::{Job, marks_of};
use crate::world::{Do, Step, World};
use pepay_relay::clock::rfc3339;
use pepay_relay::kafka::errors::Class;
use pepay_relay::kafka::settlement::{Attempted, Next, Settlement, Wait};
use pepay_relay::kafka::{Batch, Checkpoint, Keys, Marks, Newest, Refusal, Shape};
use pepay_relay::labels::Topic;
use std::rc::Rc;
use std::time::Duration;

/// Between two attempts while Kafka is away.
const RETRY_MS: i64 = 500;
/// Between two looks at who wrote the newest checkpoint.
const CONFIRM_MS: i64 = 2000;
/// After this long a record that did not reach Kafka is given up.
const SLOW_MS: i64 = 3000;
/// Largest value that Kafka takes.
pub const VALUE_BYTES_MAX: usize = 3000;

/// A step of the producer's thread.
#[derive(Debug)]
pub enum Line {
    /// `init_transactions`.
    Fence,
    /// Reads the newest checkpoint up to the high watermark of the beginning.
    Newest(Why, Option<usize>),
    Attempt,
    Commit(usize),
    Committed,
    /// Reads the journal up to this end, then opens the legs.
    ReadBack(usize),
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
        if !self.kafka.up && !matches!(line, Line::Committed | Line::Commit(_)) {
            return self.step(relay, RETRY_MS, Step::Line(line));
        }
        match line {
            Line::Fence => {
                if self.scenario.has(Bug::WarmStartBeforeFencing) && self.relays[relay].early.is_none() {
                    let end = self.control_end();
                    let records = self.read_back_records(relay, end);
                    self.relays[relay].early = Some(records);
                    // Reading takes its time.
                    return self.step(relay, 1000, Step::Line(Line::Fence));
                }
                self.relays[relay].epoch = self.kafka.init();
                self.step(relay, delay, Step::Line(Line::Newest(Why::Fenced, None)));
            }
            Line::Newest(why, end) => {
                let end = end.unwrap_or_else(|| self.control_end());
                if self.kafka.last_stable_offset(Topic::Control) < end {
                    return self.step(relay, 200, Step::Line(Line::Newest(why, Some(end))));
                }
                let newest = self.kafka.newest(end);
                self.newest(relay, delay, why, newest, end);
            }
            Line::Attempt => self.attempt(relay, delay),
            Line::Commit(transaction) => self.commit(relay, delay, transaction),
            Line::Committed => self.committed(relay),
            Line::ReadBack(end) => self.read_back(relay, end),
        }
    }

    fn newest(&mut self, number: usize, delay: i64, why: Why, mut newest: Option<Newest>, end: usize) {
        let without_run = self.scenario.has(Bug::CommitWithoutRun);
        let settlement = self.settlement(number);
        let relay = &mut self.relays[number];
        let (wait, next) = match settlement {
            None => {
                relay.marks = self.kafka.marks(end);
                (Wait::No, relay.claim.fenced(newest.map(|newest| newest.checkpoint)))
            }
            Some(mut settlement) => {
                if without_run && let Some(newest) = &mut newest {
                    newest.checkpoint.run.clone_from(&relay.run);
                }
                let next = match why {
                    Why::Fenced => (Wait::No, settlement.fenced(newest.as_ref())),
                    Why::Look => settlement.looked(newest.as_ref()),
                };
                relay.settling = Some((settlement, self.now));
                next
            }
        };
        self.obey(number, delay, wait, next);
    }

    /// What is being settled, if it is more than the claim.
    fn settlement(&mut self, number: usize) -> Option<Settlement> {
        let relay = &mut self.relays[number];
        if !relay.claimed {
            return None;
        }
        let shape = relay.job.as_ref().map_or(Shape::Control, |job| job.batch.shape());
        let fresh = || Settlement::new(relay.run.clone(), relay.commit, shape);
        Some(relay.settling.take().map_or_else(fresh, |(settlement, _)| settlement))
    }

    /// Tells the settlement what became of an attempt.
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
        let (wait, next) = match self.settlement(number) {
            None => self.relays[number].claim.attempted(attempted),
            Some(mut settlement) => {
                let took = Duration::from_millis((self.now - began) as u64);
                let next = settlement.attempted(attempted, true, took);
                self.relays[number].settling = Some((settlement, began));
                next
            }
        };
        self.obey(number, delay, wait, next);
    }

    fn obey(&mut self, relay: usize, delay: i64, wait: Wait, next: Next) {
        let wait = match wait {
            Wait::No => delay,
            Wait::Retry => RETRY_MS,
            Wait::Confirm => CONFIRM_MS,
        };
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
            Next::Stop(_) => self.kill(relay),
        }
    }

    fn attempt(&mut self, relay: usize, delay: i64) {
        if self.relays[relay].epoch != self.kafka.epoch {
            return self.attempted(relay, delay, Attempted::InDoubt { fenced: true, asked: false });
        }
        if self.kafka.is_ending() {
            return self.step(relay, 5, Step::Line(Line::Attempt));
        }
        if self.active && self.rng.chance(self.scenario.aborts) {
            let class = if self.rng.chance(500) { Class::Abort } else { Class::Retry };
            return self.attempted(relay, 1, Attempted::Aborted(class));
        }
        if self.active && self.rng.chance(self.scenario.invalid) {
            return self.attempted(relay, 1, Attempted::Aborted(Class::Invalid));
        }
        if self.orders_of(relay) > self.scenario.in_time {
            return self.attempted(relay, SLOW_MS, Attempted::Aborted(Class::Slow));
        }
        if self.is_too_large(relay) {
            return self.attempted(relay, 1, Attempted::Aborted(Class::Size));
        }
        let transaction = self.kafka.begin(self.now, false);
        self.append(relay, transaction);
        self.step(relay, delay, Step::Line(Line::Commit(transaction)));
    }

    fn orders_of(&self, relay: usize) -> usize {
        let job = self.relays[relay].job.as_ref();
        job.map_or(0, |job| job.batch.records().filter(|record| record.topic() == Topic::Orders).count())
    }

    fn is_too_large(&self, relay: usize) -> bool {
        let Some(Job { batch, .. }) = &self.relays[relay].job else { return false };
        self.orders_of(relay) > self.scenario.batch_records_max
            || batch.records().any(|record| {
                let output = record.topic() != Topic::Control;
                output && record.value().is_some_and(|value| value.len() > VALUE_BYTES_MAX)
            })
    }

    fn append(&mut self, number: usize, transaction: usize) {
        let relay = &self.relays[number];
        let at_ms = relay.now_ms(self.now);
        let later = relay.pipeline.as_ref().filter(|_| self.scenario.has(Bug::CursorBeforeCommit));
        let stale_off = self.scenario.has(Bug::StaleCheckOff);
        let mut records = Vec::new();
        let mut heartbeats = 0;
        let claim = marks_batch(&relay.marks);
        let batch = relay.job.as_ref().map_or(&claim, |job| &job.batch);
        for record in batch.records() {
            let header = |wanted: &str| record.headers().find(|(name, _)| *name == wanted).map(|(_, value)| value);
            let id = header("ce_id").unwrap_or(record.key());
            let known = std::str::from_utf8(id).ok().and_then(|id| self.provider.by_id.get(id).copied());
            let event = known.or_else(|| numbered(record.value()));
            if event.is_none() && record.topic() != Topic::Control {
                heartbeats += 1;
            }
            let closes_gap = record.key().strip_prefix(b"relay/gap/").filter(|_| record.topic() == Topic::Control);
            let mut value = record.value().filter(|_| record.topic() == Topic::Control).map(<[u8]>::to_vec);
            if let Some(later) = later
                && record.key().starts_with(b"relay/marks/")
            {
                value = value.map(|value| marks_of(later.progress(), &value));
            }
            let made = Record {
                key: record.key().to_vec(),
                event: event.filter(|_| record.topic() != Topic::Control),
                stale: header("relay_stale").is_some() && !stale_off,
                at_ms,
                checkpoint: None,
                value: value.map(Rc::from),
                refused: matches!(header("relay_reason"), Some(b"too_large" | b"invalid_record")),
                cleaned: false,
                closes_gap: closes_gap.and_then(|id| std::str::from_utf8(id).ok()?.parse().ok()),
                transaction,
            };
            records.push((record.topic(), made));
        }
        let fresh = |commit| Checkpoint::new(relay.run.clone(), commit, rfc3339(at_ms), "devnet");
        let checkpoint = match &relay.job {
            Some(Job { batch, left }) => {
                Checkpoint { journal: batch.journal(), left: *left, ..fresh(relay.commit + 1) }
            }
            None => fresh(0).following(relay.claim.predecessor.as_ref()),
        };
        let control = Record {
            key: b"relay/checkpoint".to_vec(),
            event: None,
            stale: false,
            at_ms,
            checkpoint: Some(Rc::new(checkpoint)),
            value: None,
            refused: false,
            cleaned: false,
            closes_gap: None,
            transaction,
        };
        // As the writer does: last in its partition, so that the journal that it counts is before it.
        records.push((Topic::Control, control));
        for (topic, record) in records {
            self.kafka.append(topic, record);
        }
        if heartbeats > 0 {
            self.oracle.fail("a frame that is no event became a record");
        }
    }

    fn commit(&mut self, relay: usize, delay: i64, transaction: usize) {
        let in_doubt = |fenced| Attempted::InDoubt { fenced, asked: true };
        let later = self.rng.range(1, 300);
        if !self.kafka.up {
            return self.attempted(relay, later, in_doubt(false));
        }
        let open = self.kafka.transactions[transaction].state == State::Open;
        if self.relays[relay].epoch != self.kafka.epoch || !open {
            return self.attempted(relay, later, in_doubt(true));
        }
        let doubt = self.active && self.rng.chance(self.scenario.doubts);
        if doubt && self.rng.chance(500) {
            // The request was lost, and the transaction is still open.
            return self.attempted(relay, later, in_doubt(false));
        }
        self.kafka.transactions[transaction].state = State::Decided;
        let markers = self.rng.range(1, 60);
        self.after(markers, Do::Markers(transaction));
        self.judge_commit(transaction);
        if doubt {
            self.attempted(relay, later, in_doubt(false));
        } else {
            self.step(relay, delay, Step::Line(Line::Committed));
        }
    }

    fn committed(&mut self, number: usize) {
        self.relays[number].settling = None;
        if !self.relays[number].claimed {
            return self.claimed(number);
        }
        self.relays[number].commit += 1;
        self.stood(number);
    }

    fn claimed(&mut self, relay: usize) {
        self.relays[relay].claimed = true;
        let end = self.control_end();
        self.step(relay, 1, Step::Line(Line::ReadBack(end)));
    }
}

/// What a claim writes: the marks that it found.
fn marks_batch(marks: &Marks) -> Batch {
    let mut batch = Batch::default();
    for (account, value) in marks {
        batch.record(Topic::Control, Keys::new("relay").marks(account).as_bytes(), value);
    }
    batch
}

/// The event's number in bytes that came without an id.
fn numbered(value: Option<&[u8]>) -> Option<usize> {
    let text = String::from_utf8_lossy(value?);
    let rest = &text[text.find(r#""n":"#)? + 4..];
    rest[..rest.find(',')?].parse().ok()
}

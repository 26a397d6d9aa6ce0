//! The warm start of a relay: the production's start, of what the model of Kafka holds.

use crate::bugs::Bug;
use crate::line::Line;
use crate::process::NAME;
use crate::provider::{ACCOUNTS, HISTORY_MS, SECOND};
use crate::relay::since;
use crate::scenario::OVERLAP_MS;
use crate::still::Moment;
use crate::world::{Step, World};
use pepay_relay::kafka::shard::Shard;
use pepay_relay::kafka::{Checkpoint, Predecessor};
use pepay_relay::labels::{Account, Topic};
use pepay_relay::legs::Note;
use pepay_relay::normalize;
use pepay_relay::provider::{Environment, EventId};
use pepay_relay::relay::journal::{self, Entries, Entry};
use pepay_relay::relay::pipeline::Pipeline;
use pepay_relay::relay::planner::{Planner, Settings};
use pepay_relay::relay::start::{self, Start, Started};
use pepay_relay::relay::turn::{IDLE_CHECKPOINT_EVERY, Turn};
use pepay_relay::relay::{Version, Versions};
use std::rc::Rc;
use std::time::Duration;

/// A record of the control topic that the start reads.
#[derive(Clone, Debug)]
pub enum Control {
    Journal(Rc<[u8]>),
    Checkpoint(Rc<Checkpoint>),
}

/// A record, and its time.
pub type ReadBack = (Control, i64);

impl World {
    /// Where reading the control topic ends: the high watermark.
    pub fn control_end(&self) -> usize {
        let stable = self.scenario.has(Bug::StableOffsetAsEnd);
        if stable { self.kafka.last_stable_offset(Topic::Control) } else { self.kafka.high_watermark(Topic::Control) }
    }

    pub fn read_back_records(&self, relay: usize, end: usize) -> Vec<ReadBack> {
        let Some(from_ms) = self.read_back_from(relay) else { return Vec::new() };
        let records = self.kafka.committed(Topic::Control, end).skip_while(|record| record.at_ms < from_ms);
        let read = records.filter_map(|record| {
            let control = match (&record.checkpoint, &record.value) {
                (Some(checkpoint), _) => Control::Checkpoint(Rc::clone(checkpoint)),
                (None, Some(value)) if record.key == b"relay/journal" => Control::Journal(Rc::clone(value)),
                _ => return None,
            };
            Some((control, record.at_ms))
        });
        read.collect()
    }

    fn begin(&self, number: usize) -> Start {
        let relay = &self.relays[number];
        let now_ms = relay.now_ms(self.now);
        let settings = start::Settings {
            unread_ms: self.unread_ms(number),
            window: Duration::from_millis(self.scenario.window_ms as u64),
            ids_max: 1000,
            overlap: Duration::from_millis(OVERLAP_MS as u64),
            first_start: Duration::from_millis((now_ms - HISTORY_MS) as u64),
            from_ms: relay.from_ms,
        };
        let now = relay.now(self.now);
        let predecessor = relay.claim.predecessor.clone();
        let predecessor = predecessor.map(|checkpoint| Predecessor { checkpoint, marks: relay.run.marks().clone() });
        Start::new(&settings, &ACCOUNTS.map(str::to_owned), predecessor.as_ref(), now, [1, 2])
    }

    fn read_back_from(&self, number: usize) -> Option<i64> {
        if self.scenario.has(Bug::WindowFromNow) {
            let now_ms = self.relays[number].now_ms(self.now);
            return Some(start::read_back_from(
                now_ms,
                None,
                None,
                Duration::from_millis(self.scenario.window_ms as u64),
            ));
        }
        self.begin(number).read_from_ms()
    }

    /// The warm start, and then the legs.
    pub fn read_back(&mut self, number: usize, end: usize) {
        if self.kafka.last_stable_offset(Topic::Control) < end {
            return self.step(number, 200, Step::Line(Line::ReadBack(end)));
        }
        if self.relays[number].taking.is_none() {
            self.open_inbox(number);
            if self.stand_still(number, Moment::ReadingBack) {
                return self.step(number, 1, Step::Line(Line::ReadBack(end)));
            }
        }
        let records = match self.relays[number].early.take() {
            Some(records) => records,
            None => self.read_back_records(number, end),
        };
        let records = if self.scenario.has(Bug::MemoryOfTheOutputs) { self.of_the_outputs(&records) } else { records };
        let mut start = self.begin(number);
        for (record, at_ms) in &records {
            match record {
                Control::Journal(value) => start.journal(value, *at_ms),
                Control::Checkpoint(checkpoint) => start.checkpoint(checkpoint),
            }
        }
        let now = self.relays[number].now(self.now);
        let by_the_wall = self.scenario.has(Bug::ResumeByTheWallClock);
        let start = start.finish(if by_the_wall { now.ms } else { now.own_ms });
        let forgot = start.forgot.is_some() && !self.scenario.has(Bug::JournalTrusted);
        self.oracle.forgot |= forgot;
        let Started { window, mut versions, accounts, .. } =
            if forgot { start } else { trusting(start, &records, self.scenario.window_ms) };
        if self.scenario.has(Bug::DeadLetterGivesAVersion) {
            for (record, at_ms) in &records {
                let Control::Journal(value) = record else { continue };
                let note = |entry: Entry<'_>| {
                    let id = std::str::from_utf8(entry.id).ok().and_then(|id| id.parse::<EventId>().ok());
                    if let Some(EventId { ms, seq }) = id.filter(|_| entry.topic == Topic::DeadLetter) {
                        let version = Version { ms: i64::try_from(ms).unwrap_or(i64::MAX), seq };
                        versions.remember(Topic::DeadLetter as u8, entry.id, version, *at_ms);
                    }
                };
                journal::read(value, note).unwrap();
            }
        }
        let normalize = normalize::Settings { environment: Environment::Devnet, drop: Vec::new(), include_raw: false };
        let schema_ids = normalize::SchemaIds::default();
        let settings = Settings {
            instance: NAME.into(),
            normalize,
            orders_latest: true,
            invoices: true,
            schema_ids,
            shard: Shard::SOLE,
        };
        let turn = Turn::new(since(self.now), IDLE_CHECKPOINT_EVERY);
        let mark = self.inbox_mark(number);
        let relay = &mut self.relays[number];
        let planner = Planner::new(settings, window, versions, accounts).taking_from(mark);
        relay.pipeline = Some(Pipeline::new(planner));
        relay.turn = turn;
        // Nothing but webhooks brings what is the second account's.
        let at_ms = relay.provider_ms(self.now);
        let _ = relay.second.note(Note::WebsocketUp { at_ms });
        self.turn(number);
        if self.scenario.stream {
            self.dial_after(number, 10);
        } else {
            self.relays[number].walker.ask();
        }
        self.walker_wake(number);
        self.take_from_inbox(number);
        self.stand_still(number, Moment::Accepting);
    }
}

impl World {
    /// A seeded mistake: the journal as if it named what the output topics still hold.
    fn of_the_outputs(&self, records: &[ReadBack]) -> Vec<ReadBack> {
        let held = |entry: &Entry<'_>| {
            let account = if entry.account == ACCOUNTS[1] { SECOND } else { Account::FIRST };
            let id = std::str::from_utf8(entry.id).ok();
            let event = id.and_then(|id| self.provider.by_id.get(&(account, id.to_owned())).copied());
            self.kafka.committed(entry.topic, usize::MAX).any(|record| record.event == event && event.is_some())
        };
        let mut count = 0;
        let mut filtered = Vec::new();
        for (record, at_ms) in records {
            let record = match record {
                Control::Journal(value) => {
                    let mut entries = Entries::default();
                    journal::read(value, |entry| {
                        if held(&entry) {
                            entries.push(&entry);
                        }
                    })
                    .unwrap();
                    count += entries.count();
                    filtered.extend(entries.values().map(|value| (Control::Journal(Rc::from(value)), *at_ms)));
                    continue;
                }
                Control::Checkpoint(checkpoint) => Checkpoint { journal: count, ..Checkpoint::clone(checkpoint) },
            };
            count = 0;
            filtered.push((Control::Checkpoint(Rc::new(record)), *at_ms));
        }
        filtered
    }
}

/// A seeded mistake: the versions of a journal that is not whole count as if it were.
fn trusting(started: Started, records: &[ReadBack], window_ms: i64) -> Started {
    if started.forgot.is_none() {
        return started;
    }
    let mut versions = Versions::new(Duration::from_millis(window_ms as u64), 1000, [1, 2]);
    for (record, at_ms) in records {
        let Control::Journal(value) = record else { continue };
        let note = |entry: Entry<'_>| {
            if let Some(version) = entry.version {
                versions.remember(entry.topic as u8, entry.key, version, *at_ms);
            }
        };
        journal::read(value, note).unwrap();
    }
    Started { versions, ..started }
}

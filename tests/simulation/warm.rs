//! The warm start of a relay: the production's start, of what the model of Kafka holds.

use crate::bugs::Bug;
use crate::kafka::Record;
use crate::line::Line;
use crate::provider::HISTORY_MS;
use crate::relay::since;
use crate::scenario::{OVERLAP_MS, WINDOW_MS};
use crate::world::{Step, World};
use pepay_relay::labels::Topic;
use pepay_relay::normalize;
use pepay_relay::provider::Environment;
use pepay_relay::relay::Version;
use pepay_relay::relay::pipeline::Pipeline;
use pepay_relay::relay::planner::{Now, Planner, Settings};
use pepay_relay::relay::start::{self, Entry, Start, Started};
use pepay_relay::relay::turn::{IDLE_CHECKPOINT_EVERY, Turn};
use std::time::Duration;

/// A record read back, as [`Entry`].
#[derive(Clone, Debug)]
pub struct ReadBack {
    at_ms: i64,
    topic: Topic,
    key: Vec<u8>,
    id: Vec<u8>,
    version: Option<Version>,
    stale: bool,
}

impl World {
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
                let Record { key, version, stale, at_ms, .. } = record.clone();
                read.push(ReadBack { at_ms, topic, key, id, version, stale });
            }
        }
        read
    }

    fn begin(&self, number: usize) -> Start {
        let relay = &self.relays[number];
        let now_ms = relay.now_ms(self.now);
        let settings = start::Settings {
            window: Duration::from_millis(WINDOW_MS as u64),
            ids_max: 1000,
            overlap: Duration::from_millis(OVERLAP_MS as u64),
            first_start: Duration::from_millis((now_ms - HISTORY_MS) as u64),
            from_ms: None,
        };
        let now = Now { ms: now_ms, provider_ms: relay.provider_ms(self.now) };
        Start::new(&settings, relay.claim.predecessor.as_ref(), now, [1, 2])
    }

    fn read_back_from(&self, number: usize) -> i64 {
        if self.scenario.has(Bug::WindowFromNow) {
            let now_ms = self.relays[number].now_ms(self.now);
            return start::read_back_from(now_ms, None, None, Duration::from_millis(WINDOW_MS as u64));
        }
        self.begin(number).read_from_ms()
    }

    /// The warm start, and then the legs.
    pub fn read_back(&mut self, number: usize, ends: [usize; 3]) {
        let topics = [Topic::Orders, Topic::Invoices, Topic::DeadLetter];
        if topics.into_iter().zip(ends).any(|(topic, end)| self.kafka.last_stable_offset(topic) < end) {
            return self.step(number, 200, Step::Line(Line::ReadBack(ends)));
        }
        let records = match self.relays[number].early.take() {
            Some(records) => records,
            None => self.read_back_records(number, ends),
        };
        let mut start = self.begin(number);
        for ReadBack { at_ms, topic, key, id, version, stale } in &records {
            let (published_at_ms, version, stale) = (*at_ms, *version, *stale);
            start.note(Entry { published_at_ms, topic: *topic, key, id, version, stale, replay: false });
        }
        let Started { window, mut versions, progress, .. } = start.finish();
        if self.scenario.has(Bug::DeadLetterGivesAVersion) {
            for ReadBack { at_ms, key, version, .. } in records.iter().filter(|one| one.topic == Topic::DeadLetter) {
                version.iter().for_each(|version| versions.remember(Topic::DeadLetter as u8, key, *version, *at_ms));
            }
        }
        let normalize = normalize::Settings { environment: Environment::Devnet, drop: Vec::new(), include_raw: false };
        let settings = Settings { instance: "relay".into(), normalize, orders_latest: true, invoices: true };
        let turn = Turn::new(since(self.now), IDLE_CHECKPOINT_EVERY);
        let relay = &mut self.relays[number];
        relay.pipeline = Some(Pipeline::new(Planner::new(settings, window, versions, progress)));
        relay.turn = turn;
        self.turn(number);
        if self.scenario.stream {
            self.dial_after(number, 10);
        } else {
            self.relays[number].walker.ask();
        }
        self.walker_wake(number);
    }
}

//! What a transaction sends to Kafka: the production's records, in its sequence, in requests as librdkafka makes them.

use crate::bugs::Bug;
use crate::kafka::Record;
use crate::process::Job;
use crate::provider::{ACCOUNTS, SECOND};
use crate::relay::{first, marks_of};
use crate::world::World;
use pepay_relay::kafka::{Batch, Checkpoint, Sequenced};
use pepay_relay::labels::{Account, Topic};
use std::collections::VecDeque;
use std::rc::Rc;

/// Records of one topic that leave in one request.
pub type Request = (Topic, Vec<Record>);

impl World {
    /// The requests of a transaction: partitions are served in turn, each in its order.
    pub fn requests(&mut self, number: usize) -> Vec<Request> {
        let mut queues: Vec<VecDeque<Record>> = Topic::WRITTEN.map(|_| VecDeque::new()).into();
        for (topic, record) in self.records(number) {
            queues[topic as usize].push_back(record);
        }
        let mut requests = Vec::new();
        while queues.iter().any(|queue| !queue.is_empty()) {
            let full: Vec<Topic> =
                Topic::WRITTEN.into_iter().filter(|topic| !queues[*topic as usize].is_empty()).collect();
            let topic = full[self.rng.range(0, full.len() as i64 - 1) as usize];
            let queue = &mut queues[topic as usize];
            // Mostly one request takes all that there is for a partition.
            let count = if self.rng.chance(800) { queue.len() } else { self.rng.range(1, queue.len() as i64) as usize };
            requests.push((topic, queue.drain(..count).collect()));
        }
        requests
    }

    /// The records of a transaction in their sequence; their transaction is set later.
    fn records(&mut self, number: usize) -> Vec<(Topic, Record)> {
        let relay = &self.relays[number];
        let at_ms = relay.now_ms(self.now);
        let claim;
        let (batch, checkpoint): (&Batch, Checkpoint) = match (&relay.disowns, &relay.job) {
            (Some((batch, checkpoint)), _) => (batch, checkpoint.clone()),
            (None, Some(Job { batch, left })) => (batch, relay.run.checkpoint(batch, *left, at_ms)),
            (None, None) => {
                claim = relay.run.claim(relay.claim.predecessor.as_ref(), at_ms);
                (&claim.0, claim.1.clone())
            }
        };
        let checkpoint = Checkpoint { inbox: self.inbox_told(number, checkpoint.inbox), ..checkpoint };
        let mut records = Vec::new();
        for place in batch.sequence() {
            records.push(match place {
                Sequenced::Record(record) => (record.topic(), self.record(number, record)),
                Sequenced::Checkpoint => {
                    let checkpoint = Some(Rc::new(checkpoint.clone()));
                    (Topic::Control, Record { checkpoint, ..Record::new(b"relay/checkpoint", at_ms) })
                }
            });
        }
        if records.iter().any(|(topic, record)| record.event.is_none() && *topic != Topic::Control) {
            self.oracle.fail("a frame that is no event became a record");
        }
        records
    }

    fn record(&self, number: usize, record: pepay_relay::kafka::Record<'_>) -> Record {
        let relay = &self.relays[number];
        let later = relay.pipeline.as_ref().filter(|_| self.scenario.has(Bug::CursorBeforeCommit));
        let header = |wanted: &str| record.headers().find(|(name, _)| *name == wanted).map(|(_, value)| value);
        let is_control = record.topic() == Topic::Control;
        let id = header("ce_id").unwrap_or(record.key());
        let account = if header("relay_account") == Some(ACCOUNTS[1].as_bytes()) { SECOND } else { Account::FIRST };
        let known = std::str::from_utf8(id).ok();
        let known = known.and_then(|id| self.provider.by_id.get(&(account, id.to_owned())).copied());
        let event = known.or_else(|| numbered(record.value())).filter(|_| !is_control);
        let closes_gap = record.key().strip_prefix(b"relay/gap/").filter(|_| is_control);
        let mut value = record.value().filter(|_| is_control).map(<[u8]>::to_vec);
        if let Some(later) = later
            && record.key() == b"relay/marks/a"
        {
            value = value.map(|value| marks_of(first(later), &value));
        }
        Record {
            event,
            stale: header("relay_stale").is_some() && !self.scenario.has(Bug::StaleCheckOff),
            value: value.map(Rc::from),
            refused: matches!(header("relay_reason"), Some(b"too_large" | b"invalid_record")),
            closes_gap: closes_gap.and_then(|id| std::str::from_utf8(id).ok()?.parse().ok()),
            ..Record::new(record.key(), relay.now_ms(self.now))
        }
    }
}

/// The event's number in bytes that came without an id.
fn numbered(value: Option<&[u8]>) -> Option<usize> {
    let text = String::from_utf8_lossy(value?);
    let rest = &text[text.find(r#""n":"#)? + 4..];
    rest[..rest.find(',')?].parse().ok()
}

//! The records of one transaction, in one arena that is reused from batch to batch.

use crate::labels::Topic;
use std::ops::Range;

/// Records in the order in which they are to be written.
///
/// Keys, values and headers are in one buffer, so that a batch costs no allocation once it has grown.
#[derive(Debug, Default)]
pub struct Batch {
    arena: Vec<u8>,
    records: Vec<Slot>,
    headers: Vec<(&'static str, Range<usize>)>,
    deliveries: usize,
    journal: u64,
    inbox: Option<i64>,
}

#[derive(Clone, Debug)]
struct Slot {
    topic: Topic,
    key: Range<usize>,
    /// `None` is a tombstone.
    value: Option<Range<usize>>,
    headers: Range<usize>,
    /// `None` is the key's own, by the partitioner.
    partition: Option<i32>,
}

/// What matters of a batch when it is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Records of the control topic alone, which are all in one partition: it cannot be torn.
    Control,
    /// One delivery: it cannot be halved.
    Single,
    /// Several deliveries.
    Several,
}

/// A place in the sequence of a transaction.
#[derive(Clone, Copy, Debug)]
pub enum Sequenced<'b> {
    /// A record of the batch.
    Record(Record<'b>),
    /// The checkpoint, if the transaction has one.
    Checkpoint,
}

/// One record of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Record<'b> {
    batch: &'b Batch,
    slot: &'b Slot,
}

impl Batch {
    /// Appends a record. `value` writes its value; it may refuse, and then nothing is appended.
    pub fn push<T, E>(
        &mut self,
        topic: Topic,
        value: impl FnOnce(&mut Vec<u8>) -> Result<T, E>,
        key: impl FnOnce(&T) -> &[u8],
    ) -> Result<T, E> {
        let start = self.arena.len();
        let made = match value(&mut self.arena) {
            Ok(made) => made,
            Err(refusal) => {
                self.arena.truncate(start);
                return Err(refusal);
            }
        };
        let value = start..self.arena.len();
        let key = self.keep(key(&made));
        let headers = self.headers.len()..self.headers.len();
        self.records.push(Slot { topic, key, value: Some(value), headers, partition: None });
        Ok(made)
    }

    /// Appends a record whose key and value are there already.
    pub fn record(&mut self, topic: Topic, key: &[u8], value: &[u8]) {
        let value = Some(self.keep(value));
        let key = self.keep(key);
        let headers = self.headers.len()..self.headers.len();
        self.records.push(Slot { topic, key, value, headers, partition: None });
    }

    /// Appends a record without a value to this partition: compaction forgets its key there. Before a topic got more
    /// partitions a key may have had another one.
    pub fn tombstone(&mut self, topic: Topic, key: &[u8], partition: i32) {
        let key = self.keep(key);
        let headers = self.headers.len()..self.headers.len();
        self.records.push(Slot { topic, key, value: None, headers, partition: Some(partition) });
    }

    /// Adds a header to the record appended last.
    pub fn header(&mut self, name: &'static str, value: &[u8]) {
        self.header_with(name, |buffer| buffer.extend_from_slice(value));
    }

    /// Adds a header, whose value `write` appends, to the record appended last.
    pub fn header_with(&mut self, name: &'static str, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.arena.len();
        write(&mut self.arena);
        self.headers.push((name, start..self.arena.len()));
        if let Some(last) = self.records.last_mut() {
            last.headers.end = self.headers.len();
        }
    }

    /// Appends the last record once more, for another topic: the same key, value and headers.
    pub fn repeat_last(&mut self, topic: Topic) {
        if let Some(last) = self.records.last() {
            let slot = Slot { topic, ..last.clone() };
            self.records.push(slot);
        }
    }

    /// Sets how many deliveries it answers for, since a batch of one cannot be halved, and how many entries its journal
    /// records have.
    pub fn answers_for(&mut self, deliveries: usize, journal: u64) {
        self.deliveries = deliveries;
        self.journal = journal;
    }

    /// Sets the offset of the inbox before which everything is committed with it.
    pub fn takes_inbox_to(&mut self, offset: Option<i64>) {
        self.inbox = offset;
    }

    /// The offset in the inbox up to which everything is committed with it.
    pub fn inbox(&self) -> Option<i64> {
        self.inbox
    }

    /// Entries of its journal records.
    pub fn journal(&self) -> u64 {
        self.journal
    }

    /// What matters of it when it is settled.
    pub fn shape(&self) -> Shape {
        if self.records.iter().all(|slot| slot.topic == Topic::Control) {
            Shape::Control
        } else if self.deliveries == 1 {
            Shape::Single
        } else {
            Shape::Several
        }
    }

    /// The records, in order.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        self.records.iter().map(|slot| Record { batch: self, slot })
    }

    /// The sequence in which a transaction is handed over.
    ///
    /// The control topic's records first: its partition is then asked for together with those of the first records. The
    /// checkpoint is the last in that partition, so that where it is, the journal that it counts is too.
    pub fn sequence(&self) -> impl Iterator<Item = Sequenced<'_>> {
        let of = |control: bool| self.records().filter(move |record| (record.topic() == Topic::Control) == control);
        of(true).map(Sequenced::Record).chain([Sequenced::Checkpoint]).chain(of(false).map(Sequenced::Record))
    }

    /// The record at `index`, counted from 0.
    pub fn get(&self, index: usize) -> Option<Record<'_>> {
        self.records.get(index).map(|slot| Record { batch: self, slot })
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes of all keys, values and headers, each counted once.
    pub fn bytes(&self) -> usize {
        self.arena.len()
    }

    /// Forgets the records and keeps the memory.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.records.clear();
        self.headers.clear();
        self.deliveries = 0;
        self.journal = 0;
        self.inbox = None;
    }

    fn keep(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        start..self.arena.len()
    }
}

impl<'b> Record<'b> {
    /// The topic it goes to.
    pub fn topic(self) -> Topic {
        self.slot.topic
    }

    /// The partition it goes to; `None` is the key's own, by the partitioner.
    pub fn partition(self) -> Option<i32> {
        self.slot.partition
    }

    /// Its key.
    pub fn key(self) -> &'b [u8] {
        &self.batch.arena[self.slot.key.clone()]
    }

    /// Its value; `None` is a tombstone.
    pub fn value(self) -> Option<&'b [u8]> {
        self.slot.value.clone().map(|range| &self.batch.arena[range])
    }

    /// Its headers, in order.
    pub fn headers(self) -> impl ExactSizeIterator<Item = (&'static str, &'b [u8])> {
        let batch = self.batch;
        self.batch.headers[self.slot.headers.clone()]
            .iter()
            .map(move |(name, value)| (*name, &batch.arena[value.clone()]))
    }
}

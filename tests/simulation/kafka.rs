//! A Kafka of one partition a topic and one transactional id beside a foreign one.
//!
//! A transaction is open, decided (the coordinator has written its decision, the markers are not there yet, and the
//! last stable offset stays before it), committed or aborted. Nothing that was acknowledged is ever lost.

use pepay_relay::kafka::{Checkpoint, Keys, Marks, Newest};
use pepay_relay::labels::Topic;
use std::collections::HashSet;
use std::rc::Rc;

/// A record, as far as anybody asks.
#[derive(Clone, Debug)]
pub struct Record {
    pub key: Vec<u8>,
    /// The event by its number; `None` for records of the control topic and of others.
    pub event: Option<usize>,
    pub stale: bool,
    /// Its timestamp: the clock of who wrote it.
    pub at_ms: i64,
    pub checkpoint: Option<Rc<Checkpoint>>,
    /// Of a record of the control topic that is no checkpoint: its value.
    pub value: Option<Rc<[u8]>>,
    /// A dead letter because Kafka refused a record.
    pub refused: bool,
    /// Compaction has removed it.
    pub cleaned: bool,
    pub closes_gap: Option<u64>,
    pub transaction: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Open,
    Decided,
    Committed,
    Aborted,
}

#[derive(Debug)]
pub struct Transaction {
    pub state: State,
    /// Of another program, which the relay's fencing does not touch.
    pub foreign: bool,
    pub began_ms: i64,
    pub records: Vec<(Topic, usize)>,
}

/// The broker and all it holds.
#[derive(Debug)]
pub struct Kafka {
    pub up: bool,
    /// The producer that may write; older ones are fenced.
    pub epoch: u64,
    pub transactions: Vec<Transaction>,
    logs: [Vec<Record>; 5],
}

impl Kafka {
    pub fn new() -> Self {
        Self { up: true, epoch: 0, transactions: Vec::new(), logs: Default::default() }
    }

    pub fn log(&self, topic: Topic) -> &[Record] {
        &self.logs[topic as usize]
    }

    /// `init_transactions`: ends what an earlier producer left, and fences it.
    pub fn init(&mut self) -> u64 {
        for transaction in self.transactions.iter_mut().filter(|transaction| !transaction.foreign) {
            match transaction.state {
                State::Open => transaction.state = State::Aborted,
                State::Decided => transaction.state = State::Committed,
                State::Committed | State::Aborted => {}
            }
        }
        self.epoch += 1;
        self.epoch
    }

    pub fn begin(&mut self, now_ms: i64, foreign: bool) -> usize {
        self.transactions.push(Transaction { state: State::Open, foreign, began_ms: now_ms, records: Vec::new() });
        self.transactions.len() - 1
    }

    pub fn append(&mut self, topic: Topic, record: Record) {
        let log = &mut self.logs[topic as usize];
        self.transactions[record.transaction].records.push((topic, log.len()));
        log.push(record);
    }

    /// Whether a decided transaction still lacks its markers, so that its producer has to wait.
    pub fn is_ending(&self) -> bool {
        self.transactions.iter().any(|transaction| transaction.state == State::Decided && !transaction.foreign)
    }

    /// The coordinator's time-out: the open transaction is aborted and its producer fenced.
    pub fn time_out(&mut self, now_ms: i64, after_ms: i64) {
        let over = |transaction: &&mut Transaction| {
            transaction.state == State::Open && !transaction.foreign && now_ms - transaction.began_ms >= after_ms
        };
        if let Some(transaction) = self.transactions.iter_mut().find(over) {
            transaction.state = State::Aborted;
            self.epoch += 1;
        }
    }

    pub fn high_watermark(&self, topic: Topic) -> usize {
        self.log(topic).len()
    }

    pub fn last_stable_offset(&self, topic: Topic) -> usize {
        let unstable =
            |record: &Record| matches!(self.transactions[record.transaction].state, State::Open | State::Decided);
        self.log(topic).iter().position(unstable).unwrap_or(self.log(topic).len())
    }

    /// What `read_committed` shows up to `end`.
    pub fn committed(&self, topic: Topic, end: usize) -> impl DoubleEndedIterator<Item = &Record> {
        let end = end.min(self.last_stable_offset(topic));
        let stands =
            |record: &&Record| !record.cleaned && self.transactions[record.transaction].state == State::Committed;
        self.log(topic)[..end].iter().filter(stands)
    }

    pub fn newest(&self, end: usize) -> Option<Newest> {
        let checkpoints = self.committed(Topic::Control, end).rev();
        let mut found = checkpoints.filter_map(|record| Some((record.checkpoint.as_deref()?.clone(), record.at_ms)));
        found.next().map(|(checkpoint, written_at_ms)| Newest { checkpoint, written_at_ms })
    }

    /// The newest marks of each account.
    pub fn marks(&self, end: usize) -> Marks {
        let keys = Keys::new("relay");
        let records = self.committed(Topic::Control, end);
        let marks = records.filter_map(|record| {
            let account = keys.account_of(&record.key)?;
            Some((account.to_owned(), record.value.as_deref()?.to_vec()))
        });
        marks.collect()
    }

    /// Compaction of the control topic: of the records that are older than `before_ms` only the newest of each key is
    /// left.
    pub fn clean(&mut self, before_ms: i64) {
        let mut newest = HashSet::new();
        let stable = self.last_stable_offset(Topic::Control);
        for index in (0..stable).rev() {
            let record = &self.logs[Topic::Control as usize][index];
            let stands = self.transactions[record.transaction].state == State::Committed;
            let kept = stands && newest.insert(record.key.clone());
            let cleaned = !kept && record.at_ms < before_ms;
            self.logs[Topic::Control as usize][index].cleaned |= cleaned;
        }
    }
}

//! A Kafka of one partition a topic, and of the transactional ids that come, each with its own producer.
//!
//! A transaction is open, decided (the coordinator has written its decision, the markers are not there yet, and the
//! last stable offset stays before it), committed or aborted. An end may come twice, and late. What was acknowledged is
//! lost when a broker comes back without its tail, or when a person empties a topic.

use pepay_relay::kafka::{Checkpoint, Keys, Marks, Newest};
use pepay_relay::labels::Topic;
use std::collections::{HashMap, HashSet};
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
    /// Compaction, a crash of the broker or a person has removed it.
    pub gone: bool,
    pub closes_gap: Option<u64>,
    pub transaction: usize,
}

impl Record {
    /// A record of the control topic without anything else; its transaction is set later.
    pub fn new(key: &[u8], at_ms: i64) -> Self {
        Self {
            key: key.to_vec(),
            event: None,
            stale: false,
            at_ms,
            checkpoint: None,
            value: None,
            refused: false,
            gone: false,
            closes_gap: None,
            transaction: usize::MAX,
        }
    }
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
    /// Of another program.
    pub foreign: bool,
    /// Of the producer that began it.
    pub producer: Producer,
    pub began_ms: i64,
    pub records: Vec<(Topic, usize)>,
    /// The relay that began it, and the events that all of its records are of.
    pub relay: usize,
    pub events: Vec<(Topic, usize)>,
    /// Every record is there.
    pub whole: bool,
    /// Some of its records of the control topic are lost.
    pub forgotten: bool,
}

/// A producer: its transactional id and its epoch, of which the newest alone may write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producer {
    pub id: Rc<str>,
    pub epoch: u64,
}

/// The relay that begins a transaction, its producer, and the events that it publishes.
pub type Begun = (usize, Producer, Vec<(Topic, usize)>);

/// A copy of an end of a transaction that is still under way.
#[derive(Clone, Debug)]
pub struct LateEnd {
    pub producer: Producer,
    pub commits: bool,
}

/// The broker and all it holds.
#[derive(Debug)]
pub struct Kafka {
    pub up: bool,
    /// The epoch that may write with each transactional id; older ones are fenced.
    epochs: HashMap<Rc<str>, u64>,
    pub transactions: Vec<Transaction>,
    /// Copies of ends that are still under way; none where one has come.
    pub late_ends: Vec<Option<LateEnd>>,
    /// The broker has forgotten which records of the producer came last, and takes no further one of it.
    pub sequence_lost: bool,
    logs: [Vec<Record>; 5],
}

impl Kafka {
    pub fn new() -> Self {
        Self {
            up: true,
            epochs: HashMap::new(),
            transactions: Vec::new(),
            late_ends: Vec::new(),
            sequence_lost: false,
            logs: Default::default(),
        }
    }

    pub fn log(&self, topic: Topic) -> &[Record] {
        &self.logs[topic as usize]
    }

    /// `init_transactions`: ends what an earlier producer of that id left, and fences it.
    pub fn init(&mut self, id: &Rc<str>) -> Producer {
        for transaction in self.transactions.iter_mut().filter(|transaction| transaction.producer.id == *id) {
            match transaction.state {
                State::Open => transaction.state = State::Aborted,
                State::Decided => transaction.state = State::Committed,
                State::Committed | State::Aborted => {}
            }
        }
        self.sequence_lost = false;
        self.fence(id)
    }

    fn fence(&mut self, id: &Rc<str>) -> Producer {
        let epoch = self.epochs.entry(Rc::clone(id)).or_default();
        *epoch += 1;
        Producer { id: Rc::clone(id), epoch: *epoch }
    }

    /// Whether no other producer of its id was made since.
    pub fn may_write(&self, producer: &Producer) -> bool {
        self.epochs.get(&producer.id) == Some(&producer.epoch)
    }

    /// A transaction of this relay, which publishes these events, or of another program.
    pub fn begin(&mut self, now_ms: i64, of: Option<Begun>) -> usize {
        let foreign = of.is_none();
        let (relay, producer, events) = of.unwrap_or_default();
        self.transactions.push(Transaction {
            state: State::Open,
            foreign,
            producer,
            began_ms: now_ms,
            records: Vec::new(),
            relay,
            events,
            whole: false,
            forgotten: false,
        });
        self.transactions.len() - 1
    }

    /// A late copy of an end arrives: the transaction that it ends, if the producer is still the same and has one open.
    pub fn late_end(&mut self, number: usize) -> Option<(usize, LateEnd)> {
        let end = self.late_ends[number].take().filter(|end| self.may_write(&end.producer))?;
        let open = |one: &Transaction| one.state == State::Open && one.producer == end.producer;
        let transaction = self.transactions.iter().position(open)?;
        self.transactions[transaction].state = if end.commits { State::Decided } else { State::Aborted };
        Some((transaction, end))
    }

    /// The broker comes back without the last records of a topic. Gives the transactions that had one of them.
    pub fn lose_tail(&mut self, topic: Topic, records: usize) -> Vec<usize> {
        let there = self.logs[topic as usize].iter_mut().rev().filter(|record| !record.gone);
        let lost = there.take(records).map(|record| {
            record.gone = true;
            record.transaction
        });
        lost.collect()
    }

    /// A person empties a topic.
    pub fn empty(&mut self, topic: Topic) {
        self.logs[topic as usize].iter_mut().for_each(|record| record.gone = true);
    }

    /// An output topic that holds a committed record.
    pub fn holds(&self) -> Option<Topic> {
        let outputs = Topic::WRITTEN.into_iter().filter(|topic| *topic != Topic::Control);
        outputs.into_iter().find(|topic| self.committed(*topic, usize::MAX).next().is_some())
    }

    pub fn append(&mut self, topic: Topic, record: Record) {
        let log = &mut self.logs[topic as usize];
        self.transactions[record.transaction].records.push((topic, log.len()));
        log.push(record);
    }

    /// Whether a decided transaction has no markers yet, so that its producer has to wait.
    pub fn is_ending(&self, producer: &Producer) -> bool {
        self.transactions.iter().any(|one| one.state == State::Decided && one.producer.id == producer.id)
    }

    /// The coordinator's time-out: the open transaction is aborted and its producer fenced.
    pub fn time_out(&mut self, now_ms: i64, after_ms: i64) {
        let over = |transaction: &&mut Transaction| {
            transaction.state == State::Open && !transaction.foreign && now_ms - transaction.began_ms >= after_ms
        };
        if let Some(transaction) = self.transactions.iter_mut().find(over) {
            transaction.state = State::Aborted;
            let id = Rc::clone(&transaction.producer.id);
            self.fence(&id);
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
        let stands = |record: &&Record| !record.gone && self.transactions[record.transaction].state == State::Committed;
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
            let stands = self.transactions[record.transaction].state == State::Committed && !record.gone;
            let kept = stands && newest.insert(record.key.clone());
            let cleaned = !kept && record.at_ms < before_ms;
            self.logs[Topic::Control as usize][index].gone |= cleaned;
        }
    }
}

//! What records contain, each checked as it is read, against what Kafka itself was made to lose. Pure.

use pepay_relay::labels::Topic;
use pepay_relay::provider::EventId;
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, HashSet};

/// An offset of each partition of the relay's topics; 0 where there is none.
pub type Ends = BTreeMap<(Topic, i32), i64>;

/// Findings that are named one by one; of more only the number is kept.
pub const NAMED_MAX: usize = 20;

/// An event of the provider: ids of two accounts may be equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Event {
    /// The place of the account among those of the settings.
    pub account: usize,
    pub id: EventId,
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self { account: 0, id } => write!(f, "{id}"),
            Self { account, id } => write!(f, "{id} of account {account}"),
        }
    }
}

/// A record as it is on its topic.
#[derive(Clone, Debug)]
pub struct Record {
    /// The header `relay_account`, as a place among the accounts of the settings.
    pub account: usize,
    pub topic: Topic,
    pub partition: i32,
    pub offset: i64,
    pub key: String,
    /// The header `ce_id`; a dead letter's key.
    pub id: String,
    /// The header `relay_stale`.
    pub stale: bool,
    /// The header `relay_leg` is `webhook`.
    pub by_webhook: bool,
}

impl Record {
    /// `None` where it names none.
    pub fn event(&self) -> Option<Event> {
        Some(Event { account: self.account, id: self.id.parse().ok()? })
    }
}

/// Kafka was made to lose what the relay remembers of the records from `from` up to `to`. Of those each may be there
/// once more, from `since` on.
#[derive(Clone, Debug, Default)]
pub struct Loss {
    pub from: Ends,
    pub to: Ends,
    /// Where the topics ended when no relay ran any more that remembered them.
    pub since: Ends,
    /// It forgot their versions too, and nothing informed it: what it publishes again is not compared with them.
    pub versions: bool,
    /// A person named this time (Unix milliseconds) to fetch events from: only a webhook brings an older one again.
    pub again_from_ms: Option<u64>,
}

impl Loss {
    fn forgot(&self, record: &Record) -> bool {
        record.offset >= at(&self.from, record) && record.offset < at(&self.to, record)
    }
}

fn at(ends: &Ends, record: &Record) -> i64 {
    ends.get(&(record.topic, record.partition)).copied().unwrap_or(0)
}

/// Findings of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    pub count: u64,
    pub named: Vec<String>,
}

impl Findings {
    pub fn add(&mut self, finding: String) {
        self.count += 1;
        if self.named.len() < NAMED_MAX {
            self.named.push(finding);
        }
    }
}

/// What is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Issued, and absent from its topic.
    pub lost: Findings,
    /// Twice on one topic.
    pub repeated: Findings,
    /// Not marked stale, and not newer than an earlier record of its key that is not marked either.
    pub out_of_order: Findings,
    /// What no fault explains: dead letters, ids that were never issued, `latest` at odds with the orders.
    pub unexplained: Findings,
}

impl Verdict {
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (what, findings) in [
            ("lost", &self.lost),
            ("repeated", &self.repeated),
            ("out of order", &self.out_of_order),
            ("unexplained", &self.unexplained),
        ] {
            writeln!(f, "{what}: {} {:?}", findings.count, findings.named)?;
        }
        Ok(())
    }
}

/// What the records show.
#[derive(Debug, Default)]
pub struct Judged {
    /// Issued and not in Kafka, by the number under which it was issued.
    pub waiting: BTreeMap<u64, Event>,
    pub numbers: HashMap<Event, u64>,
    pub standing: HashMap<(Topic, Event), Vec<Stood>>,
    pub newest: HashMap<(Topic, i32, String), Newest>,
    /// Orders that are not stale and not yet seen in `latest`, and those that were seen there first; each with how often
    /// the relay's memory was lost before it.
    pub latest_due: HashSet<(usize, Event)>,
    pub latest_early: HashSet<(usize, Event)>,
    pub records: u64,
    pub stale: u64,
    pub excused: u64,
    pub found: Verdict,
}

/// A record of an event on a topic.
#[derive(Debug)]
pub struct Stood {
    /// How often the relay's memory was lost before it.
    age: usize,
    forgotten: bool,
    /// It is no older than what a person asked for, or came by a webhook.
    asked_for: bool,
}

impl Stood {
    /// Whichever is read first: a topic that got more partitions has them on two.
    fn is_excused_beside(&self, other: &Self) -> bool {
        match self.age.cmp(&other.age) {
            Ordering::Less => self.forgotten && other.asked_for,
            Ordering::Equal => false,
            Ordering::Greater => other.forgotten && self.asked_for,
        }
    }
}

/// The newest event of a key on a partition.
#[derive(Debug)]
pub struct Newest {
    age: usize,
    /// Of the records of that age.
    of_age: Option<Event>,
    /// Of all records whose versions the relay did not forget.
    remembered: Option<Event>,
}

impl Judged {
    pub fn read(&mut self, record: &Record, losses: &[Loss], gone: &HashSet<(Topic, Event)>) {
        let Record { topic, stale, .. } = *record;
        self.records += 1;
        let Some(id) = record.event() else {
            return self.found.unexplained.add(format!("{} holds {:?}", topic.as_str(), record.id));
        };
        let age = losses.iter().filter(|loss| record.offset >= at(&loss.since, record)).count();
        let forgotten = losses.iter().any(|loss| loss.forgot(record));
        let from_ms = losses[..age].last().and_then(|loss| loss.again_from_ms).unwrap_or(0);
        let asked_for = id.id.ms >= from_ms || record.by_webhook;
        let stood = Stood { age, forgotten, asked_for };
        let others = self.standing.entry((topic, id)).or_default();
        let is_excused = others.iter().all(|other| stood.is_excused_beside(other));
        let is_first = others.is_empty();
        others.push(stood);
        if !is_excused {
            return self.found.repeated.add(format!("{id} in {}", topic.as_str()));
        }
        if !is_first {
            self.excused += 1;
        }
        match topic {
            Topic::Orders | Topic::Invoices => {
                if let Some(number) = self.numbers.remove(&id) {
                    self.waiting.remove(&number);
                }
            }
            Topic::OrdersLatest => {}
            _ => self.found.unexplained.add(format!("{} holds {id}", topic.as_str())),
        }
        if stale {
            self.stale += 1;
            if topic == Topic::OrdersLatest {
                self.found.out_of_order.add(format!("{id} is stale, in {}", topic.as_str()));
            }
            return;
        }
        let unlearned = losses.iter().any(|loss| loss.versions && loss.forgot(record));
        self.compare(record, id, age, unlearned);
        // Of a pair of which the broker lost one, the other one proves nothing.
        if [Topic::Orders, Topic::OrdersLatest].into_iter().any(|topic| gone.contains(&(topic, id))) {
            return;
        }
        match topic {
            Topic::Orders if !self.latest_early.remove(&(age, id)) => drop(self.latest_due.insert((age, id))),
            Topic::OrdersLatest if !self.latest_due.remove(&(age, id)) => drop(self.latest_early.insert((age, id))),
            _ => {}
        }
    }

    /// Within a partition: where a topic got more of them, a key may be on several, and nothing orders those.
    fn compare(&mut self, record: &Record, id: Event, age: usize, unlearned: bool) {
        let Record { topic, partition, key, .. } = record;
        let newest = self.newest.entry((*topic, *partition, key.clone()));
        let newest = newest.or_insert(Newest { age, of_age: None, remembered: None });
        if newest.age != age {
            *newest = Newest { age, of_age: None, ..*newest };
        }
        let before = newest.of_age.max(newest.remembered);
        newest.of_age = newest.of_age.max(Some(id));
        if !unlearned {
            newest.remembered = newest.remembered.max(Some(id));
        }
        if let Some(before) = before.filter(|before| id < *before) {
            self.found.out_of_order.add(format!("{id} of {key} after {before} in {}", topic.as_str()));
        }
    }
}

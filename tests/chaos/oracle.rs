//! What must hold, whatever happened: every event that the provider issued stands once, and in order. Pure.
//!
//! It knows what was issued and is shown each record that a reader of committed records sees, in any interleaving of
//! the two and of the partitions. [`Oracle::waiting`] tells how far the records are behind; what can never be right
//! again is kept as a [`Verdict`] from the moment it is seen.

use pepay_relay::labels::Topic;
use pepay_relay::provider::EventId;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Findings that are named one by one; of more only the number is kept.
const NAMED_MAX: usize = 20;

/// A record as it stands on its topic.
#[derive(Clone, Debug)]
pub struct Record {
    pub topic: Topic,
    pub key: String,
    /// The header `ce_id`; a dead letter's key.
    pub id: String,
    /// The header `relay_stale`.
    pub stale: bool,
}

/// Findings of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    pub count: u64,
    pub named: Vec<String>,
}

impl Findings {
    fn add(&mut self, finding: String) {
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

/// What was issued, and what stands.
#[derive(Debug, Default)]
pub struct Oracle {
    /// In the order in which it was issued.
    issued: Vec<EventId>,
    known: HashSet<EventId>,
    /// Issued and not standing, by the number under which it was issued.
    waiting: BTreeMap<u64, EventId>,
    numbers: HashMap<EventId, u64>,
    standing: HashSet<(Topic, EventId)>,
    newest: HashMap<(Topic, String), EventId>,
    /// Orders that are not stale and not yet seen in `latest`, and those that were seen there first.
    latest_due: HashSet<EventId>,
    latest_early: HashSet<EventId>,
    pub records: u64,
    pub stale: u64,
    found: Verdict,
}

impl Oracle {
    /// The provider has issued `id`; numbers rise by one.
    pub fn issue(&mut self, id: &str, kind: &str) {
        let Ok(id) = id.parse::<EventId>() else {
            return self.found.unexplained.add(format!("the provider issued {id:?}"));
        };
        let number = self.issued.len() as u64;
        if !self.known.insert(id) {
            return self.found.unexplained.add(format!("the provider issued {id} twice"));
        }
        self.issued.push(id);
        if !self.standing.contains(&(belongs(kind), id)) {
            self.waiting.insert(number, id);
            self.numbers.insert(id, number);
        }
    }

    /// A committed record was read.
    pub fn read(&mut self, record: Record) {
        let Record { topic, key, id, stale } = record;
        self.records += 1;
        let Ok(id) = id.parse::<EventId>() else {
            return self.found.unexplained.add(format!("{} holds {id:?}", topic.as_str()));
        };
        if !self.standing.insert((topic, id)) {
            return self.found.repeated.add(format!("{id} in {}", topic.as_str()));
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
        let newest = self.newest.entry((topic, key.clone())).or_insert(id);
        if id < *newest {
            self.found.out_of_order.add(format!("{id} of {key} after {newest} in {}", topic.as_str()));
        }
        *newest = id.max(*newest);
        match topic {
            Topic::Orders if !self.latest_early.remove(&id) => drop(self.latest_due.insert(id)),
            Topic::OrdersLatest if !self.latest_due.remove(&id) => drop(self.latest_early.insert(id)),
            _ => {}
        }
    }

    /// The same events, of which no record was read yet.
    pub fn again(&self) -> Self {
        let waiting: BTreeMap<u64, EventId> = (0..).zip(self.issued.iter().copied()).collect();
        let numbers = waiting.iter().map(|(number, id)| (*id, *number)).collect();
        Self { issued: self.issued.clone(), known: self.known.clone(), waiting, numbers, ..Self::default() }
    }

    /// Something about the reading itself is wrong.
    pub fn complain(&mut self, what: String) {
        self.found.unexplained.add(what);
    }

    /// How many events were issued.
    pub fn issued(&self) -> u64 {
        self.issued.len() as u64
    }

    /// How many of the first `issued` events do not stand yet.
    pub fn waiting(&self, issued: u64) -> usize {
        self.waiting.range(..issued).count()
    }

    /// Whether what is not stale stands in `latest` as well, and nothing else does.
    pub fn latest_is_whole(&self) -> bool {
        self.latest_due.is_empty() && self.latest_early.is_empty()
    }

    /// What is wrong for ever, with more to come.
    pub fn so_far(&self) -> &Verdict {
        &self.found
    }

    /// What is wrong while others are still at work, when the first `issued` events should stand.
    pub fn interim(&self, issued: u64) -> Verdict {
        let mut verdict = self.found.clone();
        self.waiting.range(..issued).for_each(|(number, id)| verdict.lost.add(format!("{id}, number {number}")));
        verdict
    }

    /// The same when nobody writes any more and every event that was issued is known.
    pub fn verdict(&self, issued: u64) -> Verdict {
        let mut verdict = self.interim(issued);
        let unknown = self.standing.iter().filter(|(_, id)| !self.known.contains(id));
        unknown.for_each(|(topic, id)| verdict.unexplained.add(format!("{} holds {id}, never issued", topic.as_str())));
        self.latest_due.iter().for_each(|id| verdict.lost.add(format!("{id} in {}", Topic::OrdersLatest.as_str())));
        let early = self.latest_early.iter();
        early.for_each(|id| verdict.unexplained.add(format!("{id} in {} alone", Topic::OrdersLatest.as_str())));
        verdict
    }
}

fn belongs(kind: &str) -> Topic {
    if kind.starts_with("commerce.order.") { Topic::Orders } else { Topic::Invoices }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &str = "commerce.order.updated";

    fn record(topic: Topic, key: &str, id: &str, stale: bool) -> Record {
        Record { topic, key: key.to_owned(), id: id.to_owned(), stale }
    }

    /// Issues `evt_1-0` … of one order, and shows records `(topic, n, stale)` of key `k`.
    fn judge(issued: u64, records: &[(Topic, u64, bool)]) -> Verdict {
        let mut oracle = Oracle::default();
        (1..=issued).for_each(|n| oracle.issue(&format!("evt_{n}-0"), ORDER));
        for (topic, n, stale) in records {
            oracle.read(record(*topic, "k", &format!("evt_{n}-0"), *stale));
        }
        oracle.verdict(issued)
    }

    fn counts(verdict: &Verdict) -> [u64; 4] {
        let Verdict { lost, repeated, out_of_order, unexplained } = verdict;
        [lost, repeated, out_of_order, unexplained].map(|findings| findings.count)
    }

    use Topic::{Invoices, Orders, OrdersLatest};

    #[test]
    fn what_is_right_is_clean() {
        let both = [(Orders, 1, false), (OrdersLatest, 1, false), (OrdersLatest, 2, false), (Orders, 2, false)];
        assert!(judge(2, &both).is_clean());
    }

    #[test]
    fn what_is_missing_is_lost() {
        assert_eq!(counts(&judge(2, &[(Orders, 2, false), (OrdersLatest, 2, false)])), [1, 0, 0, 0]);
        assert_eq!(counts(&judge(1, &[(Orders, 1, false)])), [1, 0, 0, 0], "absent from latest");
        let verdict = judge(1, &[(Topic::DeadLetter, 1, false)]);
        assert_eq!(counts(&verdict), [1, 0, 0, 1], "{verdict}");
    }

    #[test]
    fn an_id_twice_on_a_topic_is_repeated_stale_or_not() {
        let one = [(Orders, 1, false), (OrdersLatest, 1, false)];
        for again in [(Orders, 1, false), (Orders, 1, true), (OrdersLatest, 1, false)] {
            assert_eq!(counts(&judge(1, &[one[0], one[1], again])), [0, 1, 0, 0], "{again:?}");
        }
    }

    #[test]
    fn what_goes_back_must_be_marked_and_not_touch_latest() {
        let newer = [(Orders, 2, false), (OrdersLatest, 2, false)];
        let with = |more: &[(Topic, u64, bool)]| counts(&judge(2, &[&newer[..], more].concat()));
        assert_eq!(with(&[(Orders, 1, true)]), [0; 4], "marked");
        assert_eq!(with(&[(Orders, 1, false), (OrdersLatest, 1, false)]), [0, 0, 2, 0], "on each topic");
        assert_eq!(with(&[(Orders, 1, true), (OrdersLatest, 1, true)]), [0, 0, 1, 0]);
    }

    #[test]
    fn topics_and_keys_are_apart() {
        let mut oracle = Oracle::default();
        for (id, kind) in [("evt_1-0", "invoice.created"), ("evt_2-0", "invoice_payment.updated"), ("evt_2-1", ORDER)] {
            oracle.issue(id, kind);
        }
        for (topic, key, id) in [
            (Invoices, "a", "evt_2-0"),
            (Invoices, "b", "evt_1-0"),
            (Orders, "a", "evt_2-1"),
            (OrdersLatest, "a", "evt_2-1"),
        ] {
            oracle.read(record(topic, key, id, false));
        }
        assert!(oracle.verdict(3).is_clean());
    }

    #[test]
    fn what_was_never_issued_is_not_explained() {
        assert_eq!(counts(&judge(0, &[(Orders, 1, true)])), [0, 0, 0, 1]);
        assert_eq!(counts(&judge(1, &[(Orders, 1, true), (OrdersLatest, 1, false)])), [0, 0, 0, 1], "latest alone");
    }

    #[test]
    fn records_may_be_read_before_the_provider_was_asked() {
        let mut oracle = Oracle::default();
        oracle.read(record(Orders, "k", "evt_1-0", true));
        assert!(oracle.interim(0).is_clean() && !oracle.verdict(0).is_clean());
        oracle.issue("evt_1-0", ORDER);
        oracle.issue("evt_2-0", ORDER);
        assert_eq!((oracle.issued(), oracle.waiting(1), oracle.waiting(2)), (2, 0, 1));
        assert_eq!(counts(&oracle.verdict(1)), [0; 4], "only the first is asked for");
    }

    #[test]
    fn many_findings_are_counted_and_some_named() {
        let lost = judge(1_000, &[]).lost;
        assert_eq!((lost.count, lost.named.len()), (1_000, NAMED_MAX));
    }
}

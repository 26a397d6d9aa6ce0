//! What must hold, whatever happened: every event that the provider issued is there once, and in order. Pure.
//!
//! It knows what was issued and is shown each record that a reader of committed records sees, in any interleaving of
//! the two and of the partitions. [`Oracle::waiting`] counts how far the records are behind; what can never be right
//! again is kept as a [`Verdict`] from the moment it is seen.
//!
//! Where Kafka itself was made to lose something, the oracle is informed: which records are gone ([`Oracle::cut`]), and
//! of which the relay's memory is gone ([`Loss`]). Nothing else is excused, and what is excused is counted.

use crate::judged::{Ends, Event, Findings, Judged, Loss, Record, Verdict};
use pepay_relay::labels::Topic;
use pepay_relay::provider::EventId;
use std::collections::{BTreeMap, HashSet};

/// What was issued, and what is in Kafka.
#[derive(Debug, Default)]
pub struct Oracle {
    /// In the order in which it was issued: the event, and the topic that it belongs to.
    issued: Vec<(Event, Topic)>,
    known: HashSet<Event>,
    /// Every record that was read and that no broker lost, also where somebody deleted it since.
    log: BTreeMap<(Topic, i32), BTreeMap<i64, Record>>,
    losses: Vec<Loss>,
    /// Records that were there until the broker lost them and not the relay's memory of them: they may be absent.
    gone: HashSet<(Topic, Event)>,
    complaints: Findings,
    judged: Judged,
}

impl Oracle {
    /// The provider has issued `id` for this account; numbers rise by one.
    pub fn issue(&mut self, account: usize, id: &str, kind: &str) {
        let Ok(id) = id.parse::<EventId>() else {
            return self.complain(format!("the provider issued {id:?}"));
        };
        let id = Event { account, id };
        if !self.known.insert(id) {
            return self.complain(format!("the provider issued {id} twice"));
        }
        let number = self.issued.len() as u64;
        self.issued.push((id, belongs(kind)));
        self.wait_for(number);
    }

    /// A committed record was read.
    pub fn read(&mut self, record: Record) {
        let place = (record.topic, record.partition);
        // A fetch that is answered twice shows a record twice, which is one record.
        if self.log.get(&place).is_some_and(|log| log.contains_key(&record.offset)) {
            return;
        }
        self.judged.read(&record, &self.losses, &self.gone);
        self.log.entry(place).or_default().insert(record.offset, record);
    }

    /// One past the last record that was read of each partition.
    pub fn ends(&self) -> Ends {
        let last = |log: &BTreeMap<i64, Record>| log.last_key_value().map(|(offset, _)| offset + 1);
        self.log.iter().filter_map(|(place, log)| Some((*place, last(log)?))).collect()
    }

    /// The broker has lost the records from these places on, and with them, unless `for_good`, what the relay knows of
    /// them: then it brings them back.
    pub fn cut(&mut self, places: &Ends, for_good: bool) {
        for (place, log) in &mut self.log {
            let lost = log.split_off(&places.get(place).copied().unwrap_or(0));
            if for_good {
                self.gone.extend(lost.values().filter_map(event));
            }
        }
        self.judge_anew();
    }

    /// The broker has lost these before they were committed, and had answered the relay that they were written.
    pub fn may_lack(&mut self, records: &[Record]) {
        self.gone.extend(records.iter().filter_map(event));
        self.judge_anew();
    }

    /// Kafka was made to lose a part of the relay's memory.
    pub fn lose(&mut self, loss: Loss) {
        self.losses.push(loss);
        self.judge_anew();
    }

    /// The same events, of which no record was read yet but those that were deleted since, which is all before `starts`.
    pub fn again(&self, starts: &Ends) -> Self {
        let mut again = Self {
            issued: self.issued.clone(),
            known: self.known.clone(),
            losses: self.losses.clone(),
            gone: self.gone.clone(),
            ..Self::default()
        };
        for (place, log) in &self.log {
            let start = starts.get(place).copied().unwrap_or(0);
            let deleted = log.range(..start).map(|(offset, record)| (*offset, record.clone()));
            again.log.insert(*place, deleted.collect());
        }
        again.judge_anew();
        again
    }

    /// Something about the reading itself is wrong.
    pub fn complain(&mut self, what: String) {
        self.complaints.add(what);
    }

    /// How many events were issued.
    pub fn issued(&self) -> u64 {
        self.issued.len() as u64
    }

    /// How many records were read; how many of them are stale.
    pub fn records(&self) -> (u64, u64) {
        (self.judged.records, self.judged.stale)
    }

    /// Records that the relay repeated because Kafka had lost its memory of them; and that Kafka lost for good.
    pub fn excused(&self) -> (u64, u64) {
        let absent = |place: &&(Topic, Event)| !self.judged.standing.contains_key(*place);
        (self.judged.excused, self.gone.iter().filter(absent).count() as u64)
    }

    /// How many of the first `issued` events are not there yet.
    pub fn waiting(&self, issued: u64) -> usize {
        self.judged.waiting.range(..issued).count()
    }

    /// Whether what is not stale is in `latest` as well, and nothing else.
    pub fn latest_is_whole(&self) -> bool {
        self.judged.latest_due.is_empty() && self.judged.latest_early.is_empty()
    }

    /// Whether nothing is wrong for ever, with more to come.
    pub fn is_clean_so_far(&self) -> bool {
        self.judged.found.is_clean() && self.complaints.count == 0
    }

    /// What is wrong while others are still at work, when the first `issued` events should be there.
    pub fn interim(&self, issued: u64) -> Verdict {
        let mut verdict = self.judged.found.clone();
        self.complaints.named.iter().for_each(|complaint| verdict.unexplained.add(complaint.clone()));
        let waiting = self.judged.waiting.range(..issued);
        waiting.for_each(|(number, id)| verdict.lost.add(format!("{id}, number {number}")));
        verdict
    }

    /// The same when nobody writes any more and every event that was issued is known.
    pub fn verdict(&self, issued: u64) -> Verdict {
        let mut verdict = self.interim(issued);
        let Judged { standing, latest_due, latest_early, .. } = &self.judged;
        let unknown = standing.keys().filter(|(_, id)| !self.known.contains(id));
        unknown.for_each(|(topic, id)| verdict.unexplained.add(format!("{} holds {id}, never issued", topic.as_str())));
        let latest = Topic::OrdersLatest.as_str();
        latest_due.iter().for_each(|(_, id)| verdict.lost.add(format!("{id} in {latest}")));
        latest_early.iter().for_each(|(_, id)| verdict.unexplained.add(format!("{id} in {latest} alone")));
        verdict
    }

    fn wait_for(&mut self, number: u64) {
        let Some((id, topic)) = usize::try_from(number).ok().and_then(|index| self.issued.get(index)) else { return };
        let there = self.judged.standing.contains_key(&(*topic, *id)) || self.gone.contains(&(*topic, *id));
        if !there {
            self.judged.waiting.insert(number, *id);
            self.judged.numbers.insert(*id, number);
        }
    }

    fn judge_anew(&mut self) {
        self.judged = Judged::default();
        for record in self.log.values().flat_map(BTreeMap::values) {
            self.judged.read(record, &self.losses, &self.gone);
        }
        (0..self.issued()).for_each(|number| self.wait_for(number));
    }
}

fn event(record: &Record) -> Option<(Topic, Event)> {
    Some((record.topic, record.event()?))
}

fn belongs(kind: &str) -> Topic {
    if kind.starts_with("commerce.order.") { Topic::Orders } else { Topic::Invoices }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judged::NAMED_MAX;

    const ORDER: &str = "commerce.order.updated";

    fn record(topic: Topic, offset: i64, key: &str, id: &str, stale: bool) -> Record {
        Record {
            account: 0,
            topic,
            partition: 0,
            offset,
            key: key.to_owned(),
            id: id.to_owned(),
            stale,
            by_webhook: false,
        }
    }

    /// Of this many events of one order, and these records `(topic, n, stale)` of key `k`, at offsets that rise by one.
    fn oracle(issued: u64, records: &[(Topic, u64, bool)]) -> Oracle {
        let mut oracle = Oracle::default();
        (1..=issued).for_each(|n| oracle.issue(0, &format!("evt_{n}-0"), ORDER));
        show(&mut oracle, 0, records);
        oracle
    }

    /// More records, from this offset on.
    fn show(oracle: &mut Oracle, from: i64, records: &[(Topic, u64, bool)]) {
        for (offset, (topic, n, stale)) in (from..).zip(records) {
            oracle.read(record(*topic, offset, "k", &format!("evt_{n}-0"), *stale));
        }
    }

    /// This offset of both topics of orders.
    fn ends(offset: i64) -> Ends {
        [Orders, OrdersLatest].into_iter().map(|topic| ((topic, 0), offset)).collect()
    }

    fn judge(issued: u64, records: &[(Topic, u64, bool)]) -> Verdict {
        oracle(issued, records).verdict(issued)
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
            oracle.issue(0, id, kind);
        }
        for (offset, topic, key, id) in [
            (0, Invoices, "a", "evt_2-0"),
            (1, Invoices, "b", "evt_1-0"),
            (0, Orders, "a", "evt_2-1"),
            (0, OrdersLatest, "a", "evt_2-1"),
        ] {
            oracle.read(record(topic, offset, key, id, false));
        }
        assert!(oracle.verdict(3).is_clean());
        let elsewhere = Record { partition: 1, ..record(Invoices, 0, "a", "evt_3-0", false) };
        oracle.issue(0, "evt_3-0", "invoice.created");
        oracle.issue(0, "evt_2-2", "invoice.updated");
        oracle.read(elsewhere);
        oracle.read(record(Invoices, 2, "a", "evt_2-2", false));
        assert!(oracle.verdict(5).is_clean(), "a key that moved to another partition");
    }

    #[test]
    fn accounts_are_apart() {
        let mut oracle = oracle(1, &[(Orders, 1, true)]);
        oracle.issue(1, "evt_1-0", ORDER);
        assert_eq!(counts(&oracle.verdict(2)), [1, 0, 0, 0], "the other account's is still to come");
        let theirs = |offset| Record { account: 1, ..record(Orders, offset, "k", "evt_1-0", true) };
        oracle.read(theirs(1));
        assert!(oracle.verdict(2).is_clean());
        oracle.read(theirs(2));
        assert_eq!(counts(&oracle.verdict(2)), [0, 1, 0, 0]);
    }

    #[test]
    fn what_was_never_issued_is_not_explained() {
        assert_eq!(counts(&judge(0, &[(Orders, 1, true)])), [0, 0, 0, 1]);
        assert_eq!(counts(&judge(1, &[(Orders, 1, true), (OrdersLatest, 1, false)])), [0, 0, 0, 1], "latest alone");
    }

    #[test]
    fn records_may_be_read_before_the_provider_was_asked() {
        let mut oracle = Oracle::default();
        oracle.read(record(Orders, 0, "k", "evt_1-0", true));
        assert!(oracle.interim(0).is_clean() && !oracle.verdict(0).is_clean());
        oracle.issue(0, "evt_1-0", ORDER);
        oracle.issue(0, "evt_2-0", ORDER);
        assert_eq!((oracle.issued(), oracle.waiting(1), oracle.waiting(2)), (2, 0, 1));
        assert_eq!(counts(&oracle.verdict(1)), [0; 4], "only the first is asked for");
    }

    #[test]
    fn a_record_that_is_fetched_twice_is_one() {
        let mut oracle = oracle(1, &[(Orders, 1, true)]);
        show(&mut oracle, 0, &[(Orders, 1, true)]);
        assert_eq!((counts(&oracle.verdict(1)), oracle.records()), ([0; 4], (1, 1)));
    }

    /// Two events of an order on both topics; the second begins at offset 2.
    const TWO: [(Topic, u64, bool); 4] =
        [(Orders, 1, false), (OrdersLatest, 1, false), (Orders, 2, false), (OrdersLatest, 2, false)];

    #[test]
    fn what_the_broker_lost_comes_again_unless_the_relay_remembers_it() {
        for (for_good, lost) in [(false, 1), (true, 0)] {
            let mut cut = oracle(2, &TWO);
            cut.cut(&ends(2), for_good);
            assert_eq!(counts(&cut.verdict(2)), [lost, 0, 0, 0]);
            assert_eq!(cut.excused(), (0, if for_good { 2 } else { 0 }));
            assert_eq!(cut.ends(), BTreeMap::from([((Orders, 0), 1), ((OrdersLatest, 0), 2)]));
            show(&mut cut, 2, &TWO[2..]);
            assert_eq!((counts(&cut.verdict(2)), cut.excused()), ([0; 4], (0, 0)), "it stands, where it stood before");
        }
    }

    #[test]
    fn one_of_a_pair_that_the_broker_lost_proves_nothing_about_the_other() {
        let mut cut = oracle(1, &[(OrdersLatest, 1, false), (Orders, 1, false)]);
        cut.cut(&BTreeMap::from([((Orders, 0), 1), ((OrdersLatest, 0), 1)]), true);
        assert_eq!(counts(&cut.verdict(1)), [0; 4], "latest alone");
        let mut lacking = oracle(1, &[]);
        lacking.may_lack(&[record(Orders, 0, "k", "evt_1-0", false)]);
        assert_eq!(counts(&lacking.verdict(1)), [0; 4], "neither");
        let mut cut = oracle(1, &TWO[..2]);
        cut.cut(&BTreeMap::from([((Orders, 0), 1), ((OrdersLatest, 0), 1)]), true);
        assert_eq!(counts(&cut.verdict(1)), [0; 4], "the order alone");
    }

    #[test]
    fn what_the_relay_was_made_to_forget_may_be_there_once_more() {
        let loss = |versions| Loss { from: ends(2), to: ends(4), since: ends(5), versions, ..Loss::default() };
        let after = |loss: Loss, from: i64, more: &[(Topic, u64, bool)]| {
            let mut oracle = oracle(3, &[&TWO[..], &[(Orders, 3, true)]].concat());
            oracle.lose(loss);
            show(&mut oracle, from, more);
            (counts(&oracle.verdict(3)), oracle.excused().0)
        };
        let again = [(Orders, 2, false), (OrdersLatest, 2, false)];
        assert_eq!(after(loss(false), 5, &again), ([0; 4], 2));
        assert_eq!(after(Loss::default(), 5, &again), ([0, 2, 0, 0], 0), "nothing was lost");
        assert_eq!(after(loss(false), 5, &[again, again].concat()), ([0, 2, 0, 0], 2), "once more, not twice");
        assert_eq!(after(loss(false), 5, &TWO[..2]), ([0, 2, 0, 0], 0), "it remembers the first one");
        assert_eq!(after(loss(false), 5, &[(Orders, 3, true)]), ([0, 1, 0, 0], 0), "and the last one");
        let early = Loss { since: ends(6), ..loss(false) };
        assert_eq!(after(early, 5, &again[..1]), ([0, 1, 0, 0], 0), "by a relay that still remembered");
        let late = Loss { again_from_ms: Some(3), ..loss(false) };
        assert_eq!(after(late, 5, &again), ([0, 2, 0, 0], 0), "older than what a person asked for");
    }

    #[test]
    fn what_was_forgotten_may_be_on_another_partition_that_is_read_first() {
        let mut oracle = oracle(1, &[]);
        let elsewhere = Record { partition: 1, ..record(Orders, 0, "k", "evt_1-0", true) };
        oracle.read(elsewhere.clone());
        oracle.lose(Loss {
            to: BTreeMap::from([((Orders, 1), 1)]),
            since: BTreeMap::from([((Orders, 1), 1)]),
            ..Loss::default()
        });
        oracle.read(record(Orders, 0, "k", "evt_1-0", true));
        oracle.judge_anew();
        assert_eq!((counts(&oracle.verdict(1)), oracle.excused().0), ([0; 4], 1));
        oracle.read(Record { offset: 1, ..elsewhere });
        assert_eq!(counts(&oracle.verdict(1)), [0, 1, 0, 0]);
    }

    #[test]
    fn an_old_event_that_was_forgotten_comes_again_by_webhook_alone() {
        let mut oracle = oracle(2, &TWO);
        oracle.lose(Loss { to: ends(4), since: ends(4), versions: true, again_from_ms: Some(2), ..Loss::default() });
        oracle.read(Record { by_webhook: true, ..record(Orders, 4, "k", "evt_1-0", true) });
        assert_eq!((counts(&oracle.verdict(2)), oracle.excused().0), ([0; 4], 1));
    }

    #[test]
    fn a_version_that_was_forgotten_is_not_compared_with() {
        let order = |versions, n| {
            let mut oracle = oracle(3, &[(Orders, 2, true), (Orders, 3, false), (OrdersLatest, 3, false)]);
            let from = BTreeMap::from([((Orders, 0), 0), ((OrdersLatest, 0), 0)]);
            oracle.lose(Loss { from, to: ends(9), since: ends(9), versions, ..Loss::default() });
            let again = |n| [(Orders, n, false), (OrdersLatest, n, false)];
            show(&mut oracle, 9, &[again(2), again(n)].concat());
            oracle.judged.found.out_of_order.count
        };
        assert_eq!((order(true, 3), order(false, 3)), (0, 2));
        assert_eq!(order(true, 1), 2, "what it has published since counts");
    }

    #[test]
    fn what_was_deleted_is_remembered() {
        let read = oracle(2, &TWO);
        let mut again = read.again(&ends(2));
        assert_eq!(counts(&again.verdict(2)), [1, 0, 0, 0], "the second is still to be read");
        show(&mut again, 2, &TWO[2..]);
        assert_eq!(counts(&again.verdict(2)), [0; 4]);
        show(&mut again, 4, &TWO[..2]);
        assert_eq!(counts(&again.verdict(2)), [0, 2, 0, 0], "it stood before it was deleted");
        assert_eq!(counts(&read.again(&Ends::new()).verdict(2)), [2, 0, 0, 0]);
    }

    #[test]
    fn many_findings_are_counted_and_some_named() {
        let lost = judge(1_000, &[]).lost;
        assert_eq!((lost.count, lost.named.len()), (1_000, NAMED_MAX));
    }
}

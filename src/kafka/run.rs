//! One run of a relay: what its transactions write to the control topic, from the claim of the name to the last
//! checkpoint.
//!
//! Pure. The writer sends what this file makes, and so does the simulation.

use super::batch::{Batch, Shape};
use super::checkpoint::{Checkpoint, Keys, Marks};
use super::settlement::Settlement;
use super::shard::Shard;
use crate::clock::rfc3339;
use crate::labels::Topic;

/// One transaction of a run in this many holds the marks of all accounts, as its claim does: a reader of the topic from
/// its end finds all marks within that many, however long an account was quiet.
const BASE_EVERY: u64 = 4096;

/// Whether the transaction of this number holds the marks of all accounts.
pub fn is_base(commit: u64) -> bool {
    commit.is_multiple_of(BASE_EVERY)
}

/// A run, and how far it has come.
#[derive(Clone, Debug)]
pub struct Run {
    id: String,
    keys: Keys,
    environment: String,
    shard: Shard,
    /// The process, in a cluster.
    node: Option<String>,
    /// The offset in the inbox up to which everything is committed.
    inbox: Option<i64>,
    /// Number of the last transaction that is committed; the claim is 0.
    commit: u64,
    /// The newest marks of the name.
    marks: Marks,
    /// Runs that were there before this one, as far as its claim lists them.
    earlier: Vec<String>,
}

impl Run {
    /// The run `id`, a UUID, of the relay `name`, which takes the events of `environment`.
    pub fn new(id: String, name: &str, environment: &str) -> Self {
        let keys = Keys::new(name);
        let environment = environment.to_owned();
        let (shard, node) = Default::default();
        Self { id, keys, environment, shard, node, inbox: None, commit: 0, marks: Marks::new(), earlier: Vec::new() }
    }

    /// The same of a shard of the relay `name`, on this node of a cluster.
    pub fn on(self, name: &str, shard: Shard, node: Option<&str>) -> Self {
        Self { keys: Keys::of(name, shard), shard, node: node.map(str::to_owned), ..self }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The newest marks of the name.
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    /// What the claim is to follow: the newest checkpoint, and the newest marks, which it repeats.
    pub fn follow(&mut self, predecessor: Option<&Checkpoint>, marks: Marks) {
        let before = predecessor.and_then(|checkpoint| checkpoint.previous.as_ref());
        self.earlier = predecessor.map(|checkpoint| &checkpoint.run).into_iter().cloned().collect();
        self.earlier.extend(before.map(|previous| previous.run.clone()));
        self.inbox = predecessor.and_then(|checkpoint| checkpoint.inbox);
        self.marks = marks;
    }

    /// The claim, which follows `predecessor`: the first transaction of the run.
    pub fn claim(&self, predecessor: Option<&Checkpoint>, now_ms: i64) -> (Batch, Checkpoint) {
        let mut batch = Batch::default();
        for (account, value) in &self.marks {
            batch.record(Topic::Control, self.keys.marks(account).as_bytes(), value);
        }
        (batch, self.written(0, now_ms).following(predecessor))
    }

    /// The claim of another run `id`, which records that the newest transaction of this one was torn: it follows the
    /// one before it, and the events of the torn one do not count as published.
    pub fn disown(&self, id: String, now_ms: i64) -> (Batch, Checkpoint) {
        let torn_after = self.written(self.commit, now_ms);
        Self { id, ..self.clone() }.claim(Some(&torn_after), now_ms)
    }

    /// How the next transaction is settled, which has this shape.
    pub fn settle(&self, batch: Shape) -> Settlement {
        Settlement::new(self.id.clone(), self.commit, batch).behind(self.earlier.clone())
    }

    /// The checkpoint of the next transaction, which has the records of `batch`; `left`: the relay leaves with it.
    pub fn checkpoint(&self, batch: &Batch, left: bool, now_ms: i64) -> Checkpoint {
        let (journal, inbox) = (batch.journal(), batch.inbox().or(self.inbox));
        Checkpoint { journal, inbox, left, ..self.written(self.commit.saturating_add(1), now_ms) }
    }

    /// Adds to the batch of the next transaction the marks of all accounts where that one is a base.
    pub fn complete(&self, batch: &mut Batch) {
        if !is_base(self.commit.saturating_add(1)) {
            return;
        }
        let control = batch.records().filter(|record| record.topic() == Topic::Control);
        let changed: Vec<_> =
            control.filter_map(|record| Some(self.keys.account_of(record.key())?.to_owned())).collect();
        for (account, value) in self.marks.iter().filter(|(account, _)| !changed.contains(account)) {
            batch.record(Topic::Control, self.keys.marks(account).as_bytes(), value);
        }
    }

    /// `batch` is committed as the next transaction.
    pub fn committed(&mut self, batch: &Batch) {
        self.commit = self.commit.saturating_add(1);
        self.inbox = batch.inbox().or(self.inbox);
        for record in batch.records().filter(|record| record.topic() == Topic::Control) {
            if let (Some(account), Some(value)) = (self.keys.account_of(record.key()), record.value()) {
                self.marks.insert(account.to_owned(), value.to_owned());
            }
        }
    }

    fn written(&self, commit: u64, at_ms: i64) -> Checkpoint {
        let Self { shard, node, inbox, .. } = self;
        let checkpoint = Checkpoint::new(self.id.clone(), commit, rfc3339(at_ms), &self.environment);
        Checkpoint { shards: shard.count, node: node.clone(), inbox: *inbox, ..checkpoint }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_700_000_000_000;

    /// Of an account without a name.
    fn marks(value: &[u8]) -> Marks {
        Marks::from([(String::new(), value.to_owned())])
    }

    fn checkpoint(run: &str, commit: u64) -> Checkpoint {
        Checkpoint::new(run.to_owned(), commit, "2023-11-14T22:13:10.000Z".to_owned(), "devnet")
    }

    fn records(batch: &Batch) -> Vec<(&[u8], Option<&[u8]>)> {
        batch.records().map(|record| (record.key(), record.value())).collect()
    }

    #[test]
    fn a_claim_repeats_the_marks_and_follows_what_it_found() {
        let mut run = Run::new("r".to_owned(), "shop", "devnet");
        assert_eq!(run.claim(None, NOW_MS).1, Checkpoint { at: rfc3339(NOW_MS), ..checkpoint("r", 0) });
        let found = checkpoint("q", 7);
        run.follow(Some(&found), marks(b"{}"));
        let (batch, claim) = run.claim(Some(&found), NOW_MS);
        assert_eq!(records(&batch), [(&b"shop/marks/shop"[..], Some(&b"{}"[..]))]);
        assert_eq!(
            claim,
            Checkpoint { previous: Some(found.id()), ..checkpoint("r", 0) },
            "at the time of what it found"
        );
    }

    #[test]
    fn a_checkpoint_counts_and_marks_are_those_of_the_newest_transaction() {
        let mut run = Run::new("r".to_owned(), "shop", "devnet");
        let mut batch = Batch::default();
        batch.record(Topic::Orders, b"shop/marks/other", b"of another topic");
        batch.record(Topic::Control, b"shop/marks/shop", b"new");
        batch.answers_for(1, 3);
        let first = run.checkpoint(&batch, true, NOW_MS);
        assert_eq!((first.commit, first.journal, first.left, first.at), (1, 3, true, rfc3339(NOW_MS)));
        run.committed(&batch);
        assert_eq!((run.checkpoint(&Batch::default(), false, NOW_MS).commit, run.marks()), (2, &marks(b"new")));
    }

    #[test]
    fn a_base_holds_the_marks_of_all_accounts_each_once() {
        let mut run = Run::new("r".to_owned(), "shop", "devnet");
        let both = [("a", b"1"), ("b", b"2")].map(|(name, value)| (name.to_owned(), value.to_vec()));
        run.follow(None, Marks::from(both));
        let mut written = Vec::new();
        for commit in 1..=2 * BASE_EVERY {
            let mut batch = Batch::default();
            batch.record(Topic::Control, b"shop/marks/b", b"3");
            run.complete(&mut batch);
            run.committed(&batch);
            if batch.len() > 1 {
                written.push(commit);
                assert_eq!(
                    records(&batch),
                    [(&b"shop/marks/b"[..], Some(&b"3"[..])), (&b"shop/marks/a"[..], Some(&b"1"[..]))]
                );
            }
        }
        assert_eq!(written, [BASE_EVERY, 2 * BASE_EVERY]);
    }

    /// A start that finds a base looks no further for marks, also where there is one account.
    #[test]
    fn a_base_holds_the_marks_of_one_account_that_did_not_change() {
        let mut run = Run::new("r".to_owned(), "shop", "devnet");
        run.follow(None, Marks::from([("a".to_owned(), b"1".to_vec())]));
        (1..BASE_EVERY).for_each(|_| run.committed(&Batch::default()));
        let mut base = Batch::default();
        run.complete(&mut base);
        assert_eq!(records(&base), [(&b"shop/marks/a"[..], Some(&b"1"[..]))]);
    }

    #[test]
    fn a_torn_transaction_is_disowned_by_the_claim_of_another_run() {
        let mut run = Run::new("r".to_owned(), "shop", "devnet");
        run.follow(None, marks(b"{}"));
        run.committed(&Batch::default());
        let (batch, claim) = run.disown("s".to_owned(), NOW_MS);
        assert_eq!(records(&batch).len(), 1);
        let expected =
            Checkpoint { previous: Some(checkpoint("r", 1).id()), at: rfc3339(NOW_MS), ..checkpoint("s", 0) };
        assert_eq!(claim, expected, "torn is 2 of r");
    }
}

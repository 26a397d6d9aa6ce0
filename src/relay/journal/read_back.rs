//! Reads the journal back at a start, and proves that it is whole.
//!
//! Every transaction of a run has the next number, every claim names the checkpoint that it followed, and every
//! checkpoint holds how many entries its transaction has: a record that the topic lost leaves a hole in one of these
//! chains. What happened before the dedup window began needs no proof. Pure.

use super::entry::{Entry, read};
use crate::kafka::{Checkpoint, CommitId};
use std::fmt;

/// Why the journal is not whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Breach {
    /// A transaction between these two is missing.
    Hole {
        /// The checkpoint before it.
        after: CommitId,
        /// The checkpoint behind it.
        next: CommitId,
    },
    /// A claim follows another checkpoint than it names.
    Claim {
        /// The one that it names.
        says: Option<CommitId>,
        /// What it follows.
        follows: CommitId,
    },
    /// A transaction has another number of entries than its checkpoint records.
    Entries {
        /// The transaction.
        of: CommitId,
        /// The number in the checkpoint.
        says: u64,
        /// What there is.
        found: u64,
    },
    /// A record of this transaction cannot be read.
    Damaged(CommitId),
    /// The topic does not reach back to the start of the dedup window: it was cleaned too early, or the relay was
    /// away for longer than the topic keeps records.
    Cleaned {
        /// The oldest transaction that is left.
        oldest: Option<CommitId>,
    },
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hole { after, next } => write!(f, "a transaction is missing between {after} and {next}"),
            Self::Claim { says: Some(says), follows } => {
                write!(f, "a claim says that it follows {says}, but follows {follows}")
            }
            Self::Claim { says: None, follows } => write!(f, "a first claim follows {follows}"),
            Self::Entries { of, says, found } => write!(f, "{of} has {found} entries, its checkpoint says {says}"),
            Self::Damaged(of) => write!(f, "a record of {of} cannot be read"),
            Self::Cleaned { oldest: Some(oldest) } => {
                write!(f, "the oldest transaction that is left, {oldest}, is younger than what has to be known")
            }
            Self::Cleaned { oldest: None } => write!(f, "no transaction is left"),
        }
    }
}

/// What one transaction published: the values of its journal records and their times.
#[derive(Debug, Default)]
struct Transaction {
    values: Vec<(Vec<u8>, i64)>,
}

/// Takes the control topic's records of one relay in their order; gives the events that they name.
#[derive(Debug)]
pub struct ReadBack {
    /// What was published before this time, in Unix milliseconds, needs no proof.
    proven_from_ms: i64,
    /// Of the transaction whose checkpoint is still to come.
    open: Transaction,
    /// Of the newest transaction: a claim may record that it was torn.
    newest: Transaction,
    /// Where the newest transaction is.
    last: Option<CommitId>,
    breach: Option<Breach>,
}

impl ReadBack {
    /// Nothing read yet. What was published before `proven_from_ms`, in Unix milliseconds, needs no proof: the dedup window
    /// began later, and nothing of it comes again.
    pub fn new(proven_from_ms: i64) -> Self {
        Self { proven_from_ms, open: Transaction::default(), newest: Transaction::default(), last: None, breach: None }
    }

    /// A record `P/journal`, committed at `at_ms`.
    pub fn journal(&mut self, value: &[u8], at_ms: i64) {
        self.open.values.push((value.to_vec(), at_ms));
    }

    /// A record `P/checkpoint`: the end of its transaction. Gives the events of the one before it to `each`, with the
    /// time of their record.
    pub fn checkpoint(&mut self, checkpoint: &Checkpoint, each: &mut impl FnMut(Entry<'_>, i64)) {
        let position = checkpoint.id();
        let torn = self.follow(checkpoint, &position);
        self.settle(!torn, each);
        let found = self.open.values.iter().map(|(value, _)| read(value, |_| ())).sum::<Result<u64, _>>();
        match found {
            Err(_) => self.breach(Breach::Damaged(position.clone())),
            // Before the first checkpoint that was read, a part of its transaction may not have been.
            Ok(found) if found != checkpoint.journal && self.last.is_some() => {
                self.breach(Breach::Entries { of: position.clone(), says: checkpoint.journal, found });
            }
            Ok(_) => {}
        }
        std::mem::swap(&mut self.newest, &mut self.open);
        self.last = Some(position);
    }

    /// All was read: gives the events of the newest transaction, and why the journal is not whole if it is not.
    pub fn finish(mut self, each: &mut impl FnMut(Entry<'_>, i64)) -> Option<Breach> {
        self.settle(true, each);
        if self.last.is_none() {
            self.breach(Breach::Cleaned { oldest: None });
        }
        self.breach
    }

    /// Compares a checkpoint with the one before it; returns whether it records that the one before it was torn.
    fn follow(&mut self, checkpoint: &Checkpoint, position: &CommitId) -> bool {
        let Some(last) = self.last.clone() else {
            let first = checkpoint.is_claim() && checkpoint.previous.is_none();
            // A claim keeps the time of what it follows, so that its own chain is proven by it too.
            let covers = checkpoint.at_ms().is_some_and(|at_ms| at_ms <= self.proven_from_ms);
            if !first && !covers {
                self.breach(Breach::Cleaned { oldest: Some(position.clone()) });
            }
            return false;
        };
        if last.run == position.run {
            if position.commit != last.commit.saturating_add(1) {
                self.breach(Breach::Hole { after: last, next: position.clone() });
            }
            return false;
        }
        match &checkpoint.previous {
            Some(previous) if *previous == last => false,
            Some(previous) if previous.run == last.run && previous.commit.saturating_add(1) == last.commit => true,
            says => {
                self.breach(Breach::Claim { says: says.clone(), follows: last });
                false
            }
        }
    }

    fn settle(&mut self, stands: bool, each: &mut impl FnMut(Entry<'_>, i64)) {
        for (value, at_ms) in self.newest.values.drain(..).filter(|_| stands) {
            // What is damaged was counted when its checkpoint came; what comes before the damage counts.
            let _ = read(&value, |entry| each(entry, at_ms));
        }
    }

    /// The first one is reported: the others may be its consequences.
    fn breach(&mut self, breach: Breach) {
        self.breach.get_or_insert(breach);
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::Entries;
    use super::*;
    use crate::labels::Topic;

    fn id(run: &str, commit: u64) -> CommitId {
        CommitId { run: run.to_owned(), commit }
    }

    /// A checkpoint of `run` written at `at_ms`, behind `previous` where it is a claim.
    fn checkpoint(run: &str, commit: u64, at_ms: i64, journal: u64, previous: Option<CommitId>) -> Checkpoint {
        let at = crate::clock::rfc3339(at_ms);
        Checkpoint { journal, previous, ..Checkpoint::new(run.to_owned(), commit, at, "devnet") }
    }

    /// A transaction: the ids that its journal names, and its checkpoint.
    type Step = (&'static [&'static str], Checkpoint);

    fn step(ids: &'static [&'static str], run: &str, commit: u64, at_ms: i64) -> Step {
        (ids, checkpoint(run, commit, at_ms, ids.len() as u64, None))
    }

    fn claim(run: &str, at_ms: i64, previous: (&str, u64)) -> Step {
        (&[], checkpoint(run, 0, at_ms, 0, Some(id(previous.0, previous.1))))
    }

    /// The ids that are known after these transactions with a window from 1,000 on, and why that is not all.
    fn replay(steps: &[Step]) -> (Vec<String>, Option<Breach>) {
        let mut reading = ReadBack::new(1_000);
        let mut ids = Vec::new();
        let mut each = |entry: Entry<'_>, _| ids.push(String::from_utf8_lossy(entry.id).into_owned());
        for (names, checkpoint) in steps {
            let mut entries = Entries::default();
            for id in *names {
                let account = "";
                let topic = Topic::Orders;
                let key = &b"k"[..];
                entries.push(&Entry { account, topic, id: id.as_bytes(), key, version: None });
            }
            entries.values().for_each(|value| reading.journal(value, 1_500));
            reading.checkpoint(checkpoint, &mut each);
        }
        let breach = reading.finish(&mut each);
        (ids, breach)
    }

    #[test]
    fn a_whole_journal_gives_every_event() {
        let whole: &[&[Step]] = &[
            &[step(&[], "r", 0, 5_000), step(&["a", "b"], "r", 1, 5_001), step(&["c"], "r", 2, 5_002)],
            &[step(&["a", "b"], "r", 7, 900), step(&[], "r", 8, 1_100), step(&["c"], "r", 9, 1_200)],
            &[step(&["a", "b"], "r", 7, 900), claim("s", 900, ("r", 7)), step(&["c"], "s", 1, 1_200)],
            // What it follows was written before the window began and is gone.
            &[claim("s", 900, ("r", 7)), step(&["a", "b", "c"], "s", 1, 9_000)],
        ];
        for steps in whole {
            assert_eq!(replay(steps), (vec!["a".to_owned(), "b".to_owned(), "c".to_owned()], None), "{steps:?}");
        }
    }

    #[test]
    fn what_is_missing_is_found() {
        let a = step(&["a"], "r", 1, 900);
        let last = || id("r", 1);
        let says = |run, commit| Some(id(run, commit));
        let cases: [(&[Step], Breach); 7] = [
            (&[a.clone(), step(&["b"], "r", 3, 2_000)], Breach::Hole { after: last(), next: id("r", 3) }),
            (&[a.clone(), claim("s", 900, ("r", 2))], Breach::Claim { says: says("r", 2), follows: last() }),
            (&[a.clone(), claim("s", 900, ("q", 1))], Breach::Claim { says: says("q", 1), follows: last() }),
            (&[a.clone(), step(&[], "s", 0, 900)], Breach::Claim { says: None, follows: last() }),
            (
                &[a.clone(), (&["b"], checkpoint("r", 2, 2_000, 2, None))],
                Breach::Entries { of: id("r", 2), says: 2, found: 1 },
            ),
            (&[step(&["a"], "r", 5, 1_100)], Breach::Cleaned { oldest: says("r", 5) }),
            (&[claim("s", 1_100, ("r", 7))], Breach::Cleaned { oldest: says("s", 0) }),
        ];
        for (steps, breach) in cases {
            assert_eq!(replay(steps).1, Some(breach), "{steps:?}");
        }
        assert_eq!(replay(&[]).1, Some(Breach::Cleaned { oldest: None }));
    }

    #[test]
    fn the_events_of_a_torn_transaction_are_not_known() {
        let steps = [step(&["a"], "r", 4, 900), step(&["torn"], "r", 5, 2_000), claim("s", 900, ("r", 4))];
        assert_eq!(replay(&steps), (vec!["a".to_owned()], None));
    }

    #[test]
    fn a_damaged_record_is_named_and_the_rest_is_read() {
        let mut reading = ReadBack::new(1_000);
        let mut count = 0;
        let mut each = |_: Entry<'_>, _| count += 1;
        reading.checkpoint(&checkpoint("r", 1, 900, 0, None), &mut each);
        reading.journal(b"\xff", 2_000);
        reading.checkpoint(&checkpoint("r", 2, 2_000, 1, None), &mut each);
        assert_eq!(reading.finish(&mut each), Some(Breach::Damaged(id("r", 2))));
        assert_eq!(count, 0);
    }
}

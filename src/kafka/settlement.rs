//! How a commit is settled: what the writer does next, given what became of what it did last.
//!
//! A commit of unknown outcome is settled by the newest checkpoint, after a new producer of the name has ended whatever
//! an earlier one left open. Pure: the writer does what it is told, and so does the simulation.

use super::batch::Shape;
use super::checkpoint::{Checkpoint, Newest};
use super::errors::Class;
use std::time::Duration;

/// Attempts that were aborted and are repeated at once, one after the other, before the next one waits.
const ABORTS_IN_A_ROW: u32 = 3;

/// From this many new producers in a row for one batch on, each is followed by a wait: trouble that outlives a new
/// producer is Kafka's, and must not become a busy loop of fences.
const REBUILDS_BEFORE_WAITING: u32 = 2;

/// How long Kafka is asked again to take a single delivery whose record it calls invalid: Kafka 3.6.0 said so of good
/// records now and then (KAFKA-15653), and an event is worth more than ten seconds.
pub(super) const INVALID_FOR: Duration = Duration::from_secs(10);

/// And at least this often: a relay that was paused meanwhile has not asked.
const INVALID_TIMES: u32 = 10;

/// What the writer does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Make a new producer of the name, which ends what an earlier one left open and fences it; then read the newest
    /// checkpoint and tell [`Settlement::fenced`].
    Fence,
    /// Read the newest checkpoint without fencing anybody, and tell [`Settlement::looked`].
    Look,
    /// Send the batch and its checkpoint as one transaction, and tell [`Settlement::attempted`].
    Attempt,
    /// It is committed: at this time in Unix milliseconds, or just now.
    Committed(Option<i64>),
    /// It is aborted for certain, and the batch will not pass as it is.
    Refused(Refusal),
    /// The relay cannot go on.
    Stop(End),
}

/// How long to wait before doing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// As between two attempts while Kafka is away; the relay counts as waiting for Kafka.
    Retry,
    /// As between two looks at which run wrote the newest checkpoint.
    Confirm,
}

/// Why a batch will not pass as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A record, or all of them together, is larger than the broker allows.
    Size,
    /// The broker calls a record invalid: of a single delivery, again and again over ten seconds.
    Invalid,
    /// It does not reach the broker in time.
    Slow,
}

/// Why the relay cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Another run wrote the newest checkpoint.
    TakenOver,
    /// Another run wrote the newest checkpoint after it was decided to claim the shard.
    Elsewhere,
    /// Kafka no longer has our newest checkpoint.
    Lost,
    /// The checkpoint is committed although this run never asked for it: a delayed request ended the transaction half
    /// way, and some of its records are missing.
    Torn,
    /// No retry can help; the failure says why.
    Fatal,
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempted {
    /// It is committed.
    Committed,
    /// It is aborted for certain: nothing of it will be seen.
    Aborted(Class),
    /// Whether it is committed is not known, or the producer is of no further use.
    InDoubt {
        /// The coordinator spoke of a newer producer; it says the same when it merely timed us out.
        fenced: bool,
        /// The commit was asked for.
        asked: bool,
    },
    /// No retry can help.
    Stopped,
}

/// What the newest checkpoint says about a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is committed, since this time in Unix milliseconds.
    Committed(i64),
    /// It is not, and never will be: send it again.
    SendAgain,
    /// Another run holds the name.
    TakenOver,
    /// Kafka lost what was committed.
    Lost,
}

/// What the newest checkpoint says about `commit` of `run`, whose last transaction known to be committed is `settled`.
/// `earlier` are runs from before it: none of them comes back, so where one wrote the newest checkpoint, ours are lost.
pub fn stands(newest: Option<&Newest>, run: &str, earlier: &[String], settled: u64, commit: u64) -> Standing {
    match newest {
        Some(newest) if earlier.contains(&newest.checkpoint.run) => Standing::Lost,
        Some(newest) if newest.checkpoint.run != run => Standing::TakenOver,
        Some(newest) if newest.checkpoint.commit == commit => Standing::Committed(newest.written_at_ms),
        Some(newest) if newest.checkpoint.commit == settled => Standing::SendAgain,
        _ => Standing::Lost,
    }
}

/// Settles the claim of a name: the first transaction of a run.
#[derive(Debug)]
pub struct Claim {
    run: String,
    /// In a cluster the run of the newest checkpoint when it was decided to claim.
    decided_on: Option<Option<String>>,
    /// The newest checkpoint of an earlier run.
    pub predecessor: Option<Checkpoint>,
}

impl Claim {
    /// Begins with [`Next::Fence`].
    pub fn new(run: String) -> Self {
        Self { run, decided_on: None, predecessor: None }
    }

    /// The same of a node of a cluster, which decided to claim when `newest` was the newest checkpoint: a node that was paused
    /// since then must not take the shard from the one that claimed it meanwhile.
    pub fn decided_on(self, newest: Option<&Checkpoint>) -> Self {
        Self { decided_on: Some(newest.map(|newest| newest.run.clone())), ..self }
    }

    /// A new producer was made; the newest checkpoint follows.
    pub fn fenced(&mut self, newest: Option<Checkpoint>) -> Next {
        match newest {
            // An earlier attempt is committed after all.
            Some(newest) if newest.run == self.run => Next::Committed(None),
            newest if !self.was_decided_on(newest.as_ref()) => Next::Stop(End::Elsewhere),
            newest => {
                self.predecessor = newest;
                Next::Attempt
            }
        }
    }

    fn was_decided_on(&self, newest: Option<&Checkpoint>) -> bool {
        let run = newest.map(|newest| &newest.run);
        self.decided_on.as_ref().is_none_or(|decided_on| decided_on.as_ref() == run)
    }

    /// What follows an attempt. A claim that failed begins again behind a new producer.
    pub fn attempted(&self, attempted: Attempted) -> (Wait, Next) {
        match attempted {
            Attempted::Committed => (Wait::No, Next::Committed(None)),
            Attempted::Aborted(Class::Size) => (Wait::No, Next::Refused(Refusal::Size)),
            Attempted::Aborted(Class::Stop) | Attempted::Stopped => (Wait::No, Next::Stop(End::Fatal)),
            Attempted::Aborted(_) | Attempted::InDoubt { .. } => (Wait::Retry, Next::Fence),
        }
    }
}

/// What a writer may do that owns its shard by what the consumer group told it last, or does not: it fences nobody then, and
/// looks who wrote last until it is told that the shard is its own again, or somebody else's run stands there.
pub fn allowed(next: Next, owns: bool) -> (Wait, Next) {
    match next {
        Next::Fence if !owns => (Wait::Confirm, Next::Look),
        next => (Wait::No, next),
    }
}

/// Whether the node `node`, which is to claim a shard, waits for its last owner: that one is still a member of the group, so
/// that it drains what it has and says so in its last checkpoint.
pub fn waits_for(newest: &Checkpoint, node: &str, members: &[String]) -> bool {
    let owner = newest.node.as_deref().filter(|owner| *owner != node);
    !newest.left && owner.is_some_and(|owner| members.iter().any(|member| member == owner))
}

/// What a relay does whose shard another run holds now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fenced {
    /// It stops, with status 75.
    Stop,
    /// It lets the shard go, and stays in its cluster.
    LetGo,
}

/// In a cluster a shard may be another node's; a run that names no node is of a relay outside it, which took the name over.
pub fn fenced(in_cluster: bool, by: &Checkpoint) -> Fenced {
    if in_cluster && by.node.is_some() { Fenced::LetGo } else { Fenced::Stop }
}

/// Settles one commit after the claim.
#[derive(Debug)]
pub struct Settlement {
    run: String,
    /// Runs that were there before ours.
    earlier: Vec<String>,
    /// The last transaction known to be committed.
    settled: u64,
    batch: Shape,
    aborts: u32,
    rebuilds: u32,
    looks: u32,
    /// A commit was asked for since the newest checkpoint was last read.
    asked: bool,
    /// When the record was first called invalid, and how often.
    invalid_since: Option<Duration>,
    invalid_times: u32,
}

impl Settlement {
    /// Of the commit that follows `settled`.
    pub fn new(run: String, settled: u64, batch: Shape) -> Self {
        Self {
            run,
            earlier: Vec::new(),
            settled,
            batch,
            aborts: 0,
            rebuilds: 0,
            looks: 0,
            asked: false,
            invalid_since: None,
            invalid_times: 0,
        }
    }

    /// These runs were there before ours.
    pub fn behind(self, earlier: Vec<String>) -> Self {
        Self { earlier, ..self }
    }

    /// The number that is settled.
    pub fn commit(&self) -> u64 {
        self.settled.saturating_add(1)
    }

    /// The first thing to do.
    pub fn begin(&self, has_producer: bool) -> Next {
        if has_producer { Next::Attempt } else { Next::Fence }
    }

    /// A new producer was made; the newest checkpoint is this one.
    pub fn fenced(&mut self, newest: Option<&Newest>) -> Next {
        match stands(newest, &self.run, &self.earlier, self.settled, self.commit()) {
            Standing::Committed(_) if !self.asked && self.batch != Shape::Control => Next::Stop(End::Torn),
            Standing::Committed(at_ms) => Next::Committed(Some(at_ms)),
            Standing::SendAgain => {
                self.asked = false;
                Next::Attempt
            }
            Standing::TakenOver => Next::Stop(End::TakenOver),
            Standing::Lost => Next::Stop(End::Lost),
        }
    }

    /// The newest checkpoint is this one; nobody was fenced. Asked twice, since another relay that fenced us may not
    /// have claimed yet.
    pub fn looked(&mut self, newest: Option<&Newest>) -> (Wait, Next) {
        match newest {
            None => (Wait::No, Next::Stop(End::Lost)),
            Some(newest) if self.earlier.contains(&newest.checkpoint.run) => (Wait::No, Next::Stop(End::Lost)),
            Some(newest) if newest.checkpoint.run != self.run => (Wait::No, Next::Stop(End::TakenOver)),
            Some(_) if self.looks == 0 => {
                self.looks = 1;
                (Wait::Confirm, Next::Look)
            }
            // The coordinator merely timed our transaction out.
            Some(_) => (self.after_rebuild(), Next::Fence),
        }
    }

    /// What follows an attempt that ended `at` this long after the settlement began; `has_producer` unless the producer
    /// must not begin another transaction.
    pub fn attempted(&mut self, attempted: Attempted, has_producer: bool, at: Duration) -> (Wait, Next) {
        match self.follows(attempted, at) {
            (wait, Next::Attempt) if !has_producer => (wait, Next::Fence),
            follows => follows,
        }
    }

    fn follows(&mut self, attempted: Attempted, at: Duration) -> (Wait, Next) {
        match attempted {
            Attempted::Committed => (Wait::No, Next::Committed(None)),
            Attempted::Stopped => (Wait::No, Next::Stop(End::Fatal)),
            Attempted::InDoubt { fenced, asked } => {
                self.asked |= asked;
                self.rebuilds = self.rebuilds.saturating_add(1);
                self.looks = 0;
                if fenced { (Wait::No, Next::Look) } else { (self.after_rebuild(), Next::Fence) }
            }
            Attempted::Aborted(class) => {
                self.rebuilds = 0;
                self.aborted(class, at)
            }
        }
    }

    fn aborted(&mut self, class: Class, at: Duration) -> (Wait, Next) {
        match class {
            Class::Size => (Wait::No, Next::Refused(Refusal::Size)),
            Class::Invalid if self.batch == Shape::Several => (Wait::No, Next::Refused(Refusal::Invalid)),
            Class::Invalid => {
                let since = *self.invalid_since.get_or_insert(at);
                self.invalid_times = self.invalid_times.saturating_add(1);
                let again = at.saturating_sub(since) < INVALID_FOR || self.invalid_times < INVALID_TIMES;
                if again { (Wait::Retry, Next::Attempt) } else { (Wait::No, Next::Refused(Refusal::Invalid)) }
            }
            Class::Slow if self.batch == Shape::Several => (Wait::No, Next::Refused(Refusal::Slow)),
            Class::Stop => (Wait::No, Next::Stop(End::Fatal)),
            Class::Rebuild => (self.after_rebuild(), Next::Fence),
            Class::Abort => {
                self.aborts = self.aborts.saturating_add(1);
                let wait = if self.aborts <= ABORTS_IN_A_ROW { Wait::No } else { Wait::Retry };
                (wait, Next::Attempt)
            }
            Class::Slow | Class::Retry => (Wait::Retry, Next::Attempt),
        }
    }

    fn after_rebuild(&self) -> Wait {
        if self.rebuilds >= REBUILDS_BEFORE_WAITING { Wait::Retry } else { Wait::No }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn newest(run: &str, commit: u64) -> Option<Newest> {
        let checkpoint = Checkpoint::new(run.to_owned(), commit, String::new(), "devnet");
        Some(Newest { checkpoint, written_at_ms: 77 })
    }

    fn settlement(batch: Shape) -> Settlement {
        Settlement::new("ours".to_owned(), 4, batch)
    }

    const AT: Duration = Duration::ZERO;
    const DOUBT: Attempted = Attempted::InDoubt { fenced: false, asked: true };
    const FENCED: Attempted = Attempted::InDoubt { fenced: true, asked: true };

    #[test]
    fn the_newest_checkpoint_says_which_of_four_things_happened() {
        let earlier = ["before".to_owned()];
        let says = |newest: Option<Newest>| stands(newest.as_ref(), "ours", &earlier, 4, 5);
        assert_eq!(says(newest("ours", 5)), Standing::Committed(77));
        assert_eq!(says(newest("ours", 4)), Standing::SendAgain);
        assert_eq!(says(newest("theirs", 5)), Standing::TakenOver, "the same number of another run");
        assert_eq!(says(newest("theirs", 4)), Standing::TakenOver);
        assert_eq!(says(newest("before", 9)), Standing::Lost, "our claim is gone, and nobody took over");
        assert_eq!(says(newest("ours", 3)), Standing::Lost);
        assert_eq!(says(newest("ours", 6)), Standing::Lost);
        assert_eq!(says(None), Standing::Lost);
    }

    #[test]
    fn a_commit_in_doubt_is_settled_behind_a_new_producer() {
        for (found, next) in [
            (newest("ours", 5), Next::Committed(Some(77))),
            (newest("ours", 4), Next::Attempt),
            (newest("theirs", 1), Next::Stop(End::TakenOver)),
            (newest("ours", 3), Next::Stop(End::Lost)),
            (None, Next::Stop(End::Lost)),
        ] {
            let mut settlement = settlement(Shape::Several);
            assert_eq!(settlement.begin(true), Next::Attempt);
            assert_eq!(settlement.attempted(DOUBT, true, AT), (Wait::No, Next::Fence));
            assert_eq!(settlement.fenced(found.as_ref()), next);
        }
    }

    /// The producer was replaced and has asked for nothing since: whatever committed the checkpoint was not told to.
    #[test]
    fn a_commit_that_was_never_asked_for_is_torn() {
        let mut torn = settlement(Shape::Several);
        assert_eq!(torn.begin(false), Next::Fence);
        assert_eq!(torn.fenced(newest("ours", 4).as_ref()), Next::Attempt);
        assert_eq!(
            torn.attempted(Attempted::InDoubt { fenced: false, asked: false }, true, AT),
            (Wait::No, Next::Fence)
        );
        assert_eq!(torn.fenced(newest("ours", 5).as_ref()), Next::Stop(End::Torn));
        // The newest checkpoint has answered for the commit that was asked for before it.
        let mut again = settlement(Shape::Single);
        again.attempted(DOUBT, true, AT);
        assert_eq!(again.fenced(newest("ours", 4).as_ref()), Next::Attempt);
        again.attempted(Attempted::InDoubt { fenced: false, asked: false }, true, AT);
        assert_eq!(again.fenced(newest("ours", 5).as_ref()), Next::Stop(End::Torn));
        // One partition is committed or is not.
        let mut control = settlement(Shape::Control);
        control.attempted(Attempted::InDoubt { fenced: false, asked: false }, true, AT);
        assert_eq!(control.fenced(newest("ours", 5).as_ref()), Next::Committed(Some(77)));
    }

    #[test]
    fn a_claim_stands_by_what_it_was_decided_on() {
        let of = |run: &str| newest(run, 3).map(|newest| newest.checkpoint);
        let begin = |on: Option<&str>| Claim::new("ours".to_owned()).decided_on(on.and_then(of).as_ref());
        assert_eq!(begin(Some("theirs")).fenced(of("theirs")), Next::Attempt);
        assert_eq!(begin(None).fenced(None), Next::Attempt);
        assert_eq!(begin(Some("theirs")).fenced(of("ours")), Next::Committed(None), "an earlier attempt");
        for (on, found) in [(Some("theirs"), of("others")), (None, of("others")), (Some("theirs"), None)] {
            assert_eq!(begin(on).fenced(found), Next::Stop(End::Elsewhere), "{on:?}");
        }
        assert_eq!(Claim::new("ours".to_owned()).fenced(of("others")), Next::Attempt, "outside a cluster");
    }

    #[test]
    fn who_does_not_own_the_shard_fences_nobody() {
        assert_eq!(allowed(Next::Fence, true), (Wait::No, Next::Fence));
        assert_eq!(allowed(Next::Fence, false), (Wait::Confirm, Next::Look));
        for next in [Next::Attempt, Next::Look, Next::Committed(None)] {
            assert_eq!(allowed(next.clone(), false), (Wait::No, next));
        }
    }

    #[test]
    fn only_a_relay_outside_the_cluster_ends_a_node() {
        let by = |node: Option<&str>| {
            let checkpoint = Checkpoint::new("theirs".to_owned(), 1, String::new(), "devnet");
            Checkpoint { node: node.map(str::to_owned), ..checkpoint }
        };
        assert_eq!(fenced(true, &by(Some("n1"))), Fenced::LetGo);
        assert_eq!(
            [fenced(true, &by(None)), fenced(false, &by(Some("n1"))), fenced(false, &by(None))],
            [Fenced::Stop; 3]
        );
    }

    #[test]
    fn an_owner_that_lives_is_given_the_time_to_leave() {
        let members = ["n0".to_owned(), "n1".to_owned()];
        let waits = |node: Option<&str>, left: bool| {
            let checkpoint = Checkpoint::new("r".to_owned(), 1, String::new(), "devnet");
            waits_for(&Checkpoint { node: node.map(str::to_owned), left, ..checkpoint }, "n1", &members)
        };
        assert_eq!([waits(Some("n0"), false), waits(Some("n0"), true)], [true, false]);
        assert_eq!([waits(Some("n1"), false), waits(Some("n9"), false), waits(None, false)], [false; 3]);
    }

    #[test]
    fn a_run_from_before_ours_takes_nothing_over() {
        let before = newest("before", 9);
        let behind = || settlement(Shape::Several).behind(vec!["before".to_owned()]);
        assert_eq!(behind().fenced(before.as_ref()), Next::Stop(End::Lost));
        assert_eq!(behind().looked(before.as_ref()), (Wait::No, Next::Stop(End::Lost)));
        assert_eq!(behind().looked(newest("later", 0).as_ref()), (Wait::No, Next::Stop(End::TakenOver)));
    }

    #[test]
    fn a_relay_that_was_fenced_looks_twice_before_it_fences() {
        let mut timed_out = settlement(Shape::Several);
        assert_eq!(timed_out.attempted(FENCED, true, AT), (Wait::No, Next::Look));
        assert_eq!(timed_out.looked(newest("ours", 4).as_ref()), (Wait::Confirm, Next::Look));
        assert_eq!(timed_out.looked(newest("ours", 4).as_ref()), (Wait::No, Next::Fence));
        assert_eq!(timed_out.fenced(newest("ours", 4).as_ref()), Next::Attempt);
        for (found, end) in [(newest("theirs", 0), End::TakenOver), (newest("before", 7), End::Lost), (None, End::Lost)]
        {
            let mut fenced = settlement(Shape::Several).behind(vec!["before".to_owned()]);
            fenced.attempted(FENCED, true, AT);
            assert_eq!(fenced.looked(found.as_ref()), (Wait::No, Next::Stop(end)));
        }
    }

    /// The copy of an end that is still under way must not meet another transaction of the same epoch.
    #[test]
    fn a_producer_whose_end_was_asked_for_twice_begins_no_other_transaction() {
        let mut spent = settlement(Shape::Several);
        assert_eq!(spent.attempted(Attempted::Aborted(Class::Abort), false, AT), (Wait::No, Next::Fence));
        assert_eq!(spent.attempted(Attempted::Committed, false, AT), (Wait::No, Next::Committed(None)));
        assert_eq!(spent.begin(false), Next::Fence);
    }

    #[test]
    fn the_ladder_of_refusals() {
        let aborted = |batch, class| settlement(batch).attempted(Attempted::Aborted(class), true, AT);
        for (batch, class, expected) in [
            (Shape::Several, Class::Size, (Wait::No, Next::Refused(Refusal::Size))),
            (Shape::Single, Class::Size, (Wait::No, Next::Refused(Refusal::Size))),
            (Shape::Several, Class::Slow, (Wait::No, Next::Refused(Refusal::Slow))),
            (Shape::Single, Class::Slow, (Wait::Retry, Next::Attempt)),
            (Shape::Several, Class::Invalid, (Wait::No, Next::Refused(Refusal::Invalid))),
            (Shape::Single, Class::Invalid, (Wait::Retry, Next::Attempt)),
            (Shape::Several, Class::Retry, (Wait::Retry, Next::Attempt)),
            (Shape::Several, Class::Abort, (Wait::No, Next::Attempt)),
            (Shape::Several, Class::Stop, (Wait::No, Next::Stop(End::Fatal))),
            (Shape::Several, Class::Rebuild, (Wait::No, Next::Fence)),
        ] {
            assert_eq!(aborted(batch, class), expected, "{batch:?} {class:?}");
        }
    }

    #[test]
    fn a_single_invalid_record_is_asked_again_over_ten_seconds() {
        let mut settlement = settlement(Shape::Single);
        for seconds in 3..13 {
            let next = settlement.attempted(Attempted::Aborted(Class::Invalid), true, Duration::from_secs(seconds));
            assert_eq!(next, (Wait::Retry, Next::Attempt), "{seconds}");
        }
        let next = settlement.attempted(Attempted::Aborted(Class::Invalid), true, Duration::from_secs(13));
        assert_eq!(next, (Wait::No, Next::Refused(Refusal::Invalid)));
    }

    #[test]
    fn a_pause_is_no_time_in_which_it_was_asked() {
        let mut settlement = settlement(Shape::Single);
        for seconds in [0, 60, 61] {
            let next = settlement.attempted(Attempted::Aborted(Class::Invalid), true, Duration::from_secs(seconds));
            assert_eq!(next, (Wait::Retry, Next::Attempt), "{seconds}");
        }
    }

    #[test]
    fn trouble_that_goes_on_is_waited_for() {
        let mut aborts = settlement(Shape::Several);
        let waits: Vec<_> = (0..5).map(|_| aborts.attempted(Attempted::Aborted(Class::Abort), true, AT).0).collect();
        assert_eq!(waits, [Wait::No, Wait::No, Wait::No, Wait::Retry, Wait::Retry]);
        let mut rebuilds = settlement(Shape::Several);
        let waits: Vec<_> = (0..3).map(|_| rebuilds.attempted(DOUBT, true, AT).0).collect();
        assert_eq!(waits, [Wait::No, Wait::Retry, Wait::Retry]);
    }

    #[test]
    fn a_claim_follows_what_it_read_and_begins_again_when_it_fails() {
        let mut claim = Claim::new("ours".to_owned());
        let other = Checkpoint::new("theirs".to_owned(), 3, String::new(), "devnet");
        assert_eq!(claim.fenced(Some(other.clone())), Next::Attempt);
        assert_eq!(claim.predecessor, Some(other));
        assert_eq!(claim.attempted(DOUBT), (Wait::Retry, Next::Fence));
        let ours = Checkpoint::new("ours".to_owned(), 0, String::new(), "devnet");
        assert_eq!(claim.fenced(Some(ours)), Next::Committed(None), "an earlier attempt is committed");
        assert_eq!(claim.predecessor.as_ref().map(|checkpoint| checkpoint.commit), Some(3));
        assert_eq!(claim.attempted(Attempted::Committed), (Wait::No, Next::Committed(None)));
        assert_eq!(claim.attempted(Attempted::Aborted(Class::Size)), (Wait::No, Next::Refused(Refusal::Size)));
        assert_eq!(claim.attempted(Attempted::Aborted(Class::Invalid)), (Wait::Retry, Next::Fence), "it passes");
        assert_eq!(claim.attempted(Attempted::Stopped), (Wait::No, Next::Stop(End::Fatal)));
    }
}

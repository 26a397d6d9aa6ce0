//! How a commit is settled: what the writer does next, given what became of what it did last.
//!
//! A commit of unknown outcome is settled by the newest checkpoint, after a new producer of the name has ended whatever
//! an earlier one left open. Pure: the writer does what this file returns, and so does the simulation.

use super::batch::Shape;
use super::checkpoint::{Checkpoint, Newest};
use super::errors::Class;
use std::time::Duration;

/// Attempts that were aborted and are repeated at once, one after the other, before the next one waits.
const ABORTS_IN_A_ROW: u32 = 3;

/// From this many new producers in a row for one batch on, each is followed by a wait: trouble that outlives a new
/// producer is Kafka's, and must not become a busy loop of fences.
const REBUILDS_BEFORE_WAITING: u32 = 2;

/// How long Kafka is asked again to take a single delivery whose record it calls invalid: Kafka 3.6.0 called good
/// records so now and then (KAFKA-15653), and an event is worth more than ten seconds.
pub(super) const INVALID_FOR: Duration = Duration::from_secs(10);

/// And at least this often: a relay that was paused meanwhile has not asked.
const INVALID_TIMES: u32 = 10;

/// What the writer does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Make a new producer of the name, which ends what an earlier one left open and fences it; then read the newest
    /// checkpoint and pass it to [`Settlement::fenced`].
    Fence,
    /// Read the newest checkpoint without fencing anybody, and pass it to [`Settlement::looked`].
    Look,
    /// Send the batch and its checkpoint as one transaction, and pass the outcome to [`Settlement::attempted`].
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
    /// No retry can help; the failure has the reason.
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
        /// The coordinator spoke of a newer producer; it answers the same when it merely timed us out.
        fenced: bool,
        /// The commit was asked for.
        asked: bool,
    },
    /// No retry can help.
    Stopped,
}

/// What the newest checkpoint shows about a commit.
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

/// What the newest checkpoint shows about `commit` of `run`, whose last transaction known to be committed is `settled`.
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

/// What a writer may do that owns its shard by the consumer group's last assignment, or does not: it fences nobody
/// then, and looks who wrote last until the shard is assigned to it again, or another run's checkpoint is the newest.
pub fn allowed(next: Next, owns: bool) -> (Wait, Next) {
    match next {
        Next::Fence if !owns => (Wait::Confirm, Next::Look),
        next => (Wait::No, next),
    }
}

/// Whether a claim goes on to `next` now. One whose shard the group has taken away since waits until it is assigned again or the
/// claim is given up: it would fence the node that serves the shard by then.
pub fn claims(next: &Next, owns: bool) -> bool {
    owns || !matches!(next, Next::Fence | Next::Look | Next::Attempt)
}

/// Whether the node `node`, which is to claim a shard, waits for its last owner: that one is still a member of the group, so
/// that it drains what it has and records so in its last checkpoint.
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

    /// Whether `stable`, the newest checkpoint that readers of committed records see now, is enough to look at. Of a node of a
    /// cluster it is where the run is its own: a claim that is still open may be one that was given up, which only a new producer
    /// ends. Where a claim hides behind an open transaction of another relay that shares the partition, the look after the new
    /// producer finds it, at the price of one fence. Any other run than its own may be an old one, seen for the same reason.
    pub fn is_shown_by(&self, stable: Option<&Newest>) -> bool {
        stable.is_some_and(|stable| stable.checkpoint.run == self.run)
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
mod tests;

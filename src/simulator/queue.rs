//! Webhooks that are to be sent: bounded, each with its time, and what became of them.

use super::model::Event;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Deliveries that may wait; beyond it new ones are dropped and counted. About 100 B each alongside the shared body.
const QUEUE_MAX: usize = 100_000;
/// How long the sender sleeps with nothing due; any change wakes it before.
pub(super) const IDLE: Duration = Duration::from_secs(3600);

/// What is to be sent, by the time at which it is due.
#[derive(Default)]
pub(super) struct Queue {
    waiting: BTreeMap<(Instant, u64), Job>,
    pushed: u64,
    /// By the number of the attempt.
    under_way: BTreeSet<u64>,
    tally: Tally,
}

/// What became of the deliveries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Attempts made.
    pub attempts: u64,
    /// Deliveries answered 2xx.
    pub delivered: u64,
    /// Deliveries given up after their last attempt.
    pub given_up: u64,
    /// Deliveries never tried, since the queue was full.
    pub dropped: u64,
}

/// One delivery to one endpoint.
pub(super) struct Job {
    pub(super) endpoint: String,
    pub(super) event: Arc<Event>,
    attempts: usize,
    /// Of its attempt under way, among all attempts; from 1.
    number: u64,
}

impl Queue {
    pub(super) fn push(&mut self, endpoint: String, event: Arc<Event>, due: Instant) {
        if self.open() >= QUEUE_MAX {
            self.tally.dropped += 1;
            return;
        }
        self.put(Job { endpoint, event, attempts: 0, number: 0 }, due);
    }

    /// Deliveries whose outcome is still open.
    pub(super) fn open(&self) -> usize {
        self.waiting.len() + self.under_way.len()
    }

    pub(super) const fn tally(&self) -> Tally {
        self.tally
    }

    /// Whether the first `attempts` attempts are over.
    pub(super) fn over(&self, attempts: u64) -> bool {
        self.under_way.first().is_none_or(|oldest| *oldest > attempts)
    }

    fn put(&mut self, job: Job, due: Instant) {
        self.waiting.insert((due, self.pushed), job);
        self.pushed += 1;
    }

    /// The next delivery that is due, else how long until one is.
    pub(super) fn take(&mut self, now: Instant) -> Result<Job, Duration> {
        match self.waiting.first_entry() {
            Some(entry) if entry.key().0 <= now => {
                self.tally.attempts += 1;
                self.under_way.insert(self.tally.attempts);
                Ok(Job { number: self.tally.attempts, ..entry.remove() })
            }
            Some(entry) => Err(entry.key().0 - now),
            None => Err(IDLE),
        }
    }

    /// Ends an attempt: the delivery is over, or waits for its next one.
    pub(super) fn settle(&mut self, mut job: Job, delivered: bool, retries: &[Duration], now: Instant) {
        self.under_way.remove(&job.number);
        job.attempts += 1;
        if delivered {
            self.tally.delivered += 1;
        } else if let Some(wait) = retries.get(job.attempts - 1) {
            self.put(job, now + *wait);
        } else {
            self.tally.given_up += 1;
        }
    }
}

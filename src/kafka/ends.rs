//! What is known of the ends of a producer's transactions: whether the last commit was asked for, and whether one may have
//! been asked for twice. Pure.

use std::time::Duration;

/// An end of a transaction that takes this long was asked for again on the same epoch, so that a copy of the request may
/// still be under way: delayed, it would end the producer's *next* transaction half way. librdkafka repeats a request no
/// sooner than 0.8 of `retry.backoff.ms`, which is ours and 1 s (`RETRY_BACKOFF` in `client::properties`).
const REPEATED_AFTER: Duration = Duration::from_millis(800);

/// The ends of one producer's transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    asked: bool,
    spent: bool,
}

impl Ends {
    /// Another transaction takes its first record.
    pub fn begin(&mut self) {
        self.asked = false;
    }

    /// Its commit is asked for.
    pub fn ask(&mut self) {
        self.asked = true;
    }

    /// A commit or an abort took this long, whatever came of it.
    pub fn took(&mut self, time: Duration) {
        self.spent |= time >= REPEATED_AFTER;
    }

    /// Whether the commit of the last transaction was asked for; one that was not cannot be committed.
    pub fn asked(self) -> bool {
        self.asked
    }

    /// Whether the producer may not begin another transaction: a copy of its last end may still be under way. A new
    /// producer has another epoch, which refuses the copy.
    pub fn spent(self) -> bool {
        self.spent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_may_have_been_repeated_is_the_producers_last() {
        for (milliseconds, spent) in [(0, false), (799, false), (800, true), (60_000, true)] {
            let mut ends = Ends::default();
            ends.took(Duration::from_millis(milliseconds));
            ends.begin();
            ends.took(Duration::ZERO);
            assert_eq!(ends.spent(), spent, "{milliseconds} ms");
        }
    }

    #[test]
    fn each_transaction_is_asked_for_on_its_own() {
        let mut ends = Ends::default();
        ends.ask();
        assert!(ends.asked());
        ends.begin();
        assert!(!ends.asked());
    }
}

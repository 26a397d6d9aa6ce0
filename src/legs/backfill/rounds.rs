//! When the event log is walked, and what one walk leaves to the next.
//!
//! Pure: time is a duration since the leg began. The leg asks when to walk and reports what became of it, and so does
//! the simulation.

use super::reconcile::{LogEnd, Period};
use super::walk::{Walk, Why};
use crate::clock::millis;
use std::time::Duration;

/// First wait after a walk that broke, or a page that could not be had; it doubles up to [`RETRY_MAX`].
pub const RETRY_MIN: Duration = Duration::from_secs(1);

/// Longest wait between two tries, unless the provider asks for more (`Retry-After`).
pub const RETRY_MAX: Duration = Duration::from_secs(60);

/// The provider's clock is known to the second (RFC 9110, section 5.6.7), and rounded down: a walk that is to confirm
/// an instant begins so much later.
const CLOCK_GRAIN: Duration = Duration::from_secs(2);

/// No log is taken to forget events that are younger than this without showing it. Walks in a row are closer together
/// unless the settings, or a provider that is away, pull them apart.
const STEADY_MAX: Duration = Duration::from_secs(3600);

/// The walks of a leg, one after the other.
#[derive(Debug)]
pub struct Rounds {
    every: Duration,
    overlap: Duration,
    /// When the last walk ended.
    ended_at: Duration,
    /// A walk that filled a gap is confirmed by another one.
    confirm_at: Option<Duration>,
    /// The last walk broke: the next one begins then, for whatever reason.
    again_at: Option<Duration>,
    wait: Duration,
    /// The end of the last time that was reported as unproven.
    told_to_ms: Option<i64>,
    /// A walk had too many pages: the next one goes on below it, and is done for the time at which that one began.
    below: Option<(Walk, i64)>,
}

impl Rounds {
    /// A leg begins, which walks after `every` (`backfill.every`) unless it is asked to before, and looks back by `overlap`
    /// (`backfill.overlap`).
    pub fn new(every: Duration, overlap: Duration) -> Self {
        Self {
            every,
            overlap,
            ended_at: Duration::ZERO,
            confirm_at: None,
            again_at: None,
            wait: RETRY_MIN,
            told_to_ms: None,
            below: None,
        }
    }

    /// When the next walk begins, at `now` or later; `wanted`: somebody has asked for one that has not begun.
    pub fn next_at(&self, now: Duration, wanted: bool) -> Duration {
        let timer = self.ended_at.saturating_add(self.every);
        let due = if wanted { now } else { self.confirm_at.map_or(timer, |at| at.min(timer)) };
        // A log that leads nowhere must not be walked in a hurry.
        self.again_at.unwrap_or(due).max(now)
    }

    /// The walk that goes on below one that had too many pages, and when that one began, in Unix milliseconds.
    pub fn below(&mut self) -> Option<(Walk, i64)> {
        self.below.take()
    }

    /// What is checked when a walk that began at `started_ms` has come to the end of the log, whose oldest event is of
    /// `oldest_ms`. Before the walk nothing was missing up to `proven_ms`, and the cursor was at `cursor_ms`. All in
    /// Unix milliseconds by the provider's clock.
    pub fn log_end(
        &self,
        (proven_ms, cursor_ms): (i64, Option<i64>),
        oldest_ms: Option<i64>,
        started_ms: i64,
    ) -> LogEnd {
        let steady = self.every.saturating_add(self.overlap).saturating_mul(2).min(STEADY_MAX);
        let told_to_ms = self.told_to_ms;
        let steady_ms = millis(steady);
        LogEnd { proven_ms, cursor_ms, oldest_ms, started_ms, told_to_ms, steady_ms }
    }

    /// It was reported that this time cannot be proven.
    pub fn told(&mut self, period: Period) {
        self.told_to_ms = Some(period.to_ms);
    }

    /// Whether the relay's note of a walk that began at `started_ms` moves the mark, at `mark_ms`, so far that the next walk
    /// waits for it.
    pub fn moves(&self, started_ms: i64, mark_ms: i64) -> bool {
        let overlap_ms = millis(self.overlap);
        started_ms.saturating_sub(overlap_ms).saturating_sub(overlap_ms) > mark_ms
    }

    /// A walk that began at `began` came to its end; `fills`: somebody had asked for it.
    pub fn done(&mut self, now: Duration, began: Duration, fills: bool) {
        self.ended_at = now;
        self.confirm_at = fills.then(|| began.saturating_add(self.overlap).saturating_add(CLOCK_GRAIN));
        self.again_at = None;
        self.wait = RETRY_MIN;
    }

    /// A walk whose first page was asked for at `started_ms` broke: how long the next one waits.
    pub fn broken(&mut self, now: Duration, why: Why, walk: Walk, started_ms: Option<i64>) -> Duration {
        if let Why::TooManyPages(event) = why {
            self.below = started_ms.map(|started_ms| (walk.below(event), started_ms));
        }
        let wait = self.wait;
        self.ended_at = now;
        self.again_at = Some(now.saturating_add(wait));
        self.wait = wait.saturating_mul(2).min(RETRY_MAX);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn rounds() -> Rounds {
        Rounds::new(s(300), s(60))
    }

    #[test]
    fn a_walk_that_fills_is_confirmed_and_then_the_timer_goes_on() {
        let mut rounds = rounds();
        assert_eq!((rounds.next_at(s(5), true), rounds.next_at(s(5), false)), (s(5), s(300)));
        rounds.done(s(20), s(10), true);
        assert_eq!(rounds.next_at(s(20), false), s(72), "overlap and the clock's grain after it began");
        rounds.done(s(75), s(72), false);
        assert_eq!((rounds.next_at(s(75), false), rounds.next_at(s(400), false)), (s(375), s(400)));
    }

    #[test]
    fn a_walk_that_broke_is_walked_again_with_growing_waits_whatever_asked_for_it() {
        let mut rounds = rounds();
        let waits: Vec<_> = (0..8).map(|_| rounds.broken(s(10), Why::Circle, Walk::new(0), None).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        for wanted in [false, true] {
            assert_eq!(rounds.next_at(s(12), wanted), s(70), "wanted: {wanted}");
        }
        rounds.done(s(80), s(70), false);
        assert_eq!(rounds.next_at(s(80), true), s(80));
        assert_eq!(rounds.broken(s(80), Why::Circle, Walk::new(0), None), RETRY_MIN);
    }

    #[test]
    fn a_note_that_hardly_moves_the_mark_is_not_waited_for() {
        assert!(!rounds().moves(120_000, 0));
        assert!(rounds().moves(120_001, 0));
    }
}

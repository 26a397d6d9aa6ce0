//! When to look whether the broker has every record of a transaction. Pure.
//!
//! Nothing tells the producer's thread: the wrapper's poll returns at its deadline alone and spins through the last
//! millisecond. A look costs a sleep and a waking, so the first one comes about when the last transactions say that it
//! can be over, and further ones after pauses that add little to the wait.

use std::time::Duration;

/// So many waits are remembered: enough to hold a short one among long ones, few enough to follow a change of load
/// within a tenth of a second.
const REMEMBERED: usize = 8;

/// A wait longer than this is looked at before it can be over, so that what Kafka delayed once is not slept through.
const SHORTEST_MAX: Duration = Duration::from_millis(20);

/// The first look comes this much before the shortest remembered wait: a wait that became shorter is found out, by as
/// much each time.
const EARLIER: Duration = Duration::from_micros(100);

/// A further look after this fraction of the wait so far.
const PAUSE_FRACTION: u32 = 32;
/// The least pause: the kernel's timers are no finer.
const PAUSE_MIN: Duration = Duration::from_micros(50);
/// The greatest.
const PAUSE_MAX: Duration = Duration::from_micros(250);

/// How long the last transactions waited for the broker.
#[derive(Debug, Default)]
pub(super) struct Pace {
    waits: [Duration; REMEMBERED],
    next: usize,
}

impl Pace {
    /// How long to sleep until the next look, `waited` after the wait began.
    pub(super) fn pause(&self, waited: Duration) -> Duration {
        let shortest = self.waits.into_iter().min().unwrap_or_default().min(SHORTEST_MAX);
        let first = shortest.saturating_sub(EARLIER).saturating_sub(waited);
        first.max((waited / PAUSE_FRACTION).clamp(PAUSE_MIN, PAUSE_MAX))
    }

    /// The wait is over, after `waited`.
    pub(super) fn over(&mut self, waited: Duration) {
        self.waits[self.next] = waited;
        self.next = (self.next + 1) % REMEMBERED;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at a wait that lasts so many microseconds: how often, and when it is found over.
    fn looks(pace: &mut Pace, lasts_us: u64) -> (usize, u64) {
        let (lasts, mut waited, mut looks) = (Duration::from_micros(lasts_us), Duration::ZERO, 0);
        while waited < lasts {
            waited += pace.pause(waited);
            looks += 1;
        }
        pace.over(waited);
        (looks, u64::try_from(waited.as_micros()).unwrap_or(u64::MAX))
    }

    #[test]
    fn a_wait_like_the_last_ones_is_looked_at_a_few_times_and_found_over_soon() {
        let mut pace = Pace::default();
        let (unknown, _) = looks(&mut pace, 2_500);
        assert!(unknown > 20, "{unknown}");
        for _ in 0..100 {
            let (looks, found) = looks(&mut pace, 2_500);
            assert!(looks <= unknown && found <= 2_600, "{looks} looks, {found} us");
        }
        let (looks, _) = looks(&mut pace, 2_500);
        assert!(looks <= 4, "{looks}");
    }

    #[test]
    fn waits_that_become_shorter_are_found_out_and_longer_ones_cost_looks_alone() {
        let mut pace = Pace::default();
        (0..REMEMBERED).for_each(|_| assert!(looks(&mut pace, 5_000).1 <= 5_250));
        (0..40).for_each(|_| assert!(looks(&mut pace, 2_000).1 <= 5_250));
        let (_, found) = looks(&mut pace, 2_000);
        assert!(found <= 2_100, "{found}");
        let (_, found) = looks(&mut pace, 9_000);
        assert!(found <= 9_250, "{found}");
    }

    #[test]
    fn what_kafka_delayed_is_not_slept_through() {
        let mut pace = Pace::default();
        (0..REMEMBERED).for_each(|_| pace.over(Duration::from_secs(30)));
        assert_eq!(pace.pause(Duration::ZERO), SHORTEST_MAX - EARLIER);
        assert_eq!(pace.pause(SHORTEST_MAX), PAUSE_MAX);
    }
}

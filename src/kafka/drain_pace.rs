//! When to look whether the broker has every record of a transaction. Pure.
//!
//! Nothing wakes the producer's thread: the wrapper's poll returns at its deadline alone and spins through the last
//! millisecond. A look costs a sleep and a waking, so the first one comes about when it can be over, going by the last
//! transactions, and further ones after pauses that add little to the wait.

use std::time::Duration;

/// This many waits of a size are remembered: enough to hold a short one among long ones, few enough to follow a change
/// of load within a tenth of a second.
const REMEMBERED: usize = 8;

/// Transactions of one record, of two or three, of four to seven, and so on: a quiet hour does not learn from a burst.
const SIZES: usize = 16;

/// A wait longer than this is looked at before it can be over, so that what Kafka delayed once is not slept through.
const FIRST_MAX: Duration = Duration::from_millis(20);

/// A wait that the first look found over may have been over for long; the next first look comes earlier by this fraction.
const EARLIER_FRACTION: u32 = 8;

/// A further look after this fraction of the wait so far.
const PAUSE_FRACTION: u32 = 32;
/// The least pause: the kernel's timers are no finer.
const PAUSE_MIN: Duration = Duration::from_micros(50);
/// The greatest.
const PAUSE_MAX: Duration = Duration::from_micros(250);

/// How long the last waits lasted at least: when they were last seen unfinished. When they were found over is less
/// exact: a thread that sleeps is woken late, and the later the busier the machine is.
#[derive(Debug, Default)]
pub struct Pace {
    lasted: [[Duration; REMEMBERED]; SIZES],
    next: usize,
}

/// One wait for the broker.
#[derive(Debug)]
pub struct Wait {
    size: usize,
    /// When it is to be looked at for the first time, until it has been.
    first: Option<Duration>,
    /// What it lasted at least.
    lasted: Duration,
}

impl Pace {
    /// A wait for this many records begins.
    pub fn begin(&self, records: usize) -> Wait {
        let size = (usize::BITS - records.leading_zeros()) as usize % SIZES;
        let first = self.lasted[size].into_iter().min().unwrap_or_default().min(FIRST_MAX);
        Wait { size, first: Some(first), lasted: first - first / EARLIER_FRACTION }
    }

    /// It is over.
    pub fn over(&mut self, wait: &Wait) {
        self.lasted[wait.size][self.next] = wait.lasted;
        self.next = (self.next + 1) % REMEMBERED;
    }
}

impl Wait {
    /// It is not over after `waited`: how long to sleep until the next look.
    pub fn pause(&mut self, waited: Duration) -> Duration {
        match self.first.take() {
            Some(first) => first.max(PAUSE_MIN),
            None => {
                self.lasted = waited;
                (waited / PAUSE_FRACTION).clamp(PAUSE_MIN, PAUSE_MAX)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every sleep of the tests is longer by this much, as the kernel's are.
    const LATE: Duration = Duration::from_micros(120);

    /// Waits `lasts_us` microseconds for `records` records: how many looks it took, and how many microseconds too late
    /// it was found over.
    fn wait(pace: &mut Pace, records: usize, lasts_us: u64) -> (usize, u128) {
        let lasts = Duration::from_micros(lasts_us);
        let mut waited = Duration::from_micros(1);
        let mut looks = 1;
        let mut wait = pace.begin(records);
        while waited < lasts {
            waited += wait.pause(waited) + LATE;
            looks += 1;
        }
        pace.over(&wait);
        (looks, (waited - lasts).as_micros())
    }

    #[test]
    fn waits_alike_are_looked_at_a_few_times_and_found_over_soon() {
        let mut pace = Pace::default();
        let (unknown, _) = wait(&mut pace, 64, 3_000);
        assert!(unknown > 15, "{unknown}");
        (0..REMEMBERED).for_each(|_| assert!(wait(&mut pace, 64, 3_000).1 <= 370));
        for _ in 0..1_000 {
            let (looks, late) = wait(&mut pace, 64, 3_000);
            assert!(looks <= 6 && late <= 370, "{looks} looks, {late} us late");
        }
    }

    #[test]
    fn shorter_waits_are_found_out_although_every_sleep_is_late() {
        let mut pace = Pace::default();
        (0..50).for_each(|_| assert!(wait(&mut pace, 64, 9_000).1 <= 370));
        let late: Vec<_> = (0..200).map(|_| wait(&mut pace, 64, 2_000).1).collect();
        assert!(late[0] >= 6_000, "{}", late[0]);
        assert!(late[15..].iter().all(|late| *late <= 370), "{:?}", &late[15..]);
    }

    #[test]
    fn a_longer_wait_costs_looks_alone() {
        let mut pace = Pace::default();
        (0..50).for_each(|_| assert!(wait(&mut pace, 64, 2_000).1 <= 370));
        let (looks, late) = wait(&mut pace, 64, 9_000);
        assert!(looks > 10 && late <= 370, "{looks} looks, {late} us late");
    }

    #[test]
    fn after_a_burst_a_single_record_is_not_waited_for_as_long() {
        let mut pace = Pace::default();
        (0..50).for_each(|_| assert!(wait(&mut pace, 1, 2_500).1 <= 370));
        (0..50).for_each(|_| assert!(wait(&mut pace, 5_000, 18_000).1 <= 370));
        assert!(wait(&mut pace, 1, 2_500).1 <= 370);
    }

    #[test]
    fn what_kafka_delayed_is_not_slept_through() {
        let mut pace = Pace::default();
        (0..2 * REMEMBERED).for_each(|_| assert!(wait(&mut pace, 1, 30_000_000).1 <= 370));
        assert_eq!(pace.begin(1).pause(Duration::ZERO), FIRST_MAX);
        assert_eq!(pace.begin(usize::MAX).pause(Duration::ZERO), PAUSE_MIN);
    }
}

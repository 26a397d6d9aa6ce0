//! What was measured since somebody last looked: the mean and the greatest, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};

/// Collects measurements of many writers for one reader, who takes them once a second.
///
/// The three numbers are not taken at one moment: a measurement made just then may count in one look and weigh in
/// the next. That is fine for a plot, and nothing else is made of it.
#[derive(Debug, Default)]
pub(super) struct Meter {
    count: AtomicU64,
    sum_us: AtomicU64,
    max_us: AtomicU64,
}

impl Meter {
    /// Measured `seconds`.
    pub(super) fn observe(&self, seconds: f64) {
        let us = micros(seconds);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
        self.max_us.fetch_max(us, Ordering::Relaxed);
    }

    /// The mean and the greatest since the last look, in milliseconds; `None` when nothing was measured.
    pub(super) fn take(&self) -> Option<(u64, u64)> {
        let count = self.count.swap(0, Ordering::Relaxed);
        let sum_us = self.sum_us.swap(0, Ordering::Relaxed);
        let max_us = self.max_us.swap(0, Ordering::Relaxed);
        let mean_us = sum_us.checked_div(count)?;
        Some((mean_us.div_ceil(1000), max_us.max(mean_us).div_ceil(1000)))
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped: a cast saturates, NaN is 0")]
fn micros(seconds: f64) -> u64 {
    (seconds.max(0.0) * 1e6) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_gives_mean_and_greatest_and_starts_again() {
        let meter = Meter::default();
        assert_eq!(meter.take(), None);
        for seconds in [0.010, 0.030, -1.0, 0.040] {
            meter.observe(seconds);
        }
        assert_eq!(meter.take(), Some((20, 40)));
        assert_eq!(meter.take(), None);
        meter.observe(f64::NAN);
        assert_eq!(meter.take(), Some((0, 0)));
    }
}

//! Repeats of a log message, thinned out and counted. Pure: time comes from the caller.

use std::time::{Duration, Instant};

/// Lets one message through in each period and counts the rest.
#[derive(Clone, Copy, Debug)]
pub struct RateLimited {
    period: Duration,
    /// When the last one went through.
    last: Option<Instant>,
    suppressed: u64,
}

impl RateLimited {
    /// At most one message each `period`.
    pub const fn new(period: Duration) -> Self {
        Self { period, last: None, suppressed: 0 }
    }

    /// Whether a message may be written `now`: `Some` with how many were held back since the last one, or `None`, and
    /// this one is counted.
    pub fn allow(&mut self, now: Instant) -> Option<u64> {
        self.allow_for(1, now)
    }

    /// The same for a message about `count` of what is counted.
    pub fn allow_for(&mut self, count: u64, now: Instant) -> Option<u64> {
        let waited = self.last.is_none_or(|last| now.saturating_duration_since(last) >= self.period);
        if !waited {
            self.suppressed = self.suppressed.saturating_add(count);
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_goes_through_and_repeats_are_counted_until_the_period_is_over() {
        let start = Instant::now();
        let mut limited = RateLimited::new(Duration::from_secs(10));
        for (seconds, expected) in
            [(0.0, Some(0)), (0.1, None), (9.9, None), (10.0, Some(2)), (10.5, None), (60.0, Some(1)), (90.0, Some(0))]
        {
            assert_eq!(limited.allow(start + Duration::from_secs_f64(seconds)), expected, "{seconds}");
        }
    }

    #[test]
    fn a_message_may_be_about_many() {
        let start = Instant::now();
        let mut limited = RateLimited::new(Duration::from_secs(10));
        assert_eq!(limited.allow_for(7, start), Some(0));
        assert_eq!(limited.allow_for(7, start), None);
        assert_eq!(limited.allow_for(5, start), None);
        assert_eq!(limited.allow_for(1, start + Duration::from_secs(10)), Some(12));
    }

    #[test]
    fn time_that_goes_back_holds_messages_back_and_does_not_panic() {
        let start = Instant::now();
        let mut limited = RateLimited::new(Duration::from_secs(10));
        assert_eq!(limited.allow(start + Duration::from_secs(5)), Some(0));
        assert_eq!(limited.allow(start), None);
    }
}

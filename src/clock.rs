//! What time it is, here and at the provider.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Unix milliseconds by our clock; 0 before 1970.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// How far the provider's clock is ahead of ours.
#[derive(Debug, Default)]
pub struct Clock {
    provider_ahead_ms: AtomicI64,
}

impl Clock {
    /// Milliseconds by which the provider's clock is ahead of ours; 0 until an answer told.
    pub fn provider_ahead_ms(&self) -> i64 {
        self.provider_ahead_ms.load(Ordering::Relaxed)
    }

    /// Unix milliseconds by the provider's clock as its last answer told it, else by ours.
    pub fn provider_ms(&self) -> i64 {
        now_ms().saturating_add(self.provider_ahead_ms())
    }

    /// The provider's `Date` header said so, just now.
    ///
    /// It tells whole seconds (RFC 9110, section 5.6.7), so its time lies somewhere in that second: what is believed
    /// changes only when it does not fit. Two clocks that agree are thus never taken for half a second apart, and
    /// events that occur in a gap are not taken for later than its end.
    pub fn learn(&self, date_ms: i64) {
        let now_ms = now_ms();
        let (least, most) = (date_ms.saturating_sub(now_ms), date_ms.saturating_add(999).saturating_sub(now_ms));
        self.provider_ahead_ms.store(self.provider_ahead_ms().clamp(least, most.max(least)), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_within_the_second_changes_nothing_and_another_no_more_than_it_must() {
        let clock = Clock::default();
        let second = |ms: i64| ms.div_euclid(1000) * 1000;
        clock.learn(second(now_ms()));
        // At the turn of a second a moment may have passed.
        assert!((-50..=0).contains(&clock.provider_ahead_ms()), "{}", clock.provider_ahead_ms());
        clock.learn(second(now_ms() + 60_000));
        assert!((59_000..=60_000).contains(&clock.provider_ahead_ms()), "{}", clock.provider_ahead_ms());
        clock.learn(second(now_ms() - 60_000));
        assert!((-60_000..=-58_900).contains(&clock.provider_ahead_ms()), "{}", clock.provider_ahead_ms());
        clock.learn(i64::MAX);
        clock.learn(i64::MIN);
        assert!(clock.provider_ms() < 0);
    }
}

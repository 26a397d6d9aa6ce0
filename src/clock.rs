//! What time it is, here and at the provider, and how times are written.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// First millisecond of the year 0, where RFC 3339 begins.
pub const MS_MIN: i64 = -62_167_219_200_000;

/// 9999-12-30T22:00:00.000Z: the last millisecond whose local time has a year of four digits at every offset.
pub const MS_MAX: i64 = 253_402_207_200_000;

/// More than hosts with any time service disagree about the time, in milliseconds.
pub const CLOCKS_DISAGREE_MS: i64 = 3_600_000;

/// Unix milliseconds by our clock; 0 before 1970.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    millis(since)
}

/// Whole milliseconds of `duration`; `i64::MAX` where there are more.
pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A time in Unix milliseconds as `2023-11-14T22:13:20.000Z` (RFC 3339, UTC), as every time of the relay is written.
///
/// Total: a time before [`MS_MIN`] or after [`MS_MAX`] is written as that bound.
pub fn rfc3339(ms: i64) -> String {
    let mut text = Vec::with_capacity(24);
    write_rfc3339(ms, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Appends what [`rfc3339`] answers.
pub fn write_rfc3339(ms: i64, out: &mut Vec<u8>) {
    let time = Timestamp::from_millisecond(ms.clamp(MS_MIN, MS_MAX)).unwrap_or_default();
    write_utc(Offset::UTC.to_datetime(time), out);
}

/// Appends `time`, a time in UTC of the years 0 to 9999, in the form of [`rfc3339`].
pub fn write_utc(time: DateTime, out: &mut Vec<u8>) {
    let mut digits = |mut number: i32, places: u32, behind: u8| {
        for place in (0..places).rev() {
            let unit = 10_i32.pow(place);
            out.push(b'0' + u8::try_from(number / unit).unwrap_or(0));
            number %= unit;
        }
        out.push(behind);
    };
    digits(time.year().into(), 4, b'-');
    digits(time.month().into(), 2, b'-');
    digits(time.day().into(), 2, b'T');
    digits(time.hour().into(), 2, b':');
    digits(time.minute().into(), 2, b':');
    digits(time.second().into(), 2, b'.');
    digits(time.millisecond().into(), 3, b'Z');
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
    fn every_time_is_written_and_those_out_of_range_as_the_bound() {
        for (ms, text) in [
            (1_700_000_000_123, "2023-11-14T22:13:20.123Z"),
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (i64::MIN, "0000-01-01T00:00:00.000Z"),
            (MS_MIN, "0000-01-01T00:00:00.000Z"),
            (MS_MAX, "9999-12-30T22:00:00.000Z"),
            (i64::MAX, "9999-12-30T22:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(ms), text, "{ms}");
        }
        assert_eq!(Timestamp::MAX.as_second() * 1_000, MS_MAX);
    }

    #[test]
    fn milliseconds_of_a_duration_end_at_the_largest_number() {
        assert_eq!(millis(Duration::from_micros(1_999)), 1);
        assert_eq!(millis(Duration::MAX), i64::MAX);
    }

    proptest::proptest! {
        #[test]
        fn any_time_is_written_and_read_back(ms in MS_MIN..=MS_MAX) {
            let text = rfc3339(ms);
            proptest::prop_assert_eq!(text.len(), 24);
            proptest::prop_assert_eq!(text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond), Some(ms));
        }
    }

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

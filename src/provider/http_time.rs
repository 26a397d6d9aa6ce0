//! Times in HTTP headers: `Date` and `Retry-After` (RFC 9110, sections 5.6.7, 6.6.1 and 10.2.3).

use jiff::fmt::rfc2822;
use std::time::{Duration, UNIX_EPOCH};

/// An answer that claims to be older than a year proves nothing.
const AGE_MAX_S: u64 = 366 * 86_400;

/// Unix milliseconds of an HTTP date in any of its three forms: `Sun, 06 Nov 1994 08:49:37 GMT`, and the obsolete
/// `Sunday, 06-Nov-94 08:49:37 GMT` and `Sun Nov  6 08:49:37 1994`, which a recipient has to read too. A date that is
/// only one of mail (RFC 5322) is read as well. Whole seconds are all that any of them has.
pub fn date_ms(value: &str) -> Option<i64> {
    let value = value.trim();
    let http = || {
        let date = httpdate::parse_http_date(value).ok()?.duration_since(UNIX_EPOCH).ok()?;
        i64::try_from(date.as_millis()).ok()
    };
    http().or_else(|| rfc2822::parse(value).ok().map(|date| date.timestamp().as_millisecond()))
}

/// How long an answer has been in caches by its `Age` (RFC 9111, section 5.1): whole seconds. Zero where it cannot be
/// read.
pub fn age(value: &str) -> Duration {
    let value = value.trim();
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = value.parse().ok().filter(|seconds| digits && *seconds <= AGE_MAX_S);
    Duration::from_secs(seconds.unwrap_or_default())
}

/// How long a `Retry-After` asks to wait, in either of its forms (seconds, HTTP date).
///
/// A date is measured against `date`, the `Date` of the same answer: the two were written by one clock, and ours plays
/// no part. Without it a date means nothing. One that has passed asks for no wait; an unreadable value for nothing.
pub fn retry_after(value: &str, date: Option<&str>) -> Option<Duration> {
    seconds(value).or_else(|| {
        let wait_ms = date_ms(value)?.saturating_sub(date_ms(date?)?);
        Some(Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0)))
    })
}

/// A number of seconds, with a fraction if there is one: ` 5 ` and `5.2`. More digits than a number holds still mean
/// "long"; the caller has its own bound.
pub fn seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let fraction = Duration::try_from_secs_f64(format!("0.{fraction}").parse().ok()?).ok()?;
    Some(Duration::from_secs(whole.parse().unwrap_or(u64::MAX)).saturating_add(fraction))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `Sun, 06 Nov 1994 08:49:37 GMT`
    const RFC_9110_MS: i64 = 784_111_777_000;

    #[test]
    fn retry_after_in_every_form() {
        let at = |value| retry_after(value, Some("Sun, 06 Nov 1994 08:49:07 GMT"));
        for (value, wait_ms) in [
            ("30", 30_000),
            (" 5 ", 5_000),
            ("5.5", 5_500),
            (" 0 ", 0),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 30_000),
            ("Sunday, 06-Nov-94 08:49:37 GMT", 30_000),
            ("Sun Nov  6 08:49:37 1994", 30_000),
            ("Sun, 06 Nov 1994 08:49:00 GMT", 0),
        ] {
            assert_eq!(at(value), Some(Duration::from_millis(wait_ms)), "{value}");
        }
        assert_eq!(at("99999999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        for nonsense in ["", "-1", "1.", ".5", "1e9", "inf", "15 minutes", "soon", "Sun, 99 Nov 1994 08:49:37 GMT"] {
            assert_eq!(at(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn a_date_is_measured_against_the_date_of_the_same_answer_alone() {
        let later = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(retry_after(later, Some("Sun, 06 Nov 1994 08:49:34 GMT")), Some(Duration::from_secs(3)));
        assert_eq!((retry_after(later, None), retry_after(later, Some("today"))), (None, None));
        assert_eq!(retry_after("3", None), Some(Duration::from_secs(3)));
    }

    #[test]
    fn ages_are_whole_seconds() {
        assert_eq!(
            (age("1800"), age(" 7 "), age("0")),
            (Duration::from_secs(1800), Duration::from_secs(7), Duration::ZERO)
        );
        for nonsense in ["", "-1", "+5", "1.5", "1h", "99999999999999999999999", "99999999999"] {
            assert_eq!(age(nonsense), Duration::ZERO, "{nonsense}");
        }
    }

    #[test]
    fn the_date_of_rfc_9110() {
        for date in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(date_ms(date), Some(RFC_9110_MS), "{date}");
        }
        assert_eq!(date_ms("yesterday"), None);
    }
}

//! Times in HTTP headers: `Date` and `Retry-After` (RFC 9110, sections 5.6.7, 6.6.1 and 10.2.3).

use jiff::fmt::rfc2822;
use std::time::Duration;

/// Unix milliseconds of an HTTP date such as `Sun, 06 Nov 1994 08:49:37 GMT`; whole seconds are all it tells.
pub fn date_ms(value: &str) -> Option<i64> {
    rfc2822::parse(value.trim()).ok().map(|date| date.timestamp().as_millisecond())
}

/// How long a `Retry-After` asks to wait, in either of its forms (seconds, HTTP date). A date that has passed
/// asks for no wait; an unreadable value for nothing.
pub fn retry_after(value: &str, now_ms: i64) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a u64 holds still mean "long"; the caller has its own bound.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let at_ms = date_ms(value)?;
    Some(Duration::from_millis(u64::try_from(at_ms.saturating_sub(now_ms)).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `Sun, 06 Nov 1994 08:49:37 GMT`
    const RFC_9110_MS: i64 = 784_111_777_000;

    #[test]
    fn retry_after_in_both_forms() {
        let at = |value| retry_after(value, RFC_9110_MS - 30_000);
        assert_eq!(at("30"), Some(Duration::from_secs(30)));
        assert_eq!(at(" 0 "), Some(Duration::ZERO));
        assert_eq!(at("99999999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        assert_eq!(at("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(at("Sun, 06 Nov 1994 08:49:00 GMT"), Some(Duration::ZERO));
        for nonsense in ["", "-1", "1.5", "15 minutes", "soon", "Sun, 99 Nov 1994 08:49:37 GMT"] {
            assert_eq!(at(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn the_date_of_rfc_9110() {
        assert_eq!(date_ms("Sun, 06 Nov 1994 08:49:37 GMT"), Some(RFC_9110_MS));
        assert_eq!(date_ms("yesterday"), None);
    }
}

//! Bodies of failed REST calls, in the three envelopes that the provider documents (`api-spec/errors`,
//! `api-spec/rate-limits`), and whatever a proxy puts in their place.

use super::http_time;
use crate::text::clip;
use serde_json::Value;
use std::time::Duration;

/// Longest code or message kept, in characters; enough for a log line.
const TEXT_CHARS_MAX: usize = 200;

/// Longest wait taken from `retry_after`. It is text for humans, so nothing longer than a day is believed.
const HINT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What the provider answers about a call that failed. The HTTP status is alongside it, not in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", code.as_deref().map(|code| format!("{code}: ")).unwrap_or_default())]
pub struct ApiError {
    /// For example `RATE_LIMIT_EXCEEDED`: an open set. Shortened.
    pub code: Option<String>,
    /// For a human, shortened; never empty.
    pub message: String,
    /// From the body's `retry_after` (`"15 minutes"`): a lower bound. The header `Retry-After` wins.
    pub retry_after_hint: Option<Duration>,
}

/// Reads the body of an answer whose status is an error. Never fails: a body that is no envelope is described.
pub fn parse(body: &[u8]) -> ApiError {
    let envelope: Value = serde_json::from_slice(body).unwrap_or_default();
    let nested = &envelope["error"];
    let text = |values: [&Value; 3]| {
        let found = values.into_iter().filter_map(Value::as_str).find(|text| !text.trim().is_empty());
        found.map(|text| clip(text.trim(), TEXT_CHARS_MAX))
    };
    ApiError {
        code: text([&nested["code"], &envelope["code"], &envelope["error_code"]]),
        message: text([&nested["message"], nested, &envelope["message"]])
            .unwrap_or_else(|| format!("no error envelope in the {} bytes of the answer", body.len())),
        retry_after_hint: hint(&envelope["retry_after"]),
    }
}

/// `"<n> seconds"`, `"<n> minutes"`, `"<n> hours"`, or seconds alone, as a number or a text: `5.2`, `" 5 "`.
fn hint(value: &Value) -> Option<Duration> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut words = text.split_whitespace();
    let count = http_time::seconds(words.next()?)?;
    let unit = match words.next().unwrap_or("seconds").trim_end_matches('s') {
        "second" | "sec" => 1,
        "minute" | "min" => 60,
        "hour" => 3_600,
        _ => return None,
    };
    Some(count.saturating_mul(unit).min(HINT_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, code: Option<&str>, message: &str, hint_seconds: Option<u64>) {
        let expected = ApiError {
            code: code.map(str::to_owned),
            message: message.to_owned(),
            retry_after_hint: hint_seconds.map(Duration::from_secs),
        };
        assert_eq!(parse(body.as_bytes()), expected, "{body}");
    }

    #[test]
    fn the_three_envelopes_are_read() {
        check(r#"{"success":false,"error":{"code":"A","message":"b"}}"#, Some("A"), "b", None);
        check(r#"{"error":"b","code":"A"}"#, Some("A"), "b", None);
        let limited = r#"{"success":false,"message":"b","error_code":"A","retry_after":"15 minutes"}"#;
        check(limited, Some("A"), "b", Some(900));
    }

    #[test]
    fn hints_are_read_and_bounded() {
        let hinted = |text: &str| parse(format!(r#"{{"retry_after":{text}}}"#).as_bytes()).retry_after_hint;
        assert_eq!(hinted("30"), Some(Duration::from_secs(30)));
        assert_eq!(hinted("5.2"), Some(Duration::from_millis(5_200)));
        assert_eq!((hinted("\"5\""), hinted("\" 5 \"")), (hinted("5"), hinted("5.0")));
        assert_eq!(hinted("\"1 minute\""), Some(Duration::from_secs(60)));
        assert_eq!(hinted("\"2 hours\""), Some(Duration::from_secs(7_200)));
        assert_eq!(hinted("\"18446744073709551615 hours\""), Some(HINT_MAX));
        for nothing in ["\"soon\"", "\"-1 minutes\"", "\"5 fortnights\"", "-1.5", "null", "{}", "\"\""] {
            assert_eq!(hinted(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn other_bodies_are_described() {
        check("", None, "no error envelope in the 0 bytes of the answer", None);
        check("<html><h1>502</h1></html>", None, "no error envelope in the 25 bytes of the answer", None);
        check(r#"{"error":{"code":5}}"#, None, "no error envelope in the 20 bytes of the answer", None);
        let long = parse(format!(r#"{{"message":"{}"}}"#, "x".repeat(100_000)).as_bytes());
        assert_eq!(long.message.chars().count(), TEXT_CHARS_MAX + 1);
    }

    #[test]
    fn it_reads_as_a_sentence() {
        assert_eq!(parse(br#"{"error":"b","code":"A"}"#).to_string(), "A: b");
        assert_eq!(parse(br#"{"error":"b"}"#).to_string(), "b");
    }
}

//! Times: whatever form the provider uses becomes RFC 3339, UTC, with milliseconds.

use crate::clock::{MS_MAX, MS_MIN, write_rfc3339, write_utc};
use jiff::civil::{Date, DateTime};
use jiff::fmt::temporal::Pieces;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};

/// Appends `text`, an ISO 8601 date and time, as a JSON string; writes nothing where it is none.
///
/// With or without fraction and offset; without an offset it is taken as UTC. A bare date names no time.
pub(super) fn iso(text: &str, out: &mut Vec<u8>) -> bool {
    if canonical(text.as_bytes()) {
        quoted(out, |out| out.extend_from_slice(text.as_bytes()));
        return true;
    }
    // `DateTime` reads past an offset that it finds; such a text must have parsed as a timestamp or is wrong.
    let local = || text.get(10..).filter(|time| time.contains(':') && !time.contains(['Z', 'z', '+', '-', '[']));
    let time = match text.parse::<Timestamp>() {
        Ok(time) => Some(Offset::UTC.to_datetime(time)),
        Err(_) => local().and_then(|_| text.parse::<DateTime>().ok()).or_else(|| last_hours(text)),
    };
    match time {
        Some(time) if (0..=9999).contains(&time.year()) => {
            quoted(out, |out| write_utc(time, out));
            true
        }
        _ => false,
    }
}

/// A time of the last 26 hours of the year 9999, with an offset: `Timestamp` ends before them.
fn last_hours(text: &str) -> Option<DateTime> {
    let pieces = Pieces::parse(text).ok().filter(|pieces| pieces.time_zone_annotation().is_none())?;
    let time = pieces.date().to_datetime(pieces.time()?);
    let offset = pieces.to_numeric_offset().filter(|_| text.starts_with("9999-12-3"))?;
    time.checked_sub(SignedDuration::from_secs(offset.seconds().into())).ok()
}

/// Appends `number`, integral Unix seconds, as a JSON string; writes nothing where it is none, or out of range.
pub(super) fn seconds(number: &str, out: &mut Vec<u8>) -> bool {
    let ms = number.parse::<i64>().ok().and_then(|seconds| seconds.checked_mul(1_000));
    match ms {
        Some(ms) if (MS_MIN..=MS_MAX).contains(&ms) => {
            quoted(out, |out| write_rfc3339(ms, out));
            true
        }
        _ => false,
    }
}

/// Whether `text` is a true time in exactly the form that values have; the provider's own form, so worth a shortcut.
fn canonical(text: &[u8]) -> bool {
    const FORM: &[u8; 24] = b"0000-00-00T00:00:00.000Z";
    let form = |(byte, form): (&u8, &u8)| if *form == b'0' { byte.is_ascii_digit() } else { byte == form };
    let two = |at: usize| (text[at] - b'0') * 10 + (text[at + 1] - b'0');
    text.len() == FORM.len()
        && text.iter().zip(FORM).all(form)
        && two(11) < 24
        && two(14) < 60
        && two(17) < 60
        && (1..=12).contains(&two(5))
        && two(8) >= 1
        && (two(8) <= 28 || {
            let year = i16::from(two(0)) * 100 + i16::from(two(2));
            i8::try_from(two(5)).ok().zip(i8::try_from(two(8)).ok()).is_some_and(|(m, d)| Date::new(year, m, d).is_ok())
        })
}

fn quoted(out: &mut Vec<u8>, inner: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    inner(out);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>) -> bool) -> Option<String> {
        let mut out = Vec::new();
        let accepted = write(&mut out);
        assert_eq!(accepted, !out.is_empty());
        accepted.then(|| String::from_utf8(out).unwrap().trim_matches('"').to_owned())
    }

    fn of_iso(text: &str) -> Option<String> {
        written(|out| iso(text, out))
    }

    #[test]
    fn every_documented_form_is_one_time() {
        let expected = Some("2026-01-15T10:00:00.000Z".to_owned());
        for text in [
            "2026-01-15T10:00:00.000Z",
            "2026-01-15T10:00:00Z",
            "2026-01-15T10:00:00",
            "2026-01-15T10:00:00.000",
            "2026-01-15T11:30:00.000+01:30",
            "2026-01-15T05:00:00-05:00",
            "2026-01-15T10:00:00.000999Z",
            "2026-01-15t10:00:00z",
            "2026-01-15 10:00:00Z",
        ] {
            assert_eq!(of_iso(text), expected, "{text}");
        }
        assert_eq!(written(|out| seconds("1768471200", out)), expected);
    }

    #[test]
    fn what_names_no_time_is_refused() {
        for text in [
            "",
            "now",
            "2026-01-15",
            "2026-13-15T10:00:00.000Z",
            "2026-00-15T10:00:00.000Z",
            "2026-02-29T10:00:00.000Z",
            "2026-01-00T10:00:00.000Z",
            "2026-01-15T24:00:00.000Z",
            "2026-01-15T10:60:00.000Z",
            "1768471200",
            "-000001-01-15T10:00:00Z",
            "2026-01-15T10:00:00-99:00",
            "2026-01-15T10:00:00Zx",
            "2026-01-15T10:00:0é",
        ] {
            assert_eq!(of_iso(text), None, "{text}");
        }
        for number in ["1768471200000", "1.5", "1e9", "-99999999999999", "9223372036854775807", "99999999999999999999"]
        {
            assert_eq!(written(|out| seconds(number, out)), None, "{number}");
        }
    }

    #[test]
    fn leap_days_and_the_ends_of_time() {
        assert_eq!(of_iso("2028-02-29T10:00:00.000Z").as_deref(), Some("2028-02-29T10:00:00.000Z"));
        assert_eq!(of_iso("2026-02-29T10:00:00.000Z"), None);
        assert_eq!(written(|out| seconds("-1", out)).as_deref(), Some("1969-12-31T23:59:59.000Z"));
    }

    #[test]
    fn the_last_second_of_the_last_year_is_one_time_in_every_form() {
        for text in [
            "9999-12-31T23:59:59.000Z",
            "9999-12-31T23:59:59Z",
            "9999-12-31T23:59:59",
            "9999-12-31T23:59:59+00:00",
            "9999-12-31T22:59:59-01:00",
            "9999-12-31t23:59:59z",
        ] {
            assert_eq!(of_iso(text).as_deref(), Some("9999-12-31T23:59:59.000Z"), "{text}");
        }
        assert_eq!(written(|out| seconds("253402300799", out)).as_deref(), Some("9999-12-31T23:59:59.000Z"));
        assert_eq!(of_iso("9999-12-31T23:59:59-01:00"), None, "the year 10000");
        assert_eq!(of_iso("9999-12-31T23:59:59+00:00[Europe/Paris]"), None);
        assert_eq!(written(|out| seconds("253402300800", out)), None);
    }

    proptest::proptest! {
        #[test]
        fn any_time_is_written_and_read_back(time in MS_MIN..=MS_MAX - 26 * 3_600_000) {
            let mut out = Vec::new();
            write_rfc3339(time, &mut out);
            proptest::prop_assert!(canonical(&out));
            let text = std::str::from_utf8(&out).unwrap();
            proptest::prop_assert_eq!(text.parse::<Timestamp>().unwrap().as_millisecond(), time);
            proptest::prop_assert_eq!(of_iso(text).unwrap(), text);
        }
    }
}

//! Single values of the provider as people read them: money, times, ids, links. Nothing in them that a terminal obeys.

use crate::normalize::decimal_text;
use crate::provider::rest::{ObjectTime, Spelled};
use crate::text::foreign;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Shown in place of a value that is missing.
pub(super) const NOTHING: &str = "–";

/// Longest link that is shown whole; a pay link with session and signature has some 150 characters.
const LINK_BYTES_MAX: usize = 4 << 10;

/// A foreign text, or the dash.
pub(super) fn text(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).map_or_else(|| NOTHING.to_owned(), |text| foreign(text).to_string())
}

/// An amount of dollars with two places at least, or the dash; a spelling that is no plain number as it came.
pub(super) fn usd(amount: Option<&Spelled>) -> String {
    let Some(Spelled(spelled)) = amount else { return NOTHING.to_owned() };
    decimal_text(spelled).map_or_else(|| foreign(spelled).to_string(), |text| foreign(&text).to_string())
}

/// A link whole, so that it can be followed. One with characters that no link has is shown as any foreign text.
pub(super) fn link(url: &str) -> String {
    if url.len() <= LINK_BYTES_MAX && url.bytes().all(|byte| byte.is_ascii_graphic()) {
        url.to_owned()
    } else {
        foreign(url).to_string()
    }
}

/// A wallet in short, `0x5290…9EE7`: enough to tell it from another by eye.
pub(super) fn wallet(address: &str) -> String {
    let characters: Vec<char> = address.chars().collect();
    let short = match characters.len() {
        0..=13 => address.to_owned(),
        length => characters[..6].iter().chain(&['…']).chain(&characters[length - 4..]).collect(),
    };
    foreign(&short).to_string()
}

/// In which zone times are shown.
#[derive(Clone, Debug)]
pub(super) struct Zone(TimeZone);

impl Zone {
    /// UTC, or the zone of the system (`TZ`, else `/etc/localtime`).
    pub(super) fn new(utc: bool) -> Self {
        Self(if utc { TimeZone::UTC } else { TimeZone::system() })
    }

    /// `2026-01-15 11:00:00 CET`, or the dash.
    pub(super) fn time(&self, at: Option<ObjectTime>) -> String {
        at.map_or_else(|| NOTHING.to_owned(), |ObjectTime(at)| self.show(at, "%F %T %Z"))
    }

    /// `2026-01-15 11:00`, for tables; or the dash.
    pub(super) fn minute(&self, at: Option<ObjectTime>) -> String {
        at.map_or_else(|| NOTHING.to_owned(), |ObjectTime(at)| self.show(at, "%F %H:%M"))
    }

    fn show(&self, at: Timestamp, format: &str) -> String {
        at.to_zoned_datetime(self.0.clone()).strftime(format).to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]

    use super::*;

    #[test]
    fn money_has_two_places() {
        let shown = |spelled: &str| usd(Some(&Spelled(spelled.to_owned())));
        assert_eq!(["28.97", "11.5", "3", "28.970", "0.125"].map(shown), ["28.97", "11.50", "3.00", "28.97", "0.125"]);
        assert_eq!((shown("1e2"), shown("\u{1b}[2J"), usd(None)), ("1e2".into(), "\\u{1b}[2J".into(), "–".into()));
        assert!(shown(&"9".repeat(100_000)).chars().count() < 300);
    }

    #[test]
    fn times_are_of_the_zone() {
        let at = Some(ObjectTime("2026-01-15T10:00:00.123Z".parse().unwrap()));
        let zone = Zone(TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap());
        assert_eq!(zone.time(at), "2026-01-15 11:00:00 CET");
        assert_eq!(zone.minute(at), "2026-01-15 11:00");
        assert_eq!(
            (Zone::new(true).time(at), Zone::new(true).time(None)),
            ("2026-01-15 10:00:00 UTC".into(), "–".into())
        );
    }

    #[test]
    fn a_link_is_whole_and_harmless() {
        let long = format!("https://pay.example.com/?session={}", "s".repeat(500));
        assert_eq!(link(&long), long);
        assert_eq!(link("https://pay.example.com/\u{1b}]8;;x"), "https://pay.example.com/\\u{1b}]8;;x");
        assert!(link(&"x".repeat(1 << 20)).chars().count() < 300);
    }

    #[test]
    fn a_wallet_is_short() {
        assert_eq!(wallet("0x52908400098527886E0F7030069857D2E4169EE7"), "0x5290…9EE7");
        assert_eq!((wallet("short"), wallet("")), ("short".into(), String::new()));
        assert_eq!(wallet(&"ä".repeat(14)), "ääääää…ääää");
    }
}

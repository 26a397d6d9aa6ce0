//! One record as one line of a live log: for `tail` and `demo`.
//!
//! Pure: the content of a line depends on the record alone. Everything in it that others wrote is escaped and cut, so
//! that no record can move the cursor of a terminal or fill its screen.

use super::output::paint;
use crate::text::foreign;
use owo_colors::Style;
use serde::Deserialize;

/// Widths of the columns, in characters: of the longest thing that belongs there, so that columns are aligned.
const STATUS_WIDTH: usize = "pending_payment → processing".len() - "→".len() + 1;
const LEG_WIDTH: usize = "websocket".len();
const TYPE_WIDTH: usize = "commerce.order.updated".len();

/// Characters of a foreign text at most; what is longer ends in `…`. No documented name is half as long.
const FOREIGN_MAX: usize = 60;

/// What a line shows of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineInput {
    /// When the record was published, in Unix milliseconds.
    pub at_ms: i64,
    /// The record's key: an order id, an invoice id, or on the other topics what they are keyed by.
    pub key: String,
    /// The provider's name of the event, such as `commerce.order.updated`.
    pub event_type: String,
    /// The status after the event.
    pub status: Option<String>,
    /// The status before it, where the event changed it.
    pub previous: Option<String>,
    /// The members that the event changed.
    pub changed: Vec<String>,
    /// The leg that won.
    pub leg: String,
    /// An event newer than this one was published before it.
    pub stale: bool,
    /// Published again on purpose.
    pub replay: bool,
    /// What is shown in the place of the status, for a record that has none.
    pub note: Option<String>,
}

/// The members of a value that a line shows; everything else in it is passed over.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Glance {
    status: Option<String>,
    previous_status: Option<String>,
    changed: Vec<String>,
}

impl LineInput {
    /// Reads a record of any of the relay's topics; headers in any order, a missing one shows as nothing.
    pub fn read(at_ms: i64, key: Option<&[u8]>, headers: &[(String, Vec<u8>)], value: Option<&[u8]>) -> Self {
        let header = |name: &str| {
            headers.iter().find(|(n, _)| n == name).map(|(_, value)| String::from_utf8_lossy(value).into_owned())
        };
        let glance = value.and_then(|value| serde_json::from_slice::<Glance>(value).ok()).unwrap_or_default();
        let note = match (value, header("relay_reason")) {
            (None, _) => Some("forgotten".to_owned()),
            (Some(_), Some(reason)) => Some(reason),
            (Some(value), None) if glance.status.is_none() => Some(String::from_utf8_lossy(value).into_owned()),
            (Some(_), None) => None,
        };
        Self {
            at_ms,
            key: String::from_utf8_lossy(key.unwrap_or_default()).into_owned(),
            event_type: header("ce_type").unwrap_or_default(),
            status: glance.status,
            previous: glance.previous_status,
            changed: glance.changed,
            leg: header("relay_leg").unwrap_or_default(),
            stale: header("relay_stale").is_some_and(|stale| stale == "true"),
            replay: header("relay_replay").is_some(),
            note,
        }
    }
}

/// The line, without its end. Columns: time (UTC), key, status, leg, event type, and what is special.
pub fn render(input: &LineInput, colour: bool) -> String {
    let dim = Style::new().dimmed();
    let mut line = format!(
        "{}  {}  {}  {}  {}",
        paint(&time(input.at_ms), dim, colour),
        paint(&column(&clean(&short(&input.key)), KEY_WIDTH), Style::new().bold(), colour),
        standing(input, colour),
        paint(&column(&clean(&input.leg), LEG_WIDTH), leg_style(&input.leg), colour),
        paint(&column(&clean(&input.event_type), TYPE_WIDTH), dim, colour),
    );
    for (mark, shown) in [("stale", input.stale), ("replay", input.replay)] {
        if shown {
            line.push_str("  ");
            line.push_str(&paint(mark, Style::new().yellow().bold(), colour));
        }
    }
    if !input.changed.is_empty() && input.previous.is_none() {
        let changed = clean(&input.changed.join(", "));
        line.push_str("  ");
        line.push_str(&paint(&changed, dim, colour));
    }
    line.truncate(line.trim_end().len());
    line
}

/// The column of the status: `previous → new`, a status that stayed, or the note.
fn standing(input: &LineInput, colour: bool) -> String {
    let (plain, painted) = match (&input.note, &input.status, &input.previous) {
        (Some(note), ..) => {
            let note = cut(&clean(note), STATUS_WIDTH);
            (note.clone(), paint(&note, note_style(input), colour))
        }
        (None, Some(status), Some(previous)) if status != previous => {
            let status = clean(status);
            let previous = clean(previous);
            let painted = format!(
                "{} → {}",
                paint(&previous, Style::new().dimmed(), colour),
                paint(&status, status_style(&status), colour)
            );
            (format!("{previous} → {status}"), painted)
        }
        (None, Some(status), _) => {
            let status = clean(status);
            (status.clone(), paint(&status, status_style(&status), colour))
        }
        (None, None, _) => (String::new(), String::new()),
    };
    // Padded by what is seen: colour codes have no width.
    let padding = STATUS_WIDTH.saturating_sub(plain.chars().count());
    format!("{painted}{:padding$}", "")
}

/// A colour per state, the same for orders and invoices: waiting yellow, moving blue, good end green, bad end red.
/// Statuses are an open set; an unknown one is plain.
pub(super) fn status_style(status: &str) -> Style {
    match status {
        "pending_payment" | "unpaid" | "underpaid" | "pending" | "manual_retry" => Style::new().yellow(),
        "processing" => Style::new().cyan(),
        "placed" => Style::new().blue(),
        "shipped" => Style::new().magenta(),
        "delivered" | "paid" | "confirmed" | "settled" => Style::new().green(),
        "failed" | "cancelled" | "canceled" | "expired" => Style::new().red(),
        _ => Style::new(),
    }
}

fn leg_style(leg: &str) -> Style {
    match leg {
        "websocket" => Style::new().cyan(),
        "webhook" => Style::new().green(),
        "backfill" => Style::new().yellow(),
        _ => Style::new(),
    }
}

/// A dead letter's reason is red; a tombstone and everything else is no alarm.
fn note_style(input: &LineInput) -> Style {
    if input.event_type.is_empty() && !input.leg.is_empty() { Style::new().red() } else { Style::new().dimmed() }
}

/// `22:13:20.123` of the day in UTC; a time outside the calendar shows as its number.
fn time(at_ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(at_ms) {
        Ok(at) => at.strftime("%H:%M:%S%.3f").to_string(),
        Err(_) => at_ms.to_string(),
    }
}

/// First and last characters of a shortened key, enough to tell orders of a day apart by eye.
const KEY_HEAD: usize = 8;
const KEY_TAIL: usize = 4;
const KEY_WIDTH: usize = KEY_HEAD + 1 + KEY_TAIL;

/// `3f0c9a52…6a40`; what fits stays whole.
fn short(key: &str) -> String {
    let length = key.chars().count();
    if length <= KEY_WIDTH {
        return key.to_owned();
    }
    let head: String = key.chars().take(KEY_HEAD).collect();
    let tail: String = key.chars().skip(length - KEY_TAIL).collect();
    format!("{head}…{tail}")
}

/// Foreign text made harmless, and short enough for a line.
fn clean(text: &str) -> String {
    // Cut first: escaping a megabyte to show sixty characters of it would be work that any peer can cause.
    let start: String = text.chars().take(FOREIGN_MAX + 1).collect();
    cut(&foreign(&start).to_string(), FOREIGN_MAX)
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(width - 1).collect();
    kept.push('…');
    kept
}

fn column(text: &str, width: usize) -> String {
    format!("{text:width$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_MS: i64 = 1_768_472_100_655;
    const ORDER: &[u8] = b"7b0f6a52-3c1e-4f55-9a6e-2d1f0c9e4a11";

    fn headers(pairs: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect()
    }

    fn order(value: &str, more: &[(&str, &str)]) -> LineInput {
        let pairs = [&[("ce_type", "commerce.order.updated"), ("relay_leg", "websocket")], more].concat();
        LineInput::read(AT_MS, Some(ORDER), &headers(&pairs), Some(value.as_bytes()))
    }

    #[test]
    fn lines_are_aligned_in_columns() {
        let invoice = headers(&[("ce_type", "invoice.updated"), ("relay_leg", "webhook")]);
        let dead = headers(&[("relay_leg", "webhook"), ("relay_reason", "malformed_json")]);
        let lines = [
            order(r#"{"status":"processing","previous_status":"pending_payment","changed":["status"]}"#, &[]),
            order(r#"{"status":"processing","previous_status":null,"changed":["payment","substatus"]}"#, &[]),
            order(r#"{"status":"shipped","previous_status":"placed"}"#, &[("relay_stale", "true")]),
            order(r#"{"status":"delivered","previous_status":"shipped"}"#, &[("relay_replay", "3f0c")]),
            order(r#"{"status":"fulfilled"}"#, &[("relay_stale", "false")]),
            LineInput::read(AT_MS, Some(b"inv_1"), &invoice, Some(br#"{"status":"paid","previous_status":"unpaid"}"#)),
            LineInput::read(AT_MS, Some(b"evt_1768472100655-0"), &dead, Some(b"{\"id\":")),
            LineInput::read(AT_MS, Some(ORDER), &[], None),
            LineInput::read(AT_MS, Some(b"pepay-relay/checkpoint"), &[], Some(br#"{"run":"5d2f","commit":7}"#)),
        ]
        .map(|input| render(&input, false))
        .join("\n");
        insta::assert_snapshot!(lines, @"
        10:15:00.655  7b0f6a52…4a11  pending_payment → processing  websocket  commerce.order.updated
        10:15:00.655  7b0f6a52…4a11  processing                    websocket  commerce.order.updated  payment, substatus
        10:15:00.655  7b0f6a52…4a11  placed → shipped              websocket  commerce.order.updated  stale
        10:15:00.655  7b0f6a52…4a11  shipped → delivered           websocket  commerce.order.updated  replay
        10:15:00.655  7b0f6a52…4a11  fulfilled                     websocket  commerce.order.updated
        10:15:00.655  inv_1          unpaid → paid                 webhook    invoice.updated
        10:15:00.655  evt_1768…55-0  malformed_json                webhook
        10:15:00.655  7b0f6a52…4a11  forgotten
        10:15:00.655  pepay-re…oint  {\"run\":\"5d2f\",\"commit\":7}
        ");
    }

    #[test]
    fn colour_changes_nothing_but_colour() {
        let input = order(r#"{"status":"placed","previous_status":"processing"}"#, &[("relay_stale", "true")]);
        let coloured = render(&input, true);
        insta::assert_snapshot!(coloured.replace('\u{1b}', "ESC"), @"ESC[2m10:15:00.655ESC[0m  ESC[1m7b0f6a52…4a11ESC[0m  ESC[2mprocessingESC[0m → ESC[34mplacedESC[0m           ESC[36mwebsocketESC[0m  ESC[2mcommerce.order.updatedESC[0m  ESC[33;1mstaleESC[0m");
        let mut plain = String::new();
        let mut in_code = false;
        for character in coloured.chars() {
            match character {
                '\u{1b}' => in_code = true,
                'm' if in_code => in_code = false,
                _ if in_code => {}
                _ => plain.push(character),
            }
        }
        assert_eq!(plain, render(&input, false));
    }

    #[test]
    fn no_foreign_text_reaches_the_terminal_as_it_is() {
        let hostile = "\u{1b}]0;pwned\u{7}\u{1b}[2J\r\n\u{9b}31m\u{202e}";
        let input = LineInput {
            at_ms: i64::MAX,
            key: hostile.repeat(9_000),
            event_type: hostile.repeat(9_000),
            status: Some(hostile.repeat(9_000)),
            previous: Some(hostile.to_owned()),
            changed: vec![hostile.to_owned(); 9_000],
            leg: hostile.to_owned(),
            note: None,
            ..LineInput::default()
        };
        for input in [input.clone(), LineInput { note: Some(hostile.to_owned()), ..input }] {
            let line = render(&input, false);
            assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'), "{line:?}");
            assert!(line.chars().count() < 500, "{}", line.chars().count());
        }
    }

    #[test]
    fn a_long_status_moves_only_its_own_line() {
        let long = "s".repeat(10_000);
        let line = render(&LineInput { status: Some(long), ..LineInput::default() }, false);
        assert!(line.contains('…') && line.chars().count() < 120, "{line}");
    }
}

//! Event ids and their order.

use std::fmt;
use std::str::FromStr;

/// An event id of the form `evt_<ms>-<seq>`, ordered by both numbers as integers.
///
/// Documented by example (`api-reference/events/retrieve-a-single-event-by-id`). Ids that do not have this
/// form occur (`evt_example`, `api-spec/webhook-events`): they deduplicate as text, but never become a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// Unix milliseconds at which the provider issued the event.
    pub ms: u64,
    /// Sequence number beside the milliseconds; whether it restarts each millisecond is not documented.
    pub seq: u64,
}

/// The text is not `evt_<ms>-<seq>` in plain decimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event id that can be a cursor has the form evt_<milliseconds>-<number>")]
pub struct NotACursor;

impl FromStr for EventId {
    type Err = NotACursor;

    fn from_str(text: &str) -> Result<Self, NotACursor> {
        let (ms, seq) = text.strip_prefix("evt_").and_then(|rest| rest.split_once('-')).ok_or(NotACursor)?;
        Ok(Self { ms: decimal(ms)?, seq: decimal(seq)? })
    }
}

/// Digits only (`u64::from_str` also takes a sign), without leading zeros: two texts of one id would be two keys.
fn decimal(digits: &str) -> Result<u64, NotACursor> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    if plain { digits.parse().map_err(|_| NotACursor) } else { Err(NotACursor) }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "evt_{}-{}", self.ms, self.seq)
    }
}

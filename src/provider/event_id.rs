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
    /// Sequence number alongside the milliseconds; whether it restarts each millisecond is not documented.
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
    if digits.is_empty() || digits.len() > 1 && digits.starts_with('0') {
        return Err(NotACursor);
    }
    let add = |value: u64, byte: u8| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 { None } else { value.checked_mul(10)?.checked_add(u64::from(digit)) }
    };
    digits.bytes().try_fold(0, add).ok_or(NotACursor)
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "evt_{}-{}", self.ms, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(ms: u64, seq: u64) -> EventId {
        EventId { ms, seq }
    }

    #[test]
    fn ids_are_read_as_two_integers() {
        assert_eq!("evt_1700000000000-123".parse(), Ok(id(1_700_000_000_000, 123)));
        assert_eq!("evt_0-0".parse(), Ok(id(0, 0)));
        assert_eq!("evt_18446744073709551615-0".parse(), Ok(id(u64::MAX, 0)));
    }

    #[test]
    fn other_texts_are_no_cursor() {
        for text in [
            "",
            "evt_",
            "evt_example",
            "evt_1",
            "evt_-1",
            "evt_1-",
            "evt_1-2-3",
            "evt_+1-2",
            "evt_1--2",
            "evt_01-2",
            "evt_1-00",
            "evt_1 -2",
            "evt_1-2 ",
            "EVT_1-2",
            "1-2",
            "evt_18446744073709551616-0",
            "evt_١-2",
            "evt_0x1-2",
        ] {
            assert_eq!(text.parse::<EventId>(), Err(NotACursor), "{text}");
        }
    }

    #[test]
    fn order_is_that_of_integers() {
        let ascending = ["evt_5-9", "evt_5-10", "evt_6-0", "evt_10-0"].map(|text| text.parse::<EventId>().ok());
        assert!(ascending.is_sorted() && ascending[0].is_some());
    }

    proptest! {
        #[test]
        fn text_and_id_are_one_to_one(ms: u64, seq: u64) {
            prop_assert_eq!(id(ms, seq).to_string().parse(), Ok(id(ms, seq)));
        }

        #[test]
        fn what_parses_is_spelled_the_one_way(text in "(evt_)?[0-9+]{0,21}-?[0-9]{0,3}") {
            if let Ok(id) = text.parse::<EventId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}

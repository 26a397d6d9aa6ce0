//! The event envelope (`PepayEvent`, format `event_v1`): the same on the WebSocket, in webhooks and in the event log.
//!
//! Only the envelope is read here; `data.object` is cut up, for [`crate::normalize`]. Of the members that every
//! documented sample has, `id`, `object`, `type` and `data.object` are required (`api-spec/webhook-events`,
//! `api-reference/events/list-events`).

use super::EventId;
use super::json::{self, DEPTH_MAX};
use super::tape::{At, ROOT, Tape};
use crate::text::clip;
use std::borrow::Cow;
use std::fmt;

/// Longest piece of foreign text in a [`Undecodable::detail`], in characters.
const DETAIL_CHARS_MAX: usize = 120;

/// Longest order id kept, in characters; the provider's are UUIDs.
pub(super) const ORDER_ID_CHARS_MAX: usize = 256;

/// One event of the provider, borrowed from the bytes that brought it.
pub struct Event<'a> {
    /// `evt_<ms>-<seq>` as a rule; never empty.
    pub id: Cow<'a, str>,
    /// The same, read.
    cursor: Option<EventId>,
    /// For example `commerce.order.updated`.
    pub event_type: Cow<'a, str>,
    /// When the provider made it, in Unix seconds.
    pub created: Option<i64>,
    /// True on mainnet, false on devnet; the samples of some pages leave it out.
    pub livemode: Option<bool>,
    /// All of it, cut up.
    pub(crate) tape: Tape<'a>,
    /// `data.object`: always an object.
    pub(crate) object: At,
    /// `data.previous_attributes`: earlier values of what changed, on `….updated`.
    pub(crate) previous_attributes: Option<At>,
}

/// The envelope's members that are read.
const OUTER: [&str; 6] = ["object", "id", "type", "created", "livemode", "data"];
/// The members of `data` that are read.
const INNER: [&str; 2] = ["object", "previous_attributes"];

impl Event<'_> {
    /// The id as a place in the provider's order; `None` for ids like `evt_example`.
    pub fn cursor(&self) -> Option<EventId> {
        self.cursor
    }

    /// When it happened, in Unix milliseconds: the id's, else `created`.
    pub fn occurred_at_ms(&self) -> Option<i64> {
        occurred_at_ms(self.cursor(), self.created)
    }
}

/// When an event of that id and `created` (Unix seconds) happened, in Unix milliseconds.
pub(super) fn occurred_at_ms(id: Option<EventId>, created: Option<i64>) -> Option<i64> {
    match id {
        Some(id) => Some(i64::try_from(id.ms).unwrap_or(i64::MAX)),
        None => created.map(|seconds| seconds.saturating_mul(1_000)),
    }
}

/// Shows id and type alone: an event's content belongs into no log.
impl fmt::Debug for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("id", &self.id).field("event_type", &self.event_type).finish_non_exhaustive()
    }
}

/// Why a delivery becomes a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No JSON, no UTF-8, or nested too deep.
    MalformedJson,
    /// JSON, but its `object` is not `event`.
    NotAnEvent,
    /// An event without an id, a type, a `data.object`, a time, or the id of what it is about.
    MissingField,
    /// An event of a type that has no topic.
    UnknownType,
    /// An event that names another environment than the relay's.
    WrongEnvironment,
    /// Kafka refused the record for its size.
    TooLarge,
    /// Kafka refused the record for another reason, again and again.
    InvalidRecord,
}

impl Reason {
    /// Every reason, in the order in which tables list them.
    pub const ALL: [Self; 7] = [
        Self::MalformedJson,
        Self::NotAnEvent,
        Self::MissingField,
        Self::UnknownType,
        Self::WrongEnvironment,
        Self::TooLarge,
        Self::InvalidRecord,
    ];

    /// The name used in the header `relay_reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MalformedJson => "malformed_json",
            Self::NotAnEvent => "not_an_event",
            Self::MissingField => "missing_field",
            Self::UnknownType => "unknown_type",
            Self::WrongEnvironment => "wrong_environment",
            Self::TooLarge => "too_large",
            Self::InvalidRecord => "invalid_record",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Bytes that are no event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Undecodable {
    /// What kind of defect.
    pub reason: Reason,
    /// The defect in words, short and without the delivery's content.
    pub detail: String,
    /// The event's id, where one could be read: copies that came by other legs have it too.
    pub id: Option<String>,
}

/// Reads the envelope of one event.
pub fn decode(bytes: &[u8]) -> Result<Event<'_>, Undecodable> {
    let refuse = |reason, detail: String| Undecodable { reason, detail, id: None };
    let text = std::str::from_utf8(bytes)
        .map_err(|error| refuse(Reason::MalformedJson, format!("not UTF-8 at byte {}", error.valid_up_to())))?;
    let Some(tape) = Tape::of(text) else { return Err(malformed(text)) };
    let named = tape.named(ROOT, &OUTER);
    let [object, id, event_type, created, livemode, data] =
        named.ok_or_else(|| refuse(Reason::NotAnEvent, "not a JSON object".into()))?;
    if ![Some(ROOT), data].into_iter().flatten().all(|object| tape.has_names_of_text(object)) {
        return Err(malformed(text));
    }
    let string = |at: At| tape.exact_string(at);
    let id = id.and_then(string).filter(|id| !id.is_empty());
    let refuse = |reason, detail: String| Undecodable { reason, detail, id: id.as_deref().map(str::to_owned) };
    match object.and_then(string) {
        Some(object) if object == "event" => {}
        Some(other) => {
            let other = clip(&other, DETAIL_CHARS_MAX);
            return Err(refuse(Reason::NotAnEvent, format!("`object` is `{other}`, not `event`")));
        }
        None => return Err(refuse(Reason::NotAnEvent, "`object` is missing or no text".into())),
    }
    let missing = |name: &str| refuse(Reason::MissingField, format!("`{name}` is missing or of the wrong type"));
    let event_type = event_type.and_then(string).ok_or_else(|| missing("type"))?;
    let inside = data.and_then(|data| tape.named(data, &INNER)).unwrap_or_default();
    let [object, previous_attributes] = inside;
    let object = object.filter(|object| tape.kind(*object) == b'{').ok_or_else(|| missing("data.object"))?;
    let Some(id) = id else {
        return Err(missing("id"));
    };
    Ok(Event {
        cursor: id.parse().ok(),
        id,
        event_type,
        created: created.and_then(|seconds| tape.text(seconds).parse().ok()),
        livemode: livemode.and_then(|flag| tape.text(flag).parse().ok()),
        object,
        previous_attributes,
        tape,
    })
}

/// What is wrong with a text that has no tape, or a name in its envelope that is no text; and the id in it where both can be
/// read.
fn malformed(text: &str) -> Undecodable {
    let read = || -> serde_json::Result<Option<String>> {
        let [id, data] = json::members(text, &["id", "data"])?.unwrap_or_default();
        data.map(|data| json::members(data.get(), &[])).transpose()?;
        Ok(id.and_then(json::string).filter(|id| !id.is_empty()).map(Cow::into_owned))
    };
    let (detail, id) = match read() {
        Err(error) => (clip(&error.to_string(), DETAIL_CHARS_MAX), None),
        Ok(id) => (format!("nested deeper than {DEPTH_MAX}"), id),
    };
    Undecodable { reason: Reason::MalformedJson, detail, id }
}

/// The id of the order that an event is about; `None` for events of another kind.
///
/// The documentation spells it `orderId`, `order_id` and `id` (`api-spec/webhook-events`).
pub fn order_of_event(bytes: &[u8]) -> Option<String> {
    let event = decode(bytes).ok().filter(|event| event.event_type.starts_with("commerce.order."))?;
    let ids = event.tape.named(event.object, &["orderId", "order_id", "id"])?;
    let id = ids.into_iter().flatten().filter_map(|at| event.tape.exact_string(at)).find(|id| !id.is_empty())?;
    Some(clip(&id, ORDER_ID_CHARS_MAX))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]

    use super::*;

    const EVENT: &str = r#"{"id":"evt_1700000000000-123","object":"event","created":1700000000,"type":"commerce.order.updated","livemode":false,
        "data":{"object":{"id":"o1"},"previous_attributes":{"status":"placed"}}}"#;

    fn check(text: &str, reason: Reason, id: Option<&str>) {
        let refused = decode(text.as_bytes()).unwrap_err();
        assert_eq!((refused.reason, refused.id.as_deref()), (reason, id), "{text}: {}", refused.detail);
        assert!(refused.detail.chars().count() <= DETAIL_CHARS_MAX + 40, "{}", refused.detail);
    }

    #[test]
    fn an_event_is_read() {
        let event = decode(EVENT.as_bytes()).unwrap();
        assert_eq!((&*event.id, &*event.event_type), ("evt_1700000000000-123", "commerce.order.updated"));
        assert_eq!((event.created, event.livemode), (Some(1_700_000_000), Some(false)));
        assert_eq!(event.tape.text(event.object), r#"{"id":"o1"}"#);
        assert_eq!(event.previous_attributes.map(|at| event.tape.text(at)), Some(r#"{"status":"placed"}"#));
        assert_eq!(event.cursor(), Some(EventId { ms: 1_700_000_000_000, seq: 123 }));
        assert_eq!(event.occurred_at_ms(), Some(1_700_000_000_000));
        assert!(!format!("{event:?}").contains("o1"));
    }

    #[test]
    fn the_time_comes_from_the_id_else_from_created() {
        let at = |id: &str, created: &str| {
            let text =
                format!(r#"{{"id":"{id}","object":"event","type":"t","created":{created},"data":{{"object":{{}}}}}}"#);
            decode(text.as_bytes()).unwrap().occurred_at_ms()
        };
        assert_eq!(at("evt_5-0", "1700000000"), Some(5));
        assert_eq!(at("evt_example", "1700000000"), Some(1_700_000_000_000));
        assert_eq!(at("evt_example", "9223372036854775807"), Some(i64::MAX));
        assert_eq!(at("evt_18446744073709551615-0", "0"), Some(i64::MAX));
        for unknown in ["1.5", "1e3", "null", "\"1\"", "99999999999999999999"] {
            assert_eq!(at("evt_example", unknown), None, "{unknown}");
        }
    }

    #[test]
    fn what_is_no_json_is_malformed() {
        for text in ["", "{", "nonsense", "{\"object\":\"event\"", "{} {}", "{\"id\":\"\u{1}\"}"] {
            check(text, Reason::MalformedJson, None);
        }
        assert_eq!(decode(b"{\"id\":\"\xff\"}").unwrap_err().reason, Reason::MalformedJson);
        // The walk reads the same text with `json::members`, and must not find an id where this finds none.
        let half = |member: &str| EVENT.replacen(member, &format!(r#""\ud800":1,{member}"#), 1);
        check(&half(r#""created""#), Reason::MalformedJson, None);
        check(&half(r#""object":{"#), Reason::MalformedJson, None);
        assert!(decode(half(r#""id":"o1""#).as_bytes()).is_ok(), "what an object holds is not read here");
    }

    #[test]
    fn nesting_is_bounded_wherever_it_is() {
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        let with = |member: String| EVENT.replacen("\"created\"", &format!("{member},\"created\""), 1);
        assert!(decode(with(format!("\"request\":{}", deep(127))).as_bytes()).is_ok());
        check(&with(format!("\"request\":{}", deep(128))), Reason::MalformedJson, Some("evt_1700000000000-123"));
        check(&deep(100_000), Reason::MalformedJson, None);
    }

    #[test]
    fn what_is_no_event_is_refused_with_its_reason() {
        for text in ["[]", "null", "5", "\"event\"", "{}", r#"{"object":5}"#, r#"{"object":"ws_control"}"#] {
            check(text, Reason::NotAnEvent, None);
        }
        check(r#"{"object":"order","id":"evt_1-0"}"#, Reason::NotAnEvent, Some("evt_1-0"));
        check(&format!(r#"{{"object":"{}"}}"#, "x".repeat(10_000)), Reason::NotAnEvent, None);
    }

    #[test]
    fn what_every_event_has_is_required() {
        let id = Some("evt_1-0");
        check(r#"{"object":"event","type":"t","data":{"object":{}}}"#, Reason::MissingField, None);
        check(r#"{"object":"event","id":"","type":"t","data":{"object":{}}}"#, Reason::MissingField, None);
        check(r#"{"object":"event","id":7,"type":"t","data":{"object":{}}}"#, Reason::MissingField, None);
        check(r#"{"object":"event","id":"evt_1-0","data":{"object":{}}}"#, Reason::MissingField, id);
        check(r#"{"object":"event","id":"evt_1-0","type":"t"}"#, Reason::MissingField, id);
        check(r#"{"object":"event","id":"evt_1-0","type":"t","data":{}}"#, Reason::MissingField, id);
        check(r#"{"object":"event","id":"evt_1-0","type":"t","data":5}"#, Reason::MissingField, id);
        check(r#"{"object":"event","id":"evt_1-0","type":"t","data":{"object":[]}}"#, Reason::MissingField, id);
    }

    #[test]
    fn the_order_of_an_event() {
        let event = |kind: &str, object: &str| {
            let text = format!(r#"{{"id":"evt_1-0","object":"event","type":"{kind}","data":{{"object":{object}}}}}"#);
            order_of_event(text.as_bytes())
        };
        assert_eq!(event("commerce.order.updated", r#"{"orderId":"a","id":"b"}"#).as_deref(), Some("a"));
        assert_eq!(event("commerce.order.created", r#"{"id":"b"}"#).as_deref(), Some("b"));
        assert_eq!(event("invoice.updated", r#"{"id":"b"}"#), None);
        assert_eq!(order_of_event(b"{"), None);
    }
}

//! A page of the event log, taken apart without looking into its events.

use super::event::occurred_at_ms;
use super::{EventId, json, slices};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// A page of `GET /api/v1/events`, newest first (`api-reference/events/list-events`).
#[derive(Clone, Debug)]
pub struct Page {
    /// Its events, in the order of the page.
    pub events: Vec<Listed>,
    /// Whether there are older ones; `None` where the page does not show it.
    pub has_more: Option<bool>,
}

/// An event as it is in a page.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its slice of the page.
    pub bytes: Bytes,
    /// Its id, where it has one.
    pub id: Option<String>,
    /// When it occurred, in Unix milliseconds: from the id, else from `created`. Of a slice that is no JSON the first event id
    /// in it counts.
    pub occurred_at_ms: Option<i64>,
}

impl Listed {
    /// The cursor of what is older than it; `None` for ids like `evt_example`, which the provider need not know.
    pub fn cursor(&self) -> Option<EventId> {
        self.id.as_deref()?.parse().ok()
    }
}

#[derive(Deserialize)]
struct Outer<'b> {
    #[serde(borrow)]
    data: &'b RawValue,
    #[serde(borrow, default)]
    has_more: Option<&'b RawValue>,
}

/// Takes a page apart. The list may be in a `{"success":true,"data":…}` or alone, as both are documented
/// (`api-reference/events/list-events`, `api-spec/pagination`). A byte order mark is passed over (RFC 8259, section 8.1).
///
/// A page of which one event is no JSON is cut by its brackets and strings: that event's slice stays in it.
///
/// # Errors
///
/// Where and what is wrong, without the content.
pub fn decode_page(body: &Bytes) -> Result<Page, String> {
    let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    match strictly(body, text) {
        Ok(page) => Ok(page),
        Err(error) => cut(body, text).ok_or_else(|| format!("line {}, column {}", error.line(), error.column())),
    }
}

fn strictly(body: &Bytes, text: &[u8]) -> serde_json::Result<Page> {
    let mut outer: Outer<'_> = serde_json::from_slice(text)?;
    if outer.data.get().starts_with('{') {
        outer = serde_json::from_str(outer.data.get())?;
    }
    let slices: Vec<&RawValue> = serde_json::from_str(outer.data.get())?;
    let events = slices.into_iter().map(|slice| listed(body, slice.get().as_bytes())).collect();
    Ok(Page { events, has_more: outer.has_more.and_then(|flag| flag_of(flag.get().as_bytes())) })
}

/// The page by its bytes. `None` also where a slice that is no JSON holds more than one event: a quote that is missing in
/// one and another in the next would hide all that is between them.
fn cut(body: &Bytes, text: &[u8]) -> Option<Page> {
    const NAMES: [&str; 2] = ["data", "has_more"];
    let [mut data, mut has_more] = slices::members(text, &NAMES)?;
    if data?.starts_with(b"{") {
        [data, has_more] = slices::members(data?, &NAMES)?;
    }
    let slices = slices::elements(data?)?;
    let is_one = |slice: &&[u8]| json::is_well_formed(slice) || slices::event_ids(slice).nth(1).is_none();
    if !slices.iter().all(is_one) {
        return None;
    }
    let events = slices.into_iter().map(|slice| listed(body, slice)).collect();
    Some(Page { events, has_more: has_more.and_then(flag_of) })
}

/// `has_more`, also where it is spelled as text or as a number; `None` for what means neither.
fn flag_of(value: &[u8]) -> Option<bool> {
    match serde_json::from_slice(value).ok()? {
        Value::Bool(flag) => Some(flag),
        Value::Number(number) => number.as_f64().map(|number| number != 0.0),
        Value::String(text) if text.eq_ignore_ascii_case("true") || text == "1" => Some(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") || text == "0" => Some(false),
        _ => None,
    }
}

/// A page that was asked for with a limit of 1 and cannot be cut: what is between its first `[` and its last `]`, as
/// documented pages have it, else all of the body, as one event.
///
/// `None` where no event's id is in it: then it is no page of the log, but for example a page for people.
pub fn page_of_one(body: &Bytes) -> Option<Page> {
    let id = slices::event_ids(body).next()?;
    let first = body.iter().position(|byte| *byte == b'[');
    let last = body.iter().rposition(|byte| *byte == b']');
    let inside = first.zip(last).and_then(|(first, last)| body.get(first + 1..last)).unwrap_or(body).trim_ascii();
    let bytes = if slices::event_ids(inside).next().is_some() { body.slice_ref(inside) } else { body.clone() };
    Some(Page { events: vec![undecoded(bytes, Some(id))], has_more: None })
}

fn undecoded(bytes: Bytes, id: Option<EventId>) -> Listed {
    Listed { bytes, id: id.map(|id| id.to_string()), occurred_at_ms: occurred_at_ms(id, None) }
}

/// Reads id and time as [`decode`](super::event::decode) does: a walk and the planner must not differ on what an event is.
/// What is no event at all stays in the page: the relay keeps it as a dead letter.
fn listed(body: &Bytes, slice: &[u8]) -> Listed {
    let bytes = body.slice_ref(slice);
    let members = std::str::from_utf8(slice).ok().and_then(|text| json::members(text, &["id", "created"]).ok());
    let Some(members) = members else {
        // Without its time it would be handed on whenever its page is looked at, also when its window is long over.
        return undecoded(bytes, slices::event_ids(slice).next());
    };
    let [id, created] = members.unwrap_or_default();
    let id = id.and_then(json::string).filter(|id| !id.is_empty()).map(Cow::into_owned);
    let created = created.and_then(|seconds| seconds.get().parse().ok());
    let occurred_at_ms = occurred_at_ms(id.as_deref().and_then(|id| id.parse().ok()), created);
    Listed { bytes, id, occurred_at_ms }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]
    use super::*;
    use crate::provider::event::decode;

    fn page(text: &'static str) -> Page {
        decode_page(&Bytes::from_static(text.as_bytes())).unwrap()
    }

    #[test]
    fn the_documented_page_is_taken_apart() {
        let page = page(include_str!("../../tests/fixtures/rest/events-list.newest.limit3.json"));
        assert_eq!((page.events.len(), page.has_more), (3, Some(true)));
        let first = &page.events[0];
        assert!(first.bytes.starts_with(b"{") && first.bytes.ends_with(b"}"));
        assert_eq!(first.occurred_at_ms, first.id.as_deref().and_then(|id| id[4..17].parse().ok()));
    }

    #[test]
    fn a_list_without_the_wrapper_is_a_page_too() {
        let page = page(r#"{"object":"list","data":[{"id":"evt_example","created":7}]}"#);
        assert_eq!((page.events.len(), page.has_more), (1, None));
        assert_eq!(page.events[0].occurred_at_ms, Some(7000));
    }

    #[test]
    fn what_is_no_event_stays_in_the_page() {
        let page = page(r#"{"success":true,"data":{"data":[7,{"id":8},null],"has_more":false}}"#);
        assert_eq!(
            page.events.iter().map(|event| &event.bytes[..]).collect::<Vec<_>>(),
            [&b"7"[..], b"{\"id\":8}", b"null"]
        );
        assert!(page.events.iter().all(|event| event.id.is_none() && event.occurred_at_ms.is_none()));
    }

    #[test]
    fn a_listed_event_has_the_id_and_time_that_the_event_has() {
        for event in [
            r#"{"id":"evt_1-0","id":"evt_2-0"}"#,
            r#"{"id":"evt_1-0","created":7,"created":"x"}"#,
            r#"{"id":"evt_1-0","created":"\ud800"}"#,
            r#"{"id":"evt_18446744073709551615-0"}"#,
            r#"{"id":"evt_example","created":9223372036854775807}"#,
            r#"{"id":"evt_example","created":7}"#,
        ] {
            let event = event.replacen('{', r#"{"object":"event","type":"t","data":{"object":{}},"#, 1);
            let page = decode_page(&Bytes::from(format!(r#"{{"data":[{event}]}}"#))).unwrap();
            let decoded = decode(event.as_bytes()).unwrap();
            assert_eq!(page.events[0].id.as_deref(), Some(&*decoded.id), "{event}");
            assert_eq!(page.events[0].occurred_at_ms, decoded.occurred_at_ms(), "{event}");
        }
    }

    #[test]
    fn an_event_that_is_no_json_costs_itself_alone() {
        let good = r#"{"id":"evt_1-0","object":"event"}"#;
        for poison in [
            &b"{\"id\":\"evt_2-0\",\"t\":\"\xff\"}"[..],
            b"{\"id\":\"evt_2-0\",\"t\":\"a\nb\"}",
            b"{\"id\":\"evt_2-0\",\"t\":NaN}",
            b"{\"id\":\"evt_2-0\",\"t\":\"\\x41\"}",
            b"{\"id\":\"evt_2-0\",\"t\":01}",
        ] {
            for (before, after) in [
                ("{\"data\":[", "],\"has_more\":false}"),
                ("{\"success\":true,\"data\":{\"has_more\":false,\"data\":[", "]}}"),
            ] {
                let body = [before.as_bytes(), good.as_bytes(), b",", poison, b",", good.as_bytes(), after.as_bytes()]
                    .concat();
                let page = decode_page(&body.into()).unwrap();
                let slices: Vec<&[u8]> = page.events.iter().map(|event| &event.bytes[..]).collect();
                assert_eq!(slices, [good.as_bytes(), poison, good.as_bytes()]);
                assert_eq!(page.has_more, Some(false));
                let odd = &page.events[1];
                assert_eq!((odd.id.as_deref(), odd.occurred_at_ms), (Some("evt_2-0"), Some(2)));
                assert_eq!(page.events[2].occurred_at_ms, Some(1));
            }
        }
    }

    #[test]
    fn quotes_that_are_missing_in_two_events_hide_none_between_them() {
        let bad = |id| format!(r#"{{"id":"{id}","title":"5" screen"}}"#);
        let body = format!(r#"{{"data":[{},{{"id":"evt_2-0"}},{}]}}"#, bad("evt_3-0"), bad("evt_1-0"));
        assert!(decode_page(&Bytes::from(body)).is_err());
        let alone = Bytes::from(format!(r#"{{"data":[{}]}}"#, bad("evt_3-0")));
        assert!(decode_page(&alone).is_err());
        let one = page_of_one(&alone).unwrap();
        assert_eq!(
            (&one.events[0].bytes[..], one.events[0].id.as_deref()),
            (bad("evt_3-0").as_bytes(), Some("evt_3-0"))
        );
        let elsewhere = Bytes::from_static(br#"{"id":"evt_1-0","data":[5"#);
        assert_eq!(page_of_one(&elsewhere).unwrap().events[0].bytes, elsewhere);
        assert!(page_of_one(&Bytes::from_static(b"<html>")).is_none());
    }

    #[test]
    fn a_byte_order_mark_and_other_spellings_of_has_more_are_read() {
        for (spelled, wanted) in [
            ("true", Some(true)),
            ("\"true\"", Some(true)),
            ("1", Some(true)),
            ("\"False\"", Some(false)),
            ("0", Some(false)),
            ("null", None),
            ("[]", None),
            ("\"maybe\"", None),
        ] {
            let body = format!("\u{feff}{{\"data\":[{{\"id\":\"evt_1-0\"}}],\"has_more\":{spelled}}}");
            let page = decode_page(&body.into()).unwrap();
            assert_eq!((page.events.len(), page.has_more), (1, wanted), "{spelled}");
        }
    }

    #[test]
    fn only_an_id_of_the_documented_form_is_a_cursor() {
        let page = page(r#"{"data":[{"id":"evt_7-1"},{"id":"evt_example"},{"id":7},{}]}"#);
        let cursors: Vec<_> = page.events.iter().map(|event| event.cursor().map(|id| id.to_string())).collect();
        assert_eq!(cursors, [Some("evt_7-1".to_owned()), None, None, None]);
    }

    #[test]
    fn anything_else_is_refused_with_its_place() {
        for text in ["", "[]", r#"{"data":7}"#, r#"{"data":{"data":{}}}"#, "<html>"] {
            assert!(decode_page(&Bytes::from_static(text.as_bytes())).unwrap_err().starts_with("line 1, column"));
        }
    }
}

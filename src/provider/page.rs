//! A page of the event log, taken apart without looking into its events.

use super::event::occurred_at_ms;
use super::json;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// A page of `GET /api/v1/events`, newest first (`api-reference/events/list-events`).
#[derive(Clone, Debug)]
pub struct Page {
    /// Its events, in the order of the page.
    pub events: Vec<Listed>,
    /// Whether there are older ones; `None` where the page does not say.
    pub has_more: Option<bool>,
}

/// An event as it stands in a page.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its slice of the page.
    pub bytes: Bytes,
    /// Its id, where it has one; the cursor of what is older than it.
    pub id: Option<String>,
    /// When it occurred, in Unix milliseconds: from the id, else from `created`.
    pub occurred_at_ms: Option<i64>,
}

#[derive(Deserialize)]
struct Outer<'b> {
    #[serde(borrow)]
    data: &'b RawValue,
    #[serde(default)]
    has_more: Option<bool>,
}

/// Takes a page apart. The list may stand in a `{"success":true,"data":…}` or alone, as both are documented
/// (`api-reference/events/list-events`, `api-spec/pagination`). The error names what is wrong, without the content.
pub fn decode_page(body: &Bytes) -> Result<Page, String> {
    let wrong = |error: serde_json::Error| format!("line {}, column {}", error.line(), error.column());
    let mut outer: Outer<'_> = serde_json::from_slice(body).map_err(wrong)?;
    if outer.data.get().starts_with('{') {
        outer = serde_json::from_str(outer.data.get()).map_err(wrong)?;
    }
    let slices: Vec<&RawValue> = serde_json::from_str(outer.data.get()).map_err(wrong)?;
    let events = slices.into_iter().map(|slice| listed(body, slice.get())).collect();
    Ok(Page { events, has_more: outer.has_more })
}

/// Reads id and time as [`decode`](super::event::decode) does: a walk and the core must not differ on what an event is.
/// What is no event at all stays in the page: the relay keeps it as a dead letter.
fn listed(body: &Bytes, slice: &str) -> Listed {
    let bytes = body.slice_ref(slice.as_bytes());
    let [id, created] = json::members(slice, &["id", "created"]).ok().flatten().unwrap_or_default();
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
    fn anything_else_is_refused_with_its_place() {
        for text in ["", "[]", r#"{"data":7}"#, r#"{"data":{"data":{}}}"#] {
            assert!(decode_page(&Bytes::from_static(text.as_bytes())).unwrap_err().starts_with("line 1, column"));
        }
    }
}

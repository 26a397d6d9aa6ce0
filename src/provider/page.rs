//! A page of the event log, taken apart without looking into its events.

use super::EventId;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

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

#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    id: Value,
    #[serde(default)]
    created: Value,
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

/// What is no event at all stays in the page: the relay keeps it as a dead letter.
fn listed(body: &Bytes, slice: &str) -> Listed {
    let bytes = body.slice_ref(slice.as_bytes());
    let head = serde_json::from_str::<Head>(slice).unwrap_or(Head { id: Value::Null, created: Value::Null });
    let id = head.id.as_str().map(str::to_owned);
    let from_id = id.as_deref().and_then(|id| id.parse::<EventId>().ok()).map(|id| id.ms);
    let occurred_at_ms = match from_id {
        Some(ms) => i64::try_from(ms).ok(),
        None => head.created.as_i64().and_then(|seconds| seconds.checked_mul(1000)),
    };
    Listed { bytes, id, occurred_at_ms }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

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
    fn anything_else_is_refused_with_its_place() {
        for text in ["", "[]", r#"{"data":7}"#, r#"{"data":{"data":{}}}"#] {
            assert!(decode_page(&Bytes::from_static(text.as_bytes())).unwrap_err().starts_with("line 1, column"));
        }
    }
}

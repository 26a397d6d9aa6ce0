//! The event log: pages by cursor, and single events (`api-reference/events/list-events`).

use super::answer::{ObjectTime, view};
use super::call::Call;
use super::{Decoded, Rest, RestError};
use crate::provider::page::{Listed, Page, decode_page};
use bytes::Bytes;
use futures::Stream;

/// Pages of one list at most; with 100 events each a million, as [`RestError::Endless`] has it.
const PAGES_MAX: usize = 10_000;

/// Which events are wanted; all that the key may see by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// Types, each exact or with a trailing `.*`.
    pub types: Vec<String>,
    /// Of this invoice.
    pub invoice_id: Option<String>,
    /// Created at this time or later, in Unix seconds.
    pub created_from: Option<i64>,
    /// Created at this time or earlier, in Unix seconds.
    pub created_to: Option<i64>,
}

view! {
    /// An event as it is listed.
    pub struct EventView {
        /// Its id.
        pub id: Option<String>,
        /// `commerce.order.updated` and so on.
        #[serde(rename = "type")]
        pub kind: Option<String>,
        /// When it was issued, in whole seconds.
        pub created: Option<ObjectTime>,
        /// What it is about.
        pub data: EventData,
    }

    /// What an event is about.
    pub struct EventData {
        /// The resource, of which every one has these members.
        pub object: EventObject,
    }

    /// An event's resource.
    pub struct EventObject {
        pub id: Option<String>,
        pub status: Option<String>,
    }
}

impl Rest {
    /// A page of the event log as it came, newest first: `GET /api/v1/events`, from the newest event, or older than
    /// the event `starting_after`.
    ///
    /// `limit` is at most 100 by the provider's general rule (`api-spec/pagination`).
    pub async fn events(&self, starting_after: Option<&str>, limit: usize) -> Result<Bytes, RestError> {
        self.events_of(&EventQuery::default(), starting_after, limit).await
    }

    /// The same for some events only.
    pub async fn events_of(
        &self,
        query: &EventQuery,
        starting_after: Option<&str>,
        limit: usize,
    ) -> Result<Bytes, RestError> {
        let types = (!query.types.is_empty()).then(|| query.types.join(","));
        let call = Call::get(&["api", "v1", "events"])
            .with("limit", Some(limit))
            .with("type", types)
            .with("invoice_id", query.invoice_id.as_ref())
            .with("created[gte]", query.created_from)
            .with("created[lte]", query.created_to)
            .with("starting_after", starting_after);
        self.call(call).await
    }

    /// Every page, newest first, asked for one after the other as they are taken, until one shows that there is no
    /// more, is empty, or holds no id that is a cursor, behind which no page can be asked for.
    pub fn event_pages<'a>(
        &'a self,
        query: &'a EventQuery,
        starting_after: Option<String>,
        limit: usize,
    ) -> impl Stream<Item = Result<Page, RestError>> + 'a {
        futures::stream::try_unfold(Some((starting_after, 0_usize)), move |next| async move {
            let Some((cursor, pages)) = next else { return Ok(None) };
            if pages >= PAGES_MAX {
                return Err(RestError::Endless(PAGES_MAX));
            }
            let body = self.events_of(query, cursor.as_deref(), limit).await?;
            let page = decode_page(&body).map_err(RestError::Malformed)?;
            let last = page.events.iter().rev().find_map(Listed::cursor).map(|event| event.to_string());
            // The same cursor again would be the same page again.
            let goes_on = page.has_more != Some(false) && last.is_some() && last != cursor;
            Ok(Some((page, goes_on.then_some((last, pages + 1)))))
        })
    }

    /// One event: `GET /api/v1/events/{eventId}`.
    pub async fn event(&self, event_id: &str) -> Result<Decoded<EventView>, RestError> {
        Decoded::object(&self.call(Call::get(&["api", "v1", "events", event_id])).await?)
    }
}

impl EventView {
    /// The view of an event of a page; empty for what is no event.
    pub fn of(event: &[u8]) -> Self {
        serde_json::from_slice(event).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]

    use super::*;

    #[test]
    fn an_event_is_read_with_and_without_its_wrapper() {
        let wrapped = include_bytes!("../../../tests/fixtures/rest/event-get.json");
        let event = Decoded::<EventView>::object(wrapped).unwrap();
        let bare = Decoded::<EventView>::object(event.raw.get().as_bytes()).unwrap();
        assert_eq!(event.raw.get(), bare.raw.get(), "an event's own data is no wrapped answer");
        let view = EventView::of(bare.raw.get().as_bytes());
        assert_eq!(view.kind.as_deref(), Some("commerce.order.updated"));
        assert_eq!(view.data.object.id.as_deref(), Some("7b0f6a52-3c1e-4f55-9a6e-2d1f0c9e4a11"));
        assert!(view.created.is_some() && view.id.is_some());
        assert!(EventView::of(b"[7]").id.is_none());
    }

    #[test]
    fn every_example_page_is_read() {
        for (name, events, more) in [
            ("empty", 0, false),
            ("ending_before.cursor", 2, false),
            ("newest.limit3", 3, true),
            ("starting_after.page2", 3, true),
            ("starting_after.last-page", 3, false),
        ] {
            let path = format!("{}/tests/fixtures/rest/events-list.{name}.json", env!("CARGO_MANIFEST_DIR"));
            let page = decode_page(&std::fs::read(path).unwrap().into()).unwrap();
            assert_eq!((page.events.len(), page.has_more), (events, Some(more)), "{name}");
            assert!(page.events.iter().all(|event| EventView::of(&event.bytes).kind.is_some()), "{name}");
        }
    }
}

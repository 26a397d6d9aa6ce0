//! The list of orders (`api-reference/orders/list-merchant-scoped-orders`): a page, and what is asked of its rows.
//!
//! Pure. A row that cannot be read is a row about which nothing is known; an answer without rows is no page.

use super::answer::{ObjectTime, Spelled, lenient, view};
use super::order::Actions;
use crate::provider::event::ORDER_ID_CHARS_MAX;
use crate::text::clip;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// A page of the list.
#[derive(Clone, Debug, Deserialize)]
pub struct OrdersPage {
    /// Its rows, in the order of the page.
    #[serde(deserialize_with = "rows")]
    pub orders: Vec<OrderRow>,
    /// How the provider counted.
    #[serde(default, deserialize_with = "lenient")]
    pub pagination: Pagination,
}

view! {
    /// The page's place. Whether its undocumented `count` is of the page or of all is open, so that nothing rests on it.
    #[derive(Copy)]
    pub struct Pagination {
        /// Rows of a full page, which may be fewer than were asked for.
        pub limit: Option<u64>,
    }

    /// A row of the list; smaller than the order.
    #[serde(rename_all = "camelCase")]
    pub struct OrderRow {
        pub order_id: Option<String>,
        pub invoice_id: Option<String>,
        pub status: Option<String>,
        pub substatus: Option<String>,
        pub actions: Actions,
        pub retailer: Option<String>,
        pub customer_id: Option<String>,
        pub wallet_address: Option<String>,
        /// USD.
        pub total: Option<Spelled>,
        pub created_at: Option<ObjectTime>,
        pub updated_at: Option<ObjectTime>,
        pub item_count: Option<u64>,
        /// Another spelling of the id, documented for an event's order (`api-spec/webhook-events`).
        pub id: Option<String>,
        /// The same.
        #[serde(rename = "order_id")]
        pub snake_order_id: Option<String>,
        /// Another spelling of the time.
        #[serde(rename = "created_at")]
        pub snake_created_at: Option<ObjectTime>,
        /// Another spelling of the time.
        #[serde(rename = "updated_at")]
        pub snake_updated_at: Option<ObjectTime>,
    }
}

impl OrdersPage {
    /// Whether there may be more after a page for which `limit` rows were asked: a short page is the last.
    pub fn is_full(&self, limit: u32) -> bool {
        let full = self.pagination.limit.map_or(u64::from(limit), |limit_of_page| limit_of_page.min(limit.into()));
        !self.orders.is_empty() && self.orders.len() as u64 >= full
    }
}

impl OrderRow {
    /// The order's id in whichever spelling, cut and without control characters; `None` where the row has none.
    pub fn known_id(&self) -> Option<String> {
        let ids = [&self.order_id, &self.snake_order_id, &self.id];
        ids.into_iter().flatten().find(|id| !id.is_empty()).map(|id| clip(id, ORDER_ID_CHARS_MAX))
    }

    /// When the order was made, in Unix milliseconds.
    pub fn created_ms(&self) -> Option<i64> {
        self.created_at.or(self.snake_created_at).map(|time| time.0.as_millisecond())
    }

    /// When it last changed, in Unix milliseconds.
    pub fn updated_ms(&self) -> Option<i64> {
        self.updated_at.or(self.snake_updated_at).map(|time| time.0.as_millisecond())
    }
}

/// Every row, those that cannot be read as empty ones: how many rows a page has shows whether it is the last.
fn rows<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<OrderRow>, D::Error> {
    let rows = Vec::<&RawValue>::deserialize(from)?;
    // serde takes a list for a struct as well.
    let read = |row: &RawValue| row.get().starts_with('{').then(|| serde_json::from_str(row.get()).ok()).flatten();
    Ok(rows.into_iter().map(|row| read(row).unwrap_or_default()).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]

    use super::*;
    use crate::provider::rest::{Decoded, RestError};

    fn read(body: &[u8]) -> Result<OrdersPage, RestError> {
        Decoded::object(body).map(|answer| answer.view)
    }

    fn fixture(name: &str) -> OrdersPage {
        let path = format!("{}/tests/fixtures/rest/{name}.json", env!("CARGO_MANIFEST_DIR"));
        read(&std::fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn a_short_page_is_the_last() {
        let page = |rows: usize, limit: Option<u64>| OrdersPage {
            orders: vec![OrderRow::default(); rows],
            pagination: Pagination { limit },
        };
        assert!(page(20, Some(20)).is_full(20) && page(20, None).is_full(20));
        assert!(page(50, Some(50)).is_full(100), "the provider gives fewer than were asked for");
        assert!(!page(19, Some(20)).is_full(20) && !page(19, None).is_full(20));
        assert!(!page(0, Some(0)).is_full(0) && !page(0, None).is_full(20));
        assert!(page(20, Some(100)).is_full(20), "a limit that nobody asked for is not believed");
    }

    #[test]
    fn the_lists_of_the_examples_are_read_in_both_forms_of_time() {
        assert!(fixture("orders-list.empty").orders.is_empty());
        let [seconds, iso] = ["orders-list", "orders-list.iso-variant"].map(|name| {
            let mut page = fixture(name);
            assert_eq!((page.orders.len(), page.pagination.limit), (1, Some(20)));
            page.orders.remove(0)
        });
        assert_eq!(seconds.created_at, iso.created_at);
        assert!(seconds.known_id().is_some() && seconds.updated_ms() >= seconds.created_ms());
        assert_eq!(seconds.created_at.unwrap().0.as_second(), 1_768_471_200);
        assert_eq!((seconds.total.unwrap().0.as_str(), seconds.actions.can_cancel), ("28.97", Some(false)));
    }

    #[test]
    fn times_are_tolerated_in_every_form_and_else_unknown() {
        let updated = |value: &str| {
            read(format!(r#"{{"orders":[{{"order_id":"a","updated_at":{value}}}]}}"#).as_bytes()).unwrap().orders[0]
                .updated_ms()
        };
        for (value, ms) in [
            ("1768472100", Some(1_768_472_100_000)),
            (r#""2026-01-15T10:15:00.655Z""#, Some(1_768_472_100_655)),
            (r#""2026-01-15T12:15:00.655+02:00""#, Some(1_768_472_100_655)),
            (r#""2026-01-15T10:15:00.655""#, Some(1_768_472_100_655)),
            (r#""soon""#, None),
            ("null", None),
            ("1.5", None),
            ("9223372036854775807", None),
            ("[]", None),
        ] {
            assert_eq!(updated(value), ms, "{value}");
        }
    }

    #[test]
    fn an_id_is_read_in_every_spelling_also_where_there_are_several() {
        for (row, id) in [
            (r#"{"orderId":"a","order_id":"b","id":"c"}"#, Some("a")),
            (r#"{"orderId":"","order_id":"b","id":"c"}"#, Some("b")),
            (r#"{"orderId":7,"id":"c"}"#, Some("c")),
            (r#"{"orderId":"a\u001b[2J"}"#, Some(r"a\u{1b}[2J")),
            ("{}", None),
        ] {
            let page = read(format!(r#"{{"orders":[{row}]}}"#).as_bytes()).unwrap();
            assert_eq!(page.orders[0].known_id().as_deref(), id, "{row}");
        }
    }

    #[test]
    fn what_is_no_row_is_unknown_and_what_is_no_page_is_an_error() {
        let body = br#"{"success":true,"data":{"orders":[7,["x"],{"orderId":5},{"orderId":"a"}],"pagination":[]}}"#;
        let page = read(body).unwrap();
        let ids: Vec<_> = page.orders.iter().map(OrderRow::known_id).collect();
        assert_eq!((ids, page.pagination.limit), (vec![None, None, None, Some("a".to_owned())], None));
        for wrong in ["", "[]", "{}", r#"{"data":5}"#, r#"{"orders":{}}"#, "<html>"] {
            assert!(read(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(read(b"\xff").is_err());
    }
}

//! A page of the merchant's orders, read for one question alone: which order changed when.
//!
//! Rows are smaller than the order of an event (`api-reference/orders/list-merchant-scoped-orders`). Their times are ISO
//! 8601 on some pages of the documentation and Unix seconds on others.

use super::event::decode;
use super::json::{members, string};
use crate::text::clip;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Longest order id kept, in characters; the provider's are UUIDs.
const ORDER_ID_CHARS_MAX: usize = 256;

/// A page of `GET /api/commerce/merchant/orders`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderList {
    /// Its orders, in the order of the page.
    pub rows: Vec<OrderRow>,
    /// Most rows that the provider puts on such a page, where it says so: it may take less than was asked for.
    pub limit: Option<usize>,
}

/// When an order changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderRow {
    /// Its id, without control characters; `None` where the row has none.
    pub order_id: Option<String>,
    /// When it was made, in Unix milliseconds.
    pub created_ms: Option<i64>,
    /// When it last changed, in Unix milliseconds.
    pub updated_ms: Option<i64>,
}

#[derive(Deserialize)]
struct Outer<'b> {
    #[serde(borrow)]
    orders: Vec<&'b RawValue>,
    #[serde(borrow, default)]
    pagination: Option<&'b RawValue>,
}

/// Reads a page, with or without the `{"success":true,"data":…}` around it. The error names what is wrong, without the
/// content. A row that cannot be read is a row about which nothing is known.
pub fn decode_order_list(body: &[u8]) -> Result<OrderList, String> {
    let wrong = |error: serde_json::Error| format!("line {}, column {}", error.line(), error.column());
    let text = std::str::from_utf8(body).map_err(|_| "no UTF-8".to_owned())?;
    let data = members(text, &["data"]).map_err(wrong)?.and_then(|[data]| data).map_or(text, RawValue::get);
    let Outer { orders, pagination } = serde_json::from_str(data).map_err(wrong)?;
    let limit = pagination.and_then(|pagination| members(pagination.get(), &["limit"]).ok().flatten());
    let limit = limit.and_then(|[limit]| limit?.get().parse().ok());
    Ok(OrderList { rows: orders.into_iter().map(|order| row(order.get())).collect(), limit })
}

/// The id of the order that an event of the log is about; `None` for events of another kind.
///
/// The documentation spells it `orderId`, `order_id` and `id` (`api-spec/webhook-events`).
pub fn order_of_event(bytes: &[u8]) -> Option<String> {
    let event = decode(bytes).ok().filter(|event| event.event_type.starts_with("commerce.order."))?;
    let ids = members(event.object.get(), &["orderId", "order_id", "id"]).ok()??;
    ids.into_iter().flatten().find_map(id)
}

fn row(text: &str) -> OrderRow {
    let names = ["orderId", "order_id", "id", "createdAt", "created_at", "updatedAt", "updated_at"];
    let [a, b, c, created, created_snake, updated, updated_snake] =
        members(text, &names).ok().flatten().unwrap_or_default();
    OrderRow {
        order_id: [a, b, c].into_iter().flatten().find_map(id),
        created_ms: created.or(created_snake).and_then(time_ms),
        updated_ms: updated.or(updated_snake).and_then(time_ms),
    }
}

fn id(value: &RawValue) -> Option<String> {
    string(value).filter(|id| !id.is_empty()).map(|id| clip(&id, ORDER_ID_CHARS_MAX))
}

/// ISO 8601, in UTC where it names no offset, or integral Unix seconds.
fn time_ms(value: &RawValue) -> Option<i64> {
    let Some(text) = string(value) else {
        return value.get().parse::<i64>().ok()?.checked_mul(1000);
    };
    let utc = |time: DateTime| Offset::UTC.to_timestamp(time).ok();
    let time = text.parse::<Timestamp>().ok().or_else(|| text.parse().ok().and_then(utc))?;
    Some(time.as_millisecond())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]

    use super::*;

    fn read(text: &str) -> OrderList {
        decode_order_list(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_documented_page_is_read_in_both_forms_of_its_times() {
        for text in [
            include_str!("../../tests/fixtures/rest/orders-list.json"),
            include_str!("../../tests/fixtures/rest/orders-list.iso-variant.json"),
        ] {
            let list = read(text);
            assert!(!list.rows.is_empty() && list.limit.is_some(), "{list:?}");
            for row in &list.rows {
                assert!(row.order_id.is_some() && row.updated_ms >= row.created_ms, "{row:?}");
                assert!(row.created_ms.is_some_and(|ms| ms > 1_600_000_000_000), "{row:?}");
            }
        }
        let empty = read(include_str!("../../tests/fixtures/rest/orders-list.empty.json"));
        assert_eq!(empty.rows, []);
    }

    #[test]
    fn times_are_tolerated_in_every_form_and_else_unknown() {
        let updated = |value: &str| {
            read(&format!(r#"{{"orders":[{{"order_id":"a","updated_at":{value}}}]}}"#)).rows[0].updated_ms
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
    fn what_is_no_row_is_unknown_and_what_is_no_page_is_an_error() {
        let list =
            read(r#"{"success":true,"data":{"orders":[7,{"orderId":5},{"orderId":"a\u001b[2J"}],"pagination":[]}}"#);
        let ids: Vec<_> = list.rows.iter().map(|row| row.order_id.as_deref()).collect();
        assert_eq!((ids, list.limit), (vec![None, None, Some(r"a\u{1b}[2J")], None));
        for wrong in ["", "[]", "{}", r#"{"data":5}"#, r#"{"orders":{}}"#, "<html>"] {
            assert!(decode_order_list(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(decode_order_list(b"\xff").is_err());
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

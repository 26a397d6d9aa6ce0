//! An order as REST shows it, as far as people look at it (`api-reference/orders/get-merchant-order-details-scoped`).

use super::answer::{Moment, Spelled, lenient};
use serde::Deserialize;

/// An order (`api-reference/orders/get-merchant-order-details-scoped`).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the provider's members, under the provider's names")]
pub struct Order {
    #[serde(deserialize_with = "lenient")]
    pub order_id: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub invoice_id: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub network_environment: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub retailer: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub created_at: Option<Moment>,
    #[serde(deserialize_with = "lenient")]
    pub updated_at: Option<Moment>,
    #[serde(deserialize_with = "lenient")]
    pub customer_id: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub wallet_address: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub wallet_network: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub status: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub substatus: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub actions: Actions,
    /// Oldest first.
    #[serde(deserialize_with = "lenient")]
    pub timeline: Vec<TimelineEntry>,
    #[serde(deserialize_with = "lenient")]
    pub payment: Payment,
    #[serde(deserialize_with = "lenient")]
    pub fulfillment: Fulfillment,
    #[serde(deserialize_with = "lenient")]
    pub line_items: Vec<LineItem>,
    #[serde(deserialize_with = "lenient")]
    pub cancellation_status: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub refund_status: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub refund: Refund,
    #[serde(deserialize_with = "lenient")]
    pub total_amount_usd: Option<Spelled>,
    #[serde(deserialize_with = "lenient")]
    pub commerce_fee_usd: Option<Spelled>,
}

/// A step that an order took.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the provider's members, under the provider's names")]
pub struct TimelineEntry {
    #[serde(deserialize_with = "lenient")]
    pub status: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub timestamp: Option<Moment>,
    #[serde(deserialize_with = "lenient")]
    pub message: Option<String>,
}

/// The order's view of its payment.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the provider's members, under the provider's names")]
pub struct Payment {
    #[serde(deserialize_with = "lenient")]
    pub status: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub tx_hash: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub settlement: Settlement,
}

/// How far the money has come to the merchant.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the provider's members, under the provider's names")]
pub struct Settlement {
    #[serde(deserialize_with = "lenient")]
    pub status: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub tx_hash: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub network: Option<String>,
}

/// What is under way.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Fulfillment {
    /// The parcels.
    #[serde(deserialize_with = "lenient")]
    pub shipments: Vec<Shipment>,
}

/// One parcel.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the provider's members, under the provider's names")]
pub struct Shipment {
    #[serde(deserialize_with = "lenient")]
    pub shipment_id: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub carrier: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub tracking_number: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub carrier_tracking_url: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub delivery_status: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub obtained_at: Option<Moment>,
}

/// One line of an order.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the provider's members, under the provider's names")]
pub struct LineItem {
    #[serde(deserialize_with = "lenient")]
    pub product_id: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub title: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub quantity: Option<u64>,
    /// Of one, in USD.
    #[serde(deserialize_with = "lenient")]
    pub price: Option<Spelled>,
    #[serde(deserialize_with = "lenient")]
    pub status: Option<String>,
}

/// A refund; amounts once it is done, in USD.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the provider's members, under the provider's names")]
pub struct Refund {
    #[serde(deserialize_with = "lenient")]
    pub status: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub amount_usd: Option<Spelled>,
    #[serde(deserialize_with = "lenient")]
    pub fee_usd: Option<Spelled>,
    #[serde(deserialize_with = "lenient")]
    pub destination_wallet_address_bsc: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub tx_hash: Option<String>,
}

/// What may be done now; the authority on it.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Actions {
    /// Whether a cancel request is taken.
    #[serde(deserialize_with = "lenient")]
    pub can_cancel: Option<bool>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]

    use super::*;
    use crate::provider::rest::Answer;

    fn order(name: &str) -> Order {
        let path = format!("{}/tests/fixtures/rest/order-get.{name}.json", env!("CARGO_MANIFEST_DIR"));
        Answer::object(&std::fs::read(path).unwrap()).unwrap().view
    }

    #[test]
    fn the_examples_are_read() {
        let placed = order("placed");
        assert_eq!((placed.status.as_deref(), placed.actions.can_cancel), (Some("placed"), Some(true)));
        assert_eq!(placed.timeline[1].message.as_deref(), Some("Retailer order placed"));
        assert_eq!(placed.payment.settlement.status.as_deref(), Some("settled"));
        let line = &placed.line_items[0];
        assert_eq!((line.quantity, line.price.as_ref().unwrap().0.as_str()), (Some(2), "11.49"));
        assert_eq!(placed.total_amount_usd.unwrap().0, "28.97");
        let refund = order("refunded").refund;
        assert_eq!((refund.status.as_deref(), refund.amount_usd.unwrap().0.as_str()), (Some("REFUNDED"), "25.97"));
    }

    #[test]
    fn both_forms_of_time_are_one_time() {
        let (iso, seconds) = (order("shipped"), order("shipped.unix-seconds"));
        assert_eq!((iso.created_at, iso.updated_at), (seconds.created_at, seconds.updated_at));
        let obtained = |order: &Order| order.fulfillment.shipments[0].obtained_at.unwrap();
        assert_eq!(obtained(&iso), obtained(&seconds));
        assert!(iso.timeline.iter().zip(&seconds.timeline).all(|(a, b)| a.timestamp.unwrap() == b.timestamp.unwrap()));
    }

    #[test]
    fn an_order_with_nothing_in_it_is_one() {
        let empty: Answer<Order> =
            Answer::object(br#"{"data":{"status":"fulfilled","timeline":{},"refund":[]}}"#).unwrap();
        assert_eq!((empty.view.status.as_deref(), empty.view.timeline.len()), (Some("fulfilled"), 0));
    }
}

//! An order as REST shows it, as far as people look at it (`api-reference/orders/get-merchant-order-details-scoped`).

use super::answer::{ObjectTime, Spelled, view};

view! {
    /// An order (`api-reference/orders/get-merchant-order-details-scoped`).
    #[serde(rename_all = "camelCase")]
    pub struct Order {
        pub order_id: Option<String>,
        pub invoice_id: Option<String>,
        pub network_environment: Option<String>,
        pub retailer: Option<String>,
        pub created_at: Option<ObjectTime>,
        pub updated_at: Option<ObjectTime>,
        pub customer_id: Option<String>,
        pub wallet_address: Option<String>,
        pub wallet_network: Option<String>,
        pub status: Option<String>,
        pub substatus: Option<String>,
        pub actions: Actions,
        /// Oldest first.
        pub timeline: Vec<TimelineEntry>,
        pub payment: Payment,
        pub fulfillment: Fulfillment,
        pub line_items: Vec<LineItem>,
        pub cancellation_status: Option<String>,
        pub refund_status: Option<String>,
        pub refund: Refund,
        pub total_amount_usd: Option<Spelled>,
        pub commerce_fee_usd: Option<Spelled>,
    }

    /// A step that an order took.
    pub struct TimelineEntry {
        pub status: Option<String>,
        pub timestamp: Option<ObjectTime>,
        pub message: Option<String>,
    }

    /// The order's view of its payment.
    #[serde(rename_all = "camelCase")]
    pub struct Payment {
        pub status: Option<String>,
        pub tx_hash: Option<String>,
        pub settlement: Settlement,
    }

    /// How far the money has come to the merchant.
    #[serde(rename_all = "camelCase")]
    pub struct Settlement {
        pub status: Option<String>,
        pub tx_hash: Option<String>,
        pub network: Option<String>,
    }

    /// What is under way.
    pub struct Fulfillment {
        /// The parcels.
        pub shipments: Vec<Shipment>,
    }

    /// One parcel.
    #[serde(rename_all = "camelCase")]
    pub struct Shipment {
        pub shipment_id: Option<String>,
        pub carrier: Option<String>,
        pub tracking_number: Option<String>,
        pub carrier_tracking_url: Option<String>,
        pub delivery_status: Option<String>,
        pub obtained_at: Option<ObjectTime>,
    }

    /// One line of an order.
    #[serde(rename_all = "camelCase")]
    pub struct LineItem {
        pub product_id: Option<String>,
        pub title: Option<String>,
        pub quantity: Option<u64>,
        /// Of one, in USD.
        pub price: Option<Spelled>,
        pub status: Option<String>,
    }

    /// A refund; amounts once it is done, in USD.
    #[serde(rename_all = "camelCase")]
    pub struct Refund {
        pub status: Option<String>,
        pub amount_usd: Option<Spelled>,
        pub fee_usd: Option<Spelled>,
        pub destination_wallet_address_bsc: Option<String>,
        pub tx_hash: Option<String>,
    }

    /// What may be done now; the authority on it.
    #[derive(Copy)]
    #[serde(rename_all = "camelCase")]
    pub struct Actions {
        /// Whether a cancel request is taken.
        pub can_cancel: Option<bool>,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]

    use super::*;
    use crate::provider::rest::Decoded;

    fn order(name: &str) -> Order {
        let path = format!("{}/tests/fixtures/rest/order-get.{name}.json", env!("CARGO_MANIFEST_DIR"));
        Decoded::object(&std::fs::read(path).unwrap()).unwrap().view
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
        let iso = order("shipped");
        let seconds = order("shipped.unix-seconds");
        assert_eq!((iso.created_at, iso.updated_at), (seconds.created_at, seconds.updated_at));
        let obtained = |order: &Order| order.fulfillment.shipments[0].obtained_at.unwrap();
        assert_eq!(obtained(&iso), obtained(&seconds));
        assert!(iso.timeline.iter().zip(&seconds.timeline).all(|(a, b)| a.timestamp.unwrap() == b.timestamp.unwrap()));
    }

    #[test]
    fn an_order_with_nothing_in_it_is_one() {
        let empty: Decoded<Order> =
            Decoded::object(br#"{"data":{"status":"fulfilled","timeline":{},"refund":[]}}"#).unwrap();
        assert_eq!((empty.view.status.as_deref(), empty.view.timeline.len()), (Some("fulfilled"), 0));
    }
}

//! Orders: list, get, by invoice, cancel (`api-spec/commerce/orders`), and the devnet simulation of their life.

use super::answer::view;
use super::call::{Call, IdempotencyKey};
use super::order::Order;
use super::order_list::OrdersPage;
use super::{Decoded, Rest, RestError};
use futures::Stream;
use serde::Serialize;
use serde_json::json;

/// Pages of a list at most; with 100 orders each a million, and a provider that never ends one is not believed.
const PAGES_MAX: usize = 10_000;

/// Which orders are wanted (`api-reference/orders/list-merchant-scoped-orders`); all of them by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrderFilter {
    /// Of this customer.
    pub customer_id: Option<String>,
    /// Of this wallet: its address and network, the second required with the first.
    pub wallet: Option<(String, String)>,
    /// In this state, as the provider spells it.
    pub status: Option<String>,
    /// At this retailer.
    pub retailer: Option<String>,
    /// Made at this time or later, in Unix seconds.
    pub created_from: Option<i64>,
    /// Made at this time or earlier, in Unix seconds.
    pub created_to: Option<i64>,
}

view! {
    /// What became of a cancel request; its outcome comes later, as events.
    #[serde(rename_all = "camelCase")]
    pub struct Cancellation {
        pub order_id: Option<String>,
        pub status: Option<String>,
        pub substatus: Option<String>,
    }

    /// The order of an invoice (`api-reference/orders/resolve-a-commerce-order-by-invoice-id-merchant-scoped`).
    #[serde(rename_all = "camelCase")]
    pub struct OrderByInvoice {
        /// The invoice.
        pub invoice_id: Option<String>,
        /// Its order.
        pub order_id: Option<String>,
        /// A small view of the order.
        pub order: Order,
    }
}

/// A step to be simulated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Simulation {
    /// One of the eight documented transitions, as the provider spells it.
    pub transition_to: String,
    /// The payer's network, for the payment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wallet_network: Option<String>,
    /// The payer's address, for the payment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wallet_address: Option<String>,
    /// The parcel, for `shipped` and `delivery_confirmed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracking: Option<Tracking>,
}

/// A parcel to be simulated. Its members are not documented: these are a shipment's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the provider's members, under the provider's names")]
pub struct Tracking {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carrier: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracking_number: Option<String>,
}

view! {
    /// An order after a simulated step.
    pub struct Simulated {
        /// As it is now.
        pub order: Order,
    }
}

const ORDERS: [&str; 4] = ["api", "commerce", "merchant", "orders"];

impl Rest {
    /// A page of orders, newest first as far as is known: `GET …/orders`.
    ///
    /// `limit` is 1 to 100: the default of 20 is documented, the maximum is not.
    pub async fn orders(
        &self,
        filter: &OrderFilter,
        offset: u64,
        limit: u32,
    ) -> Result<Decoded<OrdersPage>, RestError> {
        let (wallet, network) = filter.wallet.as_ref().map(|(wallet, network)| (wallet, network)).unzip();
        let call = Call::get(&ORDERS)
            .with("customer_id", filter.customer_id.as_ref())
            .with("wallet", wallet)
            .with("walletNetwork", network)
            .with("status", filter.status.as_ref())
            .with("retailer", filter.retailer.as_ref())
            .with("createdFrom", filter.created_from)
            .with("createdTo", filter.created_to)
            .with("limit", Some(limit))
            .with("offset", Some(offset));
        Decoded::object(&self.call(call).await?)
    }

    /// Every page of orders from `offset` on, asked for one after the other as they are taken, up to the first short
    /// one. An order that is made meanwhile moves the rest on by a place: a row may come twice, and none is missed.
    pub fn order_pages<'a>(
        &'a self,
        filter: &'a OrderFilter,
        offset: u64,
        limit: u32,
    ) -> impl Stream<Item = Result<Decoded<OrdersPage>, RestError>> + 'a {
        futures::stream::try_unfold(Some((offset, 0_usize)), move |next| async move {
            let Some((offset, pages)) = next else { return Ok(None) };
            if pages >= PAGES_MAX {
                return Err(RestError::Endless(PAGES_MAX));
            }
            let page = self.orders(filter, offset, limit).await?;
            let behind = offset.saturating_add(page.view.orders.len() as u64);
            let next = page.view.is_full(limit).then_some((behind, pages + 1));
            Ok(Some((page, next)))
        })
    }

    /// One order: `GET …/orders/{orderId}`.
    pub async fn order(&self, order_id: &str) -> Result<Decoded<Order>, RestError> {
        let [api, commerce, merchant, orders] = ORDERS;
        Decoded::object(&self.call(Call::get(&[api, commerce, merchant, orders, order_id])).await?)
    }

    /// The order of an invoice: `GET /api/commerce/merchant/invoices/{invoiceId}/status`.
    pub async fn order_by_invoice(&self, invoice_id: &str) -> Result<Decoded<OrderByInvoice>, RestError> {
        let path = ["api", "commerce", "merchant", "invoices", invoice_id, "status"];
        Decoded::object(&self.call(Call::get(&path)).await?)
    }

    /// Asks for an order to be cancelled: `POST …/orders/{orderId}/cancel`, once for `key`, which is required.
    pub async fn cancel(
        &self,
        order_id: &str,
        refund_destination: Option<&str>,
        key: &IdempotencyKey,
    ) -> Result<Decoded<Cancellation>, RestError> {
        let [api, commerce, merchant, orders] = ORDERS;
        let request = match refund_destination {
            Some(address) => json!({ "refundDestinationWalletAddressBsc": address }),
            None => json!({}),
        };
        let call = Call::post(&[api, commerce, merchant, orders, order_id, "cancel"], request).keyed(key);
        Decoded::object(&self.call(call).await?)
    }

    /// Takes a step of an order's life on devnet: `POST /api/commerce/devnet/orders/{orderId}/simulate`.
    pub async fn simulate(&self, order_id: &str, simulation: &Simulation) -> Result<Decoded<Simulated>, RestError> {
        let path = ["api", "commerce", "devnet", "orders", order_id, "simulate"];
        Decoded::object(&self.call(Call::post(&path, json!(simulation))).await?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]

    use super::*;
    use serde::de::DeserializeOwned;

    fn fixture<T: DeserializeOwned>(name: &str) -> Decoded<T> {
        let path = format!("{}/tests/fixtures/rest/{name}.json", env!("CARGO_MANIFEST_DIR"));
        Decoded::object(&std::fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn what_is_answered_about_one_order_is_read() {
        let cancelled = fixture::<Cancellation>("order-cancel.response").view;
        assert_eq!(cancelled.substatus.as_deref(), Some("CANCELLATION_REQUESTED"));
        let found = fixture::<OrderByInvoice>("order-by-invoice.response").view;
        assert_eq!(
            (found.order_id.as_deref(), found.order.status.as_deref()),
            (Some("7b0f6a52-3c1e-4f55-9a6e-2d1f0c9e4a11"), Some("processing"))
        );
    }

    #[test]
    fn every_simulation_of_the_examples_is_written_and_read() {
        let wallet = Simulation {
            wallet_network: Some("bsc".to_owned()),
            wallet_address: Some("0x52908400098527886E0F7030069857D2E4169EE7".to_owned()),
            ..Simulation::default()
        };
        let tracking =
            Tracking { carrier: Some("UPS".to_owned()), tracking_number: Some("1Z999AA10123456784".to_owned()) };
        let parcel = Simulation { tracking: Some(tracking), ..Simulation::default() };
        for (name, status, with) in [
            ("payment_confirmed", "processing", wallet),
            ("payment_settled", "processing", Simulation::default()),
            ("placed", "placed", Simulation::default()),
            ("shipped", "shipped", parcel),
            ("delivery_confirmed", "delivered", Simulation::default()),
            ("failed", "failed", Simulation::default()),
            ("cancelled", "cancelled", Simulation::default()),
            ("refunded", "cancelled", Simulation::default()),
        ] {
            let path = format!("{}/tests/fixtures/rest/simulate.{name}.request.json", env!("CARGO_MANIFEST_DIR"));
            let wanted: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
            assert_eq!(json!(Simulation { transition_to: name.to_owned(), ..with }), wanted, "{name}");
            let order = fixture::<Simulated>(&format!("simulate.{name}.response")).view.order;
            assert_eq!(order.status.as_deref(), Some(status), "{name}");
        }
    }
}

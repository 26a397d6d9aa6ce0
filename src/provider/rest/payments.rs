//! Payments: of an order, of many, and of an invoice (`api-spec/commerce/payments`, `api-spec/endpoints/invoices-status`).

use super::answer::{ObjectTime, Spelled, unwrapped, view};
use super::call::Call;
use super::{Decoded, Rest, RestError};
use serde_json::json;
use serde_json::value::RawValue;

/// Orders of one bulk request at most
/// (`api-reference/merchant-payments/check-payment-status-for-multiple-orders`).
pub const BULK_MAX: usize = 50;

view! {
    /// The status of an order's payment.
    #[serde(rename_all = "camelCase")]
    pub struct PaymentStatus {
        pub order_id: Option<String>,
        pub invoice_id: Option<String>,
        /// Of the payment.
        pub status: Option<String>,
        pub order_status: Option<String>,
        /// USD.
        pub amount: Option<Spelled>,
        pub paid_at: Option<ObjectTime>,
        pub payment_details: PaymentDetails,
    }

    /// Who paid, and with what.
    #[serde(rename_all = "camelCase")]
    pub struct PaymentDetails {
        pub network: Option<String>,
        pub token: Option<String>,
        pub amount: Option<Spelled>,
        pub tx_hash: Option<String>,
        pub wallet_address: Option<String>,
    }

    /// One order's row in a bulk answer: a status, or why there is none.
    #[serde(rename_all = "camelCase")]
    pub struct BulkStatus {
        pub order_id: Option<String>,
        pub status: Option<String>,
        pub error: Option<String>,
    }

    /// An invoice and its latest payment.
    pub struct InvoiceStatus {
        /// The invoice.
        pub invoice: Invoice,
    }

    /// An invoice (`api-reference/invoices/retrieve-invoice-details`).
    pub struct Invoice {
        pub id: Option<String>,
        pub status: Option<String>,
        pub commerce_order_id: Option<String>,
        /// USD, with three places.
        pub amount_decimal: Option<Spelled>,
        pub amount_remaining_decimal: Option<Spelled>,
        pub expires_at: Option<ObjectTime>,
        pub paid_at: Option<ObjectTime>,
    }
}

impl Rest {
    /// The status of an order's payment: `GET /api/commerce/merchant/payments/{orderId}/status`.
    pub async fn payment_status(&self, order_id: &str) -> Result<Decoded<PaymentStatus>, RestError> {
        let path = ["api", "commerce", "merchant", "payments", order_id, "status"];
        Decoded::object(&self.call(Call::get(&path)).await?)
    }

    /// The same of many orders, [`BULK_MAX`] a request: `POST /api/commerce/merchant/payments/bulk-status`.
    ///
    /// One row an order, in the provider's order; an order that it does not know is a row with an error.
    pub async fn payment_statuses(&self, order_ids: &[String]) -> Result<Vec<Decoded<BulkStatus>>, RestError> {
        let path = ["api", "commerce", "merchant", "payments", "bulk-status"];
        let mut rows = Vec::new();
        for ids in order_ids.chunks(BULK_MAX) {
            let body = self.call(Call::post(&path, json!({ "orderIds": ids })).reading()).await?;
            rows.extend(bulk(&body)?);
        }
        Ok(rows)
    }

    /// An invoice with its latest payment, which comes without a wrapper: `GET /api/v1/invoices/{invoiceId}/status`.
    pub async fn invoice_status(&self, invoice_id: &str) -> Result<Decoded<InvoiceStatus>, RestError> {
        Decoded::object(&self.call(Call::get(&["api", "v1", "invoices", invoice_id, "status"])).await?)
    }
}

fn bulk(body: &[u8]) -> Result<Vec<Decoded<BulkStatus>>, RestError> {
    let rows = Decoded::<Vec<Box<RawValue>>>::of(unwrapped(body)?, '[')?;
    rows.view.iter().map(|row| Decoded::of(row, '{')).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]

    use super::*;

    #[test]
    fn the_examples_are_read() {
        let body = include_bytes!("../../../tests/fixtures/rest/payment-status.response.json");
        let status = Decoded::<PaymentStatus>::object(body).unwrap().view;
        assert_eq!((status.status.as_deref(), status.order_status.as_deref()), (Some("paid"), Some("processing")));
        assert_eq!(status.paid_at.unwrap().0.as_second(), 1_768_471_440);
        assert_eq!(status.payment_details.amount.unwrap().0, "28.97");

        let rows = bulk(include_bytes!("../../../tests/fixtures/rest/payment-bulk-status.response.json")).unwrap();
        let told = |row: &Decoded<BulkStatus>| (row.view.status.clone(), row.view.error.clone());
        let told: Vec<_> = rows.iter().map(told).collect();
        assert_eq!(told, [(Some("paid".to_owned()), None), (None, Some("Order not found".to_owned()))]);
        let wanted: serde_json::Value =
            serde_json::from_slice(include_bytes!("../../../tests/fixtures/rest/payment-bulk-status.request.json"))
                .unwrap();
        let ids: Vec<_> = rows.iter().map(|row| row.view.order_id.clone()).collect();
        assert_eq!(json!({ "orderIds": ids }), wanted);

        let body = include_bytes!("../../../tests/fixtures/rest/invoice-status.response.json");
        let status = Decoded::<InvoiceStatus>::object(body).unwrap();
        assert_eq!(status.view.invoice.amount_decimal.unwrap().0, "28.970");
        assert!(status.raw.get().starts_with("{\n  \"object\": \"invoice_status\""), "it has no wrapper");
    }
}

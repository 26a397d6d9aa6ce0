//! One order with its invoice and payment, and the changes that the provider's simulator page allows it.
//!
//! [`Snapshot`], [`Invoice`] and [`Payment`] are the provider's objects member for member and in its order
//! (`api-reference/orders/get-merchant-order-details-scoped`, `api-reference/invoices/retrieve-invoice-details`,
//! `api-spec/endpoints/invoices-status`): what is stored is what is sent. The steps between states are in
//! [`super::transitions`].

use super::values::{Cents, Stamp, millis_text};
use serde::Serialize;

/// The order as `GET /api/commerce/merchant/orders/{orderId}` and `commerce.order.*` show it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the provider's members, under the provider's names")]
pub struct Snapshot {
    pub order_id: String,
    pub invoice_id: String,
    pub merchant_id: u64,
    pub network_environment: &'static str,
    pub retailer: String,
    pub created_at: Stamp,
    pub updated_at: Stamp,
    pub customer_id: Option<String>,
    pub wallet_address: Option<String>,
    pub wallet_network: Option<String>,
    pub status: Status,
    pub substatus: Option<&'static str>,
    pub actions: Actions,
    pub timeline: Vec<TimelineEntry>,
    pub payment: PaymentSummary,
    pub fulfillment: Fulfillment,
    pub line_items: Vec<LineItem>,
    /// Null in the provider's only sample; its members are not documented.
    pub shipping_address: Option<serde_json::Value>,
    pub cancellation_status: &'static str,
    pub refund_status: &'static str,
    pub total_amount_usd: Cents,
    pub commerce_fee_usd: Cents,
    pub refund: Refund,
}

/// The states of an order: the values that the list's `status` filter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the provider's values, under the provider's names")]
pub enum Status {
    PendingPayment,
    Processing,
    Placed,
    Shipped,
    Delivered,
    Cancelled,
    Failed,
}

impl Status {
    /// As the provider spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PendingPayment => "pending_payment",
            Self::Processing => "processing",
            Self::Placed => "placed",
            Self::Shipped => "shipped",
            Self::Delivered => "delivered",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }

    /// From the provider's spelling.
    pub fn parse(text: &str) -> Option<Self> {
        use Status::{Cancelled, Delivered, Failed, PendingPayment, Placed, Processing, Shipped};
        [PendingPayment, Processing, Placed, Shipped, Delivered, Cancelled, Failed]
            .into_iter()
            .find(|status| status.as_str() == text)
    }

    /// Whether only the refund can still move.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Delivered | Self::Cancelled | Self::Failed)
    }
}

/// What the merchant may do now.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Actions {
    /// Whether a cancel request is taken.
    pub can_cancel: bool,
}

/// A step that was reached; oldest first.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the provider's members, under the provider's names")]
pub struct TimelineEntry {
    pub status: Status,
    pub timestamp: Stamp,
    pub message: &'static str,
}

/// The order's view of its payment; `status` follows the invoice's.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the provider's members, under the provider's names")]
pub struct PaymentSummary {
    pub status: &'static str,
    pub tx_hash: Option<String>,
    pub settlement: SettlementSummary,
}

/// How far the money has come to the merchant.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the provider's members, under the provider's names")]
pub struct SettlementSummary {
    pub status: &'static str,
    pub tx_hash: Option<String>,
    pub network: Option<String>,
}

/// What is under way to the customer.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Fulfillment {
    /// Oldest first.
    pub shipments: Vec<Shipment>,
}

/// One parcel.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the provider's members, under the provider's names")]
pub struct Shipment {
    pub shipment_id: String,
    pub carrier: String,
    pub tracking_number: String,
    pub carrier_tracking_url: String,
    pub delivery_status: &'static str,
    pub retailer_tracking_number: String,
    pub retailer_tracking_url: String,
    pub obtained_at: Stamp,
}

/// One line of the order.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the provider's members, under the provider's names")]
pub struct LineItem {
    pub product_id: String,
    pub title: String,
    pub image_url: String,
    pub quantity: u64,
    pub price: Cents,
    pub status: &'static str,
}

/// The refund's state; amounts once it is done.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the provider's members, under the provider's names")]
pub struct Refund {
    pub status: &'static str,
    pub amount_usd: Option<Cents>,
    pub fee_usd: Option<Cents>,
    pub destination_wallet_address_bsc: Option<String>,
    pub tx_hash: Option<String>,
}

/// The invoice as `invoice.*` shows it; amounts in thousandths of a dollar.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the provider's members, under the provider's names")]
pub struct Invoice {
    pub object: &'static str,
    pub id: String,
    pub merchant_id: u64,
    pub status: &'static str,
    pub invoice_type: &'static str,
    pub currency: &'static str,
    pub amount: u64,
    pub amount_decimal: String,
    pub amount_paid: u64,
    pub amount_paid_decimal: String,
    pub amount_remaining: u64,
    pub amount_remaining_decimal: String,
    pub amount_unit: &'static str,
    pub customer_id: Option<String>,
    pub payer_wallet_address: Option<String>,
    pub payer_wallet_network: Option<String>,
    pub commerce_order_id: Option<String>,
    pub environment: &'static str,
    pub expires_at: Stamp,
    pub created_at: Stamp,
    pub paid_at: Option<Stamp>,
    pub last_payment_at: Option<Stamp>,
    pub metadata: serde_json::Map<String, serde_json::Value>,
}

impl Invoice {
    /// Records that `millis` of the amount are paid, in every member that shows it.
    pub fn set_paid(&mut self, millis: u64) {
        self.amount_paid = millis.min(self.amount);
        self.amount_remaining = self.amount - self.amount_paid;
        self.amount_paid_decimal = millis_text(self.amount_paid);
        self.amount_remaining_decimal = millis_text(self.amount_remaining);
    }
}

/// The payment as `invoice_payment.*` shows it.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the provider's members, under the provider's names")]
pub struct Payment {
    pub object: &'static str,
    pub id: String,
    pub invoice_id: String,
    pub merchant_id: u64,
    pub status: &'static str,
    pub settlement_status: &'static str,
    pub settlement: Settlement,
}

/// The payment's way to the merchant.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the provider's members, under the provider's names")]
pub struct Settlement {
    pub summary_status: &'static str,
    pub stage: &'static str,
    pub merchant_settlement_id: Option<u64>,
    pub settlement_tx_hash: Option<String>,
    pub network: Option<String>,
    pub status: &'static str,
}

/// An order with what belongs to it.
#[derive(Clone, Debug)]
pub struct Order {
    /// The order itself.
    pub snapshot: Snapshot,
    /// Its invoice.
    pub invoice: Invoice,
    /// Its payment, once one was seen.
    pub payment: Option<Payment>,
}

/// A row of the order list (`api-reference/orders/list-merchant-scoped-orders`): smaller than the snapshot, and
/// with the total as a JSON number.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row<'a> {
    order_id: &'a str,
    invoice_id: &'a str,
    network_environment: &'a str,
    status: Status,
    substatus: Option<&'a str>,
    actions: Actions,
    shipments_summary: ShipmentsSummary,
    retailer: &'a str,
    wallet_address: Option<&'a str>,
    wallet_network: Option<&'a str>,
    customer_id: Option<&'a str>,
    total: serde_json::Number,
    created_at: Stamp,
    updated_at: Stamp,
    item_count: usize,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShipmentsSummary {
    shipment_count: usize,
    has_tracking: bool,
    last_tracking_at: Option<Stamp>,
    is_delivered: bool,
}

impl Snapshot {
    /// The order's row in the list. `item_count` counts lines, as in the provider's sample (one line of two pieces
    /// is 1).
    pub fn row(&self) -> Row<'_> {
        let shipments = &self.fulfillment.shipments;
        Row {
            order_id: &self.order_id,
            invoice_id: &self.invoice_id,
            network_environment: self.network_environment,
            status: self.status,
            substatus: self.substatus,
            actions: self.actions,
            shipments_summary: ShipmentsSummary {
                shipment_count: shipments.len(),
                has_tracking: !shipments.is_empty(),
                last_tracking_at: shipments.last().map(|shipment| shipment.obtained_at),
                is_delivered: self.status == Status::Delivered,
            },
            retailer: &self.retailer,
            wallet_address: self.wallet_address.as_deref(),
            wallet_network: self.wallet_network.as_deref(),
            customer_id: self.customer_id.as_deref(),
            total: self.total_amount_usd.number(),
            created_at: self.created_at,
            updated_at: self.updated_at,
            item_count: self.line_items.len(),
        }
    }
}

//! `commerce_order` (`api-reference/orders/get-merchant-order-details-scoped`), in the snapshot's spelling, and in
//! that of the minimal samples (`api-spec/webhooks`, `sdk/commerce/websockets`).

use super::table::Shape::{
    Beside, Dollars, Exactly, Flag, Id, Inside, Integer, List, Lower, Object, Snake, Text, Time,
};
use super::table::{Member, Table, beside, source};

/// The members of `order`.
pub(super) const ORDER: &Table = &Table::new(&[
    Member::new("id", "Order id; the record's key.", &[source("orderId", Id), source("id", Id)]),
    Member::new("invoice_id", "Invoice that pays for the order.", &[source("invoiceId", Text)]),
    Member::new("merchant_id", "Merchant that the order belongs to.", &[source("merchantId", Integer)]),
    Member::new(
        "environment",
        "Environment that the order itself names.",
        &[source("networkEnvironment", Text), source("environment", Text)],
    ),
    Member::new("retailer", "Shop that fulfils the order, as `amazon`.", &[source("retailer", Text)]),
    Member::new("customer_id", "The merchant's own id of the customer.", &[source("customerId", Text)]),
    Member::new("wallet_address", "Wallet that pays.", &[source("walletAddress", Text)]),
    Member::new("wallet_network", "Network of that wallet, as `bsc`.", &[source("walletNetwork", Text)]),
    Member::new("status", "Status as the provider spells it; an open set.", &[source("status", Text)]),
    Member::new("substatus", "Finer status, as `AWAITING_TRACKING`; an open set.", &[source("substatus", Text)]),
    Member::new("can_cancel", "Whether the order can be cancelled now.", &[source("actions", Inside(CAN_CANCEL))]),
    Member::new("total", "What the order costs in all.", &[source("totalAmountUsd", Dollars)]),
    Member::new("commerce_fee", "The provider's fee in it.", &[source("commerceFeeUsd", Dollars)]),
    Member::new("payment", "How the order is paid.", &[source("payment", Object(PAYMENT))]),
    Member::new("shipments", "Parcels on their way.", &[source("fulfillment", Inside(SHIPMENTS))]),
    Member::new("items", "What was ordered.", &[source("lineItems", List(ITEM))]),
    Member::new(
        "shipping_address",
        "Where it goes: the provider's members in snake_case, values as they came.",
        &[source("shippingAddress", Snake)],
    ),
    Member::new(
        "cancellation_status",
        "How far a cancellation is, in lower case; an open set.",
        &[source("cancellationStatus", Lower)],
    ),
    Member::new("refund", "What is paid back.", &[source("refund", Object(REFUND)), source("refundStatus", Beside)]),
    Member::new("timeline", "What happened to the order so far.", &[source("timeline", List(STEP))]),
    Member::new("created_at", "When the order was made.", &[source("createdAt", Time)]),
    Member::new("updated_at", "When the order changed last.", &[source("updatedAt", Time)]),
    Member::hidden("object", &[source("object", Exactly("commerce_order"))]),
]);

const CAN_CANCEL: &Table = &Table::new(&[Member::new("can_cancel", "", &[source("canCancel", Flag)])]);

const PAYMENT: &Table = &Table::new(&[
    Member::new("status", "Status of the payment, as `paid`; an open set.", &[source("status", Text)]),
    Member::new("tx_hash", "Transaction that paid.", &[source("txHash", Text)]),
    Member::new("settlement", "The payment's way to the merchant.", &[source("settlement", Object(SETTLEMENT))]),
]);

const SETTLEMENT: &Table = &Table::new(&[
    Member::new("status", "Status of the settlement, as `settled`; an open set.", &[source("status", Text)]),
    Member::new("tx_hash", "Transaction that settled.", &[source("txHash", Text)]),
    Member::new("network", "Network of that transaction.", &[source("network", Text)]),
]);

const SHIPMENTS: &Table = &Table::new(&[Member::new("shipments", "", &[source("shipments", List(SHIPMENT))])]);

const SHIPMENT: &Table = &Table::new(&[
    Member::new("id", "Shipment id.", &[source("shipmentId", Text)]),
    Member::new("carrier", "Carrier, as `UPS`.", &[source("carrier", Text)]),
    Member::new("tracking_number", "The carrier's number.", &[source("trackingNumber", Text)]),
    Member::new("tracking_url", "The carrier's page.", &[source("carrierTrackingUrl", Text)]),
    Member::new("delivery_status", "Free text of the carrier, as `In Transit`.", &[source("deliveryStatus", Text)]),
    Member::new("retailer_tracking_number", "The shop's number.", &[source("retailerTrackingNumber", Text)]),
    Member::new("retailer_tracking_url", "The shop's page.", &[source("retailerTrackingUrl", Text)]),
    Member::new("obtained_at", "When the tracking became known.", &[source("obtainedAt", Time)]),
]);

const ITEM: &Table = &Table::new(&[
    Member::new("product_id", "The shop's product id.", &[source("productId", Text)]),
    Member::new("title", "The product's name.", &[source("title", Text)]),
    Member::new("image_url", "A picture of it.", &[source("imageUrl", Text)]),
    Member::new("quantity", "How many.", &[source("quantity", Integer)]),
    Member::new("price", "Price of one.", &[source("price", Dollars)]),
    Member::new("status", "Status of the item, as `processing`; an open set.", &[source("status", Text)]),
]);

const REFUND: &Table = &Table::new(&[
    Member::new(
        "status",
        "How far the refund is, in lower case; an open set.",
        &[source("status", Lower), beside("refundStatus", Lower)],
    ),
    Member::new("amount", "What is paid back.", &[source("amountUsd", Dollars)]),
    Member::new("fee", "What is kept of it.", &[source("feeUsd", Dollars)]),
    Member::new(
        "destination_wallet_address",
        "Wallet on bsc that is paid.",
        &[source("destinationWalletAddressBsc", Text)],
    ),
    Member::new("tx_hash", "Transaction that paid back.", &[source("txHash", Text)]),
]);

const STEP: &Table = &Table::new(&[
    Member::new("status", "Status that was reached.", &[source("status", Text)]),
    Member::new("at", "When.", &[source("timestamp", Time)]),
    Member::new("message", "In words.", &[source("message", Text)]),
]);

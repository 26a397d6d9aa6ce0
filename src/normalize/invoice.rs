//! `invoice` (`api-reference/invoices/retrieve-invoice-details`), also in the reduced form of older webhook samples,
//! and `invoice_payment` (`api-spec/endpoints/invoices-status`).

use super::table::Shape::{
    Currency, Decimal, Dollars, Exactly, Free, Id, Integer, InvoiceStatus, Millis, Object, Text, Time, Unit,
};
use super::table::{Member, Table, source};

/// The members of `invoice`.
pub(super) const INVOICE: &Table = &Table::new(&[
    Member::new("id", "Invoice id; the record's key.", &[source("id", Id), source("invoiceId", Id)]),
    Member::new(
        "order_id",
        "Order that the invoice is for.",
        &[source("commerceOrderId", Text), source("orderId", Text)],
    ),
    Member::new("merchant_id", "Merchant that the invoice belongs to.", &[source("merchantId", Integer)]),
    Member::new(
        "environment",
        "Environment that the invoice itself names.",
        &[source("networkEnvironment", Text), source("environment", Text)],
    ),
    Member::new("type", "Kind of invoice, as `commerce`; an open set.", &[source("invoiceType", Text)]),
    Member::new(
        "status",
        "Status as the provider spells it, except that `canceled` is `cancelled`; an open set.",
        &[source("status", InvoiceStatus)],
    ),
    Member::new(
        "amount",
        "What is to be paid.",
        &[
            source("amountDecimal", Decimal),
            source("amount", Millis),
            source("amountUsd", Dollars),
            source("currency", Currency),
            source("amountUnit", Unit),
        ],
    ),
    Member::new(
        "amount_paid",
        "What has been paid.",
        &[source("amountPaidDecimal", Decimal), source("amountPaid", Millis)],
    ),
    Member::new(
        "amount_remaining",
        "What is still to be paid.",
        &[source("amountRemainingDecimal", Decimal), source("amountRemaining", Millis)],
    ),
    Member::new("customer_id", "The merchant's own id of the customer.", &[source("customerId", Text)]),
    Member::new(
        "wallet_address",
        "Wallet that pays.",
        &[source("payerWalletAddress", Text), source("walletAddress", Text)],
    ),
    Member::new(
        "wallet_network",
        "Network of that wallet, as `bsc`.",
        &[source("payerWalletNetwork", Text), source("walletNetwork", Text)],
    ),
    Member::new("created_at", "When the invoice was made.", &[source("createdAt", Time)]),
    Member::new("expires_at", "Until when it can be paid.", &[source("expiresAt", Time)]),
    Member::new("paid_at", "When it was paid in full.", &[source("paidAt", Time)]),
    Member::new("last_payment_at", "When something was paid last.", &[source("lastPaymentAt", Time)]),
    Member::new("metadata", "The merchant's own members, as they came.", &[source("metadata", Free)]),
    Member::hidden("object", &[source("object", Exactly("invoice"))]),
]);

/// The members of `payment` in events of an `invoice_payment`.
pub(super) const PAYMENT: &Table = &Table::new(&[
    Member::new("id", "Payment id.", &[source("id", Text)]),
    Member::new("invoice_id", "Invoice that is paid; the record's key.", &[source("invoiceId", Text)]),
    Member::new("merchant_id", "Merchant that is paid.", &[source("merchantId", Integer)]),
    Member::new("status", "Status of the payment, as `confirmed`; an open set.", &[source("status", Text)]),
    Member::new(
        "settlement_status",
        "Status of the payment's way to the merchant, as `settled`; an open set.",
        &[source("settlementStatus", Text)],
    ),
    Member::new("settlement", "The payment's way to the merchant.", &[source("settlement", Object(SETTLEMENT))]),
    Member::hidden("environment", &[source("networkEnvironment", Text), source("environment", Text)]),
    Member::hidden("order_id", &[source("commerceOrderId", Text), source("orderId", Text)]),
    Member::hidden("customer_id", &[source("customerId", Text)]),
    Member::hidden("object", &[source("object", Exactly("invoice_payment"))]),
]);

const SETTLEMENT: &Table = &Table::new(&[
    Member::new("summary_status", "Status of the whole settlement.", &[source("summaryStatus", Text)]),
    Member::new("stage", "How far it is, as `final`; an open set.", &[source("stage", Text)]),
    Member::new("merchant_settlement_id", "The provider's id of it.", &[source("merchantSettlementId", Integer)]),
    Member::new("settlement_tx_hash", "Transaction that settled.", &[source("settlementTxHash", Text)]),
    Member::new("network", "Network of that transaction.", &[source("network", Text)]),
    Member::new("status", "Status of the settlement, as `settled`; an open set.", &[source("status", Text)]),
]);

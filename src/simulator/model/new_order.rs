//! How an order begins: unpaid, with its invoice.

use super::order::{Actions, Fulfillment, LineItem, PaymentSummary, Refund, SettlementSummary};
use super::values::millis_text;
use super::{Cents, Chance, Invoice, Model, Order, Snapshot, Stamp, Status};

/// Who buys: the merchant's own id of the customer, or a wallet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the provider's members, under the provider's names")]
pub struct Customer {
    pub customer_id: Option<String>,
    pub wallet_address: Option<String>,
    pub wallet_network: Option<String>,
}

/// One line that can be bought.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the provider's members, under the provider's names")]
pub struct Line {
    pub product_id: String,
    pub title: String,
    pub image: String,
    pub quantity: u64,
    pub price: Cents,
}

/// An order to be made: what a finished checkout leaves behind.
#[derive(Clone, Debug, Default)]
pub struct NewOrder {
    /// Who buys.
    pub customer: Customer,
    /// What; at least one line.
    pub items: Vec<Line>,
    /// Shipping, part of the total.
    pub shipping: Cents,
    /// The provider's fee, part of the total and kept at a refund.
    pub fee: Cents,
    /// Where a refund goes.
    pub refund_destination: Option<String>,
}

impl Model {
    /// The order with fresh ids; not yet anybody's.
    pub(super) fn build_order(&self, new: NewOrder, now_ms: i64, chance: &mut dyn Chance) -> Order {
        let now = Stamp::at(now_ms, self.settings.times);
        let order_id = chance.uuid();
        let invoice_id = chance.uuid();
        let subtotal: u64 = new.items.iter().map(|item| item.price.times(item.quantity).0).sum();
        let total = Cents(subtotal + new.shipping.0 + new.fee.0);
        let line_items = new.items.into_iter().map(|item| LineItem {
            product_id: item.product_id,
            title: item.title,
            image_url: item.image,
            quantity: item.quantity,
            price: item.price,
            status: "pending",
        });
        let mut invoice = Invoice {
            object: "invoice",
            id: invoice_id.clone(),
            merchant_id: self.settings.merchant_id,
            status: "unpaid",
            invoice_type: "commerce",
            currency: "usd",
            amount: total.times(10).0,
            amount_decimal: millis_text(total.times(10).0),
            amount_paid: 0,
            amount_paid_decimal: String::new(),
            amount_remaining: 0,
            amount_remaining_decimal: String::new(),
            amount_unit: "usd_millis",
            customer_id: new.customer.customer_id.clone(),
            payer_wallet_address: None,
            payer_wallet_network: None,
            commerce_order_id: Some(order_id.clone()),
            environment: self.settings.environment(),
            expires_at: now.plus(self.settings.invoice_lifetime_s),
            created_at: now,
            paid_at: None,
            last_payment_at: None,
            metadata: serde_json::Map::new(),
        };
        invoice.set_paid(0);
        let snapshot = Snapshot {
            order_id,
            invoice_id,
            merchant_id: self.settings.merchant_id,
            network_environment: self.settings.environment(),
            retailer: "amazon".into(),
            created_at: now,
            updated_at: now,
            customer_id: new.customer.customer_id,
            wallet_address: new.customer.wallet_address,
            wallet_network: new.customer.wallet_network,
            status: Status::PendingPayment,
            substatus: None,
            actions: Actions { can_cancel: false },
            timeline: Vec::new(),
            payment: PaymentSummary {
                status: "unpaid",
                tx_hash: None,
                settlement: SettlementSummary { status: "pending", tx_hash: None, network: None },
            },
            fulfillment: Fulfillment::default(),
            line_items: line_items.collect(),
            shipping_address: None,
            cancellation_status: "none",
            refund_status: "NONE",
            total_amount_usd: total,
            commerce_fee_usd: new.fee,
            refund: Refund {
                status: "NONE",
                amount_usd: None,
                fee_usd: None,
                destination_wallet_address_bsc: new.refund_destination,
                tx_hash: None,
            },
        };
        Order { snapshot, invoice, payment: None }
    }
}

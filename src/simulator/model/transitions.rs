//! The steps that an order, its invoice and its payment can take: exactly those of the provider's simulator page
//! (`api-reference/commerce--devnet-simulator/simulate-a-commerce-order-transition-devnet-only`), and the steps of
//! an invoice around them. A step that is not allowed changes nothing.

use super::order::{Order, Payment, Refund, Settlement, Shipment, Status, TimelineEntry};
use super::values::{Cents, Chance, Stamp, is_evm_address};
use serde_json::{Map, Value};

/// `transitionTo` of a simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the provider's values, under the provider's names")]
pub enum Transition {
    PaymentConfirmed,
    PaymentSettled,
    Placed,
    Shipped,
    DeliveryConfirmed,
    Failed,
    Cancelled,
    Refunded,
}

impl Transition {
    /// The steps of an order that goes well.
    pub const LIFE: [Self; 5] =
        [Self::PaymentConfirmed, Self::PaymentSettled, Self::Placed, Self::Shipped, Self::DeliveryConfirmed];

    /// Every transition, in the order of the provider's page.
    pub const ALL: [Self; 8] = [
        Self::PaymentConfirmed,
        Self::PaymentSettled,
        Self::Placed,
        Self::Shipped,
        Self::DeliveryConfirmed,
        Self::Failed,
        Self::Cancelled,
        Self::Refunded,
    ];

    /// As the provider spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PaymentConfirmed => "payment_confirmed",
            Self::PaymentSettled => "payment_settled",
            Self::Placed => "placed",
            Self::Shipped => "shipped",
            Self::DeliveryConfirmed => "delivery_confirmed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Refunded => "refunded",
        }
    }

    /// From the provider's spelling.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|transition| transition.as_str() == text)
    }
}

/// What a simulation may give alongside the transition; whatever is missing is made up.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the provider's members, under the provider's names")]
pub struct Details {
    pub wallet_network: Option<String>,
    pub wallet_address: Option<String>,
    pub carrier: Option<String>,
    pub tracking_number: Option<String>,
}

/// The object that an event of a step shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// `commerce_order`
    Order,
    /// `invoice`
    Invoice,
    /// `invoice_payment`
    Payment,
}

/// One event of a step: what it shows, and for updates the earlier values of the members that drive the state.
#[derive(Debug, PartialEq)]
pub struct Change {
    /// Its object.
    pub subject: Subject,
    /// `previous_attributes` of an update; `None` makes it a `created`.
    pub previous: Option<Map<String, Value>>,
}

impl Change {
    /// The `….created` event of `subject`.
    pub const fn created(subject: Subject) -> Self {
        Self { subject, previous: None }
    }

    fn updated<const N: usize>(subject: Subject, previous: [(&str, Value); N]) -> Self {
        let previous = previous.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { subject, previous: Some(previous) }
    }
}

/// Why a step is refused: the message of the `400`.
pub type Refusal = String;

impl Order {
    /// Takes the step, or returns why not and changes nothing.
    ///
    /// # Errors
    /// When the order is not in the state that the transition needs.
    pub fn simulate(
        &mut self,
        transition: Transition,
        details: &Details,
        now: Stamp,
        chance: &mut dyn Chance,
    ) -> Result<Vec<Change>, Refusal> {
        match transition {
            Transition::PaymentConfirmed => self.confirm_payment(details, now, chance),
            Transition::PaymentSettled => self.settle_payment(now, chance),
            Transition::Placed => self.place(now),
            Transition::Shipped => self.ship(details, now, chance),
            Transition::DeliveryConfirmed => self.deliver(now),
            Transition::Failed => self.fail(now),
            Transition::Cancelled => self.cancel(now),
            Transition::Refunded => self.refund(now, chance),
        }
    }

    /// The payer's transaction was seen and is not final yet: the payment exists.
    ///
    /// # Errors
    /// When there is one already, or the invoice takes no more money.
    pub fn see_payment(&mut self, chance: &mut dyn Chance) -> Result<Vec<Change>, Refusal> {
        self.need_open_invoice()?;
        if self.payment.is_some() {
            return Err("a payment was seen already".into());
        }
        self.payment = Some(Payment {
            object: "invoice_payment",
            id: chance.uuid(),
            invoice_id: self.invoice.id.clone(),
            merchant_id: self.invoice.merchant_id,
            status: "pending",
            settlement_status: "pending",
            settlement: Settlement {
                summary_status: "pending",
                stage: "initial",
                merchant_settlement_id: None,
                settlement_tx_hash: None,
                network: None,
                status: "pending",
            },
        });
        Ok(vec![Change::created(Subject::Payment)])
    }

    /// Only `millis` of the amount came: the invoice waits for the rest, from the same wallet.
    ///
    /// # Errors
    /// When the invoice takes no more money, or the part is none or all of it.
    pub fn underpay(
        &mut self,
        millis: u64,
        details: &Details,
        now: Stamp,
        chance: &mut dyn Chance,
    ) -> Result<Vec<Change>, Refusal> {
        self.need_open_invoice()?;
        if millis == 0 || millis >= self.invoice.amount_remaining {
            return Err("a part payment is more than nothing and less than what remains".into());
        }
        let previous = [("status", self.invoice.status.into()), ("amount_paid", self.invoice.amount_paid.into())];
        self.record_payer(details, chance);
        self.invoice.status = "underpaid";
        self.invoice.set_paid(self.invoice.amount_paid + millis);
        self.invoice.last_payment_at = Some(now);
        self.snapshot.payment.status = "underpaid";
        Ok(vec![Change::updated(Subject::Invoice, previous)])
    }

    /// The invoice's time is over. The order itself stays `pending_payment` and has no event: the provider's pages
    /// have nothing else on it.
    ///
    /// # Errors
    /// When the invoice is paid or closed.
    pub fn expire(&mut self) -> Result<Vec<Change>, Refusal> {
        self.need_open_invoice()?;
        let previous = [("status", self.invoice.status.into())];
        self.invoice.status = "expired";
        self.snapshot.payment.status = "expired";
        Ok(vec![Change::updated(Subject::Invoice, previous)])
    }

    /// The merchant asks for cancellation; the outcome comes later, as `cancelled` or as `shipped`.
    ///
    /// # Errors
    /// When `actions.canCancel` is false.
    pub fn request_cancellation(&mut self, destination: Option<&str>, now: Stamp) -> Result<Vec<Change>, Refusal> {
        if !self.snapshot.actions.can_cancel {
            return Err("Order cannot be cancelled in its current state".into());
        }
        if destination.is_some_and(|address| !is_evm_address(address)) {
            return Err("refundDestinationWalletAddressBsc must be a valid BSC address".into());
        }
        if let Some(address) = destination {
            self.snapshot.refund.destination_wallet_address_bsc = Some(address.to_owned());
        }
        self.snapshot.cancellation_status = "requested";
        Ok(vec![self.move_to(Status::Placed, Some("CANCELLATION_REQUESTED"), now, None)])
    }

    fn confirm_payment(
        &mut self,
        details: &Details,
        now: Stamp,
        chance: &mut dyn Chance,
    ) -> Result<Vec<Change>, Refusal> {
        self.need(Status::PendingPayment, "payment_confirmed is only reachable from pending_payment")?;
        self.need_open_invoice()?;
        let on_evm = details.wallet_network.as_deref().is_none_or(|network| network != "solana");
        if on_evm && details.wallet_address.as_deref().is_some_and(|address| !is_evm_address(address)) {
            return Err("walletAddress must be an EVM address for this network".into());
        }
        let mut changes = if self.payment.is_none() { self.see_payment(chance)? } else { Vec::new() };
        changes.push(Change::updated(Subject::Invoice, [("status", self.invoice.status.into())]));
        self.record_payer(details, chance);
        self.invoice.status = "paid";
        self.invoice.set_paid(self.invoice.amount);
        self.invoice.paid_at = Some(now);
        self.invoice.last_payment_at = Some(now);
        self.snapshot.payment.status = "paid";
        self.snapshot.payment.tx_hash = Some(chance.tx_hash());
        for item in &mut self.snapshot.line_items {
            item.status = "processing";
        }
        changes.push(self.move_to(Status::Processing, None, now, Some("Payment confirmed")));
        Ok(changes)
    }

    fn settle_payment(&mut self, now: Stamp, chance: &mut dyn Chance) -> Result<Vec<Change>, Refusal> {
        let settled = self.snapshot.payment.settlement.status == "settled";
        let Some(payment) = self.payment.as_mut().filter(|_| self.snapshot.status == Status::Processing && !settled)
        else {
            return Err("payment_settled is only reachable once the payment is confirmed".into());
        };
        let previous = [("status", payment.status.into()), ("settlement_status", payment.settlement_status.into())];
        let hash = chance.tx_hash();
        let network = self.invoice.payer_wallet_network.clone();
        payment.status = "confirmed";
        payment.settlement_status = "settled";
        payment.settlement = Settlement {
            summary_status: "settled",
            stage: "final",
            merchant_settlement_id: Some(chance.settlement_id()),
            settlement_tx_hash: Some(hash.clone()),
            network: network.clone(),
            status: "settled",
        };
        let settlement = &mut self.snapshot.payment.settlement;
        settlement.status = "settled";
        settlement.tx_hash = Some(hash);
        settlement.network = network;
        let order = self.move_to(Status::Processing, Some("PROVIDER_PLACEMENT_SUBMITTED"), now, None);
        Ok(vec![Change::updated(Subject::Payment, previous), order])
    }

    fn place(&mut self, now: Stamp) -> Result<Vec<Change>, Refusal> {
        self.need(Status::Processing, "placed is only reachable from processing")?;
        if self.snapshot.payment.settlement.status != "settled" {
            return Err("placed is only reachable once the payment is settled".into());
        }
        Ok(vec![self.move_to(Status::Placed, Some("AWAITING_TRACKING"), now, Some("Retailer order placed"))])
    }

    fn ship(&mut self, details: &Details, now: Stamp, chance: &mut dyn Chance) -> Result<Vec<Change>, Refusal> {
        self.need(Status::Placed, "shipped is only reachable from placed")?;
        let number = details.tracking_number.clone().unwrap_or_else(|| chance.tracking_number());
        let retailer_number = chance.retailer_tracking_number();
        let shipments = &mut self.snapshot.fulfillment.shipments;
        shipments.push(Shipment {
            shipment_id: format!("ship_{:02}", shipments.len() + 1),
            carrier: details.carrier.clone().unwrap_or_else(|| "UPS".into()),
            carrier_tracking_url: format!("https://track.example.com/{number}"),
            tracking_number: number,
            delivery_status: "In Transit",
            retailer_tracking_url: format!("https://retailer.example.com/track/{retailer_number}"),
            retailer_tracking_number: retailer_number,
            obtained_at: now,
        });
        if self.snapshot.cancellation_status == "requested" {
            self.snapshot.cancellation_status = "rejected";
        }
        Ok(vec![self.move_to(Status::Shipped, None, now, Some("Tracking received"))])
    }

    fn deliver(&mut self, now: Stamp) -> Result<Vec<Change>, Refusal> {
        self.need(Status::Shipped, "delivery_confirmed is only reachable from shipped")?;
        for shipment in &mut self.snapshot.fulfillment.shipments {
            shipment.delivery_status = "Delivered";
        }
        Ok(vec![self.move_to(Status::Delivered, None, now, Some("Carrier reports delivery"))])
    }

    fn fail(&mut self, now: Stamp) -> Result<Vec<Change>, Refusal> {
        self.need(Status::Processing, "failed is only reachable from processing")?;
        Ok(vec![self.move_to(Status::Failed, None, now, Some("Retailer rejected the order"))])
    }

    fn cancel(&mut self, now: Stamp) -> Result<Vec<Change>, Refusal> {
        self.need(Status::Placed, "cancelled is only reachable from placed")?;
        self.snapshot.cancellation_status = "cancelled";
        self.snapshot.refund_status = "PENDING";
        self.snapshot.refund.status = "PENDING";
        Ok(vec![self.move_to(Status::Cancelled, None, now, Some("Cancelled at merchant request"))])
    }

    fn refund(&mut self, now: Stamp, chance: &mut dyn Chance) -> Result<Vec<Change>, Refusal> {
        if !matches!(self.snapshot.status, Status::Cancelled | Status::Failed) {
            return Err("refunded is only reachable from cancelled or failed".into());
        }
        if self.snapshot.refund_status == "REFUNDED" {
            return Err("the order is refunded already".into());
        }
        let paid_on_bsc = self.snapshot.wallet_network.as_deref() == Some("bsc");
        let payer = self.snapshot.wallet_address.clone().filter(|_| paid_on_bsc);
        let destination = self.snapshot.refund.destination_wallet_address_bsc.clone().or(payer);
        let Some(destination) = destination.filter(|address| is_evm_address(address)) else {
            return Err("refunded needs a valid BSC refund destination".into());
        };
        let previous = [("refundStatus", self.snapshot.refund_status.into())];
        let total = self.snapshot.total_amount_usd;
        let fee = self.snapshot.commerce_fee_usd;
        self.snapshot.refund_status = "REFUNDED";
        self.snapshot.refund = Refund {
            status: "REFUNDED",
            amount_usd: Some(Cents(total.0.saturating_sub(fee.0))),
            fee_usd: Some(fee),
            destination_wallet_address_bsc: Some(destination),
            tx_hash: Some(chance.tx_hash()),
        };
        self.snapshot.updated_at = now;
        Ok(vec![Change::updated(Subject::Order, previous)])
    }

    /// The one place where an order's state moves. `previous_attributes` names what drives the state, status and
    /// substatus, as the provider's samples do: not every member that a step touches.
    fn move_to(
        &mut self,
        status: Status,
        substatus: Option<&'static str>,
        now: Stamp,
        message: Option<&'static str>,
    ) -> Change {
        let order = &mut self.snapshot;
        let mut previous = Map::new();
        if order.status != status {
            previous.insert("status".into(), order.status.as_str().into());
        }
        if order.substatus != substatus {
            previous.insert("substatus".into(), order.substatus.into());
        }
        order.status = status;
        order.substatus = substatus;
        order.actions.can_cancel = status == Status::Placed && order.cancellation_status == "none";
        order.updated_at = now;
        order.timeline.extend(message.map(|message| TimelineEntry { status, timestamp: now, message }));
        Change { subject: Subject::Order, previous: Some(previous) }
    }

    fn record_payer(&mut self, details: &Details, chance: &mut dyn Chance) {
        let known = (self.invoice.payer_wallet_address.take(), self.invoice.payer_wallet_network.take());
        let address = details.wallet_address.clone().or(known.0).or_else(|| self.snapshot.wallet_address.clone());
        let network = details.wallet_network.clone().or(known.1).or_else(|| self.snapshot.wallet_network.clone());
        let address = address.unwrap_or_else(|| chance.wallet_address());
        let network = network.unwrap_or_else(|| "bsc".into());
        self.snapshot.wallet_address = Some(address.clone());
        self.snapshot.wallet_network = Some(network.clone());
        self.invoice.payer_wallet_address = Some(address);
        self.invoice.payer_wallet_network = Some(network);
    }

    fn need(&self, status: Status, otherwise: &str) -> Result<(), Refusal> {
        if self.snapshot.status == status { Ok(()) } else { Err(otherwise.into()) }
    }

    fn need_open_invoice(&self) -> Result<(), Refusal> {
        match self.invoice.status {
            "unpaid" | "underpaid" => Ok(()),
            status => Err(format!("the invoice is {status}")),
        }
    }
}

//! The provider as data: orders, checkout and the event log, with no clock, socket or task of its own.
//!
//! Every change goes through [`Model`], which takes the time (`now_ms`, Unix milliseconds) and the source of
//! chance, and leaves the events it issued in the log and in [`Model::take_issued`], for the channels to send.

mod catalogue;
mod checkout;
mod choice;
mod endpoints;
mod filter;
mod limit;
mod log;
mod new_order;
mod order;
mod render;
#[cfg(test)]
mod story;
mod transitions;
mod values;

pub use catalogue::{Product, find_product, on_sale, products};
pub use checkout::{Estimate, EstimateItem, InvalidItem, Placed};
pub use choice::Choice;
pub use endpoints::Endpoint;
pub use filter::{Filter, Scope, Types};
pub use log::{Event, Log, Page, Query};
pub use new_order::{Customer, Line, NewOrder};
pub use order::{
    Actions, Fulfillment, Invoice, LineItem, Order, Payment, PaymentSummary, Refund, Row, Settlement,
    SettlementSummary, Shipment, Snapshot, Status, TimelineEntry,
};
pub use transitions::{Change, Details, Refusal, Subject, Transition};
pub use values::{Cents, Chance, Seeded, Stamp, TimeForm, is_evm_address};

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Most orders kept: at 2 kB each about 20 MB. Beyond it the oldest finished one is forgotten, else the oldest.
const ORDERS_MAX: usize = 10_000;

/// What a model is like; fixed for its life.
#[derive(Clone, Debug)]
pub struct ModelSettings {
    /// Whose orders these are.
    pub merchant_id: u64,
    /// Real goods and money: `livemode`, and no simulation.
    pub mainnet: bool,
    /// How timestamps inside objects are written.
    pub times: TimeForm,
    /// How long an invoice may stay unpaid, in seconds; the provider's is about 30 minutes.
    pub invoice_lifetime_s: i64,
    /// Age at which the event log forgets, in milliseconds.
    pub keep_ms: i64,
    /// Number of events that the log keeps.
    pub keep_events: usize,
    /// Requests that a key may make a minute; any number without.
    pub requests_per_minute: Option<u32>,
}

impl ModelSettings {
    /// `devnet` or `mainnet`, as the provider spells it.
    pub const fn environment(&self) -> &'static str {
        if self.mainnet { "mainnet" } else { "devnet" }
    }
}

/// Why a request is not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No such thing; 404. The text names what.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// Not valid, or not allowed in this state; 400.
    #[error("{0}")]
    Invalid(String),
    /// Not with this key or in this environment; 403.
    #[error("{0}")]
    Forbidden(&'static str),
    /// Commerce is turned off; 503.
    #[error("Commerce is temporarily unavailable")]
    Unavailable,
    /// The idempotency key was used for another request; 409.
    #[error("Key already used with a different request")]
    Conflict,
}

/// The provider's state.
#[derive(Debug)]
pub struct Model {
    settings: ModelSettings,
    orders: BTreeMap<u64, Order>,
    by_id: HashMap<String, u64>,
    orders_made: u64,
    log: Log,
    issued: Vec<Arc<Event>>,
    checkout: checkout::Checkout,
    endpoints: Vec<Endpoint>,
    log_delay_ms: i64,
    limit: limit::Limit,
    unavailable: bool,
}

impl Model {
    /// A provider without orders.
    pub fn new(settings: ModelSettings) -> Self {
        let log = Log::new(settings.keep_ms, settings.keep_events);
        let limit = limit::Limit::new(settings.requests_per_minute);
        Self {
            settings,
            orders: BTreeMap::new(),
            by_id: HashMap::new(),
            orders_made: 0,
            log,
            issued: Vec::new(),
            checkout: checkout::Checkout::default(),
            endpoints: Vec::new(),
            log_delay_ms: 0,
            limit,
            unavailable: false,
        }
    }

    /// What it was made with.
    pub const fn settings(&self) -> &ModelSettings {
        &self.settings
    }

    /// The event log.
    pub const fn log(&self) -> &Log {
        &self.log
    }

    /// From now on the Events API shows an event only `delay_ms` after it was issued.
    pub const fn set_log_delay(&mut self, delay_ms: i64) {
        self.log_delay_ms = delay_ms;
    }

    /// From now on the log keeps `count` events at most.
    pub fn keep_events(&mut self, count: usize, now_ms: i64) {
        self.log.keep_events(count, now_ms);
    }

    /// Takes a request of the key's, or returns in how many seconds it may come again.
    ///
    /// # Errors
    /// With that number, when the key has made its requests of this minute.
    pub fn admit(&mut self, now_ms: i64) -> Result<(), u32> {
        self.limit.take(now_ms)
    }

    /// Turns commerce off, as an empty escrow does, or on again.
    pub const fn set_available(&mut self, available: bool) {
        self.unavailable = !available;
    }

    /// That commerce is on.
    ///
    /// # Errors
    /// [`Refused::Unavailable`] when it is off.
    pub const fn need_available(&self) -> Result<(), Refused> {
        if self.unavailable { Err(Refused::Unavailable) } else { Ok(()) }
    }

    /// Forgets the events that are past retention.
    pub fn expire_log(&mut self, now_ms: i64) {
        self.log.expire(now_ms);
    }

    /// The events issued since the last call, oldest first.
    pub fn take_issued(&mut self) -> Vec<Arc<Event>> {
        std::mem::take(&mut self.issued)
    }

    /// One order.
    pub fn order(&self, order_id: &str) -> Option<&Order> {
        self.orders.get(self.by_id.get(order_id)?)
    }

    /// The order of an invoice.
    pub fn order_of_invoice(&self, invoice_id: &str) -> Option<&Order> {
        self.orders.values().find(|order| order.invoice.id == invoice_id)
    }

    /// Every order, newest first.
    pub fn orders(&self) -> impl Iterator<Item = &Order> {
        self.orders.values().rev()
    }

    /// Makes an order with its unpaid invoice: `invoice.created`, then `commerce.order.created`.
    ///
    /// # Errors
    /// When there is nothing in it.
    pub fn create_order(&mut self, new: NewOrder, now_ms: i64, chance: &mut dyn Chance) -> Result<String, Refused> {
        if new.items.is_empty() {
            return Err(Refused::Invalid("an order needs at least one item".into()));
        }
        let order = self.build_order(new, now_ms, chance);
        let order_id = order.snapshot.order_id.clone();
        if self.orders.len() >= ORDERS_MAX {
            self.forget_an_order();
        }
        self.issue(&order, &[Change::created(Subject::Invoice), Change::created(Subject::Order)], now_ms);
        self.by_id.insert(order_id.clone(), self.orders_made);
        self.orders.insert(self.orders_made, order);
        self.orders_made += 1;
        Ok(order_id)
    }

    /// Takes one step of an order's life.
    ///
    /// # Errors
    /// When the order is unknown, this is mainnet, or the step is not allowed: then nothing changes.
    pub fn simulate(
        &mut self,
        order_id: &str,
        transition: Transition,
        details: &Details,
        now_ms: i64,
        chance: &mut dyn Chance,
    ) -> Result<(), Refused> {
        if self.settings.mainnet {
            return Err(Refused::Forbidden("Simulation is only available on devnet"));
        }
        self.step(order_id, now_ms, |order, now| order.simulate(transition, details, now, chance))
    }

    /// The payer's transaction was seen: `invoice_payment.created`.
    ///
    /// # Errors
    /// As [`Order::see_payment`], or when the order is unknown.
    pub fn see_payment(&mut self, order_id: &str, now_ms: i64, chance: &mut dyn Chance) -> Result<(), Refused> {
        self.step(order_id, now_ms, |order, _| order.see_payment(chance))
    }

    /// A part of the amount came: `invoice.updated`, `underpaid`.
    ///
    /// # Errors
    /// As [`Order::underpay`], or when the order is unknown.
    pub fn underpay(
        &mut self,
        order_id: &str,
        millis: u64,
        details: &Details,
        now_ms: i64,
        chance: &mut dyn Chance,
    ) -> Result<(), Refused> {
        self.step(order_id, now_ms, |order, now| order.underpay(millis, details, now, chance))
    }

    /// The order's invoice expires now: `invoice.updated`, `expired`.
    ///
    /// # Errors
    /// As [`Order::expire`], or when the order is unknown.
    pub fn expire_invoice(&mut self, order_id: &str, now_ms: i64) -> Result<(), Refused> {
        self.step(order_id, now_ms, |order, _| order.expire())
    }

    /// Expires every unpaid invoice whose time is over.
    pub fn expire_due(&mut self, now_ms: i64) {
        let due = |order: &Order| {
            matches!(order.invoice.status, "unpaid" | "underpaid")
                && order.invoice.expires_at.seconds <= now_ms.div_euclid(1000)
        };
        let ids: Vec<_> =
            self.orders.values().filter(|order| due(order)).map(|order| order.snapshot.order_id.clone()).collect();
        for order_id in ids {
            // An invoice that is unpaid can expire: the refusal cannot happen, and would change nothing.
            let _ = self.expire_invoice(&order_id, now_ms);
        }
    }

    /// The merchant asks to cancel: `commerce.order.updated` with `CANCELLATION_REQUESTED`.
    ///
    /// # Errors
    /// As [`Order::request_cancellation`], or when the order is unknown.
    pub fn request_cancellation(
        &mut self,
        order_id: &str,
        destination: Option<&str>,
        now_ms: i64,
    ) -> Result<(), Refused> {
        self.step(order_id, now_ms, |order, now| order.request_cancellation(destination, now))
    }

    /// Issues an event as it is. `id`, `object` and `created` are filled in where they are missing; its type
    /// may be one that no filter knows, and it then reaches everybody.
    ///
    /// # Errors
    /// When it is not a JSON object.
    pub fn publish_custom(&mut self, event: serde_json::Value, now_ms: i64) -> Result<Arc<Event>, Refused> {
        let serde_json::Value::Object(mut envelope) = event else {
            return Err(Refused::Invalid("an event is a JSON object".into()));
        };
        let id = match envelope.get("id").and_then(|id| id.as_str()) {
            Some(id) => id.to_owned(),
            None => self.log.next_id(now_ms).to_string(),
        };
        envelope.entry("id").or_insert_with(|| id.clone().into());
        envelope.entry("object").or_insert_with(|| "event".into());
        let created = envelope.entry("created").or_insert_with(|| now_ms.div_euclid(1000).into()).as_i64();
        let kind = envelope.get("type").and_then(|kind| kind.as_str()).unwrap_or_default().to_owned();
        let event = Arc::new(Event {
            position: id.parse().ok(),
            id,
            unfiltered: Types::parse(&kind).is_err(),
            kind,
            created: created.unwrap_or_default(),
            scope: Scope::default(),
            bytes: serde_json::Value::Object(envelope).to_string().into(),
        });
        self.publish(&event, now_ms);
        Ok(event)
    }

    fn step(
        &mut self,
        order_id: &str,
        now_ms: i64,
        take: impl FnOnce(&mut Order, Stamp) -> Result<Vec<Change>, String>,
    ) -> Result<(), Refused> {
        let number = *self.by_id.get(order_id).ok_or(Refused::NotFound("Order"))?;
        let mut order = self.orders.get(&number).cloned().ok_or(Refused::NotFound("Order"))?;
        let changes = take(&mut order, Stamp::at(now_ms, self.settings.times)).map_err(Refused::Invalid)?;
        self.issue(&order, &changes, now_ms);
        self.orders.insert(number, order);
        Ok(())
    }

    fn issue(&mut self, order: &Order, changes: &[Change], now_ms: i64) {
        for change in changes {
            let id = self.log.next_id(now_ms);
            if let Some(event) = self.render(order, change, id) {
                self.publish(&Arc::new(event), now_ms);
            }
        }
    }

    fn publish(&mut self, event: &Arc<Event>, now_ms: i64) {
        self.log.append(Arc::clone(event), now_ms, now_ms.saturating_add(self.log_delay_ms));
        self.issued.push(Arc::clone(event));
    }

    fn forget_an_order(&mut self) {
        let finished =
            self.orders.iter().find(|(_, order)| order.snapshot.status.is_final()).map(|(number, _)| *number);
        let oldest = self.orders.keys().next().copied();
        if let Some(order) = finished.or(oldest).and_then(|number| self.orders.remove(&number)) {
            self.by_id.remove(&order.snapshot.order_id);
        }
    }
}

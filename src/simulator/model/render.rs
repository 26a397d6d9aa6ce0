//! Events as JSON: the envelope `event_v1` (`api-reference/events/retrieve-a-single-event-by-id`) around an object.

use super::{Change, Event, Invoice, Model, Order, Payment, Scope, Snapshot, Subject};
use crate::provider::EventId;
use bytes::Bytes;
use serde::Serialize;

impl Model {
    /// The event's envelope as JSON; `None` never happens, since these objects always serialize.
    pub(super) fn render(&self, order: &Order, change: &Change, id: EventId) -> Option<Event> {
        let (subject, object) = match change.subject {
            Subject::Order => ("commerce.order", Object::Order(Tagged::new(&order.snapshot))),
            Subject::Invoice => ("invoice", Object::Invoice(&order.invoice)),
            Subject::Payment => ("invoice_payment", Object::Payment(order.payment.as_ref()?)),
        };
        let kind = format!("{subject}.{}", if change.previous.is_some() { "updated" } else { "created" });
        let created = i64::try_from(id.ms / 1000).ok()?;
        let envelope = Envelope {
            id: id.to_string(),
            object: "event",
            api_version: "2025-12-16",
            created,
            r#type: &kind,
            livemode: self.settings.mainnet,
            pending_webhooks: self.endpoints.iter().filter(|endpoint| endpoint.wants(&kind)).count(),
            request: Request::default(),
            data: Data { object, previous_attributes: change.previous.as_ref() },
        };
        let bytes = Bytes::from(serde_json::to_vec(&envelope).ok()?);
        let snapshot = &order.snapshot;
        let scope = Scope {
            order_id: Some(snapshot.order_id.clone()),
            invoice_id: Some(snapshot.invoice_id.clone()),
            customer_id: snapshot.customer_id.clone(),
            wallet_address: snapshot.wallet_address.clone(),
            wallet_network: snapshot.wallet_network.clone(),
        };
        Some(Event { id: envelope.id, position: Some(id), kind, created, scope, unfiltered: false, bytes })
    }
}

#[derive(Serialize)]
struct Envelope<'a> {
    id: String,
    object: &'static str,
    api_version: &'static str,
    created: i64,
    r#type: &'a str,
    livemode: bool,
    pending_webhooks: usize,
    request: Request,
    data: Data<'a>,
}

#[derive(Default, Serialize)]
struct Request {
    id: Option<String>,
    idempotency_key: Option<String>,
}

#[derive(Serialize)]
struct Data<'a> {
    object: Object<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_attributes: Option<&'a serde_json::Map<String, serde_json::Value>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Object<'a> {
    Order(Tagged<'a>),
    Invoice(&'a Invoice),
    Payment(&'a Payment),
}

/// The snapshot with the two members that every `data.object` has.
#[derive(Serialize)]
struct Tagged<'a> {
    object: &'static str,
    id: &'a str,
    #[serde(flatten)]
    snapshot: &'a Snapshot,
}

impl<'a> Tagged<'a> {
    fn new(snapshot: &'a Snapshot) -> Self {
        Self { object: "commerce_order", id: &snapshot.order_id, snapshot }
    }
}

//! From the provider's events to the relay's values: a pure function of event and settings.
//!
//! Whichever leg brought an event, in whichever of the provider's spellings of white space, order of members and
//! escapes: the value has the same bytes. What depends on the relay is in a record's headers, not here.
//!
//! An event comes as a flat [`tape`](crate::provider::tape), and one pass over its `data.object`, [`reshape`], writes the value
//! straight into the caller's buffer, led by the tables of [`order`] and [`invoice`]. [`schema`] is made of the same tables.

mod invoice;
mod money;
mod open;
mod order;
mod reshape;
mod schema;
mod schema_ids;
mod table;
mod time;
mod write;

pub use money::decimal_text;
pub use open::open_schemas;
pub use schema::schemas;
pub use schema_ids::{SCHEMA_ID_HEADER, SchemaId, SchemaIds};

use crate::clock;
use crate::provider::Environment;
use crate::provider::event::{Event, Reason};
use crate::text::clip;
use reshape::Reshape;
use std::borrow::Cow;
use table::Table;

/// Longest piece of foreign text in a [`Rejection::detail`], in characters.
const DETAIL_CHARS_MAX: usize = 120;

/// The settings that a value depends on.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The environment that the relay serves; events that name another are rejected.
    pub environment: Environment,
    /// Members of `order`, `invoice` and `payment` that are left out, in our spelling.
    pub drop: Vec<String>,
    /// Whether `data.object` is added as `raw`.
    pub include_raw: bool,
}

/// The topic that an event belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An order event.
    Order,
    /// An event of an invoice or of a payment for one.
    Invoice,
}

impl Kind {
    /// The name of the value's schema, for the header `ce_dataschema`.
    pub const fn schema_urn(self) -> &'static str {
        match self {
            Self::Order => "urn:pepay-relay:order-event:1",
            Self::Invoice => "urn:pepay-relay:invoice-event:1",
        }
    }
}

/// What a record needs to know of the event alongside its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Normalized<'a> {
    /// The topic it belongs to.
    pub kind: Kind,
    /// The record's key: order id or invoice id; never empty.
    pub key: Cow<'a, str>,
    /// Unix milliseconds.
    pub occurred_at_ms: i64,
}

/// Why an event has no value. It becomes a dead letter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Rejection {
    /// What kind of defect.
    pub reason: Reason,
    /// The defect in words, short and without the event's content.
    pub detail: String,
}

/// Where an event goes by its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    /// `commerce.order.*`
    Order,
    /// `invoice.*` and `invoice_payment.*`
    Invoice,
    /// `test.ping`: answered, counted, not published.
    Ping,
    /// Any other type.
    Unknown,
}

/// The names that [`Settings::drop`] may hold: the members of `order`, `invoice` and `payment`, and `extra`.
pub fn member_names() -> impl Iterator<Item = &'static str> {
    let members = [order::ORDER, invoice::INVOICE, invoice::PAYMENT].into_iter().flat_map(|table| table.members);
    members.filter(|member| !member.hidden).map(|member| member.name).chain(["extra"])
}

/// Returns where events of a type go.
pub fn route(event_type: &str) -> Route {
    match Subject::of(event_type) {
        Some(Subject::Order) => Route::Order,
        Some(Subject::Invoice | Subject::Payment) => Route::Invoice,
        None if event_type == "test.ping" => Route::Ping,
        None => Route::Unknown,
    }
}

/// Appends the value of `event` to `value`; appends nothing when it is rejected.
pub fn normalize<'a>(event: &Event<'a>, settings: &Settings, value: &mut Vec<u8>) -> Result<Normalized<'a>, Rejection> {
    let subject = Subject::of(&event.event_type).ok_or_else(|| {
        let detail = format!("`{}` has no topic", clip(&event.event_type, DETAIL_CHARS_MAX));
        Rejection { reason: Reason::UnknownType, detail }
    })?;
    let occurred_at_ms = event.occurred_at_ms().ok_or_else(|| missing("created"))?;
    let tape = &event.tape;
    let mut reshape = Reshape::new(tape, event.object, subject.table(), &settings.drop);
    if let Some(named) = reshape.text("environment").filter(|named| !names(named, settings.environment)) {
        let named = clip(&named, DETAIL_CHARS_MAX);
        let ours = settings.environment.as_str();
        let detail = format!("the event is of `{named}`, the relay serves `{ours}`");
        return Err(Rejection { reason: Reason::WrongEnvironment, detail });
    }
    let key = reshape.text(subject.key()).filter(|key| !key.is_empty());
    let key = key.ok_or_else(|| missing(subject.key_in_words()))?;

    value.push(b'{');
    envelope(event, settings, occurred_at_ms, value);
    for (name, inner) in subject.copies() {
        // Leaving out a member takes its copy along; the id of what the event is about is no secret, it is the key.
        if inner == "id" || !settings.drop.iter().any(|dropped| dropped == inner) {
            write::own_name(name, value);
            reshape.copy(inner, value);
        }
    }
    changes(event, subject.table(), settings, value);
    write::own_name(subject.name(), value);
    reshape.object_at_top(value);
    if settings.include_raw {
        write::own_name("raw", value);
        write::value(tape, event.object, value);
    }
    value.push(b'}');
    Ok(Normalized { kind: subject.kind(), key, occurred_at_ms })
}

/// What an event is about.
#[derive(Clone, Copy)]
enum Subject {
    Order,
    Invoice,
    Payment,
}

impl Subject {
    fn of(event_type: &str) -> Option<Self> {
        let starts = |prefix| event_type.starts_with(prefix);
        if starts("commerce.order.") {
            Some(Self::Order)
        } else if starts("invoice.") {
            Some(Self::Invoice)
        } else if starts("invoice_payment.") {
            Some(Self::Payment)
        } else {
            None
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::Order => Kind::Order,
            Self::Invoice | Self::Payment => Kind::Invoice,
        }
    }

    fn table(self) -> &'static Table {
        match self {
            Self::Order => order::ORDER,
            Self::Invoice => invoice::INVOICE,
            Self::Payment => invoice::PAYMENT,
        }
    }

    /// The member of the value that holds the object.
    fn name(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Invoice => "invoice",
            Self::Payment => "payment",
        }
    }

    /// The member of the object that is the record's key.
    fn key(self) -> &'static str {
        match self {
            Self::Order | Self::Invoice => "id",
            Self::Payment => "invoice_id",
        }
    }

    fn key_in_words(self) -> &'static str {
        match self {
            Self::Order => "data.object.orderId` or `data.object.id",
            Self::Invoice => "data.object.id",
            Self::Payment => "data.object.invoice_id",
        }
    }

    /// Members of the envelope that repeat one of the object.
    fn copies(self) -> [(&'static str, &'static str); 4] {
        let (order_id, invoice_id) = match self {
            Self::Order => ("id", "invoice_id"),
            Self::Invoice => ("order_id", "id"),
            Self::Payment => ("order_id", "invoice_id"),
        };
        [("order_id", order_id), ("invoice_id", invoice_id), ("customer_id", "customer_id"), ("status", "status")]
    }
}

fn envelope(event: &Event<'_>, settings: &Settings, occurred_at_ms: i64, value: &mut Vec<u8>) {
    write::own_name("event_id", value);
    write::string(&event.id, value);
    write::own_name("event_type", value);
    write::string(&event.event_type, value);
    write::own_name("occurred_at", value);
    value.push(b'"');
    clock::write_rfc3339(occurred_at_ms, value);
    value.push(b'"');
    write::own_name("environment", value);
    write::string(settings.environment.as_str(), value);
    write::own_name("livemode", value);
    value.extend_from_slice(match event.livemode {
        Some(true) => b"true",
        Some(false) => b"false",
        None => b"null",
    });
}

/// Appends `previous_status`, and `changed`: the members of ours that the changed ones fall into.
fn changes(event: &Event<'_>, table: &'static Table, settings: &Settings, value: &mut Vec<u8>) {
    let tape = &event.tape;
    let previous = event.previous_attributes.filter(|at| tape.kind(*at) == b'{');
    if !settings.drop.iter().any(|dropped| dropped == "status") {
        write::own_name("previous_status", value);
        match previous {
            Some(previous) => Reshape::new(tape, previous, table, &[]).copy("status", value),
            None => value.extend_from_slice(b"null"),
        }
    }
    let mut changed: Vec<Cow<'_, str>> = Vec::new();
    if let Some(previous) = previous {
        let names = tape.members(previous).map(|at| tape.name(at));
        changed.extend(names.map(|name| table::member_of(table, &name).map_or(name, |member| member.name.into())));
        changed.sort_unstable();
        changed.dedup();
    }
    write::own_name("changed", value);
    write::list(&changed, value, |name, value| write::string(name, value));
}

fn names(text: &str, environment: Environment) -> bool {
    text.eq_ignore_ascii_case(environment.as_str())
}

fn missing(name: &str) -> Rejection {
    Rejection { reason: Reason::MissingField, detail: format!("`{name}` is missing or of the wrong type") }
}

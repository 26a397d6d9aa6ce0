//! JSON Schemas (2020-12) of every topic's values, made of the tables that the values are written by.

use super::table::{Member, Shape, Table};
use super::{Kind, invoice, order};
use crate::labels::GapCause;
use serde_json::{Map, Value, json};

/// One object: the key of a topic in `[kafka.topics]` → the self-contained JSON Schema of its values.
///
/// They hold for values without `normalize.drop`, which leaves members out.
pub fn schemas() -> Value {
    json!({
        "orders": order_event("Order event", "Every `commerce.order.*` event, normalized."),
        "orders_latest": order_event("Newest order event", "The newest event of each order; a tombstone forgets it."),
        "invoices": invoice_event(),
        "dead_letter": dead_letter(),
        "control": control(),
    })
}

fn order_event(title: &str, about: &str) -> Value {
    let key = ("order_id", id("Order that the event is about; the record's key."));
    let other = ("invoice_id", optional_text("Invoice that pays for the order."));
    let (properties, required) = envelope("commerce.order.", [key, other], ("order", object(order::ORDER)));
    top(title, about, Some(Kind::Order.schema_urn()), properties, required)
}

fn invoice_event() -> Value {
    let event = |prefix: &str, member: &str, table: &Table| {
        let order = ("order_id", optional_text("Order that the invoice is for."));
        let key = ("invoice_id", id("Invoice that the event is about; the record's key."));
        let (properties, required) = envelope(prefix, [order, key], (member, object(table)));
        closed(properties, required)
    };
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": Kind::Invoice.schema_urn(),
        "title": "Invoice event",
        "description": "Every `invoice.*` and `invoice_payment.*` event, normalized.",
    });
    schema["oneOf"] =
        json!([event("invoice.", "invoice", invoice::INVOICE), event("invoice_payment.", "payment", invoice::PAYMENT)]);
    schema
}

fn dead_letter() -> Value {
    let digest = closed(
        members(json!({
            "event_id": {"type": ["string", "null"], "description": "Id of the event."},
            "bytes": {"type": "integer", "minimum": 0, "description": "Size of the event as it came."},
            "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "Digest of the event as it came."},
        })),
        vec!["event_id", "bytes", "sha256"],
    );
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Dead letter",
        "description": "The delivery's bytes as they came, which need not be JSON; the header `relay_reason` says why. Only with the reason `too_large` they are a digest.",
        "anyOf": [digest, {"description": "The delivery as it came."}],
    })
}

fn control() -> Value {
    let cause: Vec<&str> = GapCause::all().map(GapCause::as_str).collect();
    let gap = closed(
        members(json!({
            "id": {"type": ["integer", "string"], "description": "Number of the gap."},
            "account": {"type": ["string", "null"], "description": "Whose events may be missing; `null` where accounts have no names."},
            "cause": {"enum": cause, "description": "Why events may have been missed."},
            "from": {"type": ["string", "null"], "description": "Where the gap begins: everything before was seen."},
            "opened_at": time("When it opened.", false),
            "closed_at": time("When the event log had filled it; `null` while it is open.", true),
            "closed_by": {"type": ["string", "null"], "description": "`backfill`; `unproven` where the provider's log no longer reached back over all of it."},
            "recovered": {"type": "integer", "minimum": 0, "description": "Events that only the event log brought."},
        })),
        vec!["id", "account", "cause", "from", "opened_at", "closed_at", "closed_by", "recovered"],
    );
    let previous = closed(
        members(json!({
            "run": {"type": "string", "description": "The run before it."},
            "commit": {"type": "integer", "minimum": 0, "description": "Its last transaction."},
        })),
        vec!["run", "commit"],
    );
    let checkpoint = closed(
        members(json!({
            "run": {"type": "string", "description": "Names one run of the relay; drawn anew at every start."},
            "commit": {"type": "integer", "minimum": 0, "description": "Number of the transaction within the run."},
            "at": time("When it was written; in a claim when what it follows was.", false),
            "environment": {"enum": ["devnet", "mainnet"], "description": "Environment that the relay serves."},
            "shards": {"type": "integer", "minimum": 1, "description": "Partitions of the control topic."},
            "node": {"type": ["string", "null"], "description": "The process that wrote it, in a cluster."},
            "journal": {"type": "integer", "minimum": 0, "description": "Entries of the transaction's journal records."},
            "inbox": {"type": ["integer", "null"], "description": "Offset in the inbox up to which all is published."},
            "previous": {"anyOf": [{"type": "null"}, previous], "description": "In a claim the checkpoint that it follows."},
            "left": {"type": "boolean", "description": "The relay settled everything and left."},
        })),
        vec!["run", "commit", "at", "environment", "shards", "node", "journal", "inbox", "previous", "left"],
    );
    let marks = closed(
        members(json!({
            "cursor": {"type": ["string", "null"], "description": "Event id up to which all is settled."},
            "verified": {"type": ["string", "null"], "description": "Up to here a walk through the event log found nothing missing."},
            "gaps": {"type": "array", "items": gap, "description": "Gaps that are open, and the one that closed last."},
        })),
        vec!["cursor", "verified", "gaps"],
    );
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Relay state",
        "description": "Checkpoints, keyed `NAME/checkpoint`; marks, keyed `NAME/marks/ACCOUNT`; closed gaps, keyed `NAME/gap/N`. The journal, keyed `NAME/journal`, is binary.",
        "oneOf": [checkpoint, marks, gap],
    })
}

/// The members that order and invoice events share, around `ids` and the object.
fn envelope<'n>(
    type_prefix: &str,
    ids: [(&'n str, Value); 2],
    object: (&'n str, Value),
) -> (Map<String, Value>, Vec<&'n str>) {
    let shared = [
        ("event_id", id("The provider's id of the event; each is published once.")),
        (
            "event_type",
            json!({
                "type": "string", "pattern": format!("^{}", type_prefix.replace('.', "\\.")),
                "description": "The provider's type of the event.",
            }),
        ),
        ("occurred_at", time("When it happened, by the provider's clock.", false)),
        ("environment", json!({"enum": ["devnet", "mainnet"], "description": "Environment of the event."})),
        ("livemode", json!({"type": ["boolean", "null"], "description": "Whether real money moves."})),
    ];
    let [first, second] = ids;
    let rest = [
        first,
        second,
        ("customer_id", optional_text("The merchant's own id of the customer.")),
        ("status", optional_text("Status of the object; an open set.")),
        ("previous_status", optional_text("Status before, where it changed.")),
        (
            "changed",
            json!({
                "type": "array", "items": {"type": "string"}, "uniqueItems": true,
                "description": "Members of the object that changed, sorted; unknown ones as the provider spells them.",
            }),
        ),
        object,
    ];
    let all: Vec<_> = shared.into_iter().chain(rest).collect();
    let required = all.iter().map(|(name, _)| *name).collect();
    let mut properties: Map<_, _> = all.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect();
    let raw = json!({"type": "object", "description": "`data.object` as it came; only with `normalize.include_raw`."});
    properties.insert("raw".into(), raw);
    (properties, required)
}

/// The object that a table describes, with its `extra`.
fn object(table: &Table) -> Value {
    let (mut properties, mut required) = properties(table);
    properties.insert("extra".into(), json!({
        "type": "object",
        "description": "Members that the relay does not know, and known ones of the wrong type, as they came; nested ones under their path (`payment.newField`).",
    }));
    required.push("extra");
    closed(properties, required)
}

fn properties(table: &Table) -> (Map<String, Value>, Vec<&'static str>) {
    let written = || table.members.iter().filter(|member| !member.hidden);
    let properties = written().map(|member| (member.name.to_owned(), described(member))).collect();
    (properties, written().map(|member| member.name).collect())
}

fn described(member: &Member) -> Value {
    let mut schema = member.sources.first().map_or(Value::Null, |source| of_shape(source.shape));
    schema["description"] = member.about.into();
    schema
}

fn of_shape(shape: Shape) -> Value {
    match shape {
        Shape::Text | Shape::Id | Shape::Lower | Shape::InvoiceStatus | Shape::Exactly(_) => {
            json!({"type": ["string", "null"]})
        }
        Shape::Beside | Shape::Currency | Shape::Unit => json!({"type": ["string", "null"]}),
        Shape::Integer => json!({"type": ["integer", "null"]}),
        Shape::Flag => json!({"type": ["boolean", "null"]}),
        Shape::Time => time("", true),
        Shape::Dollars | Shape::Decimal | Shape::Millis => money(),
        Shape::Free | Shape::Snake => json!({"type": ["object", "null"]}),
        Shape::Object(table) => {
            let (properties, required) = properties(table);
            nullable(closed(properties, required))
        }
        // One that did not come, or of the wrong type, is empty.
        Shape::List(table) => json!({"type": "array", "items": of_shape(Shape::Object(table))}),
        Shape::Inside(table) => {
            let source = table.members.first().and_then(|member| member.sources.first());
            source.map_or(Value::Null, |source| of_shape(source.shape))
        }
    }
}

fn money() -> Value {
    nullable(closed(
        members(json!({
            "amount": {
                "type": "string", "pattern": "^-?(0|[1-9][0-9]*)\\.[0-9]{2}([0-9]*[1-9])?$",
                "description": "Decimal with two places at least; never a float.",
            },
            "currency": {"type": "string", "pattern": "^[A-Z0-9]{1,16}$", "description": "In upper case, as `USD`."},
        })),
        vec!["amount", "currency"],
    ))
}

fn time(about: &str, null: bool) -> Value {
    json!({
        "type": if null { json!(["string", "null"]) } else { json!("string") },
        "format": "date-time",
        "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z$",
        "description": about,
    })
}

fn id(about: &str) -> Value {
    json!({"type": "string", "minLength": 1, "description": about})
}

fn optional_text(about: &str) -> Value {
    json!({"type": ["string", "null"], "description": about})
}

fn closed(properties: Map<String, Value>, required: Vec<&str>) -> Value {
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn nullable(mut schema: Value) -> Value {
    schema["type"] = json!(["object", "null"]);
    schema
}

fn members(object: Value) -> Map<String, Value> {
    match object {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

fn top(title: &str, about: &str, id: Option<&str>, properties: Map<String, Value>, required: Vec<&str>) -> Value {
    let mut schema = closed(properties, required);
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = title.into();
    schema["description"] = about.into();
    if let Some(id) = id {
        schema["$id"] = id.into();
    }
    schema
}

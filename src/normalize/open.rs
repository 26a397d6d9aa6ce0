//! The schemas as consumers hold on to them: further members are allowed, and only what no version and no setting leaves out
//! is required. What a closed schema takes, an open one takes as well, also of later versions and of values with
//! `normalize.drop`.

use super::schema::schemas;
use serde_json::{Map, Value, json};

/// Members that every value of an order or invoice event has, each kind those that are its own. `invoice_id` is not among
/// them: of a payment it may be left out, and is the record's key.
const ENVELOPE: [&str; 7] = ["event_id", "event_type", "occurred_at", "environment", "livemode", "changed", "order"];

/// The same for dead letters, whose digest has these alone.
const DIGEST: [&str; 3] = ["event_id", "bytes", "sha256"];

/// Both members of an amount of money.
const MONEY: [&str; 2] = ["amount", "currency"];

/// One object: the key of a topic in `[kafka.topics]` → the self-contained JSON Schema that its values keep to as long as
/// their `ce_dataschema` is the same. The relay's own state keeps its members.
pub fn open_schemas() -> Value {
    let mut schemas = schemas();
    for (topic, schema) in schemas.as_object_mut().into_iter().flatten() {
        let required: Option<Vec<&str>> = match topic.as_str() {
            "orders" | "orders_latest" => Some(ENVELOPE.into_iter().chain(["order_id"]).collect()),
            "invoices" => Some(ENVELOPE.into_iter().chain(["invoice", "payment"]).collect()),
            "dead_letter" => Some(DIGEST.to_vec()),
            _ => None,
        };
        open(schema, required.as_deref());
    }
    schemas
}

/// Opens a schema and all within it. Of what it requires only `kept` is left; without `kept`, everything everywhere.
fn open(schema: &mut Value, kept: Option<&[&str]>) {
    let Value::Object(schema) = schema else { return };
    schema.remove("additionalProperties");
    if let (Some(kept), Some(Value::Array(names))) = (kept, schema.get_mut("required")) {
        names.retain(|name| name.as_str().is_some_and(|name| kept.contains(&name)));
        if names.is_empty() {
            schema.remove("required");
        }
    }
    open_set(schema);
    for alternatives in ["anyOf", "oneOf"] {
        let alternatives = schema.get_mut(alternatives).and_then(Value::as_array_mut);
        alternatives.into_iter().flatten().for_each(|alternative| open(alternative, kept));
    }
    let within = |inner: &mut Value| {
        let kept_within: &[&str] = if is_money(inner) { &MONEY } else { &[] };
        open(inner, kept.map(|_| kept_within));
    };
    schema
        .get_mut("properties")
        .and_then(Value::as_object_mut)
        .into_iter()
        .flatten()
        .for_each(|(_, inner)| within(inner));
    schema.get_mut("items").into_iter().for_each(within);
}

/// Words that may become more become examples.
fn open_set(schema: &mut Map<String, Value>) {
    if let Some(words) = schema.remove("enum") {
        schema.insert("type".into(), json!("string"));
        schema.insert("examples".into(), words);
    }
}

fn is_money(schema: &Value) -> bool {
    let properties = schema["properties"].as_object();
    properties
        .is_some_and(|members| members.len() == MONEY.len() && MONEY.iter().all(|name| members.contains_key(*name)))
}

//! Bytes of a delivery through the whole pure core: envelope, window, value, headers, dead letters.

#![no_main]

use bytes::Bytes;
use pepay_relay::clock::write_rfc3339;
use pepay_relay::labels::{Leg, Outcome};
use pepay_relay::normalize::{Route, route, schemas};
use pepay_relay::provider::event::{Reason, decode};
use pepay_relay_fuzz::{Desk, Written, written};
use serde_json::{Map, Value};
use std::sync::LazyLock;

/// Longest event id and key of a record, longest detail of a dead letter, in bytes.
const KEY_BYTES_MAX: usize = 256;
const DETAIL_BYTES_MAX: usize = 512;

/// Deepest nesting that the second reader takes, and so the deepest that is compared.
const DEPTH_MAX: usize = 100;

/// Members that must be gone when they are to be left out.
const DROPPED: [&str; 4] = ["shipping_address", "total", "extra", "status"];

static SCHEMAS: LazyLock<[(&str, jsonschema::Validator); 3]> = LazyLock::new(|| {
    let schemas = schemas();
    ["orders", "orders_latest", "invoices"]
        .map(|topic| (topic, jsonschema::validator_for(&schemas[topic]).expect("the relay's own schema")))
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let bytes = Bytes::copy_from_slice(bytes);
    let mut desk = Desk::new(Leg::Websocket, &[], false);
    let Ok(plan) = desk.plan(&bytes) else {
        let event = decode(&bytes).expect("only an event is ignored");
        assert_eq!(route(&event.event_type), Route::Ping);
        return;
    };
    let first = written(&plan);
    assert!(!first.is_empty(), "what is planned writes");
    first.iter().for_each(judge);

    // Nothing of a plan that is rolled back is left; what is committed is not written again.
    desk.roll_back(plan);
    let (fate, again) = desk.deliver(&bytes);
    assert_eq!(again, first, "planned anew after a roll back");
    let (second, nothing) = desk.deliver(&bytes);
    assert_eq!((second.outcome, nothing.len()), (Outcome::Duplicate, 0));

    let (_, by_the_log) = Desk::new(Leg::Backfill, &[], false).deliver(&bytes);
    assert_eq!(by_the_log, first, "the same records by whichever leg");

    if fate.outcome == Outcome::Published {
        assert!(first.iter().all(|record| record.topic != "dead_letter"));
        published(&bytes, &first);
    } else {
        assert_eq!(fate.outcome, Outcome::DeadLettered);
        assert_eq!((first.len(), first[0].topic), (1, "dead_letter"));
        assert_eq!(first[0].value, bytes, "kept as it came");
    }
});

/// What holds of each record.
fn judge(record: &Written) {
    assert!(!record.key.is_empty() && record.key.len() <= KEY_BYTES_MAX);
    assert!(std::str::from_utf8(&record.key).is_ok());
    for (name, value) in &record.headers {
        let value = std::str::from_utf8(value).expect("headers are text");
        assert!(*name != "relay_detail" || (value.len() <= DETAIL_BYTES_MAX && !value.chars().any(char::is_control)));
    }
    assert!(record.header("relay_received_at").is_some());
    if record.topic == "dead_letter" {
        assert!(record.header("relay_reason").is_some() && record.header("relay_detail").is_some());
        return;
    }
    let value: Value = serde_json::from_slice(&record.value).expect("a value is JSON");
    let (_, schema) = SCHEMAS.iter().find(|(topic, _)| *topic == record.topic).expect("a topic of events");
    let mistakes: Vec<_> = schema.iter_errors(&value).map(|error| error.to_string()).collect();
    assert!(mistakes.is_empty(), "{mistakes:#?}");
    let subject = if record.topic == "invoices" { "invoice_id" } else { "order_id" };
    for (header, member) in
        [("ce_id", "event_id"), ("ce_type", "event_type"), ("ce_time", "occurred_at"), ("ce_subject", subject)]
    {
        assert_eq!(record.header(header), value[member].as_str().map(str::as_bytes), "{header}");
    }
    assert_eq!(record.header("ce_subject"), Some(record.key.as_slice()));
}

/// What holds of the value of an event: it rests on nothing but the event, and has all of it.
fn published(bytes: &Bytes, first: &[Written]) {
    let event = decode(bytes).expect("it was published");
    let mut at = Vec::new();
    write_rfc3339(event.occurred_at_ms().expect("it was published"), &mut at);
    assert_eq!(first[0].header("ce_time"), Some(at.as_slice()));

    let (fate, less) = Desk::new(Leg::Websocket, &DROPPED, false).deliver(bytes);
    assert_eq!(fate.outcome, Outcome::Published, "what is left out refuses nothing");
    let value: Value = serde_json::from_slice(&less[0].value).expect("a value is JSON");
    for name in ["order", "invoice", "payment"] {
        assert!(DROPPED.iter().all(|dropped| value[name].get(dropped).is_none()), "{value}");
    }

    // The second reader, with its own order of members, white space and escapes.
    let Ok(mut parsed) = serde_json::from_slice::<Value>(bytes) else { return };
    if depth(&parsed) > DEPTH_MAX || holds_a_magic_name(&parsed) {
        return;
    }
    let respelled = Bytes::from(parsed.to_string());
    let (_, by_another_hand) = Desk::new(Leg::Websocket, &[], false).deliver(&respelled);
    assert_eq!(values(&by_another_hand), values(first), "{}", String::from_utf8_lossy(&respelled));

    let (_, with_raw) = Desk::new(Leg::Websocket, &[], true).deliver(&respelled);
    let value: Value = serde_json::from_slice(&with_raw[0].value).expect("a value is JSON");
    assert_eq!(value["raw"], parsed["data"]["object"]);

    let mut leaves = Vec::new();
    let object = parsed["data"]["object"].as_object_mut().expect("an event has an object");
    mark_members(object, &mut leaves, true);
    let marked = Bytes::from(parsed.to_string());
    let (fate, records) = Desk::new(Leg::Websocket, &[], false).deliver(&marked);
    assert_eq!(fate.outcome, Outcome::Published);
    // Some words are written in lower or upper case.
    let value = String::from_utf8(records[0].value.clone()).expect("a value is text").to_lowercase();
    for leaf in leaves {
        assert!(value.contains(&leaf), "{leaf} of {} is lost in {value}", String::from_utf8_lossy(&marked));
    }
    assert_ne!(decode(&marked).err().map(|error| error.reason), Some(Reason::MalformedJson));
}

fn values(records: &[Written]) -> Vec<(&'static str, String, String)> {
    // The second reader writes exponents with a small e and a sign; the relay leaves a number that it does not know as
    // it came.
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('E', "e").replace("e+", "e");
    records.iter().map(|record| (record.topic, text(&record.key), text(&record.value))).collect()
}

/// Gives every text in the object a mark of its own, except those that make it an event of ours.
fn mark_members(object: &mut Map<String, Value>, leaves: &mut Vec<String>, top: bool) {
    const OURS: [&str; 8] = [
        "id",
        "orderId",
        "order_id",
        "invoiceId",
        "invoice_id",
        "environment",
        "networkEnvironment",
        "network_environment",
    ];
    for (name, value) in object {
        if !(top && OURS.contains(&name.as_str())) {
            mark(value, leaves);
        }
    }
}

fn mark(value: &mut Value, leaves: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            *text = format!("leaf{:04}", leaves.len());
            leaves.push(text.clone());
        }
        Value::Array(items) => items.iter_mut().for_each(|item| mark(item, leaves)),
        Value::Object(members) => mark_members(members, leaves, false),
        _ => {}
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// `serde_json` reads an object with one of these names as a number or as raw text when it reads a [`Value`].
fn holds_a_magic_name(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(holds_a_magic_name),
        Value::Object(members) => {
            members.iter().any(|(name, value)| name.starts_with("$serde_json") || holds_a_magic_name(value))
        }
        _ => false,
    }
}

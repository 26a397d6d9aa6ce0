//! What events become: values, their schemas, and the provider's other messages. Pure, and without Kafka.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod loss;
mod policy;
mod rules;
mod snapshots;
mod spelling;
mod wire;

use pepay_relay::normalize::{Kind, Normalized, Rejection, Settings, normalize, schemas};
use pepay_relay::provider::Environment;
use pepay_relay::provider::event::decode;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

fn settings() -> Settings {
    Settings { environment: Environment::Devnet, drop: Vec::new(), include_raw: false }
}

/// The value of an event that has one, as text.
fn value_of(event: &str) -> String {
    value_with(event, &settings()).unwrap_or_else(|rejection| panic!("{rejection}: {event}"))
}

/// The value of an event, checked against the schema of its topic.
fn value_with(event: &str, settings: &Settings) -> Result<String, Rejection> {
    let event = decode(event.as_bytes()).unwrap_or_else(|undecodable| panic!("{undecodable}: {event}"));
    // What is in the buffer before must not matter: the relay writes many values behind one another.
    let mut buffer = b"before{".to_vec();
    let normalized = normalize(&event, settings, &mut buffer).inspect_err(|_| assert!(buffer.ends_with(b"before{")))?;
    let value = String::from_utf8(buffer.split_off(7)).unwrap();
    if settings.drop.is_empty() {
        check_schema(&normalized, &value);
    }
    Ok(value)
}

fn check_schema(normalized: &Normalized<'_>, value: &str) {
    static SCHEMAS: LazyLock<[jsonschema::Validator; 2]> = LazyLock::new(|| {
        let schemas = schemas();
        ["orders", "invoices"].map(|topic| jsonschema::validator_for(&schemas[topic]).unwrap())
    });
    let parsed: Value = serde_json::from_str(value).unwrap_or_else(|error| panic!("{error}: {value}"));
    let schema = &SCHEMAS[usize::from(normalized.kind == Kind::Invoice)];
    let mistakes: Vec<_> = schema.iter_errors(&parsed).map(|error| error.to_string()).collect();
    assert!(mistakes.is_empty(), "{mistakes:#?}\n{value}");
}

fn fixture(path: &str) -> String {
    let path = fixtures().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Names of the files in a folder of fixtures that begin with `prefix`, sorted.
fn files(folder: &str, prefix: &str) -> Vec<String> {
    let entries = std::fs::read_dir(fixtures().join(folder)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.starts_with(prefix) && name.ends_with(".json")).collect();
    names.sort();
    assert!(!names.is_empty(), "no {folder}/{prefix}*");
    names
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// An event of `event_type` about `object`.
fn event(event_type: &str, object: &str) -> String {
    event_with(event_type, object, "null")
}

fn event_with(event_type: &str, object: &str, previous_attributes: &str) -> String {
    format!(
        r#"{{"id":"evt_1700000000000-123","object":"event","type":"{event_type}","created":1700000000,
            "data":{{"object":{object},"previous_attributes":{previous_attributes}}}}}"#
    )
}

//! The same event has the same bytes, however it is spelled and whichever leg brought it.

use super::{Value, event, files, fixture, fixtures, settings, value_of};
use pepay_relay::normalize::{Route, normalize, route};
use pepay_relay::provider::event::decode;
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::value::RawValue;
use std::collections::HashMap;

#[test]
fn iso_times_and_unix_seconds_are_one() {
    let pair = ["events/invoice.updated.paid.json", "events/invoice.updated.paid.unix-seconds.json"].map(fixture);
    assert_ne!(pair[0], pair[1]);
    assert_eq!(value_of(&pair[0]), value_of(&pair[1]));

    let orders = ["rest/order-get.shipped.json", "rest/order-get.shipped.unix-seconds.json"].map(|path| {
        let answer: HashMap<String, Box<RawValue>> = serde_json::from_str(&fixture(path)).unwrap();
        event("commerce.order.updated", answer["data"].get())
    });
    assert_ne!(orders[0], orders[1]);
    assert_eq!(value_of(&orders[0]), value_of(&orders[1]));
}

#[test]
fn a_page_of_the_log_brings_what_socket_and_webhook_brought() {
    let mut known: HashMap<String, Vec<String>> = HashMap::new();
    for name in files("events", "") {
        let text = fixture(&format!("events/{name}"));
        known.entry(decode(text.as_bytes()).unwrap().id.into_owned()).or_default().push(text);
    }
    let mut same = 0;
    for page in files("rest", "events-list") {
        let mut slices = Vec::new();
        let answer: HashMap<String, Box<RawValue>> = serde_json::from_str(&fixture(&format!("rest/{page}"))).unwrap();
        let list: HashMap<String, Box<RawValue>> = serde_json::from_str(answer["data"].get()).unwrap();
        slices.extend(serde_json::from_str::<Vec<Box<RawValue>>>(list["data"].get()).unwrap());
        for slice in slices {
            let slice = slice.get();
            let event = decode(slice.as_bytes()).unwrap();
            if !matches!(route(&event.event_type), Route::Order | Route::Invoice) {
                continue;
            }
            let value = value_of(slice);
            // Some examples show one event in two forms that differ in content; a page has the fuller one.
            let files = known.get(&*event.id).map_or(&[][..], |texts| texts);
            let parsed: Value = serde_json::from_str(slice).unwrap();
            for text in files {
                let file: Value = serde_json::from_str(text).unwrap();
                if file["data"] == parsed["data"] {
                    assert_eq!(value_of(text), value, "{page}: {}", event.id);
                    same += 1;
                }
            }
        }
    }
    assert!(same >= 9, "{same}");
    let raw = std::fs::read_to_string(fixtures().join("webhook/body.commerce.order.updated.raw")).unwrap();
    assert_eq!(value_of(&raw), value_of(&fixture("events/commerce.order.updated.shipped.json")));
}

#[test]
fn order_white_space_and_escapes_do_not_matter() {
    let mut rng = StdRng::seed_from_u64(1);
    for name in files("events", "") {
        let text = fixture(&format!("events/{name}"));
        let parsed: Value = serde_json::from_str(&text).unwrap();
        if !matches!(route(parsed["type"].as_str().unwrap()), Route::Order | Route::Invoice) {
            continue;
        }
        let expected = value_of(&text);
        for _ in 0..50 {
            let other = scrambled(&parsed, &mut rng);
            assert_eq!(value_of(&other), expected, "{other}");
        }
    }
}

#[test]
fn snake_case_is_read_as_camel_case() {
    for name in files("events", "commerce.order") {
        let text = fixture(&format!("events/{name}"));
        let mut snake: Value = serde_json::from_str(&text).unwrap();
        let expected = value_of(&text);
        rename(&mut snake["data"]);
        assert_eq!(value_of(&snake.to_string()), expected, "{snake}");
    }
}

proptest! {
    /// Also for what we don't know: it is in `extra`, `metadata` and `raw` in one spelling.
    #[test]
    fn foreign_members_have_one_spelling_too(object in super::loss::object(), seed: u64) {
        let parsed: Value = serde_json::from_str(&event("invoice.updated", &object.to_string())).unwrap();
        let mut settings = settings();
        settings.include_raw = true;
        let written = |text: &str| {
            let mut value = Vec::new();
            let event = decode(text.as_bytes()).unwrap();
            normalize(&event, &settings, &mut value).map(|_| String::from_utf8(value).unwrap()).ok()
        };
        let mut rng = StdRng::seed_from_u64(seed);
        prop_assert_eq!(written(&scrambled(&parsed, &mut rng)), written(&parsed.to_string()));
    }
}

/// The same JSON with its members in another order, other white space, other escapes, and overruled duplicates.
fn scrambled(value: &Value, rng: &mut StdRng) -> String {
    let mut out = String::new();
    scramble(value, rng, &mut out);
    out
}

fn scramble(value: &Value, rng: &mut StdRng, out: &mut String) {
    let space = |rng: &mut StdRng, out: &mut String| out.push_str(["", " ", "\n\t", "\r\n  "][rng.random_range(0..4)]);
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            for at in (1..members.len()).rev() {
                members.swap(at, rng.random_range(0..=at));
            }
            out.push('{');
            for (number, (name, value)) in members.into_iter().enumerate() {
                if number > 0 {
                    out.push(',');
                }
                if rng.random_ratio(1, 20) {
                    escape(name, rng, out);
                    out.push_str(":{\"overruled\":[1,{}]},");
                }
                space(rng, out);
                escape(name, rng, out);
                space(rng, out);
                out.push(':');
                space(rng, out);
                scramble(value, rng, out);
                space(rng, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (number, item) in items.iter().enumerate() {
                if number > 0 {
                    out.push(',');
                }
                space(rng, out);
                scramble(item, rng, out);
                space(rng, out);
            }
            out.push(']');
        }
        Value::String(text) => escape(text, rng, out),
        other => out.push_str(&other.to_string()),
    }
}

fn escape(text: &str, rng: &mut StdRng, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '/' if rng.random_ratio(1, 2) => out.push_str("\\/"),
            '"' | '\\' => out.extend(['\\', c]),
            _ if c < ' ' || rng.random_ratio(1, 10) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&if rng.random() { format!("\\u{unit:04x}") } else { format!("\\u{unit:04X}") });
                }
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}

/// Gives every member its snake_case name.
fn rename(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, mut value) in std::mem::take(members) {
                rename(&mut value);
                let humps = name.chars().map(|c| {
                    if c.is_ascii_uppercase() { format!("_{}", c.to_ascii_lowercase()) } else { c.to_string() }
                });
                members.insert(humps.collect(), value);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(rename),
        _ => {}
    }
}

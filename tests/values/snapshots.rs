//! One snapshot for each example of an event that is published.

use super::{Value, event, files, fixture, schemas, value_of};
use pepay_relay::normalize::{Route, route};

#[test]
fn every_example_event_has_its_value() {
    let mut published = 0;
    for (folder, prefix) in [("events", ""), ("ws", "event.")] {
        for name in files(folder, prefix) {
            let text = fixture(&format!("{folder}/{name}"));
            let parsed: Value = serde_json::from_str(&text).unwrap();
            if matches!(route(parsed["type"].as_str().unwrap()), Route::Order | Route::Invoice) {
                let snapshot = format!("{folder}.{}", name.trim_end_matches(".json"));
                insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
                    insta::assert_snapshot!(snapshot, pretty(&value_of(&text)));
                });
                published += 1;
            }
        }
    }
    assert_eq!(published, 20);
}

#[test]
fn the_other_examples_are_not_published() {
    assert_eq!(route("test.ping"), Route::Ping);
    assert_eq!(route("payment_quote.updated"), Route::Unknown);
}

/// The schemas are an interface: a change of theirs must be seen in review.
#[test]
fn the_schemas_are_as_reviewed() {
    for (topic, schema) in schemas().as_object().unwrap() {
        jsonschema::meta::validate(schema).unwrap_or_else(|error| panic!("{topic}: {error}"));
        insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
            insta::assert_snapshot!(format!("schema.{topic}"), format!("{schema:#}"));
        });
    }
}

#[test]
fn the_schemas_refuse_what_is_not_ours() {
    let schema = jsonschema::validator_for(&schemas()["orders"]).unwrap();
    let value = value_of(&event("commerce.order.updated", r#"{"id":"o1","totalAmountUsd":"1"}"#));
    let value: Value = serde_json::from_str(&value).unwrap();
    assert!(schema.is_valid(&value));
    for (pointer, wrong) in [
        ("/order_id", Value::Null),
        ("/occurred_at", "2023-11-14T22:13:20Z".into()),
        ("/environment", "staging".into()),
        ("/event_type", "invoice.updated".into()),
        ("/order/total/amount", "1.0".into()),
        ("/order/total/amount", "1.000".into()),
        ("/order/total/currency", "usd".into()),
        ("/order/shipments", serde_json::json!([{}])),
        ("/order/merchant_id", "42".into()),
        ("/order/extra", Value::Null),
    ] {
        let mut changed = value.clone();
        *changed.pointer_mut(pointer).unwrap() = wrong;
        assert!(!schema.is_valid(&changed), "{pointer}");
    }
    let mut more = value.clone();
    more["order"]["newField"] = 1.into();
    assert!(!schema.is_valid(&more));
    let mut less = value;
    less.as_object_mut().unwrap().remove("changed");
    assert!(!schema.is_valid(&less));
}

/// The same JSON on many lines, in the same order: `serde_json` would sort it.
fn pretty(value: &str) -> String {
    let mut out = String::new();
    let mut depth = 0;
    let mut quoted = false;
    let mut escaped = false;
    for c in value.chars() {
        if quoted {
            out.push(c);
            quoted = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        if matches!(c, '}' | ']') {
            depth -= 1;
            if out.ends_with(['{', '[']) {
                out.push(c);
                continue;
            }
        } else if out.ends_with(['{', '[']) {
            new_line(&mut out, depth);
        }
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => new_line(&mut out, depth),
            '"' => quoted = true,
            _ => {}
        }
        out.push(c);
        match c {
            ',' => new_line(&mut out, depth),
            ':' => out.push(' '),
            _ => {}
        }
    }
    out
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth));
}

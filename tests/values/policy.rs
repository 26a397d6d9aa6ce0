//! What consumers may rely on from version to version: the open schemas only ever gain members.
//!
//! `tests/values/released/VERSION.json` is `pepay-relay schema --open` of that version; docs/consumers.md states the policy.

use super::{Kind, Settings, Value, event, files, fixture, settings, value_of, value_with};
use pepay_relay::normalize::{member_names, open_schemas};
use serde_json::{Map, json};
use std::collections::BTreeSet;
use std::path::Path;

/// Members of a schema that are words for people.
const WORDS: [&str; 3] = ["title", "description", "examples"];

/// What breaks a reader that holds on to `old` when values follow `new`, or to `new` when they follow `old`.
fn breaks(old: &Value, new: &Value, at: &str) -> Vec<String> {
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        return if old == new { vec![] } else { vec![format!("{at}: {old} became {new}")] };
    };
    let names: BTreeSet<&String> =
        old.keys().chain(new.keys()).filter(|name| !WORDS.contains(&name.as_str())).collect();
    names.into_iter().flat_map(|name| member_breaks(name, (old, new), &format!("{at}/{name}"))).collect()
}

fn member_breaks(name: &str, (old, new): (&Map<String, Value>, &Map<String, Value>), at: &str) -> Vec<String> {
    match (name, old.get(name), new.get(name)) {
        ("properties", Some(Value::Object(old)), Some(Value::Object(new))) => old
            .iter()
            .flat_map(|(name, old)| match new.get(name) {
                Some(new) => breaks(old, new, &format!("{at}/{name}")),
                None => vec![format!("{at}/{name} is gone")],
            })
            .collect(),
        ("items", Some(old), Some(new)) => breaks(old, new, at),
        ("anyOf" | "oneOf", Some(Value::Array(old)), Some(Value::Array(new))) if old.len() == new.len() => {
            let pairs = old.iter().zip(new).enumerate();
            pairs.flat_map(|(number, (old, new))| breaks(old, new, &format!("{at}/{number}"))).collect()
        }
        ("required" | "type", Some(old), Some(new)) if set(old) == set(new) => vec![],
        (_, old, new) if old == new => vec![],
        (_, old, new) => vec![format!("{at}: {old:?} became {new:?}")],
    }
}

/// A word, or a list of them, without their order.
fn set(words: &Value) -> BTreeSet<&str> {
    words.as_str().into_iter().chain(words.as_array().into_iter().flatten().filter_map(Value::as_str)).collect()
}

/// The relay's own state is for nobody else, and is left out.
fn of_consumers(mut schemas: Value) -> Value {
    schemas.as_object_mut().unwrap().remove("control");
    schemas
}

#[test]
fn members_are_only_added() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/values/released");
    let mut versions = 0;
    let now = of_consumers(open_schemas());
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let then = of_consumers(serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap());
        for (topic, then) in then.as_object().unwrap() {
            let broken = breaks(then, &now[topic], topic);
            assert!(
                broken.is_empty(),
                "{}: {broken:#?}\na removal or another meaning is a new ce_dataschema",
                path.display()
            );
        }
        versions += 1;
    }
    assert!(versions > 0);
}

#[test]
fn what_breaks_consumers_is_found() {
    let then = open_schemas()["orders"].clone();
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut now = then.clone();
        change(&mut now);
        breaks(&then, &now, "orders").len()
    };
    assert_eq!(changed(&|_| {}), 0);
    let order = "/properties/order/properties";
    let of =
        |now: &mut Value, pointer: &str, value: Value| *now.pointer_mut(&format!("{order}{pointer}")).unwrap() = value;
    // Members that come, in an object that is there or with one, and other words.
    let more = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]});
    assert_eq!(
        changed(&|now| drop(
            now.pointer_mut(order).unwrap().as_object_mut().unwrap().insert("new".into(), more.clone())
        )),
        0
    );
    assert_eq!(changed(&|now| of(now, "/status/description", "Other words.".into())), 0);
    // A member that goes, also deep inside, is renamed, or means something else.
    let removed = |now: &mut Value, from: &str, name: &str| {
        drop(now.pointer_mut(from).unwrap().as_object_mut().unwrap().remove(name).unwrap())
    };
    assert_eq!(changed(&|now| removed(now, order, "substatus")), 1);
    assert_eq!(changed(&|now| removed(now, &format!("{order}/shipments/items/properties"), "carrier")), 1);
    assert_eq!(changed(&|now| removed(now, &format!("{order}/total/properties/amount"), "pattern")), 1);
    assert_eq!(changed(&|now| of(now, "/status/type", "string".into())), 1, "narrowed");
    assert_eq!(changed(&|now| of(now, "/merchant_id/type", json!(["integer", "string", "null"]))), 1, "widened");
    assert_eq!(
        changed(&|now| now["required"].as_array_mut().unwrap().push("status".into())),
        1,
        "older records lack it"
    );
    assert_eq!(changed(&|now| drop(now["required"].as_array_mut().unwrap().pop())), 1);
    assert_eq!(changed(&|now| now["additionalProperties"] = false.into()), 1);
}

/// Values of this version, of one with members more, and of one whose settings leave out whatever they can.
#[test]
fn open_schemas_take_what_later_versions_and_other_settings_write() {
    let open = open_schemas();
    for (topic, schema) in open.as_object().unwrap() {
        jsonschema::meta::validate(schema).unwrap_or_else(|error| panic!("{topic}: {error}"));
    }
    let mut seen = 0;
    for name in files("events", "commerce.").into_iter().chain(files("events", "invoice")) {
        let text = fixture(&format!("events/{name}"));
        let kind = if name.starts_with("invoice") { Kind::Invoice } else { Kind::Order };
        let mut value: Value = serde_json::from_str(&value_of(&text)).unwrap();
        check_against(&open, kind, &value);
        with_more(&mut value);
        check_against(&open, kind, &value);
        let drop = member_names().map(str::to_owned).collect();
        let least = value_with(&text, &Settings { drop, ..settings() }).unwrap();
        check_against(&open, kind, &serde_json::from_str(&least).unwrap());
        seen += 1;
    }
    assert_eq!(seen, 18);
}

fn check_against(schemas: &Value, kind: Kind, value: &Value) {
    let topic = if kind == Kind::Invoice { "invoices" } else { "orders" };
    let schema = jsonschema::validator_for(&schemas[topic]).unwrap();
    let mistakes: Vec<_> = schema.iter_errors(value).map(|error| error.to_string()).collect();
    assert!(mistakes.is_empty(), "{mistakes:#?}\n{value}");
}

/// A member more in every object.
fn with_more(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.values_mut().for_each(with_more);
            members.insert("a_member_more".into(), json!({"of": ["a", "later", "version"]}));
        }
        Value::Array(items) => items.iter_mut().for_each(with_more),
        _ => {}
    }
}

#[test]
fn open_schemas_still_refuse_what_is_not_ours() {
    let schema = jsonschema::validator_for(&open_schemas()["orders"]).unwrap();
    let value = value_of(&event("commerce.order.updated", r#"{"id":"o1","totalAmountUsd":"1"}"#));
    let value: Value = serde_json::from_str(&value).unwrap();
    for (pointer, wrong) in [
        ("/order_id", Value::Null),
        ("/event_type", "invoice.updated".into()),
        ("/order/total/amount", "1.0".into()),
        ("/order/shipments", json!({})),
    ] {
        let mut changed = value.clone();
        *changed.pointer_mut(pointer).unwrap() = wrong;
        assert!(!schema.is_valid(&changed), "{pointer}");
    }
    let mut less = value;
    less.as_object_mut().unwrap().remove("event_id");
    assert!(!schema.is_valid(&less));
}

//! Nothing is lost, and nothing stops: whatever JSON is in an event's object, each leaf of it is found in the
//! value, in its place or in `extra`.

use super::{Value, event_with, settings, value_with};
use pepay_relay::provider::event::Reason;
use proptest::prelude::*;
use serde_json::{Map, json};

/// Names that the tables know, in both spellings, and some that they don't.
const NAMES: &[&str] = &[
    "id",
    "orderId",
    "order_id",
    "invoiceId",
    "invoice_id",
    "merchantId",
    "merchant_id",
    "environment",
    "retailer",
    "createdAt",
    "created_at",
    "updatedAt",
    "customerId",
    "customer_id",
    "walletAddress",
    "wallet_address",
    "status",
    "substatus",
    "actions",
    "canCancel",
    "can_cancel",
    "timeline",
    "timestamp",
    "message",
    "payment",
    "txHash",
    "tx_hash",
    "settlement",
    "network",
    "fulfillment",
    "shipments",
    "shipmentId",
    "carrier",
    "obtainedAt",
    "lineItems",
    "line_items",
    "productId",
    "title",
    "quantity",
    "price",
    "shippingAddress",
    "shipping_address",
    "firstName",
    "first_name",
    "cancellationStatus",
    "refundStatus",
    "refund_status",
    "totalAmountUsd",
    "total_amount_usd",
    "refund",
    "amountUsd",
    "amount_usd",
    "feeUsd",
    "amount",
    "amountDecimal",
    "amount_decimal",
    "amountPaid",
    "amount_paid",
    "amount_paid_decimal",
    "amountUnit",
    "amount_unit",
    "currency",
    "invoiceType",
    "metadata",
    "expiresAt",
    "paidAt",
    "commerceOrderId",
    "settlementStatus",
    "settlement_status",
    "stage",
    "merchantSettlementId",
    "object",
    "raw",
    "extra",
    "newField",
    "payment.newField",
    "timeline.0",
    "",
    "a.b",
    "x#2",
    "\u{0}\"\\",
];

/// Every leaf of text is one of a kind, so that it can be looked for.
fn marked(value: &mut Value, count: &mut u32) {
    match value {
        Value::String(text) => {
            *count += 1;
            *text = format!("leaf{count:04}");
        }
        Value::Array(items) => items.iter_mut().for_each(|item| marked(item, count)),
        Value::Object(members) => members.values_mut().for_each(|member| marked(member, count)),
        _ => {}
    }
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => Just(json!("text")),
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::Bool),
        1 => any::<i64>().prop_map(Value::from),
        1 => "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,4})?".prop_map(|text| serde_json::from_str(&text).unwrap()),
        1 => ".{0,12}".prop_map(Value::String),
    ]
}

fn json() -> impl Strategy<Value = Value> {
    let name = || prop_oneof![8 => proptest::sample::select(NAMES).prop_map(str::to_owned), 1 => ".{0,8}"];
    leaf().prop_recursive(5, 80, 12, move |inner| {
        prop_oneof![
            1 => proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            3 => proptest::collection::vec((name(), inner), 0..12).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Any object, most of it of known names in places right and wrong.
pub(super) fn object() -> impl Strategy<Value = Value> {
    let member = (proptest::sample::select(NAMES).prop_map(str::to_owned), json());
    proptest::collection::vec(member, 0..25).prop_map(|members| Value::Object(members.into_iter().collect()))
}

/// As many leaves of text as `marked` made, each of which must be in the value of the event.
fn check(event_type: &str, mut object: Value, previous: &Value, raw: bool) -> Result<(), TestCaseError> {
    let mut leaves = 0;
    marked(&mut object, &mut leaves);
    if let Some(members) = object.as_object_mut() {
        // Without these it would be no event of ours.
        members.retain(|name, _| {
            !matches!(
                &**name,
                "environment" | "networkEnvironment" | "orderId" | "order_id" | "invoiceId" | "invoice_id"
            )
        });
        members.insert(
            if event_type.starts_with("invoice_payment") { "invoice_id" } else { "id" }.into(),
            json!("the key"),
        );
    }
    let mut settings = settings();
    settings.include_raw = raw;
    let text = event_with(event_type, &object.to_string(), &previous.to_string());
    let value = value_with(&text, &settings).unwrap().to_lowercase();
    let mut wanted = Vec::new();
    texts(&object, &mut wanted);
    for text in wanted.iter().filter(|text| text.starts_with("leaf")) {
        prop_assert!(value.contains(text), "{} of {} is lost in {}", text, object, value);
    }
    Ok(())
}

fn texts<'v>(value: &'v Value, into: &mut Vec<&'v str>) {
    match value {
        Value::String(text) => into.push(text),
        Value::Array(items) => items.iter().for_each(|item| texts(item, into)),
        Value::Object(members) => members.values().for_each(|member| texts(member, into)),
        _ => {}
    }
}

fn event_type() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(&["commerce.order.updated", "invoice.updated", "invoice_payment.created"][..])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn no_leaf_is_lost(event_type in event_type(), object in object(), previous in json()) {
        check(event_type, object, &previous, false)?;
    }

    /// Any JSON inside of an example: alongside all that is known, and in place of some of it.
    #[test]
    fn no_leaf_of_a_changed_example_is_lost(
        from in proptest::sample::select(super::files("events", "commerce.order")),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), json()), 1..5),
        raw: bool,
    ) {
        let parsed: Value = serde_json::from_str(&super::fixture(&format!("events/{from}"))).unwrap();
        let mut object = parsed["data"]["object"].clone();
        for (place, new) in changes {
            change(&mut object, place.index(200), new);
        }
        // Unmarked text is checked too, where it is no time, no money, and in the same case.
        if object.is_object() {
            check("commerce.order.updated", object, &Value::Null, raw)?;
        }
    }

    /// Without the help of an id: a value or a reason, and never more.
    #[test]
    fn any_object_has_a_value_or_a_reason(event_type in event_type(), object in object()) {
        match value_with(&event_with(event_type, &object.to_string(), "null"), &settings()) {
            Ok(value) => prop_assert!(value.contains("event_id"), "{}", value),
            Err(rejection) => {
                prop_assert!(matches!(rejection.reason, Reason::MissingField | Reason::WrongEnvironment), "{}", rejection);
            }
        }
    }
}

/// Replaces the `steps`th value of `json`, counted through all of its nesting, and around again.
fn change(json: &mut Value, steps: usize, new: Value) {
    let children = match json {
        Value::Array(items) => items.len(),
        Value::Object(members) => members.len(),
        _ => 0,
    };
    if children == 0 {
        *json = new;
        return;
    }
    let at = steps % (children + 1);
    let rest = steps / (children + 1);
    match json {
        Value::Object(members) if at == children => {
            members.insert(NAMES[rest % NAMES.len()].to_owned(), new);
        }
        Value::Object(members) => {
            let member = members.values_mut().nth(at);
            member.into_iter().for_each(|member| change(member, rest, new.clone()));
        }
        Value::Array(items) if at < children => change(&mut items[at], rest, new),
        other => *other = new,
    }
}

/// Two values of one path are both kept.
#[test]
fn one_path_can_hold_two_values() {
    let mut object = Map::new();
    object.insert("id".into(), "o1".into());
    object.insert("payment.settlement.x".into(), "leaf1".into());
    object.insert("payment.settlement.x#2".into(), "leaf2".into());
    object.insert("payment".into(), json!({"settlement.x": "leaf3", "settlement": {"x": "leaf4"}}));
    let value =
        value_with(&event_with("commerce.order.updated", &Value::Object(object).to_string(), "null"), &settings());
    let value: Value = serde_json::from_str(&value.unwrap()).unwrap();
    let expected = json!({
        "payment.settlement.x": "leaf1",
        "payment.settlement.x#2": "leaf2",
        "payment.settlement.x#2#2": "leaf3",
        "payment.settlement.x#2#2#2": "leaf4",
    });
    assert_eq!(value["order"]["extra"], expected);
}

//! The rules of values one by one: what is read from where, what wins, what goes to `extra`, what is left out.

use super::{Value, event, event_with, settings, value_of, value_with};
use pepay_relay::normalize::{Kind, Settings, member_names, normalize};
use pepay_relay::provider::Environment;
use pepay_relay::provider::event::{Reason, decode};
use serde_json::json;
use std::collections::BTreeSet;

/// The member of an order event's value at `pointer`, when the object has `members` alongside its id.
fn order(members: &str, pointer: &str) -> Value {
    at("commerce.order.updated", &format!(r#"{{"id":"o1",{members}}}"#), pointer)
}

fn invoice(members: &str, pointer: &str) -> Value {
    at("invoice.updated", &format!(r#"{{"id":"i1",{members}}}"#), pointer)
}

fn at(event_type: &str, object: &str, pointer: &str) -> Value {
    let value: Value = serde_json::from_str(&value_of(&event(event_type, object))).unwrap();
    value.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}: {value}")).clone()
}

fn check_order(members: &str, expected: &Value, extra: &Value) {
    let order = order(members, "/order");
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&order[name], value, "{members}: {name}");
    }
    assert_eq!(&order["extra"], extra, "{members}");
}

fn check_invoice(members: &str, expected: &Value, extra: &Value) {
    let invoice = invoice(members, "/invoice");
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&invoice[name], value, "{members}: {name}");
    }
    assert_eq!(&invoice["extra"], extra, "{members}");
}

fn usd(amount: &str) -> Value {
    json!({"amount": amount, "currency": "USD"})
}

#[test]
fn camel_case_wins_over_snake_case() {
    check_order(r#""customerId":"a","customer_id":"b""#, &json!({"customer_id": "a"}), &json!({"customer_id": "b"}));
    check_order(r#""customerId":"a","customer_id":"a""#, &json!({"customer_id": "a"}), &json!({}));
    check_order(r#""orderId":"o2""#, &json!({"id": "o2"}), &json!({"id": "o1"}));
    check_order(
        r#""networkEnvironment":"devnet","environment":"other""#,
        &json!({"environment": "devnet"}),
        &json!({"environment": "other"}),
    );
}

#[test]
fn null_means_nothing_and_yields() {
    check_order(r#""customerId":null,"customer_id":"b""#, &json!({"customer_id": "b"}), &json!({}));
    check_order(r#""orderId":null"#, &json!({"id": "o1"}), &json!({}));
    check_order(r#""newField":null"#, &json!({}), &json!({"newField": null}));
}

#[test]
fn spellings_agree_after_normalization() {
    check_order(r#""totalAmountUsd":"1.5","total_amount_usd":"1.500""#, &json!({"total": usd("1.50")}), &json!({}));
    check_order(
        r#""createdAt":1700000000,"created_at":"2023-11-14T22:13:20Z""#,
        &json!({"created_at": "2023-11-14T22:13:20.000Z"}),
        &json!({}),
    );
    check_order(r#""refundStatus":"NONE","refund":{"status":"none"}"#, &json!({}), &json!({}));
}

#[test]
fn nested_wins_over_flat() {
    let none =
        json!({"status": "none", "amount": null, "fee": null, "destination_wallet_address": null, "tx_hash": null});
    let pending =
        json!({"status": "pending", "amount": null, "fee": null, "destination_wallet_address": null, "tx_hash": null});
    check_order(
        r#""refund":{"status":"NONE"},"refundStatus":"PENDING""#,
        &json!({"refund": none}),
        &json!({"refundStatus": "PENDING"}),
    );
    check_order(r#""refund":{},"refund_status":"PENDING""#, &json!({"refund": pending}), &json!({}));
    check_order(r#""refundStatus":"PENDING""#, &json!({"refund": pending}), &json!({}));
    check_order(r#""refund":null,"refundStatus":"PENDING""#, &json!({"refund": pending}), &json!({}));
    check_order(r#""refund":5,"refundStatus":"PENDING""#, &json!({"refund": pending}), &json!({"refund": 5}));
    check_order(r#""refundStatus":"A","refund_status":"B""#, &json!({}), &json!({"refund_status": "B"}));
    check_order(r#""refundStatus":5"#, &json!({"refund": null}), &json!({"refundStatus": 5}));
    check_order(r#""refund":{},"refundStatus":5"#, &json!({}), &json!({"refundStatus": 5}));
}

#[test]
fn the_wrong_type_is_null_and_kept() {
    check_order(r#""merchantId":"42""#, &json!({"merchant_id": null}), &json!({"merchantId": "42"}));
    check_order(r#""merchant_id":4.5"#, &json!({"merchant_id": null}), &json!({"merchant_id": 4.5}));
    check_order(r#""status":5"#, &json!({"status": null}), &json!({"status": 5}));
    check_order(r#""actions":{"canCancel":"yes"}"#, &json!({"can_cancel": null}), &json!({"actions.canCancel": "yes"}));
    check_order(r#""actions":true"#, &json!({"can_cancel": null}), &json!({"actions": true}));
    check_order(r#""createdAt":"soon""#, &json!({"created_at": null}), &json!({"createdAt": "soon"}));
    check_order(r#""payment":"paid""#, &json!({"payment": null}), &json!({"payment": "paid"}));
    check_order(r#""payment":{"settlement":{"txHash":[1]}}"#, &json!({}), &json!({"payment.settlement.txHash": [1]}));
    check_order(r#""timeline":{}"#, &json!({"timeline": []}), &json!({"timeline": {}}));
    check_order(r#""fulfillment":{"shipments":5}"#, &json!({"shipments": []}), &json!({"fulfillment.shipments": 5}));
    check_order(
        r#""fulfillment":"here","lineItems":0"#,
        &json!({"shipments": [], "items": []}),
        &json!({"fulfillment": "here", "lineItems": 0}),
    );
    check_order(r#""timeline":[7,null]"#, &json!({"timeline": [null, null]}), &json!({"timeline.0": 7}));
    check_order(r#""shippingAddress":"here""#, &json!({"shipping_address": null}), &json!({"shippingAddress": "here"}));
    check_order(r#""object":"commerce_order""#, &json!({}), &json!({}));
    check_order(r#""object":"order""#, &json!({}), &json!({"object": "order"}));
}

#[test]
fn the_right_type_wins_over_the_preferred_spelling() {
    check_order(r#""orderId":7"#, &json!({"id": "o1"}), &json!({"orderId": 7}));
}

#[test]
fn an_empty_id_gives_way_to_a_good_one() {
    check_order(r#""orderId":"""#, &json!({"id": "o1"}), &json!({"orderId": ""}));
    assert_eq!(order(r#""orderId":"""#, "/order_id"), "o1");
    let invoice = at("invoice.updated", r#"{"id":"","invoiceId":"i1"}"#, "/invoice");
    assert_eq!((&invoice["id"], &invoice["extra"]), (&json!("i1"), &json!({"id": ""})));
    for none in [r#"{"id":""}"#, r#"{"id":"","orderId":""}"#] {
        let text = event("commerce.order.updated", none);
        let rejected = normalize(&decode(text.as_bytes()).unwrap(), &settings(), &mut Vec::new()).unwrap_err();
        assert_eq!(rejected.reason, Reason::MissingField, "{none}");
    }
}

/// An amount in nobody knows what is no amount in dollars.
#[test]
fn money_whose_currency_cannot_be_read_is_null() {
    for currency in ["978", "\"US Dollar\"", "\"€\"", "\"\"", "[]", "true"] {
        let raw: Value = serde_json::from_str(currency).unwrap();
        check_invoice(
            &format!(r#""currency":{currency},"amount_decimal":"10.00","amount":10000,"amount_unit":"usd_millis""#),
            &json!({"amount": null}),
            &json!({"currency": raw, "amount_decimal": "10.00", "amount": 10000, "amount_unit": "usd_millis"}),
        );
    }
    check_invoice(r#""currency":null,"amount_decimal":"10.00""#, &json!({"amount": usd("10.00")}), &json!({}));
}

#[test]
fn what_did_not_come_is_null_and_no_list_is_empty() {
    let order = order(r#""actions":{}"#, "/order");
    let order = order.as_object().unwrap();
    for (name, value) in order {
        let expected = match name.as_str() {
            "id" => json!("o1"),
            "shipments" | "items" | "timeline" => json!([]),
            "extra" => json!({}),
            _ => Value::Null,
        };
        assert_eq!(value, &expected, "{name}");
    }
    assert_eq!(order.len(), 23);
    check_order(
        r#""payment":{}"#,
        &json!({"payment": {"status": null, "tx_hash": null, "settlement": null}}),
        &json!({}),
    );
    check_order(r#""fulfillment":{},"timeline":null"#, &json!({"shipments": [], "timeline": []}), &json!({}));
}

#[test]
fn unknown_members_are_kept_under_their_path() {
    check_order(
        r#""newField":{"b":1.50,"a":[]},"payment":{"newField":1},"lineItems":[{},{"newField":2}],"actions":{"more":3},"fulfillment":{"more":4}"#,
        &json!({}),
        &serde_json::from_str(r#"{"newField":{"a":[],"b":1.50},"payment.newField":1,"lineItems.1.newField":2,"actions.more":3,"fulfillment.more":4}"#).unwrap(),
    );
    check_order(r#""line_items":[{"new_field":2}]"#, &json!({}), &json!({"line_items.0.new_field": 2}));
    let value = value_of(&event("commerce.order.updated", r#"{"id":"o1","z":1E+2,"y":"\u0041","y":"\u0042\/"}"#));
    assert!(value.ends_with(r#""extra":{"y":"B/","z":1E+2}}}"#), "{value}");
}

#[test]
fn lists_in_two_spellings_are_compared_as_written() {
    let one = r#"[{"productId":"p","newField":1}]"#;
    check_order(
        &format!(r#""lineItems":{one},"line_items":{one}"#),
        &json!({}),
        &json!({"lineItems.0.newField": 1, "line_items.0.newField": 1}),
    );
    let extra = json!({"lineItems.0.newField": 1, "line_items": [{"x": 1}]});
    check_order(&format!(r#""lineItems":{one},"line_items":[{{"x":1}}]"#), &json!({}), &extra);
}

#[test]
fn addresses_have_snake_case_names() {
    check_order(
        r#""shippingAddress":{"zipCode":"1","firstName":"A","first_name":"B","last_name":"C","geo":{"latLon":[1.0]}}"#,
        &serde_json::from_str(
            r#"{"shipping_address":{"first_name":"A","geo":{"latLon":[1.0]},"last_name":"C","zip_code":"1"}}"#,
        )
        .unwrap(),
        &json!({"shippingAddress.first_name": "B"}),
    );
    check_order(
        r#""shipping_address":{"firstName":"A","first_name":"A"}"#,
        &json!({"shipping_address": {"first_name": "A"}}),
        &json!({}),
    );
}

#[test]
fn dollars_are_decimals_and_nothing_else() {
    check_order(
        r#""totalAmountUsd":"28.970","commerceFeeUsd":3"#,
        &json!({"total": usd("28.97"), "commerce_fee": usd("3.00")}),
        &json!({}),
    );
    check_order(r#""totalAmountUsd":"-0.5""#, &json!({"total": usd("-0.50")}), &json!({}));
    check_order(
        r#""totalAmountUsd":0.1234567890123456789"#,
        &json!({"total": usd("0.1234567890123456789")}),
        &json!({}),
    );
    for wrong in [r#""1e3""#, "1e3", r#""""#, r#""$5""#, "true", "{}", r#"" 5""#, r#""1,000.00""#, r#""NaN""#] {
        let raw: Value = serde_json::from_str(wrong).unwrap();
        check_order(&format!(r#""totalAmountUsd":{wrong}"#), &json!({"total": null}), &json!({"totalAmountUsd": raw}));
    }
    let huge = format!("1{}.00", "0".repeat(10_000));
    check_order(&format!(r#""totalAmountUsd":"{huge}""#), &json!({"total": usd(&huge)}), &json!({}));
}

#[test]
fn invoice_amounts_come_from_the_decimal_else_from_the_integer() {
    let unit = r#""currency":"usd","amount_unit":"usd_millis""#;
    check_invoice(
        &format!(r#""amount":28970,"amount_decimal":"28.970",{unit}"#),
        &json!({"amount": usd("28.97")}),
        &json!({}),
    );
    check_invoice(&format!(r#""amount":28970,{unit}"#), &json!({"amount": usd("28.97")}), &json!({}));
    check_invoice(
        &format!(r#""amountPaid":5,"amountRemainingDecimal":"1",{unit}"#),
        &json!({"amount_paid": usd("0.005"), "amount_remaining": usd("1.00")}),
        &json!({}),
    );
    check_invoice(
        &format!(r#""amount":1,"amount_decimal":"28.970",{unit}"#),
        &json!({"amount": usd("28.97")}),
        &json!({"amount": 1}),
    );
    check_invoice(
        &format!(r#""amount":"28970",{unit}"#),
        &json!({"amount": null}),
        &json!({"amount": "28970", "currency": "usd", "amount_unit": "usd_millis"}),
    );
}

#[test]
fn amounts_in_unknown_units_are_not_guessed_at() {
    check_invoice(r#""amount":28970"#, &json!({"amount": null}), &json!({"amount": 28970}));
    check_invoice(
        r#""amount":2897,"amount_unit":"usd_cents","amount_decimal":"28.97","currency":"usd""#,
        &json!({"amount": usd("28.97")}),
        &json!({"amount": 2897, "amount_unit": "usd_cents"}),
    );
    let eur = json!({"amount": "28.97", "currency": "EUR"});
    check_invoice(
        r#""amount":28970,"amount_unit":"usd_millis","amount_decimal":"28.970","currency":"eur""#,
        &json!({"amount": eur}),
        &json!({"amount": 28970, "amount_unit": "usd_millis"}),
    );
    check_invoice(
        r#""amount_decimal":"1","currency":5"#,
        &json!({"amount": null}),
        &json!({"amount_decimal": "1", "currency": 5}),
    );
    check_invoice(r#""currency":"usd""#, &json!({"amount": null}), &json!({"currency": "usd"}));
}

#[test]
fn the_reduced_invoice_is_read() {
    let value =
        value_of(&event("invoice.updated", r#"{"object":"invoice","id":"inv_123","status":"paid","amount_usd":10.5}"#));
    let value: Value = serde_json::from_str(&value).unwrap();
    assert_eq!(value["invoice"]["amount"], usd("10.50"));
    assert_eq!((&value["invoice_id"], &value["order_id"]), (&json!("inv_123"), &Value::Null));
    assert_eq!(value["invoice"]["extra"], json!({}));
}

#[test]
fn statuses_are_spelled_as_promised() {
    assert_eq!(invoice(r#""status":"canceled""#, "/status"), "cancelled");
    assert_eq!(invoice(r#""status":"canceled""#, "/invoice/status"), "cancelled");
    assert_eq!(invoice(r#""status":"a new one""#, "/status"), "a new one");
    assert_eq!(order(r#""status":"canceled""#, "/status"), "canceled");
    assert_eq!(order(r#""cancellationStatus":"NONE""#, "/order/cancellation_status"), "none");
}

#[test]
fn changes_are_named_by_our_members() {
    let value = |event_type, object, previous| -> Value {
        serde_json::from_str(&value_of(&event_with(event_type, object, previous))).unwrap()
    };
    let order = |previous| value("commerce.order.updated", r#"{"id":"o1","status":"placed"}"#, previous);
    let changed = order(
        r#"{"status":"processing","refundStatus":"NONE","refund":{},"actions":{},"fulfillment":{},"line_items":[],"totalAmountUsd":"1","newField":1,"zipCode":2}"#,
    );
    assert_eq!(
        changed["changed"],
        json!(["can_cancel", "items", "newField", "refund", "shipments", "status", "total", "zipCode"])
    );
    assert_eq!(changed["previous_status"], "processing");
    for none in ["null", "{}", "[]", "\"status\"", "5"] {
        let unchanged = order(none);
        assert_eq!((&unchanged["changed"], &unchanged["previous_status"]), (&json!([]), &Value::Null), "{none}");
    }
    assert_eq!(order(r#"{"status":5}"#)["previous_status"], Value::Null);
    let invoice = value(
        "invoice.updated",
        r#"{"id":"i1"}"#,
        r#"{"status":"canceled","amount_paid":0,"amount_paid_decimal":"0"}"#,
    );
    assert_eq!(
        (&invoice["changed"], &invoice["previous_status"]),
        (&json!(["amount_paid", "status"]), &json!("cancelled"))
    );
}

#[test]
fn the_environment_is_named_or_ours() {
    assert_eq!(order(r#""x":1"#, "/environment"), "devnet");
    assert_eq!(order(r#""x":1"#, "/order/environment"), Value::Null);
    assert_eq!(order(r#""networkEnvironment":"devnet""#, "/order/environment"), "devnet");
    assert_eq!(order(r#""networkEnvironment":5"#, "/order/extra/networkEnvironment"), 5);
    for (event_type, member) in [
        ("commerce.order.updated", "networkEnvironment"),
        ("commerce.order.updated", "environment"),
        ("invoice.updated", "environment"),
        ("invoice_payment.updated", "environment"),
    ] {
        let text = event(event_type, &format!(r#"{{"id":"x","invoice_id":"i","{member}":"mainnet"}}"#));
        let rejection = value_with(&text, &settings()).unwrap_err();
        assert_eq!(rejection.reason, Reason::WrongEnvironment);
        let mut mainnet = settings();
        mainnet.environment = Environment::Mainnet;
        assert!(value_with(&text, &mainnet).unwrap().contains(r#""environment":"mainnet","livemode":null"#));
    }
}

#[test]
fn keys_are_order_and_invoice_ids() {
    let check = |event_type: &str, object: &str, expected: Result<(Kind, &str), Reason>| {
        let text = event(event_type, object);
        let event = decode(text.as_bytes()).unwrap();
        let normalized = normalize(&event, &settings(), &mut Vec::new());
        let found =
            normalized.map(|normalized| (normalized.kind, normalized.key.into_owned(), normalized.occurred_at_ms));
        let expected = expected.map(|(kind, key)| (kind, key.to_owned(), 1_700_000_000_000));
        assert_eq!(found.map_err(|rejection| rejection.reason), expected, "{object}");
    };
    check("commerce.order.created", r#"{"orderId":"a","id":"b"}"#, Ok((Kind::Order, "a")));
    check("commerce.order.fulfilled", r#"{"id":"\u0061"}"#, Ok((Kind::Order, "a")));
    check("invoice.paid", r#"{"id":"a","order_id":"b"}"#, Ok((Kind::Invoice, "a")));
    check("invoice_payment.created", r#"{"id":"a","invoice_id":"b"}"#, Ok((Kind::Invoice, "b")));
    check("invoice_payment.created", r#"{"id":"a"}"#, Err(Reason::MissingField));
    check("commerce.order.created", r#"{"invoiceId":"a"}"#, Err(Reason::MissingField));
    check("commerce.order.created", r#"{"id":5}"#, Err(Reason::MissingField));
    check("commerce.order.created", r#"{"id":""}"#, Err(Reason::MissingField));
    for unknown in ["payment_quote.updated", "test.ping", "commerce.order", "invoices.x", "", "Invoice.paid"] {
        check(unknown, r#"{"id":"a"}"#, Err(Reason::UnknownType));
    }
}

#[test]
fn an_event_without_any_time_is_refused() {
    let text = |created: &str| {
        format!(
            r#"{{"id":"evt_example","object":"event","type":"invoice.paid"{created},"data":{{"object":{{"id":"i"}}}}}}"#
        )
    };
    assert_eq!(value_with(&text(""), &settings()).unwrap_err().reason, Reason::MissingField);
    assert!(value_of(&text(r#","created":1700000000"#)).contains(r#""occurred_at":"2023-11-14T22:13:20.000Z""#));
}

#[test]
fn payments_keep_what_they_have_alongside() {
    let object = r#"{"object":"invoice_payment","id":"p","invoice_id":"i","orderId":"o","customer_id":"c","environment":"devnet","amount_usd":5,
        "settlement":{"settlementTxHash":"t","merchant_settlement_id":907,"new":1}}"#;
    let value: Value = serde_json::from_str(&value_of(&event("invoice_payment.updated", object))).unwrap();
    assert_eq!([&value["order_id"], &value["invoice_id"], &value["customer_id"]], ["o", "i", "c"]);
    let expected = json!({
        "id": "p", "invoice_id": "i", "merchant_id": null, "status": null, "settlement_status": null,
        "settlement": {"summary_status": null, "stage": null, "merchant_settlement_id": 907, "settlement_tx_hash": "t", "network": null, "status": null},
        "extra": {"amount_usd": 5, "settlement.new": 1},
    });
    assert_eq!(value["payment"], expected);
}

#[test]
fn dropped_members_leave_no_trace() {
    let object = r#"{"id":"o1","customerId":"secret1","customer_id":"secret2","shippingAddress":5,"shipping_address":{"firstName":"secret3"},
        "payment":{"new":"secret4","status":"secret5"},"refund":{"new":"secret6"},"refundStatus":"secret7","gift":"secret8","status":"open"}"#;
    let mut settings = settings();
    settings.drop = ["customer_id", "shipping_address", "payment", "refund", "gift"].map(str::to_owned).to_vec();
    let value = value_with(&event("commerce.order.updated", object), &settings).unwrap();
    assert!(!value.contains("secret"), "{value}");
    let value: Value = serde_json::from_str(&value).unwrap();
    for gone in ["/customer_id", "/order/customer_id", "/order/shipping_address", "/order/payment", "/order/refund"] {
        assert_eq!(value.pointer(gone), None, "{gone}");
    }
    assert_eq!((&value["order"]["status"], &value["order"]["extra"]), (&json!("open"), &json!({})));

    // Members of members have names of their own.
    settings.drop = vec!["status".to_owned()];
    let value = value_with(
        &event_with(
            "commerce.order.updated",
            r#"{"id":"o1","status":"a","refundStatus":"b","payment":{"status":"c"}}"#,
            r#"{"status":"d"}"#,
        ),
        &settings,
    );
    let value: Value = serde_json::from_str(&value.unwrap()).unwrap();
    assert_eq!((value.get("status"), value.get("previous_status"), value["order"].get("status")), (None, None, None));
    assert_eq!((&value["order"]["refund"]["status"], &value["order"]["payment"]["status"]), (&json!("b"), &json!("c")));

    settings.drop = vec!["id".to_owned(), "extra".to_owned()];
    let value: Value =
        serde_json::from_str(&value_with(&event("commerce.order.updated", r#"{"id":"o1","x":1}"#), &settings).unwrap())
            .unwrap();
    assert_eq!((&value["order_id"], value["order"].get("id"), value["order"].get("extra")), (&json!("o1"), None, None));
}

#[test]
fn every_member_that_a_value_has_can_be_dropped() {
    let fixtures = [
        ("commerce.order.updated", "order", r#"{"id":"o1","new":1}"#),
        ("invoice.updated", "invoice", r#"{"id":"i1","new":1}"#),
        ("invoice_payment.updated", "payment", r#"{"id":"p1","invoice_id":"i1","new":1}"#),
    ];
    let members = |event_type: &str, inside: &str, object: &str, settings: &Settings| -> BTreeSet<String> {
        let value = value_with(&event(event_type, object), settings).unwrap();
        let value: Value = serde_json::from_str(&value).unwrap();
        value[inside].as_object().unwrap().keys().cloned().collect()
    };
    let mut of_values = BTreeSet::new();
    for (event_type, inside, object) in fixtures {
        let whole = members(event_type, inside, object, &settings());
        for name in &whole {
            let without = Settings { drop: vec![name.clone()], ..settings() };
            let mut left = whole.clone();
            left.remove(name);
            assert_eq!(members(event_type, inside, object, &without), left, "{inside} without {name}");
        }
        of_values.extend(whole);
    }
    // What the setting takes is what values have, no more and no less.
    let taken: BTreeSet<String> = member_names().map(str::to_owned).collect();
    assert_eq!(taken, of_values);
}

#[test]
fn raw_is_the_object_in_one_spelling() {
    let mut settings = settings();
    settings.include_raw = true;
    let value =
        value_with(&event("commerce.order.updated", r#"{ "b" : 1.50, "id":"o1","a":{"\u007a":null} }"#), &settings)
            .unwrap();
    assert!(value.ends_with(r#","raw":{"a":{"z":null},"b":1.50,"id":"o1"}}"#), "{value}");
}

#[test]
fn half_an_emoji_does_not_stop_an_order() {
    assert_eq!(order(r#""retailer":"\ud83d","x":"a\ud83d\u0022""#, "/order/retailer"), "\u{fffd}");
}

#[test]
fn deep_nesting_is_refused_and_never_walked() {
    let nested = |depth: usize| format!(r#"{{"id":"o1","x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert!(value_of(&event("commerce.order.updated", &nested(124))).contains("[[[["));
    let text = event("commerce.order.updated", &nested(126));
    let undecodable = decode(text.as_bytes()).unwrap_err();
    assert_eq!((undecodable.reason, undecodable.id.as_deref()), (Reason::MalformedJson, Some("evt_1700000000000-123")));
}

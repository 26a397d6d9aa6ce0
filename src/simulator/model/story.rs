//! The story of the example payloads, driven through the model and compared with the files.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop")]

use super::*;
use serde_json::Value;
use std::path::Path;

/// Draws what the example payloads show.
struct Script {
    uuids: std::vec::IntoIter<&'static str>,
    hashes: std::vec::IntoIter<&'static str>,
}

impl Script {
    fn new() -> Self {
        let uuids = vec![
            "7b0f6a52-3c1e-4f55-9a6e-2d1f0c9e4a11",
            "c2a9e6d4-58b7-4f0a-8f33-91d7a0b64e20",
            "4d1e7a90-0b66-4a8a-b2b7-6f3c5e9d1177",
        ];
        let hashes = vec![
            "0x5c504ed432cb51138bcf09aa5e8a410dd4a1e204ef84bfed1be16dfba1b22060",
            "0x9fc76417374aa880d4449a1f7f31ec597f00b1f6f3dd2d66f4c9c6c445836d8b",
            "0x2f1c5c2b44f771e942a8506148e256f94f1a464babc938ae0690c6e34cd79190",
        ];
        Self { uuids: uuids.into_iter(), hashes: hashes.into_iter() }
    }
}

impl Chance for Script {
    fn uuid(&mut self) -> String {
        self.uuids.next().unwrap().into()
    }
    fn tx_hash(&mut self) -> String {
        self.hashes.next().unwrap().into()
    }
    fn wallet_address(&mut self) -> String {
        panic!("the story names its wallet")
    }
    fn settlement_id(&mut self) -> u64 {
        907
    }
    fn tracking_number(&mut self) -> String {
        panic!("the story names its tracking number")
    }
    fn retailer_tracking_number(&mut self) -> String {
        "TBA318845120000".into()
    }
}

struct Story {
    model: Model,
    script: Script,
    order_id: String,
}

const PAYER: &str = "0x52908400098527886E0F7030069857D2E4169EE7";

impl Story {
    fn begin(times: TimeForm) -> Self {
        let settings = ModelSettings {
            merchant_id: 4182,
            mainnet: false,
            times,
            invoice_lifetime_s: 1800,
            keep_ms: i64::MAX,
            keep_events: 100,
            requests_per_minute: None,
        };
        let mut model = Model::new(settings);
        model.add_endpoint("http://127.0.0.1:1/", Types::commerce(), "secret").unwrap();
        let mut script = Script::new();
        let product = find_product("B0D7KX91QZ").unwrap();
        let new = NewOrder {
            customer: Customer { customer_id: Some("cust_8842".into()), ..Customer::default() },
            items: vec![Line {
                product_id: product.id.into(),
                title: product.title.into(),
                image: product.image(),
                quantity: 2,
                price: product.price,
            }],
            shipping: Cents(299),
            fee: Cents(300),
            refund_destination: Some("0x8617E340B3D01FA5F11F306F4090FD50E238070D".into()),
        };
        let order_id = model.create_order(new, 1_768_471_200_101, &mut script).unwrap();
        Self { model, script, order_id }
    }

    fn take(&mut self, transition: &str, now_ms: i64) -> &mut Self {
        let details = Details {
            wallet_network: Some("bsc".into()),
            wallet_address: Some(PAYER.into()),
            carrier: Some("UPS".into()),
            tracking_number: Some("1Z999AA10123456784".into()),
        };
        let transition = Transition::parse(transition).unwrap();
        self.model.simulate(&self.order_id, transition, &details, now_ms, &mut self.script).unwrap();
        self
    }

    fn pay_and_settle(&mut self) -> &mut Self {
        self.model.see_payment(&self.order_id, 1_768_471_400_640, &mut self.script).unwrap();
        self.take("payment_confirmed", 1_768_471_440_402).take("payment_settled", 1_768_471_800_016)
    }

    /// The newest event of this kind is the file's; its id only where the model issues both at the same ms.
    fn is(&self, file: &str, same_id: bool) {
        let mut wanted = fixture(&format!("events/{file}.json"));
        let kind = wanted["type"].as_str().unwrap();
        let event = self.model.log().all().rev().find(|event| event.kind == kind).unwrap();
        let mut got: Value = serde_json::from_slice(&event.bytes).unwrap();
        assert_eq!(got["id"].as_str(), Some(event.id.as_str()));
        if !same_id {
            got["id"].take();
            wanted["id"].take();
        }
        assert_eq!(got, wanted, "{file}");
    }

    fn snapshot(&self) -> Value {
        serde_json::to_value(&self.model.order(&self.order_id).unwrap().snapshot).unwrap()
    }
}

fn fixture(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_delivered_order_is_the_files_member_for_member() {
    let mut story = Story::begin(TimeForm::Iso);
    story.is("invoice.created", true);
    story.is("commerce.order.created", false);
    story.model.see_payment(&story.order_id.clone(), 1_768_471_400_640, &mut story.script).unwrap();
    story.is("invoice_payment.created", true);
    story.take("payment_confirmed", 1_768_471_440_402);
    story.is("invoice.updated.paid", true);
    story.is("commerce.order.updated.processing", true);
    story.take("payment_settled", 1_768_471_800_016);
    story.is("invoice_payment.updated.settled", true);
    story.is("commerce.order.updated.settled", false);
    story.take("placed", 1_768_472_100_655);
    story.is("commerce.order.updated.placed", true);
    story.take("shipped", 1_768_476_600_090);
    story.is("commerce.order.updated.shipped", false);
    story.take("delivery_confirmed", 1_768_651_200_811);
    story.is("commerce.order.updated.delivered", true);
    assert_eq!(story.model.take_issued().len(), 10);
}

#[test]
fn the_branches_are_the_files_too() {
    let mut failed = Story::begin(TimeForm::Iso);
    failed.pay_and_settle().take("failed", 1_768_472_100_701);
    failed.is("commerce.order.updated.failed", true);

    let mut cancelled = Story::begin(TimeForm::Iso);
    cancelled.pay_and_settle().take("placed", 1_768_472_100_655).take("cancelled", 1_768_472_700_333);
    cancelled.is("commerce.order.updated.cancelled", true);
    cancelled.take("refunded", 1_768_473_900_012);
    cancelled.is("commerce.order.updated.refunded", true);

    let mut unpaid = Story::begin(TimeForm::Iso);
    unpaid.model.expire_due(1_768_472_999_999);
    assert_eq!(unpaid.model.log().all().count(), 2, "one millisecond before its time it is open");
    unpaid.model.expire_due(1_768_473_000_005);
    unpaid.is("invoice.updated.expired", true);

    let mut short = Story::begin(TimeForm::Iso);
    let payer =
        Details { wallet_network: Some("bsc".into()), wallet_address: Some(PAYER.into()), ..Details::default() };
    let order_id = short.order_id.clone();
    short.model.underpay(&order_id, 20_000, &payer, 1_768_471_380_250, &mut short.script).unwrap();
    short.is("invoice.updated.underpaid", true);
}

#[test]
fn unix_seconds_and_list_rows_are_the_files_too() {
    let mut story = Story::begin(TimeForm::UnixSeconds);
    story.pay_and_settle();
    story.is("invoice.updated.paid.unix-seconds", true);
    story.take("placed", 1_768_472_100_655).take("shipped", 1_768_476_600_090);
    assert_eq!(story.snapshot(), fixture("rest/order-get.shipped.unix-seconds.json")["data"]);
    let row = serde_json::to_value(story.model.orders().next().unwrap().snapshot.row()).unwrap();
    assert_eq!(row, fixture("rest/orders-list.json")["data"]["orders"][0]);
    let mut early = Story::begin(TimeForm::Iso);
    early.take("payment_confirmed", 1_768_471_440_402);
    let row = serde_json::to_value(early.model.orders().next().unwrap().snapshot.row()).unwrap();
    assert_eq!(row, fixture("rest/orders-list.iso-variant.json")["data"]["orders"][0]);
}

#[test]
fn every_step_is_refused_outside_its_state_and_changes_nothing() {
    // Paths to each state, and the steps that the provider allows there.
    let states: [(&[&str], &[&str]); 8] = [
        (&[], &["payment_confirmed"]),
        (&["payment_confirmed"], &["payment_settled", "failed"]),
        (&["payment_confirmed", "payment_settled"], &["placed", "failed"]),
        (&["payment_confirmed", "payment_settled", "placed"], &["shipped", "cancelled"]),
        (&["payment_confirmed", "payment_settled", "placed", "shipped"], &["delivery_confirmed"]),
        (&["payment_confirmed", "payment_settled", "placed", "shipped", "delivery_confirmed"], &[]),
        (&["payment_confirmed", "failed"], &["refunded"]),
        (&["payment_confirmed", "payment_settled", "placed", "cancelled", "refunded"], &[]),
    ];
    for (path, allowed) in states {
        for transition in Transition::ALL {
            let mut story = Story::begin(TimeForm::Iso);
            for step in path {
                story.take(step, 1_768_472_000_000);
            }
            let before = story.snapshot();
            let count = story.model.take_issued().len();
            assert!(count > 0);
            let details = Details::default();
            let order_id = story.order_id.clone();
            let mut chance = Seeded::new(1);
            let result = story.model.simulate(&order_id, transition, &details, 1_768_472_000_001, &mut chance);
            assert_eq!(result.is_ok(), allowed.contains(&transition.as_str()), "{path:?} then {transition:?}");
            let orders: Vec<_> = story.model.take_issued();
            let orders = orders.iter().filter(|event| event.kind == "commerce.order.updated").count();
            assert_eq!(orders, usize::from(result.is_ok()), "one order event a step, none for a refusal");
            assert_eq!(before == story.snapshot(), result.is_err());
        }
    }
}

#[test]
fn a_refusal_has_the_words_of_the_provider() {
    let mut story = Story::begin(TimeForm::Iso);
    let order_id = story.order_id.clone();
    let refused = |model: &mut Model, transition, order: &str| {
        model.simulate(order, transition, &Details::default(), 1, &mut Seeded::new(1)).unwrap_err()
    };
    let wanted = fixture("errors/400.invalid-transition.json")["error"]["message"].as_str().unwrap().to_owned();
    assert_eq!(refused(&mut story.model, Transition::Cancelled, &order_id), Refused::Invalid(wanted));
    let wanted = fixture("errors/404.not-found.json")["error"]["message"].clone();
    assert_eq!(refused(&mut story.model, Transition::Placed, "none").to_string(), wanted.as_str().unwrap());
    story.model.settings.mainnet = true;
    let forbidden = refused(&mut story.model, Transition::PaymentConfirmed, &order_id);
    assert!(matches!(forbidden, Refused::Forbidden(_)));
}

#[test]
fn a_cancel_request_waits_for_its_outcome() {
    let mut story = Story::begin(TimeForm::Iso);
    let order_id = story.order_id.clone();
    assert!(story.model.request_cancellation(&order_id, None, 1).is_err());
    story.pay_and_settle().take("placed", 1_768_472_100_655);
    story.model.request_cancellation(&order_id, None, 1_768_472_200_000).unwrap();
    let order = story.snapshot();
    assert_eq!(order["substatus"], "CANCELLATION_REQUESTED");
    assert_eq!((&order["status"], &order["actions"]["canCancel"]), (&"placed".into(), &false.into()));
    assert!(story.model.request_cancellation(&order_id, None, 1_768_472_200_001).is_err());
    story.take("shipped", 1_768_476_600_090);
    assert_eq!(story.snapshot()["cancellationStatus"], "rejected");
}

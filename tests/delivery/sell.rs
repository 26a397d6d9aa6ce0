//! The whole of it, as an integrator types it: what is sold with the commands, lived through on devnet, and read out of
//! Kafka is the same thing everywhere.

use crate::support::kafka::Broker;
use crate::support::process::run;
use crate::support::records::committed;
use crate::support::relay::{Rig, drain};
use pepay_relay::labels::Topic;
use serde_json::Value;

const BSC: &str = "0x52908400098527886E0F7030069857D2E4169EE7";

/// Three lives that take all eight transitions, and how they end.
const LIVES: [(&[&str], &str, &str); 3] = [
    (&["payment_confirmed", "payment_settled", "placed", "shipped", "delivery_confirmed"], "delivered", "NONE"),
    (&["payment_confirmed", "payment_settled", "placed", "cancelled", "refunded"], "cancelled", "REFUNDED"),
    (&["payment_confirmed", "failed"], "failed", "NONE"),
];

/// The objects that a command prints as JSON, one a line.
async fn lines(rig: &Rig, arguments: &[&str]) -> Vec<Value> {
    let (status, stdout, stderr) = run(rig, &[arguments, &["--output", "json"]].concat()).await;
    assert_eq!(status, Some(0), "{arguments:?}: {stderr}");
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// An order by `checkout create`, and its invoice.
async fn sold(rig: &Rig) -> (String, String) {
    let home = ["--first-name", "Ada", "--last-name", "Example", "--street-address", "1 Test Plaza", "--city", "Miami"];
    let more = ["--zip-code", "33101", "--country", "US", "--customer-id", "cust_8842"];
    let create = [&["checkout", "create", "B0D7KX91QZ:2"], &home[..], &more].concat();
    let made = lines(rig, &create).await.pop().unwrap();
    let id = |name: &str| made[name].as_str().unwrap().to_owned();
    (id("orderId"), id("invoiceId"))
}

/// One line of `simulate`, and the order as it is then.
async fn step(rig: &Rig, order: &str, transition: &str) -> Value {
    let wallet = ["--wallet-network", "bsc", "--wallet-address", BSC];
    let simulate = ["devnet", "simulate", order, transition];
    let more = if transition == "payment_confirmed" { &wallet[..] } else { &[] };
    lines(rig, &[&simulate, more].concat()).await.remove(0)["order"].clone()
}

/// What `tail` shows of an order on a topic, from the beginning, `count` records.
async fn tail(rig: &Rig, topic: &str, order: &str, count: usize) -> Vec<Value> {
    let count = count.to_string();
    lines(rig, &["tail", "--topic", topic, "--from", "beginning", "--order", order, "--count", &count]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_provider_kafka_and_the_checklist_agree_on_what_was_sold() {
    let rig = Rig::new(Broker::shared().bootstrap(), "sell").await;
    let daemon = rig.daemon().await;
    for (life, end, refund) in LIVES {
        let (order, invoice) = sold(&rig).await;
        let mut statuses = vec!["pending_payment".to_owned()];
        for transition in life {
            let now = step(&rig, &order, transition).await;
            statuses.push(now["status"].as_str().unwrap().to_owned());
        }
        rig.until_delivered().await;

        let shown = lines(&rig, &["orders", "get", &order]).await.remove(0);
        assert_eq!((shown["status"].as_str(), shown["refundStatus"].as_str()), (Some(end), Some(refund)));
        let records = tail(&rig, "orders", &order, statuses.len()).await;
        let told: Vec<&str> = records.iter().map(|record| record["value"]["status"].as_str().unwrap()).collect();
        assert_eq!(told, statuses, "a record a step, in order");
        let last = &records.last().unwrap()["value"]["order"];
        for (ours, theirs) in [
            (&last["id"], &shown["orderId"]),
            (&last["invoice_id"], &shown["invoiceId"]),
            (&last["status"], &shown["status"]),
            (&last["substatus"], &shown["substatus"]),
            (&last["total"]["amount"], &shown["totalAmountUsd"]),
            (&last["payment"]["tx_hash"], &shown["payment"]["txHash"]),
            (&last["payment"]["settlement"]["status"], &shown["payment"]["settlement"]["status"]),
            (&last["wallet_address"], &shown["walletAddress"]),
            (&last["refund"]["tx_hash"], &shown["refund"]["txHash"]),
        ] {
            assert_eq!(ours, theirs, "{end}");
        }
        let steps = |order: &Value| order["timeline"].as_array().unwrap().len();
        assert_eq!(steps(last), steps(&shown), "{end}");
        let latest = committed(&rig.config, Topic::OrdersLatest).await;
        let latest = latest.iter().rfind(|record| record.key == order).unwrap().json();
        assert_eq!(latest["order"], *last, "the newest of the order");
        // Its payments name the invoice alone.
        let invoices = tail(&rig, "invoices", &order, 2).await;
        assert!(invoices.iter().all(|record| record["value"]["invoice_id"] == invoice.as_str()), "{invoices:?}");
        assert_eq!(lines(&rig, &["payments", "status", &order]).await[0]["orderStatus"], end);
        let listed = &lines(&rig, &["orders", "list", "--limit", "1"]).await[0]["orders"][0];
        assert_eq!((listed["orderId"].as_str(), listed["status"].as_str()), (Some(&*order), Some(end)));
    }

    let before = rig.simulator.events().len();
    let report = lines(&rig, &["smoke"]).await.remove(0);
    let row = report["rows"].as_array().unwrap().iter().find(|row| row["row"] == "kafka").unwrap();
    let made = rig.simulator.events().len() - before;
    assert_eq!(row["message"], format!("{made} events in Kafka, each once, by the running relay"), "{report:#}");
    assert_eq!(report["passed"], true);
    rig.assert_delivered().await;
    drain(daemon).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancellation_that_is_asked_for_twice_with_one_key_is_one_record() {
    let rig = Rig::new(Broker::shared().bootstrap(), "sell-cancel").await;
    let daemon = rig.daemon().await;
    let (order, _) = sold(&rig).await;
    for transition in &LIVES[0].0[..3] {
        step(&rig, &order, transition).await;
    }
    let cancel = ["orders", "cancel", &order, "--idempotency-key", "5f0c1f1e-63d3-4c0b-9d0a-0e2b6c9a7f21"];
    let first = lines(&rig, &cancel).await;
    let second = lines(&rig, &cancel).await;
    assert_eq!(first, second, "the first answer again");
    rig.until_delivered().await;
    let records = tail(&rig, "orders", &order, 5).await;
    let asked = |record: &&Value| record["value"]["order"]["cancellation_status"] == "requested";
    assert_eq!(records.iter().filter(asked).count(), 1);
    rig.assert_delivered().await;
    drain(daemon).await;
}

//! `replay` and `forget`: what they write alongside a relay, and what they leave alone.

use crate::support::kafka::Broker;
use crate::support::process::run;
use crate::support::records::{Record, committed};
use crate::support::relay::{PATIENCE, Rig, drain, until};
use pepay_relay::kafka::consume::{Follow, StartAt};
use pepay_relay::labels::Topic;
use pepay_relay::simulator::Transition;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

async fn json(rig: &Rig, arguments: &[&str]) -> Value {
    let (status, stdout, stderr) = run(rig, &[arguments, &["--output", "json"]].concat()).await;
    assert_eq!(status, Some(0), "{arguments:?}: {stderr}");
    serde_json::from_str(&stdout).unwrap()
}

fn replayed(records: &[Record]) -> Vec<&Record> {
    records.iter().filter(|record| !record.header("relay_replay").is_empty()).collect()
}

fn lived(rig: &Rig) -> String {
    let order = rig.simulator.create_order().unwrap();
    for step in Transition::LIFE {
        rig.simulator.simulate(&order, step).unwrap();
    }
    order
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_published_again_alongside_a_relay_that_goes_on() {
    let rig = Rig::new(Broker::shared().bootstrap(), "replay").await;
    let daemon = rig.daemon().await;
    let order = lived(&rig);
    let other = lived(&rig);
    rig.until_delivered().await;
    let latest = committed(&rig.config, Topic::OrdersLatest).await.len();
    let before = committed(&rig.config, Topic::Orders).await;

    let dry = json(&rig, &["replay", "--from", "1h"]).await;
    let of = |topic: &str, report: &Value| report["records"][topic].as_u64().unwrap() as usize;
    assert_eq!(of("orders", &dry), before.len());
    assert_eq!(
        (of("orders", &dry) + of("invoices", &dry), &dry["replay"]),
        (rig.simulator.events().len(), &Value::Null)
    );
    assert_eq!(committed(&rig.config, Topic::Orders).await.len(), before.len(), "a dry run writes nothing");

    let report = json(&rig, &["replay", "--order", &order, "--yes"]).await;
    let orders = committed(&rig.config, Topic::Orders).await;
    let again = replayed(&orders);
    assert_eq!(again.len(), of("orders", &report));
    for record in &again {
        assert_eq!(record.key, order);
        assert_eq!(record.header("relay_replay"), report["replay"].as_str().unwrap());
        assert_eq!((record.header("relay_leg"), record.is_stale()), ("replay", true));
        let first = before.iter().find(|first| first.header("ce_id") == record.header("ce_id")).unwrap();
        assert_eq!((&record.value, record.partition), (&first.value, first.partition), "the same value");
    }
    let order_of = |records: &[&Record]| records.iter().map(|r| r.header("ce_id").to_owned()).collect::<Vec<_>>();
    let mut sorted = order_of(&again);
    sorted.sort_unstable();
    assert_eq!(order_of(&again), sorted, "oldest first");
    let invoices = committed(&rig.config, Topic::Invoices).await;
    let invoice = rig.simulator.order(&order).unwrap().invoice_id;
    let keys: BTreeSet<&str> = replayed(&invoices).iter().map(|record| record.key.as_str()).collect();
    assert_eq!(keys, BTreeSet::from([invoice.as_str()]));

    let one = before.iter().find(|record| record.key == other).unwrap().header("ce_id").to_owned();
    let report = json(&rig, &["replay", "--event", &one, "--yes"]).await;
    assert_eq!((of("orders", &report), report["newest"].as_str()), (1, Some(one.as_str())));

    // The relay was not fenced, took none of it for its own, and `latest` was left alone.
    assert_eq!(committed(&rig.config, Topic::OrdersLatest).await.len(), latest);
    lived(&rig);
    rig.until_delivered().await;
    drain(daemon).await;
}

/// Offsets that a topic has given out so far: one a record, and one a partition and transaction for its end.
fn offsets(rig: &Rig, topic: Topic) -> i64 {
    let name = rig.config.kafka.topics.name(topic).unwrap();
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &rig.config.kafka.bootstrap_servers)
        .set("log_level", "0")
        .create()
        .unwrap();
    let wait = Duration::from_secs(30);
    let partitions = consumer.fetch_metadata(Some(name), wait).unwrap().topics()[0].partitions().len();
    (0..partitions).map(|number| consumer.fetch_watermarks(name, i32::try_from(number).unwrap(), wait).unwrap().1).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_a_transaction_and_people_see_what_was_done() {
    let mut rig = Rig::new(Broker::shared().bootstrap(), "replay-pages").await;
    rig.config.kafka.partitions = 1;
    drain(rig.daemon().await).await;
    let before = offsets(&rig, Topic::Orders);
    // 450 events are five pages, each with orders in it.
    (0..45).for_each(|_| drop(lived(&rig)));
    let (status, told, stderr) = run(&rig, &["replay", "--from", "1h", "--yes"]).await;
    assert_eq!((status, stderr.as_str()), (Some(0), ""), "no bar where nobody looks");
    let records = committed(&rig.config, Topic::Orders).await;
    let ends = offsets(&rig, Topic::Orders) - before - i64::try_from(records.len()).unwrap();
    assert_eq!((records.len(), ends), (270, 5), "each page is committed before the next");
    let issued = rig.simulator.events();
    let first = &issued[0].id;
    let last = &issued[449].id;
    let orders = &rig.config.kafka.topics.orders;
    let invoices = &rig.config.kafka.topics.invoices;
    let id = records[0].header("relay_replay");
    assert_eq!(
        told,
        format!(
            "published 270 events to {orders}\npublished 180 events to {invoices}\noldest {first}, newest {last}\n\
             the provider's log does not show anything from before --from: it may have forgotten some\n\
             each record carries relay_replay {id}\n"
        )
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_a_replay_published_the_relay_still_publishes() {
    let rig = Rig::new(Broker::shared().bootstrap(), "replay-first").await;
    drain(rig.daemon().await).await;
    let order = lived(&rig);
    let report = json(&rig, &["replay", "--order", &order, "--yes"]).await;
    assert!(report["records"]["orders"].as_u64().unwrap() > 0);
    assert_eq!(committed(&rig.config, Topic::OrdersLatest).await.len(), 0);
    let daemon = rig.daemon().await;
    let issued = rig.simulator.events().len();
    crate::support::relay::until("the relay's own records", || {
        daemon.metrics.outcomes(pepay_relay::labels::Leg::Backfill, pepay_relay::labels::Outcome::Published)
            + daemon.metrics.outcomes(pepay_relay::labels::Leg::Websocket, pepay_relay::labels::Outcome::Published)
            == issued as u64
    })
    .await;
    let latest = committed(&rig.config, Topic::OrdersLatest).await;
    assert_eq!(latest.last().unwrap().json()["status"], "delivered");
    drain(daemon).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_of_what_is_not_there_is_an_error() {
    let rig = Rig::new(Broker::shared().bootstrap(), "replay-none").await;
    let (status, _, stderr) = run(&rig, &["replay", "--from", "1h", "--yes"]).await;
    assert_eq!(status, Some(78), "{stderr}");
    assert!(stderr.contains("pepay-relay topics --create"), "{stderr}");
    for (arguments, sentence) in [
        (&["replay", "--event", "evt_1-0"][..], "404"),
        (&["replay", "--order", "nobody"], "404"),
        (&["replay", "--from", "1h", "--to", "2h"], "--to lies before --from"),
    ] {
        let (status, stdout, stderr) = run(&rig, arguments).await;
        assert_eq!((status, stdout.as_str()), (Some(1), ""), "{arguments:?}");
        assert!(stderr.contains(sentence), "{arguments:?}: {stderr}");
    }
    let (status, stdout, _) = run(&rig, &["replay", "--from", "1h"]).await;
    assert_eq!(status, Some(0));
    assert!(stdout.starts_with("no event of the provider's log to publish\n"), "{stdout}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_forgotten_in_every_partition_that_holds_it() {
    let rig = Rig::new(Broker::shared().bootstrap(), "forget-all").await;
    drain(rig.daemon().await).await;
    let topic = &rig.config.kafka.topics.orders_latest;
    let key = "order-1";
    // As after the topic got more partitions: an old value in one, a newer one in another.
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", Broker::shared().bootstrap()).create().unwrap();
    for partition in [1, 4] {
        let value = format!(r#"{{"status":"of {partition}"}}"#);
        producer.send(BaseRecord::to(topic).partition(partition).key(key).payload(&value)).unwrap();
        producer.flush(PATIENCE).unwrap();
    }
    let told = json(&rig, &["forget", "--order", key, "--yes"]).await;
    assert_eq!((&told["held"]["status"], &told["forgotten"]), (&"of 4".into(), &true.into()));
    let newest: BTreeMap<i32, bool> = committed(&rig.config, Topic::OrdersLatest)
        .await
        .into_iter()
        .filter(|record| record.key == key)
        .map(|record| (record.partition, record.value.is_none()))
        .collect();
    assert_eq!(newest, BTreeMap::from([(1, true), (4, true)]), "a tombstone in each");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_that_are_added_are_followed() {
    let rig = Rig::new(Broker::shared().bootstrap(), "added").await;
    drain(rig.daemon().await).await;
    let topic = &rig.config.kafka.topics.orders;
    let mut follow = Follow::start(&rig.config, &rig.secrets, topic, StartAt::End).await.unwrap();
    let settings = ClientConfig::new().set("bootstrap.servers", Broker::shared().bootstrap()).clone();
    let admin: AdminClient<DefaultClientContext> = settings.create().unwrap();
    let added = admin.create_partitions([&NewPartitions::new(topic, 7)], &AdminOptions::new()).await.unwrap();
    added[0].as_ref().unwrap();
    let producer: BaseProducer = settings.create().unwrap();
    // A client that does not know of the partition yet refuses it.
    let send = || producer.send(BaseRecord::<str, str>::to(topic).partition(6).key("k").payload("{}")).is_ok();
    until("the producer knows of the partition", send).await;
    producer.flush(PATIENCE).unwrap();
    let record = tokio::time::timeout(PATIENCE, follow.next()).await.expect("in time").unwrap().unwrap();
    assert_eq!(record.partition, 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_forgotten_and_a_later_event_writes_it_again() {
    let rig = Rig::new(Broker::shared().bootstrap(), "forget").await;
    let daemon = rig.daemon().await;
    let order = rig.simulator.create_order().unwrap();
    rig.simulator.simulate(&order, Transition::LIFE[0]).unwrap();
    rig.until_delivered().await;
    let held = json(&rig, &["forget", "--order", &order]).await;
    assert_eq!((&held["held"]["status"], &held["forgotten"]), (&"processing".into(), &false.into()));
    let newest =
        async || committed(&rig.config, Topic::OrdersLatest).await.into_iter().rfind(|r| r.key == order).unwrap();
    assert!(newest().await.value.is_some(), "without --yes nothing is written");
    assert_eq!(json(&rig, &["forget", "--order", &order, "--yes"]).await["forgotten"], true);
    assert_eq!(newest().await.value, None, "a tombstone");
    let again = json(&rig, &["forget", "--order", &order, "--yes"]).await;
    assert_eq!((&again["held"], &again["forgotten"]), (&Value::Null, &false.into()));
    rig.simulator.simulate(&order, Transition::LIFE[1]).unwrap();
    rig.until_delivered().await;
    assert_eq!(newest().await.json()["status"], "processing", "written anew");
    let latest = &rig.config.kafka.topics.orders_latest;
    let (_, stdout, _) = run(&rig, &["forget", "--order", "nobody"]).await;
    assert_eq!(stdout, format!("{latest} holds nothing of order nobody\n"));
    let (_, stdout, _) = run(&rig, &["forget", "--order", &order, "--utc"]).await;
    let lines: Vec<&str> = stdout.lines().collect();
    let holds = format!("{latest} holds order {order}: `processing`, published 20");
    assert!(lines[0].starts_with(&holds) && lines[0].ends_with(" UTC"), "{stdout}");
    assert!(lines[1].starts_with("nothing was written; add --yes to write a tombstone"), "{stdout}");
    drain(daemon).await;
}

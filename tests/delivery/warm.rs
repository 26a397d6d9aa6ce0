//! The warm start: what is read back, what is not, and what an operator sees of it.

use super::publish::{batch, start, unique};
use crate::support::foreign::{open_transaction, write_at};
use crate::support::kafka::Broker;
use crate::support::process::Process;
use crate::support::proxy::{END_TXN, Fault, LIST_OFFSETS, Proxy};
use crate::support::relay::{Rig, get};
use crate::support::settings::{config, secrets};
use crate::support::systemd::Systemd;
use pepay_relay::clock::now_ms;
use pepay_relay::kafka::recover::{Progress, read_back};
use pepay_relay::kafka::shard::Shard;
use pepay_relay::kafka::{Verdict, topics};
use pepay_relay::labels::Topic;
use pepay_relay::relay::start::read_back_from;
use rdkafka::producer::Producer;
use serde_json::Value;
use std::time::Duration;

const HOUR_MS: i64 = 3_600_000;
const WINDOW: Duration = Duration::from_secs(72 * 3600);

/// However long the control topic is, what lies before the window is not read. Counted, not timed.
#[tokio::test]
async fn records_before_the_window_are_not_read() {
    const OLD: usize = 30_000;
    const NEW: usize = 600;
    let config = config(Broker::shared().bootstrap(), &unique("length"));
    topics::ensure(&config, &secrets(None)).await.unwrap();
    let bootstrap = config.kafka.bootstrap_servers.clone();
    let topic = config.kafka.topics.control.clone();
    let long_ago = now_ms() - 100 * HOUR_MS;
    let old = (0..OLD).map(|n| format!("evt_1-{n}"));
    tokio::task::spawn_blocking(move || write_at(&bootstrap, &topic, long_ago, old)).await.unwrap();
    let (mut publisher, _) = start(&config).await;
    for n in 0..NEW / 100 {
        let ids = (0..100).map(|m| format!("evt_2-{}", n * 100 + m));
        publisher.submit(batch(&config, ids, b"{}"), false);
        assert!(matches!(publisher.verdict().await.1, Ok(Verdict::Committed { .. })));
    }

    let read = async |from_ms| {
        read_back(&config, &secrets(None), None, Shard::SOLE, from_ms, |_, _| (), |_: Progress<'_>| ()).await.unwrap()
    };
    let all = read(0).await;
    assert!(all.offsets as usize >= OLD);
    let window = read(read_back_from(now_ms(), None, None, WINDOW)).await;
    // The claim's checkpoint, and of each batch its journal and its checkpoint.
    assert_eq!(window.records as usize, 1 + 2 * NEW / 100);
    // Alongside them the marks and the marker of each transaction, and what the start wrote to see whether it may.
    assert!(window.offsets as usize <= 2 + 4 * NEW / 100 + 4, "{window:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_transaction_that_the_start_waits_for_is_named() {
    let rig = Rig::new(Broker::shared().bootstrap(), "named").await;
    // So that the topics are there, with something to read back.
    let first = Process::ready(&rig).await;
    rig.simulator.create_order().unwrap();
    rig.until_delivered().await;
    first.stop().await;
    let bootstrap = rig.config.kafka.bootstrap_servers.clone();
    let control = rig.config.kafka.topics.control.clone();
    let topic = control.clone();
    let foreign = tokio::task::spawn_blocking(move || open_transaction(&bootstrap, &topic)).await.unwrap();

    let mut systemd = Systemd::start();
    let mut relay = Process::start_with(&rig, &[], &[("NOTIFY_SOCKET", systemd.path())]);
    let status = systemd.next("STATUS=reading back: ").await;
    assert!(status.contains(" of ") && status.contains(" records"), "{status}");
    let place =
        format!("another writer's transaction on {control}[0] (its transaction.timeout.ms, at most 16 minutes)");
    let ready = format!("http://{}/readyz", rig.config.admin.listen);
    let began = std::time::Instant::now();
    let body = loop {
        let body: Value = serde_json::from_str(&get(&ready).await).unwrap();
        if body["waiting_for"].as_array().is_some_and(|all| all.len() == 2 && all[0] == "window") {
            break body;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "never named: {body}\n{}", relay.said());
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(body, serde_json::json!({ "ready": false, "waiting_for": ["window", place] }));
    let named = format!("waiting for {place}\n");
    // The progress so far may come first.
    while !systemd.next("STATUS=reading back: ").await.ends_with(&named) {}
    let webhook = rig.post(b"{}").await;
    assert_eq!((webhook.status, webhook.body.as_str()), (503, r#"{"error":"starting"}"#));

    tokio::task::spawn_blocking(move || foreign.abort_transaction(Duration::from_secs(30)).unwrap()).await.unwrap();
    relay.line("relay ready").await;
    assert_eq!(serde_json::from_str::<Value>(&get(&ready).await).unwrap()["ready"], true);
    systemd.next("READY=1").await;
    systemd.next("STATUS=ready: ").await;
    relay.stop().await;
    rig.assert_delivered().await;
}

/// All that a start asks about offsets after its rehearsal is where its window begins and ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_kafka_does_not_answer_is_logged_and_goes_on() {
    let proxy = Proxy::start();
    let _broker = Broker::start_behind(&proxy);
    let rig = Rig::new(&proxy.address().to_string(), "unanswered-warm").await;
    Process::ready(&rig).await.stop().await;
    let asked = async |api| {
        let proxy = proxy.clone();
        tokio::task::spawn_blocking(move || proxy.wait_for(api)).await.unwrap();
    };
    proxy.set(&[Fault::HoldRequests(END_TXN)], None);
    let mut relay = Process::start(&rig);
    asked(END_TXN).await;
    proxy.set(&[Fault::LoseRequests(LIST_OFFSETS)], None);
    let line = relay.line("the start waits for kafka").await;
    assert!(line["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{line}");
    assert_eq!(relay.count("relay ready"), 0, "{}", relay.said());
    proxy.clear();
    relay.line("relay ready").await;
    assert_eq!(relay.count("the start waits for kafka"), 1, "{}", relay.said());
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_that_had_to_make_room_raise_an_alarm_at_a_start_and_while_running() {
    const IDS_MAX: usize = 1_000;
    const MORE: usize = 250;
    let mut rig = Rig::new(Broker::shared().bootstrap(), "room").await;
    rig.config.dedup.ids_max = IDS_MAX;
    let (mut publisher, _) = start(&rig.config).await;
    publisher.submit(batch(&rig.config, (0..IDS_MAX + MORE).map(|n| format!("evt_1-{n}")), b"{}"), false);
    assert!(matches!(publisher.verdict().await.1, Ok(Verdict::Committed { .. })));
    assert!(publisher.close(Duration::from_secs(10)).await);

    let mut relay = Process::ready(&rig).await;
    assert_eq!(relay.line("window read back").await["ids"], IDS_MAX);
    let alarm = relay.line("event ids forgotten before their time: raise dedup.ids_max").await;
    assert_eq!((&alarm["ids"], &alarm["level"]), (&MORE.into(), &"WARN".into()));
    let metrics = format!("http://{}/metrics", rig.config.admin.listen);
    let early = async || -> u64 {
        let text = get(&metrics).await;
        let value = text.lines().find_map(|line| line.strip_prefix("pepay_relay_dedup_evicted_early_total "));
        value.unwrap().parse().unwrap()
    };
    assert_eq!(early().await, MORE as u64);
    let order = rig.simulator.create_order().unwrap();
    rig.simulator.simulate(&order, pepay_relay::simulator::Transition::PaymentConfirmed).unwrap();
    rig.until_delivered().await;
    let issued = rig.simulator.events().len() as u64;
    let began = std::time::Instant::now();
    while early().await < MORE as u64 + issued {
        assert!(began.elapsed() < Duration::from_secs(30), "every new id needs room: {} {issued}", early().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    relay.stop().await;
    let records = crate::support::records::committed(&rig.config, Topic::Orders).await;
    assert!(records.len() > IDS_MAX + MORE);
}

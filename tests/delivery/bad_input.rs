//! What bad input gets: nothing panics, nothing is lost silently, every answer names the remedy.

use crate::support::kafka::{Broker, USER};
use crate::support::process::Process;
use crate::support::records::{Record, committed};
use crate::support::relay::{PATIENCE, Rig, drain, event_id, order_event, until};
use pepay_relay::labels::{Cause, Leg, Outcome, Topic};
use pepay_relay::telemetry::LegState;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

async fn dead_letters(rig: &Rig) -> BTreeMap<String, Record> {
    let records = committed(&rig.config, Topic::DeadLetter).await;
    let count = records.len();
    let letters: BTreeMap<_, _> = records.into_iter().map(|record| (record.key.clone(), record)).collect();
    assert_eq!(letters.len(), count, "each once");
    letters
}

fn without(mut event: Value, pointer: &str, member: &str) -> String {
    event.pointer_mut(pointer).unwrap().as_object_mut().unwrap().remove(member).unwrap();
    event.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_are_no_event_become_dead_letters_once_and_the_stream_goes_on() {
    let mut rig = Rig::new(Broker::shared().bootstrap(), "frames").await;
    rig.config.websocket.idle_timeout = PATIENCE;
    let daemon = rig.daemon().await;
    rig.simulator.wait_for_connections(1).await;
    let mut unknown = order_event("evt_5-1", "o");
    unknown["type"] = "payment_quote.updated".into();
    let mut elsewhere = order_event("evt_5-2", "o");
    elsewhere["data"]["object"]["environment"] = "mainnet".into();
    let frames = [
        ("malformed_json", "{\"object\":\"event\"".to_owned(), None),
        ("not_an_event", "[1,2,3]".to_owned(), None),
        ("missing_field", without(order_event("evt_5-0", "o"), "", "id"), None),
        ("missing_field", without(order_event("evt_5-3", "o"), "/data/object", "orderId"), Some("evt_5-3")),
        ("unknown_type", unknown.to_string(), Some("evt_5-1")),
        ("wrong_environment", elsewhere.to_string(), Some("evt_5-2")),
    ];
    let faults = rig.simulator.faults();
    for (_, frame, _) in frames.iter().chain(&frames) {
        faults.send_text(frame);
    }
    faults.send_binary(&b"\xff\xfe\x00"[..]);
    rig.simulator.create_order().unwrap();
    rig.until_delivered().await;
    let letters = dead_letters(&rig).await;
    assert_eq!(letters.len(), frames.len() + 1);
    for (reason, frame, id) in &frames {
        let letter = letters.values().find(|letter| letter.value.as_deref() == Some(frame.as_bytes())).unwrap();
        assert_eq!((letter.header("relay_reason"), letter.header("relay_leg")), (*reason, "websocket"));
        assert!(!letter.header("relay_detail").is_empty());
        assert!(id.map_or(letter.key.starts_with("sha256:"), |id| letter.key == id), "{}", letter.key);
    }
    let binary = letters.values().find(|letter| letter.value.as_deref() == Some(&b"\xff\xfe\x00"[..])).unwrap();
    assert_eq!(binary.header("relay_reason"), "malformed_json");
    assert_eq!(rig.simulator.connections_made(), 1, "the stream goes on");
    let metrics = drain(daemon).await;
    assert_eq!(metrics.outcomes(Leg::Websocket, Outcome::DeadLettered) as usize, frames.len() + 1);
    // The timer's walk may have brought the order's events first.
    assert!(metrics.outcomes(Leg::Websocket, Outcome::Duplicate) as usize >= frames.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_over_the_limit_costs_the_connection_and_the_log_brings_its_event() {
    let mut rig = Rig::new(Broker::shared().bootstrap(), "oversize").await;
    rig.config.websocket.frame_bytes_max = 16 << 10;
    let daemon = rig.daemon().await;
    rig.simulator.wait_for_connections(1).await;
    let mut large = order_event(&event_id(0), "order-large");
    large["data"]["object"]["note"] = "x".repeat(20 << 10).into();
    rig.simulator.publish_custom(large).unwrap();
    until("the connection is closed", || daemon.metrics.reconnects(Cause::TooLarge) > 0).await;
    rig.until_delivered().await;
    let orders = committed(&rig.config, Topic::Orders).await;
    assert_eq!((orders.len(), orders[0].header("relay_leg")), (1, "backfill"));
    let back = |connections: usize| connections == 1;
    until("the socket is back", || back(rig.simulator.connections())).await;
    drain(daemon).await;
    rig.assert_delivered().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signed_garbage_is_kept_once_and_unsigned_events_not_at_all() {
    let rig = Rig::new(Broker::shared().bootstrap(), "garbage").await;
    let daemon = rig.daemon().await;
    for answer in [r#"{"ok":true}"#, r#"{"ok":true,"duplicate":true}"#] {
        let got = rig.post(b"garbage").await;
        assert_eq!((got.status, got.body.as_str()), (200, answer));
    }
    let body = order_event(&event_id(0), "order-1").to_string();
    let forged = crate::support::relay::post(&rig.webhook_url(), "another secret", body.as_bytes()).await;
    assert_eq!((forged.status, forged.body.as_str()), (400, r#"{"error":"invalid_signature"}"#));
    let letters = dead_letters(&rig).await;
    assert_eq!(letters.len(), 1);
    let letter = letters.values().next().unwrap();
    assert_eq!((letter.value.as_deref(), letter.header("relay_leg")), (Some(&b"garbage"[..]), "webhook"));
    assert_eq!(committed(&rig.config, Topic::Orders).await.len(), 0);
    let metrics = drain(daemon).await;
    assert_eq!(metrics.outcomes(Leg::Webhook, Outcome::Rejected), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_refuses_costs_its_legs_and_the_webhook_goes_on() {
    let mut rig = Rig::new(Broker::shared().bootstrap(), "refused").await.with_webhooks();
    rig.secrets.accounts[0].api_key = "ck_wrong".into();
    let daemon = rig.daemon().await;
    let refused = |leg| daemon.health.leg(leg) == LegState::Refused;
    until("both legs are refused", || refused(Leg::Websocket) && refused(Leg::Backfill)).await;
    rig.simulator.create_order().unwrap();
    rig.simulator.wait_for_webhooks().await;
    let metrics = drain(daemon).await;
    assert_eq!(metrics.outcomes(Leg::Webhook, Outcome::Published), 2);
    rig.assert_delivered().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_kafka_refuses_for_its_size_becomes_a_digest_and_a_thousand_others_are_committed() {
    const SMALL: usize = 1_000;
    let rig = Rig::new(Broker::shared().bootstrap(), "huge").await;
    let daemon = rig.daemon().await;
    rig.simulator.wait_for_connections(1).await;
    let huge_id = "evt_1700000000000-7";
    for n in 0..=SMALL {
        let mut event = order_event(&event_id(n as u64), &format!("order-{n}"));
        if n == SMALL / 2 {
            event["id"] = huge_id.into();
            event["data"]["object"]["note"] = "x".repeat(2 << 20).into();
        }
        rig.simulator.publish_custom(event).unwrap();
    }
    until("all have settled", || {
        let metrics = &daemon.metrics;
        metrics.deliveries(Leg::Websocket) as usize > SMALL && metrics.in_flight(Leg::Websocket) == 0
    })
    .await;
    let letters = dead_letters(&rig).await;
    let letter = &letters[huge_id];
    assert_eq!((letters.len(), letter.header("relay_reason")), (1, "too_large"));
    let events = rig.simulator.events();
    let huge = events.iter().find(|event| event.id == huge_id).unwrap();
    let told = letter.json();
    assert_eq!((told["event_id"].as_str(), told["bytes"].as_u64()), (Some(huge_id), Some(huge.bytes.len() as u64)));
    assert_eq!(told["sha256"].as_str().map(str::len), Some(64));
    let mut ids: Vec<String> =
        committed(&rig.config, Topic::Orders).await.iter().map(|record| record.header("ce_id").to_owned()).collect();
    let mut wanted: Vec<String> = events.iter().map(|event| event.id.clone()).filter(|id| id != huge_id).collect();
    ids.sort();
    wanted.sort();
    assert_eq!(ids, wanted);
    drain(daemon).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_from_the_year_2286_is_published_and_moves_nothing() {
    let rig = Rig::new(Broker::shared().bootstrap(), "future").await;
    let daemon = rig.daemon().await;
    rig.simulator.wait_for_connections(1).await;
    let order = "order-1";
    let future = "evt_9999999999999-0";
    let before = event_id(0);
    let after = event_id(1);
    for id in [before.as_str(), future, after.as_str()] {
        rig.simulator.publish_custom(order_event(id, order)).unwrap();
    }
    rig.until_delivered().await;
    drain(daemon).await;
    let orders = committed(&rig.config, Topic::Orders).await;
    let seen: Vec<_> = orders.iter().map(|record| (record.header("ce_id"), record.is_stale())).collect();
    assert_eq!(seen, [(before.as_str(), false), (future, true), (after.as_str(), false)]);
    assert_eq!(orders[1].header("ce_time"), "2286-11-20T17:46:39.999Z");
    let latest = committed(&rig.config, Topic::OrdersLatest).await;
    assert_eq!(latest.iter().map(|record| record.header("ce_id")).collect::<Vec<_>>(), [&before, &after]);
    assert_eq!(rig.marks().await["cursor"], json!(after));
}

#[tokio::test]
async fn a_topic_with_the_wrong_cleanup_policy_is_status_78_with_its_remedy() {
    let rig = Rig::new(Broker::shared().bootstrap(), "policy").await;
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", Broker::shared().bootstrap()).create().unwrap();
    let control = rig.config.kafka.topics.control.clone();
    let wrong = NewTopic::new(&control, 1, TopicReplication::Fixed(1)).set("cleanup.policy", "delete");
    admin.create_topics([&wrong], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    let mut relay = Process::start(&rig);
    assert_eq!(relay.ended().await, Some(78), "{}", relay.said());
    let remedy = format!("--topic {control} --add-config cleanup.policy=compact");
    assert!(relay.said().contains(&remedy), "{}", relay.said());
}

#[tokio::test]
async fn a_broker_that_refuses_the_credentials_is_status_77_with_its_remedy() {
    let broker = Broker::start_secured();
    let mut rig = Rig::new(&broker.secured().bootstrap, "denied").await;
    rig.config.kafka.tls = true;
    rig.config.kafka.ca_file = Some(broker.secured().ca_file.clone());
    rig.config.kafka.username = Some(USER.0.to_owned());
    rig.config.kafka.sasl_mechanism = Some("SCRAM-SHA-512".to_owned());
    rig.secrets.kafka_password = Some("not-the-password".into());
    let mut relay = Process::start(&rig);
    assert_eq!(relay.ended().await, Some(77), "{}", relay.said());
    let said = relay.said();
    assert!(said.contains("PEPAY_RELAY_KAFKA_PASSWORD") && !said.contains("not-the-password"), "{said}");
}

/// Held by a test that takes most file descriptors of this process, and measures what others wait.
pub static CROWD: Mutex<()> = Mutex::const_new(());

/// As many peers as file descriptors allow, ten thousand where they do, that connect and send nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_connections_wait_outside_and_the_socket_goes_on() {
    const PEERS: usize = 10_000;
    const CONNECTIONS_MAX: usize = 1_024;
    let _alone = CROWD.lock().await;
    let peers = PEERS.min(descriptors_max().saturating_sub(1_000));
    assert!(peers > 2 * CONNECTIONS_MAX, "`ulimit -n` allows only {peers} peers");
    let mut rig = Rig::new(Broker::shared().bootstrap(), "crowd").await;
    rig.config.webhook.body_timeout = Duration::from_secs(30);
    let relay = Process::ready(&rig).await;
    let address = rig.config.webhook.listen;
    let mut crowd = JoinSet::new();
    for _ in 0..peers {
        crowd.spawn(async move {
            let _peer = TcpStream::connect(address).await;
            std::future::pending::<()>().await;
        });
    }
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", relay.pid())).unwrap().count();
    until("the relay is full", || descriptors() >= CONNECTIONS_MAX).await;
    rig.simulator.create_order().unwrap();
    rig.until_delivered().await;
    let body = order_event(&event_id(0), "order-1").to_string();
    let answer = tokio::time::timeout(PATIENCE, rig.post(body.as_bytes())).await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"ok":true}"#));
    assert!(descriptors() < CONNECTIONS_MAX + 200, "{} for {peers} peers", descriptors());
    println!("{peers} peers");
    crowd.shutdown().await;
    relay.stop().await;
}

/// File descriptors that this process may have, after asking for all that it is allowed.
pub fn descriptors_max() -> usize {
    let limits = || std::fs::read_to_string("/proc/self/limits").unwrap();
    let limit = |column: usize| -> usize {
        let limits = limits();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap().to_owned();
        line.split_whitespace().nth(3 + column).unwrap().parse().unwrap_or(usize::MAX)
    };
    let pid = std::process::id().to_string();
    let hard = limit(1).to_string();
    // Where there is no `prlimit`, what is set already counts.
    drop(std::process::Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={hard}:{hard}")]).status());
    limit(0)
}

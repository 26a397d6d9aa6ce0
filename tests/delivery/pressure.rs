//! The legs under pressure: Kafka away, slow or refusing, the intake or the hold full, the log down, a flood, a peer
//! that falls silent. Nothing is lost or repeated, memory stays bounded, and what waits can be seen.

use super::gaps::closed;
use crate::support::acl::{self, Resource};
use crate::support::half_open::HalfOpen;
use crate::support::kafka::{Broker, STRANGER};
use crate::support::process::{self, Process};
use crate::support::records::committed;
use crate::support::relay::{Rig, event_id, order_event, post};
use crate::support::watch::{eventually, leg, memory, metric, published};
use pepay_relay::labels::Topic;
use pepay_relay::simulator::FaultAnswer;
use pepay_relay::simulator::Transition;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// Some hundred events, so that it is soon full.
pub const SMALL_INTAKE: usize = 1 << 20;

/// `count` orders that live side by side: eleven events each, of 1 to 2 kB.
pub fn live(rig: &Rig, count: usize) {
    let orders: Vec<_> = (0..count).map(|_| rig.simulator.create_order().unwrap()).collect();
    for step in Transition::LIFE {
        orders.iter().for_each(|order| rig.simulator.simulate(order, step).unwrap());
    }
}

/// Posts `count` order events at once; none is blamed on its sender, and each is answered in time.
async fn burst(rig: &Rig, count: u64) -> Vec<String> {
    let mut posts = JoinSet::new();
    for n in 0..count {
        let url = rig.webhook_url();
        let secret = rig.simulator.webhook_secret().to_owned();
        let mut event = order_event(&event_id(n), &format!("burst-{n}"));
        event["data"]["object"]["padding"] = "x".repeat(8 << 10).into();
        posts.spawn(async move { post(&url, &secret, event.to_string().as_bytes()).await });
    }
    let began = Instant::now();
    let answers = posts.join_all().await;
    assert!(began.elapsed() < rig.config.webhook.answer_within + Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(answers.iter().all(|answer| answer.status == 503 && answer.retry_after.is_some()), "{answers:?}");
    answers.into_iter().map(|answer| answer.body).collect()
}

/// Everything arrived once, and what was answered was answered once.
async fn finish(rig: &Rig, relay: Process) {
    rig.until_delivered().await;
    relay.stop().await;
    rig.assert_delivered().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_kafka_is_away_the_legs_pause_and_answer_so_and_everything_arrives_afterwards() {
    let mut broker = Broker::start();
    let mut rig = Rig::new(broker.bootstrap(), "away").await;
    rig.config.intake.bytes_max = SMALL_INTAKE;
    rig.config.websocket.frame_bytes_max = SMALL_INTAKE / 4;
    rig.config.webhook.body_bytes_max = SMALL_INTAKE / 4;
    rig.config.webhook.answer_within = Duration::from_secs(1);
    let mut relay = Process::ready(&rig).await;
    live(&rig, 1);
    rig.until_delivered().await;
    // Once a broker that keeps its connections and answers nothing, once one that is gone.
    for round in 1..=2 {
        if round == 1 {
            broker.freeze()
        } else {
            tokio::task::block_in_place(|| broker.kill())
        }
        live(&rig, 100);
        eventually("the socket pauses", async || leg(&rig, "websocket").await == "paused").await;
        eventually("the backfill pauses", async || leg(&rig, "backfill").await == "paused").await;
        eventually("the socket is closed", async || rig.simulator.connections() == 0).await;
        eventually("the outage", async || metric(&rig, "ready").await == 0).await;
        let answers = burst(&rig, 20).await;
        assert!(answers.iter().all(|body| body == r#"{"error":"kafka_unavailable"}"#), "{answers:?}");
        assert!(metric(&rig, "intake_bytes").await <= SMALL_INTAKE as u64);
        assert_eq!(metric(&rig, "leg_connected{leg=\"websocket\"}").await, 0);
        if round == 1 {
            broker.thaw()
        } else {
            tokio::task::block_in_place(|| broker.restart())
        }
        rig.until_delivered().await;
        eventually("the socket is back", async || leg(&rig, "websocket").await == "connected").await;
        for line in ["stream paused", "kafka unavailable", "kafka recovered"] {
            assert_eq!(relay.count(line), round, "{line}: {}", relay.said());
        }
    }
    relay.line("stream disconnected").await;
    finish(&rig, relay).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_intake_is_full_webhooks_are_refused_and_what_was_taken_is_committed_once() {
    let broker = Broker::start();
    let mut rig = Rig::new(broker.bootstrap(), "full").await;
    rig.config.intake.bytes_max = SMALL_INTAKE;
    rig.config.websocket.frame_bytes_max = SMALL_INTAKE / 4;
    rig.config.webhook.body_bytes_max = SMALL_INTAKE / 4;
    rig.config.webhook.answer_within = Duration::from_secs(1);
    let relay = Process::ready(&rig).await;
    broker.freeze();
    // Three quarters of the intake are theirs, some ninety of them; Kafka is not known to be away yet.
    let answers = burst(&rig, 200).await;
    let told = |error: &str| answers.iter().filter(|body| body.contains(error)).count() as u64;
    let taken = metric(&rig, "in_flight{leg=\"webhook\"}").await;
    assert_eq!((told("kafka_unavailable"), told("overloaded")), (taken, 200 - taken), "{answers:?}");
    assert!((80..100).contains(&taken), "{taken}");
    // The socket has its reserve.
    live(&rig, 1);
    let read = async || metric(&rig, "deliveries_total{leg=\"websocket\"}").await > 0;
    eventually("the socket's reserve", read).await;
    broker.thaw();
    rig.until_delivered().await;
    eventually("all is settled", async || metric(&rig, "in_flight{leg=\"webhook\"}").await == 0).await;
    assert_eq!(metric(&rig, "outcomes_total{leg=\"webhook\",outcome=\"published\"}").await, taken);
    relay.stop().await;
    let records = committed(&rig.config, Topic::Orders).await;
    let theirs = records.iter().filter(|record| record.key.starts_with("burst-")).count();
    assert_eq!(theirs as u64, taken, "a 503 may be committed, and is then committed once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_kafka_is_slow_the_backlog_is_bounded() {
    let broker = Broker::start();
    let mut rig = Rig::new(broker.bootstrap(), "slow").await.with_webhooks();
    rig.config.intake.bytes_max = SMALL_INTAKE;
    rig.config.websocket.frame_bytes_max = SMALL_INTAKE / 4;
    rig.config.webhook.body_bytes_max = SMALL_INTAKE / 4;
    let relay = Process::ready(&rig).await;
    let load = rig.load();
    let mut most = 0;
    let mut inside = 0;
    let began = Instant::now();
    // Nine tenths of the time it is frozen.
    while began.elapsed() < Duration::from_secs(6) {
        broker.freeze();
        sleep(Duration::from_millis(900)).await;
        most = most.max(metric(&rig, "intake_bytes").await);
        let mut now = 0;
        for leg in ["websocket", "webhook", "backfill"] {
            now += metric(&rig, &format!("in_flight{{leg=\"{leg}\"}}")).await;
        }
        inside = inside.max(now);
        broker.thaw();
        sleep(Duration::from_millis(100)).await;
    }
    load.stop().await;
    // What is counted fits the bound, and so do the deliveries themselves but for the two for which a leg seeks room.
    let least = rig.simulator.events().iter().map(|event| event.bytes.len() as u64).min().unwrap();
    assert!(most <= SMALL_INTAKE as u64 && inside.saturating_sub(2) * least <= SMALL_INTAKE as u64, "{most}, {inside}");
    assert!(most > SMALL_INTAKE as u64 / 2, "it was under pressure: {most}");
    rig.until_delivered().await;
    rig.simulator.wait_for_webhooks().await;
    println!(
        "slow Kafka: intake at most {most} B, {inside} deliveries of {least} B or more; {} events",
        rig.simulator.events().len()
    );
    finish(&rig, relay).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_belongs_to_a_topic_that_is_gone_is_held_and_arrives_when_it_is_back() {
    let broker = Broker::start();
    let mut rig = Rig::new(broker.bootstrap(), "gone").await;
    // For this long librdkafka takes a topic that it does not find for a new one that is about to be there.
    rig.config.kafka.options.push(("topic.metadata.propagation.max.ms".to_owned(), "1000".to_owned()));
    let mut relay = Process::ready(&rig).await;
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", broker.bootstrap()).create().unwrap();
    let topic = rig.config.kafka.topics.invoices.as_str();
    // Nothing was in it.
    let done = admin.delete_topics(&[topic], &AdminOptions::new()).await.unwrap();
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    live(&rig, 5);
    relay.line("kafka unavailable").await;
    eventually("it is not ready", async || metric(&rig, "ready").await == 0).await;
    // One for the silence, the others for records that were refused and are sent again.
    let retries = async || metric(&rig, "kafka_errors_total{kind=\"retry\"}").await;
    eventually("it is refused, and tried again", async || retries().await >= 3).await;
    let topic = NewTopic::new(topic, rig.config.kafka.partitions, TopicReplication::Fixed(1));
    let done = admin.create_topics([&topic], &AdminOptions::new()).await.unwrap();
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    relay.line("kafka recovered").await;
    // Where it is silent for long before it refuses, that is a line of its own: the cause is not known yet.
    let lines = (relay.count("kafka unavailable"), relay.count("kafka recovered"));
    assert!(matches!(lines, (1 | 2, 1)), "{}", relay.said());
    finish(&rig, relay).await;
}

/// The relay logs in as somebody with permissions of his own; the tests read without any.
pub async fn with_permissions(broker: &Broker, test: &str) -> (Rig, Rig) {
    let open = Rig::new(broker.bootstrap(), test).await;
    let secured = as_stranger(broker, &open);
    for resource in [Resource::Topics(&open.config.name), Resource::TransactionalIds(&open.config.name)] {
        acl::allow(broker.bootstrap(), STRANGER.0, resource);
    }
    (open, secured)
}

/// The same relay, logging in as somebody who may do what he was allowed and nothing else.
pub fn as_stranger(broker: &Broker, open: &Rig) -> Rig {
    let mut config = open.config.clone();
    config.kafka.bootstrap_servers = broker.secured().bootstrap.clone();
    config.kafka.tls = true;
    config.kafka.ca_file = Some(broker.secured().ca_file.clone());
    config.kafka.username = Some(STRANGER.0.to_owned());
    config.kafka.sasl_mechanism = Some("PLAIN".to_owned());
    let mut secrets = open.secrets.clone();
    secrets.kafka_password = Some(STRANGER.1.into());
    Rig { simulator: Arc::clone(&open.simulator), config, secrets, tuning: open.tuning }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permission_taken_away_is_logged_and_waited_for_and_at_start_it_is_status_77() {
    let broker = Broker::start_secured();
    let (rig, secured) = with_permissions(&broker, "acl").await;
    let bootstrap = broker.bootstrap();
    let invoices = rig.config.kafka.topics.invoices.as_str();
    let mut relay = Process::ready(&secured).await;
    live(&rig, 1);
    rig.until_delivered().await;
    acl::deny_writing(bootstrap, STRANGER.0, Resource::Topic(invoices));
    live(&rig, 5);
    let told = relay.line("kafka unavailable").await;
    assert!(told["detail"].as_str().unwrap().contains("authorization failed"), "{told}");
    eventually("it is not ready", async || metric(&rig, "ready").await == 0).await;
    acl::stop_denying(bootstrap, STRANGER.0, Resource::Topic(invoices));
    let mended = Instant::now();
    relay.line("kafka recovered").await;
    assert!(mended.elapsed() < Duration::from_secs(10), "soon: {:?}", mended.elapsed());
    finish(&rig, relay).await;

    // At start and by `check`, every permission that is missing is named at once.
    let name = rig.config.name.as_str();
    let letters = rig.config.kafka.topics.dead_letter.as_str();
    let topics = [invoices, letters].map(|topic| (Resource::Topic(topic), format!("--topic {topic}")));
    for denied in [&topics[..], &[(Resource::TransactionalIds(name), "--transactional-id".to_owned())]] {
        for (resource, _) in denied {
            acl::deny_writing(bootstrap, STRANGER.0, *resource);
        }
        let mut refused = Process::start(&secured);
        assert_eq!(refused.ended().await, Some(77), "{}", refused.said());
        let (status, found) = process::check(&secured).await;
        assert_eq!(status, Some(1), "{found}");
        for said in [refused.said(), found] {
            let remedies = said.matches(&format!("--allow-principal User:{} --operation Write", STRANGER.0)).count();
            assert_eq!(remedies, denied.len(), "{said}");
            assert!(denied.iter().all(|(_, about)| said.contains(about)), "{said}");
        }
        for (resource, _) in denied {
            acl::stop_denying(bootstrap, STRANGER.0, *resource);
        }
    }
    // What the probe wrote is nothing to those who read committed records.
    let relay = Process::ready(&secured).await;
    live(&rig, 1);
    finish(&rig, relay).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_log_is_down_frames_wait_for_hold_max_alone_and_consumers_go_on() {
    let mut rig = Rig::new(Broker::shared().bootstrap(), "nolog").await;
    rig.config.backfill.hold_max = Duration::from_secs(1);
    live(&rig, 5);
    rig.simulator.faults().set(|faults| faults.rest.refuse = Some(FaultAnswer::status(503)));
    let before = rig.simulator.events().len() as u64;
    let mut relay = Process::ready(&rig).await;
    rig.simulator.wait_for_connections(1).await;
    let load = rig.load();
    sleep(Duration::from_secs(3)).await;
    load.stop().await;
    let live = rig.simulator.events().len() as u64 - before;
    eventually("consumers go on", async || published(&rig).await == live).await;
    assert_eq!(relay.count("backfill waits for the provider"), 1, "{}", relay.said());
    assert!(metric(&rig, "gaps_open").await > 0);
    assert_eq!(leg(&rig, "backfill").await, "backing_off");
    rig.simulator.faults().clear();
    relay.line("backfill finished").await;
    closed(&rig, "first_start").await;
    finish(&rig, relay).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_full_of_bytes_lets_frames_go_before_its_time() {
    const FRAME_BYTES: usize = 64 << 10;
    let mut rig = Rig::new(Broker::shared().bootstrap(), "hold").await;
    rig.config.backfill.hold_max = Duration::from_secs(600);
    rig.simulator.faults().set(|faults| faults.rest.refuse = Some(FaultAnswer::status(503)));
    let relay = Process::ready(&rig).await;
    rig.simulator.wait_for_connections(1).await;
    let publish = |n: usize| {
        let mut event = order_event(&event_id(n as u64), &format!("order-{n}"));
        event["data"]["object"]["padding"] = "x".repeat(FRAME_BYTES).into();
        rig.simulator.publish_custom(event).unwrap();
    };
    (0..200).for_each(publish);
    // 12.5 MiB fit the hold; the rest of it does not.
    (200..400).for_each(publish);
    eventually("frames go on", async || published(&rig).await == 400).await;
    println!("full hold: {} MiB", memory(relay.pid()).peak >> 20);
    rig.simulator.faults().clear();
    closed(&rig, "first_start").await;
    finish(&rig, relay).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_open_socket_is_found_by_its_silence_and_what_it_swallowed_arrives() {
    let mut rig = Rig::new(Broker::shared().bootstrap(), "halfopen").await;
    let proxy = HalfOpen::start(rig.simulator.addr()).await;
    rig.config.provider.websocket_url = format!("ws://{}/ws/commerce/events", proxy.address());
    // Not the timer's walk, but the one after the reconnect.
    rig.config.backfill.every = Duration::from_secs(3600);
    let mut relay = Process::ready(&rig).await;
    let load = rig.load();
    rig.until_delivered().await;
    closed(&rig, "first_start").await;
    proxy.fall_silent();
    let silent = Instant::now();
    let end = relay.line("stream disconnected").await;
    assert_eq!(end["cause"], "silence");
    assert!(silent.elapsed() < rig.config.websocket.idle_timeout + Duration::from_secs(3), "{:?}", silent.elapsed());
    closed(&rig, "silence").await;
    load.stop().await;
    assert_eq!(relay.count("stream disconnected"), 1, "{}", relay.said());
    finish(&rig, relay).await;
}

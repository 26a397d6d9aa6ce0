//! SIGTERM at every phase of the relay's life: the status, the number of deliveries left, and what the next start finds.

use crate::support::foreign::open_transaction;
use crate::support::kafka::Broker;
use crate::support::process::Process;
use crate::support::relay::{LIFE, Rig, event_id, get, order_event, post, until};
use pepay_relay::simulator::{Answer, Cut};
use rdkafka::producer::Producer;
use std::time::{Duration, Instant};

/// A stop that waits for nobody.
const SOON: Duration = Duration::from_secs(6);

/// SIGTERM, status 0, and so many deliveries left to the provider.
async fn stops(relay: &mut Process, within: Duration, left: u64) {
    relay.signal("TERM");
    assert_eq!(relay.ended_within(within).await, Some(0), "{}", relay.said());
    assert_eq!(relay.line("stopped").await["left"], left, "{}", relay.said());
}

fn live(rig: &Rig) {
    let order = rig.simulator.create_order().unwrap();
    LIFE.iter().for_each(|step| rig.simulator.simulate(&order, *step).unwrap());
}

/// The next start brings everything, each once.
async fn goes_on(rig: &Rig) {
    let relay = Process::ready(rig).await;
    rig.until_delivered().await;
    relay.stop().await;
    rig.assert_delivered().await;
}

/// Waits until the admin listener says this at `path`.
async fn says(rig: &Rig, path: &str, wanted: &str) {
    let url = format!("http://{}{path}", rig.config.admin.listen);
    let began = Instant::now();
    until("the admin listener", || std::net::TcpStream::connect(rig.config.admin.listen).is_ok()).await;
    loop {
        let text = get(&url).await;
        if text.contains(wanted) {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{path} never said {wanted}: {text}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_broker_answers() {
    let broker = Broker::start();
    let rig = Rig::new(broker.bootstrap(), "unanswered").await;
    live(&rig);
    broker.freeze();
    let mut relay = Process::start(&rig);
    says(&rig, "/readyz", r#""waiting_for":["kafka","window"]"#).await;
    let webhook = rig.post(order_event(&event_id(0), "order-1").to_string().as_bytes()).await;
    assert_eq!((webhook.status, webhook.body.as_str()), (503, r#"{"error":"starting"}"#));
    stops(&mut relay, SOON, 0).await;
    broker.thaw();
    goes_on(&rig).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_window_is_read_back() {
    let rig = Rig::new(Broker::shared().bootstrap(), "reading").await;
    Process::ready(&rig).await.stop().await;
    live(&rig);
    let (bootstrap, topic) = (rig.config.kafka.bootstrap_servers.clone(), rig.config.kafka.topics.orders.clone());
    let foreign = tokio::task::spawn_blocking(move || open_transaction(&bootstrap, &topic)).await.unwrap();
    let mut relay = Process::start(&rig);
    says(&rig, "/readyz", "another writer's transaction").await;
    stops(&mut relay, SOON, 0).await;
    tokio::task::spawn_blocking(move || foreign.abort_transaction(Duration::from_secs(30)).unwrap()).await.unwrap();
    goes_on(&rig).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_idle_and_while_the_stream_backs_off() {
    let mut rig = Rig::new(Broker::shared().bootstrap(), "backoff").await;
    let mut relay = Process::ready(&rig).await;
    live(&rig);
    rig.until_delivered().await;
    stops(&mut relay, SOON, 0).await;

    rig.config.stream.backoff_min = Duration::from_secs(30);
    rig.config.stream.backoff_max = Duration::from_secs(30);
    rig.simulator.faults().set(|faults| faults.stream.refuse = Some(Answer::status(503)));
    let mut relay = Process::ready(&rig).await;
    assert_eq!(relay.line("stream disconnected").await["cause"], "server_error");
    stops(&mut relay, SOON, 0).await;
    rig.simulator.faults().clear();
    goes_on(&rig).await;
}

/// Frames that were read and wait for a walk are left to the log, and counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_walk_is_under_way_and_frames_are_held() {
    let mut rig = Rig::new(Broker::shared().bootstrap(), "held").await;
    rig.config.backfill.hold_max = Duration::from_secs(60);
    let mut relay = Process::ready(&rig).await;
    live(&rig);
    rig.until_delivered().await;
    rig.simulator.faults().set(|faults| faults.rest.delay = Duration::from_secs(60));
    rig.simulator.faults().cut_sockets(&Cut::Abrupt);
    until("the socket is back", || relay.said().matches("stream connected").count() == 2).await;
    let before = rig.simulator.events().len();
    live(&rig);
    let held = (rig.simulator.events().len() - before) as u64;
    // A second connection's frames have no mark of their own; a control frame behind them is logged when it is read.
    let marker = format!("http://{}/metrics", rig.config.admin.listen);
    assert!(get(&marker).await.contains("pepay_relay_leg_connected{leg=\"websocket\"} 1"));
    rig.simulator.faults().cut_sockets(&Cut::Abrupt);
    until("the cut is heard behind the frames", || relay.said().matches("stream disconnected").count() >= 1).await;
    stops(&mut relay, SOON, held).await;
    rig.simulator.faults().clear();
    goes_on(&rig).await;
}

/// The deadline passes with Kafka away: webhooks are told to come back, and the provider does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_kafka_is_away_until_the_deadline() {
    const COUNT: u64 = 5;
    let mut broker = Broker::start();
    let mut rig = Rig::new(broker.bootstrap(), "deadline").await;
    rig.config.shutdown.deadline = Duration::from_secs(4);
    rig.config.webhook.answer_within = Duration::from_secs(4);
    let mut relay = Process::ready(&rig).await;
    live(&rig);
    rig.until_delivered().await;
    tokio::task::block_in_place(|| broker.kill());
    let mut posts = tokio::task::JoinSet::new();
    for n in 0..COUNT {
        let (url, secret) = (rig.webhook_url(), rig.simulator.webhook_secret().to_owned());
        let body = order_event(&event_id(n), &format!("order-{n}")).to_string();
        posts.spawn(async move { post(&url, &secret, body.as_bytes()).await });
    }
    says(&rig, "/metrics", &format!("pepay_relay_in_flight{{leg=\"webhook\"}} {COUNT}\n")).await;
    stops(&mut relay, rig.config.shutdown.deadline + SOON, COUNT).await;
    while let Some(answer) = posts.join_next().await {
        let answer = answer.unwrap();
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.retry_after.is_some(), "{answer:?}");
    }
    tokio::task::block_in_place(|| broker.restart());
    goes_on(&rig).await;
}

//! SIGTERM at every phase of the relay's life: the status, the number of deliveries left, and what the next start finds.

use crate::support::foreign::open_transaction;
use crate::support::kafka::Broker;
use crate::support::process::Process;
use crate::support::proxy::{END_TXN, Fault, INIT_PRODUCER_ID, LIST_OFFSETS, Proxy};
use crate::support::relay::{PATIENCE, Rig, event_id, get, order_event, post, until};
use crate::support::watch::{eventually, metric};
use pepay_relay::simulator::Transition;
use pepay_relay::simulator::{Cut, FaultAnswer};
use rdkafka::producer::Producer;
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// A stop that waits for nobody.
const SOON: Duration = Duration::from_secs(6);

/// SIGTERM, status 0, and `left` deliveries left to the provider.
async fn stops(relay: &mut Process, within: Duration, left: u64) {
    relay.signal("TERM");
    assert_eq!(relay.ended_within(within).await, Some(0), "{}", relay.said());
    assert_eq!(relay.line("stopped").await["left"], left, "{}", relay.said());
}

fn live(rig: &Rig) {
    let order = rig.simulator.create_order().unwrap();
    Transition::LIFE.iter().for_each(|step| rig.simulator.simulate(&order, *step).unwrap());
}

/// The next start brings everything, each once.
async fn goes_on(rig: &Rig) {
    let relay = Process::ready(rig).await;
    rig.until_delivered().await;
    relay.stop().await;
    rig.assert_delivered().await;
}

/// Waits until the admin listener answers this at `path`.
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

/// A broker behind a proxy, and a relay of it.
async fn behind_a_proxy(test: &str) -> (Broker, Proxy, Rig) {
    let proxy = Proxy::start();
    let broker = Broker::start_behind(&proxy);
    let rig = Rig::new(&proxy.address().to_string(), test).await;
    live(&rig);
    (broker, proxy, rig)
}

async fn asked(proxy: &Proxy, api: i16) {
    let proxy = proxy.clone();
    tokio::task::spawn_blocking(move || proxy.wait_for(api)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_predecessors_are_fenced() {
    let (_broker, proxy, rig) = behind_a_proxy("fencing").await;
    proxy.set(&[Fault::HoldRequests(INIT_PRODUCER_ID)], None);
    let mut relay = Process::start(&rig);
    asked(&proxy, INIT_PRODUCER_ID).await;
    stops(&mut relay, SOON, 0).await;
    proxy.clear();
    goes_on(&rig).await;
}

/// A question to Kafka takes up to 10 s, and ends by nothing else: the first signal does not wait for it, nor does a
/// second one. Both signals are there before the relay looks, and a peer that is about to send a webhook keeps the
/// first one's drain from being over by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_question_of_the_start_is_not_answered_and_a_second_signal_leaves_at_once() {
    const AT_ONCE: Duration = Duration::from_secs(4);
    let (_broker, proxy, rig) = behind_a_proxy("unanswered-start").await;
    // So that there is something to read back.
    Process::ready(&rig).await.stop().await;
    for second in [false, true] {
        proxy.set(&[Fault::HoldRequests(END_TXN)], None);
        let mut relay = Process::start(&rig);
        // The start's rehearsal. All that is asked for offsets after it is the beginning of the window.
        asked(&proxy, END_TXN).await;
        proxy.set(&[Fault::HoldRequests(LIST_OFFSETS)], None);
        asked(&proxy, LIST_OFFSETS).await;
        if second {
            let mut peer = TcpStream::connect(rig.config.webhook.listen).unwrap();
            peer.write_all(b"POST /webhooks/pepay HTTP/1.1\r\nhost:").unwrap();
            ["STOP", "TERM", "INT", "CONT"].into_iter().for_each(|name| relay.signal(name));
            assert_eq!(relay.ended_within(AT_ONCE).await, Some(1), "{}", relay.said());
            assert!(relay.said().contains("left at once, as the second signal asks"), "{}", relay.said());
        } else {
            stops(&mut relay, AT_ONCE, 0).await;
        }
        proxy.clear();
    }
    goes_on(&rig).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_window_is_read_back() {
    let rig = Rig::new(Broker::shared().bootstrap(), "reading").await;
    Process::ready(&rig).await.stop().await;
    live(&rig);
    let bootstrap = rig.config.kafka.bootstrap_servers.clone();
    let topic = rig.config.kafka.topics.control.clone();
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

    rig.config.websocket.backoff_min = Duration::from_secs(30);
    rig.config.websocket.backoff_max = Duration::from_secs(30);
    rig.simulator.faults().set(|faults| faults.websocket.refuse = Some(FaultAnswer::status(503)));
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
    rig.config.websocket.idle_timeout = PATIENCE;
    let mut relay = Process::ready(&rig).await;
    live(&rig);
    rig.until_delivered().await;
    rig.simulator.faults().set(|faults| faults.rest.delay = Duration::from_secs(60));
    rig.simulator.faults().cut_sockets(&Cut::Abrupt);
    until("the socket is back", || relay.count("stream connected") == 2).await;
    let delivered = metric(&rig, DELIVERED).await;
    let gaps = metric(&rig, "gaps_total").await;
    let before = rig.simulator.events().len();
    live(&rig);
    let held = (rig.simulator.events().len() - before) as u64;
    // Frames are read in their order: when this hint has opened its gap, all that came before it was read, and none of
    // it was handed on.
    rig.simulator.faults().send_text(r#"{"object":"ws_control","type":"resync_required"}"#);
    eventually("the hint is read", async || metric(&rig, "gaps_total").await > gaps).await;
    assert_eq!(metric(&rig, DELIVERED).await, delivered);
    stops(&mut relay, SOON, held).await;
    rig.simulator.faults().clear();
    goes_on(&rig).await;
}

const DELIVERED: &str = "deliveries_total{leg=\"websocket\"}";

/// With Kafka away, stream and webhooks bring every event of an order's life, and a copy of the last one comes too.
/// Gives how many deliveries are inside and the answer that the copy will get.
async fn with_work_inside(rig: &Rig) -> (u64, tokio::task::JoinHandle<crate::support::relay::Answer>) {
    // Walks would bring everything a third time.
    rig.simulator.faults().set(|faults| faults.rest.refuse = Some(FaultAnswer::status(503)));
    let before = rig.simulator.events().len();
    live(rig);
    let events = rig.simulator.events();
    let issued = (events.len() - before) as u64;
    let (url, secret, body) =
        (rig.webhook_url(), rig.simulator.webhook_secret().to_owned(), events.last().unwrap().bytes.clone());
    let posted = tokio::spawn(async move { post(&url, &secret, &body).await });
    for (leg, inside) in [("websocket", issued), ("webhook", issued + 1)] {
        let series = format!("in_flight{{leg=\"{leg}\"}}");
        eventually("all are inside", async || metric(rig, &series).await == inside).await;
    }
    (2 * issued + 1, posted)
}

/// The deadline passes with Kafka away: webhooks are asked to come back, and the provider sends them again, or shows
/// them in its log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_kafka_is_away_until_the_deadline() {
    let mut broker = Broker::start();
    let mut rig = Rig::new(broker.bootstrap(), "deadline").await.with_webhooks();
    rig.config.shutdown.deadline = Duration::from_secs(6);
    rig.config.webhook.answer_within = Duration::from_secs(6);
    let mut relay = Process::ready(&rig).await;
    live(&rig);
    rig.until_delivered().await;
    tokio::task::block_in_place(|| broker.kill());
    let (inside, posted) = with_work_inside(&rig).await;
    stops(&mut relay, rig.config.shutdown.deadline + SOON, inside).await;
    let answer = posted.await.unwrap();
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.retry_after.is_some(), "{answer:?}");
    rig.simulator.faults().clear();
    tokio::task::block_in_place(|| broker.restart());
    goes_on(&rig).await;
}

/// Kafka comes back before the deadline: what is inside is committed, and nothing is left to the provider.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_kafka_is_away_and_comes_back() {
    let mut broker = Broker::start();
    let mut rig = Rig::new(broker.bootstrap(), "back").await.with_webhooks();
    rig.config.shutdown.deadline = Duration::from_secs(60);
    rig.config.webhook.answer_within = Duration::from_secs(60);
    let mut relay = Process::ready(&rig).await;
    live(&rig);
    rig.until_delivered().await;
    tokio::task::block_in_place(|| broker.kill());
    let (_, posted) = with_work_inside(&rig).await;
    relay.signal("TERM");
    says(&rig, "/readyz", r#""waiting_for":["stopped"]"#).await;
    tokio::task::block_in_place(|| broker.restart());
    assert_eq!(relay.ended_within(rig.config.shutdown.deadline).await, Some(0), "{}", relay.said());
    assert_eq!(relay.line("stopped").await["left"], 0, "{}", relay.said());
    let answer = posted.await.unwrap();
    assert!(answer.status == 200 && answer.body.starts_with(r#"{"ok":true"#), "{answer:?}");
    // Before anything else could bring it.
    rig.until_delivered().await;
    rig.assert_delivered().await;
}

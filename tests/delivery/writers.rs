//! One writer: a second relay of the name, and one that was frozen.

use crate::support::kafka::Broker;
use crate::support::ports::free_address;
use crate::support::process::Process;
use crate::support::proxy::{END_TXN, Fault, Proxy};
use crate::support::records::committed;
use crate::support::relay::{Rig, drain, event_id, order_event, post};
use pepay_relay::labels::Topic;
use pepay_relay::simulator::Transition;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::time::{Duration, Instant};

const FENCED: i32 = 75;

/// How long the first one may take to notice, busy or idle.
const NOTICED_WITHIN: Duration = Duration::from_secs(15);

/// Longer than a relay's transactions live (60 s).
const TRANSACTION_GIVEN_UP: Duration = Duration::from_secs(90);

/// Another relay of the same name alongside those that run.
async fn rival(rig: &mut Rig) -> Process {
    rig.config.webhook.listen = free_address();
    rig.config.admin.listen = free_address();
    rig.simulator.add_webhook_endpoint(&rig.webhook_url()).unwrap();
    Process::ready(rig).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_relay_of_the_name_makes_the_first_leave_with_75_busy_or_idle() {
    let mut rig = Rig::new(Broker::shared().bootstrap(), "rival").await;
    let mut first = rival(&mut rig).await;
    let load = rig.load();
    rig.until_delivered().await;
    let mut second = rival(&mut rig).await;
    assert_eq!(first.ended_within(NOTICED_WITHIN).await, Some(FENCED), "{}", first.said());
    first.line("fenced").await;
    assert!(first.said().contains("give each relay its own `name`"), "{}", first.said());
    load.stop().await;
    rig.until_delivered().await;

    let third = rival(&mut rig).await;
    assert_eq!(second.ended_within(NOTICED_WITHIN).await, Some(FENCED), "{}", second.said());
    rig.simulator.create_order().unwrap();
    rig.until_delivered().await;
    third.stop().await;
    rig.assert_delivered().await;
}

/// The coordinator ends a transaction that took too long, and the relay with it has to begin again. (That it is not
/// taken for a second relay is shown in `unknown`.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_was_frozen_for_longer_than_its_transaction_goes_on_by_itself() {
    let proxy = Proxy::start();
    let broker = Broker::start_behind(&proxy);
    let rig = Rig::new(&proxy.address().to_string(), "still").await;
    let relay = Process::ready(&rig).await;
    rig.simulator.create_order().unwrap();
    rig.until_delivered().await;

    // Its transaction is open and cannot end; it is then frozen with it.
    proxy.set(&[Fault::HoldRequests(END_TXN)], None);
    let order = rig.simulator.create_order().unwrap();
    let url = rig.webhook_url();
    let secret = rig.simulator.webhook_secret().to_owned();
    let body = rig.simulator.events().last().unwrap().bytes.clone();
    let posted = tokio::spawn(async move { post(&url, &secret, &body).await });
    let held = proxy.clone();
    tokio::task::spawn_blocking(move || held.wait_for(END_TXN)).await.unwrap();
    relay.signal("STOP");
    let bootstrap = broker.bootstrap().to_owned();
    let control = rig.config.kafka.topics.control.clone();
    tokio::task::spawn_blocking(move || until_given_up(&bootstrap, &control)).await.unwrap();
    proxy.clear();
    relay.signal("CONT");

    let answer = posted.await.unwrap();
    assert!(answer.status == 200 || answer.body == r#"{"error":"kafka_unavailable"}"#, "{answer:?}");
    rig.until_delivered().await;
    rig.simulator.simulate(&order, Transition::PaymentConfirmed).unwrap();
    rig.until_delivered().await;
    relay.stop().await;
    rig.assert_delivered().await;
}

/// Waits until the coordinator has given the open transaction up: it writes its marker into the topic.
fn until_given_up(bootstrap: &str, control: &str) {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", bootstrap).create().unwrap();
    let end = || consumer.fetch_watermarks(control, 0, Duration::from_secs(30)).unwrap().1;
    let began = Instant::now();
    let open = end();
    while end() == open {
        assert!(began.elapsed() < TRANSACTION_GIVEN_UP, "the transaction was not open");
        #[expect(
            clippy::disallowed_methods,
            reason = "it is the coordinator's own timer: nobody tells when it is over"
        )]
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(began.elapsed() > Duration::from_secs(30), "it was given up, not ended: {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_commit_and_the_providers_retry_end_in_one_record() {
    let mut broker = Broker::start();
    let mut rig = Rig::new(broker.bootstrap(), "retry").await;
    rig.config.webhook.answer_within = Duration::from_secs(1);
    let daemon = rig.daemon().await;
    let first = event_id(0);
    let second = event_id(1);
    let body = |id: &str| order_event(id, "order-1").to_string().into_bytes();
    let answer = rig.post(&body(&first)).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"ok":true}"#));

    tokio::task::block_in_place(|| broker.stop());
    let answer = rig.post(&body(&second)).await;
    assert_eq!((answer.status, answer.body.as_str()), (503, r#"{"error":"kafka_unavailable"}"#));
    assert!(answer.retry_after.is_some_and(|seconds| seconds.parse::<u32>().is_ok()));

    tokio::task::block_in_place(|| broker.restart());
    let began = Instant::now();
    let answer = loop {
        let answer = rig.post(&body(&second)).await;
        if answer.status == 200 {
            break answer;
        }
        assert_eq!(answer.body, r#"{"error":"kafka_unavailable"}"#);
        assert!(began.elapsed() < Duration::from_secs(60), "Kafka is back");
    };
    assert!(answer.body == r#"{"ok":true,"duplicate":true}"# || answer.body == r#"{"ok":true}"#, "{answer:?}");
    let again = rig.post(&body(&second)).await;
    assert_eq!((again.status, again.body.as_str()), (200, r#"{"ok":true,"duplicate":true}"#));
    let records = committed(&rig.config, Topic::Orders).await;
    let ids: Vec<&str> = records.iter().map(|record| record.header("ce_id")).collect();
    assert_eq!(ids, [first, second]);
    drain(daemon).await;
}

//! Stopping, killing and starting again, with work in flight.

use crate::support::kafka::Broker;
use crate::support::process::Process;
use crate::support::records::committed;
use crate::support::relay::{Rig, event_id, get, order_event, post, until};
use pepay_relay::labels::Topic;
use std::net::TcpStream;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_under_load_lose_and_repeat_nothing() {
    let rig = Rig::new(Broker::shared().bootstrap(), "restart").await.with_webhooks();
    let mut first = Process::ready(&rig).await;
    assert!(first.line("stream connected").await["since"].is_null(), "nothing is known at first");
    let load = rig.load();
    rig.until_delivered().await;
    first.stop().await;

    let mut second = Process::ready(&rig).await;
    let since = second.line("stream connected").await["since"].as_str().unwrap().to_owned();
    assert!(rig.simulator.events().iter().any(|event| event.id == since), "{since} is an event");
    let ids = second.line("window read back").await["ids"].as_u64().unwrap();
    assert!(ids > 0 && ids <= rig.simulator.events().len() as u64, "{ids}");
    rig.until_delivered().await;
    second.signal("KILL");
    assert_eq!(second.ended().await, None);

    let mut third = Process::ready(&rig).await;
    assert!(third.line("window read back").await["ids"].as_u64().unwrap() > ids);
    rig.until_delivered().await;
    load.stop().await;
    rig.until_delivered().await;
    rig.simulator.wait_for_webhooks().await;
    third.stop().await;
    rig.assert_delivered().await;
    let newest = rig.simulator.events().last().unwrap().id.clone();
    assert_eq!(rig.marks().await["cursor"], newest.as_str());
}

/// Webhooks that wait for their commit while the broker is frozen.
async fn in_flight(rig: &Rig, broker: &Broker, count: u64) -> JoinSet<(String, u16, String)> {
    broker.freeze();
    let mut posts = JoinSet::new();
    for n in 0..count {
        let url = rig.webhook_url();
        let secret = rig.simulator.webhook_secret().to_owned();
        posts.spawn(async move {
            let id = event_id(n);
            let answer = post(&url, &secret, order_event(&id, &format!("order-{n}")).to_string().as_bytes()).await;
            (id, answer.status, answer.body)
        });
    }
    let metrics = format!("http://{}/metrics", rig.config.admin.listen);
    let wanted = format!("pepay_relay_in_flight{{leg=\"webhook\"}} {count}\n");
    let began = Instant::now();
    while !get(&metrics).await.contains(&wanted) {
        assert!(began.elapsed() < Duration::from_secs(30), "all are inside");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    posts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_answers_what_is_in_flight_and_a_second_one_leaves_at_once() {
    const COUNT: u64 = 20;
    let broker = Broker::start();
    let rig = Rig::new(broker.bootstrap(), "term").await;
    let mut relay = Process::ready(&rig).await;
    let mut posts = in_flight(&rig, &broker, COUNT).await;
    relay.signal("TERM");
    // It closes before it waits for Kafka: new peers find nobody.
    until("the listener is closed", || TcpStream::connect(rig.config.webhook.listen).is_err()).await;
    broker.thaw();
    let mut taken = Vec::new();
    while let Some(answer) = posts.join_next().await {
        let (id, status, body) = answer.unwrap();
        match status {
            200 => taken.push(id),
            _ => assert_eq!((status, body.as_str()), (503, r#"{"error":"stopping"}"#)),
        }
    }
    assert_eq!(relay.ended().await, Some(0), "{}", relay.said());
    assert_eq!(relay.line("stopped").await["left"], 0);
    let records = committed(&rig.config, Topic::Orders).await;
    let mut ids: Vec<&str> = records.iter().map(|record| record.header("ce_id")).collect();
    ids.sort_unstable();
    taken.sort_unstable();
    assert_eq!(ids, taken, "what was answered 200 stands, each once");
    assert_eq!(taken.len() as u64, COUNT, "the drain had the time for all of it");

    let mut relay = Process::ready(&rig).await;
    let posts = in_flight(&rig, &broker, COUNT).await;
    relay.signal("TERM");
    until("the listener is closed", || TcpStream::connect(rig.config.webhook.listen).is_err()).await;
    let began = Instant::now();
    relay.signal("TERM");
    assert_eq!(relay.ended().await, Some(1), "{}", relay.said());
    assert!(began.elapsed() < Duration::from_secs(5), "at once: {:?}", began.elapsed());
    assert!(relay.said().contains("the provider still holds what was inside"), "{}", relay.said());
    drop(posts);
    broker.thaw();
}

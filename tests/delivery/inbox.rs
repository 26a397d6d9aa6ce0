//! Webhooks by the inbox: answered once they are there, published once, and none is lost in it.

use super::pressure::live;
use crate::support::kafka::Broker;
use crate::support::process::Process;
use crate::support::records::{committed, write};
use crate::support::relay::{Rig, drain, event_id, order_event, post};
use crate::support::settings::through_inbox;
use crate::support::watch::{eventually, metric};
use pepay_relay::kafka::Keys;
use pepay_relay::labels::{Leg, Outcome, Topic};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeSet;
use std::time::Duration;

/// The answer to a webhook that is in the inbox.
pub const QUEUED: &str = r#"{"ok":true,"queued":true}"#;

async fn rig(test: &str) -> Rig {
    let mut rig = Rig::new(Broker::shared().bootstrap(), test).await;
    rig.config = through_inbox(rig.config);
    rig
}

/// The walk comes too late to help, and there is no socket.
pub fn webhooks_alone(rig: &mut Rig) {
    rig.config.websocket.enabled = false;
    rig.config.backfill.every = Duration::from_secs(600);
    rig.config.backfill.first_start = Duration::ZERO;
}

/// The newest checkpoint.
async fn checkpoint(rig: &Rig) -> serde_json::Value {
    let key = Keys::new(&rig.config.name).checkpoint();
    let control = committed(&rig.config, Topic::Control).await;
    control.iter().rev().find(|record| record.key == key).expect("a checkpoint").json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_is_answered_queued_and_its_event_published_once() {
    let mut rig = rig("inbox").await;
    webhooks_alone(&mut rig);
    let rig = rig.with_webhooks();
    let daemon = rig.daemon().await;
    eventually("the first walk is done", async || daemon.metrics.walk_pages() > 0).await;
    live(&rig, 3);
    // A copy, and what is no event of an order, are answered alike: nobody has looked into them.
    let event = rig.simulator.events()[0].bytes.clone();
    let ping = br#"{"id":"evt_1-1","object":"event","type":"test.ping","created":1,"data":{"object":{}}}"#;
    for body in [&event[..], &event[..], &ping[..], b"{"] {
        let answer = rig.post(body).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, QUEUED));
    }
    rig.until_delivered().await;
    rig.simulator.wait_for_webhooks().await;
    eventually("the last dead letter stands", async || {
        daemon.metrics.outcomes(Leg::Webhook, Outcome::DeadLettered) == 1
    })
    .await;
    rig.assert_delivered().await;
    let metrics = drain(daemon).await;
    let inbox = committed(&rig.config, Topic::Inbox).await;
    let issued = rig.simulator.events().len();
    assert_eq!(inbox.len(), issued + 4);
    assert!(inbox.iter().all(|record| record.key == rig.config.name && !record.header("relay_node").is_empty()));
    assert_eq!(metrics.deliveries(Leg::Webhook), issued as u64 + 4, "a delivery of whoever takes it");
    let taken = metrics.outcomes(Leg::Webhook, Outcome::Duplicate);
    assert!(taken >= 2, "{taken}");
    let checkpoint = checkpoint(&rig).await;
    assert!(checkpoint["inbox"].as_u64().unwrap() >= inbox.len() as u64, "{checkpoint}");
    // Where the listener is that took it is of no interest; when it arrived there is.
    let orders = committed(&rig.config, Topic::Orders).await;
    let by_webhook = orders.iter().find(|record| record.header("relay_leg") == "webhook").expect("one by webhook");
    let received =
        inbox.iter().any(|record| record.header("relay_received_at") == by_webhook.header("relay_received_at"));
    assert!(received, "{by_webhook:?}");
}

/// Killed at any moment, the next one takes what was answered and not published.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_in_the_inbox_survives_kills() {
    let mut rig = rig("waiting").await;
    webhooks_alone(&mut rig);
    let mut relay = Process::ready(&rig).await;
    let secret = rig.simulator.webhook_secret();
    let mut sent = BTreeSet::new();
    for round in 0..4 {
        for number in 0..40 {
            let id = event_id(round * 1000 + number);
            let body = order_event(&id, &format!("order-{number}")).to_string();
            let answer = post(&rig.webhook_url(), secret, body.as_bytes()).await;
            assert_eq!(answer.body, QUEUED);
            sent.insert(id);
        }
        relay.signal("KILL");
        relay.ended().await;
        relay = Process::ready(&rig).await;
    }
    let found = async || -> Vec<String> {
        committed(&rig.config, Topic::Orders).await.iter().map(|record| record.header("ce_id").to_owned()).collect()
    };
    eventually("all stand", async || found().await.into_iter().collect::<BTreeSet<_>>().is_superset(&sent)).await;
    eventually("nothing waits", async || metric(&rig, "inbox_lag").await == 0).await;
    relay.stop().await;
    let mut ids = found().await;
    ids.sort();
    assert_eq!(ids, sent.into_iter().collect::<Vec<_>>(), "each once");
}

/// Retention deleted webhooks before they were taken: a gap records it, and the provider's log brings the events.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhooks_that_were_deleted_unread_are_a_gap() {
    let rig = rig("deleted").await;
    Process::ready(&rig).await.stop().await;
    live(&rig, 1);
    for number in 0..5 {
        let event = rig.simulator.events()[number].bytes.clone();
        write(&rig.config, &rig.config.kafka.topics.inbox, &rig.config.name, &event).await;
    }
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &rig.config.kafka.bootstrap_servers).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&rig.config.kafka.topics.inbox, 0, Offset::End).unwrap();
    admin.delete_records(&list, &AdminOptions::new()).await.unwrap();
    let mut relay = Process::ready(&rig).await;
    relay.line("webhooks were deleted from the inbox before they were taken").await;
    relay.line_with("gap opened", "cause", "inbox").await;
    rig.until_delivered().await;
    eventually("the walk proves it", async || metric(&rig, "gaps_open").await == 0).await;
    relay.stop().await;
    rig.assert_delivered().await;
}

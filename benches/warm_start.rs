//! The warm start against a real Kafka: `cargo bench --bench warm_start -- 1000000`.
//!
//! Writes as many order events as told (1.6 kB each, on `orders` and `orders.latest`, with their headers, as the relay
//! writes them), starts the real binary on them, and prints what reading them back took and what memory it left. A
//! bare consumer that reads the same committed records in the same run is what the machine can do at best.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "a bench prints, and may fail loudly"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use pepay_relay::clock::now_ms;
use pepay_relay::kafka::{Batch, Marks, Publisher, Verdict, topics};
use pepay_relay::labels::Topic;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::time::{Duration, Instant};
use support::kafka::Broker;
use support::proc::status_kib;
use support::process::Process;
use support::relay::Rig;
use support::settings::publisher;

/// Events of one transaction; each is two records.
const BATCH: u64 = 5_000;
/// Bytes of a value.
const VALUE: usize = 1_600;
/// Events of one order.
const STEPS: u64 = 6;
/// Starts that are measured.
const ROUNDS: usize = 3;

#[tokio::main]
async fn main() {
    let ids = std::env::args().filter_map(|argument| argument.parse().ok()).next_back().unwrap_or(1_000_000);
    let broker = Broker::measured();
    let rig = Rig::new(broker.bootstrap(), "warm").await;
    let began = Instant::now();
    write(&rig, ids).await;
    println!("wrote {ids} events ({} records) in {:.1?}", 2 * ids, began.elapsed());
    for round in 1..=ROUNDS {
        let (bootstrap, topic) = (broker.bootstrap().to_owned(), rig.config.kafka.topics.orders.clone());
        let bare = tokio::task::spawn_blocking(move || bare(&bootstrap, &topic, ids)).await.unwrap();
        let began = Instant::now();
        let mut relay = Process::ready(&rig).await;
        let ready = began.elapsed();
        let line = relay.line("window read back").await;
        let [known, records, bytes, took_ms] =
            ["ids", "records", "bytes", "took_ms"].map(|field| line[field].as_u64().unwrap());
        assert_eq!((known, records), (ids, ids), "every id is known again, and no other record was read");
        let took = Duration::from_millis(took_ms);
        println!(
            "round {round}: {records} records, {} MB read back in {took:.2?} (bare consumer {bare:.2?}, ratio {:.2}); \
             ready after {ready:.2?}; RSS {} MiB, peak {} MiB",
            bytes / 1_000_000,
            took.as_secs_f64() / bare.as_secs_f64(),
            status_kib(relay.pid(), "VmRSS") / 1024,
            status_kib(relay.pid(), "VmHWM") / 1024,
        );
        relay.stop().await;
    }
}

/// Order events as the relay publishes them.
async fn write(rig: &Rig, ids: u64) {
    let (config, secrets) = (&rig.config, &rig.secrets);
    let topics = topics::ensure(config, secrets).await.unwrap();
    let (mut publisher, _) = Publisher::start(publisher(config, secrets, topics)).await.unwrap();
    let value = vec![b'x'; VALUE];
    let mut batch = Batch::default();
    for first in (0..ids).step_by(usize::try_from(BATCH).unwrap()) {
        batch.clear();
        for number in first..(first + BATCH).min(ids) {
            record(&mut batch, number, &value);
        }
        publisher.submit(batch, Marks::default());
        let (back, verdict) = publisher.verdict().await;
        assert!(matches!(verdict, Ok(Verdict::Committed { .. })), "{verdict:?}");
        batch = back;
    }
    assert!(publisher.close(Duration::from_secs(10)).await);
}

fn record(batch: &mut Batch, number: u64, value: &[u8]) {
    let order = format!("{:08x}-0000-4000-8000-{:012x}", number / STEPS, number / STEPS);
    let id = format!("evt_{}-{number}", now_ms());
    let write = |out: &mut Vec<u8>| {
        out.extend_from_slice(value);
        Ok::<_, ()>(order.clone())
    };
    batch.push(Topic::Orders, write, |order| order.as_bytes()).unwrap();
    batch.header("ce_specversion", b"1.0");
    batch.header("ce_id", id.as_bytes());
    batch.header("ce_type", b"commerce.order.updated");
    batch.header("ce_source", b"/pepay/devnet");
    batch.header("ce_time", b"2023-11-14T22:13:20.000Z");
    batch.header("ce_subject", order.as_bytes());
    batch.header("ce_dataschema", b"urn:pepay-relay:order-event:1");
    batch.header("content-type", b"application/json");
    batch.header("relay_leg", b"websocket");
    batch.header("relay_received_at", b"2023-11-14T22:13:20.000Z");
    batch.header("relay_instance", b"bench");
    batch.repeat_last(Topic::OrdersLatest);
}

/// How long a consumer that does nothing else takes for `count` committed records.
fn bare(bootstrap: &str, topic: &str, count: u64) -> Duration {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "bare")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("fetch.queue.backoff.ms", "1")
        .create()
        .unwrap();
    let began = Instant::now();
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10)).unwrap();
    let mut list = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        list.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let (mut seen, mut bytes) = (0, 0);
    while seen < count {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            seen += 1;
            bytes += message.payload_len();
        }
    }
    assert!(bytes > 0);
    began.elapsed()
}

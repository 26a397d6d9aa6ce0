//! The base of all ratios: a bare transactional producer, with the relay's settings of librdkafka but for delivery reports,
//! which it gets of every record, as producers do.
//!
//! It writes what the relay would write: values, headers and keys come from the relay's own core, made before the
//! clock starts. It runs as a process of its own, so that its processor time is its own.

use super::load::Events;
use super::planned;
use super::proc::cpu_seconds;
use super::process::pause;
use super::receive::now_us;
use bytes::Bytes;
use futures::FutureExt;
use pepay_relay::kafka::{Batch, Record};
use pepay_relay::labels::{Leg, Topic};
use pepay_relay::legs::Arrival;
use pepay_relay::relay::planner::{Item, Now, Plan};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Of the form and size of the relay's.
const CHECKPOINT: &str = r#"{"run":"01890f6e-7b5a-7cc3-98c4-dc0c0c07398f","commit":123456,"cursor":"evt_1768471440402-1000123456","verified":"2026-01-15T10:04:00.402Z","gaps":[],"at":"2026-01-15T10:04:01.123Z","environment":"devnet"}"#;

/// What the base has to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    pub bootstrap: String,
    pub orders: String,
    /// The second topic, where there is one.
    pub latest: Option<String>,
    /// The topic of a checkpoint in each transaction, where there is one.
    pub control: Option<String>,
    /// Whether it waits for the broker in the wrapper's `poll`, which spins, instead of pausing.
    pub polls: bool,
    /// The beginning of the events' ids, in Unix milliseconds.
    pub began_ms: i64,
    pub events: u64,
    /// Events of one transaction.
    pub transaction: usize,
    /// Milliseconds between two transactions; 0 for none.
    pub every_ms: u64,
    /// Transactions before the clock starts.
    pub warm_up: usize,
}

/// Does it, and returns what it took: seconds, processor seconds, events, how long each transaction took in
/// milliseconds, and when the clock started, in Unix microseconds.
pub fn run(task: &Task) -> Value {
    let batches = batches(task);
    let producer: BaseProducer = settings(&task.bootstrap, &task.orders).create().expect("a producer");
    producer.init_transactions(Duration::from_secs(30)).expect("a coordinator");
    let (warm, counted) = batches.split_at(task.warm_up.min(batches.len()));
    let mut began = Instant::now();
    for (number, batch) in warm.iter().enumerate() {
        wait_until(began, number, task.every_ms);
        commit(&producer, task, batch);
    }
    let cpu = cpu_seconds(std::process::id());
    began = Instant::now();
    let began_us = now_us();
    let mut cycles = Vec::new();
    for (number, batch) in counted.iter().enumerate() {
        wait_until(began, number, task.every_ms);
        let cycle = Instant::now();
        commit(&producer, task, batch);
        cycles.push(cycle.elapsed().as_secs_f64() * 1e3);
    }
    let seconds = began.elapsed().as_secs_f64();
    let cpu = cpu_seconds(std::process::id()) - cpu;
    let orders = |batch: &Batch| batch.records().filter(|record| record.topic() == Topic::Orders).count();
    let events: usize = counted.iter().map(orders).sum();
    json!({ "seconds": seconds, "cpu": cpu, "events": events, "cycles_ms": cycles, "began_us": began_us })
}

fn wait_until(began: Instant, number: usize, every_ms: u64) {
    let due = Duration::from_millis(number as u64 * every_ms);
    pause(due.saturating_sub(began.elapsed()));
}

impl Task {
    /// Hands a record to librdkafka, with its headers.
    pub fn enqueue(&self, producer: &BaseProducer, record: Record<'_>) {
        let topic = match record.topic() {
            Topic::OrdersLatest => self.latest.as_deref().expect("asked for"),
            _ => &self.orders,
        };
        let headers = record.headers();
        let owned = OwnedHeaders::new_with_capacity(headers.len());
        let owned = headers.fold(owned, |owned, (key, value)| owned.insert(Header { key, value: Some(value) }));
        let mut message = BaseRecord::<[u8], [u8]>::to(topic).key(record.key()).headers(owned);
        message.payload = record.value();
        while let Err((error, back)) = producer.send(message) {
            assert!(error.to_string().contains("QueueFull"), "{error}");
            producer.poll(Duration::from_millis(1));
            message = back;
        }
    }

    /// Hands a checkpoint to librdkafka, where the task has one.
    pub fn enqueue_checkpoint(&self, producer: &BaseProducer) {
        if let Some(control) = &self.control {
            producer.send(BaseRecord::to(control).key("bench/checkpoint").payload(CHECKPOINT)).expect("room");
        }
    }
}

fn commit(producer: &BaseProducer, task: &Task, batch: &Batch) {
    producer.begin_transaction().expect("a transaction");
    batch.records().for_each(|record| task.enqueue(producer, record));
    task.enqueue_checkpoint(producer);
    // Committing would wait for the records too, in slices of 100 ms; a poll of a millisecond would spin.
    let began = Instant::now();
    while producer.in_flight_count() > 0 {
        if task.polls {
            producer.poll(Duration::from_millis(1));
            continue;
        }
        pause((began.elapsed() / 16).clamp(Duration::from_micros(50), Duration::from_micros(250)));
        producer.poll(Duration::ZERO);
    }
    producer.commit_transaction(Duration::from_secs(60)).expect("committed");
}

/// As the relay sets it, with the compression of the bench.
pub fn settings(bootstrap: &str, transactional_id: &str) -> ClientConfig {
    let mut client = ClientConfig::new();
    for (key, value) in [
        ("bootstrap.servers", bootstrap),
        ("transactional.id", transactional_id),
        ("compression.codec", "lz4"),
        ("linger.ms", "0"),
        ("batch.size", "1048076"),
        ("message.max.bytes", "1048588"),
        ("transaction.timeout.ms", "60000"),
        ("message.timeout.ms", "45000"),
        ("acks", "all"),
        ("enable.idempotence", "true"),
        ("max.in.flight.requests.per.connection", "5"),
        ("partitioner", "murmur2_random"),
    ] {
        client.set(key, value);
    }
    client
}

/// The records, as the relay's core plans them.
fn batches(task: &Task) -> Vec<Batch> {
    let mut core = planned::core(0, task.latest.is_some());
    let (intake, mut receiver) = planned::intake();
    let events = Events::new(task.began_ms);
    let now = Now { ms: task.began_ms, provider_ms: task.began_ms, own_ms: task.began_ms };
    let mut batches = Vec::new();
    let mut plan = core.begin(Plan::default());
    for number in 0..task.events {
        let body = Bytes::from(events.body(number));
        intake.offer(Leg::Websocket, body, now.ms).now_or_never().expect("room").expect("open");
        let mut arrived = Vec::new();
        receiver.drain(&mut arrived);
        for arrival in arrived {
            let Arrival::Delivery(delivery) = arrival else { continue };
            core.add(&mut plan, Item::Delivery(delivery, None), now);
        }
        if plan.len() == task.transaction || number + 1 == task.events {
            let next = core.begin(Plan::default());
            batches.push(core.commit(std::mem::replace(&mut plan, next), now.ms, |_| {}).batch);
        }
    }
    batches
}

//! The warm start and the journal against a real Kafka: `cargo bench --bench warm_start -- 1000000 100000`.
//!
//! Starts the real binary ten times with an empty window. Then writes as many events as the first number says in transactions
//! of 1,000, and as many as the second says in transactions of one event, as the relay writes its journal; starts the binary on
//! each, and prints what reading it back took and what memory it left. Then commits single events with their journal record
//! and without it in turns.

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
use pepay_relay::kafka::{Batch, Keys, Publisher, Verdict, topics};
use pepay_relay::labels::Topic;
use pepay_relay::relay::Version;
use pepay_relay::relay::journal::{Entries, Entry};
use std::ops::Range;
use std::time::{Duration, Instant};
use support::kafka::Broker;
use support::proc::status_kib;
use support::process::Process;
use support::relay::Rig;
use support::settings::publisher;

/// Events of one transaction.
const BATCH: u64 = 1_000;
/// Bytes of a value; nobody reads it back.
const VALUE: usize = 200;
/// Events of one order.
const STEPS: u64 = 6;
/// Starts that are measured.
const ROUNDS: usize = 5;
/// Starts with an empty window.
const EMPTY: usize = 10;
/// Transactions of one event, with the journal and without.
const TURNS: usize = 2_000;

#[tokio::main]
async fn main() {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse().ok());
    let batches = numbers.next().unwrap_or(1_000_000);
    let singles = numbers.next().unwrap_or(100_000);
    let broker = Broker::measured();
    empty(&broker).await;
    measure(&broker, "batches", batches, BATCH).await;
    measure(&broker, "singles", singles, 1).await;
    in_turns(&broker).await;
}

/// Starts with nothing to read back but the checkpoints of the starts before; the first one creates the topics.
async fn empty(broker: &Broker) {
    let rig = Rig::new(broker.bootstrap(), "empty").await;
    let mut took = Vec::new();
    for start in 0..=EMPTY {
        let began = Instant::now();
        let relay = Process::ready(&rig).await;
        match start {
            0 => println!("empty: topics created, ready after {:.2?}", began.elapsed()),
            _ => took.push(began.elapsed()),
        }
        relay.stop().await;
    }
    took.sort_unstable();
    println!("empty: {EMPTY} starts ready after {:.2?} (median), {:.2?} at most", took[EMPTY / 2], took[EMPTY - 1]);
}

/// Starts on `ids` events that were committed in transactions of `each`.
async fn measure(broker: &Broker, name: &str, ids: u64, each: u64) {
    let rig = Rig::new(broker.bootstrap(), name).await;
    let began = Instant::now();
    write(&rig, ids, each).await;
    println!("wrote {ids} events in transactions of {each} in {:.1?}", began.elapsed());
    let mut took_all = Vec::new();
    for round in 1..=ROUNDS {
        let began = Instant::now();
        let mut relay = Process::ready(&rig).await;
        let ready = began.elapsed();
        let line = relay.line("window read back").await;
        let [known, records, bytes, took_ms] =
            ["ids", "records", "bytes", "took_ms"].map(|field| line[field].as_u64().unwrap());
        assert_eq!(known, ids, "every id is known again");
        took_all.push(took_ms);
        println!(
            "{name} round {round}: {records} records, {} MB read back in {took_ms} ms; ready after {ready:.2?}; \
             RSS {} MiB, peak {} MiB",
            bytes / 1_000_000,
            status_kib(relay.pid(), "VmRSS") / 1024,
            status_kib(relay.pid(), "VmHWM") / 1024,
        );
        relay.stop().await;
    }
    took_all.sort_unstable();
    println!("{name}: median {} ms for {ids} ids in transactions of {each}", took_all[ROUNDS / 2]);
}

/// The journal of order events, as the relay writes it. The events' own records are left out: a start does not read them.
async fn write(rig: &Rig, ids: u64, each: u64) {
    let config = &rig.config;
    let secrets = &rig.secrets;
    let topics = topics::ensure(config, secrets).await.unwrap();
    let (mut publisher, _) = Publisher::start(publisher(config, secrets, topics)).await.unwrap();
    let mut batch = Batch::default();
    for first in (0..ids).step_by(usize::try_from(each).unwrap()) {
        batch.clear();
        let numbers = first..(first + each).min(ids);
        journal(&mut batch, &config.name, numbers, |_, _| {});
        batch = commit(&mut publisher, batch).await;
    }
    publisher.submit(Batch::default(), true);
    assert!(matches!(publisher.verdict().await.1, Ok(Verdict::Committed { .. })));
    assert!(publisher.close(Duration::from_secs(10)).await);
}

/// Adds the journal's records of these events, and what `event` adds for the order of each.
fn journal(batch: &mut Batch, name: &str, numbers: Range<u64>, event: impl Fn(&mut Batch, &str)) {
    let mut journal = Entries::default();
    for number in numbers {
        let order = order(number);
        let ms = now_ms();
        let id = format!("evt_{ms}-{number}");
        event(batch, &order);
        let version = Some(Version { ms, seq: number });
        journal.push(&Entry { account: "", topic: Topic::Orders, id: id.as_bytes(), key: order.as_bytes(), version });
    }
    let keys = Keys::new(name);
    journal.values().for_each(|value| batch.record(Topic::Control, keys.journal().as_bytes(), value));
    batch.answers_for(batch.len(), journal.count());
}

fn order(number: u64) -> String {
    format!("{:08x}-0000-4000-8000-{:012x}", number / STEPS, number / STEPS)
}

fn record(batch: &mut Batch, order: &str) {
    batch.record(Topic::Orders, order.as_bytes(), &[b'x'; VALUE]);
}

async fn commit(publisher: &mut Publisher, batch: Batch) -> Batch {
    publisher.submit(batch, false);
    let (batch, verdict) = publisher.verdict().await;
    assert!(matches!(verdict, Ok(Verdict::Committed { .. })), "{verdict:?}");
    batch
}

/// What the journal's record costs a transaction of one event.
async fn in_turns(broker: &Broker) {
    let rig = Rig::new(broker.bootstrap(), "turns").await;
    let config = &rig.config;
    let secrets = &rig.secrets;
    let topics = topics::ensure(config, secrets).await.unwrap();
    let (mut publisher, _) = Publisher::start(publisher(config, secrets, topics)).await.unwrap();
    let mut took = [Vec::new(), Vec::new()];
    let mut batch = Batch::default();
    for turn in 0..TURNS as u64 {
        for (which, took) in took.iter_mut().enumerate() {
            batch.clear();
            // The same order, so that both write to the same partitions.
            if which == 0 {
                journal(&mut batch, &config.name, turn..turn + 1, record);
            } else {
                record(&mut batch, &order(turn));
                batch.answers_for(1, 0);
            }
            let began = Instant::now();
            batch = commit(&mut publisher, batch).await;
            took.push(began.elapsed());
        }
    }
    let [with, without] = took.map(|mut took| {
        took.sort_unstable();
        (took[TURNS / 2], took[TURNS * 99 / 100])
    });
    println!(
        "a transaction of one event with its journal {:.3?} (p99 {:.3?}), without {:.3?} (p99 {:.3?}), ratio {:.3}",
        with.0,
        with.1,
        without.0,
        without.1,
        with.0.as_secs_f64() / without.0.as_secs_f64()
    );
    assert!(publisher.close(Duration::from_secs(10)).await);
}

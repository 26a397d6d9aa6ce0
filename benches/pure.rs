//! What one event costs without Kafka: `cargo bench --bench pure`.
//!
//! The event is an order event of 1.6 kB, as the provider sends it. `event` takes it through the core (decode, claim,
//! normalize, headers, settle) beside windows of three sizes: the cost has to stay flat.

#![allow(missing_docs, clippy::print_stdout, reason = "criterion's macros make public items; a bench prints")]

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures::FutureExt;
use pepay_relay::config::Environment;
use pepay_relay::legs::progress::Progress;
use pepay_relay::legs::{Arrival, Intake, IntakeReceiver, Leg};
use pepay_relay::normalize::{self, normalize};
use pepay_relay::provider::event::decode;
use pepay_relay::relay::core::{Core, Item, Now, Plan, Settings};
use pepay_relay::relay::{Versions, Window};
use std::hint::black_box;
use std::time::Duration;

/// An order event of 1.6 kB.
const EVENT: &str = include_str!("../tests/fixtures/events/commerce.order.updated.processing.json");

/// Deliveries of one plan.
const BATCH: usize = 1_000;

const NOW: Now = Now { ms: 1_768_480_000_000, provider_ms: 1_768_480_000_000 };

/// The event as it comes over the wire: the members in the provider's order, without the white space of the file.
fn body() -> String {
    EVENT.lines().map(str::trim).collect::<String>().replace("\": ", "\":")
}

fn values() -> normalize::Settings {
    normalize::Settings { environment: Environment::Devnet, drop: Vec::new(), include_raw: false }
}

fn parts(criterion: &mut Criterion) {
    let body = body();
    let mut group = criterion.benchmark_group("parts");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("decode", |bench| bench.iter(|| decode(black_box(body.as_bytes())).is_ok()));
    let (settings, mut value) = (values(), Vec::with_capacity(4 * body.len()));
    group.bench_function("decode_normalize", |bench| {
        bench.iter(|| {
            value.clear();
            let event = decode(black_box(body.as_bytes())).ok();
            event.and_then(|event| normalize(&event, &settings, &mut value).ok()).map(|made| made.occurred_at_ms)
        });
    });
    group.finish();
}

/// A core whose window holds `ids`.
fn core(ids: u64) -> Core {
    let settings = Settings { instance: "bench".into(), normalize: values(), orders_latest: true, invoices: true };
    let (day, seed) = (Duration::from_secs(86_400), [1, 2]);
    let mut window = Window::new(day, usize::MAX, seed);
    for id in 0..ids {
        window.remember(&id.to_le_bytes(), NOW.ms);
    }
    println!("{ids} ids: {:.1} bytes an id", window.bytes() as f64 / window.len() as f64);
    Core::new(settings, window, Versions::new(day, usize::MAX, seed), Progress::default())
}

fn arrival(intake: &Intake, receiver: &mut IntakeReceiver, body: Bytes) -> Option<Item> {
    intake.offer(Leg::Websocket, body, NOW.ms).now_or_never()?.ok()?;
    let mut arrived = Vec::new();
    receiver.drain(&mut arrived);
    match arrived.pop()? {
        Arrival::Delivery(delivery) => Some(Item::Delivery(delivery, None)),
        Arrival::Note(note) => Some(Item::Note(note)),
    }
}

/// A window of 10 million ids is filled once and only grows by what a run claims.
fn event(criterion: &mut Criterion) {
    let body = body();
    let (intake, mut receiver) = Intake::new(1 << 30);
    let mut group = criterion.benchmark_group("event");
    group.throughput(Throughput::Elements(1));
    for ids in [10_000, 1_000_000, 10_000_000] {
        let mut core = core(ids);
        let mut number = 0u64;
        let mut plan = core.begin(Plan::default());
        group.bench_function(BenchmarkId::new("core", ids), |bench| {
            bench.iter_batched(
                || {
                    number += 1;
                    let body = body.replacen("evt_1768471440402-1", &format!("evt_1768471440402-{number}"), 1);
                    arrival(&intake, &mut receiver, Bytes::from(body))
                },
                |item| {
                    if let Some(item) = item {
                        core.add(&mut plan, item, NOW);
                    }
                    if plan.len() >= BATCH {
                        let full = std::mem::take(&mut plan);
                        let spare = core.commit(full, NOW.ms, |_| {});
                        plan = core.begin(spare);
                    }
                },
                criterion::BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, parts, event);
criterion_main!(benches);

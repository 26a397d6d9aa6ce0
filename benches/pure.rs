//! What one event costs without Kafka: `cargo bench --bench pure`.
//!
//! The event is an order event of 1.6 kB, as the provider sends it. `event` takes it through the core (decode, claim,
//! normalize, headers, settle) alongside windows of three sizes: the cost has to stay flat.

#![allow(missing_docs, clippy::print_stdout, reason = "criterion's macros make public items; a bench prints")]
#![allow(
    clippy::expect_used,
    unreachable_pub,
    dead_code,
    reason = "a program of its own, which shares a file with the tests"
)]

#[path = "../tests/support/planned.rs"]
mod planned;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pepay_relay::normalize::normalize;
use pepay_relay::provider::event::decode;
use pepay_relay::relay::planner::Plan;
use planned::{BATCH, NOW, body, core, intake, item, values};
use std::hint::black_box;

fn parts(criterion: &mut Criterion) {
    let body = body();
    let mut group = criterion.benchmark_group("parts");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("decode", |bench| bench.iter(|| decode(black_box(body.as_bytes())).is_ok()));
    let settings = values();
    let mut value = Vec::with_capacity(4 * body.len());
    group.bench_function("decode_normalize", |bench| {
        bench.iter(|| {
            value.clear();
            let event = decode(black_box(body.as_bytes())).ok();
            event.and_then(|event| normalize(&event, &settings, &mut value).ok()).map(|made| made.occurred_at_ms)
        });
    });
    group.finish();
}

/// A window of 10 million ids is filled once and only grows by what a run claims.
fn event(criterion: &mut Criterion) {
    let body = body();
    let mut intake = intake();
    let mut group = criterion.benchmark_group("event");
    group.throughput(Throughput::Elements(1));
    for ids in [10_000, 1_000_000, 10_000_000] {
        let mut core = core(ids, true);
        let window = core.window();
        println!("{ids} ids: {:.1} bytes an id", window.bytes() as f64 / window.len() as f64);
        let mut number = 0u64;
        let mut plan = core.begin(Plan::default());
        group.bench_function(BenchmarkId::new("core", ids), |bench| {
            bench.iter_batched(
                || {
                    number += 1;
                    item(&mut intake, &body, number)
                },
                |item| {
                    core.add(&mut plan, item, NOW);
                    if plan.len() as u64 >= BATCH {
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

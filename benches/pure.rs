//! What one event costs without Kafka: `cargo bench --bench pure`.

#![allow(missing_docs, reason = "criterion's macros make public items")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pepay_relay::config::Environment;
use pepay_relay::normalize::{Settings, normalize};
use pepay_relay::provider::event::decode;
use std::hint::black_box;

/// A webhook's body as the provider sends it: an order event of 1.6 to 2.1 kB.
const EVENT: &[u8] = include_bytes!("../tests/fixtures/webhook/body.commerce.order.updated.raw");

fn decode_normalize(criterion: &mut Criterion) {
    let settings = Settings { environment: Environment::Devnet, drop: Vec::new(), include_raw: false };
    let mut group = criterion.benchmark_group("decode_normalize");
    group.throughput(Throughput::Bytes(EVENT.len() as u64));
    group.bench_function("decode", |bench| bench.iter(|| decode(black_box(EVENT)).is_ok()));
    let mut value = Vec::with_capacity(4 * EVENT.len());
    group.bench_function("decode_normalize", |bench| {
        bench.iter(|| {
            value.clear();
            let event = decode(black_box(EVENT)).ok();
            event
                .and_then(|event| normalize(&event, &settings, black_box(&mut value)).ok())
                .map(|made| made.occurred_at_ms)
        });
    });
    group.finish();
}

criterion_group!(benches, decode_normalize);
criterion_main!(benches);

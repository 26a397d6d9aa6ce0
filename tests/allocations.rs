//! What one order event costs in memory traffic: allocations and bytes, counted by the allocator itself.
//!
//! A count is the same on every machine, however fast and however busy, so that a regression fails honestly. Each bound
//! is what was counted when it was written, and no more: who improves on one lowers it.
//!
//! One test alone, in a program of its own: other threads would be counted too.

#![allow(clippy::unwrap_used, reason = "a failed test may panic")]
#![allow(clippy::print_stdout, clippy::cast_precision_loss, reason = "figures")]

use bytes::Bytes;
use futures::FutureExt;
use pepay_relay::config::Environment;
use pepay_relay::kafka::Batch;
use pepay_relay::legs::progress::Progress;
use pepay_relay::legs::{Arrival, Intake, Leg};
use pepay_relay::normalize;
use pepay_relay::relay::core::{Core, Item, Now, Settings};
use pepay_relay::relay::{Versions, Window};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// An order event of 1.6 kB.
const EVENT: &str = include_str!("fixtures/events/commerce.order.updated.processing.json");

/// Events of one batch; what a batch costs once is spread over them.
const BATCH: u64 = 1_000;

/// Batches before the count, in which buffers, window and versions grow.
const WARM_UP: u64 = 4;

const NOW: Now = Now { ms: 1_768_480_000_000, provider_ms: 1_768_480_000_000 };

/// Decoding, claim, value, headers and `latest`: allocations, and bytes allocated, of one event.
const PLANNED: (f64, f64) = (5.02, 4_120.0);

/// All of the core, with settling: the same.
const SETTLED: (f64, f64) = (5.02, 4_120.0);

/// Events number `first` and on, as the relay gets them.
fn items(first: u64) -> Vec<Item> {
    let body = serde_json::from_str::<serde_json::Value>(EVENT).unwrap().to_string();
    let (intake, mut receiver) = Intake::new(1 << 30);
    let mut arrived = Vec::new();
    for number in first..first + BATCH {
        let body = body.replace("evt_1768471440402-1", &format!("evt_1768471440402-{number}"));
        intake.offer(Leg::Websocket, Bytes::from(body), NOW.ms).now_or_never().unwrap().unwrap();
        receiver.drain(&mut arrived);
    }
    let delivery = |arrival| match arrival {
        Arrival::Delivery(delivery) => Item::Delivery(delivery, None),
        Arrival::Note(note) => Item::Note(note),
    };
    arrived.into_iter().map(delivery).collect()
}

#[test]
fn an_event_costs_no_more_memory_traffic_than_it_did() {
    let normalize = normalize::Settings { environment: Environment::Devnet, drop: Vec::new(), include_raw: false };
    let settings = Settings { instance: "count".into(), normalize, orders_latest: true, invoices: true };
    let (day, seed) = (Duration::from_secs(86_400), [1, 2]);
    // Room for all of them: that a table doubles now and then would be counted against whoever comes next.
    let mut window = Window::new(day, usize::MAX, seed);
    for id in 0..3 * WARM_UP * BATCH {
        window.remember(&id.to_le_bytes(), NOW.ms);
    }
    let mut core = Core::new(settings, window, Versions::new(day, usize::MAX, seed), Progress::default());
    let mut batch = Batch::default();
    let mut counted = None;
    for round in 0..=WARM_UP {
        let items = items(1 + round * BATCH);
        let region = Region::new(ALLOCATOR);
        let mut plan = core.begin(std::mem::take(&mut batch));
        for item in items {
            assert!(core.add(&mut plan, item, NOW).is_none(), "each is new");
        }
        let planned = region.change();
        assert_eq!(plan.batch.len() as u64, 2 * BATCH, "orders and latest");
        batch = core.commit(plan, NOW.ms, |_| {});
        counted = Some((planned, region.change()));
    }
    let (planned, settled) = counted.unwrap();
    for (what, stats, bound) in [("planned", planned, PLANNED), ("settled", settled, SETTLED)] {
        let an_event = |count: usize| count as f64 / BATCH as f64;
        let allocations = an_event(stats.allocations + stats.reallocations);
        let bytes = an_event(stats.bytes_allocated);
        println!("{what}: {allocations} allocations, {bytes} bytes an event");
        assert!(allocations <= bound.0, "{what}: {allocations} allocations an event, more than {}", bound.0);
        assert!(bytes <= bound.1, "{what}: {bytes} bytes an event, more than {}", bound.1);
    }
}

//! What one order event costs in memory traffic: allocations and bytes, counted by the allocator itself.
//!
//! A count is the same on every machine, however fast and however busy, so that a regression fails honestly. Each bound
//! is what was counted when it was written, and no more: who improves on one lowers it.
//!
//! One test alone, in a program of its own: other threads would be counted too.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test may panic")]
#![allow(clippy::print_stdout, clippy::cast_precision_loss, reason = "figures")]
#![allow(unreachable_pub, missing_docs, reason = "a program of its own, which shares a file with another test")]

#[path = "support/planned.rs"]
mod planned;

use pepay_relay::relay::planner::Plan;
use planned::{BATCH, NOW, core, items};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Batches before the count, in which buffers, window and versions grow.
const WARM_UP: u64 = 4;

/// Decoding, claim, value, headers and `latest`: allocations, and bytes allocated, of one event.
const PLANNED: (f64, f64) = (2.01, 3_100.0);

/// All of the core, with settling: the same.
const SETTLED: (f64, f64) = (2.01, 3_100.0);

#[test]
fn an_event_costs_no_more_memory_traffic_than_it_did() {
    // Room for all of them: that a table doubles now and then would be counted against the next one.
    let mut core = core(3 * WARM_UP * BATCH, true);
    let mut spare = Plan::default();
    let mut counted = None;
    for batch in 0..=WARM_UP {
        let items = items(batch);
        let region = Region::new(ALLOCATOR);
        let mut plan = core.begin(std::mem::take(&mut spare));
        for item in items {
            assert!(core.add(&mut plan, item, NOW).is_none(), "each is new");
        }
        let planned = region.change();
        assert_eq!(plan.batch.len() as u64, 2 * BATCH, "orders and latest");
        spare = core.commit(plan, NOW.ms, |_| {});
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

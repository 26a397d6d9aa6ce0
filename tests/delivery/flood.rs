//! The provider pours out everything at once, as a backlog in its log at the start and then by the socket: memory.
//!
//! `just pressure` pours 200,000 events each way in a release build and prints a table.

use super::pressure::live;
use crate::support::kafka::Broker;
use crate::support::process::Process;
use crate::support::records::committed;
use crate::support::relay::{PATIENCE, Rig};
use crate::support::watch::{eventually, forget_peak, memory, metric, published};
use pepay_relay::labels::Topic;
use pepay_relay::simulator::FaultAnswer;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Events each way; `PRESSURE_EVENTS` changes that.
const EVENTS: usize = 20_000;

/// Resident bytes once everything has settled after the start, and at most at any time.
const AFTER_START_MAX: u64 = 256 << 20;
const PEAK_MAX: u64 = 512 << 20;

/// Longest silence of a flood: it has to go on, however slow the machine.
const STALLED: Duration = PATIENCE;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_by_the_log_and_by_the_socket_stays_within_its_memory_and_arrives_once() {
    #[expect(clippy::disallowed_methods, reason = "a setting of the tests, not of the relay")]
    let events = std::env::var("PRESSURE_EVENTS").map_or(EVENTS, |events| events.parse().expect("a number"));
    let mut rig = Rig::with_log_of(3 * events, Broker::shared().bootstrap(), "flood").await;
    // Defaults where a test would be impatient: a walk is not to begin while the last one is at it.
    rig.config.backfill.every = Duration::from_secs(300);
    rig.config.backfill.hold_max = Duration::from_secs(30);
    rig.config.websocket.idle_timeout = Duration::from_secs(60);

    let backlog = pour(&rig, events);
    let relay = Process::ready(&rig).await;
    let began = Instant::now();
    arrived(&rig, backlog).await;
    let mut rows = vec![row("backlog in the log", backlog, began.elapsed(), memory(relay.pid()).peak)];
    settled(&rig).await;
    let start = memory(relay.pid());
    rows.push(format!("| after the start | | | | {} MiB |", start.now >> 20));

    // The socket replays all of it at once, and no walk helps, so that it waits in the hold and then in the intake.
    forget_peak(relay.pid());
    let faults = rig.simulator.faults();
    faults.set(|faults| {
        faults.websocket.refuse = Some(FaultAnswer::status(503));
        faults.rest.refuse = Some(FaultAnswer::status(503));
    });
    faults.cut_sockets(&pepay_relay::simulator::Cut::Abrupt);
    eventually("the cut", async || metric(&rig, "leg_connected{leg=\"websocket\"}").await == 0).await;
    let both = backlog + pour(&rig, events);
    faults.set(|faults| faults.websocket.refuse = None);
    let began = Instant::now();
    arrived(&rig, both).await;
    rows.push(row("replay by the socket", both - backlog, began.elapsed(), memory(relay.pid()).peak));
    faults.clear();
    settled(&rig).await;
    let end = memory(relay.pid());
    rows.push(format!("| after the replay | | | | {} MiB |", end.now >> 20));
    println!("\n| | events | s | events/s | resident |\n|---|---|---|---|---|\n{}", rows.join("\n"));

    relay.stop().await;
    assert_once(&rig).await;
    assert!(start.now < AFTER_START_MAX && start.peak < PEAK_MAX && end.peak < PEAK_MAX, "{start:?}, {end:?}");
}

/// Issues at least `events` events more; returns how many.
fn pour(rig: &Rig, events: usize) -> u64 {
    let before = rig.simulator.events().len();
    let mut issued = 0;
    while issued < events {
        live(rig, 100);
        issued = rig.simulator.events().len() - before;
    }
    issued as u64
}

fn row(what: &str, events: u64, took: Duration, peak: u64) -> String {
    let rate = u128::from(events) * 1000 / took.as_millis().max(1);
    format!("| {what} | {events} | {:.1} | {rate} | {} MiB |", took.as_secs_f64(), peak >> 20)
}

/// Waits until this many events are committed; their number has to grow all the time.
async fn arrived(rig: &Rig, events: u64) {
    let mut last = 0;
    let mut moved = Instant::now();
    while last < events {
        sleep(Duration::from_millis(100)).await;
        let now = published(rig).await;
        if now > last {
            last = now;
            moved = Instant::now();
        }
        assert!(moved.elapsed() < STALLED, "{last} of {events}, and no more");
    }
}

/// Waits until nothing is inside.
async fn settled(rig: &Rig) {
    for leg in ["websocket", "backfill"] {
        let series = format!("in_flight{{leg=\"{leg}\"}}");
        eventually("all is settled", async || metric(rig, &series).await == 0).await;
    }
}

/// Each event is there once. Values and order are the other tests' business.
async fn assert_once(rig: &Rig) {
    let mut found = Vec::new();
    for topic in [Topic::Orders, Topic::Invoices] {
        found.extend(committed(&rig.config, topic).await.into_iter().map(|record| record.header("ce_id").to_owned()));
    }
    let mut wanted: Vec<_> = rig.simulator.events().iter().map(|event| event.id.clone()).collect();
    found.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(found.len(), wanted.len(), "each once");
    assert!(found == wanted, "each once");
}

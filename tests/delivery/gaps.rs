//! Cuts, silence and dropped frames: the event log brings what the socket missed, and each gap closes.

use crate::support::kafka::Broker;
use crate::support::records::{Record, committed, control_until};
use crate::support::relay::{PATIENCE, Rig, drain, until};
use pepay_relay::daemon::Daemon;
use pepay_relay::labels::{Cause, Leg, Outcome, Topic};
use pepay_relay::normalize::schemas;
use pepay_relay::simulator::Transition;
use pepay_relay::simulator::faults::Since;
use pepay_relay::simulator::{Cut, FaultAnswer};
use serde_json::Value;

fn live(rig: &Rig) {
    let order = rig.simulator.create_order().unwrap();
    Transition::LIFE.iter().for_each(|step| rig.simulator.simulate(&order, *step).unwrap());
}

/// Waits until the control topic holds a closed gap of this cause, and no gap is open.
pub async fn closed(rig: &Rig, cause: &'static str) -> Value {
    let name = rig.config.name.clone();
    let found = move |records: &[Record]| {
        let newest = |prefix: String| {
            let records = records.iter().rev().filter(move |record| record.key.starts_with(&prefix));
            records.map(Record::json)
        };
        let gap = newest(format!("{name}/gap/")).find(|gap| gap["cause"] == cause);
        let marks = newest(format!("{name}/marks/")).next()?;
        let open = marks["gaps"].as_array()?.iter().any(|gap| gap["closed_at"].is_null());
        gap.filter(|_| !open)
    };
    control_until(&rig.config, found).await.unwrap_or_else(|| panic!("{cause} closes"))
}

/// Every checkpoint, all marks, those with open gaps among them, and every closed gap fit the control topic's schema.
async fn control_fits_its_schema(rig: &Rig) {
    let schema = jsonschema::validator_for(&schemas()["control"]).unwrap();
    let records = committed(&rig.config, Topic::Control).await;
    let json = records.iter().filter(|record| record.value.is_some() && !record.key.ends_with("/journal"));
    let values: Vec<_> = json.map(Record::json).collect();
    for value in &values {
        let wrong: Vec<_> =
            schema.iter_errors(value).map(|error| format!("{error} at {}", error.instance_path())).collect();
        assert!(wrong.is_empty(), "{value}: {wrong:#?}");
    }
    let has_gaps = |value: &Value| value["gaps"].as_array().is_some_and(|gaps| !gaps.is_empty());
    assert!(values.iter().any(has_gaps), "marks with an open gap were looked at");
    assert!(values.iter().any(|value| value["closed_at"].is_string()), "a closed gap was looked at");
}

/// Nothing is missing, nothing is there twice, the cursor is at the newest event, and all of it is written as
/// documented.
async fn finish(rig: &Rig, daemon: Daemon) {
    rig.until_delivered().await;
    drain(daemon).await;
    rig.assert_delivered().await;
    let newest = rig.simulator.events().last().unwrap().id.clone();
    assert_eq!(rig.marks().await["cursor"], newest.as_str());
    control_fits_its_schema(rig).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_a_cut_are_fetched_when_rest_is_back_and_the_gap_closes() {
    let rig = Rig::new(Broker::shared().bootstrap(), "cut").await;
    let daemon = rig.daemon().await;
    live(&rig);
    rig.until_delivered().await;
    closed(&rig, "first_start").await;
    let faults = rig.simulator.faults();
    faults.set(|faults| {
        faults.websocket.refuse = Some(FaultAnswer::status(503));
        faults.rest.refuse = Some(FaultAnswer::status(503));
    });
    faults.cut_sockets(&Cut::Abrupt);
    until("the cut", || daemon.metrics.reconnects(Cause::ServerError) > 0).await;
    live(&rig);
    // The socket is back before the log is, and does not know of what it missed.
    faults.set(|faults| {
        faults.websocket.refuse = None;
        faults.websocket.since = Since::Ignored;
        faults.websocket.replay_missing = true;
    });
    rig.simulator.wait_for_connections(1).await;
    live(&rig);
    faults.clear();
    let gap = closed(&rig, "reset").await;
    assert_eq!(gap["closed_by"], "backfill");
    assert!(gap["recovered"].as_u64().unwrap() > 0, "{gap}");
    assert!(daemon.metrics.outcomes(Leg::Backfill, Outcome::Published) > 0);
    finish(&rig, daemon).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_is_noticed_and_what_was_sent_meanwhile_is_resumed() {
    let rig = Rig::new(Broker::shared().bootstrap(), "silence").await;
    let daemon = rig.daemon().await;
    live(&rig);
    rig.until_delivered().await;
    let faults = rig.simulator.faults();
    faults.set(|faults| faults.websocket.silent = true);
    live(&rig);
    until("the silence is noticed", || daemon.metrics.reconnects(Cause::Silence) > 0).await;
    faults.clear();
    closed(&rig, "silence").await;
    finish(&rig, daemon).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_dropped_without_a_word_are_found_by_the_walk_of_the_timer() {
    let mut rig = Rig::new(Broker::shared().bootstrap(), "dropped").await;
    rig.config.websocket.idle_timeout = PATIENCE;
    let daemon = rig.daemon().await;
    live(&rig);
    rig.until_delivered().await;
    rig.simulator.faults().set(|faults| faults.websocket.drop_next = 3);
    live(&rig);
    rig.until_delivered().await;
    assert!(daemon.metrics.outcomes(Leg::Backfill, Outcome::Published) >= 1);
    assert_eq!(rig.simulator.connections_made(), 1, "the socket never noticed");
    finish(&rig, daemon).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_the_log_shows_late_are_found() {
    let rig = Rig::new(Broker::shared().bootstrap(), "late").await;
    let daemon = rig.daemon().await;
    live(&rig);
    rig.until_delivered().await;
    let faults = rig.simulator.faults();
    // Less than `overlap`, as the settings promise it of the provider.
    faults.set(|faults| {
        faults.rest.log_visible_after = std::time::Duration::from_millis(700);
        faults.websocket.refuse = Some(FaultAnswer::status(503));
    });
    faults.cut_sockets(&Cut::Close(1012));
    until("the cut", || daemon.metrics.reconnects(Cause::ServerError) > 1).await;
    live(&rig);
    faults.set(|faults| {
        faults.websocket.refuse = None;
        faults.websocket.since = Since::Ignored;
    });
    closed(&rig, "server_error").await;
    finish(&rig, daemon).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_overflows_is_noticed_and_nothing_is_lost() {
    let mut rig = Rig::new(Broker::shared().bootstrap(), "overflow").await;
    // The silence below is not to be found out before the overflow is.
    rig.config.websocket.idle_timeout = PATIENCE;
    let daemon = rig.daemon().await;
    rig.simulator.wait_for_connections(1).await;
    // More than the simulator buffers for a reader that does not read: it drops what it has, and asks for a resync.
    rig.simulator.faults().set(|faults| faults.websocket.silent = true);
    let orders: Vec<_> = (0..600).map(|_| rig.simulator.create_order().unwrap()).collect();
    for step in Transition::LIFE {
        orders.iter().for_each(|order| rig.simulator.simulate(order, step).unwrap());
    }
    rig.simulator.faults().clear();
    closed(&rig, "resync").await;
    finish(&rig, daemon).await;
}

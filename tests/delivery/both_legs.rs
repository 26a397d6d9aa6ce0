//! The whole relay, both legs at once.

use crate::support::kafka::Broker;
use crate::support::relay::{Rig, drain, until};
use pepay_relay::labels::{Leg, Outcome};
use pepay_relay::simulator::{FaultAnswer, Transition};
use std::time::Duration;

const EVENTS: usize = 10_000;

/// Frames that get lost, so that webhooks have something to be first with; the socket is ahead of them as a rule.
const DROPPED: u32 = 200;

/// Orders that live at the same time, so that their events mix.
const TOGETHER: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_events_on_both_legs_shuffled_and_repeated_are_committed_once_and_in_order() {
    let rig = Rig::new(Broker::shared().bootstrap(), "both").await.with_webhooks();
    let daemon = rig.daemon().await;
    rig.simulator.wait_for_connections(1).await;
    rig.simulator.faults().set(|faults| {
        faults.webhooks.jitter = Duration::from_millis(500);
        faults.webhooks.duplicate_percent = 10;
        faults.websocket.duplicate_percent = 10;
    });
    let mut issued = 0;
    let mut half = false;
    while issued < EVENTS {
        if issued > EVENTS / 2 && !std::mem::replace(&mut half, true) {
            rig.simulator.faults().set(|faults| {
                faults.websocket.drop_next = DROPPED;
                // Nor is a walk to be first.
                faults.rest.refuse = Some(FaultAnswer::status(503));
            });
        }
        let orders: Vec<_> = (0..TOGETHER).map(|_| rig.simulator.create_order().unwrap()).collect();
        for step in Transition::LIFE {
            orders.iter().for_each(|order| rig.simulator.simulate(order, step).unwrap());
        }
        issued = rig.simulator.events().len();
        // The simulator's buffer for a slow reader holds 4,096 frames; that it overflows is another test.
        let read = || daemon.metrics.deliveries(Leg::Websocket) as usize + DROPPED as usize >= issued;
        until("the socket's frames", read).await;
    }
    rig.simulator.wait_for_webhooks().await;
    rig.simulator.faults().clear();
    let metrics = &daemon.metrics;
    until("the last commit", || Leg::ALL.iter().all(|leg| metrics.in_flight(*leg) == 0)).await;
    let tally = rig.simulator.webhooks();
    assert_eq!((tally.given_up, tally.dropped), (0, 0));
    let metrics = drain(daemon).await;

    rig.assert_delivered().await;
    let published = Leg::ALL.map(|leg| metrics.outcomes(leg, Outcome::Published));
    assert_eq!(published.iter().sum::<u64>() as usize, issued);
    let repeated = |leg| metrics.deliveries(leg) as usize - issued;
    assert!(repeated(Leg::Websocket) > EVENTS / 20 && repeated(Leg::Webhook) > EVENTS / 20, "about a tenth each");
    assert!(
        published[Leg::Websocket as usize] > 0 && published[Leg::Webhook as usize] > 0,
        "each leg wins: {published:?}"
    );
}

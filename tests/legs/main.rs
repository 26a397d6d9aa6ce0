//! The legs against the provider's side of the wire: a WebSocket server, raw TCP and HTTP peers, each in the test.
//!
//! The test plays the relay: it takes deliveries out of the intake and settles them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod admin;
mod backfill;
mod dial;
mod hold;
mod rest;
mod webhook;
mod websocket;

use pepay_relay::config::Config;
use pepay_relay::labels::{Leg, Outcome};
use pepay_relay::legs::Note;
use pepay_relay::legs::{Arrival, Delivery, IntakeReceiver};
use pepay_relay::provider::Environment;
use pepay_relay::telemetry::Metrics;
use std::time::Duration;

/// Far longer than anything here takes; a test that hangs fails by it.
const PATIENCE: Duration = Duration::from_secs(20);

/// The settings that a relay has which is given none: each test changes those that it is about.
fn defaults() -> Config {
    Config::minimal(Environment::Devnet, "127.0.0.1:1")
}

/// The value of `future`, which must come soon.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it comes soon")
}

/// The next arrival out of the intake.
async fn arrival(receiver: &mut IntakeReceiver) -> Arrival {
    let mut batch = Vec::new();
    assert_eq!(soon(receiver.recv_many(&mut batch, 1)).await, 1, "the intake is open");
    batch.remove(0)
}

/// The next delivery, past what legs report.
async fn next(receiver: &mut IntakeReceiver) -> Delivery {
    loop {
        if let Arrival::Delivery(delivery) = arrival(receiver).await {
            return delivery;
        }
    }
}

/// The next thing that a leg reports, past its deliveries, which count as published.
async fn told(receiver: &mut IntakeReceiver, metrics: &Metrics) -> Note {
    loop {
        match arrival(receiver).await {
            Arrival::Delivery(delivery) => settle(metrics, delivery, Outcome::Published),
            Arrival::Note(_, note) => return note,
            Arrival::Admitted(..) => {}
        }
    }
}

/// Settles a delivery as the relay does: counted, then answered.
fn settle(metrics: &Metrics, delivery: Delivery, outcome: Outcome) {
    metrics.outcome(delivery.leg, outcome);
    if let Some(reply) = delivery.reply {
        let _ = reply.send(outcome);
    }
}

/// Deliveries = outcomes + in flight, and nothing is in flight.
fn assert_books_balance(metrics: &Metrics) {
    for leg in Leg::ALL {
        let outcomes: u64 = Outcome::ALL.into_iter().map(|outcome| metrics.outcomes(leg, outcome)).sum();
        assert_eq!((metrics.deliveries(leg), metrics.in_flight(leg)), (outcomes, 0), "{leg}");
    }
}

//! The work that is counted and timed: order events, taken batch after batch through the core.

use bytes::BytesMut;
use futures::FutureExt;
use pepay_relay::kafka::shard::Shard;
use pepay_relay::labels::{Account, Leg};
use pepay_relay::legs::{Arrival, Intake, IntakeReceiver};
use pepay_relay::normalize;
use pepay_relay::provider::Environment;
use pepay_relay::relay::planner::{Item, Now, Planner, Settings};
use pepay_relay::relay::progress::Known;
use pepay_relay::relay::{Versions, Window};
use std::time::Duration;

/// An order event of 1.6 kB.
const EVENT: &str = include_str!("../fixtures/events/commerce.order.updated.processing.json");

/// Events of one batch; what a batch costs once is spread over them.
pub const BATCH: u64 = 1_000;

const NOW_MS: i64 = 1_768_480_000_000;
pub const NOW: Now = Now { ms: NOW_MS, provider_ms: NOW_MS, own_ms: NOW_MS };

/// The event as it comes over the wire: the members in the provider's order, without the white space of the file.
pub fn body() -> String {
    EVENT.lines().map(str::trim).collect::<String>().replace("\": ", "\":")
}

/// What values look like.
pub fn values() -> normalize::Settings {
    normalize::Settings { environment: Environment::Devnet, drop: Vec::new(), include_raw: false }
}

/// A core whose window holds `ids`, and that writes the newest event of each order once more where `orders_latest`.
pub fn core(ids: u64, orders_latest: bool) -> Planner {
    let schema_ids = normalize::SchemaIds::default();
    let settings = Settings {
        instance: "count".into(),
        normalize: values(),
        orders_latest,
        invoices: true,
        schema_ids,
        shard: Shard::SOLE,
    };
    let day = Duration::from_secs(86_400);
    let seed = [1, 2];
    let mut window = Window::new(day, usize::MAX, seed);
    for id in 0..ids {
        window.remember(Account::FIRST, &id.to_le_bytes(), NOW.ms);
    }
    Planner::new(settings, window, Versions::new(day, usize::MAX, seed), vec![Known::default()])
}

/// An intake that nobody else uses.
pub fn intake() -> (Intake, IntakeReceiver) {
    Intake::new(1 << 30)
}

/// Event number `number`, as the relay gets it from an intake.
pub fn item((intake, receiver): &mut (Intake, IntakeReceiver), body: &str, number: u64) -> Item {
    let body = body.replacen("evt_1768471440402-1", &format!("evt_1768471440402-{number}"), 1);
    // A frame of the socket is a share of the buffer that it was read into.
    let frame = BytesMut::from(body.as_str()).split().freeze();
    let offered = intake.offer(Leg::Websocket, frame, NOW.ms).now_or_never();
    offered.expect("room").expect("open");
    let mut arrived = Vec::new();
    receiver.drain(&mut arrived);
    match arrived.pop().expect("one") {
        Arrival::Delivery(delivery) => Item::Delivery(delivery, None),
        Arrival::Note(account, note) => Item::Note(account, note),
        Arrival::Admitted(account, admission, _) => Item::Admitted(account, admission),
    }
}

/// The events of batch number `batch`.
pub fn items(batch: u64) -> Vec<Item> {
    let body = body();
    let mut intake = intake();
    let first = 1 + batch * BATCH;
    (first..first + BATCH).map(|number| item(&mut intake, &body, number)).collect()
}

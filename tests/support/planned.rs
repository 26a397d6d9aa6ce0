//! The work that is counted: order events, taken batch after batch through the core.

use bytes::Bytes;
use futures::FutureExt;
use pepay_relay::config::Environment;
use pepay_relay::legs::progress::Progress;
use pepay_relay::legs::{Arrival, Intake, Leg};
use pepay_relay::normalize;
use pepay_relay::relay::core::{Core, Item, Now, Settings};
use pepay_relay::relay::{Versions, Window};
use std::time::Duration;

/// An order event of 1.6 kB.
const EVENT: &str = include_str!("../fixtures/events/commerce.order.updated.processing.json");

/// Events of one batch; what a batch costs once is spread over them.
pub const BATCH: u64 = 1_000;

pub const NOW: Now = Now { ms: 1_768_480_000_000, provider_ms: 1_768_480_000_000 };

/// A core whose window has room for `batches`: that a table doubles now and then would be counted against whoever comes
/// next.
pub fn core(batches: u64) -> Core {
    let normalize = normalize::Settings { environment: Environment::Devnet, drop: Vec::new(), include_raw: false };
    let settings = Settings { instance: "count".into(), normalize, orders_latest: true, invoices: true };
    let (day, seed) = (Duration::from_secs(86_400), [1, 2]);
    let mut window = Window::new(day, usize::MAX, seed);
    for id in 0..3 * batches * BATCH {
        window.remember(&id.to_le_bytes(), NOW.ms);
    }
    Core::new(settings, window, Versions::new(day, usize::MAX, seed), Progress::default())
}

/// The events of batch number `batch`, as the relay gets them.
pub fn items(batch: u64) -> Vec<Item> {
    let first = 1 + batch * BATCH;
    let body = EVENT.lines().map(str::trim).collect::<String>().replace("\": ", "\":");
    let (intake, mut receiver) = Intake::new(1 << 30);
    let mut arrived = Vec::new();
    for number in first..first + BATCH {
        let body = body.replace("evt_1768471440402-1", &format!("evt_1768471440402-{number}"));
        let offered = intake.offer(Leg::Websocket, Bytes::from(body), NOW.ms).now_or_never();
        offered.expect("room").expect("open");
        receiver.drain(&mut arrived);
    }
    let delivery = |arrival| match arrival {
        Arrival::Delivery(delivery) => Item::Delivery(delivery, None),
        Arrival::Note(note) => Item::Note(note),
    };
    arrived.into_iter().map(delivery).collect()
}

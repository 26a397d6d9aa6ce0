#![allow(clippy::unwrap_used, reason = "a test may stop")]
use super::*;
use crate::kafka::Record;
use crate::labels::Leg;
use crate::legs::{Arrival, Intake, Trace};
use crate::provider::EventId;
use futures::FutureExt;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);
const NOW_MS: i64 = 1_768_480_000_000;
const NOW: Now = Now { ms: NOW_MS, provider_ms: NOW_MS, own_ms: NOW_MS };
const AT: &str = "1768476600000";

/// A core whose plans are committed at once; shows what each delivery became and which records it made.
struct Desk {
    core: Planner,
    records: Vec<String>,
}

fn order(id: &str, order: &str) -> String {
    format!(
        r#"{{"id":"{id}","object":"event","type":"commerce.order.updated","created":1768476600,"data":{{"object":{{"object":"commerce_order","id":"{order}","status":"placed"}}}}}}"#
    )
}

fn item(arrival: Arrival) -> Item {
    match arrival {
        Arrival::Delivery(delivery) => Item::Delivery(delivery, None),
        Arrival::Note(account, note) => Item::Note(account, note),
        Arrival::Admitted(account, admission, _) => Item::Admitted(account, admission),
    }
}

impl Desk {
    fn cursor(&self) -> Option<EventId> {
        self.core.progress().next().and_then(|(_, progress)| progress.cursor())
    }

    fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::in_tests("desk");
        change(&mut settings);
        let window = Window::new(DAY, 1000, [1, 2]);
        let versions = Versions::new(DAY, 1000, [3, 4]);
        Self { core: Planner::new(settings, window, versions, vec![Known::default()]), records: Vec::new() }
    }

    fn deliver(&mut self, leg: Leg, body: impl Into<Bytes>) -> Ending {
        let (intake, mut receiver) = Intake::new(1 << 20);
        intake.offer(leg, body.into(), NOW_MS).now_or_never().unwrap().unwrap();
        let mut arrived = Vec::new();
        receiver.drain(&mut arrived);
        let mut plan = self.core.begin(Plan::default());
        let item = item(arrived.remove(0));
        if let Some((_, fate)) = self.core.add(&mut plan, item, NOW) {
            return fate;
        }
        self.records.extend(plan.batch.records().map(described));
        let mut fate = None;
        self.core.commit(plan, NOW_MS, |told| {
            if let Settled::Delivery(_, how, _) = told {
                fate = Some(how);
            }
        });
        fate.unwrap()
    }

    fn check(&mut self, body: impl Into<Bytes>, outcome: Outcome, records: &[&str]) {
        self.records.clear();
        let fate = self.deliver(Leg::Websocket, body);
        assert_eq!(
            (fate.outcome, self.records.iter().map(String::as_str).collect::<Vec<_>>()),
            (outcome, records.to_vec())
        );
    }
}

fn header(record: Record<'_>, wanted: &str) -> Option<String> {
    let mut headers = record.headers();
    headers.find(|(name, _)| *name == wanted).map(|(_, value)| String::from_utf8_lossy(value).into_owned())
}

/// `topic key`, and what is remarkable about it.
fn described(record: Record<'_>) -> String {
    let stale = header(record, "relay_stale").map_or("", |_| " stale");
    let reason = header(record, "relay_reason").map_or_else(String::new, |reason| format!(" {reason}"));
    format!("{} {}{stale}{reason}", record.topic().as_str(), String::from_utf8_lossy(record.key()))
}

#[test]
fn what_is_late_is_marked_and_does_not_touch_latest() {
    let mut desk = Desk::new(|_| {});
    desk.check(order("evt_1768476600000-1", "a"), Outcome::Published, &["orders a", "orders_latest a"]);
    desk.check(order("evt_1768476600000-0", "a"), Outcome::Published, &["orders a stale"]);
    desk.check(order("evt_1768476600000-0", "a"), Outcome::Duplicate, &[]);
    desk.check(order("evt_1768476600000-2", "a"), Outcome::Published, &["orders a", "orders_latest a"]);
}

/// A copy of it may be among what waits: it was appended while the id was known.
#[test]
fn an_id_is_known_until_the_inbox_holds_nothing_from_within_its_window() {
    let mut desk = Desk::new(|_| {});
    desk.check(order("evt_1768476600000-1", "a"), Outcome::Published, &["orders a", "orders_latest a"]);
    let day_ms = 86_400_000;
    let read = |desk: &mut Desk, next: i64, read_ms: i64| {
        let mut plan = desk.core.begin(Plan::default());
        let note = Item::Note(Account::FIRST, Note::InboxRead { next, read_ms });
        assert!(desk.core.add(&mut plan, note, NOW).is_none());
        desk.core.commit(plan, NOW_MS, |_| ());
    };
    desk.core.inbox = Inbox::begin(InboxMark::begin(7, Some(NOW_MS + day_ms - 1)));
    desk.core.expire(NOW_MS + 3 * day_ms);
    assert_eq!(desk.core.window().len(), 1, "appended before the window's end, and not taken");
    read(&mut desk, 9, NOW_MS + day_ms + 1);
    assert_eq!(desk.core.inbox().next, Some(9));
    desk.core.expire(NOW_MS + 3 * day_ms);
    assert_eq!(desk.core.window().len(), 0, "what waits now came afterwards");
}

#[test]
fn an_event_from_the_future_moves_nothing() {
    let mut desk = Desk::new(|_| {});
    let fate = desk.deliver(Leg::Websocket, order("evt_9999999999999-0", "a"));
    assert!(fate.ahead);
    assert_eq!((desk.records.as_slice(), desk.cursor()), (&["orders a stale".to_owned()][..], None));
    desk.check(order(&format!("evt_{AT}-0"), "a"), Outcome::Published, &["orders a", "orders_latest a"]);
}

#[test]
fn ten_minutes_ahead_is_not_the_future() {
    let mut desk = Desk::new(|_| {});
    let id = format!("evt_{}-0", NOW_MS + AHEAD_MAX_MS);
    desk.check(order(&id, "a"), Outcome::Published, &["orders a", "orders_latest a"]);
    let id = format!("evt_{}-0", NOW_MS + AHEAD_MAX_MS + 1);
    desk.check(order(&id, "b"), Outcome::Published, &["orders b stale"]);
}

#[test]
fn only_the_socket_and_the_log_move_the_cursor() {
    let mut desk = Desk::new(|_| {});
    desk.deliver(Leg::Webhook, order("evt_1768476600002-0", "a"));
    assert_eq!(desk.cursor(), None);
    desk.deliver(Leg::Websocket, order("evt_1768476600001-0", "a"));
    desk.deliver(Leg::Backfill, order("evt_example", "a"));
    assert_eq!(desk.cursor().map(|id| id.to_string()).as_deref(), Some("evt_1768476600001-0"));
}

#[test]
fn what_cannot_be_published_is_kept_once() {
    let mut desk = Desk::new(|_| {});
    let digest = "dead_letter sha256:f8c3b2a9d0d5a4f9a7f2";
    desk.records.clear();
    assert_eq!(desk.deliver(Leg::Websocket, "{").outcome, Outcome::DeadLettered);
    assert!(desk.records[0].starts_with(&digest[..19]) && desk.records[0].ends_with(" malformed_json"));
    desk.check("{", Outcome::Duplicate, &[]);
    let unknown = order("evt_7-0", "a").replace("commerce.order.updated", "commerce.refund");
    desk.check(unknown.clone(), Outcome::DeadLettered, &["dead_letter evt_7-0 unknown_type"]);
    desk.check(unknown, Outcome::Duplicate, &[]);
    let nameless = order("evt_8-0", "a").replace(r#""id":"a","#, "");
    desk.check(nameless, Outcome::DeadLettered, &["dead_letter evt_8-0 missing_field"]);
}

#[test]
fn a_defective_copy_does_not_spend_the_id() {
    let mut desk = Desk::new(|_| {});
    let whole = order("evt_1-0", "a");
    let nameless = whole.replace(r#""id":"a","#, "");
    let cut = whole.replace(r#""type":"commerce.order.updated","#, "");
    desk.check(nameless.clone(), Outcome::DeadLettered, &["dead_letter evt_1-0 missing_field"]);
    desk.check(cut.clone(), Outcome::Duplicate, &[]);
    desk.check(whole.clone(), Outcome::Published, &["orders a", "orders_latest a"]);
    for copy in [nameless, cut, whole] {
        desk.check(copy, Outcome::Duplicate, &[]);
    }
    desk.check(order("evt_2-0", "b"), Outcome::Published, &["orders b", "orders_latest b"]);
    let late = order("evt_2-0", "b").replace(r#""id":"b","#, "");
    desk.check(late, Outcome::Duplicate, &[]);
}

#[test]
fn an_id_or_key_beyond_all_measure_reaches_no_header() {
    let mut desk = Desk::new(|_| {});
    let long = "x".repeat(KEY_BYTES_MAX + 1);
    desk.deliver(Leg::Websocket, order(&long, "a"));
    assert!(desk.records[0].starts_with("dead_letter sha256:"));
    desk.check(order("evt_9-0", &long), Outcome::DeadLettered, &["dead_letter evt_9-0 missing_field"]);
}

#[test]
fn a_ping_and_what_is_turned_off_are_ignored() {
    let mut desk = Desk::new(|settings| (settings.orders_latest, settings.invoices) = (false, false));
    let ping = include_str!("../../../../tests/fixtures/events/test.ping.json");
    desk.check(ping, Outcome::Ignored, &[]);
    let invoice = include_str!("../../../../tests/fixtures/events/invoice.created.json");
    desk.check(invoice, Outcome::Ignored, &[]);
    desk.check(order("evt_1-0", "a"), Outcome::Published, &["orders a"]);
}

#[test]
fn an_escaped_id_is_the_same_id() {
    let mut desk = Desk::new(|_| {});
    desk.check(order("evt_1-0", "a"), Outcome::Published, &["orders a", "orders_latest a"]);
    desk.check(order(r"\u0065vt_1-0", "a"), Outcome::Duplicate, &[]);
}

#[test]
fn headers_are_cloudevents_and_the_relays_own() {
    let mut desk = Desk::new(|_| {});
    let (intake, mut receiver) = Intake::new(1 << 20);
    let body = include_str!("../../../../tests/fixtures/events/commerce.order.updated.placed.json");
    intake.offer(Leg::Backfill, Bytes::from_static(body.as_bytes()), NOW_MS).now_or_never().unwrap().unwrap();
    let mut arrived = Vec::new();
    receiver.drain(&mut arrived);
    let mut plan = desk.core.begin(Plan::default());
    assert!(desk.core.add(&mut plan, item(arrived.remove(0)), NOW).is_none());
    let headers: Vec<_> = plan
        .batch
        .get(0)
        .unwrap()
        .headers()
        .map(|(name, value)| (name, String::from_utf8_lossy(value).into_owned()))
        .collect();
    insta::assert_debug_snapshot!(headers);
}

#[test]
fn the_trace_that_a_webhook_brought_is_in_the_headers_of_all_its_records() {
    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for state in ["a=1,b=2", ""] {
        let mut desk = Desk::new(|_| {});
        let (intake, mut receiver) = Intake::new(1 << 20);
        intake.offer(Leg::Webhook, order("evt_1-0", "a").into(), NOW_MS).now_or_never().unwrap().unwrap();
        let mut arrived = Vec::new();
        receiver.drain(&mut arrived);
        let Arrival::Delivery(mut delivery) = arrived.remove(0) else { unreachable!("a delivery was offered") };
        let states = Some(state.as_bytes()).filter(|state| !state.is_empty());
        delivery.trace = Trace::read([PARENT.as_bytes()].into_iter(), states.into_iter()).map(Box::new);
        let mut plan = desk.core.begin(Plan::default());
        assert!(desk.core.add(&mut plan, Item::Delivery(delivery, None), NOW).is_none());
        let told: Vec<_> =
            plan.batch.records().map(|record| ["traceparent", "tracestate"].map(|name| header(record, name))).collect();
        let wanted = [Some(PARENT.to_owned()), Some(state.to_owned()).filter(|state| !state.is_empty())];
        assert_eq!(told, [wanted.clone(), wanted], "orders and orders_latest");
    }
}

mod accounts;

//! The backfill leg against a provider that answers what the test wrote down for it, one answer a request.

use super::{arrival, assert_books_balance, defaults, settle, soon};
use pepay_relay::clock::Clock;
use pepay_relay::config;
use pepay_relay::labels::{Leg, Outcome};
use pepay_relay::legs::backfill::Backfill;
use pepay_relay::legs::backfill::walk::KEPT_BYTES_MAX;
use pepay_relay::legs::{Arrival, Intake, IntakeReceiver};
use pepay_relay::legs::{Note, Position, Walks};
use pepay_relay::provider::{rest::Rest, tls};
use pepay_relay::telemetry::{Health, LegState, Metrics, Unproven};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const MARK_MS: i64 = 3_000;
const LONG: Duration = Duration::from_secs(600);

/// The leg, asked for one walk, and the provider that it asks.
struct Rig {
    provider: TcpListener,
    receiver: IntakeReceiver,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    leg: JoinHandle<()>,
    walks: Walks,
    ticket: u64,
}

/// A request that waits for its answer.
struct Asked {
    socket: TcpStream,
    target: String,
}

impl Rig {
    async fn start() -> Self {
        let provider = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", provider.local_addr().unwrap());
        let clock = Arc::new(Clock::default());
        let api_key = watch::channel("ck_test".into()).1;
        let rest = Rest::new(&base, LONG, api_key, &tls::client_config().unwrap(), Arc::clone(&clock)).unwrap();
        let (intake, receiver) = Intake::new(1 << 20);
        let health = Arc::<Health>::default();
        let metrics = Arc::new(Metrics::new("test"));
        let stop = CancellationToken::new();
        let walks = Walks::default();
        let settings = config::Backfill { every: LONG, overlap: LONG, hold_max: LONG, ..defaults().backfill };
        let backfill = Backfill {
            settings,
            rest: Arc::new(rest),
            intake,
            clock,
            position: watch::channel(Position { walk_from_ms: Some(MARK_MS), ..Position::default() }).1,
            walks: walks.clone(),
            metrics: Arc::clone(&metrics),
            health: Arc::clone(&health),
            stop: stop.clone(),
        };
        let ticket = walks.ask();
        Self { provider, receiver, health, metrics, stop, leg: tokio::spawn(backfill.run()), walks, ticket }
    }

    async fn asked(&self) -> Asked {
        let (mut socket, _) = soon(self.provider.accept()).await.unwrap();
        let mut head = Vec::new();
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            assert_ne!(soon(socket.read_buf(&mut head)).await.unwrap(), 0);
        }
        let head = String::from_utf8(head).unwrap();
        let path = head.strip_prefix("GET /").unwrap().split(' ').next().unwrap();
        let target = path.strip_prefix("api/v1/events?").unwrap_or(path).to_owned();
        Asked { socket, target }
    }

    /// Answers the next request, which must be this one.
    async fn answer(&self, target: &str, answer: &str) {
        self.answer_bytes(target, answer.as_bytes()).await;
    }

    async fn answer_bytes(&self, target: &str, answer: &[u8]) {
        let mut asked = self.asked().await;
        assert_eq!(asked.target, target);
        // A client that has read enough may have gone.
        let _ = asked.socket.write_all(answer).await;
    }

    /// These events arrive next.
    async fn arrived(&mut self, ids: &[&str]) {
        for id in ids {
            let Arrival::Delivery(delivery) = arrival(&mut self.receiver).await else { panic!("{id} comes next") };
            assert_eq!((delivery.leg, delivery.bytes.as_ref()), (Leg::Backfill, event(id).as_bytes()));
            settle(&self.metrics, delivery, Outcome::Published);
        }
    }

    /// These events arrive next, then that history since the mark is lost up to the time `to_ms`, and the end.
    async fn walked_without_proof(&mut self, ids: &[&str], to_ms: i64, orders: Option<u64>) {
        self.arrived(ids).await;
        let told = arrival(&mut self.receiver).await;
        let expected = Note::Unproven { from_ms: MARK_MS, to_ms };
        assert!(matches!(told, Arrival::Note(_, note) if note == expected), "{told:?}");
        assert_eq!(self.health.unproven(), Some(Unproven { from_ms: MARK_MS, to_ms, orders }));
        self.walked(&[]).await;
    }

    /// These events arrive next, and then the end of the walk.
    async fn walked(&mut self, ids: &[&str]) {
        self.arrived(ids).await;
        let end = arrival(&mut self.receiver).await;
        assert!(matches!(end, Arrival::Note(_, Note::WalkDone { .. })), "{end:?}");
        soon(self.walks.wait(self.ticket)).await;
        assert_eq!(self.health.leg(Leg::Backfill), LegState::Connected);
    }

    async fn until(&self, state: LegState) {
        let mut snapshots = self.health.subscribe();
        soon(snapshots.wait_for(|snapshot| snapshot.legs[Leg::Backfill as usize].0 == state)).await.unwrap();
    }

    async fn finish(self) {
        self.stop.cancel();
        soon(self.leg).await.unwrap();
        assert_books_balance(&self.metrics);
    }
}

fn event(id: &str) -> String {
    format!(r#"{{"object":"event","id":"{id}"}}"#)
}

fn says(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

fn page(ids: &[&str], has_more: bool) -> String {
    let events = ids.iter().map(|id| event(id)).collect::<Vec<_>>().join(",");
    says("200 OK", "", &format!(r#"{{"success":true,"data":{{"data":[{events}],"has_more":{has_more}}}}}"#))
}

#[tokio::test]
async fn down_to_the_mark_and_then_out_oldest_first() {
    let mut rig = Rig::start().await;
    rig.answer("limit=100", &page(&["evt_9000-1", "evt_9000-0"], true)).await;
    // One old id does not end the walk, and is no cursor.
    rig.answer("limit=100&starting_after=evt_9000-0", &page(&["evt_5000-0", "evt_3000-0", "evt_2999-9"], true)).await;
    rig.answer("limit=100&starting_after=evt_3000-0", &page(&["evt_2999-9", "evt_2999-8"], true)).await;
    rig.walked(&["evt_3000-0", "evt_5000-0", "evt_9000-0", "evt_9000-1"]).await;
    assert_eq!(rig.metrics.walk_pages(), 3);
    rig.finish().await;
}

/// A page of the list of orders: ids, and when they last changed.
fn orders(rows: &[(&str, i64)], limit: usize) -> String {
    let rows = rows.iter().map(|(id, ms)| {
        let at = jiff::Timestamp::from_millisecond(*ms).unwrap();
        format!(r#"{{"orderId":"{id}","createdAt":0,"updatedAt":"{at}"}}"#)
    });
    let rows = rows.collect::<Vec<_>>().join(",");
    says(
        "200 OK",
        "",
        &format!(r#"{{"success":true,"data":{{"orders":[{rows}],"pagination":{{"limit":{limit},"offset":0}}}}}}"#),
    )
}

#[tokio::test]
async fn a_log_that_does_not_reach_back_to_the_mark_is_reported_with_the_orders_that_changed_meanwhile() {
    let mut rig = Rig::start().await;
    rig.answer("limit=100", &page(&["evt_9000-0"], true)).await;
    rig.answer("limit=100&starting_after=evt_9000-0", &page(&[], false)).await;
    let list = "api/commerce/merchant/orders?limit=100&offset=";
    // The provider takes a limit of 2, whatever was asked for.
    rig.answer(&format!("{list}0"), &orders(&[("before", 1_500), ("inside", 4_500)], 2)).await;
    rig.answer(&format!("{list}2"), &orders(&[("also inside", 8_999), ("after", 9_001)], 2)).await;
    rig.answer(&format!("{list}4"), &orders(&[], 2)).await;
    rig.walked_without_proof(&["evt_9000-0"], 9_000, Some(2)).await;
    // The relay of this test never moves the mark; it is reported once all the same.
    rig.ticket = rig.walks.ask();
    rig.answer("limit=100", &page(&["evt_9000-0"], false)).await;
    rig.walked(&["evt_9000-0"]).await;
    rig.finish().await;
}

#[tokio::test]
async fn orders_that_cannot_be_listed_hold_no_walk_up() {
    let refusal = include_str!("../fixtures/errors/404.not-found.json");
    for answer in [
        says("404 Not Found", "", refusal),
        says("403 Forbidden", "", "<html>"),
        // Longer than all pages may take.
        says("429 Too Many Requests", "retry-after: 300\r\n", "{}"),
    ] {
        let mut rig = Rig::start().await;
        rig.answer("limit=100", &page(&["evt_9000-0"], false)).await;
        rig.answer("api/commerce/merchant/orders?limit=100&offset=0", &answer).await;
        rig.walked_without_proof(&["evt_9000-0"], 9_000, None).await;
        rig.finish().await;
    }
}

#[tokio::test]
async fn a_page_of_orders_is_tried_three_times_and_in_halves() {
    let mut rig = Rig::start().await;
    rig.answer("limit=100", &page(&["evt_9000-0"], false)).await;
    let huge = "HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\nconnection: close\r\n\r\n";
    rig.answer("api/commerce/merchant/orders?limit=100&offset=0", huge).await;
    for answer in [says("503 Service Unavailable", "", ""), says("200 OK", "", "[]")] {
        rig.answer("api/commerce/merchant/orders?limit=50&offset=0", &answer).await;
    }
    rig.answer("api/commerce/merchant/orders?limit=50&offset=0", &orders(&[("inside", 4_500)], 50)).await;
    rig.walked_without_proof(&["evt_9000-0"], 9_000, Some(1)).await;
    rig.finish().await;
}

#[tokio::test]
async fn stopping_ends_a_walk_that_waits_for_orders() {
    let mut rig = Rig::start().await;
    rig.answer("limit=100", &page(&["evt_9000-0"], false)).await;
    let _unanswered = rig.asked().await;
    rig.arrived(&["evt_9000-0"]).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_retry_after_is_waited_for() {
    let mut rig = Rig::start().await;
    rig.answer("limit=100", &says("429 Too Many Requests", "retry-after: 2\r\n", "{}")).await;
    let began = Instant::now();
    rig.until(LegState::BackingOff).await;
    rig.answer("limit=100", &page(&["evt_9000-0", "evt_1-0"], false)).await;
    // Without it the wait is at most a second.
    assert!(began.elapsed() > Duration::from_millis(1_900), "{:?}", began.elapsed());
    rig.walked(&["evt_9000-0"]).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_page_is_asked_for_until_it_is_there() {
    let mut rig = Rig::start().await;
    rig.answer("limit=100", &says("503 Service Unavailable", "", "<html>")).await;
    rig.until(LegState::BackingOff).await;
    rig.answer("limit=100", &says("200 OK", "", "[]")).await;
    rig.answer("limit=100", &page(&["evt_1-0", "evt_0-0"], true)).await;
    rig.walked(&[]).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_cursor_that_the_provider_has_lost_breaks_the_walk_which_hands_on_what_it_found() {
    for status in ["400 Bad Request", "404 Not Found", "410 Gone", "422 Unprocessable Entity"] {
        let mut rig = Rig::start().await;
        rig.answer("limit=100", &page(&["evt_9000-0"], true)).await;
        let lost = says(status, "", include_str!("../fixtures/errors/404.not-found.json"));
        rig.answer("limit=100&starting_after=evt_9000-0", &lost).await;
        rig.arrived(&["evt_9000-0"]).await;
        rig.until(LegState::BackingOff).await;
        rig.answer("limit=100", &page(&["evt_9000-0", "evt_1-0"], false)).await;
        rig.walked(&["evt_9000-0"]).await;
        rig.finish().await;
    }
}

/// A page that is asked for again on the way out comes with fewer events than on the way down: the walk begins again,
/// instead of passing over what lies between it and the page below.
#[tokio::test]
async fn a_page_that_comes_shorter_when_it_is_asked_for_again_begins_the_walk_again() {
    // Two such bodies are more than a walk keeps, so that the lower page is asked for twice.
    let wide = |ids: &[&str], has_more| {
        let events = ids.iter().map(|id| event(id)).collect::<Vec<_>>().join(",");
        let space = " ".repeat(KEPT_BYTES_MAX / 2 + 1);
        says("200 OK", "", &format!(r#"{{"success":true,"data":{{"data":[{events}{space}],"has_more":{has_more}}}}}"#))
    };
    let mut rig = Rig::start().await;
    let upper = "limit=100";
    let lower = "limit=100&starting_after=evt_9000-0";
    for again in [wide(&["evt_8000-0"], true), wide(&["evt_8000-0", "evt_7000-0"], true)] {
        rig.answer(upper, &wide(&["evt_9000-0"], true)).await;
        rig.answer(lower, &wide(&["evt_8000-0", "evt_7000-0"], true)).await;
        rig.answer("limit=100&starting_after=evt_7000-0", &page(&["evt_1-0", "evt_0-0"], true)).await;
        rig.answer(lower, &again).await;
    }
    rig.walked(&["evt_7000-0", "evt_8000-0", "evt_9000-0"]).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_page_that_is_too_large_is_asked_for_in_halves() {
    let mut rig = Rig::start().await;
    let huge = "HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\nconnection: close\r\n\r\n";
    rig.answer("limit=100", huge).await;
    rig.answer("limit=50", huge).await;
    rig.answer("limit=25", &page(&["evt_9000-0"], true)).await;
    // The next page is tried whole again.
    rig.answer("limit=100&starting_after=evt_9000-0", &page(&["evt_1-0"], false)).await;
    rig.walked(&["evt_9000-0"]).await;
    rig.finish().await;
}

/// A body of these bytes.
fn body(bytes: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", bytes.len());
    [head.as_bytes(), bytes].concat()
}

#[tokio::test]
async fn an_event_that_is_no_json_is_a_delivery_of_its_own_and_the_others_arrive() {
    for poison in [
        &b"{\"id\":\"evt_8000-0\",\"object\":\"event\",\"title\":\"\xff\"}"[..],
        b"{\"id\":\"evt_8000-0\",\"object\":\"event\",\"title\":\"a\nb\"}",
        b"{\"id\":\"evt_8000-0\",\"object\":\"event\",\"price\":NaN}",
        b"{\"id\":\"evt_8000-0\",\"object\":\"event\",\"title\":\"\\x41\"}",
        b"{\"id\":\"evt_8000-0\",\"object\":\"event\",\"price\":01}",
    ] {
        let mut rig = Rig::start().await;
        let newer = event("evt_9000-0");
        let older = event("evt_7000-0");
        let oldest = event("evt_1-0");
        let events = [newer.as_bytes(), poison, older.as_bytes(), oldest.as_bytes()].join(&b","[..]);
        let page = [&b"{\"success\":true,\"data\":{\"data\":["[..], &events, &b"],\"has_more\":false}}"[..]].concat();
        rig.answer_bytes("limit=100", &body(&page)).await;
        rig.arrived(&["evt_7000-0"]).await;
        let Arrival::Delivery(delivery) = arrival(&mut rig.receiver).await else { panic!("the poison comes next") };
        assert_eq!(&delivery.bytes[..], poison);
        settle(&rig.metrics, delivery, Outcome::DeadLettered);
        rig.walked(&["evt_9000-0"]).await;
        rig.finish().await;
    }
}

#[tokio::test]
async fn an_event_that_cannot_be_cut_out_is_passed_over_alone() {
    let mut rig = Rig::start().await;
    let poison = r#"{"id":"evt_8000-0","object":"event","title":"5" screen"}"#;
    let page_of = |events: &[&str], more: bool| {
        says("200 OK", "", &format!(r#"{{"success":true,"data":{{"data":[{}],"has_more":{more}}}}}"#, events.join(",")))
    };
    let newer = event("evt_9000-0");
    let older = event("evt_7000-0");
    for limit in [100, 50, 25, 12, 6, 3] {
        rig.answer(&format!("limit={limit}"), &page_of(&[&newer, poison, &older], false)).await;
    }
    rig.answer("limit=1", &page_of(&[&newer], true)).await;
    for limit in [100, 50, 25, 12, 6, 3] {
        rig.answer(&format!("limit={limit}&starting_after=evt_9000-0"), &page_of(&[poison, &older], false)).await;
    }
    rig.answer("limit=1&starting_after=evt_9000-0", &page_of(&[poison], true)).await;
    rig.answer("limit=100&starting_after=evt_8000-0", &page(&["evt_7000-0", "evt_1-0"], false)).await;
    rig.arrived(&["evt_7000-0"]).await;
    let Arrival::Delivery(delivery) = arrival(&mut rig.receiver).await else { panic!("the poison comes next") };
    assert_eq!(&delivery.bytes[..], poison.as_bytes());
    settle(&rig.metrics, delivery, Outcome::DeadLettered);
    rig.walked(&["evt_9000-0"]).await;
    assert_eq!(rig.metrics.walk_pages(), 15);
    rig.finish().await;
}

#[tokio::test]
async fn cursors_in_a_circle_break_the_walk_which_hands_on_what_it_found_and_waits() {
    let mut rig = Rig::start().await;
    rig.answer("limit=100", &page(&["evt_9000-0", "evt_8000-0"], true)).await;
    rig.answer("limit=100&starting_after=evt_8000-0", &page(&["evt_7000-0", "evt_6000-0"], true)).await;
    rig.answer("limit=100&starting_after=evt_6000-0", &page(&["evt_9000-0", "evt_8000-0"], true)).await;
    rig.arrived(&["evt_6000-0", "evt_7000-0", "evt_8000-0", "evt_9000-0"]).await;
    rig.until(LegState::BackingOff).await;
    rig.answer("limit=100", &page(&["evt_9000-0", "evt_1-0"], false)).await;
    rig.walked(&["evt_9000-0"]).await;
    rig.finish().await;
}

#[tokio::test]
async fn an_id_that_is_no_cursor_is_never_asked_with_and_an_empty_page_with_more_breaks_the_walk() {
    let mut rig = Rig::start().await;
    rig.answer("limit=100", &page(&["evt_9000-0", "evt_8000-0", "evt_example"], true)).await;
    rig.answer("limit=100&starting_after=evt_8000-0", &page(&[], true)).await;
    rig.arrived(&["evt_example", "evt_8000-0", "evt_9000-0"]).await;
    rig.until(LegState::BackingOff).await;
    rig.answer("limit=100", &page(&["evt_9000-0", "evt_1-0"], false)).await;
    rig.walked(&["evt_9000-0"]).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_limit_that_is_refused_is_halved_and_a_byte_order_mark_and_a_spelled_has_more_are_read() {
    let mut rig = Rig::start().await;
    let refusal = says("400 Bad Request", "", r#"{"error":"limit must be at most 25","code":"VALIDATION_ERROR"}"#);
    for limit in [100, 50] {
        rig.answer(&format!("limit={limit}"), &refusal).await;
    }
    let events = [event("evt_9000-0"), event("evt_1-0")].join(",");
    let marked = format!("\u{feff}{{\"data\":[{events}],\"has_more\":\"false\"}}");
    rig.answer("limit=25", &says("200 OK", "", &marked)).await;
    rig.walked(&["evt_9000-0"]).await;
    rig.finish().await;
}

#[tokio::test]
async fn refused_credentials_are_a_state_and_no_hurry() {
    let rig = Rig::start().await;
    rig.answer("limit=100", &says("401 Unauthorized", "", include_str!("../fixtures/errors/401.api-key-invalid.json")))
        .await;
    rig.until(LegState::Refused).await;
    rig.finish().await;
}

#[tokio::test]
async fn stopping_ends_a_walk_that_waits_for_an_answer() {
    let rig = Rig::start().await;
    let _unanswered = rig.asked().await;
    rig.finish().await;
}

use super::{arrival, assert_books_balance, defaults, next, settle, soon, told};
use futures::{SinkExt, StreamExt};
use pepay_relay::clock::Clock;
use pepay_relay::config::{self, WebsocketAuth};
use pepay_relay::labels::{Cause, Leg, Outcome};
use pepay_relay::legs::websocket::{Dialer, Kinds, Websocket};
use pepay_relay::legs::{Arrival, Intake, IntakeReceiver};
use pepay_relay::legs::{Note, Position, Walks};
use pepay_relay::provider::{EventId, rest::Rest, tls};
use pepay_relay::telemetry::{Health, LegState, Metrics};
use secrecy::SecretString;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};
use tokio_util::sync::CancellationToken;

const EVENT: &str = include_str!("../fixtures/ws/event.commerce.order.updated.json");
pub(crate) const FRAME_BYTES_MAX: usize = 256 << 10;

/// The leg, and the provider's listener that it connects to.
pub(crate) struct Rig {
    provider: TcpListener,
    pub(crate) receiver: IntakeReceiver,
    health: Arc<Health>,
    pub(crate) metrics: Arc<Metrics>,
    key: watch::Sender<SecretString>,
    position: watch::Sender<Position>,
    pub(crate) walks: Walks,
    pub(crate) stop: CancellationToken,
    leg: JoinHandle<()>,
}

/// A connection as the provider sees it.
pub(crate) struct Peer {
    pub(crate) stream: WebSocketStream<TcpStream>,
    request: Request,
}

pub(crate) fn settings() -> config::Websocket {
    config::Websocket {
        types: vec!["commerce.order.*".into(), "invoice.*".into()],
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(5),
        frame_bytes_max: FRAME_BYTES_MAX,
        ..defaults().websocket
    }
}

impl Rig {
    async fn start(settings: config::Websocket) -> Self {
        Self::with_intake(settings, 1 << 20).await
    }

    async fn with_intake(settings: config::Websocket, intake_bytes_max: usize) -> Self {
        Self::holding(settings, intake_bytes_max, Duration::ZERO).await
    }

    pub(crate) async fn holding(settings: config::Websocket, intake_bytes_max: usize, hold_max: Duration) -> Self {
        let provider = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = provider.local_addr().unwrap();
        let (intake, receiver) = Intake::new(intake_bytes_max);
        let (key, api_key) = watch::channel(SecretString::from("ck_test"));
        let (position, position_receiver) = watch::channel(Position::default());
        let (walks, clock) = (Walks::default(), Arc::new(Clock::default()));
        let (health, metrics, stop) =
            (Arc::<Health>::default(), Arc::new(Metrics::new("test")), CancellationToken::new());
        let tls = tls::client_config().unwrap();
        let (base, timeout) = (format!("http://{address}"), Duration::from_secs(5));
        let rest = Rest::new(&base, timeout, api_key.clone(), &tls, Arc::clone(&clock)).unwrap();
        let websocket = Websocket {
            kinds: Kinds::default(),
            dialer: Dialer {
                websocket_url: format!("ws://{address}/ws/commerce/events"),
                settings,
                api_key,
                rest: Arc::new(rest),
                connector: (&tls).into(),
            },
            hold_max,
            position: position_receiver,
            walks: walks.clone(),
            clock,
            intake,
            health: Arc::clone(&health),
            metrics: Arc::clone(&metrics),
            stop: stop.clone(),
        };
        let leg = tokio::spawn(websocket.run());
        Self { provider, receiver, health, metrics, key, position, walks, stop, leg }
    }

    #[expect(clippy::result_large_err, reason = "the callback's type is the library's")]
    pub(crate) async fn accept(&self) -> Peer {
        let (socket, _) = soon(self.provider.accept()).await.unwrap();
        let mut request = None;
        let seen = |asked: &Request, response: Response| {
            request = Some(asked.clone());
            Ok(response)
        };
        let stream = soon(accept_hdr_async(socket, seen)).await.unwrap();
        Peer { stream, request: request.unwrap() }
    }

    /// Answers the next connection with plain HTTP instead of an upgrade; returns the request's head and body.
    async fn answer(&self, status: &str, headers: &str, body: &str) -> String {
        let (mut socket, _) = soon(self.provider.accept()).await.unwrap();
        let mut request = Vec::new();
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            assert_ne!(soon(socket.read_buf(&mut request)).await.unwrap(), 0);
        }
        let length = body.len();
        let answer =
            format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}");
        socket.write_all(answer.as_bytes()).await.unwrap();
        // Until the leg has read the answer.
        while soon(socket.read_buf(&mut request)).await.unwrap_or(0) > 0 {}
        String::from_utf8(request).unwrap()
    }

    /// The leg tells next that its stream is up.
    pub(crate) async fn up(&mut self) {
        let note = told(&mut self.receiver, &self.metrics).await;
        assert!(matches!(note, Note::WebsocketUp { .. }), "{note:?}");
    }

    /// The leg tells next that its stream is down; why.
    pub(crate) async fn down(&mut self) -> Cause {
        match told(&mut self.receiver, &self.metrics).await {
            Note::WebsocketDown { cause, .. } => cause,
            note => panic!("{note:?}"),
        }
    }

    /// Nothing has arrived since.
    pub(crate) fn assert_nothing_arrived(&mut self) {
        let mut arrived = Vec::new();
        self.receiver.drain(&mut arrived);
        assert!(arrived.is_empty(), "{arrived:?}");
    }

    pub(crate) async fn until(&self, state: LegState) {
        let mut snapshots = self.health.subscribe();
        soon(snapshots.wait_for(|snapshot| snapshot.legs[Leg::Websocket as usize].0 == state)).await.unwrap();
    }

    pub(crate) async fn finish(self) {
        self.stop.cancel();
        soon(self.leg).await.unwrap();
        assert_books_balance(&self.metrics);
    }
}

impl Peer {
    pub(crate) async fn send(&mut self, message: impl Into<Message>) {
        self.stream.send(message.into()).await.unwrap();
    }

    /// The code of the leg's close frame, whatever comes before it.
    async fn close_code(&mut self) -> CloseCode {
        loop {
            if let Message::Close(Some(close)) = soon(self.stream.next()).await.expect("a close frame").unwrap() {
                return close.code;
            }
        }
    }

    fn query(&self) -> &str {
        self.request.uri().query().unwrap()
    }
}

#[tokio::test]
async fn the_key_goes_in_one_header_and_the_cursor_in_the_query_of_the_next_connection() {
    let mut rig = Rig::start(settings()).await;
    let mut peer = rig.accept().await;
    assert_eq!(peer.request.headers()["x-commerce-api-key"], "ck_test");
    assert_eq!(peer.request.uri().path(), "/ws/commerce/events");
    assert_eq!(peer.query(), "types=commerce.order.*%2Cinvoice.*&format=event_v1");
    rig.up().await;
    peer.send(EVENT).await;
    let delivery = next(&mut rig.receiver).await;
    assert_eq!((delivery.leg, delivery.bytes.as_ref()), (Leg::Websocket, EVENT.as_bytes()));
    settle(&rig.metrics, delivery, Outcome::Published);
    let cursor: EventId = "evt_1768472100655-0".parse().unwrap();
    rig.position.send(Position { cursor: Some(cursor), ..Position::default() }).unwrap();
    peer.stream.close(Some(CloseFrame { code: CloseCode::Restart, reason: "bye\n".into() })).await.unwrap();
    let again = rig.accept().await;
    assert!(again.query().ends_with("&since=evt_1768472100655-0"), "{}", again.query());
    assert_eq!(rig.down().await, Cause::ServerError);
    rig.up().await;
    assert_eq!(rig.metrics.reconnects(Cause::ServerError), 1);
    rig.finish().await;
}

#[tokio::test]
async fn a_token_is_minted_for_each_connection_and_replaces_the_key() {
    let mut rig = Rig::start(config::Websocket { auth: WebsocketAuth::Token, ..settings() }).await;
    for token in ["first", "second"] {
        let elsewhere = format!(r#"{{"success":true,"data":{{"token":"{token}","ws_url":"wss://evil.example/ws"}}}}"#);
        let asked = rig.answer("200 OK", "content-type: application/json\r\n", &elsewhere).await;
        assert!(asked.starts_with("POST /api/v1/ws/token HTTP/1.1\r\n"), "{asked}");
        assert_eq!(asked.matches("ck_test").count(), 1);
        let mut peer = rig.accept().await;
        assert!(peer.query().ends_with(&format!("&token={token}")), "{}", peer.query());
        assert!(!peer.request.headers().contains_key("x-commerce-api-key"));
        rig.up().await;
        peer.stream.close(None).await.unwrap();
        assert_eq!(rig.down().await, Cause::Closed);
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_refused_key_is_tried_again_on_a_nudge() {
    let mut rig = Rig::start(settings()).await;
    rig.answer("401 Unauthorized", "", include_str!("../fixtures/errors/401.api-key-invalid.json")).await;
    rig.until(LegState::Refused).await;
    rig.assert_nothing_arrived();
    rig.key.send(SecretString::from("ck_new")).unwrap();
    let peer = rig.accept().await;
    assert_eq!(peer.request.headers()["x-commerce-api-key"], "ck_new");
    rig.until(LegState::Connected).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_cursor_that_may_be_the_mistake_is_left_out_once() {
    let rig = Rig::start(settings()).await;
    let mut peer = rig.accept().await;
    rig.position.send_modify(|position| position.cursor = Some("evt_1768472100655-0".parse().unwrap()));
    peer.stream.close(None).await.unwrap();
    let asked = rig.answer("400 Bad Request", "", include_str!("../fixtures/errors/400.validation.json")).await;
    assert!(asked.contains("&since=evt_1768472100655-0"), "{asked}");
    // At once: the wait after a refusal would be 5 minutes.
    let mut without = rig.accept().await;
    assert!(!without.query().contains("since"), "{}", without.query());
    without.stream.close(None).await.unwrap();
    assert!(rig.accept().await.query().contains("&since="));
    rig.finish().await;
}

#[tokio::test]
async fn retry_after_wins_over_the_backoff() {
    let rig = Rig::start(settings()).await;
    let asked = std::time::Instant::now();
    rig.answer("429 Too Many Requests", "retry-after: 1\r\n", "{}").await;
    let _peer = rig.accept().await;
    assert_eq!(rig.metrics.reconnects(Cause::RateLimited), 1);
    // The backoff of these settings is at most 5 ms.
    assert!(asked.elapsed() >= Duration::from_secs(1));
    rig.finish().await;
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let rig = Rig::start(settings()).await;
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let location = format!("location: http://{}/\r\n", elsewhere.local_addr().unwrap());
    rig.answer("302 Found", &location, "").await;
    // The next attempt comes back here, and nothing went there.
    let _peer = rig.accept().await;
    assert_eq!(rig.metrics.reconnects(Cause::ConnectFailed), 1);
    assert!(tokio::time::timeout(Duration::ZERO, elsewhere.accept()).await.is_err());
    rig.finish().await;
}

#[tokio::test]
async fn a_peer_that_accepts_and_closes_is_announced_each_time_and_backed_off_further() {
    let mut rig = Rig::start(settings()).await;
    for _ in 0..5 {
        let mut peer = rig.accept().await;
        rig.up().await;
        peer.stream.close(None).await.unwrap();
        assert_eq!(rig.down().await, Cause::Closed);
    }
    let _peer = rig.accept().await;
    assert_eq!(rig.metrics.reconnects(Cause::Closed), 5);
    rig.finish().await;
}

#[tokio::test]
async fn an_outage_is_announced_once() {
    let mut rig = Rig::start(settings()).await;
    drop(rig.accept().await);
    for _ in 0..4 {
        rig.answer("503 Service Unavailable", "", "").await;
    }
    let _peer = rig.accept().await;
    rig.up().await;
    assert_eq!(rig.down().await, Cause::Reset);
    rig.up().await;
    assert_eq!(rig.metrics.reconnects(Cause::ServerError), 4);
    rig.finish().await;
}

#[tokio::test]
async fn garbage_and_binary_frames_are_deliveries_and_control_frames_are_none() {
    let mut rig = Rig::start(settings()).await;
    let mut peer = rig.accept().await;
    let garbage = ["", "{", "[1,2]", "\u{0}\u{7f}", r#"{"object":7}"#];
    for text in garbage {
        peer.send(text).await;
    }
    for control in [
        include_str!("../fixtures/ws/control.replay_started.json"),
        include_str!("../fixtures/ws/control.replay_completed.json"),
        include_str!("../fixtures/ws/control.resync_required.json"),
        include_str!("../fixtures/ws/control.unknown.json"),
    ] {
        peer.send(control).await;
    }
    peer.send(Message::Binary(vec![0xff, 0xfe, 0x00].into())).await;
    peer.send(Message::Binary(EVENT.as_bytes().to_vec().into())).await;
    rig.up().await;
    for bytes in garbage.map(str::as_bytes) {
        taken(&mut rig, bytes).await;
    }
    let hint = arrival(&mut rig.receiver).await;
    assert!(matches!(hint, Arrival::Note(Note::Resync { .. })), "{hint:?}");
    taken(&mut rig, &[0xff, 0xfe, 0x00]).await;
    // The second hint is taken together with the first: nothing is told of it before this delivery.
    taken(&mut rig, EVENT.as_bytes()).await;
    assert_eq!(rig.walks.ask(), 3, "one walk for the connection, one for both hints");
    assert_eq!(rig.metrics.deliveries(Leg::Websocket), 7);
    assert_eq!(rig.health.leg(Leg::Websocket), LegState::Connected);
    rig.finish().await;
}

#[tokio::test]
async fn heartbeats_are_ignored_and_counted() {
    let mut rig = Rig::start(settings()).await;
    let mut peer = rig.accept().await;
    for seq in 0..20 {
        peer.send(format!(r#"{{"object":"ws_heartbeat","seq":{seq}}}"#)).await;
        peer.send(format!(r#"{{"type":"heartbeat","ts":{seq}}}"#)).await;
    }
    peer.send(r#"{"object":"something_new"}"#).await;
    peer.send(EVENT).await;
    rig.up().await;
    taken(&mut rig, EVENT.as_bytes()).await;
    let ignored = rig.metrics.outcomes(Leg::Websocket, Outcome::Ignored);
    assert_eq!((rig.metrics.deliveries(Leg::Websocket), ignored), (42, 41));
    rig.finish().await;
}

/// The next arrival is a delivery of these bytes.
async fn taken(rig: &mut Rig, bytes: &[u8]) {
    let Arrival::Delivery(delivery) = arrival(&mut rig.receiver).await else { panic!("{bytes:?} comes next") };
    assert_eq!(delivery.bytes.as_ref(), bytes);
    settle(&rig.metrics, delivery, Outcome::DeadLettered);
}

#[tokio::test]
async fn a_ws_error_ends_the_connection_as_its_code_says() {
    let cases = [
        (include_str!("../fixtures/ws/error.api_key_invalid.json"), Cause::Refused, LegState::Refused),
        (include_str!("../fixtures/ws/error.internal.json"), Cause::ServerError, LegState::Connected),
        (include_str!("../fixtures/ws/error.nested-variant.json"), Cause::ServerError, LegState::Connected),
    ];
    for (error, cause, state) in cases {
        let mut rig = Rig::start(settings()).await;
        let mut peer = rig.accept().await;
        rig.up().await;
        peer.send(error).await;
        assert_eq!(peer.close_code().await, CloseCode::Normal);
        drop(peer);
        assert_eq!(rig.down().await, cause);
        let _again = match state {
            LegState::Connected => Some(rig.accept().await),
            _ => None,
        };
        rig.until(state).await;
        rig.finish().await;
    }
}

#[tokio::test]
async fn a_frame_over_the_limit_closes_with_1009_whether_or_not_it_is_fragmented() {
    use tokio_tungstenite::tungstenite::protocol::frame::Frame;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
    for fragmented in [false, true] {
        let mut rig = Rig::start(settings()).await;
        let mut peer = rig.accept().await;
        rig.up().await;
        let part = || "x".repeat(FRAME_BYTES_MAX / 2 + 1).into_bytes();
        if fragmented {
            peer.send(Message::Frame(Frame::message(part(), OpCode::Data(Data::Text), false))).await;
            peer.send(Message::Frame(Frame::message(part(), OpCode::Data(Data::Continue), true))).await;
        } else {
            peer.send("x".repeat(FRAME_BYTES_MAX + 1)).await;
        }
        assert_eq!(peer.close_code().await, CloseCode::Size);
        drop(peer);
        assert_eq!(rig.down().await, Cause::TooLarge);
        rig.finish().await;
    }
}

#[tokio::test]
async fn a_frame_at_the_limit_is_taken() {
    let mut rig = Rig::start(settings()).await;
    let mut peer = rig.accept().await;
    peer.send("x".repeat(FRAME_BYTES_MAX)).await;
    let delivery = next(&mut rig.receiver).await;
    assert_eq!(delivery.bytes.len(), FRAME_BYTES_MAX);
    settle(&rig.metrics, delivery, Outcome::DeadLettered);
    rig.finish().await;
}

#[tokio::test]
async fn a_connection_that_breaks_is_a_reset() {
    let mut rig = Rig::start(settings()).await;
    let peer = rig.accept().await;
    rig.up().await;
    drop(peer);
    assert_eq!(rig.down().await, Cause::Reset);
    rig.finish().await;
}

#[tokio::test]
async fn pings_are_answered_and_sent() {
    let mut rig = Rig::start(config::Websocket { ping_interval: Duration::from_millis(20), ..settings() }).await;
    let mut peer = rig.accept().await;
    rig.up().await;
    peer.send(Message::Ping("are you there".into())).await;
    let (mut pinged, mut answered) = (false, false);
    while !(pinged && answered) {
        match soon(peer.stream.next()).await.unwrap().unwrap() {
            Message::Ping(_) => pinged = true,
            Message::Pong(payload) => answered = payload.as_ref() == b"are you there",
            other => panic!("{other:?}"),
        }
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_full_intake_pauses_the_leg_and_room_ends_the_pause() {
    // One frame of 300 bytes with its overhead fits each pool; the third has to wait.
    let mut rig = Rig::with_intake(settings(), 1024).await;
    let mut peer = rig.accept().await;
    for _ in 0..3 {
        peer.send("x".repeat(600)).await;
    }
    rig.until(LegState::Paused).await;
    for _ in 0..3 {
        let delivery = next(&mut rig.receiver).await;
        settle(&rig.metrics, delivery, Outcome::DeadLettered);
    }
    rig.until(LegState::Connected).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_leg_that_is_paused_too_long_closes_keeps_its_delivery_and_comes_back() {
    let mut rig =
        Rig::with_intake(config::Websocket { idle_timeout: Duration::from_millis(400), ..settings() }, 1024).await;
    let mut peer = rig.accept().await;
    rig.up().await;
    for _ in 0..3 {
        peer.send("x".repeat(600)).await;
    }
    assert_eq!(peer.close_code().await, CloseCode::Away);
    drop(peer);
    for _ in 0..3 {
        let delivery = next(&mut rig.receiver).await;
        settle(&rig.metrics, delivery, Outcome::DeadLettered);
    }
    assert_eq!(rig.down().await, Cause::Closed);
    let _again = rig.accept().await;
    rig.finish().await;
}

#[tokio::test]
async fn stopping_says_goodbye_and_leaves_what_waits_to_the_provider() {
    let mut rig = Rig::with_intake(settings(), 1024).await;
    let mut peer = rig.accept().await;
    for _ in 0..3 {
        peer.send("x".repeat(600)).await;
    }
    rig.until(LegState::Paused).await;
    rig.stop.cancel();
    assert_eq!(peer.close_code().await, CloseCode::Away);
    assert!(matches!(soon(peer.stream.next()).await, None | Some(Err(Error::ConnectionClosed))));
    drop(peer);
    for _ in 0..2 {
        let delivery = next(&mut rig.receiver).await;
        settle(&rig.metrics, delivery, Outcome::Published);
    }
    assert_eq!(rig.metrics.outcomes(Leg::Websocket, Outcome::Failed), 1);
    rig.finish().await;
}

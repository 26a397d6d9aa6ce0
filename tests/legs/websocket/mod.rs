mod connecting;
mod ends;
mod frames;
mod wires;

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

const EVENT: &str = include_str!("../../fixtures/ws/event.commerce.order.updated.json");
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
        let walks = Walks::default();
        let clock = Arc::new(Clock::default());
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

    /// The leg reports next that its stream is up.
    pub(crate) async fn up(&mut self) {
        let note = told(&mut self.receiver, &self.metrics).await;
        assert!(matches!(note, Note::WebsocketUp { .. }), "{note:?}");
    }

    /// The leg reports next that its stream is down; returns why.
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

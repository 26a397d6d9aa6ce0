//! The WebSocket leg: connects, hands every frame to the intake, and comes back with `since` after each end.
//!
//! `dial` makes one connection, whose texts `untyped` and `headers` make bytes, `connection` lives through it, `ending` ends
//! it; [`session`] decides all that lies between connections and around them, [`reconnect`] what an end means and [`hold`] how
//! long frames wait.

mod connection;
mod dial;
mod ending;
mod headers;
pub mod hold;
mod kinds;
mod pulse;
pub mod reconnect;
pub mod session;
mod untyped;

use super::{Intake, Position, Walks};
use crate::clock::{Clock, millis};
use crate::config::{self, WebsocketAuth};
use crate::labels::Leg;
use crate::provider::connect::Connector;
use crate::provider::rest::Rest;
use crate::telemetry::{Health, LegState, Metrics};
use bytes::Bytes;
use connection::Connection;
use ending::Finished;
pub use kinds::Kinds;
use reconnect::{End, Reconnect, Retry};
use secrecy::SecretString;
use session::{Next, Order, Session};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The leg and all that it works with.
#[derive(Debug)]
pub struct Websocket {
    /// Makes its connections.
    pub dialer: Dialer,
    /// How long live frames wait at most for a walk to fill the gap before them (`backfill.hold_max`).
    pub hold_max: Duration,
    /// Where the relay is: the provider is asked for what came after its cursor.
    pub position: watch::Receiver<Position>,
    /// Asked for a walk after each reconnect and each hint that the stream has a hole.
    pub walks: Walks,
    /// What time it is at the provider.
    pub clock: Arc<Clock>,
    /// Frames that are no events.
    pub kinds: Kinds,
    /// Where deliveries go.
    pub intake: Intake,
    /// Where operators see the leg's state.
    pub health: Arc<Health>,
    /// Where deliveries and reconnects are counted.
    pub metrics: Arc<Metrics>,
    /// Ends the leg.
    pub stop: CancellationToken,
}

/// What it takes to connect.
#[derive(Debug)]
pub struct Dialer {
    /// The stream's address, `ws` or `wss`.
    pub websocket_url: String,
    /// `[websocket]`
    pub settings: config::Websocket,
    /// The commerce key. Each send is a nudge: it ends the wait after a refusal, whether or not the key changed.
    pub api_key: watch::Receiver<SecretString>,
    /// Mints tokens when `websocket.auth` is `token`.
    pub rest: Arc<Rest>,
    /// Makes the connection, as it does for REST.
    pub connector: Connector,
}

/// A frame, and when it arrived in Unix milliseconds by our clock.
type Read = (Bytes, i64);

/// A connection's end, and what is known about it for the log.
#[derive(Debug)]
struct Ended {
    end: End,
    /// Escaped and cut.
    detail: String,
}

impl Ended {
    fn new(end: End, detail: impl std::fmt::Display) -> Self {
        Self { end, detail: detail.to_string() }
    }
}

impl Dialer {
    /// Connects once and leaves: whether the provider lets us in. The error is the reason why not.
    pub async fn probe(mut self) -> Result<(), String> {
        match self.dial(None).await {
            Ok((mut stream, _)) => {
                // The upgrade was the question; how the peer takes the goodbye is no part of the answer.
                let _ = stream.close(None).await;
                Ok(())
            }
            Err(ended) => Err(ended.detail),
        }
    }
}

impl Websocket {
    /// Runs until `stop` is cancelled or the intake closes. Nothing that the provider does ends it.
    pub async fn run(mut self) {
        let config::Websocket { backoff_min, backoff_max, auth, .. } = self.dialer.settings;
        let began = Instant::now();
        let reconnect = Reconnect::new(backoff_min, backoff_max, auth == WebsocketAuth::Token, began.into_std());
        let mut session = Session::new(reconnect, self.hold_max);
        while !self.stop.is_cancelled() {
            self.health.set_leg(self.intake.account(), Leg::Websocket, LegState::Connecting);
            let Some(detail) = self.attempt(&mut session, began).await else { break };
            let Some(next) = session.next(rand::random()) else { continue };
            self.say_disconnected(&next, &detail);
            self.obey(&mut session, next.order);
            self.wait(next.retry).await;
        }
        self.metrics.leg_connected(self.intake.seat(), Leg::Websocket, false);
    }

    /// One connection from its making to its end; the detail of the end, or `None` when the leg is to stop.
    async fn attempt(&mut self, session: &mut Session<Read>, began: Instant) -> Option<String> {
        let since = session.dial(self.position.borrow_and_update().since);
        let stop = self.stop.clone();
        let dialled = tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            dialled = self.dialer.dial(since) => dialled,
        };
        let (stream, pulse) = match dialled {
            Ok(made) => made,
            Err(Ended { end, detail }) => {
                session.failed(end);
                return Some(detail);
            }
        };
        self.health.set_leg(self.intake.account(), Leg::Websocket, LegState::Connected);
        self.health.heard(Leg::Websocket);
        self.metrics.leg_connected(self.intake.seat(), Leg::Websocket, true);
        tracing::info!(
            account = self.intake.name(),
            since = since.map(tracing::field::display),
            attempt = session.attempt(),
            "stream connected"
        );
        let orders = session.connected(began.elapsed(), self.clock.provider_ms());
        self.obey(session, orders);
        let mut connection = Connection::new(stream, pulse, self, session, began);
        match connection.live().await {
            Finished::Stopped => None,
            Finished::Ended(Ended { end, detail }) => {
                self.metrics.leg_connected(self.intake.seat(), Leg::Websocket, false);
                connection.leave(end).await;
                Some(detail)
            }
        }
    }

    /// Does what the session orders.
    fn obey(&self, session: &mut Session<Read>, orders: impl IntoIterator<Item = Order>) {
        for order in orders {
            match order {
                // An intake that is closed takes nothing more, and needs no gap.
                Order::Note(note) => self.intake.note(note).unwrap_or_default(),
                Order::AskWalk => session.walk_asked(self.walks.ask()),
            }
        }
    }

    /// Counts each end, and logs it when the cause changes: an operator reads one line for an outage, not one for each
    /// attempt.
    fn say_disconnected(&self, next: &Next, detail: &str) {
        let Retry { cause, refused, delay } = next.retry;
        self.metrics.leg_connected(self.intake.seat(), Leg::Websocket, false);
        self.metrics.reconnect(cause);
        let state = if refused { LegState::Refused } else { LegState::BackingOff };
        self.health.set_leg(self.intake.account(), Leg::Websocket, state);
        let retry_in_ms = millis(delay);
        let account = self.intake.name();
        if !next.is_news {
            tracing::debug!(account, %cause, retry_in_ms, detail, "stream attempt failed");
        } else if refused {
            // Nothing but a person helps: another key, another scope, another setting.
            tracing::error!(account, %cause, retry_in_ms, detail, "stream disconnected");
        } else {
            tracing::warn!(account, %cause, retry_in_ms, detail, "stream disconnected");
        }
    }

    /// Waits before the next attempt; a nudge ends the wait after a refusal.
    async fn wait(&mut self, retry: Retry) {
        let nudged = async {
            // A sender that is gone sends nothing more, and is no nudge.
            if !retry.refused || self.dialer.api_key.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {}
            () = nudged => {}
            () = tokio::time::sleep(retry.delay) => {}
        }
    }
}

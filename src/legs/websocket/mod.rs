//! The WebSocket leg: connects, hands every frame to the intake, and comes back with `since` after each end.
//!
//! `dial` makes one connection, `connection` lives through it, `ending` ends it, [`reconnect`] decides what that means.
//! Deduplication is not its business. It tells when it was away, and holds its frames back until the walk that
//! fetches what it missed is out.

mod connection;
mod dial;
mod ending;
pub mod hold;
mod kinds;
mod pulse;
pub mod reconnect;

use super::{Intake, Note, Position, Walks};
use crate::clock::{Clock, millis};
use crate::config::{self, WebsocketAuth};
use crate::labels::{Cause, Leg};
use crate::provider::EventId;
use crate::provider::connect::Connector;
use crate::provider::rest::Rest;
use crate::telemetry::{Health, LegState, Metrics};
use connection::Connection;
use ending::Finished;
pub use kinds::Kinds;
use reconnect::{End, Reconnect, Retry};
use secrecy::SecretString;
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

/// A connection's end, and what is known about it for the log.
#[derive(Debug)]
struct Ended {
    end: End,
    /// Escaped and cut.
    detail: String,
}

/// A connection that came about, in hindsight.
#[derive(Clone, Copy, Debug)]
struct Stood {
    lived: Duration,
    /// Its last sign of life, in Unix milliseconds by the provider's clock.
    heard_at_ms: i64,
}

impl Ended {
    fn new(end: End, detail: impl std::fmt::Display) -> Self {
        Self { end, detail: detail.to_string() }
    }
}

impl Dialer {
    /// Connects once and leaves: whether the provider lets us in. The error says why not.
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
        let started = Instant::now().into_std();
        let mut session = Reconnect::new(backoff_min, backoff_max, auth == WebsocketAuth::Token, started);
        let mut down = None;
        let mut ask_since = true;
        while !self.stop.is_cancelled() {
            self.health.set_leg(Leg::Websocket, LegState::Connecting);
            let since = self.position.borrow_and_update().cursor.filter(|_| ask_since);
            let Some((ended, stood)) = self.attempt(&session, since, &mut down).await else { break };
            let lived = stood.map_or(Duration::ZERO, |stood| stood.lived);
            let mut retry = session.ended(&ended.end, lived, rand::random());
            // How a cursor fails that the provider does not take is not documented. A request that is refused with one
            // is made once without: the walk brings what it would have replayed.
            ask_since = !(since.is_some() && ended.end.may_mean_the_cursor());
            if !ask_since {
                retry.delay = retry.delay.min(backoff_min);
            }
            self.say_disconnected(&ended, retry, &mut down);
            if let Some(Stood { heard_at_ms, .. }) = stood {
                // An intake that is closed takes nothing more, and needs no gap.
                let _ = self.intake.note(Note::WebsocketDown { cause: retry.cause, at_ms: heard_at_ms });
            }
            self.wait(retry).await;
        }
        self.metrics.leg_connected(Leg::Websocket, false);
    }

    /// One connection from its making to its end, and how it stood if it came about; `None` when the leg is to stop.
    async fn attempt(
        &mut self,
        session: &Reconnect,
        since: Option<EventId>,
        down: &mut Option<Cause>,
    ) -> Option<(Ended, Option<Stood>)> {
        let stop = self.stop.clone();
        let dialled = tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            dialled = self.dialer.dial(since) => dialled,
        };
        let (stream, pulse) = match dialled {
            Ok(made) => made,
            Err(ended) => return Some((ended, None)),
        };
        let connected_at = Instant::now();
        self.health.set_leg(Leg::Websocket, LegState::Connected);
        self.health.heard(Leg::Websocket);
        self.metrics.leg_connected(Leg::Websocket, true);
        let attempt = session.attempt();
        tracing::info!(since = since.map(tracing::field::display), attempt, "stream connected");
        *down = None;
        // What came between the last connection and this one is asked of the log; frames wait for it.
        let _ = self.intake.note(Note::WebsocketUp { at_ms: self.clock.provider_ms() });
        let walk = self.walks.ask();
        let mut connection = Connection::new(stream, pulse.clone(), self, walk);
        let finished = connection.live().await;
        let lived = connected_at.elapsed();
        let silent_ms = i64::try_from(pulse.silence().as_millis()).unwrap_or(i64::MAX);
        let heard_at_ms = self.clock.provider_ms().saturating_sub(silent_ms);
        match finished {
            Finished::Stopped => None,
            Finished::Ended(ended) => {
                self.metrics.leg_connected(Leg::Websocket, false);
                connection.leave().await;
                Some((ended, Some(Stood { lived, heard_at_ms })))
            }
        }
    }

    /// Counts each end, and tells of it when the state changes: an operator reads one line for an outage, not one
    /// for each attempt.
    fn say_disconnected(&self, ended: &Ended, retry: Retry, down: &mut Option<Cause>) {
        let Retry { cause, refused, delay } = retry;
        self.metrics.leg_connected(Leg::Websocket, false);
        self.metrics.reconnect(cause);
        let state = if refused { LegState::Refused } else { LegState::BackingOff };
        self.health.set_leg(Leg::Websocket, state);
        let retry_in_ms = millis(delay);
        let detail = ended.detail.as_str();
        let before = down.replace(cause);
        if before == Some(cause) {
            tracing::debug!(%cause, retry_in_ms, detail, "stream attempt failed");
        } else if refused {
            // Nothing but a person helps: another key, another scope, another setting.
            tracing::error!(%cause, retry_in_ms, detail, "stream disconnected");
        } else {
            tracing::warn!(%cause, retry_in_ms, detail, "stream disconnected");
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

//! The ways by which events arrive, and what all of them hand to the relay.

pub mod backfill;
pub mod hold;
mod intake;
pub mod progress;
pub mod reconcile;
pub mod session;
mod unproven;
pub mod walk;
pub mod webhook;
pub mod websocket;

pub use intake::{Intake, IntakeClosed, IntakeFull, IntakeReceiver, PAUSE_VISIBLE, Room};

use bytes::Bytes;
use progress::Note;
use std::fmt;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// A way by which events arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Leg {
    /// The provider's commerce WebSocket.
    Websocket,
    /// Signed webhooks.
    Webhook,
    /// The walk through the provider's event log.
    Backfill,
    /// Republishing on purpose, by the command of that name.
    Replay,
}

impl Leg {
    /// Every leg, in the order in which tables list them.
    pub const ALL: [Self; 4] = [Self::Websocket, Self::Webhook, Self::Backfill, Self::Replay];

    /// The name used in headers, metrics, logs and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Websocket => "websocket",
            Self::Webhook => "webhook",
            Self::Backfill => "backfill",
            Self::Replay => "replay",
        }
    }
}

impl fmt::Display for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a delivery ended; counted once, when it settles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Committed as a record.
    Published,
    /// Its event was committed before, or by an earlier copy that was in flight.
    Duplicate,
    /// Nothing to publish: a `test.ping`, or an event of a topic that is turned off.
    Ignored,
    /// Committed to the dead letter topic.
    DeadLettered,
    /// A webhook that was not genuine; it never reached the relay.
    Rejected,
    /// Left to the provider, which still holds it: the relay stopped first.
    Failed,
}

impl Outcome {
    /// Every outcome, in the order in which tables list them.
    pub const ALL: [Self; 6] =
        [Self::Published, Self::Duplicate, Self::Ignored, Self::DeadLettered, Self::Rejected, Self::Failed];

    /// The name used in metrics, logs and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Duplicate => "duplicate",
            Self::Ignored => "ignored",
            Self::DeadLettered => "dead_lettered",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
        }
    }
}

/// Why a connection of a leg ended or could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The peer closed it properly.
    Closed,
    /// It broke without a close frame.
    Reset,
    /// Nothing was heard for `stream.idle_timeout`.
    Silence,
    /// The provider refused the credentials or the request.
    Refused,
    /// The provider failed: 5xx, close codes 1011 to 1013, or a `ws_error` that names no refusal.
    ServerError,
    /// 429, or a close that says so.
    RateLimited,
    /// A frame over `stream.frame_bytes_max`.
    TooLarge,
    /// No connection came about: name, address, TLS or handshake.
    ConnectFailed,
}

impl Cause {
    /// Every cause, in the order in which tables list them.
    pub const ALL: [Self; 8] = [
        Self::Closed,
        Self::Reset,
        Self::Silence,
        Self::Refused,
        Self::ServerError,
        Self::RateLimited,
        Self::TooLarge,
        Self::ConnectFailed,
    ];

    /// The name used in metrics, logs and gaps.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Silence => "silence",
            Self::Refused => "refused",
            Self::ServerError => "server_error",
            Self::RateLimited => "rate_limited",
            Self::TooLarge => "too_large",
            Self::ConnectFailed => "connect_failed",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a leg hands to the relay.
#[derive(Debug)]
pub enum Arrival {
    /// A delivery.
    Delivery(Delivery),
    /// Something that the leg tells, in its place among the deliveries.
    Note(Note),
}

/// Bytes that arrived by a leg, verified where the leg can verify, and not yet looked into.
#[derive(Debug)]
pub struct Delivery {
    /// The way they came.
    pub leg: Leg,
    /// When their last byte arrived, in Unix milliseconds by our clock.
    pub received_at_ms: i64,
    /// One event as the provider sent it.
    pub bytes: Bytes,
    /// Who waits for the outcome: the webhook leg answers only after it. Nobody for a WebSocket frame.
    pub reply: Option<oneshot::Sender<Outcome>>,
    /// The delivery's share of the intake, given back when the delivery is dropped.
    pub share: OwnedSemaphorePermit,
}

//! The closed sets that name things in settings, metrics, headers, logs and tables: one word per thing.
//!
//! They lie on the ground, so that settings and metrics can name a leg or a topic without knowing what it does.

use std::fmt;

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
    /// Nothing was heard for `websocket.idle_timeout`.
    Silence,
    /// The provider refused the credentials or the request.
    Refused,
    /// The provider failed: 5xx, close codes 1011 to 1013, or a `ws_error` that names no refusal.
    ServerError,
    /// 429, or a close that says so.
    RateLimited,
    /// A frame over `websocket.frame_bytes_max`.
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

/// One of the relay's topics, by its key in `[kafka.topics]`; the name comes from the settings alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// Every order event.
    Orders,
    /// The newest event of each order.
    OrdersLatest,
    /// Every invoice and invoice payment event.
    Invoices,
    /// Deliveries that cannot be published, as they came.
    DeadLetter,
    /// Checkpoints and gaps.
    Control,
}

impl Topic {
    /// Every topic, in the order in which tables list them.
    pub const ALL: [Self; 5] = [Self::Orders, Self::OrdersLatest, Self::Invoices, Self::DeadLetter, Self::Control];

    /// The key in `[kafka.topics]`, also used in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::OrdersLatest => "orders_latest",
            Self::Invoices => "invoices",
            Self::DeadLetter => "dead_letter",
            Self::Control => "control",
        }
    }
}

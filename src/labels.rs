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
}

impl Leg {
    /// Every leg, in the order in which tables list them.
    pub const ALL: [Self; 3] = [Self::Websocket, Self::Webhook, Self::Backfill];

    /// The name used in headers, metrics, logs and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Websocket => "websocket",
            Self::Webhook => "webhook",
            Self::Backfill => "backfill",
        }
    }
}

impl fmt::Display for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One of the relay's accounts: its place in the order in which this process got to know them. What is known of it is
/// found by that place; its name is written where people or Kafka read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Account(u16);

impl Account {
    /// The first one; the only one where accounts have no names.
    pub const FIRST: Self = Self(0);

    /// The account at this place; all beyond 65,535 share the last one.
    pub const fn at(place: usize) -> Self {
        Self(if place < u16::MAX as usize { place as u16 } else { u16::MAX })
    }

    /// Its place.
    pub const fn place(self) -> usize {
        self.0 as usize
    }
}

/// An account of a shard: places count from 0 in each shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seat {
    /// The shard's number.
    pub shard: i32,
    /// The account there.
    pub account: Account,
}

/// What `relay_leg` names where no leg brought the event: the command `replay` published it again.
pub const REPLAY: &str = "replay";

/// How a delivery ended; counted once, when it settles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Committed as a record.
    Published,
    /// Its event was committed before, or by an earlier copy that was in flight.
    Duplicate,
    /// Nothing to publish: a `test.ping`, a frame that does not claim to be an event, or an event of a topic that is turned off.
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
    /// Nothing was received for `websocket.idle_timeout`.
    Silence,
    /// The provider refused the credentials or the request.
    Refused,
    /// The provider failed: 5xx, close codes 1011 to 1013, or a `ws_error` that names no refusal.
    ServerError,
    /// 429, or a close that means it.
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

/// Why the WebSocket may have missed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapCause {
    /// The connection ended.
    Connection(Cause),
    /// The relay was not running.
    Restart,
    /// The relay runs for the first time, and history is wanted.
    FirstStart,
    /// The provider announced, or may have announced, that the stream is not complete.
    Resync,
    /// Webhooks were deleted from the inbox before they were taken.
    Inbox,
    /// The relay's memory of what it published is not whole.
    Journal,
}

impl GapCause {
    /// Every cause, in the order in which the schema lists them.
    pub fn all() -> impl Iterator<Item = Self> {
        Cause::ALL.into_iter().map(Self::Connection).chain([
            Self::Restart,
            Self::FirstStart,
            Self::Resync,
            Self::Inbox,
            Self::Journal,
        ])
    }

    /// The name used in logs, metrics and control records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connection(cause) => cause.as_str(),
            Self::Restart => "restart",
            Self::FirstStart => "first_start",
            Self::Resync => "resync",
            Self::Inbox => "inbox",
            Self::Journal => "journal",
        }
    }

    /// The cause of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::all().find(|cause| cause.as_str() == name)
    }
}

/// The HTTP status of an answer to a webhook; the names are those of RFC 9110, section 15, and RFC 6585, section 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookCode {
    /// 200
    Ok,
    /// 400
    BadRequest,
    /// 404
    NotFound,
    /// 405
    MethodNotAllowed,
    /// 408
    RequestTimeout,
    /// 413
    ContentTooLarge,
    /// 431
    HeadersTooLarge,
    /// 503
    Unavailable,
}

impl WebhookCode {
    /// Every status, in the order in which tables list them.
    pub const ALL: [Self; 8] = [
        Self::Ok,
        Self::BadRequest,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::ContentTooLarge,
        Self::HeadersTooLarge,
        Self::Unavailable,
    ];

    /// The name used in metrics: the number in text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "200",
            Self::BadRequest => "400",
            Self::NotFound => "404",
            Self::MethodNotAllowed => "405",
            Self::RequestTimeout => "408",
            Self::ContentTooLarge => "413",
            Self::HeadersTooLarge => "431",
            Self::Unavailable => "503",
        }
    }

    /// The status as HTTP has it.
    pub const fn as_u16(self) -> u16 {
        match self {
            Self::Ok => 200,
            Self::BadRequest => 400,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::RequestTimeout => 408,
            Self::ContentTooLarge => 413,
            Self::HeadersTooLarge => 431,
            Self::Unavailable => 503,
        }
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
    /// Verified webhooks that the owner of their shard has yet to take.
    Inbox,
}

impl Topic {
    /// Every topic, in the order in which tables list them.
    pub const ALL: [Self; 6] =
        [Self::Orders, Self::OrdersLatest, Self::Invoices, Self::DeadLetter, Self::Control, Self::Inbox];

    /// Those that the relay's transactions write to.
    pub const WRITTEN: [Self; 5] = [Self::Orders, Self::OrdersLatest, Self::Invoices, Self::DeadLetter, Self::Control];

    /// The key in `[kafka.topics]`, also used in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::OrdersLatest => "orders_latest",
            Self::Invoices => "invoices",
            Self::DeadLetter => "dead_letter",
            Self::Control => "control",
            Self::Inbox => "inbox",
        }
    }

    /// Whether it has a partition a shard.
    pub const fn is_of_shards(self) -> bool {
        matches!(self, Self::Control | Self::Inbox)
    }
}

/// A listener of the relay; the label `listener` of the metrics of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// Takes webhooks.
    Webhook,
    /// Shows health, metrics and status.
    Admin,
}

impl Listener {
    /// Every listener, in the order in which tables list them.
    pub const ALL: [Self; 2] = [Self::Webhook, Self::Admin];

    /// The name used in labels, logs and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Admin => "admin",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_status_is_its_number() {
        for code in WebhookCode::ALL {
            assert_eq!(code.as_str(), code.as_u16().to_string());
        }
    }
}

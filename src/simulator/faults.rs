//! Faults that can be switched on while the simulator runs, channel by channel. Everything is off by default.
//!
//! [`Faults`] is the state; [`FaultSwitch`](super::FaultSwitch) changes it at run time. As JSON (`POST /simulator/faults`) it has the same members, times as
//! `"500ms"`.

use serde::{Deserialize, Deserializer};
use std::time::Duration;

/// Every fault that lasts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// On the WebSocket.
    pub websocket: WebsocketFaults,
    /// On the webhooks.
    pub webhooks: WebhookFaults,
    /// On the REST calls.
    pub rest: RestFaults,
}

/// Faults of the WebSocket.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebsocketFaults {
    /// Answers every upgrade with this status.
    pub refuse: Option<FaultAnswer>,
    /// Accepts every connection and ends it at once.
    pub flap: Option<Cut>,
    /// Neither sends nor reads: no frame, no ping, no pong.
    pub silent: bool,
    /// This many of the next events reach no socket, in silence.
    pub drop_next: u32,
    /// Percent of events that are sent twice.
    pub duplicate_percent: u8,
    /// Every two events change places; an odd last one waits until the fault is switched off.
    pub swap: bool,
    /// How `since` is read.
    pub since: Since,
    /// Announces what it replays, and replays nothing.
    pub replay_missing: bool,
    /// What control frames look like.
    pub controls: Controls,
}

/// Faults of the webhook sender.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookFaults {
    /// Nothing is sent; it gathers.
    pub paused: bool,
    /// Each first attempt waits this long.
    #[serde(deserialize_with = "duration")]
    pub delay: Duration,
    /// And up to this long more, by chance, which shuffles them.
    #[serde(deserialize_with = "duration")]
    pub jitter: Duration,
    /// Percent of deliveries that are made twice.
    pub duplicate_percent: u8,
}

/// Faults of the REST calls.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RestFaults {
    /// Answers every call with this status.
    pub refuse: Option<FaultAnswer>,
    /// Answers so much later.
    #[serde(deserialize_with = "duration")]
    pub delay: Duration,
    /// The Events API shows an event only this long after the other channels had it.
    #[serde(deserialize_with = "duration")]
    pub log_visible_after: Duration,
    /// The event log keeps this many of its newest events at most, for the socket's replay as well; what it forgets
    /// once it does not get back.
    pub history_events: Option<usize>,
    /// A well-formed cursor that was never issued, or is forgotten, gets `400`; else it counts by its place in time.
    pub unknown_cursor_refused: bool,
    /// An estimate gets `400` where an item has no title or no price, which are documented, but not as required.
    pub whole_items_wanted: bool,
}

/// An answer instead of the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultAnswer {
    /// The HTTP status.
    pub status: u16,
    /// `Retry-After`, in seconds.
    #[serde(default)]
    pub retry_after_s: Option<u32>,
}

impl FaultAnswer {
    /// A bare status.
    pub const fn status(status: u16) -> Self {
        Self { status, retry_after_s: None }
    }
}

/// How a connection ends.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// Without a close frame.
    Abrupt,
    /// With a close frame of this code.
    Close(u16),
    /// With a `ws_error` frame of this code, then a close frame of 1008.
    Error(String),
}

/// How `since` is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Since {
    /// What came after it; the reading of the documentation.
    #[default]
    Exclusive,
    /// It and what came after it.
    Inclusive,
    /// Not at all.
    Ignored,
}

/// The words of control frames, about which the documentation is silent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Controls {
    /// `replay_started` and so on.
    #[default]
    Known,
    /// Other words in another shape.
    Other,
    /// None are sent.
    None,
}

/// A time as the settings write it.
fn duration<'de, D: Deserializer<'de>>(json: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(json)?;
    humantime::parse_duration(&text).map_err(serde::de::Error::custom)
}

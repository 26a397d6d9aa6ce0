//! What is planned, and how it ends.

use crate::kafka::Record;
use crate::labels::{Account, Outcome};
use crate::legs::{Admission, Delivery, Note};
use crate::provider::event::Reason;
use crate::relay::progress::Gap;
use bytes::Bytes;
use std::sync::Arc;

/// Something to be planned.
#[derive(Debug)]
pub enum Item {
    /// What arrived, and why Kafka refused its record when it was sent alone: it then becomes a dead letter.
    Delivery(Delivery, Option<Refused>),
    /// What a leg of this account reported, in its place among the deliveries.
    Note(Account, Note),
    /// This account is served from now on.
    Admitted(Account, Arc<Admission>),
}

/// Something that is done.
#[derive(Debug)]
pub enum Settled<'r> {
    /// A delivery, how it ended, and its first record where it has one of its own.
    Delivery(Delivery, Ending, Option<Record<'r>>),
    /// A gap of this account is open.
    GapOpened(Account, Gap),
    /// A gap of this account is closed.
    GapClosed(Account, Gap),
}

impl Settled<'_> {
    /// A peer waits for this outcome, and is free again once it has it.
    pub fn answers(&self) -> bool {
        matches!(self, Self::Delivery(delivery, ..) if delivery.reply.is_some())
    }
}

/// How a delivery ends, and what is worth reporting about it.
#[derive(Clone, Debug)]
pub struct Ending {
    /// The outcome.
    pub outcome: Outcome,
    /// The event's id, empty where none could be read.
    pub event_id: Bytes,
    /// When the event occurred in Unix milliseconds, where the event could be read.
    pub occurred_at_ms: Option<i64>,
    /// Why it becomes a dead letter.
    pub dead_letter: Option<(Reason, String)>,
    /// Its time is so far ahead of both clocks that it moves neither cursor nor versions nor `latest`.
    pub ahead: bool,
    /// It occurred while a gap was open.
    pub recovered: bool,
}

/// Why Kafka refused the record of a delivery when it was sent alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The reason in its dead letter: too large, or invalid.
    pub reason: Reason,
    /// Kafka's error.
    pub detail: String,
    /// The dead letter holds a digest in place of the bytes.
    pub digest: bool,
}

impl Ending {
    /// Of a delivery about which nothing is known.
    pub(super) fn nothing() -> Self {
        Self {
            outcome: Outcome::Failed,
            event_id: Bytes::new(),
            occurred_at_ms: None,
            dead_letter: None,
            ahead: false,
            recovered: false,
        }
    }
}

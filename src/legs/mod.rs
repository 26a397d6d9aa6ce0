//! The ways by which events arrive, and what all of them hand to the relay.

pub mod backfill;
mod intake;
mod note;
mod trace;
mod walks;
pub mod webhook;
pub mod websocket;

pub use intake::{Intake, IntakeClosed, IntakeFull, IntakeReceiver, IntakeShare, PAUSE_VISIBLE, Reservation};

pub use note::{Admission, Note, Position};
pub use trace::{TRACEPARENT, TRACESTATE, Trace};
pub use walks::Walks;

use crate::labels::{Account, Leg, Outcome};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// The wait after the provider refused credentials or request: a person has to act, and may do so at any time.
pub const REFUSED_RETRY: Duration = Duration::from_mins(5);

/// The longest `Retry-After` that is believed; the provider's own samples speak of 15 minutes in a text for people,
/// and a leg that stays away longer than this costs more than one attempt too many.
pub const RETRY_AFTER_MAX: Duration = Duration::from_mins(10);

/// What a leg hands to the relay.
#[derive(Debug)]
pub enum Arrival {
    /// A delivery.
    Delivery(Delivery),
    /// Something that a leg of this account reports, in its place among the deliveries.
    Note(Account, Note),
    /// This account is served from now on, and its legs learn here where to begin.
    Admitted(Account, Arc<Admission>, watch::Sender<Position>),
}

/// Bytes that arrived by a leg, verified where the leg can verify, and not yet looked into.
#[derive(Debug)]
pub struct Delivery {
    /// Whose event it is.
    pub account: Account,
    /// The way they came.
    pub leg: Leg,
    /// When their last byte arrived, in Unix milliseconds by our clock.
    pub received_at_ms: i64,
    /// One event as the provider sent it.
    pub bytes: Bytes,
    /// Who waits for the outcome: the webhook leg answers only after it. Nobody for a WebSocket frame.
    pub reply: Option<oneshot::Sender<Outcome>>,
    /// The trace that a webhook came with, if it did.
    pub trace: Option<Box<Trace>>,
    /// Where it was taken from the inbox: the offset behind it.
    pub inbox: Option<i64>,
    /// The delivery's share of the intake, given back when the delivery is dropped.
    pub share: IntakeShare,
}

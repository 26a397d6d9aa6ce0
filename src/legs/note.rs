//! What legs report to the relay alongside their deliveries, and what they get from it.

use crate::labels::Cause;
use crate::provider::EventId;
use std::time::Duration;

/// Something that a leg reports alongside its deliveries, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// The stream is complete no more since `at_ms`.
    WebsocketDown {
        /// Why.
        cause: Cause,
        /// When its last sign of life came.
        at_ms: i64,
    },
    /// The stream delivers again.
    WebsocketUp {
        /// Since when.
        at_ms: i64,
    },
    /// The stream goes on, but up to `at_ms` it may have missed something.
    Resync {
        /// When that was reported.
        at_ms: i64,
    },
    /// A walk found that the provider's log no longer reaches back: in this time events may be missing that nobody can
    /// fetch any more. Reported before the end of that walk.
    Unproven {
        /// Up to then nothing is missing.
        from_ms: i64,
        /// From then on the log is complete.
        to_ms: i64,
    },
    /// Everything of the inbox before `next` was handed on, and nothing was behind it at `read_ms` by the relay's own
    /// time. Whichever account reports it.
    InboxRead {
        /// The offset of the next record.
        next: i64,
        /// When that was so, in milliseconds.
        read_ms: i64,
    },
    /// Webhooks were deleted from the inbox before they were taken.
    InboxLost {
        /// The offset of the oldest one that is left.
        next: i64,
        /// When that was found.
        at_ms: i64,
    },
    /// The settings name the account no more: its legs end, and what they brought is settled.
    Retired,
    /// A walk has handed on all it found.
    WalkDone {
        /// When its first page was asked for.
        started_ms: i64,
    },
}

/// An account that the relay serves from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Its name.
    pub name: String,
    /// How far back history is wanted, where the relay never served it.
    pub first_start: Duration,
    /// How far a walk looks back behind the verified mark.
    pub overlap: Duration,
    /// The settings name it; one that they do not name only has its events published.
    pub served: bool,
}

/// What the legs have to know of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The newest event that socket and log brought.
    pub cursor: Option<EventId>,
    /// Where the socket resumes.
    pub since: Option<EventId>,
    /// Where every walk begins.
    pub walk_from_ms: Option<i64>,
    /// Up to when nothing is missing; a log that does not reach back to it has to be reported.
    pub proven_ms: Option<i64>,
}

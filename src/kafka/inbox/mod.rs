//! The inbox: verified webhooks in a topic of their own, a partition a shard, until the owner of their shard takes them.
//!
//! The node that gets a webhook appends it with `acks=all`; that is its answer. It is at least once: the window of the
//! shard's owner finds duplicates, as with every other leg.

mod append;
mod begin;
mod read;

pub use append::Appender;
pub use begin::{Ends, appended_after, begin};
pub use read::{Inbox, Opened, Read};

use std::borrow::Cow;

/// When the webhook arrived, RFC 3339.
const RECEIVED_AT: &str = "relay_received_at";
/// The node that it came to.
const NODE: &str = "relay_node";
/// The sender's trace (W3C Trace Context), as it came.
const TRACEPARENT: &str = "traceparent";
/// Its other half.
const TRACESTATE: &str = "tracestate";

/// A verified webhook, as it is in the inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook<'w> {
    /// Whose it is; empty where accounts have no names.
    pub account: Cow<'w, str>,
    /// Its body as it came.
    pub bytes: Cow<'w, [u8]>,
    /// When it arrived, in Unix milliseconds by the clock of the node that it came to.
    pub received_at_ms: i64,
    /// `traceparent` and `tracestate` of its sender, where it brought them; the second may be empty.
    pub trace: Option<(Cow<'w, str>, Cow<'w, str>)>,
}

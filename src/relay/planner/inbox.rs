//! How far the inbox is taken.

/// How far the inbox of a shard is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InboxMark {
    /// Everything before this offset is planned or settled; none where the inbox is not used.
    pub next: Option<i64>,
    /// What is not taken was appended after this time, by the relay's own time in milliseconds.
    pub unread_since_ms: Option<i64>,
}

impl InboxMark {
    /// As a start begins to take at `next`, of an inbox in which nothing waits, or what was appended after `unread_ms`: nothing
    /// is forgotten before a first look has told that nothing waits.
    pub fn begin(next: i64, unread_ms: Option<i64>) -> Self {
        Self { next: Some(next), unread_since_ms: Some(unread_ms.unwrap_or(i64::MIN)) }
    }
}

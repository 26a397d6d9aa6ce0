//! What time it is, here and at the provider.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Unix milliseconds by our clock; 0 before 1970.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// How far the provider's clock is ahead of ours.
#[derive(Debug, Default)]
pub struct Clock {
    provider_ahead_ms: AtomicI64,
}

impl Clock {
    /// Milliseconds by which the provider's clock is ahead of ours; 0 until an answer told.
    pub fn provider_ahead_ms(&self) -> i64 {
        self.provider_ahead_ms.load(Ordering::Relaxed)
    }

    /// Unix milliseconds by the provider's clock as its last answer told it, else by ours.
    pub fn provider_ms(&self) -> i64 {
        now_ms().saturating_add(self.provider_ahead_ms())
    }

    /// The provider's `Date` header said so, just now (RFC 9110, section 6.6.1: whole seconds).
    pub fn learn(&self, provider_ms: i64) {
        self.provider_ahead_ms.store(provider_ms.saturating_sub(now_ms()), Ordering::Relaxed);
    }
}

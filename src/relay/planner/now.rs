//! The moment of a decision, by the clocks that it depends on.

use crate::clock::{Moment, ProviderTime};

/// How far ahead of both clocks, the provider's and ours, an id may be before it is taken for wrong: it would otherwise
/// move the cursor and `latest` past everything that comes after it.
pub const AHEAD_MAX_MS: i64 = 10 * 60 * 1000;

/// The moment of a decision, in Unix milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// By our clock.
    pub ms: i64,
    /// By the provider's clock, as far as it is known.
    pub provider_ms: i64,
    /// By our clock as it was when the relay began, carried on by the steady clock. Window and versions go by it alone: a
    /// step of the clock neither forgets nor keeps anything.
    pub own_ms: i64,
}

impl Now {
    /// The moment `at`, with what is known of the provider's time.
    pub fn at(at: Moment, provider: &ProviderTime) -> Self {
        Self { ms: at.wall_ms, provider_ms: provider.ms(at), own_ms: provider.own_ms(at) }
    }

    /// Whether `ms`, the time of an event, lies in the future: more than [`AHEAD_MAX_MS`] ahead of both clocks. Either
    /// clock may be wrong; an event taken for one of the future by mistake would never reach `latest`.
    pub fn is_before(self, ms: i64) -> bool {
        ms > self.ms.max(self.provider_ms).saturating_add(AHEAD_MAX_MS)
    }
}

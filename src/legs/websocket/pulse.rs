//! When a connection last received something, and whether the machine slept meanwhile.
//!
//! Silence is measured by the clock that stops while the machine is suspended, or every suspend would be one. But the peer
//! may have given up in such a time, and a gap begins when something was last received before it: so the pulse also
//! goes by the steady clock, and knows from the difference how long the machine slept.

use crate::clock::steady_ms;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::time::Instant;
use tokio_util::io::InspectReader;

/// A connection whose machine slept for this long in all may have missed something: the peer receives no pongs
/// meanwhile.
pub(super) const SLEPT_MAX: Duration = Duration::from_secs(10);

/// When bytes were last received, whatever they were: a large frame on a slow line is life as well.
#[derive(Clone, Debug)]
pub(super) struct Pulse {
    born: Instant,
    born_steady_ms: i64,
    /// When it last beat, in milliseconds after `born`.
    last_ms: Arc<AtomicU64>,
    /// When it last beat before the machine slept too long, by the steady clock.
    awake_ms: Arc<AtomicI64>,
}

impl Pulse {
    pub(super) fn new() -> Self {
        Self::born_at(steady_ms())
    }

    fn born_at(steady_ms: i64) -> Self {
        let awake_ms = Arc::new(AtomicI64::new(steady_ms));
        Self { born: Instant::now(), born_steady_ms: steady_ms, last_ms: Arc::default(), awake_ms }
    }

    /// Bytes were received now, or the relay was not listening until now.
    pub(super) fn beat(&self) {
        self.beat_at(steady_ms());
    }

    fn beat_at(&self, steady_ms: i64) {
        let lived = self.born.elapsed();
        self.last_ms.store(u64::try_from(lived.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        if self.slept_until(steady_ms, lived) < SLEPT_MAX {
            self.awake_ms.store(steady_ms, Ordering::Relaxed);
        }
    }

    /// When it last beat.
    pub(super) fn last(&self) -> Instant {
        self.born + Duration::from_millis(self.last_ms.load(Ordering::Relaxed))
    }

    /// How long the machine has slept since the connection was made.
    pub(super) fn slept(&self) -> Duration {
        self.slept_until(steady_ms(), self.born.elapsed())
    }

    fn slept_until(&self, steady_ms: i64, lived: Duration) -> Duration {
        let passed_ms = u64::try_from(steady_ms.saturating_sub(self.born_steady_ms)).unwrap_or(0);
        Duration::from_millis(passed_ms).saturating_sub(lived)
    }

    /// For how long nothing has been received that a gap must not hold: the larger of both clocks, and from before a
    /// sleep that was too long.
    pub(super) fn silence(&self) -> Duration {
        self.silence_until(steady_ms())
    }

    fn silence_until(&self, steady_ms: i64) -> Duration {
        let by_steady = steady_ms.saturating_sub(self.awake_ms.load(Ordering::Relaxed));
        self.last().elapsed().max(Duration::from_millis(u64::try_from(by_steady).unwrap_or(0)))
    }
}

/// A byte stream that beats `pulse` with each read.
pub(super) fn heard<S: AsyncRead>(stream: S, pulse: Pulse) -> InspectReader<S, impl FnMut(&[u8])> {
    InspectReader::new(stream, move |bytes| {
        if !bytes.is_empty() {
            pulse.beat();
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paused clock is the one that stops in a suspend.
    #[tokio::test(start_paused = true)]
    async fn a_suspend_is_a_silence_that_begins_when_it_began() {
        let pulse = Pulse::born_at(1_000);
        tokio::time::advance(Duration::from_secs(30)).await;
        pulse.beat_at(31_000);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(pulse.silence_until(33_000), Duration::from_secs(2));
        assert_eq!(pulse.slept_until(33_000, pulse.born.elapsed()), Duration::ZERO);
        // Three hours of suspend, and then what had come just before it is read.
        let after_ms = 33_000 + 3 * 3_600_000;
        assert_eq!(pulse.slept_until(after_ms, pulse.born.elapsed()), Duration::from_secs(3 * 3600));
        pulse.beat_at(after_ms);
        assert_eq!(pulse.silence_until(after_ms), Duration::from_secs(3 * 3600 + 2));
        assert_eq!(pulse.last().elapsed(), Duration::ZERO, "it was not silent while it could hear");
    }

    #[tokio::test(start_paused = true)]
    async fn a_nap_is_none() {
        let pulse = Pulse::born_at(1_000);
        pulse.beat_at(10_000);
        assert!(pulse.slept_until(10_000, pulse.born.elapsed()) < SLEPT_MAX);
        assert_eq!(pulse.silence_until(10_500), Duration::from_millis(500));
    }
}

//! Warnings of the loop about single events, thinned out: a provider's new type at a thousand a second is not a thousand
//! lines a second. What is held back is counted in the next line of its kind; each event has its line at debug.

use crate::provider::event::Reason;
use crate::telemetry::{Metrics, RateLimited};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tracing::warn;

/// Each kind of line at most so often.
const EVERY: Duration = Duration::from_secs(10);

/// When each kind of line went out last.
#[derive(Debug)]
pub struct Lines(Mutex<Kinds>);

#[derive(Debug)]
struct Kinds {
    dead_letters: [RateLimited; Reason::ALL.len()],
    ahead: RateLimited,
    forgotten: RateLimited,
}

impl Default for Lines {
    fn default() -> Self {
        let limited = RateLimited::new(EVERY);
        Self(Mutex::new(Kinds { dead_letters: [limited; Reason::ALL.len()], ahead: limited, forgotten: limited }))
    }
}

impl Lines {
    /// An event became a dead letter for `reason`: whether that is logged, and for how many events.
    pub(super) fn dead_letter(&self, reason: Reason) -> Option<u64> {
        self.dead_letter_at(reason, Instant::now())
    }

    fn dead_letter_at(&self, reason: Reason, now: Instant) -> Option<u64> {
        let position = Reason::ALL.iter().position(|known| *known == reason)?;
        self.lock().dead_letters.get_mut(position)?.allow(now).map(|unsaid| unsaid.saturating_add(1))
    }

    /// An event of the future was published: whether that is logged, and for how many events.
    pub(super) fn ahead(&self) -> Option<u64> {
        self.lock().ahead.allow(Instant::now()).map(|unsaid| unsaid.saturating_add(1))
    }

    /// Counts ids that had to make room before their time, and warns of them: their events would be published again.
    pub(crate) fn forgotten_early(&self, metrics: &Metrics, ids: u64) {
        if ids == 0 {
            return;
        }
        metrics.dedup_evicted_early(ids);
        let said = self.lock().forgotten.allow_for(ids, Instant::now());
        if let Some(unsaid) = said {
            let ids = ids.saturating_add(unsaid);
            warn!(ids, "event ids forgotten before their time: raise dedup.ids_max");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kinds> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_reason_is_a_line_now_and_then_and_hides_no_other() {
        let lines = Lines::default();
        let start = Instant::now();
        let said = |reason| (0..1_000).filter_map(|_| lines.dead_letter_at(reason, start)).collect::<Vec<_>>();
        assert_eq!(said(Reason::UnknownType), [1]);
        assert_eq!(said(Reason::MalformedJson), [1]);
        assert_eq!(lines.dead_letter_at(Reason::UnknownType, start + EVERY), Some(1_000));
        assert_eq!(lines.dead_letter_at(Reason::UnknownType, start + EVERY * 2), Some(1));
    }

    #[test]
    fn ids_that_are_forgotten_are_counted_whether_or_not_it_is_logged() {
        let lines = Lines::default();
        let metrics = Metrics::new("test");
        for ids in [0, 3, 4] {
            lines.forgotten_early(&metrics, ids);
        }
        assert_eq!(metrics.evicted_early(), 7);
        assert_eq!(lines.lock().forgotten.allow(Instant::now() + EVERY), Some(4));
    }
}

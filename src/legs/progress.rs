//! How far the relay has come: the cursor, the `verified` mark, and the gaps between them.
//!
//! Two marks, because two different things are known. Up to the *cursor*, everything that the socket and the log
//! *brought* is settled; it is where the socket resumes. Up to *verified*, a walk through the provider's log that began
//! at least `overlap` later has settled all it *found*; an event that the log shows late, or a frame that was dropped
//! in silence, is older than the cursor but not older than `verified`, so the next walk, which begins at
//! `verified − overlap`, finds it.
//!
//! A gap is a time in which the socket may have missed something. It closes when `verified` has passed its end: a first
//! walk fills it at once, a second one, `overlap` later, confirms it.
//!
//! Pure: it is told what happened and when. All times are Unix milliseconds by the provider's clock.

use super::{Cause, Leg};
use crate::provider::EventId;
use std::time::Duration;

/// Gaps that are kept apart. A stream that flaps for hours opens more than that; they then count as one that goes on.
const GAPS_MAX: usize = 100;

/// Why the socket may have missed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapCause {
    /// The connection ended.
    Connection(Cause),
    /// The relay was not running.
    Restart,
    /// The relay runs for the first time, and history is wanted.
    FirstStart,
    /// The provider said, or may have said, that the stream is not complete.
    Resync,
}

impl GapCause {
    /// The name used in logs, metrics and control records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connection(cause) => cause.as_str(),
            Self::Restart => "restart",
            Self::FirstStart => "first_start",
            Self::Resync => "resync",
        }
    }

    /// The cause of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        let connections = Cause::ALL.into_iter().map(Self::Connection);
        connections.chain([Self::Restart, Self::FirstStart, Self::Resync]).find(|cause| cause.as_str() == name)
    }
}

/// Something that a leg tells beside its deliveries, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// The stream is complete no more since `at_ms`.
    StreamDown {
        /// Why.
        cause: Cause,
        /// When its last sign of life came.
        at_ms: i64,
    },
    /// The stream delivers again.
    StreamUp {
        /// Since when.
        at_ms: i64,
    },
    /// The stream goes on, but up to `at_ms` it may have missed something.
    Resync {
        /// When that was told.
        at_ms: i64,
    },
    /// A walk has handed on all it found.
    WalkDone {
        /// When its first page was asked for.
        started_ms: i64,
    },
}

/// A time in which the socket may have missed something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Counts up over the relay's life.
    pub id: u64,
    /// Why it opened.
    pub cause: GapCause,
    /// The cursor at that time.
    pub from: Option<EventId>,
    /// When it opened.
    pub opened_ms: i64,
    /// Up to when the socket may have missed something; `None` while it is down.
    pub end_ms: Option<i64>,
    /// When `verified` passed its end.
    pub closed_ms: Option<i64>,
    /// Events that occurred inside it and were published.
    pub recovered: u64,
}

/// What the legs have to know of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Where the socket resumes.
    pub cursor: Option<EventId>,
    /// Where every walk begins.
    pub walk_from_ms: Option<i64>,
}

/// Cursor, verified mark and open gaps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    cursor: Option<EventId>,
    verified_ms: Option<i64>,
    /// Open ones, oldest first.
    gaps: Vec<Gap>,
    /// The one that closed last: a checkpoint keeps it, so that numbers go on after a restart.
    closed: Option<Gap>,
    overlap_ms: i64,
}

impl Progress {
    /// What a checkpoint held; of a relay that has none, nothing.
    ///
    /// Gaps that were open are still open, and end when the stream is up.
    pub fn resume(cursor: Option<EventId>, verified_ms: Option<i64>, gaps: Vec<Gap>, overlap: Duration) -> Self {
        let (closed, mut gaps): (Vec<_>, Vec<_>) = gaps.into_iter().partition(|gap| gap.closed_ms.is_some());
        gaps.iter_mut().for_each(|gap| gap.end_ms = None);
        let overlap_ms = i64::try_from(overlap.as_millis()).unwrap_or(i64::MAX);
        Self { cursor, verified_ms, gaps, closed: closed.into_iter().max_by_key(|gap| gap.id), overlap_ms }
    }

    /// Where the socket resumes.
    pub fn cursor(&self) -> Option<EventId> {
        self.cursor
    }

    /// Up to when nothing is missing.
    pub fn verified_ms(&self) -> Option<i64> {
        self.verified_ms
    }

    /// Where every walk begins, whatever started it: all that is not older than this is looked at again.
    pub fn walk_from_ms(&self) -> Option<i64> {
        self.verified_ms.map(|verified| verified.saturating_sub(self.overlap_ms))
    }

    /// What the legs have to know.
    pub fn position(&self) -> Position {
        Position { cursor: self.cursor, walk_from_ms: self.walk_from_ms() }
    }

    /// Gaps that are open, oldest first.
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// The gap that closed last.
    pub fn closed(&self) -> Option<&Gap> {
        self.closed.as_ref()
    }

    /// Sets the mark from which the first walk begins, and opens the gap that it fills.
    pub fn begin_at(&mut self, cause: GapCause, from_ms: i64, now_ms: i64) -> Gap {
        self.verified_ms = Some(from_ms.saturating_add(self.overlap_ms).min(now_ms));
        self.open(cause, from_ms)
    }

    /// The relay runs again: since its last checkpoint at `last_ms` the socket has missed whatever there was.
    pub fn restarted(&mut self, last_ms: i64) -> Gap {
        self.open(GapCause::Restart, last_ms)
    }

    /// An event of `leg` is being published or was seen before. Webhooks come in any order and move no cursor.
    pub fn saw(&mut self, leg: Leg, id: EventId) {
        if matches!(leg, Leg::Websocket | Leg::Backfill) {
            self.cursor = self.cursor.max(Some(id));
        }
    }

    /// An event that occurred at `ms` is being published: whether it fills a gap.
    pub fn recovers(&mut self, ms: i64) -> bool {
        let within = |gap: &Gap| gap.opened_ms <= ms && gap.end_ms.is_none_or(|end| ms <= end);
        match self.gaps.iter_mut().find(|gap| within(gap)) {
            Some(gap) => {
                gap.recovered += 1;
                true
            }
            None => false,
        }
    }

    /// Takes a note; gives the gap that it opened and those that it closed.
    pub fn note(&mut self, note: Note) -> (Option<Gap>, Vec<Gap>) {
        match note {
            Note::StreamDown { cause, at_ms } => (Some(self.open(GapCause::Connection(cause), at_ms)), Vec::new()),
            Note::StreamUp { at_ms } => {
                for gap in self.gaps.iter_mut().filter(|gap| gap.end_ms.is_none()) {
                    gap.end_ms = Some(at_ms);
                }
                (None, Vec::new())
            }
            Note::Resync { at_ms } => {
                let from_ms = self.cursor.map_or(at_ms, |cursor| i64::try_from(cursor.ms).unwrap_or(i64::MAX));
                let mut gap = self.open(GapCause::Resync, from_ms.min(at_ms));
                gap.end_ms = Some(at_ms);
                if let Some(kept) = self.gaps.iter_mut().find(|kept| kept.id == gap.id) {
                    kept.end_ms = Some(at_ms);
                }
                (Some(gap), Vec::new())
            }
            Note::WalkDone { started_ms } => (None, self.walked(started_ms)),
        }
    }

    /// Everything that the walk found is settled, so everything that the log could show by then is.
    fn walked(&mut self, started_ms: i64) -> Vec<Gap> {
        let verified_ms = self.verified_ms.max(Some(started_ms.saturating_sub(self.overlap_ms)));
        self.verified_ms = verified_ms;
        let passed = |gap: &Gap| gap.end_ms.is_some_and(|end| Some(end) <= verified_ms);
        let (mut closed, open): (Vec<_>, Vec<_>) = self.gaps.drain(..).partition(passed);
        self.gaps = open;
        closed.iter_mut().for_each(|gap| gap.closed_ms = Some(started_ms));
        // Not the last to close but the last to open, or its number would be given again.
        self.closed = closed.iter().cloned().chain(self.closed.take()).max_by_key(|gap| gap.id);
        closed
    }

    fn open(&mut self, cause: GapCause, opened_ms: i64) -> Gap {
        if self.gaps.len() >= GAPS_MAX
            && let Some(last) = self.gaps.last_mut()
        {
            last.end_ms = None;
            return last.clone();
        }
        let id = self.gaps.iter().chain(&self.closed).map(|gap| gap.id + 1).max().unwrap_or_default();
        let gap = Gap { id, cause, from: self.cursor, opened_ms, end_ms: None, closed_ms: None, recovered: 0 };
        self.gaps.push(gap.clone());
        gap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OVERLAP: Duration = Duration::from_secs(60);

    fn fresh() -> Progress {
        let mut progress = Progress::resume(None, Some(1_000_000), Vec::new(), OVERLAP);
        progress.saw(Leg::Websocket, EventId { ms: 1_000_000, seq: 0 });
        progress
    }

    fn open(progress: &Progress) -> Vec<&'static str> {
        progress.gaps().iter().map(|gap| gap.cause.as_str()).collect()
    }

    #[test]
    fn the_cursor_is_the_newest_of_socket_and_log() {
        let mut progress = fresh();
        progress.saw(Leg::Backfill, EventId { ms: 999_999, seq: 0 });
        progress.saw(Leg::Webhook, EventId { ms: 2_000_000, seq: 0 });
        assert_eq!(progress.cursor(), Some(EventId { ms: 1_000_000, seq: 0 }));
        progress.saw(Leg::Backfill, EventId { ms: 1_000_000, seq: 1 });
        assert_eq!(progress.cursor(), Some(EventId { ms: 1_000_000, seq: 1 }));
    }

    #[test]
    fn a_gap_closes_with_the_walk_that_confirms_it_not_with_the_one_that_fills_it() {
        let mut progress = fresh();
        progress.note(Note::StreamDown { cause: Cause::Reset, at_ms: 1_100_000 });
        assert!(progress.recovers(1_105_000));
        progress.note(Note::StreamUp { at_ms: 1_110_000 });
        assert!(!progress.recovers(1_110_001));
        let (_, closed) = progress.note(Note::WalkDone { started_ms: 1_110_000 });
        assert_eq!((closed, open(&progress)), (Vec::new(), vec!["reset"]));
        let (_, closed) = progress.note(Note::WalkDone { started_ms: 1_169_999 });
        assert_eq!(closed, []);
        let (_, closed) = progress.note(Note::WalkDone { started_ms: 1_170_000 });
        assert_eq!((closed.len(), closed[0].recovered, closed[0].closed_ms), (1, 1, Some(1_170_000)));
        assert_eq!(progress.verified_ms(), Some(1_110_000));
        assert_eq!(progress.walk_from_ms(), Some(1_050_000));
    }

    #[test]
    fn a_gap_whose_stream_is_still_down_stays_open() {
        let mut progress = fresh();
        progress.note(Note::StreamDown { cause: Cause::ConnectFailed, at_ms: 1_100_000 });
        let (_, closed) = progress.note(Note::WalkDone { started_ms: 9_000_000 });
        assert_eq!((closed, open(&progress)), (Vec::new(), vec!["connect_failed"]));
    }

    #[test]
    fn a_resync_reaches_back_to_the_cursor() {
        let mut progress = fresh();
        let (gap, _) = progress.note(Note::Resync { at_ms: 1_200_000 });
        assert_eq!(gap.map(|gap| (gap.opened_ms, gap.end_ms)), Some((1_000_000, Some(1_200_000))));
        let (_, closed) = progress.note(Note::WalkDone { started_ms: 1_260_000 });
        assert_eq!(closed.len(), 1);
    }

    #[test]
    fn a_first_start_walks_from_the_wanted_time() {
        let mut progress = Progress::resume(None, None, Vec::new(), OVERLAP);
        assert_eq!(progress.walk_from_ms(), None);
        progress.begin_at(GapCause::FirstStart, 1_000_000, 90_000_000);
        assert_eq!(progress.walk_from_ms(), Some(1_000_000));
        assert_eq!(open(&progress), ["first_start"]);
    }

    #[test]
    fn open_gaps_survive_a_restart_and_numbers_go_on() {
        let mut before = fresh();
        before.note(Note::StreamDown { cause: Cause::Silence, at_ms: 1_100_000 });
        before.note(Note::StreamUp { at_ms: 1_110_000 });
        let mut after = Progress::resume(before.cursor(), before.verified_ms(), before.gaps().to_vec(), OVERLAP);
        let restart = after.restarted(1_120_000);
        assert_eq!((restart.id, open(&after)), (1, vec!["silence", "restart"]));
        let (_, closed) = after.note(Note::WalkDone { started_ms: 9_000_000 });
        assert_eq!(closed, [], "a gap read back ends only when the stream is up");
    }

    #[test]
    fn numbers_go_on_when_every_gap_was_closed_before_the_restart() {
        let mut before = fresh();
        before.note(Note::StreamDown { cause: Cause::Silence, at_ms: 1_100_000 });
        before.note(Note::StreamUp { at_ms: 1_110_000 });
        before.note(Note::WalkDone { started_ms: 9_000_000 });
        let saved = before.gaps().iter().chain(before.closed()).cloned().collect();
        let mut after = Progress::resume(before.cursor(), before.verified_ms(), saved, OVERLAP);
        assert_eq!((open(&after), after.restarted(9_500_000).id), (Vec::new(), 1));
    }

    #[test]
    fn no_number_is_given_twice_when_gaps_close_out_of_order() {
        let mut progress = fresh();
        progress.note(Note::StreamDown { cause: Cause::Reset, at_ms: 1_100_000 });
        progress.note(Note::StreamUp { at_ms: 1_200_000 });
        // The provider's clock turned out to be behind.
        progress.note(Note::Resync { at_ms: 1_199_000 });
        let (_, closed) = progress.note(Note::WalkDone { started_ms: 1_259_500 });
        assert_eq!(closed.iter().map(|gap| gap.id).collect::<Vec<_>>(), [1]);
        progress.note(Note::WalkDone { started_ms: 1_260_000 });
        let (gap, _) = progress.note(Note::StreamDown { cause: Cause::Reset, at_ms: 1_300_000 });
        assert_eq!(gap.map(|gap| gap.id), Some(2));
    }

    #[test]
    fn a_stream_that_flaps_for_ever_opens_a_bounded_number_of_gaps() {
        let mut progress = fresh();
        for at_ms in 0..1000 {
            progress.note(Note::StreamDown { cause: Cause::Closed, at_ms });
            progress.note(Note::StreamUp { at_ms });
        }
        assert_eq!(progress.gaps().len(), GAPS_MAX);
        let (_, closed) = progress.note(Note::WalkDone { started_ms: 61_000 });
        assert_eq!(closed.len(), GAPS_MAX);
    }

    #[test]
    fn names_of_causes_are_read_back() {
        for cause in [GapCause::Restart, GapCause::Connection(Cause::TooLarge)] {
            assert_eq!(GapCause::from_name(cause.as_str()), Some(cause));
        }
        assert_eq!(GapCause::from_name("unknown"), None);
    }
}

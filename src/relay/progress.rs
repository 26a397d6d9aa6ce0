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

use crate::clock::millis;
pub use crate::labels::GapCause;
use crate::labels::Leg;
use crate::legs::{Note, Position};
use crate::provider::EventId;
use std::time::Duration;

/// Gaps that are kept apart. A stream that flaps for hours opens more than that; they then count as one that goes on.
const GAPS_MAX: usize = 100;

/// A time in which the socket may have missed something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Counts up over the relay's life, all accounts together.
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
    /// The log no longer reached back over all of it: it closes, but nobody knows whether anything is missing.
    pub unproven: bool,
}

/// The number of the next gap that opens, whichever account's it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GapNumber(u64);

impl GapNumber {
    /// Behind every gap that `progress` knows.
    pub fn after(&mut self, progress: &Progress) {
        let known = progress.gaps.iter().chain(&progress.closed).map(|gap| gap.id.saturating_add(1));
        self.0 = known.fold(self.0, u64::max);
    }

    fn take(&mut self) -> u64 {
        let number = self.0;
        self.0 = number.saturating_add(1);
        number
    }
}

/// Cursor, verified mark and open gaps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    cursor: Option<EventId>,
    verified_ms: Option<i64>,
    /// When the first relay of this name began: history from before it is wanted, but was never promised.
    began_ms: Option<i64>,
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
        let overlap_ms = millis(overlap);
        let closed = closed.into_iter().max_by_key(|gap| gap.id);
        Self { cursor, verified_ms, began_ms: None, gaps, closed, overlap_ms }
    }

    /// The newest event that socket and log brought.
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

    /// From when on events come again: socket and walk go on there, if they are asked to.
    pub fn again_from_ms(&self, window: Duration) -> Option<i64> {
        let mark_ms = self.walk_from_ms()?;
        let since_ms = self.since(window).and_then(|since| i64::try_from(since.ms).ok());
        Some(mark_ms.min(since_ms.unwrap_or(mark_ms)))
    }

    /// Where the socket resumes: at the cursor, unless that lies further back than a `window` before the mark. An account was
    /// quiet then since its cursor, every walk has found nothing behind it, and what the socket would bring again is in no
    /// window.
    pub fn since(&self, window: Duration) -> Option<EventId> {
        let oldest_ms = self.walk_from_ms().map(|mark_ms| mark_ms.saturating_sub(millis(window)));
        self.cursor.filter(|cursor| i64::try_from(cursor.ms).ok() >= oldest_ms)
    }

    /// What the legs have to know.
    pub fn position(&self, window: Duration) -> Position {
        let proven_ms = self.verified_ms.map(|verified| verified.max(self.began_ms.unwrap_or(verified)));
        let since = self.since(window);
        Position { cursor: self.cursor, since, walk_from_ms: self.walk_from_ms(), proven_ms }
    }

    /// Gaps that are open, oldest first.
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// The gap that closed last.
    pub fn closed(&self) -> Option<&Gap> {
        self.closed.as_ref()
    }

    /// Takes back marks that lie ahead of our clock: a clock was wrong, and a walk that begins in the future finds
    /// nothing.
    pub fn never_after(&mut self, now_ms: i64) {
        self.verified_ms = self.verified_ms.map(|verified_ms| verified_ms.min(now_ms));
    }

    /// Sets the mark from which the first walk begins, and opens the gap that it fills.
    ///
    /// A cursor that there was is forgotten, and stands in the gap: it may be what is wrong, and one that lies ahead
    /// would keep the socket from resuming anywhere. What the walk brings makes a new one.
    pub fn begin_at(&mut self, cause: GapCause, from_ms: i64, now_ms: i64, next: &mut GapNumber) -> Gap {
        self.verified_ms = Some(from_ms.saturating_add(self.overlap_ms).min(now_ms));
        let gap = self.open(cause, from_ms, next);
        self.cursor = None;
        gap
    }

    /// A first relay begins, or one whose predecessor came no further than to say at `began_ms` that it runs: a log that
    /// does not reach back behind that time is nothing to be told of.
    pub fn began(&mut self, began_ms: i64) {
        self.began_ms = Some(began_ms);
    }

    /// The relay runs again: since its last checkpoint at `last_ms` the socket has missed whatever there was.
    pub fn restarted(&mut self, last_ms: i64, next: &mut GapNumber) -> Gap {
        self.open(GapCause::Restart, last_ms, next)
    }

    /// The memory of what was published up to the last checkpoint at `last_ms` is not whole.
    ///
    /// Where there is no room for another gap the newest stands for this as well: the next start goes by its cause and times.
    pub fn forgot(&mut self, last_ms: i64, next: &mut GapNumber) -> Gap {
        let gap = self.open(GapCause::Journal, last_ms, next);
        match self.gaps.last_mut() {
            Some(last) if gap.cause != GapCause::Journal => {
                last.cause = GapCause::Journal;
                last.opened_ms = last.opened_ms.max(last_ms);
                last.from = last.from.max(self.cursor);
                last.clone()
            }
            _ => gap,
        }
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

    /// Takes a note of this account's; gives the gap that it opened and those that it closed.
    pub fn note(&mut self, note: Note, next: &mut GapNumber) -> (Option<Gap>, Vec<Gap>) {
        match note {
            Note::WebsocketDown { cause, at_ms } => (self.opened(GapCause::Connection(cause), at_ms, next), Vec::new()),
            Note::WebsocketUp { at_ms } => {
                for gap in self.gaps.iter_mut().filter(|gap| gap.end_ms.is_none()) {
                    gap.end_ms = Some(at_ms);
                }
                (None, Vec::new())
            }
            Note::Resync { at_ms } => {
                let from_ms = self.cursor.map_or(at_ms, |cursor| i64::try_from(cursor.ms).unwrap_or(i64::MAX));
                let mut opened = self.opened(GapCause::Resync, from_ms.min(at_ms), next);
                if let (Some(gap), Some(kept)) = (&mut opened, self.gaps.last_mut()) {
                    gap.end_ms = Some(at_ms);
                    kept.end_ms = Some(at_ms);
                }
                (opened, Vec::new())
            }
            Note::Unproven { from_ms, to_ms } => (self.unproven(from_ms, to_ms, next), Vec::new()),
            Note::WalkDone { started_ms } => (None, self.walked(started_ms)),
            Note::Retired => (None, Vec::new()),
        }
    }

    /// What was open in that time closes without proof; where nothing was, a gap of its own is opened and tells it.
    fn unproven(&mut self, from_ms: i64, to_ms: i64, next: &mut GapNumber) -> Option<Gap> {
        let within = |gap: &&mut Gap| gap.opened_ms <= to_ms && gap.end_ms.is_none_or(|end| end >= from_ms);
        let mut known = false;
        for gap in self.gaps.iter_mut().filter(within) {
            gap.unproven = true;
            known = true;
        }
        if known {
            return None;
        }
        let mut opened = self.opened(GapCause::Resync, from_ms, next);
        if let (Some(gap), Some(kept)) = (&mut opened, self.gaps.last_mut()) {
            kept.end_ms = Some(to_ms);
            kept.unproven = true;
            gap.clone_from(kept);
        }
        opened
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

    /// Opens a gap; one that only goes on, because there are so many, is told no more.
    fn opened(&mut self, cause: GapCause, opened_ms: i64, next: &mut GapNumber) -> Option<Gap> {
        let goes_on = self.gaps.len() >= GAPS_MAX;
        let gap = self.open(cause, opened_ms, next);
        (!goes_on).then_some(gap)
    }

    fn open(&mut self, cause: GapCause, opened_ms: i64, next: &mut GapNumber) -> Gap {
        if self.gaps.len() >= GAPS_MAX
            && let Some(last) = self.gaps.last_mut()
        {
            last.end_ms = None;
            return last.clone();
        }
        let id = next.take();
        let gap = Gap {
            id,
            cause,
            from: self.cursor,
            opened_ms,
            end_ms: None,
            closed_ms: None,
            recovered: 0,
            unproven: false,
        };
        self.gaps.push(gap.clone());
        gap
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::Cause;
    use std::ops::{Deref, DerefMut};

    const OVERLAP: Duration = Duration::from_secs(60);
    const DAY: Duration = Duration::from_hours(24);

    /// A progress, and the numbers of its gaps.
    struct Numbered {
        progress: Progress,
        next: GapNumber,
    }

    impl Numbered {
        fn resume(cursor: Option<EventId>, verified_ms: Option<i64>, gaps: Vec<Gap>) -> Self {
            let progress = Progress::resume(cursor, verified_ms, gaps, OVERLAP);
            let mut next = GapNumber::default();
            next.after(&progress);
            Self { progress, next }
        }

        fn note(&mut self, note: Note) -> (Option<Gap>, Vec<Gap>) {
            self.progress.note(note, &mut self.next)
        }

        fn begin_at(&mut self, from_ms: i64, now_ms: i64) -> Gap {
            self.progress.begin_at(GapCause::FirstStart, from_ms, now_ms, &mut self.next)
        }

        fn restarted(&mut self, last_ms: i64) -> Gap {
            self.progress.restarted(last_ms, &mut self.next)
        }
    }

    impl Deref for Numbered {
        type Target = Progress;

        fn deref(&self) -> &Progress {
            &self.progress
        }
    }

    impl DerefMut for Numbered {
        fn deref_mut(&mut self) -> &mut Progress {
            &mut self.progress
        }
    }

    fn fresh() -> Numbered {
        let mut progress = Numbered::resume(None, Some(1_000_000), Vec::new());
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
    fn what_was_forgotten_is_remembered_where_there_is_no_room_for_another_gap() {
        let mut progress = fresh();
        for number in 0..2 * GAPS_MAX as i64 {
            progress.note(Note::WebsocketDown { cause: Cause::Reset, at_ms: 1_100_000 + number });
            progress.note(Note::WebsocketUp { at_ms: 1_100_000 + number });
        }
        assert_eq!(progress.gaps().len(), GAPS_MAX);
        let gap = progress.progress.forgot(9_000_000, &mut progress.next);
        assert_eq!((gap.cause, gap.opened_ms, gap.from), (GapCause::Journal, 9_000_000, progress.cursor()));
        assert_eq!((progress.gaps().last(), progress.gaps().len()), (Some(&gap), GAPS_MAX));
    }

    #[test]
    fn a_gap_closes_with_the_walk_that_confirms_it_not_with_the_one_that_fills_it() {
        let mut progress = fresh();
        progress.note(Note::WebsocketDown { cause: Cause::Reset, at_ms: 1_100_000 });
        assert!(progress.recovers(1_105_000));
        progress.note(Note::WebsocketUp { at_ms: 1_110_000 });
        assert!(!progress.recovers(1_110_001));
        let (_, closed) = progress.note(Note::WalkDone { started_ms: 1_110_000 });
        assert_eq!((closed, open(&progress)), (Vec::new(), vec!["reset"]));
        let (_, closed) = progress.note(Note::WalkDone { started_ms: 1_169_999 });
        assert_eq!(closed, []);
        let (_, closed) = progress.note(Note::WalkDone { started_ms: 1_170_000 });
        assert_eq!((closed.len(), closed[0].recovered, closed[0].closed_ms), (1, 1, Some(1_170_000)));
        assert_eq!(progress.verified_ms(), Some(1_110_000));
        assert_eq!(progress.walk_from_ms(), Some(1_050_000));
        assert_eq!(progress.again_from_ms(DAY), Some(1_000_000), "a `since` that includes it brings the cursor again");
    }

    #[test]
    fn the_socket_does_not_resume_at_a_cursor_of_long_ago() {
        let mut quiet = fresh();
        quiet.note(Note::WalkDone { started_ms: 1_000_000 + 30 * 86_400_000 });
        assert_eq!((quiet.since(DAY), quiet.again_from_ms(DAY)), (None, quiet.walk_from_ms()));
        assert_eq!((quiet.since(40 * DAY), quiet.again_from_ms(40 * DAY)), (quiet.cursor(), Some(1_000_000)));
    }

    #[test]
    fn a_gap_whose_stream_is_still_down_stays_open() {
        let mut progress = fresh();
        progress.note(Note::WebsocketDown { cause: Cause::ConnectFailed, at_ms: 1_100_000 });
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
    fn a_mark_in_the_future_is_taken_back_and_one_in_the_past_stays() {
        let mut progress = fresh();
        progress.never_after(1_000_001);
        assert_eq!(progress.verified_ms(), Some(1_000_000));
        progress.never_after(900_000);
        assert_eq!((progress.verified_ms(), progress.walk_from_ms()), (Some(900_000), Some(840_000)));
    }

    #[test]
    fn a_first_start_walks_from_the_wanted_time() {
        let mut progress = Numbered::resume(None, None, Vec::new());
        assert_eq!(progress.walk_from_ms(), None);
        progress.begin_at(1_000_000, 90_000_000);
        assert_eq!(progress.walk_from_ms(), Some(1_000_000));
        assert_eq!(open(&progress), ["first_start"]);
    }

    #[test]
    fn what_a_first_start_wants_was_never_promised_and_what_is_wanted_again_was() {
        let mut first = Numbered::resume(None, None, Vec::new());
        first.begin_at(1_000_000, 90_000_000);
        first.began(90_000_000);
        assert_eq!(first.position(DAY).proven_ms, Some(90_000_000));
        first.note(Note::WalkDone { started_ms: 95_000_000 });
        assert_eq!(first.position(DAY).proven_ms, Some(94_940_000));
        let mut again = fresh();
        let gap = again.begin_at(500_000, 90_000_000);
        assert_eq!((gap.from, gap.opened_ms), (Some(EventId { ms: 1_000_000, seq: 0 }), 500_000));
        let expected = Position { walk_from_ms: Some(500_000), proven_ms: Some(560_000), ..Position::default() };
        assert_eq!((again.position(DAY), again.again_from_ms(DAY)), (expected, Some(500_000)));
    }

    #[test]
    fn a_time_that_cannot_be_proven_marks_the_gaps_it_touches() {
        let mut progress = fresh();
        progress.note(Note::WebsocketDown { cause: Cause::Reset, at_ms: 1_100_000 });
        progress.note(Note::WebsocketUp { at_ms: 1_110_000 });
        progress.note(Note::WebsocketDown { cause: Cause::Reset, at_ms: 1_200_000 });
        progress.note(Note::WebsocketUp { at_ms: 1_210_000 });
        assert_eq!(progress.note(Note::Unproven { from_ms: 1_000_000, to_ms: 1_105_000 }), (None, Vec::new()));
        let (_, closed) = progress.note(Note::WalkDone { started_ms: 1_300_000 });
        assert_eq!(closed.iter().map(|gap| gap.unproven).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn a_time_that_cannot_be_proven_and_was_no_gap_becomes_one_and_closes() {
        let mut progress = fresh();
        let (opened, _) = progress.note(Note::Unproven { from_ms: 1_000_000, to_ms: 1_105_000 });
        let told = opened.map(|gap| (gap.cause, gap.opened_ms, gap.end_ms, gap.unproven));
        assert_eq!(told, Some((GapCause::Resync, 1_000_000, Some(1_105_000), true)));
        let (_, closed) = progress.note(Note::WalkDone { started_ms: 1_200_000 });
        assert_eq!(closed.iter().map(|gap| gap.unproven).collect::<Vec<_>>(), [true]);
    }

    #[test]
    fn open_gaps_survive_a_restart_and_numbers_go_on() {
        let mut before = fresh();
        before.note(Note::WebsocketDown { cause: Cause::Silence, at_ms: 1_100_000 });
        before.note(Note::WebsocketUp { at_ms: 1_110_000 });
        let mut after = Numbered::resume(before.cursor(), before.verified_ms(), before.gaps().to_vec());
        let restart = after.restarted(1_120_000);
        assert_eq!((restart.id, open(&after)), (1, vec!["silence", "restart"]));
        let (_, closed) = after.note(Note::WalkDone { started_ms: 9_000_000 });
        assert_eq!(closed, [], "a gap read back ends only when the stream is up");
    }

    #[test]
    fn numbers_go_on_when_every_gap_was_closed_before_the_restart() {
        let mut before = fresh();
        before.note(Note::WebsocketDown { cause: Cause::Silence, at_ms: 1_100_000 });
        before.note(Note::WebsocketUp { at_ms: 1_110_000 });
        before.note(Note::WalkDone { started_ms: 9_000_000 });
        let saved = before.gaps().iter().chain(before.closed()).cloned().collect();
        let mut after = Numbered::resume(before.cursor(), before.verified_ms(), saved);
        assert_eq!((open(&after), after.restarted(9_500_000).id), (Vec::new(), 1));
    }

    #[test]
    fn no_number_is_given_twice_when_gaps_close_out_of_order() {
        let mut progress = fresh();
        progress.note(Note::WebsocketDown { cause: Cause::Reset, at_ms: 1_100_000 });
        progress.note(Note::WebsocketUp { at_ms: 1_200_000 });
        // The provider's clock turned out to be behind.
        progress.note(Note::Resync { at_ms: 1_199_000 });
        let (_, closed) = progress.note(Note::WalkDone { started_ms: 1_259_500 });
        assert_eq!(closed.iter().map(|gap| gap.id).collect::<Vec<_>>(), [1]);
        progress.note(Note::WalkDone { started_ms: 1_260_000 });
        let (gap, _) = progress.note(Note::WebsocketDown { cause: Cause::Reset, at_ms: 1_300_000 });
        assert_eq!(gap.map(|gap| gap.id), Some(2));
    }

    #[test]
    fn a_stream_that_flaps_for_ever_opens_a_bounded_number_of_gaps() {
        let mut progress = fresh();
        for at_ms in 0..1000 {
            progress.note(Note::WebsocketDown { cause: Cause::Closed, at_ms });
            progress.note(Note::WebsocketUp { at_ms });
        }
        assert_eq!(progress.gaps().len(), GAPS_MAX);
        let (_, closed) = progress.note(Note::WalkDone { started_ms: 61_000 });
        assert_eq!(closed.len(), GAPS_MAX);
    }

    #[test]
    fn names_of_causes_are_read_back() {
        for cause in GapCause::all() {
            assert_eq!(GapCause::from_name(cause.as_str()), Some(cause));
        }
        assert_eq!(GapCause::from_name("unknown"), None);
    }
}

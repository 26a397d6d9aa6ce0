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
//! Pure: what happened, and when, are arguments. All times are Unix milliseconds by the provider's clock.

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

/// An account that the relay knows of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its name; empty where accounts have none.
    pub name: String,
    /// How far it has come.
    pub progress: Progress,
    /// The settings name it: its legs bring events.
    pub served: bool,
}

impl Default for Known {
    /// One without a name, of which nothing is known yet.
    fn default() -> Self {
        Self { name: String::new(), progress: Progress::default(), served: true }
    }
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
    /// A cursor that there was is forgotten, and kept in the gap: it may be what is wrong, and one that lies ahead
    /// would keep the socket from resuming anywhere. What the walk brings makes a new one.
    pub fn begin_at(&mut self, cause: GapCause, from_ms: i64, now_ms: i64, next: &mut GapNumber) -> Gap {
        self.verified_ms = Some(from_ms.saturating_add(self.overlap_ms).min(now_ms));
        let gap = self.open(cause, from_ms, next);
        self.cursor = None;
        gap
    }

    /// The account is served from now on, while the relay runs: it goes on where its marks end, or begins as with a first relay.
    /// `now_ms` is our time, `latest_ms` the later of ours and the provider's. None where a gap only goes on.
    pub fn admit(&mut self, first_start: Duration, now_ms: i64, latest_ms: i64, next: &mut GapNumber) -> Option<Gap> {
        self.never_after(latest_ms);
        if let Some(verified_ms) = self.verified_ms {
            return self.opened(GapCause::Restart, verified_ms, next);
        }
        self.began(now_ms);
        Some(self.begin_at(GapCause::FirstStart, now_ms.saturating_sub(millis(first_start)), now_ms, next))
    }

    /// A first relay begins, or one whose predecessor came no further than to record at `began_ms` that it runs: a log
    /// that does not reach back behind that time is nothing to be reported.
    pub fn began(&mut self, began_ms: i64) {
        self.began_ms = Some(began_ms);
    }

    /// The relay runs again: since its last checkpoint at `last_ms` the socket has missed whatever there was.
    pub fn restarted(&mut self, last_ms: i64, next: &mut GapNumber) -> Gap {
        self.open(GapCause::Restart, last_ms, next)
    }

    /// The memory of what was published up to the last checkpoint at `last_ms` is not whole.
    ///
    /// Where there is no room for another gap the newest covers this as well: the next start goes by its cause and
    /// times.
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
                (self.opened_until(GapCause::Resync, from_ms.min(at_ms), at_ms, next), Vec::new())
            }
            Note::Unproven { from_ms, to_ms } => (self.unproven(from_ms, to_ms, next), Vec::new()),
            Note::WalkDone { started_ms } => (None, self.walked(started_ms)),
            Note::InboxLost { at_ms, .. } => {
                let from_ms = self.verified_ms.unwrap_or(at_ms).min(at_ms);
                (self.opened_until(GapCause::Inbox, from_ms, at_ms, next), Vec::new())
            }
            Note::Retired | Note::InboxRead { .. } => (None, Vec::new()),
        }
    }

    /// What was open in that time closes without proof; where nothing was, a gap of its own is opened and reported.
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

    /// Opens a gap that is over: only the walk has yet to find what was in it.
    fn opened_until(&mut self, cause: GapCause, from_ms: i64, to_ms: i64, next: &mut GapNumber) -> Option<Gap> {
        let mut opened = self.opened(cause, from_ms, next);
        if let (Some(gap), Some(kept)) = (&mut opened, self.gaps.last_mut()) {
            gap.end_ms = Some(to_ms);
            kept.end_ms = Some(to_ms);
        }
        opened
    }

    /// Opens a gap; where there are too many, the newest only goes on, and is not reported again.
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
mod tests;

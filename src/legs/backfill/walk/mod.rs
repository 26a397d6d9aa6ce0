//! The walk down the provider's event log, as decisions.
//!
//! Uses only what is documented of `GET /api/v1/events`: newest first, and `starting_after` gives the page of events
//! older than a cursor (`api-reference/events/list-events`). Down to the first page whose events are all older than the
//! mark (one old id among newer ones is not believed); then out, oldest first. Pages are kept up to [`KEPT_BYTES_MAX`]; of those beyond it only the cursors are kept,
//! and they are asked for again on the way out: about 100 bytes for 100 events, however long the gap.
//!
//! The provider is not trusted to end, to order or to answer well. A cursor that comes again, a page that is newer than
//! the one above it, a page that leads nowhere and a cursor that is refused break the walk: it hands on what it found,
//! and reports that. A page is asked for in smaller pieces where it is too large, refused or cannot be cut into events.
//!
//! Pure: given what was answered, it returns what to do next.

use crate::provider::EventId;
use crate::provider::page::{Listed, Page, decode_page, page_of_one};
use crate::provider::rest::RestError;
use bytes::Bytes;
use std::collections::HashSet;
use std::fmt;

/// Bytes of page bodies kept on the way down.
pub const KEPT_BYTES_MAX: usize = 16 << 20;

/// Events a page: the provider's documented maximum (`api-spec/pagination`).
pub const PAGE_EVENTS_MAX: usize = 100;

/// Pages of one walk: a million events, as many as `dedup.ids_max` remembers by default. A longer backlog is walked in
/// several walks, each of which goes on below the one before.
pub const PAGES_MAX: usize = 10_000;

/// How much newer a page may be than the one above it. The documented order allows none of it; a log that lists events by
/// when it showed them, as late as its lag is, is no circle. A circle that stays within this time brings a cursor again.
const DISORDER_MAX_MS: i64 = 600_000;

/// Events in a row that must be older than the mark before it counts as reached: a single one may have a wrong id.
const OLDER_MIN: usize = 2;

/// What one walk may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of page bodies kept on the way down.
    pub kept_bytes_max: usize,
    /// Pages on the way down.
    pub pages_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { kept_bytes_max: KEPT_BYTES_MAX, pages_max: PAGES_MAX }
    }
}

/// What to do next.
#[derive(Clone, Debug)]
pub enum Step {
    /// Ask for a page, and pass the answer to [`Walk::answer`].
    Fetch {
        /// The page of what is older than this event; the newest page when `None`.
        starting_after: Option<EventId>,
        /// Events asked for at most.
        limit: usize,
    },
    /// Hand on these events, oldest first: they are not older than the mark.
    HandOn(Vec<Listed>),
    /// All was handed on.
    Done {
        /// Whether the log reached back to the mark; if not, the time before its oldest event cannot be proven.
        reached: bool,
    },
    /// The walk did not come to its end: what it found is handed on, and nothing is proven.
    Broken(Why),
}

/// Why a walk broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A cursor came again, or a page was newer than the one above it.
    Circle,
    /// A page announced that there is more below it, and held no id that is a cursor.
    NoWayOn,
    /// A cursor that the log gave was refused: it led nowhere.
    CursorRefused,
    /// A page came shorter when it was asked for again. What is above it was not handed on, since what is missing is older.
    Shorter,
    /// As many pages as one walk may have. The next one goes on below this event.
    TooManyPages(EventId),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Circle => f.write_str("its cursors lead in a circle"),
            Self::NoWayOn => f.write_str("a page says that there is more, and holds no event id that is a cursor"),
            Self::CursorRefused => f.write_str("a cursor that it gave is refused"),
            Self::Shorter => f.write_str("a page came shorter when it was asked for again"),
            Self::TooManyPages(_) => write!(f, "it has more than {PAGES_MAX} pages above the mark"),
        }
    }
}

/// What an answer was good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// A page.
    Page,
    /// The same page is asked for with a smaller limit, for this reason.
    Smaller(String),
    /// An event that was alone in its page could not be cut out of it: the whole page is handed on in its place.
    PassedOver,
    /// The way down ends here: the cursor was refused.
    Refused,
}

/// One walk.
#[derive(Debug)]
pub struct Walk {
    mark_ms: i64,
    bounds: Bounds,
    /// The pages on the way down that were not handed on, newest first.
    pages: Vec<Visited>,
    /// The cursor of the page that comes next on the way down.
    next: Option<EventId>,
    /// Cursors that pages gave.
    given: HashSet<EventId>,
    /// The newest time of the page above.
    newest_above_ms: Option<i64>,
    /// Events in a row, over whole pages, that are older than the mark.
    older: usize,
    limit: usize,
    /// The limit with which a page is first asked for.
    limit_max: usize,
    kept_bytes: usize,
    bottom: Option<Bottom>,
    looked_at: usize,
    oldest_ms: Option<i64>,
    lowest: Option<Page>,
}

/// A page of the way down.
#[derive(Debug)]
struct Visited {
    starting_after: Option<EventId>,
    /// The cursor that it gave: a page that is asked for again has to reach down to it.
    gave: Option<EventId>,
    kept: Option<Page>,
}

/// Where the way down ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bottom {
    /// At a page that is older than the mark.
    Mark,
    /// At the end of the log.
    End,
    Broken(Why),
}

impl Walk {
    /// Begins at the newest event and goes down to `mark_ms` (Unix milliseconds).
    pub fn new(mark_ms: i64) -> Self {
        Self {
            mark_ms,
            bounds: Bounds::default(),
            pages: Vec::new(),
            next: None,
            given: HashSet::new(),
            newest_above_ms: None,
            older: 0,
            limit: PAGE_EVENTS_MAX,
            limit_max: PAGE_EVENTS_MAX,
            kept_bytes: 0,
            bottom: None,
            looked_at: 0,
            oldest_ms: None,
            lowest: None,
        }
    }

    /// The walk that goes on below `event`, where this one had too many pages. What the log showed above counts for it.
    #[must_use]
    pub fn below(self, event: EventId) -> Self {
        Self {
            bounds: self.bounds,
            next: Some(event),
            newest_above_ms: self.newest_above_ms,
            oldest_ms: self.oldest_ms,
            lowest: self.lowest,
            ..Self::new(self.mark_ms)
        }
    }

    /// The same within other bounds.
    #[must_use]
    pub fn within(self, bounds: Bounds) -> Self {
        Self { bounds, ..self }
    }

    /// What to do next.
    pub fn step(&mut self) -> Step {
        let limit = self.limit;
        let Some(bottom) = self.bottom else {
            return Step::Fetch { starting_after: self.next, limit };
        };
        let Some(mut visited) = self.pages.pop() else {
            return match bottom {
                Bottom::Broken(why) => Step::Broken(why),
                Bottom::Mark => Step::Done { reached: true },
                Bottom::End => Step::Done { reached: self.oldest_ms.is_some_and(|ms| ms < self.mark_ms) },
            };
        };
        match visited.kept.take() {
            Some(page) => Step::HandOn(self.wanted(page)),
            None => {
                let starting_after = visited.starting_after;
                self.pages.push(visited);
                Step::Fetch { starting_after, limit }
            }
        }
    }

    /// What the page asked for last was answered with.
    ///
    /// # Errors
    ///
    /// An answer about which a walk can do nothing: the page is to be asked for again, after a while.
    pub fn answer(&mut self, answer: Result<Bytes, RestError>) -> Result<Taken, RestError> {
        let error = match answer {
            Ok(body) => match decode_page(&body) {
                Ok(page) => {
                    self.page(page, body.len());
                    return Ok(Taken::Page);
                }
                Err(place) => match page_of_one(&body) {
                    Some(page) if self.limit == 1 => {
                        self.page(page, body.len());
                        return Ok(Taken::PassedOver);
                    }
                    Some(_) => return Ok(self.smaller(format!("it cannot be cut into events: {place}"))),
                    None => RestError::Malformed(place),
                },
            },
            Err(error) => error,
        };
        match error {
            RestError::TooLarge(_) if self.limit > 1 => Ok(self.smaller(error.to_string())),
            // How a cursor fails that the log has forgotten is not documented; asked again, it fails again.
            RestError::Status { status: 400 | 404 | 410 | 422, .. } if self.starting_after().is_some() => {
                self.refused();
                Ok(Taken::Refused)
            }
            // A smaller maximum than the documented one. What it takes once, it takes again.
            RestError::Status { status: 400 | 422, .. } if self.limit > 1 => {
                self.limit_max = self.limit / 2;
                Ok(self.smaller(error.to_string()))
            }
            error => {
                if self.starting_after().is_none() {
                    self.limit_max = PAGE_EVENTS_MAX;
                }
                self.limit = self.limit_max;
                Err(error)
            }
        }
    }

    /// Events that the walk has seen on its way down.
    pub fn looked_at(&self) -> usize {
        self.looked_at
    }

    /// When the oldest of them occurred, in Unix milliseconds.
    pub fn oldest_ms(&self) -> Option<i64> {
        self.oldest_ms
    }

    /// The lowest page that holds events.
    pub fn lowest(self) -> Option<Page> {
        self.lowest
    }

    /// The cursor of the page that is asked for.
    fn starting_after(&self) -> Option<EventId> {
        match self.bottom {
            None => self.next,
            Some(_) => self.pages.last().and_then(|visited| visited.starting_after),
        }
    }

    fn smaller(&mut self, reason: String) -> Taken {
        self.limit = (self.limit / 2).max(1);
        Taken::Smaller(reason)
    }

    fn refused(&mut self) {
        self.limit = self.limit_max;
        if self.bottom.is_some() {
            // On the way out: that page cannot be had again; those above it can.
            self.pages.pop();
        }
        self.bottom = Some(Bottom::Broken(Why::CursorRefused));
    }

    fn page(&mut self, page: Page, bytes: usize) {
        self.limit = self.limit_max;
        if self.bottom.is_none() {
            return self.down(page, bytes);
        }
        let Some(visited) = self.pages.last_mut() else { return };
        if reaches_down(&page, visited.gave) {
            visited.kept = Some(page);
        } else {
            self.pages.clear();
            self.bottom = Some(Bottom::Broken(Why::Shorter));
        }
    }

    fn down(&mut self, page: Page, bytes: usize) {
        let times = || page.events.iter().filter_map(|event| event.occurred_at_ms);
        let oldest_ms = times().min();
        let newest_ms = times().max();
        let gives = self.gives(&page);
        let again = gives.is_some_and(|id| !self.given.insert(id));
        let newer = self
            .newest_above_ms
            .zip(oldest_ms)
            .is_some_and(|(above, oldest)| oldest.saturating_sub(DISORDER_MAX_MS) > above);
        self.older = match newest_ms {
            Some(ms) if ms >= self.mark_ms => 0,
            _ => self.older + times().count(),
        };
        self.bottom = match page.has_more {
            _ if self.older >= OLDER_MIN => Some(Bottom::Mark),
            Some(false) => Some(Bottom::End),
            None if page.events.is_empty() => Some(Bottom::End),
            _ => match gives {
                _ if again || newer => Some(Bottom::Broken(Why::Circle)),
                None => Some(Bottom::Broken(Why::NoWayOn)),
                Some(event) if self.pages.len() + 1 >= self.bounds.pages_max => {
                    Some(Bottom::Broken(Why::TooManyPages(event)))
                }
                Some(_) => None,
            },
        };
        let starting_after = std::mem::replace(&mut self.next, gives);
        if self.bottom == Some(Bottom::Broken(Why::Circle)) {
            // It was seen before, or is newer than all that is to be handed on before it.
            return;
        }
        self.newest_above_ms = newest_ms.or(self.newest_above_ms);
        self.oldest_ms = oldest_ms.into_iter().chain(self.oldest_ms).min();
        self.looked_at += page.events.len();
        if !page.events.is_empty() {
            self.lowest = Some(page.clone());
        }
        let kept = self.kept_bytes.saturating_add(bytes) <= self.bounds.kept_bytes_max;
        self.kept_bytes += if kept { bytes } else { 0 };
        self.pages.push(Visited { starting_after, gave: gives, kept: kept.then_some(page) });
    }

    /// The cursor of what is below a page: the last id that is one, of an event that is not older than the mark where
    /// there is such an event. What lies between comes again with the next page.
    ///
    /// An old id among newer ones would lead past all that lies between, where the provider compares ids.
    fn gives(&self, page: &Page) -> Option<EventId> {
        let cursors = || page.events.iter().rev().filter_map(|event| Some((event.cursor()?, event.occurred_at_ms)));
        let young = cursors().find(|(_, ms)| ms.is_some_and(|ms| ms >= self.mark_ms));
        young.or_else(|| cursors().next()).map(|(id, _)| id)
    }

    /// The events of a page that are not older than the mark, oldest first.
    fn wanted(&self, page: Page) -> Vec<Listed> {
        let young = |event: &Listed| event.occurred_at_ms.is_none_or(|ms| ms >= self.mark_ms);
        page.events.into_iter().rev().filter(young).collect()
    }
}

/// Whether a page that was asked for again still reaches down to the cursor that it `gave` on the way down, or else to
/// the end of the log. One that is shorter (a smaller limit, an event that the log shows late) would leave a hole
/// between itself and the page below, which was handed on already.
fn reaches_down(page: &Page, gave: Option<EventId>) -> bool {
    let holds = |id| page.events.iter().any(|event| event.cursor() == Some(id));
    page.has_more == Some(false) || gave.is_none_or(holds)
}

#[cfg(test)]
mod tests;

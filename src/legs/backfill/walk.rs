//! The walk down the provider's event log, as decisions.
//!
//! Uses only what is documented of `GET /api/v1/events`: newest first, and `starting_after` gives the page of events
//! older than a cursor (`api-reference/events/list-events`). Down to the first event that is older than the mark; then
//! out, oldest first. Pages are kept up to [`KEPT_BYTES_MAX`]; of those beyond it only the cursor is kept, and they are
//! asked for again on the way out: about 40 bytes for 100 events, however long the gap.
//!
//! Pure: told what a page held, it says what to do next.

use crate::provider::page::{Listed, Page};
use std::collections::VecDeque;

/// Bytes of page bodies kept on the way down.
pub const KEPT_BYTES_MAX: usize = 16 << 20;

/// Events a page: the provider's documented maximum (`api-spec/pagination`).
pub const PAGE_EVENTS_MAX: usize = 100;

/// What a page held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageFacts {
    /// Bytes of its body.
    pub bytes: usize,
    /// Events in it.
    pub events: usize,
    /// The id of its last event that has one: the cursor of the page below it.
    pub last_id: Option<String>,
    /// Whether its last event is older than the mark.
    pub reached: bool,
    /// Whether the provider says that there is more below it, where it says so.
    pub has_more: Option<bool>,
}

impl PageFacts {
    /// Of a page whose body has `bytes`, on a walk down to `mark_ms` (Unix milliseconds).
    pub fn of(page: &Page, bytes: usize, mark_ms: i64) -> Self {
        let last = page.events.last();
        Self {
            bytes,
            events: page.events.len(),
            // One that has no id is no cursor; what lies between comes again with the next page.
            last_id: page.events.iter().rev().find_map(|event| event.id.clone()),
            reached: last.and_then(|event| event.occurred_at_ms).is_some_and(|ms| ms < mark_ms),
            has_more: page.has_more,
        }
    }
}

/// The events of a page that are not older than the mark, oldest first.
pub fn wanted(page: Page, mark_ms: i64) -> impl Iterator<Item = Listed> {
    page.events.into_iter().rev().filter(move |event| event.occurred_at_ms.is_none_or(|ms| ms >= mark_ms))
}

/// Whether a page that was asked for again still reaches down to the `lowest` id that it held on the way down, or else
/// to the end of the log. One that is shorter (a smaller limit, an event that the log shows late) would leave a hole
/// between itself and the page below, which was handed on already.
pub fn reaches_down(page: &Page, lowest: Option<&str>) -> bool {
    let holds = |lowest| page.events.iter().any(|event| event.id.as_deref() == Some(lowest));
    page.has_more == Some(false) || lowest.is_none_or(holds)
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask for the page below `starting_after` (the newest page when `None`), and tell [`Walk::page`].
    Down {
        /// Cursor of the page.
        starting_after: Option<String>,
    },
    /// Hand on the events of a page, oldest first: the body kept under `page`, or one to be asked for again.
    Out {
        /// The page's number on the way down, from 0.
        page: usize,
        /// Its cursor, for asking again.
        starting_after: Option<String>,
        /// Whether its body was kept.
        kept: bool,
        /// The lowest id that it held on the way down: a page that is asked for again has to reach down to it.
        lowest: Option<String>,
    },
    /// All was handed on.
    Done {
        /// Whether the log reached back to the mark; if not, the time before its oldest event cannot be proven.
        reached: bool,
    },
    /// All was handed on, but the way down ended at a page that led nowhere: below it nothing is known.
    Broken,
}

/// One walk.
#[derive(Debug, Default)]
pub struct Walk {
    /// Cursor and whether the body is kept, of each page on the way down.
    pages: VecDeque<(Option<String>, bool)>,
    /// The lowest id of the page that was last looked at: on the way out, of the one that comes out next.
    next_cursor: Option<String>,
    kept_bytes: usize,
    bottom: Option<Bottom>,
}

/// Where the way down ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bottom {
    /// At an event that is older than the mark.
    Mark,
    /// At the end of the log.
    End,
    /// At a page that says that there is more and gives no way to it.
    Broken,
}

impl Walk {
    /// Begins at the newest event.
    pub fn new() -> Self {
        Self::default()
    }

    /// What to do next.
    pub fn step(&mut self) -> Step {
        let Some(bottom) = self.bottom else {
            return Step::Down { starting_after: self.next_cursor.clone() };
        };
        match self.pages.pop_back() {
            Some((starting_after, kept)) => {
                let lowest = std::mem::replace(&mut self.next_cursor, starting_after.clone());
                Step::Out { page: self.pages.len(), starting_after, kept, lowest }
            }
            None if bottom == Bottom::Broken => Step::Broken,
            None => Step::Done { reached: bottom == Bottom::Mark },
        }
    }

    /// The page asked for on the way down held this. Returns whether to keep its body.
    pub fn page(&mut self, facts: PageFacts) -> bool {
        let kept = self.kept_bytes.saturating_add(facts.bytes) <= KEPT_BYTES_MAX;
        if kept {
            self.kept_bytes += facts.bytes;
        }
        let cursor = self.next_cursor.take();
        // A page that does not go on below itself would be asked for again for ever.
        let leads_on = facts.last_id.is_some() && facts.last_id != cursor;
        self.pages.push_back((cursor, kept));
        self.next_cursor = facts.last_id;
        self.bottom = match facts.has_more {
            _ if facts.reached => Some(Bottom::Mark),
            Some(false) => Some(Bottom::End),
            None if facts.events == 0 => Some(Bottom::End),
            _ if !leads_on => Some(Bottom::Broken),
            _ => None,
        };
        kept
    }

    /// Pages asked for so far on the way down.
    pub fn depth(&self) -> usize {
        self.pages.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Walks a log of `events` newest first, in pages of `limit`, down to `mark`; gives what came out, oldest first.
    fn walk_through(log: &[u64], limit: usize, mark: u64, page_bytes: usize) -> (Vec<u64>, bool, usize) {
        let page_after = |cursor: Option<&str>| -> &[u64] {
            let start =
                cursor.map_or(0, |id| log.iter().position(|event| event.to_string() == id).map_or(0, |at| at + 1));
            &log[start..log.len().min(start + limit)]
        };
        let (mut walk, mut out, mut asked) = (Walk::new(), Vec::new(), 0);
        loop {
            match walk.step() {
                Step::Down { starting_after } => {
                    asked += 1;
                    let page = page_after(starting_after.as_deref());
                    walk.page(PageFacts {
                        bytes: page_bytes,
                        events: page.len(),
                        last_id: page.last().map(u64::to_string),
                        reached: page.last().is_some_and(|event| *event < mark),
                        has_more: Some(page.last() != log.last()),
                    });
                }
                Step::Out { starting_after, kept, lowest, .. } => {
                    asked += usize::from(!kept);
                    let page = page_after(starting_after.as_deref());
                    assert_eq!(page.last().map(u64::to_string), lowest);
                    out.extend(page.iter().rev().filter(|event| **event >= mark));
                }
                Step::Done { reached } => return (out, reached, asked),
                Step::Broken => unreachable!("a log that leads on never breaks off"),
            }
        }
    }

    proptest! {
        #[test]
        fn everything_since_the_mark_comes_out_once_and_oldest_first(
            mut log in prop::collection::btree_set(0..500u64, 0..120).prop_map(|set| set.into_iter().collect::<Vec<_>>()),
            limit in 1..20usize,
            mark in 0..500u64,
            page_bytes in prop_oneof![Just(1usize), Just(KEPT_BYTES_MAX / 3), Just(KEPT_BYTES_MAX * 2)],
        ) {
            let wanted: Vec<_> = log.iter().copied().filter(|event| *event >= mark).collect();
            let reaches = log.first().is_some_and(|oldest| *oldest < mark);
            log.reverse();
            let (out, reached, _) = walk_through(&log, limit, mark, page_bytes);
            prop_assert_eq!(out, wanted);
            prop_assert_eq!(reached, reaches);
        }
    }

    #[test]
    fn a_long_gap_asks_for_its_upper_pages_twice_and_keeps_the_rest() {
        let log: Vec<u64> = (1..=1000).rev().collect();
        let (out, _, asked) = walk_through(&log, 100, 0, KEPT_BYTES_MAX / 4);
        assert_eq!((out.len(), asked), (1000, 10 + 6));
    }

    #[test]
    fn a_page_that_became_shorter_leaves_a_hole_unless_the_log_ends_with_it() {
        let listed = |id: &str| Listed { bytes: bytes::Bytes::new(), id: Some(id.to_owned()), occurred_at_ms: None };
        let page = |ids: &[&str], has_more| Page { events: ids.iter().map(|id| listed(id)).collect(), has_more };
        assert!(reaches_down(&page(&["b", "a"], Some(true)), Some("a")));
        assert!(reaches_down(&page(&["b", "a", "0"], None), Some("a")), "longer is no hole");
        assert!(reaches_down(&page(&[], Some(true)), None), "it held nothing");
        for has_more in [Some(true), None] {
            assert!(!reaches_down(&page(&["b"], has_more), Some("a")));
        }
        assert!(reaches_down(&page(&["b"], Some(false)), Some("a")), "the log has forgotten it meanwhile");
    }

    #[test]
    fn a_page_that_ends_with_what_has_no_id_does_not_end_the_walk() {
        let listed = |id: Option<&str>| Listed {
            bytes: bytes::Bytes::new(),
            id: id.map(str::to_owned),
            occurred_at_ms: Some(50),
        };
        let page = Page { events: vec![listed(Some("a")), listed(Some("b")), listed(None)], has_more: Some(true) };
        let mut walk = Walk::new();
        walk.page(PageFacts::of(&page, 1, 10));
        assert_eq!(walk.step(), Step::Down { starting_after: Some("b".into()) });
    }

    #[test]
    fn a_page_that_repeats_its_own_cursor_breaks_the_walk_off() {
        let mut walk = Walk::new();
        let page = PageFacts { bytes: 1, events: 1, last_id: Some("a".into()), reached: false, has_more: Some(true) };
        walk.page(page.clone());
        walk.page(page);
        assert!(matches!(walk.step(), Step::Out { page: 1, .. }));
        assert!(matches!(walk.step(), Step::Out { page: 0, .. }));
        assert_eq!(walk.step(), Step::Broken);
    }

    #[test]
    fn a_log_that_does_not_say_whether_there_is_more_is_walked_to_an_empty_page() {
        let page = |events, last: Option<&str>, has_more| PageFacts {
            bytes: 1,
            events,
            last_id: last.map(str::to_owned),
            reached: false,
            has_more,
        };
        let mut walk = Walk::new();
        walk.page(page(1, Some("a"), None));
        assert_eq!(walk.step(), Step::Down { starting_after: Some("a".to_owned()) });
        walk.page(page(0, None, None));
        walk.step();
        walk.step();
        assert_eq!(walk.step(), Step::Done { reached: false });
        let mut walk = Walk::new();
        walk.page(page(0, None, Some(true)));
        walk.step();
        assert_eq!(walk.step(), Step::Broken, "more is promised, and no way leads there");
    }
}

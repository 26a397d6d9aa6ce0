//! A history that no longer reaches back, as decisions: which time cannot be proven, and which orders it may concern.
//!
//! The provider does not report how far back its event log reaches, so a walk that comes to the log's end above its
//! mark has to check whether anything was forgotten. Where that cannot be excluded, the list of orders shows which of
//! them last changed in that time: consumers may hold an older state of those. Nothing is made up from it, since a
//! record is a pure function of a provider's event.
//!
//! Pure: given what a walk or a page held, it returns what to conclude and what to ask next.

use crate::provider::rest::{OrderRow, OrdersPage};
use std::collections::HashSet;

/// Orders asked for at once: the provider's documented maximum for lists (`api-spec/pagination`).
pub const PAGE_ORDERS_MAX: usize = 100;

/// Pages asked for at most: 50,000 orders at 100 a page, more than a merchant needs in one report.
const PAGES_MAX: usize = 500;

/// Ids kept at most, to count each order once: as many as full pages can hold, also when a provider sends larger ones.
const ORDERS_MAX: usize = PAGES_MAX * PAGE_ORDERS_MAX;

/// Orders named at most, a log line each; more than that are a matter for a script.
pub const NAMED_MAX: usize = 100;

/// A time in which events may be missing, in Unix milliseconds by the provider's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// Up to then nothing is missing.
    pub from_ms: i64,
    /// From then on the log is complete.
    pub to_ms: i64,
}

/// What is known when a walk came to the end of the log.
#[derive(Clone, Copy, Debug)]
pub struct LogEnd {
    /// Up to when nothing is missing, from before this walk.
    pub proven_ms: i64,
    /// When the newest event occurred that socket and log had brought before this walk.
    pub cursor_ms: Option<i64>,
    /// When the oldest event occurred that the log shows; `None` when it is empty.
    pub oldest_ms: Option<i64>,
    /// When the walk began.
    pub started_ms: i64,
    /// The end of the last period that was reported.
    pub told_to_ms: Option<i64>,
    /// A log is taken to reach back so far, unless an event that we saw is missing from it: walks in a row of a
    /// running relay lie closer together, and a quiet merchant's log is empty after a while without any loss.
    pub steady_ms: i64,
}

impl LogEnd {
    /// The time that cannot be proven, if there is one that was not reported yet.
    ///
    /// A log that still shows an event from before `proven` holds everything since: it forgets its oldest first.
    pub fn unproven(&self) -> Option<Period> {
        let Self { proven_ms, cursor_ms, oldest_ms, started_ms, told_to_ms, steady_ms } = *self;
        let period = Period {
            from_ms: told_to_ms.map_or(proven_ms, |told| told.max(proven_ms)),
            to_ms: oldest_ms.map_or(started_ms, |oldest| oldest.min(started_ms)),
        };
        let missing = cursor_ms.is_some_and(|seen| match oldest_ms {
            Some(oldest) => seen < oldest,
            // It may have been forgotten for its age alone, unless it is young.
            None => seen > started_ms.saturating_sub(steady_ms) && told_to_ms.is_none_or(|told| seen > told),
        });
        let long = started_ms.saturating_sub(proven_ms) > steady_ms;
        (period.from_ms < period.to_ms && (missing || long)).then_some(period)
    }
}

impl Period {
    /// Whether by its row an order last changed in this time, or may have.
    fn concerns(&self, row: &OrderRow) -> Relation {
        match (row.updated_ms(), row.created_ms()) {
            // A time without a fraction means the whole second.
            (Some(ms), _) if ms.saturating_add(if ms % 1000 == 0 { 999 } else { 0 }) < self.from_ms => Relation::Before,
            (Some(ms), _) if ms <= self.to_ms => Relation::Inside,
            (Some(_), _) => Relation::After,
            (None, Some(ms)) if ms > self.to_ms => Relation::After,
            (None, _) => Relation::Inside,
        }
    }
}

enum Relation {
    Before,
    Inside,
    After,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Ask for the page behind this many orders, and pass it to [`Reconciliation::page`].
    Ask {
        /// Orders to pass over.
        offset: usize,
    },
    /// There is nothing more to ask for.
    Done {
        /// Whether every order was seen; not when there are too many, or when pages repeat themselves.
        complete: bool,
    },
}

/// Which orders a period concerns, gathered page by page.
#[derive(Debug)]
pub struct Reconciliation {
    period: Period,
    /// Orders of which the log shows an event: what consumers get of them is newer than the period.
    shown: HashSet<String>,
    known: HashSet<String>,
    named: Vec<OrderRow>,
    inside: u64,
    after: u64,
    offset: usize,
    pages: usize,
    complete: Option<bool>,
}

impl Reconciliation {
    /// Begins with the first page. `shown`: orders whose oldest event in the log lies at the period's end. Their rows
    /// may carry a time from just before it, since the provider writes an order before it issues the event.
    pub fn new(period: Period, shown: HashSet<String>) -> Self {
        Self {
            period,
            shown,
            known: HashSet::new(),
            named: Vec::new(),
            inside: 0,
            after: 0,
            offset: 0,
            pages: 0,
            complete: None,
        }
    }

    /// What to do next.
    pub fn next(&self) -> Next {
        match self.complete {
            Some(complete) => Next::Done { complete },
            None => Next::Ask { offset: self.offset },
        }
    }

    /// The page asked for with `asked` as its limit held this.
    ///
    /// Orders that are made meanwhile move others to a later page: those come twice and count once. A page is the last
    /// one when it holds less than the limit that the provider names; where it names none, only an empty one is.
    pub fn page(&mut self, list: OrdersPage, asked: usize) {
        let rows = list.orders.len();
        let mut new = 0;
        for row in list.orders {
            if self.known.len() >= ORDERS_MAX {
                break;
            }
            let id = row.known_id();
            let shown = id.as_ref().is_some_and(|id| self.shown.contains(id));
            if id.is_none_or(|id| self.known.insert(id)) {
                new += 1;
                self.take(row, shown);
            }
        }
        self.offset = self.offset.saturating_add(rows);
        self.pages += 1;
        let limit = list.pagination.limit.map_or(1, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let full = limit.clamp(1, asked.max(1));
        self.complete = match () {
            () if rows < full => Some(true),
            // The provider does not go on, or not for long enough.
            () if new == 0 || self.pages >= PAGES_MAX || self.known.len() >= ORDERS_MAX => Some(false),
            () => None,
        };
    }

    fn take(&mut self, row: OrderRow, shown: bool) {
        match self.period.concerns(&row) {
            Relation::Before => {}
            Relation::Inside if !shown => {
                self.inside += 1;
                if self.named.len() < NAMED_MAX {
                    self.named.push(row);
                }
            }
            Relation::Inside | Relation::After => self.after += 1,
        }
    }

    /// Orders that last changed inside the period, or may have.
    pub fn inside(&self) -> u64 {
        self.inside
    }

    /// Orders that changed after it: what consumers get of them is newer than the period.
    pub fn after(&self) -> u64 {
        self.after
    }

    /// The first of those inside, at most [`NAMED_MAX`].
    pub fn named(&self) -> &[OrderRow] {
        &self.named
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]

    use super::*;
    use crate::provider::rest::{ObjectTime, Pagination};

    const END: LogEnd = LogEnd {
        proven_ms: 10_000_500,
        cursor_ms: Some(10_020_000),
        oldest_ms: Some(10_400_300),
        started_ms: 10_500_000,
        told_to_ms: None,
        steady_ms: 100_000,
    };

    fn unproven(end: LogEnd) -> Option<(i64, i64)> {
        end.unproven().map(|period| (period.from_ms, period.to_ms))
    }

    #[test]
    fn a_log_that_no_longer_reaches_back_after_an_absence() {
        assert_eq!(unproven(END), Some((10_000_500, 10_400_300)));
        // Also when it still shows what the socket brought: what the socket dropped before that may be forgotten.
        assert_eq!(unproven(LogEnd { cursor_ms: Some(10_450_000), ..END }), Some((10_000_500, 10_400_300)));
        assert_eq!(unproven(LogEnd { cursor_ms: None, ..END }), Some((10_000_500, 10_400_300)));
        assert_eq!(unproven(LogEnd { oldest_ms: None, ..END }), Some((10_000_500, 10_500_000)));
    }

    #[test]
    fn a_log_that_shows_anything_from_before_holds_everything_since() {
        assert_eq!(unproven(LogEnd { oldest_ms: Some(10_000_500), ..END }), None);
        assert_eq!(unproven(LogEnd { oldest_ms: Some(0), ..END }), None);
    }

    #[test]
    fn while_a_relay_runs_a_quiet_log_is_no_loss_and_a_missing_event_is() {
        let steady = LogEnd { proven_ms: 10_450_000, oldest_ms: None, cursor_ms: Some(5_000_000), ..END };
        assert_eq!(unproven(steady), None, "forgotten for its age");
        assert_eq!(unproven(LogEnd { cursor_ms: None, ..steady }), None);
        let young = LogEnd { cursor_ms: Some(10_449_000), ..steady };
        assert_eq!(unproven(young), Some((10_450_000, 10_500_000)));
        let begun = LogEnd { oldest_ms: Some(10_460_000), cursor_ms: Some(10_460_000), ..steady };
        assert_eq!(unproven(begun), None, "the log begins with what the socket brought");
        let cut = LogEnd { cursor_ms: Some(10_459_999), ..begun };
        assert_eq!(unproven(cut), Some((10_450_000, 10_460_000)));
    }

    #[test]
    fn what_was_reported_is_not_reported_again() {
        let period = END.unproven().unwrap();
        let told = LogEnd { told_to_ms: Some(period.to_ms), ..END };
        assert_eq!(unproven(told), None);
        assert_eq!(unproven(LogEnd { oldest_ms: Some(10_450_000), ..told }), Some((10_400_300, 10_450_000)));
        let empty = LogEnd { oldest_ms: None, proven_ms: 10_450_000, cursor_ms: Some(10_399_000), ..told };
        assert_eq!(unproven(empty), None);
    }

    fn row(order_id: &str, created_ms: Option<i64>, updated_ms: Option<i64>) -> OrderRow {
        let [created_at, updated_at] = [created_ms, updated_ms].map(|ms| ms.and_then(ObjectTime::from_ms));
        OrderRow { order_id: Some(order_id.to_owned()), created_at, updated_at, ..OrderRow::default() }
    }

    fn list(orders: Vec<OrderRow>, limit: Option<u64>) -> OrdersPage {
        OrdersPage { orders, pagination: Pagination { limit } }
    }

    fn names(reconciliation: &Reconciliation) -> Vec<&str> {
        reconciliation.named().iter().map(|row| row.order_id.as_deref().unwrap_or("?")).collect()
    }

    #[test]
    fn orders_are_named_by_when_they_last_changed() {
        let shown = HashSet::from(["shown".to_owned()]);
        let mut reconciliation = Reconciliation::new(END.unproven().unwrap(), shown);
        let rows = [
            row("before", None, Some(10_000_499)),
            row("that second", None, Some(10_000_000)),
            row("the second before", None, Some(9_999_000)),
            row("first", None, Some(10_000_500)),
            row("last", None, Some(10_400_300)),
            row("shown", None, Some(10_400_200)),
            row("after", Some(1), Some(10_400_301)),
            row("undated", Some(1), None),
            row("made after", Some(10_400_301), None),
            OrderRow::default(),
        ];
        reconciliation.page(list(rows.to_vec(), Some(100)), 100);
        assert_eq!(names(&reconciliation), ["that second", "first", "last", "undated", "?"]);
        assert_eq!((reconciliation.inside(), reconciliation.after()), (5, 3));
        assert_eq!(reconciliation.next(), Next::Done { complete: true });
    }

    fn numbered(numbers: std::ops::Range<usize>) -> Vec<OrderRow> {
        numbers.map(|number| row(&number.to_string(), None, Some(10_100_000))).collect()
    }

    #[test]
    fn pages_are_asked_for_until_a_short_one_and_repeated_rows_count_once() {
        let mut reconciliation = Reconciliation::new(END.unproven().unwrap(), HashSet::new());
        // The provider gives fewer than asked for, and names the number.
        reconciliation.page(list(numbered(0..20), Some(20)), 100);
        assert_eq!(reconciliation.next(), Next::Ask { offset: 20 });
        // One was made meanwhile: the last row of the first page comes again.
        reconciliation.page(list(numbered(19..39), Some(20)), 100);
        reconciliation.page(list(numbered(39..40), Some(20)), 100);
        assert_eq!((reconciliation.next(), reconciliation.inside()), (Next::Done { complete: true }, 40));
    }

    #[test]
    fn where_the_page_size_is_unknown_only_an_empty_page_is_the_last() {
        let mut reconciliation = Reconciliation::new(END.unproven().unwrap(), HashSet::new());
        reconciliation.page(list(numbered(0..3), None), 100);
        assert_eq!(reconciliation.next(), Next::Ask { offset: 3 });
        reconciliation.page(list(Vec::new(), None), 100);
        assert_eq!(reconciliation.next(), Next::Done { complete: true });
    }

    #[test]
    fn a_provider_that_never_ends_is_left() {
        let mut circles = Reconciliation::new(END.unproven().unwrap(), HashSet::new());
        circles.page(list(numbered(0..5), Some(5)), 100);
        circles.page(list(numbered(0..5), Some(5)), 100);
        assert_eq!((circles.next(), circles.inside()), (Next::Done { complete: false }, 5));
        let mut endless = Reconciliation::new(END.unproven().unwrap(), HashSet::new());
        let mut pages = 0;
        while let Next::Ask { offset } = endless.next() {
            endless.page(list(numbered(offset..offset + 1), Some(1)), 100);
            pages += 1;
        }
        assert_eq!(
            (endless.next(), pages, endless.named().len()),
            (Next::Done { complete: false }, PAGES_MAX, NAMED_MAX)
        );
        let mut huge = Reconciliation::new(END.unproven().unwrap(), HashSet::new());
        huge.page(list(numbered(0..ORDERS_MAX + 7), Some(0)), 100);
        assert_eq!((huge.next(), huge.inside()), (Next::Done { complete: false }, ORDERS_MAX as u64));
    }
}

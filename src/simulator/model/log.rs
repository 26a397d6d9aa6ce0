//! The event log: one outbox that feeds the socket, the webhooks and the Events API.
//!
//! Ids are strictly increasing. The log forgets by age and by number; what it forgot is remembered as one id, so
//! that a cursor from before can be refused as too old.

use super::filter::{Filter, Scope, Types};
use crate::provider::EventId;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;

/// An event as it was issued; every channel sends these same bytes.
#[derive(Debug)]
pub struct Event {
    /// `evt_<ms>-<seq>`, or whatever a custom event brought along.
    pub id: String,
    /// The id's two numbers, when it has them.
    pub position: Option<EventId>,
    /// `commerce.order.updated` and so on.
    pub kind: String,
    /// Unix seconds.
    pub created: i64,
    /// What the scope filters look at.
    pub scope: Scope,
    /// Reaches everybody, whatever their filters: custom events of types that no allowlist knows.
    pub unfiltered: bool,
    /// The envelope as JSON.
    pub bytes: Bytes,
}

impl Event {
    /// Whether a socket that wants this gets it.
    pub fn fits(&self, filter: &Filter) -> bool {
        self.unfiltered || (filter.types.contains(&self.kind) && self.scope.matches(&filter.scope))
    }
}

#[derive(Debug)]
struct Entry {
    event: Arc<Event>,
    issued_at_ms: i64,
    /// The Events API shows it from here on; the other channels at once.
    visible_from_ms: i64,
}

/// The log and its retention.
#[derive(Debug)]
pub struct Log {
    entries: VecDeque<Entry>,
    appended: u64,
    last: Option<EventId>,
    forgotten: Option<EventId>,
    keep_ms: i64,
    keep_events: usize,
}

/// What the Events API was asked for.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Types wanted; all without.
    pub types: Option<Types>,
    /// Objects wanted.
    pub scope: Scope,
    /// Earliest `created`, Unix seconds, inclusive.
    pub created_from: Option<i64>,
    /// Latest `created`, Unix seconds, inclusive.
    pub created_to: Option<i64>,
    /// The page of events older than this id.
    pub starting_after: Option<EventId>,
    /// The page of events newer than this id, adjacent to it.
    pub ending_before: Option<EventId>,
    /// Most events on the page.
    pub limit: usize,
}

/// A page, newest first.
#[derive(Debug)]
pub struct Page {
    /// The events.
    pub events: Vec<Arc<Event>>,
    /// Whether there are more in the direction of travel.
    pub has_more: bool,
}

impl Log {
    /// An empty log that keeps events for `keep_ms` and at most `keep_events` of them.
    pub const fn new(keep_ms: i64, keep_events: usize) -> Self {
        Self { entries: VecDeque::new(), appended: 0, last: None, forgotten: None, keep_ms, keep_events }
    }

    /// The next id: `now_ms`, or the last id's time if the clock went back; strictly above every id before.
    pub fn next_id(&mut self, now_ms: i64) -> EventId {
        let now = u64::try_from(now_ms).unwrap_or(0);
        let id = match self.last {
            Some(last) if last.ms >= now => EventId { ms: last.ms, seq: last.seq + 1 },
            _ => EventId { ms: now, seq: 0 },
        };
        self.last = Some(id);
        id
    }

    /// Writes `event` down, to be shown by the Events API from `visible_from_ms` on.
    pub fn append(&mut self, event: Arc<Event>, now_ms: i64, visible_from_ms: i64) {
        self.appended += 1;
        self.entries.push_back(Entry { event, issued_at_ms: now_ms, visible_from_ms });
        self.expire(now_ms);
    }

    /// Keeps `count` events at most from now on.
    pub fn keep_events(&mut self, count: usize, now_ms: i64) {
        self.keep_events = count;
        self.expire(now_ms);
    }

    /// Forgets what is past retention.
    pub fn expire(&mut self, now_ms: i64) {
        let oldest_kept = now_ms.saturating_sub(self.keep_ms);
        while let Some(entry) = self.entries.front() {
            if self.entries.len() <= self.keep_events && entry.issued_at_ms >= oldest_kept {
                break;
            }
            // A custom event's id from the future must not make every cursor look old.
            self.forgotten = self.forgotten.max(entry.event.position.filter(|id| Some(*id) <= self.last));
            self.entries.pop_front();
        }
    }

    /// One event, if the Events API shows it by now.
    pub fn get(&self, id: &str, now_ms: i64) -> Option<Arc<Event>> {
        let entry = self.entries.iter().rev().find(|entry| entry.event.id == id)?;
        (entry.visible_from_ms <= now_ms).then(|| Arc::clone(&entry.event))
    }

    /// Whether this very id is in the log.
    pub fn holds(&self, id: EventId) -> bool {
        self.entries.iter().any(|entry| entry.event.position == Some(id))
    }

    /// A page of the log. A cursor that was never issued counts by its place in time; both cursors together are
    /// the caller's mistake, and the answer then lies between them.
    pub fn list(&self, query: &Query, now_ms: i64) -> Page {
        let wanted = |entry: &&Entry| {
            let event = &entry.event;
            entry.visible_from_ms <= now_ms
                && query.types.as_ref().is_none_or(|types| event.unfiltered || types.contains(&event.kind))
                && event.scope.matches(&query.scope)
                && query.created_from.is_none_or(|from| event.created >= from)
                && query.created_to.is_none_or(|to| event.created <= to)
        };
        let below = query.starting_after.map_or(self.entries.len(), |cursor| self.first_at_or_after(cursor));
        let above = query.ending_before.map_or(0, |cursor| self.first_after(cursor));
        let range = self.entries.range(above.min(below)..below).filter(wanted).map(|entry| Arc::clone(&entry.event));
        let mut events: Vec<_> = if query.ending_before.is_some() {
            range.take(query.limit + 1).collect()
        } else {
            range.rev().take(query.limit + 1).collect()
        };
        let has_more = events.len() > query.limit;
        events.truncate(query.limit);
        if query.ending_before.is_some() {
            events.reverse();
        }
        Page { events, has_more }
    }

    /// Whether events after `cursor` have been forgotten.
    pub fn is_too_old(&self, cursor: EventId) -> bool {
        self.forgotten.is_some_and(|forgotten| cursor < forgotten)
    }

    /// Events that were ever written down, those forgotten since included.
    pub const fn appended(&self) -> u64 {
        self.appended
    }

    /// Every event after `cursor` (or from it on, when `inclusive`), oldest first.
    pub fn after(&self, cursor: EventId, inclusive: bool) -> impl DoubleEndedIterator<Item = &Arc<Event>> {
        let first = if inclusive { self.first_at_or_after(cursor) } else { self.first_after(cursor) };
        self.entries.range(first..).map(|entry| &entry.event)
    }

    /// Everything that is kept, oldest first.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = &Arc<Event>> {
        self.entries.iter().map(|entry| &entry.event)
    }

    /// Place of the cursor's own event, else of the first one beyond it in time. Linear, and not by bisection,
    /// because a custom event may carry an id that is out of order.
    fn first_at_or_after(&self, cursor: EventId) -> usize {
        let own = self.entries.iter().rposition(|entry| entry.event.position == Some(cursor));
        own.unwrap_or_else(|| self.first_beyond(cursor))
    }

    fn first_after(&self, cursor: EventId) -> usize {
        let own = self.entries.iter().rposition(|entry| entry.event.position == Some(cursor));
        own.map_or_else(|| self.first_beyond(cursor), |index| index + 1)
    }

    fn first_beyond(&self, cursor: EventId) -> usize {
        let beyond = |entry: &Entry| entry.event.position.is_some_and(|position| position > cursor);
        self.entries.iter().position(beyond).unwrap_or(self.entries.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_of(count: u64, keep_events: usize) -> Log {
        let mut log = Log::new(1_000, keep_events);
        for n in 0..count {
            let id = log.next_id(100 + i64::try_from(n / 3).unwrap_or(0));
            let event = Event {
                id: id.to_string(),
                position: Some(id),
                kind: "invoice.updated".into(),
                created: 0,
                scope: Scope::default(),
                unfiltered: false,
                bytes: Bytes::new(),
            };
            log.append(Arc::new(event), 100, 100);
        }
        log
    }

    fn ids(events: &[Arc<Event>]) -> Vec<&str> {
        events.iter().map(|event| event.id.as_str()).collect()
    }

    fn query(limit: usize) -> Query {
        Query { limit, ..Query::default() }
    }

    #[test]
    fn ids_increase_also_when_the_clock_goes_back() {
        let mut log = Log::new(1_000, 10);
        let ids: Vec<_> = [5, 5, 4, 6, 6].into_iter().map(|ms| log.next_id(ms).to_string()).collect();
        assert_eq!(ids, ["evt_5-0", "evt_5-1", "evt_5-2", "evt_6-0", "evt_6-1"]);
    }

    #[test]
    fn a_walk_down_sees_every_event_once() {
        let log = log_of(10, 100);
        let mut seen = Vec::new();
        let mut next = query(3);
        loop {
            let page = log.list(&next, 100);
            seen.extend(page.events.iter().map(|event| event.id.clone()));
            next.starting_after = page.events.last().and_then(|event| event.position);
            if !page.has_more {
                break;
            }
        }
        seen.reverse();
        assert_eq!(seen, log.all().map(|event| event.id.clone()).collect::<Vec<_>>());
    }

    #[test]
    fn a_page_up_is_adjacent_to_its_cursor_and_newest_first() {
        let log = log_of(7, 100);
        let page = log.list(&Query { ending_before: Some(EventId { ms: 100, seq: 1 }), ..query(2) }, 100);
        assert_eq!(ids(&page.events), ["evt_101-0", "evt_100-2"]);
        assert!(page.has_more);
        let last = log.list(&Query { ending_before: Some(EventId { ms: 101, seq: 1 }), ..query(2) }, 100);
        assert_eq!((ids(&last.events), last.has_more), (vec!["evt_102-0", "evt_101-2"], false));
    }

    #[test]
    fn an_id_never_issued_counts_by_its_place_in_time() {
        let log = log_of(6, 100);
        let between = EventId { ms: 100, seq: 99 };
        assert_eq!(log.after(between, false).count(), 3);
        assert_eq!(log.list(&Query { starting_after: Some(between), ..query(9) }, 100).events.len(), 3);
        assert_eq!(log.after(EventId { ms: 100, seq: 2 }, true).count(), 4);
    }

    #[test]
    fn a_shorter_history_forgets_at_once_and_does_not_get_it_back() {
        let mut log = log_of(6, 100);
        log.keep_events(2, 100);
        log.keep_events(100, 100);
        assert_eq!(log.all().map(|event| event.id.as_str()).collect::<Vec<_>>(), ["evt_101-1", "evt_101-2"]);
        assert!(log.is_too_old(EventId { ms: 100, seq: 0 }));
    }

    #[test]
    fn what_is_past_retention_is_forgotten_and_known_to_be() {
        let mut log = log_of(6, 4);
        assert_eq!((log.all().count(), log.appended()), (4, 6));
        assert!(log.is_too_old(EventId { ms: 100, seq: 0 }));
        assert!(!log.is_too_old(EventId { ms: 100, seq: 1 }), "everything after the last forgotten one is held");
        log.expire(1_101);
        assert_eq!(log.all().count(), 0);
        assert!(log.is_too_old(EventId { ms: 101, seq: 1 }));
    }
}

//! The provider: its events, its log with all that is not known of it, its connections.

use crate::scenario::{OVERLAP_MS, Rng, START_MS, Scenario, Since};
use bytes::Bytes;
use pepay_relay::provider::EventId;
use pepay_relay::provider::page::{Listed, Page};
use pepay_relay::relay::Version;
use std::collections::HashMap;

/// How an event has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Order,
    Invoice,
    DeadLetter,
    Ignored,
}

/// One event.
#[derive(Clone, Debug)]
pub struct Event {
    pub text_id: Option<String>,
    pub id: Option<EventId>,
    pub ms: i64,
    pub fate: Fate,
    pub future: bool,
    pub bytes: Bytes,
    /// When the log shows it; `None` for what only webhooks bring.
    pub visible_ms: Option<i64>,
}

impl Event {
    pub fn version(&self) -> Version {
        Version { ms: self.ms, seq: self.id.map_or(0, |id| id.seq) }
    }
}

/// One connection, as the provider sees it.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    pub relay: usize,
    /// Half-open: nothing arrives any more, and nobody says so.
    pub silent: bool,
    /// When the frame sent last arrives.
    pub last_ms: i64,
}

#[derive(Debug, Default)]
pub struct Provider {
    pub events: Vec<Event>,
    pub by_id: HashMap<String, usize>,
    pub connections: HashMap<u64, Connection>,
    pub rest_up: bool,
    seq: u64,
}

impl Provider {
    /// A log with an old event, so that every walk reaches its mark.
    pub fn new() -> Self {
        Self { rest_up: true, ..Self::default() }
    }

    /// Something happens to an order, an invoice or to nothing we know. Gives the event's number.
    pub fn emit(&mut self, scenario: &Scenario, rng: &mut Rng, now_ms: i64) -> usize {
        let number = self.events.len();
        let odd = if rng.chance(scenario.odd) { rng.range(0, 7) } else { -1 };
        let mut ms = if rng.chance(scenario.disorder) { now_ms - rng.range(0, 3000) } else { now_ms };
        let huge = odd == 3;
        let future = odd == 4 || odd == 7;
        if odd == 4 {
            ms += rng.range(1, 30) * 60_000;
        }
        if odd == 7 {
            // A dead letter whose id is any number.
            ms = rng.range(now_ms, 9_999_999_999_999);
        }
        self.seq += 1;
        let id = EventId { ms: ms as u64, seq: self.seq };
        let mut key = format!("o{}", rng.range(1, scenario.orders));
        let (mut fate, mut kind, mut object) = (Fate::Order, "commerce.order.updated", "commerce_order");
        let (mut id, mut text_id) = (Some(id), Some(id.to_string()));
        let invoice = rng.chance(150);
        match odd {
            0 | 7 => (fate, kind) = (Fate::DeadLetter, "payment_quote.updated"),
            // One at most: below a page of nothing else there is no way on.
            1 if self.events.iter().all(|event| event.text_id.is_some()) => {
                (id, text_id, fate) = (None, None, Fate::DeadLetter)
            }
            2 => (id, text_id, ms) = (None, Some(format!("evt_example{number}")), ms / 1000 * 1000),
            5 => (fate, kind) = (Fate::Ignored, "test.ping"),
            _ if invoice => (fate, kind, object) = (Fate::Invoice, "invoice.updated", "invoice"),
            _ => {}
        }
        if fate == Fate::Invoice {
            key = format!("i{key}");
        }
        let status = if huge { "z".repeat(4000) } else { "placed".to_owned() };
        let id_member = text_id.as_ref().map_or(String::new(), |id| format!(r#""id":"{id}","#));
        let created = ms / 1000;
        let bytes = Bytes::from(format!(
            r#"{{{id_member}"object":"event","n":{number},"type":"{kind}","created":{created},"data":{{"object":{{"object":"{object}","id":"{key}","status":"{status}"}}}}}}"#
        ));
        let late = if rng.chance(scenario.late) { rng.range(0, OVERLAP_MS - 4000) } else { 0 };
        // A ping is made for one endpoint and is in no log. What is years ahead is in none either: every walk would bring it,
        // also when its window is long over.
        let visible_ms = (odd != 5 && odd != 7).then_some(now_ms + late);
        if huge {
            fate = Fate::DeadLetter;
        }
        if let Some(id) = &text_id {
            self.by_id.insert(id.clone(), number);
        }
        self.events.push(Event { text_id, id, ms, fate, future, bytes, visible_ms });
        number
    }

    /// Whether the log shows the event.
    pub fn shows(scenario: &Scenario, event: &Event, now_ms: i64) -> bool {
        event.visible_ms.is_some_and(|ms| ms <= now_ms) && event.ms >= now_ms.saturating_sub(scenario.retention_ms)
    }

    /// Events that a connection with `since` is told first.
    pub fn replay(&self, scenario: &Scenario, since: Option<EventId>, now_ms: i64) -> Vec<usize> {
        let Some(since) = since else { return Vec::new() };
        let after = |id: EventId| match scenario.since {
            Since::Exclusive => id > since,
            Since::Inclusive => id >= since,
            Since::Ignored => false,
        };
        let shown = |event: &Event| Self::shows(scenario, event, now_ms) && event.id.is_some_and(after);
        let mut events: Vec<_> = (0..self.events.len()).filter(|&number| shown(&self.events[number])).collect();
        events.sort_by_key(|&number| self.events[number].id);
        events
    }

    /// A page of the log; `None` when the cursor is not known.
    pub fn page(&self, scenario: &Scenario, starting_after: Option<&str>, limit: usize, now_ms: i64) -> Option<Page> {
        let mut shown: Vec<&Event> = self.events.iter().filter(|event| Self::shows(scenario, event, now_ms)).collect();
        if scenario.log_by_visibility {
            shown.sort_by_key(|event| std::cmp::Reverse(event.visible_ms));
        } else {
            shown.sort_by_key(|event| std::cmp::Reverse((event.ms, event.id)));
        }
        let start = match starting_after {
            Some(id) => shown.iter().position(|event| event.text_id.as_deref() == Some(id))? + 1,
            None => 0,
        };
        let end = shown.len().min(start + limit.min(scenario.page_events));
        let listed = |event: &&Event| Listed {
            bytes: event.bytes.clone(),
            id: event.text_id.clone(),
            // What has no id has its time in whole seconds.
            occurred_at_ms: Some(if event.id.is_some() { event.ms } else { event.ms / 1000 * 1000 }),
        };
        Some(Page { events: shown[start..end].iter().map(listed).collect(), has_more: Some(end < shown.len()) })
    }
}

/// The first moment from which the relay wants history.
pub const HISTORY_MS: i64 = START_MS - 3_600_000;

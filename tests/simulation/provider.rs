//! The provider: its events, its log with all that is not known of it, its connections.

use crate::scenario::{OVERLAP_MS, Rng, START_MS, Scenario, Since};
use bytes::Bytes;
use pepay_relay::labels::Account;
use pepay_relay::provider::EventId;
use pepay_relay::relay::Version;
use std::collections::HashMap;

/// The names of the accounts, in their places.
pub const ACCOUNTS: [&str; 2] = ["a", "b"];

/// The second account.
pub const SECOND: Account = Account::at(1);

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
    /// Whose it is; of the second account webhooks alone bring something.
    pub account: Account,
    pub text_id: Option<String>,
    pub id: Option<EventId>,
    pub ms: i64,
    pub fate: Fate,
    pub future: bool,
    pub bytes: Bytes,
    /// A copy without the order's id, as a webhook may bring it.
    pub defective: Option<Bytes>,
    /// By its id it occurred days before it did: where it is in the log is another matter.
    pub old: bool,
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
    /// Half-open: nothing arrives any more, and nothing reports it.
    pub silent: bool,
    /// When the frame sent last arrives.
    pub last_ms: i64,
}

#[derive(Debug, Default)]
pub struct Provider {
    pub events: Vec<Event>,
    pub by_id: HashMap<(Account, String), usize>,
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
        let odd = match if rng.chance(scenario.odd) { rng.range(0, 10) } else { -1 } {
            // Where one event hides its end, its neighbours have to be cursors: alone in a page, one that is none leads nowhere.
            1 | 2 if scenario.missing_quotes => 10,
            10 if !scenario.missing_quotes => 9,
            odd => odd,
        };
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
        // One at most: two of them make a page.
        let old = odd == 8 && !scenario.missing_quotes && self.events.iter().all(|event| !event.old);
        if old {
            ms -= 2 * 86_400_000;
        }
        self.seq += 1;
        let id = EventId { ms: ms as u64, seq: self.seq };
        let mut key = format!("o{}", rng.range(1, scenario.orders));
        let mut fate = Fate::Order;
        let mut kind = "commerce.order.updated";
        let mut object = "commerce_order";
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
            9 | 10 => fate = Fate::DeadLetter,
            _ if invoice => (fate, kind, object) = (Fate::Invoice, "invoice.updated", "invoice"),
            _ => {}
        }
        if fate == Fate::Invoice {
            key = format!("i{key}");
        }
        let status = if huge { "z".repeat(4000) } else { "placed".to_owned() };
        let id_member = text_id.as_ref().map_or(String::new(), |id| format!(r#""id":"{id}","#));
        let created = ms / 1000;
        let poison = match odd {
            9 => POISON[rng.range(0, POISON.len() as i64 - 1) as usize],
            10 => MISSING_QUOTE,
            _ => b"",
        };
        let written = |key: &str| {
            let head = format!(r#"{{{id_member}"object":"event","n":{number},"#);
            let tail = format!(
                r#""type":"{kind}","created":{created},"data":{{"object":{{"object":"{object}",{key}"status":"{status}"}}}}}}"#
            );
            Bytes::from([head.as_bytes(), poison, tail.as_bytes()].concat())
        };
        let bytes = written(&format!(r#""id":"{key}","#));
        let whole = matches!(fate, Fate::Order | Fate::Invoice) && !huge && text_id.is_some();
        let defective = (whole && rng.chance(scenario.defective)).then(|| written(""));
        let late = if rng.chance(scenario.late) { rng.range(0, OVERLAP_MS - 4000) } else { 0 };
        // A ping is made for one endpoint and is in no log. What is years ahead is in none either: every walk would bring it,
        // also when its window is long over.
        let visible_ms = (odd != 5 && odd != 7).then_some(now_ms + late);
        if huge {
            fate = Fate::DeadLetter;
        }
        if let Some(id) = &text_id {
            self.by_id.insert((Account::FIRST, id.clone()), number);
        }
        let account = Account::FIRST;
        self.events.push(Event { account, text_id, id, ms, fate, future, bytes, defective, old, visible_ms });
        number
    }

    /// An event of the second account, with the id of this one. Gives its number; none where the id is an odd one.
    pub fn twin(&mut self, of: usize) -> Option<usize> {
        let number = self.events.len();
        let Event { text_id, id, ms, .. } = self.events.get(of).filter(|event| !event.future && !event.old)?.clone();
        let text_id = text_id.filter(|_| id.is_some())?;
        let created = ms / 1000;
        let bytes = format!(
            r#"{{"id":"{text_id}","object":"event","n":{number},"type":"commerce.order.updated","created":{created},"data":{{"object":{{"object":"commerce_order","id":"second","status":"placed"}}}}}}"#
        );
        self.by_id.insert((SECOND, text_id.clone()), number);
        self.events.push(Event {
            account: SECOND,
            text_id: Some(text_id),
            id,
            ms,
            fate: Fate::Order,
            future: false,
            bytes: Bytes::from(bytes),
            defective: None,
            old: false,
            visible_ms: None,
        });
        Some(number)
    }

    /// Whether the log shows the event.
    pub fn shows(scenario: &Scenario, event: &Event, now_ms: i64) -> bool {
        event.visible_ms.is_some_and(|ms| ms <= now_ms) && event.ms >= now_ms.saturating_sub(scenario.retention_ms)
    }

    /// Events that a connection with `since` is sent first.
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

    /// The events that the log lists, newest first.
    fn listed(&self, scenario: &Scenario, now_ms: i64) -> Vec<&Event> {
        let mut shown: Vec<&Event> = self.events.iter().filter(|event| Self::shows(scenario, event, now_ms)).collect();
        let place = |event: &&Event| match () {
            () if scenario.log_by_visibility => (event.visible_ms.unwrap_or_default(), 0, None),
            () if event.old => (event.visible_ms.unwrap_or_default(), 0, event.id),
            () if scenario.log_shuffled => {
                let seq = event.id.map_or(0, |id| id.seq.wrapping_mul(0x9E37_79B9_7F4A_7C15));
                (event.ms / 5000 * 5000, seq, None)
            }
            () => (event.ms, 0, event.id),
        };
        shown.sort_by_key(|event| std::cmp::Reverse(place(event)));
        shown
    }

    /// Whether a walk can come to the event, where the log leads in a circle.
    pub fn leads_to(&self, scenario: &Scenario, number: usize, now_ms: i64) -> bool {
        let Some((at, true)) = scenario.circle else { return true };
        let wanted: *const Event = &raw const self.events[number];
        self.listed(scenario, now_ms).iter().take(at).any(|event| std::ptr::eq(*event, wanted))
    }

    /// A page of the log as it is sent; `None` when the cursor is not known. `circles`: the log leads in a circle now.
    pub fn page(
        &self,
        scenario: &Scenario,
        starting_after: Option<&str>,
        limit: usize,
        (now_ms, circles): (i64, bool),
    ) -> Option<Bytes> {
        let mut shown = self.listed(scenario, now_ms);
        let mut start = 0;
        if let Some(id) = starting_after {
            // Ids of another form lead nowhere.
            let cursor: EventId = id.parse().ok()?;
            if scenario.compares_ids && !scenario.log_by_visibility && !scenario.log_shuffled {
                let older = |event: &Event| match event.id {
                    Some(id) => id < cursor,
                    None => event.ms <= cursor.ms as i64,
                };
                shown.retain(|event| older(event));
            } else {
                start = shown.iter().position(|event| event.id == Some(cursor))? + 1;
            }
        }
        let circle = scenario.circle.filter(|(_, forever)| circles || *forever).map(|(at, _)| at);
        let stop = circle.unwrap_or(usize::MAX).min(shown.len());
        if start >= stop && circle.is_some() {
            start = 0;
        }
        let mut end = stop.min(start + limit.min(scenario.page_events));
        // Below a page without a cursor there is no way on.
        while end < stop && shown[start..end].iter().all(|event| event.id.is_none()) {
            end += 1;
        }
        let events: Vec<&[u8]> = shown[start..end].iter().map(|event| &event.bytes[..]).collect();
        let more = end < shown.len() || circle.is_some();
        let tail = format!(r#"],"has_more":{more}}}}}"#);
        Some([br#"{"success":true,"data":{"data":["#, &events.join(&b","[..])[..], tail.as_bytes()].concat().into())
    }
}

/// What no JSON has.
const POISON: [&[u8]; 5] = [b"\"t\":\"\xff\",", b"\"t\":\"a\nb\",", b"\"t\":NaN,", b"\"t\":\"\\x41\",", b"\"t\":01,"];

/// What hides where an event ends.
const MISSING_QUOTE: &[u8] = b"\"t\":\"5\" screen\",";

/// The first moment from which the relay wants history.
pub const HISTORY_MS: i64 = START_MS - 3_600_000;

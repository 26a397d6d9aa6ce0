//! The decisions of the relay: deliveries in, a plan of records and outcomes out.
//!
//! Pure: no socket, clock, log or task; `now` is an argument, and what happens to a plan is told by [`Planner::commit`] or
//! [`Planner::roll_back`]. Until then nothing that a plan did is final: ids are claimed, not settled; versions are planned
//! and can be taken back; the cursor in a plan's checkpoint counts only once that checkpoint is committed with it.
//!
//! Plans are made one after the other and end in the same order. A plan that rests on an earlier one (it follows a
//! claim of it, or continues its versions) is rolled back before that one is.

mod now;

pub use now::{AHEAD_MAX_MS, Now};

use super::dedup::{Claim, Ticket, Window};
use super::journal;
use super::marks::{marks, write_gap};
use super::records::{
    KEY_BYTES_MAX, Origin, bounded, digest, write_dead_letter, write_headers, write_schema_id, write_value,
};
use super::versions::{Undo, Version, Versions};
use crate::clock::CLOCKS_DISAGREE_MS;
use crate::kafka::{Batch, Keys, Record};
use crate::labels::{Outcome, Topic};
use crate::legs::Delivery;
use crate::legs::Note;
use crate::normalize::{self, Kind, Rejection, Route, SchemaIds, route};
use crate::provider::event::{Event, Reason, Undecodable, decode};
use crate::relay::progress::{Gap, Progress};
use bytes::Bytes;

/// What the decisions depend on beside the events.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The relay's name, for `relay_instance`.
    pub instance: String,
    /// What values look like.
    pub normalize: normalize::Settings,
    /// Whether `pepay.orders.latest` is written.
    pub orders_latest: bool,
    /// Whether `pepay.invoices` is written.
    pub invoices: bool,
    /// What a schema registry calls the schemas of values, as far as it is known.
    pub schema_ids: SchemaIds,
}

/// Something to be planned.
#[derive(Debug)]
pub enum Item {
    /// What arrived, and why Kafka refused its record when it was sent alone: it then becomes a dead letter.
    Delivery(Delivery, Option<Refused>),
    /// What a leg told, in its place among the deliveries.
    Note(Note),
}

/// Something that is done.
#[derive(Debug)]
pub enum Settled<'r> {
    /// A delivery, how it ended, and its first record where it has one of its own.
    Delivery(Delivery, Ending, Option<Record<'r>>),
    /// A gap is open.
    GapOpened(Gap),
    /// A gap is closed.
    GapClosed(Gap),
}

impl Settled<'_> {
    /// A peer waits for this outcome, and is free again once it has it.
    pub fn answers(&self) -> bool {
        matches!(self, Self::Delivery(delivery, ..) if delivery.reply.is_some())
    }
}

/// What a batch will do once it is committed.
#[derive(Debug, Default)]
pub struct Plan {
    /// The records, without the checkpoint.
    pub batch: Batch,
    entries: Vec<Entry>,
    /// The events that it publishes.
    journal: journal::Entries,
    /// The marks that it holds, where they changed.
    marks: Option<Vec<u8>>,
    /// What there was before its first entry.
    before: Progress,
}

#[derive(Debug)]
enum Entry {
    Delivery(Waiting),
    Note { note: Note, opened: Option<Gap>, closed: Vec<Gap> },
}

/// A delivery in a plan.
#[derive(Debug)]
struct Waiting {
    delivery: Delivery,
    fate: Ending,
    /// Its first record in the batch; none when it follows an earlier copy.
    record: Option<usize>,
    /// Of its id, of its dead letter, or of both.
    tickets: [Option<Ticket>; 2],
    undo: Option<Undo>,
    refused: Option<Refused>,
}

/// How a delivery ends, and what is worth telling about it.
#[derive(Clone, Debug)]
pub struct Ending {
    /// The outcome.
    pub outcome: Outcome,
    /// The event's id, empty where none could be read.
    pub event_id: Bytes,
    /// When the event occurred in Unix milliseconds, where the event could be read.
    pub occurred_at_ms: Option<i64>,
    /// Why it becomes a dead letter.
    pub dead_letter: Option<(Reason, String)>,
    /// Its time is so far ahead of both clocks that it moves neither cursor nor versions nor `latest`.
    pub ahead: bool,
    /// It occurred while a gap was open.
    pub recovered: bool,
}

/// Why Kafka refused the record of a delivery when it was sent alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What its dead letter says: too large, or invalid.
    pub reason: Reason,
    /// What Kafka said.
    pub detail: String,
    /// The dead letter holds a digest in place of the bytes.
    pub digest: bool,
}

/// A delivery, and why Kafka refused its record.
type Candidate = (Delivery, Option<Refused>);

/// A delivery that is done, and how it ended; `None` where it waits in a plan.
type Done = Option<(Delivery, Ending)>;

/// Window, versions and cursor, and the rules that join them.
#[derive(Debug)]
pub struct Planner {
    settings: Settings,
    source: String,
    window: Window,
    versions: Versions,
    progress: Progress,
    keys: Keys,
    /// The marks that are committed.
    saved: Vec<u8>,
}

impl Planner {
    /// Starts from what was read back: ids, versions, and the progress of the last checkpoint.
    pub fn new(settings: Settings, window: Window, versions: Versions, progress: Progress) -> Self {
        let source = format!("/pepay/{}", settings.normalize.environment.as_str());
        let keys = Keys::new(&settings.instance);
        Self { settings, source, window, versions, progress, keys, saved: Vec::new() }
    }

    /// How far everything is settled or planned.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The dedup window, to look at.
    pub fn window(&self) -> &Window {
        &self.window
    }

    /// Adds to a plan that takes nothing more what the control topic has to know of it: the journal of its events, and the
    /// marks where they changed.
    pub(super) fn seal(&self, plan: &mut Plan) {
        let count = plan.len();
        let Plan { batch, journal, marks: sealed, .. } = plan;
        let key = self.keys.journal();
        journal.values().for_each(|value| batch.record(Topic::Control, key.as_bytes(), value));
        let now = marks(&self.progress, &self.settings.schema_ids);
        if now != self.saved {
            batch.record(Topic::Control, self.keys.marks(&self.settings.instance).as_bytes(), &now);
            *sealed = Some(now);
        }
        batch.answers_for(count, journal.count());
    }

    /// Begins a plan in the memory of `spare`, which is cleared first.
    pub fn begin(&self, spare: Plan) -> Plan {
        let Plan { mut batch, mut entries, mut journal, .. } = spare;
        batch.clear();
        entries.clear();
        journal.clear();
        Plan { batch, entries, journal, marks: None, before: self.progress.clone() }
    }

    /// Decides what becomes of `item` and adds its records to `plan`, the youngest of the plans that are under way.
    ///
    /// Gives a delivery back when it is done already: nothing of it is to be committed.
    pub fn add(&mut self, plan: &mut Plan, item: Item, now: Now) -> Option<(Delivery, Ending)> {
        match item {
            Item::Note(note) => {
                let (opened, closed) = self.progress.note(note);
                closed.iter().for_each(|gap| write_gap(&mut plan.batch, &self.settings.instance, gap));
                plan.entries.push(Entry::Note { note, opened, closed });
                None
            }
            Item::Delivery(delivery, refused) => self.add_delivery(plan, (delivery, refused), now),
        }
    }

    /// The plan is committed since `at_ms`: tells of each of its entries, in their order. What remains is its memory.
    pub fn commit(&mut self, mut plan: Plan, at_ms: i64, mut tell: impl FnMut(Settled<'_>)) -> Plan {
        if let Some(marks) = plan.marks.take() {
            self.saved = marks;
        }
        let Plan { batch, entries, .. } = &mut plan;
        for entry in entries.drain(..) {
            match entry {
                Entry::Delivery(waiting) => {
                    for ticket in waiting.tickets.into_iter().flatten() {
                        self.window.settle(ticket, at_ms);
                    }
                    if let Some(undo) = waiting.undo {
                        self.versions.settle(undo, at_ms);
                    }
                    let record = waiting.record.and_then(|index| batch.get(index));
                    tell(Settled::Delivery(waiting.delivery, waiting.fate, record));
                }
                Entry::Note { opened, closed, .. } => {
                    opened.into_iter().for_each(|gap| tell(Settled::GapOpened(gap)));
                    closed.into_iter().for_each(|gap| tell(Settled::GapClosed(gap)));
                }
            }
        }
        plan
    }

    /// Nothing of the plan is committed: its ids are released, versions and progress taken back. Its items, in their order.
    pub fn roll_back(&mut self, plan: Plan) -> impl DoubleEndedIterator<Item = Item> {
        for entry in plan.entries.iter().rev() {
            let Entry::Delivery(waiting) = entry else { continue };
            for ticket in waiting.tickets.into_iter().flatten() {
                self.window.release(ticket);
            }
            if let Some(undo) = waiting.undo {
                self.versions.undo(undo);
            }
        }
        self.progress = plan.before;
        plan.entries.into_iter().map(|entry| match entry {
            Entry::Delivery(waiting) => Item::Delivery(waiting.delivery, waiting.refused),
            Entry::Note { note, .. } => Item::Note(note),
        })
    }

    /// Forgets what is older than the window; returns how many ids were forgotten before their time.
    ///
    /// An id that socket or walk will bring again is kept, however old: after an absence longer than the window the
    /// first commit would else forget what the walk is about to find.
    pub fn expire(&mut self, now_ms: i64) -> u64 {
        self.versions.expire(now_ms);
        let again_ms = self.progress.again_from_ms().map(|from_ms| from_ms.saturating_sub(CLOCKS_DISAGREE_MS));
        self.window.expire(now_ms, again_ms)
    }

    fn add_delivery(&mut self, plan: &mut Plan, candidate: Candidate, now: Now) -> Option<(Delivery, Ending)> {
        let bytes = candidate.0.bytes.clone();
        match decode(&bytes) {
            Ok(event) if event.id.len() > KEY_BYTES_MAX => {
                let detail = format!("id is longer than {KEY_BYTES_MAX} bytes");
                self.add_undecodable(
                    plan,
                    candidate,
                    Undecodable { reason: Reason::MissingField, detail, id: None },
                    now,
                )
            }
            Ok(event) => self.add_event(plan, candidate, &event, now),
            Err(mut undecodable) => {
                undecodable.id.take_if(|id| id.len() > KEY_BYTES_MAX);
                self.add_undecodable(plan, candidate, undecodable, now)
            }
        }
    }

    fn add_event(
        &mut self,
        plan: &mut Plan,
        candidate: Candidate,
        event: &Event<'_>,
        now: Now,
    ) -> Option<(Delivery, Ending)> {
        let version = version(event);
        let ahead = now.is_before(version.ms);
        if !ahead && let Some(id) = event.cursor() {
            self.progress.saw(candidate.0.leg, id);
        }
        let event_id = shared(&candidate.0.bytes, &event.id);
        let occurred_at_ms = event.occurred_at_ms();
        let mut fate = Ending { outcome: Outcome::Published, event_id, occurred_at_ms, ahead, ..Ending::nothing() };
        let route = route(&event.event_type);
        if route == Route::Ping || (route == Route::Invoice && !self.settings.invoices) {
            fate.outcome = Outcome::Ignored;
            return Some((candidate.0, fate));
        }
        let ticket = match self.window.claim(event.id.as_bytes(), now.own_ms) {
            Claim::New(ticket) => ticket,
            known => return Self::follow(plan, candidate, fate, known),
        };
        let (delivery, refused) = &candidate;
        fate.recovered = occurred_at_ms.is_some_and(|ms| self.progress.recovers(ms));
        let record = Some(plan.batch.len());
        let written = match (refused, route) {
            (Some(Refused { reason, detail, .. }), _) => Err(Rejection { reason: *reason, detail: detail.clone() }),
            (None, Route::Order) => self.write(plan, Topic::Orders, delivery, event, (version, ahead), now),
            (None, Route::Invoice) => self.write(plan, Topic::Invoices, delivery, event, (version, ahead), now),
            (None, Route::Ping | Route::Unknown) => {
                let detail = format!("type {:?} is none that the relay publishes", event.event_type);
                Err(Rejection { reason: Reason::UnknownType, detail })
            }
        };
        match written {
            Ok(undo) => {
                let (delivery, refused) = candidate;
                let tickets = [Some(ticket), None];
                plan.entries.push(Entry::Delivery(Waiting { delivery, fate, record, tickets, undo, refused }));
                None
            }
            Err(Rejection { reason, detail }) => {
                // What Kafka refuses is whole: a copy of it would be refused again.
                let kept = candidate.1.is_some().then_some(ticket);
                if kept.is_none() {
                    self.window.release(ticket);
                }
                fate.dead_letter = Some((reason, bounded(detail)));
                self.add_dead_letter(plan, candidate, fate, (Some(&event.id), kept), now)
            }
        }
    }

    /// A delivery that is no event that the relay knows: one dead letter for its id, or for the same bytes.
    fn add_undecodable(&mut self, plan: &mut Plan, candidate: Candidate, undecodable: Undecodable, now: Now) -> Done {
        let Undecodable { mut reason, mut detail, id } = undecodable;
        if let Some(refused) = &candidate.1 {
            reason = refused.reason;
            detail.clone_from(&refused.detail);
        }
        let event_id = id.as_deref().map_or_else(Bytes::new, |id| Bytes::copy_from_slice(id.as_bytes()));
        let fate = Ending { event_id, dead_letter: Some((reason, bounded(detail))), ..Ending::nothing() };
        if let Some(id) = &id {
            match self.window.claim(id.as_bytes(), now.own_ms) {
                Claim::New(ticket) => self.window.release(ticket),
                // A whole copy came before: nothing is missing.
                known => return Self::follow(plan, candidate, fate, known),
            }
        }
        self.add_dead_letter(plan, candidate, fate, (id.as_deref(), None), now)
    }

    /// Writes the dead letter of an event's id, or else of the bytes, unless there is one. `kept`: the claim of the id.
    fn add_dead_letter(
        &mut self,
        plan: &mut Plan,
        candidate: Candidate,
        mut fate: Ending,
        (id, kept): (Option<&str>, Option<Ticket>),
        now: Now,
    ) -> Done {
        let key = id.map_or_else(|| digest(&candidate.0.bytes), str::to_owned);
        let ticket = match self.window.claim_dead_letter(key.as_bytes(), now.own_ms) {
            Claim::New(ticket) => ticket,
            known => {
                match kept {
                    // After a restart only the dead letter is known: the event need not be refused again.
                    Some(kept) if known == Claim::Settled => self.window.settle(kept, now.own_ms),
                    Some(kept) => self.window.release(kept),
                    None => {}
                }
                return Self::follow(plan, candidate, fate, known);
            }
        };
        fate.outcome = Outcome::DeadLettered;
        let (delivery, refused) = candidate;
        let record = Some(plan.batch.len());
        if let Some(why) = &fate.dead_letter {
            let digest = refused.as_ref().is_some_and(|refused| refused.digest);
            write_dead_letter(&mut plan.batch, &delivery, id, why, digest);
            plan.journal.push(&entry_of_dead_letter(key.as_bytes()));
        }
        let tickets = [kept, Some(ticket)];
        plan.entries.push(Entry::Delivery(Waiting { delivery, fate, record, tickets, undo: None, refused }));
        None
    }

    /// A copy of what is `known` is done, or follows the first.
    fn follow(plan: &mut Plan, (delivery, refused): Candidate, mut fate: Ending, known: Claim) -> Done {
        fate.outcome = Outcome::Duplicate;
        fate.dead_letter = None;
        if known == Claim::Settled {
            return Some((delivery, fate));
        }
        let tickets = [None, None];
        plan.entries.push(Entry::Delivery(Waiting { delivery, fate, record: None, tickets, undo: None, refused }));
        None
    }

    /// Writes the event's record, and for an order that is not stale the one of `latest`.
    fn write(
        &mut self,
        plan: &mut Plan,
        topic: Topic,
        delivery: &Delivery,
        event: &Event<'_>,
        (version, ahead): (Version, bool),
        now: Now,
    ) -> Result<Option<Undo>, Rejection> {
        let batch = &mut plan.batch;
        let normalized = write_value(batch, topic, event, &self.settings.normalize)?;
        let key = normalized.key.as_bytes();
        let undo = if ahead { None } else { self.versions.advance(topic as u8, key, version, now.own_ms) };
        let names = (self.source.as_str(), self.settings.instance.as_str());
        write_headers(batch, event, &normalized, Origin::of(delivery), names);
        write_schema_id(batch, normalized.kind, &self.settings.schema_ids);
        if undo.is_none() {
            batch.header("relay_stale", b"true");
        } else if normalized.kind == Kind::Order && self.settings.orders_latest {
            batch.repeat_last(Topic::OrdersLatest);
        }
        let version = undo.is_some().then_some(version);
        plan.journal.push(&journal::Entry { account: "", topic, id: event.id.as_bytes(), key, version });
        Ok(undo)
    }
}

impl Plan {
    /// Deliveries and notes that settle with it.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing waits for it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Ending {
    /// Of a delivery about which nothing is known.
    fn nothing() -> Self {
        Self {
            outcome: Outcome::Failed,
            event_id: Bytes::new(),
            occurred_at_ms: None,
            dead_letter: None,
            ahead: false,
            recovered: false,
        }
    }
}

/// The journal's entry for a dead letter of this key.
fn entry_of_dead_letter(key: &[u8]) -> journal::Entry<'_> {
    journal::Entry { account: "", topic: Topic::DeadLetter, id: key, key: &[], version: None }
}

fn version(event: &Event<'_>) -> Version {
    let ms = event.occurred_at_ms().unwrap_or_default();
    Version { ms, seq: event.cursor().map_or(0, |id| id.seq) }
}

/// The id as a share of the delivery's bytes where it stands there unescaped.
fn shared(bytes: &Bytes, id: &str) -> Bytes {
    let start = (id.as_ptr() as usize).wrapping_sub(bytes.as_ptr() as usize);
    if start.checked_add(id.len()).is_some_and(|end| end <= bytes.len()) {
        bytes.slice(start..start + id.len())
    } else {
        Bytes::copy_from_slice(id.as_bytes())
    }
}

#[cfg(test)]
mod tests;

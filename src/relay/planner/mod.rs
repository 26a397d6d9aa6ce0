//! The decisions of the relay: deliveries in, a plan of records and outcomes out.
//!
//! Pure: no socket, clock, log or task; `now` is an argument, and what happens to a plan comes in by
//! [`Planner::commit`] or [`Planner::roll_back`]. Until then nothing that a plan did is final: ids are claimed, not
//! settled; versions are planned and can be taken back; the cursor in a plan's checkpoint counts only once that
//! checkpoint is committed with it.
//!
//! Plans are made one after the other and end in the same order. A plan that rests on an earlier one (it follows a
//! claim of it, or continues its versions) is rolled back before that one is.

mod accounts;
mod inbox;
mod item;
mod now;

use inbox::{Inbox, Taken};

pub use inbox::InboxMark;
pub use item::{Ending, Item, Refused, Settled};
pub use now::{AHEAD_MAX_MS, Now};

use super::dedup::{Claim, Ticket, Window};
use super::journal;
use super::marks::write_gap;
use super::records::{
    KEY_BYTES_MAX, Names, Origin, bounded, digest, write_dead_letter, write_headers, write_schema_id, write_value,
};
use super::versions::{Undo, Version, Versions};
use crate::kafka::shard::Shard;
use crate::kafka::{Batch, Keys};
use crate::labels::{Account, Outcome, Topic};
use crate::legs::{Admission, Delivery, Note};
use crate::normalize::{self, Kind, Rejection, Route, SchemaIds, route};
use crate::provider::Environment;
use crate::provider::event::{Event, Reason, Undecodable, decode};
use crate::relay::progress::{Gap, Known, Progress};
use accounts::{Accounts, Changes};
use bytes::Bytes;
use std::sync::Arc;

/// What the decisions depend on alongside the events.
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
    /// Whose events these are.
    pub shard: Shard,
}

#[cfg(test)]
impl Settings {
    /// Those of a relay of this name in tests: everything is written, and nothing is left out.
    pub(crate) fn in_tests(instance: &str) -> Self {
        let environment = crate::provider::Environment::Devnet;
        Self {
            instance: instance.to_owned(),
            normalize: normalize::Settings { environment, drop: Vec::new(), include_raw: false },
            orders_latest: true,
            invoices: true,
            schema_ids: SchemaIds::default(),
            shard: Shard::SOLE,
        }
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
    /// What it changed of the accounts.
    changes: Changes,
    /// What it takes from the inbox.
    inbox: Taken,
}

#[derive(Debug)]
enum Entry {
    Delivery(Waiting),
    Note { account: Account, note: Note, opened: Option<Gap>, closed: Vec<Gap> },
    Admitted { account: Account, admission: Arc<Admission>, opened: Option<Gap> },
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

/// A delivery, and why Kafka refused its record.
type Candidate = (Delivery, Option<Refused>);

/// A delivery that is done, and how it ended; `None` where it waits in a plan.
type Done = Option<(Delivery, Ending)>;

/// Window, versions and the progress of each account, and the rules that join them.
#[derive(Debug)]
pub struct Planner {
    settings: Settings,
    /// `ce_source` of each account's records.
    sources: Vec<String>,
    window: Window,
    versions: Versions,
    accounts: Accounts,
    inbox: Inbox,
    /// Plans that were begun.
    plans: u64,
}

impl Planner {
    /// Starts from what was read back: ids, versions, and how far each account has come, in their places.
    pub fn new(settings: Settings, window: Window, versions: Versions, accounts: Vec<Known>) -> Self {
        let sources = accounts.iter().map(|known| source(settings.normalize.environment, &known.name)).collect();
        let accounts = Accounts::new(accounts, Keys::of(&settings.instance, settings.shard));
        Self { settings, sources, window, versions, accounts, inbox: Inbox::default(), plans: 0 }
    }

    /// The same, which takes webhooks from the inbox from here on.
    pub fn taking_from(self, inbox: InboxMark) -> Self {
        Self { inbox: Inbox::begin(inbox), ..self }
    }

    /// How far the inbox is taken.
    pub fn inbox(&self) -> InboxMark {
        self.inbox.planned()
    }

    /// How far everything of each account that is served is settled or planned.
    pub fn progress(&self) -> impl Iterator<Item = (Account, &Progress)> {
        self.accounts.served().map(|(account, known)| (account, &known.progress))
    }

    /// The name of an account; empty where accounts have none.
    pub fn name(&self, account: Account) -> &str {
        self.accounts.name(account)
    }

    /// The dedup window, to look at.
    pub fn window(&self) -> &Window {
        &self.window
    }

    /// Adds to a plan that takes nothing more what the control topic has to know of it: the journal of its events, and the
    /// marks where they changed.
    pub(super) fn seal(&mut self, plan: &mut Plan) {
        let count = plan.len();
        let Plan { batch, journal, changes, inbox, .. } = plan;
        let key = self.accounts.keys().journal();
        journal.values().for_each(|value| batch.record(Topic::Control, key.as_bytes(), value));
        self.accounts.seal(changes, batch, &self.settings.schema_ids);
        batch.answers_for(count, journal.count());
        batch.takes_inbox_to(inbox.next());
    }

    /// Begins a plan in the memory of `spare`, which is cleared first.
    pub fn begin(&mut self, spare: Plan) -> Plan {
        let Plan { mut batch, mut entries, mut journal, changes, .. } = spare;
        batch.clear();
        entries.clear();
        journal.clear();
        self.plans += 1;
        let changes = changes.begin(self.plans, &self.accounts);
        Plan { batch, entries, journal, changes, inbox: self.inbox.plan() }
    }

    /// Decides what becomes of `item` and adds its records to `plan`, the youngest of the plans that are under way.
    ///
    /// Gives a delivery back when it is done already: nothing of it is to be committed.
    pub fn add(&mut self, plan: &mut Plan, item: Item, now: Now) -> Option<(Delivery, Ending)> {
        match item {
            Item::Note(account, note) => {
                match note {
                    Note::InboxRead { next, read_ms } => self.inbox.read(&mut plan.inbox, next, read_ms),
                    Note::InboxLost { next, .. } => self.inbox.lose(&mut plan.inbox, next),
                    _ => {}
                }
                let (opened, closed) = self.accounts.note(account, note, &mut plan.changes);
                let (keys, name) = (self.accounts.keys(), self.accounts.name(account));
                closed.iter().for_each(|gap| write_gap(&mut plan.batch, keys, name, gap));
                plan.entries.push(Entry::Note { account, note, opened, closed });
                None
            }
            Item::Admitted(account, admission) => {
                let opened = self.accounts.admit(account, &admission, now, &mut plan.changes);
                let source = source(self.settings.normalize.environment, &admission.name);
                if account.place() == self.sources.len() {
                    self.sources.push(source);
                }
                plan.entries.push(Entry::Admitted { account, admission, opened });
                None
            }
            Item::Delivery(delivery, refused) => self.add_delivery(plan, (delivery, refused), now),
        }
    }

    /// The plan is committed since `at_ms`: calls `tell` for each of its entries, in their order. What remains is its
    /// memory.
    pub fn commit(&mut self, mut plan: Plan, at_ms: i64, mut tell: impl FnMut(Settled<'_>)) -> Plan {
        self.accounts.commit(&mut plan.changes);
        self.inbox.commit(plan.inbox);
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
                Entry::Admitted { account, opened, .. } => {
                    opened.into_iter().for_each(|gap| tell(Settled::GapOpened(account, gap)));
                }
                Entry::Note { account, opened, closed, .. } => {
                    opened.into_iter().for_each(|gap| tell(Settled::GapOpened(account, gap)));
                    closed.into_iter().for_each(|gap| tell(Settled::GapClosed(account, gap)));
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
        self.accounts.roll_back(plan.changes);
        self.inbox.roll_back(plan.inbox);
        plan.entries.into_iter().map(|entry| match entry {
            Entry::Delivery(waiting) => Item::Delivery(waiting.delivery, waiting.refused),
            Entry::Note { account, note, .. } => Item::Note(account, note),
            Entry::Admitted { account, admission, .. } => Item::Admitted(account, admission),
        })
    }

    /// Forgets what is older than the window; returns how many ids were forgotten before their time.
    ///
    /// An id that socket or walk will bring again is kept, however old: after an absence longer than the window the
    /// first commit would else forget what the walk is about to find. And a webhook that waits in the inbox was appended while
    /// the id of its first copy was known: the window ends for what comes from now on, and not for what is there already.
    pub fn expire(&mut self, now_ms: i64) -> u64 {
        self.versions.expire(now_ms);
        let window = self.window.span();
        let until_ms = self.inbox.planned().unread_since_ms.map_or(now_ms, |since_ms| since_ms.min(now_ms));
        self.window.expire(until_ms, |account| self.accounts.again_from_ms(account, window))
    }

    fn add_delivery(&mut self, plan: &mut Plan, candidate: Candidate, now: Now) -> Option<(Delivery, Ending)> {
        let bytes = candidate.0.bytes.clone();
        self.inbox.take(&mut plan.inbox, candidate.0.inbox);
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
        let Delivery { account, leg, .. } = candidate.0;
        let mut progress = self.accounts.change(account, &mut plan.changes);
        if !ahead && let (Some(id), Some(progress)) = (event.cursor(), &mut progress) {
            progress.saw(leg, id);
        }
        let event_id = shared(&candidate.0.bytes, &event.id);
        let occurred_at_ms = event.occurred_at_ms();
        let mut fate = Ending { outcome: Outcome::Published, event_id, occurred_at_ms, ahead, ..Ending::nothing() };
        let route = route(&event.event_type);
        if route == Route::Ping || (route == Route::Invoice && !self.settings.invoices) {
            fate.outcome = Outcome::Ignored;
            return Some((candidate.0, fate));
        }
        let ticket = match self.window.claim(account, event.id.as_bytes(), now.own_ms) {
            Claim::New(ticket) => ticket,
            known => return Self::follow(plan, candidate, fate, known),
        };
        let (delivery, refused) = &candidate;
        fate.recovered = occurred_at_ms.zip(progress).is_some_and(|(ms, progress)| progress.recovers(ms));
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
            match self.window.claim(candidate.0.account, id.as_bytes(), now.own_ms) {
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
        let account = candidate.0.account;
        let ticket = match self.window.claim_dead_letter(account, key.as_bytes(), now.own_ms) {
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
            let name = self.accounts.name(account);
            write_dead_letter(&mut plan.batch, &delivery, id, why, digest, name);
            plan.journal.push(&entry_of_dead_letter(name, key.as_bytes()));
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
        let account = self.accounts.name(delivery.account);
        let source = self.sources.get(delivery.account.place()).map_or("", String::as_str);
        let names = Names { source, instance: &self.settings.instance, account };
        write_headers(batch, event, &normalized, Origin::of(delivery), names);
        write_schema_id(batch, normalized.kind, &self.settings.schema_ids);
        if undo.is_none() {
            batch.header("relay_stale", b"true");
        } else if normalized.kind == Kind::Order && self.settings.orders_latest {
            batch.repeat_last(Topic::OrdersLatest);
        }
        let version = undo.is_some().then_some(version);
        plan.journal.push(&journal::Entry { account, topic, id: event.id.as_bytes(), key, version });
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

/// The journal's entry for a dead letter of this key.
fn entry_of_dead_letter<'j>(account: &'j str, key: &'j [u8]) -> journal::Entry<'j> {
    journal::Entry { account, topic: Topic::DeadLetter, id: key, key: &[], version: None }
}

/// `ce_source` of an account's records: two events of one id are two events where it differs (CloudEvents 1.0, section
/// "source").
pub(super) fn source(environment: Environment, account: &str) -> String {
    let environment = environment.as_str();
    if account.is_empty() { format!("/pepay/{environment}") } else { format!("/pepay/{environment}/{account}") }
}

fn version(event: &Event<'_>) -> Version {
    let ms = event.occurred_at_ms().unwrap_or_default();
    Version { ms, seq: event.cursor().map_or(0, |id| id.seq) }
}

/// The id as a share of the delivery's bytes where it is there unescaped.
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

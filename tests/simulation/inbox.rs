//! The inbox: the process that gets a webhook appends it and answers, and the relay that serves takes it from there.
//!
//! What was appended may be appended again, because its answer did not come; may wait for long; and may be deleted unread.

use crate::bugs::Bug;
use crate::provider::{Event, Fate, SECOND};
use crate::relay::ANSWER_MS;
use crate::world::{Do, Step, World};
use bytes::Bytes;
use futures::FutureExt;
use pepay_relay::kafka::inbox::{Ends, appended_after, begin};
use pepay_relay::legs::Note;
use pepay_relay::relay::planner::InboxMark;
use std::collections::{BTreeMap, VecDeque};

/// Between two looks at where the inbox ends.
const LOOK_EVERY_MS: i64 = 5000;
/// What is appended is published within this time once all faults are over.
const TAKEN_WITHIN_MS: i64 = 30_000;
/// Between two deletions of what is old.
pub const DELETED_EVERY_MS: i64 = 10_000;

/// The topic, and who waits for an answer.
#[derive(Debug, Default)]
pub struct Inbox {
    pub records: Vec<Queued>,
    /// What is before it is deleted.
    pub low: usize,
    /// Webhooks that are not answered, by their number, and where they came to.
    waiting: BTreeMap<u64, (Door, Letter)>,
}

/// A webhook in the inbox.
#[derive(Clone, Copy, Debug)]
pub struct Queued {
    pub event: usize,
    defective: bool,
    received_at_ms: i64,
    /// By the clock of who appended it, and by the world's.
    appended_ms: i64,
    at_ms: i64,
}

/// Where webhooks come to: a process of a node, or a relay of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Door {
    node: Option<usize>,
    process: u64,
}

/// A webhook on its way into the inbox: its number, which it is, and for which time it is sent.
#[derive(Clone, Copy, Debug)]
pub struct Letter {
    ticket: u64,
    event: usize,
    attempt: u32,
}

/// What becomes of a webhook at a door.
#[derive(Clone, Copy, Debug)]
pub enum Post {
    Came(Letter),
    Appended(Letter),
    /// It is answered: whether it is queued.
    Answered(u64, bool),
    GivenUp(u64),
}

/// What a relay takes webhooks from.
#[derive(Debug)]
pub struct Taking {
    /// The offset of the next record that is read.
    next: i64,
    /// Where it began, and after what time that was appended which waited there.
    begins: (i64, Option<i64>),
    /// What is read and not handed on.
    out: VecDeque<Read>,
    reading: bool,
    /// How far it was taken when a batch was refused, as a seeded mistake keeps it.
    refused: Option<i64>,
}

#[derive(Debug)]
enum Read {
    Webhook(Queued, i64),
    Looked { next: i64, read_ms: i64 },
    Lost { next: i64 },
}

impl Inbox {
    fn ends(&self) -> Ends {
        Ends { low: self.low as i64, high: self.records.len() as i64 }
    }
}

impl World {
    /// A webhook is sent to a process that takes webhooks for the inbox.
    pub fn send_to_door(&mut self, event: usize, attempt: u32) {
        let outsider = self.living().filter(|&relay| self.is_cluster() && self.relays[relay].node.is_none());
        if let Some(relay) = outsider.filter(|_| self.rng.chance(300)) {
            let delay = self.rng.range(1, 300);
            return self.step(relay, delay, Step::WebhookCame(event, attempt));
        }
        let doors: Vec<Door> = match self.is_cluster() {
            true => {
                let living = (0..self.nodes.len()).filter(|&node| self.nodes[node].alive);
                living.map(|node| Door { node: Some(node), process: self.nodes[node].process }).collect()
            }
            false => self.living().map(|relay| Door { node: None, process: relay as u64 }).into_iter().collect(),
        };
        let Some(last) = doors.len().checked_sub(1) else { return self.retry_webhook(event, attempt) };
        let door = doors[self.rng.range(0, last as i64) as usize];
        self.counter += 1;
        let letter = Letter { ticket: self.counter, event, attempt };
        self.inbox.waiting.insert(letter.ticket, (door, letter));
        let delay = self.rng.range(1, 300);
        self.after(delay, Do::Post(door, Post::Came(letter)));
        self.after(delay + ANSWER_MS, Do::Post(door, Post::GivenUp(letter.ticket)));
    }

    /// Until when a process is frozen and how far its clock is ahead; none where it is gone.
    fn behind(&self, door: Door) -> Option<(i64, i64)> {
        match door.node {
            Some(node) => {
                let node = &self.nodes[node];
                (node.alive && node.process == door.process).then_some((node.frozen_until, node.offset_ms))
            }
            None => {
                let relay = self.relays.get(door.process as usize).filter(|relay| relay.alive)?;
                Some((relay.frozen_until, relay.offset_ms))
            }
        }
    }

    pub fn post(&mut self, door: Door, post: Post) {
        if let Post::GivenUp(ticket) = post {
            return self.asks_again(ticket);
        }
        let Some((frozen_until, ahead_ms)) = self.behind(door) else {
            if let Post::Came(Letter { ticket, .. }) = post {
                self.asks_again(ticket);
            }
            return;
        };
        if frozen_until > self.now {
            return self.at(frozen_until, Do::Post(door, post));
        }
        match post {
            Post::Came(letter) => {
                let delay = self.rng.range(1, 200);
                self.after(delay, Do::Post(door, Post::Appended(letter)));
            }
            Post::Appended(letter) => self.append_webhook(door, letter, ahead_ms),
            Post::Answered(ticket, false) => self.asks_again(ticket),
            Post::Answered(ticket, true) => {
                if let Some((_, Letter { event, .. })) = self.inbox.waiting.remove(&ticket) {
                    self.judge_queued(event);
                }
            }
            Post::GivenUp(_) => {}
        }
    }

    /// Also where the provider has given up meanwhile.
    fn append_webhook(&mut self, door: Door, letter: Letter, ahead_ms: i64) {
        let Letter { ticket, event, attempt } = letter;
        let answer = self.rng.range(1, 50);
        if !self.kafka.up {
            return self.after(answer, Do::Post(door, Post::Answered(ticket, false)));
        }
        let defective = attempt == 0 && self.provider.events[event].defective.is_some();
        let (at_ms, theirs_ms) = (self.now, self.now + ahead_ms);
        self.inbox.records.push(Queued { event, defective, received_at_ms: theirs_ms, appended_ms: theirs_ms, at_ms });
        let (twice, unanswered) = self.scenario.inbox.as_ref().map_or((0, 0), |inbox| (inbox.twice, inbox.unanswered));
        if self.active && self.rng.chance(twice) {
            let again = self.rng.range(1, ANSWER_MS);
            self.after(again, Do::Post(door, Post::Appended(letter)));
        }
        let stands = !(self.active && self.rng.chance(unanswered));
        self.after(answer, Do::Post(door, Post::Answered(ticket, stands)));
        (0..self.relays.len()).for_each(|number| self.read_soon(number));
    }

    /// The provider has no answer, or none by which the webhook is queued.
    fn asks_again(&mut self, ticket: u64) {
        if let Some((_, Letter { event, attempt, .. })) = self.inbox.waiting.remove(&ticket) {
            self.retry_webhook(event, attempt);
        }
    }

    /// A process of a node is gone, and with it the connections of those that wait.
    pub fn door_shuts(&mut self, node: usize) {
        let at_it = |door: &Door| door.node == Some(node);
        let tickets: Vec<u64> =
            self.inbox.waiting.iter().filter(|(_, (door, ..))| at_it(door)).map(|(ticket, _)| *ticket).collect();
        tickets.into_iter().for_each(|ticket| self.asks_again(ticket));
    }

    /// The inbox keeps nothing for longer than this.
    pub fn delete_old_webhooks(&mut self) {
        let Some(retention_ms) = self.scenario.inbox.as_ref().and_then(|inbox| inbox.retention_ms) else { return };
        while let Some(queued) =
            self.inbox.records.get(self.inbox.low).filter(|one| one.appended_ms < self.now - retention_ms)
        {
            let event = queued.event;
            if self.inbox.low as i64 >= self.oracle.inbox_taken {
                self.oracle.accepted.remove(&event);
            }
            self.inbox.low += 1;
        }
        self.after(DELETED_EVERY_MS, Do::DeleteWebhooks);
    }

    /// The inbox as a start finds it.
    pub fn open_inbox(&mut self, number: usize) {
        let outside = self.is_cluster() && self.relays[number].node.is_none();
        if self.scenario.inbox.is_none() || outside {
            return;
        }
        let from = self.relays[number].claim.predecessor.as_ref().and_then(|predecessor| predecessor.inbox);
        let (next, lost) = begin(from, self.inbox.ends());
        let unread_ms = self.inbox.records.get(next as usize).map(|oldest| appended_after(oldest.appended_ms));
        let out = lost.then_some(Read::Lost { next }).into_iter().collect();
        self.relays[number].taking =
            Some(Taking { next, begins: (next, unread_ms), out, reading: false, refused: None });
    }

    /// After what time that was appended which waits in the inbox.
    pub fn unread_ms(&self, number: usize) -> Option<i64> {
        self.relays[number].taking.as_ref()?.begins.1
    }

    /// Where the pipeline begins to take from the inbox.
    pub fn inbox_mark(&self, number: usize) -> InboxMark {
        let Some(Taking { begins: (next, unread_ms), .. }) = self.relays[number].taking else {
            return InboxMark::default();
        };
        let mark = InboxMark::begin(next, unread_ms);
        if self.scenario.has(Bug::ForgetsWhileUnread) { InboxMark { unread_since_ms: None, ..mark } } else { mark }
    }

    /// The relay takes what is there from now on.
    pub fn take_from_inbox(&mut self, number: usize) {
        if self.relays[number].taking.is_some() {
            self.inbox_look(number);
            self.step(number, 1, Step::InboxEnds);
        }
    }

    /// Reads what was appended, unless it is about to.
    fn read_soon(&mut self, number: usize) {
        let relay = &mut self.relays[number];
        let takes = relay.alive && relay.pipeline.is_some();
        if let Some(taking) = relay.taking.as_mut().filter(|taking| takes && !taking.reading) {
            taking.reading = true;
            let delay = self.rng.range(1, 50);
            self.step(number, delay, Step::InboxRead);
        }
    }

    /// Until when nothing can be read from the inbox.
    fn stalled_until(&self) -> Option<i64> {
        let (from_ms, to_ms) = self.scenario.stall()?;
        (from_ms..to_ms).contains(&self.now).then_some(to_ms)
    }

    pub fn inbox_read(&mut self, number: usize) {
        let until = if self.kafka.up { self.stalled_until() } else { Some(self.now + 500) };
        if let Some(until) = until {
            return self.step(number, until - self.now, Step::InboxRead);
        }
        let ends = self.inbox.ends();
        let count = self.rng.range(1, 8);
        let Some(taking) = &mut self.relays[number].taking else { return };
        taking.reading = false;
        if taking.next < ends.low {
            let (next, lost) = begin(Some(taking.next), ends);
            taking.next = next;
            taking.out.extend(lost.then_some(Read::Lost { next }));
        }
        for _ in 0..count {
            let Some(queued) = self.inbox.records.get(taking.next as usize) else { break };
            taking.next += 1;
            taking.out.push_back(Read::Webhook(*queued, taking.next));
        }
        self.inbox_look(number);
    }

    /// Where the inbox ends now.
    pub fn inbox_ends(&mut self, number: usize) {
        let high = self.inbox.ends().high;
        let now = self.now;
        let relay = &mut self.relays[number];
        let read_ms = if self.scenario.has(Bug::ForgetsWhileUnread) { i64::MAX } else { relay.now(now).own_ms };
        if let Some(taking) = relay.taking.as_mut().filter(|taking| self.kafka.up && taking.next == high) {
            taking.out.push_back(Read::Looked { next: high, read_ms });
        }
        self.inbox_look(number);
        self.step(number, LOOK_EVERY_MS, Step::InboxEnds);
    }

    /// Hands on what was read, as far as there is room for it; then reads on.
    pub fn inbox_look(&mut self, number: usize) {
        let relay = &mut self.relays[number];
        let at_ms = relay.provider_ms(self.now);
        let Some(taking) = &mut relay.taking else { return };
        while let Some(read) = taking.out.front() {
            match *read {
                Read::Webhook(queued, next) => {
                    let Event { account, .. } = &self.provider.events[queued.event];
                    let bytes = queued.bytes(&self.provider.events[queued.event]);
                    let intake = if *account == SECOND { &relay.second } else { &relay.intake };
                    let offered = intake.offer_from_inbox(bytes, queued.received_at_ms, None, next);
                    if offered.now_or_never().is_none() {
                        self.turn_soon(number);
                        return self.look_later(number);
                    }
                }
                Read::Looked { next, read_ms } => {
                    relay.intake.note(Note::InboxRead { next, read_ms }).unwrap_or_default();
                }
                Read::Lost { next } => [&relay.intake, &relay.second].into_iter().for_each(|intake| {
                    intake.note(Note::InboxLost { next, at_ms }).unwrap_or_default();
                }),
            }
            taking.out.pop_front();
        }
        let more = taking.next < self.inbox.records.len() as i64;
        self.turn_soon(number);
        if more {
            self.read_soon(number);
        }
    }

    /// How far the inbox is taken, as a checkpoint has it: what is committed with it, unless a seeded mistake takes
    /// more.
    pub fn inbox_told(&self, number: usize, committed: Option<i64>) -> Option<i64> {
        let relay = &self.relays[number];
        let planned = relay.pipeline.as_ref().and_then(|pipeline| pipeline.inbox().next);
        let ahead = planned.filter(|_| self.scenario.has(Bug::InboxAheadOfItsBatch));
        let refused = relay.taking.as_ref().and_then(|taking| taking.refused);
        committed.max(ahead).max(refused)
    }

    /// A batch was refused: a seeded mistake does not take back what it took from the inbox.
    pub fn inbox_refused(&mut self, number: usize) {
        let relay = &mut self.relays[number];
        let next = relay.pipeline.as_ref().and_then(|pipeline| pipeline.inbox().next);
        if let Some(taking) = relay.taking.as_mut().filter(|_| self.scenario.has(Bug::InboxNotRolledBack)) {
            taking.refused = taking.refused.max(next);
        }
    }

    /// A webhook was answered because it is in the inbox.
    fn judge_queued(&mut self, event: usize) {
        if self.provider.events[event].fate == Fate::Ignored {
            self.oracle.ignored.insert(event);
        }
        self.oracle.accepted.insert(event);
    }
}

impl Inbox {
    /// Whether a copy of the event was appended so late that a relay may not have come to it.
    pub fn has_just(&self, event: usize, now: i64) -> bool {
        self.records.iter().rev().take_while(|one| one.at_ms > now - TAKEN_WITHIN_MS).any(|one| one.event == event)
    }
}

impl Queued {
    fn bytes(&self, event: &Event) -> Bytes {
        event.defective.as_ref().filter(|_| self.defective).unwrap_or(&event.bytes).clone()
    }
}

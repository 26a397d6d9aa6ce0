//! What must hold: checked at every commit by what the transaction makes visible, and at the end by what is there.

use crate::kafka::{Record, State};
use crate::line::VALUE_BYTES_MAX;
use crate::provider::{Event, Fate, HISTORY_MS, Provider};
use crate::scenario::{OVERLAP_MS, START_MS};
use crate::world::World;
use bytes::Bytes;
use pepay_relay::labels::Topic;
use pepay_relay::legs::backfill::reconcile::Period;
use pepay_relay::relay::{Version, resume};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// The floor of versions is never younger than this: what is forgotten is older than the window, even with clocks that
/// disagree by 10 minutes each way and events that are 10 minutes ahead.
const FLOOR_MS: i64 = 5 * 60_000;

/// What is in Kafka, as `read_committed` will show it.
#[derive(Debug, Default)]
pub struct Oracle {
    pub failure: Option<String>,
    /// Topic and event of each record that is in Kafka.
    stands: HashSet<(Topic, usize)>,
    /// Newest version of each key, of the records that are not stale.
    newest: HashMap<(Topic, Vec<u8>), Version>,
    /// The same of each event whose journal Kafka still has.
    known: HashMap<(Topic, Vec<u8>), HashMap<usize, Version>>,
    /// What is there, and may come again, once: Kafka lost the relay's memory of it.
    forgiven: HashSet<(Topic, usize)>,
    /// Transactions that a late end tore and that their relay has not made good yet. What is visible of them counts for
    /// nothing.
    torn: Vec<usize>,
    /// Pings that were answered.
    pub ignored: HashSet<usize>,
    /// Events that were answered 2xx.
    pub accepted: HashSet<usize>,
    closed_gaps: HashSet<u64>,
    /// When the first checkpoint of all was committed: what the log forgot before is no promise of anybody.
    began_ms: Option<i64>,
    /// Times that a relay reported as not proven: losses are tolerated there alone.
    unproven: Vec<Period>,
    /// A relay reported that its memory is not whole.
    pub forgot: bool,
    /// The run that was claimed last, of a cluster or of none.
    pub holder: Option<String>,
    /// The offset up to which by the newest checkpoint the inbox is taken.
    pub inbox_taken: i64,
    /// The hold ended before its walk: events may be stale.
    pub hold_was_over: bool,
}

impl Oracle {
    pub fn fail(&mut self, failure: impl Into<String>) {
        self.failure.get_or_insert(failure.into());
    }

    /// Kafka has lost what the control topic held of gaps.
    pub fn forget_gaps(&mut self) {
        self.closed_gaps.clear();
    }

    fn forgive(&mut self, topic: Topic, event: usize) {
        if self.stands.contains(&(topic, event)) {
            self.forgiven.insert((topic, event));
        }
        for (_, versions) in self.known.iter_mut().filter(|((of, _), _)| *of == topic) {
            versions.remove(&event);
        }
    }

    /// The relay's memory is gone, and a person sets from when on events are to be fetched again.
    pub fn forgive_all(&mut self) {
        self.forgiven.clone_from(&self.stands);
        self.known.clear();
        self.forget_gaps();
    }

    /// Nothing is left in any topic, so that nobody can know that there was a relay.
    pub fn begin_anew(&mut self) {
        self.forgive_all();
        self.began_ms = None;
    }

    fn bears_loss_at(&self, ms: i64) -> bool {
        self.unproven.iter().any(|period| (period.from_ms..=period.to_ms).contains(&ms))
    }

    /// Whether the event is where it belongs, or as a dead letter: of a defective copy, or of itself.
    pub fn has(&self, event: usize) -> bool {
        [Topic::Orders, Topic::Invoices, Topic::DeadLetter]
            .into_iter()
            .any(|topic| self.stands.contains(&(topic, event)))
    }
}

impl World {
    /// Whether an event that the log shows is there as it has to be. A dead letter of a defective copy is not the
    /// event.
    fn is_whole(&self, number: usize) -> bool {
        let published = [Topic::Orders, Topic::Invoices].map(|topic| self.oracle.stands.contains(&(topic, number)));
        match self.provider.events[number].defective {
            Some(_) => published.contains(&true),
            None => self.oracle.has(number),
        }
    }

    /// Whether the event may be missing: its time is reported as unproven, or it was the log's to forget before there
    /// was a relay. One that the log still shows is wanted in any case.
    fn bears_loss_of(&self, event: &Event) -> bool {
        let before_all = self.oracle.began_ms.is_none_or(|began_ms| event.ms < began_ms);
        let forgotten = before_all && !Provider::shows(&self.scenario, event, self.now);
        // By its id it is older than the history that was asked for.
        event.old || forgotten || self.oracle.bears_loss_at(event.ms)
    }

    /// A late end has committed what there is of a transaction.
    pub fn judge_torn(&mut self, transaction: usize) {
        self.oracle.torn.push(transaction);
    }

    /// A transaction commits: where its relay tore one before it, that is made good, or will be by the restart. Another
    /// relay cannot know of it, and goes on from what it finds.
    fn make_good(&mut self, transaction: usize) {
        let relay = self.kafka.transactions[transaction].relay;
        for torn in std::mem::take(&mut self.oracle.torn) {
            let torn = &self.kafka.transactions[torn];
            let seen = torn.records.iter().any(|(topic, _)| *topic == Topic::Control);
            if torn.relay != relay && seen {
                for (topic, event) in &torn.events {
                    self.oracle.stands.insert((*topic, *event));
                    self.oracle.forgive(*topic, *event);
                }
            }
        }
    }

    /// Kafka has lost records of the control topic that this transaction wrote.
    pub fn judge_lost(&mut self, transaction: usize) {
        let lost = &mut self.kafka.transactions[transaction];
        lost.forgotten = true;
        if matches!(lost.state, State::Decided | State::Committed) {
            self.forgive(transaction);
        }
    }

    /// The events of a transaction may come again, and its gaps may close again.
    fn forgive(&mut self, transaction: usize) {
        let forgiven = &self.kafka.transactions[transaction];
        for (topic, event) in &forgiven.events {
            self.oracle.forgive(*topic, *event);
        }
        for (topic, index) in &forgiven.records {
            if let Some(gap) = self.kafka.log(*topic)[*index].closes_gap {
                self.oracle.closed_gaps.remove(&gap);
            }
        }
    }

    /// The coordinator has decided to commit: nothing can take this transaction back.
    pub fn judge_commit(&mut self, transaction: usize) {
        self.make_good(transaction);
        self.judge_records(transaction);
        self.judge_checkpoint(transaction);
        if self.kafka.transactions[transaction].forgotten {
            self.forgive(transaction);
        }
    }

    fn judge_records(&mut self, transaction: usize) {
        let records = self.kafka.transactions[transaction].records.clone();
        let mut closed = false;
        for (topic, index) in &records {
            let record = self.kafka.log(*topic)[*index].clone();
            if let Some(event) = record.event {
                self.judge_record(*topic, event, &record);
            }
            closed |= record.closes_gap.is_some();
            if record.closes_gap.is_some_and(|id| !self.oracle.closed_gaps.insert(id)) {
                self.oracle.fail(format!("gap {:?} closed twice", record.closes_gap));
            }
        }
        self.oracle.began_ms.get_or_insert(self.now);
        let marks = records.iter().find_map(|(topic, index)| {
            let record = &self.kafka.log(*topic)[*index];
            record.value.clone().filter(|_| record.key == b"relay/marks/a")
        });
        let Some(marks) = marks else { return };
        let overlap = Duration::from_millis(OVERLAP_MS as u64);
        let progress = resume(Some(&marks), overlap);
        if progress.gaps().len() > 100 {
            self.oracle.fail("P5: more gaps than the bound");
        }
        // P1, at once: no walk will look at what is older than the mark, so it must be there. What a closed gap
        // promises reaches further, up to `verified`.
        let mark = if closed { progress.verified_ms() } else { progress.walk_from_ms() };
        let Some(mark) = mark else { return };
        for (number, event) in self.provider.events.iter().enumerate() {
            let logged = event.visible_ms.is_some_and(|ms| ms <= self.now);
            let awaited = !self.is_whole(number) && !event.future && !self.bears_loss_of(event);
            if logged && (HISTORY_MS..mark).contains(&event.ms) && awaited {
                let ms = event.ms - START_MS;
                self.oracle.fail(format!("P1: event {number} of {ms} ms is behind the mark and does not stand"));
                return;
            }
        }
    }

    fn judge_record(&mut self, topic: Topic, event: usize, record: &Record) {
        let known = &self.provider.events[event];
        if !self.oracle.stands.insert((topic, event)) && !self.oracle.forgiven.remove(&(topic, event)) {
            // A relay that reported that its memory is not whole may repeat, marked; an event that was ahead of its
            // time is newer than the floor.
            let ahead = known.visible_ms.is_none_or(|ms| known.ms > ms);
            if self.oracle.forgot && (record.stale || topic == Topic::DeadLetter || ahead) {
                return;
            }
            return self.oracle.fail(format!("P2: event {event} stands twice in {topic:?}"));
        }
        let wanted = match known.fate {
            Fate::Order => matches!(topic, Topic::Orders | Topic::OrdersLatest),
            Fate::Invoice => topic == Topic::Invoices,
            Fate::DeadLetter => topic == Topic::DeadLetter,
            Fate::Ignored => false,
        };
        // A broker that takes few records at once may refuse even a single order.
        if !wanted && topic != Topic::DeadLetter {
            self.oracle.fail(format!("event {event} stands in {topic:?}"));
        }
        let good = matches!(known.fate, Fate::Order | Fate::Invoice) && known.bytes.len() < VALUE_BYTES_MAX;
        if record.refused && good {
            self.oracle.fail(format!("P1: Kafka takes event {event}, and it became a dead letter"));
        }
        if topic == Topic::DeadLetter {
            return;
        }
        if record.stale && self.oracle.forgot {
            return;
        }
        if record.stale {
            let newest = self.oracle.newest.get(&(topic, record.key.clone()));
            let overtaken = newest.is_some_and(|newest| known.version() < *newest);
            if !overtaken && !known.future && known.ms > self.now - FLOOR_MS {
                self.oracle.fail(format!("P3: event {event} is stale, and nothing newer was published for its key"));
            }
            // The socket may bring an event that the log forgets before the walk comes to it.
            let walked = Provider::shows(&self.scenario, known, self.now);
            if self.scenario.orderly && walked && !self.oracle.hold_was_over {
                self.oracle.fail(format!("P3: event {event} is stale without a reason"));
            }
            return;
        }
        let version = known.version();
        let key = (topic, record.key.clone());
        let versions = self.oracle.known.entry(key.clone()).or_default();
        let goes_back = versions.values().any(|newer| version < *newer);
        versions.insert(event, version);
        let newest = self.oracle.newest.entry(key).or_insert(version);
        *newest = version.max(*newest);
        if goes_back {
            self.oracle.fail(format!("P3: event {event} goes back in {topic:?} and is not marked"));
        }
    }

    /// These events were taken for some of the future, by whatever clocks.
    pub fn judge_ahead(&mut self, ids: &[Bytes]) {
        for id in ids {
            let known = |event: &&Event| event.text_id.as_ref().is_some_and(|text| text.as_bytes() == id);
            if let Some(event) = self.provider.events.iter().find(known).filter(|event| !event.future) {
                let ms = event.ms - START_MS;
                self.oracle.fail(format!("P3: the event of {ms} ms is taken for one of the future"));
            }
        }
    }

    /// A relay reports that the log does not reach back over this time, by a walk that began at `began_ms`.
    pub fn judge_unproven(&mut self, period: Period, began_ms: i64) {
        let Period { from_ms, to_ms } = period;
        let held = self.provider.events.iter().position(|event| {
            event.visible_ms.is_some_and(|ms| ms <= began_ms)
                && Provider::shows(&self.scenario, event, self.now)
                && (from_ms + 1..to_ms - 1000).contains(&event.ms)
        });
        if let Some(number) = held {
            self.oracle.fail(format!("{period:?} is said to be unproven, and the log holds event {number} of it"));
        }
        self.oracle.unproven.push(period);
    }

    /// A webhook was answered 2xx.
    pub fn judge_answer(&mut self, event: usize) {
        if self.provider.events[event].fate == Fate::Ignored {
            self.oracle.ignored.insert(event);
        } else if !self.oracle.has(event) {
            self.oracle.fail(format!("P4: event {event} was answered 2xx and does not stand"));
        }
        self.oracle.accepted.insert(event);
    }

    /// Everything has been calm for a while.
    pub fn judge_end(&mut self) -> Result<(), String> {
        for (number, event) in self.provider.events.iter().enumerate() {
            let reached = self.provider.leads_to(&self.scenario, number, self.now);
            if event.visible_ms.is_some() && reached && !self.is_whole(number) && !self.bears_loss_of(event) {
                return Err(format!("P1: event {number} of {} ms is lost", event.ms - START_MS));
            }
            if self.oracle.accepted.contains(&number)
                && !self.oracle.ignored.contains(&number)
                && !self.oracle.has(number)
                && !self.inbox.has_just(number, self.now)
            {
                return Err(format!("P1: event {number} was accepted and is lost"));
            }
        }
        let alive = self.relays.iter().filter(|relay| relay.alive).count();
        if alive != 1 {
            return Err(format!("P7: {alive} relays run"));
        }
        let open = self.kafka.transactions.iter().filter(|one| one.state == State::Open && !one.foreign).count();
        if open > 1 {
            return Err(format!("{open} transactions are open"));
        }
        let owner = self.owner.and_then(|(node, _)| self.nodes[node].relay);
        if self.is_cluster() && owner != self.living() {
            return Err(format!(
                "P7: relay {:?} runs, and the group has given the shard to {:?}",
                self.living(),
                self.owner
            ));
        }
        let relay = self.living().map(|relay| &self.relays[relay]);
        let Some(pipeline) = relay.and_then(|relay| relay.pipeline.as_ref()) else {
            return Err("P1: the relay is not ready".to_owned());
        };
        // A defective copy has a dead letter of its own.
        if pipeline.window().len() > 2 * self.provider.events.len() {
            return Err("P5: more ids than events and dead letters".to_owned());
        }
        Ok(())
    }
}

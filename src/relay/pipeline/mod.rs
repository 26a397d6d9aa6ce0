//! The order in which batches are planned, sent, split and settled: the relay's loop without its waiting.
//!
//! At most one batch is with Kafka, and exactly one more is being planned while it is there, so that the next can
//! leave the moment the first is committed: latency is one commit when quiet, and batches grow with the load.
//!
//! Marks leave only together with the batch that they describe: a checkpoint of its own is an empty batch, and there is
//! none while anything is planned.
//!
//! A batch that Kafka refuses for the size or shape of a record is sent again in halves, down to the one delivery at
//! fault, which becomes a dead letter; a broker's limit is on what arrives together, so a thousand small records can
//! be refused for ever when they are only sent again as they were. Pure, like the planner.

use super::dedup::Window;
use super::planner::{InboxMark, Item, Now, Plan, Planner, Refused, Settled};
use super::progress::Progress;
use crate::kafka::{Batch, Refusal};
use crate::labels::Account;
use crate::legs::Delivery;
use crate::provider::event::Reason;
use std::collections::VecDeque;

/// Deliveries of one batch. Measured alongside 10,000: at 4,000 a transaction's fixed cost shows (3 to 7 % fewer events a
/// second), but an eighth less memory is held, and with `latest` an event costs 8 % less processor time. This is between.
pub const BATCH_DELIVERIES_MAX: usize = 5_000;

/// Bytes at which a batch is full: it takes no further delivery. Bounds what librdkafka holds alongside it, and how long
/// a commit takes.
pub const BATCH_BYTES_MAX: usize = 16 << 20;

/// Even the dead letter of one delivery was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "Kafka refuses even the dead letter that replaces a refused record ({detail}): raise `max.message.bytes` of that topic above 2 KiB"
)]
pub struct NoWayOut {
    /// Kafka's words.
    pub detail: String,
}

/// What the pipeline holds, for the one that decides when to send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// How many new deliveries may be added now.
    pub room: usize,
    /// Deliveries and notes that are planned, or wait to be planned again.
    pub planned: usize,
    /// A batch or a checkpoint is with Kafka.
    pub sent: bool,
}

/// The planner, the batch with Kafka, the batch being planned, and what waits to be planned.
#[derive(Debug)]
pub struct Pipeline {
    planner: Planner,
    /// Deliveries to be planned before any new one; filled only when a batch is refused.
    queue: VecDeque<Item>,
    /// Lengths of the parts of a refused batch at the head of the queue, each to be sent alone.
    parts: VecDeque<usize>,
    /// The plan that takes deliveries.
    open: Plan,
    /// The plan whose batch is with Kafka.
    sent: Option<Plan>,
    /// The memory of the plan that was settled last.
    spare: Plan,
    bound: Bound,
}

/// How much one batch may hold: less after one did not reach Kafka in time, and more again with each that did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bound {
    deliveries: usize,
    bytes: usize,
}

impl Bound {
    const MAX: Self = Self { deliveries: BATCH_DELIVERIES_MAX, bytes: BATCH_BYTES_MAX };

    /// Half of a batch that was too slow.
    fn half_of(deliveries: usize, bytes: usize) -> Self {
        Self { deliveries: (deliveries / 2).max(1), bytes: (bytes / 2).max(1) }
    }

    /// A sixteenth more, so that a line which just takes what it is given is not soon overrun again.
    fn grown(self) -> Self {
        let more = |now: usize, max: usize| now.saturating_add(now / 16 + 1).min(max);
        Self { deliveries: more(self.deliveries, Self::MAX.deliveries), bytes: more(self.bytes, Self::MAX.bytes) }
    }
}

impl Pipeline {
    /// Nothing planned, nothing sent.
    pub fn new(mut planner: Planner) -> Self {
        let open = planner.begin(Plan::default());
        let queue = VecDeque::new();
        let parts = VecDeque::new();
        let spare = Plan::default();
        Self { planner, queue, parts, open, sent: None, spare, bound: Bound::MAX }
    }

    /// How far everything of each account that is served is settled or planned.
    pub fn progress(&self) -> impl Iterator<Item = (Account, &Progress)> {
        self.planner.progress()
    }

    /// The name of an account; empty where accounts have none.
    pub fn name(&self, account: Account) -> &str {
        self.planner.name(account)
    }

    /// How far the inbox is taken.
    pub fn inbox(&self) -> InboxMark {
        self.planner.inbox()
    }

    /// The dedup window, to look at.
    pub fn window(&self) -> &Window {
        self.planner.window()
    }

    /// What is inside now.
    pub fn load(&self) -> Load {
        Load { room: self.room(), planned: self.queue.len() + self.open.len(), sent: self.sent.is_some() }
    }

    /// How many new deliveries may be added now.
    pub fn room(&self) -> usize {
        let full = self.open.batch.bytes() >= self.bound.bytes || !self.queue.is_empty();
        if full { 0 } else { self.bound.deliveries.saturating_sub(self.open.len()) }
    }

    /// Deliveries inside: waiting, planned or with Kafka.
    pub fn inside(&self) -> usize {
        self.queue.len() + self.open.len() + self.sent.as_ref().map_or(0, Plan::len)
    }

    /// Plans a delivery or a note; there must be [`room`](Self::room).
    pub fn add(&mut self, item: Item, now: Now, tell: &mut impl FnMut(Settled<'_>)) {
        self.plan(item, now, tell);
    }

    /// The batch to send now, with its journal and marks; none while one is with Kafka or nothing is planned.
    pub fn next(&mut self, now: Now, tell: &mut impl FnMut(Settled<'_>)) -> Option<Batch> {
        while self.sent.is_none() {
            self.plan_queue(now, tell);
            if self.open.is_empty() {
                return None;
            }
            let fresh = self.planner.begin(std::mem::take(&mut self.spare));
            let mut plan = std::mem::replace(&mut self.open, fresh);
            if plan.batch.is_empty() {
                // Copies only, whose first ones are committed by now, or notes, which the next checkpoint will hold: a note
                // that is lost with the relay is covered by the gap that a restart opens.
                self.spare = self.planner.commit(plan, now.own_ms, &mut *tell);
                continue;
            }
            self.planner.seal(&mut plan);
            let batch = std::mem::take(&mut plan.batch);
            self.sent = Some(plan);
            return Some(batch);
        }
        None
    }

    /// A checkpoint of its own: a batch of nothing but the marks of what is committed, where they changed. None while a batch is with Kafka or
    /// anything is planned, whose marks leave with it.
    pub fn checkpoint(&mut self) -> Option<Batch> {
        let Load { planned, sent, .. } = self.load();
        if planned > 0 || sent {
            return None;
        }
        let mut plan = self.planner.begin(std::mem::take(&mut self.spare));
        self.planner.seal(&mut plan);
        let batch = std::mem::take(&mut plan.batch);
        self.sent = Some(plan);
        Some(batch)
    }

    /// The batch with Kafka is committed since `at_ms`.
    pub fn committed(&mut self, batch: Batch, at_ms: i64, tell: &mut impl FnMut(Settled<'_>)) {
        if let Some(mut plan) = self.sent.take() {
            plan.batch = batch;
            self.bound = self.bound.grown();
            self.spare = self.planner.commit(plan, at_ms, tell);
        }
    }

    /// The batch with Kafka was refused and nothing of it is committed: it is planned again, in halves. A checkpoint is
    /// not: the next batch or checkpoint brings newer marks.
    ///
    /// One ladder for all refusals: several deliveries are halved; a single one becomes a dead letter, with its bytes where
    /// they were not refused for their size, and at last with a digest of them.
    pub fn refused(&mut self, batch: Batch, refusal: Refusal, detail: &str) -> Result<(), NoWayOut> {
        let Some(sent) = self.sent.take().filter(|sent| !sent.is_empty()) else { return Ok(()) };
        if refusal == Refusal::Slow {
            self.bound = Bound::half_of(sent.len(), batch.bytes());
        }
        // The younger plan may follow claims of the refused one, so it is taken back first.
        let open = std::mem::take(&mut self.open);
        self.requeue(open);
        let count = self.requeue(sent);
        self.spare.batch = batch;
        self.open = self.planner.begin(std::mem::take(&mut self.spare));
        match self.queue.front_mut() {
            Some(Item::Delivery(_, refused)) if count == 1 => {
                let worse = worse(refused.take(), refusal, detail);
                *refused = Some(worse.ok_or_else(|| NoWayOut { detail: detail.to_owned() })?);
                self.parts.push_front(1);
            }
            Some(Item::Note(..) | Item::Admitted(..)) if count == 1 => {
                return Err(NoWayOut { detail: detail.to_owned() });
            }
            _ => {
                self.parts.push_front(count - count / 2);
                self.parts.push_front(count / 2);
            }
        }
        Ok(())
    }

    /// Takes everything back that is not settled, for good: the deliveries are left to the provider.
    pub fn abandon(&mut self) -> Vec<Delivery> {
        let open = std::mem::take(&mut self.open);
        self.requeue(open);
        if let Some(sent) = self.sent.take() {
            self.requeue(sent);
        }
        let deliveries = self.queue.drain(..).filter_map(|item| match item {
            Item::Delivery(delivery, _) => Some(delivery),
            Item::Note(..) | Item::Admitted(..) => None,
        });
        deliveries.collect()
    }

    /// Forgets what is older than the window; returns how many ids were forgotten before their time.
    pub fn expire(&mut self, now_ms: i64) -> u64 {
        self.planner.expire(now_ms)
    }

    /// Plans what was refused before, one part a batch; the rest once all parts are committed.
    fn plan_queue(&mut self, now: Now, tell: &mut impl FnMut(Settled<'_>)) {
        while self.open.is_empty() && !self.queue.is_empty() {
            let count = self.parts.pop_front().unwrap_or(self.bound.deliveries);
            for _ in 0..count {
                if self.open.batch.bytes() >= self.bound.bytes {
                    break;
                }
                let Some(item) = self.queue.pop_front() else { break };
                self.plan(item, now, tell);
            }
        }
    }

    fn plan(&mut self, item: Item, now: Now, tell: &mut impl FnMut(Settled<'_>)) {
        if let Some((delivery, fate)) = self.planner.add(&mut self.open, item, now) {
            tell(Settled::Delivery(delivery, fate, None));
        }
    }

    /// Rolls a plan back to the head of the queue; returns how many deliveries it had.
    fn requeue(&mut self, plan: Plan) -> usize {
        let count = plan.len();
        let items = self.planner.roll_back(plan);
        for item in items.rev() {
            self.queue.push_front(item);
        }
        count
    }
}

/// The next rung for a single delivery that was refused, after the one that it was on; none where there is none left.
fn worse(before: Option<Refused>, refusal: Refusal, detail: &str) -> Option<Refused> {
    match (before, refusal) {
        (None, Refusal::Size) => Some(Refused { reason: Reason::TooLarge, detail: detail.to_owned(), digest: true }),
        (None, Refusal::Invalid | Refusal::Slow) => {
            Some(Refused { reason: Reason::InvalidRecord, detail: detail.to_owned(), digest: false })
        }
        (Some(refused), _) if !refused.digest => Some(Refused { digest: true, ..refused }),
        (Some(_), _) => None,
    }
}

#[cfg(test)]
mod tests;

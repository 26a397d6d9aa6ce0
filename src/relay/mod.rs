//! The relay's loop: whatever has arrived becomes one Kafka transaction, and each delivery learns how it ended.
//!
//! While one batch commits, the next one gathers (group commit). All decisions are in [`pipeline`] and [`planner`], which
//! know no clock and no Kafka; this file waits, measures, logs and answers.

mod board;
mod dedup;
mod lru;
pub mod pipeline;
pub mod planner;
pub mod progress;
mod records;
pub mod replay;
mod versions;
mod window_builder;

pub use dedup::{Claim, Ticket, Window};
use records::gap_closed_by;
pub use records::resume;
pub use versions::{Version, Versions};
pub use window_builder::WindowBuilder;

use self::pipeline::Pipeline;
use self::planner::{Ending, Item, Now, Settled};
use crate::clock::{Clock, now_ms};
use crate::kafka::{Batch, Marks, Publisher, Record, Stop, Verdict};
use crate::labels::Outcome;
use crate::legs::Position;
use crate::legs::{Arrival, Delivery, IntakeReceiver};
use crate::relay::progress::Gap;
use crate::telemetry::{Board, Health, Metrics, Phase};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// How often an idle relay commits a checkpoint: often enough to notice within 15 s that another relay took over.
pub const IDLE_CHECKPOINT_EVERY: Duration = Duration::from_secs(10);

/// Deliveries that are planned between two looks at the producer: about a millisecond's work, so that a commit that is
/// done is soon followed by the next one. With whole batches planned in one go, the producer waited for 40 ms now and then.
const TURN_DELIVERIES_MAX: usize = 256;

/// After a commit that answered webhooks, the next batch waits this fraction of the commit's time at most for as many
/// new deliveries as were answered: their senders are free again and about to send. Without it they split into two
/// groups that take turns, each waiting for the other's commit: transactions half as large, and answers twice as late.
pub const GATHER_FRACTION: u32 = 2;

/// The longest such wait: a commit that Kafka delayed says nothing about how long senders take. Measured with 256 and
/// 1,024 senders: half the time and 8 ms give transactions and throughput a fifth larger than a quarter and 4 ms do.
pub const GATHER_MAX: Duration = Duration::from_millis(8);

/// Once the first of them is there, the others are looked for this often: each of them would wake this thread, which on
/// a small machine costs the sender and the thread as much as half an event does.
pub const GATHER_PAUSE: Duration = Duration::from_micros(200);

/// The wait for senders that are free again.
#[derive(Clone, Copy, Debug)]
struct Gather {
    /// New deliveries that end it.
    wanted: usize,
    /// The first of them is there.
    begun: bool,
    /// When it ends without them.
    until: Instant,
}

/// The loop and all that it holds.
#[derive(Debug)]
pub struct Relay {
    /// What is decided.
    pub pipeline: Pipeline,
    /// Where batches go.
    pub publisher: Publisher,
    /// Where deliveries come from.
    pub intake: IntakeReceiver,
    /// What time it is, here and at the provider.
    pub clock: Arc<Clock>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Told of every turn.
    pub health: Arc<Health>,
    /// What operators see of it.
    pub board: Arc<Board>,
    /// Tells the legs where the socket resumes and where walks begin.
    pub position: watch::Sender<Position>,
    /// How long Kafka may take for what is under way when the loop has to leave.
    pub close_deadline: Duration,
}

/// How the loop ended.
#[derive(Debug)]
pub struct Ended {
    /// Deliveries that were inside and are left to the provider.
    pub left: usize,
    /// Why it ended, unless the intake was closed and everything was settled.
    pub why: Option<Stop>,
}

impl Relay {
    /// Runs until the intake is closed and everything inside is settled, until Kafka leaves no way on, or until
    /// `abandon`, which leaves what is inside to the provider.
    pub async fn run(mut self, abandon: CancellationToken) -> Ended {
        let mut arrived = Vec::with_capacity(TURN_DELIVERIES_MAX);
        // What arrived when the plan was full of bytes; the next plan begins with it.
        let mut waiting = VecDeque::new();
        let mut tick = interval_at(Instant::now() + IDLE_CHECKPOINT_EVERY, IDLE_CHECKPOINT_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut busy = false;
        let mut open = true;
        let mut unsaved = false;
        let mut sent_at = Instant::now();
        let mut gather: Option<Gather> = None;
        let why = loop {
            self.take(&mut waiting);
            gather.take_if(|gather| gather.wanted == 0 || !open || self.pipeline.room() == 0);
            if !busy
                && gather.is_none()
                && let Some((batch, marks)) = self.next()
            {
                self.publisher.submit(batch, marks);
                (busy, unsaved, sent_at) = (true, false, Instant::now());
                tick.reset();
            }
            if !waiting.is_empty() && self.pipeline.room() > 0 {
                // What was planned is on its way, or was settled without a transaction: there is room for what waits.
                continue;
            }
            if !busy && !open && self.pipeline.inside() == 0 {
                if !unsaved {
                    break None;
                }
                self.checkpoint();
                (busy, unsaved) = (true, false);
            }
            self.metrics.dedup_ids(self.pipeline.planner().window().len());
            self.metrics.intake_bytes(self.intake.bytes());
            self.tell_position();
            self.health.turned(now_ms());
            self.metrics.ready(self.health.phase() == Phase::Ready);
            self.metrics.gaps_open(self.pipeline.planner().progress().gaps().len());
            let room = if waiting.is_empty() { self.pipeline.room().min(TURN_DELIVERIES_MAX) } else { 0 };
            let begun = gather.is_some_and(|gather| gather.begun);
            if begun {
                #[expect(clippy::disallowed_methods, reason = "this thread serves nobody else")]
                std::thread::sleep(GATHER_PAUSE);
            }
            tokio::select! {
                biased;
                () = abandon.cancelled() => break None,
                (batch, verdict) = self.publisher.verdict(), if busy => {
                    busy = false;
                    match self.judge(batch, verdict) {
                        Ok(answered) => gather = Gather::after(answered, sent_at.elapsed()),
                        Err(why) => break Some(why),
                    }
                }
                () = gathered(gather) => gather = None,
                count = self.intake.recv_many(&mut arrived, room), if open && room > 0 => {
                    open = count > 0;
                    unsaved |= open;
                    if let Some(gather) = &mut gather {
                        gather.wanted = gather.wanted.saturating_sub(count);
                        gather.begun = true;
                    }
                    waiting.extend(arrived.drain(..));
                }
                _ = tick.tick() => {
                    // Also while Kafka is away the loop turns, and the watchdog sees it.
                    if !busy {
                        self.checkpoint();
                        (busy, unsaved) = (true, false);
                    }
                }
                () = tokio::task::yield_now(), if begun => {}
            }
        };
        let left = self.abandon(waiting);
        self.publisher.close(self.close_deadline).await;
        Ended { left, why }
    }

    /// Tells the legs how far everything is planned. What is planned is not committed yet, but it cannot be lost
    /// while this process lives; when it dies, the next one goes by the committed checkpoint.
    pub fn tell_position(&self) {
        let position = self.pipeline.planner().progress().position();
        self.position.send_if_modified(|told| std::mem::replace(told, position) != position);
    }

    /// Shows operators what was read back, before the first batch.
    pub fn tell_board(&self) {
        let core = self.pipeline.planner();
        self.board.update(|inside| {
            inside.open = core.progress().gaps().iter().map(board::story).collect();
            board::look(inside, core, now_ms());
        });
    }

    /// Plans what arrived, as far as there is room.
    fn take(&mut self, waiting: &mut VecDeque<Arrival>) {
        let now = self.now();
        while self.pipeline.room() > 0
            && let Some(arrival) = waiting.pop_front()
        {
            let item = match arrival {
                Arrival::Delivery(delivery) => {
                    self.health.event(delivery.leg, delivery.received_at_ms);
                    Item::Delivery(delivery, None)
                }
                Arrival::Note(note) => Item::Note(note),
            };
            self.pipeline.add(item, now, &mut |told| tell(&self.metrics, &self.board, now.ms, told));
        }
    }

    fn next(&mut self) -> Option<(Batch, Marks)> {
        let now = self.now();
        self.pipeline.next(now, &mut |told| tell(&self.metrics, &self.board, now.ms, told))
    }

    /// A transaction of nothing but the checkpoint.
    fn checkpoint(&mut self) {
        self.publisher.submit(Batch::default(), self.pipeline.planner().marks());
    }

    /// Settles or halves the batch; how many webhooks were answered.
    fn judge(&mut self, batch: Batch, verdict: Result<Verdict, Stop>) -> Result<usize, Stop> {
        match verdict? {
            Verdict::Committed { at_ms } => {
                let latest = board::latest(&batch);
                let mut answered = 0;
                self.pipeline.committed(batch, at_ms, &mut |told| {
                    answered +=
                        usize::from(matches!(&told, Settled::Delivery(delivery, ..) if delivery.reply.is_some()));
                    tell(&self.metrics, &self.board, at_ms, told);
                });
                forgotten_early(&self.metrics, self.pipeline.expire(at_ms));
                self.board.update(|inside| {
                    inside.committed_ms = Some(at_ms);
                    latest.into_iter().for_each(|latest| inside.order(latest));
                    board::look(inside, self.pipeline.planner(), at_ms);
                });
                Ok(answered)
            }
            Verdict::Refused { detail, .. } => {
                info!(detail, deliveries = self.pipeline.inside(), "batch refused: sending it again in halves");
                self.pipeline.refused(batch, &detail).map_err(|error| Stop::Fatal(error.to_string()))?;
                Ok(0)
            }
        }
    }

    /// What is inside is not settled: it is left to the provider, and whoever waits for it is told.
    fn abandon(&mut self, waiting: VecDeque<Arrival>) -> usize {
        let mut left = self.pipeline.abandon();
        self.intake.close();
        let mut queued = Vec::new();
        self.intake.drain(&mut queued);
        left.extend(waiting.into_iter().chain(queued).filter_map(|arrival| match arrival {
            Arrival::Delivery(delivery) => Some(delivery),
            Arrival::Note(_) => None,
        }));
        for delivery in &left {
            self.metrics.outcome(delivery.leg, Outcome::Failed);
        }
        left.len()
    }

    fn now(&self) -> Now {
        Now { ms: now_ms(), provider_ms: self.clock.provider_ms() }
    }
}

impl Gather {
    /// The wait after a commit that took `took` and answered so many; none where nobody was answered.
    fn after(answered: usize, took: Duration) -> Option<Self> {
        let until = Instant::now() + (took / GATHER_FRACTION).min(GATHER_MAX);
        (answered > 0).then_some(Self { wanted: answered, begun: false, until })
    }
}

/// Until the wait is over; never without one.
async fn gathered(gather: Option<Gather>) {
    match gather {
        Some(gather) => sleep_until(gather.until).await,
        None => std::future::pending().await,
    }
}

/// Counts, logs and answers what is done.
fn tell(metrics: &Metrics, board: &Board, now_ms: i64, told: Settled<'_>) {
    match told {
        Settled::Delivery(delivery, fate, record) => settle(metrics, now_ms, delivery, &fate, record),
        Settled::GapOpened(gap) => {
            opened(metrics, &gap);
            board.update(|inside| inside.open.push(board::story(&gap)));
        }
        Settled::GapClosed(gap) => {
            info!(gap = gap.id, recovered = gap.recovered, by = gap_closed_by(&gap), "gap closed");
            board.update(|inside| inside.close(board::story(&gap)));
        }
    }
}

/// Counts and logs a gap that is open from now on.
pub fn opened(metrics: &Metrics, gap: &Gap) {
    metrics.gap_opened();
    info!(gap = gap.id, cause = gap.cause.as_str(), "gap opened");
}

/// Counts and warns of ids that had to make room before their time: their events would be published again.
pub fn forgotten_early(metrics: &Metrics, ids: u64) {
    if ids > 0 {
        metrics.dedup_evicted_early(ids);
        warn!(ids, "event ids forgotten before their time: raise dedup.ids_max");
    }
}

fn settle(metrics: &Metrics, now_ms: i64, delivery: Delivery, fate: &Ending, record: Option<Record<'_>>) {
    let Delivery { leg, received_at_ms, reply, .. } = delivery;
    let outcome = fate.outcome;
    metrics.outcome(leg, outcome);
    if fate.recovered {
        metrics.recovered(leg, 1);
    }
    if let Some(occurred_at_ms) = fate.occurred_at_ms {
        metrics.event_lag(leg, seconds(received_at_ms.saturating_sub(occurred_at_ms)));
    }
    if matches!(outcome, Outcome::Published | Outcome::DeadLettered) {
        metrics.publish_duration(leg, seconds(now_ms.saturating_sub(received_at_ms)));
    }
    let event_id = || String::from_utf8_lossy(&fate.event_id);
    if let Some((reason, detail)) = &fate.dead_letter {
        warn!(event_id = %event_id(), %leg, reason = reason.as_str(), detail, "event dead-lettered");
    }
    if fate.ahead && outcome == Outcome::Published {
        warn!(event_id = %event_id(), %leg, "event from the future: it moves neither the cursor nor latest");
    }
    if tracing::enabled!(tracing::Level::DEBUG) {
        let order_id = record.map(|record| String::from_utf8_lossy(record.key())).unwrap_or_default();
        debug!(event_id = %event_id(), %order_id, %leg, outcome = outcome.as_str(), "delivery settled");
    }
    if let Some(reply) = reply {
        // The peer may have given up waiting; it will ask again and be told that it is a duplicate.
        let _ = reply.send(outcome);
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds for a histogram; a clock's milliseconds fit 52 bits")]
fn seconds(ms: i64) -> f64 {
    ms.max(0) as f64 / 1000.0
}

#[cfg(test)]
mod tests;

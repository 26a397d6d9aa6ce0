//! The relay's loop: whatever has arrived becomes one Kafka transaction, and each delivery learns how it ended.
//!
//! All decisions are pure: [`turn`] decides when to send and to wait, [`pipeline`] and [`planner`] decide what,
//! [`start`] decides what the relay begins with. This file waits, measures, logs and answers.

mod board;
mod dedup;
pub mod journal;
mod lines;
mod lru;
mod marks;
pub mod pipeline;
pub mod planner;
pub mod progress;
mod records;
pub mod replay;
pub mod start;
pub mod turn;
mod versions;

pub use dedup::{Claim, Ticket, Window};
pub use lines::Lines;
use marks::gap_closed_by;
pub use marks::{recall, resume};
pub use records::KEY_BYTES_MAX;
pub use versions::{Version, Versions};

use self::pipeline::Pipeline;
use self::planner::{Ending, Item, Now, Settled};
use self::turn::{Event, GATHER_PAUSE, IDLE_CHECKPOINT_EVERY, Next, TURN_DELIVERIES_MAX, Turn, Wait};
use crate::clock::{Clock, Moment};
use crate::kafka::{Batch, Publisher, Record, Stop, Verdict};
use crate::labels::{Account, Outcome};
use crate::legs::{Arrival, Delivery, IntakeReceiver, Note, Position};
use crate::relay::progress::Gap;
use crate::telemetry::{Board, Health, Metrics};
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// All that the loop works with.
#[derive(Debug)]
pub struct Relay {
    /// Whose events these are.
    pub shard: i32,
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
    /// Informed of every turn.
    pub health: Arc<Health>,
    /// What operators see of it.
    pub board: Arc<Board>,
    /// The accounts, each in its place.
    pub accounts: Vec<Served>,
    /// How often it warns.
    pub lines: Lines,
    /// How long Kafka may take for what is under way when the loop has to leave.
    pub close_deadline: Duration,
}

/// An account whose events the loop takes.
#[derive(Clone, Debug)]
pub struct Served {
    /// Its name; empty where accounts have none.
    pub name: String,
    /// Shows its legs where the socket resumes and where walks begin.
    pub position: watch::Sender<Position>,
}

/// The loop between two turns.
#[derive(Debug)]
struct Running {
    relay: Relay,
    turn: Turn,
    /// The moment from which the turn's times count.
    began: Instant,
    arrived: Vec<Arrival>,
    /// What arrived when the plan was full of bytes; the next plan begins with it.
    waiting: VecDeque<Arrival>,
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
    ///
    /// Not async itself, because it pauses for less than a timer can: it has its thread and `runtime` for itself.
    pub fn run(self, runtime: &Runtime, abandon: &CancellationToken) -> Ended {
        let mut running = Running::new(self);
        let why = loop {
            let Some(wait) = running.decide() else { break None };
            if wait.pause {
                #[expect(clippy::disallowed_methods, reason = "between two waits; this thread serves nobody else")]
                std::thread::sleep(GATHER_PAUSE);
            }
            if let ControlFlow::Break(why) = runtime.block_on(running.wait(wait, abandon)) {
                break why;
            }
        };
        runtime.block_on(running.leave(why))
    }

    /// Shows the legs how far everything is planned. What is planned is not committed yet, but it cannot be lost
    /// while this process lives; when it dies, the next one goes by the committed checkpoint.
    pub fn tell_position(&self) {
        let window = self.pipeline.window().span();
        for (account, progress) in self.pipeline.progress() {
            let position = progress.position(window);
            // While an admission is taken back, its legs keep what they knew before.
            if position.walk_from_ms.is_none() {
                continue;
            }
            if let Some(Served { position: told, .. }) = self.accounts.get(account.place()) {
                told.send_if_modified(|told| std::mem::replace(told, position) != position);
            }
        }
    }

    /// Shows operators what was read back, before the first batch.
    pub fn tell_board(&self) {
        self.board.update(self.shard, |inside| {
            inside.open = board::open(&self.pipeline);
            board::look(inside, &self.pipeline, self.now());
        });
    }

    /// Shows what changes with every turn.
    fn measure(&self) {
        self.metrics.dedup_ids(self.shard, self.pipeline.window().len());
        self.metrics.intake_bytes(self.shard, self.intake.bytes());
        self.tell_position();
        self.health.turned(Instant::now().into_std());
        self.metrics.gaps_open(self.shard, self.pipeline.progress().map(|(_, progress)| progress.gaps().len()).sum());
    }

    fn add(&mut self, arrival: Arrival, now: Now) {
        let item = match arrival {
            Arrival::Delivery(delivery) => {
                self.health.event(delivery.leg, delivery.received_at_ms);
                Item::Delivery(delivery, None)
            }
            Arrival::Note(account, note) => {
                if note == Note::Retired {
                    self.retire(account);
                }
                Item::Note(account, note)
            }
            Arrival::Admitted(account, admission, position) => {
                self.admit(account, &admission.name, position);
                Item::Admitted(account, admission)
            }
        };
        let Self { pipeline, accounts, metrics, board, lines, shard, .. } = self;
        let report = Report { shard: *shard, accounts, metrics, board, lines, now_ms: now.ms };
        pipeline.add(item, now, &mut |settled| report.settled(settled));
    }

    /// The legs of this account learn from here on where it is.
    fn admit(&mut self, account: Account, name: &str, position: watch::Sender<Position>) {
        let served = Served { name: name.to_owned(), position };
        match self.accounts.get_mut(account.place()) {
            Some(known) => *known = served,
            None => self.accounts.push(served),
        }
    }

    /// The gaps of an account that is not served are not shown.
    fn retire(&self, account: Account) {
        let name = self.accounts.get(account.place()).map(|served| served.name.as_str());
        self.board.update(self.shard, |inside| inside.open.retain(|gap| gap.account.as_deref() != name));
    }

    fn next(&mut self) -> Option<Batch> {
        let now = self.now();
        let Self { pipeline, accounts, metrics, board, lines, shard, .. } = self;
        let report = Report { shard: *shard, accounts, metrics, board, lines, now_ms: now.ms };
        pipeline.next(now, &mut |settled| report.settled(settled))
    }

    /// Settles or halves the batch; how many webhooks were answered.
    fn settle(&mut self, batch: Batch, verdict: Result<Verdict, Stop>) -> Result<usize, Stop> {
        match verdict? {
            Verdict::Committed { at_ms } => {
                let latest = board::latest(&batch);
                let mut answered = 0;
                let now = self.now();
                let Self { pipeline, accounts, metrics, board, lines, shard, .. } = self;
                let report = Report { shard: *shard, accounts, metrics, board, lines, now_ms: at_ms };
                pipeline.committed(batch, now.own_ms, &mut |settled| {
                    answered += usize::from(settled.answers());
                    report.settled(settled);
                });
                self.lines.forgotten_early(&self.metrics, self.pipeline.expire(now.own_ms));
                self.board.update(self.shard, |inside| {
                    inside.committed_ms = Some(at_ms);
                    latest.into_iter().for_each(|latest| inside.order(latest));
                    board::look(inside, &self.pipeline, Now { ms: at_ms, ..now });
                });
                Ok(answered)
            }
            Verdict::Refused { refusal, detail } => {
                info!(detail, deliveries = self.pipeline.inside(), "batch refused: sending it again in halves");
                self.pipeline.refused(batch, refusal, &detail).map_err(|error| Stop::Fatal(error.to_string()))?;
                Ok(0)
            }
        }
    }

    /// What is inside is not settled: it is left to the provider, and what waits for it is answered so.
    fn abandon(&mut self, waiting: VecDeque<Arrival>) -> usize {
        let mut left = self.pipeline.abandon();
        self.intake.close();
        let mut queued = Vec::new();
        self.intake.drain(&mut queued);
        left.extend(waiting.into_iter().chain(queued).filter_map(|arrival| match arrival {
            Arrival::Delivery(delivery) => Some(delivery),
            Arrival::Note(..) | Arrival::Admitted(..) => None,
        }));
        for delivery in &left {
            self.metrics.outcome(delivery.leg, Outcome::Failed);
        }
        left.len()
    }

    fn now(&self) -> Now {
        Now::at(Moment::now(), &self.clock.provider())
    }
}

impl Running {
    fn new(relay: Relay) -> Self {
        let turn = Turn::new(Duration::ZERO, IDLE_CHECKPOINT_EVERY);
        let arrived = Vec::with_capacity(TURN_DELIVERIES_MAX);
        Self { relay, turn, began: Instant::now(), arrived, waiting: VecDeque::new() }
    }

    /// Plans and sends as the turn decides, until there is something to wait for; nothing when everything is done.
    fn decide(&mut self) -> Option<Wait> {
        loop {
            self.take();
            let next = self.turn.next(self.began.elapsed(), self.relay.pipeline.load());
            let sent = match next {
                Next::Submit => self.relay.next(),
                Next::Checkpoint { .. } => self.relay.pipeline.checkpoint(),
                Next::Wait(wait) => {
                    self.relay.measure();
                    return Some(wait);
                }
                Next::End => return None,
            };
            if let Some(batch) = sent {
                self.relay.publisher.submit(batch, next == Next::Checkpoint { left: true });
                self.on(Event::Submitted);
            }
        }
    }

    /// Waits for the next event; breaks off when the loop has to leave, with Kafka's reason if it is Kafka's.
    async fn wait(&mut self, wait: Wait, abandon: &CancellationToken) -> ControlFlow<Option<Stop>> {
        let Wait { until, room, pause } = wait;
        let Self { relay, arrived, .. } = self;
        tokio::select! {
            biased;
            () = abandon.cancelled() => return ControlFlow::Break(None),
            (batch, verdict) = relay.publisher.verdict(), if relay.pipeline.load().sent => {
                match relay.settle(batch, verdict) {
                    Ok(answered) => self.on(Event::Verdict { answered }),
                    Err(why) => return ControlFlow::Break(Some(why)),
                }
            }
            count = relay.intake.recv_many(arrived, room), if room > 0 => {
                self.waiting.extend(self.arrived.drain(..));
                if count == 0 {
                    self.on(Event::Closed);
                }
            }
            () = sleep_until(self.began + until) => {}
            () = yield_now(), if pause => {}
        }
        ControlFlow::Continue(())
    }

    /// Leaves what is not settled to the provider.
    async fn leave(mut self, why: Option<Stop>) -> Ended {
        let left = self.relay.abandon(self.waiting);
        self.relay.publisher.close(self.relay.close_deadline).await;
        Ended { left, why }
    }

    /// Plans what arrived, as far as there is room.
    fn take(&mut self) {
        let before = self.waiting.len();
        if before == 0 {
            return;
        }
        let now = self.relay.now();
        while self.relay.pipeline.load().room > 0
            && let Some(arrival) = self.waiting.pop_front()
        {
            self.relay.add(arrival, now);
        }
        if self.waiting.len() < before {
            self.on(Event::Arrived(before - self.waiting.len()));
        }
    }

    fn on(&mut self, event: Event) {
        self.turn.on(self.began.elapsed(), event);
    }
}

/// What it takes to count, log and answer what is done.
struct Report<'r> {
    shard: i32,
    accounts: &'r [Served],
    metrics: &'r Metrics,
    board: &'r Board,
    lines: &'r Lines,
    now_ms: i64,
}

impl Report<'_> {
    fn settled(&self, settled: Settled<'_>) {
        match settled {
            Settled::Delivery(delivery, fate, record) => self.delivery(delivery, &fate, record),
            Settled::GapOpened(account, gap) => {
                let name = self.name(account);
                opened(self.metrics, name, &gap);
                self.board.update(self.shard, |inside| inside.open.push(board::story(name, &gap)));
            }
            Settled::GapClosed(account, gap) => {
                let account = self.name(account);
                info!(gap = gap.id, account, recovered = gap.recovered, by = gap_closed_by(&gap), "gap closed");
                self.board.update(self.shard, |inside| inside.close(board::story(account, &gap)));
            }
        }
    }

    fn delivery(&self, delivery: Delivery, fate: &Ending, record: Option<Record<'_>>) {
        let Self { metrics, lines, now_ms, .. } = *self;
        let Delivery { account, leg, received_at_ms, reply, .. } = delivery;
        let account = self.name(account);
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
        if let Some((reason, detail)) = &fate.dead_letter
            && let Some(count) = lines.dead_letter(*reason)
        {
            warn!(event_id = %event_id(), account, %leg, reason = reason.as_str(), detail, count, "event dead-lettered");
        }
        if fate.ahead
            && outcome == Outcome::Published
            && let Some(count) = lines.ahead()
        {
            warn!(event_id = %event_id(), account, %leg, count, "event from the future: it moves neither the cursor nor latest");
        }
        if tracing::enabled!(tracing::Level::DEBUG) {
            let order_id = record.map(|record| String::from_utf8_lossy(record.key())).unwrap_or_default();
            debug!(event_id = %event_id(), account, %order_id, %leg, outcome = outcome.as_str(), "delivery settled");
        }
        if let Some(reply) = reply {
            // The peer may have given up waiting; it will ask again and be answered that it is a duplicate.
            let _ = reply.send(outcome);
        }
    }

    /// The name of an account, where it has one.
    fn name(&self, account: Account) -> Option<&str> {
        self.accounts.get(account.place()).map(|served| served.name.as_str()).filter(|name| !name.is_empty())
    }
}

/// Counts and logs a gap of an account that is open from now on.
pub fn opened(metrics: &Metrics, account: Option<&str>, gap: &Gap) {
    metrics.gap_opened();
    info!(gap = gap.id, account, cause = gap.cause.as_str(), "gap opened");
}

#[expect(clippy::cast_precision_loss, reason = "seconds for a histogram; a clock's milliseconds fit 52 bits")]
fn seconds(ms: i64) -> f64 {
    ms.max(0) as f64 / 1000.0
}

#[cfg(test)]
mod tests;

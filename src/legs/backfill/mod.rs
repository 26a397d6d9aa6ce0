//! The backfill leg: walks the provider's event log, at the start, after each reconnect and on a slow timer, and hands
//! on what it finds, oldest first.
//!
//! Every walk begins at the same mark, `verified − overlap`, whatever started it, so that none can leave a hole that
//! another one takes for filled. A page that cannot be had is asked for until it is there: the socket goes on meanwhile.
//! What to ask for and what to hand on is [`walk`]'s decision, when to walk is [`rounds`]'; this file waits, counts and logs.

pub mod reconcile;
pub mod rounds;
mod unproven;
pub mod walk;

use super::walks::Walks;
use super::{Intake, IntakeClosed, Note, PAUSE_VISIBLE, Position, REFUSED_RETRY, RETRY_AFTER_MAX};
use crate::clock::{Clock, Moment, millis, now_ms};
use crate::config;
use crate::labels::{Leg, Outcome};
use crate::provider::EventId;
use crate::provider::page::Listed;
use crate::provider::rest::{Rest, RestError};
use crate::telemetry::{Health, LegState, Metrics};
use bytes::Bytes;
use rand::RngExt;
use rounds::{RETRY_MAX, RETRY_MIN, Rounds};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use walk::{Step, Taken, Walk, Why};

/// The relay takes a note within a turn of its loop.
const NOTED_WITHIN: Duration = Duration::from_secs(5);

/// How often a long walk logs how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// The leg and all that it needs.
#[derive(Debug)]
pub struct Backfill {
    /// `[backfill]`.
    pub settings: config::Backfill,
    /// The provider.
    pub rest: Arc<Rest>,
    /// Where deliveries go.
    pub intake: Intake,
    /// What time it is at the provider.
    pub clock: Arc<Clock>,
    /// Where walks begin; the relay sets it.
    pub position: watch::Receiver<Position>,
    /// Who asks for them.
    pub walks: Walks,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Where the leg's state is reported.
    pub health: Arc<Health>,
    /// Ends the leg.
    pub stop: CancellationToken,
}

/// What ends a walk early.
pub(super) enum Interrupted {
    Stopped,
    /// The walk did not come to its end, and proves nothing; when its first page was asked for, in Unix milliseconds.
    Broken(Why, Box<Walk>, Option<i64>),
}

impl From<IntakeClosed> for Interrupted {
    fn from(_: IntakeClosed) -> Self {
        Self::Stopped
    }
}

impl Backfill {
    /// Walks whenever it is asked to or `backfill.every` has passed, until the leg is stopped.
    pub async fn run(self) {
        self.health.set_leg(self.intake.account(), Leg::Backfill, LegState::Connecting);
        let mut asked = self.walks.asked.subscribe();
        let config::Backfill { every, overlap, .. } = self.settings;
        let mut rounds = Rounds::new(every, overlap);
        let mut broke = None;
        let leg_began = Instant::now();
        loop {
            let ticket = *asked.borrow_and_update();
            let fills = ticket > *self.walks.done.borrow();
            let began = leg_began.elapsed();
            let next_at = rounds.next_at(began, fills);
            if next_at > began {
                tokio::select! {
                    () = self.stop.cancelled() => return,
                    changed = asked.changed() => if changed.is_err() { return },
                    () = sleep_until(leg_began + next_at) => {}
                }
                continue;
            }
            match self.walk(fills, &mut rounds).await {
                Ok(()) => {
                    self.walks.done.send_replace(ticket);
                    rounds.done(leg_began.elapsed(), began, fills);
                    broke = None;
                }
                Err(Interrupted::Stopped) => return,
                Err(Interrupted::Broken(why, walk, started_ms)) => {
                    let wait = rounds.broken(leg_began.elapsed(), why, *walk, started_ms);
                    self.say_broken(why, wait, broke.replace(why));
                }
            }
        }
    }

    /// Logs a walk that broke: once a reason, until a walk comes to its end.
    fn say_broken(&self, why: Why, wait: Duration, before: Option<Why>) {
        let retry_in_ms = millis(wait);
        if before == Some(why) {
            debug!(reason = %why, retry_in_ms, "backfill broke off again");
        } else {
            warn!(account = self.intake.name(), reason = %why, retry_in_ms, "backfill broke off: what it found is published, and the event log is walked again");
        }
        self.health.set_leg(self.intake.account(), Leg::Backfill, LegState::BackingOff);
    }

    /// One walk. `fills`: somebody asked for it, so its end is worth a line.
    async fn walk(&self, fills: bool, rounds: &mut Rounds) -> Result<(), Interrupted> {
        let Position { cursor, walk_from_ms, proven_ms, .. } = *self.position.borrow();
        let Some(mark_ms) = walk_from_ms else { return Ok(()) };
        let (below, mut started_ms) = rounds.below().unzip();
        let mut walk = below.unwrap_or_else(|| Walk::new(mark_ms));
        let mut pages = 0u64;
        let mut events = 0u64;
        let began = Instant::now();
        let mut say_at = began + PROGRESS_EVERY;
        let reached = loop {
            match walk.step() {
                Step::Fetch { starting_after, limit } => {
                    let asked = self.fetch(&mut walk, starting_after, limit).await?;
                    // The answer to the first page also gave the provider's clock.
                    started_ms.get_or_insert_with(|| self.clock.provider().earlier_ms(asked));
                    pages += 1;
                    if Instant::now() >= say_at {
                        say_at = Instant::now() + PROGRESS_EVERY;
                        info!(account = self.intake.name(), pages, "backfill under way");
                    }
                }
                Step::HandOn(page) => events += self.hand_on(page).await?,
                Step::Done { reached } => break reached,
                Step::Broken(why) => return Err(Interrupted::Broken(why, Box::new(walk), started_ms)),
            }
        };
        self.health.set_leg(self.intake.account(), Leg::Backfill, LegState::Connected);
        let started_ms = started_ms.unwrap_or(mark_ms);
        let cursor_ms = cursor.and_then(|cursor| i64::try_from(cursor.ms).ok());
        let known = (proven_ms.unwrap_or(mark_ms), cursor_ms);
        let end = rounds.log_end(known, walk.oldest_ms(), started_ms);
        if let Some(period) = end.unproven().filter(|_| !reached) {
            // Before the end of the walk, which moves the mark past it: a relay that dies in between reports it again.
            self.tell_unproven(period, walk.lowest()).await?;
            rounds.told(period);
            self.intake.note(Note::Unproven { from_ms: period.from_ms, to_ms: period.to_ms })?;
        }
        self.intake.note(Note::WalkDone { started_ms })?;
        if rounds.moves(started_ms, mark_ms) {
            self.until_noted(mark_ms).await;
        }
        let took_ms = millis(began.elapsed());
        if fills {
            info!(account = self.intake.name(), pages, events, reached, took_ms, "backfill finished");
        } else {
            debug!(pages, events, reached, took_ms, "backfill finished");
        }
        Ok(())
    }

    /// Waits until the relay has taken note, so that a walk that follows at once does not begin at the old mark.
    async fn until_noted(&self, mark_ms: i64) {
        let mut position = self.position.clone();
        let noted = position.wait_for(|position| position.walk_from_ms > Some(mark_ms));
        // When it takes longer (Kafka is away), the next walk is only longer than it need be.
        let _ = timeout(NOTED_WITHIN, noted).await;
    }

    /// Hands on events; returns how many.
    async fn hand_on(&self, events: Vec<Listed>) -> Result<u64, Interrupted> {
        let mut count = 0;
        for event in events {
            self.metrics.delivery(Leg::Backfill);
            let taken = self.offer(event.bytes).await;
            if !taken || self.stop.is_cancelled() {
                // What was not taken stays with the provider, behind the mark.
                if !taken {
                    self.metrics.outcome(Leg::Backfill, Outcome::Failed);
                }
                return Err(Interrupted::Stopped);
            }
            count += 1;
        }
        Ok(count)
    }

    /// Waits for room in the intake, and is seen as `paused` meanwhile; whether it was taken.
    async fn offer(&self, bytes: Bytes) -> bool {
        let offer = self.intake.offer(Leg::Backfill, bytes, now_ms());
        tokio::pin!(offer);
        let visible_at = Instant::now() + PAUSE_VISIBLE;
        let mut visible = false;
        let taken = loop {
            tokio::select! {
                biased;
                taken = &mut offer => break taken.is_ok(),
                () = self.stop.cancelled() => break false,
                () = sleep_until(visible_at), if !visible => {
                    visible = true;
                    self.health.set_leg(self.intake.account(), Leg::Backfill, LegState::Paused);
                }
            }
        };
        if visible && taken {
            self.health.set_leg(self.intake.account(), Leg::Backfill, LegState::Connected);
        }
        taken
    }

    /// Asks for a page until the walk can do something about the answer; returns when it was asked.
    async fn fetch(
        &self,
        walk: &mut Walk,
        starting_after: Option<EventId>,
        limit: usize,
    ) -> Result<Moment, Interrupted> {
        let cursor = starting_after.map(|event| event.to_string());
        let mut wait = RETRY_MIN;
        let mut limit = limit;
        loop {
            let asked = Moment::now();
            let answer = tokio::select! {
                () = self.stop.cancelled() => return Err(Interrupted::Stopped),
                answer = self.rest.events(cursor.as_deref(), limit) => answer,
            };
            self.metrics.walk_page();
            let error = match walk.answer(answer) {
                Ok(taken) => {
                    self.took(taken, limit);
                    return Ok(asked);
                }
                Err(error) => error,
            };
            if let Step::Fetch { limit: next, .. } = walk.step() {
                limit = next;
            }
            let (state, delay) = self.delay(&error, wait);
            wait = (wait * 2).min(RETRY_MAX);
            if self.health.leg_of(self.intake.account(), Leg::Backfill) != state {
                warn!(account = self.intake.name(), %error, retry_in_ms = millis(delay), "backfill waits for the provider");
            }
            self.health.set_leg(self.intake.account(), Leg::Backfill, state);
            self.metrics.leg_connected(self.intake.seat(), Leg::Backfill, false);
            tokio::select! {
                paused = self.pause(delay) => paused?,
                // Another key may be the right one.
                () = self.rest.key_changed(), if state == LegState::Refused => {}
            }
        }
    }

    /// Counts an answer that the walk could use.
    fn took(&self, taken: Taken, limit: usize) {
        self.health.heard(Leg::Backfill);
        self.metrics.leg_connected(self.intake.seat(), Leg::Backfill, true);
        match taken {
            Taken::Page => self.health.set_leg(self.intake.account(), Leg::Backfill, LegState::Connected),
            Taken::Smaller(reason) => debug!(limit, reason, "a page of the event log is asked for in smaller pieces"),
            Taken::PassedOver => {
                warn!(
                    account = self.intake.name(),
                    "an event of the event log cannot be cut out of its page: its bytes become a dead letter, and the walk continues"
                );
            }
            Taken::Refused => {}
        }
    }

    async fn pause(&self, delay: Duration) -> Result<(), Interrupted> {
        tokio::select! {
            () = self.stop.cancelled() => Err(Interrupted::Stopped),
            () = sleep_until(Instant::now() + delay) => Ok(()),
        }
    }

    fn delay(&self, error: &RestError, wait: Duration) -> (LegState, Duration) {
        match error {
            RestError::Status { status: 401 | 403, .. } | RestError::KeyNotAHeader => {
                (LegState::Refused, REFUSED_RETRY)
            }
            // A longer wait that the provider asks for wins; a shorter one does not end the growth of ours.
            RestError::Status { retry_after: Some(asked), .. } => {
                (LegState::BackingOff, drawn(wait).max((*asked).min(RETRY_AFTER_MAX)))
            }
            _ => (LegState::BackingOff, drawn(wait)),
        }
    }
}

/// A moment before `wait`, by chance.
fn drawn(wait: Duration) -> Duration {
    rand::rng().random_range(RETRY_MIN / 2..=wait)
}

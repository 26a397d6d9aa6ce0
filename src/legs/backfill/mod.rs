//! The backfill leg: walks the provider's event log, at the start, after each reconnect and on a slow timer, and hands
//! on what it finds, oldest first.
//!
//! Every walk begins at the same mark, `verified − overlap`, whatever started it, so that none can leave a hole that
//! another one takes for filled. A page that cannot be had is asked for until it is there: the socket goes on meanwhile.

pub mod reconcile;
mod unproven;
pub mod walk;

use super::walks::Walks;
use super::{Intake, IntakeClosed, Note, PAUSE_VISIBLE, Position};
use crate::clock::{Clock, millis, now_ms};
use crate::config;
use crate::labels::{Leg, Outcome};
use crate::provider::page::{Page, decode_page};
use crate::provider::rest::{Rest, RestError};
use crate::telemetry::{Health, LegState, Metrics};
use bytes::Bytes;
use rand::RngExt;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use walk::{PAGE_EVENTS_MAX, PageFacts, Step, Walk};

/// First wait after a page that could not be had; it doubles up to [`RETRY_MAX`].
pub(super) const RETRY_MIN: Duration = Duration::from_secs(1);

/// Longest wait between two tries of a page, unless the provider asks for more (`Retry-After`).
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Longest `Retry-After` that is followed.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);

/// Wait after refused credentials.
const REFUSED_RETRY: Duration = Duration::from_secs(300);

/// The provider's clock is known to the second (RFC 9110, section 5.6.7), and rounded down: a walk that is to confirm
/// an instant begins so much later.
const CLOCK_GRAIN: Duration = Duration::from_secs(2);

/// The relay takes a note within a turn of its loop.
const NOTED_WITHIN: Duration = Duration::from_secs(5);

/// How often a long walk says how far it is.
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
    /// Where walks begin, as the relay tells it.
    pub position: watch::Receiver<Position>,
    /// Who asks for them.
    pub walks: Walks,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Where the leg's state is told.
    pub health: Arc<Health>,
    /// Ends the leg.
    pub stop: CancellationToken,
}

/// What ends a walk early.
pub(super) enum Interrupted {
    Stopped,
    /// A cursor of this walk led nowhere, or no longer as far as it did: the walk begins anew.
    Lost,
}

impl From<IntakeClosed> for Interrupted {
    fn from(_: IntakeClosed) -> Self {
        Self::Stopped
    }
}

impl Backfill {
    /// Walks whenever it is asked to or `backfill.every` has passed, until the leg is stopped.
    pub async fn run(self) {
        self.health.set_leg(Leg::Backfill, LegState::Connecting);
        let mut asked = self.walks.asked.subscribe();
        // A walk that fills a gap is confirmed by another one, `overlap` after it.
        let mut confirm_at = None;
        let mut wait = RETRY_MIN;
        // The end of the last time that was told to be unproven.
        let mut told_to_ms = None;
        loop {
            let timer = Instant::now() + self.settings.every;
            let wake_at = confirm_at.map_or(timer, |at: Instant| at.min(timer));
            let wanted = *asked.borrow_and_update() > *self.walks.done.borrow();
            if !wanted {
                tokio::select! {
                    () = self.stop.cancelled() => return,
                    changed = asked.changed() => if changed.is_err() { return },
                    () = sleep_until(wake_at) => {}
                }
            }
            let ticket = *asked.borrow_and_update();
            let fills = ticket > *self.walks.done.borrow();
            let began = Instant::now();
            match self.walk(fills, &mut told_to_ms).await {
                Ok(()) => {
                    self.walks.done.send_replace(ticket);
                    confirm_at = fills.then(|| began + self.settings.overlap + CLOCK_GRAIN);
                    wait = RETRY_MIN;
                }
                Err(Interrupted::Stopped) => return,
                Err(Interrupted::Lost) => {
                    // A provider that forgets every cursor must not be walked in a circle.
                    let retry_in_ms = millis(wait);
                    warn!(
                        retry_in_ms,
                        "a cursor that the provider gave leads nowhere, or no longer as far: walking again"
                    );
                    if self.pause(wait).await.is_err() {
                        return;
                    }
                    wait = (wait * 2).min(RETRY_MAX);
                }
            }
        }
    }

    /// One walk. `fills`: somebody asked for it, so its end is worth a line.
    async fn walk(&self, fills: bool, told_to_ms: &mut Option<i64>) -> Result<(), Interrupted> {
        let Position { cursor, walk_from_ms, proven_ms } = *self.position.borrow();
        let Some(mark_ms) = walk_from_ms else { return Ok(()) };
        let mut walk = Walk::new();
        let mut kept = HashMap::<usize, Page>::new();
        let mut started_ms = None;
        let (mut pages, mut events) = (0u64, 0u64);
        let mut oldest_ms = None;
        let mut lowest = None;
        let began = Instant::now();
        let mut say_at = began + PROGRESS_EVERY;
        let reached = loop {
            match walk.step() {
                Step::Down { starting_after } => {
                    let asked_ms = now_ms();
                    let (page, bytes) = self.page(starting_after.as_deref()).await?;
                    // The answer to the first page also told the provider's clock. Of the two clocks the one that is
                    // behind counts: a mark that is too early costs a longer walk, one that is too late costs events.
                    started_ms.get_or_insert_with(|| asked_ms.saturating_add(self.clock.provider_ahead_ms().min(0)));
                    pages += 1;
                    oldest_ms = page.events.iter().filter_map(|event| event.occurred_at_ms).chain(oldest_ms).min();
                    if !page.events.is_empty() {
                        lowest = Some(page.clone());
                    }
                    let number = walk.depth();
                    if walk.page(PageFacts::of(&page, bytes, mark_ms)) {
                        kept.insert(number, page);
                    }
                    if Instant::now() >= say_at {
                        say_at = Instant::now() + PROGRESS_EVERY;
                        info!(pages, "backfill under way");
                    }
                }
                Step::Out { page: number, starting_after, lowest, .. } => {
                    let page = match kept.remove(&number) {
                        Some(page) => page,
                        None => self.page(starting_after.as_deref()).await?.0,
                    };
                    if !walk::reaches_down(&page, lowest.as_deref()) {
                        return Err(Interrupted::Lost);
                    }
                    events += self.hand_on(page, mark_ms).await?;
                }
                Step::Done { reached } => break reached,
                Step::Broken => return Err(Interrupted::Lost),
            }
        };
        let started_ms = started_ms.unwrap_or(mark_ms);
        let cursor_ms = cursor.and_then(|cursor| i64::try_from(cursor.ms).ok());
        let known = (proven_ms.unwrap_or(mark_ms), cursor_ms);
        let end = self.log_end(known, oldest_ms, started_ms, *told_to_ms);
        if let Some(period) = end.unproven().filter(|_| !reached) {
            // Before the end of the walk, which moves the mark past it: a relay that dies in between tells it again.
            self.tell_unproven(period, lowest).await?;
            *told_to_ms = Some(period.to_ms);
            self.intake.note(Note::Unproven { from_ms: period.from_ms, to_ms: period.to_ms })?;
        }
        self.intake.note(Note::WalkDone { started_ms })?;
        self.until_noted(started_ms, mark_ms).await;
        let took_ms = millis(began.elapsed());
        if fills {
            info!(pages, events, reached, took_ms, "backfill finished");
        } else {
            debug!(pages, events, reached, took_ms, "backfill finished");
        }
        Ok(())
    }

    /// Waits until the relay has taken note, so that a walk that follows at once does not begin at the old mark.
    async fn until_noted(&self, started_ms: i64, mark_ms: i64) {
        let overlap_ms = millis(self.settings.overlap);
        if started_ms.saturating_sub(overlap_ms).saturating_sub(overlap_ms) > mark_ms {
            let mut position = self.position.clone();
            let noted = position.wait_for(|position| position.walk_from_ms > Some(mark_ms));
            // When it takes longer (Kafka is away), the next walk is only longer than it need be.
            let _ = timeout(NOTED_WITHIN, noted).await;
        }
    }

    /// Hands on the events of a page that are not older than the mark, oldest first; returns how many.
    async fn hand_on(&self, page: Page, mark_ms: i64) -> Result<u64, Interrupted> {
        let mut count = 0;
        for event in walk::wanted(page, mark_ms) {
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
                    self.health.set_leg(Leg::Backfill, LegState::Paused);
                }
            }
        };
        if visible && taken {
            self.health.set_leg(Leg::Backfill, LegState::Connected);
        }
        taken
    }

    /// A page and the bytes of its body, asked for until it is there. A page over the body bound is asked for with a
    /// smaller limit.
    async fn page(&self, starting_after: Option<&str>) -> Result<(Page, usize), Interrupted> {
        let mut limit = PAGE_EVENTS_MAX;
        let mut wait = RETRY_MIN;
        loop {
            let answer = tokio::select! {
                () = self.stop.cancelled() => return Err(Interrupted::Stopped),
                answer = self.rest.events(starting_after, limit) => answer,
            };
            let error =
                match answer.and_then(|body| Ok((decode_page(&body).map_err(RestError::Malformed)?, body.len()))) {
                    Ok(page) => {
                        self.health.set_leg(Leg::Backfill, LegState::Connected);
                        self.health.heard(Leg::Backfill, now_ms());
                        self.metrics.leg_connected(Leg::Backfill, true);
                        return Ok(page);
                    }
                    Err(RestError::TooLarge(_)) if limit > 1 => {
                        limit /= 2;
                        continue;
                    }
                    // How a cursor fails that the log has forgotten is not documented; asked again, it fails again.
                    Err(RestError::Status { status: 400 | 404 | 410 | 422, .. }) if starting_after.is_some() => {
                        return Err(Interrupted::Lost);
                    }
                    Err(error) => error,
                };
            let (state, delay) = self.delay(&error, wait);
            wait = (wait * 2).min(RETRY_MAX);
            if self.health.leg(Leg::Backfill) != state {
                warn!(%error, retry_in_ms = millis(delay), "backfill waits for the provider");
            }
            self.health.set_leg(Leg::Backfill, state);
            self.metrics.leg_connected(Leg::Backfill, false);
            tokio::select! {
                paused = self.pause(delay) => paused?,
                // Another key may be the right one.
                () = self.rest.key_changed(), if state == LegState::Refused => {}
            }
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

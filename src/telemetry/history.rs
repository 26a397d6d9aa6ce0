//! The last minutes, a sample a second, and who listens to the seconds that follow.
//!
//! One task looks once a second, whether or not anybody listens, so that a page that is opened shows at once what has
//! been. Listeners share one text; one that is slow finds only the newest, and one that takes nothing at all is cut by
//! the listener.

use super::{Board, Phase};
use crate::clock::{millis, now_ms};
use crate::labels::Leg;
use axum::response::sse::Event;
use futures::Stream;
use futures::stream::unfold;
use serde::Serialize;
use serde_json::json;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Pages that listen at one time: a team of operators and their wall; each costs a connection and a text a second.
const LISTENERS_MAX: usize = 32;

/// Seconds that are kept: five minutes show a reconnect and what followed.
const SAMPLES_MAX: usize = 300;

/// Numbers change no faster than an eye follows.
const EVERY: Duration = Duration::from_secs(1);

/// One second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Sample {
    /// Its end, Unix milliseconds.
    at: i64,
    /// How long it was, in milliseconds: a busy machine stretches it.
    ms: u64,
    /// Deliveries by websocket, webhook, backfill.
    flow: [u64; Leg::ALL.len()],
    /// From the event's time to its arrival by websocket and webhook: mean and greatest, in milliseconds.
    lag: Option<(u64, u64)>,
    /// From arrival to commit: mean and greatest, in milliseconds.
    commit: Option<(u64, u64)>,
}

/// The samples, and the text of the newest second.
#[derive(Debug)]
pub(super) struct History {
    board: Arc<Board>,
    samples: Mutex<VecDeque<Sample>>,
    seconds: watch::Sender<Arc<str>>,
    seats: Arc<Semaphore>,
}

/// Someone who listens.
struct Listener {
    seconds: watch::Receiver<Arc<str>>,
    /// What is sent first.
    first: Option<String>,
    history: Arc<History>,
    /// Given back when the connection ends.
    _seat: OwnedSemaphorePermit,
}

impl History {
    pub(super) fn new(board: Arc<Board>) -> Self {
        let seats = Arc::new(Semaphore::new(LISTENERS_MAX));
        Self { board, samples: Mutex::default(), seconds: watch::Sender::new("".into()), seats }
    }

    /// Looks once a second, for ever.
    pub(super) async fn run(&self) {
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before = (Instant::now(), self.board.deliveries());
        loop {
            tick.tick().await;
            self.look(&mut before);
        }
    }

    fn look(&self, before: &mut (Instant, [u64; Leg::ALL.len()])) {
        let (then, had) = std::mem::replace(before, (Instant::now(), self.board.deliveries()));
        let mut flow = before.1;
        flow.iter_mut().zip(had).for_each(|(count, had)| *count = count.saturating_sub(had));
        let at = now_ms();
        let ms = millis(then.elapsed()).unsigned_abs();
        let metrics = &self.board.metrics;
        let sample = Sample { at, ms, flow, lag: metrics.lag.take(), commit: metrics.commit.take() };
        {
            let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
            samples.push_back(sample);
            if samples.len() > SAMPLES_MAX {
                samples.pop_front();
            }
        }
        if self.seconds.receiver_count() > 0 {
            let text = json!({ "shown": self.board.shown(at), "samples": [sample] }).to_string();
            self.seconds.send_replace(text.into());
        }
    }

    /// Everything so far, then each second, until the relay drains; `None` when all seats are taken.
    pub(super) fn listen(self: &Arc<Self>) -> Option<impl Stream<Item = Result<Event, Infallible>> + use<>> {
        let seat = Arc::clone(&self.seats).try_acquire_owned().ok()?;
        let seconds = self.seconds.subscribe();
        let first = {
            let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
            json!({ "shown": self.board.shown(now_ms()), "samples": *samples }).to_string()
        };
        let listener = Listener { seconds, first: Some(first), history: Arc::clone(self), _seat: seat };
        Some(unfold(Some(listener), |listener| async {
            let mut listener = listener?;
            let text = match listener.first.take() {
                Some(first) => first,
                None => {
                    listener.seconds.changed().await.ok()?;
                    listener.seconds.borrow_and_update().to_string()
                }
            };
            // The last word is that the relay stops; no drain waits for someone who looks on.
            let stays = listener.history.board.health.phase() != Phase::Stopping;
            Some((Ok(Event::default().data(text)), stays.then_some(listener)))
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]
    use super::*;
    use crate::config::Config;
    use crate::labels::Leg;
    use crate::provider::Environment;
    use crate::telemetry::{Health, Metrics};
    use futures::StreamExt;

    fn history() -> Arc<History> {
        let config = Config::minimal(Environment::Devnet, "");
        let board = Board::new(&config, Arc::new(Health::default()), Arc::new(Metrics::new("test")));
        Arc::new(History::new(Arc::new(board)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_holds_what_came_in_it_and_minutes_are_bounded() {
        let history = history();
        let mut before = (Instant::now(), history.board.deliveries());
        history.board.metrics.delivery(Leg::Webhook);
        history.board.metrics.event_lag(Leg::Webhook, 0.5);
        history.board.metrics.event_lag(Leg::Backfill, 500.0);
        history.board.metrics.publish_duration(Leg::Webhook, 0.004);
        history.look(&mut before);
        history.look(&mut before);
        let samples: Vec<_> = history.samples.lock().unwrap().iter().copied().collect();
        assert_eq!(samples.iter().map(|sample| sample.flow).collect::<Vec<_>>(), [[0, 1, 0], [0, 0, 0]]);
        assert_eq!((samples[0].lag, samples[0].commit, samples[1].lag), (Some((500, 500)), Some((4, 4)), None));
        (0..2 * SAMPLES_MAX).for_each(|_| history.look(&mut before));
        assert_eq!(history.samples.lock().unwrap().len(), SAMPLES_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_listener_finds_the_newest_second_only_and_the_drain_ends_all() {
        let history = history();
        let mut before = (Instant::now(), history.board.deliveries());
        let mut events = Box::pin(history.listen().unwrap());
        assert!(events.next().await.is_some());
        (0..50).for_each(|_| history.look(&mut before));
        assert!(events.next().await.is_some());
        history.board.health.set_phase(Phase::Stopping);
        history.look(&mut before);
        assert!(events.next().await.is_some());
        assert!(events.next().await.is_none());
    }

    #[tokio::test]
    async fn seats_are_bounded_and_given_back() {
        let history = history();
        let mut seats: Vec<_> = (0..LISTENERS_MAX).map(|_| history.listen().unwrap()).collect();
        assert!(history.listen().is_none());
        seats.pop();
        assert!(history.listen().is_some());
    }
}

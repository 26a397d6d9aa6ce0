//! The webhook sender: signed posts to every endpoint, with retries, a bounded queue and bounded concurrency.
//!
//! Each attempt has a fresh timestamp and signature over the same body bytes, as a sender that verifies times must.

use crate::clock::now_ms;
use crate::provider::signature;
use crate::simulator::hub::{Hub, World};
use crate::simulator::model::Event;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Deliveries that may wait; beyond it new ones are dropped and counted. About 100 B each beside the shared body.
const QUEUE_MAX: usize = 100_000;
/// Attempts under way at once, for all endpoints together.
const CONCURRENCY_MAX: usize = 64;
/// An endpoint that takes longer has failed.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the sender sleeps with nothing due; any change wakes it before.
const IDLE: Duration = Duration::from_secs(3600);

/// What is to be sent, by the time at which it is due.
#[derive(Default)]
pub(in crate::simulator) struct Queue {
    waiting: BTreeMap<(Instant, u64), Job>,
    pushed: u64,
    under_way: usize,
    tally: Tally,
}

/// What became of the deliveries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Attempts made.
    pub attempts: u64,
    /// Deliveries answered 2xx.
    pub delivered: u64,
    /// Deliveries given up after their last attempt.
    pub given_up: u64,
    /// Deliveries never tried, since the queue was full.
    pub dropped: u64,
}

struct Job {
    endpoint: String,
    event: Arc<Event>,
    attempts: usize,
}

impl Queue {
    pub(in crate::simulator) fn push(&mut self, endpoint: String, event: Arc<Event>, due: Instant) {
        if self.open() >= QUEUE_MAX {
            self.tally.dropped += 1;
            return;
        }
        self.put(Job { endpoint, event, attempts: 0 }, due);
    }

    /// Deliveries whose outcome is still open.
    pub(in crate::simulator) fn open(&self) -> usize {
        self.waiting.len() + self.under_way
    }

    pub(in crate::simulator) const fn tally(&self) -> Tally {
        self.tally
    }

    fn put(&mut self, job: Job, due: Instant) {
        self.waiting.insert((due, self.pushed), job);
        self.pushed += 1;
    }

    /// The next delivery that is due, else how long until one is.
    fn take(&mut self, now: Instant) -> Result<Job, Duration> {
        match self.waiting.first_entry() {
            Some(entry) if entry.key().0 <= now => {
                self.under_way += 1;
                Ok(entry.remove())
            }
            Some(entry) => Err(entry.key().0 - now),
            None => Err(IDLE),
        }
    }
}

/// Sends until the simulator stops; attempts under way are then given up.
pub(in crate::simulator) async fn run(hub: Arc<Hub>, client: reqwest::Client) {
    let mut attempts = JoinSet::new();
    loop {
        let wait = loop {
            let mut world = hub.world();
            if world.faults.webhooks.paused {
                break IDLE;
            }
            if attempts.len() >= CONCURRENCY_MAX {
                break IDLE;
            }
            match world.webhooks.take(Instant::now()) {
                Ok(job) => {
                    world.webhooks.tally.attempts += 1;
                    let request = request(&world, &client, &job);
                    drop(world);
                    attempts.spawn(async move { (attempt(request).await, job) });
                }
                Err(wait) => break wait,
            }
        };
        tokio::select! {
            () = hub.stop.cancelled() => break,
            () = hub.webhooks_wake.notified() => {}
            () = tokio::time::sleep(wait) => {}
            Some(Ok((delivered, job))) = attempts.join_next() => settle(&hub, job, delivered),
        }
    }
    attempts.shutdown().await;
}

fn settle(hub: &Hub, mut job: Job, delivered: bool) {
    let world = &mut *hub.world();
    let queue = &mut world.webhooks;
    queue.under_way -= 1;
    job.attempts += 1;
    if delivered {
        queue.tally.delivered += 1;
    } else if let Some(wait) = hub.options.webhook_retries.get(job.attempts - 1) {
        queue.put(job, Instant::now() + *wait);
    } else {
        queue.tally.given_up += 1;
    }
    hub.webhooks_open.send_replace(queue.open());
}

/// The signed request; `None` when the endpoint is gone.
fn request(world: &World, client: &reqwest::Client, job: &Job) -> Option<reqwest::RequestBuilder> {
    let endpoint = world.model.endpoint(&job.endpoint)?;
    let (event, timestamp) = (&job.event, now_ms().to_string());
    let sign = |secret: &str| signature::sign(secret.as_bytes(), &timestamp, &event.bytes);
    let mut request = client
        .post(&endpoint.url)
        .timeout(ATTEMPT_TIMEOUT)
        .header("content-type", "application/json")
        .header(signature::EVENT, &event.kind)
        .header(signature::EVENT_ID, &event.id)
        .header(signature::SIGNATURE, sign(&endpoint.secret))
        .header(signature::ENVIRONMENT, world.model.settings().environment());
    if let Some(previous) = &endpoint.previous_secret {
        request = request.header(signature::SIGNATURE_PREVIOUS, sign(previous));
    }
    Some(request.header(signature::TIMESTAMP, &timestamp).body(event.bytes.clone()))
}

/// Whether the endpoint answered 2xx; redirects are not followed, and are a failure like any other status.
async fn attempt(request: Option<reqwest::RequestBuilder>) -> bool {
    let Some(request) = request else { return false };
    request.send().await.is_ok_and(|response| response.status().is_success())
}

//! The webhook sender: signed posts to every endpoint, with retries and bounded concurrency.
//!
//! Each attempt has a fresh timestamp and signature over the same body bytes, as a sender that verifies times must.

use crate::clock::now_ms;
use crate::provider::signature;
use crate::simulator::hub::{Hub, World};
use crate::simulator::queue::{IDLE, Job};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Attempts under way at once, for all endpoints together.
const CONCURRENCY_MAX: usize = 64;
/// An endpoint that takes longer has failed.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
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

fn settle(hub: &Hub, job: Job, delivered: bool) {
    let queue = &mut hub.world().webhooks;
    queue.settle(job, delivered, &hub.options.webhook_retries, Instant::now());
    hub.webhooks_open.send_replace(queue.open());
}

/// The signed request; `None` when the endpoint is gone.
fn request(world: &World, client: &reqwest::Client, job: &Job) -> Option<reqwest::RequestBuilder> {
    let endpoint = world.model.endpoint(&job.endpoint)?;
    let event = &job.event;
    let timestamp = now_ms().to_string();
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

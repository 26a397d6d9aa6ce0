//! What one request goes through: path, method, limits, signature, intake, outcome, answer.

use super::answer::Answer;
use super::body::{Budget, Unverified, Verified};
use super::slot::Slot;
use crate::clock::now_ms;
use crate::config;
use crate::labels::{Leg, Outcome};
use crate::legs::{Intake, IntakeFull};
use crate::provider::signature::Refusal;
use crate::telemetry::{Health, Metrics, RateLimited};
use hyper::body::Incoming;
use hyper::{Method, Request};
use secrecy::SecretString;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};

/// `webhook rejected` is logged at most this often; the line says how many it stands for. A flood of forgeries
/// must not become a flood of lines.
const REJECTED_LOG_EVERY: Duration = Duration::from_secs(10);

/// What every request shares.
#[derive(Debug)]
pub(super) struct Handler {
    settings: config::Webhook,
    secrets: watch::Receiver<Arc<[SecretString]>>,
    intake: Intake,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    budget: Budget,
    rejected: Mutex<RateLimited>,
}

impl Handler {
    pub(super) fn new(
        settings: config::Webhook,
        secrets: watch::Receiver<Arc<[SecretString]>>,
        intake: Intake,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let budget = Budget::new(settings.unverified_bytes_max);
        Self {
            settings,
            secrets,
            intake,
            health,
            metrics,
            budget,
            rejected: Mutex::new(RateLimited::new(REJECTED_LOG_EVERY)),
        }
    }

    /// The answer to a request of `peer`, counted. The peer keeps its `place` once nothing more of the request is wanted.
    pub(super) async fn answer(&self, peer: IpAddr, request: Request<Incoming>, slot: &Slot) -> Answer {
        let admitted = self.admitted(peer, request, slot).await;
        slot.answering().await;
        let answer = match admitted {
            Ok(verified) => self.settled(verified).await,
            Err(answer) => answer,
        };
        self.metrics.webhook_response(answer.code());
        answer
    }

    /// Everything up to a right signature.
    async fn admitted(&self, peer: IpAddr, request: Request<Incoming>, slot: &Slot) -> Result<Verified, Answer> {
        let (head, body) = request.into_parts();
        if head_bytes(&head) > self.settings.header_bytes_max {
            return Err(Answer::HeadersTooLarge);
        }
        if head.uri.path() != self.settings.path {
            return Err(Answer::NotFound);
        }
        if head.method != Method::POST {
            return Err(Answer::MethodNotAllowed);
        }
        if let Some(answer) = Answer::to_phase(self.health.phase()) {
            return Err(answer);
        }
        let config::Webhook { body_bytes_max, body_timeout, tolerance, .. } = self.settings;
        let body = Unverified::read(body, body_bytes_max, body_timeout, &self.budget, slot).await?;
        // A lock on the channel must not be held while a body is hashed.
        let secrets = Arc::clone(&self.secrets.borrow());
        body.verify(&head.headers, &secrets, now_ms(), tolerance).map_err(|refusal| {
            self.metrics.delivery(Leg::Webhook);
            self.metrics.outcome(Leg::Webhook, Outcome::Rejected);
            self.say_rejected(peer, refusal);
            Answer::Rejected(refusal)
        })
    }

    /// Hands a genuine delivery to the relay and waits for its outcome, at most `webhook.answer_within`.
    ///
    /// After that the peer is told to come back, and the delivery stays inside: the peer's copy will find it
    /// committed, or in flight.
    async fn settled(&self, verified: Verified) -> Answer {
        let received_at_ms = now_ms();
        self.health.heard(Leg::Webhook, received_at_ms);
        let bytes = verified.into_bytes();
        let reservation = match self.intake.try_reserve(bytes.len()) {
            Ok(admission) => admission,
            Err(IntakeFull::Full) => return Answer::Overloaded,
            Err(IntakeFull::Closed) => return Answer::Stopping,
        };
        let (reply, outcome) = oneshot::channel();
        self.metrics.delivery(Leg::Webhook);
        if reservation.fill(bytes, received_at_ms, reply).is_err() {
            self.metrics.outcome(Leg::Webhook, Outcome::Failed);
            return Answer::Stopping;
        }
        match timeout(self.settings.answer_within, outcome).await {
            Ok(Ok(outcome)) => Answer::to_outcome(outcome),
            // The relay went without a word about it.
            Ok(Err(_)) => Answer::Stopping,
            Err(_) => Answer::KafkaUnavailable,
        }
    }

    fn say_rejected(&self, peer: IpAddr, refusal: Refusal) {
        let mut rejected = self.rejected.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(unsaid) = rejected.allow(Instant::now().into_std()) {
            tracing::warn!(reason = %refusal, %peer, count = unsaid.saturating_add(1), "webhook rejected");
        }
    }
}

/// Bytes of a request's head, about as they came: request line, and `name: value` with its line end each.
fn head_bytes(head: &hyper::http::request::Parts) -> usize {
    let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    let line = head.method.as_str().len() + target + " ".len() + " HTTP/1.1\r\n".len();
    let headers = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    line + headers.sum::<usize>() + "\r\n".len()
}

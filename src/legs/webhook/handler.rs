//! What one request goes through: health, place, limits, path, method, signature, intake, outcome, answer.

use super::Webhook;
use super::answer::{Answer, health};
use super::body::{Unverified, Verified, claimed};
use crate::clock::{Moment, now_ms};
use crate::config::{self, Via};
use crate::labels::{Leg, Outcome};
use crate::legs::{Intake, IntakeFull, TRACEPARENT, TRACESTATE, Trace};
use crate::listener::{Refused, Service, Slot};
use crate::provider::signature::Refusal;
use crate::telemetry::RateLimited;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{Method, Request, Response};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

/// `webhook rejected` is logged at most this often; the line has the number of webhooks. A flood of forgeries
/// must not become a flood of lines.
const REJECTED_LOG_EVERY: Duration = Duration::from_secs(10);

/// A genuine webhook.
struct Admitted {
    /// Where it goes.
    intake: Intake,
    verified: Verified,
    /// The trace that it came with.
    trace: Option<Box<Trace>>,
}

/// What every request shares.
#[derive(Debug)]
pub(super) struct Handler {
    pub(super) leg: Webhook,
    rejected: Mutex<RateLimited>,
}

impl Handler {
    pub(super) fn new(leg: Webhook) -> Self {
        Self { leg, rejected: Mutex::new(RateLimited::new(REJECTED_LOG_EVERY)) }
    }

    /// The answer to a webhook of `peer`, counted. The peer keeps its place once nothing more of the request is wanted.
    async fn webhook(&self, peer: IpAddr, request: Request<Incoming>, slot: &Slot) -> Answer {
        let admitted = match slot.place().await {
            Ok(()) => self.admitted(peer, request, slot).await,
            Err(Refused) => Err(Answer::Overloaded),
        };
        slot.answering().await;
        let answer = match admitted {
            Ok(admitted) => {
                slot.verified();
                self.settled(admitted).await
            }
            Err(answer) => answer,
        };
        self.leg.metrics.webhook_response(answer.code());
        answer
    }

    /// Everything up to a right signature: whose it is, the body, and the trace that came with it. The secrets are those that
    /// the account has when the head is there.
    async fn admitted(&self, peer: IpAddr, request: Request<Incoming>, slot: &Slot) -> Result<Admitted, Answer> {
        let (head, body) = request.into_parts();
        if head_bytes(&head) > self.leg.settings.header_bytes_max {
            return Err(Answer::HeadersTooLarge);
        }
        // A lock on the channel must not be held while a body is read and hashed.
        let endpoints = Arc::clone(&self.leg.endpoints.borrow());
        let endpoint = endpoints.at(head.uri.path()).ok_or(Answer::NotFound)?;
        if head.method != Method::POST {
            return Err(Answer::MethodNotAllowed);
        }
        if let Some(answer) = Answer::to_phase(self.leg.health.phase()) {
            return Err(answer);
        }
        if !claimed(&head.headers).are_well_formed() {
            self.reject(peer, Refusal::InvalidSignature);
            return Err(Answer::Unsigned);
        }
        let config::Webhook { body_bytes_max, body_timeout, tolerance, .. } = self.leg.settings;
        let body = Unverified::read(body, body_bytes_max, body_timeout, slot).await?;
        let now = Moment::now();
        let clocks_ms = (now.wall_ms, self.leg.clock.provider().known_ms(now));
        let verified = body.verify(&head.headers, &endpoint.secrets, clocks_ms, tolerance).map_err(|refusal| {
            self.reject(peer, refusal);
            Answer::Rejected(refusal)
        })?;
        let lines = |name| head.headers.get_all(name).into_iter().map(HeaderValue::as_bytes);
        let trace = Trace::read(lines(TRACEPARENT), lines(TRACESTATE)).map(Box::new);
        Ok(Admitted { intake: endpoint.intake.clone(), verified, trace })
    }

    /// Hands a genuine delivery to the relay and waits for its outcome, at most `webhook.answer_within`.
    ///
    /// After that the peer is asked to come back, and the delivery stays inside: the peer's copy will find it
    /// committed, or in flight.
    async fn settled(&self, Admitted { intake, verified, trace }: Admitted) -> Answer {
        let received_at_ms = now_ms();
        self.leg.health.heard(Leg::Webhook);
        let bytes = verified.into_bytes();
        let reservation = match intake.try_reserve(bytes.len()) {
            Ok(admission) => admission,
            Err(IntakeFull::Full) => return Answer::Overloaded,
            Err(IntakeFull::Closed) => return Answer::Stopping,
        };
        let (reply, outcome) = oneshot::channel();
        // What goes through the inbox is a delivery of the node that takes it there.
        let is_ours = self.leg.settings.via == Via::Direct;
        if is_ours {
            self.leg.metrics.delivery(Leg::Webhook);
        }
        if reservation.fill(bytes, trace, received_at_ms, reply).is_err() {
            if is_ours {
                self.leg.metrics.outcome(Leg::Webhook, Outcome::Failed);
            }
            return Answer::Stopping;
        }
        match timeout(self.leg.settings.answer_within, outcome).await {
            Ok(Ok(outcome)) if is_ours => Answer::to_outcome(outcome),
            Ok(Ok(Outcome::Failed)) => Answer::KafkaUnavailable,
            Ok(Ok(_)) => Answer::Queued,
            // The relay went without a word about it.
            Ok(Err(_)) => Answer::Stopping,
            Err(_) => Answer::KafkaUnavailable,
        }
    }

    fn reject(&self, peer: IpAddr, refusal: Refusal) {
        self.leg.metrics.delivery(Leg::Webhook);
        self.leg.metrics.outcome(Leg::Webhook, Outcome::Rejected);
        self.say_rejected(peer, refusal);
    }

    fn say_rejected(&self, peer: IpAddr, refusal: Refusal) {
        let allowed = self.rejected.lock().unwrap_or_else(PoisonError::into_inner).allow(Instant::now().into_std());
        // Nothing is logged under the lock.
        if let Some(unsaid) = allowed {
            tracing::warn!(reason = %refusal, %peer, count = unsaid.saturating_add(1), "webhook rejected");
        }
    }
}

impl Service for Handler {
    type Body = Full<Bytes>;

    async fn answer(&self, peer: IpAddr, request: Request<Incoming>, slot: &Slot) -> Response<Full<Bytes>> {
        let path = &self.leg.settings.health_path;
        if !path.is_empty() && request.uri().path() == path {
            return match *request.method() {
                Method::GET | Method::HEAD => health(&self.leg.health.waiting_for(), !slot.has_place()),
                _ => Answer::HealthMethodNotAllowed.into_response(),
            };
        }
        self.webhook(peer, request, slot).await.into_response()
    }
}

/// Bytes of a request's head, about as they came: request line, and `name: value` with its line end each.
fn head_bytes(head: &hyper::http::request::Parts) -> usize {
    let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    let line = head.method.as_str().len() + target + " ".len() + " HTTP/1.1\r\n".len();
    let headers = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    line + headers.sum::<usize>() + "\r\n".len()
}

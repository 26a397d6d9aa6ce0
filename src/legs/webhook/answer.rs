//! Every answer that a webhook can get: status, JSON body, headers (docs/webhooks.md).

use crate::labels::{Outcome, WebhookCode};
use crate::provider::signature::Refusal;
use crate::telemetry::Phase;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};

/// Seconds after which an `overloaded` peer may come back: by then many batches have committed.
const RETRY_OVERLOADED: HeaderValue = HeaderValue::from_static("1");

/// Seconds after which a start or a restart is usually over.
const RETRY_START: HeaderValue = HeaderValue::from_static("5");

/// Seconds after which it is worth asking again whether Kafka is back.
const RETRY_KAFKA: HeaderValue = HeaderValue::from_static("10");

/// What a webhook is answered. Trouble of our own is a 503 and never a 4xx.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Committed, ignored, or kept as a dead letter.
    Accepted,
    /// Committed before.
    Duplicate,
    /// Committed to the inbox.
    Queued,
    /// Not genuine, or too old to be sure.
    Rejected(Refusal),
    /// No header that could be a signature: refused at its head, whatever its body.
    Unsigned,
    /// The body broke off or was no HTTP.
    IncompleteBody,
    NotFound,
    MethodNotAllowed,
    /// At the health path.
    HealthMethodNotAllowed,
    BodyTimeout,
    BodyTooLarge,
    HeadersTooLarge,
    Starting,
    Overloaded,
    KafkaUnavailable,
    Stopping,
}

impl Answer {
    /// The answer to a delivery that settled.
    pub(super) fn to_outcome(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Published | Outcome::Ignored | Outcome::DeadLettered => Self::Accepted,
            Outcome::Duplicate => Self::Duplicate,
            // The relay rejects nothing: that happens at this handler. Neither outcome took the event.
            Outcome::Failed | Outcome::Rejected => Self::Stopping,
        }
    }

    /// The answer while the relay cannot take anything; `None` when it can.
    ///
    /// A relay that stops takes what its listener has read: the peer has nowhere else to go, and the intake refuses it
    /// when it is too late ([`Answer::Stopping`]).
    pub(super) fn to_phase(phase: Phase) -> Option<Self> {
        match phase {
            Phase::Ready | Phase::Stopping => None,
            Phase::Starting => Some(Self::Starting),
            Phase::KafkaUnavailable => Some(Self::KafkaUnavailable),
        }
    }

    pub(super) fn code(self) -> WebhookCode {
        match self {
            Self::Accepted | Self::Duplicate | Self::Queued => WebhookCode::Ok,
            Self::Rejected(_) | Self::Unsigned | Self::IncompleteBody => WebhookCode::BadRequest,
            Self::NotFound => WebhookCode::NotFound,
            Self::MethodNotAllowed | Self::HealthMethodNotAllowed => WebhookCode::MethodNotAllowed,
            Self::BodyTimeout => WebhookCode::RequestTimeout,
            Self::BodyTooLarge => WebhookCode::ContentTooLarge,
            Self::HeadersTooLarge => WebhookCode::HeadersTooLarge,
            Self::Starting | Self::Overloaded | Self::KafkaUnavailable | Self::Stopping => WebhookCode::Unavailable,
        }
    }

    fn body(self) -> &'static str {
        match self {
            Self::Accepted => r#"{"ok":true}"#,
            Self::Duplicate => r#"{"ok":true,"duplicate":true}"#,
            Self::Queued => r#"{"ok":true,"queued":true}"#,
            Self::Rejected(Refusal::InvalidSignature) | Self::Unsigned => r#"{"error":"invalid_signature"}"#,
            Self::Rejected(Refusal::TimestampOutOfRange) => r#"{"error":"timestamp_out_of_range"}"#,
            Self::IncompleteBody => r#"{"error":"incomplete_body"}"#,
            Self::NotFound => r#"{"error":"not_found"}"#,
            Self::MethodNotAllowed | Self::HealthMethodNotAllowed => r#"{"error":"method_not_allowed"}"#,
            Self::BodyTimeout => r#"{"error":"body_timeout"}"#,
            Self::BodyTooLarge => r#"{"error":"body_too_large"}"#,
            Self::HeadersTooLarge => r#"{"error":"headers_too_large"}"#,
            Self::Starting => r#"{"error":"starting"}"#,
            Self::Overloaded => r#"{"error":"overloaded"}"#,
            Self::KafkaUnavailable => r#"{"error":"kafka_unavailable"}"#,
            Self::Stopping => r#"{"error":"stopping"}"#,
        }
    }

    /// When it is given, as the documents have it.
    fn when(self) -> &'static str {
        match self {
            Self::Accepted => "the event is committed, ignored, or kept as a dead letter",
            Self::Duplicate => {
                "the event was committed before; a copy that is still in flight waits for the first one's outcome"
            }
            Self::Queued => "the webhook is committed to the inbox, where `webhook.via` is `inbox`",
            Self::Rejected(Refusal::InvalidSignature) => "no configured secret fits either signature",
            Self::Rejected(Refusal::TimestampOutOfRange) => {
                "the signature is right, but its time differs from ours and from the provider's by more than `webhook.tolerance`"
            }
            Self::Unsigned => "no header has the form of a signature; the body is not read",
            Self::IncompleteBody => "the body ended early or is not valid HTTP",
            Self::NotFound => "any path but `webhook.path`",
            Self::MethodNotAllowed => "any method but `POST` at `webhook.path`",
            Self::HealthMethodNotAllowed => "any method but `GET` and `HEAD` at `webhook.health_path`",
            Self::BodyTimeout => "the body took longer than `webhook.body_timeout`",
            Self::BodyTooLarge => "the body is larger than `webhook.body_bytes_max`",
            Self::HeadersTooLarge => "the head is larger than `webhook.header_bytes_max`",
            Self::Starting => "the relay has not read its window back yet",
            Self::Overloaded => "the intake is full",
            Self::KafkaUnavailable => "no commit within `webhook.answer_within`, or none is possible now",
            Self::Stopping => "the relay stops",
        }
    }

    fn retry_after(self) -> Option<HeaderValue> {
        match self {
            Self::Overloaded => Some(RETRY_OVERLOADED),
            Self::Starting | Self::Stopping => Some(RETRY_START),
            Self::KafkaUnavailable => Some(RETRY_KAFKA),
            _ => None,
        }
    }

    /// Whether the connection ends with this answer: its peer misbehaves, or the relay goes.
    fn closes(self) -> bool {
        matches!(
            self,
            Self::Unsigned
                | Self::IncompleteBody
                | Self::BodyTimeout
                | Self::BodyTooLarge
                | Self::HeadersTooLarge
                | Self::Stopping
        )
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::from(self.body()));
        *response.status_mut() = hyper::StatusCode::from_u16(self.code().as_u16()).unwrap_or_default();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after() {
            headers.insert(RETRY_AFTER, seconds);
        }
        if self == Self::MethodNotAllowed {
            headers.insert(ALLOW, HeaderValue::from_static("POST"));
        } else if self == Self::HealthMethodNotAllowed {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        if self.closes() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Whether webhooks are taken, and what is waited for where not, in the words of `/readyz`. A peer that has no place goes
/// with it.
pub(super) fn health(waiting_for: &[String], closes: bool) -> Response<Full<Bytes>> {
    let (status, body) = match waiting_for {
        [] => (hyper::StatusCode::OK, serde_json::json!({ "ready": true })),
        _ => {
            (hyper::StatusCode::SERVICE_UNAVAILABLE, serde_json::json!({ "ready": false, "waiting_for": waiting_for }))
        }
    };
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if closes {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// An answer as documents show it.
#[derive(Clone, Copy, Debug)]
pub struct Documented {
    /// HTTP status.
    pub status: u16,
    /// JSON.
    pub body: &'static str,
    /// Seconds after which the peer may come back, from `Retry-After`.
    pub retry_after: Option<u64>,
    /// Whether the connection ends with it.
    pub closes: bool,
    /// When it is given.
    pub when: &'static str,
}

/// Every answer, in the order in which it is found.
pub fn documented() -> Vec<Documented> {
    let documented = |answer: Answer| Documented {
        status: answer.code().as_u16(),
        body: answer.body(),
        retry_after: answer.retry_after().and_then(|value| value.to_str().ok()?.parse().ok()),
        closes: answer.closes(),
        when: answer.when(),
    };
    ALL.into_iter().map(documented).collect()
}

const ALL: [Answer; 17] = [
    Answer::Accepted,
    Answer::Duplicate,
    Answer::Queued,
    Answer::Unsigned,
    Answer::Rejected(Refusal::InvalidSignature),
    Answer::Rejected(Refusal::TimestampOutOfRange),
    Answer::IncompleteBody,
    Answer::NotFound,
    Answer::MethodNotAllowed,
    Answer::HealthMethodNotAllowed,
    Answer::BodyTimeout,
    Answer::BodyTooLarge,
    Answer::HeadersTooLarge,
    Answer::Starting,
    Answer::Overloaded,
    Answer::KafkaUnavailable,
    Answer::Stopping,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_json_and_every_503_names_a_time() {
        for answer in ALL {
            let response = answer.into_response();
            assert_eq!(response.status().as_u16(), answer.code().as_u16(), "{answer:?}");
            assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
            assert_eq!(response.headers().contains_key(RETRY_AFTER), answer.code().as_u16() == 503, "{answer:?}");
            let body: serde_json::Value = serde_json::from_str(answer.body()).unwrap_or_default();
            assert_eq!(body["ok"] == true, answer.code().as_u16() == 200, "{answer:?}");
            assert_eq!(body["error"].is_string(), answer.code().as_u16() != 200, "{answer:?}");
        }
    }

    #[test]
    fn no_outcome_and_no_phase_blames_the_peer() {
        for outcome in Outcome::ALL {
            assert!(matches!(Answer::to_outcome(outcome).code().as_u16(), 200 | 503), "{outcome:?}");
        }
        for phase in [Phase::Starting, Phase::KafkaUnavailable] {
            assert_eq!(Answer::to_phase(phase).map(Answer::code), Some(WebhookCode::Unavailable), "{phase:?}");
        }
        for phase in [Phase::Ready, Phase::Stopping] {
            assert_eq!(Answer::to_phase(phase), None, "{phase:?}");
        }
    }
}

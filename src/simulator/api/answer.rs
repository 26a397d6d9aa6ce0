//! Answers: the success wrapper and the three documented error envelopes (`api-spec/errors`, `api-spec/rate-limits`).

use crate::simulator::faults::FaultAnswer;
use crate::simulator::model::Refused;
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// An answer that is not the one asked for.
#[derive(Debug)]
pub(super) struct Error {
    status: StatusCode,
    body: Value,
    retry_after_s: Option<u32>,
}

impl Error {
    fn new(status: StatusCode, code: &str, message: &str) -> Self {
        let body = json!({ "success": false, "error": { "code": code, "message": message } });
        Self { status, body, retry_after_s: None }
    }

    pub(super) fn invalid(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", message)
    }

    pub(super) fn no_idempotency_key() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "IDEMPOTENCY_KEY_MISSING", "Idempotency-Key header is required")
    }

    pub(super) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "API_KEY_INVALID", "Invalid API key")
    }

    pub(super) fn token_invalid() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "TOKEN_INVALID", "ws_token is not valid")
    }

    pub(super) fn forbidden(message: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "FORBIDDEN", message)
    }

    pub(super) fn not_found(message: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "Method not allowed")
    }

    /// The third envelope. Its words about waiting are text for people; `Retry-After` is what counts.
    pub(super) fn rate_limited(retry_after_s: Option<u32>) -> Self {
        let mut body = json!({ "success": false, "message": "Too many requests", "error_code": "RATE_LIMIT_EXCEEDED" });
        if let Some(seconds) = retry_after_s {
            body["retry_after"] = format!("{} minutes", seconds.div_ceil(60)).into();
        }
        Self { status: StatusCode::TOO_MANY_REQUESTS, body, retry_after_s }
    }

    /// The second envelope, of the older routes, for server errors.
    pub(super) fn from_status(status: StatusCode, retry_after_s: Option<u32>) -> Self {
        if status.is_server_error() {
            let body = json!({ "error": "Failed to load", "code": "INTERNAL_SERVER_ERROR" });
            return Self { status, body, retry_after_s };
        }
        let error = match status {
            StatusCode::UNAUTHORIZED => Self::unauthorized(),
            StatusCode::FORBIDDEN => Self::forbidden("Key lacks the required scope"),
            StatusCode::NOT_FOUND => Self::not_found("Not found"),
            StatusCode::TOO_MANY_REQUESTS => Self::rate_limited(retry_after_s),
            _ => Self::new(status, "VALIDATION_ERROR", "Invalid request data"),
        };
        Self { retry_after_s, ..error }
    }

    pub(super) fn from_fault(answer: FaultAnswer) -> Self {
        let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self::from_status(status, answer.retry_after_s)
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        let message = refused.to_string();
        match refused {
            Refused::NotFound(_) => Self::not_found(&message),
            Refused::Invalid(_) => Self::invalid(&message),
            Refused::Forbidden(_) => Self::forbidden(&message),
            Refused::Unavailable => Self::new(StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE", &message),
            Refused::Conflict => Self::new(StatusCode::CONFLICT, "IDEMPOTENCY_CONFLICT", &message),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// `{"success": true, "data": …}`
pub(super) fn success(data: impl Serialize) -> Response {
    #[derive(Serialize)]
    struct Success<T> {
        success: bool,
        data: T,
    }
    Json(Success { success: true, data }).into_response()
}

/// A request body; anything that is not the documented shape is a validation error.
pub(super) fn body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|_| Error::invalid("Invalid request data"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]
    use super::*;
    use std::path::Path;

    #[test]
    fn the_envelopes_are_the_example_files() {
        let cases = [
            ("400.idempotency-key-missing", Error::no_idempotency_key()),
            ("400.validation", Error::invalid("Invalid request data")),
            ("401.api-key-invalid", Error::unauthorized()),
            ("403.forbidden", Error::forbidden("Key lacks the required scope")),
            ("404.not-found", Refused::NotFound("Order").into()),
            ("409.idempotency-conflict", Refused::Conflict.into()),
            ("429.rate-limit", Error::rate_limited(Some(900))),
        ];
        for (name, error) in cases {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/errors/{name}.json"));
            let wanted: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
            assert_eq!(error.body, wanted, "{name}");
            assert!(name.starts_with(error.status.as_str()));
        }
    }
}

//! Why a call gave no result, as a sentence, and what a person can do about it.
//!
//! Pure: the HTTP side of it is in [`super::call`].

use crate::clock::spelled;
use crate::provider::errors::ApiError;
use std::time::Duration;

/// Why a call gave no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestError {
    /// The address is none, would carry the key in clear, or TLS could not be set up.
    #[error("the REST client cannot be built: {0}")]
    Setup(String),
    /// The key holds characters that no HTTP header may carry.
    #[error("the API key holds characters that no HTTP header can carry")]
    KeyNotAHeader,
    /// An id that no path can hold; nothing was sent.
    #[error("`{0}` is not an id of the provider")]
    NotAnId(String),
    /// No answer: name, address, TLS, or a connection that broke.
    #[error("no answer from the provider: {0}")]
    Unreachable(String),
    /// No complete answer within `provider.timeout`.
    #[error("no complete answer from the provider in time")]
    TimedOut,
    /// The provider answered with a status that is no success; a redirect is one, since none is followed.
    #[error("the provider answered {status}: {error}{}", named(request_id.as_deref()))]
    Status {
        /// The HTTP status.
        status: u16,
        /// The provider's own error.
        error: ApiError,
        /// How long the provider asks to be left alone.
        retry_after: Option<Duration>,
        /// The answer's `x-request-id`, or `request-id`, which the provider's support asks for (`api-spec/errors`).
        request_id: Option<String>,
    },
    /// The answer is larger than this many bytes.
    #[error("the provider's answer is larger than {0} bytes")]
    TooLarge(usize),
    /// The answer is not what the call documents.
    #[error("the provider's answer could not be read: {0}")]
    Malformed(String),
    /// The answer is compressed (or encoded otherwise) although `identity` alone was asked for.
    #[error("the provider's answer is encoded as {0}, which was not asked for")]
    Encoded(String),
    /// A list that did not end within this many pages.
    #[error("the provider's list did not end within {0} pages")]
    Endless(usize),
}

impl RestError {
    /// The HTTP status of the answer, where there was one that is no success.
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// The provider's code for it (`VALIDATION_ERROR`, an open set), where its answer had one.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Status { error, .. } => error.code.as_deref(),
            _ => None,
        }
    }

    /// What a person can do about it, as the rest of a sentence: `<error>; <remedy>`.
    ///
    /// What each status means is documented (`api-spec/errors`, `sdk/configure`).
    pub fn remedy(&self) -> String {
        match self {
            Self::Setup(_) => "correct provider.api_url: https, or http to a loopback host".to_owned(),
            Self::KeyNotAHeader => "store the commerce API key again, as plain text without line breaks".to_owned(),
            Self::NotAnId(_) => "copy the id from a list or an event".to_owned(),
            Self::Unreachable(_) => "check the network, provider.api_url and the machine's certificates".to_owned(),
            Self::TimedOut => "try again, or raise provider.timeout".to_owned(),
            Self::Status { status, error, retry_after, .. } => remedy_of(*status, error, *retry_after),
            Self::TooLarge(_) => "ask for a smaller page with --limit".to_owned(),
            Self::Malformed(_) => "check that provider.api_url is the provider's and not a proxy's".to_owned(),
            Self::Encoded(_) => "see that a proxy on the way leaves answers as they are".to_owned(),
            Self::Endless(_) => "narrow the list with filters".to_owned(),
        }
    }
}

fn remedy_of(status: u16, error: &ApiError, retry_after: Option<Duration>) -> String {
    let said = error.message.to_ascii_lowercase();
    let fixed = match status {
        300..=399 => "correct provider.api_url: redirects are never followed, since the key would follow",
        400 if error.code.as_deref() == Some("IDEMPOTENCY_KEY_MISSING") => "give an idempotency key",
        400 if said.contains("2500") || said.contains("order value") => {
            "an order is worth at most 2,500 USD: split it into several"
        }
        400 if said.contains("expired") => "begin again with an estimate: one holds 15 minutes, an invoice 30",
        400 => "correct the request; the same one will be refused again",
        401 => "check the commerce API key (`ck_…`) that is stored, and that it was not revoked",
        403 => "use a key of commerce scope for this environment; mainnet access is granted by the provider",
        404 => "check the id, and that it belongs to the key's environment",
        409 => "an idempotency key belongs to one request: repeat that very request, or use a new key",
        429 => match retry_after {
            Some(wait) => return format!("try again in {}", spelled(whole_seconds(wait))),
            None => "try again in a minute",
        },
        500..=599 => "the trouble is the provider's: try again later, and give its support the request id",
        _ => "give the provider's support the request id",
    };
    fixed.to_owned()
}

/// Rounded up: who comes back a moment early has to wait again.
fn whole_seconds(wait: Duration) -> Duration {
    Duration::from_secs(wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)))
}

fn named(request_id: Option<&str>) -> String {
    request_id.map(|id| format!(" (request {id})")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::errors;

    fn answered(status: u16, body: &[u8], retry_after: Option<Duration>) -> RestError {
        let request_id = Some("req_8c1d2f".to_owned());
        RestError::Status { status, error: errors::parse(body), retry_after, request_id }
    }

    #[test]
    fn every_example_of_an_error_is_a_sentence_with_a_remedy() {
        macro_rules! example {
            ($name:literal) => {
                include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/errors/", $name, ".json"))
            };
        }
        let cases: [(u16, &[u8], &str, &str); 9] = [
            (400, example!("400.idempotency-key-missing"), "IDEMPOTENCY_KEY_MISSING: Idempotency-Key", "give an"),
            (400, example!("400.invalid-transition"), "VALIDATION_ERROR: cancelled is only reachable", "correct the"),
            (400, example!("400.validation"), "VALIDATION_ERROR: Invalid request data", "correct the request"),
            (401, example!("401.api-key-invalid"), "API_KEY_INVALID: Invalid API key", "check the commerce API key"),
            (403, example!("403.forbidden"), "FORBIDDEN: Key lacks", "use a key of commerce scope"),
            (404, example!("404.not-found"), "NOT_FOUND: Order not found", "check the id"),
            (409, example!("409.idempotency-conflict"), "IDEMPOTENCY_CONFLICT: Key already", "an idempotency key"),
            (429, example!("429.rate-limit"), "RATE_LIMIT_EXCEEDED: Too many", "try again in a minute"),
            (500, example!("500.legacy-envelope"), "INTERNAL_SERVER_ERROR: Failed to load", "the trouble is the"),
        ];
        for (status, body, sentence, remedy) in cases {
            let error = answered(status, body, None);
            let text = error.to_string();
            assert!(text.starts_with(&format!("the provider answered {status}: {sentence}")), "{text}");
            assert!(text.ends_with(" (request req_8c1d2f)"), "{text}");
            assert!(error.remedy().starts_with(remedy), "{}", error.remedy());
            assert_eq!((error.status(), error.code()), (Some(status), sentence.split(':').next()));
        }
    }

    #[test]
    fn limits_of_the_provider_are_explained() {
        let refused = |message: &str| {
            let body = format!(r#"{{"success":false,"error":{{"code":"VALIDATION_ERROR","message":"{message}"}}}}"#);
            answered(400, body.as_bytes(), None).remedy()
        };
        assert!(refused("order value exceeds 2500 USD").contains("2,500 USD"));
        assert!(refused("the estimate has expired").contains("15 minutes"));
        let wait = Some(Duration::from_millis(89_001));
        assert_eq!(answered(429, b"", wait).remedy(), "try again in 90s");
        let forever = Some(Duration::MAX);
        assert!(answered(429, b"", forever).remedy().starts_with("try again in "));
    }

    #[test]
    fn every_other_error_has_a_remedy_too() {
        for error in [
            RestError::Setup(String::new()),
            RestError::KeyNotAHeader,
            RestError::NotAnId("..".to_owned()),
            RestError::Unreachable(String::new()),
            RestError::TimedOut,
            RestError::TooLarge(1),
            RestError::Malformed(String::new()),
            RestError::Encoded(String::new()),
            RestError::Endless(1),
            answered(302, b"", None),
            answered(418, b"", None),
        ] {
            assert!(!error.remedy().is_empty() && !error.to_string().is_empty(), "{error:?}");
        }
    }
}

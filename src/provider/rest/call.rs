//! One call: its address, its key, its attempts, and the bounded reading of its answer.

use super::retry::{self, Failure};
use super::{Rest, RestError, key_header};
use crate::clock::millis;
use crate::provider::connect::{ConnectError, Uses};
use crate::provider::errors::ApiError;
use crate::provider::{AGENT, errors, http_time};
use crate::text::foreign;
use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AGE, CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT,
};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper_util::client::legacy;
use reqwest::Url;
use secrecy::ExposeSecret;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// The largest answer that is read, unless [`Rest::with_body_bytes_max`] allows more: a page of 100 events of 160 kB,
/// where the provider's samples have 2 kB.
pub const BODY_BYTES_MAX: usize = 16 << 20;

/// The largest error answer that is read; it holds a code and a sentence.
const ERROR_BYTES_MAX: usize = 64 << 10;

/// The longest id that is put into a path; the provider's are UUIDs and `evt_…` of at most 45 characters.
const ID_BYTES_MAX: usize = 200;

/// An `Idempotency-Key`: a UUID that the client makes, version 4 (`api-reference/invoices/create-an-invoice`).
///
/// Made by the caller, so that it can be shown before the call and given again after a failure: the same key with the
/// same request is one request, however often it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(Uuid);

/// The text is no UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an idempotency key is a UUID, such as 5f0c1f1e-63d3-4c0b-9d0a-0e2b6c9a7f21")]
pub struct NotAKey;

impl IdempotencyKey {
    /// A fresh one.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for IdempotencyKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        text.trim().parse().map(Self).map_err(|_| NotAKey)
    }
}

/// What is asked of the provider.
pub(super) struct Call<'a> {
    method: Method,
    path: Vec<&'a str>,
    query: Vec<(&'static str, String)>,
    json: Option<serde_json::Value>,
    key: Option<IdempotencyKey>,
    repeatable: bool,
}

impl<'a> Call<'a> {
    /// A read, which may be repeated. Each part of `path` is one segment, whatever it holds.
    pub(super) fn get(path: &[&'a str]) -> Self {
        Self { method: Method::GET, path: path.to_vec(), query: Vec::new(), json: None, key: None, repeatable: true }
    }

    /// A write, which is made once.
    pub(super) fn post(path: &[&'a str], json: serde_json::Value) -> Self {
        Self { method: Method::POST, json: Some(json), repeatable: false, ..Self::get(path) }
    }

    /// A write that the provider carries out once for `key`, so that it may be repeated.
    pub(super) fn keyed(self, key: &IdempotencyKey) -> Self {
        Self { key: Some(*key), repeatable: true, ..self }
    }

    /// A read that happens to be a `POST`.
    pub(super) fn reading(self) -> Self {
        Self { repeatable: true, ..self }
    }

    /// Adds a parameter, if there is a value.
    pub(super) fn with(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }

    fn url(&self, base: &Url) -> Result<Url, RestError> {
        let mut url = base.clone();
        for part in &self.path {
            // `.` and `..` would be another path, and nothing would be the list instead of the thing.
            if part.is_empty() || part.len() > ID_BYTES_MAX || matches!(*part, "." | "..") {
                return Err(RestError::NotAnId(foreign(part).to_string()));
            }
        }
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(&self.path);
        }
        Ok(url)
    }
}

impl Rest {
    /// Makes a call, and answers the body of its success.
    pub(super) async fn call(&self, call: Call<'_>) -> Result<Bytes, RestError> {
        let url = call.url(&self.base)?;
        let attempts_max = if call.repeatable { self.attempts_max } else { 1 };
        let mut attempts = 0;
        loop {
            let (failure, error) = match self.attempt(&call, &url).await {
                Ok(body) => return Ok(body),
                Err(failed) => failed,
            };
            attempts += 1;
            let wait = retry::wait(failure, attempts, rand::random()).filter(|_| attempts < attempts_max);
            let Some(wait) = wait else { return Err(error) };
            let wait_ms = millis(wait);
            tracing::warn!(path = url.path(), %error, retry_in_ms = wait_ms, "request to the provider is repeated");
            tokio::time::sleep(wait).await;
        }
    }

    /// One attempt, within the time that it may take.
    async fn attempt(&self, call: &Call<'_>, url: &Url) -> Result<Bytes, (Failure, RestError)> {
        let answered = tokio::time::timeout(self.timeout, self.exchange(call, url)).await;
        answered.unwrap_or(Err((Failure::Final, RestError::TimedOut)))
    }

    async fn exchange(&self, call: &Call<'_>, url: &Url) -> Result<Bytes, (Failure, RestError)> {
        let started = Instant::now();
        let sent = match self.http.request(self.request(call, url).map_err(last)?).await {
            // The provider closed a connection that had idled, just as it was used again: nobody's fault.
            Err(error) if call.repeatable && was_used_before(&error) => {
                tracing::debug!(path = url.path(), error = reasons(&error), "a connection had ended; asked again");
                self.http.request(self.request(call, url).map_err(last)?).await
            }
            sent => sent,
        };
        let (head, body) = sent.map_err(|error| broken(&error))?.into_parts();
        if let Some(uses) = head.extensions.get::<Uses>() {
            uses.add();
        }
        let status = head.status;
        let headers = head.headers;
        let request_id = text_of(&headers, "x-request-id").or_else(|| text_of(&headers, "request-id"));
        tracing::debug!(
            method = %call.method,
            path = url.path(),
            status = status.as_u16(),
            request_id,
            took_ms = millis(started.elapsed()),
            "provider answered"
        );
        self.learn_clock(&headers);
        if status.is_success() {
            let body = bounded(body, self.body_bytes_max).await?;
            return match encoding(&headers, &body) {
                Some(encoding) => Err((Failure::Final, RestError::Encoded(encoding))),
                None => Ok(body),
            };
        }
        // What follows an error status is a help for people; that it is unreadable changes nothing.
        let body = bounded(body, ERROR_BYTES_MAX).await.unwrap_or_default();
        let (error, retry_after) = refusal(&headers, &body);
        let status = status.as_u16();
        Err((Failure::Answered { status, retry_after }, RestError::Status { status, error, retry_after, request_id }))
    }

    fn request(&self, call: &Call<'_>, url: &Url) -> Result<Request<Full<Bytes>>, RestError> {
        let mut url = url.clone();
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&call.query);
        }
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(url.as_str())
            .header(USER_AGENT, AGENT)
            .header(ACCEPT, "*/*")
            // Nothing here reads another one, and a server may choose one unless it is ruled out (RFC 9110, 12.5.3).
            .header(ACCEPT_ENCODING, "identity");
        {
            let api_key = self.api_key.borrow();
            let api_key = api_key.expose_secret();
            let mut value = HeaderValue::from_str(api_key).map_err(|_| RestError::KeyNotAHeader)?;
            value.set_sensitive(true);
            request = request.header(key_header(api_key), value);
        }
        if let Some(key) = &call.key {
            request = request.header("idempotency-key", key.to_string());
        }
        let body = match &call.json {
            Some(json) => {
                request = request.header(CONTENT_TYPE, "application/json");
                Bytes::from(json.to_string())
            }
            None => Bytes::new(),
        };
        request.body(Full::new(body)).map_err(|error| RestError::Setup(reasons(&error)))
    }

    /// Takes the provider's time from the head of any of its answers.
    pub(crate) fn learn_clock(&self, headers: &HeaderMap) {
        if let Some(theirs) = text_of(headers, DATE.as_str()).and_then(|value| http_time::date_ms(&value)) {
            let age = text_of(headers, AGE.as_str()).map_or(Duration::ZERO, |value| http_time::age(&value));
            self.clock.learn(theirs, age);
        }
    }
}

/// An error that another attempt would meet again.
const fn last(error: RestError) -> (Failure, RestError) {
    (Failure::Final, error)
}

/// What can be learned from an answer that is no success: the reason, and how long to stay away.
pub(crate) fn refusal(headers: &HeaderMap, body: &[u8]) -> (ApiError, Option<Duration>) {
    let mut error = errors::parse(body);
    if let Some(encoding) = encoding(headers, body) {
        error.message = format!("its {} bytes are {encoding}, which was not asked for", body.len());
    }
    let date = text_of(headers, DATE.as_str());
    let asked = text_of(headers, RETRY_AFTER.as_str());
    let asked = asked.and_then(|value| http_time::retry_after(&value, date.as_deref()));
    let retry_after = asked.or(error.retry_after_hint);
    (error, retry_after)
}

/// The encoding of a body that is not read as it is, by its header or by its first bytes (gzip: RFC 1952, 2.3.1).
fn encoding(headers: &HeaderMap, body: &[u8]) -> Option<String> {
    let named = text_of(headers, CONTENT_ENCODING.as_str()).filter(|name| {
        let name = name.trim();
        !name.is_empty() && !name.eq_ignore_ascii_case("identity")
    });
    named.or_else(|| body.starts_with(&[0x1f, 0x8b]).then(|| "gzip".to_owned()))
}

async fn bounded(mut body: Incoming, max: usize) -> Result<Bytes, (Failure, RestError)> {
    let too_large = || (Failure::Final, RestError::TooLarge(max));
    if body.size_hint().lower() > max as u64 {
        return Err(too_large());
    }
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| (Failure::Broke, RestError::Unreachable(reasons(&error))))?;
        let Ok(data) = frame.into_data() else { continue };
        if all.len() + data.len() > max {
            return Err(too_large());
        }
        all.extend_from_slice(&data);
    }
    Ok(all.freeze())
}

/// Whether a request went out on a connection that had answered others, and came back without an answer.
fn was_used_before(error: &legacy::Error) -> bool {
    let mut extensions = http::Extensions::new();
    if let Some(connection) = error.connect_info() {
        connection.get_extras(&mut extensions);
    }
    extensions.get::<Uses>().is_some_and(Uses::any)
}

/// The peer that cannot be reached now will not be in a second: only a connection that was made and broke is worth
/// another attempt.
fn broken(error: &legacy::Error) -> (Failure, RestError) {
    let connect = std::error::Error::source(error).and_then(|error| error.downcast_ref::<ConnectError>());
    match connect {
        Some(connect) => (Failure::Final, RestError::Unreachable(connect.to_string())),
        None if error.is_connect() => (Failure::Final, RestError::Unreachable(reasons(error))),
        None => (Failure::Broke, RestError::Unreachable(reasons(error))),
    }
}

/// An error and what lies beneath it, in one line.
pub(super) fn reasons(error: &dyn std::error::Error) -> String {
    let chain = std::iter::successors(error.source(), |error| error.source());
    foreign(&chain.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))).to_string()
}

fn text_of(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(|text| foreign(text).to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]

    use super::*;

    #[test]
    fn an_id_is_one_segment_or_none() {
        let base = Url::parse("https://api.example.com/behind/").unwrap();
        let path = |id: &str| Call::get(&["orders", id]).url(&base).map(|url| url.path().to_owned());
        assert_eq!(path("a-1").as_deref(), Ok("/behind/orders/a-1"));
        assert_eq!(path("../x?y#z").as_deref(), Ok("/behind/orders/..%2Fx%3Fy%23z"));
        assert_eq!(path("%2e%2e").as_deref(), Ok("/behind/orders/%252e%252e"));
        for id in ["", ".", "..", &"x".repeat(201)] {
            assert!(matches!(path(id), Err(RestError::NotAnId(_))), "{id}");
        }
    }

    #[test]
    fn idempotency_keys_are_uuids_of_version_4() {
        let key = IdempotencyKey::random();
        assert_eq!((key.0.get_version_num(), key.to_string().parse()), (4, Ok(key)));
        assert_ne!(key, IdempotencyKey::random());
        for text in ["", "one", "5f0c1f1e-63d3-4c0b-9d0a-0e2b6c9a7f2"] {
            assert_eq!(text.parse::<IdempotencyKey>(), Err(NotAKey), "{text}");
        }
    }
}

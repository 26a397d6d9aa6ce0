//! One call: its address, its key, its attempts, and the bounded reading of its answer.

use super::retry::{self, Failure};
use super::{Rest, RestError, key_header};
use crate::clock::millis;
use crate::provider::{errors, http_time};
use crate::text::foreign;
use bytes::{Bytes, BytesMut};
use reqwest::header::{DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Url};
use secrecy::ExposeSecret;
use std::fmt;
use std::str::FromStr;
use std::time::Instant;
use uuid::Uuid;

/// The largest answer that is read, unless [`Rest::with_body_bytes_max`] says more: a page of 100 events of 160 kB,
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
        let (query, json, key) = (Vec::new(), None, None);
        Self { method: Method::GET, path: path.to_vec(), query, json, key, repeatable: true }
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
            tracing::warn!(path = url.path(), %error, retry_in_ms = wait_ms, "provider is asked again");
            tokio::time::sleep(wait).await;
        }
    }

    async fn attempt(&self, call: &Call<'_>, url: &Url) -> Result<Bytes, (Failure, RestError)> {
        let started = Instant::now();
        let mut request = self.http.request(call.method.clone(), url.clone()).query(&call.query);
        {
            let api_key = self.api_key.borrow();
            let api_key = api_key.expose_secret();
            let value = HeaderValue::from_str(api_key).map_err(|_| (Failure::Final, RestError::KeyNotAHeader));
            let mut value = value?;
            value.set_sensitive(true);
            request = request.header(key_header(api_key), value);
        }
        if let Some(key) = &call.key {
            request = request.header("idempotency-key", key.to_string());
        }
        if let Some(json) = &call.json {
            request = request.json(json);
        }
        let mut response = request.send().await.map_err(broken)?;
        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
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
            return bounded(&mut response, self.body_bytes_max).await;
        }
        // What follows an error status is a help for people; that it is unreadable changes nothing.
        let body = bounded(&mut response, ERROR_BYTES_MAX).await.unwrap_or_default();
        let error = errors::parse(&body);
        let asked = text_of(&headers, RETRY_AFTER.as_str())
            .and_then(|value| http_time::retry_after(&value, text_of(&headers, DATE.as_str()).as_deref()));
        let retry_after = asked.or(error.retry_after_hint);
        let status = status.as_u16();
        Err((Failure::Answered { status, retry_after }, RestError::Status { status, error, retry_after, request_id }))
    }

    fn learn_clock(&self, headers: &HeaderMap) {
        if let Some(theirs) = text_of(headers, DATE.as_str()).and_then(|value| http_time::date_ms(&value)) {
            self.clock.learn(theirs);
        }
    }
}

async fn bounded(response: &mut reqwest::Response, max: usize) -> Result<Bytes, (Failure, RestError)> {
    let too_large = || (Failure::Final, RestError::TooLarge(max));
    let claimed = response.content_length().unwrap_or(0);
    if claimed > max as u64 {
        return Err(too_large());
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if body.len() + chunk.len() > max {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// A time-out took all the time there was, and who cannot be reached now will not be in a second: only a connection
/// that stood and broke is worth another.
fn broken(error: reqwest::Error) -> (Failure, RestError) {
    if error.is_timeout() {
        return (Failure::Final, RestError::TimedOut);
    }
    let failure = if error.is_connect() || error.is_builder() { Failure::Final } else { Failure::Broke };
    (failure, RestError::Unreachable(reasons(&error.without_url())))
}

/// An error and what lies beneath it, in one line and without the URL, whose query may hold what is not to be read.
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

//! The REST calls that the legs and `check` need, over one client that never follows a redirect.
//!
//! Every call is bounded in time and bytes. The key goes into exactly one header and no log; a URL is logged
//! without its query.

use super::errors::{self, ApiError};
use super::http_time;
use crate::clock::{Clock, now_ms};
use bytes::{Bytes, BytesMut};
use reqwest::header::{DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, Url, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Header of a commerce key (`api-spec/authentication`).
pub const API_KEY: &str = "x-commerce-api-key";

/// The largest answer that is read, unless [`Rest::with_body_bytes_max`] says more: a page of 100 events of 160 kB,
/// where the provider's samples have 2 kB.
pub const BODY_BYTES_MAX: usize = 16 << 20;

/// The largest error answer that is read; it holds a code and a sentence.
const ERROR_BYTES_MAX: usize = 64 << 10;

/// Life of a `ws_token` in seconds: it only has to last from here to the upgrade. The provider's sample uses it.
const WS_TOKEN_TTL_SECONDS: u32 = 60;

/// Foreign text in an error is cut to this many characters.
const TEXT_CHARS_MAX: usize = 200;

/// Why a call gave no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestError {
    /// The address is none, or TLS could not be set up.
    #[error("the REST client cannot be built: {0}")]
    Setup(String),
    /// The key holds characters that no HTTP header may carry.
    #[error("the API key holds characters that no HTTP header can carry")]
    KeyNotAHeader,
    /// No answer: name, address, TLS, or a connection that broke.
    #[error("no answer from the provider: {0}")]
    Unreachable(String),
    /// No complete answer within `provider.timeout`.
    #[error("no complete answer from the provider in time")]
    TimedOut,
    /// The provider answered with a status that is no success; a redirect is one, since none is followed.
    #[error("the provider answered {status}: {error}")]
    Status {
        /// The HTTP status.
        status: u16,
        /// What the provider says about it.
        error: ApiError,
        /// How long the provider asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// The answer is larger than this many bytes.
    #[error("the provider's answer is larger than {0} bytes")]
    TooLarge(usize),
    /// The answer is not what the call documents.
    #[error("the provider's answer could not be read: {0}")]
    Malformed(String),
}

/// Credentials for one WebSocket connection (`api-spec/realtime/ws-token`).
#[derive(Clone, Debug)]
pub struct WsToken {
    /// The token, for the query of the stream's address.
    pub token: SecretString,
    /// The stream's address as the answer gives it; the caller decides whether to trust it.
    pub ws_url: Option<String>,
}

/// What the provider says about itself (`api-spec/commerce/status`).
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommerceStatus {
    /// `available`, else an undocumented text.
    pub status: String,
    /// Escrow balance, as the provider writes it.
    #[serde(default)]
    pub escrow_balance: Option<Box<RawValue>>,
    /// The balance below which the service is off, as the provider writes it.
    #[serde(default)]
    pub minimum_required: Option<Box<RawValue>>,
    /// Which features are on.
    #[serde(default)]
    pub features: BTreeMap<String, bool>,
}

/// The provider's REST interface.
#[derive(Debug)]
pub struct Rest {
    http: Client,
    base: Url,
    api_key: watch::Receiver<SecretString>,
    clock: Arc<Clock>,
    body_bytes_max: usize,
}

impl Rest {
    /// A client of `base` (scheme, host, and a path if the provider stands behind one).
    ///
    /// `timeout` bounds each call, from the name look-up to the last byte. Proxies of the environment are not
    /// used: the WebSocket could not follow, and half a relay behind a proxy helps nobody.
    pub fn new(
        base: &str,
        timeout: Duration,
        api_key: watch::Receiver<SecretString>,
        tls: &rustls::ClientConfig,
        clock: Arc<Clock>,
    ) -> Result<Self, RestError> {
        let base = Url::parse(base).map_err(|error| RestError::Setup(error.to_string()))?;
        if base.cannot_be_a_base() {
            return Err(RestError::Setup("provider.api_url is no http address".to_owned()));
        }
        let http = Client::builder()
            .tls_backend_preconfigured(tls.clone())
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(timeout)
            .user_agent(concat!("pepay-relay/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| RestError::Setup(reasons(&error)))?;
        Ok(Self { http, base, api_key, clock, body_bytes_max: BODY_BYTES_MAX })
    }

    /// Reads larger answers, if `bytes` is more than [`BODY_BYTES_MAX`].
    pub fn with_body_bytes_max(mut self, bytes: usize) -> Self {
        self.body_bytes_max = self.body_bytes_max.max(bytes);
        self
    }

    /// Waits until the key is set anew; for ever when nobody can.
    pub async fn key_changed(&self) {
        let mut api_key = self.api_key.clone();
        api_key.mark_unchanged();
        if api_key.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// A fresh token for one WebSocket connection: `POST /api/v1/ws/token`.
    pub async fn mint_ws_token(&self) -> Result<WsToken, RestError> {
        #[derive(Deserialize)]
        struct Minted {
            token: String,
            #[serde(default)]
            ws_url: Option<String>,
        }
        let request = serde_json::json!({"scope": "commerce", "ttl_seconds": WS_TOKEN_TTL_SECONDS});
        let body = self.call(Method::POST, "api/v1/ws/token", &[], Some(request)).await?;
        let Minted { token, ws_url } = unwrapped(&body)?;
        Ok(WsToken { token: token.into(), ws_url })
    }

    /// Whether commerce is available: `GET /api/commerce/status`.
    pub async fn commerce_status(&self) -> Result<CommerceStatus, RestError> {
        unwrapped(&self.call(Method::GET, "api/commerce/status", &[], None).await?)
    }

    /// A page of the event log as it came, newest first: `GET /api/v1/events`, from the newest event, or older than
    /// the event `starting_after`.
    ///
    /// `limit` is at most 100 by the provider's general rule (`api-spec/pagination`).
    pub async fn events(&self, starting_after: Option<&str>, limit: usize) -> Result<Bytes, RestError> {
        let mut query = vec![("limit", limit.to_string())];
        query.extend(starting_after.map(|cursor| ("starting_after", cursor.to_owned())));
        self.call(Method::GET, "api/v1/events", &query, None).await
    }

    /// A page of the merchant's orders as it came: `GET /api/commerce/merchant/orders`, `limit` of them behind the
    /// first `offset` (`api-reference/orders/list-merchant-scoped-orders`). Their order is not documented.
    pub async fn orders_page(&self, offset: usize, limit: usize) -> Result<Bytes, RestError> {
        let query = [("limit", limit.to_string()), ("offset", offset.to_string())];
        self.call(Method::GET, "api/commerce/merchant/orders", &query, None).await
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        json: Option<serde_json::Value>,
    ) -> Result<Bytes, RestError> {
        let started = Instant::now();
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path.split('/'));
        }
        let mut key =
            HeaderValue::from_str(self.api_key.borrow().expose_secret()).map_err(|_| RestError::KeyNotAHeader)?;
        key.set_sensitive(true);
        let mut request = self.http.request(method.clone(), url).query(query).header(API_KEY, key);
        if let Some(json) = json {
            request = request.json(&json);
        }
        let mut response = request.send().await.map_err(unreachable_because)?;
        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
        tracing::debug!(
            %method,
            path,
            status = status.as_u16(),
            request_id = text_of(&headers, "x-request-id").or_else(|| text_of(&headers, "request-id")),
            took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "provider answered"
        );
        if status.is_success() {
            self.learn_clock(&headers);
            return bounded(&mut response, self.body_bytes_max).await;
        }
        // What follows an error status is a help for people; that it is unreadable changes nothing.
        let body = bounded(&mut response, ERROR_BYTES_MAX).await.unwrap_or_default();
        let error = errors::parse(&body);
        let asked = text_of(&headers, RETRY_AFTER.as_str()).and_then(|value| http_time::retry_after(&value, now_ms()));
        let retry_after = asked.or(error.retry_after_hint);
        Err(RestError::Status { status: status.as_u16(), error, retry_after })
    }

    fn learn_clock(&self, headers: &HeaderMap) {
        if let Some(theirs) = text_of(headers, DATE.as_str()).and_then(|value| http_time::date_ms(&value)) {
            self.clock.learn(theirs);
        }
    }
}

/// Text of a peer, safe to log: control characters escaped, cut to a sentence's length.
pub(crate) fn foreign(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).flat_map(char::escape_debug).collect()
}

/// The result in an answer, with or without the `{"success":true,"data":…}` around it.
fn unwrapped<T: DeserializeOwned>(body: &[u8]) -> Result<T, RestError> {
    #[derive(Deserialize)]
    struct Wrapped<T> {
        data: T,
    }
    serde_json::from_slice::<Wrapped<T>>(body)
        .map(|wrapped| wrapped.data)
        .or_else(|_| serde_json::from_slice(body))
        .map_err(|error| RestError::Malformed(format!("line {}, column {}", error.line(), error.column())))
}

async fn bounded(response: &mut reqwest::Response, max: usize) -> Result<Bytes, RestError> {
    let claimed = response.content_length().unwrap_or(0);
    if claimed > max as u64 {
        return Err(RestError::TooLarge(max));
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable_because)? {
        if body.len() + chunk.len() > max {
            return Err(RestError::TooLarge(max));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

fn unreachable_because(error: reqwest::Error) -> RestError {
    if error.is_timeout() { RestError::TimedOut } else { RestError::Unreachable(reasons(&error.without_url())) }
}

/// An error and what lies beneath it, in one line and without the URL, whose query may hold what is not to be read.
fn reasons(error: &dyn std::error::Error) -> String {
    let chain = std::iter::successors(error.source(), |error| error.source());
    foreign(&chain.fold(error.to_string(), |text, cause| format!("{text}: {cause}")))
}

fn text_of(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(foreign)
}

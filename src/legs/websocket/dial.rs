//! Making one connection: credentials, address, TLS, upgrade.

use super::{Dialer, Ended};
use crate::config::WebsocketAuth;
use crate::legs::websocket::reconnect::End;
use crate::provider::rest::{RestError, key_header};
use crate::provider::{EventId, errors, http_time};
use crate::text::foreign;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::{Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::{DATE, RETRY_AFTER, USER_AGENT};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Error};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config};

/// From the name look-up to the end of the upgrade. Longer than any healthy handshake, and short enough that an
/// address which swallows packets does not cost more than a long backoff.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// A connection as [`Dialer::dial`] makes it.
pub(super) type Stream = WebSocketStream<MaybeTlsStream<Heard<TcpStream>>>;

impl Dialer {
    /// Connects and upgrades, asking for what came after `since`. Redirects are not followed: a key would follow.
    pub(super) async fn dial(&mut self, since: Option<EventId>) -> Result<(Stream, Pulse), Ended> {
        let key = self.api_key.borrow_and_update().clone();
        let token = match self.settings.auth {
            WebsocketAuth::Key => None,
            WebsocketAuth::Token => Some(self.rest.mint_ws_token().await.map_err(without_token)?),
        };
        let base = parsed(&self.websocket_url)?;
        let url = match token.as_ref().and_then(|token| token.ws_url.as_deref()) {
            Some(given) => trusted(given, base),
            None => base,
        };
        let url = addressed(url, &self.settings.types, since, token.as_ref().map(|token| &token.token));
        let request = request(&url, token.is_none().then_some(&key))?;
        let (stream, _) = tokio::time::timeout(CONNECT_TIMEOUT, self.upgraded(&url, request))
            .await
            .map_err(|_| Ended::new(End::ConnectFailed, "no upgrade in time"))??;
        let pulse = pulse_of(&stream);
        Ok((stream, pulse))
    }

    async fn upgraded(&self, url: &Url, request: Request) -> Result<(Stream, Response), Ended> {
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or(443);
        let socket = TcpStream::connect(format!("{host}:{port}")).await.map_err(|error| failed(&error))?;
        // A pong must not wait for company; a socket that refuses the option works without it.
        let _ = socket.set_nodelay(true);
        let bytes_max = Some(self.settings.frame_bytes_max);
        let limits = WebSocketConfig::default().max_frame_size(bytes_max).max_message_size(bytes_max);
        let connector = Connector::Rustls(Arc::clone(&self.tls));
        client_async_tls_with_config(request, Heard::new(socket), Some(limits), Some(connector))
            .await
            .map_err(|error| refused(&error))
    }
}

fn parsed(url: &str) -> Result<Url, Ended> {
    Url::parse(url).map_err(|error| Ended::new(End::ConnectFailed, format!("provider.websocket_url: {error}")))
}

/// The address of a token's answer, if it leads to where the settings lead; else the settings' own. A token is
/// as good as a key while it lives, so it goes nowhere else.
fn trusted(given: &str, base: Url) -> Url {
    match Url::parse(given) {
        Ok(url) if url.origin() == base.origin() && url.origin().is_tuple() => url,
        _ => {
            tracing::warn!("the provider's ws_url has another origin than provider.websocket_url; it is not used");
            base
        }
    }
}

/// The address with its query (`api-spec/realtime/websockets`).
fn addressed(mut url: Url, types: &[String], since: Option<EventId>, token: Option<&SecretString>) -> Url {
    {
        let mut query = url.query_pairs_mut();
        if !types.is_empty() {
            query.append_pair("types", &types.join(","));
        }
        query.append_pair("format", "event_v1");
        if let Some(since) = since {
            query.append_pair("since", &since.to_string());
        }
        if let Some(token) = token {
            query.append_pair("token", token.expose_secret());
        }
    }
    url
}

fn request(url: &Url, key: Option<&SecretString>) -> Result<Request, Ended> {
    let mut request = url
        .as_str()
        .into_client_request()
        .map_err(|_| Ended::new(End::ConnectFailed, "provider.websocket_url is no ws or wss address"))?;
    request
        .headers_mut()
        .insert(USER_AGENT, HeaderValue::from_static(concat!("pepay-relay/", env!("CARGO_PKG_VERSION"))));
    if let Some(key) = key {
        let mut value = HeaderValue::from_str(key.expose_secret()).map_err(|_| {
            Ended::new(End::Http { status: 401, retry_after: None }, RestError::KeyNotAHeader.to_string())
        })?;
        value.set_sensitive(true);
        request.headers_mut().insert(key_header(key.expose_secret()), value);
    }
    Ok(request)
}

fn without_token(error: RestError) -> Ended {
    let end = match &error {
        RestError::Status { status, retry_after, .. } => End::Http { status: *status, retry_after: *retry_after },
        RestError::KeyNotAHeader => End::Http { status: 401, retry_after: None },
        _ => End::ConnectFailed,
    };
    Ended::new(end, foreign(&format!("no ws_token: {error}")))
}

fn failed(error: &io::Error) -> Ended {
    Ended::new(End::ConnectFailed, foreign(&error.to_string()))
}

fn refused(error: &Error) -> Ended {
    match error {
        Error::Http(response) => {
            let status = response.status().as_u16();
            let said = errors::parse(response.body().as_deref().unwrap_or_default());
            let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            let date = response.headers().get(DATE).and_then(|value| value.to_str().ok());
            let asked = header.and_then(|value| http_time::retry_after(value, date));
            let retry_after = asked.or(said.retry_after_hint);
            Ended::new(End::Http { status, retry_after }, foreign(&format!("HTTP {status}: {said}")))
        }
        // Its text would hold the address, and with it a token.
        Error::Url(_) => Ended::new(End::ConnectFailed, "provider.websocket_url is no ws or wss address"),
        tungstenite::Error::Io(error) => failed(error),
        other => Ended::new(End::ConnectFailed, foreign(&other.to_string())),
    }
}

fn pulse_of(stream: &Stream) -> Pulse {
    match stream.get_ref() {
        MaybeTlsStream::Plain(socket) => socket.pulse.clone(),
        MaybeTlsStream::Rustls(tls) => tls.get_ref().0.pulse.clone(),
        // The enum is open, and this build has only the two above; a new pulse starts from now.
        _ => Pulse::new(),
    }
}

/// When bytes were last heard, whatever they were: a large frame on a slow line is life as well.
#[derive(Clone, Debug)]
pub(super) struct Pulse {
    born: Instant,
    last_ms: Arc<AtomicU64>,
}

impl Pulse {
    pub(super) fn new() -> Self {
        Self { born: Instant::now(), last_ms: Arc::default() }
    }

    /// Bytes were heard now, or the relay was not listening until now.
    pub(super) fn beat(&self) {
        let ms = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(ms, Ordering::Relaxed);
    }

    /// When it last beat.
    pub(super) fn last(&self) -> Instant {
        self.born + Duration::from_millis(self.last_ms.load(Ordering::Relaxed))
    }
}

/// A byte stream that beats its pulse with each read.
#[derive(Debug)]
pub(super) struct Heard<S> {
    inner: S,
    pub(super) pulse: Pulse,
}

impl<S> Heard<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, pulse: Pulse::new() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.pulse.beat();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]

    use super::*;

    const STREAM: &str = "wss://api-beta.pepay.io/ws/commerce/events";

    #[test]
    fn the_query_names_types_format_and_since() {
        let types = ["commerce.order.*".to_owned(), "invoice.*".to_owned()];
        let since = "evt_1768472100655-0".parse().ok();
        let url = addressed(Url::parse(STREAM).unwrap(), &types, since, None);
        let query: Vec<_> = url.query_pairs().into_owned().collect();
        let wanted =
            [("types", "commerce.order.*,invoice.*"), ("format", "event_v1"), ("since", "evt_1768472100655-0")];
        assert_eq!(query, wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_token_goes_only_where_the_settings_lead() {
        let base = || Url::parse(STREAM).unwrap();
        assert_eq!(trusted("wss://api-beta.pepay.io:443/other", base()).path(), "/other");
        let elsewhere = [
            "wss://evil.example/ws",
            "ws://api-beta.pepay.io/ws",
            "wss://api-beta.pepay.io:444/",
            "data:x",
            "no address",
        ];
        for given in elsewhere {
            assert_eq!(trusted(given, base()), base(), "{given}");
        }
    }

    #[test]
    fn a_key_stands_in_one_header_and_a_token_in_none() {
        const API_KEY: &str = "x-commerce-api-key";
        let url = Url::parse(STREAM).unwrap();
        let key = SecretString::from("ck_test");
        let with_key = request(&url, Some(&key)).unwrap();
        assert_eq!(with_key.headers().values().filter(|value| *value == "ck_test").count(), 1);
        assert_eq!(with_key.headers()[API_KEY], "ck_test");
        assert!(with_key.headers()[API_KEY].is_sensitive());
        assert!(!request(&url, None).unwrap().headers().contains_key(API_KEY));
    }

    #[test]
    fn a_key_that_no_header_can_carry_is_a_refusal() {
        let ended = request(&Url::parse(STREAM).unwrap(), Some(&"ck\n".into())).unwrap_err();
        assert_eq!(ended.end, End::Http { status: 401, retry_after: None });
    }
}

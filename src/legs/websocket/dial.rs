//! Making one connection: credentials, address, TLS, upgrade.

use super::pulse::{Pulse, heard};
use super::untyped::Untyped;
use super::{Dialer, Ended};
use crate::clock::spelled;
use crate::config::WebsocketAuth;
use crate::legs::websocket::reconnect::End;
use crate::provider::connect::{Answered, Link, ask_to_switch};
use crate::provider::rest::{RestError, key_header, refusal};
use crate::provider::{AGENT, EventId};
use crate::text::foreign;
use bytes::Bytes;
use http::header::{
    CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE, USER_AGENT,
};
use http::response::Parts;
use http::{Request, StatusCode, Uri};
use http_body_util::Empty;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use std::time::Duration;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// From the upgrade's request to its answer; making the connection has a bound of its own.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// A connection as [`Dialer::dial`] makes it.
pub(super) type Stream = WebSocketStream<Untyped<Link>>;

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
        let nonce = generate_key();
        let request = request(&url, &nonce, token.is_none().then_some(&key))?;
        let pulse = Pulse::new();
        let (head, link, ahead) = self.switched(&url, request, pulse.clone()).await?;
        answers(&head, &nonce).map_err(|why| Ended::new(End::ConnectFailed, why))?;
        let bytes_max = Some(self.settings.frame_bytes_max);
        let limits = WebSocketConfig::default().max_frame_size(bytes_max).max_message_size(bytes_max);
        let frames = Untyped::new(link, ahead);
        let stream = WebSocketStream::from_raw_socket(frames, Role::Client, Some(limits)).await;
        Ok((stream, pulse))
    }

    /// The connection after an answer that switches protocols; any other answer is the end. Either head has the
    /// provider's time.
    async fn switched(
        &self,
        url: &Url,
        request: Request<Empty<Bytes>>,
        pulse: Pulse,
    ) -> Result<(Parts, Link, Bytes), Ended> {
        // Its text would hold the query, and with it a token.
        let uri: Uri = url.origin().ascii_serialization().parse().map_err(|_| no_address())?;
        let link = self.connector.connect(&uri, |socket| Box::new(heard(socket, pulse))).await;
        let link = link.map_err(|error| Ended::new(End::ConnectFailed, error.to_string()))?;
        let answered = timeout(ANSWER_WITHIN, ask_to_switch(link, request)).await;
        let late = || format!("no answer to the upgrade within {}", spelled(ANSWER_WITHIN));
        let answered = answered.map_err(|_| Ended::new(End::ConnectFailed, late()))?;
        match answered.map_err(|error| Ended::new(End::ConnectFailed, foreign(&said(&error))))? {
            Answered::Switched { head, link, ahead } => {
                self.rest.learn_clock(&head.headers);
                Ok((head, link, ahead))
            }
            Answered::Refused { head, body } => {
                self.rest.learn_clock(&head.headers);
                let status = head.status.as_u16();
                let (error, retry_after) = refusal(&head.headers, &body);
                Err(Ended::new(End::Http { status, retry_after }, foreign(&format!("HTTP {status}: {error}"))))
            }
        }
    }
}

/// Whether an answer opens the connection that was asked for (RFC 6455, section 4.1); else why not.
fn answers(head: &Parts, nonce: &str) -> Result<(), String> {
    let headers = &head.headers;
    let accept = derive_accept_key(nonce.as_bytes());
    let mut accepts = headers.get_all(SEC_WEBSOCKET_ACCEPT).iter();
    let accepted = accepts.next().is_some_and(|value| value.as_bytes().trim_ascii() == accept.as_bytes());
    let what = if head.status != StatusCode::SWITCHING_PROTOCOLS {
        return Err(format!("HTTP {} is not an upgrade", head.status.as_u16()));
    } else if !has_token(headers, &UPGRADE, "websocket") {
        "has no `Upgrade: websocket`"
    } else if !has_token(headers, &CONNECTION, "upgrade") {
        "has no `Connection: upgrade`"
    } else if !accepted || accepts.next().is_some() {
        "has another Sec-WebSocket-Accept than the key asks for"
    } else if headers.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
        "names an extension, and none was asked for"
    } else if headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        "names a subprotocol, and none was asked for"
    } else {
        return Ok(());
    };
    Err(format!("the answer to the upgrade {what}"))
}

/// Whether a header that is a list of tokens, over however many lines, has this one, in any case.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|word| word.trim().eq_ignore_ascii_case(token))
}

fn no_address() -> Ended {
    Ended::new(End::ConnectFailed, "provider.websocket_url is not a ws or wss address")
}

/// An error with what lies beneath it.
fn said(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("no answer to the upgrade: {error}: {cause}"),
        None => format!("no answer to the upgrade: {error}"),
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

fn request(url: &Url, nonce: &str, key: Option<&SecretString>) -> Result<Request<Empty<Bytes>>, Ended> {
    if !matches!(url.scheme(), "ws" | "wss") {
        return Err(no_address());
    }
    let host = url.host_str().ok_or_else(no_address)?;
    let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let mut request = Request::builder()
        .uri(format!("{}?{}", url.path(), url.query().unwrap_or_default()))
        .header(HOST, host)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, nonce)
        .header(USER_AGENT, AGENT);
    if let Some(key) = key {
        let mut value = HeaderValue::from_str(key.expose_secret()).map_err(|_| {
            Ended::new(End::Http { status: 401, retry_after: None }, RestError::KeyNotAHeader.to_string())
        })?;
        value.set_sensitive(true);
        request = request.header(key_header(key.expose_secret()), value);
    }
    request.body(Empty::new()).map_err(|_| no_address())
}

fn without_token(error: RestError) -> Ended {
    let end = match &error {
        RestError::Status { status, retry_after, .. } => End::Http { status: *status, retry_after: *retry_after },
        RestError::KeyNotAHeader => End::Http { status: 401, retry_after: None },
        _ => End::ConnectFailed,
    };
    Ended::new(end, format!("no ws_token: {error}"))
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
    fn a_key_is_in_one_header_and_a_token_in_none() {
        const API_KEY: &str = "x-commerce-api-key";
        let url = Url::parse(STREAM).unwrap();
        let key = SecretString::from("ck_test");
        let with_key = request(&url, "nonce", Some(&key)).unwrap();
        assert_eq!(with_key.headers().values().filter(|value| *value == "ck_test").count(), 1);
        assert_eq!(with_key.headers()[API_KEY], "ck_test");
        assert!(with_key.headers()[API_KEY].is_sensitive());
        assert!(!request(&url, "nonce", None).unwrap().headers().contains_key(API_KEY));
    }

    #[test]
    fn a_key_that_no_header_can_carry_is_a_refusal() {
        let ended = request(&Url::parse(STREAM).unwrap(), "nonce", Some(&"ck\n".into())).unwrap_err();
        assert_eq!(ended.end, End::Http { status: 401, retry_after: None });
    }
}

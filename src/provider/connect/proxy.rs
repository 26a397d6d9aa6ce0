//! The proxy that connections go through, if any: the settings' own, else that of the environment.

use super::error::reason;
use super::{Answered, ConnectError, Link, ask_to_switch};
use crate::loopback::is_loopback;
use crate::provider::AGENT;
use bytes::Bytes;
use http::header::{HOST, HeaderValue, PROXY_AUTHORIZATION, USER_AGENT};
use http::{Method, Request, Uri};
use http_body_util::Empty;
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use std::fmt;
use std::sync::Arc;

/// Which connections go through which proxy. Prints no credentials.
#[derive(Clone, Default)]
pub struct Proxies {
    chosen: Option<Arc<Matcher>>,
    environment: Option<Arc<Matcher>>,
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxies").finish_non_exhaustive()
    }
}

impl Proxies {
    /// Every connection goes through `proxy` (`http://[user@]host:port`), loopback included: who chose it meant it.
    ///
    /// `None` when `proxy` is not a valid address.
    pub fn chosen(proxy: &str, password: Option<&SecretString>) -> Option<Self> {
        let mut url = Url::parse(proxy).ok().filter(|url| url.scheme() == "http" && url.has_host())?;
        if let Some(password) = password {
            url.set_password(Some(password.expose_secret())).ok()?;
        }
        Some(Self { chosen: Some(Arc::new(Matcher::builder().all(url.as_str()).build())), environment: None })
    }

    /// Connections go through `https_proxy` (`http://[user[:password]@]host:port`, as `HTTPS_PROXY` has it), except
    /// those to this machine and to what `no_proxy` lists.
    ///
    /// `None` when it is not a valid address; one of SOCKS or with TLS is none.
    pub fn of_environment(https_proxy: &SecretString, no_proxy: &str) -> Option<Self> {
        let text = https_proxy.expose_secret().trim();
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        Url::parse(&with_scheme).ok().filter(|url| url.scheme() == "http" && url.has_host())?;
        let matcher = Matcher::builder().all(with_scheme).no(no_proxy).build();
        Some(Self { chosen: None, environment: Some(Arc::new(matcher)) })
    }

    /// The proxy for a host, which is in brackets if it is an IPv6 address.
    pub(super) fn for_host(&self, host: &str, port: u16) -> Option<Proxy> {
        let environment = self.environment.as_ref().filter(|_| !is_loopback(host));
        let matcher = self.chosen.as_ref().or(environment)?;
        let target: Uri = format!("https://{host}:{port}/").parse().ok()?;
        let found = matcher.intercept(&target)?;
        Some(Proxy { address: found.uri().clone(), credentials: found.basic_auth().cloned() })
    }
}

/// One proxy.
pub(super) struct Proxy {
    address: Uri,
    credentials: Option<HeaderValue>,
}

impl Proxy {
    pub(super) fn host(&self) -> &str {
        self.address.host().unwrap_or_default()
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port_u16().unwrap_or(80)
    }

    /// Has the proxy connect to `target` (`host:port`) over `link` (RFC 9110, section 9.3.6).
    pub(super) async fn tunnel(&self, link: Link, target: &str) -> Result<Link, ConnectError> {
        let proxy = format!("{}:{}", self.host(), self.port());
        let failed = |why: String| ConnectError::Proxy { proxy: proxy.clone(), target: target.to_owned(), why };
        let mut request =
            Request::builder().method(Method::CONNECT).uri(target).header(HOST, target).header(USER_AGENT, AGENT);
        if let Some(credentials) = &self.credentials {
            request = request.header(PROXY_AUTHORIZATION, credentials);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| failed(error.to_string()))?;
        match ask_to_switch(link, request).await.map_err(|error| failed(reason(&error)))? {
            // Client and provider both wait for the client to speak first.
            Answered::Switched { link, ahead, .. } if ahead.is_empty() => Ok(link),
            Answered::Switched { .. } => Err(failed("it sent bytes of its own".to_owned())),
            Answered::Refused { head, .. } if head.status.as_u16() == 407 => {
                Err(ConnectError::ProxyCredentials { proxy })
            }
            Answered::Refused { head, .. } => Err(failed(format!("HTTP {}", head.status.as_u16()))),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]

    use super::*;

    fn address(proxies: &Proxies, host: &str) -> Option<String> {
        proxies.for_host(host, 443).map(|proxy| format!("{}:{}", proxy.host(), proxy.port()))
    }

    #[test]
    fn the_chosen_proxy_is_for_every_host_and_has_the_secret_password() {
        let proxies = Proxies::chosen("http://re%40lay@proxy.example:3128", Some(&"p:w@/%".into())).unwrap();
        for host in ["api.example.com", "localhost", "127.0.0.1", "[::1]"] {
            assert_eq!(address(&proxies, host).as_deref(), Some("proxy.example:3128"), "{host}");
        }
        let credentials = proxies.for_host("api.example.com", 443).unwrap().credentials.unwrap();
        // `re@lay:p:w@/%`
        assert_eq!(credentials, "Basic cmVAbGF5OnA6d0AvJQ==");
        assert!(credentials.is_sensitive());
        assert!(!format!("{proxies:?}").contains("p:w"));
        let bare = Proxies::chosen("http://[2001:db8::1]:8080", None).unwrap();
        assert_eq!(address(&bare, "x.example").as_deref(), Some("[2001:db8::1]:8080"));
        assert!(bare.for_host("x.example", 443).unwrap().credentials.is_none());
    }

    #[test]
    fn the_environments_proxy_spares_this_machine_and_what_is_listed() {
        for text in ["http://u:p@proxy.example:3128", "u:p@proxy.example:3128/"] {
            let proxies = Proxies::of_environment(&text.into(), "internal.example,10.0.0.0/8").unwrap();
            assert_eq!(address(&proxies, "api.example.com").as_deref(), Some("proxy.example:3128"));
            for host in ["localhost", "127.0.0.9", "[::1]", "a.internal.example", "10.1.2.3"] {
                assert_eq!(address(&proxies, host), None, "{host}");
            }
            assert_eq!(proxies.for_host("x.example", 1).unwrap().credentials.unwrap(), "Basic dTpw");
        }
        let none = Proxies::of_environment(&"http://proxy.example:3128".into(), "*").unwrap();
        assert_eq!(address(&none, "api.example.com"), None);
    }

    #[test]
    fn what_is_no_http_proxy_is_none() {
        for text in ["", "socks5://proxy.example:1080", "https://proxy.example", "http://", "::"] {
            assert!(Proxies::of_environment(&text.into(), "").is_none(), "{text}");
            assert!(Proxies::chosen(text, None).is_none(), "{text}");
        }
    }
}

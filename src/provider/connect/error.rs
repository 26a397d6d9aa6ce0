//! Why no connection came about, as a sentence that names where it failed.

use crate::text::foreign;
use std::io;
use std::time::Duration;

/// Why no connection came about. What it quotes of peers is escaped and cut; no credentials are in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The address names no host.
    #[error("the address names no host")]
    NoHost,
    /// The name has no address, or none of them took a connection.
    #[error("no connection to {place}: {why}")]
    Tcp {
        /// `host:port`, with the addresses that were tried if the host is a name.
        place: String,
        /// In the system's words.
        why: String,
    },
    /// Not all of it was done in time.
    #[error("no connection to {place} within {}", crate::clock::spelled(*within))]
    TimedOut {
        /// `host:port`
        place: String,
        /// The bound.
        within: Duration,
    },
    /// The peer speaks no TLS, or has a certificate that is not trusted.
    #[error("no TLS with {host}: {why}")]
    Tls {
        /// The host.
        host: String,
        /// In the library's words.
        why: String,
    },
    /// The proxy wants credentials, or others.
    #[error(
        "the proxy {proxy} refused our credentials (407); give its user in provider.proxy (http://USER@HOST:PORT) and \
         the password by provider.proxy_password_file"
    )]
    ProxyCredentials {
        /// `host:port`
        proxy: String,
    },
    /// The proxy does not make the connection.
    #[error("the proxy {proxy} does not connect to {target}: {why}")]
    Proxy {
        /// `host:port`
        proxy: String,
        /// `host:port`
        target: String,
        /// Its status, or how the exchange with it failed.
        why: String,
    },
}

/// The innermost cause, in a line; a time-out in plain words.
pub(super) fn reason(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = || std::iter::successors(Some(error), |error| error.source());
    let timed_out = causes().filter_map(|cause| cause.downcast_ref::<io::Error>());
    if timed_out.into_iter().any(|error| error.kind() == io::ErrorKind::TimedOut) {
        return "no answer in time".to_owned();
    }
    foreign(&causes().last().map_or_else(String::new, ToString::to_string)).to_string()
}

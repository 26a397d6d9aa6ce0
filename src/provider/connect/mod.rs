//! Connections to the provider: name, addresses, proxy, TLS. One way for REST and for the WebSocket.
//!
//! The families of a name's addresses are raced (RFC 8305), and within a family each has its share of the time, so that
//! an address which swallows packets costs a moment and not the connection. Each step has a bound of its own.

mod error;
mod exchange;
mod link;
mod proxy;
mod resolve;

pub use error::ConnectError;
pub use exchange::{Answered, ask_to_switch};
pub use link::{Io, Link, Pooled, Uses};
pub use proxy::Proxies;

use error::reason;
use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use resolve::{Resolver, bare};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tower_service::Service;

/// For all addresses of one family together; two of them have half of it each.
const TCP_WITHIN: Duration = Duration::from_secs(6);

/// For the whole way: name, addresses, proxy and TLS. Longer than any healthy one, and short enough that a name server
/// or a proxy which does not answer costs no more than a long backoff.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);

/// Makes connections to the provider, straight or through a proxy. Clones share all of it.
#[derive(Clone, Debug)]
pub struct Connector {
    tls: Arc<ClientConfig>,
    proxies: watch::Receiver<Proxies>,
    hosts: Arc<HashMap<String, Vec<SocketAddr>>>,
}

impl From<&Arc<ClientConfig>> for Connector {
    /// Without a proxy.
    fn from(tls: &Arc<ClientConfig>) -> Self {
        Self::new(Arc::clone(tls), watch::channel(Proxies::default()).1)
    }
}

impl Connector {
    /// Connections that trust as `tls` does, through the proxies that hold at the time.
    pub fn new(tls: Arc<ClientConfig>, proxies: watch::Receiver<Proxies>) -> Self {
        Self { tls, proxies, hosts: Arc::default() }
    }

    /// The same, where `host` has these addresses, whatever a name server answers.
    pub fn with_host(mut self, host: &str, addresses: &[SocketAddr]) -> Self {
        Arc::make_mut(&mut self.hosts).insert(host.to_owned(), addresses.to_vec());
        self
    }

    /// A connection to the host of `uri` (`http`, `https`, `ws` or `wss`), encrypted where the scheme is. `wrap` is put
    /// around the TCP stream, beneath everything else.
    ///
    /// # Errors
    ///
    /// With the step that failed, and the addresses that were tried.
    pub async fn connect(&self, uri: &Uri, wrap: impl FnOnce(TcpStream) -> Link) -> Result<Link, ConnectError> {
        let target = Target::of(uri)?;
        let within = timeout(CONNECT_WITHIN, self.reach(&target, wrap)).await;
        within.map_err(|_| ConnectError::TimedOut { place: target.authority(), within: CONNECT_WITHIN })?
    }

    async fn reach(&self, target: &Target, wrap: impl FnOnce(TcpStream) -> Link) -> Result<Link, ConnectError> {
        let proxy = self.proxies.borrow().for_host(&target.host, target.port);
        let link = match proxy {
            None => wrap(self.tcp(&target.host, target.port).await?),
            Some(proxy) => {
                let link = wrap(self.tcp(proxy.host(), proxy.port()).await?);
                proxy.tunnel(link, &target.authority()).await?
            }
        };
        if !target.encrypted {
            return Ok(link);
        }
        let host = bare(&target.host).to_owned();
        let failed = |why: String| ConnectError::Tls { host: host.clone(), why };
        let name = ServerName::try_from(host.clone()).map_err(|error| failed(error.to_string()))?;
        let stream = TlsConnector::from(Arc::clone(&self.tls)).connect(name, link).await;
        Ok(Box::new(stream.map_err(|error| failed(reason(&error)))?))
    }

    /// The first address of `host` that answers.
    async fn tcp(&self, host: &str, port: u16) -> Result<TcpStream, ConnectError> {
        let resolver = Resolver::new(Arc::clone(&self.hosts));
        let tried = resolver.found();
        let mut connector = HttpConnector::new_with_resolver(resolver);
        connector.set_connect_timeout(Some(TCP_WITHIN));
        // A pong must not wait for company.
        connector.set_nodelay(true);
        let failed = |why: String| ConnectError::Tcp { place: tried.place(host, port), why };
        let uri = format!("http://{host}:{port}/").parse().map_err(|_| failed("no such host".to_owned()))?;
        let connected = connector.call(uri).await;
        Ok(connected.map_err(|error| failed(reason(&error)))?.into_inner())
    }
}

/// For the pool of the REST client.
impl Service<Uri> for Connector {
    type Response = TokioIo<Pooled>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let link = connector.connect(&uri, |socket| Box::new(socket)).await?;
            Ok(TokioIo::new(Pooled::new(link)))
        })
    }
}

/// Where a connection leads.
struct Target {
    /// An IPv6 address in brackets.
    host: String,
    port: u16,
    encrypted: bool,
}

impl Target {
    fn of(uri: &Uri) -> Result<Self, ConnectError> {
        let encrypted = matches!(uri.scheme_str(), Some("https" | "wss"));
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(ConnectError::NoHost)?;
        let port = uri.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
        Ok(Self { host: host.to_owned(), port, encrypted })
    }

    /// `host:port`, as CONNECT and people write it.
    fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

//! The webhook leg: a listener that answers 2xx only after the commit.
//!
//! Connections and their places are `crate::listener`'s. `handler` decides what a request is answered, `body` turns a
//! stranger's bytes into the provider's, `answer` lists the answers. Binding is apart from serving, so that a taken
//! port is a mistake at start.

mod answer;
mod body;
mod endpoints;
mod handler;
mod tls;

pub use answer::{Documented, documented};
pub use endpoints::{Endpoint, Endpoints};
pub use tls::{Certificates, TlsError};

use super::Leg;
use crate::clock::Clock;
use crate::config;
use crate::labels::{Account, Listener, Seat};
use crate::listener::{self, Limits, descriptors};
use crate::telemetry::{Connections, Health, LegState, Metrics, Phase};
use handler::Handler;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A connection takes no further request after this long, so that a peer that never reads its answers holds a place for
/// this long at most. A peer in good faith reconnects within milliseconds.
const LIFE_MAX: Duration = Duration::from_secs(300);

/// Why the listener cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process has the address.
    #[error("webhook.listen: {0} is in use; stop the process that has it or choose another address")]
    InUse(SocketAddr),
    /// The address is not ours, or its port is not allowed.
    #[error("webhook.listen: {address}: {source}; choose an address of this machine and a port above 1023")]
    Address {
        /// The address in the settings.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// Certificate or key cannot serve.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The leg and all that it works with.
#[derive(Debug)]
pub struct Webhook {
    /// `[webhook]`
    pub settings: config::Webhook,
    /// The accounts' paths and secrets; each request reads them again.
    pub endpoints: watch::Receiver<Arc<Endpoints>>,
    /// What time it is at the provider.
    pub clock: Arc<Clock>,
    /// What the relay can do now, and where operators see the leg's state.
    pub health: Arc<Health>,
    /// Where deliveries, rejections and answers are counted.
    pub metrics: Arc<Metrics>,
    /// Ends the leg.
    pub stop: CancellationToken,
}

/// A bound listener that is not serving yet. Peers that connect wait.
#[derive(Debug)]
pub struct Listening {
    listener: TcpListener,
    address: SocketAddr,
    certificates: Certificates,
    handler: Arc<Handler>,
    limits: Limits,
    /// The socket was there before this process, and so may peers be.
    handed_over: bool,
}

impl Webhook {
    /// Takes the address, or the socket that was handed over in its place, and reads certificate and key, if both are set.
    ///
    /// # Errors
    ///
    /// When the address cannot be had, or certificate and key cannot serve.
    pub async fn bind(self, socket: Option<std::net::TcpListener>) -> Result<Listening, BindError> {
        let certificates = Certificates::read(&self.settings, Arc::clone(&self.metrics))?;
        let wanted = self.settings.listen;
        let refused = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse(wanted),
            _ => BindError::Address { address: wanted, source },
        };
        let handed_over = socket.is_some();
        let listener = match socket {
            Some(socket) => TcpListener::from_std(socket),
            None => listener::bind(wanted),
        };
        let listener = listener.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        self.health.set_leg(Account::FIRST, Leg::Webhook, LegState::Connected);
        self.metrics.leg_connected(Seat::default(), Leg::Webhook, true);
        let limits = limits(&self.settings);
        let handler = Arc::new(Handler::new(self));
        Ok(Listening { listener, address, certificates, handler, limits, handed_over })
    }
}

/// The settings as the listener takes them; places as file descriptors allow.
fn limits(settings: &config::Webhook) -> Limits {
    let connections_max = settings.connections_max;
    Limits {
        connections_max: descriptors::limit()
            .map_or(connections_max, |limit| descriptors::places(connections_max, limit)),
        per_address_max: settings.connections_per_address_max,
        unverified_bytes_max: settings.unverified_bytes_max,
        head_within: settings.body_timeout,
        idle_within: settings.idle_timeout,
        header_bytes_max: settings.header_bytes_max,
        answer_within: settings.answer_within,
        life_max: Some(LIFE_MAX),
    }
}

impl Listening {
    /// The address that was bound; its port is a real one even where the settings have 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What reads certificate and key again while this serves.
    pub fn certificates(&self) -> Certificates {
        self.certificates.clone()
    }

    /// Serves until the leg's `stop` is cancelled, then lets requests that are inside get their outcomes.
    pub async fn serve(self) {
        let Self { listener, certificates, handler, limits, handed_over, .. } = self;
        let Webhook { health, metrics, stop, .. } = &handler.leg;
        let metrics = Arc::clone(metrics);
        let stop = stop.clone();
        if handed_over {
            // What came between two processes waits in the socket's backlog until it can be taken, or has to be
            // refused.
            let mut snapshots = health.subscribe();
            let ready = snapshots.wait_for(|snapshot| snapshot.phase != Phase::Starting);
            tokio::select! {
                () = stop.cancelled() => {}
                _ = timeout(limits.answer_within, ready) => {}
            }
        }
        let tls = Box::new(move || certificates.current());
        let observer = Arc::new(Connections::new(Listener::Webhook, Arc::clone(&metrics)));
        let closed = stop.clone();
        let connected = async {
            closed.cancelled().await;
            metrics.leg_connected(Seat::default(), Leg::Webhook, false);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = listener::serve(listener, limits, handler, tls, observer, stop) => {}
            () = connected => {}
        }
    }
}

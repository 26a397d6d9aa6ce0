//! The webhook leg: a listener that answers 2xx only after the commit.
//!
//! `room` says who has a place (`place` holds it), `connection` serves a peer, `door` judges a request, `body` turns a
//! stranger's bytes into the provider's, `answer` lists what may be said. Binding is apart from serving, so that a taken port is a mistake at start.

mod admission;
mod answer;
mod body;
mod connection;
mod handler;
mod slot;
mod tls;

pub use tls::{Certificates, TlsError};

use super::{Intake, Leg};
use crate::config;
use crate::telemetry::{Health, LegState, Metrics};
use connection::Shared;
use handler::Handler;
use secrecy::SecretString;
use slot::{NoSlot, Slots};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// After a failed accept (most likely no file descriptor is left) the next one waits this long instead of spinning.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);

/// Connections that the kernel has made and we have not accepted; Linux takes no more than `net.core.somaxconn`, 4,096
/// as a rule. A peer beyond it is not refused but forgotten, and finds out after a second or more: at tokio's own 1,024
/// a provider with a thousand connections was answered after up to 2 s now and then.
const BACKLOG: u32 = 4096;

/// What a drain may take beyond `webhook.answer_within`, which bounds each request that is inside: the rest of a
/// body and the way of the answer.
const DRAIN_SLACK: Duration = Duration::from_secs(2);

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
        /// What the system says.
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
    /// Webhook secrets, newest first; each request reads the list anew.
    pub secrets: watch::Receiver<Arc<[SecretString]>>,
    /// Where deliveries go.
    pub intake: Intake,
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
    shared: Shared,
}

impl Webhook {
    /// Takes the address and reads certificate and key, if both are set.
    pub async fn bind(self) -> Result<Listening, BindError> {
        let Self { settings, secrets, intake, health, metrics, stop } = self;
        let certificates = Certificates::read(&settings, Arc::clone(&metrics))?;
        let wanted = settings.listen;
        let refused = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse(wanted),
            _ => BindError::Address { address: wanted, source },
        };
        let listener = listen(wanted).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        health.set_leg(Leg::Webhook, LegState::Connected);
        metrics.leg_connected(Leg::Webhook, true);
        let limits = Arc::new(settings.clone());
        let handler = Arc::new(Handler::new(settings, secrets, intake, health, Arc::clone(&metrics)));
        Ok(Listening { listener, address, certificates, shared: Shared { handler, metrics, limits, stop } })
    }
}

/// As [`TcpListener::bind`], with our backlog.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart must not wait for connections of its predecessor that linger in the kernel.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl Listening {
    /// The address that was bound; its port is a real one even where the settings say 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What reads certificate and key anew while this serves.
    pub fn certificates(&self) -> Certificates {
        self.certificates.clone()
    }

    /// Serves until `stop` is cancelled, then lets requests that are inside get their outcomes.
    ///
    /// At `webhook.connections_max` one more peer is accepted and stands at the door until a place is free, or can be
    /// made free (`room`); all others wait in the system's backlog.
    pub async fn serve(self) {
        let Self { listener, certificates, shared, .. } = self;
        let slots = Slots::new(shared.limits.connections_max, shared.limits.connections_per_address_max);
        let mut connections = JoinSet::new();
        let mut at_door: Option<(TcpStream, IpAddr)> = None;
        loop {
            let mut again = Instant::now();
            if let Some((socket, peer)) = at_door.take() {
                match slots.take(peer) {
                    Ok((slot, task)) => {
                        let serve = shared.clone().serve(socket, certificates.current(), peer, slot);
                        // It is set once.
                        let _ = task.set(connections.spawn(serve));
                    }
                    Err(NoSlot::TooMany) => tracing::debug!(%peer, "webhook connection over the limit of its address"),
                    Err(NoSlot::Full(later)) => {
                        at_door = Some((socket, peer));
                        again = later.into();
                    }
                }
            }
            tokio::select! {
                biased;
                () = shared.stop.cancelled() => break,
                Some(_) = connections.join_next() => {}
                next = accepted(&listener), if at_door.is_none() => at_door = Some(next),
                () = sleep_until(again), if at_door.is_some() => {}
            }
        }
        drop((listener, at_door));
        shared.metrics.leg_connected(Leg::Webhook, false);
        let drained = async { while connections.join_next().await.is_some() {} };
        if timeout(shared.limits.answer_within + DRAIN_SLACK, drained).await.is_err() {
            tracing::warn!(connections = connections.len(), "webhook connections cut while draining");
        }
    }
}

/// The next peer.
async fn accepted(listener: &TcpListener) -> (TcpStream, IpAddr) {
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => return (socket, peer.ip().to_canonical()),
            Err(error) => {
                tracing::debug!(%error, "webhook accept failed");
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

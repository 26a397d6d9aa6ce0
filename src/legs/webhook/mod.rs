//! The webhook leg: a listener that answers 2xx only after the commit.
//!
//! `connection` serves a peer, `door` judges a request, `body` turns a stranger's bytes into the provider's,
//! `answer` lists what may be said. Binding is apart from serving, so that a taken port is a mistake at start.

mod answer;
mod body;
mod connection;
mod door;
mod tls;

pub use tls::{Certificates, TlsError};

use super::{Intake, Leg};
use crate::config;
use crate::telemetry::{Health, LegState, Metrics};
use connection::Shared;
use door::Door;
use secrecy::SecretString;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
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
    pub secrets: watch::Receiver<Vec<SecretString>>,
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
        let door = Arc::new(Door::new(settings, secrets, intake, health, Arc::clone(&metrics)));
        Ok(Listening { listener, address, certificates, shared: Shared { door, metrics, limits, stop } })
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
    /// At `webhook.connections_max` nothing more is accepted: new peers wait in the system's backlog.
    pub async fn serve(self) {
        let Self { listener, certificates, shared, .. } = self;
        let places = Arc::new(Semaphore::new(shared.limits.connections_max.min(Semaphore::MAX_PERMITS)));
        let addresses = Addresses::new(shared.limits.connections_per_address_max);
        let mut connections = JoinSet::new();
        loop {
            let (place, socket, peer) = tokio::select! {
                biased;
                () = shared.stop.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                next = accepted(&listener, &places) => next,
            };
            let Some(address) = addresses.admit(peer) else {
                tracing::debug!(%peer, "webhook connection over the limit of its address");
                continue;
            };
            let (shared, tls) = (shared.clone(), certificates.current());
            connections.spawn(async move {
                shared.serve(socket, tls, peer).await;
                drop((place, address));
            });
        }
        drop(listener);
        shared.metrics.leg_connected(Leg::Webhook, false);
        let drained = async { while connections.join_next().await.is_some() {} };
        if timeout(shared.limits.answer_within + DRAIN_SLACK, drained).await.is_err() {
            tracing::warn!(connections = connections.len(), "webhook connections cut while draining");
        }
    }
}

/// A place, and then the peer that takes it.
async fn accepted(listener: &TcpListener, places: &Arc<Semaphore>) -> (OwnedSemaphorePermit, TcpStream, IpAddr) {
    loop {
        let Ok(place) = Arc::clone(places).acquire_owned().await else {
            // Nobody closes this semaphore; waiting is all that would be left to do.
            return std::future::pending().await;
        };
        match listener.accept().await {
            Ok((socket, peer)) => return (place, socket, peer.ip().to_canonical()),
            Err(error) => {
                tracing::debug!(%error, "webhook accept failed");
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Connections by address, where `webhook.connections_per_address_max` limits them. Holds only addresses that have
/// a connection now, so it is as bounded as those.
#[derive(Clone, Debug)]
struct Addresses {
    /// 0: no limit.
    max: usize,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A connection's place among those of its address, given back when dropped.
#[derive(Debug)]
struct Address {
    addresses: Addresses,
    peer: IpAddr,
}

impl Addresses {
    fn new(max: usize) -> Self {
        Self { max, open: Arc::default() }
    }

    /// A place for a connection of `peer`; `None` over the limit.
    fn admit(&self, peer: IpAddr) -> Option<Address> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(peer).or_default();
        if self.max != 0 && *count >= self.max {
            return None;
        }
        *count += 1;
        Some(Address { addresses: self.clone(), peer })
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        let mut open = self.addresses.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_limit_and_gets_places_back() {
        let addresses = Addresses::new(2);
        let (here, there) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let first = addresses.admit(here);
        let second = addresses.admit(here);
        assert!(first.is_some() && second.is_some());
        assert!(addresses.admit(here).is_none());
        assert!(addresses.admit(there).is_some());
        drop(first);
        assert!(addresses.admit(here).is_some());
        drop(second);
        assert!(addresses.open.lock().unwrap_or_else(PoisonError::into_inner).is_empty());
    }
}

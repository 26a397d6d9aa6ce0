//! A listener that holds against strangers: places, times, an order in which connections go, and requests by HTTP/1.
//!
//! `admission` decides which connection has a place (`slot` holds it), `connection` serves a peer, `exchange` sees what
//! it does, `refusal` names what is refused below a request, `descriptors` knows how many files may be open, `socket`
//! binds. What a request is answered is the [`Service`]'s; what is counted and logged is the [`Observer`]'s.

mod admission;
mod connection;
pub mod descriptors;
mod exchange;
mod refusal;
mod slot;
mod socket;

pub use refusal::Refusal;
pub use slot::{Refused, Share, Slot};
pub use socket::{bind, handed_over};

use bytes::Bytes;
use connection::Shared;
use hyper::body::{Body, Incoming};
use hyper::{Request, Response};
use slot::{NoSlot, Slots};
use std::fmt::{Debug, Display};
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// After a failed accept the next one waits this long instead of spinning.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);

/// What a drain may take beyond [`Limits::answer_within`], which bounds each request that is inside: the rest of a
/// body and the way of the answer.
const DRAIN_SLACK: Duration = Duration::from_secs(2);

/// Bounds of one listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections that have a place.
    pub connections_max: usize,
    /// Connections of one address; 0: no limit.
    pub per_address_max: usize,
    /// Bytes of bodies that nobody has verified.
    pub unverified_bytes_max: usize,
    /// From the first byte of a head to its end, and for a TLS handshake.
    pub head_within: Duration,
    /// Between two requests of a connection.
    pub idle_within: Duration,
    /// The largest head, in bytes; twice as much is read.
    pub header_bytes_max: usize,
    /// What a request may wait for its answer.
    pub answer_within: Duration,
    /// A connection takes no further request after this long, so that a peer that reads its answers slowly holds a place
    /// for this long at most.
    pub life_max: Option<Duration>,
}

/// Where a listener reports what happens below its requests.
pub trait Observer: Debug + Send + Sync {
    /// A connection of this peer was cut, so that another one can be served.
    fn cut(&self, peer: IpAddr);
    /// A connection of this peer was refused.
    fn refused(&self, peer: IpAddr, refusal: Refusal, detail: &dyn Display);
    /// A refusal was answered with this status.
    fn answered(&self, status: u16);
    /// A connection could not be accepted.
    fn not_accepted(&self, error: &io::Error, short: bool);
    /// `connections` connections were cut at the end of the drain.
    fn cut_draining(&self, connections: usize);
}

/// What requests are answered.
pub trait Service: Debug + Send + Sync + 'static {
    /// An answer's body.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static;

    /// The answer. A request that needs a place of `slot` asks for it.
    fn answer(
        &self,
        peer: IpAddr,
        request: Request<Incoming>,
        slot: &Slot,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// TLS of the next connection, if there is any.
pub type Tls = Box<dyn Fn() -> Option<Arc<rustls::ServerConfig>> + Send + Sync>;

/// Serves until `stop` is cancelled, then lets requests that are inside get their outcomes.
///
/// Peers that find no place wait in a short line (`admission::LINE_MAX`); all others wait in the system's backlog, but for one
/// that has left it and is let in next: a stop turns that one away.
pub async fn serve<S: Service>(
    listener: TcpListener,
    limits: Limits,
    service: Arc<S>,
    tls: Tls,
    observer: Arc<dyn Observer>,
    stop: CancellationToken,
) {
    let Limits { connections_max, per_address_max, unverified_bytes_max, .. } = limits;
    let slots = Slots::new(connections_max, per_address_max, unverified_bytes_max, Arc::clone(&observer));
    let shared = Arc::new(Shared { service, limits, observer: Arc::clone(&observer), stop: stop.clone() });
    let mut connections = JoinSet::new();
    let mut at_door: Option<(TcpStream, IpAddr)> = None;
    loop {
        let mut again = slots.turn();
        if let Some((socket, peer)) = at_door.take() {
            match slots.enter(peer) {
                Ok((slot, reach)) => {
                    let connection = Arc::clone(&shared).serve(socket, tls(), peer, slot);
                    reach.started(connections.spawn(connection));
                    again = slots.turn();
                }
                Err(NoSlot::TooMany) => observer.refused(peer, Refusal::TooMany, &"over the limit of its address"),
                Err(NoSlot::Full(later)) => {
                    at_door = Some((socket, peer));
                    again = again.into_iter().chain([later]).min();
                }
            }
        }
        let wait = again.map_or_else(Instant::now, Instant::from);
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            next = accepted(&listener, &slots, &*observer), if at_door.is_none() => at_door = next,
            () = sleep_until(wait), if again.is_some() => {}
        }
    }
    drop((listener, at_door));
    let drained = async {
        while connections.join_next().await.is_some() {
            // What is complete in the line gets its place and its outcome too.
            slots.turn();
        }
    };
    if timeout(limits.answer_within + DRAIN_SLACK, drained).await.is_err() {
        observer.cut_draining(connections.len());
    }
}

/// The next peer; none where there was no descriptor for it, after a moment in which one may have become free.
async fn accepted(listener: &TcpListener, slots: &Slots, observer: &dyn Observer) -> Option<(TcpStream, IpAddr)> {
    match listener.accept().await {
        Ok((socket, peer)) => Some((socket, peer.ip().to_canonical())),
        Err(error) => {
            let short = descriptors::is_short(&error);
            observer.not_accepted(&error, short);
            if short {
                slots.make_room();
            }
            sleep(ACCEPT_RETRY).await;
            None
        }
    }
}

//! A connection's place in the room, held as long as the connection lives.

use super::room::{Entry, Id, Room, UNCUT};
use crate::telemetry::RateLimited;
use futures::future::{AbortHandle, AbortRegistration};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// `webhook connections cut to make room` is logged at most this often; the line says how many it stands for. A crowd
/// must not become a crowd of lines.
const CUT_LOG_EVERY: Duration = Duration::from_secs(10);

/// The room that all connections share.
#[derive(Clone, Debug)]
pub(super) struct Places(Arc<Mutex<Inside>>);

#[derive(Debug)]
struct Inside {
    room: Room<AbortHandle>,
    said: RateLimited,
}

/// Given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    id: Id,
}

/// Why a peer has no place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// Its address has as many connections as it may.
    TooMany,
    /// Worth another try when a connection has ended, or then.
    Full(Instant),
}

impl Places {
    /// `max` connections, and of one address so many (0: no limit).
    pub(super) fn new(max: usize, per_address_max: usize) -> Self {
        let said = RateLimited::new(CUT_LOG_EVERY);
        Self(Arc::new(Mutex::new(Inside { room: Room::new(max, per_address_max), said })))
    }

    /// A place for `peer`, and what ends the connection when its place is wanted for another. Where there is none, one
    /// connection is cut if that may be; its place is free when it has ended.
    pub(super) fn take(&self, peer: IpAddr) -> Result<(Place, AbortRegistration), NoPlace> {
        let now = Instant::now();
        let (cut, registration) = AbortHandle::new_pair();
        let mut inside = self.lock();
        match inside.room.enter(peer, now, cut) {
            Entry::TooMany => Err(NoPlace::TooMany),
            Entry::Full(again) => Err(NoPlace::Full(again)),
            Entry::Cut(other, its_end) => {
                its_end.abort();
                if let Some(unsaid) = inside.said.allow(now) {
                    let count = unsaid.saturating_add(1);
                    tracing::warn!(peer = %other, count, "webhook connections cut to make room");
                }
                Err(NoPlace::Full(now + UNCUT))
            }
            Entry::In(id) => {
                drop(inside);
                Ok((Place { places: self.clone(), id }, registration))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The head of a request is there.
    pub(super) fn request(&self) {
        self.places.lock().room.request(self.id, Instant::now());
    }

    /// The request is complete, and nobody takes the place from now on. Does not return when somebody has: the
    /// connection is about to end.
    pub(super) async fn answering(&self) {
        let is_ours = self.places.lock().room.answering(self.id);
        if !is_ours {
            std::future::pending::<()>().await;
        }
    }

    /// The answer is on its way.
    pub(super) fn answered(&self) {
        self.places.lock().room.answered(self.id, Instant::now());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().room.leave(self.id);
    }
}

//! A connection's part in the admission, held as long as the connection lives.

use super::Observer;
use super::admission::{Admission, Entry, Id, LEFT_WITHIN, Place, Turn, UNCUT};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::sleep_until;

/// Bits of an IPv6 address that name a network; the rest is its owner's to choose (RFC 4291, section 2.5.4), 2^64 of them.
const IPV6_NETWORK_BITS: u32 = 64;

/// What all connections of a listener share.
#[derive(Clone, Debug)]
pub(super) struct Slots(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    admission: Mutex<Admission<Arc<Reach>>>,
    /// Bytes that bodies may hold before their signatures are checked.
    budget: Arc<Semaphore>,
    budget_bytes: usize,
    observer: Arc<dyn Observer>,
}

/// How a connection is reached.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// Its task, once it has been started: nobody is cut as early as that.
    task: OnceLock<AbortHandle>,
    /// Its place in the line has changed.
    turned: Notify,
}

impl Reach {
    pub(super) fn started(&self, task: AbortHandle) {
        // It is set once.
        let _ = self.task.set(task);
    }

    fn cut(&self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

/// What a connection holds; all of it is given back when this is dropped.
#[derive(Debug)]
pub struct Slot {
    slots: Slots,
    id: Id,
    reach: Arc<Reach>,
    has_place: AtomicBool,
    verified: AtomicBool,
}

/// Bytes of a body that nobody has verified; given back when dropped.
#[derive(Debug)]
pub struct Share(OwnedSemaphorePermit);

impl Share {
    /// Both together.
    pub fn merge(&mut self, other: Self) {
        self.0.merge(other.0);
    }
}

/// Why a peer is not served now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoSlot {
    /// Its address has as many connections as it may.
    TooMany,
    /// Worth another try when a connection has ended, or then.
    Full(Instant),
}

/// There is no place, and there was none for too long: the peer is asked to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

impl Slots {
    /// `max` connections, of one address `per_address_max` (0: no limit), and `bytes` of unverified bodies.
    pub(super) fn new(max: usize, per_address_max: usize, bytes: usize, observer: Arc<dyn Observer>) -> Self {
        let budget_bytes = bytes.min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        let admission = Admission::new(max, per_address_max);
        let budget = Semaphore::new(budget_bytes);
        Self(Arc::new(Shared { admission: Mutex::new(admission), budget: Arc::new(budget), budget_bytes, observer }))
    }

    /// A slot for `peer`, with a place or a turn in the line.
    pub(super) fn enter(&self, peer: IpAddr) -> Result<(Slot, Arc<Reach>), NoSlot> {
        let now = Instant::now();
        let reach = Arc::new(Reach::default());
        let entry = self.lock().enter(site(peer), now, Arc::clone(&reach));
        let (id, has_place) = match entry {
            Entry::In(id) => (id, true),
            Entry::Waits(id) => (id, false),
            Entry::TooMany => return Err(NoSlot::TooMany),
            Entry::Full(later) => return Err(NoSlot::Full(later)),
            Entry::Cut(other, its) => {
                self.cut(other, &its);
                return Err(NoSlot::Full(now));
            }
            Entry::Tell(its) => {
                its.turned.notify_one();
                return Err(NoSlot::Full(now));
            }
        };
        let slot = Slot {
            slots: self.clone(),
            id,
            reach: Arc::clone(&reach),
            has_place: AtomicBool::new(has_place),
            verified: AtomicBool::new(false),
        };
        Ok((slot, reach))
    }

    /// Gives places to those that wait, as far as there are any or can be made; when to look again if some still wait.
    pub(super) fn turn(&self) -> Option<Instant> {
        loop {
            let (now, turn) = {
                let mut admission = self.lock();
                let now = Instant::now();
                (now, admission.turn(now))
            };
            match turn {
                Turn::Nobody => return None,
                Turn::Place(its) => its.turned.notify_one(),
                Turn::Later(later) => return Some(later),
                Turn::Cut(other, its) => {
                    self.cut(other, &its);
                    return Some(now + UNCUT);
                }
            }
        }
    }

    /// Cuts the connection that is least needed, if one may be: there is no file descriptor for another one.
    pub(super) fn make_room(&self) {
        let made = self.lock().make_room(Instant::now());
        if let Ok((other, its)) = made {
            self.cut(other, &its);
        }
    }

    fn cut(&self, peer: IpAddr, reach: &Reach) {
        reach.cut();
        self.0.observer.cut(peer);
    }

    fn lock(&self) -> MutexGuard<'_, Admission<Arc<Reach>>> {
        self.0.admission.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What counts as one peer: an IPv4 address, or a network of IPv6.
fn site(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let host_bits = u128::BITS - IPV6_NETWORK_BITS;
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> host_bits << host_bits))
        }
        address => address,
    }
}

impl Slot {
    /// Whether it has a place, or waits for one.
    pub fn has_place(&self) -> bool {
        self.has_place.load(Ordering::Relaxed)
    }

    /// Waits for a place, when it has none: a request is there that needs one.
    pub async fn place(&self) -> Result<(), Refused> {
        while !self.has_place() {
            let place = self.slots.lock().place(self.id);
            match place {
                Place::Has => self.has_place.store(true, Ordering::Relaxed),
                Place::Refused => return Err(Refused),
                Place::Waits => self.reach.turned.notified().await,
            }
        }
        Ok(())
    }

    /// A request has begun and is not complete; `bytes` of its body are held.
    pub fn unfinished(&self, bytes: usize) {
        self.slots.lock().unfinished(self.id, Instant::now(), bytes);
    }

    /// The request is complete, and nobody takes the place from now on. Does not return when somebody has: the
    /// connection is about to end.
    pub async fn answering(&self) {
        let is_ours = self.slots.lock().answering(self.id);
        if !is_ours {
            std::future::pending::<()>().await;
        }
    }

    /// The answer is on its way.
    pub(super) fn answered(&self) {
        self.slots.lock().answered(self.id, Instant::now());
    }

    /// Its peer has brought a verified request, and is no stranger any more.
    pub fn verified(&self) {
        if !self.verified.swap(true, Ordering::Relaxed) {
            self.slots.lock().verified(self.id);
        }
    }

    /// Room for `bytes` of a body if there is any now.
    pub fn try_take(&self, bytes: usize) -> Option<Share> {
        let permits = u32::try_from(bytes).ok()?;
        Arc::clone(&self.slots.0.budget).try_acquire_many_owned(permits).ok().map(Share)
    }

    /// Room for `bytes` of a body that holds `held` already, for which others are cut; `None` when there is not as much in
    /// all.
    pub async fn take(&self, bytes: usize, held: usize) -> Option<Share> {
        if let Some(share) = self.try_take(bytes) {
            return Some(share);
        }
        let Shared { budget, budget_bytes, .. } = &*self.slots.0;
        let permits = u32::try_from(bytes).ok().filter(|_| held.saturating_add(bytes) <= *budget_bytes)?;
        // It waits for bytes, and can be cut for them as others can.
        self.unfinished(held);
        let mut room = std::pin::pin!(Arc::clone(budget).acquire_many_owned(permits));
        loop {
            let again = self.make_bytes();
            tokio::select! {
                biased;
                share = &mut room => return share.ok().map(Share),
                () = sleep_until(again.into()) => {}
            }
        }
    }

    /// Cuts the body that goes first, if one may be; when to look again.
    fn make_bytes(&self) -> Instant {
        let (now, made) = {
            let mut admission = self.slots.lock();
            let now = Instant::now();
            (now, admission.make_bytes(now))
        };
        match made {
            Ok((other, its)) => {
                self.slots.cut(other, &its);
                now + LEFT_WITHIN
            }
            Err(later) => later,
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.lock().leave(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_is_one_peer_and_an_ipv4_address_in_ipv6_is_itself() {
        let of = |text: &str| text.parse().map(site).map(|site| site.to_string()).unwrap_or_default();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::"));
        assert_ne!(of("2001:db8:1:3::1"), of("2001:db8:1:2::1"));
        assert_eq!((of("192.0.2.1"), of("::ffff:192.0.2.1")), ("192.0.2.1".into(), "192.0.2.1".into()));
    }
}

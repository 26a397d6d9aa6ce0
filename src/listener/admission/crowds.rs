//! Connections that may be cut, by the address that they come from. Pure.

use super::Id;
use core::net::IpAddr;
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

/// What a connection does that may be cut, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// A request is not complete; of its body `bytes` bytes are held.
    Unfinished { since: Instant, bytes: usize },
    /// Nothing: it is between two requests.
    Idle { since: Instant },
}

/// Every address with its connections, and the order in which addresses give one up.
#[derive(Debug, Default)]
pub(super) struct Crowds {
    addresses: HashMap<IpAddr, Crowd>,
    /// By connections; the last one has the most, and among equals the one whose connection is oldest.
    by_count: BTreeSet<Rank>,
    /// Those with bytes, by bytes.
    by_bytes: BTreeSet<Rank>,
}

/// How much an address holds, since when its first connection in turn does, and the address.
type Rank = (usize, Reverse<Instant>, IpAddr);

#[derive(Debug, Default)]
struct Crowd {
    unfinished: BTreeSet<(Instant, Id)>,
    idle: BTreeSet<(Instant, Id)>,
    /// Those of the unfinished that hold bytes.
    bodies: BTreeSet<(Instant, Id)>,
    bytes: usize,
}

impl Crowd {
    fn count(&self) -> usize {
        self.unfinished.len() + self.idle.len()
    }

    /// The connection that goes first: the oldest unfinished one, then the longest idle one.
    fn in_turn(&self, is_due: &dyn Fn(Instant) -> bool) -> Option<Id> {
        let due = |list: &BTreeSet<(Instant, Id)>| list.first().filter(|(since, _)| is_due(*since)).map(|(_, id)| *id);
        due(&self.unfinished).or_else(|| due(&self.idle))
    }

    fn rank_by_count(&self, peer: IpAddr) -> Option<Rank> {
        let (since, _) = self.unfinished.first().or(self.idle.first())?;
        Some((self.count(), Reverse(*since), peer))
    }

    fn rank_by_bytes(&self, peer: IpAddr) -> Option<Rank> {
        let (since, _) = self.bodies.first()?;
        Some((self.bytes, Reverse(*since), peer))
    }
}

impl Crowds {
    pub(super) fn insert(&mut self, peer: IpAddr, id: Id, doing: Doing) {
        self.change(peer, |crowd| match doing {
            Doing::Idle { since } => drop(crowd.idle.insert((since, id))),
            Doing::Unfinished { since, bytes } => {
                crowd.unfinished.insert((since, id));
                if bytes > 0 {
                    crowd.bodies.insert((since, id));
                    crowd.bytes += bytes;
                }
            }
        });
    }

    pub(super) fn remove(&mut self, peer: IpAddr, id: Id, doing: Doing) {
        self.change(peer, |crowd| match doing {
            Doing::Idle { since } => drop(crowd.idle.remove(&(since, id))),
            Doing::Unfinished { since, bytes } => {
                crowd.unfinished.remove(&(since, id));
                if crowd.bodies.remove(&(since, id)) {
                    crowd.bytes -= bytes;
                }
            }
        });
    }

    fn change(&mut self, peer: IpAddr, change: impl FnOnce(&mut Crowd)) {
        let crowd = self.addresses.entry(peer).or_default();
        if let Some(rank) = crowd.rank_by_count(peer) {
            self.by_count.remove(&rank);
        }
        if let Some(rank) = crowd.rank_by_bytes(peer) {
            self.by_bytes.remove(&rank);
        }
        change(crowd);
        self.by_count.extend(crowd.rank_by_count(peer));
        self.by_bytes.extend(crowd.rank_by_bytes(peer));
        if crowd.count() == 0 {
            self.addresses.remove(&peer);
        }
    }

    /// Of the address with the most connections, the first in turn that is due; without one, of the next address. Else
    /// since when the first of those does what it does that will be due next.
    pub(super) fn least_needed(&self, is_due: &dyn Fn(Instant) -> bool) -> Result<Id, Option<Instant>> {
        let mut earliest = None;
        for (_, _, address) in self.by_count.iter().rev() {
            let Some(crowd) = self.addresses.get(address) else { continue };
            if let Some(id) = crowd.in_turn(is_due) {
                return Ok(id);
            }
            let firsts = [crowd.unfinished.first(), crowd.idle.first()].into_iter().flatten();
            earliest = firsts.map(|(since, _)| *since).chain(earliest).min();
        }
        Err(earliest)
    }

    /// The same by bytes: the oldest unfinished body of the address whose bodies hold most.
    pub(super) fn heaviest(&self, is_due: &dyn Fn(Instant) -> bool) -> Result<Id, Option<Instant>> {
        let mut earliest = None;
        for (_, Reverse(since), address) in self.by_bytes.iter().rev() {
            let oldest = self.addresses.get(address).and_then(|crowd| crowd.bodies.first());
            if let Some((_, id)) = oldest.filter(|_| is_due(*since)) {
                return Ok(*id);
            }
            earliest = earliest.into_iter().chain([*since]).min();
        }
        Err(earliest)
    }

    /// Connections, those of them that are idle, and bytes, of all addresses; empty lists are forgotten.
    #[cfg(test)]
    pub(super) fn totals(&self) -> (usize, usize, usize) {
        let sum = |of: fn(&Crowd) -> usize| self.addresses.values().map(of).sum();
        let count = sum(Crowd::count);
        let bytes = sum(|crowd| crowd.bytes);
        assert_eq!(self.by_count.iter().map(|(count, ..)| count).sum::<usize>(), count);
        assert_eq!(self.by_bytes.iter().map(|(bytes, ..)| bytes).sum::<usize>(), bytes);
        assert!(self.addresses.values().all(|crowd| crowd.count() > 0));
        (count, sum(|crowd| crowd.idle.len()), bytes)
    }
}

//! Which connection has a place at a listener, which one waits, and which one is cut so that another can be served. Pure.
//!
//! A peer that has nothing to do here (a connection between two requests) or that does not finish (a head or a body
//! that does not end) has its place, and the bytes of its body, only until somebody else wants them. A peer whose request
//! is complete keeps its place until it is answered.
//!
//! Strangers go first: of the address that holds most, the oldest unfinished request, then the longest idle connection.
//! A connection that has brought a verified request goes only when strangers hold next to nothing.

mod crowds;
#[cfg(test)]
mod tests;

use core::net::IpAddr;
use crowds::{Crowds, Doing};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// No connection is cut that has been idle, or at a request, for less than this.
///
/// It bounds both ways. A peer that sends at once is done in less: a TLS handshake and a request are two round trips behind
/// the accept, a second between far ends of the world being rare, and half of one is kept for the machine. It is also
/// what the last of a crowd waits for: when all places were taken in one moment, the next one is free so much later.
pub(super) const UNCUT: Duration = Duration::from_millis(250);

/// Connections that are served without a place while they wait for one: their heads are read, so that a question about
/// the relay's health is answered although every place is taken.
pub(super) const LINE_MAX: usize = 32;

/// A complete request at the head of a full line is asked to come back after this long, when yet another peer is
/// there.
pub(super) const LINE_WAIT: Duration = Duration::from_secs(2);

/// Strangers compete among themselves once they hold this part (1 / n) of the places: below it, one that waits may get the
/// place of a connection that brought a verified request.
const STRANGERS_PART: usize = 8;

/// A connection that was cut for its bytes has usually left after this long.
pub(super) const LEFT_WITHIN: Duration = Duration::from_millis(5);

/// A connection's name; none is used twice.
pub(super) type Id = u64;

/// The connections of one listener; `C` is what reaches one.
#[derive(Debug)]
pub(super) struct Admission<C> {
    /// Places.
    max: usize,
    /// Places and turns in the line of one address; 0: no limit.
    per_address_max: usize,
    next: Id,
    connections: HashMap<Id, Connection<C>>,
    /// Without a place, in the order in which they came.
    line: BTreeMap<Id, Waiting>,
    /// Connections of each address that has one.
    addresses: HashMap<IpAddr, usize>,
    strangers: Crowds,
    verified: Crowds,
    /// Connections that have a place, those included that are about to leave one.
    placed: usize,
    /// Strangers that have a place, whatever they do.
    strangers_in: usize,
    /// The connection that was cut for its place and has not left yet. One at a time: the next one is cut when this place
    /// has been taken.
    leaving: Option<Id>,
    /// The same for bytes.
    body_leaving: Option<Id>,
}

#[derive(Debug)]
struct Connection<C> {
    peer: IpAddr,
    state: State,
    /// It has brought a verified request.
    verified: bool,
    reach: C,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// May be cut.
    Cuttable(Doing),
    /// A complete request waits for its answer.
    Answering,
    /// No place yet.
    Waiting,
    /// About to leave; a place that it had is not free yet.
    Cut { had_place: bool },
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    since: Instant,
    /// A whole head is there, so that there is somebody to answer.
    complete: bool,
}

/// What becomes of a new connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry<C> {
    /// It has a place, and this name from now on.
    In(Id),
    /// It has this name, and a turn in the line.
    Waits(Id),
    /// The line is full; there is a turn once this connection of that address is gone, which is to be cut.
    Cut(IpAddr, C),
    /// The line is full; there is a turn now that this one is out of it, which is asked to come back.
    Tell(C),
    /// Its address has as many connections as it may.
    TooMany,
    /// Nothing changes before then, unless a connection ends.
    Full(Instant),
}

/// What a listener does for the first in the line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn<C> {
    /// The line is empty.
    Nobody,
    /// This one has a place from now on.
    Place(C),
    /// This one of that address is to be cut; there is a place once it has left.
    Cut(IpAddr, C),
    /// Nothing can be done before then, unless a connection ends.
    Later(Instant),
}

/// What a connection in the line is answered when it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It has one.
    Has,
    /// It has none yet.
    Waits,
    /// It gets none.
    Refused,
}

impl<C: Clone> Admission<C> {
    /// For `max` connections, and `per_address_max` of one address (0: no limit).
    pub(super) fn new(max: usize, per_address_max: usize) -> Self {
        Self {
            max,
            per_address_max,
            next: 0,
            connections: HashMap::new(),
            line: BTreeMap::new(),
            addresses: HashMap::new(),
            strangers: Crowds::default(),
            verified: Crowds::default(),
            placed: 0,
            strangers_in: 0,
            leaving: None,
            body_leaving: None,
        }
    }

    /// A place for a connection of `peer`, which is reached by `reach`, or a turn in the line.
    pub(super) fn enter(&mut self, peer: IpAddr, now: Instant, reach: C) -> Entry<C> {
        let of_address = self.addresses.get(&peer).copied().unwrap_or(0);
        if self.per_address_max != 0 && of_address >= self.per_address_max {
            return Entry::TooMany;
        }
        if self.line.is_empty() && self.placed < self.max {
            let id = self.name(peer, State::Answering, reach);
            self.placed += 1;
            self.strangers_in += 1;
            self.set(id, State::Cuttable(Doing::Unfinished { since: now, bytes: 0 }));
            return Entry::In(id);
        }
        if self.line.len() >= LINE_MAX {
            return self.shorten_line(now);
        }
        let id = self.name(peer, State::Waiting, reach);
        self.line.insert(id, Waiting { since: now, complete: false });
        Entry::Waits(id)
    }

    fn name(&mut self, peer: IpAddr, state: State, reach: C) -> Id {
        let id = self.next;
        self.next += 1;
        *self.addresses.entry(peer).or_default() += 1;
        self.connections.insert(id, Connection { peer, state, verified: false, reach });
        id
    }

    /// For the first in the line: a place that is free, or one that is taken from a connection that is least needed.
    pub(super) fn turn(&mut self, now: Instant) -> Turn<C> {
        let Some((id, waiting)) = self.line.first_key_value().map(|(id, waiting)| (*id, *waiting)) else {
            return Turn::Nobody;
        };
        if self.placed >= self.max {
            return match self.make_room(now) {
                Ok((peer, reach)) => Turn::Cut(peer, reach),
                Err(later) => Turn::Later(later),
            };
        }
        self.line.remove(&id);
        let Some(connection) = self.connections.get_mut(&id) else { return Turn::Nobody };
        connection.state = State::Answering;
        let reach = connection.reach.clone();
        self.placed += 1;
        self.strangers_in += 1;
        if !waiting.complete {
            self.set(id, State::Cuttable(Doing::Unfinished { since: waiting.since, bytes: 0 }));
        }
        Turn::Place(reach)
    }

    /// Takes its place from the connection that is least needed, if one may be cut; also where there is no descriptor
    /// left for another one. Else when to ask again.
    pub(super) fn make_room(&mut self, now: Instant) -> Result<(IpAddr, C), Instant> {
        if self.leaving.is_some() {
            return Err(now + UNCUT);
        }
        let few = self.strangers_in < (self.max / STRANGERS_PART).max(1);
        let id = self.first_to_go(now, few, Crowds::least_needed)?;
        self.leaving = Some(id);
        self.cut(id, now)
    }

    /// Takes the bytes of the body that goes first: of the stranger's address whose bodies hold most, the oldest. They are
    /// free when its connection has left.
    pub(super) fn make_bytes(&mut self, now: Instant) -> Result<(IpAddr, C), Instant> {
        if self.body_leaving.is_some() {
            return Err(now + LEFT_WITHIN);
        }
        let id = self.first_to_go(now, false, Crowds::heaviest)?;
        self.body_leaving = Some(id);
        self.cut(id, now)
    }

    /// Strangers before all others: these go only where no stranger can, now or later, or where strangers are `few`.
    fn first_to_go(
        &self,
        now: Instant,
        few: bool,
        chosen: impl Fn(&Crowds, &dyn Fn(Instant) -> bool) -> Result<Id, Option<Instant>>,
    ) -> Result<Id, Instant> {
        let is_due = |since: Instant| now.saturating_duration_since(since) >= UNCUT;
        let earliest = match chosen(&self.strangers, &is_due) {
            Ok(id) => return Ok(id),
            Err(earliest) => earliest,
        };
        let later = if earliest.is_some() && !few {
            earliest
        } else {
            match chosen(&self.verified, &is_due) {
                Ok(id) => return Ok(id),
                Err(other) => earliest.into_iter().chain(other).min(),
            }
        };
        // A connection that becomes idle at this very moment can be cut then.
        Err(later.unwrap_or(now).min(now) + UNCUT)
    }

    fn cut(&mut self, id: Id, now: Instant) -> Result<(IpAddr, C), Instant> {
        self.set(id, State::Cut { had_place: true });
        self.connections.get(&id).map(|connection| (connection.peer, connection.reach.clone())).ok_or(now + UNCUT)
    }

    /// A turn for one more: the oldest in the line that has not sent a whole head goes, else the oldest request is
    /// asked to come back.
    fn shorten_line(&mut self, now: Instant) -> Entry<C> {
        let mut later = now + LINE_WAIT;
        let mut out = None;
        for (id, waiting) in &self.line {
            let until = waiting.since + if waiting.complete { LINE_WAIT } else { UNCUT };
            let rank = (waiting.complete, *id);
            if until <= now && out.is_none_or(|before| rank < before) {
                out = Some(rank);
            }
            later = later.min(until);
        }
        let Some((complete, id)) = out else { return Entry::Full(later) };
        self.line.remove(&id);
        let Some(connection) = self.connections.get_mut(&id) else { return Entry::Full(now + UNCUT) };
        connection.state = State::Cut { had_place: false };
        let reach = connection.reach.clone();
        if complete { Entry::Tell(reach) } else { Entry::Cut(connection.peer, reach) }
    }

    /// A whole head is there, and its request needs a place.
    pub(super) fn place(&mut self, id: Id) -> Place {
        if let Some(waiting) = self.line.get_mut(&id) {
            waiting.complete = true;
            return Place::Waits;
        }
        let state = self.connections.get(&id).map(|connection| connection.state);
        if matches!(state, None | Some(State::Cut { .. })) { Place::Refused } else { Place::Has }
    }

    /// A request has begun and is not complete; `bytes` of its body are held. A first one has been unfinished since the
    /// connection was accepted.
    pub(super) fn unfinished(&mut self, id: Id, now: Instant, bytes: usize) {
        let Some(connection) = self.connections.get(&id) else { return };
        let since = match connection.state {
            State::Cuttable(Doing::Unfinished { since, .. }) => since,
            _ => now,
        };
        self.set(id, State::Cuttable(Doing::Unfinished { since, bytes }));
    }

    /// The request is complete; from now on nobody cuts it. False when somebody has.
    #[must_use]
    pub(super) fn answering(&mut self, id: Id) -> bool {
        self.set(id, State::Answering);
        self.connections.get(&id).is_some_and(|connection| connection.state == State::Answering)
    }

    /// It has its answer.
    pub(super) fn answered(&mut self, id: Id, now: Instant) {
        self.set(id, State::Cuttable(Doing::Idle { since: now }));
    }

    /// Its request was verified: from now on it is no stranger.
    pub(super) fn verified(&mut self, id: Id) {
        let Some(connection) = self.connections.get(&id).filter(|connection| !connection.verified) else { return };
        let peer = connection.peer;
        let state = connection.state;
        if matches!(state, State::Cut { .. } | State::Waiting) {
            return;
        }
        if let State::Cuttable(doing) = state {
            self.strangers.remove(peer, id, doing);
            self.verified.insert(peer, id, doing);
        }
        self.strangers_in -= 1;
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.verified = true;
        }
    }

    /// The connection has ended.
    pub(super) fn leave(&mut self, id: Id) {
        if self.line.remove(&id).is_some()
            && let Some(connection) = self.connections.get_mut(&id)
        {
            connection.state = State::Cut { had_place: false };
        }
        self.set(id, State::Cut { had_place: true });
        self.leaving = self.leaving.filter(|leaving| *leaving != id);
        self.body_leaving = self.body_leaving.filter(|leaving| *leaving != id);
        let Some(Connection { peer, state, .. }) = self.connections.remove(&id) else { return };
        if state == (State::Cut { had_place: true }) {
            self.placed -= 1;
        }
        if let Some(of_address) = self.addresses.get_mut(&peer) {
            *of_address -= 1;
            if *of_address == 0 {
                self.addresses.remove(&peer);
            }
        }
    }

    /// Nothing changes for a connection that has no place, or is about to leave.
    fn set(&mut self, id: Id, state: State) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if matches!(connection.state, State::Cut { .. } | State::Waiting) {
            return;
        }
        let peer = connection.peer;
        let verified = connection.verified;
        let before = std::mem::replace(&mut connection.state, state);
        let crowds = if verified { &mut self.verified } else { &mut self.strangers };
        if let State::Cuttable(doing) = before {
            crowds.remove(peer, id, doing);
        }
        match state {
            State::Cuttable(doing) => crowds.insert(peer, id, doing),
            State::Cut { .. } if !verified => self.strangers_in -= 1,
            State::Cut { .. } | State::Answering | State::Waiting => {}
        }
    }
}

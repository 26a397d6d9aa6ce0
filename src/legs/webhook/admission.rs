//! Who has a place at the listener, who is let in, and who is cut so that another can be. Pure.
//!
//! A peer that has nothing to do here (a connection between two requests) or that does not get done (a head or a body
//! that does not end) has its place only until somebody else wants it. A peer whose request is complete keeps its place
//! until it is answered.

use core::net::IpAddr;
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// Nobody is cut who has been idle, or at a request, for less than this.
///
/// It bounds both ways. Whoever sends at once is done in less: a TLS handshake and a request are two round trips behind
/// the accept, a second between far ends of the world being rare, and half of one is kept for the machine. It is also
/// what the last of a crowd waits for: when all places were taken in one moment, the next one is free so much later.
pub(super) const UNCUT: Duration = Duration::from_millis(250);

/// The connections that there are; `C` is what cuts one.
#[derive(Debug)]
pub(super) struct Admission<C> {
    /// `webhook.connections_max`
    max: usize,
    /// `webhook.connections_per_address_max`; 0: no limit.
    per_address_max: usize,
    next: Id,
    connections: HashMap<Id, Connection<C>>,
    /// Those between two requests, by when they became so.
    idle: BTreeSet<(Instant, Id)>,
    /// Holds only addresses that have a connection now, so it is as bounded as those.
    addresses: HashMap<IpAddr, Address>,
    /// Addresses with unfinished requests; the last one has the most, and among equals the oldest.
    crowds: BTreeSet<(usize, Reverse<Instant>, IpAddr)>,
    /// Who was cut and has not left yet. One at a time: the next one is cut when its place has been taken.
    leaving: Option<Id>,
}

/// A connection's name; none is used twice.
pub(super) type Id = u64;

#[derive(Debug)]
struct Connection<C> {
    peer: IpAddr,
    state: State,
    cut: C,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No complete request yet, since then.
    Unfinished(Instant),
    /// A complete request waits for its answer.
    Answering,
    /// Answered, and nothing further yet, since then.
    Idle(Instant),
    /// About to leave.
    Cut,
}

#[derive(Debug, Default)]
struct Address {
    connections: usize,
    unfinished: BTreeSet<(Instant, Id)>,
}

impl Address {
    /// Where it stands among the crowds, if it has unfinished requests.
    fn crowd(&self, peer: IpAddr) -> Option<(usize, Reverse<Instant>, IpAddr)> {
        self.unfinished.first().map(|(oldest, _)| (self.unfinished.len(), Reverse(*oldest), peer))
    }
}

/// What becomes of a peer at the handler.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry<C> {
    /// It has a slot, and this name from now on.
    In(Id),
    /// This one of that address is to be cut; there is a place once it has left.
    Cut(IpAddr, C),
    /// Its address has as many connections as it may.
    TooMany,
    /// Nobody can be cut before then; a place may be free earlier.
    Full(Instant),
}

impl<C: Clone> Admission<C> {
    pub(super) fn new(max: usize, per_address_max: usize) -> Self {
        Self {
            max,
            per_address_max,
            next: 0,
            connections: HashMap::new(),
            idle: BTreeSet::new(),
            addresses: HashMap::new(),
            crowds: BTreeSet::new(),
            leaving: None,
        }
    }

    /// A place for a connection of `peer`, which `cut` would cut. There are never more than `max`, those included that are
    /// about to leave.
    pub(super) fn enter(&mut self, peer: IpAddr, now: Instant, cut: C) -> Entry<C> {
        let of_address = self.addresses.get(&peer).map_or(0, |address| address.connections);
        if self.per_address_max != 0 && of_address >= self.per_address_max {
            return Entry::TooMany;
        }
        if self.connections.len() >= self.max {
            let chosen = if self.leaving.is_some() { Err(now + UNCUT) } else { self.least_needed(now) };
            return match chosen {
                Ok((id, peer, cut)) => {
                    self.set(id, State::Cut);
                    self.leaving = Some(id);
                    Entry::Cut(peer, cut)
                }
                Err(later) => Entry::Full(later),
            };
        }
        let id = self.next;
        self.next += 1;
        self.addresses.entry(peer).or_default().connections += 1;
        self.connections.insert(id, Connection { peer, state: State::Answering, cut });
        self.set(id, State::Unfinished(now));
        Entry::In(id)
    }

    /// The head of a request is there, and not its whole body. A first one has been unfinished since the connection was accepted.
    pub(super) fn unfinished(&mut self, id: Id, now: Instant) {
        if self.connections.get(&id).is_some_and(|connection| !matches!(connection.state, State::Unfinished(_))) {
            self.set(id, State::Unfinished(now));
        }
    }

    /// The request is complete; from now on nobody cuts it. False when somebody has.
    #[must_use]
    pub(super) fn answering(&mut self, id: Id) -> bool {
        self.set(id, State::Answering);
        self.connections.get(&id).is_some_and(|connection| connection.state == State::Answering)
    }

    /// It has its answer.
    pub(super) fn answered(&mut self, id: Id, now: Instant) {
        self.set(id, State::Idle(now));
    }

    /// The connection has ended.
    pub(super) fn leave(&mut self, id: Id) {
        self.set(id, State::Cut);
        self.leaving = self.leaving.filter(|leaving| *leaving != id);
        let Some(Connection { peer, .. }) = self.connections.remove(&id) else { return };
        if let Some(address) = self.addresses.get_mut(&peer) {
            address.connections -= 1;
            if address.connections == 0 {
                self.addresses.remove(&peer);
            }
        }
    }

    /// Who is cut: who has been idle longest; else, of the address with the most unfinished requests, the longest of
    /// them, so that a peer with few of them does not pay for one with many. Otherwise, when to ask again.
    fn least_needed(&self, now: Instant) -> Result<(Id, IpAddr, C), Instant> {
        let is_due = |since: Instant| now.saturating_duration_since(since) >= UNCUT;
        let named = |id: Id| self.connections.get(&id).map(|connection| (id, connection.peer, connection.cut.clone()));
        // Who becomes idle at this very moment can be cut then.
        let mut earliest = now;
        if let Some((since, id)) = self.idle.first().copied() {
            if is_due(since) {
                return named(id).ok_or(now + UNCUT);
            }
            earliest = since;
        }
        for (_, Reverse(since), address) in self.crowds.iter().rev() {
            let oldest = self.addresses.get(address).and_then(|address| address.unfinished.first());
            if let Some((_, id)) = oldest.filter(|_| is_due(*since)) {
                return named(*id).ok_or(now + UNCUT);
            }
            earliest = earliest.min(*since);
        }
        Err(earliest + UNCUT)
    }

    /// Nothing changes for whoever is about to leave.
    fn set(&mut self, id: Id, state: State) {
        let Some(connection) = self.connections.get_mut(&id).filter(|connection| connection.state != State::Cut) else {
            return;
        };
        let (peer, before) = (connection.peer, std::mem::replace(&mut connection.state, state));
        self.list(id, peer, before, BTreeSet::remove::<(Instant, Id)>);
        self.list(id, peer, state, |list, entry| list.insert(*entry));
    }

    /// Changes the list that a state belongs to, if it has one, and the order of crowds with it.
    fn list(
        &mut self,
        id: Id,
        peer: IpAddr,
        state: State,
        change: impl Fn(&mut BTreeSet<(Instant, Id)>, &(Instant, Id)) -> bool,
    ) {
        match state {
            State::Answering | State::Cut => {}
            State::Idle(since) => {
                change(&mut self.idle, &(since, id));
            }
            State::Unfinished(since) => {
                let address = self.addresses.entry(peer).or_default();
                if let Some(before) = address.crowd(peer) {
                    self.crowds.remove(&before);
                }
                change(&mut address.unfinished, &(since, id));
                self.crowds.extend(address.crowd(peer));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "a failed test may panic")]

    use super::*;
    use proptest::prelude::*;

    const HERE: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(192, 0, 2, 1));
    const THERE: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(192, 0, 2, 2));

    /// A admission, and a clock in milliseconds. What cuts a connection is its name.
    struct Story {
        admission: Admission<&'static str>,
        start: Instant,
        ids: HashMap<&'static str, Id>,
    }

    impl Story {
        fn new(max: usize, per_address_max: usize) -> Self {
            Self { admission: Admission::new(max, per_address_max), start: Instant::now(), ids: HashMap::new() }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        /// Who was cut for `name`; `Err` with when to come again.
        fn enter(&mut self, ms: u64, peer: IpAddr, name: &'static str) -> Result<Option<&'static str>, u128> {
            match self.admission.enter(peer, self.at(ms), name) {
                Entry::In(id) => {
                    self.ids.insert(name, id);
                    Ok(None)
                }
                Entry::Cut(_, cut) => {
                    self.admission.leave(self.ids[cut]);
                    self.enter(ms, peer, name).map(|_| Some(cut))
                }
                Entry::TooMany => panic!("{name}: too many"),
                Entry::Full(again) => Err((again - self.start).as_millis()),
            }
        }

        fn answer(&mut self, ms: u64, name: &str) {
            self.admission.unfinished(self.ids[name], self.at(ms));
            assert!(self.admission.answering(self.ids[name]), "{name} was cut");
            self.admission.answered(self.ids[name], self.at(ms));
        }
    }

    #[test]
    fn nobody_is_cut_while_there_is_a_place() {
        let mut story = Story::new(2, 0);
        assert_eq!(story.enter(0, HERE, "a"), Ok(None));
        assert_eq!(story.enter(9_000, HERE, "b"), Ok(None));
        story.admission.leave(story.ids["a"]);
        assert_eq!(story.enter(9_000, HERE, "c"), Ok(None));
    }

    #[test]
    fn the_longest_idle_goes_first_then_the_longest_unfinished() {
        let mut story = Story::new(4, 0);
        for (ms, name) in [(0, "slow"), (1, "slower"), (2, "idle"), (3, "idler")] {
            assert_eq!(story.enter(ms, HERE, name), Ok(None));
        }
        story.answer(10, "idler");
        story.answer(20, "idle");
        for (ms, name, cut) in
            [(1_000, "e", "idler"), (1_000, "f", "idle"), (1_000, "g", "slow"), (1_000, "h", "slower")]
        {
            assert_eq!(story.enter(ms, HERE, name), Ok(Some(cut)));
        }
        assert_eq!(story.enter(1_001, HERE, "i"), Err(1_250), "those are new");
        assert_eq!(story.enter(1_249, HERE, "i"), Err(1_250));
        assert_eq!(story.enter(1_250, HERE, "i"), Ok(Some("e")));
    }

    #[test]
    fn who_is_being_answered_is_never_cut() {
        let mut story = Story::new(1, 0);
        assert_eq!(story.enter(0, HERE, "a"), Ok(None));
        story.admission.unfinished(story.ids["a"], story.at(1));
        assert!(story.admission.answering(story.ids["a"]));
        assert_eq!(story.enter(60_000, HERE, "b"), Err(60_250), "to be asked again, since it may be idle by then");
        story.admission.answered(story.ids["a"], story.at(60_010));
        assert_eq!(story.enter(60_250, HERE, "b"), Err(60_260));
        assert_eq!(story.enter(60_260, HERE, "b"), Ok(Some("a")));
    }

    #[test]
    fn a_place_is_free_when_the_one_who_was_cut_has_left_and_nobody_else_is_cut_meanwhile() {
        let (mut admission, now) = (Admission::new(2, 0), Instant::now());
        let [Entry::In(first), Entry::In(_)] = ["a", "b"].map(|name| admission.enter(HERE, now, name)) else {
            panic!("no place")
        };
        let later = now + UNCUT;
        assert_eq!(admission.enter(HERE, later, "c"), Entry::Cut(HERE, "a"));
        assert_eq!(admission.enter(HERE, later, "c"), Entry::Full(later + UNCUT));
        assert!(!admission.answering(first), "a request that came too late is not taken");
        admission.answered(first, later);
        assert_eq!(admission.enter(HERE, later, "c"), Entry::Full(later + UNCUT));
        admission.leave(first);
        assert!(matches!(admission.enter(HERE, later, "c"), Entry::In(_)));
        assert_eq!(admission.enter(HERE, later, "d"), Entry::Cut(HERE, "b"));
    }

    #[test]
    fn an_address_with_few_unfinished_requests_does_not_pay_for_one_with_many() {
        let mut story = Story::new(4, 0);
        for (ms, peer, name) in [(0, HERE, "alone"), (1, THERE, "x"), (2, THERE, "y"), (3, THERE, "z")] {
            assert_eq!(story.enter(ms, peer, name), Ok(None));
        }
        assert_eq!(story.enter(1_000, THERE, "new"), Ok(Some("x")));
        assert_eq!(story.enter(1_000, THERE, "newer"), Ok(Some("y")));
        assert_eq!(story.enter(1_000, THERE, "newest"), Ok(Some("z")));
        assert_eq!(story.enter(1_000, THERE, "last"), Ok(Some("alone")), "there all are new");
    }

    #[test]
    fn among_addresses_with_equally_many_the_oldest_goes() {
        let mut story = Story::new(4, 0);
        for (ms, peer, name) in [(0, HERE, "a"), (1, THERE, "b"), (2, THERE, "c"), (3, HERE, "d")] {
            assert_eq!(story.enter(ms, peer, name), Ok(None));
        }
        let third = IpAddr::from([192, 0, 2, 3]);
        for (name, cut) in [("e", "a"), ("f", "b"), ("g", "c"), ("h", "d")] {
            let peer = if cut == "c" { IpAddr::from([192, 0, 2, 4]) } else { third };
            assert_eq!(story.enter(1_000, peer, name), Ok(Some(cut)), "{name}");
        }
    }

    #[test]
    fn a_first_request_is_unfinished_since_the_accept_and_a_later_one_since_its_head() {
        let mut story = Story::new(2, 0);
        assert_eq!(story.enter(0, HERE, "first"), Ok(None));
        assert_eq!(story.enter(0, HERE, "later"), Ok(None));
        story.answer(1, "later");
        story.admission.unfinished(story.ids["first"], story.at(900));
        story.admission.unfinished(story.ids["later"], story.at(900));
        assert_eq!(story.enter(1_000, HERE, "new"), Ok(Some("first")));
        assert_eq!(story.enter(1_000, HERE, "newer"), Err(1_150));
    }

    #[test]
    fn an_address_has_its_limit_and_gets_places_back() {
        let mut admission = Admission::new(100, 2);
        let now = Instant::now();
        let enter = |admission: &mut Admission<()>, peer| match admission.enter(peer, now, ()) {
            Entry::In(id) => Some(id),
            Entry::TooMany => None,
            Entry::Cut(..) | Entry::Full(_) => panic!("full"),
        };
        let (first, second) = (enter(&mut admission, HERE), enter(&mut admission, HERE));
        assert!(first.is_some() && second.is_some());
        assert_eq!(enter(&mut admission, HERE), None);
        let other = enter(&mut admission, THERE);
        assert!(other.is_some());
        admission.leave(first.unwrap_or_default());
        let third = enter(&mut admission, HERE);
        assert!(third.is_some());
        [second, third, other].into_iter().flatten().for_each(|id| admission.leave(id));
        assert!(admission.addresses.is_empty() && admission.crowds.is_empty() && admission.connections.is_empty());
    }

    proptest! {
        /// Whatever peers do: never more than `max`, nobody is cut who is being answered or new, the lists agree with
        /// the connections, and an empty room has kept nothing.
        #[test]
        fn the_lists_agree(steps in prop::collection::vec((0_u8..6, 0_u8..4, 0_u64..400), 1..200)) {
            let mut admission = Admission::new(5, 0);
            let mut now = Instant::now();
            for (step, which, wait) in steps {
                now += Duration::from_millis(wait);
                let mut ids: Vec<Id> = admission.connections.keys().copied().collect();
                ids.sort_unstable();
                let id = ids.get(usize::from(which)).copied().unwrap_or(Id::MAX);
                match step {
                    0 | 1 => {
                        let states: HashMap<Id, State> =
                            admission.connections.iter().map(|(id, connection)| (*id, connection.state)).collect();
                        let peer = IpAddr::from([192, 0, 2, which]);
                        match admission.enter(peer, now, ()) {
                            Entry::In(new) => prop_assert!(states.len() < 5 && !states.contains_key(&new)),
                            Entry::Cut(..) => {
                                prop_assert_eq!(states.len(), 5);
                                match states[&admission.leaving.unwrap_or(Id::MAX)] {
                                    State::Idle(since) | State::Unfinished(since) => {
                                        prop_assert!(now - since >= UNCUT);
                                    }
                                    state => prop_assert!(false, "{:?} was cut", state),
                                }
                            }
                            Entry::TooMany => prop_assert!(false, "there is no limit"),
                            Entry::Full(later) => prop_assert!(states.len() == 5 && later > now),
                        }
                    }
                    2 => admission.unfinished(id, now),
                    3 => drop(admission.answering(id)),
                    4 => admission.answered(id, now),
                    _ => admission.leave(id),
                }
                prop_assert!(admission.connections.len() <= 5);
                let leaving = admission.connections.iter().find(|(_, c)| c.state == State::Cut).map(|(id, _)| *id);
                prop_assert_eq!(leaving, admission.leaving);
                let count = |wanted: fn(&State) -> bool| admission.connections.values().filter(|c| wanted(&c.state)).count();
                prop_assert_eq!(admission.idle.len(), count(|state| matches!(state, State::Idle(_))));
                let listed: usize = admission.addresses.values().map(|address| address.unfinished.len()).sum();
                prop_assert_eq!(listed, count(|state| matches!(state, State::Unfinished(_))));
                prop_assert_eq!(admission.crowds.iter().map(|(count, ..)| count).sum::<usize>(), listed);
                let all: usize = admission.addresses.values().map(|address| address.connections).sum();
                prop_assert_eq!(all, admission.connections.len());
            }
            let ids: Vec<Id> = admission.connections.keys().copied().collect();
            ids.into_iter().for_each(|id| admission.leave(id));
            prop_assert!(admission.addresses.is_empty() && admission.crowds.is_empty() && admission.idle.is_empty());
            prop_assert_eq!(admission.leaving, None);
        }
    }
}

//! Stories of peers, and what must hold whatever they do.

#![allow(clippy::panic, reason = "a failed test may panic")]

use super::*;
use proptest::prelude::*;

const HERE: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(192, 0, 2, 1));
const THERE: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(192, 0, 2, 2));

/// An admission, and a clock in milliseconds. What reaches a connection is its name.
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

    fn ms(&self, at: Instant) -> u128 {
        (at - self.start).as_millis()
    }

    /// A connection that gets a place, now or by one that is cut, whose name is returned; `Err` with when to look again.
    fn enter(&mut self, ms: u64, peer: IpAddr, name: &'static str) -> Result<Option<&'static str>, u128> {
        match self.admission.enter(peer, self.at(ms), name) {
            Entry::In(id) => {
                self.ids.insert(name, id);
                Ok(None)
            }
            Entry::Waits(id) => {
                self.ids.insert(name, id);
                self.turn(ms, name)
            }
            entry => panic!("{name}: {entry:?}"),
        }
    }

    /// What becomes of the first in the line, which is `name`.
    fn turn(&mut self, ms: u64, name: &'static str) -> Result<Option<&'static str>, u128> {
        match self.admission.turn(self.at(ms)) {
            Turn::Place(first) => {
                assert_eq!(first, name);
                Ok(None)
            }
            Turn::Cut(_, cut) => {
                self.leave(cut);
                self.turn(ms, name).map(|_| Some(cut))
            }
            Turn::Later(again) => Err(self.ms(again)),
            Turn::Nobody => panic!("{name} is not in the line"),
        }
    }

    fn leave(&mut self, name: &str) {
        self.admission.leave(self.ids[name]);
    }

    fn request(&mut self, ms: u64, name: &str) {
        self.admission.unfinished(self.ids[name], self.at(ms), 0);
        assert!(self.admission.answering(self.ids[name]), "{name} was cut");
    }

    fn answer(&mut self, ms: u64, name: &str) {
        self.request(ms, name);
        self.admission.answered(self.ids[name], self.at(ms));
    }

    fn answer_verified(&mut self, ms: u64, name: &str) {
        self.request(ms, name);
        self.admission.verified(self.ids[name]);
        self.admission.answered(self.ids[name], self.at(ms));
    }

    fn body(&mut self, ms: u64, name: &str, bytes: usize) {
        self.admission.unfinished(self.ids[name], self.at(ms), bytes);
    }

    fn make_bytes(&mut self, ms: u64) -> Result<&'static str, u128> {
        match self.admission.make_bytes(self.at(ms)) {
            Ok((_, name)) => {
                self.leave(name);
                Ok(name)
            }
            Err(again) => Err(self.ms(again)),
        }
    }
}

#[test]
fn nobody_is_cut_while_there_is_a_place() {
    let mut story = Story::new(2, 0);
    assert_eq!(story.enter(0, HERE, "a"), Ok(None));
    assert_eq!(story.enter(9_000, HERE, "b"), Ok(None));
    story.leave("a");
    assert_eq!(story.enter(9_000, HERE, "c"), Ok(None));
}

#[test]
fn of_one_address_the_longest_unfinished_goes_first_then_the_longest_idle() {
    let mut story = Story::new(4, 0);
    for (ms, name) in [(0, "slow"), (1, "slower"), (2, "idle"), (3, "idler")] {
        assert_eq!(story.enter(ms, HERE, name), Ok(None));
    }
    story.answer(10, "idler");
    story.answer(20, "idle");
    for (ms, name, cut) in [(1_000, "e", "slow"), (1_000, "f", "slower"), (1_000, "g", "idler"), (1_000, "h", "idle")] {
        assert_eq!(story.enter(ms, HERE, name), Ok(Some(cut)));
    }
    assert_eq!(story.enter(1_001, HERE, "i"), Err(1_250), "those are new");
    assert_eq!(story.turn(1_249, "i"), Err(1_250));
    assert_eq!(story.turn(1_250, "i"), Ok(Some("e")));
}

#[test]
fn a_connection_that_is_being_answered_is_never_cut() {
    let mut story = Story::new(1, 0);
    assert_eq!(story.enter(0, HERE, "a"), Ok(None));
    story.request(1, "a");
    assert_eq!(story.enter(60_000, HERE, "b"), Err(60_250), "to be asked again, since it may be idle by then");
    story.admission.answered(story.ids["a"], story.at(60_010));
    assert_eq!(story.turn(60_250, "b"), Err(60_260));
    assert_eq!(story.turn(60_260, "b"), Ok(Some("a")));
}

#[test]
fn a_place_is_free_when_the_one_that_was_cut_has_left_and_nobody_else_is_cut_meanwhile() {
    let mut admission = Admission::new(2, 0);
    let now = Instant::now();
    let [Entry::In(first), Entry::In(_), Entry::Waits(_), Entry::Waits(_)] =
        ["a", "b", "c", "d"].map(|name| admission.enter(HERE, now, name))
    else {
        panic!("no place")
    };
    let later = now + UNCUT;
    assert_eq!(admission.turn(later), Turn::Cut(HERE, "a"));
    assert_eq!(admission.turn(later), Turn::Later(later + UNCUT));
    assert_eq!(admission.make_room(later), Err(later + UNCUT));
    assert!(!admission.answering(first), "a request that came too late is not taken");
    admission.answered(first, later);
    assert_eq!(admission.turn(later), Turn::Later(later + UNCUT));
    admission.leave(first);
    assert_eq!(admission.turn(later), Turn::Place("c"));
    assert_eq!(admission.turn(later), Turn::Cut(HERE, "b"));
}

#[test]
fn an_address_with_few_connections_does_not_pay_for_one_with_many() {
    let mut story = Story::new(4, 0);
    for (ms, peer, name) in [(0, HERE, "alone"), (1, THERE, "x"), (2, THERE, "y"), (3, THERE, "z")] {
        assert_eq!(story.enter(ms, peer, name), Ok(None));
    }
    story.answer(4, "z");
    assert_eq!(story.enter(1_000, THERE, "new"), Ok(Some("x")));
    assert_eq!(story.enter(1_000, THERE, "newer"), Ok(Some("y")));
    assert_eq!(story.enter(1_000, THERE, "newest"), Ok(Some("z")), "idle ones count too");
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
    story.body(900, "first", 0);
    story.body(900, "later", 0);
    assert_eq!(story.enter(1_000, HERE, "new"), Ok(Some("first")));
    assert_eq!(story.enter(1_000, HERE, "newer"), Err(1_150));
}

#[test]
fn a_connection_that_brought_a_verified_request_is_the_last_to_go() {
    let mut story = Story::new(16, 0);
    for name in ["good", "better"] {
        assert_eq!(story.enter(0, HERE, name), Ok(None));
        story.answer_verified(0, name);
    }
    let strangers = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n"];
    for name in strangers {
        assert_eq!(story.enter(5_000, THERE, name), Ok(None));
    }
    assert_eq!(story.enter(5_000, THERE, "o"), Err(5_250), "strangers will be due, and are many");
    assert_eq!(story.turn(5_250, "o"), Ok(Some("a")));
    // Of sixteen places strangers may take two from the others.
    for name in &strangers[1..] {
        story.leave(name);
    }
    story.leave("o");
    let verified = ["p", "q", "r", "s", "t", "u", "v", "w", "x", "y", "z", "1", "2", "3"];
    for name in verified {
        assert_eq!(story.enter(6_000, HERE, name), Ok(None));
        story.answer_verified(6_000, name);
    }
    assert_eq!(story.enter(6_100, THERE, "4"), Ok(Some("good")), "the longest idle");
    assert_eq!(story.enter(6_100, THERE, "5"), Ok(Some("better")));
    assert_eq!(story.enter(6_200, THERE, "6"), Err(6_350), "two strangers are there, and will be due");
    assert_eq!(story.turn(6_350, "6"), Ok(Some("4")));
}

#[test]
fn no_verified_connection_goes_soon_after_its_answer() {
    let mut story = Story::new(1, 0);
    assert_eq!(story.enter(0, HERE, "good"), Ok(None));
    story.answer_verified(1_000, "good");
    assert_eq!(story.enter(1_010, THERE, "new"), Err(1_250));
    assert_eq!(story.turn(1_249, "new"), Err(1_250));
    assert_eq!(story.turn(1_250, "new"), Ok(Some("good")));
}

#[test]
fn at_the_bound_of_bytes_the_body_of_the_address_that_holds_most_goes() {
    let mut story = Story::new(8, 0);
    for (peer, name, bytes) in [(HERE, "one", 700), (THERE, "two", 400), (THERE, "three", 400), (HERE, "empty", 0)] {
        assert_eq!(story.enter(0, peer, name), Ok(None));
        story.body(0, name, bytes);
    }
    assert_eq!(story.make_bytes(100), Err(250), "all are new");
    assert_eq!(story.make_bytes(250), Ok("two"), "its address has 800");
    assert_eq!(story.make_bytes(250), Ok("one"), "the other address has 400 left");
    assert_eq!(story.make_bytes(250), Ok("three"));
    assert_eq!(story.make_bytes(250), Err(500), "one without bytes has nothing to give");
}

#[test]
fn strangers_give_their_bytes_before_a_verified_connection_does() {
    let mut story = Story::new(64, 0);
    assert_eq!(story.enter(0, HERE, "good"), Ok(None));
    story.answer_verified(0, "good");
    story.body(10, "good", 9_000);
    assert_eq!(story.enter(900, THERE, "stranger"), Ok(None));
    story.body(900, "stranger", 1);
    assert_eq!(story.make_bytes(1_000), Err(1_150), "the stranger will be due");
    assert_eq!(story.make_bytes(1_150), Ok("stranger"));
    assert_eq!(story.make_bytes(1_150), Ok("good"));
}

#[test]
fn a_body_that_was_cut_is_waited_for() {
    let mut story = Story::new(2, 0);
    for name in ["a", "b"] {
        assert_eq!(story.enter(0, HERE, name), Ok(None));
        story.body(0, name, 10);
    }
    let now = story.at(300);
    assert_eq!(story.admission.make_bytes(now), Ok((HERE, "a")));
    assert_eq!(story.admission.make_bytes(now), Err(now + LEFT_WITHIN));
    story.leave("a");
    assert_eq!(story.make_bytes(300), Ok("b"));
}

#[test]
fn a_full_line_loses_its_silent_peers_first_and_answers_the_others() {
    let mut admission = Admission::new(1, 0);
    let now = Instant::now();
    let Entry::In(id) = admission.enter(HERE, now, 0) else { panic!("no place") };
    assert!(admission.answering(id));
    let line: Vec<Id> = (1..=LINE_MAX)
        .map(|number| match admission.enter(THERE, now, number) {
            Entry::Waits(id) => id,
            entry => panic!("{entry:?}"),
        })
        .collect();
    assert_eq!(admission.place(line[0]), Place::Waits, "it has sent a whole head");
    assert_eq!(admission.enter(HERE, now, 99), Entry::Full(now + UNCUT));
    assert_eq!(admission.enter(HERE, now + UNCUT, 99), Entry::Cut(THERE, 2));
    for id in &line[2..] {
        assert_eq!(admission.place(*id), Place::Waits);
    }
    assert!(matches!(admission.enter(HERE, now + UNCUT, 100), Entry::Waits(_)), "a turn is free");
    assert_eq!(admission.enter(HERE, now + UNCUT, 101), Entry::Full(now + UNCUT * 2));
    assert_eq!(admission.enter(HERE, now + UNCUT * 2, 101), Entry::Cut(HERE, 100));
    assert!(matches!(admission.enter(HERE, now + LINE_WAIT, 101), Entry::Waits(_)));
    assert_eq!(admission.enter(HERE, now + LINE_WAIT, 102), Entry::Tell(1));
    assert_eq!(admission.place(line[0]), Place::Refused);
    admission.answered(id, now + LINE_WAIT);
    assert_eq!(admission.turn(now + LINE_WAIT), Turn::Later(now + LINE_WAIT + UNCUT));
    admission.leave(id);
    assert_eq!(admission.turn(now + LINE_WAIT), Turn::Place(3), "the first that is left");
    assert_eq!(admission.place(line[2]), Place::Has);
}

#[test]
fn an_address_has_its_limit_and_gets_places_back() {
    let mut admission = Admission::new(100, 2);
    let now = Instant::now();
    let enter = |admission: &mut Admission<()>, peer| match admission.enter(peer, now, ()) {
        Entry::In(id) => Some(id),
        Entry::TooMany => None,
        entry => panic!("{entry:?}"),
    };
    let first = enter(&mut admission, HERE);
    let second = enter(&mut admission, HERE);
    assert!(first.is_some() && second.is_some());
    assert_eq!(enter(&mut admission, HERE), None);
    let other = enter(&mut admission, THERE);
    assert!(other.is_some());
    admission.leave(first.unwrap_or_default());
    let third = enter(&mut admission, HERE);
    assert!(third.is_some());
    [second, third, other].into_iter().flatten().for_each(|id| admission.leave(id));
    assert_empty(&admission);
}

fn assert_empty<C: Clone>(admission: &Admission<C>) {
    assert!(admission.addresses.is_empty() && admission.connections.is_empty() && admission.line.is_empty());
    assert_eq!((admission.strangers.totals(), admission.verified.totals()), ((0, 0, 0), (0, 0, 0)));
    assert_eq!((admission.placed, admission.strangers_in), (0, 0));
    assert_eq!((admission.leaving, admission.body_leaving), (None, None));
}

const MAX: usize = 5;

/// What one connection was before a step.
type Seen = (IpAddr, State, bool);

/// Whether `id` was one that may be cut now: nothing new, nothing being answered, and no verified one while a stranger
/// could go instead.
fn may_be_cut(seen: &HashMap<Id, Seen>, id: Id, now: Instant, for_bytes: bool) -> bool {
    let due = |state: State| match state {
        State::Cuttable(Doing::Idle { since }) => !for_bytes && now - since >= UNCUT,
        State::Cuttable(Doing::Unfinished { since, bytes }) => (!for_bytes || bytes > 0) && now - since >= UNCUT,
        _ => false,
    };
    let (peer, state, verified) = seen[&id];
    let stranger_due = seen.values().any(|(_, state, verified)| !verified && due(*state));
    let held = |of: IpAddr| -> usize {
        let weigh = |state: &State| match state {
            State::Cuttable(Doing::Unfinished { bytes, .. }) if for_bytes => *bytes,
            State::Cuttable(_) if !for_bytes => 1,
            _ => 0,
        };
        seen.values()
            .filter(|(peer, _, other)| *peer == of && *other == verified)
            .map(|(_, state, _)| weigh(state))
            .sum()
    };
    // An address that holds more has nothing that is due.
    let more =
        seen.values().any(|(other, state, alike)| *alike == verified && due(*state) && held(*other) > held(peer));
    due(state) && !more && (!verified || !stranger_due)
}

proptest! {
    /// Whatever peers do: never more than `MAX` places, nobody is cut that is being answered or new, no verified one
    /// before a stranger, the address that holds most first, the lists agree with the connections, and an empty room has
    /// kept nothing.
    #[test]
    fn the_lists_agree(steps in prop::collection::vec((0_u8..10, 0_u8..8, 0_u64..400), 1..300)) {
        let mut admission = Admission::new(MAX, 0);
        let mut now = Instant::now();
        for (step, which, wait) in steps {
            now += Duration::from_millis(wait);
            let mut ids: Vec<Id> = admission.connections.keys().copied().collect();
            ids.sort_unstable();
            let id = ids.get(usize::from(which)).copied().unwrap_or(Id::MAX);
            let seen: HashMap<Id, Seen> =
                admission.connections.iter().map(|(id, c)| (*id, (c.peer, c.state, c.verified))).collect();
            let peer = IpAddr::from([192, 0, 2, which % 3]);
            match step {
                0 | 1 => {
                    let placed = admission.placed;
                    let waiting = admission.line.len();
                    match admission.enter(peer, now, ()) {
                        Entry::In(new) => prop_assert!(placed < MAX && waiting == 0 && !seen.contains_key(&new)),
                        Entry::Waits(_) => prop_assert!(placed == MAX || waiting > 0),
                        Entry::Cut(..) | Entry::Tell(()) => prop_assert_eq!(waiting, LINE_MAX),
                        Entry::Full(later) => prop_assert!(waiting == LINE_MAX && later > now),
                        Entry::TooMany => prop_assert!(false, "there is no limit"),
                    }
                }
                2 | 3 => {
                    let placed = admission.placed;
                    let first = admission.line.keys().next().copied();
                    match admission.turn(now) {
                        Turn::Nobody => prop_assert_eq!(first, None),
                        Turn::Place(()) => prop_assert!(placed < MAX && first.is_some()),
                        Turn::Cut(..) => {
                            prop_assert_eq!(placed, MAX);
                            prop_assert!(may_be_cut(&seen, admission.leaving.unwrap_or(Id::MAX), now, false));
                        }
                        Turn::Later(later) => prop_assert!(placed == MAX && later > now),
                    }
                }
                4 => match (admission.body_leaving, admission.make_bytes(now)) {
                    (None, Ok(_)) => {
                        prop_assert!(may_be_cut(&seen, admission.body_leaving.unwrap_or(Id::MAX), now, true));
                    }
                    (before, made) => prop_assert!(made.is_err_and(|later| later > now) && before == admission.body_leaving),
                },
                5 => admission.unfinished(id, now, usize::from(which) * 100),
                6 => drop(admission.answering(id)),
                7 => admission.answered(id, now),
                8 => admission.verified(id),
                _ => admission.leave(id),
            }
            prop_assert!(admission.placed <= MAX && admission.line.len() <= LINE_MAX);
            let count = |wanted: &dyn Fn(&Connection<()>) -> bool| {
                admission.connections.values().filter(|connection| wanted(connection)).count()
            };
            let without = |c: &Connection<()>| matches!(c.state, State::Waiting | State::Cut { had_place: false });
            prop_assert_eq!(admission.placed, count(&|c| !without(c)));
            prop_assert_eq!(admission.line.len(), count(&|c| c.state == State::Waiting));
            let gone = |c: &Connection<()>| matches!(c.state, State::Cut { .. });
            prop_assert_eq!(admission.strangers_in, count(&|c| !c.verified && !without(c) && !gone(c)));
            for verified in [false, true] {
                let crowds = if verified { &admission.verified } else { &admission.strangers };
                let cuttable = count(&|c| c.verified == verified && matches!(c.state, State::Cuttable(_)));
                let idle = count(&|c| c.verified == verified && matches!(c.state, State::Cuttable(Doing::Idle { .. })));
                let bytes = admission.connections.values().filter(|c| c.verified == verified).map(|c| match c.state {
                    State::Cuttable(Doing::Unfinished { bytes, .. }) => bytes,
                    _ => 0,
                });
                prop_assert_eq!(crowds.totals(), (cuttable, idle, bytes.sum()));
            }
            prop_assert_eq!(admission.addresses.values().sum::<usize>(), admission.connections.len());
        }
        let ids: Vec<Id> = admission.connections.keys().copied().collect();
        ids.into_iter().for_each(|id| admission.leave(id));
        assert_empty(&admission);
    }
}

//! The dedup window: which event ids are on their way, and which are in Kafka.
//!
//! Two steps: an id is *claimed* when a batch plans it, and *settled* when the batch is committed, or *released* when
//! the batch fails. Marking an id as seen on arrival would turn one failed publish into a lost event, because the
//! provider's retry would be taken for a duplicate.
//!
//! A dead letter is claimed apart from the event of its id: a defective copy that came first does not spend the id, and
//! a whole one that comes later is published.
//!
//! Guarantee: a settled id is known for at least `window` after its commit, and as long as a walk will bring it again,
//! unless `ids_max` ids came in that time; then the least recently seen goes, and is counted.

use super::lru::{Key, Keyed, Lru, Slot};
use crate::clock::millis;
use crate::labels::Account;
use std::time::Duration;

/// What a claim found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Never seen, or released: it is now claimed, and is to be settled or released by its ticket.
    New(Ticket),
    /// Claimed before and not settled yet: the outcome of the first copy is that of this one.
    InFlight,
    /// Committed before.
    Settled,
}

/// Names a claimed id until it is settled or released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(Slot);

/// Event ids, each in flight or settled.
#[derive(Debug)]
pub struct Window {
    ids: Lru<State>,
    keyed: Keyed,
    window: Duration,
    ids_max: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    account: Account,
    settled: bool,
}

/// How many ids that are to be kept beyond the window are looked at in one go.
const KEPT_AT_ONCE: usize = 256;

impl Window {
    /// An empty window that keeps ids for `window` after their commit, at most `ids_max` of them.
    ///
    /// `seed` is random a process, so that chosen ids cannot collide on purpose.
    pub fn new(window: Duration, ids_max: usize, seed: [u64; 2]) -> Self {
        Self { ids: Lru::new(), keyed: Keyed::new(seed), window, ids_max }
    }

    /// Claims `id` of an account. A copy of a settled id renews it: least recently *seen* goes first.
    pub fn claim(&mut self, account: Account, id: &[u8], now_ms: i64) -> Claim {
        self.claim_key(account, self.key(account, id), now_ms)
    }

    /// Claims the dead letter of an event id, or of the digest of bytes without one.
    pub fn claim_dead_letter(&mut self, account: Account, id: &[u8], now_ms: i64) -> Claim {
        self.claim_key(account, self.dead_letter_key(account, id), now_ms)
    }

    /// The key of an id in this window. Ids of two accounts may be equal.
    pub(super) fn key(&self, account: Account, id: &[u8]) -> Key {
        self.keyed.hash_of(account, id)
    }

    /// The key of its dead letter: another one, as unlikely to be that of any id as two ids are to share one.
    pub(super) fn dead_letter_key(&self, account: Account, id: &[u8]) -> Key {
        self.keyed.hash_of(account, id).map(|word| !word)
    }

    fn claim_key(&mut self, account: Account, key: Key, now_ms: i64) -> Claim {
        let Some(slot) = self.ids.find(key) else {
            return Claim::New(Ticket(self.ids.insert(key, State { account, settled: false })));
        };
        if !self.ids.value(slot).settled {
            return Claim::InFlight;
        }
        self.ids.touch(slot, now_ms);
        Claim::Settled
    }

    /// The claimed id was committed at `at_ms`.
    pub fn settle(&mut self, ticket: Ticket, at_ms: i64) {
        let state = self.ids.value(ticket.0);
        self.ids.set(ticket.0, State { settled: true, ..state });
        self.ids.touch(ticket.0, at_ms);
    }

    /// The claimed id was not committed: the next copy is new.
    pub fn release(&mut self, ticket: Ticket) {
        self.ids.remove(ticket.0);
    }

    /// An id that was read back from Kafka, committed at `at_ms`; to be called in order of time.
    pub fn remember(&mut self, account: Account, id: &[u8], at_ms: i64) {
        self.remember_key(account, self.key(account, id), at_ms);
    }

    /// The same for the dead letter of an id, or of the digest of bytes without one.
    pub fn remember_dead_letter(&mut self, account: Account, id: &[u8], at_ms: i64) {
        self.remember_key(account, self.dead_letter_key(account, id), at_ms);
    }

    /// The same for a key of an id.
    pub(super) fn remember_key(&mut self, account: Account, key: Key, at_ms: i64) {
        if let Claim::New(ticket) = self.claim_key(account, key, at_ms) {
            self.settle(ticket, at_ms);
        }
    }

    /// The relay runs again: the time since the newest id that was read back does not count towards the window.
    ///
    /// Socket and walk go on where the last relay stopped, and bring again what came just before, however long ago
    /// that is.
    pub fn resume(&mut self, now_ms: i64) {
        self.ids.resume(now_ms);
    }

    /// No relay ran in this time, which does not count towards the window. To be called in order of time, before
    /// [`Self::resume`].
    pub fn absent(&mut self, since_ms: i64, until_ms: i64) {
        self.ids.absent(since_ms, until_ms);
    }

    /// Forgets what is older than the window, and the oldest beyond `ids_max`. An id that was seen since `keep_from_ms` of its
    /// account is kept for another window, so that it is not in front of what is due.
    ///
    /// Returns how many were forgotten before their time.
    pub fn expire(&mut self, now_ms: i64, keep_from_ms: impl Fn(Account) -> Option<i64>) -> u64 {
        let window_ms = millis(self.window);
        let mut early = 0;
        let mut kept_now = 0;
        while let Some((seen_at_ms, slot, state)) = self.ids.oldest() {
            let aged = self.ids.age_ms(seen_at_ms, now_ms) > window_ms;
            let crowded = self.ids.len() > self.ids_max;
            if !aged && !crowded {
                break;
            }
            let kept = aged && keep_from_ms(state.account).is_some_and(|from_ms| seen_at_ms >= from_ms);
            if kept && !crowded {
                if kept_now == KEPT_AT_ONCE {
                    break;
                }
                kept_now += 1;
                self.ids.touch(slot, now_ms);
                continue;
            }
            self.ids.remove(slot);
            early += u64::from(!aged || kept);
        }
        early
    }

    /// How long ids are kept after their commit.
    pub fn span(&self) -> Duration {
        self.window
    }

    /// Ids known, in flight or settled.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether no id is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Milliseconds since the least recently seen settled id was seen.
    pub fn oldest_age_ms(&self, now_ms: i64) -> Option<i64> {
        self.ids.oldest().map(|(seen_at_ms, ..)| now_ms.saturating_sub(seen_at_ms))
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        self.ids.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;
    const ONE: Account = Account::FIRST;

    fn window(ids_max: usize) -> Window {
        Window::new(Duration::from_secs(72 * 3600), ids_max, [7, 9])
    }

    fn publish(window: &mut Window, id: &str, at_ms: i64) {
        match window.claim(ONE, id.as_bytes(), at_ms) {
            Claim::New(ticket) => window.settle(ticket, at_ms),
            other => unreachable!("{id} is {other:?}"),
        }
    }

    /// The second restart does not bring the time of the first absence back.
    #[test]
    fn no_absence_counts_also_where_another_restart_followed() {
        let mut window = window(10);
        window.remember(ONE, b"before", 0);
        window.absent(HOUR, 100 * HOUR);
        window.remember(ONE, b"between", 101 * HOUR);
        window.resume(102 * HOUR);
        window.expire(103 * HOUR, |_| None);
        assert_eq!(window.len(), 2, "both are some hours old");
        window.expire(172 * HOUR + 1, |_| None);
        assert_eq!(window.len(), 1, "72 hours of running relays are over for the first");
        window.expire(174 * HOUR + 1, |_| None);
        assert_eq!(window.len(), 0);
    }

    fn is_new(window: &mut Window, id: &str, now_ms: i64) -> bool {
        matches!(window.claim(ONE, id.as_bytes(), now_ms), Claim::New(_))
    }

    #[test]
    fn a_claimed_id_is_in_flight_until_it_settles() {
        let mut window = window(10);
        let Claim::New(ticket) = window.claim(ONE, b"a", 0) else { unreachable!() };
        assert_eq!(window.claim(ONE, b"a", 1), Claim::InFlight);
        window.settle(ticket, 2);
        assert_eq!(window.claim(ONE, b"a", 3), Claim::Settled);
    }

    #[test]
    fn a_released_id_is_new_again() {
        let mut window = window(10);
        let Claim::New(ticket) = window.claim(ONE, b"a", 0) else { unreachable!() };
        window.release(ticket);
        assert!(is_new(&mut window, "a", 1));
        assert_eq!(window.len(), 1);
    }

    #[test]
    fn a_dead_letter_does_not_spend_the_id() {
        let mut window = window(10);
        let Claim::New(ticket) = window.claim_dead_letter(ONE, b"a", 0) else { unreachable!() };
        assert_eq!(window.claim_dead_letter(ONE, b"a", 0), Claim::InFlight);
        window.settle(ticket, 1);
        assert_eq!(window.claim_dead_letter(ONE, b"a", 2), Claim::Settled);
        publish(&mut window, "a", 3);
        window.remember_dead_letter(ONE, b"b", 4);
        assert_eq!(window.claim_dead_letter(ONE, b"b", 5), Claim::Settled);
        assert!(is_new(&mut window, "b", 5));
    }

    #[test]
    fn an_id_lives_for_the_window_counted_from_its_commit() {
        let mut window = window(10);
        publish(&mut window, "a", HOUR);
        assert_eq!(window.expire(73 * HOUR, |_| None), 0);
        assert_eq!(window.len(), 1);
        assert_eq!(window.expire(73 * HOUR + 1, |_| None), 0);
        assert!(is_new(&mut window, "a", 73 * HOUR + 1));
    }

    #[test]
    fn an_id_that_a_walk_brings_again_is_kept_beyond_the_window() {
        let mut window = window(10);
        publish(&mut window, "a", HOUR);
        publish(&mut window, "b", 2 * HOUR);
        assert_eq!(window.expire(100 * HOUR, |_| Some(2 * HOUR)), 0);
        assert!(is_new(&mut window, "a", 100 * HOUR));
        assert_eq!(window.claim(ONE, b"b", 100 * HOUR), Claim::Settled);
    }

    #[test]
    fn an_absence_does_not_count() {
        let mut window = window(10);
        window.remember(ONE, b"a", 10 * HOUR);
        window.remember(ONE, b"b", 20 * HOUR);
        window.resume(1000 * HOUR);
        publish(&mut window, "c", 1000 * HOUR);
        assert_eq!((window.expire(1000 * HOUR, |_| None), window.len()), (0, 3));
        assert_eq!((window.expire(1063 * HOUR, |_| None), window.len()), (0, 2));
        assert_eq!((window.expire(1073 * HOUR, |_| None), window.len()), (0, 0));
    }

    #[test]
    fn under_pressure_the_least_recently_seen_goes_and_is_counted() {
        let mut window = window(2);
        publish(&mut window, "a", 1);
        publish(&mut window, "b", 2);
        assert_eq!(window.claim(ONE, b"a", 3), Claim::Settled);
        publish(&mut window, "c", 4);
        assert_eq!(window.expire(5, |_| None), 1);
        assert!(is_new(&mut window, "b", 6));
        assert_eq!(window.claim(ONE, b"a", 6), Claim::Settled);
    }

    #[test]
    fn ids_in_flight_are_never_forgotten() {
        let mut window = window(0);
        assert!(is_new(&mut window, "a", 0));
        assert_eq!(window.expire(1000 * HOUR, |_| None), 0);
        assert_eq!(window.claim(ONE, b"a", 1000 * HOUR), Claim::InFlight);
    }

    #[test]
    fn its_age_is_that_of_the_oldest_settled_id() {
        let mut window = window(10);
        assert!(window.is_empty());
        let Claim::New(ticket) = window.claim(ONE, b"a", HOUR) else { unreachable!() };
        assert_eq!((window.is_empty(), window.oldest_age_ms(3 * HOUR)), (false, None));
        publish(&mut window, "b", 2 * HOUR);
        window.settle(ticket, 2 * HOUR + 1);
        assert_eq!(window.oldest_age_ms(5 * HOUR), Some(3 * HOUR));
    }

    #[test]
    fn a_clock_that_runs_backwards_keeps_the_order() {
        let mut window = window(10);
        publish(&mut window, "a", 100 * HOUR);
        publish(&mut window, "b", 50 * HOUR);
        assert_eq!(window.expire(172 * HOUR, |_| None), 0);
        assert_eq!(window.len(), 2);
    }

    #[test]
    fn an_id_costs_at_most_64_bytes() {
        let mut window = window(usize::MAX);
        for count in 1..=1_000_000u64 {
            window.remember(ONE, &count.to_le_bytes(), 0);
            if count % 100_000 == 0 {
                // Its hash, when it was seen, and the links to its neighbours are 32.
                let bytes = 32 * window.len()..=64 * window.len();
                assert!(bytes.contains(&window.bytes()), "{} bytes for {count}", window.bytes());
            }
        }
    }
}

//! The newest version of each key that was published, so that what comes late is marked and `latest` never goes back.

use super::lru::{Key, Keyed, Lru};
use crate::clock::millis;
use std::time::Duration;

/// How new an event is: milliseconds of its time, then the sequence number of its id (0 where the id has none).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Unix milliseconds at which the event occurred.
    pub ms: i64,
    /// Order within the millisecond.
    pub seq: u64,
}

/// The newest version of each key, remembered as long as the dedup window.
///
/// What is forgotten leaves a *floor* behind: an event at or below it whose key is unknown may be older than what was
/// published for its key, and is therefore stale. So `latest` cannot go back, however long a key was quiet.
#[derive(Debug)]
pub struct Versions {
    newest: Lru<Version>,
    keyed: Keyed,
    window_ms: i64,
    keys_max: usize,
    floor: Option<Version>,
}

/// How to take one [`Versions::advance`] back.
#[derive(Clone, Copy, Debug)]
pub struct Undo {
    key: Key,
    before: Option<Version>,
}

impl Versions {
    /// Knows nothing yet; bounds and seed as for the dedup window.
    pub fn new(window: Duration, keys_max: usize, seed: [u64; 2]) -> Self {
        let window_ms = millis(window);
        Self { newest: Lru::new(), keyed: Keyed::new(seed), window_ms, keys_max, floor: None }
    }

    /// Everything up to `floor` may have been published before the time that is remembered.
    pub fn raise_floor(&mut self, floor: Version) {
        self.floor = self.floor.max(Some(floor));
    }

    /// Plans `version` of the key: `None` when it is stale, else how to take it back.
    ///
    /// Equal versions count as newer: of two events that cannot be ordered the later arrival wins.
    pub fn advance(&mut self, topic: u8, key: &[u8], version: Version, now_ms: i64) -> Option<Undo> {
        let key = self.key(topic, key);
        let Some(slot) = self.newest.find(key) else {
            if self.floor.is_some_and(|floor| version <= floor) {
                return None;
            }
            self.newest.insert(key, version);
            return Some(Undo { key, before: None });
        };
        let before = self.newest.value(slot);
        if version < before {
            return None;
        }
        self.newest.set(slot, version);
        self.newest.touch(slot, now_ms);
        Some(Undo { key, before: Some(before) })
    }

    /// Takes an advance back; the last one first.
    pub fn undo(&mut self, undo: Undo) {
        match (self.newest.find(undo.key), undo.before) {
            (Some(slot), Some(before)) => self.newest.set(slot, before),
            (Some(slot), None) => self.newest.remove(slot),
            (None, _) => {}
        }
    }

    /// The advance was committed at `at_ms`.
    pub fn settle(&mut self, undo: Undo, at_ms: i64) {
        if let Some(slot) = self.newest.find(undo.key) {
            self.newest.touch(slot, at_ms);
        }
    }

    /// A version that was read back from Kafka, committed at `at_ms`.
    pub fn remember(&mut self, topic: u8, key: &[u8], version: Version, at_ms: i64) {
        self.remember_key(self.key(topic, key), version, at_ms);
    }

    /// The same for a key by its hash.
    pub(super) fn remember_key(&mut self, hash: Key, version: Version, at_ms: i64) {
        let slot = match self.newest.find(hash) {
            Some(slot) => {
                self.newest.set(slot, self.newest.value(slot).max(version));
                slot
            }
            None => self.newest.insert(hash, version),
        };
        self.newest.touch(slot, at_ms);
    }

    /// Forgets every key: what is known of them may not be the newest. Whatever is not newer than the newest of all is
    /// stale from then on.
    pub fn forget(&mut self) {
        while let Some((_, slot, version)) = self.newest.oldest() {
            self.newest.remove(slot);
            self.raise_floor(version);
        }
    }

    /// The relay runs again: the time since the newest version that was read back makes no key quieter. What is forgotten
    /// before its time raises the floor, and events of today would be stale for it.
    pub fn resume(&mut self, now_ms: i64) {
        self.newest.resume(now_ms);
    }

    /// Forgets keys that were quiet for longer than the window, and the quietest beyond `keys_max`.
    pub fn expire(&mut self, now_ms: i64) {
        while let Some((seen_at_ms, slot, version)) = self.newest.oldest() {
            if self.newest.age_ms(seen_at_ms, now_ms) <= self.window_ms && self.newest.len() <= self.keys_max {
                return;
            }
            self.newest.remove(slot);
            self.raise_floor(version);
        }
    }

    /// The hash of a key of a topic.
    pub(super) fn key(&self, topic: u8, key: &[u8]) -> Key {
        let [high, low] = self.keyed.hash(key);
        [high ^ u64::from(topic), low]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(keys_max: usize) -> Versions {
        Versions::new(Duration::from_secs(10), keys_max, [3, 4])
    }

    fn v(ms: i64, seq: u64) -> Version {
        Version { ms, seq }
    }

    fn publish(versions: &mut Versions, key: &str, version: Version, at_ms: i64) -> bool {
        let undo = versions.advance(0, key.as_bytes(), version, at_ms);
        undo.inspect(|&undo| versions.settle(undo, at_ms)).is_some()
    }

    #[test]
    fn time_in_which_nobody_ran_makes_no_key_quieter() {
        let mut versions = versions(10);
        versions.remember(0, b"a", v(5, 0), 1_000);
        versions.resume(900_000);
        versions.expire(909_000);
        assert!(publish(&mut versions, "b", v(5, 0), 909_000), "nothing was forgotten");
        versions.expire(911_000);
        assert!(!publish(&mut versions, "c", v(5, 0), 911_000), "and now it is");
    }

    #[test]
    fn older_is_stale_and_equal_is_not() {
        let mut versions = versions(10);
        assert!(publish(&mut versions, "a", v(5, 9), 0));
        assert!(!publish(&mut versions, "a", v(5, 8), 0));
        assert!(publish(&mut versions, "a", v(5, 9), 0));
        assert!(publish(&mut versions, "a", v(5, 10), 0));
        assert!(publish(&mut versions, "b", v(1, 0), 0));
    }

    #[test]
    fn keys_of_different_topics_are_apart() {
        let mut versions = versions(10);
        assert!(versions.advance(0, b"a", v(5, 0), 0).is_some());
        assert!(versions.advance(1, b"a", v(1, 0), 0).is_some());
        assert!(versions.advance(0, b"a", v(1, 0), 0).is_none());
    }

    #[test]
    fn what_is_undone_was_never_there() {
        let mut versions = versions(10);
        assert!(publish(&mut versions, "a", v(1, 0), 0));
        let undos = [
            versions.advance(0, b"a", v(5, 0), 0),
            versions.advance(0, b"b", v(5, 0), 0),
            versions.advance(0, b"a", v(6, 0), 0),
        ];
        for undo in undos.into_iter().rev().flatten() {
            versions.undo(undo);
        }
        assert!(!publish(&mut versions, "a", v(0, 0), 0));
        assert!(publish(&mut versions, "a", v(2, 0), 0));
        assert!(publish(&mut versions, "b", v(1, 0), 0));
    }

    #[test]
    fn what_is_forgotten_leaves_a_floor_for_unknown_keys_only() {
        let mut versions = versions(10);
        assert!(publish(&mut versions, "a", v(100, 0), 0));
        assert!(publish(&mut versions, "b", v(50, 0), 20_000));
        versions.expire(20_000);
        assert!(!publish(&mut versions, "a", v(99, 0), 20_000));
        assert!(!publish(&mut versions, "unknown", v(100, 0), 20_000));
        assert!(publish(&mut versions, "unknown", v(101, 0), 20_000));
        assert!(publish(&mut versions, "b", v(60, 0), 20_000));
    }

    #[test]
    fn the_quietest_goes_under_pressure() {
        let mut versions = versions(1);
        assert!(publish(&mut versions, "a", v(10, 0), 1));
        assert!(publish(&mut versions, "b", v(20, 0), 2));
        versions.expire(3);
        assert!(!publish(&mut versions, "a", v(9, 0), 3));
        assert!(publish(&mut versions, "b", v(20, 0), 3));
    }
}

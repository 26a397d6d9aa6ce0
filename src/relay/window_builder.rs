//! Window and versions, filled from what stands in Kafka: in order of time, whatever order the records are read in.
//!
//! Partitions are read together, and one of them may be far ahead of another. Whoever forgets in that order forgets a
//! newer id before an older one. So records are only noted as they come, a few words each, and remembered at the end,
//! oldest first. Pure.

use super::dedup::Window;
use super::lru::Key;
use super::versions::{Version, Versions};
use std::cmp::Reverse;

/// Notes are thinned out at so many times `ids_max` (64 bytes each: 128 MB at the default, given back at the end of the
/// start); a topic may hold any number of records.
const NOTED_MAX: usize = 2;

/// Notes of records, until all are there.
#[derive(Debug)]
pub struct WindowBuilder {
    window: Window,
    versions: Versions,
    ids_max: usize,
    notes: Vec<Seen>,
    early: u64,
}

/// What is remembered of a record.
#[derive(Clone, Copy, Debug)]
struct Seen {
    at_ms: i64,
    id: Key,
    /// The hash of its key, and its version; none when it does not count as the key's newest.
    newest: Option<(Key, Version)>,
}

impl WindowBuilder {
    /// Fills these, which hold nothing yet, with at most `ids_max` ids.
    pub const fn new(window: Window, versions: Versions, ids_max: usize) -> Self {
        Self { window, versions, ids_max, notes: Vec::new(), early: 0 }
    }

    /// Notes an id that was committed at `at_ms`, with the topic, the key and the version of its record unless that is
    /// stale or a replay.
    pub fn note(&mut self, id: &[u8], at_ms: i64, newest: Option<(u8, &[u8], Version)>) {
        let id = self.window.key(id);
        let newest = newest.map(|(topic, key, version)| (self.versions.key(topic, key), version));
        self.push(Seen { at_ms, id, newest });
    }

    /// Notes the dead letter of an id, or of the digest of bytes without one, that was committed at `at_ms`.
    pub fn note_dead_letter(&mut self, id: &[u8], at_ms: i64) {
        let id = self.window.dead_letter_key(id);
        self.push(Seen { at_ms, id, newest: None });
    }

    fn push(&mut self, seen: Seen) {
        self.notes.push(seen);
        if self.notes.len() > self.ids_max.saturating_mul(NOTED_MAX) {
            self.thin();
        }
    }

    /// Leaves the newest `ids_max`; of the others the versions' floor remains.
    fn thin(&mut self) {
        let Self { versions, ids_max, notes, early, .. } = self;
        // An id that was published again, as replays are, is one id.
        let same = |note: &Seen| (note.id, note.newest.map(|(key, _)| key));
        notes.sort_unstable_by_key(|note| (same(note), Reverse(note.at_ms)));
        notes.dedup_by_key(|note| same(note));
        if notes.len() <= *ids_max {
            return;
        }
        notes.select_nth_unstable_by_key(*ids_max, |note| Reverse(note.at_ms));
        for note in notes.drain(*ids_max..) {
            *early += 1;
            if let Some((_, version)) = note.newest {
                versions.raise_floor(version);
            }
        }
    }

    /// Window and versions, and how many ids had to make room before their time.
    pub fn finish(self) -> (Window, Versions, u64) {
        let Self { mut window, mut versions, ids_max, mut notes, mut early } = self;
        notes.sort_unstable_by_key(|note| note.at_ms);
        for Seen { at_ms, id, newest } in &notes {
            window.remember_key(*id, *at_ms);
            if let Some((key, version)) = newest {
                versions.remember_key(*key, *version, *at_ms);
            }
        }
        if let Some(last) = notes.last().filter(|_| window.len() > ids_max) {
            early += window.expire(last.at_ms, None);
            versions.expire(last.at_ms);
        }
        (window, versions, early)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::dedup::Claim;
    use std::time::Duration;

    fn memory(ids_max: usize) -> WindowBuilder {
        let (span, seed) = (Duration::from_secs(1_000), [3, 5]);
        WindowBuilder::new(Window::new(span, ids_max, seed), Versions::new(span, ids_max, seed), ids_max)
    }

    fn is_known(window: &mut Window, id: i64) -> bool {
        window.claim(&id.to_le_bytes(), 500) == Claim::Settled
    }

    fn v(ms: i64) -> Version {
        Version { ms, seq: 0 }
    }

    /// One partition is read to its end before another, as may happen: the oldest of both go.
    #[test]
    fn the_oldest_make_room_whatever_order_they_are_read_in() {
        for count in [8_i64, 12, 13, 40, 400] {
            let mut memory = memory(6);
            let odd = (0..count).filter(|at| at % 2 == 1);
            for at in odd.chain((0..count).filter(|at| at % 2 == 0)) {
                memory.note(&at.to_le_bytes(), at, Some((0, &at.to_le_bytes(), v(at))));
            }
            let (mut window, mut versions, early) = memory.finish();
            assert_eq!((window.len(), i64::try_from(early)), (6, Ok(count - 6)), "{count}");
            assert_eq!(window.oldest_age_ms(count), Some(6), "{count}");
            for at in 0..count {
                assert_eq!(is_known(&mut window, at), at >= count - 6, "{at} of {count}");
                let newer = versions.advance(0, &at.to_le_bytes(), v(at - 1), count);
                assert!(newer.is_none(), "{at} of {count}: older than what was published, known or forgotten");
            }
            assert!(versions.advance(0, b"new", v(count), count).is_some());
        }
    }

    #[test]
    fn a_dead_letter_is_read_back_as_one_and_not_as_its_event() {
        let mut memory = memory(3);
        memory.note_dead_letter(&7_i64.to_le_bytes(), 10);
        let (mut window, _, _) = memory.finish();
        assert_eq!(window.claim_dead_letter(&7_i64.to_le_bytes(), 500), Claim::Settled);
        assert!(!is_known(&mut window, 7));
    }

    #[test]
    fn an_id_that_stands_twice_is_one_id() {
        let mut memory = memory(3);
        for at in 0..40_i64 {
            memory.note(&(at % 3).to_le_bytes(), at, None);
        }
        let (mut window, _, early) = memory.finish();
        assert_eq!((window.len(), early), (3, 0));
        assert!((0..3).all(|id| is_known(&mut window, id)));
    }

    #[test]
    fn the_newest_version_of_a_key_stands_and_nothing_is_an_empty_window() {
        let (window, _, early) = memory(3).finish();
        assert!(window.is_empty() && early == 0);
        let mut memory = memory(3);
        memory.note(b"b", 20, Some((0, b"key", v(9))));
        memory.note(b"a", 10, Some((0, b"key", v(7))));
        let (_, mut versions, _) = memory.finish();
        assert!(versions.advance(0, b"key", v(8), 30).is_none() && versions.advance(0, b"key", v(9), 30).is_some());
    }
}

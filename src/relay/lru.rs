//! A map from 128-bit keys to small values that remembers in which order they were last seen.
//!
//! Pure memory: 40 to 48 bytes an entry alongside 5 bytes a slot of the hash table, allocated in chunks, so that growing
//! never copies what is there and a window of ten million ids costs no more an id than one of ten thousand.

use crate::labels::Account;
use hashbrown::HashTable;
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;

/// Entries of one allocation: 4,096 × 48 B = 192 KiB at most, small alongside a window and large alongside a page.
const CHUNK: usize = 4096;

/// Absences that are kept apart; a relay that restarts more often within a window has the oldest counted as one.
const ABSENCES_MAX: usize = 64;

/// Marks the end of the list.
const NONE: u32 = u32::MAX;

/// Hashes texts to keys. The hash is keyed with two random words of this process, so that nobody who chooses ids can
/// choose collisions; with 128 bits, ten million honest ids collide with a probability below 2⁻⁸⁰.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keyed([u64; 2]);

/// A keyed 128-bit hash, as two words (a `u128` would align entries to 16 bytes and waste 8).
pub(crate) type Key = [u64; 2];

impl Keyed {
    pub(crate) const fn new(seed: [u64; 2]) -> Self {
        Self(seed)
    }

    pub(crate) fn hash(self, text: &[u8]) -> Key {
        let mut hasher = SipHasher13::new_with_keys(self.0[0], self.0[1]);
        hasher.write(text);
        let hash = hasher.finish128();
        [hash.h1, hash.h2]
    }

    /// Of a text that another account may have as well. Those of the first account are hashed as they are; behind
    /// others comes what no UTF-8 text ends with.
    pub(crate) fn hash_of(self, account: Account, text: &[u8]) -> Key {
        let mut hasher = SipHasher13::new_with_keys(self.0[0], self.0[1]);
        hasher.write(text);
        if account != Account::FIRST {
            hasher.write(&[0xff]);
            hasher.write_usize(account.place());
        }
        let hash = hasher.finish128();
        [hash.h1, hash.h2]
    }
}

/// An entry's place; valid until the entry is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(u32);

#[derive(Clone, Copy, Debug)]
struct Entry<V> {
    key: Key,
    value: V,
    seen_at_ms: i64,
    older: u32,
    newer: u32,
}

/// The map. An entry is *pinned* when it is inserted: it has no age and cannot be the oldest until it is touched.
#[derive(Debug)]
pub(crate) struct Lru<V> {
    table: HashTable<u32>,
    chunks: Vec<Box<[Entry<V>]>>,
    used: u32,
    /// Head of the list of entries to be used again, linked by `newer`.
    free: u32,
    oldest: u32,
    newest: u32,
    /// Nobody ran after each of these times, for this long, in milliseconds; in order.
    absences: Vec<(i64, i64)>,
}

impl<V: Copy + Default> Lru<V> {
    pub(crate) fn new() -> Self {
        Self {
            table: HashTable::new(),
            chunks: Vec::new(),
            used: 0,
            free: NONE,
            oldest: NONE,
            newest: NONE,
            absences: Vec::new(),
        }
    }

    /// Entries, pinned ones included.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn find(&self, key: Key) -> Option<Slot> {
        self.table.find(key[0], |&index| self.entry(index).key == key).map(|&index| Slot(index))
    }

    /// Adds a pinned entry; `key` must not be there. The caller keeps the entries below 2³² − 1 (200 GB).
    pub(crate) fn insert(&mut self, key: Key, value: V) -> Slot {
        let index = self.vacant();
        *self.entry_mut(index) = Entry { key, value, seen_at_ms: 0, older: NONE, newer: NONE };
        let Self { table, chunks, .. } = self;
        table.insert_unique(key[0], index, |&other| at(chunks, other).key[0]);
        Slot(index)
    }

    pub(crate) fn value(&self, slot: Slot) -> V {
        self.entry(slot.0).value
    }

    pub(crate) fn set(&mut self, slot: Slot, value: V) {
        self.entry_mut(slot.0).value = value;
    }

    /// Makes the entry the newest. Time never runs backwards along the list, whatever the clock does.
    pub(crate) fn touch(&mut self, slot: Slot, now_ms: i64) {
        self.unlink(slot.0);
        let newest = self.newest;
        let seen_at_ms = if newest == NONE { now_ms } else { now_ms.max(self.entry(newest).seen_at_ms) };
        let entry = self.entry_mut(slot.0);
        entry.seen_at_ms = seen_at_ms;
        entry.older = newest;
        entry.newer = NONE;
        if newest == NONE {
            self.oldest = slot.0;
        } else {
            self.entry_mut(newest).newer = slot.0;
        }
        self.newest = slot.0;
    }

    /// The entry that was touched longest ago: when, its place, its value.
    pub(crate) fn oldest(&self) -> Option<(i64, Slot, V)> {
        (self.oldest != NONE).then(|| {
            let entry = self.entry(self.oldest);
            (entry.seen_at_ms, Slot(self.oldest), entry.value)
        })
    }

    /// The relay runs again: from the newest touch until now nobody ran, which makes no entry older.
    pub(crate) fn resume(&mut self, now_ms: i64) {
        if self.newest == NONE {
            return self.absences.clear();
        }
        let newest_ms = self.entry(self.newest).seen_at_ms;
        self.absences.retain(|(since_ms, _)| *since_ms < newest_ms);
        self.absent(newest_ms, now_ms);
    }

    /// Nobody ran in this time, which makes no entry older that was there before it. To be called in order of time.
    pub(crate) fn absent(&mut self, since_ms: i64, until_ms: i64) {
        let ms = until_ms.saturating_sub(since_ms);
        if ms <= 0 {
            return;
        }
        if self.absences.len() == ABSENCES_MAX {
            // Two that count as one, from the end of the second: what was there between them is kept longer.
            let (_, first_ms) = self.absences.remove(0);
            if let Some((_, second_ms)) = self.absences.first_mut() {
                *second_ms = second_ms.saturating_add(first_ms);
            }
        }
        self.absences.push((since_ms, ms));
    }

    /// How old an entry is that was touched at `seen_at_ms`, without the time in which nobody ran.
    pub(crate) fn age_ms(&self, seen_at_ms: i64, now_ms: i64) -> i64 {
        let since = self.absences.iter().filter(|(since_ms, _)| seen_at_ms <= *since_ms);
        let absent_ms = since.fold(0, |sum: i64, (_, ms)| sum.saturating_add(*ms));
        now_ms.saturating_sub(seen_at_ms).saturating_sub(absent_ms)
    }

    pub(crate) fn remove(&mut self, slot: Slot) {
        self.unlink(slot.0);
        let key = self.entry(slot.0).key;
        if let Ok(found) = self.table.find_entry(key[0], |&index| index == slot.0) {
            found.remove();
        }
        self.entry_mut(slot.0).newer = self.free;
        self.free = slot.0;
    }

    /// Bytes on the heap.
    pub(crate) fn bytes(&self) -> usize {
        self.table.allocation_size() + self.chunks.len() * CHUNK * size_of::<Entry<V>>()
    }

    fn vacant(&mut self) -> u32 {
        if self.free != NONE {
            let index = self.free;
            self.free = self.entry(index).newer;
            return index;
        }
        if self.used as usize == self.chunks.len() * CHUNK {
            let empty = Entry { key: [0; 2], value: V::default(), seen_at_ms: 0, older: NONE, newer: NONE };
            self.chunks.push(vec![empty; CHUNK].into_boxed_slice());
        }
        self.used += 1;
        self.used - 1
    }

    /// Takes the entry out of the list; a pinned one is in none.
    fn unlink(&mut self, index: u32) {
        let Entry { older, newer, .. } = *self.entry(index);
        if older != NONE {
            self.entry_mut(older).newer = newer;
        } else if self.oldest == index {
            self.oldest = newer;
        }
        if newer != NONE {
            self.entry_mut(newer).older = older;
        } else if self.newest == index {
            self.newest = older;
        }
    }

    fn entry(&self, index: u32) -> &Entry<V> {
        at(&self.chunks, index)
    }

    fn entry_mut(&mut self, index: u32) -> &mut Entry<V> {
        &mut self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }
}

fn at<V>(chunks: &[Box<[Entry<V>]>], index: u32) -> &Entry<V> {
    &chunks[index as usize / CHUNK][index as usize % CHUNK]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u8),
        Touch(u8, i64),
        Remove(u8),
        RemoveOldest,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            any::<u8>().prop_map(Step::Insert),
            (any::<u8>(), -50..50i64).prop_map(|(key, now)| Step::Touch(key, now)),
            any::<u8>().prop_map(Step::Remove),
            Just(Step::RemoveOldest),
        ]
    }

    proptest! {
        /// Against a list that does the same slowly.
        #[test]
        fn behaves_like_a_list(steps in prop::collection::vec(step(), 0..400)) {
            let keyed = Keyed::new([1, 2]);
            let mut lru = Lru::<u8>::new();
            let mut pinned = Vec::<u8>::new();
            let mut list = VecDeque::<(i64, u8)>::new();
            for step in steps {
                match step {
                    Step::Insert(name) => {
                        if lru.find(keyed.hash(&[name])).is_none() {
                            lru.insert(keyed.hash(&[name]), name);
                            pinned.push(name);
                        }
                    }
                    Step::Touch(name, now) => {
                        if let Some(slot) = lru.find(keyed.hash(&[name])) {
                            lru.touch(slot, now);
                            pinned.retain(|&other| other != name);
                            list.retain(|&(_, other)| other != name);
                            let newest = list.back().map_or(i64::MIN, |&(at, _)| at);
                            list.push_back((now.max(newest), name));
                        }
                    }
                    Step::Remove(name) => {
                        if let Some(slot) = lru.find(keyed.hash(&[name])) {
                            lru.remove(slot);
                            pinned.retain(|&other| other != name);
                            list.retain(|&(_, other)| other != name);
                        }
                    }
                    Step::RemoveOldest => {
                        if let Some((_, slot, _)) = lru.oldest() {
                            lru.remove(slot);
                            list.pop_front();
                        }
                    }
                }
                prop_assert_eq!(lru.len(), pinned.len() + list.len());
                prop_assert_eq!(lru.oldest().map(|(at, _, name)| (at, name)), list.front().copied());
                for &name in pinned.iter().chain(list.iter().map(|(_, name)| name)) {
                    let slot = lru.find(keyed.hash(&[name]));
                    prop_assert_eq!(slot.map(|slot| lru.value(slot)), Some(name));
                }
            }
        }
    }

    #[test]
    fn a_removed_place_is_used_again() {
        let keyed = Keyed::new([1, 2]);
        let mut lru = Lru::<u8>::new();
        for round in 0..3 * CHUNK as u64 {
            let slot = lru.insert(keyed.hash(&round.to_le_bytes()), 0);
            lru.remove(slot);
        }
        assert_eq!(lru.chunks.len(), 1);
    }
}

//! The journal's records: which events a transaction published, in bytes.
//!
//! A value is a version byte and entries. An entry is a byte of flags, then: the account where it differs from the
//! entry before (length, bytes), the event id (length, bytes), the key (16 bytes where it is a UUID in its usual
//! spelling, else length and bytes; a dead letter has none), and the version where the id does not contain it
//! (milliseconds, sequence number). Numbers are LEB128. Pure.

use crate::labels::Topic;
use crate::provider::EventId;
use crate::relay::Version;
use std::ops::Range;
use uuid::Uuid;
use uuid::fmt::Hyphenated;

/// The layout of a value; one with another first byte was written by another version of this program.
const LAYOUT: u8 = 1;

/// Bytes of a value at which the next entry begins another record. Far below any broker's limit on a record, and
/// 5,000 entries of the usual length (195 kB) still fit one.
pub(crate) const VALUE_BYTES_MAX: usize = 512 << 10;

const TOPIC: u8 = 0b11;
const STALE: u8 = 1 << 2;
const VERSION: u8 = 1 << 3;
const UUID: u8 = 1 << 4;
const ACCOUNT: u8 = 1 << 5;

/// One event that a transaction published, or kept as a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'j> {
    /// The account that it belongs to; empty where accounts have no names.
    pub account: &'j str,
    /// `Orders`, `Invoices` or `DeadLetter`.
    pub topic: Topic,
    /// The event's id; of a dead letter without one, the digest that is its key.
    pub id: &'j [u8],
    /// The record's key; empty for a dead letter.
    pub key: &'j [u8],
    /// How new it is; none where it is stale or a dead letter: it then has no meaning for its key.
    pub version: Option<Version>,
}

/// A value that this program did not write, or not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a journal record is damaged at byte {at}")]
pub struct Damaged {
    /// Where it stopped making sense.
    pub at: usize,
}

/// The entries of one batch, as the values of records.
#[derive(Debug, Default)]
pub struct Entries {
    bytes: Vec<u8>,
    /// Where each value begins.
    starts: Vec<usize>,
    count: u64,
    /// Where in `bytes` the account is that was named last in this value.
    account: Range<usize>,
}

impl Entries {
    /// Appends an entry.
    pub fn push(&mut self, entry: &Entry<'_>) {
        let Entry { account, topic, id, key, version } = *entry;
        if self.starts.last().is_none_or(|start| self.bytes.len() - start >= VALUE_BYTES_MAX - ENTRY_BYTES_MAX) {
            self.starts.push(self.bytes.len());
            self.bytes.push(LAYOUT);
            self.account = 0..0;
        }
        let same = &self.bytes[self.account.clone()] == account.as_bytes();
        let uuid = uuid_of(key);
        let told = version_of(id);
        let mut flags = topic_bits(topic);
        if version.is_none() {
            flags |= STALE;
        }
        if version.is_some() && version != told {
            flags |= VERSION;
        }
        if uuid.is_some() {
            flags |= UUID;
        }
        if !same {
            flags |= ACCOUNT;
        }
        self.bytes.push(flags);
        if !same {
            number(&mut self.bytes, account.len() as u64);
            let start = self.bytes.len();
            self.bytes.extend_from_slice(account.as_bytes());
            self.account = start..self.bytes.len();
        }
        text(&mut self.bytes, id);
        match uuid {
            Some(uuid) => self.bytes.extend_from_slice(&uuid),
            None if topic == Topic::DeadLetter => {}
            None => text(&mut self.bytes, key),
        }
        if let Some(Version { ms, seq }) = version.filter(|_| flags & VERSION != 0) {
            number(&mut self.bytes, u64::try_from(ms).unwrap_or_default());
            number(&mut self.bytes, seq);
        }
        self.count += 1;
    }

    /// How many entries there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The values of the records that hold them, in order.
    pub fn values(&self) -> impl Iterator<Item = &[u8]> {
        let ends = self.starts.iter().skip(1).copied().chain([self.bytes.len()]);
        self.starts.iter().zip(ends).map(|(start, end)| &self.bytes[*start..end])
    }

    /// Forgets the entries and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.starts.clear();
        self.count = 0;
        self.account = 0..0;
    }
}

/// Longest entry: flags, an account of 32 bytes, an id and a key at their bounds of 256, two numbers.
const ENTRY_BYTES_MAX: usize = 1 + 33 + 2 * 258 + 2 * 10;

/// Gives each entry of a value to `each`, in order; how many there were. Those before the damage are given.
pub fn read(value: &[u8], mut each: impl FnMut(Entry<'_>)) -> Result<u64, Damaged> {
    let mut cursor = Cursor { value, at: 0 };
    if cursor.byte()? != LAYOUT {
        return Err(Damaged { at: 0 });
    }
    let mut account = "";
    let mut count = 0;
    let mut spelled = [0; Hyphenated::LENGTH];
    while cursor.at < value.len() {
        let at = cursor.at;
        let flags = cursor.byte()?;
        if flags & ACCOUNT != 0 {
            account = std::str::from_utf8(cursor.text()?).map_err(|_| Damaged { at })?;
        }
        let topic = topic_of(flags).ok_or(Damaged { at })?;
        let id = cursor.text()?;
        let key = if flags & UUID != 0 {
            let uuid = Uuid::from_slice(cursor.take(16)?).map_err(|_| Damaged { at })?;
            uuid.hyphenated().encode_lower(&mut spelled).as_bytes()
        } else if topic == Topic::DeadLetter {
            &[]
        } else {
            cursor.text()?
        };
        let version = match flags & (STALE | VERSION) {
            0 => version_of(id),
            VERSION => {
                let ms = i64::try_from(cursor.number()?).map_err(|_| Damaged { at })?;
                Some(Version { ms, seq: cursor.number()? })
            }
            _ => None,
        };
        count += 1;
        each(Entry { account, topic, id, key, version });
    }
    Ok(count)
}

struct Cursor<'j> {
    value: &'j [u8],
    at: usize,
}

impl<'j> Cursor<'j> {
    fn byte(&mut self) -> Result<u8, Damaged> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn take(&mut self, len: usize) -> Result<&'j [u8], Damaged> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.value.len()).ok_or(Damaged { at: self.at })?;
        let taken = &self.value[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn text(&mut self) -> Result<&'j [u8], Damaged> {
        let at = self.at;
        let len = usize::try_from(self.number()?).map_err(|_| Damaged { at })?;
        self.take(len)
    }

    /// LEB128, at most the ten bytes of a `u64`.
    fn number(&mut self) -> Result<u64, Damaged> {
        let at = self.at;
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits.leading_zeros() < shift {
                return Err(Damaged { at });
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Damaged { at })
    }
}

fn number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn text(bytes: &mut Vec<u8>, text: &[u8]) {
    number(bytes, text.len() as u64);
    bytes.extend_from_slice(text);
}

/// The key's 16 bytes where its text is what they are spelled as.
fn uuid_of(key: &[u8]) -> Option<[u8; 16]> {
    let uuid = Uuid::try_parse_ascii(key).ok().filter(|_| key.len() == Hyphenated::LENGTH)?;
    let mut spelled = [0; Hyphenated::LENGTH];
    (uuid.hyphenated().encode_lower(&mut spelled).as_bytes() == key).then(|| uuid.into_bytes())
}

/// The version that an id contains, as the planner reads it.
fn version_of(id: &[u8]) -> Option<Version> {
    let id: EventId = std::str::from_utf8(id).ok()?.parse().ok()?;
    Some(Version { ms: i64::try_from(id.ms).ok()?, seq: id.seq })
}

fn topic_bits(topic: Topic) -> u8 {
    match topic {
        Topic::Invoices => 1,
        Topic::DeadLetter => 2,
        _ => 0,
    }
}

fn topic_of(flags: u8) -> Option<Topic> {
    match flags & TOPIC {
        0 => Some(Topic::Orders),
        1 => Some(Topic::Invoices),
        2 => Some(Topic::DeadLetter),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]
    use super::*;
    use proptest::prelude::*;

    type Owned = (String, Topic, Vec<u8>, Vec<u8>, Option<Version>);

    fn entry((account, topic, id, key, version): &Owned) -> Entry<'_> {
        Entry { account, topic: *topic, id, key, version: *version }
    }

    fn owned(entry: Entry<'_>) -> Owned {
        let Entry { account, topic, id, key, version } = entry;
        (account.to_owned(), topic, id.to_vec(), key.to_vec(), version)
    }

    /// What comes back of these, and the values that held them.
    fn round_trip(events: &[Owned]) -> (Vec<Owned>, Vec<Vec<u8>>) {
        let mut entries = Entries::default();
        events.iter().for_each(|event| entries.push(&entry(event)));
        assert_eq!(entries.count(), events.len() as u64);
        let values: Vec<Vec<u8>> = entries.values().map(<[u8]>::to_vec).collect();
        let mut back = Vec::new();
        let counts = values.iter().map(|value| read(value, |entry| back.push(owned(entry))).unwrap());
        assert_eq!(counts.sum::<u64>(), events.len() as u64);
        (back, values)
    }

    fn order(id: &str, key: &str, version: Option<Version>) -> Owned {
        (String::new(), Topic::Orders, id.into(), key.into(), version)
    }

    const KEY: &str = "0b7e7dee-7d8d-4c1b-9a51-3c2ad4a3a1f0";

    #[test]
    fn a_usual_event_takes_39_bytes() {
        let version = Some(Version { ms: 1_700_000_000_000, seq: 7 });
        let events = [order("evt_1700000000000-7", KEY, version)];
        let (back, values) = round_trip(&events);
        assert_eq!(back, events);
        assert_eq!(values[0].len(), 1 + 1 + 1 + 19 + 16);
    }

    #[test]
    fn what_the_id_does_not_contain_is_kept() {
        let version = |ms, seq| Some(Version { ms, seq });
        let events = [
            order("evt_1700000000000-7", KEY, None),
            order("evt_1700000000000-8", KEY, version(1_700_000_000_001, 0)),
            order("evt_example", "order 1", version(5, u64::MAX)),
            order("evt_example", "order 1", None),
            order("evt_18446744073709551615-0", &KEY.to_uppercase(), version(0, 0)),
            (String::new(), Topic::DeadLetter, b"sha256:00".to_vec(), Vec::new(), None),
            ("shop".into(), Topic::Invoices, b"evt_1-2".to_vec(), b"".to_vec(), version(1, 2)),
            ("shop".into(), Topic::Invoices, b"evt_1-3".to_vec(), b"i".to_vec(), version(1, 3)),
            (String::new(), Topic::Orders, b"".to_vec(), b"\xff".to_vec(), None),
        ];
        assert_eq!(round_trip(&events).0, events);
    }

    #[test]
    fn a_value_is_bounded_and_each_is_read_alone() {
        let long = "x".repeat(256);
        let events: Vec<Owned> = (0..3000)
            .map(|n| ("shop".to_owned(), Topic::Orders, format!("{n:0256}").into(), long.clone().into(), None))
            .collect();
        let (back, values) = round_trip(&events);
        assert_eq!(back, events);
        assert_eq!(values.len(), 3);
        assert!(values.iter().all(|value| value.len() <= VALUE_BYTES_MAX));
    }

    #[test]
    fn nothing_is_no_value_and_memory_is_used_again() {
        let mut entries = Entries::default();
        assert_eq!(entries.values().count(), 0);
        entries.push(&entry(&order("a", KEY, None)));
        let first: Vec<u8> = entries.values().flatten().copied().collect();
        entries.clear();
        assert_eq!((entries.values().count(), entries.count()), (0, 0));
        entries.push(&entry(&order("a", KEY, None)));
        assert_eq!(entries.values().flatten().copied().collect::<Vec<u8>>(), first);
    }

    #[test]
    fn damage_is_found() {
        let (_, values) = round_trip(&[order("evt_1-1", KEY, Some(Version { ms: 9, seq: 9 }))]);
        for end in 1..values[0].len() {
            // One byte alone is a value without entries, which the count in the checkpoint finds.
            assert_eq!(read(&values[0][..end], |_| ()).is_err(), end > 1, "{end}");
        }
        for wrong in [&b""[..], b"\x02", b"\x01\x03", b"\x01\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"] {
            assert!(read(wrong, |_| ()).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&value, |_| ());
        }

        #[test]
        fn entries_come_back(
            events in proptest::collection::vec(
                ("[a-z0-9-]{0,3}", 0..3_usize, "(evt_[0-9]{1,3}-[0-9]{1,2}|.{0,5})", ".{0,5}", proptest::option::of((0..1000_i64, 0..9_u64))),
                0..20,
            )
        ) {
            let events: Vec<Owned> = events.into_iter().map(|(account, topic, id, key, version)| {
                let topic = [Topic::Orders, Topic::Invoices, Topic::DeadLetter][topic];
                let key = if topic == Topic::DeadLetter { Vec::new() } else { key.into_bytes() };
                (account, topic, id.into_bytes(), key, version.map(|(ms, seq)| Version { ms, seq }))
            }).collect();
            prop_assert_eq!(round_trip(&events).0, events);
        }
    }
}

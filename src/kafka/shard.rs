//! The shards of a relay: which one an account belongs to, and what each is called in Kafka. Pure.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One shard of a relay: what one loop, one window and one transactional id serve. Without a cluster there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard {
    /// From 0 on; also its partition of the control topic and of the inbox.
    pub number: i32,
    /// How many there are.
    pub count: i32,
}

impl Shard {
    /// The shard of a relay that is not divided.
    pub const SOLE: Self = Self { number: 0, count: 1 };

    /// All shards of a relay that has `count`.
    pub fn all(count: i32) -> impl Iterator<Item = Self> {
        (0..count.max(1)).map(move |number| Self { number, count })
    }

    /// The shard of the account of this name, of a relay called `relay`.
    pub fn of(relay: &str, account: &str, count: i32) -> Self {
        Self { number: partition(key_of(relay, account).as_bytes(), count), count }
    }

    /// What the keys of its records in the control topic begin with: shard 0 has the relay's name, as a relay without shards
    /// has, so that the two fence each other.
    pub fn prefix(self, relay: &str) -> String {
        self.named(relay, '/')
    }

    /// The transactional id of its owner.
    pub fn transactional_id(self, relay: &str) -> String {
        self.named(relay, '.')
    }

    fn named(self, relay: &str, between: char) -> String {
        match self.number {
            0 => relay.to_owned(),
            number => format!("{relay}{between}{number}"),
        }
    }
}

/// The name of an account of the relay `relay` in Kafka's keys: its name, or that of the relay where it has none.
pub fn key_of<'n>(relay: &'n str, account: &'n str) -> &'n str {
    if account.is_empty() { relay } else { account }
}

/// A node of a cluster that serves a shard.
#[derive(Clone, Debug)]
pub struct Member {
    /// The node, as checkpoints name it.
    pub node: String,
    /// Whether the shard is the node's, by the consumer group's last assignment.
    pub owned: Arc<AtomicBool>,
}

impl Member {
    /// Whether the shard is the node's.
    pub fn owns(&self) -> bool {
        self.owned.load(Ordering::Acquire)
    }
}

impl Default for Shard {
    fn default() -> Self {
        Self::SOLE
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number.fmt(f)
    }
}

/// The partition of `key` among `count`, as Java's default partitioner has it: `toPositive(murmur2(key)) mod count`
/// (`BuiltInPartitioner.partitionForKey`, Apache Kafka).
fn partition(key: &[u8], count: i32) -> i32 {
    // The sign is cut off and not changed.
    let hash = i32::try_from(murmur2(key) & 0x7fff_ffff).unwrap_or_default();
    hash.checked_rem(count).unwrap_or_default()
}

/// MurmurHash2 of 32 bits with Kafka's seed (`Utils.murmur2`).
fn murmur2(bytes: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    // Names are short.
    let mut hash = SEED ^ u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        let word = word.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ (word ^ word >> 24).wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        hash = (hash ^ rest.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte))).wrapping_mul(M);
    }
    hash = (hash ^ hash >> 13).wrapping_mul(M);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of Kafka's own test (`UtilsTest.testMurmur2`).
    #[test]
    fn the_hash_is_kafkas() {
        for (text, expected) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()).cast_signed(), expected, "{text}");
        }
        assert_eq!(partition(b"21", 12), (-973_932_308_i32 & i32::MAX) % 12);
        assert_eq!(partition(b"21", 0), 0, "nothing can be divided by it");
    }

    #[test]
    fn an_account_has_one_shard_and_one_without_a_name_that_of_the_relay() {
        assert_eq!(Shard::of("shop", "", 7), Shard::of("other", "shop", 7));
        assert!((0..1000).all(|n| (0..7).contains(&Shard::of("shop", &format!("account-{n}"), 7).number)));
        let used: std::collections::BTreeSet<_> =
            (0..1000).map(|n| Shard::of("shop", &format!("account-{n}"), 7)).collect();
        assert_eq!(used.into_iter().collect::<Vec<_>>(), Shard::all(7).collect::<Vec<_>>(), "all are used");
        assert_eq!(Shard::of("shop", "a", 1), Shard::SOLE);
    }

    #[test]
    fn shard_0_is_called_as_a_relay_without_shards() {
        let [first, third] = [0, 2].map(|number| Shard { number, count: 3 });
        assert_eq!([first.prefix("shop"), third.prefix("shop")], ["shop", "shop/2"]);
        assert_eq!([first.transactional_id("shop"), third.transactional_id("shop")], ["shop", "shop.2"]);
    }
}

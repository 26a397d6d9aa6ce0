//! The checkpoint: the last record of every transaction in the control topic, so that Kafka alone shows which
//! transactions of which run are committed.
//!
//! Record `NAME/checkpoint`. `run` and `commit` settle a commit of unknown outcome: a bare number would settle an
//! aborted batch after another relay took over. `previous` and `journal` prove that nothing before it is missing.

use super::shard::{Shard, key_of};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// One transaction of one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitId {
    /// The run, a UUID.
    pub run: String,
    /// Its number in the run; the claim is 0.
    pub commit: u64,
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "commit {} of run {}", self.commit, self.run)
    }
}

/// How far each account has come: the values of the records `NAME/marks/ACCOUNT`, by account, empty where it has no name. The relay makes them, and
/// they are opaque here.
pub type Marks = BTreeMap<String, Vec<u8>>;

/// What a claim finds of the runs before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predecessor {
    /// The newest checkpoint.
    pub checkpoint: Checkpoint,
    /// The newest marks.
    pub marks: Marks,
}

/// The newest checkpoint, as it is in the control topic.
#[derive(Clone, Debug)]
pub struct Newest {
    /// The record's value.
    pub checkpoint: Checkpoint,
    /// The record's timestamp, in Unix milliseconds.
    pub written_at_ms: i64,
}

/// The keys of a shard's records in the control topic.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The relay.
    name: String,
    /// What they begin with.
    prefix: String,
}

impl Keys {
    /// Of the relay `name`, which has one shard.
    pub fn new(name: &str) -> Self {
        Self::of(name, Shard::SOLE)
    }

    /// Of a shard of the relay `name`.
    pub fn of(name: &str, shard: Shard) -> Self {
        Self { name: name.to_owned(), prefix: shard.prefix(name) }
    }

    /// The key of its checkpoints.
    pub fn checkpoint(&self) -> String {
        format!("{}{CHECKPOINT}", self.prefix)
    }

    /// The key of its journal records.
    pub fn journal(&self) -> String {
        format!("{}/journal", self.prefix)
    }

    /// The key of the marks of an account. One without a name has the relay's.
    pub fn marks(&self, account: &str) -> String {
        format!("{}/marks/{}", self.prefix, key_of(&self.name, account))
    }

    /// The key of a gap, at its place in the ring.
    pub fn gap(&self, place: u64) -> String {
        format!("{}/gap/{place}", self.prefix)
    }

    /// Whose marks a record of this key holds.
    pub fn account_of<'k>(&self, key: &'k [u8]) -> Option<&'k str> {
        let rest = key.strip_prefix(self.prefix.as_bytes())?.strip_prefix(b"/marks/")?;
        let account = std::str::from_utf8(rest).ok()?;
        Some(if account == self.name { "" } else { account })
    }
}

/// The end of every key that holds a checkpoint.
pub(super) const CHECKPOINT: &str = "/checkpoint";

/// One checkpoint. Members that a later version adds are passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// A UUID drawn at each start of a relay: the run that wrote the newest one holds the name.
    pub run: String,
    /// Counts the transactions of a run; the claim is 0.
    pub commit: u64,
    /// When it was written, RFC 3339 in UTC with milliseconds; a claim keeps the time of the checkpoint that it follows,
    /// so that a relay which comes no further does not hide since when none was running.
    pub at: String,
    /// The provider's environment whose events the topics hold.
    pub environment: String,
    /// Partitions of the control topic.
    pub shards: i32,
    /// The process that wrote it, in a cluster.
    pub node: Option<String>,
    /// Entries of this transaction's journal records.
    pub journal: u64,
    /// The offset in the inbox up to which everything is published.
    pub inbox: Option<i64>,
    /// In a claim the checkpoint that it follows; none in the first claim of a name.
    pub previous: Option<CommitId>,
    /// The relay settled everything and left.
    pub left: bool,
}

impl Checkpoint {
    /// Of a transaction without journal.
    pub fn new(run: String, commit: u64, at: String, environment: &str) -> Self {
        let environment = environment.to_owned();
        Self {
            run,
            commit,
            at,
            environment,
            shards: 1,
            node: None,
            journal: 0,
            inbox: None,
            previous: None,
            left: false,
        }
    }

    /// Made the claim that follows `predecessor`. It has nothing new, so it keeps the time and the place in the inbox
    /// of what it follows: a relay that comes no further must not hide from the next one since when none was running.
    pub fn following(self, predecessor: Option<&Self>) -> Self {
        let Some(Self { at, inbox, .. }) = predecessor.cloned() else { return self };
        Self { at, inbox, previous: predecessor.map(Self::id), ..self }
    }

    /// Which transaction it ends.
    pub fn id(&self) -> CommitId {
        CommitId { run: self.run.clone(), commit: self.commit }
    }

    /// Whether it is the first transaction of its run.
    pub fn is_claim(&self) -> bool {
        self.commit == 0
    }

    /// The record's value.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }

    /// Reads a record's value.
    pub fn parse(value: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(value)
    }

    /// The same in Unix milliseconds; `None` if that is not a time.
    pub fn at_ms(&self) -> Option<i64> {
        self.at.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]
    use super::*;

    fn example() -> Checkpoint {
        let previous = Some(CommitId { run: "q".to_owned(), commit: 4 });
        let checkpoint = Checkpoint::new("r".to_owned(), 0, "2023-11-14T22:13:20.000Z".to_owned(), "devnet");
        Checkpoint { previous, ..checkpoint }
    }

    #[test]
    fn its_json_is_documented() {
        let json = String::from_utf8(example().to_json().unwrap()).unwrap();
        let expected = concat!(
            r#"{"run":"r","commit":0,"at":"2023-11-14T22:13:20.000Z","environment":"devnet","shards":1,"node":null,"#,
            r#""journal":0,"inbox":null,"previous":{"run":"q","commit":4},"left":false}"#
        );
        assert_eq!(json, expected);
        assert_eq!(example().at_ms(), Some(1_700_000_000_000));
        assert_eq!((example().id().to_string().as_str(), example().is_claim()), ("commit 0 of run r", true));
    }

    #[test]
    fn keys_are_documented_and_marks_name_their_account() {
        let keys = Keys::new("shop");
        assert_eq!(
            [keys.checkpoint(), keys.journal(), keys.marks("a"), keys.gap(7)],
            ["shop/checkpoint", "shop/journal", "shop/marks/a", "shop/gap/7"]
        );
        assert_eq!(keys.account_of(b"shop/marks/a"), Some("a"));
        let third = Keys::of("shop", Shard { number: 2, count: 3 });
        assert_eq!(
            [third.checkpoint(), third.journal(), third.marks("a"), third.marks(""), third.gap(7)],
            ["shop/2/checkpoint", "shop/2/journal", "shop/2/marks/a", "shop/2/marks/shop", "shop/2/gap/7"]
        );
        assert_eq!((third.account_of(b"shop/2/marks/shop"), third.account_of(b"shop/marks/a")), (Some(""), None));
        assert_eq!(keys.account_of(b"shop/2/marks/a"), None);
        for other in [&b"shop/checkpoint"[..], b"shop2/marks/a", b"shop/marks/\xff", b""] {
            assert_eq!(keys.account_of(other), None);
        }
    }

    #[test]
    fn it_reads_back_and_passes_over_what_it_does_not_know() {
        assert_eq!(Checkpoint::parse(&example().to_json().unwrap()).unwrap(), example());
        let later = br#"{"run":"r","commit":1,"at":"x","environment":"devnet","shards":1,"node":null,"journal":2,"inbox":7,"previous":null,"left":true,"new":1}"#;
        let read = Checkpoint::parse(later).unwrap();
        assert_eq!((read.commit, read.journal, read.inbox, read.left, read.at_ms()), (1, 2, Some(7), true, None));
        assert!(Checkpoint::parse(b"{").is_err());
        assert!(Checkpoint::parse(br#"{"run":"r"}"#).is_err());
    }
}

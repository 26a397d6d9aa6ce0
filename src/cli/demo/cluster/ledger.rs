//! What is in Kafka of each account's events, and what the control topic holds about each shard.

use crate::kafka::Checkpoint;
use crate::kafka::consume::Consumed;
use crate::relay::journal;
use std::collections::BTreeMap;

/// An event: its account, and its id there.
pub(super) type EventId = (String, String);

/// How often each event was seen, and who wrote last.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// On the topics of events.
    published: BTreeMap<EventId, u64>,
    /// In the journal, which is committed with them.
    journal: BTreeMap<EventId, u64>,
    /// The newest word of each shard, by its partition of the control topic.
    shards: BTreeMap<i32, Word>,
}

/// The newest record of a shard in the control topic.
#[derive(Debug, Default)]
struct Word {
    /// The newest record is a checkpoint: no transaction is known to be half way.
    whole: bool,
    /// Its owner left with everything settled.
    left: bool,
}

/// The books of one account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Books {
    pub(super) issued: usize,
    pub(super) missing: usize,
    pub(super) repeated: usize,
    /// The journal names each event that was issued once, and none else is there.
    pub(super) balanced: bool,
}

fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
}

impl Ledger {
    /// A record of a topic of events; whose it is.
    pub(super) fn note(&mut self, record: &Consumed) -> String {
        let account = text(record.header("relay_account"));
        *self.published.entry((account.clone(), text(record.header("ce_id")))).or_default() += 1;
        account
    }

    /// A record of the control topic.
    pub(super) fn note_control(&mut self, record: &Consumed) {
        let key = record.key.as_deref().unwrap_or_default();
        let value = record.value.as_deref().unwrap_or_default();
        let shard = self.shards.entry(record.partition).or_default();
        *shard = Word::default();
        if key.ends_with(b"/journal") {
            // One that cannot be read names nothing, and the books do not balance.
            let _ = journal::read(value, |entry| {
                let id = (entry.account.to_owned(), text(Some(entry.id)));
                *self.journal.entry(id).or_default() += 1;
            });
        } else if key.ends_with(b"/checkpoint")
            && let Ok(checkpoint) = Checkpoint::parse(value)
        {
            *shard = Word { whole: true, left: checkpoint.left };
        }
    }

    /// Everything that was issued is there, and no transaction is half way.
    pub(super) fn is_settled(&self, issued: &[EventId]) -> bool {
        let is_there = |id| self.published.contains_key(id) && self.journal.contains_key(id);
        issued.iter().all(is_there) && self.shards.values().all(|shard| shard.whole)
    }

    /// The owners of this many shards have left with everything settled.
    pub(super) fn is_closed(&self, shards: usize) -> bool {
        self.shards.values().filter(|shard| shard.left).count() == shards
    }

    /// The books of the account whose provider issued these.
    pub(super) fn books(&self, account: &str, issued: &[EventId]) -> Books {
        let of = |events: &BTreeMap<EventId, u64>| -> Vec<(EventId, u64)> {
            events.iter().filter(|((name, _), _)| name == account).map(|(id, count)| (id.clone(), *count)).collect()
        };
        let (published, journal) = (of(&self.published), of(&self.journal));
        let mut once: Vec<_> = issued.iter().map(|id| (id.clone(), 1)).collect();
        once.sort();
        Books {
            issued: issued.len(),
            missing: issued.iter().filter(|id| !self.published.contains_key(*id)).count(),
            repeated: published.iter().filter(|(_, count)| *count > 1).count(),
            balanced: published == once && journal == once,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::Topic;
    use crate::relay::journal::{Entries, Entry};

    fn event(account: &str, id: &str) -> Consumed {
        let headers = [("ce_id", id), ("relay_account", account)];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())).to_vec();
        Consumed { headers, ..control("", Vec::new()) }
    }

    fn control(key: &str, value: Vec<u8>) -> Consumed {
        Consumed {
            topic: String::new(),
            partition: 0,
            offset: 0,
            published_at_ms: 0,
            key: Some(key.as_bytes().to_vec()),
            value: Some(value),
            headers: Vec::new(),
        }
    }

    fn journal(account: &str, id: &str) -> Consumed {
        let mut entries = Entries::default();
        entries.push(&Entry { account, topic: Topic::Orders, id: id.as_bytes(), key: b"k", version: None });
        control("demo/journal", entries.values().flatten().copied().collect())
    }

    fn checkpoint(left: bool) -> Consumed {
        let checkpoint = Checkpoint { left, ..Checkpoint::new("r".into(), 1, "x".into(), "devnet") };
        control("demo/checkpoint", checkpoint.to_json().unwrap_or_default())
    }

    #[test]
    fn the_books_balance_where_each_event_is_there_once_with_its_journal() {
        let issued: Vec<EventId> = ["e1", "e2"].map(|id| ("books".to_owned(), id.to_owned())).to_vec();
        let mut ledger = Ledger::default();
        assert_eq!(ledger.note(&event("books", "e1")), "books");
        ledger.note_control(&journal("books", "e1"));
        assert!(!ledger.is_settled(&issued[..1]), "its checkpoint is still to come");
        ledger.note_control(&checkpoint(false));
        assert!(ledger.is_settled(&issued[..1]) && !ledger.is_settled(&issued));
        let books = ledger.books("books", &issued);
        assert_eq!((books.issued, books.missing, books.repeated, books.balanced), (2, 1, 0, false));
        ledger.note(&event("books", "e2"));
        assert!(!ledger.books("books", &issued).balanced, "the journal does not name it");
        ledger.note_control(&journal("books", "e2"));
        ledger.note(&event("games", "e2"));
        assert!(ledger.books("books", &issued).balanced, "an id of another account is another event");
        assert!(!ledger.books("games", &[]).balanced, "nobody issued it");
        assert!(!ledger.is_closed(1));
        ledger.note_control(&checkpoint(true));
        assert!(ledger.is_closed(1) && !ledger.is_closed(2));
        ledger.note(&event("books", "e1"));
        let books = ledger.books("books", &issued);
        assert_eq!((books.missing, books.repeated, books.balanced), (0, 1, false));
    }
}

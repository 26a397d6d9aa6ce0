//! What a relay that starts or is in doubt reads in Kafka itself: the newest checkpoint and marks, the journal, and
//! which other relays write to the same control topic.

use super::blocking::{AskError, Cancel, blocking, patiently_from_start};
use super::checkpoint::{CHECKPOINT, Checkpoint, Keys, Marks, Newest, Predecessor};
use super::errors::StartError;
use super::run::is_base;
use super::scan::{self, Reader, Stretch};
use super::shard::Shard;
use crate::config::{Config, Secrets};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::Offset;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How many records are read first from the control topic's end; then doubled until what is looked for is among them. A
/// busy neighbour on the same topic costs a few steps more.
const STEP: i64 = 256;

/// A record of the control topic that the start reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control<'m> {
    /// Names events of the transaction whose checkpoint follows.
    Journal(&'m [u8]),
    /// Ends a transaction.
    Checkpoint(Checkpoint),
}

/// How far a read-back has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'p> {
    /// Offsets done.
    pub done: u64,
    /// Offsets in all.
    pub total: u64,
    /// `TOPIC[PARTITION]` whose open transaction of another writer is waited for.
    pub waiting_for: Option<&'p str>,
}

/// What a read-back found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Records given to the sink.
    pub records: u64,
    /// Offsets read, markers and records of others among them.
    pub offsets: u64,
    /// Bytes of the records' values.
    pub bytes: u64,
}

/// How long another writer's open transaction is waited for; then the start fails and names the command that finds it.
pub const OPEN_TRANSACTION_MAX: std::time::Duration = scan::OPEN_TRANSACTION_MAX;

/// What an operator sees while another writer's open transaction on `place` (`TOPIC[PARTITION]`) is waited for.
pub fn foreign_transaction(place: &str) -> String {
    let minutes = OPEN_TRANSACTION_MAX.as_secs() / 60;
    format!("another writer's transaction on {place} (its transaction.timeout.ms, at most {minutes} minutes)")
}

/// Gives the journal and the checkpoints of a shard since `from_ms` (Unix milliseconds; all where it is 0) to `sink`, in order,
/// each with the timestamp of its record.
///
/// Call it after the claim, with the reader of the claim where there is one: no other run writes any more then, and the end of
/// the log is the end of the past. While Kafka does not answer it waits; dropping the future ends it.
pub async fn read_back(
    config: &Config,
    secrets: &Secrets,
    reader: Option<Reader>,
    shard: Shard,
    from_ms: i64,
    mut sink: impl FnMut(Control<'_>, i64) + Send + 'static,
    mut progress: impl FnMut(Progress<'_>) + Send + 'static,
) -> Result<Summary, StartError> {
    let config = config.clone();
    let secrets = secrets.clone();
    blocking(move |cancel| {
        let reader = reader.map_or_else(|| Reader::open(&config, &secrets), |reader| reader.with(&secrets))?;
        let control = &config.kafka.topics.control;
        let keys = Keys::of(&config.name, shard);
        let checkpoint_key = keys.checkpoint();
        let journal_key = keys.journal();
        let stretch = patiently_from_start(cancel, || control_since(&reader, control, shard, from_ms))?;
        let total = stretch.end.abs_diff(stretch.start);
        let mut summary = Summary { records: 0, offsets: total, bytes: 0 };
        let mut damaged = None;
        let each = |message: &BorrowedMessage<'_>| {
            let key = message.key().unwrap_or_default();
            let record = if key == journal_key.as_bytes() {
                Control::Journal(message.payload().unwrap_or_default())
            } else if key == checkpoint_key.as_bytes() {
                match Checkpoint::parse(message.payload().unwrap_or_default()) {
                    Ok(checkpoint) => Control::Checkpoint(checkpoint),
                    Err(error) => {
                        damaged = Some(error.to_string());
                        return;
                    }
                }
            } else {
                return;
            };
            summary.records += 1;
            summary.bytes += message.payload_len() as u64;
            sink(record, message.timestamp().to_millis().unwrap_or_default());
        };
        let pulse = |done, waiting_for: Option<&str>| progress(Progress { done, total, waiting_for });
        reader.read(&stretch, cancel, each, pulse)?;
        if let Some(detail) = damaged {
            return Err(unreadable(control, &checkpoint_key, &detail).into());
        }
        progress(Progress { done: total, total, waiting_for: None });
        Ok(summary)
    })
    .await
}

/// A shard's part of the control topic.
#[derive(Clone, Copy)]
pub(super) struct Memory<'m> {
    /// The control topic.
    pub(super) control: &'m str,
    /// The relay's name.
    pub(super) name: &'m str,
    pub(super) shard: Shard,
}

/// The newest checkpoint of a shard; no relay is fenced by asking.
pub(super) fn newest(reader: &Reader, memory: Memory<'_>, cancel: &Cancel) -> Result<Option<Newest>, AskError> {
    Ok(search(reader, memory, None, cancel, |found| found.newest.is_some(), &mut |_| ())?.newest)
}

/// The newest checkpoint of a shard that readers see now: a transaction that its owner left open is not waited for.
pub(super) fn newest_stable(reader: &Reader, memory: Memory<'_>, cancel: &Cancel) -> Result<Option<Newest>, AskError> {
    let end = reader.stable_end(memory.control, memory.shard.number)?;
    Ok(search(reader, memory, Some(end), cancel, |found| found.newest.is_some(), &mut |_| ())?.newest)
}

/// The newest checkpoint of a shard, and the newest marks of each of its accounts, or of the one that a relay without `named`
/// accounts has. `waiting` gets what it waits for.
pub(super) fn predecessor(
    reader: &Reader,
    memory: Memory<'_>,
    named: bool,
    cancel: &Cancel,
    waiting: &mut dyn FnMut(&str),
) -> Result<Option<Predecessor>, AskError> {
    // Each claim and each base writes the marks of all accounts, so that there is a record of them wherever there is a
    // checkpoint.
    let all = |found: &Found| match named {
        true => found.newest.is_some() && found.has_base(),
        false => found.newest.is_some() && found.marks.contains_key(""),
    };
    let Found { newest, marks, .. } = search(reader, memory, None, cancel, all, waiting)?;
    Ok(newest.map(|Newest { checkpoint, .. }| Predecessor { checkpoint, marks }))
}

/// The newest checkpoint of each other relay that wrote to the shard's partition of the control topic since `from_ms`, by its
/// name. What cannot be read is not another relay's.
pub(super) fn others(
    reader: &Reader,
    memory: Memory<'_>,
    from_ms: i64,
    cancel: &Cancel,
) -> Result<BTreeMap<String, Checkpoint>, AskError> {
    let Memory { control, name, shard } = memory;
    let stretch = control_since(reader, control, shard, from_ms)?;
    let mut others = BTreeMap::new();
    let each = |message: &BorrowedMessage<'_>| {
        let of = message.key().and_then(|key| std::str::from_utf8(key).ok()?.strip_suffix(CHECKPOINT));
        // No relay has a name with a slash, which comes before the number of a shard.
        let of = of.map(|of| of.split_once('/').map_or(of, |(name, _)| name));
        let Some(of) = of.filter(|of| *of != name) else { return };
        if let Ok(checkpoint) = Checkpoint::parse(message.payload().unwrap_or_default()) {
            others.insert(of.to_owned(), checkpoint);
        }
    };
    reader.read(&stretch, cancel, each, |_, _| ())?;
    Ok(others)
}

/// How many offsets at the end of a partition are looked at for a record that is committed: a start that was given up
/// leaves aborted ones.
const TAIL: i64 = 1000;

/// The first of these topics, each with its partitions, that holds a committed record at its end.
pub(super) fn holds_records<'t>(
    reader: &Reader,
    topics: &[(&'t str, i32)],
    cancel: &Cancel,
    waiting: &mut dyn FnMut(&str),
) -> Result<Option<&'t str>, AskError> {
    for (topic, partitions) in topics {
        let starts = reader.offsets(topic, *partitions, Offset::Beginning)?;
        let ends = reader.offsets(topic, *partitions, Offset::End)?;
        let tails = (0..).zip(starts.into_iter().zip(ends)).filter_map(|(partition, ends)| match ends {
            (Offset::Offset(start), Offset::Offset(end)) if start < end => {
                Some(Stretch { topic: (*topic).to_owned(), partition, start: start.max(end - TAIL), end })
            }
            _ => None,
        });
        for tail in tails {
            let mut found = false;
            reader.read(&tail, cancel, |_| found = true, |_, place| place.into_iter().for_each(&mut *waiting))?;
            if found {
                return Ok(Some(topic));
            }
        }
    }
    Ok(None)
}

/// What a search from the control topic's end found.
#[derive(Default)]
struct Found {
    newest: Option<Newest>,
    marks: Marks,
    /// Where the newest base is, and the oldest checkpoint.
    base: Option<i64>,
    oldest: Option<i64>,
}

impl Found {
    /// All of a base was read: the checkpoint of the transaction before it was, too.
    fn has_base(&self) -> bool {
        self.base > self.oldest
    }
}

/// Reads back from the end of the control topic, or from this one, until `enough`. Compaction keeps the newest record of a key, so what there
/// ever was is found.
fn search(
    reader: &Reader,
    memory: Memory<'_>,
    end: Option<Offset>,
    cancel: &Cancel,
    enough: impl Fn(&Found) -> bool,
    waiting: &mut dyn FnMut(&str),
) -> Result<Found, AskError> {
    let Memory { control, name, shard } = memory;
    let partition = shard.number;
    let end = end.map_or_else(|| reader.offset(control, partition, Offset::End), Ok)?;
    let ends = (reader.offset(control, partition, Offset::Beginning)?, end);
    let (Offset::Offset(low), Offset::Offset(high)) = ends else {
        return Err(AskError::Away(format!("the ends of {control}[{partition}] are not known")));
    };
    let keys = Keys::of(name, shard);
    let checkpoint_key = keys.checkpoint();
    let mut found = Found::default();
    let mut end = high;
    let mut step = STEP;
    while end > low && !enough(&found) {
        let start = end.saturating_sub(step).max(low);
        let stretch = Stretch { topic: control.to_owned(), partition, start, end };
        let mut newest = None;
        let mut marks = Marks::new();
        let (mut base, mut oldest) = (None, None);
        let each = |message: &BorrowedMessage<'_>| {
            let key = message.key().unwrap_or_default();
            if key == checkpoint_key.as_bytes() {
                let written_at_ms = message.timestamp().to_millis().unwrap_or_default();
                let parsed = message.payload().map(Checkpoint::parse);
                if let Some(Ok(checkpoint)) = &parsed {
                    oldest.get_or_insert(message.offset());
                    base = Some(message.offset()).filter(|_| is_base(checkpoint.commit)).or(base);
                }
                newest = parsed.map(|parsed| (parsed, written_at_ms));
            } else if let Some(account) = keys.account_of(key)
                && let Some(value) = message.payload()
            {
                marks.insert(account.to_owned(), value.to_owned());
            }
        };
        reader.read(&stretch, cancel, each, |_, place| place.into_iter().for_each(&mut *waiting))?;
        match newest.filter(|_| found.newest.is_none()) {
            Some((Ok(checkpoint), written_at_ms)) => found.newest = Some(Newest { checkpoint, written_at_ms }),
            Some((Err(error), _)) => return Err(unreadable(control, &checkpoint_key, &error.to_string()).into()),
            None => {}
        }
        for (account, value) in marks {
            found.marks.entry(account).or_insert(value);
        }
        found.base = found.base.or(base);
        found.oldest = oldest.or(found.oldest);
        end = start;
        step = step.saturating_mul(2);
    }
    Ok(found)
}

fn unreadable(control: &str, key: &str, detail: &str) -> StartError {
    StartError::Settings(format!(
        "{control}: the newest record of key `{key}` is no checkpoint of this program ({detail}); \
         give this relay another `name` or another kafka.topics.control"
    ))
}

/// The stretch of the shard's partition of the control topic that was written since `from_ms`.
fn control_since(reader: &Reader, control: &str, shard: Shard, from_ms: i64) -> Result<Stretch, AskError> {
    let partition = shard.number;
    let Offset::Offset(end) = reader.offset(control, partition, Offset::End)? else {
        return Err(AskError::Away(format!("the end of {control}[{partition}] is not known")));
    };
    // A broker that knows no times knows where the log begins.
    let from = if from_ms <= 0 { Offset::Beginning } else { Offset::Offset(from_ms) };
    let start = match reader.offset(control, partition, from)? {
        Offset::Offset(start) => start.min(end),
        // No record is that young.
        _ => end,
    };
    Ok(Stretch { topic: control.to_owned(), partition, start, end })
}

/// The stretches of a topic that were written since `from_ms`. One that the broker does not know is trouble that passes.
pub(super) fn since(reader: &Reader, cancel: &Cancel, topic: &str, from_ms: i64) -> Result<Vec<Stretch>, AskError> {
    let partitions = reader.shape_of_known(topic, cancel)?.partitions;
    let starts = reader.offsets(topic, partitions, Offset::Offset(from_ms))?;
    let ends = reader.offsets(topic, partitions, Offset::End)?;
    let stretch = |(partition, (start, end))| match (start, end) {
        (Offset::Offset(start), Offset::Offset(end)) => {
            Some(Stretch { topic: topic.to_owned(), partition, start, end })
        }
        // No record is that young.
        _ => None,
    };
    Ok((0..).zip(starts.into_iter().zip(ends)).filter_map(stretch).collect())
}

/// Gives each header to `each`, in order.
///
/// The binding panics on a header whose name is not UTF-8, which a foreign writer can put into a topic: then the
/// headers before it count, and a warning names the record.
pub(super) fn headers_of<'m>(message: &'m BorrowedMessage<'_>, mut each: impl FnMut(&'m str, Option<&'m [u8]>)) {
    let Some(headers) = message.headers() else { return };
    let all = AssertUnwindSafe(|| headers.iter().for_each(|header| each(header.key, header.value)));
    if catch_unwind(all).is_err() {
        let topic = message.topic();
        let partition = message.partition();
        let offset = message.offset();
        tracing::warn!(topic, partition, offset, "a record has a header whose name is not UTF-8");
    }
}

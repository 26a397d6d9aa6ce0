//! What Kafka itself tells a relay that starts or is in doubt: the newest checkpoint, and the records of the window.

use super::blocking::{AskError, Cancel, blocking, patiently};
use super::checkpoint::Checkpoint;
use super::errors::StartError;
use super::scan::{self, Reader, Stretch};
use crate::config::{Config, Secrets};
use crate::labels::Topic;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::Offset;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How many records are read first from the control topic's end; then doubled until a checkpoint of ours is among
/// them. A busy neighbour on the same topic costs a few steps more.
const CHECKPOINT_STEP: i64 = 256;

/// Topics whose records tell which events were published. `orders_latest` repeats `orders` and tells nothing new.
const TOPICS: [Topic; 3] = [Topic::Orders, Topic::Invoices, Topic::DeadLetter];

/// A record of the window, by its headers alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadBack<'m> {
    /// The topic it stands in.
    pub topic: Topic,
    /// Its key: the order's or the invoice's id.
    pub key: &'m [u8],
    /// `ce_id`; for a dead letter its key.
    pub event_id: Option<&'m [u8]>,
    /// `ce_time`, RFC 3339.
    pub occurred_at: Option<&'m [u8]>,
    /// The record's timestamp: when it was published, in Unix milliseconds.
    pub published_at_ms: i64,
    /// It carries `relay_stale: true`.
    pub stale: bool,
    /// It carries `relay_replay`: republished on purpose.
    pub replay: bool,
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
    /// Offsets read, markers and aborted records among them.
    pub offsets: u64,
    /// Bytes of the records' keys and values.
    pub bytes: u64,
}

/// The newest checkpoint, as it stands in the control topic.
#[derive(Clone, Debug)]
pub struct Newest {
    /// The record's value.
    pub checkpoint: Checkpoint,
    /// The record's timestamp, in Unix milliseconds.
    pub written_at_ms: i64,
}

/// Gives every record published since `from_ms` (Unix milliseconds) to `sink`, in order within a partition.
///
/// Call it after the claim: nobody else writes any more then, and the end of each log is the end of the window's
/// past. Partitions are read together, beginning where their records reach `from_ms`, so that it takes time by the
/// window and not by what the topics hold. While Kafka does not answer it waits; dropping the future ends it.
pub async fn read_back(
    config: &Config,
    secrets: &Secrets,
    from_ms: i64,
    mut sink: impl FnMut(ReadBack<'_>) + Send + 'static,
    mut progress: impl FnMut(Progress<'_>) + Send + 'static,
) -> Result<Summary, StartError> {
    let (config, secrets) = (config.clone(), secrets.clone());
    blocking(move |cancel| {
        let reader = Reader::open(&config, &secrets)?;
        let topics: Vec<(Topic, String)> = TOPICS
            .into_iter()
            .filter_map(|topic| config.kafka.topics.name(topic).map(|name| (topic, name.to_owned())))
            .collect();
        let mut stretches = Vec::new();
        for (_, name) in &topics {
            let waiting = |(): &mut (), detail: &str| tracing::debug!(detail, "reading back waits for Kafka");
            stretches.extend(patiently(cancel, &mut (), |()| since(&reader, cancel, name, from_ms), waiting)?);
        }
        let total = stretches.iter().map(|stretch| stretch.end.abs_diff(stretch.start)).sum();
        let mut summary = Summary { records: 0, offsets: total, bytes: 0 };
        let each = |message: &BorrowedMessage<'_>| {
            let of = message.topic();
            let topic = topics.iter().find(|(_, name)| name == of);
            if let Some((topic, _)) = topic {
                summary.records += 1;
                summary.bytes += (message.key_len() + message.payload_len()) as u64;
                sink(from_headers(*topic, message));
            }
        };
        let pulse = |done, waiting_for: Option<&str>| progress(Progress { done, total, waiting_for });
        reader.read(&stretches, cancel, each, pulse)?;
        progress(Progress { done: total, total, waiting_for: None });
        Ok(summary)
    })
    .await
}

/// How long another writer's open transaction is waited for; then the start fails and names the command that finds it.
pub const OPEN_TRANSACTION_MAX: std::time::Duration = scan::OPEN_TRANSACTION_MAX;

/// The newest checkpoint of the relay `name`; nobody is fenced by asking.
///
/// Reads back from the end of the control topic. Compaction keeps the newest record of a key, so one is found unless
/// there never was any.
pub(super) fn newest(
    reader: &Reader<'_>,
    control: &str,
    name: &str,
    cancel: &Cancel,
) -> Result<Option<Newest>, AskError> {
    let ends = [reader.offsets(control, 1, Offset::Beginning)?, reader.offsets(control, 1, Offset::End)?].concat();
    let [Offset::Offset(low), Offset::Offset(high)] = ends[..] else {
        return Err(AskError::Away(format!("the ends of {control} are not known")));
    };
    let key = Checkpoint::key(name);
    let (mut end, mut step) = (high, CHECKPOINT_STEP);
    while end > low {
        let start = end.saturating_sub(step).max(low);
        let stretch = Stretch { topic: control.to_owned(), partition: 0, start, end };
        let mut found = None;
        let each = |message: &BorrowedMessage<'_>| {
            if message.key() == Some(key.as_bytes()) {
                let written_at_ms = message.timestamp().to_millis().unwrap_or_default();
                found = Some((message.payload().map(Checkpoint::parse), written_at_ms));
            }
        };
        reader.read(&[stretch], cancel, each, |_, _| ())?;
        match found {
            Some((Some(Ok(checkpoint)), written_at_ms)) => return Ok(Some(Newest { checkpoint, written_at_ms })),
            Some((Some(Err(error)), _)) => return Err(unreadable(control, &key, &error.to_string()).into()),
            Some((None, _)) => return Ok(None),
            None => (end, step) = (start, step.saturating_mul(2)),
        }
    }
    Ok(None)
}

fn unreadable(control: &str, key: &str, detail: &str) -> StartError {
    StartError::Settings(format!(
        "{control}: the newest record of key `{key}` is no checkpoint of this program ({detail}); \
         give this relay another `name` or another kafka.topics.control"
    ))
}

pub(super) fn since(reader: &Reader<'_>, cancel: &Cancel, topic: &str, from_ms: i64) -> Result<Vec<Stretch>, AskError> {
    let Some((partitions, _)) = reader.shape(topic, cancel)? else { return Ok(Vec::new()) };
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

fn from_headers<'m>(topic: Topic, message: &'m BorrowedMessage<'_>) -> ReadBack<'m> {
    let key = message.key().unwrap_or_default();
    let mut read = ReadBack {
        topic,
        key,
        event_id: (topic == Topic::DeadLetter).then_some(key),
        occurred_at: None,
        published_at_ms: message.timestamp().to_millis().unwrap_or_default(),
        stale: false,
        replay: false,
    };
    headers_of(message, |name, value| match name {
        "ce_id" => read.event_id = value,
        "ce_time" => read.occurred_at = value,
        "relay_stale" => read.stale = value == Some(b"true"),
        "relay_replay" => read.replay = true,
        _ => {}
    });
    read
}

/// Gives each header to `each`, in order.
///
/// The binding panics on a header whose name is not UTF-8, which a foreign writer can put into a topic: then the
/// headers before it count, and a warning names the record.
pub(super) fn headers_of<'m>(message: &'m BorrowedMessage<'_>, mut each: impl FnMut(&'m str, Option<&'m [u8]>)) {
    let Some(headers) = message.headers() else { return };
    let all = AssertUnwindSafe(|| headers.iter().for_each(|header| each(header.key, header.value)));
    if catch_unwind(all).is_err() {
        let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
        tracing::warn!(topic, partition, offset, "a record has a header whose name is not UTF-8");
    }
}

//! Follows one of our topics, for `tail` and `smoke`: committed records only, from a chosen point on, without end.

use super::blocking::{AskError, Cancel, CancelOnDrop};
use super::client::{self, Context};
use super::errors::{self, Class, StartError};
use super::recover::{headers_of, since};
use super::scan::{self, Reader, Shape};
use crate::config::{Config, Secrets};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Records read ahead of the caller. With librdkafka's own queue (4 MiB a partition) the bound on memory.
const AHEAD: usize = 64;
/// How often it is looked whether the topic has got more partitions.
const PARTITIONS_EVERY: Duration = Duration::from_secs(5);
/// Bound on that question; it is asked again.
const PARTITIONS_WITHIN: Duration = Duration::from_secs(1);
/// How soon the reading thread notices that nobody listens any more.
const NOTICE: Duration = Duration::from_millis(100);

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// With the oldest record.
    Beginning,
    /// With what is published from now on.
    End,
    /// With the first record published at this time or later, in Unix milliseconds.
    Time(i64),
}

/// A record as it is in Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumed {
    /// The topic's name.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// When it was published, in Unix milliseconds.
    pub published_at_ms: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its headers, in order.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Consumed {
    /// The value of the last header `name`.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_slice())
    }
}

/// The newest record of `key` that is committed in each partition of `topic`, a tombstone as well; the whole topic is read.
/// More than one partition has the key where the topic got more of them.
///
/// # Errors
///
/// When Kafka does not answer within seconds, or refuses.
pub async fn newest_of(
    config: &Config,
    secrets: &Secrets,
    topic: &str,
    key: &str,
) -> Result<Vec<Consumed>, StartError> {
    let config = config.clone();
    let secrets = secrets.clone();
    let topic = topic.to_owned();
    let key = key.to_owned();
    super::blocking::blocking(move |cancel| {
        let reader = Reader::open(&config, &secrets)?;
        let stretches = since(&reader, cancel, &topic, 0)?;
        let mut found = BTreeMap::new();
        let mut each = |message: &BorrowedMessage<'_>| {
            if message.key() == Some(key.as_bytes()) {
                found.insert(message.partition(), owned(message));
            }
        };
        for stretch in stretches {
            reader.read(&stretch, cancel, &mut each, |_, _| ())?;
        }
        Ok(found.into_values().collect())
    })
    .await
}

/// A topic being followed; dropping it ends that.
#[derive(Debug)]
pub struct Follow {
    records: mpsc::Receiver<Result<Consumed, StartError>>,
    _cancel: CancelOnDrop,
}

impl Follow {
    /// Follows the topic of this name. Returns once the starting point is fixed, so that nothing published after
    /// this call is missed.
    pub async fn start(config: &Config, secrets: &Secrets, topic: &str, from: StartAt) -> Result<Self, StartError> {
        let config = config.clone();
        let secrets = secrets.clone();
        let topic = topic.to_owned();
        let opened = super::blocking::blocking(move |cancel| {
            let reader = Reader::open(&config, &secrets)?;
            let Some(Shape { partitions, .. }) = reader.shape(&topic, cancel)? else {
                let text = format!("{topic} does not exist; create it: pepay-relay topics --create");
                return Err(StartError::Settings(text).into());
            };
            let at = match from {
                StartAt::Beginning => Offset::Beginning,
                StartAt::End => Offset::End,
                StartAt::Time(ms) => Offset::Offset(ms),
            };
            let mut starts = reader.offsets(&topic, partitions, at)?;
            if starts.contains(&Offset::End) {
                // Nothing is that young yet: begin where the log ends now.
                let ends = reader.offsets(&topic, partitions, Offset::End)?;
                for (start, end) in starts.iter_mut().zip(ends) {
                    if *start == Offset::End {
                        *start = end;
                    }
                }
            }
            let consumer = open(&config, &secrets, &topic, &starts)?;
            Ok((config, topic, consumer, partitions))
        });
        let (config, topic, consumer, partitions) = opened.await?;
        let cancel = Cancel::default();
        let guard = CancelOnDrop(cancel.clone());
        let (sender, records) = mpsc::channel(AHEAD);
        // Nobody asks how it ended, but the runtime waits for it when it is shut down: it must not outlive OpenSSL.
        drop(tokio::task::spawn_blocking(move || follow(&config, &topic, (&consumer, partitions), &cancel, &sender)));
        Ok(Self { records, _cancel: guard })
    }

    /// The next record. An error ends the following; `None` after it. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Consumed, StartError>> {
        self.records.recv().await
    }
}

fn open(config: &Config, secrets: &Secrets, topic: &str, starts: &[Offset]) -> Result<BaseConsumer<Context>, AskError> {
    let settings = client::consumer(config, secrets, "read_committed");
    let consumer = BaseConsumer::from_config_and_context(&settings, Context::of(secrets))
        .map_err(|error| StartError::Settings(format!("kafka.options: {error}")))?;
    scan::meet(&consumer, topic);
    let mut list = TopicPartitionList::new();
    let assigned = (0..)
        .zip(starts)
        .try_for_each(|(partition, start)| list.add_partition_offset(topic, partition, *start))
        .and_then(|()| consumer.assign(&list));
    assigned.map_err(|error| scan::trouble(config, &consumer, &error, topic))?;
    Ok(consumer)
}

/// Faults that pass are librdkafka's to repeat; it goes on where it was.
fn follow(
    config: &Config,
    topic: &str,
    (consumer, mut partitions): (&BaseConsumer<Context>, i32),
    cancel: &Cancel,
    sender: &mpsc::Sender<Result<Consumed, StartError>>,
) {
    let mut looked = Instant::now();
    while !cancel.is_set() {
        if looked.elapsed() >= PARTITIONS_EVERY {
            looked = Instant::now();
            partitions = with_added(consumer, topic, partitions);
        }
        let item = match consumer.poll(NOTICE) {
            None | Some(Err(KafkaError::PartitionEOF(_))) => continue,
            Some(Ok(message)) => Ok(owned(&message)),
            Some(Err(error)) => match error.rdkafka_error_code() {
                Some(Code::GroupAuthorizationFailed) => continue,
                Some(Code::Authentication) if consumer.context().awaits_token() => continue,
                Some(code) if !errors::is_denied(code) && errors::classify(code) != Class::Stop => continue,
                _ => Err(StartError::from(scan::trouble(config, consumer, &error, topic))),
            },
        };
        let last = item.is_err();
        if sender.blocking_send(item).is_err() || last {
            return;
        }
    }
}

/// Follows the partitions beyond `known` as well, from their beginning: nothing was published there before. How many are
/// followed then; a topic whose partitions cannot be had now is asked for again.
fn with_added(consumer: &BaseConsumer<Context>, topic: &str, known: i32) -> i32 {
    let Ok(metadata) = consumer.fetch_metadata(Some(topic), PARTITIONS_WITHIN) else { return known };
    let found = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    let found = i32::try_from(found).unwrap_or(i32::MAX);
    let mut added = TopicPartitionList::new();
    let listed = (known..found).try_for_each(|number| added.add_partition_offset(topic, number, Offset::Beginning));
    if found <= known || listed.and_then(|()| consumer.incremental_assign(&added)).is_err() {
        return known;
    }
    tracing::info!(topic, from = known, to = found, "following added partitions");
    found
}

fn owned(message: &BorrowedMessage<'_>) -> Consumed {
    let mut headers = Vec::new();
    headers_of(message, |name, value| headers.push((name.to_owned(), value.unwrap_or_default().to_vec())));
    Consumed {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        published_at_ms: message.timestamp().to_millis().unwrap_or_default(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers,
    }
}

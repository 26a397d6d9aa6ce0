//! Reads stretches of partitions to their very end, seeing only what is committed.
//!
//! The end is the *high watermark*: a reader that asks for committed records gets the last stable offset instead,
//! which another writer's open transaction can hold at 0. So a client that sees everything asks for the end, another
//! one reads only what is committed until its position is there, and an open transaction is waited for.

use super::blocking::{Aside, AskError, Cancel};
use super::client::{self, Context};
use super::errors::{self, Class, StartError};
use crate::config::{Config, Secrets};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

/// Bound on one question to a broker; it is asked again.
pub(super) const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// A slice of it, between which refused credentials are noticed.
const ASK_SLICE: Duration = Duration::from_millis(500);
/// How often a quiet reader looks at its positions.
const QUIET: Duration = Duration::from_millis(20);
/// While records flow, the clock and the rest are looked at once in this many: together they cost as much as a record.
const LOOK_EVERY: u32 = 256;
/// After this long without progress the reader asks what it waits for; doubled each time, up to [`STALL_MAX`].
const STALL_MIN: Duration = Duration::from_millis(500);
const STALL_MAX: Duration = Duration::from_secs(8);
/// Log lines and errors that a client may have queued before it is asked what went wrong.
const QUEUED_EVENTS: usize = 64;
/// A broker aborts a transaction after at most `transaction.max.timeout.ms` (15 minutes unless raised); one that is
/// open longer hangs, and only an operator can end it.
pub(super) const OPEN_TRANSACTION_MAX: Duration = Duration::from_secs(16 * 60);

/// Between the names of several topics: no name has it.
const TOPICS_BETWEEN: &str = ", ";

/// A stretch of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) topic: String,
    pub(super) partition: i32,
    /// First offset.
    pub(super) start: i64,
    /// One past the last offset.
    pub(super) end: i64,
}

/// What the brokers answer about a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// How many partitions it has.
    pub(super) partitions: i32,
    /// Replicas of the partition that has the fewest.
    pub(super) replicas: i32,
    /// Partitions that have no leader.
    pub(super) offline: Vec<i32>,
}

/// Two clients: one sees everything and knows where logs end, the other reads what is committed.
pub struct Reader {
    config: Config,
    secrets: Secrets,
    all: Aside<BaseConsumer<Context>>,
    committed: Aside<BaseConsumer<Context>>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Reader").finish_non_exhaustive()
    }
}

impl Reader {
    /// Creates both clients; nothing is asked yet.
    pub(super) fn open(config: &Config, secrets: &Secrets) -> Result<Self, StartError> {
        let open = |isolation| {
            let settings = client::reader(config, secrets, isolation);
            BaseConsumer::from_config_and_context(&settings, Context::of(secrets))
                .map(Aside::new)
                .map_err(|error| StartError::Settings(format!("kafka.options: {error}")))
        };
        let secrets = secrets.clone();
        Ok(Self { config: config.clone(), secrets, all: open("read_uncommitted")?, committed: open("read_committed")? })
    }

    /// This one, or one that is opened with these secrets where that one was opened with others.
    pub(super) fn with(self, secrets: &Secrets) -> Result<Self, StartError> {
        if self.secrets.is_same_for_kafka(secrets) { Ok(self) } else { Self::open(&self.config, secrets) }
    }

    /// The client that asks.
    pub(super) fn client(&self) -> &BaseConsumer<Context> {
        &self.all
    }

    /// The shape of a topic that was there before: one that the broker does not know is trouble that passes.
    pub(super) fn shape_of_known(&self, topic: &str, cancel: &Cancel) -> Result<Shape, AskError> {
        let shape = self.shape(topic, cancel)?;
        shape.ok_or_else(|| AskError::Away(format!("{topic} is not known to the broker, or was deleted")))
    }

    /// The shape of `topic`; `None` if the broker that was asked does not know it.
    pub(super) fn shape(&self, topic: &str, cancel: &Cancel) -> Result<Option<Shape>, AskError> {
        let began = Instant::now();
        let metadata = loop {
            cancel.check()?;
            match self.all.fetch_metadata(Some(topic), ASK_SLICE) {
                Ok(metadata) => break metadata,
                Err(error) => match trouble(&self.config, &self.all, &error, topic) {
                    AskError::Away(_) if began.elapsed() < ASK_TIMEOUT => {}
                    trouble => return Err(trouble),
                },
            }
        };
        let Some(found) = metadata.topics().first() else { return Ok(None) };
        match found.error().map(Code::from) {
            None => {
                let partitions = found.partitions();
                let replicas = partitions.iter().map(|partition| partition.replicas().len()).min();
                let offline = partitions.iter().filter(|partition| partition.leader() < 0);
                let offline = offline.map(|partition| partition.id()).collect();
                let count = |count| i32::try_from(count).unwrap_or(i32::MAX);
                Ok(Some(Shape { partitions: count(partitions.len()), replicas: count(replicas.unwrap_or(0)), offline }))
            }
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => Ok(None),
            Some(code) => Err(self.trouble(&self.all, &KafkaError::MetadataFetch(code), topic)),
        }
    }

    /// The offset at `at` (a time in Unix milliseconds, or a logical offset) of each partition of `topic`; a time
    /// after the last record gives [`Offset::End`].
    pub(super) fn offsets(&self, topic: &str, partitions: i32, at: Offset) -> Result<Vec<Offset>, AskError> {
        offsets(&self.all, topic, 0..partitions, at).map_err(|error| self.trouble(&self.all, &error, topic))
    }

    /// The same of one partition.
    pub(super) fn offset(&self, topic: &str, partition: i32, at: Offset) -> Result<Offset, AskError> {
        let found = offsets(&self.all, topic, partition..partition + 1, at);
        let found = found.map_err(|error| self.trouble(&self.all, &error, topic))?;
        found.first().copied().ok_or_else(|| AskError::Away(format!("{topic}[{partition}] is not known")))
    }

    /// Where a partition ends for readers of what is committed: an open transaction holds it back (KIP-98).
    pub(super) fn stable_end(&self, topic: &str, partition: i32) -> Result<Offset, AskError> {
        let found = offsets(&self.committed, topic, partition..partition + 1, Offset::End);
        let found = found.map_err(|error| self.trouble(&self.committed, &error, topic))?;
        found.first().copied().ok_or_else(|| AskError::Away(format!("{topic}[{partition}] is not known")))
    }

    /// Reads the stretches, giving each committed record in them to `each`, in order within its partition.
    ///
    /// `pulse` gets how many offsets are done, and the topic and partition whose open transaction is waited for.
    pub(super) fn read(
        &self,
        stretches: &[Stretch],
        cancel: &Cancel,
        mut each: impl FnMut(&BorrowedMessage<'_>),
        mut pulse: impl FnMut(u64, Option<&str>),
    ) -> Result<(), AskError> {
        let mut remaining = Remaining::new(stretches);
        let topics: BTreeSet<&str> = stretches.iter().map(|stretch| stretch.topic.as_str()).collect();
        topics.into_iter().for_each(|topic| meet(&self.committed, topic));
        self.assign(&remaining)?;
        let mut quiet_since = Instant::now();
        let mut stall = STALL_MIN;
        let mut waiting_since = None;
        let mut unlooked = 0;
        while !remaining.is_done() {
            let progressed = match self.committed.poll(QUIET) {
                Some(Ok(message)) => {
                    if remaining.saw(message.topic(), message.partition(), message.offset()) {
                        each(&message);
                    }
                    unlooked += 1;
                    if unlooked < LOOK_EVERY && remaining.alone.is_none() {
                        continue;
                    }
                    true
                }
                Some(Err(KafkaError::PartitionEOF(_))) => remaining.reached_end(),
                Some(Err(error)) => {
                    self.tolerate(&error, &remaining)?;
                    false
                }
                None => false,
            };
            cancel.check()?;
            let flowed = std::mem::take(&mut unlooked) > 0;
            let progressed = progressed || self.look_at_positions(&mut remaining)? || flowed;
            if remaining.has_to_assign() {
                self.assign(&remaining)?;
            }
            if progressed {
                quiet_since = Instant::now();
                stall = STALL_MIN;
                waiting_since = None;
                pulse(remaining.done(), None);
            } else if quiet_since.elapsed() >= stall {
                let waiting_for = self.unstick(&mut remaining)?;
                pulse(remaining.done(), waiting_for.as_deref());
                if let Some(place) = waiting_for {
                    let since = *waiting_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > OPEN_TRANSACTION_MAX {
                        return Err(hanging(&place, &self.config).into());
                    }
                }
                quiet_since = Instant::now();
                stall = (stall * 2).min(STALL_MAX);
            }
        }
        Ok(())
    }

    fn assign(&self, remaining: &Remaining) -> Result<(), AskError> {
        let list = remaining.positions().map_err(|error| self.trouble(&self.committed, &error, &remaining.topics()))?;
        self.committed.assign(&list).map_err(|error| self.trouble(&self.committed, &error, &remaining.topics()))
    }

    /// Positions pass markers and aborted records, which no message shows. Looked at only when records pause.
    fn look_at_positions(&self, remaining: &mut Remaining) -> Result<bool, AskError> {
        let list =
            self.committed.position().map_err(|error| self.trouble(&self.committed, &error, &remaining.topics()))?;
        let mut progressed = false;
        for element in list.elements() {
            if let Offset::Offset(position) = element.offset() {
                progressed |= remaining.at(element.topic(), element.partition(), position);
            }
        }
        Ok(progressed)
    }

    /// Nothing moves: either an open transaction is in the way, whose place is given, or what is left holds nothing
    /// to read (compaction keeps an empty batch at the end of a log). The latter is made sure of by assigning one
    /// place again and alone: everything in it is stable by now, so that its end of partition is the end.
    fn unstick(&self, remaining: &mut Remaining) -> Result<Option<String>, AskError> {
        for (topic, partition, place) in remaining.places() {
            let Ok(stable) = offsets(&self.committed, topic, partition..partition + 1, Offset::End) else {
                return Ok(None);
            };
            if let Some(Offset::Offset(stable)) = stable.first()
                && *stable < place.end
            {
                return Ok(Some(format!("{topic}[{partition}]")));
            }
        }
        remaining.read_alone();
        self.assign(remaining)?;
        Ok(None)
    }

    /// Passing faults are librdkafka's to repeat; refusals are not.
    fn tolerate(&self, error: &KafkaError, remaining: &Remaining) -> Result<(), AskError> {
        // librdkafka names no topic here.
        let topics = remaining.topics();
        match error.rdkafka_error_code() {
            // The coordinator of a group that we never use.
            Some(Code::GroupAuthorizationFailed) => Ok(()),
            Some(Code::Authentication) if self.committed.context().awaits_token() => Ok(()),
            Some(code) if errors::is_denied(code) => Err(self.trouble(&self.committed, error, &topics)),
            _ if errors::sort(error) == Class::Stop => Err(self.trouble(&self.committed, error, &topics)),
            _ => Ok(()),
        }
    }

    fn trouble(&self, consumer: &BaseConsumer<Context>, error: &KafkaError, topic: &str) -> AskError {
        trouble(&self.config, consumer, error, topic)
    }
}

/// Has a reading client know the leaders of a topic before it is assigned partitions of it: without, it asks for them only after
/// 500 ms. What is wrong otherwise, the reading meets as well.
pub(super) fn meet(consumer: &BaseConsumer<Context>, topic: &str) {
    drop(consumer.fetch_metadata(Some(topic), ASK_SLICE));
}

/// What an error of a reading client means, which was about one topic or several.
pub(super) fn trouble(config: &Config, consumer: &BaseConsumer<Context>, error: &KafkaError, topic: &str) -> AskError {
    // The client's own queue holds what it received meanwhile, such as refused credentials.
    for _ in 0..QUEUED_EVENTS {
        drop(consumer.poll(Duration::ZERO));
    }
    let denied = consumer.context().said().denied.clone();
    if let Some(reason) = denied {
        return client::credentials_refused(config, consumer.context(), &reason).into();
    }
    match error.rdkafka_error_code() {
        Some(Code::TopicAuthorizationFailed) => {
            let named = topic.replace(TOPICS_BETWEEN, "` or `");
            let listed = topic.replace(TOPICS_BETWEEN, " --topic ");
            let acl = format!("--operation Read --operation Describe --topic {listed}");
            client::permission_lacking(config, consumer.context(), &format!("read the topic `{named}`"), &acl).into()
        }
        Some(Code::Authentication) if consumer.context().awaits_token() => {
            AskError::Away(consumer.context().away(&error.to_string()))
        }
        Some(code) if errors::is_denied(code) => {
            client::credentials_refused(config, consumer.context(), &error.to_string()).into()
        }
        _ if errors::sort(error) == Class::Stop => StartError::Failed(format!("reading {topic}: {error}")).into(),
        _ => AskError::Away(consumer.context().away(&error.to_string())),
    }
}

fn hanging(place: &str, config: &Config) -> StartError {
    StartError::Failed(format!(
        "a transaction of another writer on {place} has been open for {} minutes; find and abort it: \
         kafka-transactions --bootstrap-server {} find-hanging",
        OPEN_TRANSACTION_MAX.as_secs() / 60,
        config.kafka.bootstrap_servers
    ))
}

fn offsets(
    consumer: &BaseConsumer<Context>,
    topic: &str,
    partitions: std::ops::Range<i32>,
    at: Offset,
) -> Result<Vec<Offset>, KafkaError> {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition_offset(topic, partition, at)?;
    }
    let found = consumer.offsets_for_times(list, ASK_TIMEOUT)?;
    found.elements().iter().map(|element| element.error().map(|()| element.offset())).collect()
}

/// What is still to be read. Pure, so that its corner cases are tested without a broker.
#[derive(Debug, Default)]
struct Remaining {
    /// By topic and partition; no topic without a place.
    places: BTreeMap<String, BTreeMap<i32, Offsets>>,
    /// The only place that is read now: librdkafka names no topic when a partition ends.
    alone: Option<(String, i32)>,
    done: u64,
}

#[derive(Debug)]
struct Offsets {
    next: i64,
    end: i64,
}

impl Remaining {
    fn new(stretches: &[Stretch]) -> Self {
        let mut remaining = Self::default();
        for stretch in stretches.iter().filter(|stretch| stretch.start < stretch.end) {
            let place = Offsets { next: stretch.start, end: stretch.end };
            remaining.places.entry(stretch.topic.clone()).or_default().insert(stretch.partition, place);
        }
        remaining
    }

    /// The topics that are still to be read.
    fn topics(&self) -> String {
        self.places.keys().map(String::as_str).collect::<Vec<_>>().join(TOPICS_BETWEEN)
    }

    fn is_done(&self) -> bool {
        self.places.is_empty()
    }

    /// Offsets that are done.
    fn done(&self) -> u64 {
        self.done
    }

    /// Each place, in order.
    fn places(&self) -> impl Iterator<Item = (&str, i32, &Offsets)> {
        let topics = self.places.iter();
        topics.flat_map(|(topic, places)| places.iter().map(move |(number, place)| (topic.as_str(), *number, place)))
    }

    /// Where to read on: everywhere, unless one place is read alone.
    fn positions(&self) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::new();
        for (topic, partition, place) in self.places() {
            let wanted =
                self.alone.as_ref().is_none_or(|(only, number)| (only.as_str(), *number) == (topic, partition));
            if wanted {
                list.add_partition_offset(topic, partition, Offset::Offset(place.next))?;
            }
        }
        Ok(list)
    }

    /// A record arrived; whether it belongs to a stretch.
    fn saw(&mut self, topic: &str, partition: i32, offset: i64) -> bool {
        let place = self.places.get(topic).and_then(|places| places.get(&partition));
        let wanted = place.is_some_and(|place| (place.next..place.end).contains(&offset));
        self.at(topic, partition, offset.saturating_add(1));
        wanted
    }

    /// The reader is at `position`; whether that is progress.
    fn at(&mut self, topic: &str, partition: i32, position: i64) -> bool {
        let Some(places) = self.places.get_mut(topic) else { return false };
        let Some(place) = places.get_mut(&partition) else { return false };
        let position = position.min(place.end);
        if position <= place.next {
            return false;
        }
        self.done += position.abs_diff(place.next);
        place.next = position;
        if place.next >= place.end {
            places.remove(&partition);
            if places.is_empty() {
                self.places.remove(topic);
            }
        }
        true
    }

    /// From now on only the first place is read, and its end of partition is its end.
    fn read_alone(&mut self) {
        let first = self.places().next().map(|(topic, partition, _)| (topic.to_owned(), partition));
        self.alone = first;
    }

    /// The place that was read alone is done, so that the others have to be assigned again.
    fn has_to_assign(&mut self) -> bool {
        let places = &self.places;
        let over = |(topic, partition): &(String, i32)| {
            !places.get(topic).is_some_and(|places| places.contains_key(partition))
        };
        self.alone.take_if(|alone| over(alone)).is_some()
    }

    /// Some topic's partition has nothing more now; whether that ends a place.
    fn reached_end(&mut self) -> bool {
        let Some((topic, partition)) = self.alone.clone() else { return false };
        let end = self.places.get(&topic).and_then(|places| places.get(&partition)).map(|place| place.end);
        end.is_some_and(|end| self.at(&topic, partition, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretch(topic: &str, partition: i32, start: i64, end: i64) -> Stretch {
        Stretch { topic: topic.to_owned(), partition, start, end }
    }

    #[test]
    fn empty_stretches_are_done_at_once() {
        assert!(Remaining::new(&[stretch("a", 0, 5, 5), stretch("a", 1, 0, 0)]).is_done());
        assert!(Remaining::new(&[]).is_done());
    }

    #[test]
    fn only_records_of_the_stretch_count() {
        let mut remaining = Remaining::new(&[stretch("a", 0, 5, 8)]);
        assert!(!remaining.saw("a", 0, 4) && !remaining.saw("a", 1, 5) && !remaining.saw("b", 0, 5));
        assert!(remaining.saw("a", 0, 5));
        assert_eq!((remaining.done(), remaining.is_done()), (1, false));
        // Records 6 and 7 were compacted away, and the next one lies beyond the end.
        assert!(!remaining.saw("a", 0, 9));
        assert_eq!((remaining.done(), remaining.is_done()), (3, true));
    }

    #[test]
    fn a_position_passes_markers_and_aborted_records() {
        let mut remaining = Remaining::new(&[stretch("a", 0, 0, 4)]);
        assert!(remaining.at("a", 0, 2) && !remaining.at("a", 0, 2) && !remaining.at("a", 0, -1001));
        assert!(remaining.at("a", 0, 4));
        assert_eq!((remaining.done(), remaining.is_done()), (4, true));
    }

    #[test]
    fn an_end_of_partition_is_the_end_only_of_a_place_that_is_read_alone() {
        let mut remaining = Remaining::new(&[stretch("a", 0, 0, 4), stretch("b", 0, 1, 4)]);
        assert!(!remaining.reached_end(), "an open transaction may stand there");
        remaining.read_alone();
        assert_eq!(remaining.positions().map(|list| list.count()), Ok(1));
        assert!(!remaining.has_to_assign());
        assert!(remaining.reached_end() && remaining.has_to_assign() && !remaining.has_to_assign());
        assert_eq!(remaining.positions().map(|list| list.count()), Ok(1));
        assert!(!remaining.reached_end(), "b is read, but not known to be stable");
        remaining.read_alone();
        assert!(remaining.reached_end() && remaining.is_done());
        assert_eq!(remaining.done(), 7);
    }
}

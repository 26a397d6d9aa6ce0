//! Reads a stretch of a partition to its very end, seeing only what is committed.
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

    /// Reads a stretch, giving each committed record in it to `each`, in order.
    ///
    /// `pulse` gets how many offsets are done, and the topic and partition whose open transaction is waited for.
    pub(super) fn read(
        &self,
        stretch: &Stretch,
        cancel: &Cancel,
        mut each: impl FnMut(&BorrowedMessage<'_>),
        mut pulse: impl FnMut(u64, Option<&str>),
    ) -> Result<(), AskError> {
        let mut place = Place::at_start_of(stretch);
        if place.is_done() {
            return Ok(());
        }
        meet(&self.committed, &stretch.topic);
        self.assign(stretch, &place)?;
        let mut quiet_since = Instant::now();
        let mut stall = STALL_MIN;
        let mut waiting_since = None;
        let mut unlooked = 0;
        while !place.is_done() {
            let progressed = match self.committed.poll(QUIET) {
                Some(Ok(message)) => {
                    if place.saw(message.offset()) {
                        each(&message);
                    }
                    unlooked += 1;
                    if unlooked < LOOK_EVERY {
                        continue;
                    }
                    true
                }
                Some(Err(KafkaError::PartitionEOF(_))) => place.reached_end(),
                Some(Err(error)) => {
                    self.tolerate(&error, stretch)?;
                    false
                }
                None => false,
            };
            cancel.check()?;
            let flowed = std::mem::take(&mut unlooked) > 0;
            let progressed = progressed || self.look_at_position(stretch, &mut place)? || flowed;
            if progressed {
                quiet_since = Instant::now();
                stall = STALL_MIN;
                waiting_since = None;
                pulse(place.done(), None);
            } else if quiet_since.elapsed() >= stall {
                let waiting_for = self.unstick(stretch, &mut place)?;
                pulse(place.done(), waiting_for.as_deref());
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
        // Else it would go on asking for what comes next.
        self.committed.unassign().map_err(|error| self.trouble(&self.committed, &error, &stretch.topic))
    }

    /// Reads on from the place.
    fn assign(&self, stretch: &Stretch, place: &Place) -> Result<(), AskError> {
        let mut list = TopicPartitionList::new();
        let assigned = list.add_partition_offset(&stretch.topic, stretch.partition, Offset::Offset(place.next));
        let assigned = assigned.and_then(|()| self.committed.assign(&list));
        assigned.map_err(|error| self.trouble(&self.committed, &error, &stretch.topic))
    }

    /// Positions pass markers and aborted records, which no message shows. Looked at only when records pause.
    fn look_at_position(&self, stretch: &Stretch, place: &mut Place) -> Result<bool, AskError> {
        let list = self.committed.position().map_err(|error| self.trouble(&self.committed, &error, &stretch.topic))?;
        let position = list.elements().first().map(|element| element.offset());
        Ok(matches!(position, Some(Offset::Offset(position)) if place.at(position)))
    }

    /// Nothing moves: either an open transaction is in the way, whose place is given, or what is left holds nothing
    /// to read (compaction keeps an empty batch at the end of a log). The latter is made sure of by assigning the
    /// partition again: everything in it is stable by now, so that its end of partition is the end.
    fn unstick(&self, stretch: &Stretch, place: &mut Place) -> Result<Option<String>, AskError> {
        let Stretch { topic, partition, end, .. } = stretch;
        let Ok(stable) = offsets(&self.committed, topic, *partition..partition + 1, Offset::End) else {
            return Ok(None);
        };
        if matches!(stable.first(), Some(Offset::Offset(stable)) if stable < end) {
            return Ok(Some(format!("{topic}[{partition}]")));
        }
        place.is_stable = true;
        self.assign(stretch, place)?;
        Ok(None)
    }

    /// Passing faults are librdkafka's to repeat; refusals are not.
    fn tolerate(&self, error: &KafkaError, stretch: &Stretch) -> Result<(), AskError> {
        match error.rdkafka_error_code() {
            // The coordinator of a group that we never use.
            Some(Code::GroupAuthorizationFailed) => Ok(()),
            Some(Code::Authentication) if self.committed.context().awaits_token() => Ok(()),
            Some(code) if errors::is_denied(code) => Err(self.trouble(&self.committed, error, &stretch.topic)),
            _ if errors::sort(error) == Class::Stop => Err(self.trouble(&self.committed, error, &stretch.topic)),
            _ => Ok(()),
        }
    }

    fn trouble(&self, consumer: &BaseConsumer<Context>, error: &KafkaError, topic: &str) -> AskError {
        trouble(&self.config, consumer, error, topic)
    }
}

/// Has a reading client learn the leaders of a topic. Before it is assigned partitions of it: without, it asks for them only after
/// 500 ms. And after an answer that there are none. What is wrong otherwise, the reading meets as well.
pub(super) fn meet(consumer: &BaseConsumer<Context>, topic: &str) {
    drop(consumer.fetch_metadata(Some(topic), ASK_SLICE));
}

/// What an error of a reading client means, which was about a topic.
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
            let acl = format!("--operation Read --operation Describe --topic {topic}");
            client::permission_lacking(config, consumer.context(), &format!("read the topic `{topic}`"), &acl).into()
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

/// An answer that a partition has no leader, as a broker gives while it stops, is believed until the client asks about the topic
/// again, which it does on its own only for what it reads (`rd_kafka_topic_partition_list_get_leaders`, rdkafka_partition.c).
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
    let found = consumer.offsets_for_times(list, ASK_TIMEOUT).and_then(|found| {
        found.elements().iter().map(|element| element.error().map(|()| element.offset())).collect::<Result<_, _>>()
    });
    found.inspect_err(|_| meet(consumer, topic))
}

/// How far a stretch is read. Pure, so that its corner cases are tested without a broker.
#[derive(Debug)]
struct Place {
    start: i64,
    next: i64,
    end: i64,
    /// No transaction is open in the stretch, and it was assigned after that was known: an end of the partition is its end.
    is_stable: bool,
}

impl Place {
    fn at_start_of(stretch: &Stretch) -> Self {
        Self { start: stretch.start, next: stretch.start, end: stretch.end, is_stable: false }
    }

    fn is_done(&self) -> bool {
        self.next >= self.end
    }

    /// Offsets that are done.
    fn done(&self) -> u64 {
        self.next.abs_diff(self.start)
    }

    /// A record arrived; whether it belongs to the stretch.
    fn saw(&mut self, offset: i64) -> bool {
        let wanted = (self.next..self.end).contains(&offset);
        self.at(offset.saturating_add(1));
        wanted
    }

    /// The reader is at `position`; whether that is progress.
    fn at(&mut self, position: i64) -> bool {
        let progressed = position > self.next && !self.is_done();
        if progressed {
            self.next = position.min(self.end);
        }
        progressed
    }

    /// The partition has nothing more now; whether that ends the stretch.
    fn reached_end(&mut self) -> bool {
        self.is_stable && self.at(self.end)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]

    use super::*;
    use crate::provider::Environment;
    use rdkafka::mocking::MockCluster;

    /// As a broker that stops answers about its partitions, and one that has started.
    #[test]
    fn a_leader_that_was_missing_is_found_once_there_is_one() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("topic", 1, 1).unwrap();
        let config = Config::minimal(Environment::Devnet, &cluster.bootstrap_servers());
        let reader = Reader::open(&config, &Secrets::default()).unwrap();
        let end = || reader.offset("topic", 0, Offset::End);
        cluster.partition_leader("topic", 0, None).unwrap();
        meet(reader.client(), "topic");
        assert!(matches!(end(), Err(AskError::Away(_))));
        cluster.partition_leader("topic", 0, Some(1)).unwrap();
        let asked_again = [(); 3].into_iter().find_map(|()| end().ok());
        assert_eq!(asked_again, Some(Offset::Offset(0)));
    }

    fn place(start: i64, end: i64) -> Place {
        Place::at_start_of(&Stretch { topic: "a".to_owned(), partition: 0, start, end })
    }

    #[test]
    fn an_empty_stretch_is_done_at_once() {
        assert!(place(5, 5).is_done() && place(0, 0).is_done() && place(6, 5).is_done());
    }

    #[test]
    fn only_records_of_the_stretch_count() {
        let mut place = place(5, 8);
        assert!(!place.saw(4) && place.saw(5) && !place.saw(5));
        assert_eq!((place.done(), place.is_done()), (1, false));
        // Records 6 and 7 were compacted away, and the next one lies beyond the end.
        assert!(!place.saw(9));
        assert_eq!((place.done(), place.is_done()), (3, true));
    }

    #[test]
    fn a_position_passes_markers_and_aborted_records() {
        let mut place = place(0, 4);
        assert!(place.at(2) && !place.at(2) && !place.at(-1001));
        assert!(place.at(4));
        assert_eq!((place.done(), place.is_done()), (4, true));
    }

    #[test]
    fn an_end_of_partition_is_the_end_only_where_no_transaction_is_open() {
        let mut place = place(1, 4);
        assert!(!place.reached_end(), "an open transaction may be in it");
        place.is_stable = true;
        assert!(place.reached_end() && place.is_done());
        assert_eq!(place.done(), 3);
    }
}

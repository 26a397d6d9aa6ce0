//! A consumer of committed records that shows each of them to the oracle, through every death of the broker.

use crate::judged::{Ends, Record};
use crate::oracle::Oracle;
use pepay_relay::config::Config;
use pepay_relay::labels::Topic;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::{BTreeSet, HashMap};
use std::sync::mpsc::{self, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// What a consumer of the relay reads.
const TOPICS: [Topic; 4] = [Topic::Orders, Topic::OrdersLatest, Topic::Invoices, Topic::DeadLetter];
/// What a reader sees (`isolation.level`): what is committed, or everything that is written.
pub const COMMITTED: &str = "read_committed";
pub const ALL: &str = "read_uncommitted";
/// How long a reader waits for one partition before it looks at the others.
const PAUSE: Duration = Duration::from_millis(20);
/// After this long without a record it reads on by new consumers: one that is assigned a partition sometimes stops when a broker is
/// restarted (confluentinc/librdkafka#5153).
const SILENT: Duration = Duration::from_secs(30);
/// Reading everything once more; a second takes some ten thousand records.
const READ_MAX: Duration = Duration::from_secs(300);

/// Reads until it is dropped.
pub struct Reader {
    config: Config,
    oracle: Arc<Mutex<Oracle>>,
    changed: watch::Receiver<u64>,
    /// How often it read on by new consumers since nothing came.
    renewed: u64,
    /// Without a place to wait in: what was sent has been taken.
    sources: Option<mpsc::SyncSender<Option<Source>>>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Begins at the beginning; the topics must be there.
    pub fn start(config: &Config) -> Self {
        let oracle = Arc::new(Mutex::new(Oracle::default()));
        let (sender, changed) = watch::channel(0);
        let (sources, next) = mpsc::sync_channel::<Option<Source>>(0);
        let judging = Arc::clone(&oracle);
        let thread = std::thread::spawn(move || {
            let mut source: Option<Source> = None;
            loop {
                let reading = if source.is_some() { next.try_recv() } else { next.recv().map_err(Into::into) };
                match reading {
                    Ok(reading) => source = reading,
                    Err(TryRecvError::Disconnected) => return,
                    Err(TryRecvError::Empty) => {}
                }
                match source.as_mut().and_then(Source::next) {
                    Some(Read::Record(record)) => lock(&judging).read(record),
                    Some(Read::Trouble(what)) => lock(&judging).complain(what),
                    Some(Read::End(_)) | None => continue,
                }
                sender.send_modify(|turn| *turn += 1);
            }
        });
        let reader =
            Self { config: config.clone(), oracle, changed, renewed: 0, sources: Some(sources), thread: Some(thread) };
        reader.go_on();
        reader
    }

    /// Reads no more, until it is asked to go on. Its consumers are gone when this returns.
    pub fn pause(&self) {
        self.read_from(None);
        // It is taken once the consumer of before is gone.
        self.read_from(None);
    }

    /// Reads on behind the last record that the oracle knows of each partition, also of those that are new.
    pub fn go_on(&self) {
        self.pause();
        let ends = self.oracle().ends();
        self.read_from(Some(Source::new(&self.config, COMMITTED, &TOPICS, &ends)));
    }

    fn renew(&mut self) {
        eprintln!("nothing was read for {} s: new consumers read on", SILENT.as_secs());
        self.renewed += 1;
        tokio::task::block_in_place(|| self.go_on());
    }

    /// How often it read on by new consumers since nothing came.
    pub fn renewed(&self) -> u64 {
        self.renewed
    }

    fn read_from(&self, source: Option<Source>) {
        self.sources.as_ref().expect("reading").send(source).expect("a thread");
    }

    pub fn oracle(&self) -> MutexGuard<'_, Oracle> {
        lock(&self.oracle)
    }

    /// Waits until `holds`; false when it does not by then.
    pub async fn until(&mut self, deadline: tokio::time::Instant, holds: impl Fn(&Oracle) -> bool) -> bool {
        loop {
            // Before the look: what is read during it is a change that is still to come.
            self.changed.borrow_and_update();
            if holds(&self.oracle()) {
                return true;
            }
            let silent = tokio::time::Instant::now() + SILENT;
            match tokio::time::timeout_at(silent.min(deadline), self.changed.changed()).await {
                Ok(Ok(())) => {}
                Err(_) if silent < deadline => self.renew(),
                _ => return false,
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        drop(self.sources.take());
        if let Some(thread) = self.thread.take() {
            // It may have failed, which the test has noticed by what it no longer read.
            let _ = thread.join();
        }
    }
}

/// Shows `oracle` everything that is committed by now and that it does not know yet, by consumers of its own.
pub fn read_on(config: &Config, oracle: &mut Oracle) {
    read_to_end(config, COMMITTED, &oracle.ends(), |read| match read {
        Ok(record) => oracle.read(record),
        Err(what) => oracle.complain(what),
    });
}

/// The records of transactions that are open now.
pub fn open_records(config: &Config) -> Vec<Record> {
    let stable = offsets(config, Offset::End, COMMITTED);
    let mut open = Vec::new();
    read_to_end(config, ALL, &stable, |read| open.push(read.expect("readable")));
    open
}

/// Gives each record from these places on, or what is wrong.
fn read_to_end(config: &Config, isolation: &str, from: &Ends, mut each: impl FnMut(Result<Record, String>)) {
    let began = Instant::now();
    // One at a time: the end of a partition is reported without its topic.
    for topic in TOPICS {
        let mut source = Source::new(config, isolation, &[topic], from);
        let mut waiting: BTreeSet<i32> = known(config, &[topic]).into_iter().map(|(_, partition)| partition).collect();
        while !waiting.is_empty() {
            assert!(began.elapsed() < READ_MAX, "{topic:?} cannot be read to its end: {waiting:?} are missing");
            match source.next() {
                Some(Read::Record(record)) => each(Ok(record)),
                Some(Read::Trouble(what)) => each(Err(what)),
                Some(Read::End(partition)) => drop(waiting.remove(&partition)),
                None => {}
            }
        }
    }
}

fn lock(oracle: &Mutex<Oracle>) -> MutexGuard<'_, Oracle> {
    oracle.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the partitions of every topic begin ([`Offset::Beginning`]) or end ([`Offset::End`]) for a reader of this isolation.
pub fn offsets(config: &Config, at: Offset, isolation: &str) -> Ends {
    let began = Instant::now();
    loop {
        let consumer: BaseConsumer = client(config).set("isolation.level", isolation).create().expect("a client");
        let mut list = TopicPartitionList::new();
        let known = partitions(&consumer, config, &TOPICS);
        for (topic, partition) in &known {
            list.add_partition_offset(name(config, *topic), *partition, at).expect("an offset");
        }
        // A broker that has just come back leads its partitions a moment later, or is of an epoch before the one that it
        // answered first.
        let found = consumer.offsets_for_times(list, READ_MAX);
        let offset = |topic, partition| {
            let found = found.as_ref().ok()?.find_partition(name(config, topic), partition)?.offset();
            if let Offset::Offset(offset) = found { Some(((topic, partition), offset)) } else { None }
        };
        if let Some(ends) = known.iter().map(|(topic, partition)| offset(*topic, *partition)).collect() {
            return ends;
        }
        assert!(began.elapsed() < READ_MAX, "the partitions are led: {found:?}");
    }
}

fn name(config: &Config, topic: Topic) -> &str {
    config.kafka.topics.name(topic).expect("turned on")
}

fn client(config: &Config) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &config.kafka.bootstrap_servers);
    client.set("reconnect.backoff.max.ms", "100").set("log_level", "0");
    client
}

/// The partitions of these topics.
fn partitions(consumer: &BaseConsumer, config: &Config, topics: &[Topic]) -> BTreeSet<(Topic, i32)> {
    let mut found = BTreeSet::new();
    for topic in topics {
        let metadata = consumer.fetch_metadata(Some(name(config, *topic)), READ_MAX).expect("metadata");
        let partitions = metadata.topics()[0].partitions();
        assert!(!partitions.is_empty(), "{topic:?} exists");
        found.extend(partitions.iter().map(|partition| (*topic, partition.id())));
    }
    found
}

fn known(config: &Config, topics: &[Topic]) -> BTreeSet<(Topic, i32)> {
    partitions(&client(config).create().expect("a client"), config, topics)
}

enum Read {
    Record(Record),
    /// The end of a partition, for now.
    End(i32),
    /// Records cannot be read any more.
    Trouble(String),
}

/// A consumer for each partition: one that fetches several crashes where a broker that is coming back answers that it does not
/// lead them and knows the leaders of some alone (confluentinc/librdkafka#5280).
struct Source {
    consumers: Vec<BaseConsumer>,
    /// The one that is asked next.
    turn: usize,
    topics: HashMap<String, Topic>,
    /// The names of the accounts, where they have any.
    accounts: Vec<String>,
}

impl Source {
    /// At these offsets, or else at the beginning.
    fn new(config: &Config, isolation: &str, topics: &[Topic], from: &Ends) -> Self {
        let mut settings = client(config);
        settings
            .set("group.id", "nobody")
            .set("isolation.level", isolation)
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            // An offset that is gone is a finding, and no reason to begin again.
            .set("auto.offset.reset", "error")
            .set("fetch.queue.backoff.ms", "1")
            .set("fetch.wait.max.ms", "50");
        let consumer = |(topic, partition)| {
            let consumer: BaseConsumer = settings.create().expect("a client");
            let offset = from.get(&(topic, partition)).map_or(Offset::Beginning, |offset| Offset::Offset(*offset));
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(name(config, topic), partition, offset).expect("an offset");
            consumer.assign(&list).expect("assigned");
            consumer
        };
        let consumers = known(config, topics).into_iter().map(consumer).collect();
        let topics = topics.iter().map(|topic| (name(config, *topic).to_owned(), *topic)).collect();
        let accounts = config.accounts.iter().map(|account| account.name.clone()).collect();
        Self { consumers, turn: 0, topics, accounts }
    }

    fn next(&mut self) -> Option<Read> {
        let found = self.consumers.iter().cycle().skip(self.turn).take(self.consumers.len()).enumerate();
        let found =
            found.map(|(place, consumer)| (place, consumer.poll(Duration::ZERO))).find(|(_, read)| read.is_some());
        let Some((place, Some(read))) = found else {
            // What another one has meanwhile is found with the next look.
            self.turn += 1;
            return self.read(self.consumers[self.turn % self.consumers.len()].poll(PAUSE)?);
        };
        self.turn = (self.turn + place) % self.consumers.len();
        self.read(read)
    }

    fn read(&self, read: Result<BorrowedMessage<'_>, KafkaError>) -> Option<Read> {
        let message = match read {
            Ok(message) => message,
            Err(KafkaError::PartitionEOF(partition)) => return Some(Read::End(partition)),
            Err(KafkaError::MessageConsumption(code @ RDKafkaErrorCode::AutoOffsetReset)) => {
                return Some(Read::Trouble(code.to_string()));
            }
            Err(KafkaError::MessageConsumptionFatal(code)) => return Some(Read::Trouble(code.to_string())),
            // The broker is away.
            Err(_) => return None,
        };
        Some(Read::Record(record(self.topics[message.topic()], &message, &self.accounts)))
    }
}

impl Drop for Source {
    /// All at once: each takes 100 ms (`BaseConsumer::drop`).
    fn drop(&mut self) {
        std::thread::scope(|scope| {
            for consumer in self.consumers.drain(..) {
                scope.spawn(move || drop(consumer));
            }
        });
    }
}

fn record(topic: Topic, message: &BorrowedMessage<'_>, accounts: &[String]) -> Record {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let header = |name: &str| {
        let mut headers = message.headers().into_iter().flat_map(Headers::iter);
        headers.find(|header| header.key == name).and_then(|header| header.value).map(text)
    };
    let key = message.key().map(text).unwrap_or_default();
    let id = header("ce_id").unwrap_or_else(|| key.clone());
    let partition = message.partition();
    let offset = message.offset();
    let says = |name: &str, value: &str| header(name).as_deref() == Some(value);
    let stale = says("relay_stale", "true");
    let by_webhook = says("relay_leg", "webhook");
    // One that the settings do not name is none whose events were issued.
    let place = |name: String| accounts.iter().position(|of| *of == name).unwrap_or(usize::MAX);
    let account = if accounts.is_empty() { 0 } else { place(header("relay_account").unwrap_or_default()) };
    Record { account, topic, partition, offset, key, id, stale, by_webhook }
}

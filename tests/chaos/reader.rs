//! A consumer of committed records that shows each of them to the oracle, through every death of the broker.

use crate::oracle::{Oracle, Record};
use pepay_relay::config::Config;
use pepay_relay::labels::Topic;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// What a consumer of the relay reads.
const TOPICS: [Topic; 4] = [Topic::Orders, Topic::OrdersLatest, Topic::Invoices, Topic::DeadLetter];
/// Reading everything once more; a second takes some ten thousand records.
const READ_MAX: Duration = Duration::from_secs(300);

/// Reads until it is dropped.
pub struct Reader {
    oracle: Arc<Mutex<Oracle>>,
    changed: watch::Receiver<u64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Begins at the beginning; the topics must be there.
    pub fn start(config: &Config) -> Self {
        let oracle = Arc::new(Mutex::new(Oracle::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, changed) = watch::channel(0);
        let source = Source::new(config, &TOPICS);
        let judging = Arc::clone(&oracle);
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut source = source;
            while !stopped.load(Ordering::Relaxed) {
                match source.next() {
                    Some(Read::Record(record)) => lock(&judging).read(record),
                    Some(Read::Trouble(what)) => lock(&judging).complain(what),
                    Some(Read::End(_)) | None => continue,
                }
                sender.send_modify(|turn| *turn += 1);
            }
        });
        Self { oracle, changed, stop, thread: Some(thread) }
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
            if !matches!(tokio::time::timeout_at(deadline, self.changed.changed()).await, Ok(Ok(()))) {
                return false;
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It may have failed, which the test has noticed by what it no longer read.
            let _ = thread.join();
        }
    }
}

/// Shows `oracle` everything that is committed by now, from the beginning, by consumers of its own.
pub fn read_anew(config: &Config, oracle: &mut Oracle) {
    let began = Instant::now();
    // One at a time: the end of a partition is told without its topic.
    for topic in TOPICS {
        let mut source = Source::new(config, &[topic]);
        let mut waiting: BTreeSet<i32> = source.last.keys().map(|(_, partition)| *partition).collect();
        while !waiting.is_empty() {
            assert!(began.elapsed() < READ_MAX, "{topic:?} cannot be read to its end: {waiting:?} are missing");
            match source.next() {
                Some(Read::Record(record)) => oracle.read(record),
                Some(Read::Trouble(what)) => oracle.complain(what),
                Some(Read::End(partition)) => drop(waiting.remove(&partition)),
                None => {}
            }
        }
    }
}

fn lock(oracle: &Mutex<Oracle>) -> MutexGuard<'_, Oracle> {
    oracle.lock().unwrap_or_else(PoisonError::into_inner)
}

enum Read {
    Record(Record),
    /// The end of a partition, for now.
    End(i32),
    /// Records cannot be read any more.
    Trouble(String),
}

struct Source {
    consumer: BaseConsumer,
    topics: HashMap<String, Topic>,
    /// The last offset of each partition: a fetch that is answered twice shows a record twice, which is one record.
    last: HashMap<(Topic, i32), i64>,
}

impl Source {
    fn new(config: &Config, topics: &[Topic]) -> Self {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &config.kafka.bootstrap_servers)
            .set("group.id", "nobody")
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            // An offset that is gone is a finding, and no reason to begin anew.
            .set("auto.offset.reset", "error")
            .set("fetch.queue.backoff.ms", "1")
            .set("fetch.wait.max.ms", "50")
            .set("reconnect.backoff.max.ms", "100")
            .set("log_level", "0")
            .create()
            .expect("a client");
        let mut list = TopicPartitionList::new();
        let mut last = HashMap::new();
        let name = |topic: &Topic| config.kafka.topics.name(*topic).expect("turned on").to_owned();
        for topic in topics {
            let metadata = consumer.fetch_metadata(Some(&name(topic)), READ_MAX).expect("metadata");
            for partition in metadata.topics()[0].partitions() {
                list.add_partition_offset(&name(topic), partition.id(), Offset::Beginning).expect("an offset");
                last.insert((*topic, partition.id()), -1);
            }
        }
        assert!(!last.is_empty(), "the topics exist");
        consumer.assign(&list).expect("assigned");
        Self { consumer, topics: topics.iter().map(|topic| (name(topic), *topic)).collect(), last }
    }

    fn next(&mut self) -> Option<Read> {
        let message = match self.consumer.poll(Duration::from_millis(100))? {
            Ok(message) => message,
            Err(KafkaError::PartitionEOF(partition)) => return Some(Read::End(partition)),
            Err(KafkaError::MessageConsumption(code @ RDKafkaErrorCode::AutoOffsetReset)) => {
                return Some(Read::Trouble(code.to_string()));
            }
            Err(KafkaError::MessageConsumptionFatal(code)) => return Some(Read::Trouble(code.to_string())),
            // The broker is away.
            Err(_) => return None,
        };
        let topic = self.topics[message.topic()];
        let last = self.last.get_mut(&(topic, message.partition())).expect("assigned");
        if message.offset() <= *last {
            return None;
        }
        *last = message.offset();
        Some(Read::Record(record(topic, &message)))
    }
}

fn record(topic: Topic, message: &BorrowedMessage<'_>) -> Record {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let header = |name: &str| {
        let mut headers = message.headers().into_iter().flat_map(Headers::iter);
        headers.find(|header| header.key == name).and_then(|header| header.value).map(text)
    };
    let key = message.key().map(text).unwrap_or_default();
    let id = header("ce_id").unwrap_or_else(|| key.clone());
    Record { topic, key, id, stale: header("relay_stale").as_deref() == Some("true") }
}

//! What a consumer sees that reads only committed records.

use pepay_relay::config::Config;
use pepay_relay::labels::Topic;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Reading a few thousand records takes a second; a broker that has just come back takes longer.
const READ_MAX: Duration = Duration::from_secs(60);

/// A record as it is in Kafka.
#[derive(Clone, Debug)]
pub struct Record {
    pub partition: i32,
    pub key: String,
    pub value: Option<Vec<u8>>,
    /// Those that are text.
    pub headers: BTreeMap<String, String>,
    /// `__value_schema_id`, which is not.
    pub schema_id: Option<Vec<u8>>,
}

impl Record {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub fn is_stale(&self) -> bool {
        self.header("relay_stale") == "true"
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(self.value.as_ref().expect("no tombstone")).expect("JSON")
    }
}

/// Every record of `topic` that is committed by now, in order within a partition.
pub async fn committed(config: &Config, topic: Topic) -> Vec<Record> {
    let bootstrap = config.kafka.bootstrap_servers.clone();
    let topic = config.kafka.topics.name(topic).expect("turned on").to_owned();
    tokio::task::spawn_blocking(move || read(&bootstrap, &topic)).await.expect("reading")
}

/// Writes a record into partition 0, outside of any transaction; it is there when this returns.
pub async fn write(config: &Config, topic: &str, key: &str, value: &[u8]) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &config.kafka.bootstrap_servers)
        .set("log_level", "0")
        .create()
        .expect("a client");
    producer.send(BaseRecord::to(topic).partition(0).key(key).payload(value)).expect("queued");
    tokio::task::spawn_blocking(move || producer.flush(READ_MAX)).await.expect("joined").expect("written");
}

/// Reads the control topic on until `found` gives something of what is committed by then, and gives that; every time
/// that it has come to the end it asks. What was true only in the past is thus not mistaken for the present.
pub async fn control_until<T: Send + 'static>(
    config: &Config,
    mut found: impl FnMut(&[Record]) -> Option<T> + Send + 'static,
) -> Option<T> {
    let bootstrap = config.kafka.bootstrap_servers.clone();
    let topic = config.kafka.topics.name(Topic::Control).expect("turned on").to_owned();
    let read_on = move || {
        let (consumer, _) = open(&bootstrap, &topic);
        let mut records = Vec::new();
        let began = Instant::now();
        while began.elapsed() < READ_MAX {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => records.push(record(&message)),
                Some(Err(KafkaError::PartitionEOF(_))) => match found(&records) {
                    None => {}
                    found => return found,
                },
                _ => {}
            }
        }
        None
    };
    tokio::task::spawn_blocking(read_on).await.expect("reading")
}

/// A consumer at the beginning of `topic`, and its partitions.
fn open(bootstrap: &str, topic: &str) -> (BaseConsumer, BTreeSet<i32>) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "nobody")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("fetch.queue.backoff.ms", "1")
        .set("fetch.wait.max.ms", "50")
        .set("reconnect.backoff.max.ms", "100")
        .set("log_level", "0")
        .create()
        .expect("a client");
    let metadata = consumer.fetch_metadata(Some(topic), READ_MAX).expect("metadata");
    let partitions: BTreeSet<i32> = metadata.topics()[0].partitions().iter().map(|partition| partition.id()).collect();
    assert!(!partitions.is_empty(), "{topic} exists");
    let mut list = TopicPartitionList::new();
    for partition in &partitions {
        list.add_partition_offset(topic, *partition, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&list).expect("assigned");
    (consumer, partitions)
}

fn read(bootstrap: &str, topic: &str) -> Vec<Record> {
    let (consumer, mut waiting) = open(bootstrap, topic);
    let mut records = Vec::new();
    let began = Instant::now();
    while !waiting.is_empty() {
        assert!(began.elapsed() < READ_MAX, "{topic} cannot be read to its end");
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => records.push(record(&message)),
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(waiting.remove(&partition)),
            _ => {}
        }
    }
    records
}

fn record(message: &BorrowedMessage<'_>) -> Record {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let headers = || message.headers().into_iter().flat_map(Headers::iter);
    let is_id = |key: &str| key == "__value_schema_id";
    let texts = headers().filter(|header| !is_id(header.key));
    Record {
        partition: message.partition(),
        key: text(message.key().unwrap_or_default()),
        value: message.payload().map(<[u8]>::to_vec),
        headers: texts.map(|header| (header.key.to_owned(), text(header.value.unwrap_or_default()))).collect(),
        schema_id: headers().find(|header| is_id(header.key)).and_then(|header| header.value).map(<[u8]>::to_vec),
    }
}

/// The partition that Java's default partitioner gives a key: `toPositive(murmur2(key)) % partitions`, written from
/// the description of MurmurHash2 (seed 0x9747b28c), not from librdkafka's.
pub fn java_partition(key: &[u8], partitions: i32) -> i32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c_u32 ^ u32::try_from(key.len()).expect("short");
    let words = key.chunks_exact(4);
    let rest = words.remainder();
    for word in words {
        let mut k = u32::from_le_bytes(word.try_into().expect("four bytes")).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^= hash >> 15;
    i32::try_from(hash & 0x7fff_ffff).expect("positive") % partitions
}

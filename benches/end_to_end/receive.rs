//! A consumer of committed records that notes when each arrives.

use super::load::{EVENTS_AN_ORDER, Events};
use super::process::pause;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Partitions of the topics, as the relay makes them by default.
pub const PARTITIONS: i32 = 6;

/// After this long without a new event, the others are lost.
const LOST_AFTER: Duration = Duration::from_secs(10);

/// Reads a topic from its beginning, on a thread of its own.
pub struct Receiver {
    shared: Arc<Shared>,
    thread: JoinHandle<Received>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// Different events that have arrived.
    arrived: AtomicU64,
}

/// What a consumer has read.
#[derive(Debug, Default)]
pub struct Received {
    /// When each event arrived first, by its number, in Unix microseconds.
    pub at_us: HashMap<u64, i64>,
    /// Events that arrived again.
    pub repeated: u64,
    /// Events that arrived after a later one of their order, without the mark that shows it.
    pub out_of_order: u64,
    /// The latest of each order.
    latest: HashMap<u64, u64>,
}

impl Received {
    fn add(&mut self, number: u64, at_us: i64, marked: bool) {
        match self.at_us.entry(number) {
            Entry::Occupied(_) => self.repeated += 1,
            Entry::Vacant(entry) => {
                entry.insert(at_us);
                let latest = self.latest.entry(number / EVENTS_AN_ORDER).or_default();
                self.out_of_order += u64::from(number < *latest && !marked);
                *latest = number.max(*latest);
            }
        }
    }
}

impl Receiver {
    pub fn start(bootstrap: &str, topic: &str) -> Self {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", "bench")
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("fetch.queue.backoff.ms", "1")
            .set("fetch.wait.max.ms", "100")
            .create()
            .expect("a consumer");
        let mut all = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            all.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
        }
        consumer.assign(&all).expect("assigned");
        let shared = Arc::new(Shared::default());
        let told = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let mut received = Received::default();
            while !told.stop.load(Ordering::Relaxed) {
                let Some(Ok(message)) = consumer.poll(Duration::from_millis(20)) else { continue };
                let at_us = now_us();
                received.add(number(&message), at_us, header(&message, "relay_stale").is_some());
                told.arrived.store(received.at_us.len() as u64, Ordering::Relaxed);
            }
            received
        });
        Self { shared, thread }
    }

    /// Waits until `count` different events have arrived, or until no other comes any more.
    pub fn until(&self, count: u64) {
        let (mut arrived, mut last) = (0, Instant::now());
        while arrived < count && last.elapsed() < LOST_AFTER {
            pause(Duration::from_millis(20));
            let now = self.shared.arrived.load(Ordering::Relaxed);
            if now > arrived {
                (arrived, last) = (now, Instant::now());
            }
        }
    }

    /// Ends it.
    pub fn stop(self) -> Received {
        // The last ones may still be on their way.
        pause(Duration::from_millis(500));
        self.shared.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the consumer")
    }
}

fn header<'m>(message: &'m BorrowedMessage<'_>, key: &str) -> Option<&'m [u8]> {
    message.headers()?.iter().find(|header| header.key == key)?.value
}

/// The number of an event: the relay puts its id in a header, others in the value alone.
fn number(message: &BorrowedMessage<'_>) -> u64 {
    let id = header(message, "ce_id").map_or_else(|| Events::id(message.payload().unwrap_or_default()), Some);
    id.and_then(Events::number).expect("an event of the bench")
}

/// The time, in Unix microseconds: the same for every process of this machine.
pub fn now_us() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "microseconds, compared with another process of this machine")]
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

/// Makes a topic as the relay would.
pub fn create_topic(bootstrap: &str, name: &str) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", bootstrap).create().expect("a client");
    let topic = NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let made = runtime.block_on(admin.create_topics([&topic], &AdminOptions::new()));
    assert!(made.expect("an answer").iter().all(Result::is_ok), "{name}");
}

//! A consumer of committed records that notes when each arrives.

use super::load::Events;
use super::process::pause;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Partitions of the topics, as the relay makes them by default.
pub const PARTITIONS: i32 = 6;

/// Reads a topic from its beginning, on a thread of its own.
pub struct Receiver {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<HashMap<u64, i64>>,
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
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut arrived = HashMap::new();
            while !told.load(Ordering::Relaxed) {
                let Some(Ok(message)) = consumer.poll(Duration::from_millis(20)) else { continue };
                let at = now_us();
                let headers = message.headers().expect("headers");
                let id = headers.iter().find(|header| header.key == "ce_id").and_then(|header| header.value);
                arrived.insert(Events::number(id.expect("an id")).expect("a number"), at);
            }
            arrived
        });
        Self { stop, thread }
    }

    /// Ends it; when each event arrived, in Unix microseconds.
    pub fn stop(self) -> HashMap<u64, i64> {
        // The last ones may still be on their way.
        pause(Duration::from_millis(500));
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the consumer")
    }
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

//! A Kafka inside the process, for the demo: librdkafka's mock cluster, with our topics.
//!
//! It shows flow and nothing else: it hides no aborted record, fences nobody, answers questions about time with the
//! end of the log, does not report who is in a group, and knows no administration. Transactions, fencing, restarts and
//! topics need a real Kafka. A group shares partitions as there, but is divided again 5 s later: the mock cluster waits
//! that long for members, whether all are there or not.

use super::errors::StartError;
use crate::config::Config;
use crate::labels::Topic;
use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

/// A running mock cluster; it ends when dropped.
#[derive(Debug)]
pub struct Embedded {
    bootstrap_servers: String,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Embedded {
    /// Starts one broker on a free port of the loopback and creates the topics of `config` that are turned on.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        let topics: Vec<(String, i32)> = Topic::ALL
            .into_iter()
            .filter_map(|topic| {
                let partitions = if topic.is_of_shards() { config.cluster.shards } else { config.kafka.partitions };
                config.kafka.topics.name(topic).map(|name| (name.to_owned(), partitions))
            })
            .collect();
        let (started, answer) = tokio::sync::oneshot::channel();
        let (stop, stopped) = channel::<()>();
        // The cluster cannot move between threads, so one thread owns it from beginning to end.
        let thread = std::thread::Builder::new()
            .name("embedded-kafka".to_owned())
            .spawn(move || {
                let cluster = match cluster(&topics) {
                    Ok(cluster) => cluster,
                    Err(error) => return drop(started.send(Err(error))),
                };
                if started.send(Ok(cluster.bootstrap_servers())).is_ok() {
                    // Ends when the other side is dropped.
                    stopped.recv().unwrap_or_default();
                }
            })
            .map_err(|error| StartError::Failed(format!("no thread for the embedded Kafka: {error}")))?;
        let failed = |detail: String| StartError::Failed(format!("the embedded Kafka does not start: {detail}"));
        let bootstrap_servers = answer
            .await
            .map_err(|_| failed("its thread failed".to_owned()))?
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self { bootstrap_servers, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens, for `kafka.bootstrap_servers`.
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn cluster(
    topics: &[(String, i32)],
) -> Result<MockCluster<'static, rdkafka::producer::DefaultProducerContext>, KafkaError> {
    let cluster = MockCluster::new(1)?;
    for (name, partitions) in topics {
        cluster.create_topic(name, *partitions, 1)?;
    }
    Ok(cluster)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]
    use super::*;

    #[test]
    fn it_starts_with_topics_and_refuses_a_name_twice() {
        let topics = [("orders".to_owned(), 3), ("relay".to_owned(), 1)];
        let cluster = cluster(&topics).unwrap();
        assert!(cluster.bootstrap_servers().starts_with("127.0.0.1:"), "{}", cluster.bootstrap_servers());
        assert!(cluster.create_topic("orders", 3, 1).is_err(), "it is there already");
    }
}

//! What the group's coordinator reports of all nodes and shards, as every node sees it, and `kafka-consumer-groups`
//! too.

use crate::config::{Config, Secrets};
use crate::kafka::blocking::blocking;
use crate::kafka::client::{self, Context};
use crate::kafka::errors::StartError;
use crate::kafka::scan::{self, Reader};
use crate::kafka::shard::Shard;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// Bound on each question.
const ASK_WITHIN: Duration = Duration::from_secs(3);

/// The cluster at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The shards of each node, by its name. Two processes of one name are two entries.
    pub nodes: Vec<(String, Vec<i32>)>,
    /// Records of the inbox that nobody has taken, by shard, as far as it is known.
    pub lags: BTreeMap<i32, u64>,
}

impl View {
    /// Which node serves this shard.
    pub fn owner(&self, shard: i32) -> Option<&str> {
        self.nodes.iter().find(|(_, shards)| shards.contains(&shard)).map(|(node, _)| node.as_str())
    }
}

/// Asks the coordinator, without joining.
pub struct Observer {
    config: Config,
    consumer: Arc<BaseConsumer<Context>>,
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observer").finish_non_exhaustive()
    }
}

impl Observer {
    /// Makes the client; nothing is asked yet.
    ///
    /// # Errors
    ///
    /// When `kafka.options` cannot be used.
    pub fn new(config: &Config, secrets: &Secrets) -> Result<Self, StartError> {
        let mut settings = client::consumer(config, secrets, "read_committed");
        settings.set("group.id", &config.name);
        let consumer = BaseConsumer::from_config_and_context(&settings, Context::of(secrets))
            .map_err(|error| StartError::Settings(format!("kafka.options: {error}")))?;
        Ok(Self { config: config.clone(), consumer: Arc::new(consumer) })
    }

    /// Looks once.
    ///
    /// # Errors
    ///
    /// When the coordinator does not answer within seconds.
    pub async fn look(&self) -> Result<View, StartError> {
        let (config, consumer) = (self.config.clone(), Arc::clone(&self.consumer));
        blocking(move |_| {
            let away = |error: KafkaError| StartError::Failed(error.to_string());
            let nodes = nodes(&config, &consumer).map_err(away)?;
            let lags = lags(&config, &consumer).unwrap_or_default();
            Ok(View { nodes, lags })
        })
        .await
    }
}

/// The nodes that are members of the group now; blocking, for seconds at most.
pub(in crate::kafka) fn members(config: &Config, reader: &Reader) -> Result<Vec<String>, KafkaError> {
    Ok(nodes(config, reader.client())?.into_iter().map(|(node, _)| node).collect())
}

fn nodes(config: &Config, consumer: &BaseConsumer<Context>) -> Result<Vec<(String, Vec<i32>)>, KafkaError> {
    let groups = consumer.fetch_group_list(Some(&config.name), ASK_WITHIN)?;
    let prefix = format!("{}.", config.name);
    let mut nodes = Vec::new();
    for member in groups.groups().iter().flat_map(|group| group.members()) {
        // The binding panics on a client id that is no UTF-8, which a foreign member may have.
        let Ok(client_id) = catch_unwind(AssertUnwindSafe(|| member.client_id().to_owned())) else { continue };
        let Some(node) = client_id.strip_prefix(&prefix) else { continue };
        let shards = member.assignment().and_then(|bytes| assigned(bytes, &config.kafka.topics.inbox));
        nodes.push((node.to_owned(), shards.unwrap_or_default()));
    }
    nodes.sort();
    Ok(nodes)
}

fn lags(config: &Config, consumer: &BaseConsumer<Context>) -> Result<BTreeMap<i32, u64>, KafkaError> {
    let topic = config.kafka.topics.inbox.as_str();
    let list = |at: Offset| -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::new();
        let mut shards = Shard::all(config.cluster.shards);
        shards.try_for_each(|shard| list.add_partition_offset(topic, shard.number, at))?;
        Ok(list)
    };
    let offsets = |list: TopicPartitionList| -> BTreeMap<i32, i64> {
        let known = |offset| if let Offset::Offset(offset) = offset { Some(offset) } else { None };
        list.elements().iter().filter_map(|of| Some((of.partition(), known(of.offset())?))).collect()
    };
    let taken = offsets(consumer.committed_offsets(list(Offset::Invalid)?, ASK_WITHIN)?);
    let ends = consumer.offsets_for_times(list(Offset::End)?, ASK_WITHIN).map(offsets);
    if ends.as_ref().map_or(0, BTreeMap::len) < Shard::all(config.cluster.shards).count() {
        // As with `scan::offsets`: else it would believe for minutes that a partition has no leader.
        scan::meet(consumer, topic);
    }
    let ends = ends?;
    let lag = |(shard, end): (i32, i64)| {
        let taken = taken.get(&shard)?;
        Some((shard, u64::try_from(end.saturating_sub(*taken)).unwrap_or_default()))
    };
    Ok(ends.into_iter().filter_map(lag).collect())
}

/// The partitions of `topic` in a member's assignment (`ConsumerProtocolAssignment`, all versions begin alike); `None` where
/// it is something else.
fn assigned(bytes: &[u8], topic: &str) -> Option<Vec<i32>> {
    let mut rest = Rest(bytes);
    rest.short()?;
    let topics = rest.int()?;
    let mut partitions = Vec::new();
    for _ in 0..topics {
        let length = rest.short()?;
        let name = rest.take(usize::try_from(length).ok()?)?;
        let count = rest.int()?;
        for _ in 0..count {
            let partition = rest.int()?;
            if name == topic.as_bytes() {
                partitions.push(partition);
            }
        }
    }
    partitions.sort_unstable();
    Some(partitions)
}

/// What is left to read; every number is big-endian.
struct Rest<'b>(&'b [u8]);

impl<'b> Rest<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn short(&mut self) -> Option<i16> {
        Some(i16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn int(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_read_and_garbage_is_none() {
        let mut bytes = vec![0, 1, 0, 0, 0, 2];
        for (name, partitions) in [("a", [7]), ("inbox", [3])] {
            bytes.extend([0, u8::try_from(name.len()).unwrap_or_default()]);
            bytes.extend(name.as_bytes());
            bytes.extend(1_i32.to_be_bytes());
            partitions.iter().for_each(|partition: &i32| bytes.extend(partition.to_be_bytes()));
        }
        bytes.extend(0_i32.to_be_bytes());
        assert_eq!(assigned(&bytes, "inbox"), Some(vec![3]));
        assert_eq!(assigned(&bytes, "other"), Some(Vec::new()));
        for cut in 0..bytes.len() - 4 {
            assert_eq!(assigned(&bytes[..cut], "inbox"), None, "{cut}");
        }
        assert_eq!(assigned(&[0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff], "inbox"), None, "a length below zero");
    }

    #[test]
    fn a_shard_has_the_node_that_it_is_assigned_to() {
        let nodes = vec![("a".to_owned(), vec![0, 2]), ("b".to_owned(), vec![1])];
        let view = View { nodes, ..View::default() };
        assert_eq!([0, 1, 3].map(|shard| view.owner(shard)), [Some("a"), Some("b"), None]);
    }
}

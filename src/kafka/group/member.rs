//! A node's membership in the group.

use crate::config::{Config, Secrets};
use crate::kafka::blocking::{Cancel, CancelOnDrop};
use crate::kafka::cause::Cause;
use crate::kafka::client::{self, Context, Tuning};
use crate::kafka::errors::{self, Class, StartError};
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::{ClientContext, Statistics};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// Changes that wait for the node, at most: it takes each at once.
const WAITING: usize = 16;
/// How soon the thread serves the group's callbacks.
const SERVE: Duration = Duration::from_millis(50);
/// A coordinator that answers within this time is there to receive the goodbye.
const GOODBYE_WITHIN: Duration = Duration::from_secs(1);
/// Members that may be leaving at once; new secrets wait for a place, and then the newest count.
const LEAVING_MAX: usize = 4;
/// How soon a member that is done, and could not leave, tries again.
const GOODBYE_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What the group decided for this node.
#[derive(Debug)]
pub enum Change {
    /// These shards, and no others, are the node's. With none the node has joined.
    Assigned(Vec<i32>),
    /// The group divides the shards again; until it decides how, none is the node's.
    Revoked,
    /// None is the node's any more: the coordinator was silent for too long, or the node was.
    Lost,
}

/// A membership; dropping it leaves the group.
#[derive(Debug)]
pub struct Membership {
    changes: mpsc::Receiver<Result<Change, StartError>>,
    taken: Sender<(i32, i64)>,
    _cancel: CancelOnDrop,
}

impl Membership {
    /// Joins the group; waits for nothing. New secrets for Kafka make it join again. A node that the group does not let in
    /// although Kafka answers ends, so that a restart can help: librdkafka was seen to wait for the coordinator without end after
    /// an outage.
    ///
    /// # Errors
    ///
    /// When `kafka.options` cannot be used.
    pub fn join(config: &Config, secrets: watch::Receiver<Secrets>, tuning: &Tuning) -> Result<Self, StartError> {
        let (sender, changes) = mpsc::channel(WAITING);
        let (taken, reports) = channel();
        let cancel = Cancel::default();
        let guard = CancelOnDrop(cancel.clone());
        let mut secrets = secrets;
        let consumer = open(config, &secrets.borrow_and_update().clone(), sender.clone())?;
        let join_within = tuning.join_within;
        let serving = Serving { config: config.clone(), secrets, sender, reports, join_within };
        // The runtime waits for it when it is shut down: it must not outlive OpenSSL.
        drop(tokio::task::spawn_blocking(move || serving.run(consumer, &cancel)));
        Ok(Self { changes, taken, _cancel: guard })
    }

    /// The group's next decision. An error ends the membership; `None` after it. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Change, StartError>> {
        self.changes.recv().await
    }

    /// Where it learns how far the inbox is taken.
    pub fn reports(&self) -> Reports {
        Reports(self.taken.clone())
    }
}

/// Reports to the group how far the inbox is taken.
#[derive(Clone, Debug)]
pub struct Reports(Sender<(i32, i64)>);

impl Reports {
    /// The inbox of the shard is taken up to this offset, for those who look at the group with Kafka's own tools. The relay
    /// itself goes by its checkpoints.
    pub fn taken(&self, shard: i32, next: i64) {
        // Where the thread has ended nobody looks any more.
        let _ = self.0.send((shard, next));
    }
}

fn open(
    config: &Config,
    secrets: &Secrets,
    changes: mpsc::Sender<Result<Change, StartError>>,
) -> Result<BaseConsumer<Rebalancing>, StartError> {
    let said = Context::of(secrets);
    let settings = client::member(config, secrets);
    let unusable = |error: KafkaError| StartError::Settings(format!("kafka.options: {error}"));
    let outside_since = Mutex::new(Some(Instant::now()));
    let context = Rebalancing { said, changes, outside_since, is_done: AtomicBool::new(false) };
    let consumer = BaseConsumer::from_config_and_context(&settings, context).map_err(unusable)?;
    consumer.subscribe(&[&config.kafka.topics.inbox]).map_err(unusable)?;
    Ok(consumer)
}

/// Passes on what the group decides.
struct Rebalancing {
    said: Context,
    changes: mpsc::Sender<Result<Change, StartError>>,
    /// The group has had no place for the node since; none while it is a member.
    outside_since: Mutex<Option<Instant>>,
    /// Another member has taken its place: what the group decides for this one is nobody's business any more.
    is_done: AtomicBool,
}

impl Rebalancing {
    fn outside_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.outside_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: Change) {
        if !self.is_done.load(Ordering::Relaxed) {
            // The node may have left.
            let _ = self.changes.blocking_send(Ok(change));
        }
    }
}

fn shards(list: &TopicPartitionList) -> Vec<i32> {
    list.elements().iter().map(|element| element.partition()).collect()
}

impl ClientContext for Rebalancing {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.said.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.said.error(error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        self.said.stats(statistics);
    }
}

impl ConsumerContext for Rebalancing {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(_) = rebalance {
            *self.outside_since() = Some(Instant::now());
            self.tell(if consumer.assignment_lost() { Change::Lost } else { Change::Revoked });
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Assign(list) = rebalance else { return };
        *self.outside_since() = None;
        // Others read it, from the offsets in the checkpoints.
        if let Err(error) = consumer.pause(list) {
            tracing::debug!(%error, "the inbox is read by the group as well");
        }
        self.tell(Change::Assigned(shards(list)));
    }
}

/// The thread of a membership.
struct Serving {
    config: Config,
    secrets: watch::Receiver<Secrets>,
    sender: mpsc::Sender<Result<Change, StartError>>,
    reports: Receiver<(i32, i64)>,
    join_within: Duration,
}

impl Serving {
    fn run(mut self, mut consumer: BaseConsumer<Rebalancing>, cancel: &Cancel) {
        let mut last = None;
        let mut answered = None;
        let mut leaving = Leaving::default();
        while !cancel.is_set() {
            // What the group's own reader fetched before it was paused is nobody's.
            if let Some(Err(error)) = consumer.poll(SERVE)
                && let Some(refused) = self.refused(&consumer, &error)
            {
                let _ = self.sender.blocking_send(Err(refused));
                break;
            }
            if let Some(error) = self.kept_out(&consumer, &mut answered) {
                let _ = self.sender.blocking_send(Err(error));
                break;
            }
            self.report(&consumer, &mut last);
            if leaving.consumers.len() < LEAVING_MAX && self.secrets.has_changed().unwrap_or(false) {
                let secrets = self.secrets.borrow_and_update().clone();
                match open(&self.config, &secrets, self.sender.clone()) {
                    Ok(renewed) => leaving.add(std::mem::replace(&mut consumer, renewed)),
                    Err(error) => tracing::warn!(%error, "the group cannot be joined with the new secrets"),
                }
            }
            leaving.serve(&self.config);
        }
        leaving.consumers.push_back(consumer);
        leaving.end(&self.config);
    }

    /// Kafka answers a question for the group twice, half of `join_within` apart, and the node was outside the group all that
    /// time. `answered` is when it did the first time. While Kafka does not answer, nothing can be expected of the group.
    fn kept_out(&self, consumer: &BaseConsumer<Rebalancing>, answered: &mut Option<Instant>) -> Option<StartError> {
        let Some(since) = *consumer.context().outside_since() else {
            *answered = None;
            return None;
        };
        if answered.unwrap_or(since).elapsed() < self.join_within / 2 {
            return None;
        }
        let group = &self.config.name;
        let now = Instant::now();
        if consumer.fetch_group_list(Some(group), GOODBYE_WITHIN).is_err() {
            *consumer.context().outside_since() = Some(now);
            *answered = None;
            return None;
        }
        answered.replace(now).map(|_| {
            StartError::Failed(format!(
                "the consumer group `{group}` has not let this node in for {} s although Kafka answers; a restart joins again",
                self.join_within.as_secs()
            ))
        })
    }

    /// Kafka refuses, and asking again is of no use.
    fn refused(&self, consumer: &BaseConsumer<Rebalancing>, error: &KafkaError) -> Option<StartError> {
        let code = error.rdkafka_error_code()?;
        let said = &consumer.context().said;
        match code {
            Code::Authentication if said.awaits_token() => None,
            Code::GroupAuthorizationFailed => {
                let acl = format!("--operation Read --operation Describe --group {}", self.config.name);
                let what = format!("join the group `{}`", self.config.name);
                Some(client::permission_lacking(&self.config, said, &what, &acl))
            }
            code if errors::is_denied(code) => {
                Some(client::credentials_refused(&self.config, said, &error.to_string()))
            }
            code if errors::classify(code) == Class::Stop => Some(StartError::Failed(format!("the group: {error}"))),
            _ => {
                let detail = said.away(&error.to_string());
                tracing::debug!(detail, remedy = Cause::of(&detail).map(Cause::remedy), "the group waits for kafka");
                None
            }
        }
    }

    /// Passes on how far the inbox is taken, the newest of each shard.
    fn report(&self, consumer: &BaseConsumer<Rebalancing>, last: &mut Option<(i32, i64)>) {
        for (shard, next) in self.reports.try_iter() {
            if *last == Some((shard, next)) {
                continue;
            }
            *last = Some((shard, next));
            let mut list = TopicPartitionList::new();
            let topic = &self.config.kafka.topics.inbox;
            let listed = list.add_partition_offset(topic, shard, Offset::Offset(next));
            if let Err(error) = listed.and_then(|()| consumer.commit(&list, CommitMode::Async)) {
                tracing::debug!(%error, "the place in the inbox is not told to the group");
            }
        }
    }
}

/// Members whose place another one has taken. Each is served until it has left: librdkafka keeps the place of a member that
/// nobody serves, and the whole group would wait for it at every division, for `max.poll.interval.ms`.
#[derive(Default)]
struct Leaving {
    consumers: VecDeque<BaseConsumer<Rebalancing>>,
    tried: Option<Instant>,
}

impl Leaving {
    /// This one is to leave as soon as its coordinator answers. Its shards are nobody's from now on.
    fn add(&mut self, consumer: BaseConsumer<Rebalancing>) {
        let context = consumer.context();
        context.tell(Change::Revoked);
        context.is_done.store(true, Ordering::Relaxed);
        self.consumers.push_back(consumer);
        self.tried = None;
    }

    fn serve(&mut self, config: &Config) {
        for consumer in &self.consumers {
            drop(consumer.poll(Duration::ZERO));
        }
        // One at a time: where the coordinator does not answer, each takes a second.
        if self.tried.is_none_or(|tried| tried.elapsed() >= GOODBYE_AGAIN_AFTER)
            && let Some(first) = self.consumers.pop_front()
        {
            self.consumers.extend(left(first, config).err());
            self.tried = Some(Instant::now());
        }
    }

    /// The node ends. What cannot leave is left to the end of the process, and the group to the end of the session.
    fn end(mut self, config: &Config) {
        while let Some(last) = self.consumers.pop_back() {
            if let Err(stays) = left(last, config) {
                std::mem::forget((stays, self.consumers));
                return;
            }
        }
    }
}

/// Leaves in order where the coordinator is there to receive it, and gives the member back where it is not: librdkafka 2.12 may
/// crash in the goodbye then (confluentinc/librdkafka#5347, fixed in 2.14.2), and nobody would receive it.
fn left(consumer: BaseConsumer<Rebalancing>, config: &Config) -> Result<(), BaseConsumer<Rebalancing>> {
    let mut list = TopicPartitionList::new();
    list.add_partition(&config.kafka.topics.inbox, 0);
    // The coordinator alone answers this.
    match consumer.committed_offsets(list, GOODBYE_WITHIN) {
        Ok(_) => {
            drop(consumer);
            Ok(())
        }
        Err(error) => {
            tracing::debug!(%error, "a member cannot leave the group yet");
            Err(consumer)
        }
    }
}

//! Our topics as one look at them found them, compared with what is wanted; the missing ones are created.
//!
//! What a topic has to be like is in `spec`, the look itself in `look`, the creation in `create`. After [`ensure`] a topic that
//! a broker does not know is trouble that is waited for, never an empty topic: a broker that has just started, or another one
//! than the one that created a topic, may not have heard of it yet.

mod create;
mod look;
mod spec;

pub use spec::{Actual, Finding, TopicSettings, TopicSpec};

use super::blocking::{AskError, Cancel, RETRY_AFTER};
use super::client::{self, Context, MESSAGE_BYTES_DEFAULT, MESSAGE_BYTES_MAX, Sizes};
use super::errors::StartError;
use super::scan::ASK_TIMEOUT;
use crate::config::{Config, Secrets};
use crate::labels::Topic;
use look::Look;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::RDKafkaErrorCode as Code;
use std::time::{Duration, Instant};

/// A topic that nobody has just created is not believed to be missing before this time: a broker that has just started
/// knows of no topic for a moment (KAFKA-15161), and the status that says so is one that nobody restarts.
const ABSENT_AFTER: Duration = Duration::from_secs(10);
/// Between two looks whether a topic is known.
const CREATION_LOOK: Duration = Duration::from_millis(100);

/// One of our topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicReport {
    /// Which one.
    pub topic: Topic,
    /// Its name, from the settings.
    pub name: String,
    /// What it has to be like.
    pub wanted: TopicSpec,
    /// What it is like; `None` if it does not exist.
    pub actual: Option<Actual>,
    /// What is wrong with it.
    pub findings: Vec<Finding>,
}

impl TopicReport {
    /// Its `min.insync.replicas`, where that can be read.
    pub(super) fn min_insync_replicas(&self) -> Option<i32> {
        self.actual.as_ref()?.settings.as_ref()?.min_insync_replicas
    }
}

/// Our topics, as one look found them.
///
/// Empty for a Kafka that is not asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topics {
    /// One for each topic that is turned on.
    pub reports: Vec<TopicReport>,
    /// Settings that the broker's policy refused when a topic was created, as a warning each topic.
    left_out: Vec<String>,
    /// The sizes were used since the look.
    used: bool,
}

impl Topics {
    /// What the topics allow in bytes. Where a topic's settings cannot be read the broker validates the size of a record.
    pub(super) fn sizes(&self) -> Sizes {
        let limit = |report: &TopicReport| report.actual.as_ref()?.settings.as_ref()?.max_message_bytes;
        let limits: Vec<Option<usize>> =
            self.reports.iter().filter(|report| report.actual.is_some()).map(limit).collect();
        sizes_of(&limits)
    }

    /// The same for a producer that is made: as the look found them the first time, and after that read again, since a
    /// limit may have been raised. Where that fails they stay as they were.
    ///
    /// Blocking, on a thread of the runtime's.
    pub(super) fn sizes_now(&mut self, config: &Config, secrets: &Secrets, cancel: &Cancel) -> Sizes {
        if std::mem::replace(&mut self.used, true)
            && !self.reports.is_empty()
            && let Err(trouble) = self.read_sizes_again(config, secrets, cancel)
        {
            tracing::debug!(?trouble, "the topics' sizes could not be read again");
        }
        self.sizes()
    }

    /// Reads the topics' settings again, after a record was refused for its size. `true` when their sizes have changed, so
    /// that a new producer may pass what this one did not.
    ///
    /// Blocking, on a thread of the runtime's.
    ///
    /// # Errors
    ///
    /// When Kafka does not answer, or nobody waits any more; the sizes are then as they were.
    pub(super) fn read_sizes_again(
        &mut self,
        config: &Config,
        secrets: &Secrets,
        cancel: &Cancel,
    ) -> Result<bool, AskError> {
        cancel.check()?;
        let admin = admin(config, secrets)?;
        let names: Vec<&str> = self.reports.iter().map(|report| report.name.as_str()).collect();
        let read = tokio::runtime::Handle::current().block_on(look::settings(&admin, &names));
        let read = read.map_err(|error| AskError::Away(error.to_string()))?;
        let before = self.sizes();
        for (report, settings) in self.reports.iter_mut().zip(read) {
            if let Some(actual) = &mut report.actual {
                actual.settings = settings.or(actual.settings.take());
            }
        }
        Ok(self.sizes() != before)
    }

    /// How many partitions a topic has; `None` where it is turned off, or was not asked for.
    pub fn partitions(&self, topic: Topic) -> Option<i32> {
        self.reports.iter().find(|report| report.topic == topic)?.actual.as_ref().map(|actual| actual.partitions)
    }

    /// A warning for each topic that was created without some of its settings.
    pub fn left_out(&self) -> impl Iterator<Item = &str> {
        self.left_out.iter().map(String::as_str)
    }

    /// What works, with a risk.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        let warnings = self.findings().filter_map(|finding| match finding {
            Finding::Warning(text) => Some(text.as_str()),
            Finding::Mistake(_) => None,
        });
        self.left_out().chain(warnings)
    }

    /// An error that names every mistake.
    fn judged(self) -> Result<Self, StartError> {
        let mistake = |finding: &Finding| match finding {
            Finding::Mistake(text) => Some(text.clone()),
            Finding::Warning(_) => None,
        };
        let mistakes: Vec<String> = self.findings().filter_map(mistake).collect();
        if mistakes.is_empty() { Ok(self) } else { Err(StartError::Settings(mistakes.join("\n"))) }
    }

    fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.reports.iter().flat_map(|report| &report.findings)
    }

    /// The topics that do not exist.
    fn missing(&self) -> impl Iterator<Item = &TopicReport> {
        self.reports.iter().filter(|report| report.actual.is_none())
    }

    /// `TOPIC[PARTITION]` of each partition without a leader: nothing can be written to it.
    fn offline(&self) -> Vec<String> {
        let of = |report: &TopicReport| {
            let partitions = report.actual.as_ref().map(|actual| actual.offline.clone()).unwrap_or_default();
            partitions.into_iter().map(|partition| format!("{}[{partition}]", report.name)).collect::<Vec<_>>()
        };
        self.reports.iter().flat_map(of).collect()
    }
}

/// Sizes by the topics' `max.message.bytes`; `None` where it cannot be read: then a record may be as large as librdkafka
/// sends it, and the broker's answer decides. What goes into one batch stays at Kafka's default.
fn sizes_of(limits: &[Option<usize>]) -> Sizes {
    let batch_bytes = limits.iter().map(|limit| limit.unwrap_or(MESSAGE_BYTES_DEFAULT)).min();
    let record_bytes = limits.iter().map(|limit| limit.unwrap_or(MESSAGE_BYTES_MAX)).max();
    Sizes {
        batch_bytes: batch_bytes.unwrap_or(MESSAGE_BYTES_DEFAULT),
        record_bytes: record_bytes.unwrap_or(MESSAGE_BYTES_DEFAULT),
    }
}

/// Looks at every topic that is turned on. An error when Kafka does not answer within seconds, or refuses us.
pub async fn inspect(config: &Config, secrets: &Secrets) -> Result<Topics, StartError> {
    Look::begin(config, secrets)?.once(config, false).await
}

/// [`inspect`], and creates what is missing, which every broker that is asked then knows.
pub async fn create(config: &Config, secrets: &Secrets) -> Result<Topics, StartError> {
    let look = Look::begin(config, secrets)?;
    let mut topics = look.once(config, false).await?;
    topics.left_out = look.complete(config, &mut topics, false).await?;
    Ok(topics)
}

/// [`ensure_telling`], telling nobody.
pub async fn ensure(config: &Config, secrets: &Secrets) -> Result<Topics, StartError> {
    ensure_telling(config, secrets, |_| ()).await
}

/// Creates what is missing, if the settings allow it, and refuses to start on a mistake; every one is named.
///
/// Waits for a Kafka that does not answer, and for partitions that have no leader, of which `waiting_for` hears; dropping the
/// future ends that.
pub async fn ensure_telling(
    config: &Config,
    secrets: &Secrets,
    mut waiting_for: impl FnMut(Option<&str>),
) -> Result<Topics, StartError> {
    let look = Look::begin(config, secrets)?;
    let mut topics = look.once(config, true).await?;
    let left_out = match config.kafka.create_topics {
        true => look.complete(config, &mut topics, true).await?,
        false => Vec::new(),
    };
    let began = Instant::now();
    while topics.missing().next().is_some() && began.elapsed() < ABSENT_AFTER {
        tokio::time::sleep(CREATION_LOOK).await;
        topics = look.once(config, true).await?;
    }
    let mut told = Vec::new();
    loop {
        let offline = topics.offline();
        if offline.is_empty() {
            break;
        }
        if offline != told {
            let places = offline.join(", ");
            tracing::warn!(partitions = places, "partitions without a leader");
            waiting_for(Some(&format!("a leader of {places}: the brokers that hold it are down")));
            told = offline;
        }
        tokio::time::sleep(RETRY_AFTER).await;
        topics = look.once(config, true).await?;
    }
    if !told.is_empty() {
        waiting_for(None);
    }
    topics.left_out = left_out;
    topics.judged()
}

/// Deletes every topic of `config` that is turned on and exists, with all that is in it.
///
/// # Errors
///
/// When Kafka does not answer within seconds, or refuses; the topics that stay are named.
pub async fn delete(config: &Config, secrets: &Secrets) -> Result<(), StartError> {
    let names: Vec<&str> = Topic::ALL.into_iter().filter_map(|topic| config.kafka.topics.name(topic)).collect();
    let options = AdminOptions::new().request_timeout(Some(ASK_TIMEOUT)).operation_timeout(Some(ASK_TIMEOUT));
    let stay = |names: &str, error: &str| StartError::Failed(format!("{names} cannot be deleted: {error}"));
    let deleted = admin(config, secrets)?.delete_topics(&names, &options).await;
    let deleted = deleted.map_err(|error| stay(&names.join(", "), &error.to_string()))?;
    let left = deleted.into_iter().filter_map(Result::err).find(|(_, code)| *code != Code::UnknownTopicOrPartition);
    left.map_or(Ok(()), |(name, code)| Err(stay(&name, &code.to_string())))
}

fn admin(config: &Config, secrets: &Secrets) -> Result<AdminClient<Context>, StartError> {
    AdminClient::from_config_and_context(&client::base(config, secrets), Context::default())
        .map_err(|error| StartError::Settings(format!("kafka.options: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_limit_is_the_brokers_to_validate() {
        let sizes = |limits: &[Option<usize>]| {
            let Sizes { batch_bytes, record_bytes } = sizes_of(limits);
            (batch_bytes, record_bytes)
        };
        assert_eq!(sizes(&[]), (MESSAGE_BYTES_DEFAULT, MESSAGE_BYTES_DEFAULT));
        assert_eq!(sizes(&[Some(2_000), Some(8_000_000)]), (2_000, 8_000_000));
        assert_eq!(sizes(&[Some(2_000), None]), (2_000, MESSAGE_BYTES_MAX));
        assert_eq!(sizes(&[Some(8_000_000), None]), (MESSAGE_BYTES_DEFAULT, MESSAGE_BYTES_MAX));
    }
}

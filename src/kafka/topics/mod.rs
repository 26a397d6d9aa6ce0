//! Our topics as one look at them found them, compared with what is wanted; the missing ones are created.
//!
//! What a topic has to be like is in `spec`, the look itself in `look`, the creation in `create`. After [`ensure`] a topic that
//! a broker does not know is trouble that is waited for, never an empty topic: a broker that has just started, or another one
//! than the one that created a topic, may not know of it yet.

mod create;
mod look;
mod report;
mod spec;

pub use report::{TopicReport, Topics};
pub use spec::{Actual, Finding, TopicSettings, TopicSpec};

use super::blocking::RETRY_AFTER;
use super::errors::StartError;
use super::scan::ASK_TIMEOUT;
use crate::config::{Config, Secrets};
use crate::labels::Topic;
use look::{CREATION_LOOK, Look, admin};
use rdkafka::admin::AdminOptions;
use rdkafka::error::RDKafkaErrorCode as Code;
use std::time::{Duration, Instant};

/// A topic that nobody has just created is not believed to be missing before this time: a broker that has just started
/// knows of no topic for a moment (KAFKA-15161), and nobody restarts after the exit status for that.
const ABSENT_AFTER: Duration = Duration::from_secs(10);

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

/// [`ensure_telling`], without reporting a wait.
pub async fn ensure(config: &Config, secrets: &Secrets) -> Result<Topics, StartError> {
    ensure_telling(config, secrets, |_| ()).await
}

/// Creates what is missing, if the settings allow it, and refuses to start on a mistake; every one is named.
///
/// Waits for a Kafka that does not answer, and for partitions that have no leader, which `waiting_for` gets; dropping
/// the future ends that.
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

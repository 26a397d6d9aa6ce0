//! Whether this user may write to the topics in transactions, for `check`: asked under a name of its own, so that nobody is fenced.

use super::blocking::{Cancel, blocking};
use super::cause::Cause;
use super::client::{self, Context, Sizes, Tuning};
use super::errors::{self, StartError};
use super::shard::Shard;
use super::transaction::{Carried, Work};
use super::transactional::{ANSWER_WITHIN, Opening};
use crate::config::{Config, Secrets};
use crate::labels::Topic;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::producer::{BaseProducer, Producer};
use std::time::{Duration, Instant};

/// Writes one record to each of `topics` as `NAME.check`, in transactions that are aborted: readers of committed records
/// never see them. Names every permission that is missing; gives a sentence where a quota holds this client up.
pub async fn permissions(config: &Config, secrets: &Secrets, topics: Vec<Topic>) -> Result<Option<String>, StartError> {
    let config = config.clone();
    let secrets = secrets.clone();
    blocking(move |cancel| {
        let error = match tried(&config, &secrets, cancel, &topics) {
            Ok(producer) => return Ok(held_up(&producer).map(|words| Cause::explained(&words))),
            Err(error) => error,
        };
        // Which permission is missing is known only where a topic is asked for alone.
        let mut lacking = Vec::new();
        for topic in topics {
            match tried(&config, &secrets, cancel, &[topic]) {
                Err(StartError::Denied(text)) if !lacking.contains(&text) => lacking.push(text),
                _ => {}
            }
        }
        Err(if lacking.is_empty() { error } else { StartError::Denied(lacking.join("\n")) }.into())
    })
    .await
}

/// The quota that the next statistics show.
fn held_up(producer: &BaseProducer<Context>) -> Option<String> {
    let began = Instant::now();
    while producer.context().throttled().is_none() && began.elapsed() < client::STATISTICS_EVERY * 6 / 5 {
        producer.poll(client::STATISTICS_EVERY / 10);
    }
    producer.context().throttled()
}

fn tried(
    config: &Config,
    secrets: &Secrets,
    cancel: &Cancel,
    topics: &[Topic],
) -> Result<BaseProducer<Context>, StartError> {
    let name = format!("{}.check", config.name);
    let names = &config.kafka.topics;
    let about = topics.first().and_then(|topic| names.name(*topic)).unwrap_or(&names.control);
    let opening = Opening {
        config,
        secrets,
        transactional_id: &name,
        topic: about,
        sizes: Sizes::default(),
        tuning: &Tuning::default(),
        answer_within: Some(ANSWER_WITHIN),
    };
    let producer = opening.open(None, cancel, &mut |_, _| true)?;
    let mut work = Work {
        producer: &producer,
        carried: &mut Carried::default(),
        name_of: &|topic| names.name(topic),
        shard: Shard::SOLE,
        checkpoint: None,
        cancel,
        renewed: &|| false,
        phase_max: ANSWER_WITHIN,
    };
    match work.rehearse(topics, &name, &mut |_| ()) {
        Ok(()) => Ok(producer),
        Err(failure) => {
            let said = producer.context().said().refused;
            Err(refused(config, &producer, (&name, about), said, failure.detail()))
        }
    }
}

/// What Kafka refused, with the credentials or the permission that it asks for.
pub(super) fn refused(
    config: &Config,
    producer: &BaseProducer<Context>,
    (name, topic): (&str, &str),
    code: Option<Code>,
    detail: &str,
) -> StartError {
    producer.poll(Duration::ZERO);
    let credentials = producer.context().said().denied.clone();
    if let Some(reason) = credentials {
        return client::credentials_refused(config, producer.context(), &reason);
    }
    match code.filter(|code| errors::is_denied(*code)) {
        Some(code) => {
            let refused = producer.context().said().refused_topic.clone();
            let about = (name, refused.as_deref().unwrap_or(topic));
            client::denied(config, producer.context(), code, detail, about)
        }
        None => StartError::Failed(producer.context().away(detail)),
    }
}

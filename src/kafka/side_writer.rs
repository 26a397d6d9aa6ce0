//! Transactions alongside a running relay: under a name of their own, without a checkpoint, fencing nobody.
//!
//! For `replay` and `forget`. There is no checkpoint to show whether a commit of unknown outcome is committed, so that
//! is an error and the caller's to report; what such a command writes may be written again.

use super::Batch;
use super::blocking::{AskError, RETRY_AFTER, blocking};
use super::client::{Context, Tuning};
use super::errors::{Class, StartError};
use super::probe::refused;
use super::shard::Shard;
use super::topics;
use super::transaction::{Carried, Failure, Work};
use super::transactional::{ANSWER_WITHIN, Opening};
use crate::config::{Config, Secrets};
use rdkafka::producer::{BaseProducer, Producer};
use std::sync::Arc;

/// Attempts at one transaction that was aborted for certain: 10 s with the pauses, longer than a leader's election.
const ATTEMPTS_MAX: u32 = 20;

/// A transactional producer with a name of its own.
pub struct SideWriter {
    config: Config,
    name: String,
    producer: Arc<BaseProducer<Context>>,
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is committed.
    Committed,
    /// Nothing of it is committed: Kafka will not take a record of it, or that much at once.
    Refused,
}

impl SideWriter {
    /// Begins under `transactional_id`, which nobody else uses.
    ///
    /// # Errors
    ///
    /// When Kafka does not answer within seconds, or refuses: the missing permission is named.
    pub async fn open(config: &Config, secrets: &Secrets, transactional_id: &str) -> Result<Self, StartError> {
        let sizes = topics::inspect(config, secrets).await?.sizes();
        let config = config.clone();
        let secrets = secrets.clone();
        let name = transactional_id.to_owned();
        blocking(move |cancel| {
            let opening = Opening {
                config: &config,
                secrets: &secrets,
                transactional_id: &name,
                topic: &config.kafka.topics.orders,
                sizes,
                tuning: &Tuning::default(),
                answer_within: Some(ANSWER_WITHIN),
            };
            let producer = opening.open(None, cancel, &mut |_, _| true)?;
            Ok(Self { config, name, producer: Arc::new(producer) })
        })
        .await
    }

    /// Commits `batch` as one transaction, and gives it back.
    ///
    /// # Errors
    ///
    /// When Kafka refuses, does not answer, or leaves open whether the transaction is committed, which the error then
    /// names.
    pub async fn commit(&self, batch: Batch) -> Result<(Batch, Written), StartError> {
        let config = self.config.clone();
        let name = self.name.clone();
        let producer = Arc::clone(&self.producer);
        blocking(move |cancel| {
            let topics = &config.kafka.topics;
            let mut work = Work {
                producer: &producer,
                carried: &mut Carried::default(),
                name_of: &|topic| topics.name(topic),
                shard: Shard::SOLE,
                checkpoint: None,
                cancel,
                renewed: &|| false,
                phase_max: Tuning::default().transaction_timeout,
            };
            let mut attempts = 0;
            loop {
                attempts += 1;
                match work.commit(&batch, &mut |_| ()) {
                    Ok(()) => return Ok((batch, Written::Committed)),
                    Err(Failure::Aborted { class: Class::Size | Class::Invalid, .. }) => {
                        return Ok((batch, Written::Refused));
                    }
                    Err(Failure::Aborted { detail, .. }) => {
                        let said = producer.context().said().refused;
                        let topic = batch.get(0).and_then(|record| topics.name(record.topic())).unwrap_or_default();
                        let error = refused(&config, &producer, (&name, topic), said, &detail);
                        if matches!(error, StartError::Denied(_)) || attempts >= ATTEMPTS_MAX {
                            return Err(error.into());
                        }
                        cancel.wait(RETRY_AFTER)?;
                    }
                    Err(Failure::Cancelled) => return Err(AskError::Cancelled),
                    Err(Failure::InDoubt { detail, .. }) => {
                        let text = format!("it is not known whether the last transaction is committed ({detail})");
                        return Err(StartError::Failed(text).into());
                    }
                    Err(Failure::Stop(detail)) => return Err(StartError::Failed(detail).into()),
                }
            }
        })
        .await
    }
}

//! Opens a transactional producer: the relay's, one alongside it, and the one that asks for permissions.

use super::blocking::{AskError, Cancel};
use super::client::{self, Context, Sizes, Tuning};
use super::errors::{self, Class, StartError};
use super::scan::Reader;
use super::shard::Shard;
use super::transaction::SLICE;
use crate::config::{Config, Secrets};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseProducer, Producer};
use std::fmt;
use std::time::{Duration, Instant};

/// A coordinator that has not answered a command by then is not there.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// Clients of a start that are made before they are needed, so that they are connected when they are: a producer without a
/// connection asks for its coordinator again only after 500 ms (`rd_kafka_txn_coord_query`, rdkafka_txnmgr.c).
pub struct Early {
    producer: BaseProducer<Context>,
    sizes: Sizes,
    reader: Option<Reader>,
}

impl Early {
    /// Makes them, for topics with the usual sizes; `None` where the settings do not allow it, which is reported later.
    pub fn connect(config: &Config, secrets: &Secrets, shard: Shard, tuning: &Tuning) -> Option<Self> {
        let sizes = Sizes::default();
        let settings = client::producer(config, secrets, &shard.transactional_id(&config.name), sizes, tuning);
        let producer = BaseProducer::from_config_and_context(&settings, Context::of(secrets)).ok()?;
        Some(Self { producer, sizes, reader: Some(Reader::open(config, secrets).ok()?) })
    }

    /// The producer, where it was made for these sizes.
    pub(super) fn producer(self, sizes: Sizes) -> Option<BaseProducer<Context>> {
        (self.sizes == sizes).then_some(self.producer)
    }

    /// The reader, once.
    pub(super) fn reader(&mut self) -> Option<Reader> {
        self.reader.take()
    }
}

impl fmt::Debug for Early {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Early").finish_non_exhaustive()
    }
}

/// What a transactional producer is opened with.
pub(super) struct Opening<'o> {
    pub(super) config: &'o Config,
    pub(super) secrets: &'o Secrets,
    pub(super) transactional_id: &'o str,
    /// The topic that a refusal is about, where the code names none.
    pub(super) topic: &'o str,
    pub(super) sizes: Sizes,
    pub(super) tuning: &'o Tuning,
    /// After this long without an answer it is [`AskError::Away`]; without it the wait has no end.
    pub(super) answer_within: Option<Duration>,
}

impl Opening<'_> {
    /// `init_transactions`, which aborts what an earlier producer of the id left open and fences it (KIP-98). `waiting` is
    /// called about twice a second while Kafka does not answer, with the beginning of the wait and the reason; where it answers
    /// `false`, this ends with [`AskError::Away`]. `early` is used in place of a new producer.
    pub(super) fn open(
        &self,
        early: Option<BaseProducer<Context>>,
        cancel: &Cancel,
        waiting: &mut dyn FnMut(Instant, &str) -> bool,
    ) -> Result<BaseProducer<Context>, AskError> {
        let producer = match early {
            Some(producer) => producer,
            None => self.made()?,
        };
        let began = Instant::now();
        // Answered once a broker is connected. What is wrong otherwise, the command meets as well.
        drop(producer.client().fetch_metadata(Some(self.topic), SLICE));
        loop {
            cancel.check()?;
            let result = producer.init_transactions(SLICE);
            producer.poll(Duration::ZERO);
            let Err(error) = result else { return Ok(producer) };
            self.refused(&producer, &error)?;
            let detail = producer.context().away(&error.to_string());
            if self.answer_within.is_some_and(|within| began.elapsed() >= within) {
                return Err(AskError::Away(detail));
            }
            if !waiting(began, &detail) {
                return Err(AskError::Away(detail));
            }
        }
    }

    fn made(&self) -> Result<BaseProducer<Context>, StartError> {
        let settings = client::producer(self.config, self.secrets, self.transactional_id, self.sizes, self.tuning);
        BaseProducer::from_config_and_context(&settings, Context::of(self.secrets))
            .map_err(|error| StartError::Settings(format!("kafka.options: {error}")))
    }

    /// Nothing where asking the same producer again is right.
    fn refused(&self, producer: &BaseProducer<Context>, error: &KafkaError) -> Result<(), AskError> {
        let denied = producer.context().said().denied.clone();
        if let Some(reason) = denied {
            return Err(client::credentials_refused(self.config, producer.context(), &reason).into());
        }
        if let Some(code) = error.rdkafka_error_code().filter(|code| errors::is_denied(*code)) {
            let error = error.to_string();
            let about = (self.transactional_id, self.topic);
            return Err(client::denied(self.config, producer.context(), code, &error, about).into());
        }
        if error.rdkafka_error_code() == Some(Code::InvalidTransactionTimeout) {
            let text = format!(
                "transaction.max.timeout.ms of the broker is shorter than the {} ms of the relay's transactions ({error}); set \
                 it to at least that in the brokers' settings and restart them",
                self.tuning.transaction_timeout.as_millis()
            );
            return Err(StartError::Settings(text).into());
        }
        match errors::sort(error) {
            Class::Retry => Ok(()),
            Class::Stop => Err(StartError::Failed(error.to_string()).into()),
            _ => Err(AskError::Away(error.to_string())),
        }
    }
}

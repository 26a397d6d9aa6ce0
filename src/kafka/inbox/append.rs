//! Appends webhooks to the inbox.

use super::{NODE, RECEIVED_AT, TRACEPARENT, TRACESTATE, Webhook};
use crate::clock::rfc3339;
use crate::config::{Config, Secrets};
use crate::kafka::client::{self, Context};
use crate::kafka::errors::StartError;
use crate::kafka::outage::Outage;
use crate::kafka::shard::{Shard, key_of};
use crate::telemetry::{Health, Metrics};
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Statistics};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How often it is looked whether Kafka is silent while a webhook waits for it.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Bound on the question whether the inbox is there.
const ASK_WITHIN: Duration = Duration::from_secs(5);

/// A producer of the inbox; a clone is the same one.
#[derive(Clone)]
pub struct Appender {
    /// Replaced where the secrets are; what is under way stays with the one that it was given to.
    producer: Arc<Mutex<Arc<ThreadedProducer<Acknowledged>>>>,
    topic: String,
    /// The relay's name, which is the key of an account without one.
    name: String,
    node: String,
    shards: i32,
    outage: Arc<Mutex<Outage>>,
}

fn producer(config: &Config, secrets: &Secrets) -> Result<Arc<ThreadedProducer<Acknowledged>>, StartError> {
    let settings = client::appender(config, secrets);
    ThreadedProducer::from_config_and_context(&settings, Acknowledged(Context::of(secrets)))
        .map(Arc::new)
        .map_err(|error| StartError::Settings(format!("kafka.options: {error}")))
}

/// Passes on what became of each record.
struct Acknowledged(Context);

impl ClientContext for Acknowledged {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.0.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        self.0.stats(statistics);
    }
}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = Box<oneshot::Sender<Result<(), KafkaError>>>;

    fn delivery(&self, result: &DeliveryResult<'_>, acknowledge: Self::DeliveryOpaque) {
        // Who waited may have given up.
        let _ = acknowledge.send(result.as_ref().map(|_| ()).map_err(|(error, _)| error.clone()));
    }
}

impl fmt::Debug for Appender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Appender").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Appender {
    /// Makes the client; nothing is asked yet.
    ///
    /// # Errors
    ///
    /// When `kafka.options` cannot be used.
    pub fn new(
        config: &Config,
        secrets: &Secrets,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StartError> {
        Ok(Self {
            producer: Arc::new(Mutex::new(producer(config, secrets)?)),
            topic: config.kafka.topics.inbox.clone(),
            name: config.name.clone(),
            node: config.cluster.node.clone(),
            shards: config.cluster.shards,
            outage: Arc::new(Mutex::new(Outage::new(health, metrics))),
        })
    }

    /// Uses these secrets from now on.
    ///
    /// # Errors
    ///
    /// When `kafka.options` cannot be used; the old ones stay in use.
    pub fn renew(&self, config: &Config, secrets: &Secrets) -> Result<(), StartError> {
        let renewed = producer(config, secrets)?;
        *self.producer.lock().unwrap_or_else(PoisonError::into_inner) = renewed;
        Ok(())
    }

    fn producer(&self) -> Arc<ThreadedProducer<Acknowledged>> {
        Arc::clone(&self.producer.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Appends a webhook; done when every replica in sync has it. After the `webhook.answer_within` of the settings it is given
    /// up, and may be there nevertheless.
    ///
    /// # Errors
    ///
    /// The error of Kafka or of librdkafka.
    pub async fn append(&self, webhook: &Webhook<'_>) -> Result<(), String> {
        let key = key_of(&self.name, &webhook.account);
        let received_at = rfc3339(webhook.received_at_ms);
        let mut headers = OwnedHeaders::new_with_capacity(4)
            .insert(Header { key: RECEIVED_AT, value: Some(&received_at) })
            .insert(Header { key: NODE, value: Some(&self.node) });
        if let Some((parent, state)) = &webhook.trace {
            headers = headers.insert(Header { key: TRACEPARENT, value: Some(parent.as_bytes()) });
            if !state.is_empty() {
                headers = headers.insert(Header { key: TRACESTATE, value: Some(state.as_bytes()) });
            }
        }
        let (acknowledge, mut acknowledged) = oneshot::channel();
        let record = BaseRecord::with_opaque_to(&self.topic, Box::new(acknowledge))
            .partition(Shard::of(&self.name, &webhook.account, self.shards).number)
            .key(key)
            .payload(&*webhook.bytes)
            .headers(headers);
        let producer = self.producer();
        let said = &producer.client().context().0;
        producer.send(record).map_err(|(error, _)| said.said_of(&error))?;
        let began = Instant::now();
        let answer = loop {
            match timeout(LOOK_EVERY, &mut acknowledged).await {
                Ok(answer) => break answer,
                Err(_) => {
                    let detail = said.away("the broker does not acknowledge webhooks");
                    self.outage().silent_since(began, &detail);
                }
            }
        };
        match answer {
            Ok(Ok(())) => {
                self.outage().over();
                Ok(())
            }
            Ok(Err(error)) => Err(said.said_of(&error)),
            Err(_) => Err("the producer of the inbox was closed".to_owned()),
        }
    }

    /// Kafka takes no webhooks now.
    pub fn unreachable(&self, detail: &str) {
        self.outage().waiting(detail);
    }

    /// Kafka takes webhooks again.
    pub fn recovered(&self) {
        self.outage().over();
    }

    fn outage(&self) -> MutexGuard<'_, Outage> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the brokers answer and know the inbox. Blocking, for seconds at most.
    ///
    /// # Errors
    ///
    /// What is in the way.
    pub fn reach(&self) -> Result<(), String> {
        let producer = self.producer();
        let asked = producer.client().fetch_metadata(Some(&self.topic), ASK_WITHIN);
        let metadata = asked.map_err(|error| producer.client().context().0.said_of(&error))?;
        match metadata.topics().first().and_then(|topic| topic.error()) {
            None => Ok(()),
            Some(code) => Err(format!("{}: {}", self.topic, rdkafka::error::RDKafkaErrorCode::from(code))),
        }
    }
}

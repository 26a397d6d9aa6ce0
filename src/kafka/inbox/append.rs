//! Appends webhooks to the inbox.

use super::{NODE, RECEIVED_AT, TRACEPARENT, TRACESTATE, Webhook};
use crate::clock::rfc3339;
use crate::config::{Config, Secrets};
use crate::kafka::blocking::Aside;
use crate::kafka::client::{self, Context};
use crate::kafka::errors::{self, StartError};
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

/// After a refusal Kafka is believed to take webhooks again no sooner than this, unless it takes one.
const REFUSED_FOR: Duration = Duration::from_secs(5);

type Appending = Aside<ThreadedProducer<Acknowledged>>;

/// A producer of the inbox; a clone is the same one.
#[derive(Clone)]
pub struct Appender {
    config: Arc<Config>,
    /// Replaced where the secrets are; what is under way stays with the one that it was given to.
    producer: Arc<Mutex<Arc<Appending>>>,
    reached: Arc<Mutex<Reached>>,
}

fn producer(config: &Config, secrets: &Secrets) -> Result<Arc<Appending>, StartError> {
    let settings = client::appender(config, secrets);
    let producer = ThreadedProducer::from_config_and_context(&settings, Acknowledged(Context::of(secrets)))
        .map_err(|error| StartError::Settings(format!("kafka.options: {error}")))?;
    Ok(Arc::new(Aside::new(producer)))
}

/// Whether Kafka takes webhooks.
struct Reached {
    outage: Outage,
    refused: Option<Instant>,
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
        f.debug_struct("Appender").finish_non_exhaustive()
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
            config: Arc::new(config.clone()),
            producer: Arc::new(Mutex::new(producer(config, secrets)?)),
            reached: Arc::new(Mutex::new(Reached { outage: Outage::new(health, metrics), refused: None })),
        })
    }

    /// Uses these secrets from now on.
    ///
    /// # Errors
    ///
    /// When `kafka.options` cannot be used; the old ones stay in use.
    pub fn renew(&self, secrets: &Secrets) -> Result<(), StartError> {
        let renewed = producer(&self.config, secrets)?;
        *self.producer.lock().unwrap_or_else(PoisonError::into_inner) = renewed;
        Ok(())
    }

    fn producer(&self) -> Arc<Appending> {
        Arc::clone(&self.producer.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn reached(&self) -> MutexGuard<'_, Reached> {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a webhook; done when every replica in sync has it. After the `webhook.answer_within` of the settings it is given
    /// up, and may be there nevertheless.
    ///
    /// # Errors
    ///
    /// The error of Kafka or of librdkafka.
    pub async fn append(&self, webhook: &Webhook<'_>) -> Result<(), String> {
        let Config { name, cluster, .. } = &*self.config;
        let key = key_of(name, &webhook.account);
        let received_at = rfc3339(webhook.received_at_ms);
        let mut headers = OwnedHeaders::new_with_capacity(4)
            .insert(Header { key: RECEIVED_AT, value: Some(&received_at) })
            .insert(Header { key: NODE, value: Some(&cluster.node) });
        if let Some((parent, state)) = &webhook.trace {
            headers = headers.insert(Header { key: TRACEPARENT, value: Some(parent.as_bytes()) });
            if !state.is_empty() {
                headers = headers.insert(Header { key: TRACESTATE, value: Some(state.as_bytes()) });
            }
        }
        let (acknowledge, mut acknowledged) = oneshot::channel();
        let record = BaseRecord::with_opaque_to(&self.config.kafka.topics.inbox, Box::new(acknowledge))
            .partition(Shard::of(name, &webhook.account, cluster.shards).number)
            .key(key)
            .payload(&*webhook.bytes)
            .headers(headers);
        let producer = self.producer();
        producer.send(record).map_err(|(error, _)| self.refused(&producer, &error))?;
        let began = Instant::now();
        let answer = loop {
            match timeout(LOOK_EVERY, &mut acknowledged).await {
                Ok(answer) => break answer,
                Err(_) => {
                    let detail = producer.client().context().0.away("the broker does not acknowledge webhooks");
                    self.reached().outage.silent_since(began, &detail);
                }
            }
        };
        match answer {
            Ok(Ok(())) => {
                let mut reached = self.reached();
                reached.refused = None;
                reached.outage.over();
                Ok(())
            }
            Ok(Err(error)) => Err(self.refused(&producer, &error)),
            Err(_) => Err("the producer of the inbox was closed".to_owned()),
        }
    }

    /// Why an append failed. Where a permission is missing, Kafka takes none.
    fn refused(&self, producer: &Appending, error: &KafkaError) -> String {
        let detail = producer.client().context().0.said_of(error);
        if error.rdkafka_error_code().is_some_and(errors::is_denied) {
            let mut reached = self.reached();
            reached.refused = Some(Instant::now());
            reached.outage.waiting(&detail);
        }
        detail
    }

    /// Kafka takes no webhooks now.
    pub fn unreachable(&self, detail: &str) {
        self.reached().outage.waiting(detail);
    }

    /// Kafka can be reached, and so takes webhooks again, unless it has just refused one.
    pub fn recovered(&self) {
        let mut reached = self.reached();
        if reached.refused.is_none_or(|at| at.elapsed() >= REFUSED_FOR) {
            reached.outage.over();
        }
    }

    /// Whether the brokers answer and know the inbox. Blocking, for seconds at most.
    ///
    /// # Errors
    ///
    /// What is in the way.
    pub fn reach(&self) -> Result<(), String> {
        let producer = self.producer();
        let topic = &self.config.kafka.topics.inbox;
        let asked = producer.client().fetch_metadata(Some(topic), ASK_WITHIN);
        let metadata = asked.map_err(|error| producer.client().context().0.said_of(&error))?;
        match metadata.topics().first().and_then(|topic| topic.error()) {
            None => Ok(()),
            Some(code) => Err(format!("{topic}: {}", rdkafka::error::RDKafkaErrorCode::from(code))),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]

    use super::*;
    use crate::provider::Environment;
    use crate::telemetry::Phase;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::DefaultProducerContext;
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
    use std::borrow::Cow;

    fn appender(cluster: &MockCluster<'_, DefaultProducerContext>, health: &Arc<Health>) -> Appender {
        let mut config = Config::minimal(Environment::Devnet, &cluster.bootstrap_servers());
        config.webhook.answer_within = Duration::from_secs(5);
        cluster.create_topic(&config.kafka.topics.inbox, 1, 1).unwrap();
        let metrics = Arc::new(Metrics::new("test"));
        Appender::new(&config, &Secrets::default(), Arc::clone(health), metrics).unwrap()
    }

    fn webhook() -> Webhook<'static> {
        Webhook { account: Cow::Borrowed(""), bytes: Cow::Borrowed(b"{}"), received_at_ms: 1, trace: None }
    }

    /// As of a broker that came back without the last records that it had acknowledged.
    #[tokio::test]
    async fn after_an_error_of_the_sequence_webhooks_are_appended_again() {
        let cluster = MockCluster::new(1).unwrap();
        let appender = appender(&cluster, &Arc::default());
        appender.append(&webhook()).await.unwrap();
        let lost = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER];
        cluster.request_errors(RDKafkaApiKey::Produce, &lost);
        assert!(appender.append(&webhook()).await.is_err());
        appender.append(&webhook()).await.unwrap();
    }

    /// That the brokers answer does not end it.
    #[tokio::test]
    async fn without_the_permission_kafka_takes_no_webhooks_until_it_takes_one() {
        let cluster = MockCluster::new(1).unwrap();
        let health = Arc::<Health>::default();
        health.set_phase(Phase::Ready);
        let appender = appender(&cluster, &health);
        let denied = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED];
        cluster.request_errors(RDKafkaApiKey::Produce, &denied);
        assert!(appender.append(&webhook()).await.is_err());
        assert_eq!(health.phase(), Phase::KafkaUnavailable);
        // The question also has librdkafka forget the refusal.
        appender.reach().unwrap();
        appender.recovered();
        assert_eq!(health.phase(), Phase::KafkaUnavailable);
        appender.append(&webhook()).await.unwrap();
        assert_eq!(health.phase(), Phase::Ready);
    }
}

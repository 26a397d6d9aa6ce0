//! Whether this user may write transactions, for `check`: asked under a name of its own, so that nobody is fenced.

use super::cancel::blocking;
use super::client::{self, Context, Sizes, Tuning};
use super::errors::{self, StartError};
use crate::config::{Config, Secrets};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, Producer};
use std::time::Duration;

/// A coordinator that has not answered by then is not there.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// Opens and aborts an empty transaction as `NAME.check`.
///
/// Whether the topics may be written to shows only with the first record, which a check does not write.
pub async fn transactions(config: &Config, secrets: &Secrets) -> Result<(), StartError> {
    let (config, secrets) = (config.clone(), secrets.clone());
    blocking(move |_| {
        let name = format!("{}.check", config.name);
        let settings = client::producer(&config, &secrets, &name, Sizes::default(), &Tuning::default());
        let producer: BaseProducer<Context> = BaseProducer::from_config_and_context(&settings, Context::default())
            .map_err(|error| StartError::Settings(format!("kafka.options: {error}")))?;
        let tried = producer
            .init_transactions(ANSWER_WITHIN)
            .and_then(|()| producer.begin_transaction())
            .and_then(|()| producer.abort_transaction(ANSWER_WITHIN));
        Ok(tried.map_err(|error| refused(&config, &producer, &name, &error))?)
    })
    .await
}

fn refused(config: &Config, producer: &BaseProducer<Context>, name: &str, error: &KafkaError) -> StartError {
    producer.poll(Duration::ZERO);
    if let Some(reason) = producer.context().said().denied.clone() {
        return client::credentials_refused(config, &reason);
    }
    match error.rdkafka_error_code().filter(|code| errors::is_denied(*code)) {
        Some(code) => client::denied(config, code, &error.to_string(), name, &config.kafka.topics.control),
        None => StartError::Failed(producer.context().away(&error.to_string())),
    }
}

//! The schema registry: gives the open JSON Schemas of values to it, and learns what it calls them.
//!
//! Values stay plain JSON: the name is a header. Nothing waits for a registry: until it has answered, schemas are called
//! what they were before the start, and without that records go without the header. Only `kafka.schema_registry_url` leads
//! here; no credentials are sent.

mod answer;

pub use answer::RegistryError;

use crate::config::Config;
use crate::labels::Topic;
use crate::normalize::{Kind, SchemaId, SchemaIds, open_schemas};
use crate::provider::connect::Connector;
use crate::provider::{AGENT, tls};
use crate::text::foreign;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use reqwest::Url;
use std::time::Duration;

/// For one question, from connecting to the last byte of the answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The largest answer that is read; it holds a number and a sentence.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Between two attempts to register.
const AGAIN_AFTER: Duration = Duration::from_secs(15);

/// What both sides speak.
const SCHEMA_JSON: &str = "application/vnd.schemaregistry.v1+json";

/// The topics whose values have a schema there. Those of `orders_latest` are those of `orders`.
const REGISTERED: [(Topic, Kind); 3] =
    [(Topic::Orders, Kind::Order), (Topic::OrdersLatest, Kind::Order), (Topic::Invoices, Kind::Invoice)];

/// A schema registry.
#[derive(Clone, Debug)]
pub struct Registry {
    base: Url,
    client: Client<Connector, Full<Bytes>>,
}

impl Registry {
    /// The one of the settings, if they name one. Its certificate is checked against the system's roots and
    /// `kafka.ca_file`.
    ///
    /// # Errors
    ///
    /// The certificates cannot be read, or its address is none; a sentence with the cause.
    pub fn of(config: &Config) -> Result<Option<Self>, String> {
        let Some(url) = &config.kafka.schema_registry_url else { return Ok(None) };
        let base = Url::parse(url).map_err(|_| "kafka.schema_registry_url is not an address".to_owned())?;
        let tls = tls::client_config_with(config.kafka.ca_file.as_deref());
        let tls = tls.map_err(|_| "kafka.ca_file cannot be read as PEM certificates".to_owned())?;
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(Connector::from(&tls));
        Ok(Some(Self { base, client }))
    }

    /// Registers the schemas of values under the subjects of their topics (`TOPIC-value`), as far as their kind has no name
    /// yet.
    ///
    /// # Errors
    ///
    /// At the first one that the registry does not take; then none has a name.
    pub async fn name_schemas(&self, config: &Config, ids: &SchemaIds) -> Result<(), RegistryError> {
        let schemas = open_schemas();
        let mut named = Vec::new();
        for (topic, kind) in REGISTERED {
            let (Some(name), false) = (config.kafka.topics.name(topic), ids.is_told(kind)) else { continue };
            let id = self.register(&format!("{name}-value"), &schemas[topic.as_str()]).await?;
            named.push((kind, id));
        }
        named.into_iter().for_each(|(kind, id)| ids.learn(kind, id));
        Ok(())
    }

    /// Whether it answers, and keeps JSON Schemas.
    ///
    /// # Errors
    ///
    /// Why not.
    pub async fn look(&self) -> Result<(), RegistryError> {
        let (status, body) = self.ask(Method::GET, &["schemas", "types"], Bytes::new()).await?;
        answer::keeps_json(status, &body)
    }

    /// `POST /subjects/SUBJECT/versions`; the same schema has the same name, however often it is registered.
    async fn register(&self, subject: &str, schema: &serde_json::Value) -> Result<SchemaId, RegistryError> {
        let request = serde_json::json!({ "schemaType": "JSON", "schema": schema.to_string() });
        let (status, body) =
            self.ask(Method::POST, &["subjects", subject, "versions"], request.to_string().into()).await?;
        answer::registered(status, &body)
    }

    async fn ask(&self, method: Method, path: &[&str], body: Bytes) -> Result<(u16, Bytes), RegistryError> {
        let asked = tokio::time::timeout(ANSWER_WITHIN, self.exchange(method, path, body)).await;
        asked.unwrap_or(Err(RegistryError::TimedOut(ANSWER_WITHIN)))
    }

    async fn exchange(&self, method: Method, path: &[&str], body: Bytes) -> Result<(u16, Bytes), RegistryError> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let request = Request::builder()
            .method(method)
            .uri(url.as_str())
            .header(USER_AGENT, AGENT)
            .header(ACCEPT, SCHEMA_JSON)
            .header(CONTENT_TYPE, SCHEMA_JSON)
            .body(Full::new(body))
            .map_err(|error| RegistryError::Unreachable(error.to_string()))?;
        let answer = self.client.request(request).await.map_err(|error| unreachable(&error))?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| match error.is::<http_body_util::LengthLimitError>() {
            true => RegistryError::NotUnderstood(format!("it is larger than {} KiB", ANSWER_BYTES_MAX >> 10)),
            false => RegistryError::Unreachable(reasons(error.as_ref())),
        })?;
        Ok((status, body.to_bytes()))
    }
}

fn unreachable(error: &hyper_util::client::legacy::Error) -> RegistryError {
    RegistryError::Unreachable(reasons(std::error::Error::source(error).unwrap_or(error)))
}

/// An error and what lies beneath it, in one line.
fn reasons(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(error.source(), |error| error.source());
    foreign(&chain.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))).to_string()
}

/// Learns the names of the schemas, for as long as it takes: an attempt every 15 s, each new cause logged once. Drop it
/// to stop.
pub async fn learn(config: &Config, ids: &SchemaIds) {
    let Some(registry) = of_settings(config) else { return };
    let mut told = None;
    loop {
        match registry.name_schemas(config, ids).await {
            Ok(()) => {
                tracing::info!("schemas registered");
                return;
            }
            Err(error) if told.as_ref() == Some(&error) => {}
            Err(error) => {
                tell(&error);
                told = Some(error);
            }
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// The same at one attempt, for a command.
pub async fn learn_once(config: &Config, ids: &SchemaIds) {
    let Some(registry) = of_settings(config) else { return };
    if let Err(error) = registry.name_schemas(config, ids).await {
        tell(&error);
    }
}

fn of_settings(config: &Config) -> Option<Registry> {
    Registry::of(config).unwrap_or_else(|why| {
        tracing::warn!(why, "schemas not registered");
        None
    })
}

fn tell(error: &RegistryError) {
    tracing::warn!(why = %error, remedy = error.remedy(), "schemas not registered");
}

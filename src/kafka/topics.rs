//! Our topics as they are beside what is wanted, and the missing ones created.
//!
//! Whether a topic fits is judged in `wanted`; this file asks the brokers.

use super::blocking::{blocking, patiently};
use super::client::{self, Context, MESSAGE_BYTES_DEFAULT, Sizes};
use super::errors::{self, StartError};
use super::scan::{ASK_TIMEOUT, Reader};
pub use super::topic_spec::{Actual, Finding, TopicSettings, TopicSpec};
use crate::config::{Config, Secrets};
use crate::labels::Topic;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use std::time::{Duration, Instant};

/// A created topic is known to every broker within this time, or its creation failed.
const CREATION_MAX: Duration = Duration::from_secs(30);
/// Between two looks whether it is known.
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

/// Our topics, as one look found them.
///
/// Empty for a Kafka that is not asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topics {
    /// One for each topic that is turned on.
    pub reports: Vec<TopicReport>,
}

impl Topics {
    /// What the topics allow in bytes; Kafka's default where their settings cannot be read.
    pub(super) fn sizes(&self) -> Sizes {
        let settings = |report: &TopicReport| report.actual.as_ref()?.settings.as_ref()?.max_message_bytes;
        let existing = self.reports.iter().filter(|report| report.actual.is_some());
        let bytes = existing.map(|report| settings(report).unwrap_or(MESSAGE_BYTES_DEFAULT));
        let batch_bytes = bytes.clone().min().unwrap_or(MESSAGE_BYTES_DEFAULT);
        Sizes { batch_bytes, record_bytes: bytes.max().unwrap_or(MESSAGE_BYTES_DEFAULT) }
    }

    /// What works, with a risk.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        self.findings().filter_map(|finding| match finding {
            Finding::Warning(text) => Some(text.as_str()),
            Finding::Mistake(_) => None,
        })
    }

    fn mistakes(&self) -> Vec<&str> {
        let mistake = |finding| match finding {
            &Finding::Mistake(ref text) => Some(text.as_str()),
            &Finding::Warning(_) => None,
        };
        self.findings().filter_map(mistake).collect()
    }

    fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.reports.iter().flat_map(|report| &report.findings)
    }

    fn lacks_one(&self) -> bool {
        self.reports.iter().any(|report| report.actual.is_none())
    }
}

/// Looks at every topic that is turned on. An error when Kafka does not answer within seconds, or refuses us.
pub async fn inspect(config: &Config, secrets: &Secrets) -> Result<Topics, StartError> {
    look(config, secrets, false).await
}

/// Creates what is missing, if the settings allow it, and refuses to start on a mistake; every one is named.
///
/// Waits for a Kafka that does not answer; dropping the future ends that.
pub async fn ensure(config: &Config, secrets: &Secrets) -> Result<Topics, StartError> {
    let mut topics = look(config, secrets, true).await?;
    if config.kafka.create_topics && topics.lacks_one() {
        create(config, secrets, &topics).await?;
        topics = look(config, secrets, true).await?;
    }
    let mistakes = topics.mistakes();
    if mistakes.is_empty() { Ok(topics) } else { Err(StartError::Settings(mistakes.join("\n"))) }
}

async fn look(config: &Config, secrets: &Secrets, patient: bool) -> Result<Topics, StartError> {
    let found = survey(config, secrets, patient).await?;
    let names: Vec<&str> =
        found.iter().filter(|(_, _, shape)| shape.is_some()).map(|(_, name, _)| name.as_str()).collect();
    let settings = settings(config, secrets, &names).await?;
    let report = |(topic, name, shape): (Topic, String, Option<(i32, i32)>)| {
        let wanted = TopicSpec::of(config, topic);
        let actual = shape.map(|(partitions, replicas)| {
            let settings = settings.iter().find(|(of, _)| *of == name).and_then(|(_, settings)| settings.clone());
            Actual { partitions, replicas, settings }
        });
        let findings = wanted.findings(topic, &name, &config.kafka.bootstrap_servers, actual.as_ref());
        TopicReport { topic, name, wanted, actual, findings }
    };
    Ok(Topics { reports: found.into_iter().map(report).collect() })
}

/// Creates the topics that are missing, and waits until they can be written to.
pub async fn create(config: &Config, secrets: &Secrets, topics: &Topics) -> Result<(), StartError> {
    let missing: Vec<&TopicReport> = topics.reports.iter().filter(|report| report.actual.is_none()).collect();
    let settings: Vec<_> = missing.iter().map(|report| report.wanted.creation(report.topic)).collect();
    let topics: Vec<NewTopic<'_>> = missing
        .iter()
        .zip(&settings)
        .map(|(report, settings)| {
            let replication = TopicReplication::Fixed(report.wanted.replication_factor.unwrap_or(-1));
            let topic = NewTopic::new(&report.name, report.wanted.partitions, replication);
            settings.iter().fold(topic, |topic, (key, value)| topic.set(key, value))
        })
        .collect();
    let admin = admin(config, secrets)?;
    let options = AdminOptions::new().request_timeout(Some(ASK_TIMEOUT)).operation_timeout(Some(ASK_TIMEOUT));
    let failed = |name: &str, error: String| StartError::Failed(format!("creating {name}: {error}"));
    let results = admin.create_topics(&topics, &options).await.map_err(|error| failed("topics", error.to_string()))?;
    for result in results {
        match result {
            // Another relay was faster.
            Ok(_) | Err((_, Code::TopicAlreadyExists)) => {}
            Err((name, Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed)) => {
                let acl = format!("--operation Create --topic {name}");
                return Err(client::permission_lacking(config, &format!("create the topic `{name}`"), &acl));
            }
            Err((name, code)) => return Err(failed(&name, code.to_string())),
        }
    }
    let began = Instant::now();
    loop {
        let found = survey(config, secrets, false).await?;
        match found.iter().find(|(_, _, shape)| shape.is_none()) {
            None => return Ok(()),
            Some((_, name, _)) if began.elapsed() > CREATION_MAX => {
                return Err(failed(name, format!("not known to the brokers after {} s", CREATION_MAX.as_secs())));
            }
            Some(_) => tokio::time::sleep(CREATION_LOOK).await,
        }
    }
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

type Survey = Vec<(Topic, String, Option<(i32, i32)>)>;

/// Each topic's partitions and fewest replicas, `None` if it does not exist.
async fn survey(config: &Config, secrets: &Secrets, patient: bool) -> Result<Survey, StartError> {
    let (config, secrets) = (config.clone(), secrets.clone());
    blocking(move |cancel| {
        let reader = Reader::open(&config, &secrets)?;
        let mut told = false;
        let mut found = Vec::new();
        for topic in Topic::ALL {
            let Some(name) = config.kafka.topics.name(topic) else { continue };
            let ask = |_: &mut bool| reader.shape(name, cancel);
            let waiting = |told: &mut bool, detail: &str| {
                if !std::mem::replace(told, true) {
                    tracing::warn!(detail, "kafka unavailable");
                }
            };
            let shape =
                if patient { patiently(cancel, &mut told, ask, waiting)? } else { reader.shape(name, cancel)? };
            found.push((topic, name.to_owned(), shape));
        }
        if told {
            tracing::info!("kafka recovered");
        }
        Ok(found)
    })
    .await
}

/// The settings of existing topics, by name; `None` where we may not read them.
async fn settings(
    config: &Config,
    secrets: &Secrets,
    names: &[&str],
) -> Result<Vec<(String, Option<TopicSettings>)>, StartError> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let admin = admin(config, secrets)?;
    let resources: Vec<_> = names.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
    let options = AdminOptions::new().request_timeout(Some(ASK_TIMEOUT));
    let answers = match admin.describe_configs(&resources, &options).await {
        Ok(answers) => answers,
        Err(KafkaError::AdminOp(code)) if errors::is_denied(code) => Vec::new(),
        Err(error) => return Err(StartError::Failed(format!("reading the topics' settings: {error}"))),
    };
    // Answers come in the order of the questions.
    let mut answers = answers.into_iter();
    Ok(names
        .iter()
        .map(|name| ((*name).to_owned(), answers.next().and_then(Result::ok).map(|answer| read_settings(&answer))))
        .collect())
}

fn read_settings(resource: &ConfigResource) -> TopicSettings {
    let value = |name| resource.get(name).and_then(|entry| entry.value.clone());
    TopicSettings {
        cleanup_policy: value("cleanup.policy"),
        retention_ms: value("retention.ms").and_then(|value| value.parse().ok()),
        retention_bytes: value("retention.bytes").and_then(|value| value.parse().ok()),
        min_insync_replicas: value("min.insync.replicas").and_then(|value| value.parse().ok()),
        max_message_bytes: value("max.message.bytes").and_then(|value| value.parse().ok()),
    }
}

fn admin(config: &Config, secrets: &Secrets) -> Result<AdminClient<Context>, StartError> {
    AdminClient::from_config_and_context(&client::base(config, secrets), Context::default())
        .map_err(|error| StartError::Settings(format!("kafka.options: {error}")))
}

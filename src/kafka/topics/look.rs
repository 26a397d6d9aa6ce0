//! One look at the topics: their partitions from the brokers' metadata, their settings by DescribeConfigs.

use super::create::{create, trouble};
use super::report::{TopicReport, Topics};
use super::spec::{Actual, TopicSettings, TopicSpec};
use crate::config::{Config, Secrets};
use crate::kafka::blocking::{Aside, AskError, Cancel, RETRY_AFTER, blocking, patiently};
use crate::kafka::cause::Cause;
use crate::kafka::client::{self, Context, Sizes};
use crate::kafka::diagnosis;
use crate::kafka::errors::{self, StartError};
use crate::kafka::scan::{ASK_TIMEOUT, Reader, Shape};
use crate::labels::Topic;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::KafkaError;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{TryRecvError, channel};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// The clients of a look, connected as soon as they are made, so that each is there when it is asked.
pub(super) struct Look {
    reader: Arc<Reader>,
    admin: Aside<AdminClient<Context>>,
}

type Survey = Vec<(Topic, String, Option<Shape>)>;

/// Bound on reading the sizes again, which only spares a new producer a refusal.
const SIZES_WITHIN: Duration = Duration::from_secs(3);
/// Between two looks whether they are read.
const SIZES_LOOK: Duration = Duration::from_millis(10);
/// Between two looks whether a topic is known.
pub(super) const CREATION_LOOK: Duration = Duration::from_millis(100);
/// A created topic is known to every broker within this time, or its creation failed.
const CREATION_MAX: Duration = Duration::from_secs(30);

impl Look {
    pub(super) fn begin(config: &Config, secrets: &Secrets) -> Result<Self, StartError> {
        Ok(Self { admin: admin(config, secrets)?, reader: Arc::new(Reader::open(config, secrets)?) })
    }

    /// Looks once; a `patient` one waits for a Kafka that does not answer.
    pub(super) async fn once(&self, config: &Config, patient: bool) -> Result<Topics, StartError> {
        let mut waiting = Waiting::default();
        loop {
            match self.try_once(config, patient).await {
                Err(AskError::Away(detail)) if patient => waiting = waiting.go_on(config, detail).await?,
                answer => return answer.inspect(|_| waiting.end()).map_err(StartError::from),
            }
        }
    }

    async fn try_once(&self, config: &Config, patient: bool) -> Result<Topics, AskError> {
        let found = survey(&self.reader, config, patient).await?;
        let existing = found.iter().filter(|(_, _, shape)| shape.is_some());
        let names: Vec<&str> = existing.map(|(_, name, _)| name.as_str()).collect();
        let mut settings = settings(&self.admin, &names).await?.into_iter();
        let report = |(topic, name, shape): (Topic, String, Option<Shape>)| {
            let wanted = TopicSpec::of(config, topic);
            let actual = shape.map(|Shape { partitions, replicas, offline }| {
                // In the order of the questions.
                let settings = settings.next().flatten();
                Actual { partitions, replicas, offline, settings }
            });
            let findings = wanted.findings(topic, &name, &config.kafka.bootstrap_servers, actual.as_ref());
            TopicReport { topic, name, wanted, actual, findings }
        };
        Ok(Topics { reports: found.into_iter().map(report).collect(), ..Topics::default() })
    }

    /// Creates the topics that are missing in `topics`, and looks until they are known; gives a warning for each that was
    /// created without a setting.
    pub(super) async fn complete(
        &self,
        config: &Config,
        topics: &mut Topics,
        patient: bool,
    ) -> Result<Vec<String>, StartError> {
        let mut waiting = Waiting::default();
        let left_out = loop {
            // Also after a request that was not answered in time: it may have been carried out.
            if topics.missing().next().is_none() {
                waiting.end();
                return Ok(Vec::new());
            }
            match create(&self.admin, config, topics).await {
                Err(AskError::Away(detail)) if patient => waiting = waiting.go_on(config, detail).await?,
                answer => break answer?,
            }
            *topics = self.once(config, patient).await?;
        };
        waiting.end();
        let began = Instant::now();
        loop {
            *topics = self.once(config, patient).await?;
            let Some(report) = topics.missing().next() else { return Ok(left_out) };
            if began.elapsed() > CREATION_MAX {
                let name = &report.name;
                let seconds = CREATION_MAX.as_secs();
                return Err(StartError::Failed(format!(
                    "creating {name}: not known to the brokers after {seconds} s; see their logs"
                )));
            }
            tokio::time::sleep(CREATION_LOOK).await;
        }
    }
}

/// A wait for a Kafka that does not answer: it is logged once, and once for each cause that is found meanwhile.
#[derive(Debug, Default)]
struct Waiting {
    told: BTreeSet<Option<Cause>>,
}

impl Waiting {
    /// Kafka did not answer, because of `detail`. Blocking: it looks for the cause.
    fn tell(&mut self, config: &Config, detail: &str) {
        let cause = Cause::of(detail);
        if (self.told.is_empty() || cause.is_some()) && self.told.insert(cause) {
            let detail = diagnosis::bettered(config, detail);
            let remedy = Cause::of(&detail).map(Cause::remedy);
            tracing::warn!(detail, remedy, "kafka unavailable");
        }
    }

    /// [`Self::tell`], and then the time until the next attempt.
    async fn go_on(mut self, config: &Config, detail: String) -> Result<Self, StartError> {
        let config = config.clone();
        blocking(move |cancel| {
            self.tell(&config, &detail);
            cancel.wait(RETRY_AFTER)?;
            Ok(self)
        })
        .await
    }

    /// Kafka answered.
    fn end(&self) {
        if !self.told.is_empty() {
            tracing::info!("kafka recovered");
        }
    }
}

impl Topics {
    /// The same for a producer that is made: as the look found them the first time, and after that read again, since a
    /// limit may have been raised. Where that fails they stay as they were.
    ///
    /// Blocking, on a thread of the runtime's.
    pub(in crate::kafka) fn sizes_now(&mut self, config: &Config, secrets: &Secrets, cancel: &Cancel) -> Sizes {
        if std::mem::replace(&mut self.used, true)
            && !self.reports.is_empty()
            && let Err(trouble) = self.read_sizes_again(config, secrets, cancel)
        {
            tracing::debug!(?trouble, "the topics' sizes could not be read again");
        }
        self.sizes()
    }

    /// Reads the topics' settings again; where Kafka does not answer, or nobody waits any more, they stay as they were.
    fn read_sizes_again(&mut self, config: &Config, secrets: &Secrets, cancel: &Cancel) -> Result<(), AskError> {
        let admin = admin(config, secrets)?;
        let names: Vec<String> = self.reports.iter().map(|report| report.name.clone()).collect();
        let (sender, answer) = channel();
        let asking = Handle::current().spawn(async move {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let read = settings(&admin, &names).await;
            // The one that asked may have given up.
            drop(sender.send(read));
        });
        let began = Instant::now();
        let read = loop {
            match answer.try_recv() {
                Ok(read) => break read?,
                Err(TryRecvError::Empty) if began.elapsed() <= SIZES_WITHIN => {
                    cancel.wait(SIZES_LOOK).inspect_err(|_| asking.abort())?;
                }
                Err(_) => {
                    asking.abort();
                    return Err(AskError::Away("the topics' settings cannot be had".to_owned()));
                }
            }
        };
        for (report, settings) in self.reports.iter_mut().zip(read) {
            if let Some(actual) = &mut report.actual {
                actual.settings = settings.or(actual.settings.take());
            }
        }
        Ok(())
    }
}

/// Each topic's shape; `None` if it does not exist.
async fn survey(reader: &Arc<Reader>, config: &Config, patient: bool) -> Result<Survey, StartError> {
    let reader = Arc::clone(reader);
    let config = config.clone();
    blocking(move |cancel| {
        let mut waiting = Waiting::default();
        let mut found = Vec::new();
        for topic in Topic::ALL {
            let Some(name) = config.kafka.topics.name(topic) else { continue };
            let ask = |_: &mut Waiting| reader.shape(name, cancel);
            let tell = |waiting: &mut Waiting, detail: &str| waiting.tell(&config, detail);
            let shape =
                if patient { patiently(cancel, &mut waiting, ask, tell)? } else { reader.shape(name, cancel)? };
            found.push((topic, name.to_owned(), shape));
        }
        waiting.end();
        Ok(found)
    })
    .await
}

/// The settings of existing topics, in the order of `names`; `None` where we may not read them.
pub(super) async fn settings(
    admin: &AdminClient<Context>,
    names: &[&str],
) -> Result<Vec<Option<TopicSettings>>, AskError> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let resources: Vec<_> = names.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
    let options = AdminOptions::new().request_timeout(Some(ASK_TIMEOUT));
    let answers = match admin.describe_configs(&resources, &options).await {
        Ok(answers) => answers,
        Err(KafkaError::AdminOp(code)) if errors::is_denied(code) => Vec::new(),
        Err(error) => return Err(trouble(admin, "reading the topics' settings", &error)),
    };
    // Answers come in the order of the questions.
    let mut answers = answers.into_iter();
    // The wrapper gives an answer without entries for a topic whose settings we may not read.
    let told = |answer: &ConfigResource| !answer.entries.is_empty();
    Ok(names.iter().map(|_| answers.next().and_then(Result::ok).filter(told).map(|answer| read(&answer))).collect())
}

fn read(resource: &ConfigResource) -> TopicSettings {
    let value = |name| resource.get(name).and_then(|entry| entry.value.clone());
    TopicSettings {
        cleanup_policy: value("cleanup.policy"),
        retention_ms: value("retention.ms").and_then(|value| value.parse().ok()),
        min_insync_replicas: value("min.insync.replicas").and_then(|value| value.parse().ok()),
        max_message_bytes: value("max.message.bytes").and_then(|value| value.parse().ok()),
        min_compaction_lag_ms: value("min.compaction.lag.ms").and_then(|value| value.parse().ok()),
    }
}

pub(super) fn admin(config: &Config, secrets: &Secrets) -> Result<Aside<AdminClient<Context>>, StartError> {
    AdminClient::from_config_and_context(&client::base(config, secrets), Context::of(secrets))
        .map(Aside::new)
        .map_err(|error| StartError::Settings(format!("kafka.options: {error}")))
}

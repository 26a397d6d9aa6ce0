//! Creates the missing topics with what the broker allows.
//!
//! A broker may have a policy for new topics (KIP-108) that refuses single settings: hosted ones refuse small segments, for
//! one. What the relay only prefers is then left out. Which settings are refused is found by asking with `validate_only`,
//! since the broker's words are not to be relied on.

use super::report::{TopicReport, Topics};
use crate::config::Config;
use crate::kafka::blocking::AskError;
use crate::kafka::client::{self, Context};
use crate::kafka::errors::{self, Class, StartError};
use crate::kafka::scan::ASK_TIMEOUT;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// A setting of a new topic.
type Entry = (&'static str, String);

/// Creates the topics that are missing, and gives a warning for each of which settings were left out. They may be known to
/// every broker only later.
///
/// # Errors
///
/// When Kafka does not answer within seconds, or refuses: the permission that is missing is named, or, where the broker's
/// policy refuses the topics themselves, the command that creates each of them.
pub(super) async fn create(
    admin: &AdminClient<Context>,
    config: &Config,
    topics: &Topics,
) -> Result<Vec<String>, AskError> {
    let missing: Vec<&TopicReport> = topics.missing().collect();
    let entries: Vec<Vec<Entry>> = missing.iter().map(|report| report.wanted.creation(report.topic)).collect();
    let made = ask(admin, &missing, &entries, false).await?;
    let mut warnings = Vec::new();
    for ((report, entries), code) in missing.iter().zip(&entries).zip(made) {
        let Some(code) = code else { continue };
        if !matches!(code, Code::PolicyViolation | Code::InvalidConfig) {
            return Err(refused(admin, config, report, code).into());
        }
        let allowed = allowed(admin, report, entries).await?;
        let code = match &allowed {
            Some(allowed) => create_one(admin, report, allowed, false).await?,
            None => Some(code),
        };
        match (code, allowed) {
            (None, Some(allowed)) => warnings.push(left_out(&report.name, entries, &allowed)),
            _ => return Err(StartError::Settings(by_hand(config, &missing)).into()),
        }
    }
    Ok(warnings)
}

/// The settings that the broker lets this topic have, or nothing where it refuses what the topic cannot do without.
async fn allowed(
    admin: &AdminClient<Context>,
    report: &TopicReport,
    entries: &[Entry],
) -> Result<Option<Vec<Entry>>, AskError> {
    let is_required = |(key, _): &&Entry| report.wanted.requires(key);
    let mut allowed: Vec<Entry> = entries.iter().filter(is_required).cloned().collect();
    if create_one(admin, report, &allowed, true).await?.is_some() {
        return Ok(None);
    }
    for entry in entries.iter().filter(|entry| !report.wanted.requires(entry.0)) {
        allowed.push(entry.clone());
        if create_one(admin, report, &allowed, true).await?.is_some() {
            allowed.pop();
        }
    }
    Ok(Some(allowed))
}

async fn create_one(
    admin: &AdminClient<Context>,
    report: &TopicReport,
    entries: &[Entry],
    validate_only: bool,
) -> Result<Option<Code>, AskError> {
    let made = ask(admin, &[report], &[entries.to_vec()], validate_only).await?;
    Ok(made.into_iter().next().flatten())
}

/// Asks for these topics at once; each topic's refusal, in their order. One that is there already is as good as created:
/// another relay was faster.
async fn ask(
    admin: &AdminClient<Context>,
    reports: &[&TopicReport],
    entries: &[Vec<Entry>],
    validate_only: bool,
) -> Result<Vec<Option<Code>>, AskError> {
    let topics: Vec<NewTopic<'_>> = reports
        .iter()
        .zip(entries)
        .map(|(report, entries)| {
            let replication = TopicReplication::Fixed(report.wanted.replication_factor.unwrap_or(-1));
            let topic = NewTopic::new(&report.name, report.wanted.partitions, replication);
            entries.iter().fold(topic, |topic, (key, value)| topic.set(key, value))
        })
        .collect();
    let options = AdminOptions::new().request_timeout(Some(ASK_TIMEOUT)).operation_timeout(Some(ASK_TIMEOUT));
    let results = admin.create_topics(&topics, &options.validate_only(validate_only)).await;
    let results = results.map_err(|error| trouble(admin, "creating topics", &error))?;
    let refusals: Vec<(String, Code)> = results.into_iter().filter_map(Result::err).collect();
    let of = |report: &&TopicReport| {
        let refusal = refusals.iter().find(|(name, _)| *name == report.name).map(|(_, code)| *code);
        refusal.filter(|code| *code != Code::TopicAlreadyExists)
    };
    Ok(reports.iter().map(of).collect())
}

/// Why a request of `admin` was not answered: where Kafka is away, with librdkafka's words for it.
pub(super) fn trouble(admin: &AdminClient<Context>, what: &str, error: &KafkaError) -> AskError {
    let text = format!("{what}: {error}");
    match error {
        KafkaError::AdminOp(code) if errors::classify(*code) == Class::Retry && !errors::is_denied(*code) => {
            AskError::Away(admin.inner().context().away(&text))
        }
        _ => AskError::Start(StartError::Failed(text)),
    }
}

fn refused(admin: &AdminClient<Context>, config: &Config, report: &TopicReport, code: Code) -> StartError {
    let name = &report.name;
    match code {
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            let acl = format!("--operation Create --topic {name}");
            client::permission_lacking(config, admin.inner().context(), &format!("create the topic `{name}`"), &acl)
        }
        Code::InvalidReplicationFactor => StartError::Settings(format!(
            "creating {name}: {code}; set kafka.replication_factor to at most the number of brokers"
        )),
        _ => StartError::Failed(format!("creating {name}: {code}")),
    }
}

fn left_out(name: &str, entries: &[Entry], allowed: &[Entry]) -> String {
    let refused = entries.iter().filter(|entry| !allowed.contains(entry));
    let refused: Vec<String> = refused.map(|(key, value)| format!("{key}={value}")).collect();
    format!(
        "{name} was created without {}: the broker's policy refuses it; the relay works without, and reads more at a start",
        refused.join(", ")
    )
}

/// A command for each topic that does not exist.
fn by_hand(config: &Config, missing: &[&TopicReport]) -> String {
    let mut text =
        "the broker's policy for new topics (create.topic.policy.class.name) does not let the relay create its \
                    topics; have an administrator run:"
            .to_owned();
    for report in missing {
        text.push('\n');
        text.push_str(&report.wanted.command(report.topic, &report.name, &config.kafka.bootstrap_servers));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_names_what_was_left_out() {
        let entry = |key, value: &str| (key, value.to_owned());
        let all = [entry("cleanup.policy", "compact"), entry("segment.ms", "1"), entry("segment.bytes", "2")];
        let text = left_out("t", &all, &all[..1]);
        assert!(text.starts_with("t was created without segment.ms=1, segment.bytes=2: "), "{text}");
    }
}

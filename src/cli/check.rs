//! `check`: checks the settings, then reaches everything they name; a line each, with its remedy.

use super::args::Global;
use super::output::{Mark, Output};
use super::topics::{actual as shape, verdict};
use super::{Context, wait_for};
use crate::config::{self, AccountSecrets, Config, Secrets};
use crate::daemon;
use crate::exit::Exit;
use crate::kafka;
use crate::kafka::diagnosis::explained;
use crate::kafka::errors::StartError;
use crate::kafka::group::{Observer, View};
use crate::kafka::topics::{self, TopicReport, inspect};
use crate::listener::descriptors;
use crate::provider::page::decode_page;
use crate::registry::Registry;
use crate::text::foreign;
use clap::Args;
use serde::Serialize;
use std::fmt::Display;

/// Arguments of `check`.
#[derive(Args, Debug)]
pub struct Check {
    /// Check only the settings; connect to nothing
    #[arg(long)]
    pub offline: bool,
}

/// Width of the column of subjects.
const SUBJECT_WIDTH: usize = "orders_latest".len();

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    verdict: Mark,
    /// What was looked at: `settings`, `availability`, `event log`, `stream`, `kafka`, `registry`, or a topic's key.
    subject: &'static str,
    /// Whose way to the provider it is, where accounts have names.
    #[serde(skip_serializing_if = "String::is_empty")]
    account: String,
    /// What was found.
    message: String,
    /// What to do about it; none when nothing needs doing.
    remedy: Option<&'static str>,
}

impl Finding {
    fn ok(subject: &'static str, message: impl Into<String>) -> Self {
        Self { verdict: Mark::Ok, subject, account: String::new(), message: message.into(), remedy: None }
    }

    fn warning(subject: &'static str, message: impl Into<String>) -> Self {
        Self { verdict: Mark::Warning, subject, account: String::new(), message: message.into(), remedy: None }
    }

    fn wrong(subject: &'static str, message: impl Display, remedy: &'static str) -> Self {
        Self {
            verdict: Mark::Wrong,
            subject,
            account: String::new(),
            message: message.to_string(),
            remedy: Some(remedy).filter(|remedy| !remedy.is_empty()),
        }
    }

    /// The same, of an account.
    fn of(&self, account: &str) -> Self {
        Self { account: account.to_owned(), ..self.clone() }
    }

    /// `✗ event log     account: what was found; what to do`.
    fn line(&self, colour: bool) -> String {
        let Self { verdict, subject, account, message, remedy } = self;
        let of = if account.is_empty() { String::new() } else { format!("{account}: ") };
        let mut line = format!("{} {subject:SUBJECT_WIDTH$}  {of}{message}", verdict.mark(colour));
        if let Some(remedy) = remedy {
            line.push_str("; ");
            line.push_str(remedy);
        }
        line
    }
}

/// Runs the checks that were asked for.
///
/// # Errors
///
/// Status 78 and every mistake when the settings are wrong; 1 when anything that was reached is.
pub(super) fn run(arguments: &Check, global: &Global, output: Output) -> Result<(), Exit> {
    let settings = super::settings_for_command(global)?;
    let wanted = global.account.as_deref();
    // One that is not there is wrong usage, whatever else is checked.
    if wanted.is_some() {
        super::account::chosen(&settings.config.accounts, wanted)?;
    }
    let mut report = Report { output, account: String::new(), wrong: 0 };
    report.settings(&settings)?;
    if !arguments.offline {
        for account in settings.secrets.accounts.iter().filter(|of| wanted.is_none_or(|wanted| of.name == wanted)) {
            report.account.clone_from(&account.name);
            wait_for(report.provider(&settings, account))?;
        }
        report.account.clear();
        wait_for(report.kafka(&settings))?;
        wait_for(report.registry(&settings))?;
    }
    match report.wrong {
        0 => Ok(()),
        1 => Err(Exit::failed("1 thing is wrong")),
        wrong => Err(Exit::failed(format!("{wrong} things are wrong"))),
    }
}

/// Prints each finding as soon as it is made: reaching a dead host takes its time, and nobody should wait in the dark.
struct Report {
    output: Output,
    /// Whose ways to the provider are tried, where accounts have names.
    account: String,
    wrong: usize,
}

impl Report {
    fn tell(&mut self, finding: &Finding) -> Result<(), Exit> {
        let finding = &finding.of(&self.account);
        self.wrong += usize::from(finding.verdict == Mark::Wrong);
        if self.output.is_json() {
            self.output.json(finding)?;
        } else {
            self.output.line(finding.line(self.output.colour()))?;
        }
        Ok(())
    }

    fn settings(&mut self, settings: &Context) -> Result<(), Exit> {
        let Context { config, warnings, sources, .. } = settings;
        let place =
            sources.file.as_ref().map_or("environment and defaults".to_owned(), |file| file.display().to_string());
        let environment = config.provider.environment.as_str();
        self.tell(&Finding::ok("settings", format!("{place}: `{}` for {environment}", config.name)))?;
        warnings.iter().try_for_each(|warning| self.tell(&Finding::warning("settings", warning.to_string())))?;
        shortage(&config.webhook).map_or(Ok(()), |shortage| self.tell(&Finding::warning("settings", shortage)))
    }

    async fn provider(&mut self, settings: &Context, account: &AccountSecrets) -> Result<(), Exit> {
        let Context { config, secrets, .. } = settings;
        let reach = daemon::Reach::new(config, account.api_key.clone(), secrets.proxies.clone())?;
        let availability = match reach.rest.commerce_status().await {
            Ok(answer) if answer.view.status == "available" => Finding::ok("availability", &config.provider.api_url),
            Ok(answer) => Finding::warning(
                "availability",
                format!("{}: the provider says `{}`", config.provider.api_url, foreign(&answer.view.status)),
            ),
            Err(error) => Finding::wrong("availability", error, REMEDY_PROVIDER),
        };
        self.tell(&availability)?;
        let event_log = match reach.rest.events(None, 1).await.map(|page| decode_page(&page)) {
            Ok(Ok(page)) => match page.events.first().and_then(|newest| newest.id.as_deref()) {
                Some(id) => Finding::ok("event log", format!("newest is {}", foreign(id))),
                None => Finding::ok("event log", "empty"),
            },
            Ok(Err(place)) => {
                Finding::wrong("event log", format!("not the documented page ({place})"), REMEDY_PROVIDER)
            }
            Err(error) => Finding::wrong("event log", error, REMEDY_PROVIDER),
        };
        self.tell(&event_log)?;
        if !config.websocket.enabled {
            return self.tell(&Finding::ok("stream", "turned off by `websocket.enabled`"));
        }
        let stream = match reach.dialer(config).probe().await {
            Ok(()) => Finding::ok("stream", &config.provider.websocket_url),
            Err(error) => {
                let remedy = stream_remedy(&error);
                Finding::wrong("stream", error, remedy)
            }
        };
        self.tell(&stream)
    }

    /// Registers nothing.
    async fn registry(&mut self, settings: &Context) -> Result<(), Exit> {
        let config = &settings.config;
        let Some(registry) = Registry::of(config).map_err(Exit::settings)? else { return Ok(()) };
        self.tell(&match registry.look().await {
            Ok(()) => Finding::ok("registry", config.kafka.schema_registry_url.clone().unwrap_or_default()),
            Err(error) => Finding::wrong("registry", &error, error.remedy()),
        })
    }

    async fn kafka(&mut self, settings: &Context) -> Result<(), Exit> {
        let Context { config, secrets, .. } = settings;
        let topics = match inspect(config, secrets).await {
            Ok(topics) => topics,
            Err(error) => {
                let error = explained(config, secrets, &error, Vec::new()).await;
                return self.tell(&Finding::wrong("kafka", error, ""));
            }
        };
        let known = topics.known();
        let written =
            topics.reports.iter().filter(|report| report.actual.is_some()).map(|report| report.topic).collect();
        let reports = topics.reports;
        self.tell(&Finding::ok("kafka", &config.kafka.bootstrap_servers))?;
        reports.iter().try_for_each(|report| {
            let missing = report.actual.is_none() && config.kafka.create_topics;
            let name = &report.name;
            self.tell(&match missing {
                true => Finding::warning(report.topic.as_str(), format!("{name} does not exist yet; `run` creates it")),
                false => topic(report),
            })
        })?;
        let permissions = match kafka::probe::permissions(config, secrets, written).await {
            Ok(Some(quota)) => Finding::warning("transactions", quota),
            Ok(None) => Finding::ok("permissions", "every topic that exists may be written to in transactions"),
            Err(error @ StartError::Failed(_)) => {
                Finding::wrong("transactions", explained(config, secrets, &error, known).await, "")
            }
            Err(error) => Finding::wrong("permissions", error, ""),
        };
        self.tell(&permissions)?;
        if config.cluster.enabled {
            self.group(config, secrets).await?;
        }
        Ok(())
    }

    /// The group that shares the shards, without joining it.
    async fn group(&mut self, config: &Config, secrets: &Secrets) -> Result<(), Exit> {
        let seen = match Observer::new(config, secrets) {
            Ok(observer) => observer.look().await,
            Err(error) => Err(error),
        };
        self.tell(&match seen {
            Ok(View { nodes, .. }) => Finding::ok("group", format!("{} with {} node(s)", config.name, nodes.len())),
            Err(error) => Finding::wrong("group", error, REMEDY_GROUP),
        })
    }
}

/// A sentence, with its remedy, where file descriptors do not allow the places that the settings want.
pub(super) fn shortage(webhook: &config::Webhook) -> Option<String> {
    let limit = descriptors::limit().ok().filter(|_| webhook.enabled)?;
    let wanted = webhook.connections_max;
    let places = descriptors::places(webhook.connections_max, limit);
    (places < wanted).then(|| {
        format!(
            "webhook.connections_max: {wanted} connections do not fit under the limit of {limit} open files, so that \
             {places} have a place; raise the limit (LimitNOFILE= of the unit, ulimit -Hn), or lower the setting"
        )
    })
}

const REMEDY_GROUP: &str = "allow --operation Read --operation Describe --group NAME, the relay's name";
const REMEDY_PROVIDER: &str = "see that the key is of this environment, and that this host may reach the provider";
const REMEDY_STREAM: &str = "see that a proxy on the way lets WebSockets through";

/// What to do about a stream that takes no connection, by what the upgrade was answered.
pub(super) fn stream_remedy(error: &str) -> &'static str {
    match error.strip_prefix("HTTP ").and_then(|rest| rest.get(..3)) {
        Some("401" | "403") => REMEDY_PROVIDER,
        Some("429") => "end other connections of this key, or try again later",
        Some("500" | "502" | "503" | "504") => "the trouble is the provider's: try again later",
        _ => REMEDY_STREAM,
    }
}

/// One topic's line: everything that is wrong with it, each part with its own remedy.
fn topic(report: &TopicReport) -> Finding {
    let findings: Vec<&str> = report
        .findings
        .iter()
        .map(|f| match f {
            topics::Finding::Mistake(text) | topics::Finding::Warning(text) => text.as_str(),
        })
        .collect();
    let message = match (&report.actual, findings.as_slice()) {
        (Some(actual), []) => format!("{}: {}", report.name, shape(actual)),
        _ => findings.join("; "),
    };
    Finding { verdict: verdict(report), ..Finding::ok(report.topic.as_str(), message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_mark_subject_and_remedy() {
        let lines = [
            Finding::ok("settings", "relay.toml: `pepay-relay` for devnet"),
            Finding::warning("settings", "one replica"),
            Finding::wrong("stream", "connection refused", REMEDY_STREAM),
        ]
        .map(|finding| finding.line(false))
        .join("\n");
        insta::assert_snapshot!(lines, @"
        ✓ settings       relay.toml: `pepay-relay` for devnet
        ! settings       one replica
        ✗ stream         connection refused; see that a proxy on the way lets WebSockets through
        ");
    }

    #[test]
    fn a_topic_shows_everything_that_is_wrong_with_it() {
        use crate::cli::topics::tests::report;
        let mistake = topics::Finding::Mistake("cleanup.policy is delete; set it to compact".to_owned());
        let warning = topics::Finding::Warning("one replica; a lost disk loses it".to_owned());
        let both = topic(&report(&[mistake, warning]));
        assert_eq!(both.verdict, Mark::Wrong);
        assert!(both.message.contains("set it to compact") && both.message.contains("one replica"));
        let fine = topic(&report(&[]));
        assert_eq!(fine.line(false), "✓ orders         pepay.orders: 6 partitions, delete, 1 replica, 7d");
    }
}

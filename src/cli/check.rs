//! `check`: judges the settings, then reaches everything they name; a line each, with its remedy.

use super::args::{self, Global};
use super::output::{Output, Verdict};
use super::{Settings, topics, wait_for};
use crate::daemon;
use crate::exit::Exit;
use crate::kafka;
use crate::kafka::topics::TopicReport;
use crate::provider::page::decode_page;
use crate::telemetry::foreign;
use serde::Serialize;
use std::fmt::Display;

/// Width of the column of subjects.
const SUBJECT_WIDTH: usize = "availability".len();

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    verdict: Verdict,
    /// What was looked at: `settings`, `availability`, `event log`, `stream`, `kafka`, or a topic's key.
    subject: &'static str,
    /// What was found.
    message: String,
    /// What to do about it; none when nothing needs doing.
    remedy: Option<&'static str>,
}

impl Finding {
    fn ok(subject: &'static str, message: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, subject, message: message.into(), remedy: None }
    }

    fn warning(subject: &'static str, message: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warning, subject, message: message.into(), remedy: None }
    }

    fn wrong(subject: &'static str, message: impl Display, remedy: &'static str) -> Self {
        Self { verdict: Verdict::Wrong, subject, message: message.to_string(), remedy: Some(remedy) }
    }

    /// `✗ event log     what was found; what to do`.
    fn line(&self, colour: bool) -> String {
        let Self { verdict, subject, message, remedy } = self;
        let mut line = format!("{} {subject:SUBJECT_WIDTH$}  {message}", verdict.mark(colour));
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
pub(super) fn run(arguments: &args::Check, global: &Global, output: Output) -> Result<(), Exit> {
    let settings = super::settings_for_command(global)?;
    let mut report = Report { output, wrong: 0 };
    report.settings(&settings)?;
    if !arguments.offline {
        wait_for(async {
            report.provider(&settings).await?;
            report.kafka(&settings).await
        })?;
    }
    match report.wrong {
        0 => Ok(()),
        1 => Err(Exit::failed("1 thing is wrong")),
        wrong => Err(Exit::failed(format!("{wrong} things are wrong"))),
    }
}

/// Tells each finding as it is made: reaching a dead host takes its time, and nobody should wait in the dark.
struct Report {
    output: Output,
    wrong: usize,
}

impl Report {
    fn tell(&mut self, finding: &Finding) -> Result<(), Exit> {
        self.wrong += usize::from(finding.verdict == Verdict::Wrong);
        if self.output.is_json() {
            self.output.json(finding)?;
        } else {
            self.output.line(finding.line(self.output.colour()))?;
        }
        Ok(())
    }

    fn settings(&mut self, settings: &Settings) -> Result<(), Exit> {
        let Settings { config, warnings, place, .. } = settings;
        let environment = config.provider.environment.as_str();
        self.tell(&Finding::ok("settings", format!("{place}: `{}` for {environment}", config.name)))?;
        warnings.iter().try_for_each(|warning| self.tell(&Finding::warning("settings", warning.to_string())))
    }

    async fn provider(&mut self, settings: &Settings) -> Result<(), Exit> {
        let Settings { config, secrets, .. } = settings;
        let reach = daemon::Reach::new(config, secrets)?;
        let availability = match reach.rest.commerce_status().await {
            Ok(status) => {
                Finding::ok("availability", format!("{}: {}", config.provider.api_url, foreign(&status.status)))
            }
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
        if !config.stream.enabled {
            return self.tell(&Finding::ok("stream", "turned off by `stream.enabled`"));
        }
        let stream = match reach.stream(config).await {
            Ok(()) => Finding::ok("stream", format!("{}: connected", config.provider.stream_url)),
            Err(error) => Finding::wrong("stream", error, REMEDY_STREAM),
        };
        self.tell(&stream)
    }

    async fn kafka(&mut self, settings: &Settings) -> Result<(), Exit> {
        let Settings { config, secrets, .. } = settings;
        let reports = match kafka::topics::inspect(config, secrets).await {
            Ok(reports) => reports,
            Err(error) => return self.tell(&Finding::wrong("kafka", error, REMEDY_KAFKA)),
        };
        self.tell(&Finding::ok("kafka", format!("{}: reached", config.kafka.bootstrap_servers)))?;
        for report in &reports {
            self.tell(&topic(report))?;
        }
        let permissions = match kafka::probe::transactions(config, secrets).await {
            Ok(()) => Finding::ok("permissions", "may write transactions"),
            Err(error) => Finding::wrong("permissions", error, REMEDY_KAFKA),
        };
        self.tell(&permissions)
    }
}

const REMEDY_PROVIDER: &str = "see that the key is of this environment, and that this host may reach the provider";
const REMEDY_STREAM: &str = "see that a proxy on the way lets WebSockets through";
const REMEDY_KAFKA: &str = "see `kafka.bootstrap_servers`, the credentials, and the ACLs";

/// One topic's line: everything that is wrong with it, each part with its own remedy.
fn topic(report: &TopicReport) -> Finding {
    let subject = report.topic.as_str();
    let notes: Vec<&str> = report.findings.iter().map(topics::sentence).collect();
    let message = match (notes.as_slice(), &report.actual) {
        ([], Some(actual)) => format!("{}: {}", report.name, topics::actual(actual)),
        (notes, _) => notes.join("; "),
    };
    let verdict = topics::verdict(report);
    Finding { verdict, subject, message, remedy: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Environment};
    use crate::kafka::Topic;
    use crate::kafka::topics::{self, Actual, TopicSettings, Wanted};

    #[test]
    fn a_line_has_mark_subject_and_remedy() {
        let lines = [
            Finding::ok("settings", "relay.toml: `pepay-relay` for devnet"),
            Finding::warning("settings", "one replica"),
            Finding::wrong("stream", "connection refused", REMEDY_STREAM),
        ]
        .map(|finding| finding.line(false))
        .join("\n");
        insta::assert_snapshot!(lines, @"");
    }

    #[test]
    fn a_topic_shows_everything_that_is_wrong_with_it() {
        let mistake = topics::Finding::Mistake("cleanup.policy is delete; set it to compact".to_owned());
        let warning = topics::Finding::Warning("one replica; a lost disk loses it".to_owned());
        let settings = TopicSettings { cleanup_policy: Some("compact".to_owned()), ..TopicSettings::default() };
        let mut report = TopicReport {
            topic: Topic::OrdersLatest,
            name: "pepay.orders.latest".to_owned(),
            wanted: Wanted::of(&Config::minimal(Environment::Devnet, "localhost:9092"), Topic::OrdersLatest),
            actual: Some(Actual { partitions: 6, replicas: 1, settings: Some(settings) }),
            findings: vec![mistake, warning],
        };
        let wrong = topic(&report);
        assert_eq!(wrong.verdict, Verdict::Wrong);
        assert!(wrong.message.contains("set it to compact") && wrong.message.contains("one replica"));
        report.findings.remove(0);
        assert_eq!(topic(&report).verdict, Verdict::Warning);
        report.findings.clear();
        assert_eq!(topic(&report).verdict, Verdict::Ok);
    }
}

//! `check`: judges the settings, then reaches everything they name; a line each, with its remedy.

use super::args::{self, Global};
use super::output::{Output, Verdict};
use super::seams::kafka::topics::TopicReport;
use super::seams::{kafka, provider};
use super::{Settings, topics, wait_for};
use crate::exit::Exit;
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
        wait_for(report.provider(&settings))?;
        report.kafka(&settings)?;
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
        let Settings { config, warnings, file, .. } = settings;
        let place = file.as_ref().map_or("environment and defaults".to_owned(), |file| file.display().to_string());
        let environment = config.provider.environment.as_str();
        self.tell(&Finding::ok("settings", format!("{place}: `{}` for {environment}", config.name)))?;
        warnings.iter().try_for_each(|warning| self.tell(&Finding::warning("settings", warning)))
    }

    async fn provider(&mut self, settings: &Settings) -> Result<(), Exit> {
        let Settings { config, secrets, .. } = settings;
        let rest = provider::rest::Rest::new(&config.provider, &secrets.api_key)
            .map_err(|error| Exit::failed(format!("cannot set up TLS: {error}")))?;
        let availability = match rest.commerce_status().await {
            Ok(status) => Finding::ok("availability", format!("{}: {status}", config.provider.api_url)),
            Err(error) => Finding::wrong("availability", error, REMEDY_PROVIDER),
        };
        self.tell(&availability)?;
        let event_log = match rest.newest_events(1).await {
            Ok(newest) => Finding::ok("event log", newest.map_or("empty".to_owned(), |id| format!("newest is {id}"))),
            Err(error) => Finding::wrong("event log", error, REMEDY_PROVIDER),
        };
        self.tell(&event_log)?;
        if !config.stream.enabled {
            return self.tell(&Finding::ok("stream", "turned off by `stream.enabled`"));
        }
        let stream = match provider::stream::probe(config, secrets).await {
            Ok(()) => Finding::ok("stream", format!("{}: connected", config.provider.stream_url)),
            Err(error) => Finding::wrong("stream", error, REMEDY_STREAM),
        };
        self.tell(&stream)
    }

    fn kafka(&mut self, settings: &Settings) -> Result<(), Exit> {
        let Settings { config, secrets, .. } = settings;
        let reports = match kafka::topics::inspect(config, secrets) {
            Ok(reports) => reports,
            Err(error) => return self.tell(&Finding::wrong("kafka", error, REMEDY_KAFKA)),
        };
        self.tell(&Finding::ok("kafka", format!("{}: reached", config.kafka.bootstrap_servers)))?;
        for report in &reports {
            self.tell(&topic(report))?;
        }
        let permissions = match kafka::permissions(config, secrets) {
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
    let notes = report.mistakes.iter().chain(&report.warnings);
    let notes: Vec<&str> = notes.map(String::as_str).collect();
    let message = match notes.as_slice() {
        [] => format!("{}: {}", report.name, report.actual.as_deref().unwrap_or("as wanted")),
        notes => format!("{}: {}", report.name, notes.join("; ")),
    };
    let verdict = topics::verdict(report);
    Finding { verdict, subject, message, remedy: None }
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
        insta::assert_snapshot!(lines, @"");
    }

    #[test]
    fn a_topic_shows_everything_that_is_wrong_with_it() {
        let mut report = TopicReport {
            topic: crate::kafka::Topic::OrdersLatest,
            name: "pepay.orders.latest".to_owned(),
            exists: true,
            wanted: "compact".to_owned(),
            actual: Some("delete".to_owned()),
            mistakes: vec!["cleanup.policy is delete; set it to compact".to_owned()],
            warnings: vec!["one replica; a lost disk loses it".to_owned()],
        };
        let wrong = topic(&report);
        assert_eq!(wrong.verdict, Verdict::Wrong);
        assert!(wrong.message.contains("set it to compact") && wrong.message.contains("one replica"));
        report.mistakes.clear();
        assert_eq!(topic(&report).verdict, Verdict::Warning);
        report.warnings.clear();
        assert_eq!(topic(&report).verdict, Verdict::Ok);
    }
}

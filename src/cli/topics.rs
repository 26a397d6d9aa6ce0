//! `topics`: wanted and actual topics side by side.

use super::output::{Output, Verdict, table};
use super::{Settings, args};
use crate::exit::Exit;
use crate::kafka::topics::{self, Actual, Finding, TopicReport, Wanted};
use serde::Serialize;

/// One topic as a script reads it.
#[derive(Serialize)]
struct Row<'a> {
    topic: &'static str,
    name: &'a str,
    exists: bool,
    verdict: Verdict,
    wanted: String,
    actual: Option<String>,
    mistakes: Vec<&'a str>,
    warnings: Vec<&'a str>,
}

/// Shows the topics; with `--create` makes the missing ones first.
///
/// # Errors
///
/// Status 1 when a topic is missing or wrong, so that scripts can ask; 77 when Kafka refuses.
pub(super) async fn run(arguments: &args::Topics, settings: &Settings, output: Output) -> Result<(), Exit> {
    let Settings { config, secrets, .. } = settings;
    let mut reports = topics::inspect(config, secrets).await?;
    if arguments.create && reports.iter().any(|report| report.actual.is_none()) {
        topics::create(config, secrets, &reports).await?;
        reports = topics::inspect(config, secrets).await?;
    }
    show(&reports, output)?;
    let wrong = reports.iter().filter(|report| verdict(report) == Verdict::Wrong).count();
    match wrong {
        0 => Ok(()),
        _ if arguments.create => Err(Exit::failed(format!("{wrong} of {} topics wrong", reports.len()))),
        _ => Err(Exit::failed(format!(
            "{wrong} of {} topics missing or wrong; `pepay-relay topics --create` makes the missing ones",
            reports.len()
        ))),
    }
}

fn show(reports: &[TopicReport], output: Output) -> Result<(), Exit> {
    if output.is_json() {
        for report in reports {
            output.json(&row(report))?;
        }
        return Ok(());
    }
    let mut table = table(["", "topic", "name", "wanted", "actual", ""]);
    for report in reports {
        let row = row(report);
        table.add_row([
            row.verdict.mark(output.colour()),
            row.topic.to_owned(),
            row.name.to_owned(),
            row.wanted,
            row.actual.unwrap_or_else(|| "missing".to_owned()),
            [row.mistakes, row.warnings].concat().join("\n"),
        ]);
    }
    output.table(&table)?;
    Ok(())
}

fn row(report: &TopicReport) -> Row<'_> {
    let of = |mistake: bool| {
        let wanted = report.findings.iter().filter(|finding| matches!(finding, Finding::Mistake(_)) == mistake);
        wanted.map(sentence).collect()
    };
    Row {
        topic: report.topic.as_str(),
        name: &report.name,
        exists: report.actual.is_some(),
        verdict: verdict(report),
        wanted: wanted(&report.wanted),
        actual: report.actual.as_ref().map(actual),
        mistakes: of(true),
        warnings: of(false),
    }
}

/// A missing topic is wrong, since this command shows what is; `run` makes it, where it may.
pub(super) fn verdict(report: &TopicReport) -> Verdict {
    let mistake = |finding: &Finding| matches!(finding, Finding::Mistake(_));
    match &report.findings {
        findings if findings.iter().any(mistake) => Verdict::Wrong,
        findings if findings.is_empty() => Verdict::Ok,
        _ => Verdict::Warning,
    }
}

/// What a finding says, with its remedy.
pub(super) fn sentence(finding: &Finding) -> &str {
    match finding {
        Finding::Mistake(text) | Finding::Warning(text) => text,
    }
}

/// Such as `compact, 1 partition`.
fn wanted(wanted: &Wanted) -> String {
    let replicas =
        wanted.replication_factor.map_or_else(String::new, |count| format!(", {}", plural(count, "replica")));
    let retention = wanted.retention_ms_min.map_or_else(String::new, |ms| format!(", at least {}", days(ms)));
    format!("{}, {}{replicas}{retention}", wanted.cleanup_policy, plural(wanted.partitions, "partition"))
}

/// Such as `delete, 6 partitions, 1 replica, 7d`.
pub(super) fn actual(actual: &Actual) -> String {
    let settings = actual.settings.as_ref();
    let policy = settings.and_then(|settings| settings.cleanup_policy.as_deref()).unwrap_or("settings not readable");
    let retention = settings.and_then(|settings| settings.retention_ms).filter(|_| policy.contains("delete"));
    let retention = retention.map_or_else(String::new, |ms| format!(", {}", days(ms)));
    format!("{policy}, {}, {}{retention}", plural(actual.partitions, "partition"), plural(actual.replicas, "replica"))
}

fn plural(count: i32, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

fn days(ms: i64) -> String {
    match u64::try_from(ms) {
        Ok(ms) => humantime::format_duration(std::time::Duration::from_millis(ms)).to_string(),
        Err(_) => "for ever".to_owned(),
    }
}

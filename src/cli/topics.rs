//! `topics`: wanted and actual topics side by side.

use super::Context;
use super::output::{Mark, Output, notice, table};
use crate::clock::spelled;
use crate::exit::Exit;
use crate::kafka::topics::{Actual, Finding, TopicReport, TopicSpec, create, inspect};
use clap::Args;
use serde::Serialize;
use std::time::Duration;

/// Arguments of `topics`.
#[derive(Args, Debug)]
pub struct Topics {
    /// Create missing topics; existing ones are left as they are
    #[arg(long)]
    pub create: bool,
}

/// One topic as a script reads it.
#[derive(Debug, Serialize)]
struct Row {
    topic: &'static str,
    name: String,
    exists: bool,
    verdict: Mark,
    wanted: String,
    actual: Option<String>,
    findings: Vec<String>,
}

/// Shows the topics; with `--create` makes the missing ones first.
///
/// # Errors
///
/// Status 1 when a topic is missing or wrong, so that scripts can ask; 77 when Kafka refuses.
pub(super) async fn run(arguments: &Topics, settings: &Context, output: Output) -> Result<(), Exit> {
    let Context { config, secrets, .. } = settings;
    let topics = if arguments.create { create(config, secrets).await? } else { inspect(config, secrets).await? };
    // Alongside the results, which a script reads.
    topics.left_out().try_for_each(notice)?;
    let rows: Vec<Row> = topics.reports.iter().map(row).collect();
    show(&rows, output)?;
    match rows.iter().filter(|row| row.verdict == Mark::Wrong).count() {
        0 => Ok(()),
        wrong => Err(Exit::failed(format!("{wrong} of {} topics missing or wrong", rows.len()))),
    }
}

fn show(rows: &[Row], output: Output) -> Result<(), Exit> {
    if output.is_json() {
        rows.iter().try_for_each(|row| output.json(row))?;
        return Ok(());
    }
    let mut table = table(["", "topic", "name", "wanted", "actual"]);
    for row in rows {
        table.add_row([
            row.verdict.mark(false),
            row.topic.to_owned(),
            row.name.clone(),
            row.wanted.clone(),
            row.actual.clone().unwrap_or_else(|| "missing".to_owned()),
        ]);
    }
    output.table(&table)?;
    for row in rows {
        for finding in &row.findings {
            output.line(format!("{} {finding}", row.verdict.mark(output.colour())))?;
        }
    }
    Ok(())
}

fn row(report: &TopicReport) -> Row {
    let text = |finding: &Finding| match finding {
        Finding::Mistake(text) | Finding::Warning(text) => text.clone(),
    };
    Row {
        topic: report.topic.as_str(),
        name: report.name.clone(),
        exists: report.actual.is_some(),
        verdict: verdict(report),
        wanted: wanted(&report.wanted),
        actual: report.actual.as_ref().map(actual),
        findings: report.findings.iter().map(text).collect(),
    }
}

/// A missing topic is wrong, since this command shows what is; `run` makes it, where it may.
pub(super) fn verdict(report: &TopicReport) -> Mark {
    if report.findings.iter().any(|finding| matches!(finding, Finding::Mistake(_))) {
        Mark::Wrong
    } else if report.findings.is_empty() {
        Mark::Ok
    } else {
        Mark::Warning
    }
}

/// `6 partitions, delete`
fn wanted(wanted: &TopicSpec) -> String {
    let mut text = format!("{}, {}", partitions(wanted.partitions), wanted.cleanup_policy);
    if let Some(replicas) = wanted.replication_factor {
        text.push_str(&format!(", {}", counted(replicas, "replica")));
    }
    text
}

/// `6 partitions, delete, 3 replicas, 7d`
pub(super) fn actual(actual: &Actual) -> String {
    let settings = actual.settings.clone().unwrap_or_default();
    let policy = settings.cleanup_policy.as_deref().unwrap_or("policy unknown");
    let mut text = format!("{}, {policy}, {}", partitions(actual.partitions), counted(actual.replicas, "replica"));
    if let Some(retention) = settings.retention_ms.filter(|_| policy != "compact") {
        text.push_str(", ");
        text.push_str(&span(retention));
    }
    text
}

fn partitions(number: i32) -> String {
    counted(number, "partition")
}

fn counted(number: i32, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Milliseconds as Kafka gives them; below zero is for ever.
fn span(ms: i64) -> String {
    match u64::try_from(ms) {
        Ok(ms) => spelled(Duration::from_millis(ms)),
        Err(_) => "for ever".to_owned(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::kafka::topics::TopicSettings;
    use crate::labels::Topic;

    /// A topic that is as wanted but for these findings.
    pub(in crate::cli) fn report(findings: &[Finding]) -> TopicReport {
        let settings = TopicSettings {
            cleanup_policy: Some("delete".into()),
            retention_ms: Some(604_800_000),
            ..Default::default()
        };
        TopicReport {
            topic: Topic::Orders,
            name: "pepay.orders".into(),
            wanted: TopicSpec {
                partitions: 6,
                replication_factor: None,
                cleanup_policy: "delete",
                retention_ms: Some(604_800_000),
                retention_ms_min: None,
                compaction_lag_ms_min: None,
            },
            actual: Some(Actual { partitions: 6, replicas: 1, offline: Vec::new(), settings: Some(settings) }),
            findings: findings.to_vec(),
        }
    }

    #[test]
    fn wanted_and_actual_read_alike() {
        let row = row(&report(&[Finding::Warning("one replica".into())]));
        assert_eq!(row.wanted, "6 partitions, delete");
        assert_eq!(row.actual.as_deref(), Some("6 partitions, delete, 1 replica, 7d"));
        assert_eq!((row.verdict, row.exists), (Mark::Warning, true));
    }

    #[test]
    fn the_worst_finding_decides() {
        let mistake = Finding::Mistake("gone".into());
        let warning = Finding::Warning("thin".into());
        assert_eq!(verdict(&report(&[])), Mark::Ok);
        assert_eq!(verdict(&report(&[warning.clone(), mistake])), Mark::Wrong);
        assert_eq!(verdict(&report(&[warning])), Mark::Warning);
    }

    #[test]
    fn a_topic_whose_settings_may_not_be_read_is_reported_as_such() {
        let unread = Actual { partitions: 1, replicas: 3, offline: Vec::new(), settings: None };
        assert_eq!(actual(&unread), "1 partition, policy unknown, 3 replicas");
        assert_eq!(span(-1), "for ever");
    }
}

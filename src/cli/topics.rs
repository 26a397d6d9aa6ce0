//! `topics`: wanted and actual topics side by side.

use super::output::{Output, Verdict, table};
use super::seams::kafka::topics::{self, TopicReport};
use super::{Settings, args};
use crate::exit::Exit;
use serde::Serialize;

/// One topic as a script reads it.
#[derive(Serialize)]
struct Row<'a> {
    topic: &'static str,
    name: &'a str,
    exists: bool,
    verdict: Verdict,
    wanted: &'a str,
    actual: Option<&'a str>,
    mistakes: &'a [String],
    warnings: &'a [String],
}

/// Shows the topics; with `--create` makes the missing ones first.
///
/// # Errors
///
/// Status 1 when a topic is missing or wrong, so that scripts can ask; 77 when Kafka refuses.
pub(super) fn run(arguments: &args::Topics, settings: &Settings, output: Output) -> Result<(), Exit> {
    let Settings { config, secrets, .. } = settings;
    let reports = if arguments.create { topics::ensure(config, secrets) } else { topics::inspect(config, secrets) };
    let reports = reports.map_err(|error| super::start_failed(&error))?;
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
            row.wanted.to_owned(),
            row.actual.unwrap_or("missing").to_owned(),
            [row.mistakes, row.warnings].concat().join("\n"),
        ]);
    }
    output.table(&table)?;
    Ok(())
}

fn row(report: &TopicReport) -> Row<'_> {
    Row {
        topic: report.topic.as_str(),
        name: &report.name,
        exists: report.exists,
        verdict: verdict(report),
        wanted: &report.wanted,
        actual: report.actual.as_deref(),
        mistakes: &report.mistakes,
        warnings: &report.warnings,
    }
}

/// A missing topic is wrong, since this command shows what is; `run` makes it, where it may.
pub(super) fn verdict(report: &TopicReport) -> Verdict {
    match report {
        TopicReport { exists: false, .. } => Verdict::Wrong,
        TopicReport { mistakes, .. } if !mistakes.is_empty() => Verdict::Wrong,
        TopicReport { warnings, .. } if !warnings.is_empty() => Verdict::Warning,
        _ => Verdict::Ok,
    }
}

//! The checklist as it is printed: a line a row as it is walked, and one object for scripts in the end.

use crate::cli::output::{Mark, Output, paint};
use crate::exit::Exit;
use crate::provider::rest::RestError;
use owo_colors::Style;
use serde::Serialize;

/// Width of the column of names.
const ROW_WIDTH: usize = "availability".len();

/// How a row turned out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RowMark {
    /// As it should be.
    Tick,
    /// Not as it should be.
    Cross,
    /// Nobody looked, for a reason.
    NotChecked,
}

/// One row of the checklist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    row: &'static str,
    verdict: RowMark,
    /// What was found, or why nobody looked.
    message: String,
    /// What to do about it; empty when nothing needs doing.
    remedy: String,
}

/// Why a row is crossed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    message: String,
    remedy: String,
}

impl Wrong {
    pub(super) fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { message: message.into(), remedy: remedy.into() }
    }

    /// A sentence as commands end with: what happened, and behind the first semicolon what to do.
    pub(super) fn of(sentence: &str) -> Self {
        let (message, remedy) = sentence.split_once("; ").unwrap_or((sentence, "see what `pepay-relay check` says"));
        Self::new(message, remedy)
    }
}

impl From<RestError> for Wrong {
    fn from(error: RestError) -> Self {
        Self::new(error.to_string(), error.remedy())
    }
}

impl From<Exit> for Wrong {
    fn from(exit: Exit) -> Self {
        Self::of(exit.message())
    }
}

/// The rows so far.
#[derive(Debug)]
pub(super) struct Report {
    output: Output,
    rows: Vec<Row>,
}

impl Report {
    pub(super) fn new(output: Output) -> Self {
        Self { output, rows: Vec::new() }
    }

    /// A row that was looked at.
    pub(super) fn tell(&mut self, row: &'static str, found: Result<String, Wrong>) -> Result<(), Exit> {
        self.add(match found {
            Ok(message) => Row { row, verdict: RowMark::Tick, message, remedy: String::new() },
            Err(Wrong { message, remedy }) => Row { row, verdict: RowMark::Cross, message, remedy },
        })
    }

    /// A row that was not, for this reason.
    pub(super) fn not_checked(&mut self, row: &'static str, why: impl Into<String>) -> Result<(), Exit> {
        self.add(Row { row, verdict: RowMark::NotChecked, message: why.into(), remedy: String::new() })
    }

    /// Status 1 on any cross.
    pub(super) fn end(self) -> Result<(), Exit> {
        let crosses = self.crosses();
        if self.output.is_json() {
            self.output.json(&serde_json::json!({ "passed": crosses == 0, "rows": self.rows }))?;
        }
        match crosses {
            0 => Ok(()),
            1 => Err(Exit::failed("1 row of the checklist is crossed")),
            crosses => Err(Exit::failed(format!("{crosses} rows of the checklist are crossed"))),
        }
    }

    fn crosses(&self) -> usize {
        self.rows.iter().filter(|row| row.verdict == RowMark::Cross).count()
    }

    fn add(&mut self, row: Row) -> Result<(), Exit> {
        if !self.output.is_json() {
            self.output.line(row.line(self.output.colour()))?;
        }
        self.rows.push(row);
        Ok(())
    }
}

impl Row {
    /// `✗ webhook       what was found; what to do`
    fn line(&self, colour: bool) -> String {
        let mark = match self.verdict {
            RowMark::Tick => Mark::Ok.mark(colour),
            RowMark::Cross => Mark::Wrong.mark(colour),
            RowMark::NotChecked => paint("–", Style::new().dimmed(), colour),
        };
        let not = if self.verdict == RowMark::NotChecked { "not checked: " } else { "" };
        let mut line = format!("{mark} {:ROW_WIDTH$}  {not}{}", self.row, self.message);
        if !self.remedy.is_empty() {
            line.push_str("; ");
            line.push_str(&self.remedy);
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Format;

    #[test]
    fn a_row_has_its_mark_and_what_to_do() {
        let mut report = Report::new(Output::stdout(Format::Json));
        report.tell("availability", Ok("available".into())).unwrap_or_default();
        report.tell("key", Err(Wrong::new("others can read it", "chmod 600 it"))).unwrap_or_default();
        report.not_checked("mainnet", "nobody knows").unwrap_or_default();
        assert_eq!(report.crosses(), 1);
        let lines: Vec<String> = report.rows.iter().map(|row| row.line(false)).collect();
        insta::assert_snapshot!(lines.join("\n"), @"
        ✓ availability  available
        ✗ key           others can read it; chmod 600 it
        – mainnet       not checked: nobody knows
        ");
        insta::assert_snapshot!(serde_json::to_string(&report.rows[2]).unwrap_or_default(), @r#"{"row":"mainnet","verdict":"not_checked","message":"nobody knows","remedy":""}"#);
    }
}

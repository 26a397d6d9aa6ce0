//! What results look like on stdout: lines, tables and JSON, coloured only where somebody looks.

use super::args::Format;
use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, presets};
use owo_colors::{OwoColorize, Style};
use serde::Serialize;
use serde_json::value::RawValue;
use std::ffi::OsStr;
use std::io::{self, IsTerminal, Write};

/// Where a command writes its results. Logs and progress go to stderr, never here.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    format: Format,
    terminal: bool,
    colour: bool,
}

impl Output {
    /// Stdout in `format`; coloured when it is a terminal and nobody asked for none.
    pub fn stdout(format: Format) -> Self {
        let terminal = io::stdout().is_terminal();
        Self { format, terminal, colour: colour(terminal) }
    }

    /// Whether scripts read.
    pub fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// Whether a person sees it as it is written.
    pub fn is_terminal(self) -> bool {
        self.terminal
    }

    /// Width of the terminal, where there is one.
    pub fn columns(self) -> Option<u16> {
        Table::new().width().filter(|_| self.terminal)
    }

    /// Whether a line for people may carry colour.
    pub fn colour(self) -> bool {
        self.colour
    }

    /// Writes one line and sends it off at once: a reader at the other end of a pipe must not wait for the next.
    pub fn line(self, line: impl AsRef<str>) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(line.as_ref().as_bytes())?;
        stdout.write_all(b"\n")?;
        stdout.flush()
    }

    /// Writes `value` as one line of JSON.
    pub fn json(self, value: &impl Serialize) -> io::Result<()> {
        let line = serde_json::to_string(value)?;
        self.line(line)
    }

    /// Writes the provider's object as it came, on one line: a line break within JSON is between its tokens, where
    /// it means nothing.
    pub fn raw(self, object: &RawValue) -> io::Result<()> {
        self.line(object.get().replace(['\n', '\r'], ""))
    }

    /// Writes names and values, a line each, the values in one column.
    pub fn fields(self, fields: &[(&str, String)]) -> io::Result<()> {
        let width = fields.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
        fields.iter().try_for_each(|(name, value)| {
            let name = paint(&format!("{name:width$}"), Style::new().dimmed(), self.colour);
            self.line(format!("{name}  {value}").trim_end())
        })
    }

    /// Writes the title of what follows, after an empty line.
    pub fn title(self, title: &str) -> io::Result<()> {
        self.line(format!("\n{}", paint(title, Style::new().bold(), self.colour)))
    }

    /// Writes a table.
    pub fn table(self, table: &Table) -> io::Result<()> {
        self.line(table.trim_fmt())
    }
}

/// Writes a line to stderr that is no result and no log: what a person should know of a command under way.
pub fn notice(line: &str) -> io::Result<()> {
    let mut stderr = io::stderr().lock();
    stderr.write_all(line.as_bytes())?;
    stderr.write_all(b"\n")
}

/// An empty table with this head, as wide as the terminal at most.
pub fn table<const N: usize>(head: [&str; N]) -> Table {
    let mut table = Table::new();
    // One line, under the head: rows are close together, as in a ledger.
    let rule = LineStyle::none().fill('─').junction('─');
    table.load_style(presets::NOTHING.header_separator(rule)).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(head);
    table
}

/// Aligns these columns of a table to the right, as numbers are read.
pub fn align_right(table: &mut Table, columns: &[usize]) {
    for (_, column) in table.column_iter_mut().enumerate().filter(|(number, _)| columns.contains(number)) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

/// How something that was looked at turned out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// As it should be.
    Ok,
    /// It works, and somebody should look at it.
    Warning,
    /// It does not work.
    Wrong,
}

impl Mark {
    /// Tick, exclamation mark or cross.
    pub fn mark(self, colour: bool) -> String {
        let (mark, style) = match self {
            Self::Ok => ("✓", Style::new().green()),
            Self::Warning => ("!", Style::new().yellow().bold()),
            Self::Wrong => ("✗", Style::new().red().bold()),
        };
        paint(mark, style, colour)
    }
}

/// `text` in `style`, or plain.
pub fn paint(text: &str, style: Style, colour: bool) -> String {
    if colour { text.style(style).to_string() } else { text.to_owned() }
}

/// Whether a stream may be coloured; `terminal` is true where a person sees it.
pub fn colour(terminal: bool) -> bool {
    #[expect(clippy::disallowed_methods, reason = "NO_COLOR and TERM belong to the terminal, not to the settings")]
    let [no_color, term] = ["NO_COLOR", "TERM"].map(std::env::var_os);
    may_colour(terminal, no_color.as_deref(), term.as_deref())
}

/// As no-color.org has it: any value but the empty one turns colour off.
fn may_colour(terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    terminal && no_color.is_none_or(OsStr::is_empty) && term.is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_needs_a_terminal_and_nobody_against_it() {
        let os = |text: &'static str| Some(OsStr::new(text));
        assert!(may_colour(true, None, os("xterm")));
        assert!(may_colour(true, os(""), None));
        assert!(!may_colour(false, None, os("xterm")));
        assert!(!may_colour(true, os("1"), os("xterm")));
        assert!(!may_colour(true, os("0"), None));
        assert!(!may_colour(true, None, os("dumb")));
    }

    #[test]
    fn marks_are_plain_without_colour() {
        assert_eq!([Mark::Ok, Mark::Warning, Mark::Wrong].map(|v| v.mark(false)), ["✓", "!", "✗"]);
        assert_eq!(Mark::Ok.mark(true), "\u{1b}[32m✓\u{1b}[0m");
    }
}

//! How a log line is written: text or JSON, everything escaped that a terminal obeys or that forges a second line.
//!
//! `tracing-subscriber` escapes ANSI sequences in text, but not newlines of a `Display` field, and leaves C1 control
//! characters in JSON. Here both formats escape them, whatever field they are in. Texts of a peer are also cut off, by
//! [`foreign`](crate::text::foreign) at the call.

use crate::config::LogFormat;
use crate::text::{Escaping, is_unsafe};
use std::fmt;
use std::io::{self, Write};
use tracing::field::{Field, Visit};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, fmt as text};

/// Longest field of a text line, in characters; a guard behind `foreign`, which cuts earlier.
pub(super) const FIELD_CHARS_MAX: usize = 4_096;

/// Writes the lines of `format` to `writer`.
pub(super) fn layer<S, W>(format: LogFormat, colours: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    match format {
        LogFormat::Json => {
            let layer = text::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
            layer.with_writer(Escaped(writer)).boxed()
        }
        LogFormat::Auto | LogFormat::Text => {
            let colours = colours && format == LogFormat::Auto;
            text::layer().with_ansi(colours).fmt_fields(Fields).with_writer(writer).boxed()
        }
    }
}

/// The fields of a text line: the message, then `name=value`, every value escaped.
struct Fields;

impl<'w> FormatFields<'w> for Fields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut line = Line { values: Vec::new(), message: String::new() };
        fields.record(&mut line);
        let (dim, plain) = if writer.has_ansi_escapes() { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
        writer.write_str(&line.message)?;
        for (position, (name, value)) in line.values.iter().enumerate() {
            let space = if position == 0 && line.message.is_empty() { "" } else { " " };
            write!(writer, "{space}{dim}{name}={plain}{value}")?;
        }
        Ok(())
    }
}

/// Fields come in the order of the call, where the message comes last; a line begins with it.
struct Line {
    message: String,
    values: Vec<(&'static str, String)>,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut shown = String::new();
        let mut escaping = Escaping::new(&mut shown, FIELD_CHARS_MAX);
        // Only a `Debug` that refuses can fail here; its line is then shorter.
        let _refused = fmt::Write::write_fmt(&mut escaping, format_args!("{value:?}")).and_then(|()| escaping.finish());
        match field.name() {
            "message" => self.message = shown,
            // What the `log` crate's bridge adds of its own.
            name if name.starts_with("log.") => {}
            name => self.values.push((name, shown)),
        }
    }
}

/// Lines for the journal, which reads the priority of each from its beginning (sd-daemon(3)).
pub(super) struct Ranked<W>(pub(super) W);

impl<'w, W: MakeWriter<'w>> MakeWriter<'w> for Ranked<W> {
    type Writer = RankedWriter<W::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        RankedWriter { priority: "<6>", writer: self.0.make_writer() }
    }

    fn make_writer_for(&'w self, line: &Metadata<'_>) -> Self::Writer {
        let priority = match *line.level() {
            Level::ERROR => "<3>",
            Level::WARN => "<4>",
            Level::INFO => "<6>",
            Level::DEBUG | Level::TRACE => "<7>",
        };
        RankedWriter { priority, writer: self.0.make_writer_for(line) }
    }
}

pub(super) struct RankedWriter<W> {
    priority: &'static str,
    writer: W,
}

impl<W: Write> Write for RankedWriter<W> {
    /// A whole line, as [`EscapedWriter`]'s; it goes out in one piece, so that no other line comes between.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.writer.write_all(&[self.priority.as_bytes(), line].concat())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// JSON, whose C0 characters are escaped already: escapes the rest inside its texts, the only place for them.
struct Escaped<W>(W);

impl<'w, W: MakeWriter<'w>> MakeWriter<'w> for Escaped<W> {
    type Writer = EscapedWriter<W::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        EscapedWriter(self.0.make_writer())
    }

    fn make_writer_for(&'w self, line: &Metadata<'_>) -> Self::Writer {
        EscapedWriter(self.0.make_writer_for(line))
    }
}

struct EscapedWriter<W>(W);

impl<W: Write> Write for EscapedWriter<W> {
    /// `tracing-subscriber` writes a whole line at once, so no character is cut in two.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut safe = String::with_capacity(line.len());
        for c in String::from_utf8_lossy(line).chars() {
            if c != '\n' && is_unsafe(c) {
                let mut units = [0; 2];
                c.encode_utf16(&mut units).iter().for_each(|unit| safe.push_str(&format!("\\u{unit:04x}")));
            } else {
                safe.push(c);
            }
        }
        self.0.write_all(safe.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

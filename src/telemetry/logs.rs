//! Log lines on stderr: text or JSON, the level changeable while running.
//!
//! `tracing-subscriber` escapes ANSI sequences in text, but not newlines of a `Display` field, and leaves C1 control
//! characters in JSON. Here both formats escape everything that a terminal obeys or that forges a second line,
//! whatever field it stands in. Texts of a peer are also cut off, by [`foreign`] at the call.

use super::Metrics;
use super::log_queue::LogQueue;
use crate::config::LogFormat;
use crate::text::{Escaping, foreign, is_unsafe};
use rdkafka::config::RDKafkaLogLevel;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::{Level, Metadata};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, fmt as text};

/// Longest field of a text line, in characters; a guard behind [`foreign`], which cuts earlier.
const FIELD_CHARS_MAX: usize = 4_096;

/// Why logs could not be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is none.
    #[error("no log level: write error, warn, info, debug, trace or off, also by target: info,rdkafka=warn")]
    Level,
    /// Logs were set up before.
    #[error("logs are set up already")]
    Twice(#[from] TryInitError),
    /// No thread could be started to write them.
    #[error("no thread for the log: {0}")]
    Thread(#[source] io::Error),
    /// The subscriber is gone.
    #[error("the log level cannot be changed any more")]
    Gone(#[from] reload::Error),
}

/// The running logs.
#[derive(Clone, Debug)]
pub struct Logs {
    level: Handle<Targets, Registry>,
    queue: Option<LogQueue>,
}

impl Logs {
    /// Sets up logs for a command, on stderr. `level` as `log.level` takes it.
    pub fn init(level: &str, format: LogFormat) -> Result<Self, LogError> {
        Self::set_up(level, format, None, io::stderr)
    }

    /// The same for a daemon, which a reader of its lines that stalls must not hold up: at the bound they are dropped,
    /// counted and told of.
    pub fn init_queued(level: &str, format: LogFormat) -> Result<Self, LogError> {
        let queue = LogQueue::to(io::stderr()).map_err(LogError::Thread)?;
        Self::set_up(level, format, Some(queue.clone()), queue)
    }

    fn set_up<W>(level: &str, format: LogFormat, queue: Option<LogQueue>, writer: W) -> Result<Self, LogError>
    where
        W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
    {
        #[expect(clippy::disallowed_methods, reason = "NO_COLOR belongs to the terminal, not to the settings")]
        let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let (level, filter) = reloadable(level)?;
        let layer = match is_journal() {
            true => layer(format, false, Ranked(writer)),
            false => layer(format, colours, writer),
        };
        tracing_subscriber::registry().with(layer.with_filter(filter)).try_init()?;
        Ok(Self { level, queue })
    }

    /// Counts lines that are dropped there.
    pub fn count_on(&self, metrics: &Metrics) {
        self.queue.iter().for_each(|queue| queue.count_on(metrics.log_lines_dropped()));
    }

    /// Waits until every line is out, at most `within`; whether it is so.
    pub fn flush(&self, within: Duration) -> bool {
        self.queue.as_ref().is_none_or(|queue| queue.flush(within))
    }

    /// Takes another `log.level`, from the next line on.
    pub fn set_level(&self, level: &str) -> Result<(), LogError> {
        Ok(self.level.reload(parse_level(level)?)?)
    }
}

/// Whether stderr is the journal's: systemd names its device and inode (systemd.exec(5), `$JOURNAL_STREAM`), so that what
/// was piped elsewhere is not taken for it.
fn is_journal() -> bool {
    #[expect(clippy::disallowed_methods, reason = "systemd's word about stderr, no setting")]
    let stream = std::env::var("JOURNAL_STREAM");
    stream.is_ok_and(|stream| names(&stream, "/proc/self/fd/2"))
}

/// Whether `stream` is the device and the inode of what stands at `path`.
fn names(stream: &str, path: impl AsRef<Path>) -> bool {
    std::fs::metadata(path).is_ok_and(|file| stream == format!("{}:{}", file.dev(), file.ino()))
}

/// A line of librdkafka's, written with its facility as a field under the target `rdkafka`.
///
/// librdkafka names hosts, topics and states in its lines, and neither passwords nor payloads; its contexts
/// (`security`, `protocol`, …) that would say more need the property `debug`, which the settings refuse.
///
/// librdkafka calls every lost connection an error, repeats it at will and comes back from it by itself; what it means
/// is logged once by the relay (`kafka unavailable`). So only what is critical keeps its rank, and what it says of
/// properties, which a person has to mend, is a warning; all the rest is for `rdkafka=debug`.
pub fn librdkafka(level: RDKafkaLogLevel, facility: &str, message: &str) {
    let facility_is_settings = facility == "CONFWARN";
    let (facility, message) = (foreign(facility), foreign(message));
    if facility_is_settings {
        tracing::warn!(target: "rdkafka", %facility, "{message}");
        return;
    }
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: "rdkafka", %facility, "{message}");
        }
        _ => tracing::debug!(target: "rdkafka", %facility, "{message}"),
    }
}

fn parse_level(level: &str) -> Result<Targets, LogError> {
    if !crate::config::is_log_level(level) {
        return Err(LogError::Level);
    }
    let parts: Vec<&str> = level.split(',').map(str::trim).collect();
    let asked: Targets = parts.join(",").parse().map_err(|_| LogError::Level)?;
    Ok(without_foreign_detail(&asked))
}

/// Below INFO, libraries write what no log may hold: tungstenite the request with its key, and every frame. So details
/// are for our own targets, where we know what is in them.
fn without_foreign_detail(asked: &Targets) -> Targets {
    let default = asked.default_level().unwrap_or(LevelFilter::OFF);
    let own = OWN_TARGETS.into_iter().map(|target| (target.to_owned(), default));
    let quiet = QUIET_TARGETS.into_iter().map(|target| (target.to_owned(), default.min(LevelFilter::ERROR)));
    let named = asked.iter().map(|(target, level)| {
        let is_own = OWN_TARGETS.into_iter().any(|own| target.starts_with(own));
        (target.to_owned(), if is_own { level } else { level.min(LevelFilter::INFO) })
    });
    Targets::new()
        .with_default(default.min(LevelFilter::INFO))
        .with_targets(own)
        .with_targets(quiet)
        .with_targets(named)
}

/// Targets whose details may be written: ours, and what librdkafka says through ours (it names no payload).
const OWN_TARGETS: [&str; 2] = ["pepay_relay", "rdkafka"];

/// Libraries that warn of what a stranger does, a line each time: rustls of every renegotiation that it refuses. What such a
/// peer is refused is counted and told by the listener.
const QUIET_TARGETS: [&str; 1] = ["rustls"];

type Filter = reload::Layer<Targets, Registry>;

fn reloadable(level: &str) -> Result<(Handle<Targets, Registry>, Filter), LogError> {
    let (filter, handle) = reload::Layer::new(parse_level(level)?);
    Ok((handle, filter))
}

fn layer<W>(format: LogFormat, colours: bool, writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
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

/// Fields come in the order of the call, where the message stands last; a line begins with it.
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
struct Ranked<W>(W);

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

struct RankedWriter<W> {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]
    use super::*;
    use std::sync::{Arc, Mutex};

    /// What was written to a log.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(format: LogFormat, colours: bool, log: impl FnOnce()) -> String {
        leveled("info", format, colours, |_| log())
    }

    fn leveled(level: &str, format: LogFormat, colours: bool, log: impl FnOnce(&Logs)) -> String {
        let written = Written::default();
        let writer = written.clone();
        let (level, filter) = reloadable(level).unwrap();
        let layer = layer(format, colours, move || writer.clone()).with_filter(filter);
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || log(&Logs { level, queue: None }));
        String::from_utf8(written.0.lock().unwrap().clone()).unwrap()
    }

    const HOSTILE: &str = "x\nINFO forged\r\u{1b}[31m\u{9b}2J\u{7f}\u{202e}";

    fn hostile() {
        tracing::info!(display = %HOSTILE, debug = ?HOSTILE, text = HOSTILE, "message {HOSTILE}");
    }

    #[test]
    fn details_of_libraries_are_never_written_whatever_is_asked_for() {
        let text = leveled("trace,tungstenite=trace,hyper=off,pepay_relay::legs=warn", LogFormat::Text, false, |_| {
            tracing::trace!(target: "tungstenite::handshake::client", "x-commerce-api-key: ck_1");
            tracing::debug!(target: "reqwest", "a library's detail");
            tracing::info!(target: "tungstenite", "a library's news");
            tracing::error!(target: "hyper", "turned off");
            tracing::warn!(target: "rustls::common_state", "a stranger renegotiates");
            tracing::trace!(target: "pepay_relay::relay", "our detail");
            tracing::info!(target: "pepay_relay::legs", "turned down");
            tracing::trace!(target: "rdkafka", "librdkafka's detail");
        });
        let said: Vec<_> = text.lines().filter_map(|line| line.split_once(": ")).map(|(_, said)| said).collect();
        assert_eq!(said, ["a library's news", "our detail", "librdkafka's detail"], "{text}");
    }

    #[test]
    fn text_keeps_foreign_control_characters_out_of_the_terminal() {
        let line = written(LogFormat::Auto, false, hostile);
        assert_eq!(line.lines().count(), 1, "{line:?}");
        assert!(!line.trim_end().chars().any(is_unsafe), "{line:?}");
        assert!(line.contains(r"message x\nINFO forged\r\u{1b}[31m\u{9b}2J\u{7f}\u{202e} display=x\n"), "{line}");
    }

    #[test]
    fn json_keeps_them_out_too_and_stays_json() {
        let line = written(LogFormat::Json, true, hostile);
        assert!(!line.trim_end().chars().any(is_unsafe), "{line:?}");
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(object["message"], format!("message {HOSTILE}"));
        assert_eq!(object["text"], HOSTILE);
        assert_eq!((&object["level"], line.lines().count()), (&"INFO".into(), 1));
    }

    #[test]
    fn colours_are_for_auto_on_a_terminal_only() {
        for (format, terminal, coloured) in [
            (LogFormat::Auto, true, true),
            (LogFormat::Auto, false, false),
            (LogFormat::Text, true, false),
            (LogFormat::Json, true, false),
        ] {
            let line = written(format, terminal, || tracing::info!(cause = "reset", "stream disconnected"));
            assert_eq!(line.contains('\u{1b}'), coloured, "{format:?}: {line:?}");
        }
    }

    #[test]
    fn a_line_is_the_message_and_then_its_fields() {
        let log = || tracing::info!(cause = %"reset", retry_in_ms = 500, "stream disconnected");
        let line = written(LogFormat::Text, false, log);
        assert!(line.ends_with(": stream disconnected cause=reset retry_in_ms=500\n"), "{line}");
    }

    #[test]
    fn the_journal_learns_the_priority_of_each_line() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let written = Written::default();
            let writer = written.clone();
            let layer = layer(format, false, Ranked(move || writer.clone())).with_filter(LevelFilter::TRACE);
            tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
                tracing::error!("e");
                tracing::warn!("w");
                tracing::info!("i");
                tracing::debug!("d");
                tracing::trace!("t");
            });
            let lines = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
            let priorities: Vec<&str> = lines.lines().map(|line| &line[..3]).collect();
            assert_eq!(priorities, ["<3>", "<4>", "<6>", "<7>", "<7>"], "{lines}");
            if format == LogFormat::Json {
                let objects = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(&line[3..]));
                assert!(objects.into_iter().all(|object| object.is_ok()), "{lines}");
            }
        }
    }

    #[test]
    fn the_journals_stream_is_told_by_device_and_inode() {
        let (one, other) = (tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
        let file = std::fs::metadata(one.path()).unwrap();
        let stream = format!("{}:{}", file.dev(), file.ino());
        assert!(names(&stream, one.path()));
        assert!(!names(&stream, other.path()) && !names("", one.path()) && !names(&stream, "/nowhere"));
    }

    #[test]
    fn a_field_is_cut_at_its_bound() {
        let line = written(LogFormat::Text, false, || tracing::info!(long = %"x".repeat(1 << 20), "m"));
        assert!(line.len() < FIELD_CHARS_MAX + 200 && line.ends_with("x…\n"), "{}", line.len());
    }

    #[test]
    fn the_level_changes_while_running_and_by_target() {
        let lines = leveled("info,rdkafka=error", LogFormat::Text, false, |logs| {
            tracing::debug!("one");
            librdkafka(RDKafkaLogLevel::Warning, "FAIL", "two");
            logs.set_level("debug").unwrap();
            tracing::debug!("three");
            librdkafka(RDKafkaLogLevel::Error, "FAIL", "four\n");
            assert!(matches!(logs.set_level("loud"), Err(LogError::Level)));
            tracing::debug!("five");
        });
        let told: Vec<_> = lines.lines().map(|line| line.rsplit(": ").next().unwrap()).collect();
        assert_eq!(told, ["three", r"four\n facility=FAIL", "five"], "{lines}");
    }
}

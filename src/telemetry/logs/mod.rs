//! Log lines on stderr: text or JSON, the level changeable while running.

mod format;
mod level;
mod queue;
#[cfg(test)]
mod tests;

use super::Metrics;
use crate::config::LogFormat;
use crate::text::foreign;
use format::{Ranked, layer};
use level::parse_level;
use queue::LogQueue;
use rdkafka::config::RDKafkaLogLevel;
use std::io::{self, IsTerminal};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

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
    /// counted and reported.
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
        tracing_subscriber::registry().with(filter).with(layer).try_init()?;
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

/// Whether `stream` is the device and the inode of what is at `path`.
fn names(stream: &str, path: impl AsRef<Path>) -> bool {
    std::fs::metadata(path).is_ok_and(|file| stream == format!("{}:{}", file.dev(), file.ino()))
}

/// A line of librdkafka's, written with its facility as a field under the target `rdkafka`.
///
/// librdkafka names hosts, topics and states in its lines, and neither passwords nor payloads; its contexts
/// (`security`, `protocol`, …) that would name more need the property `debug`, which the settings refuse.
///
/// librdkafka calls every lost connection an error, repeats it at will and comes back from it by itself; what it means
/// is logged once by the relay (`kafka unavailable`). So only what is critical keeps its rank, and what it logs of
/// properties, which a person has to fix, is a warning; all the rest is for `rdkafka=debug`.
pub fn librdkafka(level: RDKafkaLogLevel, facility: &str, message: &str) {
    let facility_is_settings = facility == "CONFWARN";
    let facility = foreign(facility);
    let message = foreign(message);
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

/// Of everything that is written. As the filter of a layer it would lose a line now and then: what one question left
/// behind, such as a library's whether it is to log something, would be taken for the next line (tokio-rs/tracing#2519,
/// #3572).
type Filter = reload::Layer<Targets, Registry>;

fn reloadable(level: &str) -> Result<(Handle<Targets, Registry>, Filter), LogError> {
    let (filter, handle) = reload::Layer::new(parse_level(level)?);
    Ok((handle, filter))
}

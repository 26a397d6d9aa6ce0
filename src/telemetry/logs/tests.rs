//! Levels, formats and what foreign texts cannot do.

#![allow(clippy::unwrap_used, reason = "a test may stop")]
use super::format::{FIELD_CHARS_MAX, Ranked, layer};
use super::*;
use crate::text::is_unsafe;
use std::io::Write;
use std::sync::{Arc, Mutex};
use tracing::callsite::Callsite;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;

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
    let layer = layer(format, colours, move || writer.clone());
    let subscriber = tracing_subscriber::registry().with(filter).with(layer);
    tracing::subscriber::with_default(subscriber, || log(&Logs { level, queue: None }));
    String::from_utf8(written.0.lock().unwrap().clone()).unwrap()
}

/// As a library asks that logs by another door (`log::log_enabled!`): about a line that has no callsite of ours.
#[test]
fn a_question_whether_something_is_to_be_logged_costs_no_line() {
    let news = || tracing::info!("news");
    let text = leveled("info", LogFormat::Text, false, |_| {
        let asked = tracing::callsite! {
            name: "asked",
            kind: tracing::metadata::Kind::EVENT,
            level: tracing::Level::DEBUG,
            fields:
        };
        for _ in 0..3 {
            let wanted = tracing::dispatcher::get_default(|logs| logs.enabled(asked.metadata()));
            assert!(!wanted);
            news();
        }
    });
    assert_eq!(text.lines().count(), 3, "{text}");
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
fn the_journals_stream_is_recognized_by_device_and_inode() {
    let one = tempfile::NamedTempFile::new().unwrap();
    let other = tempfile::NamedTempFile::new().unwrap();
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

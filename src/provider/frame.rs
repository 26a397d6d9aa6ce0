//! WebSocket text messages, distinguished by their top-level `object` (`sdk/merchants/websockets`).
//!
//! No page documents more than name and purpose of `ws_control` and `ws_error`. So a reader must be right whatever
//! their vocabulary turns out to be: what it does not understand makes it walk through the event log.

use super::json;
use crate::text::clip;
use serde_json::Value;

/// Longest control type, error code or error message kept, in characters; enough for a log line.
const TEXT_CHARS_MAX: usize = 200;

/// Longest kind of an unknown frame kept, in characters.
const KIND_CHARS_MAX: usize = 40;

/// Control types that announce a complete replay; every other type may announce a hole.
const HARMLESS: [&str; 2] = ["replay_started", "replay_completed"];

/// Members that announce a hole when they are `true`, at the top of a control frame or one level below.
const HOLES: [&str; 2] = ["truncated", "resync_required"];

/// What one text message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A business event; [`decode`](super::event::decode) reads it.
    Event,
    /// A hint about replay or resync; the connection goes on.
    Control(Control),
    /// Terminal: the provider closes the connection after it.
    Error(StreamError),
    /// Something that does not claim to be an event, a heartbeat for example: its `object`, or else its `type`, shortened.
    /// "Ignore an unknown `object`" (`sdk/merchants/websockets`).
    Unknown(String),
    /// Undecodable, or of no `object`.
    Other,
}

/// A control frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Its `type`, shortened; empty where there is none.
    pub kind: String,
    /// Whether events may be missing that only the event log can bring.
    pub needs_walk: bool,
}

/// An error frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamError {
    /// For example `TOKEN_EXPIRED`: an open set. Shortened.
    pub code: Option<String>,
    /// For a human, shortened; empty where there is none.
    pub message: String,
}

/// Finds what a text message is. Never fails: what cannot be read is [`Frame::Other`].
///
/// An event is recognized by the first member that is called `object`, without a look at what follows: whether that is
/// well-formed, and does not call itself something else later, is found out where events are decoded.
pub fn classify(text: &str) -> Frame {
    if json::first_member(text, "object") == Some("\"event\"") {
        return Frame::Event;
    }
    let Ok(Some([object, kind, id, data])) = json::members(text, &["object", "type", "id", "data"]) else {
        return Frame::Other;
    };
    match object.and_then(json::string).as_deref() {
        Some("event") => Frame::Event,
        Some("ws_control") => serde_json::from_str(text).map_or(Frame::Other, |frame| Frame::Control(control(&frame))),
        Some("ws_error") => serde_json::from_str(text).map_or(Frame::Other, |frame| Frame::Error(error(&frame))),
        Some(other) => Frame::Unknown(clip(other, KIND_CHARS_MAX)),
        // An event without its `object` still has an id, or what it is about.
        None if object.is_none() && id.is_none() && data.is_none() => match kind.and_then(json::string) {
            Some(kind) => Frame::Unknown(clip(&kind, KIND_CHARS_MAX)),
            None => Frame::Other,
        },
        None => Frame::Other,
    }
}

fn control(frame: &Value) -> Control {
    let kind = frame["type"].as_str().unwrap_or_default();
    let lower = kind.to_ascii_lowercase();
    let named = ["resync", "snapshot", "truncat"].iter().any(|word| lower.contains(word));
    let told = told_of_hole(frame) || frame.as_object().is_some_and(|members| members.values().any(told_of_hole));
    Control { kind: clip(kind, TEXT_CHARS_MAX), needs_walk: named || told || !HARMLESS.contains(&kind) }
}

fn told_of_hole(object: &Value) -> bool {
    HOLES.iter().any(|name| object[*name] == Value::Bool(true))
}

/// The code from `code`, else `error.code`, else `type`; the message from `message`, else `error.message`, else
/// `error` where that is text.
fn error(frame: &Value) -> StreamError {
    let text = |values: [&Value; 3]| values.into_iter().find_map(Value::as_str).map(|text| clip(text, TEXT_CHARS_MAX));
    let nested = &frame["error"];
    StreamError {
        code: text([&frame["code"], &nested["code"], &frame["type"]]),
        message: text([&frame["message"], &nested["message"], nested]).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "a test may stop")]

    use super::*;
    use crate::provider::event::{Reason, decode};

    fn walks(text: &str) -> bool {
        match classify(text) {
            Frame::Control(control) => control.needs_walk,
            other => panic!("{text} is {other:?}"),
        }
    }

    #[test]
    fn frames_are_distinguished_by_object() {
        assert_eq!(classify(r#" {"type":"x","object":"event"} "#), Frame::Event);
        assert_eq!(classify(r#"{"data":{"object":"ws_error"},"object":"event","data":"#), Frame::Event, "judged later");
        for other in [
            "",
            "{",
            "[]",
            "5",
            "{}",
            "ping",
            r#"{"object":5}"#,
            r#"{"object":"ws_error""#,
            r#"{"type":"t","data":{}}"#,
        ] {
            assert_eq!(classify(other), Frame::Other, "{other}");
        }
        for (text, kind) in [
            (r#"{"object":"ws_heartbeat","seq":7}"#, "ws_heartbeat"),
            (r#"{"object":"commerce_order","id":"o1","type":"x"}"#, "commerce_order"),
            (r#"{"type":"heartbeat","ts":1768480000}"#, "heartbeat"),
        ] {
            assert_eq!(classify(text), Frame::Unknown(kind.to_owned()), "{text}");
        }
        let twice = r#"{"object":"event","object":"ws_control"}"#;
        let refused = decode(twice.as_bytes()).map(drop).map_err(|error| error.reason);
        assert_eq!((classify(twice), refused), (Frame::Event, Err(Reason::NotAnEvent)), "kept as a dead letter");
        let last = r#"{"object":"ws_control","object":"event"}"#;
        assert_eq!(classify(last), Frame::Event, "as where events are decoded");
        let deep = format!(r#"{{"object":"ws_control","data":{}{}}}"#, "[".repeat(200), "]".repeat(200));
        assert_eq!(classify(&deep), Frame::Other);
    }

    #[test]
    fn only_a_complete_replay_needs_no_walk() {
        assert!(!walks(r#"{"object":"ws_control","type":"replay_started","data":{"since":"evt_1-0"}}"#));
        assert!(!walks(r#"{"object":"ws_control","type":"replay_completed","data":{"truncated":false}}"#));
        for hole in [
            r#"{"object":"ws_control","type":"replay_completed","data":{"truncated":true}}"#,
            r#"{"object":"ws_control","type":"replay_started","resync_required":true}"#,
            r#"{"object":"ws_control","type":"SNAPSHOT_STARTED"}"#,
            r#"{"object":"ws_control","type":"resync_required"}"#,
            r#"{"object":"ws_control","type":"some_future_hint"}"#,
            r#"{"object":"ws_control","type":5}"#,
            r#"{"object":"ws_control"}"#,
        ] {
            assert!(walks(hole), "{hole}");
        }
    }

    #[test]
    fn errors_are_read_in_every_nesting() {
        let check = |text: &str, code: Option<&str>, message: &str| {
            let expected = StreamError { code: code.map(str::to_owned), message: message.to_owned() };
            assert_eq!(classify(text), Frame::Error(expected), "{text}");
        };
        check(r#"{"object":"ws_error","code":"A","message":"b"}"#, Some("A"), "b");
        check(r#"{"object":"ws_error","error":{"code":"A","message":"b"}}"#, Some("A"), "b");
        check(r#"{"object":"ws_error","type":"A","error":"b"}"#, Some("A"), "b");
        check(r#"{"object":"ws_error","code":7,"message":[]}"#, None, "");
    }

    #[test]
    fn foreign_text_is_bounded() {
        let long = "x".repeat(100_000);
        let Frame::Error(error) = classify(&format!(r#"{{"object":"ws_error","code":"{long}","message":"{long}"}}"#))
        else {
            panic!("no error frame");
        };
        assert_eq!(error.message.chars().count(), TEXT_CHARS_MAX + 1);
        assert_eq!(error.code.map(|code| code.chars().count()), Some(TEXT_CHARS_MAX + 1));
    }
}

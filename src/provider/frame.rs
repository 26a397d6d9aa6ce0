//! Frames of the commerce WebSocket, told apart by their top-level `object` (`sdk/merchants/websockets`).

use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;

/// What a frame is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A business event.
    Event,
    /// A hint about replay or a hole; the connection goes on.
    Control(Control<'a>),
    /// A terminal error; the provider closes the connection.
    Error(StreamError),
    /// Anything else, undecodable bytes included.
    Other,
}

/// A `ws_control` frame. Its types are not documented, so an unknown one counts as a hint of a hole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control<'a> {
    /// The frame's `type`; empty when it has none.
    pub kind: Cow<'a, str>,
    /// The event log has to be walked: something may be missing from the stream.
    pub needs_walk: bool,
}

/// A `ws_error` frame. Its codes are not documented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamError {
    /// `code`, else `error.code`, else `type`; empty when there is none.
    pub code: String,
    /// `message`, else `error.message`, else `error` if it is a text; empty when there is none.
    pub message: String,
}

/// Tells what a frame is, from its bytes as they came. Total: what cannot be decoded is [`Frame::Other`].
pub fn classify(bytes: &[u8]) -> Frame<'_> {
    #[derive(Deserialize)]
    struct Head<'a> {
        #[serde(borrow)]
        object: Cow<'a, str>,
    }
    let Ok(head) = serde_json::from_slice::<Head<'_>>(bytes) else { return Frame::Other };
    match head.object.as_ref() {
        "event" => Frame::Event,
        "ws_control" => serde_json::from_slice(bytes).map_or(Frame::Other, |frame| Frame::Control(control(&frame))),
        "ws_error" => serde_json::from_slice(bytes).map_or(Frame::Other, |frame| Frame::Error(stream_error(&frame))),
        _ => Frame::Other,
    }
}

fn control(frame: &Value) -> Control<'static> {
    let kind = frame["type"].as_str().unwrap_or_default().to_owned();
    let flagged = ["truncated", "resync_required"]
        .iter()
        .any(|flag| frame[flag] == Value::Bool(true) || frame["data"][flag] == Value::Bool(true));
    let harmless = matches!(kind.as_str(), "replay_started" | "replay_completed");
    Control { kind: Cow::Owned(kind), needs_walk: flagged || !harmless }
}

fn stream_error(frame: &Value) -> StreamError {
    let first = |texts: [&Value; 3]| texts.iter().find_map(|text| text.as_str()).unwrap_or_default().to_owned();
    StreamError {
        code: first([&frame["code"], &frame["error"]["code"], &frame["type"]]),
        message: first([&frame["message"], &frame["error"]["message"], &frame["error"]]),
    }
}

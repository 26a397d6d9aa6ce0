//! What control and error frames of the WebSocket look like. Pure.
//!
//! They are the reading of the provider's silence that the client must survive: types and members of `ws_control` and
//! `ws_error` are documented nowhere.

use super::faults::Controls;
use serde_json::{Value, json};

/// A `ws_control` frame in the words that are switched on.
pub(super) fn control(words: Controls, kind: &str, data: Value, now_ms: i64) -> Option<String> {
    let frame = match words {
        Controls::Known => {
            json!({ "object": "ws_control", "type": kind, "created": now_ms.div_euclid(1000), "data": data })
        }
        Controls::Other => json!({ "object": "ws_control", "hint": format!("x-{kind}"), "v": 2, "detail": [data] }),
        Controls::None => return None,
    };
    Some(frame.to_string())
}

/// A `ws_error` frame; the server closes after it.
pub(super) fn error(code: &str, now_ms: i64) -> String {
    let message = "stream terminated";
    json!({ "object": "ws_error", "code": code, "message": message, "created": now_ms.div_euclid(1000) }).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]
    use super::*;
    use std::path::Path;

    #[test]
    fn control_and_error_frames_are_the_example_files() {
        let fixture = |name: &str| -> Value {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/ws").join(name);
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
        };
        let now_ms = 1_768_478_400_000;
        for name in ["replay_started", "replay_completed", "snapshot_started", "snapshot_completed", "resync_required"]
        {
            let wanted = fixture(&format!("control.{name}.json"));
            let got = control(Controls::Known, name, wanted["data"].clone(), now_ms).unwrap();
            assert_eq!(serde_json::from_str::<Value>(&got).unwrap(), wanted);
        }
        let got: Value = serde_json::from_str(&error("INTERNAL_SERVER_ERROR", now_ms)).unwrap();
        assert_eq!(got, fixture("error.internal.json"));
    }
}

//! Text of the WebSocket, and bodies of failed calls: whatever comes is classified, and what is kept of it is short.

#![no_main]

use pepay_relay::provider::errors;
use pepay_relay::provider::event::{Reason, decode};
use pepay_relay::provider::frame::{Frame, classify};

/// Of a code, type or message, and one for the dots behind it.
const TEXT_CHARS_MAX: usize = 201;

/// What is short, and moves no terminal's cursor.
fn is_fit_for_a_log(text: &str) -> bool {
    text.chars().count() <= TEXT_CHARS_MAX && !text.chars().any(char::is_control)
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let error = errors::parse(bytes);
    assert!(!error.message.is_empty() && is_fit_for_a_log(&error.message), "{error:?}");
    assert!(error.code.as_deref().is_none_or(is_fit_for_a_log), "{error:?}");

    let decoded = decode(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else {
        assert_eq!(decoded.map(drop).map_err(|error| error.reason), Err(Reason::MalformedJson));
        return;
    };
    let frame = classify(text);
    assert_eq!(classify(text), frame, "the same text is the same frame");
    match &frame {
        // Of a member that comes twice the last one counts where events are decoded, and so for the second reader,
        // which takes no half of a surrogate pair.
        Frame::Event if decoded.as_ref().is_err_and(|error| error.reason == Reason::NotAnEvent) => {
            let again = serde_json::from_str::<serde_json::Value>(text);
            assert!(again.is_err() || again.is_ok_and(|value| value["object"] != "event"));
        }
        Frame::Event => {}
        // Only an event's frame is an event: nothing that the core would publish is taken for a hint.
        _ => assert!(decoded.is_err(), "{frame:?}"),
    }
    match frame {
        Frame::Control(control) => {
            assert!(is_fit_for_a_log(&control.kind), "{control:?}");
            assert!(control.needs_walk || ["replay_started", "replay_completed"].contains(&control.kind.as_str()));
        }
        Frame::Error(error) => {
            assert!(is_fit_for_a_log(&error.message), "{error:?}");
            assert!(error.code.as_deref().is_none_or(is_fit_for_a_log), "{error:?}");
        }
        Frame::Unknown(kind) => assert!(is_fit_for_a_log(&kind), "{kind:?}"),
        Frame::Event | Frame::Other => {}
    }
    if let Err(error) = decoded {
        assert!(is_fit_for_a_log(&error.detail), "{error:?}");
    }
});

//! The provider's other messages: signatures, frames, error bodies, and bytes of any kind.

use super::{Value, files, fixture, fixtures, settings, value_of};
use pepay_relay::normalize::normalize;
use pepay_relay::provider::event::{Reason, decode};
use pepay_relay::provider::frame::{Control, Frame, classify};
use pepay_relay::provider::{errors, signature};
use proptest::prelude::*;
use std::time::Duration;

#[test]
fn every_signature_vector_has_the_verdict_that_it_names() {
    let vectors: Value = serde_json::from_str(&fixture("webhook/vectors.json")).unwrap();
    let tolerance = Duration::from_millis(vectors["tolerance_ms"].as_u64().unwrap());
    let vectors = vectors["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 11);
    for vector in vectors {
        let body = std::fs::read(fixtures().join("webhook").join(vector["body_file"].as_str().unwrap())).unwrap();
        let header = |name: &str| {
            let headers = vector["headers"].as_object().unwrap();
            let found = headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.as_str().unwrap().as_bytes())
        };
        let headers = signature::Headers {
            timestamp: header(signature::TIMESTAMP),
            signature: header(signature::SIGNATURE),
            previous: header(signature::SIGNATURE_PREVIOUS),
        };
        let secrets = vector["secrets"].as_array().unwrap().iter().map(|secret| secret.as_str().unwrap().as_bytes());
        let now_ms = vector["now_ms"].as_i64().unwrap();
        let verdict = match signature::verify(headers, &body, secrets, now_ms, tolerance) {
            Ok(()) => "accept".to_owned(),
            Err(refusal) => format!("reject {refusal}"),
        };
        let expected = vector["expect"].as_str().unwrap();
        assert!(expected == verdict || expected.starts_with(&format!("{verdict} (")), "{}: {verdict}", vector["name"]);
    }
}

#[test]
fn a_webhook_is_signed_as_the_provider_signs_it() {
    let vectors: Value = serde_json::from_str(&fixture("webhook/vectors.json")).unwrap();
    let valid = &vectors["vectors"][0];
    let body = std::fs::read(fixtures().join("webhook").join(valid["body_file"].as_str().unwrap())).unwrap();
    let [timestamp, expected] =
        ["X-Pepay-Timestamp", "X-Pepay-Signature"].map(|name| valid["headers"][name].as_str().unwrap());
    let secret = valid["secrets"][0].as_str().unwrap().as_bytes();
    assert_eq!(signature::sign(secret, timestamp, &body), expected);
}

#[test]
fn every_error_example_is_read() {
    for name in files("errors", "").into_iter().filter(|name| !name.ends_with("headers.json")) {
        let body = fixture(&format!("errors/{name}"));
        let parsed: Value = serde_json::from_str(&body).unwrap();
        let text = |pointer: &str| parsed.pointer(pointer).and_then(Value::as_str);
        let error = errors::parse(body.as_bytes());
        let code = text("/error/code").or(text("/code")).or(text("/error_code"));
        let message = text("/error/message").or(text("/error")).or(text("/message"));
        assert!(code.is_some() && message.is_some(), "{name}");
        assert_eq!((error.code.as_deref(), Some(&*error.message)), (code, message), "{name}");
        let hinted = name.starts_with("429").then_some(Duration::from_secs(15 * 60));
        assert_eq!(error.retry_after_hint, hinted, "{name}");
    }
}

#[test]
fn every_frame_example_is_classified() {
    for name in files("ws", "event.") {
        assert_eq!(classify(&fixture(&format!("ws/{name}"))), Frame::Event, "{name}");
    }
    let kinds = files("ws", "control.").into_iter().map(|name| match classify(&fixture(&format!("ws/{name}"))) {
        Frame::Control(Control { kind, needs_walk }) => (kind, needs_walk),
        other => panic!("{name}: {other:?}"),
    });
    let walks = [
        ("replay_completed", false),
        ("replay_started", false),
        ("resync_required", true),
        ("snapshot_completed", true),
        ("snapshot_started", true),
        ("some_future_hint", true),
    ];
    assert_eq!(kinds.collect::<Vec<_>>(), walks.map(|(kind, walk)| (kind.to_owned(), walk)));
    let codes = files("ws", "error.").into_iter().map(|name| match classify(&fixture(&format!("ws/{name}"))) {
        Frame::Error(error) => (error.code.unwrap(), error.message),
        other => panic!("{name}: {other:?}"),
    });
    let expected = [
        ("API_KEY_INVALID", "API key was revoked"),
        ("INTERNAL_SERVER_ERROR", "stream terminated"),
        ("INTERNAL_SERVER_ERROR", "stream terminated"),
        ("TOKEN_EXPIRED", "ws_token is no longer valid"),
    ];
    assert_eq!(codes.collect::<Vec<_>>(), expected.map(|(code, message)| (code.to_owned(), message.to_owned())));
}

#[test]
fn a_session_is_read_line_by_line() {
    let session = fixture("ws/session.replay-then-live.ndjson");
    let mut events = Vec::new();
    for line in session.lines() {
        match classify(line) {
            Frame::Event => events.push((decode(line.as_bytes()).unwrap().id.into_owned(), value_of(line))),
            frame => assert!(matches!(frame, Frame::Control(Control { needs_walk: false, .. })), "{line}"),
        }
    }
    let ids = events.len();
    events.sort();
    events.dedup();
    assert_eq!((ids, events.len()), (3, 2), "the transcript repeats one event");
}

#[test]
fn a_ping_with_odd_white_space_is_an_event() {
    let body = std::fs::read(fixtures().join("webhook/body.test.ping.odd-whitespace.raw")).unwrap();
    assert_eq!(decode(&body).unwrap().event_type, "test.ping");
}

/// Everything that reads what a peer sent, on the same bytes.
fn read_all(bytes: &[u8]) {
    let verdict = signature::verify(
        signature::Headers { timestamp: Some(bytes), signature: Some(bytes), previous: Some(bytes) },
        bytes,
        [bytes],
        0,
        Duration::from_secs(300),
    );
    assert_eq!(verdict, Err(signature::Refusal::InvalidSignature));
    assert!(!errors::parse(bytes).message.is_empty());
    let frame = std::str::from_utf8(bytes).map(classify);
    match decode(bytes) {
        Ok(event) => {
            assert_eq!(frame, Ok(Frame::Event));
            let mut value = Vec::new();
            match normalize(&event, &settings(), &mut value) {
                Ok(_) => drop(serde_json::from_slice::<Value>(&value).unwrap()),
                Err(rejection) => assert!(value.is_empty() && rejection.detail.len() < 1_000),
            }
        }
        Err(undecodable) => {
            assert!(undecodable.detail.len() < 1_000);
            assert!(frame != Ok(Frame::Event) || undecodable.reason != Reason::NotAnEvent);
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_stop_a_reader(bytes: Vec<u8>) {
        read_all(&bytes);
    }

    #[test]
    fn no_damaged_message_stops_a_reader(
        from in proptest::sample::select(files("events", "")),
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
        keep in any::<proptest::sample::Index>(),
        cut: bool,
    ) {
        let mut bytes = fixture(&format!("events/{from}")).into_bytes();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if cut {
            bytes.truncate(keep.index(bytes.len()));
        }
        read_all(&bytes);
    }
}

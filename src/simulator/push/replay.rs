//! What a socket gets before its live events: replay, or a bounded snapshot when `since` is too old. Pure.

use crate::provider::EventId;
use crate::simulator::faults::{Since, WebsocketFaults};
use crate::simulator::frames::control;
use crate::simulator::model::{Event, Filter, Log};
use serde_json::json;
use std::sync::Arc;

/// Events in a snapshot.
pub(super) const SNAPSHOT_EVENTS: usize = 200;

/// A frame to be sent before the live ones.
#[derive(Clone, Debug)]
pub(in crate::simulator) enum Frame {
    /// An event of the log.
    Event(Arc<Event>),
    /// A control frame.
    Control(String),
}

/// The frames that answer `since`, oldest event first.
pub(in crate::simulator) fn frames(
    log: &Log,
    since: EventId,
    filter: &Filter,
    faults: &WebsocketFaults,
    now_ms: i64,
) -> Vec<Frame> {
    if faults.since == Since::Ignored {
        return Vec::new();
    }
    let too_old = log.is_too_old(since);
    let mut events: Vec<Arc<Event>> = if faults.replay_missing {
        Vec::new()
    } else if too_old {
        log.all().rev().filter(|event| event.fits(filter)).take(SNAPSHOT_EVENTS).cloned().collect()
    } else {
        let inclusive = faults.since == Since::Inclusive;
        log.after(since, inclusive).filter(|event| event.fits(filter)).cloned().collect()
    };
    if too_old {
        events.reverse();
    }
    let name = if too_old { "snapshot" } else { "replay" };
    let started = if too_old {
        json!({ "since": since.to_string(), "reason": "since_too_old", "truncated": true })
    } else {
        json!({ "since": since.to_string() })
    };
    let completed = json!({
        "since": since.to_string(),
        "last_event_id": events.last().map(|event| event.id.clone()),
        "replayed": events.len(),
        "truncated": too_old,
    });
    let started = control(faults.controls, &format!("{name}_started"), started, now_ms);
    let completed = control(faults.controls, &format!("{name}_completed"), completed, now_ms);
    let events = events.into_iter().map(Frame::Event);
    started.into_iter().map(Frame::Control).chain(events).chain(completed.into_iter().map(Frame::Control)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop")]
    use super::*;
    use crate::simulator::faults::Controls;
    use crate::simulator::model::{Scope, Types};
    use serde_json::Value;

    fn log_of(count: i64, keep: usize) -> Log {
        let mut log = Log::new(i64::MAX, keep);
        for ms in 1..=count {
            let id = log.next_id(ms);
            let kind = if ms % 2 == 0 { "invoice.updated" } else { "commerce.order.updated" };
            let event = Event {
                id: id.to_string(),
                position: Some(id),
                kind: kind.into(),
                created: 0,
                scope: Scope::default(),
                unfiltered: false,
                bytes: bytes::Bytes::new(),
            };
            log.append(Arc::new(event), ms, ms);
        }
        log
    }

    fn shape(log: &Log, since_ms: u64, faults: &WebsocketFaults) -> Vec<String> {
        let filter = Filter { types: Types::parse("commerce.order.*").unwrap(), scope: Scope::default() };
        let frames = frames(log, EventId { ms: since_ms, seq: 0 }, &filter, faults, 0);
        let name = |frame| match frame {
            Frame::Event(event) => event.id.clone(),
            Frame::Control(text) => {
                let control: Value = serde_json::from_str(&text).unwrap();
                control["type"].as_str().unwrap_or("other").to_owned()
            }
        };
        frames.into_iter().map(name).collect()
    }

    #[test]
    fn since_is_exclusive_filtered_and_framed() {
        let log = log_of(7, 100);
        let wanted = ["replay_started", "evt_5-0", "evt_7-0", "replay_completed"];
        assert_eq!(shape(&log, 3, &WebsocketFaults::default()), wanted);
        let inclusive =
            WebsocketFaults { since: Since::Inclusive, controls: Controls::None, ..WebsocketFaults::default() };
        assert_eq!(shape(&log, 3, &inclusive), ["evt_3-0", "evt_5-0", "evt_7-0"]);
        let missing = WebsocketFaults { replay_missing: true, ..WebsocketFaults::default() };
        assert_eq!(shape(&log, 3, &missing), ["replay_started", "replay_completed"]);
        let ignored = WebsocketFaults { since: Since::Ignored, ..WebsocketFaults::default() };
        assert!(shape(&log, 3, &ignored).is_empty());
        let other = WebsocketFaults { controls: Controls::Other, ..WebsocketFaults::default() };
        assert_eq!(shape(&log, 6, &other), ["other", "evt_7-0", "other"]);
    }

    #[test]
    fn a_cursor_older_than_retention_gets_a_bounded_snapshot() {
        let log = log_of(1_000, 900);
        let frames = shape(&log, 1, &WebsocketFaults::default());
        assert_eq!(frames.len(), SNAPSHOT_EVENTS + 2);
        assert_eq!((frames[0].as_str(), frames[201].as_str()), ("snapshot_started", "snapshot_completed"));
        assert_eq!((frames[1].as_str(), frames[200].as_str()), ("evt_601-0", "evt_999-0"));
    }
}

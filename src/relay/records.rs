//! What the relay writes into a batch beside values: headers, dead letters, gaps, and the marks of a checkpoint.

use crate::clock::{rfc3339, write_rfc3339};
use crate::kafka::{Batch, Marks};
use crate::labels::Topic;
use crate::legs::{Delivery, TRACEPARENT, TRACESTATE, Trace};
use crate::normalize::{self, Normalized, Rejection, normalize};
use crate::provider::event::{Event, Reason};
use crate::relay::progress::{Gap, GapCause, Progress};
use crate::text::truncated;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::time::Duration;

/// Longest event id, and longest key of a record. The provider's are about 25 and 36 bytes; the bound keeps a hostile
/// one out of every header and key, and lets the last resort, a dead letter with a digest, always fit.
pub const KEY_BYTES_MAX: usize = 256;

/// Longest `relay_detail` of a dead letter.
const DETAIL_BYTES_MAX: usize = 512;

/// Closed gaps that the control topic keeps: a ring, so that compaction bounds it.
const GAP_RING: u64 = 1000;

/// What stands in a gap's `closed_by` where the provider's log no longer reached back over all of it.
const UNPROVEN: &str = "unproven";

/// How and when an event arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin<'d> {
    /// The leg that brought it, or [`REPLAY`](crate::labels::REPLAY).
    pub(super) leg: &'static str,
    /// When, in Unix milliseconds.
    pub(super) at_ms: i64,
    /// The trace that it came with.
    pub(super) trace: Option<&'d Trace>,
}

impl<'d> Origin<'d> {
    pub(super) fn of(delivery: &'d Delivery) -> Self {
        Self { leg: delivery.leg.as_str(), at_ms: delivery.received_at_ms, trace: delivery.trace.as_deref() }
    }
}

/// Appends an event's record without headers; nothing where the event is rejected.
pub(super) fn write_value<'e>(
    batch: &mut Batch,
    topic: Topic,
    event: &Event<'e>,
    settings: &normalize::Settings,
) -> Result<Normalized<'e>, Rejection> {
    batch.push(
        topic,
        |value| {
            let normalized = normalize(event, settings, value)?;
            if normalized.key.len() > KEY_BYTES_MAX {
                let detail = format!("the key is longer than {KEY_BYTES_MAX} bytes");
                return Err(Rejection { reason: Reason::MissingField, detail });
            }
            Ok(normalized)
        },
        |normalized| normalized.key.as_bytes(),
    )
}

/// The headers of an event's record: CloudEvents 1.0 in Kafka's binary mode, and the relay's own.
pub(super) fn write_headers(
    batch: &mut Batch,
    event: &Event<'_>,
    normalized: &Normalized<'_>,
    arrival: Origin<'_>,
    (source, instance): (&str, &str),
) {
    batch.header("ce_specversion", b"1.0");
    batch.header("ce_id", event.id.as_bytes());
    batch.header("ce_type", event.event_type.as_bytes());
    batch.header("ce_source", source.as_bytes());
    batch.header_with("ce_time", |out| write_rfc3339(normalized.occurred_at_ms, out));
    batch.header("ce_subject", normalized.key.as_bytes());
    batch.header("ce_dataschema", normalized.kind.schema_urn().as_bytes());
    batch.header("content-type", b"application/json");
    write_arrival(batch, arrival);
    batch.header("relay_instance", instance.as_bytes());
    if let Some(Trace { parent, state }) = arrival.trace {
        batch.header(TRACEPARENT, parent.as_bytes());
        if !state.is_empty() {
            batch.header(TRACESTATE, state.as_bytes());
        }
    }
}

/// The bytes as they came, keyed by the event's id or else by their digest; for a record that Kafka refused for its
/// size only what tells which event it was.
pub(super) fn write_dead_letter(batch: &mut Batch, delivery: &Delivery, id: Option<&str>, why: &(Reason, String)) {
    let (reason, detail) = why;
    let bytes = &delivery.bytes;
    let key = id.map_or_else(|| Cow::Owned(digest(bytes)), Cow::Borrowed);
    if *reason == Reason::TooLarge {
        let digest = digest(bytes);
        let sha256 = digest.trim_start_matches("sha256:");
        let value = serde_json::json!({ "event_id": id, "bytes": bytes.len(), "sha256": sha256 });
        batch.record(Topic::DeadLetter, key.as_bytes(), value.to_string().as_bytes());
    } else {
        batch.record(Topic::DeadLetter, key.as_bytes(), bytes);
    }
    write_arrival(batch, Origin::of(delivery));
    batch.header("relay_reason", reason.as_str().as_bytes());
    batch.header("relay_detail", detail.as_bytes());
}

fn write_arrival(batch: &mut Batch, Origin { leg, at_ms, .. }: Origin<'_>) {
    batch.header("relay_leg", leg.as_bytes());
    batch.header_with("relay_received_at", |out| write_rfc3339(at_ms, out));
}

/// `sha256:` and 64 hex digits.
pub(super) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::from("sha256:"), |text, byte| text + &format!("{byte:02x}"))
}

/// A closed gap, at its place in the ring.
pub(super) fn write_gap(batch: &mut Batch, instance: &str, gap: &Gap) {
    let key = format!("{instance}/gap/{}", gap.id % GAP_RING);
    batch.record(Topic::Control, key.as_bytes(), gap_value(gap).to_string().as_bytes());
}

/// Progress as a checkpoint holds it: the open gaps, and the one that closed last.
pub(super) fn marks(progress: &Progress) -> Marks {
    Marks {
        cursor: progress.cursor().map(|id| id.to_string()),
        verified: progress.verified_ms().map(rfc3339),
        gaps: progress.closed().into_iter().chain(progress.gaps()).map(gap_value).collect(),
    }
}

/// The progress that a checkpoint holds. What cannot be read counts as not there: a walk then begins further back.
pub fn resume(marks: &Marks, overlap: Duration) -> Progress {
    let cursor = marks.cursor.as_deref().and_then(|id| id.parse().ok());
    let verified_ms = marks.verified.as_deref().and_then(unix_ms);
    let gaps = marks.gaps.iter().filter_map(gap_of).collect();
    Progress::resume(cursor, verified_ms, gaps, overlap)
}

fn gap_of(value: &Value) -> Option<Gap> {
    Some(Gap {
        id: value["id"].as_u64()?,
        cause: GapCause::from_name(value["cause"].as_str()?)?,
        from: value["from"].as_str().and_then(|id| id.parse().ok()),
        opened_ms: unix_ms(value["opened_at"].as_str()?)?,
        end_ms: None,
        closed_ms: value["closed_at"].as_str().and_then(unix_ms),
        recovered: value["recovered"].as_u64().unwrap_or_default(),
        unproven: value["closed_by"] == UNPROVEN,
    })
}

fn unix_ms(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(|at| at.as_millisecond())
}

/// What closed a gap, or will: the walk that found everything, or nobody where the log no longer reaches back.
pub(super) const fn gap_closed_by(gap: &Gap) -> &'static str {
    if gap.unproven { UNPROVEN } else { "backfill" }
}

fn gap_value(gap: &Gap) -> Value {
    json!({
        "id": gap.id,
        "cause": gap.cause.as_str(),
        "from": gap.from.map(|id| id.to_string()),
        "opened_at": rfc3339(gap.opened_ms),
        "closed_at": gap.closed_ms.map(rfc3339),
        // An open gap that nobody can prove says so already, so that a restart knows of it.
        "closed_by": (gap.closed_ms.is_some() || gap.unproven).then(|| gap_closed_by(gap)),
        "recovered": gap.recovered,
    })
}

/// The detail, cut to its bound.
pub(super) fn bounded(detail: String) -> String {
    truncated(detail, DETAIL_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::{Cause, Leg};
    use crate::legs::Note;
    use crate::provider::EventId;

    #[test]
    fn what_a_checkpoint_holds_is_what_is_resumed() {
        let overlap = Duration::from_secs(60);
        let mut progress = Progress::resume(None, Some(1_768_000_000_123), Vec::new(), overlap);
        progress.saw(Leg::Websocket, EventId { ms: 1_768_000_000_000, seq: 7 });
        progress.note(Note::WebsocketDown { cause: Cause::Silence, at_ms: 1_768_000_100_001 });
        progress.note(Note::WebsocketUp { at_ms: 1_768_000_100_002 });
        progress.note(Note::WalkDone { started_ms: 1_768_000_200_000 });
        progress.note(Note::WebsocketDown { cause: Cause::Reset, at_ms: 1_768_000_300_000 });
        progress.recovers(1_768_000_300_001);
        progress.note(Note::Unproven { from_ms: 1_768_000_290_000, to_ms: 1_768_000_310_000 });
        assert!(progress.gaps()[0].unproven);
        assert_eq!((progress.gaps().len(), progress.closed().map(|gap| gap.id)), (1, Some(0)));
        let resumed = resume(&marks(&progress), overlap);
        assert_eq!(resumed.gaps(), progress.gaps());
        assert_eq!((resumed.cursor(), resumed.verified_ms()), (progress.cursor(), progress.verified_ms()));
        assert_eq!(resumed.closed().map(|gap| gap.id), Some(0));
    }

    #[test]
    fn marks_that_cannot_be_read_count_as_not_there() {
        let gaps = vec![Value::Null, json!({"id": 1, "cause": "unknown", "opened_at": "x"})];
        let marks = Marks { cursor: Some("evt_example".into()), verified: Some("soon".into()), gaps };
        assert_eq!(resume(&marks, Duration::ZERO), Progress::resume(None, None, Vec::new(), Duration::ZERO));
    }
}

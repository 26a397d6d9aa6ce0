//! What the control topic holds of the relay's progress: marks and gaps, as JSON.

use super::progress::{Gap, GapCause, Progress};
use crate::clock::rfc3339;
use crate::kafka::{Batch, Keys};
use crate::labels::Topic;
use crate::normalize::SchemaIds;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

/// Closed gaps that the control topic keeps: a ring, so that compaction bounds it.
const GAP_RING: u64 = 1000;

/// The `closed_by` of a gap where the provider's log no longer reached back over all of it.
const UNPROVEN: &str = "unproven";

/// A closed gap of an account, at its place in the ring.
pub(super) fn write_gap(batch: &mut Batch, keys: &Keys, account: &str, gap: &Gap) {
    let value = gap_value(gap, account).to_string();
    batch.record(Topic::Control, keys.gap(gap.id % GAP_RING).as_bytes(), value.as_bytes());
}

/// The value of a record `NAME/marks/ACCOUNT`.
#[derive(Serialize, Deserialize)]
struct Wire {
    cursor: Option<String>,
    verified: Option<String>,
    #[serde(default)]
    gaps: Vec<Value>,
    /// What a schema registry calls the schemas of values, where one is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    schemas: Option<Value>,
}

/// The progress of an account as the control topic holds it: the open gaps, and the one that closed last; and what schemas are called.
pub(super) fn marks(progress: &Progress, account: &str, schema_ids: &SchemaIds) -> Vec<u8> {
    let wire = Wire {
        cursor: progress.cursor().map(|id| id.to_string()),
        verified: progress.verified_ms().map(rfc3339),
        gaps: progress.closed().into_iter().chain(progress.gaps()).map(|gap| gap_value(gap, account)).collect(),
        schemas: schema_ids.kept(),
    };
    // Strings and numbers alone: nothing in it can fail.
    serde_json::to_vec(&wire).unwrap_or_default()
}

/// The progress that the marks hold. What cannot be read counts as not there: a walk then begins further back.
pub fn resume(marks: Option<&[u8]>, overlap: Duration) -> Progress {
    let wire = marks.and_then(|value| serde_json::from_slice::<Wire>(value).ok());
    let Some(Wire { cursor, verified, gaps, .. }) = wire else {
        return Progress::resume(None, None, Vec::new(), overlap);
    };
    let cursor = cursor.as_deref().and_then(|id| id.parse().ok());
    let verified_ms = verified.as_deref().and_then(unix_ms);
    Progress::resume(cursor, verified_ms, gaps.iter().filter_map(gap_of).collect(), overlap)
}

/// Recalls what schemas were called when these marks were written.
pub fn recall(marks: &[u8], schema_ids: &SchemaIds) {
    let wire = serde_json::from_slice::<Wire>(marks).ok();
    wire.and_then(|wire| wire.schemas).iter().for_each(|kept| schema_ids.recall(kept));
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

fn gap_value(gap: &Gap, account: &str) -> Value {
    json!({
        "id": gap.id,
        "account": (!account.is_empty()).then_some(account),
        "cause": gap.cause.as_str(),
        "from": gap.from.map(|id| id.to_string()),
        "opened_at": rfc3339(gap.opened_ms),
        "closed_at": gap.closed_ms.map(rfc3339),
        // An open gap that nobody can prove is recorded as that already, so that a restart knows of it.
        "closed_by": (gap.closed_ms.is_some() || gap.unproven).then(|| gap_closed_by(gap)),
        "recovered": gap.recovered,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::{Cause, Leg};
    use crate::legs::Note;
    use crate::normalize::{Kind, SchemaId};
    use crate::provider::EventId;
    use crate::relay::progress::GapNumber;

    #[test]
    fn what_a_checkpoint_holds_is_what_is_resumed() {
        let overlap = Duration::from_secs(60);
        let mut progress = Progress::resume(None, Some(1_768_000_000_123), Vec::new(), overlap);
        let mut next = GapNumber::default();
        progress.saw(Leg::Websocket, EventId { ms: 1_768_000_000_000, seq: 7 });
        progress.note(Note::WebsocketDown { cause: Cause::Silence, at_ms: 1_768_000_100_001 }, &mut next);
        progress.note(Note::WebsocketUp { at_ms: 1_768_000_100_002 }, &mut next);
        progress.note(Note::WalkDone { started_ms: 1_768_000_200_000 }, &mut next);
        progress.note(Note::WebsocketDown { cause: Cause::Reset, at_ms: 1_768_000_300_000 }, &mut next);
        progress.recovers(1_768_000_300_001);
        progress.note(Note::Unproven { from_ms: 1_768_000_290_000, to_ms: 1_768_000_310_000 }, &mut next);
        assert!(progress.gaps()[0].unproven);
        assert_eq!((progress.gaps().len(), progress.closed().map(|gap| gap.id)), (1, Some(0)));
        let resumed = resume(Some(&marks(&progress, "shop", &SchemaIds::default())), overlap);
        assert_eq!(resumed.gaps(), progress.gaps());
        assert_eq!((resumed.cursor(), resumed.verified_ms()), (progress.cursor(), progress.verified_ms()));
        assert_eq!(resumed.closed().map(|gap| gap.id), Some(0));
    }

    #[test]
    fn what_schemas_are_called_is_recalled() {
        let [ids, next] = [SchemaIds::default(), SchemaIds::default()];
        let progress = Progress::resume(None, None, Vec::new(), Duration::ZERO);
        assert!(!String::from_utf8_lossy(&marks(&progress, "", &ids)).contains("schemas"));
        ids.learn(Kind::Invoice, SchemaId::of_number(3));
        recall(&marks(&progress, "", &ids), &next);
        assert_eq!((next.of(Kind::Order), next.of(Kind::Invoice)), (None, Some(&SchemaId::of_number(3))));
    }

    #[test]
    fn marks_that_cannot_be_read_count_as_not_there() {
        let nothing = Progress::resume(None, None, Vec::new(), Duration::ZERO);
        let odd =
            br#"{"cursor":"evt_example","verified":"soon","gaps":[null,{"id":1,"cause":"unknown","opened_at":"x"}]}"#;
        for marks in [Some(&odd[..]), Some(b"{"), Some(b"null"), Some(b"{}"), None] {
            assert_eq!(resume(marks, Duration::ZERO), nothing);
        }
    }
}

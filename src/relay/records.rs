//! What the relay writes into a batch alongside values: headers and dead letters.

use crate::clock::write_rfc3339;
use crate::kafka::Batch;
use crate::labels::Topic;
use crate::legs::{Delivery, TRACEPARENT, TRACESTATE, Trace};
use crate::normalize::{self, Kind, Normalized, Rejection, SCHEMA_ID_HEADER, SchemaIds, normalize};
use crate::provider::event::{Event, Reason};
use crate::text::truncated;
use sha2::{Digest, Sha256};
use std::borrow::Cow;

/// Longest event id, and longest key of a record. The provider's are about 25 and 36 bytes; the bound keeps a hostile
/// one out of every header and key, and lets the last resort, a dead letter with a digest, always fit.
pub const KEY_BYTES_MAX: usize = 256;

/// Longest `relay_detail` of a dead letter.
const DETAIL_BYTES_MAX: usize = 512;

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

/// What a record's headers name besides the event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names<'n> {
    /// `ce_source`.
    pub(super) source: &'n str,
    /// `relay_instance`.
    pub(super) instance: &'n str,
    /// `relay_account`; empty where accounts have no names.
    pub(super) account: &'n str,
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
    names: Names<'_>,
) {
    batch.header("ce_specversion", b"1.0");
    batch.header("ce_id", event.id.as_bytes());
    batch.header("ce_type", event.event_type.as_bytes());
    batch.header("ce_source", names.source.as_bytes());
    batch.header_with("ce_time", |out| write_rfc3339(normalized.occurred_at_ms, out));
    batch.header("ce_subject", normalized.key.as_bytes());
    batch.header("ce_dataschema", normalized.kind.schema_urn().as_bytes());
    batch.header("content-type", b"application/json");
    write_arrival(batch, arrival);
    batch.header("relay_instance", names.instance.as_bytes());
    write_account(batch, names.account);
    if let Some(Trace { parent, state }) = arrival.trace {
        batch.header(TRACEPARENT, parent.as_bytes());
        if !state.is_empty() {
            batch.header(TRACESTATE, state.as_bytes());
        }
    }
}

/// What a schema registry calls the value's schema, where that is known.
pub(super) fn write_schema_id(batch: &mut Batch, kind: Kind, ids: &SchemaIds) {
    if let Some(id) = ids.of(kind) {
        batch.header(SCHEMA_ID_HEADER, id.as_bytes());
    }
}

/// The bytes as they came, keyed by the event's id or else by their digest; for a record that Kafka refused for its
/// size only what identifies the event.
pub(super) fn write_dead_letter(
    batch: &mut Batch,
    delivery: &Delivery,
    id: Option<&str>,
    why: &(Reason, String),
    as_digest: bool,
    account: &str,
) {
    let (reason, detail) = why;
    let bytes = &delivery.bytes;
    let key = id.map_or_else(|| Cow::Owned(digest(bytes)), Cow::Borrowed);
    if as_digest {
        let digest = digest(bytes);
        let sha256 = digest.trim_start_matches("sha256:");
        let value = serde_json::json!({ "event_id": id, "bytes": bytes.len(), "sha256": sha256 });
        batch.record(Topic::DeadLetter, key.as_bytes(), value.to_string().as_bytes());
    } else {
        batch.record(Topic::DeadLetter, key.as_bytes(), bytes);
    }
    write_arrival(batch, Origin::of(delivery));
    write_account(batch, account);
    batch.header("relay_reason", reason.as_str().as_bytes());
    batch.header("relay_detail", detail.as_bytes());
}

fn write_arrival(batch: &mut Batch, Origin { leg, at_ms, .. }: Origin<'_>) {
    batch.header("relay_leg", leg.as_bytes());
    batch.header_with("relay_received_at", |out| write_rfc3339(at_ms, out));
}

fn write_account(batch: &mut Batch, account: &str) {
    if !account.is_empty() {
        batch.header("relay_account", account.as_bytes());
    }
}

/// `sha256:` and 64 hex digits.
pub(super) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::from("sha256:"), |text, byte| text + &format!("{byte:02x}"))
}

/// The detail, cut to its bound.
pub(super) fn bounded(detail: String) -> String {
    truncated(detail, DETAIL_BYTES_MAX)
}

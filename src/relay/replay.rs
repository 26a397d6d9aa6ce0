//! Events that are published once more, on purpose: the relay's values and headers, past its window and versions.
//!
//! Pure. Knows nothing of what was published before, so each record is marked stale (a consumer that keeps the newest
//! of each key passes over it), and none goes to the topic of latest events. What the relay cannot publish is left
//! out: it is a dead letter already.

use super::planner::{Settings, source};
use super::records::{KEY_BYTES_MAX, Names, Origin, write_headers, write_schema_id, write_value};
use crate::kafka::Batch;
use crate::labels::{REPLAY, Topic};
use crate::normalize::{Route, route};
use crate::provider::event::{Reason, decode};

/// What becomes of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// A record for this topic.
    Record(Topic),
    /// Nothing: a `test.ping`, or an event of a topic that is turned off.
    Ignored,
    /// Nothing: the relay keeps it as a dead letter.
    Unpublishable(Reason),
}

/// One replay.
#[derive(Clone, Debug)]
pub struct Replay {
    settings: Settings,
    source: String,
    account: String,
    id: String,
}

impl Replay {
    /// A replay of an account's events that its records name `id`; `account` is empty where accounts have no names.
    pub fn new(settings: Settings, account: String, id: String) -> Self {
        let source = source(settings.normalize.environment, &account);
        Self { settings, source, account, id }
    }

    /// Appends the event's record to `batch`, as received at `now_ms` (Unix milliseconds).
    pub fn add(&self, batch: &mut Batch, bytes: &[u8], now_ms: i64) -> Again {
        let event = match decode(bytes) {
            Ok(event) if event.id.len() > KEY_BYTES_MAX => return Again::Unpublishable(Reason::MissingField),
            Ok(event) => event,
            Err(undecodable) => return Again::Unpublishable(undecodable.reason),
        };
        let topic = match route(&event.event_type) {
            Route::Order => Topic::Orders,
            Route::Invoice if self.settings.invoices => Topic::Invoices,
            Route::Invoice | Route::Ping => return Again::Ignored,
            Route::Unknown => return Again::Unpublishable(Reason::UnknownType),
        };
        let normalized = match write_value(batch, topic, &event, &self.settings.normalize) {
            Ok(normalized) => normalized,
            Err(rejection) => return Again::Unpublishable(rejection.reason),
        };
        let arrival = Origin { leg: REPLAY, at_ms: now_ms, trace: None };
        let Self { settings, source, account, .. } = self;
        write_headers(batch, &event, &normalized, arrival, Names { source, instance: &settings.instance, account });
        write_schema_id(batch, normalized.kind, &settings.schema_ids);
        batch.header("relay_stale", b"true");
        batch.header("relay_replay", self.id.as_bytes());
        Again::Record(topic)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]

    use super::*;

    fn replay(invoices: bool) -> Replay {
        let settings = Settings { invoices, ..Settings::in_tests("desk") };
        Replay::new(settings, String::new(), "r-1".into())
    }

    fn event(kind: &str, object: &str) -> String {
        format!(
            r#"{{"id":"evt_1700000000000-0","object":"event","type":"{kind}","created":1,"data":{{"object":{object}}}}}"#
        )
    }

    #[test]
    fn a_record_is_stale_names_its_replay_and_never_goes_to_latest() {
        let mut batch = Batch::default();
        let body = event("commerce.order.updated", r#"{"orderId":"a","status":"placed"}"#);
        assert_eq!(replay(true).add(&mut batch, body.as_bytes(), 7), Again::Record(Topic::Orders));
        assert_eq!(batch.len(), 1);
        let record = batch.get(0).unwrap();
        assert_eq!((record.topic(), record.key()), (Topic::Orders, &b"a"[..]));
        let headers: Vec<_> = record.headers().collect();
        for wanted in [
            ("ce_id", &b"evt_1700000000000-0"[..]),
            ("relay_leg", b"replay"),
            ("relay_received_at", b"1970-01-01T00:00:00.007Z"),
            ("relay_instance", b"desk"),
            ("relay_stale", b"true"),
            ("relay_replay", b"r-1"),
        ] {
            assert!(headers.contains(&wanted), "{wanted:?}");
        }
    }

    #[test]
    fn what_has_no_record_leaves_nothing_behind() {
        let invoice = event("invoice.created", r#"{"id":"i"}"#);
        assert_eq!(replay(true).add(&mut Batch::default(), invoice.as_bytes(), 7), Again::Record(Topic::Invoices));
        for (invoices, body, again) in [
            (false, invoice, Again::Ignored),
            (true, event("test.ping", "{}"), Again::Ignored),
            (true, event("payment_quote.updated", "{}"), Again::Unpublishable(Reason::UnknownType)),
            (true, event("commerce.order.updated", "{}"), Again::Unpublishable(Reason::MissingField)),
            (true, "{".into(), Again::Unpublishable(Reason::MalformedJson)),
            (
                true,
                event("commerce.order.updated", &format!(r#"{{"orderId":"{}"}}"#, "a".repeat(KEY_BYTES_MAX + 1))),
                Again::Unpublishable(Reason::MissingField),
            ),
        ] {
            let mut batch = Batch::default();
            assert_eq!(replay(invoices).add(&mut batch, body.as_bytes(), 7), again, "{body}");
            assert!(batch.is_empty() && batch.bytes() == 0);
        }
    }
}

//! What the loop shows operators: handed over once a batch, and when a gap opens or closes.
//!
//! The work of it is bounded by what is shown, not by what a batch holds: of the orders in it only the last ones are
//! looked at.

use super::pipeline::Pipeline;
use super::planner::Now;
use crate::kafka::{Batch, Record};
use crate::labels::Topic;
use crate::relay::progress::{Gap, Progress};
use crate::telemetry::{self, Inside, LATEST_MAX, Latest};
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What is shown of an order event's value; the rest is passed over.
#[derive(Deserialize)]
struct Value<'v> {
    #[serde(borrow)]
    event_type: Cow<'v, str>,
    #[serde(borrow)]
    occurred_at: Cow<'v, str>,
    #[serde(borrow)]
    order_id: Cow<'v, str>,
    #[serde(borrow)]
    status: Option<Cow<'v, str>>,
}

/// The newest orders of a batch that was committed, oldest first.
pub(super) fn latest(batch: &Batch) -> Vec<Latest> {
    let from_last = (0..batch.len()).rev().filter_map(|index| batch.get(index));
    let orders =
        from_last.filter(|record| record.topic() == Topic::Orders && header(*record, "relay_stale").is_empty());
    let mut latest: Vec<_> = orders.take(LATEST_MAX).filter_map(shown).collect();
    latest.reverse();
    latest
}

fn shown(record: Record<'_>) -> Option<Latest> {
    let value: Value<'_> = serde_json::from_slice(record.value()?).ok()?;
    Some(Latest {
        order_id: value.order_id.into_owned(),
        status: value.status.map(Cow::into_owned),
        event_type: value.event_type.into_owned(),
        occurred_at: value.occurred_at.into_owned(),
        leg: header(record, "relay_leg").into_owned(),
    })
}

fn header<'b>(record: Record<'b>, name: &str) -> Cow<'b, str> {
    let value = record.headers().find(|(header, _)| *header == name).map_or(&b""[..], |(_, value)| value);
    String::from_utf8_lossy(value)
}

/// What the pipeline knows now. A gap that is open stays shown until its end is reported, though a plan may hold it
/// already.
pub(super) fn look(inside: &mut Inside, pipeline: &Pipeline, now: Now) {
    let window = pipeline.window();
    inside.cursor = sole(pipeline).and_then(Progress::cursor).map(|id| id.to_string());
    inside.ids = window.len();
    inside.oldest_ms = window.oldest_age_ms(now.own_ms).map(|age_ms| now.ms.saturating_sub(age_ms));
    let mut open = inside.open.iter_mut().map(|open| (open.id, open)).collect::<BTreeMap<_, _>>();
    for gap in pipeline.progress().flat_map(|(_, progress)| progress.gaps()) {
        if let Some(open) = open.get_mut(&gap.id) {
            open.end_ms = gap.end_ms;
            open.recovered = gap.recovered;
        }
    }
}

/// The progress of the account, where there is one alone.
fn sole(pipeline: &Pipeline) -> Option<&Progress> {
    let mut all = pipeline.progress();
    let first = all.next()?;
    all.next().is_none().then_some(first.1)
}

/// The gaps that are open, as they are shown, in the order in which they opened.
pub(super) fn open(pipeline: &Pipeline) -> Vec<telemetry::GapStory> {
    let of = |account| Some(pipeline.name(account)).filter(|name| !name.is_empty());
    let each = pipeline.progress().map(|(account, progress)| (of(account), progress.gaps()));
    let mut open: Vec<_> = each.flat_map(|(account, gaps)| gaps.iter().map(move |gap| story(account, gap))).collect();
    open.sort_by_key(|gap| gap.id);
    open
}

/// A gap of an account as it is shown.
pub(super) fn story(account: Option<&str>, gap: &Gap) -> telemetry::GapStory {
    telemetry::GapStory {
        id: gap.id,
        account: account.map(str::to_owned),
        cause: gap.cause.as_str(),
        from: gap.from.map(|id| id.to_string()),
        opened_ms: gap.opened_ms,
        end_ms: gap.end_ms,
        closed_ms: gap.closed_ms,
        recovered: gap.recovered,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]
    use super::*;

    fn order(batch: &mut Batch, id: usize, status: &str, stale: bool) {
        let value = format!(
            r#"{{"event_id":"e","event_type":"commerce.order.updated","occurred_at":"t","order_id":"{id}","status":{status},"order":{{"status":"inner"}}}}"#
        );
        batch.record(Topic::Orders, id.to_string().as_bytes(), value.as_bytes());
        batch.header("relay_leg", b"webhook");
        if stale {
            batch.header("relay_stale", b"true");
        } else {
            batch.repeat_last(Topic::OrdersLatest);
        }
    }

    fn ids(batch: &Batch) -> Vec<String> {
        latest(batch).into_iter().map(|latest| latest.order_id).collect()
    }

    #[test]
    fn the_last_orders_of_a_batch_are_shown_without_what_is_stale() {
        let mut batch = Batch::default();
        assert_eq!(ids(&batch), [""; 0]);
        (0..100).for_each(|id| order(&mut batch, id, "\"placed\"", id == 99));
        batch.record(Topic::DeadLetter, b"x", b"no JSON");
        let expected: Vec<_> = (99 - LATEST_MAX..99).map(|id| id.to_string()).collect();
        assert_eq!(ids(&batch), expected);
        let shown = latest(&batch).pop().unwrap();
        assert_eq!((shown.status.as_deref(), shown.leg.as_str()), (Some("placed"), "webhook"));
    }

    #[test]
    fn a_value_without_the_usual_members_is_tolerated() {
        let mut batch = Batch::default();
        order(&mut batch, 1, "null", false);
        batch.record(Topic::Orders, b"2", b"{}");
        assert_eq!(latest(&batch).iter().map(|latest| latest.status.clone()).collect::<Vec<_>>(), [None]);
    }
}

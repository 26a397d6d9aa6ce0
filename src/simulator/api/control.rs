//! `/simulator/…`: what the provider does not have, for tests that run the simulator as a process of its own.
//!
//! It hands out what a test in process reaches by [`Simulator`](crate::simulator::Simulator): the faults, load, and
//! what was issued so far, against which a consumer's records can be checked. The faults of REST do not touch these routes.

use super::Params;
use super::answer::{Error, body, success};
use super::events::number;
use crate::simulator::faults::{Cut, Faults};
use crate::simulator::hub::Hub;
use crate::simulator::model::{Details, Transition};
use crate::simulator::pace::some_order;
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// Events on a page of `GET /simulator/events`: about 100 kB.
const PAGE_MAX: usize = 1_000;
/// Orders of one request: ten thousand events, as many as the log keeps.
const ORDERS_MAX: u64 = 1_000;
/// The longest wait that a fault may bring: beyond every time-out of a client.
const WAIT_MAX_S: u64 = 3_600;

/// The routes; the caller asks for the key.
pub(super) fn router() -> Router<Arc<Hub>> {
    Router::new()
        .route("/simulator/faults", post(set_faults))
        .route("/simulator/cut", post(cut))
        .route("/simulator/availability", post(set_availability))
        .route("/simulator/orders", post(pour))
        .route("/simulator/events", get(issued).post(publish))
}

/// The body is [`Faults`] as they are to be; what it leaves out is off, so `{}` ends them all.
async fn set_faults(State(hub): State<Arc<Hub>>, bytes: Bytes) -> Result<Response, Error> {
    let wanted: Faults = body(&bytes)?;
    let waits = [wanted.webhooks.delay, wanted.webhooks.jitter, wanted.rest.delay, wanted.rest.log_visible_after];
    if waits.iter().any(|wait| wait.as_secs() > WAIT_MAX_S) {
        return Err(Error::invalid("a fault's time is at most an hour"));
    }
    let refusals = [wanted.websocket.refuse, wanted.rest.refuse];
    if refusals.into_iter().flatten().any(|answer| !(400..=599).contains(&answer.status)) {
        return Err(Error::invalid("refuse.status is between 400 and 599"));
    }
    hub.set_faults(|faults| *faults = wanted);
    Ok(success(json!({})))
}

/// Ends every socket, as the body asks: `"abrupt"`, `{"close":1001}`, `{"error":"CODE"}`.
async fn cut(State(hub): State<Arc<Hub>>, bytes: Bytes) -> Result<Response, Error> {
    let how: Cut = body(&bytes)?;
    Ok(success(json!({ "sockets": hub.cut_sockets(&how) })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Availability {
    available: bool,
}

/// Turns commerce off, as an empty escrow does, or on again.
async fn set_availability(State(hub): State<Arc<Hub>>, bytes: Bytes) -> Result<Response, Error> {
    let Availability { available } = body(&bytes)?;
    hub.world().model.set_available(available);
    Ok(success(json!({ "available": available })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pour {
    count: u64,
}

/// Makes `count` orders and lets each live its whole life, ten events, at once.
async fn pour(State(hub): State<Arc<Hub>>, bytes: Bytes) -> Result<Response, Error> {
    let Pour { count } = body(&bytes)?;
    if count > ORDERS_MAX {
        return Err(Error::invalid("count is at most 1000"));
    }
    for _ in 0..count {
        // An order at a time under the lock: sockets and webhooks are served between.
        hub.change(|model, chance, now| {
            let order_id = model.create_order(some_order(chance), now, chance)?;
            Transition::LIFE
                .into_iter()
                .try_for_each(|step| model.simulate(&order_id, step, &Details::default(), now, chance))
        })?;
        tokio::task::yield_now().await;
    }
    Ok(success(json!({ "issued": hub.world().model.log().appended() })))
}

/// Issues the body as an event, on every channel; members that make it an event are filled in where missing.
async fn publish(State(hub): State<Arc<Hub>>, bytes: Bytes) -> Result<Response, Error> {
    let event: Value = body(&bytes)?;
    let issued = hub.change(|model, _, now| model.publish_custom(event, now))?;
    Ok(success(json!({ "id": issued.id })))
}

/// What was issued, oldest first, from number `from` on (0 was the first of all); ask again from `next`.
///
/// Refused with 400 where the log has forgotten an event that was asked for.
async fn issued(State(hub): State<Arc<Hub>>, params: Params) -> Result<Response, Error> {
    let from = number(&params, "from")?.unwrap_or(0);
    let from = u64::try_from(from).map_err(|_| Error::invalid("from must not be negative"))?;
    let world = hub.world();
    let log = world.model.log();
    let first = log.appended().saturating_sub(log.all().count() as u64);
    if from < first {
        return Err(Error::invalid(&format!("the log has forgotten the events before number {first}")));
    }
    let skipped = usize::try_from(from - first).unwrap_or(usize::MAX);
    let page = log.all().skip(skipped).take(PAGE_MAX);
    let page: Vec<_> =
        page.map(|event| json!({ "id": event.id, "type": event.kind, "order_id": event.scope.order_id })).collect();
    let next = from.saturating_add(page.len() as u64);
    Ok(success(json!({ "events": page, "next": next, "issued": log.appended() })))
}

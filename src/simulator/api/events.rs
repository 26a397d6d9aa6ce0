//! `/api/v1/events`: the log, newest first, in pages (`api-reference/events/list-events`).

use super::Params;
use super::answer::{Error, success};
use crate::clock::now_ms;
use crate::provider::EventId;
use crate::simulator::hub::Hub;
use crate::simulator::model::{Event, Query, Scope, Types};
use axum::extract::{Path, State};
use axum::response::Response;
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::sync::Arc;

/// Page sizes (`api-spec/pagination`).
const LIMIT_DEFAULT: usize = 10;
const LIMIT_MAX: usize = 100;

#[derive(Serialize)]
struct List {
    object: &'static str,
    data: Vec<Box<RawValue>>,
    has_more: bool,
}

pub(super) async fn list(State(hub): State<Arc<Hub>>, params: Params) -> Result<Response, Error> {
    let query = parse(&params, hub.world().model.settings().environment())?;
    let mut world = hub.world();
    let now = now_ms();
    world.model.expire_log(now);
    if world.faults.rest.unknown_cursor_refused {
        let unknown = |cursor: &EventId| !world.model.log().holds(*cursor);
        if query.starting_after.iter().chain(&query.ending_before).any(unknown) {
            return Err(Error::invalid("No such event to start from"));
        }
    }
    let page = world.model.log().list(&query, now);
    drop(world);
    let data = page.events.iter().map(|event| raw(event)).collect::<Result<_, _>>()?;
    Ok(success(List { object: "list", data, has_more: page.has_more }))
}

pub(super) async fn get(State(hub): State<Arc<Hub>>, Path(event_id): Path<String>) -> Result<Response, Error> {
    let event = hub.world().model.log().get(&event_id, now_ms());
    let event = event.ok_or_else(|| Error::not_found("Event not found"))?;
    Ok(success(raw(&event)?))
}

/// The event's own bytes, as every channel sends them.
fn raw(event: &Event) -> Result<Box<RawValue>, Error> {
    serde_json::from_slice(&event.bytes).map_err(|_| Error::invalid("The event is no JSON"))
}

/// Objects that a query or a socket is about.
pub(super) fn scope(params: &HashMap<String, String>) -> Scope {
    let get = |name: &str| params.get(name).cloned();
    Scope {
        order_id: get("order_id"),
        invoice_id: get("invoice_id"),
        customer_id: get("customer_id"),
        wallet_address: get("wallet_address"),
        wallet_network: get("wallet_network"),
    }
}

/// A commerce key belongs to one environment; asking for the other is a mistake.
pub(super) fn check_environment(params: &HashMap<String, String>, own: &str) -> Result<(), Error> {
    match params.get("environment") {
        Some(other) if other != own => Err(Error::invalid("environment does not match the key's")),
        _ => Ok(()),
    }
}

/// An event id that is given as a cursor.
pub(super) fn cursor(params: &HashMap<String, String>, name: &str) -> Result<Option<EventId>, Error> {
    let parse = |id: &String| id.parse().map_err(|_| Error::invalid(&format!("{name} is not an event id")));
    params.get(name).map(parse).transpose()
}

/// Types that are given by name.
pub(super) fn types(params: &HashMap<String, String>, name: &str) -> Result<Option<Types>, Error> {
    let parse =
        |text: &String| Types::parse(text).map_err(|_| Error::invalid(&format!("{name} names an unknown type")));
    params.get(name).map(parse).transpose()
}

fn parse(params: &HashMap<String, String>, environment: &str) -> Result<Query, Error> {
    check_environment(params, environment)?;
    let query = Query {
        types: types(params, "type")?,
        scope: scope(params),
        created_from: number(params, "created[gte]")?,
        created_to: number(params, "created[lte]")?,
        starting_after: cursor(params, "starting_after")?,
        ending_before: cursor(params, "ending_before")?,
        limit: limit(params, LIMIT_DEFAULT, LIMIT_MAX)?,
    };
    if query.starting_after.is_some() && query.ending_before.is_some() {
        return Err(Error::invalid("starting_after and ending_before exclude each other"));
    }
    Ok(query)
}

/// An integer parameter.
pub(super) fn number(params: &HashMap<String, String>, name: &str) -> Result<Option<i64>, Error> {
    let parse = |text: &String| text.parse().map_err(|_| Error::invalid(&format!("{name} must be an integer")));
    params.get(name).map(parse).transpose()
}

/// The page size.
pub(super) fn limit(params: &HashMap<String, String>, default: usize, max: usize) -> Result<usize, Error> {
    let wanted = number(params, "limit")?.map_or(Ok(default), usize::try_from);
    let fits = wanted.ok().filter(|limit| (1..=max).contains(limit));
    fits.ok_or_else(|| Error::invalid(&format!("limit must be between 1 and {max}")))
}

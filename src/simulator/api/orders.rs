//! Orders: list, get, cancel (`api-spec/commerce/orders`), and the devnet simulation of their life.

use super::Params;
use super::answer::{Error, body, success};
use super::events::{limit, number};
use crate::simulator::hub::{ANSWERS_MAX, Hub};
use crate::simulator::model::{Details, Order, Refused, Status, Transition};
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Page sizes: the default is documented, the most is not.
const LIMIT_DEFAULT: usize = 20;
const LIMIT_MAX: usize = 100;
/// Longest idempotency key; a UUID has 36.
const IDEMPOTENCY_KEY_MAX: usize = 255;

/// Newest first. `count` is the page's size: whether it is that or the total is not documented.
pub(super) async fn list(State(hub): State<Arc<Hub>>, params: Params) -> Result<Response, Error> {
    let filter = ListFilter::parse(&params)?;
    let limit = limit(&params, LIMIT_DEFAULT, LIMIT_MAX)?;
    let offset = number(&params, "offset")?.unwrap_or(0);
    let offset = usize::try_from(offset).map_err(|_| Error::invalid("offset must not be negative"))?;
    let world = hub.world();
    let page = world.model.orders().filter(|order| filter.wants(order)).skip(offset).take(limit);
    let rows: Vec<_> = page.map(|order| order.snapshot.row()).collect();
    let pagination = json!({ "limit": limit, "offset": offset, "count": rows.len() });
    Ok(success(json!({ "orders": rows, "pagination": pagination })))
}

pub(super) async fn get(State(hub): State<Arc<Hub>>, Path(order_id): Path<String>) -> Result<Response, Error> {
    let world = hub.world();
    let order = world.model.order(&order_id).ok_or(Refused::NotFound("Order"))?;
    Ok(success(&order.snapshot))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Simulation {
    transition_to: String,
    wallet_network: Option<String>,
    wallet_address: Option<String>,
    #[serde(default)]
    tracking: Tracking,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tracking {
    carrier: Option<String>,
    tracking_number: Option<String>,
}

pub(super) async fn simulate(
    State(hub): State<Arc<Hub>>,
    Path(order_id): Path<String>,
    bytes: Bytes,
) -> Result<Response, Error> {
    let simulation: Simulation = body(&bytes)?;
    let transition = Transition::parse(&simulation.transition_to)
        .ok_or_else(|| Error::invalid("transitionTo is not a known transition"))?;
    let details = Details {
        wallet_network: simulation.wallet_network,
        wallet_address: simulation.wallet_address,
        carrier: simulation.tracking.carrier,
        tracking_number: simulation.tracking.tracking_number,
    };
    let snapshot = hub.change(|model, chance, now| {
        model.simulate(&order_id, transition, &details, now, chance)?;
        model.order(&order_id).map(|order| order.snapshot.clone()).ok_or(Refused::NotFound("Order"))
    })?;
    Ok(success(json!({ "order": snapshot })))
}

#[derive(Default, Deserialize)]
struct Cancellation {
    #[serde(rename = "refundDestinationWalletAddressBsc")]
    destination: Option<String>,
}

pub(super) async fn cancel(
    State(hub): State<Arc<Hub>>,
    Path(order_id): Path<String>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, Error> {
    let key = idempotency_key(&headers)?.ok_or_else(Error::no_idempotency_key)?;
    let cancellation: Cancellation = if bytes.is_empty() { Cancellation::default() } else { body(&bytes)? };
    let data = once(&hub, Some(key), (&order_id, &bytes), || {
        hub.change(|model, _, now| {
            model.request_cancellation(&order_id, cancellation.destination.as_deref(), now)?;
            let order = &model.order(&order_id).ok_or(Refused::NotFound("Order"))?.snapshot;
            Ok(json!({
                "orderId": order.order_id, "status": order.status, "substatus": order.substatus,
                "customerId": order.customer_id, "refundQuote": {},
            }))
        })
    })?;
    Ok(success(data))
}

/// The request's `Idempotency-Key`.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Error> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| (1..=IDEMPOTENCY_KEY_MAX).contains(&key.len()));
    key.map(Some).ok_or_else(|| Error::invalid("Idempotency-Key must be 1 to 255 printable characters"))
}

/// Carries out a request once a key: the same request again gets the first answer, another one with the same key
/// is refused. A request that failed is not remembered.
pub(super) fn once(
    hub: &Hub,
    key: Option<&str>,
    request: impl Hash,
    carry_out: impl FnOnce() -> Result<Value, Refused>,
) -> Result<Value, Error> {
    let Some(key) = key else { return Ok(carry_out()?) };
    let mut hasher = siphasher::sip::SipHasher13::new();
    request.hash(&mut hasher);
    let digest = hasher.finish();
    // Held to the end: two copies of a request that come at once are one request too.
    let mut answers = hub.answers();
    if let Some((_, known, answer)) = answers.iter().find(|(known, ..)| known == key) {
        return if *known == digest { Ok(answer.clone()) } else { Err(Refused::Conflict.into()) };
    }
    let answer = carry_out()?;
    if answers.len() >= ANSWERS_MAX {
        answers.pop_front();
    }
    answers.push_back((key.to_owned(), digest, answer.clone()));
    Ok(answer)
}

struct ListFilter {
    wallet: Option<String>,
    wallet_network: Option<String>,
    customer_id: Option<String>,
    status: Option<Status>,
    retailer: Option<String>,
    created_from: Option<i64>,
    created_to: Option<i64>,
}

impl ListFilter {
    fn parse(params: &HashMap<String, String>) -> Result<Self, Error> {
        let get = |name: &str| params.get(name).cloned();
        let status = params
            .get("status")
            .map(|text| Status::parse(text).ok_or_else(|| Error::invalid("status is not a known order status")));
        let filter = Self {
            wallet: get("wallet"),
            wallet_network: get("walletNetwork"),
            customer_id: get("customer_id"),
            status: status.transpose()?,
            retailer: get("retailer"),
            created_from: time(params, "createdFrom")?,
            created_to: time(params, "createdTo")?,
        };
        if filter.wallet.is_some() && filter.wallet_network.is_none() {
            return Err(Error::invalid("walletNetwork is required with wallet"));
        }
        Ok(filter)
    }

    fn wants(&self, order: &Order) -> bool {
        let order = &order.snapshot;
        let same = |wanted: &Option<String>, own: Option<&str>| wanted.is_none() || wanted.as_deref() == own;
        same(&self.wallet, order.wallet_address.as_deref())
            && same(&self.wallet_network, order.wallet_network.as_deref())
            && same(&self.customer_id, order.customer_id.as_deref())
            && same(&self.retailer, Some(order.retailer.as_str()))
            && self.status.is_none_or(|status| status == order.status)
            && self.created_from.is_none_or(|from| order.created_at.seconds >= from)
            && self.created_to.is_none_or(|to| order.created_at.seconds <= to)
    }
}

/// Unix seconds, or ISO 8601 as in the older documentation.
fn time(params: &HashMap<String, String>, name: &str) -> Result<Option<i64>, Error> {
    let parse = |text: &String| {
        let iso = || text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second);
        text.parse().ok().or_else(iso).ok_or_else(|| Error::invalid(&format!("{name} is not a time")))
    };
    params.get(name).map(parse).transpose()
}

//! The page at `/`, where a person watches the orders and presses their transitions, and what it asks for.
//!
//! It has no key: every client that reaches the simulator may use it, since nothing in it is real. What it changes asks for a
//! header that no foreign page can send without being allowed to first (a CORS preflight, which nothing here answers),
//! so that a page elsewhere cannot press buttons in it.

use super::answer::{Error, success};
use crate::clock::now_ms;
use crate::simulator::hub::Hub;
use crate::simulator::model::{Details, Transition};
use crate::simulator::pace::some_order;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use std::sync::Arc;

/// Orders that the page shows, the newest: more is no page for people.
const ORDERS_MAX: usize = 50;

/// The header by which the page's own requests are known.
const FROM_PAGE: &str = "x-simulator-page";

/// One file without a request to anywhere else; the policy makes sure of it.
const PAGE: &str = include_str!("page.html");
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
    img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn routes() -> Router<Arc<Hub>> {
    Router::new()
        .route("/", get(page))
        .route("/page/orders", get(orders).post(create))
        .route("/page/orders/{order_id}/{transition}", post(press))
}

async fn page() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, PAGE).into_response()
}

/// The newest orders, each with every transition and why it is refused now, if it is.
async fn orders(State(hub): State<Arc<Hub>>) -> Response {
    let world = hub.world();
    let now = now_ms();
    let model = &world.model;
    let rows = model.orders().take(ORDERS_MAX).map(|order| {
        let choices = model
            .choices(order, now)
            .into_iter()
            .map(|choice| json!({ "transition": choice.transition.as_str(), "refusal": choice.refusal }));
        let snapshot = &order.snapshot;
        let titles = snapshot.line_items.iter().map(|line| format!("{} × {}", line.quantity, line.title));
        json!({
            "orderId": snapshot.order_id, "status": snapshot.status, "substatus": snapshot.substatus,
            "payment": order.invoice.status, "settlement": snapshot.payment.settlement.status,
            "cancellation": snapshot.cancellation_status, "refund": snapshot.refund_status,
            "total": snapshot.total_amount_usd, "items": titles.collect::<Vec<_>>(),
            "createdAt": snapshot.created_at.seconds, "updatedAt": snapshot.updated_at.seconds,
            "expiresAt": order.invoice.expires_at.seconds, "choices": choices.collect::<Vec<_>>(),
        })
    });
    let rows: Vec<Value> = rows.collect();
    let environment = model.settings().environment();
    success(json!({ "environment": environment, "total": model.orders().count(), "orders": rows }))
}

async fn create(State(hub): State<Arc<Hub>>, headers: HeaderMap) -> Result<Response, Error> {
    from_page(&headers)?;
    let order_id = hub.change(|model, chance, now| model.create_order(some_order(chance), now, chance))?;
    Ok(success(json!({ "orderId": order_id })))
}

async fn press(
    State(hub): State<Arc<Hub>>,
    Path((order_id, transition)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    from_page(&headers)?;
    let transition =
        Transition::parse(&transition).ok_or_else(|| Error::invalid("transitionTo is not a known transition"))?;
    hub.change(|model, chance, now| model.simulate(&order_id, transition, &Details::default(), now, chance))?;
    Ok(success(json!({ "orderId": order_id })))
}

fn from_page(headers: &HeaderMap) -> Result<(), Error> {
    if headers.contains_key(FROM_PAGE) {
        Ok(())
    } else {
        Err(Error::forbidden("Only the simulator's page may do this"))
    }
}

//! The REST skin: routes, keys, faults of the calls, request ids.

mod answer;
mod checkout;
mod control;
mod events;
mod orders;
mod page;
mod payments;
mod websocket;

use super::hub::Hub;
use crate::clock::now_ms;
use answer::Error;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use std::collections::HashMap;
use std::sync::Arc;

/// Longest request body; the largest legal one is a cart of 100 items, about 20 kB.
const BODY_MAX: usize = 256 * 1024;

/// Query parameters as they came, the last of a repeated one.
type Params = axum::extract::Query<HashMap<String, String>>;

/// Every route of the simulator.
pub(super) fn router(hub: Arc<Hub>) -> Router {
    let keyed = Router::new()
        .route("/api/v1/events", get(events::list))
        .route("/api/v1/events/{event_id}", get(events::get))
        .route("/api/v1/ws/token", post(websocket::mint_token))
        .route("/api/commerce/status", get(checkout::status))
        .route("/api/commerce/search", get(checkout::search))
        .route("/api/commerce/products/{product_id}", get(checkout::product))
        .route("/api/commerce/products/{product_id}/offers", get(checkout::offers))
        .route("/api/commerce/merchant/checkout/estimate", post(checkout::estimate))
        .route("/api/commerce/merchant/checkout/address", post(checkout::address))
        .route("/api/commerce/merchant/checkout/invoice", post(checkout::invoice))
        .route("/api/commerce/merchant/orders", get(orders::list))
        .route("/api/commerce/merchant/orders/{order_id}", get(orders::get))
        .route("/api/commerce/merchant/orders/{order_id}/cancel", post(orders::cancel))
        .route("/api/commerce/merchant/payments/{order_id}/status", get(payments::status))
        .route("/api/commerce/merchant/payments/bulk-status", post(payments::bulk))
        .route("/api/commerce/merchant/invoices/{invoice_id}/status", get(payments::order_by_invoice))
        .route("/api/v1/invoices/{invoice_id}/status", get(payments::invoice))
        .route("/api/commerce/devnet/orders/{order_id}/simulate", post(orders::simulate))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&hub), authenticate))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&hub), misbehave));
    let control = control::router().route_layer(middleware::from_fn_with_state(Arc::clone(&hub), authenticate));
    Router::new()
        .merge(keyed)
        .merge(page::routes())
        .merge(control)
        .route("/ws/commerce/events", get(websocket::connect))
        .fallback(async || Error::not_found("Route not found"))
        .method_not_allowed_fallback(async || Error::method_not_allowed())
        .layer(axum::extract::DefaultBodyLimit::max(BODY_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&hub), name_request))
        .with_state(hub)
}

/// Whether the headers carry the commerce key, in either spelling.
///
/// # Errors
/// 400 for both headers at once, which the provider's SDK never sends; 401 for no key or an unknown one, 403 for the
/// merchant's key, which has another scope.
fn check_key(hub: &Hub, headers: &HeaderMap) -> Result<(), Error> {
    let commerce = headers.get("x-commerce-api-key");
    let newer = headers.get("x-api-key");
    if commerce.is_some() && newer.is_some() {
        return Err(Error::invalid("x-commerce-api-key and x-api-key exclude each other"));
    }
    match commerce.or(newer).map(HeaderValue::as_bytes) {
        Some(key) if hub.world().api_keys.iter().any(|taken| taken.as_bytes() == key) => Ok(()),
        Some(key) if key == hub.options.merchant_key.as_bytes() => {
            Err(Error::forbidden("Key lacks the required scope"))
        }
        _ => Err(Error::unauthorized()),
    }
}

async fn authenticate(State(hub): State<Arc<Hub>>, request: Request, next: Next) -> Response {
    if let Err(error) = check_key(&hub, request.headers()) {
        return error.into_response();
    }
    let admitted = hub.world().model.admit(now_ms());
    match admitted {
        Ok(()) => next.run(request).await,
        Err(wait_s) => Error::rate_limited(Some(wait_s)).into_response(),
    }
}

/// The REST faults: late, or refused.
async fn misbehave(State(hub): State<Arc<Hub>>, request: Request, next: Next) -> Response {
    let faults = hub.faults().rest;
    if !faults.delay.is_zero() {
        tokio::select! {
            () = tokio::time::sleep(faults.delay) => {}
            () = hub.stop.cancelled() => return Error::from_status(StatusCode::SERVICE_UNAVAILABLE, None).into_response(),
        }
    }
    match faults.refuse {
        Some(answer) => Error::from_fault(answer).into_response(),
        None => next.run(request).await,
    }
}

/// Gives every answer its `x-request-id`.
async fn name_request(State(hub): State<Arc<Hub>>, request: Request, next: Next) -> Response {
    let number = {
        let mut world = hub.world();
        world.requests += 1;
        world.requests
    };
    let mut response = next.run(request).await;
    if let Ok(id) = HeaderValue::from_str(&format!("req_{number:08x}")) {
        response.headers_mut().insert("x-request-id", id);
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return response;
    }
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

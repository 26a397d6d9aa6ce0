//! The way onto the WebSocket: tokens, the query, refusals, and replay without a gap.

use super::answer::{Error, body, success};
use super::checkout::host;
use super::events::{check_environment, cursor, scope, types};
use super::{Params, check_key};
use crate::clock::now_ms;
use crate::simulator::hub::Hub;
use crate::simulator::model::{Chance, Filter, Stamp, Types};
use crate::simulator::push::replay;
use crate::simulator::push::websocket::{CONNECTIONS_MAX, Registration, run};
use crate::simulator::subscriber::Subscriber;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;

/// Lives of a token; the provider gives no figures.
const TOKEN_TTL_DEFAULT_S: i64 = 60;
const TOKEN_TTL_MAX_S: i64 = 3600;
/// Most tokens alive.
const TOKENS_MAX: usize = 10_000;
/// Longest message from a client, which has nothing to send.
const CLIENT_MESSAGE_MAX: usize = 64 * 1024;

#[derive(Deserialize)]
struct TokenRequest {
    scope: String,
    ttl_seconds: Option<i64>,
}

/// `POST /api/v1/ws/token`. The token has a JWT's three parts, but is opaque: nothing is encoded in it.
pub(super) async fn mint_token(
    State(hub): State<Arc<Hub>>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, Error> {
    let request: TokenRequest = body(&bytes)?;
    let ttl = request.ttl_seconds.unwrap_or(TOKEN_TTL_DEFAULT_S);
    if request.scope != "commerce" || !(1..=TOKEN_TTL_MAX_S).contains(&ttl) {
        return Err(Error::invalid("scope must be the key's, ttl_seconds between 1 and 3600"));
    }
    let world = &mut *hub.world();
    let now = now_ms();
    world.tokens.retain(|_, lapses_at| *lapses_at > now);
    if world.tokens.len() >= TOKENS_MAX {
        return Err(Error::rate_limited(Some(60)));
    }
    let part = |text: String| text.replace('-', "");
    let token =
        format!("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.{}.{}", part(world.chance.uuid()), part(world.chance.uuid()));
    world.tokens.insert(token.clone(), now + ttl * 1000);
    let settings = world.model.settings();
    let host = host(&headers);
    Ok(success(json!({
        "token": token, "scope": "commerce", "merchant_id": settings.merchant_id,
        "network_environment": settings.environment(), "expires_at": Stamp::at(now, settings.times).plus(ttl),
        "ws_url": format!("ws://{host}/ws/commerce/events"),
    })))
}

/// `GET /ws/commerce/events`
pub(super) async fn connect(
    State(hub): State<Arc<Hub>>,
    params: Params,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Response {
    let faults = hub.faults().websocket;
    if let Some(answer) = faults.refuse {
        return Error::from_fault(answer).into_response();
    }
    if let Err(error) = check_credentials(&hub, &params, &headers) {
        return error.into_response();
    }
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade.max_message_size(CLIENT_MESSAGE_MAX),
        Err(rejection) => return rejection.into_response(),
    };
    match subscribe(&hub, &params) {
        Ok((registration, frames)) => {
            if let Some(cut) = faults.flap {
                registration.subscriber.end(cut);
            }
            // The token keeps the simulator's stop waiting until this connection is closed.
            let token = hub.tasks.token();
            upgrade.on_upgrade(async move |socket| {
                let _token = token;
                run(socket, registration, frames).await;
            })
        }
        Err(error) => error.into_response(),
    }
}

fn check_credentials(hub: &Hub, params: &HashMap<String, String>, headers: &HeaderMap) -> Result<(), Error> {
    match params.get("token") {
        Some(token) => {
            let alive = hub.world().tokens.get(token).is_some_and(|lapses_at| *lapses_at > now_ms());
            if alive { Ok(()) } else { Err(Error::token_invalid()) }
        }
        None => check_key(hub, headers),
    }
}

/// Reads the replay and joins the live events under one lock: nothing falls between the two.
fn subscribe(hub: &Arc<Hub>, params: &HashMap<String, String>) -> Result<(Registration, Vec<replay::Frame>), Error> {
    if params.get("format").is_some_and(|format| format != "event_v1") {
        return Err(Error::invalid("format must be event_v1"));
    }
    let filter = Filter { types: types(params, "types")?.unwrap_or_else(Types::commerce), scope: scope(params) };
    let since = cursor(params, "since")?;
    let world = &mut *hub.world();
    check_environment(params, world.model.settings().environment())?;
    if world.subscribers.len() >= CONNECTIONS_MAX {
        return Err(Error::from_status(StatusCode::TOO_MANY_REQUESTS, None));
    }
    let now = now_ms();
    world.model.expire_log(now);
    let faults = &world.faults.websocket;
    let frames = since.map(|since| replay::frames(world.model.log(), since, &filter, faults, now));
    world.connections_made += 1;
    let subscriber = Arc::new(Subscriber::new(world.connections_made, filter, faults.silent));
    world.subscribers.push(Arc::clone(&subscriber));
    Ok((Registration { hub: Arc::clone(hub), subscriber }, frames.unwrap_or_default()))
}

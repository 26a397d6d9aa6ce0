//! The admin listener: is it alive, is it ready, and every metric. Only reading routes.
//!
//! Bound to loopback, a request whose `Host` is not loopback is refused: a web page in an operator's browser could
//! otherwise reach it through a name that it points here (DNS rebinding). Bound elsewhere, any `Host` is served.

use super::{Health, Metrics, Phase};
use crate::clock::now_ms;
use crate::legs::Leg;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A bound listener that is not serving yet.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
}

#[derive(Clone)]
struct Shown {
    health: Arc<Health>,
    metrics: Arc<Metrics>,
}

impl Admin {
    /// Takes the address.
    pub async fn bind(listen: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where it listens; its port is a real one even where the settings say 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is cancelled. Requests are small and answered from memory, so nothing is drained.
    pub async fn serve(self, health: Arc<Health>, metrics: Arc<Metrics>, stop: CancellationToken) {
        let routes = routes(Shown { health, metrics }, self.address.ip().is_loopback());
        tokio::select! {
            () = stop.cancelled() => {}
            served = axum::serve(self.listener, routes) => {
                if let Err(error) = served {
                    tracing::error!(%error, "admin listener failed");
                }
            }
        }
    }
}

fn routes(shown: Shown, loopback: bool) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(shown)
        .layer(from_fn_with_state(loopback, only_loopback_hosts))
        .layer(map_response(|mut response: Response| async move {
            response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
            response
        }))
}

/// Whether the relay's loop turned recently.
async fn livez(State(shown): State<Shown>) -> Response {
    let alive = shown.health.is_alive(now_ms());
    let status = if alive { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(json!({ "alive": alive }))).into_response()
}

/// Whether events are being committed, and where each leg stands. A leg that is down or paused is degraded, not
/// unready: the others still deliver.
async fn readyz(State(shown): State<Shown>) -> Response {
    let state = |leg: Leg| (leg.as_str().to_owned(), shown.health.leg(leg).as_str().into());
    let legs: serde_json::Map<_, _> = [Leg::Websocket, Leg::Webhook, Leg::Backfill].into_iter().map(state).collect();
    let waiting_for: &[&str] = match shown.health.phase() {
        Phase::Ready => &[],
        Phase::Starting => &["kafka", "window"],
        Phase::KafkaUnavailable => &["kafka"],
        Phase::Stopping => &["stopped"],
    };
    if waiting_for.is_empty() {
        return axum::Json(json!({ "ready": true, "legs": legs })).into_response();
    }
    let body = json!({ "ready": false, "waiting_for": waiting_for, "legs": legs });
    (StatusCode::SERVICE_UNAVAILABLE, axum::Json(body)).into_response()
}

async fn metrics(State(shown): State<Shown>) -> Response {
    let content = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    match shown.metrics.text() {
        Ok(text) => (content, text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn only_loopback_hosts(
    State(loopback): State<bool>,
    headers: HeaderMap,
    request: Request,
    next: Next,
) -> Response {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if loopback && !is_loopback(host) {
        return (StatusCode::FORBIDDEN, axum::Json(json!({ "error": "host_not_loopback" }))).into_response();
    }
    next.run(request).await
}

/// `localhost`, or an address of the loopback, with or without a port.
fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<Uri>() else { return false };
    let name = authority.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::telemetry::LegState;
    use axum::body::{Body, to_bytes};
    use tower::ServiceExt;

    async fn ask(routes: &Router, path: &str, host: &str) -> (StatusCode, String) {
        let request = Request::get(path).header(header::HOST, host).body(Body::empty()).unwrap();
        let response = routes.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn shown() -> Shown {
        Shown { health: Arc::new(Health::default()), metrics: Arc::new(Metrics::new("0.0.0")) }
    }

    #[tokio::test]
    async fn ready_only_while_events_are_committed() {
        let shown = shown();
        let routes = routes(shown.clone(), true);
        shown.health.set_leg(Leg::Webhook, LegState::Connected);
        shown.health.set_leg(Leg::Websocket, LegState::Paused);
        let legs = json!({"websocket": "paused", "webhook": "connected", "backfill": "disabled"});
        let check = async |phase, status: u16, mut body: serde_json::Value| {
            shown.health.set_phase(phase);
            body["legs"] = legs.clone();
            let (said, text) = ask(&routes, "/readyz", "localhost").await;
            assert_eq!((said.as_u16(), serde_json::from_str(&text).ok()), (status, Some(body)));
        };
        check(Phase::Starting, 503, json!({"ready": false, "waiting_for": ["kafka", "window"]})).await;
        check(Phase::Ready, 200, json!({"ready": true})).await;
        check(Phase::KafkaUnavailable, 503, json!({"ready": false, "waiting_for": ["kafka"]})).await;
        check(Phase::Stopping, 503, json!({"ready": false, "waiting_for": ["stopped"]})).await;
    }

    #[tokio::test]
    async fn alive_while_the_loop_turns() {
        let shown = shown();
        let routes = routes(shown.clone(), true);
        assert_eq!(ask(&routes, "/livez", "localhost").await.0, StatusCode::OK);
        shown.health.turned(now_ms() - 60_000);
        assert_eq!(ask(&routes, "/livez", "localhost").await.0, StatusCode::SERVICE_UNAVAILABLE);
        shown.health.turned(now_ms());
        assert_eq!(ask(&routes, "/livez", "localhost").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn every_metric_is_served_from_the_start() {
        let (status, text) = ask(&routes(shown(), true), "/metrics", "[::1]:9464").await;
        assert_eq!(status, StatusCode::OK);
        assert!(
            text.contains("pepay_relay_deliveries_total{leg=\"webhook\"} 0") && text.ends_with("# EOF\n"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn on_loopback_a_foreign_host_is_refused() {
        let inside = routes(shown(), true);
        for host in ["evil.example", "evil.example:9464", "127.0.0.1.evil.example", "", "10.0.0.1"] {
            assert_eq!(ask(&inside, "/metrics", host).await.0, StatusCode::FORBIDDEN, "{host}");
        }
        for host in ["127.0.0.1:9464", "127.9.9.9", "LOCALHOST:1", "[::1]"] {
            assert_eq!(ask(&inside, "/metrics", host).await.0, StatusCode::OK, "{host}");
        }
        assert_eq!(ask(&routes(shown(), false), "/metrics", "relay.internal").await.0, StatusCode::OK);
    }
}

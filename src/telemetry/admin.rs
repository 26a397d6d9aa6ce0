//! The admin listener: is it alive, is it ready, every metric, the status and the page. Only reading routes.
//!
//! Bound to loopback, a request whose `Host` is not loopback is refused: a web page in an operator's browser could
//! otherwise reach it through a name that it points here (DNS rebinding). Bound elsewhere, any `Host` is served.

use super::history::History;
use super::{Board, Connections, Health, Metrics, Unproven, page};
use crate::clock::rfc3339;
use crate::labels::Listener;
use crate::listener::{self, Limits, Refused, Service, Slot};
use crate::loopback::is_loopback;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, Version, header};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::body::Incoming;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A team of operators, their wall, and whatever asks for health and metrics. Requests have no body that is read.
const LIMITS: Limits = Limits {
    connections_max: 64,
    per_address_max: 0,
    unverified_bytes_max: 0,
    head_within: Duration::from_secs(10),
    idle_within: Duration::from_secs(75),
    header_bytes_max: 16 << 10,
    answer_within: Duration::from_secs(10),
    // A page listens for days; one that takes nothing of it is cut by the listener.
    life_max: None,
};

/// Paths that are answered also where there is no place: an answer here keeps a supervisor from ending the relay.
const WITHOUT_PLACE: [&str; 2] = ["/livez", "/readyz"];

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
        let listener = listener::bind(listen)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where it listens; its port is a real one even where the settings have 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is cancelled. Requests are small and answered from memory, so nothing is drained.
    pub async fn serve(self, board: Arc<Board>, stop: CancellationToken) {
        let history = Arc::new(History::new(Arc::clone(&board)));
        let observer = Arc::new(Connections::new(Listener::Admin, Arc::clone(&board.metrics)));
        let routes = routes(board, Arc::clone(&history), self.address.ip().is_loopback());
        let routes = Arc::new(Routes(TowerToHyperService::new(routes)));
        // It ends with this future: nobody waits for an answer of an admin listener that goes.
        let served =
            listener::serve(self.listener, LIMITS, routes, Box::new(|| None), observer, CancellationToken::new());
        tokio::select! {
            () = stop.cancelled() => {}
            () = history.run() => {}
            () = served => {}
        }
    }
}

/// The routes as the listener serves them.
#[derive(Debug)]
struct Routes(TowerToHyperService<Router>);

impl Service for Routes {
    type Body = Body;

    async fn answer(&self, _: IpAddr, request: Request<Incoming>, slot: &Slot) -> Response {
        let path = request.uri().path();
        let mut closes = false;
        if WITHOUT_PLACE.contains(&path) {
            closes = !slot.has_place();
        } else if slot.place().await == Err(Refused) {
            return (StatusCode::SERVICE_UNAVAILABLE, axum::Json(json!({ "error": "overloaded" }))).into_response();
        }
        if !closes {
            slot.answering().await;
        }
        let mut response = match self.0.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        if closes {
            response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
        }
        response
    }
}

fn routes(board: Arc<Board>, history: Arc<History>, loopback: bool) -> Router {
    let shown = Shown { health: Arc::clone(&board.health), metrics: Arc::clone(&board.metrics) };
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(shown)
        .merge(page::routes(board, history))
        .layer(from_fn_with_state(loopback, only_loopback_hosts))
        .layer(map_response(|mut response: Response| async move {
            response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
            response
        }))
}

/// Whether the relay's loop turned recently.
async fn livez(State(shown): State<Shown>) -> Response {
    let alive = shown.health.is_alive(Instant::now());
    let status = if alive { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(json!({ "alive": alive }))).into_response()
}

/// Whether events are being committed. A leg that is down is degraded, not unready: the others still deliver.
async fn readyz(State(shown): State<Shown>) -> Response {
    let waiting_for = shown.health.waiting_for();
    if waiting_for.is_empty() {
        let mut body = json!({ "ready": true });
        if let Some(Unproven { from_ms, to_ms, orders }) = shown.health.unproven() {
            body["unproven"] = json!({ "from": rfc3339(from_ms), "to": rfc3339(to_ms), "orders": orders });
        }
        return axum::Json(body).into_response();
    }
    let body = json!({ "ready": false, "waiting_for": waiting_for });
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
    // No browser leaves it out; health checks by HTTP/1.0 do.
    let is_nameless = request.version() == Version::HTTP_10 && !headers.contains_key(header::HOST);
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.parse::<Uri>().ok().and_then(|authority| Some(authority.host()?.to_owned()));
    if loopback && !is_nameless && !name.as_deref().is_some_and(is_loopback) {
        return (StatusCode::FORBIDDEN, axum::Json(json!({ "error": "host_not_loopback" }))).into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]
    use super::*;
    use crate::config::Config;
    use crate::provider::Environment;
    use crate::telemetry::Phase;
    use axum::body::to_bytes;
    use tower::ServiceExt;

    async fn ask(routes: &Router, path: &str, host: &str) -> (StatusCode, String) {
        let request = Request::get(path).header(header::HOST, host).body(Body::empty()).unwrap();
        let response = routes.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn board() -> Arc<Board> {
        let config = Config::minimal(Environment::Devnet, "");
        Arc::new(Board::new(&config, Arc::new(Health::default()), Arc::new(Metrics::new("0.0.0"))))
    }

    fn routes(board: &Arc<Board>, loopback: bool) -> Router {
        super::routes(Arc::clone(board), Arc::new(History::new(Arc::clone(board))), loopback)
    }

    #[tokio::test]
    async fn ready_only_while_events_are_committed() {
        let shown = board();
        let routes = routes(&shown, true);
        let check = async |phase, status: u16, body: &str| {
            shown.health.set_phase(phase);
            assert_eq!(
                ask(&routes, "/readyz", "localhost").await,
                (StatusCode::from_u16(status).unwrap(), body.to_owned())
            );
        };
        check(Phase::Starting, 503, r#"{"ready":false,"waiting_for":["kafka","window"]}"#).await;
        check(Phase::Ready, 200, r#"{"ready":true}"#).await;
        check(Phase::KafkaUnavailable, 503, r#"{"ready":false,"waiting_for":["kafka"]}"#).await;
        check(Phase::Stopping, 503, r#"{"ready":false,"waiting_for":["stopped"]}"#).await;
    }

    #[tokio::test]
    async fn a_time_that_cannot_be_proven_is_shown_and_no_reason_to_be_unready() {
        let shown = board();
        shown.health.set_phase(Phase::Ready);
        shown.health.set_unproven(Unproven { from_ms: 1_768_472_100_655, to_ms: 1_768_472_200_000, orders: Some(2) });
        let expected = r#"{"ready":true,"unproven":{"from":"2026-01-15T10:15:00.655Z","orders":2,"to":"2026-01-15T10:16:40.000Z"}}"#;
        assert_eq!(ask(&routes(&shown, true), "/readyz", "localhost").await, (StatusCode::OK, expected.to_owned()));
    }

    #[tokio::test]
    async fn alive_while_the_loop_turns() {
        let shown = board();
        let routes = routes(&shown, true);
        assert_eq!(ask(&routes, "/livez", "localhost").await.0, StatusCode::OK);
        shown.health.turned(Instant::now());
        assert_eq!(ask(&routes, "/livez", "localhost").await.0, StatusCode::OK);
        shown.health.turned(Instant::now() - std::time::Duration::from_secs(60));
        assert_eq!(ask(&routes, "/livez", "localhost").await.0, StatusCode::SERVICE_UNAVAILABLE);
        shown.health.turned(Instant::now());
        assert_eq!(ask(&routes, "/livez", "localhost").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn every_metric_is_served_from_the_start() {
        let (status, text) = ask(&routes(&board(), true), "/metrics", "[::1]:9464").await;
        assert_eq!(status, StatusCode::OK);
        assert!(
            text.contains("pepay_relay_deliveries_total{leg=\"webhook\"} 0") && text.ends_with("# EOF\n"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn on_loopback_a_foreign_host_is_refused() {
        let inside = routes(&board(), true);
        for host in ["evil.example", "evil.example:9464", "127.0.0.1.evil.example", "", "10.0.0.1"] {
            assert_eq!(ask(&inside, "/metrics", host).await.0, StatusCode::FORBIDDEN, "{host}");
        }
        for path in ["/", "/status", "/status/events"] {
            assert_eq!(ask(&inside, path, "evil.example").await.0, StatusCode::FORBIDDEN, "{path}");
        }
        for host in ["127.0.0.1:9464", "127.9.9.9", "LOCALHOST:1", "[::1]"] {
            assert_eq!(ask(&inside, "/metrics", host).await.0, StatusCode::OK, "{host}");
        }
        assert_eq!(ask(&routes(&board(), false), "/metrics", "relay.internal").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn a_request_of_http_1_0_may_leave_its_host_out_and_no_other() {
        let routes = routes(&board(), true);
        for (version, expected) in [(Version::HTTP_10, StatusCode::OK), (Version::HTTP_11, StatusCode::FORBIDDEN)] {
            let request = Request::get("/readyz").version(version).body(Body::empty()).unwrap();
            let status = routes.clone().oneshot(request).await.unwrap().status();
            let status = if status == StatusCode::SERVICE_UNAVAILABLE { StatusCode::OK } else { status };
            assert_eq!(status, expected, "{version:?}");
        }
        let named = Request::get("/readyz").version(Version::HTTP_10).header(header::HOST, "evil.example");
        let status = routes.oneshot(named.body(Body::empty()).unwrap()).await.unwrap().status();
        assert_eq!(status, StatusCode::FORBIDDEN);
    }

    #[tokio::test]
    async fn only_get_is_served() {
        let routes = routes(&board(), true);
        for path in ["/", "/status", "/status/events", "/metrics", "/livez", "/readyz"] {
            let request = Request::post(path).header(header::HOST, "localhost").body(Body::empty()).unwrap();
            let status = routes.clone().oneshot(request).await.unwrap().status();
            assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        }
    }

    #[tokio::test]
    async fn the_page_allows_its_own_script_and_nothing_else() {
        let request = Request::get("/").header(header::HOST, "localhost").body(Body::empty()).unwrap();
        let response = routes(&board(), true).oneshot(request).await.unwrap();
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let policy = header("content-security-policy").to_owned();
        assert!(policy.starts_with("default-src 'none'; script-src 'nonce-"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("referrer-policy"), "no-referrer");
        assert_eq!(header("cache-control"), "no-store");
        let nonce = policy.split("'nonce-").nth(1).unwrap().split('\'').next().unwrap().to_owned();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let page = String::from_utf8(body.to_vec()).unwrap();
        assert_eq!(page.matches(&format!("nonce=\"{nonce}\"")).count(), 2);
    }

    #[tokio::test]
    async fn the_status_is_json_and_its_events_begin_with_all_there_is() {
        let routes = routes(&board(), true);
        let (status, body) = ask(&routes, "/status", "localhost").await;
        let object: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &object["ready"]), (StatusCode::OK, &false.into()));
        let request = Request::get("/status/events").header(header::HOST, "localhost").body(Body::empty()).unwrap();
        let response = routes.oneshot(request).await.unwrap();
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
        let mut body = response.into_body().into_data_stream();
        let first = futures::StreamExt::next(&mut body).await.unwrap().unwrap();
        let first: serde_json::Value = serde_json::from_slice(first.strip_prefix(b"data: ").unwrap()).unwrap();
        assert_eq!(first["shown"]["status"]["name"], "pepay-relay");
    }
}

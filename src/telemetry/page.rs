//! `/status`, the page at `/`, and the events that keep it alive.
//!
//! The page is one file that asks nobody else for anything: its policy allows its own script and style, by a nonce
//! that is drawn for each answer, and the events of this listener. It can be framed by nobody.

use super::Board;
use super::history::History;
use crate::clock::now_ms;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response, Sse};
use axum::routing::get;
use serde_json::json;
use std::sync::Arc;
use uuid::Uuid;

/// The page. `{{nonce}}` is where its script and its style carry the nonce.
const PAGE: &str = include_str!("page.html");

/// The place of the nonce.
const NONCE: &str = "{{nonce}}";

/// Seconds after which a page that found no seat asks again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// The routes of this file.
pub(super) fn routes(board: Arc<Board>, history: Arc<History>) -> Router {
    let status = Router::new().route("/status", get(status)).with_state(board);
    Router::new().route("/", get(page)).route("/status/events", get(events)).with_state(history).merge(status)
}

async fn status(State(board): State<Arc<Board>>) -> Response {
    axum::Json(board.status(now_ms())).into_response()
}

async fn events(State(history): State<Arc<History>>) -> Response {
    match history.listen() {
        Some(events) => Sse::new(events).into_response(),
        None => {
            let body = axum::Json(json!({ "error": "too_many_listeners" }));
            (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, RETRY_AFTER)], body).into_response()
        }
    }
}

async fn page() -> Response {
    // 122 random bits in characters that need no quoting.
    let nonce = Uuid::new_v4().simple().to_string();
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::X_FRAME_OPTIONS, "DENY".to_owned()),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
    ];
    (headers, PAGE.replace(NONCE, &nonce)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_nobody_else_and_gets_its_nonce() {
        assert_eq!(PAGE.matches(NONCE).count(), 2, "a script and a style");
        for outside in ["http://", "https://", "//cdn", "@import", "url(", " src=", "innerHTML", " style="] {
            let found = PAGE.replace("http://www.w3.org/2000/svg", "").contains(outside);
            assert!(!found, "{outside}");
        }
    }
}

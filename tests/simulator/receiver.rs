//! A webhook endpoint that keeps what it gets and answers as it is asked to.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use pepay_relay::clock::now_ms;
use pepay_relay::provider::signature::{self, Headers, Refusal};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

pub(crate) struct Receiver {
    pub(crate) url: String,
    got: Arc<Got>,
}

struct Got {
    requests: Mutex<Vec<(HeaderMap, Bytes)>>,
    count: watch::Sender<usize>,
    answers: Mutex<Vec<StatusCode>>,
}

impl Receiver {
    /// Answers the first requests with `answers`, and 200 after that.
    pub(crate) async fn start(mut answers: Vec<u16>) -> Self {
        answers.reverse();
        let answers = answers.into_iter().map(|status| StatusCode::from_u16(status).unwrap()).collect();
        let got = Got { requests: Mutex::default(), count: watch::Sender::new(0), answers: Mutex::new(answers) };
        let got = Arc::new(got);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/webhooks/pepay", listener.local_addr().unwrap());
        let router = Router::new().fallback(take).with_state(Arc::clone(&got));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, got }
    }

    pub(crate) async fn wait_for(&self, count: usize) {
        super::patiently(self.got.count.subscribe().wait_for(|got| *got >= count)).await.unwrap();
    }

    pub(crate) fn requests(&self) -> Vec<(HeaderMap, Bytes)> {
        self.got.requests.lock().unwrap().clone()
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        let id = |(headers, _): &(HeaderMap, Bytes)| headers[signature::EVENT_ID].to_str().unwrap().to_owned();
        self.requests().iter().map(id).collect()
    }
}

async fn take(State(got): State<Arc<Got>>, headers: HeaderMap, body: Bytes) -> (StatusCode, HeaderMap) {
    got.requests.lock().unwrap().push((headers, body));
    let answer = got.answers.lock().unwrap().pop().unwrap_or(StatusCode::OK);
    got.count.send_modify(|count| *count += 1);
    let mut headers = HeaderMap::new();
    if answer.is_redirection() {
        headers.insert("location", "/elsewhere".parse().unwrap());
    }
    (answer, headers)
}

/// Verifies a request as the relay does.
pub(crate) fn verify((headers, body): &(HeaderMap, Bytes), secrets: &[&str]) -> Result<(), Refusal> {
    let get = |name| headers.get(name).map(axum::http::HeaderValue::as_bytes);
    let headers = Headers {
        timestamp: get(signature::TIMESTAMP),
        signature: get(signature::SIGNATURE),
        previous: get(signature::SIGNATURE_PREVIOUS),
    };
    let secrets = secrets.iter().map(|secret| secret.as_bytes());
    signature::verify(headers, body, secrets, now_ms(), Duration::from_secs(300))
}

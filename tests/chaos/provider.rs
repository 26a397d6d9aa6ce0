//! The simulated provider as a process of its own, steered over HTTP.

use serde_json::{Value, json};
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// It answers at once; a loaded machine takes longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Time between two steps of some order: about 60 events a second.
const PACE: &str = "25ms";

/// A running `pepay-relay simulator`; killed when dropped.
pub struct Provider {
    pub api_url: String,
    pub websocket_url: String,
    pub api_key: String,
    pub webhook_secret: String,
    client: reqwest::Client,
    _child: Child,
}

impl Provider {
    /// Starts it, with orders that live by `seed` and webhooks to these.
    pub async fn start(seed: u64, webhook_urls: &[String], log: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pepay-relay"));
        command.args(["--output", "json", "simulator", "--listen", "127.0.0.1:0", "--every", PACE]);
        command.arg("--seed").arg(seed.to_string()).env_clear();
        for url in webhook_urls {
            command.args(["--webhook-url", url]);
        }
        let log = File::create(log).expect("the simulator's log");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        let mut child = command.spawn().expect("the binary");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let line = lines.next_line().await.expect("readable").expect("its addresses");
        let said: Value = serde_json::from_str(&line).expect("JSON");
        let text = |name: &str| said[name].as_str().expect("text").to_owned();
        Self {
            api_url: text("api_url"),
            websocket_url: text("websocket_url"),
            api_key: text("api_key"),
            webhook_secret: text("webhook_secret"),
            client: reqwest::Client::builder().no_proxy().timeout(ANSWER_WITHIN).build().expect("a client"),
            _child: child,
        }
    }

    /// These faults and no others from now on.
    pub async fn faults(&self, faults: Value) {
        self.post("/simulator/faults", &faults).await;
    }

    /// Every fault ends.
    pub async fn well(&self) {
        self.faults(json!({})).await;
    }

    /// Ends every socket.
    pub async fn cut(&self) {
        self.post("/simulator/cut", &json!("abrupt")).await;
    }

    /// So many orders live their whole life at once, ten events each.
    pub async fn pour(&self, orders: u64) {
        self.post("/simulator/orders", &json!({ "count": orders })).await;
    }

    /// Issues this very event.
    pub async fn publish(&self, event: Value) {
        self.post("/simulator/events", &event).await;
    }

    /// A page of what was issued from this number on: ids and types. It is empty at the end.
    pub async fn issued(&self, from: u64) -> Vec<(String, String)> {
        let url = format!("{}/simulator/events?from={from}", self.api_url);
        let page = self.answer(self.client.get(url)).await;
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let events = page["events"].as_array().expect("a list");
        events.iter().map(|event| (text(&event["id"]), text(&event["type"]))).collect()
    }

    async fn post(&self, path: &str, body: &Value) {
        self.answer(self.client.post(format!("{}{path}", self.api_url)).json(body)).await;
    }

    #[expect(clippy::disallowed_methods, reason = "the peer is the simulator, whose bodies need no bound")]
    async fn answer(&self, request: reqwest::RequestBuilder) -> Value {
        let response = request.header("x-commerce-api-key", &self.api_key).send().await.expect("an answer");
        let status = response.status();
        let body: Value = response.json().await.expect("JSON");
        assert!(status.is_success(), "{status}: {body}");
        body["data"].clone()
    }
}

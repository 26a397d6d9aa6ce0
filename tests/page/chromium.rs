//! A headless Chromium, driven by its DevTools protocol over one WebSocket.

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// Far longer than anything here takes, also on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// The names under which distributions know it.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// A browser with one page. It ends when dropped.
pub(crate) struct Chromium {
    line: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: Option<String>,
    calls: u64,
    /// What the page sent by itself: logs, exceptions, requests.
    pub(crate) events: Vec<Value>,
    _process: Child,
    _profile: TempDir,
}

impl Chromium {
    /// Starts it with an empty profile.
    pub(crate) async fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut process = NAMES.into_iter().find_map(|name| spawn(name, profile.path())).expect(
            "no Chromium: this test looks at the page in a real one; install it (Debian: apt-get install chromium)",
        );
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = timeout(PATIENCE, async {
            loop {
                let line = lines.next_line().await.unwrap().expect("Chromium ended before it listened");
                if let Some(address) = line.strip_prefix("DevTools listening on ") {
                    return address.to_owned();
                }
            }
        });
        let address = address.await.expect("Chromium listens in time");
        // Whatever else it prints is read, or it would block at a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let (line, _) = tokio_tungstenite::connect_async(address).await.unwrap();
        let mut chromium =
            Self { line, session: None, calls: 0, events: Vec::new(), _process: process, _profile: profile };
        let target = chromium.call("Target.createTarget", json!({ "url": "about:blank" })).await;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = chromium.call("Target.attachToTarget", attach).await;
        chromium.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            chromium.call(&format!("{domain}.enable"), json!({})).await;
        }
        chromium
    }

    /// Calls a method of the protocol and gives its result.
    pub(crate) async fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let id = self.calls;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.line.send(Message::text(message.to_string())).await.unwrap();
        let answer = timeout(PATIENCE, async {
            loop {
                let message = self.line.next().await.expect("Chromium is there").unwrap();
                let Message::Text(text) = message else { continue };
                let message: Value = serde_json::from_str(&text).unwrap();
                if message["id"] == id {
                    return message;
                }
                self.events.push(message);
            }
        });
        let answer = answer.await.unwrap_or_else(|_| panic!("{method} answers in time"));
        assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
        answer["result"].clone()
    }

    /// The value of a JavaScript expression.
    pub(crate) async fn evaluate(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", asked).await;
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true; looks again with each frame, inside the page.
    pub(crate) async fn until(&mut self, what: &str, expression: &str) {
        let waits = format!(
            "new Promise(done => {{ const began = Date.now(); const look = () => {{ \
             if ({expression}) done(true); else if (Date.now() - began > {}) done(false); \
             else setTimeout(look, 50); }}; look(); }})",
            PATIENCE.as_millis() / 2
        );
        assert_eq!(self.evaluate(&waits).await, true, "{what}");
    }

    /// As wide as a screen or a phone, light or dark.
    pub(crate) async fn appear(&mut self, width: u32, height: u32, scheme: &str) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.call("Emulation.setDeviceMetricsOverride", metrics).await;
        let features = json!([
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features })).await;
        // Two frames: the first lays out again, the second has drawn the plots at their new width.
        self.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))").await;
    }

    /// The whole page as it looks now, as PNG.
    pub(crate) async fn picture(&mut self, file: &Path) {
        let asked = json!({ "format": "png", "captureBeyondViewport": true });
        let answer = self.call("Page.captureScreenshot", asked).await;
        let png = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, answer["data"].as_str().unwrap()).unwrap();
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, png).unwrap();
    }

    /// Everything that the page complained of, and every address that it asked for.
    pub(crate) fn told(&self) -> (Vec<&Value>, Vec<&str>) {
        let is = |event: &Value, method: &str| event["method"] == method;
        let complaints = self.events.iter().filter(|event| {
            let params = &event["params"];
            is(event, "Runtime.exceptionThrown")
                || is(event, "Runtime.consoleAPICalled")
                || is(event, "Log.entryAdded") && params["entry"]["level"] != "verbose"
        });
        let requests = self.events.iter().filter(|event| is(event, "Network.requestWillBeSent"));
        let addresses = requests.filter_map(|event| event["params"]["request"]["url"].as_str());
        (complaints.collect(), addresses.collect())
    }
}

fn spawn(name: &str, profile: &Path) -> Option<Child> {
    Command::new(name)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--disable-dev-shm-usage", "--lang=en", "--remote-debugging-port=0"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg("about:blank")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .ok()
}

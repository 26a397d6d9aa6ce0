//! The simulated provider as a process of its own, steered over HTTP.

use pepay_relay::config::{Account, AccountSecrets, Config, Secrets};
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// It answers at once; a loaded machine takes longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Time between two steps of some order, of all merchants together: about 60 events a second.
const PACE: Duration = Duration::from_millis(25);

/// A running `pepay-relay simulator`; killed when dropped.
pub struct Provider {
    pub api_url: String,
    pub websocket_url: String,
    /// An account of the relay each.
    pub merchants: Vec<Merchant>,
    client: reqwest::Client,
    _child: Child,
}

/// Whose orders they are.
pub struct Merchant {
    /// Empty where there is one alone.
    pub name: String,
    pub api_key: String,
    pub webhook_secret: String,
}

impl Provider {
    /// Starts it, with merchants of these names or else one without a name, orders that live by `seed`, and webhooks to these.
    pub async fn start(seed: u64, names: &[&str], webhook_urls: &[String], log: &Path) -> Self {
        let every = PACE * u32::try_from(names.len().max(1)).expect("a few");
        let mut command = Command::new(env!("CARGO_BIN_EXE_pepay-relay"));
        command.args(["--output", "json", "simulator", "--listen", "127.0.0.1:0"]);
        command.arg("--every").arg(format!("{}ms", every.as_millis())).arg("--seed").arg(seed.to_string()).env_clear();
        command.args(names.iter().flat_map(|name| ["--merchant", *name]));
        command.args(webhook_urls.iter().flat_map(|url| ["--webhook-url", url]));
        let log = File::create(log).expect("the simulator's log");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        let mut child = command.spawn().expect("the binary");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let line = lines.next_line().await.expect("readable").expect("its addresses");
        let said: Value = serde_json::from_str(&line).expect("JSON");
        let text = |of: &Value, name: &str| of[name].as_str().expect("text").to_owned();
        let merchant = |name: &str, of: &Value| Merchant {
            name: name.to_owned(),
            api_key: text(of, "api_key"),
            webhook_secret: text(of, "webhook_secret"),
        };
        let merchants = match names {
            [] => vec![merchant("", &said)],
            names => names.iter().map(|name| merchant(name, &said["accounts"][name])).collect(),
        };
        Self {
            api_url: text(&said, "api_url"),
            websocket_url: text(&said, "websocket_url"),
            merchants,
            client: reqwest::Client::builder().no_proxy().timeout(ANSWER_WITHIN).build().expect("a client"),
            _child: child,
        }
    }

    /// Lets the relay of these settings serve every merchant; the files with the secrets of those that have a name are in `dir`.
    pub fn introduce(&self, config: &mut Config, dir: &Path) -> Secrets {
        config.provider.api_url.clone_from(&self.api_url);
        config.provider.websocket_url.clone_from(&self.websocket_url);
        let file = |name: &str, what: &str, secret: &str| {
            let path = dir.join(format!("{name}.{what}"));
            let mut options = File::options();
            let file = options.write(true).create_new(true).mode(0o600).open(&path);
            file.and_then(|mut file| file.write_all(secret.as_bytes())).expect("a secret");
            Some(path)
        };
        let account = |Merchant { name, api_key, webhook_secret }: &Merchant| Account {
            api_key_file: file(name, "api-key", api_key),
            webhook_secrets_file: file(name, "webhook-secrets", webhook_secret),
            ..Account::named(name)
        };
        config.accounts = self.merchants.iter().filter(|of| !of.name.is_empty()).map(account).collect();
        let secrets = |Merchant { name, api_key, webhook_secret }: &Merchant| AccountSecrets {
            name: name.clone(),
            ..AccountSecrets::sole(api_key.clone(), vec![webhook_secret.clone().into()])
        };
        Secrets {
            accounts: self.merchants.iter().map(secrets).collect(),
            kafka_password: None,
            kafka_certificate: None,
            kafka_oauth_secret: None,
            proxies: Default::default(),
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

    /// This many orders of each merchant live their whole life at once, ten events each.
    pub async fn pour(&self, orders: u64) {
        self.post("/simulator/orders", &json!({ "count": orders })).await;
    }

    /// Issues this very event of a merchant's.
    pub async fn publish(&self, of: &Merchant, event: Value) {
        self.answer(of, self.client.post(format!("{}/simulator/events", self.api_url)).json(&event)).await;
    }

    /// A page of what was issued to a merchant from this number on: ids and types. It is empty at the end.
    pub async fn issued(&self, to: &Merchant, from: u64) -> Vec<(String, String)> {
        let url = format!("{}/simulator/events?from={from}", self.api_url);
        let page = self.answer(to, self.client.get(url)).await;
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let events = page["events"].as_array().expect("a list");
        events.iter().map(|event| (text(&event["id"]), text(&event["type"]))).collect()
    }

    async fn post(&self, path: &str, body: &Value) {
        for merchant in &self.merchants {
            self.answer(merchant, self.client.post(format!("{}{path}", self.api_url)).json(body)).await;
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the peer is the simulator, whose bodies need no bound")]
    async fn answer(&self, to: &Merchant, request: reqwest::RequestBuilder) -> Value {
        let response = request.header("x-commerce-api-key", &to.api_key).send().await.expect("an answer");
        let status = response.status();
        let body: Value = response.json().await.expect("JSON");
        assert!(status.is_success(), "{status}: {body}");
        body["data"].clone()
    }
}

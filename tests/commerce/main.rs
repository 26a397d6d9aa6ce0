//! The commands that sell, as the real binary against the simulator: what they print, and what they say of mistakes.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test may panic")]

mod checkout;
mod mistakes;
mod orders;
mod payments;
mod products;
mod redact;
mod watch;

use pepay_relay::simulator::{Options, Simulator, Transition};
use redact::redact;
use serde_json::Value;
use std::fs;
use std::process::{Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::process::Command;

/// Nothing here takes long: what has not happened after this never will.
const PATIENCE: Duration = Duration::from_secs(60);

/// A provider, and somebody who types commands. There are no settings but the address and the key: no Kafka, no webhook
/// secret, no environment.
struct Shop {
    simulator: Simulator,
    dir: TempDir,
}

/// How a command ended.
#[derive(Debug)]
struct Ended {
    status: i32,
    stdout: String,
    stderr: String,
}

impl Shop {
    async fn open() -> Self {
        Self::open_with(Options::default()).await
    }

    async fn open_with(options: Options) -> Self {
        let simulator = Simulator::start(options).await.unwrap();
        let shop = Self { simulator, dir: tempfile::tempdir().unwrap() };
        let request = format!("{}/tests/fixtures/rest/checkout-address.request.json", env!("CARGO_MANIFEST_DIR"));
        let request: Value = serde_json::from_slice(&fs::read(request).unwrap()).unwrap();
        shop.write("home.json", &request["address"].to_string());
        shop
    }

    /// A file that commands can name: they run where it is.
    fn write(&self, name: &str, content: &str) {
        fs::write(self.dir.path().join(name), content).unwrap();
    }

    fn command(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pepay-relay"));
        command.args(arguments).current_dir(self.dir.path()).env_clear();
        command.envs([("COLUMNS", "100"), ("TZ", "IST-5:30"), ("PEPAY_RELAY_API_KEY", self.simulator.api_key())]);
        command.env("PEPAY_RELAY__PROVIDER__API_URL", self.simulator.api_url());
        command.envs(environment.iter().copied().filter(|(_, value)| !value.is_empty()));
        for (name, _) in environment.iter().filter(|(_, value)| value.is_empty()) {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    async fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
        let output = self.command(arguments, environment).output();
        let Output { status, stdout, stderr } = tokio::time::timeout(PATIENCE, output).await.expect("it ends").unwrap();
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        let ended =
            Ended { status: status.code().expect("an exit status"), stdout: text(stdout), stderr: text(stderr) };
        let key = self.simulator.api_key();
        assert!(!ended.stdout.contains(key) && !ended.stderr.contains(key), "the key is shown: {ended:?}");
        ended
    }

    async fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with(arguments, &[]).await
    }

    /// What a command prints that ends well.
    async fn ok(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments).await;
        assert_eq!(ended.status, 0, "{arguments:?}: {ended:?}");
        ended.stdout
    }

    /// A command line as a snapshot: table and JSON, ids and times redacted.
    async fn both(&self, arguments: &[&str]) -> String {
        let table = self.ok(arguments).await;
        let json = self.ok(&[arguments, &["--output", "json"]].concat()).await;
        redact(&format!("$ pepay-relay {0}\n{table}\n$ pepay-relay {0} --output json\n{json}", arguments.join(" ")))
    }

    /// An order of two cables made by `checkout create`; its id and its invoice's.
    async fn order(&self, customer: &[&str]) -> (String, String) {
        let create = ["checkout", "create", "B0D7KX91QZ:2", "--address-file", "home.json", "--output", "json"];
        let lines = self.ok(&[&create, customer].concat()).await;
        let invoice: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
        let id = |name: &str| invoice[name].as_str().unwrap().to_owned();
        (id("orderId"), id("invoiceId"))
    }

    async fn order_of(&self, customer_id: &str) -> String {
        self.order(&["--customer-id", customer_id]).await.0
    }

    /// Takes the first `steps` of a life.
    fn live(&self, order_id: &str, steps: &[Transition]) {
        steps.iter().for_each(|step| self.simulator.simulate(order_id, *step).unwrap());
    }

    /// The body of a provider's answer as it came.
    async fn body(&self, path: &str) -> String {
        // It speaks no TLS, and is not made without one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let request = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = request.get(format!("{}{path}", self.simulator.api_url()));
        let mut answer = request.header("x-commerce-api-key", self.simulator.api_key()).send().await.unwrap();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.unwrap() {
            body.extend_from_slice(&chunk);
        }
        String::from_utf8(body).unwrap()
    }

    /// That a line of JSON is the `data` of the provider's answer, byte for byte.
    async fn is_untouched(&self, line: &str, path: &str) {
        let wrapped = format!("{{\"success\":true,\"data\":{}}}", line.strip_suffix('\n').unwrap());
        assert_eq!(wrapped, self.body(path).await, "{path}");
    }
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

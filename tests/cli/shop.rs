//! A provider, and commands that sell: table and JSON as snapshots.

use super::redact::redact;
use super::{Ended, ended, program};
use pepay_relay::simulator::{Options, Simulator, Transition};
use serde_json::Value;
use std::fs;
use std::process::Command;
use tempfile::TempDir;

/// A provider, and somebody who types commands. There are no settings but the address and the key: no Kafka, no webhook
/// secret, no environment.
pub(super) struct Shop {
    pub(super) simulator: Simulator,
    dir: TempDir,
}

impl Shop {
    pub(super) async fn open() -> Self {
        Self::open_with(Options::default()).await
    }

    pub(super) async fn open_with(options: Options) -> Self {
        let simulator = Simulator::start(options).await.unwrap();
        let shop = Self { simulator, dir: tempfile::tempdir().unwrap() };
        let request = format!("{}/tests/fixtures/rest/checkout-address.request.json", env!("CARGO_MANIFEST_DIR"));
        let request: Value = serde_json::from_slice(&fs::read(request).unwrap()).unwrap();
        shop.write("home.json", &request["address"].to_string());
        shop
    }

    /// A file that commands can name: they run where it is.
    pub(super) fn write(&self, name: &str, content: &str) {
        fs::write(self.dir.path().join(name), content).unwrap();
    }

    pub(super) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.dir.path().join(name)).unwrap()
    }

    pub(super) fn command(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Command {
        let api_url = self.simulator.api_url();
        let settings = [
            ("TZ", "IST-5:30"),
            ("PEPAY_RELAY_API_KEY", self.simulator.api_key()),
            ("PEPAY_RELAY__PROVIDER__API_URL", api_url.as_str()),
        ];
        let mut command = program(arguments, &[&settings, environment].concat());
        command.current_dir(self.dir.path());
        command
    }

    pub(super) async fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
        let ended = ended(self.command(arguments, environment), b"").await;
        let key = self.simulator.api_key();
        assert!(!ended.stdout.contains(key) && !ended.stderr.contains(key), "the key is shown: {ended:?}");
        ended
    }

    pub(super) async fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with(arguments, &[]).await
    }

    /// What a command prints that ends well.
    pub(super) async fn ok(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments).await;
        assert_eq!(ended.status, 0, "{arguments:?}: {ended:?}");
        ended.stdout
    }

    /// A command line as a snapshot: table and JSON, ids and times redacted.
    pub(super) async fn both(&self, arguments: &[&str]) -> String {
        let table = self.ok(arguments).await;
        let json = self.ok(&[arguments, &["--output", "json"]].concat()).await;
        redact(&format!("$ pepay-relay {0}\n{table}\n$ pepay-relay {0} --output json\n{json}", arguments.join(" ")))
    }

    /// An order of two cables made by `checkout create`; its id and its invoice's.
    pub(super) async fn order(&self, customer: &[&str]) -> (String, String) {
        let create = ["checkout", "create", "B0D7KX91QZ:2", "--address-file", "home.json", "--output", "json"];
        let lines = self.ok(&[&create, customer].concat()).await;
        let invoice: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
        let id = |name: &str| invoice[name].as_str().unwrap().to_owned();
        (id("orderId"), id("invoiceId"))
    }

    pub(super) async fn order_of(&self, customer_id: &str) -> String {
        self.order(&["--customer-id", customer_id]).await.0
    }

    /// Takes the first `steps` of a life.
    pub(super) fn live(&self, order_id: &str, steps: &[Transition]) {
        steps.iter().for_each(|step| self.simulator.simulate(order_id, *step).unwrap());
    }

    /// The body of a provider's answer as it came.
    pub(super) async fn body(&self, path: &str) -> String {
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
    pub(super) async fn is_untouched(&self, line: &str, path: &str) {
        let wrapped = format!("{{\"success\":true,\"data\":{}}}", line.strip_suffix('\n').unwrap());
        assert_eq!(wrapped, self.body(path).await, "{path}");
    }
}

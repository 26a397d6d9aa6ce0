//! `simulator` as a process: what it prints can be used, its options do what their help promises, and it ends when it
//! is asked to.

use super::{bare, program};
use serde_json::Value;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

fn serve(arguments: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>) {
    let always = ["simulator", "--listen", "127.0.0.1:0", "--every", "0s"];
    let mut command = Command::from(program(&[&always, arguments].concat(), &[]));
    command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

#[tokio::test]
async fn what_it_prints_are_the_settings_of_a_command() {
    let (mut child, mut lines) = serve(&[]);
    let mut settings = Vec::new();
    for _ in 0..5 {
        settings.push(lines.next_line().await.unwrap().unwrap());
    }
    let api_url = settings[0].split_once('=').unwrap().1.to_owned();
    let host = api_url.trim_start_matches("http://");
    let shown: Vec<String> = settings.iter().map(|line| line.replace(host, "HOST")).collect();
    insta::assert_snapshot!(shown.join("\n"), @"
    PEPAY_RELAY__PROVIDER__API_URL=http://HOST
    PEPAY_RELAY__PROVIDER__WEBSOCKET_URL=ws://HOST/ws/commerce/events
    PEPAY_RELAY__PROVIDER__ENVIRONMENT=devnet
    PEPAY_RELAY_API_KEY=ck_simulated_0000000000000000
    PEPAY_RELAY_WEBHOOK_SECRETS=simulated-webhook-secret
    ");
    let settings: Vec<(&str, &str)> = settings.iter().map(|line| line.split_once('=').unwrap()).collect();
    assert_eq!(bare(&["availability"], &settings, b"").await.status, 0);
    let kill = std::process::Command::new("kill").args(["-TERM", &child.id().unwrap().to_string()]).status();
    assert!(kill.unwrap().success());
    assert_eq!(child.wait().await.unwrap().code(), Some(0), "SIGTERM ends it well");
}

#[tokio::test]
async fn it_plays_mainnet_and_limits_requests_when_asked() {
    let (_child, mut lines) = serve(&["--mainnet", "--requests-per-minute", "2", "--output", "json"]);
    let printed: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
    assert_eq!(printed["environment"], "mainnet");
    let text = |name: &str| printed[name].as_str().unwrap();
    let settings = [("PEPAY_RELAY__PROVIDER__API_URL", text("api_url")), ("PEPAY_RELAY_API_KEY", text("api_key"))];
    let order = "11111111-1111-4111-8111-111111111111";
    let said = bare(&["devnet", "simulate", order, "placed"], &settings, b"").await;
    assert!(said.status == 1 && said.stderr.contains("403") && said.stderr.contains("devnet"), "{}", said.stderr);
    assert_eq!(bare(&["availability"], &settings, b"").await.status, 0);
    // A single request gets at once how long to wait.
    let said = bare(&["devnet", "simulate", order, "placed"], &settings, b"").await;
    assert!(said.status == 1 && said.stderr.contains("; try again in "), "{}", said.stderr);
}

#[tokio::test]
async fn each_merchant_has_a_key_of_its_own() {
    let (_child, mut lines) = serve(&["--merchant", "shop-a", "--merchant", "shop-b"]);
    let mut said = Vec::new();
    for _ in 0..7 {
        said.push(lines.next_line().await.unwrap().unwrap());
    }
    assert_eq!(
        said[3..],
        [
            "shop-a.api-key=ck_simulated_0000000000000000_shop-a",
            "shop-a.webhook-secrets=simulated-webhook-secret-shop-a",
            "shop-b.api-key=ck_simulated_0000000000000000_shop-b",
            "shop-b.webhook-secrets=simulated-webhook-secret-shop-b",
        ]
    );
    let (_child, mut lines) = serve(&["--merchant", "shop-a", "--merchant", "shop-b", "--output", "json"]);
    let said: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (api_url, keys) =
        (text(&said["api_url"]), ["shop-a", "shop-b"].map(|name| text(&said["accounts"][name]["api_key"])));
    // It speaks no TLS, and is not made without one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let pour = client.post(format!("{api_url}/simulator/orders")).header("x-commerce-api-key", &keys[0]);
    assert!(pour.body(r#"{"count":1}"#).send().await.unwrap().status().is_success());
    for (key, orders) in keys.iter().zip([1, 0]) {
        let settings = [("PEPAY_RELAY__PROVIDER__API_URL", api_url.as_str()), ("PEPAY_RELAY_API_KEY", key)];
        let listed = bare(&["--output", "json", "orders", "list"], &settings, b"").await;
        let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
        assert_eq!(listed["orders"].as_array().unwrap().len(), orders);
    }
}

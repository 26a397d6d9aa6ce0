//! Commands with no more settings than they use: an integrator has a key long before there is a Kafka.

use super::{bare, start};

const SECRETS: (&str, &str) = ("PEPAY_RELAY_WEBHOOK_SECRETS", "whsec_0000000000000000");

#[tokio::test]
async fn the_event_log_needs_the_key_alone() {
    let simulator = start().await;
    simulator.create_order().unwrap();
    let url = simulator.api_url();
    let key = simulator.api_key();
    let environment = [("PEPAY_RELAY__PROVIDER__API_URL", url.as_str()), ("PEPAY_RELAY_API_KEY", key)];
    let said = bare(&["events", "list", "--output", "json"], &environment, b"").await;
    assert_eq!((said.status, said.stdout.lines().count(), said.stderr.as_str()), (0, 2, ""));
}

#[tokio::test]
async fn webhooks_need_the_secrets_alone() {
    let said = bare(&["webhook", "sign", "--timestamp", "7"], &[SECRETS], b"{}").await;
    assert_eq!((said.status, said.stderr.as_str()), (0, ""));
    assert!(!said.stdout.contains("x-pepay-network-environment"), "nobody said which: {}", said.stdout);
    let mut verify = vec!["webhook", "verify", "--at", "7"];
    verify.extend(said.stdout.lines().flat_map(|header| ["--header", header]));
    let said = bare(&verify, &[SECRETS], b"{}").await;
    assert_eq!((said.status, said.stdout.as_str()), (0, "✓ genuine\n"));
    let environment = [SECRETS, ("PEPAY_RELAY__PROVIDER__ENVIRONMENT", "mainnet")];
    let said = bare(&["webhook", "sign"], &environment, b"{}").await;
    assert!(said.stdout.contains("x-pepay-network-environment: mainnet\n"), "{}", said.stdout);
}

#[tokio::test]
async fn what_is_set_must_be_right_all_the_same() {
    let environment = [("PEPAY_RELAY__KAFKA__PARTITIONS", "0"), ("PEPAY_RELAY_API_KEY", "")];
    for command in [&["events", "list"][..], &["webhook", "sign"], &["status"]] {
        let said = bare(command, &environment, b"").await;
        assert_eq!((said.status, said.stdout.as_str()), (78, ""), "{command:?}");
        assert!(said.stderr.contains("kafka.partitions"), "{command:?}: {}", said.stderr);
    }
}

#[tokio::test]
async fn every_call_is_logged_with_its_request_when_asked_and_the_key_never() {
    let simulator = start().await;
    let url = simulator.api_url();
    let key = simulator.api_key();
    let environment = [("PEPAY_RELAY__PROVIDER__API_URL", url.as_str()), ("PEPAY_RELAY_API_KEY", key)];
    let arguments = ["availability", "--log-level", "debug", "--log-format", "json"];
    let said = bare(&arguments, &environment, b"").await;
    let line = said.stderr.lines().find(|line| line.contains("\"provider answered\"")).expect(&said.stderr);
    assert!(line.contains("\"request_id\":\"req_") && line.contains("/api/commerce/status"), "{line}");
    assert!(!said.stderr.contains(key), "{}", said.stderr);
}

//! `smoke` where something is wrong, without a Kafka: each cross has its own remedy. Its ticks need a Kafka (`delivery`).

use super::{Ended, relay_with, start};
use pepay_relay::simulator::{Options, Simulator};
use serde_json::Value;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

/// Row, verdict, and how its remedy or its reason begins.
fn rows(said: &Ended) -> Vec<(String, String, String)> {
    let report: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{}{}", said.stdout, said.stderr));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let row = |row: &Value| {
        let told = if row["verdict"] == "cross" { &row["remedy"] } else { &row["message"] };
        (text(&row["row"]), text(&row["verdict"]), text(told))
    };
    report["rows"].as_array().unwrap().iter().map(row).collect()
}

fn has(rows: &[(String, String, String)], row: &str, verdict: &str, told: &str) {
    let found = rows.iter().find(|(name, ..)| name == row).expect(row);
    assert!(found.1 == verdict && found.2.starts_with(told), "{row}: wanted {verdict}, {told}; got {found:?}");
}

#[tokio::test]
async fn each_cross_has_its_own_remedy() {
    let simulator = start().await;
    simulator.faults().set(|faults| faults.rest.whole_items_wanted = true);
    let mut key = tempfile::NamedTempFile::new().unwrap();
    key.write_all(simulator.api_key().as_bytes()).unwrap();
    std::fs::set_permissions(key.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let path = key.path().to_str().unwrap();
    let smoke = ["smoke", "--output", "json"];
    let readable = [("PEPAY_RELAY__PROVIDER__API_KEY_FILE", path), ("PEPAY_RELAY_API_KEY", "")];
    let nobody = ["--webhook-url", "http://127.0.0.1:1/x", "--wait-for-ping", "1s", "--customer-id", "cust_8842"];
    let arguments = [&smoke[..], &nobody].concat();
    let readable = relay_with(&simulator, &arguments, &readable, b"");
    let in_clear = ["--webhook-url", "http://shop.example/x", "--product", "nothing like it"];
    let in_clear_arguments = [&smoke[..], &in_clear].concat();
    let unknown = [("PEPAY_RELAY_API_KEY", "ck_of_somebody_else")];
    let unknown = relay_with(&simulator, &in_clear_arguments, &unknown, b"");
    let unsold = relay_with(&simulator, &in_clear_arguments, &[], b"");
    let (readable, unknown, unsold) = tokio::join!(readable, unknown, unsold);

    let told = rows(&readable);
    assert_eq!(readable.status, 1);
    has(&told, "key", "cross", "chmod o-r ");
    has(&told, "availability", "tick", "available");
    has(&told, "customer", "tick", "by customer id, `cust_8842`");
    has(&told, "stream", "tick", "ws://127.0.0.1:");
    has(&told, "webhook", "cross", "see that it listens there");
    has(&told, "test.ping", "not_checked", "no relay is there to take it");
    has(&told, "checkout", "tick", "estimate, address and invoice made ");
    has(&told, "orders", "tick", "list, order, invoice and payment agree");
    has(&told, "lifecycle", "tick", "all eight transitions");
    has(&told, "kafka", "cross", "nobody listens there: see kafka.bootstrap_servers");
    has(&told, "mainnet", "not_checked", "a devnet key cannot tell");
    assert!(readable.stderr.ends_with("3 rows of the checklist are crossed\n"), "{}", readable.stderr);

    let told = rows(&unknown);
    for row in ["availability", "checkout"] {
        has(&told, row, "cross", "check the commerce API key");
    }
    has(&told, "stream", "cross", "see that the key is of this environment");
    has(&told, "webhook", "cross", "use https, or plain http to the loopback");
    has(&told, "lifecycle", "not_checked", "no order was made");
    has(&rows(&unsold), "checkout", "cross", "name one that is sold with --product");
    for said in [&readable, &unknown, &unsold] {
        assert!(!said.stdout.contains(simulator.api_key()) && !said.stdout.contains("ck_of"), "{}", said.stdout);
    }
}

#[tokio::test]
async fn mainnet_is_left_alone() {
    let simulator = Simulator::start(Options { mainnet: true, ..Options::default() }).await.unwrap();
    let mainnet = [("PEPAY_RELAY__PROVIDER__ENVIRONMENT", "mainnet")];
    let said = relay_with(&simulator, &["smoke"], &mainnet, b"").await;
    assert_eq!((said.status, said.stdout.as_str()), (78, ""));
    assert!(said.stderr.contains("on devnet alone; name the settings of a devnet relay"), "{}", said.stderr);
    assert_eq!(simulator.requests(), 0);
}

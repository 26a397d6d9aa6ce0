//! `smoke`: the checklist against the simulator and a real Kafka.

use crate::support::kafka::Broker;
use crate::support::process::run;
use crate::support::relay::{Rig, drain};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::Value;
use std::time::Duration;

/// The rows of a report and their verdicts.
fn verdicts(report: &Value) -> Vec<(&str, &str)> {
    let rows = report["rows"].as_array().unwrap();
    rows.iter().map(|row| (row["row"].as_str().unwrap(), row["verdict"].as_str().unwrap())).collect()
}

/// Topics whose names begin so.
fn topics(bootstrap: &str, prefix: &str) -> Vec<String> {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", bootstrap).set("log_level", "0").create().unwrap();
    let metadata = consumer.fetch_metadata(None, Duration::from_secs(30)).unwrap();
    metadata.topics().iter().map(|topic| topic.name().to_owned()).filter(|name| name.starts_with(prefix)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_is_ticked_by_the_running_relay() {
    let rig = Rig::new(Broker::shared().bootstrap(), "smoke").await.with_webhooks();
    let daemon = rig.daemon().await;
    let url = rig.webhook_url();
    let (status, stdout, stderr) =
        run(&rig, &["smoke", "--webhook-url", &url, "--customer-id", "cust_8842", "--output", "json"]).await;
    let report: Value = serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stdout} {stderr}"));
    let wanted = [
        ("key", "tick"),
        ("availability", "tick"),
        ("customer", "tick"),
        ("stream", "tick"),
        ("webhook", "tick"),
        ("test.ping", "not_checked"),
        ("checkout", "tick"),
        ("orders", "tick"),
        ("lifecycle", "tick"),
        ("kafka", "tick"),
        ("mainnet", "not_checked"),
    ];
    assert_eq!(verdicts(&report), wanted, "{report:#}");
    assert_eq!((status, &report["passed"], stderr.as_str()), (Some(0), &true.into(), ""));
    assert!(report["rows"][9]["message"].as_str().unwrap().ends_with("by the running relay"), "{report:#}");
    rig.until_delivered().await;
    rig.assert_delivered().await;
    drain(daemon).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_running_relay_one_inside_leaves_nothing_behind() {
    let rig = Rig::new(Broker::shared().bootstrap(), "smoke-inside").await;
    let (status, stdout, stderr) = run(&rig, &["smoke"]).await;
    assert_eq!((status, stderr.as_str()), (Some(0), ""), "{stdout}");
    let issued = rig.simulator.events().len();
    let line = format!("✓ kafka         {issued} events in Kafka, each once, by a relay inside");
    assert!(stdout.lines().any(|shown| shown == line), "{stdout}");
    assert!(stdout.contains("✓ webhook       a genuine one is taken, a forged one refused"), "{stdout}");
    assert!(stdout.contains("– customer      not checked: "), "{stdout}");
    assert_eq!(topics(&rig.config.kafka.bootstrap_servers, &rig.config.name), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cross_has_its_remedy_and_status_1() {
    let rig = Rig::new(Broker::shared().bootstrap(), "smoke-cross").await;
    rig.simulator.set_available(false);
    let (status, stdout, stderr) = run(&rig, &["smoke", "--output", "json"]).await;
    assert_eq!(status, Some(1), "{stdout}");
    assert!(stderr.contains("2 rows of the checklist are crossed"), "{stderr}");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    let crossed: Vec<&str> =
        verdicts(&report).into_iter().filter(|(_, verdict)| *verdict == "cross").map(|(row, _)| row).collect();
    assert_eq!(crossed, ["availability", "checkout"]);
    for row in report["rows"].as_array().unwrap().iter().filter(|row| row["verdict"] == "cross") {
        assert!(!row["remedy"].as_str().unwrap().is_empty(), "{row}");
    }
    assert!(verdicts(&report).contains(&("kafka", "not_checked")));
    assert_eq!(topics(&rig.config.kafka.bootstrap_servers, &rig.config.name), Vec::<String>::new());
}

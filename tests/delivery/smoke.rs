//! `smoke`: the checklist against the simulator and a real Kafka.

use crate::support::kafka::Broker;
use crate::support::process::{command, run};
use crate::support::relay::{Rig, drain};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::Value;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};

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
    let events = rig.simulator.events();
    let made = events.iter().filter(|event| event.kind == "commerce.order.created");
    let orders: Vec<&str> = made.filter_map(|event| event.scope.order_id.as_deref()).collect();
    let stream = &rig.config.provider.websocket_url;
    let orders = orders.join(", ");
    let issued = events.len();
    let wanted = format!(
        "✓ key           stored, and not readable by others
✓ availability  available
– customer      not checked: name one with commerce.customer_id, so that it stays the same
✓ stream        {stream}
✓ webhook       a genuine one is taken, a forged one refused
– test.ping     not checked: wait for the one of the provider's dashboard with --wait-for-ping 2m
✓ checkout      estimate, address and invoice made {orders}
✓ orders        list, order, invoice and payment agree
✓ lifecycle     all eight transitions, 12 steps taken and 8 refused as documented
✓ kafka         {issued} events in Kafka, each once, by a relay inside
– mainnet       not checked: a devnet key cannot tell; the provider grants access to mainnet
"
    );
    assert_eq!(stdout, wanted);
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

/// The rows of a run alongside a relay, in which the provider's dashboard pings an endpoint all the while, if there is one.
async fn beside(rig: &Rig, endpoint: Option<&str>, arguments: &[&str]) -> Value {
    let walked = run(rig, arguments);
    let mut walked = std::pin::pin!(walked);
    let (_, stdout, stderr) = loop {
        tokio::select! {
            ended = &mut walked => break ended,
            () = tokio::time::sleep(Duration::from_millis(200)) => {
                endpoint.map(|endpoint| rig.simulator.ping(endpoint));
            }
        }
    };
    serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stdout} {stderr}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ping_of_the_dashboard_is_waited_for_when_asked() {
    let rig = Rig::new(Broker::shared().bootstrap(), "smoke-ping").await;
    let daemon = rig.daemon().await;
    // The provider sends nothing else there.
    let types = pepay_relay::simulator::model::Types::parse("test.ping").unwrap();
    let endpoint = rig.simulator.add_webhook_endpoint_for(&rig.webhook_url(), types).unwrap();
    let smoke = ["smoke", "--output", "json", "--product", "nothing like it", "--wait-for-ping"];
    for (endpoint, wait, verdict) in [(Some(&*endpoint), "1m", "tick"), (None, "1s", "cross")] {
        let report = beside(&rig, endpoint, &[&smoke[..], &[wait]].concat()).await;
        let row = report["rows"].as_array().unwrap().iter().find(|row| row["row"] == "test.ping").unwrap().clone();
        assert_eq!(row["verdict"], verdict, "{row}");
        assert_eq!(row["remedy"] == "", verdict == "tick", "{row}");
    }
    drain(daemon).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_that_is_ended_leaves_nothing_behind() {
    let rig = Rig::new(Broker::shared().bootstrap(), "smoke-ended").await;
    let dir = tempfile::tempdir().unwrap();
    let mut smoke = command(&rig.config, &rig.secrets, &dir);
    smoke.arg("smoke").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = smoke.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // From here on the relay inside is there.
    while !lines.next_line().await.unwrap().expect("a row of the webhook").starts_with("✓ webhook") {}
    assert!(!topics(&rig.config.kafka.bootstrap_servers, &rig.config.name).is_empty());
    let pid = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let ended = child.wait_with_output().await.unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(
        (ended.status.code(), said.as_str()),
        (Some(1), "pepay-relay: stopped; the orders stay with the provider\n")
    );
    assert_eq!(topics(&rig.config.kafka.bootstrap_servers, &rig.config.name), Vec::<String>::new());
}

//! The canary: the record `NAME/check` that each start of the relay aborts. A consumer that sees it reads uncommitted records.

use super::examples::EXAMPLES;
use super::run::Run;
use super::support::kafka::Broker;
use super::support::records::committed;
use super::support::relay::{Rig, drain};
use super::workshop::{GO, Program, shell, succeeds};
use pepay_relay::labels::Topic;
use pepay_relay::simulator::Transition;
use std::path::Path;

/// What a record that is no event makes of each example.
const REFUSAL: &str = "does this consumer read uncommitted records?";

/// The line of an example that asks for committed records, what replaces it, and whether the example then sees
/// others. Where it is only left out, that is the client's default.
const CHANGES: [(usize, &str, &str, bool); 7] = [
    (0, "\"isolation.level\", \"read_committed\", // the default is read_uncommitted\n", "\n", true),
    (1, "\"isolation.level\", \"read_committed\", // the default is read_uncommitted\n", "\n", true),
    (2, "    \"isolation.level\": \"read_committed\",  # the default of librdkafka\n", "", false),
    (2, "\"read_committed\"", "\"read_uncommitted\"", true),
    (3, ", readUncommitted: false", "", false),
    (3, "readUncommitted: false", "readUncommitted: true", true),
    (4, ",\n\t\tkgo.FetchIsolationLevel(kgo.ReadCommitted())", "", true),
];

/// How the changed source of each example is run, from `changed/` in its folder.
const RUNS: [(&str, &str); 5] = [
    ("src/main/java/OrderStatus.java", "java -cp 'target/jars/*' changed/OrderStatus.java"),
    ("src/main/java/OrderStatus.java", "java -cp 'target/jars/*' changed/OrderStatus.java"),
    ("order_status.py", "venv/bin/python changed/order_status.py"),
    ("order-status.js", "node changed/order-status.js"),
    ("main.go", "go run ./changed"),
];

/// A relay that started, and orders that it published; how many order events there are.
async fn relayed(name: &str) -> (Rig, usize) {
    let rig = Rig::new(Broker::shared().bootstrap(), name).await;
    let daemon = rig.daemon().await;
    for _ in 0..20 {
        let order = rig.simulator.create_order().unwrap();
        Transition::LIFE.into_iter().for_each(|step| rig.simulator.simulate(&order, step).unwrap());
    }
    rig.until_delivered().await;
    drain(daemon).await;
    let count = committed(&rig.config, Topic::Orders).await.len();
    (rig, count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_uncommitted_records_sees_it_and_who_does_not_is_as_documented() {
    let folders = EXAMPLES.map(|example| example.installed());
    let (rig, count) = relayed("canary").await;
    let dir = tempfile::tempdir().unwrap();
    for (number, (example, from, to, sees)) in CHANGES.into_iter().enumerate() {
        let (source, run) = RUNS[example];
        let folder = &folders[example];
        let text = std::fs::read_to_string(folder.join(source)).unwrap();
        assert_eq!(text.matches(from).count(), 1, "{source}: {from}");
        let file = folder.join("changed").join(Path::new(source).file_name().unwrap());
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text.replace(from, to)).unwrap();
        let store = dir.path().join(number.to_string());
        let group = format!("{}-{number}", rig.config.name);
        let kafka = &rig.config.kafka.bootstrap_servers;
        let prefix = &rig.config.name;
        let settings =
            [("KAFKA", kafka.as_str()), ("PREFIX", prefix), ("GROUP", &group), ("STORE", store.to_str().unwrap())];
        let mut consumer = Run::start(&Program { run, ..EXAMPLES[example] }, folder, &settings);
        if sees {
            consumer.complains(REFUSAL).await;
        } else {
            consumer.has_told(count).await;
        }
        consumer.kill().await;
        println!(
            "{}/{source} with {to:?} for {from:?}: {}",
            EXAMPLES[example].folder,
            if sees { "sees the canary" } else { "does not see it" }
        );
    }
}

/// It asks the broker for committed records, and hands on what was aborted, and the markers of transactions as well. Should
/// this fail with a newer version, docs/consumers.md can recommend something better.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_go_hands_on_what_was_aborted() {
    const READER: Program =
        Program { folder: "tests/consumers/kafka-go", needs: &[GO], install: "go build", run: "./kafka-go-reader" };
    let folder = READER.installed();
    let (rig, count) = relayed("kafka-go").await;
    let mut reader = shell(READER.run, &folder);
    reader.env("KAFKA", &rig.config.kafka.bootstrap_servers).env("TOPIC", &rig.config.kafka.topics.orders);
    let printed = tokio::task::spawn_blocking(move || succeeds(&mut reader)).await.unwrap();
    let canary = format!("{:?}", format!("{}/check", rig.config.name));
    let marker = r#""\x00\x00\x00"#;
    let canaries = printed.lines().filter(|key| *key == canary).count();
    let markers = printed.lines().filter(|key| key.starts_with(marker)).count();
    println!("kafka-go: {} keys for {count} events: {canaries} canaries, {markers} markers", printed.lines().count());
    assert!(canaries > 0 && markers > 0);
    // And whatever else the relay aborted on a machine that is short of breath.
    assert!(printed.lines().count() >= count + canaries + markers);
}

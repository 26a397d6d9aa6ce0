//! `examples/consumers`: each prints every event once and keeps the newest status of each order, whatever comes twice,
//! late, again on purpose, not at all in the end, or after its own death.

use super::run::{Run, Store};
use super::support::kafka::Broker;
use super::support::process::run;
use super::support::records::{Record, committed, java_partition};
use super::support::relay::{Rig, drain, order_event};
use super::workshop::{GO, JAVA, MAVEN, NODE, PYTHON, Program};
use pepay_relay::clock::now_ms;
use pepay_relay::labels::Topic;
use pepay_relay::simulator::Transition;
use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

pub const EXAMPLES: [Program; 5] = [
    Program {
        folder: "examples/consumers/java",
        needs: &[JAVA, MAVEN],
        install: "mvn -q -B compile dependency:copy-dependencies",
        run: "java -cp 'target/classes:target/jars/*' OrderStatus",
    },
    Program {
        folder: "examples/consumers/spring",
        needs: &[JAVA, MAVEN],
        install: "mvn -q -B compile dependency:copy-dependencies",
        run: "java -cp 'target/classes:target/jars/*' OrderStatus",
    },
    Program {
        folder: "examples/consumers/python",
        needs: &[PYTHON],
        install: "python3 -m venv venv && venv/bin/pip install -q --require-hashes -r requirements.txt",
        run: "venv/bin/python order_status.py",
    },
    Program {
        folder: "examples/consumers/node",
        needs: &[NODE],
        install: "npm ci --silent",
        run: "node order-status.js",
    },
    Program { folder: "examples/consumers/go", needs: &[GO], install: "go build", run: "./order-status" },
];

/// Answers of a broker on this machine take milliseconds, of a loaded one seconds.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

#[test]
fn the_guide_names_what_is_tested() {
    let guide = std::fs::read_to_string("examples/consumers/README.md").unwrap();
    for Program { folder, install, run, .. } in EXAMPLES {
        let name = folder.rsplit('/').next().unwrap();
        let row = guide.lines().find(|line| line.starts_with(&format!("| `{name}/`"))).unwrap();
        assert!(row.ends_with(&format!("| `{install}` | `{run}` |")), "{row}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_event_is_printed_once_and_the_newest_status_is_kept() {
    let folders = EXAMPLES.map(|example| example.installed());
    let mut rig = Rig::new(Broker::shared().bootstrap(), "consumers").await.with_webhooks();
    let daemon = rig.daemon().await;
    let orders: Vec<String> = (0..167).map(|_| lived(&rig)).collect();
    rig.until_delivered().await;
    post(&rig, "overtaken", 2).await;
    post(&rig, "overtaken", 1).await;
    drain(daemon).await;
    let copied = copies(&mut rig).await;
    abort_copies(&rig).await;
    close(&rig, "first").await;

    let dir = tempfile::tempdir().unwrap();
    let stores = EXAMPLES.map(|example| Store(dir.path().join(example.folder.replace('/', "-"))));
    let expected = Expected::of(&rig).await;
    assert!(expected.told.len() >= 1_000, "{}", expected.told.len());
    assert!(expected.told.contains(&"overtaken late".to_owned()) || expected.late() > 0);
    assert!(expected.fresh_copies.contains(&copied) && expected.copies > expected.fresh_copies.len());
    let first = all_tell(&rig, &folders, &stores, "before", &expected, 0).await;

    // More of everything, while nobody listens; then all of it from the beginning, since the offsets are lost.
    let daemon = rig.daemon().await;
    (0..5).for_each(|_| drop(lived(&rig)));
    rig.until_delivered().await;
    for arguments in [["replay", "--order", &orders[3]], ["forget", "--order", &orders[5]]] {
        let (status, _, stderr) = run(&rig, &[&arguments[..], &["--yes"]].concat()).await;
        assert_eq!(status, Some(0), "{stderr}");
    }
    drain(daemon).await;
    abort_copies(&rig).await;
    close(&rig, "second").await;
    let before = expected.told.len();
    let expected = Expected::of(&rig).await;
    assert!(
        expected.replays > 0 && !expected.newest.contains_key(&orders[5]) && expected.newest.contains_key(&orders[3])
    );
    let second = all_tell(&rig, &folders, &stores, "after", &expected, before).await;

    for ((example, first), second) in EXAMPLES.iter().zip(first).zip(second) {
        let told = [first, second].concat();
        let each: BTreeSet<&String> = told.iter().collect();
        assert_eq!(each.len(), told.len(), "{}: each once", example.folder);
        assert_eq!(by_order(&told), by_order(&expected.told), "{}", example.folder);
        println!("{}: {} events, each once, before and after a kill", example.folder, told.len());
    }
}

/// Starts all examples together, waits until each has printed what is expected beyond `before` and holds what it
/// should, and kills it; the lines of each.
async fn all_tell(
    rig: &Rig,
    folders: &[PathBuf],
    stores: &[Store],
    group: &str,
    expected: &Expected,
    before: usize,
) -> Vec<Vec<String>> {
    let started = EXAMPLES.iter().zip(folders).zip(stores).map(|((example, folder), store)| {
        let kafka = &rig.config.kafka.bootstrap_servers;
        let prefix = &rig.config.name;
        let group = format!("{prefix}-{group}-{}", example.folder);
        let settings =
            [("KAFKA", kafka.as_str()), ("PREFIX", prefix), ("GROUP", &group), ("STORE", store.0.to_str().unwrap())];
        Run::start(example, folder, &settings)
    });
    // All of them before the first one is waited for.
    let started: Vec<Run> = started.collect();
    let mut told = Vec::new();
    for (mut consumer, store) in started.into_iter().zip(stores) {
        consumer.has_told(expected.told.len() - before).await;
        let wanted = json!([expected.told.len(), expected.newest]);
        store.holds(&wanted).await;
        told.push(consumer.kill().await);
    }
    told
}

/// What consumers must make of what is in Kafka.
struct Expected {
    /// A line for each event, where it comes first.
    told: Vec<String>,
    /// The time and the status of each order's newest event.
    newest: BTreeMap<String, [Value; 2]>,
    /// Records of events that were there already.
    copies: usize,
    /// Those of them that nothing marks.
    fresh_copies: Vec<String>,
    /// Records of replays.
    replays: usize,
}

impl Expected {
    async fn of(rig: &Rig) -> Self {
        let mut ids = BTreeSet::new();
        let mut told = Vec::new();
        let mut fresh_copies = Vec::new();
        let records = committed(&rig.config, Topic::Orders).await;
        for record in &records {
            let id = record.header("ce_id").to_owned();
            if ids.insert(id.clone()) {
                told.push(format!("{} {id}{}", record.key, if record.is_stale() { " late" } else { "" }));
            } else if !record.is_stale() {
                fresh_copies.push(id);
            }
        }
        let replays = records.iter().filter(|record| !record.header("relay_replay").is_empty()).count();
        let mut newest = BTreeMap::new();
        for record in committed(&rig.config, Topic::OrdersLatest).await {
            match &record.value {
                None => drop(newest.remove(&record.key)),
                Some(_) => drop(newest.insert(record.key.clone(), newest_of(&record))),
            }
        }
        Self { copies: records.len() - told.len(), told, newest, fresh_copies, replays }
    }

    fn late(&self) -> usize {
        self.told.iter().filter(|line| line.ends_with(" late")).count()
    }
}

fn newest_of(record: &Record) -> [Value; 2] {
    [record.header("ce_time").into(), record.json()["status"].clone()]
}

/// The lines of each order, in their order.
fn by_order(lines: &[String]) -> BTreeMap<&str, Vec<&str>> {
    let mut orders: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in lines {
        let (order, event) = line.split_once(' ').unwrap();
        orders.entry(order).or_default().push(event);
    }
    orders
}

fn lived(rig: &Rig) -> String {
    let order = rig.simulator.create_order().unwrap();
    for step in Transition::LIFE {
        rig.simulator.simulate(&order, step).unwrap();
    }
    order
}

/// A webhook about an event that only it brings; gives its id.
async fn post(rig: &Rig, order: &str, seq: u64) -> String {
    static NOW: std::sync::LazyLock<i64> = std::sync::LazyLock::new(now_ms);
    let id = format!("evt_{}-{seq}", *NOW);
    assert_eq!(rig.post(order_event(&id, order).to_string().as_bytes()).await.status, 200);
    id
}

/// Copies that come when the relay has forgotten the event: its window holds a single id. One of an event that is the
/// newest of its order is not marked, since nothing newer is known; gives its id.
async fn copies(rig: &mut Rig) -> String {
    let usual = std::mem::replace(&mut rig.config.dedup.ids_max, 1);
    let daemon = rig.daemon().await;
    let newest = post(rig, "copied", 4).await;
    for seq in [3, 4] {
        post(rig, "copied", seq).await;
    }
    for event in rig.simulator.events().iter().take(20) {
        assert_eq!(rig.post(&event.bytes).await.status, 200);
    }
    drain(daemon).await;
    rig.config.dedup.ids_max = usual;
    newest
}

/// Fifty events that never were, in a transaction that is aborted.
async fn abort_copies(rig: &Rig) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &rig.config.kafka.bootstrap_servers)
        .set("transactional.id", uuid::Uuid::new_v4().to_string())
        .set("log_level", "0")
        .create()
        .unwrap();
    producer.init_transactions(ANSWERS_WITHIN).unwrap();
    producer.begin_transaction().unwrap();
    for topic in [Topic::Orders, Topic::OrdersLatest] {
        let name = rig.config.kafka.topics.name(topic).unwrap();
        let records = committed(&rig.config, topic).await;
        for (number, record) in records.iter().filter(|record| record.value.is_some()).take(50).enumerate() {
            let id = format!("evt_9999999999999-{number}");
            let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
                let value = if key == "ce_id" { &id } else { value };
                headers.insert(Header { key, value: Some(value) })
            });
            let key = record.key.as_str();
            let value = record.value.as_deref().unwrap();
            let copy = BaseRecord::to(name).partition(record.partition).key(key).payload(value).headers(headers);
            producer.send(copy).map_err(|(error, _)| error).unwrap();
        }
    }
    producer.flush(ANSWERS_WITHIN).unwrap();
    producer.abort_transaction(ANSWERS_WITHIN).unwrap();
}

/// A last event in each partition of both topics: who has it has read everything before.
async fn close(rig: &Rig, name: &str) {
    let daemon = rig.daemon().await;
    for partition in 0..rig.config.kafka.partitions {
        let keys = (0..).map(|number| format!("{name}-{number}"));
        let key = keys.into_iter().find(|key| java_partition(key.as_bytes(), rig.config.kafka.partitions) == partition);
        post(rig, &key.unwrap(), 10 + u64::from(partition.unsigned_abs()) + 10 * name.len() as u64).await;
    }
    drain(daemon).await;
}

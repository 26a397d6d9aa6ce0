//! The AsyncAPI document and the open schemas, in the hands of the tools that consumers use.

use super::support::kafka::Broker;
use super::support::records::{Record, committed};
use super::support::relay::{Rig, drain};
use super::workshop::{NODE, PYTHON, Program, shell, succeeds};
use pepay_relay::labels::Topic;
use pepay_relay::normalize::open_schemas;
use pepay_relay::simulator::Transition;
use serde_json::{Map, Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;

const TOOLS: Program = Program {
    folder: "tests/consumers/tools",
    needs: &[NODE, PYTHON],
    install: "npm ci --silent --ignore-scripts && python3 -m venv venv && \
        venv/bin/pip install -q --require-hashes -r requirements.txt",
    run: "",
};

/// `schema --asyncapi`, as the binary prints it.
fn document() -> String {
    succeeds(Command::new(env!("CARGO_BIN_EXE_pepay-relay")).args(["schema", "--asyncapi"]))
}

#[test]
fn the_asyncapi_document_passes_its_own_parser() {
    let tools = TOOLS.installed();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("asyncapi.json");
    let judge = |document: &str| {
        fs::write(&file, document).unwrap();
        shell(&format!("node asyncapi.mjs {}", file.display()), &tools).output().unwrap()
    };
    let judged = judge(&document());
    let said = String::from_utf8_lossy(&judged.stdout);
    assert!(judged.status.success() && said.contains("3.0.0 5 channels, 5 messages"), "{said}");
    print!("{said}");
    // It can refuse one: a channel that names a message which is not there.
    assert!(
        !judge(&document().replacen("#/components/messages/orders\"", "#/components/messages/nothing\"", 1))
            .status
            .success()
    );
}

/// Keys, headers and values of real records are those of the document.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_fit_the_asyncapi_document() {
    let rig = Rig::new(Broker::shared().bootstrap(), "asyncapi").await.with_webhooks();
    let daemon = rig.daemon().await;
    let order = rig.simulator.create_order().unwrap();
    Transition::LIFE.into_iter().for_each(|step| rig.simulator.simulate(&order, step).unwrap());
    rig.until_delivered().await;
    assert_eq!(rig.post(b"{}").await.status, 200, "a dead letter");
    drain(daemon).await;
    let document: Value = serde_json::from_str(&document()).unwrap();
    for topic in [Topic::Orders, Topic::OrdersLatest, Topic::Invoices, Topic::DeadLetter] {
        let message = &document["components"]["messages"][topic.as_str()];
        let [headers, payload] = ["headers", "payload"].map(|part| jsonschema::validator_for(&message[part]).unwrap());
        let records = committed(&rig.config, topic).await;
        assert!(!records.is_empty(), "{topic:?}");
        for record in &records {
            let named: Map<String, Value> =
                record.headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
            let known = message["headers"]["properties"].as_object().unwrap();
            assert!(named.keys().all(|name| known.contains_key(name)), "{named:?}");
            let mistakes: Vec<_> =
                headers.iter_errors(&Value::Object(named.clone())).map(|error| error.to_string()).collect();
            assert!(mistakes.is_empty(), "{mistakes:?}");
            assert!(payload.is_valid(&value_of(record)), "{topic:?}");
        }
    }
}

fn value_of(record: &Record) -> Value {
    serde_json::from_slice(record.value.as_ref().unwrap()).unwrap()
}

#[test]
fn generated_models_read_every_snapshot_and_later_ones() {
    let tools = TOOLS.installed();
    let dir = tempfile::tempdir().unwrap();
    let schemas = open_schemas();
    for topic in ["orders", "invoices"] {
        fs::write(dir.path().join(format!("{topic}.json")), schemas[topic].to_string()).unwrap();
        fs::create_dir(dir.path().join(topic)).unwrap();
    }
    let mut written = 0;
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/values/snapshots")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if name.starts_with("schema.") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let value: Value = serde_json::from_str(text.rsplit("---\n").next().unwrap()).unwrap();
        let topic = if value["event_type"].as_str().unwrap().starts_with("invoice") { "invoices" } else { "orders" };
        for (kind, value) in [("later", later(value.clone())), ("now", value)] {
            fs::write(dir.path().join(topic).join(format!("{name}.{kind}.json")), value.to_string()).unwrap();
            written += 1;
        }
    }
    assert_eq!(written, 40);
    for command in ["node models.mjs", "venv/bin/python models.py"] {
        print!("{}", succeeds(&mut shell(&format!("{command} {}", dir.path().display()), &tools)));
    }
}

/// The same with a member more in every object.
fn later(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let members = members.into_iter().map(|(name, value)| (name, later(value)));
            Value::Object(
                members.chain([("a_member_more".to_owned(), json!({"of": ["a", "later", "version"]}))]).collect(),
            )
        }
        Value::Array(items) => items.into_iter().map(later).collect(),
        value => value,
    }
}

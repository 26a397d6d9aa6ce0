//! The permissions that `docs/kafka.md` lists: a real broker with an authorizer takes exactly these, and misses each.

use super::pressure::{as_stranger, live};
use crate::support::acl::{self, Operation, Resource};
use crate::support::kafka::{Broker, STRANGER};
use crate::support::process::{self, Process};
use crate::support::relay::Rig;
use pepay_relay::config::Config;
use pepay_relay::kafka::topics::TopicSpec;
use pepay_relay::labels::Topic;
use pepay_relay::provider::Environment;
use std::collections::BTreeSet;

/// What a user is allowed to do with one topic or transactional id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Permission {
    operation: Operation,
    topic: bool,
    name: String,
    prefixed: bool,
}

impl Permission {
    fn resource(&self) -> Resource<'_> {
        match (self.topic, self.prefixed) {
            (true, false) => Resource::Topic(&self.name),
            (true, true) => Resource::Topics(&self.name),
            (false, false) => Resource::TransactionalId(&self.name),
            (false, true) => Resource::TransactionalIds(&self.name),
        }
    }

    fn give(&self, broker: &Broker) {
        acl::give(broker.bootstrap(), STRANGER.0, self.resource(), self.operation);
    }

    fn take(&self, broker: &Broker) {
        acl::take(broker.bootstrap(), STRANGER.0, self.resource(), self.operation);
    }
}

fn page() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/kafka.md")).unwrap()
}

/// An operation in any of the tools' spellings.
fn operation(word: &str) -> Operation {
    match word.to_lowercase().replace(['-', '_'], "").as_str() {
        "read" => Operation::Read,
        "write" => Operation::Write,
        "create" => Operation::Create,
        "describeconfigs" => Operation::DescribeConfigs,
        other => panic!("an operation that the page should not name: {other}"),
    }
}

/// The permissions that one command gives, of whichever tool.
fn of_command(line: &str) -> Vec<Permission> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let values = |flags: &[&str]| -> Vec<&str> {
        let named = words.windows(2).filter(|pair| flags.contains(&pair[0]));
        named.flat_map(|pair| pair[1].split(',')).collect()
    };
    let pattern = values(&["--resource-pattern-type"]);
    let prefixed = words.contains(&"--prefix") || pattern.iter().any(|word| word.eq_ignore_ascii_case("prefixed"));
    let topics = values(&["--topic"]);
    let ids = values(&["--transactional-id"]);
    let resources = topics.iter().map(|name| (true, name)).chain(ids.iter().map(|name| (false, name)));
    let operations = values(&["--operation", "--operations"]);
    assert!(!operations.is_empty() && topics.len() + ids.len() > 0, "{line}");
    resources
        .flat_map(|(topic, name)| {
            let name = (*name).to_owned();
            operations.iter().map(move |word| Permission {
                operation: operation(word),
                topic,
                name: name.clone(),
                prefixed,
            })
        })
        .collect()
}

/// The permissions that one line of a `KafkaUser` gives.
fn of_resource(line: &str) -> Vec<Permission> {
    let after = |key: &str| line.split_once(key).unwrap_or_else(|| panic!("{line} has no {key}")).1;
    let word = |key: &str| after(key).split([',', ' ', '}']).next().unwrap().to_owned();
    let operations = after("operations: [").split(']').next().unwrap().split(", ");
    let topic = word("type: ") == "topic";
    let prefixed = word("patternType: ") == "prefix";
    operations.map(|one| Permission { operation: operation(one), topic, name: word("name: "), prefixed }).collect()
}

/// What the lines that begin so give together.
fn listed(text: &str, beginning: &str, of: fn(&str) -> Vec<Permission>) -> BTreeSet<Permission> {
    let lines = text.lines().map(str::trim_start).filter(|line| line.starts_with(beginning));
    lines.flat_map(of).collect()
}

/// The lists of the page, in its order: what the relay needs, what it needs to create its topics, what commands need.
fn lists() -> [BTreeSet<Permission>; 3] {
    let page = page();
    let blocks = page.split("```").filter(|block| block.starts_with("sh\nkafka-acls "));
    let lists: Vec<_> = blocks.map(|block| listed(block, "kafka-acls ", of_command)).collect();
    lists.try_into().unwrap_or_else(|lists| panic!("not three lists: {lists:#?}"))
}

#[test]
fn the_list_of_permissions_is_the_same_in_the_words_of_every_tool() {
    let [run, ..] = lists();
    let page = page();
    assert_eq!(run.len(), 13, "{run:#?}");
    for (beginning, of) in [
        ("rpk security acl create ", of_command as fn(&str) -> Vec<Permission>),
        ("confluent kafka acl create ", of_command),
        ("avn service kafka-acl-add ", of_command),
        ("- { resource: ", of_resource),
    ] {
        assert_eq!(listed(&page, beginning, of), run, "{beginning}");
    }
}

#[test]
fn the_page_creates_topics_as_the_relay_does() {
    let config = Config::minimal(Environment::Devnet, "BROKERS");
    let command = |topic: Topic| {
        let name = config.kafka.topics.name(topic).unwrap();
        TopicSpec::of(&config, topic).command(topic, name, "BROKERS")
    };
    let page = page();
    let commands: Vec<&str> = page.lines().filter(|line| line.starts_with("kafka-topics ")).collect();
    assert_eq!(commands, Topic::WRITTEN.map(command));
}

/// Checks that the missing permission is noticed, and named.
async fn is_missed(permission: &Permission, rig: &Rig) {
    let (status, found) = process::check(rig).await;
    let told = if status == Some(0) && !found.contains("allow --operation") {
        let mut relay = Process::start(rig);
        assert_eq!(relay.ended().await, Some(77), "{permission:?}: {}", relay.said());
        relay.said()
    } else {
        found
    };
    assert!(told.contains(&permission.name), "{permission:?} is not named: {told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_the_listed_permissions_are_enough_and_each_is_missed() {
    let broker = Broker::start_secured();
    let mut open = Rig::new(broker.bootstrap(), "permissions").await;
    // The names of the page.
    let usual = Config::minimal(Environment::Devnet, broker.bootstrap());
    open.config.name = usual.name;
    open.config.kafka.topics = usual.kafka.topics;
    let rig = as_stranger(&broker, &open);
    let [run, create, commands] = lists();

    // Topics are created once the last of these is there, and not before.
    run.iter().for_each(|permission| permission.give(&broker));
    for permission in &create {
        let (status, _, said) = process::run(&rig, &["topics", "--create"]).await;
        assert!(status == Some(77) && said.contains("--operation Create --topic pepay."), "{status:?}: {said}");
        permission.give(&broker);
    }
    let (status, _, said) = process::run(&rig, &["topics", "--create"]).await;
    assert_eq!(status, Some(0), "{said}");
    create.iter().for_each(|permission| permission.take(&broker));

    // Enough: it relays, and so do those who look and who repeat.
    let relay = Process::ready(&rig).await;
    live(&open, 2);
    assert_eq!(open.post(b"no event").await.status, 200);
    open.until_delivered().await;
    let (status, found) = process::check(&rig).await;
    assert!(status == Some(0) && !found.contains("allow --operation"), "{found}");
    let order = open.simulator.create_order().unwrap();
    open.until_delivered().await;
    let (status, _, said) = process::run(&rig, &["replay", "--order", &order, "--yes"]).await;
    assert_eq!(status, Some(0), "{said}");

    // Commands read.
    let tail = async |topic: &str| {
        let arguments = ["tail", "--topic", topic, "--from", "beginning", "--count", "1"];
        process::run(&rig, &arguments).await
    };
    let forget = async || process::run(&rig, &["forget", "--order", &order, "--yes"]).await;
    let topics = ["orders", "orders_latest", "invoices", "dead_letter"];
    for topic in topics {
        let (status, _, said) = tail(topic).await;
        assert_ne!(status, Some(0), "{topic}: {said}");
    }
    assert_ne!(forget().await.0, Some(0));
    commands.iter().for_each(|permission| permission.give(&broker));
    for topic in topics {
        let (status, _, said) = tail(topic).await;
        assert_eq!(status, Some(0), "{topic}: {said}");
    }
    let (status, _, said) = forget().await;
    assert_eq!(status, Some(0), "{said}");
    commands.iter().for_each(|permission| permission.take(&broker));
    relay.stop().await;

    // None is there in vain.
    for permission in &run {
        println!("without {permission:?}");
        permission.take(&broker);
        is_missed(permission, &rig).await;
        permission.give(&broker);
    }
    Process::ready(&rig).await.stop().await;
}

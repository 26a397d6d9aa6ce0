//! What the log and `check` report about a Kafka that does not do what it should: the cause, and the remedy.

use super::pressure::live;
use crate::support::kafka::{Broker, USER};
use crate::support::process::{Process, check};
use crate::support::relay::Rig;
use crate::support::settings::{config, publisher, secrets};
use crate::support::watch::eventually;
use pepay_relay::config::Config;
use pepay_relay::kafka::diagnosis::why;
use pepay_relay::kafka::errors::StartError;
use pepay_relay::kafka::topics::{self, Topics};
use pepay_relay::kafka::{Publisher, PublisherSetup};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use std::path::Path;

fn tls(mut config: Config, bootstrap: &str, ca_file: &Path) -> Config {
    config.kafka.bootstrap_servers = bootstrap.to_owned();
    config.kafka.tls = true;
    config.kafka.ca_file = Some(ca_file.to_owned());
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_that_does_not_fit_is_named() {
    let broker = Broker::start_secured();
    let plain = config(broker.bootstrap(), "tls");
    let secured = broker.secured();
    let foreign = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls/localhost.cert.pem");
    let mut to_tls = plain.clone();
    to_tls.kafka.bootstrap_servers = secured.bootstrap.clone();
    for (config, remedy) in [
        (to_tls, "set kafka.tls = true"),
        (tls(plain.clone(), broker.bootstrap(), &secured.ca_file), "set kafka.tls = false"),
        (tls(plain.clone(), &secured.bootstrap, &foreign), "name its authority in kafka.ca_file"),
    ] {
        let said = why(&config, &secrets(Some(USER.1))).await.unwrap_or_default();
        assert!(said.contains(remedy), "wanted {remedy}: {said}");
        assert!(!said.contains("brokers are down"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_broker_that_wants_three_replicas_of_its_transactions_is_named() {
    let broker = Broker::start_with("transaction.state.log.replication.factor=3\n");
    let rig = Rig::new(broker.bootstrap(), "replicas").await;
    let mut relay = Process::start(&rig);
    let line =
        relay.line_with("cause of the outage of Kafka", "cause", "transaction.state.log.replication.factor").await;
    assert!(line["cause"].as_str().unwrap().contains("(1 brokers)"), "{line}");
    let (status, findings) = check(&rig).await;
    assert_eq!(status, Some(1));
    assert!(findings.contains("transactions") && findings.contains("replication.factor (3 unless set)"), "{findings}");
}

/// The log of a relay that cannot start, and `check`, name this remedy, and report more than that there is trouble.
pub async fn told(rig: &Rig, remedy: &str) {
    let mut relay = Process::start(rig);
    let line = relay.line_with("kafka unavailable", "remedy", remedy).await;
    let (status, findings) = check(rig).await;
    assert_eq!(status, Some(1), "{findings}");
    let found = findings.lines().find(|line| line.starts_with("✗ kafka")).unwrap_or(&findings);
    println!("{}\n  {found}", line["detail"].as_str().unwrap());
    assert!(found.contains(remedy), "wanted {remedy}: {findings}");
    assert!(!line["detail"].as_str().unwrap().contains("brokers are down"), "{line}");
    assert!(!found.contains("brokers are down"), "{found}");
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_advertised_name_without_an_address_is_named() {
    let broker = Broker::start_with("advertised.listeners=PLAINTEXT://nowhere.invalid:{plain}\n");
    let rig = Rig::new(broker.bootstrap(), "advertised").await;
    let mut relay = Process::start(&rig);
    let line = relay.line_with("kafka unavailable", "detail", "nowhere.invalid").await;
    assert!(line["remedy"].as_str().unwrap().contains("advertised.listeners"), "{line}");
    let (status, findings) = check(&rig).await;
    assert_eq!(status, Some(1));
    assert!(findings.contains("nowhere.invalid") && findings.contains("advertised.listeners"), "{findings}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_was_deleted_is_named() {
    // As Kafka has it by default.
    let broker = Broker::start_with("auto.create.topics.enable=true\n");
    let rig = Rig::new(broker.bootstrap(), "deleted").await;
    let [orders, control] = [&rig.config.kafka.topics.orders, &rig.config.kafka.topics.control].map(Clone::clone);
    for _ in 0..2 {
        let (_, findings) = check(&rig).await;
        assert!(findings.contains(&format!("{control} does not exist yet")), "{findings}");
    }
    let mut relay = Process::ready(&rig).await;
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", broker.bootstrap()).create().unwrap();
    let done = admin.delete_topics(&[&orders], &AdminOptions::new()).await.unwrap();
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    live(&rig, 1);
    let line = relay.line_with("cause of the outage of Kafka", "cause", &orders).await;
    assert!(line["cause"].as_str().unwrap().contains("a topic was deleted"), "{line}");
    let (_, findings) = check(&rig).await;
    assert!(findings.contains(&format!("{orders} does not exist yet")), "{findings}");
}

/// Two brokers, of which one dies: what is left of each topic is not enough.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_few_replicas_in_sync_are_named() {
    let both = "min.insync.replicas=2\ndefault.replication.factor=2\ntransaction.state.log.replication.factor=2\n";
    let broker = Broker::start_with(both);
    let mut other = broker.beside(both);
    let rig = Rig::new(broker.bootstrap(), "in-sync").await;
    let remedy = "fewer replicas are in sync than min.insync.replicas";
    let mut relay = Process::ready(&rig).await;
    tokio::task::block_in_place(|| other.kill());
    live(&rig, 1);
    let line = relay.line_with("cause of the outage of Kafka", "cause", remedy).await;
    assert!(line["cause"].as_str().unwrap().contains("has 1 in-sync replicas, fewer than 2"), "{line}");
    let (status, findings) = check(&rig).await;
    assert_eq!(status, Some(1), "{findings}");
    assert!(findings.contains(remedy) && findings.contains("has 1 in-sync replicas, fewer than 2"), "{findings}");
    tokio::task::block_in_place(|| other.restart());
    relay.line("kafka recovered").await;
    rig.until_delivered().await;
    relay.stop().await;
    rig.assert_delivered().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_is_named() {
    let broker = Broker::start();
    let rig = Rig::new(broker.bootstrap(), "quota").await;
    let mut relay = Process::ready(&rig).await;
    let name = rig.config.name.clone();
    let alter = |change| {
        tokio::task::block_in_place(|| broker.alter(&[change, "--entity-type", "clients", "--entity-name", &name]));
    };
    alter("--add-config=producer_byte_rate=2000");
    // Kafka holds a client up for what it brought in the last seconds: too little is no outage, and too much one of a minute.
    let bring = async {
        loop {
            live(&rig, 3);
            rig.until_delivered().await;
        }
    };
    let told = async {
        let line = relay.line_with("kafka unavailable", "remedy", "producer_byte_rate").await;
        assert!(line["detail"].as_str().unwrap().contains("quota"), "{line}");
        eventually("check names it as well", async || check(&rig).await.1.contains("producer_byte_rate")).await;
    };
    tokio::select! {
        () = told => {}
        () = bring => unreachable!("it brings without an end"),
    }
    alter("--delete-config=producer_byte_rate");
    rig.until_delivered().await;
    relay.stop().await;
    rig.assert_delivered().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_open_files_are_named() {
    let mut broker = Broker::start_with("advertised.listeners=PLAINTEXT://localhost:{plain}\n");
    let rig = Rig::new(broker.bootstrap(), "descriptors").await;
    let mut relay = Process::ready(&rig).await;
    let pid = relay.pid().to_string();
    let allow = |files: &str| {
        let done = std::process::Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={files}")]).status();
        assert!(done.unwrap().success());
    };
    allow("3:");
    tokio::task::block_in_place(|| {
        broker.kill();
        broker.restart();
    });
    live(&rig, 1);
    relay.line_with("kafka unavailable", "remedy", "raise LimitNOFILE").await;
    allow("1024:");
    relay.line("kafka recovered").await;
    rig.until_delivered().await;
    relay.stop().await;
    rig.assert_delivered().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_that_may_not_be_that_long_are_named() {
    let broker = Broker::start_with("transaction.max.timeout.ms=30000\n");
    let config = config(broker.bootstrap(), "timeout");
    let found = topics::ensure(&config, &secrets(None)).await.unwrap();
    let refused = Publisher::start(PublisherSetup { ..publisher(&config, &secrets(None), found) }).await;
    let Err(StartError::Settings(text)) = refused else { panic!("{refused:?}") };
    assert!(text.contains("transaction.max.timeout.ms") && text.contains("60000 ms"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_created_with_what_a_policy_allows() {
    let made = async |mode: &str| {
        let broker = Broker::start_with_policy(mode);
        let config = config(broker.bootstrap(), "policy");
        let made = topics::ensure(&config, &secrets(None)).await;
        made.map(|made: Topics| made.left_out().map(str::to_owned).collect::<Vec<_>>())
    };
    let segments = made("segments").await.unwrap();
    assert_eq!(segments.len(), 1, "the control topic alone asks for small segments: {segments:?}");
    assert!(segments[0].starts_with("policy.relay was created without segment.bytes=16777216: "), "{segments:?}");
    let handful = made("handful").await.unwrap();
    assert_eq!(handful.len(), 1, "{handful:?}");
    assert!(handful[0].contains("segment.bytes=16777216, segment.ms=3600000, min.cleanable.dirty.ratio=0.1"));
    let Err(StartError::Settings(text)) = made("everything").await else { panic!("a policy that allows nothing") };
    let commands: Vec<&str> = text.lines().skip(1).collect();
    assert_eq!(commands.len(), 5, "each topic with its settings: {text}");
    assert!(commands.iter().all(|command| command.starts_with("kafka-topics --bootstrap-server 127.0.0.1:")), "{text}");
    assert!(commands[4].contains("--topic policy.relay --partitions 1 --config cleanup.policy=compact"), "{text}");
    assert!(commands[4].contains("--config min.compaction.lag.ms=1209600000"), "{text}");
}

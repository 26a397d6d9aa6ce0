//! Claim, commit, read back; fencing, time-outs, killed brokers, refused sizes.

use crate::support::foreign::{open_transaction, producer_of};
use crate::support::kafka::Broker as TestBroker;
use crate::support::records::committed;
use crate::support::settings::{config, publisher, secrets};
use pepay_relay::config::Config;
use pepay_relay::kafka::client::Tuning;
use pepay_relay::kafka::consume::{Consumed, Follow, StartAt};
use pepay_relay::kafka::errors::StartError;
use pepay_relay::kafka::recover::{Control, Progress, read_back};
use pepay_relay::kafka::settlement::Fenced;
use pepay_relay::kafka::shard::Shard;
use pepay_relay::kafka::topics::{self, Topics};
use pepay_relay::kafka::{Batch, Keys, Predecessor, Publisher, PublisherSetup, Stop, Verdict};
use pepay_relay::labels::Topic;
use pepay_relay::relay::Version;
use pepay_relay::relay::journal::{self, Entries, Entry};
use pepay_relay::telemetry::{Health, Phase};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::producer::Producer;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub fn unique(test: &str) -> String {
    format!("{test}-{}", &uuid::Uuid::new_v4().to_string()[..8])
}

/// Orders of these ids, as the relay commits them: with their journal, and marks up to the last of them.
pub fn batch(config: &Config, ids: impl IntoIterator<Item = String>, value: &[u8]) -> Batch {
    let keys = Keys::new(&config.name);
    let mut batch = Batch::default();
    let mut journal = Entries::default();
    let mut last = String::new();
    for id in ids {
        let order = format!("order-{}", id.len());
        let version = Some(Version { ms: 1, seq: 0 });
        let entry = Entry { account: "", topic: Topic::Orders, id: id.as_bytes(), key: order.as_bytes(), version };
        journal.push(&entry);
        let write = |out: &mut Vec<u8>| {
            out.extend_from_slice(value);
            Ok::<_, ()>(order.clone())
        };
        batch.push(Topic::Orders, write, |order| order.as_bytes()).unwrap();
        batch.header("ce_id", id.as_bytes());
        last = id;
    }
    let count = batch.len();
    journal.values().for_each(|value| batch.record(Topic::Control, keys.journal().as_bytes(), value));
    batch.record(Topic::Control, keys.marks(&config.name).as_bytes(), &marks(&last));
    batch.answers_for(count, journal.count());
    batch
}

/// The value of marks with this cursor.
pub fn marks(cursor: &str) -> Vec<u8> {
    serde_json::json!({ "cursor": cursor, "verified": null, "gaps": [] }).to_string().into_bytes()
}

pub async fn start(config: &Config) -> (Publisher, Option<Predecessor>) {
    start_tuned(config, Tuning::default(), Arc::new(Health::default())).await
}

async fn start_tuned(config: &Config, tuning: Tuning, health: Arc<Health>) -> (Publisher, Option<Predecessor>) {
    let topics = topics::ensure(config, &secrets(None)).await.unwrap();
    let setup = PublisherSetup { tuning, health, ..publisher(config, &secrets(None), topics) };
    Publisher::start(setup).await.unwrap()
}

/// Every committed record of the orders topic, in order within a partition.
pub async fn orders(config: &Config, count: usize) -> Vec<Consumed> {
    let mut follow =
        Follow::start(config, &secrets(None), &config.kafka.topics.orders, StartAt::Beginning).await.unwrap();
    let mut records = Vec::new();
    while records.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(60), follow.next()).await;
        records.push(next.expect("a record in time").unwrap().unwrap());
    }
    records
}

/// The ids of the committed orders, each as often as it is there.
pub async fn ids(config: &Config) -> Vec<String> {
    let records = committed(config, Topic::Orders).await;
    let mut ids: Vec<String> = records.iter().map(|record| record.header("ce_id").to_owned()).collect();
    ids.sort();
    ids
}

async fn commit(publisher: &mut Publisher, batch: Batch) -> Result<Verdict, Stop> {
    publisher.submit(batch, false);
    tokio::time::timeout(Duration::from_secs(120), publisher.verdict()).await.expect("a verdict in time").1
}

#[tokio::test]
async fn a_successor_finds_what_its_predecessor_committed() {
    let config = config(TestBroker::shared().bootstrap(), &unique("successor"));
    let (mut first, none) = start(&config).await;
    assert_eq!(none, None);
    let committed = commit(&mut first, batch(&config, ["evt_1-1".into(), "evt_2-1".into()], b"{}")).await;
    assert!(matches!(committed, Ok(Verdict::Committed { at_ms }) if at_ms > 0), "{committed:?}");
    commit(&mut first, Batch::default()).await.unwrap();
    assert!(first.close(Duration::from_secs(10)).await);

    let (second, predecessor) = start(&config).await;
    let predecessor = predecessor.unwrap();
    let Predecessor { checkpoint, marks: found } = predecessor;
    let expected = BTreeMap::from([(String::new(), marks("evt_2-1"))]);
    assert_eq!((checkpoint.commit, checkpoint.environment.as_str(), checkpoint.left), (2, "devnet", false));
    assert_eq!(found, expected);
    assert_eq!(ids(&config).await, ["evt_1-1", "evt_2-1"]);
    drop(second);
    let (_third, claim) = start(&config).await;
    let claim = claim.unwrap();
    assert_eq!((claim.checkpoint.commit, &claim.marks), (0, &expected), "a claim repeats the marks");
    assert_ne!(claim.checkpoint.run, checkpoint.run);
    assert_eq!(claim.checkpoint.previous, Some(checkpoint.id()), "and says what it follows");
}

/// A relay that comes no further than its claim does not hide from the next one since when nobody was there.
#[tokio::test]
async fn a_claim_keeps_the_time_of_the_marks_that_it_carries_on() {
    let config = config(TestBroker::shared().bootstrap(), &unique("claims"));
    let claim = async || {
        let (publisher, predecessor) = start(&config).await;
        assert!(publisher.close(Duration::from_secs(10)).await);
        predecessor
    };
    assert_eq!(claim().await, None);
    let first = claim().await.unwrap();
    let second = claim().await.unwrap();
    let first = first.checkpoint;
    let second = second.checkpoint;
    assert_ne!(first.run, second.run);
    assert_eq!(first.at_ms(), second.at_ms());
    let (mut publisher, _) = start(&config).await;
    commit(&mut publisher, Batch::default()).await.unwrap();
    assert!(publisher.close(Duration::from_secs(10)).await);
    assert!(claim().await.unwrap().checkpoint.at_ms() > first.at_ms(), "what it did itself has its own time");
}

#[tokio::test]
async fn topics_of_another_environment_are_refused() {
    let mut config = config(TestBroker::shared().bootstrap(), &unique("environment"));
    drop(start(&config).await);
    config.provider.environment = pepay_relay::provider::Environment::Mainnet;
    let refused = Publisher::start(publisher(&config, &secrets(None), Topics::default())).await;
    let Err(StartError::Settings(text)) = refused else { panic!("{refused:?}") };
    assert!(text.contains("hold devnet events") && text.contains("kafka.topic_prefix"), "{text}");
}

#[tokio::test]
async fn a_second_publisher_fences_the_first() {
    let config = config(TestBroker::shared().bootstrap(), &unique("fence"));
    let (mut first, _) = start(&config).await;
    commit(&mut first, batch(&config, ["evt_1-1".into()], b"{}")).await.unwrap();
    let (mut second, _) = start(&config).await;
    // Idle, with nothing but its checkpoint.
    assert_eq!(commit(&mut first, Batch::default()).await, Err(Stop::Fenced(Fenced::Stop)));
    assert!(commit(&mut second, batch(&config, ["evt_2-1".into()], b"{}")).await.is_ok());
    assert_eq!(ids(&config).await, ["evt_1-1", "evt_2-1"]);
}

/// The coordinator gives up a transaction whose broker answers too late, and answers "fenced".
#[tokio::test]
async fn a_transaction_that_timed_out_is_sent_again() {
    let mut broker = TestBroker::start();
    let config = config(broker.bootstrap(), &unique("timeout"));
    let tuning = Tuning {
        transaction_timeout: Duration::from_secs(3),
        fence_confirm_after: Duration::from_millis(200),
        ..Tuning::default()
    };
    let health = Arc::new(Health::default());
    let (mut publisher, _) = start_tuned(&config, tuning, Arc::clone(&health)).await;
    health.set_phase(Phase::Ready);
    commit(&mut publisher, batch(&config, ["evt_1-1".into()], b"{}")).await.unwrap();
    broker.freeze();
    publisher.submit(batch(&config, ["evt_2-1".into()], b"{}"), false);
    let mut snapshots = health.subscribe();
    snapshots.wait_for(|snapshot| snapshot.phase == Phase::KafkaUnavailable).await.unwrap();
    broker.thaw();
    let verdict = tokio::time::timeout(Duration::from_secs(60), publisher.verdict()).await.expect("in time").1;
    assert!(matches!(verdict, Ok(Verdict::Committed { .. })), "{verdict:?}");
    assert_eq!(health.phase(), Phase::Ready);
    assert_eq!(ids(&config).await, ["evt_1-1", "evt_2-1"]);
    broker.kill();
}

#[tokio::test]
async fn a_broker_killed_during_commits_loses_and_repeats_nothing() {
    const ROUNDS: usize = 4;
    const BATCHES: usize = 15;
    let mut broker = TestBroker::start();
    let config = config(broker.bootstrap(), &unique("kill"));
    let (mut publisher, _) = start(&config).await;
    for round in 0..ROUNDS {
        for number in 0..BATCHES {
            let ids = (0..20).map(|n| format!("evt_{round:02}{number:02}{n:02}-1"));
            publisher.submit(batch(&config, ids, &[b'x'; 500]), false);
            if number == BATCHES / 2 {
                #[expect(clippy::disallowed_methods, reason = "the moment of the kill is what the rounds vary")]
                std::thread::sleep(Duration::from_millis(2 * round as u64));
                broker.kill();
                broker.restart();
            }
            let verdict = tokio::time::timeout(Duration::from_secs(120), publisher.verdict()).await.expect("in time").1;
            assert!(matches!(verdict, Ok(Verdict::Committed { .. })), "{verdict:?}");
        }
    }
    let ids = ids(&config).await;
    let distinct: BTreeSet<_> = ids.iter().collect();
    assert_eq!((ids.len(), distinct.len()), (ROUNDS * BATCHES * 20, ROUNDS * BATCHES * 20));
    let mut last: BTreeMap<i32, String> = BTreeMap::new();
    for record in orders(&config, ids.len()).await {
        let id = String::from_utf8(record.header("ce_id").unwrap().to_vec()).unwrap();
        let before = last.insert(record.partition, id.clone());
        assert!(before.is_none_or(|before| before < id), "order within a partition");
    }
}

#[tokio::test]
async fn a_batch_refused_for_size_is_given_back_and_the_next_one_is_committed() {
    let config = config(TestBroker::shared().bootstrap(), &unique("size"));
    let (mut publisher, _) = start(&config).await;
    // The small ones before it are purged when it is refused, which must neither hide why nor leave a hole in the
    // sequence numbers of their partitions.
    for round in 0..20 {
        let small = 100 * (round % 3);
        let mut huge = batch(&config, (0..small).map(|n| format!("{}evt_0-{n}", "0".repeat(n % 60))), &[b'x'; 500]);
        huge.record(Topic::Orders, b"order", &vec![b'x'; 2 << 20]);
        publisher.submit(huge, false);
        let (given_back, verdict) =
            tokio::time::timeout(Duration::from_secs(60), publisher.verdict()).await.expect("a verdict in time");
        assert!(matches!(verdict, Ok(Verdict::Refused { .. })), "{verdict:?}");
        let orders = given_back.records().filter(|record| record.topic() == Topic::Orders);
        assert_eq!(orders.count(), small + 1);
        let next = (0..60).map(|n| format!("{}evt_{round:02}-1", "0".repeat(n)));
        assert!(commit(&mut publisher, batch(&config, next, b"{}")).await.is_ok());
    }
    assert_eq!(ids(&config).await.len(), 20 * 60);
}

/// Known answers from `org.apache.kafka.common.utils.Utils` (kafka-clients 4.1.1): `toPositive(murmur2(key)) % 6`.
#[tokio::test]
async fn partitions_are_those_of_javas_partitioner() {
    const KNOWN: [(&str, i32); 7] = [
        ("ord_1", 3),
        ("ord_2", 5),
        ("21", 0),
        ("foobar", 0),
        ("550e8400-e29b-41d4-a716-446655440000", 5),
        ("x", 4),
        ("a-little-bit-long-string", 2),
    ];
    let config = config(TestBroker::shared().bootstrap(), &unique("murmur"));
    let (mut publisher, _) = start(&config).await;
    let mut batch = Batch::default();
    for (key, _) in KNOWN {
        batch.push(Topic::Orders, |_| Ok::<_, ()>(key), |key| key.as_bytes()).unwrap();
    }
    commit(&mut publisher, batch).await.unwrap();
    let found: BTreeMap<_, _> =
        orders(&config, KNOWN.len()).await.into_iter().map(|r| (r.key.unwrap(), r.partition)).collect();
    for (key, partition) in KNOWN {
        assert_eq!(found[key.as_bytes()], partition, "{key}");
    }
}

/// A foreign writer's transaction on the control topic: reading back waits for its end and logs that.
#[tokio::test]
async fn reading_back_waits_for_an_open_transaction_of_another_writer() {
    let config = config(TestBroker::shared().bootstrap(), &unique("open"));
    let (mut publisher, _) = start(&config).await;
    let foreign = open_transaction(TestBroker::shared().bootstrap(), &config.kafka.topics.control);
    let ours = (0..40).map(|n| format!("evt_{n:02}-1"));
    commit(&mut publisher, batch(&config, ours, b"{}")).await.unwrap();
    let ends = Mutex::new(Some(foreign));
    let found = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&found);
    let (told, named) = std::sync::mpsc::channel();
    let progress = move |progress: Progress<'_>| {
        if let Some(place) = progress.waiting_for {
            told.send(place.to_owned()).unwrap();
            if let Some(foreign) = ends.lock().unwrap().take() {
                foreign.abort_transaction(Duration::from_secs(30)).unwrap();
            }
        }
    };
    let each = move |record: Control<'_>, _| {
        if let Control::Journal(value) = record {
            journal::read(value, |entry| sink.lock().unwrap().push(entry.id.to_vec())).unwrap();
        }
    };
    read_back(&config, &secrets(None), publisher.take_reader(), Shard::SOLE, 0, each, progress).await.unwrap();
    assert_eq!(named.recv().unwrap(), format!("{}[0]", config.kafka.topics.control));
    assert_eq!(found.lock().unwrap().len(), 40);
}

#[tokio::test]
async fn topics_that_another_relay_writes_are_refused_until_it_has_left() {
    let ours = config(TestBroker::shared().bootstrap(), &unique("owner"));
    let (mut first, _) = start(&ours).await;
    let mut other = ours.clone();
    other.name = format!("{}-other", ours.name);
    let topics = topics::ensure(&other, &secrets(None)).await.unwrap();
    let refused = Publisher::start(publisher(&other, &secrets(None), topics.clone())).await;
    let Err(StartError::Settings(text)) = refused else { panic!("{refused:?}") };
    assert!(text.contains(&format!("relay `{}` writes to these topics", ours.name)), "{text}");
    first.submit(Batch::default(), true);
    assert!(matches!(first.verdict().await.1, Ok(Verdict::Committed { .. })));
    assert!(first.close(Duration::from_secs(10)).await);
    assert!(Publisher::start(publisher(&other, &secrets(None), topics)).await.is_ok());
}

#[tokio::test]
async fn an_empty_memory_alongside_full_topics_is_a_persons_to_decide() {
    let mut config = config(TestBroker::shared().bootstrap(), &unique("emptied"));
    let (mut first, _) = start(&config).await;
    commit(&mut first, batch(&config, ["evt_1-1".into()], b"{}")).await.unwrap();
    assert!(first.close(Duration::from_secs(10)).await);
    // As if somebody had deleted the control topic, and it was created again.
    config.kafka.topics.control = format!("{}.again", config.name);
    let topics = topics::ensure(&config, &secrets(None)).await.unwrap();
    let setup = || publisher(&config, &secrets(None), topics.clone());
    let refused = Publisher::start(setup()).await;
    let Err(StartError::Settings(text)) = refused else { panic!("{refused:?}") };
    assert!(text.contains("holds records") && text.contains("run --from"), "{text}");
    let (_again, predecessor) = Publisher::start(PublisherSetup { starts_afresh: true, ..setup() }).await.unwrap();
    assert_eq!(predecessor, None);
}

/// Whatever became of the control topic: without another relay's checkpoint in it nobody took over.
#[tokio::test]
async fn lost_control_records_are_no_takeover() {
    let config = config(TestBroker::shared().bootstrap(), &unique("lost"));
    let (mut first, _) = start(&config).await;
    commit(&mut first, batch(&config, ["evt_1-1".into()], b"{}")).await.unwrap();
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &config.kafka.bootstrap_servers).create().unwrap();
    let control = config.kafka.topics.control.as_str();
    admin.delete_topics(&[control], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    topics::ensure(&config, &secrets(None)).await.unwrap();
    // What makes the relay look: somebody took the next epoch of its name, and went.
    let name = config.name.clone();
    let bootstrap = config.kafka.bootstrap_servers.clone();
    tokio::task::spawn_blocking(move || drop(producer_of(&bootstrap, &name))).await.unwrap();
    let stopped = commit(&mut first, batch(&config, ["evt_2-1".into()], b"{}")).await;
    let Err(Stop::Fatal(text)) = stopped else { panic!("{stopped:?}") };
    assert!(text.contains("Kafka lost the newest checkpoint"), "{text}");
}

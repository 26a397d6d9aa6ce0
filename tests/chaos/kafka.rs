//! Faults that Kafka itself is made to have: requests that come late, records that are lost, quotas, more partitions.
//!
//! What a broker loses is no loss of the relay's: the oracle learns what was lost, no more than that.

use crate::judged::Loss;
use crate::reader::{COMMITTED, offsets, open_records, read_on};
use crate::relay::Forgets;
use crate::rounds::Play;
use crate::stage::Stage;
use crate::support::proxy::{END_TXN, Fault, PRODUCE};
use pepay_relay::labels::Topic;
use rand::RngExt;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::time::Duration;
use tokio::time::Instant;

/// The relay's topics of events.
const OUTPUTS: [Topic; 3] = [Topic::Orders, Topic::OrdersLatest, Topic::Invoices];
/// What is asked for is done by then, at a quota too.
const DONE_WITHIN: Duration = Duration::from_secs(120);
/// What a relay that is frozen has asked for is done by then.
const SETTLED_WITHIN: Duration = Duration::from_secs(1);
/// Bytes a second: what a full batch takes at this rate is several times the life of a transaction.
const QUOTA: u32 = 200_000;
/// What the relay asks of its control topic, and does not run without.
const CONTROL: [(&str, &str); 2] = [("cleanup.policy", "compact"), ("min.compaction.lag.ms", "1209600000")];

/// The end of a transaction waits on its way while librdkafka asks again; it arrives after the first answer to a record
/// of the next transaction.
pub async fn end_late(stage: &mut Stage) {
    stage.relay.proxy.set(&[Fault::LateTwin(END_TXN, PRODUCE)], None);
    let proxy = stage.relay.proxy.clone();
    tokio::task::spawn_blocking(move || proxy.wait_for_twin()).await.expect("the late request has come");
    stage.relay.proxy.clear();
}

/// A relay that goes on remembers everything; one that starts knows what was written since, or a person sets from when
/// on events are to be fetched again.
pub async fn recreate_control(stage: &mut Stage) {
    stage.relay.may_end = true;
    let control = stage.config.kafka.topics.control.clone();
    if stage.at_times() {
        let mut places = TopicPartitionList::new();
        places.add_partition_offset(&control, 0, Offset::End).expect("an offset");
        delete_records(stage, places, &[Topic::Control]).await;
    } else {
        let admin = admin(stage);
        let deleted = admin.delete_topics(&[&control], &options()).await.expect("an answer");
        deleted[0].as_ref().expect("deleted");
        let mut topic = NewTopic::new(&control, 1, TopicReplication::Fixed(1));
        for (name, value) in CONTROL {
            topic = topic.set(name, value);
        }
        let created = admin.create_topics([&topic], &options()).await.expect("an answer");
        created[0].as_ref().expect("created");
    }
    let to = stage.offsets(Offset::End);
    stage.relay.forgets = Some(Forgets { from: Default::default(), to });
    // Half of the time it has to go on as it is, or to end and be started again.
    let pid = stage.relay.process.pid();
    stage.some_time(0, 3_000).await;
    if stage.at_times() {
        stage.recovered().await.unwrap_or_else(|why| panic!("{why}"));
    }
    if let Some(status) = stage.relay.process.has_ended().await {
        stage.tend(status).await.unwrap_or_else(|why| panic!("{why}"));
    }
    if stage.relay.process.pid() == pid {
        // It goes on, and forgets when it is started again.
        stage.kill_relay().await;
        stage.start_relay();
    }
}

/// What the broker has lost. In each case the relay may have started within that time: then its claim is lost too.
pub async fn lose_tail(stage: &mut Stage) {
    // What is committed by now is whole in the copy, its markers too: they are written one partition after the other.
    let from = tokio::task::block_in_place(|| offsets(&stage.config, Offset::End, COMMITTED));
    tokio::time::sleep(SETTLED_WITHIN).await;
    let copy = tokio::task::block_in_place(|| stage.broker.copy());
    if stage.chance.random_bool(0.3) {
        stage.kill_relay().await;
        stage.start_relay();
    }
    stage.some_time(1_000, 3_000).await;
    let topics = stage.config.kafka.topics.clone();
    let lost = stage.chance.random_range(0..3);
    stage.relay.may_end = lost < 2;
    match lost {
        // Records and memory: the relay brings everything back.
        0 => {
            stage.reader.pause();
            tokio::task::block_in_place(|| stage.broker.kill());
            stage.broker.lose_since(&copy, None);
            stage.reader.oracle().cut(&from, false);
            tokio::task::block_in_place(|| stage.broker.restart());
            tokio::task::block_in_place(|| stage.reader.go_on());
        }
        // The memory alone: it repeats what it no longer knows of.
        1 => {
            tokio::task::block_in_place(|| stage.broker.kill());
            stage.relay.process.signal("STOP");
            stage.broker.lose_since(&copy, Some(&[&topics.control]));
            tokio::task::block_in_place(|| stage.broker.restart());
            let to = stage.offsets(Offset::End);
            stage.reader.oracle().lose(Loss { from, since: to.clone(), to, versions: true, ..Loss::default() });
            stage.relay.process.signal("CONT");
        }
        // The records alone: it remembers that it has published them, and nothing informs it.
        _ => {
            stage.relay.process.signal("STOP");
            // Not to be seen from outside: a commit may be under way, and its markers after it.
            tokio::time::sleep(SETTLED_WITHIN).await;
            stage.reader.pause();
            tokio::task::block_in_place(|| read_on(&stage.config, &mut stage.reader.oracle()));
            // Acknowledged as well: the relay asks for their commit.
            let open = tokio::task::block_in_place(|| open_records(&stage.config));
            tokio::task::block_in_place(|| stage.broker.kill());
            let lost = OUTPUTS.map(|topic| topics.name(topic).expect("turned on"));
            stage.broker.lose_since(&copy, Some(&lost));
            stage.reader.oracle().cut(&from, true);
            stage.reader.oracle().may_lack(&open);
            tokio::task::block_in_place(|| stage.broker.restart());
            tokio::task::block_in_place(|| stage.reader.go_on());
            stage.relay.process.signal("CONT");
        }
    }
}

/// Everything that is poured out at once passes while the quota lasts.
pub async fn slow_down(stage: &mut Stage) {
    let name = stage.config.name.clone();
    tokio::task::block_in_place(|| stage.broker.quota(&name, Some(QUOTA)));
    let orders = stage.chance.random_range(50..=150);
    stage.provider.pour(orders).await;
    if stage.at_times() {
        stage.some_time(0, 3_000).await;
        stage.kill_relay().await;
        stage.start_relay();
    }
    stage.stands_by(Instant::now() + DONE_WITHIN).await;
    tokio::task::block_in_place(|| stage.broker.quota(&name, None));
}

/// Whatever was read of the output topics is deleted, of `latest` at times. What the relay remembers does not depend on it, also when it starts.
pub async fn empty_topics(stage: &mut Stage) {
    let compacted: &[Topic] = if stage.at_times() { &[Topic::OrdersLatest] } else { &[] };
    let read = stage.reader.oracle().ends();
    let mut places = TopicPartitionList::new();
    for ((topic, partition), offset) in read {
        if topic == Topic::OrdersLatest && compacted.is_empty() {
            continue;
        }
        let name = stage.config.kafka.topics.name(topic).expect("turned on");
        places.add_partition_offset(name, partition, Offset::Offset(offset)).expect("an offset");
    }
    delete_records(stage, places, compacted).await;
    start_again_at_times(stage).await;
}

/// One or all of the output topics get another partition.
pub async fn add_partitions(stage: &mut Stage) {
    let chosen = stage.chance.random_range(0..=OUTPUTS.len());
    let partitions = stage.offsets(Offset::End);
    let admin = admin(stage);
    for (index, topic) in OUTPUTS.into_iter().enumerate() {
        if chosen != index && chosen != OUTPUTS.len() {
            continue;
        }
        let count = 1 + partitions.keys().filter(|(of, _)| *of == topic).count();
        let name = stage.config.kafka.topics.name(topic).expect("turned on");
        let made = admin.create_partitions(&[NewPartitions::new(name, count)], &options()).await.expect("an answer");
        made[0].as_ref().expect("another partition");
    }
    let expected = partitions.len() + if chosen == OUTPUTS.len() { OUTPUTS.len() } else { 1 };
    let began = Instant::now();
    while stage.offsets(Offset::End).len() < expected {
        assert!(began.elapsed() < DONE_WITHIN, "the broker knows its partitions");
    }
    tokio::task::block_in_place(|| stage.reader.go_on());
    start_again_at_times(stage).await;
}

/// Deletes what is before these places. A topic that is compacted alone has to be another one meanwhile.
async fn delete_records(stage: &Stage, places: TopicPartitionList, compacted: &[Topic]) {
    let policy = |policy: &str| {
        for topic in compacted {
            let name = stage.config.kafka.topics.name(*topic).expect("turned on");
            tokio::task::block_in_place(|| stage.broker.clean(name, policy));
        }
    };
    policy("delete");
    let deleted = admin(stage).delete_records(&places, &options()).await.expect("deleted");
    assert!(deleted.elements().iter().all(|element| element.error().is_ok()), "{deleted:?}");
    policy("compact");
}

/// Half of the time the relay is killed and started again, up to a second later.
async fn start_again_at_times(stage: &mut Stage) {
    if stage.at_times() {
        stage.some_time(0, 1_000).await;
        stage.kill_relay().await;
        stage.start_relay();
    }
}

fn admin(stage: &Stage) -> AdminClient<DefaultClientContext> {
    let bootstrap = &stage.config.kafka.bootstrap_servers;
    ClientConfig::new().set("bootstrap.servers", bootstrap).set("log_level", "0").create().expect("a client")
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(DONE_WITHIN)).request_timeout(Some(DONE_WITHIN))
}

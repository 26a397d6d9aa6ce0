//! What is done to the parts, and how each fault is done; those that Kafka itself is made to have are in `kafka`.

use crate::kafka;
use crate::relay::Slot;
use crate::rounds::Faults;
use crate::stage::Stage;
use crate::support::foreign::producer_of;
use pepay_relay::labels::Topic;
use rand::RngExt;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

/// A relay that lost its name leaves within this.
const FENCED_WITHIN: Duration = Duration::from_secs(15);
/// A relay's transactions live for 60 s; the coordinator looks for old ones twice a second here.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(90);
/// What the raw producers below wait for the broker.
const BROKER_WITHIN: Duration = Duration::from_secs(30);
const FENCED: i32 = 75;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL, and another relay.
    KillRelay,
    /// SIGKILL, and SIGKILL again while the next one starts.
    KillRelayTwice,
    /// SIGTERM, and another relay.
    RestartRelay,
    /// SIGSTOP for a while.
    FreezeRelay,
    /// SIGSTOP with a transaction open, until the coordinator has given it up.
    FreezeRelayBeyondItsTransaction,
    /// SIGKILL, and the same data again.
    KillBroker,
    /// SIGSTOP for a while.
    FreezeBroker,
    /// SIGKILL of both.
    KillBoth,
    /// A second relay of the name.
    Takeover,
    /// Somebody takes the name's next epoch and goes, as the coordinator does with a transaction that is too old.
    FencedByNobody,
    /// A relay starts while a transaction of somebody else is open on our topics.
    ForeignTransaction,
    /// REST answers 503, and the sockets are cut: nobody can find what was missed. Webhooks, which would bring it, are
    /// paused at times.
    RestDown,
    /// Every socket ends, more than once.
    CutSockets,
    /// Every socket ends as soon as it is up.
    Flap,
    /// No frame, no ping, no pong.
    Silence,
    /// Frames vanish from a socket that lives, and webhooks wait.
    LostFrames,
    /// The log shows events late, webhooks come in disorder and twice.
    Disorder,
    /// Thousands of events at once.
    Flood,
    /// The end of a transaction reaches the broker late, in the middle of the next one, after it was asked for again.
    LateEnd,
    /// The control topic's records are deleted, or the topic itself, and made again.
    ControlRecreated,
    /// The broker comes back without its last seconds: of everything, of the control topic, or of the others.
    BrokerLosesTail,
    /// A few thousand events against a quota.
    Quota,
    /// The records of the output topics are deleted.
    TopicEmptied,
    /// Output topics get another partition.
    MorePartitions,
}

impl Faults for Fault {
    const ALL: &'static [Self] = &[
        Self::KillRelay,
        Self::KillRelayTwice,
        Self::RestartRelay,
        Self::FreezeRelay,
        Self::FreezeRelayBeyondItsTransaction,
        Self::KillBroker,
        Self::FreezeBroker,
        Self::KillBoth,
        Self::Takeover,
        Self::FencedByNobody,
        Self::ForeignTransaction,
        Self::RestDown,
        Self::CutSockets,
        Self::Flap,
        Self::Silence,
        Self::LostFrames,
        Self::Disorder,
        Self::Flood,
        Self::LateEnd,
        Self::ControlRecreated,
        Self::BrokerLosesTail,
        Self::Quota,
        Self::TopicEmptied,
        Self::MorePartitions,
    ];

    fn is_rare(self) -> bool {
        self == Self::FreezeRelayBeyondItsTransaction
    }
}

impl Fault {
    /// Does it, and undoes it; the relay may still have to recover when this returns.
    pub async fn strike(self, stage: &mut Stage) {
        match self {
            Self::KillRelay => {
                stage.kill_relay().await;
                stage.some_time(0, 1_000).await;
                stage.start_relay();
            }
            Self::KillRelayTwice => {
                stage.kill_relay().await;
                stage.start_relay();
                stage.some_time(0, 1_000).await;
                stage.kill_relay().await;
                stage.start_relay();
            }
            Self::RestartRelay => {
                stage.relay.process.signal("TERM");
                assert_eq!(stage.relay.process.ended().await, Some(0), "{}", stage.relay.process.said());
                stage.start_relay();
            }
            Self::FreezeRelay => {
                stage.relay.process.signal("STOP");
                stage.some_time(500, 4_000).await;
                stage.relay.process.signal("CONT");
            }
            Self::FreezeRelayBeyondItsTransaction => freeze_beyond(stage).await,
            Self::KillBroker => {
                tokio::task::block_in_place(|| stage.broker.kill());
                stage.some_time(0, 1_000).await;
                tokio::task::block_in_place(|| stage.broker.restart());
            }
            Self::FreezeBroker => {
                stage.broker.freeze();
                stage.some_time(500, 4_000).await;
                stage.broker.thaw();
            }
            Self::KillBoth => {
                tokio::task::block_in_place(|| stage.broker.kill());
                stage.kill_relay().await;
                stage.start_relay();
                tokio::task::block_in_place(|| stage.broker.restart());
            }
            Self::Takeover => take_over(stage).await,
            Self::FencedByNobody => drop(stage.with_producer(&stage.config.name.clone()).await),
            Self::ForeignTransaction => foreign_transaction(stage).await,
            Self::RestDown => {
                let webhooks = json!({ "paused": stage.at_times() });
                stage.provider.faults(json!({ "rest": { "refuse": { "status": 503 } }, "webhooks": webhooks })).await;
                stage.provider.cut().await;
                stage.some_time(500, 4_000).await;
                stage.provider.well().await;
            }
            Self::CutSockets => {
                let webhooks = json!({ "paused": stage.at_times() });
                stage.provider.faults(json!({ "webhooks": webhooks })).await;
                for _ in 0..3 {
                    stage.provider.cut().await;
                    stage.some_time(50, 700).await;
                }
                stage.provider.well().await;
            }
            Self::Flap => {
                let webhooks = json!({ "paused": stage.at_times() });
                stage.provider.faults(json!({ "websocket": { "flap": "abrupt" }, "webhooks": webhooks })).await;
                stage.provider.cut().await;
                stage.some_time(500, 3_000).await;
                stage.provider.well().await;
            }
            Self::Silence => {
                let webhooks = json!({ "paused": stage.at_times() });
                stage.provider.faults(json!({ "websocket": { "silent": true }, "webhooks": webhooks })).await;
                // From below the relay's patience to beyond it.
                stage.some_time(1_000, 5_000).await;
                stage.provider.well().await;
            }
            Self::LostFrames => {
                let webhooks = json!({ "paused": true });
                stage.provider.faults(json!({ "websocket": { "drop_next": 100 }, "webhooks": webhooks })).await;
                stage.some_time(500, 3_000).await;
                stage.provider.well().await;
            }
            Self::Disorder => {
                let stream = json!({ "swap": true, "duplicate_percent": 20, "since": "inclusive" });
                let webhooks = json!({ "jitter": "1s", "duplicate_percent": 20 });
                // Less than the overlap of walks: what is later may be missed.
                let rest = json!({ "log_visible_after": "500ms" });
                stage.provider.faults(json!({ "websocket": stream, "webhooks": webhooks, "rest": rest })).await;
                stage.provider.cut().await;
                stage.some_time(500, 3_000).await;
                stage.provider.well().await;
            }
            Self::Flood => {
                let orders = stage.chance.random_range(100..=500);
                stage.provider.pour(orders).await;
            }
            Self::LateEnd => kafka::end_late(stage).await,
            Self::ControlRecreated => kafka::recreate_control(stage).await,
            Self::BrokerLosesTail => kafka::lose_tail(stage).await,
            Self::Quota => kafka::slow_down(stage).await,
            Self::TopicEmptied => kafka::empty_topics(stage).await,
            Self::MorePartitions => kafka::add_partitions(stage).await,
        }
    }
}

/// The first relay leaves by itself, with its status, and the second one stays.
async fn take_over(stage: &mut Stage) {
    let slot = match stage.relay.slot {
        Slot::First => Slot::Second,
        Slot::Second => Slot::First,
    };
    let second = stage.launch(slot);
    let mut first = std::mem::replace(&mut stage.relay.process, second);
    stage.relay.slot = slot;
    stage.relay.process.line("relay ready").await;
    assert_eq!(first.ended_within(FENCED_WITHIN).await, Some(FENCED), "{}", first.said());
}

/// It holds records on every partition that the relay writes and reads, control included; they are never committed.
async fn foreign_transaction(stage: &mut Stage) {
    let producer = stage.with_producer(&format!("foreign-{}", stage.config.name)).await;
    let topics = stage.config.kafka.topics.clone();
    let partitions = stage.config.kafka.partitions;
    let producer = tokio::task::spawn_blocking(move || {
        producer.begin_transaction().expect("a transaction");
        for (topic, count) in [(Topic::Orders, partitions), (Topic::Invoices, partitions), (Topic::Control, 1)] {
            for partition in 0..count {
                let record = BaseRecord::to(topics.name(topic).expect("turned on")).key("foreign").payload("foreign");
                producer.send(record.partition(partition)).expect("room");
            }
        }
        producer.flush(BROKER_WITHIN).expect("delivered");
        producer
    });
    let producer = producer.await.expect("a transaction of somebody else");
    stage.kill_relay().await;
    stage.start_relay();
    stage.some_time(500, 4_000).await;
    let aborted = tokio::task::spawn_blocking(move || producer.abort_transaction(BROKER_WITHIN));
    aborted.await.expect("a thread").expect("aborted");
}

/// With the broker frozen the relay's transaction has begun and cannot end; then the relay is frozen with it open.
async fn freeze_beyond(stage: &mut Stage) {
    stage.broker.freeze();
    stage.provider.pour(1).await;
    // Not to be seen from outside: the producer's thread hands the requests to librdkafka, which writes them.
    tokio::time::sleep(Duration::from_millis(500)).await;
    stage.relay.process.signal("STOP");
    stage.broker.thaw();
    let bootstrap = stage.broker.bootstrap().to_owned();
    let control = stage.config.kafka.topics.control.clone();
    let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", &bootstrap).create().expect("a client");
    let end = || tokio::task::block_in_place(|| client.fetch_watermarks(&control, 0, BROKER_WITHIN)).expect("an end").1;
    let began = Instant::now();
    let open = end();
    // The coordinator writes its marker; it is its own timer, and nothing reports when that is over.
    while end() == open && began.elapsed() < GIVEN_UP_WITHIN {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    stage.relay.process.signal("CONT");
}

impl Stage {
    /// A producer with a transactional id, which nobody else has from here on.
    async fn with_producer(&self, id: &str) -> BaseProducer {
        let bootstrap = self.broker.bootstrap().to_owned();
        let id = id.to_owned();
        tokio::task::spawn_blocking(move || producer_of(&bootstrap, &id)).await.expect("a producer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use std::collections::BTreeSet;

    #[test]
    fn the_first_rounds_see_every_fault_and_a_seed_decides_their_order() {
        let rounds = |seed| Fault::rounds(Fault::ALL, 1_000, &mut StdRng::seed_from_u64(seed));
        for seed in 0..100 {
            let first: BTreeSet<Fault> = rounds(seed).into_iter().take(Fault::ALL.len()).collect();
            assert_eq!(first.len(), Fault::ALL.len());
        }
        assert_eq!(rounds(7), rounds(7));
        assert_ne!(rounds(7), rounds(8));
        let long = rounds(7).into_iter().filter(|fault| *fault == Fault::FreezeRelayBeyondItsTransaction).count();
        assert!((8..=12).contains(&long), "{long} in a thousand");
    }
}

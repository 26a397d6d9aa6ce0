//! Commits whose answer is lost: whether they took effect or not, nothing is lost and nothing is repeated.

use super::publish::{batch, ids, unique};
use crate::support::kafka::Broker as TestBroker;
use crate::support::proxy::{END_TXN, Fault, INIT_PRODUCER_ID, PRODUCE, Proxy};
use crate::support::settings::{config, publisher, secrets};
use pepay_relay::config::Config;
use pepay_relay::kafka::client::Tuning;
use pepay_relay::kafka::{Publisher, PublisherSetup, Verdict, topics};
use pepay_relay::telemetry::Metrics;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Short, so that a commit of unknown outcome is given up soon.
const TRANSACTION: Duration = Duration::from_secs(4);

struct Line {
    proxy: Proxy,
    broker: TestBroker,
    config: Config,
    metrics: Arc<Metrics>,
    publisher: Publisher,
    /// Where the orders topic ended after the first record.
    first_end: i64,
}

impl Line {
    async fn new(test: &str) -> Self {
        let proxy = Proxy::start();
        let broker = TestBroker::start_behind(&proxy);
        let config = config(&proxy.address().to_string(), &unique(test));
        let secrets = secrets(None);
        let topics = topics::ensure(&config, &secrets).await.unwrap();
        let tuning = Tuning {
            transaction_timeout: TRANSACTION,
            fence_confirm_after: Duration::from_millis(200),
            ..Tuning::default()
        };
        let setup = PublisherSetup { tuning, ..publisher(&config, &secrets, topics) };
        let metrics = Arc::clone(&setup.metrics);
        let (publisher, _) = Publisher::start(setup).await.unwrap();
        let mut line = Self { proxy, broker, config, metrics, publisher, first_end: 0 };
        line.submit("evt_1-1");
        line.stands().await;
        line.first_end = line.end();
        line
    }

    fn submit(&mut self, id: &str) {
        self.publisher.submit(batch(&self.config, [id.to_owned()], b"{}"), false);
    }

    async fn stands(&mut self) {
        let waited = tokio::time::timeout(Duration::from_secs(120), self.publisher.verdict()).await;
        let verdict = waited.expect("a verdict in time").1;
        assert!(matches!(verdict, Ok(Verdict::Committed { .. })), "{verdict:?}");
    }

    /// Commits an event, and then a batch with a key of its own for each event, so that it goes to every partition by a request
    /// of its own; waits until the request that is to be late has reached the broker. Gives the ids.
    async fn stand_around_a_twin(&mut self, round: usize) -> Vec<String> {
        let mut ids = vec![format!("evt_{}-2", round + 2)];
        self.submit(&ids[0]);
        self.stands().await;
        let many: Vec<String> = (0..30).map(|n| format!("{}evt_{}-3", "0".repeat(n), round + 2)).collect();
        self.publisher.submit(batch(&self.config, many.clone(), &[b'x'; 2000]), false);
        self.stands().await;
        let proxy = self.proxy.clone();
        tokio::task::spawn_blocking(move || proxy.wait_for_twin()).await.unwrap();
        ids.extend(many);
        ids
    }

    /// New producers that were needed.
    fn rebuilds(&self) -> u64 {
        let text = self.metrics.text().unwrap();
        let row = "pepay_relay_kafka_errors_total{kind=\"rebuild\"} ";
        text.lines().find_map(|line| line.strip_prefix(row)).unwrap().parse().unwrap()
    }

    /// What the orders topic got since the first record, markers and aborted records included.
    fn written(&self) -> i64 {
        self.end() - self.first_end
    }

    fn end(&self) -> i64 {
        settled(self.broker.bootstrap(), &self.config.kafka.topics.orders, self.config.kafka.partitions)
    }
}

/// The sum of the partitions' ends for readers of this isolation: of committed records, where the first open transaction
/// begins.
fn ends(bootstrap: &str, topic: &str, partitions: i32, isolation: &str) -> i64 {
    let mut client = ClientConfig::new();
    let client = client.set("bootstrap.servers", bootstrap).set("isolation.level", isolation);
    let consumer: BaseConsumer = client.create().unwrap();
    let end = |partition| consumer.fetch_watermarks(topic, partition, Duration::from_secs(30)).unwrap().1;
    (0..partitions).map(end).sum()
}

/// The same once no transaction is open: a commit is answered before its markers are written.
fn settled(bootstrap: &str, topic: &str, partitions: i32) -> i64 {
    let began = Instant::now();
    loop {
        let [committed, all] =
            ["read_committed", "read_uncommitted"].map(|isolation| ends(bootstrap, topic, partitions, isolation));
        if committed == all {
            return all;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{topic}: a transaction stays open");
    }
}

/// librdkafka asks again on a new connection, and the coordinator answers that the transaction is committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_lost_with_its_connection_is_asked_for_again() {
    let mut line = Line::new("cut").await;
    line.proxy.set(&[Fault::CutAtAnswer(END_TXN)], None);
    line.submit("evt_2-1");
    line.stands().await;
    assert_eq!(line.written(), 2, "a record and its marker");
    assert_eq!(line.rebuilds(), 1, "a copy of the request may still be under way");
    assert_eq!(ids(&line.config).await, ["evt_1-1", "evt_2-1"]);
}

/// Rounds of the test below; `LATE_END_ROUNDS` asks for more.
const ROUNDS: usize = 8;

/// An end of a transaction that was asked for twice: the first request reaches the broker in the middle of the next
/// transaction, which it would end half way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_end_ends_no_other_transaction() {
    #[expect(clippy::disallowed_methods, reason = "how many rounds is not a setting of the relay")]
    let rounds = std::env::var("LATE_END_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let mut line = Line::new("late").await;
    let mut expected = vec!["evt_1-1".to_owned()];
    for round in 0..rounds {
        line.proxy.set(&[Fault::LateTwin(END_TXN, PRODUCE)], None);
        expected.extend(line.stand_around_a_twin(round).await);
    }
    expected.sort();
    assert_eq!(ids(&line.config).await, expected);
}

/// A new epoch that was asked for twice: the first request reaches the broker in the middle of a transaction of the epoch that
/// the second one got, ends that transaction and fences its producer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_request_for_an_epoch_costs_a_producer_and_no_event() {
    let mut line = Line::new("late-epoch").await;
    let mut expected = vec!["evt_1-1".to_owned()];
    for round in 0..3 {
        let before = line.rebuilds();
        // An end whose answer is lost has the producer replaced: a new epoch is asked for.
        line.proxy.set(&[Fault::CutAtAnswer(END_TXN), Fault::LateTwin(INIT_PRODUCER_ID, PRODUCE)], None);
        expected.extend(line.stand_around_a_twin(round).await);
        let next = format!("evt_{}-4", round + 2);
        line.submit(&next);
        line.stands().await;
        assert!(line.rebuilds() > before, "a new epoch was asked for");
        expected.push(next);
    }
    expected.sort();
    assert_eq!(ids(&line.config).await, expected);
}

/// The commit takes effect and every answer about it is lost: the newest checkpoint shows it, and nothing is sent
/// again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_was_lost_is_not_sent_again() {
    let mut line = Line::new("stood").await;
    line.proxy.set(&[Fault::LoseAnswers(END_TXN)], Some(INIT_PRODUCER_ID));
    line.submit("evt_2-1");
    line.stands().await;
    assert_eq!((line.rebuilds(), line.written()), (1, 2), "a record and its marker");
    line.submit("evt_3-1");
    line.stands().await;
    assert_eq!(ids(&line.config).await, ["evt_1-1", "evt_2-1", "evt_3-1"]);
}

/// The commit never reached the broker: the newest checkpoint shows it, and the batch is sent again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_never_arrived_is_sent_again() {
    let mut line = Line::new("lost").await;
    line.proxy.set(&[Fault::LoseRequests(END_TXN)], Some(INIT_PRODUCER_ID));
    line.submit("evt_2-1");
    line.stands().await;
    assert_eq!((line.rebuilds(), line.written()), (1, 4), "the same before it, aborted, with its marker");
    assert_eq!(ids(&line.config).await, ["evt_1-1", "evt_2-1"]);
}

/// The coordinator gives a slow transaction up and then answers as if another relay had taken over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_timed_out_is_not_taken_for_a_second_relay() {
    let mut line = Line::new("slow").await;
    // The commit is asked for late in the transaction's life, and reaches the coordinator when that is over; the relay
    // itself has not given it up by then.
    let control = line.config.kafka.topics.control.clone();
    let before = settled(line.broker.bootstrap(), &control, 1);
    line.proxy.set(&[Fault::DelayAnswers(PRODUCE, TRANSACTION * 5 / 8), Fault::HoldRequests(END_TXN)], None);
    line.submit("evt_2-1");
    let proxy = line.proxy.clone();
    let bootstrap = line.broker.bootstrap().to_owned();
    tokio::task::spawn_blocking(move || {
        proxy.wait_for(END_TXN);
        let began = Instant::now();
        while ends(&bootstrap, &control, 1, "read_committed") == before {
            assert!(began.elapsed() < Duration::from_secs(30), "it is given up");
        }
        proxy.clear();
    })
    .await
    .unwrap();
    line.stands().await;
    assert!(line.rebuilds() >= 1);
    assert_eq!(ids(&line.config).await, ["evt_1-1", "evt_2-1"]);
}

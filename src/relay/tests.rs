#![allow(clippy::unwrap_used, reason = "a test may stop")]
use super::planner::{Planner, Settings};
use super::turn::GATHER_MAX;
use super::*;
use crate::config::Config;
use crate::kafka::publisher::Desk;
use crate::labels::{Leg, Topic};
use crate::legs::Intake;
use crate::provider::Environment;
use crate::relay::progress::Known;
use bytes::Bytes;
use futures::FutureExt;
use tokio::sync::oneshot;
use tokio::time::advance;

const DAY: Duration = Duration::from_secs(86_400);

/// A loop that runs while the test sleeps; its producer is the test.
struct Bench {
    intake: Intake,
    desk: Desk,
    sent: usize,
}

/// As [`Relay::run`], but in the runtime of the test: its pause is a look at the other tasks.
async fn run(relay: Relay) {
    let mut running = Running::new(relay);
    while let Some(wait) = running.decide() {
        if wait.pause {
            yield_now().await;
        }
        if running.wait(wait, &CancellationToken::new()).await.is_break() {
            break;
        }
    }
}

impl Bench {
    /// With `count` deliveries of `bytes` bytes queued before its first turn.
    fn begin(count: usize, bytes: usize) -> Self {
        let config = Config::minimal(Environment::Devnet, "localhost:1");
        let health = Arc::<Health>::default();
        let metrics = Arc::new(Metrics::new("test"));
        let board = Arc::new(Board::new(&config, Arc::clone(&health), Arc::clone(&metrics)));
        let settings = Settings::in_tests("test");
        let window = Window::new(DAY, 10_000, [1, 2]);
        let planner = Planner::new(settings, window, Versions::new(DAY, 10_000, [3, 4]), vec![Known::default()]);
        let (intake, receiver) = Intake::new(config.intake.bytes_max);
        let (publisher, desk) = Publisher::scripted();
        let relay = Relay {
            shard: 0,
            pipeline: Pipeline::new(planner),
            publisher,
            intake: receiver,
            clock: Arc::default(),
            metrics,
            health,
            board,
            accounts: Vec::new(),
            lines: Lines::default(),
            close_deadline: Duration::ZERO,
        };
        let mut bench = Self { intake, desk, sent: 0 };
        bench.deliver(count, bytes);
        tokio::spawn(run(relay));
        bench
    }

    /// Deliveries that nobody can read, each unlike the others: one record each, of their bytes.
    fn deliver(&mut self, count: usize, bytes: usize) {
        for _ in 0..count {
            self.sent += 1;
            let body = Bytes::from(format!("{}{}", self.sent, " no event".repeat(bytes / 9)));
            self.intake.offer(Leg::Websocket, body, 0).now_or_never().unwrap().unwrap();
        }
    }

    /// Webhooks, which are answered when their batch is committed.
    fn webhooks(&mut self, count: usize) {
        for _ in 0..count {
            self.sent += 1;
            let body = Bytes::from(format!("{} no event", self.sent));
            self.intake.try_offer(body, 0, oneshot::channel().0).unwrap();
        }
    }

    /// The next batch, waited for: how many deliveries are in it. Its verdict is still to be given.
    async fn next(&self) -> (Batch, usize) {
        loop {
            if let Ok((batch, _)) = self.desk.jobs.try_recv() {
                let count = batch.records().filter(|record| record.topic() != Topic::Control).count();
                return (batch, count);
            }
            yield_now().await;
        }
    }

    async fn stands(&self, batch: Batch) {
        self.desk.verdicts.send((batch, Ok(Verdict::Committed { at_ms: 1 }))).await.unwrap();
    }

    /// The same after the time that a commit takes, and what the loop does then.
    async fn stands_after(&self, batch: Batch, took: Duration) {
        advance(took).await;
        self.stands(batch).await;
        self.turns().await;
    }

    /// Lets the loop take what is there.
    async fn turns(&self) {
        for _ in 0..20 {
            yield_now().await;
        }
    }
}

#[tokio::test]
async fn what_a_full_batch_leaves_over_goes_with_what_arrives_while_it_commits() {
    // Of 256 that are received at once, some do not fit the bytes of the first batch.
    let mut relay = Bench::begin(TURN_DELIVERIES_MAX, pipeline::BATCH_BYTES_MAX / 240);
    let (batch, first) = relay.next().await;
    assert!((200..TURN_DELIVERIES_MAX).contains(&first), "{first}");
    relay.deliver(40, 100);
    relay.turns().await;
    relay.stands(batch).await;
    let (_, second) = relay.next().await;
    assert_eq!(first + second, TURN_DELIVERIES_MAX + 40);
}

#[tokio::test]
async fn a_batch_goes_before_all_that_is_queued_is_planned() {
    let relay = Bench::begin(3 * TURN_DELIVERIES_MAX, 100);
    assert_eq!(relay.next().await.1, TURN_DELIVERIES_MAX);
}

#[tokio::test(start_paused = true)]
async fn after_webhooks_were_answered_the_next_batch_waits_for_as_many_but_not_for_long() {
    let took = Duration::from_millis(10);
    let mut relay = Bench::begin(0, 0);
    relay.webhooks(3);
    let (batch, first) = relay.next().await;
    assert_eq!(first, 3);
    relay.stands_after(batch, took).await;
    relay.webhooks(2);
    relay.turns().await;
    assert!(relay.desk.jobs.try_recv().is_err(), "a third is waited for");
    relay.webhooks(1);
    let (batch, second) = relay.next().await;
    assert_eq!(second, 3);
    relay.stands_after(batch, took).await;
    relay.webhooks(1);
    relay.turns().await;
    assert!(relay.desk.jobs.try_recv().is_err(), "others are waited for");
    advance(GATHER_MAX).await;
    assert_eq!(relay.next().await.1, 1, "in vain");
}

#![allow(clippy::unwrap_used, reason = "a test may stop")]
use super::planner::{Planner, Settings};
use super::*;
use crate::config::Config;
use crate::kafka::publisher::Desk;
use crate::labels::Leg;
use crate::legs::Intake;
use crate::normalize;
use crate::provider::Environment;
use crate::relay::progress::Progress;
use bytes::Bytes;
use futures::FutureExt;
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::advance;

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test(start_paused = true)]
async fn who_was_answered_is_waited_for_a_part_of_the_commits_time_and_never_long() {
    let wait = |answered, took_ms| {
        let gather = Gather::after(answered, Duration::from_millis(took_ms));
        gather.map(|gather| (gather.wanted, gather.until - Instant::now()))
    };
    assert_eq!(wait(0, 8), None, "the socket sends without being answered");
    assert_eq!(wait(64, 8), Some((64, Duration::from_millis(4))));
    assert_eq!(wait(64, 60_000), Some((64, GATHER_MAX)));
    let began = Instant::now();
    gathered(Gather::after(1, Duration::from_millis(8))).await;
    assert_eq!(began.elapsed(), Duration::from_millis(4));
}

/// A loop that runs while the test sleeps; its producer is the test.
struct Running {
    intake: Intake,
    desk: Desk,
    sent: usize,
}

impl Running {
    /// With so many deliveries of so many bytes queued before its first turn.
    fn begin(count: usize, bytes: usize) -> Self {
        let config = Config::minimal(Environment::Devnet, "localhost:1");
        let (health, metrics) = (Arc::<Health>::default(), Arc::new(Metrics::new("test")));
        let board = Arc::new(Board::new(&config, Arc::clone(&health), Arc::clone(&metrics)));
        let normalize = normalize::Settings { environment: Environment::Devnet, drop: Vec::new(), include_raw: false };
        let settings = Settings { instance: "test".into(), normalize, orders_latest: true, invoices: true };
        let window = Window::new(DAY, 10_000, [1, 2]);
        let core = Planner::new(settings, window, Versions::new(DAY, 10_000, [3, 4]), Progress::default());
        let (intake, receiver) = Intake::new(config.intake.bytes_max);
        let (publisher, desk) = Publisher::scripted();
        let relay = Relay {
            pipeline: Pipeline::new(core),
            publisher,
            intake: receiver,
            clock: Arc::default(),
            metrics,
            health,
            board,
            position: watch::channel(Position::default()).0,
            close_deadline: Duration::ZERO,
        };
        let mut running = Self { intake, desk, sent: 0 };
        running.deliver(count, bytes);
        tokio::spawn(relay.run(CancellationToken::new()));
        running
    }

    /// Deliveries that nobody can read, each unlike the others: one record each, of their bytes.
    fn deliver(&mut self, count: usize, bytes: usize) {
        for _ in 0..count {
            self.sent += 1;
            let body = Bytes::from(format!("{}{}", self.sent, " no event".repeat(bytes / 9)));
            self.intake.offer(Leg::Websocket, body, 0).now_or_never().unwrap().unwrap();
        }
    }

    /// Webhooks, which are answered when their batch stands.
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
                let count = batch.len();
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
    let mut relay = Running::begin(TURN_DELIVERIES_MAX, pipeline::BATCH_BYTES_MAX / 240);
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
    let relay = Running::begin(3 * TURN_DELIVERIES_MAX, 100);
    assert_eq!(relay.next().await.1, TURN_DELIVERIES_MAX);
}

#[tokio::test(start_paused = true)]
async fn after_webhooks_were_answered_the_next_batch_waits_for_as_many_but_not_for_long() {
    let took = Duration::from_millis(10);
    let mut relay = Running::begin(0, 0);
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

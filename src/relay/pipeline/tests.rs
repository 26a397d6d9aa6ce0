#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop")]
use super::*;
use crate::kafka::{Record, Refusal, Shape};
use crate::labels::{Leg, Outcome, Topic};
use crate::legs::{Arrival, Intake, IntakeReceiver, Note};
use crate::relay::journal::{self, Entry};
use crate::relay::planner::Settings;
use crate::relay::progress::Known;
use crate::relay::{Version, Versions, Window};
use bytes::Bytes;
use futures::FutureExt;
use proptest::prelude::*;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);
const NOW_MS: i64 = 1_768_480_000_000;
const NOW: Now = Now { ms: NOW_MS, provider_ms: NOW_MS, own_ms: NOW_MS };

/// A pipeline, Kafka as a list of committed batches, and what was reported.
struct Bench {
    pipeline: Pipeline,
    intake: Intake,
    receiver: IntakeReceiver,
    /// `topic key id` of each committed record.
    committed: Vec<(Topic, String, String)>,
    told: Vec<(String, Outcome)>,
    /// Largest delivery that this Kafka takes, by bytes of its record.
    record_bytes_max: usize,
}

fn event(id: &str, order: &str) -> String {
    format!(
        r#"{{"id":"{id}","object":"event","type":"commerce.order.updated","created":1768472100,"data":{{"object":{{"object":"commerce_order","id":"{order}","status":"placed"}}}}}}"#
    )
}

fn note(told: &mut Vec<(String, Outcome)>, what: Settled<'_>) {
    if let Settled::Delivery(_, fate, _) = what {
        told.push((String::from_utf8_lossy(&fate.event_id).into_owned(), fate.outcome));
    }
}

impl Bench {
    fn new() -> Self {
        let settings = Settings::in_tests("test");
        let window = Window::new(DAY, 100_000, [1, 2]);
        let planner = Planner::new(settings, window, Versions::new(DAY, 100_000, [1, 2]), vec![Known::default()]);
        let (intake, receiver) = Intake::new(64 << 20);
        Self {
            pipeline: Pipeline::new(planner),
            intake,
            receiver,
            committed: Vec::new(),
            told: Vec::new(),
            record_bytes_max: usize::MAX,
        }
    }

    fn arrive(&mut self, leg: Leg, body: impl Into<Bytes>) {
        self.intake.offer(leg, body.into(), NOW.ms).now_or_never().unwrap().unwrap();
        self.take();
    }

    /// A webhook comes by the inbox, where it is before `next`.
    fn queued(&mut self, body: impl Into<Bytes>, next: i64) {
        self.intake.offer_from_inbox(body.into(), NOW.ms, None, next).now_or_never().unwrap().unwrap();
        self.take();
    }

    fn take(&mut self) {
        let mut arrived = Vec::new();
        self.receiver.drain(&mut arrived);
        for delivery in arrived {
            let Arrival::Delivery(delivery) = delivery else { continue };
            let item = Item::Delivery(delivery, None);
            self.pipeline.add(item, NOW, &mut |told| note(&mut self.told, told));
        }
    }

    /// Sends the next batch, if there is one.
    fn send(&mut self) -> Option<Batch> {
        self.pipeline.next(NOW, &mut |told| note(&mut self.told, told))
    }

    /// Kafka takes the batch or refuses it.
    fn verdict(&mut self, batch: Batch) {
        let size = |record: Record<'_>| record.key().len() + record.value().map_or(0, <[u8]>::len);
        if batch.records().any(|record| size(record) > self.record_bytes_max) {
            return self.pipeline.refused(batch, Refusal::Size, "Broker: Message size too large").unwrap();
        }
        for record in batch.records() {
            let id = record.headers().find(|(name, _)| *name == "ce_id").map_or(&b"-"[..], |(_, id)| id);
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            self.committed.push((record.topic(), text(record.key()), text(id)));
        }
        self.pipeline.committed(batch, NOW.ms, &mut |told| note(&mut self.told, told));
    }

    fn settle_all(&mut self) {
        while let Some(batch) = self.send() {
            self.verdict(batch);
        }
        assert_eq!(self.pipeline.inside(), 0);
    }

    fn ids(&self, topic: Topic) -> Vec<&str> {
        self.committed.iter().filter(|(of, ..)| *of == topic).map(|(.., id)| id.as_str()).collect()
    }
}

#[test]
fn a_copy_in_the_same_and_in_the_next_batch_follows_the_first() {
    let mut bench = Bench::new();
    bench.arrive(Leg::Websocket, event("evt_1-0", "a"));
    bench.arrive(Leg::Webhook, event("evt_1-0", "a"));
    let batch = bench.send().unwrap();
    bench.arrive(Leg::Backfill, event("evt_1-0", "a"));
    assert_eq!(bench.told, []);
    bench.verdict(batch);
    bench.settle_all();
    assert_eq!(bench.ids(Topic::Orders), ["evt_1-0"]);
    let outcomes: Vec<_> = bench.told.iter().map(|(_, outcome)| *outcome).collect();
    assert_eq!(outcomes, [Outcome::Published, Outcome::Duplicate, Outcome::Duplicate]);
    assert_eq!(bench.told.len(), 3);
}

#[test]
fn a_refused_batch_loses_only_the_record_at_fault() {
    let mut bench = Bench::new();
    bench.record_bytes_max = 4_000;
    for index in 0..1000 {
        let order = if index == 617 { "x".repeat(250) } else { format!("order-{index}") };
        let padding = if index == 617 { "y".repeat(4_000) } else { String::new() };
        bench.arrive(Leg::Websocket, event(&format!("evt_{index}-0"), &order).replace("placed", &padding));
    }
    let first = bench.send().unwrap();
    bench.arrive(Leg::Websocket, event("evt_1001-0", "later"));
    bench.verdict(first);
    bench.settle_all();
    assert_eq!(bench.ids(Topic::Orders).len(), 1000);
    assert_eq!(bench.committed.iter().filter(|(topic, ..)| *topic == Topic::DeadLetter).count(), 1);
    assert_eq!(bench.committed.iter().find(|(topic, ..)| *topic == Topic::DeadLetter).unwrap().1, "evt_617-0");
    assert_eq!(bench.told.len(), 1001);
    assert_eq!(bench.ids(Topic::Orders).last(), Some(&"evt_1001-0"));
}

#[test]
fn a_dead_letter_that_is_refused_too_ends_the_relay_with_a_reason() {
    let mut bench = Bench::new();
    bench.arrive(Leg::Websocket, event("evt_1-0", "a"));
    let batch = bench.send().unwrap();
    bench.pipeline.refused(batch, Refusal::Size, "too large").unwrap();
    let batch = bench.send().unwrap();
    assert_eq!(batch.records().next().unwrap().topic(), Topic::DeadLetter);
    assert!(bench.pipeline.refused(batch, Refusal::Size, "too large").is_err());
}

#[test]
fn what_is_abandoned_comes_back_in_order_and_can_be_claimed_again() {
    let mut bench = Bench::new();
    bench.arrive(Leg::Websocket, event("evt_1-0", "a"));
    let _with_kafka = bench.send().unwrap();
    bench.arrive(Leg::Websocket, event("evt_2-0", "a"));
    let left = bench.pipeline.abandon();
    assert_eq!(left.len(), 2);
    assert!(left[0].bytes.starts_with(br#"{"id":"evt_1-0""#));
    assert!(bench.pipeline.window().is_empty());
}

#[test]
fn a_checkpoint_of_its_own_leaves_only_while_nothing_is_planned() {
    let mut bench = Bench::new();
    bench.arrive(Leg::Websocket, event("evt_0-0", "a"));
    bench.arrive(Leg::Websocket, event("evt_1-0", "a"));
    assert!(bench.pipeline.checkpoint().is_none(), "its marks would hold what is planned");
    let batch = bench.pipeline.next(NOW, &mut |_| ()).unwrap();
    assert_eq!(cursor(&batch).as_deref(), Some("evt_1-0"));
    assert!(bench.pipeline.checkpoint().is_none(), "a batch is with Kafka");
    bench.pipeline.refused(batch, Refusal::Size, "too large").unwrap();
    assert!(bench.pipeline.checkpoint().is_none(), "what was refused waits to be planned again");
    bench.settle_all();
    let batch = bench.pipeline.checkpoint().unwrap();
    assert_eq!((batch.len(), cursor(&batch)), (0, None), "these marks are committed already");
    bench.arrive(Leg::Websocket, event("evt_2-0", "a"));
    assert!(bench.send().is_none(), "the checkpoint is with Kafka");
    assert_eq!(bench.pipeline.load(), Load { room: BATCH_DELIVERIES_MAX - 1, planned: 1, sent: true });
    bench.pipeline.committed(batch, NOW.ms, &mut |_| ());
    bench.settle_all();
    assert_eq!(bench.ids(Topic::Orders), ["evt_0-0", "evt_1-0", "evt_2-0"]);
}

/// The cursor in the marks of a batch, where it has any.
fn cursor(batch: &Batch) -> Option<String> {
    let marks = batch.records().find(|record| record.key() == b"test/marks/test")?;
    let value: serde_json::Value = serde_json::from_slice(marks.value()?).ok()?;
    value["cursor"].as_str().map(str::to_owned)
}

#[test]
fn a_batch_names_its_events_in_its_journal() {
    let mut bench = Bench::new();
    for (id, order) in [("evt_2-0", "a"), ("evt_1-0", "a"), ("evt_2-0", "a")] {
        bench.arrive(Leg::Websocket, event(id, order));
    }
    bench.arrive(Leg::Websocket, "no JSON");
    let batch = bench.send().unwrap();
    let mut named = Vec::new();
    for record in batch.records().filter(|record| record.key() == b"test/journal") {
        let each = |entry: Entry<'_>| {
            let id = String::from_utf8_lossy(entry.id).chars().take(7).collect::<String>();
            named.push((entry.topic, id, entry.key.to_vec(), entry.version));
        };
        journal::read(record.value().unwrap(), each).unwrap();
    }
    let version = Some(Version { ms: 2, seq: 0 });
    let expected = [
        (Topic::Orders, "evt_2-0".to_owned(), b"a".to_vec(), version),
        (Topic::Orders, "evt_1-0".to_owned(), b"a".to_vec(), None),
        (Topic::DeadLetter, "sha256:".to_owned(), Vec::new(), None),
    ];
    assert_eq!((named.as_slice(), batch.journal()), (expected.as_slice(), 3));
}

/// A thin line: what does not pass in time is halved, and the next batches are smaller until they pass again and again.
#[test]
fn a_batch_that_was_too_slow_is_halved_and_the_bound_grows_again() {
    let mut bench = Bench::new();
    (0..100).for_each(|number| bench.arrive(Leg::Websocket, event(&format!("evt_{number}-0"), "a")));
    let batch = bench.send().unwrap();
    bench.pipeline.refused(batch, Refusal::Slow, "timed out").unwrap();
    let half = bench.send().unwrap();
    assert_eq!(half.records().filter(|record| record.topic() == Topic::Orders).count(), 50);
    bench.verdict(half);
    bench.settle_all();
    let room = bench.pipeline.room();
    assert!((51..100).contains(&room), "{room}");
    for number in 100..400 {
        bench.arrive(Leg::Websocket, event(&format!("evt_{number}-0"), "a"));
        bench.settle_all();
    }
    assert_eq!(bench.pipeline.room(), BATCH_DELIVERIES_MAX);
    assert_eq!(bench.ids(Topic::Orders).len(), 400);
    assert!(bench.ids(Topic::DeadLetter).is_empty());
}

#[test]
fn a_single_record_that_kafka_calls_invalid_keeps_its_bytes_where_they_fit() {
    let dead_letter = |bench: &mut Bench, refusals: &[Refusal]| {
        bench.arrive(Leg::Websocket, event("evt_1-0", "a"));
        for refusal in refusals {
            let batch = bench.send().unwrap();
            assert_eq!(batch.shape(), Shape::Single);
            bench.pipeline.refused(batch, *refusal, "refused").unwrap();
        }
        let batch = bench.send().unwrap();
        let record = batch.records().find(|record| record.topic() == Topic::DeadLetter).unwrap();
        let reason = record.headers().find(|(name, _)| *name == "relay_reason").unwrap().1.to_vec();
        (String::from_utf8(reason).unwrap(), record.value().unwrap() == event("evt_1-0", "a").as_bytes())
    };
    for (refusals, reason, bytes) in [
        (&[Refusal::Invalid][..], "invalid_record", true),
        (&[Refusal::Size], "too_large", false),
        (&[Refusal::Invalid, Refusal::Size], "invalid_record", false),
        (&[Refusal::Invalid, Refusal::Invalid], "invalid_record", false),
    ] {
        assert_eq!(dead_letter(&mut Bench::new(), refusals), (reason.to_owned(), bytes), "{refusals:?}");
    }
}

/// What a refused batch took from the inbox waits again; what a checkpoint recorded before stays taken.
#[test]
fn a_refused_batch_gives_back_to_the_inbox_what_is_not_committed() {
    let mut bench = Bench::new();
    bench.queued(event("evt_1-0", "a"), 1);
    bench.settle_all();
    bench.queued(event("evt_1-0", "a"), 2);
    let checkpoint = bench.pipeline.checkpoint().unwrap();
    assert_eq!(checkpoint.inbox(), Some(2), "a copy has no record");
    bench.verdict(checkpoint);
    bench.queued(event("evt_2-0", "a"), 3);
    bench.queued(event("evt_3-0", "a"), 4);
    let both = bench.send().unwrap();
    assert_eq!(both.inbox(), Some(4));
    bench.pipeline.refused(both, Refusal::Size, "too large").unwrap();
    assert_eq!(bench.pipeline.inbox().next, Some(2));
    let told = std::iter::from_fn(|| {
        let half = bench.send()?;
        let told = half.inbox();
        bench.verdict(half);
        Some(told)
    });
    assert_eq!(told.collect::<Vec<_>>(), [Some(3), Some(4)]);
}

/// What is lost of the inbox counts as taken with the batch that opens its gap, and not before; a topic that was made again
/// begins earlier.
#[test]
fn what_the_inbox_lost_is_taken_with_its_gap() {
    for next in [9, 1] {
        let mut bench = Bench::new();
        bench.queued(event("evt_1-0", "a"), 3);
        bench.queued(event("evt_2-0", "a"), 4);
        let both = bench.send().unwrap();
        let lost = Item::Note(Account::FIRST, Note::InboxLost { next, at_ms: NOW.ms });
        bench.pipeline.add(lost, NOW, &mut |_| ());
        bench.queued(event("evt_3-0", "a"), next + 1);
        bench.pipeline.refused(both, Refusal::Size, "too large").unwrap();
        let taken = std::iter::from_fn(|| {
            let batch = bench.send()?;
            let taken = batch.inbox();
            bench.verdict(batch);
            taken
        });
        assert_eq!(taken.collect::<Vec<_>>(), [3, 4, next + 1]);
        bench.queued(event("evt_4-0", "a"), next + 2);
        let batch = bench.send().unwrap();
        bench.pipeline.refused(batch, Refusal::Invalid, "invalid").unwrap();
        assert_eq!(bench.pipeline.inbox().next, Some(next + 1));
    }
}

#[test]
fn a_refused_checkpoint_takes_nothing_back() {
    let mut bench = Bench::new();
    let batch = bench.pipeline.checkpoint().unwrap();
    assert_eq!(batch.shape(), Shape::Control);
    bench.arrive(Leg::Websocket, event("evt_1-0", "a"));
    bench.pipeline.refused(batch, Refusal::Size, "too large").unwrap();
    assert_eq!(bench.pipeline.load(), Load { room: BATCH_DELIVERIES_MAX - 1, planned: 1, sent: false });
    bench.settle_all();
    assert_eq!(bench.ids(Topic::Orders), ["evt_1-0"]);
}

proptest! {
    /// Whatever is refused and however deliveries fall into batches: each id is committed once, each delivery is
    /// answered once, and what is not stale is in order.
    #[test]
    fn each_event_once(
        arrivals in prop::collection::vec((0..30u64, 0..4u8, any::<bool>(), any::<bool>()), 1..120),
        limit in 150..400usize,
    ) {
        let mut bench = Bench::new();
        bench.record_bytes_max = limit;
        let mut with_kafka = None;
        for (ms, order, large, turn) in &arrivals {
            let padding = "z".repeat(if *large { 300 } else { 1 });
            let body = event(&format!("evt_{ms}-0"), &format!("order-{order}")).replace("placed", &padding);
            if bench.pipeline.room() > 0 {
                bench.arrive(Leg::Websocket, body);
            }
            if *turn {
                match with_kafka.take() {
                    Some(batch) => bench.verdict(batch),
                    None => with_kafka = bench.send(),
                }
            }
        }
        if let Some(batch) = with_kafka {
            bench.verdict(batch);
        }
        bench.settle_all();
        let mut ids: Vec<_> = bench.committed.iter()
            .filter(|(topic, ..)| !matches!(topic, Topic::OrdersLatest | Topic::Control))
            .map(|(topic, key, id)| if *topic == Topic::DeadLetter { key.clone() } else { id.clone() })
            .collect();
        let count = ids.len();
        ids.sort();
        ids.dedup();
        prop_assert_eq!(ids.len(), count);
        let published = bench.told.iter().filter(|(_, outcome)| *outcome != Outcome::Duplicate).count();
        prop_assert_eq!(published, count);
    }
}

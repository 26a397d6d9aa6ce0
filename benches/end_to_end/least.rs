//! The least program that does a relay's work on webhooks without its thought: it takes a request, writes a prepared record
//! in its place, and answers when the transaction stands, with a checkpoint in it.
//!
//! No signature, no decoding, no dedup, no limit, no time-out, no metric: what it does not reach is hardly to be had with
//! hyper and librdkafka, so that it bounds the relay in a closed loop by a measurement. It waits as the relay does, for the
//! broker and for senders that are free again.

use super::base::{Task, batches, settings};
use super::pace::Pace;
use super::process::pause;
use super::reader::requests;
use pepay_relay::kafka::Batch;
use rdkafka::producer::{BaseProducer, Producer};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::task::LocalSet;

/// As the relay's: a part of the last commit's time, as a divisor, and the longest wait.
const GATHER_FRACTION: u32 = 2;
const GATHER_MAX: Duration = Duration::from_millis(8);
/// Half the relay's, so that it loses less time.
const GATHER_PAUSE: Duration = Duration::from_micros(100);

/// Serves until it is killed, or as many requests as the task has events.
pub fn run(task: &Task) {
    let whole = batches(&Task { transaction: usize::MAX, ..task.clone() });
    let mut settings = settings(&task.bootstrap, &task.orders);
    // As the relay, so that what is in flight is what the broker has not got.
    let producer: BaseProducer = settings.set("delivery.report.only.error", "true").create().expect("a producer");
    producer.init_transactions(Duration::from_secs(30)).expect("a coordinator");
    let (inside, arrived) = channel();
    let task = task.clone();
    let writer = std::thread::spawn(move || write(&producer, &task, &whole[0], &arrived));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, requests(Some(inside)));
    writer.join().expect("written");
}

fn write(producer: &BaseProducer, task: &Task, records: &Batch, arrived: &Receiver<oneshot::Sender<()>>) {
    let (mut next, mut pace, mut waiting) = (0, Pace::default(), Vec::new());
    let (mut wanted, mut patience) = (0, Duration::ZERO);
    producer.begin_transaction().expect("a transaction");
    while let Ok(first) = arrived.recv() {
        waiting.push(first);
        let until = Instant::now() + patience;
        waiting.extend(arrived.try_iter());
        while waiting.len() < wanted && Instant::now() < until {
            pause(GATHER_PAUSE);
            waiting.extend(arrived.try_iter());
        }
        let began = Instant::now();
        task.enqueue_checkpoint(producer);
        for index in next..next + waiting.len() {
            task.enqueue(producer, records.get(index).expect("as many records as requests"));
        }
        next += waiting.len();
        let (enqueued, mut wait) = (Instant::now(), pace.begin(waiting.len()));
        while producer.in_flight_count() > 0 {
            pause(wait.pause(enqueued.elapsed()));
            producer.poll(Duration::ZERO);
        }
        pace.over(&wait);
        producer.commit_transaction(Duration::from_secs(60)).expect("committed");
        (wanted, patience) = (waiting.len(), (began.elapsed() / GATHER_FRACTION).min(GATHER_MAX));
        // A peer that went away is not told.
        for answer in waiting.drain(..) {
            let _ = answer.send(());
        }
        producer.begin_transaction().expect("a transaction");
    }
}

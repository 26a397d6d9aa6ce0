//! The least program that does a relay's full work on webhooks: it takes a request, checks its signature, plans its records with
//! the relay's own core, and answers when they are in Kafka, with a checkpoint.
//!
//! No limit, no time-out, no place, no metric, no look at what went wrong, one thread for sockets: where all senders wait for one
//! transaction, what it does not reach is hardly to be had with hyper, this core and librdkafka, so that it bounds the relay by a
//! measurement. It waits as the relay does, for the broker and for senders that are free again, and keeps freed memory as the
//! relay does; but it plans nothing while a transaction commits, which the relay does where there are more senders than one takes.

use super::base::{Task, settings};
use super::planned;
use super::process::pause;
use super::requests::requests;
use pepay_relay::clock::now_ms;
use pepay_relay::heap;
use pepay_relay::kafka::drain_pace::Pace;
use pepay_relay::legs::{Arrival, IntakeReceiver};
use pepay_relay::relay::planner::{Item, Now, Plan, Planner, Settled};
use pepay_relay::relay::turn::{GATHER_FRACTION, GATHER_MAX, GATHER_PAUSE};
use rdkafka::producer::{BaseProducer, Producer};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;

/// Serves until it is killed.
pub fn run(task: &Task) {
    heap::keep_freed();
    let mut settings = settings(&task.bootstrap, &task.orders);
    // As the relay, so that what is in flight is what the broker has not got.
    let producer: BaseProducer = settings.set("delivery.report.only.error", "true").create().expect("a producer");
    producer.init_transactions(Duration::from_secs(30)).expect("a coordinator");
    let (intake, arrived) = planned::intake();
    let [sockets, waits] = [(); 2].map(|()| Builder::new_current_thread().enable_all().build().expect("a runtime"));
    let writer = Writer {
        producer,
        task: task.clone(),
        core: planned::core(0, task.latest.is_some()),
        arrived,
        plan: Plan::default(),
        waits,
    };
    std::thread::spawn(move || writer.write());
    LocalSet::new().block_on(&sockets, requests(Some(intake)));
}

struct Writer {
    producer: BaseProducer,
    task: Task,
    core: Planner,
    arrived: IntakeReceiver,
    plan: Plan,
    /// Where it waits for the next request.
    waits: Runtime,
}

impl Writer {
    fn write(mut self) {
        let mut pace = Pace::default();
        let mut wanted = 0;
        let mut until = Instant::now();
        loop {
            self.producer.begin_transaction().expect("a transaction");
            self.plan = self.core.begin(std::mem::take(&mut self.plan));
            self.first();
            self.others();
            while self.plan.len() < wanted && Instant::now() < until {
                pause(GATHER_PAUSE);
                self.others();
            }
            let began = Instant::now();
            self.task.enqueue_checkpoint(&self.producer);
            self.plan.batch.records().for_each(|record| self.task.enqueue(&self.producer, record));
            let enqueued = Instant::now();
            let mut wait = pace.begin(self.plan.len());
            while self.producer.in_flight_count() > 0 {
                pause(wait.pause(enqueued.elapsed()));
                self.producer.poll(Duration::ZERO);
            }
            pace.over(&wait);
            self.producer.commit_transaction(Duration::from_secs(60)).expect("committed");
            wanted = self.plan.len();
            self.plan = self.core.commit(std::mem::take(&mut self.plan), now_ms(), |told| {
                let Settled::Delivery(delivery, fate, _) = told else { return };
                // A peer that went away gets no answer.
                let _ = delivery.reply.map(|reply| reply.send(fate.outcome));
            });
            until = Instant::now() + (began.elapsed() / GATHER_FRACTION).min(GATHER_MAX);
        }
    }

    /// Waits for a request.
    fn first(&mut self) {
        let mut arrived = Vec::new();
        self.waits.block_on(self.arrived.recv_many(&mut arrived, 1));
        self.add(arrived);
    }

    /// Takes the requests that are there.
    fn others(&mut self) {
        let mut arrived = Vec::new();
        self.arrived.drain(&mut arrived);
        self.add(arrived);
    }

    fn add(&mut self, arrived: Vec<Arrival>) {
        let ms = now_ms();
        let now = Now { ms, provider_ms: ms, own_ms: ms };
        for arrival in arrived {
            let Arrival::Delivery(delivery) = arrival else { continue };
            let known = self.core.add(&mut self.plan, Item::Delivery(delivery, None), now);
            assert!(known.is_none(), "no request is sent twice");
        }
    }
}

//! What is measured: the socket's and the webhooks' throughput, the latency of a quiet hour, and the cost of none.

use super::base::Task;
use super::figures::{BASE, BASE_CHECKPOINT, BASE_POLLING, Figures, LEAST, READER, Report, latencies};
use super::load::{Events, Prepared};
use super::proc::cpu_seconds;
use super::process::{Kind, Relay, Spent, pause};
use super::provider::Provider;
use super::reader::{Reader, Source};
use super::receive::{Receiver, create_topic, now_us};
use super::webhooks;
use serde_json::Value;
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Of a run's events, the share that comes before the clock starts, as a divisor.
pub const WARM_UP: usize = 10;

/// Events of a transaction that only warms Kafka up: small, for as many of them as possible.
const WARM_UP_TRANSACTION: usize = 32;

/// The pace of a quiet hour.
pub const QUIET_EVERY_MS: u64 = 10;

/// Contenders, and how much they have to do.
pub struct Bench {
    pub bootstrap: String,
    /// The broker's process, where it is ours.
    kafka: Option<u32>,
    pub provider: Provider,
    /// Builds of the relay, with their names.
    pub builds: Vec<(&'static str, PathBuf)>,
    pub events: usize,
    pub runs: usize,
    /// Relays and topics made so far: each has names of its own.
    made: Cell<usize>,
}

impl Bench {
    pub fn new((bootstrap, kafka): (&str, Option<u32>), against: Option<PathBuf>, events: usize, runs: usize) -> Self {
        let mut builds = vec![("relay", PathBuf::from(env!("CARGO_BIN_EXE_pepay-relay")))];
        builds.extend(against.map(|path| ("earlier", path)));
        let bootstrap = bootstrap.to_owned();
        let provider = Provider::start();
        let made = Cell::new(0);
        Self { bootstrap, kafka, provider, builds, events, runs, made }
    }

    /// Small transactions until Kafka's virtual machine has compiled their way.
    pub fn warm_up(&self) {
        base(&self.task(false, self.events as u64, WARM_UP_TRANSACTION, 0));
    }

    /// Frames as fast as the relay takes them, a tenth of them repeats.
    pub fn websocket(&self, latest: bool, report: &mut Report) {
        let part = if latest { "websocket, latest" } else { "websocket" };
        let run = |build: &Path| {
            let mut relay = self.start(build, Kind { latest, ..Kind::default() });
            let events = Events::of_now();
            let warm = (self.events / WARM_UP) as u64;
            let all = warm + self.events as u64;
            let [first, then] = [events.frames(0..warm, true), events.frames(warm..all, true)];
            self.provider.play(first.bytes());
            relay.until_published("websocket", warm as usize);
            let before = relay.spent();
            let began = Instant::now();
            self.provider.play(then.bytes());
            relay.until_published("websocket", all as usize);
            let seconds = began.elapsed().as_secs_f64();
            let (mut figures, transaction) = relayed(self.events as f64, seconds, &relay.spent_since(&before));
            figures.push(("peak RSS MiB", relay.peak_mib()));
            figures.push(("RSS MiB afterwards", relay.resident_mib()));
            drop(relay);
            let task = self.task(latest, all, transaction.round() as usize, 0);
            (figures, Task { began_ms: events.began_ms(), ..task })
        };
        let reader = |_| {
            let events = Events::of_now();
            let warm = (self.events / WARM_UP) as u64;
            let [first, then] = [events.frames(0..warm, true), events.frames(warm..warm + self.events as u64, true)];
            let marks = vec![first.len() as u64, (first.len() + then.len()) as u64];
            let mut reader = Reader::start(&Source::Websocket(self.provider.address(), marks));
            reader.next();
            self.provider.play(first.bytes());
            reader.next();
            let cpu = reader.cpu_seconds();
            let began = Instant::now();
            self.provider.play(then.bytes());
            reader.next();
            let seconds = began.elapsed().as_secs_f64();
            read(self.events as f64, seconds, reader.cpu_seconds() - cpu).to_vec()
        };
        self.in_turn(part, report, run, reader, false);
    }

    /// Signed requests on `connections` connections, each of which sends the next one when it has its answer.
    pub fn webhook(&self, connections: usize, report: &mut Report) {
        // More connections are faster: 20 thousand requests at 64, 80 thousand at 1,024, with as many events as by
        // default.
        let count = (self.events as f64 * (connections as f64).sqrt() / 80.0) as u64;
        let run = |build: &Path| {
            let relay = self.start(build, Kind::default());
            let events = Events::of_now();
            let warm = count / WARM_UP as u64;
            let [first, then] = [events.webhooks(0..warm), events.webhooks(warm..warm + count)];
            webhooks::send(relay.webhook(), &first, connections);
            let before = relay.spent();
            let beside = self.beside();
            let began = Instant::now();
            let times = webhooks::send(relay.webhook(), &then, connections);
            let seconds = began.elapsed().as_secs_f64();
            let spent = relay.spent_since(&before);
            let beside = beside.into_iter().zip(self.beside()).map(|((name, from), (_, to))| (name, to - from));
            let (mut figures, transaction) = relayed(count as f64, seconds, &spent);
            figures.extend(latencies(times));
            figures.push(("peak RSS MiB", relay.peak_mib()));
            figures.extend(beside.map(|(name, cpu)| (name, cpu / count as f64 * 1e6)));
            drop(relay);
            let task = self.task(false, warm + count, transaction.round() as usize, 0);
            (figures, Task { began_ms: events.began_ms(), ..task })
        };
        let reader = |task: Option<Task>| {
            let mut reader = Reader::start(&Source::Webhook(task));
            let address = reader.next().parse().expect("an address");
            let events = Events::of_now();
            let warm = count / WARM_UP as u64;
            let [first, then] = [events.webhooks(0..warm), events.webhooks(warm..warm + count)];
            webhooks::send(address, &first, connections);
            let cpu = reader.cpu_seconds();
            let began = Instant::now();
            let times = webhooks::send(address, &then, connections);
            let seconds = began.elapsed().as_secs_f64();
            let mut figures = read(count as f64, seconds, reader.cpu_seconds() - cpu).to_vec();
            figures.extend(latencies(times));
            figures
        };
        self.in_turn(&format!("webhook, {connections}"), report, run, reader, true);
    }

    /// One event every 10 ms: from when it is due at the provider to when a consumer of committed records has it.
    pub fn quiet(&self, report: &mut Report) {
        let count = (self.events / 200).max(100) as u64;
        let warm = count / WARM_UP as u64;
        let part = "quiet";
        for run in 0..=self.runs {
            for (name, build) in &self.builds {
                let mut relay = self.start(build, Kind::default());
                let receiver = Receiver::start(&self.bootstrap, &relay.topic("orders"));
                let frames = Events::of_now().frames(0..warm + count, false);
                let began_us = self.play_quietly(&frames);
                relay.until_published("websocket", frames.len());
                let arrived = receiver.stop().at_us;
                let times = (warm..warm + count).map(|number| late_ms(arrived[&number], began_us, number));
                if run > 0 {
                    report.add(part, name, latencies(times.collect()).to_vec());
                }
            }
            for (name, checkpoint) in [(BASE, false), (BASE_CHECKPOINT, true)] {
                let mut task = self.task(false, warm + count, 1, QUIET_EVERY_MS);
                task.warm_up = warm as usize;
                task.control = checkpoint.then(|| self.topic("control"));
                let receiver = Receiver::start(&self.bootstrap, &task.orders);
                let told = base(&task);
                let arrived = receiver.stop().at_us;
                let began_us = told["began_us"].as_i64().expect("a time");
                let times = (warm..warm + count).map(|number| late_ms(arrived[&number], began_us, number - warm));
                if run > 0 {
                    report.add(part, name, latencies(times.collect()).to_vec());
                }
            }
        }
    }

    /// Plays a frame every 10 ms; when the first one was due, in Unix microseconds.
    pub fn play_quietly(&self, frames: &Prepared) -> i64 {
        let began = Instant::now();
        let began_us = now_us();
        for index in 0..frames.len() {
            let due = Duration::from_millis(index as u64 * QUIET_EVERY_MS);
            pause(due.saturating_sub(began.elapsed()));
            self.provider.play(frames.get(index));
        }
        began_us
    }

    /// Nothing happens: what the relay costs nevertheless.
    pub fn idle(&self, watched: Duration, report: &mut Report) {
        for (name, build) in &self.builds {
            let relay = self.start(build, Kind { latest: true, ..Kind::default() });
            pause(Duration::from_secs(5));
            let cpu = relay.cpu_seconds();
            let began = Instant::now();
            pause(watched);
            let share = 100.0 * (relay.cpu_seconds() - cpu) / began.elapsed().as_secs_f64();
            report.add("idle", name, vec![("% of a core", share), ("RSS MiB", relay.resident_mib())]);
        }
    }

    /// Each build, then the base (bare, with a checkpoint, and polling) and the reader, in turn, the first time without
    /// counting. The base writes what the first build wrote, in transactions of as many. The reader `writes` too if that is
    /// a contender.
    fn in_turn(
        &self,
        part: &str,
        report: &mut Report,
        run: impl Fn(&Path) -> (Figures, Task),
        reader: impl Fn(Option<Task>) -> Figures,
        writes: bool,
    ) {
        for number in 0..=self.runs {
            let mut task = None;
            for (name, build) in &self.builds {
                let (figures, told) = run(build);
                task.get_or_insert(told);
                if number > 0 {
                    report.add(part, name, figures);
                }
            }
            let mut task = task.expect("a build");
            for name in [BASE, BASE_CHECKPOINT, BASE_POLLING] {
                task.control = (name == BASE_CHECKPOINT).then(|| self.topic("control"));
                task.polls = name == BASE_POLLING;
                let figures = written(&base(&task));
                if number > 0 {
                    report.add(part, name, figures);
                }
            }
            let read = reader(None);
            task.control = Some(self.topic("control"));
            let least = writes.then(|| reader(Some(task)));
            if number > 0 {
                report.add(part, READER, read);
                least.into_iter().for_each(|least| report.add(part, LEAST, least));
            }
        }
    }

    /// Processor time so far of those who share the machine with a relay: Kafka, and this process, which is the load.
    fn beside(&self) -> Figures {
        let load = ("the load's CPU s a million", std::process::id());
        let kafka = self.kafka.map(|pid| ("Kafka's CPU s a million", pid));
        kafka.into_iter().chain([load]).map(|(name, pid)| (name, cpu_seconds(pid))).collect()
    }

    pub fn start(&self, build: &Path, kind: Kind) -> Relay {
        Relay::start(build, &self.name(), &self.bootstrap, self.provider.address(), kind)
    }

    fn task(&self, latest: bool, events: u64, transaction: usize, every_ms: u64) -> Task {
        let transaction = transaction.max(1);
        let warm_up = (events as usize / (WARM_UP + 1) / transaction).max(1);
        let (orders, latest) = (self.topic("orders"), latest.then(|| self.topic("orders.latest")));
        let bootstrap = self.bootstrap.clone();
        let began_ms = Events::of_now().began_ms();
        Task {
            bootstrap,
            orders,
            latest,
            control: None,
            polls: false,
            began_ms,
            events,
            transaction,
            every_ms,
            warm_up,
        }
    }

    /// A new topic for the base, or for a peer.
    pub fn topic(&self, kind: &str) -> String {
        let topic = format!("{}.{kind}", self.name());
        create_topic(&self.bootstrap, &topic);
        topic
    }

    fn name(&self) -> String {
        self.made.set(self.made.get() + 1);
        format!("bench-{}-{}", std::process::id(), self.made.get())
    }
}

/// How long after it was due the event of this place in a quiet hour arrived.
pub fn late_ms(at_us: i64, began_us: i64, place: u64) -> f64 {
    (at_us - began_us - (place * QUIET_EVERY_MS * 1000) as i64) as f64 / 1e3
}

fn read(events: f64, seconds: f64, cpu: f64) -> [(&'static str, f64); 2] {
    [("events/s", events / seconds), ("CPU s a million", cpu / events * 1e6)]
}

fn throughput(events: f64, seconds: f64, cpu: f64, transaction: f64) -> Figures {
    read(events, seconds, cpu).into_iter().chain([("a transaction", transaction)]).collect()
}

/// What a relay did, and how many events a transaction had.
fn relayed(events: f64, seconds: f64, spent: &Spent) -> (Figures, f64) {
    let transaction = events / spent.transactions.max(1.0);
    let mut figures = throughput(events, seconds, spent.cpu, transaction);
    figures.push(("page faults an event", spent.page_faults / events));
    (figures, transaction)
}

/// What the base reported of its run.
fn written(told: &Value) -> Figures {
    let figure = |name: &str| told[name].as_f64().expect("a number");
    let cycles: Vec<f64> = serde_json::from_value(told["cycles_ms"].clone()).expect("times");
    let events = figure("events");
    let transactions = cycles.len() as f64;
    let mut figures = throughput(events, figure("seconds"), figure("cpu"), events / transactions);
    figures.extend(latencies(cycles));
    figures
}

/// Runs the base as a process of its own.
fn base(task: &Task) -> Value {
    let task = serde_json::to_string(task).expect("a task");
    let done = Command::new(std::env::current_exe().expect("this program"))
        .args(["--base", &task])
        .stderr(Stdio::inherit())
        .output()
        .expect("this program");
    assert!(done.status.success(), "the base failed");
    serde_json::from_slice(&done.stdout).expect("figures")
}

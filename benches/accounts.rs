//! What an account costs: `cargo bench --bench accounts -- 1 100 1000`.
//!
//! For each number it starts a simulated provider with so many merchants, a real Kafka and the real binary, and prints the
//! time until the relay is ready and until all sockets are up and all gaps are walked, its memory, its processor time while
//! nothing happens, and what an event costs when orders of all accounts live.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "a bench prints, and may fail loudly"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use pepay_relay::config::{Account, AccountSecrets};
use pepay_relay::simulator::{Options, Simulator, Transition};
use std::time::{Duration, Instant};
use support::kafka::Broker;
use support::proc::{stat, status_kib};
use support::process::Process;
use support::relay::Rig;
use support::watch::{eventually, metric};

/// Events that are spread over the accounts.
const EVENTS: usize = 20_000;
/// How long nothing happens.
const IDLE: Duration = Duration::from_secs(10);
/// `sysconf(_SC_CLK_TCK)` on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

#[tokio::main]
async fn main() {
    let counts: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let counts = if counts.is_empty() { vec![1, 100, 1000] } else { counts };
    let broker = Broker::measured();
    println!("accounts  ready    connected  RSS MiB  idle CPU s/min  events/s  CPU s/million");
    for count in counts {
        measure(&broker, count).await;
    }
}

async fn measure(broker: &Broker, count: usize) {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::new(broker.bootstrap(), &format!("scale-{count}")).await;
    rig.config.webhook.enabled = false;
    // As in production: a walk each five minutes, a ping each 20 seconds.
    rig.config.backfill.every = Duration::from_secs(300);
    rig.config.websocket.ping_interval = Duration::from_secs(20);
    rig.config.websocket.idle_timeout = Duration::from_secs(60);
    let mut others = Vec::new();
    rig.secrets.accounts.clear();
    for number in 0..count {
        let name = format!("shop-{number}");
        let key = if number == 0 { rig.simulator.api_key().to_owned() } else { format!("ck_of_{name}_00000000") };
        if number > 0 {
            let options = Options { api_key: key.clone(), seed: number as u64, ..Options::default() };
            others.push(rig.simulator.beside(options).unwrap());
        }
        let file = folder.path().join(&name);
        std::fs::write(&file, &key).unwrap();
        rig.config.accounts.push(Account { api_key_file: Some(file), ..Account::named(&name) });
        rig.secrets.accounts.push(AccountSecrets { name, ..AccountSecrets::sole(key, Vec::new()) });
    }
    let began = Instant::now();
    let relay = Process::ready(&rig).await;
    let ready = began.elapsed();
    let simulators: Vec<&Simulator> = std::iter::once(&*rig.simulator).chain(&others).collect();
    for simulator in &simulators {
        simulator.wait_for_connections(1).await;
    }
    eventually("all walks are done", async || metric(&rig, "leg_connected{leg=\"backfill\"}").await == 1).await;
    let connected = began.elapsed();
    let idle = cpu_s(&relay);
    tokio::time::sleep(IDLE).await;
    let idle = (cpu_s(&relay) - idle) * 60.0 / IDLE.as_secs_f64();
    let rss_mib = status_kib(relay.pid(), "VmRSS") / 1024;
    let cpu = cpu_s(&relay);
    let began = Instant::now();
    let mut issued = 0;
    while issued < EVENTS {
        for simulator in &simulators {
            let order = simulator.create_order().unwrap();
            Transition::LIFE.iter().for_each(|step| simulator.simulate(&order, *step).unwrap());
        }
        issued = simulators.iter().map(|simulator| simulator.events().len()).sum();
        tokio::task::yield_now().await;
    }
    let published = "outcomes_total{leg=\"websocket\",outcome=\"published\"}";
    eventually("all is published", async || metric(&rig, published).await >= issued as u64).await;
    let took = began.elapsed().as_secs_f64();
    let cpu = (cpu_s(&relay) - cpu) * 1e6 / issued as f64;
    println!(
        "{count:8}  {:5.2} s  {:7.2} s  {rss_mib:7}  {idle:14.2}  {:8.0}  {cpu:13.1}",
        ready.as_secs_f64(),
        connected.as_secs_f64(),
        issued as f64 / took
    );
    relay.stop().await;
}

/// Processor time of the process so far.
fn cpu_s(relay: &Process) -> f64 {
    (stat(relay.pid(), 14) + stat(relay.pid(), 15)) as f64 / TICKS_PER_SECOND
}

//! What an account costs on one node: the time until the relay is ready, and until all WebSockets are up and all gaps are walked;
//! memory; processor time while nothing happens; and what an event costs when orders of all accounts live.

use super::stage::{Stage, published};
use super::support::kafka::Broker;
use super::support::proc::{cpu_seconds, status_kib};
use super::support::process::Process;
use super::support::watch::{eventually, metric};
use std::time::{Duration, Instant};

/// How long nothing happens.
const IDLE: Duration = Duration::from_secs(20);

pub async fn measure(broker: &Broker, counts: &[usize], events: usize) {
    println!("accounts  ready    connected  RSS MiB  idle CPU s/min  events/s  CPU s/million");
    for count in counts {
        measure_one(broker, *count, events).await;
    }
}

async fn measure_one(broker: &Broker, count: usize, events: usize) {
    let mut stage = Stage::new(broker, &format!("accounts-{count}"), count).await;
    stage.rig.config.webhook.enabled = false;
    let began = Instant::now();
    let relay = Process::ready(&stage.rig).await;
    let ready = began.elapsed();
    for simulator in stage.simulators() {
        simulator.wait_for_connections(1).await;
    }
    eventually("all walks are done", async || metric(&stage.rig, "leg_connected{leg=\"backfill\"}").await == 1).await;
    let connected = began.elapsed();
    let idle = cpu_seconds(relay.pid());
    tokio::time::sleep(IDLE).await;
    let idle = (cpu_seconds(relay.pid()) - idle) * 60.0 / IDLE.as_secs_f64();
    let rss_mib = status_kib(relay.pid(), "VmRSS") / 1024;
    let cpu = cpu_seconds(relay.pid());
    let began = Instant::now();
    let issued = stage.issue(events).await;
    eventually("all is published", async || published(&stage.rig.config).await >= issued).await;
    let took = began.elapsed().as_secs_f64();
    let cpu = (cpu_seconds(relay.pid()) - cpu) * 1e6 / issued as f64;
    println!(
        "{count:8}  {:5.2} s  {:7.2} s  {rss_mib:7}  {idle:14.2}  {:8.0}  {cpu:13.1}",
        ready.as_secs_f64(),
        connected.as_secs_f64(),
        issued as f64 / took
    );
    relay.stop().await;
}

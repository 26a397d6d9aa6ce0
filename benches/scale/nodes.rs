//! What an event costs on 1, 2 and 3 nodes with 1 and 12 shards, in turn: processor time of all nodes together.

use super::stage::{Stage, published};
use super::support::kafka::Broker;
use super::support::node::Node;
use super::support::proc::cpu_seconds;
use super::support::watch::eventually;
use std::time::Instant;

/// They have more accounts than there are shards: most shards have one.
const ACCOUNTS: usize = 24;
/// Nodes and shards.
const KINDS: [(usize, i32); 6] = [(1, 1), (2, 1), (3, 1), (1, 12), (2, 12), (3, 12)];
/// Before the clock starts there come as many events as this share of the counted ones, as a divisor.
const WARM_UP: usize = 10;

/// What a run gave: events a second, and processor seconds a million events.
type Run = [f64; 2];

pub async fn measure(broker: &Broker, runs: u64, events: usize) {
    let mut all = KINDS.map(|_| Vec::<Run>::new());
    for run in 0..=runs {
        for (kind, runs) in KINDS.into_iter().zip(&mut all) {
            let figures = measure_one(broker, kind, events).await;
            if run > 0 {
                runs.push(figures);
            }
        }
    }
    println!("nodes  shards  events/s, median (least to most)  CPU s/million, median (least to most)");
    for ((nodes, shards), runs) in KINDS.into_iter().zip(all) {
        let [rate, cpu] = [0, 1].map(|figure| spread(runs.iter().map(|run| run[figure]).collect()));
        println!("{nodes:5}  {shards:6}  {rate:>32}  {cpu:>37}");
    }
}

async fn measure_one(broker: &Broker, (count, shards): (usize, i32), events: usize) -> Run {
    let stage = Stage::new(broker, &format!("nodes-{count}-{shards}"), ACCOUNTS).await;
    let nodes = start(&stage, count, shards).await;
    let of_all = async || {
        let mut all = 0;
        for node in &nodes {
            all += published(&node.config).await;
        }
        all
    };
    let warm = stage.issue(events / WARM_UP).await;
    eventually("all is published", async || of_all().await >= warm).await;
    let used = || nodes.iter().map(|node| cpu_seconds(node.process.pid())).sum::<f64>();
    let (began, before) = (Instant::now(), used());
    let issued = stage.issue(events).await;
    eventually("all is published", async || of_all().await >= issued).await;
    let figures =
        [(issued - warm) as f64 / began.elapsed().as_secs_f64(), (used() - before) * 1e6 / (issued - warm) as f64];
    for node in nodes {
        node.process.stop().await;
    }
    figures
}

/// Starts nodes; returns when each shard is served and each merchant has a WebSocket.
pub async fn start(stage: &Stage, count: usize, shards: i32) -> Vec<Node> {
    let nodes: Vec<Node> = (0..count).map(|number| Node::launch(&stage.rig, &format!("n{number}"), shards)).collect();
    served(&nodes, shards).await;
    for simulator in stage.simulators() {
        simulator.wait_for_connections(1).await;
    }
    nodes
}

/// Waits until each shard is served by one of them.
pub async fn served(nodes: &[Node], shards: i32) {
    eventually("every shard is served", async || {
        (0..shards).all(|shard| nodes.iter().filter(|node| node.process.serves(shard)).count() == 1)
    })
    .await;
}

/// The median, and the least and the most.
pub fn spread(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    let (least, most) = (values[0], values[values.len() - 1]);
    format!("{:.1} ({least:.1} to {most:.1})", values[values.len() / 2])
}

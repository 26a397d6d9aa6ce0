//! Nodes that share the shards of one relay: whatever happens to one, another goes on, and no event is lost or published twice.

use super::pressure::live;
use crate::support::kafka::Broker;
use crate::support::ports::free_address;
use crate::support::process::Process;
use crate::support::relay::{Rig, get};
use crate::support::settings::clustered;
use crate::support::watch::eventually;
use pepay_relay::config::Config;
use serde_json::Value;
use std::time::{Duration, Instant};

/// The nodes of one relay, each a process.
struct Nodes {
    rig: Rig,
    nodes: Vec<(Config, Process)>,
}

impl Nodes {
    /// So many nodes that have joined, with so many shards between them; webhooks come to the last one.
    async fn new(test: &str, count: usize, shards: i32) -> Self {
        let rig = Rig::new(Broker::shared().bootstrap(), test).await;
        let mut nodes = Self { rig, nodes: Vec::new() };
        for number in 0..count {
            nodes.start(number, shards).await;
        }
        let Some((last, _)) = nodes.nodes.last() else { return nodes };
        let url = format!("http://{}{}", last.webhook.listen, last.webhook.path);
        nodes.rig.simulator.add_webhook_endpoint(&url).unwrap();
        nodes
    }

    async fn start(&mut self, number: usize, shards: i32) {
        let mut config = clustered(self.rig.config.clone(), &format!("n{number}"), shards);
        config.webhook.listen = free_address();
        config.admin.listen = free_address();
        let process = Process::launch(&config, &self.rig.secrets, None, &[]);
        eventually("the node has joined", async || {
            match body_of(&format!("http://{}/readyz", config.admin.listen)).await {
                Some(body) => body.contains("\"ready\":true"),
                None => false,
            }
        })
        .await;
        self.nodes.push((config, process));
    }

    /// The node that serves the shard, by what that node says itself.
    async fn owner(&self, shard: i32) -> usize {
        let began = Instant::now();
        loop {
            for (number, (config, _)) in self.nodes.iter().enumerate() {
                let lives = body_of(&format!("http://{}/livez", config.admin.listen)).await.is_some();
                if lives && self.serves(number, shard) {
                    return number;
                }
            }
            assert!(began.elapsed() < Duration::from_secs(60), "nobody serves shard {shard}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether the node serves the shard, by what it said last.
    fn serves(&self, number: usize, shard: i32) -> bool {
        let said = self.nodes[number].1.said();
        let of = |message: &str| {
            said.lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .filter(|line| line["message"] == message && line["shard"] == shard)
                .count()
        };
        of("relay ready") > of("shard left") + of("shard let go: another node holds it")
    }

    async fn status(&self, number: usize) -> Value {
        let text = get(&format!("http://{}/status", self.nodes[number].0.admin.listen)).await;
        serde_json::from_str(&text).unwrap()
    }
}

/// What stands at `url`, where anybody answers.
async fn body_of(url: &str) -> Option<String> {
    let response = crate::support::relay::client().get(url).send().await.ok()?;
    #[expect(clippy::disallowed_methods, reason = "the peer is the relay, whose bodies need no bound")]
    response.text().await.ok()
}

/// The owner of the only shard is killed, stopped for longer than its session, and told to leave; each time the other goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_to_the_owner_the_other_node_goes_on() {
    let mut nodes = Nodes::new("pair", 2, 1).await;
    let first = nodes.owner(0).await;
    live(&nodes.rig, 2);
    nodes.rig.until_delivered().await;

    // It leaves in order.
    let load = nodes.rig.load();
    let began = Instant::now();
    let (_, process) = nodes.nodes.remove(first);
    process.stop().await;
    nodes.owner(0).await;
    println!("left in order: served again after {:?}", began.elapsed());
    nodes.start(2, 1).await;

    // It dies.
    let owner = nodes.owner(0).await;
    let began = Instant::now();
    nodes.nodes[owner].1.signal("KILL");
    let (_, mut dead) = nodes.nodes.remove(owner);
    dead.ended().await;
    nodes.owner(0).await;
    println!("killed: served again after {:?}", began.elapsed());

    // It stands still, and comes back to find the shard another's.
    nodes.start(3, 1).await;
    let owner = nodes.owner(0).await;
    let began = Instant::now();
    nodes.nodes[owner].1.signal("STOP");
    let other = 1 - owner;
    eventually("the other claims", async || nodes.serves(other, 0)).await;
    println!("stopped: served again after {:?}", began.elapsed());
    nodes.nodes[owner].1.signal("CONT");
    eventually("it lets go", async || !nodes.serves(owner, 0)).await;
    load.stop().await;
    nodes.rig.until_delivered().await;
    let status = nodes.status(owner).await;
    assert_eq!(status["ready"], true, "{status}");
    eventually("both see the same", async || {
        let (one, other) = (nodes.status(0).await, nodes.status(1).await);
        one["shards"] == other["shards"] && one["nodes"] == other["nodes"] && one["shards"][0]["state"] == "owned"
    })
    .await;
    for (_, process) in nodes.nodes.drain(..) {
        process.stop().await;
    }
    nodes.rig.assert_delivered().await;
}

//! How long a takeover of 100 accounts lasts: of two nodes the one that serves them is killed, and the other opens their
//! WebSockets and walks their gaps.

use super::nodes::{spread, start};
use super::stage::Stage;
use super::support::kafka::Broker;
use super::support::node::Node;
use super::support::relay::get;
use super::support::watch::eventually;
use serde_json::Value;
use std::time::Instant;

const ACCOUNTS: usize = 100;
/// All accounts belong to one node.
const SHARDS: i32 = 1;

pub async fn measure(broker: &Broker, runs: u64) {
    let (mut claimed, mut connected) = (Vec::new(), Vec::new());
    for run in 0..runs {
        let stage = Stage::new(broker, &format!("takeover-{run}"), ACCOUNTS).await;
        let mut nodes = start(&stage, 2, SHARDS).await;
        let owner = nodes.iter().position(|node| node.process.serves(0)).expect("an owner");
        eventually("its legs are up", async || are_up(&nodes[owner]).await).await;
        let mut owner = nodes.remove(owner);
        let began = Instant::now();
        owner.process.signal("KILL");
        owner.process.ended().await;
        eventually("the other one serves", async || nodes[0].process.serves(0)).await;
        claimed.push(began.elapsed().as_secs_f64());
        eventually("its legs are up", async || are_up(&nodes[0]).await).await;
        connected.push(began.elapsed().as_secs_f64());
        nodes.remove(0).process.stop().await;
    }
    println!("takeover of {ACCOUNTS} accounts, s from SIGKILL, median (least to most)");
    println!("shard claimed and read back: {}", spread(claimed));
    println!("every WebSocket up and every gap walked: {}", spread(connected));
}

/// Whether the WebSocket and the walk of each account are.
async fn are_up(node: &Node) -> bool {
    let status: Value =
        serde_json::from_str(&get(&format!("http://{}/status", node.config.admin.listen)).await).unwrap();
    let accounts = status["accounts"].as_array().unwrap();
    let is_up =
        |account: &Value| ["websocket", "backfill"].iter().all(|leg| account["legs"][leg]["state"] == "connected");
    accounts.len() == ACCOUNTS && accounts.iter().all(is_up)
}

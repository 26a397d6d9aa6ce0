//! What is done to a cluster, and how: two nodes that share one shard, and three that share twelve and several accounts, while
//! the provider sends each webhook to every node.

use crate::nodes::Nodes;
use crate::rounds::{Faults, Play, run};
use crate::stage::Stage;
use rand::seq::SliceRandom;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// Accounts of the three nodes. Their shards are different ones, and most shards have none.
const MERCHANTS: [&str; 5] = ["a", "b", "c", "d", "e"];
/// How long Kafka is away.
const AWAY: Duration = Duration::from_secs(30);
/// Longer than a session, which lasts 6 s.
const STILL_MS: [u64; 2] = [6_500, 9_000];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL of the node that serves some shard; it is started again before the group has missed it, or after its shards are
    /// served.
    KillOwner,
    /// SIGSTOP of it for longer than its session lasts: until its shards are served, or about when they are claimed.
    FreezeOwner,
    /// SIGKILL of it, and SIGSTOP of a node that is given its shards, about when it claims them.
    FreezeBetween,
    /// SIGKILL of all nodes, which are started again within a second.
    KillAllNodes,
    /// SIGTERM of the node that serves some shard.
    TermOwner,
    /// SIGTERM of one node after the other, each started again before the next: with the same build, unless `CHAOS_OLDER` names
    /// an older one.
    RollingUpgrade,
    /// Kafka is stopped, and started 30 s later; recovery is counted from there.
    BrokerAway30s,
}

impl Faults for Fault {
    const ALL: &'static [Self] = &[
        Self::KillOwner,
        Self::FreezeOwner,
        Self::FreezeBetween,
        Self::KillAllNodes,
        Self::TermOwner,
        Self::RollingUpgrade,
        Self::BrokerAway30s,
    ];
}

impl Fault {
    /// Does it. What then does not run is started once everything is committed without it.
    pub async fn strike(self, stage: &mut Stage<Nodes>) {
        match self {
            Self::KillOwner => {
                let owner = stage.owner();
                stage.kill(owner).await;
                if stage.at_times() {
                    stage.some_time(0, 4_000).await;
                    stage.set_going(owner);
                }
            }
            Self::FreezeOwner => {
                let owner = stage.owner();
                stage.freeze(owner);
                if stage.at_times() {
                    let [from, to] = STILL_MS;
                    stage.some_time(from, to).await;
                    stage.set_going(owner);
                }
            }
            Self::FreezeBetween => freeze_between(stage).await,
            Self::KillAllNodes => {
                let nodes = stage.relay.all.len();
                for place in 0..nodes {
                    stage.kill(place).await;
                }
                for place in 0..nodes {
                    stage.some_time(0, 1_000 / nodes as u64).await;
                    stage.set_going(place);
                }
            }
            Self::TermOwner => {
                let owner = stage.owner();
                stage.term(owner).await;
            }
            Self::RollingUpgrade => upgrade(stage).await,
            Self::BrokerAway30s => {
                tokio::task::block_in_place(|| stage.broker.stop());
                sleep_until(stage.relay.struck + AWAY).await;
                tokio::task::block_in_place(|| stage.broker.restart());
                stage.relay.struck = Instant::now();
            }
        }
    }
}

/// Recovery is counted from when the second one is frozen. The first one is back soon after that: of two nodes it is
/// the one that takes over.
async fn freeze_between(stage: &mut Stage<Nodes>) {
    let owner = stage.owner();
    stage.kill(owner).await;
    let mut others: Vec<usize> = (0..stage.relay.all.len()).filter(|place| *place != owner).collect();
    others.shuffle(&mut stage.chance);
    let successor = others[0];
    let process = &mut stage.relay.all[successor].process;
    process.another("shards assigned").await;
    stage.some_time(0, 400).await;
    stage.freeze(successor);
    stage.relay.struck = Instant::now();
    stage.some_time(0, 2_000).await;
    stage.set_going(owner);
}

/// The last one that was stopped is left to be started again, as after any fault.
async fn upgrade(stage: &mut Stage<Nodes>) {
    let mut places: Vec<usize> = (0..stage.relay.all.len()).collect();
    places.shuffle(&mut stage.chance);
    let mut longest = Duration::ZERO;
    for (number, place) in places.into_iter().enumerate() {
        if number > 0 {
            let recovery = stage.recovered().await.unwrap_or_else(|why| panic!("{why}"));
            longest = longest.max(recovery);
        }
        stage.relay.struck = Instant::now();
        stage.term(place).await;
    }
    stage.relay.longest = longest;
}

/// One cluster at a time: it is a Kafka and several processes, and the relay alone is struck alongside.
static CLUSTER: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_with_one_shard_lose_and_repeat_nothing() {
    let _alone = CLUSTER.lock().await;
    run("pair", async |seed, dir| Stage::cluster((seed, dir), 2, 1, &[]).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_with_twelve_shards_lose_and_repeat_nothing() {
    let _alone = CLUSTER.lock().await;
    run("trio", async |seed, dir| Stage::cluster((seed, dir), 3, 12, &MERCHANTS).await).await;
}

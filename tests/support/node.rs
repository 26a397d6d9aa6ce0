//! Processes of one cluster.

use super::ports::free_address;
use super::process::Process;
use super::relay::{Rig, client, get};
use super::settings::clustered;
use super::watch::eventually;
use pepay_relay::config::Config;
use serde_json::Value;

/// A process of a cluster.
pub struct Node {
    pub config: Config,
    pub process: Process,
}

impl Node {
    /// One that starts where nobody else listens.
    pub fn launch(rig: &Rig, name: &str, shards: i32) -> Self {
        let mut config = clustered(rig.config.clone(), name, shards);
        config.webhook.listen = free_address();
        config.admin.listen = free_address();
        Self { process: Process::launch(&config, &rig.secrets, None, &[]), config }
    }

    /// One that has joined; `config` sets where it listens.
    pub async fn join(rig: &Rig, config: &Config, name: &str, shards: i32) -> Self {
        let config = clustered(config.clone(), name, shards);
        let process = Process::launch(&config, &rig.secrets, None, &[]);
        Self { config, process }.joined().await
    }

    /// The same, where nobody else listens.
    pub async fn alongside(rig: &Rig, name: &str, shards: i32) -> Self {
        Self::launch(rig, name, shards).joined().await
    }

    async fn joined(self) -> Self {
        let mut node = self;
        node.process.line("shards assigned").await;
        eventually("the node has joined", async || node.says("readyz").await.is_some_and(|said| said["ready"] == true))
            .await;
        node
    }

    pub fn webhook_url(&self) -> String {
        format!("http://{}{}", self.config.webhook.listen, self.config.webhook.path)
    }

    /// What the admin listener answers there, where it answers.
    #[expect(clippy::disallowed_methods, reason = "the peer is the relay, whose bodies need no bound")]
    pub async fn says(&self, path: &str) -> Option<Value> {
        let url = format!("http://{}/{path}", self.config.admin.listen);
        let answer = client().get(url).send().await.ok()?;
        answer.json().await.ok()
    }

    pub async fn status(&self) -> Value {
        let text = get(&format!("http://{}/status", self.config.admin.listen)).await;
        serde_json::from_str(&text).unwrap()
    }
}

/// The place of the node that serves the shard.
pub async fn owner(nodes: &[Node], shard: i32) -> usize {
    let mut found = None;
    eventually("somebody serves the shard", async || {
        for (place, node) in nodes.iter().enumerate() {
            if node.process.serves(shard) && node.says("readyz").await.is_some() {
                found = Some(place);
            }
        }
        found.is_some()
    })
    .await;
    found.unwrap()
}

pub async fn stop(nodes: Vec<Node>) {
    for node in nodes {
        node.process.stop().await;
    }
}

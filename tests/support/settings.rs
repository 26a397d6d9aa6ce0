//! Settings of a relay under test.

use pepay_relay::config::*;
use pepay_relay::kafka::client::Tuning;
use pepay_relay::kafka::shard::Shard;
use pepay_relay::kafka::{Broker, PublisherSetup, topics};
use pepay_relay::provider::Environment;
use pepay_relay::telemetry::{Health, Metrics};
use std::sync::Arc;
use std::time::Duration;

/// Settings of relay `name` on the broker at `bootstrap`, with topics of its own and a provider that nobody reaches.
pub fn config(bootstrap: &str, name: &str) -> Config {
    let loopback = "127.0.0.1:0".parse().unwrap();
    let topic = |kind: &str| format!("{name}.{kind}");
    let mut config = Config::minimal(Environment::Devnet, bootstrap);
    config.name = name.to_owned();
    config.provider.api_url = "http://127.0.0.1:1".to_owned();
    config.provider.websocket_url = "ws://127.0.0.1:1".to_owned();
    config.webhook.listen = loopback;
    config.admin.listen = loopback;
    config.backfill.first_start = Duration::ZERO;
    config.kafka.topic_prefix = name.to_owned();
    config.kafka.topics = Topics {
        orders: topic("orders"),
        orders_latest: topic("orders.latest"),
        invoices: topic("invoices"),
        dead_letter: topic("dead-letter"),
        control: topic("relay"),
        inbox: String::new(),
    };
    config
}

/// The same, whose webhooks go through the inbox.
pub fn through_inbox(config: Config) -> Config {
    let mut config = config;
    config.webhook.via = Via::Inbox;
    config.kafka.topics.inbox = format!("{}.inbox", config.kafka.topic_prefix);
    config
}

/// The same, of node `node` of a cluster with this many shards.
pub fn clustered(config: Config, node: &str, shards: i32) -> Config {
    let mut config = through_inbox(config);
    config.cluster = Cluster { enabled: true, node: node.to_owned(), shards };
    config
}

/// Secrets, with a Kafka password if the broker asks for one.
pub fn secrets(kafka_password: Option<&str>) -> Secrets {
    let kafka_password = kafka_password.map(Into::into);
    Secrets {
        accounts: vec![AccountSecrets::sole("key", vec!["secret".into()])],
        kafka_password,
        kafka_certificate: None,
        kafka_oauth_secret: None,
        proxies: Default::default(),
    }
}

/// What a publisher works with, on topics that were found or not asked for.
pub fn publisher(config: &Config, secrets: &Secrets, topics: topics::Topics) -> PublisherSetup {
    PublisherSetup {
        shard: Shard::SOLE,
        member: None,
        starts_afresh: false,
        config: config.clone(),
        secrets: tokio::sync::watch::Sender::new(secrets.clone()).subscribe(),
        broker: Broker::Configured,
        tuning: Tuning::default(),
        topics,
        early: None,
        metrics: Arc::new(Metrics::new("test")),
        health: Arc::new(Health::default()),
    }
}

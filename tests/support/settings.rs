//! Settings of a relay under test.

use pepay_relay::config::*;
use std::time::Duration;

/// Settings of relay `name` on the broker at `bootstrap`, with topics of its own.
pub fn config(bootstrap: &str, name: &str) -> Config {
    let loopback = "127.0.0.1:0".parse().unwrap();
    let topic = |kind: &str| format!("{name}.{kind}");
    Config {
        name: name.to_owned(),
        provider: Provider {
            api_url: "http://127.0.0.1:1".to_owned(),
            stream_url: "ws://127.0.0.1:1".to_owned(),
            environment: Environment::Devnet,
            timeout: Duration::from_secs(30),
        },
        stream: Stream {
            enabled: true,
            types: Vec::new(),
            auth: StreamAuth::Key,
            ping_interval: Duration::from_secs(20),
            idle_timeout: Duration::from_secs(60),
            backoff_min: Duration::from_millis(500),
            backoff_max: Duration::from_secs(30),
            frame_bytes_max: 8 << 20,
        },
        webhook: Webhook {
            enabled: true,
            listen: loopback,
            path: "/webhooks/pepay".to_owned(),
            tls_cert_file: None,
            tls_key_file: None,
            tolerance: Duration::from_secs(300),
            body_bytes_max: 1 << 20,
            connections_max: 1024,
            connections_per_address_max: 0,
            unverified_bytes_max: 16 << 20,
            body_timeout: Duration::from_secs(10),
            header_bytes_max: 16 << 10,
            answer_within: Duration::from_secs(8),
        },
        backfill: Backfill {
            every: Duration::from_secs(300),
            overlap: Duration::from_secs(60),
            hold_max: Duration::from_secs(30),
            first_start: Duration::ZERO,
        },
        dedup: Dedup { window: Duration::from_secs(72 * 3600), ids_max: 1_000_000 },
        intake: Intake { bytes_max: 64 << 20 },
        kafka: Kafka {
            bootstrap_servers: bootstrap.to_owned(),
            create_topics: true,
            partitions: 6,
            replication_factor: None,
            topics: Topics {
                orders: topic("orders"),
                orders_latest: topic("orders.latest"),
                invoices: topic("invoices"),
                dead_letter: topic("dead-letter"),
                control: topic("relay"),
            },
            username: None,
            sasl_mechanism: None,
            tls: false,
            ca_file: None,
            options: Vec::new(),
        },
        commerce: Commerce { customer_id: None },
        normalize: Normalize::default(),
        admin: Admin { listen: loopback },
        log: Log { level: "info".to_owned(), format: LogFormat::Auto },
        shutdown: Shutdown { deadline: Duration::from_secs(20) },
    }
}

/// Secrets, with a Kafka password if the broker asks for one.
pub fn secrets(kafka_password: Option<&str>) -> Secrets {
    Secrets { api_key: "key".into(), webhook: vec!["secret".into()], kafka_password: kafka_password.map(Into::into) }
}

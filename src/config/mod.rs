//! The settings: one file, the environment over it, and secrets from neither the file nor the command line.
//!
//! [`Config`] cannot be wrong once it exists: [`load`] reports every mistake at once, each with file, key and remedy.

mod secrets;

pub use secrets::Secrets;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Which of the provider's two worlds a relay serves; a commerce key belongs to exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// Test networks; no real retailer orders.
    Devnet,
    /// Real goods and real money.
    Mainnet,
}

impl Environment {
    /// As the provider spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Devnet => "devnet",
            Self::Mainnet => "mainnet",
        }
    }
}

/// All settings, validated.
#[derive(Clone, Debug)]
pub struct Config {
    /// Instance name: transactional id and client id.
    pub name: String,
    pub provider: Provider,
    pub stream: Stream,
    pub webhook: Webhook,
    pub backfill: Backfill,
    pub dedup: Dedup,
    pub intake: Intake,
    pub kafka: Kafka,
    pub commerce: Commerce,
    pub normalize: Normalize,
    pub admin: Admin,
    pub log: Log,
    pub shutdown: Shutdown,
}

/// `[provider]`
#[derive(Clone, Debug)]
pub struct Provider {
    /// REST base without a trailing slash; plain `http` only to loopback.
    pub api_url: String,
    /// WebSocket address; plain `ws` only to loopback.
    pub stream_url: String,
    pub environment: Environment,
    /// Bound on each REST call.
    pub timeout: Duration,
}

/// `[stream]`
#[derive(Clone, Debug)]
pub struct Stream {
    pub enabled: bool,
    pub types: Vec<String>,
    pub auth: StreamAuth,
    pub ping_interval: Duration,
    pub idle_timeout: Duration,
    pub backoff_min: Duration,
    pub backoff_max: Duration,
    pub frame_bytes_max: usize,
}

/// How the socket authenticates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamAuth {
    /// The commerce key in a header.
    Key,
    /// A fresh `ws_token` in the query of each connection.
    Token,
}

/// `[webhook]`
#[derive(Clone, Debug)]
pub struct Webhook {
    pub enabled: bool,
    pub listen: SocketAddr,
    pub path: String,
    pub tls_cert_file: Option<PathBuf>,
    pub tls_key_file: Option<PathBuf>,
    pub tolerance: Duration,
    pub body_bytes_max: usize,
    pub connections_max: usize,
    /// 0 turns it off: behind a proxy all peers are one.
    pub connections_per_address_max: usize,
    pub unverified_bytes_max: usize,
    pub body_timeout: Duration,
    pub header_bytes_max: usize,
    pub answer_within: Duration,
}

/// `[backfill]`
#[derive(Clone, Debug)]
pub struct Backfill {
    pub every: Duration,
    pub overlap: Duration,
    pub hold_max: Duration,
    pub first_start: Duration,
}

/// `[dedup]`
#[derive(Clone, Debug)]
pub struct Dedup {
    pub window: Duration,
    pub ids_max: usize,
}

/// `[intake]`
#[derive(Clone, Debug)]
pub struct Intake {
    pub bytes_max: usize,
}

/// `[kafka]`
#[derive(Clone, Debug)]
pub struct Kafka {
    pub bootstrap_servers: String,
    pub create_topics: bool,
    pub partitions: i32,
    /// `None`: the broker's default.
    pub replication_factor: Option<i32>,
    pub topics: Topics,
    pub username: Option<String>,
    pub sasl_mechanism: Option<String>,
    pub tls: bool,
    pub ca_file: Option<PathBuf>,
    /// Further librdkafka properties, already checked against what the relay owns.
    pub options: Vec<(String, String)>,
}

/// `[kafka.topics]`; an empty name turns a topic off where that is allowed.
#[derive(Clone, Debug)]
pub struct Topics {
    pub orders: String,
    pub orders_latest: String,
    pub invoices: String,
    pub dead_letter: String,
    pub control: String,
}

impl Topics {
    /// The topic's name; `None` when it is turned off.
    pub fn name(&self, topic: crate::kafka::Topic) -> Option<&str> {
        use crate::kafka::Topic;
        let name = match topic {
            Topic::Orders => &self.orders,
            Topic::OrdersLatest => &self.orders_latest,
            Topic::Invoices => &self.invoices,
            Topic::DeadLetter => &self.dead_letter,
            Topic::Control => &self.control,
        };
        Some(name.as_str()).filter(|name| !name.is_empty())
    }
}

/// `[commerce]`
#[derive(Clone, Debug)]
pub struct Commerce {
    pub customer_id: Option<String>,
}

/// `[normalize]`
#[derive(Clone, Debug, Default)]
pub struct Normalize {
    /// Members of `order` (`invoice`, `payment`) left out of values.
    pub drop: Vec<String>,
    pub include_raw: bool,
}

/// `[admin]`
#[derive(Clone, Debug)]
pub struct Admin {
    pub listen: SocketAddr,
}

/// `[log]`
#[derive(Clone, Debug)]
pub struct Log {
    pub level: String,
    pub format: LogFormat,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text, coloured only on a terminal.
    Auto,
    Text,
    Json,
}

/// `[shutdown]`
#[derive(Clone, Debug)]
pub struct Shutdown {
    pub deadline: Duration,
}

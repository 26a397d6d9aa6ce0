//! The settings as types. What each key means to a user is in the table; here is what the code relies on.

use crate::provider::Environment;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// All settings, validated.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Instance name: transactional id, client id and first part of the control topic's keys.
    pub name: String,
    /// `[accounts.NAME]`, in the order of their names; empty where the relay serves one account without a name.
    pub accounts: Vec<Account>,
    /// `[provider]`
    pub provider: Provider,
    /// `[websocket]`
    pub websocket: Websocket,
    /// `[webhook]`
    pub webhook: Webhook,
    /// `[backfill]`
    pub backfill: Backfill,
    /// `[dedup]`
    pub dedup: Dedup,
    /// `[intake]`
    pub intake: Intake,
    /// `[kafka]`
    pub kafka: Kafka,
    /// `[commerce]`
    pub commerce: Commerce,
    /// `[normalize]`
    pub normalize: Normalize,
    /// `[cluster]`
    pub cluster: Cluster,
    /// `[admin]`
    pub admin: Admin,
    /// `[log]`
    pub log: Log,
    /// `[shutdown]`
    pub shutdown: Shutdown,
    /// Where secrets are read from; apart from the sections, so that no leg sees it.
    pub secret_files: SecretFiles,
}

/// `[accounts.NAME]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// 1 to 32 of the characters `a-z 0-9 -`.
    pub name: String,
    /// Holds the account's API key; `None`: the systemd credential `NAME.api-key`.
    pub api_key_file: Option<PathBuf>,
    /// Holds the account's webhook secrets; `None`: the systemd credential `NAME.webhook-secrets`.
    pub webhook_secrets_file: Option<PathBuf>,
    /// Default customer of `checkout`.
    pub customer_id: Option<String>,
}

impl Account {
    /// Of this name, with nothing set.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), api_key_file: None, webhook_secrets_file: None, customer_id: None }
    }
}

/// The files that hold secrets, each `None` when the secret comes from the environment or a systemd credential.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretFiles {
    /// `provider.api_key_file`
    pub api_key: Option<PathBuf>,
    /// `provider.proxy_password_file`
    pub proxy_password: Option<PathBuf>,
    /// `webhook.secrets_file`
    pub webhook: Option<PathBuf>,
    /// `kafka.password_file`
    pub kafka_password: Option<PathBuf>,
    /// `kafka.tls_key_password_file`
    pub kafka_key_password: Option<PathBuf>,
    /// `kafka.oauth_secret_file`
    pub kafka_oauth_secret: Option<PathBuf>,
}

/// `[provider]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// REST base without a trailing slash, query or credentials; plain `http` only to loopback.
    pub api_url: String,
    /// WebSocket address without a query; plain `ws` only to loopback.
    pub websocket_url: String,
    /// Events that name the other one become dead letters.
    pub environment: Environment,
    /// `http://[user@]host:port`, without a password: where REST and WebSocket connections go through.
    pub proxy: Option<String>,
    /// PEM certificates of authorities to trust along with the system's.
    pub ca_file: Option<PathBuf>,
    /// Bound on each REST call, from connecting to the last byte of the body.
    pub timeout: Duration,
}

/// `[websocket]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Websocket {
    /// Whether the WebSocket leg runs.
    pub enabled: bool,
    /// Event type patterns asked for, as the provider's `types` takes them; at least one.
    pub types: Vec<String>,
    /// How the socket authenticates.
    pub auth: WebsocketAuth,
    /// Pause between pings of ours; shorter than `idle_timeout`.
    pub ping_interval: Duration,
    /// Silence after which the peer counts as dead.
    pub idle_timeout: Duration,
    /// Least delay before a reconnect, above zero.
    pub backoff_min: Duration,
    /// Greatest delay before a reconnect, at least `backoff_min`.
    pub backoff_max: Duration,
    /// Greatest frame, in bytes; at most a quarter of `intake.bytes_max`.
    pub frame_bytes_max: usize,
}

/// How the socket authenticates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WebsocketAuth {
    /// The commerce key in a header.
    #[default]
    Key,
    /// A fresh `ws_token` in the query of each connection.
    Token,
}

/// `[webhook]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Whether the webhook leg runs.
    pub enabled: bool,
    /// Address of the listener; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The one path that takes webhooks; begins with `/`.
    pub path: String,
    /// PEM certificate chain; set together with the key.
    pub tls_cert_file: Option<PathBuf>,
    /// PEM private key; set together with the certificate.
    pub tls_key_file: Option<PathBuf>,
    /// Greatest distance between the signed time and ours, to either side.
    pub tolerance: Duration,
    /// Greatest body, in bytes; at most a quarter of `intake.bytes_max`.
    pub body_bytes_max: usize,
    /// Connections at one time; further peers wait. Fewer where there are not enough file descriptors.
    pub connections_max: usize,
    /// 0 turns it off: behind a proxy all peers are one.
    pub connections_per_address_max: usize,
    /// Bytes held before their signature is checked, all connections together; at least one body.
    pub unverified_bytes_max: usize,
    /// Time for the headers from their first byte on, and again for the body.
    pub body_timeout: Duration,
    /// Time between two requests of a connection.
    pub idle_timeout: Duration,
    /// The path that answers whether webhooks are taken; empty: none. Never `path`.
    pub health_path: String,
    /// Greatest request head, in bytes.
    pub header_bytes_max: usize,
    /// Wait for the commit before a 503; below the provider's own time-out.
    pub answer_within: Duration,
    /// Which way a verified webhook takes; always the inbox in a cluster.
    pub via: Via,
}

/// Which way a verified webhook takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// Into the relay's next transaction; answered after the commit.
    #[default]
    Direct,
    /// Into the topic `pepay.inbox`; answered once it is there.
    Inbox,
}

impl Webhook {
    /// The path of an account's webhooks: `path/NAME`, or `path` where accounts have no names.
    pub fn path_of(&self, account: &str) -> String {
        match account {
            "" => self.path.clone(),
            name => format!("{}/{name}", self.path.trim_end_matches('/')),
        }
    }
}

/// `[backfill]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backfill {
    /// Pause between walks.
    pub every: Duration,
    /// How long the provider's log may show an event late; every walk begins so much before what is verified.
    pub overlap: Duration,
    /// Longest time that live frames wait for a gap to close.
    pub hold_max: Duration,
    /// History fetched when Kafka holds no cursor; zero: none.
    pub first_start: Duration,
}

/// `[dedup]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dedup {
    /// How long a committed event id is remembered, counted from the commit.
    pub window: Duration,
    /// Most ids remembered.
    pub ids_max: usize,
}

/// `[intake]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intake {
    /// Bytes of deliveries that have not settled, all legs together.
    pub bytes_max: usize,
}

/// `[kafka]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kafka {
    /// `host:port`, comma separated.
    pub bootstrap_servers: String,
    /// What the default topic names begin with; `topics` is what counts.
    pub topic_prefix: String,
    /// Whether missing topics are created at start.
    pub create_topics: bool,
    /// Partitions of topics that the relay creates (the control topic always has 1).
    pub partitions: i32,
    /// `None`: the broker's default.
    pub replication_factor: Option<i32>,
    /// `[kafka.topics]`
    pub topics: Topics,
    /// SASL user; set together with the password and every mechanism but `OAUTHBEARER`.
    pub username: Option<String>,
    /// `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512` or `OAUTHBEARER`.
    pub sasl_mechanism: Option<String>,
    /// Where an identity provider gives tokens for client credentials (RFC 6749, section 4.4); set with `OAUTHBEARER` alone,
    /// plain `http` only to loopback.
    pub oauth_token_url: Option<String>,
    /// Who asks for the token; set together with its address.
    pub oauth_client_id: Option<String>,
    /// What the token is to be good for, words with spaces between.
    pub oauth_scope: Option<String>,
    /// What the broker gets alongside the token (RFC 7628, section 3.1): `name=value` with commas between.
    pub oauth_extensions: Option<String>,
    /// Whether to speak TLS.
    pub tls: bool,
    /// PEM certificates of the authorities to trust; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM certificate chain of the relay's own, leaf first; set together with its key.
    pub tls_cert_file: Option<PathBuf>,
    /// PEM key of the leaf, encrypted or not.
    pub tls_key_file: Option<PathBuf>,
    /// Base address of a schema registry, without credentials and query; `None`: none is asked.
    pub schema_registry_url: Option<String>,
    /// Further librdkafka properties, already checked against what the relay owns and known to librdkafka.
    pub options: Vec<(String, String)>,
}

/// `[kafka.topics]`; distinct names that Kafka takes. An empty name turns a topic off where that is allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topics {
    /// Every order event; never empty.
    pub orders: String,
    /// The newest event of each order; may be empty.
    pub orders_latest: String,
    /// Every invoice event; may be empty.
    pub invoices: String,
    /// Deliveries that cannot be published; never empty.
    pub dead_letter: String,
    /// Checkpoints and gaps; never empty.
    pub control: String,
    /// Verified webhooks that wait for the owner of their shard; empty where they go another way.
    pub inbox: String,
}

impl Topics {
    /// The topic's name; `None` when it is turned off.
    pub fn name(&self, topic: crate::labels::Topic) -> Option<&str> {
        use crate::labels::Topic;
        let name = match topic {
            Topic::Orders => &self.orders,
            Topic::OrdersLatest => &self.orders_latest,
            Topic::Invoices => &self.invoices,
            Topic::DeadLetter => &self.dead_letter,
            Topic::Control => &self.control,
            Topic::Inbox => &self.inbox,
        };
        Some(name.as_str()).filter(|name| !name.is_empty())
    }
}

/// `[commerce]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commerce {
    /// Default customer of `checkout`.
    pub customer_id: Option<String>,
}

/// `[normalize]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Normalize {
    /// Members of `order` (`invoice`, `payment`) left out of values.
    pub drop: Vec<String>,
    /// Whether values carry `data.object` as it came, as `raw`; never together with `drop`.
    pub include_raw: bool,
}

/// `[cluster]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// Whether nodes of one name share its shards.
    pub enabled: bool,
    /// This process among them: 1 to 200 of the characters `a-z A-Z 0-9 . _ -`.
    pub node: String,
    /// Shards of the relay, 1 without a cluster; fixed when its topics are made.
    pub shards: i32,
}

/// `[admin]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Address of the listener; port 0 takes a free one.
    pub listen: SocketAddr,
}

/// `[log]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// A level, or levels by target: `info,rdkafka=warn`. Takes effect on reload.
    pub level: String,
    /// How lines are written.
    pub format: LogFormat,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text, coloured only on a terminal.
    #[default]
    Auto,
    /// Text without colours.
    Text,
    /// One JSON object per line.
    Json,
}

impl LogFormat {
    /// As `log.format` spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// `[shutdown]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shutdown {
    /// Time to finish what is inside before leaving it to the provider.
    pub deadline: Duration,
}

/// Before any setting is read: what the table's defaults are written over.
pub(super) fn blank() -> Config {
    const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    const ZERO: Duration = Duration::ZERO;
    Config {
        name: String::new(),
        accounts: Vec::new(),
        provider: Provider {
            api_url: String::new(),
            websocket_url: String::new(),
            environment: Environment::Devnet,
            proxy: None,
            ca_file: None,
            timeout: ZERO,
        },
        websocket: Websocket::default(),
        webhook: Webhook {
            enabled: false,
            listen: NOWHERE,
            path: String::new(),
            tls_cert_file: None,
            tls_key_file: None,
            tolerance: ZERO,
            body_bytes_max: 0,
            connections_max: 0,
            connections_per_address_max: 0,
            unverified_bytes_max: 0,
            body_timeout: ZERO,
            idle_timeout: ZERO,
            health_path: String::new(),
            header_bytes_max: 0,
            answer_within: ZERO,
            via: Via::Direct,
        },
        backfill: Backfill::default(),
        dedup: Dedup::default(),
        intake: Intake::default(),
        kafka: Kafka::default(),
        commerce: Commerce::default(),
        normalize: Normalize::default(),
        cluster: Cluster::default(),
        admin: Admin { listen: NOWHERE },
        log: Log::default(),
        shutdown: Shutdown::default(),
        secret_files: SecretFiles::default(),
    }
}

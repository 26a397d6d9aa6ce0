//! Every setting in one table: the key, where it goes, its default, its bounds and what it means.
//!
//! `config/pepay-relay.toml` and `docs/settings.md` are written from this table, by `tests/house/documents.rs`.

use super::field::{Bytes, Field, Form, Raw};
use super::follows;
use super::types::Config;
use std::time::Duration;

/// What the variables that override a key begin with.
pub(super) const PREFIX: &str = "PEPAY_RELAY__";

/// What holds when nobody sets a key.
#[derive(Clone, Copy, Debug)]
pub enum DefaultValue {
    /// Nothing: the key must be set. A value as an example, as TOML.
    Required(&'static str),
    /// Nothing, and that is fine. A value as an example, as TOML.
    None(&'static str),
    /// This value, as TOML.
    Is(&'static str),
    /// A value that follows from other settings.
    Follows {
        /// As TOML, when those others have their defaults.
        usual: &'static str,
        /// Writes it.
        set: fn(&mut Config),
    },
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// `section.key`
    pub key: &'static str,
    /// What holds when nobody sets it.
    pub default: DefaultValue,
    /// What it is: `a duration`.
    pub kind: &'static str,
    /// How it is written: `"30s", in quotes`.
    pub how: &'static str,
    /// What it does, in a sentence.
    pub meaning: &'static str,
    /// The least and the greatest value, as TOML, where it has bounds.
    pub bounds: fn() -> Option<(String, String)>,
    pub(super) form: Form,
    pub(super) read: fn(&mut Config, &Raw) -> Result<(), Wrong>,
    pub(super) show: fn(&Config) -> String,
}

impl Setting {
    /// The environment variable that overrides the key: `PEPAY_RELAY__WEBSOCKET__IDLE_TIMEOUT`.
    pub fn variable(&self) -> String {
        format!("{}{}", PREFIX, self.key.replace('.', "__").to_uppercase())
    }

    /// The value in `config` as TOML; an empty text when it has none.
    pub fn show(&self, config: &Config) -> String {
        (self.show)(config)
    }
}

/// What is wrong with a value, without quoting it, and the remedy.
pub(super) type Wrong = (String, String);

/// The setting of that key.
pub(super) fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// Writes `raw` into its place, or returns what is wrong with it without quoting it.
fn assign<F: Field>(slot: &mut F, raw: &Raw, bounds: Option<(F, F)>) -> Result<(), Wrong> {
    let value = F::read(raw).ok_or_else(|| (format!("is not {}", F::KIND), format!("write it as {}", F::HOW)))?;
    if let Some((least, most)) = bounds
        && !value.within(&least, &most)
    {
        let what = format!("is not between {} and {}", least.show(), most.show());
        return Err((what, "choose a value between them".into()));
    }
    *slot = value;
    Ok(())
}

fn assign_bytes(slot: &mut usize, raw: &Raw, bounds: Option<(Bytes, Bytes)>) -> Result<(), Wrong> {
    let mut bytes = Bytes(*slot);
    assign(&mut bytes, raw, bounds)?;
    *slot = bytes.0;
    Ok(())
}

/// Words about the type of a slot, and the form of its values.
const fn words<F: Field>(_: fn(&Config) -> &F) -> (&'static str, &'static str, Form) {
    (F::KIND, F::HOW, F::FORM)
}

/// Bounds as TOML.
fn shown<F: Field>(_: fn(&Config) -> &F, bounds: Option<(F, F)>) -> Option<(String, String)> {
    bounds.map(|(least, most)| (least.show(), most.show()))
}

macro_rules! setting {
    ($key:literal, bytes $($slot:ident).+, $default:expr, $least:expr, $most:expr, $meaning:literal) => {
        Setting {
            key: $key,
            default: $default,
            kind: Bytes::KIND,
            how: Bytes::HOW,
            meaning: $meaning,
            bounds: || Some((Bytes($least).show(), Bytes($most).show())),
            form: Form::Text,
            read: |config, raw| assign_bytes(&mut config.$($slot).+, raw, Some((Bytes($least), Bytes($most)))),
            show: |config| Bytes(config.$($slot).+).show(),
        }
    };
    (@ $key:literal, $($slot:ident).+, $default:expr, $bounds:expr, $meaning:literal) => {
        Setting {
            key: $key,
            default: $default,
            kind: words(|config| &config.$($slot).+).0,
            how: words(|config| &config.$($slot).+).1,
            meaning: $meaning,
            bounds: || shown(|config| &config.$($slot).+, $bounds),
            form: words(|config| &config.$($slot).+).2,
            read: |config, raw| assign(&mut config.$($slot).+, raw, $bounds),
            show: |config| Field::show(&config.$($slot).+),
        }
    };
    ($key:literal, $($slot:ident).+, $default:expr, $meaning:literal) => {
        setting!(@ $key, $($slot).+, $default, None, $meaning)
    };
    ($key:literal, $($slot:ident).+, $default:expr, $least:expr, $most:expr, $meaning:literal) => {
        setting!(@ $key, $($slot).+, $default, Some(($least, $most)), $meaning)
    };
}

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
const ZERO: Duration = Duration::ZERO;
const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Every setting. The bounds keep a slip of the pen from becoming a promise: a time-out of an hour, a window of a
/// second, a queue that cannot hold one body.
#[rustfmt::skip]
pub static SETTINGS: &[Setting] = {
    use DefaultValue::{Follows, Is, None as Nothing, Required};
    &[
        setting!("name", name, Is(r#""pepay-relay""#), "Name of this instance: Kafka transactional id and client id. Two relays with the same name fence each other."),
        setting!("accounts", accounts, Nothing(r#"{ shop-a = { api_key_file = "/etc/pepay-relay/shop-a.key", webhook_secrets_file = "/etc/pepay-relay/shop-a.secrets" } }"#), "Several accounts of the provider in one relay, usually written as a section [accounts.NAME] each, with api_key_file, webhook_secrets_file and customer_id. NAME is 1 to 32 of a-z 0-9 -. The webhooks of an account come to webhook.path/NAME, and the settings for one account (provider.api_key_file, webhook.secrets_file, commerce.customer_id) are errors. Loaded again on reload."),

        setting!("provider.api_url", provider.api_url, Is(r#""https://api-beta.pepay.io""#), "Base address of the provider's REST API. Plain http only to loopback."),
        setting!("provider.websocket_url", provider.websocket_url, Follows { usual: r#""wss://api-beta.pepay.io/ws/commerce/events""#, set: follows::websocket_url }, "Address of the provider's WebSocket; follows provider.api_url. Plain ws only to loopback."),
        setting!("provider.environment", provider.environment, Required(r#""devnet""#), "Environment that the API key belongs to. Events that name the other one become dead letters."),
        setting!("provider.timeout", provider.timeout, Is(r#""30s""#), SECOND, 10 * MINUTE, "Longest wait for one REST call, body included."),
        setting!("provider.proxy", provider.proxy, Nothing(r#""http://relay@proxy.example.com:3128""#), "Proxy for REST and WebSocket (CONNECT), as http://[user@]host:port. Without it HTTPS_PROXY and NO_PROXY of the environment count, never for loopback."),
        setting!("provider.proxy_password_file", secret_files.proxy_password, Nothing(r#""/etc/pepay-relay/proxy-password""#), "File with the password of the proxy's user, unless PEPAY_RELAY_PROXY_PASSWORD or the systemd credential proxy-password gives it."),
        setting!("provider.ca_file", provider.ca_file, Nothing(r#""/etc/pepay-relay/provider-ca.pem""#), "Certificates (PEM) of authorities that are trusted in addition to the system's, for REST and WebSocket."),
        setting!("provider.api_key_file", secret_files.api_key, Nothing(r#""/etc/pepay-relay/api-key""#), "File with the commerce API key, unless PEPAY_RELAY_API_KEY or the systemd credential api-key gives it."),

        setting!("websocket.enabled", websocket.enabled, Is("true"), "Whether events are read from the WebSocket."),
        setting!("websocket.types", websocket.types, Is(r#"["commerce.order.*", "invoice.*", "invoice_payment.*"]"#), "Event types to subscribe to; `*` matches any ending."),
        setting!("websocket.auth", websocket.auth, Is(r#""key""#), "How the WebSocket authenticates: key (header), or token (a fresh ws_token for each connection)."),
        setting!("websocket.ping_interval", websocket.ping_interval, Is(r#""20s""#), SECOND, 10 * MINUTE, "Time between pings."),
        setting!("websocket.idle_timeout", websocket.idle_timeout, Is(r#""60s""#), SECOND, HOUR, "Silence after which the peer counts as dead and the relay reconnects."),
        setting!("websocket.backoff_min", websocket.backoff_min, Is(r#""500ms""#), 10 * MS, 10 * MINUTE, "Shortest delay before a reconnect."),
        setting!("websocket.backoff_max", websocket.backoff_max, Is(r#""30s""#), 10 * MS, HOUR, "Longest delay before a reconnect. A longer Retry-After of the provider is obeyed, up to 10 minutes."),
        setting!("websocket.frame_bytes_max", bytes websocket.frame_bytes_max, Is(r#""8MiB""#), 64 * KIB, 256 * MIB, "Largest frame. A larger one closes the connection, and the event log brings its event."),

        setting!("webhook.enabled", webhook.enabled, Is("true"), "Whether webhooks are accepted."),
        setting!("webhook.listen", webhook.listen, Is(r#""127.0.0.1:8787""#), "Address of the webhook listener."),
        setting!("webhook.path", webhook.path, Is(r#""/webhooks/pepay""#), "Path that accepts webhooks; any other is answered 404."),
        setting!("webhook.tls_cert_file", webhook.tls_cert_file, Nothing(r#""/etc/pepay-relay/tls.crt""#), "Certificate chain (PEM), for TLS without a proxy. Loaded again on reload."),
        setting!("webhook.tls_key_file", webhook.tls_key_file, Nothing(r#""/etc/pepay-relay/tls.key""#), "Private key (PEM) of the certificate. Loaded again on reload."),
        setting!("webhook.secrets_file", secret_files.webhook, Nothing(r#""/etc/pepay-relay/webhook-secrets""#), "File with the webhook secrets, newest first, one per line, unless PEPAY_RELAY_WEBHOOK_SECRETS or the systemd credential webhook-secrets gives them."),
        setting!("webhook.tolerance", webhook.tolerance, Is(r#""5m""#), SECOND, DAY, "Largest difference between the signed time and the time here, or at the provider as its answers tell it."),
        setting!("webhook.body_bytes_max", bytes webhook.body_bytes_max, Is(r#""1MiB""#), KIB, 64 * MIB, "Largest body; a larger one is answered 413."),
        setting!("webhook.connections_max", webhook.connections_max, Is("1024"), 1, 65_536, "Maximum number of connections. At the limit a new one replaces a stranger's that is slow or idle, or waits. Fewer where the limit of open files does not allow as many."),
        setting!("webhook.connections_per_address_max", webhook.connections_per_address_max, Is("0"), 0, 65_536, "Maximum number of connections from one address; 0 turns it off, since behind a proxy all peers have the same address."),
        setting!("webhook.unverified_bytes_max", bytes webhook.unverified_bytes_max, Is(r#""16MiB""#), KIB, 1024 * MIB, "Maximum bytes held before their signature is checked, all connections together."),
        setting!("webhook.body_timeout", webhook.body_timeout, Is(r#""10s""#), 100 * MS, 10 * MINUTE, "Time for the headers, from their first byte on, and again for the body; then 408."),
        setting!("webhook.idle_timeout", webhook.idle_timeout, Is(r#""75s""#), 100 * MS, HOUR, "Time between two requests of a connection. Keep it longer than a proxy keeps its own (usually 60s)."),
        setting!("webhook.health_path", webhook.health_path, Is(r#""/healthz""#), "Path on the webhook listener that shows a load balancer whether webhooks are accepted (200, otherwise 503), answered even while all places are taken; \"\" turns it off."),
        setting!("webhook.header_bytes_max", bytes webhook.header_bytes_max, Is(r#""16KiB""#), KIB, MIB, "Largest request head; a larger one is answered 431."),
        setting!("webhook.answer_within", webhook.answer_within, Is(r#""8s""#), 100 * MS, 2 * MINUTE, "Longest wait for the commit before 503. Keep it below the provider's own time-out."),
        setting!("webhook.via", webhook.via, Follows { usual: r#""direct""#, set: follows::via }, "Way of a verified webhook: direct, into the next transaction, answered after the commit; or inbox, into the topic kafka.topics.inbox, answered once it is there, which is sooner. A cluster always uses inbox."),

        setting!("backfill.every", backfill.every, Is(r#""5m""#), SECOND, DAY, "Time between walks through the provider's event log."),
        setting!("backfill.overlap", backfill.overlap, Is(r#""60s""#), ZERO, DAY, "How late an event may appear in the provider's log. Each walk starts this much earlier, so that late events are found."),
        setting!("backfill.hold_max", backfill.hold_max, Is(r#""30s""#), ZERO, HOUR, "Longest time that live events wait while a gap is filled. Older events that are found later are marked stale."),
        setting!("backfill.first_start", backfill.first_start, Is(r#""24h""#), ZERO, 365 * DAY, "How much history to fetch when Kafka holds no cursor; 0s: none."),

        setting!("dedup.window", dedup.window, Is(r#""72h""#), MINUTE, 90 * DAY, "How long an event id is remembered, counted from its commit."),
        setting!("dedup.ids_max", dedup.ids_max, Is("1000000"), 1_000, 100_000_000, "Maximum number of ids remembered (up to 64 bytes each). One forgotten before its time raises an alarm."),

        setting!("intake.bytes_max", bytes intake.bytes_max, Is(r#""64MiB""#), MIB, 4095 * MIB, "Maximum bytes of deliveries that are not settled, all legs together. At the limit peers wait or are asked to come back."),

        setting!("kafka.bootstrap_servers", kafka.bootstrap_servers, Required(r#""localhost:9092""#), "Brokers to connect to first: host:port, separated by commas."),
        setting!("kafka.topic_prefix", kafka.topic_prefix, Is(r#""pepay""#), "Prefix of the default topic names."),
        setting!("kafka.create_topics", kafka.create_topics, Is("true"), "Whether missing topics are created at the start."),
        setting!("kafka.partitions", kafka.partitions, Is("6"), 1, 10_000, "Partitions of topics that the relay creates; the control topic has 1."),
        setting!("kafka.replication_factor", kafka.replication_factor, Nothing("3"), Some(1), Some(32_767), "Replicas of topics that the relay creates; without it the broker's default."),
        setting!("kafka.username", kafka.username, Nothing(r#""pepay-relay""#), "SASL user name."),
        setting!("kafka.password_file", secret_files.kafka_password, Nothing(r#""/etc/pepay-relay/kafka-password""#), "File with the SASL password, unless PEPAY_RELAY_KAFKA_PASSWORD or the systemd credential kafka-password gives it."),
        setting!("kafka.sasl_mechanism", kafka.sasl_mechanism, Nothing(r#""SCRAM-SHA-512""#), "SASL mechanism: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, or OAUTHBEARER, which the packages have."),
        setting!("kafka.oauth_token_url", kafka.oauth_token_url, Nothing(r#""https://id.example.com/oauth2/token""#), "Address at which the identity provider gives tokens for client credentials, for OAUTHBEARER. Plain http only to loopback."),
        setting!("kafka.oauth_client_id", kafka.oauth_client_id, Nothing(r#""pepay-relay""#), "Client that asks for tokens."),
        setting!("kafka.oauth_secret_file", secret_files.kafka_oauth_secret, Nothing(r#""/etc/pepay-relay/kafka-oauth-secret""#), "File with the client's secret, unless PEPAY_RELAY_KAFKA_OAUTH_SECRET or the systemd credential kafka-oauth-secret gives it."),
        setting!("kafka.oauth_scope", kafka.oauth_scope, Nothing(r#""kafka""#), "Scope to ask for; words with spaces between."),
        setting!("kafka.oauth_extensions", kafka.oauth_extensions, Nothing(r#""logicalCluster=lkc-1,identityPoolId=pool-1""#), "Sent to the brokers with the token, as name=value with commas between, such as \"logicalCluster=lkc-1,identityPoolId=pool-1\"."),
        setting!("kafka.tls", kafka.tls, Is("false"), "Whether to use TLS to the brokers."),
        setting!("kafka.ca_file", kafka.ca_file, Nothing(r#""/etc/pepay-relay/kafka-ca.pem""#), "Certificates (PEM) of the authorities that sign the brokers' certificates; without it the system's."),
        setting!("kafka.tls_cert_file", kafka.tls_cert_file, Nothing(r#""/etc/pepay-relay/kafka.crt""#), "Client certificate chain (PEM). Loaded again on reload."),
        setting!("kafka.tls_key_file", kafka.tls_key_file, Nothing(r#""/etc/pepay-relay/kafka.key""#), "Private key (PEM) of the client certificate, encrypted or not. Loaded again on reload."),
        setting!("kafka.tls_key_password_file", secret_files.kafka_key_password, Nothing(r#""/etc/pepay-relay/kafka-key-password""#), "File with the password of an encrypted kafka.tls_key_file, unless PEPAY_RELAY_KAFKA_KEY_PASSWORD or the systemd credential kafka-key-password gives it."),
        setting!("kafka.schema_registry_url", kafka.schema_registry_url, Nothing(r#""https://registry.example.com""#), "Address of a schema registry that the schemas of values are registered at; its name for a record's schema is in the header __value_schema_id. Nothing waits for it."),
        setting!("kafka.options", kafka.options, Is("{}"), "More librdkafka properties, such as { \"linger.ms\" = 5 }. Secrets and properties that the relay owns are refused."),
        setting!("kafka.topics.orders", kafka.topics.orders, Follows { usual: r#""pepay.orders""#, set: |config| config.kafka.topics.orders = topic(config, "orders") }, "Topic of every order event."),
        setting!("kafka.topics.orders_latest", kafka.topics.orders_latest, Follows { usual: r#""pepay.orders.latest""#, set: |config| config.kafka.topics.orders_latest = topic(config, "orders.latest") }, "Compacted topic of each order's newest event; \"\" turns it off."),
        setting!("kafka.topics.invoices", kafka.topics.invoices, Follows { usual: r#""pepay.invoices""#, set: |config| config.kafka.topics.invoices = topic(config, "invoices") }, "Topic of every invoice and invoice payment event; \"\" turns it off."),
        setting!("kafka.topics.dead_letter", kafka.topics.dead_letter, Follows { usual: r#""pepay.dead-letter""#, set: |config| config.kafka.topics.dead_letter = topic(config, "dead-letter") }, "Topic of deliveries that cannot be published."),
        setting!("kafka.topics.control", kafka.topics.control, Follows { usual: r#""pepay.relay""#, set: |config| config.kafka.topics.control = topic(config, "relay") }, "Compacted topic of the relay's memory: checkpoints, journal, marks and gaps."),
        setting!("kafka.topics.inbox", kafka.topics.inbox, Nothing(r#""pepay.inbox""#), "Topic of verified webhooks that wait for their shard's owner, where webhook.via is inbox; without it the prefix and .inbox."),

        setting!("commerce.customer_id", commerce.customer_id, Nothing(r#""customer-1""#), "Default customer of `checkout`."),

        setting!("normalize.drop", normalize.drop, Is("[]"), "Members of the order, invoice or payment to leave out of values, such as [\"shipping_address\"]. Dead letters keep everything."),
        setting!("normalize.include_raw", normalize.include_raw, Is("false"), "Whether values carry the provider's object as it came, as `raw`; not together with normalize.drop."),

        setting!("cluster.enabled", cluster.enabled, Is("false"), "Whether nodes with the same name share its shards and take over from one another, through Kafka's consumer group of that name."),
        setting!("cluster.node", cluster.node, Nothing(r#""relay-1""#), "Name of this node, different on each; without it the host name."),
        setting!("cluster.shards", cluster.shards, Is("1"), 1, 128, "Shards of the accounts, each served by one node at a time. Fixed when the topics are made: an account's shard is murmur2(NAME) mod shards, as Kafka's partitioner puts a key."),

        setting!("admin.listen", admin.listen, Is(r#""127.0.0.1:9464""#), "Address of the admin listener: health, metrics, status."),

        setting!("log.level", log.level, Is(r#""info""#), "error, warn, info, debug, trace or off; also by target: \"info,rdkafka=warn\". Libraries log at most info, since their details hold keys and payloads. Loaded again on reload."),
        setting!("log.format", log.format, Is(r#""auto""#), "text, json, or auto: text, coloured only on a terminal."),

        setting!("shutdown.deadline", shutdown.deadline, Is(r#""20s""#), SECOND, 10 * MINUTE, "Time to finish what is in flight; the rest is left to the provider, which still holds it. systemd is asked to wait for it."),
    ]
};

/// A default topic name.
fn topic(config: &Config, name: &str) -> String {
    format!("{}.{name}", config.kafka.topic_prefix)
}

//! librdkafka's properties, from the settings: connection, security, what a user may tune, and what the relay owns.

use crate::config::{Config, Secrets};
use rdkafka::config::ClientConfig;
use secrecy::{ExposeSecret, SecretString};
use std::time::Duration;

/// Times that only tests shorten; no setting reaches them.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// After this long the coordinator aborts a transaction by itself (`transaction.timeout.ms`). A minute outlives a
    /// broker's restart and a leader election.
    pub transaction_timeout: Duration,
    /// Between the two looks for a second relay: one that has just fenced us writes its claim well within it.
    pub fence_confirm_after: Duration,
    /// A node of a cluster that its group has not let in for this long although Kafka answers ends. A group that divides its
    /// shards again waits at most [`SESSION`] for a member that is silent.
    pub join_within: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            transaction_timeout: Duration::from_secs(60),
            fence_confirm_after: Duration::from_secs(2),
            join_within: Duration::from_secs(60),
        }
    }
}

/// How long a node may be silent before its shards are given to others: Kafka's own least
/// (`group.min.session.timeout.ms`).
pub const SESSION: Duration = Duration::from_secs(6);

/// `retry.backoff.ms` and `retry.backoff.max.ms` of a transactional producer.
pub(in crate::kafka) const RETRY_BACKOFF: Duration = Duration::from_millis(1000);

/// How often a producer learns whether a quota holds it up: sooner than Kafka is called unavailable.
pub(in crate::kafka) const STATISTICS_EVERY: Duration = Duration::from_secs(1);

/// Sizes that the topics allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kafka) struct Sizes {
    /// The smallest `max.message.bytes` of our topics: no batch of records is larger.
    pub(in crate::kafka) batch_bytes: usize,
    /// The largest: no single record is larger.
    pub(in crate::kafka) record_bytes: usize,
}

/// Kafka's default of `max.message.bytes`, for topics whose settings cannot be read.
pub(in crate::kafka) const MESSAGE_BYTES_DEFAULT: usize = 1_048_588;

impl Default for Sizes {
    fn default() -> Self {
        Self { batch_bytes: MESSAGE_BYTES_DEFAULT, record_bytes: MESSAGE_BYTES_DEFAULT }
    }
}

/// What a batch of records costs alongside them (61 bytes of header), with room for the framing of its records.
const BATCH_OVERHEAD_BYTES: usize = 512;
/// librdkafka's least `message.max.bytes`.
const MESSAGE_BYTES_MIN: usize = 1_000;
/// A sane `message.max.bytes`: librdkafka allows ten times as much, and brokers allow more than anyone sends.
pub(in crate::kafka) const MESSAGE_BYTES_MAX: usize = 100_000_000;

/// Properties that librdkafka heeds in producers alone: those with a `P` in its CONFIGURATION.md that are not the
/// relay's own.
const OF_PRODUCERS: [&str; 14] = [
    "batch.num.messages",
    "batch.size",
    "compression.codec",
    "compression.level",
    "compression.type",
    "delivery.report.only.error",
    "linger.ms",
    "message.send.max.retries",
    "queue.buffering.backpressure.threshold",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "queue.buffering.max.ms",
    "retries",
    "sticky.partitioning.linger.ms",
];

/// And in consumers alone: those with a `C`.
const OF_CONSUMERS: [&str; 15] = [
    "check.crcs",
    "coordinator.query.interval.ms",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.queue.backoff.ms",
    "fetch.wait.max.ms",
    "heartbeat.interval.ms",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "partition.assignment.strategy",
    "queued.max.messages.kbytes",
    "queued.min.messages",
    "session.timeout.ms",
];

/// What kind of client: `kafka.options` are for both, and librdkafka warns of every property that one does not heed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Producer,
    Consumer,
}

impl Kind {
    fn heeds(self, property: &str) -> bool {
        let others: &[&str] = match self {
            Self::Producer => &OF_CONSUMERS,
            Self::Consumer => &OF_PRODUCERS,
        };
        !others.contains(&property)
    }
}

/// The connection and its security, and the further options of the settings, for a client that asks and creates: to
/// librdkafka a producer.
pub(in crate::kafka) fn base(config: &Config, secrets: &Secrets) -> ClientConfig {
    tunable(config, secrets, Kind::Producer, &[])
}

/// Connection and security, our values of what a user may tune, and then what the user sets of it. What the relay
/// owns is refused in `kafka.options` and set by the caller afterwards.
fn tunable(config: &Config, secrets: &Secrets, kind: Kind, ours: &[(&str, String)]) -> ClientConfig {
    let kafka = &config.kafka;
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &kafka.bootstrap_servers);
    client.set("client.id", &config.name);
    let protocol = match (kafka.tls, kafka.sasl_mechanism.is_some()) {
        (false, false) => "plaintext",
        (true, false) => "ssl",
        (false, true) => "sasl_plaintext",
        (true, true) => "sasl_ssl",
    };
    client.set("security.protocol", protocol);
    if kafka.tls {
        match &kafka.ca_file {
            Some(file) => client.set("ssl.ca.location", file.to_string_lossy()),
            // The OpenSSL built in looks where no distribution keeps its certificates; "probe" looks in all of them.
            None => client.set("ssl.ca.location", "probe"),
        };
        if let Some(certificate) = &secrets.kafka_certificate {
            certificate.show(&mut client);
        }
    }
    // The settings demand it with every username, and with a client that asks for tokens.
    if let Some(mechanism) = &kafka.sasl_mechanism {
        client.set("sasl.mechanism", mechanism);
    }
    if let Some(username) = &kafka.username {
        client.set("sasl.username", username);
        if let Some(password) = &secrets.kafka_password {
            client.set("sasl.password", password.expose_secret());
        }
    }
    if let (Some(url), Some(id), Some(secret)) =
        (&kafka.oauth_token_url, &kafka.oauth_client_id, &secrets.kafka_oauth_secret)
    {
        oauth(&mut client, config, (url, id, secret));
    }
    // A returned broker is found within a second (default 10), and a silent one given up before a transaction is.
    client.set("reconnect.backoff.max.ms", "1000");
    client.set("socket.timeout.ms", "10000");
    client.set("socket.keepalive.enable", "true");
    // By default a producer that asks for a topic has a broker create it, with the broker's settings in place of ours.
    client.set("allow.auto.create.topics", "false");
    for (key, value) in ours {
        client.set(*key, value);
    }
    for (key, value) in kafka.options.iter().filter(|(key, _)| kind.heeds(key)) {
        // The alias and the name are one property for librdkafka, and which of two would win is left to chance.
        if key == "queue.buffering.max.ms" {
            client.remove("linger.ms");
        }
        client.set(key, value);
    }
    client
}

/// Has the client fetch its tokens itself, on a thread of its own: it renews each after four fifths of its life.
fn oauth(client: &mut ClientConfig, config: &Config, (url, id, secret): (&str, &str, &SecretString)) {
    client.set("sasl.oauthbearer.method", "oidc");
    client.set("sasl.oauthbearer.token.endpoint.url", url);
    client.set("sasl.oauthbearer.client.id", id);
    client.set("sasl.oauthbearer.client.secret", secret.expose_secret());
    // librdkafka puts it into the form as it is.
    if let Some(scope) = config.kafka.oauth_scope.as_deref() {
        client.set("sasl.oauthbearer.scope", in_form(scope));
    }
    if let Some(extensions) = &config.kafka.oauth_extensions {
        client.set("sasl.oauthbearer.extensions", extensions);
    }
    // As with the brokers' certificates; `kafka.options` may name a file.
    client.set("https.ca.location", "probe");
}

/// A text as `application/x-www-form-urlencoded` has it.
fn in_form(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"*-._".contains(&byte);
    text.bytes().fold(String::new(), |form, byte| match byte {
        b' ' => form + "+",
        byte if is_plain(byte) => form + char::from(byte).encode_utf8(&mut [0; 4]),
        byte => form + &format!("%{byte:02X}"),
    })
}

/// The transactional producer `transactional_id`.
pub(in crate::kafka) fn producer(
    config: &Config,
    secrets: &Secrets,
    transactional_id: &str,
    sizes: Sizes,
    tuning: &Tuning,
) -> ClientConfig {
    let transaction_ms = tuning.transaction_timeout.as_millis();
    let mut client = tunable(
        config,
        secrets,
        Kind::Producer,
        &[
            ("socket.timeout.ms", (transaction_ms / 2).min(10_000).to_string()),
            // The batch is already whole when it is handed over: waiting for more records only costs time.
            ("linger.ms", "0".to_owned()),
        ],
    );
    let within = |bytes: usize| bytes.saturating_sub(BATCH_OVERHEAD_BYTES).clamp(1, MESSAGE_BYTES_MAX).to_string();
    client.set("batch.size", within(sizes.batch_bytes));
    client.set("message.max.bytes", sizes.record_bytes.clamp(MESSAGE_BYTES_MIN, MESSAGE_BYTES_MAX).to_string());
    client.set("transactional.id", transactional_id);
    client.set("transaction.timeout.ms", transaction_ms.to_string());
    // A record gives up before its transaction does, so that a transaction can still be aborted in good order.
    client.set("message.timeout.ms", (transaction_ms * 3 / 4).to_string());
    client.set("acks", "all");
    client.set("enable.idempotence", "true");
    // Nothing else shows a quota.
    client.set("statistics.interval.ms", STATISTICS_EVERY.as_millis().to_string());
    // By the time that an end took it is known whether it was asked for twice.
    let backoff = RETRY_BACKOFF.as_millis().to_string();
    client.set("retry.backoff.ms", &backoff);
    client.set("retry.backoff.max.ms", &backoff);
    // More than five would let retries overtake one another.
    client.set("max.in.flight.requests.per.connection", "5");
    client.set("partitioner", "murmur2_random");
    // What transactions commit needs no report of a record that was written.
    client.set("delivery.report.only.error", "true");
    client
}

/// The producer of the inbox: acknowledged by all replicas in sync, and given up when the peer is asked to come back.
///
/// Not idempotent: a record that is there twice is taken once, and one that a repeated request overtakes is marked, as if the
/// sender had been late. With idempotence librdkafka has five records of a partition under way, not five requests, and spins
/// while more wait (`rd_kafka_toppar_producer_serve`, rdkafka_broker.c); and an error of the sequence ends the producer.
pub(in crate::kafka) fn appender(config: &Config, secrets: &Secrets) -> ClientConfig {
    let mut client = tunable(config, secrets, Kind::Producer, &[("linger.ms", "0".to_owned())]);
    client.set("client.id", member_id(config));
    client.set("message.timeout.ms", config.webhook.answer_within.as_millis().to_string());
    client.set("acks", "all");
    client.set("enable.idempotence", "false");
    client.set("max.in.flight.requests.per.connection", "5");
    client
}

/// The client id of a node of a cluster; outside one, the relay's name.
fn member_id(config: &Config) -> String {
    let Config { name, cluster, .. } = config;
    if cluster.enabled { format!("{name}.{}", cluster.node) } else { name.clone() }
}

/// A member of the consumer group that shares the relay's shards: the classic protocol, so that a session of 6 s is allowed
/// everywhere (`group.min.session.timeout.ms`; KIP-848's own floor is 45 s), and dynamic members, so that one that leaves is
/// not waited for. `range` gives the same nodes the same shards, in the order of their client ids, whatever happened before:
/// after an outage of Kafka, which costs every member its assignment, each gets its own back. What it is assigned is read by
/// others.
pub(in crate::kafka) fn member(config: &Config, secrets: &Secrets) -> ClientConfig {
    let mut client = consumer(config, secrets, "read_committed");
    client.set("client.id", member_id(config));
    client.set("group.id", &config.name);
    client.set("group.protocol", "classic");
    client.set("partition.assignment.strategy", "range");
    client.set("session.timeout.ms", SESSION.as_millis().to_string());
    // A member learns of a change with its next heartbeat.
    client.set("heartbeat.interval.ms", "500");
    // A member whose thread is stuck holds up the whole group for no longer than this: the coordinator waits that time for one
    // that lives and does not join again (KIP-62). The thread serves it twenty times a second.
    client.set("max.poll.interval.ms", "20000");
    client
}

/// A consumer for partitions named by the caller; it joins no group and commits no offset.
pub(in crate::kafka) fn consumer(config: &Config, secrets: &Secrets, isolation: &str) -> ClientConfig {
    consumer_waiting(config, secrets, isolation, "100")
}

/// The same for a reader that knows where it ends. Behind the last record is a marker, which librdkafka passes only with the
/// next fetch, and a broker that has no more records answers that one after `fetch.wait.max.ms`.
pub(in crate::kafka) fn reader(config: &Config, secrets: &Secrets, isolation: &str) -> ClientConfig {
    consumer_waiting(config, secrets, isolation, "10")
}

fn consumer_waiting(config: &Config, secrets: &Secrets, isolation: &str, ms: &str) -> ClientConfig {
    let mut client = tunable(
        config,
        secrets,
        Kind::Consumer,
        &[
            // The defaults would let each partition queue 64 MiB.
            ("queued.max.messages.kbytes", "4096".to_owned()),
            ("fetch.wait.max.ms", ms.to_owned()),
        ],
    );
    // librdkafka assigns partitions only to a consumer with a group id; nothing is ever stored under it.
    client.set("group.id", format!("{}.read", config.name));
    client.set("enable.auto.commit", "false");
    client.set("enable.auto.offset.store", "false");
    client.set("isolation.level", isolation);
    // The leader alone: a follower that lags behind would show that a commit is missing (KIP-392).
    client.set("client.rack", "");
    // Records deleted while we read are no loss: they are older than the window.
    client.set("auto.offset.reset", "earliest");
    client.set("enable.partition.eof", "true");
    // The default of a second leaves a fast reader idle most of the time.
    client.set("fetch.queue.backoff.ms", "1");
    client
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]
    use super::*;
    use crate::provider::Environment;
    use rdkafka::ClientContext;
    use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
    use rdkafka::consumer::{BaseConsumer, ConsumerContext};
    use rdkafka::message::DeliveryResult;
    use rdkafka::producer::{BaseProducer, ProducerContext};
    use std::sync::Mutex;

    #[test]
    fn options_of_the_settings_win_over_what_may_be_tuned() {
        let secrets = Secrets::default();
        let made = |options: &[(&str, &str)]| {
            let mut config = Config::minimal(Environment::Devnet, "localhost:9092");
            config.kafka.options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let producer = producer(&config, &secrets, "t", Sizes::default(), &Tuning::default());
            (producer, consumer(&config, &secrets, "read_committed"))
        };
        let (producer, consumer) = made(&[]);
        assert_eq!((producer.get("linger.ms"), producer.get("socket.timeout.ms")), (Some("0"), Some("10000")));
        assert_eq!(consumer.get("fetch.wait.max.ms"), Some("100"));
        assert_eq!(consumer.get("client.rack"), Some(""), "the leader answers, never a follower that lags behind");
        let (producer, consumer) = made(&[
            ("linger.ms", "5"),
            ("socket.timeout.ms", "20000"),
            ("fetch.wait.max.ms", "7"),
            ("queued.max.messages.kbytes", "99"),
        ]);
        assert_eq!((producer.get("linger.ms"), producer.get("socket.timeout.ms")), (Some("5"), Some("20000")));
        assert_eq!(consumer.get("fetch.wait.max.ms"), Some("7"));
        assert_eq!(consumer.get("queued.max.messages.kbytes"), Some("99"));
        // Under its alias, and never twice.
        let (producer, _) = made(&[("queue.buffering.max.ms", "5")]);
        assert_eq!((producer.get("linger.ms"), producer.get("queue.buffering.max.ms")), (None, Some("5")));
    }

    /// What librdkafka logs while a client is created.
    #[derive(Clone, Default)]
    struct Lines(std::sync::Arc<Mutex<Vec<String>>>);

    impl ClientContext for Lines {
        fn log(&self, _: RDKafkaLogLevel, facility: &str, line: &str) {
            self.0.lock().unwrap().push(format!("{facility} {line}"));
        }
    }

    impl ConsumerContext for Lines {}

    impl ProducerContext for Lines {
        type DeliveryOpaque = ();

        fn delivery(&self, _: &DeliveryResult<'_>, (): Self::DeliveryOpaque) {}
    }

    fn warnings(settings: &ClientConfig, kind: Kind) -> Vec<String> {
        let lines = Lines::default();
        // Each poll takes one line off the client's queue.
        match kind {
            Kind::Producer => {
                let client = BaseProducer::from_config_and_context(settings, lines.clone()).unwrap();
                (0..9).for_each(|_| {
                    client.poll(Duration::ZERO);
                });
            }
            Kind::Consumer => {
                let client = BaseConsumer::from_config_and_context(settings, lines.clone()).unwrap();
                (0..9).for_each(|_| {
                    client.poll(Duration::ZERO);
                });
            }
        }
        let mut lines = lines.0.lock().unwrap().clone();
        lines.retain(|line| line.starts_with("CONFWARN"));
        lines
    }

    #[test]
    fn an_option_goes_to_the_clients_that_heed_it_and_none_is_warned_of() {
        let secrets = Secrets::default();
        let of = |names: &[&'static str]| -> Vec<(&'static str, &'static str)> {
            let value = |name| match name {
                "compression.codec" | "compression.type" => "lz4",
                "check.crcs" | "delivery.report.only.error" => "true",
                "partition.assignment.strategy" => "roundrobin",
                "session.timeout.ms" | "max.poll.interval.ms" => "45000",
                "fetch.max.bytes" => "60000000",
                "queue.buffering.backpressure.threshold" => "1",
                "compression.level" | "heartbeat.interval.ms" | "linger.ms" | "queue.buffering.max.ms" => "9",
                _ => "2000",
            };
            names.iter().map(|name| (*name, value(name))).collect()
        };
        for (name, value) in
            [of(&OF_PRODUCERS), of(&OF_CONSUMERS), vec![("client.dns.lookup", "use_all_dns_ips")]].concat()
        {
            let mut config = Config::minimal(Environment::Devnet, "127.0.0.1:1");
            config.kafka.options = vec![(name.to_owned(), value.to_owned())];
            let producer = producer(&config, &secrets, "t", Sizes::default(), &Tuning::default());
            let consumer = consumer(&config, &secrets, "read_committed");
            let base = base(&config, &secrets);
            let none: [String; 0] = [];
            for (client, kind) in [(&producer, Kind::Producer), (&base, Kind::Producer), (&consumer, Kind::Consumer)] {
                assert_eq!(warnings(client, kind), none, "{name}");
            }
            let heeded = [producer.get(name).is_some(), consumer.get(name).is_some()];
            assert!(heeded.contains(&true), "{name} reaches a client");
            // That it would be warned of in the other one is what the lists rest on.
            for (mut client, kind, heeded) in
                [(base.clone(), Kind::Producer, heeded[0]), (consumer, Kind::Consumer, heeded[1])]
            {
                client.set(name, value);
                assert_eq!(warnings(&client, kind).is_empty(), heeded, "{name} {kind:?}");
            }
        }
    }
}

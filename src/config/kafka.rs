//! The rules for `[kafka]`: topics, access, and which librdkafka properties a user may set.

use super::mistakes::Mistake;
use super::oauth::OAUTHBEARER;
use super::rules::{Rules, Side, is_name_byte};
use super::types::Via;
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;
use reqwest::Url;
use std::path::Path;

/// Kafka's own bound (`Topic.MAX_NAME_LENGTH`).
const TOPIC_CHARS_MAX: usize = 249;

const MECHANISMS: [&str; 4] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", OAUTHBEARER];

/// Why a librdkafka property is not the user's (names: librdkafka, `CONFIGURATION.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    /// It would put a secret into the file.
    Secret,
    /// It loads code, runs a command, or prints what must not be printed.
    Unsafe,
    /// Another setting of ours sets it.
    Setting(&'static str),
    /// A promise of the relay rests on its value.
    Owned,
}

/// Whole names.
#[rustfmt::skip]
const REFUSED: &[(&str, Refused)] = &[
    ("ssl.key.password", Refused::Secret), ("ssl.key.pem", Refused::Secret), ("ssl_key", Refused::Secret),
    ("ssl.keystore.password", Refused::Secret), ("https.ca.pem", Refused::Unsafe),
    ("plugin.library.paths", Refused::Unsafe), ("debug", Refused::Unsafe), ("ssl.engine.location", Refused::Unsafe),
    ("ssl.engine.id", Refused::Unsafe), ("ssl.providers", Refused::Unsafe), ("interceptors", Refused::Unsafe),
    ("opaque", Refused::Unsafe), ("default_topic_conf", Refused::Unsafe), ("ssl_engine_callback_data", Refused::Unsafe),
    ("bootstrap.servers", Refused::Setting("kafka.bootstrap_servers")),
    ("metadata.broker.list", Refused::Setting("kafka.bootstrap_servers")), ("client.id", Refused::Setting("name")),
    ("security.protocol", Refused::Setting("kafka.tls")), ("ssl.ca.location", Refused::Setting("kafka.ca_file")),
    ("ssl.ca.pem", Refused::Setting("kafka.ca_file")), ("ssl_ca", Refused::Setting("kafka.ca_file")),
    ("ssl.certificate.location", Refused::Setting("kafka.tls_cert_file")),
    ("ssl.certificate.pem", Refused::Setting("kafka.tls_cert_file")),
    ("ssl_certificate", Refused::Setting("kafka.tls_cert_file")),
    ("ssl.key.location", Refused::Setting("kafka.tls_key_file")),
    ("sasl.username", Refused::Setting("kafka.username")),
    ("sasl.mechanism", Refused::Setting("kafka.sasl_mechanism")),
    ("sasl.mechanisms", Refused::Setting("kafka.sasl_mechanism")),
    ("sasl.oauthbearer.token.endpoint.url", Refused::Setting("kafka.oauth_token_url")),
    ("sasl.oauthbearer.client.id", Refused::Setting("kafka.oauth_client_id")),
    ("sasl.oauthbearer.scope", Refused::Setting("kafka.oauth_scope")),
    ("sasl.oauthbearer.extensions", Refused::Setting("kafka.oauth_extensions")),
    ("acks", Refused::Owned), ("request.required.acks", Refused::Owned), ("request.timeout.ms", Refused::Owned),
    ("enable.idempotence", Refused::Owned), ("enable.gapless.guarantee", Refused::Owned),
    ("transactional.id", Refused::Owned), ("transaction.timeout.ms", Refused::Owned),
    ("retry.backoff.ms", Refused::Owned), ("retry.backoff.max.ms", Refused::Owned),
    ("message.timeout.ms", Refused::Owned), ("delivery.timeout.ms", Refused::Owned),
    ("max.in.flight", Refused::Owned), ("max.in.flight.requests.per.connection", Refused::Owned),
    ("retries", Refused::Owned), ("message.send.max.retries", Refused::Owned), ("partitioner", Refused::Owned),
    ("batch.size", Refused::Owned), ("message.max.bytes", Refused::Owned), ("batch.num.messages", Refused::Owned),
    ("queue.buffering.max.messages", Refused::Owned), ("queue.buffering.max.kbytes", Refused::Owned),
    ("queuing.strategy", Refused::Owned), ("delivery.report.only.error", Refused::Owned), ("dr_cb", Refused::Owned),
    ("isolation.level", Refused::Owned), ("enable.auto.commit", Refused::Owned), ("auto.commit.enable", Refused::Owned),
    ("auto.commit.interval.ms", Refused::Owned), ("enable.auto.offset.store", Refused::Owned),
    ("auto.offset.reset", Refused::Owned), ("enable.partition.eof", Refused::Owned), ("check.crcs", Refused::Owned),
    ("fetch.queue.backoff.ms", Refused::Owned), ("client.rack", Refused::Owned), ("allow.auto.create.topics", Refused::Owned),
    ("topic.blacklist", Refused::Owned), ("enabled_events", Refused::Owned), ("log.queue", Refused::Owned),
    ("log_level", Refused::Setting("log.level")), ("enable.random.seed", Refused::Owned),
    ("statistics.interval.ms", Refused::Owned), ("builtin.features", Refused::Owned), ("produce.offset.report", Refused::Owned),
];

/// Beginnings and endings of names. All of `sasl.` alongside the above: Kerberos runs a command, OAuth takes secrets.
const REFUSED_BEGINNINGS: [(&str, Refused); 4] = [
    ("sasl.", Refused::Unsafe),
    ("group.", Refused::Owned),
    ("test.", Refused::Owned),
    ("ssl.keystore.", Refused::Secret),
];
const REFUSED_ENDINGS: [(&str, Refused); 4] =
    [(".password", Refused::Secret), (".secret", Refused::Secret), ("_cb", Refused::Owned), ("_conf", Refused::Owned)];

impl Rules<'_> {
    /// Every rule of `[kafka]`.
    pub(super) fn kafka(&mut self) {
        self.servers();
        self.topics();
        self.access();
        self.registry();
        self.options();
    }

    fn servers(&mut self) {
        let legal = self.config.kafka.bootstrap_servers.split(',').all(|server| is_server(server.trim()));
        let remedy = r#"write host:port without a scheme, with commas between: "kafka-1:9092,kafka-2:9092""#;
        self.demand(legal, &["kafka.bootstrap_servers"], "is not a list of brokers", remedy);
    }

    fn topics(&mut self) {
        let kafka = &self.config.kafka;
        let characters = "use 1 to 249 of the characters a-z A-Z 0-9 . _ -";
        let prefix = is_topic(&kafka.topic_prefix) && kafka.topic_prefix.len() <= TOPIC_CHARS_MAX / 2;
        self.demand(prefix, &["kafka.topic_prefix"], "cannot begin a topic name", characters);
        let off_allowed = true;
        let required = false;
        let topics = [
            ("kafka.topics.orders", &kafka.topics.orders, required),
            ("kafka.topics.orders_latest", &kafka.topics.orders_latest, off_allowed),
            ("kafka.topics.invoices", &kafka.topics.invoices, off_allowed),
            ("kafka.topics.dead_letter", &kafka.topics.dead_letter, required),
            ("kafka.topics.control", &kafka.topics.control, required),
            ("kafka.topics.inbox", &kafka.topics.inbox, self.config.webhook.via == Via::Direct),
        ];
        for (position, (key, name, may_be_off)) in topics.into_iter().enumerate() {
            if name.is_empty() {
                self.demand(may_be_off, &[key], "is empty, and the relay cannot do without this topic", characters);
                continue;
            }
            // A wrong prefix is reported once, not once a topic.
            let prefix = Side {
                key: "kafka.topic_prefix",
                what: "makes a name that is not a valid topic name",
                remedy: characters,
            };
            let own = Side { key, what: "is not a valid topic name", remedy: characters };
            self.demand_of_two(is_topic(name), [own, prefix]);
            for (other_key, other, _) in topics.into_iter().take(position) {
                let remedy = "give each topic a name of its own (Kafka takes . and _ for the same)";
                let same_as = |key| format!("is the same topic for Kafka as {key}");
                let what = same_as(other_key);
                let other_what = same_as(key);
                self.demand_of_two(
                    !collide(name, other),
                    [Side { key, what: &what, remedy }, Side { key: other_key, what: &other_what, remedy }],
                );
            }
        }
    }

    fn access(&mut self) {
        let kafka = &self.config.kafka;
        let mechanism = kafka.sasl_mechanism.as_deref();
        let known = mechanism.is_none_or(|mechanism| MECHANISMS.contains(&mechanism));
        let remedy = "use PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER";
        self.demand(known, &["kafka.sasl_mechanism"], "is not a mechanism that the relay supports", remedy);
        if mechanism != Some(OAUTHBEARER) {
            let together = mechanism.is_some() == kafka.username.is_some();
            let remedy = "set kafka.username and kafka.sasl_mechanism, or neither";
            self.demand(together, &["kafka.username", "kafka.sasl_mechanism"], "is set without the other", remedy);
        }
        self.oauth();
        let lonely = self.config.secret_files.kafka_password.is_some() && kafka.username.is_none();
        let remedy = "set kafka.username too, or leave it out";
        self.demand(!lonely, &["kafka.password_file", "kafka.username"], "is set without kafka.username", remedy);
        let used = kafka.tls || kafka.ca_file.is_none();
        self.demand(used, &["kafka.ca_file", "kafka.tls"], "has no effect without TLS", "set kafka.tls = true");
        self.readable("kafka.ca_file", kafka.ca_file.as_deref().map(Path::new));
        self.client_certificate();
        if mechanism == Some("PLAIN") && !kafka.tls {
            self.findings.warn("kafka.sasl_mechanism PLAIN without kafka.tls sends the password in clear");
        }
    }

    fn registry(&mut self) {
        const KEY: &str = "kafka.schema_registry_url";
        let Some(text) = &self.config.kafka.schema_registry_url else { return };
        let url = Url::parse(text).ok().filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host());
        self.demand(url.is_some(), &[KEY], "is not a valid address", "write https://HOST:PORT and a path, if any");
        let bare = url.as_ref().is_none_or(|url| {
            url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none()
        });
        let remedy = "remove them; the relay sends no credentials to a registry";
        self.demand(bare, &[KEY], "holds credentials, a query or a fragment", remedy);
    }

    /// Its files are read with the secrets.
    fn client_certificate(&mut self) {
        let kafka = &self.config.kafka;
        let (chain, key) = (kafka.tls_cert_file.is_some(), kafka.tls_key_file.is_some());
        let remedy = "set kafka.tls_cert_file and kafka.tls_key_file, or neither";
        self.demand(chain == key, &["kafka.tls_cert_file", "kafka.tls_key_file"], "is set without the other", remedy);
        let used = kafka.tls || !(chain && key);
        self.demand(used, &["kafka.tls_cert_file", "kafka.tls"], "has no effect without TLS", "set kafka.tls = true");
        let lonely = self.config.secret_files.kafka_key_password.is_some() && !key;
        let remedy = "set kafka.tls_key_file too, or leave it out";
        self.demand(
            !lonely,
            &["kafka.tls_key_password_file", "kafka.tls_key_file"],
            "is set without kafka.tls_key_file",
            remedy,
        );
    }

    fn options(&mut self) {
        let config = self.config;
        for (name, value) in &config.kafka.options {
            let key = format!("kafka.options.{name}");
            let Some((what, remedy)) = judge(name, value) else { continue };
            let own = self.written.origins.get(&key).cloned();
            let origin = own.unwrap_or_else(|| self.written.origin("kafka.options"));
            self.findings.mistake(Mistake::new(origin, key, what, remedy));
        }
        let off = |name: &str, value: &str| config.kafka.options.iter().any(|(n, v)| n == name && v == value);
        if off("enable.ssl.certificate.verification", "false") || off("ssl.endpoint.identification.algorithm", "none") {
            self.findings
                .warn("kafka.options turn off the check of the brokers' certificates: anybody between can read along");
        }
    }
}

/// What is wrong with a property, and the remedy.
fn judge(name: &str, value: &str) -> Option<(String, String)> {
    match refused(name) {
        Some(Refused::Secret) => {
            let remedy = "remove it; a client key is named by kafka.tls_key_file";
            Some(("is a secret, and secrets are never in the settings".into(), remedy.into()))
        }
        Some(Refused::Unsafe) => {
            let what = "can load code, run commands or print secrets, or is not supported";
            Some((what.into(), "remove it".into()))
        }
        Some(Refused::Setting(setting)) => Some(("has a setting of its own".into(), format!("use {setting}"))),
        Some(Refused::Owned) => Some(("is the relay's own: its promises rest on the value".into(), "remove it".into())),
        None => match ClientConfig::new().set(name, value).create_native_config() {
            Ok(_) => None,
            // librdkafka's words quote the value; ours do not.
            Err(KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..)) => {
                let remedy = "see librdkafka's CONFIGURATION.md for the names";
                Some(("is not a property of librdkafka".into(), remedy.into()))
            }
            Err(_) => {
                let remedy = "see librdkafka's CONFIGURATION.md for its range";
                Some(("has a value that librdkafka refuses".into(), remedy.into()))
            }
        },
    }
}

fn refused(name: &str) -> Option<Refused> {
    let whole = REFUSED.iter().find(|(known, _)| *known == name);
    let beginning = || REFUSED_BEGINNINGS.iter().find(|(beginning, _)| name.starts_with(beginning));
    let ending = || REFUSED_ENDINGS.iter().find(|(ending, _)| name.ends_with(ending));
    whole.or_else(ending).or_else(beginning).map(|(_, refused)| *refused)
}

fn is_topic(name: &str) -> bool {
    !name.is_empty() && name.len() <= TOPIC_CHARS_MAX && name != "." && name != ".." && name.bytes().all(is_name_byte)
}

/// Kafka refuses to create two topics whose names differ only in `.` and `_`: their metrics would be one.
fn collide(one: &str, other: &str) -> bool {
    one.replace('.', "_") == other.replace('.', "_")
}

fn is_server(server: &str) -> bool {
    let (host, port) = match server.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) if address.parse::<std::net::Ipv6Addr>().is_ok() => ("v6", rest.strip_prefix(':')),
        Some(_) => return false,
        None => server.rsplit_once(':').map_or((server, None), |(host, port)| (host, Some(port))),
    };
    let port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    !host.is_empty() && port && host.bytes().all(is_name_byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_relay_owns_and_what_is_unsafe_is_refused() {
        fn check(name: &str, expected: Option<Refused>) {
            assert_eq!(refused(name), expected, "{name}");
        }
        check("acks", Some(Refused::Owned));
        check("transactional.id", Some(Refused::Owned));
        check("isolation.level", Some(Refused::Owned));
        check("partitioner", Some(Refused::Owned));
        check("group.instance.id", Some(Refused::Owned));
        check("plugin.library.paths", Some(Refused::Unsafe));
        check("debug", Some(Refused::Unsafe));
        check("sasl.kerberos.kinit.cmd", Some(Refused::Unsafe));
        check("sasl.password", Some(Refused::Secret));
        check("sasl.oauthbearer.client.secret", Some(Refused::Secret));
        check("ssl.key.password", Some(Refused::Secret));
        check("sasl.username", Some(Refused::Setting("kafka.username")));
        check("linger.ms", None);
        check("ssl.certificate.location", Some(Refused::Setting("kafka.tls_cert_file")));
        check("ssl.key.location", Some(Refused::Setting("kafka.tls_key_file")));
        check("compression.type", None);
    }

    #[test]
    fn the_rest_is_validated_by_librdkafka_itself() {
        assert_eq!(judge("linger.ms", "5"), None);
        assert!(judge("linger.ms", "soon").is_some_and(|(what, _)| what.contains("refuses")));
        assert!(judge("lingering.ms", "5").is_some_and(|(what, _)| what.contains("not a property")));
        assert!(judge("", "").is_some());
    }

    #[test]
    fn servers_are_host_and_port() {
        for (server, legal) in [
            ("localhost:9092", true),
            ("kafka-1.example.com", true),
            ("[::1]:9092", true),
            ("10.0.0.1:9092", true),
            ("", false),
            (":9092", false),
            ("host:0", false),
            ("host:99999", false),
            ("SASL_SSL://host:9092", false),
            ("[::1:9092", false),
            ("user:secret@host:9092", false),
        ] {
            assert_eq!(is_server(server), legal, "{server}");
        }
    }

    #[test]
    fn topic_names_are_kafkas() {
        assert!(is_topic("pepay.orders") && is_topic(&"x".repeat(249)));
        assert!(!is_topic("") && !is_topic("..") && !is_topic("a/b") && !is_topic(&"x".repeat(250)));
        assert!(collide("a.b", "a_b") && !collide("a.b", "a-b"));
    }
}

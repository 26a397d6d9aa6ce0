//! The settings as a user meets them: files with mistakes, the environment, secrets, reloads, the example file.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod accounts;
mod example;
mod oauth;
mod rules;
mod secrets;

use super::*;
use crate::provider::Environment;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

const REQUIRED: &str = "provider.environment = 'devnet'\nkafka.bootstrap_servers = 'localhost:9092'\n";
const API_KEY: (&str, &str) = ("PEPAY_RELAY_API_KEY", "pk_test_1");
const WEBHOOK_SECRETS: (&str, &str) = ("PEPAY_RELAY_WEBHOOK_SECRETS", "newest,older");

/// Sources of one test: a settings file `relay.toml` and an environment.
struct Case {
    folder: TempDir,
    sources: Sources,
}

impl Case {
    fn new(text: &str, env: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("relay.toml");
        fs::write(&file, text).unwrap();
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
        Self { folder, sources: Sources { file: Some(file), env, ..Sources::default() } }
    }

    fn with_secrets(text: &str) -> Self {
        Self::new(text, &[API_KEY, WEBHOOK_SECRETS])
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Mistakes as they are shown, with the test's folder taken out.
    fn told(&self, mistakes: &Mistakes) -> String {
        mistakes.to_string().replace(&format!("{}/", self.folder.path().display()), "")
    }
}

/// The file's mistakes, one a line, without heading.
fn mistakes(text: &str, env: &[(&str, &str)]) -> String {
    let case = Case::new(text, env);
    match settings(&case.sources) {
        Ok(_) => String::new(),
        Err(mistakes) => case.told(&mistakes).lines().skip(1).map(str::trim).collect::<Vec<_>>().join("\n"),
    }
}

/// With the required keys on lines 1 and 2, `line` on line 3 gives exactly one mistake, which begins so.
#[track_caller]
fn check(line: &str, expected: &str) {
    let told = mistakes(&format!("{REQUIRED}{line}\n"), &[]);
    assert_eq!(told.lines().count(), usize::from(!expected.is_empty()), "{line}\n{told}");
    assert!(told.starts_with(expected), "{line}\n{told}\nexpected {expected}");
}

#[test]
fn six_mistakes_are_reported_at_once_each_with_its_line() {
    let text = r#"
name = "shop/1"
[provider]
environment = "devnet"
api_url = "http://api.example.com"
[websocket]
ping_intervall = "20s"
idle_timeout = 60
[intake]
bytes_max = "lots"
[kafka]
bootstrap_servers = "localhost:9092"
options = { acks = "1" }
"#;
    insta::assert_snapshot!(mistakes(text, &[]), @r#"
    relay.toml:2: name: cannot be used as a transactional id; use 1 to 200 of the characters a-z A-Z 0-9 . _ -
    relay.toml:5: provider.api_url: would send the API key in clear; use https://, or a loopback host
    relay.toml:7: websocket.ping_intervall: is not a setting; did you mean websocket.ping_interval?
    relay.toml:8: websocket.idle_timeout: is not a duration; write it as "500ms", "30s", "5m" or "72h", in quotes
    relay.toml:10: intake.bytes_max: is not a size; write it as "512KiB" or "64MiB", in quotes
    relay.toml:13: kafka.options.acks: is the relay's own: its promises rest on the value; remove it
    "#);
}

#[test]
fn every_default_is_readable() {
    for setting in SETTINGS {
        let (DefaultValue::Is(text) | DefaultValue::Follows { usual: text, .. }) = setting.default else { continue };
        let mut config = types::blank();
        assert_eq!((setting.read)(&mut config, &written::raw_of_default(text)), Ok(()), "{}", setting.key);
        let minimal = Config::minimal(Environment::Devnet, "localhost:9092");
        assert_eq!(setting.show(&config), setting.show(&minimal), "{}", setting.key);
    }
}

#[test]
fn keys_and_variables_are_unique() {
    let keys: BTreeSet<_> = SETTINGS.iter().map(|setting| setting.key).collect();
    let variables: BTreeSet<_> = SETTINGS.iter().map(Setting::variable).collect();
    assert_eq!((keys.len(), variables.len()), (SETTINGS.len(), SETTINGS.len()));
}

#[test]
fn the_required_keys_alone_give_every_default() {
    let case = Case::with_secrets(REQUIRED);
    let loaded = load(&case.sources).unwrap();
    assert_eq!(loaded.config, Config::minimal(Environment::Devnet, "localhost:9092"));
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.config.provider.websocket_url, "wss://api-beta.pepay.io/ws/commerce/events");
    assert_eq!(loaded.config.kafka.topics.orders_latest, "pepay.orders.latest");
    assert_eq!(loaded.config.webhook.answer_within, Duration::from_secs(8));
    assert_eq!(loaded.config.intake.bytes_max, 64 << 20);
}

#[test]
fn without_a_file_the_environment_must_set_what_is_required() {
    let sources = Sources::default();
    insta::assert_snapshot!(settings(&sources).unwrap_err(), @r#"
    2 errors in the settings
      settings: provider.environment: is missing; set it in the file or as PEPAY_RELAY__PROVIDER__ENVIRONMENT to "devnet" or "mainnet"
      settings: kafka.bootstrap_servers: is missing; set it in the file or as PEPAY_RELAY__KAFKA__BOOTSTRAP_SERVERS to a text in quotes
    "#);
}

#[test]
fn a_file_that_is_named_must_be_there() {
    let sources = Sources { file: Some("/nonexistent/relay.toml".into()), ..Sources::default() };
    insta::assert_snapshot!(settings(&sources).unwrap_err(), @r#"
    1 error in the settings
      /nonexistent/relay.toml: cannot be read (there is no such file); name a readable TOML file with --config or PEPAY_RELAY_CONFIG
    "#);
}

#[test]
fn unknown_keys_and_wrong_types() {
    check("nmae = 'x'", "relay.toml:3: nmae: is not a setting; did you mean name?");
    check(
        "stream.bootstrap_servers = 'x'",
        "relay.toml:3: stream.bootstrap_servers: is not a setting; did you mean kafka",
    );
    check("[wholly.unlike]\nx = 1", "relay.toml:4: wholly.unlike.x: is not a setting; remove it");
    check("[empty]", "relay.toml:3: empty: is not a setting");
    check("webhook = true", "relay.toml:3: webhook: is a section; write it as [webhook]");
    check("[log.level]\nx = 1", "relay.toml:3: log.level: is not a text");
    check("[[admin]]", "relay.toml:3: admin: is a section");
    check("name = 1", "relay.toml:3: name: is not a text");
    check("websocket.enabled = 'yes'", "relay.toml:3: websocket.enabled: is not a flag");
    check("websocket.types = 'a'", "relay.toml:3: websocket.types: is not a list");
    check("websocket.types = [1]", "relay.toml:3: websocket.types: is not a list");
    check("dedup.ids_max = -1", "relay.toml:3: dedup.ids_max: is not a whole number");
    check("dedup.ids_max = 1e6", "relay.toml:3: dedup.ids_max: is not a whole number");
    check("dedup.ids_max = 1_000_000", "");
    check("admin.listen = 'localhost:1'", "relay.toml:3: admin.listen: is not an address");
    check("kafka.topics.orders = 2026-01-01", "relay.toml:3: kafka.topics.orders: is not a text");
}

#[test]
fn durations_and_sizes() {
    check("provider.timeout = '1m'", "");
    check("provider.timeout = 30", "relay.toml:3: provider.timeout: is not a duration");
    check("provider.timeout = '30'", "relay.toml:3: provider.timeout: is not a duration");
    check("provider.timeout = '2h'", r#"relay.toml:3: provider.timeout: is not between "1s" and "10m""#);
    check("intake.bytes_max = '1GiB'", "");
    check("intake.bytes_max = 1", "relay.toml:3: intake.bytes_max: is not a size");
    check("intake.bytes_max = '1KiB'", "relay.toml:3: intake.bytes_max: is not between");
    check("kafka.partitions = 0", "relay.toml:3: kafka.partitions: is not between 1 and 10000");
    check("kafka.replication_factor = 0", "relay.toml:3: kafka.replication_factor: is not between");
}

#[test]
fn broken_toml_does_not_hide_the_other_mistakes() {
    let text = "name = \n[websocket]\nidle_timeout = 5\nidle_timeout = 6\n";
    insta::assert_snapshot!(mistakes(text, &[]), @r#"
    relay.toml:1: is not TOML (string values must be quoted, expected literal string); see toml.io for how to write it
    relay.toml:3: websocket.idle_timeout: is not a duration; write it as "500ms", "30s", "5m" or "72h", in quotes
    relay.toml:4: is not TOML (duplicate key); see toml.io for how to write it
    "#);
}

#[test]
fn rules_over_addresses() {
    check("provider.api_url = 'http://localhost:8080/'", "");
    check("provider.api_url = 'http://127.0.0.1:1'", "");
    check("provider.api_url = 'http://[::1]:1'", "");
    check("provider.api_url = 'http://example.com'", "relay.toml:3: provider.api_url: would send the API key in clear");
    check("provider.api_url = 'http://localhost.example.com'", "relay.toml:3: provider.api_url: would send");
    check("provider.api_url = 'api.pepay.io'", "relay.toml:3: provider.api_url: is not a valid address");
    check("provider.api_url = 'wss://api.pepay.io'", "relay.toml:3: provider.api_url: is not a valid address");
    check("provider.api_url = 'https://u:p@x.io'", "relay.toml:3: provider.api_url: holds credentials");
    check("provider.websocket_url = 'wss://x.io/?token=1'", "relay.toml:3: provider.websocket_url: has a query");
    check("provider.websocket_url = 'ws://x.io/'", "relay.toml:3: provider.websocket_url: would send");
    check("admin.listen = '127.0.0.1:8787'", "relay.toml:3: admin.listen: is the webhook listener's");
}

#[test]
fn the_stream_follows_the_address_however_that_is_spelled() {
    let cases = [
        ("https://x.io", "wss://x.io/ws/commerce/events"),
        ("HTTPS://X.io", "wss://x.io/ws/commerce/events"),
        (" https://x.io ", "wss://x.io/ws/commerce/events"),
        ("https:x.io", "wss://x.io/ws/commerce/events"),
        ("https://x.io\\", "wss://x.io/ws/commerce/events"),
        ("https://x.io:80/a%20b// ", "wss://x.io:80/a%20b/ws/commerce/events"),
        ("Http://LOCALHOST:443", "ws://localhost:443/ws/commerce/events"),
        ("http://[::1]:1/", "ws://[::1]:1/ws/commerce/events"),
    ];
    for (api_url, websocket_url) in cases {
        let case = Case::with_secrets(&format!("{REQUIRED}provider.api_url = '{api_url}'\n"));
        assert_eq!(settings(&case.sources).unwrap().0.provider.websocket_url, websocket_url, "{api_url}");
    }
}

#[test]
fn rules_over_several_keys() {
    check("websocket.backoff_min = '1m'", "relay.toml:3: websocket.backoff_min: is more than websocket.backoff_max");
    check("websocket.backoff_max = '100ms'", "relay.toml:3: websocket.backoff_max: is not at least");
    check("websocket.ping_interval = '60s'", "relay.toml:3: websocket.ping_interval: is not shorter");
    check("websocket.types = []", "relay.toml:3: websocket.types: is not a list of at least one");
    check("webhook.path = 'pepay'", "relay.toml:3: webhook.path: is not a path");
    check("webhook.path = '/{any}'", "relay.toml:3: webhook.path: is not a path");
    check("webhook.tls_cert_file = '/dev/null'", "relay.toml:3: webhook.tls_cert_file: is set without the other");
    check("webhook.unverified_bytes_max = '512KiB'", "relay.toml:3: webhook.unverified_bytes_max: does not hold");
    check("webhook.answer_within = '21s'", "relay.toml:3: webhook.answer_within: is longer than shutdown");
    check("intake.bytes_max = '16MiB'", "relay.toml:3: intake.bytes_max: is too small");
    check("normalize = { drop = ['total'], include_raw = true }", "relay.toml:3: normalize.drop: is set together");
    check(
        "normalize.drop = ['shipping_adress']",
        "relay.toml:3: normalize.drop: names something that is not a member of the values; did you mean shipping_address?",
    );
    check("log.level = 'inof'", "relay.toml:3: log.level: is not a level");
    check("log.level = 'info,rdkafka=warn'", "");
    check("name = ''", "relay.toml:3: name: cannot be used");
}

#[test]
fn rules_over_kafka() {
    check("kafka.topics.orders = ''", "relay.toml:3: kafka.topics.orders: is empty");
    check("kafka.topics.invoices = ''", "");
    check("kafka.topics.orders = 'pepay.relay'", "relay.toml:3: kafka.topics.orders: is the same topic");
    check("kafka.topics.orders = 'pepay_relay'", "relay.toml:3: kafka.topics.orders: is the same topic");
    check("kafka.topics.orders = 'a b'", "relay.toml:3: kafka.topics.orders: is not a valid topic name");
    check("kafka.topic_prefix = ''", "relay.toml:3: kafka.topic_prefix: cannot begin");
    check("kafka.username = 'u'", "relay.toml:3: kafka.username: is set without the other");
    check("kafka.ca_file = '/dev/null'", "relay.toml:3: kafka.ca_file: has no effect");
    check("kafka.password_file = '/dev/null'", "relay.toml:3: kafka.password_file: is set without kafka.username");
    check(
        "kafka.username = 'u'\nkafka.sasl_mechanism = 'GSSAPI'",
        "relay.toml:4: kafka.sasl_mechanism: is not a mechanism",
    );
    check("kafka.options = { acks = 1 }", "relay.toml:3: kafka.options.acks: is the relay's own");
    check("[kafka.options]\n'linger.ms' = 5\ndebug = 'all'", "relay.toml:5: kafka.options.debug: can load");
    check("[kafka.options]\nlinger.ms = 5", "");
    check("kafka.options = { 'linger.ms' = [1] }", "relay.toml:3: kafka.options: is not a table");
    check("kafka.options = { 'sasl.password' = 'x' }", "relay.toml:3: kafka.options.sasl.password: is a secret");
}

#[test]
fn the_topic_prefix_is_put_before_the_defaults_only() {
    let case = Case::with_secrets(&format!("{REQUIRED}kafka.topic_prefix = 'shop'\nkafka.topics.control = 'mine'\n"));
    let topics = settings(&case.sources).unwrap().0.kafka.topics;
    assert_eq!((topics.orders.as_str(), topics.control.as_str()), ("shop.orders", "mine"));
    assert_eq!(topics.dead_letter, "shop.dead-letter");
}

#[test]
fn the_environment_overrides_every_kind_of_key() {
    let env = [
        ("PEPAY_RELAY__NAME", "other"),
        ("PEPAY_RELAY__WEBSOCKET__ENABLED", "false"),
        ("PEPAY_RELAY__WEBSOCKET__TYPES", "a.*, b.*"),
        ("PEPAY_RELAY__NORMALIZE__DROP", r#"["total", "items"]"#),
        ("PEPAY_RELAY__DEDUP__IDS_MAX", "5000"),
        ("PEPAY_RELAY__DEDUP__WINDOW", "1h"),
        ("PEPAY_RELAY__KAFKA__BOOTSTRAP_SERVERS", "a:1,b:2"),
        ("PEPAY_RELAY__KAFKA__OPTIONS", "linger.ms=5,client.dns.lookup=use_all_dns_ips"),
        ("PEPAY_RELAY__KAFKA__TOPICS__INVOICES", ""),
        ("PEPAY_RELAY__INTAKE__BYTES_MAX", "128MiB"),
        ("PEPAY_RELAY__PROVIDER__API_URL", "http://localhost:1"),
        ("PEPAY_RELAY_SERVICE_HOST", "10.0.0.1"),
    ];
    let case = Case::new(REQUIRED, &env);
    let (config, warnings) = settings(&case.sources).unwrap();
    assert_eq!(warnings, []);
    assert_eq!((config.name.as_str(), config.websocket.enabled, config.dedup.ids_max), ("other", false, 5_000));
    assert_eq!(config.websocket.types, ["a.*", "b.*"]);
    assert_eq!(config.normalize.drop, ["total", "items"]);
    assert_eq!(config.kafka.bootstrap_servers, "a:1,b:2");
    assert_eq!(
        config.kafka.options,
        [("linger.ms".into(), "5".into()), ("client.dns.lookup".into(), "use_all_dns_ips".into())]
    );
    assert_eq!(config.kafka.topics.invoices, "");
    assert_eq!(config.intake.bytes_max, 128 << 20);
    assert_eq!(config.provider.websocket_url, "ws://localhost:1/ws/commerce/events");
}

#[test]
fn a_mistake_of_the_environment_names_the_variable() {
    let env = [
        ("PEPAY_RELAY__WEBSOCKET__ENABLED", "yes"),
        ("PEPAY_RELAY__KAFKA__BOOTSTRAP_SERVER", "a:1"),
        ("PEPAY_RELAY__KAFKA__PASSWORD", "hunter2"),
        ("PEPAY_RELAY__DEDUP__WINDOW", "1"),
        ("PEPAY_RELAY__KAFKA__OPTIONS", "{ acks = 1"),
    ];
    insta::assert_snapshot!(mistakes(REQUIRED, &env), @r#"
    PEPAY_RELAY__DEDUP__WINDOW: dedup.window: is not a duration; write it as "500ms", "30s", "5m" or "72h", in quotes
    PEPAY_RELAY__KAFKA__BOOTSTRAP_SERVER: is not a setting; did you mean PEPAY_RELAY__KAFKA__BOOTSTRAP_SERVERS?
    PEPAY_RELAY__KAFKA__OPTIONS: kafka.options: is not a table of texts, numbers and flags; write it as { "linger.ms" = 5 }
    PEPAY_RELAY__KAFKA__PASSWORD: is a secret, not a setting; give it as PEPAY_RELAY_KAFKA_PASSWORD, in a file named by kafka.password_file, or as systemd credential kafka-password
    PEPAY_RELAY__WEBSOCKET__ENABLED: websocket.enabled: is not a flag; write it as true or false, without quotes
    "#);
}

#[test]
fn a_variable_that_misses_an_underscore_is_a_warning() {
    let env = [("PEPAY_RELAY_KAFKA_BOOTSTRAP_SERVERS", "a:1"), ("PEPAY_RELAY_APIKEY", "x"), ("PEPAY_RELAY_PORT", "1")];
    let (_, warnings) = settings(&Case::new(REQUIRED, &env).sources).unwrap();
    let told: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "PEPAY_RELAY_APIKEY is not read; did you mean PEPAY_RELAY_API_KEY?",
            "PEPAY_RELAY_KAFKA_BOOTSTRAP_SERVERS is not read; did you mean PEPAY_RELAY__KAFKA__BOOTSTRAP_SERVERS?",
        ]
    );
}

#[test]
fn a_flag_wins_over_the_environment() {
    let mut case = Case::new(REQUIRED, &[("PEPAY_RELAY__LOG__LEVEL", "warn")]);
    case.sources.flags = BTreeMap::from([("log.level", "debug".into())]);
    assert_eq!(settings(&case.sources).unwrap().0.log.level, "debug");
    case.sources.flags = BTreeMap::from([("log.level", "loud".into())]);
    let told = settings(&case.sources).unwrap_err().to_string();
    assert!(told.contains("--log-level: log.level: is not a level"), "{told}");
}

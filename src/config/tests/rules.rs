//! Rules that compare two keys: the key that is reported is the one that somebody wrote, in words that fit it.

use super::*;

/// Two keys with a value of each that breaks the rule against the other's default, and what is reported of each.
#[rustfmt::skip]
const PAIRS: [[(&str, &str, &str); 2]; 14] = [
    [("admin.listen", "'127.0.0.1:8787'", "is the webhook listener's address too"),
     ("webhook.listen", "'127.0.0.1:9464'", "is the admin listener's address too")],
    [("websocket.backoff_max", "'100ms'", "is not at least websocket.backoff_min"),
     ("websocket.backoff_min", "'40s'", "is more than websocket.backoff_max")],
    [("websocket.ping_interval", "'60s'", "is not shorter than websocket.idle_timeout"),
     ("websocket.idle_timeout", "'15s'", "is not longer than websocket.ping_interval")],
    [("webhook.unverified_bytes_max", "'512KiB'", "does not hold one body"),
     ("webhook.body_bytes_max", "'16385KiB'\nintake.bytes_max = '128MiB'", "is more than webhook.unverified_bytes_max")],
    [("webhook.answer_within", "'25s'", "is longer than shutdown.deadline"),
     ("shutdown.deadline", "'4s'", "is shorter than webhook.answer_within")],
    [("intake.bytes_max", "'16MiB'", "is too small for the largest delivery"),
     ("websocket.frame_bytes_max", "'17MiB'", "is more than a quarter of intake.bytes_max")],
    [("intake.bytes_max", "'3MiB'\nwebsocket.frame_bytes_max = '512KiB'", "is too small for the largest delivery"),
     ("webhook.body_bytes_max", "'17MiB'\nwebhook.unverified_bytes_max = '32MiB'", "is more than a quarter of intake.bytes_max")],
    [("webhook.health_path", "'/webhooks/pepay'", "is the path of the webhooks too"),
     ("webhook.path", "'/healthz'", "is webhook.health_path too")],
    [("kafka.topics.invoices", "'pepay.orders'", "is the same topic for Kafka as kafka.topics.orders"),
     ("kafka.topics.orders", "'pepay.invoices'", "is the same topic for Kafka as kafka.topics.invoices")],
    [("webhook.tls_cert_file", "'/dev/null'", "is set without the other"),
     ("webhook.tls_key_file", "'/dev/null'", "is set without the other")],
    [("kafka.username", "'me'", "is set without the other"),
     ("kafka.sasl_mechanism", "'PLAIN'", "is set without the other")],
    [("kafka.ca_file", "'/dev/null'", "has no effect without TLS"),
     ("kafka.password_file", "'/dev/null'", "is set without kafka.username")],
    [("kafka.tls_cert_file", "'/dev/null'", "is set without the other"),
     ("kafka.tls_key_file", "'/dev/null'", "is set without the other")],
    [("kafka.tls_key_password_file", "'/dev/null'", "is set without kafka.tls_key_file"),
     ("kafka.tls_cert_file", "'/dev/null'\nkafka.tls_key_file = '/dev/null'", "has no effect without TLS")],
];

#[test]
fn the_key_that_is_reported_is_the_one_that_was_written() {
    for (key, value, what) in PAIRS.into_iter().flatten() {
        check(&format!("{key} = {value}"), &format!("relay.toml:3: {key}: {what}"));
        let told = mistakes(&format!("{REQUIRED}{key} = {value}\n"), &[]);
        let sentence = told.split_once(&format!("{key}: ")).map_or("", |(_, sentence)| sentence);
        let before_remedy = sentence.split(';').next().unwrap_or_default();
        assert!(!before_remedy.split([' ', ',']).any(|word| word == key), "compared with itself: {told}");
    }
}

#[test]
fn where_both_were_written_the_first_is_reported_and_none_is_when_one_has_a_mistake_of_its_own() {
    let both = format!("{REQUIRED}shutdown.deadline = '4s'\nwebhook.answer_within = '6s'\n");
    let told = mistakes(&both, &[]);
    assert!(told.starts_with("relay.toml:4: webhook.answer_within: is longer than shutdown.deadline"), "{told}");
    let wrong = format!("{REQUIRED}shutdown.deadline = '4s'\nwebhook.answer_within = 6\n");
    let told = mistakes(&wrong, &[]);
    assert_eq!((told.lines().count(), told.contains("is not a duration")), (1, true), "{told}");
}

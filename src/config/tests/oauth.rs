//! Tokens and the registry: what has to be set together, and what would send a secret in clear.

use super::*;

/// The mistakes of these lines below the required ones and `OAUTHBEARER`, but for the build that does not have it.
fn told(lines: &str) -> Vec<String> {
    let text = format!("{REQUIRED}kafka.tls = true\nkafka.sasl_mechanism = 'OAUTHBEARER'\n{lines}\n");
    let told = mistakes(&text, &[]);
    let lines = told.lines().filter(|line| !line.contains("which this build does not have"));
    lines.map(str::to_owned).collect()
}

#[test]
fn tokens_need_an_address_and_a_client_and_no_user() {
    const WHOLE: &str = "kafka.oauth_token_url = 'https://x.io/token'\nkafka.oauth_client_id = 'me'\n";
    assert_eq!(told(WHOLE), <[&str; 0]>::default());
    assert_eq!(told("").len(), 2, "{:?}", told(""));
    for (line, what) in [
        ("kafka.username = 'me'", "relay.toml:7: kafka.username: is set alongside OAUTHBEARER, which has no user"),
        ("kafka.oauth_scope = 'a  b'", "relay.toml:7: kafka.oauth_scope: is not a scope"),
        ("kafka.oauth_extensions = 'a-b=c'", "relay.toml:7: kafka.oauth_extensions: is not a list of extensions"),
    ] {
        let found = told(&format!("{WHOLE}{line}"));
        assert!(found.len() == 1 && found[0].starts_with(what), "{line}: {found:?}");
    }
    for (url, what) in [
        ("http://x.io/token", "would send the client's secret in clear"),
        ("http://localhost:8080/token", ""),
        ("https://me:hush@x.io/token", "holds credentials or a fragment"),
        ("x.io/token", "is not a valid address"),
    ] {
        let found = told(&format!("kafka.oauth_client_id = 'me'\nkafka.oauth_token_url = '{url}'"));
        assert_eq!(found.len(), usize::from(!what.is_empty()), "{url}: {found:?}");
        assert!(found.iter().all(|told| told.contains(what) && !told.contains("hush")), "{url}: {found:?}");
    }
    let found = told("kafka.oauth_client_id = 'me:hush'\nkafka.oauth_token_url = 'https://x.io'");
    assert!(found.len() == 1 && found[0].contains("kafka.oauth_client_id: is not a client id"), "{found:?}");
}

#[test]
fn without_tokens_their_settings_are_of_no_use() {
    for line in [
        "kafka.oauth_token_url = 'https://x.io/token'",
        "kafka.oauth_client_id = 'me'",
        "kafka.oauth_scope = 'kafka'",
        "kafka.oauth_extensions = 'a=b'",
        "kafka.oauth_secret_file = '/dev/null'",
    ] {
        let key = line.split(' ').next().unwrap();
        check(line, &format!("relay.toml:3: {key}: has no effect without OAUTHBEARER"));
    }
}

#[test]
fn the_secret_of_a_client_is_demanded_and_is_another_client_to_kafka() {
    let text = format!(
        "{REQUIRED}kafka.sasl_mechanism = 'OAUTHBEARER'\nkafka.oauth_token_url = 'https://x.io'\nkafka.oauth_client_id = 'me'\n"
    );
    let case = Case::with_secrets(&text);
    let told = case.told(&load(&case.sources).unwrap_err());
    let what = "the secret of the OAuth client is missing; give it as PEPAY_RELAY_KAFKA_OAUTH_SECRET, in a file named by \
                kafka.oauth_secret_file, or as systemd credential kafka-oauth-secret";
    assert!(told.contains(what), "{told}");
    check("kafka.oauth_client_secret = 'hush'", "relay.toml:3: kafka.oauth_client_secret: is a secret");
    let mut config = Config::minimal(Environment::Devnet, "localhost:9092");
    config.kafka.oauth_client_id = Some("me".to_owned());
    let secrets_of = |secret: &str| {
        let mut sources = case.sources.clone();
        sources.env.insert("PEPAY_RELAY_KAFKA_OAUTH_SECRET".into(), secret.into());
        crate::config::secrets::secrets(&config, &sources).unwrap().0
    };
    let [first, same, other] = ["hush-1", "hush-1", "hush-2"].map(secrets_of);
    assert!(first.is_same_for_kafka(&same) && !first.is_same_for_kafka(&other));
    assert!(!format!("{first:?}").contains("hush"));
}

#[test]
fn a_registry_has_an_address_without_credentials() {
    check("kafka.schema_registry_url = 'http://registry:8081/apis/ccompat/v7'", "");
    for (url, what) in [
        ("registry:8081", "is not a valid address"),
        ("https://me:hush@registry", "holds credentials, a query or a fragment"),
        ("https://registry?a=b", "holds credentials, a query or a fragment"),
    ] {
        check(
            &format!("kafka.schema_registry_url = '{url}'"),
            &format!("relay.toml:3: kafka.schema_registry_url: {what}"),
        );
    }
}

//! Secrets: where each comes from, and that none is shown; and reloads, which read them again.

use super::*;
use crate::config::mistakes::Findings;
use crate::config::secrets::{read_api_key, read_webhook};
use crate::provider::Environment;
use secrecy::{ExposeSecret, SecretString};

fn api_key(config: &Config, sources: &Sources) -> Result<SecretString, Mistakes> {
    let mut findings = Findings::default();
    let key = read_api_key(config, sources, &mut findings);
    findings.warnings().map(|_| key)
}

#[test]
fn a_secret_in_the_file_is_a_mistake_and_is_not_shown() {
    for line in [
        "provider.api_key = 'hush-hush'",
        "webhook.secrets = ['hush-hush']",
        "webhook.secret = 'hush-hush'",
        "kafka.password = 'hush-hush'",
        "kafka.options = { 'ssl.key.password' = 'hush-hush' }",
        "provider.api_key_file = 'pk_live_hush-hush'",
        "kafka.username = 'sk_live_hush-hush'",
        "normalize.drop = ['whsec_hush-hush']",
        "'sk_live_hush-hush' = 1",
        "provider.api_url = 'https://me:hush-hush@x.io'",
        "kafka.bootstrap_servers2 = 'me:hush-hush@x.io'",
        "log.level = 'hush-hush'",
        "webhook.path = 'hush-hush'",
        "name = 'hush-hush' 'hush-hush'",
        "name = hush-hush",
        "name = 'hush-hush",
    ] {
        let told = mistakes(&format!("{REQUIRED}{line}\n"), &[]);
        assert!(!told.is_empty() && !told.contains("hush"), "{line}\n{told}");
    }
    check(
        "provider.api_key = 'x'",
        "relay.toml:3: provider.api_key: is a secret, and secrets are never in the file; give it as PEPAY_RELAY_API_KEY",
    );
}

#[test]
fn a_secret_comes_from_the_environment_then_the_file_then_the_credential() {
    let mut case = Case::new("", &[]);
    let files = ["from-file\n", "from-credential\n"];
    fs::write(case.path("key"), files[0]).unwrap();
    fs::write(case.path("api-key"), files[1]).unwrap();
    let mut config = Config::minimal(Environment::Devnet, "localhost:9092");
    config.secret_files.api_key = Some(case.path("key"));
    case.sources.credentials = Some(case.folder.path().to_owned());
    case.sources.env.insert("PEPAY_RELAY_API_KEY".into(), "from-environment".into());
    let key = |config: &Config, sources: &Sources| api_key(config, sources).unwrap().expose_secret().to_owned();
    assert_eq!(key(&config, &case.sources), "from-environment");
    case.sources.env.clear();
    assert_eq!(key(&config, &case.sources), "from-file");
    config.secret_files.api_key = None;
    assert_eq!(key(&config, &case.sources), "from-credential");
    case.sources.credentials = None;
    assert!(api_key(&config, &case.sources).is_err());
}

#[test]
fn webhook_secrets_are_separated_by_commas_or_lines() {
    for text in ["new,old", "new\nold\n", " new ,\r\nold\r\n", "new, old,"] {
        let case = Case::new("", &[("PEPAY_RELAY_WEBHOOK_SECRETS", text)]);
        let config = Config::minimal(Environment::Devnet, "localhost:9092");
        let mut findings = Findings::default();
        let secrets = read_webhook(&config, &case.sources, &mut findings);
        findings.warnings().unwrap();
        let secrets: Vec<_> = secrets.iter().map(ExposeSecret::expose_secret).collect();
        assert_eq!(secrets, ["new", "old"], "{text:?}");
    }
}

/// What was put where the name of its file belongs is refused without being shown, whatever it looks like.
#[test]
fn a_secret_in_the_place_of_its_files_name_is_not_shown() {
    for key in [
        "provider.api_key_file",
        "webhook.secrets_file",
        "kafka.password_file",
        "kafka.tls_key_password_file",
        "kafka.oauth_secret_file",
    ] {
        for secret in ["hush-hush", "ck_live_hush-hush", "hush/hush", "./hush-hush", "../hush-hush", "aHVzaA=="] {
            // What begins as a key does is recognized before.
            let what = if secret.starts_with("ck_") {
                "holds something that looks like a secret"
            } else {
                "is not the absolute path of a file"
            };
            let expected = format!("relay.toml:3: {key}: {what}");
            check(&format!("{key} = '{secret}'"), &expected);
            let variable = format!("PEPAY_RELAY__{}", key.replace('.', "__").to_uppercase());
            let told = mistakes(REQUIRED, &[(&variable, secret)]);
            assert!(told.contains(what) && !told.contains(secret), "{told}");
        }
    }
}

/// What editors, shells and `docker --env-file` put around a secret would make a wrong key of a right one.
#[test]
fn a_secret_is_not_wrapped_in_anything() {
    for (wrapped, what) in [
        ("\u{feff}hush-hush", "behind a byte order mark"),
        ("\"hush-hush\"", "in quotes"),
        ("'hush-hush'\n", "in quotes"),
        (" hush-hush", "white space"),
        ("hush-hush\t\r\n", "white space"),
    ] {
        let is_list = what == "white space";
        for (variable, file, credential, list) in [
            ("PEPAY_RELAY_API_KEY", "provider.api_key_file", "api-key", false),
            ("PEPAY_RELAY_WEBHOOK_SECRETS", "webhook.secrets_file", "webhook-secrets", true),
        ] {
            let mut by_variable = Case::new(REQUIRED, &[(variable, wrapped)]);
            let mut by_file = Case::new(REQUIRED, &[]);
            fs::write(by_file.path(credential), wrapped).unwrap();
            let text = format!("{REQUIRED}{file} = '{}'\n", by_file.path(credential).display());
            fs::write(by_file.path("relay.toml"), text).unwrap();
            let mut by_credential = Case::new(REQUIRED, &[]);
            fs::write(by_credential.path(credential), wrapped).unwrap();
            by_credential.sources.credentials = Some(by_credential.folder.path().to_owned());
            for case in [&mut by_variable, &mut by_file, &mut by_credential] {
                let told = load(&case.sources).unwrap_err().to_string();
                assert!(!told.contains("hush"), "{told}");
                assert_eq!(told.contains(what), !(list && is_list), "{variable} {wrapped:?}: {told}");
            }
        }
    }
    for list in ["\"new\",\"old\"", "new,'old'", "new\n\u{feff}old", "\"new,old\""] {
        let case = Case::new(REQUIRED, &[API_KEY, ("PEPAY_RELAY_WEBHOOK_SECRETS", list)]);
        assert_eq!(load(&case.sources).unwrap_err().iter().count(), 1, "{list:?}");
    }
}

#[test]
fn missing_and_empty_secrets_are_reported_alongside_mistakes_of_the_settings() {
    let text = format!("{REQUIRED}kafka = {{ username = 'u', sasl_mechanism = 'PLAIN' }}\nname = 1\n");
    let text =
        text.replace("kafka.bootstrap_servers = 'localhost:9092'\nkafka = {", "kafka = { bootstrap_servers = 'a',");
    let case = Case::new(&text, &[("PEPAY_RELAY_WEBHOOK_SECRETS", " , "), ("PEPAY_RELAY_API_KEY", "")]);
    insta::assert_snapshot!(case.told(&load(&case.sources).unwrap_err()), @r#"
    4 errors in the settings
      relay.toml:3: name: is not a text; write it as a text in quotes
      PEPAY_RELAY_API_KEY: provider.api_key_file: is empty and should hold the commerce API key; give it as PEPAY_RELAY_API_KEY, in a file named by provider.api_key_file, or as systemd credential api-key
      PEPAY_RELAY_WEBHOOK_SECRETS: webhook.secrets_file: holds only separators and no webhook secret; give it as PEPAY_RELAY_WEBHOOK_SECRETS, in a file named by webhook.secrets_file, or as systemd credential webhook-secrets
      settings: the Kafka password is missing; give it as PEPAY_RELAY_KAFKA_PASSWORD, in a file named by kafka.password_file, or as systemd credential kafka-password
    "#);
}

#[test]
fn only_the_secrets_that_are_needed_are_demanded() {
    let text = format!("{REQUIRED}webhook.enabled = false\n");
    let case = Case::new(&text, &[API_KEY]);
    let secrets = load(&case.sources).unwrap().secrets;
    assert_eq!((secrets.accounts[0].webhook.len(), secrets.kafka_password.is_none()), (0, true));
    assert!(!format!("{secrets:?}").contains("pk_test"));
}

#[test]
fn bad_secret_files_are_reported_without_their_content() {
    fn check(content: &[u8], expected: &str) {
        let case = Case::with_secrets("");
        let mut config = Config::minimal(Environment::Devnet, "localhost:9092");
        config.secret_files.api_key = Some(case.path("key"));
        fs::write(case.path("key"), content).unwrap();
        let told = case.told(&api_key(&config, &Sources::default()).unwrap_err());
        assert!(told.contains(expected) && !told.contains("hush"), "{told}");
    }
    check(b"\n", "key: provider.api_key_file: is empty and should hold the commerce API key");
    check(b"hush hush\n", "a character that no header can carry");
    check(b"hush\xff", "cannot be read for the commerce API key (not UTF-8 text)");
    check(&[b'x'; 100_000], "larger than 64 KiB");
}

#[test]
fn a_secret_file_that_every_user_can_read_is_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let case = Case::with_secrets(REQUIRED);
    let mut config = Config::minimal(Environment::Devnet, "localhost:9092");
    config.secret_files.api_key = Some(case.path("key"));
    fs::write(case.path("key"), "k").unwrap();
    let mut sources = case.sources.clone();
    sources.env.remove("PEPAY_RELAY_API_KEY");
    for (mode, expected) in [(0o644, 1), (0o640, 0)] {
        fs::set_permissions(case.path("key"), fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(secrets(&config, &sources).unwrap().1.len(), expected, "{mode:o}");
    }
}

#[test]
fn a_reload_takes_secrets_and_the_log_level_and_names_the_rest() {
    let case = Case::new(&format!("{REQUIRED}provider.api_key_file = 'KEY'\n"), &[WEBHOOK_SECRETS]);
    let key = case.path("key");
    fs::write(&key, "first").unwrap();
    let write = |more: &str| {
        let text = format!("{REQUIRED}provider.api_key_file = '{}'\n{more}", key.display());
        fs::write(case.sources.file.as_ref().unwrap(), text).unwrap();
    };
    write("");
    let running = load(&case.sources).unwrap().config;
    fs::write(&key, "second").unwrap();
    write("log.level = 'debug'\nkafka.topic_prefix = 'shop'\ndedup.window = '1h'\n");
    let reloaded = reload(&running, &case.sources).unwrap();
    assert_eq!(reloaded.secrets.accounts[0].api_key.expose_secret(), "second");
    assert_eq!(reloaded.config.log.level, "debug");
    assert_eq!(reloaded.config.dedup, running.dedup);
    assert_eq!(reloaded.waiting[..3], ["dedup.window", "kafka.topic_prefix", "kafka.topics.orders"]);
    assert_eq!(changed_keys(&running, &reloaded.config), ["log.level"]);
    write("log.level = 'loud'\n");
    assert_eq!(reload(&running, &case.sources).unwrap_err().iter().len(), 1);
}

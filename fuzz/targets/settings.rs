//! A settings file, and behind its first NUL the environment, a variable a line: accepted, or refused with what is
//! wrong.

#![no_main]

use pepay_relay::config::{Config, Mistakes, SETTINGS, Sources, settings};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::LazyLock;

/// The file that is read, one a process: several may run at once.
static FILE: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("pepay-relay-fuzz-{}.toml", std::process::id())));

fn load(text: &[u8], env: BTreeMap<String, OsString>) -> Result<Config, Mistakes> {
    std::fs::write(&*FILE, text).expect("a folder for temporary files");
    settings(&Sources { file: Some(FILE.clone()), env, ..Sources::default() }).map(|(config, _)| config)
}

/// Comes before every file, so that some are accepted; the variables can override it.
const REQUIRED: &[u8] = b"provider.environment = 'devnet'\nkafka.bootstrap_servers = 'localhost:9092'\n";

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (text, env) = match bytes.iter().position(|byte| *byte == 0) {
        Some(end) => (&bytes[..end], variables(&bytes[end + 1..])),
        None => (bytes, BTreeMap::new()),
    };
    match load(&[REQUIRED, text].concat(), env.clone()) {
        Ok(config) => shown_and_read_again(&config),
        Err(mistakes) => told(&mistakes, &env),
    }
});

fn variables(bytes: &[u8]) -> BTreeMap<String, OsString> {
    let text = String::from_utf8_lossy(bytes);
    let named = text.lines().filter_map(|line| line.split_once('='));
    named.map(|(name, value)| (name.to_owned(), value.into())).collect()
}

/// What is shown of accepted settings are settings that are accepted, and the same.
fn shown_and_read_again(config: &Config) {
    let shown = SETTINGS.iter().map(|setting| (setting.key, setting.show(config)));
    let text: String =
        shown.filter(|(_, value)| !value.is_empty()).map(|(key, value)| format!("{key} = {value}\n")).collect();
    match load(text.as_bytes(), BTreeMap::new()) {
        Ok(again) => assert_eq!(&again, config, "{text}"),
        Err(mistakes) => panic!("{mistakes}\n{text}"),
    }
}

/// Each mistake names its place: a line of the file, a key, or a variable; on one line, without control characters.
fn told(mistakes: &Mistakes, env: &BTreeMap<String, OsString>) {
    assert!(mistakes.iter().len() > 0);
    let file = FILE.display().to_string();
    for mistake in mistakes.iter() {
        let shown = mistake.to_string();
        assert!(!shown.chars().any(char::is_control), "{shown:?}");
        let placed = mistake.line().is_some() || !mistake.key().is_empty();
        let whole_file = shown.starts_with(&format!("{file}: cannot be read"));
        assert!(placed || whole_file || (!env.is_empty() && !shown.starts_with(&file)), "{shown}");
        assert!(shown.contains("; "), "{shown} has no remedy");
    }
}

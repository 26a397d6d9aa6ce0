//! The example file and the table say the same.

use super::*;
use crate::config::table::find;
use crate::provider::Environment;
use std::path::Path;

/// The example file: every key of the table in its order, commented out (`#key = value`) unless it is required.
fn example() -> Vec<(String, String)> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/pepay-relay.toml");
    let mut section = String::new();
    let mut lines = Vec::new();
    for line in fs::read_to_string(file).unwrap().lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = format!("{name}.");
        } else if let Some((key, value)) =
            line.trim_start_matches('#').split_once(" = ").filter(|_| !line.starts_with("# "))
        {
            lines.push((format!("{section}{key}"), value.to_owned()));
        }
    }
    lines
}

#[test]
fn the_example_file_names_every_key_with_its_default() {
    let example = example();
    let keys: Vec<_> = example.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, SETTINGS.iter().map(|setting| setting.key).collect::<Vec<_>>());
    let mut text = String::new();
    for (key, value) in &example {
        match find(key).unwrap().default {
            // An example, which must be readable.
            DefaultValue::None => {
                let read = find(key).unwrap().read;
                assert_eq!(read(&mut types::blank(), &written::raw_of_default(value)), Ok(()), "{key}");
            }
            _ => text.push_str(&format!("{key} = {value}\n")),
        }
    }
    let case = Case::with_secrets(&text);
    let config = settings(&case.sources).unwrap_or_else(|mistakes| panic!("{mistakes}")).0;
    assert_eq!(config, Config::minimal(Environment::Devnet, "localhost:9092"));
}

#[test]
fn the_example_file_as_it_stands_is_valid_and_says_what_each_key_means() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/pepay-relay.toml");
    let text = fs::read_to_string(&file).unwrap();
    let config = settings(&Sources { file: Some(file), ..Sources::default() }).unwrap().0;
    assert_eq!(config, Config::minimal(Environment::Devnet, "localhost:9092"));
    let prose = text.lines().filter_map(|line| line.strip_prefix("# ")).collect::<Vec<_>>().join(" ");
    for setting in SETTINGS {
        assert!(prose.contains(setting.meaning), "{}: {}", setting.key, setting.meaning);
    }
}

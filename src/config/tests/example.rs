//! The example file, which `tests/house/documents.rs` writes from the table.

use super::*;
use crate::provider::Environment;
use std::path::Path;

#[test]
fn the_example_file_as_it_is_gives_every_default() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/pepay-relay.toml");
    let config = settings(&Sources { file: Some(file), ..Sources::default() }).unwrap().0;
    assert_eq!(config, Config::minimal(Environment::Devnet, "localhost:9092"));
}

#[test]
fn the_example_of_a_setting_without_a_default_is_readable() {
    for setting in SETTINGS {
        if let DefaultValue::None(example) = setting.default {
            let read = (setting.read)(&mut types::blank(), &written::raw_of_default(example));
            assert_eq!(read, Ok(()), "{}", setting.key);
        }
    }
}

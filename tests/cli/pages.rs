//! Settings that documents and packaging hand out, judged as `check --offline` judges them.

use super::program;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The settings' file, with each file that it names made in `folder` instead of in `/etc/pepay-relay/`.
fn with_files(settings: &str, folder: &Path) -> String {
    let certificate = read("tests/fixtures/tls/localhost.cert.pem");
    let mut parts = settings.split("\"/etc/pepay-relay/");
    let mut text = parts.next().unwrap().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('"').unwrap();
        fs::write(folder.join(name), if name.contains("password") { "secret" } else { &certificate }).unwrap();
        // As a secret has to be: one that others can read is warned of.
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o600)).unwrap();
        text.push_str(&format!("{:?}{rest}", folder.join(name)));
    }
    text
}

/// What `check --offline` says of these settings, with its status.
fn judged(settings: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pepay-relay.toml");
    fs::write(&file, with_files(settings, folder.path())).unwrap();
    let secrets = [("PEPAY_RELAY_API_KEY", "key"), ("PEPAY_RELAY_WEBHOOK_SECRETS", "secret")];
    let output = program(&["--config", file.to_str().unwrap(), "check", "--offline"], &secrets).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn every_block_of_settings_for_a_kafka_is_one_that_the_relay_takes() {
    let page = read("docs/kafka.md");
    let blocks: Vec<&str> = page.split("```").filter_map(|block| block.strip_prefix("toml\n")).collect();
    // As many as there are headings, and a second one where there are two ways to log in.
    assert!(blocks.len() >= 10, "{}", blocks.len());
    for block in blocks {
        assert!(block.starts_with("[kafka]\n"), "{block}");
        let (status, said) = judged(&format!("[provider]\nenvironment = \"devnet\"\n{block}"));
        assert!(status == Some(0) && said.lines().count() == 1, "{status:?}: {said}{block}");
    }
    let (status, said) =
        judged("[provider]\nenvironment = \"devnet\"\n[kafka]\nbootstrap_servers = \"k\"\nuser = \"a\"");
    assert!(status == Some(78) && said.contains("kafka.user"), "{status:?}: {said}");
}

//! Settings that documents and packaging hand out, checked as `check --offline` checks them.

use super::program;
use pepay_relay::simulator;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The settings' file, with each file that it names made in `folder` instead of in `/etc/pepay-relay/`.
fn with_files(settings: &str, folder: &Path) -> String {
    let certificate = read("tests/fixtures/tls/localhost.cert.pem");
    let key = read("tests/fixtures/tls/localhost.key.pem");
    let mut parts = settings.split("\"/etc/pepay-relay/");
    let mut text = parts.next().unwrap().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('"').unwrap();
        let content = match name.rsplit('.').next() {
            _ if name.contains("password") || name.contains("secret") => "secret",
            Some("key") => &key,
            _ => &certificate,
        };
        fs::write(folder.join(name), content).unwrap();
        // As a secret has to be: one that others can read is warned of.
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o600)).unwrap();
        text.push_str(&format!("{:?}{rest}", folder.join(name)));
    }
    text
}

/// What `check --offline` prints about these settings, with its status.
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
        if block.contains("OAUTHBEARER") && !cfg!(feature = "oauth") {
            let what = "is OAUTHBEARER, which this build does not have";
            assert!(
                status == Some(78) && said.contains("1 error ") && said.contains(what),
                "{status:?}: {said}{block}"
            );
            continue;
        }
        assert!(status == Some(0) && said.lines().count() == 1, "{status:?}: {said}{block}");
    }
    let (status, said) =
        judged("[provider]\nenvironment = \"devnet\"\n[kafka]\nbootstrap_servers = \"k\"\nuser = \"a\"");
    assert!(status == Some(78) && said.contains("kafka.user"), "{status:?}: {said}");
}

/// The texts of a list, or the values of a table.
fn texts(value: &Value) -> Vec<&str> {
    let items = value.as_array().into_iter().flatten().chain(value.as_object().into_iter().flat_map(|t| t.values()));
    items.filter_map(Value::as_str).collect()
}

#[test]
fn the_compose_file_names_what_is_there_and_settings_that_the_relay_takes() {
    let file: Value = serde_yaml_ng::from_str(&read("packaging/compose.yaml")).unwrap();
    let services = file["services"].as_object().unwrap();
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
    let mut configs = BTreeSet::new();
    for (name, service) in services {
        for mounted in texts(&service["volumes"]) {
            let (here, there) = mounted.split_once(':').unwrap();
            assert!(packaging.join(here).is_file() && there.ends_with(":ro"), "{name}: {mounted}");
        }
        configs.extend(service["configs"].as_array().into_iter().flatten().filter_map(|one| one["source"].as_str()));
        let others = texts(&service["depends_on"]).into_iter();
        for other in others.chain(service["network_mode"].as_str().and_then(|mode| mode.strip_prefix("service:"))) {
            assert!(services.contains_key(other), "{name}: {other}");
        }
        // Nobody else's machine reaches it.
        assert!(texts(&service["ports"]).iter().all(|port| port.starts_with("127.0.0.1:")), "{name}");
    }
    assert_eq!(configs, file["configs"].as_object().unwrap().keys().map(String::as_str).collect());
    let Value::Object(build) = &services["relay"]["build"] else { panic!("no build") };
    let context = packaging.join(build["context"].as_str().unwrap());
    assert!(context.join(build["dockerfile"].as_str().unwrap()).is_file());
    assert_eq!(services["simulator"]["image"], services["relay"]["image"]);

    // The Kafka that the tests run on.
    let kafka = services["kafka"]["image"].as_str().unwrap().strip_prefix("apache/kafka:").unwrap();
    assert!(read("tests/kafka/pom.xml").contains(&format!("<version>{kafka}</version>")), "{kafka}");

    // Rules that are asked for are mounted, and none besides.
    let prometheus: Value =
        serde_yaml_ng::from_str(file["configs"]["prometheus"]["content"].as_str().unwrap()).unwrap();
    let rules: Vec<String> = texts(&prometheus["rule_files"])
        .iter()
        .map(|rules| format!("../monitoring/{rules}:/etc/prometheus/{rules}:ro"))
        .collect();
    assert_eq!(texts(&services["prometheus"]["volumes"]), rules);
    assert_eq!(prometheus["scrape_configs"][0]["job_name"], "pepay-relay");

    let environment = services["relay"]["environment"].as_object().unwrap();
    let usual = simulator::Options::default();
    assert_eq!(environment["PEPAY_RELAY_API_KEY"], usual.api_key);
    assert_eq!(environment["PEPAY_RELAY_WEBHOOK_SECRETS"], usual.webhook_secret);
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap())).collect();
    let output = program(&["check", "--offline"], &environment).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success() && said.lines().count() == 1, "{said}");
    let grace = services["relay"]["stop_grace_period"].as_str().unwrap();
    assert!(
        humantime::parse_duration(grace).unwrap() > Duration::from_secs(20),
        "longer than shutdown.deadline: {grace}"
    );
}

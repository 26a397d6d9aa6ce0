//! What documents say of settings and metrics, against the code.

use super::read;
use std::collections::BTreeSet;

/// Keys of the table of settings in `src/config/table.rs`: the first text of each `setting!`.
fn setting_keys(table: &str) -> BTreeSet<String> {
    let entries = table.split("setting!(").skip(1).filter_map(|entry| entry.trim_start().strip_prefix('"'));
    entries.filter_map(|entry| Some(entry.split_once('"')?.0.to_owned())).collect()
}

fn undocumented_settings(table: &str, readme: &str) -> Vec<String> {
    let keys = setting_keys(table).into_iter().filter(|key| !readme.contains(&format!("`{key}`")));
    keys.map(|key| format!("README.md does not name the setting `{key}`")).collect()
}

/// Keys of the example file, set or commented out, with their sections before them.
fn example_keys(file: &str) -> BTreeSet<String> {
    let mut section = String::new();
    let mut keys = BTreeSet::new();
    for line in file.lines() {
        let line = line.trim_start_matches('#');
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.split_once(']')) {
            section = format!("{}.", name.0);
        } else if let Some((key, _)) = line.split_once('=') {
            let key = key.trim_end();
            if !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
                keys.insert(format!("{section}{key}"));
            }
        }
    }
    keys
}

/// Metrics named in the first column of the README's tables under its heading "Metrics", without the prefix.
fn documented_metrics(readme: &str) -> BTreeSet<String> {
    let lines = readme.lines().skip_while(|line| !(line.starts_with('#') && line.ends_with(" Metrics"))).skip(1);
    lines
        .take_while(|line| !line.starts_with('#'))
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|row| row.split(" |").next())
        .flat_map(|cell| cell.split('`').step_by(2).map(str::to_owned).collect::<Vec<_>>())
        .map(|name| name.trim_start_matches("pepay_relay_").to_owned())
        .filter(|name| !name.trim().is_empty())
        .collect()
}

/// Metrics in OpenMetrics text, as a query names them: counters end in `_total`.
fn served_metrics(text: &str) -> BTreeSet<String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE pepay_relay_")?.split_once(' '));
    types.map(|(name, kind)| if kind == "counter" { format!("{name}_total") } else { name.to_owned() }).collect()
}

#[test]
fn settings_are_documented() {
    let table = read("src/config/table.rs");
    assert_eq!(setting_keys(&table), example_keys(&read("config/pepay-relay.toml")), "config/pepay-relay.toml");
    let findings = undocumented_settings(&table, &read("README.md"));
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

#[test]
fn metrics_are_documented() {
    let text = pepay_relay::telemetry::Metrics::new("0.0.0").text().unwrap();
    assert_eq!(documented_metrics(&read("README.md")), served_metrics(&text));
}

/// Each rule, shown something that it must find and something that it must not.
mod rules {
    use super::super::set;
    use super::*;

    #[test]
    fn settings() {
        let table = "setting!(\"name\", name),\nsetting!(\n    \"kafka.tls\", kafka.tls),\n";
        assert_eq!(setting_keys(table), set(&["kafka.tls", "name"]));
        assert_eq!(undocumented_settings(table, "| `name` | text |").len(), 1);
        assert!(undocumented_settings(table, "`name`, `kafka.tls`").is_empty());
        let example = "# Key = value is how it is written.\n#name = \"a\"\n\n[kafka]\n# Encryption.\ntls = true\n";
        assert_eq!(example_keys(example), set(&["kafka.tls", "name"]));
    }

    #[test]
    fn metrics() {
        let readme = "# Relay\n\n| `other` | x |\n\n## Metrics\n\n| Metric | Labels |\n|---|---|\n\
            | `deliveries_total` | `leg` |\n| `ready`, `pepay_relay_build_info` | `version` |\n\n## Limits\n| `no` | x |\n";
        assert_eq!(documented_metrics(readme), set(&["build_info", "deliveries_total", "ready"]));
        let text =
            "# HELP pepay_relay_ready x\n# TYPE pepay_relay_ready gauge\n# TYPE pepay_relay_deliveries counter\n";
        assert_eq!(served_metrics(text), set(&["deliveries_total", "ready"]));
    }
}

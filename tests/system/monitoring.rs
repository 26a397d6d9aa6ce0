//! Alerts, dashboard, runbook and metrics.

use super::{monitoring, read, succeeds};
use pepay_relay::telemetry::Metrics;
use std::collections::BTreeSet;
use std::process::Command;

/// Words of a text that name a metric of the relay.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("pepay_relay_"))
        .collect()
}

fn alerts() -> BTreeSet<String> {
    let text = read("monitoring/alerts.yml");
    text.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).map(str::to_owned).collect()
}

#[test]
fn each_alert_is_raised_by_its_series_and_by_no_others() {
    succeeds(Command::new("promtool").args(["check", "rules"]).arg(monitoring("alerts.yml")), "prometheus");
    let said =
        succeeds(Command::new("promtool").args(["test", "rules"]).arg(monitoring("alerts.test.yml")), "prometheus");
    assert!(said.contains("SUCCESS"), "{said}");
    let tests = read("monitoring/alerts.test.yml");
    for alert in alerts() {
        for verdict in ["is raised", "is not raised"] {
            assert!(tests.contains(&format!("name: {alert} {verdict}\n")), "no test that {alert} {verdict}");
        }
    }
}

/// OpenMetrics text as the older text format, which is all that `promtool check metrics` reads: there a counter's family
/// is named with its `_total`.
fn older_format(text: &str) -> String {
    let counters: BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .map(|name| format!(" {name} "))
        .collect();
    let lines = text.lines().filter(|line| *line != "# EOF").map(|line| {
        match counters.iter().find(|name| line.starts_with('#') && line.contains(name.as_str())) {
            Some(name) => line.replacen(name.as_str(), &format!(" {}_total ", name.trim()), 1),
            None => line.to_owned(),
        }
    });
    lines.map(|line| line + "\n").collect()
}

#[test]
fn promtool_finds_nothing_wrong_with_the_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("metrics");
    std::fs::write(&file, older_format(&Metrics::new("1.2.3").text().unwrap())).unwrap();
    let check = format!("promtool check metrics < {}", file.display());
    assert_eq!(succeeds(Command::new("sh").args(["-c", &check]), "prometheus"), "");
}

#[test]
fn alerts_and_dashboard_name_metrics_that_there_are_and_each_alert_has_its_page() {
    let served = Metrics::new("1.2.3").text().unwrap();
    let served = metrics_in(&served);
    for file in ["monitoring/alerts.yml", "monitoring/dashboard.json"] {
        let text = read(file);
        let unknown: Vec<_> = metrics_in(&text).difference(&served).copied().map(str::to_owned).collect();
        assert_eq!(unknown, Vec::<String>::new(), "{file}");
    }
    let shown = read("monitoring/dashboard.json");
    let shown = metrics_in(&shown);
    let series = |name: &str| !["_sum", "_count", "_created"].iter().any(|end| name.ends_with(end));
    // A counter and a histogram are families whose series have longer names.
    let is_shown = |name: &&str| {
        let of = |shown: &&str| shown.strip_prefix(*name).is_some_and(|rest| ["", "_total", "_bucket"].contains(&rest));
        shown.iter().any(of)
    };
    let hidden: Vec<_> = served.iter().copied().filter(|name| series(name)).filter(|name| !is_shown(name)).collect();
    assert_eq!(hidden, Vec::<&str>::new(), "the dashboard has no panel");
    let dashboard: serde_json::Value = serde_json::from_str(&read("monitoring/dashboard.json")).unwrap();
    assert!(dashboard["panels"].as_array().is_some_and(|panels| !panels.is_empty()));
    let runbook = read("docs/runbook.md");
    for alert in alerts() {
        assert!(runbook.contains(&format!("\n### {alert}\n")), "docs/runbook.md has nothing on {alert}");
    }
}

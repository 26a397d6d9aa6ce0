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

/// The rules, each file with its tests alongside it.
const RULES: [&str; 2] = ["alerts", "slo"];

fn alerts(rules: &str) -> BTreeSet<String> {
    let text = read(&format!("monitoring/{rules}.yml"));
    text.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).map(str::to_owned).collect()
}

/// All metrics of a relay that serves an account with a name.
fn text_of_metrics() -> String {
    let metrics = Metrics::new("1.2.3");
    metrics.account_connected("shop-a", true);
    metrics.text().unwrap()
}

#[test]
fn each_alert_is_raised_by_its_series_and_by_no_others() {
    for rules in RULES {
        let file = format!("{rules}.yml");
        let tests = format!("{rules}.test.yml");
        succeeds(Command::new("promtool").args(["check", "rules"]).arg(monitoring(&file)), "prometheus");
        let said = succeeds(Command::new("promtool").args(["test", "rules"]).arg(monitoring(&tests)), "prometheus");
        assert!(said.contains("SUCCESS"), "{said}");
        let tests = read(&format!("monitoring/{tests}"));
        let alerts = alerts(rules);
        assert!(!alerts.is_empty(), "{file}");
        for alert in alerts {
            for verdict in ["is raised", "is not raised"] {
                assert!(tests.contains(&format!("name: {alert} {verdict}\n")), "no test that {alert} {verdict}");
            }
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
    std::fs::write(&file, older_format(&text_of_metrics())).unwrap();
    let check = format!("promtool check metrics < {}", file.display());
    assert_eq!(succeeds(Command::new("sh").args(["-c", &check]), "prometheus"), "");
}

#[test]
fn alerts_and_dashboard_name_metrics_that_there_are_and_each_alert_has_its_page() {
    let served = text_of_metrics();
    let served = metrics_in(&served);
    for file in ["monitoring/alerts.yml", "monitoring/slo.yml", "monitoring/dashboard.json"] {
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
    for alert in RULES.into_iter().flat_map(alerts) {
        assert!(runbook.contains(&format!("\n### {alert}\n")), "docs/runbook.md has nothing on {alert}");
    }
}

#[test]
fn the_objectives_are_bounds_of_the_histograms() {
    let served = text_of_metrics();
    let rules = read("monitoring/slo.yml");
    for (series, leg, le) in [("publish_duration_seconds", "webhook", "1.0"), ("event_lag_seconds", "websocket", "5.0")]
    {
        let bucket = format!("pepay_relay_{series}_bucket{{le=\"{le}\",leg=\"{leg}\"}}");
        assert!(served.contains(&bucket), "{bucket} is not served");
        // As the relay writes it, and as the collector may.
        let asked = format!("{series}_bucket{{leg=\"{leg}\",le=~\"{}|{le}\"}}", le.trim_end_matches(".0"));
        assert!(rules.contains(&asked), "{asked} is not asked for");
    }
    assert_eq!(
        rules.matches("le=").count(),
        rules.matches("le=~\"1|1.0\"").count() + rules.matches("le=~\"5|5.0\"").count()
    );
}

#[test]
fn the_collector_reads_where_the_relay_writes_and_every_part_is_used() {
    let settings: serde_json::Value = serde_yaml_ng::from_str(&read("monitoring/otel-collector.yaml")).unwrap();
    let scrape = &settings["receivers"]["prometheus"]["config"]["scrape_configs"][0];
    let config = pepay_relay::config::Config::minimal(pepay_relay::provider::Environment::Devnet, "k:9092");
    assert_eq!(scrape["static_configs"][0]["targets"][0], config.admin.listen.to_string());
    assert!(read("monitoring/alerts.yml").contains(&format!("up{{job={}}}", scrape["job_name"])));
    let unit = settings["receivers"]["journald"]["units"][0].as_str().unwrap();
    assert!(super::root().join("systemd").join(unit).exists(), "{unit}");
    let names = |value: &serde_json::Value| -> BTreeSet<String> {
        let keys = value.as_object().into_iter().flat_map(|object| object.keys().cloned());
        let items = value.as_array().into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned));
        keys.chain(items).collect()
    };
    let pipelines: Vec<_> = settings["service"]["pipelines"].as_object().unwrap().values().collect();
    assert_eq!(pipelines.len(), 2);
    for part in ["receivers", "processors", "exporters"] {
        let used: BTreeSet<String> = pipelines.iter().flat_map(|pipeline| names(&pipeline[part])).collect();
        assert_eq!(used, names(&settings[part]), "{part}");
    }
    assert_eq!(names(&settings["service"]["extensions"]), names(&settings["extensions"]));
}

#[test]
fn promtool_takes_the_settings_of_the_compose_file() {
    let file: serde_json::Value = serde_yaml_ng::from_str(&read("packaging/compose.yaml")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("prometheus.yml");
    std::fs::write(&settings, file["configs"]["prometheus"]["content"].as_str().unwrap()).unwrap();
    for rules in RULES {
        std::fs::copy(monitoring(&format!("{rules}.yml")), folder.path().join(format!("{rules}.yml"))).unwrap();
    }
    succeeds(Command::new("promtool").args(["check", "config"]).arg(&settings), "prometheus");
}

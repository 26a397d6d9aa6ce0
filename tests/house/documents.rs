//! Documents that follow from the code: each test writes its part of a file, and fails where the file differed, so that
//! it only has to be committed.
//!
//! A part lies between `<!-- generated: NAME. … -->` and `<!-- end -->`; what is around it is written by people.

use super::{commands, logs, read, root, sources};
use pepay_relay::config::{DefaultValue, SETTINGS, Setting};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Columns of a comment in the example file.
const COLUMNS: usize = 100;

/// What comes above the settings of the example file.
const EXAMPLE_HEAD: &str = "\
# Settings of pepay-relay. docs/settings.md says how they are read and where secrets come from.
#
# A key that is commented out has the default that is shown; where there is no default, the value is an example.
# Durations are written \"500ms\", \"30s\", \"5m\", \"72h\"; sizes \"512KiB\", \"64MiB\". Unknown keys are errors.
# `pepay-relay check --offline` reports all errors at once.
#
# `cargo test --test house documents` writes this file from src/config/table.rs.
";

/// `text` with this part replaced.
fn with_part(text: &str, name: &str, part: &str) -> String {
    let begin = text.find(&format!("<!-- generated: {name}. ")).unwrap_or_else(|| panic!("no part {name}"));
    let begin = begin + text[begin..].find('\n').unwrap() + 1;
    let end = begin + text[begin..].find("<!-- end -->").unwrap_or_else(|| panic!("part {name} has no end"));
    format!("{}\n{}\n\n{}", &text[..begin], part.trim(), &text[end..])
}

/// Writes the file where it differs from `wanted`, and fails.
fn keep(path: &str, wanted: &str) {
    if read(path) != wanted {
        std::fs::write(root().join(path), wanted).unwrap();
        panic!("{path} was not up to date and has been written anew: commit it");
    }
}

fn keep_part(path: &str, name: &str, part: &str) {
    keep(path, &with_part(&read(path), name, part));
}

/// Text as a cell of a table.
pub(super) fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// The row of a setting in docs/settings.md.
fn row(setting: &Setting) -> String {
    let default = match setting.default {
        DefaultValue::Required(_) => "required".to_owned(),
        DefaultValue::None(_) => "none".to_owned(),
        DefaultValue::Is(value) | DefaultValue::Follows { usual: value, .. } => format!("`{value}`"),
    };
    let bounds = (setting.bounds)().map_or_else(String::new, |(least, most)| format!("{least} to {most}"));
    let (key, bounds, meaning) = (setting.key, bounds.replace('"', ""), cell(setting.meaning));
    format!("| `{key}` | {default} | {bounds} | {meaning} |\n")
}

#[test]
fn the_page_of_settings_follows_the_table() {
    let rows: String = SETTINGS.iter().map(row).collect();
    keep_part(
        "docs/settings.md",
        "settings",
        &format!("| Key | Default | Bounds | Meaning |\n|---|---|---|---|\n{rows}"),
    );
}

/// The example file: every setting with what it means, commented out unless it is required.
fn example() -> String {
    let mut text = EXAMPLE_HEAD.to_owned();
    let mut section = "";
    for setting in SETTINGS {
        let (of, key) = setting.key.rsplit_once('.').unwrap_or(("", setting.key));
        text.push('\n');
        if of != section {
            writeln!(text, "[{of}]").unwrap();
            section = of;
        }
        let (mark, value, more) = match setting.default {
            DefaultValue::Required(value) => ("", value, " Required."),
            DefaultValue::None(value) => ("#", value, " No default."),
            DefaultValue::Is(value) | DefaultValue::Follows { usual: value, .. } => ("#", value, ""),
        };
        let mut line = "#".to_owned();
        for word in format!("{}{more}", setting.meaning).split(' ') {
            if line.chars().count() + 1 + word.chars().count() > COLUMNS {
                writeln!(text, "{line}").unwrap();
                line = "#".to_owned();
            }
            line.push(' ');
            line.push_str(word);
        }
        writeln!(text, "{line}\n{mark}{key} = {value}").unwrap();
    }
    text
}

#[test]
fn the_example_file_follows_the_table() {
    keep("config/pepay-relay.toml", &example());
}

/// The rows of docs/metrics.md for metrics in OpenMetrics text.
fn metrics(text: &str) -> String {
    let mut rows = "| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n".to_owned();
    let names = text.lines().filter_map(|line| line.strip_prefix("# HELP pepay_relay_")?.split_once(' '));
    for (name, help) in names {
        let kind = text.lines().find_map(|line| line.strip_prefix(&format!("# TYPE pepay_relay_{name} "))).unwrap();
        let mut labels = BTreeMap::<&str, Vec<&str>>::new();
        let series = text.lines().filter_map(|line| line.strip_prefix(&format!("pepay_relay_{name}")));
        for pair in series.filter_map(|rest| rest.split_once('{')?.1.split('}').next()).flat_map(|all| all.split(',')) {
            let (label, value) = pair.split_once('=').unwrap();
            let values = labels.entry(label).or_default();
            if label != "le" && !values.contains(&value) {
                values.push(value);
            }
        }
        labels.remove("le");
        let labels = labels.into_iter().map(|(label, mut values)| {
            // In no order of their own: they come out of a hash table.
            values.sort_unstable();
            let values: Vec<_> = values.iter().map(|value| format!("`{}`", value.trim_matches('"'))).collect();
            if label == "version" { format!("`{label}`") } else { format!("`{label}`: {}", values.join(", ")) }
        });
        let total = if kind == "counter" { "_total" } else { "" };
        let (labels, help) = (labels.collect::<Vec<_>>().join("; "), cell(help));
        writeln!(rows, "| `{name}{total}` | {kind} | {labels} | {help} |").unwrap();
    }
    rows
}

#[test]
fn the_page_of_metrics_follows_what_is_registered() {
    let all = pepay_relay::telemetry::Metrics::new("0.0.0");
    // Its series come with the accounts of the settings.
    all.account_connected("NAME", false);
    let text = all.text().unwrap();
    keep_part("docs/metrics.md", "metrics", &metrics(&text));
}

#[test]
fn the_page_of_commands_follows_the_command_line() {
    keep_part("docs/commands.md", "global options", &commands::global_options());
    keep_part("docs/commands.md", "commands", &commands::commands());
}

/// A member's type in words.
fn kind(schema: &Value) -> String {
    let types: Vec<&str> = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    let null = if types.contains(&"null") { " or `null`" } else { "" };
    let what = match types.first() {
        Some(&"string") if schema["format"] == "date-time" => "time".to_owned(),
        Some(&"string") => "text".to_owned(),
        Some(&"object") if is_money(schema) => "money".to_owned(),
        Some(&"array") if schema["items"]["type"] == "string" => "list of texts".to_owned(),
        Some(&"array") => "list of objects".to_owned(),
        Some(one) => (*one).to_owned(),
        None => {
            let words = schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
            words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" or ")
        }
    };
    what + null
}

fn is_money(schema: &Value) -> bool {
    schema["properties"]["amount"].is_object() && schema["properties"]["currency"].is_object()
}

/// A row for each member of an object, in the order in which they are written, and for those inside of it.
fn members(schema: &Value, path: &str, rows: &mut String) {
    let properties = schema["properties"].as_object().unwrap();
    let mut names: Vec<&str> = schema["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let known: BTreeSet<&str> = names.iter().copied().collect();
    names.extend(properties.keys().map(String::as_str).filter(|name| !known.contains(name)));
    for name in names {
        let member = &properties[name];
        let has_members = member["properties"].is_object() && !is_money(member);
        let about = member["description"].as_str().unwrap_or(if has_members { "Its members follow." } else { "" });
        let about = cell(about);
        writeln!(rows, "| `{path}{name}` | {} | {about} |", kind(member)).unwrap();
        if is_money(member) {
            continue;
        }
        if member["properties"].is_object() {
            members(member, &format!("{path}{name}."), rows);
        } else if member["items"]["properties"].is_object() {
            members(&member["items"], &format!("{path}{name}[]."), rows);
        }
    }
}

#[test]
fn the_page_of_records_follows_the_schemas() {
    let schemas = pepay_relay::normalize::schemas();
    let head = "| Member | Type | Meaning |\n|---|---|---|\n";
    let [invoice, payment] = [0, 1].map(|index| &schemas["invoices"]["oneOf"][index]);
    let mut part = String::new();
    for (title, schema) in [("Order events", &schemas["orders"]), ("Invoice events", invoice)] {
        write!(part, "### {title}\n\n{head}").unwrap();
        members(schema, "", &mut part);
        part.push('\n');
    }
    write!(part, "### Invoice payment events\n\nAs invoice events, with `payment` in place of `invoice`:\n\n{head}")
        .unwrap();
    members(&payment["properties"]["payment"], "payment.", &mut part);
    keep_part("docs/records.md", "members", &part);
}

#[test]
fn the_page_of_webhooks_follows_the_answers() {
    let mut part = "| Status | Body | When | `Retry-After` | Connection |\n|---|---|---|---|---|\n".to_owned();
    for answer in pepay_relay::legs::webhook::documented() {
        let retry = answer.retry_after.map_or_else(String::new, |seconds| format!("{seconds} s"));
        let (status, body, closes) = (answer.status, answer.body, if answer.closes { "closes" } else { "" });
        writeln!(part, "| {status} | `{body}` | {} | {retry} | {closes} |", cell(answer.when)).unwrap();
    }
    keep_part("docs/webhooks.md", "answers", &part);
}

#[test]
fn the_page_of_log_messages_follows_the_sources() {
    let all = sources().iter().flat_map(|(_, source)| logs::messages(source)).collect();
    keep_part("docs/logs.md", "messages", &logs::rows(all));
}

/// Words of this closed set that have no row in a page.
fn without_row<'w>(page: &str, words: impl IntoIterator<Item = &'w str>) -> Vec<&'w str> {
    words.into_iter().filter(|word| !page.contains(&format!("\n| `{word}` | "))).collect()
}

#[test]
fn each_word_of_a_label_is_explained() {
    use pepay_relay::labels::{Cause, Outcome};
    use pepay_relay::provider::event::Reason;
    use pepay_relay::telemetry::KafkaErrorKind;
    let metrics = read("docs/metrics.md");
    assert_eq!(without_row(&metrics, Outcome::ALL.map(Outcome::as_str)), <[&str; 0]>::default());
    assert_eq!(without_row(&metrics, Cause::ALL.map(Cause::as_str)), <[&str; 0]>::default());
    assert_eq!(without_row(&metrics, KafkaErrorKind::ALL.map(KafkaErrorKind::as_str)), <[&str; 0]>::default());
    assert_eq!(without_row(&read("docs/records.md"), Reason::ALL.map(Reason::as_str)), <[&str; 0]>::default());
    assert_eq!(without_row("\n| `a` | x |\n", ["a", "b"]), ["b"]);
}

/// Each generator, shown something small.
mod rules {
    use super::*;

    #[test]
    fn parts() {
        let page = "# A\n<!-- generated: x. By hand. -->\nold\n<!-- end -->\nrest\n";
        assert_eq!(
            with_part(page, "x", "new\n"),
            "# A\n<!-- generated: x. By hand. -->\n\nnew\n\n<!-- end -->\nrest\n"
        );
    }

    #[test]
    fn series() {
        let text = "# HELP pepay_relay_a How many.\n# TYPE pepay_relay_a counter\npepay_relay_a_total{leg=\"x\",outcome=\"y\"} 0\n\
            pepay_relay_a_total{leg=\"z\",outcome=\"y\"} 0\n# HELP pepay_relay_b How | long.\n# TYPE pepay_relay_b histogram\n\
            pepay_relay_b_bucket{le=\"1\"} 0\n";
        let rows = metrics(text);
        assert!(rows.ends_with(
            "| `a_total` | counter | `leg`: `x`, `z`; `outcome`: `y` | How many. |\n| `b` | histogram |  | How \\| long. |\n"
        ));
    }

    #[test]
    fn schemas() {
        let schema = serde_json::json!({
            "properties": {
                "b": {"type": "array", "items": {"properties": {"c": {"type": ["integer", "null"], "description": "C."}}, "required": ["c"]}},
                "a": {"type": "string"}, "raw": {"type": "object"},
            },
            "required": ["b", "a"],
        });
        let mut rows = String::new();
        members(&schema, "x.", &mut rows);
        assert_eq!(
            rows,
            "| `x.b` | list of objects |  |\n| `x.b[].c` | integer or `null` | C. |\n| `x.a` | text |  |\n| `x.raw` | object |  |\n"
        );
    }
}

//! Keeps the house tidy: what the compiler cannot see, read from the sources as text.
//!
//! Every rule is a pure function from a path and a text to sentences about what is wrong, so that each is also shown
//! something wrong at the foot of this file: a rule that finds nothing anywhere would look just as green.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a file at most. The aim is 400; beyond 500 it has two purposes.
const LINES_MAX: usize = 500;

/// What each folder (or file) directly under `src` may know of the others; `x::Y` allows that item alone.
///
/// The order is the order of the floors: a room knows only what lies above it in this list.
const MAY_KNOW: [(&str, &[&str]); 15] = [
    ("clock", &[]),
    ("heap", &[]),
    ("labels", &[]),
    ("provider", &["clock"]),
    ("normalize", &["provider"]),
    ("config", &["labels", "provider", "normalize"]),
    ("telemetry", &["clock", "labels", "config"]),
    ("legs", &["clock", "labels", "provider", "config", "telemetry"]),
    ("kafka", &["clock", "labels", "config", "telemetry"]),
    // The reasons not to start, each of which has its status.
    ("exit", &["kafka::errors", "legs::webhook"]),
    ("relay", &["clock", "labels", "legs", "normalize", "kafka", "provider", "telemetry"]),
    ("simulator", &["clock", "provider"]),
    ("daemon", &["clock", "labels", "legs", "normalize", "kafka", "provider", "config", "telemetry", "relay", "exit"]),
    (
        "cli",
        &[
            "clock",
            "labels",
            "legs",
            "normalize",
            "kafka",
            "provider",
            "config",
            "telemetry",
            "relay",
            "daemon",
            "simulator",
            "exit",
            "heap",
        ],
    ),
    ("lib", &[]),
];

/// Files, or folders, without socket, clock, log, task or `async`: they take the time and chance as arguments.
const PURE: [&str; 35] = [
    "src/cli/line.rs",
    "src/config/mistakes.rs",
    "src/config/table.rs",
    "src/exit.rs",
    "src/kafka/drain_pace.rs",
    "src/kafka/topic_spec.rs",
    "src/legs/websocket/hold.rs",
    "src/relay/progress.rs",
    "src/legs/backfill/reconcile.rs",
    "src/legs/websocket/reconnect.rs",
    "src/legs/backfill/walk.rs",
    "src/legs/webhook/admission.rs",
    "src/normalize/",
    "src/provider/errors.rs",
    "src/provider/event.rs",
    "src/provider/event_id.rs",
    "src/provider/frame.rs",
    "src/provider/json.rs",
    "src/provider/order_list.rs",
    "src/provider/page.rs",
    "src/provider/rest/answer.rs",
    "src/provider/rest/error.rs",
    "src/provider/rest/order.rs",
    "src/provider/rest/retry.rs",
    "src/provider/signature.rs",
    "src/relay/planner/",
    "src/relay/pipeline/",
    "src/relay/lru.rs",
    "src/relay/window_builder.rs",
    "src/relay/records.rs",
    "src/relay/replay.rs",
    "src/relay/versions.rs",
    "src/relay/dedup.rs",
    "src/simulator/model/",
    "src/telemetry/foreign.rs",
];

/// What a pure file does not hold, and what it would be.
const IMPURE: [(&str, &str); 14] = [
    ("tokio", "a task"),
    ("async ", "a task"),
    (".await", "a task"),
    ("thread::", "a task"),
    ("tracing::", "a log"),
    ("Instant::now", "a clock"),
    ("SystemTime", "a clock"),
    ("Timestamp::now", "a clock"),
    ("rand::rng(", "chance"),
    ("rand::random", "chance"),
    ("Uuid::new_v4", "chance"),
    ("std::net", "a socket"),
    ("std::fs", "a file"),
    ("std::env", "the environment"),
];

/// Names that say nothing of what is inside.
const EMPTY_NAMES: [&str; 7] = ["utils", "util", "common", "helpers", "helper", "manager", "types"];

/// `config/types.rs` holds the types that are the settings: there the name says it.
const NAME_EXCEPTIONS: [&str; 1] = ["src/config/types.rs"];

/// Half-done work, in pieces so that this file does not name it.
const HALF_DONE: [&str; 4] = [concat!("to", "do"), concat!("fix", "me"), concat!("xx", "x"), concat!("ha", "ck")];

/// Places of the people who wrote this, which mean nothing to those who read it.
const WORKPLACE: [&str; 6] = [
    concat!("/wo", "rk/"),
    concat!("../sha", "red"),
    concat!("pepay-", "api.md"),
    concat!("contract", ".md"),
    concat!("design", ".md"),
    concat!("style", ".md"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file of the project under these, with its path from the root.
fn files(under: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut left: Vec<PathBuf> = under.iter().map(|path| root().join(path)).collect();
    while let Some(path) = left.pop() {
        assert!(path.exists(), "{} is missing", path.display());
        if path.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if let Ok(text) = fs::read_to_string(&path) {
            found.push((path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned(), text));
        }
    }
    found.sort();
    assert!(!found.is_empty(), "nothing under {under:?}");
    found
}

fn rust(under: &[&str]) -> Vec<(String, String)> {
    files(under).into_iter().filter(|(path, _)| path.ends_with(".rs")).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Applies `rule` to each file and fails with everything that it found.
fn judge(files: &[(String, String)], rule: impl Fn(&str, &str) -> Vec<String>) {
    let findings: Vec<String> = files.iter().flat_map(|(path, text)| rule(path, text)).collect();
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

/// The part of a source that is built into the product: without comments, and without the tests at its foot.
fn product(text: &str) -> String {
    let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or_default().trim_end()).collect();
    let tests = code.windows(2).position(|pair| {
        pair[0] == "#[cfg(test)]" && pair[1].contains("mod ") && (pair[1].ends_with('{') || pair[1].ends_with('('))
    });
    code[..tests.unwrap_or(code.len())].join("\n")
}

/// Files and folders (ending in `/`) that only tests are built from: `#[cfg(test)] mod x;` elsewhere says so.
fn test_only(files: &[(String, String)]) -> BTreeSet<String> {
    let mut only = BTreeSet::new();
    for (path, text) in files {
        let folder = path.strip_suffix("/mod.rs").or(path.strip_suffix("/lib.rs")).or(path.strip_suffix(".rs"));
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]") {
            if let Some(name) = pair[1].split("mod ").nth(1).and_then(|rest| rest.strip_suffix(';')) {
                only.extend([format!("{}/{name}.rs", folder.unwrap()), format!("{}/{name}/", folder.unwrap())]);
            }
        }
    }
    only
}

/// The sources of the product.
fn sources() -> Vec<(String, String)> {
    let all = rust(&["src"]);
    let only = test_only(&all);
    let is_product =
        |path: &str| !only.iter().any(|test| path == test || test.ends_with('/') && path.starts_with(test));
    all.into_iter().filter(|(path, _)| is_product(path)).collect()
}

fn too_long(path: &str, text: &str) -> Vec<String> {
    let lines = text.lines().count();
    if lines > LINES_MAX {
        vec![format!("{path}: {lines} lines, at most {LINES_MAX}; find its second purpose")]
    } else {
        vec![]
    }
}

/// `a::b` for each `crate::a::b`, and one for each name in `crate::a::{b, c}`.
fn known(code: &str) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for path in code.split("crate::").skip(1) {
        let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        let end = path.find(|c| !is_path(c)).unwrap_or(path.len());
        let (head, rest) = path.split_at(end);
        let mut parts = head.split("::").filter(|part| !part.is_empty());
        let first = parts.next().unwrap_or_default();
        match (parts.next(), rest.strip_prefix('{').and_then(|list| list.split('}').next())) {
            (None, Some(list)) => {
                let names = list.split(',').map(|name| name.split("::").next().unwrap_or_default().trim());
                known.extend(names.filter(|name| !name.is_empty()).map(|name| match first {
                    "" => name.to_owned(),
                    _ => format!("{first}::{name}"),
                }));
            }
            (Some(second), _) => drop(known.insert(format!("{first}::{second}"))),
            (None, None) => drop(known.insert(first.to_owned())),
        }
    }
    known
}

fn knows_too_much(path: &str, text: &str) -> Vec<String> {
    let Some(room) = path.strip_prefix("src/").and_then(|path| path.split(['/', '.']).next()) else {
        return vec![];
    };
    if room == "main" {
        return vec![];
    }
    let Some((_, allowed)) = MAY_KNOW.iter().find(|(name, _)| *name == room) else {
        return vec![format!("{path}: the room `{room}` has no line in the table of what may know what")];
    };
    let fits = |item: &str| {
        let of = item.split("::").next().unwrap_or_default();
        of == room || allowed.iter().any(|allowed| *allowed == of || *allowed == item)
    };
    let unfit = known(&product(text)).into_iter().filter(|item| !fits(item));
    unfit.map(|item| format!("{path}: `{room}` may not know `{item}`")).collect()
}

fn impure(path: &str, text: &str) -> Vec<String> {
    if !PURE.iter().any(|pure| path == *pure || (pure.ends_with('/') && path.starts_with(pure))) {
        return vec![];
    }
    let code = product(text);
    let held = IMPURE.iter().filter(|(word, _)| code.contains(word));
    held.map(|(word, what)| format!("{path}: is pure and holds {what}: `{}`", word.trim())).collect()
}

fn half_done(path: &str, text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let words: BTreeSet<&str> = lower.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    HALF_DONE.iter().filter(|word| words.contains(**word)).map(|word| format!("{path}: `{word}`")).collect()
}

fn empty_name(path: &str, _: &str) -> Vec<String> {
    let names = path.split('/').map(|part| part.trim_end_matches(".rs"));
    let empty = names.filter(|name| EMPTY_NAMES.contains(name) && !NAME_EXCEPTIONS.contains(&path));
    empty.map(|name| format!("{path}: `{name}` does not say what is inside")).collect()
}

fn skipped_test(path: &str, text: &str) -> Vec<String> {
    let attribute = concat!("#[ign", "ore");
    if text.contains(attribute) { vec![format!("{path}: a test that never runs guards nothing")] } else { vec![] }
}

fn workplace(path: &str, text: &str) -> Vec<String> {
    let found = WORKPLACE.iter().filter(|place| text.contains(**place));
    found.map(|place| format!("{path}: names `{place}`, which its readers do not have")).collect()
}

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
fn no_file_is_too_long() {
    judge(&rust(&["src", "tests", "fuzz/src", "fuzz/targets"]), too_long);
}

#[test]
fn rooms_know_what_they_may() {
    judge(&sources(), knows_too_much);
}

#[test]
fn pure_files_are_pure() {
    judge(&sources(), impure);
    for pure in PURE {
        assert!(root().join(pure).exists(), "{pure} is gone: the list of pure files must follow");
    }
}

#[test]
fn nothing_is_half_done() {
    judge(&rust(&["src", "tests", "fuzz/src", "fuzz/targets"]), half_done);
}

#[test]
fn names_say_what_is_inside() {
    judge(&rust(&["src", "tests"]), empty_name);
}

#[test]
fn every_test_runs() {
    judge(&rust(&["src", "tests"]), skipped_test);
}

#[test]
fn readers_have_everything_that_is_named() {
    let all = [
        "src",
        "tests",
        "fuzz/src",
        "fuzz/targets",
        "fuzz/Cargo.toml",
        "config",
        "systemd",
        ".ci",
        ".github",
        "Cargo.toml",
        "clippy.toml",
        "deny.toml",
        "justfile",
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
    ];
    judge(&files(&all), workplace);
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
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn length() {
        assert!(too_long("src/a.rs", &"\n".repeat(LINES_MAX)).is_empty());
        assert_eq!(too_long("src/a.rs", &"\n".repeat(LINES_MAX + 1)).len(), 1);
    }

    #[test]
    fn knowledge() {
        let code = "use crate::{exit::Exit, cli};\nuse crate::labels::{Leg,\n Outcome};\nlet t = crate::labels::Topic::Orders;";
        assert_eq!(known(code), set(&["cli", "exit", "labels::Leg", "labels::Outcome", "labels::Topic"]));
        for (path, text, wrong) in [
            ("src/provider/event.rs", "use crate::labels::Leg;", true),
            ("src/provider/event.rs", "use crate::provider::EventId;", false),
            ("src/provider/event.rs", "// not crate::labels::Leg", false),
            ("src/provider/event.rs", "fn a() {}\n#[cfg(test)]\nmod tests {\n use crate::labels::Leg;\n}", false),
            ("src/telemetry/metrics.rs", "use crate::labels::{Cause, Leg, Outcome};", false),
            ("src/telemetry/metrics.rs", "use crate::legs::{Leg, Delivery};", true),
            ("src/kafka/mod.rs", "fn f(_: crate::relay::Plan) {}", true),
            ("src/daemon/mod.rs", "use crate::cli::output;", true),
            ("src/daemon/mod.rs", "use crate::relay::planner;", false),
            ("src/attic/mod.rs", "", true),
        ] {
            assert_eq!(!knows_too_much(path, text).is_empty(), wrong, "{path}: {text}");
        }
    }

    #[test]
    fn tests_are_no_product() {
        let text = "#[cfg(test)]\nmod tests;\nmod types;\nuse crate::a; // crate::b\n\n#[cfg(test)]\nmod more {\n use crate::c;\n}";
        assert_eq!(known(&product(text)), set(&["a"]));
        let files = [("src/config/mod.rs", text), ("src/config/load.rs", "#[cfg(test)]\npub(super) mod cases;\n")];
        let files = files.map(|(path, text)| (path.to_owned(), text.to_owned()));
        let only = ["src/config/load/cases.rs", "src/config/load/cases/", "src/config/tests.rs", "src/config/tests/"];
        assert_eq!(test_only(&files), set(&only));
    }

    #[test]
    fn purity() {
        for (word, _) in IMPURE {
            assert_eq!(impure("src/relay/planner/", &format!("    {word} x\n")).len(), 1, "{word}");
            assert_eq!(impure("src/normalize/order.rs", &format!("x({word} )")).len(), 1, "{word}");
        }
        assert!(impure("src/relay/mod.rs", "use tokio::sync;").is_empty());
        assert!(impure("src/relay/planner/", "// no tokio here").is_empty());
    }

    #[test]
    fn words_and_names() {
        for word in HALF_DONE {
            assert_eq!(half_done("a.rs", &format!("// {}: later", word.to_uppercase())).len(), 1, "{word}");
            assert!(half_done("a.rs", &format!("let {word}_list = 1;")).is_empty(), "{word}");
        }
        for path in ["src/utils.rs", "tests/common/mod.rs", "src/relay/manager.rs"] {
            assert_eq!(empty_name(path, "").len(), 1, "{path}");
        }
        assert!(empty_name("src/relay/planner/", "").is_empty());
        assert_eq!(skipped_test("a.rs", concat!("#[ign", "ore = \"slow\"]")).len(), 1);
        for place in WORKPLACE {
            assert_eq!(workplace("a.rs", &format!("see {place}")).len(), 1, "{place}");
        }
        assert!(workplace("a.rs", "see ARCHITECTURE.md").is_empty());
    }

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

//! The tables of ARCHITECTURE.md and docs/internals/verification.md of which test shows what: every test named there
//! is there. And those of the runbook: every line at ERROR and WARN is there.
//!
//! In the last column of those tables a name in backticks is `SUITE module::test` (a file of `tests/`), `module::test` (alongside the source),
//! `SUITE` alone, a fault of the chaos (`KillRelay`), or a recipe (`just pressure`); `*` is every test of its file.

use super::logs::messages;
use std::fs;
use std::path::Path;

fn read(path: &str) -> Option<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).ok()
}

/// The rows of every table whose last column is headed so, each with its first and its last cell.
fn rows(text: &str) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        let Some(row) = line.strip_prefix('|').and_then(|row| row.trim_end().strip_suffix('|')) else {
            inside = false;
            continue;
        };
        let (first, last) = (row.split('|').next().unwrap_or_default(), row.rsplit('|').next().unwrap_or_default());
        if matches!(last.trim(), "Test" | "Tests") {
            inside = true;
        } else if inside && !last.starts_with("---") {
            rows.push((first.trim().to_owned(), last.trim().to_owned()));
        }
    }
    rows
}

fn names(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// Whether `text` has this test, or any.
fn has_test(text: &str, name: &str) -> bool {
    let is_test = |line: &str| {
        line.trim_start().starts_with("#[") && line.trim_end().ends_with("test]")
            || line.trim_start().starts_with("#[tokio::test(")
            || line.trim_start() == "proptest! {"
    };
    let declares = |line: &str| {
        let line = line.trim_start();
        let line = line.strip_prefix("async ").unwrap_or(line);
        let rest = line.strip_prefix("fn ").and_then(|line| line.strip_prefix(name));
        rest.is_some_and(|rest| rest.starts_with('('))
    };
    text.lines().any(is_test) && (name == "*" || text.lines().any(declares))
}

/// Whether the name is that of something that is there.
fn is_there(name: &str, read: &impl Fn(&str) -> Option<String>) -> bool {
    let suite = |suite: &str| {
        [format!("tests/{suite}.rs"), format!("tests/{suite}/main.rs")].iter().find_map(|path| read(path))
    };
    if let Some(recipe) = name.strip_prefix("just ") {
        let begins = |line: &str| line.strip_prefix(recipe).is_some_and(|rest| rest.starts_with([' ', ':']));
        return read("justfile").is_some_and(|text| text.lines().any(begins));
    }
    if name.starts_with(|first: char| first.is_ascii_uppercase()) {
        let variant = format!("    {name},");
        let has_it = |path| read(path).is_some_and(|text| text.lines().any(|line| line == variant));
        return ["tests/chaos/faults.rs", "tests/chaos/cluster.rs"].into_iter().any(has_it);
    }
    let (of, path) = name.split_once(' ').map_or((None, name), |(of, path)| (Some(of), path));
    let (modules, test) =
        path.rsplit_once("::").map_or((String::new(), path), |(modules, test)| (modules.replace("::", "/"), test));
    let files = match (of, modules.as_str()) {
        (None, "") => return suite(test).is_some(),
        (Some(of), "") => return suite(of).is_some_and(|text| has_test(&text, test)),
        (Some(of), modules) => vec![format!("tests/{of}/{modules}.rs")],
        (None, modules) => {
            [".rs", "/mod.rs", "/tests.rs", "/tests/mod.rs"].map(|end| format!("src/{modules}{end}")).to_vec()
        }
    };
    files.iter().filter_map(|path| read(path)).any(|text| has_test(&text, test))
}

#[test]
fn every_test_that_is_named_is_there() {
    let rows: Vec<_> = ["docs/internals/verification.md", "ARCHITECTURE.md"]
        .iter()
        .flat_map(|page| rows(&read(page).unwrap()))
        .collect();
    let missing: Vec<_> = rows
        .iter()
        .flat_map(|(what, cell)| names(cell).into_iter().map(move |name| (what, name)))
        .filter(|(_, name)| !is_there(name, &|path| read(path)))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
    for promise in 1..=9 {
        let wanted = format!("P{promise} ");
        let row = rows.iter().find(|(what, _)| what.starts_with(&wanted));
        assert!(row.is_some_and(|(_, cell)| names(cell).len() > 1), "P{promise} is shown by tests");
    }
    assert!(rows.len() > 30, "{} rows: the tables were not found", rows.len());
}

#[test]
fn what_is_not_there_is_found() {
    let files = |path: &str| {
        let text = match path {
            "tests/delivery.rs" | "tests/chaos/main.rs" => "#[test]\nfn alone() {}\n",
            "tests/delivery/gaps.rs" => {
                "#[tokio::test(flavor = \"multi_thread\")]\nasync fn a_cut() {}\nfn no_test_at_all() {}"
            }
            "src/relay/planner/tests.rs" => "    #[test]\n    fn stale() {}",
            "src/relay/planner/mod.rs" => "fn stale() {}",
            "tests/chaos/faults.rs" => "enum Fault {\n    KillRelay,\n}",
            "tests/chaos/cluster.rs" => "enum Fault {\n    KillOwner,\n}",
            "justfile" => "pressure:\nfuzz TARGET:\n",
            _ => return None,
        };
        Some(text.to_owned())
    };
    for name in [
        "delivery gaps::a_cut",
        "delivery gaps::*",
        "delivery alone",
        "relay::planner::stale",
        "relay::planner::*",
        "chaos",
        "KillRelay",
        "KillOwner",
        "just pressure",
        "just fuzz",
    ] {
        assert!(is_there(name, &files), "{name}");
    }
    for name in [
        "delivery gaps::a_cu",
        "delivery gaps::a_cut_more",
        "delivery holes::*",
        "delivery alon",
        "relay::pipeline::*",
        "relay::planner::fresh",
        "attic",
        "KillRela",
        "just press",
        "delivery gaps::a_cut…",
    ] {
        assert!(!is_there(name, &files), "{name}");
    }
    let table =
        "| A | B | Tests |\n|---|---|---|\n| P1 x | y | `a b::c`, `d` |\n\n| A | Else |\n|---|---|\n| n | `no` |\n";
    assert_eq!(rows(table), [("P1 x".to_owned(), "`a b::c`, `d`".to_owned())]);
    assert_eq!(names("`a b::c` (x), `d`"), ["a b::c", "d"]);
}

/// A message as the runbook shortens it: up to a colon or semicolon.
fn is_told(section: &str, message: &str) -> bool {
    let beginnings = message.char_indices().filter(|(_, letter)| matches!(letter, ':' | ';' | ','));
    let beginnings = beginnings.map(|(at, _)| &message[..at]).chain([message]);
    let in_words = |beginning: &str| {
        let ends = beginning.match_indices(' ').map(|(at, _)| &beginning[..at]).chain([beginning]);
        ends.filter(|words| words.split(' ').count() > 2 || *words == beginning)
            .any(|words| section.contains(&format!("| `{words}` |")) || section.contains(&format!("| `{words}: …` |")))
    };
    beginnings.into_iter().any(in_words)
}

/// The sources of the product.
fn texts() -> Vec<String> {
    super::sources().into_iter().map(|(_, text)| text).collect()
}

/// What is wrong with a cell about how something is counted and logged: names in backticks are series of metrics,
/// or, where they are several words, the beginning of a message that some source logs.
fn untold(cell: &str, metrics: &str, sources: &[String]) -> Vec<String> {
    let is_series = |name: &str| {
        let (family, label) = name.split_once('{').map_or((name, ""), |(family, label)| (family, label));
        let mut series = metrics.lines().filter_map(|line| line.strip_prefix("pepay_relay_"));
        series.any(|line| {
            line.strip_prefix(family).is_some_and(|rest| rest.starts_with(['{', ' ']))
                && line.contains(label.trim_end_matches('}'))
        })
    };
    let is_logged = |words: &str| sources.iter().any(|source| source.contains(&format!("\"{words}")));
    let is_there = |name: &str| if name.contains(' ') { is_logged(name) } else { is_series(name) };
    let mut wrong: Vec<_> = names(cell).into_iter().filter(|name| !is_there(name)).map(str::to_owned).collect();
    if !cell.contains("; ") && !cell.contains(": neither") {
        wrong.push(format!("`{cell}` does not say both how it is counted and what is logged"));
    }
    wrong
}

#[test]
fn each_row_of_bad_input_names_its_metric_and_its_line() {
    let text = read("docs/internals/verification.md").unwrap();
    let (_, table) = text.split_once("| Input | What happens | Counted; logged | Test |\n").unwrap();
    let metrics = pepay_relay::telemetry::Metrics::new("0.0.0").text().unwrap();
    let all = texts();
    let rows: Vec<_> = table.lines().skip(1).take_while(|line| line.starts_with('|')).collect();
    assert!(rows.len() > 40, "{}", rows.len());
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").collect();
        assert_eq!(cells.len(), 4, "{row}");
        assert_eq!(untold(cells[2], &metrics, &all), <[&str; 0]>::default(), "{row}");
    }
    let logged = [r#"warn!("gap opened: x")"#.to_owned()];
    let found = |cell: &str| untold(cell, &metrics, &logged).len();
    assert_eq!(found("`ready`, `outcomes_total{outcome=\"ignored\"}`; `gap opened`"), 0);
    for wrong in
        ["`read`; no line", "`ready{leg=\"x\"}`; no line", "`ready`; `gap closed`", "`ready`; `opened: x`", "`ready`"]
    {
        assert_eq!(found(wrong), 1, "{wrong}");
    }
}

#[test]
fn the_runbook_has_every_line_at_error_and_warn() {
    let runbook = read("docs/runbook.md").unwrap();
    let (_, lines) = runbook.split_once("## Lines at ERROR").unwrap();
    let (errors, warnings) = lines.split_once("## Lines at WARN").unwrap();
    let all = texts();
    let all: Vec<_> = all.iter().flat_map(|source| messages(source)).collect();
    for (level, section, least) in [("ERROR", errors, 4), ("WARN", warnings, 15)] {
        let mut told = 0;
        for message in all.iter().filter(|message| message.level == level) {
            let words = message.text.split('…').next().unwrap_or_default();
            assert!(words.is_empty() || is_told(section, words), "docs/runbook.md has no row for {level} {words:?}");
            told += 1;
        }
        assert!(told >= least, "only {told} messages were found at {level}");
    }
    assert!(!is_told(warnings, "stream resumed") && !is_told(warnings, "stream"));
}

#[test]
fn messages_that_the_page_of_operations_names_are_logged() {
    let page = read("docs/operations.md").unwrap();
    let (_, table) = page.split_once("| Message | Fields |\n").unwrap();
    let all = texts();
    let rows: Vec<_> = table.lines().skip(1).take_while(|line| line.starts_with('|')).collect();
    let told: Vec<_> = rows.iter().filter_map(|row| row.split('|').nth(1)).flat_map(names).collect();
    assert!(told.len() > 10, "{told:?}");
    let is_logged = |message: &str| all.iter().any(|source| source.contains(&format!("\"{message}")));
    let missing: Vec<_> = told.into_iter().filter(|message| !is_logged(message)).collect();
    assert!(missing.is_empty() && !is_logged("relay is ready, perhaps"), "{missing:?}");
    let logged: Vec<_> = all.iter().flat_map(|source| messages(source)).collect();
    let has = |message: &str, field: &str| {
        let mut of = logged.iter().filter(|logged| logged.text.starts_with(message));
        of.any(|logged| logged.fields.iter().any(|known| known == field))
    };
    for row in rows {
        let cells: Vec<_> = row.split('|').collect();
        let message = names(cells[1])[0];
        let unknown: Vec<_> = names(cells[2]).into_iter().filter(|field| !has(message, field)).collect();
        assert!(unknown.is_empty(), "`{message}` is not logged with {unknown:?}");
    }
    assert!(has("gap closed", "by") && !has("gap closed", "cause"));
}

//! Lengths, names and words of files.

use super::{files, judge, rust};
use std::collections::BTreeSet;

/// Lines of a file at most. The aim is 400; beyond 500 it has two purposes.
const LINES_MAX: usize = 500;

/// Names that give no hint of what is inside.
const EMPTY_NAMES: [&str; 7] = ["utils", "util", "common", "helpers", "helper", "manager", "types"];

/// `config/types.rs` holds the types that are the settings: there the name is right.
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

fn too_long(path: &str, text: &str) -> Vec<String> {
    let lines = text.lines().count();
    if lines > LINES_MAX {
        vec![format!("{path}: {lines} lines, at most {LINES_MAX}; find its second purpose")]
    } else {
        vec![]
    }
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

/// `name.rs` where the folder `name/` has sources too: a folder's first file is its `mod.rs`.
fn beside_its_folder(files: &[(String, String)]) -> Vec<String> {
    let has_folder = |name: &str| files.iter().any(|(path, _)| path.starts_with(&format!("{name}/")));
    let names = files.iter().filter_map(|(path, _)| path.strip_suffix(".rs")).filter(|name| has_folder(name));
    names.map(|name| format!("{name}.rs lies alongside {name}/: make it {name}/mod.rs")).collect()
}

fn skipped_test(path: &str, text: &str) -> Vec<String> {
    let attribute = concat!("#[ign", "ore");
    if text.contains(attribute) { vec![format!("{path}: a test that never runs guards nothing")] } else { vec![] }
}

/// Words that readers have to translate back, and plain ones in their place.
const STILTED: [(&str, &str); 21] = [
    ("anew", "again"),
    ("mend", "fix"),
    ("mended", "fixed"),
    ("judge", "check"),
    ("judged", "checked"),
    ("judges", "checks"),
    ("whoever", "the peer that"),
    ("beside", "alongside"),
    ("borne", "tolerated"),
    ("lacks", "has no"),
    ("told", "reported"),
    ("tells", "reports"),
    ("said", "reported"),
    ("stands", "is committed"),
    ("stood", "was committed"),
    ("so many", "this many"),
    ("so long", "this long"),
    ("heard", "received"),
    ("hears", "receives"),
    ("unheard", "unanswered"),
    ("lacking", "missing"),
];

/// Stilted words outside of code; the words of a phrase may be on two lines.
fn stilted(path: &str, text: &str) -> Vec<String> {
    let prose: Vec<&str> = text.split('`').step_by(2).collect();
    let lower = prose.join(" ").to_lowercase();
    let words: Vec<&str> = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let prose = format!(" {} ", words.join(" "));
    let found = STILTED.iter().filter(|(stilted, _)| prose.contains(&format!(" {stilted} ")));
    found.map(|(stilted, plain)| format!("{path}: `{stilted}`; write `{plain}`, or say what happens")).collect()
}

fn workplace(path: &str, text: &str) -> Vec<String> {
    let found = WORKPLACE.iter().filter(|place| text.contains(**place));
    found.map(|place| format!("{path}: names `{place}`, which its readers do not have")).collect()
}

#[test]
fn no_file_is_too_long() {
    judge(&rust(&["src", "tests", "fuzz/src", "fuzz/targets"]), too_long);
}

#[test]
fn nothing_is_half_done() {
    judge(&rust(&["src", "tests", "fuzz/src", "fuzz/targets"]), half_done);
}

#[test]
fn names_describe_what_is_inside() {
    judge(&rust(&["src", "tests"]), empty_name);
}

#[test]
fn folders_begin_with_mod() {
    let found = beside_its_folder(&rust(&["src", "fuzz/src", "fuzz/targets", "benches"]));
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
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
        "docs",
        "monitoring",
        "packaging",
        "SECURITY.md",
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

/// The comments of a source.
fn comments(text: &str) -> String {
    let lines = text.lines().map(str::trim_start).filter(|line| line.starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn documents_and_comments_are_in_plain_words() {
    judge(&super::links::pages(), stilted);
    let sources = rust(&["src", "tests", "benches", "fuzz/src", "fuzz/targets"]);
    judge(&sources, |path, text| stilted(path, &comments(text)));
}

/// Each rule, shown something that it must find and something that it must not.
mod rules {
    use super::*;

    #[test]
    fn plain_words() {
        assert_eq!(stilted("a.md", "Read anew.\nIt is Mended.").len(), 2);
        assert_eq!(stilted("a.rs", "// One of so\n// many is told.").len(), 2);
        assert!(stilted("a.md", "`judged.rs` reads again, besides; so few, as many, retold").is_empty());
        assert_eq!(comments("let anew = 1; // not read\n    /// Whoever\n//! b"), "/// Whoever\n//! b");
    }

    #[test]
    fn length() {
        assert!(too_long("src/a.rs", &"\n".repeat(LINES_MAX)).is_empty());
        assert_eq!(too_long("src/a.rs", &"\n".repeat(LINES_MAX + 1)).len(), 1);
    }

    #[test]
    fn folders() {
        let found = |paths: &[&str]| {
            let files: Vec<_> = paths.iter().map(|path| ((*path).to_owned(), String::new())).collect();
            beside_its_folder(&files).len()
        };
        assert_eq!(found(&["src/a.rs", "src/a/b.rs"]), 1);
        assert_eq!(found(&["src/a/mod.rs", "src/a/b.rs", "src/ab.rs", "tests/a.rs"]), 0);
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
}

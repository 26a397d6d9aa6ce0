//! Keeps the house tidy: what the compiler cannot see, read from the sources and documents as text.
//!
//! Every rule is a pure function from a path and a text to sentences about what is wrong, so that each is also shown
//! something wrong at the foot of its file: a rule that finds nothing anywhere would look just as green.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test may panic")]

mod circles;
mod commands;
mod documents;
mod layers;
mod links;
mod logs;
mod packaging;
mod tables;
mod words;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

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

/// Files and folders (ending in `/`) that only tests are built from: `#[cfg(test)] mod x;` elsewhere makes them so.
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

/// These names as what a rule finds.
fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn tests_are_no_product() {
    let text = "#[cfg(test)]\nmod tests;\nmod types;\nuse crate::a; // crate::b\n\n#[cfg(test)]\nmod more {\n use crate::c;\n}";
    assert_eq!(layers::known(&product(text)), set(&["a"]));
    let files = [("src/config/mod.rs", text), ("src/config/load.rs", "#[cfg(test)]\npub(super) mod cases;\n")];
    let files = files.map(|(path, text)| (path.to_owned(), text.to_owned()));
    let only = ["src/config/load/cases.rs", "src/config/load/cases/", "src/config/tests.rs", "src/config/tests/"];
    assert_eq!(test_only(&files), set(&only));
}

//! Links between documents: each leads to a file that is there, and to a heading in it.

use super::{files, root};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// Every document: path and text.
pub(super) fn pages() -> Vec<(String, String)> {
    let all = files(&[
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "SECURITY.md",
        "docs",
        "examples/consumers/README.md",
    ]);
    all.into_iter().filter(|(path, _)| path.ends_with(".md")).collect()
}

/// Lines outside of blocks of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    })
}

/// The anchor that a forge makes of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | ' '))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// The anchors of a page; the second of one name ends in `-1`.
fn anchors(text: &str) -> Vec<String> {
    let mut times = BTreeMap::new();
    let headings = prose(text).filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#')));
    headings
        .map(|name| {
            let before = times.entry(name.clone()).or_insert(0);
            *before += 1;
            if *before == 1 { name } else { format!("{name}-{}", *before - 1) }
        })
        .collect()
}

/// What the links of a page lead to.
fn targets(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(text) {
        // Code is no link.
        let visible: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        let rests = visible.split("](").skip(1).map(str::to_owned).collect::<Vec<_>>();
        found.extend(rests.iter().filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())));
    }
    found
}

/// `a/b/../c` as `a/c`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(normal.pop()),
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

/// What is wrong with the links of a page; `read` is the text of a file, or nothing where there is none.
fn broken(path: &str, text: &str, read: &impl Fn(&Path) -> Option<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    for target in targets(text).into_iter().filter(|target| !target.contains("://")) {
        let (file, heading) = target.split_once('#').unwrap_or((&target, ""));
        let there = match file {
            "" => PathBuf::from(path),
            file => normal(&Path::new(path).parent().unwrap_or(Path::new("")).join(file)),
        };
        match read(&there) {
            None => wrong.push(format!("{path}: ({target}) is not there")),
            Some(text) if !heading.is_empty() && !anchors(&text).iter().any(|one| one == heading) => {
                wrong.push(format!("{path}: ({target}) has no such heading"));
            }
            Some(_) => {}
        }
    }
    wrong
}

#[test]
fn every_link_leads_somewhere() {
    let read = |path: &Path| {
        let path = root().join(path);
        // A picture, or a folder, has no headings.
        path.exists().then(|| std::fs::read_to_string(path).unwrap_or_default())
    };
    let pages = pages();
    let wrong: Vec<_> = pages.iter().flat_map(|(path, text)| broken(path, text, &read)).collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    let links: usize = pages.iter().map(|(_, text)| targets(text).len()).sum();
    assert!(links > 100, "only {links} links were found");
}

/// The first paragraph under the title of each page of docs/ begins with for whom it is.
#[test]
fn every_page_names_its_readers() {
    for (path, text) in pages().into_iter().filter(|(path, _)| path.starts_with("docs/")) {
        let first = text.lines().skip(1).find(|line| !line.is_empty()).unwrap_or_default();
        assert!(first.starts_with("For "), "{path} does not say for whom it is: {first}");
    }
}

/// Paths of sources that a page names between backticks, and that are not there: `legs/intake`, `cli/NAME.rs`.
fn missing_sources(text: &str, is_there: &impl Fn(&str) -> bool) -> Vec<String> {
    let spans = prose(text).flat_map(|line| line.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>());
    let is_path = |span: &String| {
        let mut letters = span.chars();
        span.contains('/')
            && letters.next().is_some_and(|first| first.is_ascii_lowercase())
            && letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '/' | '.'))
    };
    let ends = ["", ".rs", "/mod.rs"];
    let found =
        |path: &str| ["", "src/"].iter().any(|root| ends.iter().any(|end| is_there(&format!("{root}{path}{end}"))));
    spans.filter(is_path).filter(|path| !found(path.trim_end_matches('/'))).collect()
}

#[test]
fn sources_that_are_named_are_there() {
    let is_there = |path: &str| root().join(path).exists();
    let inside =
        |path: &str| path == "ARCHITECTURE.md" || path == "CONTRIBUTING.md" || path.starts_with("docs/internals/");
    for (path, text) in pages().into_iter().filter(|(path, _)| inside(path)) {
        // What a run leaves.
        let missing: Vec<_> =
            missing_sources(&text, &is_there).into_iter().filter(|path| !path.starts_with("target")).collect();
        assert!(missing.is_empty() || missing == ["fuzz/artifacts"], "{path}: {missing:?}");
    }
    let is_there = |path: &str| path == "src/a/b.rs";
    assert!(missing_sources("`a/b`, `a/b.rs` and `C/d` or `a b/c`", &is_there).is_empty());
    assert_eq!(missing_sources("`a/c`", &is_there), ["a/c"]);
}

#[test]
fn a_broken_link_is_found() {
    let read = |path: &Path| match path.to_str().unwrap() {
        "docs/a.md" => Some("# A\n## B, and `c_d`\n```\n## not\n```\n## B, and `c_d`\n".to_owned()),
        "README.md" => Some(String::new()),
        _ => None,
    };
    assert_eq!(anchors(&read(Path::new("docs/a.md")).unwrap()), ["a", "b-and-c_d", "b-and-c_d-1"]);
    let check = |link: &str, wrong: usize| assert_eq!(broken("docs/x.md", link, &read).len(), wrong, "{link}");
    for fine in ["[a](a.md)", "[a](a.md#b-and-c_d-1)", "[r](../README.md)", "[w](https://example.com/x)", "`[a](b.md)`"]
    {
        check(fine, 0);
    }
    for wrong in ["[a](b.md)", "[a](a.md#not)", "[a](#here)", "[r](README.md)"] {
        check(wrong, 1);
    }
    check("[a](b.md) and [`c`](c.md)", 2);
}

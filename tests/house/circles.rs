//! Who imports whom inside each folder: its parts, files and folders alongside each other, form no circle.
//!
//! A name counts for the file that defines it, not for a `mod.rs` that hands it on. What a part takes from the `mod.rs` above
//! it does not count: that file is the face of the folder, and the parts are what it was split into.

use super::sources;
use std::collections::{BTreeMap, BTreeSet};

/// Steps from one name that is handed on to the next; a circle of those is none of ours.
const HANDED_ON_MAX: usize = 8;

/// Absolute path of each module, without `crate`, and what is known of its file.
type Modules = BTreeMap<Vec<String>, Module>;

struct Module {
    path: String,
    code: String,
    /// Names that a `use` brings in, and the paths that they mean.
    names: BTreeMap<String, Vec<String>>,
}

fn words(path: &str) -> Vec<String> {
    path.split("::").map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
}

/// The paths of a tree such as `a::{self, b::C, d as e}`, each with the name that it brings in; `rest` is what follows.
fn tree(before: &[String], text: &str, found: &mut Vec<(Vec<String>, String)>) {
    let text = text.trim();
    if let Some((head, list)) = text.split_once('{') {
        let before = [before, &words(head)].concat();
        let mut depth = 0;
        let mut begin = 0;
        let list = list.rsplit_once('}').map_or(list, |(list, _)| list);
        for (at, letter) in list.char_indices().chain([(list.len(), ',')]) {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    tree(&before, &list[begin..at], found);
                    begin = (at + 1).min(list.len());
                }
                _ => {}
            }
        }
        return;
    }
    let (path, name) = text.split_once(" as ").map_or((text, None), |(path, name)| (path, Some(name.trim())));
    let mut path = [before, &words(path)].concat();
    path.retain(|word| word != "*");
    if path.len() > 1 && path.last().is_some_and(|word| word == "self") {
        path.pop();
    }
    if let Some(last) = path.last().cloned() {
        found.push((path, name.map_or(last, str::to_owned)));
    }
}

/// Where a path that begins with `crate`, `super` or `self` leads from `module`; `None` for those that begin with a name.
fn absolute(module: &[String], path: &[String]) -> Option<Vec<String>> {
    let mut base = match path.first()?.as_str() {
        "crate" => Vec::new(),
        "super" | "self" => module.to_vec(),
        _ => return None,
    };
    let up = path.iter().take_while(|word| *word == "super").count();
    base.truncate(base.len().saturating_sub(up));
    Some([&base[..], &path[up.max(1)..]].concat())
}

/// What the `use` lines bring in, with the tree of each.
fn uses(code: &str) -> Vec<(Vec<String>, String)> {
    let mut found = Vec::new();
    for rest in code.split("use ").skip(1) {
        tree(&[], rest.split(';').next().unwrap_or_default(), &mut found);
    }
    found
}

/// Every path of the code that begins with `crate`, `super` or `self`, imports and others.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut found: Vec<_> = uses(code).into_iter().map(|(path, _)| path).collect();
    for begin in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(begin) {
            let alone = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':' || c == '$');
            let path = &code[at..];
            let end = path.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(path.len());
            if alone {
                found.push(words(&path[..end]));
            }
        }
    }
    found
}

fn modules(files: &[(String, String)]) -> Modules {
    let read = files.iter().filter(|(path, _)| path != "src/main.rs").map(|(path, text)| {
        let inside = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("lib");
        let module = words(&inside.trim_end_matches("/mod").replace('/', "::"));
        let code = super::product(text);
        let mut names = BTreeMap::new();
        for (path, name) in uses(&code) {
            // A name that is no `crate` or the like is that of a part of the folder, or of a library.
            let leads = absolute(&module, &path).unwrap_or_else(|| [&module[..], &path].concat());
            names.insert(name, leads);
        }
        (module, Module { path: path.clone(), code, names })
    });
    read.collect()
}

/// The file that defines what `path` names.
fn defined_in<'m>(modules: &'m Modules, path: &[String], steps: usize) -> Option<&'m str> {
    let inside = (0..=path.len()).rev().find(|length| modules.contains_key(&path[..*length]))?;
    let module = &modules[&path[..inside]];
    let handed_on = path.get(inside).and_then(|name| module.names.get(name));
    match handed_on.filter(|leads| steps < HANDED_ON_MAX && leads.as_slice() != path) {
        // A library's name, or one that this file made up, is found nowhere deeper.
        Some(leads) if modules.keys().any(|known| known.len() > inside && leads.starts_with(known)) => {
            defined_in(modules, &[&leads[..], &path[inside + 1..]].concat(), steps + 1)
        }
        Some(leads) if !leads.starts_with(&path[..inside]) => {
            defined_in(modules, &[&leads[..], &path[inside + 1..]].concat(), steps + 1)
        }
        _ => Some(&module.path),
    }
}

/// From each file to those of which it imports something.
fn arrows(modules: &Modules) -> BTreeSet<(String, String)> {
    let mut arrows = BTreeSet::new();
    for (module, own) in modules {
        for path in paths(&own.code) {
            let target = absolute(module, &path).and_then(|path| defined_in(modules, &path, 0));
            if let Some(target) = target.filter(|target| *target != own.path) {
                arrows.insert((own.path.clone(), target.to_owned()));
            }
        }
    }
    arrows
}

/// The circles of each folder: its path, the parts, and the arrows between them.
fn circles(files: &[(String, String)]) -> Vec<(String, String)> {
    let mut inside: BTreeMap<String, BTreeMap<(String, String), String>> = BTreeMap::new();
    for (from, to) in arrows(&modules(files)) {
        let [from_parts, to_parts] = [&from, &to].map(|path| path.split('/').collect::<Vec<_>>());
        let same = from_parts.iter().zip(&to_parts).take_while(|(one, other)| one == other).count();
        // The folder in which the two part ways, and the part of it that each lies in.
        let ends = (from_parts[same].to_owned(), to_parts[same].to_owned());
        if ends.0 != "mod.rs" && ends.1 != "mod.rs" {
            inside.entry(from_parts[..same].join("/")).or_default().insert(ends, format!("{from} -> {to}"));
        }
    }
    let mut found = Vec::new();
    for (folder, arrows) in inside {
        let reached = |from: &str| {
            let mut reached = BTreeSet::new();
            let mut left = vec![from.to_owned()];
            while let Some(part) = left.pop() {
                let next = arrows.keys().filter(|(from, _)| *from == part).map(|(_, to)| to.clone());
                left.extend(next.filter(|to| reached.insert(to.clone())));
            }
            reached
        };
        let in_circle = |one: &str, other: &str| reached(one).contains(other) && reached(other).contains(one);
        let tied = arrows.iter().filter(|((from, to), _)| in_circle(from, to));
        let tied: Vec<_> = tied.map(|(_, arrow)| arrow.clone()).collect();
        if !tied.is_empty() {
            found.push((folder, tied.join("\n  ")));
        }
    }
    found
}

#[test]
fn no_folder_has_a_circle() {
    let found = circles(&sources());
    let shown: Vec<_> = found.iter().map(|(folder, arrows)| format!("{folder} has a circle:\n  {arrows}")).collect();
    assert!(found.is_empty(), "\n{}\n", shown.join("\n"));
}

/// Each rule, shown something that it must find and something that it must not.
mod rules {
    use super::*;

    #[track_caller]
    fn check(files: &[(&str, &str)], folders: &[&str]) {
        let files: Vec<_> = files.iter().map(|(path, text)| (format!("src/{path}"), (*text).to_owned())).collect();
        let found: Vec<_> = circles(&files).into_iter().map(|(folder, _)| folder).collect();
        assert_eq!(found, folders, "{files:?}");
    }

    #[test]
    fn trees() {
        let mut found = Vec::new();
        tree(&[], "crate::a::{self, b::{C, d as E}, F, g::*}", &mut found);
        let shown: Vec<_> = found.iter().map(|(path, name)| format!("{} {name}", path.join("::"))).collect();
        let wanted = ["crate::a a", "crate::a::b::C C", "crate::a::b::d E", "crate::a::F F", "crate::a::g g"];
        assert_eq!(shown, wanted);
    }

    #[test]
    fn files_of_a_folder() {
        let arrow = ("room/a.rs", "use super::b::B;");
        check(&[arrow, ("room/b.rs", "use super::a::A;")], &["src/room"]);
        check(&[arrow, ("room/b.rs", "fn f(a: &crate::room::a::A) {}")], &["src/room"]);
        check(&[arrow, ("room/b.rs", "use super::c::{C};"), ("room/c.rs", "use super::{a::A, b};")], &["src/room"]);
        check(&[arrow, ("room/b.rs", "// super::a::A\n")], &[]);
        check(&[arrow, ("room/b.rs", "struct B;\n#[cfg(test)]\nmod tests {\n    use super::super::a::A;\n}")], &[]);
    }

    #[test]
    fn names_that_are_handed_on_count_for_the_file_that_defines_them() {
        let face = ("room/mod.rs", "mod a;\nmod b;\npub use a::A;\npub struct Own;");
        check(&[face, ("room/a.rs", "use super::b::B;"), ("room/b.rs", "use super::A;")], &["src/room"]);
        check(&[face, ("room/a.rs", "use super::b::B;"), ("room/b.rs", "use crate::room::A;")], &["src/room"]);
        check(&[face, ("room/a.rs", "use super::b::B;"), ("room/b.rs", "use super::Own;")], &[]);
    }

    #[test]
    fn folders_alongside_each_other() {
        let rooms = [("one/x.rs", "use crate::two::y::Y;"), ("two/z.rs", "use crate::one::w::W;")];
        let parts = [("one/w.rs", ""), ("two/y.rs", "")];
        check(&[rooms[0], rooms[1], parts[0], parts[1]], &["src"]);
        check(&[rooms[0], parts[0], parts[1]], &[]);
    }
}

//! What is handed out to be installed: the Containerfile, read by a parser of its own, and the packages' scripts.
//!
//! The packages themselves are installed, upgraded and removed by `just release-try`, which needs root.

use super::{read, root};
use parse_dockerfile::{Command as Form, Instruction, Source, parse};
use std::path::PathBuf;
use std::process::Command;

/// What is wrong with a Containerfile; empty for one that can be built as it is.
fn mistakes(text: &str) -> Vec<String> {
    let file = match parse(text) {
        Ok(file) => file,
        Err(error) => return vec![error.to_string()],
    };
    let mut mistakes = Vec::new();
    for stage in file.stages() {
        let image = &stage.from.image.value;
        if !image.rsplit('/').next().is_some_and(|name| name.contains(':')) {
            mistakes.push(format!("{image} has no tag"));
        }
        for instruction in stage.instructions {
            match instruction {
                Instruction::Add(_) => mistakes.push("ADD fetches and unpacks: COPY is enough".to_owned()),
                Instruction::Copy(copy) => {
                    let from = copy.options.iter().find(|flag| flag.name.value == "from");
                    let stage = from.and_then(|flag| flag.value.as_ref()).map(|name| name.value.as_ref());
                    match stage {
                        Some(name) if file.stage(name).is_none() => mistakes.push(format!("no stage {name}")),
                        Some(_) => {}
                        None => mistakes.extend(copy.src.iter().filter_map(|source| match source {
                            // Settings, secrets and target/ of the person who builds would come along.
                            Source::Path(path) if path.value == "." => Some("COPY . takes everything".to_owned()),
                            Source::Path(path) if root().join(path.value.as_ref()).exists() => None,
                            other => Some(format!("{other:?} is not there to be copied")),
                        })),
                    }
                }
                _ => {}
            }
        }
    }
    let Some(last) = file.stages().last() else { return vec!["no stage".to_owned()] };
    let user = last.instructions.iter().rev().find_map(|instruction| match instruction {
        Instruction::User(user) => user.arguments.value.split(':').next()?.parse::<u32>().ok(),
        _ => None,
    });
    if user.unwrap_or_default() == 0 {
        mistakes.push("the last USER is not a number other than root's".to_owned());
    }
    let entry = last.instructions.iter().rev().find_map(|instruction| match instruction {
        Instruction::Entrypoint(entry) => Some(&entry.arguments),
        _ => None,
    });
    match entry {
        Some(Form::Exec(words)) if words.value.first().is_some_and(|word| word.value.starts_with('/')) => {}
        // A shell would be process 1, and swallow SIGTERM.
        _ => mistakes.push("ENTRYPOINT is not a list that begins with a path".to_owned()),
    }
    mistakes
}

#[test]
fn the_containerfile_can_be_built_and_does_not_run_as_root() {
    let text = read("packaging/Containerfile");
    assert_eq!(mistakes(&text), <[&str; 0]>::default());
    for (right, wrong, why) in [
        ("\nUSER 65532:65532\n", "\nUSER nonroot\n", "number other than root's"),
        ("\nUSER 65532:65532\n", "\nUSER 0\n", "number other than root's"),
        ("ENTRYPOINT [\"/usr/bin/pepay-relay\"]", "ENTRYPOINT /usr/bin/pepay-relay", "ENTRYPOINT is not"),
        ("--from=build", "--from=elsewhere", "no stage elsewhere"),
        ("COPY src src", "COPY nothing .", "is not there to be copied"),
        ("COPY src src", "COPY . .", "takes everything"),
        (":nonroot\n", "\n", "has no tag"),
        ("\nWORKDIR /src\n", "\nWORKDIRECTORY /src\n", "unknown instruction"),
        ("\nWORKDIR /src\n", "\nADD https://example.com/src /src\n", "COPY is enough"),
    ] {
        assert!(text.contains(right), "{right:?}");
        let found = mistakes(&text.replacen(right, wrong, 1));
        assert!(found.iter().any(|mistake| mistake.contains(why)), "{wrong:?}: {found:?}");
    }
}

/// The value of a line `key = "value"` of Cargo.toml.
fn manifest(key: &str) -> String {
    let text = read("Cargo.toml");
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix("= \""));
    line.and_then(|rest| rest.strip_suffix('"')).unwrap_or_else(|| panic!("Cargo.toml has no {key}")).to_owned()
}

#[test]
fn the_container_is_compiled_by_the_oldest_compiler_that_works_and_links_what_its_image_has() {
    let text = read("packaging/Containerfile");
    let file = parse(&text).unwrap();
    let images: Vec<_> = file.stages().map(|stage| stage.from.image.value.to_string()).collect();
    // One Debian, and so one glibc, for building and for running.
    assert_eq!(
        images,
        [
            format!("docker.io/library/rust:{}-bookworm", manifest("rust-version")),
            "gcr.io/distroless/cc-debian12:nonroot".to_owned()
        ]
    );
    let build = file.stage("build").unwrap();
    let position = |found: &dyn Fn(&Instruction<'_>) -> bool| build.instructions.iter().position(found).unwrap();
    // distroless/cc has glibc, OpenSSL, libgcc and libstdc++, and no zlib.
    let zlib = position(&|one| matches!(one, Instruction::Env(env) if env.arguments.value == "LIBZ_SYS_STATIC=1"));
    assert!(zlib < position(&|one| matches!(one, Instruction::Run(_))));
}

#[test]
fn the_scripts_of_the_packages_are_ones_that_a_plain_shell_reads() {
    let scripts: Vec<PathBuf> = ["deb", "rpm"]
        .into_iter()
        .flat_map(|kind| std::fs::read_dir(root().join("packaging").join(kind)).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(scripts.len(), 6, "{scripts:?}");
    for script in scripts {
        let status = Command::new("sh").arg("-n").arg(&script).status().unwrap();
        assert!(status.success(), "{}", script.display());
    }
}

/// Whether a pattern of an asset (`docs/*.md`) takes this file: a star means a name without folders.
fn takes(pattern: &str, path: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == path,
        Some((before, after)) => path
            .strip_prefix(before)
            .and_then(|rest| rest.strip_suffix(after))
            .is_some_and(|name| !name.is_empty() && !name.contains('/')),
    }
}

#[test]
fn both_packages_carry_every_page_where_its_links_lead() {
    let manifest = read("Cargo.toml");
    let pages = super::links::pages().into_iter().map(|(path, _)| path);
    let carried: Vec<_> =
        pages.filter(|path| path.starts_with("docs/")).chain(["README.md".into(), "ARCHITECTURE.md".into()]).collect();
    assert!(carried.len() > 20, "{carried:?}");
    let folder = "usr/share/doc/pepay-relay/";
    for (kind, begin, between) in [("deb", "    [\"", "\", \""), ("rpm", "    { source = \"", "\", dest = \"/")] {
        let assets: Vec<_> = manifest
            .lines()
            .filter_map(|line| line.strip_prefix(begin)?.split_once(between))
            .filter_map(|(source, rest)| Some((source, rest.split_once('"')?.0)))
            .collect();
        for page in &carried {
            let to = assets.iter().find(|(source, _)| takes(source, page)).map(|(_, to)| *to);
            let wanted = format!("{folder}{page}");
            let is_there = to.is_some_and(|to| {
                to == wanted || to.ends_with('/') && wanted.strip_prefix(to).is_some_and(|name| !name.contains('/'))
            });
            assert!(is_there, "the {kind} has no {page} at {wanted}: {to:?}");
        }
    }
    assert!(takes("docs/*.md", "docs/a.md") && !takes("docs/*.md", "docs/b/a.md") && !takes("docs/*.md", "docs/a.png"));
}

/// What `packaging/notes` prints for a version in a folder with this changelog, and whether it succeeded.
fn notes(version: &str, changelog: &str) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    for file in ["Cargo.toml", "packaging/helm/Chart.yaml", "packaging/notes"] {
        let there = folder.path().join(file);
        std::fs::create_dir_all(there.parent().unwrap()).unwrap();
        std::fs::copy(root().join(file), there).unwrap();
    }
    std::fs::write(folder.path().join("CHANGELOG.md"), changelog).unwrap();
    let output = Command::new(folder.path().join("packaging/notes")).arg(version).output().unwrap();
    (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[test]
fn a_release_is_of_the_version_that_everything_names_and_lists_what_changed() {
    let version = manifest("version");
    let changelog = format!(
        "# Changelog\n\n## [Unreleased]\n\n- later\n\n## [{version}] - 2026-01-01\n\n- this\n\n## [0.0.1]\n\n- before\n"
    );
    let (done, said) = notes(&version, &changelog);
    assert!(done && said.trim() == "- this", "{said}");
    let (done, said) = notes("99.0.0", &changelog);
    assert!(!done && said.contains("not 99.0.0"), "{said}");
    let (done, said) = notes(&version, "# Changelog\n\n## [Unreleased]\n\n- later\n");
    assert!(!done && said.contains("has nothing on"), "{said}");
}

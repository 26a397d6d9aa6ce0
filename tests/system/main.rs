//! What is handed to the system, checked by the system's own tools: units by `systemd-analyze`, alerts and metrics by
//! `promtool`.
//!
//! Not part of `cargo test`, since it needs Debian's `systemd` and `prometheus`: `just system`, and CI, run it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod monitoring;
mod units;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// Runs a tool of the system; its output, which counts only if it succeeded.
fn succeeds(tool: &mut Command, package: &str) -> String {
    let name = tool.get_program().to_string_lossy().into_owned();
    let output = tool.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{name}: {error}; install Debian's package {package}"));
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{name} {:?}:\n{text}", tool.get_args());
    text
}

fn monitoring(file: &str) -> PathBuf {
    root().join("monitoring").join(file)
}

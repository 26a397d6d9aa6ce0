//! The systemd units.

use super::{read, succeeds};
use std::process::Command;

const UNITS: [&str; 2] = ["pepay-relay.service", "pepay-relay@.service"];

/// What the sandbox may leave open at most, in tenths of systemd's measure.
const EXPOSURE_MAX: u32 = 12;

/// Lines of a unit that do something.
fn directives(unit: &str) -> Vec<String> {
    let lines = unit.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

#[test]
fn the_units_are_valid_and_leave_little_open() {
    let folder = tempfile::tempdir().unwrap();
    for unit in UNITS {
        // `verify` wants a program that is there, and an instance of a template.
        let text = read(&format!("systemd/{unit}")).replace("/usr/bin/pepay-relay", env!("CARGO_BIN_EXE_pepay-relay"));
        let file = folder.path().join(unit.replace('@', "@devnet"));
        std::fs::write(&file, text).unwrap();
        let said = succeeds(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file), "systemd");
        assert_eq!(said, "", "{unit}");
        let threshold = format!("--threshold={EXPOSURE_MAX}");
        succeeds(
            Command::new("systemd-analyze").args(["security", "--offline=true", "--no-pager", &threshold]).arg(&file),
            "systemd",
        );
    }
}

#[test]
fn an_instance_differs_from_the_one_relay_in_what_names_it_alone() {
    let [one, template] = UNITS.map(|unit| directives(&read(&format!("systemd/{unit}"))));
    let unnamed: Vec<_> = template
        .into_iter()
        .filter(|line| !line.starts_with("Environment="))
        .map(|line| line.replace(" (%i)", "").replace("%i/", ""))
        .collect();
    assert_eq!(unnamed, one);
}

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
fn the_sockets_are_valid_and_of_the_address_that_the_settings_have() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["pepay-relay", "pepay-relay@"] {
        let write = |kind: &str, text: &str| {
            let file = folder.path().join(format!("{name}.{kind}").replace('@', "@devnet"));
            std::fs::write(&file, text).unwrap();
            file
        };
        let service = read(&format!("systemd/{name}.service"));
        write("service", &service.replace("/usr/bin/pepay-relay", env!("CARGO_BIN_EXE_pepay-relay")));
        let socket = read(&format!("systemd/{name}.socket"));
        let file = write("socket", &socket);
        let said = succeeds(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file), "systemd");
        assert_eq!(said, "", "{name}");
        let listen =
            directives(&socket).into_iter().find_map(|line| line.strip_prefix("ListenStream=").map(str::to_owned));
        assert!(read("config/pepay-relay.toml").contains(&format!("#listen = \"{}\"", listen.unwrap())));
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
    let [one, template] = ["pepay-relay", "pepay-relay@"].map(|name| read(&format!("systemd/{name}.socket")));
    assert_eq!(directives(&template.replace(" (%i)", "")), directives(&one));
}

//! The command line as scripts and packagers meet it, with no network and no settings.

use super::{Ended, program};
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

/// Every command of this version.
const COMMANDS: [&str; 21] = [
    "run",
    "demo",
    "check",
    "topics",
    "tail",
    "status",
    "availability",
    "products",
    "checkout",
    "payments",
    "orders",
    "devnet",
    "events",
    "webhook",
    "replay",
    "forget",
    "smoke",
    "simulator",
    "schema",
    "completions",
    "man",
];

/// Every command of a command.
const SUBCOMMANDS: [[&str; 2]; 15] = [
    ["products", "search"],
    ["checkout", "estimate"],
    ["checkout", "address"],
    ["checkout", "invoice"],
    ["checkout", "create"],
    ["payments", "status"],
    ["orders", "list"],
    ["orders", "get"],
    ["orders", "cancel"],
    ["devnet", "simulate"],
    ["events", "list"],
    ["events", "get"],
    ["webhook", "sign"],
    ["webhook", "verify"],
    ["webhook", "send"],
];

fn run(arguments: &[&str]) -> (i32, String, String) {
    let Ended { status, stdout, stderr } = program(arguments, &[]).output().unwrap().into();
    (status, stdout, stderr)
}

#[test]
fn help_names_everything_and_shows_an_example() {
    let (status, help, _) = run(&["--help"]);
    assert_eq!(status, 0);
    insta::assert_snapshot!("help", help);
    for command in COMMANDS {
        let (status, help, stderr) = run(&[command, "--help"]);
        assert_eq!((status, stderr.as_str()), (0, ""), "{command}");
        assert!(help.contains(&format!("\n  pepay-relay {command}")), "{command} has no example:\n{help}");
        insta::assert_snapshot!(format!("help-{command}"), help);
    }
}

#[test]
fn help_of_a_command_of_a_command_shows_an_example() {
    for [of, command] in SUBCOMMANDS {
        let (status, help, stderr) = run(&[of, command, "--help"]);
        assert_eq!((status, stderr.as_str()), (0, ""), "{of} {command}");
        assert!(help.contains(&format!("\n  pepay-relay {of} {command}")), "{of} {command} has no example:\n{help}");
        insta::assert_snapshot!(format!("help-{of}-{command}"), help);
        let (status, page, _) = run(&["man", &format!("{of}-{command}")]);
        assert!(status == 0 && page.contains(&format!(".TH pepay-relay-{of}-{command} 1")), "{of} {command}: {page}");
    }
}

#[test]
fn help_lists_exactly_the_commands_tested_here() {
    assert_eq!(listed(&["--help"]), COMMANDS);
    for of in COMMANDS {
        let tested = SUBCOMMANDS.iter().filter(|[parent, _]| *parent == of).map(|[_, command]| *command);
        assert_eq!(listed(&[of, "--help"]), tested.collect::<Vec<_>>(), "{of}");
    }
}

/// The commands that a help lists.
fn listed(arguments: &[&str]) -> Vec<String> {
    let (_, help, _) = run(arguments);
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn wrong_usage_is_status_2() {
    for arguments in [
        &[][..],
        &["fly"],
        &["run", "--fast"],
        &["run", "--from"],
        &["run", "--from", "soon"],
        &["run", "--from", "9000-01-01T00:00:00Z"],
        &["tail", "--topic", "pepay.orders"],
        &["tail", "--from", "yesterday"],
        &["tail", "--count", "0"],
        &["completions"],
        &["completions", "cobol"],
        &["simulator", "--listen", "nowhere"],
        &["--output", "xml", "schema"],
        &["--log-level", "loud", "schema"],
    ] {
        let (status, stdout, stderr) = run(arguments);
        assert_eq!(status, 2, "{arguments:?}");
        assert_eq!(stdout, "", "{arguments:?}");
        assert!(stderr.contains("Usage:") || stderr.contains("--help"), "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_beginning_that_is_none_is_reported_in_a_sentence() {
    for (from, sentence) in [("soon", "expected a duration such as `36h`"), ("9000-01-01T00:00:00Z", "in the future")] {
        let (status, _, stderr) = run(&["run", "--from", from]);
        assert_eq!(status, 2);
        assert!(stderr.contains(sentence), "{stderr}");
    }
}

#[test]
fn six_mistakes_are_reported_at_once_with_status_78() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(
        b"colour = \"red\"
[provider]
api_url = \"http://pepay.example\"
environment = \"moon\"
timeout = \"soon\"
[kafka]
bootstrap_servers = \"127.0.0.1:9092\"
partitions = 0
[websocket]
auth = \"guess\"
",
    )
    .unwrap();
    let config = file.path().to_str().unwrap();
    for command in [&["check", "--offline"][..], &["check"], &["run"], &["topics"], &["tail"]] {
        let output = program(command, &[])
            .args(["--config", config])
            .env("PEPAY_RELAY_API_KEY", "pk_live_must-never-be-shown")
            .env("PEPAY_RELAY_WEBHOOK_SECRETS", "whsec_must-never-be-shown-00000000")
            .output()
            .unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{command:?}: {told}");
        let keys = [
            "colour",
            "provider.api_url",
            "provider.environment",
            "provider.timeout",
            "kafka.partitions",
            "websocket.auth",
        ];
        for key in keys {
            assert!(told.contains(key), "{command:?} does not name {key}:\n{told}");
        }
        assert_eq!(told.matches(config).count(), keys.len(), "one line a mistake, each with its file:\n{told}");
        assert!(!told.contains("must-never-be-shown"), "{told}");
    }
}

#[test]
fn a_named_file_that_is_missing_is_status_78() {
    let (status, _, stderr) = run(&["check", "--offline", "--config", "/nonexistent/relay.toml"]);
    assert_eq!(status, 78, "{stderr}");
    assert!(stderr.contains("/nonexistent/relay.toml"), "{stderr}");
}

#[test]
fn schemas_are_one_object_with_a_key_a_topic() {
    let (status, stdout, stderr) = run(&["schema"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    let schemas: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&stdout).unwrap();
    let mut topics: Vec<&str> = schemas.keys().map(String::as_str).collect();
    topics.sort_unstable();
    assert_eq!(topics, ["control", "dead_letter", "invoices", "orders", "orders_latest"]);
    for (topic, schema) in schemas {
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema", "{topic}");
    }
}

#[test]
fn schemas_are_open_or_a_document_where_asked_for() {
    let json = |arguments: &[&str]| -> serde_json::Value {
        let (status, stdout, stderr) = run(arguments);
        assert_eq!((status, stderr.as_str()), (0, ""), "{arguments:?}");
        serde_json::from_str(&stdout).unwrap()
    };
    let closed = json(&["schema"]);
    let open = json(&["schema", "--open"]);
    assert_eq!(closed["orders"]["additionalProperties"], false);
    assert_eq!(open["orders"].get("additionalProperties"), None);
    let document = json(&["schema", "--asyncapi"]);
    assert_eq!(document["asyncapi"], "3.0.0");
    for topic in closed.as_object().unwrap().keys() {
        let channel = &document["channels"][topic];
        let message = &document["components"]["messages"][topic];
        assert!(channel["address"].as_str().unwrap().starts_with("pepay."), "{topic}");
        assert_eq!(message["payload"]["title"], open[topic]["title"], "{topic}");
        assert!(message["bindings"]["kafka"]["key"]["description"].is_string(), "{topic}");
    }
    assert_eq!(run(&["schema", "--open", "--asyncapi"]).0, 2);
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let (status, script, stderr) = run(&["completions", shell]);
        assert_eq!((status, stderr.as_str()), (0, ""), "{shell}");
        for command in COMMANDS {
            assert!(script.contains(command), "{shell} does not know {command}");
        }
    }
}

#[test]
fn manual_pages_are_named_as_man_looks_for_them() {
    let (status, page, _) = run(&["man"]);
    assert_eq!(status, 0);
    assert!(page.contains(".TH pepay-relay 1"), "{page}");
    for command in COMMANDS {
        assert!(page.contains(&format!("pepay\\-relay\\-{command}(1)")), "the page does not point to {command}");
        let (status, page, _) = run(&["man", command]);
        assert_eq!(status, 0, "{command}");
        assert!(page.contains(&format!(".TH pepay-relay-{command} 1")), "{command}: {page}");
        assert!(page.contains(&format!("pepay\\-relay {command}")), "{command}: {page}");
    }
    let (status, stdout, stderr) = run(&["man", "\u{1b}[2J"]);
    assert_eq!((status, stdout.as_str()), (1, ""));
    assert!(stderr.contains("there is no command") && !stderr.contains('\u{1b}'), "{stderr:?}");
}

/// As in a container without `ca-certificates`.
#[test]
fn what_talks_to_this_machine_alone_needs_no_certificates() {
    let bare = |arguments: &[&str]| {
        let mut command = program(arguments, &[]);
        command.env("SSL_CERT_FILE", "/dev/null").env("SSL_CERT_DIR", "/dev/null");
        command
    };
    let asked = bare(&["status"]).env("PEPAY_RELAY__ADMIN__LISTEN", "127.0.0.1:1").output().unwrap();
    let said = String::from_utf8_lossy(&asked.stderr);
    assert!(said.contains("no relay answers at"), "{said}");

    let mut simulator = bare(&["simulator", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(simulator.stdout.take().unwrap()).read_line(&mut first).unwrap();
    simulator.kill().unwrap();
    simulator.wait().unwrap();
    assert!(first.contains("http://127.0.0.1:"), "{first}");
}

/// The lines of `run` with a warning, where stderr is `stderr` and systemd announces that the journal is `journal`.
fn logged(stderr: OwnedFd, journal: &str, format: &str) -> std::io::Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("relay.toml");
    // Others may read the key: a warning; the port is taken: it does not stay.
    std::fs::write(folder.path().join("key"), "ck_0000000000000000").unwrap();
    std::fs::set_permissions(folder.path().join("key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let settings = format!(
        "[provider]\napi_url = \"http://127.0.0.1:1\"\nwebsocket_url = \"ws://127.0.0.1:1\"\nenvironment = \"devnet\"\n\
         api_key_file = \"{}\"\n[webhook]\nlisten = \"{}\"\n[kafka]\nbootstrap_servers = \"127.0.0.1:1\"\n",
        folder.path().join("key").display(),
        taken.local_addr().unwrap()
    );
    std::fs::write(&file, settings).unwrap();
    let mut command = program(&["run", "--log-format", format, "--config", file.to_str().unwrap()], &[]);
    command.env("PEPAY_RELAY_WEBHOOK_SECRETS", "whsec_0000000000000000").env("JOURNAL_STREAM", journal);
    let status = command.stderr(stderr).status()?;
    assert!(!status.success());
    Ok(())
}

/// systemd.exec(5), `$JOURNAL_STREAM`: the device and inode of the stream; sd-daemon(3): `<N>` begins a line there.
#[test]
fn lines_begin_with_their_priority_where_stderr_is_the_journal_and_nowhere_else() {
    let identity = |file: &dyn AsRawFd| {
        let file = std::fs::metadata(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
        (file.dev(), file.ino())
    };
    for format in ["text", "json"] {
        for is_the_journal in [true, false] {
            let (mut reader, writer) = UnixStream::pair().unwrap();
            let (dev, ino) = identity(&writer);
            let journal = if is_the_journal { format!("{dev}:{ino}") } else { format!("{dev}:{}", ino + 1) };
            logged(writer.into(), &journal, format).unwrap();
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            check_prefixes(&text, is_the_journal);

            let mut file = tempfile::tempfile().unwrap();
            let (dev, ino) = identity(&file);
            let journal = if is_the_journal { format!("{dev}:{ino}") } else { format!("{}:{ino}", dev + 1) };
            logged(file.try_clone().unwrap().into(), &journal, format).unwrap();
            let mut text = String::new();
            file.rewind().unwrap();
            file.read_to_string(&mut text).unwrap();
            check_prefixes(&text, is_the_journal);
        }
    }
}

#[track_caller]
fn check_prefixes(text: &str, is_the_journal: bool) {
    let warning = text.lines().find(|line| line.contains("WARN")).unwrap_or_else(|| panic!("no warning:\n{text}"));
    assert_eq!(warning.starts_with("<4>"), is_the_journal, "{text}");
    assert_eq!(text.contains("<4>"), is_the_journal, "{text}");
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = program(&["completions", "bash"], &[]).stdout(writer).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

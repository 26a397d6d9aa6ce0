//! `docs/guide.md`, typed by a test: its commands on a simulator and a real Kafka print what the page shows.

use crate::support::kafka::Broker;
use crate::support::ports::free_address;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tempfile::tempdir;
use tokio::process::Command;

/// All steps take some 20 s on a loaded machine; a start takes what Kafka takes.
const PATIENCE: Duration = Duration::from_secs(240);

/// A block of the page: commands, each with what the page shows of its output.
type Block = Vec<(String, Vec<String>)>;

/// The blocks with commands (`$ …`, continued by `> …`).
fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    for block in page.split("```").skip(1).step_by(2) {
        let mut commands = Block::new();
        for line in block.lines() {
            if let Some(command) = line.strip_prefix("$ ") {
                commands.push((command.to_owned(), Vec::new()));
            } else if let Some((command, shown)) = commands.last_mut() {
                match line.strip_prefix("> ") {
                    Some(more) => *command += &format!("\n{more}"),
                    None if line.trim().is_empty() || line == "…" => {}
                    None => shown.push(line.to_owned()),
                }
            }
        }
        blocks.push(commands);
    }
    blocks.retain(|commands| !commands.is_empty());
    blocks
}

/// The line without what differs from run to run: ids, times, numbers, the leg, and how wide columns are.
fn same(line: &str) -> String {
    let words = line.split_whitespace().filter(|word| !word.chars().all(|c| c == '─')).map(|word| {
        let is_leg = ["websocket", "webhook", "backfill"].contains(&word);
        let is_value = word.chars().any(|c| c.is_ascii_digit()) || word.contains('…') || word.contains("://");
        if is_leg || is_value { "#" } else { word }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// What is waited for after a command that goes on in the background.
fn awaited(command: &str) -> String {
    let until = |file: &str, words: &str| format!("\ngrep -q -m1 '{words}' <(tail -n +1 -F {file} 2>/dev/null)");
    match command {
        _ if command.ends_with("> pepay.env &") => until("pepay.env", "PEPAY_RELAY_WEBHOOK_SECRETS"),
        // The second start appends: its own line is the one after the stop.
        _ if command.ends_with(">> relay.log &") => {
            until("relay.log", "stopped") + &until("relay.log", "stream connected")
        }
        _ if command.ends_with("2> relay.log &") => {
            until("relay.log", "relay ready") + &until("relay.log", "stream connected")
        }
        _ => String::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_guide_prints_what_it_shows() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guide.md")).unwrap();
    let folder = tempdir().unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_pepay-relay"), folder.path().join("pepay-relay")).unwrap();
    let address = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    std::fs::write(folder.path().join("home.toml"), address).unwrap();

    // Of the page's ports, free ones; and a name of its own on a Kafka that others use too.
    let [simulator, webhook, admin, webhook_2, admin_2] = [(); 5].map(|()| free_address().to_string());
    let here = |text: &str| {
        let text = text.replace("localhost:9092", Broker::shared().bootstrap());
        let text = text.replace("127.0.0.1:8790", &webhook_2).replace("127.0.0.1:9465", &admin_2);
        let text = text.replace("127.0.0.1:8787", &webhook);
        // An id that the page shows is the one that was made just before.
        let is_id = |value: &str| value.len() == 36 && value.matches('-').count() == 4;
        match text.split_once('=') {
            Some((name, value)) if is_id(value) => format!("{name}=$(sed -n 's/^order *//p' made | tail -n 1)"),
            _ if text.starts_with("pepay-relay checkout create") => {
                text.replacen("home.toml", "home.toml 2>&1 | tee -a made", 1)
            }
            _ => text.replace("simulator --every", &format!("simulator --listen {simulator} --every")),
        }
    };
    // As at a prompt: jobs have numbers, and a failed command is noticed.
    let mut script = "set -m; set -o pipefail; trap 'kill $(jobs -p) 2>/dev/null' EXIT\n".to_owned();
    let blocks = blocks(&page);
    assert!(blocks.len() >= 7, "{blocks:?}");
    for (number, (command, _)) in blocks.iter().flatten().enumerate() {
        script += &format!("echo '=== {number}'\n{}{}\n", here(command), awaited(command));
        if !command.ends_with('&') && !command.contains("wait") {
            script += "status=$?; [ $status = 0 ] || { echo \"status $status\"; cat *.log; exit 1; }\n";
        }
    }
    let bash = Command::new("bash")
        .args(["-c", &script])
        .current_dir(folder.path())
        .env_clear()
        .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", folder.path().display()))
        .env("PEPAY_RELAY__NAME", "guide")
        .env("PEPAY_RELAY__KAFKA__TOPIC_PREFIX", "guide")
        .env("PEPAY_RELAY__WEBHOOK__LISTEN", &webhook)
        .env("PEPAY_RELAY__ADMIN__LISTEN", &admin)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, bash).await.expect("the guide ends").unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    println!("{printed}");
    assert!(output.status.success(), "{printed}\n{errors}");

    let parts: Vec<&str> = printed.split("=== ").skip(1).collect();
    for (number, (command, shown)) in blocks.iter().flatten().enumerate() {
        let mut printed = parts[number].lines().map(same);
        for line in shown {
            let is_there = printed.any(|printed| printed == same(line));
            assert!(is_there, "`{command}` does not print {line:?} where the guide shows it, but:\n{}", parts[number]);
        }
    }
}

#[test]
fn what_the_page_shows_is_read_and_compared() {
    let page = "```\nnone\n```\ntext\n```\n$ a; b\n> c\nout 1\n\n$ d\n…\nx\n```\n";
    let wanted = vec![("a; b\nc".to_owned(), vec!["out 1".to_owned()]), ("d".to_owned(), vec!["x".to_owned()])];
    assert_eq!(blocks(page), [wanted]);
    assert_eq!(same("02:43:34.750  c9fb…4ec8  placed → shipped    websocket  x.y"), "# # placed → shipped # x.y");
    assert_ne!(same("status  placed"), same("status  shipped"));
}

//! `demo --nodes`: a node is killed, another takes over, nothing is lost, and docs/cluster.md shows what is printed.

use super::{Ended, PATIENCE, program};
use std::path::Path;
use tokio::process::Command;

/// What docs/cluster.md shows of a run, which is not all of it.
fn shown() -> Vec<String> {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cluster.md")).unwrap();
    let blocks = page.split("```").skip(1).step_by(2);
    let block = blocks.into_iter().find(|block| block.contains("(SIGKILL)")).expect("a block with a run");
    block.lines().filter(|line| !line.trim().is_empty() && line.trim() != "…").map(str::to_owned).collect()
}

/// The line without what differs from run to run: ids, times, numbers, the leg, which node has which shard, and how wide columns are.
fn same(line: &str) -> String {
    let words = line.split_whitespace().filter(|word| !word.chars().all(|c| c == '─')).map(|word| {
        let is_leg = ["websocket", "webhook", "backfill"].contains(&word);
        let is_value = word.chars().any(|c| c.is_ascii_digit()) || word.contains('…') || word.contains("://");
        if is_leg || is_value || word.starts_with("node-") { "#" } else { word }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn a_node_is_killed_another_takes_over_and_the_books_balance() {
    let mut command = Command::from(program(&["demo", "--nodes", "2"], &[]));
    let output = command.kill_on_drop(true).output();
    let said = Ended::from(tokio::time::timeout(2 * PATIENCE, output).await.expect("it ends").unwrap());
    assert_eq!((said.status, said.stderr.as_str()), (0, ""), "{}", said.stdout);
    let mut printed = said.stdout.lines().map(same);
    for line in shown() {
        assert!(printed.any(|printed| printed == same(&line)), "not printed, or not here: {line}\n{}", said.stdout);
    }
}

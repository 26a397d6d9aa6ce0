//! The command line as the real binary: what scripts and packagers meet (`usage`), commands that ask the provider, against
//! the simulator and servers that misbehave, and commands that sell (each from a [`shop::Shop`]).
//!
//! No Kafka: `replay`, `forget`, `smoke` and `topics` where there is one are in `tests/delivery`.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed test may panic, and nobody links a test"
)]

mod alone;
mod away;
mod checkout;
mod demo;
mod events;
mod mistakes;
mod orders;
mod pages;
mod payments;
mod products;
mod redact;
mod shop;
mod simulator;
mod smoke;
mod stalled;
mod status;
mod usage;
mod watch;
mod webhook;

use pepay_relay::simulator::{Options, Simulator};
use serde_json::Value;
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// Nothing here takes long: what has not happened after this never will.
const PATIENCE: Duration = Duration::from_secs(60);

/// The binary in an environment of this alone, where what is empty is not there. Nothing is on its stdin.
fn program(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pepay-relay"));
    // The width that help and tables are wrapped to where there is no terminal.
    command.args(arguments).env_clear().env("COLUMNS", "100").stdin(Stdio::null());
    command.envs(environment.iter().copied());
    for (name, _) in environment.iter().filter(|(_, value)| value.is_empty()) {
        command.env_remove(name);
    }
    command
}

/// How a command ended.
#[derive(Debug)]
struct Ended {
    status: i32,
    stdout: String,
    stderr: String,
}

impl From<Output> for Ended {
    fn from(Output { status, stdout, stderr }: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Self { status: status.code().expect("an exit status"), stdout: text(stdout), stderr: text(stderr) }
    }
}

/// Runs a command to its end with this on its stdin.
async fn ended(command: Command, stdin: &[u8]) -> Ended {
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    // A command that reads no input may be gone already.
    let _ = input.write_all(stdin).await;
    drop(input);
    tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").unwrap().into()
}

/// Runs the binary with nothing in its environment but this.
async fn bare(arguments: &[&str], environment: &[(&str, &str)], stdin: &[u8]) -> Ended {
    // Wide enough for every table here.
    ended(program(arguments, &[&[("COLUMNS", "200")], environment].concat()), stdin).await
}

/// The same with the simulator's settings in its environment, and more.
async fn relay_with(simulator: &Simulator, arguments: &[&str], more: &[(&str, &str)], stdin: &[u8]) -> Ended {
    let api_url = simulator.api_url();
    let websocket_url = simulator.websocket_url();
    let settings = [
        ("PEPAY_RELAY__PROVIDER__API_URL", api_url.as_str()),
        ("PEPAY_RELAY__PROVIDER__WEBSOCKET_URL", &websocket_url),
        ("PEPAY_RELAY__PROVIDER__ENVIRONMENT", "devnet"),
        // Nobody listens there; no command here needs a Kafka.
        ("PEPAY_RELAY__KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1"),
        ("PEPAY_RELAY_API_KEY", simulator.api_key()),
        ("PEPAY_RELAY_WEBHOOK_SECRETS", simulator.webhook_secret()),
    ];
    bare(arguments, &[&settings, more].concat(), stdin).await
}

/// The same with the simulator's settings alone.
async fn relay(simulator: &Simulator, arguments: &[&str]) -> Ended {
    relay_with(simulator, arguments, &[], b"").await
}

async fn start() -> Simulator {
    Simulator::start(Options::default()).await.unwrap()
}

/// The JSON of each line.
fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

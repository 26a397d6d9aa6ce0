//! Commands that ask the provider, as the real binary, against the simulator and servers that misbehave.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests print, fail loudly, and share files of which each uses a part"
)]

mod alone;
mod away;
mod events;
mod simulator;
mod smoke;
mod status;
mod webhook;

use pepay_relay::simulator::{Options, Simulator};
use std::process::{Output, Stdio};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// What a command said.
struct Said {
    status: i32,
    stdout: String,
    stderr: String,
}

async fn start() -> Simulator {
    Simulator::start(Options::default()).await.unwrap()
}

/// The binary with the simulator's settings in its environment, and nothing else.
async fn relay(simulator: &Simulator, arguments: &[&str]) -> Said {
    relay_with(simulator, arguments, &[], b"").await
}

/// The same with more in its environment and on stdin.
async fn relay_with(simulator: &Simulator, arguments: &[&str], more: &[(&str, &str)], stdin: &[u8]) -> Said {
    let (api_url, websocket_url) = (simulator.api_url(), simulator.websocket_url());
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

/// The binary with nothing in its environment but this; what is empty is not there.
async fn bare(arguments: &[&str], environment: &[(&str, &str)], stdin: &[u8]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pepay-relay"));
    command.args(arguments).env_clear().env("COLUMNS", "200");
    command.envs(environment.iter().copied());
    for (name, _) in environment.iter().filter(|(_, value)| value.is_empty()) {
        command.env_remove(name);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    // A command that reads no input may be gone already.
    let _ = input.write_all(stdin).await;
    drop(input);
    let Output { status, stdout, stderr } = child.wait_with_output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Said { status: status.code().expect("an exit status"), stdout: text(stdout), stderr: text(stderr) }
}

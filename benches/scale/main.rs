//! What more accounts, shards and nodes cost: `just bench-scale`, or `cargo bench --bench scale -- --help`.
//!
//! Each part starts a simulated provider with a merchant an account, on one real Kafka, and the real binary, with settings as in
//! production.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "a bench prints, and may fail loudly"
)]

mod accounts;
mod nodes;
mod stage;
#[path = "../../tests/support/mod.rs"]
mod support;
mod takeover;

use clap::Parser;
use support::kafka::Broker;

/// Measures what more accounts, shards and nodes cost.
#[derive(Parser, Debug)]
struct Arguments {
    /// Parts to measure, with commas between: accounts, nodes, takeover.
    #[arg(long, value_delimiter = ',', default_value = "accounts,nodes,takeover")]
    only: Vec<String>,
    /// Accounts of one node, for the first part.
    #[arg(long, value_delimiter = ',', default_value = "1,100,1000")]
    accounts: Vec<usize>,
    /// Counted rounds of the second part, after one that is not, and takeovers of the third.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
    /// Events of each run, for which the clock runs.
    #[arg(long, default_value_t = 20_000)]
    events: usize,
    /// `cargo bench` passes it to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() {
    let Arguments { only, accounts, runs, events, .. } = Arguments::parse();
    let broker = Broker::measured();
    for part in only {
        match part.as_str() {
            "accounts" => accounts::measure(&broker, &accounts, events).await,
            "nodes" => nodes::measure(&broker, runs, events).await,
            "takeover" => takeover::measure(&broker, runs).await,
            other => panic!("no part is called {other:?}"),
        }
    }
}

//! The whole relay, measured: `just bench`, or `cargo bench --bench end_to_end -- --help`.
//!
//! The real binary is between a provider that plays prepared frames and prepared signed requests, and a real
//! Kafka. In turn with it runs the *base*: a bare transactional librdkafka producer, a process of its own, that writes
//! the same normalized records with the same headers over as many partitions in transactions of as many. Machines
//! differ and drift; so every target is a ratio of the two in one run, pair by pair.
//!
//! Alongside them runs a *reader*, which takes the same frames and requests and does nothing with them. What base and reader
//! cost together is the least that a program which reads and writes can cost with the same libraries. A closed loop is
//! more than the sum of its parts, so for webhooks a program is there too that does the relay's full work and nothing
//! alongside it (`least`).
//!
//! The generator does next to nothing while it is measured: frames and requests are bytes that are only written.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench may stop")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints")]
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "figures")]
#![allow(unreachable_pub, missing_docs, dead_code, reason = "a program of its own, which shares files with the tests")]

mod base;
mod far;
mod figures;
#[path = "../../tests/support/kafka.rs"]
mod kafka;
mod least;
mod load;
mod parts;
mod peers;
#[path = "../../tests/support/planned.rs"]
mod planned;
#[path = "../../tests/support/ports.rs"]
mod ports;
#[path = "../../tests/support/proc.rs"]
mod proc;
mod process;
mod provider;
#[path = "../../tests/support/proxy.rs"]
mod proxy;
mod reader;
mod receive;
mod requests;
mod webhooks;

use clap::Parser;
use figures::Report;
use parts::Bench;
use peers::Peer;
use std::path::PathBuf;
use std::time::Duration;

/// Measures the real binary alongside a bare transactional producer, on a real Kafka.
#[derive(Parser, Debug)]
struct Arguments {
    /// Parts to measure, with commas between: websocket, webhook, quiet, idle.
    #[arg(long, value_delimiter = ',', default_value = "websocket,webhook,quiet,idle")]
    only: Vec<String>,
    /// Different events of a run of the WebSocket; the other parts take shares of it.
    #[arg(long, default_value_t = 200_000)]
    events: usize,
    /// Counted runs of each, after one that is not.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Connections that send webhooks, with commas between.
    #[arg(long, value_delimiter = ',', default_value = "64,256,1024")]
    connections: Vec<usize>,
    /// Milliseconds that a round trip to Kafka takes.
    #[arg(long, default_value_t = 0)]
    round_trip: u64,
    /// Seconds for which an idle relay is watched; at least 10, after which it commits a checkpoint.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(10..))]
    idle: u64,
    /// An earlier build of the binary, measured in turn with this one.
    #[arg(long)]
    against: Option<PathBuf>,
    /// Another program with the same task, measured in turn with the relay and instead of the other parts: a command of the
    /// shell, which reads PEER_* (see `benches/peers`).
    #[arg(long, value_name = "NAME=COMMAND")]
    peer: Vec<Peer>,
    /// Where the figures go as JSON.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench/end_to_end.json"))]
    json: PathBuf,
    /// What this process is when the bench has started itself: the base, with its task as JSON.
    #[arg(long, hide = true)]
    base: Option<String>,
    /// As `--base`, for the reader.
    #[arg(long, hide = true)]
    reader: Option<String>,
    /// `cargo bench` passes it to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let arguments = Arguments::parse();
    if let Some(task) = &arguments.base {
        println!("{}", base::run(&serde_json::from_str(task).expect("a task")));
        return;
    }
    if let Some(source) = &arguments.reader {
        return reader::run(&serde_json::from_str(source).expect("a source"));
    }
    let line = (arguments.round_trip > 0).then(|| far::Line::start(Duration::from_millis(arguments.round_trip)));
    let broker = line.as_ref().map_or_else(kafka::Broker::measured, |line| {
        kafka::Broker::measured_behind(line.address(), &|broker| line.towards(broker))
    });
    let bootstrap = line.map_or_else(|| broker.bootstrap().to_owned(), |line| line.address().to_string());
    let mut report = Report::default();
    let bench = Bench::new((&bootstrap, broker.pid()), arguments.against.clone(), arguments.events, arguments.runs);
    if arguments.round_trip == 0 {
        bench.warm_up();
    }
    let peers = &arguments.peer;
    for part in &arguments.only {
        match part.as_str() {
            "websocket" if !peers.is_empty() => bench.peers_by_websocket(peers, &mut report),
            "webhook" if !peers.is_empty() => {
                arguments.connections.iter().for_each(|count| bench.peers_by_webhook(peers, *count, &mut report));
            }
            "quiet" if !peers.is_empty() => bench.peers_when_quiet(peers, &mut report),
            "idle" if !peers.is_empty() => {}
            "websocket" => {
                bench.websocket(false, &mut report);
                bench.websocket(true, &mut report);
            }
            "webhook" => arguments.connections.iter().for_each(|count| bench.webhook(*count, &mut report)),
            "quiet" => bench.quiet(&mut report),
            "idle" => bench.idle(Duration::from_secs(arguments.idle), &mut report),
            other => panic!("no part is called {other:?}"),
        }
    }
    println!("{}", report.table());
    std::fs::create_dir_all(arguments.json.parent().expect("a directory")).expect("a directory");
    std::fs::write(&arguments.json, report.json().to_string()).expect("figures");
    println!("written: {}", arguments.json.display());
}

//! Chaos on the real parts: a real Kafka, the real binary, the simulated provider as a process of its own, and load by
//! both legs, while something is killed, frozen, cut, refused, lost or taken over, round after round at random moments. An
//! oracle knows every id that the provider issued and compares with what a reader of committed records sees.
//!
//! `CHAOS_ROUNDS=1000` runs more rounds, `CHAOS_SEED=7` the faults of a seed (the moments within the relay are never
//! the same twice), `CHAOS_FAULTS=Quota,LateEnd` those alone, `CHAOS_REPORT=file.json` writes a report. The relay logs
//! all that it can, which is searched for what no log may tell, and kept when something was found.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    dead_code,
    unreachable_pub,
    reason = "tests print, fail loudly, and share files of which each uses a part"
)]

mod faults;
mod judged;
mod kafka;
mod oracle;
mod provider;
mod reader;
mod report;
mod stage;
#[path = "../support/mod.rs"]
mod support;

use faults::Fault;
use rand::SeedableRng;
use rand::rngs::StdRng;
use report::Report;
use stage::Stage;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Rounds of one run; each fault occurs.
const ROUNDS: usize = Fault::ALL.len();
/// What the relay logs: everything, for no level may tell a secret.
const LOG_LEVEL: &str = "trace";
/// Digits of a signature (HMAC-SHA256 in hex).
const SIGNATURE_DIGITS: usize = 64;
/// Up to so long everything runs well before each fault.
const BETWEEN_MS: u64 = 1_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_fails_nothing_is_lost_repeated_or_out_of_order() {
    let rounds = number("CHAOS_ROUNDS").map_or(ROUNDS, |rounds| usize::try_from(rounds).expect("a number of rounds"));
    let seed = number("CHAOS_SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("target/chaos/{}-{seed}", std::process::id()));
    fs::create_dir_all(&dir).expect("target/chaos");
    eprintln!("CHAOS_SEED={seed}: {rounds} rounds, logs in {}", dir.display());

    // The clients of this process have no TLS to speak, and do not start without one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let began = Instant::now();
    let mut stage = Stage::new(seed, &dir, LOG_LEVEL).await;
    let mut survived = Vec::new();
    let mut failure = None;
    let faults = variable("CHAOS_FAULTS").map_or_else(|| Fault::ALL.to_vec(), |names| Fault::named(&names));
    for (fault, number) in Fault::rounds(&faults, rounds, &mut StdRng::seed_from_u64(seed)).into_iter().zip(1..) {
        stage.mark().await;
        stage.some_time(0, BETWEEN_MS).await;
        stage.may_end = false;
        fault.strike(&mut stage).await;
        match stage.recovered().await {
            Ok(recovery) => {
                eprintln!("{number:>5}/{rounds} {:32} {:>7.2} s", fault.name(), recovery.as_secs_f64());
                survived.push((fault, recovery));
            }
            Err(why) => {
                failure = Some(format!("round {number}, {}, {why}", fault.name()));
                break;
            }
        }
    }
    let secrets = stage.secrets();
    let outcome = if failure.is_some() { stage.outcome() } else { stage.finish().await };
    let report = Report { seed, rounds: survived, outcome, took: began.elapsed() };
    println!("{}", report.table());
    if let Some(path) = variable("CHAOS_REPORT").map(PathBuf::from) {
        fs::write(path, format!("{:#}\n", report.json())).expect("the report");
    }
    let verdict = &report.outcome.verdict;
    let failure = failure.or_else(|| Some(verdict.to_string()).filter(|_| !verdict.is_clean()));
    if let Some(failure) = failure {
        panic!("CHAOS_SEED={seed}, {failure}logs in {}", dir.display());
    }
    for log in ["relay.log", "simulator.log"] {
        let log = dir.join(log);
        let told = first_with(BufReader::new(File::open(&log).expect("a log")), &secrets);
        assert_eq!(told, None, "{} tells what no log may", log.display());
    }
    drop(fs::remove_dir_all(&dir));
}

/// Whether a line holds what may be a signature. Digests of deliveries without an id look alike, and say what they are.
fn signs(line: &str) -> bool {
    let runs = line.split(|c: char| !c.is_ascii_hexdigit()).filter(|run| run.len() == SIGNATURE_DIGITS);
    runs.into_iter().any(|run| !line.contains(&format!("sha256:{run}")))
}

/// The number of the first line that holds any of these, or a signature.
fn first_with(lines: impl BufRead, needles: &[String]) -> Option<usize> {
    let holds = |line: &[u8]| {
        let line = String::from_utf8_lossy(line);
        signs(&line) || needles.iter().any(|needle| line.contains(needle))
    };
    lines.split(b'\n').position(|line| holds(&line.expect("readable"))).map(|index| index + 1)
}

#[expect(clippy::disallowed_methods, reason = "what to run is not a setting of the relay")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn number(name: &str) -> Option<u64> {
    variable(name).map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// While a relay is down, its port is anybody's: the parts alongside it open listeners and connections all the time.
#[test]
fn an_address_to_listen_at_is_held_for_its_listener() {
    let given: Vec<_> = (0..100).map(|_| support::ports::free_address()).collect();
    assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), given.len(), "{given:?}");
    for address in given {
        assert!(UdpSocket::bind(address).is_err(), "{address} may be given to another process");
        TcpListener::bind(address).expect("free for its listener");
    }
}

#[test]
fn a_secret_in_a_log_is_found() {
    let needles = ["key-1".to_owned(), "Lane".to_owned()];
    assert_eq!(first_with(&b"one\n\xff key-1\n"[..], &needles), Some(2));
    assert_eq!(first_with(&b"Lane"[..], &needles), Some(1));
    assert_eq!(first_with(&b"key-\n1 lane\n"[..], &needles), None);
    let digits = "0123456789abcdef".repeat(4);
    assert_eq!(first_with(format!("ok\nx-pepay-signature: {digits}").as_bytes(), &needles), Some(2));
    assert_eq!(first_with(format!("id=sha256:{digits} {digits}0").as_bytes(), &needles), None);
}

//! Chaos on the real parts: a real Kafka, the real binary, the simulated provider as a process of its own, and load by
//! both legs, while something is killed, frozen, cut, refused, lost or taken over, round after round at random moments. An
//! oracle knows every id that the provider issued and compares with what a reader of committed records sees. One test has a
//! relay alone (`relay`, `faults`, `kafka`), two have a cluster (`nodes`, `cluster`); all run the same rounds (`rounds`).
//!
//! `CHAOS_ROUNDS=1000` runs more rounds, `CHAOS_SEED=7` the faults of a seed (the moments within the relay are never
//! the same twice), `CHAOS_FAULTS=Quota,LateEnd` those alone, `CHAOS_REPORT=folder` writes a report, and with
//! `CHAOS_OLDER=binary` every second relay that is started is of that build. The relays log all that they can, which is
//! searched for what no log may contain, and kept when something was found.

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

mod cluster;
mod faults;
mod judged;
mod kafka;
mod nodes;
mod oracle;
mod provider;
mod reader;
mod relay;
mod report;
mod rounds;
mod stage;
#[path = "../support/mod.rs"]
mod support;

use stage::Stage;
use std::collections::BTreeSet;
use std::io::BufRead;
use std::net::{TcpListener, UdpSocket};

/// Digits of a signature (HMAC-SHA256 in hex).
const SIGNATURE_DIGITS: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_fails_nothing_is_lost_repeated_or_out_of_order() {
    rounds::run("relay", async |seed, dir| Stage::new(seed, dir).await).await;
}

/// Whether a line holds what may be a signature. Digests of deliveries without an id look alike, but have a prefix.
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

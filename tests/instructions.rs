//! What one order event costs in instructions, counted by valgrind's callgrind.
//!
//! A count hardly depends on the machine and not at all on how busy it is, so that a regression fails honestly. The bound
//! has room for what another compiler or another C library makes of the same code (a twentieth), and for no more: who
//! improves on it lowers it.
//!
//! A program of its own, since valgrind runs it again and counts the whole of it. Not part of `cargo test`, since it needs
//! Debian's valgrind. CI counts the build of the tests, which it has anyway; `just instructions` counts a release build.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test may panic")]
#![allow(clippy::print_stdout, reason = "figures")]
#![allow(unreachable_pub, missing_docs, reason = "a program of its own, which shares a file with another test")]

#[path = "support/planned.rs"]
mod planned;

use pepay_relay::relay::planner::Plan;
use planned::{BATCH, NOW, core, items};
use std::process::Command;

/// Instructions of one event: decode, claim, value, headers, `latest`, journal and settling. Counted: 103,544 in a build of the
/// tests, and 66,127 in a release build just before values of a tape were places in its text.
const EVENT: u64 = if cfg!(debug_assertions) { 107_000 } else { 69_500 };

/// Sets for this program, run by valgrind, how many batches to take through the core, of [`BATCHES`] that it makes.
const TAKEN: &str = "INSTRUCTIONS_BATCHES";

/// Batches that are made, whether they are taken or not: their making does not count.
const BATCHES: u64 = 6;

/// Batches that a count begins and ends with: the difference is the work of those between, when all memory has grown.
const COUNTED: [u64; 2] = [2, BATCHES];

#[test]
fn an_event_costs_no_more_instructions_than_it_did() {
    #[expect(clippy::disallowed_methods, reason = "this program's word to itself, and no setting")]
    if let Ok(batches) = std::env::var(TAKEN) {
        return take(batches.parse().unwrap());
    }
    let [few, many] = COUNTED.map(instructions);
    let event = (many - few) / (BATCH * (COUNTED[1] - COUNTED[0]));
    println!("{event} instructions an event");
    assert!(event <= EVENT, "{event} instructions an event, more than {EVENT}");
    assert!(event > EVENT / 2, "{event} instructions an event: lower the bound of {EVENT}");
}

/// The work that is counted.
fn take(batches: u64) {
    // Room for all of them: that a table doubles now and then would be counted against the next one.
    let mut core = core(3 * BATCHES * BATCH, true);
    let mut spare = Plan::default();
    let all: Vec<_> = (0..BATCHES).map(items).collect();
    for items in all.into_iter().take(batches.try_into().unwrap()) {
        let mut plan = core.begin(spare);
        for item in items {
            assert!(core.add(&mut plan, item, NOW).is_none(), "each is new");
        }
        spare = core.commit(plan, NOW.ms, |_| {});
    }
}

/// Instructions of this program when it takes `batches` batches.
fn instructions(batches: u64) -> u64 {
    let program = std::env::current_exe().unwrap();
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program);
    let done = valgrind.env(TAKEN, batches.to_string()).output();
    let done = done.unwrap_or_else(|error| panic!("valgrind: {error}; install Debian's package valgrind"));
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    let count = said.lines().find_map(|line| line.split_once("Collected :")).map(|(_, count)| count.trim());
    count.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("no count:\n{said}"))
}

//! The relay's decisions under every fault that we can name: the production's start, turn, pipeline, planner, window,
//! versions, progress, walk, hold and session, between models of the provider and of Kafka, under one seeded scheduler and a
//! virtual clock. The invariants of P1 to P5 and P7 are checked at every commit and at the end.
//!
//! `SIMULATION_SEED=7 cargo test --test simulation` replays one seed; `SIMULATION_SEEDS=1000000` runs more of them;
//! `SIMULATION_TRACE=1` with one seed prints every step; `SIMULATION_MISTAKE=StaleCheckOff` searches for that one alone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    missing_docs,
    unreachable_pub,
    reason = "tests print, fail loudly, and share files of which each uses a part"
)]

mod bugs;
mod claim;
mod cluster;
mod faults;
mod inbox;
mod judged;
mod kafka;
mod line;
mod oracle;
mod process;
mod provider;
mod relay;
mod requests;
mod scenario;
mod still;
mod traffic;
mod walks;
mod warm;
mod webhooks;
mod websocket;
mod world;

use bugs::Bug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Instant;
use still::Moment;
use world::Ran;

/// Seeds of one run.
const SEEDS: u64 = 10_000;

#[expect(clippy::disallowed_methods, reason = "which seeds to run is not a setting of the relay")]
fn named(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn wanted(name: &str) -> Option<u64> {
    named(name).map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Runs one seed; what panics has failed too.
fn run(seed: u64, bug: Option<Bug>) -> Result<Ran, String> {
    let trace = wanted("SIMULATION_TRACE").is_some();
    catch_unwind(AssertUnwindSafe(|| world::run(seed, bug, trace))).unwrap_or_else(|_| Err("it panicked".to_owned()))
}

/// The first seed found to fail, if any; and what the others have seen.
fn search((first, seeds): (u64, u64), bug: Option<Bug>) -> (Option<(u64, String)>, Ran) {
    let next = AtomicU64::new(first);
    let steps = AtomicU64::new(0);
    let moments = AtomicU32::new(0);
    let over = AtomicBool::new(false);
    let found = Mutex::new(None);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        return;
                    }
                    match run(seed, bug) {
                        Ok(ran) => {
                            steps.fetch_add(ran.steps, Ordering::Relaxed);
                            moments.fetch_or(ran.moments, Ordering::Relaxed);
                        }
                        Err(failure) => {
                            over.store(true, Ordering::Relaxed);
                            found.lock().unwrap().get_or_insert((seed, failure));
                        }
                    }
                }
            });
        }
    });
    (found.into_inner().unwrap(), Ran { steps: steps.into_inner(), moments: moments.into_inner() })
}

#[test]
fn every_promise_holds_whatever_fails() {
    if let Some(seed) = wanted("SIMULATION_SEED") {
        let Ran { steps, .. } = run(seed, None).unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        println!("seed {seed}: {steps} steps");
        return;
    }
    let seeds = wanted("SIMULATION_SEEDS").unwrap_or(SEEDS);
    let began = Instant::now();
    let (found, Ran { steps, moments }) = search((0, seeds), None);
    if let Some((seed, failure)) = found {
        panic!("SIMULATION_SEED={seed} cargo test --test simulation\n{failure}");
    }
    // A thousand seeds have stopped a node at each moment of its relay.
    assert!(seeds < 1000 || moments == Moment::ALL, "no node stood still at some moments: {moments:b}");
    println!("{seeds} seeds, {steps} steps, {:.0} seeds/s", seeds as f64 / began.elapsed().as_secs_f64());
}

/// The simulation can fail: each of these mistakes is found, and the seed that found it is printed.
#[test]
fn every_seeded_mistake_is_found() {
    let only = named("SIMULATION_MISTAKE");
    let sought = |bug: &Bug| only.as_ref().is_none_or(|only| *only == format!("{bug:?}"));
    for bug in Bug::ALL.into_iter().filter(sought) {
        let (found, _) = search((bug.search_from(), SEEDS), Some(bug));
        let (seed, failure) = found.unwrap_or_else(|| panic!("{bug:?} is not found within {SEEDS} seeds"));
        println!("{bug:?}: seed {seed}: {}", failure.split(" [").next().unwrap_or_default());
    }
}

//! What a commit frees is not taken from the kernel again. In a program of its own: the test that frees a large block first would do
//! what is tested.

#![cfg(target_env = "gnu")]
#![allow(clippy::expect_used, reason = "a failed test may panic")]
#![allow(dead_code, unreachable_pub, missing_docs, reason = "a program of its own, which shares a file with others")]

#[path = "support/proc.rs"]
mod proc;

use pepay_relay::heap;
use proc::{MINFLT, stat};
use std::hint::black_box;

/// Blocks of a commit: its records, and two requests of librdkafka's, each with what it was compressed to, which may be more
/// than the request.
const BLOCKS: [(usize, usize); 2] = [(64, 16 << 10), (4, (1 << 20) + 4_096)];

const COMMITS: u64 = 100;

/// Page faults of this many commits, each of which takes its blocks and frees them.
fn faults_of(commits: u64) -> u64 {
    let faults = || stat("thread-self", MINFLT);
    let before = faults();
    let blocks = || BLOCKS.into_iter().flat_map(|(count, bytes)| std::iter::repeat_n(bytes, count));
    (0..commits).for_each(|_| drop(blocks().map(|bytes| black_box(vec![1_u8; bytes])).collect::<Vec<_>>()));
    faults() - before
}

#[test]
fn what_a_commit_frees_is_not_taken_from_the_kernel_again() {
    heap::keep_freed();
    let first = faults_of(1);
    let pages = BLOCKS.into_iter().map(|(count, bytes)| count * bytes / 4096).sum::<usize>() as u64;
    assert!(first >= pages / 2, "a first commit takes its memory: {first} faults");
    // Otherwise each of them faults as often as the first one.
    let others = faults_of(COMMITS);
    assert!(others < COMMITS * pages / 10, "{others} faults");
}

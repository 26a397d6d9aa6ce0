//! What a commit frees is not taken from the kernel again. In a program of its own: whoever frees a large block first would do
//! what is tested.

#![cfg(target_env = "gnu")]
#![allow(clippy::expect_used, reason = "a failed test may panic")]
#![allow(dead_code, unreachable_pub, missing_docs, reason = "a program of its own, which shares a file with others")]

#[path = "support/proc.rs"]
mod proc;

use pepay_relay::heap;
use proc::{MINFLT, stat};
use std::hint::black_box;

/// Blocks of a commit, and their size: a mebibyte in all.
const BLOCKS: usize = 64;
const BLOCK_BYTES: usize = 16 << 10;

const COMMITS: u64 = 100;

/// Page faults of this many commits, each of which takes a mebibyte and frees it.
fn faults_of(commits: u64) -> u64 {
    let faults = || stat("thread-self", MINFLT);
    let before = faults();
    (0..commits).for_each(|_| drop((0..BLOCKS).map(|_| black_box(vec![1_u8; BLOCK_BYTES])).collect::<Vec<_>>()));
    faults() - before
}

#[test]
fn what_a_commit_frees_is_not_taken_from_the_kernel_again() {
    heap::keep_freed();
    let first = faults_of(1);
    let pages = (BLOCKS * BLOCK_BYTES / 4096) as u64;
    assert!(first >= pages / 2, "a first commit takes its memory: {first} faults");
    // Otherwise each of them faults as often as the first one.
    let others = faults_of(COMMITS);
    assert!(others < COMMITS * pages / 10, "{others} faults");
}

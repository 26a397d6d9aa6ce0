//! What consumers are handed, in the languages that they are written in: the examples on a real Kafka, the canary, the
//! AsyncAPI document and models that are generated from the schemas.
//!
//! Not part of `cargo test`, since it needs Python, Node.js and Go as well: `just consumers`, and CI, run it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    dead_code,
    unreachable_pub,
    reason = "tests print, fail loudly, and share files of which each uses a part"
)]

#[path = "../support/mod.rs"]
mod support;

mod canary;
mod examples;
mod models;
mod run;
mod workshop;

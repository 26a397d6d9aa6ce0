//! What is delivered to a real Kafka: each test starts or shares an Apache Kafka broker (see `support::kafka`).

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

mod accounts;
mod attack;
mod bad_input;
mod bench;
mod both_legs;
mod certificates;
mod cluster;
mod cluster_faults;
mod drain;
mod flood;
mod gaps;
mod guide;
mod history;
mod inbox;
mod leaving;
mod listening;
#[cfg(feature = "oauth")]
mod oauth;
mod permissions;
mod pressure;
mod publish;
mod registry;
mod replay;
mod restarts;
mod rotation;
mod security;
mod sell;
mod smoke;
mod topics;
mod trouble;
mod unknown;
mod warm;
mod writers;

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

mod support;

#[path = "delivery/attack.rs"]
mod attack;
#[path = "delivery/bad_input.rs"]
mod bad_input;
#[path = "delivery/bench.rs"]
mod bench;
#[path = "delivery/both_legs.rs"]
mod both_legs;
#[path = "delivery/drain.rs"]
mod drain;
#[path = "delivery/flood.rs"]
mod flood;
#[path = "delivery/gaps.rs"]
mod gaps;
#[path = "delivery/history.rs"]
mod history;
#[path = "delivery/leaving.rs"]
mod leaving;
#[path = "delivery/pressure.rs"]
mod pressure;
#[path = "delivery/publish.rs"]
mod publish;
#[path = "delivery/replay.rs"]
mod replay;
#[path = "delivery/restarts.rs"]
mod restarts;
#[path = "delivery/rotation.rs"]
mod rotation;
#[path = "delivery/security.rs"]
mod security;
#[path = "delivery/sell.rs"]
mod sell;
#[path = "delivery/smoke.rs"]
mod smoke;
#[path = "delivery/topics.rs"]
mod topics;
#[path = "delivery/unknown.rs"]
mod unknown;
#[path = "delivery/warm.rs"]
mod warm;
#[path = "delivery/writers.rs"]
mod writers;

//! Pepay order events, from every way they arrive, into Kafka, each exactly once.
//!
//! [`provider`] speaks Pepay's protocol; [`legs`] bring deliveries in; [`relay`] decides, with
//! [`normalize`], what each delivery becomes; [`kafka`] commits it; [`daemon`] builds and drains the whole;
//! [`config`] and [`telemetry`] serve all of them; [`cli`] and [`simulator`] are around it.
//!
//! A stage imports only the output type of the stage before it, and pure files hold no socket, clock, log,
//! task or `async`. `tests/house` enforces both; ARCHITECTURE.md gives the reasons.

pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod exit;
pub mod heap;
pub mod kafka;
pub mod labels;
pub mod legs;
pub mod listener;
pub mod loopback;
pub mod normalize;
pub mod provider;
pub mod registry;
pub mod relay;
pub mod simulator;
pub mod telemetry;
pub mod text;

//! Pepay's contract as Rust types: ids and their order, events, frames, signatures, errors.
//!
//! Knows nothing of the relay. Everything here is pure except the connections of `connect` and the calls of `rest`. The objects inside of
//! events have no types of their own: [`crate::normalize`] reads them straight into the relay's shape.

pub mod connect;
mod environment;
pub mod errors;
pub mod event;
mod event_id;
pub mod frame;
pub mod http_time;
pub(crate) mod json;
pub mod page;
pub mod rest;
pub mod signature;
mod slices;
pub(crate) mod tape;
pub mod tls;

pub use environment::Environment;
pub use event_id::{EventId, NotACursor};

/// What the relay calls itself in `User-Agent`.
pub(crate) const AGENT: &str = concat!("pepay-relay/", env!("CARGO_PKG_VERSION"));

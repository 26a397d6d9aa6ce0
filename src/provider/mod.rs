//! Pepay's contract as Rust types: ids and their order, events, objects, frames, signatures, errors.
//!
//! Knows nothing of the relay. Everything here is pure except the REST calls of `rest`.

mod event_id;
pub mod page;
pub mod frame;
pub mod http_time;
pub mod rest;
pub mod signature;
pub mod tls;

pub use event_id::EventId;

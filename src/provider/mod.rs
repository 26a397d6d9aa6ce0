//! Pepay's contract as Rust types: ids and their order, events, objects, frames, signatures, errors.
//!
//! Knows nothing of the relay. Everything here is pure except the REST calls of `rest`.

mod event_id;
pub mod page;
pub mod signature;

pub use event_id::EventId;

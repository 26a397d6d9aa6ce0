//! Pepay's contract as Rust types: ids and their order, events, frames, signatures, errors.
//!
//! Knows nothing of the relay. Everything here is pure except the REST calls of `rest`. The objects inside of
//! events have no types of their own: [`crate::normalize`] reads them straight into the relay's shape.

mod environment;
pub mod errors;
pub mod event;
mod event_id;
pub mod frame;
pub mod http_time;
pub(crate) mod json;
pub mod order_list;
pub mod page;
pub mod rest;
pub mod signature;
pub mod tls;

pub use environment::Environment;
pub use event_id::{EventId, NotACursor};

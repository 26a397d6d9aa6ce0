//! librdkafka clients from the settings: their properties, what Kafka reported last to one, and what a refusal asks
//! for.

mod context;
mod denied;
mod properties;
mod token;

pub(super) use context::Context;
pub(super) use denied::{credentials_refused, denied, permission_lacking};
pub use properties::SESSION;
pub use properties::Tuning;
pub(super) use properties::{
    MESSAGE_BYTES_DEFAULT, MESSAGE_BYTES_MAX, STATISTICS_EVERY, Sizes, appender, base, consumer, member, producer,
    reader,
};

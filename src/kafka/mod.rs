//! Kafka: topics, one transaction a batch, reading back, and the errors sorted by what to do about them.
//!
//! Knows nothing of events; it takes a [`Batch`] of records and tells whether it stands.

pub mod aside;
pub mod checkpoint;
pub mod client;
pub mod consume;
pub mod embedded;
pub mod errors;
pub mod probe;
pub mod publisher;
pub mod recover;
pub mod topics;

mod batch;
mod cancel;
mod pace;
mod producer;
mod scan;
mod transaction;
mod wanted;

pub use batch::{Batch, Record};
pub use checkpoint::{Checkpoint, Marks};
pub use producer::stands;
pub use publisher::{Broker, Publisher, Stop, Verdict};
pub use recover::Newest;

/// One of the relay's topics, by its key in `[kafka.topics]`; the name comes from the settings alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// Every order event.
    Orders,
    /// The newest event of each order.
    OrdersLatest,
    /// Every invoice and invoice payment event.
    Invoices,
    /// Deliveries that cannot be published, as they came.
    DeadLetter,
    /// Checkpoints and gaps.
    Control,
}

impl Topic {
    /// Every topic, in the order in which tables list them.
    pub const ALL: [Self; 5] = [Self::Orders, Self::OrdersLatest, Self::Invoices, Self::DeadLetter, Self::Control];

    /// The key in `[kafka.topics]`, also used in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::OrdersLatest => "orders_latest",
            Self::Invoices => "invoices",
            Self::DeadLetter => "dead_letter",
            Self::Control => "control",
        }
    }
}

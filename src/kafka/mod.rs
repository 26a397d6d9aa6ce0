//! Kafka: topics, one transaction a batch, reading back, and the errors sorted by what to do about them.
//!
//! Knows nothing of events; it takes a [`Batch`] of records and reports whether it is committed.

pub mod checkpoint;
pub mod client;
pub mod consume;
pub mod diagnosis;
#[doc(hidden)] // for the least program of the bench
pub mod drain_pace;
pub mod embedded;
pub mod ends;
pub mod errors;
pub mod group;
pub mod inbox;
pub mod owner;
pub mod probe;
pub mod publisher;
pub mod recover;
pub mod run;
pub mod settlement;
pub mod shard;
pub mod side_writer;
pub mod topics;
pub mod verdict;

mod batch;
mod blocking;
mod cause;
mod markers;
mod outage;
mod producer;
mod scan;
mod transaction;
mod transactional;

pub use batch::{Batch, Record, Sequenced, Shape};
pub use checkpoint::{Checkpoint, CommitId, Keys, Marks, Newest, Predecessor};
pub use publisher::{Publisher, PublisherSetup};
pub use scan::Reader;
pub use settlement::Refusal;
pub use transactional::Early;
pub use verdict::{Broker, Stop, Verdict};

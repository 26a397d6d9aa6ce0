//! What becomes of a batch, as data: which Kafka, the verdict, and why the relay has to stop.

use super::settlement::{Fenced, Refusal};

/// Which Kafka the relay writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broker {
    /// The one of the settings.
    Configured,
    /// librdkafka's mock cluster, for the demo: it knows no administration, does not fence and hides nothing that was
    /// aborted. A relay alone reads nothing back from it. A node of a cluster does, and everything, since it cannot be asked
    /// about times.
    Embedded,
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is committed, with its checkpoint.
    Committed {
        /// When, in Unix milliseconds.
        at_ms: i64,
    },
    /// Aborted for certain: the batch will not pass as it is. The caller halves it, and a batch of one becomes a dead
    /// letter.
    Refused {
        /// Why.
        refusal: Refusal,
        /// Kafka's error.
        detail: String,
    },
}

/// Why the relay has to stop. The batch is not committed, or only if another relay finds so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Another run holds the name.
    Fenced(Fenced),
    /// Nothing that waiting could fix (exit status 1).
    Fatal(String),
}

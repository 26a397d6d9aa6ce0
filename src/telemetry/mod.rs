//! What operators see: metrics, logs, health.

mod health;
mod metrics;

pub use health::{Health, LegState, Phase, Snapshot};
pub use metrics::{KafkaErrorKind, Metrics};

//! What operators see: metrics, logs, health, and what the service manager is told.

pub mod admin;
mod foreign;
mod health;
pub mod logs;
mod metrics;
mod notify;
mod rate;

pub use foreign::foreign;
pub use health::{Health, LegState, Phase, ReadingBack, Snapshot};
pub use metrics::{KafkaErrorKind, Metrics};
pub use notify::Notify;
pub use rate::RateLimited;

//! What operators see: metrics, logs, health, and what the service manager gets.

pub mod admin;
mod board;
mod clock_watch;
mod connections;
mod health;
mod history;
pub mod logs;
mod meter;
mod metrics;
mod notify;
mod page;
mod rate;

pub use board::{Board, Cluster, GapStory, Inside, LATEST_MAX, Latest};
pub use clock_watch::watch_clock;
pub use connections::Connections;
pub use health::{Health, LegState, Phase, ReadingBack, Snapshot, Unproven};
pub use metrics::{KafkaErrorKind, Metrics, Takeover};
pub use notify::Notify;
pub use rate::RateLimited;

//! Which lines are written: `log.level`, and what libraries may write.

use super::LogError;
use tracing_subscriber::filter::{LevelFilter, Targets};

/// The filter of a `log.level`.
///
/// # Errors
///
/// [`LogError::Level`].
pub(super) fn parse_level(level: &str) -> Result<Targets, LogError> {
    if !crate::config::is_log_level(level) {
        return Err(LogError::Level);
    }
    let parts: Vec<&str> = level.split(',').map(str::trim).collect();
    let asked: Targets = parts.join(",").parse().map_err(|_| LogError::Level)?;
    Ok(without_foreign_detail(&asked))
}

/// Below INFO, libraries write what no log may hold: tungstenite the request with its key, and every frame. So details
/// are for our own targets, where we know what is in them.
fn without_foreign_detail(asked: &Targets) -> Targets {
    let default = asked.default_level().unwrap_or(LevelFilter::OFF);
    let own = OWN_TARGETS.into_iter().map(|target| (target.to_owned(), default));
    let quiet = QUIET_TARGETS.into_iter().map(|target| (target.to_owned(), default.min(LevelFilter::ERROR)));
    let named = asked.iter().map(|(target, level)| {
        let is_own = OWN_TARGETS.into_iter().any(|own| target.starts_with(own));
        (target.to_owned(), if is_own { level } else { level.min(LevelFilter::INFO) })
    });
    Targets::new()
        .with_default(default.min(LevelFilter::INFO))
        .with_targets(own)
        .with_targets(quiet)
        .with_targets(named)
}

/// Targets whose details may be written: ours, and what librdkafka logs through ours (it names no payload).
const OWN_TARGETS: [&str; 2] = ["pepay_relay", "rdkafka"];

/// Libraries that warn of what a stranger does, a line each time: rustls of every renegotiation that it refuses. What such a
/// peer is refused is counted and logged by the listener.
const QUIET_TARGETS: [&str; 1] = ["rustls"];

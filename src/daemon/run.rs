//! The life of a relay that is one process: the listener, its one shard, and the end of both.

use super::shard::{End, Serving};
use crate::exit::Exit;
use crate::labels::{Leg, Outcome};
use crate::telemetry::{Health, Metrics, Phase};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// Serves the one shard from the start to the end of the drain.
pub(super) async fn run(serving: Serving) -> Result<(), Exit> {
    let shared = Arc::clone(&serving.shared);
    let end = serving.run().await;
    stopping(&shared.health, &shared.metrics, &shared.stop);
    let end = match end {
        End::Left => Ok(()),
        End::Fenced(_) | End::Elsewhere => {
            error!("fenced");
            Err(super::fenced())
        }
        End::Failed(exit) => Err(exit),
    };
    info!(left = left(&shared.metrics, 0), "stopped");
    end
}

fn stopping(health: &Health, metrics: &Metrics, stop: &CancellationToken) {
    health.set_phase(Phase::Stopping);
    metrics.ready(false);
    stop.cancel();
}

/// Deliveries that are left to the provider, whichever part had them. `failed` of them failed before the end began.
pub(super) fn left(metrics: &Metrics, failed: u64) -> u64 {
    let inside = |leg| u64::try_from(metrics.in_flight(leg)).unwrap_or_default();
    self::failed(metrics).saturating_sub(failed) + Leg::ALL.into_iter().map(inside).sum::<u64>()
}

/// Deliveries that failed so far: the relay ended before they were committed, or let their shard go.
pub(super) fn failed(metrics: &Metrics) -> u64 {
    Leg::ALL.into_iter().map(|leg| metrics.outcomes(leg, Outcome::Failed)).sum()
}

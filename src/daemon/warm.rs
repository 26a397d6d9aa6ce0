//! The warm start: what the relay knew before, read back from Kafka after the claim.

use super::Setup;
use crate::config::{Config, Secrets};
use crate::kafka::errors::StartError;
use crate::kafka::recover::{self, CLOCKS_DISAGREE_MS, Progress as Reading};
use crate::kafka::{Broker, Checkpoint};
use crate::legs::progress::{GapCause, Progress};
use crate::provider::EventId;
use crate::relay::core::AHEAD_MAX_MS;
use crate::relay::{self, Version, Versions, Window, resume};
use crate::telemetry::Metrics;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tracing::info;

/// How often a long warm start says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Ids and versions as our own topics know them; empty with the embedded Kafka, which cannot be asked.
pub(super) async fn memory(
    setup: &Setup,
    predecessor: Option<&Checkpoint>,
    progress: &Progress,
    now_ms: i64,
) -> Result<(Window, Versions), StartError> {
    let Setup { config, secrets, broker, .. } = setup;
    let seed = [rand::random(), rand::random()];
    let window = Window::new(config.dedup.window, config.dedup.ids_max, seed);
    let mut versions = Versions::new(config.dedup.window, config.dedup.ids_max, seed);
    if *broker == Broker::Embedded {
        return Ok((window, versions));
    }
    let from_ms = recover::read_back_from(now_ms, predecessor, progress.again_from_ms(), config.dedup.window);
    if predecessor.is_some() {
        // What was published before this time is not known any more; it was not newer than this.
        versions.raise_floor(Version { ms: from_ms.saturating_add(AHEAD_MAX_MS), seq: u64::MAX });
    }
    let (mut window, versions) = read_back(config, secrets, from_ms, window, versions).await?;
    window.resume(now_ms);
    info!(ids = window.len(), "window read back");
    Ok((window, versions))
}

/// Where the last relay stopped, or where a first one begins; either way a gap is open until a walk has filled it.
pub(super) fn progress(setup: &Setup, predecessor: Option<&Checkpoint>, now_ms: i64, metrics: &Metrics) -> Progress {
    let backfill = &setup.config.backfill;
    let mut progress = match predecessor {
        Some(checkpoint) => resume(&checkpoint.marks, backfill.overlap),
        None => Progress::resume(None, None, Vec::new(), backfill.overlap),
    };
    progress.never_after(now_ms);
    let first_start_ms = i64::try_from(backfill.first_start.as_millis()).unwrap_or(i64::MAX);
    let last_ms = predecessor.and_then(Checkpoint::at_ms);
    let opened = match (setup.from_ms, progress.verified_ms(), last_ms) {
        (Some(from_ms), ..) => progress.begin_at(GapCause::FirstStart, from_ms, now_ms),
        (None, Some(_), Some(last_ms)) => progress.restarted(last_ms),
        _ => {
            // A predecessor that came no further than to claim the name told the time by its own clock.
            progress.began(last_ms.map_or(now_ms, |last_ms| last_ms.saturating_sub(CLOCKS_DISAGREE_MS)));
            progress.begin_at(GapCause::FirstStart, now_ms.saturating_sub(first_start_ms), now_ms)
        }
    };
    relay::opened(metrics, &opened);
    progress
}

/// Fills window and versions from the records' headers.
async fn read_back(
    config: &Config,
    secrets: &Secrets,
    from_ms: i64,
    window: Window,
    versions: Versions,
) -> Result<(Window, Versions), StartError> {
    let ids_max = config.dedup.ids_max;
    let memory = Arc::new(Mutex::new((window, versions)));
    let filling = Arc::clone(&memory);
    let sink = move |record: recover::ReadBack<'_>| {
        let mut memory = filling.lock().unwrap_or_else(PoisonError::into_inner);
        let (window, versions) = &mut *memory;
        let Some(id) = record.event_id else { return };
        window.remember(id, record.published_at_ms);
        if window.len() > ids_max {
            // A topic may hold more ids than may be remembered; the oldest make room as they will at every commit.
            window.expire(record.published_at_ms, None);
            versions.expire(record.published_at_ms);
        }
        if let Some(version) = version(id, record.occurred_at).filter(|_| !record.stale && !record.replay) {
            versions.remember(record.topic as u8, record.key, version, record.published_at_ms);
        }
    };
    let said = Mutex::new(Instant::now());
    let progress = move |reading: Reading<'_>| {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.elapsed() >= PROGRESS_EVERY {
            *said = Instant::now();
            info!(
                done = reading.done,
                total = reading.total,
                waiting_for = reading.waiting_for,
                "reading the window back"
            );
        }
    };
    recover::read_back(config, secrets, from_ms, sink, progress).await?;
    let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
    let empty = || (Window::new(Duration::ZERO, 0, [0; 2]), Versions::new(Duration::ZERO, 0, [0; 2]));
    Ok(std::mem::replace(&mut *memory, empty()))
}

/// The version that a record's headers tell.
fn version(id: &[u8], occurred_at: Option<&[u8]>) -> Option<Version> {
    let id = std::str::from_utf8(id).ok()?;
    if let Ok(EventId { ms, seq }) = id.parse() {
        return i64::try_from(ms).ok().map(|ms| Version { ms, seq });
    }
    let at: jiff::Timestamp = std::str::from_utf8(occurred_at?).ok()?.parse().ok()?;
    Some(Version { ms: at.as_millisecond(), seq: 0 })
}

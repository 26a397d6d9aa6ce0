//! The warm start: what the relay knew before, read back from Kafka after the claim.

use super::{Setup, Shared};
use crate::clock::millis;
use crate::config::{Config, Secrets};
use crate::kafka::errors::StartError;
use crate::kafka::recover::{self, CLOCKS_DISAGREE_MS};
use crate::kafka::{Broker, Checkpoint};
use crate::provider::EventId;
use crate::relay::planner::AHEAD_MAX_MS;
use crate::relay::progress::{GapCause, Progress};
use crate::relay::{self, Version, Versions, Window, WindowBuilder, resume};
use crate::telemetry::{Health, Metrics, ReadingBack};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tracing::info;

/// How often a long warm start says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Ids and versions as our own topics know them; empty with the embedded Kafka, which cannot be asked.
pub(super) async fn memory(
    shared: &Shared,
    predecessor: Option<&Checkpoint>,
    progress: &Progress,
    now_ms: i64,
) -> Result<(Window, Versions), StartError> {
    let Setup { config, secrets, broker, .. } = &*shared.setup;
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
    let began = Instant::now();
    let reading = Reading { health: Arc::clone(&shared.health), told: None, waiting_for: None };
    let memory = WindowBuilder::new(window, versions, config.dedup.ids_max);
    let (memory, summary) = read_back(config, secrets, from_ms, memory, reading).await?;
    let (mut window, versions, early) = memory.finish();
    window.resume(now_ms);
    let took_ms = millis(began.elapsed());
    let recover::Summary { records, bytes, .. } = summary;
    info!(ids = window.len(), records, bytes, took_ms, "window read back");
    relay::forgotten_early(&shared.metrics, early);
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
    let first_start_ms = millis(backfill.first_start);
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

/// Notes a record by its headers. One that was published again on purpose is no sign that the relay itself has published
/// it: where it has not, it still has to, and `latest` waits for it.
fn note(memory: &mut WindowBuilder, record: recover::ReadBack<'_>) {
    let Some(id) = record.event_id.filter(|_| !record.replay) else { return };
    let version = version(id, record.occurred_at).filter(|_| !record.stale);
    memory.note(id, record.published_at_ms, version.map(|version| (record.topic as u8, record.key, version)));
}

/// Tells how far it is, on the log and in the relay's health.
struct Reading {
    health: Arc<Health>,
    told: Option<Instant>,
    waiting_for: Option<String>,
}

impl Reading {
    /// At most once in [`PROGRESS_EVERY`], but at once when what it waits for changes.
    fn tell(&mut self, progress: recover::Progress<'_>) {
        let recover::Progress { done, total, waiting_for } = progress;
        let same = self.waiting_for.as_deref() == waiting_for;
        if same && self.told.is_some_and(|told| told.elapsed() < PROGRESS_EVERY) {
            return;
        }
        self.told = Some(Instant::now());
        self.waiting_for = waiting_for.map(str::to_owned);
        info!(done, total, waiting_for, "reading the window back");
        let minutes = recover::OPEN_TRANSACTION_MAX.as_secs() / 60;
        let waiting_for = waiting_for.map(|place| {
            format!("another writer's transaction on {place} (its transaction.timeout.ms, at most {minutes} minutes)")
        });
        self.health.set_reading_back(Some(ReadingBack { done, total, waiting_for }));
    }
}

async fn read_back(
    config: &Config,
    secrets: &Secrets,
    from_ms: i64,
    memory: WindowBuilder,
    mut reading: Reading,
) -> Result<(WindowBuilder, recover::Summary), StartError> {
    let memory = Arc::new(Mutex::new(memory));
    let filling = Arc::clone(&memory);
    let sink = move |record: recover::ReadBack<'_>| {
        note(&mut filling.lock().unwrap_or_else(PoisonError::into_inner), record);
    };
    let summary = recover::read_back(config, secrets, from_ms, sink, move |progress| reading.tell(progress)).await?;
    // The sink has gone with the thread that called it.
    let memory = Arc::into_inner(memory).map(|memory| memory.into_inner().unwrap_or_else(PoisonError::into_inner));
    let memory = memory.ok_or_else(|| StartError::Failed("what was read back is still being read".to_owned()))?;
    Ok((memory, summary))
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

//! The warm start: what the relay knew before, read back from Kafka after the claim.

use super::{Setup, Shared};
use crate::clock::{Moment, millis};
use crate::config::{Config, Secrets};
use crate::kafka::errors::StartError;
use crate::kafka::recover::{self, Control};
use crate::kafka::shard::Shard;
use crate::kafka::{Broker, Predecessor, Reader};
use crate::labels::Account;
use crate::relay;
use crate::relay::planner::Now;
use crate::relay::progress::Gap;
use crate::relay::start::{Settings, Start, Started};
use crate::telemetry::{Health, ReadingBack};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tracing::{error, info};

/// How often a long warm start logs how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// What the relay begins with; `begins` are the time from which events are fetched again, and that of the oldest webhook that
/// is not taken. From the embedded Kafka, which cannot be asked about times, everything is read back.
pub(super) async fn start(
    shared: &Shared,
    (shard, health): (Shard, &Arc<Health>),
    names: &[String],
    predecessor: Option<&Predecessor>,
    begins: (Option<i64>, Option<i64>),
    reader: Option<Reader>,
) -> Result<Started, StartError> {
    let setup = &*shared.setup;
    // Until the registry has answered, schemas are called what they were before.
    if setup.config.kafka.schema_registry_url.is_some() {
        let marks = predecessor.into_iter().flat_map(|predecessor| predecessor.marks.values());
        marks.for_each(|marks| relay::recall(marks, &shared.schema_ids));
    }
    let now = || Now::at(Moment::now(), &shared.clock.provider());
    let seed = [rand::random(), rand::random()];
    let start = Start::new(&settings(setup, begins), names, predecessor, now(), seed);
    let tell = |(account, gap): &(Account, Gap)| {
        let name = names.get(account.place()).filter(|name| !name.is_empty());
        relay::opened(&shared.metrics, name.map(String::as_str), gap);
    };
    start.opened().iter().for_each(tell);
    let Some(from_ms) = start.read_from_ms() else { return Ok(start.finish(now().own_ms)) };
    let from_ms = if setup.broker == Broker::Embedded { 0 } else { from_ms };
    let began = Instant::now();
    let secrets = shared.kafka_secrets.borrow().clone();
    let reading = Reading { health: Arc::clone(health), reported: None, waiting_for: None };
    let (start, summary) = read_back(&setup.config, &secrets, reader, (shard, from_ms), start, reading).await?;
    let started = start.finish(now().own_ms);
    let took_ms = millis(began.elapsed());
    let recover::Summary { records, bytes, .. } = summary;
    info!(ids = started.window.len(), records, bytes, took_ms, "window read back");
    relay::Lines::default().forgotten_early(&shared.metrics, started.early);
    if let Some((breach, gaps)) = &started.forgot {
        error!(reason = %breach, "journal not whole: events since the last checkpoint may be published twice, marked stale");
        gaps.iter().for_each(tell);
    }
    Ok(started)
}

fn settings(setup: &Setup, (from_ms, unread_ms): (Option<i64>, Option<i64>)) -> Settings {
    let Setup { config, .. } = setup;
    Settings {
        window: config.dedup.window,
        ids_max: config.dedup.ids_max,
        overlap: config.backfill.overlap,
        first_start: config.backfill.first_start,
        from_ms,
        unread_ms,
    }
}

/// Reports how far it is, in the log and in the relay's health.
struct Reading {
    health: Arc<Health>,
    reported: Option<Instant>,
    waiting_for: Option<String>,
}

impl Reading {
    /// At most once in [`PROGRESS_EVERY`], but at once when what it waits for changes.
    fn report(&mut self, progress: recover::Progress<'_>) {
        let recover::Progress { done, total, waiting_for } = progress;
        let same = self.waiting_for.as_deref() == waiting_for;
        if same && self.reported.is_some_and(|reported| reported.elapsed() < PROGRESS_EVERY) {
            return;
        }
        self.reported = Some(Instant::now());
        self.waiting_for = waiting_for.map(str::to_owned);
        info!(done, total, waiting_for, "reading the window back");
        let waiting_for = waiting_for.map(recover::foreign_transaction);
        self.health.set_reading_back(Some(ReadingBack { done, total, waiting_for }));
    }
}

async fn read_back(
    config: &Config,
    secrets: &Secrets,
    reader: Option<Reader>,
    (shard, from_ms): (Shard, i64),
    start: Start,
    mut reading: Reading,
) -> Result<(Start, recover::Summary), StartError> {
    let start = Arc::new(Mutex::new(start));
    let filling = Arc::clone(&start);
    let sink = move |record: Control<'_>, at_ms| {
        let mut start = filling.lock().unwrap_or_else(PoisonError::into_inner);
        match record {
            Control::Journal(value) => start.journal(value, at_ms),
            Control::Checkpoint(checkpoint) => start.checkpoint(&checkpoint),
        }
    };
    let progress = move |progress: recover::Progress<'_>| reading.report(progress);
    let summary = recover::read_back(config, secrets, reader, shard, from_ms, sink, progress).await?;
    // The sink has gone with the thread that called it.
    let start = Arc::into_inner(start).map(|start| start.into_inner().unwrap_or_else(PoisonError::into_inner));
    let start = start.ok_or_else(|| StartError::Failed("what was read back is still being read".to_owned()))?;
    Ok((start, summary))
}

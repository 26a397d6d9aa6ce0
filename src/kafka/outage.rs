//! Whether Kafka answers, as the log and the relay's health are told.

use super::cause::Cause;
use super::diagnosis::{self, Known};
use crate::clock::millis;
use crate::config::{Config, Secrets};
use crate::telemetry::{Health, KafkaErrorKind, Metrics, Phase};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::watch;

/// Kafka is called unavailable after this long without an answer: longer than a leader election with a fast
/// controller, shorter than `webhook.answer_within`.
const UNAVAILABLE_AFTER: Duration = Duration::from_secs(3);

/// Whether Kafka answers, told once a change, and once each cause that is found meanwhile.
pub(super) struct Outage {
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    since: Option<Instant>,
    told: BTreeSet<Cause>,
    asking: Option<Asking>,
}

/// Who is asked why Kafka does not answer.
struct Asking {
    config: Config,
    secrets: watch::Receiver<Secrets>,
    known: Vec<Known>,
}

impl Outage {
    pub(super) fn new(health: Arc<Health>, metrics: Arc<Metrics>) -> Self {
        Self { health, metrics, since: None, told: BTreeSet::new(), asking: None }
    }

    /// Looks for the cause beside the producer, where its client does not tell it.
    pub(super) fn asking(self, config: &Config, secrets: &watch::Receiver<Secrets>, known: Vec<Known>) -> Self {
        let asking = Asking { config: config.clone(), secrets: secrets.clone(), known };
        Self { asking: Some(asking), ..self }
    }

    /// No answer since `began`: an outage after [`UNAVAILABLE_AFTER`].
    pub(super) fn silent_since(&mut self, began: Instant, detail: &str) {
        if began.elapsed() >= UNAVAILABLE_AFTER {
            if self.since.is_none() {
                self.metrics.kafka_error(KafkaErrorKind::Retry);
            }
            self.waiting(detail);
        }
    }

    /// Something waits for Kafka now. Whoever calls counts the error.
    pub(super) fn waiting(&mut self, detail: &str) {
        let cause = Cause::of(detail);
        let is_new = cause.is_some_and(|cause| self.told.insert(cause));
        if self.since.is_none() || is_new {
            let remedy = cause.map(Cause::remedy);
            tracing::warn!(detail, remedy, "kafka unavailable");
        }
        if self.since.is_none() {
            self.since = Some(Instant::now());
            if cause.is_none_or(|cause| cause == Cause::Certificate) {
                self.ask();
            }
        }
        // While starting, webhooks are told `starting`, which is no less true.
        if self.health.phase() == Phase::Ready {
            self.health.set_phase(Phase::KafkaUnavailable);
        }
    }

    /// On a thread of its own, so that nothing that is waited for waits longer.
    fn ask(&self) {
        let (Some(Asking { config, secrets, known }), Ok(runtime)) = (&self.asking, Handle::try_current()) else {
            return;
        };
        let config = config.clone();
        let secrets = secrets.borrow().clone();
        let known = known.clone();
        drop(runtime.spawn_blocking(move || {
            if let Some(cause) = diagnosis::ask(&config, &secrets, &known) {
                tracing::warn!(cause, "cause of the outage of Kafka");
            }
        }));
    }

    /// Kafka answered.
    pub(super) fn over(&mut self) {
        self.told.clear();
        if let Some(since) = self.since.take() {
            tracing::info!(after_ms = millis(since.elapsed()), "kafka recovered");
        }
        if self.health.phase() == Phase::KafkaUnavailable {
            self.health.set_phase(Phase::Ready);
        }
    }
}

//! Whether Kafka answers, as the log and the relay's health are told.

use crate::clock::millis;
use crate::telemetry::{Health, KafkaErrorKind, Metrics, Phase};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Kafka is called unavailable after this long without an answer: longer than a leader election with a fast
/// controller, shorter than `webhook.answer_within`.
const UNAVAILABLE_AFTER: Duration = Duration::from_secs(3);

/// Whether Kafka answers, told once a change.
pub(super) struct Outage {
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    since: Option<Instant>,
}

impl Outage {
    pub(super) fn new(health: Arc<Health>, metrics: Arc<Metrics>) -> Self {
        Self { health, metrics, since: None }
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
        if self.since.is_none() {
            self.since = Some(Instant::now());
            tracing::warn!(detail, "kafka unavailable");
        }
        // While starting, webhooks are told `starting`, which is no less true.
        if self.health.phase() == Phase::Ready {
            self.health.set_phase(Phase::KafkaUnavailable);
        }
    }

    /// Kafka answered.
    pub(super) fn over(&mut self) {
        if let Some(since) = self.since.take() {
            tracing::info!(after_ms = millis(since.elapsed()), "kafka recovered");
        }
        if self.health.phase() == Phase::KafkaUnavailable {
            self.health.set_phase(Phase::Ready);
        }
    }
}

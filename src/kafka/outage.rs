//! Whether Kafka answers, for the log and the relay's health.

use super::blocking::Cancel;
use super::cause::Cause;
use super::diagnosis;
use crate::clock::millis;
use crate::config::{Config, Secrets};
use crate::telemetry::{Health, KafkaErrorKind, Metrics, Phase};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Kafka is called unavailable after this long without an answer: longer than a leader election with a fast
/// controller, shorter than `webhook.answer_within`.
const UNAVAILABLE_AFTER: Duration = Duration::from_secs(3);

/// How often it is asked why, while that is not known for certain: a broker that is gone is seen to be so within seconds
/// (`broker.session.timeout.ms`, 9 s unless set).
const ASK_EVERY: Duration = Duration::from_secs(10);

/// Whether Kafka answers, logged once a change, and once each cause that is found meanwhile.
pub(super) struct Outage {
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    since: Option<Instant>,
    told: BTreeSet<Cause>,
    asking: Option<Asking>,
}

/// Who is asked why Kafka does not answer, and what was found.
struct Asking {
    config: Config,
    secrets: watch::Receiver<Secrets>,
    known: Vec<String>,
    cancel: Cancel,
    last: Option<(Instant, JoinHandle<()>)>,
    found: Arc<Mutex<Option<Option<Cause>>>>,
}

impl Outage {
    pub(super) fn new(health: Arc<Health>, metrics: Arc<Metrics>) -> Self {
        Self { health, metrics, since: None, told: BTreeSet::new(), asking: None }
    }

    /// Looks for the cause alongside the producer, where its client does not know it.
    pub(super) fn asking(
        self,
        config: &Config,
        secrets: &watch::Receiver<Secrets>,
        known: Vec<String>,
        cancel: &Cancel,
    ) -> Self {
        let config = config.clone();
        let secrets = secrets.clone();
        let asking = Asking { config, secrets, known, cancel: cancel.clone(), last: None, found: Arc::default() };
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

    /// Something waits for Kafka now. The caller counts the error.
    pub(super) fn waiting(&mut self, detail: &str) {
        let better = (Cause::of(detail) == Some(Cause::Resolve)).then(diagnosis::descriptors_spent).flatten();
        let detail = better.as_deref().unwrap_or(detail);
        let cause = Cause::of(detail);
        let is_new = cause.is_some_and(|cause| self.told.insert(cause));
        if self.since.is_none() || is_new {
            let remedy = cause.map(Cause::remedy);
            tracing::warn!(detail, remedy, "kafka unavailable");
        }
        self.since.get_or_insert_with(Instant::now);
        if cause.is_none_or(Cause::is_vague) {
            self.ask(cause);
        }
        // While starting, webhooks are answered `starting`, which is no less true.
        if self.health.phase() == Phase::Ready {
            self.health.set_phase(Phase::KafkaUnavailable);
        }
    }

    /// On a thread of its own, so that nothing that is waited for waits longer; again after [`ASK_EVERY`], since a
    /// cluster takes a while to see what has happened to it. A cause is logged when it is another one than was logged
    /// before.
    fn ask(&mut self, told: Option<Cause>) {
        let (Some(Asking { config, secrets, known, cancel, last, found }), Ok(runtime)) =
            (&mut self.asking, Handle::try_current())
        else {
            return;
        };
        if last.as_ref().is_some_and(|(began, asked)| began.elapsed() < ASK_EVERY || !asked.is_finished()) {
            return;
        }
        let config = config.clone();
        let secrets = secrets.borrow().clone();
        let known = known.clone();
        let cancel = cancel.clone();
        let found = Arc::clone(found);
        let asked = runtime.spawn_blocking(move || {
            let Some(words) = diagnosis::ask(&config, &secrets, &known, &cancel) else { return };
            let cause = Cause::of(&words);
            let before = found.lock().unwrap_or_else(PoisonError::into_inner).replace(cause);
            if before != Some(cause) && (cause.is_none() || cause != told) {
                tracing::warn!(cause = words, "cause of the outage of Kafka");
            }
        });
        *last = Some((Instant::now(), asked));
    }

    /// Kafka answered.
    pub(super) fn over(&mut self) {
        self.told.clear();
        if let Some(Asking { last, found, .. }) = &mut self.asking {
            *last = None;
            *found.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        if let Some(since) = self.since.take() {
            tracing::info!(after_ms = millis(since.elapsed()), "kafka recovered");
        }
        if self.health.phase() == Phase::KafkaUnavailable {
            self.health.set_phase(Phase::Ready);
        }
    }
}

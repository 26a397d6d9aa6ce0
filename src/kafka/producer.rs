//! The producer's thread: claims the name, commits batch after batch, and holds one for as long as Kafka is away.
//!
//! Guarantee: a batch handed over is committed exactly once, refused for certain, or given back with the reason why
//! this relay has to stop. A commit of unknown outcome is resolved by the newest checkpoint: our own run and the
//! commit's number stand there, or our own run and the number before; anything else was written by another relay.

use super::Batch;
use super::blocking::{self, AskError, Cancel, RETRY_AFTER};
use super::checkpoint::{Checkpoint, Marks};
use super::client::{self, Context, Tuning};
use super::errors::{self, Class, StartError};
use super::outage::Outage;
use super::recover::{self, Newest};
use super::scan::Reader;
use super::topics::Topics;
use super::transaction::{Carried, Failure, Work};
use super::transactional::Opening;
use super::verdict::{Broker, Stop, Verdict};
use crate::clock::{now_ms, rfc3339};
use crate::config::{Config, Secrets};
use crate::labels::Topic;
use crate::telemetry::{Health, KafkaErrorKind, Metrics, Phase};
use rdkafka::producer::{BaseProducer, Producer};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Attempts that are aborted at once, one after the other, before the next one waits a little.
const ABORTS_IN_A_ROW: u32 = 3;
/// From this many new producers in a row for one batch on, each is followed by a wait.
const REBUILDS_BEFORE_WAITING: u32 = 2;

/// What the thread works with.
pub(super) struct WriterSetup {
    pub(super) config: Config,
    pub(super) secrets: watch::Receiver<Secrets>,
    pub(super) broker: Broker,
    pub(super) tuning: Tuning,
    pub(super) topics: Topics,
    pub(super) metrics: Arc<Metrics>,
    pub(super) health: Arc<Health>,
    pub(super) cancel: Cancel,
}

/// A claimed name and the state of its transactions.
pub(super) struct Writer {
    setup: WriterSetup,
    /// `None` after trouble that only a new one ends.
    producer: Option<BaseProducer<Context>>,
    carried: Carried,
    run: String,
    /// Number of the last transaction that stands.
    commit: u64,
    outage: Outage,
}

/// Fences every earlier producer of the name, reads the newest checkpoint and commits the claim.
pub(super) fn claim(setup: WriterSetup) -> Result<(Writer, Option<Checkpoint>), AskError> {
    let outage = Outage::new(Arc::clone(&setup.health), Arc::clone(&setup.metrics));
    let run = uuid::Uuid::new_v4().to_string();
    let mut writer = Writer { setup, producer: None, carried: Carried::default(), run, commit: 0, outage };
    let mut predecessor = None;
    let mut rehearsed = false;
    loop {
        let newest = writer.fence()?;
        if let Some(Newest { checkpoint, .. }) = newest {
            // Our own run: an earlier attempt of this loop stands after all.
            if checkpoint.run == writer.run {
                break;
            }
            writer.check_environment(&checkpoint)?;
            predecessor = Some(checkpoint);
        }
        if !rehearsed {
            rehearsed = true;
            if !writer.may_write()? {
                continue;
            }
        }
        let marks = predecessor.as_ref().map(|checkpoint| checkpoint.marks.clone()).unwrap_or_default();
        // A claim says nothing new, so it keeps the time of the marks that it carries on: a relay that comes no further
        // must not hide from the next one since when nobody was there.
        let at = predecessor.as_ref().map_or_else(|| rfc3339(now_ms()), |checkpoint| checkpoint.at.clone());
        match writer.attempt(&Batch::default(), &marks, 0, at) {
            Ok(()) => break,
            Err(Failure::Cancelled) => return Err(AskError::Cancelled),
            Err(Failure::Stop(detail)) => return Err(StartError::Failed(detail).into()),
            Err(Failure::Aborted { class: Class::Record, detail }) => return Err(writer.tiny_control(&detail).into()),
            Err(Failure::Aborted { detail, .. } | Failure::InDoubt { detail, .. }) => {
                writer.refused_at_start()?;
                writer.producer = None;
                writer.setup.metrics.kafka_error(KafkaErrorKind::Retry);
                writer.outage.waiting(&detail);
                writer.setup.cancel.wait(RETRY_AFTER)?;
            }
        }
    }
    writer.outage.over();
    Ok((writer, predecessor))
}

impl Writer {
    /// Commits `batch`, waiting for Kafka as long as it takes. `None` when the relay stops and waits no longer.
    pub(super) fn settle(&mut self, batch: &Batch, marks: &Marks) -> Option<Result<Verdict, Stop>> {
        let commit = self.commit.saturating_add(1);
        let (mut aborts, mut rebuilds) = (0_u32, 0_u32);
        loop {
            if self.producer.is_none() {
                match self.resolve(commit) {
                    Ok(Some(at_ms)) => return Some(Ok(self.committed(batch, commit, at_ms))),
                    Ok(None) => {}
                    Err(None) => return None,
                    Err(Some(stop)) => return Some(Err(self.stopped(stop))),
                }
            }
            match self.attempt(batch, marks, commit, rfc3339(now_ms())) {
                Ok(()) => return Some(Ok(self.committed(batch, commit, now_ms()))),
                Err(Failure::Aborted { class: Class::Record, detail }) => {
                    self.setup.metrics.kafka_error(KafkaErrorKind::Record);
                    if batch.is_empty() {
                        let error = self.tiny_control(&detail);
                        return Some(Err(self.stopped(Stop::Fatal(error.to_string()))));
                    }
                    self.outage.over();
                    return Some(Ok(Verdict::Refused { detail }));
                }
                Err(Failure::Aborted { class, detail }) => {
                    aborts = aborts.saturating_add(1);
                    rebuilds = 0;
                    let at_once = class == Class::Abort && aborts <= ABORTS_IN_A_ROW;
                    let kind = if at_once { KafkaErrorKind::Abort } else { KafkaErrorKind::Retry };
                    self.setup.metrics.kafka_error(kind);
                    if !at_once {
                        self.outage.waiting(&detail);
                        self.setup.cancel.wait(RETRY_AFTER).ok()?;
                    }
                }
                Err(Failure::InDoubt { fenced, detail }) => {
                    tracing::debug!(detail, fenced, "a new Kafka producer is needed");
                    self.setup.metrics.kafka_error(KafkaErrorKind::Rebuild);
                    self.producer = None;
                    if fenced && let Some(stop) = self.confirm_fence()? {
                        return Some(Err(self.stopped(stop)));
                    }
                    // One new producer ends a passing trouble. AskError that outlives it is Kafka's, and is waited for
                    // like an outage, so that a lasting error never becomes a busy loop of fences.
                    rebuilds = rebuilds.saturating_add(1);
                    if rebuilds >= REBUILDS_BEFORE_WAITING {
                        self.outage.waiting(&detail);
                        self.setup.cancel.wait(RETRY_AFTER).ok()?;
                    }
                }
                Err(Failure::Stop(detail)) => return Some(Err(self.stopped(Stop::Fatal(detail)))),
                Err(Failure::Cancelled) => return None,
            }
        }
    }

    /// Begins the next transaction while nothing is to be committed; `settle` commits it.
    pub(super) fn begin(&mut self) {
        // Without a producer there is nothing to begin: `settle` makes one.
        if let Some(producer) = &self.producer {
            self.carried.begin(producer);
        }
    }

    /// Serves librdkafka's queue of logs and errors while nothing is to be committed, and lets a producer with old secrets
    /// go: `settle` makes one with the new ones.
    pub(super) fn idle(&mut self) {
        if self.setup.secrets.has_changed().unwrap_or(false) {
            self.producer = None;
        }
        if let Some(producer) = &self.producer {
            producer.poll(Duration::ZERO);
        }
    }

    /// At start: every topic may be written to, or every permission that lacks is named. `false` when something else went
    /// wrong: the producer is of no further use, and the claim will meet it again and wait for its end.
    fn may_write(&mut self) -> Result<bool, AskError> {
        if self.setup.broker == Broker::Embedded {
            return Ok(true);
        }
        let names = self.setup.config.kafka.topics.clone();
        let names: Vec<&str> = Topic::ALL.into_iter().filter_map(|topic| names.name(topic)).collect();
        match self.rehearse(&names) {
            Ok(()) => return Ok(true),
            Err(Failure::Cancelled) => return Err(AskError::Cancelled),
            Err(_) => {}
        }
        let mut lacking = Vec::new();
        for topic in names {
            // A refused transaction leaves nothing to go on with.
            self.fence()?;
            match self.rehearse(&[topic]) {
                Err(Failure::Cancelled) => return Err(AskError::Cancelled),
                Err(_) => lacking.extend(self.denied(topic).map(|error| error.to_string())),
                Ok(()) => {}
            }
        }
        if lacking.is_empty() { Ok(false) } else { Err(StartError::Denied(lacking.join("\n")).into()) }
    }

    fn rehearse(&mut self, topics: &[&str]) -> Result<(), Failure> {
        let key = format!("{}/check", self.setup.config.name);
        let began = Instant::now();
        self.with_work(&[], |work, outage| {
            work.rehearse(topics, &key, &mut |detail| outage.silent_since(began, detail))
        })
    }

    fn attempt(&mut self, batch: &Batch, marks: &Marks, commit: u64, at: String) -> Result<(), Failure> {
        let checkpoint = Checkpoint {
            run: self.run.clone(),
            commit,
            marks: marks.clone(),
            at,
            environment: self.setup.config.provider.environment.as_str().to_owned(),
        };
        let checkpoint = checkpoint.to_json().map_err(|error| Failure::Stop(format!("checkpoint: {error}")))?;
        let began = Instant::now();
        self.with_work(&checkpoint, |work, outage| work.commit(batch, &mut |detail| outage.silent_since(began, detail)))
    }

    fn with_work(
        &mut self,
        checkpoint: &[u8],
        act: impl FnOnce(&mut Work<'_>, &mut Outage) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let Self { setup, producer, carried, outage, .. } = self;
        let Some(producer) = producer else {
            return Err(Failure::InDoubt { fenced: false, detail: "no producer".to_owned() });
        };
        let topics = &setup.config.kafka.topics;
        let key = Checkpoint::key(&setup.config.name);
        let mut work = Work {
            producer,
            carried,
            name_of: &|topic| topics.name(topic),
            checkpoint: Some((&key, checkpoint)),
            cancel: &setup.cancel,
            renewed: &|| setup.secrets.has_changed().unwrap_or(false),
            phase_max: setup.tuning.transaction_timeout,
        };
        act(&mut work, outage)
    }

    fn committed(&mut self, batch: &Batch, commit: u64, at_ms: i64) -> Verdict {
        self.commit = commit;
        self.outage.over();
        let mut counts = Topic::ALL.map(|_| 0);
        batch.records().for_each(|record| counts[record.topic() as usize] += 1);
        counts[Topic::Control as usize] += 1;
        Topic::ALL.into_iter().zip(counts).for_each(|(topic, count)| self.setup.metrics.records(topic, count));
        Verdict::Committed { at_ms }
    }

    fn stopped(&self, stop: Stop) -> Stop {
        self.setup.metrics.kafka_error(KafkaErrorKind::Fatal);
        stop
    }

    /// Makes a new producer and finds out whether `commit` stands: its time if so, nothing if it has to be sent
    /// again. `Err(None)` when the relay stops.
    fn resolve(&mut self, commit: u64) -> Result<Option<i64>, Option<Stop>> {
        let newest = match self.fence() {
            Ok(newest) => newest,
            Err(AskError::Cancelled) => return Err(None),
            Err(AskError::Start(error)) => return Err(Some(Stop::Fatal(error.to_string()))),
            Err(AskError::Away(detail)) => return Err(Some(Stop::Fatal(detail))),
        };
        if self.setup.broker == Broker::Embedded {
            return Ok(None);
        }
        stands(newest.as_ref(), &self.run, self.commit, commit).map_err(Some)
    }

    /// Looks twice whether another relay wrote a checkpoint, without fencing anyone. `None` when the relay stops;
    /// `Some(None)` when nobody did: the coordinator merely timed our transaction out.
    fn confirm_fence(&mut self) -> Option<Option<Stop>> {
        if self.setup.broker == Broker::Embedded {
            return Some(Some(Stop::Fenced));
        }
        for look in 0..2 {
            if look > 0 {
                self.setup.cancel.wait(self.setup.tuning.fence_confirm_after).ok()?;
            }
            match self.patiently(|writer| writer.newest()) {
                Ok(Some(newest)) if newest.checkpoint.run == self.run => {}
                Ok(_) => return Some(Some(Stop::Fenced)),
                Err(AskError::Cancelled) => return None,
                Err(other) => return Some(Some(Stop::Fatal(StartError::from(other).to_string()))),
            }
        }
        Some(None)
    }

    /// `init_transactions`, which aborts what an earlier producer of the name left open and fences it, and then the
    /// newest checkpoint. Waits for Kafka.
    fn fence(&mut self) -> Result<Option<Newest>, AskError> {
        self.producer = None;
        let producer = self.patiently(|writer| writer.initialised())?;
        (self.producer, self.carried) = (Some(producer), Carried::default());
        if self.setup.broker == Broker::Embedded {
            return Ok(None);
        }
        self.patiently(|writer| writer.newest())
    }

    fn initialised(&mut self) -> Result<BaseProducer<Context>, AskError> {
        let secrets = self.setup.secrets.borrow_and_update().clone();
        let WriterSetup { config, topics, tuning, cancel, .. } = &self.setup;
        let opening = Opening {
            config,
            secrets: &secrets,
            transactional_id: &config.name,
            topic: &config.kafka.topics.control,
            sizes: topics.sizes(),
            tuning,
            answer_within: None,
        };
        opening.open(cancel, &mut |began, detail| self.outage.silent_since(began, detail))
    }

    fn newest(&mut self) -> Result<Option<Newest>, AskError> {
        let WriterSetup { config, secrets, cancel, .. } = &self.setup;
        let secrets = secrets.borrow().clone();
        let reader = Reader::open(config, &secrets)?;
        recover::newest(&reader, &config.kafka.topics.control, &config.name, cancel)
    }

    /// Asks until Kafka answers. A permission taken away while the relay runs is waited for as well: what is held
    /// would be lost by stopping no less than by waiting.
    fn patiently<T>(&mut self, mut ask: impl FnMut(&mut Self) -> Result<T, AskError>) -> Result<T, AskError> {
        let cancel = self.setup.cancel.clone();
        let ask = |writer: &mut Self| match ask(writer) {
            Err(AskError::Start(StartError::Denied(detail))) if writer.is_running() => Err(AskError::Away(detail)),
            answer => answer,
        };
        blocking::patiently(&cancel, self, ask, |writer, detail| {
            writer.setup.metrics.kafka_error(KafkaErrorKind::Retry);
            writer.outage.waiting(detail);
        })
    }

    fn is_running(&self) -> bool {
        self.setup.health.phase() != Phase::Starting
    }

    fn check_environment(&self, checkpoint: &Checkpoint) -> Result<(), StartError> {
        let ours = self.setup.config.provider.environment.as_str();
        let Checkpoint { environment, .. } = checkpoint;
        if environment == ours {
            return Ok(());
        }
        let Config { name, kafka, .. } = &self.setup.config;
        Err(StartError::Settings(format!(
            "the topics of relay `{name}` hold {environment} events (says the checkpoint in {}), but \
             provider.environment is {ours}; give each environment its own kafka.topic_prefix and name",
            kafka.topics.control
        )))
    }

    fn tiny_control(&self, detail: &str) -> StartError {
        StartError::Settings(format!(
            "Kafka refuses a checkpoint for its size ({detail}); raise max.message.bytes of {} to its default of {}",
            self.setup.config.kafka.topics.control,
            client::MESSAGE_BYTES_DEFAULT
        ))
    }

    /// At start a lacking permission is told at once, not waited for. The claim writes to the control topic alone.
    fn refused_at_start(&self) -> Result<(), StartError> {
        self.denied(&self.setup.config.kafka.topics.control).map_or(Ok(()), Err)
    }

    /// The permission that the last transaction lacked, which wrote to `topic`.
    fn denied(&self, topic: &str) -> Option<StartError> {
        let producer = self.producer.as_ref()?;
        let code = producer.context().said().refused;
        let code = code.or_else(|| producer.client().fatal_error().map(|(code, _)| code));
        let code = code.filter(|code| errors::is_denied(*code))?;
        let config = &self.setup.config;
        Some(client::denied(config, code, &code.to_string(), &config.name, topic))
    }
}

/// Whether `commit` of `run` stands, by the newest checkpoint: its time if so, nothing if it has to be sent again.
/// `settled` is the number of the last transaction known to stand.
pub fn stands(newest: Option<&Newest>, run: &str, settled: u64, commit: u64) -> Result<Option<i64>, Stop> {
    match newest {
        Some(newest) if newest.checkpoint.run != run => Err(Stop::Fenced),
        Some(newest) if newest.checkpoint.commit == commit => Ok(Some(newest.written_at_ms)),
        Some(newest) if newest.checkpoint.commit == settled => Ok(None),
        _ => Err(Stop::Fenced),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_of_unknown_outcome_is_told_by_the_newest_checkpoint() {
        let newest = |run: &str, commit| {
            let (run, at, environment) = (run.to_owned(), String::new(), String::new());
            let checkpoint = Checkpoint { run, commit, marks: Marks::default(), at, environment };
            Newest { checkpoint, written_at_ms: 77 }
        };
        let judge = |newest: Option<Newest>| stands(newest.as_ref(), "ours", 4, 5);
        assert_eq!(judge(Some(newest("ours", 5))), Ok(Some(77)), "it stands");
        assert_eq!(judge(Some(newest("ours", 4))), Ok(None), "it was aborted");
        assert_eq!(judge(Some(newest("theirs", 5))), Err(Stop::Fenced), "the same number of another run");
        assert_eq!(judge(Some(newest("theirs", 4))), Err(Stop::Fenced));
        assert_eq!(judge(Some(newest("ours", 3))), Err(Stop::Fenced), "Kafka lost what stood");
        assert_eq!(judge(None), Err(Stop::Fenced));
    }
}

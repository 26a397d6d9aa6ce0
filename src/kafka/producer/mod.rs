//! The producer's thread: claims the name, commits batch after batch, and holds one for as long as Kafka is away.
//!
//! Guarantee: a batch handed over is committed exactly once, refused for certain, or given back with the reason why
//! this relay has to stop. What to do next is decided in `settlement`.

mod claim;

pub(super) use claim::claim;

use super::batch::{Batch, Shape};
use super::blocking::{self, AskError, Cancel, RETRY_AFTER};
use super::cause::Cause;
use super::checkpoint::{Checkpoint, Keys, Newest};
use super::client::{self, Context, Tuning};
use super::errors::{self, Class, StartError};
use super::outage::Outage;
use super::recover::{self, Memory};
use super::run::Run;
use super::scan::Reader;
use super::settlement::{self, Attempted, End, Fenced, Next, Settlement, Wait};
use super::shard::{Member, Shard};
use super::topics::Topics;
use super::transaction::{Carried, Failure, Work};
use super::transactional::{Early, Opening};
use super::verdict::{Broker, Stop, Verdict};
use crate::clock::now_ms;
use crate::config::{Config, Secrets};
use crate::labels::Topic;
use crate::telemetry::{Health, KafkaErrorKind, Metrics, Phase};
use rdkafka::producer::{BaseProducer, Producer};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// What the thread works with.
pub(super) struct WriterSetup {
    pub(super) config: Config,
    pub(super) secrets: watch::Receiver<Secrets>,
    pub(super) broker: Broker,
    pub(super) tuning: Tuning,
    pub(super) topics: Topics,
    /// A person set from when on events are to be fetched again (`run --from`).
    pub(super) starts_afresh: bool,
    pub(super) shard: Shard,
    /// In a cluster, as what it writes.
    pub(super) member: Option<Member>,
    /// Used up by the first claim.
    pub(super) early: Option<Early>,
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
    run: Run,
    outage: Outage,
    /// Made early, for the questions of the start.
    reader: Option<Reader>,
    /// The newest checkpoint when it was looked at last.
    seen: Option<Checkpoint>,
}

/// Logs why there is no new token while the one before still holds.
fn tell_of_token(producer: &BaseProducer<Context>) {
    if let Some(detail) = producer.context().take_no_token() {
        let remedy = Cause::of(&detail).map(Cause::remedy);
        tracing::warn!(detail, remedy, "no new token for kafka");
    }
}

/// What became of an attempt, for the settlement.
fn attempted(failure: Option<&Failure>, asked: bool) -> Attempted {
    match failure {
        None => Attempted::Committed,
        Some(Failure::Aborted { class, .. }) => Attempted::Aborted(*class),
        Some(Failure::InDoubt { fenced, .. }) => Attempted::InDoubt { fenced: *fenced, asked },
        Some(Failure::Stop(_) | Failure::Cancelled) => Attempted::Stopped,
    }
}

impl Writer {
    /// Adds what the next transaction holds besides the batch, the marks of accounts that it did not change.
    pub(super) fn complete(&self, batch: &mut Batch) {
        self.run.complete(batch);
    }

    /// Commits `batch`, waiting for Kafka as long as it takes. `None` when the relay stops and waits no longer.
    pub(super) fn settle(&mut self, batch: &Batch, left: bool) -> Option<Result<Verdict, Stop>> {
        let shape = batch.shape();
        let mut settlement = self.run.settle(shape);
        let began = Instant::now();
        let mut detail = String::new();
        let mut next = settlement.begin(self.producer.is_some());
        loop {
            let (wait, allowed) = settlement::allowed(next, self.owns());
            self.pause(wait, &detail).ok()?;
            next = match allowed {
                Next::Fence => match self.fence() {
                    Ok(None) => Next::Fence,
                    Ok(_) if self.is_only_run() => Next::Attempt,
                    Ok(Some(newest)) => settlement.fenced(newest.as_ref()),
                    Err(AskError::Cancelled) => return None,
                    Err(error) => return Some(Err(self.stopped(Stop::Fatal(StartError::from(error).to_string())))),
                },
                Next::Look if self.is_only_run() => Next::Stop(End::TakenOver),
                Next::Look => match self.patiently(|writer| writer.look(&settlement)) {
                    Ok(newest) => {
                        let (wait, next) = settlement.looked(newest.as_ref());
                        self.pause(wait, &detail).ok()?;
                        next
                    }
                    Err(AskError::Cancelled) => return None,
                    Err(error) => return Some(Err(self.stopped(Stop::Fatal(StartError::from(error).to_string())))),
                },
                Next::Attempt => {
                    let checkpoint = self.run.checkpoint(batch, left, now_ms());
                    let failure = self.attempt(batch, &checkpoint).err();
                    if matches!(failure, Some(Failure::Cancelled)) {
                        return None;
                    }
                    let attempted = attempted(failure.as_ref(), self.carried.ends().asked());
                    // What is in doubt is counted as such.
                    if self.carried.ends().spent() && !matches!(failure, Some(Failure::InDoubt { .. })) {
                        self.setup.metrics.kafka_error(KafkaErrorKind::Rebuild);
                    }
                    self.replace_if_spent();
                    let (wait, next) = settlement.attempted(attempted, self.producer.is_some(), began.elapsed());
                    if let Some(failure) = failure {
                        failure.detail().clone_into(&mut detail);
                        self.count(&failure, wait);
                    }
                    self.pause(wait, &detail).ok()?;
                    next
                }
                Next::Committed(at_ms) => {
                    return Some(Ok(self.committed(batch, at_ms.unwrap_or_else(now_ms))));
                }
                // Nothing of ours can be halved any further.
                Next::Refused(_) if shape == Shape::Control => {
                    let error = self.tiny_control(&detail);
                    return Some(Err(self.stopped(Stop::Fatal(error.to_string()))));
                }
                Next::Refused(refusal) => {
                    self.outage.over();
                    return Some(Ok(Verdict::Refused { refusal, detail }));
                }
                Next::Stop(end) => {
                    let stop = match end {
                        End::TakenOver | End::Elsewhere => Stop::Fenced(self.fenced()),
                        End::Lost => Stop::Fatal(self.lost()),
                        End::Torn => Stop::Fatal(self.disown()),
                        End::Fatal => Stop::Fatal(detail),
                    };
                    return Some(Err(self.stopped(stop)));
                }
            }
        }
    }

    /// Whether Kafka holds the words of no other run: the embedded one of a relay alone ends with it, and is not asked.
    fn is_only_run(&self) -> bool {
        self.setup.broker == Broker::Embedded && self.setup.member.is_none()
    }

    /// Whether the shard is its own, by the consumer group's last assignment.
    fn owns(&self) -> bool {
        self.setup.member.as_ref().is_none_or(Member::owns)
    }

    /// What to do about the run that holds the name now.
    fn fenced(&self) -> Fenced {
        let in_cluster = self.setup.member.is_some();
        self.seen.as_ref().map_or(Fenced::Stop, |seen| settlement::fenced(in_cluster, seen))
    }

    /// Gives up a producer that must not begin another transaction; the settlement makes a new one.
    fn replace_if_spent(&mut self) {
        if self.carried.ends().spent() {
            tracing::debug!("the end of a transaction was asked for twice: a new Kafka producer is needed");
            self.producer = None;
            self.carried = Carried::default();
        }
    }

    /// Waits as the settlement asks; while it is for Kafka, the relay counts as waiting for it.
    fn pause(&mut self, wait: Wait, detail: &str) -> Result<(), AskError> {
        match wait {
            Wait::No => Ok(()),
            Wait::Retry => {
                self.outage.waiting(detail);
                self.setup.cancel.wait(RETRY_AFTER)
            }
            Wait::Confirm => self.setup.cancel.wait(self.setup.tuning.fence_confirm_after),
        }
    }

    fn count(&self, failure: &Failure, wait: Wait) {
        let kind = match failure {
            Failure::InDoubt { fenced, detail, .. } => {
                tracing::debug!(detail, fenced, "a new Kafka producer is needed");
                KafkaErrorKind::Rebuild
            }
            Failure::Aborted { class: Class::Size | Class::Invalid | Class::Slow, .. } => KafkaErrorKind::Record,
            Failure::Aborted { .. } if wait == Wait::No => KafkaErrorKind::Abort,
            _ => KafkaErrorKind::Retry,
        };
        self.setup.metrics.kafka_error(kind);
    }

    /// Begins the next transaction while nothing is to be committed; `settle` commits it.
    pub(super) fn begin(&mut self) {
        self.let_outdated_go();
        // Without a producer there is nothing to begin: `settle` makes one.
        if let Some(producer) = &self.producer {
            tell_of_token(producer);
            let control = &self.setup.config.kafka.topics.control;
            self.carried.begin(producer, (control, self.setup.shard.number));
        }
    }

    /// Lets a producer with old secrets go: `settle` makes one with the new ones.
    fn let_outdated_go(&mut self) {
        if self.setup.secrets.has_changed().unwrap_or(false) {
            self.producer = None;
        }
    }

    /// Serves librdkafka's queue of logs and errors while nothing is to be committed.
    pub(super) fn idle(&mut self) {
        self.let_outdated_go();
        if let Some(producer) = &self.producer {
            producer.poll(Duration::ZERO);
            tell_of_token(producer);
            let control = &self.setup.config.kafka.topics.control;
            self.carried.idle(producer, (control, self.setup.shard.number));
        }
    }

    fn attempt(&mut self, batch: &Batch, checkpoint: &Checkpoint) -> Result<(), Failure> {
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
        let key = Keys::of(&setup.config.name, setup.shard).checkpoint();
        let mut work = Work {
            producer,
            carried,
            name_of: &|topic| topics.name(topic),
            shard: setup.shard,
            checkpoint: Some((&key, checkpoint)),
            cancel: &setup.cancel,
            renewed: &|| setup.secrets.has_changed().unwrap_or(false),
            phase_max: setup.tuning.transaction_timeout,
        };
        act(&mut work, outage)
    }

    fn committed(&mut self, batch: &Batch, at_ms: i64) -> Verdict {
        self.run.committed(batch);
        self.outage.over();
        let mut counts = Topic::ALL.map(|_| 0);
        batch.records().for_each(|record| counts[record.topic() as usize] += 1);
        counts[Topic::Control as usize] += 1;
        Topic::ALL.into_iter().zip(counts).for_each(|(topic, count)| self.setup.metrics.records(topic, count));
        self.setup.metrics.transaction();
        Verdict::Committed { at_ms }
    }

    fn stopped(&self, stop: Stop) -> Stop {
        self.setup.metrics.kafka_error(KafkaErrorKind::Fatal);
        stop
    }

    fn lost(&self) -> String {
        let Config { name, kafka, .. } = &self.setup.config;
        format!(
            "Kafka lost the newest checkpoint of relay `{name}`: {} was deleted, emptied or created again, or a broker \
             came back without its last records; a restart goes on from what is left",
            kafka.topics.control
        )
    }

    /// Records in Kafka that the newest transaction was torn, so that its events do not count as published, and returns
    /// the sentence to leave with. Where that fails too, the next start takes the transaction for whole.
    fn disown(&mut self) -> String {
        let (batch, claim) = self.run.disown(uuid::Uuid::new_v4().to_string(), now_ms());
        let failure = self.attempt(&batch, &claim).err();
        let name = &self.setup.config.name;
        let outcome = failure.map_or_else(
            || "its events are left to the provider, and a restart brings them back".to_owned(),
            |failure| format!("this could not be written to Kafka ({}): replay its time", failure.detail()),
        );
        format!("a delayed request ended a transaction of relay `{name}` half way; {outcome}")
    }

    /// `init_transactions`, which aborts what an earlier producer of the name left open and fences it, and then the
    /// newest checkpoint. Waits for Kafka. `None` where the shard was taken away meanwhile: nobody is fenced.
    fn fence(&mut self) -> Result<Option<Option<Newest>>, AskError> {
        Ok(match self.renew()? {
            false => None,
            true if self.is_only_run() => Some(None),
            true => Some(self.patiently(|writer| writer.newest())?),
        })
    }

    /// `init_transactions` alone, and whether it was done: not where the shard was taken away meanwhile.
    fn renew(&mut self) -> Result<bool, AskError> {
        self.producer = None;
        self.producer = self.patiently(|writer| writer.initialised())?;
        self.carried = Carried::default();
        Ok(self.producer.is_some())
    }

    fn initialised(&mut self) -> Result<Option<BaseProducer<Context>>, AskError> {
        if !self.owns() {
            return Ok(None);
        }
        let WriterSetup { config, secrets, topics, tuning, cancel, early, shard, member, .. } = &mut self.setup;
        if secrets.has_changed().unwrap_or(false) {
            // Made with the old ones.
            *early = None;
        }
        let secrets = secrets.borrow_and_update().clone();
        let sizes = topics.sizes_now(config, &secrets, cancel);
        self.reader = early.as_mut().and_then(Early::reader).or(self.reader.take());
        let early = early.take().and_then(|early| early.producer(sizes));
        let opening = Opening {
            config,
            secrets: &secrets,
            transactional_id: &shard.transactional_id(&config.name),
            topic: &config.kafka.topics.control,
            sizes,
            tuning,
            answer_within: None,
        };
        let owns = || member.as_ref().is_none_or(Member::owns);
        let opened = opening.open(early, cancel, &mut |began, detail| {
            self.outage.silent_since(began, detail);
            owns()
        });
        match opened {
            Err(AskError::Away(_)) if !owns() => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// The newest checkpoint. Waits for transactions that are open.
    fn newest(&mut self) -> Result<Option<Newest>, AskError> {
        let reader = self.reader()?;
        self.newest_of(&reader, recover::newest)
    }

    /// The newest checkpoint, for a producer that was fenced. A node of a cluster does not wait for an open transaction as long
    /// as the shard's newest run is its own.
    fn look(&mut self, settlement: &Settlement) -> Result<Option<Newest>, AskError> {
        let reader = self.reader()?;
        if self.setup.member.is_some() {
            let stable = self.newest_of(&reader, recover::newest_stable)?;
            if settlement.is_shown_by(stable.as_ref()) {
                return Ok(stable);
            }
        }
        self.newest_of(&reader, recover::newest)
    }

    fn reader(&mut self) -> Result<Reader, StartError> {
        let WriterSetup { config, secrets, .. } = &self.setup;
        let secrets = secrets.borrow().clone();
        self.reader.take().map_or_else(|| Reader::open(config, &secrets), |reader| reader.with(&secrets))
    }

    /// The one that answered last, to read on with.
    pub(super) fn take_reader(&mut self) -> Option<Reader> {
        self.reader.take()
    }

    fn newest_of(
        &mut self,
        reader: &Reader,
        ask: fn(&Reader, Memory<'_>, &Cancel) -> Result<Option<Newest>, AskError>,
    ) -> Result<Option<Newest>, AskError> {
        let WriterSetup { config, cancel, shard, .. } = &self.setup;
        let memory = Memory { control: &config.kafka.topics.control, name: &config.name, shard: *shard };
        let newest = ask(reader, memory, cancel)?;
        self.seen = newest.as_ref().map(|newest| newest.checkpoint.clone());
        Ok(newest)
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

    /// The permission that the last transaction lacked, which wrote to `topic`.
    fn denied(&self, topic: &str) -> Option<StartError> {
        let producer = self.producer.as_ref()?;
        let code = producer.context().said().refused;
        let code = code.or_else(|| producer.client().fatal_error().map(|(code, _)| code));
        let code = code.filter(|code| errors::is_denied(*code))?;
        let config = &self.setup.config;
        let id = self.setup.shard.transactional_id(&config.name);
        Some(client::denied(config, producer.context(), code, &code.to_string(), (&id, topic)))
    }
}

//! One transaction: every record of a batch and the checkpoint, or nothing.
//!
//! Blocking, on the producer's thread. Each wait is cut into slices, so that Kafka's absence is noticed and reported.

use super::Batch;
use super::batch::{Record, Sequenced};
use super::blocking::Cancel;
use super::client::Context;
use super::drain_pace::Pace;
use super::ends::Ends;
use super::errors::{self, Class};
use super::markers::Markers;
use super::shard::Shard;
use crate::labels::Topic;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::time::{Duration, Instant};

/// A slice of waiting for Kafka.
pub(super) const SLICE: Duration = Duration::from_millis(500);

/// librdkafka asks the coordinator for the partitions of a transaction this long after its first record, and sends no
/// record before it has the answer (`rd_kafka_txn_add_partition`, rdkafka_txnmgr.h). What is enqueued meanwhile is
/// asked for together.
const REGISTERED_AFTER: Duration = Duration::from_millis(1);

/// Why a batch did not become a transaction.
#[derive(Debug)]
pub(super) enum Failure {
    /// Aborted for certain: nothing of it will ever be seen.
    Aborted { class: Class, detail: String },
    /// Whether it is committed is not known, or the producer is of no further use.
    InDoubt { fenced: bool, detail: String },
    /// No retry can help.
    Stop(String),
    /// The relay stops and waits no longer; the next start aborts what is open.
    Cancelled,
}

impl Failure {
    /// What happened, for the log.
    pub(super) fn detail(&self) -> &str {
        match self {
            Self::Aborted { detail, .. } | Self::InDoubt { detail, .. } | Self::Stop(detail) => detail,
            Self::Cancelled => "stopped while waiting for Kafka",
        }
    }
}

/// What one transaction of a producer leaves to the next.
#[derive(Debug, Default)]
pub(super) struct Carried {
    /// One has been begun, and has no record yet.
    begun: bool,
    ends: Ends,
    pace: Pace,
    markers: Markers,
}

impl Carried {
    /// How the transactions of the producer ended so far.
    pub(super) fn ends(&self) -> Ends {
        self.ends
    }

    /// Begins the next transaction ahead of its first record, which then does not wait for librdkafka's main thread twice.
    /// Kafka learns of it with that record. Where it fails, the next commit finds out why. Waits briefly until Kafka is done with
    /// the transaction before, which wrote to this partition of the control topic.
    pub(super) fn begin(&mut self, producer: &BaseProducer<Context>, (control, partition): (&str, i32)) {
        self.begun = self.begun || !self.ends.spent() && producer.begin_transaction().is_ok();
        self.markers.wait(producer, control, partition);
    }

    /// Nothing has been written for a while.
    pub(super) fn idle(&mut self, producer: &BaseProducer<Context>, (control, partition): (&str, i32)) {
        self.markers.idle(producer, control, partition);
    }
}

/// What a transaction needs alongside its batch.
pub(super) struct Work<'w> {
    pub(super) producer: &'w BaseProducer<Context>,
    pub(super) carried: &'w mut Carried,
    /// Name of a topic; `None` when it is turned off.
    pub(super) name_of: &'w dyn Fn(Topic) -> Option<&'w str>,
    /// The partition of the control topic.
    pub(super) shard: Shard,
    /// Key and value of the checkpoint that rides along; `None` alongside a relay, whose business it is.
    pub(super) checkpoint: Option<(&'w str, &'w [u8])>,
    pub(super) cancel: &'w Cancel,
    /// Whether there are new secrets for Kafka, which only a new producer uses.
    pub(super) renewed: &'w dyn Fn() -> bool,
    /// Bound on each phase: after it the coordinator has aborted the transaction by itself.
    pub(super) phase_max: Duration,
}

impl Work<'_> {
    /// Commits the checkpoint, if there is one, and `batch` as one transaction. `waiting` is called about twice a second while
    /// Kafka does not answer, with the reason.
    pub(super) fn commit(&mut self, batch: &Batch, waiting: &mut dyn FnMut(&str)) -> Result<(), Failure> {
        let opened_at = self.open()?;
        let drained = self.enqueue(batch, waiting).and_then(|()| self.drain(batch.len(), opened_at, waiting));
        match drained {
            Ok(()) => self.end(waiting),
            Err(Failure::Aborted { class, detail }) => {
                // A coordinator that refused a partition knows of no transaction, and refuses to end it as well: what
                // is reported is the reason and not this consequence.
                self.abort(waiting).map_err(|failure| match failure {
                    Failure::InDoubt { fenced, .. } => Failure::InDoubt { fenced, detail: detail.clone() },
                    other => other,
                })?;
                // The broker's error about a record is more precise than what its consequences were; that the others
                // were purged with it is one of these.
                match self.refusal() {
                    Some((refused, detail)) if !class.is_refusal() && refused != Class::Abort => {
                        Err(Failure::Aborted { class: refused, detail })
                    }
                    _ => Err(Failure::Aborted { class, detail }),
                }
            }
            Err(other) => Err(other),
        }
    }

    /// Writes a record to each of these topics in a transaction that is aborted: whether they may be written to. No
    /// request of the protocol asks for it without a record. Readers of committed records never see it.
    ///
    /// What was refused is in the context.
    pub(super) fn rehearse(
        &mut self,
        topics: &[Topic],
        key: &str,
        waiting: &mut dyn FnMut(&str),
    ) -> Result<(), Failure> {
        let opened_at = self.open()?;
        for topic in topics {
            let Some(name) = (self.name_of)(*topic) else { continue };
            let partition = topic.is_of_shards().then_some(self.shard.number);
            self.send(BaseRecord { partition, ..new(name, key.as_bytes(), Some(b"{}")) }, waiting)?;
        }
        self.drain(topics.len(), opened_at, waiting)?;
        self.abort(waiting)
    }

    /// Begins a transaction, unless one has been begun; when.
    fn open(&mut self) -> Result<Instant, Failure> {
        self.producer.context().forget();
        self.carried.ends.begin();
        if !std::mem::take(&mut self.carried.begun) {
            self.producer.begin_transaction().map_err(|error| self.sorted(&error))?;
        }
        Ok(Instant::now())
    }

    /// All records in their sequence, and the checkpoint in its place.
    fn enqueue(&self, batch: &Batch, waiting: &mut dyn FnMut(&str)) -> Result<(), Failure> {
        for place in batch.sequence() {
            let Sequenced::Record(record) = place else {
                self.enqueue_checkpoint(waiting)?;
                continue;
            };
            // The relay plans no record for a topic that is turned off.
            let Some(topic) = (self.name_of)(record.topic()) else { continue };
            let new = BaseRecord {
                partition: self.partition_of(record),
                headers: headers(record),
                ..new(topic, record.key(), record.value())
            };
            self.send(new, waiting)?;
        }
        Ok(())
    }

    fn enqueue_checkpoint(&self, waiting: &mut dyn FnMut(&str)) -> Result<(), Failure> {
        let Some((key, checkpoint)) = self.checkpoint else { return Ok(()) };
        let Some(control) = (self.name_of)(Topic::Control) else {
            return Err(Failure::Stop("kafka.topics.control is empty".to_owned()));
        };
        let partition = Some(self.shard.number);
        self.send(BaseRecord { partition, ..new(control, key.as_bytes(), Some(checkpoint)) }, waiting)
    }

    fn partition_of(&self, record: Record<'_>) -> Option<i32> {
        record.partition().or_else(|| (record.topic() == Topic::Control).then_some(self.shard.number))
    }

    /// Hands a record to librdkafka, which copies it. No timestamp: it is the time of publishing.
    fn send(&self, mut record: BaseRecord<'_, [u8], [u8]>, waiting: &mut dyn FnMut(&str)) -> Result<(), Failure> {
        let began = Instant::now();
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(Code::QueueFull), back)) => {
                    self.wait("the producer's queue is full", began, waiting)?;
                    record = back;
                }
                Err((error, _)) => return Err(self.doomed().unwrap_or_else(|| self.sorted(&error))),
            }
        }
    }

    /// Waits until the broker has every record: committing would do it as well, but in slices of 100 ms.
    fn drain(&mut self, records: usize, opened_at: Instant, waiting: &mut dyn FnMut(&str)) -> Result<(), Failure> {
        let began = Instant::now();
        let mut wait = self.carried.pace.begin(records);
        let unregistered = REGISTERED_AFTER.saturating_sub(opened_at.elapsed());
        loop {
            self.producer.poll(Duration::ZERO);
            if self.producer.in_flight_count() == 0 {
                break;
            }
            let waited = began.elapsed();
            let pause = wait.pause(waited).max(unregistered.saturating_sub(waited));
            #[expect(clippy::disallowed_methods, reason = "this thread serves nobody else")]
            std::thread::sleep(pause);
            if waited > SLICE {
                if let Some(failure) = self.doomed() {
                    return Err(failure);
                }
                self.wait("the broker does not acknowledge", began, waiting)?;
            }
        }
        self.carried.pace.over(&wait);
        match self.refusal() {
            // Records that were purged are a consequence, and the transaction knows of what.
            Some((Class::Abort, detail)) => {
                let doomed = self.fatal().or_else(|| self.doomed());
                Err(doomed.unwrap_or(Failure::Aborted { class: Class::Abort, detail }))
            }
            Some((class, detail)) => Err(self.fatal().unwrap_or(Failure::Aborted { class, detail })),
            None => Ok(()),
        }
    }

    fn end(&mut self, waiting: &mut dyn FnMut(&str)) -> Result<(), Failure> {
        self.carried.ends.ask();
        let began = Instant::now();
        let ended = self.commit_until(began, waiting);
        self.carried.ends.took(began.elapsed());
        if ended.is_ok() {
            self.carried.markers.committed(began.elapsed());
        }
        ended
    }

    fn commit_until(&self, began: Instant, waiting: &mut dyn FnMut(&str)) -> Result<(), Failure> {
        loop {
            let Err(error) = self.producer.commit_transaction(SLICE) else { return Ok(()) };
            if errors::sort(&error) != Class::Retry || is_over(&error) {
                // Even where librdkafka would let us abort, an earlier copy of the request may have been obeyed.
                let fenced = error.rdkafka_error_code().is_some_and(errors::looks_fenced);
                return Err(match errors::sort(&error) {
                    Class::Stop => Failure::Stop(error.to_string()),
                    _ => self.fatal().unwrap_or(Failure::InDoubt { fenced, detail: error.to_string() }),
                });
            }
            self.wait(&error.to_string(), began, waiting)?;
        }
    }

    fn abort(&mut self, waiting: &mut dyn FnMut(&str)) -> Result<(), Failure> {
        let began = Instant::now();
        let ended = self.abort_until(began, waiting);
        self.carried.ends.took(began.elapsed());
        self.carried.markers.aborted();
        ended
    }

    fn abort_until(&self, began: Instant, waiting: &mut dyn FnMut(&str)) -> Result<(), Failure> {
        // It purges what is queued by itself, and keeps count of it. A purge of our own would leave a hole in the sequence
        // numbers of a partition, and the next transaction would wait for ever for what follows the hole.
        loop {
            self.producer.poll(Duration::ZERO);
            let Err(error) = self.producer.abort_transaction(SLICE / 5) else { return Ok(()) };
            if errors::sort(&error) != Class::Retry || is_over(&error) {
                let fenced = error.rdkafka_error_code().is_some_and(errors::looks_fenced);
                return Err(self.fatal().unwrap_or(Failure::InDoubt { fenced, detail: error.to_string() }));
            }
            self.wait(&error.to_string(), began, waiting)?;
        }
    }

    /// Serves callbacks for a slice, reports that we wait, and gives up after `phase_max`.
    fn wait(&self, reason: &str, began: Instant, waiting: &mut dyn FnMut(&str)) -> Result<(), Failure> {
        self.producer.poll(Duration::from_millis(10));
        if self.cancel.is_set() {
            return Err(Failure::Cancelled);
        }
        let detail = self.producer.context().away(reason);
        if began.elapsed() > self.phase_max || (self.renewed)() {
            return Err(Failure::InDoubt { fenced: false, detail });
        }
        waiting(&detail);
        Ok(())
    }

    /// What went wrong with this transaction, where librdkafka knows that it has to be aborted: a partition that may not
    /// be written to, for example. Its records get no report before their own time-out.
    fn doomed(&self) -> Option<Failure> {
        // Beginning another one is refused in any case; a transaction that has to be aborted gives its own reason.
        let error = self.producer.begin_transaction().err()?;
        let KafkaError::Transaction(said) = &error else { return None };
        if !said.txn_requires_abort() && !said.is_fatal() {
            return None;
        }
        self.producer.context().failed(said.code(), None);
        Some(self.sorted(&error))
    }

    fn refusal(&self) -> Option<(Class, String)> {
        let (code, words) = self.producer.context().refusal()?;
        Some((errors::classify(code), words))
    }

    fn fatal(&self) -> Option<Failure> {
        let (code, detail) = self.producer.client().fatal_error()?;
        Some(match errors::classify(code) {
            Class::Stop => Failure::Stop(detail),
            _ => Failure::InDoubt { fenced: errors::looks_fenced(code), detail },
        })
    }

    fn sorted(&self, error: &KafkaError) -> Failure {
        self.fatal().unwrap_or_else(|| match errors::sort(error) {
            Class::Rebuild => Failure::InDoubt {
                fenced: error.rdkafka_error_code().is_some_and(errors::looks_fenced),
                detail: error.to_string(),
            },
            Class::Stop => Failure::Stop(error.to_string()),
            class => Failure::Aborted { class, detail: error.to_string() },
        })
    }
}

/// Whether librdkafka will not go on with the call when it is made again.
fn is_over(error: &KafkaError) -> bool {
    match error {
        KafkaError::Transaction(error) => !error.is_retriable(),
        // The wrapper flushes first, and reports only that its time was up.
        KafkaError::Flush(code) => *code != Code::OperationTimedOut,
        _ => true,
    }
}

/// A record without headers, for the partition of its key.
fn new<'r>(topic: &'r str, key: &'r [u8], value: Option<&'r [u8]>) -> BaseRecord<'r, [u8], [u8]> {
    let mut record = BaseRecord::to(topic).key(key);
    record.payload = value;
    record
}

fn headers(record: Record<'_>) -> Option<OwnedHeaders> {
    let headers = record.headers();
    let count = headers.len();
    let owned = headers.fold(OwnedHeaders::new_with_capacity(count), |owned, (key, value)| {
        owned.insert(Header { key, value: Some(value) })
    });
    (count > 0).then_some(owned)
}

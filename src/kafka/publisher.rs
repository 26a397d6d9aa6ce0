//! The relay's end of the producer's thread: hand a batch over, await its verdict.

use super::Batch;
use super::blocking::{AskError, Cancel, CancelOnDrop};
use super::checkpoint::Predecessor;
use super::client::Tuning;
use super::errors::StartError;
use super::producer::{self, Writer, WriterSetup};
use super::scan::Reader;
use super::shard::{Member, Shard};
use super::topics::Topics;
use super::transactional::Early;
use super::verdict::{Broker, Stop, Verdict};
use crate::config::{Config, Secrets};
use crate::telemetry::{Health, Metrics};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// How often the thread serves librdkafka's queue while it has nothing to do.
const IDLE: Duration = Duration::from_secs(1);
/// After `close` has run out of time, the thread needs at most a slice to notice.
const NOTICE: Duration = Duration::from_secs(1);

/// What a publisher works with.
#[derive(Debug)]
pub struct PublisherSetup {
    /// All settings.
    pub config: Config,
    /// All secrets. Where the ones for Kafka change, the producer is replaced by one that uses them.
    pub secrets: watch::Receiver<Secrets>,
    /// The shard that it writes for.
    pub shard: Shard,
    /// The node that it writes for, in a cluster.
    pub member: Option<Member>,
    /// Which Kafka it writes to.
    pub broker: Broker,
    /// Times that only tests shorten.
    pub tuning: Tuning,
    /// The topics, as [`super::topics::ensure`] found them.
    pub topics: Topics,
    /// Start although the relay's memory is gone: a person set from when on events are to be fetched again.
    pub starts_afresh: bool,
    /// Clients that are connected already, for a start that is quick.
    pub early: Option<Early>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Where an outage is reported.
    pub health: Arc<Health>,
}

/// A batch, and whether the relay leaves with it.
type Job = (Batch, bool);

/// Commits batches, one transaction each, one at a time.
///
/// Dropping it without [`Publisher::close`] leaves a batch in flight undone or unknown; the next start resolves it.
#[derive(Debug)]
pub struct Publisher {
    jobs: Option<SyncSender<Job>>,
    verdicts: mpsc::Receiver<(Batch, Result<Verdict, Stop>)>,
    /// A batch that the thread could not take because it has ended.
    orphan: Option<Batch>,
    /// The claim has read with it.
    reader: Option<Reader>,
    thread: Thread,
    guard: CancelOnDrop,
}

impl Publisher {
    /// Takes the shard over: fences every earlier relay of the name, reads its newest checkpoint, refuses one of
    /// another environment and topics of another name, and commits a claim that repeats its marks.
    ///
    /// Gives the predecessor's checkpoint and marks, `None` when there never was one. Waits for a Kafka that does not answer;
    /// dropping the future ends that.
    pub async fn start(setup: PublisherSetup) -> Result<(Self, Option<Predecessor>), StartError> {
        let cancel = Cancel::default();
        // Until the claim is committed, dropping this future ends the thread; after it, dropping the publisher does.
        let guard = CancelOnDrop(cancel);
        let PublisherSetup { config, secrets, shard, member, broker, tuning, topics, .. } = setup;
        let PublisherSetup { starts_afresh, early, metrics, health, .. } = setup;
        let cancel = guard.0.clone();
        let setup = WriterSetup {
            config,
            secrets,
            shard,
            member,
            broker,
            tuning,
            topics,
            early,
            starts_afresh,
            metrics,
            health,
            cancel,
        };
        let (job_sender, jobs) = sync_channel(1);
        let (verdict_sender, verdicts) = mpsc::channel(1);
        let (claimed_sender, claimed) = oneshot::channel();
        // One of the runtime's, which it waits for when it is shut down: a start that is given up leaves nobody else to.
        let handle = tokio::task::spawn_blocking(move || match producer::claim(setup) {
            Ok((mut writer, predecessor)) => {
                if claimed_sender.send(Ok((predecessor, writer.take_reader()))).is_ok() {
                    serve(writer, &jobs, &verdict_sender);
                }
            }
            Err(trouble) => drop(claimed_sender.send(Err(trouble))),
        });
        let mut thread = Thread(Some(handle));
        let claimed = claimed.await.unwrap_or_else(|_| {
            Err(AskError::Start(StartError::Failed("the producer's thread failed; see the log".to_owned())))
        });
        match claimed {
            Ok((predecessor, reader)) => {
                Ok((Self { jobs: Some(job_sender), verdicts, orphan: None, reader, thread, guard }, predecessor))
            }
            Err(trouble) => {
                thread.join().await;
                Err(trouble.into())
            }
        }
    }

    /// The reader of the claim, once: it is connected, for [`super::recover::read_back`].
    pub fn take_reader(&mut self) -> Option<Reader> {
        self.reader.take()
    }

    /// Hands a batch over, which is committed with a checkpoint; an empty one commits only that. `left` records in it
    /// that everything is settled and the relay leaves.
    ///
    /// At most one batch at a time: await its verdict before the next.
    pub fn submit(&mut self, batch: Batch, left: bool) {
        let Some(jobs) = &self.jobs else { return };
        if let Err(TrySendError::Full((batch, _)) | TrySendError::Disconnected((batch, _))) =
            jobs.try_send((batch, left))
        {
            self.orphan = Some(batch);
        }
    }

    /// Awaits the verdict over the batch in flight, and gives the batch back; pends while none is.
    ///
    /// Cancel safe: a verdict is never taken and lost.
    pub async fn verdict(&mut self) -> (Batch, Result<Verdict, Stop>) {
        if let Some(batch) = self.orphan.take() {
            return (batch, Err(Stop::Fatal("the producer's thread has ended".to_owned())));
        }
        match self.verdicts.recv().await {
            Some(verdict) => verdict,
            None => (Batch::default(), Err(Stop::Fatal("the producer's thread has ended".to_owned()))),
        }
    }

    /// Lets the batch in flight come to its end, at most for `deadline`, and ends the thread.
    ///
    /// Whether it ended in time; if not, the next start aborts what is still open.
    pub async fn close(mut self, deadline: Duration) -> bool {
        self.jobs = None;
        if tokio::time::timeout(deadline, self.thread.join()).await.is_ok() {
            return true;
        }
        self.guard.0.set();
        tokio::time::timeout(NOTICE, self.thread.join()).await.is_ok()
    }
}

/// The producer's side, where a test takes its part.
#[cfg(test)]
pub(crate) struct Desk {
    /// Batches handed over.
    pub(crate) jobs: Receiver<Job>,
    /// What becomes of them.
    pub(crate) verdicts: mpsc::Sender<(Batch, Result<Verdict, Stop>)>,
}

#[cfg(test)]
impl Publisher {
    /// One without Kafka.
    pub(crate) fn scripted() -> (Self, Desk) {
        let (jobs, taken) = sync_channel(1);
        let (given, verdicts) = mpsc::channel(1);
        let thread = Thread(None);
        let guard = CancelOnDrop(Cancel::default());
        let publisher = Self { jobs: Some(jobs), verdicts, orphan: None, reader: None, thread, guard };
        (publisher, Desk { jobs: taken, verdicts: given })
    }
}

/// The producer's thread.
#[derive(Debug)]
struct Thread(Option<JoinHandle<()>>);

impl Thread {
    /// Waits until its client is closed. That the thread itself is gone is the runtime's to wait for: OpenSSL frees what it
    /// keeps for a thread when that thread ends, which must not happen while a process that exits takes OpenSSL down.
    /// Cancel safe.
    async fn join(&mut self) {
        if let Some(handle) = &mut self.0 {
            // Where the thread failed, nothing is left to wait for.
            drop(handle.await);
            self.0 = None;
        }
    }
}

fn serve(mut writer: Writer, jobs: &Receiver<Job>, verdicts: &mpsc::Sender<(Batch, Result<Verdict, Stop>)>) {
    writer.begin();
    loop {
        match jobs.recv_timeout(IDLE) {
            Ok((mut batch, left)) => {
                writer.complete(&mut batch);
                let Some(verdict) = writer.settle(&batch, left) else { return };
                let last = verdict.is_err();
                if verdicts.blocking_send((batch, verdict)).is_err() || last {
                    return;
                }
                writer.begin();
            }
            Err(RecvTimeoutError::Timeout) => writer.idle(),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

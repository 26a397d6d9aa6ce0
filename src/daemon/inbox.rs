//! The way through the inbox: the node that gets a webhook appends it, and the owner of its shard takes it.

use crate::clock::Clock;
use crate::config::Secrets;
use crate::kafka::group::Reports;
use crate::kafka::inbox::{Appender, Inbox, Read, Webhook};
use crate::labels::{Account, Leg, Outcome, Topic};
use crate::legs::{Arrival, Delivery, Intake, IntakeClosed, IntakeReceiver, Note, Trace};
use crate::relay::planner::Now;
use crate::telemetry::{Health, Metrics, Phase, RateLimited};
use futures::stream::{FuturesUnordered, StreamExt};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

/// Between two questions whether Kafka takes webhooks, while it does: no webhook may come that finds out.
const REACH_EVERY: Duration = Duration::from_secs(5);

/// And while it does not.
const REACH_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// How often it is logged at most that webhooks cannot be appended; the line has their number.
const REFUSED_LOG_EVERY: Duration = Duration::from_secs(10);

/// Most webhooks that are taken from the door in one go.
const AT_ONCE: usize = 256;

/// Where webhooks wait for their answer while they are appended; a clone is the same one.
#[derive(Clone, Debug)]
pub(super) struct Door {
    intake: Intake,
    names: Arc<Mutex<Vec<String>>>,
}

impl Door {
    /// A door for `bytes_max` bytes, and the end of it that is to be appended.
    pub(super) fn new(bytes_max: usize) -> (Self, IntakeReceiver) {
        let (intake, receiver) = Intake::new(bytes_max);
        (Self { intake, names: Arc::default() }, receiver)
    }

    /// The door for the webhooks of this account.
    pub(super) fn of(&self, name: &str) -> Intake {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let place = names.iter().position(|known| known == name).unwrap_or_else(|| {
            names.push(name.to_owned());
            names.len() - 1
        });
        self.intake.of(Account::at(place), name)
    }

    /// `accounts` accounts share it.
    pub(super) fn share_among(&self, accounts: usize) {
        self.intake.share_among(accounts);
    }

    /// What appends the webhooks at its other end.
    pub(super) fn appending(&self, receiver: IntakeReceiver, appender: Appender, metrics: Arc<Metrics>) -> Appending {
        let refused = Mutex::new(RateLimited::new(REFUSED_LOG_EVERY));
        Appending { receiver, appender, names: Arc::clone(&self.names), metrics, refused }
    }
}

/// Appends what comes to the door.
#[derive(Debug)]
pub(super) struct Appending {
    receiver: IntakeReceiver,
    appender: Appender,
    names: Arc<Mutex<Vec<String>>>,
    metrics: Arc<Metrics>,
    refused: Mutex<RateLimited>,
}

impl Appending {
    /// Until the door is closed and everything that came has its answer. Many at once: librdkafka keeps their order.
    pub(super) async fn run(self) {
        let Self { mut receiver, appender, names, metrics, refused } = self;
        let mut arrived = Vec::new();
        let mut appending = FuturesUnordered::new();
        let mut open = true;
        while open || !appending.is_empty() {
            tokio::select! {
                count = receiver.recv_many(&mut arrived, AT_ONCE), if open => {
                    open = count > 0;
                    for arrival in arrived.drain(..) {
                        // Legs report nothing here: they have the intake of their shard.
                        let Arrival::Delivery(delivery) = arrival else { continue };
                        let name = names.lock().unwrap_or_else(PoisonError::into_inner);
                        let name = name.get(delivery.account.place()).cloned().unwrap_or_default();
                        appending.push(append(&appender, (&metrics, &refused), name, delivery));
                    }
                }
                Some(()) = appending.next(), if !appending.is_empty() => {}
            }
        }
    }
}

async fn append(
    appender: &Appender,
    (metrics, refused): (&Metrics, &Mutex<RateLimited>),
    account: String,
    delivery: Delivery,
) {
    let Delivery { received_at_ms, bytes, reply, trace, share, .. } = delivery;
    let trace = trace.map(|trace| (Cow::Owned(trace.parent.into()), Cow::Owned(trace.state.into())));
    let webhook = Webhook { account: Cow::Owned(account), bytes: Cow::Borrowed(&bytes), received_at_ms, trace };
    let appended = appender.append(&webhook).await;
    drop(share);
    match &appended {
        Ok(()) => metrics.records(Topic::Inbox, 1),
        Err(detail) => {
            let allowed = refused.lock().unwrap_or_else(PoisonError::into_inner).allow(Instant::now());
            if let Some(unsaid) = allowed {
                warn!(detail, count = unsaid.saturating_add(1), "webhooks cannot be appended to the inbox");
            }
        }
    }
    if let Some(reply) = reply {
        // Nothing is settled yet, but it will be: the answer means just that. The peer may have given up waiting.
        let _ = reply.send(if appended.is_ok() { Outcome::Published } else { Outcome::Failed });
    }
}

/// Asks whether Kafka takes webhooks, and reports it to health; nothing else does where no webhook comes and no shard
/// is served.
pub(super) async fn watch_reach(appender: Appender, health: Arc<Health>, stop: CancellationToken) {
    let mut snapshots = health.subscribe();
    loop {
        let away = snapshots.borrow_and_update().phase == Phase::KafkaUnavailable;
        let pause = if away { REACH_AGAIN_AFTER } else { REACH_EVERY };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            // Somebody else found out.
            _ = snapshots.wait_for(|snapshot| snapshot.phase == Phase::KafkaUnavailable), if !away => continue,
        }
        let asked = appender.clone();
        match tokio::task::spawn_blocking(move || asked.reach()).await {
            Ok(Ok(())) => appender.recovered(),
            Ok(Err(detail)) => appender.unreachable(&detail),
            Err(error) => debug!(%error, "it is not known whether Kafka takes webhooks"),
        }
    }
}

/// Appends with new secrets for Kafka from when there are some.
pub(super) async fn renew(appender: Appender, mut secrets: watch::Receiver<Secrets>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = secrets.changed() => if changed.is_err() { return },
        }
        let renewed = secrets.borrow_and_update().clone();
        if let Err(error) = appender.renew(&renewed) {
            error!(%error, "webhooks cannot be appended with the new secrets");
        }
    }
}

/// The accounts of a shard, by the key of their webhooks: their name, or the relay's.
pub(super) type Directory = HashMap<String, Known>;

/// An account of the shard.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// Where its deliveries go.
    pub(super) intake: Intake,
    /// The settings name it.
    pub(super) served: bool,
}

/// An account that is asked for: a node knows it whose settings are newer than ours.
#[derive(Debug)]
pub(super) struct Unknown {
    /// The key of its webhooks.
    pub(super) account: String,
    /// Answered with whether the directory has it from now on.
    pub(super) known: oneshot::Sender<bool>,
}

/// Takes the webhooks of a shard.
#[derive(Debug)]
pub(super) struct Taking {
    pub(super) inbox: Inbox,
    pub(super) shard: i32,
    pub(super) directory: watch::Receiver<Arc<Directory>>,
    pub(super) unknown: mpsc::Sender<Unknown>,
    /// Learns how far the inbox is taken, in a cluster.
    pub(super) reports: Option<Reports>,
    pub(super) clock: Arc<Clock>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) stop: CancellationToken,
}

impl Taking {
    /// Until it is asked to stop, the relay ends, or Kafka refuses.
    pub(super) async fn run(mut self) {
        loop {
            let read = tokio::select! {
                () = self.stop.cancelled() => return,
                read = self.inbox.next() => read,
            };
            match read {
                Some(Ok(Read::Webhook { webhook, next })) => {
                    let stop = self.stop.clone();
                    tokio::select! {
                        () = stop.cancelled() => return,
                        taken = self.take(webhook, next) => if !taken { return },
                    }
                }
                Some(Ok(Read::Looked { next, behind, at })) => {
                    self.metrics.inbox_lag(self.shard, usize::try_from(behind).unwrap_or(usize::MAX));
                    self.reports.iter().for_each(|reports| reports.taken(self.shard, next));
                    if behind == 0 {
                        let read_ms = Now::at(at, &self.clock.provider()).own_ms;
                        self.tell_one(Note::InboxRead { next, read_ms });
                    }
                }
                Some(Ok(Read::Lost { next })) => self.lost(next),
                Some(Err(error)) => return error!(shard = self.shard, %error, "the inbox cannot be read"),
                None => return,
            }
        }
    }

    /// Webhooks were deleted before they were taken: a gap of every account, which the walk proves.
    pub(super) fn lost(&self, next: i64) {
        let at_ms = self.clock.provider_ms();
        warn!(shard = self.shard, "webhooks were deleted from the inbox before they were taken");
        for known in self.directory.borrow().values().filter(|known| known.served) {
            // An intake that is closed takes nothing more, and the relay ends.
            let _ = known.intake.note(Note::InboxLost { next, at_ms });
        }
    }

    /// What is of the shard, by whichever account.
    fn tell_one(&self, note: Note) {
        if let Some(known) = self.directory.borrow().values().next() {
            let _ = known.intake.note(note);
        }
    }

    /// False when the relay takes nothing more.
    async fn take(&mut self, webhook: Webhook<'static>, next: i64) -> bool {
        let Ok(intake) = self.intake_of(&webhook.account).await else { return false };
        let Some(intake) = intake else {
            self.metrics.delivery(Leg::Webhook);
            self.metrics.outcome(Leg::Webhook, Outcome::Rejected);
            return true;
        };
        let trace = webhook.trace.map(|(parent, state)| {
            Box::new(Trace { parent: parent.into_owned().into(), state: state.into_owned().into() })
        });
        let bytes = webhook.bytes.into_owned().into();
        let counted = Counted::new(&self.metrics);
        let offered = intake.offer_from_inbox(bytes, webhook.received_at_ms, trace, next).await;
        if offered.is_ok() {
            counted.taken();
        }
        offered.is_ok()
    }

    /// Where the deliveries of the account go; one that is not known yet is asked for. None where nobody has a place for it.
    async fn intake_of(&mut self, account: &str) -> Result<Option<Intake>, IntakeClosed> {
        let of = |directory: &Arc<Directory>| directory.get(account).map(|known| known.intake.clone());
        if let Some(intake) = of(&self.directory.borrow()) {
            return Ok(Some(intake));
        }
        let (known, answer) = oneshot::channel();
        self.unknown.send(Unknown { account: account.to_owned(), known }).await.map_err(|_| IntakeClosed)?;
        let known = answer.await.map_err(|_| IntakeClosed)?;
        Ok(of(&self.directory.borrow()).filter(|_| known))
    }
}

/// A delivery that is counted, and counts as failed where nobody takes it: its offer may end at any moment.
struct Counted<'m>(Option<&'m Metrics>);

impl<'m> Counted<'m> {
    fn new(metrics: &'m Metrics) -> Self {
        metrics.delivery(Leg::Webhook);
        Self(Some(metrics))
    }

    /// The relay's loop has it, and counts its outcome.
    fn taken(mut self) {
        self.0 = None;
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|metrics| metrics.outcome(Leg::Webhook, Outcome::Failed));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]
    use super::*;

    fn webhook(account: &str, next: i64) -> Read {
        let (account, bytes) = (Cow::Owned(account.to_owned()), Cow::Owned(b"{}".to_vec()));
        Read::Webhook { webhook: Webhook { account, bytes, received_at_ms: 1, trace: None }, next }
    }

    /// The one behind it is not held up.
    #[tokio::test]
    async fn a_webhook_of_an_account_that_nobody_has_a_place_for_is_passed_over_and_counted() {
        let (inbox, read) = Inbox::scripted();
        let (intake, mut receiver) = Intake::new(1 << 20);
        let known = Known { intake, served: true };
        let directory = watch::Sender::new(Arc::new(Directory::from([("a".to_owned(), known)])));
        let (unknown, mut asked) = mpsc::channel(1);
        let metrics = Arc::new(Metrics::new("test"));
        let stop = CancellationToken::new();
        let taking = Taking {
            inbox,
            shard: 0,
            directory: directory.subscribe(),
            unknown,
            reports: None,
            clock: Arc::default(),
            metrics: Arc::clone(&metrics),
            stop: stop.clone(),
        };
        let running = tokio::spawn(taking.run());
        read.send(Ok(webhook("x", 1))).await.unwrap();
        read.send(Ok(webhook("a", 2))).await.unwrap();
        let Unknown { account, known } = asked.recv().await.unwrap();
        assert_eq!(account, "x");
        known.send(false).unwrap();
        let mut arrived = Vec::new();
        let taken = tokio::time::timeout(Duration::from_secs(10), receiver.recv_many(&mut arrived, 9)).await;
        assert_eq!(taken, Ok(1), "it is not held up");
        assert!(matches!(&arrived[..], [Arrival::Delivery(delivery)] if delivery.inbox == Some(2)), "{arrived:?}");
        assert_eq!((metrics.deliveries(Leg::Webhook), metrics.outcomes(Leg::Webhook, Outcome::Rejected)), (2, 1));
        stop.cancel();
        running.await.unwrap();
    }
}

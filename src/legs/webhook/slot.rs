//! A connection's place in the admission, held as long as the connection lives.

use super::admission::{Admission, Entry, Id, UNCUT};
use crate::telemetry::RateLimited;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;

/// `webhook connections cut to make room` is logged at most this often; the line says how many it stands for. A crowd
/// must not become a crowd of lines.
const CUT_LOG_EVERY: Duration = Duration::from_secs(10);

/// The room that all connections share.
#[derive(Clone, Debug)]
pub(super) struct Slots(Arc<Mutex<Inside>>);

/// The task of a connection, once it has been started: nobody is cut as early as that.
pub(super) type Task = Arc<OnceLock<AbortHandle>>;

#[derive(Debug)]
struct Inside {
    admission: Admission<Task>,
    said: RateLimited,
}

/// Given back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Slots,
    id: Id,
}

/// Why a peer has no place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoSlot {
    /// Its address has as many connections as it may.
    TooMany,
    /// Worth another try when a connection has ended, or then.
    Full(Instant),
}

impl Slots {
    /// `max` connections, and of one address so many (0: no limit).
    pub(super) fn new(max: usize, per_address_max: usize) -> Self {
        let said = RateLimited::new(CUT_LOG_EVERY);
        Self(Arc::new(Mutex::new(Inside { admission: Admission::new(max, per_address_max), said })))
    }

    /// A place for `peer`, and where to say which task has it, for it is aborted when the place is wanted for another.
    /// Where there is none, one connection is cut if that may be; its place is free when it has ended.
    pub(super) fn take(&self, peer: IpAddr) -> Result<(Slot, Task), NoSlot> {
        let now = Instant::now();
        let task = Task::default();
        let mut inside = self.lock();
        match inside.admission.enter(peer, now, Arc::clone(&task)) {
            Entry::TooMany => Err(NoSlot::TooMany),
            Entry::Full(again) => Err(NoSlot::Full(again)),
            Entry::Cut(other, its_task) => {
                tracing::debug!(peer = %other, "webhook connection cut to make room");
                if let Some(task) = its_task.get() {
                    task.abort();
                }
                if let Some(unsaid) = inside.said.allow(now) {
                    let count = unsaid.saturating_add(1);
                    tracing::warn!(peer = %other, count, "webhook connections cut to make room");
                }
                Err(NoSlot::Full(now + UNCUT))
            }
            Entry::In(id) => {
                drop(inside);
                Ok((Slot { slots: self.clone(), id }, task))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// The head of a request is there, and not its whole body.
    pub(super) fn unfinished(&self) {
        self.slots.lock().admission.unfinished(self.id, Instant::now());
    }

    /// The request is complete, and nobody takes the place from now on. Does not return when somebody has: the
    /// connection is about to end.
    pub(super) async fn answering(&self) {
        let is_ours = self.slots.lock().admission.answering(self.id);
        if !is_ours {
            std::future::pending::<()>().await;
        }
    }

    /// The answer is on its way.
    pub(super) fn answered(&self) {
        self.slots.lock().admission.answered(self.id, Instant::now());
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.lock().admission.leave(self.id);
    }
}

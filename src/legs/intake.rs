//! The one bounded queue between the legs and the relay.
//!
//! Bounded by bytes, all legs together (`intake.bytes_max`). A delivery keeps its share from arrival until it
//! settles, so the bound covers what is queued, planned and in flight alike.

use super::{Delivery, Leg, Outcome};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::{Semaphore, TryAcquireError, mpsc, oneshot};

/// The share of the intake that webhooks cannot take, as a divisor: a flood of webhooks leaves a quarter to the
/// socket and the backfill, so that the legs on which "no loss" rests go on.
const RESERVED_FRACTION: usize = 4;

/// What one queued delivery costs beside its bytes (its struct, its place in the queue and in a batch).
const OVERHEAD_BYTES: usize = 256;

/// The intake is closed: the relay is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the relay is stopping")]
pub struct IntakeClosed;

/// Why a delivery was not taken at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntakeFull {
    /// No room for it now; the peer is told to come back.
    #[error("the intake is full")]
    Full,
    /// The relay is stopping.
    #[error("the relay is stopping")]
    Closed,
}

/// The legs' end of the queue.
#[derive(Clone, Debug)]
pub struct Intake {
    /// Room for every leg.
    shared: Arc<Semaphore>,
    /// Room that webhooks cannot take.
    reserved: Arc<Semaphore>,
    reserved_bytes: usize,
    queue: mpsc::UnboundedSender<Delivery>,
}

/// The relay's end of the queue.
#[derive(Debug)]
pub struct IntakeReceiver {
    queue: mpsc::UnboundedReceiver<Delivery>,
    shared: Arc<Semaphore>,
    reserved: Arc<Semaphore>,
    bytes_max: usize,
}

impl Intake {
    /// A queue for at most `bytes_max` bytes, a quarter of them kept from webhooks.
    pub fn new(bytes_max: usize) -> (Self, IntakeReceiver) {
        let reserved_bytes = bytes_max / RESERVED_FRACTION;
        let shared = Arc::new(Semaphore::new(bytes_max - reserved_bytes));
        let reserved = Arc::new(Semaphore::new(reserved_bytes));
        let (sender, receiver) = mpsc::unbounded_channel();
        let receiver =
            IntakeReceiver { queue: receiver, shared: Arc::clone(&shared), reserved: Arc::clone(&reserved), bytes_max };
        (Self { shared, reserved, reserved_bytes, queue: sender }, receiver)
    }

    /// Takes a webhook if there is room now; `reply` learns its outcome.
    pub fn try_offer(
        &self,
        bytes: Bytes,
        received_at_ms: i64,
        reply: oneshot::Sender<Outcome>,
    ) -> Result<(), IntakeFull> {
        let cost = cost(&bytes, usize::MAX);
        let share = Arc::clone(&self.shared).try_acquire_many_owned(cost).map_err(|error| match error {
            TryAcquireError::NoPermits => IntakeFull::Full,
            TryAcquireError::Closed => IntakeFull::Closed,
        })?;
        let delivery = Delivery { leg: Leg::Webhook, received_at_ms, bytes, reply: Some(reply), share };
        self.queue.send(delivery).map_err(|_| IntakeFull::Closed)
    }

    /// Takes a delivery of the other legs, waiting for room: the caller stops reading its peer meanwhile.
    pub async fn offer(&self, leg: Leg, bytes: Bytes, received_at_ms: i64) -> Result<(), IntakeClosed> {
        let cost = cost(&bytes, self.reserved_bytes);
        let share = match Arc::clone(&self.shared).try_acquire_many_owned(cost) {
            Ok(share) => share,
            Err(_) => Arc::clone(&self.reserved).acquire_many_owned(cost).await.map_err(|_| IntakeClosed)?,
        };
        let delivery = Delivery { leg, received_at_ms, bytes, reply: None, share };
        self.queue.send(delivery).map_err(|_| IntakeClosed)
    }

    /// Whether a delivery of the socket would wait for room now.
    pub fn is_full(&self) -> bool {
        self.shared.available_permits() == 0 && self.reserved.available_permits() == 0
    }
}

impl IntakeReceiver {
    /// Appends what has arrived to `batch`, at most `limit` deliveries, waiting for the first.
    ///
    /// Returns how many; 0 means that the intake is closed and empty. Cancel safe: nothing is taken and lost.
    pub async fn recv_many(&mut self, batch: &mut Vec<Delivery>, limit: usize) -> usize {
        self.queue.recv_many(batch, limit).await
    }

    /// Appends all that is queued, without waiting.
    pub fn drain(&mut self, batch: &mut Vec<Delivery>) {
        while let Ok(delivery) = self.queue.try_recv() {
            batch.push(delivery);
        }
    }

    /// Takes nothing more; what is queued can still be received.
    pub fn close(&mut self) {
        self.shared.close();
        self.reserved.close();
        self.queue.close();
    }

    /// Bytes now held by deliveries that have not settled.
    pub fn bytes(&self) -> usize {
        self.bytes_max - self.shared.available_permits() - self.reserved.available_permits()
    }
}

/// Permits for a delivery: its bytes and overhead, at most a whole pool, so that one that is larger than the pool
/// waits for all of it instead of for ever.
fn cost(bytes: &Bytes, pool: usize) -> u32 {
    u32::try_from((bytes.len() + OVERHEAD_BYTES).min(pool)).unwrap_or(u32::MAX)
}

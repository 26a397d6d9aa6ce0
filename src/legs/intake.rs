//! The one bounded queue between the legs and the relay.
//!
//! Bounded by bytes, all legs together (`intake.bytes_max`). A delivery keeps its share from arrival until it
//! settles, so the bound covers what is queued, planned and in flight alike.
//!
//! Of several accounts none takes more than is still free (Choudhury and Hahne's dynamic threshold, 1998): one that floods
//! gets half of the room, n of them get a part of n + 1 each, and there is always as much left for another.

use super::{Admission, Note, Position};
use super::{Arrival, Delivery, Leg, Outcome, Trace};
use crate::labels::{Account, Seat};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, oneshot, watch};

/// The share of the intake that webhooks cannot take, as a divisor: a flood of webhooks leaves a quarter to the
/// socket and the backfill, so that the legs on which "no loss" rests go on.
const RESERVED_FRACTION: usize = 4;

/// What one queued delivery costs alongside its bytes (its struct, its place in the queue and in a batch).
const OVERHEAD_BYTES: usize = 256;

/// A leg that waits for room is shown as `paused` after this long; shorter waits are everyday life between two commits.
pub const PAUSE_VISIBLE: Duration = Duration::from_millis(250);

/// The intake is closed: the relay is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the relay is stopping")]
pub struct IntakeClosed;

/// Why a delivery was not taken at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntakeFull {
    /// No room for it now; the peer is asked to come back.
    #[error("the intake is full")]
    Full,
    /// The relay is stopping.
    #[error("the relay is stopping")]
    Closed,
}

/// The legs' end of the queue, for the legs of one account.
#[derive(Clone, Debug)]
pub struct Intake {
    seat: Seat,
    name: Arc<str>,
    /// Permits that deliveries of the account hold.
    held: Arc<AtomicUsize>,
    /// Accounts that are served.
    sharers: Arc<AtomicUsize>,
    /// Reservation for every leg.
    shared: Pool,
    /// Reservation that webhooks cannot take.
    reserved: Pool,
    queue: mpsc::UnboundedSender<Arrival>,
}

/// The relay's end of the queue.
#[derive(Debug)]
pub struct IntakeReceiver {
    queue: mpsc::UnboundedReceiver<Arrival>,
    shared: Pool,
    reserved: Pool,
}

/// A webhook's place in the intake, before its bytes move in; given back when it is dropped.
#[derive(Debug)]
pub struct Reservation {
    account: Account,
    share: IntakeShare,
    queue: mpsc::UnboundedSender<Arrival>,
}

/// A delivery's share of the intake, given back when it is dropped.
#[derive(Debug)]
pub struct IntakeShare {
    permit: OwnedSemaphorePermit,
    /// What the account holds in all.
    held: Arc<AtomicUsize>,
}

impl Drop for IntakeShare {
    fn drop(&mut self) {
        self.held.fetch_sub(self.permit.num_permits(), Ordering::Relaxed);
    }
}

/// Bytes that deliveries share.
#[derive(Clone, Debug)]
struct Pool {
    free: Arc<Semaphore>,
    bytes: usize,
}

impl Intake {
    /// A queue for at most `bytes_max` bytes, a quarter of them kept from webhooks.
    pub fn new(bytes_max: usize) -> (Self, IntakeReceiver) {
        let reserved = Pool::new(bytes_max / RESERVED_FRACTION);
        let shared = Pool::new(bytes_max - bytes_max / RESERVED_FRACTION);
        #[expect(clippy::disallowed_methods, reason = "bounded by bytes, with the permits that deliveries hold")]
        let (sender, receiver) = mpsc::unbounded_channel();
        let receiver = IntakeReceiver { queue: receiver, shared: shared.clone(), reserved: reserved.clone() };
        let name = Arc::from("");
        let (seat, held, sharers) = Default::default();
        (Self { seat, name, held, sharers, shared, reserved, queue: sender }, receiver)
    }

    /// The same queue, as that of the shard of this number.
    pub fn on_shard(self, shard: i32) -> Self {
        Self { seat: Seat { shard, ..self.seat }, ..self }
    }

    /// The same queue, for the legs of the account of this name; empty where accounts have none. Once an account: what it
    /// takes is counted from here on.
    pub fn of(&self, account: Account, name: &str) -> Self {
        let seat = Seat { account, ..self.seat };
        Self { seat, name: Arc::from(name), held: Arc::default(), ..self.clone() }
    }

    /// `accounts` accounts are served from now on: where there is more than one, none takes more than is still free.
    pub fn share_among(&self, accounts: usize) {
        self.sharers.store(accounts, Ordering::Relaxed);
    }

    /// Whose legs put their deliveries in here.
    pub const fn account(&self) -> Account {
        self.seat.account
    }

    /// The same, with the shard, so that it differs from those of other shards.
    pub const fn seat(&self) -> Seat {
        self.seat
    }

    /// Its name, where accounts have names.
    pub fn name(&self) -> Option<&str> {
        Some(&*self.name).filter(|name| !name.is_empty())
    }

    /// A place for a webhook of `bytes` bytes, if there is one now.
    ///
    /// Apart from [`Reservation::fill`], so that the caller can count the delivery after the last refusal and before
    /// the relay can settle it.
    pub fn try_reserve(&self, bytes: usize) -> Result<Reservation, IntakeFull> {
        let share = self.try_share(bytes).map_err(|error| match error {
            TryAcquireError::NoPermits => IntakeFull::Full,
            TryAcquireError::Closed => IntakeFull::Closed,
        })?;
        Ok(Reservation { account: self.account(), share, queue: self.queue.clone() })
    }

    /// Takes a webhook if there is room now; `reply` learns its outcome.
    pub fn try_offer(
        &self,
        bytes: Bytes,
        received_at_ms: i64,
        reply: oneshot::Sender<Outcome>,
    ) -> Result<(), IntakeFull> {
        let room = self.try_reserve(bytes.len())?;
        room.fill(bytes, None, received_at_ms, reply).map_err(|IntakeClosed| IntakeFull::Closed)
    }

    /// Takes a delivery of the other legs, waiting for room: the caller stops reading its peer meanwhile.
    ///
    /// Cancel safe: a call that is dropped before it returns has delivered nothing.
    pub async fn offer(&self, leg: Leg, bytes: Bytes, received_at_ms: i64) -> Result<(), IntakeClosed> {
        let share = match self.try_share(bytes.len()) {
            Ok(share) => share,
            Err(_) => self.share(self.reserved.take(bytes.len()).await?),
        };
        let account = self.account();
        let (reply, trace, inbox) = Default::default();
        let delivery = Delivery { account, leg, received_at_ms, bytes, reply, trace, inbox, share };
        self.queue.send(Arrival::Delivery(delivery)).map_err(|_| IntakeClosed)
    }

    /// Takes a webhook from the inbox, where it is before `next`; waits for room among the webhooks.
    ///
    /// Cancel safe: a call that is dropped before it returns has delivered nothing.
    pub async fn offer_from_inbox(
        &self,
        bytes: Bytes,
        received_at_ms: i64,
        trace: Option<Box<Trace>>,
        next: i64,
    ) -> Result<(), IntakeClosed> {
        let share = self.share(self.shared.take(bytes.len()).await?);
        let (account, leg, reply, inbox) = (self.account(), Leg::Webhook, None, Some(next));
        let delivery = Delivery { account, leg, received_at_ms, bytes, reply, trace, inbox, share };
        self.queue.send(Arrival::Delivery(delivery)).map_err(|_| IntakeClosed)
    }

    /// A share of what webhooks may take as well, if there is one now and the account may have it.
    fn try_share(&self, bytes: usize) -> Result<IntakeShare, TryAcquireError> {
        let is_one_of_several = self.sharers.load(Ordering::Relaxed) > 1;
        let wanted = self.held.load(Ordering::Relaxed).saturating_add(self.shared.cost(bytes) as usize);
        if is_one_of_several && wanted > self.shared.free.available_permits() {
            return Err(TryAcquireError::NoPermits);
        }
        Ok(self.share(self.shared.try_take(bytes)?))
    }

    fn share(&self, permit: OwnedSemaphorePermit) -> IntakeShare {
        self.held.fetch_add(permit.num_permits(), Ordering::Relaxed);
        IntakeShare { permit, held: Arc::clone(&self.held) }
    }

    /// Reports something in its place among the deliveries. Takes no share: legs report little, and seldom.
    pub fn note(&self, note: Note) -> Result<(), IntakeClosed> {
        self.queue.send(Arrival::Note(self.account(), note)).map_err(|_| IntakeClosed)
    }

    /// Announces in its place that the account is served from now on; `position` receives where its legs begin.
    pub fn admit(&self, admission: Arc<Admission>, position: watch::Sender<Position>) -> Result<(), IntakeClosed> {
        self.queue.send(Arrival::Admitted(self.account(), admission, position)).map_err(|_| IntakeClosed)
    }

    /// Whether even the smallest delivery of the socket would wait for room now.
    pub fn is_full(&self) -> bool {
        self.shared.is_full() && self.reserved.is_full()
    }
}

impl Reservation {
    /// Puts the webhook's bytes, and its trace, into its place; `reply` learns its outcome.
    pub fn fill(
        self,
        bytes: Bytes,
        trace: Option<Box<Trace>>,
        received_at_ms: i64,
        reply: oneshot::Sender<Outcome>,
    ) -> Result<(), IntakeClosed> {
        let Self { account, share, queue } = self;
        let (leg, reply) = (Leg::Webhook, Some(reply));
        let delivery = Delivery { account, leg, received_at_ms, bytes, reply, trace, inbox: None, share };
        queue.send(Arrival::Delivery(delivery)).map_err(|_| IntakeClosed)
    }
}

impl IntakeReceiver {
    /// Appends what has arrived to `batch`, at most `limit` deliveries, waiting for the first.
    ///
    /// Returns how many; 0 means that the intake is closed and empty. Cancel safe: nothing is taken and lost.
    pub async fn recv_many(&mut self, batch: &mut Vec<Arrival>, limit: usize) -> usize {
        self.queue.recv_many(batch, limit).await
    }

    /// Appends all that is queued, without waiting.
    pub fn drain(&mut self, batch: &mut Vec<Arrival>) {
        while let Ok(delivery) = self.queue.try_recv() {
            batch.push(delivery);
        }
    }

    /// Takes nothing more; what is queued can still be received.
    pub fn close(&mut self) {
        self.shared.free.close();
        self.reserved.free.close();
        self.queue.close();
    }

    /// Bytes now held by deliveries that have not settled, each with its overhead.
    pub fn bytes(&self) -> usize {
        self.shared.held() + self.reserved.held()
    }
}

impl Pool {
    fn new(bytes: usize) -> Self {
        // A permit count is a u32; 4 GiB of queue is beyond any sensible setting, and beyond it the bound only
        // gets tighter than asked for.
        let bytes = bytes.min(u32::MAX as usize).min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(bytes)), bytes }
    }

    fn try_take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, TryAcquireError> {
        Arc::clone(&self.free).try_acquire_many_owned(self.cost(bytes))
    }

    async fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, IntakeClosed> {
        Arc::clone(&self.free).acquire_many_owned(self.cost(bytes)).await.map_err(|_| IntakeClosed)
    }

    /// Permits for a delivery: its bytes and overhead, at most the whole pool, so that one that is larger than the
    /// pool waits for all of it instead of for ever.
    fn cost(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.saturating_add(OVERHEAD_BYTES).min(self.bytes)).unwrap_or(u32::MAX)
    }

    fn is_full(&self) -> bool {
        self.free.available_permits() < OVERHEAD_BYTES.min(self.bytes)
    }

    fn held(&self) -> usize {
        self.bytes - self.free.available_permits()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop")]

    use super::*;
    use futures::FutureExt;

    /// Three quarters are 3,072 bytes: four webhooks of 512 with their overhead.
    const BYTES_MAX: usize = 4096;

    fn webhook(intake: &Intake, bytes: usize) -> Result<(), IntakeFull> {
        intake.try_offer(Bytes::from(vec![0; bytes]), 0, oneshot::channel().0)
    }

    fn frame(bytes: usize) -> Bytes {
        Bytes::from(vec![1; bytes])
    }

    #[tokio::test]
    async fn webhooks_cannot_take_the_reserved_share() {
        let (intake, _receiver) = Intake::new(BYTES_MAX);
        for _ in 0..4 {
            webhook(&intake, 512).unwrap();
        }
        assert_eq!(webhook(&intake, 512), Err(IntakeFull::Full));
        assert_eq!(intake.offer(Leg::Websocket, frame(512), 0).now_or_never(), Some(Ok(())));
    }

    #[tokio::test]
    async fn a_full_intake_lets_the_socket_wait_until_a_delivery_settles() {
        let (intake, mut receiver) = Intake::new(BYTES_MAX);
        while intake.offer(Leg::Websocket, frame(256), 0).now_or_never().is_some() {}
        assert!(intake.is_full());
        assert_eq!(receiver.bytes(), BYTES_MAX);
        let mut batch = Vec::new();
        assert_eq!(receiver.recv_many(&mut batch, 100).await, 8);
        assert!(intake.offer(Leg::Websocket, frame(256), 0).now_or_never().is_none(), "received is not settled");
        batch.clear();
        assert_eq!(receiver.bytes(), 0);
        assert_eq!(intake.offer(Leg::Websocket, frame(256), 0).now_or_never(), Some(Ok(())));
    }

    #[tokio::test]
    async fn an_account_that_floods_leaves_as_much_as_it_takes() {
        let (intake, mut receiver) = Intake::new(BYTES_MAX);
        let [flood, second, third] =
            [(1, "a"), (2, "b"), (3, "c")].map(|(place, name)| intake.of(Account::at(place), name));
        assert_eq!(webhook(&flood, 2500), Ok(()), "alone it may have all");
        let mut arrived = Vec::new();
        receiver.drain(&mut arrived);
        drop(arrived);
        intake.share_among(3);
        let taken = |intake: &Intake| (0..100).filter(|_| webhook(intake, 128).is_ok()).count();
        // 3,072 bytes for webhooks, 384 each.
        assert_eq!(taken(&flood), 4);
        assert_eq!(webhook(&flood, 128), Err(IntakeFull::Full));
        assert_eq!((taken(&second), taken(&third)), (2, 1));
        assert_eq!(webhook(&flood, 128), Err(IntakeFull::Full));
        let mut arrived = Vec::new();
        receiver.drain(&mut arrived);
        let whose = |arrival: &Arrival| matches!(arrival, Arrival::Delivery(of) if of.account == Account::at(1));
        arrived.retain(|arrival| !whose(arrival));
        assert_eq!(taken(&flood), 3, "what is settled is given back");
    }

    #[tokio::test]
    async fn an_offer_that_is_dropped_has_delivered_nothing() {
        let (intake, mut receiver) = Intake::new(BYTES_MAX);
        while intake.offer(Leg::Websocket, frame(256), 0).now_or_never().is_some() {}
        drop(intake);
        let mut batch = Vec::new();
        while receiver.recv_many(&mut batch, 100).await > 0 {}
        assert_eq!(batch.len(), 8);
    }

    #[tokio::test]
    async fn a_delivery_larger_than_its_pool_takes_all_of_it_instead_of_waiting_for_ever() {
        let (intake, receiver) = Intake::new(BYTES_MAX);
        webhook(&intake, 100 * BYTES_MAX).unwrap();
        assert_eq!(intake.offer(Leg::Backfill, frame(100 * BYTES_MAX), 0).now_or_never(), Some(Ok(())));
        assert_eq!(receiver.bytes(), BYTES_MAX);
    }

    #[tokio::test]
    async fn a_place_that_is_not_filled_is_given_back() {
        let (intake, receiver) = Intake::new(BYTES_MAX);
        drop(intake.try_reserve(1024).unwrap());
        assert_eq!(receiver.bytes(), 0);
    }

    #[tokio::test]
    async fn a_closed_intake_refuses_every_leg_and_still_hands_out_what_it_has() {
        let (intake, mut receiver) = Intake::new(BYTES_MAX);
        webhook(&intake, 1).unwrap();
        let room = intake.try_reserve(1).unwrap();
        receiver.close();
        assert_eq!(webhook(&intake, 1), Err(IntakeFull::Closed));
        assert_eq!(room.fill(frame(1), None, 0, oneshot::channel().0), Err(IntakeClosed));
        assert_eq!(intake.offer(Leg::Websocket, frame(1), 0).await, Err(IntakeClosed));
        let mut batch = Vec::new();
        assert_eq!(receiver.recv_many(&mut batch, 100).await, 1);
        assert_eq!(receiver.recv_many(&mut batch, 100).await, 0);
    }

    #[test]
    fn sizes_beyond_any_counter_are_no_panic() {
        let (intake, receiver) = Intake::new(usize::MAX);
        assert!(intake.try_reserve(usize::MAX).is_ok());
        assert_eq!(receiver.bytes(), 0);
    }
}

//! The one place where the model changes and its events go out.
//!
//! A change of the model and the hand-over of its events to every socket's buffer and to the webhook queue happen
//! under one lock: a socket that reads its replay and subscribes under it has no gap and no duplicate between the two.

use super::Options;
use super::faults::{Cut, Faults};
use super::model::{Event, Model, ModelSettings, Refused, Seeded};
use super::queue::Queue;
use super::subscriber::Subscriber;
use crate::clock::{millis, now_ms};
use axum::extract::ws::Message;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Most events that [`super::Simulator::events`] remembers; at 1.6 kB each about 1.6 GB, far beyond any test.
const REMEMBERED_MAX: usize = 1_000_000;
/// Most idempotency keys kept; beyond it the oldest is forgotten.
pub(super) const ANSWERS_MAX: usize = 10_000;

/// An idempotency key, a digest of its request, and the answer that got.
type Answered = (String, u64, serde_json::Value);

pub(super) struct Hub {
    world: Mutex<World>,
    /// Held while a request with a key is carried out, and taken before the world's lock, never after it.
    answers: Mutex<VecDeque<Answered>>,
    pub(super) options: Options,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
    pub(super) sockets: watch::Sender<usize>,
    /// Webhooks queued, waiting for their next attempt, or on their way.
    pub(super) webhooks_open: watch::Sender<usize>,
    pub(super) webhooks_wake: Notify,
}

pub(super) struct World {
    pub(super) model: Model,
    pub(super) chance: Seeded,
    pub(super) faults: Faults,
    pub(super) subscribers: Vec<Arc<Subscriber>>,
    pub(super) webhooks: Queue,
    /// Commerce keys that are taken, the newest last.
    pub(super) api_keys: Vec<String>,
    /// Tokens and the time (Unix milliseconds) at which each lapses.
    pub(super) tokens: HashMap<String, i64>,
    pub(super) requests: u64,
    pub(super) connections_made: u64,
    held: Option<Arc<Event>>,
    remembered: Vec<Arc<Event>>,
}

impl Hub {
    pub(super) fn new(options: Options) -> Self {
        let settings = ModelSettings {
            merchant_id: options.merchant_id,
            mainnet: options.mainnet,
            times: options.times,
            invoice_lifetime_s: i64::try_from(options.invoice_lifetime.as_secs()).unwrap_or(i64::MAX),
            keep_ms: millis(options.keep_events_for),
            keep_events: options.keep_events,
            requests_per_minute: options.requests_per_minute,
        };
        let world = World {
            model: Model::new(settings),
            chance: Seeded::new(options.seed),
            faults: Faults::default(),
            subscribers: Vec::new(),
            webhooks: Queue::default(),
            api_keys: vec![options.api_key.clone()],
            tokens: HashMap::new(),
            requests: 0,
            connections_made: 0,
            held: None,
            remembered: Vec::new(),
        };
        Self {
            world: Mutex::new(world),
            answers: Mutex::default(),
            options,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            sockets: watch::Sender::new(0),
            webhooks_open: watch::Sender::new(0),
            webhooks_wake: Notify::new(),
        }
    }

    /// The world as it is. A panic elsewhere leaves it whole: each change is made on a copy of its order.
    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn answers(&self) -> MutexGuard<'_, VecDeque<Answered>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the model and sends what it issued.
    pub(super) fn change<T>(
        &self,
        change: impl FnOnce(&mut Model, &mut Seeded, i64) -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        let world = &mut *self.world();
        let result = change(&mut world.model, &mut world.chance, now_ms());
        for event in world.model.take_issued() {
            if self.options.remember_events && world.remembered.len() < REMEMBERED_MAX {
                world.remembered.push(Arc::clone(&event));
            }
            world.fan_out(&event);
            self.to_webhooks(world, &event);
        }
        result
    }

    /// Every event issued so far, or without `remember_events` those that the log still holds; oldest first.
    pub(super) fn events(&self) -> Vec<Arc<Event>> {
        let world = self.world();
        if self.options.remember_events { world.remembered.clone() } else { world.model.log().all().cloned().collect() }
    }

    /// Queues `event` for every endpoint that wants it.
    fn to_webhooks(&self, world: &mut World, event: &Arc<Event>) {
        let endpoints =
            world.model.endpoints().iter().filter(|endpoint| event.unfiltered || endpoint.wants(&event.kind));
        let endpoints: Vec<_> = endpoints.map(|endpoint| endpoint.id.clone()).collect();
        for endpoint in endpoints {
            let copies = 1 + usize::from(world.by_chance(world.faults.webhooks.duplicate_percent));
            for _ in 0..copies {
                self.queue_webhook(world, endpoint.clone(), event);
            }
        }
    }

    pub(super) fn queue_webhook(&self, world: &mut World, endpoint: String, event: &Arc<Event>) {
        let faults = &world.faults.webhooks;
        let jitter_ms = millis(faults.jitter).unsigned_abs().saturating_add(1);
        let wait = faults.delay + Duration::from_millis(rand::RngExt::random_range(&mut world.chance.0, 0..jitter_ms));
        world.webhooks.push(endpoint, Arc::clone(event), tokio::time::Instant::now() + wait);
        self.webhooks_open.send_replace(world.webhooks.open());
        self.webhooks_wake.notify_one();
    }

    pub(super) fn faults(&self) -> Faults {
        self.world().faults.clone()
    }

    pub(super) fn set_faults(&self, change: impl FnOnce(&mut Faults)) {
        let world = &mut *self.world();
        change(&mut world.faults);
        let delay_ms = millis(world.faults.rest.log_visible_after);
        world.model.set_log_delay(delay_ms);
        let keep = world.faults.rest.history_events.unwrap_or(usize::MAX).min(self.options.keep_events);
        world.model.keep_events(keep, now_ms());
        if let Some(event) = world.held.take_if(|_| !world.faults.websocket.swap) {
            world.send(&event);
        }
        for subscriber in &world.subscribers {
            subscriber.set_silent(world.faults.websocket.silent);
        }
        self.webhooks_wake.notify_one();
    }

    pub(super) fn cut_sockets(&self, cut: &Cut) -> usize {
        let world = self.world();
        for subscriber in &world.subscribers {
            subscriber.end(cut.clone());
        }
        world.subscribers.len()
    }

    pub(super) fn send_raw(&self, message: &Message) {
        for subscriber in &self.world().subscribers {
            subscriber.offer_raw(message.clone());
        }
    }
}

impl World {
    /// True in `percent` of the cases.
    fn by_chance(&mut self, percent: u8) -> bool {
        rand::RngExt::random_range(&mut self.chance.0, 0..100) < percent
    }

    /// Puts `event` into the buffer of every socket that wants it, as the faults allow.
    fn fan_out(&mut self, event: &Arc<Event>) {
        if self.faults.websocket.drop_next > 0 {
            self.faults.websocket.drop_next -= 1;
            return;
        }
        if self.faults.websocket.swap && self.held.is_none() {
            self.held = Some(Arc::clone(event));
            return;
        }
        let copies = 1 + usize::from(self.by_chance(self.faults.websocket.duplicate_percent));
        for _ in 0..copies {
            self.send(event);
        }
        if let Some(held) = self.held.take() {
            self.send(&held);
        }
    }

    fn send(&self, event: &Arc<Event>) {
        for subscriber in self.subscribers.iter().filter(|subscriber| event.fits(&subscriber.filter)) {
            subscriber.offer(event);
        }
    }
}

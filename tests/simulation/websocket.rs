//! The WebSocket leg: obeys the production's session, and models the connections and the queue below it.

use crate::bugs::Bug;
use crate::scenario::{HOLD_MAX_MS, IDLE_TIMEOUT_MS};
use crate::world::{Step, World};
use bytes::Bytes;
use futures::FutureExt;
use pepay_relay::labels::Leg;
use pepay_relay::legs::websocket::reconnect::{End, Reconnect};
use pepay_relay::legs::websocket::session::{Order, Passage, Session, Wait};
use pepay_relay::provider::frame::{self, Frame as Classified};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What the provider sends.
#[derive(Clone, Copy, Debug)]
pub enum Frame {
    Event(usize),
    Control(&'static str),
}

/// The leg.
#[derive(Debug)]
pub struct Websocket {
    session: Session<(Bytes, i64)>,
    /// The connection that is or was open last.
    pub number: u64,
    open: bool,
    connected_ms: i64,
    heard_ms: i64,
    /// What waits for room in the intake, and what was not read meanwhile.
    out: VecDeque<(Bytes, i64)>,
    unread: VecDeque<Frame>,
    blocked_since: Option<i64>,
}

impl Websocket {
    pub fn new() -> Self {
        let reconnect = Reconnect::new(Duration::from_millis(500), Duration::from_secs(5), false, Instant::now());
        let session = Session::new(reconnect, duration(HOLD_MAX_MS));
        Self {
            session,
            number: 0,
            open: false,
            connected_ms: 0,
            heard_ms: 0,
            out: VecDeque::new(),
            unread: VecDeque::new(),
            blocked_since: None,
        }
    }
}

/// A span of time, or the time since the world began: all sessions count from then.
fn duration(ms: i64) -> Duration {
    Duration::from_millis(ms.max(0) as u64)
}

impl World {
    pub fn dial_after(&mut self, relay: usize, delay: i64) {
        self.counter += 1;
        let number = self.counter;
        self.relays[relay].websocket.number = number;
        self.step(relay, delay, Step::Dial(number));
    }

    pub fn socket_step(&mut self, relay: usize, step: Step) {
        let current = self.relays[relay].websocket.number;
        let open = self.relays[relay].websocket.open;
        match step {
            Step::Dial(number) if number == current => self.connect(relay, number),
            Step::Frame(number, frame) if number == current && open => {
                let now = self.now;
                let socket = &mut self.relays[relay].websocket;
                socket.heard_ms = now;
                socket.unread.push_back(frame);
                self.socket_look(relay);
            }
            Step::Ended(number, end) if number == current && open => self.ended(relay, end),
            Step::HoldOver(number) if number == current => {
                self.socket_look(relay);
            }
            Step::Hint(number) if number == current && open => {
                let at_ms = self.relays[relay].provider_ms(self.now);
                let orders = self.relays[relay].websocket.session.follow_hint(duration(self.now), at_ms);
                self.obey_session(relay, orders.into_iter().flatten());
            }
            _ => {}
        }
    }

    fn connect(&mut self, number: usize, connection: u64) {
        let now = self.now;
        let fails = self.active && self.rng.chance(100);
        let relay = &mut self.relays[number];
        let since = relay.websocket.session.dial(relay.position.since);
        if fails {
            // Now and then the request is refused, perhaps for its cursor.
            let refused = since.is_some() && connection.is_multiple_of(2);
            let end = if refused { End::Http { status: 400, retry_after: None } } else { End::ConnectFailed };
            relay.websocket.session.failed(end);
            return self.end_when_out(number);
        }
        let at_ms = relay.provider_ms(now);
        let socket = &mut relay.websocket;
        socket.open = true;
        socket.connected_ms = now;
        socket.heard_ms = now;
        let orders = socket.session.connected(duration(now), at_ms);
        self.obey_session(number, orders);
        if self.scenario.has(Bug::HoldDropped) {
            self.relays[number].websocket.session.stop();
        }
        self.accept(number, connection, since);
        self.step(number, HOLD_MAX_MS, Step::HoldOver(connection));
    }

    /// Does what the session orders.
    fn obey_session(&mut self, number: usize, orders: impl IntoIterator<Item = Order>) {
        for order in orders {
            let relay = &mut self.relays[number];
            match order {
                Order::Note(note) => relay.intake.note(note).unwrap_or_default(),
                Order::AskWalk => {
                    let ticket = relay.walker.ask();
                    relay.websocket.session.walk_asked(ticket);
                    self.walker_wake(number);
                }
            }
            self.turn_soon(number);
        }
    }

    /// Reads on, as far as there is room for what was read.
    pub fn socket_look(&mut self, number: usize) {
        self.let_go(number);
        loop {
            if !self.flush(number) {
                return;
            }
            let socket = &mut self.relays[number].websocket;
            let Some(frame) = socket.unread.pop_front() else { break };
            match frame {
                Frame::Event(event) => {
                    let bytes = self.provider.events[event].bytes.clone();
                    self.heard(number, bytes);
                }
                Frame::Control(text) => match frame::classify(text) {
                    Classified::Control(control) if control.needs_walk => self.hinted(number),
                    Classified::Unknown(_) if self.scenario.has(Bug::HeartbeatIsADelivery) => {
                        self.heard(number, Bytes::from_static(text.as_bytes()));
                    }
                    _ => {}
                },
            }
        }
        self.end_when_out(number);
    }

    fn heard(&mut self, number: usize, bytes: Bytes) {
        let relay = &mut self.relays[number];
        let received_at_ms = relay.now_ms(self.now);
        let len = bytes.len();
        match relay.websocket.session.frame((bytes, received_at_ms), len, duration(self.now)) {
            Passage::Held => {}
            Passage::Now(frame) => relay.websocket.out.push_back(frame),
            Passage::All(frames) => {
                self.oracle.hold_was_over = true;
                self.released(number, frames);
            }
        }
    }

    /// Lets go what is held, if the walk that it waits for is out or its time is over.
    fn let_go(&mut self, number: usize) {
        let walked = self.relays[number].walker.done;
        let session = &mut self.relays[number].websocket.session;
        let Some(Wait { walk, .. }) = session.waits() else { return };
        let Some(frames) = session.over(duration(self.now), walked) else { return };
        if walk.is_none_or(|walk| walk > walked) {
            self.oracle.hold_was_over = true;
        }
        self.released(number, frames);
    }

    fn released(&mut self, number: usize, frames: Vec<(Bytes, i64)>) {
        let socket = &mut self.relays[number].websocket;
        let held_ms = self.now - socket.connected_ms;
        if held_ms > HOLD_MAX_MS && !frames.is_empty() && !self.scenario.stands_still() {
            self.oracle.fail("P5: a frame was held for longer than the bound");
        }
        socket.out.extend(frames);
    }

    /// Hands on what was read; whether all of it found room.
    fn flush(&mut self, number: usize) -> bool {
        let now = self.now;
        let relay = &mut self.relays[number];
        let socket = &mut relay.websocket;
        let mut moved = false;
        while let Some((bytes, received_at_ms)) = socket.out.front() {
            if relay.intake.offer(Leg::Websocket, bytes.clone(), *received_at_ms).now_or_never().is_none() {
                break;
            }
            socket.out.pop_front();
            moved = true;
        }
        let waits = !socket.out.is_empty();
        let blocked = waits.then(|| if moved { now } else { socket.blocked_since.unwrap_or(now) });
        socket.blocked_since = blocked;
        let paused = socket.open && blocked.is_some_and(|since| now - since >= IDLE_TIMEOUT_MS);
        if moved {
            self.turn_soon(number);
        }
        if waits {
            self.look_later(number);
        }
        if paused {
            self.ended(number, End::Paused);
        }
        !waits
    }

    fn hinted(&mut self, number: usize) {
        let at_ms = self.relays[number].provider_ms(self.now);
        let session = &mut self.relays[number].websocket.session;
        let orders = session.hint(duration(self.now), at_ms);
        if let Some(due) = session.hint_due() {
            let delay = due.as_millis() as i64 - self.now;
            let connection = self.relays[number].websocket.number;
            self.step(number, delay, Step::Hint(connection));
        }
        self.obey_session(number, orders.into_iter().flatten());
    }

    fn ended(&mut self, number: usize, end: End) {
        let relay = &mut self.relays[number];
        let heard_at_ms = relay.provider_ms(relay.websocket.heard_ms);
        let socket = &mut relay.websocket;
        socket.session.ended(end, duration(self.now), heard_at_ms);
        socket.open = false;
        socket.unread.clear();
        let connection = socket.number;
        self.provider.connections.remove(&connection);
        self.socket_look(number);
    }

    /// The gap is reported behind everything that the connection brought; then the next one is made.
    fn end_when_out(&mut self, number: usize) {
        if !self.relays[number].websocket.out.is_empty() {
            return;
        }
        let random = self.rng.unit();
        let Some(next) = self.relays[number].websocket.session.next(random) else { return };
        self.obey_session(number, next.order);
        self.dial_after(number, next.retry.delay.as_millis() as i64);
    }

    /// The leg is to stop: what finds room goes on; the rest and what is held are left to the provider.
    pub fn socket_stops(&mut self, number: usize) {
        self.relays[number].websocket.session.stop();
        self.flush(number);
        let connection = self.relays[number].websocket.number;
        self.provider.connections.remove(&connection);
        self.relays[number].websocket.open = false;
    }
}

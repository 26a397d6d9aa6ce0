//! The WebSocket leg, as `legs/websocket` goes: the production's session and hold, and its notes in their order.

use crate::bugs::Bug;
use crate::scenario::{HOLD_MAX_MS, IDLE_TIMEOUT_MS};
use crate::world::{Step, World};
use bytes::Bytes;
use futures::FutureExt;
use pepay_relay::labels::Leg;
use pepay_relay::legs::Note;
use pepay_relay::legs::websocket::hold::Hold;
use pepay_relay::legs::websocket::reconnect::{End, Reconnect};
use pepay_relay::provider::frame::{self, Frame as Classified};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Hints within this time cost one walk.
const HINTS_MS: i64 = 10_000;

/// What the provider sends.
#[derive(Clone, Copy, Debug)]
pub enum Frame {
    Event(usize),
    Control(&'static str),
}

/// The leg.
#[derive(Debug)]
pub struct Socket {
    session: Reconnect,
    /// The connection that stands or stood last.
    pub number: u64,
    open: bool,
    /// How the connection ended, until what it brought is out.
    ending: Option<End>,
    connected_ms: i64,
    heard_ms: i64,
    held: Option<Held>,
    /// What waits for room in the intake, and what was not read meanwhile.
    out: VecDeque<(Bytes, i64)>,
    unread: VecDeque<Frame>,
    blocked_since: Option<i64>,
    hint_followed: Option<i64>,
    hint_due: bool,
}

#[derive(Debug)]
struct Held {
    frames: Hold<(Bytes, i64)>,
    any: bool,
    walk: u64,
    since: i64,
}

impl Socket {
    pub fn new() -> Self {
        let session = Reconnect::new(Duration::from_millis(500), Duration::from_secs(5), false, Instant::now());
        Self {
            session,
            number: 0,
            open: false,
            ending: None,
            connected_ms: 0,
            heard_ms: 0,
            held: None,
            out: VecDeque::new(),
            unread: VecDeque::new(),
            blocked_since: None,
            hint_followed: None,
            hint_due: false,
        }
    }
}

impl World {
    pub fn dial_after(&mut self, relay: usize, delay: i64) {
        self.counter += 1;
        let number = self.counter;
        self.relays[relay].socket.number = number;
        self.step(relay, delay, Step::Dial(number));
    }

    pub fn socket_step(&mut self, relay: usize, step: Step) {
        let current = self.relays[relay].socket.number;
        let open = self.relays[relay].socket.open;
        match step {
            Step::Dial(number) if number == current => self.connect(relay, number),
            Step::Frame(number, frame) if number == current && open => {
                let now = self.now;
                let socket = &mut self.relays[relay].socket;
                socket.heard_ms = now;
                socket.unread.push_back(frame);
                self.socket_look(relay);
            }
            Step::Ended(number, end) if number == current && open => self.ended(relay, end),
            Step::HoldOver(number) if number == current => {
                if self.relays[relay].socket.held.is_some() {
                    self.oracle.hold_was_over = true;
                }
                self.let_go(relay);
                self.socket_look(relay);
            }
            Step::Hint(number) if number == current && open && self.relays[relay].socket.hint_due => {
                self.follow_hint(relay);
            }
            _ => {}
        }
    }

    fn connect(&mut self, number: usize, connection: u64) {
        let now = self.now;
        if self.active && self.rng.chance(100) {
            let retry = self.rng.unit();
            let retry = self.relays[number].socket.session.ended(&End::ConnectFailed, Duration::ZERO, retry);
            return self.dial_after(number, retry.delay.as_millis() as i64);
        }
        let relay = &mut self.relays[number];
        let since = relay.position.cursor;
        let note = Note::WebsocketUp { at_ms: relay.provider_ms(now) };
        relay.intake.note(note).unwrap_or_default();
        let walk = relay.walker.ask();
        let socket = &mut relay.socket;
        (socket.open, socket.connected_ms, socket.heard_ms) = (true, now, now);
        (socket.hint_followed, socket.hint_due) = (None, false);
        let hold_max = Duration::from_millis(HOLD_MAX_MS as u64);
        socket.held = Some(Held { frames: Hold::new(hold_max), any: false, walk, since: now });
        if self.scenario.has(Bug::HoldDropped) {
            socket.held = None;
        }
        self.accept(number, connection, since);
        self.step(number, HOLD_MAX_MS, Step::HoldOver(connection));
        self.turn_soon(number);
        self.walker_wake(number);
    }

    /// Reads on, as far as there is room for what was read.
    pub fn socket_look(&mut self, number: usize) {
        self.release_if_walked(number);
        loop {
            if !self.flush(number) {
                return;
            }
            let socket = &mut self.relays[number].socket;
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
        let socket = &mut relay.socket;
        let Some(held) = &mut socket.held else { return socket.out.push_back((bytes, received_at_ms)) };
        held.any = true;
        let len = bytes.len();
        held.frames.keep((bytes, received_at_ms), len);
        if held.frames.is_over(Duration::from_millis((self.now - held.since) as u64)) {
            self.oracle.hold_was_over = true;
            self.let_go(number);
        }
    }

    fn release_if_walked(&mut self, number: usize) {
        let relay = &self.relays[number];
        if relay.socket.held.as_ref().is_some_and(|held| relay.walker.done >= held.walk) {
            self.let_go(number);
        }
    }

    fn let_go(&mut self, number: usize) {
        let socket = &mut self.relays[number].socket;
        if let Some(held) = socket.held.take() {
            if self.now - held.since > HOLD_MAX_MS && held.any && self.scenario.freezes + self.scenario.suspends == 0 {
                self.oracle.fail("P5: a frame was held for longer than the bound");
            }
            socket.out.extend(held.frames.release());
        }
    }

    /// Hands on what was read; whether all of it found room.
    fn flush(&mut self, number: usize) -> bool {
        let now = self.now;
        let relay = &mut self.relays[number];
        let socket = &mut relay.socket;
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
        let socket = &mut self.relays[number].socket;
        match socket.hint_followed.map(|followed| followed + HINTS_MS).filter(|due| *due > self.now) {
            Some(due) => {
                socket.hint_due = true;
                let connection = socket.number;
                self.step(number, due - self.now, Step::Hint(connection));
            }
            None => self.follow_hint(number),
        }
    }

    fn follow_hint(&mut self, number: usize) {
        let now = self.now;
        let relay = &mut self.relays[number];
        (relay.socket.hint_due, relay.socket.hint_followed) = (false, Some(now));
        relay.intake.note(Note::Resync { at_ms: relay.provider_ms(now) }).unwrap_or_default();
        relay.walker.ask();
        self.turn_soon(number);
        self.walker_wake(number);
    }

    fn ended(&mut self, number: usize, end: End) {
        let socket = &mut self.relays[number].socket;
        (socket.open, socket.ending) = (false, Some(end));
        socket.unread.clear();
        let connection = socket.number;
        self.provider.connections.remove(&connection);
        if self.relays[number].socket.held.as_ref().is_some_and(|held| !held.any) {
            self.relays[number].socket.held = None;
        }
        self.socket_look(number);
    }

    /// The gap is told behind everything that the connection brought; then the next one is made.
    fn end_when_out(&mut self, number: usize) {
        let now = self.now;
        let random = self.rng.unit();
        let relay = &mut self.relays[number];
        if relay.socket.held.is_some() || !relay.socket.out.is_empty() {
            return;
        }
        let Some(end) = relay.socket.ending.take() else { return };
        let lived = Duration::from_millis((now - relay.socket.connected_ms) as u64);
        let retry = relay.socket.session.ended(&end, lived, random);
        let at_ms = relay.provider_ms(relay.socket.heard_ms);
        relay.intake.note(Note::WebsocketDown { cause: retry.cause, at_ms }).unwrap_or_default();
        self.turn_soon(number);
        self.dial_after(number, retry.delay.as_millis() as i64);
    }

    /// The leg is to stop: what finds room goes on; the rest and what is held are left to the provider.
    pub fn socket_stops(&mut self, number: usize) {
        self.relays[number].socket.held = None;
        self.flush(number);
        let connection = self.relays[number].socket.number;
        self.provider.connections.remove(&connection);
        self.relays[number].socket.open = false;
    }
}

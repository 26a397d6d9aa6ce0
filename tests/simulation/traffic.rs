//! What the provider sends: frames, what a new connection receives, and webhooks.

use crate::provider::Connection;
use crate::scenario::{Vocabulary, WINDOW_MS};
use crate::websocket::Frame;
use crate::world::{Do, Step, World};

impl World {
    pub fn emit(&mut self) {
        let event = self.provider.emit(&self.scenario, &mut self.rng, self.now);
        let ping = self.provider.events[event].visible_ms.is_none();
        let mut connections: Vec<u64> = self.provider.connections.keys().copied().collect();
        connections.sort_unstable();
        for connection in connections {
            if !ping && !self.rng.chance(self.scenario.lost_frames) {
                self.push(connection, Frame::Event(event));
                if self.rng.chance(self.scenario.repeated) {
                    self.push(connection, Frame::Event(event));
                }
            }
        }
        if self.scenario.webhooks
            && self.scenario.twins > 0
            && self.rng.chance(self.scenario.twins)
            && let Some(twin) = self.provider.twin(event)
        {
            let delay = self.rng.range(0, 3000);
            self.after(delay, Do::Webhook(twin, 0));
        }
        if self.scenario.webhooks && self.provider.events[event].text_id.is_some() {
            let delay = self.rng.range(0, 3000);
            self.after(delay, Do::Webhook(event, 0));
            if self.rng.chance(self.scenario.repeated) {
                // Within the window, beyond which nothing is promised; what is appended late comes later still.
                let last = self.now + WINDOW_MS / if self.scenario.inbox.is_some() { 3 } else { 2 };
                let at = self.rng.range(self.now, last);
                self.at(at, Do::Webhook(event, 0));
            }
        }
    }

    /// Sends a frame on a connection, behind those before it unless frames overtake one another.
    pub fn push(&mut self, number: u64, frame: Frame) {
        let disorder = self.scenario.disorder > 0 && self.rng.chance(300);
        let delay = self.rng.range(5, if disorder { 2500 } else { 200 });
        let Some(connection) = self.provider.connections.get_mut(&number) else { return };
        if connection.silent {
            return;
        }
        let at = if disorder { self.now + delay } else { connection.last_ms.max(self.now + delay) };
        connection.last_ms = connection.last_ms.max(at);
        let relay = connection.relay;
        self.at(at, Do::Relay(relay, Step::Frame(number, frame)));
    }

    /// What a new connection receives first.
    pub fn accept(&mut self, relay: usize, number: u64, since: Option<pepay_relay::provider::EventId>) {
        let connection = Connection { relay, silent: false, last_ms: self.now };
        self.provider.connections.insert(number, connection);
        let known = self.scenario.vocabulary == Vocabulary::Known;
        if since.is_some() && known {
            self.push(number, Frame::Control(r#"{"object":"ws_control","type":"replay_started"}"#));
        }
        for event in self.provider.replay(&self.scenario, since, self.now) {
            if !self.rng.chance(self.scenario.lost_frames) {
                self.push(number, Frame::Event(event));
            }
        }
        let truncated = self.rng.chance(200);
        match self.scenario.vocabulary {
            Vocabulary::Known if truncated => self
                .push(number, Frame::Control(r#"{"object":"ws_control","type":"replay_completed","truncated":true}"#)),
            Vocabulary::Known => {
                self.push(number, Frame::Control(r#"{"object":"ws_control","type":"replay_completed"}"#));
            }
            Vocabulary::Other => self.push(number, Frame::Control(r#"{"object":"ws_control","type":"hello"}"#)),
            Vocabulary::None => {}
        }
        if self.scenario.heartbeats {
            for heartbeat in [
                r#"{"object":"ws_heartbeat","seq":1}"#,
                r#"{"object":"ws_heartbeat","seq":2}"#,
                r#"{"type":"heartbeat","ts":1768480000}"#,
            ] {
                self.push(number, Frame::Control(heartbeat));
            }
        }
    }

    pub fn send_webhook(&mut self, event: usize, attempt: u32) {
        if self.scenario.inbox.is_some() {
            return self.send_to_door(event, attempt);
        }
        // The newest relay is behind the endpoint, mostly.
        let Some(relay) = self.living() else { return self.retry_webhook(event, attempt) };
        let relay = if relay > 0 && self.relays[relay - 1].alive && self.rng.chance(300) { relay - 1 } else { relay };
        let delay = self.rng.range(1, 300);
        self.step(relay, delay, Step::WebhookCame(event, attempt));
    }

    /// The provider was not answered 2xx, and comes back until it gives up.
    pub fn retry_webhook(&mut self, event: usize, attempt: u32) {
        const DELAYS: [i64; 5] = [1000, 5000, 30_000, 120_000, 600_000];
        if let Some(delay) = DELAYS.get(attempt as usize) {
            self.after(*delay, Do::Webhook(event, attempt + 1));
        }
    }
}

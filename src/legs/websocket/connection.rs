//! The life of one connection: frames in, pings out, silence noticed, and a polite end.

use super::ending::{Finished, broken, close, ended_by, say_goodbye};
use super::pulse::{Pulse, SLEPT_MAX};
use super::session::{Passage, Session, Wait};
use super::{Dialer, Read, Websocket};
use crate::clock::now_ms;
use crate::labels::{Leg, Outcome};
use crate::legs::websocket::reconnect::End;
use crate::legs::{IntakeClosed, PAUSE_VISIBLE};
use crate::provider::frame::{self, Frame};
use crate::telemetry::LegState;
use crate::text::foreign;
use bytes::Bytes;
use futures::{FutureExt, SinkExt, StreamExt};
use std::ops::ControlFlow;
use std::pin::Pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};

/// Messages that are taken one after the other when they have come already, before anything else is asked: enough to
/// make the asking cheap, and a matter of a millisecond.
const TOGETHER_MAX: usize = 64;

/// One connection and the leg that it belongs to.
pub(super) struct Connection<'l, S> {
    stream: WebSocketStream<S>,
    pulse: Pulse,
    leg: &'l Websocket,
    session: &'l mut Session<Read>,
    /// When the session began: its times count from then.
    began: Instant,
    /// It was closed on purpose, because the intake stayed full.
    paused: bool,
}

impl<'l, S: AsyncRead + AsyncWrite + Unpin> Connection<'l, S> {
    /// The session, which counts from `began`, knows of the connection.
    pub(super) fn new(
        stream: WebSocketStream<S>,
        pulse: Pulse,
        leg: &'l Websocket,
        session: &'l mut Session<Read>,
        began: Instant,
    ) -> Self {
        Self { stream, pulse, leg, session, began, paused: false }
    }

    /// Lives until the peer, silence, a frame over the limit or the leg ends it.
    pub(super) async fn live(&mut self) -> Finished {
        let mut ping = pings(self.leg.dialer.settings.ping_interval);
        let stop = &self.leg.stop;
        self.pulse.beat();
        loop {
            let silent_at = self.silent_at();
            let hint_due = self.session.hint_due().map(|due| self.began + due);
            let waits = self.session.waits();
            let began = self.began;
            let flow = tokio::select! {
                biased;
                () = stop.cancelled() => ControlFlow::Break(Finished::Stopped),
                walked = over(self.leg, waits, began) => self.let_go(walked).await,
                () = at(hint_due) => self.follow_hint(),
                message = self.stream.next() => self.heard_all(message).await,
                _ = ping.tick() => self.send(Message::Ping(Bytes::new())).await,
                () = sleep_until(silent_at) => self.check_silence(),
            };
            let flow = if flow.is_continue() { self.check_sleep() } else { flow };
            if let ControlFlow::Break(finished) = flow {
                if matches!(finished, Finished::Stopped) {
                    self.leave_held();
                }
                close(&mut self.stream, &finished).await;
                return finished;
            }
        }
    }

    /// After the end: what was read goes on, still behind the walk that it waits for, and before the gap that follows
    /// is reported. A leg that stops leaves it to the event log instead, or the next start would find what came before
    /// it.
    pub(super) async fn leave(mut self, end: End) {
        let silent_ms = i64::try_from(self.pulse.silence().as_millis()).unwrap_or(i64::MAX);
        let heard_at_ms = self.leg.clock.provider_ms().saturating_sub(silent_ms);
        self.session.ended(end, self.began.elapsed(), heard_at_ms);
        let stop = &self.leg.stop;
        while let Some(wait) = self.session.waits() {
            tokio::select! {
                biased;
                () = stop.cancelled() => self.leave_held(),
                walked = over(self.leg, Some(wait), self.began) => {
                    // The leg stops; what found no room stays with the provider.
                    let _ = self.let_go(walked).await;
                }
            }
        }
    }

    /// Hands on what was held back, if its wait is over.
    async fn let_go(&mut self, walked: u64) -> ControlFlow<Finished> {
        match self.session.over(self.began.elapsed(), walked) {
            Some(frames) => self.deliver_all(frames).await,
            None => ControlFlow::Continue(()),
        }
    }

    async fn deliver_all(&mut self, frames: Vec<Read>) -> ControlFlow<Finished> {
        let mut flow = ControlFlow::Continue(());
        let mut frames = frames.into_iter();
        while let Some((bytes, received_at_ms)) = frames.next() {
            match self.deliver(bytes, received_at_ms).await {
                ControlFlow::Continue(()) => {}
                // A connection that ended meanwhile does not unread what was read.
                ControlFlow::Break(Finished::Ended(ended)) => flow = ControlFlow::Break(Finished::Ended(ended)),
                stopped => {
                    self.left(frames.count());
                    return stopped;
                }
            }
        }
        flow
    }

    /// What is held stays with the provider, whose log the next start walks through.
    fn leave_held(&mut self) {
        let frames = self.session.stop();
        self.left(frames.len());
    }

    fn left(&self, count: usize) {
        for _ in 0..count {
            self.leg.metrics.delivery(Leg::Websocket);
            self.leg.metrics.outcome(Leg::Websocket, Outcome::Failed);
        }
    }

    /// A control frame announces that the stream has a hole.
    fn hinted(&mut self) -> ControlFlow<Finished> {
        let orders = self.session.hint(self.began.elapsed(), self.leg.clock.provider_ms());
        self.leg.obey(self.session, orders.into_iter().flatten());
        ControlFlow::Continue(())
    }

    fn follow_hint(&mut self) -> ControlFlow<Finished> {
        let orders = self.session.follow_hint(self.began.elapsed(), self.leg.clock.provider_ms());
        self.leg.obey(self.session, orders.into_iter().flatten());
        ControlFlow::Continue(())
    }

    fn silent_at(&self) -> Instant {
        self.pulse.last() + self.leg.dialer.settings.idle_timeout
    }

    /// The time is over; the pulse knows whether part of a frame was received meanwhile.
    fn check_silence(&self) -> ControlFlow<Finished> {
        if Instant::now() < self.silent_at() {
            return ControlFlow::Continue(());
        }
        broken(End::Silence, "")
    }

    /// A connection that was there while the machine slept is not trusted to be whole: a peer that receives no pongs
    /// drops it, or stops sending, and may not be able to announce it. The pings see that this is looked at soon after.
    fn check_sleep(&self) -> ControlFlow<Finished> {
        if self.pulse.slept() < SLEPT_MAX {
            return ControlFlow::Continue(());
        }
        broken(End::Silence, "this machine was suspended")
    }

    async fn send(&mut self, message: Message) -> ControlFlow<Finished> {
        let silent_at = self.silent_at();
        let sent = tokio::select! {
            biased;
            () = self.leg.stop.cancelled() => return ControlFlow::Break(Finished::Stopped),
            sent = timeout_at(silent_at, self.stream.send(message)) => sent,
        };
        match sent {
            Ok(Ok(())) => ControlFlow::Continue(()),
            Ok(Err(error)) => ControlFlow::Break(Finished::Ended(ended_by(error))),
            // A peer that takes nothing and sends nothing is silent.
            Err(_) => self.check_silence(),
        }
    }

    /// A message, and those that have come with it.
    async fn heard_all(&mut self, first: Option<Result<Message, Error>>) -> ControlFlow<Finished> {
        self.heard(first).await?;
        for _ in 1..TOGETHER_MAX {
            // What is not there yet wakes the loop, which asks again.
            let Some(message) = self.stream.next().now_or_never() else { break };
            self.heard(message).await?;
        }
        ControlFlow::Continue(())
    }

    async fn heard(&mut self, message: Option<Result<Message, Error>>) -> ControlFlow<Finished> {
        let now_ms = now_ms();
        if let Some(Ok(_)) = message {
            self.leg.health.heard(Leg::Websocket);
        }
        match message {
            // Texts come as binary too: what is no UTF-8 is a delivery, and the relay's to check.
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                let bytes = message.into_data();
                let frame = std::str::from_utf8(&bytes).map_or(Frame::Other, frame::classify);
                self.frame(frame, bytes, now_ms).await
            }
            // The library answers pings by itself; pongs have done their work by being received.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => ControlFlow::Continue(()),
            Some(Ok(Message::Close(close))) => {
                let code = close.as_ref().map(|close| u16::from(close.code));
                let reason = close.as_ref().map_or("", |close| close.reason.as_str());
                let code_text = code.map_or_else(|| "no code".to_owned(), |code| code.to_string());
                broken(End::Close(code), format!("{code_text} {}", foreign(reason)).trim_end())
            }
            Some(Err(error)) => ControlFlow::Break(Finished::Ended(ended_by(error))),
            None => broken(End::Reset, ""),
        }
    }

    /// A data frame: a delivery, unless by its own words it is about the connection.
    async fn frame(&mut self, frame: Frame, bytes: Bytes, received_at_ms: i64) -> ControlFlow<Finished> {
        match frame {
            Frame::Control(control) => {
                let why = foreign(&control.kind);
                tracing::debug!(kind = %why, needs_walk = control.needs_walk, "stream control frame");
                if control.needs_walk { self.hinted() } else { ControlFlow::Continue(()) }
            }
            Frame::Error(error) => {
                let detail = format!(
                    "ws_error {} {}",
                    foreign(error.code.as_deref().unwrap_or_default()),
                    foreign(&error.message)
                );
                broken(End::StreamError(error.code.unwrap_or_default()), detail.trim_end())
            }
            Frame::Unknown(kind) => {
                self.ignore(&kind);
                ControlFlow::Continue(())
            }
            // What is no event either is a delivery too: the relay keeps it as a dead letter.
            Frame::Event | Frame::Other => self.hold_or_deliver(bytes, received_at_ms).await,
        }
    }

    /// A frame that does not claim to be an event, a heartbeat for example: a sign of life, counted, and logged once a
    /// kind.
    fn ignore(&self, kind: &str) {
        self.leg.metrics.delivery(Leg::Websocket);
        self.leg.metrics.outcome(Leg::Websocket, Outcome::Ignored);
        if self.leg.kinds.is_new(kind) {
            tracing::info!(kind = %foreign(kind), "stream sends frames that are not events: they are ignored");
        }
    }

    async fn hold_or_deliver(&mut self, bytes: Bytes, received_at_ms: i64) -> ControlFlow<Finished> {
        let len = bytes.len();
        match self.session.frame((bytes, received_at_ms), len, self.began.elapsed()) {
            Passage::Held => ControlFlow::Continue(()),
            Passage::Now((bytes, received_at_ms)) => self.deliver(bytes, received_at_ms).await,
            Passage::All(frames) => self.deliver_all(frames).await,
        }
    }

    /// Hands a delivery to the intake. While that is full nothing is read, so that the provider feels it.
    ///
    /// A wait beyond `websocket.idle_timeout` closes the connection on purpose, since an unread one would be cut by
    /// the peer anyway; the delivery in hand still waits for its room, and the next connection waits behind it.
    async fn deliver(&mut self, bytes: Bytes, received_at_ms: i64) -> ControlFlow<Finished> {
        let leg = self.leg;
        leg.metrics.delivery(Leg::Websocket);
        let offer = leg.intake.offer(Leg::Websocket, bytes, received_at_ms);
        tokio::pin!(offer);
        let taken = match offer.as_mut().now_or_never() {
            Some(taken) => taken.is_ok(),
            None => {
                let taken = self.wait_for_room(offer).await;
                // Nobody was listening meanwhile, so the silence was ours. A connection that was closed for it is away since
                // something was received last.
                if !self.paused {
                    self.pulse.beat();
                }
                taken
            }
        };
        if !taken {
            // The relay stops and has not taken it: the provider still holds the event, behind the cursor.
            leg.metrics.outcome(Leg::Websocket, Outcome::Failed);
            return ControlFlow::Break(Finished::Stopped);
        }
        if self.paused {
            return broken(End::Paused, "the intake stayed full");
        }
        ControlFlow::Continue(())
    }

    /// Until the offer found room; false when the leg is to stop first.
    async fn wait_for_room(&mut self, mut offer: Pin<&mut impl Future<Output = Result<(), IntakeClosed>>>) -> bool {
        let Websocket { dialer: Dialer { settings, .. }, metrics, health, stop, intake, .. } = self.leg;
        let account = intake.account();
        let visible_at = Instant::now() + PAUSE_VISIBLE;
        let close_at = Instant::now() + settings.idle_timeout;
        let mut visible = false;
        let taken = loop {
            tokio::select! {
                biased;
                taken = &mut offer => break taken.is_ok(),
                () = stop.cancelled() => break false,
                () = sleep_until(visible_at), if !visible => {
                    visible = true;
                    health.set_leg(account, Leg::Websocket, LegState::Paused);
                }
                () = sleep_until(close_at), if !self.paused => {
                    self.paused = true;
                    tracing::warn!(account = intake.name(), "stream paused");
                    metrics.leg_connected(intake.seat(), Leg::Websocket, false);
                    say_goodbye(&mut self.stream, CloseCode::Away, "intake full").await;
                }
            }
        };
        if taken && visible && !self.paused {
            health.set_leg(account, Leg::Websocket, LegState::Connected);
        }
        taken
    }
}

/// Until held frames are to go on, with the ticket of the walk that is out or 0; never when none are held.
async fn over(leg: &Websocket, wait: Option<Wait>, began: Instant) -> u64 {
    let Some(Wait { walk, until }) = wait else { return std::future::pending().await };
    let walked = async {
        match walk {
            Some(ticket) => leg.walks.wait(ticket).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = walked => walk.unwrap_or_default(),
        () = sleep_until(began + until) => 0,
    }
}

/// Until then; never without one.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn pings(every: Duration) -> Interval {
    // A zero interval is no interval to tokio; settings refuse it, and a millisecond keeps this total.
    let every = every.max(Duration::from_millis(1));
    let mut ping = interval_at(Instant::now() + every, every);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ping
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop")]

    use super::super::ending::CLOSE_WAIT;
    use super::super::pulse::{Pulse, heard};
    use super::super::{Ended, Kinds};
    use super::*;
    use crate::clock::Clock;
    use crate::config::{self, Config};
    use crate::legs::Intake;
    use crate::legs::websocket::reconnect::Reconnect;
    use crate::legs::{Position, Walks};
    use crate::provider::{Environment, rest::Rest, tls};
    use crate::telemetry::{Health, Metrics};
    use secrecy::SecretString;
    use std::sync::Arc;
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
    use tokio::sync::watch;
    use tokio::time::timeout;
    use tokio_tungstenite::tungstenite::protocol::Role;
    use tokio_util::sync::CancellationToken;

    const IDLE: Duration = Duration::from_secs(60);

    fn leg() -> Websocket {
        let settings = config::Websocket {
            idle_timeout: IDLE,
            frame_bytes_max: 1024,
            ..Config::minimal(Environment::Devnet, "127.0.0.1:1").websocket
        };
        let api_key = watch::channel(SecretString::from("ck_test")).1;
        let tls = tls::client_config().unwrap();
        let clock = Arc::new(Clock::default());
        let rest = Rest::new("http://127.0.0.1:1", IDLE, api_key.clone(), &tls, Arc::clone(&clock)).unwrap();
        let websocket_url = "ws://127.0.0.1:1/".to_owned();
        Websocket {
            dialer: Dialer { websocket_url, settings, rest: Arc::new(rest), api_key, connector: (&tls).into() },
            hold_max: Duration::ZERO,
            position: watch::channel(Position::default()).1,
            walks: Walks::default(),
            clock,
            kinds: Kinds::default(),
            intake: Intake::new(4096).0,
            health: Arc::<Health>::default(),
            metrics: Arc::new(Metrics::new("test")),
            stop: CancellationToken::new(),
        }
    }

    /// Lives through a connection whose peer does what `peer` does; how it finished and after how long.
    async fn lived<P: Future>(peer: impl FnOnce(DuplexStream) -> P) -> (Finished, Duration) {
        let leg = leg();
        let (ours, theirs) = duplex(4096);
        let pulse = Pulse::new();
        let heard = heard(ours, pulse.clone());
        let stream = WebSocketStream::from_raw_socket(heard, Role::Client, None).await;
        let started = Instant::now();
        let reconnect = Reconnect::new(IDLE, IDLE, false, started.into_std());
        let mut session = Session::new(reconnect, leg.hold_max);
        let live =
            async { (Connection::new(stream, pulse, &leg, &mut session, started).live().await, started.elapsed()) };
        let peer = async {
            // What it returns is kept, so that its end of the connection stays open.
            let _kept = peer(theirs).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            finished = live => finished,
            () = peer => unreachable!("a peer never ends"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_sends_nothing_is_left_after_the_idle_timeout() {
        let (finished, after) = lived(std::future::ready).await;
        assert!(matches!(finished, Finished::Ended(Ended { end: End::Silence, .. })), "{finished:?}");
        assert!(after >= IDLE && after < IDLE + Duration::from_secs(1), "{after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pong_is_a_sign_of_life() {
        // A peer that answers pings for five minutes, and then no more.
        let (finished, after) = lived(|theirs| async move {
            let mut peer = WebSocketStream::from_raw_socket(theirs, Role::Server, None).await;
            let answering = async { while let Some(Ok(_)) = peer.next().await {} };
            let _ = timeout(5 * IDLE, answering).await;
            peer
        })
        .await;
        assert!(matches!(finished, Finished::Ended(Ended { end: End::Silence, .. })), "{finished:?}");
        assert!(after > 5 * IDLE && after <= 6 * IDLE + Duration::from_secs(1), "{after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_trickles_in_is_a_sign_of_life() {
        let (finished, after) = lived(|mut theirs| async move {
            theirs.write_all(&[0x81, 10]).await.unwrap();
            for byte in *b"0123456789" {
                tokio::time::sleep(IDLE / 2).await;
                theirs.write_all(&[byte]).await.unwrap();
            }
            theirs
        })
        .await;
        assert!(
            matches!(finished, Finished::Stopped),
            "the intake has no reader, so the frame came whole: {finished:?}"
        );
        assert_eq!(after, 5 * IDLE + CLOSE_WAIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_is_gone_without_a_close_frame_is_a_reset() {
        let (finished, after) = lived(|theirs| async move { drop(theirs) }).await;
        assert!(matches!(finished, Finished::Ended(Ended { end: End::Reset, .. })), "{finished:?}");
        assert_eq!(after, Duration::ZERO);
    }
}

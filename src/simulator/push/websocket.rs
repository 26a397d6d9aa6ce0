//! One connection of the WebSocket: the task that empties its buffer.

use super::replay::Frame;
use crate::clock::now_ms;
use crate::simulator::faults::Cut;
use crate::simulator::frames::error;
use crate::simulator::hub::Hub;
use crate::simulator::subscriber::{Next, Subscriber};
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use std::sync::Arc;
use std::time::Duration;

/// Connections a key; the provider documents no figure.
pub(in crate::simulator) const CONNECTIONS_MAX: usize = 5;
/// A write that the reader does not take for this long ends the connection.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the peer may take to answer our close frame before the connection is dropped.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Leaves the hub's list when the connection is over, or when the upgrade never came about.
pub(in crate::simulator) struct Registration {
    pub(in crate::simulator) hub: Arc<Hub>,
    pub(in crate::simulator) subscriber: Arc<Subscriber>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.hub.world().subscribers.retain(|subscriber| subscriber.number != self.subscriber.number);
    }
}

/// Counts a connection as up for as long as it lives.
struct Up<'a>(&'a Hub);

impl<'a> Up<'a> {
    fn new(hub: &'a Hub) -> Self {
        hub.sockets.send_modify(|count| *count += 1);
        Self(hub)
    }
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        self.0.sockets.send_modify(|count| *count -= 1);
    }
}

/// Serves one connection to its end: first `replay`, then live events, pings between.
pub(in crate::simulator) async fn run(mut socket: WebSocket, registration: Registration, replay: Vec<Frame>) {
    let hub = Arc::clone(&registration.hub);
    let subscriber = Arc::clone(&registration.subscriber);
    let up = Up::new(&hub);
    let ended = tokio::select! {
        ended = serve(&mut socket, &hub, &subscriber, replay) => ended,
        () = subscriber.cut.cancelled() => None,
        () = hub.stop.cancelled() => Some(Cut::Close(1001)),
    };
    // Off the books first, so that who waits for the count and connects again is not the sixth connection.
    drop(up);
    drop(registration);
    if let Some(cut) = ended {
        say_goodbye(&mut socket, &cut).await;
    }
}

/// `None` when the connection is gone, else how it is to be ended.
async fn serve(socket: &mut WebSocket, hub: &Hub, subscriber: &Subscriber, replay: Vec<Frame>) -> Option<Cut> {
    for frame in replay {
        while subscriber.is_silent() {
            subscriber.wake.notified().await;
        }
        let message = match frame {
            Frame::Event(event) => subscriber.replayed(&event),
            Frame::Control(frame) => Message::text(frame),
        };
        send(socket, message).await?;
    }
    let mut ping = tokio::time::interval(hub.options.ping_interval);
    ping.reset();
    loop {
        let words = hub.world().faults.websocket.controls;
        match subscriber.next(words) {
            Next::Send(message) => send(socket, message).await?,
            Next::End(cut) => return Some(cut),
            Next::Wait => {
                let silent = subscriber.is_silent();
                tokio::select! {
                    () = subscriber.wake.notified() => {}
                    _ = ping.tick(), if !silent => send(socket, Message::Ping(bytes::Bytes::new())).await?,
                    // Data from the client means nothing here; reading is what answers its pings.
                    received = socket.recv(), if !silent => {
                        received?.ok()?;
                    }
                }
            }
        }
    }
}

async fn send(socket: &mut WebSocket, message: Message) -> Option<()> {
    tokio::time::timeout(WRITE_TIMEOUT, socket.send(message)).await.ok()?.ok()
}

async fn say_goodbye(socket: &mut WebSocket, cut: &Cut) {
    let code = match cut {
        Cut::Abrupt => return,
        Cut::Close(code) => *code,
        Cut::Error(code) => {
            let frame = Message::text(error(code, now_ms()));
            if tokio::time::timeout(CLOSE_TIMEOUT, socket.send(frame)).await.is_err() {
                return;
            }
            1008
        }
    };
    // Either way the connection is dropped afterwards; a peer that does not answer is not waited for.
    let close = Message::Close(Some(CloseFrame { code, reason: Utf8Bytes::from_static("") }));
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, async {
        if socket.send(close).await.is_ok() {
            while let Some(Ok(_)) = socket.recv().await {}
        }
    })
    .await;
}

//! One connection of the WebSocket: what was asked for, a bounded buffer, and the task that empties it.

use super::replay::{Frame, control, error};
use crate::clock::now_ms;
use crate::simulator::faults::{Controls, Cut};
use crate::simulator::hub::Hub;
use crate::simulator::model::{Event, Scope, Types};
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use serde_json::json;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Connections a key; the provider documents no figure.
pub(in crate::simulator) const CONNECTIONS_MAX: usize = 5;
/// Frames that wait for a slow reader before they are dropped and it is told to resync.
const BUFFER_MAX: usize = 4_096;
/// A write that the reader does not take for so long ends the connection.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the peer may take to answer our close frame before the connection is dropped.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// What a socket wants to see.
#[derive(Clone, Debug)]
pub(in crate::simulator) struct Filter {
    pub(in crate::simulator) types: Types,
    pub(in crate::simulator) scope: Scope,
}

impl Filter {
    pub(in crate::simulator) fn wants(&self, event: &Event) -> bool {
        event.unfiltered || (self.types.contains(&event.kind) && event.scope.matches(&self.scope))
    }
}

/// A connected socket, as the hub sees it.
pub(in crate::simulator) struct Subscriber {
    pub(in crate::simulator) number: u64,
    pub(in crate::simulator) filter: Filter,
    inbox: Mutex<Inbox>,
    wake: Notify,
    /// Ends a write that is stuck, too.
    cut: CancellationToken,
}

#[derive(Default)]
struct Inbox {
    frames: VecDeque<Out>,
    overflows: u32,
    silent: bool,
    end: Option<Cut>,
    last_event_id: Option<String>,
}

enum Out {
    Event(Arc<Event>),
    Raw(Message),
    Resync,
}

/// What the task does next.
enum Next {
    Send(Message),
    End(Cut),
    Wait,
}

impl Subscriber {
    pub(in crate::simulator) fn new(number: u64, filter: Filter, silent: bool) -> Self {
        let inbox = Inbox { silent, ..Inbox::default() };
        Self { number, filter, inbox: Mutex::new(inbox), wake: Notify::new(), cut: CancellationToken::new() }
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A live event. When the buffer is full everything in it is dropped and the reader is told once to resync;
    /// the second time the connection ends.
    pub(in crate::simulator) fn offer(&self, event: &Arc<Event>) {
        self.put(Out::Event(Arc::clone(event)));
    }

    pub(in crate::simulator) fn offer_raw(&self, message: Message) {
        self.put(Out::Raw(message));
    }

    fn put(&self, out: Out) {
        let mut inbox = self.inbox();
        if inbox.frames.len() >= BUFFER_MAX {
            inbox.frames.clear();
            inbox.overflows += 1;
            if inbox.overflows == 1 {
                inbox.frames.push_back(Out::Resync);
            } else {
                inbox.end.get_or_insert_with(|| Cut::Error("SLOW_CONSUMER".into()));
            }
        } else {
            inbox.frames.push_back(out);
        }
        drop(inbox);
        self.wake.notify_one();
    }

    pub(in crate::simulator) fn end(&self, cut: Cut) {
        if cut == Cut::Abrupt {
            self.cut.cancel();
        }
        self.inbox().end = Some(cut);
        self.wake.notify_one();
    }

    pub(in crate::simulator) fn set_silent(&self, silent: bool) {
        self.inbox().silent = silent;
        self.wake.notify_one();
    }

    fn is_silent(&self) -> bool {
        self.inbox().silent
    }

    fn next(&self, words: Controls) -> Next {
        let mut inbox = self.inbox();
        if let Some(cut) = inbox.end.take() {
            return Next::End(cut);
        }
        while !inbox.silent {
            match inbox.frames.pop_front() {
                Some(Out::Event(event)) => {
                    inbox.last_event_id = Some(event.id.clone());
                    return Next::Send(text(&event));
                }
                Some(Out::Raw(message)) => return Next::Send(message),
                Some(Out::Resync) => {
                    let data = json!({ "reason": "slow_consumer", "last_event_id": inbox.last_event_id });
                    if let Some(frame) = control(words, "resync_required", data, now_ms()) {
                        return Next::Send(Message::text(frame));
                    }
                }
                None => break,
            }
        }
        Next::Wait
    }
}

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
            Frame::Event(event) => {
                subscriber.inbox().last_event_id = Some(event.id.clone());
                text(&event)
            }
            Frame::Control(frame) => Message::text(frame),
        };
        send(socket, message).await?;
    }
    let mut ping = tokio::time::interval(hub.options.ping_interval);
    ping.reset();
    loop {
        let words = hub.world().faults.stream.controls;
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

fn text(event: &Event) -> Message {
    // The model only writes JSON, which is UTF-8.
    Utf8Bytes::try_from(event.bytes.clone()).map_or_else(|_| Message::Binary(event.bytes.clone()), Message::Text)
}

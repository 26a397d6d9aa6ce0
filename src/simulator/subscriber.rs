//! A connected socket as the hub sees it: what was asked for, and a bounded buffer that never waits.

use super::faults::{Controls, Cut};
use super::frames::control;
use super::model::{Event, Filter};
use crate::clock::now_ms;
use axum::extract::ws::{Message, Utf8Bytes};
use serde_json::json;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Frames that wait for a slow reader before they are dropped and it is sent a resync.
const BUFFER_MAX: usize = 4_096;

/// A connected socket, as the hub sees it.
pub(super) struct Subscriber {
    pub(super) number: u64,
    pub(super) filter: Filter,
    inbox: Mutex<Inbox>,
    pub(super) wake: Notify,
    /// Ends a write that is stuck, too.
    pub(super) cut: CancellationToken,
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
pub(super) enum Next {
    Send(Message),
    End(Cut),
    Wait,
}

impl Subscriber {
    pub(super) fn new(number: u64, filter: Filter, silent: bool) -> Self {
        let inbox = Inbox { silent, ..Inbox::default() };
        Self { number, filter, inbox: Mutex::new(inbox), wake: Notify::new(), cut: CancellationToken::new() }
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A live event. When the buffer is full everything in it is dropped and the reader is sent one resync;
    /// the second time the connection ends.
    pub(super) fn offer(&self, event: &Arc<Event>) {
        self.put(Out::Event(Arc::clone(event)));
    }

    pub(super) fn offer_raw(&self, message: Message) {
        self.put(Out::Raw(message));
    }

    /// The message of an event that goes before the live ones.
    pub(super) fn replayed(&self, event: &Event) -> Message {
        self.inbox().last_event_id = Some(event.id.clone());
        text(event)
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

    pub(super) fn end(&self, cut: Cut) {
        if cut == Cut::Abrupt {
            self.cut.cancel();
        }
        self.inbox().end = Some(cut);
        self.wake.notify_one();
    }

    pub(super) fn set_silent(&self, silent: bool) {
        self.inbox().silent = silent;
        self.wake.notify_one();
    }

    pub(super) fn is_silent(&self) -> bool {
        self.inbox().silent
    }

    pub(super) fn next(&self, words: Controls) -> Next {
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

fn text(event: &Event) -> Message {
    // The model only writes JSON, which is UTF-8.
    Utf8Bytes::try_from(event.bytes.clone()).map_or_else(|_| Message::Binary(event.bytes.clone()), Message::Text)
}

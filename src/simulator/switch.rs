//! Changes the faults of a running simulator, and does what is an act and not a state: cutting sockets and sending raw
//! frames.

use super::faults::{Cut, Faults};
use super::hub::Hub;
use axum::extract::ws::Message;
use bytes::Bytes;
use std::sync::Arc;

/// Changes the faults of a running simulator.
#[derive(Clone)]
pub struct FaultSwitch {
    pub(super) hub: Arc<Hub>,
}

impl FaultSwitch {
    /// Changes any of the faults; in force when this returns.
    pub fn set(&self, change: impl FnOnce(&mut Faults)) {
        self.hub.set_faults(change);
    }

    /// Switches every fault off.
    pub fn clear(&self) {
        self.hub.set_faults(|faults| *faults = Faults::default());
    }

    /// The faults as they are.
    pub fn current(&self) -> Faults {
        self.hub.faults()
    }

    /// Ends every socket, and answers how many there were.
    pub fn cut_sockets(&self, cut: &Cut) -> usize {
        self.hub.cut_sockets(cut)
    }

    /// Sends a text frame as it is to every socket.
    pub fn send_text(&self, text: &str) {
        self.hub.send_raw(&Message::text(text));
    }

    /// Sends a binary frame to every socket.
    pub fn send_binary(&self, bytes: impl Into<Bytes>) {
        self.hub.send_raw(&Message::binary(bytes));
    }
}

impl std::fmt::Debug for FaultSwitch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("FaultSwitch").field(&self.current()).finish()
    }
}

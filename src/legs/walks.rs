//! Asks for walks, and waits for them: between the leg that reconnects and the one that walks.

use tokio::sync::watch;

/// Asks for walks, and waits for them: the socket holds its frames back until the walk after its reconnect is out.
#[derive(Clone, Debug)]
pub struct Walks {
    pub(super) asked: watch::Sender<u64>,
    pub(super) done: watch::Sender<u64>,
}

impl Default for Walks {
    fn default() -> Self {
        Self { asked: watch::Sender::new(0), done: watch::Sender::new(0) }
    }
}

impl Walks {
    /// Asks for a walk that begins from now on; the ticket is for [`Walks::wait`].
    pub fn ask(&self) -> u64 {
        let mut ticket = 0;
        self.asked.send_modify(|asked| {
            *asked += 1;
            ticket = *asked;
        });
        ticket
    }

    /// Waits until a walk that began after the ticket was given is handed on.
    pub async fn wait(&self, ticket: u64) {
        // The sender lives in `self`, so the channel cannot close.
        let _ = self.done.subscribe().wait_for(|done| *done >= ticket).await;
    }
}

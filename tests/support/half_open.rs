//! A TCP proxy between the relay and a peer, which can fall silent without closing anything: a half-open connection.

use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Forwards until dropped.
pub struct HalfOpen {
    address: SocketAddr,
    /// Connections up to this number are silent for ever.
    silent: Arc<watch::Sender<u64>>,
    made: watch::Receiver<u64>,
    task: AbortHandle,
}

impl HalfOpen {
    /// A proxy in front of `peer`.
    pub async fn start(peer: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let silent = Arc::new(watch::Sender::new(0));
        let (count, made) = watch::channel(0);
        let state = Arc::clone(&silent);
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(peer).await else { continue };
                count.send_modify(|count| *count += 1);
                let number = *count.borrow();
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                tokio::spawn(forward(near_in, far_out, number, state.subscribe()));
                tokio::spawn(forward(far_in, near_out, number, state.subscribe()));
            }
        });
        Self { address, silent, made, task: task.abort_handle() }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every connection made so far forwards nothing more in either direction, and stays open. New ones work.
    pub fn fall_silent(&self) {
        self.silent.send_replace(*self.made.borrow());
    }
}

impl Drop for HalfOpen {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, number: u64, mut silent: watch::Receiver<u64>) {
    let mut bytes = vec![0; 64 << 10];
    while *silent.borrow_and_update() < number {
        tokio::select! {
            biased;
            changed = silent.changed() => if changed.is_err() { return },
            read = from.read(&mut bytes) => match read {
                Ok(count) if count > 0 && to.write_all(&bytes[..count]).await.is_ok() => {}
                _ => return,
            },
        }
    }
    // Holds its halves, unread, until the proxy is dropped.
    while silent.changed().await.is_ok() {}
}

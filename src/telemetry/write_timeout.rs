//! Connections of the admin listener that end when their peer takes nothing.
//!
//! A page that listens is written to once a second for days. Without this, one whose machine went to sleep would hold
//! its seat, and what is written to it, until TCP gives up after a quarter of an hour.

use axum::serve::Listener;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Sleep, sleep};

/// How long a peer may take nothing of what is written to it: longer than any hiccup of a network that works.
const TAKES_WITHIN: Duration = Duration::from_secs(10);

/// A listener of such connections.
#[derive(Debug)]
pub(super) struct WriteTimeout(pub(super) TcpListener);

impl Listener for WriteTimeout {
    type Io = PatientStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        let (inner, address) = Listener::accept(&mut self.0).await;
        (PatientStream { inner, waiting: None }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// A stream whose writes fail when the peer took nothing for [`TAKES_WITHIN`].
#[derive(Debug)]
pub(super) struct PatientStream<S> {
    inner: S,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> PatientStream<S> {
    /// What the write came to, or the end of the write_timeout.
    fn wait<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(TAKES_WITHIN)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PatientStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PatientStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.wait(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.wait(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.wait(cx, shut)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::{Instant, advance};

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up_and_one_that_takes_a_little_is_not() {
        let (ours, mut theirs) = duplex(4);
        let mut ours = PatientStream { inner: ours, waiting: None };
        let slow = tokio::spawn(async move {
            for _ in 0..4 {
                advance(TAKES_WITHIN - Duration::from_secs(1)).await;
                theirs.read_exact(&mut [0; 2]).await.unwrap();
            }
            theirs
        });
        ours.write_all(b"twelve bytes").await.unwrap();
        let _theirs = slow.await.unwrap();
        let began = Instant::now();
        assert_eq!(ours.write_all(b"more").await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), TAKES_WITHIN.as_secs());
    }
}

//! A connection whose texts are bytes: [`headers`](super::headers) has the reason.

use super::headers::Headers;
use bytes::{Buf, Bytes};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A byte stream of frames, of which texts are read as binary.
#[derive(Debug)]
pub(super) struct Untyped<S> {
    inner: S,
    /// What was read of it already, and comes first.
    ahead: Bytes,
    headers: Headers,
}

impl<S> Untyped<S> {
    /// `ahead` was read from `inner` already; with it the first frame begins.
    pub(super) fn new(inner: S, ahead: Bytes) -> Self {
        Self { inner, ahead, headers: Headers::default() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Untyped<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let read = if this.ahead.has_remaining() {
            let here = this.ahead.len().min(buf.remaining());
            buf.put_slice(&this.ahead.split_to(here));
            Poll::Ready(Ok(()))
        } else {
            Pin::new(&mut this.inner).poll_read(cx, buf)
        };
        this.headers.pass(buf.filled_mut().get_mut(before..).unwrap_or_default());
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Untyped<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]

    use super::*;
    use futures::StreamExt;
    use tokio::io::{AsyncWriteExt, copy, duplex, sink, split};
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::protocol::Role;

    #[tokio::test]
    async fn frames_are_read_byte_by_byte_and_from_what_came_ahead() {
        let wire: &[u8] = b"\x81\x02\xff\x81\x01\x01\xf0\x89\x01\x81\x80\x01b\x82\x01x\x81\x00\x88\x00";
        for ahead in 0..=wire.len() {
            let (ours, theirs) = duplex(1);
            let (mut from_us, mut to_us) = split(theirs);
            let (came, comes) = wire.split_at(ahead);
            let frames = Untyped::new(ours, Bytes::copy_from_slice(came));
            let mut stream = WebSocketStream::from_raw_socket(frames, Role::Client, None).await;
            let reading = async {
                let mut messages = Vec::new();
                while let Some(Ok(message)) = stream.next().await {
                    messages.push(message);
                }
                drop(stream);
                messages
            };
            let sending = async {
                to_us.write_all(comes).await.unwrap();
                to_us.shutdown().await.unwrap();
            };
            let mut nowhere = sink();
            let (messages, (), taken) = tokio::join!(reading, sending, copy(&mut from_us, &mut nowhere));
            assert!(taken.unwrap() > 0, "a pong and a goodbye");
            let binary = |bytes: &'static [u8]| Message::Binary(Bytes::from_static(bytes));
            let ping = Message::Ping(Bytes::from_static(b"\x81"));
            let close = Message::Close(None);
            let wanted = [binary(b"\xff\x81"), ping, binary(b"\xf0b"), binary(b"x"), binary(b""), close];
            assert_eq!(messages, wanted, "{ahead} bytes came ahead");
        }
    }
}

//! What a connection does at the moment, seen at its socket: which request is under way, and which side keeps it waiting.
//!
//! A request costs no timer: states carry the time at which they began, and `connection` looks at them once in a while.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How long a peer may take nothing of what is written to it: longer than any hiccup of a network that works.
const TAKES_WITHIN: Duration = Duration::from_secs(10);

/// Bytes of the first line that an own answer of the HTTP layer begins with: `HTTP/1.1 431`.
const STATUS_AT: std::ops::Range<usize> = 9..12;

/// Between two requests.
const IDLE: u8 = 0;
/// Of a head some bytes are there.
const HEAD: u8 = 1;
/// A request waits for its answer, or its answer is on its way.
const REQUEST: u8 = 2;

/// The state of one connection, shared by its socket, its requests and its clock.
#[derive(Debug)]
pub(super) struct Exchange {
    began: Instant,
    phase: AtomicU8,
    /// When it became so, in milliseconds since the beginning.
    since_ms: AtomicU64,
    /// When a write began to wait for the peer, in milliseconds since the beginning and one more; 0: none waits.
    stalled_ms: AtomicU64,
    /// An answer may not have gone to the socket yet.
    unflushed: AtomicBool,
    /// Requests that have come.
    requests: AtomicUsize,
    /// The status of what the HTTP layer would have answered by itself; 0: nothing.
    own_status: AtomicU16,
    /// Something came since the last whole head.
    has_begun: AtomicBool,
    /// A connection that asks for HTTP/2 begins with a request of this method.
    is_http2: AtomicBool,
}

impl Exchange {
    /// A first head has been awaited since now.
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            phase: AtomicU8::new(HEAD),
            since_ms: AtomicU64::new(0),
            stalled_ms: AtomicU64::new(0),
            unflushed: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            own_status: AtomicU16::new(0),
            has_begun: AtomicBool::new(false),
            is_http2: AtomicBool::new(false),
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn enter(&self, phase: u8) {
        self.since_ms.store(self.now_ms(), Ordering::Relaxed);
        self.phase.store(phase, Ordering::Relaxed);
    }

    fn is(&self, phase: u8) -> bool {
        self.phase.load(Ordering::Relaxed) == phase
    }

    /// A whole head is there.
    pub(super) fn request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.phase.store(REQUEST, Ordering::Relaxed);
        self.has_begun.store(false, Ordering::Relaxed);
    }

    /// Whether a head has begun and has not ended.
    pub(super) fn is_unfinished(&self) -> bool {
        self.is(HEAD) && self.has_begun.load(Ordering::Relaxed)
    }

    /// The answer has gone out, or is about to.
    pub(super) fn answered(&self) {
        self.unflushed.store(true, Ordering::Relaxed);
        self.enter(IDLE);
    }

    /// Requests that have come.
    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// Whether a request waits for its answer.
    pub(super) fn is_open(&self) -> bool {
        self.is(REQUEST)
    }

    /// Whether a further head has begun and has not ended.
    pub(super) fn is_in_head(&self) -> bool {
        self.is(HEAD) && self.requests() > 0
    }

    /// What the HTTP layer would have answered by itself.
    pub(super) fn own_status(&self) -> Option<u16> {
        Some(self.own_status.load(Ordering::Relaxed)).filter(|status| *status != 0)
    }

    /// Whether the peer speaks HTTP/2 without having asked.
    pub(super) fn is_http2(&self) -> bool {
        self.is_http2.load(Ordering::Relaxed)
    }

    /// How long it may go on before it is looked at again; `None` when it is over: a head that does not end, no request for
    /// too long, or a peer that takes nothing of its answer.
    pub(super) fn may_go_on(&self, head_within: Duration, idle_within: Duration) -> Option<Duration> {
        let now = self.now_ms();
        let left = |since_ms: u64, within: Duration| {
            within.checked_sub(Duration::from_millis(now.saturating_sub(since_ms))).filter(|left| !left.is_zero())
        };
        // A head may begin at any time, and a write may begin to wait.
        let mut next = head_within.min(TAKES_WITHIN);
        let stalled_ms = self.stalled_ms.load(Ordering::Relaxed);
        if stalled_ms != 0 {
            next = next.min(left(stalled_ms - 1, TAKES_WITHIN)?);
        }
        let since_ms = self.since_ms.load(Ordering::Relaxed);
        match self.phase.load(Ordering::Relaxed) {
            HEAD => next = next.min(left(since_ms, head_within)?),
            IDLE => next = next.min(left(since_ms, idle_within)?),
            _ => {}
        }
        // A millisecond more, since times are cut to whole ones.
        Some(next + Duration::from_millis(1))
    }
}

/// A socket that reports to its [`Exchange`] what goes through it.
#[derive(Debug)]
pub(super) struct Watched<I> {
    inner: I,
    exchange: Arc<Exchange>,
}

impl<I> Watched<I> {
    pub(super) fn new(inner: I, exchange: Arc<Exchange>) -> Self {
        Self { inner, exchange }
    }

    pub(super) fn into_inner(self) -> I {
        self.inner
    }

    /// An answer that no request of ours made is the HTTP layer's own, without a body: kept back, so that the peer gets one
    /// of ours.
    fn is_own_answer(&self, bytes: &[u8]) -> bool {
        if !self.exchange.is(HEAD) || self.exchange.unflushed.load(Ordering::Relaxed) {
            return false;
        }
        let status = bytes.get(STATUS_AT).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        if let Some(status) = status {
            self.exchange.own_status.store(status, Ordering::Relaxed);
        }
        true
    }

    fn written<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let stalled = &self.exchange.stalled_ms;
        if written.is_ready() {
            stalled.store(0, Ordering::Relaxed);
        } else if stalled.load(Ordering::Relaxed) == 0 {
            stalled.store(self.exchange.now_ms() + 1, Ordering::Relaxed);
        }
        written
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buffer);
        let bytes = buffer.filled().get(before..).unwrap_or_default();
        // Line ends between two requests are none (RFC 9112, section 2.2).
        if matches!(read, Poll::Ready(Ok(()))) && bytes.iter().any(|byte| !matches!(byte, b'\r' | b'\n')) {
            if self.exchange.is(IDLE) {
                self.exchange.enter(HEAD);
            }
            self.exchange.has_begun.store(true, Ordering::Relaxed);
            if self.exchange.is(HEAD) && bytes.starts_with(b"PRI * HTTP/2") {
                self.exchange.is_http2.store(true, Ordering::Relaxed);
            }
        }
        read
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_own_answer(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.written(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_own_answer(parts.first().map_or(&[], |part| part)) {
            return Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum()));
        }
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, parts);
        self.written(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        if flushed.is_ready() {
            self.exchange.unflushed.store(false, Ordering::Relaxed);
        }
        self.written(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

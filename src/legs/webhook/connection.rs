//! One connection of the webhook listener: TLS, requests one after the other, and an end that the peer can read.

use super::handler::Handler;
use super::slot::Slot;
use crate::config;
use crate::labels::WebhookCode;
use crate::telemetry::Metrics;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// The least that hyper takes as a bound on its read buffer.
const BUFFER_BYTES_MIN: usize = 8192;

/// A head of up to this many times `webhook.header_bytes_max` is read, so that it gets an answer with a body; what
/// is larger still is answered a bare 431 by hyper.
const HEAD_SLACK: usize = 2;

/// When the relay stops, a connection without a request gets this long to take its last answer.
const FLUSH_WAIT: Duration = Duration::from_millis(500);

/// After the last answer, what the peer still sends is read and dropped for this long, so that closing does not
/// reset the connection and take the answer away (RFC 9112, section 9.6) ...
const LINGER: Duration = Duration::from_secs(2);

/// ... and up to this many bytes; whoever sends more does not read.
const LINGER_BYTES_MAX: usize = 4 << 20;

/// A connection takes no further request after this long, so that a peer who never reads its answers holds a place for
/// so long at most. A peer in good faith reconnects within milliseconds.
const LIFE_MAX: Duration = Duration::from_secs(300);

/// What all connections share.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) handler: Arc<Handler>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) limits: Arc<config::Webhook>,
    pub(super) stop: CancellationToken,
}

impl Shared {
    /// Serves one connection to its end. To cut it is to abort the task.
    pub(super) async fn serve(
        self,
        socket: TcpStream,
        tls: Option<Arc<rustls::ServerConfig>>,
        peer: IpAddr,
        slot: Slot,
    ) {
        // An answer must not wait for company; a socket that refuses the option works without it.
        let _ = socket.set_nodelay(true);
        let slot = Arc::new(slot);
        let Some(tls) = tls else { return self.requests(socket, peer, slot).await };
        let handshake = timeout(self.limits.body_timeout, TlsAcceptor::from(tls).accept(socket));
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {}
            shaken = handshake => match shaken {
                Ok(Ok(stream)) => self.requests(stream, peer, slot).await,
                Ok(Err(error)) => tracing::debug!(%peer, %error, "webhook TLS handshake failed"),
                Err(_) => tracing::debug!(%peer, "webhook TLS handshake took too long"),
            }
        }
    }

    async fn requests<I>(&self, io: I, peer: IpAddr, slot: Arc<Slot>)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let open = Arc::new(AtomicUsize::new(0));
        let service = service_fn(|request| {
            let request = Open::new(&open, request);
            let (handler, slot) = (Arc::clone(&self.handler), Arc::clone(&slot));
            Box::pin(async move {
                let Open { request, count: _count } = request;
                let answer = handler.answer(peer, request, &slot).await;
                slot.answered();
                Ok::<_, Infallible>(answer.into_response())
            })
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.limits.body_timeout)
            .max_buf_size(self.limits.header_bytes_max.saturating_mul(HEAD_SLACK).max(BUFFER_BYTES_MIN));
        let mut connection = http.serve_connection(TokioIo::new(io), service);
        // A set of one: what is in a set is polled when it is woken, and not at each event of the connection.
        let mut last_request: FuturesUnordered<_> = [self.last_request()].into_iter().collect();
        let ended = tokio::select! {
            biased;
            ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => ended,
            Some(stopping) = last_request.next() => {
                // By its full name: the macro brings its own, which an import would meet.
                std::pin::Pin::new(&mut connection).graceful_shutdown();
                let patience = match stopping {
                    // The rest of a body, its outcome, and the way of the answer.
                    false => self.limits.body_timeout.saturating_mul(2).saturating_add(self.limits.answer_within),
                    // Who has not sent a request yet can ask elsewhere.
                    true if open.load(Ordering::Relaxed) == 0 => FLUSH_WAIT,
                    // A request that is inside gets its outcome; `Listening::serve` bounds the drain.
                    true => Duration::MAX,
                };
                let last = timeout(patience, poll_fn(|cx| connection.poll_without_shutdown(cx))).await;
                last.unwrap_or(Ok(()))
            }
        };
        if ended.is_err_and(|error| error.is_parse_too_large()) {
            // Answered by hyper itself, before there was a request.
            self.metrics.webhook_response(WebhookCode::HeadersTooLarge);
        }
        // hyper may have answered by itself.
        slot.answered();
        linger(connection.into_parts().io.into_inner(), &self.stop).await;
    }
}

impl Shared {
    /// Waits until no further request is taken: true because the relay stops, false after [`LIFE_MAX`].
    async fn last_request(&self) -> bool {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => true,
            () = tokio::time::sleep(LIFE_MAX) => false,
        }
    }
}

/// A request that has not been answered, counted as long as it lives.
struct Open<R> {
    request: R,
    count: Count,
}

struct Count(Arc<AtomicUsize>);

impl<R> Open<R> {
    fn new(open: &Arc<AtomicUsize>, request: R) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self { request, count: Count(Arc::clone(open)) }
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Closes our side, then drops what the peer still sends until it closes too.
async fn linger<I: AsyncRead + AsyncWrite + Unpin>(mut io: I, stop: &CancellationToken) {
    let farewell = async {
        io.shutdown().await?;
        let (mut dropped, mut buffer) = (0, [0; 4096]);
        while dropped < LINGER_BYTES_MAX {
            match io.read(&mut buffer).await? {
                0 => break,
                read => dropped += read,
            }
        }
        Ok::<_, std::io::Error>(())
    };
    tokio::select! {
        biased;
        // An error means that the peer is gone, which is what this waits for.
        _ = timeout(LINGER, farewell) => {}
        () = stop.cancelled() => {}
    }
}

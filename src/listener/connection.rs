//! One connection: TLS, requests one after the other, and an end that the peer can read.

use super::exchange::{Exchange, Watched};
use super::slot::Slot;
use super::{Limits, Observer, Refusal, Service};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use hyper::body::{Body, Frame, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// The least that hyper takes as a bound on its read buffer.
const BUFFER_BYTES_MIN: usize = 8192;

/// A head of up to this many times the limit is read, so that it is known which request is too large.
const HEAD_SLACK: usize = 2;

/// When the relay stops, a connection without a request gets this long to send the one that is on its way, to end its
/// handshake, or to take its last answer.
const FLUSH_WAIT: Duration = Duration::from_millis(500);

/// After the last answer, what the peer still sends is read and dropped for this long, so that closing does not
/// reset the connection and take the answer away (RFC 9112, section 9.6) ...
const LINGER: Duration = Duration::from_secs(2);

/// ... and up to this many bytes; a peer that sends more does not read.
const LINGER_BYTES_MAX: usize = 4 << 20;

/// What all connections of a listener share.
#[derive(Debug)]
pub(super) struct Shared<S> {
    pub(super) service: Arc<S>,
    pub(super) limits: Limits,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) stop: CancellationToken,
}

/// Why no further request is taken.
enum Last {
    Stopping,
    Old,
    Overdue,
}

impl<S: Service> Shared<S> {
    /// Serves one connection to its end. To cut it is to abort the task.
    pub(super) async fn serve(
        self: Arc<Self>,
        socket: TcpStream,
        tls: Option<Arc<rustls::ServerConfig>>,
        peer: IpAddr,
        slot: Slot,
    ) {
        // An answer must not wait for company; a socket that refuses the option works without it.
        let _ = socket.set_nodelay(true);
        let slot = Arc::new(slot);
        let Some(tls) = tls else { return self.requests(socket, peer, slot).await };
        let handshake = timeout(self.limits.head_within, TlsAcceptor::from(tls).accept(socket));
        let stopped = async {
            self.stop.cancelled().await;
            sleep(FLUSH_WAIT).await;
        };
        tokio::select! {
            biased;
            () = stopped => {}
            shaken = handshake => match shaken {
                Ok(Ok(stream)) => self.requests(stream, peer, slot).await,
                // A peer that goes without a word is a health check, or has thought better of it.
                Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {}
                Ok(Err(error)) => self.observer.refused(peer, Refusal::Tls, &error),
                Err(elapsed) => self.observer.refused(peer, Refusal::Tls, &elapsed),
            }
        }
    }

    async fn requests<I>(&self, io: I, peer: IpAddr, slot: Arc<Slot>)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let exchange = Arc::new(Exchange::new());
        let service = service_fn(|request| {
            exchange.request();
            let service = Arc::clone(&self.service);
            let slot = Arc::clone(&slot);
            let held = Held { slot: Arc::clone(&slot), exchange: Arc::clone(&exchange) };
            Box::pin(async move {
                let response = service.answer(peer, request, &slot).await;
                Ok::<_, Infallible>(response.map(|body| HeldBody { body, _held: held }))
            })
        });
        let mut http = http1::Builder::new();
        let buffer_bytes = self.limits.header_bytes_max.saturating_mul(HEAD_SLACK).max(BUFFER_BYTES_MIN);
        // A sender that has sent everything may close its side; its answer goes the other way.
        http.half_close(true).max_buf_size(buffer_bytes);
        let mut connection = http.serve_connection(TokioIo::new(Watched::new(io, Arc::clone(&exchange))), service);
        // A set of one: what is in a set is polled when it is woken, and not at each event of the connection.
        let mut last_request: FuturesUnordered<_> = [self.last_request(&exchange)].into_iter().collect();
        let mut head_told = 0;
        let ended = tokio::select! {
            biased;
            ended = poll_fn(|cx| {
                let polled = connection.poll_without_shutdown(cx);
                // A head that came in one piece is a request by now.
                if polled.is_pending() && exchange.is_in_head() && head_told != exchange.requests() {
                    head_told = exchange.requests();
                    slot.unfinished(0);
                }
                polled
            }) => ended,
            Some(last) = last_request.next() => {
                let mut ended = None;
                if matches!(last, Last::Stopping) && !exchange.is_open() {
                    // What is on its way is still taken: to close now would lose it without an answer.
                    let before = exchange.requests();
                    let next = poll_fn(|cx| match connection.poll_without_shutdown(cx) {
                        Poll::Pending if exchange.requests() == before => Poll::Pending,
                        Poll::Pending => Poll::Ready(None),
                        Poll::Ready(ended) => Poll::Ready(Some(ended)),
                    });
                    ended = timeout(FLUSH_WAIT, next).await.ok().flatten();
                }
                if matches!(last, Last::Overdue) && exchange.is_unfinished() {
                    self.observer.refused(peer, Refusal::HeadTooSlow, &"its head does not end");
                }
                let wait = match last {
                    // Nothing more comes of it.
                    Last::Overdue => Duration::ZERO,
                    // The rest of a body, its outcome, and the way of the answer.
                    Last::Old => self.limits.head_within.saturating_mul(2).saturating_add(self.limits.answer_within),
                    // A request that is inside gets its outcome; `super::serve` bounds the drain.
                    Last::Stopping if exchange.is_open() => Duration::MAX,
                    Last::Stopping => FLUSH_WAIT,
                };
                match ended {
                    Some(ended) => ended,
                    None if wait.is_zero() => Ok(()),
                    None => {
                        // By its full name: the macro brings its own, which an import would meet.
                        std::pin::Pin::new(&mut connection).graceful_shutdown();
                        let last = timeout(wait, poll_fn(|cx| connection.poll_without_shutdown(cx))).await;
                        last.unwrap_or(Ok(()))
                    }
                }
            }
        };
        drop(last_request);
        let mut io = connection.into_parts().io.into_inner().into_inner();
        if let Err(error) = ended {
            self.refused(&mut io, peer, &exchange, &error).await;
        }
        // It may be cut while it lingers.
        slot.answered();
        linger(io, &self.stop).await;
    }

    /// Answers a peer whose head is none, and reports it to the observer.
    async fn refused<I: AsyncWrite + Unpin>(
        &self,
        io: &mut I,
        peer: IpAddr,
        exchange: &Exchange,
        error: &hyper::Error,
    ) {
        let refusal = if exchange.is_http2() {
            Refusal::Http2
        } else if exchange.own_status().is_some_and(|status| matches!(status, 414 | 431)) {
            Refusal::HeadTooLarge
        } else if exchange.own_status().is_some() {
            Refusal::Malformed
        } else {
            // The peer went in the middle of a request.
            return;
        };
        self.observer.refused(peer, refusal, error);
        if let Some((status, answer)) = refusal.answer() {
            self.observer.answered(status);
            // A peer that is gone needs none.
            let _ = timeout(FLUSH_WAIT, async {
                io.write_all(answer.as_bytes()).await?;
                io.flush().await
            })
            .await;
        }
    }

    /// Waits until no further request is taken.
    async fn last_request(&self, exchange: &Exchange) -> Last {
        let Limits { head_within, idle_within, life_max, .. } = self.limits;
        let began = Instant::now();
        let mut stopped = pin!(self.stop.cancelled());
        loop {
            let Some(next) = exchange.may_go_on(head_within, idle_within) else { return Last::Overdue };
            let life = life_max.map_or(Duration::MAX, |life_max| life_max.saturating_sub(began.elapsed()));
            if life.is_zero() {
                return Last::Old;
            }
            tokio::select! {
                biased;
                () = &mut stopped => return Last::Stopping,
                () = sleep(next.min(life)) => {}
            }
        }
    }
}

/// A request from its head to the end of its answer.
struct Held {
    slot: Arc<Slot>,
    exchange: Arc<Exchange>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.slot.answered();
        self.exchange.answered();
    }
}

/// The body of an answer; once it is gone, the connection is between two requests.
struct HeldBody<B> {
    body: B,
    _held: Held,
}

impl<B: Body<Data = Bytes> + Unpin> Body for HeldBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Closes our side, then drops what the peer still sends until it closes too.
async fn linger<I: AsyncRead + AsyncWrite + Unpin>(mut io: I, stop: &CancellationToken) {
    let farewell = async {
        io.shutdown().await?;
        let mut dropped = 0;
        let mut buffer = [0; 4096];
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

//! How a connection ends: what the cause was, and what the peer is sent.

use super::Ended;
use crate::legs::websocket::reconnect::End;
use crate::text::foreign;
use futures::{SinkExt, StreamExt};
use std::ops::ControlFlow;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// How long the peer may take to answer a close frame; then the connection is dropped.
pub(super) const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// How a connection finished.
#[derive(Debug)]
pub(super) enum Finished {
    /// The leg is to stop.
    Stopped,
    /// The connection ended, and the leg goes on.
    Ended(Ended),
}

/// Closes as the end asks for; nothing of it is needed for correctness.
pub(super) async fn close<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut WebSocketStream<S>, finished: &Finished) {
    let (code, reason) = match finished {
        Finished::Stopped => (CloseCode::Away, "relay stopping"),
        Finished::Ended(Ended { end: End::TooLarge, .. }) => (CloseCode::Size, "frame over the limit"),
        Finished::Ended(Ended { end: End::Protocol, .. }) => (CloseCode::Protocol, ""),
        Finished::Ended(Ended { end: End::StreamError(_), .. }) => (CloseCode::Normal, ""),
        Finished::Ended(Ended { end: End::Close(_), .. }) => {
            // The library has queued the answer to the peer's close frame; a peer that is gone needs none.
            let _ = timeout(CLOSE_WAIT, stream.flush()).await;
            return;
        }
        // Nobody is there to receive it, or the goodbyes were exchanged.
        Finished::Ended(_) => return,
    };
    say_goodbye(stream, code, reason).await;
}

/// Sends a close frame and waits a moment for the peer's; what it still sends is left to the event log.
pub(super) async fn say_goodbye<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut WebSocketStream<S>,
    code: CloseCode,
    reason: &'static str,
) {
    let goodbye = async {
        // A connection that the peer closed first is answered by the library; then this is refused, which is fine.
        let _ = stream.close(Some(CloseFrame { code, reason: reason.into() })).await;
        while let Some(Ok(_)) = stream.next().await {}
    };
    // Whether or not the peer kept up, the connection is dropped next.
    let _ = timeout(CLOSE_WAIT, goodbye).await;
}

/// It ended so, with a word about it.
pub(super) fn broken(end: End, detail: impl std::fmt::Display) -> ControlFlow<Finished> {
    ControlFlow::Break(Finished::Ended(Ended::new(end, detail)))
}

/// The end that an error of the library means.
pub(super) fn ended_by(error: Error) -> Ended {
    let end = match &error {
        Error::ConnectionClosed | Error::AlreadyClosed => End::Close(None),
        Error::Capacity(_) => End::TooLarge,
        Error::Io(_) | Error::Tls(_) | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => End::Reset,
        // No text that is no UTF-8: `headers` lets the library see none.
        _ => End::Protocol,
    };
    Ended::new(end, foreign(&error.to_string()))
}

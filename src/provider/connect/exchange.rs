//! One request on a connection of its own that asks to switch to another protocol: an upgrade, or CONNECT.

use super::Link;
use bytes::{Bytes, BytesMut};
use http::response::Parts;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

/// The largest refusal that is read; it holds a code and a sentence.
const REFUSAL_BYTES_MAX: usize = 64 << 10;

/// How long a refusal's body may take after its head; then what came counts.
const REFUSAL_WITHIN: Duration = Duration::from_secs(3);

/// The largest head of an answer.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// What a request to switch was answered.
#[derive(Debug)]
pub enum Answered {
    /// The connection is ours from here on.
    Switched {
        /// The answer's head.
        head: Parts,
        /// The connection.
        link: Link,
        /// Bytes of the new protocol that came with the head.
        ahead: Bytes,
    },
    /// It was not.
    Refused {
        /// The answer's head.
        head: Parts,
        /// Its body, or as much of it as came in time and fits.
        body: Bytes,
    },
}

/// Sends `request` and reads its answer; interim ones (1xx other than 101) are passed over, redirects not followed.
///
/// The time until the answer is the caller's to bound.
///
/// # Errors
///
/// The answer is no HTTP, or there is none.
pub async fn ask_to_switch(link: Link, request: Request<Empty<Bytes>>) -> hyper::Result<Answered> {
    let (mut sender, connection) = http1::Builder::new()
        .title_case_headers(true)
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(link))
        .await?;
    // Ends with the connection, or when this is dropped.
    let _driver = AbortOnDropHandle::new(tokio::spawn(async move {
        // Its error is the request's too.
        let _ = connection.with_upgrades().await;
    }));
    let connects = request.method() == Method::CONNECT;
    let mut answer = sender.send_request(request).await?;
    let upgrade = hyper::upgrade::on(&mut answer);
    let (head, body) = answer.into_parts();
    let switches = head.status == StatusCode::SWITCHING_PROTOCOLS || (connects && head.status.is_success());
    if !switches {
        return Ok(Answered::Refused { head, body: read(body).await });
    }
    match upgrade.await?.downcast::<TokioIo<Link>>() {
        Ok(parts) => Ok(Answered::Switched { head, link: parts.io.into_inner(), ahead: parts.read_buf }),
        // hyper hands back what it was given.
        Err(_) => Ok(Answered::Refused { head, body: Bytes::new() }),
    }
}

/// As much of a body as comes in time and fits; that it breaks off changes nothing.
async fn read(mut body: Incoming) -> Bytes {
    let mut text = BytesMut::new();
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            let Ok(data) = frame.into_data() else { continue };
            let room = REFUSAL_BYTES_MAX - text.len();
            text.extend_from_slice(&data[..data.len().min(room)]);
            if text.len() == REFUSAL_BYTES_MAX {
                return;
            }
        }
    };
    let _in_time = timeout(REFUSAL_WITHIN, reading).await;
    text.freeze()
}

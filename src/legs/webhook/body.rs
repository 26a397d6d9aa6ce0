//! From bytes of a stranger to bytes of the provider: read within limits, then verified.
//!
//! [`Unverified`] and [`Verified`] are two types, and the second is made only by a right signature.

use super::answer::Answer;
use crate::listener::{Share, Slot};
use crate::provider::signature::{self, Refusal};
use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use hyper::HeaderMap;
use hyper::body::{Body, Incoming};
use secrecy::{ExposeSecret, SecretString};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::time::Duration;
use tokio::time::timeout;

/// A body whose sender nobody has checked.
#[derive(Debug)]
pub(super) struct Unverified {
    bytes: Bytes,
    /// Its share of the budget, given back when it is verified or dropped.
    _share: Option<Share>,
}

/// A body that a holder of a webhook secret signed, recently.
#[derive(Debug)]
pub(super) struct Verified(Bytes);

impl Unverified {
    /// Reads a whole body: at most `bytes_max` bytes, within `within`, as far as the budget reaches.
    pub(super) async fn read(body: Incoming, bytes_max: usize, within: Duration, slot: &Slot) -> Result<Self, Answer> {
        // What `Content-Length` announces, refused before a byte of it is read.
        if body.size_hint().lower() > bytes_max as u64 {
            return Err(Answer::BodyTooLarge);
        }
        let mut all = pin!(Self::collect(body, bytes_max, slot));
        // Most bodies come with their heads: for them there is no wait to bound, and no time at which they are unfinished.
        if let Some(done) = all.as_mut().now_or_never() {
            return done;
        }
        timeout(within, all).await.unwrap_or(Err(Answer::BodyTimeout))
    }

    async fn collect(mut body: Incoming, bytes_max: usize, slot: &Slot) -> Result<Self, Answer> {
        let mut bytes = BytesMut::new();
        let mut share: Option<Share> = None;
        loop {
            let mut next = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
            let frame = match (&mut next).now_or_never() {
                Some(frame) => frame,
                None => {
                    // From now on it is the peer that is waited for.
                    slot.unfinished(bytes.len());
                    next.await
                }
            };
            let Some(frame) = frame else { break };
            // Trailers are no data, and nothing reads them.
            let Ok(chunk) = frame.map_err(|_| Answer::IncompleteBody)?.into_data() else { continue };
            if bytes.len() + chunk.len() > bytes_max {
                return Err(Answer::BodyTooLarge);
            }
            let more = match slot.try_take(chunk.len()) {
                Some(more) => more,
                None => slot.take(chunk.len(), bytes.len()).await.ok_or(Answer::Overloaded)?,
            };
            match &mut share {
                Some(share) => share.merge(more),
                None => share = Some(more),
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Self { bytes: bytes.freeze(), _share: share })
    }

    /// Checks signature, then time; the budget gets its share back either way.
    ///
    /// The time is the provider's, so it may agree with either clock, ours or the provider's where that is known: a
    /// step of ours refuses nobody.
    pub(super) fn verify(
        self,
        headers: &HeaderMap,
        secrets: &[SecretString],
        (now_ms, provider_ms): (i64, Option<i64>),
        tolerance: Duration,
    ) -> Result<Verified, Refusal> {
        let claimed = claimed(headers);
        let secrets = secrets.iter().map(|secret| secret.expose_secret().as_bytes());
        let verified = |ms| signature::verify(claimed, &self.bytes, secrets.clone(), ms, tolerance);
        verified(now_ms).or_else(|refusal| match provider_ms {
            Some(provider_ms) if refusal == Refusal::TimestampOutOfRange => verified(provider_ms),
            _ => Err(refusal),
        })?;
        Ok(Verified(self.bytes))
    }
}

/// The headers that a signature is read from.
pub(super) fn claimed(headers: &HeaderMap) -> signature::Headers<'_> {
    let header = |name| headers.get(name).map(|value| value.as_bytes());
    signature::Headers {
        timestamp: header(signature::TIMESTAMP),
        signature: header(signature::SIGNATURE),
        previous: header(signature::SIGNATURE_PREVIOUS),
    }
}

impl Verified {
    pub(super) fn into_bytes(self) -> Bytes {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    const PROVIDER_MS: i64 = 1_768_480_000_000;

    #[test]
    fn the_providers_time_is_right_by_either_clock() {
        let secrets = [SecretString::from("secret")];
        let verified = |now_ms, provider_ms| {
            let mut headers = HeaderMap::new();
            let text = PROVIDER_MS.to_string();
            for (name, value) in [
                (signature::TIMESTAMP, text.clone()),
                (signature::SIGNATURE, signature::sign(b"secret", &text, b"body")),
            ] {
                headers.insert(name, HeaderValue::from_str(&value).unwrap_or(HeaderValue::from_static("")));
            }
            let body = Unverified { bytes: Bytes::from_static(b"body"), _share: None };
            body.verify(&headers, &secrets, (now_ms, provider_ms), Duration::from_secs(300)).map(|_| ())
        };
        let hour = 3_600_000;
        assert_eq!(verified(PROVIDER_MS, None), Ok(()));
        assert_eq!(verified(PROVIDER_MS, Some(PROVIDER_MS - hour)), Ok(()));
        for ours_ms in [PROVIDER_MS - hour, PROVIDER_MS + hour] {
            assert_eq!(verified(ours_ms, Some(PROVIDER_MS)), Ok(()));
            assert_eq!(verified(ours_ms, None), Err(Refusal::TimestampOutOfRange));
            assert_eq!(verified(ours_ms, Some(ours_ms)), Err(Refusal::TimestampOutOfRange));
        }
    }
}

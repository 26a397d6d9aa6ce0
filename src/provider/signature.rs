//! Webhook signatures: HMAC-SHA256 over `timestamp "." body` (`api-spec/webhooks-authentication`).

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::time::Duration;

/// Hex signature of the current secret.
pub const SIGNATURE: &str = "x-pepay-signature";
/// Hex signature of the previous secret, sent only during a rotation.
pub const SIGNATURE_PREVIOUS: &str = "x-pepay-signature-previous";
/// Signing time in Unix milliseconds, as text; the text itself is signed.
pub const TIMESTAMP: &str = "x-pepay-timestamp";
/// Event type, unsigned: informative only.
pub const EVENT: &str = "x-pepay-event";
/// Event id, unsigned: informative only.
pub const EVENT_ID: &str = "x-pepay-event-id";
/// `devnet` or `mainnet`, unsigned: informative only.
pub const ENVIRONMENT: &str = "x-pepay-network-environment";

/// Why a webhook is refused; `Display` is the code that the answer carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No configured secret made any of the signature headers, or a header is missing or malformed.
    #[error("invalid_signature")]
    InvalidSignature,
    /// The signature is right, but its time is further than the tolerance from now.
    #[error("timestamp_out_of_range")]
    TimestampOutOfRange,
}

/// The headers that a verification reads, as they came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a> {
    /// Value of [`TIMESTAMP`].
    pub timestamp: Option<&'a [u8]>,
    /// Value of [`SIGNATURE`].
    pub signature: Option<&'a [u8]>,
    /// Value of [`SIGNATURE_PREVIOUS`].
    pub previous: Option<&'a [u8]>,
}

impl Headers<'_> {
    /// Whether a timestamp is there and one of the signatures is 64 hex digits: where not, no body can be genuine. Its
    /// sender knows it too, so that an early answer teaches a forger nothing.
    pub fn are_well_formed(&self) -> bool {
        let is_signature = |header: Option<&[u8]>| header.and_then(decode_hex).is_some();
        self.timestamp.is_some() && (is_signature(self.signature) || is_signature(self.previous))
    }
}

/// Hex signature of `body` at `timestamp` (Unix milliseconds as text) with `secret`.
pub fn sign(secret: &[u8], timestamp: &str, body: &[u8]) -> String {
    let tag = mac(secret, timestamp.as_bytes(), body).finalize().into_bytes();
    tag.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Accepts when either signature header matches any of `secrets`, and then when the time is within `tolerance`.
///
/// The signature is checked first and in constant time, so that a forger learns nothing from the order of the
/// checks. The bound is inclusive, as in the provider's own sample. An empty secret never matches: everybody knows it.
pub fn verify<'s>(
    headers: Headers<'_>,
    body: &[u8],
    secrets: impl IntoIterator<Item = &'s [u8]>,
    now_ms: i64,
    tolerance: Duration,
) -> Result<(), Refusal> {
    let timestamp = headers.timestamp.ok_or(Refusal::InvalidSignature)?;
    let claimed = [headers.signature, headers.previous].map(|header| header.and_then(decode_hex));
    let mut genuine = false;
    for secret in secrets.into_iter().filter(|secret| !secret.is_empty()) {
        let mac = mac(secret, timestamp, body);
        for tag in claimed.iter().flatten() {
            genuine |= mac.clone().verify_slice(tag).is_ok();
        }
    }
    if !genuine {
        return Err(Refusal::InvalidSignature);
    }
    let signed_at = std::str::from_utf8(timestamp)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse::<i64>().ok())
        .ok_or(Refusal::InvalidSignature)?;
    if u128::from(now_ms.abs_diff(signed_at)) > tolerance.as_millis() {
        return Err(Refusal::TimestampOutOfRange);
    }
    Ok(())
}

fn mac(secret: &[u8], timestamp: &[u8], body: &[u8]) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length (RFC 2104, section 3)")]
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("any key length");
    mac.update(timestamp);
    mac.update(b".");
    mac.update(body);
    mac
}

/// 32 bytes from 64 hex digits of either case; anything else is no signature.
fn decode_hex(text: &[u8]) -> Option<[u8; 32]> {
    if text.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_700_000_000_000;
    const TOLERANCE: Duration = Duration::from_secs(300);

    fn check(timestamp: &str, signature: &str, secrets: &[&[u8]]) -> Result<(), Refusal> {
        let headers =
            Headers { timestamp: Some(timestamp.as_bytes()), signature: Some(signature.as_bytes()), previous: None };
        let verdict = verify(headers, b"body", secrets.iter().copied(), NOW_MS, TOLERANCE);
        // The other header counts as much.
        let headers = Headers { signature: None, previous: headers.signature, ..headers };
        assert_eq!(verify(headers, b"body", secrets.iter().copied(), NOW_MS, TOLERANCE), verdict);
        verdict
    }

    #[test]
    fn a_signature_is_hmac_sha256_in_hex() {
        // Made with `printf 1700000000000.body | openssl dgst -sha256 -hmac key`.
        let expected = "b48b10b9cfe54095a927ac5944b840af462062d55ceb50acffcb4eaf96674efa";
        assert_eq!(sign(b"key", "1700000000000", b"body"), expected);
    }

    #[test]
    fn any_secret_and_either_case_will_do() {
        let signature = sign(b"old", "1700000000000", b"body");
        assert_eq!(check("1700000000000", &signature, &[b"new", b"old"]), Ok(()));
        assert_eq!(check("1700000000000", &signature.to_uppercase(), &[b"old"]), Ok(()));
        assert_eq!(check("1700000000000", &signature, &[b"new"]), Err(Refusal::InvalidSignature));
        assert_eq!(check("1700000000000", &signature, &[]), Err(Refusal::InvalidSignature));
    }

    #[test]
    fn an_empty_secret_never_matches() {
        let signature = sign(b"", "1700000000000", b"body");
        assert_eq!(check("1700000000000", &signature, &[b""]), Err(Refusal::InvalidSignature));
    }

    #[test]
    fn malformed_signatures_are_refused() {
        let signature = sign(b"key", "1700000000000", b"body");
        for wrong in
            ["", "00", &signature[..63], &format!("{signature}0"), &signature.replace(['a', 'b'], "g"), &"é".repeat(32)]
        {
            assert_eq!(check("1700000000000", wrong, &[b"key"]), Err(Refusal::InvalidSignature), "{wrong}");
        }
        let missing = Headers { timestamp: None, signature: Some(signature.as_bytes()), previous: None };
        assert_eq!(verify(missing, b"body", [&b"key"[..]], NOW_MS, TOLERANCE), Err(Refusal::InvalidSignature));
    }

    #[test]
    fn the_time_is_checked_after_the_signature() {
        let at = |timestamp: &str| check(timestamp, &sign(b"key", timestamp, b"body"), &[b"key"]);
        assert_eq!(at("1700000300000"), Ok(()));
        assert_eq!(at("1699999700000"), Ok(()));
        assert_eq!(at("1700000300001"), Err(Refusal::TimestampOutOfRange));
        assert_eq!(at("1699999699999"), Err(Refusal::TimestampOutOfRange));
        assert_eq!(at("9223372036854775807"), Err(Refusal::TimestampOutOfRange));
        for no_time in ["", "-1", "+1700000000000", "1.7e12", "now", "9223372036854775808", " 1700000000000"] {
            assert_eq!(at(no_time), Err(Refusal::InvalidSignature), "{no_time}");
        }
        assert_eq!(check("0", "00", &[b"key"]), Err(Refusal::InvalidSignature));
    }
}

//! Signed webhooks against a second reading of the provider's rule: HMAC from RFC 2104 with nothing but SHA-256.

#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use pepay_relay::provider::signature::{Headers, Refusal, sign, verify};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::time::Duration;

/// When it is, in Unix milliseconds.
const NOW_MS: i64 = 1_700_000_000_000;

/// SHA-256 works on blocks of this many bytes, and HMAC with it (RFC 2104, section 2; FIPS 180-4, section 1).
const BLOCK_BYTES: usize = 64;

/// A webhook, signed or nearly so.
#[derive(Arbitrary, Debug)]
struct Case<'a> {
    secrets: Vec<&'a [u8]>,
    timestamp: Option<Timestamp<'a>>,
    signature: Option<Tag<'a>>,
    previous: Option<Tag<'a>>,
    tolerance_ms: u32,
    body: &'a [u8],
}

#[derive(Arbitrary, Debug)]
enum Timestamp<'a> {
    /// This many milliseconds from now.
    Near(i32),
    Number(i64),
    Bytes(&'a [u8]),
}

#[derive(Arbitrary, Debug)]
enum Tag<'a> {
    /// What the rule gives for this secret of the list, with bits flipped in one place, in upper case or not.
    Made {
        secret: u8,
        place: u8,
        flip: u8,
        upper: bool,
    },
    /// What the product signs with the secret.
    Signed(u8),
    Bytes(&'a [u8]),
}

libfuzzer_sys::fuzz_target!(init: judge_vectors(), |case: Case<'_>| {
    let timestamp = case.timestamp.as_ref().map(|timestamp| match timestamp {
        Timestamp::Near(ms) => (NOW_MS + i64::from(*ms)).to_string().into_bytes(),
        Timestamp::Number(ms) => ms.to_string().into_bytes(),
        Timestamp::Bytes(bytes) => bytes.to_vec(),
    });
    let stamp = timestamp.as_deref().unwrap_or_default();
    let secret = |index: u8| case.secrets.get(usize::from(index) % case.secrets.len().max(1)).copied().unwrap_or(b"");
    let tag = |tag: &Tag<'_>| match tag {
        Tag::Made { secret: index, place, flip, upper } => {
            let mut text = hex(&hmac(secret(*index), stamp, case.body)).into_bytes();
            let place = usize::from(*place) % text.len();
            text[place] ^= flip;
            if *upper { text.to_ascii_uppercase() } else { text }
        }
        Tag::Signed(index) => match std::str::from_utf8(stamp) {
            Ok(stamp) => sign(secret(*index), stamp, case.body).into_bytes(),
            Err(_) => Vec::new(),
        },
        Tag::Bytes(bytes) => bytes.to_vec(),
    };
    let signature = case.signature.as_ref().map(tag);
    let previous = case.previous.as_ref().map(tag);
    let headers = Headers {
        timestamp: timestamp.as_deref(),
        signature: signature.as_deref(),
        previous: previous.as_deref(),
    };
    let tolerance = Duration::from_millis(case.tolerance_ms.into());
    let verdict = verify(headers, case.body, case.secrets.iter().copied(), NOW_MS, tolerance);
    assert_eq!(verdict, rule(headers, case.body, &case.secrets, NOW_MS, tolerance));
});

/// The rule (`api-spec/webhooks-authentication`), read without regard to time or speed.
fn rule(headers: Headers<'_>, body: &[u8], secrets: &[&[u8]], now_ms: i64, tolerance: Duration) -> Result<(), Refusal> {
    let stamp = headers.timestamp.ok_or(Refusal::InvalidSignature)?;
    let claimed = [headers.signature, headers.previous];
    let claimed: Vec<_> = claimed.into_iter().flatten().map(<[u8]>::to_ascii_lowercase).collect();
    let genuine =
        |secret: &&[u8]| !secret.is_empty() && claimed.contains(&hex(&hmac(secret, stamp, body)).into_bytes());
    if !secrets.iter().any(genuine) {
        return Err(Refusal::InvalidSignature);
    }
    if stamp.is_empty() || !stamp.iter().all(u8::is_ascii_digit) {
        return Err(Refusal::InvalidSignature);
    }
    let digits = stamp.iter().skip_while(|digit| **digit == b'0').count();
    if digits > 19 {
        return Err(Refusal::InvalidSignature);
    }
    let ms = stamp.iter().fold(0_i128, |number, digit| number * 10 + i128::from(digit - b'0'));
    if ms > i128::from(i64::MAX) {
        return Err(Refusal::InvalidSignature);
    }
    let apart = (i128::from(now_ms) - ms).unsigned_abs();
    if apart > tolerance.as_millis() { Err(Refusal::TimestampOutOfRange) } else { Ok(()) }
}

fn hmac(secret: &[u8], stamp: &[u8], body: &[u8]) -> [u8; 32] {
    let mut key = [0; BLOCK_BYTES];
    if secret.len() > BLOCK_BYTES {
        key[..32].copy_from_slice(&Sha256::digest(secret));
    } else {
        key[..secret.len()].copy_from_slice(secret);
    }
    let inner = Sha256::digest([&key.map(|byte| byte ^ 0x36), stamp, b".", body].concat());
    Sha256::digest([&key.map(|byte| byte ^ 0x5c)[..], &inner].concat()).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The second reading is right itself: it agrees with each of the known answers.
fn judge_vectors() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/webhook");
    let read = |name: &str| std::fs::read(folder.join(name)).expect("a fixture");
    let vectors: Value = serde_json::from_slice(&read("vectors.json")).expect("known answers");
    let tolerance = Duration::from_millis(vectors["tolerance_ms"].as_u64().expect("a tolerance"));
    for vector in vectors["vectors"].as_array().expect("a list") {
        let body = read(vector["body_file"].as_str().expect("a body"));
        let header = |name: &str| vector["headers"][name].as_str().map(str::as_bytes);
        let headers = Headers {
            timestamp: header("X-Pepay-Timestamp"),
            signature: header("X-Pepay-Signature"),
            previous: header("X-Pepay-Signature-Previous"),
        };
        let secrets: Vec<_> = vector["secrets"].as_array().expect("a list").iter().collect();
        let secrets: Vec<_> = secrets.iter().map(|secret| secret.as_str().expect("text").as_bytes()).collect();
        let verdict = rule(headers, &body, &secrets, vector["now_ms"].as_i64().expect("a time"), tolerance);
        let verdict = verdict.map_or_else(|refusal| format!("reject {refusal}"), |()| "accept".to_owned());
        assert!(vector["expect"].as_str().is_some_and(|expect| expect.starts_with(&verdict)), "{}", vector["name"]);
    }
}

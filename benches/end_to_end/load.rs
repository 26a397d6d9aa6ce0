//! Prepared load: order events of one size, as frames of the provider's stream and as signed webhooks.

use pepay_relay::clock::now_ms;
use pepay_relay::provider::signature;
use std::ops::Range;

/// An order event as the provider sends it, but for its size.
const EVENT: &str = include_str!("../../tests/fixtures/events/commerce.order.updated.processing.json");

/// Bytes of each event.
pub const EVENT_BYTES: usize = 1_650;

/// Events of one order, one after the other.
pub const EVENTS_AN_ORDER: u64 = 8;

/// After this many new events an earlier one is sent again: a tenth of all deliveries.
const NEW_BEFORE_REPEAT: u64 = 9;

/// How far back the repeated one is.
const REPEAT_BACK: u64 = 5;

/// Where webhooks go.
pub const WEBHOOK_PATH: &str = "/webhooks/pepay";

/// The secret that signs them.
pub const WEBHOOK_SECRET: &str = "a secret of the bench";

/// Makes events: number `n` is the same bytes however often it is asked for, given the same beginning.
pub struct Events {
    /// The event, cut where something of it changes.
    pieces: Vec<String>,
    began_ms: i64,
}

/// Bytes to be written one after the other, and where each of them ends.
#[derive(Default)]
pub struct Prepared {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Events {
    /// Events whose ids are of this moment (Unix milliseconds), as the provider's would be.
    pub fn new(began_ms: i64) -> Self {
        let value: serde_json::Value = serde_json::from_str(EVENT).expect("a fixture");
        let (id, order, hash) =
            (&value["id"], &value["data"]["object"]["orderId"], &value["data"]["object"]["payment"]["txHash"]);
        // The members in the provider's order, without the white space of the file.
        let mut text = EVENT.lines().map(str::trim).collect::<String>().replace("\": ", "\":");
        for (changing, mark) in [(id, "\0i"), (order, "\0o"), (hash, "\0h")] {
            let changing = changing.as_str().expect("text");
            text = text.replace(changing, mark);
        }
        let title = "\"title\":\"";
        let at = text.find(title).expect("an item") + title.len();
        let mut events = Self { pieces: text.split('\0').map(str::to_owned).collect(), began_ms };
        let short = EVENT_BYTES.checked_sub(events.body(0).len()).expect("the fixture is shorter");
        text.insert_str(at, &"A longer title of the same thing ".repeat(8)[..short]);
        events.pieces = text.split('\0').map(str::to_owned).collect();
        events
    }

    /// Events of now.
    pub fn of_now() -> Self {
        Self::new(now_ms())
    }

    /// The beginning that makes the same events again.
    pub fn began_ms(&self) -> i64 {
        self.began_ms
    }

    /// Event number `number`.
    pub fn body(&self, number: u64) -> Vec<u8> {
        let order = mixed(number / EVENTS_AN_ORDER);
        let hash = mixed(!number);
        let mut body = String::with_capacity(EVENT_BYTES);
        for (index, piece) in self.pieces.iter().enumerate() {
            let Some(mark) = piece.chars().next().filter(|_| index > 0) else {
                body.push_str(piece);
                continue;
            };
            match mark {
                // As wide for every number, so that every event has the same size.
                'i' => body.push_str(&format!("evt_{}-{}", self.began_ms, 1_000_000_000 + number)),
                'o' => body.push_str(&format!("{:08x}-3c1e-4f55-9a6e-{:012x}", order >> 32, order & 0xffff_ffff)),
                _ => body.push_str(&format!("0x{hash:016x}{:016x}{:016x}{:016x}", !hash, mixed(hash), order)),
            }
            body.push_str(&piece[1..]);
        }
        body.into_bytes()
    }

    /// The id of an event, found in its bytes.
    pub fn id(body: &[u8]) -> Option<&[u8]> {
        const START: &[u8] = b"\"evt_";
        let at = body.windows(START.len()).position(|window| window == START)? + 1;
        body[at..].split(|byte| *byte == b'"').next()
    }

    /// The number of an event's id.
    pub fn number(id: &[u8]) -> Option<u64> {
        let text = std::str::from_utf8(id).ok()?;
        text.rsplit_once('-')?.1.parse::<u64>().ok()?.checked_sub(1_000_000_000)
    }

    /// Frames of these events; with repeats, a tenth of the frames brings an event once more.
    pub fn frames(&self, numbers: Range<u64>, repeats: bool) -> Prepared {
        let mut prepared = Prepared::default();
        let first = numbers.start;
        for number in numbers {
            prepared.frame(&self.body(number));
            if repeats && (number - first) % NEW_BEFORE_REPEAT == NEW_BEFORE_REPEAT - 1 {
                prepared.frame(&self.body(number - REPEAT_BACK));
            }
        }
        prepared
    }

    /// Webhooks of these events, signed now; the relay takes them for five minutes.
    pub fn webhooks(&self, numbers: Range<u64>) -> Prepared {
        let mut prepared = Prepared::default();
        let timestamp = now_ms().to_string();
        for number in numbers {
            let body = self.body(number);
            let signed = signature::sign(WEBHOOK_SECRET.as_bytes(), &timestamp, &body);
            let head = format!(
                "POST {WEBHOOK_PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                 user-agent: Pepay-Webhooks\r\n{}: {timestamp}\r\n{}: {signed}\r\ncontent-length: {}\r\n\r\n",
                signature::TIMESTAMP,
                signature::SIGNATURE,
                body.len()
            );
            prepared.push(&[head.as_bytes(), &body]);
        }
        prepared
    }
}

impl Prepared {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// All of them.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// One of them.
    pub fn get(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[index]]
    }

    /// A text message of a server: final, unmasked (RFC 6455, section 5.2).
    fn frame(&mut self, body: &[u8]) {
        let len = u16::try_from(body.len()).expect("a short body").to_be_bytes();
        self.push(&[&[0x81, 126, len[0], len[1]], body]);
    }

    fn push(&mut self, pieces: &[&[u8]]) {
        pieces.iter().for_each(|piece| self.bytes.extend_from_slice(piece));
        self.ends.push(self.bytes.len());
    }
}

/// A number that looks like chance, so that ids and keys compress like real ones (SplitMix64).
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

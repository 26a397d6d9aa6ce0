//! The small values of the provider's objects: times, money, and everything that is drawn by chance.

use serde::{Serialize, Serializer};

/// How timestamps inside objects are written; the provider's documentation prints both and announces no change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeForm {
    /// `"2026-01-15T10:00:00.000Z"`, the older rendering.
    #[default]
    Iso,
    /// `1768471200`, the newer one.
    UnixSeconds,
}

/// A time inside an object: whole seconds, so that both forms mean the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Unix seconds.
    pub seconds: i64,
    /// How it is written.
    pub form: TimeForm,
}

impl Stamp {
    /// The second in which `ms` (Unix milliseconds) lies.
    pub const fn at(ms: i64, form: TimeForm) -> Self {
        Self { seconds: ms.div_euclid(1000), form }
    }

    /// This time and `seconds` more.
    pub const fn plus(self, seconds: i64) -> Self {
        Self { seconds: self.seconds.saturating_add(seconds), form: self.form }
    }
}

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.form {
            TimeForm::UnixSeconds => serializer.serialize_i64(self.seconds),
            TimeForm::Iso => match jiff::Timestamp::from_second(self.seconds) {
                Ok(time) => serializer.collect_str(&format_args!("{time:.3}")),
                // Beyond the year 9999 ISO has no four-digit form; the number is at least exact.
                Err(_) => serializer.serialize_i64(self.seconds),
            },
        }
    }
}

/// US dollars in whole cents; written as a decimal string with two places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cents(pub u64);

impl Cents {
    /// From a JSON number or decimal text with at most two places that count; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let fraction = fraction.trim_end_matches('0');
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || whole.len() > 12 || fraction.len() > 2 || !digits(whole) || !digits(fraction) {
            return None;
        }
        let cents: u64 = format!("{fraction:0<2}").parse().ok()?;
        Some(Self(whole.parse::<u64>().ok()? * 100 + cents))
    }

    /// The amount times `quantity`, capped rather than wrapped.
    pub const fn times(self, quantity: u64) -> Self {
        Self(self.0.saturating_mul(quantity))
    }

    /// As a bare JSON number in the shortest form (`3`, `2.5`, `28.97`), never by way of a float.
    pub fn number(self) -> serde_json::Number {
        let text = self.to_string();
        let short = text.trim_end_matches('0').trim_end_matches('.');
        short.parse().unwrap_or_else(|_| 0.into())
    }
}

impl std::fmt::Display for Cents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

impl Serialize for Cents {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Thousandths of a dollar as the text alongside each invoice amount: `28970` is `"28.970"`.
pub(super) fn millis_text(millis: u64) -> String {
    format!("{}.{:03}", millis / 1000, millis % 1000)
}

/// A 20-byte address in hex, as the provider asks of a BSC refund destination.
pub fn is_evm_address(text: &str) -> bool {
    text.strip_prefix("0x").is_some_and(|hex| hex.len() == 40 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Everything the provider makes up: ids, hashes, addresses. Scripted in tests, seeded elsewhere.
pub trait Chance {
    /// A version 4 UUID.
    fn uuid(&mut self) -> String;
    /// `0x` and 64 hex digits.
    fn tx_hash(&mut self) -> String;
    /// `0x` and 40 hex digits.
    fn wallet_address(&mut self) -> String;
    /// The settlement's number at the merchant's.
    fn settlement_id(&mut self) -> u64;
    /// A carrier's tracking number.
    fn tracking_number(&mut self) -> String;
    /// The retailer's own tracking number.
    fn retailer_tracking_number(&mut self) -> String;
}

/// [`Chance`] from a seed: the same seed gives the same provider.
#[derive(Debug)]
pub struct Seeded(pub rand::rngs::StdRng);

impl Seeded {
    /// Starts from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(rand::SeedableRng::seed_from_u64(seed))
    }

    fn hex(&mut self, bytes: usize) -> String {
        let mut text = String::from("0x");
        for _ in 0..bytes {
            text.push_str(&format!("{:02x}", rand::RngExt::random::<u8>(&mut self.0)));
        }
        text
    }

    fn below(&mut self, bound: u64) -> u64 {
        rand::RngExt::random_range(&mut self.0, 0..bound)
    }
}

impl Chance for Seeded {
    fn uuid(&mut self) -> String {
        uuid::Builder::from_random_bytes(rand::RngExt::random(&mut self.0)).into_uuid().to_string()
    }

    fn tx_hash(&mut self) -> String {
        self.hex(32)
    }

    fn wallet_address(&mut self) -> String {
        self.hex(20)
    }

    fn settlement_id(&mut self) -> u64 {
        self.below(100_000)
    }

    fn tracking_number(&mut self) -> String {
        format!("1Z999AA1{:010}", self.below(10_000_000_000))
    }

    fn retailer_tracking_number(&mut self) -> String {
        format!("TBA{:012}", self.below(1_000_000_000_000))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]
    use super::*;

    #[test]
    fn both_forms_of_a_time_name_the_same_second() {
        let json = |form| serde_json::to_string(&Stamp::at(1_768_471_200_118, form)).unwrap();
        assert_eq!(json(TimeForm::Iso), r#""2026-01-15T10:00:00.000Z""#);
        assert_eq!(json(TimeForm::UnixSeconds), "1768471200");
    }

    #[test]
    fn money_is_read_and_written_without_a_float() {
        for (text, cents) in [("11.49", 1149), ("3", 300), ("0.1", 10), ("2.500", 250), ("0", 0)] {
            assert_eq!(Cents::parse(text), Some(Cents(cents)), "{text}");
        }
        for text in ["", ".5", "-1", "1e3", "0.001", "1.2.3", "9999999999999", "1,5"] {
            assert_eq!(Cents::parse(text), None, "{text}");
        }
        for (cents, text, number) in
            [(2897, "28.97", "28.97"), (300, "3.00", "3"), (250, "2.50", "2.5"), (0, "0.00", "0")]
        {
            assert_eq!((Cents(cents).to_string().as_str(), Cents(cents).number().to_string().as_str()), (text, number));
        }
    }

    #[test]
    fn one_seed_is_one_provider() {
        let draw = |seed| {
            let mut chance = Seeded::new(seed);
            (chance.uuid(), chance.tx_hash(), chance.tracking_number())
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let (uuid, hash, _) = draw(7);
        assert_eq!((uuid.len(), &uuid[14..15], hash.len()), (36, "4", 66));
    }
}

//! Money: decimal text in, decimal text out, and no float between.

/// A decimal number as pieces of the text that spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decimal<'a> {
    negative: bool,
    /// Without leading zeros; empty for none.
    whole: &'a str,
    /// Zeros between the point and `fraction`.
    zeros: usize,
    /// Without trailing zeros.
    fraction: &'a str,
}

impl<'a> Decimal<'a> {
    /// Reads `-12.340`: digits, perhaps a minus, perhaps a point with digits on both sides; no exponent, no plus,
    /// no white space. The number of digits is the sender's affair.
    pub(super) fn plain(text: &'a str) -> Option<Self> {
        let (negative, digits) = sign(text);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        (plain(whole) && plain(fraction)).then(|| Self::new(negative, whole, 0, fraction))
    }

    /// Reads an integral count of thousandths: `28970` is 28.97.
    pub(super) fn thousandths(text: &'a str) -> Option<Self> {
        let (negative, digits) = sign(text);
        if !plain(digits) {
            return None;
        }
        let (whole, fraction) = digits.split_at(digits.len().saturating_sub(3));
        Some(Self::new(negative, whole, 3 - fraction.len(), fraction))
    }

    fn new(negative: bool, whole: &'a str, zeros: usize, fraction: &'a str) -> Self {
        let whole = whole.trim_start_matches('0');
        let fraction = fraction.trim_end_matches('0');
        let zeros = if fraction.is_empty() { 0 } else { zeros };
        Self { negative: negative && !(whole.is_empty() && fraction.is_empty()), whole, zeros, fraction }
    }

    /// Appends the number with two places at least, and zeros beyond two dropped.
    pub(super) fn write(self, out: &mut Vec<u8>) {
        if self.negative {
            out.push(b'-');
        }
        out.extend_from_slice(if self.whole.is_empty() { "0" } else { self.whole }.as_bytes());
        out.push(b'.');
        out.extend(std::iter::repeat_n(b'0', self.zeros));
        out.extend_from_slice(self.fraction.as_bytes());
        out.extend(std::iter::repeat_n(b'0', 2_usize.saturating_sub(self.zeros + self.fraction.len())));
    }
}

/// A decimal number spelled as records spell it: two places at least, zeros beyond two dropped; `None` for any other text.
pub fn decimal_text(text: &str) -> Option<String> {
    let mut out = Vec::new();
    Decimal::plain(text)?.write(&mut out);
    String::from_utf8(out).ok()
}

fn sign(text: &str) -> (bool, &str) {
    text.strip_prefix('-').map_or((false, text), |digits| (true, digits))
}

fn plain(digits: &str) -> bool {
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(decimal: Option<Decimal<'_>>) -> Option<String> {
        let mut out = Vec::new();
        decimal?.write(&mut out);
        String::from_utf8(out).ok()
    }

    #[test]
    fn two_places_at_least_and_no_zeros_beyond() {
        for (text, expected) in [
            ("28.970", "28.97"),
            ("28.975", "28.975"),
            ("28", "28.00"),
            ("28.9", "28.90"),
            ("0.000", "0.00"),
            ("0.0010", "0.001"),
            ("007.5", "7.50"),
            ("-5", "-5.00"),
            ("-0.000", "0.00"),
            ("-0.01", "-0.01"),
            ("340282366920938463463374607431768211456.10", "340282366920938463463374607431768211456.10"),
        ] {
            assert_eq!(written(Decimal::plain(text)).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn thousandths_are_shifted_as_text() {
        for (text, expected) in [
            ("28970", "28.97"),
            ("28975", "28.975"),
            ("0", "0.00"),
            ("5", "0.005"),
            ("50", "0.05"),
            ("500", "0.50"),
            ("1000", "1.00"),
            ("-1", "-0.001"),
            ("99999999999999999999999", "99999999999999999999.999"),
        ] {
            assert_eq!(written(Decimal::thousandths(text)).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_plain_decimal_is_refused() {
        for text in [
            "", "-", ".", ".5", "5.", "+5", " 5", "5 ", "1e3", "1E3", "1,000.00", "--5", "0x10", "NaN", "1.2.3", "٣",
            "5.-1",
        ] {
            assert_eq!(Decimal::plain(text), None, "{text}");
        }
        for text in ["", "-", "1.5", "1e3", "+1", "28970.0"] {
            assert_eq!(Decimal::thousandths(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn thousandths_and_decimals_agree(amount: i64) {
            let decimal = format!("{}{}.{:03}", if amount < 0 { "-" } else { "" }, amount.unsigned_abs() / 1_000, amount.unsigned_abs() % 1_000);
            prop_assert_eq!(written(Decimal::thousandths(&amount.to_string())), written(Decimal::plain(&decimal)));
        }

        #[test]
        fn what_is_written_reads_back_the_same(text in "\\PC{0,6}|-?[0-9.]{0,12}") {
            for decimal in [Decimal::plain(&text), Decimal::thousandths(&text)] {
                let once = written(decimal);
                prop_assert_eq!(once.as_deref().map(Decimal::plain).map(written), once.clone().map(Some));
            }
        }
    }
}

//! Cutting a text into the values of a tape, and finding whether it is well-formed (RFC 8259), in one pass.

use super::{At, DEPTH_MAX, ROOT, Tape, Value};

/// Cuts up `text`; `None` where it is not one JSON value, or nests deeper than [`DEPTH_MAX`].
pub(super) fn cut(text: &str) -> Option<Tape<'_>> {
    // The documented objects have one value in 9 to 14 bytes, names included.
    let values = Vec::with_capacity(text.len() / 9 + 4);
    let values = Cutter { bytes: text.as_bytes(), at: 0, values, open: ROOT, depth: 0 }.cut()?;
    Some(Tape { text, values })
}

/// What is known of a text up to `at`.
struct Cutter<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    /// The array or object that is open; of no meaning where `depth` is 0.
    open: At,
    depth: usize,
}

/// What is expected behind a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Array,
    Object,
}

impl Cutter<'_> {
    fn cut(mut self) -> Option<Vec<Value>> {
        let mut inside = Inside::Array;
        loop {
            match self.visible()? {
                b'{' => {
                    self.begin()?;
                    inside = Inside::Object;
                    if self.visible()? != b'}' {
                        self.name()?;
                        continue;
                    }
                }
                b'[' => {
                    self.begin()?;
                    inside = Inside::Array;
                    if self.visible()? != b']' {
                        continue;
                    }
                }
                b'"' => self.string()?,
                first => self.scalar(first)?,
            }
            // Behind a value, or at the end of an empty array or object.
            loop {
                if self.depth == 0 {
                    return self.visible().is_none().then_some(self.values);
                }
                match (self.visible()?, inside) {
                    (b',', Inside::Array) => {
                        self.at += 1;
                        break;
                    }
                    (b',', Inside::Object) => {
                        self.at += 1;
                        self.name()?;
                        break;
                    }
                    (b']', Inside::Array) | (b'}', Inside::Object) => inside = self.end(),
                    _ => return None,
                }
            }
        }
    }

    /// The next byte that is no white space.
    fn visible(&mut self) -> Option<u8> {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                byte => return byte.copied(),
            }
        }
    }

    /// An array or an object begins.
    fn begin(&mut self) -> Option<()> {
        self.depth += 1;
        let start = place(self.at);
        self.values.push(Value { start, end: start, next: place(self.open), escaped: false });
        self.open = self.values.len() - 1;
        self.at += 1;
        (self.depth <= DEPTH_MAX).then_some(())
    }

    /// The one that is open ends; what encloses it.
    fn end(&mut self) -> Inside {
        self.at += 1;
        self.depth -= 1;
        let next = place(self.values.len());
        let ended = &mut self.values[self.open];
        ended.end = place(self.at);
        self.open = std::mem::replace(&mut ended.next, next) as At;
        let opening = self.bytes[self.values[self.open].start as usize];
        if opening == b'{' { Inside::Object } else { Inside::Array }
    }

    /// A member's name, and the colon behind it.
    fn name(&mut self) -> Option<()> {
        (self.visible()? == b'"').then_some(())?;
        self.string()?;
        (self.visible()? == b':').then_some(())?;
        self.at += 1;
        Some(())
    }

    /// A string; nothing below U+0020 is in one unescaped (RFC 8259, section 7).
    fn string(&mut self) -> Option<()> {
        let start = self.at;
        let mut escaped = false;
        self.at += 1;
        loop {
            self.at += plain(&self.bytes[self.at..]);
            match self.bytes.get(self.at)? {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    self.at += 1 + escape(&self.bytes[self.at + 1..])?;
                }
                _ => return None,
            }
        }
        self.at += 1;
        self.push(start, escaped);
        Some(())
    }

    /// A number or a word.
    fn scalar(&mut self, first: u8) -> Option<()> {
        let start = self.at;
        let rest = &self.bytes[start..];
        self.at += match first {
            b'-' | b'0'..=b'9' => number(rest)?,
            _ => [&b"true"[..], b"false", b"null"].into_iter().find(|word| rest.starts_with(word))?.len(),
        };
        self.push(start, false);
        Some(())
    }

    fn push(&mut self, start: usize, escaped: bool) {
        let next = place(self.values.len() + 1);
        self.values.push(Value { start: place(start), end: place(self.at), next, escaped });
    }
}

/// Texts are bounded far below 4 GiB where they arrive.
fn place(at: At) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// How many bytes of a string come before one that ends it, begins an escape, or may not be there.
fn plain(bytes: &[u8]) -> usize {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // Of eight bytes at once the high bit of each that is special, and perhaps of some behind the first such one
    // (Warren, Hacker's Delight, section 6-1).
    let zero = |word: u64| word.wrapping_sub(LOW) & !word & HIGH;
    let mut at = 0;
    while let Some((eight, _)) = bytes[at..].split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*eight);
        let control = word.wrapping_sub(LOW * 0x20) & !word & HIGH;
        let special = control | zero(word ^ (LOW * u64::from(b'"'))) | zero(word ^ (LOW * u64::from(b'\\')));
        if special != 0 {
            return at + special.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    at + bytes[at..].iter().take_while(|byte| !matches!(**byte, b'"' | b'\\' | ..0x20)).count()
}

/// The length of an escape behind its backslash (RFC 8259, section 7).
fn escape(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => Some(1),
        [b'u', digits @ ..] => digits.get(..4)?.iter().all(u8::is_ascii_hexdigit).then_some(5),
        _ => None,
    }
}

/// The length of a number (RFC 8259, section 6).
fn number(bytes: &[u8]) -> Option<usize> {
    let digits = |at: usize| bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let some_digits = |at: usize| Some(digits(at)).filter(|count| *count > 0).map(|count| at + count);
    let mut at = usize::from(bytes[0] == b'-');
    at = if bytes.get(at) == Some(&b'0') { at + 1 } else { some_digits(at)? };
    if bytes.get(at) == Some(&b'.') {
        at = some_digits(at + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        at = some_digits(at + 1 + usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-'))))?;
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]

    use super::super::*;
    use proptest::prelude::*;
    use serde::de::IgnoredAny;
    use serde_json::value::RawValue;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(Tape::of(&nested(DEPTH_MAX + 1)).is_none());
        assert_eq!(Tape::of(&nested(DEPTH_MAX)).unwrap().values.len(), DEPTH_MAX);
    }

    #[test]
    fn what_is_no_json_has_no_tape() {
        for text in [
            "",
            " ",
            "{",
            "[",
            "]",
            "}",
            "[}",
            "{]",
            "[1",
            "[1,",
            "[1,]",
            "[,1]",
            "[1 2]",
            "1 2",
            "{}{}",
            "{} x",
            "{1:2}",
            "{a:1}",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{"a":1 "b":2}"#,
            r#"{"a" 1}"#,
            r#"{"a":1]"#,
            r#"[1}"#,
            r#"""#,
            r#""a"#,
            r#""\"#,
            r#""\""#,
            r#""\x""#,
            r#""\u12""#,
            r#""\u12g4""#,
            "\"\n\"",
            "\"1234567\u{1f}\"",
            "01",
            "-",
            "-a",
            "+1",
            "1.",
            ".5",
            "1.e1",
            "1e",
            "1e+",
            "0x1",
            "NaN",
            "tru",
            "truex",
            "True",
            "nul",
            "'a'",
            "\u{feff}{}",
        ] {
            assert!(Tape::of(text).is_none(), "{text}");
            assert!(serde_json::from_str::<IgnoredAny>(text).is_err(), "{text}");
        }
    }

    /// Texts near to JSON: its characters in any order, and well-formed ones with a byte changed, left out or added.
    fn near_json() -> impl Strategy<Value = String> {
        let soup = prop::collection::vec(
            prop::sample::select(vec![
                "{",
                "}",
                "[",
                "]",
                ",",
                ":",
                "\"",
                "\\",
                "a",
                "u00e9",
                "é",
                "0",
                "12",
                "-",
                ".",
                "e",
                "E+",
                "true",
                "false",
                "null",
                " ",
                "\n",
                "\u{1}",
                "\"k\":",
                "\"long enough for eight at once\"",
                "\\n",
                "\\ud83d",
            ]),
            0..24,
        );
        let known = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<Option<char>>());
        let changed = (known, 0..2usize).prop_map(|((text, at, put), without)| {
            let text = *text.get(&KNOWN);
            let mut chars: Vec<char> = text.chars().collect();
            let at = at.index(chars.len());
            chars.splice(at..at + without, put);
            chars.into_iter().collect::<String>()
        });
        prop_oneof![soup.prop_map(|parts| parts.concat()), changed]
    }

    const KNOWN: [&str; 4] = [
        r#"{"id":"evt_1-2","object":"event","data":{"object":{"a":[1.50,-2e-3,{}],"b":"\u00e9\n"}},"livemode":false}"#,
        r#"[ { "a" : [ ] , "b" : { } } , "twelve bytes and more" , null , true , 0 , -0.5E+7 ]"#,
        r#""a string with an escape \" and \ud83d\ude00 in it""#,
        "[[[[1,2],[3]],[]],[[[]]]]",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        /// It takes what `serde_json` takes, and cuts it as that does.
        #[test]
        fn it_agrees_with_serde_json(text in near_json()) {
            let tape = Tape::of(&text);
            prop_assert_eq!(tape.is_some(), serde_json::from_str::<IgnoredAny>(&text).is_ok());
            if let Some(tape) = tape {
                prop_assert_eq!(tape.text(ROOT), serde_json::from_str::<&RawValue>(&text).unwrap().get());
                let members = |tape: &Tape<'_>| tape.members(ROOT).map(|at| tape.text(at).to_owned()).collect::<Vec<_>>();
                match serde_json::from_str::<Vec<&RawValue>>(&text) {
                    Ok(items) => {
                        let expected: Vec<_> = items.into_iter().map(RawValue::get).collect();
                        prop_assert_eq!(tape.items(ROOT).map(|at| tape.text(at)).collect::<Vec<_>>(), expected);
                    }
                    Err(_) if tape.kind(ROOT) == b'{' => {
                        if let Ok(values) = serde_json::from_str::<BTreeMap<String, &RawValue>>(&text) {
                            let values: BTreeSet<_> = values.into_values().map(|value| value.get().to_owned()).collect();
                            prop_assert!(values.is_subset(&members(&tape).into_iter().collect()));
                        }
                    }
                    Err(_) => {}
                }
            }
        }
    }
}

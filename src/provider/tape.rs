//! JSON text as a flat list of its values, so that any value is skipped in one step.
//!
//! `serde_json` has found the text well-formed before; here it is only cut up. That takes one pass and one
//! allocation, whatever the nesting, where typed reading would pass over inner objects once a level.

use super::json::DEPTH_MAX;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The place of a value on its [`Tape`].
pub(crate) type At = usize;

/// The place of the outermost value.
pub(crate) const ROOT: At = 0;

/// The values of a text in the order in which they begin; names of members come before their values.
#[derive(Debug)]
pub(crate) struct Tape<'a> {
    values: Vec<Value<'a>>,
}

#[derive(Clone, Copy, Debug)]
struct Value<'a> {
    /// As it came.
    text: &'a str,
    /// The place behind it and all that is inside of it; while it is open, the place of what encloses it.
    next: u32,
    /// Whether it is a string that has a backslash.
    escaped: bool,
}

/// The text nests deeper than [`DEPTH_MAX`]: it must not be walked by recursion.
#[derive(Debug)]
pub(crate) struct TooDeep;

impl<'a> Tape<'a> {
    /// Cuts up `json`.
    pub(crate) fn of(json: &'a RawValue) -> Result<Self, TooDeep> {
        let text = json.get();
        let bytes = text.as_bytes();
        // The documented objects have one value in 9 to 14 bytes, names included.
        let mut values: Vec<Value<'a>> = Vec::with_capacity(text.len() / 9 + 4);
        let mut at = 0;
        let mut depth = 0;
        let mut open = ROOT;
        // Texts are bounded far below 4 GiB where they arrive.
        let place = |at: At| u32::try_from(at).unwrap_or(u32::MAX);
        while let Some(byte) = bytes.get(at) {
            let start = at;
            let mut escaped = false;
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' | b',' | b':' => {
                    at += 1;
                    continue;
                }
                b'{' | b'[' => {
                    depth += 1;
                    if depth > DEPTH_MAX {
                        return Err(TooDeep);
                    }
                    values.push(Value { text: &text[start..], next: place(open), escaped: false });
                    open = values.len() - 1;
                    at += 1;
                    continue;
                }
                b'}' | b']' => {
                    at += 1;
                    depth -= 1;
                    let behind = values.len();
                    let closed = &mut values[open];
                    closed.text = &closed.text[..closed.text.len() - (text.len() - at)];
                    open = std::mem::replace(&mut closed.next, place(behind)) as At;
                    continue;
                }
                b'"' => (at, escaped) = end_of_string(bytes, at),
                _ => at = end_of_scalar(bytes, at),
            }
            let next = place(values.len() + 1);
            values.push(Value { text: &text[start..at], next, escaped });
        }
        Ok(Self { values })
    }

    /// The value as it came.
    pub(crate) fn text(&self, at: At) -> &'a str {
        self.values[at].text
    }

    /// Its first byte, which shows its kind: one of `{ [ " t f n -`, or a digit.
    pub(crate) fn kind(&self, at: At) -> u8 {
        self.text(at).as_bytes()[0]
    }

    /// Whether it is `null`.
    pub(crate) fn is_null(&self, at: At) -> bool {
        self.kind(at) == b'n'
    }

    /// The text of a string; `None` for every other kind.
    pub(crate) fn string(&self, at: At) -> Option<Cow<'a, str>> {
        let inner = self.text(at).strip_prefix('"')?.strip_suffix('"')?;
        Some(if self.is_escaped(at) { Cow::Owned(unescape(inner)) } else { Cow::Borrowed(inner) })
    }

    /// Whether it is a string with a backslash; any other string's text is what is between its quotes.
    pub(crate) fn is_escaped(&self, at: At) -> bool {
        self.values[at].escaped
    }

    /// The text of a number; `None` for every other kind.
    pub(crate) fn number(&self, at: At) -> Option<&'a str> {
        matches!(self.kind(at), b'-' | b'0'..=b'9').then(|| self.text(at))
    }

    /// The name of the member whose value is at `at`.
    pub(crate) fn name(&self, at: At) -> Cow<'a, str> {
        self.string(at - 1).unwrap_or_default()
    }

    /// Places of the values of an object's members, in the order in which they came.
    pub(crate) fn members(&self, object: At) -> impl Iterator<Item = At> {
        self.children(object, 1)
    }

    /// Places of an array's elements.
    pub(crate) fn items(&self, array: At) -> impl Iterator<Item = At> {
        self.children(array, 0)
    }

    fn children(&self, parent: At, name: usize) -> impl Iterator<Item = At> {
        let end = self.values[parent].next as At;
        let mut at = parent + 1;
        std::iter::from_fn(move || {
            let child = at + name;
            let next = self.values.get(child).filter(|_| at < end)?.next;
            at = next as At;
            Some(child)
        })
    }
}

/// The place behind a string that begins at `at`, and whether it has a backslash.
fn end_of_string(bytes: &[u8], mut at: usize) -> (usize, bool) {
    let mut escaped = false;
    at += 1;
    loop {
        match bytes.get(at) {
            Some(b'"') => return (at + 1, escaped),
            Some(b'\\') => (at, escaped) = (at + 2, true),
            Some(_) => at += 1,
            None => return (bytes.len(), escaped),
        }
    }
}

/// The place behind a number or a word.
fn end_of_scalar(bytes: &[u8], at: usize) -> usize {
    let delimiter = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b',' | b']' | b'}');
    bytes[at..].iter().position(delimiter).map_or(bytes.len(), |length| at + length)
}

/// The text of a string's inside. Half a surrogate pair, as JavaScript leaves it where it cuts an emoji in two,
/// is no character and becomes U+FFFD.
fn unescape(inner: &str) -> String {
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        text.push_str(plain);
        let mut after = escaped.chars();
        match after.next() {
            Some('b') => text.push('\u{8}'),
            Some('f') => text.push('\u{c}'),
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('t') => text.push('\t'),
            Some('u') => {
                let (c, behind) = unicode(escaped);
                text.push(c);
                rest = behind;
                continue;
            }
            Some(itself) => text.push(itself),
            None => {}
        }
        rest = after.as_str();
    }
    text.push_str(rest);
    text
}

/// The character that a text begins with which is `u` and four hex digits, or a surrogate pair of two such escapes, and
/// what follows it.
fn unicode(escaped: &str) -> (char, &str) {
    let unit = |text: &str| text.get(1..5).and_then(|hex| u16::from_str_radix(hex, 16).ok());
    let first = unit(escaped).unwrap_or(0xfffd);
    let behind = escaped.get(5..).unwrap_or_default();
    let second = behind.strip_prefix("\\u").and(behind.get(1..)).and_then(unit);
    let pair = [Some(first), second].into_iter().flatten();
    match char::decode_utf16(pair).next() {
        Some(Ok(c)) => (c, behind.get(6 * (c.len_utf16() - 1)..).unwrap_or_default()),
        _ => (char::REPLACEMENT_CHARACTER, behind),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]

    use super::*;

    fn tape(text: &str) -> Tape<'_> {
        Tape::of(serde_json::from_str(text).unwrap()).unwrap()
    }

    #[test]
    fn members_and_items_are_found_behind_nested_ones() {
        let tape = tape(r#" { "a" : {"b":[1,{"c":2}]} , "d" : [ ], "e":{},"f" : -1.50e3 } "#);
        let members: Vec<_> = tape.members(ROOT).map(|at| (tape.name(at).into_owned(), tape.text(at))).collect();
        let expected = [("a", r#"{"b":[1,{"c":2}]}"#), ("d", "[ ]"), ("e", "{}"), ("f", "-1.50e3")];
        assert_eq!(members, expected.map(|(name, text)| (name.to_owned(), text)));
        let list = tape.members(tape.members(ROOT).next().unwrap()).next().unwrap();
        assert_eq!(tape.items(list).map(|at| tape.text(at)).collect::<Vec<_>>(), ["1", r#"{"c":2}"#]);
        let empty = tape.members(ROOT).nth(1).unwrap();
        assert_eq!(tape.items(empty).count(), 0);
    }

    #[test]
    fn strings_are_unescaped() {
        let check =
            |text: &str, expected: &str| assert_eq!(tape(text).string(ROOT).as_deref(), Some(expected), "{text}");
        check(r#""plain é""#, "plain é");
        check(r#""\"\\\/\b\f\n\r\t}""#, "\"\\/\u{8}\u{c}\n\r\t}");
        check(r#""\u00e9\u0041x""#, "éAx");
        check(r#""\ud83d\ude00!""#, "😀!");
        check(r#""\ud83d!\ude00""#, "\u{fffd}!\u{fffd}");
        check(r#""\ud83d\ud83d\ude00""#, "\u{fffd}😀");
        check(r#""\ud83d\n""#, "\u{fffd}\n");
        check(r#""ends in \\""#, "ends in \\");
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        let text = nested(DEPTH_MAX + 1);
        assert!(Tape::of(serde_json::from_str(&text).unwrap()).is_err());
        assert_eq!(tape(&nested(DEPTH_MAX)).values.len(), DEPTH_MAX);
    }
}

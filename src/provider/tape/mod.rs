//! JSON text as a flat list of its values, so that any value is skipped in one step.
//!
//! One pass finds whether the text is well-formed (RFC 8259) and cuts it up: an event is read from its tape, and looked at no
//! second time. It takes what `serde_json` passes over (`IgnoredAny`), as deep as [`DEPTH_MAX`]; a property test holds the two
//! together, and `serde_json` names what is wrong with the rest.

mod cut;
mod escapes;

use super::json::DEPTH_MAX;
use std::borrow::Cow;

/// The place of a value on its [`Tape`].
pub(crate) type At = usize;

/// The place of the outermost value.
pub(crate) const ROOT: At = 0;

/// The values of a text in the order in which they begin; names of members come before their values.
#[derive(Debug)]
pub(crate) struct Tape<'a> {
    text: &'a str,
    values: Vec<Value>,
}

#[derive(Clone, Copy, Debug)]
struct Value {
    /// Where in the text it begins, and where it ends.
    start: u32,
    end: u32,
    /// The place behind it and all that is inside of it; while it is open, the place of what encloses it.
    next: u32,
    /// Whether it is a string that has a backslash.
    escaped: bool,
}

impl<'a> Tape<'a> {
    /// Cuts up `text`; `None` where it is not one JSON value, or nests deeper than [`DEPTH_MAX`], so that it must not be walked
    /// by recursion.
    pub(crate) fn of(text: &'a str) -> Option<Self> {
        cut::cut(text)
    }

    /// The value as it came.
    pub(crate) fn text(&self, at: At) -> &'a str {
        let Value { start, end, .. } = self.values[at];
        &self.text[start as usize..end as usize]
    }

    /// Its first byte, which shows its kind: one of `{ [ " t f n -`, or a digit.
    pub(crate) fn kind(&self, at: At) -> u8 {
        self.text.as_bytes()[self.values[at].start as usize]
    }

    /// Whether it is `null`.
    pub(crate) fn is_null(&self, at: At) -> bool {
        self.kind(at) == b'n'
    }

    /// The text of a string; `None` for every other kind.
    pub(crate) fn string(&self, at: At) -> Option<Cow<'a, str>> {
        let inner = self.text(at).strip_prefix('"')?.strip_suffix('"')?;
        Some(if self.is_escaped(at) { Cow::Owned(escapes::text(inner)) } else { Cow::Borrowed(inner) })
    }

    /// The same, but `None` where it has half a surrogate pair, which is no text.
    pub(crate) fn exact_string(&self, at: At) -> Option<Cow<'a, str>> {
        if self.is_escaped(at) { serde_json::from_str(self.text(at)).ok().map(Cow::Owned) } else { self.string(at) }
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

    /// The values of the members called `names` of what is at `object`; `None` where it is no object. Of a name that occurs twice
    /// the last one counts: RFC 8259, section 4, leaves it open, and this is what most readers do.
    pub(crate) fn named<const N: usize>(&self, object: At, names: &[&str; N]) -> Option<[Option<At>; N]> {
        let mut found = [None; N];
        for at in (self.kind(object) == b'{').then(|| self.members(object))? {
            let called = self.name(at);
            if let Some(place) = names.iter().position(|name| *name == called) {
                found[place] = Some(at);
            }
        }
        Some(found)
    }

    /// Whether each name in an object is text: half a surrogate pair in it is none. True of what is no object.
    pub(crate) fn has_names_of_text(&self, object: At) -> bool {
        let name_is_text = |at: At| !self.is_escaped(at - 1) || self.exact_string(at - 1).is_some();
        self.kind(object) != b'{' || self.members(object).all(name_is_text)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]

    use super::*;

    fn tape(text: &str) -> Tape<'_> {
        Tape::of(text).unwrap()
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
}

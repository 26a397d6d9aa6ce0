//! Writing JSON in the one way in which values are written: no insignificant whitespace, members of foreign objects
//! sorted, strings with the fewest escapes, numbers as they came.

use crate::provider::tape::{At, Tape};
use std::borrow::Cow;

/// Appends `text` as a JSON string.
pub(super) fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(special) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..0x20)) {
        out.extend_from_slice(&rest[..special]);
        match rest[special] {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x8 => out.extend_from_slice(b"\\b"),
            0xc => out.extend_from_slice(b"\\f"),
            control @ ..0x20 => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let digits = [HEX[usize::from(control >> 4)], HEX[usize::from(control & 15)]];
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&digits);
            }
            itself => out.extend_from_slice(&[b'\\', itself]),
        }
        rest = &rest[special + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// Appends any value of a tape.
pub(super) fn value(tape: &Tape<'_>, at: At, out: &mut Vec<u8>) {
    match tape.kind(at) {
        b'{' => object(tape, at, out),
        b'[' => list(tape.items(at), out, |at, out| value(tape, at, out)),
        // A string without a backslash is written as it came: nothing in it can need an escape.
        b'"' if tape.is_escaped(at) => string(&tape.string(at).unwrap_or_default(), out),
        _ => out.extend_from_slice(tape.text(at).as_bytes()),
    }
}

/// Appends the name of an object's next member, with the comma before it where it is not the first.
pub(super) fn name(name: &str, out: &mut Vec<u8>) {
    if !out.ends_with(b"{") {
        out.push(b',');
    }
    string(name, out);
    out.push(b':');
}

/// As [`name`], for a name of ours, which needs no escape.
pub(super) fn own_name(name: &'static str, out: &mut Vec<u8>) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// Appends an array of what `item` writes of each of `items`.
pub(super) fn list<T>(items: impl IntoIterator<Item = T>, out: &mut Vec<u8>, mut item: impl FnMut(T, &mut Vec<u8>)) {
    out.push(b'[');
    for (number, value) in items.into_iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        item(value, out);
    }
    out.push(b']');
}

/// An object's members sorted by name; of a name that occurs twice the last one.
pub(super) fn sorted<'a>(tape: &Tape<'a>, object: At) -> Vec<(Cow<'a, str>, At)> {
    let mut members: Vec<_> = tape.members(object).map(|at| (tape.name(at), at)).collect();
    members.sort_unstable_by(|(a, a_at), (b, b_at)| a.cmp(b).then(b_at.cmp(a_at)));
    members.dedup_by(|(later, _), (kept, _)| later == kept);
    members
}

fn object(tape: &Tape<'_>, at: At, out: &mut Vec<u8>) {
    out.push(b'{');
    for (called, at) in sorted(tape, at) {
        name(&called, out);
        value(tape, at, out);
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]

    use super::*;
    use crate::provider::tape::ROOT;

    fn check(text: &str, expected: &str) {
        let mut out = Vec::new();
        value(&Tape::of(text).unwrap(), ROOT, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected, "{text}");
    }

    #[test]
    fn spelling_does_not_matter() {
        check(r#" { "b" : [ 1 , { } ] , "a" : null } "#, r#"{"a":null,"b":[1,{}]}"#);
        check(r#"{"b":1,"\u0061":2}"#, r#"{"a":2,"b":1}"#);
        check(r#"["\u0041\/\u00e9","\"\\\n\u001F\u007f"]"#, "[\"A/é\",\"\\\"\\\\\\n\\u001f\u{7f}\"]");
        check(r#""\b\f\r\t""#, r#""\b\f\r\t""#);
    }

    #[test]
    fn numbers_stay_as_they_came() {
        check("[1.50,1E5,-0,12345678901234567890.000]", "[1.50,1E5,-0,12345678901234567890.000]");
    }

    #[test]
    fn the_last_of_a_name_counts() {
        check(r#"{"a":1,"b":0,"a":2,"\u0061":[3]}"#, r#"{"a":[3],"b":0}"#);
    }
}

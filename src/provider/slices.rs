//! Foreign JSON cut by its bytes: where members of an object and elements of an array begin and end.
//!
//! Only brackets and strings are looked at (RFC 8259, sections 2 and 7), so that one value that is no JSON (no UTF-8, a
//! raw newline in a string, `NaN`, `01`, `\x41`) costs itself and not the values next to it. What a value is is found
//! out where it is decoded. A string that does not end where it seems to, or a bracket that is missing, cannot be cut:
//! then there is no answer, rather than a guess.

use super::EventId;

/// The values of the members called `name` and of the object that `text` is: the last one of each, as
/// [`members`](super::json::members) does it. `None` where `text` is no object that can be cut.
pub(super) fn members<'a, const N: usize>(text: &'a [u8], names: &[&str; N]) -> Option<[Option<&'a [u8]>; N]> {
    let mut found = [None; N];
    let mut cursor = Cursor { text, at: 0 };
    cursor.expect(b'{')?;
    if cursor.next_is(b'}') {
        return Some(found);
    }
    loop {
        let name = cursor.string()?;
        cursor.expect(b':')?;
        let value = cursor.value()?;
        if let Some(place) = names.iter().position(|wanted| wanted.as_bytes() == name) {
            found[place] = Some(value);
        }
        match cursor.byte()? {
            b',' => {}
            b'}' => return Some(found),
            _ => return None,
        }
    }
}

/// The elements of the array that `text` is. `None` where it is none that can be cut.
pub(super) fn elements(text: &[u8]) -> Option<Vec<&[u8]>> {
    let mut found = Vec::new();
    let mut cursor = Cursor { text, at: 0 };
    cursor.expect(b'[')?;
    if cursor.next_is(b']') {
        return Some(found);
    }
    loop {
        found.push(cursor.value()?);
        match cursor.byte()? {
            b',' => {}
            b']' => return Some(found),
            _ => return None,
        }
    }
}

/// The event ids that are in `text` as the value of an `id`, in their order.
///
/// For what cannot be decoded: nothing else shows where the log goes on below it. The first one is the event's own,
/// since ids of orders and invoices have another form, unless the envelope's `id` comes behind one that an object
/// inside has.
pub(super) fn event_ids(text: &[u8]) -> impl Iterator<Item = EventId> {
    const NAME: &[u8] = b"\"id\"";
    let places = text.windows(NAME.len()).enumerate().filter(|(_, window)| *window == NAME);
    places.filter_map(move |(at, _)| {
        let mut cursor = Cursor { text, at: at + NAME.len() };
        cursor.expect(b':')?;
        std::str::from_utf8(cursor.string()?).ok()?.parse().ok()
    })
}

struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The next byte that is no white space.
    fn byte(&mut self) -> Option<u8> {
        let rest = self.text.get(self.at..)?;
        let skipped = rest.iter().position(|byte| !byte.is_ascii_whitespace())?;
        self.at += skipped + 1;
        rest.get(skipped).copied()
    }

    fn expect(&mut self, wanted: u8) -> Option<()> {
        (self.byte()? == wanted).then_some(())
    }

    /// Whether the next byte is this one; it is taken if so.
    fn next_is(&mut self, wanted: u8) -> bool {
        let before = self.at;
        let is = self.byte() == Some(wanted);
        if !is {
            self.at = before;
        }
        is
    }

    /// A string, as it is spelled between its quotes.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let start = self.at;
        self.past_string()?;
        self.text.get(start..self.at - 1)
    }

    /// Goes behind the quote that ends the string in which it is.
    fn past_string(&mut self) -> Option<()> {
        loop {
            let byte = *self.text.get(self.at)?;
            self.at += if byte == b'\\' { 2 } else { 1 };
            if byte == b'"' {
                return Some(());
            }
        }
    }

    /// A value, up to the comma or bracket that ends it. An empty one is none.
    fn value(&mut self) -> Option<&'a [u8]> {
        let start = self.at;
        let mut depth = 0_usize;
        loop {
            match *self.text.get(self.at)? {
                b'"' => {
                    self.at += 1;
                    self.past_string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b',' | b'}' | b']' if depth == 0 => break,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
        }
        let value = self.text.get(start..self.at)?.trim_ascii();
        (!value.is_empty()).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_value_that_is_no_json_costs_itself_alone() {
        for poison in
            [&b"\"\xff\xfe\""[..], b"\"a\nb\"", b"NaN", b"{\"a\":\"\\x41\"}", b"01", b"\"\\\"\"", b"{\"a\":\"}],\"}"]
        {
            let array = [&b" [ {\"a\":[1,2]} , "[..], poison, b",\"]\"] "].concat();
            assert_eq!(elements(&array).unwrap(), [b"{\"a\":[1,2]}", poison, b"\"]\""]);
            let object = [&b"{\"a\":"[..], poison, &b" , \"b\" : [ 7 ] , \"a\" : "[..], poison, &b"}"[..]].concat();
            assert_eq!(members(&object, &["b", "a", "c"]).unwrap(), [Some(&b"[ 7 ]"[..]), Some(poison), None]);
        }
        assert_eq!(elements(b"[]").unwrap().len(), 0);
        assert_eq!(members(b"{ }", &["a"]), Some([None]));
    }

    #[test]
    fn what_cannot_be_cut_is_not_guessed_at() {
        for text in ["", "7", "[", "[1", "[1,", "[1,]", "[\"]", "[{]", "[1}", "[\"5\" x\"]", "[\"\\"] {
            assert_eq!(elements(text.as_bytes()), None, "{text}");
        }
        for text in ["", "[]", "{", "{\"a\"}", "{\"a\":}", "{\"a\":1", "{\"a\":1]", "{a:1}", "{\"a\":\"5\" x\"}"] {
            assert_eq!(members(text.as_bytes(), &["a"]), None, "{text}");
        }
    }

    #[test]
    fn ids_of_events_are_found_in_what_is_no_json() {
        let found = |text: &[u8]| event_ids(text).map(|id| id.to_string()).collect::<Vec<_>>();
        let poison = b"{\"t\":\"5\" x\",\"id\" : \"evt_7-1\",\"data\":{\"object\":{\"id\":\"o1\",\"id\":\"evt_6-0\"}}";
        assert_eq!(found(poison), ["evt_7-1", "evt_6-0"]);
        assert_eq!(found(b"<html>evt_7-1 \"id\":\"evt_7\" \"id\":7 \"id\""), [""; 0]);
    }

    proptest! {
        #[test]
        fn json_is_cut_as_its_own_reader_cuts_it(values in proptest::collection::vec("[ -~]{0,12}", 0..6)) {
            let array = serde_json::to_string(&values).unwrap();
            let cut: Vec<String> = elements(array.as_bytes()).unwrap().into_iter()
                .map(|slice| serde_json::from_slice(slice).unwrap()).collect();
            prop_assert_eq!(cut, values);
        }

        #[test]
        fn no_bytes_stop_it(bytes: Vec<u8>, text in "[\\[\\]{}\",:\\\\a1 ]{0,40}") {
            for bytes in [bytes.as_slice(), text.as_bytes()] {
                let _ = (elements(bytes), members(bytes, &["a"]), event_ids(bytes).count());
            }
        }
    }
}

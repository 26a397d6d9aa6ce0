//! Reading parts of foreign JSON text with `serde_json`. An event as a whole is cut up by [`tape`](super::tape).

use serde::de::{DeserializeSeed, Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// Nesting beyond which a message is refused. The documented objects nest 6 deep; 128 is `serde_json`'s own
/// bound, and a recursion of that depth fits every stack.
pub(crate) const DEPTH_MAX: usize = 128;

/// The members called `names` of the object that `text` is, each as it came; `None` when it is another kind of value.
///
/// All of `text` must be well-formed, or it is an error. Of a name that occurs twice the last one counts: RFC 8259,
/// section 4, leaves it open, and this is what most readers do.
pub(crate) fn members<'a, const N: usize>(
    text: &'a str,
    names: &[&str; N],
) -> serde_json::Result<Option<[Option<&'a RawValue>; N]>> {
    let mut json = serde_json::Deserializer::from_str(text);
    let object = text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{');
    let found = if object {
        Some(json.deserialize_map(Pick(names))?)
    } else {
        json.deserialize_ignored_any(IgnoredAny)?;
        None
    };
    json.end()?;
    Ok(found)
}

/// The first member called `name` of the object that `text` begins with, as it came. Nothing behind it is read.
pub(crate) fn first_member<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut found = None;
    let object = text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{');
    if object {
        // The visitor ends the reading with an error once it has what it wants.
        let _ = serde_json::Deserializer::from_str(text).deserialize_map(First(&[name], &mut found));
    }
    found.map(RawValue::get)
}

/// The text of a JSON string; `None` for another kind of value, and for half a surrogate pair, which is no text.
pub(crate) fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    #[derive(serde::Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

    serde_json::from_str::<Text<'_>>(value.get()).ok().map(|Text(text)| text)
}

/// Whether all of `bytes` is one JSON value.
pub(crate) fn is_well_formed(bytes: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}

struct Pick<'n, const N: usize>(&'n [&'n str; N]);

impl<'de, const N: usize> Visitor<'de> for Pick<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        while let Some(name) = object.next_key_seed(Position(self.0))? {
            match name {
                Some(at) => found[at] = Some(object.next_value()?),
                None => drop(object.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

/// Finds the first member of a name, and then stops.
struct First<'n, 'a>(&'n [&'n str; 1], &'n mut Option<&'a RawValue>);

impl<'de> Visitor<'de> for First<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        while let Some(name) = object.next_key_seed(Position(self.0))? {
            if name.is_some() {
                *self.1 = Some(object.next_value()?);
                return Err(serde::de::Error::custom("found"));
            }
            object.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

/// Reads a member's name as its place among the names that are wanted.
struct Position<'n>(&'n [&'n str]);

impl<'de> DeserializeSeed<'de> for Position<'_> {
    type Value = Option<usize>;

    fn deserialize<D: serde::Deserializer<'de>>(self, name: D) -> Result<Self::Value, D::Error> {
        name.deserialize_str(self)
    }
}

impl Visitor<'_> for Position<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|wanted| *wanted == name))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]

    use super::*;

    fn pick(text: &str) -> Option<Option<[Option<&str>; 2]>> {
        members(text, &["a", "b"]).ok().map(|found| found.map(|values| values.map(|value| value.map(RawValue::get))))
    }

    #[test]
    fn members_are_picked_as_they_came() {
        assert_eq!(pick(r#" {"a": 1.50 ,"c":[{}],"b":{ } }"#), Some(Some([Some("1.50"), Some("{ }")])));
        assert_eq!(pick(r#"{"\u0061":1}"#), Some(Some([Some("1"), None])));
        assert_eq!(pick(r#"{"a":1,"a":2}"#), Some(Some([Some("2"), None])));
    }

    #[test]
    fn other_values_are_no_object_and_broken_text_is_an_error() {
        for other in ["5", "null", "[1]", "\"{}\"", " true"] {
            assert_eq!(pick(other), Some(None), "{other}");
        }
        for broken in ["", "{", "{\"a\":}", "{} x", "[1", "5 5", "{\"a\":01}", "{\"c\":tru}", "{a:1}"] {
            assert_eq!(pick(broken), None, "{broken}");
        }
    }

    #[test]
    fn strings_are_text_or_nothing() {
        let raw = |text: &'static str| serde_json::from_str::<&RawValue>(text).unwrap();
        assert_eq!(string(raw(r#""a\u00e9""#)).as_deref(), Some("aé"));
        assert_eq!(string(raw("5")), None);
        assert_eq!(string(raw(r#""\ud800""#)), None);
    }
}

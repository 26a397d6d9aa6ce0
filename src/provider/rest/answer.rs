//! Answers: what the provider wrote, untouched, alongside the few members that a caller looks at.
//!
//! Pure. Views are tolerant: a member that is missing, `null`, unknown, or of another type than documented is left out
//! of the view and stays in [`Decoded::raw`]; numbers keep their spelling.

use super::RestError;
use crate::provider::json;
use jiff::civil::DateTime;
use jiff::tz::Offset;
use serde::de::{DeserializeOwned, Deserializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::fmt;

/// One answer of the provider.
#[derive(Clone, Debug)]
pub struct Decoded<T> {
    /// The provider's object as it came, without the `{"success":true,"data":…}` around it.
    pub raw: Box<RawValue>,
    /// What is to be looked at.
    pub view: T,
}

impl<T: DeserializeOwned> Decoded<T> {
    /// Reads a view of `raw`, which must be the kind of value that `opening` (`{` or `[`) begins.
    pub(super) fn of(raw: &RawValue, opening: char) -> Result<Self, RestError> {
        // serde takes a list for a struct as well: `[1,2]` would be one with two members.
        if !raw.get().starts_with(opening) {
            let wanted = if opening == '{' { "no object" } else { "no list" };
            return Err(RestError::Malformed(format!("{wanted} where the call documents one")));
        }
        let view = serde_json::from_str(raw.get()).map_err(|error| malformed(&error))?;
        Ok(Self { raw: raw.to_owned(), view })
    }

    /// The object in a body, with or without `{"success":true,"data":…}` around it (`api-spec/overview`).
    pub(super) fn object(body: &[u8]) -> Result<Self, RestError> {
        Self::of(unwrapped(body)?, '{')
    }
}

/// What an answer holds: its `data` if it is wrapped, else all of it.
///
/// An object that names its kind (`"object":"event"`) is the thing itself: events and lists have a `data` of their own.
pub(super) fn unwrapped(body: &[u8]) -> Result<&RawValue, RestError> {
    let text = std::str::from_utf8(body).map_err(|_| RestError::Malformed("no UTF-8".to_owned()))?;
    let all: &RawValue = serde_json::from_str(text).map_err(|error| malformed(&error))?;
    match json::members(all.get(), &["object", "data"]).map_err(|error| malformed(&error))? {
        Some([None, Some(data)]) => Ok(data),
        _ => Ok(all),
    }
}

/// Where an answer cannot be read, without its content.
pub(super) fn malformed(error: &serde_json::Error) -> RestError {
    RestError::Malformed(format!("line {}, column {}", error.line(), error.column()))
}

/// For a member of a view: its value, or the default where the provider wrote something of another type.
pub(super) fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(from: D) -> Result<T, D::Error> {
    let raw = Box::<RawValue>::deserialize(from)?;
    Ok(serde_json::from_str(raw.get()).unwrap_or_default())
}

/// Defines views: structs whose members may each be missing, `null`, or of another type than documented, and are then
/// their default.
///
/// The members have the provider's names and meaning; one has a comment where its name is not enough.
macro_rules! view {
    ($($(#[$of_struct:meta])* pub struct $name:ident { $($(#[$of_member:meta])* pub $member:ident: $kind:ty,)* })*) => {$(
        #[derive(Clone, Debug, Default, ::serde::Deserialize)]
        $(#[$of_struct])*
        #[serde(default)]
        #[allow(missing_docs, reason = "the provider's members, under the provider's names")]
        pub struct $name {
            $(
                $(#[$of_member])*
                #[serde(deserialize_with = "crate::provider::rest::answer::lenient")]
                pub $member: $kind,
            )*
        }
    )*};
}

pub(super) use view;

/// A number or a text exactly as the provider spelled it: `28.97`, `"28.970"` and `1e2` stay what they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Spelled(pub String);

impl fmt::Display for Spelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Spelled {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Text(String),
            Number(serde_json::Number),
        }
        Ok(match Either::deserialize(from)? {
            Either::Text(text) => Self(text),
            Either::Number(number) => Self(number.to_string()),
        })
    }
}

/// A time inside an object: Unix seconds, or ISO 8601 in the older rendering of the provider's pages, in UTC where it
/// names no offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectTime(pub jiff::Timestamp);

impl ObjectTime {
    /// The moment of Unix milliseconds; `None` beyond the years that a calendar has.
    pub fn from_ms(ms: i64) -> Option<Self> {
        jiff::Timestamp::from_millisecond(ms).ok().map(Self)
    }
}

impl<'de> Deserialize<'de> for ObjectTime {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Spelled(text) = Spelled::deserialize(from)?;
        let seconds = text.parse().ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
        let utc = || Offset::UTC.to_timestamp(text.parse::<DateTime>().ok()?).ok();
        let time = seconds.or_else(|| text.parse().ok()).or_else(utc);
        time.map(Self).ok_or_else(|| serde::de::Error::custom("no time"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]

    use super::*;

    view! {
        #[derive(PartialEq)]
        #[serde(rename_all = "camelCase")]
        #[expect(unreachable_pub, reason = "a view is public as a rule")]
        pub struct View {
            pub total: Option<Spelled>,
            pub created_at: Option<ObjectTime>,
            pub rows: Vec<String>,
        }
    }

    fn view(body: &str) -> Result<View, RestError> {
        Decoded::object(body.as_bytes()).map(|answer| answer.view)
    }

    #[test]
    fn the_object_stays_as_it_came_and_numbers_keep_their_spelling() {
        let body = r#" {"success":true, "data": {"total": 28.970, "new": [1e2] ,"createdAt":1768471200}} "#;
        let answer = Decoded::<View>::object(body.as_bytes()).unwrap();
        assert_eq!(answer.raw.get(), r#"{"total": 28.970, "new": [1e2] ,"createdAt":1768471200}"#);
        assert_eq!(answer.view.total, Some(Spelled("28.970".to_owned())));
        let time = answer.view.created_at.unwrap();
        assert_eq!(time.0.to_string(), "2026-01-15T10:00:00Z");
        assert_eq!(view(r#"{"createdAt":"2026-01-15T10:00:00.000Z"}"#).unwrap().created_at, Some(time));
        assert_eq!(view(r#"{"total":"10.00"}"#).unwrap().total, Some(Spelled("10.00".to_owned())));
    }

    #[test]
    fn members_of_another_type_are_left_out() {
        for body in
            ["{}", r#"{"total":null,"createdAt":"soon","rows":7}"#, r#"{"total":{},"createdAt":9e99,"rows":[1]}"#]
        {
            assert_eq!(view(body).unwrap(), View::default(), "{body}");
        }
    }

    #[test]
    fn what_is_no_object_is_an_error_with_its_place() {
        for body in ["", "[]", "7", r#"{"data":[]}"#, r#"{"data":"x"}"#, r#"{"data":null}"#, "{", "{} x"] {
            assert!(matches!(view(body), Err(RestError::Malformed(_))), "{body}");
        }
        let deep = format!("{{\"rows\":{}", "[".repeat(1_000_000));
        assert!(matches!(view(&deep), Err(RestError::Malformed(_))));
    }
}

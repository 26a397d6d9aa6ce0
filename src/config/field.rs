//! Types that a setting can have: how each is read from TOML or from the environment, and shown again.
//!
//! A refusal never quotes the value: it could be a secret in the wrong place.

use super::types::{LogFormat, Via, WebsocketAuth};
use crate::clock::spelled;
use crate::provider::Environment;
use bytesize::ByteSize;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A value as it was written, before it is known what it should be.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Raw {
    Text(String),
    Integer(i64),
    Flag(bool),
    List(Vec<Raw>),
    /// Dotted names under the key, in order.
    Map(Vec<(String, Raw)>),
    /// Anything that no setting takes: floats, dates, integers beyond 64 bits.
    Other,
}

/// How the text of an environment variable becomes a [`Raw`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The text itself.
    Text,
    /// A decimal number.
    Integer,
    /// `true` or `false`.
    Flag,
    /// A TOML array, or texts with commas between.
    List,
    /// A TOML inline table, or `name=value` with commas between.
    Map,
}

/// A type that a setting can have.
pub(super) trait Field: Sized {
    /// What it is, as it ends "is not …": `a duration`.
    const KIND: &'static str;
    /// How to write it, as it ends "write it as …": `"30s", in quotes`.
    const HOW: &'static str;
    /// How the environment spells it.
    const FORM: Form = Form::Text;

    /// The value, or `None` when `raw` is something else.
    fn read(raw: &Raw) -> Option<Self>;

    /// As TOML; an empty text when there is no value.
    fn show(&self) -> String;

    /// Whether the value lies between two others, both given as TOML; only for types that have an order.
    fn within(&self, _least: &Self, _most: &Self) -> bool {
        true
    }
}

impl Field for String {
    const KIND: &'static str = "a text";
    const HOW: &'static str = "a text in quotes";

    fn read(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    fn show(&self) -> String {
        quoted(self)
    }
}

impl Field for Option<String> {
    const KIND: &'static str = "a text that is not empty";
    const HOW: &'static str = "a text in quotes; to have none, leave the key out";

    fn read(raw: &Raw) -> Option<Self> {
        String::read(raw).filter(|text| !text.is_empty()).map(Some)
    }

    fn show(&self) -> String {
        self.as_deref().map(quoted).unwrap_or_default()
    }
}

impl Field for Option<PathBuf> {
    const KIND: &'static str = "the absolute path of a file";
    const HOW: &'static str = "a path that begins with /, in quotes; to have none, leave the key out";

    /// Absolute, since a service and a person at a shell work in different folders; and a secret that was put where its
    /// file's name belongs is then refused before anybody looks for such a file and logs its name.
    fn read(raw: &Raw) -> Option<Self> {
        String::read(raw).map(PathBuf::from).filter(|path| path.is_absolute()).map(Some)
    }

    fn show(&self) -> String {
        self.as_deref().map(|path| quoted(&path.to_string_lossy())).unwrap_or_default()
    }
}

impl Field for bool {
    const KIND: &'static str = "a flag";
    const HOW: &'static str = "true or false, without quotes";
    const FORM: Form = Form::Flag;

    fn read(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Flag(flag) => Some(*flag),
            _ => None,
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Field for Duration {
    const KIND: &'static str = "a duration";
    const HOW: &'static str = r#""500ms", "30s", "5m" or "72h", in quotes"#;

    fn read(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Text(text) => humantime::parse_duration(text).ok(),
            _ => None,
        }
    }

    fn show(&self) -> String {
        quoted(&spelled(*self))
    }

    fn within(&self, least: &Self, most: &Self) -> bool {
        (least..=most).contains(&self)
    }
}

/// A number of bytes, kept apart from plain numbers.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(super) struct Bytes(pub(super) usize);

impl Field for Bytes {
    const KIND: &'static str = "a size";
    const HOW: &'static str = r#""512KiB" or "64MiB", in quotes"#;

    fn read(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Text(text) => {
                text.trim().parse::<ByteSize>().ok().and_then(|size| usize::try_from(size.as_u64()).ok()).map(Self)
            }
            _ => None,
        }
    }

    fn show(&self) -> String {
        const UNITS: [(usize, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        let unit = UNITS.into_iter().find(|(size, _)| self.0 >= *size && self.0.is_multiple_of(*size));
        quoted(&unit.map_or_else(|| format!("{}B", self.0), |(size, name)| format!("{}{name}", self.0 / size)))
    }

    fn within(&self, least: &Self, most: &Self) -> bool {
        (least..=most).contains(&self)
    }
}

impl Field for usize {
    const KIND: &'static str = "a whole number, 0 or more";
    const HOW: &'static str = "digits without quotes";
    const FORM: Form = Form::Integer;

    fn read(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Integer(number) => Self::try_from(*number).ok(),
            _ => None,
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }

    fn within(&self, least: &Self, most: &Self) -> bool {
        (least..=most).contains(&self)
    }
}

impl Field for i32 {
    const KIND: &'static str = "a whole number";
    const HOW: &'static str = "digits without quotes";
    const FORM: Form = Form::Integer;

    fn read(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Integer(number) => Self::try_from(*number).ok(),
            _ => None,
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }

    fn within(&self, least: &Self, most: &Self) -> bool {
        (least..=most).contains(&self)
    }
}

impl Field for Option<i32> {
    const KIND: &'static str = "a whole number";
    const HOW: &'static str = "digits without quotes; to have none, leave the key out";
    const FORM: Form = Form::Integer;

    fn read(raw: &Raw) -> Option<Self> {
        i32::read(raw).map(Some)
    }

    fn show(&self) -> String {
        self.map(|number| number.to_string()).unwrap_or_default()
    }

    fn within(&self, least: &Self, most: &Self) -> bool {
        self.is_none() || (least..=most).contains(&self)
    }
}

impl Field for SocketAddr {
    const KIND: &'static str = "an address and port";
    const HOW: &'static str = r#""127.0.0.1:8787" or "[::1]:8787", in quotes"#;

    fn read(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    fn show(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Field for Vec<String> {
    const KIND: &'static str = "a list of texts";
    const HOW: &'static str = r#"["one", "two"]"#;
    const FORM: Form = Form::List;

    fn read(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::List(list) => list.iter().map(String::read).collect(),
            _ => None,
        }
    }

    fn show(&self) -> String {
        format!("[{}]", self.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", "))
    }
}

/// Names and values, for properties that are passed on.
impl Field for Vec<(String, String)> {
    const KIND: &'static str = "a table of texts, numbers and flags";
    const HOW: &'static str = r#"{ "linger.ms" = 5 }"#;
    const FORM: Form = Form::Map;

    fn read(raw: &Raw) -> Option<Self> {
        let Raw::Map(entries) = raw else { return None };
        let text = |raw: &Raw| match raw {
            Raw::Text(text) => Some(text.clone()),
            Raw::Integer(number) => Some(number.to_string()),
            Raw::Flag(flag) => Some(flag.to_string()),
            _ => None,
        };
        entries.iter().map(|(name, raw)| Some((name.clone(), text(raw)?))).collect()
    }

    fn show(&self) -> String {
        if self.is_empty() {
            return "{}".into();
        }
        let entries: Vec<_> =
            self.iter().map(|(name, value)| format!("{} = {}", quoted(name), quoted(value))).collect();
        format!("{{ {} }}", entries.join(", "))
    }
}

/// A type that is one of a few words.
macro_rules! words {
    ($type:ty, $wanted:literal, $($word:literal => $value:expr),+) => {
        impl Field for $type {
            const KIND: &'static str = "one of its words";
            const HOW: &'static str = $wanted;

            fn read(raw: &Raw) -> Option<Self> {
                match raw {
                    Raw::Text(text) => match text.as_str() {
                        $($word => Some($value),)+
                        _ => None,
                    },
                    _ => None,
                }
            }

            fn show(&self) -> String {
                $(if *self == $value { return quoted($word); })+
                String::new()
            }
        }
    };
}

words!(Environment, r#""devnet" or "mainnet""#, "devnet" => Self::Devnet, "mainnet" => Self::Mainnet);
words!(WebsocketAuth, r#""key" or "token""#, "key" => Self::Key, "token" => Self::Token);
words!(Via, r#""direct" or "inbox""#, "direct" => Self::Direct, "inbox" => Self::Inbox);
words!(LogFormat, r#""auto", "text" or "json""#, "auto" => Self::Auto, "text" => Self::Text, "json" => Self::Json);

/// As a TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<F: Field + std::fmt::Debug>(raw: &str, shown: Option<&str>) {
        let read = F::read(&Raw::Text(raw.into()));
        assert_eq!(read.map(|value| value.show()).as_deref(), shown, "{raw}");
    }

    #[test]
    fn durations_need_a_unit() {
        check::<Duration>("500ms", Some(r#""500ms""#));
        check::<Duration>("72h", Some(r#""3d""#));
        check::<Duration>("1m 30s", Some(r#""90s""#));
        check::<Duration>("0s", Some(r#""0s""#));
        check::<Duration>("60", None);
        check::<Duration>("-1s", None);
        check::<Duration>("1 fortnight", None);
        check::<Duration>("99999999999999999999s", None);
        check::<Duration>("", None);
    }

    #[test]
    fn sizes_distinguish_binary_from_decimal_units() {
        check::<Bytes>("64MiB", Some(r#""64MiB""#));
        check::<Bytes>("1 KiB", Some(r#""1KiB""#));
        check::<Bytes>("1MB", Some(r#""1000000B""#));
        check::<Bytes>("16777216", Some(r#""16MiB""#));
        check::<Bytes>("lots", None);
        check::<Bytes>("-1", None);
        check::<Bytes>("", None);
    }

    #[test]
    fn words_are_matched_exactly() {
        check::<Environment>("devnet", Some(r#""devnet""#));
        check::<Environment>("Devnet", None);
        check::<LogFormat>("json", Some(r#""json""#));
        check::<WebsocketAuth>("", None);
    }

    #[test]
    fn options_take_plain_values_only() {
        let entry = |raw| Vec::<(String, String)>::read(&Raw::Map(vec![("linger.ms".into(), raw)]));
        assert_eq!(entry(Raw::Integer(5)), Some(vec![("linger.ms".into(), "5".into())]));
        assert_eq!(entry(Raw::Flag(true)), Some(vec![("linger.ms".into(), "true".into())]));
        assert_eq!(entry(Raw::List(vec![])), None);
        assert_eq!(entry(Raw::Other), None);
    }
}

//! What is wrong with the settings, reported so that a person can put it right: where, which key, what, and the remedy.

use crate::text::clip;
use std::fmt;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The settings file and its line, counted from 1; 0 when it is the file as a whole.
    File { name: String, line: usize },
    /// An environment variable.
    Variable(String),
    /// A flag of the command line.
    Flag(String),
    /// Nobody set it.
    Default,
}

/// One mistake of the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    origin: Origin,
    key: String,
    what: String,
    remedy: String,
}

impl Mistake {
    pub(super) fn new(
        origin: Origin,
        key: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { origin, key: key.into(), what: what.into(), remedy: remedy.into() }
    }

    /// The key it is about, as `section.key`; empty when it is about a whole file.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The line in the settings file, counted from 1; `None` when the mistake is elsewhere.
    pub fn line(&self) -> Option<usize> {
        match self.origin {
            Origin::File { line, .. } if line > 0 => Some(line),
            _ => None,
        }
    }
}

/// `FILE:LINE: KEY: what is wrong; what to do`, on one line.
impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::File { name, line: 0 } => write!(f, "{name}: ")?,
            Origin::File { name, line } => write!(f, "{name}:{line}: ")?,
            Origin::Variable(name) | Origin::Flag(name) => write!(f, "{name}: ")?,
            Origin::Default => f.write_str("settings: ")?,
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", printable(&self.key))?;
        }
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

/// Every mistake of the settings, those of the file first and in its order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// `Ok` when there is none.
    fn none_or(mut mistakes: Vec<Mistake>) -> Result<(), Self> {
        if mistakes.is_empty() {
            return Ok(());
        }
        mistakes.sort_by_key(|mistake| match &mistake.origin {
            Origin::File { line, .. } => (0, *line, String::new()),
            Origin::Variable(name) | Origin::Flag(name) => (1, 0, name.clone()),
            Origin::Default => (2, 0, String::new()),
        });
        mistakes.dedup();
        // On a line that is not TOML the parser guesses; its guess is no mistake of the user's.
        let broken: Vec<usize> =
            mistakes.iter().filter(|mistake| mistake.key.is_empty()).filter_map(Mistake::line).collect();
        mistakes.retain(|mistake| mistake.key.is_empty() || mistake.line().is_none_or(|line| !broken.contains(&line)));
        Err(Self(mistakes))
    }

    /// One after the other.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Mistake> {
        self.0.iter()
    }
}

/// A heading with the count, then one mistake a line.
impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0.len() == 1 { "error" } else { "errors" };
        write!(f, "{} {plural} in the settings", self.0.len())?;
        self.0.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}

/// Something that works, and that the operator should know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning(String);

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What was found while settings and secrets were read.
#[derive(Debug, Default)]
pub(super) struct Findings {
    mistakes: Vec<Mistake>,
    warnings: Vec<Warning>,
}

impl Findings {
    pub(super) fn mistake(&mut self, mistake: Mistake) {
        self.mistakes.push(mistake);
    }

    pub(super) fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(Warning(text.into()));
    }

    /// The warnings, unless there is a mistake.
    pub(super) fn warnings(self) -> Result<Vec<Warning>, Mistakes> {
        Mistakes::none_or(self.mistakes)?;
        Ok(self.warnings)
    }
}

/// The known name that a slip of the pen away from `name`, if one is near.
pub(super) fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    /// Of 1: below it two names are different words rather than two spellings of one.
    const LIKENESS_MIN: f64 = 0.75;
    /// The comparison is quadratic; no known name is half as long.
    const CHARS_MAX: usize = 120;
    if name.len() > CHARS_MAX {
        return None;
    }
    known
        .map(|known| (strsim::normalized_damerau_levenshtein(name, known), known))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

/// A name that somebody typed, fit for a terminal and a log: nothing but visible characters, and no secret that was
/// pasted where a name belongs.
pub(super) fn printable(name: &str) -> String {
    const CHARS_MAX: usize = 120;
    if name.split('.').any(looks_secret) {
        return "(not shown)".into();
    }
    clip(name, CHARS_MAX)
}

/// Whether a text has the form of a key or secret (`api-spec/authentication` prints `ck_…`, `pk_…`, `sk_live_…`; webhook
/// secrets and private keys have well-known beginnings): such a text is never shown and never a setting.
pub(super) fn looks_secret(text: &str) -> bool {
    const BEGINNINGS: [&str; 5] = ["ck_", "pk_", "sk_", "whsec_", "-----BEGIN"];
    let text = text.trim_start();
    BEGINNINGS.iter().any(|beginning| text.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]
    use super::*;

    #[test]
    fn mistakes_are_in_the_order_of_the_file_and_the_environment_comes_after() {
        let at = |line| Origin::File { name: "relay.toml".into(), line };
        let list = vec![
            Mistake::new(Origin::Default, "kafka.bootstrap_servers", "is missing", "set it"),
            Mistake::new(Origin::Variable("PEPAY_RELAY__NAME".into()), "name", "is empty", "give one"),
            Mistake::new(at(9), "b", "is wrong", "drop it"),
            Mistake::new(at(2), "a", "is wrong", "drop it"),
            Mistake::new(at(0), "", "cannot be read", "make it readable"),
        ];
        insta::assert_snapshot!(Mistakes::none_or(list).unwrap_err(), @r"
        5 errors in the settings
          relay.toml: cannot be read; make it readable
          relay.toml:2: a: is wrong; drop it
          relay.toml:9: b: is wrong; drop it
          PEPAY_RELAY__NAME: name: is empty; give one
          settings: kafka.bootstrap_servers: is missing; set it
        ");
    }

    #[test]
    fn a_name_is_shown_without_control_characters_and_never_a_secret() {
        assert_eq!(printable("kafka.topic\u{1b}[2J\n"), r"kafka.topic\u{1b}[2J\n");
        for secret in ["websocket.sk_live_1", "ck_live_51abc", "pk_1", "whsec_1"] {
            assert_eq!(printable(secret), "(not shown)");
        }
        assert_eq!(printable(&"x".repeat(1_000)).chars().count(), 121);
    }
}

//! The values of the settings as written, each with its place.

use super::field::{Form, Raw};
use super::mistakes::{Findings, Mistake, Origin, looks_secret, nearest, printable};
use super::secrets;
use super::sources::{Sources, read_bounded};
use super::table::{self, PREFIX, SETTINGS, Setting};
use std::collections::BTreeMap;
use toml::de::{DeTable, DeValue};

/// A settings file is a few kilobytes; what is larger is another file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Values as written; one list for each place, so that a later place wins and each is still validated.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) values: Vec<(&'static Setting, Raw, Origin)>,
    /// Where each key (and each `kafka.options` entry) was set last.
    pub(super) origins: BTreeMap<String, Origin>,
    /// The file could not be read whole: what seems missing may be in it.
    pub(super) broken: bool,
}

impl Written {
    fn add(&mut self, setting: &'static Setting, raw: Raw, origin: Origin) {
        self.origins.insert(setting.key.into(), origin.clone());
        self.values.push((setting, raw, origin));
    }

    /// Where `key` was set, or else the nearest table around it.
    pub(super) fn nearest_origin(&self, key: &str) -> Origin {
        let mut key = key;
        loop {
            match (self.origins.get(key), key.rsplit_once('.')) {
                (Some(origin), _) => return origin.clone(),
                (None, Some((around, _))) => key = around,
                (None, None) => return Origin::Default,
            }
        }
    }

    /// Where `key` was set.
    pub(super) fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }
}

/// Reads the file, then the environment, then the flags.
pub(super) fn read(sources: &Sources, findings: &mut Findings) -> Written {
    let mut written = Written::default();
    if let Some(file) = &sources.file {
        match read_bounded(file, FILE_BYTES_MAX) {
            Ok(text) => File { text: &text, sources, findings }.read(&mut written),
            Err(reason) => {
                written.broken = true;
                let remedy = "name a readable TOML file with --config or PEPAY_RELAY_CONFIG";
                findings.mistake(Mistake::new(sources.origin(0), "", format!("cannot be read ({reason})"), remedy));
            }
        }
    }
    read_variables(sources, &mut written, findings);
    for (key, text) in &sources.flags {
        if let Some(setting) = table::find(key) {
            let flag = Origin::Flag(format!("--{}", key.replace('.', "-")));
            written.add(setting, raw_of_text(setting.form, text), flag);
        }
    }
    written
}

/// The settings file while it is read.
struct File<'a> {
    text: &'a str,
    sources: &'a Sources,
    findings: &'a mut Findings,
}

impl File<'_> {
    fn read(&mut self, written: &mut Written) {
        let (root, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            written.broken = true;
            let origin = self.at(error.span().map_or(0, |span| span.start));
            let what = format!("is not TOML ({})", printable(error.message()));
            self.findings.mistake(Mistake::new(origin, "", what, "see toml.io for how to write it"));
        }
        self.table("", root.get_ref(), written);
    }

    fn at(&self, offset: usize) -> Origin {
        let before = self.text.as_bytes().iter().take(offset);
        self.sources.origin(1 + before.filter(|byte| **byte == b'\n').count())
    }

    fn mistake(&mut self, offset: usize, key: &str, (what, remedy): (String, String)) {
        let origin = self.at(offset);
        self.findings.mistake(Mistake::new(origin, key, what, remedy));
    }

    /// The entries of the table `path`. The parser bounds how deep tables nest.
    fn table(&mut self, path: &str, table: &DeTable<'_>, written: &mut Written) {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in entries {
            let key = if path.is_empty() { name.get_ref().to_string() } else { format!("{path}.{}", name.get_ref()) };
            let start = name.span().start;
            let section = SETTINGS.iter().any(|setting| is_below(setting.key, &key));
            match (table::find(&key), value.get_ref()) {
                (Some(setting), value) => {
                    let mut places = Vec::new();
                    let raw = raw_of_value(value, &mut |name, offset| places.push((name.to_owned(), offset)));
                    for (name, offset) in places {
                        let origin = self.at(offset);
                        written.origins.insert(format!("{key}.{name}"), origin);
                    }
                    written.add(setting, raw, self.at(start));
                }
                (None, DeValue::Table(inner)) if section || !inner.is_empty() => self.table(&key, inner, written),
                (None, _) if section => {
                    self.mistake(start, &key, ("is a section".into(), format!("write it as [{key}] with keys below")));
                }
                (None, _) => self.mistake(start, &key, unknown(&key)),
            }
        }
    }
}

fn is_below(key: &str, section: &str) -> bool {
    key.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'))
}

/// The message for a key that does not exist, in the file or as a variable.
fn unknown(key: &str) -> (String, String) {
    if let Some(remedy) = secrets::remedy_for_key(key) {
        return ("is a secret, and secrets are never in the file".into(), remedy);
    }
    let what = "is not a setting".to_owned();
    let leaf = key.rsplit('.').next().unwrap_or(key);
    let elsewhere = || SETTINGS.iter().map(|setting| setting.key).find(|known| known.rsplit('.').next() == Some(leaf));
    match nearest(key, SETTINGS.iter().map(|setting| setting.key)).or_else(elsewhere) {
        Some(known) => (what, format!("did you mean {known}?")),
        None => (what, "remove it, or see config/pepay-relay.toml for all keys".into()),
    }
}

fn read_variables(sources: &Sources, written: &mut Written, findings: &mut Findings) {
    let variables: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
    for (name, value) in &sources.env {
        let origin = || Origin::Variable(printable(name));
        let position = variables.iter().position(|known| known == name);
        if let Some(setting) = position.and_then(|position| SETTINGS.get(position)) {
            match value.to_str() {
                Some(text) => written.add(setting, raw_of_text(setting.form, text), origin()),
                None => findings.mistake(Mistake::new(origin(), setting.key, "is not UTF-8 text", "write it again")),
            }
        } else if let Some(rest) = name.strip_prefix(PREFIX) {
            let key = rest.to_lowercase().replace("__", ".");
            let (what, remedy) = match secrets::remedy_for_key(&key) {
                Some(remedy) => ("is a secret, not a setting".into(), remedy),
                None => match nearest(name, variables.iter().map(String::as_str)) {
                    Some(known) => ("is not a setting".into(), format!("did you mean {known}?")),
                    None => unknown(&key),
                },
            };
            findings.mistake(Mistake::new(origin(), "", what, remedy));
        } else if let Some(known) = meant(name, &variables) {
            findings.warn(format!("{} is not read; did you mean {known}?", printable(name)));
        }
    }
}

/// The variable that a name with the prefix's single underscore was meant to be. Not a mistake: others may set such
/// names (Kubernetes makes `PEPAY_RELAY_SERVICE_HOST` from a service's name).
fn meant<'v>(name: &str, variables: &'v [String]) -> Option<&'v str> {
    if !name.starts_with("PEPAY_RELAY_") || name == "PEPAY_RELAY_CONFIG" || secrets::VARIABLES.contains(&name) {
        return None;
    }
    let flat = name.replace("__", "_");
    let setting = variables.iter().find(|known| known.replace("__", "_") == flat).map(String::as_str);
    setting.or_else(|| {
        /// Nearer than for settings: these names are short, and foreign ones have the same beginning.
        const LIKENESS_MIN: f64 = 0.88;
        secrets::VARIABLES.into_iter().find(|known| strsim::normalized_damerau_levenshtein(name, known) >= LIKENESS_MIN)
    })
}

/// A TOML value; `place` learns where each entry of a table is.
fn raw_of_value(value: &DeValue<'_>, place: &mut dyn FnMut(&str, usize)) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).map_or(Raw::Other, Raw::Integer)
        }
        DeValue::Boolean(flag) => Raw::Flag(*flag),
        DeValue::Array(list) => {
            Raw::List(list.iter().map(|item| raw_of_value(item.get_ref(), &mut |_, _| ())).collect())
        }
        DeValue::Table(table) => {
            let mut entries = Vec::new();
            flatten("", table, &mut entries, place);
            Raw::Map(entries)
        }
        DeValue::Float(_) | DeValue::Datetime(_) => Raw::Other,
    }
}

/// `linger.ms = 5` is a table in a table to TOML; here it is the property `linger.ms`, with or without quotes.
fn flatten(path: &str, table: &DeTable<'_>, entries: &mut Vec<(String, Raw)>, place: &mut dyn FnMut(&str, usize)) {
    for (name, value) in table {
        let key = if path.is_empty() { name.get_ref().to_string() } else { format!("{path}.{}", name.get_ref()) };
        match value.get_ref() {
            DeValue::Table(inner) if inner.is_empty() => {
                place(&key, name.span().start);
                entries.push((key, Raw::Map(Vec::new())));
            }
            DeValue::Table(inner) => flatten(&key, inner, entries, place),
            value => {
                place(&key, name.span().start);
                let raw = raw_of_value(value, &mut |_, _| ());
                entries.push((key, raw));
            }
        }
    }
}

/// The value of a variable; what does not read as the form stays text, and the type then refuses it.
fn raw_of_text(form: Form, text: &str) -> Raw {
    let trimmed = text.trim();
    let toml = || DeValue::parse(trimmed).map(|value| raw_of_value(value.get_ref(), &mut |_, _| ()));
    let parts = || trimmed.split(',').map(str::trim).filter(|part| !part.is_empty());
    match form {
        Form::Text => Raw::Text(text.to_owned()),
        Form::Integer => trimmed.parse().map_or(Raw::Other, Raw::Integer),
        Form::Flag => trimmed.parse().map_or(Raw::Other, Raw::Flag),
        Form::List if trimmed.starts_with('[') => toml().unwrap_or(Raw::Other),
        Form::List => Raw::List(parts().map(|part| Raw::Text(part.to_owned())).collect()),
        Form::Map if trimmed.starts_with('{') => toml().unwrap_or(Raw::Other),
        Form::Map => parts()
            .map(|part| part.split_once('=').map(|(name, value)| (name.trim().into(), Raw::Text(value.trim().into()))))
            .collect::<Option<_>>()
            .map_or(Raw::Other, Raw::Map),
    }
}

/// A default of the table as a value.
pub(super) fn raw_of_default(text: &str) -> Raw {
    DeValue::parse(text).map_or(Raw::Other, |value| raw_of_value(value.get_ref(), &mut |_, _| ()))
}

/// Whether a secret is anywhere in a value.
pub(super) fn holds_secret(raw: &Raw) -> bool {
    match raw {
        Raw::Text(text) => looks_secret(text),
        Raw::List(list) => list.iter().any(holds_secret),
        Raw::Map(entries) => entries.iter().any(|(_, value)| holds_secret(value)),
        Raw::Integer(_) | Raw::Flag(_) | Raw::Other => false,
    }
}

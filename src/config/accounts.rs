//! `[accounts.NAME]`: several accounts of the provider in one relay, each with its own key and webhook secrets.

use super::field::{Field, Form, Raw};
use super::mistakes::{Findings, Mistake, nearest};
use super::table::Wrong;
use super::types::{Account, Config};
use super::written::Written;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The key of the table that holds them all.
pub(super) const KEY: &str = "accounts";

/// A name is part of a path, of a key in the control topic, of a header and of a credential.
const NAME_BYTES_MAX: usize = 32;

/// A socket and a walk each; the places that deliveries name them by are 16 bits.
pub(crate) const ACCOUNTS_MAX: usize = 10_000;

const MEMBERS: [&str; 3] = ["api_key_file", "customer_id", "webhook_secrets_file"];

impl Field for Vec<Account> {
    const KIND: &'static str = "a table of accounts";
    const HOW: &'static str =
        r#"[accounts.NAME], with api_key_file = "/path" and webhook_secrets_file = "/path" below it"#;
    const FORM: Form = Form::Map;

    /// As far as it can be read; [`mistakes`] reports what cannot.
    fn read(raw: &Raw) -> Option<Self> {
        let Raw::Map(entries) = raw else { return None };
        let mut accounts = BTreeMap::new();
        for (path, value) in entries {
            let (name, member) = path.split_once('.').unwrap_or((path, ""));
            let account = accounts.entry(name.to_owned()).or_insert_with(|| Account::named(name));
            let _told_elsewhere = assign(account, member, value);
        }
        Some(accounts.into_values().collect())
    }

    fn show(&self) -> String {
        let member = |name: &str, value: String| (!value.is_empty()).then(|| format!("{name} = {value}"));
        let account = |account: &Account| {
            let members = [
                member("api_key_file", account.api_key_file.show()),
                member("webhook_secrets_file", account.webhook_secrets_file.show()),
                member("customer_id", account.customer_id.show()),
            ];
            format!("{} = {{ {} }}", account.name, members.into_iter().flatten().collect::<Vec<_>>().join(", "))
        };
        match self.is_empty() {
            true => String::new(),
            false => format!("{{ {} }}", self.iter().map(account).collect::<Vec<_>>().join(", ")),
        }
    }
}

fn assign(account: &mut Account, member: &str, raw: &Raw) -> Result<(), Wrong> {
    fn slot<F: Field>(slot: &mut F, raw: &Raw) -> Result<(), Wrong> {
        *slot = F::read(raw).ok_or_else(|| (format!("is not {}", F::KIND), format!("write it as {}", F::HOW)))?;
        Ok(())
    }
    match member {
        "api_key_file" => slot::<Option<PathBuf>>(&mut account.api_key_file, raw),
        "webhook_secrets_file" => slot::<Option<PathBuf>>(&mut account.webhook_secrets_file, raw),
        "customer_id" => slot::<Option<String>>(&mut account.customer_id, raw),
        // A table without entries is an account whose secrets are systemd credentials.
        "" if *raw == Raw::Map(Vec::new()) => Ok(()),
        "" => Err(("is not an account".into(), format!("write it as {}", Vec::<Account>::HOW))),
        _ => {
            let known = nearest(member, MEMBERS.into_iter());
            let remedy = known.map_or_else(
                || format!("an account has {}", MEMBERS.join(", ")),
                |known| format!("did you mean {known}?"),
            );
            Err(("is not a setting of an account".into(), remedy))
        }
    }
}

/// What is wrong with the accounts as they are written, each at its place.
pub(super) fn mistakes(raw: &Raw, written: &Written, findings: &mut Findings) {
    let Raw::Map(entries) = raw else { return };
    let mut names = BTreeSet::new();
    for (path, value) in entries {
        let key = format!("{KEY}.{path}");
        let (name, member) = path.split_once('.').unwrap_or((path, ""));
        let mut mistake = |what: String, remedy: String| {
            findings.mistake(Mistake::new(written.nearest_origin(&key), key.clone(), what, remedy));
        };
        if names.insert(name) && !is_name(name) {
            let remedy = format!("name it with 1 to {NAME_BYTES_MAX} of the characters a-z 0-9 -");
            mistake("is under a name that no account can have".into(), remedy);
        }
        if let Err((what, remedy)) = assign(&mut Account::named(name), member, value) {
            mistake(what, remedy);
        }
    }
    if names.len() > ACCOUNTS_MAX {
        let what = format!("holds {} accounts, more than {ACCOUNTS_MAX}", names.len());
        findings.mistake(Mistake::new(written.origin(KEY), KEY, what, "let another relay serve some of them"));
    }
}

/// What must hold of the accounts and the other settings together.
pub(super) fn rules(config: &Config, written: &Written, findings: &mut Findings) {
    if config.accounts.is_empty() {
        return;
    }
    let single = [
        ("provider.api_key_file", config.secret_files.api_key.is_some()),
        ("webhook.secrets_file", config.secret_files.webhook.is_some()),
        ("commerce.customer_id", config.commerce.customer_id.is_some()),
    ];
    for (key, is_set) in single {
        if is_set {
            let what = "is for one account, and there are several";
            findings.mistake(Mistake::new(written.origin(key), key, what, "move it below [accounts.NAME]"));
        }
    }
    if config.accounts.iter().any(|account| config.webhook.path_of(&account.name) == config.webhook.health_path) {
        let what = "is the path of an account's webhooks";
        let key = "webhook.health_path";
        findings.mistake(Mistake::new(written.origin(key), key, what, "choose another one"));
    }
    if config.accounts.iter().any(|account| account.name == config.name) {
        let what =
            "has an account with the name of the relay, under which the memory of a relay without accounts is kept";
        findings.mistake(Mistake::new(written.origin(KEY), KEY, what, "give the account or the relay another name"));
    }
}

/// Whether an account can have this name.
pub(crate) fn is_name(name: &str) -> bool {
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len());
    fits && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

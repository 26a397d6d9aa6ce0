//! Secrets: each from the first of environment, file, systemd credential that has it. None is ever shown, not even
//! its length.

use super::certificate::{ClientCertificate, Fault};
use super::mistakes::{Findings, Mistake, Mistakes, Origin, Warning, looks_secret, printable};
use super::sources::{Sources, read_bounded, variable};
use super::types::{Account, Config};
use crate::provider::connect::Proxies;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Larger than any key; a certificate bundle or log named by mistake is noticed.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// What OpenSSL hands librdkafka to put it in (`PEM_BUFSIZE`).
const KEY_PASSWORD_BYTES_MAX: usize = 1024;

/// Each costs one HMAC over every unverified body; a rotation needs two.
const WEBHOOK_SECRETS_MAX: usize = 8;

/// The variables that carry secrets.
pub(super) const VARIABLES: [&str; 6] = [
    "PEPAY_RELAY_API_KEY",
    "PEPAY_RELAY_PROXY_PASSWORD",
    "PEPAY_RELAY_WEBHOOK_SECRETS",
    "PEPAY_RELAY_KAFKA_PASSWORD",
    "PEPAY_RELAY_KAFKA_KEY_PASSWORD",
    "PEPAY_RELAY_KAFKA_OAUTH_SECRET",
];

/// The secrets of an account.
#[derive(Clone, Debug)]
pub struct AccountSecrets {
    /// The account; empty where accounts have no names.
    pub name: String,
    /// Commerce API key.
    pub api_key: SecretString,
    /// Webhook secrets, newest first; empty only when `webhook.enabled` is false.
    pub webhook: Vec<SecretString>,
}

impl AccountSecrets {
    /// Of the account of a relay whose accounts have no names.
    pub fn sole(api_key: impl Into<SecretString>, webhook: Vec<SecretString>) -> Self {
        Self { name: String::new(), api_key: api_key.into(), webhook }
    }
}

/// The secrets, which never print.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// Those of each account, at least of one, in the order of the settings.
    pub accounts: Vec<AccountSecrets>,
    /// Password of `kafka.username`.
    pub kafka_password: Option<SecretString>,
    /// What the brokers know the relay by, where they ask for a certificate.
    pub kafka_certificate: Option<ClientCertificate>,
    /// Secret of `kafka.oauth_client_id`.
    pub kafka_oauth_secret: Option<SecretString>,
    /// The way to the provider, with what the proxy's user has for a password.
    pub proxies: Proxies,
}

impl Secrets {
    /// Whether a client of Kafka with the other ones would be the same.
    pub fn is_same_for_kafka(&self, other: &Self) -> bool {
        fn texts(secrets: &Secrets) -> [Option<&str>; 2] {
            [&secrets.kafka_password, &secrets.kafka_oauth_secret]
                .map(|secret| secret.as_ref().map(|secret| secret.expose_secret()))
        }
        let certificates_are_same = match (&self.kafka_certificate, &other.kafka_certificate) {
            (Some(own), Some(other)) => own.is_same(other),
            (own, other) => own.is_none() == other.is_none(),
        };
        texts(self) == texts(other) && certificates_are_same
    }
}

/// Where one secret is looked for.
#[derive(Clone, Copy)]
struct SecretSource<'s> {
    what: &'s str,
    /// None of an account with a name.
    variable: Option<&'static str>,
    key: &'s str,
    credential: &'s str,
}

const API_KEY: SecretSource<'static> = SecretSource {
    what: "the commerce API key",
    variable: Some("PEPAY_RELAY_API_KEY"),
    key: "provider.api_key_file",
    credential: "api-key",
};
const PROXY_PASSWORD: SecretSource<'static> = SecretSource {
    what: "the proxy's password",
    variable: Some("PEPAY_RELAY_PROXY_PASSWORD"),
    key: "provider.proxy_password_file",
    credential: "proxy-password",
};
const WEBHOOK: SecretSource<'static> = SecretSource {
    what: "the webhook secret",
    variable: Some("PEPAY_RELAY_WEBHOOK_SECRETS"),
    key: "webhook.secrets_file",
    credential: "webhook-secrets",
};
const KAFKA_PASSWORD: SecretSource<'static> = SecretSource {
    what: "the Kafka password",
    variable: Some("PEPAY_RELAY_KAFKA_PASSWORD"),
    key: "kafka.password_file",
    credential: "kafka-password",
};

const KEY_PASSWORD: SecretSource<'static> = SecretSource {
    what: "the password of the Kafka client's key",
    variable: Some("PEPAY_RELAY_KAFKA_KEY_PASSWORD"),
    key: "kafka.tls_key_password_file",
    credential: "kafka-key-password",
};

const OAUTH_SECRET: SecretSource<'static> = SecretSource {
    what: "the secret of the OAuth client",
    variable: Some("PEPAY_RELAY_KAFKA_OAUTH_SECRET"),
    key: "kafka.oauth_secret_file",
    credential: "kafka-oauth-secret",
};

impl SecretSource<'_> {
    fn remedy(&self) -> String {
        let Self { key, credential, .. } = self;
        match self.variable {
            Some(variable) => {
                format!("give it as {variable}, in a file named by {key}, or as systemd credential {credential}")
            }
            None => format!("give it in a file named by {key}, or as systemd credential {credential}"),
        }
    }

    fn mistake(&self, origin: Origin, what: impl Into<String>) -> Mistake {
        Mistake::new(origin, self.key, what, self.remedy())
    }
}

/// Every secret that the daemon needs with these settings.
pub fn secrets(config: &Config, sources: &Sources) -> Result<(Secrets, Vec<Warning>), Mistakes> {
    let mut findings = Findings::default();
    let secrets = collect(config, sources, &mut findings);
    Ok((secrets, findings.warnings()?))
}

/// For a key that is a secret in a place for settings: how to give it instead.
pub(super) fn remedy_for_key(key: &str) -> Option<String> {
    let leaf = key.rsplit('.').next().unwrap_or(key).replace('-', "_").to_lowercase();
    let place = match leaf.as_str() {
        "api_key" | "apikey" | "key" | "token" => API_KEY,
        "secret" | "secrets" | "webhook_secret" | "webhook_secrets" | "signing_secret" => WEBHOOK,
        "proxy_password" => PROXY_PASSWORD,
        "tls_key_password" | "key_password" | "kafka_key_password" => KEY_PASSWORD,
        "password" | "kafka_password" | "sasl_password" => KAFKA_PASSWORD,
        "client_secret" | "oauth_secret" | "oauth_client_secret" => OAUTH_SECRET,
        _ if looks_secret(&leaf) => API_KEY,
        _ => return None,
    };
    Some(place.remedy())
}

pub(super) fn collect(config: &Config, sources: &Sources, findings: &mut Findings) -> Secrets {
    let accounts = read_accounts(config, sources, findings);
    let kafka_password = read_kafka_password(config, sources, findings);
    let kafka_certificate = read_kafka_certificate(config, sources, findings);
    let kafka_oauth_secret = read_oauth_secret(config, sources, findings);
    let proxies = read_proxies(config, sources, findings);
    Secrets { accounts, kafka_password, kafka_certificate, kafka_oauth_secret, proxies }
}

/// The secrets of each account that the settings name, or of the one without a name.
fn read_accounts(config: &Config, sources: &Sources, findings: &mut Findings) -> Vec<AccountSecrets> {
    let enabled = config.webhook.enabled;
    if config.accounts.is_empty() {
        let api_key = read_api_key(config, sources, findings);
        let webhook = if enabled { read_webhook(config, sources, findings) } else { Vec::new() };
        return vec![AccountSecrets::sole(api_key, webhook)];
    }
    for place in [API_KEY, WEBHOOK] {
        if let Some(name) = place.variable.filter(|name| variable(sources, name).is_some()) {
            let what = "is for one account, and the settings have several";
            let remedy = "leave it out; the secrets of an account are in files, or systemd credentials of its name";
            findings.mistake(Mistake::new(Origin::Variable(name.into()), "", what, remedy));
        }
    }
    let each = config.accounts.iter().map(|account| AccountSecrets {
        name: account.name.clone(),
        api_key: api_key_of(account, sources, findings),
        webhook: if enabled { webhook_of(account, sources, findings) } else { Vec::new() },
    });
    each.collect()
}

/// The API key of an account with a name.
pub(super) fn api_key_of(account: &Account, sources: &Sources, findings: &mut Findings) -> SecretString {
    let key = format!("accounts.{}.api_key_file", account.name);
    let what = format!("the API key of account {}", account.name);
    let credential = format!("{}.api-key", account.name);
    let place = SecretSource { what: &what, variable: None, key: &key, credential: &credential };
    api_key_at(&place, account.api_key_file.as_deref(), sources, findings)
}

/// The webhook secrets of an account with a name.
pub(super) fn webhook_of(account: &Account, sources: &Sources, findings: &mut Findings) -> Vec<SecretString> {
    let key = format!("accounts.{}.webhook_secrets_file", account.name);
    let what = format!("the webhook secret of account {}", account.name);
    let credential = format!("{}.webhook-secrets", account.name);
    let place = SecretSource { what: &what, variable: None, key: &key, credential: &credential };
    webhook_at(&place, account.webhook_secrets_file.as_deref(), sources, findings)
}

pub(super) fn read_api_key(config: &Config, sources: &Sources, findings: &mut Findings) -> SecretString {
    api_key_at(&API_KEY, config.secret_files.api_key.as_deref(), sources, findings)
}

pub(super) fn read_webhook(config: &Config, sources: &Sources, findings: &mut Findings) -> Vec<SecretString> {
    webhook_at(&WEBHOOK, config.secret_files.webhook.as_deref(), sources, findings)
}

fn api_key_at(
    place: &SecretSource<'_>,
    file: Option<&Path>,
    sources: &Sources,
    findings: &mut Findings,
) -> SecretString {
    let Some((text, origin)) = find(place, file, sources, findings) else {
        return SecretString::default();
    };
    // It travels in a header (`x-api-key`).
    if !text.expose_secret().bytes().all(|byte| byte.is_ascii_graphic()) {
        findings.mistake(place.mistake(origin, "holds the API key with a character that no header can carry"));
    }
    text
}

fn webhook_at(
    place: &SecretSource<'_>,
    file: Option<&Path>,
    sources: &Sources,
    findings: &mut Findings,
) -> Vec<SecretString> {
    let Some((text, origin)) = find_list(place, file, sources, findings) else {
        return Vec::new();
    };
    let parts = text.expose_secret().split([',', '\n']).map(str::trim).filter(|part| !part.is_empty());
    if let Some((what, remedy)) = parts.clone().find_map(wrapping) {
        findings.mistake(Mistake::new(origin.clone(), place.key, format!("holds a webhook secret {what}"), remedy));
        return Vec::new();
    }
    let secrets: Vec<SecretString> = parts.map(SecretString::from).collect();
    // An empty secret would make a signature that anybody can make.
    if secrets.is_empty() {
        findings.mistake(place.mistake(origin, "holds only separators and no webhook secret"));
    } else if secrets.len() > WEBHOOK_SECRETS_MAX {
        let what = format!("holds more than {WEBHOOK_SECRETS_MAX} webhook secrets");
        findings.mistake(Mistake::new(origin, place.key, what, "keep the newest, and those still in use"));
    }
    secrets
}

fn read_kafka_password(config: &Config, sources: &Sources, findings: &mut Findings) -> Option<SecretString> {
    config.kafka.username.as_ref()?;
    let file = config.secret_files.kafka_password.as_deref();
    find(&KAFKA_PASSWORD, file, sources, findings).map(|(text, _)| text)
}

fn read_oauth_secret(config: &Config, sources: &Sources, findings: &mut Findings) -> Option<SecretString> {
    config.kafka.oauth_client_id.as_ref()?;
    let file = config.secret_files.kafka_oauth_secret.as_deref();
    find(&OAUTH_SECRET, file, sources, findings).map(|(text, _)| text)
}

/// The certificate that the settings name, if they do, with its key; what is wrong with its files is a mistake.
fn read_kafka_certificate(config: &Config, sources: &Sources, findings: &mut Findings) -> Option<ClientCertificate> {
    const CHAIN: &str = "kafka.tls_cert_file";
    const KEY: &str = "kafka.tls_key_file";
    let (chain_file, key_file) = config.kafka.tls_cert_file.as_deref().zip(config.kafka.tls_key_file.as_deref())?;
    let place = |file: &Path| Origin::File { name: printable(&file.to_string_lossy()), line: 0 };
    let mut text = |key, file: &Path| match read_bounded(file, FILE_BYTES_MAX) {
        Ok(text) => Some(SecretString::from(text)),
        Err(reason) => {
            let what = format!("names a file that cannot be read ({reason})");
            findings.mistake(Mistake::new(place(file), key, what, "name a readable PEM file, or leave the key out"));
            None
        }
    };
    let (chain, key) = (text(CHAIN, chain_file), text(KEY, key_file));
    let (chain, key) = chain.zip(key)?;
    warn_of_readers("the key of the Kafka client", key_file, findings);
    let mut password = None;
    // Both forms of an encrypted key (RFC 7468, section 11, and RFC 1421) name it in a line.
    if key.expose_secret().lines().any(|line| line.contains("ENCRYPTED")) {
        let file = config.secret_files.kafka_key_password.as_deref();
        let (text, origin) = find(&KEY_PASSWORD, file, sources, findings)?;
        if text.expose_secret().len() > KEY_PASSWORD_BYTES_MAX {
            let what = format!("is longer than {KEY_PASSWORD_BYTES_MAX} bytes, which OpenSSL does not take");
            let remedy = "encrypt the key with a shorter one";
            findings.mistake(Mistake::new(origin, KEY_PASSWORD.key, what, remedy));
            return None;
        }
        password = Some((text, origin));
    }
    let origin = password.as_ref().map_or(Origin::Default, |(_, origin)| origin.clone());
    let fault = match ClientCertificate::new(chain, key, password.map(|(text, _)| text)) {
        Ok(certificate) => return Some(certificate),
        Err(fault) => fault,
    };
    let (origin, key, what, remedy) = match fault {
        Fault::Chain => {
            let what = "names a file that holds no certificate chain";
            (place(chain_file), CHAIN, what, "name a PEM file with the chain, leaf first")
        }
        Fault::Key => {
            let what = "names a file that holds no private key";
            (place(key_file), KEY, what, "name a PEM file with the key of the certificate")
        }
        Fault::Password => {
            let what = "holds a password that does not open the key";
            (origin, KEY_PASSWORD.key, what, "give the one that the key is encrypted with")
        }
        Fault::Pair => {
            let what = "names a key that is not the one of the certificate";
            (place(key_file), KEY, what, "give the key of the first certificate in kafka.tls_cert_file")
        }
    };
    findings.mistake(Mistake::new(origin, key, what, remedy));
    None
}

/// The settings' proxy with the password of its user, else that of the environment.
pub(super) fn read_proxies(config: &Config, sources: &Sources, findings: &mut Findings) -> Proxies {
    if let Some(proxy) = &config.provider.proxy {
        let has_user = Url::parse(proxy).is_ok_and(|url| !url.username().is_empty());
        let file = config.secret_files.proxy_password.as_deref();
        let password = has_user.then(|| find(&PROXY_PASSWORD, file, sources, findings)).flatten();
        // What is no address is reported by its rule.
        return Proxies::chosen(proxy, password.map(|(text, _)| text).as_ref()).unwrap_or_default();
    }
    let named = |names: [&'static str; 2]| {
        let found = names.into_iter().find_map(|name| Some((name, variable(sources, name)?.to_str()?)));
        found.filter(|(_, text)| !text.trim().is_empty())
    };
    let Some((name, https_proxy)) = named(["HTTPS_PROXY", "https_proxy"]) else { return Proxies::default() };
    let no_proxy = named(["NO_PROXY", "no_proxy"]).map_or("", |(_, text)| text);
    Proxies::of_environment(&SecretString::from(https_proxy), no_proxy).unwrap_or_else(|| {
        findings.warn(format!(
            "{name} is not http://HOST:PORT, and the relay speaks nothing else to a proxy; the provider is reached without one"
        ));
        Proxies::default()
    })
}

/// The secret's text without the newline at its end, and where it was; without one the mistake is reported.
fn find(
    place: &SecretSource<'_>,
    file: Option<&Path>,
    sources: &Sources,
    findings: &mut Findings,
) -> Option<(SecretString, Origin)> {
    let (text, origin) = find_list(place, file, sources, findings)?;
    if let Some((what, remedy)) = padding(text.expose_secret()) {
        findings.mistake(Mistake::new(origin, place.key, format!("holds {} {what}", place.what), remedy));
        return None;
    }
    Some((text, origin))
}

/// The same for a list, whose entries may have white space between them.
fn find_list(
    place: &SecretSource<'_>,
    file: Option<&Path>,
    sources: &Sources,
    findings: &mut Findings,
) -> Option<(SecretString, Origin)> {
    let credential = || sources.credentials.as_deref().map(|directory| directory.join(place.credential));
    let in_variable = place.variable.and_then(|name| Some((name, variable(sources, name)?)));
    let (text, origin) = if let Some((name, value)) = in_variable {
        (value.to_str().map(str::to_owned).ok_or_else(|| "not UTF-8 text".into()), Origin::Variable(name.into()))
    } else if let Some(file) = file.map(PathBuf::from).or_else(|| credential().filter(|file| file.exists())) {
        warn_of_readers(place.what, &file, findings);
        (read_bounded(&file, FILE_BYTES_MAX), Origin::File { name: printable(&file.to_string_lossy()), line: 0 })
    } else {
        let what = format!("{} is missing", place.what);
        findings.mistake(Mistake::new(Origin::Default, "", what, place.remedy()));
        return None;
    };
    match text {
        Ok(text) if text.trim().is_empty() => {
            findings.mistake(place.mistake(origin, format!("is empty and should hold {}", place.what)));
            None
        }
        Ok(text) => {
            let text = text.trim_end_matches(['\r', '\n']);
            if let Some((what, remedy)) = wrapping(text) {
                findings.mistake(Mistake::new(origin, place.key, format!("holds {} {what}", place.what), remedy));
                return None;
            }
            Some((SecretString::from(text), origin))
        }
        Err(reason) => {
            findings.mistake(place.mistake(origin, format!("cannot be read for {} ({reason})", place.what)));
            None
        }
    }
}

/// What an editor, a shell or `docker --env-file` put around a secret, and how to take it off. It would make a wrong key of a
/// right one.
fn wrapping(text: &str) -> Option<(&'static str, &'static str)> {
    if text.starts_with('\u{feff}') {
        return Some(("behind a byte order mark", "save the file as UTF-8 without one"));
    }
    let quoted = |quote| text.len() > 1 && text.starts_with(quote) && text.ends_with(quote);
    if quoted('"') || quoted('\'') {
        return Some(("in quotes", "write it without them: nothing takes them off here"));
    }
    None
}

/// The same for white space, which a list has between its entries.
fn padding(text: &str) -> Option<(&'static str, &'static str)> {
    (text.trim() != text)
        .then_some(("with white space around it", "take the white space off; a line end behind it does no harm"))
}

fn warn_of_readers(what: &str, file: &Path, findings: &mut Findings) {
    const OTHERS_READ: u32 = 0o004;
    if std::fs::metadata(file).is_ok_and(|file| file.permissions().mode() & OTHERS_READ != 0) {
        let name = printable(&file.to_string_lossy());
        findings.warn(format!("{name} holds {what} and every user can read it; chmod o-r {name}"));
    }
}

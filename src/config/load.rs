//! From sources to a [`Config`], at start and on reload.

use super::accounts;
use super::follows;
use super::mistakes::{Findings, Mistake, Mistakes, Origin, Warning};
use super::rules::Rules;
use super::secrets::{self, Secrets};
use super::sources::Sources;
use super::table::{DefaultValue, SETTINGS};
use super::types::{Config, Via, blank};
use super::written::{self, Written};
use crate::provider::Environment;
use crate::provider::connect::Proxies;
use secrecy::SecretString;
use std::collections::BTreeSet;

/// What a start needs.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// All settings.
    pub config: Config,
    /// All secrets that these settings need.
    pub secrets: Secrets,
    /// What works but should be known.
    pub warnings: Vec<Warning>,
}

/// What a reload changes.
#[derive(Clone, Debug)]
pub struct Reloaded {
    /// The running settings with the new `log.level` and accounts.
    pub config: Config,
    /// Secrets, read again from the files that the running settings name.
    pub secrets: Secrets,
    /// Keys that were changed and wait for a restart.
    pub waiting: Vec<&'static str>,
    /// What works but should be known.
    pub warnings: Vec<Warning>,
}

/// Settings and every secret that the daemon needs with them; all mistakes of both at once.
pub fn load(sources: &Sources) -> Result<Loaded, Mistakes> {
    let ((config, secrets), warnings) = read(sources, Needed::All, |config, _, findings| {
        let secrets = secrets::collect(&config, sources, findings);
        (config, secrets)
    })?;
    Ok(Loaded { config, secrets, warnings })
}

/// Settings without secrets, for commands that need none or only one of them.
pub fn settings(sources: &Sources) -> Result<(Config, Vec<Warning>), Mistakes> {
    read(sources, Needed::All, |config, _, _| config)
}

/// Settings for a command that asks the running relay alone, which may have been started with other sources.
///
/// What has no default may be missing; what is set must be right. So `kafka` and `provider.environment` of the
/// result are not to be relied on. The same holds for the next two.
pub fn for_status(sources: &Sources) -> Result<Config, Mistakes> {
    read(sources, Needed::Nothing, |config, _, _| config).map(|(config, _)| config)
}

/// Settings, the API key of this account and the proxy, for commands that talk to the provider's REST interface alone: these
/// need neither Kafka nor webhook secrets, and the key decides the environment.
pub fn for_provider(sources: &Sources, account: Option<&str>) -> Result<(Config, SecretString, Proxies), Mistakes> {
    let all = read(sources, Needed::Nothing, |mut config, _, findings| {
        let account = config.accounts.iter().find(|known| Some(known.name.as_str()) == account).cloned();
        let api_key = match &account {
            Some(account) => secrets::api_key_of(account, sources, findings),
            None => secrets::read_api_key(&config, sources, findings),
        };
        if let Some(account) = account {
            config.commerce.customer_id = account.customer_id;
        }
        let proxies = secrets::read_proxies(&config, sources, findings);
        (config, api_key, proxies)
    });
    all.map(|(all, _)| all)
}

/// Settings, the environment if it is set, and the webhook secrets of this account, for commands that sign and verify by hand.
pub fn for_webhooks(
    sources: &Sources,
    account: Option<&str>,
) -> Result<(Config, Option<Environment>, Vec<SecretString>), Mistakes> {
    let all = read(sources, Needed::Nothing, |config, written, findings| {
        let webhook = match config.accounts.iter().find(|known| Some(known.name.as_str()) == account) {
            Some(account) => secrets::webhook_of(account, sources, findings),
            None => secrets::read_webhook(&config, sources, findings),
        };
        let is_set = written.origins.contains_key("provider.environment");
        let environment = is_set.then_some(config.provider.environment);
        (config, environment, webhook)
    });
    all.map(|(all, _)| all)
}

/// What SIGHUP does: secret files, `log.level` and the set of accounts again, everything else named. A relay whose account has
/// no name gets no others while it runs. With any mistake nothing changes.
/// (Certificates are read again by the listener that uses them.)
pub fn reload(running: &Config, sources: &Sources) -> Result<Reloaded, Mistakes> {
    let ((new, config, secrets), warnings) = read(sources, Needed::All, |config, written, findings| {
        let mut renewed = running.clone();
        renewed.log.level.clone_from(&config.log.level);
        if running.accounts.is_empty() == config.accounts.is_empty() {
            renewed.accounts.clone_from(&config.accounts);
        }
        // What waits for a restart is not in force: the new accounts have to fit what is.
        if renewed.name != config.name || renewed.webhook != config.webhook {
            accounts::rules(&renewed, written, findings);
        }
        let secrets = secrets::collect(&renewed, sources, findings);
        (config, renewed, secrets)
    })?;
    let waiting = changed_keys(&config, &new);
    Ok(Reloaded { config, secrets, waiting, warnings })
}

/// The keys in which two settings differ, in the table's order.
pub fn changed_keys(old: &Config, new: &Config) -> Vec<&'static str> {
    SETTINGS.iter().filter(|setting| setting.show(old) != setting.show(new)).map(|setting| setting.key).collect()
}

impl Config {
    /// Every default, with the two settings that have none; for the demo and tests. Not checked: the servers are the
    /// caller's.
    pub fn minimal(environment: Environment, bootstrap_servers: &str) -> Self {
        let mut config = defaults();
        config.provider.environment = environment;
        config.kafka.bootstrap_servers = bootstrap_servers.to_owned();
        config.follow(|_| true);
        config.complete();
        config
    }

    /// Names what has none: the node, and the inbox; of the latter there is none where no webhook goes through it.
    fn complete(&mut self) {
        let Self { webhook, kafka, cluster, .. } = self;
        if webhook.via == Via::Direct {
            kafka.topics.inbox.clear();
        } else if kafka.topics.inbox.is_empty() {
            kafka.topics.inbox = format!("{}.inbox", kafka.topic_prefix);
        }
        if cluster.node.is_empty() {
            cluster.node = follows::host();
        }
    }

    /// Writes the values that follow from others, for the keys that nobody set.
    fn follow(&mut self, unset: impl Fn(&str) -> bool) {
        for setting in SETTINGS {
            if let DefaultValue::Follows { set, .. } = setting.default
                && unset(setting.key)
            {
                set(self);
            }
        }
    }
}

/// The table's defaults; a test reads each of them.
fn defaults() -> Config {
    let mut config = blank();
    for setting in SETTINGS {
        if let DefaultValue::Is(text) = setting.default {
            // Every default is readable (test `every_default_is_readable`), so nothing is lost here.
            let _readable = (setting.read)(&mut config, &written::raw_of_default(text));
        }
    }
    config
}

/// Which of the settings without a default must be set.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needed {
    All,
    Nothing,
}

/// What every way to load is made of: the settings, with what `choose` makes of them and of the secrets that it reads; and
/// the warnings. All mistakes at once.
fn read<T>(
    sources: &Sources,
    needed: Needed,
    choose: impl FnOnce(Config, &Written, &mut Findings) -> T,
) -> Result<(T, Vec<Warning>), Mistakes> {
    let mut findings = Findings::default();
    let written = written::read(sources, &mut findings);
    let config = build(sources, &written, needed, &mut findings);
    let chosen = choose(config, &written, &mut findings);
    Ok((chosen, findings.warnings()?))
}

/// Always a [`Config`], as good as the sources are, so that later checks find their mistakes too; it is only handed
/// out when there are none.
fn build(sources: &Sources, written: &Written, needed: Needed, findings: &mut Findings) -> Config {
    let mut config = defaults();
    let mut wrong = BTreeSet::new();
    for (setting, raw, origin) in &written.values {
        if written::holds_secret(raw) {
            wrong.insert(setting.key);
            let remedy = "remove it, change it at its issuer, and give it as docs/settings.md says";
            let what = "holds something that looks like a secret, and secrets are never in the settings";
            findings.mistake(Mistake::new(origin.clone(), setting.key, what, remedy));
        } else if let Err((what, remedy)) = (setting.read)(&mut config, raw) {
            wrong.insert(setting.key);
            findings.mistake(Mistake::new(origin.clone(), setting.key, what, remedy));
        } else if setting.key == accounts::KEY {
            accounts::mistakes(raw, written, findings);
        }
    }
    require(sources, needed, written, &mut wrong, findings);
    config.follow(|key| !written.origins.contains_key(key));
    config.complete();
    let mut rules = Rules { config: &config, written, wrong: &wrong, findings };
    rules.check();
    rules.kafka();
    accounts::rules(&config, written, findings);
    config.provider.api_url.truncate(config.provider.api_url.trim_end_matches('/').len());
    config
}

fn require(
    sources: &Sources,
    needed: Needed,
    written: &Written,
    wrong: &mut BTreeSet<&'static str>,
    findings: &mut Findings,
) {
    for setting in SETTINGS {
        if !matches!(setting.default, DefaultValue::Required(_)) || written.origins.contains_key(setting.key) {
            continue;
        }
        // Rules about a value that is not there have nothing to look at.
        wrong.insert(setting.key);
        if written.broken || needed == Needed::Nothing {
            continue;
        }
        let origin = if sources.file.is_some() { sources.origin(0) } else { Origin::Default };
        let remedy = format!("set it in the file or as {} to {}", setting.variable(), setting.how);
        findings.mistake(Mistake::new(origin, setting.key, "is missing", remedy));
    }
}

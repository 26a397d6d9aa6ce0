//! What must hold of the settings beyond the type of each: forms of texts, and several keys together.

use super::mistakes::{Findings, Mistake, nearest};
use super::sources::reason;
use super::types::{Config, Via};
use super::written::Written;
use crate::loopback::is_loopback;
use crate::normalize;
use reqwest::Url;
use std::collections::BTreeSet;

/// The name is part of transactional ids, client ids and keys of the control topic; Kafka's own bound on a topic name
/// is 249, and a little less leaves room for what follows it (`.replay.` and a UUID).
const NAME_CHARS_MAX: usize = 200;

/// A delivery may take this part (1 / n) of the intake: the room that webhooks cannot take is a quarter, and each
/// delivery must fit into it whole.
const INTAKE_PART: usize = 4;

/// The settings under judgement.
pub(super) struct Rules<'a> {
    pub(super) config: &'a Config,
    pub(super) written: &'a Written,
    /// Keys whose value could not be read: a rule over one of them would check a default.
    pub(super) wrong: &'a BTreeSet<&'static str>,
    pub(super) findings: &'a mut Findings,
}

/// One key of a rule that compares two.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    pub(super) key: &'static str,
    /// What is wrong with it, which may name the other key.
    pub(super) what: &'a str,
    pub(super) remedy: &'a str,
}

impl Rules<'_> {
    /// Every rule but those of `[kafka]`, in the order of the table.
    pub(super) fn check(&mut self) {
        self.instance();
        self.addresses();
        self.websocket();
        self.webhook();
        self.intake();
        self.normalize();
        self.cluster();
        self.log();
    }

    /// A mistake unless `holds`. `keys` are all that the rule looks at, the one to point at first; it is silent when
    /// one of them has a mistake of its own.
    pub(super) fn demand(&mut self, holds: bool, keys: &[&'static str], what: &str, remedy: &str) {
        if holds || keys.iter().any(|key| self.wrong.contains(key)) {
            return;
        }
        // Where two keys disagree, the one that somebody wrote is the one to look at.
        let set = keys.iter().find(|key| self.written.origins.contains_key(**key));
        if let Some(key) = set.or(keys.first()) {
            self.findings.mistake(Mistake::new(self.written.origin(key), *key, what, remedy));
        }
    }

    /// The same for a rule that compares two keys. Each side has its own words for what is wrong with its key, and how
    /// it is fixed: the one that somebody wrote is reported, the first where it was both.
    pub(super) fn demand_of_two(&mut self, holds: bool, sides: [Side<'_>; 2]) {
        let [first, second] = &sides;
        let of_second = !self.written.origins.contains_key(first.key) && self.written.origins.contains_key(second.key);
        let (told, other) = if of_second { (second, first) } else { (first, second) };
        self.demand(holds || self.wrong.contains(other.key), &[told.key], told.what, told.remedy);
    }

    fn instance(&mut self) {
        let name = &self.config.name;
        let legal = !name.is_empty() && name.len() <= NAME_CHARS_MAX && name.bytes().all(is_name_byte);
        let remedy = "use 1 to 200 of the characters a-z A-Z 0-9 . _ -";
        self.demand(legal, &["name"], "cannot be used as a transactional id", remedy);
    }

    fn addresses(&mut self) {
        let provider = &self.config.provider;
        self.address("provider.api_url", &provider.api_url, ["http", "https"]);
        if self.written.origins.contains_key("provider.websocket_url") {
            self.address("provider.websocket_url", &provider.websocket_url, ["ws", "wss"]);
        }
        self.proxy();
        self.readable("provider.ca_file", provider.ca_file.as_deref());
        let webhook = &self.config.webhook;
        let admin = &self.config.admin;
        let apart = !webhook.enabled || webhook.listen != admin.listen || webhook.listen.port() == 0;
        let remedy = "give the two listeners different ports";
        self.demand_of_two(
            apart,
            [
                Side { key: "admin.listen", what: "is the webhook listener's address too", remedy },
                Side { key: "webhook.listen", what: "is the admin listener's address too", remedy },
            ],
        );
    }

    fn proxy(&mut self) {
        let Some(text) = &self.config.provider.proxy else {
            let lonely = self.config.secret_files.proxy_password.is_some();
            let remedy = "set provider.proxy to http://USER@HOST:PORT, or remove it";
            self.demand(
                !lonely,
                &["provider.proxy_password_file", "provider.proxy"],
                "has no effect without provider.proxy",
                remedy,
            );
            return;
        };
        let url = Url::parse(text).ok().filter(|url| url.scheme() == "http" && url.has_host());
        let whole =
            url.as_ref().is_some_and(|url| url.path() == "/" && url.query().is_none() && url.fragment().is_none());
        self.demand(
            whole,
            &["provider.proxy"],
            "is not the address of a proxy",
            "write it as http://HOST:PORT or http://USER@HOST:PORT",
        );
        let bare = url.as_ref().is_none_or(|url| url.password().is_none());
        let remedy = "remove it, and give it by provider.proxy_password_file or PEPAY_RELAY_PROXY_PASSWORD";
        self.demand(bare, &["provider.proxy"], "holds a password", remedy);
        let user = url.as_ref().is_some_and(|url| !url.username().is_empty());
        let lonely = whole && !user && self.config.secret_files.proxy_password.is_some();
        let keys = ["provider.proxy_password_file", "provider.proxy"];
        self.demand(
            !lonely,
            &keys,
            "has no effect without a user in provider.proxy",
            "write provider.proxy as http://USER@HOST:PORT",
        );
    }

    fn address(&mut self, key: &'static str, text: &str, [plain, encrypted]: [&str; 2]) {
        let url = Url::parse(text).ok().filter(|url| [plain, encrypted].contains(&url.scheme()) && url.has_host());
        let Some(url) = url else {
            self.demand(
                false,
                &[key],
                "is not a valid address",
                &format!("write {encrypted}://HOST and a path, if any"),
            );
            return;
        };
        let bare = url.username().is_empty() && url.password().is_none();
        self.demand(bare, &[key], "holds credentials", "remove them; the API key is a secret of its own");
        let bare = url.query().is_none() && url.fragment().is_none();
        self.demand(bare, &[key], "has a query or fragment", "remove it; the relay adds what is needed");
        let safe = url.scheme() == encrypted || url.host_str().is_some_and(is_loopback);
        let remedy = format!("use {encrypted}://, or a loopback host");
        self.demand(safe, &[key], "would send the API key in clear", &remedy);
    }

    fn websocket(&mut self) {
        let websocket = &self.config.websocket;
        self.demand_of_two(
            websocket.backoff_min <= websocket.backoff_max,
            [
                Side {
                    key: "websocket.backoff_max",
                    what: "is not at least websocket.backoff_min",
                    remedy: "raise it, or lower websocket.backoff_min",
                },
                Side {
                    key: "websocket.backoff_min",
                    what: "is more than websocket.backoff_max",
                    remedy: "lower it, or raise websocket.backoff_max",
                },
            ],
        );
        self.demand_of_two(
            websocket.ping_interval < websocket.idle_timeout,
            [
                Side {
                    key: "websocket.ping_interval",
                    what: "is not shorter than websocket.idle_timeout, so that a quiet but living peer would count as dead",
                    remedy: "lower it, or raise websocket.idle_timeout",
                },
                Side {
                    key: "websocket.idle_timeout",
                    what: "is not longer than websocket.ping_interval, so that a quiet but living peer would count as dead",
                    remedy: "raise it, or lower websocket.ping_interval",
                },
            ],
        );
        let is_pattern = |pattern: &String| {
            let characters = pattern.bytes().all(|byte| is_name_byte(byte) || byte == b'*');
            !pattern.is_empty() && characters
        };
        let legal = !websocket.types.is_empty() && websocket.types.iter().all(is_pattern);
        let remedy = r#"write it like ["commerce.order.*"]; to turn the socket off set websocket.enabled = false"#;
        self.demand(legal, &["websocket.types"], "is not a list of at least one event type", remedy);
    }

    fn webhook(&mut self) {
        let webhook = &self.config.webhook;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
        let legal = webhook.path.starts_with('/') && webhook.path.bytes().all(plain);
        let remedy = "begin it with / and use letters, digits and - . _ ~ only";
        self.demand(legal, &["webhook.path"], "is not a path", remedy);
        let health = &webhook.health_path;
        let legal = health.is_empty() || (health.starts_with('/') && health.bytes().all(plain));
        let remedy = "begin it with / and use letters, digits and - . _ ~ only, or turn it off with \"\"";
        self.demand(legal, &["webhook.health_path"], "is not a path", remedy);
        let remedy = "give the two different paths";
        self.demand_of_two(
            *health != webhook.path,
            [
                Side { key: "webhook.health_path", what: "is the path of the webhooks too", remedy },
                Side { key: "webhook.path", what: "is webhook.health_path too", remedy },
            ],
        );
        let together = webhook.tls_cert_file.is_some() == webhook.tls_key_file.is_some();
        let remedy = "set webhook.tls_cert_file and webhook.tls_key_file, or neither";
        self.demand(together, &["webhook.tls_cert_file", "webhook.tls_key_file"], "is set without the other", remedy);
        for (key, file) in
            [("webhook.tls_cert_file", &webhook.tls_cert_file), ("webhook.tls_key_file", &webhook.tls_key_file)]
        {
            self.readable(key, file.as_deref());
        }
        let fits = webhook.body_bytes_max <= webhook.unverified_bytes_max;
        let shorter = webhook.answer_within <= self.config.shutdown.deadline;
        self.demand_of_two(
            fits,
            [
                Side {
                    key: "webhook.unverified_bytes_max",
                    what: "does not hold one body",
                    remedy: "make it at least webhook.body_bytes_max",
                },
                Side {
                    key: "webhook.body_bytes_max",
                    what: "is more than webhook.unverified_bytes_max, which has to hold one body",
                    remedy: "lower it, or raise webhook.unverified_bytes_max",
                },
            ],
        );
        self.demand_of_two(
            shorter,
            [
                Side {
                    key: "webhook.answer_within",
                    what: "is longer than shutdown.deadline, so that a stop would cut answers off",
                    remedy: "lower it, or raise shutdown.deadline",
                },
                Side {
                    key: "shutdown.deadline",
                    what: "is shorter than webhook.answer_within, so that a stop would cut answers off",
                    remedy: "raise it, or lower webhook.answer_within",
                },
            ],
        );
    }

    /// A file that is named must be there and readable, now rather than at the first connection.
    pub(super) fn readable(&mut self, key: &'static str, file: Option<&std::path::Path>) {
        if let Some(file) = file
            && let Err(error) = std::fs::File::open(file)
        {
            let what = format!("names a file that cannot be read ({})", reason(&error));
            self.demand(false, &[key], &what, "name a readable file, or leave the key out");
        }
    }

    fn intake(&mut self) {
        let part = self.config.intake.bytes_max / INTAKE_PART;
        let intake = Side {
            key: "intake.bytes_max",
            what: "is too small for the largest delivery",
            remedy: "make it at least 4 times websocket.frame_bytes_max and webhook.body_bytes_max",
        };
        for (key, bytes_max) in [
            ("websocket.frame_bytes_max", self.config.websocket.frame_bytes_max),
            ("webhook.body_bytes_max", self.config.webhook.body_bytes_max),
        ] {
            let what = "is more than a quarter of intake.bytes_max, which has to hold the largest delivery";
            let other = Side { key, what, remedy: "lower it, or raise intake.bytes_max" };
            self.demand_of_two(bytes_max <= part, [intake, other]);
        }
    }

    fn normalize(&mut self) {
        let settings = &self.config.normalize;
        let both = settings.include_raw && !settings.drop.is_empty();
        let what = "is set together with normalize.include_raw, which would bring back what it leaves out";
        self.demand(!both, &["normalize.drop", "normalize.include_raw"], what, "use one of the two");
        for name in &settings.drop {
            let near = nearest(name, normalize::member_names()).map(|member| format!("did you mean {member}?"));
            let remedy =
                near.unwrap_or_else(|| "name members of order, invoice or payment (pepay-relay schema)".into());
            let known = normalize::member_names().any(|member| member == name);
            self.demand(known, &["normalize.drop"], "names something that is not a member of the values", &remedy);
        }
    }

    fn cluster(&mut self) {
        let cluster = &self.config.cluster;
        self.demand_of_two(
            !cluster.enabled || self.config.webhook.via == Via::Inbox,
            [
                Side {
                    key: "webhook.via",
                    what: "is direct, but in a cluster the node that gets a webhook may not be the one that serves its account",
                    remedy: "leave it out, or set it to inbox",
                },
                Side {
                    key: "cluster.enabled",
                    what: "does not go with webhook.via = \"direct\"",
                    remedy: "leave webhook.via out",
                },
            ],
        );
        self.demand(
            cluster.enabled || cluster.shards == 1,
            &["cluster.shards", "cluster.enabled"],
            "has no effect without cluster.enabled",
            "set cluster.enabled = true, or remove it",
        );
        let node = &cluster.node;
        let legal = !node.is_empty() && node.len() <= NAME_CHARS_MAX && node.bytes().all(is_name_byte);
        let remedy = "set it to 1 to 200 of the characters a-z A-Z 0-9 . _ -";
        self.demand(!cluster.enabled || legal, &["cluster.node"], "cannot be used as a client id", remedy);
    }

    fn log(&mut self) {
        let legal = is_log_level(&self.config.log.level);
        let remedy = r#"write error, warn, info, debug, trace or off, also by target: "info,rdkafka=warn""#;
        self.demand(legal, &["log.level"], "is not a level", remedy);
    }
}

/// `info`, or with levels by target: `info,rdkafka=warn`. A word that is not a level would silently be taken as a
/// target by `tracing_subscriber`'s filter, so it is checked here.
pub(crate) fn is_log_level(text: &str) -> bool {
    let is_level = |word: &str| {
        ["error", "warn", "info", "debug", "trace", "off"].iter().any(|level| word.eq_ignore_ascii_case(level))
    };
    let is_target = |word: &str| !word.is_empty() && word.bytes().all(|byte| is_name_byte(byte) || byte == b':');
    let is_part = |part: &str| match part.trim().split_once('=') {
        Some((target, level)) => is_target(target) && is_level(level),
        None => is_level(part.trim()),
    };
    text.split(',').all(is_part)
}

/// Characters that Kafka takes in a topic name; the relay takes no others in any name.
pub(super) fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-".contains(&byte)
}

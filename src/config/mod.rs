//! The settings: one file, the environment over it, and secrets from neither the file nor the command line.
//!
//! [`Config`] cannot be wrong once it exists: [`load()`] reports every mistake at once, each with file, line, key and
//! remedy. One table, [`SETTINGS`], names every key with its type, default, bounds and meaning; reading, defaults,
//! the environment, reloads and the documents all follow it. Nothing here logs, and no value of a setting that
//! could be a secret is ever shown.

mod accounts;
mod certificate;
mod field;
mod follows;
mod kafka;
mod load;
mod mistakes;
mod oauth;
mod rules;
mod secrets;
mod sources;
mod table;
#[cfg(test)]
mod tests;
mod types;
mod written;

pub(crate) use accounts::{ACCOUNTS_MAX, is_name as is_account_name};
pub use certificate::ClientCertificate;
pub(crate) use certificate::first_expiry;
pub use load::{Loaded, Reloaded, changed_keys, for_provider, for_status, for_webhooks, load, reload, settings};
pub use mistakes::{Mistake, Mistakes, Warning};
pub(crate) use rules::is_log_level;
pub use secrets::{AccountSecrets, Secrets, secrets};
pub use sources::{DEFAULT_FILE, Sources};
pub use table::{DefaultValue, SETTINGS, Setting};
pub use types::{
    Account, Admin, Backfill, Cluster, Commerce, Config, Dedup, Intake, Kafka, Log, LogFormat, Normalize, Provider,
    SecretFiles, Shutdown, Topics, Via, Webhook, Websocket, WebsocketAuth,
};

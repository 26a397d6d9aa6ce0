//! Secrets: each from the first of environment, file, systemd credential that has it.

use secrecy::SecretString;

/// The three secrets, which never print.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// Commerce API key.
    pub api_key: SecretString,
    /// Webhook secrets, newest first.
    pub webhook: Vec<SecretString>,
    /// Password of `kafka.username`.
    pub kafka_password: Option<SecretString>,
}

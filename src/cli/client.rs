//! What a command has that talks to the provider's REST interface alone: settings, key, and a client.

use super::args::{Global, LogLevel};
use super::output::Output;
use super::{log, sources};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::exit::Exit;
use crate::provider::connect::{Connector, Proxies};
use crate::provider::rest::{IdempotencyKey, Rest, RestError};
use crate::provider::tls;
use secrecy::SecretString;
use std::sync::Arc;
use tokio::sync::watch;

/// The way to the provider, and to whoever reads the results.
pub(super) struct Client {
    /// Asks again, at most twice, where that is safe: a person would too.
    pub(super) rest: Rest,
    /// Without Kafka and the environment, which nobody had to set.
    pub(super) config: Config,
    pub(super) output: Output,
}

impl Client {
    /// Reads settings and key; reaches nothing yet. Needs neither Kafka nor webhook secrets.
    ///
    /// # Errors
    ///
    /// Status 78 and every mistake at once.
    pub(super) fn new(global: &Global, output: Output) -> Result<Self, Exit> {
        let (config, api_key, proxies) =
            config::for_provider(&sources(global)).map_err(|mistakes| Exit::settings(mistakes.to_string()))?;
        log(global.log_level.unwrap_or(LogLevel::Warn), config.log.format)?;
        Ok(Self { rest: rest(&config, api_key, proxies)?, config, output })
    }
}

/// The provider's REST interface for a command, which asks again where that is safe.
///
/// # Errors
///
/// Status 78 when the address is none, or would carry the key in clear to another machine.
pub(super) fn rest(config: &Config, api_key: SecretString, proxies: Proxies) -> Result<Rest, Exit> {
    let provider = &config.provider;
    let tls =
        tls::client_config_with(provider.ca_file.as_deref()).map_err(|error| Exit::settings(error.to_string()))?;
    // A command ends before anybody could set them anew.
    let (_, api_key) = watch::channel(api_key);
    let connector = Connector::new(tls, watch::channel(proxies).1);
    let rest = Rest::new(&provider.api_url, provider.timeout, api_key, connector, Arc::new(Clock::default()));
    let rest = rest.map_err(|error| Exit::settings(sentence(&error)))?;
    Ok(rest.with_body_bytes_max(config.websocket.frame_bytes_max.saturating_mul(2)).with_retries())
}

/// Status 1, with what happened and what to do about it.
pub(super) fn failed(error: RestError) -> Exit {
    Exit::failed(sentence(&error))
}

/// `what happened; what to do`.
pub(super) fn sentence(error: &RestError) -> String {
    format!("{error}; {}", error.remedy())
}

/// The key of a request: the given one, or a fresh one, which is told before the request is made. Whoever does not
/// learn what became of the request makes it again with the same key, and it is carried out once.
pub(super) fn told(given: Option<IdempotencyKey>) -> Result<IdempotencyKey, Exit> {
    let Some(key) = given else {
        let key = IdempotencyKey::random();
        super::output::notice(&format!("--idempotency-key {key}     makes this very request again, if need be"))?;
        return Ok(key);
    };
    Ok(key)
}

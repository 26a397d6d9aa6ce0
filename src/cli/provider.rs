//! What commands that only ask the provider need: the key alone, and a client that asks again where that is safe.

use super::args::{Global, LogLevel};
use super::{log, sources};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::exit::Exit;
use crate::provider::rest::{Rest, RestError};
use crate::provider::tls;
use secrecy::SecretString;
use std::sync::Arc;
use tokio::sync::watch;

/// The settings and the API key, so that whoever may not read the other secrets can ask.
///
/// # Errors
///
/// Status 78 and every mistake at once.
pub(super) fn settings(global: &Global) -> Result<(Config, SecretString), Exit> {
    let sources = sources(global);
    let wrong = |mistakes: config::Mistakes| Exit::settings(mistakes.to_string());
    let (config, _) = config::settings(&sources).map_err(wrong)?;
    let api_key = config::api_key(&config, &sources).map_err(wrong)?;
    log(global.log_level.unwrap_or(LogLevel::Warn), config.log.format)?;
    Ok((config, api_key))
}

/// The provider's REST interface for a command.
pub(super) fn rest(config: &Config, api_key: SecretString) -> Result<Rest, Exit> {
    let tls = tls::client_config().map_err(|error| Exit::failed(format!("TLS cannot be set up: {error}")))?;
    // Nobody changes the key while a command runs.
    let (_, api_key) = watch::channel(api_key);
    let provider = &config.provider;
    let rest = Rest::new(&provider.api_url, provider.timeout, api_key, &tls, Arc::new(Clock::default()));
    let rest = rest.map_err(|error| Exit::settings(error.to_string()))?;
    Ok(rest.with_body_bytes_max(config.stream.frame_bytes_max.saturating_mul(2)).with_retries())
}

/// What the provider did not give, with what a person can do about it.
pub(super) fn refused(error: RestError) -> Exit {
    let remedy = error.remedy();
    Exit::failed(format!("{error}; {remedy}"))
}

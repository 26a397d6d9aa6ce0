//! What a command has that talks to the provider's REST interface alone: settings, key, and a client.

use super::args::{Global, LogLevel};
use super::output::Output;
use super::{account, log, sources};
use crate::config::{self, Config};
use crate::daemon::Reach;
use crate::exit::Exit;
use crate::provider::rest::{IdempotencyKey, Rest, RestError};

/// The way to the provider, and to the reader of the results.
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
    /// Status 78 and every mistake at once; 2 where it is not clear for which account it speaks.
    pub(super) fn new(global: &Global, output: Output) -> Result<Self, Exit> {
        let account = account::name(global)?;
        let (config, api_key, proxies) = config::for_provider(&sources(global), account.as_deref())
            .map_err(|mistakes| Exit::settings(mistakes.to_string()))?;
        log(global.log_level.unwrap_or(LogLevel::Warn), config.log.format)?;
        let rest = patient(&Reach::new(&config, api_key, proxies)?);
        Ok(Self { rest, config, output })
    }
}

/// The provider's REST interface for a command, which asks again where that is safe.
pub(super) fn patient(reach: &Reach) -> Rest {
    Rest::clone(&reach.rest).with_retries()
}

/// Status 1, with what happened and what to do about it.
pub(super) fn failed(error: RestError) -> Exit {
    Exit::failed(sentence(&error))
}

/// `what happened; what to do`.
pub(super) fn sentence(error: &RestError) -> String {
    format!("{error}; {}", error.remedy())
}

/// The key of a request: the given one, or a fresh one, which is printed before the request is made. A caller that does
/// not learn what became of the request makes it again with the same key, and it is carried out once.
pub(super) fn told(given: Option<IdempotencyKey>) -> Result<IdempotencyKey, Exit> {
    let Some(key) = given else {
        let key = IdempotencyKey::random();
        super::output::notice(&format!("--idempotency-key {key}     repeats this request, if need be"))?;
        return Ok(key);
    };
    Ok(key)
}

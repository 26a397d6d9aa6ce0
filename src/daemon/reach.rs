//! The ways to the provider: REST, and what connects the WebSocket.

use crate::clock::Clock;
use crate::config::Config;
use crate::exit::Exit;
use crate::legs::websocket::Dialer;
use crate::provider::connect::{Connector, Proxies};
use crate::provider::rest::Rest;
use crate::provider::tls;
use secrecy::SecretString;
use std::sync::Arc;
use tokio::sync::watch;

/// What all accounts have in common on their ways to the provider.
#[derive(Debug)]
pub(super) struct Ways {
    /// How far its clock is ahead.
    pub(super) clock: Arc<Clock>,
    pub(super) proxies: watch::Sender<Proxies>,
    connector: Connector,
}

impl Ways {
    /// Sets up TLS; reaches nothing yet.
    ///
    /// # Errors
    ///
    /// Status 78 when the certificates cannot be read.
    pub(super) fn new(config: &Config, proxies: Proxies) -> Result<Self, Exit> {
        let proxies = watch::Sender::new(proxies);
        let tls = tls::client_config_with(config.provider.ca_file.as_deref());
        let tls = tls.map_err(|error| Exit::settings(error.to_string()))?;
        let connector = Connector::new(tls, proxies.subscribe());
        Ok(Self { clock: Arc::default(), proxies, connector })
    }

    /// The ways of the account with this key.
    ///
    /// # Errors
    ///
    /// Status 78 when the address is none, or would carry the key in clear to another machine.
    pub(super) fn of(&self, config: &Config, api_key: SecretString) -> Result<Reach, Exit> {
        let provider = &config.provider;
        let Self { clock, connector, .. } = self;
        let api_key = watch::Sender::new(api_key);
        let key = api_key.subscribe();
        let rest = Rest::new(&provider.api_url, provider.timeout, key, connector.clone(), Arc::clone(clock))
            .map_err(|error| Exit::settings(format!("{error}; {}", error.remedy())))?
            // An event whose frame was too large for the socket must fit a page of the log.
            .with_body_bytes_max(config.websocket.frame_bytes_max.saturating_mul(2));
        Ok(Reach { rest: Arc::new(rest), connector: connector.clone(), api_key })
    }
}

/// The ways of one account to the provider.
#[derive(Clone, Debug)]
pub struct Reach {
    /// Its REST interface.
    pub rest: Arc<Rest>,
    connector: Connector,
    pub(super) api_key: watch::Sender<SecretString>,
}

impl Reach {
    /// Sets up REST and TLS; reaches nothing yet.
    ///
    /// # Errors
    ///
    /// Status 78 when the address is none, or would carry the key in clear to another machine, and when the
    /// certificates cannot be read.
    pub fn new(config: &Config, api_key: SecretString, proxies: Proxies) -> Result<Self, Exit> {
        Ways::new(config, proxies)?.of(config, api_key)
    }

    /// What it takes to connect the WebSocket.
    pub fn dialer(&self, config: &Config) -> Dialer {
        Dialer {
            websocket_url: config.provider.websocket_url.clone(),
            settings: config.websocket.clone(),
            api_key: self.api_key.subscribe(),
            rest: Arc::clone(&self.rest),
            connector: self.connector.clone(),
        }
    }
}

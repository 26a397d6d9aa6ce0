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

/// The ways to the provider.
#[derive(Debug)]
pub struct Reach {
    /// Its REST interface.
    pub rest: Arc<Rest>,
    /// How far its clock is ahead.
    pub clock: Arc<Clock>,
    connector: Connector,
    pub(super) api_key: watch::Sender<SecretString>,
    pub(super) proxies: watch::Sender<Proxies>,
}

impl Reach {
    /// Sets up REST and TLS; reaches nothing yet.
    ///
    /// # Errors
    ///
    /// Status 78 when the address is none, or would carry the key in clear to another machine, and when the
    /// certificates cannot be read.
    pub fn new(config: &Config, api_key: SecretString, proxies: Proxies) -> Result<Self, Exit> {
        let provider = &config.provider;
        let clock = Arc::new(Clock::default());
        let api_key = watch::Sender::new(api_key);
        let proxies = watch::Sender::new(proxies);
        let tls = tls::client_config_with(provider.ca_file.as_deref());
        let tls = tls.map_err(|error| Exit::settings(error.to_string()))?;
        let connector = Connector::new(tls, proxies.subscribe());
        let key = api_key.subscribe();
        let rest = Rest::new(&provider.api_url, provider.timeout, key, connector.clone(), Arc::clone(&clock))
            .map_err(|error| Exit::settings(format!("{error}; {}", error.remedy())))?
            // An event whose frame was too large for the socket must fit a page of the log.
            .with_body_bytes_max(config.websocket.frame_bytes_max.saturating_mul(2));
        Ok(Self { rest: Arc::new(rest), clock, connector, api_key, proxies })
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

//! Values of settings that follow from others.

use super::types::{Config, Via};
use reqwest::Url;

/// The commerce WebSocket alongside the REST API (`api-spec/realtime/websockets`): the same host, encrypted or not as it is.
pub(super) fn websocket_url(config: &mut Config) {
    // Nothing follows from what is no address, and its own rule refuses it.
    config.provider.websocket_url = websocket_beside(&config.provider.api_url).map(String::from).unwrap_or_default();
}

/// Made of the address as it was understood, not of its text: `HTTPS:x.io` is one too, as are spaces around it.
fn websocket_beside(api_url: &str) -> Option<Url> {
    let mut url = Url::parse(api_url).ok()?;
    let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
    url.set_scheme(scheme).ok()?;
    url.set_path(&format!("{}/ws/commerce/events", url.path().trim_end_matches('/')));
    Some(url)
}

/// In a cluster every webhook goes through the inbox: the node that takes it is not always the one that owns its shard.
pub(super) fn via(config: &mut Config) {
    config.webhook.via = if config.cluster.enabled { Via::Inbox } else { Via::Direct };
}

/// The host's name, for a node that has no other.
pub(super) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

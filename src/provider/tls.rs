//! One TLS client set-up for REST and WebSocket: rustls with ring, and the certificates that the system trusts.

use rustls::{ClientConfig, RootCertStore, crypto::ring};
use std::sync::Arc;

/// A client configuration that trusts what the system trusts.
///
/// A system without certificates (a bare container) gives a warning and a configuration that trusts nobody:
/// plain connections to loopback, which is all that a demo needs, still work.
///
/// # Errors
///
/// rustls refuses ring's protocol versions, which no build of this crate does.
pub fn client_config() -> Result<Arc<ClientConfig>, rustls::Error> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "a system certificate could not be read");
    }
    let mut roots = RootCertStore::empty();
    let (trusted, unreadable) = roots.add_parsable_certificates(found.certs);
    if trusted == 0 {
        tracing::warn!(
            unreadable,
            "no trusted certificate on this system: no https or wss connection can be made; install ca-certificates"
        );
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

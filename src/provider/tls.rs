//! One TLS client set-up for REST and WebSocket: rustls with ring, the certificates that the system trusts, and those of
//! `provider.ca_file`.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use std::path::Path;
use std::sync::Arc;

/// Why there is no TLS; the text names the setting's key instead of a path.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// rustls refuses ring's protocol versions, which no build of this crate does.
    #[error("TLS cannot be set up: {0}")]
    Library(#[from] rustls::Error),
    /// The file cannot be read, or what is between its PEM lines is damaged.
    #[error("provider.ca_file: cannot be read as PEM certificates ({0}); name a readable file of them")]
    Unreadable(String),
    /// The file has no certificate that an authority could have.
    #[error("provider.ca_file: holds no certificate; name a file with at least one `BEGIN CERTIFICATE`")]
    Empty,
}

/// A client configuration that trusts what the system trusts: on Linux the certificates of its trust store, or those of
/// the file that `SSL_CERT_FILE` names and the folder that `SSL_CERT_DIR` names, instead of it.
///
/// A system without certificates (a bare container) gives a warning and a configuration that trusts nobody:
/// plain connections to loopback, which is all that a demo needs, still work.
///
/// # Errors
///
/// [`TlsSetupError::Library`]
pub fn client_config() -> Result<Arc<ClientConfig>, TlsSetupError> {
    client_config_with(None)
}

/// The same, which trusts the certificates of `ca_file` (PEM) as well.
///
/// # Errors
///
/// When they cannot be read, or there is none.
pub fn client_config_with(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsSetupError> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "a system certificate could not be read");
    }
    let mut roots = RootCertStore::empty();
    let (trusted, unreadable) = roots.add_parsable_certificates(found.certs);
    match ca_file {
        Some(file) => add(&mut roots, file)?,
        None if trusted == 0 => tracing::warn!(
            unreadable,
            "no trusted certificate on this system: no https or wss connection can be made; install ca-certificates"
        ),
        None => {}
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn add(roots: &mut RootCertStore, file: &Path) -> Result<(), TlsSetupError> {
    let unreadable = |error: &dyn std::error::Error| TlsSetupError::Unreadable(error.to_string());
    let mut count = 0;
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unreadable(&error))? {
        let certificate = certificate.map_err(|error| unreadable(&error))?;
        roots.add(certificate).map_err(|error| unreadable(&error))?;
        count += 1;
    }
    if count == 0 { Err(TlsSetupError::Empty) } else { Ok(()) }
}

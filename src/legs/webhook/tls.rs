//! TLS for the webhook listener, where no proxy stands before it.

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why certificate and key cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing, unreadable, or no PEM of the wanted kind.
    #[error("{key}: {file}: {reason}; it must be a readable PEM file with {wanted}", file = .file.display())]
    File {
        /// The setting.
        key: &'static str,
        /// The file it names.
        file: PathBuf,
        /// What must be in it.
        wanted: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The key does not belong to the certificate, or neither is usable.
    #[error(
        "webhook.tls_cert_file and webhook.tls_key_file do not fit together: {0}; \
         give the certificate chain, leaf first, and the key of the leaf"
    )]
    Pair(#[from] rustls::Error),
}

/// A server configuration with the certificate chain (leaf first) and key of two PEM files.
pub(super) fn server_config(cert_file: &Path, key_file: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let wrong =
        |key, file: &Path, wanted, reason: String| TlsError::File { key, file: file.to_owned(), wanted, reason };
    let wrong_cert = |reason| wrong("webhook.tls_cert_file", cert_file, "a certificate chain, leaf first", reason);
    let chain = CertificateDer::pem_file_iter(cert_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong_cert(error.to_string()))?;
    if chain.is_empty() {
        return Err(wrong_cert("no certificate in it".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(key_file)
        .map_err(|error| wrong("webhook.tls_key_file", key_file, "a private key", error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

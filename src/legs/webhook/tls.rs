//! TLS for the webhook listener, where no proxy is in front of it.

use crate::config::{self, first_expiry};
use crate::telemetry::Metrics;
use crate::text::foreign;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

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

/// Certificate and key of the listener, if it has them; all clones show the same.
#[derive(Clone, Debug)]
pub struct Certificates {
    files: Option<(PathBuf, PathBuf)>,
    metrics: Arc<Metrics>,
    current: watch::Sender<Option<Arc<ServerConfig>>>,
}

impl Certificates {
    /// Reads `webhook.tls_cert_file` and `webhook.tls_key_file`, if both are set.
    pub(super) fn read(settings: &config::Webhook, metrics: Arc<Metrics>) -> Result<Self, TlsError> {
        let files = settings.tls_cert_file.clone().zip(settings.tls_key_file.clone());
        let this = Self { files, metrics, current: watch::Sender::new(None) };
        this.renew()?;
        Ok(this)
    }

    /// Reads both files again, for connections from now on. On an error the old ones stay in use.
    pub fn renew(&self) -> Result<(), TlsError> {
        if let Some((cert_file, key_file)) = &self.files {
            let (server, expires_at) = server_config(cert_file, key_file)?;
            if expires_at.is_none() {
                tracing::warn!(
                    file = %foreign(&cert_file.to_string_lossy()),
                    "when the webhook certificate expires cannot be read: it is used, and its metric is 0"
                );
            }
            self.metrics.certificate_expires(expires_at.unwrap_or_default());
            self.current.send_replace(Some(server));
        }
        Ok(())
    }

    /// What the next connection is served with; `None` without TLS.
    pub(super) fn current(&self) -> Option<Arc<ServerConfig>> {
        self.current.borrow().clone()
    }
}

/// A server configuration with the certificate chain (leaf first) and key of two PEM files, and when the first of the
/// chain's certificates expires, in Unix seconds; `None` where that cannot be read, which is no reason not to serve it.
fn server_config(cert_file: &Path, key_file: &Path) -> Result<(Arc<ServerConfig>, Option<u64>), TlsError> {
    let wrong =
        |key, file: &Path, wanted, reason: String| TlsError::File { key, file: file.to_owned(), wanted, reason };
    let wrong_cert = |reason| wrong("webhook.tls_cert_file", cert_file, "a certificate chain, leaf first", reason);
    let chain = CertificateDer::pem_file_iter(cert_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong_cert(error.to_string()))?;
    if chain.is_empty() {
        return Err(wrong_cert("no certificate in it".to_owned()));
    }
    let expiry = first_expiry(&chain);
    let key = PrivateKeyDer::from_pem_file(key_file)
        .map_err(|error| wrong("webhook.tls_key_file", key_file, "a private key", error.to_string()))?;
    let mut server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((Arc::new(server), expiry))
}

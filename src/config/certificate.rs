//! The certificate that the brokers know the relay by, checked as the Kafka client will check it.
//!
//! Its files are read in `secrets`.

use super::mistakes::printable;
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use x509_cert::Certificate;
use x509_cert::der::Decode;

/// A certificate chain and the key of its first certificate, as their files held them; the key never prints.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    chain: SecretString,
    key: SecretString,
    key_password: Option<SecretString>,
    /// The leaf's subject as RFC 2253 writes it, which is what brokers call a client unless they are configured
    /// otherwise (`ssl.principal.mapping.rules`).
    pub subject: String,
    /// When the first certificate of the chain expires, in Unix seconds; `None` where that cannot be read.
    pub expires_at: Option<u64>,
}

/// Why chain and key are of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// No chain.
    Chain,
    /// No key.
    Key,
    /// Not the password of the key.
    Password,
    /// The key of another certificate.
    Pair,
}

impl ClientCertificate {
    /// Of a chain in PEM, leaf first, and a key in PEM with what it is encrypted with, if it is.
    pub(super) fn new(
        chain: SecretString,
        key: SecretString,
        key_password: Option<SecretString>,
    ) -> Result<Self, Fault> {
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(chain.expose_secret().as_bytes()).flatten().collect();
        let leaf = certificates.first().and_then(|leaf| Certificate::from_der(leaf).ok());
        let subject = leaf.map(|leaf| printable(&leaf.tbs_certificate().subject().to_string()));
        let subject = subject.unwrap_or_else(|| "a subject that cannot be read".to_owned());
        let this = Self { chain, key, key_password, subject, expires_at: first_expiry(&certificates) };
        match this.refusal() {
            None => Ok(this),
            Some(words) => Err(this.fault(&words)),
        }
    }

    /// Whether a client of Kafka with the other one would be the same.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.texts() == other.texts()
    }

    fn texts(&self) -> [Option<&str>; 3] {
        [Some(&self.chain), Some(&self.key), self.key_password.as_ref()]
            .map(|text| text.map(|text| text.expose_secret()))
    }

    /// Makes a client of Kafka use it.
    pub(crate) fn show(&self, client: &mut ClientConfig) {
        client.set("ssl.certificate.pem", self.chain.expose_secret());
        client.set("ssl.key.pem", self.key.expose_secret());
        if let Some(password) = &self.key_password {
            client.set("ssl.key.password", password.expose_secret());
        }
    }

    /// What librdkafka has against it: a client is made that asks nobody.
    fn refusal(&self) -> Option<String> {
        let mut client = ClientConfig::new();
        client.set("security.protocol", "ssl").set("group.id", "nobody");
        // Else it would read every certificate of the system.
        client.set("ssl.ca.pem", self.chain.expose_secret());
        self.show(&mut client);
        let made: Result<BaseConsumer<Silent>, _> = BaseConsumer::from_config_and_context(&client, Silent);
        made.err().map(|error| error.to_string())
    }

    /// What librdkafka's words are about (`rd_kafka_ssl_set_certs`, rdkafka_ssl.c).
    fn fault(&self, words: &str) -> Fault {
        match () {
            () if words.contains("ssl.ca.pem") || words.contains("ssl.certificate.pem") => Fault::Chain,
            // What a wrong password makes of a key is seldom one.
            () if words.contains("ssl.key.pem failed: not in PEM") && self.key_password.is_some() => Fault::Password,
            () if words.contains("mismatch") || words.contains("check failed") => Fault::Pair,
            () => Fault::Key,
        }
    }
}

/// Logs nothing: what librdkafka logs about a key is not ours to repeat.
struct Silent;

impl ClientContext for Silent {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}
}

impl ConsumerContext for Silent {}

/// When the first of these certificates expires, in Unix seconds; `None` where one of them cannot be read.
pub(crate) fn first_expiry(chain: &[CertificateDer<'_>]) -> Option<u64> {
    let expiries =
        chain.iter().map(|certificate| Certificate::from_der(certificate).ok().map(|read| expires_at(&read)));
    expiries.collect::<Option<Vec<_>>>()?.into_iter().min()
}

/// The end of a certificate's validity (RFC 5280, section 4.1.2.5), in Unix seconds.
fn expires_at(certificate: &Certificate) -> u64 {
    certificate.tbs_certificate().validity().not_after.to_unix_duration().as_secs()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]
    use super::*;

    fn made(chain: &str, key: &str, password: Option<&str>) -> Result<ClientCertificate, Fault> {
        let file = |name: &str| {
            let path = format!("{}/tests/fixtures/tls/kafka/{name}", env!("CARGO_MANIFEST_DIR"));
            SecretString::from(std::fs::read_to_string(path).unwrap())
        };
        ClientCertificate::new(file(chain), file(key), password.map(Into::into))
    }

    #[test]
    fn subject_and_end_are_read_and_nothing_prints() {
        let made = made("client.cert.pem", "client.encrypted.key.pem", Some("key-password")).unwrap();
        assert_eq!((made.subject.as_str(), made.expires_at), ("O=Shop,CN=relay", Some(4_949_164_800)));
        assert!(!format!("{made:?}").contains("key-password") && !format!("{made:?}").contains("BEGIN"));
    }

    #[test]
    fn each_fault_of_a_certificate_is_recognized() {
        let fault = |chain, key, password| made(chain, key, password).err();
        assert_eq!(fault("client.cert.pem", "client.key.pem", None), None);
        assert_eq!(fault("client.key.pem", "client.key.pem", None), Some(Fault::Chain));
        assert_eq!(fault("client.cert.pem", "client.cert.pem", None), Some(Fault::Key));
        assert_eq!(fault("client.cert.pem", "renewed.key.pem", None), Some(Fault::Pair));
        assert_eq!(fault("client.cert.pem", "client.encrypted.key.pem", Some("wrong")), Some(Fault::Password));
    }

    #[test]
    fn another_key_is_another_certificate() {
        let [plain, encrypted] = [("client.key.pem", None), ("client.encrypted.key.pem", Some("key-password"))];
        let of = |(key, password)| made("client.cert.pem", key, password).unwrap();
        assert!(of(plain).is_same(&of(plain)) && !of(plain).is_same(&of(encrypted)));
    }
}

//! Asks around why Kafka does not answer, where librdkafka only says that it does not.
//!
//! A client of its own asks for the topics and for that of the transactions' coordinators, and a TLS connection of its own
//! looks at the certificate, since OpenSSL's words are the same for an expired one and for one that nobody has signed.

use super::cause::Cause;
use super::client::{self, Context};
use super::errors::StartError;
use crate::config::{Config, Secrets};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::metadata::{Metadata, MetadataTopic};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A broker that has not answered by then does not.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// A slice of it, between which librdkafka's words are taken.
const SLICE: Duration = Duration::from_millis(500);
/// Bound on connecting to a broker, and on each of its answers, for a look at its certificate.
const TLS_WITHIN: Duration = Duration::from_secs(3);
/// Where the brokers keep their transactions (KIP-98); its partitions' leaders are the coordinators.
const TRANSACTIONS: &str = "__transaction_state";

/// A topic's name, and its `min.insync.replicas` where that can be read.
pub(super) type Known = (String, Option<i32>);

/// A sentence with the cause and its remedy, as far as one can be found within some seconds.
pub async fn why(config: &Config, secrets: &Secrets) -> Option<String> {
    let config = config.clone();
    let secrets = secrets.clone();
    tokio::task::spawn_blocking(move || ask(&config, &secrets, &[])).await.ok()?
}

/// The sentence of an error, or a better one where it only says that Kafka does not answer.
pub async fn explained(config: &Config, secrets: &Secrets, error: &StartError) -> String {
    let words = error.to_string();
    let is_told =
        !matches!(error, StartError::Failed(_)) || Cause::of(&words).is_some_and(|cause| cause != Cause::Certificate);
    if is_told { words } else { why(config, secrets).await.unwrap_or(words) }
}

/// The same, blocking; `known` are topics that were there.
pub(super) fn ask(config: &Config, secrets: &Secrets, known: &[Known]) -> Option<String> {
    let settings = client::consumer(config, secrets, "read_uncommitted");
    let consumer: BaseConsumer<Context> = BaseConsumer::from_config_and_context(&settings, Context::default()).ok()?;
    if metadata(&consumer, &config.kafka.topics.control).is_err() {
        return silent(config, &consumer);
    }
    for (name, min_insync_replicas) in known {
        let metadata = metadata(&consumer, name).ok()?;
        if let Some(words) = trouble(name, metadata.topics().first()?, *min_insync_replicas) {
            return Some(Cause::explained(&words));
        }
    }
    let metadata = metadata(&consumer, TRANSACTIONS).ok()?;
    let words = trouble(TRANSACTIONS, metadata.topics().first()?, None)?;
    let brokers = metadata.brokers().len();
    Some(format!("{words} ({brokers} brokers); {}", Cause::Coordinator.remedy()))
}

fn metadata(consumer: &BaseConsumer<Context>, topic: &str) -> KafkaResult<Metadata> {
    let began = Instant::now();
    loop {
        let answer = consumer.fetch_metadata(Some(topic), SLICE);
        // What the client heard meanwhile.
        while consumer.poll(Duration::ZERO).is_some() {}
        if answer.is_ok() || began.elapsed() >= ANSWER_WITHIN || consumer.context().said().denied.is_some() {
            return answer;
        }
    }
}

/// What is wrong with a topic that is written to.
fn trouble(name: &str, found: &MetadataTopic, min_insync_replicas: Option<i32>) -> Option<String> {
    if let Some(code @ (Code::UnknownTopicOrPartition | Code::UnknownTopic)) = found.error().map(Code::from) {
        return Some(format!("{name}: {code}"));
    }
    found.partitions().iter().find_map(|partition| {
        let in_sync = i32::try_from(partition.isr().len()).unwrap_or(i32::MAX);
        let place = format!("{name}[{}]", partition.id());
        match min_insync_replicas {
            _ if partition.leader() < 0 => Some(format!("{place} has no leader")),
            Some(min) if in_sync < min => Some(format!("{place} has {in_sync} in-sync replicas, fewer than {min}")),
            _ => None,
        }
    })
}

/// These words of librdkafka's, or better ones: why a certificate is refused, which it does not say.
pub(super) fn bettered(config: &Config, words: &str) -> String {
    let better = (Cause::of(words) == Some(Cause::Certificate)).then(|| certificate(config));
    better.flatten().unwrap_or_else(|| words.to_owned())
}

/// Nobody answered: what librdkafka said about it.
fn silent(config: &Config, consumer: &BaseConsumer<Context>) -> Option<String> {
    let words = consumer.context().reason()?;
    Cause::of(&words).map(|_| Cause::explained(&bettered(config, &words)))
}

/// Why the certificate of a broker is refused, by a look at it.
fn certificate(config: &Config) -> Option<String> {
    let mut roots = RootCertStore::empty();
    match &config.kafka.ca_file {
        Some(file) => roots.add_parsable_certificates(CertificateDer::pem_file_iter(file).ok()?.flatten()),
        None => roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    let tls = Arc::new(tls.with_root_certificates(roots).with_no_client_auth());
    config.kafka.bootstrap_servers.split(',').find_map(|server| refusal(server.trim(), &tls))
}

fn refusal(server: &str, tls: &Arc<ClientConfig>) -> Option<String> {
    let host = server.rsplit_once(':')?.0.trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned()).ok()?;
    let address = server.to_socket_addrs().ok()?.next()?;
    let mut socket = TcpStream::connect_timeout(&address, TLS_WITHIN).ok()?;
    socket.set_read_timeout(Some(TLS_WITHIN)).ok()?;
    socket.set_write_timeout(Some(TLS_WITHIN)).ok()?;
    let mut connection = ClientConnection::new(Arc::clone(tls), name).ok()?;
    let error = connection.complete_io(&mut socket).err()?;
    Some(format!("{server}: {error}"))
}

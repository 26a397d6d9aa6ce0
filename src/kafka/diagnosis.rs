//! Asks around why Kafka does not answer, where librdkafka only reports that it does not.
//!
//! A client of its own asks for the brokers, the topics and that of the transactions' coordinators, and a TLS connection of its
//! own looks at the certificate, since OpenSSL's words are the same for an expired one and for one that nobody has signed.

use super::blocking::Cancel;
use super::cause::Cause;
use super::client::{self, Context};
use super::errors::StartError;
use crate::config::{Config, Secrets};
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::metadata::{Metadata, MetadataPartition};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::fs::File;
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::time::timeout;

/// A broker that has not answered by then does not.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// A slice of it, between which librdkafka's words are taken.
const SLICE: Duration = Duration::from_millis(500);
/// Bound on connecting to a broker, and on each of its answers, for a look at its certificate.
const TLS_WITHIN: Duration = Duration::from_secs(3);
/// Where the brokers keep their transactions (KIP-98); its partitions' leaders are the coordinators.
const TRANSACTIONS: &str = "__transaction_state";

/// A sentence with the cause and its remedy, as far as one can be found within some seconds.
pub async fn why(config: &Config, secrets: &Secrets) -> Option<String> {
    why_of(config, secrets, Vec::new()).await
}

async fn why_of(config: &Config, secrets: &Secrets, known: Vec<String>) -> Option<String> {
    let config = config.clone();
    let secrets = secrets.clone();
    tokio::task::spawn_blocking(move || ask(&config, &secrets, &known, &Cancel::default())).await.ok()?
}

/// The sentence of an error with its remedy, or a better one where it only reports that Kafka does not answer; `known`
/// are topics that exist.
pub async fn explained(config: &Config, secrets: &Secrets, error: &StartError, known: Vec<String>) -> String {
    let words = error.to_string();
    let cause = Cause::of(&words);
    if !matches!(error, StartError::Failed(_)) {
        return words;
    }
    if let Some(cause) = cause.filter(|cause| !cause.is_vague()) {
        return if words.contains(cause.remedy()) { words } else { Cause::explained(&words) };
    }
    let better = why_of(config, secrets, known).await;
    better.filter(|better| cause.is_none() || Cause::of(better) != cause).unwrap_or(words)
}

/// The same, blocking, on a thread of the runtime's; `known` are the names of topics that were there.
pub(super) fn ask(config: &Config, secrets: &Secrets, known: &[String], cancel: &Cancel) -> Option<String> {
    let settings = client::consumer(config, secrets, "read_uncommitted");
    let consumer: BaseConsumer<Context> =
        BaseConsumer::from_config_and_context(&settings, Context::of(secrets)).ok()?;
    let Ok(cluster) = metadata(&consumer, &config.kafka.topics.control, cancel) else {
        return silent(config, &consumer);
    };
    let topics = known.iter().map(String::as_str).chain([TRANSACTIONS]);
    let topics: Vec<(&str, Metadata)> =
        topics.filter_map(|name| Some((name, metadata(&consumer, name, cancel).ok()?))).collect();
    drop(consumer);
    let of_topics = topics.iter().filter(|(name, _)| *name != TRANSACTIONS).find_map(trouble);
    let words = of_topics.or_else(|| out_of_sync(config, secrets, &topics, cancel)).or_else(|| {
        let mut brokers = cluster.brokers().iter();
        brokers.find_map(|broker| unreachable(broker.host(), broker.port()))
    });
    if let Some(words) = words {
        return Some(Cause::explained(&words));
    }
    let words = topics.iter().find(|(name, _)| *name == TRANSACTIONS).and_then(trouble)?;
    Some(format!("{words} ({} brokers); {}", cluster.brokers().len(), Cause::Coordinator.remedy()))
}

/// The partition of these topics that has fewer replicas in sync than its topic asks for.
fn out_of_sync(config: &Config, secrets: &Secrets, topics: &[(&str, Metadata)], cancel: &Cancel) -> Option<String> {
    let missing = |partition: &&MetadataPartition| partition.isr().len() < partition.replicas().len();
    // No topic asks for more than it has.
    let short: Vec<_> = topics
        .iter()
        .filter_map(|(name, metadata)| {
            let partitions = metadata.topics().first()?.partitions().iter().filter(missing);
            let worst = partitions.min_by_key(|partition| partition.isr().len())?;
            Some((*name, worst.id(), worst.isr().len(), worst.replicas().len()))
        })
        .collect();
    let wanted = in_sync_wanted(config, secrets, short.iter().map(|(name, ..)| *name), cancel)?;
    short.into_iter().zip(wanted).find_map(|((name, partition, in_sync, replicas), wanted)| {
        let wanted = wanted?.min(replicas);
        let place = format!("partition {partition} of {name}");
        (in_sync < wanted).then(|| format!("{place} has {in_sync} in-sync replicas, fewer than {wanted}"))
    })
}

/// That a broker cannot be had by the name that it gives to its clients, which need not be the one in
/// `kafka.bootstrap_servers`.
fn unreachable(host: &str, port: i32) -> Option<String> {
    let port = u16::try_from(port).ok()?;
    let host = host.trim_matches(['[', ']']);
    let addresses = match (host, port).to_socket_addrs() {
        Ok(addresses) => addresses,
        Err(error) => {
            return Some(format!("Failed to resolve '{host}:{port}', the advertised name of a broker: {error}"));
        }
    };
    let mut refused = None;
    for address in addresses {
        match TcpStream::connect_timeout(&address, TLS_WITHIN) {
            Ok(_) => return None,
            Err(error) => refused = Some(format!("{host}:{port}, the advertised address of a broker: {error}")),
        }
    }
    refused
}

/// `min.insync.replicas` of each topic, as far as we may read it.
fn in_sync_wanted<'n>(
    config: &Config,
    secrets: &Secrets,
    names: impl ExactSizeIterator<Item = &'n str>,
    cancel: &Cancel,
) -> Option<Vec<Option<usize>>> {
    if names.len() == 0 {
        return None;
    }
    let admin = AdminClient::from_config_and_context(&client::base(config, secrets), Context::of(secrets)).ok()?;
    let topics: Vec<_> = names.map(ResourceSpecifier::Topic).collect();
    let options = AdminOptions::new().request_timeout(Some(ANSWER_WITHIN));
    let runtime = Handle::try_current().ok()?;
    let mut asked = pin!(admin.describe_configs(&topics, &options));
    let answers = loop {
        match runtime.block_on(async { timeout(SLICE, &mut asked).await }) {
            Ok(answers) => break answers.ok()?,
            Err(_) if cancel.is_set() => return None,
            Err(_) => {}
        }
    };
    // Answers come in the order of the questions.
    let wanted = |answer: ConfigResource| answer.get("min.insync.replicas")?.value.as_ref()?.parse().ok();
    Some(answers.into_iter().map(|answer| answer.ok().and_then(wanted)).collect())
}

fn metadata(consumer: &BaseConsumer<Context>, topic: &str, cancel: &Cancel) -> KafkaResult<Metadata> {
    let began = Instant::now();
    loop {
        let answer = consumer.fetch_metadata(Some(topic), SLICE);
        // What the client received meanwhile.
        while consumer.poll(Duration::ZERO).is_some() {}
        let is_over = began.elapsed() >= ANSWER_WITHIN || cancel.is_set();
        if answer.is_ok() || is_over || consumer.context().said().denied.is_some() {
            return answer;
        }
    }
}

/// What is wrong with a topic that is written to.
fn trouble((name, found): &(&str, Metadata)) -> Option<String> {
    let found = found.topics().first()?;
    if let Some(code @ (Code::UnknownTopicOrPartition | Code::UnknownTopic)) = found.error().map(Code::from) {
        return Some(format!("{name}: {code}"));
    }
    let headless = found.partitions().iter().find(|partition| partition.leader() < 0)?;
    Some(format!("{name}[{}] has no leader", headless.id()))
}

/// These words of librdkafka's, or better ones where they are vague: why a certificate is refused, which it does not
/// report, or that a listener which closed at the first request speaks TLS.
pub(super) fn bettered(config: &Config, words: &str) -> String {
    let better = match Cause::of(words) {
        Some(Cause::Certificate) => refusals(config).find(|words| Cause::of(words).is_some()),
        // Who speaks TLS and wants a certificate may close before the alert about it is read.
        Some(Cause::NotUnderstood) if config.kafka.tls => {
            Some(format!("{words}: client SSL authentication might be required"))
        }
        Some(Cause::NotUnderstood) => speaks_tls(config),
        Some(Cause::Resolve) => descriptors_spent(),
        _ => None,
    };
    better.unwrap_or_else(|| words.to_owned())
}

/// That no file can be opened. It looks like a name without an address, since to find one takes a file.
pub(super) fn descriptors_spent() -> Option<String> {
    File::open("/dev/null").err().map(|error| error.to_string()).filter(|words| words.contains("Too many open files"))
}

/// Nobody answered: what librdkafka reported about it, or what a look at the listeners shows.
fn silent(config: &Config, consumer: &BaseConsumer<Context>) -> Option<String> {
    let said = consumer.context().reason().filter(|words| Cause::of(words).is_some());
    let words = said.or_else(|| if config.kafka.tls { None } else { speaks_tls(config) })?;
    Some(Cause::explained(&bettered(config, &words)))
}

/// Why the certificate of each broker is refused, by a look at it.
fn refusals(config: &Config) -> impl Iterator<Item = String> {
    let servers = config.kafka.bootstrap_servers.split(',').map(str::trim);
    servers.filter_map(|server| shake(config, server)?.err().map(|error| format!("{server}: {error}")))
}

/// That a server answers a TLS handshake, with whatever certificate.
fn speaks_tls(config: &Config) -> Option<String> {
    let mut servers = config.kafka.bootstrap_servers.split(',').map(str::trim);
    let is_tls = |error: &io::Error| error.to_string().contains("invalid peer certificate");
    let found =
        servers.find(|server| shake(config, server).is_some_and(|shaken| shaken.as_ref().err().is_none_or(is_tls)))?;
    Some(format!("{found} speaks TLS"))
}

/// A TLS handshake with a server, `host:port`; `None` where there is nobody to shake hands with.
fn shake(config: &Config, server: &str) -> Option<io::Result<()>> {
    let mut roots = RootCertStore::empty();
    match &config.kafka.ca_file {
        Some(file) => roots.add_parsable_certificates(CertificateDer::pem_file_iter(file).ok()?.flatten()),
        None => roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    let tls = Arc::new(tls.with_root_certificates(roots).with_no_client_auth());
    let host = server.rsplit_once(':')?.0.trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned()).ok()?;
    let address = server.to_socket_addrs().ok()?.next()?;
    let socket = TcpStream::connect_timeout(&address, TLS_WITHIN).ok()?;
    let connection = ClientConnection::new(tls, name).ok()?;
    Some(complete(connection, &socket, Instant::now() + TLS_WITHIN))
}

/// Completes a handshake until then: a peer that sends a byte now and then does not hold it up.
fn complete(mut connection: ClientConnection, mut socket: &TcpStream, until: Instant) -> io::Result<()> {
    while connection.is_handshaking() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        socket.set_write_timeout(Some(left))?;
        if connection.wants_write() {
            connection.write_tls(&mut socket)?;
        } else if connection.read_tls(&mut socket)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        } else {
            connection.process_new_packets().map_err(io::Error::other)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]

    use super::*;
    use std::io::Write;
    use std::net::TcpListener;
    use std::sync::mpsc::{RecvTimeoutError, channel};

    #[test]
    fn a_peer_that_sends_a_byte_now_and_then_does_not_hold_a_handshake_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (done, is_done) = channel::<()>();
        let peer = std::thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            // The head of a handshake record, and then its bytes, one each time that nothing else happens.
            peer.write_all(&[0x16, 3, 3, 0x40, 0]).unwrap();
            let goes_on = || is_done.recv_timeout(Duration::from_millis(20)) == Err(RecvTimeoutError::Timeout);
            while goes_on() && peer.write_all(&[0]).is_ok() {}
        });
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = tls.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        let connection = ClientConnection::new(Arc::new(tls), "localhost".try_into().unwrap()).unwrap();
        let ended = complete(connection, &socket, Instant::now() + Duration::from_millis(300)).unwrap_err();
        assert!(matches!(ended.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock), "{ended}");
        drop(done);
        peer.join().unwrap();
    }
}

//! TLS with Kafka: what is reported about a broker's certificate that is refused, and about one of ours.

use super::pressure::live;
use super::trouble::told;
use crate::support::acl::{self, Resource};
use crate::support::process::{Process, check};
use crate::support::relay::{Rig, until};
use crate::support::tls::{CLIENT, KEY_PASSWORD, TlsBroker, fixture};
use crate::support::watch::metric;
use std::path::{Path, PathBuf};
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_a_broker_that_is_refused_is_named() {
    let broker = TlsBroker::start();
    let mut cases = JoinSet::new();
    for (listener, remedy) in [
        ("expired", "the broker's certificate has expired"),
        ("elsewhere", "the broker's certificate is for another host"),
    ] {
        let (_open, rig) = broker.rig(listener, listener).await;
        cases.spawn(async move { told(&rig, remedy).await });
    }
    let (_open, mut rig) = broker.rig("good", "authority").await;
    rig.config.kafka.ca_file =
        Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls/localhost.cert.pem"));
    cases.spawn(async move { told(&rig, "name its authority in kafka.ca_file").await });
    cases.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_to_a_plain_port_and_back_is_named() {
    let broker = TlsBroker::start();
    let (open, mut rig) = broker.rig("good", "plain").await;
    rig.config.kafka.bootstrap_servers = open.config.kafka.bootstrap_servers.clone();
    let (mut open, _rig) = broker.rig("good", "back").await;
    open.config.kafka.bootstrap_servers = broker.bootstrap("good");
    tokio::join!(told(&rig, "set kafka.tls = false"), told(&open, "set kafka.tls = true"));
}

/// When the client's two certificates expire, in Unix seconds, as `openssl x509 -enddate` prints it.
const CLIENT_EXPIRES: u64 = 4_949_164_800;
const RENEWED_EXPIRES: u64 = 4_951_756_800;

const EXPIRES: &str = "kafka_certificate_expires_timestamp_seconds";

/// The relay is known by these two files.
fn known_by(rig: &mut Rig, certificate: &Path, key: &Path) {
    rig.config.kafka.tls_cert_file = Some(certificate.to_owned());
    rig.config.kafka.tls_key_file = Some(key.to_owned());
}

/// A start is refused with this status, and both it and `check` print these words.
async fn refused(rig: &Rig, status: i32, words: &[&str]) {
    let mut relay = Process::start(rig);
    assert_eq!(relay.ended().await, Some(status), "{}", relay.said());
    let (checked, findings) = check(rig).await;
    assert_eq!(checked, Some(1), "{findings}");
    for said in [relay.said(), findings] {
        assert!(words.iter().all(|words| said.contains(words)), "wanted {words:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_certificate_opens_the_door_and_one_that_is_refused_is_named() {
    let broker = TlsBroker::start();
    let (open, mut rig) = broker.rig("mutual", "mutual").await;
    refused(&rig, 77, &["a connection without a certificate", "set kafka.tls_cert_file and kafka.tls_key_file"]).await;
    // Signed by somebody whom the broker does not know.
    let localhost = |kind: &str| fixture("..").join(format!("localhost.{kind}.pem"));
    known_by(&mut rig, &localhost("cert"), &localhost("key"));
    refused(&rig, 77, &["the certificate of `CN=localhost`", "whose authority the brokers trust"]).await;
    // Known, and allowed nothing.
    known_by(&mut rig, &fixture("client.cert.pem"), &fixture("client.key.pem"));
    let principal = format!("--allow-principal \\\"User:{CLIENT}\\\"");
    let mut relay = Process::start(&rig);
    assert_eq!(relay.ended().await, Some(77), "{}", relay.said());
    let said = relay.said();
    assert!(said.contains(&format!("does not allow `{CLIENT}` to")) && said.contains(&principal), "{said}");
    let (status, findings) = check(&rig).await;
    assert_eq!(status, Some(1), "{findings}");
    assert!(findings.contains(&format!("--allow-principal \"User:{CLIENT}\"")), "{findings}");
    for resource in [Resource::Topics(&rig.config.name), Resource::TransactionalIds(&rig.config.name)] {
        acl::allow(broker.broker.bootstrap(), CLIENT, resource);
    }
    let relay = Process::ready(&rig).await;
    live(&open, 1);
    open.until_delivered().await;
    assert_eq!(metric(&open, EXPIRES).await, CLIENT_EXPIRES);
    let (status, findings) = check(&rig).await;
    assert_eq!(status, Some(0), "{findings}");
    relay.stop().await;
    open.assert_delivered().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_certificate_is_renewed_under_load_and_nothing_is_lost_or_repeated() {
    let broker = TlsBroker::start();
    let (open, mut rig) = broker.rig("mutual", "renewed").await;
    let open = open.with_webhooks();
    for resource in [Resource::Topics(&rig.config.name), Resource::TransactionalIds(&rig.config.name)] {
        acl::allow(broker.broker.bootstrap(), CLIENT, resource);
    }
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key, password] = ["cert.pem", "key.pem", "password"].map(|name| folder.path().join(name));
    let put = |file: &PathBuf, name: &str| assert!(std::fs::copy(fixture(name), file).unwrap() > 0);
    put(&certificate, "client.cert.pem");
    put(&key, "client.encrypted.key.pem");
    std::fs::write(&password, KEY_PASSWORD).unwrap();
    known_by(&mut rig, &certificate, &key);
    rig.config.secret_files.kafka_key_password = Some(password);
    let mut relay = Process::ready(&rig).await;
    assert_eq!(metric(&open, EXPIRES).await, CLIENT_EXPIRES);
    let load = open.load();
    // The key of another certificate: everything stays as it was.
    put(&key, "renewed.key.pem");
    relay.signal("HUP");
    let line = relay.line_of("not reloaded, everything stays as it was").await.to_string();
    assert!(line.contains("kafka.tls_key_file: names a key that is not the one of the certificate"), "{line}");
    for (round, (name, expires)) in [("renewed", RENEWED_EXPIRES), ("client", CLIENT_EXPIRES)].into_iter().enumerate() {
        put(&certificate, &format!("{name}.cert.pem"));
        put(&key, &format!("{name}.key.pem"));
        relay.signal("HUP");
        until("reloaded", || relay.count("reloaded") == round + 1).await;
        assert_eq!(metric(&open, EXPIRES).await, expires);
        let before = open.simulator.events().len();
        until("events", || open.simulator.events().len() > before + 200).await;
    }
    load.stop().await;
    open.until_delivered().await;
    open.simulator.wait_for_webhooks().await;
    relay.stop().await;
    open.assert_delivered().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_a_client_certificate_that_are_wrong_are_named() {
    let rig = Rig::new("127.0.0.1:1", "files").await;
    let missing = Path::new("/nowhere/client.pem");
    let [certificate, key, encrypted] = ["client.cert.pem", "client.key.pem", "client.encrypted.key.pem"].map(fixture);
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "not-the-password").unwrap();
    for (certificate, key, password, words) in [
        (missing, key.as_path(), None, "/nowhere/client.pem: kafka.tls_cert_file: names a file that cannot be read"),
        (&certificate, missing, None, "/nowhere/client.pem: kafka.tls_key_file: names a file that cannot be read"),
        (&key, &key, None, "kafka.tls_cert_file: names a file that holds no certificate chain"),
        (&certificate, &certificate, None, "kafka.tls_key_file: names a file that holds no private key"),
        (&certificate, &fixture("renewed.key.pem"), None, "kafka.tls_key_file: names a key that is not the one of"),
        (
            &certificate,
            &encrypted,
            None,
            "the password of the Kafka client's key is missing; give it as PEPAY_RELAY_KAFKA_KEY_PASSWORD",
        ),
        (
            &certificate,
            &encrypted,
            Some(&password),
            "kafka.tls_key_password_file: holds a password that does not open the key",
        ),
    ] {
        let mut config = rig.config.clone();
        config.kafka.tls = true;
        config.secret_files.kafka_key_password = password.cloned();
        let (simulator, secrets, tuning) = (rig.simulator.clone(), rig.secrets.clone(), rig.tuning);
        let mut wrong = Rig { simulator, config, secrets, tuning };
        known_by(&mut wrong, certificate, key);
        let mut relay = Process::start(&wrong);
        assert_eq!(relay.ended().await, Some(78), "{}", relay.said());
        assert!(relay.said().contains(words), "wanted {words}: {}", relay.said());
        assert!(!relay.said().contains("not-the-password"), "{}", relay.said());
    }
}

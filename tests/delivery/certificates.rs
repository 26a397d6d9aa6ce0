//! TLS with Kafka: what is said about a broker's certificate that is refused.

use super::trouble::told;
use crate::support::tls::TlsBroker;
use std::path::Path;
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

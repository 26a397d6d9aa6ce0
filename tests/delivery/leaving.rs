//! The process leaves by its own status: no signal ends it, whenever it is stopped and whatever its threads are about.
//!
//! OpenSSL frees what it keeps for a thread when that thread ends. A thread of librdkafka's, or one of ours that used it,
//! which ends while the process takes OpenSSL down crashes it, mostly in the allocator. So brokers here speak TLS.

use super::pressure::with_permissions;
use crate::support::kafka::Broker;
use crate::support::process::{self, Process};
use crate::support::relay::{Rig, until};
use crate::support::settings::{config, publisher, secrets};
use crate::support::watch::eventually;
use pepay_relay::config::AccountSecrets;
use pepay_relay::daemon::{Daemon, Setup};
use pepay_relay::kafka::client::Tuning;
use pepay_relay::kafka::embedded::Embedded;
use pepay_relay::kafka::topics::Topics;
use pepay_relay::kafka::{Broker as KafkaBroker, Publisher, PublisherSetup};
use pepay_relay::labels::Leg;
use pepay_relay::simulator::{Options, Simulator};
use pepay_relay::telemetry::{Metrics, Phase};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::sleep;

/// Starts of each kind; `SECURED_STARTS` changes that.
const STARTS: u64 = 6;

/// Longer than a start takes, so that moments of every phase are hit, and some while it relays.
const MOMENTS_MS: u64 = 1_500;

/// Each `check` ends with 0 and each `run` that is asked to stop too, at a moment that nobody chose.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_signal_ends_a_process_that_speaks_tls_to_kafka() {
    #[expect(clippy::disallowed_methods, reason = "a setting of the tests, not of the relay")]
    let wanted = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let starts = wanted("SECURED_STARTS").unwrap_or(STARTS);
    let seed = wanted("SECURED_SEED").unwrap_or(7);
    let broker = Broker::start_secured();
    let (_rig, secured) = with_permissions(&broker, "leaving").await;
    let mut random = StdRng::seed_from_u64(seed);
    let mut ends = Vec::new();
    for n in 0..starts {
        // The moment is what is tested: there is no event for it.
        let moment = Duration::from_millis(random.random_range(0..MOMENTS_MS));
        ends.push((format!("run {n}, stopped after {moment:?}"), stopped_after(&secured, moment).await));
        let (status, said) = process::check(&secured).await;
        ends.push((format!("check {n}: {said}"), status));
    }
    let count = |wanted: Option<i32>| ends.iter().filter(|(_, end)| *end == wanted).count();
    println!("{} ends, seed {seed}: {} with status 0, {} by a signal", ends.len(), count(Some(0)), count(None));
    let wrong: Vec<_> = ends.iter().filter(|(_, end)| *end != Some(0)).collect();
    assert!(wrong.is_empty(), "SECURED_SEED={seed}: {wrong:?}");
}

/// A signal during the start drops the future of the claim: its thread is waited for before the process goes on to leave.
#[test]
fn a_claim_that_nobody_waits_for_any_more_is_gone_with_its_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let metrics = Arc::new(Metrics::new("test"));
    runtime.block_on(async {
        // A broker that answers nothing: the claim waits for it.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = config(&silent.local_addr().unwrap().to_string(), "given-up");
        let setup = publisher(&config, &secrets(None), Topics::default());
        let claim =
            Publisher::start(PublisherSetup { broker: KafkaBroker::Embedded, metrics: Arc::clone(&metrics), ..setup });
        tokio::select! {
            claimed = claim => panic!("nobody answered: {:?}", claimed.map(|_| ())),
            asked = silent.accept() => drop(asked.unwrap()),
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(30));
    assert_eq!(Arc::strong_count(&metrics), 1, "the thread that shares them has ended");
}

/// A program that gives a relay up, as a demo that fails does, ends, although Kafka went first with something under way.
#[test]
fn a_relay_that_nobody_waits_for_any_more_is_gone_with_its_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let metrics = runtime.block_on(async {
        let simulator = Simulator::start(Options::default()).await.unwrap();
        let mut config = config("", "dropped");
        config.provider.api_url = simulator.api_url();
        config.provider.websocket_url = simulator.websocket_url();
        let kafka = Embedded::start(&config).await.unwrap();
        kafka.bootstrap_servers().clone_into(&mut config.kafka.bootstrap_servers);
        let mut secrets = secrets(None);
        secrets.accounts = vec![AccountSecrets::sole(simulator.api_key(), vec![simulator.webhook_secret().into()])];
        let broker = KafkaBroker::Embedded;
        let daemon = Daemon::start(Setup { config, secrets, broker, tuning: Tuning::default(), from_ms: None });
        let daemon = daemon.await.unwrap();
        let mut health = daemon.health.subscribe();
        health.wait_for(|state| state.phase == Phase::Ready).await.unwrap();
        simulator.wait_for_connections(1).await;
        drop(kafka);
        simulator.create_order().unwrap();
        eventually("an event waits for Kafka", async || daemon.metrics.in_flight(Leg::Websocket) > 0).await;
        Arc::clone(&daemon.metrics)
    });
    runtime.shutdown_timeout(Duration::from_secs(30));
    assert_eq!(Arc::strong_count(&metrics), 1, "the threads that share them have ended");
}

/// A `run` that is asked to stop this long after it listens to signals; its status, `None` by a signal.
async fn stopped_after(rig: &Rig, moment: Duration) -> Option<i32> {
    let mut relay = Process::start(rig);
    // Signals are listened to before the admin listener is bound.
    until("it listens", || TcpStream::connect(rig.config.admin.listen).is_ok()).await;
    sleep(moment).await;
    relay.signal("TERM");
    relay.ended().await
}

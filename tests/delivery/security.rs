//! TLS, credentials and permissions.

use super::publish::{batch, unique};
use crate::support::kafka::{Broker as TestBroker, STRANGER, USER};
use crate::support::settings::{config, publisher, secrets};
use pepay_relay::config::Config;
use pepay_relay::kafka::errors::StartError;
use pepay_relay::kafka::{Publisher, Verdict, topics};

fn secured(broker: &TestBroker, user: &str, mechanism: &str) -> Config {
    let mut config = config(&broker.secured().bootstrap, &unique("secured"));
    config.kafka.tls = true;
    config.kafka.ca_file = Some(broker.secured().ca_file.clone());
    config.kafka.username = Some(user.to_owned());
    config.kafka.sasl_mechanism = Some(mechanism.to_owned());
    config
}

#[tokio::test]
async fn tls_with_scram_and_plain_works_and_refusals_name_their_remedy() {
    let broker = TestBroker::start_secured();
    for mechanism in ["SCRAM-SHA-512", "PLAIN"] {
        let config = secured(&broker, USER.0, mechanism);
        let secrets = secrets(Some(USER.1));
        let topics = topics::ensure(&config, &secrets).await.unwrap();
        let started = Publisher::start(publisher(&config, &secrets, topics)).await;
        let (mut publisher, _) = started.unwrap();
        publisher.submit(batch(&config, ["evt_1-1".into()], b"{}"), false);
        assert!(matches!(publisher.verdict().await.1, Ok(Verdict::Committed { .. })));
    }

    let wrong = topics::ensure(&secured(&broker, USER.0, "SCRAM-SHA-512"), &secrets(Some("wrong"))).await;
    let Err(StartError::Denied(text)) = wrong else { panic!("{wrong:?}") };
    assert!(text.contains("credentials of `relay`") && text.contains("PEPAY_RELAY_KAFKA_PASSWORD"), "{text}");

    let config = secured(&broker, STRANGER.0, "PLAIN");
    let denied = topics::ensure(&config, &secrets(Some(STRANGER.1))).await;
    let Err(StartError::Denied(text)) = denied else { panic!("{denied:?}") };
    assert!(text.contains("--allow-principal User:stranger") && text.contains("--topic"), "{text}");
}

//! Topics created as wanted, and wrong ones named with their remedy.

use super::publish::unique;
use crate::support::kafka::Broker;
use crate::support::proxy::{CREATE_TOPICS, DESCRIBE_CONFIGS, Fault, Proxy};
use crate::support::settings::{config, secrets};
use pepay_relay::kafka::errors::StartError;
use pepay_relay::kafka::topics;
use pepay_relay::labels::Topic;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;

#[tokio::test]
async fn created_topics_are_as_wanted() {
    let config = config(Broker::shared().bootstrap(), &unique("created"));
    let made = topics::ensure(&config, &secrets(None)).await.unwrap();
    assert_eq!(made.warnings().count(), 5, "one replica each: {made:?}");
    for report in topics::inspect(&config, &secrets(None)).await.unwrap().reports {
        let actual = report.actual.unwrap();
        let settings = actual.settings.unwrap();
        assert_eq!(actual.partitions, if report.topic == Topic::Control { 1 } else { 6 });
        assert_eq!(settings.cleanup_policy.as_deref(), Some(report.wanted.cleanup_policy));
    }
}

#[tokio::test]
async fn a_wrong_cleanup_policy_is_named_with_its_remedy() {
    let mut config = config(Broker::shared().bootstrap(), &unique("cleanup"));
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", Broker::shared().bootstrap()).create().unwrap();
    let wrong =
        NewTopic::new(&config.kafka.topics.orders, 6, TopicReplication::Fixed(1)).set("cleanup.policy", "compact");
    admin.create_topics([&wrong], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    let refused = topics::ensure(&config, &secrets(None)).await;
    let Err(StartError::Settings(text)) = refused else { panic!("{refused:?}") };
    assert!(
        text.contains(&format!("--topic {} --add-config cleanup.policy=delete", config.kafka.topics.orders)),
        "{text}"
    );

    config.kafka.create_topics = false;
    config.kafka.topics.invoices = unique("never-made");
    let refused = topics::ensure(&config, &secrets(None)).await;
    let Err(StartError::Settings(text)) = refused else { panic!("{refused:?}") };
    assert!(text.contains("does not exist") && text.lines().count() == 2, "every mistake at once: {text}");
}

/// The broker obeys and its answer is lost: the start looks again and finds the topics, or asks for what it still has
/// to know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_whose_question_is_not_answered_asks_again() {
    let proxy = Proxy::start();
    let _broker = Broker::start_behind(&proxy);
    let config = config(&proxy.address().to_string(), &unique("unanswered"));
    proxy.set(&[Fault::LoseAnswers(CREATE_TOPICS)], None);
    let made = topics::ensure(&config, &secrets(None)).await.unwrap();
    assert!(made.reports.iter().all(|report| report.actual.is_some()), "{made:?}");
    // A look that is not patient ends, one that is asks again.
    proxy.set(&[Fault::LoseAnswers(DESCRIBE_CONFIGS)], None);
    let told = topics::inspect(&config, &secrets(None)).await.unwrap_err().to_string();
    assert!(told.contains("reading the topics' settings"), "{told}");
    proxy.set(&[Fault::LoseAnswers(DESCRIBE_CONFIGS)], None);
    let asked = proxy.clone();
    let healed = tokio::task::spawn_blocking(move || {
        asked.wait_for(DESCRIBE_CONFIGS);
        // And once more.
        asked.set(&[Fault::LoseAnswers(DESCRIBE_CONFIGS)], None);
        asked.wait_for(DESCRIBE_CONFIGS);
        asked.clear();
    });
    let known = topics::ensure(&config, &secrets(None)).await.unwrap();
    healed.await.unwrap();
    assert!(known.reports.iter().all(|report| report.actual.as_ref().is_some_and(|actual| actual.settings.is_some())));
}

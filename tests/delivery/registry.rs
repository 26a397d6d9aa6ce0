//! A schema registry: its names for schemas are in a header, values stay as they are, and nothing waits for it.

use super::pressure::live;
use crate::support::kafka::Broker;
use crate::support::process::{Process, check, run};
use crate::support::records::committed;
use crate::support::registry::{Manner, Registry};
use crate::support::relay::Rig;
use pepay_relay::labels::Topic;
use tokio::net::TcpListener;

async fn rig(url: &str, test: &str) -> Rig {
    let mut rig = Rig::new(Broker::shared().bootstrap(), test).await;
    rig.config.kafka.schema_registry_url = Some(url.to_owned());
    rig
}

/// Every record names a schema that its value keeps to; how many they are.
async fn judged(rig: &Rig, registry: &Registry, length: usize) -> usize {
    let mut count = 0;
    for topic in [Topic::Orders, Topic::OrdersLatest, Topic::Invoices] {
        for record in committed(&rig.config, topic).await {
            let name = record.schema_id.as_deref().expect("a header");
            assert_eq!(name.len(), length);
            let validator = jsonschema::draft202012::new(&registry.named(name)).unwrap();
            let errors: Vec<_> = validator.iter_errors(&record.json()).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{errors:?}");
            count += 1;
        }
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_name_their_schema_and_values_stay_as_they_were() {
    for (manner, length) in [(Manner::WithGuid, 17), (Manner::WithNumber, 5)] {
        let registry = Registry::start(manner).await;
        let rig = rig(registry.url(), "schemas").await;
        let mut relay = Process::ready(&rig).await;
        relay.line("schemas registered").await;
        let subjects = ["invoices", "orders", "orders.latest"].map(|kind| format!("{}.{kind}-value", rig.config.name));
        assert_eq!(registry.subjects(), subjects);
        live(&rig, 3);
        rig.until_delivered().await;
        // The same bytes as without a registry.
        rig.assert_delivered().await;
        let count = judged(&rig, &registry, length).await;
        assert!(count > 20, "{count}");
        // What is published again names it as well.
        let order = rig.simulator.create_order().unwrap();
        rig.until_delivered().await;
        let (status, _, said) = run(&rig, &["replay", "--order", &order, "--yes"]).await;
        assert_eq!(status, Some(0), "{said}");
        assert!(judged(&rig, &registry, length).await > count + 1);
        let (status, findings) = check(&rig).await;
        assert!(status == Some(0) && findings.contains("registry"), "{findings}");
        relay.stop().await;
        // The next one finds nobody there, and uses what this one knew.
        registry.leave();
        let count = judged(&rig, &registry, length).await;
        let mut relay = Process::ready(&rig).await;
        relay.line("schemas not registered").await;
        live(&rig, 1);
        rig.until_delivered().await;
        assert!(judged(&rig, &registry, length).await > count);
        relay.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_is_away_delays_nothing_and_is_asked_again() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = port.local_addr().unwrap();
    drop(port);
    let rig = rig(&format!("http://{address}/behind"), "no-registry").await;
    let mut relay = Process::ready(&rig).await;
    let line = relay.line_with("schemas not registered", "why", "it cannot be reached").await;
    assert!(line["remedy"].as_str().unwrap().contains("see kafka.schema_registry_url"), "{line}");
    let (status, findings) = check(&rig).await;
    assert!(status == Some(1) && findings.contains("see kafka.schema_registry_url"), "{findings}");
    live(&rig, 2);
    rig.until_delivered().await;
    for topic in [Topic::Orders, Topic::OrdersLatest, Topic::Invoices] {
        assert!(committed(&rig.config, topic).await.iter().all(|record| record.schema_id.is_none()));
    }
    let registry = Registry::start_on(TcpListener::bind(address).await.unwrap(), Manner::WithGuid);
    relay.line("schemas registered").await;
    live(&rig, 1);
    rig.until_delivered().await;
    let named = committed(&rig.config, Topic::Orders).await.into_iter().find_map(|record| record.schema_id);
    assert_eq!(registry.named(&named.expect("a header"))["type"], "object");
    relay.stop().await;
    rig.assert_delivered().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_refuses_hangs_or_floods_is_named_and_holds_nothing_up() {
    for (manner, why, remedy) in [
        (Manner::Incompatible, "HTTP 409 (Schema being registered is incompatible", "compatibility of its subject"),
        (Manner::Flood, "larger than 64 KiB", "is the address of a schema registry"),
        (Manner::Hang, "does not answer within 10s", "can be reached from here"),
    ] {
        let registry = Registry::start(manner).await;
        let rig = rig(registry.url(), "odd-registry").await;
        let mut relay = Process::ready(&rig).await;
        live(&rig, 1);
        rig.until_delivered().await;
        let line = relay.line_with("schemas not registered", "why", why).await;
        assert!(line["remedy"].as_str().unwrap().contains(remedy), "{line}");
        relay.stop().await;
        rig.assert_delivered().await;
    }
}

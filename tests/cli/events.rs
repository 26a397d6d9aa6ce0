//! `events` against the simulator.

use super::{relay, relay_with, start};
use pepay_relay::simulator::{Options, Simulator, Transition};
use serde_json::Value;

#[tokio::test]
async fn every_page_is_asked_for_and_objects_stay_as_they_came() {
    let simulator = start().await;
    // Two events each: three pages.
    for _ in 0..101 {
        simulator.create_order().unwrap();
    }
    let said = relay(&simulator, &["events", "list", "--limit", "250", "--output", "json"]).await;
    assert_eq!((said.status, said.stderr.as_str()), (0, ""));
    let issued = simulator.events();
    let wanted: Vec<&str> = issued.iter().rev().map(|event| std::str::from_utf8(&event.bytes).unwrap()).collect();
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert_eq!(lines.len(), 202);
    let value = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    for (line, wanted) in lines.iter().zip(wanted) {
        assert_eq!(value(line), value(wanted));
    }
    let said = relay(&simulator, &["events", "list", "--limit", "3", "--output", "json"]).await;
    assert_eq!(said.stdout.lines().collect::<Vec<_>>(), lines[..3]);
    let after = value(lines[2])["id"].as_str().unwrap().to_owned();
    let said = relay(&simulator, &["events", "list", "--limit", "2", "--after", &after, "--output", "json"]).await;
    assert_eq!(said.stdout.lines().collect::<Vec<_>>(), lines[3..5]);
}

#[tokio::test]
async fn filters_reach_the_provider() {
    let simulator = start().await;
    let order = simulator.create_order().unwrap();
    simulator.create_order().unwrap();
    simulator.simulate(&order, Transition::PaymentConfirmed).unwrap();
    let invoice = simulator.order(&order).unwrap().invoice_id;
    let said =
        relay(&simulator, &["events", "list", "--type", "invoice.*", "--invoice", &invoice, "--output", "json"]).await;
    let kinds: Vec<String> = said
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["type"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(kinds, ["invoice.updated", "invoice.created"], "{}", said.stderr);
    let said = relay(&simulator, &["events", "list", "--to", "2020-01-01T00:00:00Z"]).await;
    assert_eq!((said.status, said.stdout.as_str()), (0, "no such event in the provider's log\n"));
}

/// The same text whenever it is: times and the ids made of them have zeros for digits.
fn timeless(text: &str) -> String {
    let is_time = |word: &str| word.starts_with("evt_") || word.starts_with("20") || word.matches(':').count() == 2;
    let zeros = |word: &str| word.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    text.split_inclusive([' ', '\n'])
        .map(|word| if is_time(word.trim()) { zeros(word) } else { word.to_owned() })
        .collect()
}

#[tokio::test]
async fn people_read_a_table_and_one_event_whole() {
    let simulator = start().await;
    let order = simulator.create_order().unwrap();
    simulator.simulate(&order, Transition::PaymentConfirmed).unwrap();
    let said = relay(&simulator, &["events", "list", "--utc"]).await;
    assert_eq!((said.status, said.stderr.as_str()), (0, ""));
    let lines: Vec<&str> = said.stdout.lines().collect();
    let id = lines[2].split_whitespace().last().unwrap().to_owned();
    insta::assert_snapshot!("events-list", timeless(&said.stdout));
    let said = relay(&simulator, &["events", "get", &id, "--utc"]).await;
    assert_eq!((said.status, said.stderr.as_str()), (0, ""));
    let (head, whole) = said.stdout.split_once("\n\n").unwrap();
    insta::assert_snapshot!("events-get", timeless(head));
    assert_eq!(serde_json::from_str::<Value>(whole).unwrap()["id"], id);
    let json = relay(&simulator, &["events", "get", &id, "--output", "json"]).await;
    assert_eq!(json.stdout.lines().count(), 1);
    assert_eq!(serde_json::from_str::<Value>(&json.stdout).unwrap()["id"], id);
}

#[tokio::test]
async fn what_the_provider_refuses_is_a_sentence_with_its_remedy() {
    let simulator = start().await;
    for (arguments, more, wanted) in [
        (&["events", "get", "evt_1-0"][..], ("A", ""), "404"),
        (&["events", "get", ".."], ("A", ""), "copy the id from a list"),
        (&["events", "list"], ("PEPAY_RELAY_API_KEY", "ck_of_somebody_else"), "check the commerce API key"),
        (&["events", "list"], ("PEPAY_RELAY_API_KEY", Options::default().merchant_key.as_str()), "commerce scope"),
        (&["events", "list"], ("PEPAY_RELAY__PROVIDER__API_URL", "http://127.0.0.1:1"), "check the network"),
    ] {
        let said = relay_with(&simulator, arguments, &[more], b"").await;
        assert_eq!((said.status, said.stdout.as_str()), (1, ""), "{arguments:?}: {}", said.stderr);
        assert!(said.stderr.contains(wanted) && said.stderr.lines().count() == 1, "{arguments:?}: {}", said.stderr);
    }
    let said = relay_with(&simulator, &["events", "list"], &[("PEPAY_RELAY_API_KEY", "")], b"").await;
    assert_eq!(said.status, 78, "{}", said.stderr);
}

#[tokio::test]
async fn an_empty_log_is_no_failure() {
    let simulator = Simulator::start(Options::default()).await.unwrap();
    let said = relay(&simulator, &["events", "list", "--output", "json"]).await;
    assert_eq!((said.status, said.stdout.as_str(), said.stderr.as_str()), (0, "", ""));
}

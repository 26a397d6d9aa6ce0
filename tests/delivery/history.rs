//! A history that no longer reaches back, and a cursor gone wrong: what is logged, what is published, and what is not
//! repeated.

use crate::support::kafka::Broker;
use crate::support::process::Process;
use crate::support::records::{Record, committed, control_until};
use crate::support::relay::{Rig, get, until};
use pepay_relay::clock::now_ms;
use pepay_relay::kafka::Keys;
use pepay_relay::labels::Topic;
use pepay_relay::simulator::{Simulator, Transition};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

fn unix_ms(value: &Value) -> i64 {
    value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

/// Every line of this message.
fn lines(process: &Process, message: &str) -> Vec<Value> {
    let said = process.said();
    let lines = said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["message"].as_str().is_some_and(|said| said.starts_with(message))).collect()
}

/// The newest gap of this cause, once it is closed.
async fn closed(rig: &Rig, cause: &'static str) -> Value {
    let prefix = format!("{}/gap/", rig.config.name);
    let found = move |records: &[Record]| {
        let mut gaps = records.iter().rev().filter(|record| record.key.starts_with(&prefix)).map(Record::json);
        gaps.find(|gap| gap["cause"] == cause)
    };
    control_until(&rig.config, found).await.expect("it closes")
}

fn paid(simulator: &Simulator) -> String {
    let order = simulator.create_order().unwrap();
    simulator.simulate(&order, Transition::PaymentConfirmed).unwrap();
    order
}

fn published(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| record.header("ce_id").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_cut_during_an_absence_is_reported_with_the_orders_and_the_relay_goes_on() {
    let rig = Rig::new(Broker::shared().bootstrap(), "history").await;
    let first = Process::ready(&rig).await;
    let quiet = paid(&rig.simulator);
    let first_lost = paid(&rig.simulator);
    let second_lost = paid(&rig.simulator);
    rig.until_delivered().await;
    let changed_ms = now_ms();
    // Until a walk has proven the second in which they changed: the list of orders has whole seconds.
    let key = Keys::new(&rig.config.name).marks(&rig.config.name);
    let proven = move |records: &[Record]| {
        let newest = records.iter().rev().find(|record| record.key == key)?.json();
        (unix_ms(&newest["verified"]) > changed_ms + 1_000).then_some(())
    };
    control_until(&rig.config, proven).await.expect("the mark moves");
    first.stop().await;
    let before = rig.marks().await;
    let issued = rig.simulator.events().len();

    for order in [&first_lost, &second_lost] {
        rig.simulator.simulate(order, Transition::PaymentSettled).unwrap();
    }
    let lost: BTreeSet<String> = rig.simulator.events()[issued..].iter().map(|event| event.id.clone()).collect();
    // A second of its own for what is left, since the list of orders is no finer.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let kept = paid(&rig.simulator);
    let left = rig.simulator.events().iter().rev().take_while(|event| !lost.contains(&event.id)).count();
    rig.simulator.faults().set(|faults| faults.rest.history_events = Some(left));
    rig.simulator.faults().clear();
    let oldest = rig.simulator.events().iter().rev().nth(left - 1).unwrap().position.unwrap();

    let mut second = Process::ready(&rig).await;
    let said = second.line_of("history does not reach back").await;
    assert_eq!(
        (said["level"].as_str().unwrap(), &said["orders"], &said["complete"]),
        ("ERROR", &2.into(), &true.into())
    );
    assert_eq!(said["from"], before["verified"]);
    assert_eq!(unix_ms(&said["to"]), i64::try_from(oldest.ms).unwrap());
    // It goes on, and its walks each second report it no more.
    let gap = closed(&rig, "restart").await;
    assert_eq!(gap["closed_by"], "unproven", "{gap}");
    Transition::LIFE[1..].iter().for_each(|step| rig.simulator.simulate(&quiet, *step).unwrap());
    rig.until_delivered_but(&lost).await;
    let mut found = published(&committed(&rig.config, Topic::Orders).await);
    found.extend(published(&committed(&rig.config, Topic::Invoices).await));
    let once: BTreeSet<String> = found.iter().cloned().collect();
    assert_eq!(once.len(), found.len(), "each once");
    assert!(once.is_disjoint(&lost), "nothing is made up");
    let named: BTreeSet<String> = lines(&second, "order may be out of date")
        .iter()
        .map(|line| line["order_id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(named, BTreeSet::from([first_lost, second_lost]), "and neither {quiet} nor {kept}");
    assert_eq!(lines(&second, "history does not reach back").len(), 1, "{}", second.said());
    let ready = get(&format!("http://{}/readyz", rig.config.admin.listen)).await;
    let ready: Value = serde_json::from_str(&ready).unwrap();
    assert_eq!((&ready["ready"], &ready["unproven"]["orders"]), (&true.into(), &2.into()), "{ready}");
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_gone_wrong_is_set_back_once_by_hand() {
    let rig = Rig::new(Broker::shared().bootstrap(), "from").await;
    let first = Process::ready(&rig).await;
    let from = jiff::Timestamp::from_millisecond(now_ms()).unwrap();
    paid(&rig.simulator);
    rig.until_delivered().await;
    first.stop().await;
    // Somebody wrote a checkpoint whose marks lie ahead of everything that happens now.
    let mut wrong = rig.marks().await;
    let ahead_ms = now_ms() + 60_000;
    wrong["cursor"] = format!("evt_{ahead_ms}-0").into();
    wrong["verified"] = jiff::Timestamp::from_millisecond(ahead_ms).unwrap().to_string().into();
    wrong["gaps"] = serde_json::json!([]);
    rig.write_marks(&wrong).await;
    paid(&rig.simulator);

    let mut second = Process::start_with(&rig, &["--from", &from.to_string()], &[]);
    second.line("relay ready").await;
    let opened = second.line("gap opened").await;
    assert_eq!(opened["cause"], "first_start");
    rig.until_delivered().await;
    until("both walks", || lines(&second, "gap closed").iter().any(|line| line["gap"] == opened["gap"])).await;
    assert!(second.line("stream connected").await["since"].is_null(), "the wrong cursor is forgotten");
    second.stop().await;
    rig.assert_delivered().await;
    let gap = closed(&rig, "first_start").await;
    assert_eq!((&gap["from"], unix_ms(&gap["opened_at"])), (&wrong["cursor"], from.as_millisecond()), "{gap}");
    let newest = rig.simulator.events().last().unwrap().id.clone();
    assert_eq!(rig.marks().await["cursor"], newest.as_str());
}

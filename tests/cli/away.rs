//! Commands that find neither Kafka nor a relay: a sentence with its remedy, and no endless wait.

use super::{bare, relay, start};

#[tokio::test]
async fn a_kafka_that_does_not_answer_is_reported_with_what_to_see_to() {
    let simulator = start().await;
    let order = simulator.create_order().unwrap();
    let commands =
        [&["tail"][..], &["topics"], &["replay", "--order", &order, "--yes"], &["forget", "--order", &order]];
    let told = futures::future::join_all(commands.map(|command| relay(&simulator, command))).await;
    for (command, said) in commands.iter().zip(told) {
        assert_eq!((said.status, said.stdout.as_str()), (1, ""), "{command:?}: {}", said.stderr);
        let sentence = "nobody listens there: see kafka.bootstrap_servers, and whether the broker runs";
        assert!(said.stderr.contains(sentence), "{command:?}: {}", said.stderr);
    }
}

#[tokio::test]
async fn a_dry_run_of_a_replay_needs_no_kafka() {
    let simulator = start().await;
    let order = simulator.create_order().unwrap();
    let said = relay(&simulator, &["replay", "--order", &order]).await;
    let first = simulator.events()[0].id.clone();
    let last = simulator.events()[1].id.clone();
    let wanted = format!(
        "would publish 1 event to pepay.orders\nwould publish 1 event to pepay.invoices\noldest {first}, newest \
         {last}\nnothing was written; add --yes to do it\n"
    );
    assert_eq!((said.status, said.stdout, said.stderr.as_str()), (0, wanted, ""));
}

#[tokio::test]
async fn a_relay_that_does_not_run_is_reported() {
    let said = bare(&["status"], &[("PEPAY_RELAY__ADMIN__LISTEN", "127.0.0.1:1")], b"").await;
    let wanted = "pepay-relay: no relay answers at 127.0.0.1:1 (refused); start one with `pepay-relay run`, or name its \
                  settings with --config\n";
    assert_eq!((said.status, said.stdout.as_str(), said.stderr.as_str()), (1, "", wanted));
}

//! Reading back by the window, measured: `cargo test --test delivery read_back -- --nocapture` prints the figures.

use super::publish::{batch, start, unique};
use crate::support::kafka::Broker;
use crate::support::settings::{config, secrets};
use pepay_relay::kafka::Verdict;
use pepay_relay::kafka::recover::{Control, Progress, read_back};
use pepay_relay::kafka::shard::Shard;
use pepay_relay::relay::journal;
use std::time::Instant;

#[tokio::test]
async fn read_back_gives_every_event_once() {
    const BATCHES: usize = 20;
    const RECORDS: usize = 1_000;
    let config = config(Broker::shared().bootstrap(), &unique("bench"));
    let (mut publisher, _) = start(&config).await;
    let mut commits = Vec::new();
    for number in 0..BATCHES {
        // Keys of many lengths, so that every partition has some.
        let ids = (0..RECORDS).map(|n| format!("{}evt_{number}-{n}", "0".repeat(n % 60)));
        let batch = batch(&config, ids, &[b'x'; 1_600]);
        let began = Instant::now();
        publisher.submit(batch, false);
        assert!(matches!(publisher.verdict().await.1, Ok(Verdict::Committed { .. })));
        commits.push(began.elapsed());
    }
    commits.sort();
    let began = Instant::now();
    let (sender, receiver) = std::sync::mpsc::channel();
    let sink = move |record: Control<'_>, _| {
        if let Control::Journal(value) = record {
            journal::read(value, |entry| sender.send(entry.id.to_vec()).unwrap()).unwrap();
        }
    };
    let summary = read_back(&config, &secrets(None), None, Shard::SOLE, 0, sink, |_: Progress<'_>| ()).await.unwrap();
    let took = began.elapsed();
    let all: Vec<_> = receiver.iter().collect();
    let distinct: std::collections::BTreeSet<_> = all.iter().collect();
    println!(
        "commit of {RECORDS} records: p50 {:?}, max {:?}; {} bytes read back in {took:?}",
        commits[BATCHES / 2],
        commits[BATCHES - 1],
        summary.bytes
    );
    assert_eq!((all.len(), distinct.len()), (BATCHES * RECORDS, BATCHES * RECORDS));
}

//! Reading back by the window, measured: `cargo test --test delivery read_back -- --nocapture` prints the figures.

use super::publish::{batch, marks, start, unique};
use crate::support::kafka::Broker;
use crate::support::settings::{config, secrets};
use pepay_relay::kafka::Verdict;
use pepay_relay::kafka::recover::{Progress, ReadBack, read_back};
use std::time::Instant;

#[tokio::test]
async fn read_back_gives_every_record_once() {
    const BATCHES: usize = 20;
    const RECORDS: usize = 1_000;
    let config = config(Broker::shared().bootstrap(), &unique("bench"));
    let (mut publisher, _) = start(&config).await;
    let mut commits = Vec::new();
    for number in 0..BATCHES {
        // Keys of many lengths, so that every partition has some.
        let ids = (0..RECORDS).map(|n| format!("{}evt_{number}-{n}", "0".repeat(n % 60)));
        let batch = batch(ids, &[b'x'; 1_600]);
        let began = Instant::now();
        publisher.submit(batch, marks("a"));
        assert!(matches!(publisher.verdict().await.1, Ok(Verdict::Committed { .. })));
        commits.push(began.elapsed());
    }
    commits.sort();
    let began = Instant::now();
    let (sender, receiver) = std::sync::mpsc::channel();
    let sink = move |read: ReadBack<'_>| sender.send(read.event_id.unwrap().to_vec()).unwrap();
    let summary = read_back(&config, &secrets(None), 0, sink, |_: Progress<'_>| ()).await.unwrap();
    let took = began.elapsed();
    let distinct: std::collections::BTreeSet<_> = receiver.iter().collect();
    println!(
        "commit of {RECORDS} records: p50 {:?}, max {:?}; read back {} records in {took:?}",
        commits[BATCHES / 2],
        commits[BATCHES - 1],
        summary.records
    );
    assert_eq!((summary.records as usize, distinct.len()), (BATCHES * RECORDS, BATCHES * RECORDS));
}

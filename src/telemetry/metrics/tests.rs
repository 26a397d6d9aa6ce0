#![allow(clippy::unwrap_used, reason = "a test may stop")]
use super::*;
use std::collections::{BTreeMap, BTreeSet};

/// The value of each series by its name and labels, without the parts of histograms.
fn series(metrics: &Metrics) -> BTreeMap<String, String> {
    let text = metrics.text().unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.contains("_bucket{"));
    lines.map(|line| line.rsplit_once(' ').unwrap()).map(|(name, value)| (name.into(), value.into())).collect()
}

/// Names, types, labels and their values are in docs/metrics.md, which a test compares.
#[test]
fn every_series_exists_from_the_start_at_zero() {
    let series = series(&Metrics::new("1.2.3"));
    let mut values = BTreeMap::<(&str, &str), BTreeSet<&str>>::new();
    let mut families = BTreeMap::<&str, usize>::new();
    for (key, value) in &series {
        let (name, labels) = key.split_once('{').unwrap_or((key, ""));
        *families.entry(name).or_default() += 1;
        for (label, value) in labels.trim_end_matches('}').split(',').filter_map(|pair| pair.split_once('=')) {
            values.entry((name, label)).or_default().insert(value);
        }
        let zero = if name == "pepay_relay_build_info" { "1" } else { "0" };
        assert!(value == zero || value == &format!("{zero}.0"), "{key} {value}");
    }
    assert!(families.len() > 20, "{families:?}");
    for (family, count) in families {
        let each = values.iter().filter(|((name, _), _)| *name == family).map(|(_, values)| values.len());
        assert_eq!(count, each.product::<usize>(), "{family}: one series for each of its labels' values");
    }
}

#[test]
fn the_text_is_openmetrics_and_ends_as_such() {
    let text = Metrics::new("1.2.3").text().unwrap();
    assert!(text.ends_with("# EOF\n") && text.contains("pepay_relay_build_info{version=\"1.2.3\"} 1\n"));
    assert!(text.contains("# TYPE pepay_relay_deliveries counter\n"));
}

#[test]
fn the_books_of_a_leg_balance_at_every_step() {
    let metrics = Metrics::new("test");
    let check = |expected: (u64, u64, i64)| {
        for leg in Leg::ALL {
            let settled: u64 = Outcome::ALL.into_iter().map(|outcome| metrics.outcomes(leg, outcome)).sum();
            let books = (metrics.deliveries(leg), settled, metrics.in_flight(leg));
            assert_eq!(books, if leg == Leg::Webhook { expected } else { (0, 0, 0) });
            assert_eq!(i64::try_from(books.0 - books.1).unwrap(), books.2);
        }
    };
    check((0, 0, 0));
    for _ in Outcome::ALL {
        metrics.delivery(Leg::Webhook);
    }
    check((6, 0, 6));
    for (settled, outcome) in (1..).zip(Outcome::ALL) {
        metrics.outcome(Leg::Webhook, outcome);
        check((6, settled, 6 - i64::try_from(settled).unwrap()));
    }
}

#[test]
fn what_is_reported_is_what_is_shown() {
    let metrics = Metrics::new("test");
    metrics.gap_opened();
    metrics.gaps_open(0, 1);
    metrics.recovered(Leg::Backfill, 3);
    metrics.intake_bytes(0, usize::MAX);
    metrics.webhook_response(WebhookCode::Unavailable);
    metrics.certificate_expires(1_800_000_000);
    metrics.kafka_certificate_expires(1_900_000_000);
    metrics.records(Topic::OrdersLatest, 2);
    metrics.reconnect(Cause::Silence);
    metrics.dedup_ids(0, 3);
    metrics.dedup_ids(1, 4);
    metrics.dedup_evicted_early(2);
    metrics.kafka_error(KafkaErrorKind::Rebuild);
    metrics.ready(true);
    metrics.leg_connected(Seat::default(), Leg::Websocket, true);
    metrics.event_lag(Leg::Websocket, 0.25);
    metrics.publish_duration(Leg::Webhook, 0.5);
    let changed: Vec<_> = series(&metrics)
        .into_iter()
        .filter(|(key, value)| !matches!(value.as_str(), "0" | "0.0") && !key.contains("build_info"))
        .map(|(key, value)| format!("{} {value}", key.trim_start_matches("pepay_relay_")))
        .collect();
    assert_eq!(
        changed,
        [
            "dedup_evicted_early_total 2",
            "dedup_ids 7",
            "event_lag_seconds_count{leg=\"websocket\"} 1",
            "event_lag_seconds_sum{leg=\"websocket\"} 0.25",
            "gaps_open 1",
            "gaps_total 1",
            "intake_bytes 9223372036854775807",
            "kafka_certificate_expires_timestamp_seconds 1900000000",
            "kafka_errors_total{kind=\"rebuild\"} 1",
            "leg_connected{leg=\"websocket\"} 1",
            "publish_duration_seconds_count{leg=\"webhook\"} 1",
            "publish_duration_seconds_sum{leg=\"webhook\"} 0.5",
            "ready 1",
            "reconnects_total{cause=\"silence\"} 1",
            "records_total{topic=\"orders_latest\"} 2",
            "recovered_total{leg=\"backfill\"} 3",
            "webhook_certificate_expires_timestamp_seconds 1800000000",
            "webhook_responses_total{code=\"503\"} 1",
        ]
    );
}

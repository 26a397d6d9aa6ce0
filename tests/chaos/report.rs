//! What happened, as a table and as JSON.

use crate::rounds::Faults;
use crate::stage::Outcome;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// A run from its first round to its last.
#[derive(Debug)]
pub struct Report<F> {
    pub title: String,
    pub seed: u64,
    /// The fault of each round that was survived, and how long it took until everything was committed again.
    pub rounds: Vec<(F, Duration)>,
    pub outcome: Outcome,
    pub took: Duration,
}

/// Times of one fault, or of all, the shortest first.
struct Times(Vec<Duration>);

impl Times {
    fn of(times: impl Iterator<Item = Duration>) -> Self {
        let mut times: Vec<_> = times.collect();
        times.sort_unstable();
        Self(times)
    }

    /// The least one that `percent` of a hundred do not exceed.
    fn percentile(&self, percent: usize) -> Duration {
        let place = (self.0.len() * percent).div_ceil(100).max(1) - 1;
        self.0.get(place).copied().unwrap_or_default()
    }

    /// Shortest, median, 95th percentile and longest.
    fn figures(&self) -> [Duration; 4] {
        [0, 50, 95, 100].map(|percent| self.percentile(percent))
    }
}

impl<F: Faults> Report<F> {
    pub fn table(&self) -> String {
        let heads = ["min s", "median s", "p95 s", "max s"].map(|head| format!("{head:>10}")).concat();
        let mut text = format!("{:32} {:>6}{heads}\n", "fault", "rounds");
        for (fault, times) in self.rows() {
            let figures = times.figures().map(|time| format!("{:>10.2}", time.as_secs_f64())).concat();
            text += &format!("{:32} {:>6}{figures}\n", fault.name(), times.0.len());
        }
        let Outcome { verdict, events, records, stale, excused, gone, renewed } = &self.outcome;
        text += &format!(
            "\n{}: {} rounds in {:.0} s, seed {}: {events} events, {records} records ({stale} stale); lost {}, repeated {}, \
             out of order {}, unexplained {}; longest recovery {:.2} s; excused by what Kafka lost: {excused} repeated, \
             {gone} lost; readers renewed {renewed}\n",
            self.title,
            self.rounds.len(),
            self.took.as_secs_f64(),
            self.seed,
            verdict.lost.count,
            verdict.repeated.count,
            verdict.out_of_order.count,
            verdict.unexplained.count,
            self.all().percentile(100).as_secs_f64(),
        );
        text
    }

    pub fn json(&self) -> Value {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let by_fault = self.rows().into_iter().map(|(fault, times)| {
            let [shortest, median, p95, longest] = times.figures().map(ms);
            let times = json!({
                "rounds": times.0.len(), "shortest_recovery_ms": shortest, "median_recovery_ms": median,
                "p95_recovery_ms": p95, "longest_recovery_ms": longest,
            });
            (fault.name(), times)
        });
        let by_fault: serde_json::Map<String, Value> = by_fault.collect();
        let Outcome { verdict, events, records, stale, excused, gone, renewed } = &self.outcome;
        json!({
            "run": self.title, "seed": self.seed, "rounds": self.rounds.len(), "seconds": self.took.as_secs(),
            "events": events, "records": records, "stale": stale,
            "lost": verdict.lost.count, "repeated": verdict.repeated.count,
            "out_of_order": verdict.out_of_order.count, "unexplained": verdict.unexplained.count,
            "excused": { "repeated": excused, "lost": gone }, "readers_renewed": renewed,
            "longest_recovery_ms": ms(self.all().percentile(100)), "by_fault": by_fault,
        })
    }

    fn rows(&self) -> BTreeMap<F, Times> {
        let mut faults: BTreeMap<F, Vec<Duration>> = BTreeMap::new();
        for (fault, recovery) in &self.rounds {
            faults.entry(*fault).or_default().push(*recovery);
        }
        faults.into_iter().map(|(fault, times)| (fault, Times::of(times.into_iter()))).collect()
    }

    fn all(&self) -> Times {
        Times::of(self.rounds.iter().map(|(_, recovery)| *recovery))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::Fault;
    use crate::judged::Verdict;

    #[test]
    fn rounds_are_counted_by_fault() {
        let s = Duration::from_secs;
        let rounds = vec![(Fault::Flap, s(3)), (Fault::KillBroker, s(9)), (Fault::Flap, s(1)), (Fault::Flap, s(2))];
        let outcome =
            Outcome { verdict: Verdict::default(), events: 7, records: 9, stale: 1, excused: 3, gone: 2, renewed: 0 };
        let report = Report { title: "relay".to_owned(), seed: 1, rounds, outcome, took: s(20) };
        let json = report.json();
        assert_eq!(
            json["by_fault"]["Flap"],
            json!({
                "rounds": 3, "shortest_recovery_ms": 1_000, "median_recovery_ms": 2_000, "p95_recovery_ms": 3_000,
                "longest_recovery_ms": 3_000,
            })
        );
        assert_eq!((&json["rounds"], &json["longest_recovery_ms"]), (&json!(4), &json!(9_000)));
        assert_eq!(json["excused"], json!({ "repeated": 3, "lost": 2 }));
        assert!(report.table().contains("4 rounds in 20 s, seed 1: 7 events, 9 records (1 stale); lost 0, repeated 0"));
    }

    #[test]
    fn a_percentile_is_a_time_that_was_seen() {
        let seconds = |of: std::ops::RangeInclusive<u64>| Times::of(of.rev().map(Duration::from_secs));
        let figures = |times: Times| times.figures().map(|time| time.as_secs());
        assert_eq!(figures(seconds(1..=100)), [1, 50, 95, 100]);
        assert_eq!(figures(seconds(1..=20)), [1, 10, 19, 20]);
        assert_eq!(figures(seconds(4..=4)), [4; 4]);
        assert_eq!(figures(Times(Vec::new())), [0; 4]);
    }
}

//! What happened, as a table and as JSON.

use crate::faults::Fault;
use crate::stage::Outcome;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// A run from its first round to its last.
#[derive(Debug)]
pub struct Report {
    pub seed: u64,
    /// The fault of each round that was survived, and how long after it everything stood.
    pub rounds: Vec<(Fault, Duration)>,
    pub outcome: Outcome,
    pub took: Duration,
}

/// Rounds of one fault.
struct Row {
    fault: String,
    rounds: usize,
    median: Duration,
    longest: Duration,
}

impl Report {
    pub fn longest(&self) -> Duration {
        self.rounds.iter().map(|(_, recovery)| *recovery).max().unwrap_or_default()
    }

    pub fn table(&self) -> String {
        let mut text = format!("{:32} {:>6} {:>10} {:>10}\n", "fault", "rounds", "median s", "longest s");
        for Row { fault, rounds, median, longest } in self.rows() {
            let median = median.as_secs_f64();
            let longest = longest.as_secs_f64();
            text += &format!("{fault:32} {rounds:>6} {median:>10.2} {longest:>10.2}\n");
        }
        let Outcome { verdict, events, records, stale, excused, gone } = &self.outcome;
        text += &format!(
            "\n{} rounds in {:.0} s, seed {}: {events} events, {records} records ({stale} stale); lost {}, repeated {}, \
             out of order {}, unexplained {}; longest recovery {:.2} s; excused by what Kafka lost: {excused} repeated, \
             {gone} lost\n",
            self.rounds.len(),
            self.took.as_secs_f64(),
            self.seed,
            verdict.lost.count,
            verdict.repeated.count,
            verdict.out_of_order.count,
            verdict.unexplained.count,
            self.longest().as_secs_f64(),
        );
        text
    }

    pub fn json(&self) -> Value {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let by_fault = self.rows().into_iter().map(|row| {
            let times = json!({
                "rounds": row.rounds, "median_recovery_ms": ms(row.median), "longest_recovery_ms": ms(row.longest),
            });
            (row.fault, times)
        });
        let by_fault: serde_json::Map<String, Value> = by_fault.collect();
        let Outcome { verdict, events, records, stale, excused, gone } = &self.outcome;
        json!({
            "seed": self.seed, "rounds": self.rounds.len(), "seconds": self.took.as_secs(),
            "events": events, "records": records, "stale": stale,
            "lost": verdict.lost.count, "repeated": verdict.repeated.count,
            "out_of_order": verdict.out_of_order.count, "unexplained": verdict.unexplained.count,
            "excused": { "repeated": excused, "lost": gone },
            "longest_recovery_ms": ms(self.longest()), "by_fault": by_fault,
        })
    }

    fn rows(&self) -> Vec<Row> {
        let mut faults: BTreeMap<Fault, Vec<Duration>> = BTreeMap::new();
        for (fault, recovery) in &self.rounds {
            faults.entry(*fault).or_default().push(*recovery);
        }
        let row = |(fault, mut times): (Fault, Vec<Duration>)| {
            times.sort_unstable();
            let median = times[times.len() / 2];
            Row { fault: fault.name(), rounds: times.len(), median, longest: times[times.len() - 1] }
        };
        faults.into_iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judged::Verdict;

    #[test]
    fn rounds_are_counted_by_fault() {
        let s = Duration::from_secs;
        let rounds = vec![(Fault::Flap, s(3)), (Fault::KillBroker, s(9)), (Fault::Flap, s(1)), (Fault::Flap, s(2))];
        let outcome = Outcome { verdict: Verdict::default(), events: 7, records: 9, stale: 1, excused: 3, gone: 2 };
        let report = Report { seed: 1, rounds, outcome, took: s(20) };
        let json = report.json();
        assert_eq!(
            json["by_fault"]["Flap"],
            json!({
                "rounds": 3, "median_recovery_ms": 2_000, "longest_recovery_ms": 3_000,
            })
        );
        assert_eq!((&json["rounds"], &json["longest_recovery_ms"]), (&json!(4), &json!(9_000)));
        assert_eq!(json["excused"], json!({ "repeated": 3, "lost": 2 }));
        assert!(report.table().contains("4 rounds in 20 s, seed 1: 7 events, 9 records (1 stale); lost 0, repeated 0"));
    }
}

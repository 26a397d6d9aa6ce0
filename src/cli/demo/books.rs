//! What the provider issued alongside what is in Kafka, and the books of each leg.

use crate::cli::output::table;
use crate::kafka::consume::Consumed;
use crate::labels::{Leg, Outcome};
use crate::simulator::Simulator;
use crate::telemetry::Metrics;
use comfy_table::{CellAlignment, Table};
use std::collections::BTreeMap;

/// How often each event id was seen in Kafka.
#[derive(Default)]
pub(super) struct Ledger(BTreeMap<String, u64>);

/// The end of the demo in numbers.
pub(super) struct Balance {
    legs: Vec<(Leg, u64, Vec<u64>, i64)>,
    issued: usize,
    missing: usize,
    repeated: usize,
}

impl Ledger {
    /// Counts a record under its event: `ce_id`, or the key of a dead letter.
    pub(super) fn note(&mut self, record: &Consumed) {
        let id = record.header("ce_id").or(record.key.as_deref()).unwrap_or_default();
        *self.0.entry(String::from_utf8_lossy(id).into_owned()).or_default() += 1;
    }

    /// Whether every event that was issued is there.
    pub(super) fn is_complete(&self, simulator: &Simulator) -> bool {
        simulator.events().iter().all(|event| self.0.contains_key(&event.id))
    }

    pub(super) fn balance(&self, simulator: &Simulator, metrics: &Metrics) -> Balance {
        let events = simulator.events();
        let legs = Leg::ALL.into_iter().map(|leg| {
            let outcomes = Outcome::ALL.map(|outcome| metrics.outcomes(leg, outcome)).to_vec();
            (leg, metrics.deliveries(leg), outcomes, metrics.in_flight(leg))
        });
        Balance {
            legs: legs.collect(),
            issued: events.len(),
            missing: events.iter().filter(|event| !self.0.contains_key(&event.id)).count(),
            repeated: self.0.values().filter(|count| **count > 1).count(),
        }
    }
}

impl Balance {
    /// A row a leg: what arrived, and how it ended.
    pub(super) fn table(&self) -> Table {
        let mut table = table([
            "leg",
            "deliveries",
            "published",
            "duplicate",
            "ignored",
            "dead-lettered",
            "rejected",
            "failed",
            "in flight",
        ]);
        for (leg, deliveries, outcomes, in_flight) in &self.legs {
            let numbers = [*deliveries].into_iter().chain(outcomes.iter().copied()).map(|count| count.to_string());
            table.add_row([leg.as_str().to_owned()].into_iter().chain(numbers).chain([in_flight.to_string()]));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    /// Whether everything is where it belongs, in a sentence.
    pub(super) fn verdict(&self) -> Result<String, String> {
        let balanced = self.legs.iter().all(|(_, deliveries, outcomes, in_flight)| {
            i64::try_from(outcomes.iter().sum::<u64>())
                .is_ok_and(|sum| i64::try_from(*deliveries).is_ok_and(|deliveries| deliveries == sum + in_flight))
        });
        sentence(self.issued, self.missing, self.repeated, balanced)
    }
}

/// What became of the events that were issued; an error unless each is in Kafka once and the rest of the books balances.
pub(super) fn sentence(issued: usize, missing: usize, repeated: usize, balanced: bool) -> Result<String, String> {
    if missing == 0 && repeated == 0 && balanced {
        Ok(format!("{issued} events issued, {issued} in Kafka, each once. The books balance."))
    } else {
        let books = if balanced { "balance" } else { "do not balance" };
        Err(format!("{issued} events issued, {missing} missing in Kafka, {repeated} there twice. The books {books}."))
    }
}

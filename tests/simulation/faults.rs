//! What faults do to Kafka, and to a machine and its connections.

use crate::kafka::Record;
use crate::provider::Connection;
use crate::scenario::IDLE_TIMEOUT_MS;
use crate::world::{Do, Step, World};
use pepay_relay::labels::Topic;
use pepay_relay::legs::websocket::reconnect::End;

/// The topics of consumers.
const OUTPUTS: [Topic; 4] = [Topic::Orders, Topic::OrdersLatest, Topic::Invoices, Topic::DeadLetter];

/// Records that a broker may lose of a topic.
const TAIL_RECORDS_MAX: i64 = 6;

impl World {
    /// The broker crashes, and comes back without the last records of some topics.
    pub fn lose_tail(&mut self) {
        self.kafka.up = false;
        let delay = self.rng.range(100, 5000);
        self.after(delay, Do::Broker(true));
        self.kafka.sequence_lost = self.rng.chance(500);
        for topic in Topic::WRITTEN {
            let lost = self.rng.chance(if topic == Topic::Control { 700 } else { 300 });
            let count = self.rng.range(1, TAIL_RECORDS_MAX);
            let transactions = if lost { self.kafka.lose_tail(topic, count as usize) } else { Vec::new() };
            if topic == Topic::Control && !transactions.is_empty() {
                self.oracle.forget_gaps();
                transactions.into_iter().for_each(|transaction| self.judge_lost(transaction));
            }
        }
    }

    /// A person empties an output topic, or all of them.
    pub fn empty_outputs(&mut self) {
        let all = self.rng.chance(300);
        let one = OUTPUTS[self.rng.range(0, OUTPUTS.len() as i64 - 1) as usize];
        OUTPUTS.into_iter().filter(|topic| all || *topic == one).for_each(|topic| self.kafka.empty(topic));
    }

    /// A person empties the control topic.
    pub fn empty_control(&mut self) {
        self.kafka.empty(Topic::Control);
        self.oracle.forget_gaps();
    }

    /// A record of another program's open transaction, in two topics.
    pub fn append_foreign(&mut self, transaction: usize) {
        let record = Record { transaction, ..Record::new(b"", self.now) };
        self.kafka.append(Topic::Control, record.clone());
        self.kafka.append(Topic::Orders, record);
    }

    /// The relay is frozen, and learns afterwards that its connection is gone.
    pub fn suspend(&mut self, relay: usize) {
        let length = self.rng.range(20_000, 80_000);
        self.relays[relay].frozen_until = self.now + length;
        self.loses_connections(relay, length);
    }

    /// The relay's connections are gone, and it learns of it after this long.
    pub fn loses_connections(&mut self, relay: usize, after: i64) {
        let mine = |connection: &Connection| connection.relay == relay;
        let numbers: Vec<u64> =
            self.provider.connections.iter().filter(|(_, one)| mine(one)).map(|(number, _)| *number).collect();
        for number in numbers {
            self.provider.connections.remove(&number);
            self.step(relay, after, Step::Ended(number, End::Silence));
        }
    }

    pub fn cut(&mut self, silently: bool) {
        let mut connections: Vec<u64> = self.provider.connections.keys().copied().collect();
        connections.sort_unstable();
        for number in connections {
            let Some(connection) = self.provider.connections.get_mut(&number) else { continue };
            let relay = connection.relay;
            if silently {
                connection.silent = true;
                self.step(relay, IDLE_TIMEOUT_MS, Step::Ended(number, End::Silence));
            } else {
                self.provider.connections.remove(&number);
                let end = if self.rng.chance(500) { End::Reset } else { End::Close(Some(1001)) };
                self.step(relay, 10, Step::Ended(number, end));
            }
        }
    }
}

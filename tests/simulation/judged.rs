//! What must hold of runs and of the inbox: checked at every commit.

use crate::provider::Fate;
use crate::world::World;
use pepay_relay::kafka::Checkpoint;
use pepay_relay::labels::Topic;

impl World {
    /// Whether Kafka loses checkpoints here, or takes torn transactions for whole: then nobody can know which run was the newest.
    fn loses_checkpoints(&self) -> bool {
        self.scenario.hasty || self.scenario.lost_tails + self.scenario.emptied_controls > 0
    }

    /// The checkpoint of a transaction that commits now.
    pub fn judge_checkpoint(&mut self, transaction: usize) {
        let written = &self.kafka.transactions[transaction];
        let relay = written.relay;
        let control = written.records.iter().filter(|(topic, _)| *topic == Topic::Control);
        let checkpoint =
            control.filter_map(|(topic, index)| self.kafka.log(*topic)[*index].checkpoint.clone()).next_back();
        if let Some(checkpoint) = checkpoint.filter(|_| !self.loses_checkpoints()) {
            self.judge_run(relay, &checkpoint);
            self.judge_inbox(&checkpoint);
        }
    }

    /// P7: once a run is claimed no earlier one commits, and a node claims only what it decided to.
    fn judge_run(&mut self, relay: usize, checkpoint: &Checkpoint) {
        let run = Some(&checkpoint.run);
        if checkpoint.is_claim() {
            let claims = &self.relays[relay];
            let decided_on = claims.decided_on.as_ref().filter(|_| claims.run.id() == checkpoint.run);
            if let Some(decided_on) = decided_on.filter(|decided_on| **decided_on != self.oracle.holder) {
                let holder = &self.oracle.holder;
                let failure = format!("P7: {run:?} claims, decided on {decided_on:?}, and throws out {holder:?}");
                self.oracle.fail(failure);
            }
            self.oracle.holder = run.cloned();
        } else if run != self.oracle.holder.as_ref() {
            let holder = &self.oracle.holder;
            let failure = format!("P7: {run:?} commits, and {holder:?} claimed after it");
            self.oracle.fail(failure);
        }
    }

    /// P1: everything of the inbox before the checkpoint's offset is committed, unless it was deleted unread.
    fn judge_inbox(&mut self, checkpoint: &Checkpoint) {
        let Some(next) = checkpoint.inbox else { return };
        if next < self.oracle.inbox_taken {
            let taken = self.oracle.inbox_taken;
            return self.oracle.fail(format!("the inbox is taken to {taken}, and a checkpoint says {next}"));
        }
        let from = (self.oracle.inbox_taken as usize).max(self.inbox.low);
        for (offset, queued) in self.inbox.records.iter().enumerate().take(next as usize).skip(from) {
            let event = queued.event;
            if self.provider.events[event].fate != Fate::Ignored && !self.oracle.has(event) {
                return self.oracle.fail(format!("P1: event {event} of offset {offset} is taken, and does not stand"));
            }
        }
        self.oracle.inbox_taken = next;
    }
}

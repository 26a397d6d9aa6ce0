//! Nodes that freeze at the worst moments, and requests that come late.

use crate::world::{Do, World};

/// A moment in a relay's life at which its node may freeze.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// It has looked whom it would follow, and fenced nobody.
    Decided,
    Fenced,
    Claimed,
    ReadingBack,
    Accepting,
    /// All records of a transaction are sent, and its commit is not asked for.
    Committing,
    /// A commit is in doubt.
    Unknown,
    Draining,
}

impl Moment {
    pub const ALL: u32 = (1 << (Self::Draining as u32 + 1)) - 1;
}

/// How long a node is frozen.
const STILL_MS: i64 = 80_000;
/// How long the network may hold a request.
const HELD_MS: i64 = 60_000;

impl World {
    pub fn freeze(&mut self, node: usize) {
        let until = self.now + self.rng.range(1000, STILL_MS);
        let node = &mut self.nodes[node];
        if node.frozen_until < self.now {
            node.frozen_until = until;
            if let Some(relay) = node.relay {
                self.relays[relay].frozen_until = until;
            }
        }
    }

    /// The node may freeze now, and the group may give its shard to another one meanwhile. Whether it does.
    pub fn stand_still(&mut self, relay: usize, at: Moment) -> bool {
        let Some(cluster) = self.scenario.cluster.as_ref().filter(|_| self.active) else { return false };
        let pauses = cluster.pauses;
        let Some(node) = self.relays[relay].node else { return false };
        if !self.rng.chance(pauses) || self.nodes[node].frozen_until > self.now {
            return false;
        }
        self.moments |= 1 << at as u32;
        self.freeze(node);
        if self.rng.chance(700) && !self.is_absent() {
            self.assign_anybody();
        }
        true
    }

    /// `init_transactions` was asked for twice: the other copy comes late, and another relay may have the id by then.
    pub fn repeat_init(&mut self, relay: usize) {
        let Some(cluster) = self.scenario.cluster.as_ref().filter(|_| self.active) else { return };
        let late_inits = cluster.late_inits;
        if self.rng.chance(late_inits) {
            let held = self.rng.range(1, HELD_MS);
            let id = self.relays[relay].transactional_id.clone();
            self.after(held, Do::LateInit(id));
        }
    }
}

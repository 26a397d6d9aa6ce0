//! A claim: what it is decided on, whose topics they are, and what a relay does that finds another one's run.

use crate::bugs::Bug;
use crate::line::Line;
use crate::process::NAME;
use crate::still::Moment;
use crate::world::{Exit, Step, World};
use pepay_relay::config::Config;
use pepay_relay::kafka::settlement::{self, Claim, Fenced};
use pepay_relay::kafka::{Checkpoint, Newest, owner};
use pepay_relay::labels::Topic;
use pepay_relay::provider::Environment;
use std::sync::LazyLock;

/// The settings that a claim looks at.
static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let mut config = Config::minimal(Environment::Devnet, "localhost:9092");
    NAME.clone_into(&mut config.name);
    config
});

impl World {
    /// A node looks at the newest checkpoint, and decides to claim its shard.
    pub fn decide(&mut self, number: usize, delay: i64) {
        let newest = self.kafka.newest(self.kafka.last_stable_offset(Topic::Control));
        let newest = newest.map(|newest| newest.checkpoint);
        let blind = self.scenario.has(Bug::ClaimOnOldKnowledge);
        let relay = &mut self.relays[number];
        if !blind {
            relay.claim = Claim::new(relay.run.id().to_owned()).decided_on(newest.as_ref());
        }
        relay.decided_on = Some(newest.map(|newest| newest.run));
        self.stand_still(number, Moment::Decided);
        self.step(number, delay, Step::Line(Line::Fence));
    }

    /// Whether the topics are the relay's to go on with; then its claim follows what was found.
    pub fn may_claim(&mut self, number: usize, end: usize) -> bool {
        let marks = self.kafka.marks(end);
        let relay = &mut self.relays[number];
        let predecessor = relay.claim.predecessor.as_ref();
        relay.run.follow(predecessor, marks);
        let looks = owner::misses_a_memory(predecessor.is_some(), relay.from_ms.is_some());
        let holds = self.kafka.holds().map(Topic::as_str);
        let own = predecessor.map(|checkpoint| (NAME.to_owned(), checkpoint.clone()));
        if looks && holds.is_none() {
            self.oracle.begin_anew();
        }
        let holds = holds.filter(|_| looks);
        owner::check(&CONFIG, own, holds).is_ok() || self.scenario.has(Bug::EmptiedIsAFirstStart)
    }

    /// Leaves with 75, or lets its shard go, because of this checkpoint.
    ///
    /// A relay knows the run before its own. Where a tail was lost that held the claims of more, it cannot distinguish
    /// the one from before from a rival, and a person starts it again.
    pub fn fenced_by(&mut self, number: usize, newest: Option<Newest>) {
        let seen = newest.map(|newest| newest.checkpoint);
        let ours = self.relays[number].claim_written;
        let run = seen.as_ref().map(|seen| &seen.run);
        let rival = run.and_then(|run| self.relays.iter().find(|relay| run.starts_with(relay.run.id())));
        let theirs = rival.and_then(|rival| rival.claim_written);
        let was_rival = theirs > ours;
        let lost =
            self.relays.iter().filter(|relay| theirs < relay.claim_written && relay.claim_written < ours).count();
        if !was_rival && (theirs.is_none() || lost == 0) {
            self.oracle.fail(format!("P7: relay {number} leaves with 75, and none took over"));
        }
        match self.follows_from(number, seen.as_ref()) {
            _ if !was_rival => self.exit(number, Exit::Failed),
            Fenced::Stop => self.exit(number, Exit::Fenced),
            Fenced::LetGo => self.left(number),
        }
    }

    /// What a relay does about the run that wrote this checkpoint. A node stays in its cluster, unless that run is of a relay
    /// outside it.
    fn follows_from(&mut self, number: usize, seen: Option<&Checkpoint>) -> Fenced {
        let in_cluster = self.relays[number].node.is_some();
        let follows = match seen {
            Some(seen) if !self.scenario.has(Bug::FencedNodeStops) => settlement::fenced(in_cluster, seen),
            _ => Fenced::Stop,
        };
        let by_node = seen.is_some_and(|seen| seen.node.is_some());
        if in_cluster && (follows == Fenced::Stop) == by_node {
            self.oracle
                .fail(format!("P7: relay {number} of a node finds {seen:?}, and its node does this: {follows:?}"));
        }
        follows
    }

    /// The claim is committed.
    pub fn claimed(&mut self, relay: usize) {
        self.relays[relay].claimed = true;
        let end = self.control_end();
        self.stand_still(relay, Moment::Claimed);
        self.step(relay, 1, Step::Line(Line::ReadBack(end)));
    }
}

//! What a node does about the shards that its group gives it and takes away: a state machine without clock, task or Kafka.
//!
//! It takes in what happened, and answers what to do now. Times are durations since one fixed moment, whichever the
//! caller chose. A shard goes on while the group divides all of them again, and for a while after the group took it
//! away, because Kafka was away or the node was silent: what is assigned again has lost nothing, and what is not is
//! drained.

use super::Change;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a shard goes on that the group took away, while it does not decide whose it is now.
const UNASSIGNED_FOR: Duration = Duration::from_secs(60);

/// When a shard is claimed once more that another run holds although the group assigned it to this node: a node that
/// was paused has learned by then, with its next heartbeats, whether that is still so.
const CLAIM_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Begin to serve this shard.
    Serve(i32),
    /// Begin the drain of this shard, which is served.
    Leave(i32),
}

/// The shards of a node.
#[derive(Clone, Debug, Default)]
pub struct Assignment {
    served: BTreeMap<i32, Served>,
    /// Shards that are the node's and are served from this time on, once their last life has ended.
    due: BTreeMap<i32, Duration>,
}

/// A shard that is served, or drained.
#[derive(Clone, Copy, Debug)]
struct Served {
    /// The group assigned it last to the node.
    owned: bool,
    leaving: bool,
    /// It is drained then, unless it is assigned again.
    until: Option<Duration>,
}

impl Assignment {
    /// The group decided something.
    pub fn changed(&mut self, change: &Change, now: Duration) -> Vec<Act> {
        match change {
            Change::Assigned(shards) => self.assigned(shards, now),
            Change::Revoked | Change::Lost => {
                self.due.clear();
                for served in self.served.values_mut() {
                    served.owned = false;
                    served.until = Some(now + UNASSIGNED_FOR);
                }
                Vec::new()
            }
        }
    }

    fn assigned(&mut self, shards: &[i32], now: Duration) -> Vec<Act> {
        self.due.retain(|shard, _| shards.contains(shard));
        for (shard, served) in &mut self.served {
            served.owned = shards.contains(shard);
            served.until = served.until.filter(|_| !served.owned);
        }
        let mut acts = self.leave(|served| !served.owned);
        for shard in shards {
            match self.served.get(shard) {
                // It goes on.
                Some(served) if !served.leaving => {}
                Some(_) => drop(self.due.insert(*shard, now)),
                None => acts.push(self.serve(*shard)),
            }
        }
        acts
    }

    /// The life of a shard has ended: it was drained, or another run was in its way.
    pub fn ended(&mut self, shard: i32, now: Duration) {
        if self.served.remove(&shard).is_some_and(|served| served.owned && !served.leaving) {
            self.due.insert(shard, now + CLAIM_AGAIN_AFTER);
        }
    }

    /// When [`Assignment::on_time`] is to be asked next; never while nothing waits.
    pub fn next(&self) -> Option<Duration> {
        let served = self.served.values().filter(|served| !served.leaving).filter_map(|served| served.until);
        let due = self.due.iter().filter(|(shard, _)| !self.served.contains_key(shard)).map(|(_, at)| *at);
        served.chain(due).min()
    }

    /// What is to be done because it is that time.
    pub fn on_time(&mut self, now: Duration) -> Vec<Act> {
        let mut acts = self.leave(|served| served.until.is_some_and(|until| until <= now));
        let served = &self.served;
        let due = self.due.extract_if(.., |shard, at| *at <= now && !served.contains_key(shard));
        let due: Vec<i32> = due.map(|(shard, _)| shard).collect();
        acts.extend(due.into_iter().map(|shard| self.serve(shard)));
        acts
    }

    /// The node leaves: everything is drained, and nothing begins.
    pub fn left(&mut self) -> Vec<Act> {
        self.due.clear();
        self.leave(|_| true)
    }

    /// Whether the group's last assignment gives the shard to the node. A shard that is not may go on, and fences
    /// nobody.
    pub fn owns(&self, shard: i32) -> bool {
        self.served.get(&shard).is_some_and(|served| served.owned)
    }

    /// The shards that are served or drained.
    pub fn served(&self) -> impl ExactSizeIterator<Item = i32> {
        self.served.keys().copied()
    }

    fn serve(&mut self, shard: i32) -> Act {
        self.due.remove(&shard);
        self.served.insert(shard, Served { owned: true, leaving: false, until: None });
        Act::Serve(shard)
    }

    /// Drains those of which this is true, and that are not drained yet.
    fn leave(&mut self, which: impl Fn(&Served) -> bool) -> Vec<Act> {
        let mut acts = Vec::new();
        for (shard, served) in &mut self.served {
            if !served.leaving && which(served) {
                served.leaving = true;
                acts.push(Act::Leave(*shard));
            }
        }
        acts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    /// A node that serves these since the beginning.
    fn serving(shards: &[i32]) -> Assignment {
        let mut assignment = Assignment::default();
        let acts = assignment.changed(&Change::Assigned(shards.to_vec()), Duration::ZERO);
        assert_eq!(acts, shards.iter().map(|shard| Act::Serve(*shard)).collect::<Vec<_>>());
        assignment
    }

    fn assigned(assignment: &mut Assignment, shards: &[i32], now: Duration) -> Vec<Act> {
        assignment.changed(&Change::Assigned(shards.to_vec()), now)
    }

    #[test]
    fn a_shard_goes_on_while_the_group_divides_them_and_is_drained_where_it_is_anothers() {
        let mut node = serving(&[0, 1]);
        assert_eq!(node.changed(&Change::Revoked, S), []);
        assert_eq!((node.owns(0), node.owns(1), node.next()), (false, false, Some(S + UNASSIGNED_FOR)));
        assert_eq!(assigned(&mut node, &[1, 2], 2 * S), [Act::Leave(0), Act::Serve(2)]);
        assert_eq!(([0, 1, 2].map(|shard| node.owns(shard)), node.next()), ([false, true, true], None));
        node.ended(0, 3 * S);
        assert_eq!((node.served().collect::<Vec<_>>(), node.next()), (vec![1, 2], None));
    }

    #[test]
    fn a_shard_that_is_not_assigned_again_is_drained_after_its_time() {
        let mut node = serving(&[0]);
        assert_eq!(node.changed(&Change::Lost, S), []);
        let until = S + UNASSIGNED_FOR;
        assert_eq!(node.on_time(until - Duration::from_millis(1)), []);
        assert_eq!(node.on_time(until), [Act::Leave(0)]);
        assert_eq!((node.on_time(until), node.next()), (vec![], None), "once");
        node.ended(0, until + S);
        assert_eq!(node.next(), None, "it is not the node's");
    }

    #[test]
    fn what_is_assigned_again_during_its_drain_is_served_once_that_has_ended() {
        let mut node = serving(&[0]);
        assert_eq!((assigned(&mut node, &[], S), node.owns(0)), (vec![Act::Leave(0)], false));
        assert_eq!(assigned(&mut node, &[0], 2 * S), []);
        assert_eq!((node.next(), node.on_time(3 * S)), (None, vec![]), "not before its last life has ended");
        node.ended(0, 4 * S);
        assert_eq!(node.next(), Some(2 * S));
        assert_eq!((node.on_time(4 * S), node.owns(0), node.next()), (vec![Act::Serve(0)], true, None));
    }

    #[test]
    fn a_shard_that_another_run_holds_is_claimed_again_while_it_is_the_nodes() {
        let mut node = serving(&[0, 1]);
        node.ended(0, S);
        let again = S + CLAIM_AGAIN_AFTER;
        assert_eq!(
            (node.owns(0), node.next(), node.on_time(again - Duration::from_millis(1))),
            (false, Some(again), vec![])
        );
        assert_eq!(node.on_time(again), [Act::Serve(0)]);
        node.ended(0, again);
        node.changed(&Change::Lost, again);
        assert_eq!(node.next(), Some(again + UNASSIGNED_FOR), "the other shard's");
        assert_eq!(assigned(&mut node, &[1], again + S), []);
        assert_eq!(node.next(), None, "the group took it away meanwhile");
        node.ended(1, again + S);
        node.changed(&Change::Lost, again + 2 * S);
        assert_eq!(node.next(), None);
    }

    #[test]
    fn a_node_that_leaves_drains_everything_and_begins_nothing() {
        let mut node = serving(&[0, 1, 2]);
        node.ended(2, S);
        assert_eq!(assigned(&mut node, &[0, 2], S), [Act::Leave(1), Act::Serve(2)]);
        assert_eq!(node.left(), [Act::Leave(0), Act::Leave(2)]);
        [0, 1, 2].into_iter().for_each(|shard| node.ended(shard, 2 * S));
        assert_eq!((node.next(), node.on_time(100 * S), node.served().len()), (None, vec![], 0));
    }
}

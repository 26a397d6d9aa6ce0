//! What the nodes log, read and reported: who serves which shard, and which gaps are open.

use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Who serves a shard; nodes are numbers here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seat {
    pub(super) owner: Option<usize>,
    /// The owner when the node was killed.
    pub(super) before: Option<usize>,
    /// How long after the kill it was served again, where its owner was killed.
    pub(super) again: Option<Duration>,
}

/// What is known of the nodes.
#[derive(Debug)]
pub(super) struct Watch {
    names: &'static [&'static str],
    seats: Vec<Seat>,
    /// Gaps that are open, by account and number, and whether they were reported.
    gaps: BTreeMap<(String, String), bool>,
    killed: Option<(usize, Instant)>,
    /// What happens is reported from then on.
    telling: bool,
}

impl Watch {
    /// Watches `shards` shards, none of which is served yet, and nodes of these names.
    pub(super) fn new(names: &'static [&'static str], shards: usize) -> Self {
        let seats = vec![Seat::default(); shards];
        Self { names, seats, gaps: BTreeMap::new(), killed: None, telling: false }
    }

    /// Reports what happens from now on, or no longer.
    pub(super) fn tell(&mut self, telling: bool) {
        self.telling = telling;
    }

    /// Each shard.
    pub(super) fn seats(&self) -> &[Seat] {
        &self.seats
    }

    /// Each node serves a shard, and each shard is served.
    pub(super) fn is_shared(&self) -> bool {
        let mut owners: Vec<_> = self.seats.iter().filter_map(|seat| seat.owner).collect();
        owners.sort_unstable();
        owners.dedup();
        owners.len() == self.seats.len()
    }

    /// No gap is open.
    pub(super) fn is_whole(&self) -> bool {
        self.gaps.is_empty()
    }

    /// The node was killed at this time.
    pub(super) fn killed(&mut self, node: usize, at: Instant) {
        self.killed = Some((node, at));
        for seat in &mut self.seats {
            seat.before = seat.owner;
            seat.owner = seat.owner.filter(|owner| *owner != node);
        }
    }

    /// Whether it was this node.
    pub(super) fn is_killed(&self, node: usize) -> bool {
        self.killed.is_some_and(|(killed, _)| killed == node)
    }

    /// Takes in a line of a node's log, which came at this time; what a person should know of it.
    pub(super) fn hear(&mut self, node: usize, line: &Value, at: Instant) -> Option<String> {
        let Self { names, killed, telling, .. } = *self;
        let name = *names.get(node)?;
        let text = |field: &str| line[field].as_str().map_or_else(|| line[field].to_string(), str::to_owned);
        let since = killed.map(|(_, killed)| at.saturating_duration_since(killed));
        let shard = line["shard"].as_u64().and_then(|shard| usize::try_from(shard).ok());
        let seat = shard.and_then(|shard| self.seats.get_mut(shard));
        let (account, gap) = (text("account"), text("gap"));
        let told = match (line["message"].as_str()?, seat) {
            ("shard claimed", Some(_)) => format!("{name} claims shard {}", shard?),
            ("relay ready", Some(seat)) => {
                let again = seat.owner.is_none() && seat.before.is_some();
                seat.owner = Some(node);
                seat.again = seat.again.or(since.filter(|_| again));
                let after =
                    seat.again.map_or(String::new(), |again| format!(", {} ms after the kill", again.as_millis()));
                format!("{name} serves shard {}{after}", shard?)
            }
            ("shard left" | "shard let go: another node holds it", Some(seat)) => {
                seat.owner = seat.owner.filter(|owner| *owner != node);
                format!("{name} leaves shard {}", shard?)
            }
            ("gap opened", _) => {
                let told = format!("gap {gap} of {account} opened: {}", text("cause"));
                self.gaps.insert((account, gap), telling);
                told
            }
            ("gap closed", _) => {
                let told = format!("gap {gap} of {account} closed by the {}: {} events", text("by"), text("recovered"));
                self.gaps.remove(&(account, gap))?.then_some(told)?
            }
            _ => return None,
        };
        telling.then_some(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_shard_of_a_killed_node_is_served_again_by_another() {
        let begun = Instant::now();
        let mut watch = Watch::new(&["a", "b"], 2);
        let hear = |watch: &mut Watch, node, line, ms| watch.hear(node, &line, begun + Duration::from_millis(ms));
        let ready = |shard: i32| json!({"message": "relay ready", "shard": shard});
        for shard in 0..2 {
            assert_eq!(hear(&mut watch, 0, ready(shard), 0), None, "nothing is told yet");
        }
        assert!(!watch.is_shared(), "one node has both");
        assert_eq!(hear(&mut watch, 1, ready(1), 1), None);
        hear(&mut watch, 0, json!({"message": "shard left", "shard": 1}), 2);
        hear(&mut watch, 0, json!({"message": "gap opened", "account": "x", "gap": 0, "cause": "first_start"}), 2);
        assert!(watch.is_shared() && !watch.is_whole());
        watch.tell(true);
        let closed = json!({"message": "gap closed", "account": "x", "gap": 0, "by": "backfill", "recovered": 0});
        assert_eq!(hear(&mut watch, 0, closed, 3), None, "its beginning was not told");
        assert!(watch.is_whole());
        watch.killed(0, begun + Duration::from_millis(10));
        assert!(watch.is_killed(0) && !watch.is_killed(1) && !watch.is_shared());
        let told = hear(&mut watch, 1, ready(0), 7_010);
        assert_eq!(told.as_deref(), Some("b serves shard 0, 7000 ms after the kill"));
        let again = Some(Duration::from_secs(7));
        assert_eq!(watch.seats()[0], Seat { owner: Some(1), before: Some(0), again });
        assert_eq!(watch.seats()[1], Seat { owner: Some(1), before: Some(1), again: None });
    }
}

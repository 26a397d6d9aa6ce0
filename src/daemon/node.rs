//! A node of a cluster: it takes webhooks for all shards, and serves those that the consumer group gives it.
//!
//! The group decides who is to serve a shard, and `kafka/group/assignment` what follows from that here; the shard's
//! transactional id makes sure that nobody else writes.

use super::Shared;
use super::accounts::{Accounts, Common, Pace};
use super::inbox::Door;
use super::reach::Ways;
use super::run::{failed, left};
use super::shard::{End, Serving};
use crate::config::AccountSecrets;
use crate::exit::Exit;
use crate::kafka::group::{Act, Assignment, Change, Membership, Observer, Reports, View};
use crate::kafka::settlement::Fenced;
use crate::kafka::shard::{Member, Shard};
use crate::kafka::topics::Topics;
use crate::legs::Intake;
use crate::legs::webhook::{Endpoint, Endpoints};
use crate::telemetry::{Board, Cluster, Metrics, Phase};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

/// How long a shard may take to drain that is to be another node's: the next owner waits for that.
const DRAIN_WITHIN: Duration = Duration::from_secs(2);

/// How often the coordinator is asked about all nodes and shards.
const LOOK_EVERY: Duration = Duration::from_secs(7);

/// A node, before it has joined.
pub(super) struct Node {
    pub(super) shared: Arc<Shared>,
    pub(super) ways: Arc<Ways>,
    /// Where webhooks come to.
    pub(super) door: Door,
    pub(super) endpoints: watch::Sender<Arc<Endpoints>>,
    /// The listener and what appends; each returns whether it was asked to end.
    pub(super) tasks: JoinSet<bool>,
}

/// A shard that is served or drained.
struct Held {
    /// Whether the assignment gives it to this node, for the shard's own threads.
    owned: Arc<AtomicBool>,
    stop: CancellationToken,
}

/// A node that has joined.
struct Joined {
    node: Node,
    pace: Arc<Pace>,
    topics: Topics,
    reports: Reports,
    /// The moment that the assignment's times count from.
    since: Instant,
    assignment: Assignment,
    /// What the assignment serves.
    held: BTreeMap<i32, Held>,
    /// Where to begin the first walk of shards (`run --from`). It is for those of the first assignment: a person means now, and
    /// not a takeover of some day.
    from_ms: Option<i64>,
    running: JoinSet<(i32, End)>,
}

impl Node {
    /// Joins the group, serves what it is given, and lets all of it go in the end.
    pub(super) async fn run(self) -> Result<(), Exit> {
        let shared = Arc::clone(&self.shared);
        self.tell_endpoints(&shared.account_secrets.borrow());
        let config = &shared.setup.config;
        let ensured = shared.topics(|what| shared.health.set_waiting_for(what));
        let topics = tokio::select! {
            () = shared.stop.cancelled() => Err(None),
            topics = ensured => topics.map_err(|error| Some(Exit::from(error))),
        };
        let joined = topics.and_then(|topics| {
            topics.warnings().for_each(|warning| warn!("{warning}"));
            let membership = Membership::join(config, shared.kafka_secrets.clone(), &shared.setup.tuning);
            let membership = membership.map_err(|error| Some(Exit::from(error)))?;
            Ok((topics, membership))
        });
        let (failed, ended) = match joined {
            Ok((topics, membership)) => {
                // It serves none yet, and misses no leg of any.
                Shard::all(config.cluster.shards).for_each(|shard| shared.metrics.forget_shard(shard.number));
                let (pace, reports) = (Arc::default(), membership.reports());
                let (assignment, held, running) = Default::default();
                let (since, from_ms) = (Instant::now(), shared.setup.from_ms);
                let joined = Joined { node: self, pace, topics, reports, since, assignment, held, from_ms, running };
                joined.run(membership).await
            }
            Err(why) => {
                self.shared.stop.cancel();
                let Self { endpoints, mut tasks, door, .. } = self;
                drop((endpoints, door));
                while tasks.join_next().await.is_some() {}
                (0, why.map_or(Ok(()), Err))
            }
        };
        info!(left = left(&shared.metrics, failed), "stopped");
        ended
    }

    /// All accounts have their webhooks taken here, whichever node serves their shard.
    fn tell_endpoints(&self, secrets: &[AccountSecrets]) {
        let endpoint = |of: &AccountSecrets| Endpoint {
            intake: self.door.of(&of.name),
            secrets: Arc::from(of.webhook.as_slice()),
        };
        self.door.share_among(secrets.len());
        let endpoints = Endpoints::new(&self.shared.setup.config.webhook, secrets.iter().map(endpoint));
        self.endpoints.send_replace(Arc::new(endpoints));
    }
}

impl Joined {
    /// Also returns how many deliveries had failed when the end began.
    async fn run(mut self, mut membership: Membership) -> (u64, Result<(), Exit>) {
        let shared = Arc::clone(&self.node.shared);
        let mut account_secrets = shared.account_secrets.clone();
        let looking = tokio::spawn(look(Arc::clone(&shared)));
        let ended = loop {
            let due = self.assignment.next().map(|at| self.since + at);
            tokio::select! {
                () = shared.stop.cancelled() => break Ok(()),
                change = membership.next() => match change {
                    Some(Ok(change)) => if let Err(exit) = self.change(&change) { break Err(exit) },
                    Some(Err(error)) => break Err(Exit::from(error)),
                    None => break Err(Exit::failed("the membership of the group ended; see the log")),
                },
                Some(ended) = self.running.join_next() => if let Err(exit) = self.ended(ended) { break Err(exit) },
                () = sleep_until(due.unwrap_or(self.since)), if due.is_some() => if let Err(exit) = self.on_time() { break Err(exit) },
                Ok(()) = account_secrets.changed() => self.node.tell_endpoints(&account_secrets.borrow_and_update()),
                Some(task) = self.node.tasks.join_next() => match task {
                    Ok(true) => {}
                    Ok(false) => break Err(Exit::failed("the listener ended on its own; see the log")),
                    Err(error) => break Err(Exit::failed(format!("a part of the node failed: {error}"))),
                },
            }
        };
        looking.abort();
        let failed = failed(&shared.metrics);
        shared.health.set_phase(Phase::Stopping);
        shared.metrics.ready(false);
        shared.stop.cancel();
        let drained = self.assignment.left().into_iter().try_for_each(|act| self.act(act));
        while let Some(end) = self.running.join_next().await {
            if let Ok((shard, end)) = end {
                debug!(shard, ?end, "shard left");
            }
        }
        // Only now is the group left: the next owner of a shard finds it left in order.
        drop(membership);
        let Self { node: Node { endpoints, door, mut tasks, .. }, .. } = self;
        drop((endpoints, door));
        let goodbyes = async { while tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(shared.setup.config.shutdown.deadline, goodbyes).await;
        (failed, ended.and(drained))
    }

    /// What the group decided.
    fn change(&mut self, change: &Change) -> Result<(), Exit> {
        match change {
            Change::Assigned(shards) => {
                self.node.shared.health.set_phase(Phase::Ready);
                self.node.shared.metrics.ready(true);
                info!(shards = list(shards), "shards assigned");
            }
            Change::Revoked => {}
            Change::Lost => warn!("shards lost: the group's coordinator was silent, or this node was"),
        }
        let acts = self.assignment.changed(change, self.since.elapsed());
        for (shard, held) in &self.held {
            held.owned.store(self.assignment.owns(*shard), Ordering::Release);
        }
        for act in acts {
            if let Act::Leave(shard) = act {
                debug!(shard, "another node is to serve the shard");
            }
            self.act(act)?;
        }
        if let Change::Assigned(shards) = change
            && self.from_ms.take().is_some()
            && shards.is_empty()
        {
            warn!("--from is not used: another node serves the shards; restart that one with it");
        }
        Ok(())
    }

    fn on_time(&mut self) -> Result<(), Exit> {
        for act in self.assignment.on_time(self.since.elapsed()) {
            if let Act::Leave(shard) = act {
                info!(shard, "shard left: it was not assigned again");
            }
            self.act(act)?;
        }
        Ok(())
    }

    fn act(&mut self, act: Act) -> Result<(), Exit> {
        match act {
            Act::Serve(shard) => self.serve(shard)?,
            Act::Leave(shard) => self.held.get(&shard).into_iter().for_each(|held| held.stop.cancel()),
        }
        Ok(())
    }

    /// Begins to serve a shard.
    fn serve(&mut self, number: i32) -> Result<(), Exit> {
        let Node { shared, ways, door, .. } = &self.node;
        let config = &shared.setup.config;
        let shard = Shard { number, count: config.cluster.shards };
        let stop = CancellationToken::new();
        let health = Arc::new(shared.health.of_shard(number));
        let (intake, receiver) = Intake::new(config.intake.bytes_max);
        let common = Common {
            config: config.clone(),
            shard,
            door: Some(door.clone()),
            pace: Arc::clone(&self.pace),
            ways: Arc::clone(ways),
            intake: intake.on_shard(number),
            health: Arc::clone(&health),
            metrics: Arc::clone(&shared.metrics),
            stop: stop.clone(),
        };
        let owned = Arc::new(AtomicBool::new(true));
        let serving = Serving {
            shared: Arc::clone(shared),
            shard,
            member: Some(Member { node: config.cluster.node.clone(), owned: Arc::clone(&owned) }),
            reports: Some(self.reports.clone()),
            topics: Some(self.topics.clone()),
            from_ms: self.from_ms,
            health,
            receiver: Some(receiver),
            accounts: Accounts::new(common, &shared.account_secrets.borrow(), None)?,
            tasks: JoinSet::new(),
            stop: stop.clone(),
            drain_within: DRAIN_WITHIN.min(config.shutdown.deadline),
        };
        self.running.spawn(async move { (number, serving.run().await) });
        self.held.insert(number, Held { owned, stop });
        self.node.shared.metrics.shards_owned(self.held.len());
        Ok(())
    }

    /// A shard's life has ended.
    fn ended(&mut self, ended: Result<(i32, End), tokio::task::JoinError>) -> Result<(), Exit> {
        let (shard, end) = ended.map_err(|error| Exit::failed(format!("a shard failed: {error}")))?;
        let Shared { health, metrics, board, .. } = &*self.node.shared;
        health.forget_shard(shard);
        metrics.forget_shard(shard);
        board.forget_shard(shard);
        self.held.remove(&shard);
        metrics.shards_owned(self.held.len());
        self.assignment.ended(shard, self.since.elapsed());
        match end {
            End::Left => info!(shard, "shard left"),
            End::Fenced(Fenced::Stop) => {
                error!("fenced");
                return Err(super::fenced());
            }
            End::Fenced(Fenced::LetGo) => info!(shard, "shard let go: another node holds it"),
            End::Elsewhere => info!(shard, "shard not claimed: another node did before"),
            End::Failed(exit) => return Err(exit),
        }
        Ok(())
    }
}

fn list(shards: &[i32]) -> String {
    shards.iter().map(i32::to_string).collect::<Vec<_>>().join(", ")
}

/// Shows what the coordinator answers about all nodes, for as long as the node is there.
async fn look(shared: Arc<Shared>) {
    let config = &shared.setup.config;
    let mut secrets = shared.kafka_secrets.clone();
    let mut observer = None;
    let mut twins = Twins::default();
    loop {
        if observer.is_none() || secrets.has_changed().unwrap_or(false) {
            observer = Observer::new(config, &secrets.borrow_and_update().clone()).ok();
        }
        let view = match &observer {
            Some(observer) => observer.look().await.ok(),
            None => None,
        };
        if let Some(view) = view {
            tell(&view, config.cluster.shards, &shared.board, &shared.metrics);
            for node in twins.seen(&view) {
                warn!(node, "two nodes have the same cluster.node: give each a name of its own");
            }
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Names that two nodes have. One that was killed and is back may be in the group twice for a session.
#[derive(Debug, Default)]
struct Twins {
    last: BTreeSet<String>,
    told: BTreeSet<String>,
}

impl Twins {
    /// Those to be logged now: there twice in two looks running, which is longer than a session, and not logged before.
    fn seen(&mut self, view: &View) -> Vec<String> {
        let mut names = BTreeSet::new();
        let twice = view.nodes.iter().filter(|(node, _)| !names.insert(node)).map(|(node, _)| node.clone());
        let now: BTreeSet<String> = twice.collect();
        let last = std::mem::replace(&mut self.last, now);
        let new = self.last.intersection(&last).filter(|node| !self.told.contains(*node)).cloned();
        let new: Vec<String> = new.collect();
        self.told.extend(new.iter().cloned());
        new
    }
}

fn tell(view: &View, shards: i32, board: &Board, metrics: &Metrics) {
    let owners = Shard::all(shards).map(|shard| view.owner(shard.number).map(str::to_owned));
    let owners: Vec<Option<String>> = owners.collect();
    metrics.shards_unowned(owners.iter().filter(|owner| owner.is_none()).count());
    board.set_cluster(Cluster { owners, lags: view.lags.clone(), nodes: view.nodes.clone() });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::client::SESSION;

    #[test]
    fn a_name_that_two_nodes_have_for_longer_than_a_session_is_logged_once() {
        assert!(LOOK_EVERY > SESSION);
        let view = |nodes: &[&str]| {
            let nodes = nodes.iter().map(|node| ((*node).to_owned(), Vec::new())).collect();
            View { nodes, ..View::default() }
        };
        let mut twins = Twins::default();
        let seen = [
            &["a", "b"][..],
            &["a", "a", "b"],
            &["a", "b", "b"],
            &["b", "b"],
            &["b", "b"],
            &["a"],
            &["b", "b"],
            &["b", "b"],
        ]
        .map(|nodes| twins.seen(&view(nodes)));
        let told = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(seen, [&[][..], &[], &[], &["b"], &[], &[], &[], &[]].map(told));
    }
}

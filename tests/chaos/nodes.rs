//! The nodes of a cluster, each a process with listeners and a log of its own, and what has to be so before the next fault.

use crate::cluster::Fault;
use crate::rounds::Play;
use crate::stage::{RECOVERED_WITHIN, Stage, is_ready, launch, settings};
use crate::support::kafka::Broker;
use crate::support::ports::free_address;
use crate::support::process::Process;
use crate::support::settings::clustered;
use pepay_relay::config::{Config, Secrets};
use rand::RngExt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What nodes log. What they serve is read from their lines, of which none may be dropped: at the level below, a node
/// that reads twelve windows back has more lines than are read in time.
const LOG_LEVEL: &str = "debug";
/// Nodes are looked at so often while something is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What was done to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Up,
    /// It is stopped, and a member of the group until that has noticed.
    Still,
    Down,
}

pub struct Node {
    pub process: Process,
    pub state: State,
    name: String,
    addresses: [SocketAddr; 2],
    log: PathBuf,
}

pub struct Nodes {
    pub all: Vec<Node>,
    /// When the fault began whose recovery is waited for.
    pub struck: Instant,
    /// The longest of several recoveries that a fault has waited for by itself.
    pub longest: Duration,
    shards: i32,
}

impl Node {
    fn start(name: String, addresses: [SocketAddr; 2], dir: &Path, shards: i32, with: (&Config, &Secrets)) -> Self {
        let log = dir.join(format!("{name}.log"));
        let process = launch(&clustered(with.0.clone(), &name, shards), with.1, addresses, (LOG_LEVEL, &log), &[]);
        Self { process, state: State::Up, name, addresses, log }
    }

    /// Whether it serves the shard, by its log; one that is frozen serves none.
    fn serves(&self, shard: i32) -> bool {
        self.state == State::Up && self.process.serves(shard)
    }
}

impl Stage<Nodes> {
    /// Starts every part, with this many nodes and shards, and an account for each merchant.
    pub async fn cluster((seed, dir): (u64, &Path), nodes: usize, shards: i32, merchants: &[&str]) -> Self {
        let broker = tokio::task::block_in_place(Broker::start);
        // All of them write into the same topics, whatever each is called.
        let config = clustered(settings(broker.bootstrap()), "", shards);
        let addresses: Vec<_> = (0..nodes).map(|_| [free_address(), free_address()]).collect();
        let listen = addresses.clone().into_iter().map(|[webhook, _]| webhook);
        let mut stage = Self::open((seed, dir), (broker, config), merchants, listen, async |config, secrets| {
            let start =
                |(number, addresses)| Node::start(format!("n{number}"), addresses, dir, shards, (config, secrets));
            let mut all: Vec<_> = addresses.into_iter().enumerate().map(start).collect();
            // They make the topics.
            for node in &mut all {
                node.process.line("shards assigned").await;
            }
            Nodes { all, struck: Instant::now(), longest: Duration::ZERO, shards }
        })
        .await;
        stage.all_served(Instant::now() + RECOVERED_WITHIN).await.unwrap_or_else(|why| panic!("{why}"));
        stage
    }

    /// The place of the node that serves some shard, or of any where all are on their way.
    pub fn owner(&mut self) -> usize {
        let shard = self.chance.random_range(0..self.relay.shards);
        let owner = self.relay.all.iter().position(|node| node.serves(shard));
        owner.unwrap_or_else(|| self.chance.random_range(0..self.relay.all.len()))
    }

    /// Ends a node as a power cut does.
    pub async fn kill(&mut self, place: usize) {
        let node = &mut self.relay.all[place];
        node.process.signal("KILL");
        node.state = State::Down;
        assert_eq!(node.process.ended().await, None, "{}", node.process.said());
    }

    /// Ends a node in order.
    pub async fn term(&mut self, place: usize) {
        let node = &mut self.relay.all[place];
        node.process.signal("TERM");
        node.state = State::Down;
        assert_eq!(node.process.ended().await, Some(0), "{}: {}", node.name, node.process.said());
    }

    pub fn freeze(&mut self, place: usize) {
        let node = &mut self.relay.all[place];
        node.process.signal("STOP");
        node.state = State::Still;
    }

    /// Starts a node that has ended, and lets one go on that is frozen.
    pub fn set_going(&mut self, place: usize) {
        let node = &mut self.relay.all[place];
        match node.state {
            State::Up => {}
            State::Still => node.process.signal("CONT"),
            State::Down => {
                let config = clustered(self.config.clone(), &node.name, self.relay.shards);
                node.process = launch(&config, &self.secrets, node.addresses, (LOG_LEVEL, &node.log), &[]);
            }
        }
        node.state = State::Up;
    }

    /// Waits until every node that is up is ready and in the group, and each shard is served by one of them.
    async fn all_served(&mut self, deadline: Instant) -> Result<(), String> {
        loop {
            let mut ready = true;
            for Node { process, state, name, .. } in &mut self.relay.all {
                if *state != State::Down
                    && let Some(status) = process.has_ended().await
                {
                    return Err(format!("node {name} ended with {status:?}:\n{}", process.said()));
                }
            }
            let of = |shard| self.relay.all.iter().filter(|node| node.serves(shard)).count();
            let not: Vec<i32> = (0..self.relay.shards).filter(|shard| of(*shard) != 1).collect();
            for node in self.relay.all.iter().filter(|node| node.state == State::Up && not.is_empty()) {
                ready &= node.process.is_assigned() && is_ready(node.addresses[1]).await;
            }
            if ready && not.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(format!("ready: {ready}; shards that no node serves alone: {not:?}\n"));
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

impl Play for Stage<Nodes> {
    type Fault = Fault;

    async fn strike(&mut self, fault: Fault) {
        self.relay.struck = Instant::now();
        fault.strike(self).await;
    }

    /// Since the fault began, until the nodes that are up serve every shard and everything that was issued by then is
    /// committed. The others are started after that, and waited for.
    async fn recovered(&mut self) -> Result<Duration, String> {
        let deadline = Instant::now() + RECOVERED_WITHIN;
        self.all_served(deadline).await?;
        let issued = self.tell().await;
        let there =
            self.reader.until(deadline, |oracle| oracle.waiting(issued) == 0 || !oracle.is_clean_so_far()).await;
        let took = self.relay.struck.elapsed();
        if !there || !self.reader.oracle().is_clean_so_far() {
            return Err(format!("after {took:?} of {issued} events:\n{}", self.interim()));
        }
        (0..self.relay.all.len()).for_each(|place| self.set_going(place));
        self.all_served(deadline).await?;
        Ok(took.max(std::mem::take(&mut self.relay.longest)))
    }

    /// After what was issued by now is committed: nodes that are stopped while a shard is on its way from one to the
    /// other leave that to the next start.
    async fn drain(&mut self) {
        let issued = self.tell().await;
        let deadline = Instant::now() + RECOVERED_WITHIN;
        let there = self.reader.until(deadline, |oracle| oracle.waiting(issued) == 0).await;
        assert!(there, "{}", self.interim());
        for place in 0..self.relay.all.len() {
            self.term(place).await;
        }
    }
}

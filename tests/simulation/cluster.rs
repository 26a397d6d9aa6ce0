//! A cluster whose group is an adversary: at any moment it gives the shard to a node, revokes it, or takes it away without a
//! word, also of several nodes at once; and nodes freeze at the worst moments.
//!
//! What a node does about it is decided by production's assignment.

use crate::line::Line;
use crate::relay::since;
use crate::scenario::START_MS;
use crate::still::Moment;
use crate::world::{Do, Exit, Step, World};
use pepay_relay::kafka::client::SESSION;
use pepay_relay::kafka::group::{Act, Assignment, Change};

/// A process of the cluster.
#[derive(Debug, Default)]
pub struct Node {
    pub alive: bool,
    /// Counts its processes.
    pub process: u64,
    pub frozen_until: i64,
    /// How far its wall clock is ahead.
    pub offset_ms: i64,
    /// The relay that serves the shard here.
    pub relay: Option<usize>,
    assignment: Assignment,
    /// A person started its process, and set from when on events are to be fetched.
    pub from_ms: Option<i64>,
    /// It leaves once its relay has.
    leaving: bool,
}

/// What the group sends to a node, or the node to itself.
#[derive(Clone, Copy, Debug)]
pub enum Told {
    /// The shard is the node's, or is not.
    Assigned(bool),
    Revoked,
    Lost,
    /// The time has come that its assignment waits for.
    OnTime,
    /// The time of this relay to drain is over.
    Drained(usize),
}

/// The number of the shard.
const SHARD: i32 = 0;
/// How long a drain may take.
const DRAIN_MS: i64 = 2000;

impl World {
    pub fn is_cluster(&self) -> bool {
        self.scenario.cluster.is_some()
    }

    /// What else would happen to the only relay happens to some node.
    pub fn strike(&mut self, what: Do) {
        match what {
            Do::Boot if self.is_absent() => {}
            Do::Boot if self.nodes.is_empty() => self.found(),
            Do::Boot => self.assign_anybody(),
            // The group is away from now on, and perhaps all nodes are.
            Do::Crash if self.is_absent() => self.scatter(),
            Do::Crash | Do::Stop | Do::Freeze | Do::ClockStep | Do::Suspend => {
                if let Some(node) = self.some_node() {
                    self.strike_node(node, &what);
                }
            }
            Do::Takeover if self.is_absent() || !self.rng.chance(400) => self.move_shard(),
            Do::Takeover => {
                self.boot(None);
                let stays = self.rng.range(5000, 90_000);
                self.after(stays, Do::OutsiderLeaves(self.relays.len() - 1));
            }
            _ => {}
        }
    }

    fn strike_node(&mut self, node: usize, what: &Do) {
        match what {
            Do::Crash => self.node_dies(node, 40_000),
            Do::Stop => {
                self.nodes[node].leaving = true;
                let acts = self.nodes[node].assignment.left();
                match self.nodes[node].relay {
                    Some(_) => self.act(node, acts),
                    None => self.node_leaves(node),
                }
            }
            Do::Freeze => self.freeze(node),
            Do::ClockStep => {
                let offset_ms = self.stepped_clock();
                self.nodes[node].offset_ms = offset_ms;
                if let Some(relay) = self.nodes[node].relay {
                    self.relays[relay].offset_ms = offset_ms;
                }
            }
            _ => {
                self.freeze(node);
                if let Some(relay) = self.nodes[node].relay {
                    self.loses_connections(relay, self.nodes[node].frozen_until - self.now);
                }
            }
        }
    }

    /// The cluster begins.
    fn found(&mut self) {
        let count = self.scenario.cluster.as_ref().map_or(0, |cluster| cluster.nodes);
        for node in 0..count {
            let off = [-600_000, 0, 600_000][self.rng.range(0, 2) as usize];
            let offset_ms = if self.scenario.clock_off { off } else { 0 };
            self.nodes.push(Node { offset_ms, ..Node::default() });
            let delay = self.rng.range(0, 3000);
            self.after(delay, Do::NodeStarts(node));
        }
    }

    pub fn node_starts(&mut self, node: usize) {
        if self.is_absent() {
            return self.after(60_000, Do::NodeStarts(node));
        }
        if self.nodes[node].alive {
            return;
        }
        self.nodes[node].alive = true;
        if self.owner.is_some() {
            // Its first assignment is empty.
            self.nodes[node].from_ms = None;
        }
        if self.owner.is_none() {
            self.assign(node);
        } else if self.active && self.rng.chance(300) {
            self.move_shard();
        }
    }

    fn some_node(&mut self) -> Option<usize> {
        let living: Vec<usize> = (0..self.nodes.len()).filter(|&node| self.nodes[node].alive).collect();
        let last = living.len().checked_sub(1)?;
        Some(living[self.rng.range(0, last as i64) as usize])
    }

    /// The group decides for this node.
    fn assign(&mut self, node: usize) {
        self.owner = Some((node, self.nodes[node].process));
        self.tell_node(node, 3000, Told::Assigned(true));
    }

    pub fn assign_anybody(&mut self) {
        match self.some_node() {
            Some(node) => self.assign(node),
            None => self.owner = None,
        }
    }

    /// Reaches a node within this time; a node that is frozen receives it later.
    fn tell_node(&mut self, node: usize, within: i64, told: Told) {
        let delay = self.rng.range(0, within);
        let process = self.nodes[node].process;
        self.after(delay, Do::Node(node, process, self.generation, told));
    }

    /// The group moves the shard, in one of the ways in which groups do, and in some in which they do not.
    pub fn move_shard(&mut self) {
        if self.is_absent() || !self.active {
            return;
        }
        let old = self.owner.map(|(node, _)| node).filter(|&node| self.nodes[node].alive);
        match (old, self.rng.range(0, 4)) {
            (Some(old), 0) => {
                self.tell_node(old, 100, Told::Revoked);
                self.assign_anybody();
                if self.owner.is_some_and(|(owner, _)| owner != old) {
                    self.tell_node(old, 3000, Told::Assigned(false));
                }
            }
            (Some(old), 1) => {
                self.tell_node(old, 10_000, Told::Lost);
                self.assign_anybody();
            }
            (Some(old), 2) => {
                self.tell_node(old, 60_000, Told::Lost);
                self.assign_anybody();
            }
            // The coordinator was away: it comes back to the same node.
            (Some(old), 3) => {
                self.tell_node(old, 10, Told::Lost);
                let delay = self.rng.range(1000, 20_000);
                let process = self.nodes[old].process;
                self.after(delay, Do::Node(old, process, self.generation, Told::Assigned(true)));
            }
            // Two nodes hold it for theirs.
            _ => {
                if let Some(node) = self.some_node() {
                    self.tell_node(node, 5000, Told::Assigned(true));
                    if self.owner.is_none_or(|(owner, _)| owner != node) {
                        self.tell_node(node, 60_000, Told::Lost);
                    }
                }
            }
        }
    }

    /// The faults are over: the group settles.
    pub fn settle_group(&mut self) {
        self.generation += 1;
        self.assign_anybody();
        let owner = self.owner.map(|(node, _)| node);
        for node in (0..self.nodes.len()).filter(|node| owner != Some(*node)) {
            self.tell_node(node, 2000, Told::Assigned(false));
        }
    }

    /// A node receives something.
    pub fn node_told(&mut self, node: usize, process: u64, generation: u64, told: Told) {
        let of_group = matches!(told, Told::Assigned(_) | Told::Revoked | Told::Lost);
        let Node { alive, frozen_until, process: now, .. } = self.nodes[node];
        if !alive || process != now || (of_group && generation != self.generation) {
            return;
        }
        if frozen_until > self.now {
            return self.at(frozen_until, Do::Node(node, process, generation, told));
        }
        if !self.is_absent() || !matches!(told, Told::Assigned(true)) {
            self.told(node, told);
        }
    }

    fn told(&mut self, node: usize, told: Told) {
        let change = match told {
            Told::Assigned(whole) => Change::Assigned(if whole { vec![SHARD] } else { Vec::new() }),
            Told::Revoked => Change::Revoked,
            Told::Lost => Change::Lost,
            Told::OnTime => {
                let acts = self.nodes[node].assignment.on_time(since(self.now));
                return self.act(node, acts);
            }
            Told::Drained(of) => {
                if self.nodes[node].relay == Some(of) {
                    self.left(of);
                }
                return;
            }
        };
        let acts = self.nodes[node].assignment.changed(&change, since(self.now));
        if let Some(relay) = self.nodes[node].relay {
            self.relays[relay].owned = self.nodes[node].assignment.owns(SHARD);
        }
        self.act(node, acts);
    }

    fn act(&mut self, node: usize, acts: Vec<Act>) {
        for act in acts {
            match (act, self.nodes[node].relay) {
                (Act::Serve(_), None) => self.serve(node),
                (Act::Leave(_), Some(relay)) => self.node_drains(node, relay),
                _ => self.oracle.fail(format!("P7: node {node} is to {act:?}, and has another relay or none")),
            }
        }
        self.wait_for_time(node);
    }

    /// The assignment is asked again when it has to be.
    fn wait_for_time(&mut self, node: usize) {
        if let Some(next) = self.nodes[node].assignment.next() {
            let at = (START_MS + next.as_millis() as i64).max(self.now);
            let process = self.nodes[node].process;
            self.at(at, Do::Node(node, process, self.generation, Told::OnTime));
        }
    }

    /// The shard's relay begins on this node.
    fn serve(&mut self, node: usize) {
        let from_ms = self.nodes[node].from_ms.take();
        let relay = self.begin_relay(from_ms, (self.nodes[node].offset_ms, 0), Some(node));
        self.nodes[node].relay = Some(relay);
        self.step(relay, 10, Step::Line(Line::Decide));
    }

    fn node_drains(&mut self, node: usize, relay: usize) {
        if self.relays[relay].stopping {
            return;
        }
        // A start that is under way ends at once.
        if self.relays[relay].pipeline.is_none() {
            return self.left(relay);
        }
        self.stand_still(relay, Moment::Draining);
        self.drain(relay);
        let process = self.nodes[node].process;
        let delay = self.rng.range(DRAIN_MS, 2 * DRAIN_MS);
        self.after(delay, Do::Node(node, process, self.generation, Told::Drained(relay)));
    }

    /// The relay has ended: it was drained, or another run was in its way.
    pub fn left(&mut self, relay: usize) {
        self.kill(relay);
        let Some(node) = self.relays[relay].node else { return };
        self.nodes[node].relay = None;
        self.nodes[node].assignment.ended(SHARD, since(self.now));
        if self.nodes[node].leaving {
            self.node_leaves(node);
        } else {
            self.wait_for_time(node);
        }
    }

    /// Another node claimed the shard before this one did.
    pub fn elsewhere(&mut self, relay: usize) {
        if self.relays[relay].node.is_none() {
            self.oracle.fail("P7: a relay outside a cluster follows whatever it finds");
        }
        self.left(relay);
    }

    /// The process ends in order, and the group knows at once.
    fn node_leaves(&mut self, node: usize) {
        let process = self.nodes[node].process;
        self.end_process(node);
        self.node_missed(node, process);
        let delay = self.rng.range(5000, 30_000);
        self.after(delay, Do::NodeStarts(node));
    }

    fn end_process(&mut self, node: usize) {
        if let Some(relay) = self.nodes[node].relay {
            self.kill(relay);
        }
        let Node { process, offset_ms, .. } = self.nodes[node];
        self.nodes[node] = Node { process: process + 1, offset_ms, ..Node::default() };
        self.door_shuts(node);
    }

    /// The process dies; another one begins within this time.
    fn node_dies(&mut self, node: usize, within: i64) {
        let process = self.nodes[node].process;
        self.end_process(node);
        let missed = self.rng.range(100, SESSION.as_millis() as i64);
        self.after(missed, Do::Missed(node, process));
        let delay = self.rng.range(100, within);
        self.after(delay, Do::NodeStarts(node));
    }

    /// A relay of a cluster, or outside it, leaves its process.
    pub fn leaves_process(&mut self, relay: usize, exit: Exit) {
        let Some(node) = self.relays[relay].node else { return };
        match exit {
            Exit::Fenced => {
                let process = self.nodes[node].process;
                self.end_process(node);
                self.node_missed(node, process);
                // A person starts it again once the relay outside is to be gone.
                if !self.active {
                    self.after(10_000, Do::NodeStarts(node));
                }
            }
            Exit::Failed | Exit::Settings => {
                self.node_dies(node, 20_000);
                if exit == Exit::Settings {
                    let delay = self.rng.range(1000, 20_000);
                    self.after(delay, Do::Person);
                }
            }
        }
    }

    /// A person starts every node again, and sets from when on events are to be fetched.
    pub fn nodes_from(&mut self, from_ms: i64) {
        self.generation += 1;
        self.owner = None;
        for node in 0..self.nodes.len() {
            self.end_process(node);
            self.nodes[node].from_ms = Some(from_ms);
            self.after(10, Do::NodeStarts(node));
        }
    }

    /// The group has missed a process.
    pub fn node_missed(&mut self, node: usize, process: u64) {
        if self.owner == Some((node, process)) {
            self.owner = None;
            match () {
                () if self.is_absent() => {}
                () if self.active => self.assign_anybody(),
                () => self.settle_group(),
            }
        }
    }

    /// Nobody serves the shard from now on; perhaps nobody takes webhooks either.
    fn scatter(&mut self) {
        let all = self.rng.chance(500);
        self.owner = None;
        for node in 0..self.nodes.len() {
            if all && self.nodes[node].alive {
                self.node_dies(node, 40_000);
            } else {
                // What it would do is cut short.
                let _ = self.nodes[node].assignment.changed(&Change::Assigned(Vec::new()), since(self.now));
                self.nodes[node].relay.into_iter().for_each(|relay| self.left(relay));
            }
        }
    }

    pub fn outsider_leaves(&mut self, relay: usize) {
        if !self.relays[relay].alive {
            return;
        }
        if self.relays[relay].pipeline.is_some() && self.rng.chance(500) {
            self.drain(relay);
            self.after(30_000, Do::OutsiderLeaves(relay));
        } else {
            self.kill(relay);
        }
    }
}

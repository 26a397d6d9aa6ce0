//! The scheduler: one clock, one agenda, one source of chance; everything that happens is a step on it.

use crate::bugs::Bug;
use crate::cluster::{Node, Told};
use crate::inbox::{DELETED_EVERY_MS, Door, Inbox, Post};
use crate::kafka::{Kafka, State};
use crate::oracle::Oracle;
use crate::process::{Answer, Relay};
use crate::provider::{HISTORY_MS, Provider};
use crate::scenario::{ACTIVE_MS, QUIET_MS, Rng, START_MS, Scenario, TRANSACTION_TIMEOUT_MS};
use crate::{line::Line, websocket::Frame};
use bytes::Bytes;
use pepay_relay::legs::websocket::reconnect::End;
use pepay_relay::provider::rest::RestError;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Between two compactions of the control topic.
const CLEAN_EVERY_MS: i64 = 20_000;

/// Something that happens at a moment.
#[derive(Debug)]
pub enum Do {
    /// The provider issues an event.
    Emit,
    /// A webhook of an event is sent for the n-th time.
    Webhook(usize, u32),
    /// The markers of a decided transaction are written.
    Markers(usize),
    Boot,
    Crash,
    Stop,
    Takeover,
    Freeze,
    /// The wall clock of the machine is set.
    ClockStep,
    /// The machine sleeps, and its connections die.
    Suspend,
    Broker(bool),
    Rest(bool),
    Cut,
    /// Connections fall silent.
    Silence,
    /// A foreign transaction begins, or the one of that number ends.
    Foreign(Option<usize>),
    /// The coordinator looks for transactions that are too old.
    Expire(i64),
    /// Kafka compacts the control topic.
    Clean,
    /// A late copy of an end of a transaction arrives.
    LateEnd(usize),
    /// The broker crashes, and comes back without the last records of some topics.
    LoseTail,
    /// A person empties an output topic, or all of them.
    EmptyOutputs,
    /// A person empties the control topic.
    EmptyControl,
    /// A person starts the relay, and sets from when on events are to be fetched.
    Person,
    /// A process of a node begins.
    NodeStarts(usize),
    /// The process of that number of a node gets something of the group as it was then.
    Node(usize, u64, u64, Told),
    /// The group misses a process of a node.
    Missed(usize, u64),
    /// A relay outside the cluster, which has taken its name, leaves.
    OutsiderLeaves(usize),
    /// A copy of `init_transactions` comes late.
    LateInit(Rc<str>),
    /// A webhook at a door.
    Post(Door, Post),
    /// The inbox forgets what is old.
    DeleteWebhooks,
    /// The group of a cluster moves the shard, or settles.
    Move,
    Settle,
    /// All faults end.
    Mend,
    /// A relay does something; void once it is dead.
    Relay(usize, Step),
}

/// How a relay leaves by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 1: the supervisor starts it again.
    Failed,
    /// 75: another one took over, and nobody starts this one.
    Fenced,
    /// 78: a person has to do something.
    Settings,
}

/// What a relay does.
#[derive(Debug)]
pub enum Step {
    Line(Line),
    /// The loop turns.
    Turn,
    /// The loop turns because it is time.
    Wake(u64),
    Dial(u64),
    Frame(u64, Frame),
    Ended(u64, End),
    HoldOver(u64),
    Hint(u64),
    /// Something that waits for room looks again.
    Look,
    WalkTimer(u64),
    PageAsked(u64, Option<String>, usize),
    PageCame(u64, Result<Bytes, RestError>),
    WalkNoted(u64, i64),
    WebhookCame(usize, u32),
    WebhookTimeout(u64),
    /// Reads from the inbox.
    InboxRead,
    /// Looks where the inbox ends.
    InboxEnds,
}

/// The whole world.
#[derive(Debug)]
pub struct World {
    pub scenario: Scenario,
    pub rng: Rng,
    pub now: i64,
    pub provider: Provider,
    pub kafka: Kafka,
    pub relays: Vec<Relay>,
    /// The nodes of a cluster; the one to which the group has given the shard, in which process; and how often the group
    /// has begun again.
    pub nodes: Vec<Node>,
    pub owner: Option<(usize, u64)>,
    pub generation: u64,
    /// Moments at which a node was frozen.
    pub moments: u32,
    pub inbox: Inbox,
    pub oracle: Oracle,
    pub counter: u64,
    pub steps: u64,
    /// Faults occur.
    pub active: bool,
    agenda: BTreeMap<(i64, u64), Do>,
}

/// Where a wall clock is set to, ahead of the provider's: less than half the window apart, so that what is promised of
/// the window holds, and more than what an event may be ahead.
const STEPS_MS: [i64; 3] = [-420_000, 0, 420_000];

/// A hundred times what a seed takes; beyond it something goes round in circles.
const STEPS_MAX: u64 = 200_000;

/// What a seed that holds what it promises has seen.
#[derive(Clone, Copy, Debug)]
pub struct Ran {
    pub steps: u64,
    /// Moments at which a node was frozen.
    pub moments: u32,
}

/// Runs one seed, printing each step if `trace`; the error is what is wrong.
pub fn run(seed: u64, bug: Option<Bug>, trace: bool) -> Result<Ran, String> {
    let mut rng = Rng::new(seed);
    // From a source of its own, so that what a seed meant before there were clusters it still means.
    let scenario = Scenario::draw(&mut rng, bug).clustered(&mut Rng::new(!seed));
    let mut world = World {
        scenario,
        rng,
        now: START_MS,
        provider: Provider::new(),
        kafka: Kafka::new(),
        relays: Vec::new(),
        nodes: Vec::new(),
        owner: None,
        generation: 0,
        moments: 0,
        inbox: Inbox::default(),
        oracle: Oracle::default(),
        counter: 0,
        steps: 0,
        active: true,
        agenda: BTreeMap::new(),
    };
    world.plan();
    let end = world.scenario.active_until() + QUIET_MS;
    while let Some(((at, _), what)) = world.agenda.pop_first() {
        if at > end {
            break;
        }
        world.now = world.now.max(at);
        world.steps += 1;
        if trace {
            println!("{:>9} {what:?}", world.now - START_MS);
        }
        if world.steps > STEPS_MAX {
            return Err(format!("it does not come to rest: {what:?} [{:?}]", world.scenario));
        }
        world.happen(what);
        if let Some(failure) = &world.oracle.failure {
            return Err(format!("{failure} [at {} s, {:?}]", (world.now - START_MS) / 1000, world.scenario));
        }
    }
    world.judge_end().map_err(|failure| format!("{failure} [at the end, {:?}]", world.scenario))?;
    Ok(Ran { steps: world.steps, moments: world.moments })
}

impl World {
    /// Where a wall clock is set to.
    pub fn stepped_clock(&mut self) -> i64 {
        STEPS_MS[self.rng.range(0, STEPS_MS.len() as i64 - 1) as usize]
    }

    pub fn at(&mut self, at: i64, what: Do) {
        self.counter += 1;
        self.agenda.insert((at, self.counter), what);
    }

    pub fn after(&mut self, delay: i64, what: Do) {
        self.at(self.now + delay, what);
    }

    pub fn step(&mut self, relay: usize, delay: i64, step: Step) {
        self.after(delay, Do::Relay(relay, step));
    }

    /// Draws when the provider and the faults act.
    fn plan(&mut self) {
        let scenario = self.scenario.clone();
        let until = scenario.active_until();
        // A time that is spread over the active part: the absence is no time in which faults are interesting.
        let moment = |rng: &mut Rng| {
            let offset = rng.range(0, ACTIVE_MS);
            match scenario.long_time() {
                Some((at, length)) if offset > at => START_MS + offset + length,
                _ => START_MS + offset,
            }
        };
        let draw = |world: &mut Self, what: Do| {
            let at = moment(&mut world.rng);
            world.at(at, what);
        };
        for _ in 0..scenario.events {
            let at = match scenario.long_time() {
                Some((from, length)) if self.rng.chance(200) => START_MS + from + self.rng.range(0, length),
                _ => moment(&mut self.rng),
            };
            self.at(at, Do::Emit);
        }
        (0..scenario.crashes).for_each(|_| draw(self, Do::Crash));
        if self.rng.chance(300) {
            draw(self, Do::Stop);
        }
        (0..scenario.takeovers).for_each(|_| draw(self, Do::Takeover));
        let moves = scenario.cluster.as_ref().map_or(0, |cluster| cluster.moves);
        (0..moves).for_each(|_| draw(self, Do::Move));
        (0..scenario.freezes).for_each(|_| draw(self, Do::Freeze));
        (0..scenario.steps).for_each(|_| draw(self, Do::ClockStep));
        (0..scenario.suspends).for_each(|_| draw(self, Do::Suspend));
        (0..scenario.broker_faults).for_each(|_| draw(self, Do::Broker(false)));
        (0..scenario.rest_faults).for_each(|_| draw(self, Do::Rest(false)));
        (0..scenario.foreign).for_each(|_| draw(self, Do::Foreign(None)));
        (0..scenario.lost_tails).for_each(|_| draw(self, Do::LoseTail));
        (0..scenario.emptied_outputs).for_each(|_| draw(self, Do::EmptyOutputs));
        (0..scenario.emptied_controls).for_each(|_| draw(self, Do::EmptyControl));
        (0..scenario.cuts).for_each(|number| draw(self, if number % 3 == 2 { Do::Silence } else { Do::Cut }));
        if let Some((from, length)) = scenario.absence {
            self.at(START_MS + from, Do::Crash);
            self.at(START_MS + from + length, Do::Boot);
        }
        self.at(START_MS, Do::Boot);
        self.at(until, Do::Mend);
        self.after(5000, Do::Expire(TRANSACTION_TIMEOUT_MS));
        if self.scenario.cleaned_after_ms.is_some() {
            self.after(CLEAN_EVERY_MS, Do::Clean);
        }
        if self.scenario.inbox.as_ref().is_some_and(|inbox| inbox.retention_ms.is_some()) {
            self.after(DELETED_EVERY_MS, Do::DeleteWebhooks);
        }
    }

    pub fn is_absent(&self) -> bool {
        let Some((from, length)) = self.scenario.absence else { return false };
        (START_MS + from..START_MS + from + length).contains(&self.now)
    }

    fn happen(&mut self, what: Do) {
        match what {
            Do::Emit => self.emit(),
            Do::Webhook(event, attempt) => self.send_webhook(event, attempt),
            Do::Markers(transaction) if !self.kafka.up => self.after(200, Do::Markers(transaction)),
            Do::Markers(transaction) => {
                let transaction = &mut self.kafka.transactions[transaction];
                if transaction.state == State::Decided {
                    transaction.state = State::Committed;
                }
            }
            Do::Boot | Do::Takeover | Do::Crash | Do::Stop | Do::Freeze | Do::ClockStep | Do::Suspend
                if self.is_cluster() =>
            {
                self.strike(what);
            }
            Do::Boot if self.relays.last().is_some_and(|relay| relay.alive && relay.stopping) => {
                self.after(1000, Do::Boot);
            }
            // An older one may still run, frozen: it will be fenced and is nobody to rely on.
            Do::Boot if self.is_absent() || self.relays.last().is_some_and(|relay| relay.alive) => {}
            Do::Boot | Do::Takeover if self.is_absent() => {}
            Do::Boot | Do::Takeover => self.boot(None),
            Do::Crash => {
                if let Some(relay) = self.living() {
                    self.kill(relay);
                    let delay = self.rng.range(100, 40_000);
                    self.after(delay, Do::Boot);
                }
            }
            Do::Stop => {
                if let Some(relay) = self.living() {
                    self.drain(relay);
                    let delay = self.rng.range(5_000, 30_000);
                    self.after(delay, Do::Boot);
                }
            }
            Do::Freeze => {
                // One that is frozen already thaws when it was to: what it does must stay in order.
                if let Some(relay) = self.living().filter(|&relay| self.relays[relay].frozen_until < self.now) {
                    self.relays[relay].frozen_until = self.now + self.rng.range(1000, 80_000);
                }
            }
            Do::ClockStep => {
                let offset_ms = self.stepped_clock();
                // Where the marks may be gone, a start knows no other clock than its own.
                let spared = |relay: &Relay| self.scenario.emptied_controls > 0 && relay.pipeline.is_none();
                if let Some(relay) = self.living().filter(|&relay| !spared(&self.relays[relay])) {
                    self.relays[relay].offset_ms = offset_ms;
                }
            }
            Do::Suspend => {
                if let Some(relay) = self.living().filter(|&relay| self.relays[relay].frozen_until < self.now) {
                    self.suspend(relay);
                }
            }
            Do::Broker(up) => {
                self.kafka.up = up;
                if !up {
                    let delay = self.rng.range(100, 20_000);
                    self.after(delay, Do::Broker(true));
                }
            }
            Do::Rest(up) => {
                self.provider.rest_up = up;
                if !up {
                    let delay = self.rng.range(1000, 90_000);
                    self.after(delay, Do::Rest(true));
                }
            }
            Do::Cut => self.cut(false),
            Do::Silence => self.cut(true),
            Do::Foreign(None) => {
                let number = self.kafka.begin(self.now, None);
                self.append_foreign(number);
                let delay = self.rng.range(100, 30_000);
                self.after(delay, Do::Foreign(Some(number)));
            }
            Do::Foreign(Some(number)) => self.kafka.transactions[number].state = State::Aborted,
            Do::Expire(every) => {
                if self.kafka.up {
                    self.kafka.time_out(self.now, every);
                }
                if !self.is_absent() || self.rng.chance(50) {
                    self.after(5000, Do::Expire(every));
                } else {
                    self.after(60_000, Do::Expire(every));
                }
            }
            Do::Clean => {
                let lag_ms = self.scenario.cleaned_after_ms.unwrap_or(i64::MAX);
                self.kafka.clean(self.now.saturating_sub(lag_ms));
                self.after(if self.is_absent() { 600_000 } else { CLEAN_EVERY_MS }, Do::Clean);
            }
            Do::LateEnd(number) if !self.kafka.up => self.after(200, Do::LateEnd(number)),
            Do::LateEnd(number) => self.late_end(number),
            Do::LoseTail => self.lose_tail(),
            Do::EmptyOutputs => self.empty_outputs(),
            Do::EmptyControl => self.empty_control(),
            Do::Person if self.is_absent() => self.after(60_000, Do::Person),
            Do::Person if self.living().is_some() => {}
            Do::Person => {
                self.oracle.forgive_all();
                match self.is_cluster() {
                    true => self.nodes_from(HISTORY_MS),
                    false => self.boot(Some(HISTORY_MS)),
                }
            }
            Do::Mend => {
                self.active = false;
                self.kafka.up = true;
                self.provider.rest_up = true;
                if self.is_cluster() {
                    (0..self.nodes.len()).for_each(|node| self.after(1, Do::NodeStarts(node)));
                    self.after(2000, Do::Settle);
                } else {
                    self.after(1, Do::Boot);
                }
            }
            Do::Move => self.move_shard(),
            Do::Settle => self.settle_group(),
            Do::NodeStarts(node) => self.node_starts(node),
            Do::Node(node, process, generation, told) => self.node_told(node, process, generation, told),
            Do::Missed(node, process) => self.node_missed(node, process),
            Do::OutsiderLeaves(relay) => self.outsider_leaves(relay),
            Do::LateInit(_) if !self.kafka.up => {}
            Do::LateInit(id) => drop(self.kafka.init(&id)),
            Do::Post(door, post) => self.post(door, post),
            Do::DeleteWebhooks => self.delete_old_webhooks(),
            Do::Relay(relay, step) => {
                let frozen_until = self.relays[relay].frozen_until;
                if !self.relays[relay].alive {
                } else if frozen_until > self.now {
                    self.at(frozen_until, Do::Relay(relay, step));
                } else {
                    self.relay_step(relay, step);
                }
            }
        }
    }

    /// A relay leaves by itself.
    pub fn exit(&mut self, relay: usize, exit: Exit) {
        self.kill(relay);
        if self.is_cluster() {
            return self.leaves_process(relay, exit);
        }
        let delay = self.rng.range(1000, 20_000);
        match exit {
            Exit::Failed => self.after(delay, Do::Boot),
            Exit::Fenced => {}
            Exit::Settings => self.after(delay, Do::Person),
        }
    }

    /// The youngest relay that runs.
    pub fn living(&self) -> Option<usize> {
        (0..self.relays.len()).rev().find(|&relay| self.relays[relay].alive)
    }

    pub fn kill(&mut self, relay: usize) {
        self.relays[relay].alive = false;
        self.provider.connections.retain(|_, connection| connection.relay != relay);
        // A caller that waits for an answer gets none, and asks again.
        for Answer { event, attempt, .. } in std::mem::take(&mut self.relays[relay].answers) {
            self.retry_webhook(event, attempt);
        }
    }
}

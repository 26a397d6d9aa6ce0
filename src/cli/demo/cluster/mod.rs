//! `demo --nodes`: a cluster whose nodes are processes, of which one is killed while orders go on.
//!
//! Each shard has an account. The node that serves shard 0 is killed between two transactions, since the embedded Kafka cannot
//! abort one that is half way; from then on nothing is waited for. Its webhooks are taken by the others, and its shard by one of
//! them, once Kafka's group has missed it. At the end the books of each account are balanced against its provider.

mod account;
mod balancer;
mod ledger;
mod node;
mod watch;

pub(super) use node::serve;

use super::books::sentence;
use super::{FOLLOWED, PACE, SETTLES_WITHIN, ready, tell, told};
use crate::cli::interrupted;
use crate::cli::line::{LineInput, render};
use crate::cli::output::{Output, align_right, paint, table};
use crate::exit::Exit;
use crate::kafka::consume::{Consumed, Follow, StartAt};
use crate::kafka::embedded::Embedded;
use crate::labels::Topic;
use account::{ACCOUNTS, Account};
use balancer::Balancer;
use futures::future::try_join_all;
use ledger::{EventId, Ledger};
use node::{Node, Part, Said};
use owo_colors::Style;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};
use watch::Watch;

/// The nodes, in the order of their start.
const NODES: [&str; 3] = ["node-a", "node-b", "node-c"];

/// The shard whose owner is killed. Of three nodes, each with a shard, the others keep theirs when that one is divided again;
/// a shard that living nodes hand over needs the fencing that the embedded Kafka does not have.
const SHARD: usize = 0;

/// Steps before the kill and after the takeover.
const STEPS: [usize; 2] = [9, 6];

/// Steps that the takeover may take: half a minute.
const STEPS_MOST: usize = 62;

/// The group's first division takes 3 s, a second one that is needed 6 s more.
const SHARED_WITHIN: Duration = Duration::from_secs(30);

/// Lines of nodes that wait for the reader, who reads all the time.
const AHEAD: usize = 256;

/// Runs the demo with this many nodes; status 1 when an event is missing or is in Kafka twice, or nobody takes over.
pub(super) async fn run(nodes: usize, keep: bool, output: Output) -> Result<(), Exit> {
    let mut stage = Stage::build(nodes, output).await?;
    stage.play().await?;
    if keep {
        stage.keep().await?;
    }
    stage.end().await
}

/// All that runs, and all that was seen.
struct Stage {
    output: Output,
    accounts: Vec<Account>,
    kafka: Embedded,
    nodes: Vec<Node>,
    _balancer: Balancer,
    /// Orders, invoices, dead letters, and the control topic behind them.
    topics: Vec<Follow>,
    said: mpsc::Receiver<Said>,
    ledger: Ledger,
    watch: Watch,
    /// The nodes were asked to leave.
    leaving: bool,
    steps: usize,
}

enum Shown {
    Said(Option<Said>),
    Record(Consumed),
    Control(Consumed),
}

impl Stage {
    /// Starts all parts, a line each.
    async fn build(count: usize, output: Output) -> Result<Self, Exit> {
        let began = Instant::now();
        let title = format!(
            "A simulated Pepay, a Kafka, and {} nodes of a cluster, each a process of its own.",
            if count == 2 { "two" } else { "three" }
        );
        output.line(paint(&title, Style::new().dimmed(), output.colour()))?;
        output.line("")?;
        let accounts = Account::open(count).await?;
        let simulator = &accounts.first().ok_or_else(|| Exit::failed("no account"))?.simulator;
        ready(output, "provider", &format!("{}  devnet, simulated", simulator.api_url()))?;
        let mut part = Part {
            api_url: simulator.api_url(),
            websocket_url: simulator.websocket_url(),
            bootstrap_servers: String::new(),
            node: String::new(),
            shards: i32::try_from(count).unwrap_or_default(),
            accounts: accounts.iter().map(Account::merchant).collect(),
        };
        let kafka = Embedded::start(&part.config()).await?;
        kafka.bootstrap_servers().clone_into(&mut part.bootstrap_servers);
        ready(output, "Kafka", &format!("{}  librdkafka's mock cluster", kafka.bootstrap_servers()))?;
        let (config, secrets) = (part.config(), part.secrets());
        let mut topics = Vec::new();
        for topic in FOLLOWED.into_iter().chain([Topic::Control]) {
            let name = config.kafka.topics.name(topic).unwrap_or_default();
            topics.push(Follow::start(&config, &secrets, name, StartAt::Beginning).await?);
        }
        let (sender, said) = mpsc::channel(AHEAD);
        // At once, so that the group divides the shards once.
        let nodes = NODES.into_iter().enumerate().take(count).map(|(place, name)| {
            let part = Part { node: name.to_owned(), ..part.clone() };
            let sender = sender.clone();
            async move { Node::start(&part, place, sender).await }
        });
        let nodes = try_join_all(nodes).await?;
        let balancer = Balancer::start(nodes.iter().map(|node| node.addresses.webhook).collect()).await?;
        let url = format!("http://{}{}", balancer.address(), config.webhook.path);
        ready(output, "balancer", &format!("{url}  in front of the nodes"))?;
        for account in &accounts {
            let url = format!("http://{}{}", balancer.address(), config.webhook.path_of(account.name));
            let added = account.simulator.add_webhook_endpoint(&url);
            added.ok_or_else(|| Exit::failed("the provider takes no endpoint"))?;
        }
        let mut stage = Self {
            output,
            accounts,
            kafka,
            nodes,
            _balancer: balancer,
            topics,
            said,
            ledger: Ledger::default(),
            watch: Watch::new(&NODES, count),
            leaving: false,
            steps: 0,
        };
        if !stage.until(SHARED_WITHIN, |stage| stage.watch.is_shared()).await? {
            return Err(Exit::failed("the nodes do not share the shards"));
        }
        for (account, seat) in stage.accounts.iter().zip(stage.watch.seats()) {
            let connected = timeout(SETTLES_WITHIN, account.simulator.wait_for_connections(1)).await;
            connected.map_err(|_| Exit::failed(format!("no node opens the WebSocket of {}", account.name)))?;
            let Some(node) = seat.owner.and_then(|owner| stage.nodes.get(owner)) else { continue };
            let what = format!("process {}, serves shard {} with {}", node.pid, account.shard, account.name);
            ready(output, &node.name, &what)?;
        }
        output.line(format!("  ready after {} ms\n", began.elapsed().as_millis()))?;
        stage.watch.tell(true);
        Ok(stage)
    }

    /// Orders go on, the owner of a shard is killed, another node takes over, and everything arrives.
    async fn play(&mut self) -> Result<(), Exit> {
        let [before, after] = STEPS;
        self.sell(before, |_| false).await?;
        if !self.until(SETTLES_WITHIN, Self::is_settled).await? {
            return Err(Exit::failed("not everything arrives, although no node was killed"));
        }
        let answered = self.answered();
        self.kill().await?;
        self.sell(STEPS_MOST, Self::is_served).await?;
        if !self.is_served() {
            return Err(Exit::failed(format!("nobody took shard {SHARD} over")));
        }
        let waiting = self.answered().saturating_sub(answered);
        self.tell(&format!(
            "{waiting} webhooks of {} were answered meanwhile, and waited in the inbox",
            ACCOUNTS[SHARD]
        ))?;
        self.sell(after, |_| false).await?;
        // Where that is not enough, the books show what is missing.
        self.until(SETTLES_WITHIN, Self::is_settled).await.map(drop)
    }

    /// Takes a step of each account in turn, `steps` in all or until it is enough.
    async fn sell(&mut self, steps: usize, enough: fn(&Self) -> bool) -> Result<(), Exit> {
        let mut pace = interval(2 * PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let last = self.steps.saturating_add(steps);
        while self.steps < last && !enough(self) {
            tokio::select! {
                biased;
                shown = self.shown() => self.show(shown?)?,
                _ = pace.tick() => self.step(),
            }
        }
        Ok(())
    }

    fn step(&mut self) {
        let place = self.steps % self.accounts.len();
        self.steps += 1;
        if let Some(account) = self.accounts.get_mut(place) {
            account.step();
        }
    }

    /// Shows what comes until it is enough; whether it was in time.
    async fn until(&mut self, within: Duration, enough: fn(&Self) -> bool) -> Result<bool, Exit> {
        let deadline = Instant::now() + within;
        while !enough(self) {
            let Ok(shown) = timeout_at(deadline, self.shown()).await else { return Ok(false) };
            self.show(shown?)?;
        }
        Ok(true)
    }

    fn issued(&self) -> Vec<EventId> {
        self.accounts.iter().flat_map(Account::issued).collect()
    }

    fn is_settled(&self) -> bool {
        self.watch.is_whole() && self.ledger.is_settled(&self.issued())
    }

    fn is_served(&self) -> bool {
        self.watch.seats().get(SHARD).is_some_and(|seat| seat.again.is_some())
    }

    /// Kills the owner of a shard.
    async fn kill(&mut self) -> Result<(), Exit> {
        let nobody = || Exit::failed(format!("nobody serves shard {SHARD}"));
        let owner = self.watch.seats().get(SHARD).and_then(|seat| seat.owner).ok_or_else(nobody)?;
        let node = self.nodes.get_mut(owner).ok_or_else(nobody)?;
        let at = node.kill().await?;
        self.watch.killed(owner, at);
        let story = format!("{} is killed (SIGKILL): nobody serves shard {SHARD} with {}", node.name, ACCOUNTS[SHARD]);
        self.tell(&story)
    }

    /// Webhooks of the shard's account that were answered.
    fn answered(&self) -> u64 {
        self.accounts.get(SHARD).map_or(0, Account::answered)
    }

    /// Stays up, with a step now and then, until Ctrl-C.
    async fn keep(&mut self) -> Result<(), Exit> {
        let account = &self.accounts[0];
        let mut shown = vec![
            ("provider", account.simulator.api_url()),
            ("stream", account.simulator.websocket_url()),
            ("Kafka", self.kafka.bootstrap_servers().to_owned()),
        ];
        let keys = self.accounts.iter().map(|account| ("API key", account.simulator.api_key().to_owned()));
        shown.extend(keys);
        let living = self.nodes.iter().enumerate().filter(|(place, _)| !self.watch.is_killed(*place));
        shown.extend(living.map(|(_, node)| (node.name.as_str(), format!("http://{}/", node.addresses.admin))));
        for (name, value) in shown {
            self.output.line(format!("  {name:15} {value}"))?;
        }
        self.output.line("  Ctrl-C ends it.\n")?;
        let mut pace = interval(4 * PACE);
        loop {
            tokio::select! {
                biased;
                stopped = interrupted() => return stopped,
                shown = self.shown() => self.show(shown?)?,
                _ = pace.tick() => self.step(),
            }
        }
    }

    /// Has the nodes leave, and balances the books.
    async fn end(mut self) -> Result<(), Exit> {
        for account in &self.accounts {
            let _ = timeout(SETTLES_WITHIN, account.simulator.wait_for_webhooks()).await;
        }
        let seats = self.watch.seats().to_vec();
        self.leaving = true;
        self.watch.tell(false);
        let living: Vec<usize> = (0..self.nodes.len()).filter(|place| !self.watch.is_killed(*place)).collect();
        living.iter().for_each(|place| self.nodes[*place].leave());
        // What was published comes before the last checkpoint of its shard.
        let closed = self.until(SETTLES_WITHIN, |stage| stage.ledger.is_closed(stage.accounts.len())).await?;
        for place in living {
            self.nodes[place].left().await?;
        }
        let name = |place: Option<usize>| place.and_then(|place| NODES.get(place)).map_or("–", |name| *name).to_owned();
        let mut rows = table(["shard", "account", "owner", "owner at the end", "served again", "issued", "in Kafka"]);
        let (mut issued, mut missing, mut repeated, mut balanced) = (0, 0, 0, closed);
        for (account, seat) in self.accounts.iter().zip(&seats) {
            let books = self.ledger.books(account.name, &account.issued());
            issued += books.issued;
            missing += books.missing;
            repeated += books.repeated;
            balanced &= books.balanced;
            rows.add_row([
                account.shard.to_string(),
                account.name.to_owned(),
                name(seat.before),
                name(seat.owner),
                seat.again.map_or_else(|| "–".to_owned(), |after| format!("after {} ms", after.as_millis())),
                books.issued.to_string(),
                (books.issued - books.missing).to_string(),
            ]);
        }
        align_right(&mut rows, &[0, 4, 5, 6]);
        self.output.line("")?;
        self.output.table(&rows)?;
        let note = "librdkafka's mock cluster divides shards 5 s later than Kafka does.";
        self.output.line(format!("\n{}", paint(note, Style::new().dimmed(), self.output.colour())))?;
        for account in self.accounts {
            account.simulator.stop().await;
        }
        told(&sentence(issued, missing, repeated, balanced), self.output)
    }

    /// The next thing to show.
    async fn shown(&mut self) -> Result<Shown, Exit> {
        let [orders, invoices, dead_letters, control] = &mut self.topics[..] else {
            return Err(Exit::failed("a topic is not followed"));
        };
        let (record, is_control) = tokio::select! {
            biased;
            said = self.said.recv() => return Ok(Shown::Said(said)),
            record = orders.next() => (record, false),
            record = invoices.next() => (record, false),
            record = dead_letters.next() => (record, false),
            record = control.next() => (record, true),
        };
        let record = record.ok_or_else(|| Exit::failed("Kafka gives no more records"))??;
        Ok(if is_control { Shown::Control(record) } else { Shown::Record(record) })
    }

    fn show(&mut self, shown: Shown) -> Result<(), Exit> {
        match shown {
            Shown::Control(record) => self.ledger.note_control(&record),
            Shown::Record(record) => {
                let account = self.ledger.note(&record);
                let at_ms = record.published_at_ms;
                let input = LineInput::read(at_ms, record.key.as_deref(), &record.headers, record.value.as_deref());
                let line = render(&input, self.output.colour());
                self.output.line(format!("{account:5}  {line}"))?;
            }
            Shown::Said(Some(Said::Line { node, line, at })) => {
                if let Some(story) = self.watch.hear(node, &line, at) {
                    self.tell(&story)?;
                }
            }
            Shown::Said(Some(Said::Ended { node, words })) if !self.leaving && !self.watch.is_killed(node) => {
                return Err(Exit::failed(format!("{} ended by itself: {words}", NODES[node])));
            }
            Shown::Said(_) => {}
        }
        Ok(())
    }

    fn tell(&self, story: &str) -> Result<(), Exit> {
        Ok(tell(story, self.output)?)
    }
}

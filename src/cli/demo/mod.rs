//! `demo`: a simulated provider, a Kafka inside the process and the relay, in one live log.
//!
//! Orders walk through their life while both legs deliver. In the middle the provider's stream goes away and its
//! webhooks fall silent; what happens meanwhile only the event log knows, and the gap closes when a walk has confirmed
//! it. At the end the books are balanced against everything that the provider ever issued. No network, no settings.
//! [`cluster`] is the same with several nodes, of which one is killed.

mod books;
mod cluster;
mod script;
mod story;

use super::line::{LineInput, render};
use super::output::{Output, paint};
use crate::config::{AccountSecrets, Config, Secrets};
use crate::daemon::{Daemon, Setup};
use crate::exit::Exit;
use crate::kafka::Broker;
use crate::kafka::client::Tuning;
use crate::kafka::consume::{Consumed, Follow, StartAt};
use crate::kafka::embedded::Embedded;
use crate::labels::Topic;
use crate::provider::Environment;
use crate::simulator::{Options, Simulator};
use crate::telemetry::Phase;
use books::Ledger;
use clap::Args;
use owo_colors::Style;
use script::Script;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use story::Stories;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// Arguments of `demo`.
#[derive(Args, Debug)]
pub struct Demo {
    /// Nodes of the relay, 1 to 3; of several one is killed, and another takes over
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=3))]
    pub nodes: u8,
    /// Keep running and print the addresses, until Ctrl-C
    #[arg(long)]
    pub keep: bool,
    /// Be a node of another demo, which writes to stdin what a node has to know
    #[arg(long, hide = true)]
    pub as_node: bool,
}

/// Everything settles in a second or two; if it takes this long, the demo prints what is missing and fails.
const SETTLES_WITHIN: Duration = Duration::from_secs(12);

/// Between two steps of the script: slow enough to read along, fast enough for a patience of 20 seconds.
const PACE: Duration = Duration::from_millis(240);

/// The topics that are followed, dead letters among them.
const FOLLOWED: [Topic; 3] = [Topic::Orders, Topic::Invoices, Topic::DeadLetter];

/// Runs the demo; status 1 when an event is missing or is in Kafka twice.
pub(super) async fn run(arguments: &Demo, output: Output) -> Result<(), Exit> {
    if arguments.as_node {
        return cluster::serve(output).await;
    }
    if arguments.nodes > 1 {
        return cluster::run(usize::from(arguments.nodes), arguments.keep, output).await;
    }
    let stories = Stories::listen()?;
    let mut stage = Stage::build(output, stories).await?;
    stage.play().await?;
    if arguments.keep {
        stage.keep().await?;
    }
    stage.end().await
}

/// All that runs, and all that was seen.
struct Stage {
    output: Output,
    stories: Stories,
    simulator: Simulator,
    kafka: Embedded,
    daemon: Daemon,
    records: Vec<Follow>,
    ledger: Ledger,
}

impl Stage {
    /// Starts the three parts, a line each.
    async fn build(output: Output, stories: Stories) -> Result<Self, Exit> {
        let began = Instant::now();
        let dim = Style::new().dimmed();
        output.line(paint("A simulated Pepay, a Kafka and the relay, in this one process.", dim, output.colour()))?;
        output.line("")?;
        let simulator = Simulator::start(Options::default())
            .await
            .map_err(|error| Exit::failed(format!("the simulated provider does not start: {error}")))?;
        ready(output, "provider", &format!("{}  devnet, simulated", simulator.api_url()))?;
        let mut config = config(simulator.api_url(), simulator.websocket_url());
        let kafka = Embedded::start(&config).await?;
        kafka.bootstrap_servers().clone_into(&mut config.kafka.bootstrap_servers);
        ready(output, "Kafka", &format!("{}  librdkafka's mock cluster", kafka.bootstrap_servers()))?;
        let secrets = Secrets {
            accounts: vec![AccountSecrets::sole(simulator.api_key(), vec![simulator.webhook_secret().into()])],
            kafka_password: None,
            kafka_certificate: None,
            kafka_oauth_secret: None,
            proxies: Default::default(),
        };
        let mut records = Vec::new();
        for topic in FOLLOWED {
            let name = config.kafka.topics.name(topic).unwrap_or_default();
            records.push(Follow::start(&config, &secrets, name, StartAt::Beginning).await?);
        }
        let setup = Setup {
            config: config.clone(),
            secrets,
            broker: Broker::Embedded,
            tuning: Tuning::default(),
            from_ms: None,
        };
        let daemon = Daemon::start(setup).await?;
        let mut health = daemon.health.subscribe();
        let waited = timeout(SETTLES_WITHIN, health.wait_for(|state| state.phase == Phase::Ready)).await;
        if !matches!(waited, Ok(Ok(_))) {
            return Err(Exit::failed("the relay does not become ready; see what it says with --log-level debug"));
        }
        let webhook = daemon.webhook.map(|address| format!("http://{address}{}", config.webhook.path));
        let webhook = webhook.unwrap_or_default();
        simulator.add_webhook_endpoint(&webhook).ok_or_else(|| Exit::failed("the provider takes no endpoint"))?;
        ready(output, "relay", &format!("{webhook}  ready after {} ms", began.elapsed().as_millis()))?;
        simulator.wait_for_connections(1).await;
        output.line("")?;
        Ok(Self { output, stories, simulator, kafka, daemon, records, ledger: Ledger::default() })
    }

    /// The script from beginning to end, then until every event is where it belongs and every gap is closed.
    async fn play(&mut self) -> Result<(), Exit> {
        let mut script = Script::default();
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                shown = self.shown() => self.show(shown)?,
                _ = pace.tick() => match script.step(&self.simulator) {
                    Some(story) => self.tell(story)?,
                    None => break,
                }
            }
        }
        let deadline = Instant::now() + SETTLES_WITHIN;
        while !(self.ledger.is_complete(&self.simulator) && self.stories.gaps_open() == 0) {
            let Ok(shown) = tokio::time::timeout_at(deadline, self.shown()).await else { return Ok(()) };
            self.show(shown)?;
        }
        Ok(())
    }

    /// Stays up, with a new order now and then, until Ctrl-C.
    async fn keep(&mut self) -> Result<(), Exit> {
        let secret = self.simulator.webhook_secret().to_owned();
        for (name, value) in [
            ("provider", self.simulator.api_url()),
            ("stream", self.simulator.websocket_url()),
            ("API key", self.simulator.api_key().to_owned()),
            ("webhook secret", secret),
            ("Kafka", self.kafka.bootstrap_servers().to_owned()),
            ("page", format!("http://{}/", self.daemon.admin)),
            ("metrics", format!("http://{}/metrics", self.daemon.admin)),
        ] {
            self.output.line(format!("  {name:15} {value}"))?;
        }
        self.output.line("  Ctrl-C ends it.\n")?;
        let mut script = Script::endless();
        let mut pace = interval(4 * PACE);
        loop {
            tokio::select! {
                biased;
                stopped = super::interrupted() => return stopped,
                shown = self.shown() => self.show(shown)?,
                _ = pace.tick() => drop(script.step(&self.simulator)),
            }
        }
    }

    /// Drains the relay and balances the books.
    async fn end(mut self) -> Result<(), Exit> {
        // A webhook that is on its way still counts: the drain answers it.
        let _ = timeout(SETTLES_WITHIN, self.simulator.wait_for_webhooks()).await;
        self.daemon.stop();
        self.daemon.ended().await?;
        self.output.line("")?;
        let balance = self.ledger.balance(&self.simulator, &self.daemon.metrics);
        self.output.table(&balance.table())?;
        let verdict = balance.verdict();
        self.simulator.stop().await;
        told(&verdict, self.output)
    }

    /// The next thing worth a line.
    async fn shown(&mut self) -> Result<Shown, Exit> {
        let [orders, invoices, dead_letters] = &mut self.records[..] else {
            return Err(Exit::failed("a topic is not followed"));
        };
        let record = tokio::select! {
            biased;
            story = self.stories.next() => return Ok(Shown::Story(story)),
            record = orders.next() => record,
            record = invoices.next() => record,
            record = dead_letters.next() => record,
        };
        match record {
            Some(record) => Ok(Shown::Record(record?)),
            None => Err(Exit::failed("Kafka gives no more records")),
        }
    }

    fn show(&mut self, shown: Result<Shown, Exit>) -> Result<(), Exit> {
        match shown? {
            Shown::Story(story) => self.tell(story)?,
            Shown::Record(record) => {
                self.ledger.note(&record);
                let input = LineInput::read(
                    record.published_at_ms,
                    record.key.as_deref(),
                    &record.headers,
                    record.value.as_deref(),
                );
                self.output.line(render(&input, self.output.colour()))?;
            }
        }
        Ok(())
    }

    fn tell(&self, story: String) -> io::Result<()> {
        tell(&story, self.output)
    }
}

enum Shown {
    Story(String),
    Record(Consumed),
}

/// A line of the story, if there is one.
fn tell(story: &str, output: Output) -> io::Result<()> {
    if story.is_empty() {
        return Ok(());
    }
    output.line(paint(&format!("   ── {story}"), Style::new().bold(), output.colour()))
}

/// Whether the books balance, in a sentence, and as the end of the demo.
fn told(verdict: &Result<String, String>, output: Output) -> Result<(), Exit> {
    let style = if verdict.is_ok() { Style::new().green().bold() } else { Style::new().red().bold() };
    let (Ok(sentence) | Err(sentence)) = verdict;
    output.line(format!("\n{}", paint(sentence, style, output.colour())))?;
    if verdict.is_ok() { Ok(()) } else { Err(Exit::failed("the books do not balance")) }
}

fn ready(output: Output, part: &str, what: &str) -> io::Result<()> {
    let tick = super::output::Mark::Ok.mark(output.colour());
    output.line(format!("{tick} {part:9} {what}"))
}

/// The defaults with shorter times, so that what takes a minute elsewhere can be watched here.
fn config(api_url: String, websocket_url: String) -> Config {
    let mut config = Config::minimal(Environment::Devnet, "");
    config.name = "demo".to_owned();
    config.provider.api_url = api_url;
    config.provider.websocket_url = websocket_url;
    config.webhook.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.admin.listen = config.webhook.listen;
    config.websocket.backoff_min = Duration::from_millis(200);
    config.websocket.backoff_max = Duration::from_secs(1);
    config.backfill.every = Duration::from_secs(2);
    config.backfill.overlap = Duration::from_millis(1500);
    config.kafka.partitions = 3;
    config
}

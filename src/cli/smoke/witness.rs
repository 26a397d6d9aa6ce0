//! Who sees the events come out of Kafka: the relay that runs, or one made for the occasion.

use super::report::Wrong;
use crate::cli::Context;
use crate::cli::status;
use crate::config::{Config, Secrets};
use crate::daemon::{Daemon, Setup};
use crate::exit::Exit;
use crate::kafka::client::Tuning;
use crate::kafka::consume::{Consumed, Follow, StartAt};
use crate::kafka::errors::StartError;
use crate::kafka::{Broker, topics};
use crate::labels::{Leg, Outcome, Topic};
use crate::telemetry::Phase;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};
use uuid::Uuid;

/// A relay on new topics is ready in seconds; a loaded Kafka takes longer.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Far longer than any leg takes to bring an event; the walk is the slowest (`backfill.every`).
const SEEN_WITHIN: Duration = Duration::from_secs(90);

/// After the last event, how long a copy of one is looked out for: the slower of two legs is not that slow.
const COPIES_WITHIN: Duration = Duration::from_secs(3);

/// How long a relay of ours may take to leave.
const LEAVES_WITHIN: Duration = Duration::from_secs(30);

/// Sees records.
pub(super) struct Witness {
    config: Config,
    secrets: Secrets,
    /// The relay made for the occasion; `None` alongside one that runs.
    own: Option<Daemon>,
    orders: Follow,
    invoices: Option<Follow>,
    /// How often each event id was seen on a topic.
    seen: BTreeMap<(String, String), u32>,
}

impl Witness {
    /// Follows the topics of the relay that answers at `admin.listen`, or of one made with the `occasional` settings,
    /// which is then ready.
    pub(super) async fn open(settings: &Context, occasional: &Config) -> Result<Self, Exit> {
        let Context { config, secrets, .. } = settings;
        let running = match status::ask(status::reachable(config.admin.listen)).await {
            Ok(status) => status["name"] == config.name.as_str(),
            Err(_) => false,
        };
        if running {
            let (orders, invoices) = follow(config, secrets, StartAt::End).await?;
            let config = config.clone();
            let secrets = secrets.clone();
            return Ok(Self { config, secrets, own: None, orders, invoices, seen: BTreeMap::new() });
        }
        // A relay waits for its Kafka; a person who reads a checklist gets the error at once.
        topics::inspect(config, secrets).await?;
        let config = occasional.clone();
        let secrets = secrets.clone();
        match Self::start(config.clone(), secrets.clone()).await {
            Ok(witness) => Ok(witness),
            Err(exit) => {
                // What cannot be deleted either is named by the first error's topics.
                let _ = topics::delete(&config, &secrets).await;
                Err(exit)
            }
        }
    }

    async fn start(config: Config, secrets: Secrets) -> Result<Self, Exit> {
        let broker = Broker::Configured;
        let tuning = Tuning::default();
        let setup = Setup { config: config.clone(), secrets: secrets.clone(), broker, tuning, from_ms: None };
        let mut daemon = Daemon::start(setup).await?;
        let mut health = daemon.health.subscribe();
        tokio::select! {
            ready = timeout(READY_WITHIN, health.wait_for(|state| state.phase == Phase::Ready)) => {
                if !matches!(ready, Ok(Ok(_))) {
                    return Err(Exit::failed("a relay inside does not become ready; `pepay-relay check` says why"));
                }
            }
            ended = daemon.ended() => {
                return Err(ended.err().unwrap_or_else(|| Exit::failed("a relay inside has ended by itself")));
            }
        }
        let (orders, invoices) = follow(&config, &secrets, StartAt::Beginning).await?;
        Ok(Self { config, secrets, own: Some(daemon), orders, invoices, seen: BTreeMap::new() })
    }

    /// Who it is, for a row's message.
    pub(super) fn who(&self) -> &'static str {
        if self.own.is_some() { "a relay inside" } else { "the running relay" }
    }

    /// Where webhooks of the relay inside are taken; `None` alongside a running one, which only the provider's side knows.
    pub(super) fn webhook_url(&self, account: &str) -> Option<String> {
        let address = self.own.as_ref()?.webhook?;
        Some(format!("http://{address}{}", self.config.webhook.path_of(account)))
    }

    /// How many webhooks the running relay has answered without publishing them, `test.ping` among them; `None` where
    /// the provider cannot reach the relay.
    pub(super) async fn pings(&self) -> Option<u64> {
        if self.own.is_some() {
            return None;
        }
        let status = status::ask(status::reachable(self.config.admin.listen)).await.ok()?;
        status["counts"][Leg::Webhook.as_str()][Outcome::Ignored.as_str()].as_u64()
    }

    /// Waits until each of these events was seen, and a little for copies; the sentence of the row.
    pub(super) async fn saw(&mut self, wanted: &BTreeSet<String>) -> Result<String, Wrong> {
        let deadline = Instant::now() + SEEN_WITHIN;
        while !self.missing(wanted).is_empty() && self.look(deadline).await? {}
        let missing = self.missing(wanted);
        if !missing.is_empty() {
            let shown: Vec<&str> = missing.iter().copied().take(3).collect();
            let message =
                format!("{} of {} events are not in Kafka: {}, …", missing.len(), wanted.len(), shown.join(", "));
            return Err(Wrong::new(message, "see what `pepay-relay status` says of the legs and of Kafka"));
        }
        let deadline = Instant::now() + COPIES_WITHIN;
        while self.look(deadline).await? {}
        let twice = self.seen.iter().filter(|((_, id), count)| **count > 1 && wanted.contains(id));
        let twice: Vec<&str> = twice.map(|((_, id), _)| id.as_str()).take(3).collect();
        if !twice.is_empty() {
            let message = format!("seen more than once: {}", twice.join(", "));
            return Err(Wrong::new(message, "see that one relay alone writes to these topics"));
        }
        Ok(format!("{} events in Kafka, each once, by {}", wanted.len(), self.who()))
    }

    fn missing<'w>(&self, wanted: &'w BTreeSet<String>) -> Vec<&'w str> {
        let seen: BTreeSet<&str> = self.seen.keys().map(|(_, id)| id.as_str()).collect();
        wanted.iter().map(String::as_str).filter(|id| !seen.contains(id)).collect()
    }

    /// The next record; `false` at the deadline.
    async fn look(&mut self, deadline: Instant) -> Result<bool, Wrong> {
        let Self { orders, invoices, .. } = self;
        let next = async {
            tokio::select! {
                record = orders.next() => record,
                record = next_of(invoices.as_mut()) => record,
            }
        };
        let Ok(record) = timeout_at(deadline, next).await else { return Ok(false) };
        let record: Consumed = match record {
            Some(Ok(record)) => record,
            Some(Err(error)) => return Err(Exit::from(error).into()),
            None => return Ok(false),
        };
        if record.header("relay_replay").is_none()
            && let Some(id) = record.header("ce_id")
        {
            let id = String::from_utf8_lossy(id).into_owned();
            *self.seen.entry((record.topic, id)).or_default() += 1;
        }
        Ok(true)
    }

    /// Ends the relay inside and deletes its topics.
    pub(super) async fn close(self) -> Result<(), Exit> {
        let Self { config, secrets, own, orders, invoices, .. } = self;
        drop((orders, invoices));
        let Some(mut daemon) = own else { return Ok(()) };
        daemon.stop();
        let ended = timeout(LEAVES_WITHIN, daemon.ended()).await;
        topics::delete(&config, &secrets).await?;
        ended.unwrap_or_else(|_| Err(Exit::failed("the relay inside does not leave")))
    }
}

async fn next_of(follow: Option<&mut Follow>) -> Option<Result<Consumed, StartError>> {
    match follow {
        Some(follow) => follow.next().await,
        None => std::future::pending().await,
    }
}

async fn follow(config: &Config, secrets: &Secrets, from: StartAt) -> Result<(Follow, Option<Follow>), Exit> {
    let topics = &config.kafka.topics;
    let orders = Follow::start(config, secrets, &topics.orders, from).await?;
    let invoices = match topics.name(Topic::Invoices) {
        Some(name) => Some(Follow::start(config, secrets, name, from).await?),
        None => None,
    };
    Ok((orders, invoices))
}

/// The settings of a relay that disturbs nobody: its own name, topics and ports.
pub(super) fn occasional(config: &Config) -> Config {
    let id = Uuid::new_v4();
    let mut own = config.clone();
    own.name = format!("{}.smoke.{id}", config.name);
    // Its topics are gone in a minute: no registry is to keep subjects of them.
    own.kafka.schema_registry_url = None;
    let topics = &mut own.kafka.topics;
    for name in [
        &mut topics.orders,
        &mut topics.orders_latest,
        &mut topics.invoices,
        &mut topics.dead_letter,
        &mut topics.control,
    ] {
        // One that is turned off stays so.
        if !name.is_empty() {
            *name = format!("{name}.smoke-{id}");
        }
    }
    own.kafka.create_topics = true;
    let loopback = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    own.webhook.listen = loopback;
    own.admin.listen = loopback;
    own.webhook.tls_cert_file = None;
    own.webhook.tls_key_file = None;
    own.backfill.first_start = Duration::ZERO;
    own
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Environment;

    #[test]
    fn a_relay_for_the_occasion_shares_nothing_with_the_running_one() {
        let mut config = Config::minimal(Environment::Devnet, "localhost:9092");
        config.kafka.topics.orders_latest = String::new();
        let own = occasional(&config);
        assert!(own.name.starts_with("pepay-relay.smoke."));
        let id = own.name.trim_start_matches("pepay-relay.smoke.");
        for topic in Topic::ALL {
            let wanted = config.kafka.topics.name(topic).map(|name| format!("{name}.smoke-{id}"));
            assert_eq!(own.kafka.topics.name(topic), wanted.as_deref());
        }
        assert_eq!((own.webhook.listen.port(), own.admin.listen.port()), (0, 0));
        assert_ne!(occasional(&config).name, own.name);
    }
}

//! The whole relay as a handle: it builds the parts, renews secrets, and stops. [`run`] holds its life where it is one process,
//! [`node`] that of a node of a cluster, [`shard`] that of a shard in either, [`inbox`] the way of webhooks between them,
//! [`warm`] what a shard knew before, [`reach`] the ways to the provider.
//!
//! The only place where the relay's parts are started. One that ends before it was asked to stops the relay: half a
//! relay that looks alive loses events in silence.
//!
//! Start: fence every predecessor → claim → read the window back → ready → legs open; any other order lets a duplicate
//! through. Stop: no new webhooks → the WebSocket closes → what is inside is committed → leave, within
//! `shutdown.deadline`; what is left then stays with the provider, which still holds it.

mod accounts;
mod inbox;
mod node;
mod reach;
mod run;
mod shard;
mod warm;

pub use reach::Reach;
pub(crate) use shard::planner_settings;

use crate::clock::Clock;
use crate::config::{AccountSecrets, Config, Secrets, Via};
use crate::exit::Exit;
use crate::kafka::Broker;
use crate::kafka::client::Tuning;
use crate::kafka::errors::StartError;
use crate::kafka::inbox::Appender;
use crate::kafka::shard::Shard;
use crate::kafka::topics::{self, Topics};
use crate::legs::Intake;
use crate::legs::webhook::{Certificates, Endpoints, Listening, TlsError, Webhook};
use crate::normalize::SchemaIds;
use crate::provider::connect::Proxies;
use crate::registry;
use crate::telemetry::admin::Admin;
use crate::telemetry::{Board, Health, Metrics, Phase, watch_clock};
use accounts::{Accounts, Common, show_accounts, watch_health};
use inbox::{Door, renew, watch_reach};
use node::Node;
use reach::Ways;
use shard::Serving;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};

/// What a relay is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// All settings.
    pub config: Config,
    /// All secrets.
    pub secrets: Secrets,
    /// Which Kafka it writes to.
    pub broker: Broker,
    /// Times that only tests shorten.
    pub tuning: Tuning,
    /// Where to begin the first walk, once, in Unix milliseconds (`run --from`).
    pub from_ms: Option<i64>,
}

/// A running relay.
#[derive(Debug)]
pub struct Daemon {
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What state the parts are in.
    pub health: Arc<Health>,
    /// Where webhooks are taken, when they are.
    pub webhook: Option<SocketAddr>,
    /// Where health and metrics are served.
    pub admin: SocketAddr,
    secrets: SecretChannels,
    certificates: Option<Certificates>,
    stop: CancellationToken,
    running: JoinHandle<Result<(), Exit>>,
    /// The admin listener serves to the very end.
    _observers: DropGuard,
}

/// New secrets for the parts that use them.
#[derive(Clone, Debug)]
struct SecretChannels {
    /// The accounts that are served, and their secrets.
    accounts: watch::Sender<Vec<AccountSecrets>>,
    proxies: watch::Sender<Proxies>,
    /// Changes only where those for Kafka do.
    kafka: watch::Sender<Secrets>,
}

/// What the parts share.
#[derive(Debug)]
struct Shared {
    setup: Arc<Setup>,
    kafka_secrets: watch::Receiver<Secrets>,
    account_secrets: watch::Receiver<Vec<AccountSecrets>>,
    clock: Arc<Clock>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    board: Arc<Board>,
    /// Learned alongside everything else.
    schema_ids: SchemaIds,
    /// Ends the legs.
    stop: CancellationToken,
}

impl Daemon {
    /// Binds the webhook listener and begins to start everything else; [`Daemon::health`] reports when it is ready.
    pub async fn start(setup: Setup) -> Result<Self, Exit> {
        Self::start_on(setup, None).await
    }

    /// The same, with a listening socket in place of `webhook.listen` where one was handed over.
    pub async fn start_on(setup: Setup, socket: Option<std::net::TcpListener>) -> Result<Self, Exit> {
        let config = &setup.config;
        let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION")));
        let health = Arc::new(Health::default());
        let stop = CancellationToken::new();
        let ways = Arc::new(Ways::new(config, setup.secrets.proxies.clone())?);
        let clock = Arc::clone(&ways.clock);
        let proxies = ways.proxies.clone();
        tell_certificate(&metrics, &setup.secrets);
        let kafka = watch::Sender::new(setup.secrets.clone());
        let kafka_secrets = kafka.subscribe();
        let (served, account_secrets) = watch::channel(setup.secrets.accounts.clone());
        let secrets = SecretChannels { accounts: served, proxies, kafka };
        let endpoints = watch::Sender::<Arc<Endpoints>>::default();
        let webhooks = endpoints.subscribe();
        let listening = match config.webhook.enabled {
            true => Some(
                Webhook {
                    settings: config.webhook.clone(),
                    endpoints: webhooks,
                    clock: Arc::clone(&clock),
                    health: Arc::clone(&health),
                    metrics: Arc::clone(&metrics),
                    stop: stop.clone(),
                }
                .bind(socket)
                .await?,
            ),
            false => None,
        };
        let webhook = listening.as_ref().map(Listening::local_addr);
        let certificates = listening.as_ref().map(Listening::certificates);
        let listen = config.admin.listen;
        let admin = Admin::bind(listen)
            .await
            .map_err(|error| Exit::failed(format!("admin.listen: {listen}: {error}; choose another address")))?;
        let admin_address = admin.local_addr();
        let observers = CancellationToken::new();
        let board = Arc::new(Board::new(config, Arc::clone(&health), Arc::clone(&metrics)));
        tokio::spawn(show_accounts(config.clone(), account_secrets.clone(), Arc::clone(&board)));
        tokio::spawn(admin.serve(Arc::clone(&board), observers.clone()));
        tokio::spawn(watch_clock(Arc::clone(&metrics), observers.clone()));
        tokio::spawn(watch_health(Arc::clone(&health), Arc::clone(&metrics), observers.clone()));
        let schema_ids = SchemaIds::default();
        let (config, ids, left) = (config.clone(), schema_ids.clone(), observers.clone());
        tokio::spawn(async move { left.run_until_cancelled(registry::learn(&config, &ids)).await });
        let shared = Shared {
            clock,
            metrics: Arc::clone(&metrics),
            health: Arc::clone(&health),
            board,
            schema_ids,
            stop: stop.clone(),
            setup: Arc::new(setup),
            kafka_secrets,
            account_secrets,
        };
        let running = tokio::spawn(shared.life(listening, ways, endpoints)?);
        let observers = observers.drop_guard();
        Ok(Self {
            metrics,
            health,
            webhook,
            admin: admin_address,
            secrets,
            certificates,
            stop,
            running,
            _observers: observers,
        })
    }

    /// Begins to drain; [`Daemon::ended`] returns when it is done.
    pub fn stop(&self) {
        self.health.set_phase(Phase::Stopping);
        self.stop.cancel();
    }

    /// Takes new secrets, the accounts that have some, and the certificates' files as they are now into use, without touching a
    /// delivery. When the certificates are wrong everything stays as it was.
    pub fn renew(&self, secrets: &Secrets) -> Result<(), TlsError> {
        self.certificates.as_ref().map_or(Ok(()), Certificates::renew)?;
        // Before the keys, whose change ends the waiting of the legs.
        self.secrets.proxies.send_replace(secrets.proxies.clone());
        self.secrets.accounts.send_replace(secrets.accounts.clone());
        self.secrets.kafka.send_if_modified(|used| {
            let renewed = !used.is_same_for_kafka(secrets);
            if renewed {
                tell_certificate(&self.metrics, secrets);
                used.clone_from(secrets);
            }
            renewed
        });
        Ok(())
    }

    /// Waits until everything has ended. Cancel safe.
    pub async fn ended(&mut self) -> Result<(), Exit> {
        flatten((&mut self.running).await)
    }
}

impl Shared {
    /// The topics as they are, once the missing ones were created; `waiting_for` gets what that waits for. Of the
    /// embedded Kafka nothing is known, whose topics were made with it.
    async fn topics(&self, waiting_for: impl FnMut(Option<&str>)) -> Result<Topics, StartError> {
        let Setup { config, broker, .. } = &*self.setup;
        let secrets = self.kafka_secrets.borrow().clone();
        match broker {
            Broker::Configured => topics::ensure_telling(config, &secrets, waiting_for).await,
            Broker::Embedded => Ok(Topics::default()),
        }
    }

    /// What the process does from here to its end: the listener, and the shards behind it.
    fn life(
        self,
        listening: Option<Listening>,
        ways: Arc<Ways>,
        endpoints: watch::Sender<Arc<Endpoints>>,
    ) -> Result<impl Future<Output = Result<(), Exit>> + Send + use<>, Exit> {
        let shared = Arc::new(self);
        let Self { setup, metrics, health, stop, kafka_secrets, account_secrets, .. } = &*shared;
        let config = &setup.config;
        // Each returns whether it was asked to end.
        let mut tasks = JoinSet::new();
        let mut door = None;
        if config.webhook.via == Via::Inbox {
            let secrets = kafka_secrets.borrow().clone();
            let appender = Appender::new(config, &secrets, Arc::clone(health), Arc::clone(metrics));
            let appender = appender.map_err(Exit::from)?;
            let (made, receiver) = Door::new(config.intake.bytes_max);
            let appending = made.appending(receiver, appender.clone(), Arc::clone(metrics));
            door = Some(made);
            let watching = watch_reach(appender.clone(), Arc::clone(health), stop.clone());
            let renewing = renew(appender, kafka_secrets.clone(), stop.clone());
            let told = stop.clone();
            tasks.spawn(async move {
                tokio::join!(watching, renewing);
                told.is_cancelled()
            });
            let told = stop.clone();
            tasks.spawn(async move {
                appending.run().await;
                told.is_cancelled()
            });
        }
        if let Some(listening) = listening {
            let stop = stop.clone();
            tasks.spawn(async move {
                listening.serve().await;
                stop.is_cancelled()
            });
        }
        let served = match door {
            Some(door) if config.cluster.enabled => {
                Life::Node(Node { shared: Arc::clone(&shared), ways, door, endpoints, tasks })
            }
            door => {
                let (intake, receiver) = Intake::new(config.intake.bytes_max);
                let common = Common {
                    config: config.clone(),
                    shard: Shard::SOLE,
                    door,
                    pace: Arc::default(),
                    ways,
                    intake,
                    health: Arc::clone(health),
                    metrics: Arc::clone(metrics),
                    stop: stop.clone(),
                };
                let accounts = Accounts::new(common, &account_secrets.borrow(), Some(endpoints))?;
                Life::Sole(Box::new(Serving {
                    shared: Arc::clone(&shared),
                    shard: Shard::SOLE,
                    member: None,
                    reports: None,
                    topics: None,
                    from_ms: setup.from_ms,
                    health: Arc::clone(health),
                    receiver: Some(receiver),
                    accounts,
                    tasks,
                    stop: stop.clone(),
                    drain_within: config.shutdown.deadline,
                }))
            }
        };
        Ok(async move {
            match served {
                Life::Node(node) => node.run().await,
                Life::Sole(serving) => run::run(*serving).await,
            }
        })
    }
}

/// What a process is.
enum Life {
    /// A node of a cluster.
    Node(Node),
    /// The only process of its name.
    Sole(Box<Serving>),
}

fn fenced() -> Exit {
    Exit::fenced("another relay with the same name took over; give each relay its own `name`, or stop the other one")
}

/// When the certificate that Kafka knows the relay by expires.
fn tell_certificate(metrics: &Metrics, secrets: &Secrets) {
    let Some(certificate) = &secrets.kafka_certificate else { return };
    if certificate.expires_at.is_none() {
        tracing::warn!("when the certificate for Kafka expires cannot be read: it is used, and its metric is 0");
    }
    metrics.kafka_certificate_expires(certificate.expires_at.unwrap_or_default());
}

fn flatten(joined: Result<Result<(), Exit>, JoinError>) -> Result<(), Exit> {
    joined.unwrap_or_else(|error| Err(Exit::failed(format!("the relay failed: {error}"))))
}

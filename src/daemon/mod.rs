//! The whole relay: builds the parts, spawns their tasks, watches them, and drains.
//!
//! The only place where the relay's parts are started. One that ends before it was told to stops the relay: half a relay that
//! looks alive loses events in silence.
//!
//! Start: fence every predecessor → claim → read the window back → ready → legs open; any other order lets a duplicate
//! through. Stop: no new webhooks → the socket closes → what is inside is committed → leave, within
//! `shutdown.deadline`; what is left then stays with the provider, which still holds it.

mod warm;

use crate::clock::Clock;
use crate::config::{Config, Secrets};
use crate::exit::Exit;
use crate::kafka::client::Tuning;
use crate::kafka::errors::StartError;
use crate::kafka::topics::{self, Topics};
use crate::kafka::{Broker, Early, Publisher, PublisherSetup, Stop};
use crate::labels::{Leg, Outcome};
use crate::legs::backfill::Backfill;
use crate::legs::webhook::{Certificates, Listening, TlsError, Webhook};
use crate::legs::websocket::{Dialer, Kinds, Websocket};
use crate::legs::{Intake, IntakeReceiver};
use crate::legs::{Note, Position, Walks};
use crate::normalize;
use crate::provider::connect::{Connector, Proxies};
use crate::provider::rest::Rest;
use crate::provider::tls;
use crate::relay::pipeline::Pipeline;
use crate::relay::planner::{Planner, Settings};
use crate::relay::start::Started;
use crate::relay::{Ended, Relay};
use crate::telemetry::admin::Admin;
use crate::telemetry::{Board, Health, LegState, Metrics, Phase};
use secrecy::SecretString;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, error, info, warn};

/// How long Kafka may take to end a transaction that is under way once everything else has stopped.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// How long legs may take to tell their peers once the loop has ended.
const GOODBYES_WITHIN: Duration = Duration::from_secs(1);

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
    api_key: watch::Sender<SecretString>,
    webhook: watch::Sender<Arc<[SecretString]>>,
    proxies: watch::Sender<Proxies>,
    /// Changes only where those for Kafka do.
    kafka: watch::Sender<Secrets>,
}

/// What the parts share.
#[derive(Clone, Debug)]
struct Shared {
    setup: Arc<Setup>,
    kafka_secrets: watch::Receiver<Secrets>,
    reach: Arc<Reach>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    board: Arc<Board>,
    intake: Intake,
    position: watch::Sender<Position>,
    /// Ends the legs.
    stop: CancellationToken,
}

/// The ways to the provider.
#[derive(Debug)]
pub struct Reach {
    /// Its REST interface.
    pub rest: Arc<Rest>,
    /// How far its clock is ahead.
    pub clock: Arc<Clock>,
    connector: Connector,
    api_key: watch::Sender<SecretString>,
    proxies: watch::Sender<Proxies>,
}

impl Reach {
    /// Sets up REST and TLS; reaches nothing yet.
    ///
    /// # Errors
    ///
    /// Status 78 when the address is none, or would carry the key in clear to another machine, and when the
    /// certificates cannot be read.
    pub fn new(config: &Config, api_key: SecretString, proxies: Proxies) -> Result<Self, Exit> {
        let provider = &config.provider;
        let clock = Arc::new(Clock::default());
        let api_key = watch::Sender::new(api_key);
        let proxies = watch::Sender::new(proxies);
        let tls = tls::client_config_with(provider.ca_file.as_deref());
        let tls = tls.map_err(|error| Exit::settings(error.to_string()))?;
        let connector = Connector::new(tls, proxies.subscribe());
        let key = api_key.subscribe();
        let rest = Rest::new(&provider.api_url, provider.timeout, key, connector.clone(), Arc::clone(&clock))
            .map_err(|error| Exit::settings(format!("{error}; {}", error.remedy())))?
            // An event whose frame was too large for the socket must fit a page of the log.
            .with_body_bytes_max(config.websocket.frame_bytes_max.saturating_mul(2));
        Ok(Self { rest: Arc::new(rest), clock, connector, api_key, proxies })
    }

    /// What it takes to connect the stream.
    pub fn dialer(&self, config: &Config) -> Dialer {
        Dialer {
            websocket_url: config.provider.websocket_url.clone(),
            settings: config.websocket.clone(),
            api_key: self.api_key.subscribe(),
            rest: Arc::clone(&self.rest),
            connector: self.connector.clone(),
        }
    }
}

impl Daemon {
    /// Binds the webhook listener and begins to start everything else; readiness is told by [`Daemon::health`].
    pub async fn start(setup: Setup) -> Result<Self, Exit> {
        Self::start_on(setup, None).await
    }

    /// The same, with a listening socket in place of `webhook.listen` where one was handed over.
    pub async fn start_on(setup: Setup, socket: Option<std::net::TcpListener>) -> Result<Self, Exit> {
        let config = &setup.config;
        let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION")));
        let health = Arc::new(Health::default());
        let stop = CancellationToken::new();
        let reach = Reach::new(config, setup.secrets.api_key.clone(), setup.secrets.proxies.clone())?;
        let webhook_secrets = watch::Sender::new(Arc::from(setup.secrets.webhook.as_slice()));
        let kafka = watch::Sender::new(setup.secrets.clone());
        let kafka_secrets = kafka.subscribe();
        let secrets = SecretChannels {
            api_key: reach.api_key.clone(),
            webhook: webhook_secrets,
            proxies: reach.proxies.clone(),
            kafka,
        };
        let (intake, receiver) = Intake::new(config.intake.bytes_max);
        let listening = match config.webhook.enabled {
            true => Some(
                Webhook {
                    settings: config.webhook.clone(),
                    secrets: secrets.webhook.subscribe(),
                    intake: intake.clone(),
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
        tokio::spawn(admin.serve(Arc::clone(&board), observers.clone()));
        let shared = Shared {
            reach: Arc::new(reach),
            metrics: Arc::clone(&metrics),
            health: Arc::clone(&health),
            board,
            intake,
            position: watch::Sender::new(Position::default()),
            stop: stop.clone(),
            setup: Arc::new(setup),
            kafka_secrets,
        };
        let running = tokio::spawn(shared.run(receiver, listening));
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

    /// Begins to drain; [`Daemon::ended`] tells when it is done.
    pub fn stop(&self) {
        self.health.set_phase(Phase::Stopping);
        self.stop.cancel();
    }

    /// Takes new secrets and the certificates' files as they are now into use, without touching a delivery. When the
    /// certificates are wrong everything stays as it was.
    pub fn renew(&self, secrets: &Secrets) -> Result<(), TlsError> {
        self.certificates.as_ref().map_or(Ok(()), Certificates::renew)?;
        // Before the key, whose change ends the waiting of the legs.
        self.secrets.proxies.send_replace(secrets.proxies.clone());
        self.secrets.api_key.send_replace(secrets.api_key.clone());
        self.secrets.webhook.send_replace(Arc::from(secrets.webhook.as_slice()));
        self.secrets.kafka.send_if_modified(|used| {
            let renewed = !used.is_same_for_kafka(secrets);
            if renewed {
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
    /// From the start to the end of the drain.
    async fn run(self, receiver: IntakeReceiver, listening: Option<Listening>) -> Result<(), Exit> {
        let mut tasks = JoinSet::new();
        if let Some(listening) = listening {
            tasks.spawn(listening.serve());
        }
        let abandon = CancellationToken::new();
        let started = tokio::select! {
            () = self.stop.cancelled() => Err(None),
            started = self.start_relay(receiver, &abandon) => started.map_err(|error| Some(Exit::from(error))),
        };
        let mut relay = match started {
            Ok(relay) => relay,
            Err(why) => {
                self.stop.cancel();
                while tasks.join_next().await.is_some() {}
                info!(left = 0, "stopped");
                return why.map_or(Ok(()), Err);
            }
        };
        self.health.set_reading_back(None);
        self.health.set_phase(Phase::Ready);
        info!("relay ready");
        self.spawn_legs(&mut tasks);
        let Self { stop, health, metrics, setup, .. } = &self;
        let mut broken = None;
        let ended = tokio::select! {
            () = stop.cancelled() => None,
            ended = &mut relay => Some(ended),
            Some(task) = tasks.join_next() => {
                // A leg only ends when it is told to.
                broken = (!stop.is_cancelled()).then(|| task.err().map_or_else(String::new, |error| error.to_string()));
                None
            }
        };
        health.set_phase(Phase::Stopping);
        metrics.ready(false);
        stop.cancel();
        let deadline = Instant::now() + setup.config.shutdown.deadline;
        let metrics = Arc::clone(metrics);
        // The loop ends once the legs, which hold the other ends of the intake, have ended.
        drop(self);
        let ended = match ended {
            Some(ended) => ended,
            None => drained(&mut tasks, relay, &abandon, deadline).await,
        };
        // Webhooks that lost their relay are told so before their connections go.
        let goodbyes = async { while tasks.join_next().await.is_some() {} };
        let _ = timeout(GOODBYES_WITHIN, goodbyes).await;
        tasks.shutdown().await;
        let Ended { why, .. } =
            ended.unwrap_or(Ended { left: 0, why: Some(Stop::Fatal("the relay's thread failed".into())) });
        let end = match (why, broken) {
            (Some(Stop::Fenced), _) => Err(Exit::fenced(fenced())),
            (Some(Stop::Fatal(detail)), _) => Err(Exit::failed(detail)),
            (None, Some(detail)) => {
                Err(Exit::failed(format!("a leg ended without being told to; see the log ({detail})")))
            }
            (None, None) => Ok(()),
        };
        match &end {
            Err(exit) if exit.status() == Exit::FENCED => error!("fenced"),
            _ => {}
        }
        info!(left = left(&metrics), "stopped");
        end
    }

    /// Fences, claims, reads back, and starts the loop on a thread of its own.
    async fn start_relay(
        &self,
        intake: IntakeReceiver,
        abandon: &CancellationToken,
    ) -> Result<oneshot::Receiver<Ended>, StartError> {
        let Setup { config, secrets, broker, tuning, .. } = &*self.setup;
        let began = Instant::now();
        let early = Early::connect(config, &self.kafka_secrets.borrow(), tuning);
        let topics = match broker {
            Broker::Configured => {
                let health = Arc::clone(&self.health);
                topics::ensure_telling(config, secrets, move |what| health.set_waiting_for(what)).await?
            }
            Broker::Embedded => Topics::default(),
        };
        topics.warnings().for_each(|warning| warn!("{warning}"));
        debug!(after = ?began.elapsed(), "topics judged");
        let publisher = PublisherSetup {
            starts_afresh: self.setup.from_ms.is_some(),
            config: config.clone(),
            secrets: self.kafka_secrets.clone(),
            broker: *broker,
            tuning: *tuning,
            topics,
            early,
            metrics: Arc::clone(&self.metrics),
            health: Arc::clone(&self.health),
        };
        let (publisher, predecessor) = Publisher::start(publisher).await?;
        debug!(after = ?began.elapsed(), "name claimed");
        let Started { window, versions, progress, .. } = warm::start(self, predecessor.as_ref()).await?;
        let planner = Planner::new(planner_settings(config), window, versions, progress);
        let relay = Relay {
            pipeline: Pipeline::new(planner),
            publisher,
            intake,
            clock: Arc::clone(&self.reach.clock),
            metrics: Arc::clone(&self.metrics),
            health: Arc::clone(&self.health),
            board: Arc::clone(&self.board),
            position: self.position.clone(),
            close_deadline: CLOSE_DEADLINE,
        };
        relay.tell_position();
        relay.tell_board();
        let (sender, ended) = oneshot::channel();
        let abandon = abandon.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|error| StartError::Failed(format!("no runtime for the relay: {error}")))?;
        std::thread::Builder::new()
            .name("relay".to_owned())
            .spawn(move || {
                // Nobody waits any more when the process is already leaving.
                let _ = sender.send(relay.run(&runtime, &abandon));
            })
            .map_err(|error| StartError::Failed(format!("no thread for the relay: {error}")))?;
        Ok(ended)
    }

    fn spawn_legs(&self, tasks: &mut JoinSet<()>) {
        let config = &self.setup.config;
        let walks = Walks::default();
        let backfill = Backfill {
            settings: config.backfill.clone(),
            rest: Arc::clone(&self.reach.rest),
            intake: self.intake.clone(),
            clock: Arc::clone(&self.reach.clock),
            position: self.position.subscribe(),
            walks: walks.clone(),
            metrics: Arc::clone(&self.metrics),
            health: Arc::clone(&self.health),
            stop: self.stop.clone(),
        };
        tasks.spawn(backfill.run());
        // Also when the stream does not come up.
        walks.ask();
        if !config.websocket.enabled {
            self.health.set_leg(Leg::Websocket, LegState::Disabled);
            // No stream, no gap that is still open because of it. The loop lives, so its intake takes the note.
            let _ = self.intake.note(Note::WebsocketUp { at_ms: self.reach.clock.provider_ms() });
            return;
        }
        let websocket = Websocket {
            dialer: self.reach.dialer(config),
            hold_max: config.backfill.hold_max,
            kinds: Kinds::default(),
            position: self.position.subscribe(),
            walks,
            clock: Arc::clone(&self.reach.clock),
            intake: self.intake.clone(),
            health: Arc::clone(&self.health),
            metrics: Arc::clone(&self.metrics),
            stop: self.stop.clone(),
        };
        tasks.spawn(websocket.run());
    }
}

/// Waits for the legs and then for the loop; at the deadline what is inside is left to the provider.
async fn drained(
    tasks: &mut JoinSet<()>,
    mut relay: oneshot::Receiver<Ended>,
    abandon: &CancellationToken,
    deadline: Instant,
) -> Result<Ended, oneshot::error::RecvError> {
    let legs = async {
        while tasks.join_next().await.is_some() {}
        (&mut relay).await
    };
    match tokio::time::timeout_at(deadline, legs).await {
        Ok(ended) => ended,
        Err(_) => {
            abandon.cancel();
            timeout(CLOSE_DEADLINE + Duration::from_secs(2), relay).await.unwrap_or(Ok(Ended { left: 0, why: None }))
        }
    }
}

/// Deliveries that are left to the provider, whichever part had them: a delivery fails only when the relay stops.
fn left(metrics: &Metrics) -> u64 {
    let inside = |leg| u64::try_from(metrics.in_flight(leg)).unwrap_or_default();
    Leg::ALL.into_iter().map(|leg| metrics.outcomes(leg, Outcome::Failed) + inside(leg)).sum()
}

/// What the relay's decisions take from the settings.
pub(crate) fn planner_settings(config: &Config) -> Settings {
    Settings {
        instance: config.name.clone(),
        normalize: normalize::Settings {
            environment: config.provider.environment,
            drop: config.normalize.drop.clone(),
            include_raw: config.normalize.include_raw,
        },
        orders_latest: !config.kafka.topics.orders_latest.is_empty(),
        invoices: !config.kafka.topics.invoices.is_empty(),
    }
}

fn fenced() -> &'static str {
    "another relay with the same name took over; give each relay its own `name`, or stop the other one"
}

fn flatten(joined: Result<Result<(), Exit>, JoinError>) -> Result<(), Exit> {
    joined.unwrap_or_else(|error| Err(Exit::failed(format!("the relay failed: {error}"))))
}

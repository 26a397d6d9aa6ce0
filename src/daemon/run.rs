//! A relay's life: the start, the legs, and the drain.

use super::accounts::Accounts;
use super::{Setup, Shared, warm};
use crate::config::Config;
use crate::exit::Exit;
use crate::kafka::errors::StartError;
use crate::kafka::topics::{self, Topics};
use crate::kafka::{Broker, Early, Publisher, PublisherSetup, Stop};
use crate::labels::{Leg, Outcome};
use crate::legs::IntakeReceiver;
use crate::legs::webhook::Listening;
use crate::normalize::{self, SchemaIds};
use crate::relay::pipeline::Pipeline;
use crate::relay::planner::{Planner, Settings};
use crate::relay::start::Started;
use crate::relay::{Ended, Lines, Relay};
use crate::telemetry::{Metrics, Phase};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

/// How long Kafka may take to end a transaction that is under way once everything else has stopped.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// How long legs may take to tell their peers once the loop has ended.
const GOODBYES_WITHIN: Duration = Duration::from_secs(1);

impl Shared {
    /// From the start to the end of the drain.
    pub(super) async fn run(
        mut self,
        receiver: IntakeReceiver,
        listening: Option<Listening>,
        mut accounts: Accounts,
    ) -> Result<(), Exit> {
        // Each says whether it was told to end.
        let mut tasks = JoinSet::new();
        if let Some(listening) = listening {
            let stop = self.stop.clone();
            tasks.spawn(async move {
                listening.serve().await;
                stop.is_cancelled()
            });
        }
        let abandon = CancellationToken::new();
        // Also where nobody waits for this any more: the loop and its writer do not outlive it, however long Kafka is away.
        let _abandons = abandon.clone().drop_guard();
        let started = tokio::select! {
            () = self.stop.cancelled() => Err(None),
            started = self.start_relay(receiver, &mut accounts, &abandon) => started.map_err(|error| Some(Exit::from(error))),
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
        accounts.start(&mut tasks);
        let Self { stop, health, metrics, setup, account_secrets, .. } = &mut self;
        let mut broken = None;
        let ended = loop {
            tokio::select! {
                () = stop.cancelled() => break None,
                ended = &mut relay => break Some(ended),
                Ok(()) = account_secrets.changed() => {
                    let secrets = account_secrets.borrow_and_update().clone();
                    accounts.renew(&secrets, &mut tasks);
                }
                Some(task) = tasks.join_next() => match task {
                    Ok(true) => {}
                    // A leg only ends when it is told to.
                    Ok(false) => broken = Some(String::new()),
                    Err(error) => broken = Some(error.to_string()),
                },
            }
            if broken.is_some() {
                break None;
            }
        };
        health.set_phase(Phase::Stopping);
        metrics.ready(false);
        stop.cancel();
        let deadline = Instant::now() + setup.config.shutdown.deadline;
        let metrics = Arc::clone(metrics);
        drop(accounts);
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
            (None, Some(detail)) => Err(Exit::failed(format!("a leg ended on its own; see the log ({detail})"))),
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
        accounts: &mut Accounts,
        abandon: &CancellationToken,
    ) -> Result<oneshot::Receiver<Ended>, StartError> {
        let Setup { config, broker, tuning, .. } = &*self.setup;
        let began = Instant::now();
        let secrets = self.kafka_secrets.borrow().clone();
        let early = Early::connect(config, &secrets, tuning);
        let topics = match broker {
            Broker::Configured => {
                let health = Arc::clone(&self.health);
                topics::ensure_telling(config, &secrets, move |what| health.set_waiting_for(what)).await?
            }
            Broker::Embedded => Topics::default(),
        };
        topics.warnings().for_each(|warning| warn!("{warning}"));
        debug!(after = ?began.elapsed(), "topics checked");
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
        let Started { window, versions, accounts: known, .. } =
            warm::start(self, &accounts.names(), predecessor.as_ref()).await?;
        let accounts = accounts.known(known.iter().map(|known| known.name.clone()));
        let settings = Settings { schema_ids: self.schema_ids.clone(), ..planner_settings(config) };
        let planner = Planner::new(settings, window, versions, known);
        let relay = Relay {
            pipeline: Pipeline::new(planner),
            publisher,
            intake,
            clock: Arc::clone(&self.clock),
            metrics: Arc::clone(&self.metrics),
            health: Arc::clone(&self.health),
            board: Arc::clone(&self.board),
            accounts,
            lines: Lines::default(),
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
}

/// Waits for the legs and then for the loop; at the deadline what is inside is left to the provider.
async fn drained(
    tasks: &mut JoinSet<bool>,
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
        schema_ids: SchemaIds::default(),
    }
}

fn fenced() -> &'static str {
    "another relay with the same name took over; give each relay its own `name`, or stop the other one"
}

//! A shard's life in this process: the start, the legs of its accounts, and the drain.

use super::accounts::Accounts;
use super::inbox::{Taking, Unknown};
use super::{Setup, Shared, warm};
use crate::config::Config;
use crate::exit::Exit;
use crate::kafka::errors::StartError;
use crate::kafka::group::Reports;
use crate::kafka::inbox::{Inbox, Opened};
use crate::kafka::shard::{Member, Shard};
use crate::kafka::topics::Topics;
use crate::kafka::{Early, Predecessor, Publisher, PublisherSetup, Stop};
use crate::legs::IntakeReceiver;
use crate::normalize::{self, SchemaIds};
use crate::relay::pipeline::Pipeline;
use crate::relay::planner::{InboxMark, Planner, Settings};
use crate::relay::start::Started;
use crate::relay::{Ended, Lines, Relay};
use crate::telemetry::{Health, Phase, Takeover};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// How long Kafka may take to end a transaction that is under way once everything else has stopped.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// How long legs may take to answer their peers once the loop has ended.
const GOODBYES_WITHIN: Duration = Duration::from_secs(1);

/// What it takes to serve a shard.
pub(super) struct Serving {
    pub(super) shared: Arc<Shared>,
    pub(super) shard: Shard,
    /// In a cluster: the node, and whether the shard is its own.
    pub(super) member: Option<Member>,
    pub(super) reports: Option<Reports>,
    /// As they were found already.
    pub(super) topics: Option<Topics>,
    /// Where to begin the first walk, once, in Unix milliseconds (`run --from`).
    pub(super) from_ms: Option<i64>,
    /// Where its parts report what state they are in.
    pub(super) health: Arc<Health>,
    /// Its end of the intake, until the loop has it.
    pub(super) receiver: Option<IntakeReceiver>,
    pub(super) accounts: Accounts,
    /// What ends with its legs; each returns whether it was asked to end.
    pub(super) tasks: JoinSet<bool>,
    /// Begins the drain.
    pub(super) stop: CancellationToken,
    /// How long that may take; what is left then stays with the provider, and with the inbox.
    pub(super) drain_within: Duration,
}

/// How a shard's life ended.
#[derive(Debug)]
pub(super) enum End {
    /// It was drained.
    Left,
    /// Another run holds it.
    Fenced(crate::kafka::settlement::Fenced),
    /// Another node claimed it before this one did.
    Elsewhere,
    /// The process cannot go on.
    Failed(Exit),
}

/// A loop that runs, and the inbox that it takes webhooks from.
struct Begun {
    relay: oneshot::Receiver<Ended>,
    opened: Option<Opened>,
}

impl Serving {
    /// From the start to the end of the drain.
    pub(super) async fn run(mut self) -> End {
        let abandon = CancellationToken::new();
        // Also where nobody waits for this any more: the loop and its writer do not outlive it, however long Kafka is away.
        let _abandons = abandon.clone().drop_guard();
        let stop = self.stop.clone();
        let started = tokio::select! {
            () = stop.cancelled() => Err(None),
            started = self.start(&abandon) => started.map_err(Some),
        };
        let Begun { mut relay, opened } = match started {
            Ok(begun) => begun,
            Err(why) => {
                self.stop.cancel();
                drop(self.accounts);
                while self.tasks.join_next().await.is_some() {}
                return match why {
                    None => End::Left,
                    Some(StartError::Elsewhere) => End::Elsewhere,
                    Some(error) => End::Failed(Exit::from(error)),
                };
            }
        };
        self.health.set_reading_back(None);
        self.health.set_phase(Phase::Ready);
        info!(shard = self.number(), "relay ready");
        self.accounts.start(&mut self.tasks);
        let (unknown, mut asked) = mpsc::channel(1);
        if let Some(opened) = opened {
            self.take_from(opened, unknown);
        }
        let mut account_secrets = self.shared.account_secrets.clone();
        account_secrets.mark_changed();
        let mut broken = None;
        let ended = loop {
            tokio::select! {
                () = stop.cancelled() => break None,
                ended = &mut relay => break Some(ended),
                Ok(()) = account_secrets.changed() => {
                    let secrets = account_secrets.borrow_and_update().clone();
                    self.accounts.renew(&secrets, &mut self.tasks);
                }
                Some(Unknown { account, known }) = asked.recv() => {
                    // The asker may be stopping already.
                    let _ = known.send(self.accounts.introduce(&account));
                }
                Some(task) = self.tasks.join_next() => match task {
                    Ok(true) => {}
                    // A leg only ends when it is asked to.
                    Ok(false) => broken = Some(String::new()),
                    Err(error) => broken = Some(error.to_string()),
                },
            }
            if broken.is_some() {
                break None;
            }
        };
        self.health.set_phase(Phase::Stopping);
        self.stop.cancel();
        let deadline = Instant::now() + self.drain_within;
        let Self { mut tasks, accounts, .. } = self;
        // The loop ends once the legs, which hold the other ends of the intake, have ended.
        drop((accounts, asked));
        let ended = match ended {
            Some(ended) => ended,
            None => drained(&mut tasks, relay, &abandon, deadline).await,
        };
        // Webhooks that lost their relay are answered so before their connections go.
        let goodbyes = async { while tasks.join_next().await.is_some() {} };
        let _ = timeout(GOODBYES_WITHIN, goodbyes).await;
        tasks.shutdown().await;
        let Ended { why, .. } =
            ended.unwrap_or(Ended { left: 0, why: Some(Stop::Fatal("the relay's thread failed".into())) });
        match (why, broken) {
            (Some(Stop::Fenced(fenced)), _) => End::Fenced(fenced),
            (Some(Stop::Fatal(detail)), _) => End::Failed(Exit::failed(detail)),
            (None, Some(detail)) => {
                End::Failed(Exit::failed(format!("a leg ended on its own; see the log ({detail})")))
            }
            (None, None) => End::Left,
        }
    }

    /// The shard's number, where there are several.
    fn number(&self) -> Option<i32> {
        self.member.as_ref().map(|_| self.shard.number)
    }

    /// Fences, claims, reads back, and starts the loop on a thread of its own.
    async fn start(&mut self, abandon: &CancellationToken) -> Result<Begun, StartError> {
        let shared = Arc::clone(&self.shared);
        let Setup { config, broker, tuning, .. } = &*shared.setup;
        let shard = self.shard;
        let began = Instant::now();
        let secrets = shared.kafka_secrets.borrow().clone();
        let early = Early::connect(config, &secrets, shard, tuning);
        let topics = match self.topics.take() {
            Some(topics) => topics,
            None => shared.topics(|what| self.health.set_waiting_for(what)).await?,
        };
        if self.member.is_none() {
            topics.warnings().for_each(|warning| warn!("{warning}"));
        }
        debug!(after = ?began.elapsed(), "topics checked");
        let publisher = PublisherSetup {
            starts_afresh: self.from_ms.is_some(),
            config: config.clone(),
            secrets: shared.kafka_secrets.clone(),
            shard,
            member: self.member.clone(),
            broker: *broker,
            tuning: *tuning,
            topics,
            early,
            metrics: Arc::clone(&shared.metrics),
            health: Arc::clone(&self.health),
        };
        let (mut publisher, predecessor) = Publisher::start(publisher).await?;
        debug!(after = ?began.elapsed(), "name claimed");
        if self.member.is_some() {
            let left = predecessor.as_ref().is_none_or(|predecessor| predecessor.checkpoint.left);
            let cause = if left { Takeover::Assigned } else { Takeover::NodeDied };
            shared.metrics.takeover(cause);
            info!(shard = shard.number, cause = cause.as_str(), "shard claimed");
        }
        let opened = self.open_inbox(predecessor.as_ref()).await?;
        let unread_ms = opened.as_ref().and_then(|opened| opened.unread_ms);
        let names = self.accounts.names();
        let reader = publisher.take_reader();
        let Started { window, versions, accounts: known, .. } = warm::start(
            &shared,
            (shard, &self.health),
            &names,
            predecessor.as_ref(),
            (self.from_ms, unread_ms),
            reader,
        )
        .await?;
        let accounts = self.accounts.known(known.iter().map(|known| known.name.clone()));
        let settings = Settings { schema_ids: shared.schema_ids.clone(), shard, ..planner_settings(config) };
        let mark = opened.as_ref().map(|opened| InboxMark::begin(opened.next, unread_ms));
        let planner = Planner::new(settings, window, versions, known).taking_from(mark.unwrap_or_default());
        let taken = || StartError::Failed("the intake has a loop already".to_owned());
        let intake = self.receiver.take().ok_or_else(taken)?;
        let relay = Relay {
            shard: shard.number,
            pipeline: Pipeline::new(planner),
            publisher,
            intake,
            clock: Arc::clone(&shared.clock),
            metrics: Arc::clone(&shared.metrics),
            health: Arc::clone(&self.health),
            board: Arc::clone(&shared.board),
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
        // One of the outer runtime's threads, which it waits for when it is shut down: a relay that is given up leaves nobody
        // else to.
        drop(tokio::task::spawn_blocking(move || {
            // Nobody waits any more when the process is already leaving.
            let _ = sender.send(relay.run(&runtime, &abandon));
        }));
        Ok(Begun { relay: ended, opened })
    }

    /// The inbox from the offset in the predecessor's checkpoint, where there is one.
    async fn open_inbox(&self, predecessor: Option<&Predecessor>) -> Result<Option<Opened>, StartError> {
        let config = &self.shared.setup.config;
        if config.kafka.topics.inbox.is_empty() {
            return Ok(None);
        }
        let secrets = &self.shared.kafka_secrets;
        let from = predecessor.and_then(|predecessor| predecessor.checkpoint.inbox);
        Inbox::open(config, secrets, self.shard, from).await.map(Some)
    }

    fn take_from(&mut self, opened: Opened, unknown: mpsc::Sender<Unknown>) {
        let taking = Taking {
            inbox: opened.inbox,
            shard: self.shard.number,
            directory: self.accounts.directory(),
            unknown,
            reports: self.reports.clone(),
            clock: Arc::clone(&self.shared.clock),
            metrics: Arc::clone(&self.shared.metrics),
            stop: self.stop.clone(),
        };
        if opened.lost {
            taking.lost(opened.next);
        }
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            taking.run().await;
            stop.is_cancelled()
        });
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
        shard: Shard::SOLE,
    }
}

//! The accounts of a running relay: the ways of each to the provider, its legs, and their end. Accounts come and go with a
//! reload, and none of the others is touched.

use super::inbox::{Directory, Door, Known};
use super::reach::{Reach, Ways};
use crate::config::{ACCOUNTS_MAX, AccountSecrets, Config};
use crate::exit::Exit;
use crate::kafka::shard::{Shard, key_of};
use crate::labels::{Account, Leg};
use crate::legs::backfill::Backfill;
use crate::legs::webhook::{Endpoint, Endpoints};
use crate::legs::websocket::{Kinds, Websocket};
use crate::legs::{Admission, Intake, Note, Position, Walks};
use crate::relay::Served;
use crate::telemetry::{Board, Health, LegState, Metrics, Phase, Snapshot};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

/// What the legs of every account share.
#[derive(Clone, Debug)]
pub(super) struct Common {
    pub(super) config: Config,
    /// Whose accounts these are.
    pub(super) shard: Shard,
    /// Where webhooks come to, where they go through the inbox.
    pub(super) door: Option<Door>,
    /// Spreads what is opened at the provider.
    pub(super) pace: Arc<Pace>,
    pub(super) ways: Arc<Ways>,
    pub(super) intake: Intake,
    pub(super) health: Arc<Health>,
    pub(super) metrics: Arc<Metrics>,
    /// Ends all legs.
    pub(super) stop: CancellationToken,
}

/// All accounts that the relay knows of, each in its place.
#[derive(Debug)]
pub(super) struct Accounts {
    common: Common,
    /// The listener's, unless the node sets them.
    endpoints: Option<watch::Sender<Arc<Endpoints>>>,
    directory: watch::Sender<Arc<Directory>>,
    list: Vec<Line>,
}

/// One account.
#[derive(Debug)]
struct Line {
    name: String,
    /// Where its deliveries go.
    intake: Intake,
    position: watch::Sender<Position>,
    /// What serves it; none where the settings do not name it.
    live: Option<Live>,
    /// The legs of its life before this one, which may still be closing.
    before: Option<TaskTracker>,
}

/// What an account has that is served.
#[derive(Debug)]
struct Live {
    secrets: AccountSecrets,
    reach: Reach,
    /// Ends its legs.
    stop: CancellationToken,
    legs: TaskTracker,
}

impl Common {
    /// Those of the shard.
    fn mine<'s>(&self, secrets: &'s [AccountSecrets]) -> impl Iterator<Item = &'s AccountSecrets> + use<'s> {
        let (relay, shard) = (self.config.name.clone(), self.shard);
        secrets.iter().filter(move |secrets| Shard::of(&relay, &secrets.name, shard.count) == shard)
    }

    /// The key of an account's webhooks in the inbox.
    fn key<'n>(&'n self, name: &'n str) -> &'n str {
        key_of(&self.config.name, name)
    }
}

/// So much time is between two legs that begin: a node that takes a hundred accounts over opens as many sockets and walks, and
/// the provider answers 429 to too many (`api-spec/errors`). The first of them do not wait.
const BEGIN_EVERY: Duration = Duration::from_millis(20);

/// Spreads what is opened at the provider.
#[derive(Debug)]
pub(super) struct Pace(Mutex<Instant>);

impl Default for Pace {
    fn default() -> Self {
        Self(Mutex::new(Instant::now()))
    }
}

/// This many legs begin at once where none did for a while.
const BURST: u32 = 8;

impl Pace {
    /// Waits for the caller's turn.
    async fn turn(&self) {
        let turn = {
            let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = (*next).max(Instant::now().checked_sub(BEGIN_EVERY * BURST).unwrap_or(*next));
            *next = turn + BEGIN_EVERY;
            turn
        };
        sleep_until(turn).await;
    }
}

impl Accounts {
    /// Those of the settings that are of the shard, in their order.
    ///
    /// # Errors
    ///
    /// Status 78 when the provider's address cannot be used.
    pub(super) fn new(
        common: Common,
        secrets: &[AccountSecrets],
        endpoints: Option<watch::Sender<Arc<Endpoints>>>,
    ) -> Result<Self, Exit> {
        let directory = watch::Sender::default();
        let mut accounts = Self { common, endpoints, directory, list: Vec::new() };
        for secrets in accounts.common.mine(secrets) {
            let live = Some(accounts.live(secrets)?);
            let line = accounts.line(accounts.list.len(), &secrets.name);
            accounts.list.push(Line { live, ..line });
        }
        accounts.tell();
        for line in accounts.list.iter().filter(|line| !line.name.is_empty()) {
            let websocket = accounts.common.config.websocket.enabled.then_some(Leg::Websocket);
            for leg in [Leg::Backfill].into_iter().chain(websocket) {
                accounts.common.health.set_leg(line.intake.account(), leg, LegState::Connecting);
            }
        }
        Ok(accounts)
    }

    /// Their names, in their order.
    pub(super) fn names(&self) -> Vec<String> {
        self.list.iter().map(|line| line.name.clone()).collect()
    }

    /// The accounts by the keys of their webhooks, now and later.
    pub(super) fn directory(&self) -> watch::Receiver<Arc<Directory>> {
        self.directory.subscribe()
    }

    /// A node took webhooks of an account that the settings here do not name, or not yet: its events are published, and nothing
    /// else is done for it. False where there are too many.
    pub(super) fn introduce(&mut self, key: &str) -> bool {
        let place = self.list.len();
        if self.list.iter().any(|line| self.common.key(&line.name) == key) {
            return true;
        }
        if place >= ACCOUNTS_MAX {
            warn!(account = key, error = "too many accounts came and went", "account cannot be added");
            return false;
        }
        let line = self.line(place, key);
        let config = &self.common.config.backfill;
        let (first_start, overlap) = (config.first_start, config.overlap);
        let admission = Admission { name: key.to_owned(), first_start, overlap, served: false };
        if line.intake.admit(Arc::new(admission), line.position.clone()).is_ok() {
            warn!(account = key, "webhooks of an account that the settings do not name: they are published");
            self.list.push(line);
            self.tell();
        }
        true
    }

    /// What the loop has to know of each; `names` are all that the start found, those of the settings first.
    pub(super) fn known(&mut self, names: impl IntoIterator<Item = String>) -> Vec<Served> {
        for name in names.into_iter().skip(self.list.len()) {
            let line = self.line(self.list.len(), &name);
            self.list.push(line);
        }
        self.tell();
        self.list
            .iter()
            .map(|Line { name, position, .. }| Served { name: name.clone(), position: position.clone() })
            .collect()
    }

    /// Starts the legs of those that the settings name.
    pub(super) fn start(&self, tasks: &mut JoinSet<bool>) {
        for line in &self.list {
            if let Some(live) = &line.live {
                self.spawn_legs(line, live, tasks);
            }
        }
    }

    /// These are the accounts from now on: new secrets of those that are there, the legs of those that come, and the end of
    /// those that go.
    pub(super) fn renew(&mut self, secrets: &[AccountSecrets], tasks: &mut JoinSet<bool>) {
        let secrets: Vec<_> = self.common.mine(secrets).cloned().collect();
        for line in &mut self.list {
            let gone = !secrets.iter().any(|secrets| secrets.name == line.name);
            if let Some(live) = line.live.take_if(|_| gone) {
                live.stop.cancel();
                live.legs.close();
                line.before = Some(live.legs);
                // An intake that is closed takes nothing more, and the relay ends.
                let _ = line.intake.note(Note::Retired);
                info!(account = line.name, "account removed: what it brought is settled, and no more is taken");
            }
        }
        for secrets in &secrets {
            let place = self.list.iter().position(|line| line.name == secrets.name);
            match place.and_then(|place| self.list.get_mut(place)?.live.as_mut()) {
                Some(live) => {
                    live.reach.api_key.send_replace(secrets.api_key.clone());
                    live.secrets = secrets.clone();
                }
                None => self.add(place, secrets, tasks),
            }
        }
        self.tell();
    }

    fn add(&mut self, place: Option<usize>, secrets: &AccountSecrets, tasks: &mut JoinSet<bool>) {
        let live = match self.live(secrets) {
            Ok(live) => live,
            Err(error) => return warn!(account = secrets.name, %error, "account cannot be added"),
        };
        let place = place.unwrap_or(self.list.len());
        if place >= ACCOUNTS_MAX {
            return warn!(account = secrets.name, error = "too many accounts came and went", "account cannot be added");
        }
        let before = self.list.get_mut(place).and_then(|line| line.before.take());
        let line = Line { before, ..self.line(place, &secrets.name) };
        let config = &self.common.config.backfill;
        let name = secrets.name.clone();
        let (first_start, overlap) = (config.first_start, config.overlap);
        let admission = Admission { name, first_start, overlap, served: true };
        if line.intake.admit(Arc::new(admission), line.position.clone()).is_err() {
            // The relay ends.
            return;
        }
        info!(account = secrets.name, "account added");
        self.spawn_legs(&line, &live, tasks);
        let line = Line { live: Some(live), ..line };
        match self.list.get_mut(place) {
            Some(known) => *known = line,
            None => self.list.push(line),
        }
    }

    /// An account that is not served yet.
    fn line(&self, place: usize, name: &str) -> Line {
        let intake = self.common.intake.of(Account::at(place), name);
        Line { name: name.to_owned(), intake, position: watch::Sender::default(), live: None, before: None }
    }

    fn live(&self, secrets: &AccountSecrets) -> Result<Live, Exit> {
        let Common { config, ways, stop, .. } = &self.common;
        let reach = ways.of(config, secrets.api_key.clone())?;
        Ok(Live { secrets: secrets.clone(), reach, stop: stop.child_token(), legs: TaskTracker::new() })
    }

    /// Announces to the listener, operators and metrics which accounts there are.
    fn tell(&self) {
        let Common { config, health, metrics, door, shard, .. } = &self.common;
        let mut endpoints = Vec::new();
        let mut directory = Directory::new();
        for Line { name, intake, live, .. } in &self.list {
            health.set_account(intake.account(), name, live.is_some());
            let known = Known { intake: intake.clone(), served: live.is_some() };
            directory.insert(self.common.key(name).to_owned(), known);
            if let Some(Live { secrets, .. }) = live {
                let secrets = Arc::from(secrets.webhook.as_slice());
                let intake = door.as_ref().map_or_else(|| intake.clone(), |door| door.of(name));
                endpoints.push(Endpoint { intake, secrets });
            }
        }
        metrics.accounts(shard.number, endpoints.len());
        self.common.intake.share_among(endpoints.len());
        self.directory.send_replace(Arc::new(directory));
        if let Some(told) = &self.endpoints {
            door.iter().for_each(|door| door.share_among(endpoints.len()));
            told.send_replace(Arc::new(Endpoints::new(&config.webhook, endpoints)));
        }
    }

    fn spawn_legs(&self, line: &Line, live: &Live, tasks: &mut JoinSet<bool>) {
        let Common { config, ways, health, metrics, .. } = &self.common;
        let stop = &live.stop;
        let intake = line.intake.clone();
        let account = intake.account();
        let walks = Walks::default();
        let position = line.position.subscribe();
        let backfill = Backfill {
            settings: config.backfill.clone(),
            rest: Arc::clone(&live.reach.rest),
            intake: intake.clone(),
            clock: Arc::clone(&ways.clock),
            position: position.clone(),
            walks: walks.clone(),
            metrics: Arc::clone(metrics),
            health: Arc::clone(health),
            stop: stop.clone(),
        };
        self.spawn(Leg::Backfill, line, live, backfill.run(), tasks);
        // Also when the stream does not come up.
        walks.ask();
        if !config.websocket.enabled {
            health.set_leg(account, Leg::Websocket, LegState::Disabled);
            // No stream, no gap that is still open because of it. The loop lives, so its intake takes the note.
            let _ = intake.note(Note::WebsocketUp { at_ms: ways.clock.provider_ms() });
            return;
        }
        let websocket = Websocket {
            dialer: live.reach.dialer(config),
            hold_max: config.backfill.hold_max,
            kinds: Kinds::default(),
            position: position.clone(),
            walks,
            clock: Arc::clone(&ways.clock),
            intake,
            health: Arc::clone(health),
            metrics: Arc::clone(metrics),
            stop: stop.clone(),
        };
        self.spawn(Leg::Websocket, line, live, websocket.run(), tasks);
    }

    /// Runs a leg once the loop has given it a place to begin, and those of an earlier life have ended. The task
    /// returns whether it was asked to end.
    fn spawn(
        &self,
        leg: Leg,
        line: &Line,
        live: &Live,
        run: impl Future<Output = ()> + Send + 'static,
        tasks: &mut JoinSet<bool>,
    ) {
        let Common { health, metrics, stop: all, pace, .. } = self.common.clone();
        let (account, seat) = (line.intake.account(), line.intake.seat());
        let (before, stop) = (line.before.clone(), live.stop.clone());
        let mut position = line.position.subscribe();
        if before.is_none() {
            metrics.leg_connected(seat, leg, false);
        }
        if !line.name.is_empty() {
            health.set_leg(account, leg, LegState::Connecting);
        }
        tasks.spawn(live.legs.track_future(async move {
            let ready = async {
                if let Some(before) = before {
                    before.wait().await;
                    metrics.leg_connected(seat, leg, false);
                }
                let begins = position.wait_for(|position| position.walk_from_ms.is_some()).await.is_ok();
                pace.turn().await;
                begins
            };
            let begins = tokio::select! {
                () = stop.cancelled() => false,
                begins = ready => begins,
            };
            if begins {
                run.await;
            }
            // What the leg reported last is no connection that somebody waits for, unless the relay stops.
            if stop.is_cancelled() && !all.is_cancelled() {
                metrics.legs_ended(seat);
            }
            stop.is_cancelled()
        }));
    }
}

/// Shows every account of the settings that has a name, and its shard, for as long as they may be renewed.
pub(super) async fn show_accounts(
    config: Config,
    mut account_secrets: watch::Receiver<Vec<AccountSecrets>>,
    board: Arc<Board>,
) {
    loop {
        let shard = |name: &str| Shard::of(&config.name, name, config.cluster.shards).number;
        let of = |of: &AccountSecrets| (!of.name.is_empty()).then(|| (of.name.clone(), shard(&of.name)));
        let accounts = account_secrets.borrow_and_update().iter().filter_map(of).collect();
        board.set_accounts(accounts);
        if account_secrets.changed().await.is_err() {
            return;
        }
    }
}

/// Keeps `ready` as the relay is, and `account_connected` as the legs of accounts with names are, until `stop`.
pub(super) async fn watch_health(health: Arc<Health>, metrics: Arc<Metrics>, stop: CancellationToken) {
    let mut snapshots = health.subscribe();
    let mut told = BTreeSet::new();
    loop {
        let snapshot = snapshots.borrow_and_update().clone();
        metrics.ready(snapshot.phase == Phase::Ready);
        tell_connected(&snapshot, &metrics, &mut told);
        tokio::select! {
            () = stop.cancelled() => return,
            changed = snapshots.changed() => if changed.is_err() { return },
        }
    }
}

fn tell_connected(snapshot: &Snapshot, metrics: &Metrics, told: &mut BTreeSet<String>) {
    let served = || snapshot.accounts.values().filter(|of| of.served && !of.name.is_empty());
    let names: BTreeSet<String> = served().map(|of| of.name.clone()).collect();
    told.difference(&names).for_each(|name| metrics.forget_account(name));
    *told = names;
    for of in served() {
        let is_up = |leg: Leg| matches!(of.legs[leg as usize].0, LegState::Connected | LegState::Disabled);
        metrics.account_connected(&of.name, is_up(Leg::Websocket) && is_up(Leg::Backfill));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_of_legs_begins_at_once_and_the_others_at_the_pace() {
        let pace = Pace::default();
        sleep_until(Instant::now() + Duration::from_secs(60)).await;
        for _ in 0..2 {
            let began = Instant::now();
            let mut ms = Vec::new();
            for _ in 0..100 {
                pace.turn().await;
                ms.push(began.elapsed().as_millis());
            }
            assert_eq!(ms.iter().filter(|ms| **ms == 0).count(), 1 + BURST as usize);
            assert_eq!(ms[98..], [20 * 90, 20 * 91], "50 a second");
            sleep_until(Instant::now() + BEGIN_EVERY * (BURST + 1)).await;
        }
    }
}

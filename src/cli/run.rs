//! `run`: the daemon, and the signals and the service manager around it.

use super::Context;
use super::args::{When, parse_past};
use crate::clock::now_ms;
use crate::config;
use crate::daemon::{Daemon, Setup};
use crate::exit::Exit;
use crate::heap;
use crate::kafka::Broker;
use crate::kafka::client::Tuning;
use crate::listener::{self, descriptors};
use crate::telemetry::logs::Logs;
use crate::telemetry::{Notify, Phase};
use clap::Args;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

/// Arguments of `run`.
#[derive(Args, Debug)]
pub struct Run {
    /// Drop the cursor, and start a duration ago (`36h`) or at a time (RFC 3339)
    ///
    /// Use it once, for a wrong cursor or an emptied control topic: the first walk then fetches everything since
    /// that time that the provider's log holds. What the relay remembers is not published again; with an emptied
    /// control topic it remembers nothing.
    #[arg(long, value_name = "TIME", value_parser = parse_past)]
    pub from: Option<When>,
}

/// How long questions that nobody waits for any more may take to end.
const GOODBYE: Duration = Duration::from_secs(1);

/// What a stop may take beyond `shutdown.deadline`: giving up what is with Kafka, goodbyes, and the last lines.
const DEADLINE_SLACK: Duration = Duration::from_secs(10);

/// How long the last lines may take to be read.
const LAST_LINES_WITHIN: Duration = Duration::from_secs(1);

/// Threads for sockets on this many cores: half as many. The others are for the relay's thread, the producer's and
/// librdkafka's, and strangers who keep these busy leave them alone. On two cores a second one costs up to an eighth
/// more processor time an event, and brings no more events.
fn io_threads(cores: usize) -> usize {
    (cores / 2).max(1)
}

/// Relays until SIGTERM or SIGINT; a second one leaves at once.
///
/// # Errors
///
/// Status 78 with every mistake of the settings; else what ended the relay.
pub(super) fn run(arguments: &Run, settings: Context) -> Result<(), Exit> {
    heap::keep_freed();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let log = &settings.config.log;
    let logs = Logs::init_queued(&log.level, log.format).map_err(|error| Exit::failed(error.to_string()))?;
    settings.warnings.iter().for_each(|warning| warn!("{warning}"));
    if let Err(error) = descriptors::raise_limit() {
        warn!(%error, "the limit of open files cannot be raised");
    }
    if let Some(shortage) = super::check::shortage(&settings.config.webhook) {
        warn!("{shortage}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(io_threads(cores))
        .enable_all()
        .build()
        .map_err(|error| Exit::failed(format!("cannot start: {error}")))?;
    let ended = runtime.block_on(serve(arguments, settings, &logs));
    // A question to a Kafka that does not answer ends by itself only after 10 s; nothing depends on it any more. One that
    // is about to end may: a client that is closed while the process takes OpenSSL down would crash it.
    runtime.shutdown_timeout(GOODBYE);
    // A reader that has stalled reads no last word either; to write it would hold the end up.
    if logs.flush(LAST_LINES_WITHIN) { ended } else { ended.map_err(|exit| exit.with(|_| String::new())) }
}

async fn serve(arguments: &Run, settings: Context, logs: &Logs) -> Result<(), Exit> {
    let Context { mut config, secrets, sources, .. } = settings;
    let listen =
        |kind: SignalKind| signal(kind).map_err(|error| Exit::failed(format!("cannot wait for signals: {error}")));
    let (mut term, mut int, mut hup) =
        (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?, listen(SignalKind::hangup())?);
    let notify = Notify::from_process().unwrap_or_else(|error| {
        warn!(%error, "NOTIFY_SOCKET leads nowhere: no service manager is notified");
        Notify::default()
    });
    let from_ms = arguments.from.map(|from| from.unix_ms(now_ms()));
    let setup =
        Setup { config: config.clone(), secrets, broker: Broker::Configured, tuning: Tuning::default(), from_ms };
    let socket = listener::handed_over().map_err(|error| {
        Exit::settings(format!(
            "the socket that systemd hands over cannot take webhooks ({error}); let it listen on TCP"
        ))
    })?;
    let mut daemon = Daemon::start_on(setup, socket).await?;
    logs.count_on(&daemon.metrics);
    let mut health = daemon.health.subscribe();
    // What it is at the beginning is no change, and a start that waits for Kafka stays there.
    notify.health(&health.borrow_and_update());
    let mut watchdog = notify.watchdog_every().map(interval);
    if let Some(watchdog) = &mut watchdog {
        watchdog.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    let mut ready = false;
    let mut stopping = false;
    loop {
        tokio::select! {
            ended = daemon.ended() => return ended,
            () = stop_signal(&mut term, &mut int) => {
                if std::mem::replace(&mut stopping, true) {
                    return Err(Exit::failed("left at once, as the second signal asks; the provider still holds what was inside"));
                }
                notify.stopping(config.shutdown.deadline + DEADLINE_SLACK);
                daemon.stop();
            }
            _ = hup.recv(), if !stopping => {
                // Before readiness there is none to be announced again.
                reload(&mut config, &sources, logs, &daemon, ready.then_some(&notify));
            }
            changed = health.changed() => {
                if changed.is_ok() {
                    let snapshot = health.borrow_and_update().clone();
                    if snapshot.phase == Phase::Ready && !std::mem::replace(&mut ready, true) {
                        notify.ready();
                    }
                    notify.health(&snapshot);
                }
            }
            () = tick(watchdog.as_mut()) => {
                // A loop that is stuck is not fed for, and the service manager restarts the relay.
                if daemon.health.is_alive(Instant::now()) {
                    notify.watchdog();
                }
            }
        }
    }
}

async fn stop_signal(term: &mut Signal, int: &mut Signal) {
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

async fn tick(watchdog: Option<&mut tokio::time::Interval>) {
    match watchdog {
        Some(watchdog) => drop(watchdog.tick().await),
        None => std::future::pending().await,
    }
}

/// Secrets and `log.level` again; with any mistake everything stays as it is.
fn reload(
    config: &mut config::Config,
    sources: &config::Sources,
    logs: &Logs,
    daemon: &Daemon,
    notify: Option<&Notify>,
) {
    notify.inspect(|notify| notify.reloading());
    match config::reload(config, sources) {
        Ok(reloaded) => {
            if let Err(error) = daemon.renew(&reloaded.secrets) {
                error!("not reloaded, everything stays as it was: {error}");
                notify.inspect(|notify| notify.ready());
                return;
            }
            if let Err(error) = logs.set_level(&reloaded.config.log.level) {
                error!(%error, "log.level cannot be changed");
            }
            reloaded.warnings.iter().for_each(|warning| warn!("{warning}"));
            if !reloaded.waiting.is_empty() {
                warn!(keys = reloaded.waiting.join(", "), "changed settings wait for a restart");
            }
            *config = reloaded.config;
            info!("reloaded");
        }
        Err(mistakes) => error!("not reloaded, everything stays as it was: {mistakes}"),
    }
    notify.inspect(|notify| notify.ready());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_cores_are_left_to_others_and_sockets_have_a_thread_on_one() {
        assert_eq!([1, 2, 3, 4, 64].map(io_threads), [1, 1, 1, 2, 32]);
    }
}

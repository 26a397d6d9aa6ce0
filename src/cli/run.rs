//! `run`: the daemon, and the signals and the service manager around it.

use super::{Settings, args};
use crate::clock::now_ms;
use crate::config;
use crate::daemon::{Daemon, Setup};
use crate::exit::Exit;
use crate::kafka::Broker;
use crate::kafka::client::Tuning;
use crate::telemetry::logs::Logs;
use crate::telemetry::{Notify, Phase};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

/// What each thread may keep of what it freed: a commit of a few hundred events. Whatever frees larger blocks raises it.
const KEPT_BYTES: usize = 2 << 20;

/// How long questions that nobody waits for any more may take to end.
const GOODBYE: Duration = Duration::from_secs(1);

/// Has glibc keep what a commit frees for the next one. By default a thread gives all but 128 KiB back to the kernel, and each
/// page of it costs a fault when it is needed again: 1.4 an event with 64 senders of webhooks, a tenth of the processor time.
///
/// The first large block that is freed sets the threshold to twice its size (mallopt(3), `M_MMAP_THRESHOLD`). This one is never
/// touched, so it takes no memory itself; with another allocator it does nothing.
fn keep_freed_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(KEPT_BYTES / 2)));
}

/// Threads for sockets: half of the cores. The others are for the relay's thread, the producer's and librdkafka's, and strangers
/// who keep these ones busy leave them alone. On two cores a second one costs a tenth more processor time and is no faster.
fn io_threads() -> usize {
    (std::thread::available_parallelism().map_or(1, usize::from) / 2).max(1)
}

/// Relays until SIGTERM or SIGINT; a second one leaves at once.
///
/// # Errors
///
/// Status 78 with every mistake of the settings; else what ended the relay.
pub(super) fn run(arguments: &args::Run, settings: Settings) -> Result<(), Exit> {
    keep_freed_memory();
    let log = &settings.config.log;
    let logs = Logs::init(&log.level, log.format).map_err(|error| Exit::failed(error.to_string()))?;
    settings.warnings.iter().for_each(|warning| warn!("{warning}"));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(io_threads())
        .enable_all()
        .build()
        .map_err(|error| Exit::failed(format!("cannot start: {error}")))?;
    let ended = runtime.block_on(serve(arguments, settings, &logs));
    // A question to a Kafka that does not answer ends by itself only after 10 s; nothing depends on it any more. One that
    // is about to end may: a client that is closed while the process takes OpenSSL down would crash it.
    runtime.shutdown_timeout(GOODBYE);
    ended
}

async fn serve(arguments: &args::Run, settings: Settings, logs: &Logs) -> Result<(), Exit> {
    let Settings { mut config, secrets, sources, .. } = settings;
    let listen =
        |kind: SignalKind| signal(kind).map_err(|error| Exit::failed(format!("cannot wait for signals: {error}")));
    let (mut term, mut int, mut hup) =
        (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?, listen(SignalKind::hangup())?);
    let notify = Notify::from_process().map_err(|error| Exit::failed(format!("NOTIFY_SOCKET: {error}")))?;
    let from_ms = arguments.from.map(|from| from.unix_ms(now_ms()));
    let setup =
        Setup { config: config.clone(), secrets, broker: Broker::Configured, tuning: Tuning::default(), from_ms };
    let mut daemon = Daemon::start(setup).await?;
    let mut health = daemon.health.subscribe();
    // What it is at the beginning is no change, and a start that waits for Kafka stays there.
    notify.health(&health.borrow_and_update());
    let mut watchdog = notify.watchdog_every().map(interval);
    if let Some(watchdog) = &mut watchdog {
        watchdog.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    let (mut ready, mut stopping) = (false, false);
    loop {
        tokio::select! {
            ended = daemon.ended() => return ended,
            () = stop_signal(&mut term, &mut int) => {
                if std::mem::replace(&mut stopping, true) {
                    return Err(Exit::failed("left at once, as the second signal asks; the provider still holds what was inside"));
                }
                notify.stopping();
                daemon.stop();
            }
            _ = hup.recv(), if !stopping => {
                // Before readiness there is none to be told anew.
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
                if daemon.health.is_alive(now_ms()) {
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

/// Secrets and `log.level` anew; with any mistake everything stays as it is.
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

    /// Page faults of this thread so far that needed no disk (proc_pid_stat(5), the tenth field).
    fn faults() -> u64 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap_or_default();
        let fields = stat.rsplit_once(") ").map(|(_, fields)| fields.split_whitespace());
        fields.and_then(|mut fields| fields.nth(7)).and_then(|count| count.parse().ok()).unwrap_or_default()
    }

    #[test]
    fn what_a_commit_frees_is_not_taken_from_the_kernel_again() {
        keep_freed_memory();
        let commit = || drop((0..64).map(|_| std::hint::black_box(vec![1_u8; 16 << 10])).collect::<Vec<_>>());
        // A thread of its own has a heap of its own.
        let commits = std::thread::spawn(move || {
            commit();
            let before = faults();
            (0..100).for_each(|_| commit());
            (before, faults() - before)
        });
        let (before, during) = commits.join().unwrap_or_default();
        // A hundred times the 256 pages of a commit otherwise.
        assert!(before > 0 && during < 1_000, "{during} after {before}");
    }

    #[test]
    fn sockets_have_a_thread_on_any_machine_and_never_all_cores() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        assert!(io_threads() >= 1 && (io_threads() < cores || cores == 1));
    }
}

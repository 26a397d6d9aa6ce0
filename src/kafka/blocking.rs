//! Blocking work alongside the async runtime, which ends soon after nobody waits for it any more.

use super::cause::Cause;
use super::errors::StartError;
use std::convert::Infallible;
use std::ops::Deref;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Between two attempts while Kafka is away: short alongside a broker's restart, long alongside a request.
pub(super) const RETRY_AFTER: Duration = Duration::from_millis(500);
/// As long as for an outage: longer than a leader election with a fast controller.
const REPORTED_AFTER: Duration = Duration::from_secs(3);

/// Why blocking work did not come to its end.
#[derive(Debug)]
pub(super) enum AskError {
    /// Kafka does not answer now; trying again is right.
    Away(String),
    /// Trying again is of no use.
    Start(StartError),
    /// Nobody waits for it any more.
    Cancelled,
}

impl From<StartError> for AskError {
    fn from(error: StartError) -> Self {
        Self::Start(error)
    }
}

impl From<AskError> for StartError {
    fn from(trouble: AskError) -> Self {
        match trouble {
            AskError::Away(detail) => {
                let general = "see that kafka.bootstrap_servers is right, and can be reached from here";
                let remedy = Cause::of(&detail).map_or(general, Cause::remedy);
                Self::Failed(format!("Kafka does not answer: {detail}; {remedy}"))
            }
            AskError::Start(error) => error,
            AskError::Cancelled => Self::Failed("stopped while waiting for Kafka".to_owned()),
        }
    }
}

/// Signals to blocking work that nobody waits for it any more.
#[derive(Clone, Debug, Default)]
pub(super) struct Cancel {
    state: Arc<(Mutex<bool>, Condvar)>,
}

impl Cancel {
    /// From now on the work is not wanted.
    pub(super) fn set(&self) {
        *self.state.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.state.1.notify_all();
    }

    /// Whether the work is not wanted any more.
    pub(super) fn is_set(&self) -> bool {
        *self.state.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits, at most `duration`; an error when the work is not wanted any more.
    pub(super) fn wait(&self, duration: Duration) -> Result<(), AskError> {
        let guard = self.state.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.state.1.wait_timeout_while(guard, duration, |cancelled| !*cancelled);
        let (cancelled, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if *cancelled { Err(AskError::Cancelled) } else { Ok(()) }
    }

    /// An error when the work is not wanted any more.
    pub(super) fn check(&self) -> Result<(), AskError> {
        if self.is_set() { Err(AskError::Cancelled) } else { Ok(()) }
    }
}

/// Asks until Kafka answers, every [`RETRY_AFTER`]; `waiting` gets each reason why it did not. Both are given `state`.
pub(super) fn patiently<S, T>(
    cancel: &Cancel,
    state: &mut S,
    mut ask: impl FnMut(&mut S) -> Result<T, AskError>,
    mut waiting: impl FnMut(&mut S, &str),
) -> Result<T, AskError> {
    loop {
        match ask(state) {
            Err(AskError::Away(detail)) => waiting(state, &detail),
            answer => return answer,
        }
        cancel.wait(RETRY_AFTER)?;
    }
}

/// The same where a start asks after its claim, and nobody else reports that Kafka does not answer: it is logged once, with the
/// remedy where there is one.
pub(super) fn patiently_from_start<T>(
    cancel: &Cancel,
    mut ask: impl FnMut() -> Result<T, AskError>,
) -> Result<T, AskError> {
    let began = Instant::now();
    let mut reported = false;
    let waiting = |reported: &mut bool, detail: &str| {
        if began.elapsed() >= REPORTED_AFTER && !std::mem::replace(reported, true) {
            tracing::warn!(detail, remedy = Cause::of(detail).map(Cause::remedy), "the start waits for kafka");
        }
    };
    patiently(cancel, &mut reported, |_| ask(), waiting)
}

/// Cancels when dropped, as a future is that nobody awaits any more.
#[derive(Debug)]
pub(super) struct CancelOnDrop(pub(super) Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// Runs `work` on the runtime's blocking threads; dropping the future cancels it.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce(&Cancel) -> Result<T, AskError> + Send + 'static,
) -> Result<T, StartError> {
    let cancel = Cancel::default();
    let _guard = CancelOnDrop(cancel.clone());
    match tokio::task::spawn_blocking(move || work(&cancel)).await {
        Ok(result) => result.map_err(StartError::from),
        Err(panicked) => Err(StartError::Failed(format!("a Kafka thread failed: {panicked}"))),
    }
}

/// A client that nobody waits for when it is dropped: a blocking thread closes it, which takes 100 ms, since rust-rdkafka looks
/// that often whether librdkafka is done (`BaseConsumer::drop`, `AdminClient::drop`).
pub(super) struct Aside<C: Send + Sync + 'static> {
    client: Arc<C>,
    /// Ends once `client` is dropped here, so that the other thread is the last to hold it.
    _held: oneshot::Sender<Infallible>,
    released: Option<oneshot::Receiver<Infallible>>,
}

impl<C: Send + Sync + 'static> Aside<C> {
    pub(super) fn new(client: C) -> Self {
        let (held, released) = oneshot::channel();
        Self { client: Arc::new(client), _held: held, released: Some(released) }
    }
}

impl<C: Send + Sync + 'static> Deref for Aside<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.client
    }
}

impl<C: Send + Sync + 'static> Drop for Aside<C> {
    fn drop(&mut self) {
        // Without a runtime, or after its end, it is closed here.
        let (Some(released), Ok(runtime)) = (self.released.take(), Handle::try_current()) else { return };
        let client = Arc::clone(&self.client);
        drop(runtime.spawn_blocking(move || {
            drop(released.blocking_recv());
            drop(client);
        }));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]
    use super::*;
    use std::sync::mpsc;

    #[tokio::test]
    async fn dropping_the_future_ends_the_work() {
        let (told, tell) = mpsc::channel();
        let work = blocking(move |cancel| {
            told.send("begun").unwrap();
            let waited = cancel.wait(Duration::from_secs(60));
            told.send(if matches!(waited, Err(AskError::Cancelled)) { "cancelled" } else { "waited" }).unwrap();
            waited
        });
        let handle = tokio::spawn(work);
        let tell = tokio::task::spawn_blocking(move || {
            assert_eq!(tell.recv().unwrap(), "begun");
            tell
        });
        let tell = tell.await.unwrap();
        handle.abort();
        let end = tokio::task::spawn_blocking(move || tell.recv().unwrap()).await.unwrap();
        assert_eq!(end, "cancelled");
    }

    #[tokio::test]
    async fn a_client_is_closed_by_another_thread() {
        /// Closing it ends only when it may.
        struct Slow(mpsc::SyncSender<()>, std::sync::Mutex<mpsc::Receiver<()>>);
        impl Drop for Slow {
            fn drop(&mut self) {
                self.1.lock().unwrap().recv().unwrap();
                self.0.send(()).unwrap();
            }
        }
        let (closed, is_closed) = mpsc::sync_channel(1);
        let (go, may_go) = mpsc::channel();
        drop(Aside::new(Slow(closed, may_go.into())));
        assert_eq!(is_closed.try_recv(), Err(mpsc::TryRecvError::Empty));
        go.send(()).unwrap();
        tokio::task::spawn_blocking(move || is_closed.recv().unwrap()).await.unwrap();
    }
}

//! Log lines on their way to a reader that may stall: a bounded queue, and a thread that writes.
//!
//! A pipe whose reader stops takes 64 KiB and then blocks its writer, holding stderr's lock: the relay's loop, its
//! answers and its signals with it. So nobody but one thread writes. What finds no room is dropped and counted, and a line
//! has their number once there is room again.
//!
//! `tracing-appender` does much of this, but bounds lines instead of bytes, does not report what it dropped, and at the
//! end of the process prints to stdout, where the same reader may have stopped.

use prometheus_client::metrics::counter::Counter;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tracing_subscriber::fmt::MakeWriter;

/// Bytes of lines that wait: some ten thousand lines, a second of `debug` under load. Beyond it lines are dropped.
const BYTES_MAX: usize = 4 << 20;

/// What was dropped is reported when no more than this waits, so that the line finds room.
const TELL_BELOW: usize = BYTES_MAX / 2;

/// The queue; its clones are one.
#[derive(Clone, Debug, Default)]
pub(super) struct LogQueue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    filled: Condvar,
    written: Condvar,
    /// Every dropped line.
    dropped: Counter,
    /// The same, once there are metrics.
    metric: OnceLock<Counter>,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    /// Of the lines that wait and of the one that is being written.
    bytes: usize,
    /// Dropped and not reported yet.
    untold: u64,
}

impl LogQueue {
    /// A queue whose lines a thread of its own writes to `out`.
    pub(super) fn to(mut out: impl Write + Send + 'static) -> io::Result<Self> {
        let queue = Self::default();
        let writer = queue.clone();
        std::thread::Builder::new().name("log".to_owned()).spawn(move || {
            loop {
                let line = writer.next();
                // Nobody can be reached when stderr is gone; who waits for a line to be out goes on.
                let _ = out.write_all(&line).and_then(|()| out.flush());
                let untold = writer.written(line.len());
                if untold > 0 {
                    tracing::warn!(lines = untold, "log lines dropped: their reader is too slow");
                }
            }
        })?;
        Ok(queue)
    }

    /// Also counts dropped lines here, and those dropped before.
    pub(super) fn count_on(&self, metric: Counter) {
        metric.inc_by(self.0.dropped.get());
        // A process has one set of metrics.
        let _ = self.0.metric.set(metric);
    }

    /// Waits until every line is written, at most `within`; whether it is so.
    pub(super) fn flush(&self, within: Duration) -> bool {
        let state = self.lock();
        let waited = self.0.written.wait_timeout_while(state, within, |state| state.bytes > 0);
        waited.unwrap_or_else(PoisonError::into_inner).0.bytes == 0
    }

    fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.bytes.saturating_add(line.len()) > BYTES_MAX {
            state.untold = state.untold.saturating_add(1);
            self.0.dropped.inc();
            if let Some(metric) = self.0.metric.get() {
                metric.inc();
            }
            return;
        }
        state.bytes += line.len();
        state.lines.push_back(line.to_vec());
        self.0.filled.notify_one();
    }

    /// The next line, once there is one.
    fn next(&self) -> Vec<u8> {
        let mut state = self.lock();
        loop {
            if let Some(line) = state.lines.pop_front() {
                return line;
            }
            state = self.0.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// `bytes` bytes are out; returns how many lines were dropped, where that is to be reported now.
    fn written(&self, bytes: usize) -> u64 {
        let mut state = self.lock();
        state.bytes = state.bytes.saturating_sub(bytes);
        if state.bytes == 0 {
            self.0.written.notify_all();
        }
        if state.bytes <= TELL_BELOW { std::mem::take(&mut state.untold) } else { 0 }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for LogQueue {
    /// A whole line, as `tracing-subscriber` writes it; never waits, never fails.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for LogQueue {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]
    use super::*;
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    /// A reader that takes a line whenever it is asked to.
    struct Reader(SyncSender<Vec<u8>>);

    impl Write for Reader {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.send(line.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn stalled() -> (LogQueue, Receiver<Vec<u8>>) {
        let (sender, receiver) = sync_channel(0);
        (LogQueue::to(Reader(sender)).unwrap(), receiver)
    }

    #[test]
    fn a_reader_that_stalls_costs_lines_and_no_time_and_they_are_counted() {
        let (mut queue, reader) = stalled();
        let line = vec![b'x'; 1 << 20];
        for _ in 0..7 {
            queue.write_all(&line).unwrap();
        }
        let metric = Counter::default();
        queue.count_on(metric.clone());
        assert_eq!(metric.get(), 3, "four lines of a MiB wait");
        queue.write_all(&line).unwrap();
        assert_eq!((metric.get(), queue.0.dropped.get()), (4, 4));
        assert!(!LogQueue::flush(&queue, Duration::ZERO), "nobody reads");
        for _ in 0..4 {
            assert_eq!(reader.recv().unwrap().len(), line.len());
        }
        assert!(LogQueue::flush(&queue, Duration::from_secs(10)));
    }

    #[test]
    fn lines_come_whole_and_in_their_order_and_what_is_missing_is_reported_once() {
        let (queue, reader) = stalled();
        queue.0.state.lock().unwrap().untold = 5;
        let tell = |bytes| queue.written(bytes);
        queue.push(b"one\n");
        queue.push(b"two\n");
        assert_eq!((reader.recv().unwrap(), reader.recv().unwrap()), (b"one\n".to_vec(), b"two\n".to_vec()));
        assert!(LogQueue::flush(&queue, Duration::from_secs(10)));
        assert_eq!(tell(0), 0, "the writer has told it");
        queue.0.state.lock().unwrap().untold = 2;
        queue.0.state.lock().unwrap().bytes = BYTES_MAX;
        assert_eq!(tell(0), 0, "there is no room for the line");
        assert_eq!((tell(BYTES_MAX - TELL_BELOW), tell(0)), (2, 0));
    }

    #[test]
    fn a_reader_that_is_gone_holds_nobody_up() {
        let (queue, reader) = stalled();
        drop(reader);
        queue.push(b"one\n");
        assert!(LogQueue::flush(&queue, Duration::from_secs(10)));
    }
}

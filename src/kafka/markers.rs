//! Whether Kafka is done with the last transaction, so that the next one may begin.
//!
//! A commit is answered before its markers are written (KIP-98, "Data Flow", 5.2). Until they are, the coordinator refuses the
//! partitions of the next transaction (`CONCURRENT_TRANSACTIONS`), and librdkafka asks again 20 ms later
//! (`rd_kafka_txn_handle_AddPartitionsToTxn`, rdkafka_txnmgr.c), which is five times as long as a commit takes. The markers
//! take a millisecond; so it is cheaper to ask whether they are there: the end of the control partition for readers of what is
//! committed moves with its marker. By then the other partitions mostly have theirs; on several brokers one may be late, and
//! librdkafka waits as it would have.

use super::client::Context;
use rdkafka::producer::{BaseProducer, Producer};
use std::time::{Duration, Instant};

/// How long they are looked for at most: as long as librdkafka would wait.
const LOOK_FOR: Duration = Duration::from_millis(20);
/// Between two looks.
const PAUSE: Duration = Duration::from_micros(200);
/// Where the fastest of the last commits took longer, Kafka is so far away that a request arrives after the markers.
const NEAR: Duration = Duration::from_millis(3);
/// This many commits are not looked after once a look was in vain.
const UNWATCHED: usize = 16;
/// Commits that are remembered.
const REMEMBERED: usize = 16;

/// The markers of a producer's transactions.
#[derive(Debug, Default)]
pub(super) struct Markers {
    /// The end of what was committed behind the markers of the last transaction; none where that is not known.
    stable: Option<i64>,
    /// How long the last commits took.
    commits: [Option<Duration>; REMEMBERED],
    next: usize,
    /// The last transaction is committed, and its markers were not looked for.
    awaited: bool,
    /// Commits that are not looked after.
    unwatched: usize,
    /// What moved the end last may have been somebody else's transaction: then each look takes the marker of the transaction
    /// before for that of the last, until nothing is written for a while.
    unsure: bool,
}

impl Markers {
    /// A commit was answered, this long after it was asked for.
    pub(super) fn committed(&mut self, took: Duration) {
        self.commits[self.next] = Some(took);
        self.next = (self.next + 1) % REMEMBERED;
        self.awaited = self.unwatched == 0;
        self.unwatched = self.unwatched.saturating_sub(1);
    }

    /// A transaction was aborted: its markers move the end too, sooner or later.
    pub(super) fn aborted(&mut self) {
        self.stable = None;
    }

    /// Nothing has been written for a while: the end is behind the markers now.
    pub(super) fn idle(&mut self, producer: &BaseProducer<Context>, topic: &str, partition: i32) {
        if std::mem::take(&mut self.unsure) && self.is_near() {
            let end = producer.client().fetch_watermarks(topic, partition, LOOK_FOR);
            self.stable = end.ok().map(|(_, stable)| stable);
        }
    }

    /// Waits until the markers of the last transaction are there, or for [`LOOK_FOR`]. What Kafka answers otherwise is the next
    /// transaction's business.
    pub(super) fn wait(&mut self, producer: &BaseProducer<Context>, topic: &str, partition: i32) {
        if !std::mem::take(&mut self.awaited) || !self.is_near() {
            return;
        }
        let began = Instant::now();
        // They are there by then, unless somebody else delays them.
        let mut pause = if self.stable.is_none() { LOOK_FOR } else { Duration::ZERO };
        while let Some(left) = (2 * LOOK_FOR).checked_sub(began.elapsed()) {
            #[expect(
                clippy::disallowed_methods,
                reason = "Kafka tells nobody when they are there; this thread serves nobody else"
            )]
            std::thread::sleep(pause);
            // A producer asks for the end of what is committed, as consumers do without a setting.
            let Ok((_, stable)) = producer.client().fetch_watermarks(topic, partition, left.max(PAUSE)) else { break };
            if self.is_past(stable, began.elapsed()) {
                return;
            }
            pause = PAUSE;
        }
        self.gives_up();
    }

    /// The partition's leader does not answer, or somebody holds the end back.
    fn gives_up(&mut self) {
        self.stable = None;
        self.unwatched = UNWATCHED;
    }

    /// Whether the markers are there, of which readers see `stable` this long after the first look.
    fn is_past(&mut self, stable: i64, waited: Duration) -> bool {
        let moved = self.stable != Some(stable);
        // Another relay's transaction, which is open in the same partition, holds the end back: perhaps for a minute.
        let is_held = !moved && waited >= LOOK_FOR;
        self.stable = Some(stable);
        self.unsure = true;
        if is_held {
            self.gives_up();
        }
        moved || is_held
    }

    fn is_near(&self) -> bool {
        self.commits.iter().flatten().min().is_some_and(|fastest| *fastest <= NEAR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_markers_are_there_once_the_end_has_moved() {
        let mut markers = Markers { stable: Some(7), ..Markers::default() };
        let mut past = |stable, ms| markers.is_past(stable, Duration::from_millis(ms));
        assert_eq!([past(7, 0), past(7, 1), past(9, 2), past(9, 0), past(12, 1)], [false, false, true, false, true]);
        assert!(past(0, 0), "a topic that was made again");
        assert_eq!([past(0, 0), past(0, 19), past(0, 20)], [false, false, true], "held back by somebody else");
        let watched = [(); UNWATCHED + 1].map(|()| {
            markers.committed(Duration::ZERO);
            markers.awaited
        });
        assert_eq!(watched.iter().position(|awaited| *awaited), Some(UNWATCHED), "not looked after for a while");
        assert_eq!(markers.stable, None);
        assert!(markers.is_past(0, LOOK_FOR), "known from here on");
        assert_eq!(markers.stable, Some(0));
    }

    #[test]
    fn a_kafka_that_is_far_away_is_not_asked() {
        let is_near = |all: &[u64]| {
            let mut markers = Markers::default();
            all.iter().for_each(|ms| markers.committed(Duration::from_millis(*ms)));
            markers.is_near()
        };
        assert!(!is_near(&[]) && is_near(&[1]) && is_near(&[1, 30, 30]), "one that is slow now and then is near");
        assert!(!is_near(&[100, 101]));
        let moved: Vec<u64> = [1].into_iter().chain([50; REMEMBERED]).collect();
        assert!(!is_near(&moved), "it was near");
    }
}

//! When the relay's loop sends, waits and ends: a state machine without clock, task or Kafka.
//!
//! It takes in what happened ([`Turn::on`]) and answers what to do now ([`Turn::next`]). Times are durations since one
//! fixed moment, whichever the caller chose. What the pipeline holds comes in as its [`Load`].
//!
//! While one batch commits, the next one gathers (group commit). A checkpoint of its own is sent only while nothing is
//! planned: marks always describe the batch that they leave with, or what is committed already.

use super::pipeline::Load;
use std::time::Duration;

/// How often an idle relay commits a checkpoint: often enough to notice within 15 s that another relay took over.
pub const IDLE_CHECKPOINT_EVERY: Duration = Duration::from_secs(10);

/// Deliveries that are planned between two looks at the producer: about a millisecond's work, so that a commit that is
/// done is soon followed by the next one. With whole batches planned in one go, the producer waited for 40 ms now and then.
pub const TURN_DELIVERIES_MAX: usize = 256;

/// After a commit that answered webhooks, the next batch waits this fraction of the commit's time at most for as many
/// new deliveries as were answered: their senders are free again and about to send. Without it they split into two
/// groups that take turns, each waiting for the other's commit: transactions half as large, and answers twice as late.
pub const GATHER_FRACTION: u32 = 2;

/// The longest such wait: a commit that Kafka delayed does not show how long senders take. Measured with 256 and
/// 1,024 senders: half the time and 8 ms give transactions and throughput a fifth larger than a quarter and 4 ms do.
pub const GATHER_MAX: Duration = Duration::from_millis(8);

/// Once the first of them is there, the others are looked for this often: each of them would wake the loop's thread,
/// which on a small machine costs the sender and the thread as much as half an event does.
pub const GATHER_PAUSE: Duration = Duration::from_micros(200);

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// N deliveries or notes arrived and were handed to the pipeline.
    Arrived(usize),
    /// The intake is closed and empty.
    Closed,
    /// A batch or a checkpoint was handed to the producer.
    Submitted,
    /// What was with the producer has its verdict, and the pipeline knows it.
    Verdict {
        /// Webhooks that were answered because of it; 0 where the batch was refused.
        answered: usize,
    },
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Hand the pipeline's next batch to the producer, then ask again. The pipeline may have none: what was planned was
    /// settled without a transaction.
    Submit,
    /// Hand the pipeline's checkpoint to the producer, then ask again.
    Checkpoint {
        /// Everything is settled, and the relay leaves with it.
        left: bool,
    },
    /// Wait for something to happen, then ask again.
    Wait(Wait),
    /// Everything is settled and saved.
    End,
}

/// What to wait for, alongside a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The time at which to ask again if nothing happened.
    pub until: Duration,
    /// How many deliveries to take at most; none at 0.
    pub room: usize,
    /// Pause for [`GATHER_PAUSE`], look once at what has arrived, and ask again.
    pub pause: bool,
}

/// The state between two turns of the loop.
#[derive(Clone, Debug)]
pub struct Turn {
    idle_every: Duration,
    /// When an idle relay commits its next checkpoint.
    idle_at: Duration,
    /// When the last batch was handed to the producer.
    sent_at: Duration,
    /// The intake may still bring something.
    open: bool,
    /// The last checkpoint was sent, which records that the relay left.
    left: bool,
    gather: Option<Gather>,
}

/// The wait for senders that are free again.
#[derive(Clone, Copy, Debug)]
struct Gather {
    /// New deliveries that end it.
    wanted: usize,
    /// The first of them is there.
    begun: bool,
    /// When it ends without them.
    until: Duration,
}

impl Turn {
    /// Begins at `now`, with nothing under way; an idle relay commits a checkpoint every `idle_every`.
    pub fn new(now: Duration, idle_every: Duration) -> Self {
        let idle_at = now.saturating_add(idle_every);
        Self { idle_every, idle_at, sent_at: now, open: true, left: false, gather: None }
    }

    /// Takes note of what happened at `now`.
    pub fn on(&mut self, now: Duration, event: Event) {
        match event {
            Event::Arrived(count) => {
                if let Some(gather) = &mut self.gather {
                    gather.wanted = gather.wanted.saturating_sub(count);
                    gather.begun = true;
                }
            }
            Event::Closed => self.open = false,
            Event::Submitted => {
                self.sent_at = now;
                self.gather = None;
                self.rest(now);
            }
            Event::Verdict { answered } => self.gather = Gather::after(answered, self.sent_at, now),
        }
    }

    /// What to do at `now`, with this much inside.
    pub fn next(&mut self, now: Duration, load: Load) -> Next {
        let idle = now >= self.idle_at;
        if load.sent {
            if idle {
                // The loop turns also while Kafka is away, and the watchdog sees it.
                self.rest(now);
            }
            return self.wait(load);
        }
        let enough = idle || !self.open || load.room == 0;
        self.gather.take_if(|gather| enough || gather.wanted == 0 || now >= gather.until);
        if self.gather.is_some() {
            return self.wait(load);
        }
        match (load.planned, self.open) {
            (1.., _) => Next::Submit,
            (0, true) if idle => Next::Checkpoint { left: false },
            (0, true) => self.wait(load),
            (0, false) if self.left => Next::End,
            (0, false) => {
                self.left = true;
                Next::Checkpoint { left: true }
            }
        }
    }

    /// The next idle checkpoint is due a whole period from `now`.
    fn rest(&mut self, now: Duration) {
        self.idle_at = now.saturating_add(self.idle_every);
    }

    fn wait(&self, load: Load) -> Next {
        let until = self.gather.map_or(self.idle_at, |gather| gather.until.min(self.idle_at));
        let room = if self.open { load.room.min(TURN_DELIVERIES_MAX) } else { 0 };
        Next::Wait(Wait { until, room, pause: self.gather.is_some_and(|gather| gather.begun) })
    }
}

impl Gather {
    /// The wait after a commit from `sent_at` to `now` that answered N webhooks; none where nobody was answered.
    fn after(answered: usize, sent_at: Duration, now: Duration) -> Option<Self> {
        let took = now.saturating_sub(sent_at);
        let until = now.saturating_add((took / GATHER_FRACTION).min(GATHER_MAX));
        (answered > 0).then_some(Self { wanted: answered, begun: false, until })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE_MS: u64 = 10_000;

    /// A step of a table: what happens at a time in milliseconds, or what is answered then.
    enum Step {
        On(u64, Event),
        Is(u64, Load, Next),
    }
    use Event::{Arrived, Closed, Submitted, Verdict};
    use Step::{Is, On};

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    const EMPTY: Load = Load { room: 5000, planned: 0, sent: false };
    const SENT: Load = Load { sent: true, ..EMPTY };
    const FULL: Load = Load { room: 0, planned: 5000, sent: false };

    fn planned(count: usize) -> Load {
        Load { planned: count, ..EMPTY }
    }

    fn wait(until_ms: u64) -> Next {
        Next::Wait(Wait { until: ms(until_ms), room: TURN_DELIVERIES_MAX, pause: false })
    }

    fn paused(until_ms: u64) -> Next {
        Next::Wait(Wait { until: ms(until_ms), room: TURN_DELIVERIES_MAX, pause: true })
    }

    fn check(steps: &[Step]) {
        let mut turn = Turn::new(Duration::ZERO, ms(IDLE_MS));
        for (number, step) in steps.iter().enumerate() {
            match step {
                On(at, event) => turn.on(ms(*at), *event),
                Is(at, load, expected) => assert_eq!(turn.next(ms(*at), *load), *expected, "step {number}"),
            }
        }
    }

    /// A batch of webhooks leaves at `sent`, and is committed with N of them answered at `at`.
    fn committed(sent: u64, at: u64, answered: usize) -> [Step; 2] {
        [On(sent, Submitted), On(at, Verdict { answered })]
    }

    #[test]
    fn what_is_planned_leaves_at_once_and_one_batch_at_a_time() {
        check(&[
            Is(0, EMPTY, wait(IDLE_MS)),
            On(1, Arrived(3)),
            Is(1, planned(3), Next::Submit),
            On(1, Submitted),
            Is(1, SENT, wait(IDLE_MS + 1)),
            On(2, Arrived(2)),
            Is(2, Load { sent: true, ..planned(2) }, wait(IDLE_MS + 1)),
            On(5, Verdict { answered: 0 }),
            Is(5, planned(2), Next::Submit),
        ]);
    }

    #[test]
    fn it_takes_what_fits_the_plan_and_never_more_than_a_turn() {
        let room = |room| Next::Wait(Wait { until: ms(IDLE_MS), room, pause: false });
        check(&[
            Is(0, Load { room: 255, ..SENT }, room(255)),
            Is(0, Load { room: 257, ..SENT }, room(TURN_DELIVERIES_MAX)),
            Is(0, Load { sent: true, ..FULL }, room(0)),
            On(0, Closed),
            Is(0, SENT, room(0)),
        ]);
    }

    #[test]
    fn an_idle_relay_saves_its_marks_again_and_again_also_while_kafka_is_away() {
        check(&[
            Is(IDLE_MS - 1, EMPTY, wait(IDLE_MS)),
            Is(IDLE_MS, EMPTY, Next::Checkpoint { left: false }),
            Is(IDLE_MS, EMPTY, Next::Checkpoint { left: false }),
            On(IDLE_MS, Submitted),
            Is(IDLE_MS, SENT, wait(2 * IDLE_MS)),
            // It looks up, and is seen to live, but has nothing more to send.
            Is(2 * IDLE_MS, SENT, wait(3 * IDLE_MS)),
            On(2 * IDLE_MS + 1, Verdict { answered: 0 }),
            Is(2 * IDLE_MS + 1, EMPTY, wait(3 * IDLE_MS)),
            // A batch is a checkpoint too.
            On(2 * IDLE_MS + 2, Submitted),
            On(2 * IDLE_MS + 3, Verdict { answered: 0 }),
            Is(3 * IDLE_MS, EMPTY, wait(3 * IDLE_MS + 2)),
        ]);
    }

    #[test]
    fn marks_never_leave_before_the_batch_that_they_describe() {
        // The commit takes just long enough that the checkpoint is due while the next batch gathers.
        let [sent, verdict] = committed(0, IDLE_MS - 4, 2);
        check(&[
            sent,
            verdict,
            On(IDLE_MS - 3, Arrived(1)),
            Is(IDLE_MS - 3, planned(1), paused(IDLE_MS)),
            Is(IDLE_MS, planned(1), Next::Submit),
        ]);
        let [sent, verdict] = committed(0, IDLE_MS - 4, 2);
        check(&[sent, verdict, Is(IDLE_MS, EMPTY, Next::Checkpoint { left: false })]);
    }

    #[test]
    fn senders_that_were_answered_are_waited_for_a_part_of_the_commits_time_and_never_long() {
        let gathers_until = |sent, at, answered, until| {
            let [sent, verdict] = committed(sent, at, answered);
            check(&[sent, verdict, Is(at, planned(1), wait(until)), Is(until, planned(1), Next::Submit)]);
        };
        gathers_until(0, 8, 64, 8 + 4);
        gathers_until(0, 9_000, 64, 9_000 + 8);
        let [sent, verdict] = committed(0, 8, 0);
        // The socket sends without being answered.
        check(&[sent, verdict, Is(8, planned(1), Next::Submit)]);
    }

    #[test]
    fn gathering_ends_with_the_last_that_is_waited_for() {
        let [sent, verdict] = committed(0, 100, 3);
        check(&[
            sent,
            verdict,
            Is(100, EMPTY, wait(108)),
            On(101, Arrived(1)),
            Is(101, planned(1), paused(108)),
            On(102, Arrived(1)),
            Is(102, planned(2), paused(108)),
            On(103, Arrived(2)),
            Is(103, planned(4), Next::Submit),
        ]);
    }

    #[test]
    fn gathering_ends_when_the_plan_is_full_or_nothing_more_can_come() {
        let [sent, verdict] = committed(0, 100, 9);
        check(&[sent, verdict, Is(101, FULL, Next::Submit)]);
        let [sent, verdict] = committed(0, 100, 9);
        check(&[sent, verdict, On(101, Closed), Is(101, planned(1), Next::Submit)]);
    }

    #[test]
    fn it_ends_with_a_checkpoint_that_records_it() {
        let left = Next::Checkpoint { left: true };
        check(&[
            On(1, Arrived(1)),
            On(1, Closed),
            Is(1, planned(1), Next::Submit),
            On(1, Submitted),
            Is(1, SENT, Next::Wait(Wait { until: ms(IDLE_MS + 1), room: 0, pause: false })),
            On(2, Verdict { answered: 1 }),
            Is(2, EMPTY, left),
            On(2, Submitted),
            Is(2, SENT, Next::Wait(Wait { until: ms(IDLE_MS + 2), room: 0, pause: false })),
            On(3, Verdict { answered: 0 }),
            Is(3, EMPTY, Next::End),
        ]);
        // Nothing came at all.
        check(&[
            On(1, Closed),
            Is(1, EMPTY, left),
            On(1, Submitted),
            On(2, Verdict { answered: 0 }),
            Is(2, EMPTY, Next::End),
        ]);
    }
}

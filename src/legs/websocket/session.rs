//! The WebSocket leg's session: every decision between its connections and around them, from the first dial to the stop.
//!
//! Pure: time is a duration since the session began, and randomness is an argument. A driver makes connections, reports
//! what becomes of them and obeys the orders in their sequence. The leg is one such driver, the simulation another.
//! Deduplication is not its business: it reports when the stream was away, and holds frames back until the walk that
//! fetches what the stream missed is out.

use super::hold::Hold;
use super::reconnect::{End, Reconnect, Retry};
use crate::labels::Cause;
use crate::legs::Note;
use crate::provider::EventId;
use std::time::Duration;

/// Hints that the stream has a hole are taken together for this long, so that a provider which repeats one, or whose
/// heartbeat we take for one, does not cost a walk each time.
pub const HINTS_TOGETHER: Duration = Duration::from_secs(10);

/// What the driver has to do, in the sequence in which it is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Hand this note to the relay, behind every delivery before it.
    Note(Note),
    /// Ask for a walk, and report its ticket to [`Session::walk_asked`].
    AskWalk,
}

/// What becomes of a frame that is a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passage<F> {
    /// It is held, behind those that came before it.
    Held,
    /// It goes on.
    Now(F),
    /// The hold is full or over: these go on, oldest first, and the frame is the last of them.
    All(Vec<F>),
}

/// What held frames wait for; the first of the two lets them go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The ticket of the walk; `None` until one is asked for.
    pub walk: Option<u64>,
    /// When they go on whatever the walk does, since the session began.
    pub until: Duration,
}

/// What follows the end of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    /// Why it ended, and the wait before the next dial.
    pub retry: Retry,
    /// The cause is another than that of the attempt before: operators are to read about it.
    pub is_news: bool,
    /// That the stream is down, if it was up.
    pub order: Option<Order>,
}

/// The leg's memory from its first dial to its stop; `F` is a frame as the driver keeps it.
#[derive(Debug)]
pub struct Session<F> {
    reconnect: Reconnect,
    hold_max: Duration,
    /// The `since` of the attempt that runs.
    since: Option<EventId>,
    /// The request before was found wrong, perhaps because of its cursor: the coming one is made without.
    without_cursor: bool,
    /// When the connection that is up came about.
    connected_at: Option<Duration>,
    held: Option<Held<F>>,
    hint_due: Option<Duration>,
    hint_followed: Option<Duration>,
    /// The end of the attempt, until what it brought is handed on.
    ended: Option<Ended>,
    /// The cause that operators read last, while the stream is down.
    reported: Option<Cause>,
}

#[derive(Debug)]
struct Held<F> {
    frames: Hold<F>,
    walk: Option<u64>,
    since: Duration,
}

#[derive(Debug)]
struct Ended {
    end: End,
    lived: Duration,
    /// The last sign of life of a connection that came about, in Unix milliseconds by the provider's clock.
    heard_at_ms: Option<i64>,
}

impl<F> Session<F> {
    /// A session that waits between attempts as `reconnect` decides, and holds frames for at most `hold_max` after each
    /// connection's making.
    pub fn new(reconnect: Reconnect, hold_max: Duration) -> Self {
        Self {
            reconnect,
            hold_max,
            since: None,
            without_cursor: false,
            connected_at: None,
            held: None,
            hint_due: None,
            hint_followed: None,
            ended: None,
            reported: None,
        }
    }

    /// The number of the coming or running attempt, as [`Reconnect::attempt`] counts.
    pub fn attempt(&self) -> u32 {
        self.reconnect.attempt()
    }

    /// An attempt begins while the relay is at `cursor`; the `since` to ask with.
    pub fn dial(&mut self, cursor: Option<EventId>) -> Option<EventId> {
        self.since = cursor.filter(|_| !self.without_cursor);
        self.since
    }

    /// The attempt came to no connection.
    pub fn failed(&mut self, end: End) {
        self.ended = Some(Ended { end, lived: Duration::ZERO, heard_at_ms: None });
    }

    /// The attempt came to a connection, at `at_ms` in Unix milliseconds by the provider's clock. What came between the
    /// last connection and this one is asked of the log; frames wait for it.
    pub fn connected(&mut self, now: Duration, at_ms: i64) -> [Order; 2] {
        self.connected_at = Some(now);
        self.held = Some(Held { frames: Hold::new(self.hold_max), walk: None, since: now });
        self.hint_due = None;
        self.hint_followed = None;
        self.reported = None;
        [Order::Note(Note::WebsocketUp { at_ms }), Order::AskWalk]
    }

    /// The walk that was ordered is asked for. Frames wait for the first after their connection's making; a later one
    /// does not make them wait longer.
    pub fn walk_asked(&mut self, ticket: u64) {
        if let Some(held) = &mut self.held {
            held.walk.get_or_insert(ticket);
        }
    }

    /// A frame of `bytes` that is a delivery.
    pub fn frame(&mut self, frame: F, bytes: usize, now: Duration) -> Passage<F> {
        let Some(held) = &mut self.held else { return Passage::Now(frame) };
        held.frames.keep(frame, bytes);
        match self.over(now, 0) {
            Some(frames) => Passage::All(frames),
            None => Passage::Held,
        }
    }

    /// What held frames wait for; `None` when none are held back.
    pub fn waits(&self) -> Option<Wait> {
        let held = self.held.as_ref()?;
        Some(Wait { walk: held.walk, until: held.since.saturating_add(self.hold_max) })
    }

    /// Lets go what was held, oldest first, if the walk with the ticket `walked` is out (0 for none) or the hold is over
    /// by its own bounds; `None` while frames wait on, or when none are held back.
    pub fn over(&mut self, now: Duration, walked: u64) -> Option<Vec<F>> {
        let held = self.held.as_ref()?;
        let is_walked = held.walk.is_some_and(|walk| walk <= walked);
        let is_over = is_walked || held.frames.is_over(now.saturating_sub(held.since));
        is_over.then(|| self.stop())
    }

    /// The leg stops: what is held stays with the provider, whose log the next start walks through.
    pub fn stop(&mut self) -> Vec<F> {
        self.held.take().into_iter().flat_map(|held| held.frames.release()).collect()
    }

    /// A hint that the stream has a hole, at `at_ms` in Unix milliseconds by the provider's clock: a walk is asked for,
    /// at once or together with the hints that follow ([`Session::hint_due`]).
    pub fn hint(&mut self, now: Duration, at_ms: i64) -> Option<[Order; 2]> {
        self.connected_at?;
        let due = self.hint_followed.map_or(now, |followed| followed.saturating_add(HINTS_TOGETHER));
        self.hint_due = Some(due);
        self.follow_hint(now, at_ms)
    }

    /// When a hint that waits is to be followed, since the session began.
    pub fn hint_due(&self) -> Option<Duration> {
        self.hint_due
    }

    /// Follows the hint that waits, if it is due.
    pub fn follow_hint(&mut self, now: Duration, at_ms: i64) -> Option<[Order; 2]> {
        self.hint_due.filter(|due| *due <= now)?;
        self.hint_due = None;
        self.hint_followed = Some(now);
        Some([Order::Note(Note::Resync { at_ms }), Order::AskWalk])
    }

    /// The connection ended, and last received something at `heard_at_ms` in Unix milliseconds by the provider's clock.
    /// What is held goes on waiting; an empty hold has nothing to wait for, and a hint is covered by the next
    /// connection's walk.
    pub fn ended(&mut self, end: End, now: Duration, heard_at_ms: i64) {
        let Some(connected_at) = self.connected_at.take() else { return self.failed(end) };
        self.hint_due = None;
        self.held.take_if(|held| held.frames.is_empty());
        let lived = now.saturating_sub(connected_at);
        self.ended = Some(Ended { end, lived, heard_at_ms: Some(heard_at_ms) });
    }

    /// What follows the end, once what the attempt brought is handed on: the gap is reported behind it. `None` while
    /// frames are held, and when no attempt has ended. `random` is uniform in `0.0..1.0`.
    pub fn next(&mut self, random: f64) -> Option<Next> {
        if self.held.is_some() {
            return None;
        }
        let Ended { end, lived, heard_at_ms } = self.ended.take()?;
        let mut retry = self.reconnect.ended(&end, lived, random);
        // How a cursor fails that the provider does not take is not documented. A request that is refused with one
        // is made once without: the walk brings what it would have replayed.
        self.without_cursor = self.since.is_some() && end.may_mean_the_cursor();
        if self.without_cursor {
            retry.delay = retry.delay.min(self.reconnect.delay_min());
        }
        let cause = retry.cause;
        let is_news = self.reported.replace(cause) != Some(cause);
        let order = heard_at_ms.map(|at_ms| Order::Note(Note::WebsocketDown { cause, at_ms }));
        Some(Next { retry, is_news, order })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]

    use super::*;
    use crate::legs::REFUSED_RETRY;
    use crate::legs::websocket::hold::HELD_BYTES_MAX;
    use std::time::Instant;

    const MIN: Duration = Duration::from_millis(500);
    const HOLD: Duration = Duration::from_secs(30);
    const RESET: End = End::Reset;

    fn session() -> Session<u32> {
        Session::new(Reconnect::new(MIN, Duration::from_secs(5), false, Instant::now()), HOLD)
    }

    /// One that is connected since its second `at`, and whose walk has the ticket 7.
    fn connected(at: u64) -> Session<u32> {
        let mut session = session();
        session.dial(None);
        let orders = session.connected(s(at), 1000);
        assert_eq!(orders, [Order::Note(Note::WebsocketUp { at_ms: 1000 }), Order::AskWalk]);
        session.walk_asked(7);
        session
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn http(status: u16) -> End {
        End::Http { status, retry_after: None }
    }

    fn cursor() -> Option<EventId> {
        "evt_1768472100655-0".parse().ok()
    }

    #[test]
    fn a_request_that_may_be_wrong_for_its_cursor_is_made_once_without() {
        // The end of an attempt, whether it had connected, and whether the next one asks with the cursor.
        let cases = [
            (http(400), false, false),
            (http(400), false, true),
            (http(401), false, true),
            (RESET, true, true),
            (End::Close(Some(4400)), true, false),
            (End::Close(Some(4400)), true, true),
            (End::StreamError("CURSOR_TOO_OLD".into()), true, false),
            (End::ConnectFailed, false, true),
            (http(400), false, false),
        ];
        let mut session = session();
        assert_eq!(session.dial(None), None);
        session.failed(http(400));
        let refused = session.next(0.5).unwrap().retry;
        assert_eq!(refused.delay, REFUSED_RETRY, "a request without a cursor is not wrong for one");
        assert_eq!(session.dial(cursor()), cursor());
        for (row, (end, connects, with_cursor)) in cases.into_iter().enumerate() {
            if connects {
                session.connected(s(0), 0);
                session.stop();
                session.ended(end, s(1), 0);
            } else {
                session.failed(end);
            }
            let retry = session.next(0.5).unwrap().retry;
            assert!(with_cursor || retry.delay == MIN, "row {row}: at once: {retry:?}");
            assert_eq!(session.dial(cursor()), cursor().filter(|_| with_cursor), "row {row}");
        }
    }

    #[test]
    fn a_gap_is_reported_for_a_connection_alone_and_news_once_an_outage() {
        let mut session = connected(0);
        session.ended(RESET, s(5), 900);
        let next = session.next(0.0).unwrap();
        let down = Note::WebsocketDown { cause: Cause::Reset, at_ms: 900 };
        assert_eq!((next.order, next.is_news), (Some(Order::Note(down)), true));
        assert_eq!(session.next(0.0), None, "an end is followed once");
        for (end, is_news) in [(http(503), true), (http(502), false), (End::ConnectFailed, true), (http(503), true)] {
            session.failed(end);
            let next = session.next(0.0).unwrap();
            assert_eq!((next.order, next.is_news), (None, is_news));
        }
        session.connected(s(50), 2000);
        session.ended(End::Close(Some(1011)), s(51), 2500);
        assert!(session.next(0.0).unwrap().is_news, "the same cause after a connection is news");
    }

    #[test]
    fn a_connection_that_lived_ends_the_backoff() {
        for (lived, attempt) in [(9, 3), (10, 1)] {
            let mut session = session();
            session.failed(End::ConnectFailed);
            session.next(0.0).unwrap();
            session.connected(s(100), 0);
            session.ended(RESET, s(100 + lived), 0);
            session.next(0.0).unwrap();
            assert_eq!(session.attempt(), attempt, "after {lived} s");
        }
    }

    #[test]
    fn frames_wait_for_the_first_walk_or_the_bounds() {
        // Seconds since the making, the walk that is out, and whether frames go on.
        for (after, walked, goes) in [(0, 6, false), (0, 7, true), (0, 8, true), (29, 0, false), (30, 0, true)] {
            let mut session = connected(10);
            session.walk_asked(9);
            assert_eq!(session.waits(), Some(Wait { walk: Some(7), until: s(40) }));
            assert_eq!(session.frame(1, 10, s(10)), Passage::Held);
            assert_eq!(session.frame(2, 10, s(10)), Passage::Held);
            let out = session.over(s(10 + after), walked);
            assert_eq!(out, goes.then(|| vec![1, 2]), "after {after} s, walk {walked}");
            assert_eq!(session.waits().is_none(), goes);
            if goes {
                assert_eq!(session.frame(3, 10, s(50)), Passage::Now(3));
            }
        }
        let mut full = connected(0);
        assert_eq!(full.frame(1, 10, s(0)), Passage::Held);
        assert_eq!(full.frame(2, HELD_BYTES_MAX, s(0)), Passage::All(vec![1, 2]));
        assert_eq!(full.waits(), None);
    }

    #[test]
    fn an_end_is_followed_behind_what_is_held() {
        let mut session = connected(0);
        assert_eq!(session.frame(1, 10, s(1)), Passage::Held);
        session.ended(RESET, s(2), 900);
        assert_eq!(session.next(0.0), None, "a frame waits");
        assert_eq!(session.over(s(3), 7), Some(vec![1]));
        assert!(session.next(0.0).unwrap().order.is_some());
        let mut empty = connected(0);
        empty.ended(RESET, s(2), 900);
        assert_eq!(empty.waits(), None, "nothing waits");
        assert!(empty.next(0.0).is_some());
        let mut stopping = connected(0);
        assert_eq!(stopping.frame(1, 10, s(1)), Passage::Held);
        assert_eq!(stopping.stop(), [1]);
        assert_eq!(stopping.waits(), None);
    }

    #[test]
    fn hints_within_ten_seconds_cost_one_walk() {
        let resync = |at_ms| Some([Order::Note(Note::Resync { at_ms }), Order::AskWalk]);
        let mut session = connected(0);
        assert_eq!(session.hint(s(20), 1), resync(1));
        assert_eq!(session.hint_due(), None);
        assert_eq!((session.hint(s(21), 2), session.hint(s(29), 3)), (None, None));
        assert_eq!(session.hint_due(), Some(s(30)));
        assert_eq!(session.follow_hint(s(29), 4), None);
        assert_eq!(session.follow_hint(s(30), 5), resync(5));
        assert_eq!((session.hint_due(), session.follow_hint(s(30), 6)), (None, None));
        assert_eq!(session.hint(s(41), 7), resync(7));
        assert_eq!(session.hint(s(42), 8), None);
        session.ended(RESET, s(43), 0);
        assert_eq!((session.hint_due(), session.hint(s(60), 9)), (None, None), "the next connection walks anyway");
        session.connected(s(61), 0);
        assert_eq!(session.hint(s(61), 10), resync(10), "each connection counts from its own first hint");
    }
}

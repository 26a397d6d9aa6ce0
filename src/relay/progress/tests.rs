use super::*;
use crate::labels::Cause;
use std::ops::{Deref, DerefMut};

const OVERLAP: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_hours(24);

/// A progress, and the numbers of its gaps.
struct Numbered {
    progress: Progress,
    next: GapNumber,
}

impl Numbered {
    fn resume(cursor: Option<EventId>, verified_ms: Option<i64>, gaps: Vec<Gap>) -> Self {
        let progress = Progress::resume(cursor, verified_ms, gaps, OVERLAP);
        let mut next = GapNumber::default();
        next.after(&progress);
        Self { progress, next }
    }

    fn note(&mut self, note: Note) -> (Option<Gap>, Vec<Gap>) {
        self.progress.note(note, &mut self.next)
    }

    fn begin_at(&mut self, from_ms: i64, now_ms: i64) -> Gap {
        self.progress.begin_at(GapCause::FirstStart, from_ms, now_ms, &mut self.next)
    }

    fn restarted(&mut self, last_ms: i64) -> Gap {
        self.progress.restarted(last_ms, &mut self.next)
    }
}

impl Deref for Numbered {
    type Target = Progress;

    fn deref(&self) -> &Progress {
        &self.progress
    }
}

impl DerefMut for Numbered {
    fn deref_mut(&mut self) -> &mut Progress {
        &mut self.progress
    }
}

fn fresh() -> Numbered {
    let mut progress = Numbered::resume(None, Some(1_000_000), Vec::new());
    progress.saw(Leg::Websocket, EventId { ms: 1_000_000, seq: 0 });
    progress
}

fn open(progress: &Progress) -> Vec<&'static str> {
    progress.gaps().iter().map(|gap| gap.cause.as_str()).collect()
}

#[test]
fn the_cursor_is_the_newest_of_socket_and_log() {
    let mut progress = fresh();
    progress.saw(Leg::Backfill, EventId { ms: 999_999, seq: 0 });
    progress.saw(Leg::Webhook, EventId { ms: 2_000_000, seq: 0 });
    assert_eq!(progress.cursor(), Some(EventId { ms: 1_000_000, seq: 0 }));
    progress.saw(Leg::Backfill, EventId { ms: 1_000_000, seq: 1 });
    assert_eq!(progress.cursor(), Some(EventId { ms: 1_000_000, seq: 1 }));
}

#[test]
fn what_was_forgotten_is_remembered_where_there_is_no_room_for_another_gap() {
    let mut progress = fresh();
    for number in 0..2 * GAPS_MAX as i64 {
        progress.note(Note::WebsocketDown { cause: Cause::Reset, at_ms: 1_100_000 + number });
        progress.note(Note::WebsocketUp { at_ms: 1_100_000 + number });
    }
    assert_eq!(progress.gaps().len(), GAPS_MAX);
    let gap = progress.progress.forgot(9_000_000, &mut progress.next);
    assert_eq!((gap.cause, gap.opened_ms, gap.from), (GapCause::Journal, 9_000_000, progress.cursor()));
    assert_eq!((progress.gaps().last(), progress.gaps().len()), (Some(&gap), GAPS_MAX));
}

#[test]
fn a_gap_closes_with_the_walk_that_confirms_it_not_with_the_one_that_fills_it() {
    let mut progress = fresh();
    progress.note(Note::WebsocketDown { cause: Cause::Reset, at_ms: 1_100_000 });
    assert!(progress.recovers(1_105_000));
    progress.note(Note::WebsocketUp { at_ms: 1_110_000 });
    assert!(!progress.recovers(1_110_001));
    let (_, closed) = progress.note(Note::WalkDone { started_ms: 1_110_000 });
    assert_eq!((closed, open(&progress)), (Vec::new(), vec!["reset"]));
    let (_, closed) = progress.note(Note::WalkDone { started_ms: 1_169_999 });
    assert_eq!(closed, []);
    let (_, closed) = progress.note(Note::WalkDone { started_ms: 1_170_000 });
    assert_eq!((closed.len(), closed[0].recovered, closed[0].closed_ms), (1, 1, Some(1_170_000)));
    assert_eq!(progress.verified_ms(), Some(1_110_000));
    assert_eq!(progress.walk_from_ms(), Some(1_050_000));
    assert_eq!(progress.again_from_ms(DAY), Some(1_000_000), "a `since` that includes it brings the cursor again");
}

#[test]
fn the_socket_does_not_resume_at_a_cursor_of_long_ago() {
    let mut quiet = fresh();
    quiet.note(Note::WalkDone { started_ms: 1_000_000 + 30 * 86_400_000 });
    assert_eq!((quiet.since(DAY), quiet.again_from_ms(DAY)), (None, quiet.walk_from_ms()));
    assert_eq!((quiet.since(40 * DAY), quiet.again_from_ms(40 * DAY)), (quiet.cursor(), Some(1_000_000)));
}

#[test]
fn a_gap_whose_stream_is_still_down_stays_open() {
    let mut progress = fresh();
    progress.note(Note::WebsocketDown { cause: Cause::ConnectFailed, at_ms: 1_100_000 });
    let (_, closed) = progress.note(Note::WalkDone { started_ms: 9_000_000 });
    assert_eq!((closed, open(&progress)), (Vec::new(), vec!["connect_failed"]));
}

#[test]
fn a_resync_reaches_back_to_the_cursor() {
    let mut progress = fresh();
    let (gap, _) = progress.note(Note::Resync { at_ms: 1_200_000 });
    assert_eq!(gap.map(|gap| (gap.opened_ms, gap.end_ms)), Some((1_000_000, Some(1_200_000))));
    let (_, closed) = progress.note(Note::WalkDone { started_ms: 1_260_000 });
    assert_eq!(closed.len(), 1);
}

#[test]
fn a_mark_in_the_future_is_taken_back_and_one_in_the_past_stays() {
    let mut progress = fresh();
    progress.never_after(1_000_001);
    assert_eq!(progress.verified_ms(), Some(1_000_000));
    progress.never_after(900_000);
    assert_eq!((progress.verified_ms(), progress.walk_from_ms()), (Some(900_000), Some(840_000)));
}

#[test]
fn a_first_start_walks_from_the_wanted_time() {
    let mut progress = Numbered::resume(None, None, Vec::new());
    assert_eq!(progress.walk_from_ms(), None);
    progress.begin_at(1_000_000, 90_000_000);
    assert_eq!(progress.walk_from_ms(), Some(1_000_000));
    assert_eq!(open(&progress), ["first_start"]);
}

#[test]
fn what_a_first_start_wants_was_never_promised_and_what_is_wanted_again_was() {
    let mut first = Numbered::resume(None, None, Vec::new());
    first.begin_at(1_000_000, 90_000_000);
    first.began(90_000_000);
    assert_eq!(first.position(DAY).proven_ms, Some(90_000_000));
    first.note(Note::WalkDone { started_ms: 95_000_000 });
    assert_eq!(first.position(DAY).proven_ms, Some(94_940_000));
    let mut again = fresh();
    let gap = again.begin_at(500_000, 90_000_000);
    assert_eq!((gap.from, gap.opened_ms), (Some(EventId { ms: 1_000_000, seq: 0 }), 500_000));
    let expected = Position { walk_from_ms: Some(500_000), proven_ms: Some(560_000), ..Position::default() };
    assert_eq!((again.position(DAY), again.again_from_ms(DAY)), (expected, Some(500_000)));
}

#[test]
fn a_time_that_cannot_be_proven_marks_the_gaps_it_touches() {
    let mut progress = fresh();
    progress.note(Note::WebsocketDown { cause: Cause::Reset, at_ms: 1_100_000 });
    progress.note(Note::WebsocketUp { at_ms: 1_110_000 });
    progress.note(Note::WebsocketDown { cause: Cause::Reset, at_ms: 1_200_000 });
    progress.note(Note::WebsocketUp { at_ms: 1_210_000 });
    assert_eq!(progress.note(Note::Unproven { from_ms: 1_000_000, to_ms: 1_105_000 }), (None, Vec::new()));
    let (_, closed) = progress.note(Note::WalkDone { started_ms: 1_300_000 });
    assert_eq!(closed.iter().map(|gap| gap.unproven).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn a_time_that_cannot_be_proven_and_was_no_gap_becomes_one_and_closes() {
    let mut progress = fresh();
    let (opened, _) = progress.note(Note::Unproven { from_ms: 1_000_000, to_ms: 1_105_000 });
    let told = opened.map(|gap| (gap.cause, gap.opened_ms, gap.end_ms, gap.unproven));
    assert_eq!(told, Some((GapCause::Resync, 1_000_000, Some(1_105_000), true)));
    let (_, closed) = progress.note(Note::WalkDone { started_ms: 1_200_000 });
    assert_eq!(closed.iter().map(|gap| gap.unproven).collect::<Vec<_>>(), [true]);
}

#[test]
fn open_gaps_survive_a_restart_and_numbers_go_on() {
    let mut before = fresh();
    before.note(Note::WebsocketDown { cause: Cause::Silence, at_ms: 1_100_000 });
    before.note(Note::WebsocketUp { at_ms: 1_110_000 });
    let mut after = Numbered::resume(before.cursor(), before.verified_ms(), before.gaps().to_vec());
    let restart = after.restarted(1_120_000);
    assert_eq!((restart.id, open(&after)), (1, vec!["silence", "restart"]));
    let (_, closed) = after.note(Note::WalkDone { started_ms: 9_000_000 });
    assert_eq!(closed, [], "a gap read back ends only when the stream is up");
}

#[test]
fn numbers_go_on_when_every_gap_was_closed_before_the_restart() {
    let mut before = fresh();
    before.note(Note::WebsocketDown { cause: Cause::Silence, at_ms: 1_100_000 });
    before.note(Note::WebsocketUp { at_ms: 1_110_000 });
    before.note(Note::WalkDone { started_ms: 9_000_000 });
    let saved = before.gaps().iter().chain(before.closed()).cloned().collect();
    let mut after = Numbered::resume(before.cursor(), before.verified_ms(), saved);
    assert_eq!((open(&after), after.restarted(9_500_000).id), (Vec::new(), 1));
}

#[test]
fn no_number_is_given_twice_when_gaps_close_out_of_order() {
    let mut progress = fresh();
    progress.note(Note::WebsocketDown { cause: Cause::Reset, at_ms: 1_100_000 });
    progress.note(Note::WebsocketUp { at_ms: 1_200_000 });
    // The provider's clock turned out to be behind.
    progress.note(Note::Resync { at_ms: 1_199_000 });
    let (_, closed) = progress.note(Note::WalkDone { started_ms: 1_259_500 });
    assert_eq!(closed.iter().map(|gap| gap.id).collect::<Vec<_>>(), [1]);
    progress.note(Note::WalkDone { started_ms: 1_260_000 });
    let (gap, _) = progress.note(Note::WebsocketDown { cause: Cause::Reset, at_ms: 1_300_000 });
    assert_eq!(gap.map(|gap| gap.id), Some(2));
}

#[test]
fn a_stream_that_flaps_for_ever_opens_a_bounded_number_of_gaps() {
    let mut progress = fresh();
    for at_ms in 0..1000 {
        progress.note(Note::WebsocketDown { cause: Cause::Closed, at_ms });
        progress.note(Note::WebsocketUp { at_ms });
    }
    assert_eq!(progress.gaps().len(), GAPS_MAX);
    let (_, closed) = progress.note(Note::WalkDone { started_ms: 61_000 });
    assert_eq!(closed.len(), GAPS_MAX);
}

#[test]
fn names_of_causes_are_read_back() {
    for cause in GapCause::all() {
        assert_eq!(GapCause::from_name(cause.as_str()), Some(cause));
    }
    assert_eq!(GapCause::from_name("unknown"), None);
}

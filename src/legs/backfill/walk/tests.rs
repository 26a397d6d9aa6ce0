#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop")]

use super::*;
use crate::provider::errors;
use proptest::prelude::*;

/// An event as it is in a page: `id` or, where that is no text of an id, the event itself.
fn event(id: &str) -> String {
    if id.starts_with("evt_") { format!(r#"{{"id":"{id}"}}"#) } else { id.to_owned() }
}

fn page(ids: &[&str], has_more: &str) -> Result<Bytes, RestError> {
    let events = ids.iter().map(|id| event(id)).collect::<Vec<_>>().join(",");
    Ok(Bytes::from(format!(r#"{{"data":[{events}],"has_more":{has_more}}}"#)))
}

fn bounds(pages_max: usize) -> Bounds {
    Bounds { pages_max, ..Bounds::default() }
}

fn status(status: u16) -> Result<Bytes, RestError> {
    Err(RestError::Status { status, error: errors::parse(b""), retry_after: None, request_id: None })
}

/// The page that is asked for next: its cursor and limit.
fn asked(walk: &mut Walk) -> (String, usize) {
    match walk.step() {
        Step::Fetch { starting_after, limit } => (starting_after.map_or("".to_owned(), |id| id.to_string()), limit),
        other => panic!("{other:?}"),
    }
}

/// Answers the page that is asked for, which must be the one below `cursor`.
fn answer(walk: &mut Walk, cursor: &str, with: Result<Bytes, RestError>) -> Taken {
    assert_eq!(asked(walk).0, cursor);
    walk.answer(with).unwrap()
}

/// What comes out, and how the walk ends, which asks for nothing more.
fn out(walk: &mut Walk) -> (Vec<String>, Step) {
    let mut ids = Vec::new();
    loop {
        match walk.step() {
            Step::HandOn(events) => ids.extend(
                events
                    .into_iter()
                    .map(|event| event.id.unwrap_or_else(|| String::from_utf8_lossy(&event.bytes).into_owned())),
            ),
            Step::Fetch { .. } => panic!("a page is asked for"),
            end => return (ids, end),
        }
    }
}

fn ends(walk: &mut Walk, ids: &[&str], broken: Why) {
    let (found, end) = out(walk);
    assert_eq!(found, ids);
    assert!(matches!(end, Step::Broken(why) if why == broken), "{end:?}");
}

fn is_done(walk: &mut Walk, ids: &[&str], wanted: bool) {
    let (found, end) = out(walk);
    assert_eq!(found, ids);
    assert!(matches!(end, Step::Done { reached } if reached == wanted), "{end:?}");
}

/// Walks a log of `events` newest first, in pages of `limit`, down to `mark`; gives what came out, oldest first.
fn walk_through(log: &[u64], limit: usize, mark: u64, kept_bytes_max: usize) -> (Vec<u64>, bool, usize) {
    let bounds = Bounds { kept_bytes_max, ..Bounds::default() };
    let mut walk = Walk::new(i64::try_from(mark).unwrap()).within(bounds);
    let mut came = Vec::new();
    let mut asked = 0;
    loop {
        match walk.step() {
            Step::Fetch { starting_after, .. } => {
                asked += 1;
                let above = |event: &&u64| starting_after.is_some_and(|id| **event >= id.ms);
                let start = log.iter().filter(above).count();
                let rest = &log[start..];
                let held = &rest[..rest.len().min(limit)];
                let events = held.iter().map(|ms| event(&format!("evt_{ms}-0"))).collect::<Vec<_>>().join(",");
                let more = held.len() < rest.len();
                walk.answer(Ok(format!(r#"{{"data":[{events}],"has_more":{more}}}"#).into())).unwrap();
            }
            Step::HandOn(events) => {
                came.extend(events.iter().map(|event| event.cursor().unwrap().ms));
            }
            Step::Done { reached } => return (came, reached, asked),
            Step::Broken(why) => unreachable!("a log that leads on never breaks off: {why}"),
        }
    }
}

proptest! {
    #[test]
    fn everything_since_the_mark_comes_out_once_and_oldest_first(
        times in proptest::collection::btree_set(0u64..500, 0..60),
        limit in 1usize..8,
        mark in 0u64..500,
        kept_bytes_max in 0usize..1_000,
    ) {
        let log: Vec<u64> = times.iter().rev().copied().collect();
        let (came, reached, _) = walk_through(&log, limit, mark, kept_bytes_max);
        let wanted: Vec<u64> = times.iter().copied().filter(|ms| *ms >= mark).collect();
        prop_assert_eq!(came, wanted);
        prop_assert_eq!(reached, times.iter().any(|ms| *ms < mark));
    }

    #[test]
    fn whatever_is_answered_it_ends(answers in proptest::collection::vec((0u8..9, 0u64..20), 0..40)) {
        let mut walk = Walk::new(5).within(bounds(12));
        let mut answers = answers.into_iter().cycle();
        let mut asked = 0;
        loop {
            match walk.step() {
                Step::Fetch { .. } => {
                    asked += 1;
                    prop_assert!(asked < 300);
                    let (kind, ms) = answers.next().unwrap_or((0, 0));
                    let id = format!("evt_{ms}-0");
                    let with = match kind {
                        0..4 => page(&[&id], "true"),
                        4 => page(&[], "true"),
                        5 => page(&[&id, "7"], "null"),
                        6 => page(&["{\"id\":\"evt_9-0\",\"t\":\"5\" x\"}"], "true"),
                        7 => Err(RestError::TooLarge(1)),
                        _ => status(400),
                    };
                    // What cannot be had now is given up by this test.
                    if walk.answer(with).is_err() {
                        break;
                    }
                }
                Step::HandOn(_) => {}
                Step::Done { .. } | Step::Broken(_) => break,
            }
        }
    }
}

#[test]
fn pages_beyond_the_kept_bytes_are_asked_for_again() {
    let log: Vec<u64> = (10..40).rev().collect();
    // A page of ten has 198 bytes, and the last one 199.
    let (came, _, asked) = walk_through(&log, 10, 0, 500);
    assert_eq!((came.len(), asked), (30, 4), "two pages are kept, the third is asked for twice");
}

#[test]
fn reached_is_a_page_whose_events_are_all_older_and_not_one_of_them() {
    let mut walk = Walk::new(1_000);
    answer(&mut walk, "", page(&["evt_3000-0", "evt_2900-0", "evt_5-0"], "true"));
    // Not below the old one: a provider that compares ids would pass over what lies between.
    answer(&mut walk, "evt_2900-0", page(&["evt_5-0", "evt_2000-0", "evt_900-0"], "true"));
    answer(&mut walk, "evt_2000-0", page(&["evt_900-0", "7", "evt_800-0"], "true"));
    is_done(&mut walk, &["7", "evt_2000-0", "evt_2900-0", "evt_3000-0"], true);

    let mut walk = Walk::new(1_000);
    answer(&mut walk, "", page(&["evt_3000-0"], "true"));
    answer(&mut walk, "evt_3000-0", page(&["evt_5-0"], "true"));
    answer(&mut walk, "evt_5-0", page(&["evt_2000-0"], "true"));
    answer(&mut walk, "evt_2000-0", page(&["evt_900-0"], "true"));
    answer(&mut walk, "evt_900-0", page(&["evt_800-0"], "true"));
    is_done(&mut walk, &["evt_2000-0", "evt_3000-0"], true);
}

#[test]
fn a_cursor_that_comes_again_is_a_circle() {
    let mut walk = Walk::new(0);
    answer(&mut walk, "", page(&["evt_9-0", "evt_8-0"], "true"));
    answer(&mut walk, "evt_8-0", page(&["evt_7-0", "evt_6-0"], "true"));
    answer(&mut walk, "evt_6-0", page(&["evt_9-0", "evt_8-0"], "true"));
    ends(&mut walk, &["evt_6-0", "evt_7-0", "evt_8-0", "evt_9-0"], Why::Circle);
}

#[test]
fn a_page_that_is_newer_than_the_one_above_it_is_a_circle_and_a_log_in_some_disorder_is_none() {
    let mut walk = Walk::new(0);
    answer(&mut walk, "", page(&["evt_9000000-0", "evt_8000000-0"], "true"));
    answer(&mut walk, "evt_8000000-0", page(&["evt_1000000-0"], "true"));
    // Listed by when they became visible: these came late.
    answer(&mut walk, "evt_1000000-0", page(&["evt_1600000-0"], "true"));
    answer(&mut walk, "evt_1600000-0", page(&["evt_9000001-0", "evt_9000000-0"], "true"));
    ends(&mut walk, &["evt_1600000-0", "evt_1000000-0", "evt_8000000-0", "evt_9000000-0"], Why::Circle);
}

#[test]
fn a_walk_of_too_many_pages_hands_on_and_the_next_one_goes_on_below() {
    let mut walk = Walk::new(0).within(bounds(2));
    answer(&mut walk, "", page(&["evt_9-0"], "true"));
    answer(&mut walk, "evt_9-0", page(&["evt_8-0"], "true"));
    let (ids, end) = out(&mut walk);
    let Step::Broken(Why::TooManyPages(event)) = end else { panic!("{end:?}") };
    assert_eq!(ids, ["evt_8-0", "evt_9-0"]);
    let mut walk = walk.below(event);
    answer(&mut walk, "evt_8-0", page(&[], "false"));
    is_done(&mut walk, &[], false);
    assert_eq!((walk.oldest_ms(), walk.lowest().map(|page| page.events.len())), (Some(8), Some(1)));
}

#[test]
fn an_id_that_is_no_cursor_is_never_one() {
    let mut walk = Walk::new(0);
    answer(&mut walk, "", page(&["evt_9-0", "evt_8-0", "evt_example", "7"], "true"));
    answer(&mut walk, "evt_8-0", page(&["evt_example", "7"], "true"));
    ends(&mut walk, &["7", "evt_example", "7", "evt_example", "evt_8-0", "evt_9-0"], Why::NoWayOn);
}

#[test]
fn a_cursor_that_is_refused_breaks_the_walk_and_what_it_holds_is_handed_on() {
    for code in [400, 404, 410, 422] {
        let mut walk = Walk::new(0);
        answer(&mut walk, "", page(&["evt_9-0"], "true"));
        assert_eq!(answer(&mut walk, "evt_9-0", status(code)), Taken::Refused);
        ends(&mut walk, &["evt_9-0"], Why::CursorRefused);
    }
    let mut walk = Walk::new(0);
    answer(&mut walk, "", page(&["evt_9-0"], "true"));
    assert!(walk.answer(status(503)).is_err());
    assert_eq!(asked(&mut walk), ("evt_9-0".to_owned(), 100), "asked again");
}

#[test]
fn a_limit_that_is_refused_is_halved_and_what_it_takes_is_kept() {
    let mut walk = Walk::new(0);
    for limit in [100, 50] {
        assert_eq!(asked(&mut walk), (String::new(), limit));
        assert!(matches!(walk.answer(status(400)), Ok(Taken::Smaller(_))));
    }
    answer(&mut walk, "", page(&["evt_9-0"], "true"));
    assert_eq!(asked(&mut walk), ("evt_9-0".to_owned(), 25));
    let mut walk = Walk::new(0);
    while asked(&mut walk).1 > 1 {
        walk.answer(status(422)).unwrap();
    }
    assert!(walk.answer(status(422)).is_err());
    assert_eq!(asked(&mut walk).1, 100, "it was not for the limit");
}

#[test]
fn a_page_that_is_too_large_is_halved_and_the_next_one_is_asked_for_whole() {
    let mut walk = Walk::new(0);
    answer(&mut walk, "", Err(RestError::TooLarge(1)));
    assert_eq!(asked(&mut walk).1, 50);
    answer(&mut walk, "", page(&["evt_9-0"], "true"));
    assert_eq!(asked(&mut walk).1, 100);
}

#[test]
fn an_event_that_cannot_be_cut_out_is_passed_over_alone() {
    let poison = r#"{"id":"evt_8-0","title":"5" screen"}"#;
    let mut walk = Walk::new(0);
    while asked(&mut walk).1 > 2 {
        assert!(matches!(walk.answer(page(&["evt_9-0", poison, "evt_7-0"], "true")), Ok(Taken::Smaller(_))));
    }
    assert_eq!(asked(&mut walk).1, 1);
    answer(&mut walk, "", page(&["evt_9-0"], "true"));
    while asked(&mut walk).1 > 1 {
        walk.answer(page(&[poison, "evt_7-0"], "false")).unwrap();
    }
    assert_eq!(answer(&mut walk, "evt_9-0", page(&[poison], "true")), Taken::PassedOver);
    answer(&mut walk, "evt_8-0", page(&["evt_7-0"], "false"));
    is_done(&mut walk, &["evt_7-0", "evt_8-0", "evt_9-0"], false);
    assert!(Walk::new(0).answer(Ok(Bytes::from_static(b"<html>"))).is_err(), "no page of the log");
}

#[test]
fn a_page_that_comes_shorter_the_second_time_breaks_the_walk_before_what_is_above() {
    let wide =
        |ids: &[&str]| page(ids, "true").map(|body| [&body[..], &vec![b' '; KEPT_BYTES_MAX / 2 + 1]].concat().into());
    let mut walk = Walk::new(5);
    answer(&mut walk, "", wide(&["evt_9-0"]));
    answer(&mut walk, "evt_9-0", wide(&["evt_8-0", "evt_7-0"]));
    answer(&mut walk, "evt_7-0", page(&["evt_1-0", "evt_0-0"], "true"));
    assert!(matches!(walk.step(), Step::HandOn(events) if events.is_empty()));
    answer(&mut walk, "evt_9-0", wide(&["evt_8-0"]));
    ends(&mut walk, &[], Why::Shorter);
}

#[test]
fn a_log_that_does_not_show_whether_there_is_more_is_walked_to_an_empty_page() {
    let mut walk = Walk::new(0);
    answer(&mut walk, "", page(&["evt_9-0"], "null"));
    answer(&mut walk, "evt_9-0", page(&[], "null"));
    is_done(&mut walk, &["evt_9-0"], false);
    let mut walk = Walk::new(0);
    answer(&mut walk, "", page(&["evt_9-0"], "true"));
    answer(&mut walk, "evt_9-0", page(&[], "true"));
    ends(&mut walk, &["evt_9-0"], Why::NoWayOn);
}

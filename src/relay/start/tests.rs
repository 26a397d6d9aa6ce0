#![allow(clippy::unwrap_used, reason = "a test may stop")]
use super::super::journal::Entries;
use super::*;
use crate::kafka::Marks;
use crate::labels::Topic;
use crate::relay::dedup::Claim;

const HOUR_MS: i64 = 3_600_000;
const NOW_MS: i64 = 1_700_000_000_000;
const NOW: Now = Now { ms: NOW_MS, provider_ms: NOW_MS, own_ms: NOW_MS };
const SETTINGS: Settings = Settings {
    unread_ms: None,
    window: Duration::from_secs(1800),
    ids_max: 1000,
    overlap: Duration::from_secs(60),
    first_start: Duration::from_secs(600),
    from_ms: None,
};

/// A checkpoint of 22:13:10, ten seconds ago, and marks.
fn predecessor(cursor: Option<&str>, verified: Option<&str>) -> Predecessor {
    let checkpoint = Checkpoint::new("r".to_owned(), 0, "2023-11-14T22:13:10.000Z".to_owned(), "devnet");
    let value = serde_json::json!({ "cursor": cursor, "verified": verified, "gaps": [] }).to_string().into_bytes();
    Predecessor { checkpoint, marks: Marks::from([(String::new(), value)]) }
}

/// A start of the account without a name.
fn begin(settings: &Settings, predecessor: Option<&Predecessor>, now: Now) -> Start {
    Start::new(settings, &[String::new()], predecessor, now, [1, 2])
}

fn entry(topic: Topic, id: &str, version_ms: i64) -> Entry<'_> {
    let version = Some(Version { ms: version_ms, seq: 0 }).filter(|_| topic != Topic::DeadLetter);
    Entry { account: "", topic, id: id.as_bytes(), key: id.as_bytes(), version }
}

/// Begins with a transaction of these entries, and forgets at once all that is older than the window.
fn begun_with(now: Now, entries: &[Entry<'_>]) -> Started {
    let known = predecessor(Some("evt_1699999900000-0"), Some("2023-11-14T22:10:00.000Z"));
    let mut start = begin(&SETTINGS, Some(&known), now);
    let mut journal = Entries::default();
    entries.iter().for_each(|entry| journal.push(entry));
    journal.values().for_each(|value| start.journal(value, NOW_MS - 1000));
    start.checkpoint(&Checkpoint { journal: journal.count(), ..known.checkpoint });
    let mut started = start.finish(NOW_MS);
    assert_eq!(started.forgot, None);
    started.versions.expire(NOW_MS + HOUR_MS);
    started
}

fn is_newest(started: &mut Started, key: &str, ms: i64) -> bool {
    started.versions.advance(Topic::Orders as u8, key.as_bytes(), Version { ms, seq: 0 }, NOW_MS).is_some()
}

#[test]
fn reading_back_begins_a_window_and_an_hour_before_the_last_sign_of_life() {
    let at = |at: &str| Checkpoint { at: at.to_owned(), ..predecessor(None, None).checkpoint };
    let from = |predecessor: Option<&str>, window| {
        read_back_from(NOW_MS, predecessor.map(at).as_ref(), None, Duration::from_millis(window))
    };
    assert_eq!(read_back_from(NOW_MS, None, Some(NOW_MS - 9), Duration::from_millis(5)), NOW_MS - 9 - HOUR_MS);
    assert_eq!(from(None, 5), NOW_MS - 5 - HOUR_MS);
    assert_eq!(from(Some("2023-11-14T22:13:10.000Z"), 5), NOW_MS - 10_000 - 5 - HOUR_MS);
    assert_eq!(from(Some("2033-11-14T22:13:10.000Z"), 5), NOW_MS - 5 - HOUR_MS);
    assert_eq!(from(Some("nonsense"), 5), NOW_MS - 5 - HOUR_MS);
    assert_eq!(from(None, u64::MAX), 0);
}

#[test]
fn what_waits_in_the_inbox_is_known_however_old_it_is() {
    let known = predecessor(None, None);
    let from = |unread_ms| begin(&Settings { unread_ms, ..SETTINGS }, Some(&known), NOW).read_from_ms();
    let window_ms = 1_800_000;
    assert_eq!(from(None), Some(NOW_MS - 10_000 - window_ms - HOUR_MS));
    assert_eq!(from(Some(NOW_MS)), from(None));
    assert_eq!(from(Some(NOW_MS - 5 * HOUR_MS)), Some(NOW_MS - 5 * HOUR_MS - window_ms - HOUR_MS));
}

#[test]
fn a_dead_letter_gives_no_version_whatever_its_id() {
    let mut started = begun_with(NOW, &[entry(Topic::DeadLetter, "evt_9999999999999-0", 9_999_999_999_999)]);
    assert!(is_newest(&mut started, "new", NOW_MS), "the floor is where it was");
    let near = entry(Topic::DeadLetter, "evt_1699999999000-0", NOW_MS - 1000);
    let mut started = begun_with(NOW, &[near]);
    assert!(is_newest(&mut started, "new", NOW_MS - 2000));
    assert_eq!(
        started.window.claim_dead_letter(Account::FIRST, b"evt_1699999999000-0", NOW_MS),
        Claim::Settled,
        "but it is known"
    );
    assert!(
        matches!(started.window.claim(Account::FIRST, b"evt_1699999999000-0", NOW_MS), Claim::New(_)),
        "and its id is not spent"
    );
}

#[test]
fn what_is_from_the_future_by_both_clocks_and_the_cursor_moves_nothing() {
    let most_ms = AHEAD_MAX_MS + HOUR_MS;
    let ahead_ms = NOW_MS + most_ms + 1;
    let later = Now { provider_ms: NOW_MS + 1, ..NOW };
    let behind = Now { ms: NOW_MS - 2 * HOUR_MS, provider_ms: NOW_MS - 2 * HOUR_MS, ..NOW };
    for (now, version_ms, counts) in [
        (NOW, ahead_ms - 1, true),
        (NOW, ahead_ms, false),
        (later, ahead_ms, true),
        (later, ahead_ms + 1, false),
        // Our clock is two hours behind, and no answer gave the provider's yet: the cursor did.
        (behind, 1_699_999_900_000 + most_ms, true),
        (behind, 1_699_999_900_000 + most_ms + 1, false),
    ] {
        let mut started = begun_with(now, &[entry(Topic::Orders, "evt", version_ms)]);
        assert_eq!(!is_newest(&mut started, "new", version_ms), counts, "{now:?} {version_ms}");
    }
}

#[test]
fn a_stale_event_gives_its_id_alone() {
    let stale = Entry { version: None, ..entry(Topic::Orders, "stale", NOW_MS) };
    let mut started = begun_with(NOW, &[stale]);
    assert!(is_newest(&mut started, "stale", NOW_MS - 1000));
    assert_eq!(started.window.claim(Account::FIRST, b"stale", NOW_MS), Claim::Settled);
}

#[test]
fn a_memory_that_is_not_whole_raises_the_floor_and_opens_a_gap() {
    let known = predecessor(Some("evt_1699999985000-0"), Some("2023-11-14T22:10:00.000Z"));
    let mut start = begin(&SETTINGS, Some(&known), NOW);
    start.checkpoint(&Checkpoint { commit: 3, ..known.checkpoint.clone() });
    start.checkpoint(&Checkpoint { commit: 5, ..known.checkpoint });
    let mut started = start.finish(NOW_MS);
    let (breach, gaps) = started.forgot.take().unwrap();
    let gap = &gaps[0].1;
    assert!(matches!(breach, Breach::Cleaned { .. }), "{breach}");
    assert_eq!((gap.cause, gap.opened_ms), (GapCause::Journal, NOW_MS - 10_000));
    assert_eq!(started.accounts[0].progress.gaps().len(), 2, "the restart's, and the memory's");
    // 22:13:10 by the checkpoint, and no younger by the cursor.
    assert!(!is_newest(&mut started, "a", NOW_MS - 10_000) && is_newest(&mut started, "b", NOW_MS - 9_999));
}

/// The clock of who wrote the checkpoint may have been behind, and there is no cursor that shows it.
#[test]
fn a_memory_without_marks_raises_the_floor_to_the_start() {
    let known = predecessor(None, None);
    let mut start = begin(&SETTINGS, Some(&known), NOW);
    start.checkpoint(&Checkpoint { commit: 5, ..known.checkpoint });
    let mut started = start.finish(NOW_MS);
    assert_eq!(started.forgot.take().map(|(_, gaps)| gaps[0].1.opened_ms), Some(NOW_MS));
    assert!(!is_newest(&mut started, "a", NOW_MS) && is_newest(&mut started, "b", NOW_MS + 1));
}

/// The gap stays open until a walk has proven its time: a relay that starts meanwhile knows no better.
#[test]
fn what_a_predecessor_forgot_is_forgotten_until_its_gap_is_closed() {
    let gap = serde_json::json!({
        "id": 1, "cause": "journal", "from": "evt_1699999985000-0", "opened_at": "2023-11-14T22:13:00.000Z",
        "closed_at": null, "closed_by": null, "recovered": 0
    });
    let mut known = predecessor(Some("evt_1699999990000-0"), Some("2023-11-14T22:10:00.000Z"));
    let value = serde_json::json!({ "cursor": null, "verified": "2023-11-14T22:10:00.000Z", "gaps": [gap] });
    known.marks.insert(String::new(), value.to_string().into_bytes());
    let mut start = begin(&SETTINGS, Some(&known), NOW);
    let mut journal = Entries::default();
    journal.push(&entry(Topic::Orders, "evt_1699999970000-0", NOW_MS - 30_000));
    journal.values().for_each(|value| start.journal(value, NOW_MS - 21_000));
    start.checkpoint(&Checkpoint { journal: 1, ..known.checkpoint });
    let mut started = start.finish(NOW_MS);
    assert!(!is_newest(&mut started, "other", NOW_MS - 20_000) && is_newest(&mut started, "new", NOW_MS - 14_999));
    // Its version was written before the gap opened.
    assert!(!is_newest(&mut started, "evt_1699999970000-0", NOW_MS - 25_000));
    assert_eq!(
        started.window.claim(Account::FIRST, b"evt_1699999970000-0", NOW_MS),
        Claim::Settled,
        "but it was published"
    );
}

#[test]
fn of_more_ids_than_fit_the_newest_are_known() {
    let ids: Vec<String> = (0..1500).map(|number| format!("evt_{number}-0")).collect();
    let entries: Vec<_> = ids.iter().map(|id| entry(Topic::Orders, id, NOW_MS)).collect();
    let mut started = begun_with(NOW, &entries);
    assert_eq!((started.window.len(), started.early), (1000, 500));
    assert_eq!(started.window.claim(Account::FIRST, b"evt_1499-0", NOW_MS), Claim::Settled);
    assert!(matches!(started.window.claim(Account::FIRST, b"evt_499-0", NOW_MS), Claim::New(_)));
}

#[test]
fn the_floor_is_what_may_have_been_published_before_what_is_read_back() {
    let known = predecessor(None, Some("2023-11-14T22:13:00.000Z"));
    let mut start = begin(&SETTINGS, Some(&known), NOW);
    let floor_ms = start.read_from_ms().unwrap() + AHEAD_MAX_MS;
    start.checkpoint(&known.checkpoint);
    let mut started = start.finish(NOW_MS);
    assert!(!is_newest(&mut started, "a", floor_ms) && is_newest(&mut started, "b", floor_ms + 1));
    let mut first = begin(&SETTINGS, None, NOW).finish(NOW_MS);
    assert!(is_newest(&mut first, "a", 0), "nothing was published before");
}

#[test]
fn the_gap_of_a_start_begins_where_the_last_relay_stopped_or_history_is_wanted() {
    let from = Settings { from_ms: Some(7_000_000), ..SETTINGS };
    let known = predecessor(Some("evt_1-0"), Some("2023-11-14T22:13:00.000Z"));
    let claimed = predecessor(None, None);
    let begun = |settings: &Settings, predecessor: Option<&Predecessor>| {
        let mut start = begin(settings, predecessor, NOW);
        predecessor.iter().for_each(|predecessor| start.checkpoint(&predecessor.checkpoint));
        let opened = start.opened()[0].1.clone();
        let position = start.finish(NOW_MS).accounts[0].progress.position(SETTINGS.window);
        (opened.cause, opened.opened_ms, position.walk_from_ms, position.proven_ms)
    };
    let first = GapCause::FirstStart;
    let restart = GapCause::Restart;
    let verified_ms = NOW_MS - 20_000;
    let expected = (restart, NOW_MS - 10_000, Some(verified_ms - 60_000), Some(verified_ms));
    assert_eq!(begun(&SETTINGS, Some(&known)), expected);
    assert_eq!(begun(&SETTINGS, None), (first, NOW_MS - 600_000, Some(NOW_MS - 600_000), Some(NOW_MS)));
    let expected = (first, NOW_MS - 600_000, Some(NOW_MS - 600_000), Some(NOW_MS - 540_000));
    assert_eq!(begun(&SETTINGS, Some(&claimed)), expected, "it claimed the name, and no more");
    assert_eq!(begun(&from, Some(&known)), (first, 7_000_000, Some(7_000_000), Some(7_060_000)));
    let mut lost = predecessor(None, None);
    lost.checkpoint.commit = 1;
    let expected = (first, NOW_MS - 600_000, Some(NOW_MS - 600_000), Some(NOW_MS - 540_000));
    assert_eq!(begun(&SETTINGS, Some(&lost)), expected, "the marks are lost, and what they proved");
}

#[test]
fn a_verified_mark_ahead_of_both_clocks_is_taken_back() {
    let known = predecessor(None, Some("2023-11-14T23:13:20.000Z"));
    let verified = |now| begin(&SETTINGS, Some(&known), now).finish(NOW_MS).accounts[0].progress.verified_ms();
    assert_eq!(verified(NOW), Some(NOW_MS));
    assert_eq!(verified(Now { provider_ms: NOW_MS + HOUR_MS, ..NOW }), Some(NOW_MS + HOUR_MS));
}

#[test]
fn each_account_goes_on_where_it_was_and_a_new_one_begins() {
    let mut known = predecessor(None, None);
    known.checkpoint.commit = 7;
    let value = |verified: &str, gap: u64| {
        let gap = serde_json::json!({ "id": gap, "cause": "reset", "opened_at": verified, "closed_at": verified });
        serde_json::json!({ "cursor": null, "verified": verified, "gaps": [gap] }).to_string().into_bytes()
    };
    known.marks = Marks::from([
        ("a".to_owned(), value("2023-11-14T22:13:00.000Z", 41)),
        ("gone".to_owned(), value("2023-11-14T22:00:00.000Z", 7)),
    ]);
    let names = ["new".to_owned(), "a".to_owned()];
    let mut start = Start::new(&SETTINGS, &names, Some(&known), NOW, [1, 2]);
    let opened: Vec<_> = start.opened().iter().map(|(account, gap)| (account.place(), gap.cause, gap.id)).collect();
    assert_eq!(opened, [(0, GapCause::FirstStart, 42), (1, GapCause::Restart, 43)]);
    let mut journal = Entries::default();
    for account in ["a", "gone", "older"] {
        journal.push(&Entry { account, ..entry(Topic::Orders, "evt_1699999970000-0", NOW_MS - 30_000) });
    }
    journal.values().for_each(|value| start.journal(value, NOW_MS - 21_000));
    start.checkpoint(&Checkpoint { journal: 3, ..known.checkpoint });
    let mut started = start.finish(NOW_MS);
    let accounts: Vec<_> = started.accounts.iter().map(|known| (known.name.as_str(), known.served)).collect();
    assert_eq!(accounts, [("new", true), ("a", true), ("gone", false), ("older", false)]);
    let proven_ms = |place: usize| started.accounts[place].progress.position(SETTINGS.window).proven_ms;
    assert_eq!((proven_ms(0), proven_ms(1)), (Some(NOW_MS), Some(NOW_MS - 20_000)), "nobody promised what is new");
    let mut claim = |place| started.window.claim(Account::at(place), b"evt_1699999970000-0", NOW_MS);
    assert!(matches!(claim(0), Claim::New(_)), "an id of another account is another id");
    assert_eq!([claim(1), claim(2), claim(3)], [Claim::Settled; 3]);
}

//! What a relay begins with: its window, versions and progress, from what was read back, the predecessor's checkpoint,
//! the settings and both clocks.
//!
//! Pure. [`Start::new`] decides where to read from and which gap is open; then the control topic's records are told in
//! their order; [`Start::finish`] gives the rest. Nothing that is from the future moves anything.

use super::dedup::Window;
use super::journal::{Breach, Entry, ReadBack};
use super::marks::resume;
use super::planner::{AHEAD_MAX_MS, Now};
use super::progress::{Gap, GapCause, GapNumber, Progress};
use super::versions::{Version, Versions};
use crate::clock::{CLOCKS_DISAGREE_MS, millis};
use crate::kafka::{Checkpoint, Predecessor};
use crate::labels::{Account, Topic};
use std::collections::HashMap;
use std::time::Duration;

/// What a start depends on, of the settings.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long ids and versions are remembered.
    pub window: Duration,
    /// How many of them at most.
    pub ids_max: usize,
    /// How far a walk looks back behind the verified mark.
    pub overlap: Duration,
    /// How far back the first start of a name wants history.
    pub first_start: Duration,
    /// Where to begin the first walk, once, in Unix milliseconds (`run --from`).
    pub from_ms: Option<i64>,
}

/// An account that the relay knows of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its name; empty where accounts have none.
    pub name: String,
    /// How far it has come.
    pub progress: Progress,
    /// The settings name it: its legs bring events.
    pub served: bool,
}

impl Default for Known {
    /// One without a name, of which nothing is known yet.
    fn default() -> Self {
        Self { name: String::new(), progress: Progress::default(), served: true }
    }
}

/// A start that is under way.
#[derive(Debug)]
pub struct Start {
    memory: Memory,
    journal: Option<ReadBack>,
    next_gap: GapNumber,
    opened: Vec<(Account, Gap)>,
    read_from_ms: i64,
    /// When the last checkpoint was written.
    last_ms: i64,
    /// The later of both clocks, and the cursor.
    latest_ms: i64,
}

/// What the relay begins with.
#[derive(Debug)]
pub struct Started {
    /// Ids that are published.
    pub window: Window,
    /// The newest version of each key.
    pub versions: Versions,
    /// Each account in its place: those of the settings first, in their order.
    pub accounts: Vec<Known>,
    /// Ids that had to make room before their time.
    pub early: u64,
    /// Why the memory of what was published is not whole, and the gaps that are open because of it.
    pub forgot: Option<(Breach, Vec<(Account, Gap)>)>,
}

/// Window and versions, filled in the order in which the events were committed.
#[derive(Debug)]
struct Memory {
    accounts: Vec<Known>,
    /// The place of each by its name, and of the one that was named last.
    places: HashMap<String, Account>,
    last: Account,
    window: Window,
    versions: Versions,
    ids_max: usize,
    early: u64,
    /// What is newer than this is from the future.
    horizon_ms: i64,
    /// A predecessor found that its memory of what was published up to then was not whole, and no walk has proven since
    /// that nothing is missing: the versions of that time may not be the newest.
    forgot_to_ms: Option<i64>,
    /// Time never goes back here, whatever the clocks of the runs did.
    at_ms: i64,
}

impl Memory {
    /// The account of this name; one that nobody knew has only what the journal says of it.
    fn place_of(&mut self, name: &str) -> Account {
        if self.accounts.get(self.last.place()).is_some_and(|last| last.name == name) {
            return self.last;
        }
        let known = self.places.get(name).copied();
        self.last = known.unwrap_or_else(|| {
            let account = Account::at(self.accounts.len());
            let progress = resume(None, Duration::ZERO);
            self.accounts.push(Known { name: name.to_owned(), progress, served: false });
            self.places.insert(name.to_owned(), account);
            account
        });
        self.last
    }

    fn note(&mut self, entry: Entry<'_>, at_ms: i64) {
        let Entry { account, topic, id, key, version } = entry;
        let account = self.place_of(account);
        self.at_ms = self.at_ms.max(at_ms);
        match topic {
            // It is no version of anything, and it does not spend its id.
            Topic::DeadLetter => self.window.remember_dead_letter(account, id, self.at_ms),
            _ => self.window.remember(account, id, self.at_ms),
        }
        let known = self.forgot_to_ms.is_none_or(|forgot_to_ms| at_ms > forgot_to_ms);
        if let Some(version) = version.filter(|version| known && version.ms <= self.horizon_ms) {
            self.versions.remember(topic as u8, key, version, self.at_ms);
        }
        if self.window.len() > self.ids_max {
            self.early += self.window.expire(self.at_ms, |_| None);
            self.versions.expire(self.at_ms);
        }
    }
}

impl Start {
    /// Decides what the predecessor's checkpoint and marks alone decide. `names` are the accounts of the settings, one without
    /// a name where they have none; `seed` is random a process.
    pub fn new(
        settings: &Settings,
        names: &[String],
        predecessor: Option<&Predecessor>,
        now: Now,
        seed: [u64; 2],
    ) -> Self {
        let Settings { window, ids_max, overlap, .. } = *settings;
        let checkpoint = predecessor.map(|predecessor| &predecessor.checkpoint);
        let mut accounts = known(names, predecessor, overlap);
        // What is not stale was not from the future for its publisher, whose clocks may have been others than ours: an hour
        // more, and the cursors, which never moved past what the predecessor took for the provider's time.
        let latest_ms = now.ms.max(now.provider_ms).max(newest_cursor_ms(&accounts).unwrap_or(i64::MIN));
        let horizon_ms = latest_ms.saturating_add(AHEAD_MAX_MS + CLOCKS_DISAGREE_MS);
        let mut next_gap = GapNumber::default();
        accounts.iter().for_each(|known| next_gap.after(&known.progress));
        let mut opened = Vec::new();
        // The predecessor knew other accounts: one without marks is new.
        let before = checkpoint.filter(|_| accounts.iter().all(|known| known.progress.verified_ms().is_none()));
        for (account, progress) in served(&mut accounts) {
            let before = if progress.verified_ms().is_some() { checkpoint } else { before };
            opened.push((account, open_gap(progress, settings, before, now, &mut next_gap)));
        }
        let again_ms = served(&mut accounts).filter_map(|(_, progress)| progress.again_from_ms(window)).min();
        let read_from_ms = read_back_from(now.ms, checkpoint, again_ms, window);
        let last_ms = checkpoint.and_then(Checkpoint::at_ms).unwrap_or(now.ms);
        let mut versions = Versions::new(window, ids_max, seed);
        if checkpoint.is_some() {
            // What was published before this time is not known any more; it was not newer than this.
            versions.raise_floor(Version { ms: read_from_ms.saturating_add(AHEAD_MAX_MS), seq: u64::MAX });
        }
        let gaps = accounts.iter().flat_map(|known| known.progress.gaps());
        let forgotten: Vec<&Gap> = gaps.filter(|gap| gap.cause == GapCause::Journal).collect();
        for gap in &forgotten {
            let cursor_ms = gap.from.and_then(|cursor| i64::try_from(cursor.ms).ok());
            versions.raise_floor(forgotten_floor(gap.opened_ms, cursor_ms));
        }
        let forgot_to_ms = forgotten.iter().map(|gap| gap.opened_ms).max();
        // What socket and walk will bring again has to be known, however old it is.
        let window_from_ms = last_ms.min(now.ms).saturating_sub(millis(window));
        let proven_from_ms = window_from_ms.min(again_ms.unwrap_or(window_from_ms));
        let window = Window::new(window, ids_max, seed);
        let by_name = |(place, known): (usize, &Known)| (known.name.clone(), Account::at(place));
        let memory = Memory {
            places: accounts.iter().enumerate().map(by_name).collect(),
            last: Account::FIRST,
            accounts,
            window,
            versions,
            ids_max,
            early: 0,
            horizon_ms,
            forgot_to_ms,
            at_ms: i64::MIN,
        };
        let journal = checkpoint.map(|_| ReadBack::new(proven_from_ms));
        Self { memory, journal, next_gap, opened, read_from_ms, last_ms, latest_ms }
    }

    /// The gap of each account that is open from now on.
    pub fn opened(&self) -> &[(Account, Gap)] {
        &self.opened
    }

    /// The control topic's records since this time, in Unix milliseconds, are to be read; none where there is no
    /// predecessor.
    pub fn read_from_ms(&self) -> Option<i64> {
        self.journal.as_ref().map(|_| self.read_from_ms)
    }

    /// A journal record, committed at `at_ms`.
    pub fn journal(&mut self, value: &[u8], at_ms: i64) {
        if let Some(journal) = &mut self.journal {
            journal.journal(value, at_ms);
        }
    }

    /// A checkpoint: the end of its transaction.
    pub fn checkpoint(&mut self, checkpoint: &Checkpoint) {
        let Self { journal, memory, .. } = self;
        if let Some(journal) = journal {
            journal.checkpoint(checkpoint, &mut |entry, at_ms| memory.note(entry, at_ms));
        }
    }

    /// Everything was read, by `own_ms` ([`Now::own_ms`]): reading back may have waited long for Kafka.
    pub fn finish(self, own_ms: i64) -> Started {
        let Self { mut memory, journal, mut next_gap, last_ms, latest_ms, .. } = self;
        let breach = journal.and_then(|journal| journal.finish(&mut |entry, at_ms| memory.note(entry, at_ms)));
        let Memory { mut accounts, mut window, mut versions, early, .. } = memory;
        let forgot = breach.map(|breach| {
            // What is missing may have been newer than anything that is known, up to the last checkpoint. Where the marks are
            // missing too, nothing tells of a clock that was behind when that was written.
            let cursor_ms = newest_cursor_ms(&accounts);
            let last_ms = if cursor_ms.is_some() { last_ms } else { last_ms.max(latest_ms) };
            versions.raise_floor(forgotten_floor(last_ms, cursor_ms));
            versions.forget();
            let gaps =
                served(&mut accounts).map(|(account, progress)| (account, progress.forgot(last_ms, &mut next_gap)));
            (breach, gaps.collect())
        });
        window.resume(own_ms);
        versions.resume(own_ms);
        Started { window, versions, accounts, early, forgot }
    }
}

/// An account that is served from now on, while the relay runs: it goes on where its marks end, or begins as a first one does.
pub(super) fn admit(progress: &mut Progress, first_start: Duration, now: Now, next_gap: &mut GapNumber) -> Gap {
    progress.never_after(now.ms.max(now.provider_ms));
    match progress.verified_ms() {
        Some(verified_ms) => progress.restarted(verified_ms, next_gap),
        None => {
            progress.began(now.ms);
            let from_ms = now.ms.saturating_sub(millis(first_start));
            progress.begin_at(GapCause::FirstStart, from_ms, now.ms, next_gap)
        }
    }
}

/// The accounts of the settings in their order, and those that the control topic knows besides.
fn known(names: &[String], predecessor: Option<&Predecessor>, overlap: Duration) -> Vec<Known> {
    let marks = predecessor.map(|predecessor| &predecessor.marks);
    let progress = |name: &str| resume(marks.and_then(|marks| marks.get(name)).map(Vec::as_slice), overlap);
    let mut accounts: Vec<Known> =
        names.iter().map(|name| Known { name: name.clone(), progress: progress(name), served: true }).collect();
    let others = marks.into_iter().flat_map(|marks| marks.keys()).filter(|name| !names.contains(name));
    accounts.extend(others.map(|name| Known { name: name.clone(), progress: progress(name), served: false }));
    accounts
}

fn served(accounts: &mut [Known]) -> impl Iterator<Item = (Account, &mut Progress)> {
    let places = accounts.iter_mut().enumerate().filter(|(_, known)| known.served);
    places.map(|(place, known)| (Account::at(place), &mut known.progress))
}

fn newest_cursor_ms(accounts: &[Known]) -> Option<i64> {
    accounts.iter().filter_map(|known| i64::try_from(known.progress.cursor()?.ms).ok()).max()
}

/// Where the last relay stopped, or where a first one begins: either way a gap is open until a walk has filled it.
fn open_gap(
    progress: &mut Progress,
    settings: &Settings,
    predecessor: Option<&Checkpoint>,
    now: Now,
    next_gap: &mut GapNumber,
) -> Gap {
    progress.never_after(now.ms.max(now.provider_ms));
    let last_ms = predecessor.and_then(Checkpoint::at_ms);
    match (settings.from_ms, progress.verified_ms(), last_ms) {
        (Some(from_ms), ..) => progress.begin_at(GapCause::FirstStart, from_ms, now.ms, next_gap),
        (None, Some(_), Some(last_ms)) => progress.restarted(last_ms, next_gap),
        _ => {
            match predecessor {
                None => progress.began(now.ms),
                // It came no further than to claim the name, and told the time by its own clock.
                Some(claim) if claim.is_claim() => {
                    progress.began(last_ms.unwrap_or(now.ms).saturating_sub(CLOCKS_DISAGREE_MS));
                }
                // Kafka lost the marks: what is fetched again was promised.
                Some(_) => {}
            }
            let first_start_ms = millis(settings.first_start);
            progress.begin_at(GapCause::FirstStart, now.ms.saturating_sub(first_start_ms), now.ms, next_gap)
        }
    }
}

/// Of what was forgotten nothing is newer than the last checkpoint at `last_ms`, and the newest cursor that there was.
fn forgotten_floor(last_ms: i64, cursor_ms: Option<i64>) -> Version {
    Version { ms: last_ms.max(cursor_ms.unwrap_or(last_ms)), seq: u64::MAX }
}

/// Where to begin reading back, in Unix milliseconds: a window before the last sign of the predecessor, or before
/// now, or from when on events come again, whichever is earliest, and an hour more for clocks that disagree.
pub fn read_back_from(
    now_ms: i64,
    predecessor: Option<&Checkpoint>,
    again_from_ms: Option<i64>,
    window: Duration,
) -> i64 {
    let last = predecessor.and_then(Checkpoint::at_ms).unwrap_or(now_ms).min(now_ms);
    let window_ms = millis(window);
    let from_ms = last.saturating_sub(window_ms).min(again_from_ms.unwrap_or(i64::MAX));
    from_ms.saturating_sub(CLOCKS_DISAGREE_MS).max(0)
}

#[cfg(test)]
mod tests {
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
    fn a_dead_letter_gives_no_version_whatever_its_id_says() {
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
            // Our clock is two hours behind, and nobody told the provider's yet: the cursor did.
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

    /// The clock of who wrote the checkpoint may have been behind, and there is no cursor that tells.
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
}

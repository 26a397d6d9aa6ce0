//! What a relay begins with: its window, versions and progress, from what was read back, the predecessor's checkpoint,
//! the settings and both clocks.
//!
//! Pure. [`Start::new`] decides where to read from and which gap is open; then each [`Entry`] that was read is noted, in
//! any order; [`Start::finish`] gives the rest. Nothing that is from the future moves anything.

use super::dedup::Window;
use super::planner::{AHEAD_MAX_MS, Now};
use super::progress::{Gap, GapCause, Progress};
use super::records::resume;
use super::versions::{Version, Versions};
use super::window_builder::WindowBuilder;
use crate::clock::{CLOCKS_DISAGREE_MS, millis};
use crate::kafka::Checkpoint;
use crate::labels::Topic;
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

/// A published event, as it was read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'e> {
    /// When it was published, in Unix milliseconds by the clock of the relay that published it.
    pub published_at_ms: i64,
    /// The topic of its record.
    pub topic: Topic,
    /// The key of its record.
    pub key: &'e [u8],
    /// The event's id; for a dead letter without one the digest that is its key.
    pub id: &'e [u8],
    /// How new it is, where that could be read.
    pub version: Option<Version>,
    /// It was published as stale: something newer was published for its key before, or it was from the future.
    pub stale: bool,
    /// It was published again on purpose. That is no sign that the relay itself has published it: where it has not, it
    /// still has to, and `latest` waits for it.
    pub replay: bool,
}

/// A start that is under way.
#[derive(Debug)]
pub struct Start {
    builder: WindowBuilder,
    progress: Progress,
    opened: Gap,
    read_from_ms: i64,
    now_ms: i64,
    /// What is newer than this is from the future.
    horizon_ms: i64,
}

/// What the relay begins with.
#[derive(Debug)]
pub struct Started {
    /// Ids that are published.
    pub window: Window,
    /// The newest version of each key.
    pub versions: Versions,
    /// Cursor, verified mark and gaps.
    pub progress: Progress,
    /// Ids that had to make room before their time.
    pub early: u64,
}

impl Start {
    /// Decides what the predecessor's checkpoint alone decides. `seed` is random a process.
    pub fn new(settings: &Settings, predecessor: Option<&Checkpoint>, now: Now, seed: [u64; 2]) -> Self {
        let Settings { window, ids_max, overlap, .. } = *settings;
        let mut progress = match predecessor {
            Some(checkpoint) => resume(&checkpoint.marks, overlap),
            None => Progress::resume(None, None, Vec::new(), overlap),
        };
        // What is not stale was not from the future for its publisher, whose clocks may have been others than ours: an hour
        // more, and the cursor, which never moved past what the predecessor took for the provider's time.
        let cursor_ms = progress.cursor().and_then(|cursor| i64::try_from(cursor.ms).ok()).unwrap_or(i64::MIN);
        let latest_ms = now.ms.max(now.provider_ms).max(cursor_ms);
        let horizon_ms = latest_ms.saturating_add(AHEAD_MAX_MS + CLOCKS_DISAGREE_MS);
        let opened = open_gap(&mut progress, settings, predecessor, now);
        let read_from_ms = read_back_from(now.ms, predecessor, progress.again_from_ms(), window);
        let mut versions = Versions::new(window, ids_max, seed);
        if predecessor.is_some() {
            // What was published before this time is not known any more; it was not newer than this.
            versions.raise_floor(Version { ms: read_from_ms.saturating_add(AHEAD_MAX_MS), seq: u64::MAX });
        }
        let builder = WindowBuilder::new(Window::new(window, ids_max, seed), versions, ids_max);
        Self { builder, progress, opened, read_from_ms, now_ms: now.ms, horizon_ms }
    }

    /// The gap that is open from now on.
    pub fn opened(&self) -> &Gap {
        &self.opened
    }

    /// What was published since this time, in Unix milliseconds, is to be noted.
    pub fn read_from_ms(&self) -> i64 {
        self.read_from_ms
    }

    /// Notes what was read back, in any order.
    pub fn note(&mut self, entry: Entry<'_>) {
        let Entry { published_at_ms, topic, key, id, version, stale, replay } = entry;
        if replay {
            return;
        }
        if topic == Topic::DeadLetter {
            // It is no version of anything, its id may be any number that its sender chose, and it does not spend that id.
            return self.builder.note_dead_letter(id, published_at_ms);
        }
        let counts = |version: &Version| !stale && version.ms <= self.horizon_ms;
        let newest = version.filter(counts).map(|version| (topic as u8, key, version));
        self.builder.note(id, published_at_ms, newest);
    }

    /// Everything was noted.
    pub fn finish(self) -> Started {
        let Self { builder, progress, now_ms, .. } = self;
        let (mut window, versions, early) = builder.finish();
        window.resume(now_ms);
        Started { window, versions, progress, early }
    }
}

/// Where the last relay stopped, or where a first one begins: either way a gap is open until a walk has filled it.
fn open_gap(progress: &mut Progress, settings: &Settings, predecessor: Option<&Checkpoint>, now: Now) -> Gap {
    progress.never_after(now.ms.max(now.provider_ms));
    let last_ms = predecessor.and_then(Checkpoint::at_ms);
    match (settings.from_ms, progress.verified_ms(), last_ms) {
        (Some(from_ms), ..) => progress.begin_at(GapCause::FirstStart, from_ms, now.ms),
        (None, Some(_), Some(last_ms)) => progress.restarted(last_ms),
        _ => {
            // A predecessor that came no further than to claim the name told the time by its own clock.
            progress.began(last_ms.map_or(now.ms, |last_ms| last_ms.saturating_sub(CLOCKS_DISAGREE_MS)));
            let first_start_ms = millis(settings.first_start);
            progress.begin_at(GapCause::FirstStart, now.ms.saturating_sub(first_start_ms), now.ms)
        }
    }
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
    use super::*;
    use crate::kafka::Marks;
    use crate::relay::dedup::Claim;

    const HOUR_MS: i64 = 3_600_000;
    const NOW_MS: i64 = 1_700_000_000_000;
    const NOW: Now = Now { ms: NOW_MS, provider_ms: NOW_MS };
    const SETTINGS: Settings = Settings {
        window: Duration::from_secs(1800),
        ids_max: 1000,
        overlap: Duration::from_secs(60),
        first_start: Duration::from_secs(600),
        from_ms: None,
    };

    /// A checkpoint of 22:13:10, ten seconds ago.
    fn checkpoint(cursor: Option<&str>, verified: Option<&str>) -> Checkpoint {
        let marks = Marks { cursor: cursor.map(str::to_owned), verified: verified.map(str::to_owned), gaps: vec![] };
        let at = "2023-11-14T22:13:10.000Z".to_owned();
        Checkpoint { run: String::new(), commit: 0, marks, at, environment: String::new() }
    }

    fn entry(topic: Topic, id: &str, version_ms: i64) -> Entry<'_> {
        let version = Some(Version { ms: version_ms, seq: 0 });
        let published_at_ms = NOW_MS - 1000;
        Entry { published_at_ms, topic, key: id.as_bytes(), id: id.as_bytes(), version, stale: false, replay: false }
    }

    /// Begins with these entries, and forgets at once all that is older than the window.
    fn begun_with(now: Now, entries: &[Entry<'_>]) -> Started {
        let known = checkpoint(Some("evt_1699999900000-0"), Some("2023-11-14T22:10:00.000Z"));
        let mut start = Start::new(&SETTINGS, Some(&known), now, [1, 2]);
        entries.iter().for_each(|entry| start.note(*entry));
        let mut started = start.finish();
        started.versions.expire(NOW_MS + HOUR_MS);
        started
    }

    fn is_newest(started: &mut Started, key: &str, ms: i64) -> bool {
        started.versions.advance(Topic::Orders as u8, key.as_bytes(), Version { ms, seq: 0 }, NOW_MS).is_some()
    }

    #[test]
    fn reading_back_begins_a_window_and_an_hour_before_the_last_sign_of_life() {
        let at = |at: &str| Checkpoint { at: at.to_owned(), ..checkpoint(None, None) };
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
        assert_eq!(started.window.claim_dead_letter(b"evt_1699999999000-0", NOW_MS), Claim::Settled, "but it is known");
        assert!(
            matches!(started.window.claim(b"evt_1699999999000-0", NOW_MS), Claim::New(_)),
            "and its id is not spent"
        );
    }

    #[test]
    fn what_is_from_the_future_by_both_clocks_and_the_cursor_moves_nothing() {
        let most_ms = AHEAD_MAX_MS + HOUR_MS;
        let ahead_ms = NOW_MS + most_ms + 1;
        let later = Now { ms: NOW_MS, provider_ms: NOW_MS + 1 };
        let behind = Now { ms: NOW_MS - 2 * HOUR_MS, provider_ms: NOW_MS - 2 * HOUR_MS };
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
    fn a_stale_record_gives_its_id_alone_and_a_replay_nothing() {
        let stale = Entry { stale: true, ..entry(Topic::Orders, "stale", NOW_MS) };
        let replay = Entry { replay: true, ..entry(Topic::Orders, "replay", NOW_MS) };
        let mut started = begun_with(NOW, &[stale, replay]);
        assert!(is_newest(&mut started, "stale", NOW_MS - 1000) && is_newest(&mut started, "replay", NOW_MS - 1000));
        assert_eq!(started.window.claim(b"stale", NOW_MS), Claim::Settled);
        assert!(matches!(started.window.claim(b"replay", NOW_MS), Claim::New(_)));
    }

    #[test]
    fn the_floor_is_what_may_have_been_published_before_what_is_read_back() {
        let known = checkpoint(None, Some("2023-11-14T22:13:00.000Z"));
        let start = Start::new(&SETTINGS, Some(&known), NOW, [1, 2]);
        let floor_ms = start.read_from_ms() + AHEAD_MAX_MS;
        let mut started = start.finish();
        assert!(!is_newest(&mut started, "a", floor_ms) && is_newest(&mut started, "b", floor_ms + 1));
        let mut first = Start::new(&SETTINGS, None, NOW, [1, 2]).finish();
        assert!(is_newest(&mut first, "a", 0), "nothing was published before");
    }

    #[test]
    fn the_gap_of_a_start_begins_where_the_last_relay_stopped_or_history_is_wanted() {
        let from = Settings { from_ms: Some(7_000_000), ..SETTINGS };
        let known = checkpoint(Some("evt_1-0"), Some("2023-11-14T22:13:00.000Z"));
        let claimed = checkpoint(None, None);
        let begin = |settings: &Settings, predecessor: Option<&Checkpoint>| {
            let start = Start::new(settings, predecessor, NOW, [1, 2]);
            let opened = start.opened().clone();
            let position = start.finish().progress.position();
            (opened.cause, opened.opened_ms, position.walk_from_ms, position.proven_ms)
        };
        let (first, restart) = (GapCause::FirstStart, GapCause::Restart);
        let verified_ms = NOW_MS - 20_000;
        let expected = (restart, NOW_MS - 10_000, Some(verified_ms - 60_000), Some(verified_ms));
        assert_eq!(begin(&SETTINGS, Some(&known)), expected);
        assert_eq!(begin(&SETTINGS, None), (first, NOW_MS - 600_000, Some(NOW_MS - 600_000), Some(NOW_MS)));
        let expected = (first, NOW_MS - 600_000, Some(NOW_MS - 600_000), Some(NOW_MS - 540_000));
        assert_eq!(begin(&SETTINGS, Some(&claimed)), expected, "it claimed the name, and no more");
        assert_eq!(begin(&from, Some(&known)), (first, 7_000_000, Some(7_000_000), Some(7_060_000)));
    }

    #[test]
    fn a_verified_mark_ahead_of_both_clocks_is_taken_back() {
        let known = checkpoint(None, Some("2023-11-14T23:13:20.000Z"));
        let verified = |now| Start::new(&SETTINGS, Some(&known), now, [1, 2]).finish().progress.verified_ms();
        assert_eq!(verified(NOW), Some(NOW_MS));
        assert_eq!(verified(Now { ms: NOW_MS, provider_ms: NOW_MS + HOUR_MS }), Some(NOW_MS + HOUR_MS));
    }
}

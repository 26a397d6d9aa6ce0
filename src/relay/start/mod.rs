//! What a relay begins with: its window, versions and progress, from what was read back, the predecessor's checkpoint,
//! the settings and both clocks.
//!
//! Pure. [`Start::new`] decides where to read from and which gap is open; then it takes the control topic's records in
//! their order; [`Start::finish`] gives the rest. Nothing that is from the future moves anything.

use super::dedup::Window;
use super::journal::{Breach, Entry, ReadBack};
use super::marks::resume;
use super::planner::{AHEAD_MAX_MS, Now};
use super::progress::{Gap, GapCause, GapNumber, Known, Progress};
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
    /// When the oldest record of the inbox that is not taken was appended, in Unix milliseconds; none where there is none.
    pub unread_ms: Option<i64>,
}

/// A start that is under way.
#[derive(Debug)]
pub struct Start {
    memory: Memory,
    journal: Option<ReadBack>,
    /// The newest run that came further than its claim, and when its last checkpoint was written.
    run: Option<(String, i64)>,
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
    overlap: Duration,
    window: Window,
    versions: Versions,
    ids_max: usize,
    early: u64,
    /// What waits in the inbox was appended after this time.
    unread_ms: i64,
    /// What is newer than this is from the future.
    horizon_ms: i64,
    /// A predecessor found that its memory of what was published up to then was not whole, and no walk has proven since
    /// that nothing is missing: the versions of that time may not be the newest.
    forgot_to_ms: Option<i64>,
    /// Time never goes back here, whatever the clocks of the runs did.
    at_ms: i64,
}

impl Memory {
    /// The account of this name; one that nobody knew has only what the journal has of it.
    fn place_of(&mut self, name: &str) -> Account {
        if self.accounts.get(self.last.place()).is_some_and(|last| last.name == name) {
            return self.last;
        }
        let known = self.places.get(name).copied();
        self.last = known.unwrap_or_else(|| {
            let account = Account::at(self.accounts.len());
            let progress = resume(None, self.overlap);
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
            self.early += self.window.expire(self.at_ms.min(self.unread_ms), |_| None);
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
        let Settings { window, ids_max, overlap, unread_ms, .. } = *settings;
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
        let last_ms = checkpoint.and_then(Checkpoint::at_ms).unwrap_or(now.ms);
        let window_from_ms = last_ms.min(now.ms).saturating_sub(millis(window));
        // Of what waits in the inbox, the first copy may have been published a window before it was appended.
        let unread_from_ms = unread_ms.map(|unread_ms| unread_ms.saturating_sub(millis(window)));
        let again_ms = served(&mut accounts).filter_map(|(_, progress)| progress.again_from_ms(window));
        let again_ms = again_ms.chain(unread_from_ms).min();
        let read_from_ms = read_back_from(now.ms, checkpoint, again_ms, window);
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
        let proven_from_ms = window_from_ms.min(again_ms.unwrap_or(window_from_ms));
        let window = Window::new(window, ids_max, seed);
        let by_name = |(place, known): (usize, &Known)| (known.name.clone(), Account::at(place));
        let memory = Memory {
            places: accounts.iter().enumerate().map(by_name).collect(),
            last: Account::FIRST,
            overlap,
            accounts,
            window,
            versions,
            ids_max,
            early: 0,
            unread_ms: unread_ms.unwrap_or(i64::MAX),
            horizon_ms,
            forgot_to_ms,
            at_ms: i64::MIN,
        };
        let journal = checkpoint.map(|_| ReadBack::new(proven_from_ms));
        Self { memory, journal, run: None, next_gap, opened, read_from_ms, last_ms, latest_ms }
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
        // A claim has the time of what it follows, and does not show when its run began to work.
        if let Some(at_ms) = checkpoint.at_ms().filter(|_| !checkpoint.is_claim()) {
            if let Some((run, last_ms)) = &self.run
                && *run != checkpoint.run
            {
                self.memory.window.absent(*last_ms, at_ms);
            }
            self.run = Some((checkpoint.run.clone(), at_ms));
        }
    }

    /// Everything was read, by `own_ms` ([`Now::own_ms`]): reading back may have waited long for Kafka.
    pub fn finish(self, own_ms: i64) -> Started {
        let Self { mut memory, journal, mut next_gap, last_ms, latest_ms, .. } = self;
        let breach = journal.and_then(|journal| journal.finish(&mut |entry, at_ms| memory.note(entry, at_ms)));
        let Memory { mut accounts, mut window, mut versions, early, .. } = memory;
        let forgot = breach.map(|breach| {
            // What is missing may have been newer than anything that is known, up to the last checkpoint. Where the marks are
            // missing too, nothing shows a clock that was behind when that was written.
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
                // It came no further than to claim the name, and wrote the time of its own clock.
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
mod tests;

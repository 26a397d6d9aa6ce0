//! The accounts of a relay: how far each has come, what a plan changed of it, and which of its marks are committed.

use super::super::marks::marks;
use super::super::progress::{Gap, GapNumber, Known, Progress};
use super::Now;
use crate::clock::CLOCKS_DISAGREE_MS;
use crate::kafka::{Batch, Keys};
use crate::labels::{Account, Topic};
use crate::legs::{Admission, Note};
use crate::normalize::SchemaIds;
use std::collections::BTreeSet;
use std::time::Duration;

/// All accounts that the relay knows of.
#[derive(Debug)]
pub(super) struct Accounts {
    list: Vec<Known>,
    /// The marks of each that are committed.
    saved: Vec<Vec<u8>>,
    /// The plan that last changed each.
    changed_by: Vec<u64>,
    /// Those whose marks may not be the committed ones.
    changed: BTreeSet<Account>,
    next_gap: GapNumber,
    keys: Keys,
}

/// What there was before a plan changed it, and what the plan commits.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// The number of the plan, different from that of all others.
    number: u64,
    before: Vec<(Account, Progress)>,
    next_gap: GapNumber,
    marks: Vec<(Account, Vec<u8>)>,
}

impl Changes {
    /// Of plan `number`, which begins now.
    pub(super) fn begin(self, number: u64, accounts: &Accounts) -> Self {
        let Self { mut before, mut marks, .. } = self;
        before.clear();
        marks.clear();
        Self { number, before, next_gap: accounts.next_gap, marks }
    }
}

impl Accounts {
    pub(super) fn new(list: Vec<Known>, keys: Keys) -> Self {
        let mut next_gap = GapNumber::default();
        list.iter().for_each(|known| next_gap.after(&known.progress));
        let served = list.iter().enumerate().filter(|(_, known)| known.served);
        let changed = served.map(|(place, _)| Account::at(place)).collect();
        let saved = vec![Vec::new(); list.len()];
        Self { changed_by: vec![0; list.len()], list, saved, changed, next_gap, keys }
    }

    /// The name of an account; empty where accounts have none.
    pub(super) fn name(&self, account: Account) -> &str {
        self.list.get(account.place()).map_or("", |known| &known.name)
    }

    /// How far each account has come that is served.
    pub(super) fn served(&self) -> impl Iterator<Item = (Account, &Known)> {
        let list = self.list.iter().enumerate().filter(|(_, known)| known.served);
        list.map(|(place, known)| (Account::at(place), known))
    }

    /// The progress of an account, which a plan is about to change; none of an account that nobody knows.
    pub(super) fn change(&mut self, account: Account, changes: &mut Changes) -> Option<&mut Progress> {
        let place = account.place();
        let progress = &mut self.list.get_mut(place)?.progress;
        let changed_by = self.changed_by.get_mut(place)?;
        if *changed_by != changes.number {
            *changed_by = changes.number;
            changes.before.push((account, progress.clone()));
            self.changed.insert(account);
        }
        Some(progress)
    }

    /// This account is served from now on; gives the gap that is open until a walk has filled it.
    pub(super) fn admit(
        &mut self,
        account: Account,
        admission: &Admission,
        now: Now,
        changes: &mut Changes,
    ) -> Option<Gap> {
        let Admission { name, first_start, overlap, served } = admission;
        if account.place() == self.list.len() {
            let progress = Progress::resume(None, None, Vec::new(), *overlap);
            self.list.push(Known { name: name.clone(), progress, served: *served });
            self.saved.push(Vec::new());
            self.changed_by.push(0);
        }
        if !served {
            return None;
        }
        self.list.get_mut(account.place())?.served = true;
        let mut next_gap = self.next_gap;
        let latest_ms = now.ms.max(now.provider_ms);
        let gap = self.change(account, changes)?.admit(*first_start, now.ms, latest_ms, &mut next_gap);
        self.next_gap = next_gap;
        gap
    }

    /// Takes a note of this account's leg; gives the gap that it opened and those that it closed.
    pub(super) fn note(&mut self, account: Account, note: Note, changes: &mut Changes) -> (Option<Gap>, Vec<Gap>) {
        if note == Note::Retired
            && let Some(known) = self.list.get_mut(account.place())
        {
            known.served = false;
        }
        let mut next_gap = self.next_gap;
        let told = self.change(account, changes).map(|progress| progress.note(note, &mut next_gap));
        self.next_gap = next_gap;
        told.unwrap_or_default()
    }

    /// Adds the marks that are not committed yet.
    pub(super) fn seal(&mut self, changes: &mut Changes, batch: &mut Batch, schema_ids: &SchemaIds) {
        let Self { list, saved, changed_by, changed, keys, .. } = self;
        changed.retain(|account| {
            let place = account.place();
            let (Some(Known { name, progress, .. }), Some(saved)) = (list.get(place), saved.get(place)) else {
                return false;
            };
            let now = marks(progress, name, schema_ids);
            let differs = now != *saved;
            if differs {
                batch.record(Topic::Control, keys.marks(name).as_bytes(), &now);
                changes.marks.push((*account, now));
            } else if let Some(changed_by) = changed_by.get_mut(place) {
                // A plan without entries may have changed it, and may do so again.
                *changed_by = 0;
            }
            differs
        });
    }

    /// The plan is committed.
    pub(super) fn commit(&mut self, changes: &mut Changes) {
        for (account, marks) in changes.marks.drain(..) {
            if let Some(saved) = self.saved.get_mut(account.place()) {
                *saved = marks;
            }
        }
    }

    /// Nothing of the plan is committed, which is the youngest that is under way.
    pub(super) fn roll_back(&mut self, changes: Changes) {
        self.next_gap = changes.next_gap;
        // One that was changed twice is now as it was at first.
        for (account, before) in changes.before.into_iter().rev() {
            if let Some(known) = self.list.get_mut(account.place()) {
                known.progress = before;
            }
        }
    }

    /// From when on events of this account come again, with an hour for clocks that disagree; of one that is not served now,
    /// should it come back.
    pub(super) fn again_from_ms(&self, account: Account, window: Duration) -> Option<i64> {
        let known = self.list.get(account.place())?;
        known.progress.again_from_ms(window).map(|from_ms| from_ms.saturating_sub(CLOCKS_DISAGREE_MS))
    }

    /// The keys of the relay's records in the control topic.
    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }
}

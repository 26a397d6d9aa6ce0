//! The backfill leg, as `legs/backfill` goes, around the production's walk.

use crate::bugs::Bug;
use crate::scenario::{EVERY_MS, OVERLAP_MS};
use crate::world::{Step, World};
use futures::FutureExt;
use pepay_relay::labels::Leg;
use pepay_relay::legs::Note;
use pepay_relay::legs::backfill::reconcile::LogEnd;
use pepay_relay::legs::backfill::walk::{self, PAGE_EVENTS_MAX, PageFacts, Step as Next, Walk};
use pepay_relay::provider::page::{Listed, Page};
use std::collections::{HashMap, VecDeque};

const RETRY_MIN_MS: i64 = 1000;
const RETRY_MAX_MS: i64 = 60_000;
/// As the leg reckons it, from `every` and `overlap`.
const STEADY_MS: i64 = 2 * (EVERY_MS + OVERLAP_MS);
/// The relay takes a note within this time, mostly.
const NOTED_MS: i64 = 5000;

/// The leg.
#[derive(Debug, Default)]
pub struct Walker {
    asked: u64,
    pub done: u64,
    walking: Option<Walking>,
    /// Names the walk or the wait that is under way.
    token: u64,
    confirm_at: Option<i64>,
    told_to_ms: Option<i64>,
}

#[derive(Debug)]
struct Walking {
    walk: Walk,
    ticket: u64,
    fills: bool,
    mark_ms: i64,
    /// What was proven and seen when it began.
    known: (i64, Option<i64>),
    oldest_ms: Option<i64>,
    began_ms: i64,
    /// When the page that is waited for was asked for, by our clock.
    asked_ms: i64,
    started_ms: Option<i64>,
    down: bool,
    cursor: Option<String>,
    /// The lowest id that the page asked for again held before.
    lowest: Option<String>,
    kept: HashMap<usize, Page>,
    out: VecDeque<Listed>,
    retry_ms: i64,
    noting: bool,
}

impl Walker {
    /// Asks for a walk that begins from now on.
    pub fn ask(&mut self) -> u64 {
        self.asked += 1;
        self.asked
    }
}

impl World {
    /// Begins a walk if one is asked for and none is under way; else sets the timer.
    pub fn walker_wake(&mut self, number: usize) {
        self.counter += 1;
        let token = self.counter;
        let now = self.now;
        let walker = &mut self.relays[number].walker;
        if walker.walking.is_some() {
            return;
        }
        walker.token = token;
        if walker.asked > walker.done {
            return self.begin_walk(number);
        }
        let timer = now + EVERY_MS;
        let wake_at = walker.confirm_at.map_or(timer, |at| at.min(timer));
        self.step(number, (wake_at - now).max(0), Step::WalkTimer(token));
    }

    pub fn walker_step(&mut self, number: usize, step: Step) {
        let token = self.relays[number].walker.token;
        match step {
            Step::WalkTimer(of) if of == token && self.relays[number].walker.walking.is_none() => {
                self.begin_walk(number);
            }
            Step::PageAsked(of, cursor) if of == token => {
                let fails = !self.provider.rest_up || (self.active && self.rng.chance(self.scenario.rest_fails));
                let limit = match self.active && self.rng.chance(self.scenario.short_pages) {
                    // Two at least: below a page of nothing but an event without an id there is no way on.
                    true => self.rng.range(2, self.scenario.page_events as i64) as usize,
                    false => PAGE_EVENTS_MAX,
                };
                let page = self.provider.page(&self.scenario, cursor.as_deref(), limit, self.now);
                if !fails {
                    let now = self.now;
                    self.relays[number].learn(now);
                }
                let delay = self.rng.range(1, self.scenario.rest_ms);
                self.step(number, delay, Step::PageCame(token, (!fails).then_some(page)));
            }
            Step::PageCame(of, page) if of == token => self.page_came(number, page),
            Step::WalkNoted(of, until) if of == token => self.noted(number, until),
            _ => {}
        }
    }

    fn begin_walk(&mut self, number: usize) {
        let now = self.now;
        let relay = &mut self.relays[number];
        let Some(mut mark_ms) = relay.position.walk_from_ms else { return };
        if self.scenario.has(Bug::OverlapFromCursor)
            && let Some(cursor) = relay.position.cursor
        {
            mark_ms = cursor.ms as i64 - OVERLAP_MS;
        }
        let cursor_ms = relay.position.cursor.map(|cursor| cursor.ms as i64);
        let known = (relay.position.proven_ms.unwrap_or(mark_ms), cursor_ms);
        let walker = &mut relay.walker;
        let ticket = walker.asked;
        walker.walking = Some(Walking {
            walk: Walk::new(),
            ticket,
            fills: ticket > walker.done,
            mark_ms,
            known,
            oldest_ms: None,
            began_ms: now,
            asked_ms: 0,
            started_ms: None,
            down: true,
            cursor: None,
            lowest: None,
            kept: HashMap::new(),
            out: VecDeque::new(),
            retry_ms: RETRY_MIN_MS,
            noting: false,
        });
        self.walk_on(number);
    }

    /// Does what the walk says next, until it has to wait.
    fn walk_on(&mut self, number: usize) {
        loop {
            let now = self.now;
            let relay = &mut self.relays[number];
            let now_ms = relay.now_ms(now);
            let Some(walking) = &mut relay.walker.walking else { return };
            while let Some(event) = walking.out.front() {
                let bytes = event.bytes.clone();
                if relay.intake.offer(Leg::Backfill, bytes, now_ms).now_or_never().is_none() {
                    self.turn_soon(number);
                    return self.look_later(number);
                }
                walking.out.pop_front();
            }
            match walking.walk.step() {
                Next::Down { starting_after } => {
                    (walking.down, walking.asked_ms) = (true, now_ms);
                    return self.ask_page(number, starting_after);
                }
                Next::Out { page, starting_after, lowest, .. } => match walking.kept.remove(&page) {
                    Some(page) => walking.out = walk::wanted(page, walking.mark_ms).collect(),
                    None => {
                        (walking.down, walking.lowest) = (false, lowest);
                        return self.ask_page(number, starting_after);
                    }
                },
                Next::Broken => unreachable!("a page of the model leads on"),
                Next::Done { reached } => {
                    walking.noting = true;
                    let started_ms = walking.started_ms.unwrap_or(walking.mark_ms);
                    let began_ms = walking.began_ms;
                    let ((proven_ms, cursor_ms), oldest_ms) = (walking.known, walking.oldest_ms);
                    let told_to_ms = relay.walker.told_to_ms;
                    let end = LogEnd { proven_ms, cursor_ms, oldest_ms, started_ms, told_to_ms, steady_ms: STEADY_MS };
                    let unsaid = reached || self.scenario.has(Bug::LossUnsaid);
                    if let Some(period) = end.unproven().filter(|_| !unsaid) {
                        relay.walker.told_to_ms = Some(period.to_ms);
                        let note = Note::Unproven { from_ms: period.from_ms, to_ms: period.to_ms };
                        relay.intake.note(note).unwrap_or_default();
                        self.judge_unproven(period, began_ms);
                    }
                    let relay = &mut self.relays[number];
                    if !self.scenario.has(Bug::GapClosedBeforeSettled) {
                        relay.intake.note(Note::WalkDone { started_ms }).unwrap_or_default();
                    }
                    self.turn_soon(number);
                    return self.noted(number, now + NOTED_MS);
                }
            }
        }
    }

    pub fn walker_look(&mut self, number: usize) {
        if self.relays[number].walker.walking.as_ref().is_some_and(|walking| !walking.out.is_empty()) {
            self.walk_on(number);
        }
    }

    fn ask_page(&mut self, number: usize, cursor: Option<String>) {
        let delay = self.rng.range(1, self.scenario.rest_ms);
        let walker = &mut self.relays[number].walker;
        let token = walker.token;
        if let Some(walking) = &mut walker.walking {
            walking.cursor.clone_from(&cursor);
        }
        self.turn_soon(number);
        self.step(number, delay, Step::PageAsked(token, cursor));
    }

    fn page_came(&mut self, number: usize, page: Option<Option<Page>>) {
        let now = self.now;
        let page_bytes = self.scenario.page_bytes;
        let early = self.scenario.has(Bug::GapClosedBeforeSettled);
        let random = self.rng.next() as i64;
        let relay = &mut self.relays[number];
        let (now_ms, ahead_ms) = (relay.now_ms(now), relay.provider_ahead_ms());
        let token = relay.walker.token;
        let Some(walking) = &mut relay.walker.walking else { return };
        match page {
            None => {
                let wait = RETRY_MIN_MS / 2 + random.rem_euclid(walking.retry_ms - RETRY_MIN_MS / 2 + 1);
                walking.retry_ms = (walking.retry_ms * 2).min(RETRY_MAX_MS);
                walking.asked_ms = now_ms + wait;
                let cursor = walking.cursor.clone();
                return self.step(number, wait, Step::PageAsked(token, cursor));
            }
            Some(None) => {
                relay.walker.walking = None;
                return self.walker_wake(number);
            }
            Some(Some(page)) if walking.down => {
                walking.retry_ms = RETRY_MIN_MS;
                let asked_ms = walking.asked_ms;
                walking.started_ms.get_or_insert(asked_ms + ahead_ms);
                let depth = walking.walk.depth();
                let times = page.events.iter().filter_map(|event| event.occurred_at_ms);
                walking.oldest_ms = times.chain(walking.oldest_ms).min();
                let facts = PageFacts::of(&page, page_bytes, walking.mark_ms);
                if walking.walk.page(facts) {
                    walking.kept.insert(depth, page);
                }
                if early {
                    let started_ms = walking.started_ms.unwrap_or_default();
                    relay.intake.note(Note::WalkDone { started_ms }).unwrap_or_default();
                }
            }
            Some(Some(page))
                if !walk::reaches_down(&page, walking.lowest.as_deref()) && !self.scenario.has(Bug::ShortPageTaken) =>
            {
                relay.walker.walking = None;
                return self.walker_wake(number);
            }
            Some(Some(page)) => {
                walking.retry_ms = RETRY_MIN_MS;
                walking.out = walk::wanted(page, walking.mark_ms).collect();
            }
        }
        self.walk_on(number);
    }

    /// Waits until the relay has taken note, so that the next walk does not begin at the old mark.
    fn noted(&mut self, number: usize, until: i64) {
        let relay = &mut self.relays[number];
        let token = relay.walker.token;
        let Some(walking) = &relay.walker.walking else { return };
        let started_ms = walking.started_ms.unwrap_or(walking.mark_ms);
        let moves = started_ms - 2 * OVERLAP_MS > walking.mark_ms;
        if moves && relay.position.walk_from_ms <= Some(walking.mark_ms) && self.now < until {
            return self.step(number, 100, Step::WalkNoted(token, until));
        }
        relay.walker.done = walking.ticket;
        relay.walker.confirm_at = walking.fills.then_some(walking.began_ms + OVERLAP_MS);
        relay.walker.walking = None;
        self.socket_look(number);
        self.walker_wake(number);
    }
}

//! The backfill leg, as `legs/backfill` goes, around the production's walk.

use crate::bugs::Bug;
use crate::scenario::{EVERY_MS, OVERLAP_MS};
use crate::world::{Step, World};
use bytes::Bytes;
use futures::FutureExt;
use pepay_relay::clock::Moment;
use pepay_relay::labels::Leg;
use pepay_relay::legs::Note;
use pepay_relay::legs::backfill::rounds::{RETRY_MAX, RETRY_MIN, Rounds};
use pepay_relay::legs::backfill::walk::{Bounds, Step as Next, Walk, Why};
use pepay_relay::provider::page::{Listed, decode_page};
use pepay_relay::provider::rest::RestError;
use pepay_relay::provider::{EventId, errors};
use std::collections::{HashSet, VecDeque};
use std::time::Duration;

const RETRY_MIN_MS: i64 = RETRY_MIN.as_millis() as i64;
const RETRY_MAX_MS: i64 = RETRY_MAX.as_millis() as i64;
/// The relay takes a note within this time, mostly.
const NOTED_MS: i64 = 5000;

/// The leg.
#[derive(Debug)]
pub struct Walker {
    asked: u64,
    pub done: u64,
    walking: Option<Walking>,
    /// Names the walk or the wait that is under way.
    token: u64,
    rounds: Rounds,
    /// When the leg began.
    leg_began: i64,
}

#[derive(Debug)]
struct Walking {
    walk: Walk,
    ticket: u64,
    fills: bool,
    mark_ms: i64,
    /// What was proven and seen when it began.
    known: (i64, Option<i64>),
    began_ms: i64,
    /// When the page that is waited for was asked for.
    asked_at: Moment,
    started_ms: Option<i64>,
    cursor: Option<EventId>,
    /// Cursors that were asked for.
    asked: HashSet<Option<EventId>>,
    /// What the last page ended in, whatever it is.
    last_id: Option<String>,
    out: VecDeque<Listed>,
    /// What a seeded mistake hands on at the walk's end alone.
    kept_back: VecDeque<Listed>,
    retry_ms: i64,
    noting: bool,
}

impl Walker {
    /// A leg that begins at `now`.
    pub fn new(now: i64) -> Self {
        let rounds = Rounds::new(Duration::from_millis(EVERY_MS as u64), Duration::from_millis(OVERLAP_MS as u64));
        Self { asked: 0, done: 0, walking: None, token: 0, rounds, leg_began: now }
    }

    /// The time as the rounds count it.
    fn since(&self, now: i64) -> Duration {
        Duration::from_millis((now - self.leg_began) as u64)
    }

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
        let now = walker.since(now);
        let next_at = walker.rounds.next_at(now, walker.asked > walker.done);
        if next_at <= now {
            return self.begin_walk(number);
        }
        self.step(number, (next_at - now).as_millis() as i64, Step::WalkTimer(token));
    }

    pub fn walker_step(&mut self, number: usize, step: Step) {
        let token = self.relays[number].walker.token;
        match step {
            Step::WalkTimer(of) if of == token => self.walker_wake(number),
            Step::PageAsked(of, cursor, limit) if of == token => {
                let fails = !self.provider.rest_up || (self.active && self.rng.chance(self.scenario.rest_fails));
                let limit = match self.active && self.rng.chance(self.scenario.short_pages) {
                    // Two at least: below a page of nothing but an event without an id there is no way on.
                    true => limit.min(self.rng.range(2, self.scenario.page_events as i64) as usize),
                    false => limit,
                };
                let page = self.provider.page(&self.scenario, cursor.as_deref(), limit, (self.now, self.active));
                let answer = match page {
                    _ if fails => Err(RestError::TimedOut),
                    Some(page) => Ok(page),
                    None => Err(RestError::Status {
                        status: 404,
                        error: errors::parse(b""),
                        retry_after: None,
                        request_id: None,
                    }),
                };
                // An answer that refuses has the time too, unless nobody is there; and a cache adds how old its answer
                // is.
                if self.provider.rest_up {
                    let now = self.now;
                    let age_s = if self.rng.chance(200) { self.rng.range(1, 3600) } else { 0 };
                    self.relays[number].learn(now, age_s);
                }
                let delay = self.rng.range(1, self.scenario.rest_ms);
                self.step(number, delay, Step::PageCame(token, answer));
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
        let (below, started_ms) = walker.rounds.below().unzip();
        let bounds = Bounds { kept_bytes_max: self.scenario.kept_bytes_max, pages_max: self.scenario.pages_max };
        walker.walking = Some(Walking {
            walk: below.unwrap_or_else(|| Walk::new(mark_ms).within(bounds)),
            ticket,
            fills: ticket > walker.done,
            mark_ms,
            known,
            began_ms: now,
            asked_at: Moment { wall_ms: 0, steady_ms: 0 },
            started_ms,
            cursor: None,
            asked: HashSet::new(),
            last_id: None,
            out: VecDeque::new(),
            kept_back: VecDeque::new(),
            retry_ms: RETRY_MIN_MS,
            noting: false,
        });
        self.walk_on(number);
    }

    /// Does what the walk asks next, until it has to wait.
    fn walk_on(&mut self, number: usize) {
        loop {
            let now = self.now;
            let relay = &mut self.relays[number];
            let now_ms = relay.now_ms(now);
            let asked_at = relay.moment(now);
            let Some(walking) = &mut relay.walker.walking else { return };
            while let Some(event) = walking.out.front() {
                let bytes = event.bytes.clone();
                if relay.intake.offer(Leg::Backfill, bytes, now_ms).now_or_never().is_none() {
                    self.turn_soon(number);
                    return self.look_later(number);
                }
                walking.out.pop_front();
            }
            let end = match walking.walk.step() {
                Next::Fetch { starting_after, limit } => {
                    walking.asked_at = asked_at;
                    return self.ask_page(number, starting_after, limit);
                }
                Next::HandOn(events) if self.scenario.has(Bug::BrokenWalkDropsWhatItHas) => {
                    walking.kept_back.extend(events);
                    continue;
                }
                Next::HandOn(events) => {
                    walking.out.extend(events);
                    continue;
                }
                Next::Broken(Why::Circle) if self.scenario.has(Bug::CircleTrusted) => true,
                Next::Broken(why) => return self.broken(number, why),
                Next::Done { reached } => reached,
            };
            if !walking.kept_back.is_empty() {
                walking.out = std::mem::take(&mut walking.kept_back);
                // The walk repeats its end.
                continue;
            }
            self.done(number, end);
            return;
        }
    }

    /// The walk came to its end.
    fn done(&mut self, number: usize, reached: bool) {
        let now = self.now;
        let relay = &mut self.relays[number];
        let Some(walking) = &mut relay.walker.walking else { return };
        walking.noting = true;
        let started_ms = walking.started_ms.unwrap_or(walking.mark_ms);
        let began_ms = walking.began_ms;
        let known = walking.known;
        let oldest_ms = walking.walk.oldest_ms();
        let end = relay.walker.rounds.log_end(known, oldest_ms, started_ms);
        let unsaid = reached || self.scenario.has(Bug::LossUnsaid);
        if let Some(period) = end.unproven().filter(|_| !unsaid) {
            relay.walker.rounds.told(period);
            let note = Note::Unproven { from_ms: period.from_ms, to_ms: period.to_ms };
            relay.intake.note(note).unwrap_or_default();
            self.judge_unproven(period, began_ms);
        }
        let relay = &mut self.relays[number];
        if !self.scenario.has(Bug::GapClosedBeforeSettled) {
            relay.intake.note(Note::WalkDone { started_ms }).unwrap_or_default();
        }
        // The second account's log has nothing, and is walked as often.
        relay.second.note(Note::WalkDone { started_ms }).unwrap_or_default();
        self.turn_soon(number);
        self.noted(number, now + NOTED_MS);
    }

    /// The walk broke, and the next one waits.
    fn broken(&mut self, number: usize, why: Why) {
        let walker = &mut self.relays[number].walker;
        let now = walker.since(self.now);
        let Some(Walking { walk, started_ms, .. }) = walker.walking.take() else { return };
        walker.rounds.broken(now, why, walk, started_ms);
        self.turn_soon(number);
        self.walker_wake(number);
    }

    pub fn walker_look(&mut self, number: usize) {
        if self.relays[number].walker.walking.as_ref().is_some_and(|walking| !walking.out.is_empty()) {
            self.walk_on(number);
        }
    }

    fn ask_page(&mut self, number: usize, cursor: Option<EventId>, limit: usize) {
        let delay = self.rng.range(1, self.scenario.rest_ms);
        let any_id = self.scenario.has(Bug::AnyIdIsACursor);
        let walker = &mut self.relays[number].walker;
        let token = walker.token;
        let Some(walking) = &mut walker.walking else { return };
        walking.cursor = cursor;
        let mut text = cursor.map(|event| event.to_string());
        if any_id && !walking.asked.contains(&cursor) && text.is_some() {
            text = walking.last_id.clone().or(text);
        }
        self.turn_soon(number);
        self.step(number, delay, Step::PageAsked(token, text, limit));
    }

    fn page_came(&mut self, number: usize, answer: Result<Bytes, RestError>) {
        let now = self.now;
        let early = self.scenario.has(Bug::GapClosedBeforeSettled);
        let random = self.rng.next() as i64;
        let answer = self.spoiled(number, answer);
        let relay = &mut self.relays[number];
        let provider = relay.provider;
        let here = relay.moment(now);
        let token = relay.walker.token;
        let Some(walking) = &mut relay.walker.walking else { return };
        let last = answer.as_ref().ok().and_then(|body| decode_page(body).ok());
        if walking.walk.answer(answer).is_err() {
            let wait = RETRY_MIN_MS / 2 + random.rem_euclid(walking.retry_ms - RETRY_MIN_MS / 2 + 1);
            walking.retry_ms = (walking.retry_ms * 2).min(RETRY_MAX_MS);
            walking.asked_at = Moment { wall_ms: here.wall_ms + wait, steady_ms: here.steady_ms + wait };
            let Next::Fetch { starting_after, limit } = walking.walk.step() else { return };
            let cursor = starting_after.map(|event| event.to_string());
            return self.step(number, wait, Step::PageAsked(token, cursor, limit));
        }
        walking.asked.insert(walking.cursor);
        walking.last_id = last.and_then(|page| page.events.last()?.id.clone()).or(walking.last_id.take());
        walking.retry_ms = RETRY_MIN_MS;
        let asked_at = walking.asked_at;
        let started_ms = *walking.started_ms.get_or_insert_with(|| provider.earlier_ms(asked_at));
        if early {
            relay.intake.note(Note::WalkDone { started_ms }).unwrap_or_default();
        }
        self.walk_on(number);
    }

    /// A page as the seeded mistakes take it.
    fn spoiled(&self, number: usize, answer: Result<Bytes, RestError>) -> Result<Bytes, RestError> {
        let (Ok(body), Some(walking)) = (&answer, &self.relays[number].walker.walking) else { return answer };
        if self.scenario.has(Bug::PoisonStopsThePage) && serde_json::from_slice::<serde_json::Value>(body).is_err() {
            return Err(RestError::TimedOut);
        }
        let last_ms = decode_page(body).ok().and_then(|page| page.events.last()?.occurred_at_ms);
        let ends_old = last_ms.is_some_and(|ms| ms < walking.mark_ms);
        let again = walking.asked.contains(&walking.cursor);
        let is_last = (self.scenario.has(Bug::OneOldEventReaches) && ends_old)
            || (self.scenario.has(Bug::ShortPageTaken) && again);
        match std::str::from_utf8(body) {
            Ok(text) if is_last => Ok(text.replace(r#""has_more":true"#, r#""has_more":false"#).into()),
            _ => answer,
        }
    }

    /// Waits until the relay has taken note, so that the next walk does not begin at the old mark.
    fn noted(&mut self, number: usize, until: i64) {
        let relay = &mut self.relays[number];
        let token = relay.walker.token;
        let Some(walking) = &relay.walker.walking else { return };
        let started_ms = walking.started_ms.unwrap_or(walking.mark_ms);
        let moves = relay.walker.rounds.moves(started_ms, walking.mark_ms);
        if moves && relay.position.walk_from_ms <= Some(walking.mark_ms) && self.now < until {
            return self.step(number, 100, Step::WalkNoted(token, until));
        }
        relay.walker.done = walking.ticket;
        let now = relay.walker.since(self.now);
        let began = relay.walker.since(walking.began_ms);
        relay.walker.rounds.done(now, began, walking.fills);
        relay.walker.walking = None;
        self.socket_look(number);
        self.walker_wake(number);
    }
}

//! What time it is, here by two clocks and at the provider, and how times are written.
//!
//! The *wall clock* is what people and events go by; anybody may set it, and a time service steps it. The *steady clock*
//! only goes forward, and goes on while the machine is suspended (`CLOCK_BOOTTIME`, `clock_gettime(2)`), which
//! [`std::time::Instant`] does not on Linux. Durations are taken from the steady clock or from `Instant`, never from the
//! wall clock; `clippy.toml` sees to it.

use jiff::civil::DateTime;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, clock_gettime};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// First millisecond of the year 0, where RFC 3339 begins.
pub const MS_MIN: i64 = -62_167_219_200_000;

/// 9999-12-31T23:59:59.999Z: the last millisecond of a year of four digits.
pub const MS_MAX: i64 = 253_402_300_799_999;

/// 9999-12-30T22:00:00.000Z: the last millisecond of [`Timestamp`], whose local time has a year of four digits at every
/// offset.
const TIMESTAMP_MS_MAX: i64 = 253_402_207_200_000;

/// More than hosts with any time service disagree about the time, in milliseconds.
pub const CLOCKS_DISAGREE_MS: i64 = 3_600_000;

/// A smaller change between the two clocks is an adjustment, or a thread that was not scheduled between two looks.
/// `ntpd` steps the clock from 128 ms on and slews below it (its manual, option `-x`).
const STEP_MIN_MS: i64 = 100;

/// Unix milliseconds by our wall clock; 0 before 1970.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    millis(since)
}

/// Whole milliseconds of `duration`; `i64::MAX` where there are more.
pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A duration as people write it, and as settings take it: `90m`, `365d`, `500ms`, `1h 15m 10s`.
///
/// In the largest unit that gives a whole number, as long as people would: 150 minutes are `2h 30m`.
pub fn spelled(duration: Duration) -> String {
    const UNITS: [(&str, u128, u128); 7] = [
        ("d", 86_400_000_000_000, u128::MAX),
        ("h", 3_600_000_000_000, 120),
        ("m", 60_000_000_000, 120),
        ("s", 1_000_000_000, 120),
        ("ms", 1_000_000, 9_999),
        ("us", 1_000, 999),
        ("ns", 1, 999),
    ];
    let mut rest = duration.as_nanos();
    if rest == 0 {
        return "0s".to_owned();
    }
    let whole = UNITS.iter().find(|(_, unit, most)| rest.is_multiple_of(*unit) && rest / unit <= *most);
    if let Some((name, unit, _)) = whole {
        return format!("{}{name}", rest / unit);
    }
    let mut parts = Vec::new();
    for (name, unit, _) in UNITS {
        if rest >= unit {
            parts.push(format!("{}{name}", rest / unit));
            rest %= unit;
        }
    }
    parts.join(" ")
}

/// A time in Unix milliseconds as `2023-11-14T22:13:20.000Z` (RFC 3339, UTC), as every time of the relay is written.
///
/// Total: a time before [`MS_MIN`] or after [`MS_MAX`] is written as that bound.
pub fn rfc3339(ms: i64) -> String {
    let mut text = Vec::with_capacity(24);
    write_rfc3339(ms, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Appends what [`rfc3339`] answers.
pub fn write_rfc3339(ms: i64, out: &mut Vec<u8>) {
    let ms = ms.clamp(MS_MIN, MS_MAX);
    let time = Timestamp::from_millisecond(ms.min(TIMESTAMP_MS_MAX)).unwrap_or_default();
    let time = Offset::UTC.to_datetime(time);
    let beyond_ms = ms.saturating_sub(TIMESTAMP_MS_MAX);
    write_utc(if beyond_ms > 0 { time.saturating_add(SignedDuration::from_millis(beyond_ms)) } else { time }, out);
}

/// Appends `time`, a time in UTC of the years 0 to 9999, in the form of [`rfc3339`].
pub fn write_utc(time: DateTime, out: &mut Vec<u8>) {
    let mut digits = |mut number: i32, places: u32, behind: u8| {
        for place in (0..places).rev() {
            let unit = 10_i32.pow(place);
            out.push(b'0' + u8::try_from(number / unit).unwrap_or(0));
            number %= unit;
        }
        out.push(behind);
    };
    digits(time.year().into(), 4, b'-');
    digits(time.month().into(), 2, b'-');
    digits(time.day().into(), 2, b'T');
    digits(time.hour().into(), 2, b':');
    digits(time.minute().into(), 2, b':');
    digits(time.second().into(), 2, b'.');
    digits(time.millisecond().into(), 3, b'Z');
}

/// Milliseconds by the steady clock; its zero is the machine's start.
pub fn steady_ms() -> i64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec.saturating_mul(1000).saturating_add(time.tv_nsec / 1_000_000)
}

/// One moment by both clocks of this machine, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Unix time by the wall clock.
    pub wall_ms: i64,
    /// By the steady clock.
    pub steady_ms: i64,
}

impl Moment {
    /// Now.
    pub fn now() -> Self {
        Self { wall_ms: now_ms(), steady_ms: steady_ms() }
    }
}

/// What is known of the provider's time. Pure.
///
/// It is kept against the steady clock, so that a step of the wall clock does not move it. Until an answer has shown
/// it, it is what our wall clock showed at the beginning, carried on by the steady clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProviderTime {
    began: Moment,
    /// Its Unix milliseconds at the steady clock's zero, once an answer has shown it.
    at_zero_ms: Option<i64>,
}

impl ProviderTime {
    /// Nothing is known at `began`.
    pub const fn unknown(began: Moment) -> Self {
        Self { began, at_zero_ms: None }
    }

    /// Unix milliseconds by the provider's clock at `at`, if an answer has shown it.
    pub fn known_ms(&self, at: Moment) -> Option<i64> {
        self.at_zero_ms.map(|zero_ms| zero_ms.saturating_add(at.steady_ms))
    }

    /// Unix milliseconds by the provider's clock at `at`, as well as they are known.
    pub fn ms(&self, at: Moment) -> i64 {
        self.known_ms(at).unwrap_or_else(|| self.own_ms(at))
    }

    /// Our Unix milliseconds as they were at the beginning, carried on by the steady clock: for what has to last a
    /// given time, whatever the wall clock is set to.
    pub fn own_ms(&self, at: Moment) -> i64 {
        self.began.wall_ms.saturating_add(at.steady_ms.saturating_sub(self.began.steady_ms))
    }

    /// The earlier of the provider's time and ours at `at`: a mark that is too early costs a longer walk, one that is
    /// too late costs events.
    pub fn earlier_ms(&self, at: Moment) -> i64 {
        self.ms(at).min(at.wall_ms)
    }

    /// Learns from an answer that came at `at`: it was made at `date_ms`, and has been in caches for `age` since
    /// (`Date` and `Age`, RFC 9110, section 6.6.1, and RFC 9111, section 5.1).
    ///
    /// Both are whole seconds, so the provider's time lies somewhere in one second, or in two where there is an age: what
    /// is believed changes only when it does not fit. Two clocks that agree are thus never taken for half a second
    /// apart, and events that occur in a gap are not taken for later than its end.
    pub fn learn(&mut self, at: Moment, date_ms: i64, age: Duration) {
        let age_ms = millis(age);
        let least = date_ms.saturating_add(age_ms);
        let most = least.saturating_add(if age.is_zero() { 999 } else { 1999 });
        let believed = self.known_ms(at).unwrap_or(at.wall_ms).clamp(least, most);
        self.at_zero_ms = Some(believed.saturating_sub(at.steady_ms));
    }
}

/// What happened to our clocks between two looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noticed {
    /// The wall clock was stepped by this many milliseconds; negative: back.
    Stepped(i64),
    /// The machine was suspended for this long.
    Suspended(Duration),
}

/// Notices steps of the wall clock and suspends, by comparing clocks at each look. Pure.
#[derive(Clone, Copy, Debug)]
pub struct Steps {
    last: Moment,
    running: Instant,
}

impl Steps {
    /// The first look, with `running` by the clock that stops in a suspend.
    pub const fn new(now: Moment, running: Instant) -> Self {
        Self { last: now, running }
    }

    /// What happened since the last look.
    pub fn look(&mut self, now: Moment, running: Instant) -> impl Iterator<Item = Noticed> {
        let steady_ms = now.steady_ms.saturating_sub(self.last.steady_ms);
        let stepped = now.wall_ms.saturating_sub(self.last.wall_ms).saturating_sub(steady_ms);
        let ran = running.saturating_duration_since(self.running);
        let asleep = Duration::from_millis(u64::try_from(steady_ms).unwrap_or(0)).saturating_sub(ran);
        self.last = now;
        self.running = running;
        let stepped = (stepped.abs() >= STEP_MIN_MS).then_some(Noticed::Stepped(stepped));
        let asleep =
            (asleep.as_millis() >= u128::from(STEP_MIN_MS.unsigned_abs())).then_some(Noticed::Suspended(asleep));
        asleep.into_iter().chain(stepped)
    }
}

/// The provider's time, shared by the parts that learn it and those that go by it.
#[derive(Debug)]
pub struct Clock {
    began: Moment,
    /// [`ProviderTime::at_zero_ms`]; [`UNKNOWN`] before an answer has shown it.
    at_zero_ms: AtomicI64,
}

const UNKNOWN: i64 = i64::MIN;

impl Default for Clock {
    fn default() -> Self {
        Self { began: Moment::now(), at_zero_ms: AtomicI64::new(UNKNOWN) }
    }
}

impl Clock {
    /// What is known now.
    pub fn provider(&self) -> ProviderTime {
        let zero_ms = self.at_zero_ms.load(Ordering::Relaxed);
        ProviderTime { began: self.began, at_zero_ms: Some(zero_ms).filter(|ms| *ms != UNKNOWN) }
    }

    /// Unix milliseconds by the provider's clock now, as well as they are known.
    pub fn provider_ms(&self) -> i64 {
        self.provider().ms(Moment::now())
    }

    /// The provider's answer came just now, made at `date_ms` and kept in caches for `age`; see [`ProviderTime::learn`].
    pub fn learn(&self, date_ms: i64, age: Duration) {
        let mut provider = self.provider();
        provider.learn(Moment::now(), date_ms, age);
        // Two answers at once: either is right.
        self.at_zero_ms.store(provider.at_zero_ms.unwrap_or(UNKNOWN), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL_MS: i64 = 1_768_480_000_000;

    fn at(wall_ms: i64, steady_ms: i64) -> Moment {
        Moment { wall_ms: WALL_MS + wall_ms, steady_ms: 5_000_000 + steady_ms }
    }

    #[test]
    fn every_time_is_written_and_those_out_of_range_as_the_bound() {
        for (ms, text) in [
            (1_700_000_000_123, "2023-11-14T22:13:20.123Z"),
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (i64::MIN, "0000-01-01T00:00:00.000Z"),
            (MS_MIN, "0000-01-01T00:00:00.000Z"),
            (TIMESTAMP_MS_MAX, "9999-12-30T22:00:00.000Z"),
            (TIMESTAMP_MS_MAX + 1, "9999-12-30T22:00:00.001Z"),
            (MS_MAX, "9999-12-31T23:59:59.999Z"),
            (i64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(ms), text, "{ms}");
        }
        assert_eq!(Timestamp::MAX.as_second() * 1_000, TIMESTAMP_MS_MAX);
    }

    #[test]
    fn durations_are_written_as_people_do() {
        for (seconds, text) in [
            (0, "0s"),
            (1, "1s"),
            (90, "90s"),
            (205, "3m 25s"),
            (300, "5m"),
            (5_400, "90m"),
            (9_000, "2h 30m"),
            (86_400, "1d"),
            (129_600, "36h"),
            (259_200, "3d"),
            (31_536_000, "365d"),
            (100_000, "1d 3h 46m 40s"),
        ] {
            assert_eq!(spelled(Duration::from_secs(seconds)), text);
        }
        assert_eq!(spelled(Duration::from_millis(1_500)), "1500ms");
        assert_eq!(spelled(Duration::new(1, 1)), "1s 1ns");
    }

    #[test]
    fn milliseconds_of_a_duration_end_at_the_largest_number() {
        assert_eq!(millis(Duration::from_micros(1_999)), 1);
        assert_eq!(millis(Duration::MAX), i64::MAX);
    }

    proptest::proptest! {
        #[test]
        fn any_duration_is_written_as_settings_take_it(seconds in 0..u64::MAX / 4, nanos in 0..1_000_000_000_u32) {
            for duration in [Duration::new(seconds, nanos), Duration::from_secs(seconds % 1_000_000), Duration::from_millis(seconds % 100_000)] {
                proptest::prop_assert_eq!(humantime::parse_duration(&spelled(duration)), Ok(duration));
            }
        }

        #[test]
        fn any_time_is_written_and_read_back(ms in MS_MIN..=TIMESTAMP_MS_MAX) {
            let text = rfc3339(ms);
            proptest::prop_assert_eq!(text.len(), 24);
            proptest::prop_assert_eq!(text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond), Some(ms));
        }
    }

    #[test]
    fn a_date_within_the_second_changes_nothing_and_another_no_more_than_it_must() {
        let mut provider = ProviderTime::unknown(at(0, 0));
        provider.learn(at(400, 400), WALL_MS, Duration::ZERO);
        assert_eq!(provider.known_ms(at(400, 400)), Some(WALL_MS + 400));
        provider.learn(at(500, 500), WALL_MS + 60_000, Duration::ZERO);
        assert_eq!(provider.known_ms(at(500, 500)), Some(WALL_MS + 60_000));
        provider.learn(at(600, 600), WALL_MS - 60_000, Duration::ZERO);
        assert_eq!(provider.known_ms(at(600, 600)), Some(WALL_MS - 60_000 + 999));
        for date_ms in [i64::MAX, i64::MIN] {
            provider.learn(at(700, 700), date_ms, Duration::MAX);
            provider.ms(Moment { wall_ms: i64::MIN, steady_ms: i64::MAX });
        }
    }

    #[test]
    fn an_answer_out_of_a_cache_gives_the_time_with_its_age() {
        let mut provider = ProviderTime::unknown(at(0, 0));
        provider.learn(at(0, 0), WALL_MS - 1_800_000, Duration::from_secs(1800));
        assert_eq!(provider.known_ms(at(0, 0)), Some(WALL_MS));
    }

    #[test]
    fn a_step_of_the_wall_clock_moves_nothing_that_is_known() {
        let mut provider = ProviderTime::unknown(at(0, 0));
        assert_eq!(provider.ms(at(-7_200_000, 1000)), WALL_MS + 1000, "unknown, and stepped back");
        provider.learn(at(0, 0), WALL_MS, Duration::ZERO);
        for step_ms in [-7_200_000, 0, 7_200_000] {
            assert_eq!(provider.ms(at(step_ms + 1000, 1000)), WALL_MS + 1000);
        }
        assert_eq!(provider.earlier_ms(at(-7_200_000, 1000)), WALL_MS - 7_200_000);
        assert_eq!(provider.earlier_ms(at(7_200_000, 1000)), WALL_MS + 1000);
    }

    #[test]
    fn steps_and_suspends_are_distinguished_and_noticed_once() {
        let running = Instant::now();
        let after = |seconds| running + Duration::from_secs(seconds);
        let mut steps = Steps::new(at(0, 0), running);
        let mut look = |now, running| steps.look(now, running).collect::<Vec<_>>();
        assert_eq!(look(at(1000, 1000), after(1)), []);
        assert_eq!(look(at(3_602_000, 2000), after(2)), [Noticed::Stepped(3_600_000)]);
        assert_eq!(look(at(3_603_000, 3000), after(3)), []);
        assert_eq!(look(at(4000, 4000), after(4)), [Noticed::Stepped(-3_600_000)]);
        let hour = Duration::from_secs(3600);
        assert_eq!(look(at(3_605_000, 3_605_000), after(5)), [Noticed::Suspended(hour)]);
        assert_eq!(look(at(3_606_050, 3_606_000), after(6)), [], "an adjustment");
    }

    #[test]
    fn the_shared_clock_knows_what_it_learned() {
        let clock = Clock::default();
        assert_eq!(clock.provider().known_ms(Moment::now()), None);
        assert!((-1000..=1000).contains(&(clock.provider_ms() - now_ms())));
        clock.learn(now_ms() + 60_000, Duration::ZERO);
        assert!((59_000..=61_000).contains(&(clock.provider_ms() - now_ms())));
    }
}

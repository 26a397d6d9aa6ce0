//! The WebSocket leg's decisions: what the end of a connection means, and how long to wait before the next.
//!
//! Pure: time and randomness come as arguments, so that a thousand attempts are one loop in a test.

use crate::labels::Cause;
use crate::legs::{REFUSED_RETRY, RETRY_AFTER_MAX};
use backoff::{Clock, backoff::Backoff, exponential::ExponentialBackoff};
use std::time::{Duration, Instant};

/// A connection that ends sooner is a failed attempt: a server that accepts and closes at once is not hammered.
pub const PROOF_OF_LIFE: Duration = Duration::from_secs(10);

/// How a connection ended, or why none came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// No connection: name, address, TLS, time, or an answer that is no handshake.
    ConnectFailed,
    /// The provider answered the upgrade (or the request for a token) with an HTTP status instead.
    Http {
        /// The status code.
        status: u16,
        /// The answer's `Retry-After`, already a duration.
        retry_after: Option<Duration>,
    },
    /// The provider sent a close frame; `None` when it carried no code.
    Close(Option<u16>),
    /// The provider sent a `ws_error` with this code; it is terminal (`sdk/merchants/websockets`).
    StreamError(String),
    /// The connection broke without a close frame.
    Reset,
    /// The provider broke the WebSocket protocol.
    Protocol,
    /// Nothing was received for `websocket.idle_timeout`.
    Silence,
    /// A frame over `websocket.frame_bytes_max`.
    TooLarge,
    /// The intake stayed full, and the relay closed the connection on purpose.
    Paused,
}

impl End {
    /// Whether the request was found wrong, as one with a cursor that the provider does not take might be.
    pub fn may_mean_the_cursor(&self) -> bool {
        match self {
            Self::Http { status, .. } => *status == 400,
            Self::Close(code) => *code == Some(4400),
            Self::StreamError(code) => code.to_ascii_uppercase().contains("CURSOR"),
            _ => false,
        }
    }
}

/// What an end means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// For metrics, logs and gaps.
    pub cause: Cause,
    /// Trying again soon would not help: the credentials or the request have to change.
    pub refusal: bool,
    /// How long the provider asked to be left alone.
    pub retry_after: Option<Duration>,
}

/// Decides what an end means: the one place that knows close codes, HTTP statuses and error codes.
///
/// Neither the close codes nor the error codes are documented; unknown ones are reconnected with backoff.
pub fn judge(end: &End) -> Meaning {
    let (cause, retry_after) = match end {
        End::ConnectFailed => (Cause::ConnectFailed, None),
        End::Http { status, retry_after } => (http_cause(*status), *retry_after),
        End::Close(code) => (close_cause(*code), None),
        End::StreamError(code) => (error_cause(code), None),
        End::Reset => (Cause::Reset, None),
        End::Protocol => (Cause::ServerError, None),
        End::Silence => (Cause::Silence, None),
        End::TooLarge => (Cause::TooLarge, None),
        End::Paused => (Cause::Closed, None),
    };
    Meaning { cause, refusal: cause == Cause::Refused, retry_after }
}

fn http_cause(status: u16) -> Cause {
    match status {
        400 | 401 | 403 => Cause::Refused,
        429 => Cause::RateLimited,
        500..=599 => Cause::ServerError,
        // A redirect is never followed (a key would follow it), and a 404 is a wrong address or a deployment.
        _ => Cause::ConnectFailed,
    }
}

fn close_cause(code: Option<u16>) -> Cause {
    match code {
        Some(1008 | 4400 | 4401 | 4403) => Cause::Refused,
        Some(4429) => Cause::RateLimited,
        // RFC 6455, section 7.4.1, and IANA's later 1012 to 1014: the server's own trouble.
        Some(1011..=1014 | 4500..=4599) => Cause::ServerError,
        _ => Cause::Closed,
    }
}

fn error_cause(code: &str) -> Cause {
    const REFUSED: [&str; 7] = [
        "API_KEY_INVALID",
        "TOKEN_EXPIRED",
        "TOKEN_INVALID",
        "FORBIDDEN",
        "UNAUTHORIZED",
        "INVALID_FILTER",
        "INVALID_CURSOR",
    ];
    const RATE_LIMITED: [&str; 2] = ["RATE_LIMIT_EXCEEDED", "CONNECTION_LIMIT_EXCEEDED"];
    let is = |known: &[&str]| known.iter().any(|known| known.eq_ignore_ascii_case(code));
    if is(&REFUSED) {
        Cause::Refused
    } else if is(&RATE_LIMITED) {
        Cause::RateLimited
    } else {
        Cause::ServerError
    }
}

/// What to do after an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Why the connection ended.
    pub cause: Cause,
    /// The leg is refused, and a nudge (new credentials) ends the wait.
    pub refused: bool,
    /// How long to wait before the next attempt.
    pub delay: Duration,
}

/// The leg's memory from one connection to the next.
#[derive(Debug)]
pub struct Reconnect {
    policy: ExponentialBackoff<Frozen>,
    backoff_min: Duration,
    attempt: u32,
    mints_tokens: bool,
    refusals: u32,
}

/// The clock that the policy asks for its elapsed time, which nobody uses.
#[derive(Clone, Copy, Debug)]
struct Frozen(Instant);

impl Clock for Frozen {
    fn now(&self) -> Instant {
        self.0
    }
}

impl Reconnect {
    /// A session whose delays lie between `backoff_min` and `backoff_max`.
    ///
    /// `mints_tokens`: each connection has fresh credentials, so that a first refusal may only mean that they
    /// lapsed, and is tried once more at once. `started` is any moment; the policy wants one.
    pub fn new(backoff_min: Duration, backoff_max: Duration, mints_tokens: bool, started: Instant) -> Self {
        let max = backoff_max.max(backoff_min);
        let first = backoff_min.saturating_mul(2).min(max);
        let policy = ExponentialBackoff {
            current_interval: first,
            initial_interval: first,
            randomization_factor: 0.0,
            multiplier: 2.0,
            max_interval: max,
            start_time: started,
            // The crate's default gives up after 15 minutes.
            max_elapsed_time: None,
            clock: Frozen(started),
        };
        Self { policy, backoff_min, attempt: 1, mints_tokens, refusals: 0 }
    }

    /// The number of the coming or running attempt: 1 at first, and again after a connection that proved alive.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The shortest wait between two attempts.
    pub fn delay_min(&self) -> Duration {
        self.backoff_min
    }

    /// Decides after `end` of a connection that lasted for `lived` (zero when none came about).
    ///
    /// `random` is uniform in `0.0..1.0`. The delay is uniform between `backoff_min` and a ceiling that doubles
    /// from attempt to attempt (full jitter above a floor). A `Retry-After` wins where it is longer, so that a
    /// provider which asks for 0 is not hammered.
    pub fn ended(&mut self, end: &End, lived: Duration, random: f64) -> Retry {
        let Meaning { cause, refusal, retry_after } = judge(end);
        if lived >= PROOF_OF_LIFE {
            self.policy.reset();
            self.attempt = 1;
            self.refusals = 0;
        } else {
            self.attempt = self.attempt.saturating_add(1);
        }
        self.refusals = if refusal { self.refusals.saturating_add(1) } else { 0 };
        let refused = refusal && !(self.mints_tokens && self.refusals == 1);
        let ceiling = self.policy.next_backoff().unwrap_or(self.policy.max_interval);
        let ours = if refused { REFUSED_RETRY } else { self.drawn(ceiling, random) };
        let delay = ours.max(retry_after.unwrap_or_default().min(RETRY_AFTER_MAX));
        Retry { cause, refused, delay }
    }

    fn drawn(&self, ceiling: Duration, random: f64) -> Duration {
        let ceiling = ceiling.clamp(self.backoff_min, self.policy.max_interval);
        self.backoff_min + (ceiling - self.backoff_min).mul_f64(random.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop")]

    use super::*;
    use proptest::prelude::*;

    const MIN: Duration = Duration::from_millis(500);
    const MAX: Duration = Duration::from_secs(30);

    fn session() -> Reconnect {
        Reconnect::new(MIN, MAX, false, Instant::now())
    }

    fn http(status: u16) -> End {
        End::Http { status, retry_after: None }
    }

    #[test]
    fn each_end_has_its_cause() {
        let cases = [
            (End::ConnectFailed, Cause::ConnectFailed),
            (http(301), Cause::ConnectFailed),
            (http(400), Cause::Refused),
            (http(401), Cause::Refused),
            (http(403), Cause::Refused),
            (http(404), Cause::ConnectFailed),
            (http(429), Cause::RateLimited),
            (http(500), Cause::ServerError),
            (http(503), Cause::ServerError),
            (End::Close(None), Cause::Closed),
            (End::Close(Some(1000)), Cause::Closed),
            (End::Close(Some(1001)), Cause::Closed),
            (End::Close(Some(1008)), Cause::Refused),
            (End::Close(Some(1011)), Cause::ServerError),
            (End::Close(Some(1012)), Cause::ServerError),
            (End::Close(Some(1013)), Cause::ServerError),
            (End::Close(Some(4400)), Cause::Refused),
            (End::Close(Some(4401)), Cause::Refused),
            (End::Close(Some(4403)), Cause::Refused),
            (End::Close(Some(4429)), Cause::RateLimited),
            (End::Close(Some(4999)), Cause::Closed),
            (End::StreamError("api_key_invalid".into()), Cause::Refused),
            (End::StreamError("CONNECTION_LIMIT_EXCEEDED".into()), Cause::RateLimited),
            (End::StreamError("SLOW_CONSUMER".into()), Cause::ServerError),
            (End::StreamError("SOMETHING_NEW".into()), Cause::ServerError),
            (End::Reset, Cause::Reset),
            (End::Protocol, Cause::ServerError),
            (End::Silence, Cause::Silence),
            (End::TooLarge, Cause::TooLarge),
            (End::Paused, Cause::Closed),
        ];
        for (end, cause) in cases {
            let verdict = judge(&end);
            assert_eq!(verdict.cause, cause, "{end:?}");
            assert_eq!(verdict.refusal, cause == Cause::Refused, "{end:?}");
        }
    }

    #[test]
    fn the_ceiling_doubles_from_attempt_to_attempt() {
        let mut session = session();
        let ceilings: Vec<_> =
            (0..8).map(|_| session.ended(&End::Reset, Duration::ZERO, 1.0).delay.as_millis()).collect();
        assert_eq!(ceilings, [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
    }

    #[test]
    fn a_thousand_attempts_neither_stop_nor_overflow() {
        let mut session = session();
        for _ in 0..1_000 {
            let retry = session.ended(&End::ConnectFailed, Duration::ZERO, 0.999);
            assert!(!retry.refused && retry.delay >= MIN && retry.delay <= MAX, "{retry:?}");
        }
        assert_eq!(session.attempt(), 1_001);
    }

    #[test]
    fn only_ten_seconds_of_life_start_over() {
        let mut session = session();
        for _ in 0..10 {
            session.ended(&End::Reset, Duration::ZERO, 1.0);
        }
        let flap = session.ended(&End::Close(Some(1000)), PROOF_OF_LIFE - Duration::from_millis(1), 1.0);
        assert_eq!(flap.delay, MAX);
        let alive = session.ended(&End::Close(Some(1000)), PROOF_OF_LIFE, 1.0);
        assert_eq!((alive.delay, session.attempt()), (2 * MIN, 1));
    }

    #[test]
    fn retry_after_wins_up_to_ten_minutes_and_never_hammers() {
        let asked = |seconds| {
            let end = End::Http { status: 429, retry_after: Some(Duration::from_secs(seconds)) };
            session().ended(&end, Duration::ZERO, 0.5).delay
        };
        assert_eq!(asked(90), Duration::from_secs(90));
        assert_eq!(asked(86_400), Duration::from_mins(10));
    }

    #[test]
    fn a_retry_after_wins_only_where_it_is_longer() {
        for asked in [0, 1] {
            let mut session = session();
            let end = End::Http { status: 503, retry_after: Some(Duration::from_secs(asked)) };
            let waits: Vec<_> = (0..7).map(|_| session.ended(&end, Duration::ZERO, 1.0).delay.as_secs()).collect();
            assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30], "Retry-After: {asked}");
        }
        let end = End::Http { status: 403, retry_after: Some(Duration::from_secs(30)) };
        assert_eq!(session().ended(&end, Duration::ZERO, 0.5).delay, REFUSED_RETRY);
    }

    #[test]
    fn a_refused_key_waits_five_minutes_each_time() {
        let mut session = session();
        for _ in 0..3 {
            let retry = session.ended(&http(401), Duration::ZERO, 0.5);
            assert_eq!(retry, Retry { cause: Cause::Refused, refused: true, delay: REFUSED_RETRY });
        }
    }

    #[test]
    fn a_refused_token_is_minted_again_once() {
        let mut session = Reconnect::new(MIN, MAX, true, Instant::now());
        let expired = End::StreamError("TOKEN_EXPIRED".into());
        let mut refused = || session.ended(&expired, Duration::ZERO, 0.0).refused;
        assert!(!refused());
        assert!(refused());
        assert!(refused());
        assert!(!session.ended(&End::Reset, Duration::ZERO, 0.0).refused);
        assert!(!session.ended(&expired, Duration::ZERO, 0.0).refused, "a refusal after another end is the first");
    }

    fn ends() -> impl Strategy<Value = End> {
        prop_oneof![
            Just(End::ConnectFailed),
            Just(End::Reset),
            Just(End::Silence),
            Just(End::TooLarge),
            any::<Option<u16>>().prop_map(End::Close),
            ".{0,40}".prop_map(End::StreamError),
            (any::<u16>(), any::<Option<u64>>())
                .prop_map(|(status, after)| End::Http { status, retry_after: after.map(Duration::from_secs) }),
        ]
    }

    proptest! {
        #[test]
        fn every_delay_has_a_floor_and_a_ceiling(
            min_ms in 1..100_000u64,
            max_ms in 0..1_000_000u64,
            mints in any::<bool>(),
            walk in prop::collection::vec((ends(), 0..20_000u64, 0.0..1.0f64), 1..60),
        ) {
            let min = Duration::from_millis(min_ms);
            let max = Duration::from_millis(max_ms);
            let mut session = Reconnect::new(min, max, mints, Instant::now());
            for (end, lived_ms, random) in walk {
                let verdict = judge(&end);
                let retry = session.ended(&end, Duration::from_millis(lived_ms), random);
                prop_assert_eq!(retry.cause, verdict.cause);
                prop_assert!(!retry.refused || verdict.refusal);
                let asked = verdict.retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
                if retry.refused {
                    prop_assert_eq!(retry.delay, REFUSED_RETRY.max(asked));
                } else {
                    prop_assert!(retry.delay >= min.max(asked) && retry.delay <= max.max(min).max(asked));
                }
            }
        }
    }
}

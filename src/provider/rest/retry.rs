//! Whether a failed call is made again, and after what wait.
//!
//! Pure: chance comes as an argument. Only what is safe to repeat gets here with more than one attempt: reads, and
//! writes with an `Idempotency-Key`, which the provider carries out once (`sdk/overview`).

use std::time::Duration;

/// Attempts of a call, the first included: the provider's own SDK makes two more (`sdk/configure`).
pub(super) const ATTEMPTS_MAX: u32 = 3;

/// The wait before the second attempt, where the provider names none; it doubles with each further one.
const WAIT_MIN: Duration = Duration::from_secs(1);

/// The longest wait. A person is waiting: where the provider asks for longer, this is an error instead.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(60);

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The provider answered so, and asked for this wait.
    Answered { status: u16, retry_after: Option<Duration> },
    /// The request went out and its connection broke: whether it was carried out is unknown.
    Broke,
    /// Anything that another attempt would meet again, or that took all the time there is.
    Final,
}

/// How long to wait before another attempt, after `attempts` of them; `None` when there is to be none.
///
/// `chance` is uniform in `[0, 1)`: the wait lies between half of the ceiling and all of it, so that clients which were
/// refused together do not come back together. A longer `Retry-After` wins.
pub(super) fn wait(failure: Failure, attempts: u32, chance: f64) -> Option<Duration> {
    if attempts >= ATTEMPTS_MAX {
        return None;
    }
    let asked = match failure {
        // `api-spec/rate-limits` for 429, `sdk/configure` for 500 and 503; 502 and 504 are a proxy's word for them.
        Failure::Answered { status: 429 | 500 | 502..=504, retry_after } => retry_after.unwrap_or_default(),
        Failure::Broke => Duration::ZERO,
        Failure::Answered { .. } | Failure::Final => return None,
    };
    let ceiling = WAIT_MIN.saturating_mul(2_u32.saturating_pow(attempts.saturating_sub(1))).min(WAIT_MAX);
    let wait = asked.max(ceiling.mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0)));
    (wait <= WAIT_MAX).then_some(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn answered(status: u16, retry_after: Option<Duration>) -> Failure {
        Failure::Answered { status, retry_after }
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        for (status, again) in
            [(429, true), (500, true), (502, true), (503, true), (504, true), (501, false), (400, false), (401, false)]
        {
            assert_eq!(wait(answered(status, None), 1, 0.0).is_some(), again, "{status}");
        }
        for status in [302, 403, 404, 409, 410, 422, 505] {
            assert_eq!(wait(answered(status, Some(Duration::ZERO)), 1, 0.0), None, "{status}");
        }
        assert!(wait(Failure::Broke, 1, 0.0).is_some());
        assert_eq!(wait(Failure::Final, 1, 0.0), None);
    }

    #[test]
    fn waits_double_have_jitter_and_end() {
        let waits = |chance| (1..=4).map(|attempts| wait(answered(503, None), attempts, chance)).collect::<Vec<_>>();
        let ms = |ms| Some(Duration::from_millis(ms));
        assert_eq!(waits(0.0), [ms(500), ms(1_000), None, None]);
        assert_eq!(waits(1.0), [ms(1_000), ms(2_000), None, None]);
    }

    #[test]
    fn what_the_provider_asks_for_is_kept_or_not_waited_for() {
        let wait = |seconds| wait(answered(429, Some(Duration::from_secs(seconds))), 1, 1.0);
        assert_eq!(wait(0), Some(Duration::from_secs(1)), "our own is longer");
        assert_eq!(wait(30), Some(Duration::from_secs(30)));
        assert_eq!(wait(60), Some(WAIT_MAX));
        assert_eq!((wait(61), wait(u64::MAX)), (None, None));
    }
}

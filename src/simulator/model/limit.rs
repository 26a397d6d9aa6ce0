//! Requests a minute: documented to exist, with no figures (`api-spec/rate-limits`).

/// Length of a window, in milliseconds.
const WINDOW_MS: i64 = 60_000;

/// Counts the requests of one key in windows of a minute.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    most: Option<u32>,
    began_ms: i64,
    taken: u32,
}

impl Limit {
    /// At most `most` requests a minute; any number without.
    pub(super) const fn new(most: Option<u32>) -> Self {
        Self { most, began_ms: i64::MIN, taken: 0 }
    }

    /// Takes a request.
    ///
    /// # Errors
    /// With the seconds until the next window, at least 1, when this one is full.
    pub(super) fn take(&mut self, now_ms: i64) -> Result<(), u32> {
        let Some(most) = self.most else { return Ok(()) };
        let age_ms = now_ms.saturating_sub(self.began_ms);
        // A clock that went back begins a window as well: nobody is kept out until it has caught up.
        if !(0..WINDOW_MS).contains(&age_ms) {
            self.began_ms = now_ms;
            self.taken = 0;
        }
        if self.taken < most {
            self.taken += 1;
            return Ok(());
        }
        let left_ms = WINDOW_MS - now_ms.saturating_sub(self.began_ms);
        Err(u32::try_from((left_ms + 999) / 1000).unwrap_or(1).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_window_answers_when_the_next_begins() {
        let mut limit = Limit::new(Some(2));
        let taken = [0, 1, 2, 59_001, 59_999, 60_000, 60_001, 60_002].map(|now| limit.take(now));
        assert_eq!(taken, [Ok(()), Ok(()), Err(60), Err(1), Err(1), Ok(()), Ok(()), Err(60)]);
        assert_eq!((limit.take(5), limit.take(i64::MIN), limit.take(i64::MAX)), (Ok(()), Ok(()), Ok(())));
        assert!((0..1_000).all(|_| Limit::new(None).take(0).is_ok()));
    }
}

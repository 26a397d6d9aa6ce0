//! Live frames held back while a walk fills the gap before them, so that consumers see events in their order.
//!
//! Bounded in time and bytes: consumers never starve because the provider's log is down or slow. Pure.

use std::collections::VecDeque;
use std::time::Duration;

/// Bytes of frames held at most; beyond it they go on, and what the walk finds later is marked stale.
pub const HELD_BYTES_MAX: usize = 16 << 20;

/// What one held frame costs alongside its bytes, so that a flood of tiny frames is bounded too.
const OVERHEAD_BYTES: usize = 64;

/// Frames of one connection, in their order, until they are let go.
#[derive(Debug)]
pub struct Hold<F> {
    frames: VecDeque<F>,
    bytes: usize,
    max: Duration,
}

impl<F> Hold<F> {
    /// Holds for at most `max` from the beginning of the connection.
    pub fn new(max: Duration) -> Self {
        Self { frames: VecDeque::new(), bytes: 0, max }
    }

    /// Keeps a frame of `bytes`.
    pub fn keep(&mut self, frame: F, bytes: usize) {
        self.frames.push_back(frame);
        self.bytes = self.bytes.saturating_add(bytes + OVERHEAD_BYTES);
    }

    /// Whether frames must go on although the walk is not done: `held` is the time since the connection was made.
    pub fn is_over(&self, held: Duration) -> bool {
        held >= self.max || self.bytes >= HELD_BYTES_MAX
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Lets the frames go, oldest first.
    pub fn release(self) -> impl Iterator<Item = F> {
        self.frames.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_leave_in_their_order() {
        let mut hold = Hold::new(Duration::from_secs(30));
        (0..3).for_each(|frame| hold.keep(frame, 10));
        assert_eq!(hold.release().collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn it_ends_by_time_or_by_bytes() {
        let mut hold = Hold::new(Duration::from_secs(30));
        assert!(!hold.is_over(Duration::from_millis(29_999)));
        assert!(hold.is_over(Duration::from_secs(30)));
        hold.keep((), HELD_BYTES_MAX - OVERHEAD_BYTES - 1);
        assert!(!hold.is_over(Duration::ZERO));
        hold.keep((), 0);
        assert!(hold.is_over(Duration::ZERO));
    }
}

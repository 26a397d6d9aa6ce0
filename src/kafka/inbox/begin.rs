//! Where the reading of an inbox begins, and since when what is to be read may wait there. Pure.

use crate::clock::CLOCKS_DISAGREE_MS;

/// Where the inbox begins and ends.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The offset of its oldest record.
    pub low: i64,
    /// The offset behind its newest record.
    pub high: i64,
}

/// The first offset to read, and whether records were deleted before it that nobody had read. An offset beyond the end is of
/// another topic of that name, of which everything is new.
pub fn begin(from: Option<i64>, Ends { low, high }: Ends) -> (i64, bool) {
    match from {
        None => (low, false),
        Some(from) if (low..=high).contains(&from) => (from, false),
        Some(_) => (low, true),
    }
}

/// What is to be read was appended after this time by any clock, where the oldest record of it has this timestamp: that of
/// the node that appended it, or of the broker.
pub fn appended_after(oldest_ms: i64) -> i64 {
    oldest_ms.saturating_sub(CLOCKS_DISAGREE_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_at_the_checkpoints_offset_and_reports_what_was_deleted_before() {
        let ends = Ends { low: 5, high: 9 };
        let told = [None, Some(4), Some(5), Some(9), Some(10)].map(|from| begin(from, ends));
        assert_eq!(told, [(5, false), (5, true), (5, false), (9, false), (5, true)]);
    }

    #[test]
    fn no_clock_that_is_wrong_by_an_hour_makes_a_record_younger_than_it_is() {
        assert_eq!(appended_after(CLOCKS_DISAGREE_MS + 7), 7);
    }
}

//! File descriptors: how many there may be, and how many places they allow.

use std::io;

/// Descriptors that are not for the webhook listener's places: Kafka's brokers, the provider, the admin listener with its 64
/// places, connections in line, and what the process itself has open.
const OTHERS: u64 = 192;

/// Raises the soft limit of open files to the hard one, which a process may do for itself; what it is then.
///
/// systemd and login shells keep the soft limit at 1,024 for programs that use `select`, which this one does not.
///
/// # Errors
///
/// The system's error.
pub fn raise_limit() -> io::Result<u64> {
    let (_, hard) = rlimit::Resource::NOFILE.get()?;
    rlimit::increase_nofile_limit(hard)
}

/// The most descriptors that this process may have once it runs: its hard limit.
///
/// # Errors
///
/// The system's error.
pub fn limit() -> io::Result<u64> {
    rlimit::Resource::NOFILE.get_hard()
}

/// Places under a limit of open files where `wanted` are set: fewer where the others would be left without.
pub fn places(wanted: usize, limit: u64) -> usize {
    let left = limit.saturating_sub(OTHERS).max(limit / 4).max(1);
    wanted.min(usize::try_from(left).unwrap_or(usize::MAX))
}

/// Whether an accept failed because there is no descriptor left, of ours or of the whole machine.
pub(super) fn is_short(error: &io::Error) -> bool {
    // From errno(3): the standard library has no kind for either.
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_leave_descriptors_to_the_others() {
        for (wanted, limit, expected) in
            [(1024, 65_536, 1024), (1024, 1_216, 1024), (1024, 1_024, 832), (1024, 256, 64), (8, 256, 8), (8, 1, 1)]
        {
            assert_eq!(places(wanted, limit), expected, "{wanted} under {limit}");
        }
    }

    #[test]
    fn the_limit_is_raised_to_the_hard_one() {
        assert_eq!(raise_limit().ok(), limit().ok());
    }
}

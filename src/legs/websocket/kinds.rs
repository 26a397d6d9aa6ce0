//! Kinds of frames that were logged once.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Kinds remembered at most: more than a provider documents. Beyond it a new kind is counted and not logged.
const KINDS_MAX: usize = 16;

/// The kinds of frames that the log has a line about.
#[derive(Debug, Default)]
pub struct Kinds(Mutex<BTreeSet<String>>);

impl Kinds {
    /// Whether a line about this kind is due: once, and for a bounded number of kinds.
    pub(super) fn is_new(&self, kind: &str) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.len() < KINDS_MAX && !known.contains(kind) && known.insert(kind.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_logged_once_and_no_more_than_the_bound() {
        let kinds = Kinds::default();
        assert!(kinds.is_new("a") && !kinds.is_new("a"));
        let told = (0..100).filter(|kind| kinds.is_new(&kind.to_string())).count();
        assert_eq!(told, KINDS_MAX - 1);
    }
}

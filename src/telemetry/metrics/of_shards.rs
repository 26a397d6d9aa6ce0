//! A gauge over the shards of a process, each of which sets its own part and may leave.

use prometheus_client::metrics::gauge::Gauge;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// A gauge that is the sum of what each shard of this process sets.
#[derive(Debug, Default)]
pub(super) struct OfShards {
    sum: Gauge,
    told: Mutex<BTreeMap<i32, usize>>,
}

impl OfShards {
    /// Shown by `sum`; no shard has set anything.
    pub(super) fn of(sum: Gauge) -> Self {
        Self { sum, told: Mutex::default() }
    }

    /// The shard sets this, or (`None`) is not of this process any more.
    pub(super) fn tell(&self, shard: i32, value: Option<usize>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match value {
            Some(value) => told.insert(shard, value),
            None => told.remove(&shard),
        };
        self.sum.set(super::gauge(told.values().sum()));
    }
}

//! A running relay seen from outside: its metrics, the states of its legs, its memory.

use super::proc::status_kib;
use super::relay::{PATIENCE, Rig, get};
use serde_json::Value;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Bytes of a process that are in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Now.
    pub now: u64,
    /// At most, since the start or [`forget_peak`].
    pub peak: u64,
}

pub fn memory(pid: u32) -> Memory {
    let [now, peak] = ["VmRSS", "VmHWM"].map(|row| status_kib(pid, row) << 10);
    Memory { now, peak }
}

/// The peak is counted again from here (proc(5), `clear_refs`).
pub fn forget_peak(pid: u32) {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("a process of ours");
}

/// The value of one series, named without the prefix and with its labels.
pub async fn metric(rig: &Rig, series: &str) -> u64 {
    let text = get(&format!("http://{}/metrics", rig.config.admin.listen)).await;
    let name = format!("pepay_relay_{series} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no series {series}:\n{text}"))
}

/// Records of events committed so far by this process.
pub async fn published(rig: &Rig) -> u64 {
    metric(rig, "records_total{topic=\"orders\"}").await + metric(rig, "records_total{topic=\"invoices\"}").await
}

/// The state of a leg, from `/status`.
pub async fn leg(rig: &Rig, leg: &str) -> String {
    let body: Value = serde_json::from_str(&get(&format!("http://{}/status", rig.config.admin.listen)).await).unwrap();
    body["legs"][leg]["state"].as_str().unwrap_or_else(|| panic!("no {leg} in {body}")).to_owned()
}

/// Waits until `holds`, asking a hundred times a second at most.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < PATIENCE, "{what} in time");
        sleep(Duration::from_millis(10)).await;
    }
}

//! What the kernel counts of a process, from `/proc`.

use std::fmt::Display;

/// A number of `/proc/PROCESS/stat` (proc_pid_stat(5)), whose fields are counted from 1; `PROCESS` may be `thread-self`.
pub fn stat(process: impl Display, field: usize) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("a running process");
    // The second field, a name, may hold anything.
    let fields = stat.rsplit_once(") ").expect("a name").1;
    fields.split_whitespace().nth(field - 3).and_then(|number| number.parse().ok()).expect("a number")
}

/// The kernel's unit of processor time, `USER_HZ`: the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time of a process so far, in seconds: user and system (proc_pid_stat(5), `utime` and `stime`).
pub fn cpu_seconds(pid: u32) -> f64 {
    [14, 15].map(|field| stat(pid, field) as f64).iter().sum::<f64>() / TICKS_PER_SECOND
}

/// Processes of a process group, by their numbers.
pub fn group(leader: u32) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").expect("processes").flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let of_group = |pid: &u32| {
        // One that has ended meanwhile is of none.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let group = stat.rsplit_once(") ").and_then(|(_, fields)| fields.split_whitespace().nth(2)?.parse().ok());
        group == Some(leader)
    };
    pids.filter(of_group).collect()
}

/// Field of page faults so far that needed no disk: memory taken from the kernel, or taken again.
pub const MINFLT: usize = 10;

/// KiB of a row of `/proc/PID/status` (proc_pid_status(5)), `VmRSS` for example.
pub fn status_kib(pid: u32, row: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let rest = status.lines().find_map(|line| line.strip_prefix(row)?.strip_prefix(':')).expect("a row of memory");
    rest.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("KiB")
}

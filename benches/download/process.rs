//! What the kernel says of a process.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

/// The unit of CPU times, on Linux (`USER_HZ`, time(7)).
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time of all threads of a process, seconds.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // behind the name, which may have spaces: state is field 3, user and system time are 14 and 15 (proc(5))
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u32 = fields[11..13]
        .iter()
        .map(|field| field.parse::<u32>().unwrap())
        .sum();
    f64::from(ticks) / TICKS_PER_SECOND
}

/// Resident memory of a process that is no file's, bytes.
pub(crate) fn memory_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

pub(crate) fn close_to_others(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

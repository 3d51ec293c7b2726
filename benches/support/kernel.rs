//! What the kernel knows of a process and of its sockets.

use std::{collections::BTreeMap, ffi::OsString, fs, time::Duration};

use nix::{time::ClockId, unistd::Pid};

/// Seconds of CPU time of a process, all its threads together, those that have ended too: user and system, counted in
/// nanoseconds.
pub(crate) fn cpu(pid: u32) -> f64 {
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid.cast_signed())).unwrap();
    Duration::from(clock.now().unwrap()).as_secs_f64()
}

/// How often the threads of a process have gone to sleep, those that have ended left out.
pub(crate) fn sleeps(pid: u32) -> u64 {
    thread_sleeps(pid).into_values().sum()
}

/// How often each thread of a process has gone to sleep, by its number.
pub(crate) fn thread_sleeps(pid: u32) -> BTreeMap<OsString, u64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of_thread = |path: std::path::PathBuf| -> Option<u64> {
        // it may end meanwhile
        let status = fs::read_to_string(path.join("status")).ok()?;
        let line =
            (status.lines()).find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        line.trim().parse().ok()
    };
    threads
        .filter_map(|thread| {
            let thread = thread.ok()?;
            Some((thread.file_name(), of_thread(thread.path())?))
        })
        .collect()
}

/// A process's memory, bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// In RAM, files that are mapped included.
    pub(crate) resident: u64,
    /// Of that, what belongs to no file.
    pub(crate) anonymous: u64,
}

pub(crate) fn memory(pid: u32) -> Memory {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let bytes = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib * 1_024
    };
    Memory {
        resident: bytes("VmRSS:"),
        anonymous: bytes("RssAnon:"),
    }
}

/// The UDP sockets of a port, all together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct UdpPort {
    /// Memory of what waits to be read, bytes.
    pub(crate) queued: u64,
    /// Datagrams that there was no room for since the port was opened.
    pub(crate) dropped: u64,
}

/// What `/proc/net/udp` says of a port of this machine (proc(5)).
pub(crate) fn udp_port(port: u16) -> UdpPort {
    let table = fs::read_to_string("/proc/net/udp").unwrap();
    let wanted = format!(":{port:04X}");
    let mut found = UdpPort::default();
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // sl, local address, remote address, state, queues (sent:received), …, drops
        if let [_, local, _, _, queues, .., drops] = fields[..]
            && local.ends_with(&wanted)
        {
            let (_, received) = queues.split_once(':').unwrap();
            found.queued += u64::from_str_radix(received, 16).unwrap();
            found.dropped += drops.parse::<u64>().unwrap();
        }
    }
    found
}

//! The machine: its clock, its kernel, its limits.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use super::Finding;
use crate::{
    clock::{Now, UtcMillis},
    config::Config,
    runtime::{RECEIVE_BUFFER, bind},
    server::time,
};

/// Connections of operators and to webhooks, sockets, files.
const ENOUGH_FILES: u64 = 4_096;
/// A clock that is moved by so much while it is looked at.
const JUMP: Duration = Duration::from_millis(500);
/// For a program that tells of the clock.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
/// Between two looks whether it has ended.
const STEP: Duration = Duration::from_millis(20);

pub(super) fn kernel(config: &Config, server: Option<u32>) -> Vec<Finding> {
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    vec![
        shards(config, cores),
        receive_buffer(
            fs::read_to_string("/proc/sys/net/core/rmem_max")
                .ok()
                .as_deref(),
        ),
        open_files(server),
    ]
}

/// Whether datagrams can be told apart by the kernel, and go to a thread each.
fn shards(config: &Config, cores: usize) -> Finding {
    const CHECK: &str = "kernel";
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    if let Err(error) = bind(any, 2) {
        return Finding::warning(
            CHECK,
            format!("it cannot share a port among shards ({error}); one shard serves all devices"),
            "use Linux 4.5 or newer, and allow SO_ATTACH_REUSEPORT_CBPF",
        );
    }
    if usize::from(config.shards) > cores {
        let told = format!("{} shards share {cores} cores", config.shards);
        return Finding::warning(CHECK, told, "set shards to 0: one for each core");
    }
    Finding::ok(
        CHECK,
        format!("ports are shared among shards, on {cores} cores"),
    )
}

fn receive_buffer(most: Option<&str>) -> Finding {
    const CHECK: &str = "receive buffer";
    match most.and_then(|text| text.trim().parse::<usize>().ok()) {
        Some(most) if most < RECEIVE_BUFFER => Finding::warning(
            CHECK,
            format!(
                "the kernel keeps {most} bytes for a port at the most, and drops what comes faster; the server asks for {RECEIVE_BUFFER}"
            ),
            format!(
                "run sysctl -w net.core.rmem_max={RECEIVE_BUFFER}, and put it into /etc/sysctl.d/cellwise.conf"
            ),
        ),
        Some(most) => Finding::ok(
            CHECK,
            format!("the kernel keeps up to {most} bytes for a port"),
        ),
        None => Finding::ok(CHECK, "the kernel does not tell"),
    }
}

fn open_files(server: Option<u32>) -> Finding {
    const CHECK: &str = "open files";
    let process = server.map_or_else(|| "self".to_owned(), |process| process.to_string());
    let limits = fs::read_to_string(Path::new("/proc").join(process).join("limits"));
    let limit = limits.ok().as_deref().and_then(most_files);
    let whose = if server.is_some() {
        "the server"
    } else {
        "this shell's programs"
    };
    match limit {
        Some(limit) if limit < ENOUGH_FILES => Finding::warning(
            CHECK,
            format!("{whose} may have {limit} open files"),
            "set LimitNOFILE=65536 in the unit (deploy/cellwise.service has it), or run ulimit -n 65536",
        ),
        Some(limit) => Finding::ok(CHECK, format!("{whose} may have {limit}")),
        None => Finding::ok(CHECK, "the limit is not told to this user"),
    }
}

/// The soft limit in `/proc/PID/limits` (proc(5)).
fn most_files(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        limit => limit.parse().ok(),
    }
}

pub(super) fn clock(began: Now, now: Now, newest: Option<UtcMillis>) -> Vec<Finding> {
    const CHECK: &str = "clock";
    const SET: &str = "let chrony or systemd-timesyncd set it: limits of upgrades are times of day";
    let mut findings = Vec::new();
    if let Some(problem) = newest.and_then(|newest| time::problem(now.utc, newest)) {
        findings.push(Finding::error(CHECK, problem, SET));
    }
    let (passed, shown) = (now.instant.since(began.instant), now.utc.since(began.utc));
    if passed.abs_diff(shown) > JUMP {
        let told = format!(
            "it was moved by {} ms while it was looked at",
            passed.abs_diff(shown).as_millis()
        );
        findings.push(Finding::warning(
            CHECK,
            told,
            "have one program alone set it, by slewing",
        ));
    }
    match synchronized() {
        Some(false) => findings.push(Finding::warning(CHECK, "nothing keeps it right", SET)),
        Some(true) => findings.push(Finding::ok(
            CHECK,
            format!("it is {}, and is kept right", now.utc),
        )),
        None if findings.is_empty() => {
            let told = format!(
                "it is {}; whether something keeps it right is not known here",
                now.utc
            );
            findings.push(Finding::ok(CHECK, told));
        }
        None => {}
    }
    findings
}

/// Whether the clock is kept right, as systemd knows.
fn synchronized() -> Option<bool> {
    if Path::new("/run/systemd/timesync/synchronized").exists() {
        return Some(true);
    }
    let asked = ["show", "--property=NTPSynchronized", "--value"];
    match answer("timedatectl", &asked).ok()?.trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

/// What a program prints, in bounded time.
fn answer(program: &str, arguments: &[&str]) -> io::Result<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut waited = Duration::ZERO;
    while child.try_wait()?.is_none() {
        if waited >= ANSWERED_WITHIN {
            let _ = child.kill(); // it has ended meanwhile
            let _ = child.wait();
            return Err(io::ErrorKind::TimedOut.into());
        }
        thread::sleep(STEP);
        waited += STEP;
    }
    // a word fits into the pipe
    let output = child.wait_with_output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Instant, server::doctor::Level};

    #[test]
    fn limits_are_read_as_the_kernel_writes_them() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
             Max processes             15000                15000                processes\n\
             Max open files            1024                 524288               files\n";
        assert_eq!(most_files(limits), Some(1_024));
        assert_eq!(
            most_files("Max open files  unlimited  unlimited  files"),
            Some(u64::MAX)
        );
        assert_eq!(most_files(""), None);
        assert_eq!(receive_buffer(Some("212992\n")).level, Level::Warning);
        assert_eq!(receive_buffer(Some("8388608\n")).level, Level::Ok);
        assert_eq!(receive_buffer(None).level, Level::Ok);
    }

    #[test]
    fn a_clock_that_is_wrong_or_moved_is_told() {
        let at = |ms: i64, instant: u64| Now {
            instant: Instant::from_millis(instant),
            utc: UtcMillis(ms),
        };
        let day = 86_400_000;
        let begin = at(1_000 * day, 0);
        let levels = |now: Now, newest: Option<i64>| {
            let found = clock(begin, now, newest.map(UtcMillis));
            found
                .iter()
                .filter(|it| it.told != "nothing keeps it right")
                .map(|it| it.level)
                .max()
                .unwrap_or(Level::Ok)
        };
        assert_eq!(
            levels(at(1_000 * day + 50, 50), Some(1_000 * day)),
            Level::Ok
        );
        assert_eq!(levels(at(1_000 * day + 9_000, 50), None), Level::Warning);
        assert_eq!(levels(at(1_000 * day, 0), Some(1_001 * day)), Level::Error);
        assert_eq!(levels(at(1_000 * day, 0), Some(10 * day)), Level::Error);
    }

    #[test]
    fn a_program_that_hangs_is_not_waited_for() {
        assert_eq!(answer("echo", &["yes"]).unwrap(), "yes\n");
        assert_eq!(
            answer("sleep", &["60"]).unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
    }
}

//! What a fleet costs the server, and how long a restart takes: `cargo bench --bench fleet [-- --devices 20000]`.
//!
//! Devices are added through the API, as the default `lwm2m.registration = "known"` wants it, and register over UDP,
//! each from an address of its own. The server's data is on disk. Some of the devices, a tenth unless `--upgrading`
//! says otherwise, go through the negotiation up to the download: the cells' limits and paces are set so that none
//! waits for a slot. Then the server is killed (SIGKILL) and started again, while one of those that download repeats
//! its request for a segment.
//!
//! Before that the server is left alone for a minute (`--idle-seconds`): what it takes then, it takes for nothing.
//!
//! `--upgrading N` with the number of `--devices` tells what an upgrading device takes, without others around it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::too_many_lines)] // it measures or ends

#[path = "../support/mod.rs"]
mod support;

use std::{
    net::{Ipv4Addr, UdpSocket},
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum};
use serde::Serialize;
use serde_json::json;

use support::{
    device::{Heard, TARGET},
    fleet::Fleet,
    kernel, now, rounded,
    server::{Server, Setup},
};

/// Devices of a cell.
const PER_CELL: u32 = 1_000;
/// 20 KiB, as the simulation's.
const PACKAGE: usize = 20 << 10;
/// Devices that download go on with it until the restart, as many as this.
const ACTIVE: u32 = 500;
/// A device that waits for its segment asks again after this.
const REPEAT: Duration = Duration::from_millis(50);
/// A restart that takes longer is none.
const PATIENCE: Duration = Duration::from_mins(10);

/// How large the fleet is.
#[derive(Debug, Parser)]
struct Arguments {
    /// Devices
    #[arg(long, default_value_t = 1_000_000)]
    devices: u32,
    /// How many of them upgrade when the server is killed; a tenth unless given
    #[arg(long)]
    upgrading: Option<u32>,
    /// For how long the server is watched while none of the registered devices is awake
    #[arg(long, default_value_t = 60)]
    idle_seconds: u64,
    /// UDP sockets that others on the machine have open meanwhile
    #[arg(long, default_value_t = 0)]
    other_sockets: usize,
    /// The program to measure, instead of the one that cargo has built
    #[arg(long)]
    server: Option<PathBuf>,
    /// What is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// What cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Figures {
    benchmark: &'static str,
    devices: u32,
    /// `lwm2m.registration`.
    registration: &'static str,
    imported_per_cpu_second: f64,
    /// CPU time of the whole server, until all registrations were on disk.
    registrations_per_cpu_second: f64,
    registrations_per_second: f64,
    /// Resident memory at rest that a registered device adds, and the part of it that belongs to no file.
    bytes_per_device: f64,
    anonymous_bytes_per_device: f64,
    empty_mib: f64,
    /// What the server takes of the processor in that time while all devices sleep, and how often one of its threads wakes
    /// up.
    idle_seconds: u64,
    other_sockets: usize,
    idle_cpu_seconds: f64,
    idle_wakeups: u64,
    /// Devices that have taken the new version and may ask for segments, of those that were to.
    downloading: usize,
    upgrading: u32,
    negotiations_per_cpu_second: f64,
    /// What an upgrade adds to a server that has loaded all devices, the package's segments included.
    bytes_per_upgrading_device: f64,
    database_mib: f64,
    /// Datagrams that the server's socket, or the devices', had no room for until then.
    dropped_datagrams: u64,
    /// From the start of the process to the first segment, to `/readyz`, to the gauge that tells all devices.
    restart_first_answer_seconds: f64,
    restart_ready_seconds: f64,
    restart_loaded_seconds: f64,
    restart_cpu_seconds: f64,
    restarted_bytes_per_device: f64,
}

fn main() {
    let arguments = Arguments::parse();
    let figures = measure(&arguments);
    let printed = serde_json::to_value(&figures).unwrap();
    match arguments.format {
        Format::Json => println!("{printed}"),
        Format::Text => {
            for (name, figure) in printed.as_object().unwrap() {
                println!("{:<32} {figure}", name.replace('_', " "));
            }
        }
    }
}

fn measure(arguments: &Arguments) -> Figures {
    let devices = arguments.devices;
    let all = f64::from(devices);
    let upgrading = arguments.upgrading.unwrap_or(devices / 10);
    assert!(
        devices > 0 && upgrading > 0 && upgrading <= devices,
        "too few devices to upgrade {upgrading}"
    );
    let setup = Setup::new(arguments.server.as_deref())
        .with("CELLWISE_ADMISSION__LIMIT_GOOD", "100000")
        .with("CELLWISE_ADMISSION__PER_CELL_PER_SECOND", "1000000")
        .with("CELLWISE_ADMISSION__PER_SECOND", "1000000")
        // most of those that download say nothing meanwhile
        .with("CELLWISE_UPGRADE__NUDGE_AFTER_S", "86400")
        .with("CELLWISE_UPGRADE__DOWNLOAD_S", "86400");
    let mut server = Server::start(setup);
    let mut fleet = Fleet::new(server.coap(), devices, PER_CELL);
    let empty = server.memory_at_rest();

    eprintln!("{devices} devices are added");
    let cpu = server.cpu();
    fleet.import(&server, |index| {
        if index < upgrading {
            "upgrading"
        } else {
            "other"
        }
    });
    let import = server.cpu() - cpu;

    eprintln!("they register");
    let (cpu, begun) = (server.cpu(), now());
    fleet.register(|registered| eprintln!("  {registered} have"));
    let registering = begun.elapsed();
    server.wait_until_committed();
    let registration = server.cpu() - cpu;
    let registered = server.memory_at_rest();
    eprintln!("they sleep for {} s", arguments.idle_seconds);
    let idle = rest(&server, arguments);

    eprintln!(
        "the server starts anew, so that what upgrading adds finds no room that was used before"
    );
    let begun = server.kill_and_restart();
    watch(&server, all, begun);
    let loaded = server.memory_at_rest();

    eprintln!("{upgrading} of them begin to upgrade");
    let cpu = server.cpu();
    let downloading = upgrade(&server, &mut fleet, upgrading);
    server.wait_until_committed();
    let negotiation = server.cpu() - cpu;
    let upgraded = server.memory_at_rest();
    eprintln!("{downloading} of them download");
    assert!(downloading > 0, "no device gets as far as the download");
    ask_around(&mut fleet, ACTIVE.min(upgrading));
    let database = size_of_data(&server);
    let dropped =
        [fleet.server.port(), fleet.port.number].map(|port| kernel::udp_port(port).dropped);

    eprintln!("the server is killed, and starts again");
    let restart = restart(&mut server, &mut fleet);
    let restarted = server.memory_at_rest();

    let per = |count: f64, seconds: f64| (count / seconds).round();
    let each = |after: u64, before: u64, count: f64| (float(after) - float(before)) / count;
    Figures {
        benchmark: "fleet",
        devices,
        registration: "known",
        imported_per_cpu_second: per(all, import),
        registrations_per_cpu_second: per(all, registration),
        registrations_per_second: per(all, registering.as_secs_f64()),
        bytes_per_device: each(registered.resident, empty.resident, all).round(),
        anonymous_bytes_per_device: each(registered.anonymous, empty.anonymous, all).round(),
        empty_mib: mib(empty.resident),
        idle_seconds: arguments.idle_seconds,
        other_sockets: arguments.other_sockets,
        idle_cpu_seconds: rounded(idle.cpu),
        idle_wakeups: idle.wakeups,
        downloading,
        upgrading,
        negotiations_per_cpu_second: per(f64::from(upgrading), negotiation),
        bytes_per_upgrading_device: each(upgraded.resident, loaded.resident, f64::from(upgrading))
            .round(),
        database_mib: mib(database),
        dropped_datagrams: dropped.iter().sum(),
        restart_first_answer_seconds: seconds(restart.first_answer),
        restart_ready_seconds: seconds(restart.ready),
        restart_loaded_seconds: seconds(restart.loaded),
        restart_cpu_seconds: rounded(restart.cpu),
        restarted_bytes_per_device: each(restarted.resident, empty.resident, all).round(),
    }
}

/// What it takes to wait.
struct Idle {
    cpu: f64,
    wakeups: u64,
}

/// Leaves the server alone for a while.
fn rest(server: &Server, arguments: &Arguments) -> Idle {
    let nowhere = (Ipv4Addr::LOCALHOST, 0);
    let sockets: Vec<_> = (0..arguments.other_sockets)
        .map(|_| UdpSocket::bind(nowhere).unwrap())
        .collect();
    let (cpu, before) = (server.cpu(), kernel::thread_sleeps(server.pid()));
    std::thread::sleep(Duration::from_secs(arguments.idle_seconds));
    let cpu = server.cpu() - cpu;
    let after = kernel::thread_sleeps(server.pid());
    drop(sockets);
    let woken = |(thread, sleeps): (_, u64)| sleeps - before.get(&thread).unwrap_or(&0);
    Idle {
        cpu,
        wakeups: after.into_iter().map(woken).sum(),
    }
}

/// Creates the task, and leads the devices to the download. Returns how many got there.
fn upgrade(server: &Server, fleet: &mut Fleet, count: u32) -> usize {
    let path = format!("/v1/packages?product=upgrading&version={TARGET}");
    let package = server.post(&path, &vec![0x5A; PACKAGE]);
    let task = json!({ "name": "bench", "package_id": package["id"], "all": true });
    server.post("/v1/tasks", task.to_string().as_bytes());
    fleet.negotiate(count, |downloading| eprintln!("  {downloading} download"))
}

/// Lets the first devices ask for a segment each, so that their downloads are under way.
fn ask_around(fleet: &mut Fleet, count: u32) {
    for index in 0..count {
        let answered = ask(fleet, index, 1, now() + PATIENCE);
        assert!(answered.is_some(), "device {index} gets no segment");
    }
}

/// Asks for a segment until it comes, or until then. Returns when it came.
fn ask(fleet: &mut Fleet, device: u32, segment: u16, until: Instant) -> Option<Instant> {
    let request = fleet.devices[device as usize].request_segment(segment);
    let mut asked: Option<Instant> = None;
    let mut answered = None;
    while answered.is_none() && now() < until {
        if asked.is_none_or(|at| at.elapsed() >= REPEAT) {
            fleet.say(device, &request);
            asked = Some(now());
        }
        fleet.listen(|from, heard| {
            if from == device && heard == Heard::Segment(segment) {
                answered = Some(now());
            }
        });
    }
    answered
}

/// How long it took since the start of the process.
struct Restart {
    first_answer: Duration,
    ready: Duration,
    loaded: Duration,
    /// What of the processor it took until then.
    cpu: f64,
}

fn restart(server: &mut Server, fleet: &mut Fleet) -> Restart {
    let begun = server.kill_and_restart();
    let devices = f64::from(fleet.count());
    let loaded = std::thread::scope(|scope| {
        let looks = scope.spawn(|| watch(server, devices, begun));
        let answered = ask(fleet, 0, 2, begun + PATIENCE);
        (answered, looks.join().unwrap())
    });
    let (Some(answered), (ready, loaded)) = loaded else {
        panic!("no segment came within {PATIENCE:?}");
    };
    Restart {
        first_answer: answered - begun,
        ready,
        loaded,
        cpu: server.cpu(),
    }
}

/// Looks until the server says that it is ready and knows all devices.
fn watch(server: &Server, devices: f64, begun: Instant) -> (Duration, Duration) {
    let (mut ready, mut loaded) = (None, None);
    loop {
        if ready.is_none() && server.is_ready() {
            ready = Some(begun.elapsed());
        }
        if loaded.is_none() {
            let metrics = server.metrics().unwrap_or_default();
            if metrics
                .get("cellwise_devices")
                .is_some_and(|known| *known >= devices)
            {
                loaded = Some(begun.elapsed());
            }
        }
        if let (Some(ready), Some(loaded)) = (ready, loaded) {
            return (ready, loaded);
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "the server is not ready within {PATIENCE:?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Bytes of what the server has on disk.
fn size_of_data(server: &Server) -> u64 {
    let files = std::fs::read_dir(server.data()).unwrap();
    files
        .map(|file| file.unwrap().metadata().unwrap())
        .filter(std::fs::Metadata::is_file)
        .map(|file| file.len())
        .sum()
}

fn seconds(time: Duration) -> f64 {
    rounded(time.as_secs_f64())
}

fn mib(bytes: u64) -> f64 {
    rounded(float(bytes) / 1_024.0 / 1_024.0)
}

#[allow(clippy::cast_precision_loss)] // the figures are rounded anyway
const fn float(count: u64) -> f64 {
    count as f64
}

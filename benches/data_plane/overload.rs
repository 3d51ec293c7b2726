//! Twice of what the server can do: what it still does, and whether its operator is still heard.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use serde::Serialize;

use super::{
    child::{Kind, Other},
    load::{Load, Segments, float},
};
use crate::support::{
    cores::Cores,
    fleet::Fleet,
    kernel, now, rounded,
    server::{Reader, Server},
};

/// Windows in which the peak is looked for.
const WINDOWS: [usize; 3] = [64, 128, 256];
const SEARCH: Duration = Duration::from_secs(1);
/// And rates, each this much above the peak so far.
const STEP: f64 = 1.25;
const STEPS: usize = 12;
/// Who completes less than this share of what is asked is far past the peak.
const KEEPS_UP: f64 = 0.5;
/// Between two requests of the operator.
const PAUSE: Duration = Duration::from_millis(10);

/// What was measured. Rates are of segment exchanges in a second.
#[derive(Debug, Serialize)]
pub(crate) struct Overload {
    /// The most that were completed in a second of the search.
    pub(crate) peak_per_second: f64,
    /// Requests that were sent, relative to the peak: 2 is meant, and less is what the load could not do.
    pub(crate) offered: f64,
    pub(crate) goodput_per_second: f64,
    /// Relative to the peak.
    pub(crate) goodput: f64,
    /// Datagrams that the server's socket had no room for, and the share of all that were sent to it.
    pub(crate) dropped_by_the_kernel: u64,
    pub(crate) dropped_share: f64,
    /// Datagrams that the load's own socket had no room for: answers that the server has given.
    pub(crate) dropped_by_the_load: u64,
    /// What the server itself counted meanwhile that it did not do.
    pub(crate) counted_by_the_server: BTreeMap<String, f64>,
    /// `GET /v1/tasks` without load and under it.
    pub(crate) admin_requests: usize,
    pub(crate) admin_p99_ms_idle: f64,
    pub(crate) admin_p50_ms: f64,
    pub(crate) admin_p99_ms: f64,
    pub(crate) admin_max_ms: f64,
}

pub(crate) fn measure(
    server: &Server,
    fleet: &mut Fleet,
    segments: u16,
    time: Duration,
    cores: &Cores,
) -> Overload {
    let idle = Operator::start(server, cores);
    thread::sleep(time / 2);
    let idle = idle.stop();

    // With its core to itself the server may be faster than half of what the load can send.
    let _other = Other::start(Kind::Burn, &[], cores);
    let devices = fleet.count();
    let exchange = Segments::new(&mut fleet.devices, segments);
    let own_port = fleet.port.number;
    let mut load = Load::new(
        exchange,
        devices,
        &mut fleet.port,
        fleet.server,
        cores.are_apart(),
    );
    let peak = peak(&mut load);

    let port = fleet.server.port();
    let counted = unfinished(server);
    let drops = [port, own_port].map(|port| kernel::udp_port(port).dropped);
    let operator = Operator::start(server, cores);
    let done = load.push(2.0 * peak, time);
    let latencies = operator.stop();
    // figures are published once a second
    thread::sleep(Duration::from_millis(2_500));
    let [dropped, dropped_here] = [(port, drops[0]), (own_port, drops[1])]
        .map(|(port, before)| kernel::udp_port(port).dropped - before);
    let mut counted_by_the_server = unfinished(server);
    counted_by_the_server.retain(|name, value| {
        *value -= counted.get(name).copied().unwrap_or(0.0);
        *value > 0.0
    });

    // a request, and an acknowledgement for each segment
    let sent = float(done.begun + done.completed);
    Overload {
        peak_per_second: peak.round(),
        offered: rounded(done.begun_per_second() / peak),
        goodput_per_second: done.per_second().round(),
        goodput: rounded(done.per_second() / peak),
        dropped_by_the_kernel: dropped,
        dropped_share: rounded(float(dropped) / sent),
        dropped_by_the_load: dropped_here,
        counted_by_the_server,
        admin_requests: latencies.len(),
        admin_p99_ms_idle: milliseconds(&idle, 99),
        admin_p50_ms: milliseconds(&latencies, 50),
        admin_p99_ms: milliseconds(&latencies, 99),
        admin_max_ms: milliseconds(&latencies, 100),
    }
}

/// The most exchanges per second that are completed: with devices that wait for their answers, and at higher and higher
/// rates until the server is far from keeping up.
fn peak(load: &mut Load<'_, Segments<'_>>) -> f64 {
    let waiting = WINDOWS.map(|window| load.keep(window, SEARCH).per_second());
    let mut peak = waiting.into_iter().fold(0.0, f64::max);
    for _ in 0..STEPS {
        let done = load.push(STEP * peak, SEARCH);
        peak = peak.max(done.per_second());
        if done.per_second() < KEEPS_UP * done.begun_per_second() {
            break;
        }
    }
    peak
}

/// Counters of what was not done, as far as their names tell.
fn unfinished(server: &Server) -> BTreeMap<String, f64> {
    const NAMES: [&str; 6] = [
        "unsent", "dropped", "refused", "ignored", "deferred", "shed",
    ];
    let mut figures = server.metrics().unwrap();
    figures.retain(|name, _| NAMES.iter().any(|part| name.contains(part)));
    figures
}

/// Somebody who asks for the tasks again and again, on a thread that runs wherever there is room.
struct Operator {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Vec<Duration>>,
}

impl Operator {
    fn start(server: &Server, cores: &Cores) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (told, reader, cores) = (stop.clone(), server.reader(), *cores);
        let thread = thread::spawn(move || {
            cores.anywhere();
            ask(&reader, &told)
        });
        Self { stop, thread }
    }

    /// How long each request took, the shortest first.
    fn stop(self) -> Vec<Duration> {
        self.stop.store(true, Relaxed);
        let mut latencies = self.thread.join().unwrap();
        latencies.sort_unstable();
        latencies
    }
}

fn ask(reader: &Reader, stop: &AtomicBool) -> Vec<Duration> {
    let mut latencies = Vec::new();
    while !stop.load(Relaxed) {
        let begun = now();
        reader.get("/v1/tasks");
        latencies.push(begun.elapsed());
        thread::sleep(PAUSE);
    }
    latencies
}

fn milliseconds(sorted: &[Duration], percent: usize) -> f64 {
    let at = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted
        .get(at)
        .map_or(f64::NAN, |latency| rounded(latency.as_secs_f64() * 1_000.0))
}

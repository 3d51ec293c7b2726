//! What the console costs: `cargo bench --bench console [-- --quick]`. Ends with one JSON object.
//!
//! `cellwise serve` in a process of its own, over the loopback device. Measured is what the kernel counts for the server's process.
//!
//! * Pages over many devices, all of them in a task, asked for one after the other: milliseconds until a page is there.
//! * Pages that are open and wait for news: resident memory of each.
//! * Devices download while pages are open that renew themselves whenever they are told that something has changed, and while none are: CPU
//!   time of a segment, in turns.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // it measures or ends

#[path = "../data_plane/load.rs"]
#[allow(dead_code)]
mod load;
#[path = "../support/mod.rs"]
mod support;

mod browser;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use browser::{Browser, Stream};
use clap::{Parser, ValueEnum};
use load::{Load, Segments, float};
use serde::Serialize;
use serde_json::json;
use support::{
    device::TARGET,
    fleet::Fleet,
    now, rounded,
    server::{Server, Setup},
};

/// Devices of one request.
const AT_ONCE: u32 = 10_000;
/// Devices that download, and the segments of their package.
const DOWNLOADING: u32 = 200;
const SEGMENTS: u16 = 2_000;
/// Exchanges on their way at a time.
const WINDOW: usize = 64;
/// Pages of one user that are told of news.
const OF_ONE_USER: usize = 60;

/// What is measured.
#[derive(Debug, Parser)]
struct Arguments {
    /// Devices in the database
    #[arg(long, default_value_t = 1_000_000)]
    devices: u32,
    /// How often each page is asked for
    #[arg(long, default_value_t = 200)]
    looks: usize,
    /// Pages that are open while devices download
    #[arg(long, default_value_t = 50)]
    open: usize,
    /// Pages that are open while memory is looked at
    #[arg(long, default_value_t = 480)]
    idle: usize,
    /// How long devices download, each time
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// How often, with pages and without
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// A tiny run, which shows that it works
    #[arg(long)]
    quick: bool,
    /// The program to measure, instead of the one that cargo has built
    #[arg(long)]
    server: Option<PathBuf>,
    /// What is printed
    #[arg(long, value_enum, default_value_t = Format::Json)]
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
    /// Of each page the median and the 99th percentile, milliseconds.
    pages_ms: BTreeMap<&'static str, [f64; 2]>,
    /// The slowest page's 99th percentile, milliseconds.
    page_p99_ms: f64,
    open_pages: usize,
    bytes_per_open_page: f64,
    /// Pages that were renewed in a second while devices downloaded.
    renewed_per_second: f64,
    segments_per_second: f64,
    /// CPU time of a segment without pages, in that with so many open.
    cpu_per_segment_ratio: f64,
}

fn main() {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        arguments.devices = 2_000;
        arguments.looks = 5;
        arguments.idle = 60;
        arguments.seconds = 0.5;
        arguments.rounds = 1;
    }
    let pages = looked_at(&arguments);
    let bytes = waiting(&arguments);
    let (ratio, segments, renewed) = downloading(&arguments);
    let slowest = pages.values().map(|[_, p99]| *p99).fold(0.0, f64::max);
    let figures = Figures {
        benchmark: "console",
        devices: arguments.devices,
        pages_ms: pages,
        page_p99_ms: slowest,
        open_pages: arguments.open,
        bytes_per_open_page: bytes.round(),
        renewed_per_second: rounded(renewed),
        segments_per_second: segments.round(),
        cpu_per_segment_ratio: rounded(ratio),
    };
    let figures = serde_json::to_value(figures).unwrap();
    match arguments.format {
        Format::Json => println!("{figures}"),
        Format::Text => {
            for (name, figure) in figures.as_object().unwrap() {
                println!("{:<24} {figure}", name.replace('_', " "));
            }
        }
    }
}

fn setup(arguments: &Arguments) -> Setup {
    Setup::new(arguments.server.as_deref()).with("CELLWISE_ADMIN__REQUESTS_PER_SECOND", "100000")
}

/// Pages over all devices.
fn looked_at(arguments: &Arguments) -> BTreeMap<&'static str, [f64; 2]> {
    let server = Server::start(setup(arguments));
    eprintln!("{} devices are added", arguments.devices);
    for first in (0..arguments.devices).step_by(AT_ONCE as usize) {
        let numbers = first..arguments.devices.min(first + AT_ONCE);
        let devices: Vec<_> = numbers.map(device).collect();
        server.post(
            "/v1/devices",
            json!({"devices": devices}).to_string().as_bytes(),
        );
    }
    let path = format!("/v1/packages?product=meter&version={TARGET}");
    let package = server.post(&path, &[b'x'; 4_096]);
    let task = json!({"name": "all", "package_id": package["id"], "all": true, "phases": [{"percent": 1.0}, {"percent": 99.0}]});
    server.post("/v1/tasks", task.to_string().as_bytes());
    let browser = Browser::log_in(&server, "bench-0");
    let pages = [
        ("now", "/now"),
        ("tasks", "/tasks"),
        ("task", "/tasks/1"),
        ("task_upgrades", "/tasks/1/upgrades"),
        ("upgrade", "/upgrades/1"),
        ("devices", "/devices"),
        ("devices_filtered", "/devices?filter=site%3D%3Dsite-4"),
        ("device", "/devices/meter-0000001"),
        ("cells", "/cells"),
        ("packages", "/packages"),
    ];
    let mut figures = BTreeMap::new();
    for (name, path) in pages {
        eprintln!("{path}");
        let mut times: Vec<f64> = Vec::with_capacity(arguments.looks);
        let path = format!("/console{path}");
        browser.get(&path); // what is read once is read
        for _ in 0..arguments.looks {
            let begun = now();
            browser.get(&path);
            times.push(begun.elapsed().as_secs_f64() * 1_000.0);
        }
        times.sort_by(f64::total_cmp);
        let at =
            |percent: usize| rounded(times[(times.len() * percent / 100).min(times.len() - 1)]);
        figures.insert(name, [at(50), at(99)]);
    }
    figures
}

/// Bytes of memory of a page that waits for news.
fn waiting(arguments: &Arguments) -> f64 {
    eprintln!("{} pages are open", arguments.idle);
    // an address has fewer connections than that, unless it is a proxy's
    let proxies = r#"["127.0.0.1/32"]"#;
    let server = Server::start(setup(arguments).with("CELLWISE_ADMIN__TRUSTED_PROXIES", proxies));
    let users = arguments.idle.div_ceil(OF_ONE_USER);
    let browsers: Vec<_> = (1..=users)
        .map(|number| Browser::log_in(&server, &format!("bench-{number}")))
        .collect();
    // what is there once is there before it is counted, and what the hashes of passwords took is given back
    drop(Stream::open(&browsers[0]));
    thread::sleep(Duration::from_secs(20));
    let before = server.memory_at_rest().resident;
    let streams: Vec<_> = (0..arguments.idle)
        .map(|number| Stream::open(&browsers[number / OF_ONE_USER]))
        .collect();
    let after = server.memory_at_rest().resident;
    drop(streams);
    let grown = float(after.saturating_sub(before));
    grown / float(arguments.idle as u64)
}

fn device(number: u32) -> serde_json::Value {
    json!({
        "endpoint": format!("meter-{number:07}"),
        "product": "meter",
        "site": format!("site-{}", number % 10_000),
        "tags": {"customer": format!("customer-{}", number % 100)},
    })
}

/// CPU time of a segment without pages in that with pages; segments and pages in a second.
#[expect(clippy::too_many_lines, reason = "one step after the other")]
fn downloading(arguments: &Arguments) -> (f64, f64, f64) {
    eprintln!("{DOWNLOADING} devices download");
    let setup = setup(arguments)
        .with("CELLWISE_ADMISSION__LIMIT_GOOD", "100000")
        .with("CELLWISE_ADMISSION__PER_CELL_PER_SECOND", "1000000")
        .with("CELLWISE_ADMISSION__PER_SECOND", "1000000")
        .with("CELLWISE_UPGRADE__DOWNLOAD_S", "86400");
    let server = Server::start(setup);
    let mut fleet = Fleet::new(server.coap(), DOWNLOADING, DOWNLOADING);
    fleet.import(&server, |_| "bench");
    let content = vec![0x5A; usize::from(SEGMENTS) * 500];
    let package = server.post(
        &format!("/v1/packages?product=bench&version={TARGET}"),
        &content,
    );
    fleet.register(|_| {});
    let task = json!({"name": "bench", "package_id": package["id"], "all": true});
    server.post("/v1/tasks", task.to_string().as_bytes());
    let count = fleet.negotiate(DOWNLOADING, |_| {});
    assert_eq!(count, DOWNLOADING as usize, "devices that download");
    server.wait_until_committed();
    let browser = Browser::log_in(&server, "bench");
    let time = Duration::from_secs_f64(arguments.seconds);
    let address = fleet.server;
    let segments = Segments::new(&mut fleet.devices, SEGMENTS);
    let mut load = Load::new(segments, DOWNLOADING, &mut fleet.port, address, false);
    load.keep(WINDOW, time / 4);
    let (mut costs, mut done, mut pages, mut seconds) = ([0.0, 0.0], [0, 0], 0, 0.0);
    for round in 0..2 * arguments.rounds {
        let with = round % 2;
        let (stop, renewed) = (AtomicBool::new(false), AtomicU64::new(0));
        let open = if with == 1 { arguments.open } else { 0 };
        thread::scope(|scope| {
            for number in 0..open {
                let (browser, stop, renewed) = (&browser, &stop, &renewed);
                scope.spawn(move || browser::keep_open(browser, number, stop, renewed));
            }
            // pages are told of something new as often as they take it
            let (server, stopped) = (&server, &stop);
            scope.spawn(move || {
                let mut high = false;
                while !stopped.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(500));
                    high = !high;
                    let site = json!({"limit": if high { 5 } else { 6 }});
                    server.put("/v1/sites/bench", site.to_string().as_bytes());
                }
            });
            let cpu = server.cpu();
            let begun = load.keep(WINDOW, time);
            costs[with] += server.cpu() - cpu;
            done[with] += begun.completed;
            seconds += begun.seconds * float(with as u64);
            stop.store(true, Ordering::Relaxed);
        });
        pages += renewed.load(Ordering::Relaxed);
        eprintln!("{open} pages open: {} segments", done[with]);
    }
    let per_segment = |with: usize| costs[with] / float(done[with].max(1));
    let segments = float(done[1]) / seconds;
    (
        per_segment(0) / per_segment(1),
        segments,
        float(pages) / seconds,
    )
}

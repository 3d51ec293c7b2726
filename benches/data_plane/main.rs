//! What a datagram costs the server: `cargo bench --bench data_plane [-- --format json]`.
//!
//! All that is compared gets the same load from the same generator, one after the other in several rounds, each in a
//! process of its own on a core of its own:
//!
//! * **the server** (`cellwise serve`, whatever `--server` names): devices have been registered and led through the
//!   negotiation up to the download; each exchange is a confirmable notification with a segment request (PCP 21), its
//!   acknowledgement, a confirmable PUT with the segment, its acknowledgement.
//! * **the raw echo**: a loop around `recvmmsg` and `sendmmsg` that answers datagrams of these sizes with datagrams of
//!   the server's sizes. Nothing that moves these datagrams through the kernel costs less.
//! * **a CoAP server of Cellwise's CoAP layer** (`cellwise::coap` behind the echo's socket calls) with a
//!   representation of 512 bytes, because the server itself has no such resource, and **libcoap's server**, to which
//!   the same representation was PUT.
//! * **a shard that serves a package in blocks** (`cellwise::shard` behind the server's port, pulls opened by hand), and
//!   libcoap's server, to which the same package was PUT in blocks: each exchange is a confirmable GET of a block of 512 bytes.
//!
//! Costs are CPU time, user and system, of all threads of the process, divided by the datagrams of both directions.
//! Medians over the rounds; the spread is the range of the rounds relative to that.
#![allow(clippy::unwrap_used, clippy::panic)] // it measures or ends

mod allocations;
mod blocks;
mod child;
mod load;
mod overload;
mod rounds;
#[path = "../support/mod.rs"]
mod support;

use std::{path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};
use serde::Serialize;
use serde_json::json;

use overload::Overload;
use rounds::{Figure, Rounds};
use support::{
    cores::Cores,
    device::TARGET,
    fleet::Fleet,
    rounded,
    server::{Server, Setup},
};

/// What is measured, and how long.
#[derive(Debug, Parser)]
struct Arguments {
    /// Devices, each with an address of its own
    #[arg(long, default_value_t = 1_000)]
    devices: u32,
    /// Segments of the package, 500 bytes each
    #[arg(long, default_value_t = 4_000)]
    segments: u16,
    /// Exchanges on their way at a time
    #[arg(long, default_value_t = 512)]
    window: usize,
    /// How often each of those compared is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each time
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// The program to measure, instead of the one that cargo has built
    #[arg(long)]
    server: Option<PathBuf>,
    /// libcoap's server
    #[arg(long, default_value = "coap-server-notls")]
    libcoap: String,
    /// What is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Be a server to compare with
    #[arg(long, hide = true, value_enum)]
    child: Option<child::Kind>,
    /// What the echo answers
    #[arg(long, hide = true)]
    sizes: Vec<usize>,
    /// What cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// What was measured. Ratios above 1 are in favour of the server.
#[derive(Debug, Serialize)]
struct Figures {
    benchmark: &'static str,
    devices: u32,
    window: usize,
    /// The load ran on a core of its own.
    cores_apart: bool,
    /// Cost of a datagram in a segment exchange: the echo's, divided by the server's.
    vs_raw_echo: f64,
    /// The same for GETs.
    vs_raw_echo_get: f64,
    /// Cost of a GET: libcoap's, divided by ours.
    vs_libcoap: f64,
    /// Cost of a datagram of an exchange with a block of a package: the echo's, divided by a shard's.
    block2_vs_raw_echo: f64,
    /// Cost of such an exchange: libcoap's, divided by a shard's.
    block2_vs_libcoap: f64,
    allocations_per_segment: f64,
    allocations_per_block: f64,
    server_segments: Figure,
    echo_segments: Figure,
    cellwise_gets: Figure,
    echo_gets: Figure,
    libcoap_gets: Figure,
    cellwise_blocks: Figure,
    echo_blocks: Figure,
    libcoap_blocks: Figure,
    overload: Overload,
}

fn main() {
    let arguments = Arguments::parse();
    if let Some(kind) = arguments.child {
        return child::run(kind, &arguments.sizes).unwrap();
    }
    let figures = measure(&arguments);
    match arguments.format {
        Format::Json => println!("{}", serde_json::to_string(&figures).unwrap()),
        Format::Text => print(&figures),
    }
}

fn measure(arguments: &Arguments) -> Figures {
    let allocations_per_segment = allocations::per_segment();
    let allocations_per_block = allocations::per_block();
    let cores = Cores::of_this_process();
    if !cores.are_apart() {
        eprintln!("one core only: the load and what it loads disturb each other");
    }
    eprintln!("devices register, and negotiate their upgrade");
    let (server, mut fleet) = downloading(arguments, &cores);
    let time = Duration::from_secs_f64(arguments.seconds);
    let mut rounds = Rounds::start(arguments, &server, &mut fleet, cores);
    for round in 1..=arguments.rounds {
        eprintln!("round {round} of {}", arguments.rounds);
        rounds.go(&mut fleet, time);
    }
    let [
        server_segments,
        echo_segments,
        cellwise_gets,
        echo_gets,
        libcoap_gets,
        cellwise_blocks,
        echo_blocks,
        libcoap_blocks,
    ] = rounds.figures();
    drop(rounds);
    eprintln!("overload");
    let overload = overload::measure(&server, &mut fleet, arguments.segments, 3 * time, &cores);
    Figures {
        benchmark: "data_plane",
        devices: arguments.devices,
        window: arguments.window,
        cores_apart: cores.are_apart(),
        vs_raw_echo: rounded(echo_segments.ns_per_datagram / server_segments.ns_per_datagram),
        vs_raw_echo_get: rounded(echo_gets.ns_per_datagram / cellwise_gets.ns_per_datagram),
        vs_libcoap: rounded(libcoap_gets.ns_per_datagram / cellwise_gets.ns_per_datagram),
        block2_vs_raw_echo: rounded(echo_blocks.ns_per_datagram / cellwise_blocks.ns_per_datagram),
        block2_vs_libcoap: rounded(
            libcoap_blocks.ns_per_datagram / cellwise_blocks.ns_per_datagram,
        ),
        allocations_per_segment,
        allocations_per_block,
        server_segments,
        echo_segments,
        cellwise_gets,
        echo_gets,
        libcoap_gets,
        cellwise_blocks,
        echo_blocks,
        libcoap_blocks,
        overload,
    }
}

/// A server with devices that download.
fn downloading(arguments: &Arguments, cores: &Cores) -> (Server, Fleet) {
    // all of them at once, which no radio cell would bear
    let setup = Setup::new(arguments.server.as_deref())
        .with("CELLWISE_ADMISSION__LIMIT_GOOD", "100000")
        .with("CELLWISE_ADMISSION__PER_CELL_PER_SECOND", "1000000")
        .with("CELLWISE_ADMISSION__PER_SECOND", "1000000")
        .with("CELLWISE_UPGRADE__DOWNLOAD_S", "86400");
    let server = cores.on_the_measured(|| Server::start(setup));
    let devices = arguments.devices;
    let mut fleet = Fleet::new(server.coap(), devices, devices.max(1));
    fleet.import(&server, |_| "bench");
    let content = vec![0x5A; usize::from(arguments.segments) * 500];
    let path = format!("/v1/packages?product=bench&version={TARGET}");
    let package = server.post(&path, &content);
    assert_eq!(package["segment_count"], arguments.segments, "{package}");
    fleet.register(|_| {});
    let task = json!({ "name": "bench", "package_id": package["id"], "all": true });
    server.post("/v1/tasks", task.to_string().as_bytes());
    let count = fleet.negotiate(devices, |_| {});
    assert_eq!(count, devices as usize, "devices that download");
    server.wait_until_committed();
    (server, fleet)
}

fn print(figures: &Figures) {
    let costs = [
        ("segments, the server", &figures.server_segments),
        ("segments, raw echo", &figures.echo_segments),
        ("GETs, Cellwise's CoAP", &figures.cellwise_gets),
        ("GETs, raw echo", &figures.echo_gets),
        ("GETs, libcoap's server", &figures.libcoap_gets),
        ("blocks, a shard", &figures.cellwise_blocks),
        ("blocks, raw echo", &figures.echo_blocks),
        ("blocks, libcoap's server", &figures.libcoap_blocks),
    ];
    println!("CPU time per datagram, and exchanges per second of the clock on the wall");
    for (name, figure) in costs {
        println!(
            "  {name:<24}{:>7.0} ns ±{:>3.0} %{:>10.0} /s",
            figure.ns_per_datagram,
            figure.spread * 50.0,
            figure.per_second
        );
    }
    println!(
        "raw echo's cost, relative to the server's     {:>6.3}",
        figures.vs_raw_echo
    );
    println!(
        "the same for GETs                             {:>6.3}",
        figures.vs_raw_echo_get
    );
    println!(
        "libcoap's cost of a GET, relative to ours     {:>6.3}",
        figures.vs_libcoap
    );
    println!(
        "heap allocations of the engine per segment    {:>6.3}",
        figures.allocations_per_segment
    );
    println!(
        "raw echo's cost of a block, relative to ours  {:>6.3}",
        figures.block2_vs_raw_echo
    );
    println!(
        "libcoap's cost of a block, relative to ours   {:>6.3}",
        figures.block2_vs_libcoap
    );
    println!(
        "heap allocations of the engine per block      {:>6.3}",
        figures.allocations_per_block
    );
    let overload = serde_json::to_string_pretty(&figures.overload).unwrap();
    println!("twice the load of the peak: {overload}");
}

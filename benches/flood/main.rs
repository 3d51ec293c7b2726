//! What a flood of newcomers costs an honest device: `cargo bench --bench flood [-- --format json]`.
//!
//! Anybody may register (`lwm2m.registration = "open"`). Strangers do so at a rate, each once, with a name and an address of
//! its own, and answer nothing. Meanwhile devices that the operator has added register, one after the other and each once, as
//! others did before the flood began. How long they wait for their answers, and how the server's memory grows, is what is
//! measured.
#![allow(clippy::unwrap_used, clippy::panic)] // it measures or ends

#[path = "../support/mod.rs"]
mod support;

use std::{
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use clap::{Parser, ValueEnum};
use serde::Serialize;
use serde_json::json;

use support::{
    device::{Device, Heard},
    kernel,
    mmsg::Port,
    now, rounded,
    server::{Server, Setup},
};

/// 127.16.0.0, from where strangers have their addresses.
const FIRST_ADDRESS: u32 = 0x7F10_0000;
/// Devices that the operator has added.
const HONEST: u32 = 10_000;
/// Between the registrations of two of them.
const PAUSE: Duration = Duration::from_millis(20);
/// A device repeats what was not answered in this time (`ACK_TIMEOUT` of RFC 7252 §4.8).
const PATIENCE: Duration = Duration::from_secs(2);
/// Strangers send so often in a second, a batch each time.
const TICKS: u32 = 500;

/// What is sent, and for how long.
#[derive(Debug, Parser)]
struct Arguments {
    /// Registrations of strangers in a second
    #[arg(long, default_value_t = 90_000)]
    rate: u32,
    /// How long the flood lasts
    #[arg(long, default_value_t = 20)]
    seconds: u64,
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
    strangers_sent: u64,
    strangers_per_second: f64,
    /// Datagrams, of all, that the server's socket had no room for.
    dropped_by_the_kernel: u64,
    newcomers_admitted: f64,
    newcomers_put_off: f64,
    quiet: Waits,
    flooded: Waits,
    mib_before: f64,
    /// Half-way through the flood, and at its end.
    mib_half_way: f64,
    mib_at_the_end: f64,
}

/// How long honest devices waited for the answers to their registrations. Where one was not answered and was sent again,
/// that is part of the wait.
#[derive(Debug, Serialize)]
struct Waits {
    registrations: usize,
    sent_again: usize,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

fn main() {
    let arguments = Arguments::parse();
    let figures = serde_json::to_value(measure(&arguments)).unwrap();
    match arguments.format {
        Format::Json => println!("{figures}"),
        Format::Text => {
            for (name, figure) in figures.as_object().unwrap() {
                println!("{:<24} {figure}", name.replace('_', " "));
            }
        }
    }
}

fn measure(arguments: &Arguments) -> Figures {
    let setup =
        Setup::new(arguments.server.as_deref()).with("CELLWISE_LWM2M__REGISTRATION", "open");
    let server = Server::start(setup);
    let devices: Vec<_> = (0..HONEST)
        .map(|number| json!({ "endpoint": honest(number), "product": "meter" }))
        .collect();
    let devices = json!({ "devices": devices }).to_string();
    server.post("/v1/devices", devices.as_bytes());
    let before = server.memory_at_rest();
    let time = Duration::from_secs(arguments.seconds);

    eprintln!("honest devices register while all is quiet");
    let quiet = Honest::start(server.coap(), 0);
    thread::sleep(time / 4);
    let quiet = quiet.stop();

    eprintln!("strangers register, {} in a second", arguments.rate);
    let port = server.coap().port();
    let dropped = kernel::udp_port(port).dropped;
    let honest = Honest::start(server.coap(), HONEST / 2);
    let strangers = Strangers::start(server.coap(), arguments.rate);
    thread::sleep(time / 2);
    let half_way = server.memory();
    thread::sleep(time / 2);
    let at_the_end = server.memory();
    let (sent, seconds) = strangers.stop();
    let flooded = honest.stop();
    let dropped = kernel::udp_port(port).dropped - dropped;
    // figures are published once a second
    thread::sleep(Duration::from_millis(2_500));
    let metrics = server.metrics().unwrap();
    let counted = |name: &str| {
        let found = metrics.iter().find(|(metric, _)| metric.contains(name));
        found.unwrap_or_else(|| panic!("no {name} is counted")).1
    };
    #[allow(clippy::cast_precision_loss)] // far below 2^52
    let float = |count: u64| count as f64;
    let mib = |bytes: u64| rounded(float(bytes) / f64::from(1 << 20));
    Figures {
        benchmark: "flood",
        strangers_sent: sent,
        strangers_per_second: (float(sent) / seconds).round(),
        dropped_by_the_kernel: dropped,
        newcomers_admitted: *counted("cellwise_devices") - f64::from(HONEST),
        newcomers_put_off: *counted("newcomers_put_off"),
        quiet,
        flooded,
        mib_before: mib(before.resident),
        mib_half_way: mib(half_way.resident),
        mib_at_the_end: mib(at_the_end.resident),
    }
}

fn honest(number: u32) -> String {
    format!("honest-{number}")
}

/// The devices that the operator has added, on a thread of their own.
struct Honest {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Waits>,
}

impl Honest {
    /// Those from that number on.
    fn start(server: SocketAddrV4, from: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = thread::spawn(move || register_one_by_one(server, from, &told));
        Self { stop, thread }
    }

    fn stop(self) -> Waits {
        self.stop.store(true, Relaxed);
        self.thread.join().unwrap()
    }
}

fn register_one_by_one(server: SocketAddrV4, from: u32, stop: &AtomicBool) -> Waits {
    let mut waits = Vec::new();
    let mut sent_again = 0;
    let mut buffer = [0; 2_048];
    for number in from..HONEST {
        if stop.load(Relaxed) {
            break;
        }
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.connect(server).unwrap();
        let mut device = Device::new(number);
        let datagram = device.register(&honest(number));
        let begun = now();
        'answered: loop {
            socket.send(&datagram).unwrap();
            let sent = now();
            while let Some(left) = PATIENCE.checked_sub(sent.elapsed()) {
                socket
                    .set_read_timeout(Some(left.max(Duration::from_micros(1))))
                    .unwrap();
                let Ok(len) = socket.recv(&mut buffer) else {
                    continue;
                };
                let mut answers = Vec::new();
                let heard = device.take(1, &buffer[..len], |answer| answers.push(answer.to_vec()));
                for answer in answers {
                    socket.send(&answer).unwrap();
                }
                if heard == Heard::Registered {
                    break 'answered;
                }
            }
            sent_again += 1;
        }
        waits.push(begun.elapsed());
        thread::sleep(PAUSE);
    }
    waits.sort_unstable();
    let at = |percent: usize| {
        let at = (waits.len() * percent).div_ceil(100).max(1) - 1;
        waits
            .get(at)
            .map_or(f64::NAN, |wait| rounded(wait.as_secs_f64() * 1_000.0))
    };
    Waits {
        registrations: waits.len(),
        sent_again,
        p50_ms: at(50),
        p99_ms: at(99),
        max_ms: at(100),
    }
}

/// Those whom nobody has added.
struct Strangers {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<(u64, f64)>,
}

impl Strangers {
    fn start(server: SocketAddrV4, rate: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = thread::spawn(move || flood(server, rate, &told));
        Self { stop, thread }
    }

    /// How many registrations were sent, and in how many seconds.
    fn stop(self) -> (u64, f64) {
        self.stop.store(true, Relaxed);
        self.thread.join().unwrap()
    }
}

fn flood(server: SocketAddrV4, rate: u32, stop: &AtomicBool) -> (u64, f64) {
    let mut port = Port::open(Ipv4Addr::UNSPECIFIED).unwrap();
    let begun = now();
    let mut sent = 0u32;
    while !stop.load(Relaxed) {
        let due = begun.elapsed().as_secs_f64() * f64::from(rate);
        while f64::from(sent) < due {
            let from = Ipv4Addr::from(FIRST_ADDRESS + sent % 0x00E0_0000);
            let datagram = Device::new(sent).register(&format!("stranger-{sent}"));
            port.sender.send(Some(from), server, &datagram);
            sent += 1;
        }
        port.sender.flush();
        thread::sleep(Duration::from_secs(1) / TICKS);
    }
    (sent.into(), begun.elapsed().as_secs_f64())
}

//! What end users' applications cost: `cargo bench --bench app [-- --quick]`. Ends with one JSON object.
//!
//! `cellwise serve` in a process of its own, with homes of five devices each in its database on disk, and applications that speak HTTP with it
//! over the loopback device. Measured is what the kernel counts for the server's process.
//!
//! * Applications look at what there is in homes, one after the other, on a few connections: requests per CPU second.
//! * The applications of one home listen to it, and its devices change: CPU time of a change that is told to all of them.
//! * Applications of all homes listen: resident memory of each, and the CPU time of all while nothing happens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // it measures or ends

#[path = "../support/mod.rs"]
mod support;

mod http;

use std::{
    net::{SocketAddr, UdpSocket},
    path::PathBuf,
    thread,
    time::Duration,
};

use clap::{Parser, ValueEnum};
use http::{Connection, Listener};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde::Serialize;
use serde_json::{Value, json};
use support::{
    device::Device,
    now, rounded,
    server::{Server, Setup},
    wait_for,
};

const DEVICES_OF_HOME: u32 = 5;
/// Everybody lives in as many homes as there are, divided by this.
const USERS: u32 = 100;
/// Connections over which it is asked.
const CLIENTS: u32 = 4;
/// Applications that listen to one home.
const OF_ONE_HOME: usize = 8;
/// Handles of a process besides those of its streams.
const OTHER_HANDLES: u64 = 500;
/// Homes or devices of one request.
const AT_ONCE: usize = 1_000;

/// What is measured.
#[derive(Debug, Parser)]
struct Arguments {
    /// Homes in the database
    #[arg(long, default_value_t = 10_000)]
    homes: u32,
    /// How long it is asked
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Changes of the home to which its applications listen
    #[arg(long, default_value_t = 40)]
    changes: u32,
    /// Streams that are open at once, as far as there are handles for them
    #[arg(long, default_value_t = 10_000)]
    listeners: u32,
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
    homes: u32,
    devices: u32,
    requests: u64,
    requests_per_second: f64,
    requests_per_cpu_second: f64,
    /// Applications that were told of each change.
    told: usize,
    /// CPU time of telling all of them of a change, without that of making it.
    cpu_ms_per_change_told: f64,
    listeners: u32,
    bytes_per_listener: f64,
    /// CPU seconds in a second, for all streams together, while nothing happens.
    cpu_of_idle_listeners: f64,
}

fn main() {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        arguments.homes = 100;
        arguments.seconds = 1;
        arguments.changes = 4;
        arguments.listeners = 100;
    }
    let figures = serde_json::to_value(measure(&arguments)).unwrap();
    match arguments.format {
        Format::Json => println!("{figures}"),
        Format::Text => {
            for (name, figure) in figures.as_object().unwrap() {
                println!("{:<26} {figure}", name.replace('_', " "));
            }
        }
    }
}

fn measure(arguments: &Arguments) -> Figures {
    let listeners = raise_handles(arguments.listeners);
    let many = "1000000";
    let setup = Setup::new(arguments.server.as_deref())
        .with("CELLWISE_APP__ENABLED", "true")
        .with("CELLWISE_APP__LISTEN", "127.0.0.1:0")
        .with("CELLWISE_APP__REQUESTS_PER_USER_PER_SECOND", many)
        .with("CELLWISE_APP__REQUESTS_PER_HOME_PER_SECOND", many)
        .with("CELLWISE_APP__REQUESTS_PER_ADDRESS_PER_SECOND", many)
        .with("CELLWISE_APP__MAX_CONNECTIONS_PER_ADDRESS", "20000")
        .with("CELLWISE_ADMIN__REQUESTS_PER_SECOND", "100000");
    let server = Server::start(setup);
    let world = World::fill(&server, arguments.homes);

    eprintln!("applications look at their homes");
    let time = Duration::from_secs(arguments.seconds);
    ask(&world, time / 5); // what is read once is read
    let cpu = server.cpu();
    let begun = now();
    let requests = ask(&world, time);
    let seconds = begun.elapsed().as_secs_f64();
    let asked_cpu = server.cpu() - cpu;

    eprintln!("applications of one home are told of its changes");
    let unheard = world.change(&server, arguments.changes, 0);
    let heard = world.change(&server, arguments.changes, OF_ONE_HOME);
    let told = (heard - unheard) * 1_000.0 / f64::from(arguments.changes);

    eprintln!("{listeners} applications listen");
    let (bytes, idle) = world.listen(&server, listeners, time * 3);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let asked = requests as f64;
    Figures {
        benchmark: "app",
        homes: arguments.homes,
        devices: arguments.homes * DEVICES_OF_HOME,
        requests,
        requests_per_second: (asked / seconds).round(),
        requests_per_cpu_second: (asked / asked_cpu).round(),
        told: OF_ONE_HOME,
        cpu_ms_per_change_told: rounded(told),
        listeners,
        bytes_per_listener: bytes.round(),
        cpu_of_idle_listeners: rounded(idle),
    }
}

/// As many streams as there may be handles, in this process and in the server, which inherits the limit.
fn raise_handles(wanted: u32) -> u32 {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit); // what there is is looked at next
    let room = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let room = u32::try_from(room.saturating_sub(OTHER_HANDLES)).unwrap_or(u32::MAX);
    if room < wanted {
        eprintln!("there are handles for {room} streams only, not for {wanted}");
    }
    room.min(wanted)
}

/// Homes, and who lives there.
struct World {
    address: SocketAddr,
    homes: u32,
    /// The token of each user.
    tokens: Vec<String>,
    offer: i64,
}

impl World {
    fn fill(server: &Server, homes: u32) -> Self {
        eprintln!("{homes} homes move in");
        let post = |path: &str, body: Value| server.post(path, body.to_string().as_bytes());
        let devices: Vec<Value> = (0..homes * DEVICES_OF_HOME)
            .map(|number| json!({ "endpoint": device(number), "product": "lock" }))
            .collect();
        for devices in devices.chunks(AT_ONCE) {
            post("/v1/devices", json!({ "devices": devices }));
        }
        let all: Vec<Value> = (0..homes).map(a_home).collect();
        for homes in all.chunks(AT_ONCE) {
            let answer = post("/v1/homes", json!({ "homes": homes }));
            assert_eq!(answer["added"], json!(homes.len()), "{answer}");
        }
        let content = [b'x'; 4_096];
        let package = server.post("/v1/packages?product=lock&version=V2", &content);
        let offer = json!({
            "terms": {"channel": 6, "kind": 0, "texts": {"description": {"en": "Saves power.", "de": "Spart Strom."}}},
            "task": {"name": "Locks", "package_id": package["id"]},
        });
        let offer = post("/v1/offers", offer);
        // what is started waits, so that a change is one change
        post(&format!("/v1/tasks/{}/pause", offer["task_id"]), json!({}));
        let tokens = (0..USERS).map(|number| {
            let issued = post("/v1/app-tokens", json!({ "user": user(number) }));
            issued["token"].as_str().unwrap().to_owned()
        });
        let listening = std::fs::read(server.data().join("listening.json")).unwrap();
        let listening: Value = serde_json::from_slice(&listening).unwrap();
        let world = Self {
            address: listening["app"].as_str().unwrap().parse().unwrap(),
            homes,
            tokens: tokens.collect(),
            offer: offer["id"].as_i64().unwrap(),
        };
        // a device over CoAP that is not registered is offline
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server.coap()).unwrap();
        socket.send(&Device::new(0).register(&device(0))).unwrap();
        wait_for(Duration::from_secs(30), "the registration", || {
            let found = server.get(&format!("/v1/devices/{}", device(0)));
            found["registration"].is_object().then_some(())
        });
        server.wait_until_committed();
        world
    }

    fn token(&self, home: u32) -> &str {
        &self.tokens[(home % USERS) as usize]
    }

    /// CPU seconds of so many changes of the first home, to which so many listen.
    fn change(&self, server: &Server, changes: u32, listeners: usize) -> f64 {
        let mut listeners: Vec<Listener> = (0..listeners)
            .map(|_| Listener::open(self.address, &home(0), self.token(0)))
            .collect();
        for listener in &mut listeners {
            listener.until(DEVICES_OF_HOME as usize);
        }
        let mut connection = Connection::open(self.address);
        let path = format!("/app/v1/homes/{}/devices/{}", home(0), device(0));
        let wanted = json!({"entries": [{"offer": self.offer, "target_version": "V2"}]});
        let wanted = wanted.to_string();
        let cpu = server.cpu();
        for change in 0..changes {
            // streams look 200 ms after their last look at the earliest
            thread::sleep(Duration::from_millis(250));
            let (act, body, expected) = if change % 2 == 0 {
                ("start", wanted.as_str(), 202)
            } else {
                ("cancel", "", 200)
            };
            let path = format!("{path}/{act}");
            let (status, answer) = connection.ask("POST", &path, self.token(0), body);
            assert_eq!(status, expected, "{}", String::from_utf8_lossy(answer));
            for listener in &mut listeners {
                listener.until(listener.told() + 1);
            }
        }
        server.cpu() - cpu
    }

    /// Bytes of memory of each of so many streams, and CPU seconds of all in a second.
    fn listen(&self, server: &Server, count: u32, time: Duration) -> (f64, f64) {
        // what is there once is there before it is counted
        drop(self.open(self.homes.min(100)));
        let before = server.memory_at_rest().resident;
        let held = self.open(count);
        let after = server.memory_at_rest().resident;
        let (cpu, begun) = (server.cpu(), now());
        thread::sleep(time);
        let idle = (server.cpu() - cpu) / begun.elapsed().as_secs_f64();
        drop(held);
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let grown = after.saturating_sub(before) as f64;
        (grown / f64::from(count), idle)
    }

    /// Opens streams, of one home after the other, and reads what they tell at first.
    fn open(&self, count: u32) -> Vec<Listener> {
        let open = |number: u32| {
            let at = number % self.homes;
            let mut listener = Listener::open(self.address, &home(at), self.token(at));
            listener.until(DEVICES_OF_HOME as usize);
            listener
        };
        thread::scope(|scope| {
            let part = |first: u32| (first..count).step_by(CLIENTS as usize).map(open);
            let threads: Vec<_> = (0..CLIENTS)
                .map(|first| scope.spawn(move || part(first).collect::<Vec<Listener>>()))
                .collect();
            let opened = threads.into_iter().map(|thread| thread.join().unwrap());
            opened.flatten().collect()
        })
    }
}

/// Looks at homes for that time. Returns how often.
fn ask(world: &World, time: Duration) -> u64 {
    let client = |number: u32| {
        let mut connection = Connection::open(world.address);
        let begun = now();
        let mut asked = 0;
        let mut dice = number.wrapping_mul(0x9E37_79B9) | 1;
        while begun.elapsed() < time {
            // xorshift32 (Marsaglia, 2003)
            dice ^= dice << 13;
            dice ^= dice >> 17;
            dice ^= dice << 5;
            let at = dice % world.homes;
            let path = format!("/app/v1/homes/{}/upgrades", home(at));
            let (status, _) = connection.ask("GET", &path, world.token(at), "");
            assert_eq!(status, 200);
            asked += 1;
        }
        asked
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (1..=CLIENTS)
            .map(|number| scope.spawn(move || client(number)))
            .collect();
        threads.into_iter().map(|it| it.join().unwrap()).sum()
    })
}

fn device(number: u32) -> String {
    format!("lock-{number}")
}

fn home(number: u32) -> String {
    format!("home-{number}")
}

fn user(number: u32) -> String {
    format!("user-{number}")
}

fn a_home(number: u32) -> Value {
    let first = number * DEVICES_OF_HOME;
    let things = (first..first + DEVICES_OF_HOME).map(|it| json!({ "endpoint": device(it) }));
    json!({
        "home": home(number),
        "name": home(number),
        "zone": "Europe/Berlin",
        "people": [{ "user": user(number % USERS), "role": "owner" }],
        "things": things.collect::<Vec<Value>>(),
    })
}

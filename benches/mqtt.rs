//! The MQTT server against Mosquitto, both in processes of their own, under the same clients:
//! `cargo bench --bench mqtt`. Needs Debian's `mosquitto`.
//!
//! * `qos1_vs_mosquitto`: publications with QoS 1 per second of the server's CPU time, each acknowledged before the next on
//!   its connection; as a ratio, as the next two.
//! * `raw_echo_vs_mosquitto`: the same of a loop that reads, and writes PUBACK without a look at what it has read: what the kernel alone
//!   takes for that. Where nothing is gathered, no server can do more.
//! * `qos1_in_flight_vs_mosquitto`: the same, where each connection has 20 publications on the way, as Mosquitto's and Paho's clients
//!   have by default, and sends as many anew as were acknowledged at once.
//! * `connects_vs_mosquitto`: connections per second of the server's CPU time: TCP, CONNECT, CONNACK, DISCONNECT.
//! * `bytes_per_connection`: resident memory of this server for each idle connection without TLS; `bytes_per_connection_tls`
//!   with it.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a benchmark says so by ending

use std::{
    fs,
    io::{BufRead as _, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{Arc, LazyLock},
    time::Duration,
};

use cellwise::{
    clock::SystemClock,
    ledger::{DeviceIds, Protocol},
    mqtt::endpoint::Limits,
    runtime::{MqttIdentities, MqttServer, MqttSetup, SealedMqtt, TlsBegin, listen},
    store::{MqttCredential, StoredMqtt},
    strangers::Strangers,
    telemetry::Metrics,
    vault::Vault,
};
use mio::{Events, Interest, Poll, Token};
use openssl::{
    asn1::Asn1Time,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::PKey,
    ssl::{Ssl, SslAcceptor, SslConnector, SslMethod, SslStream, SslVerifyMode},
    x509::X509,
};

/// Connections that publish.
const PUBLISHERS: usize = 100;
const PUBLICATIONS: usize = 300_000;
/// Publications on the way on a connection.
const IN_FLIGHT: u8 = 20;
const CONNECTS: usize = 20_000;
/// Connections that do nothing.
const IDLE: usize = 10_000;
const IDLE_TLS: usize = 2_000;
/// Runs of each, in turn, of which the median counts.
const RUNS: usize = 3;

fn main() {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("serve") => return serve(false),
        Some("serve-tls") => return serve(true),
        Some("echo") => return echo(),
        _ => {}
    }
    let mut ratios = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    let mut bytes = [Vec::new(), Vec::new()];
    for run in 0..RUNS {
        let ours = Server::ours("serve");
        let mosquitto = Server::mosquitto();
        let of = |what: fn(&Server) -> f64| {
            let (own, other) = (what(&ours), what(&mosquitto));
            println!("run {run}: {own:.0} against {other:.0} per CPU second");
            own / other
        };
        ratios[0].push(of(|server| publications(server, 1)));
        ratios[1].push(of(|server| publications(server, IN_FLIGHT)));
        ratios[2].push(of(connects));
        let echo = publications(&Server::ours("echo"), 1);
        println!("run {run}: the raw echo {echo:.0} per CPU second");
        ratios[3].push(echo / publications(&mosquitto, 1));
        bytes[0].push(idle(&Server::ours("serve"), IDLE, greeted));
        bytes[1].push(idle(&Server::ours("serve-tls"), IDLE_TLS, greeted_tls));
        println!(
            "run {run}: {:.0} bytes for each idle connection, {:.0} over TLS",
            bytes[0][run], bytes[1][run]
        );
    }
    let [qos1, in_flight, connects, echo] = ratios.map(median);
    let [plain, tls] = bytes.map(median);
    println!(
        "{{\"qos1_vs_mosquitto\":{qos1:.2},\"raw_echo_vs_mosquitto\":{echo:.2},\"qos1_in_flight_vs_mosquitto\":{in_flight:.2},\"connects_vs_mosquitto\":{connects:.2},\
         \"bytes_per_connection\":{plain:.0},\"bytes_per_connection_tls\":{tls:.0}}}"
    );
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// This program's server, until standard input ends. Tells its port.
fn serve(secured: bool) {
    let vault = Vault::new([7; 32]);
    let identities = Arc::new(MqttIdentities::new(
        Some(vault.clone()),
        DeviceIds::new([1; 32]),
    ));
    for number in 0..IDLE.max(CONNECTS) {
        let name = format!("n{number}");
        let token = SealedMqtt::Token {
            token: format!("token-{number}"),
            password: None,
        };
        let plain = serde_json::to_vec(&token).unwrap();
        let sealed = vault.seal(&StoredMqtt::purpose(&name), &plain).unwrap();
        let stored = StoredMqtt {
            protocol: Protocol::ThingsPanel,
            credential: MqttCredential::Token,
            token_hash: None,
            sealed: Some(sealed),
        };
        identities.set(&name, Some(&stored));
    }
    let listener = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tcp, tls) = if secured {
        (None, Some((listener, begin())))
    } else {
        (Some(listener), None)
    };
    let clock = SystemClock::start();
    // bounds that one machine's clients do not meet
    let limits = Limits {
        connections_per_address: 1_000_000,
        unknown_connections: 100_000,
        connects_per_second: 1_000_000,
        connects_per_address_per_second: 1_000_000,
        take_over_after: Duration::ZERO,
        ..Limits::default()
    };
    let server = MqttServer::start(MqttSetup {
        tcp,
        tls,
        limits,
        backlog_bytes: 64 << 10,
        seed: 7,
        identities,
        sink: None,
        clock,
        strangers: Arc::new(Strangers::new(clock)),
        metrics: Arc::new(Metrics::new().unwrap()),
    });
    println!("{port}");
    let _ = std::io::stdin().read_to_end(&mut Vec::new()); // until it ends
    drop(server);
}

/// Answers whatever comes with what a server of MQTT would answer, in one thread, until it is killed. Tells its port.
fn echo() {
    let mut listener =
        mio::net::TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    let mut poll = Poll::new().unwrap();
    (poll.registry())
        .register(&mut listener, Token(0), Interest::READABLE)
        .unwrap();
    let mut streams = vec![None];
    let mut events = Events::with_capacity(PUBLISHERS);
    loop {
        poll.poll(&mut events, None).unwrap();
        for event in &events {
            let place = event.token().0;
            let Some(Some(stream)) = streams.get_mut(place) else {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true).unwrap();
                    let token = Token(streams.len());
                    (poll.registry())
                        .register(&mut stream, token, Interest::READABLE)
                        .unwrap();
                    streams.push(Some(stream));
                }
                continue;
            };
            let mut read = [0; 512];
            match stream.read(&mut read) {
                Ok(0) | Err(_) => streams[place] = None,
                Ok(_) if read[0] == 0x10 => stream.write_all(&[0x20, 2, 0, 0]).unwrap(),
                Ok(_) => stream.write_all(&[0x40, 2, 0, 1]).unwrap(),
            }
        }
    }
}

/// A server in a process of its own.
struct Server {
    process: Child,
    address: SocketAddr,
    _files: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill(); // it may have ended
        let _ = self.process.wait();
    }
}

impl Server {
    fn ours(how: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .arg(how)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = process.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        Self::at(
            process,
            line.trim().parse().unwrap(),
            tempfile::tempdir().unwrap(),
        )
    }

    fn mosquitto() -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let files = tempfile::tempdir().unwrap();
        let config = files.path().join("mosquitto.conf");
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_dest none\nmax_queued_messages 0\n"
        );
        fs::write(&config, text).unwrap();
        let process = Command::new("mosquitto")
            .arg("-c")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto is installed: apt-get install mosquitto");
        Self::at(process, port, files)
    }

    fn at(process: Child, port: u16, files: tempfile::TempDir) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        while TcpStream::connect(address).is_err() {
            std::thread::yield_now();
        }
        Self {
            process,
            address,
            _files: files,
        }
    }

    fn proc(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.process.id())).unwrap()
    }

    /// CPU time, seconds.
    fn cpu(&self) -> f64 {
        // nanoseconds on a CPU, of each thread
        let threads = fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        let spent = threads.map(|thread| {
            let path = thread.unwrap().path().join("schedstat");
            let text = fs::read_to_string(path).unwrap_or_default();
            let first = text.split(' ').next().and_then(|it| it.parse::<f64>().ok());
            first.unwrap_or(0.0)
        });
        spent.sum::<f64>() / 1e9
    }

    /// Resident memory, bytes.
    fn memory(&self) -> f64 {
        let status = self.proc("status");
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib * 1024.0
    }
}

fn string(text: &str) -> Vec<u8> {
    let len = u16::try_from(text.len()).unwrap();
    [&len.to_be_bytes(), text.as_bytes()].concat()
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let len = u8::try_from(body.len()).unwrap();
    assert!(len < 0x80);
    [&[first, len], body].concat()
}

fn hello(number: usize) -> Vec<u8> {
    let mut body = b"\0\x04MQTT\x04\x82\x0e\x10".to_vec();
    body.extend(string(&format!("client-{number}")));
    body.extend(string(&format!("token-{number}")));
    packet(0x10, &body)
}

fn greet(stream: &mut (impl Read + Write), number: usize) {
    stream.write_all(&hello(number)).unwrap();
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).unwrap();
    assert_eq!(connack, [0x20, 2, 0, 0]);
}

fn greeted(server: &Server, number: usize) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_nodelay(true).unwrap();
    greet(&mut stream, number);
    stream
}

fn greeted_tls(server: &Server, number: usize) -> SslStream<TcpStream> {
    // once: it reads the system's authorities
    static CONNECTOR: LazyLock<SslConnector> = LazyLock::new(|| {
        let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
        builder.set_verify(SslVerifyMode::NONE);
        builder.build()
    });
    let stream = TcpStream::connect(server.address).unwrap();
    let mut stream = CONNECTOR.connect("127.0.0.1", stream).unwrap();
    greet(&mut stream, number);
    stream
}

/// TLS with a certificate that signs itself.
fn begin() -> TlsBegin {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut certificate = X509::builder().unwrap();
    certificate.set_pubkey(&key).unwrap();
    (certificate.set_not_before(&Asn1Time::days_from_now(0).unwrap())).unwrap();
    (certificate.set_not_after(&Asn1Time::days_from_now(1).unwrap())).unwrap();
    certificate.sign(&key, MessageDigest::sha256()).unwrap();
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    builder.set_certificate(&certificate.build()).unwrap();
    builder.set_private_key(&key).unwrap();
    let context = builder.build().into_context();
    Arc::new(move || Ssl::new(&context))
}

/// A publication with QoS 1 of that number.
fn publication(number: u8) -> Vec<u8> {
    let mut body = string("ota/devices/progress");
    body.extend([0, number]);
    body.extend(br#"{"step":"42","desc":"downloading","module":"MCU"}"#);
    packet(0x32, &body)
}

/// Publications per CPU second, with so many on the way on each connection.
fn publications(server: &Server, in_flight: u8) -> f64 {
    // those that are sent again begin with any of them
    let twice = || (1..=in_flight).chain(1..=in_flight).flat_map(publication);
    let publications: Vec<u8> = twice().collect();
    let len = publications.len() / 2 / usize::from(in_flight);
    let mut poll = Poll::new().unwrap();
    let mut streams: Vec<mio::net::TcpStream> = (0..PUBLISHERS)
        .map(|number| {
            let stream = greeted(server, number);
            stream.set_nonblocking(true).unwrap();
            mio::net::TcpStream::from_std(stream)
        })
        .collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        (poll.registry())
            .register(stream, Token(number), Interest::READABLE)
            .unwrap();
    }
    let before = server.cpu();
    for stream in &mut streams {
        (stream.write_all(&publications[..publications.len() / 2])).unwrap();
    }
    let mut acknowledged = 0;
    let mut events = Events::with_capacity(PUBLISHERS);
    while acknowledged < PUBLICATIONS {
        poll.poll(&mut events, None).unwrap();
        for event in &events {
            let stream = &mut streams[event.token().0];
            let mut pubacks = [0; 256];
            if let Ok(read) = stream.read(&mut pubacks) {
                let pubacks = pubacks[..read].chunks(4);
                let count = pubacks.len();
                let first = usize::from(pubacks.clone().next().unwrap()[3] - 1);
                for puback in pubacks {
                    assert_eq!(puback[..3], [0x40, 2, 0]);
                }
                acknowledged += count;
                let again = first * len..(first + count) * len;
                stream.write_all(&publications[again]).unwrap();
            }
        }
    }
    let spent = server.cpu() - before;
    f64::from(u32::try_from(acknowledged).unwrap()) / spent
}

/// Connections per CPU second.
fn connects(server: &Server) -> f64 {
    let before = server.cpu();
    for number in 0..CONNECTS {
        let mut stream = greeted(server, number);
        stream.write_all(&[0xe0, 0]).unwrap();
        let _ = stream.read(&mut [0]); // until the server has closed it
    }
    let spent = server.cpu() - before;
    f64::from(u32::try_from(CONNECTS).unwrap()) / spent
}

/// Bytes for each of so many idle connections.
fn idle<T>(server: &Server, count: usize, greeted: fn(&Server, usize) -> T) -> f64 {
    let before = server.memory();
    let streams: Vec<T> = (0..count).map(|number| greeted(server, number)).collect();
    let bytes = server.memory() - before;
    drop(streams);
    bytes / f64::from(u32::try_from(count).unwrap())
}

//! What the DTLS side costs: `cargo bench --bench dtls [-- --format json]`.
//!
//! Only the server's work is timed, on its thread's own CPU clock; the clients take their turns in
//! between. Memory is what the process holds more (RSS), OpenSSL's included.
#![allow(clippy::unwrap_used, clippy::cast_precision_loss, clippy::panic)] // it measures or ends

mod exchanges;
#[path = "../support/mod.rs"]
mod support;

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use cellwise::{
    clock::{Instant, Now, UtcMillis},
    dtls::{Dtls, DtlsSetup, Limits, Output, Psk, PskSource, Timing},
};
use cpu_time::ThreadTime;
use openssl::ssl::{
    ErrorCode, Ssl, SslContext, SslContextBuilder, SslMethod, SslOptions, SslStream, SslVerifyMode,
};

const KEY: [u8; 16] = [0x4b; 16];
/// Clients whose handshakes go side by side. More would take longer than OpenSSL's client is patient.
const BATCH: u32 = 200;
const BATCHES: u32 = 25;
const ASSOCIATIONS: u32 = 5_000;
const RECORDS: u32 = 100_000;
const PAYLOAD: usize = 512;

struct OneKey(Psk);

impl PskSource for OneKey {
    fn psk(&self, _: &[u8]) -> Option<Psk> {
        Some(self.0.clone())
    }
}

#[derive(Default)]
struct Pipe {
    inbound: Option<Vec<u8>>,
    outbound: Vec<Vec<u8>>,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let datagram = self.inbound.take().ok_or(io::ErrorKind::WouldBlock)?;
        buffer[..datagram.len()].copy_from_slice(&datagram);
        Ok(datagram.len())
    }
}

impl Write for Pipe {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        self.outbound.push(datagram.to_vec());
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Client {
    peer: SocketAddr,
    stream: SslStream<Pipe>,
    done: bool,
}

fn context(n: u32) -> SslContext {
    let mut builder = SslContextBuilder::new(SslMethod::dtls_client()).unwrap();
    builder
        .set_cipher_list("@SECLEVEL=0:PSK-AES128-CCM8")
        .unwrap();
    builder.set_options(SslOptions::NO_QUERY_MTU);
    builder.set_verify(SslVerifyMode::NONE);
    builder.set_psk_client_callback(move |_, _, identity, key| {
        let name = format!("urn:dev:os:{n:08}\0");
        identity[..name.len()].copy_from_slice(name.as_bytes());
        key[..KEY.len()].copy_from_slice(&KEY);
        Ok(KEY.len())
    });
    builder.build()
}

impl Client {
    fn new(n: u32) -> Self {
        let mut ssl = Ssl::new(&context(n)).unwrap();
        ssl.set_connect_state();
        ssl.set_mtu(1200).unwrap();
        let [_, high, mid, low] = n.to_be_bytes();
        Self {
            peer: SocketAddr::from(([10, high, mid, low], 5684)),
            stream: SslStream::new(ssl, Pipe::default()).unwrap(),
            done: false,
        }
    }

    fn go_on(&mut self, datagram: Option<Vec<u8>>) -> Vec<Vec<u8>> {
        self.stream.get_mut().inbound = datagram;
        if self.done {
            let mut buffer = [0; 2048];
            let _ = self.stream.ssl_read(&mut buffer);
        } else {
            match self.stream.connect() {
                Ok(()) => self.done = true,
                Err(error) => assert_eq!(error.code(), ErrorCode::WANT_READ, "{error}"),
            }
        }
        std::mem::take(&mut self.stream.get_mut().outbound)
    }
}

struct Server {
    dtls: Dtls,
    now: Now,
    spent: Duration,
}

impl Server {
    fn new() -> Self {
        let setup = DtlsSetup {
            keys: Arc::new(OneKey(Psk::new(&KEY).unwrap())),
            certificates: None,
            seed: [1; 32],
            timing: Timing::default(),
            limits: Limits {
                associations: 100_000,
                cookies_per_second: u32::MAX,
                cookies_per_network_per_second: u32::MAX,
                handshakes_per_second: u32::MAX,
                handshakes_per_network_per_second: u32::MAX,
                ..Limits::default()
            },
        };
        Self {
            dtls: Dtls::new(&setup).unwrap(),
            now: Now {
                instant: Instant::from_millis(1_800_000_000_000),
                utc: UtcMillis(1_800_000_000_000),
            },
            spent: Duration::ZERO,
        }
    }

    /// Takes these datagrams as a shard would, and gives what it has to say.
    fn turn(&mut self, datagrams: &[(SocketAddr, Vec<u8>)]) -> Vec<Output> {
        let mut events = Vec::with_capacity(datagrams.len() * 2);
        let begun = ThreadTime::now();
        for (peer, bytes) in datagrams {
            self.dtls.handle_datagram(self.now, *peer, bytes);
            self.dtls.work(self.now, 1);
            events.extend(std::iter::from_fn(|| self.dtls.poll_event()));
        }
        self.spent += begun.elapsed();
        events
    }

    /// Makes associations with these clients.
    fn greet(&mut self, clients: &mut [Client]) {
        let by_peer: HashMap<SocketAddr, usize> = clients
            .iter()
            .enumerate()
            .map(|(at, client)| (client.peer, at))
            .collect();
        let mut datagrams: Vec<(SocketAddr, Vec<u8>)> = Vec::new();
        for client in &mut *clients {
            let peer = client.peer;
            datagrams.extend(client.go_on(None).into_iter().map(|bytes| (peer, bytes)));
        }
        while !datagrams.is_empty() {
            let events = self.turn(&datagrams);
            datagrams.clear();
            for event in events {
                if let Output::Transmit { peer, bytes } = event {
                    let answers = clients[by_peer[&peer]].go_on(Some(bytes));
                    datagrams.extend(answers.into_iter().map(|bytes| (peer, bytes)));
                }
            }
        }
        assert!(clients.iter().all(|client| client.done));
    }
}

fn handshakes_per_second() -> f64 {
    let mut server = Server::new();
    for batch in 0..BATCHES {
        let mut clients: Vec<Client> = (0..BATCH).map(|n| Client::new(batch * BATCH + n)).collect();
        server.greet(&mut clients);
    }
    let count = server.dtls.counts().dtls_handshakes_full;
    assert_eq!(count, u64::from(BATCHES * BATCH));
    count as f64 / server.spent.as_secs_f64()
}

/// KiB that this process has in memory.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn kib_per_association() -> f64 {
    let mut server = Server::new();
    // the allocator and the library have what they need before it counts
    for n in 0..200 {
        server.greet(&mut [Client::new(n)]);
    }
    let before = resident();
    for n in 0..ASSOCIATIONS {
        server.greet(&mut [Client::new(1_000 + n)]);
    }
    let grown = resident() - before;
    assert_eq!(server.dtls.associations(), 200 + ASSOCIATIONS as usize);
    grown / f64::from(ASSOCIATIONS)
}

/// A record of 512 bytes opened and one of 512 bytes sealed, over a thousand associations in turn.
fn records_per_second() -> f64 {
    let mut server = Server::new();
    let mut clients: Vec<Client> = (0..1_000).map(Client::new).collect();
    for clients in clients.chunks_mut(100) {
        server.greet(clients);
    }
    server.spent = Duration::ZERO;
    let payload = [0x5a; PAYLOAD];
    let mut done = 0;
    while done < RECORDS {
        for client in &mut clients {
            client.stream.ssl_write(&payload).unwrap();
            let sealed = client.go_on(None);
            let begun = ThreadTime::now();
            for bytes in &sealed {
                server.dtls.handle_datagram(server.now, client.peer, bytes);
            }
            let Some(Output::Data { bytes, .. }) = server.dtls.poll_event() else {
                panic!("not opened");
            };
            server.dtls.send(client.peer, &bytes).unwrap();
            let answer = server.dtls.poll_event();
            server.spent += begun.elapsed();
            assert!(matches!(answer, Some(Output::Transmit { .. })));
            done += 1;
        }
    }
    f64::from(done) / server.spent.as_secs_f64()
}

fn main() {
    // cargo adds --bench
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let json = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--format", "json"] | ["--format=json"] => true,
        _ => {
            eprintln!("usage: cargo bench --bench dtls [-- --format json]");
            std::process::exit(2);
        }
    };
    // Memory first, while the allocator has nothing to give again.
    let kib = kib_per_association();
    let handshakes = handshakes_per_second();
    let records = records_per_second();
    let [plain, secured] = exchanges::per_second();
    let version = openssl::version::version();
    if json {
        let figures = serde_json::json!({
            "benchmark": "dtls",
            "openssl": version,
            "handshakes_per_cpu_second": handshakes.round(),
            "kib_per_idle_association": (kib * 10.0).round() / 10.0,
            "records_of_512_bytes_opened_and_sealed_per_cpu_second": records.round(),
            "plain_segments_per_cpu_second": plain.round(),
            "secured_segments_per_cpu_second": secured.round(),
            "secured_vs_plain": (secured / plain * 100.0).round() / 100.0,
        });
        println!("{figures}");
    } else {
        println!("{version}");
        println!("{handshakes:>10.0} handshakes (PSK, CCM_8) per CPU second");
        println!("{kib:>10.1} KiB per idle association");
        println!("{records:>10.0} records of 512 bytes opened, and as many sealed, per CPU second");
        println!("{plain:>10.0} segments per CPU second of the whole server, plain");
        println!(
            "{secured:>10.0} the same secured: {:.2} of it",
            secured / plain
        );
    }
}

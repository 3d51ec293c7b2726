//! What such a device is told to fetch, fetched by libcoap and curl too, and by whom it may be fetched.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    path::Path,
    process::Command,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{MINUTE, QUICK, assert_upgraded, kills::stop, server, sha256};
use crate::support::{Finished, Lively, Server, clean, identity, noise, run, tool};

/// Runs libcoap's client with a GET of that URI, whose content it writes to a file.
pub(super) fn coap_client(program: &str, uri: &str, file: &Path, more: &[&str]) -> Finished {
    let mut command = clean(Command::new(tool(program)));
    command
        .args(["-m", "get", "-B", "55", "-o", file.to_str().unwrap()])
        .args(more)
        .arg(uri);
    run(&mut command, b"", MINUTE)
}

#[test]
fn packages_are_fetched_over_dtls_by_whom_they_are_for() {
    let closed = [
        ("CELLWISE_COAP__ENABLED", "false"),
        ("CELLWISE_PRODUCTS__METER__UPDATE_BY", "firmware"),
    ];
    let server = Server::secured(&[&QUICK[..], &closed].concat());
    let content = noise(5, 30_000);
    let hash = sha256(&content);
    let package = server.api.upload("meter", "V2.0", &content);
    let characters = ["anjay", "zephyr", "idle"];
    let key = |endpoint: &str| format!("key of {endpoint}").into_bytes();
    for endpoint in characters {
        server.api.add_secured(endpoint, "meter", &key(endpoint));
    }
    let task = (server.api).create_task("secured", &package, &characters[..2]);
    let start = |endpoint: &str| {
        let (who, key) = (identity(endpoint), hex::encode(key(endpoint)));
        let options = [
            "--character",
            endpoint,
            "--identity",
            &who,
            "--key",
            &key,
            "--expect",
            &hash,
        ];
        Lively::start(server.coaps(), endpoint, &options)
    };
    let mut devices = ["anjay", "zephyr"].map(start);
    for device in &mut devices {
        let uri = device.event("offered")["uri"].as_str().unwrap().to_owned();
        assert!(uri.starts_with(&server.coaps_uri("p/")), "{uri}");
        device.event("upgraded");
    }
    assert_upgraded(&server, &task);

    let task = server.api.create_task("idle", &package, &["idle"]);
    let mut idle = start("idle");
    let uri = idle.event("offered")["uri"].as_str().unwrap().to_owned();
    let files = tempfile::tempdir().unwrap();
    for (who, allowed) in [("anjay", false), ("idle", true)] {
        let (name, key) = (identity(who), String::from_utf8(key(who)).unwrap());
        let file = files.path().join(who);
        let done = coap_client(
            "coap-client-openssl",
            &uri,
            &file,
            &["-u", &name, "-k", &key],
        );
        let got = fs::read(&file).unwrap_or_default();
        if allowed {
            assert!(got == content, "{who}: {} bytes, {done:?}", got.len());
        } else {
            assert!(done.stderr.contains("4.04"), "{who}: {done:?}");
            assert!(got.is_empty(), "{who}: {} bytes", got.len());
        }
    }
    stop(&server, &task);
    idle.event("reset");
}

/// Stands between a client and the server, and loses every tenth datagram of each way.
struct Lossy {
    inside: SocketAddr,
    stop: Arc<AtomicBool>,
    ways: Vec<JoinHandle<()>>,
}

impl Lossy {
    fn new(server: SocketAddr) -> Self {
        let [inside, outside] = [(); 2].map(|()| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let pause = Duration::from_millis(200);
            socket.set_read_timeout(Some(pause)).unwrap();
            Arc::new(socket)
        });
        let here = inside.local_addr().unwrap();
        outside.connect(server).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let client = Arc::new(OnceLock::new());
        let way = |up: bool| {
            let (inside, outside) = (inside.clone(), outside.clone());
            let (client, stop) = (client.clone(), stop.clone());
            thread::spawn(move || {
                let mut buffer = [0; 2_048];
                // not the same of both ways at once
                let mut count = if up { 0 } else { 5 };
                while !stop.load(Ordering::Relaxed) {
                    let from = if up { &inside } else { &outside };
                    let Ok((len, peer)) = from.recv_from(&mut buffer) else {
                        continue; // nothing within the time
                    };
                    count += 1;
                    if up {
                        client.get_or_init(|| peer);
                    }
                    if count % 10 == 0 {
                        continue;
                    }
                    // whoever is gone gets nothing
                    let _ = match (up, client.get()) {
                        (true, _) => outside.send(&buffer[..len]),
                        (false, Some(client)) => inside.send_to(&buffer[..len], client),
                        (false, None) => Ok(0),
                    };
                }
            })
        };
        let ways = vec![way(true), way(false)];
        Self {
            inside: here,
            stop,
            ways,
        }
    }
}

impl Drop for Lossy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for way in self.ways.drain(..) {
            let _ = way.join(); // it has said what is wrong
        }
    }
}

#[test]
fn libcoap_fetches_blocks_of_every_size_through_losses() {
    let server = server(&[]);
    let files = tempfile::tempdir().unwrap();
    // libcoap repeats after two to three seconds: with a fifth of the round trips lost, some sixty blocks take half a minute
    let sizes = [16, 64, 256, 512, 1_024];
    let devices = sizes.map(|size| {
        let endpoint = format!("idle-{size}");
        let content = noise(size as u64, size * 60 - 5);
        let version = format!("V2.{size}");
        let package = server.api.upload("meter", &version, &content);
        server.api.add_device(&endpoint, "meter");
        (server.api).create_task(&endpoint, &package, &[&endpoint]);
        let device = Lively::start(server.coap, &endpoint, &["--character", "idle"]);
        (size, content, device)
    });
    thread::scope(|scope| {
        for (size, content, mut device) in devices {
            let (server, files) = (&server, &files);
            scope.spawn(move || {
                let uri = device.event("offered")["uri"].as_str().unwrap().to_owned();
                let relay = Lossy::new(server.coap);
                let uri = uri.replace(&server.coap.to_string(), &relay.inside.to_string());
                let file = files.path().join(size.to_string());
                let size = size.to_string();
                let done = coap_client("coap-client-notls", &uri, &file, &["-b", &size]);
                let got = fs::read(&file).unwrap_or_default();
                assert!(got == content, "{size}: {} bytes, {done:?}", got.len());
            });
        }
    });
}

/// The server also serves packages over HTTP, and its product `web` prefers that.
pub(super) fn over_http(more: &[(&str, &str)]) -> Server {
    let own = [
        ("CELLWISE_DOWNLOAD__HTTP", "true"),
        ("CELLWISE_DOWNLOAD__HTTP_LISTEN", "127.0.0.1:0"),
        ("CELLWISE_PRODUCTS__WEB__UPDATE_BY", "firmware"),
        ("CELLWISE_PRODUCTS__WEB__URI_SCHEME", "http"),
    ];
    server(&[&own, more].concat())
}

#[test]
fn packages_are_fetched_over_http_in_ranges() {
    let server = over_http(&[]);
    let content = noise(9, 60_000);
    let hash = sha256(&content);
    let package = server.api.upload("web", "V2.0", &content);
    for endpoint in ["python", "curl", "coap"] {
        server.api.add_device(endpoint, "web");
    }
    let begun = ["python", "coap"];
    let task = server.api.create_task("web", &package, &begun);
    let mut python = Lively::start(server.coap, "python", &["--http", "--expect", &hash]);
    // one that does not say that it can
    let mut coap = Lively::start(server.coap, "coap", &["--expect", &hash]);
    for (device, scheme) in [(&mut python, "http://"), (&mut coap, "coap://")] {
        let uri = device.event("offered")["uri"].as_str().unwrap().to_owned();
        assert!(uri.starts_with(scheme), "{uri}");
        device.event("upgraded");
    }
    assert_upgraded(&server, &task);

    server.api.create_task("curl", &package, &["curl"]);
    let options = ["--http", "--character", "idle"];
    let mut device = Lively::start(server.coap, "curl", &options);
    let uri = device.event("offered")["uri"].as_str().unwrap().to_owned();
    let files = tempfile::tempdir().unwrap();
    let mut got = Vec::new();
    for range in ["0-999", "1000-40000", "40001-"] {
        let file = files.path().join(range);
        let mut curl = clean(Command::new(tool("curl")));
        curl.args(["-sSf", "--noproxy", "*", "-r", range, "-o"])
            .arg(&file)
            .arg(&uri);
        let done = run(&mut curl, b"", MINUTE);
        assert!(done.status.success(), "{range}: {done:?}");
        got.extend(fs::read(&file).unwrap());
    }
    assert!(got == content, "{} bytes", got.len());
}

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::{
    Device, Finished, Server, cellwise, clean, identity, noise, run, tool, wait_for,
};

const MINUTE: Duration = Duration::from_mins(1);
const KEY: &[u8] = b"sixteen byte key";

/// Runs one of libcoap's clients as that identity.
fn coaps(
    program: &str,
    server: &Server,
    who: &str,
    key: &str,
    path: &str,
    wait_s: &str,
) -> Finished {
    let mut command = clean(Command::new(tool(program)));
    command
        .args(["-m", "post", "-B", wait_s, "-v", "7", "-u", who, "-k", key])
        .arg(server.coaps_uri(path));
    run(&mut command, b"", Duration::from_secs(30))
}

#[test]
fn libcoaps_clients_register_as_themselves_only() {
    let server = Server::secured(&[]);
    server.api.add_secured("known", "meter", KEY);
    server
        .api
        .add_secured("other", "meter", b"quite another one");
    let (me, key) = (identity("known"), "sixteen byte key");
    for program in ["coap-client-openssl", "coap-client-gnutls"] {
        let done = coaps(program, &server, &me, key, "rd?ep=known&lt=300", "10");
        assert!(done.stdout.contains("c:2.01"), "{program}: {done:?}");
        // neither another device nor one that nobody knows
        for path in ["rd?ep=other&lt=300", "rd?ep=nobody&lt=300"] {
            let done = coaps(program, &server, &me, key, path, "10");
            assert!(done.stdout.contains("c:4.03"), "{program} {path}: {done:?}");
        }
        for (who, key) in [(me.as_str(), "not the right key"), ("id-nobody", key)] {
            let done = coaps(program, &server, who, key, "rd?ep=known&lt=300", "3");
            let answered = done.stdout.contains("c:2.") || done.stdout.contains("c:4.");
            assert!(!answered, "{program} {who}: {done:?}");
        }
    }
    let (_, device) = server.api.get("/v1/devices/known");
    assert_eq!(device["registration"]["secured"], true, "{device}");
    let said = server.said();
    let audited = (said.lines()).any(|line| line.contains("audit") && line.contains("other"));
    assert!(audited, "no audit line: {said}");
    assert!(!said.contains(key) && !said.contains(&hex::encode(KEY)));
}

/// A certificate for `name`, signed by `ca` or by itself: its files are `name.pem` and `name.key`.
fn certificate(directory: &Path, name: &str, ca: Option<&str>) {
    let mut command = clean(Command::new(tool("openssl")));
    command
        .current_dir(directory)
        .args("req -x509 -nodes -days 30 -newkey ec -pkeyopt ec_paramgen_curve:P-256".split(' '))
        .args(["-subj", &format!("/CN={name}")])
        .args([
            "-out",
            &format!("{name}.pem"),
            "-keyout",
            &format!("{name}.key"),
        ]);
    if let Some(ca) = ca {
        command.args(["-CA", &format!("{ca}.pem"), "-CAkey", &format!("{ca}.key")]);
    }
    let done = run(&mut command, b"", MINUTE);
    assert!(done.status.success(), "{done:?}");
}

#[test]
fn a_certificate_makes_a_device_who_it_names() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    for (name, ca) in [
        ("ca", None),
        ("server", Some("ca")),
        ("known", Some("ca")),
        ("other-ca", None),
        ("forged", Some("other-ca")),
    ] {
        certificate(directory.path(), name, ca);
    }
    let server = Server::secured(&[
        ("CELLWISE_DTLS__CERTIFICATE_FILE", &file("server.pem")),
        ("CELLWISE_DTLS__PRIVATE_KEY_FILE", &file("server.key")),
        ("CELLWISE_DTLS__CLIENT_CA_FILE", &file("ca.pem")),
    ]);
    server.api.add_device("known", "meter");
    server.api.add_device("forged", "meter");
    for (name, endpoint, expected) in [
        ("known", "known", Some("c:2.01")),
        ("known", "forged", Some("c:4.03")),
        ("forged", "forged", None),
    ] {
        let mut command = clean(Command::new(tool("coap-client-openssl")));
        let wait_s = if expected.is_some() { "10" } else { "3" };
        command
            .args(["-m", "post", "-B", wait_s, "-v", "7", "-C", &file("ca.pem")])
            .args(["-c", &file(&format!("{name}.pem"))])
            .args(["-j", &file(&format!("{name}.key"))])
            .arg(server.coaps_uri(&format!("rd?ep={endpoint}&lt=300")));
        let done = run(&mut command, b"", Duration::from_secs(30));
        let answered = done.stdout.contains("c:2.") || done.stdout.contains("c:4.");
        assert_eq!(
            answered,
            expected.is_some(),
            "{name} as {endpoint}: {done:?}"
        );
        let told = expected.is_none_or(|expected| done.stdout.contains(expected));
        assert!(told, "{name} as {endpoint}: {done:?}");
    }
}

#[test]
fn a_device_with_a_key_is_refused_where_nothing_is_encrypted() {
    let server = Server::secured(&[]);
    server.api.add_secured("known", "meter", KEY);
    server.api.add_device("plain", "meter");
    for (path, expected) in [
        ("rd?ep=known&lt=300", "c:4.03"),
        ("rd?ep=plain&lt=300", "c:2.01"),
    ] {
        let mut command = clean(Command::new(tool("coap-client-notls")));
        command
            .args(["-m", "post", "-B", "10", "-v", "7"])
            .arg(server.coap_uri(path));
        let done = run(&mut command, b"", Duration::from_secs(20));
        assert!(done.stdout.contains(expected), "{path}: {done:?}");
    }
    let said = server.said();
    assert!(said.contains("plain port"), "no audit line: {said}");
}

/// CON GET of /.well-known/core.
const GET_CORE: &[u8] = b"\x41\x01\x12\x34T\xbb.well-known\x04core";

/// OpenSSL's client, with what goes in and comes out of it.
struct SClient {
    process: std::process::Child,
}

impl SClient {
    fn start(server: &Server, suite: &str) -> Self {
        let process = clean(Command::new(tool("openssl")))
            .args(["s_client", "-dtls1_2", "-quiet", "-psk", &hex::encode(KEY)])
            .args(["-psk_identity", &identity("known")])
            .args(["-cipher", &format!("{suite}:@SECLEVEL=0")])
            .args(["-connect", &server.coaps().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { process }
    }

    /// Sends a datagram, and takes so many bytes of what comes back.
    fn exchange(&mut self, datagram: &[u8], len: usize) -> Vec<u8> {
        let input = self.process.stdin.as_mut().unwrap();
        input.write_all(datagram).unwrap();
        input.flush().unwrap();
        let mut answer = vec![0; len];
        self.process
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut answer)
            .unwrap();
        answer
    }
}

impl Drop for SClient {
    fn drop(&mut self) {
        // fails when it has ended by itself
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn openssls_client_is_served_in_every_suite_until_its_key_changes() {
    let server = Server::secured(&[("CELLWISE_COAP__ENABLED", "false")]);
    server.api.add_secured("known", "meter", KEY);
    let clients = [
        "PSK-AES128-CCM8",
        "PSK-AES128-CBC-SHA256",
        "PSK-AES128-GCM-SHA256",
    ]
    .map(|suite| {
        let mut client = SClient::start(&server, suite);
        let answer = client.exchange(GET_CORE, 5);
        // an acknowledgement with the same token that carries 2.05
        assert_eq!(answer, b"\x61\x45\x12\x34T", "{suite}");
        client
    });
    let changed =
        json!({"psk": {"identity": identity("known"), "key": hex::encode("a new key of it")}});
    let (status, body) = server.api.patch("/v1/devices/known", &changed);
    assert_eq!(status, 200, "{body}");
    assert!(
        !body.to_string().contains(&hex::encode("a new key of it")),
        "{body}"
    );
    for mut client in clients {
        wait_for(MINUTE, "the end of what the old key began", || {
            client.process.try_wait().unwrap()
        });
    }
}

#[test]
fn aiocoap_devices_are_upgraded_over_dtls() {
    let server = Server::secured(&[("CELLWISE_COAP__ENABLED", "false")]);
    let content = noise(4, 5_300);
    let package = server.api.upload("meter", "V2.0", &content);
    let kinds: [(&str, &[&str]); 3] = [
        ("plain", &[]),
        // from a new address, with a new handshake, twice
        ("reboots", &["--drop-after", "4", "--restart"]),
        ("cbor", &["--format", "senml-cbor", "--notify", "non"]),
    ];
    let endpoints = kinds.map(|(endpoint, _)| endpoint);
    let key = |endpoint: &str| format!("key of {endpoint}").into_bytes();
    for endpoint in endpoints {
        server.api.add_secured(endpoint, "meter", &key(endpoint));
    }
    let task = server.api.create_task("secured", &package, &endpoints);
    let devices = kinds
        .map(|(endpoint, options)| Device::secured(&server, endpoint, &key(endpoint), options));
    for device in devices {
        let events = device.upgraded();
        let downloaded = events.iter().find(|event| event["event"] == "downloaded");
        let downloaded = downloaded.expect("a download");
        assert_eq!(downloaded["sha256"], hex::encode(Sha256::digest(&content)));
    }
    for upgrade in server.api.finished(&task, MINUTE) {
        assert_eq!(upgrade["state"], "succeeded", "{upgrade}");
        assert_eq!(upgrade["attempts"], 1, "{upgrade}");
    }
}

#[test]
fn an_aiocoap_gateway_has_its_devices_upgraded_over_one_association() {
    let server = Server::secured(&[("CELLWISE_COAP__ENABLED", "false")]);
    let content = noise(9, 3_100);
    let package = server.api.upload("valve", "V2.0", &content);
    let key = b"key of gw-9".to_vec();
    server.api.add_secured("gw-9", "gateway", &key);
    let children = ["valve-1", "valve-2", "valve-3"];
    for child in children {
        let body = json!({"endpoint": child, "product": "valve", "via": "gw-9"});
        let (status, told) = server.api.post("/v1/devices", &body);
        assert!((200..300).contains(&status), "{status} {told}");
    }
    server.api.add_secured("alone", "valve", b"key of alone");
    let task = server.api.create_task("behind", &package, &children);
    let mut options = vec!["--foreign", "alone"];
    options.extend(children.iter().flat_map(|child| ["--child", *child]));
    let gateway = Device::gateway(&server, "gw-9", &key, &options);
    let events = gateway.upgraded();
    let refused = |event: &&Value| event["event"] == "refused" && event["endpoint"] == "alone";
    assert!(events.iter().any(|event| refused(&event)), "{events:?}");
    let downloads = events.iter().filter(|event| event["event"] == "downloaded");
    let downloads: Vec<&Value> = downloads.collect();
    assert_eq!(downloads.len(), 3, "{events:?}");
    for downloaded in downloads {
        assert_eq!(downloaded["sha256"], hex::encode(Sha256::digest(&content)));
    }
    for upgrade in server.api.finished(&task, MINUTE) {
        assert_eq!(upgrade["state"], "succeeded", "{upgrade}");
        assert_eq!(upgrade["attempts"], 1, "{upgrade}");
    }
}

/// A `ClientHello` with the suites that LwM2M names, and no extension (RFC 6347 §4.2.1).
fn client_hello(number: u8, cookie: &[u8]) -> Vec<u8> {
    let mut body = vec![0xfe, 0xfd];
    body.extend([0x5a; 32]);
    body.push(0); // no session
    body.push(u8::try_from(cookie.len()).unwrap());
    body.extend(cookie);
    body.extend([0, 4, 0x00, 0xae, 0xc0, 0xa8]);
    body.extend([1, 0]); // no compression
    let len = u8::try_from(body.len()).unwrap();
    let mut message = vec![1, 0, 0, len, 0, number, 0, 0, 0, 0, 0, len];
    message.extend(body);
    let mut record = vec![22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, number, 0];
    record.push(u8::try_from(message.len()).unwrap());
    record.extend(message);
    record
}

/// The cookie in a `HelloVerifyRequest`.
fn cookie(datagram: &[u8]) -> Option<&[u8]> {
    // record header 13, handshake header 12, version 2
    (datagram.first() == Some(&22) && datagram.get(13) == Some(&3)).then_some(())?;
    datagram.get(28..28 + usize::from(*datagram.get(27)?))
}

/// A socket at an address of its own.
fn stranger(number: u16) -> UdpSocket {
    let [high, low] = number.to_be_bytes();
    at(Ipv4Addr::new(127, 77, high, low))
}

fn at(address: Ipv4Addr) -> UdpSocket {
    let socket = UdpSocket::bind((address, 0)).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    socket
}

/// Begins a handshake and lets it hang.
fn leave_half_open(server: SocketAddr, socket: &UdpSocket) {
    let mut buffer = [0; 2_048];
    socket.send_to(&client_hello(0, b""), server).unwrap();
    let len = socket.recv(&mut buffer).expect("a HelloVerifyRequest");
    let cookie = cookie(&buffer[..len]).expect("a HelloVerifyRequest");
    socket.send_to(&client_hello(1, cookie), server).unwrap();
    let len = socket.recv(&mut buffer).expect("a ServerHello");
    assert_eq!(buffer[..len][13], 2);
}

#[test]
fn ten_thousand_spoofed_hellos_take_no_memory_and_disturb_no_upgrade() {
    let server = Server::secured(&[]);
    let package = server.api.upload("meter", "V2.0", &noise(5, 30_000));
    server.api.add_secured("busy", "meter", KEY);
    let task = server.api.create_task("under attack", &package, &["busy"]);
    let device = Device::secured(&server, "busy", KEY, &[]);
    wait_for(MINUTE, "the download", || {
        let (_, body) = server.api.get(&format!("/v1/tasks/{task}/upgrades"));
        (body["items"][0]["state"] == "downloading").then_some(())
    });
    let hello = client_hello(0, b"");
    let mut before = 0;
    for number in 0..10_000 {
        stranger(number).send_to(&hello, server.coaps()).unwrap();
        if number == 1_000 {
            before = server.resident_bytes();
        }
    }
    device.upgraded();
    let upgrades = server.api.finished(&task, MINUTE);
    assert_eq!(upgrades[0]["state"], "succeeded", "{upgrades:?}");
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes for 9,000 hellos");
}

#[test]
fn two_thousand_half_open_handshakes_lock_nobody_out() {
    let server = Server::secured(&[]);
    server.api.add_secured("known", "meter", KEY);
    for number in 0..1_000 {
        leave_half_open(server.coaps(), &stranger(number));
    }
    // and as many from where the device is
    for _ in 0..1_000 {
        leave_half_open(server.coaps(), &at([127, 0, 0, 1].into()));
    }
    let key = std::str::from_utf8(KEY).unwrap();
    let path = "rd?ep=known&lt=300";
    let done = coaps(
        "coap-client-openssl",
        &server,
        &identity("known"),
        key,
        path,
        "20",
    );
    assert!(done.stdout.contains("c:2.01"), "{done:?}");
}

#[test]
fn the_key_that_everybody_knows_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut serve = cellwise();
    serve
        .arg("serve")
        .env("CELLWISE_DATA_DIR", directory.path())
        .env("CELLWISE_DTLS__ENABLED", "true")
        .env("CELLWISE_COAP__LISTEN", "127.0.0.1:0")
        .env("CELLWISE_DTLS__LISTEN", "127.0.0.1:0")
        .env("CELLWISE_ADMIN__LISTEN", "127.0.0.1:0");
    let done = run(&mut serve, b"", Duration::from_secs(30));
    assert!(!done.status.success());
    assert!(done.stderr.contains("dtls.credential_key"), "{done:?}");
}

#[test]
fn who_is_refused_is_listed_at_once_and_added_in_one_step() {
    let server = Server::secured(&[]);
    server.api.add_secured("known", "meter", KEY);
    let listed = |name: &str| {
        let (status, body) = server.api.get("/v1/devices/unknown");
        assert_eq!(status, 200, "{body}");
        let items = body["items"].as_array().unwrap();
        let found = items.iter().find(|it| it["name"] == name)?;
        Some(found["reason"].as_str().unwrap().to_owned())
    };
    let clients = std::thread::scope(|scope| {
        let me = identity("known");
        let attempts = [
            (me.as_str(), "not the right key", "wrong_key"),
            ("id-nobody", "sixteen byte key", "unknown_identity"),
        ]
        .map(|(who, key, reason)| {
            // it goes on trying for as long as this takes
            let client = scope.spawn({
                let server = &server;
                let who = who.to_owned();
                move || {
                    coaps(
                        "coap-client-openssl",
                        server,
                        &who,
                        key,
                        "rd?ep=known&lt=300",
                        "10",
                    )
                }
            });
            let told = wait_for(Duration::from_secs(5), "the refusal", || listed(who));
            assert_eq!(told, reason);
            assert!(!client.is_finished(), "the peer is told nothing");
            client
        });
        attempts.map(|client| client.join().unwrap())
    });
    for done in clients {
        assert!(!done.stdout.contains("c:2."), "{done:?}");
    }
    // in the clear
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let register = |id: u8, endpoint: &str| {
        let mut datagram = vec![0x40, 0x02, 0, id, 0xb2, b'r', b'd'];
        datagram.push(0x40 | u8::try_from(endpoint.len() + 3).unwrap());
        datagram.extend(format!("ep={endpoint}").bytes());
        socket.send_to(&datagram, server.coap).unwrap();
        let mut answer = [0; 1_500];
        let len = socket.recv(&mut answer).unwrap();
        assert!(len >= 4);
        answer[1]
    };
    assert_eq!(register(1, "known"), 0x83, "4.03");
    assert_eq!(listed("known").as_deref(), Some("not_encrypted"));
    assert_eq!(register(2, "new"), 0x83, "4.03");
    assert_eq!(listed("new").as_deref(), Some("unknown_endpoint"));
    server.api.add_device("new", "meter");
    assert_eq!(listed("new"), None);
    assert_eq!(register(3, "new"), 0x41, "2.01");
    assert_eq!(listed("new"), None);
}

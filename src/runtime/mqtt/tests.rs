use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, TcpStream},
    sync::Mutex,
};

use openssl::{
    asn1::Asn1Time,
    bn::BigNum,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    ssl::{Ssl, SslAcceptor, SslConnector, SslMethod, SslStream, SslVerifyMode},
    x509::{X509, X509Name},
};

use super::*;
use crate::{
    ledger::{DeviceIds, Protocol},
    mqtt::endpoint::Style,
    store::{MqttCredential, StoredMqtt},
    vault::Vault,
};

/// Longer than anything takes here: a wait that ends is a failure.
const PATIENCE: Duration = Duration::from_secs(20);

struct World {
    server: MqttServer,
    identities: Arc<MqttIdentities>,
    ids: DeviceIds,
    vault: Vault,
    tcp: SocketAddr,
    tls: Option<SocketAddr>,
    news: Mutex<mpsc::Receiver<MqttNews>>,
    strangers: Arc<Strangers>,
    metrics: Arc<Metrics>,
}

/// A server whose events come in order.
fn world(limits: Limits, tls: Option<TlsBegin>) -> World {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (vault, ids) = (Vault::new([7; 32]), DeviceIds::new([1; 32]));
    let identities = Arc::new(MqttIdentities::new(Some(vault.clone()), ids.clone()));
    let (tcp, secured) = (listen(any).unwrap(), listen(any).unwrap());
    let (tcp_addr, tls_addr) = (tcp.local_addr().unwrap(), secured.local_addr().unwrap());
    let (sink, news) = mpsc::channel();
    let clock = SystemClock::start();
    let strangers = Arc::new(Strangers::new(clock));
    let metrics = Arc::new(Metrics::new().unwrap());
    let has_tls = tls.is_some();
    let server = MqttServer::start(MqttSetup {
        tcp: Some(tcp),
        tls: tls.map(|begin| (secured, begin)),
        limits,
        backlog_bytes: 64 << 10,
        seed: 7,
        identities: identities.clone(),
        sink: Some(Box::new(move |it| sink.send(it).unwrap_or_default())),
        clock,
        strangers: strangers.clone(),
        metrics: metrics.clone(),
    });
    let world = World {
        server: server.unwrap(),
        identities,
        ids,
        vault,
        tcp: tcp_addr,
        tls: has_tls.then_some(tls_addr),
        news: Mutex::new(news),
        strangers,
        metrics,
    };
    for number in 0..10 {
        world.device(number, &format!("token-{number}"));
    }
    world
}

impl World {
    fn device(&self, number: usize, token: &str) {
        let name = format!("n{number}");
        let token = SealedMqtt::Token {
            token: token.to_owned(),
            password: None,
        };
        let plain = serde_json::to_vec(&token).unwrap();
        let sealed = self.vault.seal(&StoredMqtt::purpose(&name), &plain);
        let stored = StoredMqtt {
            protocol: Protocol::ThingsPanel,
            credential: MqttCredential::Token,
            token_hash: None,
            sealed: sealed.ok(),
        };
        for device in self.identities.set(&name, Some(&stored)) {
            self.server.kick(device, Ending::Credentials);
        }
    }

    fn event(&self) -> Event {
        match self.news.lock().unwrap().recv_timeout(PATIENCE).unwrap() {
            MqttNews::Event(event, _) => event,
            MqttNews::Unsent { error, .. } => panic!("{error}"),
            MqttNews::BrokerReached => panic!("there is no broker"),
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.tcp).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// A device that is connected.
    fn greeted(&self, number: usize) -> TcpStream {
        let mut stream = self.connect();
        stream.write_all(&hello(number)).unwrap();
        assert_eq!(read(&mut stream, 4), [0x20, 2, 0, 0]);
        assert!(matches!(self.event(), Event::Connected { .. }));
        stream
    }
}

fn string(text: &str) -> Vec<u8> {
    let len = u16::try_from(text.len()).unwrap();
    [&len.to_be_bytes(), text.as_bytes()].concat()
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut left = body.len();
    loop {
        let low = u8::try_from(left % 128).unwrap();
        left /= 128;
        bytes.push(if left > 0 { low | 0x80 } else { low });
        if left == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

/// CONNECT of MQTT 3.1.1 with a token.
fn hello(number: usize) -> Vec<u8> {
    let mut body = b"\0\x04MQTT\x04\x82\0\x3c".to_vec();
    body.extend(string(&format!("client-{number}")));
    body.extend(string(&format!("token-{number}")));
    packet(0x10, &body)
}

fn progress(packet_id: u16, payload: &[u8]) -> Vec<u8> {
    let mut body = string("ota/devices/progress");
    body.extend(packet_id.to_be_bytes());
    body.extend(payload);
    packet(0x32, &body)
}

fn read(stream: &mut impl Read, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// Whether the server has closed the connection, once it has.
fn closed(stream: &mut impl Read) -> bool {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => rest.is_empty(),
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn a_device_is_greeted_heard_and_written_to() {
    let world = world(Limits::default(), None);
    let mut device = world.greeted(1);
    device.write_all(&progress(9, b"{\"step\":1}")).unwrap();
    let Event::Message {
        device: id,
        payload,
        ack: Some(ack),
        ..
    } = world.event()
    else {
        panic!("no message");
    };
    assert_eq!((id, &*payload), (world.ids.of("n1"), &b"{\"step\":1}"[..]));
    world.server.acknowledge(ack);
    assert_eq!(read(&mut device, 4), [0x40, 2, 0, 9]);
    let push = Bytes::from_static(b"push");
    world
        .server
        .publish(id, Downlink::Push, push, Qos::AtLeastOnce);
    let mut body = string("ota/devices/infrom/n1");
    body.extend([0, 1]);
    body.extend(b"push");
    let expected = packet(0x32, &body);
    assert_eq!(read(&mut device, expected.len()), expected);
    device.write_all(&[0x40, 2, 0, 1]).unwrap();
    assert!(matches!(world.event(), Event::Delivered { .. }));
    drop(device);
    let why = match world.event() {
        Event::Disconnected { why, .. } => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(why, Ending::Lost);
    let unsent = Bytes::new();
    world
        .server
        .publish(id, Downlink::Push, unsent, Qos::AtMostOnce);
    let news = world.news.lock().unwrap().recv_timeout(PATIENCE).unwrap();
    let not_connected = PublishError::NotConnected;
    assert!(matches!(news, MqttNews::Unsent { error, .. } if error == not_connected));
}

#[test]
fn large_messages_go_through_in_both_directions() {
    let world = world(Limits::default(), None);
    let mut device = world.greeted(1);
    // none of an upgrade's matter, and no less read
    let telemetry = [string("devices/telemetry"), vec![0, 7], vec![b'x'; 200_000]];
    device
        .write_all(&packet(0x32, &telemetry.concat()))
        .unwrap();
    assert_eq!(read(&mut device, 4), [0x40, 2, 0, 7]);
    let large = vec![b'x'; crate::mqtt::thingspanel::MAX_REPORT];
    device.write_all(&progress(1, &large)).unwrap();
    match world.event() {
        Event::Message { payload, .. } => assert_eq!(payload.len(), large.len()),
        other => panic!("{other:?}"),
    }
    // more than the sockets' buffers: the rest waits until the device takes it
    let id = world.ids.of("n1");
    let mut sent = 0;
    for _ in 0..4 {
        let payload = Bytes::from(vec![b'y'; 60_000]);
        world
            .server
            .publish(id, Downlink::Push, payload, Qos::AtMostOnce);
        sent += packet(
            0x30,
            &vec![0; 60_000 + string("ota/devices/infrom/n1").len()],
        )
        .len();
    }
    let taken = read(&mut device, sent);
    let payloads: usize = taken.split(|byte| *byte != b'y').map(<[u8]>::len).sum();
    assert_eq!(payloads, 240_000);
}

/// Whoever takes the events may fall behind: what was taken from a connection and not yet by them is bounded, and nothing of
/// it is lost.
#[test]
fn a_connection_is_read_no_faster_than_its_events_are_taken() {
    let limits = Limits {
        unacknowledged_per_second: 1_000_000,
        ..Limits::default()
    };
    let world = world(limits, None);
    let mut device = world.greeted(1);
    let mut other = world.greeted(2);
    let message = {
        let body = [string("ota/devices/progress"), vec![b'x'; 8_000]].concat();
        packet(0x30, &body)
    };
    let sent = 5_000;
    let sender = std::thread::spawn(move || {
        for _ in 0..sent {
            device.write_all(&message).unwrap();
        }
        device
    });
    // while the news are kept the tickets are out, and what is read of the others goes on
    let mut kept = Vec::new();
    let news = world.news.lock().unwrap();
    while kept.len() < 32 {
        kept.push(news.recv_timeout(PATIENCE).unwrap());
    }
    other.write_all(&[0xc0, 0]).unwrap();
    assert_eq!(read(&mut other, 2), [0xd0, 0]);
    // one read of 64 KiB at the most went on
    kept.extend(news.try_iter());
    assert!(kept.len() < 32 + 10, "{} events", kept.len());
    let mut taken = kept.len();
    kept.clear();
    while taken < sent {
        let it = news.recv_timeout(PATIENCE).unwrap();
        assert!(matches!(it, MqttNews::Event(Event::Message { .. }, _)));
        taken += 1;
    }
    let mut device = sender.join().unwrap();
    device.write_all(&[0xc0, 0]).unwrap();
    assert_eq!(read(&mut device, 2), [0xd0, 0]);
}

#[test]
fn a_changed_token_ends_the_connection() {
    let world = world(Limits::default(), None);
    let mut device = world.greeted(1);
    world.device(1, "token-other");
    assert!(closed(&mut device));
    assert!(matches!(
        world.event(),
        Event::Disconnected {
            why: Ending::Credentials,
            ..
        }
    ));
    let mut again = world.connect();
    again.write_all(&hello(1)).unwrap();
    assert_eq!(read(&mut again, 4), [0x20, 2, 0, 4]);
    assert!(closed(&mut again));
    let listed = world.strangers.newest_first();
    let seen: Vec<_> = (listed.iter())
        .map(|it| (it.name.as_str(), it.refusal.name()))
        .collect();
    // a token is not told
    assert_eq!(seen, [("client-1", "unknown_mqtt_device")]);
}

#[test]
fn who_says_nothing_or_nonsense_is_closed_and_disturbs_nobody() {
    let limits = Limits {
        connect_within: Duration::from_millis(300),
        unknown_connections: 40,
        ..Limits::default()
    };
    let world = world(limits, None);
    let mut device = world.greeted(1);
    let mut silent: Vec<TcpStream> = (0..15).map(|_| world.connect()).collect();
    for (number, stream) in silent.iter_mut().enumerate() {
        // a byte of CONNECT is no CONNECT
        let _ = stream.write_all(&hello(2)[..number]);
    }
    let mut nonsense = world.connect();
    nonsense.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(closed(&mut nonsense));
    device.write_all(&[0xc0, 0]).unwrap();
    assert_eq!(read(&mut device, 2), [0xd0, 0]);
    for mut stream in silent {
        assert!(closed(&mut stream));
    }
    device.write_all(&[0xc0, 0]).unwrap();
    assert_eq!(read(&mut device, 2), [0xd0, 0]);
}

#[test]
fn more_connections_than_may_be_are_closed_at_once() {
    let limits = Limits {
        unknown_connections: 4,
        ..Limits::default()
    };
    let world = world(limits, None);
    let kept = [world.connect(), world.connect()];
    // the server takes them in their order
    let mut third = world.connect();
    assert!(closed(&mut third));
    drop(kept);
}

#[tokio::test]
async fn a_server_that_stops_closes_all_connections() {
    let world = world(Limits::default(), None);
    let mut device = world.greeted(1);
    let mut stranger = world.connect();
    world.server.stop().await;
    assert!(closed(&mut device));
    assert!(closed(&mut stranger));
}

struct Certificates {
    authority: X509,
    key: PKey<Private>,
}

impl Certificates {
    fn new() -> Self {
        let key = key();
        let authority = certificate("authority", &key, None);
        Self { authority, key }
    }

    fn issue(&self, name: &str) -> (X509, PKey<Private>) {
        let key = key();
        let signer = Some((&*self.authority, &self.key));
        (certificate(name, &key, signer), key)
    }

    /// As the server's settings would have it.
    fn begin(&self) -> TlsBegin {
        let (certificate, key) = self.issue("server");
        let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
        builder.set_certificate(&certificate).unwrap();
        builder.set_private_key(&key).unwrap();
        let authority = self.authority.clone();
        builder.cert_store_mut().add_cert(authority).unwrap();
        builder.set_verify(SslVerifyMode::PEER);
        let context = builder.build().into_context();
        Arc::new(move || Ssl::new(&context))
    }

    fn connect(
        &self,
        address: SocketAddr,
        as_device: Option<(X509, PKey<Private>)>,
    ) -> SslStream<TcpStream> {
        let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
        let authority = self.authority.clone();
        builder.cert_store_mut().add_cert(authority).unwrap();
        if let Some((certificate, key)) = as_device {
            builder.set_certificate(&certificate).unwrap();
            builder.set_private_key(&key).unwrap();
        }
        let mut ssl = builder.build().configure().unwrap();
        ssl.set_verify_hostname(false);
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        ssl.connect("server", stream).unwrap()
    }
}

fn key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

fn certificate(
    name: &str,
    key: &PKey<Private>,
    signer: Option<(&openssl::x509::X509Ref, &PKey<Private>)>,
) -> X509 {
    let mut subject = X509Name::builder().unwrap();
    subject.append_entry_by_nid(Nid::COMMONNAME, name).unwrap();
    let subject = subject.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let serial = BigNum::from_u32(u32::try_from(name.len()).unwrap()).unwrap();
    builder
        .set_serial_number(&serial.to_asn1_integer().unwrap())
        .unwrap();
    builder.set_subject_name(&subject).unwrap();
    let issuer = signer.map_or(&*subject, |(it, _)| it.subject_name());
    builder.set_issuer_name(issuer).unwrap();
    builder.set_pubkey(key).unwrap();
    builder
        .set_not_before(&Asn1Time::days_from_now(0).unwrap())
        .unwrap();
    builder
        .set_not_after(&Asn1Time::days_from_now(1).unwrap())
        .unwrap();
    if signer.is_none() {
        let authority = openssl::x509::extension::BasicConstraints::new()
            .ca()
            .build();
        builder.append_extension(authority.unwrap()).unwrap();
    }
    let signing = signer.map_or(key, |(_, key)| key);
    builder.sign(signing, MessageDigest::sha256()).unwrap();
    builder.build()
}

#[test]
fn over_tls_a_token_or_a_certificate_shows_who_it_is() {
    let certificates = Certificates::new();
    let world = world(Limits::default(), Some(certificates.begin()));
    let address = world.tls.unwrap();
    let mut by_token = certificates.connect(address, None);
    by_token.write_all(&hello(1)).unwrap();
    assert_eq!(read(&mut by_token, 4), [0x20, 2, 0, 0]);
    assert!(matches!(
        world.event(),
        Event::Connected {
            style: Style::ThingsPanel,
            ..
        }
    ));
    let stored = StoredMqtt {
        protocol: Protocol::Iotda,
        credential: MqttCredential::Certificate,
        token_hash: None,
        sealed: None,
    };
    world.identities.set("d7", Some(&stored));
    // no user name: the certificate's is the device's
    let connect = packet(0x10, b"\0\x04MQTT\x04\x02\0\x3c\0\x02d7");
    let mut device = certificates.connect(address, Some(certificates.issue("d7")));
    device.write_all(&connect).unwrap();
    assert_eq!(read(&mut device, 4), [0x20, 2, 0, 0]);
    match world.event() {
        Event::Connected { device, .. } => assert_eq!(device, world.ids.of("d7")),
        other => panic!("{other:?}"),
    }
    // large messages take many records
    let mut body = string("$oc/devices/d7/sys/events/up");
    body.extend([0, 1]);
    body.extend(vec![b'x'; crate::mqtt::iotda::MAX_ENVELOPE]);
    device.write_all(&packet(0x32, &body)).unwrap();
    match world.event() {
        Event::Message { payload, .. } => {
            assert_eq!(payload.len(), crate::mqtt::iotda::MAX_ENVELOPE);
        }
        other => panic!("{other:?}"),
    }
    let payload = Bytes::from(vec![b'y'; 60_000]);
    let id = world.ids.of("d7");
    world
        .server
        .publish(id, Downlink::Events, payload, Qos::AtMostOnce);
    let topic = string("$oc/devices/d7/sys/events/down");
    let taken = read(&mut device, 4 + topic.len() + 60_000);
    assert!(taken.ends_with(&vec![b'y'; 60_000]));
    // another's certificate, and none
    for other in [Some(certificates.issue("d8")), None] {
        let mut other = certificates.connect(address, other);
        other.write_all(&connect).unwrap();
        assert_eq!(read(&mut other, 4), [0x20, 2, 0, 4]);
    }
}

#[test]
fn handshakes_that_come_to_nothing_disturb_nobody() {
    let certificates = Certificates::new();
    let limits = Limits {
        unknown_connections: 64,
        connects_per_address_per_second: 1_000,
        connects_per_second: 1_000,
        ..Limits::default()
    };
    let world = world(limits, Some(certificates.begin()));
    let address = world.tls.unwrap();
    let silent: Vec<TcpStream> = (0..20)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    let mut nonsense = TcpStream::connect(address).unwrap();
    nonsense.set_read_timeout(Some(PATIENCE)).unwrap();
    nonsense.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut rest = Vec::new();
    let _ = nonsense.read_to_end(&mut rest); // an alert, or nothing
    // with a certificate of another authority
    let others = Certificates::new();
    let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
    builder.set_verify(SslVerifyMode::NONE);
    let (certificate, key) = others.issue("n1");
    builder.set_certificate(&certificate).unwrap();
    builder.set_private_key(&key).unwrap();
    let mut ssl = builder.build().configure().unwrap();
    ssl.set_verify_hostname(false);
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // in TLS 1.3 the client learns of it with the first read
    let mut refused = ssl.connect("server", stream).map_err(|_| ()).ok();
    if let Some(stream) = &mut refused {
        let _ = stream.write_all(&hello(1));
        let mut byte = [0];
        assert!(!stream.read(&mut byte).is_ok_and(|read| read > 0));
    }
    let mut device = certificates.connect(address, None);
    device.write_all(&hello(1)).unwrap();
    assert_eq!(read(&mut device, 4), [0x20, 2, 0, 0]);
    drop(silent);
}

#[test]
fn figures_tell_who_is_connected() {
    let world = world(Limits::default(), None);
    let _device = world.greeted(1);
    let deadline = std::time::Duration::from_secs(10);
    let clock = SystemClock::start();
    let started = clock.now().instant;
    loop {
        let text = world.metrics.handle().render();
        // figures of one look come one after the other
        let figures = [
            "cellwise_mqtt_devices 1",
            "cellwise_mqtt_connects_accepted_total 1",
        ];
        if figures.iter().all(|figure| text.contains(figure)) {
            return;
        }
        assert!(clock.now().instant.since(started) < deadline, "{text}");
        std::thread::yield_now();
    }
}

/// A client of Debian's `mosquitto-clients`, which shares no code with us.
fn mosquitto(
    world: &World,
    program: &str,
    version: &str,
    arguments: &[&str],
) -> std::process::Child {
    std::process::Command::new(program)
        .args(["-h", "127.0.0.1", "-p", &world.tcp.port().to_string()])
        .args(["-V", version, "-q", "1"])
        .args(arguments)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("mosquitto-clients is installed")
}

#[test]
fn mosquittos_clients_are_served_and_held_to_the_rules() {
    let world = world(Limits::default(), None);
    let directory = tempfile::tempdir().unwrap();
    let huge = directory.path().join("huge");
    std::fs::write(&huge, vec![b'x'; 300 << 10]).unwrap();
    for (number, version) in ["mqttv311", "mqttv5"].into_iter().enumerate() {
        let token = format!("token-{number}");
        let own = ["-u", &token, "-t", "ota/devices/progress"];
        let said = [&own[..], &["-m", "hello"]].concat();
        let mut client = mosquitto(&world, "mosquitto_pub", version, &said);
        assert!(matches!(world.event(), Event::Connected { .. }));
        let Event::Message {
            payload,
            ack: Some(ack),
            ..
        } = world.event()
        else {
            panic!("no message");
        };
        assert_eq!(&*payload, b"hello");
        world.server.acknowledge(ack);
        assert!(client.wait().unwrap().success(), "{version}");
        assert!(matches!(
            world.event(),
            Event::Disconnected {
                why: Ending::Goodbye,
                ..
            }
        ));
        // a token that nobody has
        let strange = ["-u", "nobody", "-t", "a", "-m", "x"];
        let mut client = mosquitto(&world, "mosquitto_pub", version, &strange);
        assert!(!client.wait().unwrap().success(), "{version}");
    }
    for (number, version) in (5..).zip(["mqttv311", "mqttv5"]) {
        let token = format!("token-{number}");
        // everybody's messages
        let mut client = mosquitto(&world, "mosquitto_sub", version, &["-u", &token, "-t", "#"]);
        assert!(matches!(world.event(), Event::Connected { .. }));
        let mut told = String::new();
        client
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut told)
            .unwrap();
        client.wait().unwrap();
        assert!(told.contains("denied"), "{version}: {told}");
        assert!(matches!(world.event(), Event::Disconnected { .. }));
    }
    // larger than a packet may be
    let path = huge.to_str().unwrap();
    let large = ["-u", "token-9", "-t", "ota/devices/progress", "-f", path];
    let mut client = mosquitto(&world, "mosquitto_pub", "mqttv311", &large);
    assert!(matches!(world.event(), Event::Connected { .. }));
    let why = match world.event() {
        Event::Disconnected { why, .. } => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(why, Ending::Protocol);
    client.kill().unwrap();
    client.wait().unwrap();
}

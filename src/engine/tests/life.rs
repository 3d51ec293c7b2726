//! Signs of life: whatever a device sends shows that it is there.

use super::*;
use crate::coap::{Token, empty_ack, reset};

const COMPLETE: &str = r#"[{"bn":"/4/0/","n":"2","v":-95},{"n":"8","v":51234},{"n":"11","v":7}]"#;

fn send(id: u16, format: Option<u16>, payload: &[u8]) -> Vec<u8> {
    let request = MessageBuilder::new(Kind::Confirmable, Code::POST, id, Token::new(b"s"));
    let request = request.path("dp");
    let request = match format {
        Some(format) => request.content_format(ContentFormat(format)),
        None => request,
    };
    request.payload(payload.to_vec()).build()
}

fn opaque(path: &str, payload: &[u8]) -> Vec<u8> {
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
    let data = BASE64_URL_SAFE_NO_PAD.encode(payload);
    format!(r#"[{{"n":"{path}","vd":"{data}"}}]"#).into_bytes()
}

/// The codes of the responses that were sent.
fn codes(world: &mut World) -> Vec<Code> {
    let sent = world.take_sent().into_iter();
    let codes = sent.map(|(_, message)| message.code());
    codes.filter(|code| code.is_response()).collect()
}

/// A device that sleeps, was silent for an hour, and has an upgrade that waits for it.
fn awaited() -> (World, Script) {
    let mut world = World::new();
    world.add("meter-1");
    let mut device = Script::new("meter-1", 1).asleep_between();
    device.register(&mut world);
    device.receive(&mut world);
    device.notify(&mut world, b"its own data");
    device.receive(&mut world);
    world.pass_s(3_600);
    world.start("meter-1", 1, &package("V2", &content()));
    world.pass_s(10);
    assert!(world.take_sent().is_empty());
    assert_eq!(world.stages(), [Stage::WaitingForDevice]);
    (world, device)
}

#[test]
fn whatever_a_device_sends_begins_an_upgrade_that_waits_for_it() {
    let plain = |code, path: &[&str]| request(code, 500, path, &[]);
    let with_option = |bytes: &[u8]| [&[0x40, 1, 0, 9][..], bytes].concat();
    let messages: [(&str, Vec<u8>); 17] = [
        ("an unknown path", plain(Code::GET, &["nothing"])),
        ("no path", plain(Code::GET, &[])),
        ("discovery", plain(Code::GET, &[".well-known", "core"])),
        ("a method that is not allowed", plain(Code::PUT, &["dp"])),
        (
            "a location that is not its own",
            plain(Code::POST, &["rd", "x"]),
        ),
        ("a registration without name", plain(Code::POST, &["rd"])),
        ("Send", send(500, Some(110), COMPLETE.as_bytes())),
        ("Send that cannot be read", send(500, Some(110), b"?")),
        ("Send in a strange format", send(500, Some(0), b"?")),
        ("an unknown critical option", with_option(&[0x90])),
        ("a proxy's option", with_option(&[0xD1, 22, b'x'])),
        ("a late acknowledgement", empty_ack(777).to_vec()),
        ("one with a token", vec![0x61, 0, 3, 9, 1]),
        ("a Reset", reset(777).to_vec()),
        ("a ping", vec![0x40, 0, 0, 9]),
        ("an empty Non-confirmable message", vec![0x50, 0, 0, 9]),
        (
            "an answer to nothing",
            MessageBuilder::new(Kind::NonConfirmable, Code::CONTENT, 8, Token::new(b"no")).build(),
        ),
    ];
    for (what, datagram) in messages {
        let (mut world, mut device) = awaited();
        world.datagram(device.at, &datagram);
        assert_eq!(
            world.stages(),
            [Stage::WaitingForDevice, Stage::QueryingVersion],
            "{what}"
        );
        let asked = device.frames(&mut world);
        assert_eq!(decoded(&asked), [PlatformMessage::VersionQuery], "{what}");
        let key = world.engine.find("meter-1").unwrap();
        let heard_at = world.engine.device(key).heard_at;
        assert_eq!(heard_at, Some(world.now.instant), "{what}");
    }
}

#[test]
fn a_repeat_is_a_sign_of_life_too() {
    let mut world = World::new();
    world.add("meter-1");
    let mut device = Script::new("meter-1", 1).asleep_between();
    device.register(&mut world);
    device.receive(&mut world);
    let datagram = request(Code::GET, 9, &["nothing"], &[]);
    world.datagram(device.at, &datagram);
    world.pass_s(100);
    world.start("meter-1", 1, &package("V2", &content()));
    world.pass_s(1);
    device.receive(&mut world);
    assert_eq!(world.stages(), [Stage::WaitingForDevice]);
    world.datagram(device.at, &datagram);
    assert_eq!(world.engine.counters().datagrams_repeated, 1);
    assert_eq!(
        decoded(&device.frames(&mut world)),
        [PlatformMessage::VersionQuery]
    );
}

#[test]
fn what_somebody_else_says_from_its_address_is_no_sign_of_life() {
    for queries in ["ep=meter-9", "ep=meter-9&lt=soon"] {
        let (mut world, device) = awaited();
        let queries: Vec<String> = queries.split('&').map(ToOwned::to_owned).collect();
        world.datagram(device.at, &request(Code::POST, 9, &["rd"], &queries));
        world.pass_s(1);
        assert_eq!(world.stages(), [Stage::WaitingForDevice]);
    }
    // nor is the end of its registration: nothing would reach it
    let (mut world, device) = awaited();
    let path = ["rd", device.location.as_str()];
    world.datagram(device.at, &request(Code::DELETE, 9, &path, &[]));
    world.pass_s(1);
    assert_eq!(world.stages(), [Stage::WaitingForDevice]);
    let key = world.engine.find("meter-1").unwrap();
    assert!(
        world.engine.device(key).heard_at > Some(world.now.instant.before(Duration::from_secs(5)))
    );
}

#[test]
fn send_is_answered_as_its_payload_deserves() {
    let mut world = World::new();
    world.add("meter-1");
    let mut device = Script::new("meter-1", 1);
    world.datagram(device.at, &send(1, Some(110), COMPLETE.as_bytes()));
    assert_eq!(codes(&mut world), [Code::NOT_FOUND], "it is not registered");
    device.register(&mut world);
    device.receive(&mut world);
    for (id, format, payload, expected) in [
        (900, Some(110), COMPLETE.as_bytes(), Code::CHANGED),
        (901, None, COMPLETE.as_bytes(), Code::CHANGED),
        (902, Some(112), b"\x80", Code::CHANGED),
        (903, Some(11_544), b"\xA0", Code::CHANGED),
        (904, Some(110), b"{}", Code::BAD_REQUEST),
        (905, Some(112), b"\xA1", Code::BAD_REQUEST),
        (
            906,
            Some(11_542),
            b"\xC1\x02\x01",
            Code::UNSUPPORTED_CONTENT_FORMAT,
        ),
        (907, Some(0), b"1", Code::UNSUPPORTED_CONTENT_FORMAT),
    ] {
        world.datagram(device.at, &send(id, format, payload));
        assert_eq!(codes(&mut world), [expected], "{format:?} {payload:?}");
    }
    world.datagram(device.at, &request(Code::GET, 99, &["dp"], &[]));
    assert_eq!(codes(&mut world), [Code::METHOD_NOT_ALLOWED]);
}

#[test]
fn coverage_that_is_sent_is_learnt_and_answers_the_question() {
    for partial in [false, true] {
        let mut world = World::new();
        world.add("meter-1");
        world.start("meter-1", 1, &package("V2", &content()));
        let mut device = Script::new("meter-1", 1);
        device.register(&mut world);
        device.frames(&mut world);
        device.says_version(&mut world, "V1");
        // the read is lost
        world.take_sent();
        assert_eq!(world.stages().last(), Some(&Stage::QueryingCoverage));
        world.take_changes();
        let payload = if partial {
            r#"[{"bn":"/4/0/","n":"2","v":-95},{"n":"8","v":51234}]"#
        } else {
            COMPLETE
        };
        world.datagram(device.at, &send(900, Some(110), payload.as_bytes()));
        let changes = world.take_changes();
        let reported = changes.iter().find_map(|change| match change {
            Change::CoverageReported { reading, .. } => Some(reading.coverage),
            _ => None,
        });
        let coverage = Coverage {
            cell: Some(51_234),
            rsrp_dbm: Some(-95),
            sinr_db: Some(7),
        };
        assert_eq!(reported, (!partial).then_some(coverage));
        let frames = device.frames(&mut world);
        let notified = matches!(decoded(&frames)[..], [PlatformMessage::NewVersion { .. }]);
        assert_eq!(notified, !partial);
        world.pass_s(60);
        let read_again = device
            .receive(&mut world)
            .iter()
            .any(|r| matches!(r, Received::Read(..)));
        assert_eq!(read_again, partial);
    }
}

#[test]
fn a_device_that_sends_its_coverage_without_end_keeps_nobody_busy() {
    let mut world = World::new();
    world.add("meter-1");
    let mut device = Script::new("meter-1", 1);
    device.register(&mut world);
    device.receive(&mut world);
    world.take_changes();
    for id in 1_000..2_000 {
        world.datagram(device.at, &send(id, Some(110), COMPLETE.as_bytes()));
    }
    assert_eq!(codes(&mut world).len(), 1_000);
    assert!(world.take_changes().len() <= 20);
}

#[test]
fn pcp_that_is_sent_counts_as_if_it_were_notified() {
    for path in ["/19/0/0", "/19/1/0"] {
        let (mut world, mut device) = awaited();
        let mut buffer = [0; 64];
        let message = DeviceMessage::VersionResponse {
            result: ResultCode::SUCCESS,
            version: Some(version("V1")),
        };
        let frame = message.encode(&mut buffer).unwrap();
        world.datagram(device.at, &send(900, Some(110), &opaque(path, frame)));
        // it was heard, and then answered what it would have been asked
        assert_eq!(
            world.stages(),
            [
                Stage::WaitingForDevice,
                Stage::QueryingVersion,
                Stage::QueryingCoverage
            ]
        );
        let received = device.receive(&mut world);
        let is_read = |r: &Received| matches!(r, Received::Read(path, _) if path == "4/0");
        assert!(received.iter().any(is_read), "{received:?}");
    }
    let (mut world, device) = awaited();
    let data = opaque("/19/0/0", b"its own data");
    let before = world.engine.counters().service_data;
    world.datagram(device.at, &send(900, Some(110), &data));
    assert_eq!(world.engine.counters().service_data, before + 1);
}

/// Somebody on the encrypted port who has shown to be these.
fn secured(world: &mut World, port: u16, endpoints: &[&str], bytes: &[u8]) -> Peer {
    let peer = Peer::secured(SocketAddr::from(([10, 0, 0, 1], port)));
    let endpoints: Vec<Box<str>> = endpoints.iter().map(|name| (*name).into()).collect();
    let speaker = Speaker::new(peer, &endpoints);
    world.engine.handle_datagram(world.now, &speaker, bytes);
    world.collect();
    peer
}

#[test]
fn who_has_shown_to_be_a_device_is_heard_as_it_also_from_elsewhere() {
    let mut world = World::new();
    for endpoint in ["a", "b"] {
        world.command(Command::AddDevice {
            endpoint: endpoint.into(),
            product: "meter".into(),
            secure: true,
            protocol: crate::ledger::Protocol::Lwm2m,
            via: crate::ledger::Via::Itself,
        });
    }
    let register = request(Code::POST, 1, &["rd"], &["ep=a".into(), "b=UQ".into()]);
    secured(&mut world, 1, &["a"], &register);
    world.pass_s(200);
    world.take_sent();
    world.take_changes();
    world.start("a", 1, &package("V2", &content()));
    // others are not it, whatever they have shown
    let sent = send(7, Some(110), COMPLETE.as_bytes());
    for (port, endpoints) in [(2, &["b"][..]), (2, &[]), (2, &["a", "b"]), (1, &["b"])] {
        secured(&mut world, port, endpoints, &sent);
        assert_eq!(codes(&mut world), [Code::NOT_FOUND], "{endpoints:?}");
    }
    world.datagram(peer(2), &sent);
    assert_eq!(codes(&mut world), [Code::NOT_FOUND]);
    assert_eq!(world.stages(), [Stage::WaitingForDevice]);
    // it is, at another address
    let elsewhere = secured(&mut world, 3, &["a"], &sent);
    let there: Vec<_> = world
        .take_sent()
        .into_iter()
        .filter(|(to, _)| *to == elsewhere)
        .collect();
    assert!(
        there
            .iter()
            .any(|(_, message)| message.code() == Code::CHANGED)
    );
    assert!(there.iter().any(|(_, message)| message.code() == Code::GET));
    let moved = world.changes.iter().any(|change| {
        matches!(change, Change::Registered { registration, .. } if registration.peer == elsewhere)
    });
    assert!(moved);
}

#[test]
fn who_has_shown_to_be_a_device_that_another_engine_has_is_sought() {
    let mut world = World::new();
    world.elsewhere.push(ids().of("a"));
    let sent = send(7, Some(110), COMPLETE.as_bytes());
    secured(&mut world, 1, &["a"], &sent);
    assert!(codes(&mut world).is_empty());
    let seek = world.sought.pop().expect("is sought");
    assert_eq!((seek.device, seek.newcomer), (ids().of("a"), None));
    // nobody has it after all
    world
        .engine
        .handle_sought(world.now, &seek, &Sought::Nobody);
    world.collect();
    assert_eq!(codes(&mut world), [Code::NOT_FOUND]);
}

//! Message IDs that come again: repeats, and devices whose IDs never change.

use super::*;
use crate::coap::Token;

fn code_of_answer(world: &mut World, from: Peer, datagram: &[u8]) -> Code {
    world.datagram(from, datagram);
    let sent = world.take_sent();
    let answer = sent.iter().find(|(_, m)| m.kind() == Kind::Acknowledgement);
    answer.expect("is answered").1.code()
}

fn registered(queries: &[&str]) -> (World, Script) {
    let mut world = World::new();
    world.add("meter-1");
    let mut device = Script::new("meter-1", 1);
    device.queries = queries.iter().map(|query| (*query).into()).collect();
    device.register(&mut world);
    device.receive(&mut world);
    (world, device)
}

#[test]
fn a_client_whose_message_id_never_changes_stays_registered() {
    // (lifetime, between two updates): also such that are shorter than a repeat may take
    for (lifetime_s, pause_s) in [(300, 200), (100, 46), (60, 31), (20, 11), (2, 1)] {
        let (mut world, device) = registered(&[&format!("lt={lifetime_s}")]);
        let update = request(Code::POST, 7, &["rd", &device.location], &[]);
        for _ in 0..50 {
            world.pass_s(pause_s);
            let answer = code_of_answer(&mut world, device.at, &update);
            assert_eq!(answer, Code::CHANGED, "{lifetime_s} {pause_s}");
        }
        let key = world.engine.find("meter-1").unwrap();
        let registration = world.engine.device(key).registration.as_ref().unwrap();
        assert_eq!(
            registration.expires,
            world.now.instant + Duration::from_secs(lifetime_s)
        );
    }
}

#[test]
fn an_update_that_comes_again_soon_is_a_repeat() {
    let (mut world, device) = registered(&["lt=300"]);
    let update = request(Code::POST, 7, &["rd", &device.location], &[]);
    assert_eq!(
        code_of_answer(&mut world, device.at, &update),
        Code::CHANGED
    );
    world.pass_s(44);
    assert_eq!(
        code_of_answer(&mut world, device.at, &update),
        Code::CHANGED
    );
    assert_eq!(world.engine.counters().datagrams_repeated, 1);
    world.pass_s(1);
    assert_eq!(
        code_of_answer(&mut world, device.at, &update),
        Code::CHANGED
    );
    assert_eq!(world.engine.counters().datagrams_repeated, 1);
}

#[test]
fn a_segment_is_served_again_to_who_asks_with_the_same_message_later() {
    let mut world = World::new();
    world.add("meter-1");
    world.start("meter-1", 1, &package("V2", &content()));
    let mut device = Script::new("meter-1", 1);
    device.negotiate(&mut world, 7, -90, 15);
    device.receive(&mut world);
    let mut buffer = [0; 64];
    let message = DeviceMessage::SegmentRequest {
        version: version("V2"),
        segment: 3,
    };
    let frame = message.encode(&mut buffer).unwrap();
    let asks = MessageBuilder::new(Kind::Confirmable, Code::CONTENT, 1, device.observe.unwrap())
        .observe(1)
        .payload(frame.to_vec())
        .build();
    for (pause_s, served) in [(0, 1), (30, 0), (16, 1), (46, 1)] {
        world.pass_s(pause_s);
        device.receive(&mut world);
        world.datagram(device.at, &asks);
        let frames = device.frames(&mut world);
        assert_eq!(frames.len(), served, "after {pause_s} s");
    }
}

#[test]
fn what_is_sent_with_the_same_message_later_is_taken_again() {
    let (mut world, device) = registered(&[]);
    world.take_changes();
    let coverage = r#"[{"bn":"/4/0/","n":"2","v":-95},{"n":"8","v":51234},{"n":"11","v":7}]"#;
    let sends = MessageBuilder::new(Kind::Confirmable, Code::POST, 1, Token::new(b"s"))
        .path("dp")
        .content_format(ContentFormat(110))
        .payload(coverage.into())
        .build();
    for (pause_s, taken) in [(0, 1), (44, 0), (2, 1)] {
        world.pass_s(pause_s);
        assert_eq!(code_of_answer(&mut world, device.at, &sends), Code::CHANGED);
        assert_eq!(world.take_changes().len(), taken, "after {pause_s} s");
    }
}

#[test]
fn a_registration_that_comes_again_later_is_a_new_one() {
    let (mut world, device) = registered(&[]);
    let register = request(Code::POST, 7, &["rd"], &["ep=meter-1".into()]);
    let mut locations = Vec::new();
    // nothing else is heard of it in between
    for pause_s in [0, 40, 5, 45] {
        world.pass_s(pause_s);
        world.take_sent();
        world.datagram(device.at, &register);
        let sent = world.take_sent();
        let (_, created) = sent
            .iter()
            .find(|(_, m)| m.code() == Code::CREATED)
            .unwrap();
        locations.push(created.location().last().unwrap().to_vec());
        // a new one is observed anew
        let observed = sent.iter().any(|(_, m)| m.observe() == Some(0));
        assert_eq!(observed, pause_s != 40, "{sent:?}");
        for (_, observe) in sent.iter().filter(|(_, m)| m.observe() == Some(0)) {
            world.datagram(device.at, &response(observe, Code::CONTENT).build());
        }
    }
    assert_eq!(locations[0], locations[1]);
    assert_ne!(locations[1], locations[2]);
    assert_ne!(locations[2], locations[3]);
}

#[test]
fn a_deregistration_that_comes_again_is_answered_as_the_first_time() {
    for kind in [Kind::Confirmable, Kind::NonConfirmable] {
        let (mut world, mut device) = registered(&[]);
        let deregister = MessageBuilder::new(kind, Code::DELETE, 7, Token::new(b"d"))
            .path("rd")
            .path(&device.location)
            .build();
        let answer = |world: &mut World, from: Peer| {
            world.datagram(from, &deregister);
            let sent = world.take_sent();
            assert_eq!(sent.len(), 1, "{sent:?}");
            (sent[0].1.code(), sent[0].1.message_id())
        };
        let first = answer(&mut world, device.at);
        assert_eq!(first.0, Code::DELETED);
        world.take_changes();
        for _ in 0..2 {
            world.pass_s(120);
            assert_eq!(answer(&mut world, device.at), first);
        }
        assert_eq!(world.take_changes(), []);
        // another message is another
        let path = ["rd", device.location.as_str()];
        let other = request(Code::DELETE, 8, &path, &[]);
        assert_eq!(
            code_of_answer(&mut world, device.at, &other),
            Code::NOT_FOUND
        );
        world.pass_s(10);
        assert_eq!(answer(&mut world, device.at).0, Code::NOT_FOUND);
        // and it does not end the next registration
        device.register(&mut world);
        device.receive(&mut world);
        assert_eq!(answer(&mut world, device.at).0, Code::NOT_FOUND);
        let key = world.engine.find("meter-1").unwrap();
        assert!(world.engine.device(key).registration.is_some());
    }
}

#[test]
fn nobody_else_is_told_of_a_deregistration() {
    let mut world = World::new();
    let at = |port| Peer::secured(SocketAddr::from(([10, 0, 0, 1], port)));
    let say = |world: &mut World, port, name: &str, bytes: &[u8]| {
        let endpoints = [name.into()];
        let speaker = Speaker::new(at(port), &endpoints);
        world.engine.handle_datagram(world.now, &speaker, bytes);
        world.collect();
        let sent = world.take_sent();
        let answer = sent
            .iter()
            .find(|(to, m)| *to == at(port) && m.kind() == Kind::Acknowledgement);
        let (_, answer) = answer.expect("is answered");
        let location = answer
            .location()
            .last()
            .map(|l| String::from_utf8_lossy(l).into_owned());
        (answer.code(), location)
    };
    for endpoint in ["a", "b"] {
        world.command(Command::AddDevice {
            endpoint: endpoint.into(),
            product: "meter".into(),
            secure: true,
            protocol: crate::ledger::Protocol::Lwm2m,
            via: crate::ledger::Via::Itself,
        });
    }
    let register = request(Code::POST, 1, &["rd"], &["ep=a".into()]);
    let (_, location) = say(&mut world, 1, "a", &register);
    let deregister = request(Code::DELETE, 2, &["rd", &location.unwrap()], &[]);
    assert_eq!(say(&mut world, 1, "a", &deregister).0, Code::DELETED);
    assert_eq!(say(&mut world, 2, "b", &deregister).0, Code::NOT_FOUND);
    assert_eq!(say(&mut world, 3, "a", &deregister).0, Code::DELETED);
}

//! Devices behind gateways: one association speaks for them all.

use super::*;
use crate::{
    coap::Token,
    ledger::{Protocol, Via},
};

const GATEWAY: &str = "gw";

/// The gateway's association at that port.
fn at(port: u16) -> Peer {
    Peer::secured(SocketAddr::from(([10, 0, 0, 7], port)))
}

/// The operator says through whom a device is reached.
fn is_reached(world: &mut World, endpoint: &str, via: Option<&str>) {
    let via = via.map_or(Via::Itself, |name| Via::Gateway(Some(name.to_owned())));
    world.command(Command::AddDevice {
        endpoint: endpoint.into(),
        product: "meter".into(),
        secure: true,
        protocol: Protocol::Lwm2m,
        via,
    });
}

/// A gateway with children; whoever speaks is the gateway, unless it is said otherwise.
fn world(children: &[&str]) -> World {
    let mut world = World::new();
    speaks_as(&mut world, GATEWAY);
    is_reached(&mut world, GATEWAY, None);
    for child in children {
        is_reached(&mut world, child, Some(GATEWAY));
    }
    world
}

fn speaks_as(world: &mut World, endpoint: &str) {
    world.speaker = Some((vec![endpoint.into()], None));
}

fn child(name: &str) -> Script {
    let mut script = Script::new(name, 1);
    script.at = at(1);
    if name != GATEWAY {
        script.links =
            format!("</{name}>;rt=\"oma.lwm2m\",</{name}/4/0>,</{name}/19/0>,</{name}/19/1>")
                .leak();
    }
    script
}

/// Takes what is sent to the gateway's address. It acknowledges writes and observations.
fn forwards(world: &mut World) -> Vec<Message<'static>> {
    let mut all = Vec::new();
    while let Some((to, message)) = world.sent.pop_front() {
        assert_eq!(to, at(1));
        if message.kind() == Kind::Confirmable && message.code() != Code::EMPTY {
            let observes = message.observe() == Some(0);
            let code = if observes {
                Code::CONTENT
            } else {
                Code::CHANGED
            };
            let answer = response(&message, code);
            let answer = if observes { answer.observe(1) } else { answer };
            if message.code() == Code::PUT || observes {
                world.datagram(at(1), &answer.build());
            }
        }
        all.push(message);
    }
    all
}

fn token_of(endpoint: &str) -> Token {
    observation::Observation::of_uplink(ids().of(endpoint)).token()
}

#[test]
fn a_gateway_registers_those_that_are_behind_it_and_nobody_else() {
    let mut world = world(&["c1", "c2"]);
    is_reached(&mut world, "c3", Some("gw-2"));
    is_reached(&mut world, "alone", None);
    assert_eq!(child("c1").register(&mut world), Code::CREATED);
    assert_eq!(child(GATEWAY).register(&mut world), Code::CREATED);
    assert_eq!(child("c2").register(&mut world), Code::CREATED);
    for other in ["c3", "alone", "nobody"] {
        assert_eq!(
            child(other).register(&mut world),
            Code::FORBIDDEN,
            "{other}"
        );
    }
    assert_eq!(world.engine.counters().impostors, 3);
    // a child is not its gateway, nor does it speak for its siblings
    speaks_as(&mut world, "c1");
    for other in [GATEWAY, "c2"] {
        assert_eq!(
            child(other).register(&mut world),
            Code::FORBIDDEN,
            "{other}"
        );
    }
    // nor is any of it to be said where nothing is encrypted
    world.speaker = None;
    let mut plain = Script::new("c1", 5);
    assert_eq!(plain.register(&mut world), Code::FORBIDDEN);
}

#[test]
fn each_has_its_objects_at_a_path_of_its_own() {
    let mut world = world(&["c1", "c2"]);
    let mut first = child("c1");
    for links in ["", "</>;rt=\"oma.lwm2m\",</19/0>"] {
        first.links = links;
        assert_eq!(first.register(&mut world), Code::BAD_REQUEST);
    }
    let mut first = child("c1");
    assert_eq!(first.register(&mut world), Code::CREATED);
    let mut second = child("c2");
    second.links = first.links;
    assert_eq!(second.register(&mut world), Code::BAD_REQUEST);
    let mut second = child("c2");
    assert_eq!(second.register(&mut world), Code::CREATED);
    // its own again
    assert_eq!(first.register(&mut world), Code::CREATED);
    let sent = world.take_sent();
    let observes = sent.iter().find(|(_, it)| it.observe() == Some(0)).unwrap();
    assert_eq!(observes.1.path(), [b"c1", &b"19"[..], b"0", b"0"]);
    // an association of its own has the whole address
    speaks_as(&mut world, "c2");
    let mut alone = child("c2");
    alone.links = "";
    alone.at = at(5);
    assert_eq!(alone.register(&mut world), Code::CREATED);
}

#[test]
fn lists_of_objects_that_come_in_blocks_are_each_devices_own() {
    let mut world = world(&["c1", "c2"]);
    let names = ["c1", "c2"];
    let links = names.map(|name| child(name).links.as_bytes());
    let send = |world: &mut World, id: u16, to: (&[&str], Option<&str>), links: &[u8], number| {
        let size = 16;
        let start = number * size;
        let end = links.len().min(start + size);
        let block = crate::coap::Block {
            number: u32::try_from(number).unwrap(),
            more: end < links.len(),
            szx: 0,
        };
        let token = Token::new(&id.to_be_bytes());
        let mut request = MessageBuilder::new(Kind::Confirmable, Code::POST, id, token);
        for segment in to.0 {
            request = request.path(segment);
        }
        if let Some(name) = to.1 {
            request = request.query(&format!("ep={name}"));
        }
        let request = request
            .block1(block.encode())
            .payload(links[start..end].to_vec());
        world.datagram(at(1), &request.build());
        let sent = world.take_sent();
        let answer = sent.iter().find(|(_, it)| it.message_id() == id);
        let (_, answer) = answer.expect("is answered");
        (answer.code(), answer.location().concat())
    };
    let blocks = links[0].len().div_ceil(16);
    assert!(blocks > 2 && links[1].len().div_ceil(16) == blocks);
    let mut id = 100;
    let mut locations = Vec::new();
    for number in 0..blocks {
        for (name, links) in names.iter().zip(links) {
            id += 1;
            let to = (&["rd"][..], Some(*name));
            let (code, location) = send(&mut world, id, to, links, number);
            let last = number + 1 == blocks;
            let expected = if last { Code::CREATED } else { Code::CONTINUE };
            assert_eq!(code, expected, "{name} {number}");
            locations.extend(last.then(|| location[2..].to_vec()));
        }
    }
    for name in names {
        let key = world.engine.find(name).unwrap();
        let root = format!("/{name}");
        assert_eq!(world.engine.device(key).root_path(), Some(&*root));
    }
    // so are those of updates
    for number in 0..blocks {
        for (location, links) in locations.iter().zip(links) {
            id += 1;
            let location = std::str::from_utf8(location).unwrap();
            let to = (&["rd", location][..], None);
            let (code, _) = send(&mut world, id, to, links, number);
            let last = number + 1 == blocks;
            let expected = if last { Code::CHANGED } else { Code::CONTINUE };
            assert_eq!(code, expected, "{location} {number}");
        }
    }
}

#[test]
fn two_are_upgraded_at_once_over_the_gateways_association() {
    let mut world = world(&["c1", "c2"]);
    let mut gateway = child(GATEWAY);
    assert_eq!(gateway.register(&mut world), Code::CREATED);
    let mut children = [child("c1"), child("c2")];
    for child in &mut children {
        assert_eq!(child.register(&mut world), Code::CREATED);
        child.observe = Some(token_of(&child.endpoint));
        forwards(&mut world);
    }
    let package = package("V2", &content());
    world.start("c1", 1, &package);
    world.start("c2", 2, &package);
    world.pass_s(5);
    forwards(&mut world);
    for child in &children {
        child.says_version(&mut world, "V1");
        let sent = forwards(&mut world);
        let read = sent
            .iter()
            .find(|it| it.code() == Code::GET && it.observe().is_none());
        let cell = if child.endpoint == "c1" { 7 } else { 8 };
        child.answer_read(
            &mut world,
            read.expect("is asked for its coverage"),
            cell,
            -90,
            15,
        );
    }
    world.pass_s(5);
    forwards(&mut world);
    for segment in 0..10 {
        for child in &children {
            child.asks_segment(&mut world, "V2", segment);
            let sent = forwards(&mut world);
            let frames: Vec<Vec<u8>> = (sent.iter())
                .filter(|it| it.code() == Code::PUT)
                .map(|it| it.payload().to_vec())
                .collect();
            assert!(
                matches!(decoded(&frames)[..], [PlatformMessage::SegmentResponse { segment: Some(it), .. }] if it == segment),
                "{frames:?}"
            );
        }
    }
    for child in &children {
        let status = ResultCode::SUCCESS;
        child.say(&mut world, &DeviceMessage::DownloadReport { status });
        forwards(&mut world);
        let (result, version) = (ResultCode::SUCCESS, version("V2"));
        child.say(
            &mut world,
            &DeviceMessage::UpgradeReport { result, version },
        );
        forwards(&mut world);
    }
    for upgrade in [1, 2] {
        assert!(
            matches!(world.outcome(upgrade), Some(Outcome::Succeeded(_))),
            "{upgrade}"
        );
    }
}

#[test]
fn their_requests_leave_one_by_one_and_have_message_ids_of_one_sequence() {
    let mut world = world(&["c1", "c2", "c3"]);
    assert_eq!(child(GATEWAY).register(&mut world), Code::CREATED);
    for name in ["c1", "c2", "c3"] {
        assert_eq!(child(name).register(&mut world), Code::CREATED);
    }
    // each is to be observed, and nothing is answered
    let first = world.take_sent();
    let [(_, first)] = &first[..] else {
        panic!("one at a time: {first:?}");
    };
    let mut ids = vec![first.message_id()];
    let mut tokens = vec![first.token()];
    let mut answered = *first;
    for _ in 0..3 {
        let answer = response(&answered, Code::CONTENT).observe(1);
        world.datagram(at(1), &answer.build());
        let sent = world.take_sent();
        let [(_, next)] = &sent[..] else {
            panic!("the next one: {sent:?}");
        };
        ids.push(next.message_id());
        tokens.push(next.token());
        answered = *next;
    }
    assert_eq!(tokens, [GATEWAY, "c1", "c2", "c3"].map(token_of));
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4);
    // one for a device that its gateway does not reach holds up nobody for long
    assert_eq!(child("c1").register(&mut world), Code::CREATED);
    let mut sent = world.take_sent();
    assert_eq!(child("c2").register(&mut world), Code::CREATED);
    sent.append(&mut world.take_sent());
    assert!(sent.iter().all(|(_, it)| it.token() != token_of("c2")));
    world.pass_s(60);
    let sent = world.take_sent();
    assert!(
        sent.iter().any(|(_, it)| it.token() == token_of("c2")),
        "{sent:?}"
    );
}

#[test]
fn a_child_updates_and_deregisters_over_any_association_of_its_gateway() {
    let mut world = world(&["c1"]);
    let mut child = child("c1");
    assert_eq!(child.register(&mut world), Code::CREATED);
    world.take_sent();
    child.at = at(2);
    child.update(&mut world);
    let sent = world.take_sent();
    assert!(
        sent.iter()
            .any(|(to, it)| *to == at(2) && it.code() == Code::CHANGED),
        "{sent:?}"
    );
    // another gateway's
    speaks_as(&mut world, "gw-2");
    child.at = at(3);
    child.update(&mut world);
    let sent = world.take_sent();
    assert!(
        sent.iter().all(|(_, it)| it.code() == Code::FORBIDDEN),
        "{sent:?}"
    );
    speaks_as(&mut world, GATEWAY);
    let id = world.next_id;
    let goodbye = request(Code::DELETE, id, &["rd", &child.location], &[]);
    world.datagram(at(2), &goodbye);
    world.datagram(at(2), &goodbye);
    let codes: Vec<Code> = world.take_sent().iter().map(|(_, it)| it.code()).collect();
    assert_eq!(
        codes,
        [Code::DELETED, Code::DELETED],
        "and its repeat is recognised"
    );
}

#[test]
fn a_child_that_has_another_gateway_is_heard_over_the_first_no_more() {
    let mut world = world(&["c1"]);
    let mut child = child("c1");
    assert_eq!(child.register(&mut world), Code::CREATED);
    child.observe = Some(token_of("c1"));
    world.take_sent();
    world.take_changes();
    is_reached(&mut world, "c1", Some("gw-2"));
    let ended =
        |it: &Change| matches!(it, Change::Deregistered { endpoint, .. } if endpoint == "c1");
    assert!(world.changes.iter().any(ended));
    child.notify(&mut world, b"data");
    child.update(&mut world);
    let sent = world.take_sent();
    let told: Vec<(Kind, Code)> = sent.iter().map(|(_, it)| (it.kind(), it.code())).collect();
    assert_eq!(told[0].0, Kind::Reset);
    assert_eq!(told[1].1, Code::NOT_FOUND);
    assert_eq!(child.register(&mut world), Code::FORBIDDEN);
    // nothing more is sent to it there
    world.start("c1", 1, &package("V2", &content()));
    world.pass_s(600);
    assert!(world.take_sent().is_empty());
    speaks_as(&mut world, "gw-2");
    child.at = at(9);
    assert_eq!(child.register(&mut world), Code::CREATED);
    let sent = world.take_sent();
    assert!(sent.iter().all(|(to, _)| *to == at(9)));
}

#[test]
fn children_move_with_their_gateways_association() {
    let mut world = world(&["c1"]);
    let mut gateway = child(GATEWAY);
    assert_eq!(gateway.register(&mut world), Code::CREATED);
    assert_eq!(child("c1").register(&mut world), Code::CREATED);
    forwards(&mut world);
    world.collect();
    world.take_sent();
    let shown = [GATEWAY.into()];
    let speaker = Speaker::new(at(2), &shown);
    world.engine.association_moved(world.now, at(1), &speaker);
    world.collect();
    world.start("c1", 1, &package("V2", &content()));
    world.pass_s(5);
    let sent = world.take_sent();
    assert!(!sent.is_empty() && sent.iter().all(|(to, _)| *to == at(2)));
}

#[test]
fn children_are_where_their_gateway_is() {
    let mut world = world(&["c1"]);
    let mut gateway = child(GATEWAY);
    assert_eq!(gateway.register(&mut world), Code::CREATED);
    assert_eq!(child("c1").register(&mut world), Code::CREATED);
    forwards(&mut world);
    // its association ends: nothing reaches them
    world.engine.association_ended(world.now, at(1));
    world.collect();
    world.start("c1", 1, &package("V2", &content()));
    world.pass_s(30);
    assert!(world.take_sent().is_empty());
    // it is heard over another one, and they are reached there
    gateway.at = at(2);
    gateway.update(&mut world);
    let sent = world.take_sent();
    assert!(sent.iter().all(|(to, _)| *to == at(2)));
    let key = world.engine.find("c1").unwrap();
    assert_eq!(world.engine.device(key).peer(), Some(at(2)));
    // somebody else is there: they are not
    speaks_as(&mut world, "stranger");
    world.datagram(at(2), &request(Code::GET, 900, &["x"], &[]));
    world.take_sent();
    world.pass_s(300);
    assert!(world.take_sent().is_empty());
}

#[test]
fn they_follow_their_gateway_to_another_engine() {
    let mut here = world(&["c1", "c2"]);
    let mut there = World::new();
    speaks_as(&mut there, GATEWAY);
    there.elsewhere = [GATEWAY, "c1", "c2"].map(|name| ids().of(name)).to_vec();
    there.next_id = 700;
    let mut gateway = child(GATEWAY);
    assert_eq!(gateway.register(&mut here), Code::CREATED);
    // one was heard through it, and one was not
    assert_eq!(child("c1").register(&mut here), Code::CREATED);
    forwards(&mut here);
    gateway.at = at(2);
    gateway.update(&mut there);
    let first = super::moves::find(&mut here, &mut there);
    assert!(matches!(first[..], [Whose::Theirs(_)]));
    let then = super::moves::find(&mut here, &mut there);
    assert!(matches!(then[..], [Whose::Theirs(_)]), "{then:?}");
    assert_eq!(there.engine.population().0, 2);
    assert_eq!(
        here.engine.population().0,
        1,
        "the other one has nothing there"
    );
    there.take_sent();
    there.start("c1", 1, &package("V2", &content()));
    assert_eq!(here.engine.tables().peers, 0);
}

#[test]
fn a_gateways_handshake_is_no_restart_of_a_child() {
    let mut world = world(&["c1"]);
    let mut child = child("c1");
    assert_eq!(child.register(&mut world), Code::CREATED);
    child.observe = Some(token_of("c1"));
    forwards(&mut world);
    world.start("c1", 1, &package("V2", &content()));
    world.pass_s(5);
    forwards(&mut world);
    child.says_version(&mut world, "V1");
    let sent = forwards(&mut world);
    let read = sent.iter().find(|it| it.code() == Code::GET).unwrap();
    child.answer_read(&mut world, read, 7, -90, 15);
    world.pass_s(5);
    forwards(&mut world);
    child.asks_segment(&mut world, "V2", 0);
    forwards(&mut world);
    world.take_changes();
    world.pass_s(1);
    world.speaker = Some((vec![GATEWAY.into()], Some(world.now.instant)));
    child.asks_segment(&mut world, "V2", 1);
    let evidence = |it: &Change| matches!(it, Change::Evidence { .. });
    assert!(!world.changes.iter().any(evidence), "{:?}", world.changes);
}

#[test]
fn after_a_restart_of_the_server_they_are_heard_over_the_new_association() {
    let mut before = world(&["c1"]);
    let mut child = child("c1");
    assert_eq!(child.register(&mut before), Code::CREATED);
    let registered = before.changes.iter().rev().find_map(|it| match it {
        Change::Registered { registration, .. } => Some(registration.clone()),
        _ => None,
    });
    let mut after = World::begun(Config::default(), before.now + Duration::from_mins(1));
    speaks_as(&mut after, GATEWAY);
    after.command(Command::Restore(vec![DeviceRecord {
        endpoint: "c1".into(),
        product: "meter".into(),
        protocol: Protocol::Lwm2m,
        via: Via::Gateway(Some(GATEWAY.to_owned())),
        secure: true,
        registration: registered,
        last_heard_at: None,
        coverage: None,
        version: None,
        evidence: Vec::new(),
        wake_ups: None,
        appointment: None,
    }]));
    after.command(Command::Restored);
    child.at = at(4);
    child.update(&mut after);
    let sent = after.take_sent();
    assert!(
        sent.iter()
            .any(|(to, it)| *to == at(4) && it.code() == Code::CHANGED),
        "{sent:?}"
    );
}

/// A child over an association of its own, with its objects there.
fn alone(world: &mut World, name: &str, links: &'static str) -> Script {
    let mut child = child(name);
    child.links = links;
    child.at = at(5);
    child.observe = Some(token_of(name));
    speaks_as(world, name);
    assert_eq!(child.register(world), Code::CREATED);
    for (to, message) in world.take_sent() {
        if to == at(5) && message.observe() == Some(0) {
            let answer = response(&message, Code::CONTENT).observe(1);
            world.datagram(at(5), &answer.build());
        }
    }
    child
}

#[test]
fn a_child_without_a_path_of_its_own_is_not_reached_through_its_gateway_later_either() {
    const AT_A: &str = "</a>;rt=\"oma.lwm2m\",</a/4/0>,</a/19/0>,</a/19/1>";
    // one has its objects at the root, and one where those of a sibling are behind the gateway
    for links in ["", AT_A] {
        let mut world = world(&["c1", "c2"]);
        assert_eq!(child(GATEWAY).register(&mut world), Code::CREATED);
        let mut sibling = child("c2");
        sibling.links = AT_A;
        assert_eq!(sibling.register(&mut world), Code::CREATED);
        let mut moving = alone(&mut world, "c1", links);
        speaks_as(&mut world, GATEWAY);
        moving.at = at(1);
        world.take_sent();
        let ignored = world.engine.counters().requests_ignored;
        moving.notify(&mut world, b"data");
        assert_eq!(world.engine.counters().requests_ignored, ignored + 1);
        moving.update(&mut world);
        let sent = world.take_sent();
        let codes: Vec<Code> = (sent.iter().map(|(_, it)| it.code()))
            .filter(|code| *code != Code::GET)
            .collect();
        assert_eq!(codes, [Code::BAD_REQUEST], "{sent:?}");
        // what is meant for it reaches nobody else
        world.start("c1", 1, &package("V2", &content()));
        world.pass_s(120);
        let sent = world.take_sent();
        let theirs = |it: &Message| it.code() == Code::PUT;
        assert!(
            sent.iter().all(|(to, it)| *to == at(5) || !theirs(it)),
            "{sent:?}"
        );
        assert!(
            sent.iter().any(|(to, it)| *to == at(5) && theirs(it)),
            "{sent:?}"
        );
    }
}

#[test]
fn after_a_restart_nobody_speaks_in_the_clear_for_a_child_of_a_gateway() {
    let mut before = world(&[]);
    let reached = |world: &mut World| {
        world.command(Command::AddDevice {
            endpoint: "c1".into(),
            product: "meter".into(),
            secure: false,
            protocol: Protocol::Lwm2m,
            via: Via::Gateway(Some(GATEWAY.to_owned())),
        });
    };
    reached(&mut before);
    let mut child = child("c1");
    assert_eq!(child.register(&mut before), Code::CREATED);
    let registered = before.changes.iter().rev().find_map(|it| match it {
        Change::Registered { registration, .. } => Some(registration.clone()),
        _ => None,
    });
    let mut after = World::begun(Config::default(), before.now + Duration::from_mins(1));
    after.command(Command::Restore(vec![DeviceRecord {
        endpoint: "c1".into(),
        product: "meter".into(),
        protocol: Protocol::Lwm2m,
        via: Via::Gateway(Some(GATEWAY.to_owned())),
        secure: false,
        registration: registered,
        last_heard_at: None,
        coverage: None,
        version: None,
        evidence: Vec::new(),
        wake_ups: None,
        appointment: None,
    }]));
    after.command(Command::Restored);
    let mut plain = Script::new("c1", 5);
    assert_eq!(plain.register(&mut after), Code::FORBIDDEN);
    plain.location = child.location.clone();
    plain.update(&mut after);
    let codes: Vec<Code> = after.take_sent().iter().map(|(_, it)| it.code()).collect();
    assert_eq!(codes, [Code::FORBIDDEN]);
    // its gateway does
    speaks_as(&mut after, GATEWAY);
    assert_eq!(child.register(&mut after), Code::CREATED);
}

#[test]
fn message_ids_go_on_where_the_last_child_has_left_and_comes_again() {
    let mut world = world(&["c1"]);
    let mut child = child("c1");
    let mut ids = Vec::new();
    for _ in 0..5 {
        assert_eq!(child.register(&mut world), Code::CREATED);
        let sent = forwards(&mut world);
        let requests = sent.iter().filter(|it| it.code() == Code::GET);
        ids.extend(requests.map(Message::message_id));
        let goodbye = request(Code::DELETE, world.next_id, &["rd", &child.location], &[]);
        world.next_id += 1;
        world.datagram(at(1), &goodbye);
        forwards(&mut world);
    }
    assert_eq!(ids.len(), 5);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 5, "{ids:?}");
}

#[test]
fn others_have_their_turn_when_the_one_that_speaks_leaves_for_an_association_of_its_own() {
    for registers in [true, false] {
        let mut world = world(&["c1", "c2"]);
        let mut first = child("c1");
        assert_eq!(first.register(&mut world), Code::CREATED);
        assert_eq!(child("c2").register(&mut world), Code::CREATED);
        let is_for = |sent: &[(Peer, Message)], name: &str| {
            sent.iter()
                .any(|(to, it)| *to == at(1) && it.token() == token_of(name))
        };
        let sent = world.take_sent();
        assert!(is_for(&sent, "c1") && !is_for(&sent, "c2"), "{sent:?}");
        speaks_as(&mut world, "c1");
        first.at = at(5);
        if registers {
            first.links = "";
            assert_eq!(first.register(&mut world), Code::CREATED);
        } else {
            first.update(&mut world);
        }
        let sent = world.take_sent();
        assert!(is_for(&sent, "c2"), "{sent:?}");
    }
}

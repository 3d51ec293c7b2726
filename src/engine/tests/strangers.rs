//! Senders of whom nothing is known: what is sent to an address that may be false, and what a flood costs the others.

use super::*;

/// The bytes that went to an address, and how many observations were among them.
fn sent_to(world: &mut World, peer: Peer) -> (usize, usize) {
    let to = world.sizes.iter().filter(|(to, _)| *to == peer);
    let bytes = to.map(|(_, len)| len).sum();
    let sent = world.take_sent();
    let observations = (sent.iter())
        .filter(|(to, _)| *to == peer)
        .filter(|(_, message)| message.code() == Code::GET && message.observe() == Some(0));
    (bytes, observations.count())
}

fn registration(endpoint: &str) -> Vec<u8> {
    let mut datagram = request(
        Code::POST,
        100,
        &["rd"],
        &[format!("ep={endpoint}"), "lt=86400".into()],
    );
    datagram.push(0xFF);
    datagram.extend_from_slice(b"</1/0>,</3/0>,</4/0>,</5/0>,</19/0>,</19/1>");
    datagram
}

fn open() -> Config {
    let mut config = Config::default();
    config.lwm2m.registration = RegistrationPolicy::Open;
    config
}

#[test]
fn who_answers_nothing_is_asked_once_and_sent_no_more_than_three_times_what_came() {
    for (mut world, endpoint) in [(World::new(), "meter-1"), (World::with(open()), "anybody")] {
        world.add("meter-1");
        let datagram = registration(endpoint);
        world.datagram(peer(1), &datagram);
        world.pass_s(7_200);
        let (bytes, observations) = sent_to(&mut world, peer(1));
        assert_eq!(observations, 1, "{endpoint}");
        assert!(bytes <= 3 * datagram.len(), "{bytes} {}", datagram.len());
    }
}

#[test]
fn a_tiny_registration_gets_less_than_an_observation() {
    let mut world = World::new();
    world.add("a");
    let datagram = request(Code::POST, 100, &["rd"], &["ep=a".into()]);
    world.datagram(peer(1), &datagram);
    let (bytes, _) = sent_to(&mut world, peer(1));
    assert!(bytes <= 3 * datagram.len(), "{bytes} {}", datagram.len());
}

#[test]
fn an_upgrade_that_waits_asks_again_within_the_bound() {
    let mut world = World::new();
    world.add("meter-1");
    world.start("meter-1", 1, &package("V2", &content()));
    let datagram = registration("meter-1");
    world.datagram(peer(1), &datagram);
    world.pass_s(7_200);
    let (bytes, observations) = sent_to(&mut world, peer(1));
    assert!(observations > 1, "an honest device may have missed it");
    assert!(bytes <= 3 * datagram.len(), "{bytes} {}", datagram.len());
}

#[test]
fn who_has_answered_once_is_asked_again_also_after_it_has_registered_anew() {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    world.add("meter-1");
    device.register(&mut world);
    device.receive(&mut world); // answers the observation
    device.register(&mut world);
    world.pass_s(600);
    let (_, observations) = sent_to(&mut world, peer(1));
    assert_eq!(observations, 3, "max_retransmit is 2");
    // but not elsewhere
    device.at = peer(2);
    device.register(&mut world);
    world.pass_s(600);
    assert_eq!(sent_to(&mut world, peer(2)).1, 1);
}

#[test]
fn who_came_by_itself_and_never_answered_is_not_kept_for_its_whole_lifetime() {
    let mut world = World::with(open());
    let mut silent = Script::new("silent", 1);
    let mut honest = Script::new("honest", 2);
    let mut updates = Script::new("updates", 3);
    for device in [&mut silent, &mut honest, &mut updates] {
        device.register(&mut world);
    }
    honest.receive(&mut world);
    updates.update(&mut world);
    world.changes.clear();
    world.pass_s(3 * 3_600);
    let ended: Vec<&str> = (world.changes.iter())
        .filter_map(|change| match change {
            Change::Deregistered { endpoint, .. } => Some(endpoint.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(ended, ["silent"]);
    world.pass_s(86_400);
    assert_eq!(world.engine.counters().registrations_expired, 3);
}

#[test]
fn newcomers_are_put_off_when_too_many_have_come() {
    let mut world = World::with(open());
    world.add("added");
    let code =
        |world: &mut World, endpoint: &str, port| Script::new(endpoint, port).register(world);
    assert_eq!(code(&mut world, "a", 1), Code::CREATED);
    world.too_many_come = true;
    assert_eq!(code(&mut world, "c", 3), Code::SERVICE_UNAVAILABLE);
    // who is known may come all the same
    assert_eq!(code(&mut world, "added", 4), Code::CREATED);
    assert_eq!(code(&mut world, "a", 5), Code::CREATED);
    assert_eq!(world.engine.counters().newcomers_put_off, 1);
    world.too_many_come = false;
    assert_eq!(code(&mut world, "c", 3), Code::CREATED);
}

#[test]
fn a_store_that_does_not_keep_up_puts_newcomers_off_and_then_everybody() {
    let mut world = World::with(open());
    for number in 0..19_000 {
        world.add(&format!("meter-{number}"));
    }
    world.stalled = true;
    let mut register = |number: u32| {
        let mut datagram = registration(&format!("meter-{number}"));
        datagram[2..4].copy_from_slice(&number.to_be_bytes()[2..]);
        let from = SocketAddr::from((number.to_be_bytes(), 5683));
        world.datagram(from.into(), &datagram);
        let sent = world.take_sent();
        (sent[0].1.code(), world.changes.len())
    };
    let (mut newcomers_until, mut known_until) = (None, None);
    for number in 0..19_000 {
        let (code, changes) = register(number);
        if code == Code::SERVICE_UNAVAILABLE {
            known_until = Some(changes);
            break;
        }
        if number % 100 == 0 && newcomers_until.is_none() {
            let (code, changes) = register(100_000 + number);
            newcomers_until = (code == Code::SERVICE_UNAVAILABLE).then_some(changes);
        }
    }
    assert!(newcomers_until.is_some_and(|changes| (2_000..2_200).contains(&changes)));
    assert_eq!(known_until, None, "so few changes are not too many");
    // an update that changes something, again and again
    let changes = world.changes.len();
    for number in 0..19_000u32 {
        let mut datagram = registration(&format!("meter-{number}"));
        datagram[2..4].copy_from_slice(&number.to_be_bytes()[2..]);
        let from = SocketAddr::from(((1_000_000 + number).to_be_bytes(), 5683));
        world.datagram(from.into(), &datagram);
        if world.take_sent()[0].1.code() == Code::SERVICE_UNAVAILABLE {
            known_until = Some(world.changes.len());
            break;
        }
    }
    assert!(
        known_until.is_some_and(|changes| (20_000..20_010).contains(&changes)),
        "{changes} {known_until:?}"
    );
    // once it has caught up all is as before
    world.stalled = false;
    world.pass_s(1);
    world.collect();
    let back = registration("meter-18999");
    world.datagram(peer(7), &back);
    assert_eq!(world.take_sent()[0].1.code(), Code::CREATED);
}

#[test]
fn a_repeat_of_what_waits_for_the_store_is_not_answered_twice() {
    let mut world = World::new();
    world.add("meter-1");
    world.stalled = true;
    let datagram = registration("meter-1");
    for _ in 0..50 {
        world.datagram(peer(1), &datagram);
    }
    let answers = (world.take_sent().iter())
        .filter(|(_, sent)| sent.code() == Code::CREATED)
        .count();
    assert_eq!(answers, 1);
    world.stalled = false;
    world.collect();
    world.datagram(peer(1), &datagram);
    assert_eq!(world.take_sent()[0].1.code(), Code::CREATED);
}

#[test]
fn strangers_who_register_as_a_device_do_not_use_up_what_it_may_say() {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    world.add("meter-1");
    device.register(&mut world);
    device.receive(&mut world);
    let mut registered = 0;
    let mut answered = 0;
    for number in 0..300u16 {
        let mut datagram = registration("meter-1");
        datagram[2..4].copy_from_slice(&(1_000 + number).to_be_bytes());
        world.datagram(peer(2_000 + number), &datagram);
        let codes = world.take_sent().into_iter().map(|(_, sent)| sent.code());
        registered += codes.filter(|code| *code == Code::CREATED).count();
        // the device says again who it is, and is heard
        if number % 30 == 0 {
            let code = device.register(&mut world);
            device.receive(&mut world);
            answered += usize::from(code == Code::CREATED);
        }
        world.pass(Duration::from_millis(100));
    }
    assert!(registered <= 10 + 30, "{registered}");
    assert_eq!(answered, 10);
}

#[test]
fn a_last_block_that_was_left_alone_may_come_again() {
    let mut world = World::new();
    world.add("meter-1");
    let part = |number: u32, more: bool, id: u16| {
        let block = crate::coap::Block {
            number,
            more,
            szx: 0,
        };
        MessageBuilder::new(
            Kind::Confirmable,
            Code::POST,
            id,
            crate::coap::Token::new(&[1]),
        )
        .path("rd")
        .query("ep=meter-1")
        .block1(block.encode())
        .payload(if more {
            b"</1/0>,</3/0>,</".to_vec()
        } else {
            b"19/0>".to_vec()
        })
        .build()
    };
    world.datagram(peer(1), &part(0, true, 1));
    for number in 0..10 {
        let mut datagram = registration("meter-1");
        datagram[3] = number;
        world.datagram(peer(100 + u16::from(number)), &datagram);
    }
    world.take_sent();
    world.datagram(peer(1), &part(1, false, 2));
    assert!(
        world.take_sent().is_empty(),
        "too many have registered as it"
    );
    world.pass_s(20);
    world.take_sent();
    world.datagram(peer(1), &part(1, false, 2));
    assert_eq!(world.take_sent()[0].1.code(), Code::CREATED);
}

#[test]
fn who_was_asked_once_only_is_not_taken_for_silent() {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    world.add("meter-1");
    device.register(&mut world);
    world.take_sent(); // the observation is lost
    world.pass_s(3_600);
    world.take_sent();
    // always on, and asked when there is a reason
    world.start("meter-1", 1, &package("V2", &content()));
    world.pass_s(60);
    assert!(world.take_sent().iter().any(|(to, _)| *to == peer(1)));
}

#[test]
fn what_comes_from_an_address_is_what_may_be_sent_there() {
    let mut world = World::new();
    world.add("meter-1");
    let datagram = registration("meter-1");
    world.datagram(peer(1), &datagram);
    let mut came = datagram.len();
    for number in 0..200u16 {
        // neither an answer nor a token
        let id = (5_000 + number).to_be_bytes();
        let ping = [0x40, 0, id[0], id[1]];
        world.datagram(peer(1), &ping);
        came += ping.len();
        world.pass_s(30);
    }
    let (bytes, observations) = sent_to(&mut world, peer(1));
    assert_eq!(observations, 1);
    assert!(bytes <= 3 * came, "{bytes} {came}");
}

#[test]
fn the_short_end_of_a_newcomer_is_stored_until_it_has_answered() {
    let mut world = World::with(open());
    let mut device = Script::new("a", 1);
    device.register(&mut world);
    let end = |world: &World| match world.changes.last() {
        Some(Change::Registered { registration, .. }) => {
            registration.expires_at.since(world.now.utc).as_secs()
        }
        other => panic!("unexpected {other:?}"),
    };
    assert_eq!(end(&world), 3_600);
    device.receive(&mut world);
    assert_eq!(end(&world), 86_400);
}

//! Devices that are heard by another engine than the one that has them.

use super::*;

/// Two engines; the second has heard nothing yet, and all devices of the first are sought there.
fn two(devices: &[(&str, bool)]) -> (World, World) {
    let (mut here, mut there) = (World::new(), World::new());
    for (endpoint, secure) in devices {
        here.command(Command::AddDevice {
            endpoint: (*endpoint).to_owned(),
            product: "meter".into(),
            secure: *secure,
            protocol: crate::ledger::Protocol::Lwm2m,
            via: crate::ledger::Via::Itself,
        });
        there.elsewhere.push(ids().of(endpoint));
    }
    there.next_id = 500;
    (here, there)
}

/// Does for all that is sought what shards do. Returns what became of each.
pub(super) fn find(here: &mut World, there: &mut World) -> Vec<Whose> {
    if here.now.instant > there.now.instant {
        there.now = here.now;
    }
    let sought = std::mem::take(&mut there.sought);
    let mut whose = Vec::new();
    for seek in sought {
        let found = here.engine.whose(here.now, &seek);
        match &found {
            Whose::Theirs(_) if !seek.brings() => {
                let now = there.now;
                there.engine.handle_sought(now, &seek, &Sought::Elsewhere);
            }
            Whose::Theirs(after) => {
                assert!(*after <= here.newest);
                let row = here.engine.give_away(here.now, &seek).unwrap();
                assert!(!here.engine.has(seek.device));
                there.engine.take_in(there.now, row);
                let now = there.now;
                there.engine.handle_sought(now, &seek, &Sought::NotYet);
            }
            Whose::NotTheirs(endpoint) => {
                let sought = Sought::NotTheirs(endpoint.clone());
                there.engine.handle_sought(there.now, &seek, &sought);
            }
            Whose::Repeated => here.engine.handle_sought(here.now, &seek, &Sought::NotYet),
            Whose::Lent(lease) => {
                let sought = Sought::Lent(lease.clone());
                there.engine.handle_sought(there.now, &seek, &sought);
            }
            Whose::NotHere | Whose::NotRegistered => {
                let now = there.now;
                there.engine.handle_sought(now, &seek, &Sought::Nobody);
            }
        }
        whose.push(found);
    }
    there.collect();
    here.collect();
    whose
}

fn moved(whose: &[Whose]) -> bool {
    matches!(whose, [Whose::Theirs(_)])
}

#[test]
fn a_download_goes_on_where_the_device_is_heard() {
    let (mut here, mut there) = two(&[("meter-1", false)]);
    let mut device = Script::new("meter-1", 1);
    here.start("meter-1", 1, &package("V2", &content()));
    device.negotiate(&mut here, 7, -90, 15);
    device.receive(&mut here);
    device.asks_segment(&mut here, "V2", 0);
    device.receive(&mut here);
    device.at = peer(2);
    device.asks_segment(&mut there, "V2", 1);
    assert!(there.take_sent().is_empty());
    assert!(moved(&find(&mut here, &mut there)));
    let frames = device.frames(&mut there);
    assert!(matches!(
        decoded(&frames)[..],
        [PlatformMessage::SegmentResponse {
            segment: Some(1),
            ..
        }]
    ));
    assert_eq!(here.engine.tables(), Tables::default());
    assert_eq!(there.engine.population(), (1, 1));
    assert_eq!(there.engine.counters().devices_moved, 1);
    let at_new_address = |change: &Change| matches!(change, Change::Registered { registration, .. } if registration.peer == peer(2));
    assert!(there.changes.iter().any(at_new_address));
    // nothing more comes from where it was
    here.pass_s(3_600);
    assert!(here.take_sent().is_empty());
    device.say(
        &mut there,
        &DeviceMessage::DownloadReport {
            status: ResultCode::SUCCESS,
        },
    );
    device.receive(&mut there);
    device.say(
        &mut there,
        &DeviceMessage::UpgradeReport {
            result: ResultCode::SUCCESS,
            version: version("V2"),
        },
    );
    assert!(matches!(there.outcome(1), Some(Outcome::Succeeded(_))));
    assert_eq!(here.outcome(1), None);
}

#[test]
fn a_registration_and_an_update_bring_the_device() {
    let (mut here, mut there) = two(&[("meter-1", false)]);
    let mut device = Script::new("meter-1", 1);
    device.register(&mut here);
    device.at = peer(2);
    device.update(&mut there);
    assert!(moved(&find(&mut here, &mut there)));
    assert_eq!(
        there.take_sent().pop().map(|(_, sent)| sent.code()),
        Some(Code::CHANGED)
    );
    // and back, by its name
    here.elsewhere.push(ids().of("meter-1"));
    let again = request(Code::POST, 9, &["rd"], &["ep=meter-1".into()]);
    here.datagram(peer(3), &again);
    assert!(moved(&find(&mut there, &mut here)));
    let codes: Vec<Code> = here
        .take_sent()
        .iter()
        .map(|(_, sent)| sent.code())
        .collect();
    assert!(codes.contains(&Code::CREATED), "{codes:?}");
    assert_eq!(there.engine.tables(), Tables::default());
}

#[test]
fn a_registration_in_parts_comes_together_where_the_device_is_heard() {
    let (mut here, mut there) = two(&[("meter-1", false)]);
    let part = |number: u32, more: bool, id: u16| {
        MessageBuilder::new(
            Kind::Confirmable,
            Code::POST,
            id,
            crate::coap::Token::new(&[1]),
        )
        .path("rd")
        .block1(number << 4 | u32::from(more) << 3)
        .query("ep=meter-1")
        .payload(if more {
            b"</3/0>,</4/0>,</".to_vec()
        } else {
            b"5/0>".to_vec()
        })
        .build()
    };
    there.datagram(peer(2), &part(0, true, 1));
    find(&mut here, &mut there);
    assert!(here.engine.has(ids().of("meter-1")), "more may never come");
    assert_eq!(there.take_sent()[0].1.code(), Code::CONTINUE);
    there.datagram(peer(2), &part(1, false, 2));
    assert!(moved(&find(&mut here, &mut there)));
    let codes: Vec<Code> = (there.take_sent().iter())
        .map(|(_, sent)| sent.code())
        .collect();
    assert!(codes.contains(&Code::CREATED), "{codes:?}");
}

#[test]
fn nobody_brings_a_device_that_it_is_not() {
    let (mut here, mut there) = two(&[("meter-1", true)]);
    let register = request(Code::POST, 9, &["rd"], &["ep=meter-1".into()]);
    there.datagram(peer(2), &register);
    let whose = find(&mut here, &mut there);
    assert_eq!(whose, [Whose::NotTheirs("meter-1".into())]);
    let update = request(Code::POST, 10, &["rd", &location("meter-1")], &[]);
    there.datagram(peer(2), &update);
    assert_eq!(find(&mut here, &mut there), whose);
    let codes: Vec<Code> = (there.take_sent().iter())
        .map(|(_, sent)| sent.code())
        .collect();
    assert_eq!(codes, [Code::FORBIDDEN, Code::FORBIDDEN]);
    assert_eq!(there.engine.counters().impostors, 2);
    let notification = MessageBuilder::new(
        Kind::Confirmable,
        Code::CONTENT,
        11,
        observation::Observation::of_uplink(ids().of("meter-1")).token(),
    );
    there.datagram(peer(2), &notification.observe(1).build());
    assert_eq!(find(&mut here, &mut there), whose);
    assert_eq!(there.take_sent().pop().unwrap().1.kind(), Kind::Reset);
    assert!(here.engine.has(ids().of("meter-1")));
}

#[test]
fn a_token_brings_no_device_that_is_not_registered() {
    let (mut here, mut there) = two(&[("meter-1", false)]);
    let token = observation::Observation::of_uplink(ids().of("meter-1")).token();
    let notification = MessageBuilder::new(Kind::Confirmable, Code::CONTENT, 11, token);
    there.datagram(peer(2), &notification.observe(1).build());
    assert_eq!(find(&mut here, &mut there), [Whose::NotRegistered]);
    assert_eq!(there.take_sent().pop().unwrap().1.kind(), Kind::Reset);
    // it is nobody's, or another datagram has brought it away
    there.datagram(peer(2), &notification_of(token, 12));
    here.command(Command::RemoveDevice {
        endpoint: "meter-1".into(),
    });
    assert_eq!(find(&mut here, &mut there), [Whose::NotHere]);
}

fn notification_of(token: crate::coap::Token, id: u16) -> Vec<u8> {
    MessageBuilder::new(Kind::Confirmable, Code::CONTENT, id, token)
        .observe(2)
        .build()
}

#[test]
fn a_datagram_that_comes_late_does_not_bring_the_device_back() {
    let (mut here, mut there) = two(&[("meter-1", false)]);
    let mut device = Script::new("meter-1", 1);
    device.register(&mut here);
    device.receive(&mut here);
    let token = observation::Observation::of_uplink(ids().of("meter-1")).token();
    here.datagram(peer(1), &notification_of(token, 12));
    here.take_sent();
    // the same again, by a way that takes longer
    there.datagram(peer(2), &notification_of(token, 12));
    assert_eq!(find(&mut here, &mut there), [Whose::Repeated]);
    let sent = here.take_sent();
    assert!(matches!(&sent[..], [(to, ack)] if *to == peer(2) && ack.code() == Code::EMPTY));
    assert_eq!(there.engine.tables(), Tables::default());
}

#[test]
fn it_goes_after_what_it_waits_for() {
    let (mut here, mut there) = two(&[("meter-1", false)]);
    let mut device = Script::new("meter-1", 1);
    device.register(&mut here);
    let token = observation::Observation::of_uplink(ids().of("meter-1")).token();
    there.datagram(peer(2), &notification_of(token, 12));
    let whose = here.engine.whose(here.now, &there.sought[0]);
    assert_eq!(whose, Whose::Theirs(here.newest));
}

#[test]
fn a_slot_that_cannot_be_used_any_more_is_given_back() {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1).asleep_between();
    world.add("meter-1");
    world.start("meter-1", 1, &package("V2", &content()));
    world.may_admit(false, true);
    device.negotiate(&mut world, 7, -112, -8);
    device.receive(&mut world);
    let id = ids().of("meter-1");
    let order = GateOrder::Admit {
        lane: crate::ledger::Lane::Cell(7),
        active: 1,
    };
    let said = |world: &mut World| {
        let command = Command::Gate { device: id, order };
        world.engine.handle_command(world.now, command);
        let mut said = Vec::new();
        while let Some(effect) = world.engine.poll_effect() {
            match effect {
                Effect::Ask(ask) => said.push(ask.request),
                other => panic!("{other:?}"),
            }
        }
        said
    };
    // it sleeps by now
    world.now = world.now + Duration::from_mins(10);
    assert!(matches!(
        said(&mut world)[..],
        [GateRequest::Release, GateRequest::Wait { limit: 1, .. }]
    ));
    // it is in the queue of another cell
    let other = GateOrder::Admit {
        lane: crate::ledger::Lane::Cell(8),
        active: 1,
    };
    world.engine.handle_command(
        world.now,
        Command::Gate {
            device: id,
            order: other,
        },
    );
    let release = Effect::Ask(GateAsk {
        device: id,
        lane: crate::ledger::Lane::Cell(8),
        request: GateRequest::Release,
    });
    assert_eq!(world.engine.poll_effect(), Some(release));
    // it is no more
    world.engine.handle_command(
        world.now,
        Command::RemoveDevice {
            endpoint: "meter-1".into(),
        },
    );
    while world.engine.poll_effect().is_some() {}
    assert_eq!(said(&mut world), [GateRequest::Release]);
}

#[test]
fn a_registration_that_waited_is_no_restart_after_what_happened_meanwhile() {
    for waits in [true, false] {
        let (mut here, mut there) = two(&[("meter-1", false)]);
        let mut device = Script::new("meter-1", 1);
        here.start("meter-1", 1, &package("V2", &content()));
        device.negotiate(&mut here, 7, -90, 15);
        device.receive(&mut here);
        device.asks_segment(&mut here, "V2", 0);
        device.receive(&mut here);
        let register = request(Code::POST, 900, &["rd"], &["ep=meter-1".into()]);
        here.pass_s(60);
        if waits {
            there.now = here.now;
            there.datagram(peer(2), &register);
        }
        here.pass_s(5);
        let status = ResultCode::SUCCESS;
        device.say(&mut here, &DeviceMessage::DownloadReport { status });
        device.receive(&mut here);
        here.pass_s(1);
        if !waits {
            there.now = here.now;
            there.datagram(peer(2), &register);
        }
        assert!(moved(&find(&mut here, &mut there)));
        let line = if waits {
            "registered anew, by a message from before"
        } else {
            "registered anew: it has restarted"
        };
        assert!(notes(&there).iter().any(|told| told == line), "{line}");
    }
}

#[test]
fn a_registration_while_the_command_waits_for_the_store_is_no_restart() {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    world.add("meter-1");
    world.start("meter-1", 1, &package("V2", &content()));
    device.negotiate(&mut world, 7, -90, 15);
    device.receive(&mut world);
    device.asks_segment(&mut world, "V2", 0);
    device.receive(&mut world);
    world.stalled = true;
    let status = ResultCode::SUCCESS;
    device.say(&mut world, &DeviceMessage::DownloadReport { status });
    device.receive(&mut world); // which lets the command leave, as far as the engine knows
    world.pass_s(2);
    device.register(&mut world);
    let line = "registered anew, by a message from before";
    assert!(notes(&world).iter().any(|told| told == line));
}

use super::*;

#[test]
fn an_unknown_endpoint_is_forbidden_unless_registration_is_open() {
    let mut world = World::new();
    assert_eq!(Script::new("x", 1).register(&mut world), Code::FORBIDDEN);
    assert!(world.changes.is_empty());

    let mut config = Config::default();
    config.lwm2m.registration = RegistrationPolicy::Open;
    config.lwm2m.max_open_devices = 1;
    let mut world = World::with(config);
    assert_eq!(Script::new("x", 1).register(&mut world), Code::CREATED);
    assert!(matches!(world.changes[..], [Change::Registered { .. }]));
    assert_eq!(Script::new("y", 2).register(&mut world), Code::FORBIDDEN);
}

#[test]
fn requests_get_the_answers_of_rfc_7252() {
    let table: [(Code, &[&str], &[&str], Code); 10] = [
        (Code::GET, &[".well-known", "core"], &[], Code::CONTENT),
        (
            Code::PUT,
            &[".well-known", "core"],
            &[],
            Code::METHOD_NOT_ALLOWED,
        ),
        (Code::GET, &["rd"], &[], Code::METHOD_NOT_ALLOWED),
        (Code::GET, &["nothing"], &[], Code::NOT_FOUND),
        (Code::GET, &[], &[], Code::NOT_FOUND),
        (Code::POST, &["bs"], &["ep=a"], Code::NOT_FOUND),
        (Code::POST, &["rd"], &[], Code::BAD_REQUEST),
        (Code::POST, &["rd"], &["ep=a", "lt=soon"], Code::BAD_REQUEST),
        (Code::POST, &["rd", "0123"], &[], Code::NOT_FOUND),
        (Code::DELETE, &["rd", "0123"], &[], Code::NOT_FOUND),
    ];
    for (code, path, queries, expected) in table {
        let mut world = World::new();
        let queries: Vec<String> = queries.iter().map(|q| (*q).to_owned()).collect();
        world.datagram(peer(1), &request(code, 1, path, &queries));
        let sent = world.take_sent();
        assert_eq!(sent[0].1.code(), expected, "{code} {path:?} {queries:?}");
        assert_eq!(sent[0].1.kind(), Kind::Acknowledgement);
    }
}

#[test]
fn unknown_critical_options_are_answered_or_ignored() {
    let mut world = World::new();
    world.datagram(peer(1), &[0x40, 1, 0, 7, 0x90]); // option 9
    assert_eq!(world.take_sent()[0].1.code(), Code::BAD_OPTION);
    world.datagram(peer(1), &[0x50, 1, 0, 7, 0x90]);
    assert!(world.take_sent().is_empty());
}

#[test]
fn the_uplink_is_observed_after_every_registration_with_the_same_token() {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    world.add("meter-1");
    device.register(&mut world);
    device.receive(&mut world);
    let first = device.observe.take().unwrap();
    world.pass_s(100);
    device.register(&mut world);
    device.receive(&mut world);
    assert_eq!(device.observe, Some(first));
}

#[test]
fn a_repeated_registration_gets_the_same_location_and_a_later_one_a_new_one() {
    let mut world = World::new();
    world.add("meter-1");
    let datagram = request(Code::POST, 5, &["rd"], &["ep=meter-1".into()]);
    let location = |world: &mut World| {
        world.datagram(peer(1), &datagram);
        let sent = world.take_sent();
        let (_, created) = sent
            .iter()
            .find(|(_, m)| m.code() == Code::CREATED)
            .unwrap();
        created.location().last().unwrap().to_vec()
    };
    let first = location(&mut world);
    assert_eq!(location(&mut world), first);
    // the device went on, restarted, and counts its message IDs from the start
    world.datagram(peer(1), &request(Code::GET, 6, &["x"], &[]));
    world.take_sent();
    assert_ne!(location(&mut world), first);
}

#[test]
fn an_update_from_a_new_address_moves_the_device() {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    world.add("meter-1");
    device.register(&mut world);
    device.receive(&mut world);
    device.at = peer(2);
    device.update(&mut world);
    let received = device.receive(&mut world);
    assert!(matches!(received[..], [Received::Response(Code::CHANGED)]));
    world.start("meter-1", 1, &package("V2", &content()));
    world.pass_s(1);
    assert_eq!(
        decoded(&device.frames(&mut world)),
        [PlatformMessage::VersionQuery]
    );
}

#[test]
fn a_registration_ends_with_its_lifetime_or_when_the_device_says_so() {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    device.queries = vec!["lt=300".into()];
    world.add("meter-1");
    device.register(&mut world);
    device.receive(&mut world);
    world.pass_s(299);
    device.update(&mut world);
    world.pass_s(299);
    device.update(&mut world);
    assert!(matches!(
        device.receive(&mut world)[..],
        [
            Received::Response(Code::CHANGED),
            Received::Response(Code::CHANGED)
        ]
    ));
    world.pass_s(301);
    assert!(matches!(
        world.changes.last(),
        Some(Change::Deregistered { .. })
    ));
    device.update(&mut world);
    assert!(matches!(
        device.receive(&mut world)[..],
        [Received::Response(Code::NOT_FOUND)]
    ));
    device.register(&mut world);
    device.receive(&mut world);
    world.take_changes();
    world.datagram(
        device.at,
        &request(Code::DELETE, 99, &["rd", &device.location], &[]),
    );
    assert!(matches!(
        device.receive(&mut world)[..],
        [Received::Response(Code::DELETED)]
    ));
    assert!(matches!(world.changes[..], [Change::Deregistered { .. }]));
}

#[test]
fn a_sleeping_device_is_sent_nothing_until_it_is_heard() {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1).asleep_between();
    world.add("meter-1");
    device.register(&mut world);
    device.receive(&mut world);
    world.pass_s(94);
    world.start("meter-1", 1, &package("V2", &content()));
    world.pass_s(10);
    assert!(world.take_sent().is_empty());
    device.update(&mut world);
    assert_eq!(
        decoded(&device.frames(&mut world)),
        [PlatformMessage::VersionQuery]
    );
}

#[test]
fn a_listening_device_is_pinged_and_then_begun_with() {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    world.add("meter-1");
    device.register(&mut world);
    device.receive(&mut world);
    world.pass_s(200);
    world.start("meter-1", 1, &package("V2", &content()));
    world.pass_s(1);
    let received = device.receive(&mut world);
    assert!(matches!(received[..], [Received::Ping, Received::Frame(_)]));
}

#[test]
fn a_device_whose_address_another_one_took_over_is_sent_nothing_there() {
    let mut world = World::new();
    let (mut first, mut second) = (Script::new("meter-1", 1), Script::new("meter-2", 1));
    world.add("meter-1");
    world.add("meter-2");
    first.register(&mut world);
    first.receive(&mut world);
    second.register(&mut world);
    second.receive(&mut world);
    world.start("meter-1", 1, &package("V2", &content()));
    world.pass_s(10);
    assert!(second.receive(&mut world).is_empty());
    first.at = peer(3);
    first.update(&mut world);
    assert_eq!(
        decoded(&first.frames(&mut world)),
        [PlatformMessage::VersionQuery]
    );
}

#[test]
fn the_first_block_of_a_registration_is_looked_at() {
    let first = |queries: &[&str]| {
        let block = crate::coap::Block {
            number: 0,
            more: true,
            szx: 0,
        };
        let mut builder = MessageBuilder::new(
            Kind::Confirmable,
            Code::POST,
            7,
            crate::coap::Token::new(&[1]),
        )
        .path("rd");
        for query in queries {
            builder = builder.query(query);
        }
        let builder = builder.content_format(ContentFormat::LINK_FORMAT);
        let builder = builder.block1(block.encode());
        builder.payload(b"</1/0>,</3/0>,</".to_vec()).build()
    };
    let mut world = World::new();
    world.add("meter-1");
    let mut answer = |queries: &[&str]| {
        world.datagram(peer(1), &first(queries));
        let sent = world.take_sent();
        assert_eq!(sent.len(), 1);
        sent[0].1.code()
    };
    assert_eq!(answer(&["ep=meter-1", "lt=300"]), Code::CONTINUE);
    assert_eq!(answer(&["ep=stranger", "lt=300"]), Code::FORBIDDEN);
    assert_eq!(answer(&["lt=300"]), Code::BAD_REQUEST);
    assert_eq!(answer(&["ep=meter-1", "lt=soon"]), Code::BAD_REQUEST);
    assert!(world.changes.is_empty());
}

#[test]
fn open_registration_takes_newcomers_in_blocks_as_far_as_there_is_room() {
    let mut config = Config::default();
    config.lwm2m.registration = RegistrationPolicy::Open;
    config.lwm2m.max_open_devices = 1;
    let mut world = World::with(config);
    let mut register = |endpoint: &str, from: u16| {
        let parts: [&[u8]; 2] = [b"</1/0>,</3/0>,</", b"19/0>"];
        let answers = parts.into_iter().zip([true, false]).zip(0u16..);
        let codes = answers.map(|((payload, more), number)| {
            let block = crate::coap::Block {
                number: number.into(),
                more,
                szx: 0,
            };
            let id = 7 + number;
            let token = crate::coap::Token::new(&[1]);
            let request = MessageBuilder::new(Kind::Confirmable, Code::POST, id, token)
                .path("rd")
                .query(&format!("ep={endpoint}"))
                .block1(block.encode())
                .payload(payload.to_vec())
                .build();
            world.datagram(peer(from), &request);
            world.take_sent()[0].1.code()
        });
        codes.collect::<Vec<_>>()
    };
    assert_eq!(register("a", 1), [Code::CONTINUE, Code::CREATED]);
    assert_eq!(register("b", 2), [Code::CONTINUE, Code::FORBIDDEN]);
}

#[test]
fn a_long_object_list_may_come_in_blocks() {
    let mut world = World::new();
    world.add("meter-1");
    let block = |number: u16, more: bool, payload: &[u8]| {
        let token = crate::coap::Token::new(&[1]);
        let block = crate::coap::Block {
            number: number.into(),
            more,
            szx: 0,
        };
        MessageBuilder::new(Kind::Confirmable, Code::POST, 100 + number, token)
            .path("rd")
            .query("ep=meter-1")
            .block1(block.encode())
            .payload(payload.to_vec())
            .build()
    };
    world.datagram(peer(1), &block(0, true, b"</1/0>,</3/0>,</"));
    assert_eq!(world.take_sent()[0].1.code(), Code::CONTINUE);
    world.datagram(peer(1), &block(1, false, b"19/0>"));
    let sent = world.take_sent();
    assert_eq!(sent[0].1.code(), Code::CREATED);
    assert!(sent[0].1.block1().is_some());
}

#[test]
fn strangers_with_notifications_are_reset() {
    let mut world = World::new();
    let token = crate::coap::Token::new(b"12345678");
    for (kind, answers) in [(Kind::Confirmable, 1), (Kind::NonConfirmable, 0)] {
        let datagram = MessageBuilder::new(kind, Code::CONTENT, 7, token)
            .observe(3)
            .build();
        world.datagram(peer(1), &datagram);
        let sent = world.take_sent();
        assert_eq!(sent.len(), answers);
        assert!(sent.iter().all(|(_, m)| m.kind() == Kind::Reset));
    }
}

#[test]
fn while_nothing_can_be_stored_registrations_are_put_off() {
    let mut world = World::new();
    world.add("meter-1");
    world.command(Command::StoreAvailable(false));
    let mut device = Script::new("meter-1", 1);
    assert_eq!(device.register(&mut world), Code::SERVICE_UNAVAILABLE);
    assert!(world.changes.is_empty());
    world.command(Command::StoreAvailable(true));
    assert_eq!(device.register(&mut world), Code::CREATED);
}

#[test]
fn a_removed_device_fails_and_may_not_register_again() {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    world.add("meter-1");
    world.start("meter-1", 1, &package("V2", &content()));
    device.register(&mut world);
    world.command(Command::RemoveDevice {
        endpoint: "meter-1".into(),
    });
    assert_eq!(
        world.outcome(1),
        Some(Outcome::Failed(crate::ledger::Failure::DeviceRemoved))
    );
    world.take_sent();
    assert_eq!(device.register(&mut world), Code::FORBIDDEN);
}

#[test]
fn a_device_that_wakes_up_is_sent_again_at_once_what_it_missed() {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1).asleep_between();
    world.add("meter-1");
    device.register(&mut world);
    device.receive(&mut world);
    world.start("meter-1", 1, &package("V2", &content()));
    world.pass_s(50); // it sleeps, and misses the question and its first repeat
    world.take_sent();
    device.update(&mut world);
    assert_eq!(
        decoded(&device.frames(&mut world)),
        [PlatformMessage::VersionQuery]
    );
}

#[test]
fn a_device_that_registers_without_end_keeps_nobody_busy() {
    let mut world = World::new();
    world.add("meter-1");
    for id in 0..5_000 {
        let datagram = request(Code::POST, id, &["rd"], &["ep=meter-1".into()]);
        world.datagram(peer(1), &datagram);
    }
    assert!(world.take_changes().len() <= 20);
    assert!(world.engine.counters().requests_ignored >= 4_980);
    world.pass_s(2);
    world.take_sent();
    let mut device = Script::new("meter-1", 1);
    assert_eq!(device.register(&mut world), Code::CREATED);
}

fn written(world: &mut World) -> usize {
    let changes = world.take_changes();
    let registered = |change: &&Change| matches!(change, Change::Registered { .. });
    changes.iter().filter(registered).count()
}

#[test]
fn a_renewal_that_changes_nothing_is_written_after_an_hour_or_half_a_lifetime() {
    for (lifetime_s, unwritten_s) in [(86_400, 3_600), (300, 150)] {
        let mut world = World::new();
        let mut device = Script::new("meter-1", 1);
        device.queries = vec![format!("lt={lifetime_s}")];
        world.add("meter-1");
        device.register(&mut world);
        device.receive(&mut world);
        assert_eq!(written(&mut world), 1);
        world.pass_s(unwritten_s - 1);
        device.update(&mut world);
        let received = device.receive(&mut world);
        assert!(matches!(received[..], [Received::Response(Code::CHANGED)]));
        assert_eq!(written(&mut world), 0);
        world.pass_s(1);
        device.update(&mut world);
        assert_eq!(written(&mut world), 1);
        // what changes is written at once
        device.at = peer(2);
        device.update(&mut world);
        assert_eq!(written(&mut world), 1);
        // and it ends when its last renewal says so
        world.pass_s(lifetime_s - 1);
        assert_eq!(world.take_changes(), []);
        world.pass_s(1);
        assert!(matches!(
            world.take_changes()[..],
            [Change::Deregistered { .. }]
        ));
    }
}

#[test]
fn renewals_that_are_not_written_cost_nothing_of_a_devices_writes() {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    world.add("meter-1");
    device.register(&mut world);
    device.receive(&mut world);
    for _ in 0..100 {
        device.update(&mut world);
    }
    let received = device.receive(&mut world);
    assert_eq!(received.len(), 100);
}

#[test]
fn a_quiet_device_keeps_nothing_but_its_registration() {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    world.add("meter-1");
    device.register(&mut world);
    device.receive(&mut world);
    device.notify(&mut world, b"its own data");
    device.receive(&mut world);
    let key = world.engine.find("meter-1").unwrap();
    assert!(world.engine.device(key).recent.expires().is_some());
    world.pass_s(300);
    let kept = world.engine.device(key);
    assert_eq!(kept.recent.expires(), None);
    assert_eq!(kept.link.next_timeout(), None);
    assert_eq!(world.engine.tables().alarms, 1);
    // with its name, its places in the indexes and its alarm it stays below 400 bytes
    assert!(
        size_of::<device::Device>() <= 208,
        "{}",
        size_of::<device::Device>()
    );
}

//! What is set for a product's devices.

use super::*;
use crate::{
    config::{ProductConfig, RsrpUnit, SinrUnit},
    ledger::Learnt,
};

fn world(product: ProductConfig) -> World {
    let mut config = Config::default();
    config.products.insert("meter".into(), product);
    World::with(config)
}

fn add(world: &mut World, endpoint: &str, product: &str) {
    world.command(Command::AddDevice {
        endpoint: endpoint.into(),
        product: product.into(),
        secure: false,
        protocol: crate::ledger::Protocol::Lwm2m,
        via: crate::ledger::Via::Itself,
    });
}

/// Of a device in queue mode that was heard so long ago: whether it is sent what an upgrade has for it.
fn is_reached_after(world: &mut World, endpoint: &str, port: u16, seconds: u64) -> bool {
    let mut device = Script::new(endpoint, port).asleep_between();
    assert_eq!(device.register(world), Code::CREATED);
    device.receive(world);
    world.pass_s(seconds);
    world.start(endpoint, i64::from(port), &package("V2", &content()));
    world.pass_s(1);
    !device.frames(world).is_empty()
}

#[test]
fn a_device_is_awake_as_long_as_its_product_says() {
    let product = ProductConfig {
        awake_window_s: Some(10),
        ..ProductConfig::default()
    };
    let mut world = world(product);
    for n in 1..=4 {
        let products = ["", "meter", "meter", "valve", "default"];
        add(&mut world, &format!("a-{n}"), products[n]);
    }
    assert!(is_reached_after(&mut world, "a-1", 1, 8));
    assert!(!is_reached_after(&mut world, "a-2", 2, 11));
    assert!(is_reached_after(&mut world, "a-3", 3, 90));
    assert!(is_reached_after(&mut world, "a-4", 4, 90));
}

#[test]
fn a_change_of_the_product_counts_at_once() {
    let product = ProductConfig {
        awake_window_s: Some(10),
        ..ProductConfig::default()
    };
    let mut world = world(product);
    add(&mut world, "a-1", "meter");
    let mut device = Script::new("a-1", 1).asleep_between();
    device.register(&mut world);
    device.receive(&mut world);
    world.start("a-1", 1, &package("V2", &content()));
    world.pass_s(1);
    assert_eq!(device.frames(&mut world).len(), 1);
    // the version query was acknowledged; it is put again when the device listens
    world.pass_s(70);
    assert!(device.frames(&mut world).is_empty());
    add(&mut world, "a-1", "valve");
    assert_eq!(
        decoded(&device.frames(&mut world)),
        [PlatformMessage::VersionQuery]
    );
}

#[test]
fn a_product_comes_back_after_a_restart_and_open_registration_has_the_default_one() {
    let product = ProductConfig {
        awake_window_s: Some(10),
        ..ProductConfig::default()
    };
    let mut config = Config::default();
    config.lwm2m.registration = RegistrationPolicy::Open;
    config.products.insert("meter".into(), product);
    config.products.insert("default".into(), product);
    let mut world = World::with(config);
    for (endpoint, product) in [("a-1", "meter"), ("a-2", "valve")] {
        let record = DeviceRecord {
            endpoint: endpoint.into(),
            product: product.into(),
            protocol: crate::ledger::Protocol::Lwm2m,
            secure: false,
            registration: None,
            last_heard_at: None,
            coverage: None,
            version: None,
            evidence: Vec::new(),
            wake_ups: None,
            appointment: None,
            via: crate::ledger::Via::Itself,
        };
        world.command(Command::Restore(vec![record]));
    }
    assert!(!is_reached_after(&mut world, "a-1", 1, 11));
    assert!(is_reached_after(&mut world, "a-2", 2, 11));
    assert!(!is_reached_after(&mut world, "a-3", 3, 11));
}

/// When the version query and each of its repeats were seen to have left, seconds from now.
fn repeats(world: &mut World, at: Peer) -> Vec<u64> {
    let begin = world.now.instant;
    let mut times = Vec::new();
    for _ in 0..400 {
        let sent = world.take_sent();
        let frames = sent
            .iter()
            .filter(|(to, m)| *to == at && m.code() == Code::PUT);
        times.extend(frames.map(|_| world.now.instant.since(begin).as_secs()));
        world.pass_s(1);
    }
    times
}

#[test]
fn requests_are_repeated_at_the_pace_of_the_product() {
    let product = ProductConfig {
        ack_timeout_ms: Some(4_000),
        max_retransmit: Some(3),
        ..ProductConfig::default()
    };
    let mut config = Config::default();
    config.coap.ack_random_factor = 1.0;
    config.upgrade.query_version_s = 3_600;
    config.upgrade.repeat_question_s = 3_600;
    config.products.insert("meter".into(), product);
    let mut world = World::with(config);
    for (endpoint, product, port, expected) in [
        ("a-1", "meter", 1, vec![1, 4, 12, 28]),
        ("a-2", "valve", 2, vec![1, 15, 45]),
    ] {
        add(&mut world, endpoint, product);
        let mut device = Script::new(endpoint, port);
        device.register(&mut world);
        device.receive(&mut world);
        world.start(endpoint, port.into(), &package("V2", &content()));
        assert_eq!(repeats(&mut world, device.at), expected, "{product}");
    }
}

#[test]
fn the_queue_of_a_cell_knows_how_long_a_product_listens() {
    let product = ProductConfig {
        awake_window_s: Some(10),
        ..ProductConfig::default()
    };
    let mut world = world(product);
    let package = package("V2", &content());
    // One device downloads in the cell, whose coverage lets no other in beside it; two wait behind it.
    let mut devices: Vec<Script> = (1..=3)
        .map(|n| {
            let endpoint = format!("a-{n}");
            add(
                &mut world,
                &endpoint,
                ["", "x", "meter", "x"][usize::from(n)],
            );
            world.start(&endpoint, i64::from(n), &package);
            let mut device = Script::new(&endpoint, n).asleep_between();
            device.negotiate(&mut world, 7, -112, -8);
            device.receive(&mut world);
            device
        })
        .collect();
    world.pass_s(20);
    let failed = DeviceMessage::DownloadReport {
        status: ResultCode::CHECK_FAILED,
    };
    devices[0].say(&mut world, &failed);
    // the second came first, and sleeps; the third is awake
    assert!(devices[1].frames(&mut world).is_empty());
    let frames = devices[2].frames(&mut world);
    assert!(matches!(
        decoded(&frames)[..],
        [PlatformMessage::NewVersion { .. }]
    ));
}

fn with_pmin() -> World {
    world(ProductConfig {
        pmin_zero: true,
        ..ProductConfig::default()
    })
}

/// The one request that has left.
fn outstanding(world: &mut World) -> Message<'static> {
    let mut sent = world.take_sent();
    sent.retain(|(_, message)| message.kind() == Kind::Confirmable);
    assert_eq!(sent.len(), 1, "{sent:?}");
    sent.remove(0).1
}

#[test]
fn pmin_is_written_before_each_observation_and_only_for_its_product() {
    let mut world = with_pmin();
    add(&mut world, "a-1", "meter");
    add(&mut world, "a-2", "valve");
    let mut device = Script::new("a-1", 1);
    for _ in 0..2 {
        device.register(&mut world);
        let write = outstanding(&mut world);
        assert_eq!(write.code(), Code::PUT);
        assert_eq!(write.path(), [&b"19"[..], b"0", b"0"]);
        assert_eq!(write.queries().collect::<Vec<_>>(), [b"pmin=0"]);
        assert!(write.payload().is_empty() && write.content_format().is_none());
        world.datagram(device.at, &response(&write, Code::CHANGED).build());
        let observe = outstanding(&mut world);
        assert_eq!(observe.observe(), Some(0));
        world.datagram(device.at, &response(&observe, Code::CONTENT).build());
        assert!(world.take_sent().is_empty());
    }
    let mut other = Script::new("a-2", 2);
    other.register(&mut world);
    assert_eq!(outstanding(&mut world).observe(), Some(0));
}

#[test]
fn a_device_that_takes_no_pmin_is_observed_all_the_same_and_its_upgrade_tells_it_once() {
    let refusals: [fn(&Message) -> Vec<u8>; 2] = [
        |write| response(write, Code::BAD_REQUEST).build(),
        |write| crate::coap::reset(write.message_id()).to_vec(),
    ];
    for (refusal, answer) in refusals.into_iter().zip(["4.00", "a Reset"]) {
        let mut world = with_pmin();
        add(&mut world, "a-1", "meter");
        world.start("a-1", 1, &package("V2", &content()));
        let mut device = Script::new("a-1", 1);
        for _ in 0..3 {
            device.register(&mut world);
            let write = outstanding(&mut world);
            world.datagram(device.at, &refusal(&write));
            assert_eq!(outstanding(&mut world).observe(), Some(0));
        }
        let told = format!("refused pmin = 0 for /19/0/0 with {answer}");
        let notes = notes(&world);
        assert_eq!(notes.iter().filter(|note| **note == told).count(), 1);
        world.take_changes();
    }
    // without an upgrade nothing is told
    let mut world = with_pmin();
    add(&mut world, "a-1", "meter");
    let mut device = Script::new("a-1", 1);
    device.register(&mut world);
    let write = outstanding(&mut world);
    world.take_changes();
    world.datagram(device.at, &response(&write, Code::NOT_FOUND).build());
    assert_eq!(world.take_changes(), []);
}

#[test]
fn a_write_of_pmin_that_is_not_answered_delays_the_observation_only() {
    let mut world = with_pmin();
    add(&mut world, "a-1", "meter");
    let mut device = Script::new("a-1", 1);
    device.register(&mut world);
    // acknowledged, never responded to
    let write = outstanding(&mut world);
    world.datagram(device.at, &crate::coap::empty_ack(write.message_id()));
    assert_eq!(outstanding(&mut world).observe(), Some(0));
    // lost altogether
    device.register(&mut world);
    outstanding(&mut world);
    world.pass_s(300);
    let sent = world.take_sent();
    assert!(sent.iter().any(|(_, message)| message.observe() == Some(0)));
}

#[test]
fn a_device_is_admitted_by_what_it_tells_in_the_units_of_its_product() {
    let product = ProductConfig {
        rsrp_unit: RsrpUnit::Tenths,
        sinr_unit: SinrUnit::Tenths,
        ..ProductConfig::default()
    };
    let mut world = world(product);
    for (n, product, cell) in [(1, "meter", 7), (2, "valve", 8)] {
        let endpoint = format!("a-{n}");
        add(&mut world, &endpoint, product);
        world.start(&endpoint, i64::from(n), &package("V2", &content()));
        // −112.1 dBm and −8.2 dB, or nothing that can be
        let mut device = Script::new(&endpoint, n);
        device.negotiate(&mut world, cell, -1_121, -82);
    }
    let learnt: Vec<_> = (world.changes.iter())
        .filter_map(|change| match change {
            Change::CoverageReported { reading, .. } => Some(reading.coverage),
            _ => None,
        })
        .map(|coverage| (coverage.rsrp_dbm, coverage.sinr_db, coverage.measured()))
        .collect();
    let expected = [
        (Some(-112), Some(-8), Some((-112, -8))),
        (Some(-1_121), Some(-82), None),
    ];
    assert_eq!(learnt, expected);
}

#[test]
fn what_was_learnt_of_a_device_begins_anew_with_another_product() {
    let mut world = World::new();
    let wake_ups = Some(crate::ledger::WakeUps::first(world.now.utc));
    let record = DeviceRecord {
        endpoint: "a-1".into(),
        product: "meter".into(),
        protocol: crate::ledger::Protocol::Lwm2m,
        secure: false,
        registration: None,
        last_heard_at: None,
        coverage: None,
        version: None,
        evidence: Vec::new(),
        wake_ups,
        appointment: None,
        via: crate::ledger::Via::Itself,
    };
    world.command(Command::Restore(vec![record]));
    let learnt = |world: &World| {
        let key = world.engine.find("a-1").unwrap();
        let known = world.engine.device(key).known.as_ref();
        known.and_then(|known| known.wake_ups)
    };
    // something else of it has changed
    add(&mut world, "a-1", "meter");
    assert_eq!(learnt(&world), wake_ups);
    // neither product has settings of its own
    add(&mut world, "a-1", "valve");
    assert_eq!(learnt(&world), None);
}

#[test]
fn what_was_learnt_of_a_product_is_written_down_and_gone_on_with() {
    let mut world = world(ProductConfig::default());
    let answered = Duration::from_secs(70);
    let key = |world: &mut World, endpoint: &str, product: &str| {
        add(world, endpoint, product);
        world.engine.find(endpoint).unwrap()
    };
    let meter = key(&mut world, "a-1", "meter");
    for _ in 0..3 {
        world
            .engine
            .learn(meter, |habits| habits.listening.answered_after(answered));
    }
    world.collect();
    let learnt: Vec<Learnt> = (world.take_changes().into_iter())
        .filter_map(|change| match change {
            Change::Learnt(learnt) => Some(*learnt),
            _ => None,
        })
        .collect();
    assert_eq!(learnt.len(), 1, "{learnt:?}");
    let forgotten = Learnt::Product {
        product: "pump".into(),
        habits: crate::ledger::ProductHabits {
            answered_ms: 1_000_000,
            ..Default::default()
        },
    };
    let mut config = Config::default();
    config
        .products
        .insert("meter".into(), ProductConfig::default());
    let mut after = World::with(config);
    after.engine.restore_learnt(&[learnt[0].clone(), forgotten]);
    let (meter, pump) = (
        key(&mut after, "a-1", "meter"),
        key(&mut after, "a-2", "pump"),
    );
    let longest = |key| after.engine.habits(key).learnt().answered_ms;
    assert_eq!((longest(meter), longest(pump)), (70_000, 0));
}

impl World {
    /// The operator has changed the settings of products, to these.
    fn configure(&mut self, products: &[(&str, ProductConfig)]) {
        let mut config = Config::default();
        let products = products.iter();
        (config.products).extend(products.map(|(name, product)| ((*name).to_owned(), *product)));
        self.engine.configure(self.now, Arc::new(config));
        self.collect();
    }
}

#[test]
fn other_settings_of_a_product_hold_for_the_devices_that_are_there() {
    let listens = |awake_window_s| ProductConfig {
        awake_window_s,
        ..ProductConfig::default()
    };
    let mut world = World::new();
    for n in 1..=5 {
        add(&mut world, &format!("a-{n}"), "meter");
    }
    assert!(is_reached_after(&mut world, "a-1", 1, 50));
    // nobody had created it before
    world.configure(&[("alarm", listens(Some(3))), ("meter", listens(Some(10)))]);
    assert!(!is_reached_after(&mut world, "a-2", 2, 50));
    world.configure(&[("meter", listens(Some(60)))]);
    assert!(is_reached_after(&mut world, "a-3", 3, 50));
    assert!(!is_reached_after(&mut world, "a-4", 4, 70));
    // it was removed
    world.configure(&[]);
    assert!(is_reached_after(&mut world, "a-5", 5, 70));
}

#[test]
fn settings_that_change_while_an_upgrade_runs_hold_from_its_next_step_on() {
    let mut world = World::new();
    add(&mut world, "a-1", "meter");
    world.start("a-1", 1, &package("V2", &content()));
    let mut device = Script::new("a-1", 1);
    assert_eq!(device.register(&mut world), Code::CREATED);
    let tenths = ProductConfig {
        rsrp_unit: RsrpUnit::Tenths,
        sinr_unit: SinrUnit::Tenths,
        ..ProductConfig::default()
    };
    world.configure(&[("meter", tenths)]);
    device.answer_questions(&mut world, 7, -1_121, -82);
    let read = (world.changes.iter()).find_map(|change| match change {
        Change::CoverageReported { reading, .. } => Some(reading.coverage.measured()),
        _ => None,
    });
    assert_eq!(read, Some(Some((-112, -8))));
    // it waited for a slot, has it, and is offered the package
    assert!(matches!(
        decoded(&device.frames(&mut world))[..],
        [PlatformMessage::NewVersion { .. }]
    ));
}

#[test]
fn those_who_wait_are_thought_of_by_the_settings_that_hold_now() {
    let mut world = World::new();
    let package = package("V2", &content());
    let mut devices: Vec<Script> = (1..=3)
        .map(|n| {
            let endpoint = format!("a-{n}");
            add(
                &mut world,
                &endpoint,
                ["", "x", "meter", "x"][usize::from(n)],
            );
            world.start(&endpoint, i64::from(n), &package);
            let mut device = Script::new(&endpoint, n).asleep_between();
            device.negotiate(&mut world, 7, -112, -8);
            device.receive(&mut world);
            device
        })
        .collect();
    world.pass_s(20);
    // as far as anybody knew, all of them listened until now
    world.configure(&[(
        "meter",
        ProductConfig {
            awake_window_s: Some(10),
            ..ProductConfig::default()
        },
    )]);
    let failed = DeviceMessage::DownloadReport {
        status: ResultCode::CHECK_FAILED,
    };
    devices[0].say(&mut world, &failed);
    assert!(devices[1].frames(&mut world).is_empty());
    assert!(matches!(
        decoded(&devices[2].frames(&mut world))[..],
        [PlatformMessage::NewVersion { .. }]
    ));
}

#[test]
fn a_device_that_moves_to_another_engine_keeps_its_product() {
    let product = ProductConfig {
        pmin_zero: true,
        ..ProductConfig::default()
    };
    let (mut here, mut there) = (world(product), world(product));
    // each engine has numbers of its own for products
    add(&mut here, "b-1", "valve");
    add(&mut here, "a-1", "meter");
    add(&mut there, "b-2", "lock");
    add(&mut there, "b-3", "alarm");
    let key = here.engine.find("a-1").unwrap();
    let moving = here.engine.remove_device(key);
    there.engine.take_in(there.now, moving);
    let key = there.engine.find("a-1").unwrap();
    assert!(there.engine.profile(key).pmin_zero);
    there.configure(&[]);
    assert!(!there.engine.profile(key).pmin_zero);
    there.configure(&[("meter", product)]);
    assert!(there.engine.profile(key).pmin_zero);
    let names = |world: &World| world.engine.profiles.named();
    assert_eq!((names(&here), names(&there)), (1, 3));
}

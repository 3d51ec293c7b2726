use super::*;

/// What a store would give back: the last stage, and the registration.
pub(super) fn restarted(before: &World) -> World {
    restarted_with(before, &package("V2", &content()))
}

/// The same of an upgrade to that package.
pub(super) fn restarted_with(before: &World, package: &Arc<Package>) -> World {
    let mut after = World::begun(Config::default(), before.now + Duration::from_secs(30));
    restore(&mut after, before, package);
    after
}

fn restore(after: &mut World, before: &World, package: &Arc<Package>) {
    let mut record = DeviceRecord {
        protocol: crate::ledger::Protocol::Lwm2m,
        secure: false,
        endpoint: "meter-1".into(),
        product: "default".into(),
        registration: None,
        last_heard_at: Some(before.now.utc),
        coverage: None,
        version: None,
        evidence: Vec::new(),
        wake_ups: None,
        appointment: None,
        via: crate::ledger::Via::Itself,
    };
    let mut stage = None;
    for change in &before.changes {
        match change {
            Change::Registered {
                registration,
                wake_ups,
                ..
            } => {
                record.registration = Some(registration.clone());
                record.wake_ups = *wake_ups;
            }
            Change::CoverageReported { reading, .. } => record.coverage = Some(*reading),
            Change::Appointed { appointment, .. } => record.appointment = *appointment,
            Change::Evidence { evidence, .. } => record.evidence.clone_from(evidence),
            Change::Stage { change, .. } => stage = Some(change.clone()),
            _ => {}
        }
    }
    after.gate.open(false);
    after.engine.restore_device(after.now, &record);
    let upgrade = ActiveUpgrade {
        order: UpgradeOrder {
            upgrade: UpgradeId(1),
            task: TaskId(1),
            endpoint: "meter-1".into(),
            served: Served::first(PackageId(1)),
            hardware: None,
            attempt: 1,
            retry: RetryPolicy::default(),
            kept_awake: Standby::default(),
            begun_at: None,
            back: None,
            further: crate::ledger::Further::NONE,
        },
        stage: stage.unwrap(),
        progress: None,
    };
    let offers = offers(package);
    after.engine.restore_upgrade(after.now, upgrade, offers);
    after.collect();
    after.may_admit(true, true);
}

#[test]
fn when_a_device_was_heard_is_told_once_it_was_heard_here() {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    world.add("meter-1");
    let id = ids().of("meter-1");
    let last_heard = |world: &World| world.engine.last_heard(world.now, id);
    assert_eq!(last_heard(&world), None, "never");
    device.register(&mut world);
    let registered = world.now.utc;
    world.pass_s(100);
    assert_eq!(last_heard(&world), Some(registered));
    // nothing of an update is stored
    let changes = world.changes.len();
    device.update(&mut world);
    let updated = world.now.utc;
    world.pass_s(100);
    assert_eq!(world.changes.len(), changes);
    assert_eq!(last_heard(&world), Some(updated));
    let Some(Change::Registered { registration, .. }) = world.changes.last() else {
        panic!("{:?}", world.changes);
    };
    let record = DeviceRecord {
        protocol: crate::ledger::Protocol::Lwm2m,
        secure: false,
        endpoint: "meter-1".into(),
        product: "default".into(),
        registration: Some(registration.clone()),
        last_heard_at: Some(registered),
        coverage: None,
        version: None,
        evidence: Vec::new(),
        wake_ups: None,
        appointment: None,
        via: crate::ledger::Via::Itself,
    };
    let mut after = World::new();
    after.now = world.now + Duration::from_secs(30);
    after.engine.restore_device(after.now, &record);
    assert_eq!(last_heard(&after), None, "only the store knows");
    device.update(&mut after);
    assert_eq!(last_heard(&after), Some(after.now.utc));
}

fn negotiated() -> (World, Script) {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    world.add("meter-1");
    world.start("meter-1", 1, &package("V2", &content()));
    device.negotiate(&mut world, 7, -112, -8);
    device.receive(&mut world);
    (world, device)
}

#[test]
fn a_download_goes_on_without_a_new_registration() {
    let (mut before, mut device) = negotiated();
    device.asks_segment(&mut before, "V2", 0);
    let mut after = restarted(&before);
    assert_eq!(after.gate.slots_taken(crate::ledger::Lane::Cell(7)), 1);
    assert!(after.take_sent().is_empty(), "it is left alone");
    after.next_id = 500;
    device.asks_segment(&mut after, "V2", 1);
    assert_eq!(after.engine.counters().segments_served, 1);
    assert!(!device.frames(&mut after).is_empty());
}

#[test]
fn the_limit_goes_on_by_the_wall_clock() {
    let (mut before, device) = negotiated();
    for segment in 0..6 {
        // it goes on, or its slot would go to the next
        device.asks_segment(&mut before, "V2", segment);
        before.pass_s(500);
    }
    let mut after = restarted(&before);
    after.pass_s(3_600 - 3_000 - 31);
    assert_eq!(after.outcome(1), None);
    after.pass_s(2);
    assert!(matches!(after.outcome(1), Some(Outcome::Failed(_))));
}

#[test]
fn a_notification_that_may_not_have_left_is_sent() {
    let (before, mut device) = negotiated();
    let mut after = restarted(&before);
    assert!(matches!(
        decoded(&device.frames(&mut after))[..],
        [PlatformMessage::NewVersion { .. }]
    ));
}

#[test]
fn a_command_that_may_not_have_left_is_asked_after_first() {
    let (mut before, mut device) = negotiated();
    let message = DeviceMessage::DownloadReport {
        status: ResultCode::SUCCESS,
    };
    device.say(&mut before, &message);
    let mut after = restarted(&before);
    after.next_id = 500;
    assert!(after.take_sent().is_empty());
    after.pass_s(46);
    assert_eq!(
        decoded(&device.frames(&mut after)),
        [PlatformMessage::VersionQuery]
    );
    device.says_version(&mut after, "V1");
    assert_eq!(
        decoded(&device.frames(&mut after)),
        [PlatformMessage::Execute]
    );
}

#[test]
fn a_question_is_put_again() {
    let mut before = World::new();
    let mut device = Script::new("meter-1", 1);
    before.add("meter-1");
    before.start("meter-1", 1, &package("V2", &content()));
    device.register(&mut before);
    device.receive(&mut before);
    let mut after = restarted(&before);
    assert_eq!(
        decoded(&device.frames(&mut after)),
        [PlatformMessage::VersionQuery]
    );
}

fn record(endpoint: &str, port: u16, now: Now) -> DeviceRecord {
    DeviceRecord {
        protocol: crate::ledger::Protocol::Lwm2m,
        secure: false,
        endpoint: endpoint.into(),
        product: "default".into(),
        registration: Some(Registration {
            location: location(endpoint),
            peer: peer(port),
            lifetime_s: 300,
            expires_at: now.utc + Duration::from_mins(5),
            registered_at: now.utc,
            message_id: None,
            queue_mode: QueueMode::Off,
            lwm2m_version: None,
            binding: Binding::default(),
            announced: None,
        }),
        last_heard_at: Some(now.utc),
        coverage: Some(CoverageReading {
            coverage: crate::ledger::Coverage {
                cell: Some(7),
                rsrp_dbm: Some(-112),
                sinr_db: Some(-8),
            },
            at: now.utc,
        }),
        version: None,
        evidence: Vec::new(),
        wake_ups: None,
        appointment: None,
        via: crate::ledger::Via::Itself,
    }
}

fn active(n: i64, stage: Stage, now: Now) -> ActiveUpgrade {
    ActiveUpgrade {
        order: UpgradeOrder {
            upgrade: UpgradeId(n),
            task: TaskId(1),
            endpoint: format!("meter-{n}"),
            served: Served::first(PackageId(1)),
            hardware: None,
            attempt: 1,
            retry: RetryPolicy::default(),
            kept_awake: Standby::default(),
            begun_at: None,
            back: None,
            further: crate::ledger::Further::NONE,
        },
        stage: StageChange {
            stage,
            entered_at: now.utc,
            deadline_at: now.utc + Duration::from_mins(50),
            queued_at: Some(now.utc),
            slot_deadline_at: Some(now.utc + Duration::from_mins(5000)),
            cell: Some(7),
            cell_limit: Some(1),
            confirmed: stage == Stage::Downloading,
            download_errors: 0,
        },
        progress: None,
    }
}

#[test]
fn no_slot_is_granted_before_all_that_were_held_are_known() {
    let mut world = World::new();
    let now = world.now;
    let p = offers(&package("V2", &content()));
    world.gate.open(false);
    world.engine.restore_device(now, &record("meter-1", 1, now));
    world.engine.restore_device(now, &record("meter-2", 2, now));
    world
        .engine
        .restore_upgrade(now, active(1, Stage::WaitingForSlot, now), p.clone());
    world
        .engine
        .restore_upgrade(now, active(2, Stage::Downloading, now), p);
    world.collect();
    world.may_admit(true, true);
    assert_eq!(
        world.gate.slots_taken(crate::ledger::Lane::Cell(7)),
        1,
        "limit is 1"
    );
}

#[test]
fn a_registration_that_was_renewed_without_a_write_outlives_a_restart() {
    let (mut before, mut device) = negotiated();
    before.pass_s(3_000);
    device.update(&mut before);
    device.receive(&mut before);
    let mut after = restarted(&before);
    // by what was written it would end 86,400 s after it began
    after.pass_s(86_400 - 30);
    let ended = |change: &Change| matches!(change, Change::Deregistered { .. });
    assert!(!after.changes.iter().any(ended));
    after.pass_s(3_600);
    assert!(after.changes.iter().any(ended));
}

fn known(endpoint: &str) -> DeviceRecord {
    DeviceRecord {
        protocol: crate::ledger::Protocol::Lwm2m,
        secure: false,
        endpoint: endpoint.into(),
        product: "default".into(),
        registration: None,
        last_heard_at: None,
        coverage: None,
        version: None,
        evidence: Vec::new(),
        wake_ups: None,
        appointment: None,
        via: crate::ledger::Via::Itself,
    }
}

#[test]
fn nobody_is_told_to_be_unknown_before_all_devices_are_known() {
    let config = Config::default();
    assert_eq!(config.lwm2m.registration, RegistrationPolicy::Known);
    for (policy, answer) in [
        (RegistrationPolicy::Known, Code::FORBIDDEN),
        (RegistrationPolicy::Open, Code::CREATED),
    ] {
        let mut config = Config::default();
        config.lwm2m.registration = policy;
        let mut world = World::with(config);
        world.engine.expect_devices();
        world.command(Command::Restore(vec![known("meter-1")]));
        let mut late = Script::new("meter-2", 2);
        let update = request(Code::POST, 1, &["rd", "0123456789ab"], &[]);
        world.datagram(
            late.at,
            &request(Code::POST, 2, &["rd"], &["ep=meter-2".into()]),
        );
        world.datagram(late.at, &update);
        let token = crate::coap::Token::new(&[1; 8]);
        let data = MessageBuilder::new(Kind::Confirmable, Code::CONTENT, 3, token);
        world.datagram(late.at, &data.build());
        assert!(world.take_sent().is_empty());
        assert_eq!(
            Script::new("meter-1", 1).register(&mut world),
            Code::CREATED
        );
        let of_stranger = world.engine.find("meter-2");
        assert_eq!(of_stranger, None);
        world.command(Command::Restore(vec![known("meter-3")]));
        world.command(Command::Restored);
        assert_eq!(late.register(&mut world), answer);
        world.datagram(peer(9), &update);
        assert_eq!(world.take_sent().last().unwrap().1.code(), Code::NOT_FOUND);
    }
}

#[test]
fn a_device_that_was_heard_before_its_record_was_read_stays_as_it_is() {
    let (before, _) = negotiated();
    let mut after = restarted(&before);
    let registered = |world: &World| {
        let key = world.engine.find("meter-1").unwrap();
        world.engine.device(key).registration.is_some()
    };
    assert!(registered(&after));
    after.command(Command::Restore(vec![known("meter-1")]));
    assert!(registered(&after));
    assert_eq!(after.engine.population(), (1, 1));
}

#[test]
fn a_move_between_renewals_does_not_end_a_registration_early() {
    let (mut before, mut device) = negotiated();
    before.pass_s(84_000);
    // heard from another port, so that the registration is written with the end that it had
    device.at = peer(2);
    device.notify(&mut before, b"its own data");
    before.pass_s(1_200);
    device.update(&mut before);
    device.receive(&mut before);
    let mut after = restarted(&before);
    after.pass_s(86_400 - 60);
    let ended = |change: &Change| matches!(change, Change::Deregistered { .. });
    assert!(!after.changes.iter().any(ended));
    // and a move after the restart does not make it longer
    device.at = peer(3);
    after.next_id = 900;
    device.notify(&mut after, b"its own data");
    let again = restarted(&after);
    let expires = |world: &World| {
        let key = world.engine.find("meter-1").unwrap();
        world
            .engine
            .device(key)
            .registration
            .as_ref()
            .unwrap()
            .expires
    };
    assert_eq!(expires(&again), expires(&after));
}

#[test]
fn nothing_is_sent_where_another_device_may_be_that_is_not_read_yet() {
    let (mut before, device) = negotiated();
    before.changes.retain(|change| {
        // it waits for a slot no longer than it takes to be asked again
        !matches!(change, Change::Stage { change, .. } if change.stage.holds_slot())
    });
    for other_is_there in [false, true] {
        let mut after = World::new();
        after.now = before.now + Duration::from_secs(30);
        let setup = Setup {
            config: Arc::new(Config::default()),
            seed: [7; 32],
            ids: ids(),
            engines: 1,
        };
        after.engine = Engine::new(setup, after.now);
        after.engine.expect_devices();
        restore(&mut after, &before, &package("V2", &content()));
        after.pass_s(5);
        assert!(after.take_sent().is_empty());
        let mut other = known("meter-2");
        other.last_heard_at = Some(before.now.utc + Duration::from_secs(1));
        other.registration = other_is_there.then(|| Registration {
            location: location("meter-2"),
            peer: device.at,
            lifetime_s: 86_400,
            expires_at: after.now.utc + Duration::from_hours(20),
            registered_at: before.now.utc,
            message_id: None,
            queue_mode: QueueMode::Off,
            lwm2m_version: None,
            binding: Binding::default(),
            announced: None,
        });
        after.command(Command::Restore(vec![other]));
        after.command(Command::Restored);
        after.pass_s(60);
        assert_eq!(after.take_sent().is_empty(), other_is_there);
    }
}

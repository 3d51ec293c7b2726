use super::*;

fn weak(world: &mut World, n: u16) -> Script {
    let endpoint = format!("meter-{n}");
    let mut device = Script::new(&endpoint, n);
    world.add(&endpoint);
    world.start(&endpoint, i64::from(n), &package("V2", &content()));
    device.negotiate(world, 7, -112, -8);
    device
}

#[test]
fn a_sleeper_for_whom_the_cell_drained_holds_up_nobody() {
    let mut config = Config::default();
    config.admission.overtake_s = 100;
    let mut world = World::with(config);
    // holder with good coverage
    let mut good = Script::new("meter-1", 1);
    world.add("meter-1");
    world.start("meter-1", 1, &package("V2", &content()));
    good.negotiate(&mut world, 7, -90, 15);
    good.receive(&mut world);
    good.asks_segment(&mut world, "V2", 0);
    good.receive(&mut world);
    // weak sleeper waits
    let mut weak = Script::new("meter-2", 2).asleep_between();
    world.add("meter-2");
    world.start("meter-2", 2, &package("V2", &content()));
    weak.negotiate(&mut world, 7, -112, -8);
    weak.receive(&mut world);
    // overtaken by a third
    let mut third = Script::new("meter-3", 3);
    world.add("meter-3");
    world.start("meter-3", 3, &package("V2", &content()));
    third.negotiate(&mut world, 7, -90, 15);
    third.receive(&mut world);
    third.asks_segment(&mut world, "V2", 0);
    third.receive(&mut world);
    world.pass_s(50);
    weak.update(&mut world); // heard 50 s later: still patient
    weak.receive(&mut world);
    world.pass_s(70); // 120 s: impatient; last heard 70 s ago, so "awake"
    // something touches the cell
    let mut fourth = Script::new("meter-4", 4);
    world.add("meter-4");
    world.start("meter-4", 4, &package("V2", &content()));
    fourth.negotiate(&mut world, 7, -90, 15); // stands behind
    fourth.receive(&mut world);
    // weak never answers again (asleep). Everybody else leaves the cell.
    let fail = DeviceMessage::DownloadReport {
        status: ResultCode::CHECK_FAILED,
    };
    world.pass_s(60);
    assert!(!fourth.frames(&mut world).iter().any(|f| f[3] == 20));
    good.receive(&mut world);
    third.receive(&mut world);
    good.say(&mut world, &fail);
    third.say(&mut world, &fail);
    for _ in 0..60 {
        world.pass_s(60);
        world.sent.retain(|(to, _)| *to != weak.at);
        fourth.update(&mut world);
        if fourth.frames(&mut world).iter().any(|f| f[3] == 20) {
            return;
        }
    }
    panic!(
        "the fourth device was not admitted within an hour; active = {}",
        world.gate.slots_taken(crate::ledger::Lane::Cell(7))
    );
}

#[test]
fn a_notification_that_never_left_gives_its_slot_back() {
    let mut world = World::new();
    let mut first = weak(&mut world, 1);
    first.receive(&mut world);
    // device 2 sleeps between, waits for the slot
    let mut second = Script::new("meter-2", 2).asleep_between();
    world.add("meter-2");
    world.start("meter-2", 2, &package("V2", &content()));
    second.negotiate(&mut world, 7, -112, -8);
    second.receive(&mut world);
    world.pass_s(200); // asleep
    let fail = DeviceMessage::DownloadReport {
        status: ResultCode::CHECK_FAILED,
    };
    first.receive(&mut world);
    first.say(&mut world, &fail);
    first.receive(&mut world);
    // the second registers again, hears our answer, and nothing more
    second.register(&mut world);
    assert_eq!(world.gate.slots_taken(crate::ledger::Lane::Cell(7)), 1);
    for _ in 0..20 {
        world.pass_s(60);
        world.sent.retain(|(to, _)| *to != second.at);
    }
    assert_eq!(
        world.gate.slots_taken(crate::ledger::Lane::Cell(7)),
        0,
        "slot held for a sleeper for 20 min"
    );
}

#[test]
fn a_token_tells_more_than_an_address() {
    let mut world = World::new();
    for n in 1..=2 {
        world.add(&format!("meter-{n}"));
    }
    let mut a = Script::new("meter-1", 1);
    let mut b = Script::new("meter-2", 2);
    a.register(&mut world);
    a.receive(&mut world);
    b.register(&mut world);
    b.receive(&mut world);
    world.start("meter-1", 1, &package("V2", &content()));
    world.start("meter-2", 2, &package("V3", &content()));
    a.receive(&mut world);
    b.receive(&mut world);
    // NAT: b now has a's old address
    b.at = a.at;
    b.notify(&mut world, b"data");
    let got = b.receive(&mut world);
    assert!(!got.iter().any(|r| matches!(r, Received::Reset)), "{got:?}");
}

#[test]
fn a_ping_answered_by_an_acknowledgement_is_a_sign_of_life() {
    let mut world = World::new();
    world.add("meter-1");
    let mut a = Script::new("meter-1", 1);
    a.queries = vec!["lt=86400".into()];
    a.register(&mut world);
    a.receive(&mut world);
    world.pass_s(600);
    world.start("meter-1", 1, &package("V2", &content()));
    world.pass_s(1);
    let (_, ping) = world.sent.pop_front().expect("pinged");
    assert_eq!(ping.code(), Code::EMPTY);
    world.datagram(a.at, &crate::coap::empty_ack(ping.message_id()));
    world.pass_s(3600);
    assert!(world.stages().contains(&Stage::QueryingVersion));
}

#[test]
fn a_download_reported_again_is_commanded_again() {
    let mut world = World::new();
    let mut a = weak(&mut world, 1);
    a.receive(&mut world);
    let done = DeviceMessage::DownloadReport {
        status: ResultCode::SUCCESS,
    };
    a.say(&mut world, &done);
    // radio outage: nothing arrives for 4 minutes
    for _ in 0..48 {
        world.pass_s(10);
        world.take_sent();
    }
    a.say(&mut world, &done);
    for _ in 0..20 {
        if a.frames(&mut world).iter().any(|f| f[3] == 23) {
            return;
        }
        world.pass_s(60);
        a.say(&mut world, &done);
    }
    panic!("no command in 20 min");
}

#[test]
fn a_device_that_reports_the_target_in_the_queue_is_done() {
    let mut world = World::new();
    let mut first = weak(&mut world, 1);
    first.receive(&mut world);
    let mut a = weak(&mut world, 2);
    a.receive(&mut world);
    a.register(&mut world);
    a.receive(&mut world);
    a.say(
        &mut world,
        &DeviceMessage::UpgradeReport {
            result: ResultCode::SUCCESS,
            version: version("V2"),
        },
    );
    a.receive(&mut world);
    assert_eq!(
        world
            .engine
            .device(world.engine.find("meter-2").unwrap())
            .version(),
        Some(version("V2").into())
    );
    first.say(
        &mut world,
        &DeviceMessage::DownloadReport {
            status: ResultCode::CHECK_FAILED,
        },
    );
    a.receive(&mut world);
    a.say(
        &mut world,
        &DeviceMessage::NotificationResponse {
            result: ResultCode(3),
        },
    );
    assert!(
        matches!(world.outcome(2), Some(Outcome::Succeeded(_))),
        "{:?}",
        world.outcome(2)
    );
}

#[test]
fn a_command_delivered_twice_is_no_refusal() {
    let mut world = World::new();
    let mut a = weak(&mut world, 1);
    a.receive(&mut world);
    a.say(
        &mut world,
        &DeviceMessage::DownloadReport {
            status: ResultCode::SUCCESS,
        },
    );
    a.receive(&mut world);
    a.say(
        &mut world,
        &DeviceMessage::ExecuteResponse {
            result: ResultCode::SUCCESS,
        },
    );
    a.say(
        &mut world,
        &DeviceMessage::ExecuteResponse {
            result: ResultCode(1),
        },
    );
    assert_eq!(world.outcome(1), None);
}

#[test]
fn after_a_second_command_the_device_has_its_time() {
    let mut world = World::new();
    let mut a = weak(&mut world, 1);
    a.receive(&mut world);
    a.say(
        &mut world,
        &DeviceMessage::DownloadReport {
            status: ResultCode::SUCCESS,
        },
    );
    for _ in 0..48 {
        world.pass_s(10);
        world.take_sent();
    } // outage
    a.notify(&mut world, b"data");
    a.receive(&mut world);
    world.pass_s(46);
    assert_eq!(
        decoded(&a.frames(&mut world)),
        [PlatformMessage::VersionQuery]
    );
    world.pass_s(20);
    a.says_version(&mut world, "V1");
    assert_eq!(decoded(&a.frames(&mut world)), [PlatformMessage::Execute]);
    // writes its flash for two minutes, still answering
    world.pass_s(60);
    let asked = !a.frames(&mut world).is_empty();
    if asked {
        a.says_version(&mut world, "V1");
    }
    assert_eq!(world.outcome(1), None, "asked after 60 s of a 30 min limit");
}

#[test]
fn alarms_of_a_paced_cell_do_not_pile_up() {
    let mut config = Config::default();
    config.admission.per_cell_per_second = 1;
    let mut world = World::with(config);
    let mut devices: Vec<Script> = (1..=30u16)
        .map(|n| {
            let endpoint = format!("meter-{n}");
            let mut device = Script::new(&endpoint, n);
            world.add(&endpoint);
            world.start(&endpoint, i64::from(n), &package("V2", &content()));
            device.negotiate(&mut world, 7, -90, 15);
            device
        })
        .collect();
    for _ in 0..100 {
        for d in &mut devices {
            d.notify(&mut world, b"x");
        }
        world.take_sent();
    }
    assert!(world.engine.timers.len() <= devices.len() + 1);
}

#[test]
fn an_acknowledged_notification_has_arrived() {
    let mut world = World::new();
    let mut a = weak(&mut world, 1);
    let at = world
        .sent
        .iter()
        .position(|(to, m)| *to == a.at && m.code() == Code::PUT)
        .unwrap();
    let (_, put) = world.sent.remove(at).unwrap();
    world.datagram(a.at, &crate::coap::empty_ack(put.message_id()));
    a.receive(&mut world);
    world.pass_s(125);
    assert_eq!(world.gate.slots_taken(crate::ledger::Lane::Cell(7)), 1);
}

#[test]
fn asks_to_be_observed_again_when_answers_stay_away() {
    let mut world = World::new();
    let mut a = weak(&mut world, 1);
    a.receive(&mut world);
    a.say(
        &mut world,
        &DeviceMessage::DownloadReport {
            status: ResultCode::SUCCESS,
        },
    );
    a.receive(&mut world);
    world.pass_s(100);
    a.update(&mut world); // rebooted, kept its registration, lost the observation
    for _ in 0..20 {
        world.pass_s(60);
        if world.sent.iter().any(|(_, m)| m.observe() == Some(0)) {
            return;
        }
        a.receive(&mut world);
        a.update(&mut world);
        a.receive(&mut world);
    }
    panic!("never observed again: {:?}", world.outcome(1));
}

#[test]
fn a_repeated_failure_of_the_download_gets_the_same_answer() {
    let mut world = World::new();
    let mut a = weak(&mut world, 1);
    a.receive(&mut world);
    let failed = DeviceMessage::DownloadReport {
        status: ResultCode::CHECK_FAILED,
    };
    a.say(&mut world, &failed);
    let first = a.frames(&mut world);
    assert!(matches!(world.outcome(1), Some(Outcome::Failed(_))));
    a.say(&mut world, &failed);
    assert_eq!(a.frames(&mut world), first);
}

#[test]
fn a_question_that_went_to_a_lost_address_is_put_again_where_the_device_is() {
    let mut world = World::new();
    world.add("meter-1");
    world.add("meter-2");
    world.start("meter-1", 1, &package("V2", &content()));
    let mut a = Script::new("meter-1", 1);
    let mut b = Script::new("meter-2", 1);
    a.register(&mut world);
    a.receive(&mut world);
    a.says_version(&mut world, "V1");
    world.take_sent(); // the read of its coverage is lost
    b.register(&mut world); // its address is another device's now
    world.take_sent();
    a.at = peer(2);
    a.update(&mut world);
    let received = a.receive(&mut world);
    assert!(
        received
            .iter()
            .any(|r| matches!(r, Received::Read(path, _) if path == "4/0")),
        "{received:?}"
    );
}

#[test]
fn what_is_due_is_done_while_nothing_can_be_stored() {
    let mut world = World::new();
    world.add("meter-1");
    let mut a = Script::new("meter-1", 1);
    a.register(&mut world);
    let (_, observe) = world.sent.pop_front().unwrap();
    // a separate response is announced, and never comes
    world.datagram(a.at, &crate::coap::empty_ack(observe.message_id()));
    world.command(Command::StoreAvailable(false));
    let end = world.now.instant + Duration::from_mins(10);
    for _ in 0..100 {
        let Some(at) = world.engine.poll_timeout().filter(|at| *at < end) else {
            return;
        };
        world.now = world.now + at.since(world.now.instant);
        world.engine.handle_timeout(world.now);
        world.collect();
    }
    panic!("something stays due");
}

#[test]
fn exchanges_leave_no_alarms_behind_for_the_end_of_a_long_registration() {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    device.queries = vec!["lt=0".into()]; // a year
    world.add("meter-1");
    device.register(&mut world);
    for _ in 0..50 {
        device.receive(&mut world);
        world.pass_s(60);
        device.asks_segment(&mut world, "V2", 0); // answered: there is no such task
    }
    assert_eq!(world.engine.tables().alarms, 1);
    let endpoint = "meter-1".into();
    world.command(Command::RemoveDevice { endpoint });
    assert_eq!(world.engine.tables().alarms, 0);
}

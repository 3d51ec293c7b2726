use super::*;
use crate::ledger::{Cancellation, Deadline, Failure, StopReason, Success};

fn upgrading() -> (World, Script) {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    world.add("meter-1");
    world.start("meter-1", 1, &package("V2", &content()));
    device.negotiate(&mut world, 51234, -90, 15);
    (world, device)
}

fn notified() -> (World, Script) {
    let (mut world, mut device) = upgrading();
    let frames = device.frames(&mut world);
    assert!(matches!(
        decoded(&frames)[..],
        [PlatformMessage::NewVersion {
            segment_size: 100,
            segment_count: 10,
            ..
        }]
    ));
    (world, device)
}

fn executing() -> (World, Script) {
    let (mut world, mut device) = notified();
    device.say(
        &mut world,
        &DeviceMessage::DownloadReport {
            status: ResultCode::SUCCESS,
        },
    );
    let frames = device.frames(&mut world);
    assert_eq!(
        decoded(&frames),
        [
            PlatformMessage::DownloadReportResponse {
                result: ResultCode::SUCCESS
            },
            PlatformMessage::Execute
        ]
    );
    (world, device)
}

fn segment_of(frames: &[Vec<u8>]) -> Vec<u8> {
    match decoded(frames)[..] {
        [
            PlatformMessage::SegmentResponse {
                result: ResultCode::SUCCESS,
                data,
                ..
            },
        ] => data.to_vec(),
        ref other => panic!("no segment: {other:?}"),
    }
}

fn report(result: ResultCode, text: &str) -> DeviceMessage<'static> {
    DeviceMessage::UpgradeReport {
        result,
        version: version(text),
    }
}

#[test]
fn a_device_is_upgraded_from_registration_to_report() {
    let (mut world, mut device) = notified();
    device.say(
        &mut world,
        &DeviceMessage::NotificationResponse {
            result: ResultCode::SUCCESS,
        },
    );
    let mut got = Vec::new();
    for segment in 0..10 {
        device.asks_segment(&mut world, "V2", segment);
        got.extend(segment_of(&device.frames(&mut world)));
    }
    assert_eq!(got, content());
    device.say(
        &mut world,
        &DeviceMessage::DownloadReport {
            status: ResultCode::SUCCESS,
        },
    );
    device.receive(&mut world);
    device.say(
        &mut world,
        &DeviceMessage::ExecuteResponse {
            result: ResultCode::SUCCESS,
        },
    );
    world.pass_s(60);
    device.register(&mut world);
    device.receive(&mut world);
    device.say(&mut world, &report(ResultCode::SUCCESS, "V2"));
    assert_eq!(
        decoded(&device.frames(&mut world)),
        [PlatformMessage::UpgradeReportResponse {
            result: ResultCode::SUCCESS
        }]
    );
    assert_eq!(
        world.outcome(1),
        Some(Outcome::Succeeded(Success::Upgraded))
    );
    assert_eq!(
        world.stages(),
        [
            Stage::WaitingForDevice,
            Stage::QueryingVersion,
            Stage::QueryingCoverage,
            Stage::WaitingForSlot,
            Stage::Downloading,
            Stage::Executing
        ]
    );
    assert_eq!(world.gate.lane_count(), 0);
    // the report's repeat gets the same answer and changes nothing
    world.take_changes();
    device.say(&mut world, &report(ResultCode::SUCCESS, "V2"));
    assert_eq!(
        decoded(&device.frames(&mut world)),
        [PlatformMessage::UpgradeReportResponse {
            result: ResultCode::SUCCESS
        }]
    );
    assert!(world.take_changes().is_empty());
}

#[test]
fn nothing_leaves_before_the_change_that_it_depends_on() {
    let (world, device) = upgrading();
    // the grant of the slot is the newest change of the device
    let granted = world.newest - 1; // followed by the cell's statistics, which nothing waits for
    let last = world.held_back.iter().rfind(|(to, _)| *to == device.at);
    assert_eq!(last.unwrap().1, granted);
}

#[test]
fn the_same_version_ends_the_upgrade_at_once() {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    world.add("meter-1");
    world.start("meter-1", 1, &package("V1", &content()));
    device.register(&mut world);
    device.receive(&mut world);
    device.says_version(&mut world, "V1");
    assert_eq!(
        world.outcome(1),
        Some(Outcome::Succeeded(Success::AlreadyCurrent))
    );
}

#[test]
fn segments_are_served_in_any_order_and_again_the_same_way() {
    let (mut world, mut device) = notified();
    for segment in [7, 0, 9, 7, 7] {
        device.asks_segment(&mut world, "V2", segment);
        let start = usize::from(segment) * 100;
        assert_eq!(
            segment_of(&device.frames(&mut world)),
            content()[start..start + 100]
        );
    }
}

#[test]
fn a_repeated_request_repeats_the_message_that_is_on_its_way() {
    let (mut world, device) = notified();
    device.asks_segment(&mut world, "V2", 3);
    let first = world.take_sent();
    device.asks_segment(&mut world, "V2", 3);
    let second = world.take_sent();
    let put = |sent: &[(Peer, Message)]| {
        sent.iter()
            .find(|(_, m)| m.code() == Code::PUT)
            .map(|(_, m)| (m.message_id(), m.payload().to_vec()))
            .unwrap()
    };
    assert_eq!(put(&first), put(&second));
    // the next segment takes its place: the one before has arrived, or nobody would ask for more
    device.asks_segment(&mut world, "V2", 4);
    let third = world.take_sent();
    assert_ne!(put(&third).0, put(&first).0);
    world.pass_s(600);
    let repeats = world.take_sent();
    assert!(repeats.iter().all(|(_, m)| m.payload() != put(&first).1));
}

#[test]
fn refuses_segments_in_the_forms_that_every_device_reads() {
    let (mut world, mut device) = notified();
    device.asks_segment(&mut world, "V2", 10);
    let frames = device.frames(&mut world);
    assert_eq!(frames[0][8..], [0x81, 0, 10]);
    device.asks_segment(&mut world, "V9", 0);
    let frames = device.frames(&mut world);
    assert_eq!(frames[0][8..], [0x80]);
}

#[test]
fn a_device_without_an_upgrade_is_told_that_there_is_none() {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    world.add("meter-1");
    device.register(&mut world);
    device.receive(&mut world);
    device.asks_segment(&mut world, "V2", 0);
    assert_eq!(device.frames(&mut world)[0][8..], [0x80]);
    device.say(
        &mut world,
        &DeviceMessage::DownloadReport {
            status: ResultCode::SUCCESS,
        },
    );
    assert_eq!(device.frames(&mut world)[0][8..], [0x80]);
    device.say(&mut world, &report(ResultCode::SUCCESS, "V3"));
    assert_eq!(device.frames(&mut world)[0][8..], [0x80]);
    assert!(world.changes.iter().any(|change| matches!(
        change,
        Change::VersionReported { version: v, .. } if *v == version("V3").into()
    )));
}

#[test]
fn an_answer_to_the_notification_is_not_needed() {
    let (mut world, mut device) = notified();
    device.asks_segment(&mut world, "V2", 4); // resumes, too
    assert_eq!(segment_of(&device.frames(&mut world)), content()[400..500]);
    assert!(world.changes.iter().any(|change| matches!(
        change,
        Change::Stage { change, .. } if change.stage == Stage::Downloading && change.confirmed
    )));
}

#[test]
fn refusals_fail_the_upgrade_with_what_the_device_said() {
    let (mut world, device) = notified();
    device.say(
        &mut world,
        &DeviceMessage::NotificationResponse {
            result: ResultCode::LOW_BATTERY,
        },
    );
    assert_eq!(
        world.outcome(1),
        Some(Outcome::Failed(Failure::NotificationRefused(
            ResultCode::LOW_BATTERY
        )))
    );
    assert_eq!(world.gate.lane_count(), 0);

    let (mut world, device) = executing();
    device.say(&mut world, &report(ResultCode::INSTALL_FAILED, "V1"));
    assert_eq!(
        world.outcome(1),
        Some(Outcome::Failed(Failure::UpgradeFailed(
            ResultCode::INSTALL_FAILED
        )))
    );
}

#[test]
fn a_device_that_times_out_by_itself_goes_on() {
    let (mut world, mut device) = notified();
    device.asks_segment(&mut world, "V2", 0);
    device.receive(&mut world);
    device.say(
        &mut world,
        &DeviceMessage::ExecuteResponse {
            result: ResultCode::DOWNLOAD_TIMED_OUT,
        },
    );
    device.asks_segment(&mut world, "V2", 1);
    assert_eq!(segment_of(&device.frames(&mut world)), content()[100..200]);
    assert_eq!(world.outcome(1), None);
}

#[test]
fn a_quiet_download_is_nudged() {
    let (mut world, mut device) = notified();
    for segment in 0..4 {
        device.asks_segment(&mut world, "V2", segment);
        device.receive(&mut world);
    }
    world.pass_s(61);
    let frames = device.frames(&mut world);
    assert!(matches!(
        decoded(&frames)[..],
        [PlatformMessage::NewVersion { .. }]
    ));
    // so far only the first request was stored: the others came within a few seconds
    let stored = world.changes.iter().filter_map(|change| match change {
        Change::Progress { progress, .. } => Some(progress.done_bytes / 100),
        _ => None,
    });
    assert_eq!(stored.collect::<Vec<_>>(), [0, 3]);
}

#[test]
fn a_device_that_registers_anew_in_the_download_goes_on_from_its_new_address() {
    let (mut world, mut device) = notified();
    device.asks_segment(&mut world, "V2", 0);
    device.receive(&mut world);
    device.at = peer(77);
    device.register(&mut world);
    device.receive(&mut world);
    device.asks_segment(&mut world, "V2", 1);
    assert_eq!(segment_of(&device.frames(&mut world)), content()[100..200]);
    // and one that lost its address but not its observation, too
    device.at = peer(78);
    device.asks_segment(&mut world, "V2", 2);
    assert_eq!(segment_of(&device.frames(&mut world)), content()[200..300]);
}

#[test]
fn a_device_back_without_result_is_asked_for_its_version() {
    let (mut world, mut device) = executing();
    world.pass_s(100);
    device.register(&mut world);
    device.receive(&mut world);
    world.pass_s(46);
    let frames = device.frames(&mut world);
    assert_eq!(decoded(&frames), [PlatformMessage::VersionQuery]);
    device.says_version(&mut world, "V1");
    assert_eq!(
        world.outcome(1),
        Some(Outcome::Failed(Failure::WrongVersion(version("V1").into())))
    );
}

#[test]
fn a_notification_that_arrives_twice_is_acknowledged_twice_and_handled_once() {
    let (mut world, device) = notified();
    let token = device.observe.unwrap();
    let mut buffer = [0; 64];
    let frame = DeviceMessage::SegmentRequest {
        version: version("V2"),
        segment: 0,
    };
    let datagram = MessageBuilder::new(Kind::Confirmable, Code::CONTENT, 900, token)
        .observe(5)
        .payload(frame.encode(&mut buffer).unwrap().to_vec())
        .build();
    world.datagram(device.at, &datagram);
    let first = world.take_sent();
    world.datagram(device.at, &datagram);
    let second = world.take_sent();
    assert_eq!((first.len(), second.len()), (2, 1));
    assert_eq!(second[0].1.kind(), Kind::Acknowledgement);
    assert_eq!(world.engine.counters().segments_served, 1);
}

#[test]
fn service_data_is_a_sign_of_life_and_left_alone() {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    world.add("meter-1");
    device.register(&mut world);
    device.receive(&mut world);
    world.pass_s(200);
    world.start("meter-1", 1, &package("V2", &content()));
    world.take_sent();
    device.notify(&mut world, b"42 litres");
    assert_eq!(world.engine.counters().service_data, 1);
    let frames = device.frames(&mut world);
    assert_eq!(decoded(&frames), [PlatformMessage::VersionQuery]);
}

fn sources(world: &World) -> Vec<CoverageSource> {
    let reported = world.changes.iter().filter_map(|change| match change {
        Change::CoverageReported { source, .. } => Some(*source),
        _ => None,
    });
    reported.collect()
}

#[test]
fn coverage_is_read_resource_by_resource_when_the_object_is_refused() {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    world.add("meter-1");
    world.start("meter-1", 1, &package("V2", &content()));
    device.register(&mut world);
    device.receive(&mut world);
    device.says_version(&mut world, "V1");
    let mut asked = Vec::new();
    for (code, text) in [
        (Code::NOT_FOUND, ""),
        (Code::CONTENT, "-90"),
        (Code::CONTENT, "3"),
        (Code::CONTENT, "7"),
    ] {
        let received = device.receive(&mut world);
        let Some(Received::Read(path, read)) =
            received.iter().find(|r| matches!(r, Received::Read(..)))
        else {
            panic!("no read in {received:?}");
        };
        asked.push(path.clone());
        let answer = response(read, code).payload(text.as_bytes().to_vec());
        world.datagram(device.at, &answer.build());
    }
    assert_eq!(asked, ["4/0", "4/0/2", "4/0/11", "4/0/8"]);
    assert_eq!(
        sources(&world),
        [CoverageSource::Resources, CoverageSource::Cell]
    );
    assert!(world.changes.iter().any(|change| matches!(
        change,
        Change::Admitted {
            cell: 7,
            limit: 10,
            ..
        }
    )));
}

#[test]
fn an_answer_in_blocks_is_put_together() {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    world.add("meter-1");
    world.start("meter-1", 1, &package("V2", &content()));
    device.register(&mut world);
    device.receive(&mut world);
    device.says_version(&mut world, "V1");
    let body = br#"[{"n":"/4/0/2","v":-90},{"n":"/4/0/8","v":7},{"n":"/4/0/11","v":15}]"#;
    for number in 0.. {
        let received = device.receive(&mut world);
        let Some(Received::Read(_, read)) =
            received.iter().find(|r| matches!(r, Received::Read(..)))
        else {
            break;
        };
        let asked = crate::coap::Block {
            number,
            more: false,
            szx: 1,
        };
        let (part, block) = crate::coap::slice(body, asked).unwrap();
        let answer = response(read, Code::CONTENT)
            .content_format(ContentFormat(110))
            .block2(block.encode())
            .payload(part.to_vec());
        world.datagram(device.at, &answer.build());
    }
    assert!(world.changes.iter().any(|change| matches!(
        change,
        Change::Admitted {
            cell: 7,
            limit: 50,
            ..
        }
    )));
    assert_eq!(sources(&world), [CoverageSource::Object]);
}

#[test]
fn a_stopped_upgrade_frees_its_slot_and_is_cancelled() {
    let (mut world, device) = notified();
    world.command(Command::Stop {
        endpoint: "meter-1".into(),
        upgrade: UpgradeId(1),
        reason: StopReason::TaskStopped,
    });
    assert_eq!(
        world.outcome(1),
        Some(Outcome::Cancelled(Cancellation::TaskStopped))
    );
    assert_eq!(world.gate.lane_count(), 0);
    world.take_sent();
    world.pass_s(4_000);
    assert!(world.take_sent().iter().all(|(to, _)| *to != device.at));
}

#[test]
fn a_cancelled_upgrade_frees_its_slot_and_is_not_tried_again() {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    world.add("meter-1");
    let order = UpgradeOrder {
        upgrade: UpgradeId(1),
        task: TaskId(1),
        endpoint: "meter-1".into(),
        served: Served::first(PackageId(1)),
        hardware: None,
        attempt: 1,
        retry: RetryPolicy {
            attempts: 2,
            interval_s: 300,
            ..RetryPolicy::default()
        },
        kept_awake: Standby::default(),
        begun_at: None,
        back: None,
        further: crate::ledger::Further::NONE,
    };
    let offers = offers(&package("V2", &content()));
    world.command(Command::Start { order, offers });
    device.negotiate(&mut world, 51234, -90, 15);
    device.frames(&mut world);
    assert_eq!(world.gate.lane_count(), 1);
    world.command(Command::Stop {
        endpoint: "meter-1".into(),
        upgrade: UpgradeId(1),
        reason: StopReason::Cancelled,
    });
    let Some(Change::Ended {
        outcome,
        retry_at: None,
        ..
    }) = world.changes.last()
    else {
        panic!("has not ended: {:?}", world.changes);
    };
    assert_eq!(*outcome, Outcome::Cancelled(Cancellation::Upgrade));
    let detail = told_at_the_end(&world).unwrap();
    assert_eq!(detail, "the upgrade was cancelled by the operator");
    assert_eq!(world.gate.lane_count(), 0);
}

#[test]
fn the_last_attempt_is_followed_by_none() {
    for (attempt, retried) in [(1, true), (2, true), (3, false)] {
        let mut world = World::new();
        world.add("meter-1");
        let order = UpgradeOrder {
            upgrade: UpgradeId(1),
            task: TaskId(1),
            endpoint: "meter-1".into(),
            served: Served::first(PackageId(1)),
            hardware: None,
            attempt,
            retry: RetryPolicy {
                attempts: 2,
                interval_s: 300,
                ..RetryPolicy::default()
            },
            kept_awake: Standby::default(),
            begun_at: None,
            back: None,
            further: crate::ledger::Further::NONE,
        };
        let offers = offers(&package("V2", &content()));
        world.command(Command::Start { order, offers });
        world.pass_s(24 * 3_600 + 1);
        let Some(Change::Ended { retry_at, at, .. }) = world.changes.last() else {
            panic!("has not ended: {:?}", world.changes);
        };
        let expected = retried.then(|| *at + Duration::from_mins(5));
        assert_eq!(*retry_at, expected);
    }
}

/// What users of the AWS `IoT` device client report: a device takes a job, never runs it, and neither the job nor those behind it ever
/// end (aws-iot-device-client #519). Wherever a device falls silent, its upgrade ends within its limits, and the next one begins.
#[test]
fn a_device_that_falls_silent_blocks_neither_its_upgrade_nor_the_next() {
    type Begin = fn() -> (World, Script);
    let silent_from: [(&str, Begin); 5] = [
        ("it is not heard", || {
            let mut world = World::new();
            world.add("meter-1");
            world.start("meter-1", 1, &package("V2", &content()));
            (world, Script::new("meter-1", 1))
        }),
        ("it is asked for its coverage", || {
            let mut world = World::new();
            let mut device = Script::new("meter-1", 1);
            world.add("meter-1");
            world.start("meter-1", 1, &package("V2", &content()));
            device.register(&mut world);
            (world, device)
        }),
        ("it is offered a version", upgrading),
        ("it downloads", || {
            let (mut world, mut device) = notified();
            device.asks_segment(&mut world, "V2", 3);
            device.receive(&mut world);
            (world, device)
        }),
        ("it is told to install", || {
            let (mut world, device) = executing();
            let accepts = DeviceMessage::ExecuteResponse {
                result: ResultCode::SUCCESS,
            };
            device.say(&mut world, &accepts);
            (world, device)
        }),
    ];
    for (what, silent) in silent_from {
        let (mut world, mut device) = silent();
        assert_eq!(world.outcome(1), None, "{what}");
        let limits = &Config::default().upgrade;
        let stages = [
            Deadline::DeviceHeard,
            Deadline::Version,
            Deadline::Coverage,
            Deadline::Cell,
            // one that does not answer the offer gives its slot back, and waits for another
            Deadline::Slot,
            Deadline::Download,
            Deadline::Execution,
        ];
        let most = stages.into_iter().map(|stage| stage.duration(limits)).sum();
        world.pass(most);
        let ended = world.outcome(1);
        assert!(
            matches!(ended, Some(Outcome::Failed(_))),
            "{what}: {ended:?}"
        );
        let lanes = world.gate.lane_count();
        assert_eq!(lanes, 0, "{what}: its slot is given back");
        // the next one has the device, and goes through
        world.take_changes();
        world.take_sent();
        world.start("meter-1", 2, &package("V3", &content()));
        device.negotiate(&mut world, 51234, -90, 15);
        let frames = device.frames(&mut world);
        let offered = decoded(&frames);
        assert!(
            matches!(offered[..], [PlatformMessage::NewVersion { .. }]),
            "{what}: {offered:?}"
        );
        assert_eq!(world.outcome(2), None, "{what}");
    }
}

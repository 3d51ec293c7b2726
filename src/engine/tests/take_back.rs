//! Upgrades that are taken back at the end of a window.

use super::*;
use crate::ledger::{Cancellation, Failure, StopReason, TakeBack};

/// The window of [`begun`] is open for so long, seconds.
const OPEN_S: u64 = 3_600;

fn back(world: &World, in_s: u64) -> TakeBack {
    let at = world.now.utc + Duration::from_secs(in_s);
    let opens_at = Some(at + Duration::from_hours(17));
    TakeBack { at, opens_at }
}

/// A device whose upgrade has begun in a window.
fn begun() -> (World, Script, TakeBack) {
    let mut world = World::new();
    let device = Script::new("meter-1", 1);
    world.add("meter-1");
    let back = back(&world, OPEN_S);
    let order = UpgradeOrder {
        upgrade: UpgradeId(1),
        task: TaskId(1),
        endpoint: "meter-1".into(),
        served: Served::first(PackageId(1)),
        hardware: None,
        attempt: 1,
        retry: RetryPolicy::default(),
        kept_awake: Standby::default(),
        begun_at: None,
        back: Some(back),
        further: crate::ledger::Further::NONE,
    };
    let offers = offers(&package("V2", &content()));
    world.command(Command::Start { order, offers });
    (world, device, back)
}

fn downloading() -> (World, Script, TakeBack) {
    let (mut world, mut device, back) = begun();
    device.negotiate(&mut world, 7, -90, 15);
    device.receive(&mut world);
    device.asks_segment(&mut world, "V2", 0);
    device.receive(&mut world);
    (world, device, back)
}

fn downloads(world: &mut World, device: &mut Script) {
    for segment in 0..10 {
        device.asks_segment(world, "V2", segment);
        device.receive(world);
    }
    let status = ResultCode::SUCCESS;
    device.say(world, &DeviceMessage::DownloadReport { status });
}

/// Outcomes, and when the next attempt begins.
fn ends(world: &World) -> Vec<(Outcome, Option<UtcMillis>)> {
    let changes = world.changes.iter().filter_map(|change| match change {
        Change::Ended {
            outcome, retry_at, ..
        } => Some((outcome.clone(), *retry_at)),
        _ => None,
    });
    changes.collect()
}

const TAKEN_BACK: Outcome = Outcome::Cancelled(Cancellation::TakenBack);

#[test]
fn what_is_not_commanded_by_the_end_of_the_window_is_taken_back() {
    for downloads in [false, true] {
        let (mut world, mut device, back) = if downloads { downloading() } else { begun() };
        world.pass_s(OPEN_S - 1);
        if downloads {
            device.asks_segment(&mut world, "V2", 1);
            device.receive(&mut world);
        }
        world.pass(Duration::from_millis(999));
        assert_eq!(ends(&world), []);
        world.pass(Duration::from_millis(1));
        assert_eq!(ends(&world), [(TAKEN_BACK, back.opens_at)]);
        assert_eq!(world.gate.lane_count(), 0, "the slot is given back");
        // a device that asks for more is told that there is nothing for it
        world.take_sent();
        if downloads {
            device.asks_segment(&mut world, "V2", 2);
            let frames = device.frames(&mut world);
            let refused = PlatformMessage::SegmentResponse {
                result: ResultCode::NO_SUCH_TASK,
                segment: None,
                data: &[],
            };
            assert_eq!(decoded(&frames), [refused]);
        }
        assert_eq!(
            world.engine.counters().segments_refused,
            u64::from(downloads)
        );
    }
}

#[test]
fn what_was_commanded_runs_to_its_end() {
    let (mut world, mut device, _) = downloading();
    downloads(&mut world, &mut device);
    assert_eq!(world.stages().last(), Some(&Stage::Executing));
    world.pass_s(OPEN_S + 60);
    assert!(
        !ends(&world)
            .iter()
            .any(|(outcome, _)| *outcome == TAKEN_BACK)
    );
}

#[test]
fn who_reports_its_download_after_the_end_is_not_commanded() {
    let (mut world, mut device, back) = downloading();
    for segment in 1..10 {
        device.asks_segment(&mut world, "V2", segment);
        device.receive(&mut world);
    }
    // no timer has rung yet
    world.now = world.now + Duration::from_secs(OPEN_S);
    let status = ResultCode::SUCCESS;
    device.say(&mut world, &DeviceMessage::DownloadReport { status });
    let frames = device.frames(&mut world);
    assert!(!decoded(&frames).contains(&PlatformMessage::Execute));
    assert_eq!(ends(&world), [(TAKEN_BACK, back.opens_at)]);
    assert!(!world.stages().contains(&Stage::Executing));
}

#[test]
fn windows_that_change_move_the_end_of_what_runs() {
    let tell = |world: &mut World, back| {
        let (endpoint, upgrade) = ("meter-1".into(), UpgradeId(1));
        world.command(Command::TakeBack {
            endpoint,
            upgrade,
            back,
        });
    };
    let (mut world, _, _) = downloading();
    let later = back(&world, 2 * OPEN_S);
    tell(&mut world, Some(later));
    world.pass_s(OPEN_S + 1);
    assert_eq!(ends(&world), []);
    tell(&mut world, None);
    world.pass_s(OPEN_S + 1);
    assert!(
        !ends(&world)
            .iter()
            .any(|(outcome, _)| *outcome == TAKEN_BACK)
    );

    let (mut world, _, _) = downloading();
    let now = back(&world, 0);
    tell(&mut world, Some(now));
    world.pass(Duration::from_millis(1));
    assert_eq!(ends(&world), [(TAKEN_BACK, now.opens_at)]);
}

#[test]
fn an_order_that_comes_after_the_end_begins_nothing() {
    let (mut world, _, _) = begun();
    world.pass_s(OPEN_S);
    assert_eq!(ends(&world).len(), 1);
    let before = world.changes.len();
    let order = UpgradeOrder {
        upgrade: UpgradeId(1),
        task: TaskId(1),
        endpoint: "meter-1".into(),
        served: Served::first(PackageId(1)),
        hardware: None,
        attempt: 2,
        retry: RetryPolicy::default(),
        kept_awake: Standby::default(),
        begun_at: None,
        back: Some(back(&world, 0)),
        further: crate::ledger::Further::NONE,
    };
    let offers = offers(&package("V2", &content()));
    world.command(Command::Start { order, offers });
    assert_eq!(world.changes.len(), before);
}

#[test]
fn a_device_that_is_heard_in_no_window_has_failed_in_the_end() {
    let not_heard = Outcome::Failed(Failure::DeviceNotHeard);
    let day = 24 * 3_600;
    // begun the first time so long ago, seconds, and heard in between or not
    for (begun_s, heard, expected) in [
        (day - 60, false, TAKEN_BACK),
        (day + 60, false, not_heard.clone()),
        (day + 60, true, TAKEN_BACK),
    ] {
        let mut world = World::new();
        world.add("meter-1");
        let begun_at = world.now.utc + Duration::from_hours(2);
        world.pass_s(2 * 3_600 + begun_s - OPEN_S);
        if heard {
            let mut device = Script::new("meter-1", 1);
            device.register(&mut world);
            world.pass_s(1);
            let leaves = request(Code::DELETE, 99, &["rd", &device.location], &[]);
            world.datagram(device.at, &leaves);
            world.pass_s(OPEN_S - 1);
        }
        let order = UpgradeOrder {
            upgrade: UpgradeId(1),
            task: TaskId(1),
            endpoint: "meter-1".into(),
            served: Served::first(PackageId(1)),
            hardware: None,
            attempt: 2,
            retry: RetryPolicy::default(),
            kept_awake: Standby::default(),
            begun_at: Some(begun_at),
            back: Some(back(&world, OPEN_S)),
            further: crate::ledger::Further::NONE,
        };
        let offers = offers(&package("V2", &content()));
        world.command(Command::Start { order, offers });
        world.pass_s(OPEN_S);
        let outcomes: Vec<Outcome> = ends(&world)
            .into_iter()
            .map(|(outcome, _)| outcome)
            .collect();
        assert_eq!(outcomes, [expected], "{begun_s} {heard}");
    }
}

#[test]
fn what_is_abandoned_is_said_to_be_let_go_of_behind_all_that_was_said_of_it() {
    let (mut world, device, _) = downloading();
    let (upgrade, attempt) = (UpgradeId(1), 1);
    world.command(Command::Abandon { upgrade });
    let last = world.changes.last();
    assert!(
        matches!(
            last,
            Some(Change::LetGo {
                upgrade: UpgradeId(1),
                attempt: 1,
                ..
            })
        ),
        "{last:?} of {attempt}"
    );
    let told = world.changes.len();
    device.asks_segment(&mut world, "V2", 1);
    world.command(Command::Abandon { upgrade });
    assert_eq!(world.changes.len(), told, "nothing more is said of it");
}

fn stop(world: &mut World) {
    world.command(Command::Stop {
        endpoint: "meter-1".into(),
        upgrade: UpgradeId(1),
        reason: StopReason::TaskStopped,
    });
}

#[test]
fn a_stop_takes_a_download_back_when_the_device_asks_for_more() {
    let (mut world, mut device, _) = downloading();
    stop(&mut world);
    world.take_sent();
    device.asks_segment(&mut world, "V2", 1);
    let none = ResultCode::NO_SUCH_TASK;
    let refused = PlatformMessage::SegmentResponse {
        result: none,
        segment: None,
        data: &[],
    };
    assert_eq!(decoded(&device.frames(&mut world)), [refused]);
    let status = ResultCode::SUCCESS;
    device.say(&mut world, &DeviceMessage::DownloadReport { status });
    let refused = PlatformMessage::DownloadReportResponse { result: none };
    assert_eq!(decoded(&device.frames(&mut world)), [refused]);
    world.pass_s(600);
    assert!(
        decoded(&device.frames(&mut world)).is_empty(),
        "it is told nothing more"
    );
}

#[test]
fn a_stop_repeats_no_command_and_believes_what_the_device_tells_later() {
    let (mut world, mut device, _) = downloading();
    downloads(&mut world, &mut device);
    assert_eq!(world.stages().last(), Some(&Stage::Executing));
    // the answer to the report is acknowledged, the command that follows it is not
    let answer = world.take_sent().pop().unwrap().1;
    let [high, low] = answer.message_id().to_be_bytes();
    world.datagram(device.at, &[0x60, 0, high, low]);
    let command = world.take_sent().pop().unwrap().1;
    assert_eq!((command.code(), command.payload()[3]), (Code::PUT, 23));
    stop(&mut world);
    world.pass_s(300);
    let repeats = world.take_sent();
    assert!(
        repeats
            .iter()
            .all(|(_, message)| message.code() != Code::PUT),
        "{repeats:?}"
    );
    // it had arrived all the same
    device.register(&mut world);
    device.receive(&mut world);
    let report = DeviceMessage::UpgradeReport {
        result: ResultCode::SUCCESS,
        version: version("V2"),
    };
    device.say(&mut world, &report);
    let answer = PlatformMessage::UpgradeReportResponse {
        result: ResultCode::NO_SUCH_TASK,
    };
    assert!(decoded(&device.frames(&mut world)).contains(&answer));
    let told = world.changes.iter().any(|change| {
        matches!(change, Change::VersionReported { version, .. } if version.as_str() == "V2")
    });
    assert!(told, "what it runs is known");
}

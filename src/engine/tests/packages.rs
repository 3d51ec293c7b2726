//! Which package a device is served, and in how many steps.

use super::*;
use crate::{
    ledger::{Cancellation, Failure, Success},
    package::{Fits, HttpPackage},
    session::Offer,
    store::apply,
};

/// A package of a task, and for whom it is: of `V1,V2` a list of versions, behind a `/` the hardware.
fn entry(id: i64, from: &str, target: &str) -> Offer {
    let (versions, hardware) = from.split_once('/').unwrap_or((from, ""));
    let list = |text: &str| -> Vec<String> {
        let parts = text.split(',').filter(|part| !part.is_empty());
        parts.map(str::to_owned).collect()
    };
    Offer {
        id: PackageId(id),
        version: version(target).into(),
        from: Fits {
            versions: (list(versions).iter())
                .map(|text| text.parse().unwrap())
                .collect(),
            hardware: list(hardware),
            ..Fits::default()
        },
        package: Some(package(target, &content())),
    }
}

fn several(list: Vec<Offer>, steps: bool) -> Arc<Offers> {
    Arc::new(Offers::new(list, steps, false).unwrap())
}

/// V1 → V2 → V3.
pub(super) fn chain() -> Arc<Offers> {
    several(vec![entry(1, "V1", "V2"), entry(2, "V2", "V3")], true)
}

pub(super) fn begin(world: &mut World, offers: Arc<Offers>, hardware: Option<&str>) {
    let order = UpgradeOrder {
        upgrade: UpgradeId(1),
        task: TaskId(1),
        endpoint: "meter-1".into(),
        served: Served::first(PackageId(1)),
        hardware: hardware.map(Into::into),
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
    world.command(Command::Start { order, offers });
}

/// A device that was asked for its version.
pub(super) fn asked(offers: Arc<Offers>, hardware: Option<&str>) -> (World, Script) {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    world.add("meter-1");
    begin(&mut world, offers, hardware);
    device.register(&mut world);
    let frames = device.frames(&mut world);
    assert_eq!(decoded(&frames), [PlatformMessage::VersionQuery]);
    (world, device)
}

/// The device, which was asked for its version, says so, and tells its cell. Returns the version that it is offered.
pub(super) fn offered(world: &mut World, device: &mut Script, runs: &str) -> Option<String> {
    device.says_version(world, runs);
    let received = device.receive(world);
    let read = received.iter().find_map(|r| match r {
        Received::Read(_, message) => Some(*message),
        _ => None,
    })?;
    device.answer_read(world, &read, 7, -90, 15);
    let frames = device.frames(world);
    decoded(&frames).iter().find_map(|message| match message {
        PlatformMessage::NewVersion { version, .. } => Some(version.to_string()),
        _ => None,
    })
}

/// The device downloads what it is offered, and is commanded.
fn downloads(world: &mut World, device: &mut Script, target: &str) {
    for segment in 0..10 {
        device.asks_segment(world, target, segment);
        device.receive(world);
    }
    let status = ResultCode::SUCCESS;
    device.say(world, &DeviceMessage::DownloadReport { status });
    let frames = device.frames(world);
    assert!(decoded(&frames).contains(&PlatformMessage::Execute));
    let result = ResultCode::SUCCESS;
    device.say(world, &DeviceMessage::ExecuteResponse { result });
}

/// And restarts, and reports that it runs it.
pub(super) fn upgrades(world: &mut World, device: &mut Script, target: &str) {
    downloads(world, device, target);
    world.pass_s(60);
    device.register(world);
    device.receive(world);
    reports(world, device, target);
}

fn reports(world: &mut World, device: &Script, target: &str) {
    let report = DeviceMessage::UpgradeReport {
        result: ResultCode::SUCCESS,
        version: version(target),
    };
    device.say(world, &report);
}

fn served(world: &World) -> Vec<(i64, u8)> {
    let changes = world.changes.iter().filter_map(|change| match change {
        Change::Serves { served, .. } => Some((served.package.0, served.step)),
        _ => None,
    });
    changes.collect()
}

fn ends(world: &World) -> Vec<(Outcome, bool)> {
    let changes = world.changes.iter().filter_map(|change| match change {
        Change::Ended {
            outcome, retry_at, ..
        } => Some((outcome.clone(), retry_at.is_some())),
        _ => None,
    });
    changes.collect()
}

#[test]
fn a_version_below_the_one_that_runs_is_given_only_where_the_task_allows_it() {
    for (runs, target, downgrade) in [
        ("V3", "V2", true),
        ("V10", "V9", true),
        ("V9", "V10", false),
        ("V1", "V2", false),
    ] {
        let only = || Offers::only(PackageId(1), package(target, &content()));
        let (mut world, mut device) = asked(Arc::new(only()), None);
        let offer = offered(&mut world, &mut device, runs);
        if downgrade {
            assert_eq!(offer, None);
            let skipped = Outcome::Cancelled(Cancellation::Downgrade);
            assert_eq!(ends(&world), [(skipped, false)], "{runs} to {target}");
            assert_eq!(
                told_at_the_end(&world).unwrap(),
                format!(
                    "skipped: it would be a downgrade, which the task does not allow. The device runs version \"{runs}\", \
                     and the package that is for it has \"{target}\". The task would have to say allow_downgrade"
                )
            );
        } else {
            assert_eq!(offer.as_deref(), Some(target));
        }
        let (mut world, mut device) = asked(Arc::new(only().allowing_downgrades()), None);
        let offer = offered(&mut world, &mut device, runs);
        assert_eq!(offer.as_deref(), Some(target), "allowed");
    }
}

#[test]
fn a_version_that_nobody_can_read_is_above_none() {
    let (mut world, mut device) = asked(offers(&package("V2", &content())), None);
    let garbage = DeviceMessage::VersionResponse {
        result: ResultCode::SUCCESS,
        version: Some(pcp::Version::from_bytes(
            *b"\xFE\xFF\x01\0\0\0\0\0\0\0\0\0\0\0\0\0",
        )),
    };
    device.say(&mut world, &garbage);
    let received = device.receive(&mut world);
    let asked = |it: &Received| matches!(it, Received::Read(path, _) if path == "4/0");
    assert!(received.iter().any(asked), "{received:?}");
    assert_eq!(ends(&world), []);
}

#[test]
fn the_package_is_the_one_for_what_the_device_says_whatever_was_known() {
    for known in [None, Some("V1"), Some("V1.5"), Some("V0")] {
        let mut world = World::new();
        let mut device = Script::new("meter-1", 1);
        let now = world.now;
        let record = DeviceRecord {
            endpoint: "meter-1".into(),
            product: "meter".into(),
            protocol: crate::ledger::Protocol::Lwm2m,
            secure: false,
            registration: None,
            last_heard_at: None,
            coverage: None,
            version: known.map(|text| version(text).into()),
            evidence: Vec::new(),
            wake_ups: None,
            appointment: None,
            via: crate::ledger::Via::Itself,
        };
        world.engine.restore_device(now, &record);
        let list = vec![entry(1, "V1", "V2"), entry(2, "V1.5", "V3")];
        begin(&mut world, several(list, false), None);
        device.register(&mut world);
        device.receive(&mut world);
        let offer = offered(&mut world, &mut device, "V1.5");
        assert_eq!(offer.as_deref(), Some("V3"), "known: {known:?}");
        // the store knows before the offer leaves, and no attempt has failed
        assert_eq!(served(&world).last(), Some(&(2, 1)));
        assert_eq!(ends(&world), []);
        let chosen = (world.changes.iter())
            .rposition(|change| matches!(change, Change::Serves { .. }))
            .unwrap();
        let offers = world.changes[chosen..].iter().any(|change| {
            matches!(change, Change::Stage { change, .. } if change.stage == Stage::Downloading)
        });
        assert!(offers, "the offer waits for what comes after the choice");
        upgrades(&mut world, &mut device, "V3");
        let upgraded = Outcome::Succeeded(Success::Upgraded);
        assert_eq!(ends(&world), [(upgraded, false)]);
    }
}

#[test]
fn a_device_that_no_package_is_for_is_skipped_and_told_why() {
    let list = || vec![entry(1, "V1,V1.1/A,B", "V2"), entry(2, "V1.5", "V3")];
    let (mut world, mut device) = asked(several(list(), false), Some("C"));
    assert_eq!(offered(&mut world, &mut device, "V1"), None);
    let skipped = Outcome::Cancelled(Cancellation::NoPackage);
    assert_eq!(ends(&world), [(skipped.clone(), false)]);
    assert_eq!(
        told_at_the_end(&world).unwrap(),
        "skipped: no package of the task is for this device. The device runs version \"V1\". Its hardware is \"C\". \
         \"V2\" is for version \"V1\" or \"V1.1\" and hardware \"A\" or \"B\". \"V3\" is for version \"V1.5\""
    );
    assert_eq!(world.gate.lane_count(), 0);

    let (mut world, mut device) = asked(several(list(), false), None);
    assert_eq!(offered(&mut world, &mut device, "V1"), None);
    let told = told_at_the_end(&world).unwrap();
    assert!(told.contains("Its hardware is not known: set it"), "{told}");

    let (mut world, mut device) = asked(several(list(), false), Some("B"));
    let offer = offered(&mut world, &mut device, "V1.1");
    assert_eq!(offer.as_deref(), Some("V2"));
}

#[test]
fn a_package_that_pcp_cannot_carry_is_not_offered_over_pcp() {
    let over_http = || {
        let http = HttpPackage {
            sha256: "ab".repeat(32),
        };
        let package = Package::over_http(version("V2").into(), 3_000_000_000, http);
        Arc::new(Offers::only(PackageId(1), Arc::new(package)))
    };
    let (mut world, mut device) = asked(over_http(), None);
    assert_eq!(offered(&mut world, &mut device, "V1"), None);
    let not_served = Outcome::Failed(Failure::NotServed);
    assert_eq!(ends(&world), [(not_served, false)]);
    assert_eq!(world.gate.lane_count(), 0);
    // who runs it already has it already
    let (mut world, mut device) = asked(over_http(), None);
    assert_eq!(offered(&mut world, &mut device, "V2"), None);
    let current = Outcome::Succeeded(Success::AlreadyCurrent);
    assert_eq!(ends(&world), [(current, false)]);
}

#[test]
fn who_runs_what_its_package_leads_to_has_it_already() {
    let list = vec![entry(1, "V1", "V2"), entry(2, "V1.5", "V3")];
    let (mut world, mut device) = asked(several(list, false), None);
    assert_eq!(offered(&mut world, &mut device, "V3"), None);
    let current = Outcome::Succeeded(Success::AlreadyCurrent);
    assert_eq!(ends(&world), [(current, false)]);
    assert_eq!(served(&world), [(2, 1)]);
}

#[test]
fn a_package_whose_file_is_missing_fails_only_those_that_it_is_for() {
    let list = || {
        let missing = Offer {
            package: None,
            ..entry(1, "V1", "V2")
        };
        vec![missing, entry(2, "V1.5", "V3")]
    };
    let (mut world, mut device) = asked(several(list(), false), None);
    assert_eq!(offered(&mut world, &mut device, "V1"), None);
    let failed = Outcome::Failed(Failure::PackageUnavailable);
    assert_eq!(ends(&world), [(failed, true)]);
    let (mut world, mut device) = asked(several(list(), false), None);
    let offer = offered(&mut world, &mut device, "V1.5");
    assert_eq!(offer.as_deref(), Some("V3"));
}

#[test]
fn a_claim_that_is_not_believed_does_not_choose_the_package() {
    // offered V2 by another task, it calls that its version whatever it runs
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    world.add("meter-1");
    begin(&mut world, offers(&package("V2", &content())), None);
    device.negotiate(&mut world, 7, -90, 15);
    device.receive(&mut world);
    device.asks_segment(&mut world, "V2", 0);
    world.command(Command::Stop {
        endpoint: "meter-1".into(),
        upgrade: UpgradeId(1),
        reason: crate::ledger::StopReason::Cancelled,
    });
    device.receive(&mut world);
    world.take_changes();
    let list = vec![entry(1, "V1", "V2"), entry(2, "V2", "V3")];
    begin(&mut world, several(list, false), None);
    world.pass_s(2);
    device.receive(&mut world);
    let offer = offered(&mut world, &mut device, "V2");
    assert_eq!(offer.as_deref(), Some("V2"), "by what was read of it");
}

#[test]
fn a_device_goes_step_by_step_and_each_step_has_a_slot_of_its_own() {
    let (mut world, mut device) = asked(chain(), None);
    let offer = offered(&mut world, &mut device, "V1");
    assert_eq!(offer.as_deref(), Some("V2"));
    assert_eq!(world.gate.lane_count(), 1);
    upgrades(&mut world, &mut device, "V2");
    assert_eq!(ends(&world), [], "half of it is no success");
    assert_eq!(world.gate.lane_count(), 0);
    assert_eq!(served(&world), [(1, 2)]);
    let frames = device.frames(&mut world);
    assert!(decoded(&frames).contains(&PlatformMessage::VersionQuery));
    // the report comes once more: it says nothing of the next step
    reports(&mut world, &device, "V2");
    device.receive(&mut world);
    assert_eq!(world.stages().last(), Some(&Stage::QueryingVersion));
    let offer = offered(&mut world, &mut device, "V2");
    assert_eq!(offer.as_deref(), Some("V3"));
    upgrades(&mut world, &mut device, "V3");
    let upgraded = Outcome::Succeeded(Success::Upgraded);
    assert_eq!(ends(&world), [(upgraded, false)]);
    assert_eq!(served(&world), [(1, 2), (2, 2)]);
    let notes = notes(&world);
    let done = "step 1 is done, it runs version \"V2\"";
    assert!(notes.iter().any(|note| note == done), "{notes:#?}");
    assert_eq!(
        world.stages(),
        [
            Stage::WaitingForDevice,
            Stage::QueryingVersion,
            Stage::QueryingCoverage,
            Stage::WaitingForSlot,
            Stage::Downloading,
            Stage::Executing,
            Stage::QueryingVersion,
            Stage::QueryingCoverage,
            Stage::WaitingForSlot,
            Stage::Downloading,
            Stage::Executing,
        ]
    );
}

#[test]
fn a_chain_begins_where_the_device_is_and_ends_with_its_last_package() {
    let (mut world, mut device) = asked(chain(), None);
    let offer = offered(&mut world, &mut device, "V2");
    assert_eq!(offer.as_deref(), Some("V3"));
    upgrades(&mut world, &mut device, "V3");
    let upgraded = Outcome::Succeeded(Success::Upgraded);
    assert_eq!(ends(&world), [(upgraded, false)]);
    // without the word there is one step
    let list = vec![entry(1, "V1", "V2"), entry(2, "V2", "V3")];
    let (mut world, mut device) = asked(several(list, false), None);
    offered(&mut world, &mut device, "V1");
    upgrades(&mut world, &mut device, "V2");
    assert_eq!(ends(&world).len(), 1);
}

#[test]
fn a_step_that_was_reported_and_is_not_there_fails_the_upgrade() {
    let (mut world, mut device) = asked(chain(), None);
    offered(&mut world, &mut device, "V1");
    upgrades(&mut world, &mut device, "V2");
    device.receive(&mut world);
    assert_eq!(offered(&mut world, &mut device, "V1"), None);
    let wrong = Outcome::Failed(Failure::WrongVersion(version("V1").into()));
    assert_eq!(ends(&world), [(wrong, true)]);
}

/// The engine after a crash, with what the store has of the upgrade.
fn crashed(before: &World, offers: Arc<Offers>) -> World {
    let mut row = apply::Upgrade::waiting(before.now.utc);
    let mut record = DeviceRecord {
        endpoint: "meter-1".into(),
        product: "meter".into(),
        protocol: crate::ledger::Protocol::Lwm2m,
        secure: false,
        registration: None,
        last_heard_at: Some(before.now.utc),
        coverage: None,
        version: None,
        evidence: Vec::new(),
        wake_ups: None,
        appointment: None,
        via: crate::ledger::Via::Itself,
    };
    for change in &before.changes {
        match change {
            Change::Registered { registration, .. } => {
                record.registration = Some(registration.clone());
            }
            Change::VersionReported { version, .. } => record.version = Some(*version),
            Change::Evidence { evidence, .. } => record.evidence.clone_from(evidence),
            Change::Stage {
                attempt,
                change,
                at,
                ..
            } => {
                row.stage(*attempt, change, *at).unwrap();
            }
            Change::Serves {
                attempt, served, ..
            } => {
                row.serves(*attempt, *served);
            }
            _ => {}
        }
    }
    let mut after = World::begun(Config::default(), before.now + Duration::from_secs(30));
    after.next_id = before.next_id; // devices go on counting
    after.gate.open(false);
    after.engine.restore_device(after.now, &record);
    let upgrade = ActiveUpgrade {
        order: UpgradeOrder {
            upgrade: UpgradeId(1),
            task: TaskId(1),
            endpoint: "meter-1".into(),
            served: row.served.unwrap_or(Served::first(PackageId(1))),
            hardware: None,
            attempt: 1,
            retry: RetryPolicy::default(),
            kept_awake: Standby::default(),
            begun_at: None,
            back: None,
            further: crate::ledger::Further::NONE,
        },
        stage: *row.stage.unwrap(),
        progress: row.progress,
    };
    after.engine.restore_upgrade(after.now, upgrade, offers);
    after.collect();
    after.may_admit(true, true);
    after
}

#[test]
fn a_crash_between_two_steps_and_in_the_second_changes_nothing() {
    for (answers_before, crashes_in) in
        [(false, Stage::QueryingVersion), (true, Stage::Downloading)]
    {
        let (mut world, mut device) = asked(chain(), None);
        offered(&mut world, &mut device, "V1");
        upgrades(&mut world, &mut device, "V2");
        device.receive(&mut world);
        if answers_before {
            offered(&mut world, &mut device, "V2");
        }
        assert_eq!(world.stages().last(), Some(&crashes_in));
        let mut world = crashed(&world, chain());
        device.receive(&mut world);
        if !answers_before {
            let offer = offered(&mut world, &mut device, "V2");
            assert_eq!(offer.as_deref(), Some("V3"));
        }
        upgrades(&mut world, &mut device, "V3");
        let upgraded = Outcome::Succeeded(Success::Upgraded);
        assert_eq!(ends(&world), [(upgraded, false)], "{crashes_in:?}");
    }
}

/// hawkbit #1400, #3185: an action that ended well, of a device that never said that it runs the version.
#[test]
fn nothing_is_a_success_without_the_version_read_back() {
    let (mut world, mut device) = asked(offers(&package("V2", &content())), None);
    offered(&mut world, &mut device, "V1");
    downloads(&mut world, &mut device, "V2");
    // it takes everything, comes back as it was, and names its old version
    for _ in 0..200 {
        world.pass_s(30);
        let frames = device.frames(&mut world);
        if decoded(&frames).contains(&PlatformMessage::VersionQuery) {
            device.says_version(&mut world, "V1");
        }
        if !ends(&world).is_empty() {
            break;
        }
    }
    let [(outcome, _)] = &ends(&world)[..] else {
        panic!("has not ended");
    };
    assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
}

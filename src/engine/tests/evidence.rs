//! Claims of a version, and what the device did.

use super::*;
use crate::ledger::{Evidence, Failure, StopReason, Success};

/// A device that has downloaded and was told to upgrade, which it has acknowledged.
fn executing() -> (World, Script) {
    let (mut world, mut device) = downloading();
    let status = ResultCode::SUCCESS;
    device.say(&mut world, &DeviceMessage::DownloadReport { status });
    device.receive(&mut world);
    (world, device)
}

fn downloading() -> (World, Script) {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    world.add("meter-1");
    world.start("meter-1", 1, &package("V2", &content()));
    device.negotiate(&mut world, 7, -90, 15);
    device.receive(&mut world);
    for segment in 0..4 {
        device.asks_segment(&mut world, "V2", segment);
        device.receive(&mut world);
    }
    (world, device)
}

fn report(result: ResultCode, text: &str) -> DeviceMessage<'static> {
    DeviceMessage::UpgradeReport {
        result,
        version: version(text),
    }
}

const FAILED: ResultCode = ResultCode::INSTALL_FAILED;

fn failed() -> Outcome {
    Outcome::Failed(Failure::UpgradeFailed(FAILED))
}

fn upgraded() -> Outcome {
    Outcome::Succeeded(Success::Upgraded)
}

/// Says "V2" whenever it is asked, until the upgrade has ended.
fn claims(world: &mut World, device: &mut Script) {
    for _ in 0..80 {
        if world.outcome(1).is_some() {
            return;
        }
        let frames = device.frames(world);
        if decoded(&frames).contains(&PlatformMessage::VersionQuery) {
            device.says_version(world, "V2");
        }
        world.pass_s(30);
    }
}

fn version_reported(world: &World) -> bool {
    let target = version("V2");
    world.changes.iter().any(
        |change| matches!(change, Change::VersionReported { version, .. } if *version == target.into()),
    )
}

#[test]
fn a_reported_failure_outranks_the_version_that_is_claimed() {
    let (mut world, mut device) = executing();
    device.say(&mut world, &report(FAILED, "V2"));
    claims(&mut world, &mut device);
    assert_eq!(world.outcome(1), Some(failed()));
    assert!(!version_reported(&world), "a claim is no fact");
    let told = notes(&world).join("\n");
    let why = "says that it runs \"V2\"; it has reported 0x0A (installing the package failed) (PCP 24), and has not";
    assert!(told.contains(why), "{told}");
}

#[test]
fn a_restart_makes_the_version_count_again() {
    let (mut world, mut device) = executing();
    device.say(&mut world, &report(FAILED, "V2"));
    device.receive(&mut world);
    world.pass_s(60);
    device.register(&mut world);
    claims(&mut world, &mut device);
    assert_eq!(world.outcome(1), Some(upgraded()));
    assert!(version_reported(&world));
}

#[test]
fn a_registration_that_we_caused_is_no_restart() {
    // it was told that it is not registered
    let (mut world, mut device) = executing();
    device.say(&mut world, &report(FAILED, "V2"));
    let stale = request(Code::POST, 700, &["rd", &location("meter-1")], &[]);
    world.datagram(device.at, &stale);
    let answers = device.receive(&mut world);
    assert!(
        answers
            .iter()
            .any(|it| matches!(it, Received::Response(Code::NOT_FOUND)))
    );
    device.register(&mut world);
    claims(&mut world, &mut device);
    assert_eq!(world.outcome(1), Some(failed()));

    // its registration had run out
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    device.queries = vec!["lt=400".into()];
    world.add("meter-1");
    world.start("meter-1", 1, &package("V2", &content()));
    device.negotiate(&mut world, 7, -90, 15);
    device.receive(&mut world);
    let status = ResultCode::SUCCESS;
    device.say(&mut world, &DeviceMessage::DownloadReport { status });
    device.receive(&mut world);
    world.pass_s(390);
    device.say(&mut world, &report(FAILED, "V2"));
    device.receive(&mut world);
    world.pass_s(11);
    let ended = |change: &Change| matches!(change, Change::Deregistered { .. });
    assert!(world.changes.iter().any(ended));
    device.register(&mut world);
    claims(&mut world, &mut device);
    assert_eq!(world.outcome(1), Some(failed()));
}

#[test]
fn an_answer_to_a_notification_that_comes_after_the_command_takes_nothing_back() {
    let (mut world, mut device) = executing();
    let result = ResultCode::SUCCESS;
    device.say(&mut world, &DeviceMessage::NotificationResponse { result });
    claims(&mut world, &mut device);
    assert_eq!(world.outcome(1), Some(upgraded()));
}

#[test]
fn the_same_registration_once_more_is_no_restart() {
    let (mut world, mut device) = executing();
    device.say(&mut world, &report(FAILED, "V2"));
    let stale = request(Code::POST, 700, &["rd", &location("meter-1")], &[]);
    world.datagram(device.at, &stale);
    // it registers because it was told to, and the network delivers that a second time
    let registration = request(Code::POST, 701, &["rd"], &["ep=meter-1".into()]);
    for _ in 0..2 {
        world.datagram(device.at, &registration);
        device.receive(&mut world);
        device.notify(&mut world, b"42 litres");
        world.pass_s(60);
    }
    claims(&mut world, &mut device);
    assert_eq!(world.outcome(1), Some(failed()));
}

#[test]
fn a_claim_of_a_device_that_was_notified_is_no_reason_to_do_nothing() {
    // whatever it has answered was lost
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    world.add("meter-1");
    world.start("meter-1", 1, &package("V2", &content()));
    device.negotiate(&mut world, 7, -90, 15);
    let frames = device.frames(&mut world);
    let notified =
        |message: &PlatformMessage<'_>| matches!(message, PlatformMessage::NewVersion { .. });
    assert!(decoded(&frames).iter().any(notified));
    world.command(Command::Stop {
        endpoint: "meter-1".into(),
        upgrade: UpgradeId(1),
        reason: StopReason::TaskStopped,
    });
    world.start("meter-1", 2, &package("V2", &content()));
    world.pass_s(1);
    device.receive(&mut world);
    device.says_version(&mut world, "V2");
    assert_eq!(world.outcome(2), None);
}

#[test]
fn a_claim_in_mid_download_is_no_reason_to_do_nothing() {
    let (mut world, mut device) = downloading();
    world.command(Command::Stop {
        endpoint: "meter-1".into(),
        upgrade: UpgradeId(1),
        reason: StopReason::TaskStopped,
    });
    world.start("meter-1", 2, &package("V2", &content()));
    world.pass_s(1);
    device.receive(&mut world);
    device.says_version(&mut world, "V2");
    assert_eq!(world.outcome(2), None);
    let reads = device.receive(&mut world);
    assert!(reads.iter().any(|it| matches!(it, Received::Read(..))));
    // nor is one that was heard asking between the upgrades
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    world.add("meter-1");
    device.register(&mut world);
    device.receive(&mut world);
    device.asks_segment(&mut world, "V2", 5);
    device.receive(&mut world);
    world.start("meter-1", 2, &package("V2", &content()));
    world.pass_s(1);
    device.receive(&mut world);
    device.says_version(&mut world, "V2");
    assert_eq!(world.outcome(2), None);
    // it restarts, and is believed
    device.register(&mut world);
    device.receive(&mut world);
    device.says_version(&mut world, "V2");
    let current = Some(Outcome::Succeeded(Success::AlreadyCurrent));
    assert_eq!(world.outcome(2), current);
}

#[test]
fn success_in_the_name_of_the_old_version_is_from_before_the_restart() {
    let (mut world, mut device) = executing();
    device.say(&mut world, &report(ResultCode::SUCCESS, "V1"));
    device.receive(&mut world);
    world.pass_s(600);
    assert_eq!(world.outcome(1), None);
    assert!(device.frames(&mut world).is_empty());
    device.register(&mut world);
    device.receive(&mut world);
    world.pass_s(46);
    assert_eq!(
        decoded(&device.frames(&mut world)),
        [PlatformMessage::VersionQuery]
    );
    device.says_version(&mut world, "V2");
    assert_eq!(world.outcome(1), Some(upgraded()));
}

#[test]
fn a_device_that_restarts_without_a_word_is_believed_when_it_says_so_twice() {
    let (mut world, mut device) = executing();
    world.pass_s(60);
    device.notify(&mut world, b"42 litres");
    device.receive(&mut world);
    world.pass_s(46);
    device.receive(&mut world);
    device.says_version(&mut world, "V2");
    assert_eq!(world.outcome(1), None);
    world.pass_s(301);
    device.receive(&mut world);
    device.says_version(&mut world, "V2");
    assert_eq!(world.outcome(1), Some(upgraded()));
    // what it did before is explained: the next one finds it current
    world.start("meter-1", 2, &package("V2", &content()));
    world.pass_s(1);
    device.receive(&mut world);
    device.says_version(&mut world, "V2");
    let current = Some(Outcome::Succeeded(Success::AlreadyCurrent));
    assert_eq!(world.outcome(2), current);
}

#[test]
fn evidence_is_stored_and_outlives_a_restart_of_the_server() {
    let (mut before, mut device) = executing();
    device.say(&mut before, &report(FAILED, "V2"));
    let mut after = super::restart::restarted(&before);
    after.next_id = 600;
    // it registers anew because nobody answered it meanwhile
    device.register(&mut after);
    claims(&mut after, &mut device);
    assert_eq!(after.outcome(1), Some(failed()));

    // Within minutes it may register because of what it was told before. Later it has restarted.
    for (minutes, outcome) in [(1, failed()), (5, upgraded())] {
        let mut after = super::restart::restarted(&before);
        after.next_id = 600;
        device.notify(&mut after, b"42 litres");
        device.receive(&mut after);
        after.pass_s(60 * minutes);
        device.register(&mut after);
        claims(&mut after, &mut device);
        assert_eq!(after.outcome(1), Some(outcome), "{minutes} minutes");
    }
}

#[test]
fn what_a_device_has_sent_before_it_restarted_says_nothing_after_it() {
    // the network delivers a report and a claim once more, or late
    for kept in [
        report(FAILED, "V2"),
        DeviceMessage::DownloadReport {
            status: ResultCode::SUCCESS,
        },
    ] {
        let (mut world, mut device) = executing();
        let id = world.next_id;
        world.next_id += 1;
        device.register(&mut world);
        device.receive(&mut world);
        let next = std::mem::replace(&mut world.next_id, id);
        device.say(&mut world, &kept);
        world.next_id = next;
        let answers = device.receive(&mut world);
        assert!(matches!(answers[0], Received::Ack), "it is heard");
        claims(&mut world, &mut device);
        assert_eq!(world.outcome(1), Some(upgraded()));
    }

    // much later nothing is under way any more, and IDs are used again
    let (mut world, mut device) = executing();
    device.register(&mut world);
    device.receive(&mut world);
    world.pass_s(100);
    world.next_id -= 2;
    device.say(&mut world, &report(FAILED, "V2"));
    device.receive(&mut world);
    world.next_id += 2;
    claims(&mut world, &mut device);
    assert_eq!(world.outcome(1), Some(failed()));
}

#[test]
fn a_new_association_is_a_restart_and_a_resumed_one_is_not() {
    let endpoints: [Box<str>; 1] = ["meter-1".into()];
    for (handshake, outcome) in [(true, upgraded()), (false, failed())] {
        let mut world = World::new();
        let mut device = Script::new("meter-1", 1);
        device.at = Peer::secured(SocketAddr::from(([10, 0, 0, 1], 1)));
        world.add("meter-1");
        world.speaker = Some((endpoints.to_vec(), Some(world.now.instant)));
        world.start("meter-1", 1, &package("V2", &content()));
        device.negotiate(&mut world, 7, -90, 15);
        device.receive(&mut world);
        let status = ResultCode::SUCCESS;
        device.say(&mut world, &DeviceMessage::DownloadReport { status });
        device.receive(&mut world);
        device.say(&mut world, &report(FAILED, "V2"));
        device.receive(&mut world);
        world.pass_s(60);
        let second = handshake.then_some(world.now.instant);
        world.speaker = Some((endpoints.to_vec(), second));
        device.update(&mut world);
        claims(&mut world, &mut device);
        assert_eq!(world.outcome(1), Some(outcome));
    }
}

#[test]
fn who_is_found_by_its_connection_id_is_sent_on_at_its_new_address() {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    let [before, after] = [1, 2].map(|n| Peer::secured(SocketAddr::from(([10, 0, 0, n], 1))));
    device.at = before;
    world.add("meter-1");
    world.speaker = Some((vec!["meter-1".into()], Some(world.now.instant)));
    world.start("meter-1", 1, &package("V2", &content()));
    device.negotiate(&mut world, 7, -90, 15);
    device.receive(&mut world);
    world.take_changes();
    world.take_sent();
    moves(&mut world, before, after, "meter-1");
    world.collect();
    let kept = world.take_changes();
    let moved = |change: &Change| matches!(change, Change::Registered { registration, .. } if registration.peer == after);
    assert!(kept.iter().any(moved), "{kept:?}");
    // nobody is left where it was
    world.engine.association_ended(world.now, before);
    world.pass_s(61);
    let sent = world.take_sent();
    assert!(!sent.is_empty() && sent.iter().all(|(to, _)| *to == after));
}

fn moves(world: &mut World, from: Peer, to: Peer, name: &str) {
    let shown = [name.into()];
    let speaker = Speaker::new(to, &shown);
    world.engine.association_moved(world.now, from, &speaker);
}

#[test]
fn whoever_moves_takes_nobody_else_along() {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    let [at, there] = [1, 2].map(|n| Peer::secured(SocketAddr::from(([10, 0, 0, n], 1))));
    device.at = at;
    world.add("meter-1");
    world.speaker = Some((vec!["meter-1".into()], Some(world.now.instant)));
    world.start("meter-1", 1, &package("V2", &content()));
    device.negotiate(&mut world, 7, -90, 15);
    device.receive(&mut world);
    world.take_sent();
    // somebody else was given its address, and has moved on from there
    moves(&mut world, at, there, "meter-2");
    world.collect();
    world.pass_s(61);
    let sent = world.take_sent();
    assert!(sent.iter().all(|(to, _)| *to != there), "{sent:?}");
    // who is displaced is sent nothing where somebody else is
    device.update(&mut world);
    device.receive(&mut world);
    world.take_sent();
    world.engine.association_displaced(world.now, at);
    world.collect();
    world.pass_s(61);
    assert!(world.take_sent().is_empty());
}

#[test]
fn who_has_lost_its_association_is_not_said_to_be_asked() {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    device.at = Peer::secured(SocketAddr::from(([10, 0, 0, 1], 1)));
    world.add("meter-1");
    world.speaker = Some((vec!["meter-1".into()], Some(world.now.instant)));
    world.start("meter-1", 1, &package("V2", &content()));
    device.negotiate(&mut world, 7, -90, 15);
    device.receive(&mut world);
    world.engine.association_ended(world.now, device.at);
    world.collect();
    world.take_changes();
    world.pass_s(61);
    assert!(world.take_sent().is_empty());
    let told = notes(&world).join("\n");
    let why = "quiet since the notification; its address is not known any more: it is asked when it is heard";
    assert!(told.contains(why), "{told}");
    device.update(&mut world);
    device.receive(&mut world);
    let told = notes(&world).join("\n");
    assert!(told.contains("notified again (PCP 20), try 2"), "{told}");
}

#[test]
fn versions_are_compared_as_devices_mean_them() {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    world.add("meter-1");
    world.start("meter-1", 1, &package("V2", &content()));
    device.register(&mut world);
    device.receive(&mut world);
    // success, "V2", then what was in the buffer before
    let mut frame = vec![0xFF, 0xFE, 1, 19, 0, 0, 0, 17, 0];
    frame.extend(b"V2 \r\n\0stale 1.0\xFF");
    let code = pcp::checksum(&frame).to_be_bytes();
    frame[4..6].copy_from_slice(&code);
    device.notify(&mut world, &frame);
    let current = Some(Outcome::Succeeded(Success::AlreadyCurrent));
    assert_eq!(world.outcome(1), current);
}

/// As the store has it after it was put back to this state, from a backup.
fn put_back(before: &mut World) {
    let known = before.changes.iter().rev().find_map(|change| match change {
        Change::Evidence { evidence, .. } => Some(evidence.clone()),
        _ => None,
    });
    let evidence = known.unwrap().into_iter().map(Evidence::put_back);
    before.changes.push(Change::Evidence {
        endpoint: "meter-1".into(),
        evidence: evidence.collect(),
        at: before.now.utc,
    });
}

/// Updates a registration that the server does not know, registers anew, and says to everything that it runs "V2" already.
fn goes_on_with_it(world: &mut World, device: &mut Script) {
    world.next_id = 600;
    let update = request(Code::POST, 599, &["rd", &location("meter-1")], &[]);
    world.datagram(device.at, &update);
    let answers = device.receive(world);
    let unknown = |it: &Received| matches!(it, Received::Response(Code::NOT_FOUND));
    assert!(answers.iter().any(unknown));
    device.register(world);
    for _ in 0..80 {
        let frames = device.frames(world);
        for message in decoded(&frames) {
            match message {
                PlatformMessage::VersionQuery => device.says_version(world, "V2"),
                PlatformMessage::NewVersion { .. } => {
                    let result = ResultCode::ALREADY_LATEST;
                    device.say(world, &DeviceMessage::NotificationResponse { result });
                }
                _ => {}
            }
        }
        if world.outcome(1).is_some() {
            return;
        }
        world.pass_s(30);
    }
}

#[test]
fn who_was_upgraded_after_the_backup_in_whose_midst_it_was_is_asked_and_believed() {
    let current = Some(Outcome::Succeeded(Success::AlreadyCurrent));
    let (mut backup, mut device) = downloading();
    put_back(&mut backup);
    let mut after = super::restart::restarted(&backup);
    goes_on_with_it(&mut after, &mut device);
    assert_eq!(after.outcome(1), current);
    assert!(version_reported(&after));
    let told = notes(&after).join("\n");
    let why = "says that it runs \"V2\"; no sign of a restart was seen";
    assert!(told.contains(why), "{told}");

    // the same from one that was heard downloading just now is no reason to believe it
    let (before, mut device) = downloading();
    let mut after = super::restart::restarted(&before);
    goes_on_with_it(&mut after, &mut device);
    assert_ne!(after.outcome(1), current);
    assert!(!version_reported(&after));

    // nor from one that goes on with its download after the backup
    let (mut backup, mut device) = downloading();
    put_back(&mut backup);
    let mut after = super::restart::restarted(&backup);
    after.next_id = 500;
    device.register(&mut after);
    device.receive(&mut after);
    device.asks_segment(&mut after, "V2", 4);
    device.receive(&mut after);
    goes_on_with_it(&mut after, &mut device);
    assert_ne!(after.outcome(1), current);
}

#[test]
fn a_failure_from_before_the_backup_does_not_refute_what_a_device_runs_now() {
    let (mut backup, mut device) = executing();
    device.say(&mut backup, &report(FAILED, "V2"));
    device.receive(&mut backup);
    put_back(&mut backup);
    let mut after = super::restart::restarted(&backup);
    goes_on_with_it(&mut after, &mut device);
    assert_eq!(after.outcome(1), Some(upgraded()));
    assert!(version_reported(&after));
}

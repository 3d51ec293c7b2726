//! What the timeline tells is what happened.

use super::*;

fn asked(world: &World, line: &str) -> usize {
    notes(world).iter().filter(|note| **note == line).count()
}

#[track_caller]
fn tells(world: &World, line: &str) {
    let notes = notes(world);
    let found = notes.iter().any(|note| note.contains(line));
    assert!(found, "{line:?} is not among {notes:#?}");
}

#[track_caller]
fn does_not_tell(world: &World, line: &str) {
    let notes = notes(world);
    let found = notes.iter().any(|note| note.contains(line));
    assert!(!found, "{line:?} is among {notes:#?}");
}

fn notified() -> (World, Script) {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    world.add("meter-1");
    world.start("meter-1", 1, &package("V2", &content()));
    device.negotiate(&mut world, 7, -90, 15);
    device.receive(&mut world);
    (world, device)
}

#[test]
fn a_question_is_told_when_it_leaves() {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    world.add("meter-1");
    world.start("meter-1", 1, &package("V2", &content()));
    device.register(&mut world);
    // the observation goes first, and is not acknowledged yet
    tells(&world, "registered");
    does_not_tell(&world, "asked for its version");
    device.receive(&mut world);
    assert_eq!(asked(&world, "asked for its version (PCP 19), try 1"), 1);
}

#[test]
fn what_cannot_be_sent_is_told_as_that_once() {
    let mut config = Config::default();
    config.upgrade.nudge_after_s = 120;
    let mut world = World::with(config);
    let mut device = Script::new("meter-1", 1).asleep_between();
    world.add("meter-1");
    world.start("meter-1", 1, &package("V2", &content()));
    device.negotiate(&mut world, 7, -90, 15);
    device.receive(&mut world);
    device.asks_segment(&mut world, "V2", 0);
    device.receive(&mut world);
    // it falls asleep in mid-download
    world.pass_s(800);
    tells(
        &world,
        "quiet since segment 0; it sleeps: it is asked when it is heard",
    );
    tells(
        &world,
        "quiet since segment 0; what it was asked before is still under way",
    );
    does_not_tell(&world, "notified again");
    device.update(&mut world);
    tells(&world, "notified again (PCP 20), try 2");
}

#[test]
fn who_is_without_an_address_is_not_said_to_be_asked() {
    let (mut world, mut device) = notified();
    device.asks_segment(&mut world, "V2", 0);
    device.receive(&mut world);
    let goodbye = request(Code::DELETE, 800, &["rd", &device.location], &[]);
    world.datagram(device.at, &goodbye);
    tells(&world, "has ended its registration");
    world.take_changes();
    world.take_sent();
    world.pass_s(61);
    tells(
        &world,
        "quiet since segment 0; it is not registered: it is asked when it is",
    );
    assert!(world.take_sent().is_empty());
}

#[test]
fn what_happens_again_and_again_takes_two_lines() {
    let (mut world, mut device) = notified();
    device.asks_segment(&mut world, "V2", 0);
    for port in 10..20 {
        device.at = peer(port);
        device.asks_segment(&mut world, "V1.9", 3);
        device.receive(&mut world);
    }
    let status = ResultCode::SUCCESS;
    device.say(&mut world, &DeviceMessage::DownloadReport { status });
    tells(&world, "heard from another address: 10.0.0.1:10");
    tells(&world, "was heard from another address 9 times more");
    tells(
        &world,
        "asked for segment 3 of \"V1.9\": told that there is no such task",
    );
    tells(
        &world,
        "asked for a segment that it was refused 9 times more",
    );
}

#[test]
fn a_download_that_begins_again_is_told_with_how_far_it_was() {
    let (mut world, mut device) = notified();
    for segment in [0, 1, 2, 3, 0] {
        device.asks_segment(&mut world, "V2", segment);
        device.receive(&mut world);
    }
    tells(&world, "began again at segment 0 after 30 %");
    device.asks_segment(&mut world, "V2", 77);
    tells(
        &world,
        "asked for segment 77 of 10: told that there is no such segment",
    );
}

#[test]
fn a_frame_that_is_no_pcp_is_told_with_what_is_wrong() {
    let (mut world, device) = notified();
    device.notify(&mut world, &[0xFF, 0xFE, 1, 21, 0x12, 0x34, 0, 0]);
    tells(
        &world,
        "sent a frame that is no PCP: it has the check code 0x1234 instead of 0x",
    );
    let (mut world, device) = notified();
    device.notify(&mut world, &[0xFF, 0xFE, 1, 21, 0x12, 0x34, 0, 18, 1]);
    tells(
        &world,
        "sent a frame that is no PCP: it declares 18 bytes of data, has 1",
    );
}

#[test]
fn a_time_out_of_its_own_is_told() {
    let (mut world, mut device) = notified();
    device.asks_segment(&mut world, "V2", 0);
    device.receive(&mut world);
    let result = ResultCode::DOWNLOAD_TIMED_OUT;
    device.say(&mut world, &DeviceMessage::ExecuteResponse { result });
    tells(
        &world,
        "reported a time-out of its own (PCP 23 with 0x06), which answers nothing",
    );
}

#[test]
fn a_registration_in_the_midst_is_told_with_what_explains_it() {
    let (mut world, mut device) = notified();
    device.asks_segment(&mut world, "V2", 0);
    device.receive(&mut world);
    device.register(&mut world);
    tells(&world, "registered anew: it has restarted");
    // and it is nudged within seconds
    device.receive(&mut world);
    world.pass_s(11);
    assert!(matches!(
        decoded(&device.frames(&mut world))[..],
        [PlatformMessage::NewVersion { .. }]
    ));
}

#[test]
fn an_observation_without_confirmation_is_told() {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    world.add("meter-1");
    world.start("meter-1", 1, &package("V2", &content()));
    device.register(&mut world);
    let (_, observe) = world.sent.pop_front().unwrap();
    assert_eq!(observe.observe(), Some(0));
    let answer = response(&observe, Code::CONTENT).build();
    world.datagram(device.at, &answer);
    tells(
        &world,
        "answered the observation of /19/0/0 without confirming it (no Observe option)",
    );
}

#[test]
fn a_failed_download_has_come_as_far_as_it_was() {
    let (mut world, mut device) = notified();
    for segment in 0..8 {
        device.asks_segment(&mut world, "V2", segment);
        device.receive(&mut world);
    }
    let status = ResultCode::NO_STORAGE;
    device.say(&mut world, &DeviceMessage::DownloadReport { status });
    let progress = world.changes.iter().rev().find_map(|change| match change {
        Change::Progress { progress, .. } => Some((progress.done_bytes, progress.percent())),
        _ => None,
    });
    assert_eq!(progress, Some((700, 70)));
}

#[test]
fn repeat_counts_that_a_restart_of_the_server_has_forgotten_are_not_told() {
    let mut before = World::new();
    let mut device = Script::new("meter-1", 1);
    before.add("meter-1");
    before.start("meter-1", 1, &package("V2", &content()));
    device.register(&mut before);
    device.receive(&mut before);
    let mut after = super::restart::restarted(&before);
    assert!(!device.frames(&mut after).is_empty());
    tells(
        &after,
        "asked for its version (PCP 19) once more, because the server was restarted",
    );
    after.pass_s(61);
    tells(&after, "no answer yet");
    does_not_tell(&after, "try ");
    after.pass_s(3_600);
    let detail = told_at_the_end(&after).unwrap();
    assert!(detail.contains("since the server started at"), "{detail}");
}

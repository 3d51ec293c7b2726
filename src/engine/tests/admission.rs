use super::*;
use crate::{
    ledger::{Failure, Lane},
    task::{CellRules, Closing},
};

fn upgrades(world: &mut World, count: u16, rsrp: i32, sinr: i32) -> Vec<Script> {
    let package = package("V2", &content());
    (1..=count)
        .map(|n| {
            let endpoint = format!("meter-{n}");
            let mut device = Script::new(&endpoint, n);
            world.add(&endpoint);
            world.start(&endpoint, i64::from(n), &package);
            device.negotiate(world, 7, rsrp, sinr);
            device
        })
        .collect()
}

fn is_notified(device: &mut Script, world: &mut World) -> bool {
    decoded(&device.frames(world))
        .iter()
        .any(|message| matches!(message, PlatformMessage::NewVersion { .. }))
}

fn fail(device: &Script, world: &mut World) {
    let message = DeviceMessage::DownloadReport {
        status: ResultCode::CHECK_FAILED,
    };
    device.say(world, &message);
}

#[test]
fn a_weak_cell_takes_one_device_after_another() {
    let mut world = World::new();
    let mut devices = upgrades(&mut world, 3, -112, -8);
    let notified: Vec<bool> = devices
        .iter_mut()
        .map(|device| is_notified(device, &mut world))
        .collect();
    assert_eq!(notified, [true, false, false]);
    fail(&devices[0], &mut world);
    assert!(is_notified(&mut devices[1], &mut world));
    assert!(!is_notified(&mut devices[2], &mut world));
}

#[test]
fn coverage_that_grew_old_in_the_queue_is_measured_anew() {
    let mut world = World::new();
    let mut devices = upgrades(&mut world, 2, -112, -8);
    devices[0].receive(&mut world);
    devices[0].asks_segment(&mut world, "V2", 0);
    devices[1].receive(&mut world);
    for _ in 0..3 {
        world.pass_s(250);
        devices[0].update(&mut world);
        devices[1].update(&mut world);
    }
    devices[1].receive(&mut world);
    fail(&devices[0], &mut world);
    let received = devices[1].receive(&mut world);
    let Some(Received::Read(path, read)) = received.first() else {
        panic!("is not measured: {received:?}");
    };
    assert_eq!(path, "4/0");
    devices[1].answer_read(&mut world, read, 7, -90, 15);
    assert!(is_notified(&mut devices[1], &mut world));
}

#[test]
fn the_slot_passes_by_a_sleeper_and_comes_when_it_is_heard() {
    let mut world = World::new();
    let package = package("V2", &content());
    let mut devices: Vec<Script> = (1..=3u16)
        .map(|n| Script::new(&format!("meter-{n}"), n).asleep_between())
        .collect();
    for (n, device) in (1..).zip(&mut devices) {
        world.add(&device.endpoint);
        world.start(&device.endpoint, n, &package);
        device.negotiate(&mut world, 7, -112, -8);
        device.receive(&mut world);
    }
    world.pass_s(60);
    devices[0].notify(&mut world, b"data");
    devices[2].notify(&mut world, b"data");
    devices[2].receive(&mut world);
    world.pass_s(40); // the second one sleeps now
    fail(&devices[0], &mut world);
    assert!(!is_notified(&mut devices[1], &mut world));
    assert!(is_notified(&mut devices[2], &mut world));
    fail(&devices[2], &mut world);
    devices[1].update(&mut world);
    assert!(is_notified(&mut devices[1], &mut world));
}

#[test]
fn a_slot_whose_device_fell_asleep_is_given_to_the_next() {
    let mut world = World::new();
    let mut devices = upgrades(&mut world, 2, -112, -8);
    world.sent.retain(|(to, _)| *to != devices[0].at); // it hears nothing any more
    devices[1].receive(&mut world);
    for _ in 0..4 {
        world.pass_s(40);
        world.sent.retain(|(to, _)| *to != devices[0].at);
        devices[1].update(&mut world);
    }
    assert!(is_notified(&mut devices[1], &mut world));
    assert_eq!(world.outcome(1), None);
}

#[test]
fn nobody_is_admitted_while_the_server_stops_or_cannot_store() {
    for stops in [true, false] {
        let mut world = World::new();
        let package = package("V2", &content());
        let mut device = Script::new("meter-1", 1);
        world.add("meter-1");
        world.start("meter-1", 1, &package);
        device.register(&mut world);
        world.may_admit(!stops, stops);
        device.answer_questions(&mut world, 7, -90, 15);
        assert!(!is_notified(&mut device, &mut world));
        world.may_admit(true, true);
        assert!(is_notified(&mut device, &mut world));
    }
}

#[test]
fn admissions_are_paced() {
    let mut config = Config::default();
    config.admission.per_cell_per_second = 1;
    let mut world = World::with(config);
    let mut devices = upgrades(&mut world, 3, -90, 15);
    let mut notified = |world: &mut World| {
        devices
            .iter_mut()
            .map(|device| usize::from(is_notified(device, world)))
            .sum::<usize>()
    };
    assert_eq!(notified(&mut world), 1);
    world.pass_s(1);
    assert_eq!(notified(&mut world), 1);
    world.pass_s(1);
    assert_eq!(notified(&mut world), 1);
}

/// A device whose firmware can say one value at a time, and is slow.
struct Slow {
    world: World,
    device: Script,
}

impl Slow {
    fn asked_for_coverage() -> Self {
        let mut world = World::new();
        let mut device = Script::new("meter-1", 1);
        world.add("meter-1");
        world.start("meter-1", 1, &package("V2", &content()));
        device.register(&mut world);
        device.receive(&mut world);
        device.says_version(&mut world, "V1");
        Self { world, device }
    }

    /// Waits for a read of that path.
    fn read(&mut self, wanted: &str) -> Message<'static> {
        let received = self.device.receive(&mut self.world);
        received
            .into_iter()
            .find_map(|r| match r {
                Received::Read(path, message) if path == wanted => Some(message),
                _ => None,
            })
            .unwrap_or_else(|| panic!("{wanted} is not read"))
    }

    fn answers(&mut self, read: &Message, value: i32) {
        let answer = response(read, Code::CONTENT)
            .content_format(ContentFormat(0))
            .payload(value.to_string().into_bytes());
        self.world.datagram(self.device.at, &answer.build());
    }

    fn refuses(&mut self, read: &Message) {
        let answer = response(read, Code::NOT_ACCEPTABLE);
        self.world.datagram(self.device.at, &answer.build());
    }

    fn coverage(&self) -> Coverage {
        let told = self
            .world
            .changes
            .iter()
            .rev()
            .find_map(|change| match change {
                Change::CoverageReported { reading, .. } => Some(reading.coverage),
                _ => None,
            });
        told.unwrap()
    }

    fn limit(&self) -> Option<u32> {
        let stage = self
            .world
            .changes
            .iter()
            .rev()
            .find_map(|change| match change {
                Change::Stage { change, .. } => Some(change.cell_limit),
                _ => None,
            });
        stage.unwrap()
    }
}

#[test]
fn a_cell_told_alone_is_not_completed_by_what_an_earlier_attempt_was_told() {
    let mut slow = Slow::asked_for_coverage();
    let read = slow.read("4/0");
    slow.refuses(&read);
    let read = slow.read("4/0/2");
    slow.answers(&read, -112);
    let read = slow.read("4/0/11");
    slow.answers(&read, -8);
    slow.read("4/0/8");
    slow.world.pass_s(181); // no cell: the attempt fails
    assert!(slow.world.outcome(1).is_some());
    slow.world.start("meter-1", 2, &package("V2", &content()));
    slow.device.update(&mut slow.world);
    slow.device.receive(&mut slow.world);
    slow.device.says_version(&mut slow.world, "V1");
    slow.read("4/0");
    slow.world.pass_s(181); // nothing is told of its coverage this time
    let read = slow.read("4/0/8");
    slow.answers(&read, 7);
    let expected = Coverage {
        cell: Some(7),
        ..Coverage::default()
    };
    assert_eq!(slow.coverage(), expected);
    assert_eq!(slow.limit(), Some(10), "not measurable");
}

/// Closes the cell for so long from now on.
fn close(world: &mut World, seconds: Option<u64>) {
    let closing = Closing {
        from: world.now.utc,
        until: seconds.map(|seconds| world.now.utc + Duration::from_secs(seconds)),
        reason: "works".into(),
    };
    let rules = CellRules {
        closing: Some(closing),
        ..CellRules::default()
    };
    world.gate.rule(world.now, Lane::Cell(7), rules);
}

#[test]
fn the_time_to_wait_does_not_run_while_the_cell_is_closed() {
    const HOURS: u64 = 7 * 3_600;
    let mut config = Config::default();
    config.upgrade.wait_for_slot_s = 600;
    let mut world = World::with(config);
    close(&mut world, Some(HOURS));
    let mut devices = upgrades(&mut world, 1, -90, 15);
    world.pass_s(HOURS - 10);
    assert!(!is_notified(&mut devices[0], &mut world));
    // it opens, and the device does not answer: it has all of its time
    world.pass_s(600);
    assert_eq!(world.outcome(1), None);
    world.pass_s(60);
    let timed_out = Outcome::Failed(Failure::SlotTimedOut);
    assert_eq!(world.outcome(1), Some(timed_out));
}

#[test]
fn a_cell_that_was_closed_for_a_while_takes_that_while_from_nobody() {
    let mut config = Config::default();
    config.upgrade.wait_for_slot_s = 600;
    let mut world = World::with(config);
    let mut devices = upgrades(&mut world, 2, -112, -8);
    assert!(is_notified(&mut devices[0], &mut world));
    world.pass_s(100);
    close(&mut world, Some(300));
    world.pass_s(790);
    assert_eq!(world.outcome(2), None);
    world.pass_s(60);
    let timed_out = Outcome::Failed(Failure::SlotTimedOut);
    assert_eq!(world.outcome(2), Some(timed_out));
}

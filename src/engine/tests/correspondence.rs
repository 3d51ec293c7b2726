//! What a failure says of itself.

use super::*;

#[track_caller]
fn tells(world: &World, parts: &[&str]) {
    let detail = told_at_the_end(world).expect("has ended");
    let told: Vec<&str> = detail.split(". ").collect();
    assert_eq!(told.len(), parts.len(), "{detail}");
    for (told, part) in told.iter().zip(parts) {
        assert!(told.contains(part), "{part:?} is not {told:?} of {detail}");
    }
}

fn ordered(world: &mut World, endpoint: &str, port: u16) -> Script {
    world.add(endpoint);
    world.start(endpoint, 1, &package("V2", &content()));
    Script::new(endpoint, port)
}

#[test]
fn a_device_that_is_never_heard() {
    let mut world = World::new();
    ordered(&mut world, "meter", 1);
    world.pass_s(24 * 3_600 + 1);
    tells(
        &world,
        &[
            "the device was not heard within the limit",
            "Limit: upgrade.wait_for_device_s = 86400",
            "Sent last: nothing",
            "It was never heard",
        ],
    );
}

#[test]
fn a_version_query_without_an_answer() {
    let mut world = World::new();
    let mut device = ordered(&mut world, "meter", 1);
    device.register(&mut world);
    // both times it is acknowledged, and not answered
    device.receive(&mut world);
    world.pass_s(61);
    device.receive(&mut world);
    world.pass_s(120);
    tells(
        &world,
        &[
            "no answer to the version query (PCP 19) within the limit",
            "Limit: upgrade.query_version_s = 180",
            "Sent last: the version query (PCP 19), 2 times, at 2027-01-15T08:01:01.000Z, acknowledged",
            "Said last: a registration at 2027-01-15T08:00:00.000Z",
            "Heard last at 2027-01-15T08:01:01.000Z",
        ],
    );
}

#[test]
fn a_cell_that_is_not_told() {
    let mut world = World::new();
    let mut device = ordered(&mut world, "meter", 1);
    device.register(&mut world);
    device.receive(&mut world);
    device.says_version(&mut world, "V1");
    world.pass_s(361);
    tells(
        &world,
        &[
            "no answer to the read of the cell ID (/4/0/8) within the limit",
            "Limit: upgrade.query_cell_s = 180",
            "Sent last: the read of /4/0/8, 3 times, at 2027",
            "Said last: version \"V1\" (PCP 19) at 2027-01-15T08:00:00.000Z",
            "Heard last at 2027-01-15T08:00:00.000Z",
        ],
    );
}

#[test]
fn a_cell_without_a_slot() {
    // the first one keeps its slot as long as the limits of download and execution are
    let mut config = Config::default();
    config.upgrade.wait_for_slot_s = 60;
    let mut world = World::with(config);
    let mut first = ordered(&mut world, "meter-1", 1);
    first.negotiate(&mut world, 7, -112, -8);
    first.receive(&mut world);
    world.add("meter-2");
    world.start("meter-2", 2, &package("V2", &content()));
    let mut second = Script::new("meter-2", 2);
    second.negotiate(&mut world, 7, -112, -8);
    world.pass_s(61);
    tells(
        &world,
        &[
            "the cell had no free slot within the limit",
            "Limit: upgrade.wait_for_slot_s = 60",
            "1 device upgraded in cell 7; this one's coverage allowed 1; 0 waited before it",
            "A longer limit would have helped, or fewer devices of that cell at a time",
            "Sent last: the read of /4/0, once, at 2027-01-15T08:00:00.000Z, acknowledged",
            "Said last: 2.05 to the read of /4/0 at 2027-01-15T08:00:00.000Z",
            "Heard last at 2027-01-15T08:00:00.000Z",
        ],
    );
}

#[test]
fn a_refusal_says_what_came_before() {
    let mut world = World::new();
    let mut device = ordered(&mut world, "meter", 1);
    device.negotiate(&mut world, 7, -90, 15);
    device.receive(&mut world);
    let result = ResultCode::LOW_BATTERY;
    device.say(&mut world, &DeviceMessage::NotificationResponse { result });
    tells(
        &world,
        &[
            "the device refused the new version (PCP 20) with 0x04 (low battery)",
            "Sent last: the new version (PCP 20), once, at 2027-01-15T08:00:00.000Z, acknowledged",
            "Said last: 0x04 (low battery) to the new version (PCP 20) at 2027",
            "Heard last at 2027-01-15T08:00:00.000Z",
        ],
    );
}

#[test]
fn a_command_without_a_result() {
    let mut world = World::new();
    let mut device = ordered(&mut world, "meter", 1);
    device.negotiate(&mut world, 7, -90, 15);
    device.receive(&mut world);
    device.asks_segment(&mut world, "V2", 0);
    device.receive(&mut world);
    let status = ResultCode::SUCCESS;
    device.say(&mut world, &DeviceMessage::DownloadReport { status });
    device.receive(&mut world);
    world.pass_s(1_801);
    tells(
        &world,
        &[
            "no result (PCP 24) and no version came within the limit",
            "Limit: upgrade.execute_s = 1800",
            // asked for its version before the limit runs out
            "Sent last: the version query (PCP 19), 3 times, at 2027-01-15T08:2",
            "Said last: the download report 0x00 (success) (PCP 22) at 2027-01-15T08:00:00.000Z",
            "Heard last at 2027-01-15T08:00:00.000Z",
        ],
    );
}

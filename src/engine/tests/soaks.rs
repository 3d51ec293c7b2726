//! Devices that are asked for their version some time after their upgrade.

use super::*;

fn ask(world: &mut World) {
    world.command(Command::AskVersion {
        endpoint: "meter-1".into(),
    });
}

fn is_asked(world: &mut World, device: &mut Script) -> bool {
    let frames = device.frames(world);
    decoded(&frames).contains(&PlatformMessage::VersionQuery)
}

/// The versions that were written down.
fn written(world: &mut World) -> Vec<String> {
    let changes = world.take_changes().into_iter();
    let versions = changes.filter_map(|change| match change {
        Change::VersionReported { version, .. } => Some(version.as_str().to_owned()),
        _ => None,
    });
    versions.collect()
}

#[test]
fn what_a_device_tells_that_was_asked_is_written_down_although_it_is_known() {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    world.add("meter-1");
    device.register(&mut world);
    assert!(!is_asked(&mut world, &mut device));
    device.says_version(&mut world, "V2");
    assert_eq!(written(&mut world), ["V2"]);
    device.says_version(&mut world, "V2");
    assert_eq!(written(&mut world), [""; 0]);
    ask(&mut world);
    assert!(is_asked(&mut world, &mut device));
    device.says_version(&mut world, "V2");
    assert_eq!(written(&mut world), ["V2"]);
    device.says_version(&mut world, "V2");
    assert_eq!(written(&mut world), [""; 0]);
}

#[test]
fn a_device_that_is_away_is_asked_when_it_registers() {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    world.add("meter-1");
    ask(&mut world);
    assert!(!is_asked(&mut world, &mut device));
    device.register(&mut world);
    assert!(is_asked(&mut world, &mut device));
    // it starts anew before it answers
    device.register(&mut world);
    assert!(is_asked(&mut world, &mut device));
    device.says_version(&mut world, "V2");
    assert_eq!(written(&mut world), ["V2"]);
    device.register(&mut world);
    assert!(!is_asked(&mut world, &mut device));
}

//! Devices that say too much, or nothing that makes sense.

use super::*;

#[test]
fn signs_are_stored_however_much_a_device_says() {
    let mut world = World::of(Protocol::Iotda);
    world.connect();
    for number in 0..200 {
        world.tells(&format!("V1.{number}"));
    }
    world.start();
    world.after(Duration::from_millis(500));
    world.tells("V1");
    let stored = |change: &Change| matches!(change, Change::Evidence { .. });
    assert!(world.changes.iter().any(stored));
    // what is known is written once a minute
    let mut world = World::of(Protocol::Iotda);
    world.connect();
    for _ in 0..60 {
        world.tells("V1");
        world.after(Duration::from_secs(1));
    }
    assert_eq!(world.changes.len(), 1);
}

#[test]
fn a_device_that_connects_again_and_again_fills_no_timeline() {
    let mut world = World::of(Protocol::Iotda);
    world.start();
    world.connect();
    world.tells("V1");
    let before = world.changes.len();
    for _ in 0..50 {
        world.connect();
    }
    assert_eq!(world.changes.len(), before + 1);
}

#[test]
fn a_flood_of_versions_is_written_at_a_bounded_pace() {
    let mut world = World::of(Protocol::Iotda);
    world.connect();
    for number in 0..200 {
        world.tells(&format!("V{number}"));
    }
    assert!(world.changes.len() <= 20, "{}", world.changes.len());
}

#[test]
fn garbage_is_counted_and_changes_nothing() {
    let mut world = World::of(Protocol::ThingsPanel);
    world.start();
    world.connect();
    world.subscribe(Release::V1);
    let changes = world.changes.len();
    for payload in ["", "[]", "{}", r#"{"step":1e9}"#] {
        for uplink in [
            Uplink::Progress(Release::V1),
            Uplink::Inform(Release::V05),
            Uplink::Events { gzip: true },
            Uplink::Events { gzip: false },
            Uplink::Other,
        ] {
            world.event(Event::Message {
                device: id(),
                uplink,
                payload: payload.into(),
                ack: None,
            });
        }
    }
    assert_eq!(world.changes.len(), changes);
    assert!(world.engine.counters().mqtt_unreadable >= 8);
    let begun = matches!(
        world.changes.first(),
        Some(Change::Stage { line: Some(line), .. }) if matches!(line.happened, Happened::AttemptBegun { .. })
    );
    assert!(begun);
}

#[test]
fn compressed_events_are_unpacked_within_a_bound() {
    use std::io::Write as _;
    let gzip = |bytes: &[u8]| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    };
    let mut world = World::of(Protocol::Iotda);
    world.connect();
    let says = |world: &mut World, payload: Vec<u8>| {
        world.event(Event::Message {
            device: id(),
            uplink: Uplink::Events { gzip: true },
            payload: payload.into(),
            ack: None,
        });
        world.engine.counters().mqtt_unreadable
    };
    let event = json!({"object_device_id": DEVICE, "services": [{"service_id": "$ota", "event_type": "version_report",
        "paras": {"fw_version": "V1"}}]});
    assert_eq!(says(&mut world, gzip(event.to_string().as_bytes())), 0);
    assert!(matches!(&*world.changes, [Change::VersionReported { .. }]));
    // 4 MiB in 4 KB; cut off; none at all
    let bomb = gzip(&vec![b' '; 4 << 20]);
    assert_eq!(says(&mut world, bomb.clone()), 1);
    assert_eq!(says(&mut world, bomb[..1_000].to_vec()), 2);
    assert_eq!(says(&mut world, event.to_string().into_bytes()), 3);
    assert_eq!(world.changes.len(), 1);
}

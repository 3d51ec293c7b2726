//! After a restart of the server.

use super::*;

#[test]
fn goes_on_after_a_restart_of_the_server() {
    let mut before = World::of(Protocol::Iotda);
    before.start();
    before.connect();
    before.tells("V1");
    let token = before.granted().token;
    before.serve(&token, 400);
    let evidence = before.changes.iter().rev().find_map(|change| match change {
        Change::Evidence { evidence, .. } => Some(evidence.clone()),
        _ => None,
    });
    let stage = before.changes.iter().rev().find_map(|change| match change {
        Change::Stage { change, .. } => Some(change.clone()),
        _ => None,
    });
    let mut world = resumed(
        (Protocol::Iotda, before.now),
        stage.unwrap(),
        evidence.unwrap(),
    );
    // the same token, and what was served counts on
    let grant = world.granted();
    assert_eq!(
        (grant.token.clone(), grant.already_contiguous),
        (token, 400)
    );
    assert!(world.published().is_empty());
    world.connect();
    assert_eq!(kinds(&world.published()), ["version_query"]);
    world.serve(&grant.token, SIZE);
    world.reports(0, 100, "V2");
    assert_eq!(world.outcome(), Some(Outcome::Succeeded(Success::Upgraded)));
}

/// The same device a minute later, with what is stored of its upgrade.
pub(super) fn resumed(
    (protocol, now): (Protocol, Now),
    stage: StageChange,
    evidence: Vec<Evidence>,
) -> World {
    let now = now + Duration::from_mins(1);
    let mut world = World::begun(protocol, Config::default(), now);
    let record = DeviceRecord {
        endpoint: DEVICE.into(),
        product: "meters".into(),
        secure: false,
        protocol,
        via: crate::ledger::Via::Itself,
        registration: None,
        last_heard_at: None,
        coverage: None,
        version: Some(version("V1")),
        evidence,
        wake_ups: None,
        appointment: None,
    };
    world.engine.restore_device(now, &record);
    let upgrade = ActiveUpgrade {
        order: order(),
        stage,
        progress: Some(Progress {
            done_bytes: 400,
            total_bytes: SIZE,
        }),
    };
    world.engine.restore_upgrade(now, upgrade, offers());
    world.drain();
    world
}

#[test]
fn a_device_that_connects_before_it_is_read_is_met_when_it_is() {
    let now = Now {
        instant: Instant::from_millis(1_000_000_000),
        utc: UtcMillis(1_800_000_000_000),
    };
    let mut world = World::begun(Protocol::Iotda, Config::default(), now);
    world.connect();
    assert!(world.published().is_empty());
    world.command(Command::AddDevice {
        endpoint: DEVICE.into(),
        product: "meters".into(),
        secure: false,
        protocol: Protocol::Iotda,
        via: crate::ledger::Via::Itself,
    });
    // its version is not known yet
    assert_eq!(kinds(&world.published()), ["version_query"]);
    assert_eq!(world.engine.last_heard(world.now, id()), Some(now.utc));
}

#[test]
fn what_a_device_says_before_it_is_read_is_heard_when_it_is() {
    let now = Now {
        instant: Instant::from_millis(1_000_000_000),
        utc: UtcMillis(1_800_000_000_000),
    };
    let mut world = World::begun(Protocol::ThingsPanel, Config::default(), now);
    world.connect();
    let ack = Ack::new(world.conn(), std::num::NonZeroU16::MIN, false);
    let inform = |ack| Event::Message {
        device: id(),
        uplink: Uplink::Inform(Release::V05),
        payload: json!({"version": "V1"}).to_string().into(),
        ack,
    };
    world.event(inform(Some(ack)));
    // its connection is over before it is read
    world.disconnect();
    assert!(world.outs.is_empty() && world.changes.is_empty());
    world.command(Command::AddDevice {
        endpoint: DEVICE.into(),
        product: "meters".into(),
        secure: false,
        protocol: Protocol::ThingsPanel,
        via: crate::ledger::Via::Itself,
    });
    assert!(matches!(
        &*world.changes,
        [Change::VersionReported { version: told, .. }] if *told == version("V1")
    ));
    assert_eq!(world.outs, [(Out::Acknowledge(ack), 1)]);
    // who is none of ours is acknowledged, and forgotten, once all are read
    let mut world = World::begun(Protocol::ThingsPanel, Config::default(), now);
    world.connect();
    world.event(inform(Some(ack)));
    world.command(Command::Restored);
    assert_eq!(world.outs, [(Out::Acknowledge(ack), 0)]);
    assert_eq!(world.engine.tables().peers, 1);
}

//! What an upgrade exchanges with its device is counted, and nothing else.

use super::*;
use crate::ledger::{StopReason, Traffic, airtime_ms};

/// What was told of upgrade 1, all together.
fn told(world: &World) -> Traffic {
    let mut sum = Traffic::default();
    for change in &world.changes {
        if let Change::Traffic {
            upgrade: UpgradeId(1),
            task: TaskId(1),
            endpoint,
            traffic,
            ..
        } = change
        {
            assert_eq!(endpoint, "meter-1");
            sum += *traffic;
        }
    }
    sum
}

/// A device that is registered and quiet, of which nothing was counted yet.
fn registered() -> (World, Script) {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    world.add("meter-1");
    device.register(&mut world);
    device.receive(&mut world);
    world.sizes.clear();
    world.came = 0;
    (world, device)
}

/// The same, after three segments of a download.
fn downloading() -> (World, Script) {
    let (mut world, mut device) = registered();
    world.start("meter-1", 1, &package("V2", &content()));
    world.pass_s(1);
    device.answer_questions(&mut world, 51_234, -110, 8);
    device.frames(&mut world);
    for segment in 0..3 {
        device.asks_segment(&mut world, "V2", segment);
        device.receive(&mut world);
    }
    (world, device)
}

fn stop(world: &mut World) {
    world.command(Command::Stop {
        endpoint: "meter-1".into(),
        upgrade: UpgradeId(1),
        reason: StopReason::TaskStopped,
    });
}

fn sent(world: &World) -> u64 {
    world.sizes.iter().map(|(_, size)| *size as u64).sum()
}

#[test]
fn every_byte_of_an_upgrade_is_counted_once() {
    let (mut world, _) = downloading();
    stop(&mut world);
    let traffic = told(&world);
    assert_eq!(traffic.bytes_down, sent(&world));
    assert_eq!(traffic.bytes_up, world.came as u64);
    assert_eq!((traffic.repeats_down, traffic.repeats_up), (0, 0));
    assert!(traffic.bytes_down > 300, "three segments of 100 bytes");
    // fair coverage: each block is sent eight times
    let least = 8 * airtime_ms(traffic.bytes_down, traffic.bytes_up, None);
    assert!(traffic.airtime_estimated_ms > least, "{traffic:?}");
    // and nothing of an upgrade that has ended
    world.pass_s(600);
    assert_eq!(told(&world), traffic);
}

#[test]
fn what_goes_again_counts_as_repeats_both_ways() {
    let (mut world, device) = downloading();
    let before = sent(&world);
    let id = world.next_id;
    device.asks_segment(&mut world, "V2", 3);
    // the segment is not acknowledged, and goes again; the request comes again
    world.pass_s(1);
    world.next_id = id;
    device.asks_segment(&mut world, "V2", 3);
    world.pass_s(25);
    let more = sent(&world) - before;
    stop(&mut world);
    let traffic = told(&world);
    assert!(traffic.repeats_down >= 1, "{traffic:?}");
    assert_eq!(traffic.repeats_up, 1);
    assert!(more > 200, "the segment went twice");
    assert_eq!(traffic.bytes_up, world.came as u64);
    assert_eq!(traffic.bytes_down, sent(&world));
}

#[test]
fn registrations_and_a_flood_in_its_name_cost_a_device_nothing() {
    let (mut world, device) = downloading();
    let (came, went) = (world.came as u64, sent(&world));
    for id in 0..500_u16 {
        device.update(&mut world);
        let token = crate::coap::Token::new(&[9, 9]);
        let strange = MessageBuilder::new(Kind::NonConfirmable, Code::CONTENT, 20_000 + id, token)
            .payload(vec![7; 500])
            .build();
        world.datagram(device.at, &strange);
        let garbage = request(Code::POST, 30_000 + id, &["dp"], &[]);
        world.datagram(device.at, &garbage);
    }
    stop(&mut world);
    let traffic = told(&world);
    assert_eq!((traffic.bytes_up, traffic.bytes_down), (came, went));
}

#[test]
fn a_device_that_moves_to_another_engine_keeps_its_account() {
    let (mut world, _) = downloading();
    let key = world.engine.find("meter-1").unwrap();
    let moving = world.engine.remove_device(key);
    assert!(moving.device.session.is_some(), "with the account in it");
    world.engine.take_in(world.now, moving);
    stop(&mut world);
    assert_eq!(told(&world).bytes_down, sent(&world));
}

//! What a device is served, and its connection meanwhile.

use super::*;

#[test]
fn each_connection_of_a_device_that_may_be_downloading_is_held() {
    let mut world = World::of(Protocol::Iotda);
    world.start();
    world.connect();
    world.tells("V1");
    let token = world.granted().token;
    let holds = |world: &mut World| {
        let outs = std::mem::take(&mut world.outs);
        (outs.iter()).any(|(out, _)| matches!(out, Out::Hold { on: true, .. }))
    };
    assert!(holds(&mut world));
    world.serve(&token, 300);
    assert!(!holds(&mut world), "it is held already");
    world.connect();
    assert!(holds(&mut world));
    world.reports(7, 0, "V2");
    world.connect();
    assert!(!holds(&mut world), "nothing goes on any more");
}

#[test]
fn a_success_that_is_claimed_before_all_has_arrived_waits_for_the_rest() {
    let claimed = |arrived: u64| {
        let mut world = World::of(Protocol::Iotda);
        world.start();
        world.connect();
        world.tells("V1");
        let token = world.granted().token;
        world.serve_with(&token, arrived, true);
        world.reports(0, 100, "V2");
        assert_eq!(world.outcome(), None);
        (world, token)
    };
    let (mut world, token) = claimed(300);
    world.serve(&token, SIZE);
    assert_eq!(world.outcome(), Some(Outcome::Succeeded(Success::Upgraded)));
    let cost = world.changes.iter().filter_map(|change| match change {
        Change::Traffic { traffic, .. } => Some(traffic.bytes_down),
        _ => None,
    });
    assert_eq!(cost.sum::<u64>(), SIZE);
    // one that took nothing: its connection ends, and nothing speaks for it any more
    let (mut world, token) = claimed(0);
    world.serve(&token, 0);
    world.after(Duration::from_mins(29));
    assert_eq!(world.outcome(), None);
    world.after(Duration::from_mins(1));
    let failure = Outcome::Failed(Failure::NotDownloaded);
    assert_eq!(world.outcome(), Some(failure));
}

#[test]
fn what_is_fetched_again_costs_the_device_something() {
    let mut world = World::of(Protocol::Iotda);
    world.start();
    world.connect();
    world.tells("V1");
    let token = world.granted().token;
    world.serve(&token, SIZE);
    world.served_bytes = 0; // it fetches it once more
    world.serve(&token, SIZE);
    world.reports(7, 0, "V2");
    let cost = world.changes.iter().filter_map(|change| match change {
        Change::Traffic { traffic, .. } => Some(traffic.bytes_down),
        _ => None,
    });
    assert_eq!(cost.sum::<u64>(), 2 * SIZE);
}

#[test]
fn what_arrives_after_the_outcome_counts_to_the_upgrade_and_changes_nothing_else() {
    let mut world = World::of(Protocol::Iotda);
    world.start();
    world.connect();
    world.tells("V1");
    let token = world.granted().token;
    world.serve_with(&token, 300, true);
    world.reports(7, 0, "V2");
    let outcome = world.outcome();
    assert!(matches!(outcome, Some(Outcome::Failed(_))), "{outcome:?}");
    let over = |more_bytes| ServedBytes {
        device: id(),
        upgrade: UpgradeId(7),
        task: TaskId(5),
        token: token.clone(),
        contiguous_bytes: SIZE,
        whole: true,
        in_flight: false,
        more_bytes,
        over: true,
    };
    let count = world.changes.len();
    world.engine.served(world.now, &over(0));
    world.drain();
    assert_eq!(world.changes.len(), count);
    world.engine.served(world.now, &over(250));
    world.drain();
    let [
        Change::Traffic {
            upgrade,
            task,
            endpoint,
            traffic,
            at,
            ..
        },
    ] = &world.changes[count..]
    else {
        panic!("{:?}", &world.changes[count..]);
    };
    assert_eq!(
        (*upgrade, *task, &**endpoint),
        (UpgradeId(7), TaskId(5), DEVICE)
    );
    assert_eq!((traffic.bytes_down, *at), (250, world.now.utc));
    assert_eq!(world.outcome(), outcome);
}

#[test]
fn what_an_earlier_offer_still_brings_counts_to_the_attempt_that_runs_and_is_no_progress() {
    let mut world = World::of(Protocol::Iotda);
    world.start();
    world.connect();
    world.tells("V1");
    let token = world.granted().token;
    world.serve_with(&token, 300, true);
    let over = ServedBytes {
        device: id(),
        upgrade: UpgradeId(7),
        task: TaskId(5),
        token: token.clone(),
        contiguous_bytes: SIZE,
        whole: true,
        in_flight: false,
        more_bytes: 200,
        over: true,
    };
    world.engine.served(world.now, &over);
    world.drain();
    // what it claims is not believed for that
    world.reports(0, 100, "V2");
    assert_eq!(world.outcome(), None);
    world.serve(&token, SIZE);
    assert_eq!(world.outcome(), Some(Outcome::Succeeded(Success::Upgraded)));
    let cost = world.changes.iter().filter_map(|change| match change {
        Change::Traffic { traffic, .. } => Some(traffic.bytes_down),
        _ => None,
    });
    assert_eq!(cost.sum::<u64>(), SIZE + 200);
}

#[test]
fn a_connection_that_flaps_beside_a_download_ends_nothing() {
    let mut world = World::of(Protocol::Iotda);
    world.start();
    world.connect();
    world.tells("V1");
    let token = world.granted().token;
    world.published();
    for part in 1..=8 {
        world.serve(&token, part * 100);
        world.after(Duration::from_mins(1));
        world.connect();
        assert!(
            world.published().is_empty(),
            "nothing is asked while it downloads"
        );
    }
    // a device that was offered it twice says so
    world.reports(1, 80, "V1");
    assert_eq!(world.outcome(), None);
    let evidence = world.changes.iter().rev().find_map(|change| match change {
        Change::Evidence { evidence, .. } => Some(evidence[0]),
        _ => None,
    });
    assert_eq!(evidence.unwrap().failure, None);
    world.serve(&token, SIZE);
    world.reports(0, 100, "V2");
    assert_eq!(world.outcome(), Some(Outcome::Succeeded(Success::Upgraded)));
}

#[test]
fn what_was_served_last_is_written_down_when_the_server_stops() {
    let mut world = World::of(Protocol::Iotda);
    world.start();
    world.connect();
    world.tells("V1");
    let token = world.granted().token;
    world.serve(&token, 300);
    world.serve(&token, 400);
    let stored = |world: &World| {
        let progress = world.changes.iter().filter_map(|change| match change {
            Change::Progress { progress, .. } => Some(progress.done_bytes),
            _ => None,
        });
        progress.collect::<Vec<u64>>()
    };
    assert_eq!(stored(&world), [300]);
    for _ in 0..2 {
        world.engine.stopping(world.now);
        world.drain();
        assert_eq!(stored(&world), [300, 400]);
    }
}

/// So many more bytes are served with the right of an upgrade that has ended.
fn late(world: &mut World, token: &Token, more_bytes: u64, over: bool) {
    let served = ServedBytes {
        device: id(),
        upgrade: UpgradeId(7),
        task: TaskId(5),
        token: token.clone(),
        contiguous_bytes: 400,
        whole: false,
        in_flight: false,
        more_bytes,
        over,
    };
    world.engine.served(world.now, &served);
    world.drain();
}

/// How many changes tell what was fetched, and how much that was.
fn costs(world: &World) -> (usize, u64) {
    let costs = world.changes.iter().filter_map(|change| match change {
        Change::Traffic { traffic, .. } => Some(traffic.bytes_down),
        _ => None,
    });
    costs.fold((0, 0), |(count, sum), bytes| (count + 1, sum + bytes))
}

/// An upgrade has ended of which 400 bytes were fetched, and nothing can be stored.
fn ended_in_an_outage() -> (World, Token) {
    let mut world = World::of(Protocol::Iotda);
    world.start();
    world.connect();
    world.tells("V1");
    let token = world.granted().token;
    world.serve(&token, 400);
    world.stalled = true;
    world.reports(7, 0, "V2");
    assert!(world.outcome().is_some());
    assert_eq!(costs(&world).1, 400);
    (world, token)
}

#[test]
fn a_device_that_fetches_on_while_its_end_cannot_be_stored_has_no_change_written_for_each_byte() {
    let (mut world, token) = ended_in_an_outage();
    let count = world.changes.len();
    for _ in 0..10_000 {
        late(&mut world, &token, 1, false);
    }
    assert_eq!(world.changes.len(), count);
    world.after(Duration::from_mins(1));
    assert_eq!(world.changes.len(), count + 1);
    assert_eq!(costs(&world).1, 10_400);
    // nor where its connections end one after the other
    for _ in 0..10_000 {
        late(&mut world, &token, 1, true);
    }
    let changes = world.changes.len() - count;
    assert!((2..=21).contains(&changes), "{changes}");
    assert!(costs(&world).1 < 20_400);
    world.stalled = false;
    world.after(Duration::from_mins(1));
    assert_eq!(costs(&world).1, 20_400);
    // nothing is left, and nothing is planned for it
    let count = world.changes.len();
    world.after(Duration::from_mins(5));
    assert_eq!(world.changes.len(), count);
    assert_eq!(world.engine.late.next(), None);
}

#[test]
fn what_is_not_written_down_waits_while_too_much_is_not_stored() {
    let (mut world, token) = ended_in_an_outage();
    for _ in 0..=2_000 {
        let change = world.changes[0].clone();
        world.engine.persist_lazily(change);
    }
    world.drain();
    let count = world.changes.len();
    late(&mut world, &token, 1, true);
    world.after(Duration::from_mins(3));
    assert_eq!(world.changes.len(), count);
    world.stalled = false;
    world.drain();
    world.after(Duration::from_mins(1));
    assert_eq!(costs(&world).1, 401);
}

#[test]
fn what_is_not_written_down_is_when_the_server_stops_or_the_device_is_removed() {
    let stops: [fn(&mut World); 2] = [
        |world| world.engine.stopping(world.now),
        |world| {
            world.command(Command::RemoveDevice {
                endpoint: DEVICE.into(),
            });
        },
    ];
    for stop in stops {
        let (mut world, token) = ended_in_an_outage();
        late(&mut world, &token, 5, false);
        assert_eq!(costs(&world).1, 400);
        stop(&mut world);
        world.drain();
        assert_eq!(costs(&world).1, 405);
    }
}

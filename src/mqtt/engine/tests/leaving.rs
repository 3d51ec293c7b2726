//! What leaves for a device, when, and in which order.

use super::*;

#[test]
fn nothing_leaves_before_what_it_depends_on() {
    let mut world = World::of(Protocol::Iotda);
    world.start();
    world.connect();
    world.tells("V1");
    // the stage of the offer is the newest change that it depends on
    let stage = world.changes.iter().rposition(|change| {
        matches!(change, Change::Stage { change, .. } if change.stage == Stage::Downloading)
    });
    let stage = Seq::try_from(stage.unwrap()).unwrap() + 1;
    for (out, after) in &world.outs {
        if let Out::Grant(_) = out {
            assert!(*after >= stage);
        }
        if let Out::Publish { payload, .. } = out
            && payload.windows(16).any(|part| part == b"firmware_upgrade")
        {
            assert!(*after >= stage);
        }
    }
    // the connection is held from then on, and let go some time after the whole package: it may be writing it
    let holds = |world: &World| -> Vec<bool> {
        let holds = world.outs.iter().filter_map(|(out, _)| match out {
            Out::Hold { on, .. } => Some(*on),
            _ => None,
        });
        holds.collect()
    };
    assert_eq!(holds(&world), [true]);
    let token = world.granted().token;
    world.serve(&token, SIZE);
    world.after(Duration::from_mins(9));
    assert_eq!(holds(&world), [true]);
    world.after(Duration::from_mins(2));
    assert_eq!(holds(&world), [true, false]);
}

#[test]
fn while_the_store_stalls_one_query_and_one_offer_wait_for_a_device() {
    let mut world = World::of(Protocol::Iotda);
    world.start();
    world.stalled = true;
    for _ in 0..50 {
        world.connect();
    }
    assert_eq!(kinds(&world.published()), ["version_query"]);
    for _ in 0..50 {
        world.tells("V1");
        world.connect();
    }
    assert_eq!(kinds(&world.published()), ["firmware_upgrade"]);
    // what waited has been given up
    world.engine.unsent(world.now, id());
    world.after(Duration::from_secs(11));
    assert_eq!(kinds(&world.published()), ["version_query"]);
    world.stalled = false;
    world.drain();
    world.connect();
    assert_eq!(kinds(&world.published()), ["version_query"]);
}

#[test]
fn acknowledgements_are_of_what_was_sent_in_their_order() {
    let mut world = World::of(Protocol::Iotda);
    world.start();
    world.connect();
    // it acknowledges what it was asked after it has answered
    world.tells("V1");
    let delivered = || Event::Delivered {
        device: id(),
        packet_id: std::num::NonZeroU16::MIN,
    };
    let fate = |world: &World| {
        let session = world.engine.session(id()).unwrap();
        session.correspondence.sent.as_ref().unwrap().fate.clone()
    };
    world.event(delivered());
    assert_ne!(fate(&world), crate::ledger::Fate::Acknowledged);
    world.event(delivered());
    assert_eq!(fate(&world), crate::ledger::Fate::Acknowledged);
}

#[test]
fn an_offer_that_could_not_be_sent_leaves_again() {
    let mut world = World::of(Protocol::Iotda);
    world.start();
    world.connect();
    world.tells("V1");
    world.published();
    world.engine.unsent(world.now, id());
    world.after(Duration::from_secs(11));
    assert_eq!(kinds(&world.published()), ["firmware_upgrade"]);
    // a question too, and nothing that it is seen to have got
    let token = world.engine.session(id()).unwrap().exchange.token.clone();
    world.serve(&token.unwrap(), 100);
    world.engine.unsent(world.now, id());
    world.after(Duration::from_secs(11));
    assert!(world.published().is_empty());
    world.after(Duration::from_mins(2));
    world.connect();
    assert_eq!(kinds(&world.published()), ["version_query"]);
    world.engine.unsent(world.now, id());
    world.after(Duration::from_secs(11));
    assert_eq!(kinds(&world.published()), ["version_query"]);
    // one that is gone is offered it when it is there again
    world.disconnect();
    world.engine.unsent(world.now, id());
    world.after(Duration::from_mins(1));
    assert!(world.published().is_empty());
}

#[test]
fn stopping_and_removing_end_what_was_offered() {
    let mut world = World::of(Protocol::Iotda);
    world.start();
    world.connect();
    world.tells("V1");
    world.command(Command::Stop {
        endpoint: DEVICE.into(),
        upgrade: UpgradeId(7),
        reason: StopReason::TaskWindsDown,
    });
    assert_eq!(world.outcome(), None, "one that was offered it goes on");
    let token = world.granted().token;
    world.command(Command::RemoveDevice {
        endpoint: DEVICE.into(),
    });
    assert_eq!(world.outcome().unwrap().reason(), "device_removed");
    let revoked = world
        .outs
        .iter()
        .any(|(out, _)| *out == Out::Revoke(token.clone()));
    assert!(revoked);
    assert!(!world.engine.has(id()));
    assert_eq!(world.engine.poll_timeout(), None);
}

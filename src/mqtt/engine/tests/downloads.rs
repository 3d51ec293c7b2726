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
fn what_did_not_arrive_after_all_is_offered_again() {
    let mut world = World::of(Protocol::Iotda);
    world.start();
    world.connect();
    world.tells("V1");
    let token = world.granted().token;
    world.serve(&token, SIZE);
    assert_eq!(world.stage(), Some(Stage::Executing));
    // the connection broke, and the tail was on its way
    world.serve(&token, 300);
    assert_eq!(world.stage(), Some(Stage::Downloading));
    let done = world.changes.iter().rev().find_map(|change| match change {
        Change::Progress { progress, .. } => Some(progress.done_bytes),
        _ => None,
    });
    assert_eq!(done, Some(300), "a restart must not take it for the whole");
    world.published();
    world.after(Duration::from_mins(2));
    world.connect();
    assert_eq!(kinds(&world.published()), ["version_query"]);
    world.tells("V1");
    assert_eq!(world.granted().already_contiguous, 300);
    assert_eq!(kinds(&world.published()), ["firmware_upgrade"]);
    // and then it gets it
    world.serve(&token, SIZE);
    world.reports(0, 100, "V2");
    assert_eq!(world.outcome(), Some(Outcome::Succeeded(Success::Upgraded)));
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

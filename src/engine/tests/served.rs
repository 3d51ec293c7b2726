//! What devices over `CoAP` are granted and served over HTTP.

use super::*;
use crate::{
    clock::UtcMillis,
    grants::{self, Grant, Way},
    ledger::{StopReason, Traffic},
};

fn token(letter: char) -> grants::Token {
    grants::Token::new(&letter.to_string().repeat(22)).unwrap()
}

fn grant(letter: char, already_contiguous: u64) -> Grant {
    Grant {
        token: token(letter),
        way: Way::Path,
        device: ids().of("meter-1"),
        upgrade: UpgradeId(1),
        task: TaskId(1),
        package: PackageId(1),
        sha256: "0".repeat(64),
        size_bytes: 1_000,
        file_name: "V2.bin".to_owned(),
        expires_at: UtcMillis(i64::MAX),
        already_contiguous,
        begun: true,
    }
}

/// So much of the package, of which so many bytes are new.
fn served(letter: char, contiguous_bytes: u64, more_bytes: u64) -> grants::Served {
    grants::Served {
        device: ids().of("meter-1"),
        upgrade: UpgradeId(1),
        task: TaskId(1),
        token: token(letter),
        contiguous_bytes,
        whole: contiguous_bytes == 1_000,
        in_flight: false,
        more_bytes,
        over: false,
    }
}

/// A device with a slot, of which nothing was told yet.
fn begun() -> World {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    world.add("meter-1");
    world.start("meter-1", 1, &package("V2", &content()));
    device.negotiate(&mut world, 51_234, -90, 15);
    device.frames(&mut world);
    world.changes.clear();
    world
}

impl World {
    fn grants(&mut self, grant: Grant) {
        self.engine.grant(grant);
        self.collect();
    }

    fn serves(&mut self, served: &grants::Served) -> Vec<Change> {
        self.engine.served(self.now, served);
        self.collect();
        self.take_changes()
    }
}

fn progress(changes: &[Change]) -> Vec<u64> {
    let told = changes.iter().filter_map(|change| match change {
        Change::Progress { progress, .. } => Some(progress.done_bytes),
        _ => None,
    });
    told.collect()
}

fn bytes_down(changes: &[Change]) -> u64 {
    let told = changes.iter().map(|change| match change {
        Change::Traffic { traffic, .. } => traffic.bytes_down,
        _ => 0,
    });
    told.sum()
}

/// Whether it takes the version, each time that what it has done with it is written down.
fn taken(changes: &[Change]) -> Vec<bool> {
    let told = changes.iter().filter_map(|change| match change {
        Change::Evidence { evidence, .. } => evidence.last().map(|it| it.taken),
        _ => None,
    });
    told.collect()
}

#[test]
fn a_right_waits_for_what_its_device_waits_for() {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1);
    world.add("meter-1");
    world.stalled = true;
    device.register(&mut world);
    world.grants(grant('a', 0));
    let pending = world.newest;
    assert!(pending > 0);
    let expected = Effect::Grant {
        grant: Box::new(grant('a', 0)),
        after: pending,
    };
    assert_eq!(std::mem::take(&mut world.granted), [expected]);
    // nobody has that device
    let mut of_nobody = grant('a', 0);
    of_nobody.device = ids().of("nobody");
    world.grants(of_nobody);
    assert_eq!(world.granted, []);
}

#[test]
fn what_is_fetched_is_told_at_times_and_counted_once() {
    let mut world = begun();
    world.grants(grant('a', 0));
    let first = world.serves(&served('a', 300, 300));
    assert_eq!(progress(&first), [300]);
    assert_eq!(taken(&first), [true]);
    // lately enough
    let second = world.serves(&served('a', 400, 100));
    assert_eq!((progress(&second), taken(&second)), (vec![], vec![]));
    world.pass_s(60);
    world.take_changes();
    // fetched again
    assert_eq!(progress(&world.serves(&served('a', 400, 200))), [0_u64; 0]);
    let last = world.serves(&served('a', 1_000, 600));
    assert_eq!(progress(&last), [1_000]);
    world.command(Command::Stop {
        endpoint: "meter-1".into(),
        upgrade: UpgradeId(1),
        reason: StopReason::TaskStopped,
    });
    let rest = world.take_changes();
    let counted = bytes_down(&first) + bytes_down(&second) + bytes_down(&last) + bytes_down(&rest);
    let by_coap: usize = world.sizes.iter().map(|(_, size)| size).sum();
    assert!(
        counted >= 1_200 && counted <= 1_200 + by_coap as u64,
        "{counted}"
    );
}

#[test]
fn the_right_of_another_attempt_counts_for_its_cost_alone() {
    let mut world = begun();
    world.grants(grant('a', 0));
    world.grants(grant('b', 500));
    let told: Vec<&grants::Token> = (world.granted.iter())
        .map(|effect| match effect {
            Effect::Grant { grant, .. } => &grant.token,
            Effect::Revoke { token, .. } => token,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, [&token('a'), &token('a'), &token('b')]);
    assert!(matches!(world.granted[1], Effect::Revoke { .. }));
    assert_eq!(world.serves(&served('a', 1_000, 100)), []);
    // what was served before is known
    assert_eq!(progress(&world.serves(&served('b', 500, 0))), [0_u64; 0]);
    assert_eq!(progress(&world.serves(&served('b', 600, 100))), [600]);
    let mut over = served('b', 1_000, 400);
    over.over = true;
    assert_eq!(world.serves(&over), []);
}

#[test]
fn what_comes_after_the_end_counts_to_the_upgrade() {
    let mut world = begun();
    world.grants(grant('a', 0));
    world.command(Command::Stop {
        endpoint: "meter-1".into(),
        upgrade: UpgradeId(1),
        reason: StopReason::TaskStopped,
    });
    world.engine.revoke(ids().of("meter-1"));
    world.collect();
    assert!(matches!(
        &world.granted[..],
        [Effect::Grant { .. }, Effect::Revoke { .. }]
    ));
    world.take_changes();
    world.pass_s(60);
    let mut over = served('a', 700, 700);
    over.over = true;
    let changes = world.serves(&over);
    let [
        Change::Traffic {
            upgrade, traffic, ..
        },
    ] = &changes[..]
    else {
        panic!("{changes:?}");
    };
    let expected = Traffic {
        bytes_down: 700,
        ..Traffic::default()
    };
    assert_eq!((*upgrade, *traffic), (UpgradeId(1), expected));
    // a flood is not written down
    let written: usize = (0..100).map(|_| world.serves(&over).len()).sum();
    assert!(written <= 20, "{written}");
}

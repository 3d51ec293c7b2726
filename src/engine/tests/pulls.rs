//! Packages that devices fetch in blocks. The pulls are opened by hand.

use bytes::Bytes;
use proptest::prelude::*;

use super::{moves::find, *};
use crate::{
    coap::Block,
    engine::pulls::{PULLS, PullTerms},
    ledger::{PullToken, Via},
    package::Content,
};

const ENDPOINT: &str = "meter-1";

fn in_blocks(content: &[u8]) -> Content {
    let sha256 = "0123456789ab".repeat(6);
    Content::new(Bytes::copy_from_slice(content), &sha256[..64]).unwrap()
}

fn terms(content: &[u8]) -> PullTerms {
    PullTerms {
        content: in_blocks(content),
        upgrade: UpgradeId(1),
        task: TaskId(1),
        attempt: 1,
        package: PackageId(1),
        block_bytes: 512,
        secured: false,
        bytes_per_second: 0,
        done_bytes: 0,
    }
}

/// A world with a device that has an upgrade under way.
fn begun() -> World {
    let mut world = World::new();
    world.add(ENDPOINT);
    world.start(ENDPOINT, 1, &package("V2", &content()));
    world.take_sent();
    world
}

fn open(world: &mut World, terms: &PullTerms) -> PullToken {
    let token = world.engine.open_pull_of(ENDPOINT, terms).unwrap();
    world.collect();
    token
}

fn close(world: &mut World) {
    world.engine.close_pull_of(ENDPOINT);
    world.collect();
}

fn get(id: u16, token: &str, block: Option<(u32, u8)>) -> Vec<u8> {
    let tag = crate::coap::Token::new(&id.to_be_bytes());
    let builder = MessageBuilder::new(Kind::Confirmable, Code::GET, id, tag);
    let builder = builder.path(PULLS).path(token);
    match block {
        Some((number, szx)) => {
            let more = false;
            let block = Block { number, more, szx };
            builder.block2(block.encode()).build()
        }
        None => builder.build(),
    }
}

/// Asks for a block, and gives what is answered, if anything.
fn ask(
    world: &mut World,
    from: Peer,
    token: PullToken,
    block: Option<(u32, u8)>,
) -> Option<Message<'static>> {
    let id = world.next_id;
    world.next_id += 1;
    world.datagram(from, &get(id, &token.text(), block));
    answered(world, from, id)
}

fn answered(world: &mut World, from: Peer, id: u16) -> Option<Message<'static>> {
    let at = (world.sent.iter()).position(|(to, it)| *to == from && it.message_id() == id)?;
    let (_, message) = world.sent.remove(at)?;
    assert_eq!(message.kind(), Kind::Acknowledgement);
    assert_eq!(message.token(), crate::coap::Token::new(&id.to_be_bytes()));
    Some(message)
}

fn code(message: Option<Message<'static>>) -> Option<Code> {
    message.map(|message| message.code())
}

/// How far the store was told that the download is.
fn progress(world: &World) -> Vec<u64> {
    (world.changes.iter())
        .filter_map(|change| match change {
            Change::Progress { progress, .. } => Some(progress.done_bytes),
            _ => None,
        })
        .collect()
}

#[test]
fn a_package_is_fetched_from_any_socket_and_any_block_first() {
    let mut world = begun();
    let package = content(); // of 1,000 bytes
    let token = open(&mut world, &terms(&package));
    let block = |number| Some((number, 4)); // of 256 bytes
    let mut got = vec![0; 1_000];
    for (port, number) in [(1, 3), (2, 1), (3, 0), (1, 2), (1, 2)] {
        let answer = ask(&mut world, peer(port), token, block(number)).unwrap();
        assert_eq!(answer.code(), Code::CONTENT);
        let sent = Block::decode(answer.block2().unwrap()).unwrap();
        assert_eq!((sent.number, sent.more), (number, number < 3));
        let from = number as usize * 256;
        got[from..from + answer.payload().len()].copy_from_slice(answer.payload());
        // the first block is told, and what has no gap before it counts
        if number != 2 {
            assert!(progress(&world).iter().all(|done| *done < 1_000));
        }
    }
    assert_eq!(got, package);
    assert_eq!(world.engine.counters().blocks_served, 5);
    world.pass_s(31);
    assert_eq!(progress(&world).last(), Some(&1_000));
    let takes = (world.changes.iter()).any(|change| matches!(change, Change::Evidence { .. }));
    assert!(takes, "it has asked for the package");
    // another message with the same number is answered as itself
    let answer = ask(&mut world, peer(9), token, None).unwrap();
    assert_eq!(answer.payload(), &package[..512]);
}

#[test]
fn what_was_served_before_a_restart_counts() {
    let mut world = begun();
    let package = content();
    let token = open(
        &mut world,
        &PullTerms {
            done_bytes: 512,
            ..terms(&package)
        },
    );
    ask(&mut world, peer(1), token, Some((1, 5))).unwrap();
    assert_eq!(progress(&world), [1_000]);
}

#[test]
fn nobody_else_is_served_a_byte() {
    let mut world = begun();
    world.command(Command::AddDevice {
        endpoint: ENDPOINT.into(),
        product: "meter".into(),
        secure: true,
        protocol: crate::ledger::Protocol::Lwm2m,
        via: Via::Gateway(Some("gateway-1".to_owned())),
    });
    let secured = Peer::secured(peer(7).address);
    let over_dtls = PullTerms {
        secured: true,
        ..terms(&content())
    };
    let token = open(&mut world, &over_dtls);
    for (speaks, from, expected) in [
        (None, peer(7), Code::NOT_FOUND),
        (Some("meter-2"), secured, Code::NOT_FOUND),
        (Some(ENDPOINT), secured, Code::CONTENT),
        (Some("gateway-1"), secured, Code::CONTENT),
    ] {
        world.speaker = speaks.map(|name| (vec![name.into()], None));
        let answer = ask(&mut world, from, token, None).unwrap();
        assert_eq!(answer.code(), expected, "{speaks:?}");
        assert_eq!(answer.payload().is_empty(), expected == Code::NOT_FOUND);
    }
    // what is for the clear is not served elsewhere either
    let token = open(&mut world, &terms(&content()));
    let answer = ask(&mut world, secured, token, None);
    assert_eq!(code(answer), Some(Code::NOT_FOUND));
    world.speaker = None;
    let answer = ask(&mut world, peer(7), token, None);
    assert_eq!(code(answer), Some(Code::CONTENT));
}

#[test]
fn what_is_not_open_is_not_found_and_costs_no_more_than_was_sent() {
    let mut world = begun();
    let token = open(&mut world, &terms(&content()));
    let others = [
        ids().pull_token(ids().of(ENDPOINT), UpgradeId(2), 1, PackageId(1)),
        ids().pull_token(ids().of("nobody"), UpgradeId(1), 1, PackageId(1)),
    ];
    let texts = others.map(|it| it.text());
    for text in [&*texts[0], &*texts[1], "", "short", &"A".repeat(22)] {
        let datagram = get(77, text, None);
        world.sizes.clear();
        world.datagram(peer(1), &datagram);
        let answer = answered(&mut world, peer(1), 77);
        assert_eq!(code(answer), Some(Code::NOT_FOUND), "{text}");
        assert!(world.sizes.iter().all(|(_, len)| *len <= datagram.len()));
    }
    assert_eq!(
        code(ask(&mut world, peer(1), token, None)),
        Some(Code::CONTENT)
    );
    close(&mut world);
    assert_eq!(world.recalled, [token]);
    assert_eq!(
        code(ask(&mut world, peer(1), token, None)),
        Some(Code::NOT_FOUND)
    );
    // while devices from before a restart are read, it may be one of them
    world.engine.expect_devices();
    assert!(ask(&mut world, peer(1), others[1], None).is_none());
    assert_eq!(world.engine.counters().requests_deferred, 1);
}

#[test]
fn what_is_asked_wrongly_is_refused_and_the_pull_goes_on() {
    let mut world = begun();
    let token = open(&mut world, &terms(&content()));
    let answer = ask(&mut world, peer(1), token, Some((2, 5)));
    assert_eq!(code(answer), Some(Code::BAD_OPTION));
    let answer = ask(&mut world, peer(1), token, Some((0, 7)));
    assert_eq!(code(answer), Some(Code::BAD_REQUEST));
    assert_eq!(world.engine.counters().blocks_refused, 2);
    assert_eq!(
        code(ask(&mut world, peer(1), token, Some((1, 5)))),
        Some(Code::CONTENT)
    );
}

#[test]
fn an_engine_that_does_not_have_the_device_serves_from_a_lease() {
    let (mut here, mut there) = (begun(), World::new());
    there.elsewhere.push(ids().of(ENDPOINT));
    let package = content();
    let token = open(&mut here, &terms(&package));
    // it is asked for once; what is asked for meanwhile is answered too
    there.datagram(peer(1), &get(1, &token.text(), Some((0, 5))));
    there.datagram(peer(2), &get(2, &token.text(), Some((1, 5))));
    assert!(there.sent.is_empty());
    let whose = find(&mut here, &mut there);
    assert!(matches!(whose[..], [Whose::Lent(_), Whose::Lent(_)]));
    let first = answered(&mut there, peer(1), 1).unwrap();
    let second = answered(&mut there, peer(2), 2).unwrap();
    assert_eq!([first.payload(), second.payload()].concat(), package);
    assert!(here.engine.has(ids().of(ENDPOINT)));
    for fetched in there.fetched.drain(..) {
        here.engine.fetched(here.now, &fetched);
    }
    here.collect();
    assert_eq!(progress(&here).last(), Some(&1_000));
    // by itself from now on
    there.next_id = 3;
    assert!(ask(&mut there, peer(3), token, None).is_some());
    close(&mut here);
    assert_eq!(here.recalled, [token]);
    there.engine.recall(there.now, token);
    there.next_id = 4;
    assert!(ask(&mut there, peer(3), token, None).is_none());
    assert_eq!(find(&mut here, &mut there), [Whose::NotRegistered]);
    assert_eq!(
        code(answered(&mut there, peer(3), 4)),
        Some(Code::NOT_FOUND)
    );
}

#[test]
fn what_is_told_after_the_end_of_an_upgrade_counts_for_it_too() {
    let (mut here, mut there) = (begun(), World::new());
    there.elsewhere.push(ids().of(ENDPOINT));
    let token = open(&mut here, &terms(&content()));
    there.datagram(peer(1), &get(1, &token.text(), Some((0, 5))));
    find(&mut here, &mut there);
    here.command(Command::Abandon {
        upgrade: UpgradeId(1),
    });
    here.changes.clear();
    for fetched in there.fetched.drain(..) {
        here.engine.fetched(here.now, &fetched);
    }
    here.collect();
    let [
        Change::Traffic {
            upgrade,
            task,
            traffic,
            ..
        },
    ] = &here.changes[..]
    else {
        panic!("{:?}", here.changes);
    };
    assert_eq!((*upgrade, *task), (UpgradeId(1), TaskId(1)));
    assert!(
        traffic.bytes_down > 512 && traffic.bytes_up > 20,
        "{traffic:?}"
    );
}

#[test]
fn what_was_served_before_an_offer_counts_no_more_unless_the_device_goes_on() {
    for (asked, whole) in [([0, 3], false), ([2, 3], true)] {
        let mut world = begun();
        let token = open(&mut world, &terms(&content()));
        for number in 0..3 {
            ask(&mut world, peer(1), token, Some((number, 4))).unwrap();
        }
        // it says that it has lost what it had
        assert_eq!(open(&mut world, &terms(&content())), token);
        world.changes.clear();
        for number in asked {
            ask(&mut world, peer(1), token, Some((number, 4))).unwrap();
        }
        world.pass_s(31);
        assert_eq!(progress(&world).contains(&1_000), whole, "{asked:?}");
    }
}

#[test]
fn a_device_was_heard_when_it_asked_last() {
    let mut world = begun();
    let token = open(&mut world, &terms(&content()));
    ask(&mut world, peer(1), token, Some((0, 4))).unwrap();
    world.pass_s(3);
    ask(&mut world, peer(1), token, Some((1, 4))).unwrap();
    let asked_at = world.now.instant;
    world.pass_s(40);
    assert_eq!(progress(&world).last(), Some(&512), "that is told later");
    let key = world.engine.find(ENDPOINT).unwrap();
    assert_eq!(world.engine.device(key).heard_at, Some(asked_at));
}

#[test]
fn what_was_served_for_one_step_says_nothing_of_the_next() {
    let (mut world, mut device) = packages::asked(packages::chain(), None);
    packages::offered(&mut world, &mut device, "V1");
    let token = open(&mut world, &terms(&content()));
    ask(&mut world, peer(9), token, Some((0, 5))).unwrap();
    packages::upgrades(&mut world, &mut device, "V2");
    assert_eq!(world.stages().last(), Some(&Stage::QueryingVersion));
    assert_eq!(world.recalled, [token]);
    let answer = ask(&mut world, peer(9), token, Some((1, 5)));
    assert_eq!(code(answer), Some(Code::NOT_FOUND));
}

#[test]
fn a_pull_goes_along_with_its_device() {
    let (mut here, mut there) = (begun(), World::new());
    there.elsewhere.push(ids().of(ENDPOINT));
    let package = content();
    let token = open(&mut here, &terms(&package));
    ask(&mut here, peer(1), token, Some((0, 5))).unwrap();
    let id = there.next_id;
    let register = request(Code::POST, id, &["rd"], &[format!("ep={ENDPOINT}")]);
    there.datagram(peer(2), &register);
    there.elsewhere.clear();
    assert!(matches!(
        find(&mut here, &mut there)[..],
        [Whose::Theirs(_)]
    ));
    there.take_sent();
    there.next_id += 1;
    // the lease stays where it was
    assert!(ask(&mut here, peer(1), token, Some((0, 5))).is_some());
    let answer = ask(&mut there, peer(2), token, Some((1, 5))).unwrap();
    assert_eq!(answer.payload(), &package[512..]);
    assert_eq!(progress(&there).last(), Some(&1_000));
    close(&mut there);
    assert_eq!(there.recalled, [token]);
}

#[test]
fn who_asks_too_soon_is_answered_when_the_pause_is_over() {
    let mut world = begun();
    let token = open(
        &mut world,
        &PullTerms {
            bytes_per_second: 1, // after minutes a device would have repeated
            ..terms(&content())
        },
    );
    let first = ask(&mut world, peer(1), token, Some((0, 4)));
    assert!(first.is_some());
    world.datagram(peer(1), &get(90, &token.text(), Some((1, 4))));
    // it was lost, or the device asks for another: one answer waits
    world.datagram(peer(1), &get(91, &token.text(), Some((1, 4))));
    world.pass(Duration::from_millis(1_499));
    assert!(world.take_sent().is_empty());
    world.pass(Duration::from_millis(1));
    assert_eq!(code(answered(&mut world, peer(1), 91)), Some(Code::CONTENT));
    assert!(world.take_sent().is_empty());
    assert_eq!(world.engine.counters().blocks_served, 2);
    world.pass_s(2);
    assert!(ask(&mut world, peer(1), token, Some((2, 4))).is_some());
}

#[test]
fn a_package_is_served_no_faster_than_the_settings_let_it() {
    let mut world = begun();
    let slow = PullTerms {
        bytes_per_second: 1_000,
        ..terms(&content())
    };
    let token = open(&mut world, &slow);
    assert!(ask(&mut world, peer(1), token, Some((0, 4))).is_some());
    world.datagram(peer(1), &get(90, &token.text(), Some((1, 4))));
    // 256 bytes
    world.pass(Duration::from_millis(255));
    assert!(world.take_sent().is_empty());
    world.pass(Duration::from_millis(1));
    assert_eq!(code(answered(&mut world, peer(1), 90)), Some(Code::CONTENT));
}

#[test]
fn a_lease_that_is_not_used_is_dropped_and_asked_for_again() {
    let mut world = begun();
    let token = open(&mut world, &terms(&content()));
    assert!(ask(&mut world, peer(1), token, None).is_some());
    world.pass(Duration::from_mins(14));
    assert!(ask(&mut world, peer(1), token, None).is_some());
    world.pass(Duration::from_mins(14));
    assert_eq!(world.engine.leases.len(), 1);
    world.pass(Duration::from_mins(2));
    assert_eq!(world.engine.leases.len(), 0);
    assert!(ask(&mut world, peer(1), token, None).is_some());
}

#[test]
fn what_is_fetched_is_counted_for_the_upgrade() {
    let mut world = begun();
    let token = open(&mut world, &terms(&content()));
    let (mut up, mut down) = (0, 0);
    for number in [0, 1, 1, 2, 3] {
        world.pass_s(3);
        world.sizes.clear();
        up += get(1, &token.text(), Some((number, 4))).len() as u64;
        ask(&mut world, peer(1), token, Some((number, 4))).unwrap();
        down += world.sizes[0].1 as u64;
    }
    close(&mut world);
    world.command(Command::Abandon {
        upgrade: UpgradeId(1),
    });
    let mut sum = crate::ledger::Traffic::default();
    for change in &world.changes {
        if let Change::Traffic { traffic, .. } = change {
            sum.bytes_up += traffic.bytes_up;
            sum.bytes_down += traffic.bytes_down;
            sum.repeats_down += traffic.repeats_down;
            sum.active_ms += traffic.active_ms;
        }
    }
    assert_eq!((sum.bytes_up, sum.bytes_down), (up, down));
    assert_eq!(sum.repeats_down, 1);
    assert_eq!(sum.active_ms, 12_000);
}

proptest! {
    #[test]
    fn whatever_comes_is_answered_shortly_or_with_the_bytes(
        text in "[A-Za-z0-9_-]{0,30}",
        ours in any::<bool>(),
        option in any::<u32>(),
    ) {
        let mut world = begun();
        let package = content();
        let token = open(&mut world, &terms(&package));
        let text = if ours { token.text() } else { text };
        let tag = crate::coap::Token::new(b"1");
        let builder = MessageBuilder::new(Kind::Confirmable, Code::GET, 5, tag);
        let datagram = builder.path(PULLS).path(&text).block2(option).build();
        world.datagram(peer(1), &datagram);
        let (_, answer) = world.sent.pop_front().unwrap();
        let known = Block::decode(option).ok().filter(|_| text == token.text());
        let start = known.map(|block| block.number as usize * block.size());
        if let Some(start) = start.filter(|start| *start < package.len()) {
            prop_assert!(!answer.payload().is_empty());
            prop_assert!(package[start..].starts_with(answer.payload()));
        } else {
            prop_assert!(answer.payload().is_empty());
            prop_assert!(!answer.code().is_success());
        }
    }
}

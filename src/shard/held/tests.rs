use std::num::NonZeroU16;

use bytes::Bytes;

use super::*;
use crate::{
    clock::UtcMillis,
    grants::{Grant, Token, Way},
    ledger::{PackageId, TaskId},
    mqtt::endpoint::{Ack, Downlink, Qos},
};

const D1: DeviceId = DeviceId::from_bytes([1; 8]);
const D2: DeviceId = DeviceId::from_bytes([2; 8]);

fn publish(device: DeviceId, what: &'static str) -> Out {
    Out::Publish {
        device,
        downlink: Downlink::Events,
        payload: Bytes::from_static(what.as_bytes()),
        qos: Qos::AtLeastOnce,
        upgrade: None,
    }
}

/// An offer of an upgrade, over the connection of `link`.
fn offer(link: DeviceId, upgrade: i64) -> Out {
    let mut offer = publish(link, "offer");
    if let Out::Publish { upgrade: about, .. } = &mut offer {
        *about = Some(UpgradeId(upgrade));
    }
    offer
}

fn ack(slot: u32, generation: u32, packet_id: u16) -> Out {
    let packet_id = NonZeroU16::new(packet_id).unwrap();
    Out::Acknowledge(Ack::new(ConnId { slot, generation }, packet_id, false))
}

fn grant(device: DeviceId, upgrade: i64) -> Out {
    Out::Grant(Box::new(Grant {
        token: Token::new(&"t".repeat(43)).unwrap(),
        way: Way::Path,
        device,
        upgrade: UpgradeId(upgrade),
        task: TaskId(1),
        package: PackageId(1),
        sha256: "0".repeat(64),
        size_bytes: 1,
        file_name: "f.bin".to_owned(),
        expires_at: UtcMillis(0),
        already_contiguous: 0,
        begun: true,
    }))
}

#[test]
fn what_is_held_leaves_in_its_order_when_its_change_is_committed() {
    let mut held = Held::default();
    held.hold(5, publish(D1, "a"));
    held.hold(5, ack(0, 0, 1));
    held.hold(5, publish(D2, "b"));
    held.hold(6, publish(D1, "c"));
    assert_eq!(held.committed(4), []);
    let first = [publish(D1, "a"), ack(0, 0, 1), publish(D2, "b")];
    assert_eq!(held.committed(5), first);
    assert_eq!(held.committed(9), [publish(D1, "c")]);
    assert!(held.by_owner.is_empty());
}

#[test]
fn what_was_meant_for_an_earlier_connection_does_not_leave() {
    let mut held = Held::default();
    held.hold(5, publish(D1, "a"));
    held.hold(5, publish(D2, "b"));
    held.hold(5, ack(3, 0, 1));
    held.hold(5, ack(4, 0, 2));
    assert!(held.connected(D1));
    assert!(!held.connected(D1));
    let over = ConnId {
        slot: 3,
        generation: 0,
    };
    held.disconnected(over);
    // the place is another connection's meanwhile
    held.hold(6, ack(4, 1, 7));
    held.disconnected(ConnId { slot: 4, ..over });
    assert_eq!(held.committed(9), [publish(D2, "b"), ack(4, 1, 7)]);
    assert!(held.by_owner.is_empty());
}

/// Devices that cannot hold their connections while the store is stuck.
#[test]
fn reconnections_while_nothing_is_committed_take_no_more_room() {
    let mut held = Held::default();
    for generation in 0..10_000 {
        held.connected(D1);
        held.hold(5, ack(0, generation, 1));
        held.hold(5, publish(D1, "query"));
        held.hold(
            5,
            Out::Hold {
                device: D1,
                on: true,
            },
        );
        if generation % 2 == 0 {
            let conn = ConnId {
                slot: 0,
                generation,
            };
            held.disconnected(conn);
        }
        assert!(held.len() <= 3, "{}", held.len());
    }
    let keys: usize = held.by_owner.values().map(Vec::len).sum();
    assert_eq!(keys, held.len());
}

#[test]
fn publications_on_one_connection_are_bounded_and_the_oldest_go() {
    let mut held = Held::default();
    for _ in 0..MAX_PUBLICATIONS {
        assert!(!held.hold(5, publish(D1, "old")));
    }
    assert!(!held.hold(5, publish(D2, "other")));
    assert!(held.hold(6, publish(D1, "new")));
    assert_eq!(held.len(), MAX_PUBLICATIONS + 1);
    assert_eq!(held.committed(6).pop(), Some(publish(D1, "new")));
}

#[test]
fn an_upgrade_that_is_none_is_not_offered() {
    let mut held = Held::default();
    held.hold(5, grant(D1, 7));
    // D1 is behind D2
    held.hold(5, offer(D2, 7));
    held.hold(5, grant(D2, 8));
    held.hold(5, offer(D2, 8));
    held.hold(5, ack(0, 0, 1));
    assert_eq!(held.abandoned(UpgradeId(7)), BTreeSet::from([D2]));
    assert!(held.abandoned(UpgradeId(7)).is_empty());
    let left = [grant(D2, 8), offer(D2, 8), ack(0, 0, 1)];
    assert_eq!(held.committed(5), left);
}

#[test]
fn what_leaves_at_once_is_not_overtaken_by_what_waits() {
    let keeping = |device, on| Out::Hold { device, on };
    let mut held = Held::default();
    held.hold(5, keeping(D1, false));
    held.hold(5, keeping(D2, false));
    held.leaves(&keeping(D1, true));
    held.leaves(&publish(D2, "a"));
    assert_eq!(held.committed(5), [keeping(D2, false)]);
    assert!(held.by_owner.is_empty());
}

use proptest::prelude::*;

use super::*;

/// What an attacker does to a datagram that it has seen.
#[derive(Debug, Clone)]
enum Change {
    Flip(usize, u8),
    Cut(usize),
    Insert(usize, Vec<u8>),
    Double,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<usize>(), 1..=255u8).prop_map(|(at, bits)| Change::Flip(at, bits)),
        any::<usize>().prop_map(Change::Cut),
        (
            any::<usize>(),
            proptest::collection::vec(any::<u8>(), 1..40)
        )
            .prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        Just(Change::Double),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    let place = |at: usize, len: usize| at % len.max(1);
    match change {
        Change::Flip(at, bits) => {
            let at = place(*at, bytes.len());
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= bits;
            }
        }
        Change::Cut(at) => bytes.truncate(place(*at, bytes.len())),
        Change::Insert(at, more) => {
            let at = place(*at, bytes.len());
            bytes.splice(at..at, more.iter().copied());
        }
        Change::Double => bytes.extend_from_within(..),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Every datagram of a handshake and of the talk after it, changed: nothing falls over, and the
    /// association that was there goes on.
    #[test]
    fn changed_datagrams_hurt_nobody(
        changes in proptest::collection::vec((0..6usize, change()), 1..20),
    ) {
        let mut world = World::new();
        let mut client = Client::device(1);
        world.established(&mut client);
        // what a handshake and an association look like, of another client at the same address
        let mut other = World::new();
        let mut twin = Client::device(1);
        let mut seen = Vec::new();
        twin.go_on();
        for _ in 0..4 {
            for datagram in twin.take() {
                for answer in other.deliver(twin.peer, &datagram) {
                    twin.receive(&answer);
                }
                seen.push(datagram);
            }
        }
        prop_assert!(twin.done);
        seen.push(twin.seal(b"hello"));
        seen.push(client.seal(b"hello"));
        world.events.clear();
        for (which, change) in &changes {
            let mut datagram = seen[which % seen.len()].clone();
            apply(&mut datagram, change);
            world.deliver(client.peer, &datagram);
        }
        world.wait(Duration::from_mins(5));
        world.dtls.handle_timeout(world.now);
        world.drain(client.peer);
        let closed = world.events.iter().any(|event| matches!(event, Output::Closed { .. }));
        prop_assert!(!closed);
        prop_assert!(world.echo(&mut client, "still here"));
    }

    /// The same to the handshake itself: it may fail, and another one serves.
    #[test]
    fn a_changed_handshake_fails_in_good_order(
        victim in 0..5usize, change in change(),
    ) {
        let mut world = World::new();
        let mut client = Client::device(1);
        client.go_on();
        let mut count = 0;
        for _ in 0..4 {
            for mut datagram in client.take() {
                if count == victim {
                    apply(&mut datagram, &change);
                }
                count += 1;
                for mut answer in world.deliver(client.peer, &datagram) {
                    if count == victim {
                        apply(&mut answer, &change);
                    }
                    count += 1;
                    client.receive(&answer);
                }
            }
        }
        world.wait(Duration::from_mins(5));
        world.dtls.handle_timeout(world.now);
        world.drain(client.peer);
        prop_assert_eq!(world.dtls.half_open(), 0);
        let mut again = Client::device(1);
        world.established(&mut again);
    }
}

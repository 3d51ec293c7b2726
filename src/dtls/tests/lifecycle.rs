use super::*;

#[test]
fn a_new_handshake_takes_the_place_of_the_old_association_when_it_is_complete() {
    let mut world = World::new();
    let mut old = Client::device(1);
    world.established(&mut old);
    let mut new = Client::device(1);
    new.go_on();
    for _ in 0..2 {
        for datagram in new.take() {
            for answer in world.deliver(new.peer, &datagram) {
                new.receive(&answer);
            }
        }
        assert!(world.echo(&mut old, "still here"));
    }
    assert_eq!(world.dtls.half_open(), 1);
    world.events.clear();
    world.talk(&mut new);
    assert!(new.done);
    let identity = Arc::new(psk_identity("device-1"));
    assert_eq!(
        world.events,
        [
            Output::Closed {
                peer: peer(1),
                identity: Arc::clone(&identity),
                reason: CloseReason::Replaced
            },
            Output::Established {
                peer: peer(1),
                identity,
                resumed: false
            }
        ]
    );
    assert!(world.echo(&mut new, "here instead"));
    assert!(!world.echo(&mut old, "not here"));
    assert_eq!(world.dtls.associations(), 1);
}

#[test]
fn a_handshake_that_fails_leaves_the_old_association_alone() {
    let mut world = World::new();
    let mut old = Client::device(1);
    world.established(&mut old);
    let mut wrong = Client::psk(peer(1), CCM, "device-2", b"wrong".to_vec());
    world.talk(&mut wrong);
    world.wait(Duration::from_secs(200));
    world.dtls.handle_timeout(world.now);
    world.drain(peer(1));
    assert_eq!(world.dtls.counts().dtls_handshakes_wrong_key, 1);
    assert!(world.echo(&mut old, "still here"));
}

#[test]
fn a_late_copy_of_the_hello_begins_nothing_for_a_while() {
    let mut world = World::new();
    let mut client = Client::device(1);
    let mut hellos = Vec::new();
    client.go_on();
    for _ in 0..2 {
        for datagram in client.take() {
            for answer in world.deliver(client.peer, &datagram) {
                client.receive(&answer);
            }
            hellos.push(datagram);
        }
    }
    world.established(&mut client);
    let late = hellos.last().unwrap().clone();
    assert!(world.deliver(client.peer, &late).is_empty());
    assert_eq!(world.dtls.half_open(), 0);
    // a device that always says the same is heard again
    world.wait(Timing::default().handshake_deadline);
    let verify = world.deliver(client.peer, &late).remove(0);
    let mut hello = late;
    // behind the headers, the version, the random and an empty session ID
    hello[13 + 12 + 2 + 32 + 1 + 1..][..16].copy_from_slice(&verify[13 + 12 + 3..]);
    assert!(!world.deliver(client.peer, &hello).is_empty());
    assert_eq!(world.dtls.half_open(), 1);
    assert!(world.echo(&mut client, "still here"));
}

/// A device whose session can be resumed.
fn resumable(world: &mut World, name: &str) -> (SslContext, SslSession) {
    let context = psk_context(CCM, name, key_of(name)).build();
    let mut client = Client::new(peer(1), &context);
    world.established(&mut client);
    (context, client.session())
}

fn resumed(world: &World) -> bool {
    let last = world.events.iter().rev().find_map(|event| match event {
        Output::Established { resumed, .. } => Some(*resumed),
        _ => None,
    });
    last.unwrap()
}

#[test]
fn a_session_is_resumed_from_a_new_address() {
    let mut world = World::new();
    let (context, session) = resumable(&mut world, "device-1");
    let mut client = Client::resuming(peer(99), &context, Some(&session));
    world.established(&mut client);
    assert!(resumed(&world));
    assert!(client.stream.ssl().session_reused());
    assert_eq!(
        **world.dtls.identity(peer(99)).unwrap(),
        psk_identity("device-1")
    );
    assert!(world.echo(&mut client, "hello"));
    assert_eq!(world.dtls.counts().dtls_handshakes_resumed, 1);
}

#[test]
fn a_session_is_resumed_whichever_datagram_is_lost() {
    for victim in 0..6 {
        let mut world = World::new();
        let (context, session) = resumable(&mut world, "device-1");
        let mut client = Client::resuming(peer(99), &context, Some(&session));
        client.hurry();
        let mut count = 0;
        world.talk_through(&mut client, &mut |_| {
            count += 1;
            if count == victim + 1 {
                Fate::Lose
            } else {
                Fate::Deliver
            }
        });
        for _ in 0..6 {
            if client.done && world.dtls.identity(client.peer).is_some() {
                break;
            }
            if let Some(at) = world.dtls.poll_timeout() {
                world.now.instant = at;
                world.dtls.handle_timeout(world.now);
                for datagram in world.drain(client.peer) {
                    client.receive(&datagram);
                }
            }
            client.wait_for_its_timer();
            world.talk(&mut client);
        }
        assert!(world.echo(&mut client, "hello"), "datagram {victim}");
        assert_eq!(world.dtls.counts().dtls_handshakes_resumed, 1);
        assert_eq!(world.dtls.counts().dtls_handshakes_wrong_key, 0);
    }
}

#[test]
fn data_that_overtake_the_end_of_the_handshake_are_not_lost() {
    let mut world = World::new();
    let (context, session) = resumable(&mut world, "device-1");
    let mut client = Client::resuming(peer(99), &context, Some(&session));
    client.go_on();
    for _ in 0..2 {
        for datagram in client.take() {
            for answer in world.deliver(client.peer, &datagram) {
                client.receive(&answer);
            }
        }
    }
    assert!(client.done);
    let end = client.take();
    let data = client.seal(b"early");
    world.events.clear();
    world.deliver(client.peer, &data);
    assert!(world.events.is_empty());
    for datagram in end {
        world.deliver(client.peer, &datagram);
    }
    assert!(matches!(
        &world.events[..],
        [Output::Established { .. }, Output::Data { bytes, .. }] if bytes == b"early"
    ));
}

#[test]
fn a_ticket_is_of_who_had_the_identity_when_it_was_made() {
    let mut world = World::new();
    let (context, session) = resumable(&mut world, "device-1");
    // it is somebody else's from this moment on, though nobody was told yet
    world.keys.set("device-1", b"another key");
    let mut client = Client::resuming(peer(7), &context, Some(&session));
    world.talk(&mut client);
    assert!(!client.done);
    world.keys.set("device-1", &key_of("device-1"));
    let mut client = Client::resuming(peer(8), &context, Some(&session));
    world.talk(&mut client);
    assert!(client.done);
}

#[test]
fn an_ended_identity_has_no_association_and_no_ticket_left() {
    let mut world = World::new();
    let (context, session) = resumable(&mut world, "device-1");
    let mut other = Client::device(2);
    world.established(&mut other);
    world.events.clear();
    world.keys.set("device-1", b"another key");
    let identity = psk_identity("device-1");
    world.dtls.end_identities(world.now, &[identity]);
    assert_eq!(world.drain(peer(1)).len(), 1, "the device is told");
    assert!(world.dtls.identity(peer(1)).is_none());
    assert!(matches!(
        world.events[..],
        [Output::Closed {
            reason: CloseReason::Ended,
            ..
        }]
    ));
    assert!(world.echo(&mut other, "not concerned"));

    // The ticket is not taken: a full handshake follows, and fails with the old key.
    let mut client = Client::resuming(peer(1), &context, Some(&session));
    world.talk(&mut client);
    assert!(!client.done);
    // With the new one it succeeds, though the ticket comes along.
    let renewed = psk_context(CCM, "device-1", b"another key".to_vec()).build();
    let mut client = Client::resuming(peer(3), &renewed, Some(&session));
    world.established(&mut client);
    assert!(!resumed(&world));
    // And the new ticket is good.
    let session = client.session();
    let mut client = Client::resuming(peer(4), &renewed, Some(&session));
    world.established(&mut client);
    assert!(resumed(&world));
}

#[test]
fn a_removed_key_takes_its_tickets_with_it() {
    let mut world = World::new();
    let (context, session) = resumable(&mut world, "device-1");
    world.keys.remove("device-1");
    let mut client = Client::resuming(peer(7), &context, Some(&session));
    world.talk(&mut client);
    assert!(!client.done && world.dtls.identity(peer(7)).is_none());
}

#[test]
fn a_handshake_under_way_ends_with_its_identity() {
    // full: ended after the key was used; resumed: ended after the ticket was taken
    for resume in [false, true] {
        let mut world = World::new();
        let (context, session) = resumable(&mut world, "device-1");
        let session = resume.then_some(&session);
        let mut client = Client::resuming(peer(5), &context, session);
        client.go_on();
        for _ in 0..2 {
            for datagram in client.take() {
                for answer in world.deliver(client.peer, &datagram) {
                    client.receive(&answer);
                }
            }
        }
        assert_eq!(world.dtls.half_open(), 1);
        let ended = ["device-0", "device-1", "device-2"].map(psk_identity);
        world.dtls.end_identities(world.now, &ended);
        world.drain(peer(1));
        world.events.clear();
        world.talk(&mut client);
        assert!(world.dtls.identity(peer(5)).is_none());
        assert_eq!(world.dtls.half_open(), 0);
        assert!(matches!(
            world.events[..],
            [Output::Refused {
                reason: RefuseReason::Ended,
                ..
            }]
        ));
    }
}

#[test]
fn a_ticket_of_another_seed_is_worth_nothing() {
    let mut world = World::new();
    let (context, session) = resumable(&mut world, "device-1");
    let mut other = World::with(|setup| setup.seed = [6; 32]);
    let mut client = Client::resuming(peer(1), &context, Some(&session));
    other.established(&mut client);
    assert!(!resumed(&other));
}

#[test]
fn the_least_recently_used_association_goes_first() {
    let mut world = World::with(|setup| setup.limits.associations = 3);
    let mut clients: Vec<Client> = (0..3).map(Client::device).collect();
    for client in &mut clients {
        world.established(client);
    }
    assert!(world.echo(&mut clients[0], "used"));
    let mut fourth = Client::device(3);
    world.events.clear();
    world.established(&mut fourth);
    assert!(matches!(
        world.events[0],
        Output::Closed { peer, reason: CloseReason::Evicted, .. } if peer == clients[1].peer
    ));
    assert_eq!(world.dtls.associations(), 3);
    assert!(world.echo(&mut clients[0], "kept"));
    assert!(world.echo(&mut clients[2], "kept"));
    assert!(!world.echo(&mut clients[1], "gone"));
}

#[test]
fn a_forged_record_is_no_use_of_an_association() {
    let mut world = World::with(|setup| setup.limits.associations = 2);
    let mut clients: Vec<Client> = (0..2).map(Client::device).collect();
    for client in &mut clients {
        world.established(client);
    }
    let mut forged = clients[0].seal(b"data");
    *forged.last_mut().unwrap() ^= 1;
    world.deliver(clients[0].peer, &forged);
    let mut third = Client::device(3);
    world.established(&mut third);
    assert!(world.dtls.identity(clients[0].peer).is_none());
    assert!(world.dtls.identity(clients[1].peer).is_some());
}

#[test]
fn an_identity_has_a_few_associations_only() {
    let mut world = World::new();
    for port in 100..110 {
        let mut client = Client::psk(peer(port), CCM, "device-1", key_of("device-1"));
        world.established(&mut client);
    }
    assert_eq!(world.dtls.associations(), Limits::default().per_identity);
    assert!(world.dtls.identity(peer(109)).is_some());
    assert!(world.dtls.identity(peer(105)).is_none());
}

#[test]
fn a_peer_may_close() {
    let mut world = World::new();
    let mut client = Client::device(1);
    world.established(&mut client);
    world.events.clear();
    let _ = client.stream.shutdown();
    world.talk(&mut client);
    assert!(matches!(
        world.events[..],
        [Output::Closed {
            reason: CloseReason::Peer,
            ..
        }]
    ));
    assert_eq!(world.dtls.associations(), 0);
    assert_eq!(
        world.dtls.send(peer(1), b"too late"),
        Err(SendError::NoAssociation)
    );
}

#[test]
fn what_is_too_long_is_not_sent_and_does_no_harm() {
    let mut world = World::new();
    let mut client = Client::device(1);
    world.established(&mut client);
    let long = vec![0; MAX_PAYLOAD_LEN + 1];
    assert_eq!(world.dtls.send(peer(1), &long), Err(SendError::TooLong));
    assert_eq!(world.dtls.send(peer(1), &long[1..]), Ok(()));
    assert!(world.echo(&mut client, "hello"));
}

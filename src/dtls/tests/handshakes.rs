use super::*;

#[test]
fn each_suite_of_pre_shared_keys_serves() {
    for (n, suite) in [CCM, GCM, CBC].into_iter().enumerate() {
        let mut world = World::new();
        let name = format!("device-{n}");
        let mut client = Client::psk(peer(1), suite, &name, key_of(&name));
        world.established(&mut client);
        assert_eq!(client.stream.ssl().current_cipher().unwrap().name(), suite);
        assert_eq!(client.stream.ssl().version_str(), "DTLSv1.2");
        assert_eq!(
            world.events,
            [Output::Established {
                peer: peer(1),
                identity: Arc::new(psk_identity(&name)),
                resumed: false
            }]
        );
        for text in ["a", "b", &"c".repeat(1500)] {
            assert!(world.echo(&mut client, text), "{suite}");
        }
        assert_eq!(world.dtls.counts().dtls_records_rejected, 0);
    }
}

#[test]
fn no_other_suite_or_version_serves() {
    for suites in [
        "PSK-AES256-GCM-SHA384",
        "PSK-NULL-SHA256",
        "PSK-AES128-CBC-SHA",
    ] {
        let mut world = World::new();
        let mut client = Client::psk(peer(1), suites, "device-1", key_of("device-1"));
        world.talk(&mut client);
        assert!(client.failure.is_some(), "{suites}");
        assert_eq!(world.dtls.counts().dtls_handshakes_failed, 1);
        assert_eq!(world.dtls.half_open(), 0);
    }
}

#[test]
fn a_client_without_tickets_serves() {
    let mut world = World::new();
    let mut builder = psk_context(&format!("{CBC}:{CCM}"), "device-1", key_of("device-1"));
    builder.set_options(SslOptions::NO_TICKET);
    let mut client = Client::new(peer(1), &builder.build());
    world.established(&mut client);
    assert!(world.echo(&mut client, "hello"));
}

/// Both repeat until they are through, whichever datagram suffers.
fn survives(fate: Fate) {
    for victim in 0..8 {
        let mut world = World::with(|setup| setup.limits.handshake_datagram_len = 256);
        let mut client = Client::device(1);
        client.hurry();
        let mut count = 0;
        let mut network = |_| {
            count += 1;
            if count == victim + 1 {
                fate
            } else {
                Fate::Deliver
            }
        };
        world.talk_through(&mut client, &mut network);
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
        assert!(
            world.echo(&mut client, "hello"),
            "datagram {victim}: {:?}",
            world.dtls.counts()
        );
        assert!(client.failure.is_none(), "{:?}", client.failure);
        let counts = world.dtls.counts();
        assert_eq!(counts.dtls_handshakes_full, 1, "datagram {victim}");
        assert_eq!(counts.dtls_handshakes_wrong_key, 0, "datagram {victim}");
        assert_eq!(world.dtls.half_open(), 0);
    }
}

#[test]
fn any_one_datagram_may_be_lost() {
    survives(Fate::Lose);
}

#[test]
fn any_one_datagram_may_come_twice() {
    survives(Fate::Duplicate);
}

#[test]
fn any_one_datagram_may_be_overtaken() {
    survives(Fate::Delay);
}

#[test]
fn a_lost_flight_is_repeated_at_growing_intervals_until_the_deadline() {
    for (deadline, repeated) in [(40, vec![9, 27]), (300, vec![9, 27, 63])] {
        let deadline = Duration::from_secs(deadline);
        repeats_a_lost_flight(deadline, &repeated);
    }
}

fn repeats_a_lost_flight(deadline: Duration, repeated: &[u64]) {
    let mut world = World::with(|setup| setup.timing.answer_deadline = deadline);
    let mut client = Client::device(1);
    // the server's second datagram and all after it
    let mut down = 0;
    world.talk_through(&mut client, &mut |leg| {
        down += usize::from(leg == Leg::Down);
        if leg == Leg::Down && down > 1 {
            Fate::Lose
        } else {
            Fate::Deliver
        }
    });
    let begun = world.now.instant;
    let mut sent = world.sent.len();
    let mut at = Vec::new();
    while let Some(due) = world.dtls.poll_timeout() {
        world.now.instant = due;
        world.dtls.handle_timeout(world.now);
        let flight = world.drain(client.peer);
        if !flight.is_empty() {
            at.push(due.since(begun).as_secs());
        }
        assert_eq!(world.sent.len() - sent, flight.len());
        sent = world.sent.len();
    }
    assert_eq!(at, repeated);
    assert_eq!(
        world.now.instant.since(begun),
        deadline.min(Timing::default().handshake_deadline)
    );
    assert_eq!(world.dtls.half_open(), 0);
    assert_eq!(world.dtls.counts().dtls_handshakes_expired, 1);
    assert_eq!(
        world.events,
        [Output::Refused {
            peer: client.peer,
            claimed: None,
            reason: RefuseReason::Expired
        }]
    );
}

#[test]
fn repeated_records_have_new_numbers() {
    let mut world = World::new();
    let mut client = Client::device(1);
    // the server's first answer is its cookie
    let mut down = 0;
    world.talk_through(&mut client, &mut |leg| {
        down += usize::from(leg == Leg::Down);
        if leg == Leg::Down && down > 1 {
            Fate::Lose
        } else {
            Fate::Deliver
        }
    });
    for _ in 0..2 {
        world.now.instant = world.dtls.poll_timeout().unwrap();
        world.dtls.handle_timeout(world.now);
        for datagram in world.drain(client.peer) {
            client.receive(&datagram);
        }
    }
    world.talk(&mut client);
    assert!(client.done);
    let mut seen = std::collections::HashSet::new();
    for (_, datagram) in world.sent.iter().skip(1) {
        for record in record::records(datagram).filter(|record| record.epoch == 0) {
            assert!(seen.insert(record.number()), "{record:?}");
        }
    }
    assert!(seen.len() > 4);
}

#[test]
fn a_repeated_hello_brings_the_lost_flight_at_once() {
    let mut world = World::new();
    let mut client = Client::device(1);
    client.go_on();
    let first = client.take().remove(0);
    let verify = world.deliver(client.peer, &first).remove(0);
    client.receive(&verify);
    let second = client.take().remove(0);
    let lost = world.deliver(client.peer, &second);
    assert!(!lost.is_empty());
    let again = world.deliver(client.peer, &second);
    assert_eq!(again.len(), lost.len());
    assert_ne!(again, lost);
    assert_eq!(world.dtls.counts().dtls_handshakes_started, 1);
    for datagram in &again {
        client.receive(datagram);
    }
    world.talk(&mut client);
    assert!(world.echo(&mut client, "hello"));
}

#[test]
fn a_wrong_key_and_an_unknown_identity_look_the_same_and_are_told_apart_here() {
    let mut seen = Vec::new();
    for (identity, reason) in [
        ("device-1", RefuseReason::WrongKey),
        ("nobody-1", RefuseReason::UnknownIdentity),
    ] {
        let mut world = World::new();
        let mut client = Client::psk(peer(1), CCM, identity, b"not the key".to_vec());
        world.talk(&mut client);
        assert!(!client.done);
        assert_eq!(world.dtls.half_open(), 1, "it goes on in silence");
        let claimed = Some(identity.as_bytes().into());
        let expected = [Output::Refused {
            peer: client.peer,
            claimed,
            reason,
        }];
        assert_eq!(world.events, expected, "it is told at once");
        client.hurry();
        client.wait_for_its_timer();
        world.talk(&mut client);
        world.wait(Timing::default().handshake_deadline);
        world.dtls.handle_timeout(world.now);
        world.drain(client.peer);
        assert_eq!(world.dtls.half_open(), 0);
        assert_eq!(world.events, expected, "and not again");
        let counts = *world.dtls.counts();
        assert_eq!(
            (
                counts.dtls_handshakes_wrong_key,
                counts.dtls_handshakes_unknown_identity
            ),
            match reason {
                RefuseReason::WrongKey => (1, 0),
                _ => (0, 1),
            }
        );
        let lengths: Vec<usize> = world.sent.iter().map(|(_, bytes)| bytes.len()).collect();
        seen.push(lengths);
    }
    assert_eq!(seen[0], seen[1]);
}

#[test]
fn a_fault_is_told_once_also_when_the_peer_begins_anew_or_makes_room() {
    for (identity, reason) in [
        ("device-1", RefuseReason::WrongKey),
        ("nobody-1", RefuseReason::UnknownIdentity),
    ] {
        // from the same address, and from another one where there is room for one only
        for next in [peer(1), peer(2)] {
            let mut world = World::with(|setup| setup.limits.half_open = 1);
            let mut client = Client::psk(peer(1), CCM, identity, b"not the key".to_vec());
            world.talk(&mut client);
            let expected = Output::Refused {
                peer: peer(1),
                claimed: Some(identity.as_bytes().into()),
                reason,
            };
            assert_eq!(world.events, [expected]);
            world.events.clear();
            let mut client = Client::psk(next, CCM, "device-2", key_of("device-2"));
            world.established(&mut client);
            assert!(matches!(world.events[..], [Output::Established { .. }]));
            let counts = *world.dtls.counts();
            let told = counts.dtls_handshakes_wrong_key + counts.dtls_handshakes_unknown_identity;
            assert_eq!(told, 1);
            assert_eq!(counts.dtls_handshakes_replaced, 0);
            assert_eq!(counts.dtls_handshakes_displaced_total, 0);
        }
    }
}

/// The end of a handshake comes in its parts and in any order: only one that cannot be opened is told.
#[test]
fn the_end_of_a_handshake_is_no_fault_before_what_belongs_before_it() {
    for (key, faults) in [(key_of("device-1"), 0), (b"not the key".to_vec(), 1)] {
        for order in [[0, 1, 2], [2, 0, 1], [0, 2, 1], [1, 2, 0], [2, 1, 0]] {
            let mut world = World::new();
            let mut client = Client::psk(peer(1), CCM, "device-1", key.clone());
            client.hurry();
            client.go_on();
            for _ in 0..2 {
                for datagram in client.take() {
                    for answer in world.deliver(client.peer, &datagram) {
                        client.receive(&answer);
                    }
                }
            }
            // the key exchange, the change of keys, and the end
            let flight = client.take().concat();
            let parts = record::each(&flight);
            assert_eq!(parts.len(), 3);
            for (arrived, part) in order.into_iter().enumerate() {
                world.deliver(client.peer, parts[part]);
                if arrived < 2 {
                    assert_eq!(world.dtls.counts().dtls_handshakes_wrong_key, 0);
                }
            }
            // what came out of order and was not kept is sent again
            client.wait_for_its_timer();
            world.talk(&mut client);
            let counts = world.dtls.counts();
            assert_eq!(counts.dtls_handshakes_wrong_key, faults, "{order:?}");
            assert_eq!(counts.dtls_handshakes_full, 1 - faults, "{order:?}");
        }
    }
}

fn with_certificates(authority: &Authority) -> World {
    let (chain, key) = authority.issue("server", &["server.example"]);
    World::with(|setup| {
        setup.certificates = Some(Certificates {
            chain_pem: chain.to_pem().unwrap(),
            key_pem: key.private_key_to_pem_pkcs8().unwrap(),
            client_ca_pem: authority.certificate.to_pem().unwrap(),
        });
    })
}

fn certified(suites: &str, authority: &Authority) -> Client {
    let (certificate, key) = authority.issue("urn:dev:1", &["device-1.example", "urn:imei:123"]);
    let mut builder = client_context(suites);
    builder.set_certificate(&certificate).unwrap();
    builder.set_private_key(&key).unwrap();
    Client::new(peer(1), &builder.build())
}

#[test]
fn certificates_of_the_authority_serve() {
    let authority = Authority::new("authority");
    for suite in ["ECDHE-ECDSA-AES128-CCM8", "ECDHE-ECDSA-AES128-GCM-SHA256"] {
        let mut world = with_certificates(&authority);
        let mut client = certified(suite, &authority);
        world.established(&mut client);
        let identity = world.dtls.identity(client.peer).unwrap();
        assert_eq!(
            **identity,
            Identity::Certificate {
                common_name: Some("urn:dev:1".into()),
                alternative_names: vec!["device-1.example".into(), "urn:imei:123".into()],
            }
        );
        assert_eq!(identity.to_string(), "urn:dev:1");
        assert_eq!(client.stream.ssl().current_cipher().unwrap().name(), suite);
        assert!(world.echo(&mut client, "hello"));
        // keys go on serving beside them
        let mut other = Client::device(2);
        world.established(&mut other);
    }
}

#[test]
fn other_certificates_and_none_do_not() {
    let authority = Authority::new("authority");
    let suite = "ECDHE-ECDSA-AES128-GCM-SHA256";
    let stranger = certified(suite, &Authority::new("authority"));
    let nobody = Client::new(peer(1), &client_context(suite).build());
    for mut client in [stranger, nobody] {
        let mut world = with_certificates(&authority);
        world.talk(&mut client);
        assert!(client.failure.is_some());
        assert_eq!(world.dtls.associations() + world.dtls.half_open(), 0);
        assert_eq!(world.dtls.counts().dtls_handshakes_failed, 1);
    }
}

#[test]
fn a_setup_that_cannot_work_is_refused() {
    let setup = |change: fn(&mut DtlsSetup)| {
        let mut setup = DtlsSetup {
            keys: Arc::new(Keys::default()),
            certificates: None,
            seed: [0; 32],
            timing: Timing::default(),
            limits: Limits::default(),
        };
        change(&mut setup);
        Dtls::new(&setup).map(drop)
    };
    assert!(setup(|_| {}).is_ok());
    assert!(setup(|setup| setup.limits.associations = 0).is_err());
    assert!(setup(|setup| setup.timing.handshake_deadline = Duration::from_hours(2)).is_err());
    let garbage = |setup: &mut DtlsSetup| {
        setup.certificates = Some(Certificates {
            chain_pem: b"chain".to_vec(),
            key_pem: b"key".to_vec(),
            client_ca_pem: b"authority".to_vec(),
        });
    };
    assert!(setup(garbage).is_err());
    assert_eq!(Psk::new(b""), Err(PskLength));
    assert_eq!(
        format!("{:?}", Psk::new(b"secret").unwrap()),
        "Psk(6 bytes)"
    );
}

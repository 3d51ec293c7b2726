use super::*;

/// The second `ClientHello` of a new client, with its cookie.
fn greeted(world: &mut World, client: &mut Client) -> Vec<u8> {
    client.go_on();
    let hello = client.take().remove(0);
    let verify = world.deliver(client.peer, &hello).remove(0);
    client.receive(&verify);
    client.take().remove(0)
}

/// The client's hello is accepted, and the client's last flight stays with it.
fn asked(world: &mut World, client: &mut Client) -> Vec<Vec<u8>> {
    let second = greeted(world, client);
    let flight = world.deliver(client.peer, &second);
    assert!(!flight.is_empty());
    for datagram in flight {
        client.receive(&datagram);
    }
    client.take()
}

fn from(ip: [u8; 4], port: u16) -> Client {
    let address = SocketAddr::from((ip, port));
    Client::psk(address, CCM, "device-1", key_of("device-1"))
}

#[test]
fn strangers_without_a_cookie_leave_nothing_behind() {
    let mut world = World::with(|setup| {
        setup.limits.cookies_per_network_per_second = 1_000_000;
    });
    let mut client = Client::device(1);
    client.go_on();
    let hello = client.take().remove(0);
    for n in 0..10_000u32 {
        let spoofed = SocketAddr::from((std::net::Ipv4Addr::from_bits(n << 8), 7));
        world.dtls.handle_datagram(world.now, spoofed, &hello);
        let Some(Output::Transmit { peer, bytes }) = world.dtls.poll_event() else {
            panic!("no cookie");
        };
        assert_eq!(peer, spoofed);
        assert!(bytes.len() < hello.len());
        assert!(world.dtls.poll_event().is_none());
    }
    assert_eq!(world.dtls.counts().dtls_cookies_sent, 10_000);
    assert_eq!(world.dtls.counts().dtls_handshakes_started, 0);
    assert_eq!(world.dtls.half_open() + world.dtls.queued(), 0);
    assert_eq!(world.dtls.poll_timeout(), None);
    // and the library has heard of none of them: a cookie of another address is none
    let second = greeted(&mut world, &mut Client::device(2));
    let elsewhere = peer(77);
    let answer = world.deliver(elsewhere, &second);
    assert_eq!(answer.len(), 1);
    assert_eq!(world.dtls.half_open(), 0);
}

#[test]
fn cookies_are_rationed_and_those_who_have_one_pass() {
    let mut world = World::with(|setup| setup.limits.cookies_per_second = 100);
    let mut client = Client::device(1);
    let second = greeted(&mut world, &mut client);
    let mut stranger = Client::device(2);
    stranger.go_on();
    let hello = stranger.take().remove(0);
    for n in 0..1_000u32 {
        let spoofed = SocketAddr::from((std::net::Ipv4Addr::from_bits(n << 8), 7));
        world.deliver(spoofed, &hello);
    }
    assert_eq!(world.dtls.counts().dtls_cookies_sent, 100);
    assert_eq!(world.dtls.counts().dtls_cookies_refused, 901);
    for datagram in world.deliver(client.peer, &second) {
        client.receive(&datagram);
    }
    world.established(&mut client);
}

#[test]
fn handshakes_are_rationed_though_a_cookie_is_good_for_many() {
    let mut world = World::with(|setup| setup.limits.handshakes_per_network_per_second = 10);
    // two hellos from one address, each with its cookie
    let mut clients = [from([10, 0, 0, 1], 1), from([10, 0, 0, 1], 1)];
    let hellos = clients.each_mut().map(|client| greeted(&mut world, client));
    for hello in hellos.iter().cycle().take(100) {
        world.deliver(clients[0].peer, hello);
    }
    let counts = *world.dtls.counts();
    assert_eq!(counts.dtls_handshakes_started, 10);
    // one that is under way goes on, as long as it has datagrams left
    assert_eq!(
        counts.dtls_flights_repeated + counts.dtls_handshakes_refused,
        90
    );
    assert_eq!(counts.dtls_flights_repeated, 45);
    world.established(&mut from([10, 0, 1, 1], 1));
    world.wait(Duration::from_secs(1));
    world.established(&mut from([10, 0, 0, 2], 1));
}

#[test]
fn handshakes_under_way_are_bounded_in_total_and_per_source() {
    let mut world = World::with(|setup| {
        setup.limits.half_open = 5;
        setup.limits.half_open_per_source = 3;
    });
    let mut honest = from([10, 0, 0, 3], 1);
    let finish = asked(&mut world, &mut honest);
    for port in 1..=4 {
        asked(&mut world, &mut from([10, 0, 0, 1], port));
    }
    assert_eq!(world.dtls.half_open(), 4);
    assert_eq!(world.dtls.counts().dtls_handshakes_displaced_source, 1);
    for port in 1..=3 {
        asked(&mut world, &mut from([10, 0, 0, 2], port));
    }
    assert_eq!(world.dtls.half_open(), 5);
    assert_eq!(world.dtls.counts().dtls_handshakes_displaced_total, 2);
    // one that begins anew needs no more room
    asked(&mut world, &mut from([10, 0, 0, 2], 3));
    assert_eq!(world.dtls.counts().dtls_handshakes_replaced, 1);
    assert_eq!(world.dtls.counts().dtls_handshakes_displaced_total, 2);
    // the oldest of all is not in the way of those who leave many
    for datagram in finish {
        world.deliver(honest.peer, &datagram);
    }
    assert_eq!(world.dtls.counts().dtls_handshakes_full, 1);
    // and the deadline ends the others
    world.wait(Timing::default().handshake_deadline);
    world.dtls.handle_timeout(world.now);
    assert_eq!(world.dtls.half_open(), 0);
    assert_eq!(world.dtls.poll_timeout(), None);
    assert_eq!(world.dtls.counts().dtls_handshakes_expired, 4);
    world.established(&mut from([10, 0, 0, 1], 9));
}

#[test]
fn those_who_go_on_do_not_make_room_for_those_who_only_begin() {
    let mut world = World::with(|setup| setup.limits.half_open = 10);
    // a fleet behind one address, of which each has sent a part of its flight
    let mut fleet: Vec<Client> = (1..=5).map(|port| from([10, 0, 0, 1], port)).collect();
    let mut rests = Vec::new();
    for client in &mut fleet {
        let flight = asked(&mut world, client);
        world.deliver(client.peer, &small());
        rests.push(flight);
    }
    for host in 1..=20 {
        asked(&mut world, &mut from([10, 0, 1, host], 1));
    }
    assert_eq!(world.dtls.half_open(), 10);
    assert_eq!(world.dtls.counts().dtls_handshakes_displaced_total, 15);
    // a late one from where the fleet is finds room too
    world.established(&mut from([10, 0, 0, 1], 6));
    for (client, flight) in fleet.iter().zip(rests) {
        for datagram in flight {
            world.deliver(client.peer, &datagram);
        }
    }
    assert_eq!(world.dtls.counts().dtls_handshakes_full, 6);
    // whoever is all there is makes room as well
    for port in 1..=12 {
        let mut client = from([10, 0, 2, 2], port);
        asked(&mut world, &mut client);
        world.deliver(client.peer, &small());
    }
    assert_eq!(world.dtls.half_open(), 10);
}

#[test]
fn handshakes_wait_for_their_budget_and_data_do_not() {
    let mut world = World::with(|setup| setup.limits.queue_len = 10);
    let mut device = Client::device(1);
    world.established(&mut device);
    let seconds: Vec<(SocketAddr, Vec<u8>)> = (0..12)
        .map(|n| {
            let mut client = from([10, 0, 1, n], 100);
            let second = greeted(&mut world, &mut client);
            (client.peer, second)
        })
        .collect();
    for (peer, second) in &seconds {
        world.dtls.handle_datagram(world.now, *peer, second);
    }
    assert_eq!(world.dtls.queued(), 10);
    assert_eq!(world.dtls.counts().dtls_queue_full, 2);
    assert!(world.dtls.poll_event().is_none());
    let data = device.seal(b"data");
    world.dtls.handle_datagram(world.now, device.peer, &data);
    assert!(matches!(world.dtls.poll_event(), Some(Output::Data { .. })));
    assert_eq!(world.dtls.work(world.now, 4), 6);
    assert_eq!(world.dtls.half_open(), 4);
    assert_eq!(world.dtls.work(world.now, 100), 0);
    assert_eq!(world.dtls.half_open(), 10);
}

#[test]
fn replayed_records_are_dropped() {
    let mut world = World::new();
    let mut client = Client::device(1);
    world.established(&mut client);
    world.events.clear();
    let first = client.seal(b"first");
    let second = client.seal(b"second");
    for datagram in [&second, &first, &second, &first] {
        world.deliver(client.peer, datagram);
    }
    assert_eq!(world.events.len(), 2, "{:?}", world.events);
    assert_eq!(world.dtls.counts().dtls_records_rejected, 2);
    assert!(world.echo(&mut client, "hello"));
}

#[test]
fn forged_records_do_not_end_an_association() {
    let mut world = World::new();
    for suite in [CCM, GCM, CBC] {
        let mut client = Client::psk(peer(1), suite, "device-1", key_of("device-1"));
        world.established(&mut client);
        world.events.clear();
        let record = client.seal(b"some data");
        for at in 0..record.len() {
            for bit in [1, 0x80] {
                let mut forged = record.clone();
                forged[at] ^= bit;
                world.deliver(client.peer, &forged);
            }
        }
        // the version of a record is not always looked at
        world
            .events
            .retain(|event| !matches!(event, Output::Data { .. }));
        assert_eq!(world.events, [], "{suite}");
        assert!(world.echo(&mut client, "hello"), "{suite}");
    }
}

#[test]
fn forged_alerts_and_handshakes_do_not_end_an_association() {
    for suite in [CCM, GCM, CBC] {
        let mut world = World::new();
        let mut client = Client::psk(peer(1), suite, "device-1", key_of("device-1"));
        world.established(&mut client);
        world.events.clear();
        shower(&mut world);
        assert!(world.echo(&mut client, "hello"));
        assert!(world.dtls.counts().dtls_datagrams_superfluous > 0);
    }
}

#[test]
fn forged_records_do_not_end_a_handshake() {
    let mut world = World::new();
    let mut client = Client::device(1);
    let second = greeted(&mut world, &mut client);
    for datagram in world.deliver(client.peer, &second) {
        client.receive(&datagram);
    }
    for len in 0..4 {
        let forged = forged(22, 1, 0, &vec![0; len]);
        world.deliver(client.peer, &forged);
    }
    world.established(&mut client);
}

fn forged(kind: u8, epoch: u8, number: u16, content: &[u8]) -> Vec<u8> {
    let mut forged = vec![kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0];
    forged.extend(number.to_be_bytes());
    forged.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
    forged.extend(content);
    forged
}

/// The beginning of a key exchange, of which nothing is there.
fn small() -> Vec<u8> {
    forged(22, 0, 9, &[16, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0])
}

/// Everything that somebody without a key may think of, of every length.
fn shower(world: &mut World) {
    for len in 0..100 {
        for kind in 19..26 {
            let inner = forged(kind, 1, 3, &vec![0; len]);
            for number in [0, 1, 1000] {
                let datagram = forged(kind, 1, number, &vec![0x55; len]);
                world.deliver(peer(1), &datagram);
            }
            // a record inside one of another version
            let mut other = forged(kind, 1, 1, &inner);
            other[2] = 0xff;
            world.deliver(peer(1), &other);
            other[1] = 3;
            world.deliver(peer(1), &other);
            // and behind a good one
            let doubled = [inner.clone(), inner].concat();
            world.deliver(peer(1), &doubled);
        }
        assert_eq!(world.events, [], "{len}");
    }
    for epoch in [0, 1, 2] {
        for (kind, contents) in [
            (
                21,
                vec![vec![2, 40], vec![1, 0], vec![2, 20], vec![1, 100], vec![]],
            ),
            (20, vec![vec![1], vec![]]),
            (
                22,
                vec![
                    vec![0; 12],
                    vec![20, 0, 0, 12, 0, 3, 0, 0, 0, 0, 0, 12],
                    vec![],
                ],
            ),
            (23, vec![vec![0; 40], vec![]]),
        ] {
            for content in contents {
                for number in [0, 1, 2, 3, 1000] {
                    let datagram = forged(kind, epoch, number, &content);
                    world.deliver(peer(1), &datagram);
                    assert_eq!(world.events, [], "{datagram:?}");
                }
            }
        }
    }
}

#[test]
fn a_handshake_takes_a_bounded_number_of_datagrams_of_bounded_length() {
    let mut world = World::new();
    let mut client = Client::device(1);
    let second = greeted(&mut world, &mut client);
    let flight = world.deliver(client.peer, &second);
    // a certificate of 64 KiB, of which a byte is there, and records of the next epoch
    let mut long = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 13];
    long.extend([11, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 1, 7]);
    let mut early = vec![23, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9, 0, 200];
    early.extend([0; 200]);
    for _ in 0..100 {
        world.deliver(client.peer, &long);
        world.deliver(client.peer, &early);
    }
    assert_eq!(world.dtls.counts().dtls_datagrams_superfluous, 100 + 92);
    assert_eq!(world.dtls.half_open(), 1);
    for _ in 0..100 {
        world.deliver(client.peer, &second);
    }
    // A repetition takes from the same allowance.
    let sent = world.sent.len();
    assert!(sent <= 1 + flight.len() * 64, "{sent}");
    // And once it is spent, nothing more takes a place in the queue.
    for datagram in [&second, &early, &small()] {
        world.dtls.handle_datagram(world.now, client.peer, datagram);
        assert_eq!(world.dtls.queued(), 0);
    }
}

#[test]
fn forged_records_of_the_next_epoch_do_not_use_up_what_may_come_early() {
    // as nobody's first records are numbered; and as they are
    for (sequence, count) in [(9_u16, 8), (1_000, 30), (9, 30)] {
        let mut world = World::new();
        let mut client = Client::device(1);
        let last = asked(&mut world, &mut client);
        let [high, low] = sequence.to_be_bytes();
        let mut forged = vec![22, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, high, low, 0, 64];
        forged.extend([7; 64]);
        for _ in 0..count {
            world.deliver(client.peer, &forged);
        }
        for datagram in last {
            for answer in world.deliver(client.peer, &datagram) {
                client.receive(&answer);
            }
        }
        assert!(
            world.dtls.identity(client.peer).is_some(),
            "{count} numbered {sequence}"
        );
    }
}

#[test]
fn a_handshake_repeats_its_flight_as_often_as_it_takes_datagrams() {
    let mut world = World::new();
    let mut client = Client::device(1);
    let second = greeted(&mut world, &mut client);
    let flight = world.deliver(client.peer, &second);
    let before = world.sent.len();
    for _ in 0..100 {
        world.deliver(client.peer, &second);
    }
    assert_eq!(world.sent.len(), before + flight.len() * 64);
}

#[test]
fn whoever_sends_much_in_a_handshake_locks_nobody_out() {
    let mut world = World::with(|setup| setup.limits.queue_len = 80);
    let mut honest = from([10, 0, 2, 2], 1);
    let hello = greeted(&mut world, &mut honest);
    let mut flooders: Vec<Client> = (1..=6).map(|host| from([10, 0, 1, host], 1)).collect();
    for flooder in &mut flooders {
        asked(&mut world, flooder);
    }
    for flooder in &flooders {
        for _ in 0..60 {
            world
                .dtls
                .handle_datagram(world.now, flooder.peer, &small());
        }
    }
    assert_eq!(world.dtls.queued(), 60);
    for datagram in world.deliver(honest.peer, &hello) {
        honest.receive(&datagram);
    }
    assert_eq!(world.dtls.queued(), 0);
    world.established(&mut honest);
}

#[test]
fn a_long_message_is_not_taken_wherever_it_hides() {
    let mut world = World::new();
    let mut client = Client::device(1);
    asked(&mut world, &mut client);
    let long = forged(22, 0, 9, &[11, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 1, 7]);
    let alert = forged(21, 0, 8, &[1, 0]);
    let data = forged(23, 1, 8, &[0; 64]);
    for front in [alert, data] {
        let both = [front, long.clone()].concat();
        world.dtls.handle_datagram(world.now, client.peer, &both);
        assert_eq!(world.dtls.queued(), 0);
    }
    assert_eq!(world.dtls.counts().dtls_datagrams_superfluous, 2);
}

#[test]
fn nobody_is_answered_for_what_is_no_hello() {
    let mut world = World::new();
    let mut client = Client::device(1);
    world.established(&mut client);
    let data = client.seal(b"data");
    assert_eq!(world.deliver(peer(50), &data), Vec::<Vec<u8>>::new());
    let key_exchange = [
        22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 1, 0, 12, 16, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(
        world.deliver(peer(50), &key_exchange),
        Vec::<Vec<u8>>::new()
    );
    assert_eq!(world.dtls.counts().dtls_datagrams_unassociated, 2);
    assert_eq!(world.deliver(peer(50), b"CoAP"), Vec::<Vec<u8>>::new());
    assert_eq!(world.dtls.counts().dtls_datagrams_malformed, 1);
}

//! Connection IDs (RFC 9146), against a client that is written out here: it shares no code with the server.

use openssl::{cipher::Cipher, cipher_ctx::CipherCtx, sha::sha256};

use super::{
    bare::{message, messages, prf, record},
    *,
};

const CCM_SUITE: u16 = 0xc0a8;
const CBC_SUITE: u16 = 0x00ae;

/// A device with `PSK-AES128-CCM8`.
struct Device {
    name: String,
    peer: SocketAddr,
    random: [u8; 32],
    /// What the server's records to it carry, if it offers that.
    id: Option<Vec<u8>>,
    /// What its own carry.
    given: Option<Vec<u8>>,
    /// Its key and salt, and the server's.
    keys: [([u8; 16], [u8; 4]); 2],
    number: u64,
    last_flight: Vec<u8>,
}

fn hello(
    number: u8,
    random: [u8; 32],
    cookie: &[u8],
    suite: u16,
    extension: Option<&[u8]>,
) -> Vec<u8> {
    let mut body = vec![0xfe, 0xfd];
    body.extend(random);
    body.push(0);
    body.push(u8::try_from(cookie.len()).unwrap());
    body.extend(cookie);
    body.extend([0, 2]);
    body.extend(suite.to_be_bytes());
    body.extend([1, 0]);
    if let Some(extension) = extension {
        let len = u16::try_from(extension.len()).unwrap();
        body.extend((len + 4).to_be_bytes());
        body.extend([0, 54]);
        body.extend(len.to_be_bytes());
        body.extend(extension);
    }
    message(1, number, &body)
}

/// The messages of the server's flight after a good cookie, and the second hello.
fn greet(
    world: &mut World,
    peer: SocketAddr,
    random: [u8; 32],
    suite: u16,
    extension: Option<&[u8]>,
) -> (Vec<Vec<u8>>, Vec<u8>) {
    let first = record(22, 0, 0, &hello(0, random, &[], suite, extension));
    let verify = world.deliver(peer, &first).remove(0);
    let second = hello(1, random, &verify[13 + 12 + 3..], suite, extension);
    let flight = world.deliver(peer, &record(22, 0, 1, &second));
    (messages(&flight), second)
}

/// CCM with a tag of 8 bytes.
fn ccm(key: &[u8], nonce: &[u8], additional: &[u8], input: &[u8], tag: Option<&[u8]>) -> Vec<u8> {
    let mut context = CipherCtx::new().unwrap();
    let cipher = Some(Cipher::aes_128_ccm());
    match tag {
        None => context.encrypt_init(cipher, None, None).unwrap(),
        Some(_) => context.decrypt_init(cipher, None, None).unwrap(),
    }
    context.set_iv_length(12).unwrap();
    match tag {
        None => {
            context.set_tag_length(8).unwrap();
            context.encrypt_init(None, Some(key), Some(nonce)).unwrap();
        }
        Some(tag) => {
            context.set_tag(tag).unwrap();
            context.decrypt_init(None, Some(key), Some(nonce)).unwrap();
        }
    }
    context.set_data_len(input.len()).unwrap();
    context.cipher_update(additional, None).unwrap();
    let mut output = vec![0; input.len() + 16];
    let len = context.cipher_update(input, Some(&mut output)).unwrap();
    output.truncate(len);
    if tag.is_none() {
        let mut tag = [0; 8];
        context.tag(&mut tag).unwrap();
        output.extend(tag);
    }
    output
}

/// What a `ServerHello` has behind its compression method.
fn extensions(server_hello: &[u8]) -> &[u8] {
    &server_hello[47 + usize::from(server_hello[46]) + 3..]
}

impl Device {
    /// Its handshake up to its last flight, which is not sent.
    fn begin(world: &mut World, n: u16, at: SocketAddr, id: Option<&[u8]>) -> Self {
        let name = format!("device-{n}");
        let random = [u8::try_from(n).unwrap(); 32];
        let extension = id.map(|id| [&[u8::try_from(id.len()).unwrap()], id].concat());
        let (flight, second) = greet(world, at, random, CCM_SUITE, extension.as_deref());
        let server_random = &flight[0][14..46];
        let given = match extensions(&flight[0]) {
            [] => None,
            [0, 13, 0, 54, 0, 9, 8, given @ ..] => Some(given.to_vec()),
            other => panic!("{other:?}"),
        };
        let identity = name.as_bytes();
        let mut body = u16::try_from(identity.len())
            .unwrap()
            .to_be_bytes()
            .to_vec();
        body.extend(identity);
        let exchange = message(16, 2, &body);
        let key = key_of(&name);
        let len = u16::try_from(key.len()).unwrap().to_be_bytes();
        let premaster = [&len[..], &vec![0; key.len()], &len, &key].concat();
        let master = prf(
            &premaster,
            b"master secret",
            &[&random[..], server_random].concat(),
            48,
        );
        let block = prf(
            &master,
            b"key expansion",
            &[server_random, &random[..]].concat(),
            40,
        );
        let keys = [0, 1].map(|side| {
            let key = block[16 * side..][..16].try_into().unwrap();
            (key, block[32 + 4 * side..][..4].try_into().unwrap())
        });
        let mut device = Self {
            name,
            peer: at,
            random,
            id: id.map(<[u8]>::to_vec),
            given,
            keys,
            number: 0,
            last_flight: Vec::new(),
        };
        let transcript = [second, flight.concat(), exchange.clone()].concat();
        let verify_data = prf(&master, b"client finished", &sha256(&transcript), 12);
        let mut last = record(22, 0, 2, &exchange);
        last.extend(record(20, 0, 3, &[1]));
        last.extend(device.seal_as(22, &message(20, 3, &verify_data)));
        device.last_flight = last;
        device
    }

    fn associated(world: &mut World, n: u16, at: SocketAddr, id: Option<&[u8]>) -> Self {
        let device = Self::begin(world, n, at, id);
        let last = device.last_flight.clone();
        let answer = world.deliver(at, &last).concat();
        // the change of keys, and the end under the key
        let (kind, end) = device.open(&answer[14..]);
        assert_eq!((answer[0], kind, end[0]), (20, 22, 20));
        assert_eq!(
            **world.dtls.identity(at).unwrap(),
            psk_identity(&device.name)
        );
        device
    }

    fn seal_as(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        let given = self.given.clone();
        self.number += 1;
        self.seal_with(self.number - 1, kind, content, given.as_deref())
    }

    fn seal_with(&self, number: u64, kind: u8, content: &[u8], id: Option<&[u8]>) -> Vec<u8> {
        let place = (1 << 48 | number).to_be_bytes();
        let len = u16::try_from(content.len()).unwrap();
        let (head, additional, inner) = if let Some(id) = id {
            // with three bytes of padding
            let inner = [content, &[kind, 0, 0, 0]].concat();
            let id_len = u8::try_from(id.len()).unwrap();
            let additional = [
                &[0xff; 8][..],
                &[25, id_len, 25, 0xfe, 0xfd],
                &place,
                id,
                &(len + 4).to_be_bytes(),
            ]
            .concat();
            (
                [&[25, 0xfe, 0xfd], &place[..], id].concat(),
                additional,
                inner,
            )
        } else {
            let additional = [&place[..], &[kind, 0xfe, 0xfd], &len.to_be_bytes()].concat();
            (
                [&[kind, 0xfe, 0xfd], &place[..]].concat(),
                additional,
                content.to_vec(),
            )
        };
        let (key, salt) = self.keys[0];
        let nonce = [&salt[..], &place].concat();
        let sealed = ccm(&key, &nonce, &additional, &inner, None);
        let len = u16::try_from(8 + sealed.len()).unwrap().to_be_bytes();
        [&head[..], &len, &place, &sealed].concat()
    }

    fn say(&mut self, text: &[u8]) -> Vec<u8> {
        self.seal_as(23, text)
    }

    /// The type and the content of a record from the server.
    fn open(&self, datagram: &[u8]) -> (u8, Vec<u8>) {
        let with_id = self.given.is_some() && self.id.as_ref().is_some_and(|id| !id.is_empty());
        let id = self.id.clone().filter(|_| with_id).unwrap_or_default();
        let place = &datagram[3..11];
        assert_eq!(&datagram[11..][..id.len()], id);
        assert_eq!(datagram[0] == 25, with_id);
        let sealed = &datagram[13 + id.len() + 8..];
        let (sealed, tag) = sealed.split_at(sealed.len() - 8);
        let len = u16::try_from(sealed.len()).unwrap().to_be_bytes();
        let additional = if with_id {
            let id_len = u8::try_from(id.len()).unwrap();
            let front = [&[0xff; 8][..], &[25, id_len, 25, 0xfe, 0xfd]].concat();
            [&front[..], place, &id, &len].concat()
        } else {
            [place, &datagram[..3], &len].concat()
        };
        let (key, salt) = self.keys[1];
        let nonce = [&salt[..], &datagram[13 + id.len()..][..8]].concat();
        let mut content = ccm(&key, &nonce, &additional, sealed, Some(tag));
        if !with_id {
            return (datagram[0], content);
        }
        let kind = content.pop().unwrap();
        (kind, content)
    }

    /// Something from that address is heard as from there, and answered there.
    fn echo(&mut self, world: &mut World, from: SocketAddr) {
        world.events.clear();
        let said = self.say(b"said");
        world.deliver(from, &said);
        let heard = matches!(world.events.last(), Some(Output::Data { peer, bytes, .. })
            if *peer == from && bytes == b"said");
        assert!(heard, "{:?}", world.events);
        world.dtls.send(from, b"answer").unwrap();
        let answer = world.drain(from).pop().unwrap();
        assert_eq!(self.open(&answer), (23, b"answer".to_vec()));
        self.peer = from;
    }
}

fn data(from: SocketAddr, name: &str, text: &[u8]) -> Output {
    Output::Data {
        peer: from,
        identity: Arc::new(psk_identity(name)),
        bytes: text.to_vec(),
    }
}

#[test]
fn ids_of_every_length_are_agreed_on_and_followed() {
    for len in [0, 1, 8, 32] {
        let mut world = World::new();
        let id = vec![0x77; len];
        let mut device = Device::associated(&mut world, 1, peer(1), Some(&id));
        assert_eq!(device.given.as_ref().unwrap()[0], 0, "the first shard's");
        device.echo(&mut world, peer(1));
        let handshakes = world.dtls.counts().dtls_handshakes_started;
        for port in 2..5 {
            let before = device.peer;
            device.echo(&mut world, peer(port));
            let moved = Output::Moved {
                from: Some(before),
                peer: peer(port),
                identity: Arc::new(psk_identity("device-1")),
            };
            assert_eq!(world.events, [moved, data(peer(port), "device-1", b"said")]);
            assert_eq!(world.dtls.send(before, b"x"), Err(SendError::NoAssociation));
        }
        let counts = world.dtls.counts();
        assert_eq!(counts.dtls_handshakes_started, handshakes);
        assert_eq!(counts.dtls_associations_moved, 3);
        assert_eq!((world.dtls.associations(), world.dtls.half_open()), (1, 0));
    }
}

#[test]
fn each_of_several_gives_ids_that_begin_with_its_place() {
    let keys = Arc::new(Keys::default());
    keys.set("device-1", &key_of("device-1"));
    let setup = DtlsSetup {
        keys,
        certificates: None,
        seed: [5; 32],
        timing: Timing::default(),
        limits: Limits::default(),
    };
    for (shard, dtls) in (0..).zip(Dtls::several(&setup, 3).unwrap()) {
        let mut world = World::new();
        world.dtls = dtls;
        let device = Device::associated(&mut world, 1, peer(1), Some(b"id"));
        assert_eq!(device.given.unwrap()[0], shard);
    }
}

#[test]
fn without_an_id_there_is_none_and_no_move() {
    let mut world = World::new();
    // none offered, and one that is too long
    let mut plain = Device::associated(&mut world, 1, peer(1), None);
    let mut long = Device::associated(&mut world, 2, peer(2), Some(&[7; 33]));
    for device in [&mut plain, &mut long] {
        assert_eq!(device.given, None);
        let at = device.peer;
        device.echo(&mut world, at);
        world.events.clear();
        let said = device.say(b"from elsewhere");
        world.deliver(peer(50), &said);
        assert_eq!(world.events, []);
    }
    assert_eq!(world.dtls.counts().dtls_datagrams_unassociated, 2);
}

#[test]
fn with_cbc_an_id_is_declined_and_a_malformed_one_fails() {
    let mut world = World::new();
    let (flight, _) = greet(&mut world, peer(1), [1; 32], CBC_SUITE, Some(&[1, 9]));
    assert!(extensions(&flight[0]).is_empty());
    greet(&mut world, peer(2), [2; 32], CCM_SUITE, Some(&[5, 9]));
    assert_eq!(world.dtls.counts().dtls_handshakes_failed, 1);
}

#[test]
fn replays_forgeries_and_old_records_move_nothing() {
    let mut world = World::new();
    let mut device = Device::associated(&mut world, 1, peer(1), Some(b"client"));
    let old = device.say(b"old");
    device.echo(&mut world, peer(1));
    world.events.clear();
    let replayed = device.say(b"once");
    world.deliver(peer(1), &replayed);
    world.deliver(peer(9), &replayed);
    let mut forged = device.say(b"forged");
    for bit in 0..forged.len() * 8 {
        forged[bit / 8] ^= 1 << (bit % 8);
        world.deliver(peer(9), &forged);
        forged[bit / 8] ^= 1 << (bit % 8);
    }
    // it has been on its way for long: its content counts, not where it comes from
    world.deliver(peer(9), &old);
    let expected = [
        data(peer(1), "device-1", b"once"),
        data(peer(1), "device-1", b"old"),
    ];
    assert_eq!(world.events, expected);
    assert_eq!(world.dtls.counts().dtls_associations_moved, 0);
    device.echo(&mut world, peer(1));
}

#[test]
fn records_are_as_agreed_or_dropped() {
    let mut world = World::new();
    let mut with = Device::associated(&mut world, 1, peer(1), Some(b"client"));
    let mut without = Device::associated(&mut world, 2, peer(2), None);
    world.events.clear();
    let bare = with.seal_with(5, 23, b"without", None);
    world.deliver(peer(1), &bare);
    let given = with.given.clone();
    let foreign = without.seal_with(5, 23, b"with", given.as_deref());
    world.deliver(peer(2), &foreign);
    assert_eq!(world.events, []);
    assert_eq!(world.dtls.counts().dtls_records_rejected, 2);
    with.echo(&mut world, peer(1));
    without.echo(&mut world, peer(2));
}

#[test]
fn a_new_address_is_sent_little_before_it_is_heard_again() {
    let mut world = World::new();
    let mut device = Device::associated(&mut world, 1, peer(1), Some(b"client"));
    let said = device.say(b"moved");
    world.deliver(peer(2), &said);
    assert_eq!(
        world.dtls.send(peer(2), &[7; 512]),
        Err(SendError::Unproven)
    );
    let mut sent = 0;
    while world.dtls.send(peer(2), b"ack").is_ok() {
        sent += world.drain(peer(2)).concat().len();
    }
    assert!(sent > 0 && sent <= 3 * said.len(), "{sent}");
    // one that is not newer shows nothing
    world.deliver(peer(2), &said);
    assert_eq!(
        world.dtls.send(peer(2), &[7; 512]),
        Err(SendError::Unproven)
    );
    world.dtls.send(peer(2), &[8; 512]).unwrap_err();
    assert!(world.drain(peer(2)).is_empty());
    // what was held back follows, the newest alone
    let again = device.say(b"still here");
    let answers = world.deliver(peer(2), &again);
    let told: Vec<_> = answers.iter().map(|it| device.open(it)).collect();
    assert_eq!(told, [(23, vec![8; 512])]);
    assert_eq!(world.dtls.send(peer(2), &[7; 512]), Ok(()));
    assert!(world.dtls.counts().dtls_records_unproven > 0);
}

#[test]
fn a_late_record_does_not_bring_back_what_was_replaced() {
    let mut world = World::new();
    let mut old = Device::associated(&mut world, 1, peer(1), Some(b"client"));
    let late = old.say(b"late");
    let mut new = Device::associated(&mut world, 1, peer(2), Some(b"client"));
    world.events.clear();
    world.deliver(peer(2), &late);
    let moved = |event: &Output| matches!(event, Output::Moved { .. } | Output::Closed { .. });
    assert!(!world.events.iter().any(moved), "{:?}", world.events);
    new.echo(&mut world, peer(2));
}

#[test]
fn a_flight_is_repeated_to_nobody_who_may_not_be_there() {
    let mut world = World::new();
    let mut device = Device::associated(&mut world, 1, peer(1), Some(b"client"));
    // a Finished, as far as anybody can tell before it is compared
    let repeated = device.seal_as(22, &[20; 24]);
    let sent = world.deliver(peer(2), &repeated).concat().len();
    assert!(sent <= 3 * repeated.len(), "{sent}");
}

#[test]
fn an_address_changes_hands_and_both_go_on() {
    let mut world = World::new();
    let mut first = Device::associated(&mut world, 1, peer(1), Some(b"first"));
    world.events.clear();
    // the network has forgotten the first, and gives its port to the second
    let mut second = Device::associated(&mut world, 2, peer(1), Some(b"second"));
    let gone = Output::Closed {
        peer: peer(1),
        identity: Arc::new(psk_identity("device-1")),
        reason: CloseReason::Displaced,
    };
    assert_eq!(world.events[0], gone);
    second.echo(&mut world, peer(1));
    first.echo(&mut world, peer(3));
    assert!(matches!(world.events[0], Output::Moved { from: None, .. }));
    // and now the other way round, without a handshake
    first.echo(&mut world, peer(1));
    second.echo(&mut world, peer(4));
    assert_eq!(world.dtls.associations(), 2);
    assert_eq!(world.dtls.counts().dtls_associations_detached, 2);
    assert_eq!(world.dtls.counts().dtls_handshakes_full, 2);
}

#[test]
fn nobody_takes_the_address_of_a_device_without_id_but_by_a_handshake() {
    let mut world = World::new();
    let mut plain = Device::associated(&mut world, 1, peer(1), None);
    let mut with = Device::associated(&mut world, 2, peer(2), Some(b"id"));
    world.events.clear();
    let said = with.say(b"from the other's address");
    world.deliver(peer(1), &said);
    assert_eq!(
        world.events,
        [data(peer(2), "device-2", b"from the other's address")]
    );
    plain.echo(&mut world, peer(1));
    with.echo(&mut world, peer(2));
    Device::associated(&mut world, 3, peer(1), Some(b"id"));
    assert_eq!(world.dtls.counts().dtls_associations_replaced, 1);
    assert_eq!(world.dtls.associations(), 2);
}

#[test]
fn a_lost_last_flight_is_repeated_with_the_id_under_new_numbers_and_not_for_ever() {
    let mut world = World::new();
    let mut device = Device::associated(&mut world, 1, peer(1), Some(b"client"));
    let mut numbers = std::collections::HashSet::new();
    let mut answered = 0;
    for _ in 0..40 {
        let again = device.seal_as(22, &message(20, 3, &[0; 12]));
        let answer = world.deliver(peer(1), &again).concat();
        if answer.is_empty() {
            continue;
        }
        answered += 1;
        assert!(numbers.insert(answer[3..11].to_vec()));
        assert!(numbers.insert(answer[14 + 3..][..8].to_vec()));
        assert_eq!(device.open(&answer[14..]).0, 22);
    }
    assert_eq!(answered, 16);
    device.echo(&mut world, peer(1));
}

#[test]
fn the_end_of_a_handshake_may_overtake_the_key_exchange() {
    let mut world = World::new();
    let mut device = Device::begin(&mut world, 1, peer(1), Some(b"client"));
    let last = device.last_flight.clone();
    let split = record::each(&last)
        .iter()
        .take(2)
        .map(|part| part.len())
        .sum();
    let (clear, end) = last.split_at(split);
    let early = device.say(b"early");
    world.deliver(peer(1), &early);
    world.deliver(peer(1), end);
    assert_eq!(world.events, []);
    world.deliver(peer(1), clear);
    assert!(
        matches!(
            world.events[..],
            [Output::Established { .. }, Output::Data { .. }]
        ),
        "{:?}",
        world.events
    );
    device.echo(&mut world, peer(2));
}

#[test]
fn data_may_follow_the_end_in_its_datagram() {
    let mut world = World::new();
    let mut device = Device::begin(&mut world, 1, peer(1), Some(b"client"));
    let both = [device.last_flight.clone(), device.say(b"at once")].concat();
    world.deliver(peer(1), &both);
    assert!(
        matches!(
            world.events[..],
            [Output::Established { .. }, Output::Data { .. }]
        ),
        "{:?}",
        world.events
    );
}

#[test]
fn a_peer_with_an_id_may_close_and_renegotiation_is_refused() {
    let mut world = World::new();
    let mut device = Device::associated(&mut world, 1, peer(1), Some(b"client"));
    let hello = hello(4, device.random, &[], CCM_SUITE, None);
    let again = device.seal_as(22, &hello);
    let answer = world.deliver(peer(1), &again).concat();
    assert_eq!(device.open(&answer), (21, vec![1, 100]));
    device.echo(&mut world, peer(1));
    world.events.clear();
    // from where it is now
    let close = device.seal_as(21, &[1, 0]);
    let answer = world.deliver(peer(2), &close).concat();
    assert_eq!(device.open(&answer), (21, vec![1, 0]));
    assert!(matches!(
        world.events[..],
        [Output::Moved { .. }, Output::Closed { peer: at, reason: CloseReason::Peer, .. }] if at == peer(2)
    ));
    assert_eq!(world.dtls.associations(), 0);
}

#[test]
fn forged_records_with_ids_leave_nothing_behind() {
    let mut world = World::new();
    let mut device = Device::associated(&mut world, 1, peer(1), Some(b"client"));
    world.events.clear();
    let given = device.given.clone().unwrap();
    let mut forged = device.seal_with(1000, 23, &[7; 64], Some(&given));
    *forged.last_mut().unwrap() ^= 1;
    for n in 0..10_000_u32 {
        let from = SocketAddr::from((std::net::Ipv4Addr::from_bits(n << 8 | 1), 7));
        // half of them with an ID that nobody has
        forged[18] = given[7] ^ u8::from(n.is_multiple_of(2));
        world.dtls.handle_datagram(world.now, from, &forged);
        assert!(world.dtls.poll_event().is_none());
        assert_eq!((world.dtls.queued(), world.dtls.half_open()), (0, 0));
    }
    assert_eq!(world.dtls.counts().dtls_records_rejected, 5_000);
    assert_eq!(world.dtls.counts().dtls_datagrams_unassociated, 5_000);
    device.echo(&mut world, peer(1));
}

#[test]
fn an_ended_identity_ends_also_where_somebody_has_its_address() {
    let mut world = World::new();
    let mut first = Device::associated(&mut world, 1, peer(1), Some(b"first"));
    let mut second = Device::associated(&mut world, 2, peer(1), Some(b"second"));
    world.events.clear();
    let ended = [psk_identity("device-1")];
    world.dtls.end_identities(world.now, &ended);
    assert!(world.drain(peer(1)).is_empty());
    assert_eq!(world.events, [], "the second is not concerned");
    let said = first.say(b"anything");
    world.deliver(peer(5), &said);
    assert_eq!(world.events, []);
    second.echo(&mut world, peer(1));
}

use proptest::prelude::*;

use super::{
    device::{packet, publish, string, subscribe},
    *,
};

const UP: &str = "$oc/devices/d1/sys/events/up";

/// What MQTT does not allow a client to say, with the reason of MQTT 5.
#[test]
fn faults_end_the_connection_with_their_reason() {
    let topic = string(UP);
    let with_properties = |properties: &[u8]| {
        let mut body = topic.clone();
        body.extend([0, 1]);
        body.push(u8::try_from(properties.len()).unwrap());
        body.extend(properties);
        packet(0x32, &body)
    };
    let first = |first: u8, mut bytes: Vec<u8>| {
        bytes[0] = first;
        bytes
    };
    let cases: Vec<(&str, u8, Vec<u8>)> = vec![
        ("packet ID 0", 0x81, publish(5, UP, 1, 0, b"")),
        (
            "packet ID 0 in SUBSCRIBE",
            0x81,
            subscribe(5, 0, &[(UP, 0)]),
        ),
        ("packet ID 0 in PUBACK", 0x81, vec![0x40, 2, 0, 0]),
        ("QoS 3", 0x81, first(0x36, publish(5, UP, 1, 1, b""))),
        (
            "DUP with QoS 0",
            0x81,
            first(0x38, publish(5, UP, 0, 0, b"")),
        ),
        (
            "a retained message",
            0x9a,
            first(0x31, publish(5, UP, 0, 0, b"")),
        ),
        ("a topic alias", 0x94, with_properties(&[0x23, 0, 1])),
        ("topic alias 0", 0x81, with_properties(&[0x23, 0, 0])),
        (
            "a subscription identifier",
            0x82,
            with_properties(&[0x0b, 1]),
        ),
        (
            "a response topic with a wildcard",
            0x90,
            with_properties(&[0x08, 0, 1, b'#']),
        ),
        (
            "a property twice",
            0x81,
            with_properties(&[0x01, 0, 0x01, 0]),
        ),
        (
            "a property of another packet",
            0x81,
            with_properties(&[0x11, 0, 0, 0, 0]),
        ),
        (
            "properties longer than the packet",
            0x81,
            packet(0x30, &[0, 1, b'a', 0x7f]),
        ),
        ("a wildcard in a topic", 0x90, publish(5, "a/+", 0, 0, b"")),
        ("a NUL in a topic", 0x90, publish(5, "a\0", 0, 0, b"")),
        ("no topic", 0x82, publish(5, "", 0, 0, b"")),
        (
            "a topic longer than the packet",
            0x81,
            packet(0x30, &[0xff, 0xff, b'a']),
        ),
        ("no filter", 0x81, packet(0x82, &[0, 1, 0])),
        ("no filter to end", 0x81, packet(0xa2, &[0, 1, 0])),
        (
            "a reserved bit of a filter",
            0x81,
            subscribe(5, 1, &[(UP, 0x40)]),
        ),
        ("a filter with QoS 3", 0x81, subscribe(5, 1, &[(UP, 3)])),
        (
            "a subscription with an identifier",
            0xa1,
            packet(0x82, &[&[0, 1, 2, 0x0b, 1][..], &string(UP), &[0]].concat()),
        ),
        (
            "flags of SUBSCRIBE",
            0x81,
            first(0x80, subscribe(5, 1, &[(UP, 0)])),
        ),
        ("flags of PUBREL", 0x81, vec![0x60, 2, 0, 1]),
        ("PUBREC", 0x82, vec![0x50, 2, 0, 1]),
        ("PUBCOMP", 0x82, vec![0x70, 2, 0, 1]),
        ("CONNACK", 0x82, vec![0x20, 3, 0, 0, 0]),
        ("SUBACK", 0x82, vec![0x90, 4, 0, 1, 0, 0]),
        ("PINGRESP", 0x82, vec![0xd0, 0]),
        ("AUTH", 0x82, vec![0xf0, 0]),
        ("PINGREQ with something in it", 0x81, vec![0xc0, 1, 0]),
        (
            "a length longer than it has to be",
            0x81,
            vec![0xc0, 0x80, 0],
        ),
        (
            "a length of five bytes",
            0x81,
            vec![0xc0, 0x80, 0x80, 0x80, 0x80, 0],
        ),
        ("type 0", 0x81, vec![0, 0]),
    ];
    for (case, reason, bytes) in cases {
        let mut server = Server::new(Limits::default());
        let conn = server.connected(&Client::iotda(1).v5());
        assert_eq!(server.say(conn, &bytes), Reading::Over, "{case}");
        assert_eq!(server.take_sent(conn), [0xe0, 2, reason, 0], "{case}");
        assert!(server.is_closed(conn), "{case}");
        assert_eq!(server.ending(), Some(Ending::Protocol), "{case}");
        assert_eq!(server.endpoint.connections(), 0, "{case}");
    }
}

#[test]
fn in_3_1_1_the_connection_is_closed_without_a_word() {
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("packet ID 0", publish(4, UP, 1, 0, b"")),
        ("a wildcard in a topic", publish(4, "a/#", 0, 0, b"")),
        ("no topic", publish(4, "", 0, 0, b"")),
        ("reserved bits of a filter", subscribe(4, 1, &[(UP, 0x84)])),
        ("no filter", packet(0x82, &[0, 1])),
        ("an empty filter", subscribe(4, 1, &[("", 0)])),
        ("PINGREQ with something in it", vec![0xc0, 1, 0]),
        ("DISCONNECT with something in it", vec![0xe0, 1, 0]),
        ("PUBACK with something after", vec![0x40, 3, 0, 1, 0]),
        ("AUTH", vec![0xf0, 0]),
        ("PUBREC", vec![0x50, 2, 0, 1]),
    ];
    for (case, bytes) in cases {
        let mut server = Server::new(Limits::default());
        let conn = server.connected(&Client::iotda(1));
        assert_eq!(server.say(conn, &bytes), Reading::Over, "{case}");
        assert_eq!(server.take_sent(conn), [0_u8; 0], "{case}");
        assert_eq!(server.ending(), Some(Ending::Protocol), "{case}");
    }
    // a client of 3.1.1 may retain, though nothing is, and may write lengths as it likes
    let mut server = Server::new(Limits::default());
    let conn = server.connected(&Client::iotda(1));
    let mut retained = publish(4, UP, 0, 0, b"x");
    retained[0] |= 1;
    assert_eq!(server.say(conn, &retained), Reading::On);
    assert_eq!(server.say(conn, &[0xc0, 0x80, 0]), Reading::On);
    assert_eq!(server.take_sent(conn), [0xd0, 0]);
}

#[test]
fn a_client_that_takes_no_answers_is_closed() {
    let mut server = Server::new(Limits::default());
    let mut client = Client::iotda(1).v5();
    // as much as CONNACK, and less than what so many filters are answered
    client.properties = vec![0x27, 0, 0, 0, 40];
    let conn = server.connected(&client);
    let topics = "$oc/devices/d1/#";
    let _ = server.say(conn, &subscribe(5, 1, &[(topics, 0); 40]));
    assert_eq!(server.take_sent(conn), [0_u8; 0]);
    assert!(server.is_closed(conn));
}

/// Bytes that look like packets, to get further than noise.
fn packets() -> impl Strategy<Value = Vec<u8>> {
    let topic = prop_oneof![
        Just(UP.to_owned()),
        Just("$oc/devices/d1/#".to_owned()),
        Just("ota/device/progress".to_owned()),
        ".{0,8}",
    ];
    let bytes = prop::collection::vec(any::<u8>(), 0..40);
    let one = prop_oneof![
        (0..=1u8).prop_map(|it| if it == 0 {
            Client::iotda(1)
        } else {
            Client::iotda(1).v5()
        }
        .connect()),
        Just(Client::thingspanel(2).connect()),
        (4..=5u8, topic.clone(), 0..=2u8, any::<u16>(), bytes.clone())
            .prop_map(|(level, topic, qos, id, payload)| publish(level, &topic, qos, id, &payload)),
        (4..=5u8, any::<u16>(), topic, any::<u8>())
            .prop_map(|(level, id, filter, options)| subscribe(level, id, &[(&filter, options)])),
        (any::<u8>(), bytes.clone()).prop_map(|(first, body)| packet(first, &body)),
        Just(vec![0xc0, 0]),
        bytes,
    ];
    prop::collection::vec(one, 0..12).prop_map(|all| all.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn nothing_that_is_sent_breaks_the_books(
        first in packets(),
        second in packets(),
        greets in any::<bool>(),
        cut in 1..50usize,
    ) {
        let mut server = Server::new(Limits::default());
        let conns = [server.accept(1), server.accept(2)];
        if greets {
            let _ = server.say(conns[0], &Client::iotda(1).connect());
            let _ = server.say(conns[1], &Client::thingspanel(2).connect());
        }
        for (conn, bytes) in conns.into_iter().zip([first, second]) {
            for chunk in bytes.chunks(cut) {
                if server.say(conn, chunk) == Reading::Over {
                    break;
                }
            }
        }
        prop_assert!(server.endpoint.buffered() <= 2 * (256 << 10));
        prop_assert_eq!(server.endpoint.connections() + server.closed.len(), 2);
        prop_assert!(server.endpoint.devices() <= server.endpoint.connections());
        server.later(Duration::from_hours(48));
        prop_assert_eq!(server.endpoint.connections(), 0);
        prop_assert_eq!(server.endpoint.buffered(), 0);
        prop_assert_eq!(server.endpoint.poll_timeout(), None);
    }

    /// However the network cuts what is sent, the same comes of it.
    #[test]
    fn pieces_make_no_difference(bytes in packets(), cut in 1..50usize) {
        let run = |cut: usize| {
            let mut server = Server::new(Limits::default());
            let conn = server.connected(&Client::iotda(1));
            // among the pieces an acknowledgement would come sooner than it can behind the whole
            server.acknowledges = false;
            for chunk in bytes.chunks(cut) {
                if server.say(conn, chunk) == Reading::Over {
                    break;
                }
            }
            for event in &server.events {
                if let Event::Message { ack: Some(ack), .. } = event {
                    server.endpoint.acknowledge(server.now, *ack);
                }
            }
            server.pump();
            // what is owed to a connection that is over need not be paid
            let sent = server.take_sent(conn);
            let sent = server.closed.is_empty().then_some(sent);
            (sent, server.take_events())
        };
        let whole = run(usize::MAX);
        prop_assert_eq!(run(cut), whole);
    }
}

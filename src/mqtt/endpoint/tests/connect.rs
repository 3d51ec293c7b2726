use super::{
    device::{packet, string},
    *,
};

/// The CONNACK that a client gets, and whether the connection is closed.
fn greeted(bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut server = Server::new(Limits::default());
    let conn = server.accept(1);
    let _ = server.say(conn, bytes);
    let sent = server.take_sent(conn);
    (sent, server.is_closed(conn))
}

#[test]
fn a_device_with_the_right_password_is_let_in() {
    let mut server = Server::new(Limits::default());
    let conn = server.accept(1);
    assert_eq!(server.say(conn, &Client::iotda(1).connect()), Reading::On);
    assert_eq!(server.take_sent(conn), [0x20, 2, 0, 0]);
    let connected = Event::Connected {
        device: DeviceId::from_bytes([1; 8]),
        conn,
        style: Style::Iotda,
        version: Version::V311,
        peer: peer(1),
        client_id: "d1_0_0_2026113005".into(),
        took_over: false,
    };
    assert_eq!(server.take_events(), [connected]);
    assert_eq!(server.endpoint.devices(), 1);
    assert_eq!(server.say(conn, &[0xc0, 0]), Reading::On);
    assert_eq!(server.take_sent(conn), [0xd0, 0]);
    assert_eq!(server.say(conn, &[0xe0, 0]), Reading::Over);
    assert!(server.is_closed(conn));
    assert_eq!(server.ending(), Some(Ending::Goodbye));
    assert_eq!(server.endpoint.connections(), 0);
}

#[test]
fn in_mqtt_5_the_server_says_what_it_does_not_do() {
    let mut client = Client::iotda(1).v5();
    // a session for an hour, and no keep-alive
    client.properties = vec![0x11, 0, 0, 0x0e, 0x10];
    client.keep_alive = 0;
    let (connack, closed) = greeted(&client.connect());
    assert!(!closed);
    assert_eq!(connack[..5], [0x20, 25, 0, 0, 22]);
    let properties = &connack[5..];
    for property in [
        [0x11, 0, 0, 0, 0].as_slice(), // no session is kept
        &[0x13, 0x0e, 0x10],           // keep-alive of an hour
        &[0x21, 0, 32],                // receive maximum
        &[0x25, 0],                    // no retained messages
        &[0x27, 0, 4, 0, 0],           // 256 KiB
        &[0x29, 0],                    // no subscription identifiers
        &[0x2a, 0],                    // no shared subscriptions
    ] {
        let found = properties.windows(property.len()).any(|it| it == property);
        assert!(found, "{property:02x?} in {properties:02x?}");
    }
    let mut client = Client::iotda(1).v5();
    client.id.clear();
    // without a client ID of its form it has shown nothing
    assert_eq!(greeted(&client.connect()).0[3], 0x86);
    let mut client = Client::thingspanel(2).v5();
    client.id.clear();
    let (connack, _) = greeted(&client.connect());
    assert!(connack.windows(5).any(|it| it == [0x12, 0, 2, b'n', b'2']));
}

#[test]
fn who_is_not_known_or_has_not_the_secret_is_refused_and_told_of() {
    let cases = [
        (Client::iotda(9), Refusal::UnknownDevice, 4, 0x86),
        (
            Client {
                password: Some("00".to_owned()),
                ..Client::iotda(1)
            },
            Refusal::WrongCredential,
            4,
            0x86,
        ),
        (
            Client {
                id: "d1".to_owned(),
                ..Client::iotda(1)
            },
            // whether there is such a device is not told
            Refusal::ClientId,
            4,
            0x86,
        ),
    ];
    for (client, refusal, code, reason) in cases {
        for (client, expected) in [
            (client.clone(), vec![0x20, 2, 0, code]),
            (client.clone().v5(), vec![0x20, 3, 0, reason, 0]),
        ] {
            let mut server = Server::new(Limits::default());
            let conn = server.accept(1);
            assert_eq!(server.say(conn, &client.connect()), Reading::Over);
            assert_eq!(server.take_sent(conn), expected);
            assert!(server.is_closed(conn));
            let name = client.user.unwrap().into();
            let peer = peer(1);
            let told = Event::Refused {
                peer,
                name,
                refusal,
            };
            assert_eq!(server.take_events(), [told]);
            let counted = format!("mqtt_refused_{}", refusal.name());
            let counts = server.endpoint.counts();
            assert!(counts.each().any(|it| it.0 == counted && it.2 == 1));
        }
    }
}

#[test]
fn what_may_be_a_token_is_not_told() {
    let names = |id: &str, user: &str| {
        let mut server = Server::new(Limits::default());
        let client = Client {
            id: id.to_owned(),
            user: Some(user.to_owned()),
            ..Client::thingspanel(2)
        };
        let conn = server.accept(1);
        let _ = server.say(conn, &client.connect());
        match server.take_events().pop() {
            Some(Event::Refused { name, .. }) => name.to_string(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(names("pump", "tt2"), "pump");
    assert_eq!(names("tt2", "tt2"), greet::SAME_AS_USER);
    assert_eq!(names("pump-tt2", "tt2"), greet::SAME_AS_USER);
    assert_eq!(names("d9_0_0_2026113005", "d9"), "d9");
    assert_eq!(names("pump", ""), "pump");
}

#[test]
fn other_versions_are_told_so() {
    let level = |level| Client {
        level,
        ..Client::iotda(1)
    };
    assert_eq!(greeted(&level(3).connect()), (vec![0x20, 2, 0, 1], true));
    assert_eq!(
        greeted(&level(6).connect()),
        (vec![0x20, 3, 0, 0x84, 0], true)
    );
    let old = device::packet(0x10, b"\0\x06MQIsdp\x03\x02\0\x3c\0\x01a");
    assert_eq!(greeted(&old), (vec![0x20, 2, 0, 1], true));
    let method = Client {
        properties: [&[0x15][..], &device::string("SCRAM")].concat(),
        ..Client::iotda(1).v5()
    };
    assert_eq!(
        greeted(&method.connect()),
        (vec![0x20, 3, 0, 0x8c, 0], true)
    );
    let nameless = Client {
        id: String::new(),
        flags: 0,
        ..Client::iotda(1)
    };
    assert_eq!(greeted(&nameless.connect()), (vec![0x20, 2, 0, 2], true));
}

/// What no client may say first: closed without an answer.
#[test]
fn a_malformed_connect_ends_the_connection() {
    let own = Client::iotda(1);
    let with = |change: &dyn Fn(&mut Client)| {
        let mut client = own.clone();
        change(&mut client);
        client.connect()
    };
    let with_v5 = |properties: &[u8]| {
        let mut client = own.clone().v5();
        client.properties = properties.to_vec();
        client.connect()
    };
    let mut flagged = own.connect();
    flagged[0] = 0x11;
    let mut long_header = own.clone().v5().connect();
    let low = long_header[1];
    long_header.splice(1..2, [low | 0x80, 0]);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("another packet", vec![0xc0, 0]),
        ("a reserved bit of the header", flagged),
        ("the reserved flag", with(&|it| it.flags |= 1)),
        ("trailing bytes", with(&|it| it.trailing.push(0))),
        ("a password without a user", with(&|it| it.user = None)),
        ("a will's QoS without a will", with(&|it| it.flags |= 0x08)),
        ("a will that is not there", with(&|it| it.flags |= 0x04)),
        (
            "a NUL in the client ID",
            with(&|it| it.id = "d1\0".to_owned()),
        ),
        (
            "a NUL in the user",
            with(&|it| it.user = Some("d1\0".to_owned())),
        ),
        (
            "a body cut short",
            device::packet(0x10, b"\0\x04MQTT\x04\x02\0"),
        ),
        (
            "another protocol",
            device::packet(0x10, b"\0\x04HTTP\x04\x02\0\x3c\0\x01a"),
        ),
        (
            "not UTF-8",
            device::packet(0x10, b"\0\x04MQTT\x04\x02\0\x3c\0\x02\xc3\x28"),
        ),
        (
            "a length of five bytes",
            vec![0x10, 0x80, 0x80, 0x80, 0x80, 1],
        ),
        ("a length that is longer than it has to be", long_header),
        ("a receive maximum of 0", with_v5(&[0x21, 0, 0])),
        ("a packet size of 0", with_v5(&[0x27, 0, 0, 0, 0])),
        ("a property twice", with_v5(&[0x21, 0, 1, 0x21, 0, 1])),
        ("a property of another packet", with_v5(&[0x23, 0, 1])),
        ("a property cut short", with_v5(&[0x11, 0, 0])),
        (
            "authentication data without a method",
            with_v5(&[0x16, 0, 1, 1]),
        ),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("TLS", vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]),
    ];
    for (case, bytes) in cases {
        let (sent, closed) = greeted(&bytes);
        assert_eq!((sent, closed), (vec![], true), "{case}");
    }
}

#[test]
fn a_second_connect_is_a_fault() {
    let mut server = Server::new(Limits::default());
    let conn = server.connected(&Client::iotda(1));
    assert_eq!(server.say(conn, &Client::iotda(1).connect()), Reading::Over);
    assert_eq!(server.take_sent(conn), [0_u8; 0]);
    assert_eq!(server.ending(), Some(Ending::Protocol));
    server.later(secs(5));
    let client = Client::iotda(1).v5();
    let conn = server.connected(&client);
    assert_eq!(server.say(conn, &client.connect()), Reading::Over);
    assert_eq!(server.take_sent(conn), [0xe0, 2, 0x82, 0]);
}

#[test]
fn what_follows_connect_at_once_is_not_lost() {
    let mut server = Server::new(Limits::default());
    let conn = server.accept(1);
    let topic = "$oc/devices/d1/sys/events/up";
    let bytes = [
        Client::iotda(1).connect(),
        device::publish(4, topic, 1, 7, b"hello"),
        vec![0xc0],
    ]
    .concat();
    // byte by byte, too
    for byte in &bytes {
        let _ = server.say(conn, &[*byte]);
    }
    assert_eq!(server.take_sent(conn), [0x20, 2, 0, 0, 0x40, 2, 0, 7]);
    assert!(matches!(
        &server.take_events()[..],
        [_, Event::Message { .. }]
    ));
    assert_eq!(server.say(conn, &[0]), Reading::On);
    assert_eq!(server.take_sent(conn), [0xd0, 0]);
    assert_eq!(server.endpoint.buffered(), 0);
    let other = server.accept(2);
    let client = Client::thingspanel(2);
    let bytes = [client.connect(), vec![0xc0, 0]].concat();
    // what follows waits for the answer about who it is
    assert_eq!(
        server.endpoint.receive(server.now, other, &bytes),
        Reading::Paused
    );
    assert!(server.endpoint.buffered() > 0);
    server.pump();
    assert_eq!(server.take_sent(other), [0x20, 2, 0, 0, 0xd0, 0]);
    assert_eq!(server.resumed.last(), Some(&other));
}

#[test]
fn a_newer_connection_takes_over_at_a_bounded_pace() {
    let mut server = Server::new(Limits::default());
    let first = server.connected(&Client::iotda(1).v5());
    server.later(secs(1));
    // two with one identity kick each other no more often than so
    let second = server.accept(2);
    assert_eq!(
        server.say(second, &Client::iotda(1).connect()),
        Reading::Over
    );
    assert_eq!(server.take_sent(second), [0x20, 2, 0, 3]);
    assert!(!server.is_closed(first));
    server.later(secs(1));
    let third = server.accept(2);
    assert_eq!(server.say(third, &Client::iotda(1).connect()), Reading::On);
    assert_eq!(server.take_sent(third), [0x20, 2, 0, 0]);
    assert_eq!(server.take_sent(first), [0xe0, 2, 0x8e, 0]);
    assert!(server.is_closed(first));
    let events = server.take_events();
    assert!(
        matches!(&events[..], [Event::Connected { conn, took_over: true, .. }] if *conn == third),
        "{events:?}"
    );
    assert_eq!(server.endpoint.devices(), 1);
    // the end of the old one says nothing of the new one
    server.endpoint.closed(first);
    server.pump();
    assert_eq!(server.take_events(), []);
    server.endpoint.closed(third);
    server.pump();
    assert_eq!(server.ending(), Some(Ending::Lost));
}

#[test]
fn a_changed_credential_ends_the_connection() {
    let mut server = Server::new(Limits::default());
    let conn = server.connected(&Client::iotda(1).v5());
    server
        .endpoint
        .kick(DeviceId::from_bytes([1; 8]), Ending::Credentials);
    server
        .endpoint
        .kick(DeviceId::from_bytes([3; 8]), Ending::Credentials);
    server.pump();
    assert_eq!(server.take_sent(conn), [0xe0, 2, 0x98, 0]);
    assert!(server.is_closed(conn));
    assert_eq!(server.ending(), Some(Ending::Credentials));
}

#[test]
fn all_are_told_when_the_server_stops() {
    let mut server = Server::new(Limits::default());
    let conn = server.connected(&Client::iotda(1).v5());
    let stranger = server.accept(3);
    server.endpoint.stop();
    server.pump();
    assert_eq!(server.take_sent(conn), [0xe0, 2, 0x8b, 0]);
    assert!(server.is_closed(conn) && server.is_closed(stranger));
    assert_eq!(server.endpoint.connections(), 0);
    assert_eq!(server.ending(), Some(Ending::Stopping));
}

#[test]
fn a_client_id_is_told_of_a_connection_unless_it_holds_the_token() {
    let told = |id: &str| {
        let mut server = Server::new(Limits::default());
        let client = Client {
            id: id.to_owned(),
            ..Client::thingspanel(2)
        };
        let conn = server.accept(1);
        let _ = server.say(conn, &client.connect());
        match server.take_events().pop() {
            Some(Event::Connected { client_id, .. }) => client_id.to_string(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(told("pump"), "pump");
    assert_eq!(told("mqtt_t2"), greet::SAME_AS_USER);
    assert_eq!(told(&"ü".repeat(500)), "ü".repeat(128));
}

/// MQTT 5 §3.1.3.1: whether the start is to be clean or not.
#[test]
fn in_mqtt_5_an_empty_client_id_is_assigned_without_a_clean_start_too() {
    let mut client = Client::thingspanel(2).v5();
    client.id.clear();
    client.flags = 0;
    let (connack, closed) = greeted(&client.connect());
    assert!(!closed);
    assert!(connack.windows(5).any(|it| it == [0x12, 0, 2, b'n', b'2']));
    // 3.1.1 §3.1.3.1: refused with 2
    client.level = 4;
    assert_eq!(greeted(&client.connect()), (vec![0x20, 2, 0, 2], true));
}

#[test]
fn in_mqtt_5_a_will_that_is_to_be_retained_is_refused_and_one_without_its_flag_is_malformed() {
    let will = |flags: u8| {
        let body = Client {
            flags: 2 | flags,
            ..Client::thingspanel(2).v5()
        };
        let mut body = body.connect()[2..].to_vec();
        if flags & 0x04 != 0 {
            // behind the client ID: no properties, a topic, and no payload
            let at = 2 + 4 + 1 + 1 + 2 + 1 + 2 + "anything".len();
            let will = [[0].as_slice(), &string("a"), &string("")].concat();
            body.splice(at..at, will);
        }
        greeted(&packet(0x10, &body))
    };
    assert_eq!(will(0x04).0[3], 0, "a will is taken, and leads to nothing");
    // §3.2.2.3.5
    assert_eq!(will(0x04 | 0x20), (vec![0x20, 3, 0, 0x9a, 0], true));
    // §3.1.2.6, §3.1.2.7
    for flags in [0x08, 0x10, 0x20] {
        assert_eq!(will(flags), (vec![], true));
    }
}

/// §3.1.2.11.4
#[test]
fn a_client_that_takes_less_than_a_connack_is_sent_none() {
    let greeted_within = |most: u8| {
        let mut client = Client::thingspanel(2).v5();
        client.properties = vec![0x27, 0, 0, 0, most];
        greeted(&client.connect())
    };
    let (connack, closed) = greeted_within(255);
    assert!(!closed);
    let len = u8::try_from(connack.len()).unwrap();
    assert_eq!(greeted_within(len), (connack, false));
    assert_eq!(greeted_within(len - 1), (vec![], true));
}

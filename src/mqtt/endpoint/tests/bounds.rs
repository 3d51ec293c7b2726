use bytes::Bytes;

use super::{
    device::{packet, publish, string, subscribe},
    *,
};

const UP: &str = "$oc/devices/d1/sys/events/up";
const D1: DeviceId = DeviceId::from_bytes([1; 8]);

#[test]
fn who_does_not_send_connect_in_time_is_closed() {
    let mut server = Server::new(Limits::default());
    let silent = server.accept(1);
    let slow = server.accept(1);
    let connect = Client::iotda(1).connect();
    for byte in connect.iter().take(9) {
        assert_eq!(server.say(slow, &[*byte]), Reading::On);
        server.later(secs(1));
    }
    assert_eq!(server.closed, []);
    // a byte a second does not help
    server.later(secs(1));
    assert!(server.is_closed(silent) && server.is_closed(slow));
    assert_eq!(server.endpoint.connections(), 0);
    assert_eq!(server.endpoint.buffered(), 0);
    assert_eq!(server.endpoint.counts().mqtt_refused_slow, 2);
}

#[test]
fn a_device_that_is_silent_for_one_and_a_half_keep_alives_is_closed() {
    let mut server = Server::new(Limits::default());
    let conn = server.connected(&Client::iotda(1).v5());
    server.later(secs(179));
    // half a packet is none
    let _ = server.say(conn, &[0xc0]);
    assert!(!server.is_closed(conn));
    server.later(secs(1));
    assert!(server.is_closed(conn));
    assert_eq!(server.take_sent(conn), [0xe0, 2, 0x8d, 0]);
    assert_eq!(server.ending(), Some(Ending::KeepAlive));
    let conn = server.connected(&Client::iotda(1));
    for _ in 0..10 {
        server.later(secs(170));
        let _ = server.say(conn, &[0xc0, 0]);
    }
    assert!(!server.is_closed(conn));
}

#[test]
fn a_client_without_a_keep_alive_gets_one() {
    let mut client = Client::iotda(1);
    client.keep_alive = 0;
    let mut server = Server::new(Limits::default());
    let conn = server.connected(&client);
    server.later(secs(5_399));
    assert!(!server.is_closed(conn));
    server.later(secs(1));
    assert!(server.is_closed(conn));
    // 3.1.1 has no way to be told another one
    client.keep_alive = u16::MAX;
    let conn = server.connected(&client);
    server.later(secs(90_000));
    assert!(!server.is_closed(conn));
}

#[test]
fn a_device_that_downloads_is_held_for_a_bounded_time() {
    let limits = Limits {
        hold: secs(3_600),
        ..Limits::default()
    };
    let mut server = Server::new(limits);
    let conn = server.connected(&Client::iotda(1));
    server.endpoint.hold(server.now, D1, true);
    server.later(secs(3_500));
    assert!(!server.is_closed(conn));
    // from the end of the download on the keep-alive counts anew
    server.endpoint.hold(server.now, D1, false);
    server.later(secs(179));
    assert!(!server.is_closed(conn));
    server.later(secs(1));
    assert!(server.is_closed(conn));
    let conn = server.connected(&Client::iotda(1));
    server.endpoint.hold(server.now, D1, true);
    // to say it again does not prolong it
    server.later(secs(3_000));
    server.endpoint.hold(server.now, D1, true);
    server.later(secs(600));
    assert!(server.is_closed(conn));
}

#[test]
fn packets_are_bounded_before_and_after_connect() {
    let mut server = Server::new(Limits::default());
    let conn = server.accept(1);
    // the header alone shows it
    assert_eq!(server.say(conn, &[0x10, 0x80, 0x20]), Reading::Over);
    assert!(server.is_closed(conn));
    let conn = server.connected(&Client::iotda(1).v5());
    assert_eq!(server.say(conn, &[0x30, 0x80, 0x80, 0x10]), Reading::Over);
    assert_eq!(server.take_sent(conn), [0xe0, 2, 0x95, 0]);
    server.later(secs(5));
    // as large as can be
    let conn = server.connected(&Client::iotda(1));
    let properties = "$oc/devices/d1/sys/properties/report";
    let payload = vec![b'x'; (256 << 10) - 4 - 2 - properties.len()];
    for chunk in publish(4, properties, 0, 0, &payload).chunks(1_000) {
        assert_eq!(server.say(conn, chunk), Reading::On);
    }
    assert_eq!(server.endpoint.buffered(), 0);
    assert_eq!(server.endpoint.counts().mqtt_messages_unrelated, 1);
}

#[test]
fn incomplete_packets_are_bounded_altogether() {
    let limits = Limits {
        buffered_bytes: 1_000,
        ..Limits::default()
    };
    let mut server = Server::new(limits);
    let other = server.connected(&Client::thingspanel(2));
    let conn = server.connected(&Client::iotda(1).v5());
    let large = publish(5, UP, 0, 0, &[b'x'; 5_000]);
    assert_eq!(server.say(conn, &large[..900]), Reading::On);
    assert_eq!(server.endpoint.buffered(), 900);
    assert_eq!(server.say(conn, &large[900..1_100]), Reading::Over);
    assert_eq!(server.take_sent(conn), [0xe0, 2, 0x89, 0]);
    assert_eq!(server.endpoint.buffered(), 0);
    assert!(!server.is_closed(other));
}

#[test]
fn unacknowledged_messages_pause_a_device_and_nobody_else() {
    let limits = Limits {
        receive_maximum: 2,
        ..Limits::default()
    };
    let mut server = Server::new(limits);
    server.acknowledges = false;
    let other = server.connected(&Client::thingspanel(2));
    let conn = server.connected(&Client::iotda(1));
    let messages: Vec<u8> = (1..=5).flat_map(|id| publish(4, UP, 1, id, b"x")).collect();
    assert_eq!(server.say(conn, &messages), Reading::Paused);
    let taken = server.take_events();
    assert_eq!(taken.len(), 2);
    // it cannot ping either, and is not closed for that
    server.later(secs(1_000));
    assert!(!server.is_closed(conn) && server.is_closed(other));
    server.take_events();
    server.acknowledges = true;
    for event in taken {
        if let Event::Message { ack: Some(ack), .. } = event {
            server.endpoint.acknowledge(server.now, ack);
        }
    }
    server.pump();
    let acks: Vec<u8> = (1..=5).flat_map(|id| [0x40, 2, 0, id]).collect();
    assert_eq!(server.take_sent(conn), acks);
    assert_eq!(server.resumed.last(), Some(&conn));
    assert_eq!(server.endpoint.buffered(), 0);
    server.later(secs(100));
    assert!(!server.is_closed(conn));
}

#[test]
fn messages_without_acknowledgement_are_dropped_beyond_a_pace() {
    let limits = Limits {
        unacknowledged_per_second: 5,
        ..Limits::default()
    };
    let mut server = Server::new(limits);
    let conn = server.connected(&Client::iotda(1));
    for _ in 0..20 {
        let _ = server.say(conn, &publish(4, UP, 0, 0, b"x"));
    }
    assert_eq!(server.take_events().len(), 5);
    server.later(Duration::from_millis(400));
    for _ in 0..20 {
        let _ = server.say(conn, &publish(4, UP, 0, 0, b"x"));
    }
    assert_eq!(server.take_events().len(), 2);
    assert_eq!(server.endpoint.counts().mqtt_messages_too_many, 33);
}

#[test]
fn messages_with_qos_2_are_bounded() {
    let limits = Limits {
        receive_maximum: 2,
        ..Limits::default()
    };
    let mut server = Server::new(limits);
    let conn = server.connected(&Client::iotda(1).v5());
    for id in 1..=2 {
        assert_eq!(server.say(conn, &publish(5, UP, 2, id, b"x")), Reading::On);
    }
    server.take_sent(conn);
    assert_eq!(server.say(conn, &publish(5, UP, 2, 3, b"x")), Reading::Over);
    assert_eq!(server.take_sent(conn), [0xe0, 2, 0x93, 0]);
}

#[test]
fn connections_are_bounded_altogether_per_address_and_before_connect() {
    let limits = Limits {
        connections: 6,
        connections_per_address: 4,
        unknown_connections: 4,
        ..Limits::default()
    };
    let mut server = Server::new(limits);
    server.known = (1..=6).map(|number| Arc::new(iotda(number))).collect();
    let tried = |server: &mut Server, last| {
        server
            .endpoint
            .accept(server.now, peer(last), Box::default())
    };
    let first = server.accept(1);
    let second = server.accept(1);
    assert_eq!(
        tried(&mut server, 1),
        Err(Refusal::Full),
        "half of the unknown"
    );
    server.accept(2);
    server.accept(2);
    assert_eq!(
        tried(&mut server, 3),
        Err(Refusal::Full),
        "all of the unknown"
    );
    let _ = server.say(first, &Client::iotda(1).connect());
    let _ = server.say(second, &Client::iotda(2).connect());
    for number in 3..=4 {
        let conn = server.accept(1);
        let _ = server.say(conn, &Client::iotda(number).connect());
    }
    assert_eq!(tried(&mut server, 1), Err(Refusal::Full), "an address");
    assert_eq!(tried(&mut server, 3), Err(Refusal::Full), "all");
    server.endpoint.closed(first);
    assert!(tried(&mut server, 3).is_ok());
    assert_eq!(server.endpoint.devices(), 3);
}

#[test]
fn connects_have_a_pace_for_each_address() {
    let limits = Limits {
        connects_per_address_per_second: 3,
        ..Limits::default()
    };
    let mut server = Server::new(limits);
    server.known = (1..=9).map(|number| Arc::new(iotda(number))).collect();
    let connect = |server: &mut Server, last, number| {
        let conn = server.accept(last);
        let _ = server.say(conn, &Client::iotda(number).connect());
        server.take_sent(conn)[3]
    };
    let codes: Vec<u8> = (1..=4)
        .map(|number| connect(&mut server, 1, number))
        .collect();
    assert_eq!(codes, [0, 0, 0, 3]);
    assert_eq!(connect(&mut server, 2, 5), 0);
    server.later(secs(1));
    assert_eq!(connect(&mut server, 1, 6), 0);
}

#[test]
fn guessing_is_rationed_and_disturbs_nobody_elsewhere() {
    let limits = Limits {
        failures_per_address_per_minute: 4,
        ..Limits::default()
    };
    let mut server = Server::new(limits);
    server.known = (1..=3).map(|number| Arc::new(iotda(number))).collect();
    let connect = |server: &mut Server, last, client: &Client| {
        let conn = server.accept(last);
        let _ = server.say(conn, &client.connect());
        server.take_sent(conn)[3]
    };
    let wrong = |number| Client {
        password: Some("00".to_owned()),
        ..Client::iotda(number)
    };
    // half as many for one name
    let codes: Vec<u8> = (0..4).map(|_| connect(&mut server, 1, &wrong(1))).collect();
    assert_eq!(codes, [4, 4, 3, 3]);
    // from there not even with the right password, but from elsewhere, and others from there
    assert_eq!(connect(&mut server, 1, &Client::iotda(1)), 3);
    assert_eq!(connect(&mut server, 2, &Client::iotda(1)), 0);
    assert_eq!(connect(&mut server, 1, &Client::iotda(2)), 0);
    assert_eq!(connect(&mut server, 1, &wrong(3)), 4);
    assert_eq!(connect(&mut server, 1, &wrong(3)), 4);
    assert_eq!(connect(&mut server, 1, &Client::iotda(3)), 3);
    server.later(secs(60));
    assert_eq!(connect(&mut server, 1, &Client::iotda(3)), 0);
}

/// Devices that were removed go on trying, behind the router that all others are behind.
#[test]
fn devices_with_wrong_credentials_do_not_keep_others_out_of_their_address() {
    let mut server = Server::new(Limits::default());
    server.known = vec![Arc::new(iotda(1))];
    let connect = |server: &mut Server, number| {
        let conn = server.accept(1);
        let _ = server.say(conn, &Client::iotda(number).connect());
        server.take_sent(conn)[3]
    };
    let mut told = 0;
    let mut answers = Vec::new();
    // for ten minutes ten of them every three seconds
    for _ in 0..200 {
        server.later(secs(3));
        answers.extend((2..12).map(|number| connect(&mut server, number)));
        let events = server.take_events().into_iter();
        told += events
            .filter(|it| matches!(it, Event::Refused { .. }))
            .count();
    }
    assert!(answers.iter().all(|it| matches!(it, 3 | 4)), "{answers:?}");
    // an allowance of 60 a minute, and the first one
    assert!((600..=660).contains(&told), "{told} told");
    let conn = server.accept(1);
    let _ = server.say(conn, &Client::iotda(1).connect());
    assert_eq!(server.take_sent(conn), [0x20, 2, 0, 0]);
}

#[test]
fn half_packets_do_not_keep_others_from_speaking() {
    let limits = Limits {
        buffered_bytes: 10_000,
        ..Limits::default()
    };
    let mut server = Server::new(limits);
    server.known = (1..=4).map(|number| Arc::new(iotda(number))).collect();
    let large = |number| {
        publish(
            4,
            &format!("$oc/devices/d{number}/sys/events/up"),
            0,
            0,
            &[b'x'; 9_000],
        )
    };
    let hoarders = [1, 2].map(|number| {
        let conn = server.connected(&Client::iotda(number));
        assert_eq!(server.say(conn, &large(number)[..4_000]), Reading::On);
        conn
    });
    let conn = server.connected(&Client::iotda(3));
    assert_eq!(server.say(conn, &large(3)[..3_000]), Reading::On);
    let ended = hoarders.map(|conn| server.is_closed(conn));
    assert_eq!(ended.iter().filter(|it| **it).count(), 1, "one made room");
    assert_eq!(server.ending(), Some(Ending::Slow));
    assert_eq!(server.endpoint.buffered(), 7_000);
    assert_eq!(server.endpoint.counts().mqtt_ended_slow, 1);
}

#[test]
fn a_packet_that_was_begun_comes_within_minutes() {
    let mut client = Client::iotda(1).v5();
    client.keep_alive = u16::MAX;
    let mut server = Server::new(Limits::default());
    let conn = server.connected(&client);
    let message = publish(5, UP, 0, 0, &[b'x'; 1_000]);
    // byte by byte it takes no longer
    for byte in &message[..120] {
        let _ = server.say(conn, &[*byte]);
        server.later(secs(1));
    }
    server.later(secs(60));
    assert!(server.is_closed(conn));
    assert_eq!(server.take_sent(conn), [0xe0, 2, 0x97, 0]);
    assert_eq!(server.ending(), Some(Ending::Slow));
    // one that is whole counts no more
    let conn = server.connected(&client);
    for _ in 0..10 {
        let _ = server.say(conn, &message[..500]);
        server.later(secs(50));
        let _ = server.say(conn, &message[500..]);
        server.later(secs(50));
    }
    assert!(!server.is_closed(conn));
}

#[test]
fn a_connection_that_was_not_read_is_not_taken_for_silent() {
    let mut server = Server::new(Limits::default());
    let conn = server.connected(&Client::iotda(1));
    server.later(secs(170));
    server.endpoint.unread(server.now, conn);
    server.later(secs(170));
    assert!(!server.is_closed(conn));
    server.later(secs(10));
    assert!(server.is_closed(conn));
}

#[test]
fn a_peer_that_takes_nothing_is_closed() {
    let mut server = Server::new(Limits::default());
    let conn = server.connected(&Client::iotda(1));
    let _ = server
        .endpoint
        .publish(D1, Downlink::Events, Bytes::new(), Qos::AtMostOnce);
    server.endpoint.backlog(conn);
    server.pump();
    assert!(server.is_closed(conn));
    assert_eq!(server.ending(), Some(Ending::Backlog));
}

/// A day of a device that cannot hold its connection leaves nothing behind.
#[test]
fn reconnections_leave_nothing_behind() {
    let mut server = Server::new(Limits::default());
    let mut client = Client::iotda(1);
    client.keep_alive = u16::MAX;
    let mut most = 0;
    for _ in 0..20_000 {
        let conn = server.connected(&client);
        server.endpoint.closed(conn);
        server.later(secs(3));
        server.take_events();
        server.sent.clear();
        most = most.max(server.endpoint.table.timers());
    }
    assert!(most < 100, "{most} timers");
    assert_eq!(server.endpoint.connections(), 0);
}

#[test]
fn filters_and_properties_are_bounded_and_payloads_are_not_by_that() {
    use super::super::packet::MAX_LISTED;
    let end = |level: u8, bytes: &[u8]| {
        let mut server = Server::new(Limits::default());
        let mut client = Client::iotda(1);
        client.level = level;
        let conn = server.connected(&client);
        let reading = server.say(conn, bytes);
        let sent = server.take_sent(conn);
        (
            reading == Reading::Over,
            sent.ends_with(&[0xe0, 2, 0x97, 0]),
        )
    };
    let filters = |level, count| subscribe(level, 1, &vec![("abcdefg", 0); count]);
    let (refused, taken) = ((true, true), (false, false));
    assert_eq!(end(5, &filters(5, MAX_LISTED / 10)), refused);
    assert_eq!(end(4, &filters(4, MAX_LISTED / 10)), (true, false));
    assert_eq!(end(5, &filters(5, MAX_LISTED / 10 - 1)), taken);
    // a user property of seven bytes
    let property = [0x26, 0, 1, b'k', 0, 1, b'v'];
    let with_properties = |count: usize| {
        let properties = property.repeat(count);
        let mut body = string("$oc/devices/d1/sys/events/up");
        body.extend([0, 7]);
        body.extend(&packet(0, &properties)[1..]);
        packet(0x32, &body)
    };
    assert_eq!(end(5, &with_properties(MAX_LISTED / 7 + 1)), refused);
    assert_eq!(end(5, &with_properties(MAX_LISTED / 7)), taken);
    for level in [4, 5] {
        let up = "$oc/devices/d1/sys/events/up";
        let large = publish(level, up, 0, 0, &vec![b'x'; 200 << 10]);
        assert_eq!(end(level, &large), taken);
    }
}

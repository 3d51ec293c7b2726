use std::num::NonZeroU16;

use bytes::Bytes;

use super::{
    device::{packet, publish, string, subscribe},
    *,
};

const DOWN: &str = "$oc/devices/d1/sys/events/down";
const UP: &str = "$oc/devices/d1/sys/events/up";
const D1: DeviceId = DeviceId::from_bytes([1; 8]);
const D2: DeviceId = DeviceId::from_bytes([2; 8]);

fn uplinks(server: &mut Server) -> Vec<(Uplink, Vec<u8>)> {
    let events = server.take_events().into_iter();
    events
        .filter_map(|event| match event {
            Event::Message {
                uplink, payload, ..
            } => Some((uplink, payload.to_vec())),
            _ => None,
        })
        .collect()
}

#[test]
fn messages_reach_the_engine_and_are_acknowledged_when_it_says_so() {
    let mut server = Server::new(Limits::default());
    server.acknowledges = false;
    let conn = server.connected(&Client::iotda(1));
    assert_eq!(
        server.say(conn, &publish(4, UP, 0, 0, b"zero")),
        Reading::On
    );
    assert_eq!(server.say(conn, &publish(4, UP, 1, 5, b"one")), Reading::On);
    assert_eq!(server.say(conn, &publish(4, UP, 2, 6, b"two")), Reading::On);
    assert_eq!(server.take_sent(conn), [0_u8; 0]);
    let events = server.take_events();
    let acks: Vec<Option<Ack>> = (events.iter())
        .map(|event| match event {
            Event::Message {
                device,
                uplink: Uplink::Events { gzip: false },
                ack,
                ..
            } if *device == D1 => *ack,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(acks[0], None);
    for ack in acks.into_iter().flatten() {
        server.endpoint.acknowledge(server.now, ack);
    }
    server.pump();
    assert_eq!(server.take_sent(conn), [0x40, 2, 0, 5, 0x50, 2, 0, 6]);
    // sent again, it is not told again
    let mut again = publish(4, UP, 2, 6, b"two");
    again[0] |= 0x08;
    assert_eq!(server.say(conn, &again), Reading::On);
    assert_eq!(server.take_sent(conn), [0x50, 2, 0, 6]);
    assert_eq!(server.take_events(), []);
    assert_eq!(server.say(conn, &[0x62, 2, 0, 6]), Reading::On);
    assert_eq!(server.take_sent(conn), [0x70, 2, 0, 6]);
    // after PUBREL the number stands for another message
    assert_eq!(server.say(conn, &publish(4, UP, 2, 6, b"new")), Reading::On);
    assert_eq!(uplinks(&mut server).len(), 1);
}

#[test]
fn foreign_messages_are_dropped_and_unrelated_ones_acknowledged() {
    let mut server = Server::new(Limits::default());
    let conn = server.connected(&Client::iotda(1));
    let foreign = "$oc/devices/d2/sys/events/up";
    let unrelated = "$oc/devices/d1/sys/properties/report";
    for (qos, topic) in [
        (0, foreign),
        (1, foreign),
        (2, foreign),
        (0, unrelated),
        (1, unrelated),
    ] {
        let _ = server.say(conn, &publish(4, topic, qos, 3, b"{}"));
    }
    assert_eq!(server.take_events(), []);
    let acks = [0x40, 2, 0, 3, 0x50, 2, 0, 3, 0x40, 2, 0, 3];
    assert_eq!(server.take_sent(conn), acks);
    let counts = server.endpoint.counts();
    assert_eq!(counts.mqtt_messages_foreign, 3);
    assert_eq!(counts.mqtt_messages_unrelated, 2);
    // MQTT 5 has a reason for it
    server.later(secs(5));
    let conn = server.connected(&Client::iotda(1).v5());
    let _ = server.say(conn, &publish(5, foreign, 1, 3, b"{}"));
    let _ = server.say(conn, &publish(5, foreign, 2, 4, b"{}"));
    let _ = server.say(conn, &[0x62, 2, 0, 4]);
    let sent = [
        0x40, 4, 0, 3, 0x87, 0, 0x50, 4, 0, 4, 0x87, 0, 0x70, 4, 0, 4, 0x92, 0,
    ];
    assert_eq!(server.take_sent(conn), sent);
}

#[test]
fn own_filters_are_granted_and_foreign_ones_refused() {
    let filters = [
        (DOWN, 1),
        (DOWN, 2),
        ("$oc/devices/d1/#", 0),
        ("$oc/devices/d2/sys/events/down", 1),
        ("#", 1),
        ("a/#/b", 1),
        ("$share/x/a", 1),
    ];
    let mut server = Server::new(Limits::default());
    let conn = server.connected(&Client::iotda(1));
    let _ = server.say(conn, &subscribe(4, 9, &filters));
    let suback = [0x90, 9, 0, 9, 1, 1, 0, 0x80, 0x80, 0x80, 0x80];
    assert_eq!(server.take_sent(conn), suback);
    let subscribed = Event::Subscribed {
        device: D1,
        downlink: Downlink::Events,
        release: None,
    };
    assert_eq!(server.take_events(), [subscribed]);
    server.later(secs(5));
    let conn = server.connected(&Client::iotda(1).v5());
    let _ = server.say(conn, &subscribe(5, 9, &filters));
    let suback = [0x90, 10, 0, 9, 0, 1, 1, 0, 0x87, 0x87, 0x8f, 0x9e];
    assert_eq!(server.take_sent(conn), suback);
    assert_eq!(server.endpoint.counts().mqtt_subscriptions_refused, 8);
    let mut unsubscribe = vec![0, 10, 0];
    for filter in [DOWN, DOWN, "$oc/devices/d2/#", "+a"] {
        unsubscribe.extend(string(filter));
    }
    let _ = server.say(conn, &packet(0xa2, &unsubscribe));
    assert_eq!(
        server.take_sent(conn),
        [0xb0, 7, 0, 10, 0, 0, 0x11, 0x11, 0x8f]
    );
}

#[test]
fn iotda_devices_are_written_to_without_a_subscription() {
    let mut server = Server::new(Limits::default());
    let conn = server.connected(&Client::iotda(1));
    let sent = (server.endpoint)
        .publish(
            D1,
            Downlink::Events,
            Bytes::from_static(b"{}"),
            Qos::AtLeastOnce,
        )
        .unwrap()
        .unwrap();
    server.pump();
    assert_eq!(
        server.take_sent(conn),
        publish(4, DOWN, 1, sent.get(), b"{}")
    );
    let [high, low] = sent.get().to_be_bytes();
    let _ = server.say(conn, &[0x40, 2, high, low]);
    let delivered = Event::Delivered {
        device: D1,
        packet_id: sent,
    };
    assert_eq!(server.take_events(), [delivered]);
    // once is enough
    let _ = server.say(conn, &[0x40, 2, high, low]);
    assert_eq!(server.take_events(), []);
    let sent = server
        .endpoint
        .publish(D1, Downlink::Events, Bytes::new(), Qos::AtMostOnce);
    assert_eq!(sent, Ok(None));
    server.pump();
    assert_eq!(server.take_sent(conn), publish(4, DOWN, 0, 0, b""));
    // who subscribes with QoS 0 gets it with that
    let _ = server.say(conn, &subscribe(4, 9, &[(DOWN, 0)]));
    let sent = server
        .endpoint
        .publish(D1, Downlink::Events, Bytes::new(), Qos::AtLeastOnce);
    assert_eq!(sent, Ok(None));
}

#[test]
fn thingspanel_devices_are_written_to_on_the_topic_that_they_subscribed_to() {
    let mut server = Server::new(Limits::default());
    let conn = server.connected(&Client::thingspanel(2));
    let push = |server: &mut Server, qos| {
        let sent = server
            .endpoint
            .publish(D2, Downlink::Push, Bytes::from_static(b"p"), qos);
        server.pump();
        (sent.unwrap(), server.take_sent(conn))
    };
    let none = push(&mut server, Qos::AtMostOnce);
    assert_eq!(none.1, publish(4, "ota/devices/infrom/n2", 0, 0, b"p"));
    let _ = server.say(conn, &subscribe(4, 1, &[("ota/device/inform/t2", 1)]));
    assert_eq!(server.take_sent(conn), [0x90, 3, 0, 1, 1]);
    let subscribed = Event::Subscribed {
        device: D2,
        downlink: Downlink::Push,
        release: Some(Release::V05),
    };
    assert_eq!(server.take_events(), [subscribed]);
    let old = push(&mut server, Qos::AtMostOnce);
    assert_eq!(old.1, publish(4, "ota/device/inform/t2", 0, 0, b"p"));
    let _ = server.say(conn, &subscribe(4, 2, &[("ota/devices/inform/n2", 1)]));
    server.take_sent(conn);
    let (sent, bytes) = push(&mut server, Qos::AtLeastOnce);
    let expected = publish(4, "ota/devices/inform/n2", 1, sent.unwrap().get(), b"p");
    assert_eq!(bytes, expected);
    let mut unsubscribe = vec![0, 3];
    unsubscribe.extend(string("ota/devices/inform/n2"));
    let _ = server.say(conn, &packet(0xa2, &unsubscribe));
    assert_eq!(server.take_sent(conn), [0xb0, 2, 0, 3]);
    let old = push(&mut server, Qos::AtMostOnce);
    assert_eq!(old.1, publish(4, "ota/device/inform/t2", 0, 0, b"p"));
}

#[test]
fn what_cannot_be_sent_is_said() {
    let limits = Limits {
        send_maximum: 3,
        ..Limits::default()
    };
    let mut server = Server::new(limits);
    let send = |server: &mut Server, device, downlink, payload: Vec<u8>| {
        let sent = server
            .endpoint
            .publish(device, downlink, payload.into(), Qos::AtLeastOnce);
        server.pump();
        sent
    };
    let nobody = send(&mut server, D1, Downlink::Events, vec![]);
    assert_eq!(nobody, Err(PublishError::NotConnected));
    let mut client = Client::iotda(1).v5();
    // two messages of 100 bytes
    client.properties = vec![0x21, 0, 2, 0x27, 0, 0, 0, 100];
    let conn = server.connected(&client);
    let other = send(&mut server, D1, Downlink::Push, vec![]);
    assert_eq!(other, Err(PublishError::OtherStyle));
    // topic with length, packet ID, properties' length, header
    let most = 100 - (2 + DOWN.len() + 2 + 1 + 2);
    let large = send(&mut server, D1, Downlink::Events, vec![b'x'; most + 1]);
    assert_eq!(large, Err(PublishError::TooLarge));
    assert_eq!(server.take_sent(conn), [0_u8; 0]);
    let first = send(&mut server, D1, Downlink::Events, vec![b'x'; most]);
    assert_eq!(server.take_sent(conn).len(), 100);
    let second = send(&mut server, D1, Downlink::Events, vec![]);
    assert_ne!(first.unwrap(), second.unwrap());
    server.take_sent(conn);
    // what waits behind them is bounded, and no larger either
    let large = send(&mut server, D1, Downlink::Events, vec![b'x'; most + 1]);
    assert_eq!(large, Err(PublishError::TooLarge));
    for _ in 0..connection::MAX_WAITING {
        assert!(send(&mut server, D1, Downlink::Events, vec![]).is_ok());
    }
    let full = send(&mut server, D1, Downlink::Events, vec![]);
    assert_eq!(full, Err(PublishError::QueueFull));
    assert_eq!(server.take_sent(conn), [0_u8; 0]);
    let [high, low] = first.unwrap().unwrap().get().to_be_bytes();
    let _ = server.say(conn, &[0x40, 2, high, low]);
    assert!(send(&mut server, D1, Downlink::Events, vec![]).is_ok());
    assert_eq!(server.endpoint.counts().mqtt_messages_unsent, 5);
    assert_eq!(server.endpoint.counts().mqtt_messages_sent, 19);
}

/// Many clients acknowledge a question only after they have answered it, and take one message at once.
#[test]
fn what_does_not_fit_waits_for_what_was_sent_before() {
    let mut client = Client::iotda(1).v5();
    client.properties = vec![0x21, 0, 1];
    let mut server = Server::new(Limits::default());
    let conn = server.connected(&client);
    let send = |server: &mut Server, payload: &'static [u8]| {
        let payload = Bytes::from_static(payload);
        let sent = (server.endpoint).publish(D1, Downlink::Events, payload, Qos::AtLeastOnce);
        server.pump();
        sent.unwrap().unwrap()
    };
    let query = send(&mut server, b"query");
    assert_eq!(
        server.take_sent(conn),
        publish(5, DOWN, 1, query.get(), b"query")
    );
    let offer = send(&mut server, b"offer");
    let last = send(&mut server, b"last");
    assert_eq!(server.take_sent(conn), [0_u8; 0]);
    let acked = |id: NonZeroU16| {
        let [high, low] = id.get().to_be_bytes();
        [0x40, 2, high, low]
    };
    // what was not sent cannot be acknowledged
    let _ = server.say(conn, &acked(offer));
    assert_eq!(server.take_events(), []);
    let _ = server.say(conn, &acked(query));
    assert_eq!(
        server.take_sent(conn),
        publish(5, DOWN, 1, offer.get(), b"offer")
    );
    let _ = server.say(conn, &acked(offer));
    assert_eq!(
        server.take_sent(conn),
        publish(5, DOWN, 1, last.get(), b"last")
    );
    let _ = server.say(conn, &acked(last));
    assert_eq!(server.take_events().len(), 3);
    // nothing of it outlives the connection
    let (first, second) = (send(&mut server, b"a"), send(&mut server, b"b"));
    assert_ne!(first, second);
    server.endpoint.closed(conn);
    server.later(secs(5));
    server.take_events();
    server.sent.clear();
    let conn = server.connected(&client);
    assert_eq!(server.take_sent(conn), [0_u8; 0]);
}

/// §4.6: a client may take the next PUBACK for that of the message that it has sent first.
#[test]
fn messages_are_acknowledged_in_the_order_in_which_they_came() {
    let mut server = Server::new(Limits::default());
    server.acknowledges = false;
    let conn = server.connected(&Client::iotda(1));
    let properties = "$oc/devices/d1/sys/properties/report";
    let foreign = "$oc/devices/d2/sys/events/up";
    for bytes in [
        publish(4, UP, 1, 1, b"one"),
        publish(4, properties, 1, 2, b"{}"),
        publish(4, UP, 1, 3, b"three"),
        publish(4, foreign, 2, 4, b"four"),
        publish(4, UP, 2, 5, b"five"),
    ] {
        assert_eq!(server.say(conn, &bytes), Reading::On);
    }
    assert_eq!(server.take_sent(conn), [0_u8; 0]);
    let acks: Vec<Ack> = (server.take_events().into_iter())
        .filter_map(|event| match event {
            Event::Message { ack, .. } => ack,
            _ => None,
        })
        .collect();
    let [one, three, five] = acks[..] else {
        panic!("{acks:?}");
    };
    let mut settle = |ack| {
        server.endpoint.acknowledge(server.now, ack);
        server.pump();
        server.take_sent(conn)
    };
    assert_eq!(settle(three), [0_u8; 0]);
    assert_eq!(
        settle(one),
        [0x40, 2, 0, 1, 0x40, 2, 0, 2, 0x40, 2, 0, 3, 0x50, 2, 0, 4]
    );
    // to settle it twice acknowledges nothing else
    assert_eq!(settle(one), [0_u8; 0]);
    assert_eq!(settle(five), [0x50, 2, 0, 5]);
    assert_eq!(
        server.say(conn, &publish(4, properties, 1, 6, b"")),
        Reading::On
    );
    assert_eq!(server.take_sent(conn), [0x40, 2, 0, 6]);
}

/// PUBREC says that the message is the server's, which it is once what follows from it is committed.
#[test]
fn a_repeated_message_with_qos_2_is_acknowledged_no_sooner_than_the_first() {
    let mut server = Server::new(Limits::default());
    server.acknowledges = false;
    let conn = server.connected(&Client::iotda(1));
    let message = publish(4, UP, 2, 6, b"two");
    let mut again = message.clone();
    again[0] |= 0x08;
    assert_eq!(server.say(conn, &message), Reading::On);
    assert_eq!(server.say(conn, &again), Reading::On);
    assert_eq!(server.take_sent(conn), [0_u8; 0]);
    let events = server.take_events();
    let [Event::Message { ack: Some(ack), .. }] = &events[..] else {
        panic!("{events:?}");
    };
    server.endpoint.acknowledge(server.now, *ack);
    server.pump();
    assert_eq!(server.take_sent(conn), [0x50, 2, 0, 6], "once");
    assert_eq!(server.say(conn, &again), Reading::On);
    assert_eq!(server.take_sent(conn), [0x50, 2, 0, 6]);
}

#[test]
fn messages_that_nobody_reads_are_acknowledged_and_dropped() {
    let mut server = Server::new(Limits::default());
    let conn = server.connected(&Client::iotda(1));
    let longest = vec![b'x'; crate::mqtt::iotda::MAX_ENVELOPE];
    let longer = [&longest[..], b"x"].concat();
    let _ = server.say(conn, &publish(4, UP, 1, 1, &longer));
    let _ = server.say(conn, &publish(4, UP, 0, 0, &longer));
    assert_eq!(server.take_sent(conn), [0x40, 2, 0, 1]);
    assert_eq!(server.take_events(), []);
    assert_eq!(server.endpoint.counts().mqtt_messages_too_large, 2);
    let _ = server.say(conn, &publish(4, UP, 1, 2, &longest));
    assert_eq!(server.take_events().len(), 1);
    // properties may be longer
    let _ = server.say(
        conn,
        &publish(4, "$oc/devices/d1/sys/properties/report", 1, 3, &longer),
    );
    assert_eq!(server.endpoint.counts().mqtt_messages_unrelated, 1);
    assert_eq!(server.endpoint.counts().mqtt_messages_too_large, 2);
}

#[test]
fn a_subscription_that_is_there_is_no_news() {
    let mut server = Server::new(Limits::default());
    let conn = server.connected(&Client::thingspanel(2));
    let own = subscribe(4, 1, &[("ota/device/inform/t2", 1)]);
    for _ in 0..3 {
        let _ = server.say(conn, &own);
    }
    assert_eq!(server.take_events().len(), 1);
    let _ = server.say(conn, &subscribe(4, 2, &[("ota/devices/infrom/n2", 1)]));
    assert_eq!(server.take_events().len(), 1);
    assert_eq!(server.endpoint.counts().mqtt_subscriptions_granted, 4);
}

#[test]
fn packet_ids_that_are_on_the_way_are_not_given_out_again() {
    let limits = Limits {
        send_maximum: 2,
        ..Limits::default()
    };
    let mut server = Server::new(limits);
    let conn = server.connected(&Client::iotda(1));
    let send = |server: &mut Server| {
        let sent = server
            .endpoint
            .publish(D1, Downlink::Events, Bytes::new(), Qos::AtLeastOnce);
        sent.unwrap().unwrap().get()
    };
    let kept = send(&mut server);
    // all numbers come round, and none is 0
    for _ in 0..70_000 {
        let id = send(&mut server);
        assert_ne!(id, kept);
        let [high, low] = id.to_be_bytes();
        let _ = server.say(conn, &[0x40, 2, high, low]);
    }
}

#[test]
fn who_has_unsubscribed_from_pushes_is_sent_none_before_it_has_subscribed_again() {
    let mut server = Server::new(Limits::default());
    let conn = server.connected(&Client::thingspanel(2));
    let push = |server: &mut Server| {
        let payload = Bytes::from_static(b"p");
        let sent = server
            .endpoint
            .publish(D2, Downlink::Push, payload, Qos::AtMostOnce);
        server.pump();
        (sent, server.take_sent(conn))
    };
    let unsubscribe = |server: &mut Server, filter: &str| {
        let body = [[0, 9].as_slice(), &string(filter)].concat();
        let _ = server.say(conn, &packet(0xa2, &body));
        server.take_sent(conn);
        server.take_events()
    };
    let filters = [("ota/devices/infrom/n2", 0), ("ota/devices/inform/n2", 0)];
    let _ = server.say(conn, &subscribe(4, 1, &filters));
    server.take_sent(conn);
    server.take_events();
    assert_eq!(unsubscribe(&mut server, "ota/devices/infrom/n2"), []);
    let other = publish(4, "ota/devices/inform/n2", 0, 0, b"p");
    assert_eq!(push(&mut server), (Ok(None), other.clone()));
    let told = Event::Unsubscribed {
        device: D2,
        downlink: Downlink::Push,
    };
    let last = "ota/devices/inform/n2";
    assert_eq!(unsubscribe(&mut server, last), [told]);
    assert_eq!(unsubscribe(&mut server, last), []);
    let nothing = (Err(PublishError::Unsubscribed), vec![]);
    assert_eq!(push(&mut server), nothing);
    // what is none of those topics changes nothing
    let _ = server.say(conn, &subscribe(4, 2, &[("devices/command/n2", 0)]));
    server.take_sent(conn);
    assert_eq!(push(&mut server), nothing);
    let _ = server.say(conn, &subscribe(4, 3, &[(last, 0)]));
    server.take_sent(conn);
    assert_eq!(push(&mut server), (Ok(None), other));
}

use super::*;
use crate::mqtt::Secret;

const CONNACK: [u8; 4] = [0x20, 2, 0, 0];

fn connect() -> Connect {
    Connect {
        client_id: "c".into(),
        user_name: "u".into(),
        password: Some(Secret("p".into())),
        keep_alive_s: 120,
    }
}

fn open() -> Link {
    let mut link = Link::open(0, &connect());
    link.take_output().unwrap();
    link.receive(0, &CONNACK);
    assert_eq!(link.poll_event(), Some(Event::Connected));
    link
}

#[test]
fn connects_as_the_standard_writes_it() {
    let mut link = Link::open(0, &connect());
    // MQTT 3.1.1 §3.1: user name, password, clean session; 120 s
    let packet = b"\x10\x13\x00\x04MQTT\x04\xC2\x00\x78\x00\x01c\x00\x01u\x00\x01p";
    assert_eq!(link.take_output().as_deref(), Some(&packet[..]));
    link.receive(0, &[0x20, 2, 0, 5]);
    assert_eq!(link.poll_event(), Some(Event::Refused(5)));
}

#[test]
fn without_a_password_there_is_a_user_name_alone() {
    let connect = Connect {
        password: None,
        ..connect()
    };
    let packet = b"\x10\x10\x00\x04MQTT\x04\x82\x00\x78\x00\x01c\x00\x01u";
    let mut link = Link::open(0, &connect);
    assert_eq!(link.take_output().as_deref(), Some(&packet[..]));
}

#[test]
fn messages_come_in_pieces_and_are_acknowledged() {
    let mut link = open();
    // PUBLISH, quality of service 1, topic `t`, identifier 7
    for byte in b"\x32\x07\x00\x01t\x00\x07hi" {
        link.receive(0, &[*byte]);
    }
    let message = Event::Message {
        topic: "t".into(),
        payload: "hi".into(),
    };
    assert_eq!(link.poll_event(), Some(message));
    assert_eq!(link.take_output().as_deref(), Some(&[0x40, 2, 0, 7][..]));
    link.publish(0, "t", b"x".to_vec(), 1);
    assert_eq!(link.unacknowledged(), 1);
    let packet = b"\x32\x06\x00\x01t\x00\x01x";
    assert_eq!(link.take_output().as_deref(), Some(&packet[..]));
    link.receive(0, &[0x40, 2, 0, 1]);
    assert_eq!(link.unacknowledged(), 0);
    link.subscribe(0, "a/b", 1);
    let packet = b"\x82\x08\x00\x02\x00\x03a/b\x01";
    assert_eq!(link.take_output().as_deref(), Some(&packet[..]));
    link.receive(0, &[0x90, 3, 0, 2, 0x80]);
    assert_eq!(link.poll_event(), Some(Event::Subscribed(false)));
}

#[test]
fn keeps_alive_and_notices_silence() {
    let mut link = open();
    assert_eq!(link.poll_timeout(), Some(120_000));
    link.publish(100_000, "t", Vec::new(), 0);
    link.take_output().unwrap();
    assert_eq!(link.poll_timeout(), Some(220_000));
    link.handle_timeout(220_000);
    assert_eq!(link.take_output().as_deref(), Some(&[0xC0, 0][..]));
    link.receive(220_001, &[0xD0, 0]);
    link.handle_timeout(340_000);
    assert_eq!(link.poll_event(), None);
    assert!(link.take_output().is_some());
    link.handle_timeout(460_000);
    assert!(matches!(link.poll_event(), Some(Event::Broken(_))));
}

#[test]
fn what_is_not_mqtt_breaks_the_connection() {
    // a request, a reserved type, a message that is too long, a topic that is no text
    for bytes in [
        &[0xC0, 0][..],
        &[0xF0, 0],
        &[0x30, 0xFF, 0xFF, 0xFF, 0x7F],
        &[0x30, 3, 0, 1, 0xFF],
    ] {
        let mut link = open();
        link.receive(0, bytes);
        let event = link.poll_event();
        assert!(matches!(event, Some(Event::Broken(_))), "{event:?}");
    }
}

proptest::proptest! {
    #[test]
    fn whatever_comes_it_goes_on_or_says_that_it_is_broken(
        pieces in proptest::collection::vec(proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40), 0..10)
    ) {
        let mut link = open();
        for piece in pieces {
            link.receive(0, &piece);
            while link.poll_event().is_some() {}
        }
    }

    #[test]
    fn a_packet_with_a_byte_changed_is_no_harder(at in 0_usize..11, byte in proptest::prelude::any::<u8>()) {
        for packet in [&b"\x32\x09\x00\x03t/t\x00\x07hi"[..], b"\x90\x09\x00\x02\x01\x01\x01\x01\x01\x01\x01", &CONNACK] {
            let mut packet = packet.to_vec();
            if let Some(changed) = packet.get_mut(at) {
                *changed = byte;
            }
            let mut link = open();
            link.receive(0, &packet);
            link.receive(0, &[0xD0, 0]);
            while link.poll_event().is_some() {}
        }
    }
}

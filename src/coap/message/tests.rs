use proptest::prelude::*;

use super::*;

fn rejected(bytes: &[u8]) -> Malformed {
    Message::parse(bytes).unwrap_err()
}

#[test]
fn a_put_written_by_hand_reads_as_one_written_by_the_library() {
    let token = Token::new(&[1, 2, 3, 4]);
    let by_hand = put_downlink(0x1234, token, b"frame");
    let by_library = MessageBuilder::new(Kind::Confirmable, Code::PUT, 0x1234, token)
        .path("19")
        .path("1")
        .path("0")
        .content_format(ContentFormat::OCTET_STREAM)
        .payload(b"frame".to_vec())
        .build();
    assert_eq!(by_hand, by_library);
}

#[test]
fn malformed_datagrams_are_reset_when_confirmable_and_ignored_otherwise() {
    use MalformedReason as R;
    let table: [(&[u8], R, bool); 12] = [
        (b"", R::TooShort, false),
        (&[0x40, 0, 1], R::TooShort, false),
        (&[0x00, 1, 0, 7], R::Version(0), false),
        (&[0x80, 1, 0, 7], R::Version(2), false),
        (&[0x49, 1, 0, 7, 1, 2, 3, 4, 5, 6, 7, 8, 9], R::Format, true),
        (
            &[0x59, 1, 0, 7, 1, 2, 3, 4, 5, 6, 7, 8, 9],
            R::Format,
            false,
        ),
        (&[0x44, 1, 0, 7, 1], R::Format, true),
        (&[0x40, 0, 0, 7, 1], R::Format, true), // an empty message that is not empty
        (&[0x40, 1, 0, 7, 0xFF], R::Format, true), // marker, no payload
        (&[0x40, 1, 0, 7, 0xB3, b'a'], R::Format, true), // option cut short
        (&[0x40, 1, 0, 7, 0xF1, b'a'], R::Format, true), // reserved delta
        (&[0x40, 0xE1, 0, 7], R::ReservedCode(Code(0xE1)), true),
    ];
    for (bytes, reason, reset_sent) in table {
        let malformed = rejected(bytes);
        assert_eq!(malformed.reason, reason, "{bytes:02x?}");
        assert_eq!(
            malformed.reply,
            reset_sent.then(|| reset(7)),
            "{bytes:02x?}"
        );
    }
    assert_eq!(rejected(&[0x40; 1501]).reason, R::TooLong);
}

#[test]
fn an_option_may_end_in_the_byte_of_the_payload_marker() {
    let message = Message::parse(&[0x40, 1, 0, 7, 0xB1, 0xFF]).unwrap();
    assert_eq!(message.path(), [&[0xFF][..]]);
}

#[test]
fn names_the_critical_option_that_it_does_not_know() {
    let bytes = [0x40, 1, 0, 7, 0x90]; // option 9, OSCORE
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.unknown_critical_option(), Some(9));
    let elective = Message::parse(&[0x40, 1, 0, 7, 0x40]).unwrap(); // ETag
    assert_eq!(elective.unknown_critical_option(), None);
}

#[test]
fn uint_options_have_their_shortest_form() {
    assert_eq!(uint_bytes(0), b"");
    assert_eq!(uint_bytes(42), [42]);
    assert_eq!(uint_bytes(0x0100), [1, 0]);
    assert_eq!(uint_bytes(u32::MAX), [255; 4]);
}

proptest! {
    #[test]
    fn no_datagram_makes_it_panic(bytes: Vec<u8>) {
        if let Ok(message) = Message::parse(&bytes) {
            let _ = (message.path(), message.queries(), message.observe(), message.token());
            let _ = (message.block1(), message.block2(), message.unknown_critical_option());
        }
    }

    #[test]
    fn what_begins_like_a_header_does_not_panic_either(tail: Vec<u8>, first in 0x40u8..0x80) {
        let mut bytes = vec![first, 1, 0, 1];
        bytes.extend(tail);
        let _ = Message::parse(&bytes);
    }
}

use proptest::prelude::*;

use super::*;

fn rejected(bytes: &[u8]) -> Malformed {
    Message::parse(bytes).unwrap_err()
}

#[test]
fn a_put_written_by_hand_reads_as_one_written_by_the_library() {
    let token = Token::new(&[1, 2, 3, 4]);
    let by_hand = put_downlink(0x1234, token, Bytes::from_static(b"frame"));
    let by_library = MessageBuilder::new(Kind::Confirmable, Code::PUT, 0x1234, token)
        .path("19")
        .path("1")
        .path("0")
        .content_format(ContentFormat::OCTET_STREAM)
        .payload(b"frame".to_vec())
        .build();
    assert_eq!(by_hand.to_bytes(), by_library);
}

#[test]
fn a_response_written_by_hand_reads_as_one_written_by_the_library() {
    for kind in [Kind::Confirmable, Kind::NonConfirmable] {
        for (token, payload) in [(&[][..], &b"representation"[..]), (&[7; 8], b"")] {
            let request = MessageBuilder::new(kind, Code::GET, 0x1234, Token::new(token)).build();
            let request = Message::parse(&request).unwrap();
            let by_library = MessageBuilder::response(&request, Code::CONTENT, 9)
                .payload(payload.to_vec())
                .build();
            let by_hand = short_response(&request, Code::CONTENT, 9, Bytes::from_static(payload));
            assert_eq!(by_hand.to_bytes(), by_library);
        }
    }
}

#[test]
fn malformed_datagrams_are_reset_when_confirmable_and_ignored_otherwise() {
    use MalformedReason as R;
    let table: [(&[u8], R, bool); 13] = [
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
        (&[0x61, 0, 0, 7, 1, 0xB0], R::Format, false), // nor with a token
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
fn an_empty_message_may_have_a_token_and_nothing_else() {
    for first in [0x61, 0x71] {
        let bytes = [first, 0, 0, 7, 1];
        let message = Message::parse(&bytes).unwrap();
        assert_eq!((message.code(), message.message_id()), (Code::EMPTY, 7));
    }
}

#[test]
fn an_option_that_may_not_be_repeated_is_unknown_the_second_time() {
    for (options, unknown) in [
        (&[0xD1, 4, 40, 0x01, 40][..], Some(17)), // Accept
        (&[0x31, b'h', 0x01, b'h'], Some(3)),     // Uri-Host
        (&[0xD1, 14, 0, 0x01, 0], Some(27)),      // Block1
        (&[0xB1, b'a', 0x01, b'b', 0x41, b'c', 0x01, b'd'], None), // Uri-Path, Uri-Query
        (&[0xC1, 40, 0x01, 40], None),            // Content-Format is elective
    ] {
        let bytes = [&[0x40, 1, 0, 7][..], options].concat();
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(message.unknown_critical_option(), unknown, "{options:02x?}");
    }
}

#[test]
fn uint_options_have_their_shortest_form() {
    assert_eq!(uint_bytes(0), b"");
    assert_eq!(uint_bytes(42), [42]);
    assert_eq!(uint_bytes(0x0100), [1, 0]);
    assert_eq!(uint_bytes(u32::MAX), [255; 4]);
}

/// The library's reading of a datagram, which agrees with ours in what is malformed, but for one thing: it takes a
/// payload marker without payload. An encoding is unique, so such a marker shows as a byte that writing the message
/// anew does not yield.
fn read_by_library(bytes: &[u8]) -> Option<Packet> {
    let packet = Packet::from_bytes(bytes).ok()?;
    let whole = !packet.payload.is_empty()
        || bytes.last() != Some(&PAYLOAD_MARKER)
        || (packet.to_bytes_unlimited()).is_ok_and(|again| again.len() == bytes.len());
    whole.then_some(packet)
}

/// A header, and options that are mostly whole.
fn almost_a_message() -> impl Strategy<Value = Vec<u8>> {
    let option = (
        0u8..15,
        proptest::collection::vec(any::<u8>(), 0..20),
        0u8..3,
    );
    let options = proptest::collection::vec(option, 0..6);
    let payload = proptest::collection::vec(any::<u8>(), 0..20);
    (0x40u8..0x4A, 0x40u8..0x46, options, payload, 0usize..4).prop_map(
        |(first, code, options, payload, cut)| {
            let mut bytes = vec![first, code, 0, 7];
            bytes.extend(vec![5; usize::from(first & 15)]);
            for (delta, value, extension) in options {
                let len = u8::try_from(value.len()).unwrap();
                bytes.push(delta << 4 | len.min(13));
                bytes.extend(vec![
                    extension;
                    if delta > 12 {
                        usize::from(delta) - 12
                    } else {
                        0
                    }
                ]);
                if len > 12 {
                    bytes.push(len - 13);
                }
                bytes.extend(value);
            }
            if !payload.is_empty() {
                bytes.push(PAYLOAD_MARKER);
                bytes.extend(payload);
            }
            bytes.truncate(bytes.len() - cut.min(bytes.len() - 4));
            bytes
        },
    )
}

fn check_against_library(bytes: &[u8]) {
    let Ok(message) = Message::parse(bytes) else {
        // ours knows more reasons: lengths, codes, empty messages that are not empty
        let class = bytes.get(1).map_or(0, |code| code >> 5);
        let may_be_read = bytes.get(1) != Some(&0) && !matches!(class, 1 | 3 | 6 | 7);
        if bytes.first().is_some_and(|first| first >> 6 == 1) && may_be_read && bytes.len() <= 1_500
        {
            assert!(read_by_library(bytes).is_none(), "{bytes:02x?}");
        }
        return;
    };
    let packet = read_by_library(bytes).expect("the library reads it too");
    assert_eq!(message.code().0, u8::from(packet.header.code));
    assert_eq!(message.message_id(), packet.header.message_id);
    assert_eq!(message.token().as_bytes(), packet.get_token());
    assert_eq!(message.payload(), packet.payload);
    let ours: Vec<(u16, Vec<u8>)> = (message.options())
        .map(|(number, value)| (number, value.to_vec()))
        .collect();
    let theirs: Vec<(u16, Vec<u8>)> = (packet.options())
        .flat_map(|(number, values)| values.iter().map(|value| (*number, value.clone())))
        .collect();
    assert_eq!(ours, theirs);
}

proptest! {
    #[test]
    fn a_message_reads_as_the_library_reads_it(bytes in almost_a_message()) {
        check_against_library(&bytes);
    }

    #[test]
    fn garbage_reads_as_the_library_reads_it(mut bytes: Vec<u8>, first in 0x40u8..0x80) {
        if let Some(byte) = bytes.first_mut() {
            *byte = first;
        }
        check_against_library(&bytes);
    }

    #[test]
    fn no_datagram_makes_it_panic(bytes: Vec<u8>) {
        if let Ok(message) = Message::parse(&bytes) {
            let _ = (message.path(), message.queries().count(), message.observe());
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

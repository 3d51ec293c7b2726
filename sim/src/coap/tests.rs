use proptest::{collection::vec, prelude::*};

use super::*;

fn message_type() -> impl Strategy<Value = MessageType> {
    prop_oneof![
        Just(MessageType::Confirmable),
        Just(MessageType::NonConfirmable),
        Just(MessageType::Acknowledgement),
        Just(MessageType::Reset),
    ]
}

fn code() -> impl Strategy<Value = Code> {
    prop_oneof![
        (1..32_u8).prop_map(|detail| Code::new(0, detail)),
        (2..=5_u8, 0..32_u8).prop_map(|(class, detail)| Code::new(class, detail)),
    ]
}

proptest! {
    #[test]
    fn messages_come_back_as_they_were(
        message_type in message_type(),
        code in code(),
        id: u16,
        token in vec(any::<u8>(), 0..=8),
        options in vec((any::<u16>(), vec(any::<u8>(), 0..400)), 0..6),
        payload in vec(any::<u8>(), 0..40),
    ) {
        let mut options = options;
        options.sort_by_key(|(number, _)| *number);
        let token = Token::new(&token).unwrap();
        let writer = options.iter().fold(
            Writer::new(message_type, code, id, token),
            |writer, (number, value)| writer.option(*number, value),
        );
        let bytes = writer.payload(&payload);
        let message = Message::parse(&bytes).unwrap();
        prop_assert_eq!(message.message_type, message_type);
        prop_assert_eq!(message.code, code);
        prop_assert_eq!(message.id, id);
        prop_assert_eq!(message.token, token);
        let found: Vec<_> = message.options().map(|(n, value)| (n, value.to_vec())).collect();
        prop_assert_eq!(found, options);
        prop_assert_eq!(message.payload, payload);
    }

    #[test]
    fn integers_come_back_as_they_were(number: u16, value: u32) {
        let bytes = Writer::new(MessageType::Confirmable, Code::GET, 0, Token::default())
            .uint(number, value)
            .finish();
        prop_assert_eq!(Message::parse(&bytes).unwrap().uint(number), Some(value));
    }

    #[test]
    fn any_datagram_is_read_or_refused(mut bytes in vec(any::<u8>(), 0..80), plausible: bool) {
        if let (true, Some(first)) = (plausible, bytes.first_mut()) {
            *first = 0x40 | (*first & 0x33);
        }
        if let Ok(message) = Message::parse(&bytes) {
            for (number, _) in message.options() {
                message.uint(number);
            }
        }
    }
}

#[test]
fn reads_a_published_message() {
    // RFC 7252 appendix A, figure 16: GET coap://…/temperature, message ID 0x7d34.
    let bytes = b"\x40\x01\x7d\x34\xbbtemperature";
    let message = Message::parse(bytes).unwrap();
    assert_eq!(message.code, Code::GET);
    assert_eq!(message.id, 0x7d34);
    let path: Vec<_> = message.values(option::URI_PATH).collect();
    assert_eq!(path, [b"temperature"]);
    let written = Writer::new(
        MessageType::Confirmable,
        Code::GET,
        0x7d34,
        Token::default(),
    )
    .option(option::URI_PATH, b"temperature")
    .finish();
    assert_eq!(written, bytes);
}

#[test]
fn each_malformed_datagram_has_its_own_error() {
    let cases: [(&[u8], ParseError); 9] = [
        (&[0x40, 0x01, 0], ParseError::TooShort { len: 3 }),
        (&[0x42, 0x01, 0, 0, 9], ParseError::TooShort { len: 5 }),
        (&[0x80, 0x01, 0, 0], ParseError::Version(2)),
        (&[0x49, 0x01, 0, 0], ParseError::TokenLength(9)),
        (&[0x40, 0x21, 0, 0], ParseError::ReservedCode(Code(0x21))),
        (
            &[0x40, 0, 0, 0, 0xFF],
            ParseError::EmptyWithContent { len: 5 },
        ),
        (&[0x40, 0x01, 0, 0, 0xB5], ParseError::Option { after: 0 }),
        (
            &[0x40, 0x01, 0, 0, 0xB0, 0x1F],
            ParseError::Option { after: 11 },
        ),
        (&[0x40, 0x01, 0, 0, 0xFF], ParseError::MissingPayload),
    ];
    for (bytes, error) in cases {
        assert_eq!(Message::parse(bytes).unwrap_err(), error, "{bytes:02X?}");
    }
}

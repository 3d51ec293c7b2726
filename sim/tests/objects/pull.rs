//! Packages that devices fetch.

use sim::{
    Character, Fault, Image, Port, UpdatesBy,
    coap::{Block, Code, MessageType, Token, Writer, option},
    device::{DeviceState, Outcome},
    spec::NotificationType,
};

use super::field::{Field, Sent, URI, package, spec, version};

const PULLING: [Character; 4] = [
    Character::Leshan,
    Character::Anjay,
    Character::Zephyr,
    Character::Nrf,
];

/// A device that has been told where its package is.
fn told(character: Character) -> Field {
    let mut field = Field::new(spec(UpdatesBy::Firmware, character));
    assert_eq!(field.write("5/0/1", b""), Some(Code::CHANGED));
    assert_eq!(field.write("5/0/1", URI.as_bytes()), Some(Code::CHANGED));
    assert_eq!(field.number("5/0/3"), Some(1));
    field
}

fn sizes(asked: &[Sent]) -> Vec<Option<u16>> {
    let mut sizes: Vec<_> = (asked.iter())
        .map(|sent| sent.block(option::BLOCK2).map(Block::size))
        .collect();
    sizes.dedup();
    sizes
}

#[test]
fn every_client_pulls_a_package_whole_in_spite_of_losses() {
    for character in PULLING {
        for size in [64, 256, 1024] {
            for loses in [0, 3, 7] {
                let mut field = told(character);
                (field.serving.size, field.serving.loses) = (size, loses);
                field.pass(12 * 3_600_000);
                let what = format!("{character:?} {size} {loses}");
                assert_eq!(field.number("5/0/3"), Some(2), "{what}");
                assert_eq!(field.number("5/0/5"), Some(0), "{what}");
                assert_eq!(field.device.image(), Some(&*package()), "{what}");
                let image = field.device.report().image.unwrap();
                assert_eq!(image.len_bytes, 5_000);
                assert_eq!(image.check_code, pcp::checksum(&package()));
                assert_eq!(image.segments, image.segment_count);
            }
        }
    }
}

#[test]
fn every_client_is_upgraded_and_says_so() {
    for character in PULLING {
        let mut field = told(character);
        field.pass(600_000);
        assert_eq!(field.device.report().state, DeviceState::Downloaded);
        assert_eq!(field.execute("5/0/2", ""), Some(Code::CHANGED));
        assert_eq!(field.number("5/0/3"), Some(3));
        field.pass(1_000);
        assert_eq!(field.device.report().state, DeviceState::Off);
        assert_eq!(
            (field.registrations, field.device.version()),
            (1, version("V1"))
        );
        field.pass(60_000);
        assert_eq!((field.registrations, field.address_changes), (2, 1));
        assert_eq!(field.text("3/0/3").as_deref(), Some("V2"));
        // nRF's image has to prove itself
        let unsure = character == Character::Nrf;
        assert_eq!(
            field.number("5/0/5"),
            Some(u8::from(!unsure)),
            "{character:?}"
        );
        assert_eq!(field.number("5/0/3"), Some(if unsure { 3 } else { 0 }));
        field.pass(60_000);
        assert_eq!(
            (field.number("5/0/3"), field.number("5/0/5")),
            (Some(0), Some(1))
        );
        assert_eq!(field.device.outcome(), Some(Outcome::Upgraded));
        assert!(field.device.is_settled());
    }
}

#[test]
fn clients_ask_for_blocks_in_their_own_ways() {
    for character in PULLING {
        let mut field = told(character);
        field.pass(600_000);
        let first = &field.asked[0];
        assert_eq!(
            first.values(option::URI_PATH),
            ["p", "AAECAwQFBgcICQoLDA0ODw"]
        );
        assert!(first.values(option::URI_QUERY).is_empty());
        let tokens = |field: &Field| {
            let mut tokens: Vec<_> = (field.asked.iter())
                .map(|sent| sent.message().token.as_slice().to_vec())
                .collect();
            tokens.sort_unstable();
            tokens.dedup();
            tokens.len()
        };
        let asks_size = first.message().uint(option::SIZE2).is_some();
        let seen = (field.ports(), sizes(&field.asked), asks_size);
        let expected = match character {
            Character::Leshan => (vec![Port::Main], vec![Some(512)], false),
            Character::Anjay => (vec![Port::Download(1)], vec![None, Some(512)], false),
            Character::Zephyr => (vec![Port::Download(1)], vec![Some(256)], true),
            _ => (vec![Port::Download(1)], vec![Some(1024)], false),
        };
        assert_eq!(seen, expected, "{character:?}");
        let count = if character == Character::Zephyr {
            1
        } else {
            field.asked.len()
        };
        assert_eq!(tokens(&field), count, "{character:?}");
    }
}

#[test]
fn where_a_download_leads_is_told_while_it_lasts() {
    let mut field = told(Character::Anjay);
    let (number, to) = field.device.download().unwrap();
    assert_eq!((number, to.to_string()), (1, "192.0.2.1:5683".to_owned()));
    assert!(!to.secure);
    field.pass(600_000);
    assert!(field.device.download().is_none());
    let field = told(Character::Leshan);
    assert!(field.device.download().is_none(), "it has one socket");
}

#[test]
fn answers_that_do_not_come_are_asked_for_again_and_then_given_up() {
    for character in PULLING {
        let mut field = told(character);
        field.serving.loses = 1;
        field.pass(4 * 3_600_000);
        let connections = if character == Character::Nrf { 4 } else { 1 };
        assert_eq!(field.asked.len(), connections * 5, "{character:?}");
        assert_eq!(field.ports().len(), connections);
        let [first, again] = [0, 1].map(|index| field.asked[index].message());
        assert_eq!(first.id, again.id);
        assert_eq!(first.token == again.token, character != Character::Nrf);
        assert_eq!(
            (field.number("5/0/3"), field.number("5/0/5")),
            (Some(0), Some(4))
        );
        assert_eq!(field.device.outcome(), Some(Outcome::Result(4)));
    }
}

#[test]
fn any_answer_but_content_ends_a_download() {
    for character in PULLING {
        for (code, knows) in [
            (Code::NOT_FOUND, 7),
            (Code::new(5, 3), 4),
            (Code::new(4, 29), 4),
        ] {
            let mut field = told(character);
            field.serving.refuses = Some(code);
            field.pass(10_000);
            let knows = match character {
                Character::Zephyr | Character::Nrf => 4,
                _ => knows,
            };
            assert_eq!(field.number("5/0/5"), Some(knows), "{character:?} {code}");
            assert_eq!(field.asked.len(), 1);
        }
    }
}

#[test]
fn nrf_takes_no_answer_but_in_the_acknowledgement() {
    for character in PULLING {
        let mut field = told(character);
        field.serving.separately = true;
        field.pass(4 * 3_600_000);
        let takes = character != Character::Nrf;
        let state = if takes { 2 } else { 0 };
        assert_eq!(field.number("5/0/3"), Some(state), "{character:?}");
    }
}

#[test]
fn nrf_ignores_an_answer_with_the_token_of_an_earlier_repeat() {
    let mut field = told(Character::Nrf);
    field.serving.loses = 1;
    field.pass(20_000);
    assert_eq!(field.asked.len(), 2);
    let answer = |asked: &Sent| {
        let message = asked.message();
        Writer::new(
            MessageType::Acknowledgement,
            Code::CONTENT,
            message.id,
            message.token,
        )
        .uint(option::BLOCK2, Block::at(0, 1024, true).unwrap().value())
        .payload(&package()[..1024])
    };
    let [late, now] = [0, 1].map(|index| answer(&field.asked[index]));
    let port = field.asked[0].port;
    let received = |field: &Field| field.device.report().counters.segments_received;
    field.device.handle_datagram_at(field.now_ms, port, &late);
    assert_eq!(received(&field), 0);
    field.device.handle_datagram_at(field.now_ms, port, &now);
    assert_eq!(received(&field), 1);
}

#[test]
fn a_changed_package_is_noticed_by_its_etag_or_by_its_check() {
    for character in PULLING {
        let mut field = told(character);
        field.pass(3_000);
        assert!(!field.asked.is_empty());
        field.serving.etag = b"other".to_vec();
        field.serving.content.fill(7);
        field.pass(600_000);
        let result = match character {
            Character::Anjay | Character::Leshan => 4,
            _ => 5,
        };
        assert_eq!(field.number("5/0/5"), Some(result), "{character:?}");
        assert_eq!(field.device.report().image, None);
    }
}

#[test]
fn what_a_device_was_not_told_to_expect_is_not_installed() {
    for content in [
        &package()[..4_999],
        b"other",
        &[&package()[..], b"x"].concat(),
    ] {
        let mut field = told(Character::Zephyr);
        field.serving.content = content.to_vec();
        field.pass(600_000);
        assert_eq!(
            (field.number("5/0/3"), field.number("5/0/5")),
            (Some(0), Some(5))
        );
        assert_eq!(field.execute("5/0/2", ""), Some(Code::METHOD_NOT_ALLOWED));
    }
}

#[test]
fn a_device_knows_several_packages_by_their_content() {
    let mut spec = spec(UpdatesBy::Firmware, Character::Anjay);
    let other = Image::new(version("V3"), b"another");
    spec.object.images = [spec.object.images[0].clone(), other].into();
    let mut field = Field::new(spec);
    field.serving.content = b"another".to_vec();
    field.write("5/0/1", URI.as_bytes());
    field.pass(10_000);
    assert_eq!(field.text("5/0/7").as_deref(), Some("V3"));
    field.execute("5/0/2", "");
    field.pass(120_000);
    assert_eq!(field.device.version(), version("V3"));
}

#[test]
fn a_restart_is_resumed_by_anjay_and_forgotten_by_the_others() {
    for character in PULLING {
        let mut field = told(character);
        field.serving.size = 256;
        field.pass(4_500);
        let before = field.asked.len();
        assert!((3..10).contains(&before), "{before}");
        assert!(field.device.lose_power(field.now_ms, 10_000));
        field.pass(600_000);
        assert_eq!(field.address_changes, 1);
        if character == Character::Anjay {
            assert_eq!(field.number("5/0/3"), Some(2));
            assert_eq!(field.asked.len(), 20, "none is asked for twice");
            assert_eq!(field.ports(), [Port::Download(1), Port::Download(2)]);
            assert_eq!(field.device.image(), Some(&*package()));
        } else {
            assert_eq!(
                (field.number("5/0/3"), field.number("5/0/5")),
                (Some(0), Some(0))
            );
            assert_eq!(field.asked.len(), before);
            assert_eq!(field.device.report().image, None);
        }
    }
}

#[test]
fn a_resumed_download_notices_that_the_package_has_changed() {
    let mut field = told(Character::Anjay);
    field.pass(4_500);
    field.device.lose_power(field.now_ms, 10_000);
    field.serving.etag = b"other".to_vec();
    field.pass(600_000);
    assert_eq!(
        (field.number("5/0/3"), field.number("5/0/5")),
        (Some(0), Some(4))
    );
}

#[test]
fn uris_are_taken_as_the_client_takes_them() {
    let long = format!("coap://192.0.2.1/p/{}", "a".repeat(120));
    let cases = [
        ("coap://", Some(Code::CHANGED), 7),
        ("mqtt://a/b", Some(Code::CHANGED), 9),
        // without a key there is no DTLS
        ("coaps://192.0.2.1/p/x", Some(Code::CHANGED), 9),
        (&long, Some(Code::INTERNAL_SERVER_ERROR), 0),
    ];
    for (uri, code, result) in cases {
        let mut field = Field::new(spec(UpdatesBy::Firmware, Character::Zephyr));
        assert_eq!(field.write("5/0/1", uri.as_bytes()), code, "{uri}");
        assert_eq!(
            (field.number("5/0/3"), field.number("5/0/5")),
            (Some(0), Some(result))
        );
    }
    let mut field = Field::new(spec(UpdatesBy::Firmware, Character::Anjay));
    assert_eq!(field.write("5/0/1", long.as_bytes()), Some(Code::CHANGED));
    assert_eq!(field.number("5/0/3"), Some(1));

    // as TLV
    let mut field = Field::new(spec(UpdatesBy::Firmware, Character::Leshan));
    let tlv = [
        &[0xC8, 1, u8::try_from(URI.len()).unwrap()][..],
        URI.as_bytes(),
    ]
    .concat();
    let finish = |writer: Writer| writer.uint(option::CONTENT_FORMAT, 11_542).payload(&tlv);
    let sent = field.ask(Code::PUT, "5/0/1", finish).unwrap();
    assert_eq!(sent.code(), Code::CHANGED);
    assert_eq!(field.text("5/0/1").as_deref(), Some(URI));
}

#[test]
fn a_new_uri_in_mid_download_is_refused_or_begins_anew() {
    for character in PULLING {
        let mut field = told(character);
        field.pass(4_000);
        let begins = matches!(character, Character::Zephyr | Character::Nrf);
        let code = if begins {
            Code::CHANGED
        } else {
            Code::BAD_REQUEST
        };
        assert_eq!(
            field.write("5/0/1", URI.as_bytes()),
            Some(code),
            "{character:?}"
        );
        field.pass(600_000);
        assert_eq!(field.number("5/0/3"), Some(2));
        assert_eq!(field.ports().len(), 1 + usize::from(begins));
        assert_eq!(field.device.image(), Some(&*package()));
    }
}

#[test]
fn an_empty_uri_a_nul_and_cancel_reset() {
    for state in [1, 2] {
        for way in 0..3 {
            let mut field = told(Character::Anjay);
            field.pass(if state == 1 { 3_000 } else { 600_000 });
            assert_eq!(field.number("5/0/3"), Some(state));
            let (code, result) = match way {
                0 => (field.write("5/0/1", b""), 0),
                1 => (field.write("5/0/0", b"\0"), 0),
                _ => (field.execute("5/0/10", ""), 10),
            };
            assert_eq!(code, Some(Code::CHANGED));
            let asked = field.asked.len();
            field.pass(600_000);
            assert_eq!(field.asked.len(), asked, "it does not go on");
            assert_eq!(
                (field.number("5/0/3"), field.number("5/0/5")),
                (Some(0), Some(result))
            );
        }
    }
    let mut field = told(Character::Zephyr);
    assert_eq!(field.execute("5/0/10", ""), Some(Code::METHOD_NOT_ALLOWED));
}

#[test]
fn what_changes_is_notified_to_those_who_observe_it() {
    for notifications in [
        NotificationType::Confirmable,
        NotificationType::NonConfirmable,
    ] {
        let mut spec = spec(UpdatesBy::Firmware, Character::Leshan);
        spec.behaviour.notifications = notifications;
        let mut field = Field::new(spec);
        let state = field.observe("5/0/3").unwrap();
        let result = field.observe("5/0/5").unwrap();
        assert!(state.message().uint(option::OBSERVE).is_some());
        field.write("5/0/1", URI.as_bytes());
        field.pass(600_000);
        let of = |field: &Field, observed: &Sent| -> Vec<u8> {
            let token = observed.message().token.as_slice().to_vec();
            let told = field.told.iter().filter(|(of, _)| *of == token);
            told.map(|(_, payload)| *payload.last().unwrap()).collect()
        };
        assert_eq!(of(&field, &state), [1, 2]);
        field.execute("5/0/2", "");
        assert_eq!(of(&field, &state), [1, 2, 3]);
        field.pass(600_000);
        // an observation ends with its registration
        assert_eq!(of(&field, &state).len(), 3);
        assert!(of(&field, &result).is_empty());
        let result = field.observe("5/0/5").unwrap();
        assert_eq!(result.message().payload, [0xC1, 5, 1]);
        field.write("5/0/1", b"");
        assert_eq!(of(&field, &result), [0]);
    }
}

#[test]
fn attributes_are_taken_or_refused_and_what_is_observed_is_told_again() {
    let attributes = |field: &mut Field| {
        let finish = |writer: Writer| {
            let writer = writer.option(option::URI_QUERY, b"pmin=0");
            writer.option(option::URI_QUERY, b"pmax=600").finish()
        };
        field.ask(Code::PUT, "5/0/3", finish).unwrap().code()
    };
    let mut field = Field::new(spec(UpdatesBy::Firmware, Character::Zephyr));
    assert_eq!(attributes(&mut field), Code::CHANGED);
    field.observe("5/0/3");
    field.pass(1_900_000);
    assert_eq!(field.told.len(), 3);
    let mut field = Field::new(spec(UpdatesBy::Firmware, Character::PushOnly));
    assert_eq!(attributes(&mut field), Code::METHOD_NOT_ALLOWED);
}

#[test]
fn a_reset_ends_an_observation() {
    let mut field = Field::new(spec(UpdatesBy::Firmware, Character::Leshan));
    field.observe("5/0/3");
    field.write("5/0/1", URI.as_bytes());
    assert_eq!(field.told.len(), 1);
    // the last message that it sent of its own accord
    let ids: Vec<u16> = (0..=u16::MAX).collect();
    for id in ids {
        let reset = Writer::empty(MessageType::Reset, id);
        field.device.handle_datagram(field.now_ms, &reset);
    }
    field.write("5/0/1", b"");
    assert_eq!(field.told.len(), 1);
}

#[test]
fn the_objects_are_announced_and_read_whole() {
    let cases = [
        (UpdatesBy::Firmware, "</5/0>"),
        (UpdatesBy::Software, "</9/0>,</9/1>"),
        (UpdatesBy::Components, "</33629/0>,</33629/1>"),
    ];
    for (by, links) in cases {
        let mut device = sim::Device::new(spec(by, Character::Leshan));
        device.start(0);
        let (port, datagram) = device.poll_transmit_from().unwrap();
        let message = sim::coap::Message::parse(&datagram).unwrap();
        let expected = format!("</>;rt=\"oma.lwm2m\",</1/0>,</3/0>,</4/0>,{links}");
        assert_eq!((port, message.payload), (Port::Main, expected.as_bytes()));
    }
    let mut field = Field::new(spec(UpdatesBy::Firmware, Character::Leshan));
    let sent = field.ask(Code::GET, "5/0", Writer::finish).unwrap();
    let expected = [
        &[0xC0, 1, 0xC1, 3, 0, 0xC1, 5, 0][..],
        &[0x83, 8, 0x41, 0, 0],
        &[0xC1, 9, 2],
    ];
    assert_eq!(sent.message().payload, expected.concat());
    for path in ["5/1/3", "5/0/77", "9/0/7", "19/0/0"] {
        let sent = field.ask(Code::GET, path, Writer::finish).unwrap();
        assert_eq!(sent.code(), Code::NOT_FOUND, "{path}");
    }
}

#[test]
fn a_repeated_request_changes_nothing() {
    let mut field = told(Character::Zephyr);
    field.pass(600_000);
    let id = field.take_id();
    let token = Token::new(b"once").unwrap();
    for _ in 0..2 {
        let sent = field
            .ask_with(Code::POST, "5/0/2", id, token, Writer::finish)
            .unwrap();
        assert_eq!(sent.code(), Code::CHANGED);
    }
    assert_eq!(field.device.report().counters.duplicates, 1);
    assert_eq!(
        field.execute("5/0/2", ""),
        Some(Code::CHANGED),
        "nor does a second one"
    );
    field.pass(600_000);
    assert_eq!(
        (field.registrations, field.device.version()),
        (2, version("V2"))
    );
}

#[test]
fn a_stub_takes_everything_and_does_nothing() {
    let mut field = Field::new(spec(UpdatesBy::Firmware, Character::Stub));
    assert_eq!(field.write("5/0/1", URI.as_bytes()), Some(Code::CHANGED));
    assert_eq!(field.push("5/0/0", 512, &package()), Some(Code::CHANGED));
    field.pass(600_000);
    assert_eq!((field.number("5/0/3"), field.asked.len()), (Some(0), 0));
    assert!(field.device.is_settled());
}

#[test]
fn a_device_that_sleeps_stays_awake_over_its_download() {
    let mut spec = spec(UpdatesBy::Firmware, Character::Zephyr);
    spec.behaviour.queue_mode = Some(sim::spec::QueueMode {
        awake_ms: 20_000,
        sleep_ms: 600_000,
    });
    let mut field = Field::new(spec);
    field.serving.loses = 3;
    field.write("5/0/1", URI.as_bytes());
    field.pass(3_000_000);
    assert_eq!(field.device.image(), Some(&*package()));
}

#[test]
fn blocks_are_asked_for_twice_or_out_of_order() {
    let offsets = |fault: &str| {
        let mut spec = spec(UpdatesBy::Firmware, Character::Anjay);
        spec.fault = Some(fault.parse::<Fault>().unwrap());
        let mut field = Field::new(spec);
        field.write("5/0/1", URI.as_bytes());
        field.pass(600_000);
        assert_eq!(field.device.image(), Some(&*package()));
        let block = |sent: &Sent| sent.block(option::BLOCK2).map_or(0, |block| block.number);
        field.asked.iter().map(block).collect::<Vec<_>>()
    };
    assert_eq!(offsets("repeats-blocks")[..6], [0, 0, 1, 1, 2, 2]);
    assert_eq!(offsets("asks-out-of-order"), [0, 2, 1, 4, 3, 6, 5, 8, 7, 9]);
}

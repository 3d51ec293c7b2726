use proptest::prelude::*;

use super::*;

const UPLINK: ResourcePath = ResourcePath::UPLINK;
const DOWNLINK: ResourcePath = ResourcePath::DOWNLINK;

const CONTAINERS: [Container; 9] = [
    Container::Text,
    Container::Cbor,
    Container::SenmlJson,
    Container::SenmlCbor,
    Container::Tlv,
    Container::TlvOld,
    Container::Json,
    Container::JsonOld,
    Container::Lwm2mCbor,
];

fn bytes_of(hex: &str) -> Vec<u8> {
    hex::decode(hex.replace([' ', '\n'], "")).unwrap()
}

/// The values as text, whether the resource has instances, and in which format the bytes came.
fn opaque(content_format: Option<u16>, payload: &[u8]) -> (Vec<String>, Option<Wrapping>) {
    let opaque = opaque_of(content_format, &UPLINK, payload)
        .unwrap_or_else(|e| panic!("{e}: {payload:02x?}"));
    let values = opaque.values.iter();
    (values.map(hex::encode).collect(), opaque.wrapping)
}

fn wrapped(
    container: Container,
    multiple: bool,
    values: &[&str],
) -> (Vec<String>, Option<Wrapping>) {
    let values = values.iter().map(|&value| value.to_owned());
    let wrapping = Wrapping {
        container,
        multiple,
    };
    (values.collect(), Some(wrapping))
}

#[test]
fn bare_bytes_are_handed_on_as_they_are() {
    let payload = bytes_of("FFFE 01 13 4C9A 0000");
    for content_format in [None, Some(42)] {
        assert_eq!(
            opaque_of(content_format, &UPLINK, &payload),
            Ok(Opaque {
                values: vec![Cow::Borrowed(&payload[..])],
                wrapping: None,
            })
        );
    }
    assert_eq!(
        opaque(Some(42), b"[1]").0,
        ["5b315d"],
        "whatever it looks like"
    );
    assert_eq!(opaque(None, b"data").0, ["64617461"]);
}

#[test]
fn tlv_holds_a_value_or_its_instances() {
    for content_format in [Some(11_542), Some(0), None] {
        for (hex, multiple, values) in [
            (
                "C8 00 08 FFFE01134C9A0000",
                false,
                &["fffe01134c9a0000"][..],
            ),
            ("E8 0000 08 FFFE01134C9A0000", false, &["fffe01134c9a0000"]),
            ("C2 00 FFFE", false, &["fffe"]),
            ("C0 00", false, &[""]),
            ("84 00 42 00 FFFE", true, &["fffe"]),
            ("87 00 42 00 FFFE 41 01 AB", true, &["fffe", "ab"]),
            ("80 00", true, &[]),
        ] {
            let expected = wrapped(Container::Tlv, multiple, values);
            assert_eq!(opaque(content_format, &bytes_of(hex)), expected, "{hex}");
        }
    }
    // labels that say so are needed where the instances stand alone, or in their object's instance
    let alone = "42 00 FFFE 42 07 ABCD";
    let expected = wrapped(Container::Tlv, true, &["fffe", "abcd"]);
    assert_eq!(opaque(Some(11_542), &bytes_of(alone)), expected);
    let instance = "08 00 0A C2 00 FFFE C4 05 01020304 08 01 04 C2 00 ABCD";
    let expected = wrapped(Container::TlvOld, false, &["fffe"]);
    assert_eq!(opaque(Some(1_542), &bytes_of(instance)), expected);
}

#[test]
fn text_is_base64() {
    let expected = wrapped(Container::Text, false, &["fffe01134c9a0000"]);
    for text in [
        "//4BE0yaAAA=",
        "//4BE0yaAAA",
        "__4BE0yaAAA",
        " //4BE0yaAAA=\r\n",
    ] {
        assert_eq!(opaque(Some(0), text.as_bytes()), expected, "{text}");
    }
    for text in ["!", "data, not base64", "A", "\u{e4}"] {
        let refused = opaque_of(Some(0), &UPLINK, text.as_bytes());
        assert!(matches!(refused, Err(ContentError::NotBytes(_))), "{text}");
    }
    let refused = opaque_of(Some(0), &UPLINK, &[0xFF, 0xFE]);
    assert!(matches!(refused, Err(ContentError::Malformed { .. })));
}

#[test]
fn senml_and_json_name_what_they_hold() {
    for (content_format, payload, container, multiple, values) in [
        (
            110,
            r#"[{"bn":"/19/0/0","vd":"__4"}]"#,
            Container::SenmlJson,
            false,
            &["fffe"][..],
        ),
        (
            110,
            r#"[{"n":"/19/0/0","vd":"__4"}]"#,
            Container::SenmlJson,
            false,
            &["fffe"],
        ),
        (
            110,
            r#"[{"vd":"__4"}]"#,
            Container::SenmlJson,
            false,
            &["fffe"],
        ),
        (
            110,
            r#"[{"bn":"/19/0/0","vs":"//4="}]"#,
            Container::SenmlJson,
            false,
            &["fffe"],
        ),
        (
            110,
            r#"[{"bn":"/19/0/0/","n":"0","vd":"__4"},{"n":"1","vd":"qw"}]"#,
            Container::SenmlJson,
            true,
            &["fffe", "ab"],
        ),
        (
            110,
            r#"[{"bn":"/19/0/","n":"1","v":7},{"n":"0","vd":"__4"}]"#,
            Container::SenmlJson,
            false,
            &["fffe"],
        ),
        (110, "[]", Container::SenmlJson, false, &[]),
        (
            11_543,
            r#"{"bn":"/19/0/0","e":[{"n":"","sv":"//4="}]}"#,
            Container::Json,
            false,
            &["fffe"],
        ),
        (
            11_543,
            r#"{"bn":"/19/0/0","e":[{"sv":"//4="}]}"#,
            Container::Json,
            false,
            &["fffe"],
        ),
        (
            1_543,
            r#"{"bn":"/19/0/0/","e":[{"n":"0","sv":"//4="},{"n":"1","sv":"qw=="}]}"#,
            Container::JsonOld,
            true,
            &["fffe", "ab"],
        ),
    ] {
        let expected = wrapped(container, multiple, values);
        assert_eq!(
            opaque(Some(content_format), payload.as_bytes()),
            expected,
            "{payload}"
        );
    }
    for content_format in [None, Some(0)] {
        let payload = br#"[{"bn":"/19/0/0","vd":"__4"}]"#;
        let expected = wrapped(Container::SenmlJson, false, &["fffe"]);
        assert_eq!(opaque(content_format, payload), expected);
        let payload = br#"{"bn":"/19/0/0","e":[{"n":"","sv":"//4="}]}"#;
        let expected = wrapped(Container::Json, false, &["fffe"]);
        assert_eq!(opaque(content_format, payload), expected);
    }
}

#[test]
fn several_records_come_in_the_order_of_their_times() {
    let payload = br#"[{"bn":"/19/0/0","bt":1700000000,"t":2,"vd":"qw"},{"t":1,"vd":"__4"},{"t":2,"vd":"_w"}]"#;
    let expected = wrapped(Container::SenmlJson, false, &["fffe", "ab", "ff"]);
    assert_eq!(opaque(Some(110), payload), expected);
}

#[test]
fn the_formats_on_cbor_hold_bytes_as_they_are() {
    for (content_format, hex, container, multiple, values) in [
        (60, "42 FFFE", Container::Cbor, false, &["fffe"][..]),
        (60, "40", Container::Cbor, false, &[""]),
        (
            112,
            "81 A2 21 67 2F31392F302F30 08 42 FFFE",
            Container::SenmlCbor,
            false,
            &["fffe"],
        ),
        (
            112,
            "82 A3 21 68 2F31392F302F302F 00 61 30 08 42 FFFE A2 00 61 31 08 41 AB",
            Container::SenmlCbor,
            true,
            &["fffe", "ab"],
        ),
        (
            11_544,
            "A1 13 A1 00 A1 00 42 FFFE",
            Container::Lwm2mCbor,
            false,
            &["fffe"],
        ),
        (
            11_544,
            "A1 83 13 00 00 42 FFFE",
            Container::Lwm2mCbor,
            false,
            &["fffe"],
        ),
        (
            11_544,
            "A1 83 13 00 00 A2 00 42 FFFE 01 41 AB",
            Container::Lwm2mCbor,
            true,
            &["fffe", "ab"],
        ),
        (
            11_544,
            "A1 84 13 00 00 00 42 FFFE",
            Container::Lwm2mCbor,
            true,
            &["fffe"],
        ),
    ] {
        let expected = wrapped(container, multiple, values);
        assert_eq!(
            opaque(Some(content_format), &bytes_of(hex)),
            expected,
            "{hex}"
        );
    }
    for hex in [
        "",
        "42 FF",
        "18",
        "42 FFFE 00",
        "80",
        "A0",
        "F6",
        "07",
        "F5",
        "FB 3FF0000000000000",
    ] {
        assert!(
            opaque_of(Some(60), &UPLINK, &bytes_of(hex)).is_err(),
            "{hex}"
        );
    }
}

#[test]
fn what_holds_no_bytes_is_refused() {
    for (content_format, payload) in [
        (110, &br#"[{"bn":"/19/0/0","v":7}]"#[..]),
        (110, br#"[{"bn":"/19/0/0","vb":true}]"#),
        (11_543, br#"{"bn":"/19/0/0","e":[{"n":"","v":7}]}"#),
    ] {
        let refused = opaque_of(Some(content_format), &UPLINK, payload);
        assert!(matches!(refused, Err(ContentError::NotBytes(_))));
    }
    assert_eq!(
        opaque_of(Some(50), &UPLINK, b"{}"),
        Err(ContentError::Format(50))
    );
    let many = [0xC1, 0, 1].repeat(MOST + 1);
    assert_eq!(
        opaque_of(Some(11_542), &UPLINK, &many),
        Err(ContentError::TooManyValues)
    );
}

const MOST: usize = crate::lwm2m::MAX_VALUES;

/// What goes over the air: do not change.
#[test]
fn a_write_is_wrapped_as_the_specification_says() {
    let bytes = bytes_of("FFFE 01 13 4C9A 0000");
    let wrap = |container, multiple| {
        Wrapping {
            container,
            multiple,
        }
        .wrap(&DOWNLINK, &bytes)
    };
    for container in CONTAINERS {
        for multiple in [false, true] {
            let expected = match (container, multiple) {
                (Container::Text, _) => b"//4BE0yaAAA=".to_vec(),
                (Container::Cbor, _) => bytes_of("48 FFFE01134C9A0000"),
                (Container::Tlv | Container::TlvOld, false) => {
                    bytes_of("C8 00 08 FFFE01134C9A0000")
                }
                (Container::Tlv | Container::TlvOld, true) => {
                    bytes_of("88 00 0B 48 00 08 FFFE01134C9A0000")
                }
                (Container::SenmlJson, false) => {
                    br#"[{"bn":"/19/1/0","vd":"__4BE0yaAAA"}]"#.to_vec()
                }
                (Container::SenmlJson, true) => {
                    br#"[{"bn":"/19/1/0/","n":"0","vd":"__4BE0yaAAA"}]"#.to_vec()
                }
                (Container::Json | Container::JsonOld, false) => {
                    br#"{"bn":"/19/1/0","e":[{"n":"","sv":"//4BE0yaAAA="}]}"#.to_vec()
                }
                (Container::Json | Container::JsonOld, true) => {
                    br#"{"bn":"/19/1/0/","e":[{"n":"0","sv":"//4BE0yaAAA="}]}"#.to_vec()
                }
                (Container::SenmlCbor, false) => {
                    bytes_of("81 A2 21 67 2F31392F312F30 08 48 FFFE01134C9A0000")
                }
                (Container::SenmlCbor, true) => {
                    bytes_of("81 A3 21 68 2F31392F312F302F 00 61 30 08 48 FFFE01134C9A0000")
                }
                (Container::Lwm2mCbor, false) => bytes_of("A1 13 A1 01 A1 00 48 FFFE01134C9A0000"),
                (Container::Lwm2mCbor, true) => {
                    bytes_of("A1 13 A1 01 A1 00 A1 00 48 FFFE01134C9A0000")
                }
            };
            assert_eq!(
                wrap(container, multiple),
                expected,
                "{container:?} {multiple}"
            );
        }
    }
}

#[test]
fn what_is_too_long_for_a_datagram_is_wrapped_all_the_same() {
    for len in [65_535, 65_536, 70_000] {
        for container in CONTAINERS {
            let wrapping = Wrapping {
                container,
                multiple: true,
            };
            let content = wrapping.wrap(&UPLINK, &vec![7; len]);
            let read = opaque_of(Some(container.format()), &UPLINK, &content);
            assert_eq!(read, Err(ContentError::TooLong(content.len())));
        }
    }
}

proptest! {
    #[test]
    fn what_was_wrapped_comes_back(
        container in prop::sample::select(&CONTAINERS[..]),
        multiple: bool,
        object: u16,
        instance: u16,
        resource: u16,
        bytes in prop::collection::vec(any::<u8>(), 0..1_500),
    ) {
        let path = ResourcePath::of_resource(object, instance, resource);
        let wrapping = Wrapping { container, multiple };
        let content = wrapping.wrap(&path, &bytes);
        let read = opaque_of(Some(container.format()), &path, &content).unwrap();
        prop_assert_eq!(read.values, [bytes]);
        let tells_instances = !matches!(container, Container::Text | Container::Cbor);
        let multiple = multiple && tells_instances;
        prop_assert_eq!(read.wrapping, Some(Wrapping { container, multiple }));
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        content_format in prop::option::of(prop::sample::select(&[0, 42, 60, 110, 112, 1_542, 1_543, 11_542, 11_543, 11_544, 9][..])),
        payload in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        if let Ok(opaque) = opaque_of(content_format, &UPLINK, &payload) {
            let len: usize = opaque.values.iter().map(|value| value.len()).sum();
            prop_assert!(len <= payload.len(), "more came out than went in");
        }
    }
}

use proptest::prelude::*;

use super::*;

const INSTANCE: ResourcePath = ResourcePath::CONNECTIVITY;
const RSRP: ResourcePath = ResourcePath::RSRP;

fn integers(format: Option<u16>, asked: &ResourcePath, payload: &[u8]) -> Vec<(u16, Option<i64>)> {
    decode(format, asked, payload)
        .unwrap_or_else(|e| panic!("{e}: {payload:02x?}"))
        .iter()
        .map(|(id, value)| (*id, value.as_integer()))
        .collect()
}

fn tlv(asked: &ResourcePath, hex: &str) -> Vec<(u16, Option<i64>)> {
    integers(Some(format::TLV), asked, &bytes(hex))
}

fn bytes(text: &str) -> Vec<u8> {
    hex::decode(text.replace(' ', "")).unwrap()
}

#[test]
fn tlv_reads_an_instance_bare_or_wrapped() {
    let expected = [(2, Some(-95)), (8, Some(0x0102_0304)), (11, Some(7))];
    let bare = "C1 02 A1  C4 08 01020304  C1 0B 07";
    assert_eq!(tlv(&INSTANCE, bare), expected);
    assert_eq!(tlv(&INSTANCE, &format!("08 00 0C {bare}")), expected);
    assert_eq!(
        tlv(&ResourcePath::of_object(4), &format!("08 00 0C {bare}")),
        expected
    );
    assert_eq!(integers(Some(1542), &INSTANCE, &bytes(bare)), expected);
    assert_eq!(integers(None, &INSTANCE, &bytes(bare)), expected);
    assert_eq!(integers(Some(0), &INSTANCE, &bytes(bare)), expected);
}

#[test]
fn tlv_takes_the_instance_that_was_asked_for() {
    let two = "03 00 C1 02 A1  03 01 C1 02 A2";
    assert_eq!(tlv(&INSTANCE, two), [(2, Some(-95))]);
    assert_eq!(tlv(&ResourcePath::of_instance(4, 1), two), [(2, Some(-94))]);
    assert_eq!(tlv(&ResourcePath::of_instance(4, 2), two), []);
    assert_eq!(tlv(&ResourcePath::of_object(4), two), [(2, Some(-95))]);
}

#[test]
fn tlv_reads_a_single_resource() {
    for hex in [
        "C1 02 A1",
        "C2 02 FFA1",
        "E1 0002 A1",
        "C8 02 01 A1",
        "D0 02 0001 A1",
        "D8 02 000001 A1",
        "C8 02 08 FFFFFFFFFFFFFFA1",
        "83 02 41 00 A1",
        "86 02 41 00 A1 41 01 A2",
        "41 00 A1",
        "C1 01 00 C1 02 A1",
    ] {
        assert_eq!(tlv(&RSRP, hex), [(2, Some(-95))], "{hex}");
    }
    assert_eq!(tlv(&RSRP, "C1 08 07"), []);
    assert_eq!(tlv(&INSTANCE, "80 02"), []);
}

#[test]
fn tlv_steps_over_what_does_not_matter() {
    // bearer, available bearers, addresses, a resource of 16-bit number, then the signal
    let answer = "C1 00 07  86 01 41 00 07 41 01 06  88 04 0B 48 00 08 31302E302E302E31
                  E1 1234 01  C1 02 A1";
    let values = tlv(&INSTANCE, &answer.replace('\n', ""));
    assert!(values.contains(&(0, Some(7))));
    assert!(values.contains(&(1, Some(7))));
    assert_eq!(values.last(), Some(&(2, Some(-95))));
}

#[test]
fn tlv_cut_off_is_refused() {
    for hex in [
        "C1",
        "C1 02",
        "C4 08 010203",
        "E1 00",
        "C8 02",
        "D0 02 00",
        "D8 02 0000",
        "C8 02 FF A1",
        "08 00 02 C1 02",
        "82 02 41 00",
        "85 02 41 00 A1 41 01",
        "C1 02 A1 C1",
    ] {
        assert!(
            matches!(
                decode(Some(format::TLV), &INSTANCE, &bytes(hex)),
                Err(ContentError::Malformed { format: "TLV", .. })
            ),
            "{hex}"
        );
    }
}

#[test]
fn text_reads_a_single_resource() {
    for format in [None, Some(0)] {
        assert_eq!(integers(format, &RSRP, b"-95"), [(2, Some(-95))]);
        assert_eq!(integers(format, &RSRP, b"-95.3\n"), [(2, Some(-95))]);
        assert_eq!(integers(format, &RSRP, b""), [(2, None)]);
        assert!(decode(format, &RSRP, b"\xff\xfe").is_err());
        assert!(decode(format, &INSTANCE, b"-95").is_err());
    }
}

#[test]
fn an_answer_without_format_is_read_by_its_form() {
    for format in [None, Some(0)] {
        assert_eq!(integers(format, &RSRP, &bytes("C102A1")), [(2, Some(-95))]);
        assert_eq!(
            integers(format, &RSRP, br#"[{"n":"/4/0/2","v":-95}]"#),
            [(2, Some(-95))]
        );
        assert_eq!(
            integers(format, &INSTANCE, br#"[{"bn":"/4/0/","n":"2","v":-95}]"#),
            [(2, Some(-95))]
        );
    }
}

#[test]
fn senml_json_joins_base_and_name() {
    let expected = [(2, Some(-95)), (8, Some(17)), (11, Some(-3))];
    for payload in [
        r#"[{"bn":"/4/0/","bt":1700000000,"n":"2","v":-95},{"n":"8","v":17},{"n":"11","v":-3.2}]"#,
        r#"[{"n":"/4/0/2","v":-95},{"n":"/4/0/8","v":17},{"n":"/4/0/11","v":-3}]"#,
        r#"[{"bn":"/4/0"},{"n":"/2","v":-95},{"n":"/8","vs":"17"},{"n":"/11","v":-3}]"#,
        r#"[{"bn":"/4/","n":"0/2","v":-95.0},{"n":"0/8","v":17},{"n":"0/11","v":-3}]"#,
        r#"[{"bn":"/4/0/","bv":-100,"n":"2","v":5},{"bv":0,"n":"8","v":17},{"n":"11","v":-3}]"#,
        r#"[{"n":"2","v":-95},{"n":"8","v":17},{"n":"11","v":-3}]"#,
        r#"[{"bn":"/4/0/","bver":10,"n":"2","v":-95,"u":"dBm","x":{"y":[1]}},{"n":"8","v":17},{"n":"11","v":-3}]"#,
    ] {
        assert_eq!(
            integers(Some(format::SENML_JSON), &INSTANCE, payload.as_bytes()),
            expected,
            "{payload}"
        );
    }
}

#[test]
fn senml_json_takes_what_was_asked_for() {
    let payload = br#"[{"bn":"/4/1/","n":"2","v":-80},{"bn":"/3/0/","n":"2","v":1},
        {"bn":"/4/0/","n":"2","v":-95},{"n":"2","v":-96},{"n":"8/0","v":17},{"n":"8/1","v":18},{"n":"x","v":1}]"#;
    let format = Some(format::SENML_JSON);
    assert_eq!(
        integers(format, &INSTANCE, payload),
        [(2, Some(-95)), (8, Some(17))]
    );
    assert_eq!(integers(format, &RSRP, payload), [(2, Some(-95))]);
    assert_eq!(
        integers(format, &ResourcePath::of_object(4), payload),
        [(2, Some(-80))]
    );
    assert_eq!(integers(format, &RSRP, br#"[{"v":-95}]"#), [(2, Some(-95))]);
    assert_eq!(
        integers(format, &RSRP, br#"[{"bn":"/4/0/2","v":-95}]"#),
        [(2, Some(-95))]
    );
}

#[test]
fn senml_json_knows_every_kind_of_value() {
    let payload = br#"[{"bn":"/4/0/","n":"1","v":1.5},{"n":"2","vs":"x"},{"n":"3","vb":true},
        {"n":"4","vd":"AQID"},{"n":"5","vd":"_-8"},{"n":"6","v":1e400}]"#;
    let decoded = decode(Some(format::SENML_JSON), &INSTANCE, payload);
    assert!(decoded.is_err(), "a number that no machine holds");
    let payload = String::from_utf8_lossy(payload).replace("1e400", "18446744073709551615");
    let decoded = decode(Some(format::SENML_JSON), &INSTANCE, payload.as_bytes()).unwrap();
    assert_eq!(
        decoded,
        [
            (1, Value::Float(1.5)),
            (2, Value::Text("x".into())),
            (3, Value::Bool(true)),
            (4, Value::Opaque(vec![1, 2, 3])),
            (5, Value::Opaque(vec![0xFF, 0xEF])),
            (6, Value::Float(18_446_744_073_709_551_615.0)),
        ]
    );
}

#[test]
fn senml_json_that_is_none_is_refused() {
    for payload in [
        &b""[..],
        b"{}",
        b"[1]",
        b"[{\"v\":}]",
        b"[{\"n\":2}]",
        b"[{\"vd\":\"A\"}]",
        b"[{\"vd\":\"A*==\"}]",
        b"\xff",
    ] {
        assert!(
            decode(Some(format::SENML_JSON), &RSRP, payload).is_err(),
            "{payload:?}"
        );
    }
    let nested = "[".repeat(30_000);
    assert!(decode(Some(format::SENML_JSON), &RSRP, nested.as_bytes()).is_err());
}

#[test]
fn of_a_value_told_several_times_the_newest_counts() {
    for (payload, expected) in [
        // the same date, later seconds
        (
            r#"[{"bn":"/4/0/2","bt":1700000000,"v":-95},{"t":5,"v":-96},{"t":3,"v":-97}]"#,
            -96,
        ),
        (
            r#"[{"bn":"/4/0/2","v":-95,"t":-60},{"v":-96,"t":-120}]"#,
            -95,
        ),
        (r#"[{"bn":"/4/0/2","v":-95,"t":-60},{"v":-96}]"#, -96),
        // what has no time is of now, and newer than what has a date
        (
            r#"[{"n":"/4/0/2","v":-95,"t":1700000000},{"n":"/4/0/2","v":-96}]"#,
            -96,
        ),
        (
            r#"[{"n":"/4/0/2","v":-95},{"n":"/4/0/2","v":-96,"t":1700000000}]"#,
            -95,
        ),
        // a base time holds until the next one
        (
            r#"[{"bn":"/4/0/2","bt":1700000000,"v":-95},{"bt":1700000001,"v":-96},{"t":-2,"v":-97}]"#,
            -96,
        ),
        // of equally new ones the first
        (
            r#"[{"bn":"/4/0/2","bt":1700000000,"v":-95},{"v":-96}]"#,
            -95,
        ),
        (r#"[{"bn":"/4/0/2","v":-95},{"v":-96}]"#, -95),
    ] {
        for asked in [RSRP, INSTANCE] {
            assert_eq!(
                integers(Some(format::SENML_JSON), &asked, payload.as_bytes()),
                [(2, Some(expected))],
                "{payload}"
            );
        }
    }
    // [{-2: "/4/0/2", -3: 1700000000.0, 2: -95}, {6: 1, 2: -96}, {6: -1.5, 2: -97}]
    let payload = bytes(
        "83 A3 21 66 2F342F302F32 22 FB 41D954FC40000000 02 38 5E
         A2 06 01 02 38 5F  A2 06 F9 BE00 02 38 60"
            .replace('\n', "")
            .as_str(),
    );
    let expected = [(2, Some(-96))];
    assert_eq!(
        integers(Some(format::SENML_CBOR), &RSRP, &payload),
        expected
    );
    let payload = br#"{"bn":"/4/0/","bt":1700000000,"e":[{"n":"2","v":-95,"t":-5},{"n":"2","v":-96},{"n":"2","v":-97,"t":-9}]}"#;
    assert_eq!(integers(Some(format::JSON), &RSRP, payload), expected);
}

#[test]
fn json_of_the_first_version_is_read() {
    let expected = [(2, Some(-95)), (8, Some(17)), (11, Some(-3))];
    for payload in [
        r#"{"bn":"/4/0/","e":[{"n":"2","v":-95},{"n":"8","v":17},{"n":"11","v":-3.2}]}"#,
        r#"{"e":[{"n":"2","v":-95},{"n":"8","sv":"17"},{"n":"11","v":-3}]}"#,
        r#"{"bn":"/4","e":[{"n":"/0/2","v":-95},{"n":"/0/8","v":17},{"n":"/0/11","v":-3}]}"#,
        r#"{"bn":"/4/0/","bt":25462634,"e":[{"n":"2","v":-95,"t":-5},{"n":"8","v":17},{"n":"11","v":-3}],"bver":1}"#,
    ] {
        for content_format in [Some(11_543), Some(1_543), Some(0), None] {
            assert_eq!(
                integers(content_format, &INSTANCE, payload.as_bytes()),
                expected,
                "{payload}"
            );
        }
    }
    let payload = br#"{"bn":"/4/0/","e":[{"n":"1","v":1.5},{"n":"2","sv":"x"},{"n":"3","bv":true},
        {"n":"4","ov":"10:03"},{"n":"8/0","v":17},{"n":"8/1","v":18}]}"#;
    assert_eq!(
        decode(Some(format::JSON), &INSTANCE, payload).unwrap(),
        [
            (1, Value::Float(1.5)),
            (2, Value::Text("x".into())),
            (3, Value::Bool(true)),
            (8, Value::Integer(17)),
        ]
    );
    let one = br#"{"bn":"/4/0/2","e":[{"n":"","v":-95}]}"#;
    assert_eq!(integers(Some(format::JSON), &RSRP, one), [(2, Some(-95))]);
    assert_eq!(integers(Some(format::JSON), &RSRP, b"{}"), []);
    for payload in [
        &b""[..],
        b"[]",
        b"{",
        b"1",
        b"{\"e\":{}}",
        b"{\"e\":[1]}",
        b"\xff",
    ] {
        assert!(
            decode(Some(format::JSON), &RSRP, payload).is_err(),
            "{payload:?}"
        );
    }
}

#[test]
fn plain_cbor_is_the_one_resource_that_was_asked_for() {
    for (hex, expected) in [
        ("38 5E", Some(-95)),
        ("F9 D5F8", Some(-96)), // -95.5
        ("63 2D3935", Some(-95)),
        ("C1 1A 6553F100", Some(1_700_000_000)),
        ("F4", None),
    ] {
        let read = integers(Some(format::CBOR), &RSRP, &bytes(hex));
        assert_eq!(read, [(2, expected)], "{hex}");
    }
    for hex in ["", "38", "38 5E 00", "F6", "80", "A0", "FF"] {
        assert!(
            matches!(
                decode(Some(format::CBOR), &RSRP, &bytes(hex)),
                Err(ContentError::Malformed { format: "CBOR", .. })
            ),
            "{hex}"
        );
    }
    assert_eq!(
        decode(Some(format::CBOR), &INSTANCE, &bytes("38 5E")),
        Err(ContentError::SingleValue(INSTANCE))
    );
}

#[test]
fn senml_cbor_reads_labels() {
    // [{-2: "/4/0/", -3: 1700000000, 0: "2", 2: -95}, {0: "8", 2: 17}, {0: "11", 2: -3.0 (half)}]
    let definite = "83 A4 21 65 2F342F302F 22 1A 6553F100 00 61 32 02 38 5E
                    A2 00 61 38 02 11  A2 00 62 3131 02 F9 C200";
    // the same, with lists and maps whose end is marked, a text label, and numbers of 32 and 64 bits
    let marked = "9F BF 21 65 2F342F302F 00 61 32 02 FA C2BE0000 FF
                  BF 00 61 38 61 78 82 01 02 02 1B 0000000000000011 FF
                  BF 00 62 3131 02 FB C008000000000000 FF FF";
    for hex in [definite, marked] {
        let payload = bytes(&hex.replace('\n', ""));
        assert_eq!(
            integers(Some(format::SENML_CBOR), &INSTANCE, &payload),
            [(2, Some(-95)), (8, Some(17)), (11, Some(-3))],
            "{hex}"
        );
    }
}

#[test]
fn senml_cbor_knows_every_kind_of_value() {
    // [{-2: "/4/0/", 0: "1", 3: "x"}, {0: "2", 4: true}, {0: "3", 8: h'0102'}, {0: "4", 2: 2^64-1}]
    let payload = bytes(
        "84 A3 21 65 2F342F302F 00 61 31 03 61 78  A2 00 61 32 04 F5  A2 00 61 33 08 42 0102
         A2 00 61 34 02 1B FFFFFFFFFFFFFFFF"
            .replace('\n', "")
            .as_str(),
    );
    assert_eq!(
        decode(Some(format::SENML_CBOR), &INSTANCE, &payload).unwrap(),
        [
            (1, Value::Text("x".into())),
            (2, Value::Bool(true)),
            (3, Value::Opaque(vec![1, 2])),
            (4, Value::Float(18_446_744_073_709_551_615.0)),
        ]
    );
}

#[test]
fn senml_cbor_cut_off_or_lying_is_refused() {
    let whole = bytes("81 A3 21 65 2F342F302F 00 61 32 02 38 5E");
    for end in 0..whole.len() {
        assert!(
            decode(Some(format::SENML_CBOR), &INSTANCE, &whole[..end]).is_err(),
            "{end}"
        );
    }
    for hex in [
        "9B FFFFFFFFFFFFFFFF",
        "81 BB FFFFFFFFFFFFFFFF",
        "9F",
        "81 01",
        "A0",
        "FF",
    ] {
        assert!(
            decode(Some(format::SENML_CBOR), &INSTANCE, &bytes(hex)).is_err(),
            "{hex}"
        );
    }
}

#[test]
fn senml_cbor_nested_deeply_is_stepped_over_without_depth() {
    let lists = [&[0x81, 0xA1, 0x18, 0x63][..], &vec![0x81; 60_000], &[0x01]].concat();
    assert_eq!(integers(Some(format::SENML_CBOR), &INSTANCE, &lists), []);
    let tags = [&[0x81, 0xA1, 0x02][..], &vec![0xC1; 60_000], &[0x01]].concat();
    assert_eq!(integers(Some(format::SENML_CBOR), &INSTANCE, &tags), []);
}

#[test]
fn lwm2m_cbor_reads_paths_in_levels_or_in_one() {
    let expected = [(2, Some(-95)), (8, Some(17))];
    for hex in [
        "A1 04 A1 00 A2 02 38 5E 08 11",
        "BF 04 BF 00 BF 02 38 5E 08 11 FF FF FF",
        "A2 83 04 00 02 38 5E 83 04 00 08 11",
        "A1 82 04 00 A2 02 38 5E 08 A1 00 11",
        "A1 9F 04 00 FF A2 02 38 5E 08 11",
        "A2 83 03 00 02 01 82 04 00 A2 02 38 5E 08 11",
    ] {
        assert_eq!(
            integers(Some(format::LWM2M_CBOR), &INSTANCE, &bytes(hex)),
            expected,
            "{hex}"
        );
    }
    for hex in [
        "",
        "80",
        "A1",
        "A1 04",
        "A1 80 01",
        "A1 85 01 01 01 01 01 01",
        "A1 61 32 01",
    ] {
        assert!(
            decode(Some(format::LWM2M_CBOR), &INSTANCE, &bytes(hex)).is_err(),
            "{hex}"
        );
    }
    let deep = [0xA1, 0x04].repeat(30_000);
    assert!(decode(Some(format::LWM2M_CBOR), &INSTANCE, &deep).is_err());
    let deep = [&[0xA1, 0x04][..], &vec![0x81; 60_000]].concat();
    assert!(decode(Some(format::LWM2M_CBOR), &INSTANCE, &deep).is_err());
}

#[test]
fn bytes_are_the_one_resource_that_was_asked_for() {
    assert_eq!(
        decode(Some(format::OPAQUE), &ResourcePath::UPLINK, &[1, 2]),
        Ok(vec![(0, Value::Opaque(vec![1, 2]))])
    );
    assert_eq!(
        decode(Some(format::OPAQUE), &INSTANCE, &[1, 2]),
        Err(ContentError::SingleValue(INSTANCE))
    );
}

#[test]
fn other_formats_and_sizes_are_refused() {
    assert_eq!(
        decode(Some(50), &INSTANCE, b"{}"),
        Err(ContentError::Format(50))
    );
    assert_eq!(
        decode(None, &INSTANCE, &vec![0; MAX_PAYLOAD + 1]),
        Err(ContentError::TooLong(MAX_PAYLOAD + 1))
    );
    let many: Vec<u8> = (0..=256u16)
        .flat_map(|id| [vec![0xE1], id.to_be_bytes().to_vec(), vec![1]].concat())
        .collect();
    assert_eq!(
        decode(Some(format::TLV), &INSTANCE, &many),
        Err(ContentError::TooManyValues)
    );
}

const FORMATS: [Option<u16>; 12] = [
    None,
    Some(0),
    Some(42),
    Some(60),
    Some(110),
    Some(112),
    Some(1542),
    Some(1543),
    Some(11_542),
    Some(11_543),
    Some(11_544),
    Some(9),
];

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        format in prop::sample::select(&FORMATS[..]),
        asked in prop::sample::select(vec![INSTANCE, RSRP, ResourcePath::of_object(4)]),
        payload in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        if let Ok(values) = decode(format, &asked, &payload) {
            for (_, value) in values {
                let _ = (value.as_integer(), value.as_unsigned());
            }
        }
    }

    #[test]
    fn a_number_survives_each_format(value in -200i64..200) {
        let one = u8::try_from(value.rem_euclid(256)).unwrap();
        let tlv: Vec<u8> = if (-128..128).contains(&value) {
            vec![0xC1, 2, one]
        } else {
            [&[0xC2, 2][..], &i16::try_from(value).unwrap().to_be_bytes()].concat()
        };
        let mut cbor = minicbor::Encoder::new(Vec::new());
        cbor.array(1).unwrap().map(2).unwrap().i8(0).unwrap().str("/4/0/2").unwrap();
        cbor.i8(2).unwrap().i64(value).unwrap();
        for (format, payload) in [
            (0, value.to_string().into_bytes()),
            (11_542, tlv),
            (110, format!(r#"[{{"n":"/4/0/2","v":{value}}}]"#).into_bytes()),
            (112, cbor.into_writer()),
        ] {
            prop_assert_eq!(integers(Some(format), &RSRP, &payload), vec![(2, Some(value))]);
        }
    }
}
